//! `mica umount`

use std::path::PathBuf;

use crate::cli::Context;
use crate::cli::error::CliError;
use crate::engine::mounting;

/// Arguments of `mica umount`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Take it out of the tree at once, also when it is in use
    #[arg(short, long)]
    lazy: bool,
    /// Where the mounts are
    #[arg(required = true)]
    dirs: Vec<PathBuf>,
}

pub fn run(args: &Args, _: &mut Context) -> Result<(), CliError> {
    let mut failed = false;
    for dir in &args.dirs {
        if let Err(e) = mounting::unmount(dir, args.lazy) {
            CliError::from(e).print();
            failed = true;
        }
    }
    if failed { Err(CliError::reported()) } else { Ok(()) }
}
