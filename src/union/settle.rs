//! Settling: turning what only a union can read in an upper directory into plain overlay form, without changing what shows.
//!
//! An image layer knows neither redirects nor files whose content lies in another layer. Before an upper directory becomes a layer,
//! the content of such files is copied up, and a redirected directory gets everything it shows and an opaque mark.

use std::sync::Arc;

use super::Result;
use super::Union;
use super::copy_up::Copy;
use super::error::Error;
use super::lookup::Lowers;
use super::names::Held;
use super::node;
use super::node::Node;
use super::node::Real;
use crate::layer::ItemKind;
use crate::layer::dir;
use crate::layer::handle::DirHandle;
use crate::path::NameBuf;
use crate::sys;
use crate::sys::Errno;
use crate::sys::attr::Kind;
use crate::sys::xattr::SetMode;

impl Union {
    /// Settles the whole upper directory. What shows is the same at every moment, so the mount may be in use.
    ///
    /// # Errors
    /// `EROFS` without an upper; those of copying up. What was settled stays settled.
    pub fn settle(&self) -> Result<()> {
        self.upper()?;
        self.settle_dir(&self.node(node::ROOT)?)
    }

    fn settle_dir(&self, node: &Arc<Node>) -> Result<()> {
        let Some(handle) = self.dirs_of(node)?.upper else { return Ok(()) };
        let impure = dir::is_impure(&handle)?;
        for (name, kind) in upper_names(&handle)? {
            if kind != Kind::Dir && !(impure && kind == Kind::File) {
                continue;
            }
            let Some(entry) = self.lookup(node, name.as_name())? else { continue };
            let held = Held::new(self, entry);
            let child = held.node()?;
            if kind == Kind::File {
                self.copy_up(child, Copy::All)?;
                continue;
            }
            match self.dirs_of(child)?.upper {
                Some(handle) if dir::dir_marks(&handle, false)?.redirect.is_some() => {
                    self.gather_below(child, &handle)?;
                }
                _ => self.settle_dir(child)?,
            }
        }
        Ok(())
    }

    /// Copies up everything a redirected directory shows, and makes it opaque.
    fn gather_below(&self, node: &Arc<Node>, handle: &Arc<DirHandle>) -> Result<()> {
        self.copy_up_tree(node)?;
        let upper = self.upper()?;
        let fd = handle.fd()?;
        let unmarked = || Error::Refused(Errno::OPNOTSUPP);
        sys::xattr::set(&*fd, &upper.mark_name("opaque").ok_or_else(unmarked)?, b"y", SetMode::Any)?;
        sys::xattr::remove(&*fd, &upper.mark_name("redirect").ok_or_else(unmarked)?)?;
        if let Real::Dir(dirs) = &mut node.body.write().real {
            dirs.lowers = Lowers::default();
        }
        Ok(())
    }

    fn copy_up_tree(&self, node: &Arc<Node>) -> Result<()> {
        self.copy_up(node, Copy::All)?;
        let listing = self.list(node, 0)?;
        for item in &listing.entries {
            let Some(entry) = self.lookup(node, item.name.as_name())? else { continue };
            let held = Held::new(self, entry);
            let child = held.node()?;
            if child.kind == Kind::Dir {
                self.copy_up_tree(child)?;
            } else {
                self.copy_up(child, Copy::All)?;
            }
        }
        Ok(())
    }
}

fn upper_names(handle: &Arc<DirHandle>) -> Result<Vec<(NameBuf, Kind)>> {
    let mut names = Vec::new();
    dir::list(handle, &mut |item| {
        if let ItemKind::Object(_, kind) = item.what {
            names.push((item.name.to_buf(), kind));
        }
        Ok(())
    })?;
    Ok(names)
}
