//! The metrics of queries.

/// Statements that ended, by result: `ok`, `dropped` by the client, or the kind of error.
pub const QUERIES: &str = "sql_queries_total";
/// Statements that run at present, a gauge.
pub const RUNNING: &str = "sql_queries_running";
/// Statements that wait for their turn, a gauge.
pub const WAITING: &str = "sql_queries_waiting";
/// Seconds from the start of a statement to its last row, a histogram.
pub const SECONDS: &str = "sql_query_seconds";
/// Seconds of that until the plan was made, a histogram.
pub const PLAN_SECONDS: &str = "sql_query_plan_seconds";
/// Rows returned.
pub const ROWS: &str = "sql_rows_total";
/// Rows read from the tables.
pub const ROWS_SCANNED: &str = "sql_rows_scanned_total";
/// Bytes read from files.
pub const BYTES_SCANNED: &str = "sql_bytes_scanned_total";
/// Memory that queries take at present, a gauge.
pub const MEMORY_BYTES: &str = "sql_memory_bytes";
/// Bytes of rows that outgrew memory, on the disk at present, a gauge.
pub const SPILL_BYTES: &str = "sql_spill_bytes";

// Of each running statement, by `slot`: its place among those that may run at a time; 0 where the slot is free.

/// For how long it has run.
pub const RUNNING_SECONDS: &str = "sql_running_query_seconds";
/// Rows that it has read from the tables.
pub const RUNNING_ROWS_SCANNED: &str = "sql_running_query_rows_scanned";
/// Bytes that it has read from files.
pub const RUNNING_BYTES_SCANNED: &str = "sql_running_query_bytes_scanned";
/// Rows that it has returned.
pub const RUNNING_ROWS: &str = "sql_running_query_rows";
/// Memory that it takes.
pub const RUNNING_MEMORY_BYTES: &str = "sql_running_query_memory_bytes";
