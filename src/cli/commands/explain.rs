//! `mica explain`

use std::ffi::OsString;
use std::io::IsTerminal;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;

use crate::cli::Context;
use crate::cli::error::CliError;
use crate::engine;
use crate::engine::explain::Question;
use crate::engine::live::Target;
use crate::env;
use crate::explain::Explanation;
use crate::explain::explain;
use crate::explain::json;
use crate::explain::text;
use crate::explain::text::Style;
use crate::live::stats::Known;

/// Arguments of `mica explain`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit code: 0 the union shows the path, 1 it is hidden (deleted, or shadowed), 2 no layer has it, \
    125 mica failed."
)]
pub struct Args {
    /// An image, a container or a mountpoint; or, with nothing behind it, a path on a mount
    #[arg(value_name = "TARGET", required_unless_present = "options")]
    target: Option<OsString>,
    /// The path to explain, from the root of the target
    #[arg(value_name = "PATH")]
    path: Option<OsString>,
    /// Explain these directories instead: lowerdir=TOP:..:BOTTOM,upperdir=DIR; then only PATH is given
    #[arg(short, long, value_name = "OPTIONS")]
    options: Option<OsString>,
    /// Follow the path if it is a symlink itself; those in the middle of it are always followed
    #[arg(short = 'L', long)]
    follow: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// A line for every layer, and commands in full
    #[arg(short, long)]
    verbose: bool,
}

pub fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    match answer(args, context).map_err(CliError::in_run)? {
        0 => Ok(()),
        code => Err(CliError::answered(code)),
    }
}

/// Prints the answer; the exit code that is part of it.
fn answer(args: &Args, context: &mut Context) -> Result<u8, CliError> {
    let (subject, path) = question(args, context)?;
    let explanation = explain(&subject, &path, args.follow).map_err(engine::Error::from)?;
    let known = known(args, &explanation);
    if args.json {
        let mut document = json::document(&explanation);
        if let Some(known) = known {
            let known = serde_json::to_value(known).map_err(CliError::new)?;
            document.as_object_mut().into_iter().for_each(|all| drop(all.insert("kernel".to_owned(), known.clone())));
        }
        writeln!(context.out, "{document:#}")?;
    } else {
        context.out.write_all(text::picture(&explanation, style(args)).as_bytes())?;
        if let Some(known) = known {
            write!(context.out, "\n{}", kernel(&known))?;
        }
    }
    context.out.flush()?;
    Ok(explanation.outcome.exit_code())
}

/// What the server of a live mount says that the kernel may keep of the path; `None` for everything else, and where it cannot be asked.
fn known(args: &Args, explanation: &Explanation) -> Option<Known> {
    if args.options.is_some() {
        return None;
    }
    let target = Target::find(args.target.as_ref()?, || None).ok()?;
    let mut path = b"/".to_vec();
    path.extend(explanation.components.last()?.path.to_bytes());
    target.known(&path).ok()
}

fn kernel(known: &Known) -> String {
    let kept = known.timeout_seconds.map_or_else(|| "for ever".to_owned(), |secs| format!("for {secs} seconds"));
    match known.ino {
        Some(ino) if known.references > 0 => format!(
            "known to the kernel\n  inode     {ino}, {} references, {} open handles\n  kept      names and attributes {kept}\n",
            known.references, known.open_handles
        ),
        _ => format!(
            "not known to the kernel under this name\n  kept      by another name at most, or that the name is missing, {kept}\n"
        ),
    }
}

fn question(args: &Args, context: &Context) -> Result<Question, CliError> {
    let usage = |what: &str| CliError::new(what).hint("mica explain --help");
    if let Some(options) = &args.options {
        let (Some(path), None) = (&args.target, &args.path) else {
            return Err(usage("with -o, give one PATH and no TARGET"));
        };
        return Ok((engine::explain::directories(options)?, path.as_bytes().to_vec()));
    }
    let Some(word) = &args.target else { return Err(usage("give a TARGET and a PATH")) };
    if let Some(found) = engine::explain::mounted(word, args.path.as_deref(), context.root.as_deref())? {
        return Ok(found);
    }
    let path = args.path.as_ref().map(|path| path.as_bytes().to_vec()).unwrap_or_default();
    let subject = engine::explain::stored(&context.store()?, engine::explain::as_name(word)?)?;
    Ok((subject, path))
}

/// Signs and colours only for a terminal; what is piped is plain ASCII but for the names themselves.
fn style(args: &Args) -> Style {
    let terminal = std::io::stdout().is_terminal();
    let dumb = env::var("TERM").is_some_and(|term| term == "dumb");
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(env::var).unwrap_or_default();
    let locale = locale.to_string_lossy().to_ascii_lowercase();
    Style {
        unicode: terminal && (locale.contains("utf-8") || locale.contains("utf8")),
        colour: terminal && !dumb && env::var("NO_COLOR").is_none(),
        verbose: args.verbose,
    }
}
