//! The durable log of Weir: segment files with one writer, group commit, and readers that see durable records only; or a Kafka topic.
//!
//! | module | noun |
//! |---|---|
//! | [`journal`](Journal) | the handle: append, read, truncate, close; whatever it is kept in |
//! | `kafka` | the journal as a Kafka topic |
//! | `segments` | the journal as segment files |
//! | `reader` | reads segments in order, from memory or from files |
//! | `queue`, `writer` | appends that wait, and the one thread that makes them durable |
//! | `log` | what is durable: segments, the tail in memory, damages |
//! | `open` | what a start finds: a torn tail is cut, damage is reported |
//! | `segment`, `frame`, `walk` | the bytes of a file, and how they are read when some are wrong |
//! | [`storage`] | the files beneath, replaceable where a test needs them to fail |
//! | [`telemetry`] | the metrics |
//!
//! # The files
//!
//! A segment is named by the offset of its first record, in 20 digits, and ends in `.seg`. All numbers are little-endian.
//!
//! ```text
//! header   magic "WEIRSEG\n" | version u32 | crc32 of these 12 bytes | first offset u64 | tag u32 | crc32 of these 28 bytes
//! frame    tag u32 | payload length u32 | offset u64 | crc32 of the payload | crc32 of these 20 bytes | payload
//! ```
//!
//! The tag is random and each segment has its own. Bodies come from outside: whoever does not know the tag cannot put bytes
//! into a body that would be taken for a frame where damage makes a reader look for the next one.
//!
//! # What holds
//!
//! * An append is answered with its position after the file was synced, never before.
//! * A header is synced, and the directory with it, before the first frame follows. So a last segment without a whole header
//!   holds nothing that was acknowledged.
//! * Records of a segment at or beyond the first offset of the next segment are ignored. So a segment whose sync failed is
//!   left as it is, and the next one begins at the last durable offset.
//! * Durable bytes are never written again. Files are only removed whole, from the front.

mod damage;
mod error;
mod frame;
mod journal;
mod kafka;
mod log;
mod open;
mod options;
mod queue;
mod reader;
mod segment;
mod segments;
mod status;
pub mod storage;
pub mod telemetry;
mod walk;
mod writer;

#[cfg(test)]
mod tests;

pub use damage::{Damage, Place, TornTail};
pub use error::{AppendError, JournalError};
pub use journal::{Journal, Offsets, Reader};
pub use kafka::{Identity, KafkaOptions, KafkaUrl};
pub use open::Opened;
pub use options::Options;
pub use reader::Entry;
pub use status::Status;

/// The number of the only partition that segments in a folder have.
pub(crate) const PARTITION: u16 = 0;
