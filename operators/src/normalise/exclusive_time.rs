//! Exclusive time: how much of a span none of its direct children covers (`spec/ingest.md` section 3.3).

use std::collections::BTreeMap;

use weir_protocol::json::{Json, Object};

use super::clock::time_us;

/// The field of a span and of the context `trace`, in milliseconds.
pub const FIELD: &str = "exclusive_time";

/// Gives the transaction and its spans their exclusive time, where the SDK gave none.
pub fn normalise(event: &mut Object<'_>) {
    let own = event.get("contexts").and_then(|contexts| contexts.get("trace")).and_then(Json::as_object).and_then(|trace| missing(trace, event));
    let spans = event.get("spans").and_then(Json::as_array).unwrap_or_default();
    let each: Vec<Option<Interval<'_>>> = spans.iter().map(|span| span.as_object().and_then(|span| missing(span, span))).collect();
    if own.is_none() && each.iter().all(Option::is_none) {
        return;
    }
    let children = children(spans);
    let exclusive_ms = |interval: &Interval<'_>| Json::Float(interval.exclusive_us(&children) as f64 / 1000.0);
    let own = own.as_ref().map(exclusive_ms);
    let each: Vec<_> = each.iter().map(|interval| interval.as_ref().map(exclusive_ms)).collect();
    if let (Some(own), Some(Json::Object(trace))) =
        (own, event.get_mut("contexts").and_then(Json::as_object_mut).and_then(|contexts| contexts.get_mut("trace")))
    {
        trace.insert(FIELD, own);
    }
    for (span, exclusive) in event.get_mut("spans").and_then(Json::as_array_mut).into_iter().flatten().zip(each) {
        if let (Json::Object(span), Some(exclusive)) = (span, exclusive) {
            span.insert(FIELD, exclusive);
        }
    }
}

/// When a span was under way, in Unix microseconds.
struct Interval<'e> {
    span_id: &'e str,
    start_us: i64,
    end_us: i64,
}

/// What lacks its exclusive time: the ids are in one object, the times in the same or another.
fn missing<'e>(span: &'e Object<'_>, times: &Object<'_>) -> Option<Interval<'e>> {
    if span.get(FIELD).is_some() {
        return None;
    }
    let start_us = times.get("start_timestamp").and_then(time_us)?;
    let end_us = times.get("timestamp").and_then(time_us)?.max(start_us);
    Some(Interval { span_id: span.get("span_id").and_then(Json::as_str)?, start_us, end_us })
}

/// When the children of each span were under way, by start.
type Children<'e> = BTreeMap<&'e str, Vec<(i64, i64)>>;

fn children<'e>(spans: &'e [Json<'_>]) -> Children<'e> {
    let mut children = Children::new();
    for span in spans {
        let time = |key| span.get(key).and_then(time_us);
        if let (Some(parent), Some(start), Some(end)) = (span.str_at(&["parent_span_id"]), time("start_timestamp"), time("timestamp")) {
            children.entry(parent).or_default().push((start, end));
        }
    }
    children.values_mut().for_each(|intervals| intervals.sort_unstable());
    children
}

impl Interval<'_> {
    fn exclusive_us(&self, children: &Children<'_>) -> i64 {
        let (mut covered, mut reached) = (0, self.start_us);
        for &(start, end) in children.get(self.span_id).into_iter().flatten() {
            let (start, end) = (start.max(reached), end.min(self.end_us));
            if end > start {
                covered += end - start;
                reached = end;
            }
        }
        self.end_us - self.start_us - covered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spans are `(id, parent, start, end)`; the transaction is `a` from 0 to 10 seconds.
    fn check(spans: &[(&str, &str, i64, i64)], want: &[f64]) {
        let span = |(id, parent, start, end): &(&str, &str, i64, i64)| {
            format!(r#"{{"span_id":"{id}","parent_span_id":"{parent}","start_timestamp":{start},"timestamp":{end}}}"#)
        };
        let spans: Vec<String> = spans.iter().map(span).collect();
        let text = format!(r#"{{"start_timestamp":0,"timestamp":10,"contexts":{{"trace":{{"span_id":"a"}}}},"spans":[{}]}}"#, spans.join(","));
        let mut event = Json::parse(text.as_bytes()).unwrap();
        normalise(event.as_object_mut().unwrap());
        let of = |holder: &Json<'_>| holder.get(FIELD).and_then(Json::as_f64).unwrap() / 1000.0;
        let mut seen = vec![of(event.at(&["contexts", "trace"]).unwrap())];
        seen.extend(event.get("spans").and_then(Json::as_array).unwrap().iter().map(of));
        assert_eq!(seen, want, "{text}");
    }

    #[test]
    fn children_take_from_their_parents() {
        check(&[], &[10.0]);
        check(&[("b", "a", 1, 4)], &[7.0, 3.0]);
        check(&[("b", "a", 1, 4), ("c", "b", 2, 3)], &[7.0, 2.0, 1.0]);
        check(&[("b", "x", 1, 4)], &[10.0, 3.0]);
    }

    #[test]
    fn time_of_several_children_counts_once() {
        check(&[("b", "a", 1, 4), ("c", "a", 2, 6)], &[5.0, 3.0, 4.0]);
        check(&[("b", "a", 1, 6), ("c", "a", 2, 3), ("d", "a", 7, 8)], &[4.0, 5.0, 1.0, 1.0]);
    }

    #[test]
    fn children_count_only_while_their_parent_is_under_way() {
        check(&[("b", "a", 9, 20), ("c", "a", 11, 12)], &[9.0, 11.0, 1.0]);
        check(&[("b", "a", 4, 6), ("c", "b", 2, 5)], &[8.0, 1.0, 3.0]);
    }

    #[test]
    fn what_the_sdk_gave_stays() {
        let text = r#"{"start_timestamp":0,"timestamp":10,"contexts":{"trace":{"span_id":"a","exclusive_time":1.5}},
            "spans":[{"span_id":"b","parent_span_id":"a","start_timestamp":1,"timestamp":2,"exclusive_time":7},{"span_id":"c","start_timestamp":1}]}"#;
        let mut event = Json::parse(text.as_bytes()).unwrap();
        let before = event.to_string();
        normalise(event.as_object_mut().unwrap());
        assert_eq!(event.to_string(), before);
    }
}
