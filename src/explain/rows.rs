//! The rows of `which`, in words for people: the same in a terminal and on a page.

use super::documents::state_word;
use super::layers::Has;
use super::layers::State;
use super::layers::Version;
use super::subject::LayerInfo;
use super::text;
use super::trace::Cut;
use super::trace::How;
use super::versions::Row;
use crate::digest::Digest;
use crate::path::Escaped;
use crate::sys::attr::Kind;

/// One row; what does not apply is empty. Escaped where it comes from outside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Words {
    /// What becomes of the version, or how the layer hides what is below.
    pub state: &'static str,
    /// The mode as `ls` shows it; `whiteout` for one.
    pub mode: String,
    /// `UID:GID`.
    pub owner: String,
    /// Bytes, of a regular file.
    pub size: String,
    /// The digest of its content.
    pub content: Option<Digest>,
    /// Whatever else is worth saying.
    pub note: String,
}

/// A row in words.
pub fn words(row: &Row, layers: &[LayerInfo]) -> Words {
    match row {
        Row::Above(cut) => {
            let note = format!("hides what is below by {}", what(cut));
            Words { state: cut.how.word(), note, ..Words::default() }
        }
        Row::Version { version, digest, hides } => {
            let (mode, owner, size) = attributes(version);
            let note = note(version, *hides, layers);
            Words { state: state_word(&version.state), mode, owner, size, content: *digest, note }
        }
    }
}

fn what(cut: &Cut) -> String {
    match cut.how {
        How::Whiteout => format!("the whiteout of {}", cut.path),
        How::Opaque => format!("the opaque directory {}", cut.path),
        How::Covered => format!("its own {}", cut.path),
    }
}

fn attributes(version: &Version) -> (String, String, String) {
    match &version.has {
        Has::Whiteout => ("whiteout".to_owned(), String::new(), String::new()),
        Has::Object { stat, .. } => {
            let size = if stat.kind() == Kind::File { stat.size.to_string() } else { String::new() };
            (text::mode(stat), format!("{}:{}", stat.uid, stat.gid), size)
        }
    }
}

fn note(version: &Version, hides: bool, layers: &[LayerInfo]) -> String {
    let mut notes = Vec::new();
    if let Has::Object { marks, .. } = &version.has {
        text::mark_notes(marks, &mut notes);
    }
    match &version.state {
        State::Hidden(Some(cut)) => notes.push(format!("hidden: {}", text::reason(cut, layers))),
        _ if hides && notes.is_empty() => notes.push("hides what is below".to_owned()),
        _ => {}
    }
    if let Has::Object { obj, stat, .. } = &version.has
        && stat.kind() == Kind::Symlink
        && let Ok(text) = obj.readlink()
    {
        notes.insert(0, format!("-> {}", Escaped(&text)));
    }
    notes.join("; ")
}
