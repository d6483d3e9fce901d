//! Every bound of the program, with its unit in its name.
//!
//! The defaults of the doors are those of Relay (`spec/ingest.md` section 2.2); a bound that a setting can change says so.

/// An envelope after decompression.
pub const ENVELOPE_BYTES_MAX: usize = 200 << 20;
/// A `store/` body after decompression and base64.
pub const STORE_BYTES_MAX: usize = 1 << 20;
/// Events, transactions, feedback, replay events, form data and security reports: all of one envelope together.
pub const EVENT_CLASS_BYTES_MAX: usize = 1 << 20;
/// Attachments of one envelope, each and together.
pub const ATTACHMENT_BYTES_MAX: usize = 200 << 20;
/// Attachments (and user reports and Unreal reports, which share the class) of one envelope.
pub const ATTACHMENT_COUNT_MAX: usize = 30;
/// Session items of one envelope.
pub const SESSION_COUNT_MAX: usize = 100;
/// Session items of one envelope together.
pub const SESSION_BYTES_MAX: usize = 10 << 20;
/// Client reports of one envelope.
pub const CLIENT_REPORT_COUNT_MAX: usize = 100;
/// Client reports of one envelope together.
pub const CLIENT_REPORT_BYTES_MAX: usize = 100 << 10;
/// A check-in; one in an envelope.
pub const CHECK_IN_BYTES_MAX: usize = 100 << 10;
/// A profile or profile chunk; one in an envelope.
pub const PROFILE_BYTES_MAX: usize = 50 << 20;
/// A replay recording or video; one in an envelope.
pub const REPLAY_BYTES_MAX: usize = 10 << 20;
/// A container of logs, spans or trace metrics.
pub const CONTAINER_BYTES_MAX: usize = 12 << 20;
/// Elements of a container of `span` version 2 items.
pub const SPAN_CONTAINER_COUNT_MAX: usize = 1000;
/// One log.
pub const LOG_BYTES_MAX: usize = 2 << 20;
/// One span, in a container or alone.
pub const SPAN_BYTES_MAX: usize = 10 << 20;
/// One trace metric.
pub const TRACE_METRIC_BYTES_MAX: usize = 1 << 20;
/// Legacy standalone spans of one envelope.
pub const SPAN_COUNT_MAX: usize = 25;
/// statsd text or metric buckets.
pub const METRIC_BUCKETS_BYTES_MAX: usize = 1 << 20;
/// Items of one envelope, whatever their types. Relay has no such bound; its per-type bounds leave unknown types open.
pub const ENVELOPE_ITEM_COUNT_MAX: usize = 4096;
/// The header line of an envelope or of an item.
pub const HEADER_LINE_BYTES_MAX: usize = 64 << 10;

/// A user agent or SDK name is kept up to here.
pub const USER_AGENT_BYTES_MAX: usize = 512;
/// The text of an outcome's reason.
pub const REASON_BYTES_MAX: usize = 200;

/// A record of the journal, metadata and body.
pub const RECORD_BYTES_MAX: usize = 256 << 20;

/// How long, by receive time, a repeated event counts as a duplicate.
pub const DEDUPLICATION_WINDOW_MS: u64 = 3_600_000;
/// How many ids the duplicate check remembers; past it the oldest go, and the window is shorter than stated.
pub const DEDUPLICATION_IDS_MAX: usize = 4_000_000;

/// Frames of one stack trace that are kept: half from each end.
pub const FRAME_COUNT_MAX: usize = 250;

/// Shapes of subscriptions that run at a time: each costs every tick a little.
pub const SUBSCRIPTION_SHAPES_MAX: usize = 200;
/// Distinct rows of one subscription's answer; one with more fails.
pub const SUBSCRIPTION_ROWS_MAX: usize = 100_000;
/// Requests for subscriptions that wait at a time; whoever comes later waits before its request is taken.
pub const SUBSCRIPTION_REQUESTS_MAX: usize = 4096;
/// Changes of rows that wait for one reader of live rows; a slower one begins again with all rows.
pub const WATCH_ROWS_WAITING_MAX: usize = 10_000;

/// Distinct users of an issue that are counted exactly; past it the count is an estimate.
pub const ISSUE_USERS_EXACT_MAX: usize = 512;

/// Standing subscriptions of one organisation.
pub const SUBSCRIPTION_COUNT_MAX: usize = 200_000;
/// The name of a subscription.
pub const SUBSCRIPTION_NAME_BYTES_MAX: usize = 128;
/// Targets of one subscription's `notify`.
pub const NOTIFY_TARGET_COUNT_MAX: usize = 20;
/// One target of `notify`.
pub const NOTIFY_TARGET_BYTES_MAX: usize = 2048;

/// Notifications that wait to be delivered; past it new ones are entered in the delivery log as failed.
pub const OUTBOX_COUNT_MAX: usize = 100_000;
/// How long the history of alerts is kept.
pub const ALERT_HISTORY_MS: u64 = 90 * 86_400_000;
/// Entries of the history of alerts; past it the oldest go.
pub const ALERT_HISTORY_COUNT_MAX: usize = 2_000_000;
/// How long the delivery log is kept.
pub const DELIVERY_LOG_MS: u64 = 30 * 86_400_000;
/// Entries of the delivery log; past it the oldest go.
pub const DELIVERY_LOG_COUNT_MAX: usize = 1_000_000;

/// Groups that the reductions and top-k of one shape of subscriptions hold, those of panes that have not left among them.
pub const TEMPLATE_GROUPS_MAX: u64 = 1_000_000;
/// Bytes of state of one shape of subscriptions, about.
pub const TEMPLATE_STATE_BYTES_MAX: u64 = 1 << 30;
/// How much later than its receipt something may say to have happened, in milliseconds: a client's clock may be ahead. Events beyond
/// it are moved to their receipt; windows take everything else beyond it as of its receipt.
pub const CLOCK_AHEAD_MS: u64 = 60_000;
/// Pairs of joined rows that one shape of subscriptions makes in a tick.
pub const TEMPLATE_PAIRS_PER_TICK_MAX: u64 = 10_000_000;
/// Parameter keys of one shape whose failing rows are told apart; what is beyond counts for all of its subscriptions.
pub const TEMPLATE_FLAWED_KEYS_MAX: usize = 10_000;
