//! What the commands that look into layers share: their target and path, and how an answer becomes an exit code.

use std::ffi::OsStr;
use std::ffi::OsString;
use std::io::IsTerminal;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde_json::Value;

use super::Context;
use super::error::CliError;
use super::progress;
use crate::engine;
use crate::engine::live;
use crate::engine::target;
use crate::engine::target::Damage;
use crate::engine::target::Target;
use crate::env;
use crate::explain;
use crate::explain::Explanation;
use crate::explain::LayerInfo;
use crate::explain::Outcome;
use crate::explain::text;
use crate::explain::text::Style;
use crate::path::Escaped;
use crate::sys::attr::Kind;
use crate::sys::attr::Stat;

/// Behind the help of each command.
pub const CODES: &str = "\
TARGET is an image or container, IMAGE@3 (its lowest three layers), docker-archive:FILE, oci-archive:FILE or oci:DIR \
(with :NAME if it holds several images), or a mountpoint of mica. Without TARGET, a PATH on such a mount.

Exit code: 0 the union shows the path, 1 it is hidden (deleted, or shadowed), 2 no layer has it, 125 mica failed.";

/// The mount that a word means: a mountpoint, a path on a mount, or a running container. Where it means none and the store could not be
/// asked for a container, the store's reason is the error.
pub fn mounted(word: &OsStr, context: &Context) -> Result<live::Target, CliError> {
    let mut unasked = None;
    let found = live::Target::find(word, || context.store().map_err(|e| unasked = Some(e)).ok());
    found.map_err(|e| match (e, unasked) {
        (engine::Error::NoMount(_), Some(why)) => why,
        (e, _) => e.into(),
    })
}

/// The target and the path in it.
#[derive(Debug, clap::Args)]
pub struct Asking {
    /// What to look into; or, with nothing behind it, a path on a mount
    #[arg(value_name = "TARGET", required_unless_present = "options")]
    target: Option<OsString>,
    /// The path, from the root of the target
    #[arg(value_name = "PATH")]
    path: Option<OsString>,
    /// Look into these directories instead: lowerdir=TOP:..:BOTTOM,upperdir=DIR; then only PATH is given
    #[arg(short, long, value_name = "OPTIONS")]
    options: Option<OsString>,
}

impl Asking {
    /// Opens the target; a path must be given.
    pub fn open(&self, context: &Context) -> Result<Target, CliError> {
        self.open_with(context, false, Damage::Refused)
    }

    /// Opens the target; without a path, its root is meant.
    pub fn open_or_root(&self, context: &Context) -> Result<Target, CliError> {
        self.open_with(context, true, Damage::Refused)
    }

    /// As [`Asking::open_or_root`], also where some layers cannot be read: they count as empty, and are told of.
    pub fn open_past_damage(&self, context: &Context) -> Result<Target, CliError> {
        self.open_with(context, true, Damage::LookedPast)
    }

    /// The word for the target; `None` when directories are given.
    pub fn word(&self) -> Option<&OsString> {
        self.target.as_ref().filter(|_| self.options.is_none())
    }

    fn open_with(&self, context: &Context, root_if_none: bool, damage: Damage) -> Result<Target, CliError> {
        let usage = |what: &str| CliError::new(what).hint("see --help");
        if let Some(options) = &self.options {
            return match (&self.target, &self.path) {
                (Some(path), None) => Ok(Target::new(target::directories(options)?, path.as_bytes().to_vec())),
                (None, None) if root_if_none => Ok(Target::new(target::directories(options)?, b"/".to_vec())),
                _ => Err(usage("with -o, give one PATH and no TARGET")),
            };
        }
        let Some(word) = &self.target else { return Err(usage("give a TARGET and a PATH")) };
        open(context, (word, self.path.as_deref()), root_if_none, damage)
    }

    /// The live mount that is looked into, if it is one.
    pub fn live(&self) -> Option<live::Target> {
        let word = self.target.as_ref().filter(|_| self.options.is_none())?;
        let found = live::Target::find(word, || None).ok()?;
        // With a path behind it, only the place of the mount itself means it.
        (self.path.is_none() || found.inside == b"/").then_some(found)
    }

    /// `TARGET:PATH` in one word is taken apart, as `git show` has it.
    pub fn open_joined(&self, context: &Context) -> Result<Target, CliError> {
        match (&self.target, &self.path, &self.options) {
            (Some(word), None, None) if !word.as_bytes().starts_with(b"/") => match target::split_path(word) {
                Some((word, path)) => open(context, (word, Some(path)), false, Damage::Refused),
                None => self.open(context),
            },
            _ => self.open(context),
        }
    }
}

/// Opens what a word means, and a path in it.
pub fn open(
    context: &Context,
    (word, path): (&OsStr, Option<&OsStr>),
    root_if_none: bool,
    damage: Damage,
) -> Result<Target, CliError> {
    let asked = target::Asked { word, path, root_if_none, root: context.root.as_deref(), damage };
    Ok(target::open(&asked, &*progress::choose(false, false))?)
}

/// Two targets to be compared, or the two ends of a range.
pub fn open_two(context: &Context, before: &OsStr, after: Option<&OsStr>) -> Result<(Target, Target), CliError> {
    Ok(target::open_two(before, after, context.root.as_deref(), &*progress::choose(false, false))?)
}

/// Follows the path of a target to its end, symlinks too.
pub fn follow(target: &Target) -> Result<Explanation, CliError> {
    Ok(explain::explain(&target.subject, &target.path, true).map_err(engine::Error::from)?)
}

/// What a command ends with when its answer has been printed.
pub fn ended(context: &mut Context, outcome: &Outcome) -> Result<(), CliError> {
    context.out.flush()?;
    match outcome.exit_code() {
        0 => Ok(()),
        code => Err(CliError::answered(code)),
    }
}

/// Writes a page for a browser, whole or not at all; `-` is standard output. What the command found is said by its exit code.
pub fn page(context: &mut Context, file: &Path, page: &str) -> Result<(), CliError> {
    if file == Path::new("-") {
        return Ok(context.out.write_all(page.as_bytes())?);
    }
    let failed = |source| engine::Error::Output { path: file.display().to_string(), source };
    Ok(engine::output::file(file, |out| out.write_all(page.as_bytes()).map_err(failed))?)
}

/// The failure to show something that does not show.
pub fn not_shown(explanation: &Explanation) -> CliError {
    CliError::new(text::verdict(explanation)).code(explanation.outcome.exit_code())
}

/// Ends a walk when a line could not be printed.
///
/// # Errors
/// One that says only that it is over; [`printing`] replaces it.
pub fn go_on(printed: &std::io::Result<()>) -> Result<(), explain::Error> {
    if printed.is_ok() { Ok(()) } else { Err(explain::Error::Stopped) }
}

/// The error of a walk that prints: that of printing, if there was one.
///
/// # Errors
/// Always.
pub fn printing(printed: std::io::Result<()>, of_walk: explain::Error) -> Result<(), CliError> {
    printed?;
    Err(engine::Error::from(of_walk).into())
}

/// Signs and colours only for a terminal; what is piped is plain ASCII but for the names themselves.
pub fn style(verbose: bool) -> Style {
    let terminal = std::io::stdout().is_terminal();
    let term = env::var("TERM").unwrap_or_default();
    let term = term.to_string_lossy();
    // Terminals without colours, as terminfo has them.
    let plain = term == "dumb" || term.ends_with("-mono") || ["vt1", "vt2"].iter().any(|old| term.starts_with(old));
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(env::var).unwrap_or_default();
    let locale = locale.to_string_lossy().to_ascii_lowercase();
    Style {
        unicode: terminal && (locale.contains("utf-8") || locale.contains("utf8")),
        colour: terminal && !plain && env::var("NO_COLOR").is_none(),
        verbose,
    }
}

/// `upper` or `L3`, and the first digits of the digest.
pub fn layer(info: Option<&LayerInfo>) -> (String, String) {
    let digest = info.and_then(|info| info.digest).map_or_else(|| "-".to_owned(), |digest| digest.short());
    (info.map(text::tag).unwrap_or_default(), digest)
}

/// The size of what has one: that of a directory is its filesystem's business, and an image has none.
pub fn size(stat: &Stat) -> String {
    if stat.kind() == Kind::Dir { "-".to_owned() } else { stat.size.to_string() }
}

/// The command that made a layer, or the directory that it is, on one line.
pub fn made_by(info: Option<&LayerInfo>, style: Style) -> String {
    let Some(info) = info else { return String::new() };
    let words = match (&info.made.created_by, info.digest) {
        (Some(command), _) => text::one_line(command),
        (None, None) => Escaped(info.label.as_bytes()).to_string(),
        (None, Some(_)) => String::new(),
    };
    text::shorten(&words, style)
}

/// A list in a JSON document, written one element a line, so that it may be longer than memory.
#[derive(Debug)]
pub struct JsonList {
    empty: bool,
}

impl JsonList {
    /// Begins a document with the fields of `opening` and the list `name`.
    pub fn begin(out: &mut impl Write, opening: &Value, name: &str) -> std::io::Result<Self> {
        let fields = opening.to_string();
        let fields = fields.strip_suffix('}').unwrap_or(&fields);
        write!(out, "{fields},\"{name}\":[")?;
        Ok(Self { empty: true })
    }

    /// Adds an element.
    pub fn add(&mut self, out: &mut impl Write, value: &Value) -> std::io::Result<()> {
        let separator = if std::mem::take(&mut self.empty) { "\n" } else { ",\n" };
        write!(out, "{separator}{value}")
    }

    /// Ends the document.
    pub fn end(self, out: &mut impl Write) -> std::io::Result<()> {
        writeln!(out, "\n]}}")
    }
}
