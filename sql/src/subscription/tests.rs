//! What is compiled, what is shared, and what is refused.

use std::collections::BTreeSet;

use datafusion::execution::runtime_env::RuntimeEnv;
use weir_operators::relation::plan::{Node, Relation, Universe};
use weir_protocol::subscription::SubscriptionOptions;

use super::{Command, CompiledQuery, Control, Planner, Refusal, compile, parse};
use crate::engine::EngineOptions;
use crate::scope::Scope;
use crate::session::Sessions;

/// The alerts that people really write.
pub(super) const WORKLOAD: &str = include_str!("../../../tests/corpus/workload/alerts.sql");

pub(super) fn planner() -> Planner {
    Planner::new(Sessions::new(&EngineOptions::default(), &RuntimeEnv::default(), Control::default()).template().clone()).unwrap()
}

pub(super) fn everything() -> Scope {
    Scope { org_id: 1, projects: None, name: "everything".to_owned() }
}

fn compiled(planner: &Planner, sql: &str) -> Result<CompiledQuery, Refusal> {
    compile(planner, &everything(), sql, &SubscriptionOptions::default())
}

/// The statements of the workload.
pub(super) fn workload() -> Vec<(String, SubscriptionOptions, String)> {
    let statements = WORKLOAD.split(";\n").map(str::trim).filter(|statement| statement.contains("CREATE SUBSCRIPTION"));
    let created = statements.map(|statement| match parse(statement).unwrap() {
        Some(Command::Create { name, options, query }) => (name, options, query.sql),
        other => panic!("{other:?}"),
    });
    created.collect()
}

fn find<T>(relation: &Relation, of: &dyn Fn(&Node) -> Option<T>) -> Option<T> {
    let inputs: Vec<&Relation> = match &relation.node {
        Node::Scan(_) | Node::Values(_) => Vec::new(),
        Node::Map(map) => vec![&map.input],
        Node::Variants(variants) => vec![&variants.input],
        Node::Reduce(reduce) => vec![&reduce.input],
        Node::Distinct(input) => vec![input],
        Node::Union(inputs) => inputs.iter().collect(),
        Node::Join(join) => vec![&join.left, &join.right],
        Node::TopK(top) => vec![&top.input],
    };
    of(&relation.node).or_else(|| inputs.into_iter().find_map(|input| find(input, of)))
}

#[test]
fn all_alerts_of_the_workload_are_compiled() {
    let planner = planner();
    let all = workload();
    assert_eq!(all.len(), 15);
    for (name, options, query) in all {
        let compiled = compile(&planner, &everything(), &query, &options).unwrap_or_else(|refusal| panic!("{name}: {refusal}"));
        assert_eq!(compiled.template.finish.holds.is_some(), options.resolve_when.is_some(), "{name}");
        let keys: Vec<&str> = compiled.template.finish.key_schema.fields().iter().map(|field| field.name().as_str()).collect();
        let want: &[&str] = match name.as_str() {
            "noisy_issue" => &["group_id"],
            "failing_endpoint" | "slow_endpoint" => &["transaction_name"],
            "crashing_release" => &["release"],
            "regression_of_newest" => &["group_id", "title"],
            "down_with_errors" | "down_in_two_regions" => &["subscription_id"],
            "nightly_did_not_run" => &["project_id"],
            _ => &[],
        };
        assert_eq!(keys, want, "{name}\n{}", compiled.text);
    }
}

#[test]
fn queries_that_differ_in_constants_share_a_template() {
    let planner = planner();
    let shape = |sql: &str| compiled(&planner, sql).unwrap_or_else(|refusal| panic!("{sql}: {refusal}")).shape;
    let count = "SELECT environment, count(*) AS n FROM errors WHERE environment = 'e1' AND received > now() - INTERVAL '5 minutes' GROUP BY environment HAVING count(*) > 5";
    for (same, sql) in [
        (true, count.replace("e1", "e2").replace("> 5", "> 77")),
        (true, count.replace("FROM errors", "FROM errors AS x").replace("WHERE environment", "WHERE x.environment")),
        (
            true,
            count.replace("environment = 'e1' AND received > now() - INTERVAL '5 minutes'", "now() - INTERVAL '300 seconds' < received AND 'e9' = environment"),
        ),
        (false, count.replace("5 minutes", "6 minutes")),
        (false, count.replace("> 5", ">= 5")),
        (false, count.replace("environment = 'e1'", "environment LIKE 'e1%'")),
        (false, count.replace("environment = 'e1'", "environment IN ('e1', 'e2')")),
        (false, count.replace("AS n", "AS m")),
        (false, count.replace("errors", "occurrences")),
    ] {
        assert_eq!(shape(&sql) == shape(count), same, "{sql}");
    }
    let narrow = Scope { projects: Some(BTreeSet::from([3])), ..everything() };
    assert_ne!(compile(&planner, &narrow, count, &SubscriptionOptions::default()).unwrap().shape, shape(count), "what may be read is a part of the shape");
}

#[test]
fn a_share_from_above_is_the_rest_from_below() {
    let planner = planner();
    let shape = |share: &str, order: &str| {
        let quantile = format!("approx_percentile_cont({share}) WITHIN GROUP (ORDER BY sample_weight {order})");
        compiled(&planner, &format!("SELECT {quantile} AS q FROM errors WHERE received > now() - INTERVAL '5 minutes'")).unwrap().shape
    };
    assert_eq!(shape("0.75", "DESC"), shape("0.25", "ASC"));
    assert_ne!(shape("0.75", "DESC"), shape("0.75", "ASC"));
}

#[test]
fn constants_of_ranges_lists_and_patterns_share_a_template() {
    let planner = planner();
    let made = |sql: &str| compiled(&planner, sql).unwrap_or_else(|refusal| panic!("{sql}: {refusal}"));
    let count = |condition: &str, more: u64| {
        made(&format!(
            "SELECT level, count(*) AS n FROM errors WHERE {condition} AND received > now() - INTERVAL '5 minutes' GROUP BY level HAVING count(*) > {more}"
        ))
    };
    for (same, a, b) in [
        (true, "level IN ('fatal', 'error')", "level IN ('info', 'debug')"),
        (true, "level NOT IN ('a', 'b', 'c', 'd', 'e')", "level NOT IN ('e', 'd', 'c', 'b', 'x')"),
        (false, "level IN ('fatal', 'error')", "level IN ('info', 'debug', 'error')"),
        (true, "release LIKE 'app@2.%'", "release LIKE '%-beta'"),
        (false, "release LIKE 'app@2.%'", "release NOT LIKE 'app@2.%'"),
        (false, "release LIKE 'app@2.%'", "release ILIKE 'app@2.%'"),
        (true, "sample_weight > 3.5", "sample_weight > 4"),
        (false, "sample_weight > 3.5", "sample_weight >= 3.5"),
        (true, "group_id BETWEEN 1 AND 10", "group_id BETWEEN 5 AND 6"),
        (true, "(level = 'fatal' OR unhandled)", "(level = 'error' OR unhandled)"),
        (true, "level <> 'debug' AND project_id = 1", "project_id = 2 AND level <> 'info'"),
    ] {
        let (a, b) = (count(a, 5), count(b, 6));
        assert_eq!(a.shape == b.shape, same, "{}\n{}", a.text, b.text);
        assert!(a.shape != b.shape || a.key != b.key);
    }
    // Above the grouping they were constants; those of lists, patterns and ranges are, too.
    let having = |condition: &str| {
        made(&format!("SELECT release, count(*) AS n FROM errors WHERE received > now() - INTERVAL '5 minutes' GROUP BY release HAVING {condition}")).shape
    };
    assert_eq!(
        having("release LIKE 'a%' AND count(*) IN (1, 2) AND count(*) BETWEEN 3 AND 4"),
        having("release LIKE 'b%' AND count(*) IN (5, 6) AND count(*) BETWEEN 7 AND 8")
    );
}

#[test]
fn a_comparison_with_last_week_is_shared_by_projects() {
    let planner = planner();
    let (_, options, query) = workload().remove(9);
    let of = |project: u64| compile(&planner, &everything(), &query.replace("project_id = 1", &format!("project_id = {project}")), &options).unwrap();
    let (one, two) = (of(1), of(2));
    assert_eq!(one.shape, two.shape, "{}", one.text);
    assert_eq!((one.template.parameter_keys, one.key.num_columns()), (1, 1), "{}", one.text);
    assert_ne!(one.key, two.key);
    // Two projects compared with one another have a template of their own.
    let mixed = compile(&planner, &everything(), &query.replacen("project_id = 1", "project_id = 2", 1), &options).unwrap();
    assert_ne!(mixed.shape, one.shape);
}

#[test]
fn keys_of_one_name_are_told_apart() {
    let of = |what: &str| format!("(SELECT release, count(*) AS {what} FROM errors WHERE received > now() - INTERVAL '5 minutes' GROUP BY release)");
    let sql = format!("SELECT a.n AS n FROM {} a JOIN {} b ON a.n = b.m", of("n"), of("m"));
    let compiled = compiled(&planner(), &sql).unwrap_or_else(|refusal| panic!("{refusal}"));
    let keys: Vec<&str> = compiled.template.finish.key_schema.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(keys, ["release", "release_2"]);
}

#[test]
fn a_column_is_the_project_of_a_row_where_the_tables_say_so_of_all_that_it_is_made_of() {
    let planner = planner();
    let window = "received > now() - INTERVAL '5 minutes'";
    let both = "errors e JOIN issues i ON e.group_id = i.group_id";
    for (sql, want) in [
        (format!("SELECT event_id, project_id FROM errors WHERE {window}"), Some(1)),
        (format!("SELECT count(*) AS n, project_id FROM errors WHERE {window} GROUP BY project_id"), Some(1)),
        (format!("SELECT project_id, release FROM (SELECT project_id, release, count(*) AS n FROM errors WHERE {window} GROUP BY 1, 2) WHERE n > 3"), Some(0)),
        (format!("SELECT project_id, event_id FROM errors WHERE {window} UNION ALL SELECT project_id, event_id FROM occurrences WHERE {window}"), Some(0)),
        (format!("SELECT e.project_id, i.title FROM {both} AND e.project_id = i.project_id WHERE e.{window}"), Some(0)),
        (
            format!(
                "SELECT p.project_id, count(e.event_id) AS n FROM projects p LEFT JOIN (SELECT * FROM errors WHERE {window}) e ON e.project_id = p.project_id GROUP BY p.project_id"
            ),
            Some(0),
        ),
        // Another value under that name, another column, or rows of several projects in one.
        (format!("SELECT event_id, 2 AS project_id FROM errors WHERE {window}"), None),
        (format!("SELECT event_id, group_id AS project_id FROM errors WHERE {window}"), None),
        (format!("SELECT event_id, project_id + 1 AS project_id FROM errors WHERE {window}"), None),
        (format!("SELECT max(project_id) AS project_id, release FROM errors WHERE {window} GROUP BY release"), None),
        (format!("SELECT e.project_id, i.title FROM {both} WHERE e.{window}"), None),
        (format!("SELECT project_id, event_id FROM errors WHERE {window} UNION ALL SELECT 2, event_id FROM occurrences WHERE {window}"), None),
        (format!("SELECT project_id, event_id FROM errors WHERE {window} AND EXISTS (SELECT 1 FROM issues i WHERE i.group_id = errors.group_id)"), None),
        (format!("SELECT event_id, release FROM errors WHERE {window}"), None),
    ] {
        let compiled = compiled(&planner, &sql).unwrap_or_else(|refusal| panic!("{sql}: {refusal}"));
        assert_eq!(compiled.template.finish.project, want, "{sql}");
    }
}

#[test]
fn what_is_compared_below_becomes_the_key_and_what_is_above_becomes_constants() {
    let planner = planner();
    let check = |sql: &str, keys: usize, constants: usize, universe: Option<Universe>| {
        let compiled = compiled(&planner, sql).unwrap_or_else(|refusal| panic!("{sql}: {refusal}"));
        let found = find(&compiled.template.relation, &|node| if let Node::Reduce(reduce) = node { Some(reduce.universe.clone()) } else { None });
        let got = (compiled.template.parameter_keys, compiled.template.constants.fields().len(), found);
        assert_eq!(got, (keys, constants, universe), "{sql}\n{}", compiled.text);
        assert_eq!((compiled.key.num_rows(), compiled.key.num_columns(), compiled.constants.num_columns()), (1, keys, constants));
    };
    let window = "received > now() - INTERVAL '1 minute'";
    check(&format!("SELECT count(*) AS v FROM errors WHERE project_id = 1 AND {window} HAVING count(*) > 50"), 1, 1, Some(Universe::Parameters(vec![0])));
    check(&format!("SELECT count(*) AS v FROM errors WHERE {window}"), 0, 0, Some(Universe::One));
    check(&format!("SELECT level, count(*) AS v FROM errors WHERE level = 'error' AND release = 'r' AND {window} GROUP BY level"), 2, 0, Some(Universe::Rows));
    check(&format!("SELECT event_id, title FROM errors WHERE tags['region'] = 'eu' AND {window}"), 1, 0, None);
    check(&format!("SELECT DISTINCT level FROM errors WHERE environment = 'qa' AND {window}"), 1, 0, None);
    check(&format!("SELECT title FROM errors WHERE event_id = '00000000000000000000000000000001' AND {window}"), 0, 0, None);
    // Constants of ranges, lists and patterns follow those that are equalities.
    check(
        &format!("SELECT count(*) AS v FROM errors WHERE level IN ('fatal', 'error') AND release LIKE 'a%' AND {window}"),
        3,
        0,
        Some(Universe::Parameters(vec![0, 1, 2])),
    );
    check(
        &format!("SELECT level, count(*) AS v FROM errors WHERE sample_weight BETWEEN 1 AND 5 AND project_id = 1 AND {window} GROUP BY level"),
        3,
        0,
        Some(Universe::Rows),
    );
    check(&format!("SELECT title FROM errors WHERE (level <> 'debug' OR unhandled) AND {window}"), 1, 0, None);
    // Whose a row is whose cast fails could not be told.
    check(&format!("SELECT sum(CAST(release AS INT)) AS v FROM errors WHERE level IN ('fatal', 'error') AND {window}"), 0, 0, Some(Universe::One));
    // The rows of a day would be kept.
    check("SELECT count(*) AS v FROM errors WHERE level IN ('fatal', 'error') AND received > now() - INTERVAL '1 day'", 0, 0, Some(Universe::One));
    check("SELECT count(*) AS n FROM issues WHERE status = 'unresolved' HAVING count(*) > 1", 1, 1, Some(Universe::Parameters(vec![0])));
}

#[test]
fn what_cannot_be_maintained_is_refused_where_it_stands() {
    let planner = planner();
    let window = "received > now() - INTERVAL '1 minute'";
    for (sql, want) in [
        ("SELEC 1".to_owned(), "SELEC"),
        ("SELECT 1".to_owned(), "reads no table"),
        ("SELECT count(*) FROM nothing".to_owned(), "line 1, column 22: there is no table 'nothing'"),
        ("SELECT colour, count(*) FROM errors GROUP BY colour".to_owned(), "colour"),
        ("SELECT level, count(*) AS n FROM errors GROUP BY level".to_owned(), "line 1, column 34: errors has no window"),
        (format!("SELECT level, count(*) AS n FROM errors WHERE random() > 0.5 AND {window} GROUP BY level"), "column 47: random() has another value"),
        (format!("SELECT event_id FROM errors WHERE {window} ORDER BY received"), "rows of a subscription have no order"),
        (format!("SELECT event_id FROM errors WHERE {window} LIMIT 5"), "LIMIT without ORDER BY"),
        ("WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT n FROM t".to_owned(), "line 1, column 6: WITH RECURSIVE"),
        ("DELETE FROM errors".to_owned(), "DELETE is refused"),
        ("SELECT * FROM '/etc/passwd'".to_owned(), "there is no table '/etc/passwd'"),
        ("SELECT count(*) AS n FROM errors WHERE received > now() - INTERVAL '2 days'".to_owned(), "windows are 1 second to 24 hours long"),
        ("SELECT count(*) AS n FROM errors WHERE received > now() - INTERVAL '1 month'".to_owned(), "now() is another time at every tick"),
        ("SELECT count(*) AS n FROM errors WHERE received < now() - INTERVAL '1 hour'".to_owned(), "has no beginning"),
        (format!("SELECT now() AS t, event_id FROM errors WHERE {window}"), "now() is another time at every tick"),
        (format!("SELECT event_id, rank() OVER (ORDER BY received) AS r FROM errors WHERE {window}"), "rank() OVER is not maintained"),
        (format!("SELECT event_id, row_number() OVER (ORDER BY received) AS r FROM errors WHERE {window}"), "must be bounded"),
        (format!("SELECT array_agg(title) AS t FROM errors WHERE {window}"), "array_agg() is not maintained"),
        (format!("SELECT level, first_value(title ORDER BY received) AS t FROM errors WHERE {window} GROUP BY level"), "SELECT DISTINCT ON (key)"),
        (format!("SELECT level, release, count(*) AS n FROM errors WHERE {window} GROUP BY ROLLUP (level, release)"), "GROUPING SETS"),
        (format!("SELECT key, count(*) AS n FROM error_tags WHERE {window} GROUP BY key"), "unnest"),
        (format!("SELECT level, level FROM errors WHERE {window}"), "have the same name"),
        (format!("SELECT e.title, i.title FROM errors e JOIN issues i ON i.group_id = e.group_id WHERE e.{window}"), "two columns called title"),
        (format!("SELECT count(*) AS n FROM errors WHERE title = $1 AND {window}"), "no parameters"),
        (format!("SELECT count(*) AS n FROM errors WHERE level > 5 + 'x'::int AND {window} HAVING count(*) > 'many'::int"), "Cannot cast string"),
        ("SELECT * FROM subscription('x')".to_owned(), "subscribe to tables"),
        (format!("SELECT group_id, (SELECT title FROM issues) AS t FROM errors WHERE {window}"), "must have one row"),
    ] {
        match compiled(&planner, &sql) {
            Ok(compiled) => panic!("{sql} is taken\n{}", compiled.text),
            Err(refusal) => assert!(refusal.to_string().contains(want), "{sql}: {refusal}"),
        }
    }
}

#[test]
fn forms_of_the_language_are_compiled() {
    let planner = planner();
    let window = "received > now() - INTERVAL '1 hour'";
    for sql in [
        format!("SELECT release, count(*) AS n FROM errors WHERE level = 'error' AND {window} GROUP BY release ORDER BY n DESC, release LIMIT 2"),
        format!("SELECT 'f' AS k, count(*) AS n FROM errors WHERE level = 'fatal' AND {window} UNION ALL SELECT 'e' AS k, count(*) AS n FROM errors WHERE level = 'error' AND {window}"),
        format!("SELECT release, count(*) AS n FROM errors WHERE release IN (SELECT release FROM errors WHERE level = 'fatal' AND {window}) AND {window} GROUP BY release"),
        format!("SELECT release, count(*) AS n FROM errors WHERE release NOT IN (SELECT release FROM errors WHERE level = 'fatal' AND {window}) AND {window} GROUP BY release"),
        format!("SELECT group_id, title FROM issues i WHERE EXISTS (SELECT 1 FROM errors e WHERE e.group_id = i.group_id AND e.{window})"),
        format!("SELECT group_id, title FROM issues i WHERE NOT EXISTS (SELECT 1 FROM errors e WHERE e.group_id = i.group_id AND e.{window})"),
        format!("SELECT group_id, title FROM issues i WHERE status = 'resolved' OR EXISTS (SELECT 1 FROM errors e WHERE e.group_id = i.group_id AND e.{window})"),
        format!("SELECT release, 100.0 * count(*) FILTER (WHERE level = 'fatal') / count(*) AS p FROM errors WHERE true AND {window} GROUP BY release HAVING count(*) >= 5"),
        format!("WITH busy AS (SELECT release, count(*) AS n FROM errors WHERE {window} GROUP BY release) SELECT a.release, a.n FROM busy a JOIN busy b ON a.release = b.release"),
        format!("SELECT release, count(*) AS n FROM errors WHERE {window} GROUP BY release HAVING count(*) > (SELECT count(*) FROM releases)"),
        format!("SELECT DISTINCT ON (release) release, title, received FROM errors WHERE {window} ORDER BY release, received DESC"),
        format!("SELECT * FROM (SELECT group_id, title, row_number() OVER (PARTITION BY group_id ORDER BY received DESC) AS r FROM errors WHERE {window}) t WHERE r <= 3"),
        format!("SELECT level, p50(sample_weight) AS a, p95(sample_weight) AS b, stddev(sample_weight) AS c, median(sample_weight) AS d FROM errors WHERE {window} GROUP BY level"),
        "SELECT transaction_name, failure_rate(status) AS f, user_misery(user_hash, duration_ms, 300) AS m, epm() AS e FROM transactions WHERE received > now() - INTERVAL '10 minutes' GROUP BY transaction_name".to_owned(),
        "SELECT date_bin(INTERVAL '5 minutes', received) AS bucket, count(*) AS n FROM errors WHERE received > now() - INTERVAL '1 hour' GROUP BY 1".to_owned(),
        "SELECT count(*) AS n FROM errors WHERE timestamp BETWEEN now() - INTERVAL '10 minutes' AND now()".to_owned(),
        "SELECT count(*) AS n FROM errors WHERE now() - received < INTERVAL '10 minutes'".to_owned(),
        format!("SELECT type, count(*) AS n FROM events WHERE {window} GROUP BY type"),
        format!("SELECT p.project, count(e.event_id) AS n FROM errors e RIGHT JOIN projects p ON p.project_id = e.project_id AND e.{window} GROUP BY p.project"),
        format!("SELECT release FROM errors WHERE {window} EXCEPT SELECT version FROM releases"),
        format!("SELECT e.release, r.version FROM (SELECT DISTINCT release FROM errors WHERE {window}) e FULL JOIN releases r ON r.version = e.release"),
    ] {
        if let Err(refusal) = compiled(&planner, &sql) {
            panic!("{sql}: {refusal}");
        }
    }
}

#[test]
fn conditions_beside_the_query_are_over_its_answer() {
    let planner = planner();
    let sql = "SELECT level, count(*) AS n FROM errors WHERE received > now() - INTERVAL '1 minute' GROUP BY level HAVING count(*) > 10";
    let with = |resolve: &str| {
        let options = SubscriptionOptions { resolve_when: Some(resolve.to_owned()), ..SubscriptionOptions::default() };
        compile(&planner, &everything(), sql, &options)
    };
    assert_eq!(with("n < 5").unwrap().shape, with("n < 7").unwrap().shape);
    assert_eq!(with("n < 5").unwrap().constants.num_columns(), 2);
    for (bad, want) in
        [("m < 5", "m"), ("n + 1", "not a condition"), ("n <", "resolve_when = 'n <'"), ("random() > 0.5", "random()"), ("n < 5; DROP", "resolve_when")]
    {
        let said = with(bad).unwrap_err().to_string();
        assert!(said.contains(want), "{bad}: {said}");
    }
}

#[test]
fn statements_that_are_known_are_compiled_as_those_that_are_planned() {
    let planner = planner();
    let count = |level: &str, more: i64, resolve: &str| {
        let sql = format!(
            "SELECT level, count(*) AS n, 100.0 * count(*) FILTER (WHERE unhandled) / count(*) AS p FROM errors \
             WHERE level = '{level}' AND release LIKE 'app@2.%' AND received > now() - INTERVAL '5 minutes' GROUP BY level HAVING count(*) > {more}"
        );
        (sql, SubscriptionOptions { resolve_when: Some(resolve.to_owned()), ..SubscriptionOptions::default() })
    };
    let or = |a: i64, b: i64| {
        (
            format!("SELECT count(*) AS n FROM errors WHERE group_id > {a} AND group_id > {b} AND received > now() - INTERVAL '1 minute'"),
            SubscriptionOptions::default(),
        )
    };
    let top = |k: i64, project: i64| {
        (
            format!(
                "SELECT release, count(*) AS n FROM errors WHERE project_id = {project} AND received > now() - INTERVAL '1 minute' GROUP BY release ORDER BY n DESC LIMIT {k}"
            ),
            SubscriptionOptions::default(),
        )
    };
    let within = |a: &str, b: &str, pattern: &str, least: i64| {
        let sql = format!(
            "SELECT count(*) AS n FROM errors WHERE level IN ('{a}', '{b}') AND release LIKE '{pattern}' AND group_id >= {least} AND received > now() - INTERVAL '1 minute'"
        );
        (sql, SubscriptionOptions::default())
    };
    let statements = [
        count("error", 20, "n < 5"),
        count("fatal", 30, "n < 6"),
        count("it''s", -1, "n < 7"),
        count("info", 5, "n < 5"),
        count("error", 20, "n < 99999999999999999999"),
        or(5, 3),
        or(6, 3),
        or(1, 3),
        or(1, 7),
        top(2, 1),
        top(2, 2),
        top(2, 3),
        top(3, 3),
        within("fatal", "error", "app@%", 5),
        within("info", "error", "app@2%", 6),
        within("info", "debug", "app@3%", 7),
        within("error", "fatal", "app@3%", 3),
    ];
    for (sql, options) in statements {
        let known = compile(&planner, &everything(), &sql, &options);
        let planned = super::compile::planned(&planner, &everything(), &sql, &options);
        match (known, planned) {
            (Ok(known), Ok(planned)) => assert_eq!((known.shape, known.key, known.constants), (planned.shape, planned.key, planned.constants), "{sql}"),
            (known, planned) => assert_eq!(known.map(|_| ()), planned.map(|_| ()), "{sql}"),
        }
    }
}
