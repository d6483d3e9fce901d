//! The metrics of the graph.

/// Ticks released.
pub const TICKS: &str = "graph_ticks_total";
/// Ticks that the graph has not completed, a gauge.
pub const TICKS_IN_FLIGHT: &str = "graph_ticks_in_flight";
/// Records of the journal that the graph has not completed, a gauge.
pub const LAG_RECORDS: &str = "graph_lag_records";
/// Milliseconds from the receipt of a record to the publication of its rows, a histogram.
pub const VISIBLE_MS: &str = "graph_visible_milliseconds";
/// Rows published, by table.
pub const ROWS: &str = "graph_rows_total";
/// Bytes of rows since the last commit, a gauge.
pub const HOT_BYTES: &str = "graph_hot_bytes";
/// Commits made.
pub const COMMITS: &str = "commits_total";
/// Commits that failed and were tried again.
pub const COMMIT_FAILURES: &str = "commit_failures_total";
/// Seconds that a commit took, a histogram.
pub const COMMIT_SECONDS: &str = "commit_seconds";
/// Bytes of Parquet files written.
pub const COMMIT_BYTES: &str = "commit_bytes_total";
/// Files of the lake's newest snapshot, a gauge.
pub const LAKE_FILES: &str = "lake_files";
/// Their bytes, a gauge.
pub const LAKE_BYTES: &str = "lake_bytes";
/// Files that were replaced and are not yet removed from the disk, a gauge.
pub const LAKE_REPLACED_FILES: &str = "lake_replaced_files";
/// Merges of files, by table.
pub const MERGES: &str = "maintenance_merges_total";
/// Files that were merged.
pub const MERGED_FILES: &str = "maintenance_merged_files_total";
/// Bytes that merges wrote.
pub const MERGED_BYTES: &str = "maintenance_merged_bytes_total";
/// Rows that left the tables, by reason: `retention` or `deleted`.
pub const DELETED_ROWS: &str = "maintenance_deleted_rows_total";
/// Replaced files that were removed from the disk.
pub const REMOVED_FILES: &str = "maintenance_removed_files_total";
/// Files that wait to be merged, a gauge.
pub const MAINTENANCE_BACKLOG_FILES: &str = "maintenance_backlog_files";
/// Deletions that are committed and not yet carried out, a gauge.
pub const PENDING_DELETIONS: &str = "maintenance_pending_deletions";
/// Passes of the maintenance that failed and were tried again.
pub const MAINTENANCE_FAILURES: &str = "maintenance_failures_total";
/// Seconds that a pass took, rests included, a histogram.
pub const MAINTENANCE_SECONDS: &str = "maintenance_seconds";
