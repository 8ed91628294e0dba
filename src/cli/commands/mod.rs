//! The commands, one file each.

mod check;
mod commit;
mod diff;
mod explain;
mod history;
mod images;
mod inspect;
mod load;
mod mount;
mod mounts;
mod ps;
mod refresh;
mod rm;
mod rmi;
mod run;
mod save;
mod stats;
mod tag;
mod trace;
mod umount;

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
    /// Save images to an archive that 'docker load' and 'podman load' read
    Save(save::Args),
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
    /// Check that the store, or an upper directory, is whole
    Check(check::Args),
    /// Mount an image as a directory
    Mount(mount::Args),
    /// Take a mount away
    #[command(alias = "unmount")]
    Umount(umount::Args),
    /// Make a mount see changes that were made in its layers directly
    Refresh(refresh::Args),
    /// List the mounts
    Mounts(mounts::Args),
    /// Show the operations of a mount as they are done: process, path, layers, result, time
    Trace(trace::Args),
    /// Show what a mount did and holds: requests, nodes, memory, copy-ups, abilities of the kernel
    Stats(stats::Args),
    /// Run a command in a new container
    Run(Box<run::Args>),
    /// List containers
    Ps(ps::Args),
    /// Remove containers
    Rm(rm::Args),
    /// List what a container changed: A added, C changed, D deleted
    Diff(diff::Args),
    /// Make an image of a container's changes
    Commit(commit::Args),
}

impl Command {
    /// Runs the command.
    pub fn run(self, context: &mut Context) -> Result<(), CliError> {
        match self {
            Command::Load(args) => load::run(&args, context).map_err(CliError::in_run),
            Command::Images(args) => images::run(&args, context),
            Command::Save(args) => save::run(&args, context),
            Command::Rmi(args) => rmi::run(&args, context),
            Command::Tag(args) => tag::run(&args, context),
            Command::History(args) => history::run(&args, context),
            Command::Inspect(args) => inspect::run(&args, context),
            Command::Explain(args) => explain::run(&args, context),
            Command::Check(args) => check::run(&args, context),
            Command::Mount(args) => mount::run(&args, context),
            Command::Umount(args) => umount::run(&args, context),
            Command::Refresh(args) => refresh::run(&args, context),
            Command::Mounts(args) => mounts::run(&args, context),
            Command::Trace(args) => trace::run(&args, context),
            Command::Stats(args) => stats::run(&args, context),
            Command::Run(args) => run::run(*args, context).map_err(CliError::in_run),
            Command::Ps(args) => ps::run(&args, context),
            Command::Rm(args) => rm::run(&args, context),
            Command::Diff(args) => diff::run(&args, context),
            Command::Commit(args) => commit::run(&args, context),
        }
    }
}
