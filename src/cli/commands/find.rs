//! `mica find`

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;

use crate::cli::Context;
use crate::cli::error::CliError;
use crate::cli::format;
use crate::cli::looking;
use crate::cli::looking::Asking;
use crate::cli::looking::JsonList;
use crate::engine;
use crate::engine::target::Target;
use crate::explain::Outcome;
use crate::explain::Place;
use crate::explain::documents;
use crate::explain::find;
use crate::explain::find::Hit;
use crate::explain::find::Query;
use crate::explain::find::SizeRange;
use crate::explain::find::Sought;
use crate::explain::subject::Subject;
use crate::explain::text;
use crate::path::RelPath;
use crate::sys::attr::Kind;

/// Arguments of `mica find`.
#[derive(Debug, clap::Args)]
#[command(after_help = looking::CODES)]
pub struct Args {
    #[command(flatten)]
    asking: Asking,
    #[command(flatten)]
    filter: Filter,
    /// Groups of files with the same content, at several paths or in several layers
    #[arg(long)]
    dup: bool,
    /// Only paths, unescaped, each ended by a NUL, for 'xargs -0'
    #[arg(short = '0', long, conflicts_with_all = ["json", "dup"])]
    print0: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What is searched for.
#[derive(Debug, clap::Args)]
pub struct Filter {
    /// The last name matches this pattern (*, ?, [...])
    #[arg(long, value_name = "GLOB")]
    name: Option<OsString>,
    /// Larger (+1M), smaller (-10k) or exactly so large; k, M, G are 1024, 1024², 1024³
    #[arg(long, value_name = "[+-]SIZE", allow_hyphen_values = true, value_parser = size)]
    size: Option<SizeRange>,
    /// f file, d directory, l symlink, c and b devices, p FIFO, s socket, w whiteout; several as in 'fl'
    #[arg(long, value_name = "KIND", value_parser = kinds)]
    kind: Option<Kinds>,
    /// What this layer has, whether or not it shows: a number, or 'upper'
    #[arg(long, value_name = "N")]
    layer: Option<String>,
    /// What some layer has, but the union does not show
    #[arg(long)]
    deleted: bool,
}

impl Filter {
    /// As a query of `subject`.
    pub fn query(&self, subject: &Subject) -> Result<Query, CliError> {
        Ok(Query {
            name: self.name.as_ref().map(|name| name.as_bytes().to_vec()),
            size: self.size,
            kinds: self.kind.clone().map(|kinds| kinds.0).unwrap_or_default(),
            layer: self.layer.as_deref().map(|word| layer(subject, word)).transpose()?,
            deleted: self.deleted,
        })
    }
}

#[derive(Debug, Clone)]
struct Kinds(Vec<Sought>);

fn kinds(text: &str) -> Result<Kinds, String> {
    let kind = |letter: char| {
        Ok(Sought::Kind(match letter {
            'f' => Kind::File,
            'd' => Kind::Dir,
            'l' => Kind::Symlink,
            'c' => Kind::Char,
            'b' => Kind::Block,
            'p' => Kind::Fifo,
            's' => Kind::Socket,
            'w' => return Ok(Sought::Whiteout),
            other => return Err(format!("{other:?} is none of f d l c b p s w")),
        }))
    };
    text.chars().filter(|c| *c != ',').map(kind).collect::<Result<_, _>>().map(Kinds)
}

fn size(text: &str) -> Result<SizeRange, String> {
    let bad = || format!("{text:?} is no size such as +1M, -10k or 4096");
    let (sign, rest) = match text.split_at_checked(1) {
        Some((sign @ ("+" | "-"), rest)) => (sign, rest),
        _ => ("", text),
    };
    let digits = rest.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match rest.get(digits.len()..).unwrap_or_default() {
        "" | "c" | "B" => 1,
        "k" | "K" | "kB" => 1 << 10,
        "M" | "MB" => 1 << 20,
        "G" | "GB" => 1u64 << 30,
        _ => return Err(bad()),
    };
    let bytes = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(unit)).ok_or_else(bad)?;
    Ok(match sign {
        "+" => SizeRange { min: bytes.saturating_add(1), max: u64::MAX },
        "-" => SizeRange { min: 0, max: bytes.saturating_sub(1) },
        _ => SizeRange { min: bytes, max: bytes },
    })
}

pub fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let target = args.asking.open_or_root(context)?;
    let explanation = looking::follow(&target)?;
    if !matches!(explanation.outcome, Outcome::Found | Outcome::Hidden { .. }) {
        return Err(looking::not_shown(&explanation));
    }
    let query = args.filter.query(&target.subject)?;
    let at = explanation.resolved();
    if args.dup {
        same(args, context, &target, &at, &query)?;
    } else {
        each(args, context, &target, &at, &query)?;
    }
    looking::ended(context, &explanation.outcome)
}

fn layer(subject: &Subject, word: &str) -> Result<usize, CliError> {
    let number = word.trim_start_matches(['L', 'l']).parse().ok().map(Place::Layer);
    let wanted = if word == "upper" { Some(Place::Upper) } else { number };
    let found = wanted.and_then(|wanted| subject.layers().iter().position(|info| info.place == wanted));
    found.ok_or_else(|| {
        CliError::new(format!("there is no layer {word:?}")).hint("layers are counted from 1, the lowest")
    })
}

fn each(args: &Args, context: &mut Context, target: &Target, at: &RelPath, query: &Query) -> Result<(), CliError> {
    let subject = &target.subject;
    let out = &mut context.out;
    let mut list = match args.json {
        true => Some(JsonList::begin(out, &documents::opening(subject, &target.path), "found")?),
        false => None,
    };
    let mut failed = Ok(());
    find::find(subject, at, query, &mut |hit| {
        failed = match &mut list {
            Some(list) => list.add(out, &documents::hit(subject, &hit)),
            None if args.print0 => out.write_all(&[b"/", hit.path.to_bytes().as_slice(), b"\0"].concat()),
            None => writeln!(out, "{}", line(subject, &hit)),
        };
        looking::go_on(&failed)
    })
    .or_else(|e| looking::printing(failed, e))?;
    list.map_or(Ok(()), |list| list.end(out))?;
    Ok(())
}

/// A line about one thing that was found.
pub fn line(subject: &Subject, hit: &Hit) -> String {
    let (tag, _) = looking::layer(subject.layers().get(hit.layer));
    let object = match &hit.stat {
        Some(stat) => {
            let owner = format!("{}:{}", stat.uid, stat.gid);
            format!("{} {owner:<11} {:>10}", text::mode(stat), looking::size(stat))
        }
        None => format!("{:<10} {:<11} {:>10}", "whiteout", "", ""),
    };
    let why = hit.cut.as_ref().map(|cut| format!("  (hidden: {})", text::reason(cut, subject.layers())));
    format!("{tag:<5} {object}  {}{}", hit.path, why.unwrap_or_default())
}

fn same(args: &Args, context: &mut Context, target: &Target, at: &RelPath, query: &Query) -> Result<(), CliError> {
    let subject = &target.subject;
    let out = &mut context.out;
    let groups = find::same_content(subject, at, query).map_err(engine::Error::from)?;
    if args.json {
        let mut list = JsonList::begin(out, &documents::opening(subject, &target.path), "found")?;
        for group in &groups {
            list.add(out, &documents::same(subject, group))?;
        }
        list.end(out)?;
        return Ok(());
    }
    for group in &groups {
        let count = group.hits.len();
        writeln!(
            out,
            "{} {count} times {}, {} too much",
            group.digest.short(),
            format::size(group.size),
            format::size(group.extra())
        )?;
        for hit in &group.hits {
            writeln!(out, "  {}", line(subject, hit))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_are_those_of_find() {
        let range = |text| size(text).map(|range| (range.min, range.max));
        assert_eq!(range("+1M"), Ok(((1 << 20) + 1, u64::MAX)));
        assert_eq!(range("-10k"), Ok((0, 10239)));
        assert_eq!(range("7"), Ok((7, 7)));
        for bad in ["", "+", "x", "1T", "99999999999999999999G", "1.5M"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }
}
