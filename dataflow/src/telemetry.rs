//! The metrics of the graph.

/// Ticks released.
pub const TICKS: &str = "graph_ticks_total";
/// Ticks that the graph has not completed, a gauge.
pub const TICKS_IN_FLIGHT: &str = "graph_ticks_in_flight";
/// Records of the journal that the graph has not completed, a gauge.
pub const LAG_RECORDS: &str = "graph_lag_records";
/// The same by partition, a gauge.
pub const PARTITION_LAG_RECORDS: &str = "graph_partition_lag_records";
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
/// Templates that run, a gauge.
pub const TEMPLATES: &str = "subscription_templates";
/// Subscriptions that stand, a gauge.
pub const SUBSCRIPTIONS: &str = "subscriptions";
/// Subscriptions that have failed, a gauge.
pub const SUBSCRIPTIONS_FAILED: &str = "subscriptions_failed";
/// Groups that the templates hold, a gauge.
pub const SUBSCRIPTION_GROUPS: &str = "subscription_groups";
/// Bytes of state that the templates hold, about, a gauge.
pub const SUBSCRIPTION_STATE_BYTES: &str = "subscription_state_bytes";
/// Milliseconds by which the answers lie behind the newest tick of the tables, a gauge.
pub const SUBSCRIPTION_LAG_MS: &str = "subscription_lag_milliseconds";
/// Changes of rows of answers.
pub const SUBSCRIPTION_CHANGES: &str = "subscription_changes_total";
/// Seconds that evaluating a tick took, a histogram.
pub const SUBSCRIPTION_SECONDS: &str = "subscription_evaluation_seconds";
/// Seconds from asking for the stored rows of a new shape to having them all, a histogram.
pub const HYDRATION_SECONDS: &str = "subscription_hydration_seconds";
/// Stored rows that were read for new shapes.
pub const HYDRATION_ROWS: &str = "subscription_hydration_rows_total";
/// Rows that came too late for their window.
pub const LATE_ROWS: &str = "subscription_late_rows_total";
/// Transitions of alerts, by kind.
pub const TRANSITIONS: &str = "alert_transitions_total";
/// Milliseconds from the tick at which an alert was due to its being durable in the outbox, a histogram.
pub const ALERT_DELAY_MS: &str = "alert_delay_milliseconds";
/// Records of alerts made.
pub const ALERT_RECORDS: &str = "alert_records_total";
/// Records of alerts that failed and were tried again.
pub const ALERT_RECORD_FAILURES: &str = "alert_record_failures_total";
/// Seconds that a record of alerts took, a histogram.
pub const ALERT_RECORD_SECONDS: &str = "alert_record_seconds";
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
