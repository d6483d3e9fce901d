//! Handles and tickets: a statement, its parameters, and the id by which its run may be cancelled.
//!
//! The server keeps nothing for them: they carry all of it, and never a right.

use std::sync::LazyLock;

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

/// A row of parameters larger than this is refused.
const PARAMETERS_BYTES_MAX: usize = 4 << 20;
/// Messages that binding a row may take.
const PARAMETER_BATCHES_MAX: usize = 16;

/// The key that bound parameters are sealed with, new with each start. What comes back to be read as an Arrow stream is what was
/// written here: the reader trusts the lengths that it finds.
static SEAL: LazyLock<Result<[u8; 32], getrandom::Error>> = LazyLock::new(|| {
    let mut key = [0; 32];
    getrandom::fill(&mut key).map(|()| key)
});

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

    pub(super) fn encode(&self) -> Result<Vec<u8>, Status> {
        let mut bytes = self.id.to_vec();
        bytes.extend_from_slice(&(self.sql.len() as u32).to_le_bytes());
        bytes.extend_from_slice(self.sql.as_bytes());
        if !self.parameters.is_empty() {
            bytes.extend_from_slice(self.seal()?.as_bytes());
            bytes.extend_from_slice(&self.parameters);
        }
        Ok(bytes)
    }

    /// What shows that the parameters were bound here, to this statement.
    fn seal(&self) -> Result<blake3::Hash, Status> {
        let key = SEAL.as_ref().map_err(|e| internal(*e))?;
        let mut hasher = blake3::Hasher::new_keyed(key);
        hasher.update(&(self.sql.len() as u64).to_le_bytes()).update(self.sql.as_bytes()).update(&self.parameters);
        Ok(hasher.finalize())
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Status> {
        let parts = || {
            let (id, rest) = bytes.split_first_chunk::<16>()?;
            let (length, rest) = rest.split_first_chunk::<4>()?;
            let (sql, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
            let handle = Self { id: *id, ..Self::new(String::from_utf8(sql.to_vec()).ok()?) };
            if rest.is_empty() {
                return Some((handle, None));
            }
            let (seal, parameters) = rest.split_first_chunk::<{ blake3::OUT_LEN }>()?;
            Some((Self { parameters: parameters.to_vec(), ..handle }, Some(*seal)))
        };
        let (handle, seal) = parts().ok_or_else(|| Status::invalid_argument("this is not a handle of a prepared statement of this server"))?;
        match seal {
            // Hashes compare in the same time wherever they differ.
            Some(seal) if handle.seal()? != seal => {
                Err(Status::invalid_argument("the parameters of this handle were not bound here since the last start: prepare the statement again"))
            }
            _ => Ok(handle),
        }
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
    let mut batches = arrow_flight::decode::FlightRecordBatchStream::new_from_flight_data(stream.map_err(|e| FlightError::Tonic(Box::new(e))));
    let mut row: Option<RecordBatch> = None;
    let mut count = 0;
    while let Some(batch) = batches.try_next().await.map_err(Status::from)? {
        count += 1;
        if batch.num_rows() + row.as_ref().map_or(0, RecordBatch::num_rows) > 1 {
            return Err(Status::invalid_argument("bind one row of parameters; a query cannot be run for many rows at a time"));
        }
        if count > PARAMETER_BATCHES_MAX || batch.get_array_memory_size() > PARAMETERS_BYTES_MAX {
            return Err(Status::invalid_argument(format!("a row of parameters has at most {PARAMETERS_BYTES_MAX} bytes, in {PARAMETER_BATCHES_MAX} batches")));
        }
        row = row.or(Some(batch).filter(|batch| batch.num_rows() == 1));
    }
    let Some(batch) = row else { return Ok(Vec::new()) };
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
        let encoded = handle.encode().unwrap();
        assert_eq!(Handle::decode(&encoded).unwrap(), handle);
        let plain = Handle::new("SELECT 1".to_owned());
        assert_eq!(Handle::decode(&plain.encode().unwrap()).unwrap(), plain);
        // Parameters that were not bound here are never read.
        for at in 16 + 4..encoded.len() {
            let mut forged = encoded.clone();
            forged[at] ^= 1;
            assert!(Handle::decode(&forged).is_err(), "{at}");
        }
        let runs = [handle.clone().for_a_run().unwrap(), handle.clone().for_a_run().unwrap()];
        assert!(runs[0].id != runs[1].id && runs[0].sql == handle.sql);
        for bad in [&[][..], &[1, 2], &[0; 19], &[[0; 16].as_slice(), &[255; 5]].concat(), &[[0; 16].as_slice(), &[1, 0, 0, 0, 0xff]].concat()] {
            assert!(Handle::decode(bad).is_err(), "{bad:?}");
        }
    }
}
