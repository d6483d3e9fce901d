//! Outcomes of one request, summed by reason and category.

use weir_protocol::envelope::Item;
use weir_protocol::ids::EventId;
use weir_protocol::outcome::{Outcome, OutcomeCount, clean_reason};

/// Different outcomes of one request. Types that are not known could otherwise make thousands; past it they share one reason.
const OUTCOME_COUNT_MAX: usize = 64;

/// Outcomes of one request.
#[derive(Debug, Default)]
pub(crate) struct Tally(Vec<OutcomeCount>);

impl Tally {
    /// Counts an item as refused, in each of its categories.
    pub(crate) fn refuse(&mut self, item: &Item, reason: &str) {
        for (category, quantity) in item.quantities() {
            self.add(reason, category.number(), quantity);
        }
    }

    fn add(&mut self, reason: &str, category: i16, quantity: u64) {
        let reason = clean_reason(reason);
        let reason = if self.0.len() < OUTCOME_COUNT_MAX || self.position(&reason, category).is_some() { reason } else { "unsupported:other".to_owned() };
        match self.position(&reason, category) {
            Some(at) => self.0[at].quantity = self.0[at].quantity.saturating_add(quantity),
            None => self.0.push(OutcomeCount { outcome: Outcome::Invalid, reason: Some(reason), category, quantity, event_id: None }),
        }
    }

    fn position(&self, reason: &str, category: i16) -> Option<usize> {
        self.0.iter().position(|count| count.category == category && count.reason.as_deref() == Some(reason))
    }

    /// The outcomes, with the event that the items belonged to.
    pub(crate) fn into_counts(self, event_id: Option<EventId>) -> Vec<OutcomeCount> {
        self.0.into_iter().map(|count| OutcomeCount { event_id, ..count }).collect()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use weir_protocol::envelope::Envelope;

    use super::*;

    #[test]
    fn sums() {
        let check = |items: &str, want: &[(&str, i16, u64)]| {
            let envelope = Envelope::parse(&Bytes::from(format!("{{}}\n{items}"))).unwrap();
            let mut tally = Tally::default();
            envelope.items.iter().for_each(|item| tally.refuse(item, &format!("unsupported:{}", item.header.item_type.name())));
            let counts = tally.into_counts(Some(EventId([1; 16])));
            assert!(counts.iter().all(|c| c.event_id == Some(EventId([1; 16])) && c.outcome == Outcome::Invalid));
            let got: Vec<_> = counts.iter().map(|c| (c.reason.as_deref().unwrap(), c.category, c.quantity)).collect();
            assert_eq!(got, want, "{items}");
        };
        check("", &[]);
        check(
            "{\"type\":\"session\"}\n\n{\"type\":\"session\"}\n\n{\"type\":\"sessions\"}\n",
            &[("unsupported:session", 5, 2), ("unsupported:sessions", 5, 1)],
        );
        check("{\"type\":\"attachment\"}\nabc\n{\"type\":\"attachment\"}\n", &[("unsupported:attachment", 4, 4), ("unsupported:attachment", 22, 2)]);
        check("{\"type\":\"client_report\"}\n{}", &[]);
        check("{\"type\":\"n\\u00e9w\\n\"}\n", &[("unsupported:n?w?", -1, 1)]);
    }

    #[test]
    fn reasons_from_outside_are_bounded() {
        let items: String = (0..500).map(|n| format!("{{\"type\":\"made_up_{n}\"}}\n\n")).collect();
        let envelope = Envelope::parse(&Bytes::from(format!("{{}}\n{items}"))).unwrap();
        let mut tally = Tally::default();
        envelope.items.iter().for_each(|item| tally.refuse(item, &format!("unsupported:{}", item.header.item_type.name())));
        let counts = tally.into_counts(None);
        assert_eq!(counts.len(), OUTCOME_COUNT_MAX + 1);
        assert_eq!(counts.iter().map(|c| c.quantity).sum::<u64>(), 500);
        assert_eq!(counts.last().map(|c| (c.reason.as_deref(), c.quantity)), Some((Some("unsupported:other"), 500 - OUTCOME_COUNT_MAX as u64)));
    }
}
