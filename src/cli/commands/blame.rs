//! `mica blame`

use std::io::Write;

use crate::cli::Context;
use crate::cli::error::CliError;
use crate::cli::looking;
use crate::cli::looking::Asking;
use crate::cli::looking::JsonList;
use crate::explain::Outcome;
use crate::explain::blame::Line;
use crate::explain::blame::blame;
use crate::explain::documents;
use crate::explain::subject::Subject;
use crate::explain::text;
use crate::explain::text::Style;
use crate::path::Escaped;
use crate::path::RelPath;
use crate::sys::attr::Kind;

/// Arguments of `mica blame`.
#[derive(Debug, clap::Args)]
#[command(after_help = looking::CODES)]
pub struct Args {
    #[command(flatten)]
    asking: Asking,
    /// Everything below the directory, too
    #[arg(short = 'R', long)]
    recursive: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Commands and messages in full
    #[arg(short, long)]
    verbose: bool,
}

pub fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let target = args.asking.open_or_root(context)?;
    let explanation = looking::follow(&target)?;
    if explanation.outcome != Outcome::Found {
        return Err(looking::not_shown(&explanation));
    }
    let (subject, top) = (&target.subject, explanation.resolved());
    let style = looking::style(args.verbose);
    let mut list = match args.json {
        true => Some(JsonList::begin(&mut context.out, &documents::opening(subject, &target.path), "entries")?),
        false => None,
    };
    let mut failed = Ok(());
    let out = &mut context.out;
    blame(subject, &top, args.recursive, &mut |line| {
        failed = match &mut list {
            Some(list) => list.add(out, &documents::blamed(subject, &line)),
            None => writeln!(out, "{}", shown(subject, &line, &top, style)),
        };
        looking::go_on(&failed)
    })
    .or_else(|e| looking::printing(failed, e))?;
    list.map_or(Ok(()), |list| list.end(&mut context.out))?;
    Ok(())
}

fn shown(subject: &Subject, line: &Line, top: &RelPath, style: Style) -> String {
    let info = subject.layers().get(line.layer);
    let (tag, digest) = looking::layer(info);
    let stat = &line.stat;
    let word = |word: Option<&String>| word.map(|word| text::one_line(word)).unwrap_or_default();
    let made = info.map(|info| &info.made);
    // As `git blame`: the name without the address.
    let author = word(made.and_then(|made| made.author.as_ref()));
    let author: String = author.split('<').next().unwrap_or_default().trim().chars().take(12).collect();
    let date = word(made.and_then(|made| made.created.as_ref()));
    let date: String = date.chars().take(10).collect();
    let name = relative(&line.path, top);
    let slash = if stat.kind() == Kind::Dir { "/" } else { "" };
    let link = line.link.as_ref().map(|link| format!(" -> {}", Escaped(link))).unwrap_or_default();
    let message = word(made.and_then(|made| made.comment.as_ref()));
    let by = looking::made_by(info, style);
    let about = [by, text::shorten(&message, style)].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>();
    let owner = format!("{}:{}", stat.uid, stat.gid);
    let object = format!("{} {owner:<11} {:>10}", text::mode(stat), looking::size(stat));
    let text = format!(
        "{tag:<5} {digest:<12} {date:<10} {author:<12} {object}  {:<32}  {}",
        format!("{name}{slash}{link}"),
        about.join("  # ")
    );
    text.trim_end().to_owned()
}

fn relative(path: &RelPath, top: &RelPath) -> String {
    let names: Vec<String> = path.components().skip(top.components().len()).map(|name| name.to_string()).collect();
    if names.is_empty() { path.to_string() } else { names.join("/") }
}
