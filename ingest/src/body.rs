//! A request's body: read within bounds, decompressed within bounds, drained where it is refused.

use std::sync::Arc;

use axum::body::{Body, BodyDataStream};
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, EXPECT};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use tokio::time::{Instant, timeout, timeout_at};

use weir_protocol::encoding::{DecodeError, Encoding};

use crate::budget::{Budget, Exhausted, Reservation};
use crate::options::Options;
use crate::telemetry;

/// A body that is still to be read.
#[derive(Debug)]
pub(crate) struct Incoming {
    stream: BodyDataStream,
    length: Option<u64>,
    /// Whether the client waits for `100 Continue`, which reading would send it.
    expects_continue: bool,
    ended: bool,
}

/// A body that was read, with its share of the budget.
#[derive(Debug)]
pub(crate) struct Packed {
    /// How it is compressed.
    pub(crate) encoding: Encoding,
    /// As it came.
    pub(crate) stored: Bytes,
    /// Decompressed.
    pub(crate) plain: Bytes,
    _reservation: Reservation,
}

/// Why a body was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyError {
    /// It is compressed in a way that is not known.
    #[error("unsupported content encoding '{0}'")]
    UnknownEncoding(String),
    /// More bytes than allowed, before or after decompression.
    #[error("the body has more than {0} bytes")]
    TooLarge(usize),
    /// The bytes are not what the encoding says.
    #[error("the body is not valid {0}")]
    Malformed(&'static str),
    /// It stood still, or took too long as a whole.
    #[error("the body did not arrive in time")]
    Timeout,
    /// The connection broke.
    #[error("the body ended early: {0}")]
    Broken(String),
    /// Too many bytes of other bodies are in memory.
    #[error("too many bytes of other requests are in memory")]
    Exhausted,
}

impl From<Exhausted> for BodyError {
    fn from(_: Exhausted) -> Self {
        Self::Exhausted
    }
}

/// A compressed body up to here is decompressed where it is; a larger one on a thread where it holds up nobody.
const INLINE_BYTES_MAX: usize = 256 << 10;
/// What a first try at decompression may yield at least. Only a body that yields more is tried again with the full bound and
/// the budget for it, so that a bomb holds much memory for a short time only and an ordinary body reserves little.
const FIRST_TRY_BYTES_MIN: usize = 1 << 20;
/// The same, in multiples of the compressed size.
const FIRST_TRY_RATIO: usize = 8;
/// A buffer begins no larger than this, whatever length the client states.
const INITIAL_CAPACITY_BYTES_MAX: usize = 1 << 20;

impl Incoming {
    pub(crate) fn new(headers: &HeaderMap, body: Body) -> Self {
        let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let expects_continue = headers.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        Self { stream: body.into_data_stream(), length, expects_continue, ended: false }
    }

    /// Reads the body and decompresses it; at most `bytes_max` bytes each.
    pub(crate) async fn unpack(&mut self, headers: &HeaderMap, bytes_max: usize, options: &Options, budget: &Arc<Budget>) -> Result<Packed, BodyError> {
        let encoding = encoding_of(headers)?;
        let mut reservation = budget.reservation();
        let stored = self.read(bytes_max, options, &mut reservation).await?;
        telemetry::read(stored.len());
        let plain = decode(encoding, &stored, bytes_max, &mut reservation).await?;
        Ok(Packed { encoding, stored, plain, _reservation: reservation })
    }

    async fn read(&mut self, bytes_max: usize, options: &Options, reservation: &mut Reservation) -> Result<Bytes, BodyError> {
        if self.length.is_some_and(|length| length > bytes_max as u64) {
            return Err(BodyError::TooLarge(bytes_max));
        }
        let end = Instant::now() + options.body_total;
        // A body that comes in one piece, as most do, is not copied.
        let Some(first) = self.chunk(options, end).await? else { return Ok(Bytes::new()) };
        let mut taken = Gathered { whole: first, rest: BytesMut::new() };
        reservation.grow(taken.whole.len())?;
        while taken.len() <= bytes_max {
            let Some(chunk) = self.chunk(options, end).await? else { return Ok(taken.into_bytes()) };
            reservation.grow(chunk.len())?;
            taken.push(&chunk, self.length);
        }
        Err(BodyError::TooLarge(bytes_max))
    }

    async fn chunk(&mut self, options: &Options, end: Instant) -> Result<Option<Bytes>, BodyError> {
        let idle = Instant::now() + options.body_idle;
        match timeout_at(idle.min(end), self.stream.next()).await {
            Ok(Some(Ok(chunk))) => Ok(Some(chunk)),
            Ok(Some(Err(error))) => {
                self.ended = true;
                Err(BodyError::Broken(error.to_string()))
            }
            Ok(None) => {
                self.ended = true;
                Ok(None)
            }
            Err(_) => Err(BodyError::Timeout),
        }
    }

    /// Reads on beside the answer, up to a bound and a deadline. A connection that is closed on a client that still sends is
    /// reset, and the client may never see the status.
    pub(crate) fn drain(mut self, options: &Options) {
        if self.ended || self.expects_continue || self.length == Some(0) {
            return;
        }
        let (bytes_max, time) = (options.drain_bytes_max, options.drain_time);
        tokio::spawn(timeout(time, async move {
            let mut bytes = 0;
            while let Some(Ok(chunk)) = self.stream.next().await {
                bytes += chunk.len();
                if bytes > bytes_max {
                    break;
                }
            }
        }));
    }
}

/// Pieces of a body: one, or more put together.
struct Gathered {
    whole: Bytes,
    rest: BytesMut,
}

impl Gathered {
    fn len(&self) -> usize {
        self.whole.len() + self.rest.len()
    }

    fn push(&mut self, chunk: &[u8], length: Option<u64>) {
        if !self.whole.is_empty() {
            let whole = std::mem::take(&mut self.whole);
            let stated = length.map_or(0, |length| usize::try_from(length).unwrap_or(usize::MAX));
            self.rest.reserve(stated.min(INITIAL_CAPACITY_BYTES_MAX).max(whole.len() + chunk.len()));
            self.rest.extend_from_slice(&whole);
        }
        self.rest.extend_from_slice(chunk);
    }

    fn into_bytes(self) -> Bytes {
        if self.rest.is_empty() { self.whole } else { self.rest.freeze() }
    }
}

fn encoding_of(headers: &HeaderMap) -> Result<Encoding, BodyError> {
    let Some(value) = headers.get(CONTENT_ENCODING) else { return Ok(Encoding::Identity) };
    let name = String::from_utf8_lossy(value.as_bytes());
    Encoding::from_header(&name).ok_or_else(|| BodyError::UnknownEncoding(name.into_owned()))
}

async fn decode(encoding: Encoding, stored: &Bytes, bytes_max: usize, reservation: &mut Reservation) -> Result<Bytes, BodyError> {
    if encoding == Encoding::Identity {
        return if stored.len() > bytes_max { Err(BodyError::TooLarge(bytes_max)) } else { Ok(stored.clone()) };
    }
    if stored.is_empty() {
        return Ok(Bytes::new());
    }
    let first = stored.len().saturating_mul(FIRST_TRY_RATIO).max(FIRST_TRY_BYTES_MIN).min(bytes_max);
    reservation.grow(first)?;
    let mut decoded = match stored.len() <= INLINE_BYTES_MAX {
        true => encoding.decode(stored, first),
        false => decode_off_thread(encoding, stored.clone(), first).await,
    };
    if first < bytes_max && matches!(decoded, Err(DecodeError::TooLarge(_))) {
        reservation.grow(bytes_max - first)?;
        decoded = decode_off_thread(encoding, stored.clone(), bytes_max).await;
    }
    let plain = decoded.map_err(|error| match error {
        DecodeError::TooLarge(_) => BodyError::TooLarge(bytes_max),
        DecodeError::Malformed(name) => BodyError::Malformed(name),
    })?;
    reservation.shrink_to(stored.len() + plain.len());
    Ok(plain)
}

async fn decode_off_thread(encoding: Encoding, stored: Bytes, bytes_max: usize) -> Result<Bytes, DecodeError> {
    let decoded = tokio::task::spawn_blocking(move || encoding.decode(&stored, bytes_max)).await;
    decoded.unwrap_or_else(|error| {
        tracing::error!(%error, encoding = encoding.name(), "decompression ended abnormally");
        Err(DecodeError::Malformed(encoding.name()))
    })
}
