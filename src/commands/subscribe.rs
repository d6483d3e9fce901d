//! `weir subscribe`: follows the rows of a subscription over Flight SQL and prints them as they come and go.

use std::io::stdout;

use anyhow::Context;
use futures::StreamExt;
use weir_sql::client::Client;
use weir_sql::output;

use crate::cli::SubscribeArgs;

/// Follows until the server or the reader of the output ends it. A line is a row: `_tick` is when, `_snapshot` whether it is one
/// of all that hold, `_difference` how often it comes or, below zero, goes.
pub async fn run(args: &SubscribeArgs) -> anyhow::Result<()> {
    let token = args.token.as_deref().context("no token: give --token TOKEN or WEIR_TOKEN; `weir token create NAME` makes one")?;
    let statement = format!("SUBSCRIBE \"{}\"", args.name.replace('"', "\"\""));
    let (_, mut rows) = Client::connect(&args.url, token).await?.stream(&statement).await?;
    while let Some(batch) = rows.next().await {
        match output::write_lines(&mut stdout().lock(), &batch?) {
            // Whoever reads the output may stop reading, as `head` does.
            Err(error) if error.is_broken_pipe() => return Ok(()),
            other => other.context("the rows cannot be written")?,
        }
    }
    Ok(())
}
