//! `mica lint`

use std::io::Write;

use crate::cli::Context;
use crate::cli::error::CliError;
use crate::cli::format;
use crate::cli::looking;
use crate::cli::looking::Asking;
use crate::engine;
use crate::explain::documents;
use crate::explain::lint::Severity;
use crate::explain::lint::lint;
use crate::path::RelPath;

/// Arguments of `mica lint`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Looks for secrets (by name and by content) that are in some layer, also deleted ones; files copied whole only to \
    change mode or owner; lost capabilities and set-id bits; opaque marks and whiteouts that make no sense; caches; duplicates; \
    bytes that upper layers delete or replace.\n\n\
    Exit code: 0; with --strict 1 if anything was found; 125 mica failed."
)]
pub struct Args {
    #[command(flatten)]
    asking: Asking,
    /// Only what is at least so bad
    #[arg(long, value_enum, default_value_t = Level::Low)]
    level: Level,
    /// Exit code 1 if anything was found
    #[arg(long)]
    strict: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Level {
    Low,
    Medium,
    High,
}

impl Level {
    fn severity(self) -> Severity {
        match self {
            Level::Low => Severity::Low,
            Level::Medium => Severity::Medium,
            Level::High => Severity::High,
        }
    }
}

pub fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let target = args.asking.open_or_root(context)?;
    let at = RelPath::parse(&target.path).unwrap_or_default();
    let mut found = lint(&target.subject).map_err(engine::Error::from)?;
    let inside = |path: &RelPath| {
        at.components().zip(path.components()).filter(|(a, b)| a == b).count() == at.components().len()
    };
    found.retain(|finding| finding.severity >= args.level.severity() && inside(&finding.path));
    let out = &mut context.out;
    if args.json {
        writeln!(out, "{:#}", documents::lint(&target.subject, &found))?;
    } else {
        for finding in &found {
            let (tag, _) = looking::layer(target.subject.layers().get(finding.layer));
            let wasted =
                if finding.wasted > 0 { format!(" ({})", format::size(finding.wasted)) } else { String::new() };
            writeln!(out, "{:<6} {}: {tag} {}{wasted}", finding.severity.word(), finding.rule, finding.path)?;
            writeln!(out, "       {}", finding.what)?;
            writeln!(out, "       fix: {}", finding.fix)?;
        }
        let high = found.iter().filter(|finding| finding.severity == Severity::High).count();
        let wasted = found.iter().fold(0u64, |sum, finding| sum.saturating_add(finding.wasted));
        writeln!(out, "{} findings, {high} of them high; {} could be saved", found.len(), format::size(wasted))?;
    }
    out.flush()?;
    if args.strict && !found.is_empty() { Err(CliError::answered(1)) } else { Ok(()) }
}
