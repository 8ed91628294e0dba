//! The commands, one file each.

mod blame;
mod check;
mod commit;
mod container;
mod debug;
pub mod diff;
mod du;
mod explain;
mod export;
pub mod find;
mod history;
mod image;
mod images;
mod import;
mod inspect;
mod lint;
mod load;
pub mod log;
mod mount;
mod mounts;
mod prune;
mod ps;
mod refresh;
mod rm;
mod rmi;
mod run;
mod save;
mod show;
mod stats;
mod system;
mod tag;
pub mod trace;
mod tree;
mod umount;
pub mod which;

use clap::Subcommand;

use super::Context;
use super::error::CliError;
use crate::image::manifest::Platform;

/// A command with its arguments.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Load images from an archive of 'docker save', 'podman save' or an OCI layout
    Load(load::Args),
    /// List images
    #[command(visible_alias = "ls")]
    Images(images::Args),
    /// Save images to an archive that docker, podman and skopeo read, or to an OCI layout directory
    Save(save::Args),
    /// Make an image of the tar of a root filesystem
    Import(import::Args),
    /// Write all that a container shows as a tar
    Export(export::Args),
    /// Remove images
    Rmi(rmi::Args),
    /// Give an image one more name
    Tag(tag::Args),
    /// Show the steps by which an image was made
    History(history::Args),
    /// Show everything about images and containers, as JSON
    Inspect(inspect::Args),
    /// Show why a path looks as it does: what each layer says about it
    Explain(explain::Args),
    /// List what each layer has of a path, and which one is served
    Which(which::Args),
    /// Show what each layer did to a path, newest first
    Log(log::Args),
    /// List a directory with the layer that each entry is from
    Blame(blame::Args),
    /// Print a file out of an image, a layer or an archive
    Show(show::Args),
    /// Show where the bytes are: by layer and directory, what shows and what is wasted
    Du(du::Args),
    /// Search all layers: by name, size, kind, content, deleted or not
    Find(find::Args),
    /// Look around in the layers: a screen, or with --plain a shell
    Debug(debug::Args),
    /// Look for what is wrong with an image: secrets, waste, lost capabilities
    Lint(lint::Args),
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
    /// List what a container changed, or two images or layers: A added, C changed, D deleted
    Diff(diff::Args),
    /// Make an image of a container's changes
    Commit(commit::Args),
    /// The commands on images: ls, inspect, rm, prune, history, tree, mount ...
    Image(Box<image::Args>),
    /// The commands on containers: ls, inspect, rm, prune, run ...
    Container(Box<container::Args>),
    /// Space of the store: show it, give it back
    System(system::Args),
}

impl Command {
    /// Runs the command.
    pub fn run(self, context: &mut Context) -> Result<(), CliError> {
        match self {
            Command::Load(args) => load::run(&args, context),
            Command::Images(args) => images::run(&args, context),
            Command::Save(args) => save::run(&args, context),
            Command::Import(args) => import::run(&args, context),
            Command::Export(args) => export::run(&args, context),
            Command::Rmi(args) => rmi::run(&args, context),
            Command::Tag(args) => tag::run(&args, context),
            Command::History(args) => history::run(&args, context),
            Command::Inspect(args) => inspect::run(&args, context),
            Command::Explain(args) => explain::run(&args, context).map_err(CliError::in_run),
            Command::Which(args) => which::run(&args, context).map_err(CliError::in_run),
            Command::Log(args) => log::run(&args, context).map_err(CliError::in_run),
            Command::Blame(args) => blame::run(&args, context).map_err(CliError::in_run),
            Command::Show(args) => show::run(&args, context).map_err(CliError::in_run),
            Command::Du(args) => du::run(&args, context).map_err(CliError::in_run),
            Command::Find(args) => find::run(&args, context).map_err(CliError::in_run),
            Command::Debug(args) => debug::run(&args, context).map_err(CliError::in_run),
            Command::Lint(args) => lint::run(&args, context).map_err(CliError::in_run),
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
            Command::Image(args) => image::run(&args, context),
            Command::Container(args) => container::run(*args, context),
            Command::System(args) => system::run(&args, context),
        }
    }
}

/// Reads the value of `--platform`.
fn platform(text: &str) -> Result<Platform, String> {
    Platform::parse(text).ok_or_else(|| "not of the form OS/ARCH[/VARIANT], such as linux/arm64".to_owned())
}
