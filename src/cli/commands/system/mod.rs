//! `mica system`: what concerns the whole store.

mod df;
mod prune;

use clap::Subcommand;

use crate::cli::Context;
use crate::cli::error::CliError;

/// Arguments of `mica system`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show how much space the store takes, and how much of it could be had back
    Df(df::Args),
    /// Remove stopped containers and unused images
    Prune(prune::Args),
}

pub fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    match &args.command {
        Command::Df(args) => df::run(args, context),
        Command::Prune(args) => prune::run(args, context),
    }
}
