//! What the Tab key makes of the beginning of a word.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use clap::CommandFactory;

use super::Shell;
use super::line::Line;
use crate::cli::debug::words;
use crate::sys::attr::Kind;

/// How many completions are looked for at most: each is a lookup.
const COMPLETIONS_MAX: usize = 2000;

impl Shell {
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
