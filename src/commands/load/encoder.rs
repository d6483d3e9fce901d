//! Compressing bodies as SDKs do, with buffers that are used again.

use anyhow::Context;
use flate2::{Compress, Compression, FlushCompress};
use weir_protocol::encoding::Encoding;

/// The cheapest levels: what sends must not need more of the machine than what receives. They cost a few per cent of the ratio.
const DEFLATE_LEVEL: u32 = 1;
const ZSTD_LEVEL: i32 = 1;
/// Below it brotli compresses less than deflate does.
const BROTLI_QUALITY: i32 = 2;

/// A connection's compressors.
pub struct Encoder {
    raw: Compress,
    zlib: Compress,
    zstd: zstd::bulk::Compressor<'static>,
}

impl Encoder {
    /// Compressors without anything to compress yet.
    pub fn new() -> anyhow::Result<Self> {
        let level = Compression::new(DEFLATE_LEVEL);
        let zstd = zstd::bulk::Compressor::new(ZSTD_LEVEL).context("the zstd compressor")?;
        Ok(Self { raw: Compress::new(level, false), zlib: Compress::new(level, true), zstd })
    }

    /// A body in an encoding.
    pub fn encode(&mut self, encoding: Encoding, plain: &[u8]) -> anyhow::Result<Vec<u8>> {
        match encoding {
            Encoding::Identity => Ok(plain.to_vec()),
            Encoding::Gzip => gzip(&mut self.raw, plain),
            Encoding::Deflate => deflate(&mut self.zlib, plain, Vec::new()),
            Encoding::Zstd => self.zstd.compress(plain).context("compressing with zstd"),
            Encoding::Br => {
                let params = brotli::enc::BrotliEncoderParams { quality: BROTLI_QUALITY, ..Default::default() };
                let mut out = Vec::with_capacity(plain.len() / 2);
                brotli::BrotliCompress(&mut &plain[..], &mut out, &params).context("compressing with brotli")?;
                Ok(out)
            }
        }
    }
}

/// One gzip member (RFC 1952): the encoder of flate2 would clear its tables' memory anew for each body.
fn gzip(raw: &mut Compress, plain: &[u8]) -> anyhow::Result<Vec<u8>> {
    let header = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 0xff];
    let mut out = deflate(raw, plain, header.to_vec())?;
    out.extend_from_slice(&crc32fast::hash(plain).to_le_bytes());
    out.extend_from_slice(&(plain.len() as u32).to_le_bytes());
    Ok(out)
}

fn deflate(compress: &mut Compress, plain: &[u8], mut out: Vec<u8>) -> anyhow::Result<Vec<u8>> {
    compress.reset();
    // What deflate adds to bytes that cannot be compressed: five bytes a block, and the frame.
    out.reserve(plain.len() + plain.len() / 1000 + 64);
    let status = compress.compress_vec(plain, &mut out, FlushCompress::Finish).context("compressing with deflate")?;
    anyhow::ensure!(status == flate2::Status::StreamEnd, "compressing with deflate ended early");
    Ok(out)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn what_is_encoded_is_decoded_by_the_doors() {
        let mut encoder = Encoder::new().unwrap();
        // Text, nothing, and bytes that do not get smaller; each twice, since state is used again.
        let noise: Vec<u8> = (0..100_000u64).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect();
        for plain in [b"{\"event_id\":\"1\"}\n".repeat(300), Vec::new(), noise] {
            for encoding in [Encoding::Identity, Encoding::Gzip, Encoding::Deflate, Encoding::Br, Encoding::Zstd] {
                for _ in 0..2 {
                    let body = Bytes::from(encoder.encode(encoding, &plain).unwrap());
                    assert_eq!(encoding.decode(&body, 1 << 20).unwrap(), plain, "{encoding:?} of {} bytes", plain.len());
                }
            }
        }
    }
}
