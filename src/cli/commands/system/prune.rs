//! `mica system prune`

use crate::cli::Context;
use crate::cli::error::CliError;

/// Arguments of `mica system prune`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Remove all images that no container uses, not only those without a name
    #[arg(short, long)]
    all: bool,
}

pub fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let _ = (args.all, context.store()?);
    Err(CliError::new("'mica system prune' is not finished yet"))
}
