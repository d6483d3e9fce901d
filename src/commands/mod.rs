//! The commands, one a file. What they print on standard output is their result; everything else goes to standard error.
#![allow(clippy::print_stdout, reason = "a command's result is what it prints")]

pub mod check;
pub mod delete;
pub mod load;
pub mod project;
pub mod query;
pub mod serve;
pub mod subscribe;
pub mod token;

use anyhow::{Context, bail};
use weir_catalog::Catalog;

use crate::config::Config;
use crate::data_dir::DataDir;

/// Opens the catalog of an existing data directory, beside a running `serve` or without one.
async fn existing_catalog(config: &Config) -> anyhow::Result<Catalog> {
    let data = DataDir::at(&config.data)?;
    let location = config.catalog.location(&data);
    match Catalog::open_existing(&location).await.with_context(|| format!("the catalog {location} cannot be opened"))? {
        Some(catalog) => Ok(catalog),
        None if config.catalog.url.0.is_empty() => {
            bail!("there is no weir data in {}: start `weir serve` there first, or name another directory with --data", data.path().display())
        }
        None => bail!("there is no weir catalog in {location}: start `weir serve` with it first, or name another database with catalog.url"),
    }
}
