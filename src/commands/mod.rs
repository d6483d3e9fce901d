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
    if !data.exists() {
        bail!("there is no weir data in {}: start `weir serve` there first, or name another directory with --data", data.path().display());
    }
    Catalog::open(&data.catalog()).await.with_context(|| format!("the catalog {} cannot be opened", data.catalog().display()))
}
