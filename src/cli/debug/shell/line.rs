//! The commands of the shell and their arguments.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;

use clap::CommandFactory;

use crate::cli::commands::find;
use crate::cli::commands::trace;
use crate::cli::error::CliError;
use crate::cli::error::EXIT_MICA;
use crate::path::Escaped;

/// A line of the shell.
#[derive(Debug, clap::Parser)]
#[command(
    no_binary_name = true,
    disable_help_flag = true,
    disable_help_subcommand = true,
    subcommand_help_heading = "Commands",
    override_usage = "COMMAND [ARGUMENTS]",
    after_help = "Names are read as they are shown: \\x1b is one byte, \\\\ a backslash; quotes are as in a shell. 'help COMMAND' tells of its \
        arguments. Exit code of a command: 0 found, 1 hidden, 2 no layer has it, 125 it failed; the last one that is not 0 is the shell's."
)]
pub struct Line {
    /// Which command.
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, clap::Subcommand)]
/// What a line says.
#[allow(missing_docs, reason = "the words are those of the help")]
pub enum Command {
    /// Go to a directory; also to one that does not show
    Cd {
        /// The directory [default: the root]
        dir: Option<OsString>,
    },
    /// Print where you are
    Pwd,
    /// List a directory: the layer that serves each entry, mode, owner, size, name
    Ls {
        /// What does not show, too: whiteouts, and what they and others hide
        #[arg(short)]
        all: bool,
        /// The directory [default: here]
        path: Option<OsString>,
    },
    /// Everything about one path
    Stat {
        /// The path
        path: OsString,
    },
    /// Print a file; on a terminal what could steer it is escaped
    Cat {
        /// The file
        path: OsString,
    },
    /// What each layer has of a path, and which one is served
    Which(Followed),
    /// The walk through the layers, name by name
    Explain {
        #[command(flatten)]
        at: Followed,
        /// A line for every layer
        #[arg(short)]
        verbose: bool,
    },
    /// What each layer did to a path, newest first
    Log {
        #[command(flatten)]
        at: Followed,
        /// One line for each layer
        #[arg(long)]
        oneline: bool,
    },
    /// What the topmost looked-at layer changed, or layers N+1 to M
    Diff {
        /// The lines that differ, too
        #[arg(short = 'U')]
        unified: bool,
        /// A file that differs only in its time is the same
        #[arg(long)]
        ignore_times: bool,
        /// N..M, or a path; or both
        words: Vec<OsString>,
    },
    /// Search all layers
    Find {
        #[command(flatten)]
        filter: find::Filter,
        /// Where to search [default: here]
        path: Option<OsString>,
    },
    /// List the layers, top first
    Layers,
    /// List whiteouts and opaque directories of all layers
    Whiteouts {
        /// Where to search [default: the root]
        path: Option<OsString>,
    },
    /// Look at the lowest N layers only; without N, at all
    At {
        /// How many
        count: Option<usize>,
    },
    /// One layer less
    #[command(name = "[")]
    Back,
    /// One layer more
    #[command(name = "]")]
    Forth,
    /// Mount what is looked at on an empty directory
    Mount {
        /// The directory
        dir: PathBuf,
    },
    /// Take a file or directory out
    Extract {
        /// What
        path: OsString,
        /// Where to [default: its name, in this directory]; must not be there yet
        to: Option<PathBuf>,
    },
    /// Operations on the live mount, each with what the layers said; Ctrl-C ends it
    Trace {
        #[command(flatten)]
        wanted: trace::Wanted,
        /// End after so many events
        #[arg(short = 'n')]
        count: Option<u64>,
    },
    /// Tell of the commands
    Help {
        /// Of this one
        command: Option<String>,
    },
    /// End
    #[command(visible_alias = "exit")]
    Quit,
}

#[derive(Debug, clap::Args)]
/// A path, and whether it is followed.
pub struct Followed {
    /// Follow the path if it is a symlink itself
    #[arg(short = 'L')]
    pub follow: bool,
    /// The path
    pub path: OsString,
}

/// What clap says, in a line and a hint.
pub fn usage(e: &clap::Error) -> CliError {
    let said = e.render().to_string();
    // What is missing stands on lines of its own below the first.
    let first: Vec<&str> = said.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
    let first = first.join(" ");
    let what = first.strip_prefix("error: ").unwrap_or(&first).to_owned();
    CliError::new(what).hint("'help' lists the commands").code(EXIT_MICA)
}

/// Prints what there is to say of a command, or of all.
///
/// # Errors
/// When there is no such command; of printing.
pub fn help(command: Option<&str>, out: &mut dyn Write) -> Result<(), CliError> {
    let mut all = Line::command();
    let found = match command {
        Some(name) => all.find_subcommand_mut(name),
        None => Some(&mut all),
    };
    let Some(found) = found else {
        return Err(CliError::new(format!("there is no command {}", Escaped(command.unwrap_or_default().as_bytes())))
            .hint("'help' lists the commands"));
    };
    Ok(write!(out, "{}", found.clone().no_binary_name(true).render_help())?)
}
