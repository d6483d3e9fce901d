//! What leaves the program: HTTP requests to addresses that others name, notifications of alerts, and their delivery.
//!
//! In comes the outbox of the catalog; out go webhooks, Slack messages and mails. Nothing is sent that is not in the outbox, and
//! nothing leaves the outbox before its receiver has it or it is given up. [`schedule`] decides what is sent when and is pure;
//! [`dispatcher`] obeys it. Every address that somebody else names is checked by [`reach`] before a connection is made.

pub mod client;
pub mod courier;
pub mod dispatcher;
pub mod mail;
pub mod reach;
#[cfg(test)]
mod receivers;
mod rendering;
pub mod schedule;
mod slack;
mod telemetry;
mod webhook;

pub use client::Client;
pub use courier::{Courier, Verdict};
pub use dispatcher::Dispatcher;
pub use mail::{Mail, MailError};
pub use reach::Reach;
pub use schedule::Patience;
