//! The metrics of deliveries.

/// Notifications that wait, a gauge.
pub const PENDING: &str = "outbound_notifications_pending";
/// Attempts that ended, by `kind` (`webhook`, `slack`, `email`) and `result` (`delivered`, `retrying`, `failed`).
pub const DELIVERIES: &str = "outbound_deliveries_total";
/// Seconds that an attempt took, a histogram.
pub const ATTEMPT_SECONDS: &str = "outbound_delivery_attempt_seconds";
/// Seconds from the transition's tick to its delivery, a histogram.
pub const DELAY_SECONDS: &str = "outbound_delivery_delay_seconds";
/// Times that the catalog did not take what became of deliveries; they are recorded again.
pub const RECORD_FAILURES: &str = "outbound_record_failures_total";
