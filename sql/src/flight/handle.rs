//! Handles and tickets: a statement, its parameters, and the id by which its run may be cancelled.
//!
//! The server keeps nothing for them: they carry all of it, and never a right.

use arrow_flight::error::FlightError;
use arrow_flight::sql::server::PeekableFlightDataStream;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::ipc::reader::StreamReader;
use datafusion::arrow::ipc::writer::StreamWriter;
use datafusion::common::ScalarValue;
use futures::TryStreamExt;
use tonic::Status;

use super::answer::internal;
use crate::running::QueryId;

/// A statement and, once bound, one row of parameters as an Arrow stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Handle {
    /// Of a ticket, the run that it stands for; zeros where it stands for none.
    pub(super) id: QueryId,
    pub(super) sql: String,
    pub(super) parameters: Vec<u8>,
}

impl Handle {
    pub(super) fn new(sql: String) -> Self {
        Self { id: QueryId::default(), sql, parameters: Vec::new() }
    }

    /// The same for one run.
    pub(super) fn for_a_run(self) -> Result<Self, Status> {
        let mut id = QueryId::default();
        getrandom::fill(&mut id).map_err(internal)?;
        Ok(Self { id, ..self })
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = self.id.to_vec();
        bytes.extend_from_slice(&(self.sql.len() as u32).to_le_bytes());
        bytes.extend_from_slice(self.sql.as_bytes());
        bytes.extend_from_slice(&self.parameters);
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Status> {
        let parts = || {
            let (id, rest) = bytes.split_first_chunk::<16>()?;
            let (length, rest) = rest.split_first_chunk::<4>()?;
            let (sql, parameters) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
            Some(Self { id: *id, sql: String::from_utf8(sql.to_vec()).ok()?, parameters: parameters.to_vec() })
        };
        parts().ok_or_else(|| Status::invalid_argument("this is not a handle of a prepared statement of this server"))
    }

    /// The parameters, in their order; none where none are bound.
    pub(super) fn values(&self) -> Result<Vec<ScalarValue>, Status> {
        if self.parameters.is_empty() {
            return Ok(Vec::new());
        }
        let wrong = |e: &dyn std::fmt::Display| Status::invalid_argument(format!("the bound parameters cannot be read: {e}"));
        let mut reader = StreamReader::try_new(self.parameters.as_slice(), None).map_err(|e| wrong(&e))?;
        let batch = reader.next().transpose().map_err(|e| wrong(&e))?;
        let Some(batch) = batch.filter(|batch| batch.num_rows() == 1) else { return Err(wrong(&"there is not one row of them")) };
        batch.columns().iter().map(|column| ScalarValue::try_from_array(column, 0).map_err(|e| wrong(&e))).collect()
    }
}

/// What is bound by `DoPut`, as one Arrow stream.
pub(super) async fn bound_parameters(stream: PeekableFlightDataStream) -> Result<Vec<u8>, Status> {
    let batches: Vec<RecordBatch> = arrow_flight::decode::FlightRecordBatchStream::new_from_flight_data(stream.map_err(|e| FlightError::Tonic(Box::new(e))))
        .try_collect()
        .await
        .map_err(Status::from)?;
    if batches.iter().map(RecordBatch::num_rows).sum::<usize>() > 1 {
        return Err(Status::invalid_argument("bind one row of parameters; a query cannot be run for many rows at a time"));
    }
    let Some(batch) = batches.into_iter().find(|b| b.num_rows() == 1) else { return Ok(Vec::new()) };
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).map_err(internal)?;
    writer.write(&batch).and_then(|()| writer.finish()).map_err(internal)?;
    writer.into_inner().map_err(internal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_carry_statement_parameters_and_run() {
        let handle = Handle { parameters: vec![1, 2], ..Handle::new("SELECT $1".to_owned()) };
        assert_eq!(Handle::decode(&handle.encode()).unwrap(), handle);
        let runs = [handle.clone().for_a_run().unwrap(), handle.clone().for_a_run().unwrap()];
        assert!(runs[0].id != runs[1].id && runs[0].sql == handle.sql);
        for bad in [&[][..], &[1, 2], &[0; 19], &[[0; 16].as_slice(), &[255; 5]].concat(), &[[0; 16].as_slice(), &[1, 0, 0, 0, 0xff]].concat()] {
            assert!(Handle::decode(bad).is_err(), "{bad:?}");
        }
    }
}
