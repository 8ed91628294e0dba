//! `mica debug --plain`: one line in, text out. What a line does is here and in `files`, without any terminal; what it may say is in
//! `line`, reading lines in `readline`.

mod complete;
mod files;
mod line;

use std::ffi::OsString;
use std::io::ErrorKind;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::Duration;

use line::Command;
use line::Line;
use line::help;
use line::usage;

use super::marks::marks;
use super::session;
use super::session::Session;
use super::words;
use crate::cli::commands::diff;
use crate::cli::commands::find;
use crate::cli::commands::log as history;
use crate::cli::commands::trace::Wanted;
use crate::cli::commands::which;
use crate::cli::error::CliError;
use crate::cli::error::EXIT_MICA;
use crate::cli::format;
use crate::cli::looking;
use crate::cli::table::Table;
use crate::cli::trace_text;
use crate::engine;
use crate::explain;
use crate::explain::Explanation;
use crate::explain::Outcome;
use crate::explain::changes::Rules;
use crate::explain::layers::Folder;
use crate::explain::layers::walk;
use crate::explain::log::log;
use crate::explain::text;
use crate::explain::text::Style;
use crate::explain::versions::versions;
use crate::path::Escaped;
use crate::path::RelPath;
use crate::sys::signal_wait::Signal;
use crate::sys::signal_wait::Signals;
use crate::sys::socket;

/// How long a trace waits before it is looked whether anybody still reads it.
const LOOK: Duration = Duration::from_millis(200);

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

    /// The exit code of a shell in which no command failed: what is looked at without some of its layers is no whole answer.
    pub fn first_code(&self) -> u8 {
        if self.session.is_damaged() { EXIT_MICA } else { 0 }
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
            Command::Trace { wanted, count } => self.trace(&wanted, count, out),
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

    fn diff(&self, unified: bool, ignore_times: bool, words: &[OsString], out: &mut dyn Write) -> Printed {
        let (range, path) = diff::range_and_path(&words.iter().collect::<Vec<_>>())?;
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
        let how = diff::How { unified, context: 3 };
        diff::print((&before, &after), (&path, Rules { ignore_times }), how, out)
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
            let size = if info.broken.is_some() { "damaged".to_owned() } else { size };
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

    /// Prints operations until enough came, the mount ends, or the user has seen enough: Ctrl-C ends this command alone.
    fn trace(&self, wanted: &Wanted, count: Option<u64>, out: &mut dyn Write) -> Printed {
        let mut feed = self.session.source().open(&wanted.filter()?)?;
        let signals = Signals::block().map_err(engine::Error::from)?;
        let mut left = count.unwrap_or(u64::MAX);
        while left > 0 {
            match signals.came().map_err(engine::Error::from)? {
                Some(Signal::Interrupt) => return Ok(()),
                Some(Signal::HangUp) => return Err(CliError::ended(128 + 1)),
                Some(_) => return Err(CliError::ended(128 + 15)),
                None => {}
            }
            let batch = feed.next(LOOK)?;
            for event in batch.events.iter().take(usize::try_from(left).unwrap_or(usize::MAX)) {
                writeln!(out, "{}", trace_text::line(event))?;
            }
            left = left.saturating_sub(batch.events.len() as u64);
            if batch.lost > 0 && left > 0 {
                writeln!(out, "... {} events lost", batch.lost)?;
            }
            out.flush()?;
            if let Some(why) = batch.ended.filter(|_| left > 0) {
                return Ok(writeln!(out, "--- {why}")?);
            }
            if batch.is_empty() && socket::is_abandoned(std::io::stdout()) {
                // It was a terminal if content is tamed for it; one that is gone is none any more.
                let gone = if self.tame { ErrorKind::ConnectionAborted } else { ErrorKind::BrokenPipe };
                return Err(std::io::Error::from(gone).into());
            }
        }
        Ok(())
    }
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
