//! Settling: turning what only a union can read in an upper directory into plain overlay form, without changing what shows.
//!
//! An image layer knows neither redirects nor files whose content lies in another layer. Before an upper directory becomes a layer,
//! the content of such files is copied up, and a redirected directory gets everything it shows and an opaque mark.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

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
use crate::sys::open::Access;
use crate::sys::xattr::SetMode;

/// How many want that no content is left below.
#[derive(Debug, Default)]
pub(super) struct Plain(AtomicU32);

impl Plain {
    pub(super) fn holds(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
}

/// So many files at most wait, copied, for their sync.
const BATCH: usize = 1024;
/// Up to so many files are synced one by one, more with all of their filesystem.
const FEW: usize = 16;

/// Files whose content was copied and is not on disk yet.
type Copied<'a> = Vec<Held<'a>>;

impl Union {
    /// From now on, until as many tell it otherwise, no content is left below: who reads the upper directory as it is, while the mount is in
    /// use, finds all in it. What was there before is for [`Union::settle`]; directories that are renamed still get redirects, since a
    /// program may not expect that they cannot be.
    pub fn stay_plain(&self, plain: bool) {
        let next = |n: u32| Some(if plain { n.saturating_add(1) } else { n.saturating_sub(1) });
        // Never fails: the closure always gives a number.
        let _ = self.plain.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    }

    /// Settles the whole upper directory. What shows is the same at every moment, so the mount may be in use.
    ///
    /// # Errors
    /// `EROFS` without an upper; those of copying up. What was settled stays settled.
    ///
    /// # Durability
    /// The content of a file is on disk before the file says that it is whole.
    pub fn settle(&self) -> Result<()> {
        self.upper()?;
        let mut copied = Vec::new();
        self.settle_below(self.node(node::ROOT)?, &mut copied)?;
        self.say_whole_all(&mut copied)
    }

    /// Settles a directory and all below it. Not by recursion: a container makes directories as deep as it likes.
    fn settle_below<'a>(&'a self, top: Arc<Node>, copied: &mut Copied<'a>) -> Result<()> {
        let mut todo = vec![(top, None)];
        while let Some((node, _held)) = todo.pop() {
            let Some(handle) = self.dirs_of(&node)?.upper else { continue };
            let impure = dir::is_impure(&handle)?;
            for (name, kind) in upper_names(&handle)? {
                if kind != Kind::Dir && !(impure && kind == Kind::File) {
                    continue;
                }
                let Some(entry) = self.lookup(&node, name.as_name())? else { continue };
                let held = Held::new(self, entry);
                if kind == Kind::File {
                    self.settle_file(held, copied)?;
                    continue;
                }
                let child = held.node()?.clone();
                match self.dirs_of(&child)?.upper {
                    Some(handle) if dir::dir_marks(&handle, false)?.redirect.is_some() => {
                        self.gather_below(&child, &handle)?;
                    }
                    _ => {}
                }
                // Also below what was gathered: there are directories that were renamed in it.
                todo.push((child, Some(held)));
            }
        }
        Ok(())
    }

    fn settle_file<'a>(&'a self, held: Held<'a>, copied: &mut Copied<'a>) -> Result<()> {
        let file = held.node()?;
        self.copy_up(file, Copy::Attributes)?;
        if self.copy_for_later(file)? {
            copied.push(held);
        }
        if copied.len() >= BATCH {
            self.say_whole_all(copied)?;
        }
        Ok(())
    }

    /// Copies the content of a file that lies below. The file does not say so yet: what is copied must be on disk first, which for many files
    /// together costs little more than for one. Whether there was anything to copy.
    fn copy_for_later(&self, node: &Arc<Node>) -> Result<bool> {
        let _copying = node.copy.lock();
        let Some(lower) = node.body.read().rare().data.clone() else { return Ok(false) };
        self.copies.counted(node, Some(lower.layer), || Ok(self.copy_unsynced(node, &lower, u64::MAX)?.1))?;
        Ok(true)
    }

    /// Syncs what was copied, and says that these files are whole. What was written to them meanwhile is in upper, too, and what became whole
    /// meanwhile is left.
    fn say_whole_all(&self, copied: &mut Copied<'_>) -> Result<()> {
        let upper = self.upper()?;
        let together = copied.len() > FEW;
        if together && !upper.volatile {
            sys::data::sync_fs(&*upper.root.fd()?)?;
        }
        for held in copied.drain(..) {
            let node = held.node()?;
            let _copying = node.copy.lock();
            if node.body.read().rare().data.is_none() {
                continue;
            }
            let fd = sys::open::reopen(&*self.hold(node)?, Access::ReadWrite)?;
            match together {
                _ if upper.volatile => {}
                false => sys::data::sync(&fd, true)?,
                // Before Linux 5.8 a sync of a filesystem does not tell of data that was lost.
                true => sys::writeback::failures(&fd)?,
            }
            self.say_whole(node, &fd)?;
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

    fn copy_up_tree(&self, top: &Arc<Node>) -> Result<()> {
        let mut todo = vec![(top.clone(), None)];
        while let Some((node, _held)) = todo.pop() {
            self.copy_up(&node, Copy::All)?;
            let listing = self.list(&node, 0)?;
            for item in &listing.entries {
                let Some(entry) = self.lookup(&node, item.name.as_name())? else { continue };
                let held = Held::new(self, entry);
                let child = held.node()?.clone();
                match child.kind {
                    Kind::Dir => todo.push((child, Some(held))),
                    _ => self.copy_up(&child, Copy::All)?,
                }
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
