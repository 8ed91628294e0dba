//! `mica system df`

use crate::cli::Context;
use crate::cli::error::CliError;

/// Arguments of `mica system df`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A line for each image, container and pack
    #[arg(short, long)]
    verbose: bool,
}

pub fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let _ = (args.verbose, context.store()?);
    Err(CliError::new("'mica system df' is not finished yet"))
}
