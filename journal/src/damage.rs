//! What was lost, and where.

use std::fmt;
use std::path::PathBuf;

use weir_protocol::record::Position;

/// A place where records cannot be read. They are never served; what follows them is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The first record that is lost.
    pub position: Position,
    /// The offset of the first record after it that can be read, or where the lost ones end.
    pub next_offset: u64,
    /// The segment.
    pub file: PathBuf,
    /// Where in the file the damage begins.
    pub byte: u64,
    /// What is wrong there.
    pub reason: String,
}

impl Damage {
    /// How many records are lost.
    pub fn records(&self) -> u64 {
        self.next_offset.saturating_sub(self.position.offset)
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { position, next_offset, file, byte, reason } = self;
        write!(f, "records {} to {next_offset} (the last excluded) are lost, at byte {byte} of {}: {reason}", position.offset, file.display())
    }
}

/// The end of the last segment that a crash left unfinished. It was cut off; nothing in it was acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TornTail {
    /// The segment.
    pub file: PathBuf,
    /// Its length now.
    pub byte: u64,
    /// What was cut off.
    pub bytes_dropped: u64,
}
