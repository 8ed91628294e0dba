//! `mica diff`

use std::ffi::OsString;
use std::io::IsTerminal;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;

use crate::cli::Context;
use crate::cli::error::CliError;
use crate::cli::looking;
use crate::cli::looking::JsonList;
use crate::engine;
use crate::engine::diff;
use crate::engine::target::Damage;
use crate::engine::target::directories;
use crate::engine::target::is_mount;
use crate::engine::target::is_range;
use crate::explain::Error;
use crate::explain::Outcome;
use crate::explain::Place;
use crate::explain::Subject;
use crate::explain::changes::Changed;
use crate::explain::changes::Rules;
use crate::explain::changes::each_change;
use crate::explain::compare::Item;
use crate::explain::content;
use crate::explain::documents;
use crate::explain::explain;
use crate::explain::unified;
use crate::path::Escaped;
use crate::path::RelPath;
use crate::sys::attr::Kind;

/// Arguments of `mica diff`.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "mica diff CONTAINER\n       mica diff IMAGE@2..@5 [PATH]\n       mica diff TARGET TARGET [PATH]\n       mica diff MOUNTPOINT\n       \
        mica diff -o OPTIONS [2..5] [PATH]",
    after_help = "The layers of an image are counted from 1, the lowest: IMAGE@2..@5 is what layers 3, 4 and 5 changed, IMAGE@0..@1 all that \
        layer 1 has. A TARGET is what 'mica which' takes: an image, a container, IMAGE@3, docker-archive:FILE, oci:DIR, a mountpoint. Of a mountpoint \
        alone, what was changed through it; of directories without a range, what the topmost changed.\n\n\
        A added, C changed (in anything: type, mode, owner, content, xattrs, time), D deleted. Exit code: 0; 2 when neither has \
        PATH; when mica fails 1 with a container alone, as docker, else 125."
)]
pub struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// The lines that differ in text files, as 'diff -u'
    #[arg(short = 'U', long, conflicts_with = "json")]
    unified: bool,
    /// So many lines around each difference
    #[arg(long, value_name = "LINES", default_value_t = 3)]
    context: usize,
    /// A file that differs only in its time is the same
    #[arg(long)]
    ignore_times: bool,
    /// Compare in the stack of these directories: lowerdir=TOP:..:BOTTOM,upperdir=DIR; then only a range and a PATH are given
    #[arg(short, long, value_name = "OPTIONS")]
    options: Option<OsString>,
    /// A container by name, id, or the beginning of an id; or what to compare
    #[arg(value_name = "TARGET", required_unless_present = "options")]
    before: Option<OsString>,
    /// What to compare with; behind a range, the path
    #[arg(value_name = "TARGET")]
    after: Option<OsString>,
    /// Only what is at or below this path
    #[arg(value_name = "PATH")]
    path: Option<OsString>,
}

pub fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let Some(first) = args.before.as_ref().filter(|_| args.options.is_none()) else {
        return in_directories(args, context).map_err(CliError::in_run);
    };
    let range = is_range(first);
    match (&args.after, &args.path, range) {
        (None, None, false) if is_mount(first) => of_mount(args, first, context).map_err(CliError::in_run),
        (None, None, false) => of_container(args, first, context),
        (Some(_), Some(_), true) => {
            Err(CliError::new("a range is compared in itself: give it alone, or with a PATH").in_run())
        }
        (path, None, true) => compare(args, (first, None), path.as_ref(), context).map_err(CliError::in_run),
        (after, path, _) => compare(args, (first, after.as_ref()), path.as_ref(), context).map_err(CliError::in_run),
    }
}

/// As `docker diff`: what a container changed.
fn of_container(args: &Args, word: &OsString, context: &mut Context) -> Result<(), CliError> {
    let store = context.store()?;
    let word = word.to_string_lossy();
    let record = match store.find_container(&word) {
        Err(e) if store.images().is_ok_and(|images| images.find(&word).is_ok()) => {
            let hint = format!(
                "it is an image: 'mica diff {word}@1..@2' compares its layers, 'mica diff {word} OTHER' two images"
            );
            return Err(CliError::new(e).hint(hint));
        }
        found => found?,
    };
    if args.unified {
        let hint = format!("mica diff -U {} {word}", record.image_name);
        return Err(CliError::new("for a container, -U needs the image as well").hint(hint));
    }
    let changes = diff::changes(&store, &record)?;
    if args.json {
        let kind = |c: diff::Change| c.letter().to_string();
        let rows: Vec<_> = changes
            .iter()
            .map(|(path, change)| serde_json::json!({"kind": kind(*change), "path": path.to_string()}))
            .collect();
        writeln!(context.out, "{}", serde_json::Value::from(rows))?;
        return Ok(());
    }
    for (path, change) in changes {
        writeln!(context.out, "{} {path}", change.letter())?;
    }
    Ok(())
}

/// What was changed through a mount: of one that is only read, nothing.
fn of_mount(args: &Args, word: &OsString, context: &mut Context) -> Result<(), CliError> {
    let target = looking::open(context, (word, None), true, Damage::Refused)?;
    let all = &target.subject;
    let written = all.layers().first().is_some_and(|top| top.place == Place::Upper);
    let count = all.layers().len();
    let before = all.first(count - usize::from(written)).map_err(engine::Error::from)?;
    both(args, (&before.titled(format!("{}@{}", all.title(), count - 1)), all), None, context)
}

/// What layers of a stack of directories changed; without a range, the topmost one.
fn in_directories(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let all = directories(args.options.as_deref().unwrap_or_default())?;
    let words: Vec<&OsString> = [&args.before, &args.after, &args.path].into_iter().flatten().collect();
    let (range, path) = range_and_path(&words)?;
    let count = all.layers().len();
    let (from, to) = range.unwrap_or((count.saturating_sub(1), count));
    let part = |count: usize| -> Result<Subject, CliError> {
        Ok(all.first(count).map_err(engine::Error::from)?.titled(format!("@{count}")))
    };
    both(args, (&part(from)?, &part(to)?), path, context)
}

/// The layers from behind one up to another.
pub type Range = (usize, usize);

/// What stands behind a stack: `2..5` (also as `@2..@5`), a path, both or nothing.
///
/// # Errors
/// For anything else.
pub fn range_and_path<'a>(words: &[&'a OsString]) -> Result<(Option<Range>, Option<&'a OsString>), CliError> {
    let number = |text: &str| text.strip_prefix('@').unwrap_or(text).parse().ok();
    let range = |word: &OsString| -> Option<(usize, usize)> {
        let (from, to) = word.to_str()?.split_once("..")?;
        Some((number(from)?, number(to)?))
    };
    match words {
        [] => Ok((None, None)),
        [one] => Ok(range(one).map_or((None, Some(*one)), |range| (Some(range), None))),
        [one, two] => match range(one) {
            Some(range) => Ok((Some(range), Some(*two))),
            None => {
                let word = Escaped(one.as_bytes()).to_string();
                Err(CliError::new(format!("{word} is no range of layers such as 2..5")))
            }
        },
        _ => Err(CliError::new("give a range of layers and a path, not more")),
    }
}

fn compare(
    args: &Args,
    (before, after): (&OsString, Option<&OsString>),
    path: Option<&OsString>,
    context: &mut Context,
) -> Result<(), CliError> {
    let (before, after) = looking::open_two(context, before, after.map(OsString::as_os_str))?;
    both(args, (&before.subject, &after.subject), path, context)
}

fn both(
    args: &Args,
    (before, after): (&Subject, &Subject),
    path: Option<&OsString>,
    context: &mut Context,
) -> Result<(), CliError> {
    let asked = path.map_or(&b"/"[..], |path| path.as_bytes());
    // A directory behind a symlink: where the newer one leads, or else the older.
    let newer = explain(after, asked, true).map_err(engine::Error::from)?;
    let at = match newer.served() {
        Some(_) => newer.resolved(),
        None => {
            let older = explain(before, asked, true).map_err(engine::Error::from)?;
            let has = |found: &Outcome| matches!(found, Outcome::Found | Outcome::Hidden { .. });
            if !has(&older.outcome) && !has(&newer.outcome) {
                return Err(looking::not_shown(&newer));
            }
            older.resolved()
        }
    };
    let rules = Rules { ignore_times: args.ignore_times };
    if args.json {
        let out = &mut context.out;
        let mut list = JsonList::begin(out, &documents::compared(before, after, asked), "changes")?;
        each((before, after), &at, rules, &mut |change| Ok(list.add(out, &documents::changed(change))?))?;
        list.end(out)?;
        return Ok(());
    }
    let how = How { unified: args.unified, context: args.context };
    print((before, after), (&at, rules), how, &mut context.out)
}

/// Has each change printed as it is found.
fn each(
    of: (&Subject, &Subject),
    at: &RelPath,
    rules: Rules,
    print: &mut dyn FnMut(&Changed) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let mut printed = Ok(());
    let done = each_change(of, at, rules, &mut |change| {
        printed = print(&change);
        if printed.is_ok() { Ok(()) } else { Err(Error::Stopped) }
    });
    printed?;
    Ok(done.map_err(engine::Error::from)?)
}

/// How differences are printed.
#[derive(Debug, Clone, Copy)]
pub struct How {
    /// With the lines that differ.
    pub unified: bool,
    /// So many lines around each difference.
    pub context: usize,
}

/// All changes from the first to the second, at and below a path.
pub fn print(
    of: (&Subject, &Subject),
    (at, rules): (&RelPath, Rules),
    how: How,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    each(of, at, rules, &mut |change| {
        if how.unified {
            return patch(how, change, of, out);
        }
        Ok(writeln!(out, "{} {}", change.change.letter(), change.path)?)
    })
}

/// One path as `git diff` shows it.
fn patch(how: How, change: &Changed, of: (&Subject, &Subject), out: &mut dyn Write) -> Result<(), CliError> {
    let is_file = |item: &Option<Item>| item.as_ref().is_some_and(|item| item.stat.kind() == Kind::File);
    if !is_file(&change.before) && !is_file(&change.after) {
        let only_inside = change.before.is_some() && change.after.is_some() && change.differences.is_empty();
        if !only_inside {
            writeln!(out, "{} {}", change.change.letter(), change.path)?;
            words(change, out)?;
        }
        return Ok(());
    }
    writeln!(out, "{} {}", change.change.letter(), change.path)?;
    words(change, out)?;
    let bytes = |item: &Option<Item>| -> Result<Option<Vec<u8>>, CliError> {
        let Some(object) = item.as_ref().and_then(|item| item.content.as_ref()) else { return Ok(Some(Vec::new())) };
        Ok(content::whole(object, unified::UNIFIED_MAX).map_err(engine::Error::from)?)
    };
    let (Some(old), Some(new)) = (bytes(&change.before)?, bytes(&change.after)?) else {
        writeln!(out, "Files are too large to be compared by line")?;
        return Ok(());
    };
    if old == new {
        return Ok(());
    }
    if unified::is_binary(&old) || unified::is_binary(&new) {
        writeln!(out, "Binary files differ")?;
        return Ok(());
    }
    let name = |item: &Option<Item>, subject: &Subject, path: &RelPath| match item {
        Some(_) => format!("{}:{path}", Escaped(subject.title().as_bytes())),
        None => "/dev/null".to_owned(),
    };
    writeln!(out, "--- {}", name(&change.before, of.0, &change.path))?;
    writeln!(out, "+++ {}", name(&change.after, of.1, &change.path))?;
    let text = unified::unified(&old, &new, how.context);
    if !std::io::stdout().is_terminal() {
        out.write_all(&text)?;
        return Ok(());
    }
    for line in text.split_inclusive(|&b| b == b'\n') {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let shown: Vec<String> = line.split(|&b| b == b'\t').map(|part| Escaped(part).to_string()).collect();
        writeln!(out, "{}", shown.join("\t"))?;
    }
    Ok(())
}

/// What differs beside the content.
fn words(change: &Changed, out: &mut dyn Write) -> Result<(), CliError> {
    for difference in &change.differences {
        let what = difference.words().0;
        if !matches!(what, "content" | "size") {
            writeln!(out, "  {what} {}", difference.values())?;
        }
    }
    Ok(())
}
