//! Breadcrumbs (`spec/ingest.md` section 3.2).

use weir_protocol::json::{Json, Object};

use super::clock::Shift;

/// Gives every breadcrumb a type and a level, and moves its time as the event's is moved.
pub fn normalise(event: &mut Object<'_>, shift: Shift) {
    let values = event.get_mut("breadcrumbs").and_then(Json::as_object_mut).and_then(|crumbs| crumbs.get_mut("values")).and_then(Json::as_array_mut);
    for crumb in values.into_iter().flatten().filter_map(Json::as_object_mut) {
        for (key, default) in [("type", "default"), ("level", "info")] {
            if crumb.get(key).is_none() {
                crumb.insert(key, Json::text(default));
            }
        }
        let Some(given) = crumb.get_mut("timestamp").filter(|given| !given.is_null()) else { continue };
        match shift.moved(given) {
            Some(moved) => *given = moved,
            None => drop(crumb.remove("timestamp")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn breadcrumbs_have_a_type_and_a_level() {
        let check = |json: &str, want: &str| {
            let text = format!(r#"{{"breadcrumbs":{{"values":[{json}]}}}}"#);
            let mut event = Json::parse(text.as_bytes()).unwrap();
            normalise(event.as_object_mut().unwrap(), Shift::NONE);
            assert_eq!(event.at(&["breadcrumbs", "values"]).map(|v| v.as_array().unwrap()[0].to_string()).unwrap_or_default(), want, "{json}");
        };
        check(r#"{"timestamp":1.0,"message":"m"}"#, r#"{"timestamp":1.0,"message":"m","type":"default","level":"info"}"#);
        check(r#"{"timestamp":-1.0,"type":"http","level":"error"}"#, r#"{"type":"http","level":"error"}"#);
        check("null", "null");
    }
}
