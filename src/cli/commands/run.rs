//! `mica run`

use std::ffi::OsString;
use std::io::IsTerminal;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::ffi::OsStringExt;

use crate::cli::Context;
use crate::cli::error::CliError;
use crate::engine::run::Request;
use crate::engine::run::run as run_container;
use crate::run::spec::Bind;
use crate::run::spec::Overrides;

/// Arguments of `mica run`.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub struct Args {
    /// Remove the container when it ends
    #[arg(long)]
    rm: bool,
    /// Keep standard input open
    #[arg(short, long)]
    interactive: bool,
    /// Give the container a terminal
    #[arg(short, long)]
    tty: bool,
    /// The container's name
    #[arg(long)]
    name: Option<String>,
    /// Set a variable; without '=' it is handed on from here
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    env: Vec<OsString>,
    /// Show a directory or file of the host inside
    #[arg(short, long, value_name = "HOST:INSIDE[:ro]")]
    volume: Vec<OsString>,
    /// Start in this directory
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<OsString>,
    /// Run as this user
    #[arg(short, long, value_name = "NAME|UID[:GROUP|GID]")]
    user: Option<String>,
    /// The host name inside
    #[arg(short = 'h', long)]
    hostname: Option<String>,
    /// Run this instead of the image's entrypoint
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<OsString>,
    /// The root cannot be changed
    #[arg(long)]
    read_only: bool,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    /// The image
    image: String,
    /// The command and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

pub fn run(args: Args, context: &mut Context) -> Result<(), CliError> {
    if args.tty && args.interactive && !std::io::stdin().is_terminal() {
        return Err(
            CliError::new("the input device is not a TTY").hint("leave out -t when the input is a file or a pipe")
        );
    }
    let binds = args.volume.iter().map(bind).collect::<Result<_, _>>()?;
    let request = Request {
        image: args.image,
        name: args.name,
        remove: args.rm,
        overrides: Overrides {
            args: args.command,
            entrypoint: args.entrypoint,
            env: args.env.into_iter().map(variable).collect(),
            workdir: args.workdir.map(OsString::into_vec),
            user: args.user,
            hostname: args.hostname.unwrap_or_default(),
            tty: args.tty,
            interactive: args.interactive,
        },
        binds,
        read_only: args.read_only,
    };
    let store = context.store()?;
    let status = run_container(&store, &request)?;
    match status.code() {
        0 => Ok(()),
        code => Err(CliError::ended(code)),
    }
}

/// `-e KEY` takes the value from here; a variable that is not set here is not set inside either.
fn variable(var: OsString) -> OsString {
    if var.as_bytes().contains(&b'=') {
        return var;
    }
    match var.to_str().and_then(crate::env::var) {
        Some(value) => [var, value].join(std::ffi::OsStr::new("=")),
        None => var,
    }
}

fn bind(text: &OsString) -> Result<Bind, CliError> {
    let parts: Vec<&[u8]> = text.as_bytes().split(|&b| b == b':').collect();
    let (source, target, read_only) = match parts.as_slice() {
        [source, target] | [source, target, b"rw"] => (*source, *target, false),
        [source, target, b"ro"] => (*source, *target, true),
        _ => {
            return Err(CliError::new(format!("invalid volume {}", crate::path::Escaped(text.as_bytes())))
                .hint("write it as HOST:INSIDE or HOST:INSIDE:ro"));
        }
    };
    if !source.starts_with(b"/") {
        return Err(CliError::new(format!("the volume {} names no absolute path", crate::path::Escaped(source)))
            .hint("named volumes are not supported; write the path of a directory of the host"));
    }
    Ok(Bind { source: std::ffi::OsStr::from_bytes(source).into(), target: target.to_vec(), read_only })
}
