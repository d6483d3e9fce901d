//! Data categories: what an item counts as in outcomes, quotas and rate limits.

use std::fmt;

/// A data category with Sentry's number (`spec/ingest.md` section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(i16)]
#[allow(missing_docs, reason = "the names are the documentation")]
pub enum Category {
    Unknown = -1,
    Default = 0,
    Error = 1,
    Transaction = 2,
    Security = 3,
    Attachment = 4,
    Session = 5,
    Profile = 6,
    Replay = 7,
    TransactionIndexed = 9,
    Monitor = 10,
    ProfileIndexed = 11,
    Span = 12,
    Feedback = 14,
    MetricBucket = 15,
    SpanIndexed = 16,
    ProfileChunk = 18,
    Uptime = 21,
    AttachmentItem = 22,
    LogItem = 23,
    LogByte = 24,
    ProfileChunkUi = 26,
    TraceMetric = 33,
    TraceMetricByte = 37,
}

/// Number and name of every category that Sentry has, those that nothing in Weir counts included: clients report them.
const ALL: &[(i16, &str)] = &[
    (-1, "unknown"),
    (0, "default"),
    (1, "error"),
    (2, "transaction"),
    (3, "security"),
    (4, "attachment"),
    (5, "session"),
    (6, "profile"),
    (7, "replay"),
    (8, "transaction_processed"),
    (9, "transaction_indexed"),
    (10, "monitor"),
    (11, "profile_indexed"),
    (12, "span"),
    (13, "monitor_seat"),
    (14, "feedback"),
    (15, "metric_bucket"),
    (16, "span_indexed"),
    (17, "profile_duration"),
    (18, "profile_chunk"),
    (19, "metric_second"),
    (20, "replay_video"),
    (21, "uptime"),
    (22, "attachment_item"),
    (23, "log_item"),
    (24, "log_byte"),
    (25, "profile_duration_ui"),
    (26, "profile_chunk_ui"),
    (27, "seer_autofix"),
    (28, "seer_scanner"),
    (29, "prevent_user"),
    (30, "prevent_review"),
    (31, "size_analysis"),
    (32, "installable_build"),
    (33, "trace_metric"),
    (34, "seer_user"),
    (35, "profile_backend"),
    (36, "profile_ui"),
    (37, "trace_metric_byte"),
    (38, "snapshot_image"),
];

impl Category {
    /// Sentry's number.
    pub fn number(self) -> i16 {
        self as i16
    }

    /// Sentry's name, as it stands in client reports and rate limits.
    pub fn name(self) -> &'static str {
        name_of(self.number())
    }
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The name of a category's number; `unknown` for a number that none has.
pub fn name_of(number: i16) -> &'static str {
    ALL.iter().find(|(n, _)| *n == number).map_or("unknown", |(_, name)| name)
}

/// The number of a category's name, as client reports give it; −1 for a name that none has.
pub fn number_of(name: &str) -> i16 {
    ALL.iter().find(|(_, n)| *n == name).map_or(-1, |(number, _)| *number)
}
