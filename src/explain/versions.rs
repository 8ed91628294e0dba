//! A path in every layer that has it: `mica which`.

use super::Result;
use super::content;
use super::layers::Entry;
use super::layers::Folder;
use super::layers::Has;
use super::subject::Subject;
use super::trace::Cut;
use super::trace::Explanation;
use super::trace::How;
use super::trace::explain;
use crate::digest::Digest;
use crate::path::RelPath;

/// A path with all its versions.
#[derive(Debug)]
pub struct Versions {
    /// How the path was followed, and what came of it.
    pub explanation: Explanation,
    /// Where it led, behind all symlinks.
    pub path: RelPath,
    /// What the layers have, top first.
    pub rows: Vec<Row>,
}

/// What one layer has to do with the path.
#[derive(Debug)]
pub enum Row {
    /// It has something under this name.
    Version {
        /// What, and what becomes of it.
        version: Box<super::layers::Version>,
        /// The digest of a regular file's content, unless it is too large.
        digest: Option<Digest>,
        /// Whether it hides a version in a layer below.
        hides: bool,
    },
    /// It hides a directory in which the path would lie.
    Above(Cut),
}

impl Row {
    /// The layer, by its position.
    pub fn layer(&self) -> usize {
        match self {
            Row::Version { version, .. } => version.layer,
            Row::Above(cut) => cut.layer,
        }
    }
}

/// Finds all versions of `path`. Symlinks as in [`explain`].
///
/// # Errors
/// As [`explain`]; those of reading small files for their digest.
pub fn versions(subject: &Subject, path: &[u8], follow: bool) -> Result<Versions> {
    let explanation = explain(subject, path, follow)?;
    let path = explanation.resolved();
    let entry = if explanation.reached_end() { entry_at(subject, &path)? } else { None };
    let mut rows: Vec<Row> = Vec::new();
    let cuts: Vec<Cut> = explanation.cuts().cloned().collect();
    for version in entry.map(|entry| entry.versions).unwrap_or_default() {
        let digest = match &version.has {
            Has::Object { obj, marks, .. } if marks.metacopy.is_none() => content::digest(obj)?,
            _ => None,
        };
        let hides = cuts.iter().any(|cut| cut.layer == version.layer && cut.path == path);
        rows.push(Row::Version { version: Box::new(version), digest, hides });
    }
    for cut in cuts.into_iter().filter(|cut| cut.path != path) {
        if !rows.iter().any(|row| matches!(row, Row::Above(other) if *other == cut)) {
            rows.push(Row::Above(cut));
        }
    }
    rows.sort_by_key(|row| (row.layer(), matches!(row, Row::Above(_))));
    Ok(Versions { explanation, path, rows })
}

/// The entry at a path, symlinks not followed; `None` for the root, and where no layer has anything.
///
/// # Errors
/// When a layer cannot be read.
pub fn entry_at(subject: &Subject, path: &RelPath) -> Result<Option<Entry>> {
    let Some((parent, name)) = path.split_last() else { return Ok(None) };
    match Folder::at(subject, &parent)? {
        Some(folder) => folder.entry(subject, name),
        None => Ok(None),
    }
}

impl Explanation {
    /// Where the path led, behind all symlinks.
    pub fn resolved(&self) -> RelPath {
        self.components.last().map(|last| last.path.clone()).unwrap_or_default()
    }

    /// Whether the path was followed to its last name: not stopped where no layer has a directory.
    pub fn reached_end(&self) -> bool {
        self.complete
    }

    /// What hides the versions of the path that do not show, each once, top first.
    pub fn cuts(&self) -> impl Iterator<Item = &Cut> {
        let steps = self.components.last().map(|last| last.steps.as_slice()).unwrap_or_default();
        let mut last: Option<&Cut> = None;
        steps.iter().filter_map(|step| step.cut.as_ref()).filter(move |cut| last.replace(cut) != Some(*cut))
    }
}

impl How {
    /// One word for it; the same in text and JSON.
    pub fn word(self) -> &'static str {
        match self {
            How::Whiteout => "whiteout",
            How::Opaque => "opaque",
            How::Covered => "covered",
        }
    }
}
