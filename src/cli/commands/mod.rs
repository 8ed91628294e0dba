//! The commands, one file each.

mod check;
mod explain;
mod history;
mod images;
mod inspect;
mod load;
mod rmi;
mod tag;

use clap::Subcommand;

use super::Context;
use super::error::CliError;

/// A command with its arguments.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Load images from an archive of 'docker save', 'podman save' or an OCI layout
    Load(load::Args),
    /// List images
    #[command(visible_alias = "ls")]
    Images(images::Args),
    /// Remove images
    Rmi(rmi::Args),
    /// Give an image one more name
    Tag(tag::Args),
    /// Show the steps by which an image was made
    History(history::Args),
    /// Show everything about images, as JSON
    Inspect(inspect::Args),
    /// Show why a path looks as it does: what each layer says about it
    Explain(explain::Args),
    /// Check that the store is whole
    Check(check::Args),
}

impl Command {
    /// Runs the command.
    pub fn run(self, context: &mut Context) -> Result<(), CliError> {
        match self {
            Command::Load(args) => load::run(&args, context).map_err(CliError::in_run),
            Command::Images(args) => images::run(&args, context),
            Command::Rmi(args) => rmi::run(&args, context),
            Command::Tag(args) => tag::run(&args, context),
            Command::History(args) => history::run(&args, context),
            Command::Inspect(args) => inspect::run(&args, context),
            Command::Explain(args) => explain::run(&args, context),
            Command::Check(args) => check::run(&args, context),
        }
    }
}
