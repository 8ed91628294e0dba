//! Listing images.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::image::Digest;
use crate::image::config::ImageConfig;
use crate::image::reference::Reference;
use crate::layer::pack::PackInfo;
use crate::store::Store;
use crate::store::images::Images;

use super::Result;

/// One image under one of its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRow {
    /// The name; `None` for an image without one.
    pub name: Option<Reference>,
    /// The image's id.
    pub id: Digest,
    /// The manifest by which it came.
    pub manifest: Option<Digest>,
    /// When it was made, in seconds since 1970.
    pub created: Option<i64>,
    /// Bytes of content in all its layers.
    pub size: u64,
    /// How many of these are in layers that other images have, too.
    pub shared: u64,
    /// How many containers were made of it.
    pub containers: usize,
    /// Why the image cannot be used, if it is damaged.
    pub damage: Option<String>,
}

/// Which images are wanted. Every condition must hold; of several patterns for names, one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// Patterns for names: `debian`, `debian:12`, `local*/*:1`.
    pub names: Vec<String>,
    /// Only images without a name, or only those with one.
    pub dangling: Option<bool>,
    /// Labels that they have; with a value, that value.
    pub labels: Vec<(String, Option<String>)>,
    /// Labels that they do not have.
    pub not_labels: Vec<(String, Option<String>)>,
    /// Made before this image.
    pub before: Option<String>,
    /// Made after this image.
    pub since: Option<String>,
    /// Made before this time, in seconds since 1970.
    pub until: Option<i64>,
}

impl Filter {
    /// Whether one of the patterns, if there are any, means this name.
    fn wants_name(&self, name: Option<&Reference>) -> bool {
        self.names.is_empty() || self.names.iter().any(|pattern| name.is_some_and(|name| matches(pattern, name)))
    }

    fn wants_labels(&self, config: &ImageConfig) -> bool {
        let labels = config.config.as_ref().map(|run| &run.labels);
        let has = |(key, value): &(String, Option<String>)| {
            let found = labels.and_then(|labels| labels.get(key));
            found.is_some_and(|found| value.as_ref().is_none_or(|value| value == found))
        };
        self.labels.iter().all(has) && !self.not_labels.iter().any(has)
    }
}

/// Whether a pattern means a name, as docker has it: the short form with its tag, or without; and every way of writing the name in
/// full.
fn matches(pattern: &str, name: &Reference) -> bool {
    let written = || {
        let wanted = Reference::parse_untagged(pattern).ok()?;
        let same = name.domain() == wanted.domain() && name.path() == wanted.path();
        Some(same && wanted.digest().is_none() && wanted.tag().is_none_or(|tag| name.tag() == Some(tag)))
    };
    glob(pattern.as_bytes(), name.to_string().as_bytes())
        || glob(pattern.as_bytes(), name.familiar_repository().as_bytes())
        || written().unwrap_or(false)
}

/// Whether a pattern for names follows the rules.
pub fn is_pattern(pattern: &str) -> bool {
    let mut rest = pattern.as_bytes();
    while let Some((length, _)) = one_of(rest, None) {
        rest = rest.get(length..).unwrap_or_default();
    }
    rest.is_empty()
}

/// Go's `path.Match`: `*`, `?` and `[a-z]`, none of which stands for a slash, and `\` before what means itself. A pattern that is malformed
/// means nothing. It never takes more than pattern times text steps.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        let one = pattern.get(p..).filter(|rest| !rest.is_empty()).map(|rest| one_of(rest, text.get(t).copied()));
        match (pattern.get(p), one) {
            (Some(b'*'), _) => {
                star = Some((p, t));
                p += 1;
            }
            (Some(_), Some(Some((length, true)))) => (p, t) = (p + length, t + 1),
            (None, _) if t == text.len() => return true,
            _ => match star {
                Some((at, taken)) if text.get(taken).is_some_and(|c| *c != b'/') => {
                    star = Some((at, taken + 1));
                    (p, t) = (at + 1, taken + 1);
                }
                _ => return false,
            },
        }
    }
}

/// How long the first part of a pattern is, and whether it means this byte; `None` when it is malformed.
fn one_of(pattern: &[u8], byte: Option<u8>) -> Option<(usize, bool)> {
    match pattern {
        [b'?', ..] => Some((1, byte.is_some_and(|b| b != b'/'))),
        [b'\\', literal, ..] => Some((2, byte == Some(*literal))),
        [b'\\'] => None,
        [b'[', ..] => class(pattern, byte),
        [literal, ..] => Some((1, byte == Some(*literal))),
        [] => None,
    }
}

/// `[a-z]`, `[^a-z]`.
fn class(pattern: &[u8], byte: Option<u8>) -> Option<(usize, bool)> {
    let negated = pattern.get(1) == Some(&b'^');
    let first = if negated { 2 } else { 1 };
    let mut at = first;
    let mut found = false;
    let literal = |at: &mut usize| {
        if pattern.get(*at) == Some(&b'\\') {
            *at += 1;
        }
        *at += 1;
        pattern.get(*at - 1).copied()
    };
    while pattern.get(at) != Some(&b']') || at == first {
        let low = literal(&mut at).filter(|low| *low != b']' && *low != b'-')?;
        let high = match pattern.get(at) {
            Some(b'-') => {
                at += 1;
                literal(&mut at)?
            }
            _ => low,
        };
        found |= byte.is_some_and(|b| (low..=high).contains(&b));
    }
    Some((at + 1, byte.is_some_and(|b| b != b'/') && found != negated))
}

/// Sizes of layers, each read once.
#[derive(Debug)]
pub struct Sizes<'a> {
    store: &'a Store,
    known: BTreeMap<Digest, PackInfo>,
}

impl<'a> Sizes<'a> {
    /// Nothing read yet.
    pub fn new(store: &'a Store) -> Self {
        Self { store, known: BTreeMap::new() }
    }

    /// What is told of a layer.
    ///
    /// # Errors
    /// When it is missing or damaged.
    pub fn layer(&mut self, diff_id: &Digest) -> Result<PackInfo> {
        if let Some(info) = self.known.get(diff_id) {
            return Ok(*info);
        }
        let info = self.store.layers().info(diff_id)?;
        self.known.insert(*diff_id, info);
        Ok(info)
    }

    /// Bytes of content in these layers together.
    fn sum<'b>(&mut self, layers: impl IntoIterator<Item = &'b Digest>) -> Result<u64> {
        layers.into_iter().try_fold(0u64, |sum, layer| Ok(sum.saturating_add(self.layer(layer)?.content)))
    }
}

/// The layers that more than one image has. An image that cannot be read shares nothing.
pub fn shared_layers(store: &Store, images: &Images) -> BTreeSet<Digest> {
    let (mut seen, mut shared) = (BTreeSet::new(), BTreeSet::new());
    for id in images.images.keys() {
        let Ok(config) = store.config(id) else { continue };
        let own: BTreeSet<Digest> = config.diff_ids().iter().copied().collect();
        shared.extend(own.iter().filter(|layer| seen.contains(*layer)));
        seen.extend(own);
    }
    shared
}

/// The images of a store, the newest first, each once for each of its names.
///
/// # Errors
/// When the index cannot be read, or an image that a condition names is not there. A damaged image is listed with its damage.
pub fn list(store: &Store, filter: &Filter) -> Result<Vec<ImageRow>> {
    let images = store.images()?;
    let created_of = |word: &Option<String>| -> Result<Option<Option<Timestamp>>> {
        let Some(word) = word else { return Ok(None) };
        let id = images.find(word)?.id;
        Ok(Some(created(store.config(&id)?.created.as_deref())))
    };
    let (before, since) = (created_of(&filter.before)?, created_of(&filter.since)?);
    let shared = shared_layers(store, &images);
    let mut users: BTreeMap<Digest, usize> = BTreeMap::new();
    store.containers()?.iter().for_each(|container| *users.entry(container.image_id).or_default() += 1);
    let all_names = images.names_by_image();
    let mut sizes = Sizes::new(store);
    let mut rows = Vec::new();
    for (id, entry) in &images.images {
        let names = match all_names.get(id) {
            Some(names) => names.iter().map(|name| Some((*name).clone())).collect(),
            None => vec![None],
        };
        if filter.dangling.is_some_and(|wanted| wanted != names.iter().all(Option::is_none)) {
            continue;
        }
        let config = store.config(id);
        let measured = config.as_ref().map_err(ToString::to_string).and_then(|config| {
            let part = config.diff_ids().iter().filter(|layer| shared.contains(layer));
            Ok((sizes.sum(config.diff_ids()).map_err(|e| e.to_string())?, sizes.sum(part).map_err(|e| e.to_string())?))
        });
        // To the nanosecond: two images of one script are made in the same second. One of no known time is older than all.
        let made = config.as_ref().ok().and_then(|config| created(config.created.as_deref()));
        let secs = made.map(Timestamp::as_second);
        let wanted = before.is_none_or(|limit| made < limit)
            && since.is_none_or(|limit| made > limit)
            && filter.until.is_none_or(|limit| secs < Some(limit))
            && match &config {
                Ok(config) => filter.wants_labels(config),
                Err(_) => filter.labels.is_empty(),
            };
        for name in names.into_iter().filter(|name| wanted && filter.wants_name(name.as_ref())) {
            let (size, shared, damage) = match &measured {
                Ok((size, shared)) => (*size, *shared, None),
                Err(e) => (0, 0, Some(e.clone())),
            };
            let containers = users.get(id).copied().unwrap_or(0);
            let manifest = entry.manifest;
            let row = ImageRow { name, id: *id, manifest, created: secs, size, shared, containers, damage };
            rows.push((made, row));
        }
    }
    rows.sort_by(|(a_made, a), (b_made, b)| b_made.cmp(a_made).then_with(|| a.name.cmp(&b.name)));
    Ok(rows.into_iter().map(|(_, row)| row).collect())
}

/// Bytes of content in all layers of an image.
///
/// # Errors
/// When a layer is missing or damaged.
pub fn size_of(store: &Store, config: &ImageConfig) -> Result<u64> {
    Sizes::new(store).sum(config.diff_ids())
}

/// An RFC 3339 time of a document in seconds since 1970; `None` when it is absent or malformed.
pub fn created_secs(text: Option<&str>) -> Option<i64> {
    created(text).map(Timestamp::as_second)
}

fn created(text: Option<&str>) -> Option<Timestamp> {
    text.and_then(|text| text.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_names_as_in_docker() {
        let debian = Reference::parse("debian:12").unwrap();
        let local = Reference::parse("localhost/base:1").unwrap();
        for pattern in ["debian", "debian:12", "deb*", "deb?an:1*", "docker.io/library/debian", "*:12", "*"] {
            assert!(matches(pattern, &debian), "{pattern}");
        }
        for pattern in ["debian:11", "de", "?", "library/*", "", "*/debian", "Debian"] {
            assert!(!matches(pattern, &debian), "{pattern}");
        }
        assert!(matches("localhost/*", &local) && matches("*/*:1", &local));
        assert!(!matches("*", &local) && !matches("base", &local));
        for pattern in ["[cd]ebian", "[^x]ebian:1[0-9]", "d*[a-n]", "de\\bian", "[\\d]ebian"] {
            assert!(matches(pattern, &debian), "{pattern}");
        }
        for pattern in ["[x]ebian", "[^d]ebian", "[", "[]", "[a", "[z-a]ebian", "debian\\", "deb[-a]an", "local[/]x"] {
            assert!(!matches(pattern, &debian), "{pattern}");
        }
        assert!(is_pattern("a[b-c]*\\[?") && !is_pattern("[a") && !is_pattern("a\\") && !is_pattern("[]"));
        assert!(!glob(b"a[/]b", b"a/b") && !glob(b"a[^x]b", b"a/b"));
        assert!(!glob("*a".repeat(50).as_bytes(), "b".repeat(100_000).as_bytes()), "and it ends soon");
    }
}
