//! `weir query`: asks SQL over Flight SQL and prints the rows.

use std::io::{BufWriter, Write, stdout};

use anyhow::Context;
use weir_sql::{client, output};

use crate::cli::{QueryArgs, RowFormat};

/// Asks and prints.
pub async fn run(args: &QueryArgs) -> anyhow::Result<()> {
    let token = args.token.as_deref().context("no token: give --token TOKEN or WEIR_TOKEN; `weir token create NAME` makes one")?;
    let (schema, batches) = client::query(&args.url, token, &args.sql).await?;
    let mut out = BufWriter::new(stdout().lock());
    let format = match args.format {
        RowFormat::Table => output::Format::Table,
        RowFormat::Csv => output::Format::Csv,
        RowFormat::Json => output::Format::Json,
    };
    match output::write(&mut out, &schema, &batches, format).and_then(|()| Ok(out.flush()?)) {
        // Whoever reads the output may stop reading, as `head` does.
        Err(error) if error.is_broken_pipe() => Ok(()),
        other => other.context("the rows cannot be written"),
    }
}
