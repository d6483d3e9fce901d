//! Stub.
use crate::{decode::Item, fact::Fact};
/// Stub.
pub fn transaction(item: &Item) -> Fact { item.refused("stub") }
/// Stub.
pub fn spans(item: &Item) -> Fact { item.refused("stub") }
