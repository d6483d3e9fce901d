//! The table `alerts`: the history of alerts, read from the catalog page by page.

use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use datafusion::arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Result, exec_datafusion_err, plan_datafusion_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};

use super::control::{Control, HistoryQuery, HistoryRow, SubscriptionControl};
use crate::scope::Scope;

/// How many entries are read at a time.
const PAGE_ROWS: usize = 4_096;

/// The history that a caller may read.
#[derive(Debug)]
pub(crate) struct AlertsTable {
    scope: Scope,
    control: Control,
}

impl AlertsTable {
    /// Its name in SQL.
    pub(crate) const NAME: &str = "alerts";

    pub(crate) fn new(scope: Scope, control: Control) -> Self {
        Self { scope, control }
    }
}

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let text = |name: &str| Field::new(name, DataType::Utf8, false);
    let time = |name: &str, nullable| Field::new(name, DataType::Timestamp(TimeUnit::Millisecond, None), nullable);
    Arc::new(Schema::new(vec![
        text("id"),
        text("subscription"),
        Field::new("version", DataType::Int32, false),
        Field::new("project_id", DataType::Int64, true),
        text("key"),
        text("kind"),
        text("severity"),
        text("row"),
        time("event_time", false),
        time("fired_time", false),
        time("delivered_time", true),
    ]))
});

fn batch(rows: &[HistoryRow]) -> Result<RecordBatch> {
    let text = |of: fn(&HistoryRow) -> &str| -> ArrayRef { Arc::new(rows.iter().map(|row| Some(of(row))).collect::<StringArray>()) };
    let time = |of: fn(&HistoryRow) -> Option<u64>| -> ArrayRef {
        Arc::new(rows.iter().map(|row| of(row).map(|ms| ms as i64)).collect::<TimestampMillisecondArray>())
    };
    let columns: Vec<ArrayRef> = vec![
        text(|row| &row.id),
        text(|row| &row.subscription),
        Arc::new(rows.iter().map(|row| i32::try_from(row.version).unwrap_or(i32::MAX)).collect::<Int32Array>()),
        Arc::new(rows.iter().map(|row| row.project_id.map(|id| id as i64)).collect::<Int64Array>()),
        text(|row| &row.key),
        text(|row| row.kind.as_str()),
        text(|row| &row.severity),
        text(|row| &row.row),
        time(|row| Some(row.event_time_ms)),
        time(|row| Some(row.fired_time_ms)),
        time(|row| row.delivered_time_ms),
    ];
    Ok(RecordBatch::try_new(Arc::clone(&SCHEMA), columns)?)
}

#[async_trait]
impl TableProvider for AlertsTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&SCHEMA)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(&self, _state: &dyn Session, projection: Option<&Vec<usize>>, _filters: &[Expr], limit: Option<usize>) -> Result<Arc<dyn ExecutionPlan>> {
        let control = self.control.get().map_err(|e| plan_datafusion_err!("{e}"))?;
        let query = HistoryQuery { org_id: self.scope.org_id, projects: self.scope.projects.clone(), after: 0, limit: PAGE_ROWS };
        let pages = Pages { control: Arc::clone(control), query };
        Ok(Arc::new(StreamingTableExec::try_new(self.schema(), vec![Arc::new(pages)], projection, None, false, limit)?))
    }
}

#[derive(Debug)]
struct Pages {
    control: Arc<dyn SubscriptionControl>,
    query: HistoryQuery,
}

impl PartitionStream for Pages {
    fn schema(&self) -> &SchemaRef {
        &SCHEMA
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let first = Some((Arc::clone(&self.control), self.query.clone()));
        let pages = futures::stream::try_unfold(first, |next| async move {
            let Some((control, query)) = next else { return Ok(None) };
            let rows = control.history(&query).await.map_err(|e| exec_datafusion_err!("the history of alerts cannot be read: {e}"))?;
            let Some(last) = rows.last() else { return Ok(None) };
            let next = (rows.len() >= PAGE_ROWS).then_some((control, HistoryQuery { after: last.seq, ..query }));
            Ok(Some((batch(&rows)?, next)))
        });
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&SCHEMA), pages))
    }
}
