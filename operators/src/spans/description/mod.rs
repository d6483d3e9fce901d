//! Descriptions of spans without their values, so that spans that did the same thing are one group: the attributes
//! `sentry.normalized_description` and `sentry.group` (`spec/ingest.md` section 3.3).
//!
//! The package does not do this, so the rules are those of the public documentation (docs.sentry.io, "Queries", "Requests" and
//! "Assets"; develop.sentry.dev, "Queries Module" and "Requests Module"), and where it says nothing, ours. Groups are therefore
//! stable, but not the same hexadecimal digits as Sentry's.
//!
//! | module | noun |
//! |---|---|
//! | [`sql`], [`token`] | statements |
//! | [`redis`], [`mongo`] | commands of other databases |
//! | [`address`] | addresses of requests, and their domains |
//! | [`resource`] | addresses of what a page loads |

mod address;
mod mongo;
mod redis;
mod resource;
mod sql;
mod token;

use weir_protocol::ids::hex;

use crate::grouping::component::hash;
use crate::rows::{Attributes, SpanRow};

/// The description without its values.
const DESCRIPTION: &str = "sentry.normalized_description";
/// The first half of the description's MD5, in hexadecimal digits.
const GROUP: &str = "sentry.group";
const GROUP_BYTES: usize = 8;

/// A description is read up to here: a statement that is longer is told apart by its beginning.
const READ_BYTES_MAX: usize = 64 << 10;

/// Databases whose statements are no SQL (develop.sentry.dev, "Queries Module"; OpenTelemetry's names).
const NOT_SQL: [&str; 14] = [
    "aws.dynamodb",
    "couchbase",
    "couchdb",
    "dynamodb",
    "elasticsearch",
    "etcd",
    "geode",
    "hbase",
    "influxdb",
    "memcached",
    "neo4j",
    "opensearch",
    "prisma",
    "weaviate",
];

/// Adds both attributes to a span whose operation has a rule. What the SDK set stays.
pub(super) fn add(row: &mut SpanRow) {
    let given = row.attributes.text(DESCRIPTION);
    let made = if given.is_none() { normalised(row).filter(|text| !text.is_empty()) } else { None };
    let Some(text) = given.or(made.as_deref()) else { return };
    let group = hex(&hash([text])[..GROUP_BYTES]);
    for (key, value) in made.map(|text| (DESCRIPTION, text)).into_iter().chain([(GROUP, group)]) {
        if !row.attributes.has(key) {
            row.attributes.text.push((key.to_owned(), value));
        }
    }
}

/// What a span does, as far as its description is concerned.
enum Work {
    Database,
    Request,
    Resource,
}

impl Work {
    /// By its operation, and where it has none by the attributes of OpenTelemetry.
    fn of(row: &SpanRow) -> Option<Self> {
        let is_below = |parent: &str| row.op.strip_prefix(parent).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        match row.op.as_str() {
            "http.client" => Some(Self::Request),
            "default" if system(&row.attributes).is_some() => Some(Self::Database),
            "default" if row.attributes.text("url.full").is_some() => Some(Self::Request),
            _ if is_below("db") => Some(Self::Database),
            _ if is_below("resource") => Some(Self::Resource),
            _ => None,
        }
    }
}

fn normalised(row: &SpanRow) -> Option<String> {
    let attributes = &row.attributes;
    match Work::of(row)? {
        Work::Database => {
            let text = ["db.query.text", "db.statement"].into_iter().find_map(|key| attributes.text(key)).unwrap_or(&row.description);
            database(&row.op, system(attributes), cut(text), attributes)
        }
        Work::Request => {
            let host = ["server.address", "net.peer.name"].into_iter().find_map(|key| attributes.text(key));
            address::request(cut(&row.description), host).or_else(|| {
                let method = ["http.request.method", "http.method"].into_iter().find_map(|key| attributes.text(key))?;
                let url = ["url.full", "url", "http.url"].into_iter().find_map(|key| attributes.text(key))?;
                address::request(&format!("{method} {}", cut(url)), host)
            })
        }
        Work::Resource => Some(resource::normalised(cut(&row.description))),
    }
}

fn database(op: &str, system: Option<&str>, text: &str, attributes: &Attributes) -> Option<String> {
    match system {
        Some("redis" | "valkey") => Some(redis::normalised(text)),
        None if op == "db.redis" => Some(redis::normalised(text)),
        Some("mongodb") => {
            let collection = ["db.collection.name", "db.mongodb.collection"].into_iter().find_map(|key| attributes.text(key));
            mongo::normalised(text, collection)
        }
        Some(other) if NOT_SQL.contains(&other) => None,
        Some(other) => Some(sql::normalised(text, token::Dialect::of(other))),
        // Without a system there may be anything.
        None => sql::is_statement(text).then(|| sql::normalised(text, token::Dialect::Any)),
    }
}

fn system(attributes: &Attributes) -> Option<&str> {
    ["db.system", "db.system.name"].into_iter().find_map(|key| attributes.text(key))
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(READ_BYTES_MAX)]
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_database_has_its_rule() {
        let check = |op: &str, system: Option<&str>, text: &str, want: Option<&str>| {
            assert_eq!(database(op, system, text, &Attributes::default()).as_deref(), want, "{op} {system:?} {text}");
        };
        check("db", Some("postgresql"), "SELECT 1", Some("SELECT %s"));
        check("db.sql.query", None, "select a from b where c = 'x'", Some("select a from b where c = %s"));
        check("db", None, "price cart", None);
        check("db", Some("sqlite"), "PRAGMA x", Some("PRAGMA x"));
        check("db", Some("elasticsearch"), "GET /index", None);
        check("db.redis", None, "GET user:1", Some("GET *"));
        check("db", Some("redis"), "get user:1", Some("GET *"));
        check("db", Some("mongodb"), r#"{"find":"users","filter":{"id":7}}"#, Some(r#"{"find":"?","filter":{"id":"?"}}"#));
        check("db", Some("mongodb"), "users.find", None);
    }

    proptest! {
        /// Whatever a description is, it is read to its end, and what comes out is no longer than three times it, but for a few characters.
        #[test]
        fn any_description_is_taken(text in "(?s)[ -~é\n]{0,60}|([(),.'\"`$:?@%*\\[\\]a1 -]|/\\*|IN |VALUES |SELECT |FROM |CASE |END |INTO |ARRAY|https://|//){0,30}") {
            for dialect in [token::Dialect::Standard, token::Dialect::Mysql, token::Dialect::Any] {
                let out = sql::normalised(&text, dialect);
                prop_assert!(out.len() <= 3 * text.len() + 16, "{out}");
            }
            resource::normalised(&text);
            redis::normalised(&text);
            mongo::normalised(&text, Some("a"));
            address::request(&text, Some(&text));
            address::request(&format!("GET {text}"), None);
            address::request(&format!("GET https://{text}"), None);
        }
    }

    /// The time of a hostile description grows with its length alone: with the square of it, this would take minutes.
    #[test]
    #[ignore = "it measures: how long it takes depends on the machine"]
    #[allow(clippy::disallowed_methods, reason = "it measures")]
    fn hostile_descriptions_take_linear_time() {
        const BYTES: usize = 8 * READ_BYTES_MAX;
        for part in [
            "IN (",
            "IN (1::IN ",
            "(",
            "CASE ",
            "SELECT a, ",
            "VALUES (",
            "INSERT INTO a (",
            "ARRAY[1,",
            "a.",
            "'",
            "$a$",
            "/*",
            "--",
            "((1,",
            "-",
            ".",
            "1.a.",
            "/",
            "{\"a\":",
        ] {
            let text = part.repeat(BYTES / part.len());
            let start = std::time::Instant::now();
            sql::normalised(&text, token::Dialect::Any);
            sql::normalised(&format!("SELECT {text}"), token::Dialect::Standard);
            resource::normalised(&text);
            redis::normalised(&text);
            mongo::normalised(&text, None);
            address::request(&format!("GET https://{text}"), None);
            assert!(start.elapsed().as_secs() < 20, "{part}");
        }
    }
}
