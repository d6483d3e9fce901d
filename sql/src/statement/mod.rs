//! Which statements are answered: queries, questions about Weir itself, and the few commands that it takes.

pub(crate) mod show;

use std::ops::ControlFlow;

use datafusion::sql::parser::{DFParserBuilder, Statement as Parsed};
use datafusion::sql::sqlparser::ast::{Expr, KillType, Statement as Sql, Value, visit_expressions_mut};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use crate::subscription::{self, Refusal};

/// A statement longer than this is refused before it is parsed.
pub(crate) const SQL_BYTES_MAX: usize = 256 << 10;
/// A statement with more operators than this is refused: a chain of them is a tree as deep as it is long, and planning goes down
/// it on the stack. Threads that plan have [`PLANNING_STACK_BYTES`] for it. Lists (`IN`) may be longer.
pub(crate) const OPERATORS_MAX: usize = 2_000;
/// The stack of threads that plan statements: several kilobytes for each of [`OPERATORS_MAX`], of address space until it is used.
pub const PLANNING_STACK_BYTES: usize = 64 << 20;

/// Why a text is not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StatementError {
    /// Not SQL.
    #[error("{0}")]
    Syntax(String),
    /// No statement, or more than one.
    #[error("send one statement at a time; there are {0} in this text")]
    Count(usize),
    /// Something that is not answered.
    #[error("weir answers queries (SELECT, WITH, VALUES, EXPLAIN, SHOW, DESCRIBE), statements about subscriptions and KILL QUERY; {0} is refused")]
    NotAQuery(String),
    /// A statement about subscriptions that is wrong.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Too deep.
    #[error("the statement has {0} operators, and {OPERATORS_MAX} is the bound: write a long OR of equalities as IN (…)")]
    TooDeep(usize),
    /// Too long.
    #[error("the statement has {0} bytes, and {SQL_BYTES_MAX} is the bound")]
    TooLong(usize),
}

/// A statement that is answered.
#[derive(Debug)]
pub(crate) enum Statement {
    /// What DataFusion plans over the tables.
    Query(Box<Parsed>),
    /// A question about Weir itself.
    Show(show::Show),
    /// A statement about subscriptions. It acts once, when it is run.
    Subscription(Box<subscription::Command>),
    /// What has an effect. It acts once, when it is run, never when it is planned or prepared, and returns no rows.
    Command(Command),
}

/// What has an effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    /// `KILL QUERY number`: stops a query that runs.
    KillQuery(u64),
}

/// Parses a text into the one statement that it is.
pub(crate) fn parse(sql: &str) -> Result<Statement, StatementError> {
    if sql.len() > SQL_BYTES_MAX {
        return Err(StatementError::TooLong(sql.len()));
    }
    check_operators(sql)?;
    if let Some(command) = subscription::parse(sql)? {
        return Ok(Statement::Subscription(Box::new(command)));
    }
    let syntax = |e: datafusion::error::DataFusionError| StatementError::Syntax(e.strip_backtrace());
    let dialect = GenericDialect {};
    let mut statements = DFParserBuilder::new(sql).with_dialect(&dialect).build().map_err(syntax)?.parse_statements().map_err(syntax)?;
    let count = statements.len();
    match statements.pop_front() {
        Some(statement) if count == 1 => known(statement, sql),
        _ => Err(StatementError::Count(count)),
    }
}

/// Refuses what would be too deep a tree.
pub(crate) fn check_operators(sql: &str) -> Result<(), StatementError> {
    // What is no SQL is told by the parser.
    let Ok(tokens) = Tokenizer::new(&GenericDialect {}, sql).tokenize() else { return Ok(()) };
    let is_plain = |token: &Token| match token {
        Token::Word(word) => !matches!(
            word.keyword,
            Keyword::AND
                | Keyword::OR
                | Keyword::XOR
                | Keyword::NOT
                | Keyword::LIKE
                | Keyword::ILIKE
                | Keyword::IS
                | Keyword::UNION
                | Keyword::EXCEPT
                | Keyword::INTERSECT
                | Keyword::JOIN
                | Keyword::BETWEEN
                | Keyword::COLLATE
                | Keyword::AT
                | Keyword::DIV
                | Keyword::WHEN
        ),
        Token::Number(..) | Token::Whitespace(_) | Token::Comma | Token::LParen | Token::RParen | Token::Period | Token::SemiColon | Token::EOF => true,
        Token::SingleQuotedString(_) | Token::DoubleQuotedString(_) | Token::Placeholder(_) | Token::Char(_) => true,
        _ => false,
    };
    match tokens.iter().filter(|token| !is_plain(token)).count() {
        count if count > OPERATORS_MAX => Err(StatementError::TooDeep(count)),
        _ => Ok(()),
    }
}

fn known(mut parsed: Parsed, sql: &str) -> Result<Statement, StatementError> {
    if let Parsed::Statement(statement) = &parsed {
        if let Some(show) = show::Show::of(statement)? {
            return Ok(Statement::Show(show));
        }
        if let Sql::Kill { modifier: Some(KillType::Query), id } = statement.as_ref() {
            return Ok(Statement::Command(Command::KillQuery(*id)));
        }
    }
    if !is_query(&parsed) {
        return Err(StatementError::NotAQuery(first_words(sql)));
    }
    number_placeholders(&mut parsed);
    Ok(Statement::Query(Box::new(parsed)))
}

fn is_query(parsed: &Parsed) -> bool {
    match parsed {
        Parsed::Statement(statement) => matches!(
            statement.as_ref(),
            Sql::Query(_) | Sql::Explain { .. } | Sql::ExplainTable { .. } | Sql::ShowTables { .. } | Sql::ShowColumns { .. } | Sql::ShowVariable { .. }
        ),
        Parsed::Explain(explain) => is_query(&explain.statement),
        _ => false,
    }
}

/// What a statement begins with, as a person would name it.
fn first_words(sql: &str) -> String {
    let words: Vec<String> =
        sql.split_whitespace().take(2).map(|word| word.chars().filter(char::is_ascii_alphabetic).collect::<String>().to_ascii_uppercase()).collect();
    match words.as_slice() {
        [verb, noun] if ["CREATE", "DROP", "ALTER"].contains(&verb.as_str()) => format!("{verb} {noun}"),
        [verb, ..] if !verb.is_empty() => verb.clone(),
        _ => "this statement".to_owned(),
    }
}

/// JDBC's `?` become `$1`, `$2` … in the order in which they stand.
fn number_placeholders(parsed: &mut Parsed) {
    let Parsed::Statement(statement) = parsed else { return };
    let mut count = 0;
    let _: ControlFlow<()> = visit_expressions_mut(statement.as_mut(), |expr| {
        if let Expr::Value(value) = expr
            && let Value::Placeholder(name) = &mut value.value
            && name == "?"
        {
            count += 1;
            *name = format!("${count}");
        }
        ControlFlow::Continue(())
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_single_queries_are_taken() {
        let check = |sql: &str, want: Result<(), &str>| {
            let got = parse(sql).map(|_| ()).map_err(|e| e.to_string());
            match (got, want) {
                (Ok(()), Ok(())) => {}
                (Err(error), Err(want)) => assert!(error.contains(want), "{sql}: {error}"),
                (got, want) => panic!("{sql}: {got:?}, not {want:?}"),
            }
        };
        for sql in [
            "SELECT 1",
            "WITH a AS (SELECT 1) SELECT * FROM a",
            "VALUES (1)",
            "EXPLAIN SELECT 1",
            "SHOW TABLES",
            "SHOW FUNCTIONS",
            "SHOW FUNCTIONS LIKE 'p9%'",
            "show queries",
            "KILL QUERY 7",
            "DESCRIBE errors",
            "SELECT 1;",
        ] {
            check(sql, Ok(()));
        }
        for (sql, name) in [
            ("DELETE FROM errors", "DELETE is refused"),
            ("insert into errors values (1)", "INSERT is refused"),
            ("UPDATE errors SET title = ''", "UPDATE is refused"),
            ("DROP TABLE errors", "DROP TABLE is refused"),
            ("CREATE TABLE t AS SELECT 1", "CREATE TABLE is refused"),
            ("CREATE VIEW v AS SELECT 1", "CREATE VIEW is refused"),
            ("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'", "CREATE EXTERNAL is refused"),
            ("COPY errors TO '/dev/null'", "COPY is refused"),
            ("SET datafusion.execution.batch_size = 1", "SET is refused"),
            ("EXPLAIN DELETE FROM errors", "refused"),
            ("KILL 7", "KILL is refused"),
            ("KILL CONNECTION 7", "KILL is refused"),
            ("SHOW FUNCTIONS WHERE function_type = 'AGGREGATE'", "LIKE"),
            ("SELECT 1; SELECT 2", "there are 2"),
            ("", "there are 0"),
            ("SELEC 1", "SELEC"),
        ] {
            check(sql, Err(name));
        }
        check(&format!("SELECT '{}'", "x".repeat(SQL_BYTES_MAX)), Err("is the bound"));
        check(&format!("SELECT {}1{}", "(".repeat(100_000), ")".repeat(100_000)), Err(""));
    }

    #[test]
    fn question_marks_are_numbered() {
        match parse("SELECT * FROM errors WHERE title = ? AND level = ?") {
            Ok(Statement::Query(query)) => assert!(query.to_string().contains("title = $1 AND level = $2")),
            other => panic!("{other:?}"),
        }
    }
}
