//! The rows of the workload: errors, spans, logs, sessions, checks and outcomes of a small organisation, the same at every run.

use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, BooleanArray, BooleanBuilder, FixedSizeBinaryBuilder, Float64Array, Int16Array, Int32Builder, Int64Array, ListBuilder, MapBuilder, MapFieldNames,
    RecordBatch, StringArray, StringBuilder, StructBuilder, TimestampMicrosecondArray, TimestampMillisecondArray,
};
use datafusion::arrow::datatypes::DataType;
use datafusion::error::Result;
use weir_operators::schema::Table;

use crate::filled::{Columns, filled};

/// 2026-10-01T00:00:00Z, about which everything happens.
pub const MIDNIGHT_MS: i64 = 1_790_812_800_000;
const DAY_MS: i64 = 86_400_000;

/// How much there is of what grows.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    pub errors: usize,
    pub spans: usize,
}

/// SplitMix64: the same numbers everywhere.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// From 0 to below 1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }

    /// Normally distributed, by Box and Muller.
    fn normal(&mut self) -> f64 {
        (-2.0 * (1.0 - self.unit()).ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos()
    }
}

/// The id of a thing of a kind.
pub fn id(kind: u64, number: u64) -> [u8; 16] {
    let mut dice = Dice::new(kind.wrapping_mul(0x1_0000_0001_0000) ^ number);
    let (high, low) = (dice.next(), dice.next());
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&high.to_be_bytes());
    bytes[8..].copy_from_slice(&low.to_be_bytes());
    bytes
}

const EVENT: u64 = 1;
const HASH: u64 = 2;
/// The kind of traces.
pub const TRACE: u64 = 3;
const CHECK: u64 = 4;
const MONITOR: u64 = 5;
const LOG: u64 = 6;

fn ids(values: impl Iterator<Item = Option<[u8; 16]>>) -> ArrayRef {
    let mut builder = FixedSizeBinaryBuilder::new(16);
    values.for_each(|value| match value {
        Some(value) => builder.append_value(value).expect("16 bytes"),
        None => builder.append_null(),
    });
    Arc::new(builder.finish())
}

fn texts<'a>(values: impl Iterator<Item = &'a str>) -> ArrayRef {
    Arc::new(values.map(Some).collect::<StringArray>())
}

fn projects(numbers: &[i64]) -> [(&'static str, ArrayRef); 2] {
    let slugs: StringArray = numbers.iter().map(|id| Some(if *id == 1 { "shop" } else { "billing" })).collect();
    [("project_id", Arc::new(Int64Array::from(numbers.to_vec()))), ("project", Arc::new(slugs))]
}

fn ms(values: &[i64]) -> ArrayRef {
    Arc::new(TimestampMillisecondArray::from(values.to_vec()))
}

fn us(values: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from_iter_values(values))
}

fn map_builder(rows: usize) -> MapBuilder<StringBuilder, StringBuilder> {
    let names = MapFieldNames { entry: "key_value".to_owned(), key: "key".to_owned(), value: "value".to_owned() };
    MapBuilder::with_capacity(Some(names), StringBuilder::new(), StringBuilder::new(), rows)
}

fn maps<'a>(rows: impl Iterator<Item = Vec<(&'a str, &'a str)>>) -> ArrayRef {
    let mut builder = map_builder(0);
    for row in rows {
        for (key, value) in row {
            builder.keys().append_value(key);
            builder.values().append_value(value);
        }
        builder.append(true).expect("as many keys as values");
    }
    Arc::new(builder.finish())
}

/// One frame a row.
fn frames(table: &Table, functions: &[&str]) -> ArrayRef {
    let column = table.column("frames").expect("errors have frames");
    let DataType::List(element) = &column.sql_type else { unreachable!("frames are a list") };
    let DataType::Struct(fields) = element.data_type() else { unreachable!("of structs") };
    let mut builder = ListBuilder::new(StructBuilder::from_fields(fields.clone(), functions.len())).with_field(Arc::clone(element));
    for function in functions {
        let frame = builder.values();
        for (at, field) in fields.iter().enumerate() {
            match (field.name().as_str(), field.data_type()) {
                ("filename", _) => frame.field_builder::<StringBuilder>(at).expect("text").append_value("billing/x.py"),
                ("function", _) => frame.field_builder::<StringBuilder>(at).expect("text").append_value(function),
                ("in_app", _) => frame.field_builder::<BooleanBuilder>(at).expect("boolean").append_value(true),
                (_, DataType::Utf8) => frame.field_builder::<StringBuilder>(at).expect("text").append_null(),
                (_, _) => frame.field_builder::<Int32Builder>(at).expect("number").append_value(1),
            }
        }
        frame.append(true);
        builder.append(true);
    }
    Arc::new(builder.finish())
}

/// Errors of eight days, in their order of time.
pub fn errors(table: &Table, count: usize) -> Result<RecordBatch> {
    let mut dice = Dice::new(7);
    let range = 8 * DAY_MS;
    let mut times: Vec<i64> = (0..count).map(|_| MIDNIGHT_MS - 15 * DAY_MS / 2 + (dice.unit() * range as f64) as i64).collect();
    times.sort_unstable();
    let groups: Vec<i64> = times.iter().map(|_| 101 + dice.below(7) as i64).collect();
    let users: Vec<i64> = times.iter().map(|_| dice.below(300) as i64).collect();
    let in_projects: Vec<i64> = times.iter().map(|_| dice.one_of(&[1, 1, 2])).collect();
    let titles: Vec<String> = groups.iter().map(|g| format!("Err {g}")).collect();
    let emails: Vec<String> = users.iter().map(|u| format!("user{u}@example.com")).collect();
    let mut choose = |choices: &[&'static str]| -> Vec<&'static str> { (0..count).map(|_| dice.one_of(choices)).collect() };
    let (levels, environments) = (choose(&["error", "fatal", "warning"]), choose(&["production", "staging", ""]));
    let (releases, messages) = (choose(&["app@2.1.0", "app@2.0.0", "app@1.9.0"]), choose(&["Connection reset by peer", "boom", "timeout"]));
    let transactions = choose(&["/a", "/b", "/checkout", "/d", "/e", "/f", "/g"]);
    let (browsers, systems, functions) = (choose(&["Chrome", "Firefox"]), choose(&["mac", "win"]), choose(&["charge_card", "main"]));
    let unhandled: BooleanArray = (0..count).map(|_| Some(dice.below(2) == 0)).collect();
    let numbers = || 0..count as u64;
    let mut columns = Columns::from(projects(&in_projects));
    columns.extend([
        ("received", ms(&times)),
        ("timestamp", ms(&times)),
        ("event_id", ids(numbers().map(|n| Some(id(EVENT, n))))),
        ("group_id", Arc::new(Int64Array::from(groups.clone())) as ArrayRef),
        ("primary_hash", ids(groups.iter().map(|g| Some(id(HASH, *g as u64))))),
        ("trace_id", ids(numbers().map(|n| Some(id(TRACE, n % 500))))),
        ("level", texts(levels.into_iter())),
        ("environment", Arc::new(environments.into_iter().map(|e| (!e.is_empty()).then_some(e)).collect::<StringArray>()) as ArrayRef),
        ("release", texts(releases.into_iter())),
        ("title", texts(titles.iter().map(String::as_str))),
        ("message", texts(messages.into_iter())),
        ("transaction_name", texts(transactions.into_iter())),
        ("user_hash", Arc::new(Int64Array::from(users)) as ArrayRef),
        ("user_email", texts(emails.iter().map(String::as_str))),
        ("unhandled", Arc::new(unhandled) as ArrayRef),
        ("tags", maps(browsers.into_iter().zip(systems).map(|(b, s)| vec![("browser.name", b), ("os", s)]))),
        ("frames", frames(table, &functions)),
        ("type", texts((0..count).map(|_| "error"))),
        ("platform", texts((0..count).map(|_| "python"))),
    ]);
    filled(table, count, columns)
}

/// Spans of a day, in their order of time.
pub fn spans(table: &Table, count: usize) -> Result<RecordBatch> {
    let mut dice = Dice::new(11);
    let mut ends: Vec<i64> = (0..count).map(|_| (MIDNIGHT_MS - DAY_MS / 2) * 1000 + (dice.unit() * (DAY_MS * 1000) as f64) as i64).collect();
    ends.sort_unstable();
    let durations: Vec<f64> = ends.iter().map(|_| (5.5 + dice.normal()).exp()).collect();
    let in_projects: Vec<i64> = ends.iter().map(|_| dice.one_of(&[1, 2])).collect();
    let mut choose = |choices: &[&'static str]| -> Vec<&'static str> { (0..count).map(|_| dice.one_of(choices)).collect() };
    let (ops, statuses) = (choose(&["http.server", "db.query", "http.client"]), choose(&["ok", "ok", "internal_error", "cancelled"]));
    let transactions = choose(&["/checkout", "/a", "cron.nightly"]);
    let users: Int64Array = (0..count).map(|_| Some(dice.below(200) as i64)).collect();
    let span_ids: Vec<String> = (0..count).map(|n| format!("{n:016x}")).collect();
    let descriptions: Vec<String> = (0..count).map(|n| format!("SELECT {}", n % 20)).collect();
    let received: Vec<i64> = ends.iter().map(|end| end / 1000).collect();
    let starts = ends.iter().zip(&durations).map(|(end, ms)| end - (ms * 1000.0) as i64);
    let mut columns = Columns::from(projects(&in_projects));
    columns.extend([
        ("received", ms(&received)),
        ("trace_id", ids((0..count as u64).map(|n| Some(id(TRACE, n % 500))))),
        ("span_id", texts(span_ids.iter().map(String::as_str))),
        ("segment_id", texts(span_ids.iter().map(String::as_str))),
        ("is_segment", Arc::new((0..count).map(|n| Some(n % 4 == 0)).collect::<BooleanArray>()) as ArrayRef),
        ("op", texts(ops.into_iter())),
        ("description", texts(descriptions.iter().map(String::as_str))),
        ("status", texts(statuses.into_iter())),
        ("start_ts", us(starts)),
        ("end_ts", us(ends.iter().copied())),
        ("duration_ms", Arc::new(Float64Array::from(durations.clone())) as ArrayRef),
        ("exclusive_ms", Arc::new(durations.iter().map(|d| Some(d / 2.0)).collect::<Float64Array>()) as ArrayRef),
        ("transaction_name", texts(transactions.into_iter())),
        ("user_hash", Arc::new(users) as ArrayRef),
        ("sample_weight", Arc::new(Float64Array::from(vec![8.0; count])) as ArrayRef),
    ]);
    filled(table, count, columns)
}

/// The other tables, which do not grow.
pub fn others(table: &Table) -> Result<Option<RecordBatch>> {
    Ok(Some(match table.name {
        "issues" => issues(table)?,
        "logs" => logs(table)?,
        "sessions" => sessions(table)?,
        "uptime_results" => uptime_results(table)?,
        "outcomes" => outcomes(table)?,
        "projects" => filled(table, 2, Columns::from(projects(&[1, 2])).into_iter().chain([("slug", texts(["shop", "billing"].into_iter()))]).collect())?,
        "releases" => {
            let mut columns = Columns::from(projects(&[1, 1]));
            columns.extend([("version", texts(["app@2.1.0", "app@2.0.0"].into_iter())), ("date_added", ms(&[MIDNIGHT_MS - DAY_MS, MIDNIGHT_MS - 9 * DAY_MS]))]);
            filled(table, 2, columns)?
        }
        _ => return Ok(None),
    }))
}

fn issues(table: &Table) -> Result<RecordBatch> {
    let mut dice = Dice::new(13);
    let keys: Vec<(i64, i64)> = [1, 2].into_iter().flat_map(|p| (101..108).map(move |g| (p, g))).collect();
    let titles: Vec<String> = keys.iter().map(|(_, g)| format!("Err {g}")).collect();
    let count = keys.len();
    let mut columns = Columns::from(projects(&keys.iter().map(|k| k.0).collect::<Vec<_>>()));
    columns.extend([
        ("group_id", Arc::new(keys.iter().map(|k| Some(k.1)).collect::<Int64Array>()) as ArrayRef),
        ("title", texts(titles.iter().map(String::as_str))),
        ("status", texts((0..count).map(|_| dice.one_of(&["unresolved", "unresolved", "resolved"])))),
        ("substatus", texts((0..count).map(|_| "new"))),
        ("priority", Arc::new(Int16Array::from(vec![75; count])) as ArrayRef),
        ("first_seen", ms(&keys.iter().map(|(_, g)| MIDNIGHT_MS - g % 20 * 3_600_000).collect::<Vec<_>>())),
        ("times_seen", Arc::new(Int64Array::from(vec![9; count])) as ArrayRef),
        ("first_release", texts((0..count).map(|_| dice.one_of(&["app@2.1.0", "app@2.0.0"])))),
        ("assignee_team_id", Arc::new((0..count).map(|_| dice.one_of(&[None, Some(7)])).collect::<Int64Array>()) as ArrayRef),
    ]);
    filled(table, count, columns)
}

fn logs(table: &Table) -> Result<RecordBatch> {
    let (mut dice, count) = (Dice::new(17), 3000usize);
    let times: Vec<i64> = (0..count).map(|_| MIDNIGHT_MS + ((dice.unit() - 0.5) * 40_000_000.0) as i64).collect();
    let mut choose = |choices: &[&'static str]| -> Vec<&'static str> { (0..count).map(|_| dice.one_of(choices)).collect() };
    let (severities, bodies, services) = (choose(&["info", "error"]), choose(&["timeout x", "ok"]), choose(&["billing", "web"]));
    let mut columns = Columns::from(projects(&vec![1; count]));
    columns.extend([
        ("received", ms(&times)),
        ("timestamp", us(times.iter().map(|t| t * 1000))),
        ("log_id", ids((0..count as u64).map(|n| Some(id(LOG, n))))),
        ("trace_id", ids((0..count as u64).map(|n| Some(id(TRACE, n % 500))))),
        ("severity", texts(severities.into_iter())),
        ("body", texts(bodies.into_iter())),
        ("attrs_str", maps(services.into_iter().map(|s| vec![("service", s)]))),
    ]);
    filled(table, count, columns)
}

fn sessions(table: &Table) -> Result<RecordBatch> {
    let (mut dice, count) = (Dice::new(19), 5000usize);
    let times: Vec<i64> = (0..count).map(|_| MIDNIGHT_MS + ((dice.unit() - 0.5) * 80_000_000.0) as i64).collect();
    let status = |roll: u64| match roll {
        0..95 => "exited",
        95..97 => "crashed",
        _ => "errored",
    };
    let mut columns = Columns::from(projects(&vec![1; count]));
    columns.extend([
        ("received", ms(&times)),
        ("started", ms(&times)),
        ("release", texts((0..count).map(|_| dice.one_of(&["app@2.1.0", "app@2.0.0"])))),
        ("environment", texts((0..count).map(|_| "production"))),
        ("status", texts((0..count).map(|_| status(dice.below(100))))),
        ("user_hash", Arc::new((0..count).map(|_| Some(dice.below(900) as i64)).collect::<Int64Array>()) as ArrayRef),
        ("quantity", Arc::new(Int64Array::from(vec![1; count])) as ArrayRef),
    ]);
    filled(table, count, columns)
}

fn uptime_results(table: &Table) -> Result<RecordBatch> {
    let mut dice = Dice::new(23);
    let checks: Vec<(u64, u64, i64)> = (0..5).flat_map(|m| (0..2).flat_map(move |r| (0..300).map(move |k| (m, r, k)))).collect();
    let count = checks.len();
    let times: Vec<i64> = checks.iter().map(|(_, _, k)| MIDNIGHT_MS - k * 60_000).collect();
    let number = |(m, r, k): &(u64, u64, i64)| m * 10_000 + r * 1_000 + *k as u64;
    let mut columns = Columns::from(projects(&vec![1; count]));
    columns.extend([
        ("received", ms(&times)),
        ("scheduled_at", us(times.iter().map(|t| t * 1000))),
        ("started_at", us(times.iter().map(|t| t * 1000))),
        ("subscription_id", ids(checks.iter().map(|c| Some(id(MONITOR, c.0))))),
        ("check_id", ids(checks.iter().map(|c| Some(id(CHECK, number(c)))))),
        ("trace_id", ids(checks.iter().map(|c| Some(id(TRACE, 1_000_000 + number(c)))))),
        ("region", texts(checks.iter().map(|c| ["us", "eu"][c.1 as usize]))),
        ("status", texts(checks.iter().map(|c| if (c.2 / 5) % 17 == 3 || dice.unit() < 0.01 { "failure" } else { "success" }))),
        ("duration_us", Arc::new((0..count).map(|_| Some(10_000 + dice.below(890_000) as i64)).collect::<Int64Array>()) as ArrayRef),
        ("url", texts((0..count).map(|_| "https://x"))),
    ]);
    filled(table, count, columns)
}

fn outcomes(table: &Table) -> Result<RecordBatch> {
    let count = 4000i64;
    let times: Vec<i64> = (0..count).map(|n| MIDNIGHT_MS - n % 200 * 3_600_000).collect();
    let small = |of: fn(i64) -> i64| Arc::new((0..count).map(|n| Some(of(n) as i16)).collect::<Int16Array>()) as ArrayRef;
    let mut columns = Columns::from(projects(&vec![1; count as usize]));
    columns.extend([
        ("received", ms(&times)),
        ("timestamp", ms(&times)),
        ("category", small(|n| n % 5)),
        ("outcome", small(|n| n % 3)),
        ("quantity", Arc::new((0..count).map(|n| Some(n % 9)).collect::<Int64Array>()) as ArrayRef),
    ]);
    filled(table, count as usize, columns)
}
