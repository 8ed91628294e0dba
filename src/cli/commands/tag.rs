//! `mica tag`

use crate::cli::Context;
use crate::cli::error::CliError;

/// Arguments of `mica tag`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The image, by name or id
    source: String,
    /// Its new name
    #[arg(value_name = "NAME[:TAG]")]
    target: String,
}

pub fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    Ok(crate::engine::tag::tag(&context.store()?, &args.source, &args.target)?)
}
