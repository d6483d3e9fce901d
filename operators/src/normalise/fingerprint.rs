//! The fingerprint that an SDK gives: a list of texts (`spec/ingest.md` section 3.1).

use weir_protocol::json::{Json, Object};

use super::note::Notes;

/// Parts of a fingerprint that are kept.
const PART_COUNT_MAX: usize = 100;

/// Numbers become their whole part's text, truth `True` or `False`; null and objects go, and so does an empty list.
pub fn normalise<'a>(event: &mut Object<'a>, notes: &mut Notes<'a>) {
    let parts = match event.remove("fingerprint") {
        None | Some(Json::Null) => return,
        Some(Json::Array(parts)) => parts,
        Some(other) => return notes.invalid(&["fingerprint"], other),
    };
    let parts: Vec<Json<'a>> = parts.into_iter().filter_map(part).take(PART_COUNT_MAX).collect();
    if !parts.is_empty() {
        event.insert("fingerprint", Json::Array(parts));
    }
}

fn part(value: Json<'_>) -> Option<Json<'_>> {
    match value {
        Json::String(text) => Some(Json::String(text)),
        Json::Bool(truth) => Some(Json::text(if truth { "True" } else { "False" })),
        Json::Int(_) | Json::UInt(_) => Some(Json::text(value.to_string())),
        Json::Float(number) => Some(Json::text(format!("{:.0}", number.trunc()))),
        Json::Null | Json::Array(_) | Json::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints() {
        let check = |json: &str, want: &str| {
            let text = format!(r#"{{"fingerprint":{json}}}"#);
            let mut event = Json::parse(text.as_bytes()).unwrap();
            normalise(event.as_object_mut().unwrap(), &mut Notes::default());
            assert_eq!(event.get("fingerprint").map(Json::to_string).unwrap_or_default(), want, "{json}");
        };
        check(r#"["{{ default }}",1,2.7,true,null,{},[]]"#, r#"["{{ default }}","1","2","True"]"#);
        check("[]", "");
        check(r#""x""#, "");
    }
}
