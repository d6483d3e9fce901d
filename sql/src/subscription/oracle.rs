//! The oracle: at every tick the maintained rows are those that DataFusion answers over the tables as they are then.
//!
//! Tables, their changes and the queries are made up at random from a seed. `now()` is bound to the tick for DataFusion by writing
//! the edge of the window, moved to the edge of its pane, in its place; quantiles are the same sketches on both sides.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, BooleanArray, FixedSizeBinaryArray, Float64Array, Int16Array, Int64Array, MapBuilder, MapFieldNames, RecordBatch, StringArray, StringBuilder,
    TimestampMicrosecondArray, TimestampMillisecondArray,
};
use datafusion::arrow::compute::{concat_batches, filter_record_batch};
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::physical_plan::collect;
use serde_json::{Map, Value};
use weir_dataflow::snapshot::{Snapshot, TableSnapshot};
use weir_operators::relation::harness::{Answer, Run, Tick, run};
use weir_operators::relation::json::row_object;
use weir_operators::relation::template::TableChanges;
use weir_operators::schema::{self, TableKind};
use weir_protocol::limits::CLOCK_AHEAD_MS;
use weir_protocol::subscription::SubscriptionOptions;

use super::tests::{everything, workload};
use super::{CompiledQuery, Control, Planner, compile};
use crate::engine::EngineOptions;
use crate::session::Sessions;
use crate::tests::filled::filled;

/// Numbers from a seed.
struct Random(u64);

impl Random {
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

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize].clone()
    }

    fn maybe<T>(&mut self, value: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.chance(80).then(|| value(self))
    }
}

const LEVELS: [&str; 5] = ["debug", "info", "warning", "error", "fatal"];
const ENVIRONMENTS: [&str; 3] = ["production", "staging", "qa"];
const RELEASES: [&str; 4] = ["app@1.0", "app@2.0", "app@2.1", "app@3.0"];
const TRANSACTIONS: [&str; 3] = ["/cart", "/pay", "cron.nightly"];

fn texts(rows: usize, mut of: impl FnMut() -> Option<String>) -> ArrayRef {
    Arc::new((0..rows).map(|_| of()).collect::<StringArray>())
}

fn integers(rows: usize, mut of: impl FnMut() -> Option<i64>) -> ArrayRef {
    Arc::new((0..rows).map(|_| of()).collect::<Int64Array>())
}

fn ids(rows: usize, mut of: impl FnMut() -> u64) -> ArrayRef {
    let id = |n: u64| -> [u8; 16] { u128::from(n).to_be_bytes() };
    Arc::new(FixedSizeBinaryArray::try_from_iter((0..rows).map(|_| id(of()))).unwrap())
}

fn regions(rows: usize, random: &mut Random) -> ArrayRef {
    let names = MapFieldNames { entry: "key_value".to_owned(), key: "key".to_owned(), value: "value".to_owned() };
    let mut tags = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new());
    for _ in 0..rows {
        if random.chance(80) {
            tags.keys().append_value("region");
            tags.values().append_value(random.pick(&["eu-1", "eu-2", "us-1"]));
        }
        tags.append(true).unwrap();
    }
    Arc::new(tags.finish())
}

/// Rows of an appended table, received after one tick and until another.
fn events(table: &'static str, rows: usize, after_ms: u64, until_ms: u64, random: &mut Random) -> RecordBatch {
    let received: Vec<i64> = (0..rows).map(|_| (until_ms - random.below((until_ms - after_ms).min(5_000))) as i64).collect();
    let mut columns: BTreeMap<&'static str, ArrayRef> = BTreeMap::new();
    let projects: Vec<i64> = (0..rows).map(|_| 1 + random.below(2) as i64).collect();
    columns.insert("project", Arc::new(projects.iter().map(|id| Some(format!("p{id}"))).collect::<StringArray>()));
    columns.insert("project_id", Arc::new(Int64Array::from(projects)));
    columns.insert("received", Arc::new(TimestampMillisecondArray::from(received.clone())));
    match table {
        "errors" => {
            columns.insert("event_id", ids(rows, || random.next()));
            columns.insert("group_id", integers(rows, || Some(random.below(4) as i64)));
            columns.insert("level", texts(rows, || random.maybe(|r| r.pick(&LEVELS).to_owned())));
            columns.insert("environment", texts(rows, || random.maybe(|r| r.pick(&ENVIRONMENTS).to_owned())));
            columns.insert("release", texts(rows, || random.maybe(|r| r.pick(&RELEASES).to_owned())));
            columns.insert("title", texts(rows, || Some(format!("title {}", random.below(3)))));
            columns.insert("user_hash", integers(rows, || random.maybe(|r| r.below(6) as i64)));
            columns.insert("unhandled", Arc::new((0..rows).map(|_| Some(random.chance(50))).collect::<BooleanArray>()));
            columns.insert("sample_weight", Arc::new((0..rows).map(|_| random.maybe(|r| r.below(1000) as f64 / 8.0 - 20.0)).collect::<Float64Array>()));
            columns.insert("tags", regions(rows, random));
        }
        "spans" => {
            columns.insert("span_id", texts(rows, || Some(format!("{:016x}", random.next()))));
            columns.insert("is_segment", Arc::new((0..rows).map(|_| Some(random.chance(80))).collect::<BooleanArray>()));
            columns.insert("transaction_name", texts(rows, || Some(random.pick(&TRANSACTIONS).to_owned())));
            columns.insert("op", texts(rows, || Some(random.pick(&["http.server", "db"]).to_owned())));
            columns.insert("status", texts(rows, || Some(random.pick(&["ok", "cancelled", "internal_error", "not_found"]).to_owned())));
            columns.insert("duration_ms", Arc::new((0..rows).map(|_| Some(random.below(5_000) as f64)).collect::<Float64Array>()));
            columns.insert("user_hash", integers(rows, || random.maybe(|r| r.below(6) as i64)));
            // What ended long before it was received, and what says to end after that, as far as a clock may be ahead and farther.
            let ended = |received: &i64| (received - random.pick(&[0, 0, 700, 20_000, 400_000, -20_000, -60_000, -60_001, -1_000_000_000])) * 1000;
            columns.insert("end_ts", Arc::new(TimestampMicrosecondArray::from(received.iter().map(ended).collect::<Vec<_>>())));
        }
        "sessions" => {
            columns.insert("release", texts(rows, || Some(random.pick(&RELEASES).to_owned())));
            columns.insert("environment", texts(rows, || random.maybe(|r| r.pick(&ENVIRONMENTS).to_owned())));
            columns.insert("status", texts(rows, || Some(random.pick(&["ok", "crashed", "exited"]).to_owned())));
            columns.insert("quantity", integers(rows, || Some(random.below(900) as i64)));
            columns.insert("user_hash", integers(rows, || random.maybe(|r| r.below(6) as i64)));
        }
        "uptime_results" => {
            columns.insert("check_id", ids(rows, || random.next()));
            columns.insert("subscription_id", ids(rows, || random.below(3)));
            columns.insert("region", texts(rows, || Some(random.pick(&["eu", "us"]).to_owned())));
            columns.insert("status", texts(rows, || Some(random.pick(&["success", "failure"]).to_owned())));
        }
        _ => {
            columns.insert("outcome", Arc::new((0..rows).map(|_| Some(random.below(3) as i16)).collect::<Int16Array>()));
            columns.insert("category", Arc::new((0..rows).map(|_| Some(random.below(3) as i16)).collect::<Int16Array>()));
            columns.insert("quantity", integers(rows, || Some(random.below(5) as i64)));
        }
    }
    filled(schema::table(table).unwrap(), rows, columns).unwrap()
}

/// The row of a key of a table of current state, as it is at a tick.
fn state(table: &'static str, key: i64, tick_ms: u64, random: &mut Random) -> RecordBatch {
    let mut columns: BTreeMap<&'static str, ArrayRef> = BTreeMap::new();
    let project = 1 + key % 2;
    columns.insert("project_id", Arc::new(Int64Array::from(vec![project])));
    columns.insert("project", Arc::new(StringArray::from(vec![format!("p{project}")])));
    columns.insert("received", Arc::new(TimestampMillisecondArray::from(vec![tick_ms as i64])));
    match table {
        "issues" => {
            columns.insert("group_id", Arc::new(Int64Array::from(vec![key / 2])));
            columns.insert("title", Arc::new(StringArray::from(vec![format!("title {}", random.below(3))])));
            columns.insert("status", Arc::new(StringArray::from(vec![random.pick(&["unresolved", "resolved"])])));
            columns.insert("first_release", texts(1, || random.maybe(|r| r.pick(&RELEASES).to_owned())));
            columns.insert("assignee_team_id", integers(1, || random.maybe(|r| 7 + r.below(2) as i64)));
        }
        "releases" => {
            columns.insert("version", Arc::new(StringArray::from(vec![RELEASES[(key / 2) as usize % 4]])));
            // No two are equal: the newest one is one.
            columns.insert("date_added", Arc::new(TimestampMillisecondArray::from(vec![(tick_ms * 16) as i64 + key])));
        }
        _ => {}
    }
    filled(schema::table(table).unwrap(), 1, columns).unwrap()
}

/// What happens to the tables, tick by tick, and what they hold after each.
struct History {
    ticks: Vec<(u64, Vec<TableChanges>)>,
    /// The first tick at which some events are gone: somebody has deleted them.
    deletion: usize,
    /// How many.
    deleted: usize,
    /// The rows of each table after each tick.
    held: Vec<BTreeMap<&'static str, Vec<RecordBatch>>>,
}

const APPENDED: [&str; 5] = ["errors", "spans", "sessions", "uptime_results", "outcomes"];
const CURRENT: [&str; 3] = ["issues", "releases", "projects"];

impl History {
    fn random(ticks: usize, random: &mut Random) -> Self {
        let deletion = ticks / 4 + random.below(ticks as u64 / 2) as usize;
        let mut history = Self { ticks: Vec::new(), deletion, deleted: 0, held: Vec::new() };
        let mut held: BTreeMap<&'static str, Vec<RecordBatch>> = BTreeMap::new();
        let mut states: BTreeMap<(&'static str, i64), RecordBatch> = BTreeMap::new();
        let mut now = 1_760_000_000_000 + random.below(1_000_000);
        for index in 0..ticks {
            if index == deletion {
                for table in APPENDED {
                    for batch in held.get_mut(table).into_iter().flatten() {
                        let keep: BooleanArray = (0..batch.num_rows()).map(|_| Some(random.chance(60))).collect();
                        history.deleted += keep.len() - keep.true_count();
                        *batch = filter_record_batch(batch, &keep).unwrap();
                    }
                }
            }
            let before = now;
            now += random.pick(&[40, 700, 2_000, 15_000, 15_000, 40_000, 200_000, 420_000, 3_500_000, 60_000_000, 604_700_000]) + random.below(10);
            let mut changes = Vec::new();
            for table in APPENDED {
                let rows = if random.chance(70) { random.below(14) as usize } else { 0 };
                if rows > 0 {
                    let batch = events(table, rows, before, now, random);
                    held.entry(table).or_default().push(batch.clone());
                    changes.push(TableChanges { table, batch, differences: None });
                }
            }
            // Rows of appended tables come and stay: where a deletion takes some away, the graph fills its templates anew, as `script` does.
            for table in CURRENT {
                for key in 0..8 {
                    if !random.chance(if table == "projects" { 4 } else { 12 }) || (table == "projects" && key > 1) {
                        continue;
                    }
                    let after = state(table, key, now, random);
                    let mut batches = vec![after.clone()];
                    let mut differences = vec![1];
                    if let Some(before) = states.insert((table, key), after) {
                        batches.push(before);
                        differences.push(-1);
                    }
                    let batch = concat_batches(&batches[0].schema(), &batches).unwrap();
                    changes.push(TableChanges { table, batch, differences: Some(differences.into()) });
                }
                held.insert(table, states.iter().filter(|((of, _), _)| *of == table).map(|(_, row)| row.clone()).collect());
            }
            history.ticks.push((now, changes));
            history.held.push(held.clone());
        }
        history
    }

    /// The tables after a tick.
    fn snapshot(&self, index: usize) -> Snapshot {
        let tables = schema::tables().iter().map(|table| {
            let hot = self.held[index].get(table.name).cloned().unwrap_or_default();
            (table.name, TableSnapshot { hot: hot.into(), cold: Arc::new([]) })
        });
        Snapshot { tick_ms: self.ticks[index].0, tables: tables.collect(), ..Snapshot::default() }
    }

    /// Ticks of which the first begins with all rows that are there after it, as after a restart.
    fn script(&self, from: usize, until: usize) -> Vec<Tick> {
        let mut script: Vec<Tick> =
            self.ticks[from..until].iter().map(|(time, tables)| Tick { time: *time, tables: tables.clone(), parameters: Vec::new() }).collect();
        if from > 0 {
            script[0].tables = self.held[from]
                .iter()
                .flat_map(|(table, batches)| batches.iter().map(|batch| TableChanges { table, batch: batch.clone(), differences: None }))
                .collect();
        }
        script
    }
}

/// A query with its windows marked: `{received:300000}` is the condition of a window of 300 s, `{received:B..A}` of one from `A`
/// until `B` milliseconds ago.
#[derive(Debug, Clone)]
struct Query {
    text: String,
    options: SubscriptionOptions,
}

impl Query {
    fn marked(text: String) -> Self {
        Self { text, options: SubscriptionOptions::default() }
    }

    /// The query as somebody writes it.
    fn live(&self) -> String {
        self.each_window(|column, lower, upper| {
            let upper = if upper == 0 { String::new() } else { format!(" AND {column} <= now() - INTERVAL '{upper} milliseconds'") };
            format!("{column} > now() - INTERVAL '{lower} milliseconds'{upper}")
        })
    }

    /// The same at a tick.
    fn at(&self, tick_ms: u64) -> String {
        self.each_window(|column, lower, upper| {
            let pane = ((lower - upper) / 60).max(20);
            let edge_ms = |age: u64| tick_ms.saturating_sub(age) / pane * pane;
            if column == "end_ts" {
                // As of its receipt where its clock is too far ahead, and not at all where it is later than the window is long.
                let ms = |column: &str| format!("arrow_cast(arrow_cast({column}, 'Timestamp(Millisecond, None)'), 'Int64')");
                let (ended, received) = (ms(column), ms("received"));
                let time = format!("(CASE WHEN {ended} > {received} + {CLOCK_AHEAD_MS} THEN {received} ELSE {ended} END)");
                return format!("{time} >= {} AND {received} <= ({time} / {pane} + 1) * {pane} + {}", edge_ms(lower), lower - upper);
            }
            let edge = |age: u64| format!("arrow_cast({}, 'Timestamp(Millisecond, None)')", edge_ms(age));
            let upper = if upper == 0 { String::new() } else { format!(" AND {column} < {}", edge(upper)) };
            format!("{column} >= {}{upper}", edge(lower))
        })
    }

    fn each_window(&self, of: impl Fn(&str, u64, u64) -> String) -> String {
        let mut text = String::new();
        let mut rest = self.text.as_str();
        while let Some((before, after)) = rest.split_once('{') {
            let (window, behind) = after.split_once('}').unwrap();
            let (column, ages) = window.split_once(':').unwrap();
            let (upper, lower) = ages.split_once("..").unwrap_or(("0", ages));
            text.push_str(before);
            text.push_str(&of(column, lower.parse().unwrap(), upper.parse().unwrap()));
            rest = behind;
        }
        text + rest
    }
}

/// The alerts of the workload with their windows marked.
fn alerts() -> Vec<Query> {
    let marked = workload().into_iter().map(|(_, options, text)| {
        let mut marked = String::new();
        let mut rest = text.as_str();
        while let Some(at) = rest.find("received > now() - INTERVAL '") {
            let start = rest[..at].rfind(|c: char| !c.is_alphanumeric() && c != '.').map_or(0, |i| i + 1);
            let column = &rest[start..at + "received".len()];
            let (interval, behind) = rest[at + "received > now() - INTERVAL '".len()..].split_once('\'').unwrap();
            let lower = super::options::length_ms(interval).unwrap();
            let until = format!(" AND {column} <= now() - INTERVAL '");
            let (upper, behind) = match behind.strip_prefix(until.as_str()) {
                Some(more) => {
                    let (interval, behind) = more.split_once('\'').unwrap();
                    (super::options::length_ms(interval).unwrap(), behind)
                }
                None => (0, behind),
            };
            marked.push_str(&rest[..start]);
            marked.push_str(&if upper == 0 { format!("{{{column}:{lower}}}") } else { format!("{{{column}:{upper}..{lower}}}") });
            rest = behind;
        }
        Query { text: marked + rest, options }
    });
    marked.collect()
}

fn window(random: &mut Random) -> u64 {
    random.pick(&[1_000, 10_000, 60_000, 300_000, 3_600_000, 86_400_000])
}

/// A query of the language, made up.
fn query(random: &mut Random) -> Query {
    let w = window(random);
    let condition = |random: &mut Random| match random.below(12) {
        0 => format!("level = '{}'", random.pick(&LEVELS)),
        1 => format!("environment = '{}' AND level = '{}'", random.pick(&ENVIRONMENTS), random.pick(&LEVELS)),
        2 => format!("level IN ('{}', '{}')", random.pick(&LEVELS), random.pick(&LEVELS)),
        3 => "release LIKE 'app@2.%'".to_owned(),
        4 => "unhandled".to_owned(),
        5 => format!("tags['region'] = '{}'", random.pick(&["eu-1", "us-1"])),
        6 => "user_hash IS NOT NULL AND level <> 'debug'".to_owned(),
        7 => format!("project_id = {} AND sample_weight > {}.5", 1 + random.below(2), random.below(60)),
        8 => format!("release BETWEEN '{}' AND '{}'", RELEASES[0], random.pick(&RELEASES)),
        9 => format!("upper(environment) = 'QA' OR group_id = {}", random.below(4)),
        10 => format!("project_id >= {0} AND project_id <= {0}", 1 + random.below(2)),
        _ => "true".to_owned(),
    };
    let group = random.pick(&[
        "level",
        "environment",
        "environment, release",
        "group_id",
        "coalesce(release, 'none')",
        "tags['region']",
        "project, level",
        "date_bin(INTERVAL '5 minutes', received)",
    ]);
    let aggregate = |random: &mut Random| {
        random.pick(&[
            "count(*)",
            "count(DISTINCT user_hash)",
            "sum(group_id)",
            "sum(sample_weight)",
            "avg(sample_weight)",
            "min(received)",
            "max(title)",
            "count(*) FILTER (WHERE level = 'fatal')",
            "sum(CASE WHEN level = 'fatal' THEN 1 ELSE 0 END)",
            "100.0 * count(*) FILTER (WHERE unhandled) / count(*)",
            "bool_or(unhandled)",
            "bool_and(unhandled)",
            "stddev(sample_weight)",
            "var_pop(sample_weight)",
            "p95(sample_weight)",
            "p50(sample_weight)",
            "percentile(sample_weight, 0.9)",
            "count_if(level = 'error')",
            "count_unique(release)",
            "min(user_hash) + max(group_id)",
            "sum(DISTINCT group_id)",
            "approx_distinct(release)",
        ])
    };
    let from = |random: &mut Random| format!("FROM errors WHERE ({}) AND {{received:{w}}}", condition(random));
    let having = |random: &mut Random| if random.chance(50) { format!(" HAVING count(*) > {}", random.below(6)) } else { String::new() };
    let text = match random.below(19) {
        0..=3 => format!("SELECT {group} AS g, {} AS a, {} AS b {} GROUP BY {group}{}", aggregate(random), aggregate(random), from(random), having(random))
            .replace("SELECT environment, release AS g", "SELECT environment, release")
            .replace("SELECT project, level AS g", "SELECT project, level"),
        4 | 5 => format!("SELECT {} AS a, {} AS b {}{}", aggregate(random), aggregate(random), from(random), having(random)),
        6 => format!("SELECT event_id, level, title, sample_weight * 2 AS w {}", from(random)),
        7 => format!("SELECT DISTINCT environment, level {}", from(random)),
        8 => format!("SELECT 'a' AS k, count(*) AS n {} UNION ALL SELECT 'b' AS k, count(*) AS n {}", from(random), from(random)),
        9 => format!("SELECT level {} UNION SELECT environment {}", from(random), from(random)),
        10 => format!(
            "SELECT release, count(*) AS n {} GROUP BY release ORDER BY n DESC, release LIMIT {} OFFSET {}",
            from(random),
            1 + random.below(3),
            random.below(2)
        ),
        11 => format!(
            "SELECT group_id, event_id, r FROM (SELECT group_id, event_id, row_number() OVER (PARTITION BY group_id ORDER BY received DESC, event_id) AS r {}) t WHERE r {}",
            from(random),
            random.pick(&["<= 2", "= 1", "< 4"])
        ),
        12 => format!(
            "SELECT release, count(*) AS n {} AND {} (SELECT release {} {}) GROUP BY release",
            from(random),
            // Where both sides ask for one release, what is left out of the right side would have decided about nulls.
            random.pick(&["release IN", "release NOT IN", "release = 'app@2.0' AND release NOT IN"]),
            from(random),
            random.pick(&["", "AND release = 'app@2.0'", "AND release <> 'app@1.0'"])
        ),
        13 => format!(
            "SELECT i.title, count(*) AS n, count(DISTINCT e.user_hash) AS u FROM errors e JOIN issues i ON i.project_id = e.project_id AND i.group_id = e.group_id \
             WHERE i.status = '{}' AND {{e.received:{w}}} GROUP BY i.title",
            random.pick(&["unresolved", "resolved"])
        ),
        14 => format!(
            "SELECT i.project_id, i.group_id, i.status FROM issues i WHERE {} EXISTS (SELECT 1 FROM errors e WHERE e.project_id = i.project_id AND e.group_id = i.group_id AND e.level = '{}' AND {{e.received:{w}}})",
            random.pick(&["", "NOT", "i.status = 'resolved' OR"]),
            random.pick(&LEVELS)
        ),
        15 => format!(
            "SELECT a.level, a.n, b.release, b.m FROM (SELECT level, count(*) AS n {} GROUP BY level) a \
             FULL JOIN (SELECT release, count(*) AS m {} GROUP BY release) b ON a.n = b.m",
            from(random),
            from(random)
        ),
        16 | 17 => format!("SELECT transaction_name, count(*) AS n, max(duration_ms) AS d FROM spans WHERE {{end_ts:{w}}} GROUP BY transaction_name"),
        _ => format!(
            "SELECT p.project, count(e.event_id) AS n FROM projects p LEFT JOIN (SELECT project_id, event_id {}) e ON e.project_id = p.project_id GROUP BY p.project",
            from(random)
        ),
    };
    Query::marked(text)
}

/// The same query with other constants, which mostly shares the template.
fn mate(query: &Query, random: &mut Random) -> Query {
    let mut text = String::new();
    for (index, piece) in query.text.split('\'').enumerate() {
        let quoted = index % 2 == 1;
        let same_kind = |of: &[&str]| quoted && of.contains(&piece);
        let other = if same_kind(&LEVELS) {
            random.pick(&LEVELS)
        } else if same_kind(&ENVIRONMENTS) {
            random.pick(&ENVIRONMENTS)
        } else if same_kind(&RELEASES) {
            random.pick(&RELEASES)
        } else if quoted && piece.contains('%') {
            random.pick(&["app@%", "%.0", "app@2.%", "%@3%"])
        } else {
            piece
        };
        text.push_str(if index > 0 { "'" } else { "" });
        text.push_str(other);
    }
    Query { text, options: query.options.clone() }
}

type Rows = Vec<(Map<String, Value>, i64)>;

/// What DataFusion answers.
async fn expected(sessions: &Sessions, history: &History, index: usize, sql: &str) -> Rows {
    let state = sessions.bound(&everything(), Arc::new(history.snapshot(index))).await.unwrap();
    let plan = state.create_logical_plan(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    let plan = state.create_physical_plan(&plan).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    let batches = collect(plan, state.task_ctx()).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    let rows = batches.iter().flat_map(|batch| (0..batch.num_rows()).map(move |row| (row_object(batch, row), 1)));
    sorted(rows.collect())
}

/// What was maintained: the rows that fire.
fn maintained(answer: &Answer, subscription: u64) -> Rows {
    let rows = answer.rows.get(&subscription).into_iter().flatten().filter(|(row, _)| row.fires);
    sorted(rows.map(|(row, count)| (serde_json::from_str(&row.row).unwrap(), *count)).collect())
}

/// In an order in which rows that are nearly equal stand at the same place; equal ones once.
fn sorted(rows: Rows) -> Rows {
    let rounded = |row: &Map<String, Value>| -> String {
        let value = |value: &Value| match value {
            Value::Number(n) if n.is_f64() => format!("{:.3}", n.as_f64().unwrap_or_default() + 0.0),
            other => other.to_string(),
        };
        row.iter().map(|(name, v)| format!("{name}={};", value(v))).collect()
    };
    let mut by_text: BTreeMap<String, (Map<String, Value>, i64)> = BTreeMap::new();
    for (row, count) in rows {
        by_text.entry(rounded(&row)).or_insert((row, 0)).1 += count;
    }
    by_text.into_values().collect()
}

fn nearly(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => (a - b).abs() <= 1e-6 * a.abs().max(b.abs()).max(1.0),
        _ => a == b,
    }
}

fn agree(a: &Rows, b: &Rows) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|((a, n), (b, m))| n == m && a.len() == b.len() && a.iter().zip(b).all(|((k, x), (l, y))| k == l && nearly(x, y)))
}

/// Runs queries over a history and compares at every tick.
async fn compare(seed: u64, ticks: usize, queries: &[Query], planner: &Planner, sessions: &Sessions, random: &mut Random) -> Compared {
    let history = History::random(ticks, random);
    // Those of one shape run in one template, as they would.
    let mut shapes: BTreeMap<[u8; 32], Vec<(u64, CompiledQuery)>> = BTreeMap::new();
    for (id, query) in queries.iter().enumerate() {
        let sql = query.live();
        let compiled = compile(planner, &everything(), &sql, &query.options).unwrap_or_else(|refusal| panic!("{sql}: {refusal}"));
        shapes.entry(compiled.shape).or_default().push((id as u64, compiled));
    }
    let mut wanted = BTreeMap::new();
    for (id, query) in queries.iter().enumerate() {
        for (index, (time, _)) in history.ticks.iter().enumerate() {
            wanted.insert((id as u64, *time), expected(sessions, &history, index, &query.at(*time)).await);
        }
    }
    let mut compared = Compared { deleted: history.deleted, shared: shapes.values().filter(|members| members.len() > 1).count(), ..Compared::default() };
    for members in shapes.values() {
        let restart = 1 + random.below(ticks as u64 - 1) as usize;
        let workers = random.pick(&[1, 1, 1, 2, 4]);
        let end = |from: usize| if from < history.deletion { history.deletion } else { ticks };
        for (from, workers) in [(0, workers), (history.deletion, 1), (restart, 1)] {
            let mut script = history.script(from, end(from));
            // Some come later, and see what is there; some go, and are told nothing more.
            let mut there: BTreeMap<u64, (usize, usize)> = BTreeMap::new();
            for (id, compiled) in members {
                let comes = if random.chance(70) { 0 } else { random.below(script.len() as u64) as usize };
                let goes = if random.chance(85) { script.len() } else { comes + 1 + random.below(script.len() as u64) as usize };
                there.insert(*id, (comes, goes));
                script[comes].parameters.push((compiled.parameters(*id), true));
                if let Some(tick) = script.get_mut(goes) {
                    tick.parameters.push((compiled.parameters(*id), false));
                }
            }
            let run = Run { workers, ..Run::default() };
            let outcome = self::run(&members[0].1.template, &script, run);
            for (at, (time, answer)) in outcome.ticks.iter().enumerate() {
                assert!(answer.failures.is_empty(), "{:?}", answer.failures);
                for (id, compiled) in members {
                    let (comes, goes) = there[id];
                    if at < comes || at >= goes {
                        assert_eq!(maintained(answer, *id), Vec::new(), "who is not there is told nothing");
                        continue;
                    }
                    let (got, want) = (maintained(answer, *id), &wanted[&(*id, *time)]);
                    let query = &queries[*id as usize];
                    assert!(
                        agree(&got, want),
                        "seed {seed}, {workers} workers, from tick {from}, at {time}:\n{}\nmaintained {got:?}\nDataFusion {want:?}\n{}",
                        query.live(),
                        compiled.text
                    );
                    compared.answers += 1;
                }
            }
        }
    }
    for (id, query) in queries.iter().enumerate() {
        compared.directly += compare_directly(seed, id as u64, query, &history, &wanted, planner);
    }
    compared
}

/// What was compared.
#[derive(Debug, Default)]
struct Compared {
    /// Answers of shared templates, with DataFusion's.
    answers: usize,
    /// Answers of templates of their own, with those of shared ones, which are DataFusion's.
    directly: usize,
    /// Templates that several shared.
    shared: usize,
    /// Events that were deleted.
    deleted: usize,
}

/// Compares a query whose constants are parts of its template with what the shared template said.
fn compare_directly(seed: u64, id: u64, query: &Query, history: &History, wanted: &BTreeMap<(u64, u64), Rows>, planner: &Planner) -> usize {
    let sql = query.live();
    let compiled = super::compile::inlined(planner, &everything(), &sql, &query.options).unwrap_or_else(|refusal| panic!("{sql}: {refusal}"));
    assert_eq!((compiled.key.num_columns(), compiled.constants.num_columns()), (0, 0), "{sql}\n{}", compiled.text);
    let mut script = history.script(0, history.deletion);
    script[0].parameters.push((compiled.parameters(id), true));
    let outcome = self::run(&compiled.template, &script, Run::default());
    for (time, answer) in &outcome.ticks {
        let (got, want) = (maintained(answer, id), &wanted[&(id, *time)]);
        assert!(agree(&got, want), "seed {seed}, at {time}, directly:\n{sql}\nmaintained {got:?}\nshared {want:?}\n{}", compiled.text);
    }
    outcome.ticks.len()
}

/// How many histories; each has [`TICKS`] ticks and [`QUERIES`] queries beside the workload.
const HISTORIES: u64 = 10;
const TICKS: usize = 24;
const QUERIES: usize = 24;
/// How many of the queries come a second time, with other constants.
const MATES: usize = 12;
/// The least that one ordinary run compares.
const ANSWERS_MIN: usize = 10_000;

#[allow(clippy::print_stdout, reason = "how much was compared is what a run of this test is asked for")]
fn report(compared: &Compared) {
    println!(
        "{} answers of shared templates are DataFusion's, {} of templates of their own are the same; {} templates were shared, {} events deleted",
        compared.answers, compared.directly, compared.shared, compared.deleted
    );
}

/// `WEIR_ORACLE_SEEDS=FROM..UNTIL` runs other histories than the usual ones: a soak.
#[test]
fn maintained_rows_are_what_datafusion_answers() {
    let seeds = std::env::var("WEIR_ORACLE_SEEDS").ok().and_then(|range| {
        let (from, until) = range.split_once("..")?;
        Some(from.parse().ok()?..until.parse().ok()?)
    });
    let is_soak = seeds.is_some();
    let sessions = Sessions::new(&EngineOptions { parts: 1, ..EngineOptions::default() }, &RuntimeEnv::default(), Control::default());
    let planner = Planner::new(sessions.template().clone()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut compared = Compared::default();
    for seed in seeds.unwrap_or(0..HISTORIES) {
        let mut random = Random(seed);
        let mut queries = alerts();
        queries.extend((0..QUERIES).map(|_| query(&mut random)));
        let mates: Vec<Query> = (0..MATES).map(|_| mate(&random.pick(&queries), &mut random)).collect();
        queries.extend(mates);
        let more = runtime.block_on(compare(seed, TICKS, &queries, &planner, &sessions, &mut random));
        compared.answers += more.answers;
        compared.directly += more.directly;
        compared.shared += more.shared;
        compared.deleted += more.deleted;
    }
    report(&compared);
    assert!(is_soak || compared.answers >= ANSWERS_MIN, "only {} answers were compared", compared.answers);
    assert!(compared.directly > 0 && compared.shared > 0 && compared.deleted > 0, "{compared:?}");
}

#[test]
fn the_tables_of_the_oracle_are_of_the_kinds_that_it_takes_them_for() {
    assert!(APPENDED.iter().all(|name| schema::table(name).is_some_and(|table| table.kind == TableKind::Appended)));
    assert!(CURRENT.iter().all(|name| schema::table(name).is_some_and(|table| table.kind == TableKind::Current)));
}
