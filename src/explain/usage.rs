//! Where the bytes of a stack are, and which of them nobody sees: `mica du`.
//!
//! Counted are the contents of regular files, each file of a layer once, whatever number of names it has there. Indexes tell all of
//! it; no content is read.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use super::Result;
use super::layers::Has;
use super::layers::Version;
use super::layers::walk;
use super::subject::Subject;
use crate::digest::Digest;
use crate::layer::ObjectId;
use crate::path::RelPath;
use crate::sys::attr::Kind;

/// Sums over some files; all in bytes but `files`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Files, in all layers.
    pub files: u64,
    /// Their content.
    pub total: u64,
    /// Of these, what the union shows.
    pub shown: u64,
    /// Of these, what upper layers delete or replace: kept in the image for nobody. `shown + wasted = total`.
    pub wasted: u64,
    /// Of these, what the same stack holds a second time (in this layer or in another, under another name or the same), as far as
    /// indexes know it: files of 128 KiB and more. A store keeps it once.
    pub shared: u64,
}

impl Usage {
    /// What no other file of the stack has.
    pub fn unique(&self) -> u64 {
        self.total - self.shared.min(self.total)
    }
}

/// The usage of a stack, or of a directory in it.
#[derive(Debug)]
pub struct Report {
    /// In all.
    pub total: Usage,
    /// By layer, by its position; all layers, top first.
    pub layers: Vec<Usage>,
    /// By directory down to the depth that was asked for, each with what is in the directories below it; in the order of names. A
    /// path that is no directory is here by itself.
    pub dirs: BTreeMap<RelPath, Usage>,
}

/// One file of one layer, until all are known.
struct Counted {
    layer: usize,
    dir: usize,
    size: u64,
    shown: bool,
    digest: Option<Digest>,
}

/// Measures what lies at and below `at`; directories are listed down to `depth` below it.
///
/// # Errors
/// When a layer cannot be read.
pub fn usage(subject: &Subject, at: &RelPath, depth: usize) -> Result<Report> {
    usage_while(subject, at, depth, &|| true)
}

/// As [`usage`], for as long as `wanted` says that somebody waits for it.
///
/// # Errors
/// As [`usage`]; [`super::Error::Stopped`].
pub fn usage_while(subject: &Subject, at: &RelPath, depth: usize, wanted: &dyn Fn() -> bool) -> Result<Report> {
    let mut tally = Tally::new(subject.layers().len(), at);
    let base = at.components().len();
    let redirects = subject.redirects();
    walk(subject, at, &mut |folder, entry| {
        if !wanted() {
            return Err(super::Error::Stopped);
        }
        let dir = folder_within(&folder.path, base, depth).map_or(0, |path| tally.dir(path));
        let level = (folder.path.components().len() + 1).saturating_sub(base);
        let is_dir = |version: &Version| version.object().is_some_and(|(obj, _)| obj.kind() == Kind::Dir);
        if level <= depth && entry.versions.iter().any(is_dir) {
            tally.dir(folder.path.child(entry.name.as_name()));
        }
        for version in &entry.versions {
            let Has::Object { obj, stat, .. } = &version.has else { continue };
            if stat.kind() != Kind::File {
                continue;
            }
            let size = version.content_size();
            let digest = obj.digest()?.filter(|_| size > 0);
            let one = Counted { layer: version.layer, dir, size, shown: version.is_shown(), digest };
            match redirects || stat.nlink > 1 {
                true => tally.linked((version.layer, obj.id()), one),
                false => tally.count(one),
            }
        }
        Ok(true)
    })?;
    Ok(tally.report(base))
}

struct Tally {
    total: Usage,
    layers: Vec<Usage>,
    dirs: Vec<RelPath>,
    sums: Vec<Usage>,
    numbers: FxHashMap<RelPath, usize>,
    /// Files that several names lead to, in one layer or by a redirect: each counts once, as shown if any name of it shows.
    linked: FxHashMap<(usize, ObjectId), Counted>,
    /// What is known to be in several files: layer, directory, size of each.
    contents: FxHashMap<Digest, Vec<(usize, usize, u64)>>,
}

impl Tally {
    fn new(layers: usize, at: &RelPath) -> Self {
        Self {
            total: Usage::default(),
            layers: vec![Usage::default(); layers],
            dirs: vec![at.clone()],
            sums: vec![Usage::default()],
            numbers: std::iter::once((at.clone(), 0)).collect(),
            linked: FxHashMap::default(),
            contents: FxHashMap::default(),
        }
    }

    /// The number of a directory that is listed.
    fn dir(&mut self, path: RelPath) -> usize {
        if let Some(number) = self.numbers.get(&path) {
            return *number;
        }
        self.dirs.push(path.clone());
        self.sums.push(Usage::default());
        self.numbers.insert(path, self.dirs.len() - 1);
        self.dirs.len() - 1
    }

    fn linked(&mut self, key: (usize, ObjectId), one: Counted) {
        match self.linked.get_mut(&key) {
            Some(known) if known.shown || !one.shown => {}
            Some(known) => *known = one,
            None => drop(self.linked.insert(key, one)),
        }
    }

    fn each(&mut self, layer: usize, dir: usize) -> impl Iterator<Item = &mut Usage> {
        [Some(&mut self.total), self.layers.get_mut(layer), self.sums.get_mut(dir)].into_iter().flatten()
    }

    fn count(&mut self, one: Counted) {
        let (shown, wasted) = if one.shown { (one.size, 0) } else { (0, one.size) };
        let usage = Usage { files: 1, total: one.size, shown, wasted, shared: 0 };
        self.each(one.layer, one.dir).for_each(|sum| add(sum, &usage));
        if let Some(digest) = one.digest {
            self.contents.entry(digest).or_default().push((one.layer, one.dir, one.size));
        }
    }

    fn report(mut self, base: usize) -> Report {
        for one in std::mem::take(&mut self.linked).into_values() {
            self.count(one);
        }
        for same in std::mem::take(&mut self.contents).into_values().filter(|same| same.len() > 1) {
            for (layer, dir, size) in same {
                self.each(layer, dir).for_each(|sum| sum.shared = sum.shared.saturating_add(size));
            }
        }
        Report { total: self.total, layers: self.layers, dirs: rolled_up(self.dirs, &self.sums, base) }
    }
}

/// Sizes come out of images and may be anything: sums stay at the largest number.
fn add(to: &mut Usage, one: &Usage) {
    to.files += one.files;
    to.total = to.total.saturating_add(one.total);
    to.shown = to.shown.saturating_add(one.shown);
    to.wasted = to.wasted.saturating_add(one.wasted);
    to.shared = to.shared.saturating_add(one.shared);
}

/// The directory at most `depth` below the base that `path` lies in.
fn folder_within(path: &RelPath, base: usize, depth: usize) -> Option<RelPath> {
    let count = path.components().len().min(base + depth);
    if count < base {
        return None;
    }
    Some(path.components().take(count).fold(RelPath::root(), |path, name| path.child(name)))
}

/// Each directory with the sums of those below it.
fn rolled_up(dirs: Vec<RelPath>, sums: &[Usage], base: usize) -> BTreeMap<RelPath, Usage> {
    let mut out: BTreeMap<RelPath, Usage> = BTreeMap::new();
    for (path, sum) in dirs.into_iter().zip(sums) {
        let mut above = Some(path);
        while let Some(path) = above {
            add(out.entry(path.clone()).or_default(), sum);
            above = path.split_last().map(|(parent, _)| parent).filter(|parent| parent.components().len() >= base);
        }
    }
    out
}
