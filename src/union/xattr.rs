//! Extended attributes: a union's own marks are hidden from its users, and escaped when they set names like them.
//!
//! As the kernel's overlayfs does for nesting (`overlayfs.rst`, "Nested overlayfs mounts"): `trusted.overlay.x` set inside is stored
//! as `trusted.overlay.overlay.x`, and shown as it was set; so a union can be the layer of another one.

use std::borrow::Cow;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::Result;
use super::Union;
use super::copy_up::Copy;
use super::error::refused;
use super::lookup::face;
use super::no_caps;
use super::node::Node;
use super::node::Real;
use super::work::Upper;
use crate::layer::Content;
use crate::layer::Obj;
use crate::layer::handle::Probe;
use crate::layer::marks::is_private_xattr;
use crate::sys;
use crate::sys::Errno;
use crate::sys::xattr::SetMode;

const FAMILIES: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];
const ESCAPE: &[u8] = b"overlay.";

/// The stored name of an attribute that a user names.
fn stored(name: &[u8]) -> Cow<'_, [u8]> {
    match FAMILIES.iter().find(|f| name.starts_with(f)) {
        Some(family) => {
            let rest = name.get(family.len()..).unwrap_or_default();
            Cow::Owned([family, ESCAPE, rest].concat())
        }
        None => Cow::Borrowed(name),
    }
}

/// The name under which a user sees a stored attribute; `None` for a union's own mark.
fn shown(name: &[u8]) -> Option<Cow<'_, [u8]>> {
    for family in FAMILIES {
        if let Some(rest) = name.strip_prefix(family) {
            return rest.strip_prefix(ESCAPE).map(|inner| Cow::Owned([family, inner].concat()));
        }
    }
    (!is_private_xattr(name)).then_some(Cow::Borrowed(name))
}

/// Copies the attributes of a lower object, whose content may be open already, to a copy of it, but for a union's own marks.
pub(super) fn copy(from: &Obj, open: Option<&Content>, to: &OwnedFd, upper: &Upper) -> Result<()> {
    let names = open.map_or_else(|| from.xattrs(), |open| from.xattrs_of_open(open))?;
    let mut names: Vec<_> = names.into_iter().filter(|n| shown(n).is_some()).collect();
    // A change of anything else may drop the capabilities: they come last.
    names.sort_by_key(|n| n == b"security.capability");
    for name in names {
        let value = open.map_or_else(|| from.xattr(&name), |open| from.xattr_of_open(open, &name))?;
        let Some(value) = value else { continue };
        match sys::xattr::set(to, &upper.stored_xattr(&name), &value, SetMode::Any) {
            // A filesystem without this kind of attribute, or a label that only the system sets.
            Err(e) if matches!(e.errno(), Errno::OPNOTSUPP | Errno::INVAL) || is_label(&name, e.errno()) => {
                log::debug!("not copied up: {e}");
            }
            other => other?,
        }
    }
    Ok(())
}

fn is_label(name: &[u8], errno: Errno) -> bool {
    errno == Errno::PERM && (name.starts_with(b"security.") || name.starts_with(b"trusted."))
}

enum Holder {
    Lower(Obj),
    Upper(Arc<OwnedFd>),
}

impl Union {
    /// One attribute; `None` when there is none.
    ///
    /// # Errors
    /// Those of the layer that holds the object.
    pub fn getxattr(&self, node: &Node, name: &[u8]) -> Result<Option<Vec<u8>>> {
        if is_private_xattr(name) && !FAMILIES.iter().any(|f| name.starts_with(f)) {
            return Ok(None);
        }
        let name = stored(name);
        let ticket = match (name == no_caps::NAME && !self.manners.unsteady).then(|| node.no_caps.ask()) {
            Some(Err(())) => return Ok(None),
            Some(Ok(ticket)) => Some(ticket),
            None => None,
        };
        let value = match self.holder(node)? {
            Holder::Lower(obj) => obj.xattr(&name)?,
            Holder::Upper(fd) => sys::xattr::get(&*fd, &self.upper()?.stored_xattr(&name))?,
        };
        if let (Some(ticket), None) = (ticket, &value) {
            node.no_caps.note(ticket);
        }
        Ok(self.xattr_shown(&name, value))
    }

    /// The names of all attributes that users see.
    ///
    /// # Errors
    /// Those of the layer that holds the object.
    pub fn listxattr(&self, node: &Node) -> Result<Vec<Vec<u8>>> {
        let names = match self.holder(node)? {
            Holder::Lower(obj) => obj.xattrs()?,
            Holder::Upper(fd) => {
                let upper = self.upper()?;
                sys::xattr::list(&*fd)?.into_iter().filter_map(|n| upper.shown_xattr(n)).collect()
            }
        };
        Ok(names.iter().filter_map(|n| shown(n).map(Cow::into_owned)).collect())
    }

    /// Sets an attribute.
    ///
    /// # Errors
    /// `EEXIST` and `ENODATA` as `mode` asks; those of the copy-up and of the upper filesystem.
    pub fn setxattr(&self, node: &Arc<Node>, name: &[u8], value: &[u8], mode: SetMode) -> Result<()> {
        if is_private_xattr(name) && !FAMILIES.iter().any(|f| name.starts_with(f)) {
            return refused(Errno::PERM);
        }
        self.copy_up(node, Copy::Attributes)?;
        let stored = self.upper()?.stored_xattr(&stored(name));
        sys::xattr::set(&*self.hold(node)?, &stored, &self.xattr_stored(name, value), mode)?;
        node.no_caps.forget();
        node.is_changed();
        self.note_acl(node, name, true);
        Ok(())
    }

    /// Removes an attribute.
    ///
    /// # Errors
    /// `ENODATA`; those of the copy-up and of the upper filesystem.
    pub fn removexattr(&self, node: &Arc<Node>, name: &[u8]) -> Result<()> {
        self.upper()?;
        if self.getxattr(node, name)?.is_none() {
            return refused(Errno::NODATA);
        }
        self.copy_up(node, Copy::Attributes)?;
        sys::xattr::remove(&*self.hold(node)?, &self.upper()?.stored_xattr(&stored(name)))?;
        node.is_changed();
        self.note_acl(node, name, false);
        Ok(())
    }

    fn note_acl(&self, node: &Node, name: &[u8], set: bool) {
        if name == b"system.posix_acl_default"
            && let Some(handle) = node.dirs().and_then(|d| d.upper)
        {
            handle.learn(Probe::DefaultAcl, set);
        }
    }

    fn holder(&self, node: &Node) -> Result<Holder> {
        let lower = match &node.body.read().real {
            Real::Lower(lower) => Some(lower.obj.clone()),
            Real::Dir(dirs) if dirs.upper.is_none() => face(&dirs.lowers).map(|l| l.obj.clone()),
            _ => None,
        };
        match lower {
            Some(obj) => Ok(Holder::Lower(obj)),
            None => Ok(Holder::Upper(self.hold(node)?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_hidden_and_names_like_them_escaped() {
        assert_eq!(shown(b"trusted.overlay.opaque"), None);
        assert_eq!(shown(b"user.fuseoverlayfs.opaque"), None);
        assert_eq!(shown(b"user.x").unwrap(), &b"user.x"[..]);
        for name in [&b"trusted.overlay.opaque"[..], b"user.overlay.overlay.x"] {
            assert_eq!(shown(&stored(name)).unwrap(), name);
        }
    }
}
