//! One operator at a time.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::super::harness::{Answer, Outcome, Run, Tick, run};
use super::super::meter::Quotas;
use super::super::plan::{Aggregate, AggregateFunction, Join, JoinKind, Map, Node, Order, Reduce, Relation, Scan, TopK, Universe, Window};
use super::super::render::RenderOptions;
use super::super::template::{Finish, Parameters, TableChanges, Template};
use super::expressions::{E, V, array, column, int};

const TABLE: &str = "numbers";

pub(super) fn schema(fields: &[(&str, DataType)]) -> SchemaRef {
    Arc::new(Schema::new(fields.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), true)).collect::<Vec<_>>()))
}

fn ints(names: &[&str]) -> SchemaRef {
    schema(&names.iter().map(|name| (*name, DataType::Int64)).collect::<Vec<_>>())
}

fn int_batch(schema: &SchemaRef, rows: &[&[i64]]) -> RecordBatch {
    let columns = (0..schema.fields().len()).map(|column| array(&rows.iter().map(|row| V::I(row[column])).collect::<Vec<_>>(), &DataType::Int64));
    super::super::codec::batch_of(schema, columns.collect(), rows.len())
}

/// Table `numbers(k, v, t)`.
fn scan(window: Option<Window>) -> Relation {
    let columns = (0..3).map(|index| column(index).int()).collect();
    Relation { node: Node::Scan(Scan { table: TABLE, table_columns: vec![0, 1, 2], filter: Vec::new(), columns, window }), schema: ints(&["k", "v", "t"]) }
}

fn window(lower_ms: u64, upper_ms: u64, pane_ms: u64) -> Window {
    Window { time: column(2).int(), lower_ms, upper_ms, pane_ms, lateness_ms: None, received: None }
}

fn changes(rows: &[(&[i64], i64)]) -> TableChanges {
    let values: Vec<&[i64]> = rows.iter().map(|(row, _)| *row).collect();
    TableChanges {
        table: TABLE,
        batch: int_batch(&ints(&["k", "v", "t"]), &values),
        differences: Some(rows.iter().map(|(_, difference)| *difference).collect()),
    }
}

fn tick(time: u64, rows: &[(&[i64], i64)]) -> Tick {
    Tick { time, tables: if rows.is_empty() { vec![] } else { vec![changes(rows)] }, parameters: vec![] }
}

/// All columns of a relation, for every subscription of a key, firing where `fires` says so.
fn template(relation: Relation, parameter_keys: usize, fires: E) -> Arc<Template> {
    let width = relation.schema.fields().len();
    let columns = (0..width).map(|index| column(index).typed(relation.schema.field(index).data_type().clone())).collect();
    let finish = Finish {
        columns,
        schema: Arc::clone(&relation.schema),
        key: vec![],
        key_schema: ints(&[]),
        fires: fires.boolean(),
        holds: None,
        escalates: None,
        project: None,
    };
    Arc::new(Template { relation, parameter_keys, constants: ints(&["limit"]), finish })
}

fn always() -> E {
    E::Literal(V::B(true))
}

fn parameters(subscription: u64, key: &[i64], limit: i64) -> Parameters {
    let names = ["a", "b", "c"];
    Parameters { subscription, key: int_batch(&ints(&names[..key.len()]), &[key]), constants: int_batch(&ints(&["limit"]), &[&[limit]]) }
}

fn subscribed(mut script: Vec<Tick>, subscriptions: &[(u64, &[i64], i64)]) -> Vec<Tick> {
    script[0].parameters = subscriptions.iter().map(|(id, key, limit)| (parameters(*id, key, *limit), true)).collect();
    script
}

/// Runs on 1, 2 and 4 workers, tick by tick and pipelined, which must agree.
pub(super) fn run_all(template: &Arc<Template>, script: &[Tick]) -> Outcome {
    let first = run(template, script, Run::default());
    for (workers, pipelined) in [(1, true), (2, false), (2, true), (4, false)] {
        let other = run(template, script, Run { workers, pipelined, ..Run::default() });
        assert_eq!(first.ticks, other.ticks, "with {workers} workers, pipelined: {pipelined}");
    }
    first
}

fn rows(answer: &Answer, subscription: u64) -> Vec<(String, i64)> {
    answer.rows.get(&subscription).into_iter().flatten().map(|(row, count)| (row.row.clone(), *count)).collect()
}

fn answers(outcome: &Outcome, subscription: u64) -> Vec<Vec<(String, i64)>> {
    outcome.ticks.iter().map(|(_, answer)| rows(answer, subscription)).collect()
}

fn aggregate(function: AggregateFunction, argument: Option<usize>) -> Aggregate {
    Aggregate { function, argument, filter: None, distinct: false }
}

fn count_by_key(window: Option<Window>, universe: Universe) -> Relation {
    let keys = usize::from(universe != Universe::One);
    let reduce = Reduce { input: Box::new(scan(window)), keys, aggregates: vec![aggregate(AggregateFunction::Count, None)], universe };
    Relation { node: Node::Reduce(reduce), schema: if keys == 1 { ints(&["k", "n"]) } else { ints(&["n"]) } }
}

fn text(rows: &[(&str, i64)]) -> Vec<(String, i64)> {
    rows.iter().map(|(row, count)| ((*row).to_owned(), *count)).collect()
}

#[test]
fn rows_come_and_go_for_those_who_ask_for_their_key() {
    let script = vec![tick(10, &[(&[1, 5, 0], 1), (&[2, 6, 0], 1)]), tick(20, &[(&[1, 5, 0], 1)]), tick(30, &[(&[1, 5, 0], -2), (&[1, 9, 0], 1)])];
    let script = subscribed(script, &[(7, &[1], 0), (8, &[2], 0), (9, &[3], 0)]);
    let outcome = run_all(&template(scan(None), 1, always()), &script);
    let row = r#"{"k":1,"v":5,"t":0}"#;
    let sorted = |row: &str| serde_json::from_str::<serde_json::Value>(row).unwrap().to_string();
    assert_eq!(answers(&outcome, 7), [vec![(sorted(row), 1)], vec![(sorted(row), 2)], vec![(sorted(r#"{"k":1,"v":9,"t":0}"#), 1)]]);
    assert_eq!(rows(&outcome.ticks[2].1, 8), [(sorted(r#"{"k":2,"v":6,"t":0}"#), 1)]);
    assert!(rows(&outcome.ticks[2].1, 9).is_empty());
}

#[test]
fn a_sliding_count_leaves_at_the_end_of_its_pane_without_input() {
    let script = vec![tick(1000, &[(&[1, 0, 1000], 1), (&[1, 0, 1003], 1)]), tick(1059, &[]), tick(1069, &[]), tick(1070, &[]), tick(2000, &[])];
    let script = subscribed(script, &[(7, &[1], 0)]);
    // Pane 100 is [1000, 1010): it leaves at 1010 + 60.
    let outcome = run_all(&template(count_by_key(Some(window(60, 0, 10)), Universe::Rows), 1, always()), &script);
    let two = text(&[(r#"{"k":1,"n":2}"#, 1)]);
    assert_eq!(answers(&outcome, 7), [two.clone(), two.clone(), two, vec![], vec![]]);
}

#[test]
fn a_count_that_a_tick_both_lowers_and_raises_changes_once() {
    let script = vec![tick(1000, &[(&[1, 0, 1000], 1)]), tick(1200, &[(&[1, 0, 1190], 1)])];
    let script = subscribed(script, &[(7, &[1], 0)]);
    let outcome = run(&template(count_by_key(Some(window(100, 0, 10)), Universe::Rows), 1, always()), &script, Run::default());
    assert_eq!(answers(&outcome, 7)[1], text(&[(r#"{"k":1,"n":1}"#, 1)]));
    assert_eq!(outcome.changes.get(&1200), None, "what leaves and comes at one tick is no change");
}

#[test]
fn an_upper_bound_keeps_rows_back() {
    let script = vec![tick(1000, &[(&[1, 0, 995], 1)]), tick(1049, &[]), tick(1050, &[]), tick(1099, &[]), tick(1100, &[])];
    let script = subscribed(script, &[(7, &[1], 0)]);
    // Pane 99 ends at 1000: in from 1050 to before 1100.
    let reduced = run_all(&template(count_by_key(Some(window(100, 50, 10)), Universe::Rows), 1, always()), &script);
    let present = |outcome: &Outcome| answers(outcome, 7).iter().map(|rows| rows.len()).collect::<Vec<_>>();
    assert_eq!(present(&reduced), [0, 0, 1, 1, 0]);
    let of_rows = run_all(&template(scan(Some(window(100, 50, 10))), 1, always()), &script);
    assert_eq!(present(&of_rows), [0, 0, 1, 1, 0]);
}

#[test]
fn the_one_group_and_the_groups_of_subscriptions_are_there_without_rows() {
    let script = subscribed(vec![tick(10, &[]), tick(20, &[(&[1, 0, 20], 1)])], &[(7, &[], 0)]);
    let outcome = run_all(&template(count_by_key(None, Universe::One), 0, always()), &script);
    assert_eq!(answers(&outcome, 7), [text(&[(r#"{"n":0}"#, 1)]), text(&[(r#"{"n":1}"#, 1)])]);
    let mut script = subscribed(vec![tick(10, &[]), tick(20, &[(&[1, 0, 20], 1)]), tick(30, &[])], &[(7, &[1], 0), (8, &[2], 0)]);
    script[2].parameters = vec![(parameters(8, &[2], 0), false), (parameters(9, &[1], 5), true)];
    let outcome = run_all(&template(count_by_key(None, Universe::Parameters(vec![0])), 1, always()), &script);
    assert_eq!(answers(&outcome, 7), [text(&[(r#"{"k":1,"n":0}"#, 1)]), text(&[(r#"{"k":1,"n":1}"#, 1)]), text(&[(r#"{"k":1,"n":1}"#, 1)])]);
    assert_eq!(answers(&outcome, 8), [text(&[(r#"{"k":2,"n":0}"#, 1)]), text(&[(r#"{"k":2,"n":0}"#, 1)]), vec![]]);
    assert_eq!(answers(&outcome, 9)[2], text(&[(r#"{"k":1,"n":1}"#, 1)]), "who subscribes sees what is there");
}

#[test]
fn conditions_compare_with_the_constants_and_hold_until_resolved() {
    let relation = count_by_key(None, Universe::Rows);
    let mut plan = Template::clone(&template(relation, 1, int(0).less(column(1))));
    // n > limit fires, n > 1 holds, n > 3 escalates.
    plan.finish.fires = column(2).less(column(1)).boolean();
    plan.finish.holds = Some(int(1).less(column(1)).boolean());
    plan.finish.escalates = Some(int(3).less(column(1)).boolean());
    plan.finish.key = vec![column(0).int()];
    plan.finish.key_schema = ints(&["k"]);
    let one: (&[i64], i64) = (&[1, 0, 0], 1);
    let script = vec![tick(10, &[one]), tick(20, &[one, one]), tick(30, &[one]), tick(40, &[(&[1, 0, 0], -2)])];
    let outcome = run_all(&Arc::new(plan), &subscribed(script, &[(7, &[1], 2)]));
    let flags: Vec<Vec<(bool, bool, String)>> = outcome
        .ticks
        .iter()
        .map(|(_, answer)| answer.rows.get(&7).into_iter().flat_map(|rows| rows.keys().map(|row| (row.fires, row.escalates, row.key.clone()))).collect())
        .collect();
    let key = r#"{"k":1}"#.to_owned();
    assert_eq!(flags, [vec![], vec![(true, false, key.clone())], vec![(true, true, key.clone())], vec![(false, false, key)]]);
}

#[test]
fn a_row_that_fails_is_told_to_whose_it_is_and_disturbs_nobody() {
    let mut relation = scan(Some(window(100, 0, 10)));
    let Node::Scan(plan) = &mut relation.node else { unreachable!() };
    plan.columns[1] = int(10).divided_by(column(1)).int();
    let script = vec![tick(1000, &[(&[1, 0, 1000], 1), (&[1, 5, 1000], 1), (&[2, 2, 1000], 1)]), tick(1109, &[]), tick(1110, &[])];
    let script = subscribed(script, &[(7, &[1], 0), (8, &[2], 0)]);
    let outcome = run_all(&template(relation, 1, always()), &script);
    assert_eq!(answers(&outcome, 7)[0].len(), 1);
    assert_eq!(answers(&outcome, 8)[0].len(), 1);
    let failures = |tick: usize| outcome.ticks[tick].1.failures.keys().map(|failure| (failure.subscription, failure.message.clone())).collect::<Vec<_>>();
    assert_eq!(failures(0), [(Some(7), "division by zero".to_owned())]);
    assert_eq!(failures(1), failures(0));
    assert_eq!(failures(2), [], "it ends when its row leaves the window");
}

#[test]
fn a_panic_of_an_expression_is_a_failure() {
    let mut relation = scan(None);
    let Node::Scan(plan) = &mut relation.node else { unreachable!() };
    plan.filter = vec![E::Panic(Box::new(column(1).equal(int(3)))).and(always()).boolean()];
    let script = subscribed(vec![tick(10, &[(&[1, 3, 0], 1), (&[1, 4, 0], 1)]), tick(20, &[(&[1, 3, 0], -1)])], &[(7, &[1], 0)]);
    let outcome = run_all(&template(relation, 1, always()), &script);
    let failures: Vec<String> = outcome.ticks[0].1.failures.keys().map(|failure| failure.message.clone()).collect();
    assert_eq!(failures, ["the expression panicked: asked to"]);
    assert!(outcome.ticks[1].1.failures.is_empty());
}

#[test]
fn a_sum_that_overflows_is_a_failure_of_its_group_alone() {
    let reduce = Reduce { input: Box::new(scan(None)), keys: 1, aggregates: vec![aggregate(AggregateFunction::Sum, Some(1))], universe: Universe::Rows };
    let relation = Relation { node: Node::Reduce(reduce), schema: ints(&["k", "s"]) };
    let script = vec![tick(10, &[(&[1, i64::MAX, 0], 1), (&[2, i64::MAX, 0], 1)]), tick(20, &[(&[1, 1, 0], 1)]), tick(30, &[(&[1, 1, 0], -1)])];
    let outcome = run_all(&template(relation, 1, always()), &subscribed(script, &[(7, &[1], 0), (8, &[2], 0)]));
    let failing = |tick: usize| outcome.ticks[tick].1.failures.keys().map(|failure| failure.subscription).collect::<Vec<_>>();
    assert_eq!([failing(0), failing(1), failing(2)], [vec![], vec![Some(7)], vec![]]);
    assert_eq!(answers(&outcome, 7).iter().map(Vec::len).collect::<Vec<_>>(), [1, 0, 1]);
    assert_eq!(answers(&outcome, 8)[1].len(), 1);
}

#[test]
fn a_failure_of_a_condition_is_the_subscription_s_own() {
    let relation = count_by_key(None, Universe::Rows);
    // 10 / limit < n
    let fires = int(10).divided_by(column(2)).less(column(1));
    let script = subscribed(vec![tick(10, &[(&[1, 0, 0], 1)])], &[(7, &[1], 0), (8, &[1], 100)]);
    let outcome = run_all(&template(relation, 1, fires), &script);
    let failing: Vec<_> = outcome.ticks[0].1.failures.keys().map(|failure| failure.subscription).collect();
    assert_eq!(failing, [Some(7)]);
    assert_eq!(rows(&outcome.ticks[0].1, 8).len(), 1);
}

#[test]
fn late_rows_are_counted_and_left_out() {
    let mut edges = window(1000, 0, 10);
    edges.lateness_ms = Some(50);
    let script = vec![tick(1000, &[(&[1, 0, 939], 1), (&[1, 0, 940], 1), (&[1, 0, 2000], 1)])];
    let outcome = run_all(&template(count_by_key(Some(edges.clone()), Universe::Rows), 1, always()), &subscribed(script, &[(7, &[1], 0)]));
    assert_eq!(answers(&outcome, 7)[0], text(&[(r#"{"k":1,"n":2}"#, 1)]));
    assert_eq!(outcome.ticks[0].1.late, 1);
    // The time of receipt decides, not the tick: what was in time then is in time when it is read again.
    edges.received = Some(column(1).int());
    let script = vec![tick(1000, &[(&[1, 989, 930], 1), (&[1, 991, 930], 1)])];
    let outcome = run_all(&template(count_by_key(Some(edges), Universe::Rows), 1, always()), &subscribed(script, &[(7, &[1], 0)]));
    assert_eq!(answers(&outcome, 7)[0], text(&[(r#"{"k":1,"n":1}"#, 1)]));
    assert_eq!(outcome.ticks[0].1.late, 1);
}

#[test]
fn a_row_of_a_clock_that_is_far_ahead_counts_as_of_its_receipt() {
    // `v` is when it was received; the clock may be a minute ahead.
    let edges = Window { lateness_ms: Some(50), received: Some(column(1).int()), ..window(60, 0, 10) };
    let far = [1, 1000, 253_402_300_799_999];
    let script = vec![tick(1000, &[(&far, 1), (&[1, 1000, 61_001], 1), (&[1, 1000, 61_000], 1)]), tick(1069, &[]), tick(1070, &[]), tick(61_069, &[])];
    let script = [script, vec![tick(61_070, &[])]].concat();
    for universe in [Universe::Rows, Universe::Parameters(vec![0])] {
        let outcome = run_all(&template(count_by_key(Some(edges.clone()), universe), 1, always()), &subscribed(script.clone(), &[(7, &[1], 0)]));
        let counts: Vec<i64> = outcome.ticks.iter().map(|(_, answer)| count_of(answer)).collect();
        assert_eq!(counts, [3, 3, 1, 1, 0]);
    }
    let of_rows = run_all(&template(scan(Some(edges.clone())), 1, always()), &subscribed(script.clone(), &[(7, &[1], 0)]));
    assert_eq!(answers(&of_rows, 7).iter().map(Vec::len).collect::<Vec<_>>(), [3, 3, 1, 1, 0]);
    // Rows that fail leave like others.
    let mut failing = scan(Some(edges));
    let Node::Scan(of_failing) = &mut failing.node else { unreachable!() };
    of_failing.filter = vec![int(6).divided_by(column(0)).less(int(9)).boolean()];
    let script = vec![tick(1000, &[(&[0, 1000, far[2]], 1)]), tick(1069, &[]), tick(1070, &[])];
    let outcome = run_all(&template(failing, 0, always()), &subscribed(script, &[(7, &[], 0)]));
    assert_eq!(outcome.ticks.iter().map(|(_, answer)| answer.failures.len()).collect::<Vec<_>>(), [1, 1, 0]);
}

/// The count that subscription 7 of [`count_by_key`] sees.
fn count_of(answer: &Answer) -> i64 {
    let of_row = |row: &str| serde_json::from_str::<serde_json::Value>(row).unwrap()["n"].as_i64().unwrap();
    rows(answer, 7).first().map_or(0, |(row, _)| of_row(row))
}

fn reduced(function: AggregateFunction, argument: DataType, output: DataType, distinct: bool, values: &[V]) -> String {
    let input = Relation {
        node: Node::Values(super::twin::batch(&schema(&[("v", argument.clone())]), &values.iter().map(|value| vec![value.clone()]).collect::<Vec<_>>())),
        schema: schema(&[("v", argument)]),
    };
    let aggregates = vec![Aggregate { function, argument: Some(0), filter: None, distinct }];
    let reduce = Reduce { input: Box::new(input), keys: 0, aggregates, universe: Universe::One };
    let relation = Relation { node: Node::Reduce(reduce), schema: schema(&[("r", output)]) };
    let outcome = run_all(&template(relation, 0, always()), &subscribed(vec![tick(10, &[])], &[(7, &[], 0)]));
    let answer = &outcome.ticks[0].1;
    let failures = answer.failures.keys().map(|failure| failure.message.clone());
    rows(answer, 7).into_iter().map(|(row, _)| row).chain(failures).collect()
}

#[test]
fn aggregates_of_floats() {
    let floats = |values: &[f64]| values.iter().map(|value| V::F(*value)).chain([V::Null]).collect::<Vec<_>>();
    let of = |function, values: &[f64]| reduced(function, DataType::Float64, DataType::Float64, false, &floats(values));
    let variance = |sample, root| AggregateFunction::Variance { sample, root };
    assert_eq!(of(AggregateFunction::Sum, &[0.1, 1e18, 0.2, -1e18]), r#"{"r":0.30000000000000004}"#);
    assert_eq!(of(AggregateFunction::Average, &[1.0, 2.0]), r#"{"r":1.5}"#);
    assert_eq!(of(AggregateFunction::Sum, &[]), r#"{"r":null}"#);
    assert_eq!(of(AggregateFunction::Sum, &[1.0, f64::NAN]), r#"{"r":"NaN"}"#);
    assert_eq!(of(AggregateFunction::Sum, &[1.0, f64::INFINITY]), r#"{"r":"Infinity"}"#);
    assert_eq!(of(AggregateFunction::Average, &[f64::NEG_INFINITY, f64::INFINITY]), r#"{"r":"NaN"}"#);
    assert!(of(AggregateFunction::Sum, &[1e300]).contains("too large"));
    assert_eq!(of(variance(false, false), &[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]), r#"{"r":4.0}"#);
    assert_eq!(of(variance(false, true), &[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]), r#"{"r":2.0}"#);
    assert_eq!(of(variance(true, false), &[1e12, 1e12 + 1.0, 1e12 + 2.0]), r#"{"r":1.0}"#);
    assert_eq!(of(variance(true, false), &[3.0]), r#"{"r":null}"#);
    assert_eq!(of(AggregateFunction::Maximum, &[1.0, f64::NAN, 3.0]), r#"{"r":"NaN"}"#);
}

#[test]
fn aggregates_of_other_types() {
    let of_ints = |function, output, distinct| reduced(function, DataType::Int64, output, distinct, &[V::I(3), V::I(3), V::I(-1), V::Null]);
    assert_eq!(of_ints(AggregateFunction::Sum, DataType::Int64, false), r#"{"r":5}"#);
    assert_eq!(of_ints(AggregateFunction::Sum, DataType::Int64, true), r#"{"r":2}"#);
    assert_eq!(of_ints(AggregateFunction::Average, DataType::Float64, false), r#"{"r":1.6666666666666667}"#);
    assert_eq!(of_ints(AggregateFunction::Average, DataType::Float64, true), r#"{"r":1.0}"#);
    assert_eq!(of_ints(AggregateFunction::Count, DataType::Int64, false), r#"{"r":3}"#);
    assert_eq!(of_ints(AggregateFunction::Count, DataType::Int64, true), r#"{"r":2}"#);
    assert_eq!(of_ints(AggregateFunction::Minimum, DataType::Int64, false), r#"{"r":-1}"#);
    let of_text = |function, output, distinct| {
        let long = "a name that is longer than sixteen bytes";
        let values = ["b", long, "a", long].map(|text| V::S(text.to_owned()));
        reduced(function, DataType::Utf8, output, distinct, &values)
    };
    assert_eq!(of_text(AggregateFunction::Minimum, DataType::Utf8, false), r#"{"r":"a"}"#);
    assert_eq!(of_text(AggregateFunction::Count, DataType::Int64, true), r#"{"r":3}"#);
    let of_flags = |function, values: &[V]| reduced(function, DataType::Boolean, DataType::Boolean, false, values);
    assert_eq!(of_flags(AggregateFunction::BoolAnd, &[V::B(true), V::Null]), r#"{"r":true}"#);
    assert_eq!(of_flags(AggregateFunction::BoolAnd, &[V::B(true), V::B(false)]), r#"{"r":false}"#);
    assert_eq!(of_flags(AggregateFunction::BoolOr, &[V::B(false), V::B(true)]), r#"{"r":true}"#);
    assert_eq!(of_flags(AggregateFunction::BoolOr, &[V::Null]), r#"{"r":null}"#);
}

#[test]
fn what_cannot_be_maintained_is_refused_before_anything_is_built() {
    let reduce = Reduce { input: Box::new(scan(None)), keys: 1, aggregates: vec![aggregate(AggregateFunction::BoolOr, Some(1))], universe: Universe::Rows };
    let relation = Relation { node: Node::Reduce(reduce), schema: schema(&[("k", DataType::Int64), ("b", DataType::Boolean)]) };
    let refused = super::super::check(&template(relation, 1, always())).unwrap_err();
    assert_eq!(refused.to_string(), "aggregate b: its argument is not a boolean");
    let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    let mut relation = scan(None);
    relation.schema = schema(&[("k", dictionary), ("v", DataType::Int64), ("t", DataType::Int64)]);
    let refused = super::super::check(&template(relation, 1, always())).unwrap_err();
    assert!(refused.to_string().contains("column k of type Dictionary(Int32, Utf8) cannot be compared"), "{refused}");
}

#[test]
fn a_plan_that_is_wrong_about_nulls_stops_nothing() {
    let strict = |names: &[&str]| Arc::new(Schema::new(names.iter().map(|name| Field::new(*name, DataType::Int64, false)).collect::<Vec<_>>()));
    let mut relation = join(JoinKind::Left);
    relation.schema = strict(&["k", "l", "rk", "r"]);
    let Node::Join(plan) = &mut relation.node else { unreachable!() };
    plan.left.schema = strict(&["k", "l"]);
    let script = subscribed(vec![tick(10, &[(&[1, 10, 0], 1)])], &[(7, &[1], 0)]);
    let mut plan = Template::clone(&template(relation, 1, always()));
    let outcome = run_all(&Arc::new(plan.clone()), &script);
    let failures: Vec<_> = outcome.ticks[0].1.failures.keys().map(|failure| (failure.subscription, failure.message.clone())).collect();
    assert_eq!(failures, [(Some(7), "rk is null".to_owned())], "an answer keeps to its schema");
    plan.finish.schema = ints(&["k", "l", "rk", "r"]);
    assert_eq!(answers(&run_all(&Arc::new(plan), &script), 7)[0].len(), 1);
}

#[test]
fn of_a_window_only_what_matters_is_kept() {
    // Rows are only added to this table: an extreme is kept once a pane, a distinct value once.
    let of = |function, distinct| {
        let mut input = scan(Some(window(1_000, 0, 10)));
        let Node::Scan(plan) = &mut input.node else { unreachable!() };
        plan.table = "errors";
        let aggregates = vec![Aggregate { function, argument: Some(1), filter: None, distinct }];
        let reduce = Reduce { input: Box::new(input), keys: 1, aggregates, universe: Universe::Rows };
        let relation = Relation { node: Node::Reduce(reduce), schema: ints(&["k", "r"]) };
        let rows: Vec<Vec<i64>> = (0..1_000).map(|row| vec![1, row % 100, 1_000 + row % 30]).collect();
        let rows: Vec<(&[i64], i64)> = rows.iter().map(|row| (row.as_slice(), 1)).collect();
        let mut script = vec![tick(1_030, &rows), tick(2_010, &[]), tick(2_020, &[]), tick(2_030, &[])];
        script[0].tables[0].table = "errors";
        script[0].tables[0].differences = None;
        run_all(&template(relation, 1, always()), &subscribed(script, &[(7, &[1], 0)]))
    };
    let greatest = of(AggregateFunction::Maximum, false);
    assert_eq!(answers(&greatest, 7).iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 1, 0]);
    assert_eq!(answers(&greatest, 7)[0], text(&[(r#"{"k":1,"r":99}"#, 1)]));
    assert!(greatest.usage.state_bytes < 4_000, "{:?}", greatest.usage);
    let distinct = of(AggregateFunction::Count, true);
    assert_eq!(answers(&distinct, 7)[0], text(&[(r#"{"k":1,"r":100}"#, 1)]));
    assert_eq!(answers(&distinct, 7)[3], []);
}

fn join(kind: JoinKind) -> Relation {
    let left = Relation {
        node: Node::Map(Map { input: Box::new(scan(None)), filter: vec![column(2).equal(int(0)).boolean()], columns: vec![column(0).int(), column(1).int()] }),
        schema: ints(&["k", "l"]),
    };
    let right = Relation {
        node: Node::Map(Map { input: Box::new(scan(None)), filter: vec![column(2).equal(int(1)).boolean()], columns: vec![column(0).int(), column(1).int()] }),
        schema: ints(&["k", "r"]),
    };
    let schema = if matches!(kind, JoinKind::Inner | JoinKind::Left) { ints(&["k", "l", "rk", "r"]) } else { ints(&["k", "l"]) };
    Relation { node: Node::Join(Join { left: Box::new(left), right: Box::new(right), keys: 1, kind }), schema }
}

#[test]
fn joins_of_every_kind() {
    let script = || {
        let script = vec![
            tick(10, &[(&[1, 10, 0], 1), (&[2, 20, 0], 2)]),
            tick(20, &[(&[1, 100, 1], 1), (&[1, 101, 1], 1)]),
            tick(30, &[(&[1, 100, 1], -1), (&[1, 101, 1], -1)]),
        ];
        subscribed(script, &[(7, &[1], 0), (8, &[2], 0)])
    };
    let counts = |kind: JoinKind, subscription: u64| {
        let outcome = run_all(&template(join(kind), 1, always()), &script());
        answers(&outcome, subscription).iter().map(|rows| rows.iter().map(|(_, count)| count).sum::<i64>()).collect::<Vec<_>>()
    };
    assert_eq!(counts(JoinKind::Inner, 7), [0, 2, 0]);
    assert_eq!(counts(JoinKind::Left, 7), [1, 2, 1]);
    assert_eq!(counts(JoinKind::Left, 8), [2, 2, 2]);
    assert_eq!(counts(JoinKind::Semi, 7), [0, 1, 0]);
    assert_eq!(counts(JoinKind::Anti, 7), [1, 0, 1]);
    assert_eq!(counts(JoinKind::Anti, 8), [2, 2, 2]);
}

#[test]
fn the_first_rows_of_each_group() {
    let topk = |numbered| {
        let order = vec![Order { column: 1, descending: true, nulls_first: false }];
        let node = Node::TopK(TopK { input: Box::new(scan(None)), keys: 1, order, offset: 1, limit: 2, numbered });
        let mut fields = vec![("k", DataType::Int64), ("v", DataType::Int64), ("t", DataType::Int64)];
        fields.extend(numbered.then_some(("number", DataType::UInt64)));
        Relation { node, schema: schema(&fields) }
    };
    let script = vec![tick(10, &[(&[1, 9, 0], 1), (&[1, 8, 0], 1), (&[1, 7, 0], 2), (&[2, 1, 0], 1)]), tick(20, &[(&[1, 9, 0], -1)])];
    let outcome = run_all(&template(topk(false), 1, always()), &subscribed(script, &[(7, &[1], 0), (8, &[2], 0)]));
    let values = |tick: usize| {
        let value = |row: &str| serde_json::from_str::<serde_json::Value>(row).unwrap()["v"].as_i64().unwrap();
        rows(&outcome.ticks[tick].1, 7).iter().map(|(row, count)| (value(row), *count)).collect::<Vec<_>>()
    };
    assert_eq!(values(0), [(7, 1), (8, 1)]);
    assert_eq!(values(1), [(7, 2)]);
    assert!(rows(&outcome.ticks[0].1, 8).is_empty());
}

#[test]
fn beyond_a_quota_a_template_halts_and_says_so() {
    let rows: Vec<Vec<i64>> = (0..100).map(|key| vec![key, 0, 1000]).collect();
    let rows: Vec<(&[i64], i64)> = rows.iter().map(|row| (row.as_slice(), 1)).collect();
    let script = subscribed(vec![tick(1000, &rows), tick(1010, &rows), tick(5000, &[])], &[(7, &[1], 0)]);
    let quotas = Quotas { groups_max: 50, ..Quotas::default() };
    let template = template(count_by_key(Some(window(100, 0, 10)), Universe::Rows), 1, always());
    for workers in [1, 2] {
        let outcome = run(&template, &script, Run { workers, options: RenderOptions { quotas }, ..Run::default() });
        let failure = outcome.ticks[2].1.failures.keys().next().unwrap();
        assert_eq!(failure.subscription, None);
        assert!(failure.message.contains("groups"), "{}", failure.message);
    }
}

#[test]
fn pairs_are_bounded() {
    let rows: Vec<Vec<i64>> = (0..100).flat_map(|value| [vec![1, value, 0], vec![1, value, 1]]).collect();
    let rows: Vec<(&[i64], i64)> = rows.iter().map(|row| (row.as_slice(), 1)).collect();
    let quotas = Quotas { pairs_per_tick_max: 1_000, ..Quotas::default() };
    let run = |script: &[Tick]| run(&template(join(JoinKind::Inner), 1, always()), script, Run { options: RenderOptions { quotas }, ..Run::default() });
    let outcome = run(&[tick(10, &[]), tick(20, &rows)]);
    assert!(outcome.ticks[1].1.failures.keys().next().unwrap().message.contains("pairs"));
    // What many ticks have brought is there at once when a dataflow begins: that is no more than they brought.
    let outcome = run(&[tick(10, &rows), tick(20, &[])]);
    assert!(outcome.ticks[1].1.failures.is_empty(), "{:?}", outcome.ticks[1].1.failures);
}

#[test]
fn a_pair_is_counted_once_for_each_subscription_that_it_is_said_to() {
    let rows: Vec<Vec<i64>> = (0..60).map(|value| vec![1, value, 0]).collect();
    let rows: Vec<(&[i64], i64)> = rows.iter().map(|row| (row.as_slice(), 1)).collect();
    let script = subscribed(vec![tick(10, &[]), tick(20, &rows)], &[(7, &[1], 0), (8, &[1], 0), (9, &[1], 1)]);
    let failures = |pairs_per_tick_max| {
        let quotas = Quotas { pairs_per_tick_max, ..Quotas::default() };
        let outcome = run(&template(scan(None), 1, always()), &script, Run { options: RenderOptions { quotas }, ..Run::default() });
        outcome.ticks[1].1.failures.len()
    };
    assert_eq!((failures(180), failures(179)), (0, 1));
}

#[test]
fn long_rows_meet_more_constants_than_fit_into_one_batch() {
    let text = E::Literal(V::S("x".repeat(1 << 20)));
    let columns = vec![column(0).int(), text.typed(DataType::Utf8)];
    let of_scan = Scan { table: TABLE, table_columns: vec![0, 1, 2], filter: Vec::new(), columns, window: None };
    let relation = Relation { node: Node::Scan(of_scan), schema: schema(&[("k", DataType::Int64), ("text", DataType::Utf8)]) };
    let mut script = vec![tick(10, &[(&[1, 0, 0], 1)]), tick(20, &[])];
    // With as many copies of the row, the texts of one batch would pass the two gigabytes that their places can tell.
    script[0].parameters = (0..2100).map(|id| (parameters(id, &[], id as i64), true)).collect();
    let mut plan = Template::clone(&template(relation, 0, column(2).less(int(3))));
    (plan.finish.columns, plan.finish.schema) = (vec![column(0).int()], ints(&["k"]));
    let outcome = run(&Arc::new(plan), &script, Run::default());
    let answer = &outcome.ticks[1].1;
    assert!(answer.failures.is_empty(), "{:?}", answer.failures);
    assert_eq!(answer.rows.keys().copied().collect::<Vec<_>>(), [0, 1, 2]);
}
