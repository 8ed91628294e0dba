//! From what a walk found to the node that stands for it: which number it has, and whether a known node is the same object.

use std::sync::Arc;

use super::Entry;
use super::Result;
use super::Union;
use super::copy_up;
use super::error::Error;
use super::error::refused;
use super::lookup::Dirs;
use super::lookup::InUpper;
use super::lookup::Lower;
use super::lookup::Target;
use super::node::Node;
use super::node::Real;
use crate::layer::ObjectId;
use crate::layer::dir;
use crate::layer::handle::DirHandle;
use crate::layer::patched;
use crate::path::Name;
use crate::sys;
use crate::sys::Errno;
use crate::sys::attr::Kind;
use crate::sys::attr::Stat;

/// By what an object is known.
struct Identity {
    /// The lower layer whose object it is; `None` for one of upper.
    layer: Option<u16>,
    /// What tells it apart there.
    id: ObjectId,
    /// The number that it has by that, or keeps from what it was copied from.
    ino: Option<u64>,
    /// The number that was noted for it when it was copied up.
    noted: Option<u64>,
}

impl Union {
    /// The node of what a walk found, with one more reference.
    pub(super) fn intern(&self, parent: &Arc<Node>, name: Name<'_>, target: Target) -> Result<Entry> {
        let identity = self.identity(parent, name, &target)?;
        let (stat, kind, data) = (target.stat, target.kind(), content_below(&target)?);
        let real = real_of(target)?;
        let fits = |node: &Node| adopt(node, kind, &real, &stat, parent, name) && self.renew(node, &real);
        // The name is shared with the object, where that has it.
        let own_name = match &real {
            Real::Lower(lower) => lower.obj.own_name().filter(|own| own.as_name() == name).cloned(),
            _ => None,
        };
        let place = || Some((parent.clone(), own_name.clone().unwrap_or_else(|| name.to_buf())));
        let make = |ino| {
            // The node that this copy was noted for was forgotten meanwhile, and the note with it.
            if identity.noted == Some(ino) {
                self.table.note_copy(identity.id, ino);
            }
            Node::new(ino, kind, place(), real.clone()).with_data(data.clone())
        };
        let node = identity
            .ino
            .and_then(|ino| self.table.intern(ino, fits, || make(ino)))
            .or_else(|| self.table.intern_dynamic(identity.layer, identity.id, fits, make))
            .ok_or(Error::Refused(Errno::STALE))?;
        // A lower name of a file that was copied up under another of its names shows the copy.
        let is_alias = matches!((&node.body.read().real, &real), (Real::Upper { .. }, Real::Lower(_)));
        if !is_alias {
            let attr = self.show(&node, stat);
            return Ok(Entry { node, attr });
        }
        match self.getattr(&node) {
            Ok(attr) => Ok(Entry { node, attr }),
            Err(e) => {
                let ino = node.ino;
                drop(node);
                self.forget(ino, 1);
                Err(e)
            }
        }
    }

    fn identity(&self, parent: &Arc<Node>, name: Name<'_>, target: &Target) -> Result<Identity> {
        let own = ObjectId { dev: target.stat.dev, ino: target.stat.ino };
        let of_lower = |l: &Lower| {
            let id = l.obj.id();
            Identity { layer: Some(l.layer), id, ino: self.stack.lower_ino(l.layer, id), noted: None }
        };
        let noted = target.upper.as_ref().and_then(|_| self.table.copy_of(own));
        let kept = match (&target.upper, target.lowers.first()) {
            // A directory that is merged keeps the number of its topmost lower one, whatever is copied up.
            (Some(InUpper::Dir(_)) | None, Some(l)) => return Ok(of_lower(l)),
            (Some(InUpper::Other(_)), _) if noted.is_none() => self.origin_of(&self.dirs_of(parent)?, name)?,
            (Some(InUpper::Dir(_) | InUpper::Other(_)), _) => noted,
            (Some(InUpper::New), _) => None,
            (None, None) => return refused(Errno::IO),
        };
        Ok(Identity { layer: None, id: own, ino: kept.or(self.stack.upper_ino(own)), noted })
    }

    /// Whether a directory of upper may hold copies that keep the number of what they were copied from. It says so, where only
    /// mica was at work; the kernel's overlayfs does not know our record, and moves and links copies without a word.
    pub(super) fn may_hold_copies(&self, dir: &Arc<DirHandle>) -> Result<bool> {
        Ok(self.stack.upper.as_ref().is_some_and(|u| u.foreign) || dir::is_impure(dir)?)
    }

    /// The number that an object in upper keeps from the lower object it was copied from.
    fn origin_of(&self, parent: &Dirs, name: Name<'_>) -> Result<Option<u64>> {
        let (Some(handle), Some(upper)) = (&parent.upper, &self.stack.upper) else { return Ok(None) };
        if !self.may_hold_copies(handle)? {
            return Ok(None);
        }
        let fd = sys::open::path_at(&*handle.fd()?, name)?;
        let Some(xattr) = upper.mark_name(copy_up::ORIGIN) else { return Ok(None) };
        Ok(sys::xattr::get(fd, &xattr)?.and_then(|record| self.stack.origin_ino(&record)))
    }
}

/// Where the content of a copy of the attributes alone lies: the last object that was found, under the blocks that others have.
fn content_below(target: &Target) -> Result<Option<Lower>> {
    let is_copy = match &target.upper {
        Some(InUpper::Other(is_copy)) => *is_copy,
        Some(_) => false,
        None => target.kind() == Kind::File && target.lowers.len() > 1,
    };
    let Some((last, above)) = target.lowers.split_last().filter(|_| is_copy) else { return Ok(None) };
    let mut content = last.clone();
    for copy in above.iter().rev() {
        if let Some(parts) = copy.obj.marks()?.metacopy {
            content.obj = patched::over(&copy.obj, &parts, content.obj);
        }
    }
    Ok(Some(content))
}

fn real_of(target: Target) -> Result<Real> {
    let kind = target.kind();
    Ok(match target.upper {
        Some(InUpper::Dir(handle)) => Real::Dir(Dirs { upper: Some(handle), lowers: target.lowers.into() }),
        Some(InUpper::Other(_) | InUpper::New) => {
            Real::Upper { id: ObjectId { dev: target.stat.dev, ino: target.stat.ino }, held: None }
        }
        None if kind == Kind::Dir => Real::Dir(Dirs { upper: None, lowers: target.lowers.into() }),
        None => match target.lowers.into_iter().next() {
            Some(lower) => Real::Lower(lower),
            None => return refused(Errno::IO),
        },
    })
}

/// Whether a known node is the object that a walk found at `name`; if so, brings its place up to date.
fn adopt(node: &Node, kind: Kind, found: &Real, stat: &Stat, parent: &Arc<Node>, name: Name<'_>) -> bool {
    if node.kind != kind {
        return false;
    }
    let mut body = node.body.write();
    let here = body.place.as_ref().is_some_and(|(p, n)| Arc::ptr_eq(p, parent) && n.as_name() == name);
    // Then it stays at the name that the copy is made for. Asked with the body locked, which the copy-up reads with its own lock held.
    let is_copied = node.copy.is_locked();
    match (&mut body.real, found) {
        (Real::Dir(known), Real::Dir(new)) => {
            let same = match (&known.upper, &new.upper) {
                (Some(a), Some(b)) => a.id() == b.id(),
                (None, None) => true,
                _ => false,
            };
            return same && (here || body.place.is_none() && stat.nlink == 0);
        }
        (Real::Upper { id, held }, Real::Upper { id: new, .. }) => {
            if id != new {
                return false;
            }
            if !here {
                // Another name of the same file, or a name again after the known one was removed.
                *held = None;
                body.place = Some((parent.clone(), name.to_buf()));
                node.untell();
            }
        }
        (Real::Lower(known), Real::Lower(new)) => {
            if known.obj.id() != new.obj.id() {
                return false;
            }
            if !here && is_copied {
                if stat.nlink > 1 {
                    body.saw(parent, name, new);
                }
            } else if !here {
                let before = std::mem::replace(known, new.clone());
                let place = body.place.replace((parent.clone(), name.to_buf()));
                node.untell();
                if let Some((parent, name)) = place.filter(|_| stat.nlink > 1) {
                    body.saw(&parent, name.as_name(), &before);
                }
            }
        }
        // It has the number of the lower object, so it is the copy that is being made: this one of its names is there already.
        (Real::Lower(_), Real::Upper { .. }) => return is_copied,
        // Copied up under one name, seen under another lower name: the same file if the lower one has several names.
        (Real::Upper { .. }, Real::Lower(lower)) => {
            let same = stat.nlink > 1;
            if same {
                body.saw(parent, name, lower);
            }
            return same;
        }
        _ => return false,
    }
    true
}
