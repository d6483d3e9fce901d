//! The bounds of the doors that a setting may change.

use std::time::Duration;

use weir_protocol::limits::{ENVELOPE_BYTES_MAX, STORE_BYTES_MAX};

/// Settings of the doors. The defaults are what the program runs with.
#[derive(Debug, Clone)]
pub struct Options {
    /// An envelope, compressed and decompressed; at most [`ENVELOPE_BYTES_MAX`], which is also what the journal is read with.
    pub envelope_bytes_max: usize,
    /// A `store/` body, compressed, decompressed, and after base64.
    pub store_bytes_max: usize,
    /// All bodies in memory at once, compressed and decompressed; past it requests are answered 503.
    pub bodies_in_flight_bytes_max: usize,
    /// How long a body may stand still before it is given up with 408.
    pub body_idle: Duration,
    /// How long a whole body may take before it is given up with 408.
    pub body_total: Duration,
    /// How much of a refused body is still read, so that the client comes to read the status.
    pub drain_bytes_max: usize,
    /// For how long.
    pub drain_time: Duration,
    /// Records of refused requests that may be on their way to the journal at once; what is past it is only counted in metrics.
    pub refusal_records_max: usize,
    /// Whether headers such as `X-Forwarded-For` say who the client is. Turn it off where no proxy stands in front.
    pub trust_forwarded: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            envelope_bytes_max: ENVELOPE_BYTES_MAX,
            store_bytes_max: STORE_BYTES_MAX,
            bodies_in_flight_bytes_max: 512 << 20,
            body_idle: Duration::from_secs(30),
            body_total: Duration::from_secs(300),
            drain_bytes_max: 1 << 20,
            drain_time: Duration::from_secs(5),
            refusal_records_max: 64,
            trust_forwarded: true,
        }
    }
}
