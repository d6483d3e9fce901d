//! The tables `alerts` and `deliveries`: the history of alerts and the log of their deliveries, read from the catalog page by page.

use std::fmt::Debug;
use std::marker::PhantomData;
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

use super::control::{Control, DeliveryRow, HistoryQuery, HistoryRow, SubscriptionControl};
use crate::scope::Scope;

/// How many entries are read at a time.
const PAGE_ROWS: usize = 4_096;

/// The history of alerts.
pub(crate) type AlertsTable = Log<HistoryRow>;
/// The log of their deliveries.
pub(crate) type DeliveriesTable = Log<DeliveryRow>;

/// Entries of a log in the catalog.
#[async_trait]
pub(crate) trait Entry: Debug + Send + Sync + Sized + 'static {
    /// The log's name in SQL.
    const NAME: &'static str;

    /// Its columns.
    fn schema() -> &'static SchemaRef;

    /// Entries as rows.
    fn batch(entries: &[Self]) -> Result<RecordBatch>;

    /// An entry's place.
    fn seq(&self) -> u64;

    /// Reads a page.
    async fn page(control: &dyn SubscriptionControl, query: &HistoryQuery) -> Result<Vec<Self>, String>;
}

fn text(name: &str, nullable: bool) -> Field {
    Field::new(name, DataType::Utf8, nullable)
}

fn time(name: &str, nullable: bool) -> Field {
    Field::new(name, DataType::Timestamp(TimeUnit::Millisecond, None), nullable)
}

fn texts<E>(entries: &[E], of: fn(&E) -> &str) -> ArrayRef {
    Arc::new(entries.iter().map(|entry| Some(of(entry))).collect::<StringArray>())
}

fn times<E>(entries: &[E], of: fn(&E) -> Option<u64>) -> ArrayRef {
    Arc::new(entries.iter().map(|entry| of(entry).map(|ms| ms as i64)).collect::<TimestampMillisecondArray>())
}

fn projects<E>(entries: &[E], of: fn(&E) -> Option<u64>) -> ArrayRef {
    Arc::new(entries.iter().map(|entry| of(entry).map(|id| id as i64)).collect::<Int64Array>())
}

fn counts<E>(entries: &[E], of: fn(&E) -> u32) -> ArrayRef {
    Arc::new(entries.iter().map(|entry| i32::try_from(of(entry)).unwrap_or(i32::MAX)).collect::<Int32Array>())
}

static ALERTS: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        text("id", false),
        text("subscription", false),
        Field::new("version", DataType::Int32, false),
        Field::new("project_id", DataType::Int64, true),
        text("key", false),
        text("kind", false),
        text("severity", false),
        text("row", false),
        time("event_time", false),
        time("fired_time", false),
        time("delivered_time", true),
    ]))
});

#[async_trait]
impl Entry for HistoryRow {
    const NAME: &'static str = "alerts";

    fn schema() -> &'static SchemaRef {
        &ALERTS
    }

    fn batch(entries: &[Self]) -> Result<RecordBatch> {
        let columns = vec![
            texts(entries, |entry| &entry.id),
            texts(entries, |entry| &entry.subscription),
            counts(entries, |entry| entry.version),
            projects(entries, |entry| entry.project_id),
            texts(entries, |entry| &entry.key),
            texts(entries, |entry| entry.kind.as_str()),
            texts(entries, |entry| &entry.severity),
            texts(entries, |entry| &entry.row),
            times(entries, |entry| Some(entry.event_time_ms)),
            times(entries, |entry| Some(entry.fired_time_ms)),
            times(entries, |entry| entry.delivered_time_ms),
        ];
        Ok(RecordBatch::try_new(Arc::clone(&ALERTS), columns)?)
    }

    fn seq(&self) -> u64 {
        self.seq
    }

    async fn page(control: &dyn SubscriptionControl, query: &HistoryQuery) -> Result<Vec<Self>, String> {
        control.history(query).await
    }
}

static DELIVERIES: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        text("id", false),
        text("subscription", false),
        Field::new("project_id", DataType::Int64, true),
        text("target", false),
        Field::new("attempt", DataType::Int32, false),
        time("attempt_time", false),
        Field::new("duration_ms", DataType::Int64, false),
        text("status", false),
        text("error", true),
    ]))
});

#[async_trait]
impl Entry for DeliveryRow {
    const NAME: &'static str = "deliveries";

    fn schema() -> &'static SchemaRef {
        &DELIVERIES
    }

    fn batch(entries: &[Self]) -> Result<RecordBatch> {
        let columns = vec![
            texts(entries, |entry| &entry.id),
            texts(entries, |entry| &entry.subscription),
            projects(entries, |entry| entry.project_id),
            texts(entries, |entry| &entry.target),
            counts(entries, |entry| entry.attempt),
            times(entries, |entry| Some(entry.attempt_time_ms)),
            Arc::new(entries.iter().map(|entry| i64::try_from(entry.duration_ms).unwrap_or(i64::MAX)).collect::<Int64Array>()),
            texts(entries, |entry| entry.status),
            Arc::new(entries.iter().map(|entry| entry.error.as_deref()).collect::<StringArray>()),
        ];
        Ok(RecordBatch::try_new(Arc::clone(&DELIVERIES), columns)?)
    }

    fn seq(&self) -> u64 {
        self.seq
    }

    async fn page(control: &dyn SubscriptionControl, query: &HistoryQuery) -> Result<Vec<Self>, String> {
        control.deliveries(query).await
    }
}

/// The entries of a log that a caller may read.
#[derive(Debug)]
pub(crate) struct Log<E> {
    scope: Scope,
    control: Control,
    entries: PhantomData<E>,
}

impl<E: Entry> Log<E> {
    /// Its name in SQL.
    pub(crate) const NAME: &str = E::NAME;

    pub(crate) fn new(scope: Scope, control: Control) -> Self {
        Self { scope, control, entries: PhantomData }
    }
}

#[async_trait]
impl<E: Entry> TableProvider for Log<E> {
    fn schema(&self) -> SchemaRef {
        Arc::clone(E::schema())
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(&self, _state: &dyn Session, projection: Option<&Vec<usize>>, _filters: &[Expr], limit: Option<usize>) -> Result<Arc<dyn ExecutionPlan>> {
        let control = self.control.get().map_err(|e| plan_datafusion_err!("{e}"))?;
        let query = HistoryQuery { org_id: self.scope.org_id, projects: self.scope.projects.clone(), after: 0, limit: PAGE_ROWS };
        let pages = Pages::<E> { control: Arc::clone(control), query, entries: PhantomData };
        Ok(Arc::new(StreamingTableExec::try_new(self.schema(), vec![Arc::new(pages)], projection, None, false, limit)?))
    }
}

#[derive(Debug)]
struct Pages<E> {
    control: Arc<dyn SubscriptionControl>,
    query: HistoryQuery,
    entries: PhantomData<E>,
}

impl<E: Entry> PartitionStream for Pages<E> {
    fn schema(&self) -> &SchemaRef {
        E::schema()
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let first = Some((Arc::clone(&self.control), self.query.clone()));
        let pages = futures::stream::try_unfold(first, |next| async move {
            let Some((control, query)) = next else { return Ok(None) };
            let entries = E::page(control.as_ref(), &query).await.map_err(|e| exec_datafusion_err!("{} cannot be read: {e}", E::NAME))?;
            let Some(last) = entries.last() else { return Ok(None) };
            let next = (entries.len() >= PAGE_ROWS).then_some((control, HistoryQuery { after: last.seq(), ..query }));
            Ok(Some((E::batch(&entries)?, next)))
        });
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(E::schema()), pages))
    }
}
