//! Searching all layers: `mica find`.

use rustc_hash::FxHashMap;

use super::Result;
use super::content;
use super::layers::Entry;
use super::layers::Folder;
use super::layers::Has;
use super::layers::State;
use super::layers::Version;
use super::layers::walk;
use super::subject::Subject;
use super::trace::Cut;
use crate::digest::Digest;
use crate::path::RelPath;
use crate::sys::attr::Kind;
use crate::sys::attr::Stat;

/// What is searched for; everything that is given must hold.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// A pattern for the last name: `*`, `?` and `[...]`, as bytes.
    pub name: Option<Vec<u8>>,
    /// Sizes of regular files.
    pub size: Option<SizeRange>,
    /// Types; none means all.
    pub kinds: Vec<Sought>,
    /// Only in this layer, by its position, and whether or not it shows.
    pub layer: Option<usize>,
    /// What some layer has and the union does not show, instead of what it shows.
    pub deleted: bool,
}

/// A type of thing that can be searched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sought {
    /// An object of this type.
    Kind(Kind),
    /// A whiteout.
    Whiteout,
}

/// Sizes in bytes, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SizeRange {
    /// The smallest.
    pub min: u64,
    /// The largest.
    pub max: u64,
}

/// One thing that was found.
#[derive(Debug)]
pub struct Hit {
    /// Its path.
    pub path: RelPath,
    /// The layer, by its position.
    pub layer: usize,
    /// Its attributes there; `None` for a whiteout.
    pub stat: Option<Stat>,
    /// Whether it shows.
    pub shown: bool,
    /// What hides it, where it does not.
    pub cut: Option<Cut>,
    /// The digest of the content, as far as the index knows it.
    pub digest: Option<Digest>,
}

/// Calls `each` for what the query means at and below `at`, in the order of names. Without `layer` and `deleted` that is what the union
/// shows, with the layer that serves it; whiteouts, where they are asked for, in every layer.
///
/// # Errors
/// When a layer cannot be read; the first error of `each`.
pub fn find(subject: &Subject, at: &RelPath, query: &Query, each: &mut dyn FnMut(Hit) -> Result<()>) -> Result<()> {
    walk(subject, at, &mut |folder, entry| {
        if query.name.as_ref().is_none_or(|pattern| matches_glob(pattern, entry.name.as_bytes())) {
            for version in entry.versions.iter().filter(|version| query.wants(version)) {
                each(hit(folder, entry, version)?)?;
            }
        }
        Ok(true)
    })
}

fn hit(folder: &Folder, entry: &Entry, version: &Version) -> Result<Hit> {
    let cut = match &version.state {
        State::Hidden(cut) => cut.clone(),
        _ => None,
    };
    let (stat, digest) = match &version.has {
        Has::Object { obj, stat, marks } if marks.metacopy.is_none() => (Some(*stat), obj.digest()?),
        Has::Object { stat, .. } => (Some(*stat), None),
        Has::Whiteout => (None, None),
    };
    let path = folder.path.child(entry.name.as_name());
    Ok(Hit { path, layer: version.layer, stat, shown: version.is_shown(), cut, digest })
}

impl Query {
    fn wants(&self, version: &Version) -> bool {
        let sought = match &version.has {
            Has::Whiteout => Sought::Whiteout,
            Has::Object { stat, .. } => Sought::Kind(stat.kind()),
        };
        let asked_for = if self.kinds.is_empty() {
            sought != Sought::Whiteout || self.layer.is_some()
        } else {
            self.kinds.contains(&sought)
        };
        let place = match self.layer {
            Some(layer) => version.layer == layer && (!self.deleted || !version.is_shown()),
            None if sought == Sought::Whiteout => true,
            None if self.deleted => matches!(version.state, State::Hidden(_)),
            None => version.state == State::Served,
        };
        let size = self.size.is_none_or(|range| {
            let of_file = version.object().filter(|(_, stat)| stat.kind() == Kind::File);
            of_file.is_some_and(|(_, stat)| (range.min..=range.max).contains(&stat.size))
        });
        asked_for && place && size
    }
}

/// Files with the same content.
#[derive(Debug)]
pub struct Same {
    /// The digest of the content.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Where it is: two or more, top layer first, then by path.
    pub hits: Vec<Hit>,
}

/// Groups of files with the same content, at several paths or in several layers, whether or not they show; the most bytes first. Empty
/// files do not count. `query` says which files are looked at; small files of the same size are read.
///
/// # Errors
/// When a layer cannot be read.
pub fn same_content(subject: &Subject, at: &RelPath, query: &Query) -> Result<Vec<Same>> {
    let mut by_size: FxHashMap<u64, Vec<(Hit, crate::layer::Obj)>> = FxHashMap::default();
    let mut seen = rustc_hash::FxHashSet::default();
    walk(subject, at, &mut |folder, entry| {
        if query.name.as_ref().is_some_and(|pattern| !matches_glob(pattern, entry.name.as_bytes())) {
            return Ok(true);
        }
        for version in &entry.versions {
            let size = version.content_size();
            let in_range = query.size.is_none_or(|range| (range.min..=range.max).contains(&size));
            let in_layer = query.layer.is_none_or(|layer| version.layer == layer);
            let fits = size > 0 && in_range && in_layer && (!query.deleted || !version.is_shown());
            if let Has::Object { obj, .. } = &version.has
                && fits
                && seen.insert((version.layer, obj.id()))
            {
                by_size.entry(size).or_default().push((hit(folder, entry, version)?, obj.clone()));
            }
        }
        Ok(true)
    })?;
    let mut groups: FxHashMap<Digest, Same> = FxHashMap::default();
    for (size, files) in by_size.into_iter().filter(|(_, files)| files.len() > 1) {
        for (mut hit, obj) in files {
            let Some(digest) = content::digest(&obj)? else { continue };
            hit.digest = Some(digest);
            groups.entry(digest).or_insert_with(|| Same { digest, size, hits: Vec::new() }).hits.push(hit);
        }
    }
    let mut groups: Vec<Same> = groups.into_values().filter(|same| same.hits.len() > 1).collect();
    groups.iter_mut().for_each(|same| same.hits.sort_by(|a, b| (a.layer, &a.path).cmp(&(b.layer, &b.path))));
    groups.sort_by_key(|same| (std::cmp::Reverse(same.extra()), same.digest));
    Ok(groups)
}

impl Same {
    /// Bytes that are there more than once.
    pub fn extra(&self) -> u64 {
        self.size.saturating_mul(self.hits.len() as u64 - 1)
    }
}

/// Whether a name matches a pattern as the shell has it, byte by byte: `*`, `?`, `[a-z]`, `[!a]`, and `\` before what means
/// itself. Linear in the product of both lengths, whatever the pattern.
pub fn matches_glob(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    // Where to go on when what follows the last star does not match: the star takes one byte more.
    let mut star: Option<(usize, usize)> = None;
    loop {
        let rest = pattern.get(p..).unwrap_or_default();
        let step = match (rest.first(), name.get(n)) {
            (None, None) => return true,
            (Some(b'*'), _) => {
                star = Some((p + 1, n));
                p += 1;
                continue;
            }
            (Some(_), Some(&byte)) => one(rest, byte),
            _ => None,
        };
        if let Some(len) = step {
            (p, n) = (p + len, n + 1);
            continue;
        }
        match star {
            Some((after, at)) if at < name.len() => {
                star = Some((after, at + 1));
                (p, n) = (after, at + 1);
            }
            _ => return false,
        }
    }
}

/// The length of the first part of a pattern, if it matches the byte.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern {
        [b'?', ..] => Some(1),
        [b'\\', escaped, ..] => (*escaped == byte).then_some(2),
        [b'[', set @ ..] => match set_matches(set, byte) {
            Some((matches, len)) => matches.then_some(len + 1),
            // An unclosed bracket means itself.
            None => (byte == b'[').then_some(1),
        },
        [plain, ..] => (*plain == byte).then_some(1),
        [] => None,
    }
}

/// Whether the set behind a `[` has the byte, and its length with the `]`; `None` when it is not closed.
fn set_matches(set: &[u8], byte: u8) -> Option<(bool, usize)> {
    let negated = matches!(set.first(), Some(b'!' | b'^'));
    let mut at = usize::from(negated);
    let (start, mut found) = (at, false);
    loop {
        match (set.get(at)?, set.get(at + 1), set.get(at + 2)) {
            (b']', ..) if at > start => return Some((found != negated, at + 1)),
            (low, Some(b'-'), Some(high)) if *high != b']' => {
                found |= (*low..=*high).contains(&byte);
                at += 3;
            }
            (only, ..) => {
                found |= *only == byte;
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::matches_glob;

    #[test]
    fn patterns_are_the_shells() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("*.pem", "a.pem", true),
            ("*.pem", "a.pem.gz", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[]]", "]", true),
            ("[x", "[x", true),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b", "xxaxxbxx", false),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(matches_glob(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
        let stars = "*a".repeat(60);
        assert!(!matches_glob(stars.as_bytes(), "a".repeat(50).as_bytes()), "takes no exponential time");
    }
}
