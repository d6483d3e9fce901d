//! What of a security report is hashed (`spec/grouping.md` section 1.9).

use weir_protocol::json::Json;

use super::component::Component;
use super::variant::{Variant, Variants};
use crate::event::text;

/// Reports that are told apart by the host alone, each with the word that tells it from the others.
const BY_HOST: [(&str, &str); 3] = [("hpkp", "hpkp"), ("expectstaple", "expect-staple"), ("expectct", "expect-ct")];

/// The variants of a security report; none without one.
pub fn variants(event: &Json<'_>) -> Variants {
    if let Some(csp) = event.get("csp") {
        return vec![(Variant::Default, csp_component(csp))];
    }
    let report = BY_HOST.into_iter().find_map(|(interface, word)| Some((word, event.get(interface)?)));
    let Some((word, report)) = report else { return Variants::new() };
    vec![(Variant::Default, Component::of(vec![Component::text(word), Component::optional(text(report, "hostname"))]))]
}

/// The directive that was violated: the effective one, else the first word of the violated one.
pub fn directive<'e>(csp: &'e Json<'_>) -> Option<&'e str> {
    text(csp, "effective_directive").or_else(|| text(csp, "violated_directive")?.split_whitespace().next())
}

/// Where what was blocked comes from: a host, a scheme, or `'self'`.
pub fn blocked_origin(csp: &Json<'_>) -> String {
    let blocked = text(csp, "blocked_uri").unwrap_or_default();
    if matches!(blocked, "" | "self" | "'self'") {
        return "'self'".to_owned();
    }
    let Some((scheme, rest)) = blocked.split_once(':') else { return blocked.to_owned() };
    let host = rest.strip_prefix("//").map(|rest| rest.split(['/', '?', '#']).next().unwrap_or_default());
    let host_of_document = text(csp, "document_uri").and_then(|uri| uri.split_once("://")?.1.split(['/', '?', '#']).next());
    match host {
        Some(host) if !host.is_empty() && host_of_document == Some(host) => "'self'".to_owned(),
        Some(host) if matches!(scheme, "http" | "https") => host.to_owned(),
        Some(host) => format!("{scheme}://{host}"),
        None => format!("{scheme}:"),
    }
}

fn csp_component(csp: &Json<'_>) -> Component {
    let directive = directive(csp);
    let origin = blocked_origin(csp);
    let violated = text(csp, "violated_directive").unwrap_or_default();
    let local = ["'unsafe-inline'", "'unsafe-eval'"].into_iter().find(|word| violated.contains(word));
    let violation = match local {
        Some(word) if directive == Some("script-src") && origin == "'self'" => word.to_owned(),
        _ => origin,
    };
    Component::of(vec![Component::optional(directive), Component::text(violation)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports() {
        let check = |json: &str, want: &[&str]| {
            let event = Json::parse(json.as_bytes()).unwrap();
            assert_eq!(variants(&event).first().map(|(_, c)| c.leaves()).unwrap_or_default(), want, "{json}");
        };
        check(r#"{"csp":{"effective_directive":"img-src","blocked_uri":"data:foo"}}"#, &["img-src", "data:"]);
        check(r#"{"csp":{"effective_directive":"img-src","blocked_uri":"ftp://h/foo"}}"#, &["img-src", "ftp://h"]);
        check(r#"{"csp":{"effective_directive":"img-src","blocked_uri":"https://h:1/foo"}}"#, &["img-src", "h:1"]);
        check(
            r#"{"csp":{"effective_directive":"script-src","violated_directive":"script-src 'unsafe-inline'","blocked_uri":""}}"#,
            &["script-src", "'unsafe-inline'"],
        );
        check(r#"{"hpkp":{"hostname":"example.com"}}"#, &["hpkp", "example.com"]);
        check(r#"{"expectct":{"hostname":"h"}}"#, &["expect-ct", "h"]);
        check("{}", &[]);
    }
}
