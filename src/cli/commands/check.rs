//! `mica check`: the store, as `mica system check`, or an upper directory.

use std::io::Write;
use std::path::Path;
use std::path::PathBuf;

use serde_json::Value;
use serde_json::json;

use crate::cli::Context;
use crate::cli::commands::system;
use crate::cli::error::CliError;
use crate::mount::options::MountOptions;
use crate::path::Escaped;
use crate::union::check::Finding;
use crate::union::check::check;

/// Arguments of `mica check`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit code: 0 nothing is wrong, or all of it was repaired; 1 something is wrong.")]
pub struct Args {
    /// Check this upper directory instead of the store; it must not be mounted
    #[arg(value_name = "UPPER")]
    upper: Option<PathBuf>,
    /// The work directory of the upper directory
    #[arg(long, value_name = "DIR", requires = "upper")]
    work: Option<PathBuf>,
    /// The layers below the upper directory, to find what only they can tell
    #[arg(short = 'o', value_name = "lowerdir=A:B:...", requires = "upper", value_parser = lowers)]
    options: Option<Lowers>,
    /// Repair what can be repaired
    #[arg(long)]
    repair: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
}

/// The layers below, topmost first.
#[derive(Debug, Clone)]
struct Lowers(Vec<PathBuf>);

/// Reads a mount's `-o` text; what else it says does not matter here.
fn lowers(text: &str) -> Result<Lowers, String> {
    let mut options = MountOptions::default();
    options.read(text.as_bytes()).map_err(|e| e.to_string())?;
    if options.lower.is_empty() { Err("lowerdir= is missing".to_owned()) } else { Ok(Lowers(options.lower)) }
}

pub fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    match &args.upper {
        Some(upper) => check_upper(upper, args, context),
        None => {
            let args = system::check::Args { repair: args.repair, json: args.json, quiet: args.quiet };
            system::check::run(&args, context)
        }
    }
}

fn check_upper(upper: &Path, args: &Args, context: &mut Context) -> Result<(), CliError> {
    let failed = |e| CliError::new(format!("cannot check {}: {e}", upper.display()));
    let below = args.options.as_ref().map_or(&[][..], |lowers| &lowers.0);
    let findings = check(upper, args.work.as_deref(), below, args.repair).map_err(failed)?;
    let wrong = findings.iter().filter(|f| !f.problem.is_harmless() && f.repaired != Ok(true)).count();
    if args.json {
        writeln!(context.out, "{:#}", document(upper, &findings, wrong))?;
        return if wrong == 0 { Ok(()) } else { Err(CliError::answered(1)) };
    }
    for finding in &findings {
        writeln!(context.out, "{}", line(finding))?;
    }
    if wrong > 0 {
        let error = CliError::new(format!("{wrong} problems in {}", upper.display()));
        let repairable = findings.iter().any(|f| f.repaired == Ok(false) && f.problem.can_be_repaired());
        return Err(if repairable { error.hint("'mica check --repair' does what is said behind them") } else { error });
    }
    Ok(writeln!(context.out, "{} is whole", Escaped(upper.as_os_str().as_encoded_bytes()))?)
}

fn line(finding: &Finding) -> String {
    let Finding { path, problem, repaired } = finding;
    let harmless = if problem.is_harmless() { " (harmless)" } else { "" };
    match repaired {
        Ok(true) => format!("{path}: {}: repaired{harmless}", problem.what()),
        Ok(false) => format!("{path}: {}: {}{harmless}", problem.what(), problem.remedy()),
        Err(e) => format!("{path}: {}: the repair failed: {e}", problem.what()),
    }
}

/// `{ "schema": 1, "upper", "wrong": COUNT, "findings": [{ "path", "problem": TAG, "what", "remedy", "harmless", "repaired",
/// "error": TEXT | null }] }`
fn document(upper: &Path, findings: &[Finding], wrong: usize) -> Value {
    let one = |f: &Finding| {
        json!({
            "path": f.path.to_string(), "problem": f.problem.tag(), "what": f.problem.what(), "remedy": f.problem.remedy(),
            "harmless": f.problem.is_harmless(), "repaired": f.repaired == Ok(true),
            "error": f.repaired.err().map(|e| e.to_string()),
        })
    };
    let upper = Escaped(upper.as_os_str().as_encoded_bytes()).to_string();
    json!({ "schema": 1, "upper": upper, "wrong": wrong, "findings": findings.iter().map(one).collect::<Vec<_>>() })
}
