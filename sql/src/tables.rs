//! What a caller can ask about: every table and view, cut to what the caller may read.
//!
//! A table is a plan over its stored form: first the scope, then ids as text. The scope is a part of the table, so no query,
//! view, join or subquery can get around it, and no expression sees a row before it (`scoped.rs`).

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::{CatalogProvider, SchemaProvider, Session, TableProvider};
use datafusion::common::{Result, TableReference, plan_err};
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, TableType, col};
use datafusion::physical_plan::ExecutionPlan;
use weir_dataflow::reach::Reach;
use weir_operators::schema::{self, Table};

use crate::deleted::not_deleted;
use crate::hex_id::hex_id;
use crate::scope::Scope;
use crate::scoped::ScopedTable;
use crate::stored::StoredTable;

/// The one catalog.
pub(crate) const CATALOG: &str = "weir";
/// The one schema.
pub(crate) const SCHEMA: &str = "public";

/// The tables of a caller, without the rows that deletions reach; views are added by planning them over these. They are bound to
/// no snapshot: the session is.
pub(crate) fn scoped(scope: &Scope, deletions: &[Arc<Reach>]) -> Result<BTreeMap<String, Arc<dyn TableProvider>>> {
    let mut tables: BTreeMap<String, Arc<dyn TableProvider>> = BTreeMap::new();
    for table in schema::tables() {
        let plan = plan(table, scope, deletions)?;
        tables.insert(table.name.to_owned(), Arc::new(PlannedTable::new(plan, TableType::Base, table.sql_schema())?));
    }
    Ok(tables)
}

/// A table as it is stored, cut to what a caller may read and to what is not deleted.
pub(crate) fn readable(table: &'static Table, scope: &Scope, deletions: &[Arc<Reach>]) -> ScopedTable {
    let hidden = deletions.iter().filter_map(|reach| not_deleted(table, reach));
    ScopedTable::new(StoredTable::new(table), hidden.fold(scope.condition(), Expr::and))
}

fn plan(table: &'static Table, scope: &Scope, deletions: &[Arc<Reach>]) -> Result<LogicalPlan> {
    let column = |c: &schema::Column| if c.id { hex_id(col(c.name)).alias(c.name) } else { col(c.name) };
    let scoped = readable(table, scope, deletions);
    LogicalPlanBuilder::scan(TableReference::bare(table.name), provider_as_source(Arc::new(scoped)), None)?
        .project(table.columns.iter().map(column).collect::<Vec<Expr>>())?
        .build()
}

/// A table or view that is a plan.
#[derive(Debug)]
pub(crate) struct PlannedTable {
    plan: LogicalPlan,
    schema: SchemaRef,
    table_type: TableType,
}

impl PlannedTable {
    /// A plan with the schema that it must have.
    fn new(plan: LogicalPlan, table_type: TableType, schema: &SchemaRef) -> Result<Self> {
        let planned: &Schema = plan.schema().as_arrow();
        if planned.fields() != schema.fields() {
            return plan_err!("a table's plan has the columns {planned:?}, not {schema:?}");
        }
        Ok(Self { plan, schema: Arc::clone(schema), table_type })
    }

    /// A view: the schema is the plan's.
    pub(crate) fn view(plan: LogicalPlan) -> Self {
        let schema = Arc::new(plan.schema().as_arrow().clone());
        Self { plan, schema, table_type: TableType::View }
    }
}

#[async_trait]
impl TableProvider for PlannedTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        self.table_type
    }

    fn get_logical_plan(&self) -> Option<std::borrow::Cow<'_, LogicalPlan>> {
        Some(std::borrow::Cow::Borrowed(&self.plan))
    }

    async fn scan(&self, state: &dyn Session, projection: Option<&Vec<usize>>, filters: &[Expr], limit: Option<usize>) -> Result<Arc<dyn ExecutionPlan>> {
        // Planning puts the plan in the table's place; this serves whoever asks the table itself.
        let mut plan = LogicalPlanBuilder::from(self.plan.clone());
        for filter in filters {
            plan = plan.filter(filter.clone())?;
        }
        if let Some(projection) = projection {
            let columns: Vec<Expr> = projection.iter().map(|index| Expr::Column(self.plan.schema().columns()[*index].clone())).collect();
            plan = plan.project(columns)?;
        }
        state.create_physical_plan(&plan.limit(0, limit)?.build()?).await
    }
}

/// The catalog of one statement.
#[derive(Debug)]
pub(crate) struct Tables {
    tables: BTreeMap<String, Arc<dyn TableProvider>>,
}

impl Tables {
    pub(crate) fn new(tables: BTreeMap<String, Arc<dyn TableProvider>>) -> Self {
        Self { tables }
    }
}

#[async_trait]
impl SchemaProvider for Tables {
    fn table_names(&self) -> Vec<String> {
        self.tables.keys().cloned().collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        Ok(self.tables.get(name).cloned())
    }

    fn table_exist(&self, name: &str) -> bool {
        self.tables.contains_key(name)
    }
}

/// The catalog with its one schema.
#[derive(Debug)]
pub(crate) struct Catalog(pub(crate) Arc<Tables>);

impl CatalogProvider for Catalog {
    fn schema_names(&self) -> Vec<String> {
        vec![SCHEMA.to_owned()]
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        (name == SCHEMA).then(|| Arc::clone(&self.0) as Arc<dyn SchemaProvider>)
    }
}
