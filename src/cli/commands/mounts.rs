//! `mica mounts`

use crate::cli::Context;
use crate::cli::error::CliError;
use crate::cli::table::Table;
use crate::engine::mounting;

/// Arguments of `mica mounts`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let mounts = mounting::list()?;
    if args.json {
        let rows: Vec<_> = mounts
            .iter()
            .map(|m| serde_json::json!({"target": m.target, "source": m.source, "read_only": m.read_only}))
            .collect();
        use std::io::Write;
        writeln!(context.out, "{}", serde_json::Value::from(rows))?;
        return Ok(());
    }
    let mut table = Table::new(&["SOURCE", "MODE", "MOUNTPOINT"]);
    for mount in &mounts {
        let mode = if mount.read_only { "ro" } else { "rw" };
        table.row(vec![mount.source.clone(), mode.to_owned(), mount.target.clone()]);
    }
    Ok(table.print(&mut context.out)?)
}
