//! The stack: layers in order, with at most one writable upper on top, and the numbers its objects go by.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::error::Error;
use super::error::Result;
use super::lookup::Lower;
use super::lookup::Roots;
use super::work::Upper;
use crate::layer::Layer;
use crate::layer::Obj;
use crate::layer::ObjectId;
use crate::layer::PACK_DEV;

/// The most layers one stack may have.
pub const MAX_LAYERS: usize = 4096;

/// Layers in order, top first, with at most one writable upper.
#[derive(Debug)]
pub struct Stack {
    /// The writable top, if there is one.
    pub upper: Option<Upper>,
    /// The read-only layers, top first.
    pub layers: Vec<Arc<dyn Layer>>,
    pub(super) roots: Roots,
    numbers: Numbers,
    /// The layers by their keys; none for a key that several have, since a record could not tell them apart.
    by_key: FxHashMap<String, Option<u16>>,
}

impl Stack {
    /// Puts a stack together; `layers` top first.
    ///
    /// # Errors
    /// When a layer's root cannot be read, there is no layer at all, or there are too many.
    pub fn new(upper: Option<Upper>, layers: Vec<Arc<dyn Layer>>) -> Result<Self> {
        if layers.len() > MAX_LAYERS || (layers.is_empty() && upper.is_none()) {
            return Err(Error::Setup(format!("a stack needs 1 to {MAX_LAYERS} layers, not {}", layers.len())));
        }
        let roots: Vec<Obj> = layers.iter().map(|l| l.root()).collect::<std::result::Result<_, _>>()?;
        let numbers = Numbers::new(upper.as_ref().map(|u| u.root.id().dev), &roots);
        let mut by_key = FxHashMap::default();
        for (i, layer) in layers.iter().enumerate() {
            let number = u16::try_from(i).ok();
            by_key.entry(layer.key()).and_modify(|known| *known = None).or_insert(number);
        }
        let lower = |(i, obj)| Lower { layer: u16::try_from(i).unwrap_or(u16::MAX), obj };
        let roots = Roots(roots.into_iter().enumerate().map(lower).collect());
        Ok(Self { upper, layers, roots, numbers, by_key })
    }

    /// The roots of the lower layers, as a walk wants them.
    pub fn roots(&self) -> Roots {
        self.roots.clone()
    }

    /// The inode number under which the union shows an object of upper; `None` when there is none to be had (then one is
    /// given out for as long as the object is known).
    pub fn upper_ino(&self, id: ObjectId) -> Option<u64> {
        self.numbers.of_dev(id)
    }

    /// The same for an object of a lower layer.
    pub fn lower_ino(&self, layer: u16, id: ObjectId) -> Option<u64> {
        if id.dev == PACK_DEV { self.numbers.of_layer(layer, id.ino) } else { self.numbers.of_dev(id) }
    }

    /// What is recorded of a lower object when it is copied up, so that the copy keeps its inode number after a remount.
    pub(super) fn origin_record(&self, layer: u16, id: ObjectId) -> Option<Vec<u8>> {
        let l = self.layers.get(usize::from(layer))?;
        let same_fs = self.roots.0.get(usize::from(layer))?.obj.id().dev == id.dev;
        let key = l.key();
        let told_apart = self.by_key.get(&key).is_some_and(Option::is_some);
        (same_fs && told_apart).then(|| format!("{key}:{}", id.ino).into_bytes())
    }

    /// The inode number that an origin record stands for; `None` when its layer is not in this stack.
    pub(super) fn origin_ino(&self, record: &[u8]) -> Option<u64> {
        let (layer, ino) = self.origin_parts(record)?;
        let dev = self.roots.0.get(usize::from(layer))?.obj.id().dev;
        self.lower_ino(layer, ObjectId { dev, ino })
    }

    /// The layer, and the object's own number there, that an origin record names.
    pub(super) fn origin_parts(&self, record: &[u8]) -> Option<(u16, u64)> {
        let (key, ino) = std::str::from_utf8(record).ok()?.rsplit_once(':')?;
        Some(((*self.by_key.get(key)?)?, ino.parse().ok()?))
    }
}

/// Inode numbers: which filesystem or pack in the high bits, its own number in the low ones (as the kernel's `xino` does), so
/// that they are unique, and the same at every mount of the same stack.
#[derive(Debug)]
struct Numbers {
    devs: FxHashMap<u64, u64>,
    /// Per layer, the number of a pack; 0 for others.
    packs: Vec<u64>,
}

/// Bits of the inode number that hold a filesystem's own number.
const OWN_BITS: u32 = 44;
/// Numbers from here on are given out while an object is known, to those that have none of their own.
pub(super) const DYNAMIC: u64 = 0xF_FFFF << OWN_BITS;

impl Numbers {
    fn new(upper_dev: Option<u64>, roots: &[Obj]) -> Self {
        let mut devs = FxHashMap::default();
        let mut packs = vec![0; roots.len()];
        let mut next = 0;
        let mut take = || {
            next += 1;
            next - 1
        };
        // The upper's filesystem, or the bottom directory's, shows its own inode numbers.
        let first = upper_dev.or_else(|| roots.iter().rev().map(|r| r.id().dev).find(|&d| d != PACK_DEV));
        match first {
            Some(dev) => {
                devs.insert(dev, take());
            }
            // Without a directory, 0 stays free: number 1 is the root of the mount.
            None => {
                take();
            }
        }
        // From the bottom up, so that a stack with one more layer on top numbers the others as before.
        for (slot, root) in packs.iter_mut().zip(roots).rev() {
            if root.id().dev == PACK_DEV {
                *slot = take();
            } else {
                devs.entry(root.id().dev).or_insert_with(&mut take);
            }
        }
        Self { devs, packs }
    }

    fn of_dev(&self, id: ObjectId) -> Option<u64> {
        compose(*self.devs.get(&id.dev)?, id.ino)
    }

    fn of_layer(&self, layer: u16, ino: u64) -> Option<u64> {
        compose(*self.packs.get(usize::from(layer))?, ino)
    }
}

fn compose(fs: u64, ino: u64) -> Option<u64> {
    // 0 is no inode, and 1 is the root of the mount.
    (ino < 1 << OWN_BITS && ino > u64::from(fs == 0)).then_some(fs << OWN_BITS | ino)
}
