//! The rows of a query as they come, and the task that makes them.
//!
//! Queries run on threads of their own, so that one that computes hard keeps neither the doors nor other calls waiting. The
//! task ends at the limits of the query, when it is cancelled, and as soon as nobody waits for its rows.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{SessionState, TaskContext};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::execute_stream;
use futures::{Stream, StreamExt};
use tokio::sync::mpsc;

use crate::error::QueryError;
use crate::running::Place;
use crate::{telemetry, wire};

/// Batches that wait for a client; the query pauses behind them.
const BATCHES_WAITING: usize = 2;

enum Message {
    Rows(RecordBatch),
    Failed(QueryError),
    Ended,
}

/// The rows of a query. Dropping it ends the query.
pub struct QueryStream {
    schema: SchemaRef,
    messages: mpsc::Receiver<Message>,
    ended: bool,
}

/// What a task needs to make the rows.
pub(crate) struct Task {
    pub(crate) state: SessionState,
    pub(crate) plan: LogicalPlan,
    pub(crate) schema: SchemaRef,
    pub(crate) runtime: Arc<RuntimeEnv>,
    pub(crate) place: Place,
    pub(crate) time_max: Duration,
    pub(crate) rows_max: usize,
}

/// How a task ended.
enum End {
    Ended,
    Dropped,
    Failed(QueryError),
}

impl QueryStream {
    /// Starts a query on the given threads.
    pub(crate) fn start(task: Task, threads: &tokio::runtime::Handle) -> Self {
        let (sender, messages) = mpsc::channel(BATCHES_WAITING);
        let schema = Arc::clone(&task.schema);
        threads.spawn(run(task, sender));
        Self { schema, messages, ended: false }
    }

    /// A stream of no rows.
    pub(crate) fn empty(schema: SchemaRef) -> Self {
        let (_, messages) = mpsc::channel(1);
        Self { schema, messages, ended: true }
    }

    /// A stream of rows that are there, or that come one by one without an end.
    pub(crate) fn of(
        schema: SchemaRef,
        mut batches: futures::stream::BoxStream<'static, Result<RecordBatch, QueryError>>,
        threads: &tokio::runtime::Handle,
    ) -> Self {
        let (sender, messages) = mpsc::channel(BATCHES_WAITING);
        let wired = Arc::clone(&schema);
        threads.spawn(async move {
            loop {
                let next = tokio::select! {
                    () = sender.closed() => return,
                    next = batches.next() => next,
                };
                let message = match next {
                    Some(Ok(batch)) => wire::batch(&batch, &wired).map_or_else(|e| Message::Failed(QueryError::Internal(e.to_string())), Message::Rows),
                    Some(Err(error)) => Message::Failed(error),
                    None => Message::Ended,
                };
                let ends = !matches!(message, Message::Rows(_));
                if sender.send(message).await.is_err() || ends {
                    return;
                }
            }
        });
        Self { schema, messages, ended: false }
    }

    /// The schema of the rows.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}

impl Stream for QueryStream {
    type Item = Result<RecordBatch, QueryError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let message = std::task::ready!(self.messages.poll_recv(cx));
        self.ended = !matches!(message, Some(Message::Rows(_)));
        Poll::Ready(match message {
            Some(Message::Rows(batch)) => Some(Ok(batch)),
            Some(Message::Failed(error)) => Some(Err(error)),
            Some(Message::Ended) => None,
            // The task is gone without a word: what came is not all.
            None => Some(Err(QueryError::Internal("the query ended before its last row".to_owned()))),
        })
    }
}

async fn run(task: Task, sender: mpsc::Sender<Message>) {
    let query = Arc::clone(&task.place.query);
    let time_max = task.time_max;
    let end = tokio::select! {
        biased;
        () = query.stopped() => End::Failed(QueryError::Cancelled),
        () = sender.closed() => End::Dropped,
        () = tokio::time::sleep(time_max) => End::Failed(QueryError::Time(time_max)),
        made = rows(&task, &sender) => made.map_or_else(End::Failed, |()| End::Ended),
    };
    record(&query, &end);
    // The place is free before the client reads the end, so that its next query finds it.
    drop(task);
    match end {
        End::Ended => drop(sender.send(Message::Ended).await),
        End::Failed(error) => drop(sender.send(Message::Failed(error)).await),
        End::Dropped => {}
    }
}

async fn rows(task: &Task, sender: &mpsc::Sender<Message>) -> Result<(), QueryError> {
    let query = &task.place.query;
    let plan = task.state.create_physical_plan(&task.plan).await?;
    metrics::histogram!(telemetry::PLAN_SECONDS).record(query.started.elapsed().as_secs_f64());
    query.runs(Arc::clone(&plan));
    let context = TaskContext::from(&task.state).with_runtime(Arc::clone(&task.runtime));
    let mut batches = execute_stream(plan, Arc::new(context))?;
    while let Some(batch) = batches.next().await {
        let batch = batch?;
        let before = query.rows.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
        if before + batch.num_rows() as u64 > task.rows_max as u64 {
            return Err(QueryError::Rows(task.rows_max));
        }
        let batch = wire::batch(&batch, &task.schema).map_err(|e| QueryError::Internal(e.to_string()))?;
        if sender.send(Message::Rows(batch)).await.is_err() {
            // Nobody waits any more; `run` sees it as well.
            break;
        }
    }
    Ok(())
}

fn record(query: &crate::running::RunningQuery, end: &End) {
    let result = match end {
        End::Ended => "ok",
        End::Dropped => "dropped",
        End::Failed(error) => error.kind(),
    };
    let scanned = query.scanned();
    metrics::counter!(telemetry::QUERIES, "result" => result).increment(1);
    metrics::histogram!(telemetry::SECONDS).record(query.started.elapsed().as_secs_f64());
    metrics::counter!(telemetry::ROWS).increment(query.rows.load(Ordering::Relaxed));
    metrics::counter!(telemetry::ROWS_SCANNED).increment(scanned.rows);
    metrics::counter!(telemetry::BYTES_SCANNED).increment(scanned.bytes);
}
