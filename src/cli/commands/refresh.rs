//! `mica refresh`

use std::path::PathBuf;

use crate::cli::Context;
use crate::cli::error::CliError;
use crate::engine::refresh;

/// Arguments of `mica refresh`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A mount, or a directory in one
    #[arg(required = true)]
    paths: Vec<PathBuf>,
}

pub fn run(args: &Args, _: &mut Context) -> Result<(), CliError> {
    let mut failed = false;
    for path in &args.paths {
        if let Err(e) = refresh::refresh(path) {
            CliError::from(e).print();
            failed = true;
        }
    }
    if failed { Err(CliError::reported()) } else { Ok(()) }
}
