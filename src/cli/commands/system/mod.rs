//! `mica system`: what concerns the whole store.

pub mod check;
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
    /// Check that every byte of the store is what it should be
    Check(check::Args),
    /// Show how much space the store takes, and how much of it could be had back
    Df(df::Args),
    /// Remove stopped containers and unused images
    Prune(prune::Args),
}

pub fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    match &args.command {
        Command::Check(args) => check::run(args, context),
        Command::Df(args) => df::run(args, context),
        Command::Prune(args) => prune::run(args, context),
    }
}
