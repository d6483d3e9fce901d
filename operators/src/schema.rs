//! The tables: their columns, their order, their types in SQL and in files (`spec/storage-query.md` section 1).
//!
//! Types are those that every client reads: signed integers, zoneless timestamps in UTC, plain text. Ids of 16 bytes are
//! text in SQL (32 lower-case hexadecimal digits) and UUIDs in files. Columns are appended, as nullable ones, and never
//! changed: the field ids in files are the positions of the fields counted depth first, and readers go by them.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};

/// A table.
#[derive(Debug)]
pub struct Table {
    /// Its name in SQL and in the lake.
    pub name: &'static str,
    /// Its columns.
    pub columns: Vec<Column>,
    /// The columns by which the rows of a file are ordered.
    pub sort_key: &'static [&'static str],
    /// The columns with bloom filters.
    pub bloom_filters: &'static [&'static str],
    /// How its rows come about.
    pub kind: TableKind,
    stored_schema: SchemaRef,
    file_schema: SchemaRef,
    sql_schema: SchemaRef,
}

/// How the rows of a table come about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableKind {
    /// Rows are added and stay as they are.
    Appended,
    /// A row a key, changed in place, served from memory.
    Current,
}

/// A column.
#[derive(Debug, Clone)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// Its type in SQL.
    pub sql_type: DataType,
    /// Whether it may be null.
    pub nullable: bool,
    /// Whether it is an id of 16 bytes: text in SQL, `FixedSizeBinary(16)` where it is stored.
    pub id: bool,
    /// What it holds.
    pub doc: &'static str,
}

/// The metadata key under which Arrow and Parquet keep a field's id.
pub const FIELD_ID: &str = "PARQUET:field_id";

impl Table {
    /// The schema of batches, and of files when they are read: ids are 16 bytes.
    pub fn stored_schema(&self) -> &SchemaRef {
        &self.stored_schema
    }

    /// The same with the id of every field in its metadata: what the Parquet schema of files is made from.
    pub fn file_schema(&self) -> &SchemaRef {
        &self.file_schema
    }

    /// The schema that queries see.
    pub fn sql_schema(&self) -> &SchemaRef {
        &self.sql_schema
    }

    /// For tests: a table of current state with these columns, which belongs to the organisation of each row as all do.
    #[doc(hidden)]
    pub fn of_columns(name: &str, columns: &[(String, DataType)]) -> Self {
        // As long-lived as the tables of the program.
        let lasting = |text: &str| -> &'static str { Box::leak(text.to_owned().into_boxed_str()) };
        let columns = columns.iter().fold(Columns(Vec::new()), |made, (name, data_type)| made.optional(lasting(name), data_type.clone(), ""));
        let seen = columns.0.len();
        let table = columns.required("org_id", DataType::Int64, "organisation").table(lasting(name), &[], &[], TableKind::Current);
        let sql_schema = Arc::new(Schema::new(table.sql_schema.fields()[..seen].to_vec()));
        Self { sql_schema, ..table }
    }

    /// A column by its name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }
}

/// All tables.
pub fn tables() -> &'static [Table] {
    &TABLES
}

/// A table by its name.
pub fn table(name: &str) -> Option<&'static Table> {
    TABLES.iter().find(|table| table.name == name)
}

static TABLES: LazyLock<Vec<Table>> = LazyLock::new(all_tables);

/// `milliseconds since 1970-01-01` without a zone.
pub const MILLISECONDS: DataType = DataType::Timestamp(TimeUnit::Millisecond, None);
/// `microseconds since 1970-01-01` without a zone.
pub const MICROSECONDS: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);

/// A map from text to a type; values may be null.
pub fn map_of(value: DataType) -> DataType {
    let entries = Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", value, true)]);
    DataType::Map(Arc::new(Field::new("key_value", DataType::Struct(entries), false)), false)
}

/// A list whose elements may be null.
pub fn list_of(element: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("element", element, true)))
}

fn struct_of(fields: &[(&str, DataType)]) -> DataType {
    DataType::Struct(fields.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), true)).collect())
}

struct Columns(Vec<Column>);

impl Columns {
    /// The columns that every table begins with.
    fn new() -> Self {
        Columns(Vec::new())
            .required("org_id", DataType::Int64, "organisation")
            .required("project_id", DataType::Int64, "project")
            .required("project", DataType::Utf8, "the project's slug")
            .required("received", MILLISECONDS, "when Weir received it; of a row of current state, its last change")
            .required("retention_days", DataType::Int16, "days that the row is kept")
            .required("seq", DataType::Int64, "position in the journal")
    }

    fn add(mut self, name: &'static str, sql_type: DataType, nullable: bool, id: bool, doc: &'static str) -> Self {
        self.0.push(Column { name, sql_type, nullable, id, doc });
        self
    }

    fn required(self, name: &'static str, sql_type: DataType, doc: &'static str) -> Self {
        self.add(name, sql_type, false, false, doc)
    }

    fn optional(self, name: &'static str, sql_type: DataType, doc: &'static str) -> Self {
        self.add(name, sql_type, true, false, doc)
    }

    fn text(self, name: &'static str, doc: &'static str) -> Self {
        self.required(name, DataType::Utf8, doc)
    }

    fn text_or_null(self, name: &'static str, doc: &'static str) -> Self {
        self.optional(name, DataType::Utf8, doc)
    }

    fn id(self, name: &'static str, doc: &'static str) -> Self {
        self.add(name, DataType::Utf8, false, true, doc)
    }

    fn id_or_null(self, name: &'static str, doc: &'static str) -> Self {
        self.add(name, DataType::Utf8, true, true, doc)
    }

    fn attributes(self) -> Self {
        self.required("attrs_str", map_of(DataType::Utf8), "text attributes; lists and objects as JSON text")
            .required("attrs_num", map_of(DataType::Float64), "floating-point attributes")
            .required("attrs_int", map_of(DataType::Int64), "whole-number attributes")
            .required("attrs_bool", map_of(DataType::Boolean), "boolean attributes")
    }

    fn appended(self, name: &'static str, sort_key: &'static [&'static str], bloom_filters: &'static [&'static str]) -> Table {
        self.table(name, sort_key, bloom_filters, TableKind::Appended)
    }

    fn current(self, name: &'static str) -> Table {
        self.table(name, &["project_id"], &[], TableKind::Current)
    }

    fn table(self, name: &'static str, sort_key: &'static [&'static str], bloom_filters: &'static [&'static str], kind: TableKind) -> Table {
        let stored = |c: &Column| Field::new(c.name, if c.id { DataType::FixedSizeBinary(16) } else { c.sql_type.clone() }, c.nullable);
        let sql = |c: &Column| Field::new(c.name, c.sql_type.clone(), c.nullable);
        let fields: Fields = self.0.iter().map(stored).collect();
        let file_schema = Arc::new(Schema::new(with_field_ids(&fields, &mut 0)));
        let stored_schema = Arc::new(Schema::new(fields));
        let sql_schema = Arc::new(Schema::new(self.0.iter().map(sql).collect::<Vec<_>>()));
        Table { name, columns: self.0, sort_key, bloom_filters, kind, stored_schema, file_schema, sql_schema }
    }
}

/// Numbers fields depth first from 1. The struct of a map's entries has no number: the lake's catalog has no such column.
fn with_field_ids(fields: &Fields, last: &mut i32) -> Fields {
    fields.iter().map(|field| Arc::new(with_field_id(field, last))).collect()
}

fn with_field_id(field: &Field, last: &mut i32) -> Field {
    *last += 1;
    let metadata = HashMap::from([(FIELD_ID.to_owned(), last.to_string())]);
    let data_type = match field.data_type() {
        DataType::List(element) => DataType::List(Arc::new(with_field_id(element, last))),
        DataType::Struct(fields) => DataType::Struct(with_field_ids(fields, last)),
        DataType::Map(entries, sorted) => match entries.data_type() {
            DataType::Struct(fields) => {
                let fields = DataType::Struct(with_field_ids(fields, last));
                DataType::Map(Arc::new(entries.as_ref().clone().with_data_type(fields)), *sorted)
            }
            other => unreachable!("the entries of a map are a struct, not {other}"),
        },
        other => other.clone(),
    };
    Field::new(field.name(), data_type, field.is_nullable()).with_metadata(metadata)
}

fn exceptions() -> DataType {
    list_of(struct_of(&[("type", DataType::Utf8), ("value", DataType::Utf8), ("mechanism_type", DataType::Utf8), ("handled", DataType::Boolean)]))
}

fn frames() -> DataType {
    let text = DataType::Utf8;
    list_of(struct_of(&[
        ("abs_path", text.clone()),
        ("filename", text.clone()),
        ("function", text.clone()),
        ("module", text.clone()),
        ("package", text),
        ("lineno", DataType::Int32),
        ("colno", DataType::Int32),
        ("in_app", DataType::Boolean),
        ("stack_level", DataType::Int32),
    ]))
}

fn all_tables() -> Vec<Table> {
    vec![
        errors(),
        issues(),
        occurrences(),
        spans(),
        logs(),
        metrics(),
        sessions(),
        outcomes(),
        uptime_results(),
        checkins(),
        replays(),
        profile_chunks(),
        releases(),
        projects(),
        payloads(),
        items(),
    ]
}

/// What errors and occurrences have in common.
fn event_columns(columns: Columns) -> Columns {
    columns
        .text("platform", "platform of the SDK")
        .text_or_null("environment", "environment")
        .text_or_null("release", "release")
        .text_or_null("dist", "distribution of the release")
        .id_or_null("trace_id", "trace")
        .text_or_null("span_id", "span, 16 hexadecimal digits")
        .optional("user_hash", DataType::Int64, "hash of the user within the project")
        .text("user", "the user as tag: id:, username:, email: or ip: and its value; empty without a user")
        .text_or_null("user_id", "id of the user")
        .text_or_null("user_name", "name of the user")
        .text_or_null("user_email", "e-mail address of the user")
        .text_or_null("ip", "address of the user")
        .text("sdk_name", "name of the SDK")
        .text("sdk_version", "version of the SDK")
        .required("tags", map_of(DataType::Utf8), "tags")
        .required("contexts", map_of(DataType::Utf8), "contexts, as container.key")
}

fn errors() -> Table {
    let columns = Columns::new()
        .id("event_id", "id of the event")
        .required("group_id", DataType::Int64, "issue that the event belonged to when it arrived")
        .optional("group_first_seen", MILLISECONDS, "when that issue was first seen, as known then")
        .id("primary_hash", "grouping hash")
        .required("timestamp", MILLISECONDS, "when the client says that it happened")
        .text("type", "error, default, csp …")
        .text_or_null("level", "debug, info, warning, error or fatal")
        .text("title", "title")
        .text("message", "message")
        .text("culprit", "where it happened: transaction or function")
        .text_or_null("location", "file of the crashing frame")
        .text("transaction_name", "transaction")
        .text_or_null("version", "version of the event's protocol");
    event_columns(columns)
        .id_or_null("replay_id", "replay")
        .optional("trace_sampled", DataType::Boolean, "whether the trace was sampled")
        .optional("sample_weight", DataType::Float64, "1 / sample rate")
        .optional("sdk_integrations", list_of(DataType::Utf8), "integrations of the SDK")
        .text_or_null("http_method", "method of the request")
        .text_or_null("http_referer", "referrer of the request")
        .required("flags", map_of(DataType::Utf8), "feature flags")
        .required("modules", map_of(DataType::Utf8), "modules and their versions")
        .required("exceptions", exceptions(), "exceptions, innermost first")
        .required("frames", frames(), "frames of all exceptions, oldest first; stack_level is the exception's index")
        .required("unhandled", DataType::Boolean, "whether an exception was not handled")
        .optional("main_thread", DataType::Boolean, "whether it happened on the main thread")
        .optional("symbolicated_in_app", DataType::Boolean, "whether all frames of the application are symbolicated")
        .required("num_processing_errors", DataType::Int32, "errors found while the event was processed")
        .appended("errors", &["project_id", "group_id", "timestamp"], &["event_id", "trace_id", "release"])
}

fn issues() -> Table {
    Columns::new()
        .required("group_id", DataType::Int64, "id of the issue")
        .text("short_id", "short id, SHOP-1A")
        .required("issue_type", DataType::Int32, "type, 1 for errors")
        .text("category", "category of the type")
        .text("title", "title of the newest event")
        .text("culprit", "culprit of the newest event")
        .text("level", "level of the newest event")
        .text("platform", "platform of the newest event")
        .text("status", "unresolved, resolved or ignored")
        .text_or_null("substatus", "new, ongoing, regressed, escalating …")
        .optional("priority", DataType::Int16, "25 low, 50 medium, 75 high")
        .required("first_seen", MILLISECONDS, "earliest timestamp of its events")
        .required("last_seen", MILLISECONDS, "latest timestamp of its events")
        .required("times_seen", DataType::Int64, "events")
        .required("user_count", DataType::Int64, "distinct users; an estimate above 512")
        .text_or_null("first_release", "release of the first event that arrived with one")
        .text_or_null("resolved_in_release", "release that resolves it")
        .required("num_comments", DataType::Int32, "comments")
        .optional("assignee_user_id", DataType::Int64, "user it is assigned to")
        .optional("assignee_team_id", DataType::Int64, "team it is assigned to")
        .optional("owner_suspect_commit_user_id", DataType::Int64, "owner by suspect commit")
        .optional("owner_suspect_commit_team_id", DataType::Int64, "owner by suspect commit")
        .optional("owner_rule_user_id", DataType::Int64, "owner by ownership rule")
        .optional("owner_rule_team_id", DataType::Int64, "owner by ownership rule")
        .optional("owner_codeowners_user_id", DataType::Int64, "owner by CODEOWNERS")
        .optional("owner_codeowners_team_id", DataType::Int64, "owner by CODEOWNERS")
        .optional("redirect_to", DataType::Int64, "issue that it was merged into")
        .current("issues")
}

fn occurrences() -> Table {
    let columns = Columns::new()
        .id("occurrence_id", "id of the occurrence")
        .required("group_id", DataType::Int64, "issue")
        .required("occurrence_type", DataType::Int32, "type of the issue")
        .id_or_null("event_id", "event that it was found in")
        .required("timestamp", MILLISECONDS, "when it happened")
        .required("detected_at", MILLISECONDS, "when it was detected")
        .text("title", "title")
        .text_or_null("subtitle", "subtitle")
        .text("message", "message")
        .text_or_null("culprit", "where it happened")
        .text_or_null("level", "level")
        .text_or_null("resource_id", "what it happened to")
        .required("fingerprint", list_of(DataType::Utf8), "fingerprint")
        .required("transaction_duration_ms", DataType::Int64, "duration of the transaction")
        .id_or_null("profile_id", "profile");
    event_columns(columns).appended("occurrences", &["project_id", "group_id", "timestamp"], &["occurrence_id", "event_id", "trace_id"])
}

fn spans() -> Table {
    Columns::new()
        .id("trace_id", "trace")
        .text("span_id", "span, 16 hexadecimal digits")
        .text_or_null("parent_span_id", "parent span")
        .text("segment_id", "span of the segment that it belongs to")
        .required("is_segment", DataType::Boolean, "whether it is the root of its segment: a transaction")
        .text("transaction_name", "name of the segment")
        .text("op", "operation")
        .text_or_null("category", "category of the operation")
        .text("description", "description")
        .text("status", "ok, cancelled, unknown, internal_error …")
        .required("start_ts", MICROSECONDS, "start")
        .required("end_ts", MICROSECONDS, "end")
        .required("duration_ms", DataType::Float64, "duration")
        .required("exclusive_ms", DataType::Float64, "duration without that of its children")
        .text_or_null("environment", "environment")
        .text_or_null("release", "release")
        .optional("user_hash", DataType::Int64, "hash of the user within the project")
        .optional("http_status", DataType::Int32, "status of the HTTP response")
        .required("measurements", map_of(DataType::Float64), "measurements")
        .attributes()
        .required("client_sample_rate", DataType::Float64, "rate at which the client sampled")
        .required("server_sample_rate", DataType::Float64, "rate at which the server sampled")
        .required("sample_weight", DataType::Float64, "1 / (client rate · server rate)")
        .id_or_null("event_id", "the transaction that brought it; null for spans sent on their own")
        .text_or_null("user", "the user as tag, as in errors")
        .text_or_null("platform", "platform of the SDK")
        .appended("spans", &["project_id", "end_ts"], &["trace_id", "op"])
}

fn logs() -> Table {
    Columns::new()
        .id("log_id", "id, made of its place in the journal")
        .required("timestamp", MICROSECONDS, "when it was written")
        .id_or_null("trace_id", "trace")
        .text_or_null("span_id", "span, 16 hexadecimal digits")
        .text("severity", "trace, debug, info, warn, error or fatal")
        .required("severity_number", DataType::Int16, "1 to 24, as OpenTelemetry numbers them")
        .text("body", "text")
        .text_or_null("environment", "environment")
        .text_or_null("release", "release")
        .attributes()
        .appended("logs", &["project_id", "timestamp"], &["trace_id"])
}

fn metrics() -> Table {
    Columns::new()
        .id("metric_id", "id, made of its place in the journal")
        .required("timestamp", MICROSECONDS, "when it was measured")
        .text("name", "name")
        .text("kind", "counter, gauge or distribution")
        .text_or_null("unit", "unit")
        .required("value", DataType::Float64, "value")
        .id_or_null("trace_id", "trace")
        .text_or_null("environment", "environment")
        .text_or_null("release", "release")
        .attributes()
        .appended("metrics", &["project_id", "name", "timestamp"], &["trace_id"])
}

fn sessions() -> Table {
    Columns::new()
        .required("started", MILLISECONDS, "start of the session")
        .id_or_null("session_id", "session; null for aggregates")
        .optional("user_hash", DataType::Int64, "hash of the user within the project")
        .text("release", "release")
        .text_or_null("environment", "environment")
        .text("status", "ok, exited, crashed, abnormal, errored or unhandled")
        .required("quantity", DataType::Int64, "sessions")
        .optional("duration_s", DataType::Float64, "duration")
        .appended("sessions", &["project_id", "release", "started"], &[])
}

fn outcomes() -> Table {
    Columns::new()
        .optional("key_id", DataType::Int64, "key of the project")
        .required("timestamp", MILLISECONDS, "when it happened")
        .required("outcome", DataType::Int16, "0 accepted, 1 filtered, 2 rate limited, 3 invalid, 4 abuse, 5 dropped by the client")
        .text_or_null("reason", "why")
        .required("category", DataType::Int16, "category of the data, by Sentry's number; -1 unknown")
        .required("quantity", DataType::Int64, "items, or bytes where the category counts bytes")
        .id_or_null("event_id", "event")
        .appended("outcomes", &["project_id", "timestamp"], &[])
}

fn uptime_results() -> Table {
    Columns::new()
        .id("check_id", "id of the check")
        .id("subscription_id", "what is watched")
        .text("region", "where from")
        .required("scheduled_at", MICROSECONDS, "when it was due")
        .required("started_at", MICROSECONDS, "when it began")
        .text("status", "success, failure, missed_window or disallowed_by_robots")
        .text_or_null("reason", "why it failed")
        .optional("http_status", DataType::Int32, "status of the HTTP response")
        .required("request_sequence", DataType::Int16, "number of the request in the check")
        .text("method", "method")
        .text("url", "address")
        .optional("duration_us", DataType::Int64, "duration")
        .optional("dns_us", DataType::Int64, "looking the name up")
        .optional("tcp_us", DataType::Int64, "connecting")
        .optional("tls_us", DataType::Int64, "handshake")
        .optional("ttfb_us", DataType::Int64, "time to the first byte")
        .optional("send_us", DataType::Int64, "sending the request")
        .optional("recv_us", DataType::Int64, "receiving the response")
        .required("request_bytes", DataType::Int64, "size of the request")
        .optional("response_bytes", DataType::Int64, "size of the response")
        .id("trace_id", "trace")
        .text("span_id", "span, 16 hexadecimal digits")
        .appended("uptime_results", &["project_id", "subscription_id", "scheduled_at"], &["trace_id"])
}

fn checkins() -> Table {
    Columns::new()
        .id("checkin_id", "id of the check-in")
        .required("monitor_id", DataType::Int64, "monitor")
        .text("environment", "environment")
        .text("status", "in_progress, ok, error, missed or timeout")
        .required("expected_at", MILLISECONDS, "when it was expected")
        .required("started_at", MILLISECONDS, "when it began")
        .optional("duration_ms", DataType::Int64, "duration")
        .id_or_null("trace_id", "trace")
        .appended("checkins", &["project_id", "monitor_id", "started_at"], &[])
}

fn replays() -> Table {
    let text = DataType::Utf8;
    Columns::new()
        .id("replay_id", "replay")
        .optional("segment_id", DataType::Int32, "segment")
        .required("timestamp", MILLISECONDS, "when the segment ended")
        .required("urls", list_of(text.clone()), "addresses that were visited")
        .required("error_ids", list_of(text.clone()), "errors that happened")
        .required("trace_ids", list_of(text), "traces that were made")
        .required("counts", map_of(DataType::Int64), "counts of clicks and the like")
        .text_or_null("user", "the user as tag, as in errors")
        .text_or_null("os", "operating system")
        .text_or_null("browser", "browser")
        .appended("replays", &["project_id", "timestamp"], &["replay_id"])
}

fn profile_chunks() -> Table {
    Columns::new()
        .id("profiler_id", "profiler")
        .id("chunk_id", "chunk")
        .required("start_ts", MICROSECONDS, "start")
        .required("end_ts", MICROSECONDS, "end")
        .text_or_null("environment", "environment")
        .text_or_null("release", "release")
        .appended("profile_chunks", &["project_id", "start_ts"], &["profiler_id"])
}

fn releases() -> Table {
    Columns::new().text("version", "version").required("date_added", MILLISECONDS, "when it was first seen").text_or_null("stage", "stage").current("releases")
}

fn projects() -> Table {
    Columns::new().text("slug", "the project's slug, as in the column project of every table").current("projects")
}

fn payloads() -> Table {
    Columns::new()
        .id("event_id", "id of the event")
        .text("type", "event or transaction")
        .text("payload", "the whole normalised event as JSON text")
        .optional("group_id", DataType::Int64, "issue of the event; null for transactions")
        // Events of one issue are much alike: side by side they take a fraction of the space. Ids are found by the bloom filter.
        .appended("payloads", &["project_id", "group_id", "received"], &["event_id"])
}

fn items() -> Table {
    Columns::new()
        .id("item_id", "digest of the item's payload")
        .text("type", "type of the item: span, log or client_report")
        .required("quantity", DataType::Int64, "elements that were stored, or outcomes that were reported")
        .appended("items", &["project_id", "received"], &[])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_keys_are_columns() {
        let names: BTreeSet<&str> = tables().iter().map(|t| t.name).collect();
        assert_eq!(names.len(), tables().len());
        for table in tables() {
            let columns: BTreeSet<&str> = table.columns.iter().map(|c| c.name).collect();
            assert_eq!(columns.len(), table.columns.len(), "{}", table.name);
            for name in table.sort_key.iter().chain(table.bloom_filters) {
                assert!(columns.contains(name), "{}.{name}", table.name);
            }
            assert_eq!(
                table.columns.iter().take(6).map(|c| c.name).collect::<Vec<_>>(),
                ["org_id", "project_id", "project", "received", "retention_days", "seq"]
            );
        }
    }

    #[test]
    fn no_type_that_clients_misread() {
        fn check(data_type: &DataType, path: &str) {
            match data_type {
                DataType::Boolean | DataType::Int16 | DataType::Int32 | DataType::Int64 | DataType::Float64 | DataType::Utf8 => {}
                DataType::Timestamp(TimeUnit::Millisecond | TimeUnit::Microsecond, None) => {}
                DataType::List(field) => check(field.data_type(), path),
                DataType::Map(entries, false) => check(entries.data_type(), path),
                DataType::Struct(fields) => fields.iter().for_each(|f| check(f.data_type(), path)),
                other => panic!("{path} is {other}"),
            }
        }
        for table in tables() {
            table.columns.iter().for_each(|c| check(&c.sql_type, &format!("{}.{}", table.name, c.name)));
        }
    }
}
