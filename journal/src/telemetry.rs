//! The metrics of the journal.

/// Counter: records that were made durable.
pub const APPENDS: &str = "journal_appends_total";
/// Counter: their bytes, with frames.
pub const APPEND_BYTES: &str = "journal_append_bytes_total";
/// Counter: syncs of files and of the directory that succeeded.
pub const SYNCS: &str = "journal_syncs_total";
/// Histogram: how long the sync of a batch took, in seconds.
pub const SYNC_SECONDS: &str = "journal_sync_seconds";
/// Histogram: how many records one write and one sync made durable.
pub const BATCH_RECORDS: &str = "journal_batch_records";
/// Histogram: how long a broker took to acknowledge a record, in seconds.
pub const ACKNOWLEDGED_SECONDS: &str = "journal_acknowledged_seconds";
/// Gauge: all segments on disk together, in bytes.
pub const BYTES: &str = "journal_bytes";
/// Counter: calls to the storage that failed while writing or truncating.
pub const ERRORS: &str = "journal_errors_total";
/// Counter: records that were found to be lost.
pub const DAMAGED_RECORDS: &str = "journal_damaged_records_total";
