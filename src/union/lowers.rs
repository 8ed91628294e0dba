//! The lower directories that one directory of the union is merged of, and which names they have.
//!
//! A name that no layer has costs one question a layer: 500 of them for a miss in 500 layers. Lower layers do not change under a mount,
//! so after some misses all their names are read once, and from then on only the layers that have a name are asked for it. What is
//! kept is a hash of each name: two names with the same one cost a question in vain, never a wrong answer.

use std::hash::Hasher;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

use parking_lot::RwLock;
use rustc_hash::FxHasher;

use super::lookup::Lower;
use crate::layer;
use crate::path::Name;

/// So many questions in vain are worth reading the names...
const PATIENCE: u32 = 48;
/// ...and so many for each directory: reading the names of one takes as long as some questions.
const PATIENCE_EACH: u32 = 4;
/// Directories with more names in all (8 bytes each are kept) are asked each time.
const MOST_NAMES: usize = 1 << 18;

/// Lower directories, top first. Cloning shares them, and what is known of their names.
#[derive(Debug, Clone, Default)]
pub struct Lowers(Option<Arc<Shared>>);

#[derive(Debug)]
struct Shared {
    list: Box<[Lower]>,
    in_vain: AtomicU32,
    known: RwLock<Known>,
}

#[derive(Debug)]
enum Known {
    /// Not looked yet.
    Nothing,
    Names(Arc<Index>),
    /// Too many names, or a layer that finds more than it lists.
    Never,
}

/// Which of several directories have a name, as pairs of a name's hash and a place in the list, sorted.
#[derive(Debug, Default)]
pub(super) struct Index(Box<[(u32, u32)]>);

impl Deref for Lowers {
    type Target = [Lower];

    fn deref(&self) -> &[Lower] {
        self.0.as_ref().map_or(&[], |shared| &shared.list)
    }
}

impl From<Vec<Lower>> for Lowers {
    fn from(list: Vec<Lower>) -> Self {
        if list.is_empty() {
            return Self(None);
        }
        let (in_vain, known) = (AtomicU32::new(0), RwLock::new(Known::Nothing));
        Self(Some(Arc::new(Shared { list: list.into(), in_vain, known })))
    }
}

impl FromIterator<Lower> for Lowers {
    fn from_iter<I: IntoIterator<Item = Lower>>(lowers: I) -> Self {
        lowers.into_iter().collect::<Vec<_>>().into()
    }
}

impl Lowers {
    /// Notes that so many of these directories were asked for a name that they do not have.
    pub(super) fn asked_in_vain(&self, count: u32) {
        let Some(shared) = &self.0 else { return };
        let before = shared.in_vain.fetch_add(count, Ordering::Relaxed);
        let each = u32::try_from(shared.list.len()).unwrap_or(u32::MAX).saturating_mul(PATIENCE_EACH);
        let patience = PATIENCE.max(each);
        if before < patience && before.saturating_add(count) >= patience {
            let known = shared.read_names();
            *shared.known.write() = known;
        }
    }

    /// The names, if they are known.
    pub(super) fn index(&self) -> Option<Arc<Index>> {
        match &*self.0.as_ref()?.known.read() {
            Known::Names(index) => Some(index.clone()),
            Known::Nothing | Known::Never => None,
        }
    }

    /// Forgets the names: layers may have changed.
    pub(super) fn forget_names(&self) {
        if let Some(shared) = &self.0 {
            *shared.known.write() = Known::Nothing;
            shared.in_vain.store(0, Ordering::Relaxed);
        }
    }
}

impl Shared {
    fn read_names(&self) -> Known {
        let mut pairs = Vec::new();
        for (at, lower) in (0..).zip(&self.list) {
            if !matches!(lower.obj.lists_all(), Ok(true)) {
                return Known::Never;
            }
            let listed = lower.obj.list(&mut |item| {
                pairs.push((hash(item.name), at));
                if pairs.len() > MOST_NAMES { Err(layer::Error::WrongKind(crate::sys::Errno::NOMEM)) } else { Ok(()) }
            });
            // A layer that cannot be read says so to who asks it for a name.
            if listed.is_err() {
                return Known::Never;
            }
        }
        pairs.sort_unstable();
        pairs.dedup();
        Known::Names(Arc::new(Index(pairs.into())))
    }
}

impl Index {
    /// The first directory at or behind `from` that may have `name`.
    pub(super) fn next(&self, name: Name<'_>, from: usize) -> Option<usize> {
        let wanted = (hash(name), u32::try_from(from).ok()?);
        let (found, at) = self.0.get(self.0.partition_point(|pair| *pair < wanted))?;
        (*found == wanted.0).then_some(*at as usize)
    }
}

fn hash(name: Name<'_>) -> u32 {
    let mut hasher = FxHasher::default();
    hasher.write(name.as_bytes());
    let hash = hasher.finish();
    // Its low bits are weak.
    u32::try_from(hash >> 32).unwrap_or_default() ^ u32::try_from(hash & 0xffff_ffff).unwrap_or_default()
}

#[cfg(test)]
mod tests;
