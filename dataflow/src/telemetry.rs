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
