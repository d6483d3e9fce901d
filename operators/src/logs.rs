//! Stub.
use crate::{decode::Item, fact::Fact};
/// Stub.
pub fn logs(item: &Item) -> Fact { item.refused("stub") }
