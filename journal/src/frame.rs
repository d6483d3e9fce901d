//! The frame of one record: what stands before its payload.

use weir_protocol::limits::RECORD_BYTES_MAX;

/// The bytes before a payload.
pub(crate) const HEAD_BYTES: usize = 24;
/// Where the head's own checksum is.
const CRC_AT: usize = 20;

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) length: u32,
    pub(crate) offset: u64,
    pub(crate) payload_crc: u32,
}

impl Head {
    /// Appends the head's bytes.
    pub(crate) fn write(&self, tag: u32, out: &mut Vec<u8>) {
        let begin = out.len();
        out.extend_from_slice(&tag.to_le_bytes());
        out.extend_from_slice(&self.length.to_le_bytes());
        out.extend_from_slice(&self.offset.to_le_bytes());
        out.extend_from_slice(&self.payload_crc.to_le_bytes());
        let crc = crc32fast::hash(&out[begin..]);
        out.extend_from_slice(&crc.to_le_bytes());
    }

    /// Reads a head; `None` where the bytes are none of this segment.
    pub(crate) fn parse(bytes: &[u8], tag: u32) -> Option<Self> {
        let bytes: &[u8; HEAD_BYTES] = bytes.first_chunk()?;
        if u32_at(bytes, 0)? != tag || crc32fast::hash(&bytes[..CRC_AT]) != u32_at(bytes, CRC_AT)? {
            return None;
        }
        let length = u32_at(bytes, 4)?;
        let offset = u64::from(u32_at(bytes, 8)?) | u64::from(u32_at(bytes, 12)?) << 32;
        (length as usize <= RECORD_BYTES_MAX).then_some(Self { length, offset, payload_crc: u32_at(bytes, 16)? })
    }

    /// Head and payload together.
    pub(crate) fn frame_bytes(&self) -> u64 {
        HEAD_BYTES as u64 + u64::from(self.length)
    }
}

/// The little-endian number at a place.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|chunk| u32::from_le_bytes(*chunk))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_back_and_every_wrong_bit_is_seen() {
        let head = Head { length: 77, offset: 1 << 40, payload_crc: 0xdead_beef };
        let mut bytes = Vec::new();
        head.write(0x1234_5678, &mut bytes);
        assert_eq!(bytes.len(), HEAD_BYTES);
        assert_eq!(Head::parse(&bytes, 0x1234_5678), Some(head));
        assert_eq!(Head::parse(&bytes, 0x1234_5679), None, "another segment's");
        assert_eq!(Head::parse(&bytes[..HEAD_BYTES - 1], 0x1234_5678), None, "short");
        for bit in 0..HEAD_BYTES * 8 {
            let mut wrong = bytes.clone();
            wrong[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Head::parse(&wrong, 0x1234_5678), None, "bit {bit}");
        }
    }

    #[test]
    fn a_length_past_the_bound_is_no_head() {
        let mut bytes = Vec::new();
        Head { length: RECORD_BYTES_MAX as u32 + 1, offset: 0, payload_crc: 0 }.write(1, &mut bytes);
        assert_eq!(Head::parse(&bytes, 1), None);
    }
}
