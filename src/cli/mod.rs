//! The command line: arguments in, text out, exit codes. The only part of mica that prints.

mod commands;
mod debug;
mod error;
mod filter;
mod format;
mod looking;
mod output;
mod progress;
mod rows;
mod table;
mod template;
mod trace_json;
mod trace_text;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use crate::store::Store;
use error::CliError;
use output::Output;

/// mica: images and containers without a daemon, on a union filesystem in user space.
#[derive(Debug, Parser)]
#[command(
    name = "mica",
    version,
    about,
    max_term_width = 100,
    subcommand_required = true,
    // As docker's: of an option that is given twice the last counts.
    args_override_self = true,
    arg_required_else_help = true
)]
struct Cli {
    /// Where the store lies [default: /var/lib/mica for root, else $XDG_DATA_HOME/mica]
    #[arg(long, global = true, value_name = "DIR")]
    root: Option<PathBuf>,
    #[command(subcommand)]
    command: commands::Command,
}

/// What every command is given.
#[derive(Debug)]
struct Context {
    root: Option<PathBuf>,
    out: Output,
}

impl Context {
    /// Opens the store that the user means.
    fn store(&self) -> Result<Store, CliError> {
        let root = match &self.root {
            Some(root) => root.clone(),
            None => Store::default_root()?,
        };
        Store::open(&root).map_err(|e| error::opening_store(&root, e))
    }
}

/// Runs the command that the arguments name.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    crate::logging::init("mica", false);
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(e) => return error::usage(&e),
    };
    let mut context = Context { root: cli.root, out: Output::default() };
    let result = cli.command.run(&mut context).and_then(|()| context.out.flush().map_err(CliError::from));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => e.report(),
    }
}
