//! The metrics of queries.

/// Statements, by result: `ok`, or the kind of error.
pub const QUERIES: &str = "sql_queries_total";
/// Statements that run at present, a gauge.
pub const RUNNING: &str = "sql_queries_running";
/// Seconds from the start of a statement to its last row, a histogram.
pub const SECONDS: &str = "sql_query_seconds";
/// Rows returned.
pub const ROWS: &str = "sql_rows_total";
