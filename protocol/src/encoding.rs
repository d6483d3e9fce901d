//! Content encodings: bounded decompression, the same for a request body and for a body that comes back from the journal.

use std::cell::RefCell;
use std::io::Read;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// Not at all.
    #[default]
    Identity,
    /// gzip (RFC 1952), concatenated members included.
    Gzip,
    /// zlib (RFC 1950), which HTTP calls `deflate`.
    Deflate,
    /// Brotli.
    Br,
    /// Zstandard.
    Zstd,
}

/// Why a body could not be decompressed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// More than the bound came out; reading stopped there.
    #[error("the body has more than {0} bytes after decompression")]
    TooLarge(usize),
    /// The bytes are not what the encoding says, or end early.
    #[error("the body is not valid {0}")]
    Malformed(&'static str),
}

impl Encoding {
    /// The encoding that a `Content-Encoding` header names. An empty value counts as none; `None` for an unknown name.
    pub fn from_header(value: &str) -> Option<Self> {
        match value.trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Some(Self::Identity),
            "gzip" | "x-gzip" => Some(Self::Gzip),
            "deflate" => Some(Self::Deflate),
            "br" => Some(Self::Br),
            "zstd" => Some(Self::Zstd),
            _ => None,
        }
    }

    /// The name, as in the header.
    pub fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Br => "br",
            Self::Zstd => "zstd",
        }
    }

    /// Decompresses a whole body; never more than `bytes_max` bytes come out.
    pub fn decode(self, body: &Bytes, bytes_max: usize) -> Result<Bytes, DecodeError> {
        match self {
            Self::Identity if body.len() > bytes_max => Err(DecodeError::TooLarge(bytes_max)),
            Self::Identity => Ok(body.clone()),
            Self::Gzip => gunzip_whole(body, bytes_max).map_or_else(|| self.decode_stream(body, bytes_max), Ok),
            Self::Deflate | Self::Br | Self::Zstd => self.decode_stream(body, bytes_max),
        }
    }

    /// Decompresses piece by piece. What grows large is measured before there is memory for it: a small body that stands for a
    /// large one costs time, once more, but never the memory that it asks for.
    fn decode_stream(self, body: &[u8], bytes_max: usize) -> Result<Bytes, DecodeError> {
        let malformed = |_| DecodeError::Malformed(self.name());
        let at_once = bytes_max.min(UNMEASURED_BYTES_MAX);
        let mut out = Vec::with_capacity(body.len().saturating_mul(4).min(at_once).min(1 << 20));
        // One byte past the bound tells a body that fills it from one that exceeds it.
        self.reader(body)?.take(at_once as u64 + 1).read_to_end(&mut out).map_err(malformed)?;
        if out.len() <= at_once {
            return Ok(out.into());
        }
        drop(out);
        let size = std::io::copy(&mut self.reader(body)?.take(bytes_max as u64 + 1), &mut std::io::sink()).map_err(malformed)?;
        if size > bytes_max as u64 {
            return Err(DecodeError::TooLarge(bytes_max));
        }
        let mut out = Vec::with_capacity(size as usize);
        self.reader(body)?.take(size).read_to_end(&mut out).map_err(malformed)?;
        Ok(out.into())
    }

    fn reader(self, body: &[u8]) -> Result<Box<dyn Read + '_>, DecodeError> {
        Ok(match self {
            Self::Identity => Box::new(body),
            Self::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(body)),
            Self::Deflate => Box::new(flate2::bufread::ZlibDecoder::new(body)),
            Self::Br => Box::new(brotli::Decompressor::new(body, 16 << 10)),
            Self::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(body).map_err(|_| DecodeError::Malformed(self.name()))?),
        })
    }
}

/// A body that comes out larger is measured before it is kept.
const UNMEASURED_BYTES_MAX: usize = 16 << 20;

thread_local! {
    static GUNZIP: RefCell<libdeflater::Decompressor> = RefCell::new(libdeflater::Decompressor::new());
}

/// The header and the trailer of a gzip member.
const GZIP_FRAME_BYTES: usize = 18;
/// Deflate makes no more than this out of a byte, so that a trailer which says more lies.
const DEFLATE_RATIO_MAX: usize = 1032;

/// Decompresses a body that is one gzip member, into a buffer of the size that its trailer states. `None` for anything else, which
/// may still be gzip: several members, a size past the bound, or an error that the stream names.
fn gunzip_whole(body: &[u8], bytes_max: usize) -> Option<Bytes> {
    const MAGIC: [u8; 3] = [0x1f, 0x8b, 8];
    if body.len() < GZIP_FRAME_BYTES || !body.starts_with(&MAGIC) {
        return None;
    }
    let size = u32::from_le_bytes(*body.last_chunk()?) as usize;
    if size > bytes_max || size / DEFLATE_RATIO_MAX > body.len() {
        return None;
    }
    // Only the first of several members would be read. Where the bytes of a beginning turn up by chance, the stream finds out.
    if memchr::memmem::find(&body[MAGIC.len()..], &MAGIC).is_some() {
        return None;
    }
    let mut plain = vec![0; size];
    let written = GUNZIP.with_borrow_mut(|gunzip| gunzip.gzip_decompress(body, &mut plain)).ok()?;
    (written == size).then(|| plain.into())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn encoded(encoding: Encoding, plain: &[u8]) -> Bytes {
        match encoding {
            Encoding::Identity => plain.to_vec(),
            Encoding::Gzip => {
                let mut w = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
                w.write_all(plain).unwrap();
                w.finish().unwrap()
            }
            Encoding::Deflate => {
                let mut w = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
                w.write_all(plain).unwrap();
                w.finish().unwrap()
            }
            Encoding::Br => {
                let mut out = Vec::new();
                brotli::CompressorWriter::new(&mut out, 4096, 5, 22).write_all(plain).unwrap();
                out
            }
            Encoding::Zstd => zstd::stream::encode_all(plain, 1).unwrap(),
        }
        .into()
    }

    #[test]
    fn every_encoding_is_undone_bounded_and_checked() {
        let plain = b"a line of text\n".repeat(1000);
        for encoding in [Encoding::Identity, Encoding::Gzip, Encoding::Deflate, Encoding::Br, Encoding::Zstd] {
            let body = encoded(encoding, &plain);
            assert_eq!(encoding.decode(&body, plain.len()).unwrap(), plain, "{encoding:?}");
            assert_eq!(encoding.decode(&body, plain.len() - 1), Err(DecodeError::TooLarge(plain.len() - 1)), "{encoding:?}");
            if encoding != Encoding::Identity {
                assert_eq!(encoding.decode(&body.slice(..body.len() - 5), plain.len()), Err(DecodeError::Malformed(encoding.name())), "{encoding:?} cut");
                assert_eq!(encoding.decode(&Bytes::from_static(b"{}\n{}"), 100), Err(DecodeError::Malformed(encoding.name())), "{encoding:?} wrong");
            }
        }
    }

    #[test]
    fn large_bodies_are_measured_first() {
        let plain = vec![b' '; UNMEASURED_BYTES_MAX + 5];
        for encoding in [Encoding::Gzip, Encoding::Deflate, Encoding::Br, Encoding::Zstd] {
            let body = encoded(encoding, &plain);
            assert_eq!(encoding.decode_stream(&body, plain.len()).unwrap(), plain, "{encoding:?}");
            assert_eq!(encoding.decode_stream(&body, plain.len() - 1), Err(DecodeError::TooLarge(plain.len() - 1)), "{encoding:?}");
        }
    }

    #[test]
    fn gzip_of_any_frame_is_the_same_whole_and_as_a_stream() {
        let plain = b"a line of text\n".repeat(1000);
        let member = encoded(Encoding::Gzip, &plain);
        let joined = |parts: &[&[u8]]| Bytes::from(parts.concat());
        assert!(gunzip_whole(&member, plain.len()).is_some(), "one member is taken whole");
        let stream = |body: &Bytes, max| Encoding::Gzip.decode_stream(body, max);
        let mut lying = member.to_vec();
        let end = lying.len();
        lying[end - 4..].copy_from_slice(&u32::MAX.to_le_bytes());
        let mut wrong = member.to_vec();
        wrong[end - 8] ^= 1;
        for (name, body) in [
            ("one member", member.clone()),
            ("two members", joined(&[&member, &member])),
            ("bytes behind it", joined(&[&member, b"garbage"])),
            ("an empty member behind it", joined(&[&member, &encoded(Encoding::Gzip, b"")])),
            ("nothing in it", encoded(Encoding::Gzip, b"")),
            ("a size that lies", lying.into()),
            ("a wrong checksum", wrong.into()),
            ("cut", member.slice(..end - 9)),
        ] {
            for max in [plain.len() - 1, plain.len(), 3 * plain.len()] {
                assert_eq!(Encoding::Gzip.decode(&body, max), stream(&body, max), "{name}, at most {max}");
            }
        }
    }
}
