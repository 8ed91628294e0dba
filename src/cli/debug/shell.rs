//! `mica debug --plain`: one line in, text out. What a line does is here, without any terminal; reading lines is in `readline`.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::Duration;

use clap::CommandFactory;

use super::live;
use super::session;
use super::session::Session;
use super::words;
use crate::cli::commands::diff;
use crate::cli::commands::find;
use crate::cli::commands::log as history;
use crate::cli::commands::which;
use crate::cli::error::CliError;
use crate::cli::error::EXIT_MICA;
use crate::cli::format;
use crate::cli::looking;
use crate::cli::table::Table;
use crate::engine;
use crate::explain;
use crate::explain::Explanation;
use crate::explain::Outcome;
use crate::explain::changes::Rules;
use crate::explain::changes::changes;
use crate::explain::content;
use crate::explain::layers::Entry;
use crate::explain::layers::Folder;
use crate::explain::layers::Has;
use crate::explain::layers::State;
use crate::explain::layers::walk;
use crate::explain::log::log;
use crate::explain::text;
use crate::explain::text::Style;
use crate::explain::versions::entry_at;
use crate::explain::versions::versions;
use crate::path::Escaped;
use crate::path::RelPath;
use crate::sys::attr::Kind;

/// A line of the shell.
#[derive(Debug, clap::Parser)]
#[command(
    no_binary_name = true,
    disable_help_flag = true,
    disable_help_subcommand = true,
    subcommand_help_heading = "Commands",
    override_usage = "COMMAND [ARGUMENTS]",
    after_help = "Names are read as they are shown: \\x1b is one byte, \\\\ a backslash; quotes are as in a shell. 'help COMMAND' tells of its \
        arguments. Exit code of a command: 0 found, 1 hidden, 2 no layer has it, 125 it failed; the last one that is not 0 is the shell's."
)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Go to a directory; also to one that does not show
    Cd {
        /// The directory [default: the root]
        dir: Option<OsString>,
    },
    /// Print where you are
    Pwd,
    /// List a directory: the layer that serves each entry, mode, owner, size, name
    Ls {
        /// What does not show, too: whiteouts, and what they and others hide
        #[arg(short)]
        all: bool,
        /// The directory [default: here]
        path: Option<OsString>,
    },
    /// Everything about one path
    Stat {
        /// The path
        path: OsString,
    },
    /// Print a file; on a terminal what could steer it is escaped
    Cat {
        /// The file
        path: OsString,
    },
    /// What each layer has of a path, and which one is served
    Which(Followed),
    /// The walk through the layers, name by name
    Explain {
        #[command(flatten)]
        at: Followed,
        /// A line for every layer
        #[arg(short)]
        verbose: bool,
    },
    /// What each layer did to a path, newest first
    Log {
        #[command(flatten)]
        at: Followed,
        /// One line for each layer
        #[arg(long)]
        oneline: bool,
    },
    /// What the topmost looked-at layer changed, or layers N+1 to M
    Diff {
        /// The lines that differ, too
        #[arg(short = 'U')]
        unified: bool,
        /// A file that differs only in its time is the same
        #[arg(long)]
        ignore_times: bool,
        /// N..M, or a path; or both
        words: Vec<OsString>,
    },
    /// Search all layers
    Find {
        #[command(flatten)]
        filter: find::Filter,
        /// Where to search [default: here]
        path: Option<OsString>,
    },
    /// List the layers, top first
    Layers,
    /// List whiteouts and opaque directories of all layers
    Whiteouts {
        /// Where to search [default: the root]
        path: Option<OsString>,
    },
    /// Look at the lowest N layers only; without N, at all
    At {
        /// How many
        count: Option<usize>,
    },
    /// One layer less
    #[command(name = "[")]
    Back,
    /// One layer more
    #[command(name = "]")]
    Forth,
    /// Mount what is looked at on an empty directory
    Mount {
        /// The directory
        dir: PathBuf,
    },
    /// Take a file or directory out
    Extract {
        /// What
        path: OsString,
        /// Where to [default: its name, in this directory]; must not be there yet
        to: Option<PathBuf>,
    },
    /// Operations on the live mount, as they happen
    Trace {
        /// End after so many events
        #[arg(short = 'n')]
        count: Option<u64>,
    },
    /// Tell of the commands
    Help {
        /// Of this one
        command: Option<String>,
    },
    /// End
    #[command(visible_alias = "exit")]
    Quit,
}

#[derive(Debug, clap::Args)]
struct Followed {
    /// Follow the path if it is a symlink itself
    #[arg(short = 'L')]
    follow: bool,
    /// The path
    path: OsString,
}

/// Whether the shell goes on.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// With the next line.
    Line,
    /// Not at all.
    End,
}

/// The shell's state.
#[derive(Debug)]
pub struct Shell {
    session: Session,
    cwd: RelPath,
    style: Style,
    /// Nothing of a file reaches the output that could steer a terminal.
    tame: bool,
}

type Printed = Result<(), CliError>;

impl Shell {
    /// A shell at the path that was asked for. `tame` escapes the content of files.
    ///
    /// # Errors
    /// When that is no directory.
    pub fn new(session: Session, style: Style, tame: bool) -> Result<Self, CliError> {
        let asked = OsString::from_vec(session.asked().to_vec());
        let mut shell = Self { session, cwd: RelPath::root(), style, tame };
        shell.cd(Some(&asked))?;
        Ok(shell)
    }

    /// What stands before a line that is to be typed.
    pub fn prompt(&self) -> String {
        let (at, total) = (self.session.at(), self.session.total());
        let at = if at == total { String::new() } else { format!(" [{at}/{total}]") };
        format!("{}{at}:{}> ", Escaped(self.session.full().title().as_bytes()), self.cwd)
    }

    /// Does what a line says.
    ///
    /// # Errors
    /// What the command's failure is; its exit code is an answer. The shell can go on.
    pub fn run(&mut self, line: &[u8], out: &mut dyn Write) -> Result<Next, CliError> {
        let words = words::split(line).map_err(|e| CliError::new(e).code(EXIT_MICA))?;
        if words.is_empty() {
            return Ok(Next::Line);
        }
        let words = words.into_iter().map(OsString::from_vec);
        let command = match <Line as clap::Parser>::try_parse_from(words) {
            Ok(line) => line.command,
            Err(e) => return Err(usage(&e)),
        };
        if matches!(command, Command::Quit) {
            return Ok(Next::End);
        }
        let done = self.command(command, out);
        out.flush()?;
        done.map(|()| Next::Line).map_err(CliError::in_run)
    }

    fn command(&mut self, command: Command, out: &mut dyn Write) -> Printed {
        match command {
            Command::Cd { dir } => self.cd(dir.as_ref()),
            Command::Pwd => Ok(writeln!(out, "{}", self.cwd)?),
            Command::Ls { all, path } => self.ls(path.as_ref(), all, out),
            Command::Stat { path } => self.stat(&path, out),
            Command::Cat { path } => self.cat(&path, out),
            Command::Which(at) => {
                let found = versions(self.here(), &self.absolute(&at.path), at.follow).map_err(engine::Error::from)?;
                which::print(&found, self.here().layers(), self.style, out)?;
                answered(&found.explanation.outcome)
            }
            Command::Explain { at, verbose } => {
                let explanation = self.explain(&at.path, at.follow)?;
                let style = Style { verbose, ..self.style };
                out.write_all(text::picture(&explanation, style).as_bytes())?;
                answered(&explanation.outcome)
            }
            Command::Log { at, oneline } => {
                let found = log(self.here(), &self.absolute(&at.path), at.follow).map_err(engine::Error::from)?;
                if found.revisions.is_empty() && !matches!(found.outcome, Outcome::Found) {
                    return Err(looking::not_shown(&self.explain(&at.path, true)?));
                }
                history::print(&found, self.here().layers(), oneline, out)?;
                answered(&found.outcome)
            }
            Command::Diff { unified, ignore_times, words } => self.diff(unified, ignore_times, &words, out),
            Command::Find { filter, path } => self.find(&filter, path.as_ref(), out),
            Command::Layers => self.layers(out),
            Command::Whiteouts { path } => self.whiteouts(path.as_ref(), out),
            Command::At { count } => self.go(count.unwrap_or(self.session.total()), out),
            Command::Back => self.go(self.session.at().saturating_sub(1), out),
            Command::Forth => self.go(self.session.total().min(self.session.at() + 1), out),
            Command::Mount { dir } => {
                self.session.mount(&dir)?;
                Ok(writeln!(out, "mounted on {}", Escaped(dir.as_os_str().as_bytes()))?)
            }
            Command::Extract { path, to } => self.extract(&path, to, out),
            Command::Trace { count } => self.trace(count, out),
            Command::Help { command } => help(command.as_deref(), out),
            Command::Quit => Ok(()),
        }
    }

    fn here(&self) -> &explain::Subject {
        self.session.here()
    }

    /// A path from the root; `..` and symlinks are the walk's business.
    fn absolute(&self, path: &OsString) -> Vec<u8> {
        let path = path.as_bytes();
        match path {
            [b'/', ..] => path.to_vec(),
            _ => [b"/", self.cwd.to_bytes().as_slice(), b"/", path].concat(),
        }
    }

    fn explain(&self, path: &OsString, follow: bool) -> Result<Explanation, CliError> {
        Ok(explain::explain(self.here(), &self.absolute(path), follow).map_err(engine::Error::from)?)
    }

    /// Where a path leads that the union shows, or hides.
    fn resolved(&self, path: &OsString, follow: bool) -> Result<RelPath, CliError> {
        let found = self.explain(path, follow)?;
        match found.outcome {
            Outcome::Found | Outcome::Hidden { .. } => Ok(found.resolved()),
            _ => Err(looking::not_shown(&found)),
        }
    }

    fn folder(&self, path: Option<&OsString>) -> Result<Folder, CliError> {
        let path = match path {
            Some(path) => self.resolved(path, true)?,
            None => self.cwd.clone(),
        };
        let folder = Folder::at(self.here(), &path).map_err(engine::Error::from)?;
        folder.ok_or_else(|| CliError::new(format!("{path} is no directory")))
    }

    fn cd(&mut self, dir: Option<&OsString>) -> Printed {
        self.cwd = match dir {
            Some(dir) => self.folder(Some(dir))?.path,
            None => RelPath::root(),
        };
        Ok(())
    }

    fn ls(&self, path: Option<&OsString>, all: bool, out: &mut dyn Write) -> Printed {
        let folder = match path {
            Some(path) if self.is_no_directory(path)? => {
                let at = self.resolved(path, false)?;
                let entry = entry_at(self.here(), &at).map_err(engine::Error::from)?;
                return entry.map_or(Ok(()), |entry| self.line(&entry, all, out));
            }
            path => self.folder(path)?,
        };
        for name in folder.names().map_err(engine::Error::from)? {
            if let Some(entry) = folder.entry(self.here(), name.as_name()).map_err(engine::Error::from)? {
                self.line(&entry, all || !folder.is_shown(), out)?;
            }
        }
        Ok(())
    }

    fn is_no_directory(&self, path: &OsString) -> Result<bool, CliError> {
        let at = self.resolved(path, true)?;
        Ok(Folder::at(self.here(), &at).map_err(engine::Error::from)?.is_none())
    }

    /// What shows of an entry; with `all` each version that does not.
    fn line(&self, entry: &Entry, all: bool, out: &mut dyn Write) -> Printed {
        let layers = self.here().layers();
        for version in &entry.versions {
            let served = version.state == State::Served;
            let merged_dir = version.state == State::Merged;
            if (!served && !all) || merged_dir {
                continue;
            }
            let (tag, _) = looking::layer(layers.get(version.layer));
            let sign = if served { ' ' } else { 'x' };
            let name = Escaped(entry.name.as_bytes());
            let Has::Object { obj, stat, .. } = &version.has else {
                writeln!(out, "{sign} {tag:<5} {:<10} {:<11} {:>10}  {name}", "whiteout", "", "")?;
                continue;
            };
            // The attributes of a merged directory are those of the topmost layer that lists it.
            let stat = entry.stat.filter(|_| served).unwrap_or(*stat);
            let rest = match stat.kind() {
                Kind::Dir => "/".to_owned(),
                Kind::Symlink => {
                    let link = obj.readlink().map_err(|e| engine::Error::from(explain::Error::from(e)))?;
                    format!(" -> {}", Escaped(&link))
                }
                _ => String::new(),
            };
            let why = match &version.state {
                State::Hidden(Some(cut)) => format!("  (hidden: {})", text::reason(cut, layers)),
                _ => String::new(),
            };
            let owner = format!("{}:{}", stat.uid, stat.gid);
            writeln!(out, "{sign} {tag:<5} {} {owner:<11} {:>10}  {name}{rest}{why}", text::mode(&stat), stat.size)?;
        }
        Ok(())
    }

    fn stat(&self, path: &OsString, out: &mut dyn Write) -> Printed {
        let explanation = self.explain(path, false)?;
        let Some(served) = explanation.served() else { return Err(looking::not_shown(&explanation)) };
        let at = explanation.resolved();
        let stat = &served.stat;
        writeln!(out, "path      {at}")?;
        writeln!(out, "object    {} {}:{}, {} bytes", text::mode(stat), stat.uid, stat.gid, stat.size)?;
        writeln!(out, "modified  {}", text::time(stat.mtime))?;
        writeln!(out, "links     {}", stat.nlink)?;
        let (info, mut layers) = (self.here().layers().get(served.layer), Vec::new());
        if let Some(info) = info {
            let (_, digest) = looking::layer(Some(info));
            writeln!(out, "served by {} {digest} {}", info.place, looking::made_by(Some(info), self.style))?;
        }
        writeln!(out, "location  {}", served.location)?;
        let Some(entry) = entry_at(self.here(), &at).map_err(engine::Error::from)? else { return Ok(()) };
        let failed = |e| CliError::from(engine::Error::from(explain::Error::from(e)));
        if let Some(object) = entry.content()
            && let Some(digest) = content::digest(object).map_err(engine::Error::from)?
        {
            writeln!(out, "content   {digest}")?;
        }
        if let Some(face) = entry.face() {
            if face.kind() == Kind::Symlink {
                writeln!(out, "leads to  {}", Escaped(&face.readlink().map_err(failed)?))?;
            }
            for name in face.xattrs().map_err(failed)? {
                let value = face.xattr(&name).map_err(failed)?.unwrap_or_default();
                writeln!(out, "xattr     {}={}", Escaped(&name), Escaped(&value))?;
            }
        }
        for version in &entry.versions {
            let (tag, _) = looking::layer(self.here().layers().get(version.layer));
            layers.push(format!("{tag} {}", explain::documents::state_word(&version.state)));
        }
        Ok(writeln!(out, "layers    {}", layers.join(", "))?)
    }

    fn cat(&self, path: &OsString, out: &mut dyn Write) -> Printed {
        let explanation = self.explain(path, true)?;
        if explanation.outcome != Outcome::Found {
            return Err(looking::not_shown(&explanation));
        }
        let at = explanation.resolved();
        let entry = entry_at(self.here(), &at).map_err(engine::Error::from)?;
        let Some(object) = entry.as_ref().and_then(Entry::content) else {
            return Err(CliError::new(format!("{at} is no regular file")).hint("'ls' lists a directory"));
        };
        let failed = |e| CliError::from(engine::Error::from(explain::Error::from(e)));
        let content = object.open().map_err(failed)?;
        let mut printed = Ok(());
        let tame = self.tame;
        let mut end = None;
        let read = content::each_chunk::<explain::Error>(&content, &mut |bytes| {
            end = bytes.last().copied();
            printed = if tame { write_tame(bytes, out) } else { out.write_all(bytes) };
            looking::go_on(&printed)
        });
        read.or_else(|e| looking::printing(printed, e))?;
        if tame && end.is_some_and(|last| last != b'\n') {
            writeln!(out)?;
        }
        Ok(())
    }

    fn diff(&self, unified: bool, ignore_times: bool, words: &[OsString], out: &mut dyn Write) -> Printed {
        let (range, path) = match words {
            [] => (None, None),
            [one] => range(one).map_or((None, Some(one)), |range| (Some(range), None)),
            [one, two] => match range(one) {
                Some(range) => (Some(range), Some(two)),
                None => return Err(CliError::new(format!("{} is no range of layers such as 2..5", shown(one)))),
            },
            _ => return Err(CliError::new("a range of layers and a path, not more")),
        };
        let at = self.session.at();
        let (from, to) = range.unwrap_or((at.saturating_sub(1), at));
        let part = |count: usize| -> Result<explain::Subject, CliError> {
            let title = format!("{}@{count}", self.session.full().title());
            Ok(self.session.full().first(count).map_err(engine::Error::from)?.titled(title))
        };
        let (before, after) = (part(from)?, part(to)?);
        let path = match path {
            Some(path) => {
                RelPath::parse(&self.absolute(path)).map_err(|e| CliError::new(format!("{}: {e}", shown(path))))?
            }
            None => RelPath::root(),
        };
        let found = changes(&before, &after, &path, Rules { ignore_times }).map_err(engine::Error::from)?;
        diff::print(&found, (&before, &after), diff::How { unified, context: 3 }, out)
    }

    fn find(&self, filter: &find::Filter, path: Option<&OsString>, out: &mut dyn Write) -> Printed {
        let at = match path {
            Some(path) => self.resolved(path, true)?,
            None => self.cwd.clone(),
        };
        let query = filter.query(self.here())?;
        let mut printed = Ok(());
        let done = explain::find::find(self.here(), &at, &query, &mut |hit| {
            printed = writeln!(out, "{}", find::line(self.here(), &hit));
            looking::go_on(&printed)
        });
        done.or_else(|e| looking::printing(printed, e))
    }

    fn layers(&self, mut out: &mut dyn Write) -> Printed {
        let mut table = Table::new(&["LAYER", "DIGEST", "SIZE", "CREATED", "MADE BY", "MESSAGE"]);
        let full = self.session.full();
        let above = self.session.total() - self.session.at();
        for (position, info) in full.layers().iter().enumerate() {
            let (tag, digest) = looking::layer(Some(info));
            let tag = if position < above { format!("({tag})") } else { tag };
            let size = full.tar_size(position).map(format::size).unwrap_or_default();
            let created: String = info.made.created.iter().flat_map(|text| text.chars()).take(10).collect();
            let message = info.made.comment.as_deref().map(text::one_line).unwrap_or_default();
            let created = Escaped(created.as_bytes()).to_string();
            table.row(vec![tag, digest, size, created, looking::made_by(Some(info), self.style), message]);
        }
        Ok(table.print(&mut out)?)
    }

    fn whiteouts(&self, path: Option<&OsString>, out: &mut dyn Write) -> Printed {
        let at = path.map_or_else(|| Ok(RelPath::root()), |path| self.resolved(path, true))?;
        let mut printed = Ok(());
        let done = walk(self.here(), &at, &mut |folder, entry| {
            for mark in marks(folder, entry) {
                let (tag, _) = looking::layer(self.here().layers().get(mark.layer));
                printed = writeln!(out, "{tag:<5} {:<8} {}", mark.word, mark.path);
                looking::go_on(&printed)?;
            }
            Ok(true)
        });
        done.or_else(|e| looking::printing(printed, e))
    }

    fn go(&mut self, count: usize, out: &mut dyn Write) -> Printed {
        self.session.go(count)?;
        let top = self.here().layers().first();
        let by = looking::made_by(top, self.style);
        Ok(writeln!(out, "{} of {} layers{}{by}", count, self.session.total(), if by.is_empty() { "" } else { ": " })?)
    }

    fn extract(&self, path: &OsString, to: Option<PathBuf>, out: &mut dyn Write) -> Printed {
        let at = self.resolved(path, false)?;
        let to =
            to.or_else(|| session::default_place(&at)).ok_or_else(|| CliError::new("say where the root shall go"))?;
        Ok(writeln!(out, "{}", session::extract(self.here(), &at, &to)?)?)
    }

    fn trace(&self, count: Option<u64>, out: &mut dyn Write) -> Printed {
        let mut feed = live::open(self.session.word())?;
        let mut left = count.unwrap_or(u64::MAX);
        while left > 0 {
            if let Some(event) = feed.next(Duration::from_millis(200))? {
                left -= 1;
                writeln!(out, "{}", event.line)?;
                out.flush()?;
            }
        }
        Ok(())
    }

    /// What the word at the end of `line` could become, each with how it is shown.
    pub fn complete(&self, line: &str) -> Vec<(String, String)> {
        let start = words::word_start(line, line.len());
        let (front, word) = line.split_at_checked(start).unwrap_or(("", line));
        if front.trim().is_empty() {
            let commands = Line::command();
            let names = commands.get_subcommands().map(|command| command.get_name().to_owned());
            let fitting = names.filter(|name| name.starts_with(word));
            return fitting.map(|name| (format!("{name} "), name)).collect();
        }
        self.paths(word).unwrap_or_default()
    }

    /// The paths that begin with `word`. What cannot be read has no completions.
    fn paths(&self, word: &str) -> Option<Vec<(String, String)>> {
        let (dir, _) =
            word.rsplit_once('/').map_or(("", word), |(dir, last)| (word.get(..=dir.len()).unwrap_or(""), last));
        let typed = words::split(word.as_bytes()).ok()?.into_iter().next().unwrap_or_default();
        let (typed_dir, last) = match typed.iter().rposition(|&b| b == b'/') {
            Some(at) => typed.split_at_checked(at + 1)?,
            None => (&[][..], typed.as_slice()),
        };
        let folder = self.folder(Some(&OsString::from_vec(match typed_dir {
            [] => b".".to_vec(),
            dir => dir.to_vec(),
        })));
        let folder = folder.ok()?;
        let names = folder.names().ok()?;
        let fitting = names.iter().filter(|name| name.as_bytes().starts_with(last));
        let entries = fitting.filter_map(|name| folder.entry(self.here(), name.as_name()).ok().flatten());
        let shown = entries.filter(|entry| entry.stat.is_some() || !folder.is_shown());
        Some(
            shown
                .take(COMPLETIONS_MAX)
                .map(|entry| {
                    let is_dir = entry.stat.is_some_and(|stat| stat.kind() == Kind::Dir);
                    let name = words::quoted(entry.name.as_bytes());
                    let end = if is_dir { "/" } else { " " };
                    (format!("{dir}{name}{end}"), format!("{name}{}", end.trim()))
                })
                .collect(),
        )
    }
}

/// How many completions are looked for at most: each is a lookup.
const COMPLETIONS_MAX: usize = 2000;

/// A whiteout or an opaque directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// Where.
    pub path: RelPath,
    /// In which layer, by its position.
    pub layer: usize,
    /// `whiteout` or `opaque`.
    pub word: &'static str,
}

/// The marks under one name, top layer first.
pub fn marks(folder: &Folder, entry: &Entry) -> Vec<Mark> {
    let word = |has: &Has| match has {
        Has::Whiteout => Some("whiteout"),
        Has::Object { marks, .. } if marks.opaque => Some("opaque"),
        Has::Object { .. } => None,
    };
    let marks = entry.versions.iter().filter_map(|version| {
        let path = folder.path.child(entry.name.as_name());
        word(&version.has).map(|word| Mark { path, layer: version.layer, word })
    });
    marks.collect()
}

fn answered(outcome: &Outcome) -> Printed {
    match outcome.exit_code() {
        0 => Ok(()),
        code => Err(CliError::answered(code)),
    }
}

fn shown(word: &OsString) -> String {
    Escaped(word.as_bytes()).to_string()
}

/// `2..5`
fn range(word: &OsString) -> Option<(usize, usize)> {
    let (from, to) = word.to_str()?.split_once("..")?;
    Some((from.parse().ok()?, to.parse().ok()?))
}

/// Writes bytes so that no terminal is steered: line breaks and tabs stay.
fn write_tame(bytes: &[u8], out: &mut dyn Write) -> std::io::Result<()> {
    for line in bytes.split_inclusive(|&b| b == b'\n') {
        let (text, end) = line.strip_suffix(b"\n").map_or((line, ""), |text| (text, "\n"));
        for (at, part) in text.split(|&b| b == b'\t').enumerate() {
            write!(out, "{}{}", if at > 0 { "\t" } else { "" }, Escaped(part))?;
        }
        out.write_all(end.as_bytes())?;
    }
    Ok(())
}

/// What clap says, in a line and a hint.
fn usage(e: &clap::Error) -> CliError {
    let said = e.render().to_string();
    let first = said.lines().next().unwrap_or_default();
    let what = first.strip_prefix("error: ").unwrap_or(first).to_owned();
    CliError::new(what).hint("'help' lists the commands").code(EXIT_MICA)
}

fn help(command: Option<&str>, out: &mut dyn Write) -> Printed {
    let mut all = Line::command();
    let found = match command {
        Some(name) => all.find_subcommand_mut(name),
        None => Some(&mut all),
    };
    let Some(found) = found else {
        return Err(CliError::new(format!("there is no command {}", Escaped(command.unwrap_or_default().as_bytes())))
            .hint("'help' lists the commands"));
    };
    Ok(write!(out, "{}", found.clone().no_binary_name(true).render_help())?)
}
