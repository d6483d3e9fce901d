//! A segment file's name and header.

use std::hash::{BuildHasher, Hasher, RandomState};

use crate::frame::u32_at;

/// The format that this version writes, and the newest that it reads.
pub(crate) const FORMAT: u32 = 1;
/// The bytes before the first frame.
pub(crate) const HEADER_BYTES: u64 = 32;
/// The first eight bytes of every segment, whatever its format.
const MAGIC: &[u8; 8] = b"WEIRSEG\n";
/// Magic and version; their checksum follows. Later formats keep this much.
const PREFIX_BYTES: usize = 12;
/// Where the checksum of the whole header is.
const CRC_AT: usize = 28;

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Header {
    /// A segment of this format.
    Known { base: u64, tag: u32 },
    /// A segment of a later format.
    Newer(u32),
    /// No header, or a damaged one.
    Unreadable,
}

/// The name of the segment whose first record has this offset.
pub(crate) fn name(base: u64) -> String {
    format!("{base:020}.seg")
}

/// The first offset of a segment of this name; `None` for a file that is no segment.
pub(crate) fn base(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg")?;
    let all_digits = digits.len() == 20 && digits.bytes().all(|c| c.is_ascii_digit());
    all_digits.then(|| digits.parse().ok()).flatten()
}

/// A number that nobody outside can know.
pub(crate) fn new_tag() -> u32 {
    // The keys of the standard hasher are random bytes of the operating system.
    RandomState::new().build_hasher().finish() as u32
}

/// The bytes of a header.
pub(crate) fn header(base: u64, tag: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_BYTES as usize);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&FORMAT.to_le_bytes());
    out.extend_from_slice(&crc32fast::hash(&out).to_le_bytes());
    out.extend_from_slice(&base.to_le_bytes());
    out.extend_from_slice(&tag.to_le_bytes());
    out.extend_from_slice(&crc32fast::hash(&out).to_le_bytes());
    out
}

/// Reads a header.
pub(crate) fn parse(bytes: &[u8]) -> Header {
    parse_whole(bytes).unwrap_or(Header::Unreadable)
}

fn parse_whole(bytes: &[u8]) -> Option<Header> {
    if !bytes.starts_with(MAGIC) || crc32fast::hash(&bytes[..PREFIX_BYTES.min(bytes.len())]) != u32_at(bytes, PREFIX_BYTES)? {
        return None;
    }
    let format = u32_at(bytes, 8)?;
    if format > FORMAT {
        return Some(Header::Newer(format));
    }
    if crc32fast::hash(bytes.get(..CRC_AT)?) != u32_at(bytes, CRC_AT)? {
        return None;
    }
    let base = u64::from(u32_at(bytes, 16)?) | u64::from(u32_at(bytes, 20)?) << 32;
    Some(Header::Known { base, tag: u32_at(bytes, 24)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_as_their_offsets_and_others_are_no_segments() {
        let check = |text: &str, expected: Option<u64>| assert_eq!(base(text), expected, "{text}");
        check(&name(0), Some(0));
        check(&name(u64::MAX), Some(u64::MAX));
        check("00000000000000000007.seg", Some(7));
        check("7.seg", None);
        check("+0000000000000000007.seg", None);
        check("99999999999999999999.seg", None);
        check("00000000000000000007.seg.new", None);
        assert!(name(9) < name(10));
    }

    #[test]
    fn headers_are_read_back_and_damage_is_seen() {
        let bytes = header(1 << 33, 42);
        assert_eq!(bytes.len() as u64, HEADER_BYTES);
        assert_eq!(parse(&bytes), Header::Known { base: 1 << 33, tag: 42 });
        for bit in 0..bytes.len() * 8 {
            let mut wrong = bytes.clone();
            wrong[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(parse(&wrong), Header::Unreadable, "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert_eq!(parse(&bytes[..length]), Header::Unreadable, "{length} bytes");
        }
    }

    #[test]
    fn a_later_format_is_known_by_its_first_bytes_alone() {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&9u32.to_le_bytes());
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        assert_eq!(parse(&bytes), Header::Newer(9));
    }
}
