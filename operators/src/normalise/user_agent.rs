//! What the client's software is.

use weir_protocol::json::Object;

use super::EventContext;

/// Placeholder.
pub fn normalise(_event: &mut Object<'_>, _context: &EventContext) {}
