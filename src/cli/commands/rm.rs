//! `mica rm`

use std::io::Write;

use crate::cli::Context;
use crate::cli::error::CliError;
use crate::engine;
use crate::engine::containers;
use crate::store;

/// Arguments of `mica rm`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Kill a container that runs
    #[arg(short, long)]
    force: bool,
    /// Taken for docker's sake: there are no anonymous volumes
    #[arg(short, long)]
    volumes: bool,
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
                // As docker: with --force it is no failure that there is nothing to remove.
                failed |= !(args.force && is_absent(&e));
                CliError::from(e).print();
            }
        }
    }
    if failed { Err(CliError::reported()) } else { Ok(()) }
}

fn is_absent(e: &engine::Error) -> bool {
    matches!(e, engine::Error::Store(store::Error::NotFound { .. }))
}
