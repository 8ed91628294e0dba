//! Checking every byte of a stored layer.

use std::io::Read;

use super::PackObject;
use super::PackStore;
use super::format::Table;
use crate::digest::Digest;
use crate::digest::Hasher;
use crate::layer::Error;
use crate::layer::Layer;
use crate::layer::Object;
use crate::layer::Result;
use crate::sys;
use crate::sys::Errno;
use crate::sys::attr::Kind;

/// Something that is not as it must be.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Damage {
    /// The pack cannot be opened: its index or its pack file is missing or wrong.
    #[error("layer {layer}: {what}")]
    Pack {
        /// The layer's diff id.
        layer: Digest,
        /// What was found.
        what: Error,
    },
    /// A record of the index makes no sense.
    #[error("layer {layer}: {what}")]
    Record {
        /// The layer's diff id.
        layer: Digest,
        /// What was found.
        what: Error,
    },
    /// An object is missing.
    #[error("layer {layer}: object {object} is missing")]
    Missing {
        /// The layer's diff id.
        layer: Digest,
        /// The object.
        object: Digest,
    },
    /// An object has other bytes than its name says.
    #[error("layer {layer}: object {object} is damaged: {what}")]
    Object {
        /// The layer's diff id.
        layer: Digest,
        /// The object.
        object: Digest,
        /// What was found.
        what: String,
    },
    /// The tar that the pack gives back is not the one that was imported.
    #[error("layer {layer}: the tar cannot be given back: {what}")]
    Tar {
        /// The layer's diff id.
        layer: Digest,
        /// What was found.
        what: String,
    },
}

impl PackStore {
    /// Checks a layer: the index and every record of it, every object against its digest, and that the tar that it gives
    /// back has the layer's diff id. Calls `each` for everything that is wrong.
    ///
    /// # Errors
    /// `ENOENT` when there is no such layer, and errors of the system that say nothing about the layer.
    pub fn verify(&self, diff_id: &Digest, each: &mut dyn FnMut(Damage)) -> Result<()> {
        if !self.has(diff_id)? {
            return Err(sys::Error::new("openat", diff_id.to_string(), Errno::NOENT).into());
        }
        let layer = *diff_id;
        let pack = match self.open(diff_id) {
            Ok(pack) => pack,
            Err(what) => {
                each(Damage::Pack { layer, what });
                return Ok(());
            }
        };
        let index = &pack.open.index;
        for position in index.positions(Table::Nodes) {
            if let Err(what) = PackObject::new(&pack.open, position).and_then(|object| check_node(&object)) {
                each(Damage::Record { layer, what });
            }
        }
        if let Err(what) = pack.root().and_then(|root| match root.kind() {
            Kind::Dir => Ok(()),
            _ => Err(index.damaged("the root is no directory")),
        }) {
            each(Damage::Record { layer, what });
        }
        for position in index.positions(Table::Objects) {
            match index.object(position) {
                Ok(object) => self.check_object(layer, object.digest, object.len, each)?,
                Err(what) => each(Damage::Record { layer, what }),
            }
        }
        check_tar(pack.tar_stream(), layer, each);
        Ok(())
    }

    fn check_object(&self, layer: Digest, object: Digest, len: u64, each: &mut dyn FnMut(Damage)) -> Result<()> {
        let (fd, found) = match self.dirs().open_object(&object) {
            Ok(open) => open,
            Err(e) if e.errno() == Errno::NOENT => {
                each(Damage::Missing { layer, object });
                return Ok(());
            }
            Err(e) => {
                each(Damage::Object { layer, object, what: e.to_string() });
                return Ok(());
            }
        };
        if found != len {
            each(Damage::Object { layer, object, what: format!("it has {found} bytes instead of {len}") });
            return Ok(());
        }
        let (mut hasher, mut at, mut buf) = (Hasher::new(), 0, vec![0u8; 256 * 1024]);
        loop {
            match sys::data::read_at(&fd, &mut buf, at) {
                Ok(0) => break,
                Ok(n) => {
                    hasher.update(buf.get(..n).unwrap_or_default());
                    at += n as u64;
                }
                Err(e) => {
                    each(Damage::Object { layer, object, what: e.to_string() });
                    return Ok(());
                }
            }
        }
        let digest = hasher.finish();
        if digest != object {
            each(Damage::Object { layer, object, what: format!("its digest is {digest}") });
        }
        Ok(())
    }
}

/// Reads all that a node's record refers to, but not its content.
fn check_node(object: &PackObject) -> Result<()> {
    let index = &object.open.index;
    object.xattrs()?;
    match object.kind() {
        Kind::Dir => {
            let mut last: Option<Vec<u8>> = None;
            object.list(&mut |item| {
                let name = item.name.as_bytes();
                if last.as_deref().is_some_and(|last| last >= name) {
                    return Err(index.damaged(format!("the entries of node {} are not sorted", object.position)));
                }
                last = Some(name.to_vec());
                Ok(())
            })
        }
        Kind::Symlink => object.readlink().map(drop),
        // A missing object is told of once, with the objects.
        Kind::File => match object.open() {
            Err(e @ Error::Damaged { .. }) => Err(e),
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}

fn check_tar(mut tar: impl Read, layer: Digest, each: &mut dyn FnMut(Damage)) {
    let (mut hasher, mut buf) = (Hasher::new(), vec![0u8; 256 * 1024]);
    let what = loop {
        match tar.read(&mut buf) {
            Ok(0) => match hasher.finish() {
                digest if digest == layer => return,
                digest => break format!("its digest is {digest}"),
            },
            Ok(n) => hasher.update(buf.get(..n).unwrap_or_default()),
            Err(e) => break e.to_string(),
        }
    };
    each(Damage::Tar { layer, what });
}
