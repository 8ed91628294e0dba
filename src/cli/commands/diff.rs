//! `mica diff`

use std::io::Write;

use crate::cli::Context;
use crate::cli::error::CliError;
use crate::engine::diff;

/// Arguments of `mica diff`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Name, id, or the beginning of an id
    container: String,
}

pub fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let store = context.store()?;
    let record = store.find_container(&args.container)?;
    let changes = diff::changes(&store, &record)?;
    if args.json {
        let kind = |c: diff::Change| c.letter().to_string();
        let rows: Vec<_> = changes
            .iter()
            .map(|(path, change)| serde_json::json!({"kind": kind(*change), "path": path.to_string()}))
            .collect();
        writeln!(context.out, "{}", serde_json::Value::from(rows))?;
        return Ok(());
    }
    for (path, change) in changes {
        writeln!(context.out, "{} {path}", change.letter())?;
    }
    Ok(())
}
