//! `mica debug`

use crate::cli::Context;
use crate::cli::debug;
use crate::cli::error::CliError;
use crate::cli::looking::Asking;

/// Arguments of `mica debug`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
TARGET is an image or container, IMAGE@3 (its lowest three layers), docker-archive:FILE, oci-archive:FILE or oci:DIR \
(with :NAME if it holds several images), or a mountpoint of mica.

On the screen, ? shows the keys. With --plain, commands are read from standard input, 'help' lists them; from a pipe without a prompt, \
and the exit code is that of the last command that failed: 1 a path is hidden, 2 no layer has it, 125 it failed.")]
pub struct Args {
    #[command(flatten)]
    asking: Asking,
    /// A shell of lines instead of a screen
    #[arg(long)]
    plain: bool,
    /// Let the mouse choose and scroll; the terminal then does not select text by itself
    #[arg(long, conflicts_with = "plain")]
    mouse: bool,
}

pub fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    if !args.plain {
        debug::screen_is_possible()?;
    }
    let target = args.asking.open_past_damage(context)?;
    let source = debug::Source { word: args.asking.word().cloned(), root: context.root.clone() };
    let session = debug::Session::new(target, source);
    if args.plain { debug::plain(session, context) } else { debug::screen(&session, args.mouse) }
}
