//! Cases that others have written for their streaming SQL: sqllogictest files from the folder that `WEIR_THIRD_PARTY_CASES` names.
//!
//! The tables that a case creates become tables here, its materialized views subscriptions. What it inserts, updates and deletes are
//! ticks; after each, what it asks of its views is asked of the rows that are maintained. See `docs/third-party-cases.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, RecordBatch};
use datafusion::arrow::compute::{cast, concat_batches};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::datasource::MemTable;
use datafusion::prelude::SessionContext;
use datafusion::sql::sqlparser::ast::{
    AssignmentTarget, ColumnOption, DataType as SqlType, Expr, FromTable, ObjectType, Statement, TableConstraint, TableFactor, TableObject,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use weir_operators::relation::harness::{Run, Tick, advances};
use weir_operators::relation::json::row_text;
use weir_operators::relation::template::TableChanges;
use weir_operators::schema::Table;
use weir_protocol::subscription::SubscriptionOptions;

use super::tests::{everything, planner};
use super::{CompiledQuery, Planner, compile};

/// A record of a file.
enum Record {
    Statement(String),
    Query { sql: String, sorted: bool, expected: Vec<String> },
}

fn records(text: &str) -> Vec<Record> {
    let mut records = Vec::new();
    let mut lines = text.lines().map(str::trim_end).peekable();
    while let Some(line) = lines.next() {
        let mut words = line.split_whitespace();
        let kind = words.next().unwrap_or_default();
        if !matches!(kind, "statement" | "query") {
            continue;
        }
        let is_refused = words.any(|word| word == "error");
        let sorted = line.ends_with("rowsort");
        let mut sql = String::new();
        while let Some(line) = lines.next_if(|line| !line.is_empty() && *line != "----") {
            sql.push_str(line);
            sql.push('\n');
        }
        let mut expected = Vec::new();
        if lines.next_if(|line| *line == "----").is_some() {
            while let Some(line) = lines.next_if(|line| !line.is_empty()) {
                expected.push(line.to_owned());
            }
        }
        match kind {
            // What another engine refuses is its own affair.
            _ if is_refused => {}
            "statement" => records.push(Record::Statement(sql)),
            _ => records.push(Record::Query { sql, sorted, expected }),
        }
    }
    records
}

/// A table that a case has made.
struct Made {
    table: &'static Table,
    /// Without the organisation, which queries do not see.
    schema: SchemaRef,
    key: Vec<usize>,
    rows: RecordBatch,
}

/// A materialized view.
struct View {
    sql: String,
    compiled: Result<CompiledQuery, String>,
}

/// What came of the files so far.
#[derive(Debug, Default)]
struct Report {
    views: usize,
    in_language: usize,
    agree: usize,
    /// Answers that are DataFusion's and not the case's: the two mean something else by the same words.
    dialect: Vec<String>,
    wrong: Vec<String>,
    reasons: BTreeMap<String, usize>,
}

impl Report {
    fn reason(&mut self, why: &str) {
        // Names and places aside, so that equal reasons count together.
        let why = why.lines().next().unwrap_or_default();
        let why = why.split_once(": ").filter(|(place, _)| place.starts_with("line ")).map_or(why, |(_, rest)| rest);
        let why: String = why.chars().take(110).collect();
        *self.reasons.entry(why).or_default() += 1;
    }
}

struct Case {
    planner: Planner,
    context: SessionContext,
    tables: BTreeMap<String, Made>,
    views: BTreeMap<String, View>,
    ticks: Vec<Tick>,
}

fn sql_type(of: &SqlType) -> Result<DataType, String> {
    Ok(match of {
        SqlType::SmallInt(_) | SqlType::Int2(_) => DataType::Int16,
        SqlType::Int(_) | SqlType::Integer(_) | SqlType::Int4(_) => DataType::Int32,
        SqlType::BigInt(_) | SqlType::Int8(_) => DataType::Int64,
        SqlType::Real | SqlType::Float4 => DataType::Float32,
        SqlType::Float(_) | SqlType::Double(_) | SqlType::DoublePrecision | SqlType::Float8 => DataType::Float64,
        SqlType::Varchar(_) | SqlType::Text | SqlType::CharacterVarying(_) | SqlType::String(_) => DataType::Utf8,
        SqlType::Boolean | SqlType::Bool => DataType::Boolean,
        SqlType::Date => DataType::Date32,
        SqlType::Timestamp(..) => DataType::Timestamp(TimeUnit::Microsecond, None),
        other => return Err(format!("a column of type {other}")),
    })
}

impl Case {
    fn new() -> Self {
        Self { planner: planner(), context: SessionContext::new(), tables: BTreeMap::new(), views: BTreeMap::new(), ticks: Vec::new() }
    }

    async fn statement(&mut self, sql: &str, report: &mut Report) {
        let is_view = sql.to_lowercase().contains("create materialized view");
        report.views += usize::from(is_view);
        let parsed = match Parser::parse_sql(&PostgreSqlDialect {}, sql) {
            Ok(parsed) => parsed,
            Err(_) if is_view => return report.reason("a view in words that our parser does not know"),
            Err(_) => return,
        };
        for statement in parsed {
            if let Err(why) = self.run(statement, report).await {
                report.reason(&why);
            }
        }
    }

    async fn run(&mut self, statement: Statement, report: &mut Report) -> Result<(), String> {
        match statement {
            Statement::CreateTable(create) => {
                let name = create.name.to_string().to_lowercase();
                let mut columns = Vec::new();
                let mut key = BTreeSet::new();
                for column in &create.columns {
                    columns.push((column.name.value.to_lowercase(), sql_type(&column.data_type)?));
                    if column.options.iter().any(|option| matches!(option.option, ColumnOption::PrimaryKey(_))) {
                        key.insert(columns.len() - 1);
                    }
                }
                for constraint in &create.constraints {
                    if let TableConstraint::PrimaryKey(primary) = constraint {
                        for column in &primary.columns {
                            let wanted = column.column.expr.to_string().to_lowercase();
                            key.extend(columns.iter().position(|(name, _)| *name == wanted));
                        }
                    }
                }
                let fields: Vec<Field> = columns.iter().map(|(name, data_type)| Field::new(name, data_type.clone(), true)).collect();
                let schema: SchemaRef = Arc::new(Schema::new(fields));
                let table: &'static Table = Box::leak(Box::new(Table::of_columns(&name, &columns)));
                self.planner.add_table(table);
                let rows = RecordBatch::new_empty(Arc::clone(&schema));
                self.tables.insert(name.clone(), Made { table, schema, key: key.into_iter().collect(), rows });
                self.show_table(&name)
            }
            Statement::CreateView(view) if view.materialized => {
                let (name, sql) = (view.name.to_string().to_lowercase(), view.query.to_string());
                let compiled = compile(&self.planner, &everything(), &sql, &SubscriptionOptions::default()).map_err(|refusal| refusal.to_string());
                match &compiled {
                    Ok(_) => report.in_language += 1,
                    Err(why) => report.reason(why),
                }
                // A view over this one reads what it reads.
                let _ = self.planner.add_view(&name, &sql);
                self.views.insert(name, View { sql, compiled });
                Ok(())
            }
            Statement::Insert(insert) => {
                let TableObject::TableName(name) = &insert.table else { return Err("an insert into something else".to_owned()) };
                let name = name.to_string().to_lowercase();
                let source = insert.source.as_ref().ok_or("an insert without rows")?.to_string();
                let made = self.made(&name)?;
                let given = self.asked(&source).await?;
                let names: Vec<String> = insert.columns.iter().map(|column| column.to_string().to_lowercase()).collect();
                let columns = made.schema.fields().iter().enumerate().map(|(index, field)| {
                    let at = if names.is_empty() { Some(index) } else { names.iter().position(|name| name == field.name()) };
                    match at.filter(|at| *at < given.num_columns()) {
                        Some(at) => cast(given.column(at), field.data_type()).map_err(|e| e.to_string()),
                        None => Ok(datafusion::arrow::array::new_null_array(field.data_type(), given.num_rows())),
                    }
                });
                let new = RecordBatch::try_new(Arc::clone(&made.schema), columns.collect::<Result<Vec<_>, _>>()?).map_err(|e| e.to_string())?;
                self.change(&name, None, new)
            }
            Statement::Delete(delete) => {
                let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = &delete.from;
                let TableFactor::Table { name, .. } = &from.first().ok_or("a delete from nothing")?.relation else { return Err("a delete".to_owned()) };
                let name = name.to_string().to_lowercase();
                let met = delete.selection.as_ref().map_or("true".to_owned(), Expr::to_string);
                let left = self.asked(&format!("SELECT * FROM {name} WHERE ({met}) IS NOT TRUE")).await?;
                self.change(&name, Some(left), RecordBatch::new_empty(Arc::clone(&self.made(&name)?.schema)))
            }
            Statement::Update(update) => {
                let TableFactor::Table { name, .. } = &update.table.relation else { return Err("an update".to_owned()) };
                let name = name.to_string().to_lowercase();
                let met = update.selection.as_ref().map_or("true".to_owned(), Expr::to_string);
                let schema = Arc::clone(&self.made(&name)?.schema);
                let set = |field: &Field| {
                    let of = update
                        .assignments
                        .iter()
                        .find(|a| matches!(&a.target, AssignmentTarget::ColumnName(to) if to.to_string().to_lowercase() == *field.name()));
                    of.map_or(field.name().clone(), |assignment| assignment.value.to_string())
                };
                let columns: Vec<String> = schema.fields().iter().map(|field| set(field)).collect();
                let left = self.asked(&format!("SELECT * FROM {name} WHERE ({met}) IS NOT TRUE")).await?;
                let new = self.asked(&format!("SELECT {} FROM {name} WHERE {met}", columns.join(", "))).await?;
                let columns = new.columns().iter().zip(schema.fields()).map(|(column, field)| cast(column, field.data_type()).map_err(|e| e.to_string()));
                let new = RecordBatch::try_new(Arc::clone(&schema), columns.collect::<Result<Vec<_>, _>>()?).map_err(|e| e.to_string())?;
                self.change(&name, Some(left), new)
            }
            Statement::Drop { object_type: ObjectType::Table, names, .. } => {
                for name in &names {
                    let name = name.to_string().to_lowercase();
                    self.tables.remove(&name);
                    self.ticks.retain(|tick| tick.tables.iter().all(|changes| changes.table != name));
                }
                // The next table of that name may have other columns: nothing that was planned over this one is to be met again.
                self.planner = planner();
                self.tables.values().for_each(|made| self.planner.add_table(made.table));
                for (name, view) in &self.views {
                    let _ = self.planner.add_view(name, &view.sql);
                }
                Ok(())
            }
            Statement::Drop { object_type: ObjectType::MaterializedView | ObjectType::View, names, .. } => {
                names.iter().for_each(|name| drop(self.views.remove(&name.to_string().to_lowercase())));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn made(&self, name: &str) -> Result<&Made, String> {
        self.tables.get(name).ok_or_else(|| "a table that could not be made".to_owned())
    }

    /// What a query gives over the tables and views as they are registered.
    async fn asked(&self, sql: &str) -> Result<RecordBatch, String> {
        let frame = self.context.sql(sql).await.map_err(|e| e.strip_backtrace())?;
        let schema: SchemaRef = Arc::new(frame.schema().as_arrow().clone());
        let batches = frame.collect().await.map_err(|e| e.strip_backtrace())?;
        let schema = batches.first().map_or(schema, |batch| batch.schema());
        concat_batches(&schema, &batches).map_err(|e| e.to_string())
    }

    /// Rows of a table become `left` (those that are there, where it is absent) and `new`: a tick.
    fn change(&mut self, name: &str, left: Option<RecordBatch>, new: RecordBatch) -> Result<(), String> {
        let time = 1_000_000 + self.ticks.len() as u64;
        let made = self.tables.get_mut(name).ok_or("a table that could not be made")?;
        let before = made.rows.clone();
        let mut left = left.unwrap_or_else(|| before.clone());
        if !made.key.is_empty() && new.num_rows() > 0 {
            let of = |batch: &RecordBatch| batch.project(&made.key).map_err(|e| e.to_string());
            let (keys_left, keys_new) = (of(&left)?, of(&new)?);
            let taken: BTreeSet<String> = (0..new.num_rows()).map(|row| row_text(&keys_new, row)).collect();
            let keep = (0..left.num_rows()).map(|row| Some(!taken.contains(&row_text(&keys_left, row)))).collect();
            left = datafusion::arrow::compute::filter_record_batch(&left, &keep).map_err(|e| e.to_string())?;
        }
        let left = RecordBatch::try_new(Arc::clone(&made.schema), left.columns().to_vec()).map_err(|e| e.to_string())?;
        let after = concat_batches(&made.schema, [&left, &new]).map_err(|e| e.to_string())?;
        let both = concat_batches(&made.schema, [&before, &after]).map_err(|e| e.to_string())?;
        let organisation: ArrayRef = Arc::new(datafusion::arrow::array::Int64Array::from(vec![1; both.num_rows()]));
        let columns = both.columns().iter().cloned().chain([organisation]).collect();
        let batch = RecordBatch::try_new(Arc::clone(made.table.stored_schema()), columns).map_err(|e| e.to_string())?;
        let differences = (0..both.num_rows()).map(|row| if row < before.num_rows() { -1 } else { 1 }).collect();
        made.rows = after;
        self.ticks.push(Tick { time, tables: vec![TableChanges { table: made.table.name, batch, differences: Some(differences) }], parameters: Vec::new() });
        self.show_table(name)
    }

    fn show_table(&self, name: &str) -> Result<(), String> {
        let made = self.made(name)?;
        self.show(name, &made.schema, vec![made.rows.clone()])
    }

    fn show(&self, name: &str, schema: &SchemaRef, rows: Vec<RecordBatch>) -> Result<(), String> {
        let table = MemTable::try_new(Arc::clone(schema), vec![rows]).map_err(|e| e.to_string())?;
        let _ = self.context.deregister_table(name);
        self.context.register_table(name, Arc::new(table)).map(drop).map_err(|e| e.to_string())
    }

    /// The rows of a view as they are maintained.
    fn maintained(&self, compiled: &CompiledQuery) -> Result<RecordBatch, String> {
        let mut script = vec![Tick { time: 1, tables: Vec::new(), parameters: vec![(compiled.parameters(1), true)] }];
        script.extend(self.ticks.iter().cloned());
        let mut rows: BTreeMap<String, (RecordBatch, i64)> = BTreeMap::new();
        for (_, advance) in advances(&compiled.template, &script, Run::default()) {
            for (_, failure, difference) in &advance.failures {
                if *difference > 0 {
                    return Err(format!("a row without a value: {}", failure.message));
                }
            }
            for (_, changes) in &advance.changes {
                for row in (0..changes.differences.len()).filter(|row| changes.fires[*row]) {
                    let one = changes.rows.slice(row, 1);
                    rows.entry(row_text(&changes.rows, row)).or_insert((one, 0)).1 += changes.differences[row];
                }
            }
        }
        let schema = &compiled.template.finish.schema;
        let all: Vec<RecordBatch> = rows.into_values().flat_map(|(row, count)| std::iter::repeat_n(row, count.max(0) as usize)).collect();
        concat_batches(schema, &all).map_err(|e| e.to_string())
    }

    async fn query(&mut self, sql: &str, sorted: bool, expected: &[String], report: &mut Report) {
        let words: BTreeSet<String> = sql.split(|c: char| !c.is_alphanumeric() && c != '_').map(str::to_lowercase).collect();
        let asked: Vec<&String> = self.views.keys().filter(|name| words.contains(*name)).collect();
        if asked.is_empty() {
            return;
        }
        let mut answers = Vec::new();
        for of_datafusion in [false, true] {
            for name in &asked {
                let view = &self.views[*name];
                let Ok(compiled) = &view.compiled else { return };
                let rows = if of_datafusion { self.asked(&view.sql).await } else { self.maintained(compiled) };
                let shown = rows.and_then(|rows| self.show(name, &rows.schema(), vec![rows.clone()]));
                if let Err(why) = shown {
                    return report.reason(&why);
                }
            }
            match self.asked(sql).await {
                Ok(rows) => answers.push(lines(&rows)),
                Err(why) => return report.reason(&format!("a query over the answer: {why}")),
            }
        }
        let in_order = !sorted && words.contains("order");
        let [maintained, datafusion] = &mut answers[..] else { return };
        let mut expected: Vec<String> = expected.iter().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        if !in_order {
            [&mut *maintained, &mut *datafusion, &mut expected].into_iter().for_each(|lines| lines.sort());
        }
        if same(maintained, &expected) {
            report.agree += 1;
        } else if same(maintained, datafusion) {
            report.dialect.push(sql.trim().to_owned());
        } else {
            report.wrong.push(format!("{sql}maintained {maintained:?}\nDataFusion {datafusion:?}\nthe case {expected:?}"));
        }
    }
}

/// Rows as such files write them.
fn lines(rows: &RecordBatch) -> Vec<String> {
    let options = FormatOptions::default().with_null("NULL").with_timestamp_format(Some("%Y-%m-%d %H:%M:%S%.f"));
    let cell = |column: &ArrayRef, row: usize| -> String {
        let text = match ArrayFormatter::try_new(column, &options) {
            Ok(formatter) => formatter.value(row).to_string(),
            Err(error) => error.to_string(),
        };
        match (column.data_type(), column.is_null(row)) {
            (_, true) => "NULL".to_owned(),
            (DataType::Boolean, _) => text.chars().take(1).collect(),
            (DataType::Utf8, _) if text.is_empty() => "(empty)".to_owned(),
            _ => text.split_whitespace().collect::<Vec<_>>().join(" "),
        }
    };
    (0..rows.num_rows()).map(|row| rows.columns().iter().map(|column| cell(column, row)).collect::<Vec<_>>().join(" ")).collect()
}

fn same(a: &[String], b: &[String]) -> bool {
    let word = |(a, b): (&str, &str)| match (a.parse::<f64>(), b.parse::<f64>()) {
        (Ok(a), Ok(b)) => (a - b).abs() <= 1e-6 * a.abs().max(b.abs()).max(1.0),
        _ => a == b,
    };
    let line = |(a, b): (&String, &String)| {
        let (a, b): (Vec<&str>, Vec<&str>) = (a.split(' ').collect(), b.split(' ').collect());
        a.len() == b.len() && a.into_iter().zip(b).all(word)
    };
    a.len() == b.len() && a.iter().zip(b).all(line)
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let mut entries: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            files(&path, found);
        } else if path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.ends_with(".slt") || name.ends_with(".slt.part")) {
            found.push(path);
        }
    }
}

#[test]
#[allow(clippy::print_stdout, reason = "what came of the cases is what a run of this test is asked for")]
fn views_of_others_are_maintained_as_they_expect() {
    let Some(folder) = std::env::var_os("WEIR_THIRD_PARTY_CASES").map(PathBuf::from) else {
        println!("skipped: WEIR_THIRD_PARTY_CASES names no folder with cases");
        return;
    };
    let mut found = Vec::new();
    files(&folder, &mut found);
    assert!(!found.is_empty(), "{} has no .slt files", folder.display());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (mut agree, mut wrong) = (0, Vec::new());
    for path in found {
        let mut report = Report::default();
        let mut case = Case::new();
        runtime.block_on(async {
            for record in records(&std::fs::read_to_string(&path).unwrap()) {
                match record {
                    Record::Statement(sql) => case.statement(&sql, &mut report).await,
                    Record::Query { sql, sorted, expected } => case.query(&sql, sorted, &expected, &mut report).await,
                }
            }
        });
        let name = path.strip_prefix(&folder).unwrap_or(&path).display().to_string();
        println!("{name} | {} | {} | {} | {} | {:?}", report.views, report.in_language, report.agree, report.dialect.len(), report.reasons);
        for sql in &report.dialect {
            println!("    other words: {sql}");
        }
        agree += report.agree;
        wrong.extend(report.wrong.into_iter().map(|answer| format!("{name}: {answer}")));
    }
    println!("{agree} answers agree");
    assert!(wrong.is_empty(), "{} answers are wrong:\n{}", wrong.len(), wrong.join("\n\n"));
    assert!(agree > 0, "no answer was compared");
}
