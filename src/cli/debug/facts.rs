//! What the screen shows, asked of the layers: the rows of a directory, and everything about one path. Pure functions of a stack;
//! the walk itself is `explain`'s.

use crate::explain;
use crate::explain::Explanation;
use crate::explain::Subject;
use crate::explain::content;
use crate::explain::documents::state_word;
use crate::explain::layers::Entry;
use crate::explain::layers::Folder;
use crate::explain::layers::Has;
use crate::explain::layers::State;
use crate::explain::layers::Version;
use crate::explain::layers::next_content;
use crate::explain::text;
use crate::explain::unified;
use crate::explain::versions::entry_at;
use crate::layer::Obj;
use crate::path::Escaped;
use crate::path::NameBuf;
use crate::path::RelPath;
use crate::sys::attr::Kind;
use crate::sys::attr::Stat;
use crate::union::observe::Verdict;

/// Rows that are sent at a time.
const CHUNK: usize = 500;
/// The most rows of one directory that are shown.
pub const ROWS_MAX: usize = 200_000;
/// How much of a file is shown, in bytes.
const PREVIEW_MAX: usize = 64 << 10;
/// The largest file whose lines are compared here, in bytes.
const DIFF_MAX: usize = 1 << 20;

/// Digits of a digest that are shown.
const DIGITS: usize = 12;
/// Columns of a time to the second, in UTC.
const SECONDS: usize = "2026-01-01 00:00:00".len();

/// What becomes of what a row stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shine {
    /// The union shows it.
    Shown,
    /// A layer has it, and it does not show.
    Hidden,
    /// A whiteout is all that there is on top.
    Whiteout,
    /// A layer that was asked for it cannot be read.
    Broken,
}

/// An entry of a directory.
#[derive(Debug, Clone)]
pub struct Row {
    /// Its name.
    pub name: NameBuf,
    /// Whether it shows.
    pub shine: Shine,
    /// The attributes that show, or those of the topmost layer that has it.
    pub stat: Option<Stat>,
    /// The layer that they are from, counted from 1, the lowest; 0 where that is not known.
    pub layer: usize,
    /// It is an opaque directory in some layer that shows.
    pub opaque: bool,
    /// Some layer deletes what those below it have under this name.
    pub deleted: bool,
    /// What the topmost looked-at layer did: A, C or D.
    pub change: Option<char>,
    /// Some layer has a directory here.
    pub is_dir: bool,
}

impl Row {
    /// A name of which no more can be read.
    fn broken(name: NameBuf) -> Self {
        let shine = Shine::Broken;
        Self { name, shine, stat: None, layer: 0, opaque: false, deleted: false, change: None, is_dir: false }
    }
}

/// The stack that is looked at, and the one of one layer less.
#[derive(Debug)]
pub struct Stacks {
    /// How many layers are looked at.
    pub count: usize,
    /// These layers.
    pub here: Subject,
    before: Option<Subject>,
}

impl Stacks {
    /// The lowest `count` layers of `full`.
    ///
    /// # Errors
    /// When a root cannot be read.
    pub fn new(full: &Subject, count: usize) -> explain::Result<Self> {
        let before = count.checked_sub(1).map(|one_less| full.first(one_less)).transpose()?;
        Ok(Self { count, here: full.first(count)?, before })
    }

    /// The number of a layer from its position.
    fn number(&self, position: usize) -> usize {
        self.count.saturating_sub(position)
    }

    /// Gives `each` the rows of a directory, some at a time; with `only`, what this one layer has. What can be read is shown, whatever
    /// cannot. The last rows may be missing: the answer is how many.
    ///
    /// # Errors
    /// The first of the layers that cannot be read, when all others have been asked.
    pub fn list(&self, path: &RelPath, only: Option<usize>, each: &mut dyn FnMut(Vec<Row>)) -> explain::Result<usize> {
        let Some(folder) = Folder::at(&self.here, path)? else { return Ok(0) };
        let before = self.before.as_ref().and_then(|before| Folder::at(before, path).ok()).flatten();
        let (names, mut failed) = folder.names_found();
        let mut rows = Vec::new();
        for name in names.iter().take(ROWS_MAX) {
            match self.one_row(&folder, before.as_ref(), name, only) {
                Ok(row) => rows.extend(row),
                Err(e) => {
                    rows.push(Row::broken(name.clone()));
                    failed = failed.or(Some(e));
                }
            }
            if rows.len() >= CHUNK {
                each(std::mem::take(&mut rows));
            }
        }
        each(rows);
        failed.map_or(Ok(names.len().saturating_sub(ROWS_MAX)), Err)
    }

    fn one_row(
        &self,
        folder: &Folder,
        before: Option<&Folder>,
        name: &NameBuf,
        only: Option<usize>,
    ) -> explain::Result<Option<Row>> {
        let Some(entry) = folder.entry(&self.here, name.as_name())? else { return Ok(None) };
        let Some(mut row) = self.row(&entry, only) else { return Ok(None) };
        if only.is_none_or(|only| only == self.count) && self.is_touched(&entry) {
            row.change = self.change(&entry, before)?;
        }
        Ok(Some(row))
    }

    /// An error in words, with the layer by the name that the screen has for it.
    pub fn words(&self, e: &explain::Error) -> String {
        let text = e.to_string();
        let of = self.here.layers().iter().find(|info| !info.label.is_empty() && text.contains(&info.label));
        brief(&of.map_or_else(|| text.clone(), |info| format!("{}: {text}", text::tag(info))))
    }

    fn row(&self, entry: &Entry, only: Option<usize>) -> Option<Row> {
        let first = match only {
            Some(only) => entry.versions.iter().find(|version| self.number(version.layer) == only)?,
            None => entry.served().or_else(|| entry.versions.first())?,
        };
        let shine = match (&first.has, only) {
            (Has::Whiteout, _) => Shine::Whiteout,
            (_, None) if entry.stat.is_none() => Shine::Hidden,
            (_, Some(_)) if !first.is_shown() => Shine::Hidden,
            _ => Shine::Shown,
        };
        let own = first.object().map(|(_, stat)| *stat);
        let stat = if only.is_some() { own } else { entry.stat.or(own) };
        let wanted = |version: &&Version| only.is_none_or(|only| self.number(version.layer) == only);
        let is_dir = |version: &Version| version.object().is_some_and(|(obj, _)| obj.kind() == Kind::Dir);
        let opaque = |version: &Version| matches!(&version.has, Has::Object { marks, .. } if marks.opaque);
        Some(Row {
            name: entry.name.clone(),
            shine,
            stat,
            layer: self.number(first.layer),
            opaque: entry.versions.iter().filter(wanted).any(opaque),
            deleted: entry.versions.iter().filter(wanted).any(|version| matches!(version.has, Has::Whiteout)),
            change: None,
            is_dir: entry.versions.iter().filter(wanted).any(is_dir),
        })
    }

    /// Whether the topmost layer says anything about the entry, by itself or by hiding it.
    fn is_touched(&self, entry: &Entry) -> bool {
        entry
            .versions
            .iter()
            .any(|version| version.layer == 0 || matches!(&version.state, State::Hidden(Some(cut)) if cut.layer == 0))
    }

    fn change(&self, entry: &Entry, before: Option<&Folder>) -> explain::Result<Option<char>> {
        let was = match (before, &self.before) {
            (Some(folder), Some(before)) => {
                folder.entry(before, entry.name.as_name())?.is_some_and(|entry| entry.stat.is_some())
            }
            _ => false,
        };
        Ok(match (was, entry.stat.is_some()) {
            (false, true) => Some('A'),
            (true, false) => Some('D'),
            (true, true) => entry.parts().any(|(layer, _)| layer == 0).then_some('C'),
            (false, false) => None,
        })
    }

    /// Everything about one path. `version` is the layer whose version is shown, instead of the one that is served.
    ///
    /// # Errors
    /// When a layer cannot be read.
    pub fn look(&self, path: &RelPath, version: Option<usize>, how: How) -> explain::Result<Details> {
        let asked = [b"/", path.to_bytes().as_slice()].concat();
        let explanation = explain::explain(&self.here, &asked, false)?;
        let entry = entry_at(&self.here, path)?;
        let versions = entry.iter().flat_map(|entry| &entry.versions).map(|found| self.line(found)).collect();
        let chosen = entry.as_ref().and_then(|entry| choose(entry, version.map(|number| self.count - number)));
        // What cannot be read of the content is said in its pane; the rest is still worth seeing.
        let preview = match (&entry, chosen) {
            (Some(entry), Some(at)) => self.preview(entry, at, how).unwrap_or_else(|e| vec![e.to_string()]),
            _ => Vec::new(),
        };
        let served = explanation.served().map(|served| self.number(served.layer));
        let about = self.about(&explanation);
        let walk = self.walk(&explanation);
        Ok(Details { path: path.clone(), how, served, about, versions, walk, preview, failed: false })
    }

    fn line(&self, version: &Version) -> VersionLine {
        let note = match &version.state {
            State::Hidden(Some(cut)) => text::reason(cut, self.here.layers()),
            _ => String::new(),
        };
        let stat = version.object().map(|(_, stat)| *stat);
        VersionLine { layer: self.number(version.layer), word: state_word(&version.state), stat, note }
    }

    fn about(&self, explanation: &Explanation) -> Vec<String> {
        let mut lines = Vec::new();
        let Some(served) = explanation.served() else {
            return vec![text::verdict(explanation)];
        };
        let stat = &served.stat;
        lines.push(format!(
            "{} {}:{} {} B  {}",
            text::mode(stat),
            stat.uid,
            stat.gid,
            stat.size,
            text::time(stat.mtime).get(..SECONDS).unwrap_or_default()
        ));
        if let Some(info) = self.here.layers().get(served.layer)
            && let Some(command) = &info.made.created_by
        {
            lines.push(format!("{}: {}", text::tag(info), text::one_line(command)));
        }
        lines
    }

    fn walk(&self, explanation: &Explanation) -> Walk {
        let mut walk = Walk::default();
        for component in &explanation.components {
            let name = component.path.split_last().map_or_else(|| "/".to_owned(), |(_, name)| name.to_string());
            let column = walk.names.len();
            walk.names.push(name.clone());
            let served = component.served.as_ref().map(|served| served.layer);
            for step in &component.steps {
                let layer = self.number(step.layer);
                let cell = match &step.verdict {
                    Verdict::Found { .. } if served == Some(step.layer) => Cell::Served,
                    Verdict::Found { .. } | Verdict::Merged { .. } => Cell::Merged,
                    Verdict::Whiteout => Cell::Whiteout,
                    Verdict::Shadowed { .. } => Cell::Shadowed,
                    Verdict::Miss => Cell::Miss,
                    Verdict::Failed(_) => Cell::Failed,
                    Verdict::NoParent => continue,
                };
                let why = match (&step.verdict, &step.cut) {
                    (Verdict::Failed(why), _) => format!(": {}", Escaped(why.as_bytes())),
                    (_, Some(cut)) => format!(": {}", text::reason(cut, self.here.layers())),
                    _ => String::new(),
                };
                let tag = self.here.layers().get(step.layer).map(text::tag).unwrap_or_default();
                walk.steps.push(Step { column, layer, cell, note: format!("{name}: {tag} {}{why}", cell.word()) });
            }
            if let Some(link) = &component.link {
                walk.names.push(format!("-> {}", Escaped(&link.text)));
            }
        }
        walk
    }

    /// The lines about the version at a place in [`Entry::versions`].
    fn preview(&self, entry: &Entry, at: usize, how: How) -> explain::Result<Vec<String>> {
        let Some((obj, stat)) = entry.versions.get(at).and_then(Version::object) else {
            return Ok(vec!["a whiteout: it deletes what the layers below have".to_owned()]);
        };
        match stat.kind() {
            Kind::Symlink => return Ok(vec![format!("-> {}", Escaped(&obj.readlink()?))]),
            Kind::File => {}
            _ => return attributes(obj),
        }
        let mut versions = entry.versions.iter().skip(at);
        let Some(content) = next_content(&mut versions) else { return attributes(obj) };
        match how {
            How::Text => preview_text(&content),
            How::Hex => Ok(hexdump(&content::head(&content, PREVIEW_MAX)?)),
            How::Diff => match next_content(&mut versions) {
                Some(older) => compared(&older, &content),
                None => Ok(vec!["no layer below has another version".to_owned()]),
            },
        }
    }
}

/// The place of the version that is shown.
fn choose(entry: &Entry, position: Option<usize>) -> Option<usize> {
    let of_layer = position.and_then(|position| entry.versions.iter().position(|version| version.layer == position));
    let served = || entry.versions.iter().position(|version| version.state == State::Served);
    of_layer.or_else(served).or((!entry.versions.is_empty()).then_some(0))
}

fn attributes(obj: &Obj) -> explain::Result<Vec<String>> {
    let mut lines = vec![obj.location()];
    for name in obj.xattrs()? {
        let value = obj.xattr(&name)?.unwrap_or_default();
        lines.push(format!("{}={}", Escaped(&name), Escaped(&value)));
    }
    Ok(lines)
}

/// A line as it may be shown: tabs as spaces, the rest escaped.
fn tame(line: &[u8]) -> String {
    let parts: Vec<String> = line.split(|&b| b == b'\t').map(|part| Escaped(part).to_string()).collect();
    parts.join("    ")
}

fn preview_text(content: &Obj) -> explain::Result<Vec<String>> {
    let bytes = content::head(content, PREVIEW_MAX)?;
    if unified::is_binary(&bytes) {
        return Ok(hexdump(&bytes));
    }
    let mut lines: Vec<String> = bytes.strip_suffix(b"\n").unwrap_or(&bytes).split(|&b| b == b'\n').map(tame).collect();
    if bytes.len() == PREVIEW_MAX {
        lines.push("(the first 64 KiB)".to_owned());
    }
    Ok(lines)
}

fn hexdump(bytes: &[u8]) -> Vec<String> {
    let line = |(at, part): (usize, &[u8])| {
        let hex: String =
            part.iter().enumerate().map(|(i, b)| format!("{b:02x}{}", if i == 7 { "  " } else { " " })).collect();
        let text: String = part.iter().map(|b| if (32..127).contains(b) { char::from(*b) } else { '.' }).collect();
        format!("{:06x}  {hex:<49} {text}", at * 16)
    };
    bytes.chunks(16).enumerate().map(line).collect()
}

fn compared(older: &Obj, newer: &Obj) -> explain::Result<Vec<String>> {
    if content::same(older, newer)? == Some(true) {
        return Ok(vec!["the content is the same as in the version below".to_owned()]);
    }
    let (Some(older), Some(newer)) = (content::whole(older, DIFF_MAX)?, content::whole(newer, DIFF_MAX)?) else {
        return Ok(vec!["too large to be compared by line here; 'mica diff -U' does".to_owned()]);
    };
    if unified::is_binary(&older) || unified::is_binary(&newer) {
        return Ok(vec![format!("binary files differ: {} bytes were {}", newer.len(), older.len())]);
    }
    let text = unified::unified(&older, &newer, 3);
    Ok(text.strip_suffix(b"\n").unwrap_or(&text).split(|&b| b == b'\n').map(tame).collect())
}

/// A text with digests as short as people have them.
pub fn brief(text: &str) -> String {
    let mut parts = text.split("sha256:");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.bytes().take_while(u8::is_ascii_hexdigit).count();
        let (hex, rest) = part.split_at_checked(digits).unwrap_or((part, ""));
        out.push_str("sha256:");
        out.push_str(hex.get(..DIGITS).unwrap_or(hex));
        out.push_str(rest);
    }
    out
}

/// How a file is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum How {
    /// As text, or as a hexdump where it is none.
    #[default]
    Text,
    /// As a hexdump.
    Hex,
    /// What differs from the version below.
    Diff,
}

/// Everything about one path.
#[derive(Debug, Clone)]
pub struct Details {
    /// The path.
    pub path: RelPath,
    /// How the file is shown.
    pub how: How,
    /// The layer that serves it, by number.
    pub served: Option<usize>,
    /// Lines about it as a whole.
    pub about: Vec<String>,
    /// What the layers have, top first.
    pub versions: Vec<VersionLine>,
    /// How it was looked up.
    pub walk: Walk,
    /// The content.
    pub preview: Vec<String>,
    /// The layers could not be asked.
    pub failed: bool,
}

impl Details {
    /// That nothing can be said, and why.
    pub fn failed(path: RelPath, how: How, why: String) -> Self {
        let (versions, walk, about) = (Vec::new(), Walk::default(), vec![why]);
        Self { path, how, served: None, about, versions, walk, preview: Vec::new(), failed: true }
    }
}

/// What one layer has.
#[derive(Debug, Clone)]
pub struct VersionLine {
    /// The layer, by number.
    pub layer: usize,
    /// What becomes of it.
    pub word: &'static str,
    /// Its attributes; `None` for a whiteout.
    pub stat: Option<Stat>,
    /// Why it does not show.
    pub note: String,
}

/// A lookup, name by name.
#[derive(Debug, Clone, Default)]
pub struct Walk {
    /// The names, in the order in which they were looked for.
    pub names: Vec<String>,
    /// What was asked, in this order.
    pub steps: Vec<Step>,
}

/// One question to one layer.
#[derive(Debug, Clone)]
pub struct Step {
    /// Which of the names.
    pub column: usize,
    /// The layer, by number.
    pub layer: usize,
    /// The answer.
    pub cell: Cell,
    /// The answer in words.
    pub note: String,
}

/// What a layer said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell {
    /// It serves the name.
    Served,
    /// It is merged into what shows.
    Merged,
    /// It deletes the name.
    Whiteout,
    /// It has the name, hidden.
    Shadowed,
    /// It has nothing.
    Miss,
    /// It cannot be read.
    Failed,
}

impl Cell {
    /// In words.
    pub fn word(self) -> &'static str {
        match self {
            Cell::Served => "serves it",
            Cell::Merged => "is merged",
            Cell::Whiteout => "deletes it",
            Cell::Shadowed => "has it, hidden",
            Cell::Miss => "has nothing",
            Cell::Failed => "cannot be read",
        }
    }
}
