//! `mica log`

use std::io::Write;

use crate::cli::Context;
use crate::cli::error::CliError;
use crate::cli::looking;
use crate::cli::looking::Asking;
use crate::engine;
use crate::explain::LayerInfo;
use crate::explain::Outcome;
use crate::explain::compare::Item;
use crate::explain::documents;
use crate::explain::log::Log;
use crate::explain::log::Revision;
use crate::explain::log::log;
use crate::explain::text;
use crate::path::Escaped;
use crate::sys::attr::Kind;

/// Arguments of `mica log`.
#[derive(Debug, clap::Args)]
#[command(after_help = looking::CODES)]
pub struct Args {
    #[command(flatten)]
    asking: Asking,
    /// Follow the path if it is a symlink itself
    #[arg(short = 'L', long)]
    follow: bool,
    /// One line for each layer
    #[arg(long)]
    oneline: bool,
    /// Print JSON
    #[arg(long, conflicts_with = "oneline")]
    json: bool,
}

pub fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let target = args.asking.open(context)?;
    let found = log(&target.subject, &target.path, args.follow).map_err(engine::Error::from)?;
    if args.json {
        writeln!(context.out, "{:#}", documents::log(&target.subject, &target.path, &found))?;
        return looking::ended(context, &found.outcome);
    }
    if found.revisions.is_empty() && !matches!(found.outcome, Outcome::Found) {
        let explanation = looking::follow(&target)?;
        return Err(looking::not_shown(&explanation));
    }
    print(&found, target.subject.layers(), args.oneline, &mut context.out)?;
    looking::ended(context, &found.outcome)
}

/// All revisions, newest first.
pub fn print(found: &Log, layers: &[LayerInfo], short: bool, out: &mut dyn Write) -> std::io::Result<()> {
    for (at, revision) in found.revisions.iter().enumerate() {
        let info = layers.get(revision.layer);
        if short {
            writeln!(out, "{}", oneline(revision, info))?;
            continue;
        }
        if at > 0 {
            writeln!(out)?;
        }
        out.write_all(full(revision, layers, &found.path.to_string()).as_bytes())?;
    }
    Ok(())
}

fn oneline(revision: &Revision, info: Option<&LayerInfo>) -> String {
    let (tag, digest) = looking::layer(info);
    let by = looking::made_by(info, looking::style(true));
    let mut words: Vec<String> = revision.differences.iter().map(|found| found.words().0.to_owned()).collect();
    words.dedup();
    let words = if words.is_empty() { String::new() } else { format!(" ({})", words.join(", ")) };
    format!("{} {tag} {digest}{words} {by}", revision.change.letter()).trim_end().to_owned()
}

fn full(revision: &Revision, layers: &[LayerInfo], path: &str) -> String {
    let info = layers.get(revision.layer);
    let place = info.map_or_else(String::new, |info| info.place.to_string());
    let digest = info.and_then(|info| info.digest).map_or_else(String::new, |digest| format!(" {digest}"));
    let mut out = format!("{place}{digest}\n");
    let made = info.map(|info| info.made.clone()).unwrap_or_default();
    for (name, word) in [("Author: ", &made.author), ("Date:   ", &made.created), ("Made by:", &made.created_by)] {
        if let Some(word) = word.as_ref().filter(|word| !word.is_empty()) {
            out.push_str(&format!("{name} {}\n", text::one_line(word)));
        }
    }
    if let (Some(info), None) = (info, info.and_then(|info| info.digest)) {
        out.push_str(&format!("In:      {}\n", Escaped(info.label.as_bytes())));
    }
    out.push('\n');
    if let Some(message) = made.comment.as_ref().filter(|message| !message.trim().is_empty()) {
        message.lines().for_each(|line| out.push_str(&format!("    {}\n", Escaped(line.as_bytes()))));
        out.push('\n');
    }
    let now = revision.after.as_ref().or(revision.before.as_ref()).map(object).unwrap_or_default();
    out.push_str(&format!("  {} {path}  {now}\n", revision.change.letter()));
    for difference in &revision.differences {
        out.push_str(&format!("      {:<8} {}\n", difference.words().0, difference.values()));
    }
    if let Some(from) = &revision.from {
        let place = layers.get(from.layer).map_or_else(String::new, |info| info.place.to_string());
        out.push_str(&format!("      {:<8} {place}: {}\n", "from", from.location));
    }
    out
}

fn object(item: &Item) -> String {
    let stat = &item.stat;
    let size = if stat.kind() == Kind::File { format!(" {} B", stat.size) } else { String::new() };
    format!("{} {}:{}{size}", text::mode(stat), stat.uid, stat.gid)
}
