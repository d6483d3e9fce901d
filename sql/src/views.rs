//! The views, in SQL over the tables. They read what the caller may read, since they stand on the caller's tables.

/// Name and query of each view, in the order in which they may use each other.
pub(crate) const VIEWS: &[(&str, &str)] = &[("transactions", TRANSACTIONS), ("events", EVENTS), ("error_tags", ERROR_TAGS), ("error_frames", ERROR_FRAMES)];

/// A transaction is the segment span of what was sent as one, or on its own.
const TRANSACTIONS: &str = "SELECT * FROM spans WHERE is_segment";

/// Errors and transactions side by side.
const EVENTS: &str = "
SELECT org_id, project_id, project, received, retention_days, seq, event_id, type, timestamp, title, transaction_name, level, platform, environment, release,
       trace_id, span_id, \"user\", user_hash, group_id, CAST(NULL AS DOUBLE) AS duration_ms
FROM errors
UNION ALL
SELECT org_id, project_id, project, received, retention_days, seq, event_id, 'transaction' AS type, CAST(end_ts AS TIMESTAMP(3)) AS timestamp, transaction_name AS title,
       transaction_name, 'info' AS level, platform, environment, release, trace_id, span_id, \"user\", user_hash, CAST(NULL AS BIGINT) AS group_id, duration_ms
FROM spans WHERE is_segment";

/// A row a tag.
const ERROR_TAGS: &str = "
SELECT org_id, project_id, project, received, retention_days, seq, group_id, event_id, timestamp, tag['key'] AS key, tag['value'] AS value
FROM (SELECT org_id, project_id, project, received, retention_days, seq, group_id, event_id, timestamp, unnest(map_entries(tags)) AS tag FROM errors)";

/// A row a frame.
const ERROR_FRAMES: &str = "
SELECT org_id, project_id, project, received, retention_days, seq, group_id, event_id, timestamp,
       frame['abs_path'] AS abs_path, frame['filename'] AS filename, frame['function'] AS function, frame['module'] AS module, frame['package'] AS package,
       frame['lineno'] AS lineno, frame['colno'] AS colno, frame['in_app'] AS in_app, frame['stack_level'] AS stack_level
FROM (SELECT org_id, project_id, project, received, retention_days, seq, group_id, event_id, timestamp, unnest(frames) AS frame FROM errors)";
