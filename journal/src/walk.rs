//! Reads the frames of one segment in order and finds the next valid one where some are wrong.
//!
//! The work is linear in the file's length: a search compares four bytes at each place, and a frame whose head is valid is
//! stepped over whole, whatever its payload.

use std::io;
use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::frame::{HEAD_BYTES, Head, u32_at};
use crate::segment::{self, HEADER_BYTES, Header};
use crate::storage::SegmentFile;

/// How much is read from a file at a time.
const CHUNK_BYTES: usize = 1 << 20;
/// The size of a tag.
const TAG_BYTES: usize = 4;

/// What stands next in a segment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A record.
    Frame { offset: u64, payload: Bytes, byte: u64 },
    /// Records that cannot be read, up to `next`.
    Lost { first: u64, next: u64, byte: u64, reason: String },
    /// Only where the end is not known: nothing valid follows this place.
    Torn { byte: u64, reason: String },
    /// Nothing more.
    End,
}

/// A place in a segment from which its frames are read.
#[derive(Debug)]
pub(crate) struct Walk {
    file: Arc<dyn SegmentFile>,
    tag: Option<u32>,
    /// How much of the file counts.
    length: u64,
    /// The offset at which the segment ends: where the next one begins, or the last durable record was. `None` while that is sought.
    end: Option<u64>,
    byte: u64,
    next: u64,
    chunk: Bytes,
    chunk_at: u64,
}

/// What is at a place.
enum Found {
    Whole(Head, Bytes),
    /// The head is valid, the payload is not: where the next frame begins.
    BadPayload(u64),
    Nothing(&'static str),
}

impl Walk {
    /// Begins at the first frame of a segment that begins with offset `base`.
    pub(crate) fn begin(file: Arc<dyn SegmentFile>, base: u64, length: u64, end: Option<u64>) -> io::Result<Self> {
        let mut walk = Self { file, tag: None, length, end, byte: HEADER_BYTES, next: base, chunk: Bytes::new(), chunk_at: 0 };
        walk.tag = match walk.header()? {
            Header::Known { tag, .. } => Some(tag),
            // The first frame has the tag, too, and its checksums say whether it is that.
            _ => walk.first_tag()?,
        };
        Ok(walk)
    }

    /// Goes on at the frame of another offset.
    pub(crate) fn seek(&mut self, byte: u64, next: u64) {
        (self.byte, self.next) = (byte, next);
    }

    /// The segment has grown, or was followed by another.
    pub(crate) fn extend(&mut self, length: u64, end: u64) {
        (self.length, self.end) = (length, Some(end));
    }

    /// The segment's header.
    pub(crate) fn header(&mut self) -> io::Result<Header> {
        Ok(self.bytes(0, HEADER_BYTES as usize)?.map_or(Header::Unreadable, |bytes| segment::parse(&bytes)))
    }

    /// The tag of the segment's frames, where it could be found.
    pub(crate) fn tag(&self) -> Option<u32> {
        self.tag
    }

    /// The byte and the offset of what stands next.
    pub(crate) fn place(&self) -> (u64, u64) {
        (self.byte, self.next)
    }

    /// The offset that is expected next.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Reads what stands next and goes behind it.
    pub(crate) fn step(&mut self) -> io::Result<Step> {
        loop {
            let at_end = self.end.map_or(self.byte == self.length, |end| self.next >= end);
            if at_end {
                return Ok(Step::End);
            }
            let (byte, first) = (self.byte, self.next);
            let (resume, reason) = match self.frame(byte)? {
                Found::Whole(head, payload) if head.offset == first => {
                    self.seek(byte + head.frame_bytes(), first + 1);
                    return Ok(Step::Frame { offset: first, payload, byte });
                }
                Found::Whole(head, _) if self.range().contains(&head.offset) => (byte, "records are missing before this one"),
                Found::Whole(head, _) => (byte + head.frame_bytes(), "the record here belongs elsewhere"),
                Found::BadPayload(next) => (next, "the checksum of the record is wrong"),
                Found::Nothing(reason) => (byte + 1, reason),
            };
            let reason = reason.to_owned();
            match (self.search(resume)?, self.end) {
                (Some((at, offset)), _) => {
                    self.seek(at, offset);
                    if offset > first {
                        return Ok(Step::Lost { first, next: offset, byte, reason });
                    }
                }
                (None, Some(end)) => {
                    self.seek(self.length, end);
                    return Ok(Step::Lost { first, next: end, byte, reason });
                }
                (None, None) => return Ok(Step::Torn { byte, reason }),
            }
        }
    }

    /// The offsets that a frame further on may have.
    fn range(&self) -> RangeInclusive<u64> {
        self.next..=self.end.map_or(u64::MAX, |end| end - 1)
    }

    /// The place and offset of the first whole frame at or behind a place.
    fn search(&mut self, from: u64) -> io::Result<Option<(u64, u64)>> {
        let mut at = from;
        while let Some(place) = self.find_tag(at)? {
            at = match self.frame(place)? {
                Found::Whole(head, _) if self.range().contains(&head.offset) => return Ok(Some((place, head.offset))),
                Found::Whole(head, _) => place + head.frame_bytes(),
                Found::BadPayload(next) => next,
                Found::Nothing(_) => place + 1,
            };
        }
        Ok(None)
    }

    fn find_tag(&mut self, from: u64) -> io::Result<Option<u64>> {
        let Some(tag) = self.tag.map(u32::to_le_bytes) else { return Ok(None) };
        let mut at = from;
        loop {
            let left = self.length.saturating_sub(at).min(CHUNK_BYTES as u64) as usize;
            if left < TAG_BYTES {
                return Ok(None);
            }
            let Some(bytes) = self.bytes(at, left)? else { return Ok(None) };
            if let Some(place) = bytes.windows(TAG_BYTES).position(|window| window == tag) {
                return Ok(Some(at + place as u64));
            }
            at += (left - TAG_BYTES + 1) as u64;
        }
    }

    fn frame(&mut self, at: u64) -> io::Result<Found> {
        let Some(tag) = self.tag else { return Ok(Found::Nothing("the header of the segment and its first record are damaged")) };
        let Some(bytes) = self.bytes(at, HEAD_BYTES)? else { return Ok(Found::Nothing("the file ends here")) };
        let Some(head) = Head::parse(&bytes, tag) else { return Ok(Found::Nothing("there is no record here")) };
        let Some(payload) = self.bytes(at + HEAD_BYTES as u64, head.length as usize)? else { return Ok(Found::Nothing("the file ends within the record")) };
        if crc32fast::hash(&payload) != head.payload_crc {
            return Ok(Found::BadPayload(at + head.frame_bytes()));
        }
        Ok(Found::Whole(head, payload))
    }

    fn first_tag(&mut self) -> io::Result<Option<u32>> {
        self.tag = self.bytes(HEADER_BYTES, HEAD_BYTES)?.and_then(|bytes| u32_at(&bytes, 0));
        let base = self.next;
        Ok(match self.frame(HEADER_BYTES)? {
            Found::Whole(head, _) if head.offset == base => self.tag,
            _ => None,
        })
    }

    /// Bytes of the file; `None` where it is shorter.
    fn bytes(&mut self, at: u64, count: usize) -> io::Result<Option<Bytes>> {
        if self.length.saturating_sub(at) < count as u64 {
            return Ok(None);
        }
        let chunk_end = self.chunk_at + self.chunk.len() as u64;
        if at < self.chunk_at || at + count as u64 > chunk_end {
            self.chunk = self.load(at, count.max(CHUNK_BYTES).min((self.length - at) as usize))?;
            self.chunk_at = at;
        }
        let from = (at - self.chunk_at) as usize;
        Ok((self.chunk.len() >= from + count).then(|| self.chunk.slice(from..from + count)))
    }

    fn load(&self, at: u64, count: usize) -> io::Result<Bytes> {
        let mut out = BytesMut::zeroed(count);
        let mut filled = 0;
        while filled < count {
            match self.file.read_at(at + filled as u64, &mut out[filled..])? {
                0 => break,
                read => filled += read,
            }
        }
        out.truncate(filled);
        Ok(out.freeze())
    }
}
