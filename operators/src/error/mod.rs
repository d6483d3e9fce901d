//! The row of an error event: title, tags and columns (`spec/grouping.md` section 4, `spec/storage-query.md` section 1).

use weir_protocol::ProjectId;

pub mod row;
pub mod tags;
pub mod title;

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "the tests read recorded input")]
mod tests;

pub use row::error_row;
pub use title::{Metadata, metadata};

/// The issue that a primary hash belongs to: 63 bits of BLAKE3 over project and hash, so the same on every machine and replay.
pub fn group_id(project_id: ProjectId, primary_hash: &[u8; 16]) -> i64 {
    hash63(project_id, b"group", primary_hash)
}

/// The hash of a user within a project: 63 bits of BLAKE3 over the project and the `user` tag.
pub fn user_hash(project_id: ProjectId, user: &str) -> i64 {
    hash63(project_id, b"user", user.as_bytes())
}

fn hash63(project_id: ProjectId, kind: &[u8], bytes: &[u8]) -> i64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(kind).update(&project_id.to_le_bytes()).update(bytes);
    let digest = hasher.finalize();
    let (first, _) = digest.as_bytes().split_first_chunk::<8>().expect("a digest has 32 bytes");
    (u64::from_le_bytes(*first) >> 1) as i64
}
