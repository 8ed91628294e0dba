//! `mica container`: the commands on containers under docker's name of the group.

use clap::Subcommand;

use super::commit;
use super::diff;
use super::export;
use super::inspect;
use super::prune;
use super::ps;
use super::rm;
use super::run;
use crate::cli::Context;
use crate::cli::error::CliError;

/// Arguments of `mica container`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List containers
    #[command(visible_aliases = ["list", "ps"])]
    Ls(ps::Args),
    /// Show everything about containers, as JSON
    Inspect(inspect::How),
    /// Remove containers
    #[command(visible_alias = "remove")]
    Rm(rm::Args),
    /// Remove containers that do not run
    Prune(prune::ContainerArgs),
    /// Run a command in a new container
    Run(Box<run::Args>),
    /// List what a container changed
    Diff(diff::Args),
    /// Make an image of a container's changes
    Commit(commit::Args),
    /// Write all that a container shows as a tar
    Export(export::Args),
}

pub fn run(args: Args, context: &mut Context) -> Result<(), CliError> {
    match args.command {
        Command::Ls(args) => ps::run(&args, context),
        Command::Inspect(how) => inspect::run_kind(&how, inspect::Kind::Container, context),
        Command::Rm(args) => rm::run(&args, context),
        Command::Prune(args) => prune::run_containers(&args, context),
        Command::Run(args) => run::run(*args, context).map_err(CliError::in_run),
        Command::Diff(args) => diff::run(&args, context),
        Command::Commit(args) => commit::run(&args, context),
        Command::Export(args) => export::run(&args, context),
    }
}
