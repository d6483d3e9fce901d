//! Subscriptions, their alerts, and the outbox: what is written before anybody is told.

use std::collections::BTreeMap;

use weir_protocol::subscription::{ActiveAlert, SubscriptionId, Transition};

/// What one tick, or several, made of the alerts. It is written whole or not at all, and fenced as a commit of the tables is.
#[derive(Debug, Clone, Default)]
pub struct AlertCommit {
    /// The generation under which the partitions were taken.
    pub generation: i64,
    /// The offset after the last record that the alerts reflect, by partition.
    pub offsets: BTreeMap<u16, u64>,
    /// The tick that they reflect, in Unix milliseconds.
    pub tick_ms: u64,
    /// New entries of the history, in their order; each with somebody to tell goes to the outbox too.
    pub transitions: Vec<Transition>,
    /// Alerts that stand from now on, or changed.
    pub active: Vec<ActiveAlert>,
    /// Alerts that no longer stand: subscription and key.
    pub ended: Vec<(SubscriptionId, String)>,
}

/// The alerts as of the last [`AlertCommit`].
#[derive(Debug, Clone, Default)]
pub struct RestoredAlerts {
    /// The offset after the last record that they reflect, by partition.
    pub offsets: BTreeMap<u16, u64>,
    /// The tick that they reflect.
    pub tick_ms: u64,
    /// The alerts that stand.
    pub active: Vec<ActiveAlert>,
}
