//! The aggregates of the field, each with what it stands for (`spec/storage-query.md` section 5).
//!
//! A rate is a fraction from 0 to 1. Where there is nothing to divide by, a rate is null, except for those of which the field
//! says 0. Null arguments count nowhere, neither above nor below a division.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::functions::expr_fn::{coalesce, nullif};
use datafusion::functions_aggregate::expr_fn::{avg, count, count_distinct, last_value, max, min, sum};
use datafusion::logical_expr::{BinaryExpr, Expr, ExprFunctionExt, Operator, cast, lit};

use super::field::Kind::{Any, Condition, LikeFirst, Number, Text, Time};
use super::field::{Definition, Returns, optional, parameter};
use super::quantile::quantile;
use super::range::Around;

/// Below this share of the threshold a user is content; above this multiple of it, miserable.
const MISERABLE_FACTOR: f64 = 4.0;
/// What user misery assumes before it has seen anybody: Sentry's prior of a rate of 0.05 with the weight of 117.75 users.
const MISERY_PRIOR: (f64, f64) = (5.8875, 117.75);
/// The threshold, in milliseconds, where none is given.
const THRESHOLD_MS: f64 = 300.0;
/// States of spans that are no failure.
const NO_FAILURES: [&str; 3] = ["ok", "cancelled", "unknown"];

/// One of the quantiles that have names.
macro_rules! quantile_of {
    ($name:literal, $what:literal, $expansion:expr) => {
        Definition {
            name: $name,
            parameters: &[parameter("value", Number)],
            returns: Returns::Number,
            meaning: concat!($what, ", within 1 % of the value; null without any."),
            example: concat!("SELECT transaction_name, ", $name, "(duration_ms) FROM transactions GROUP BY transaction_name"),
            expansion: $expansion,
        }
    };
}

/// All of them, by name.
pub(crate) static AGGREGATES: &[Definition] = &[
    Definition {
        name: "any",
        parameters: &[parameter("value", Any)],
        returns: Returns::First,
        meaning: "One of the values: the least, so that the answer is always the same.",
        example: "SELECT group_id, any(title) FROM errors GROUP BY group_id",
        expansion: |args, _| Ok(min(args[0].clone())),
    },
    Definition {
        name: "apdex",
        parameters: &[parameter("duration", Number), optional("threshold", Number, "300")],
        returns: Returns::Number,
        meaning: "Share of contented users: durations up to the threshold count 1, up to four times it count 1/2, over all durations. Null without any.",
        example: "SELECT transaction_name, apdex(duration_ms, 300) FROM transactions GROUP BY transaction_name",
        expansion: |args, _| {
            let (duration, threshold) = (args[0].clone(), threshold(args, 1));
            let content = count_where(duration.clone().lt_eq(threshold.clone()))?;
            let tolerating = count_where(duration.clone().gt(threshold.clone()).and(duration.clone().lt_eq(threshold * lit(MISERABLE_FACTOR))))?;
            Ok(ratio(number(content) + number(tolerating) / lit(2.0), count(duration)))
        },
    },
    Definition {
        name: "avg_compare",
        parameters: &[parameter("field", Any), parameter("value", Number), parameter("before", LikeFirst), parameter("after", LikeFirst)],
        returns: Returns::Number,
        meaning: "Relative change of the average of a value from the rows whose field is `before` to those whose field is `after`; 0 where there is none.",
        example: "SELECT avg_compare(release, duration_ms, 'shop@1', 'shop@2') FROM spans",
        expansion: |args, _| {
            let average = |of: &Expr| avg(args[1].clone()).filter(args[0].clone().eq(of.clone())).build();
            let (before, after) = (average(&args[2])?, average(&args[3])?);
            Ok(or_zero((after - before.clone()) / nullif(before, lit(0.0))))
        },
    },
    Definition {
        name: "avg_range",
        parameters: &[parameter("value", Number), parameter("time", Time), parameter("from", Time), parameter("to", Time)],
        returns: Returns::Number,
        meaning: "Average of the values whose time is in [from, to).",
        example: "SELECT avg_range(duration_ms, end_ts, now() - INTERVAL '1 hour', now()) FROM spans",
        expansion: |args, _| avg(args[0].clone()).filter(within(&args[1..])).build(),
    },
    Definition {
        name: "cache_miss_rate",
        parameters: &[parameter("hit", Condition)],
        returns: Returns::Number,
        meaning: "Share of misses among the rows that say whether they hit; 0 without any.",
        example: "SELECT cache_miss_rate(attrs_bool['cache.hit']) FROM spans WHERE op = 'cache.get'",
        expansion: |args, _| Ok(or_zero(ratio(count_where(args[0].clone().is_false())?, count(args[0].clone())))),
    },
    Definition {
        name: "count_at_least",
        parameters: &[parameter("value", Number), parameter("threshold", Number)],
        returns: Returns::Count,
        meaning: "Number of values that are at least the threshold.",
        example: "SELECT count_at_least(duration_ms, 1000) FROM spans",
        expansion: |args, _| count_where(args[0].clone().gt_eq(args[1].clone())),
    },
    Definition {
        name: "count_if",
        parameters: &[parameter("condition", Any), optional("operator", Text, "none"), optional("value", LikeFirst, "none")],
        returns: Returns::Count,
        meaning: "Number of rows that meet a condition: count_if(level = 'fatal'), or count_if(level, '=', 'fatal') with one of the operators = != < <= > >= or equals, notEquals, less, lessOrEquals, greater, greaterOrEquals.",
        example: "SELECT project, count_if(level = 'fatal') FROM errors GROUP BY project",
        expansion: |args, _| match args {
            [condition] => count_where(cast(condition.clone(), DataType::Boolean)),
            [field, operator, value] => count_where(Expr::BinaryExpr(BinaryExpr::new(Box::new(field.clone()), comparison(operator)?, Box::new(value.clone())))),
            _ => plan_err!("count_if takes a condition, or a field, an operator and a value"),
        },
    },
    Definition {
        name: "count_miserable",
        parameters: &[parameter("user", Any), parameter("duration", Number), optional("threshold", Number, "300")],
        returns: Returns::Count,
        meaning: "Number of distinct users with a duration of more than four times the threshold.",
        example: "SELECT count_miserable(user_hash, duration_ms, 300) FROM transactions",
        expansion: |args, around| miserable(args, around),
    },
    Definition {
        name: "count_range",
        parameters: &[parameter("time", Time), parameter("from", Time), parameter("to", Time)],
        returns: Returns::Count,
        meaning: "Number of rows whose time is in [from, to).",
        example: "SELECT group_id, count_range(timestamp, now() - INTERVAL '1 hour', now()) FROM errors GROUP BY group_id",
        expansion: |args, _| count_where(within(args)),
    },
    Definition {
        name: "count_unique",
        parameters: &[parameter("value", Any)],
        returns: Returns::Count,
        meaning: "Number of distinct values; null and the empty text are none.",
        example: "SELECT count_unique(\"user\") FROM errors",
        expansion: |args, around| distinct(&args[0], None, around),
    },
    Definition {
        name: "count_web_vitals",
        parameters: &[parameter("value", Number), parameter("vital", Text), parameter("quality", Text)],
        returns: Returns::Count,
        meaning: "Number of values of a web vital (lcp, fp, fcp, fid, inp, cls) whose quality is good, meh, poor or any.",
        example: "SELECT count_web_vitals(measurements['lcp'], 'lcp', 'poor') FROM transactions",
        expansion: |args, _| {
            let (value, (good, poor)) = (args[0].clone(), vital(&args[1])?);
            count_where(match word(&args[2], "quality")?.as_str() {
                "good" => value.lt(lit(good)),
                "meh" => value.clone().gt_eq(lit(good)).and(value.lt(lit(poor))),
                "poor" => value.gt_eq(lit(poor)),
                "any" => value.is_not_null(),
                other => return plan_err!("count_web_vitals knows the qualities good, meh, poor and any, not {other}"),
            })
        },
    },
    Definition {
        name: "crash_free_rate",
        parameters: &[parameter("status", Text), parameter("quantity", Number)],
        returns: Returns::Number,
        meaning: "Share of sessions that did not crash; null without sessions.",
        example: "SELECT release, crash_free_rate(status, quantity) FROM sessions GROUP BY release",
        expansion: |args, _| {
            let crashed = sum(args[1].clone()).filter(args[0].clone().eq(lit("crashed"))).build()?;
            Ok(lit(1.0) - ratio(or_zero(crashed), sum(args[1].clone())))
        },
    },
    Definition {
        name: "crash_free_users",
        parameters: &[parameter("status", Text), parameter("user", Any)],
        returns: Returns::Number,
        meaning: "Share of users none of whose sessions crashed; null without users.",
        example: "SELECT release, crash_free_users(status, user_hash) FROM sessions GROUP BY release",
        expansion: |args, around| {
            let crashed = distinct(&args[1], Some(args[0].clone().eq(lit("crashed"))), around)?;
            Ok(lit(1.0) - ratio(crashed, distinct(&args[1], None, around)?))
        },
    },
    Definition {
        name: "division",
        parameters: &[parameter("dividend", Number), parameter("divisor", Number)],
        returns: Returns::Number,
        meaning: "The sum of one value over the sum of another; 0 where that is 0 or null.",
        example: "SELECT division(exclusive_ms, duration_ms) FROM spans",
        expansion: |args, _| Ok(or_zero(ratio(sum(args[0].clone()), sum(args[1].clone())))),
    },
    Definition {
        name: "epm",
        parameters: &[optional("seconds", Number, "the range of the query")],
        returns: Returns::Number,
        meaning: RATE,
        example: "SELECT date_bin(INTERVAL '5 minutes', received) AS t, epm() FROM errors GROUP BY t",
        expansion: |args, around| Ok(number(count(lit(1))) * lit(60.0) / seconds(args, around)?),
    },
    Definition {
        name: "eps",
        parameters: &[optional("seconds", Number, "the range of the query")],
        returns: Returns::Number,
        meaning: RATE,
        example: "SELECT eps() FROM errors WHERE received > now() - INTERVAL '1 hour'",
        expansion: |args, around| Ok(number(count(lit(1))) / seconds(args, around)?),
    },
    Definition {
        name: "failure_count",
        parameters: &[parameter("status", Text)],
        returns: Returns::Count,
        meaning: "Number of rows whose status is something else than ok, cancelled or unknown.",
        example: "SELECT failure_count(status) FROM transactions",
        expansion: |args, _| count_where(failed(args)),
    },
    Definition {
        name: "failure_rate",
        parameters: &[parameter("status", Text)],
        returns: Returns::Number,
        meaning: "Share of rows whose status is something else than ok, cancelled or unknown; null without any.",
        example: "SELECT transaction_name, failure_rate(status) FROM transactions GROUP BY transaction_name",
        expansion: |args, _| Ok(ratio(count_where(failed(args))?, count(args[0].clone()))),
    },
    Definition {
        name: "http_response_rate",
        parameters: &[parameter("http_status", Number), parameter("class", Number)],
        returns: Returns::Number,
        meaning: "Share of HTTP responses of a class: 5 for those from 500 to 599; 0 without responses.",
        example: "SELECT http_response_rate(http_status, 5) FROM spans",
        expansion: |args, _| {
            let (status, least) = (args[0].clone(), args[1].clone() * lit(100.0));
            let of_class = count_where(status.clone().gt_eq(least.clone()).and(status.clone().lt(least + lit(100.0))))?;
            Ok(or_zero(ratio(of_class, count(status))))
        },
    },
    Definition {
        name: "last_seen",
        parameters: &[parameter("time", Time)],
        returns: Returns::First,
        meaning: "The latest time.",
        example: "SELECT group_id, last_seen(timestamp) FROM errors GROUP BY group_id",
        expansion: |args, _| Ok(max(args[0].clone())),
    },
    Definition {
        name: "latest_event",
        parameters: &[parameter("event_id", Any), parameter("time", Time)],
        returns: Returns::First,
        meaning: "The id with the latest time; of several, the greatest id.",
        example: "SELECT group_id, latest_event(event_id, timestamp) FROM errors GROUP BY group_id",
        expansion: |args, _| Ok(last_value(args[0].clone(), vec![args[1].clone().sort(true, true), args[0].clone().sort(true, true)])),
    },
    Definition {
        name: "opportunity_score",
        parameters: &[parameter("score", Number), parameter("weight", Number)],
        returns: Returns::Number,
        meaning: "What performance scores leave to be won: the sum of weights less the sum of scores; null without any.",
        example: "SELECT opportunity_score(measurements['score.lcp'], measurements['score.weight.lcp']) FROM transactions",
        expansion: |args, _| Ok(sum(args[1].clone()) - sum(args[0].clone())),
    },
    quantile_of!("p50", "The median", |args, _| quantile(args[0].clone(), lit(0.5))),
    quantile_of!("p75", "The 75th percentile", |args, _| quantile(args[0].clone(), lit(0.75))),
    quantile_of!("p90", "The 90th percentile", |args, _| quantile(args[0].clone(), lit(0.9))),
    quantile_of!("p95", "The 95th percentile", |args, _| quantile(args[0].clone(), lit(0.95))),
    quantile_of!("p99", "The 99th percentile", |args, _| quantile(args[0].clone(), lit(0.99))),
    Definition {
        name: "p100",
        parameters: &[parameter("value", Number)],
        returns: Returns::Number,
        meaning: "The greatest value, exactly; null without any.",
        example: "SELECT p100(duration_ms) FROM transactions",
        expansion: |args, _| Ok(max(args[0].clone())),
    },
    Definition {
        name: "percentile",
        parameters: &[parameter("value", Number), parameter("fraction", Number)],
        returns: Returns::Number,
        meaning: "The value below which a fraction (0 to 1) of the values lie, within 1 % of the value; null without any.",
        example: "SELECT percentile(duration_ms, 0.98) FROM transactions",
        expansion: |args, _| quantile(args[0].clone(), args[1].clone()),
    },
    Definition {
        name: "percentile_range",
        parameters: &[parameter("value", Number), parameter("fraction", Number), parameter("time", Time), parameter("from", Time), parameter("to", Time)],
        returns: Returns::Number,
        meaning: "The percentile of the values whose time is in [from, to), within 1 % of the value.",
        example: "SELECT percentile_range(duration_ms, 0.95, end_ts, now() - INTERVAL '1 hour', now()) FROM spans",
        expansion: |args, _| {
            let value = datafusion::logical_expr::when(within(&args[2..]), args[0].clone()).end()?;
            quantile(value, args[1].clone())
        },
    },
    Definition {
        name: "performance_score",
        parameters: &[parameter("score", Number), parameter("weight", Number)],
        returns: Returns::Number,
        meaning: "Performance of web vitals from 0 to 1: the sum of scores over the sum of their weights; null without any.",
        example: "SELECT performance_score(measurements['score.lcp'], measurements['score.weight.lcp']) FROM transactions",
        expansion: |args, _| Ok(ratio(sum(args[0].clone()), sum(args[1].clone()))),
    },
    Definition {
        name: "trace_status_rate",
        parameters: &[parameter("status", Text), parameter("wanted", LikeFirst)],
        returns: Returns::Number,
        meaning: "Share of rows of a status; 0 without any.",
        example: "SELECT trace_status_rate(status, 'internal_error') FROM spans",
        expansion: |args, _| Ok(or_zero(ratio(count_where(args[0].clone().eq(args[1].clone()))?, count(args[0].clone())))),
    },
    Definition {
        name: "user_misery",
        parameters: &[parameter("user", Any), parameter("duration", Number), optional("threshold", Number, "300")],
        returns: Returns::Number,
        meaning: "Share of users who waited more than four times the threshold, drawn towards 0.05 where users are few: (miserable + 5.8875) / (users + 117.75); 0 without users.",
        example: "SELECT user_misery(user_hash, duration_ms, 300) FROM transactions",
        expansion: |args, around| {
            let users = distinct(&args[0], None, around)?;
            let (miserable_prior, users_prior) = MISERY_PRIOR;
            let misery = (number(miserable(args, around)?) + lit(miserable_prior)) / (number(users.clone()) + lit(users_prior));
            datafusion::logical_expr::when(users.gt(lit(0i64)), misery).otherwise(lit(0.0))
        },
    },
];

const RATE: &str = "Number of rows in a second (eps) or a minute (epm). Over how long is said in seconds, epm(3600), or known from the query: the width of \
the buckets where it groups by date_bin or date_trunc, else from the bounds that its WHERE sets on a time; without an upper bound until now().";

fn number(expr: Expr) -> Expr {
    cast(expr, DataType::Float64)
}

/// A division that is null where there is nothing to divide by.
fn ratio(dividend: Expr, divisor: Expr) -> Expr {
    number(dividend) / nullif(number(divisor), lit(0.0))
}

fn or_zero(expr: Expr) -> Expr {
    coalesce(vec![expr, lit(0.0)])
}

fn count_where(condition: Expr) -> Result<Expr> {
    count(lit(1)).filter(condition).build()
}

/// Distinct values of the rows that meet a condition; the empty text is no value.
fn distinct(value: &Expr, condition: Option<Expr>, around: &Around<'_>) -> Result<Expr> {
    let not_empty = around.is_text(value)?.then(|| value.clone().not_eq(lit("")));
    match condition.into_iter().chain(not_empty).reduce(Expr::and) {
        // The builder makes an aggregate distinct only where it is told to.
        Some(condition) => count(value.clone()).distinct().filter(condition).build(),
        None => Ok(count_distinct(value.clone())),
    }
}

fn threshold(args: &[Expr], at: usize) -> Expr {
    args.get(at).cloned().unwrap_or(lit(THRESHOLD_MS))
}

fn miserable(args: &[Expr], around: &Around<'_>) -> Result<Expr> {
    distinct(&args[0], Some(args[1].clone().gt(threshold(args, 2) * lit(MISERABLE_FACTOR))), around)
}

fn failed(args: &[Expr]) -> Expr {
    args[0].clone().in_list(NO_FAILURES.map(lit).to_vec(), true)
}

/// `[time, from, to]`
fn within(args: &[Expr]) -> Expr {
    args[0].clone().gt_eq(args[1].clone()).and(args[0].clone().lt(args[2].clone()))
}

fn seconds(args: &[Expr], around: &Around<'_>) -> Result<Expr> {
    let seconds = match args.first() {
        Some(given) => given.clone(),
        None => around.seconds()?,
    };
    Ok(nullif(seconds, lit(0.0)))
}

/// An argument that must be known when the statement is planned.
fn word(expr: &Expr, name: &str) -> Result<String> {
    match expr {
        Expr::Literal(ScalarValue::Utf8(Some(text)) | ScalarValue::LargeUtf8(Some(text)) | ScalarValue::Utf8View(Some(text)), _) => {
            Ok(text.to_ascii_lowercase())
        }
        Expr::Cast(cast) => word(&cast.expr, name),
        other => plan_err!("{name} must be a text in quotes, not {other}"),
    }
}

fn comparison(operator: &Expr) -> Result<Operator> {
    Ok(match word(operator, "the operator of count_if")?.as_str() {
        "=" | "==" | "equals" => Operator::Eq,
        "!=" | "<>" | "notequals" => Operator::NotEq,
        "<" | "less" => Operator::Lt,
        "<=" | "lessorequals" => Operator::LtEq,
        ">" | "greater" => Operator::Gt,
        ">=" | "greaterorequals" => Operator::GtEq,
        other => {
            return plan_err!("count_if knows the operators = != < <= > >= and equals, notEquals, less, lessOrEquals, greater, greaterOrEquals, not {other}");
        }
    })
}

/// Where a web vital stops being good and begins to be poor; milliseconds, except for the shift of the layout.
fn vital(name: &Expr) -> Result<(f64, f64)> {
    let name = word(name, "the web vital")?;
    Ok(match name.strip_prefix("measurements.").unwrap_or(&name) {
        "lcp" => (2500.0, 4000.0),
        "fp" | "fcp" => (1000.0, 3000.0),
        "fid" => (100.0, 300.0),
        "inp" => (200.0, 500.0),
        "cls" => (0.1, 0.25),
        other => return plan_err!("count_web_vitals knows lcp, fp, fcp, fid, inp and cls, not {other}"),
    })
}
