//! The cold half of the tables: Parquet files in the lake's layout.
//!
//! Files lie at `lake/main/TABLE/YYYY-MM-DD/NAME.parquet` below the data directory. A file is complete and synced before the
//! catalog names it, and is never changed afterwards.

mod checked;
pub mod file;
mod files;
mod schema;
mod statistics;

pub(crate) use checked::CheckedFile;
pub use checked::{Checksums, Damaged};
pub use files::{create, data_files, remove_unnamed, tables_root, written};
pub use schema::{UnexpectedColumn, lake_tables, verify};
