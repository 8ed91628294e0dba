//! `mica rm`

use std::io::Write;

use crate::cli::Context;
use crate::cli::error::CliError;
use crate::engine::containers;

/// Arguments of `mica rm`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Kill a container that runs
    #[arg(short, long)]
    force: bool,
    /// Names, ids, or beginnings of ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

pub fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let store = context.store()?;
    let mut failed = false;
    for word in &args.containers {
        match containers::remove(&store, word, args.force) {
            Ok(_) => writeln!(context.out, "{word}")?,
            Err(e) => {
                context.out.flush()?;
                CliError::from(e).print();
                failed = true;
            }
        }
    }
    if failed { Err(CliError::reported()) } else { Ok(()) }
}
