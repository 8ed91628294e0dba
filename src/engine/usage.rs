//! How much space things take.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use rustc_hash::FxHashSet;

use super::Result;
use super::containers;
use super::images::ImageRow;
use super::images::Sizes;
use super::images::list;
use crate::image::Digest;
use crate::layer;
use crate::layer::Item;
use crate::layer::dir;
use crate::layer::dir::DirLayer;
use crate::layer::dir::Found;
use crate::layer::handle::FdCache;
use crate::layer::pack::PackInfo;
use crate::path::NameBuf;
use crate::store::Store;
use crate::store::containers::ContainerRecord;
use crate::store::containers::State;
use crate::sys::Errno;
use crate::sys::attr::Kind;

/// Directory descriptors kept open during a walk.
const FDS: usize = 64;

/// What kind of thing takes space: how many there are, how many are in use, and bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Total {
    /// How many there are.
    pub count: usize,
    /// How many of them are in use.
    pub active: usize,
    /// Bytes of all.
    pub size: u64,
    /// Bytes that removing what is not in use gives back.
    pub reclaimable: u64,
}

/// The space that a store takes.
#[derive(Debug, Default)]
pub struct Usage {
    /// The images, each under one of its names.
    pub images: Vec<ImageRow>,
    /// The containers, with bytes in their upper directories.
    pub containers: Vec<(ContainerRecord, u64)>,
    /// The layers with how many images have each.
    pub packs: Vec<(PackInfo, usize)>,
    /// The images together: content of their layers, each layer once.
    pub image_total: Total,
    /// The containers together.
    pub container_total: Total,
    /// The layers as they lie on disk: indexes, pack files and objects, each object once.
    pub pack_total: Total,
}

/// Measures a store. Every index is read, and every upper directory walked.
///
/// # Errors
/// Those of the store. Damaged images and layers count nothing.
pub fn usage(store: &Store) -> Result<Usage> {
    let mut usage = Usage { images: list(store, &super::images::Filter::default())?, ..Usage::default() };
    for record in containers::list(store)? {
        let size = upper_size(store, &record)?;
        usage.containers.push((record, size));
    }
    let mut seen = FxHashSet::default();
    usage.images.retain(|row| seen.insert(row.id));
    let (mut users, mut active) = (BTreeMap::<Digest, usize>::new(), BTreeSet::new());
    for row in &usage.images {
        let Ok(config) = store.config(&row.id) else { continue };
        let own: BTreeSet<Digest> = config.diff_ids().iter().copied().collect();
        if row.containers > 0 {
            active.extend(&own);
        }
        own.into_iter().for_each(|layer| *users.entry(layer).or_default() += 1);
    }
    let pinned: BTreeSet<Digest> = usage.containers.iter().flat_map(|(record, _)| record.layers.clone()).collect();
    let mounted: BTreeSet<Digest> = store.mounts()?.into_iter().flat_map(|mount| mount.layers).collect();
    let needed: BTreeSet<Digest> = active.iter().chain(&pinned).chain(&mounted).copied().collect();
    usage.container_total = containers_total(&usage.containers);
    let mut sizes = Sizes::new(store);
    usage.image_total = Total {
        count: usage.images.len(),
        active: usage.images.iter().filter(|row| row.containers > 0).count(),
        ..Total::default()
    };
    for layer in users.keys() {
        let Ok(info) = sizes.layer(layer) else { continue };
        usage.image_total.size += info.content;
        usage.image_total.reclaimable += if needed.contains(layer) { 0 } else { info.content };
    }
    for layer in sorted(store.layers().list()?) {
        let Ok(info) = sizes.layer(&layer) else { continue };
        usage.packs.push((info, users.get(&layer).copied().unwrap_or(0)));
    }
    usage.pack_total = packs_total(store, &usage.packs, &needed);
    Ok(usage)
}

fn sorted(layers: FxHashSet<Digest>) -> BTreeSet<Digest> {
    layers.into_iter().collect()
}

fn containers_total(containers: &[(ContainerRecord, u64)]) -> Total {
    let running = |record: &ContainerRecord| matches!(record.state, State::Running { .. });
    let stopped = containers.iter().filter(|(record, _)| !running(record));
    Total {
        count: containers.len(),
        active: containers.iter().filter(|(record, _)| running(record)).count(),
        size: containers.iter().map(|(_, size)| size).sum(),
        reclaimable: stopped.map(|(_, size)| size).sum(),
    }
}

/// Bytes on disk: an object that several layers use counts once, and counts as needed when one of them is.
fn packs_total(store: &Store, packs: &[(PackInfo, usize)], needed: &BTreeSet<Digest>) -> Total {
    let mut objects: BTreeMap<Digest, (u64, bool)> = BTreeMap::new();
    let mut total = Total { count: packs.len(), ..Total::default() };
    for (info, _) in packs {
        let is_needed = needed.contains(&info.diff_id);
        total.active += usize::from(is_needed);
        let mut own = info.stored;
        for (object, len) in store.layers().packs().object_sizes(&info.diff_id).unwrap_or_default() {
            own = own.saturating_sub(len);
            objects.entry(object).or_insert((len, false)).1 |= is_needed;
        }
        total.size += own;
        total.reclaimable += if is_needed { 0 } else { own };
    }
    for (len, is_needed) in objects.into_values() {
        total.size += len;
        total.reclaimable += if is_needed { 0 } else { len };
    }
    total
}

/// Bytes of the files in a container's upper directory; a file with several names counts once. What is removed meanwhile, by the container
/// or with it, counts nothing.
///
/// # Errors
/// Those of reading it.
pub fn upper_size(store: &Store, record: &ContainerRecord) -> Result<u64> {
    let path = containers::dir(store, &record.id).join("upper");
    let Some(upper) = there(DirLayer::open(&path, FdCache::new(FDS)))? else { return Ok(0) };
    // No recursion: a container may nest its directories as deep as it likes.
    let mut dirs = vec![upper.handle().clone()];
    let (mut size, mut linked) = (0u64, FxHashSet::default());
    while let Some(at) = dirs.pop() {
        let mut names: Vec<NameBuf> = Vec::new();
        there(dir::list(&at, &mut |item: Item<'_>| {
            names.push(item.name.to_buf());
            Ok(())
        }))?;
        for name in names {
            match there(dir::look(&at, name.as_name()))? {
                Some(Found::Dir(handle, ..)) => dirs.push(handle),
                Some(Found::Other(stat))
                    if stat.kind() == Kind::File && (stat.nlink < 2 || linked.insert((stat.dev, stat.ino))) =>
                {
                    // Of what has its content in a layer, only what is here.
                    let below =
                        there(dir::file_marks(&at, name.as_name(), &stat))?.is_some_and(|m| m.metacopy.is_some());
                    size = size.saturating_add(if below { stat.size.min(stat.blocks * 512) } else { stat.size });
                }
                _ => {}
            }
        }
    }
    Ok(size)
}

/// What was found; `None` when it is gone, or another one has its name.
fn there<T>(found: layer::Result<T>) -> Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(layer::Error::Stale(_)) => Ok(None),
        Err(layer::Error::Sys(e)) if matches!(e.errno(), Errno::NOENT | Errno::NOTDIR | Errno::STALE) => Ok(None),
        Err(e) => Err(crate::union::Error::from(e).into()),
    }
}
