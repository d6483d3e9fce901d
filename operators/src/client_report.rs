//! Stub.
use crate::{decode::Item, fact::Fact};
/// Stub.
pub fn client_report(item: &Item) -> Fact { item.refused("stub") }
