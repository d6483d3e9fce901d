//! The fingerprint that an SDK gives: a list of texts (`spec/ingest.md` section 3.1).

use weir_protocol::json::Json;

use super::note::Notes;
use super::path::Path;
use super::size::json_size;

/// Parts that are none are listed where together they are smaller.
const REFUSED_BYTES_MAX: usize = 500;
/// Whole numbers up to here are exact as floats.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// Numbers become their whole part's text, truth `True` or `False`; null goes, and so does what is none of these.
pub fn read<'a>(value: &mut Json<'a>, path: Path<'_>, notes: &mut Notes<'a>) {
    let Json::Array(parts) = value else { return notes.invalid(path, "expected an array", value.take()) };
    let count = parts.len();
    let mut refused = Vec::new();
    let texts: Vec<Json<'a>> = std::mem::take(parts)
        .into_iter()
        .filter_map(|part| match part {
            Json::Null => None,
            Json::String(_) => Some(part),
            Json::Bool(truth) => Some(Json::text(if truth { "True" } else { "False" })),
            Json::Int(_) | Json::UInt(_) => Some(Json::text(part.to_string())),
            Json::Float(number) if number.abs() < EXACT_MAX => Some(Json::text(number.trunc().to_string())),
            other => {
                refused.push(other);
                None
            }
        })
        .collect();
    let refused = Json::Array(refused);
    if refused.as_array().is_some_and(|refused| !refused.is_empty()) && json_size(&refused) < REFUSED_BYTES_MAX {
        notes.error(path, "invalid_data", vec![("value", refused)]);
        notes.length(path, count);
    }
    *value = if texts.is_empty() { Json::Null } else { Json::Array(texts) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints() {
        let check = |json: &str, want: &str| {
            let mut parts = Json::parse(json.as_bytes()).unwrap();
            read(&mut parts, Path::Root.key("fingerprint"), &mut Notes::default());
            assert_eq!(parts.to_string(), want, "{json}");
        };
        check(r#"["{{ default }}",1,2.7,true,null,{},[]]"#, r#"["{{ default }}","1","2","True"]"#);
        check("[]", "null");
        check(r#""x""#, "null");
    }
}
