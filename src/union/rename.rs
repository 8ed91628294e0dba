//! Renaming and exchanging.

use std::sync::Arc;

use super::Result;
use super::Union;
use super::copy_up;
use super::copy_up::Copy;
use super::error::Error;
use super::error::refused;
use super::exec::Exec;
use super::lookup::Dirs;
use super::lookup::Lowers;
use super::names::Held;
use super::names::Spot;
use super::names::changed;
use super::names::check_new_name;
use super::node::Node;
use super::node::Real;
use super::plan;
use super::plan::Move;
use super::plan::UpperSeen;
use crate::layer::dir;
use crate::layer::marks::Redirect;
use crate::path::Name;
use crate::path::NameBuf;
use crate::path::RelPath;
use crate::sys;
use crate::sys::Errno;
use crate::sys::attr::Kind;

/// How often a rename starts again because somebody was faster.
const RETRIES: usize = 64;

/// What a rename was asked for beside the names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RenameFlags {
    /// Fail with `EEXIST` when the new name shows.
    pub no_replace: bool,
    /// Exchange two names that both show.
    pub exchange: bool,
}

impl Union {
    /// Renames `old_name` in `old` to `new_name` in `new`.
    ///
    /// # Errors
    /// `ENOENT`, `EEXIST`, `ENOTEMPTY`, `EISDIR`, `ENOTDIR`, `EROFS`; `EXDEV` for a directory with a lower part when redirects are
    /// off (then `mv` copies); those of the copy-up and of upper.
    pub fn rename(
        &self,
        old: &Arc<Node>,
        old_name: Name<'_>,
        new: &Arc<Node>,
        new_name: Name<'_>,
        flags: RenameFlags,
    ) -> Result<()> {
        check_new_name(new_name)?;
        self.upper()?;
        for _ in 0..RETRIES {
            match self.try_rename((old, old_name), (new, new_name), flags) {
                Err(Error::Refused(Errno::AGAIN)) => {}
                other => return other,
            }
        }
        refused(Errno::BUSY)
    }

    /// One try; `EAGAIN` when what was found before the locks is not there any more.
    fn try_rename(
        &self,
        (old, old_name): (&Arc<Node>, Name<'_>),
        (new, new_name): (&Arc<Node>, Name<'_>),
        flags: RenameFlags,
    ) -> Result<()> {
        let held = Held::new(self, self.lookup(old, old_name)?.ok_or(Error::Refused(Errno::NOENT))?);
        let first = held.node()?.clone();
        let second = self.lookup(new, new_name)?.map(|entry| Held::new(self, entry));
        let second = second.as_ref().map(|held| held.node().cloned()).transpose()?;
        self.check_rename(&first, second.as_ref(), flags)?;
        if second.as_ref().is_some_and(|s| Arc::ptr_eq(s, &first)) {
            // Two names of one file: POSIX says that nothing happens.
            return Ok(());
        }
        self.copy_up(&first, Copy::All)?;
        self.copy_up(old, Copy::All)?;
        self.copy_up(new, Copy::All)?;
        if let Some(second) = second.as_ref().filter(|_| flags.exchange) {
            self.copy_up(second, Copy::All)?;
        }
        // As the kernel does it: while two directories are locked, no third party moves one below the other.
        let _moving = (!Arc::ptr_eq(old, new)).then(|| self.moving.lock());
        if is_at_or_above(&first, new) || (flags.exchange && second.as_ref().is_some_and(|s| is_at_or_above(s, old))) {
            return refused(Errno::INVAL);
        }
        if second.as_ref().is_some_and(|s| is_at_or_above(s, old)) {
            return refused(Errno::NOTEMPTY);
        }
        let _names = lock_two(old, new);
        let (mut from, mut to) = (self.spot(old, old_name)?, self.spot(new, new_name)?);
        self.still_same(&from, old, old_name, Some(&first))?;
        self.still_same(&to, new, new_name, second.as_ref())?;
        self.bring_alias(&first, &mut from, old)?;
        if let Some(second) = second.as_ref().filter(|_| flags.exchange) {
            self.bring_alias(second, &mut to, new)?;
        }
        match (&second, flags.exchange) {
            (Some(second), true) => self.exchange_at((old, &first, &from), (new, second, &to))?,
            _ => self.move_to((old, &first, &from), (new, second.as_ref(), &to))?,
        }
        changed(old);
        changed(new);
        Ok(())
    }

    /// A lower name of a file that was copied up under another of its names is nothing in upper yet: gives the copy this
    /// name, too.
    fn bring_alias(&self, node: &Arc<Node>, spot: &mut Spot, parent: &Arc<Node>) -> Result<()> {
        let in_lower = spot.target.as_ref().is_some_and(|t| t.upper.is_none());
        if node.kind == Kind::Dir || !in_lower {
            return Ok(());
        }
        let fd = self.hold(node)?;
        if sys::attr::fstat(&*fd)?.nlink == 0 {
            // No name can be given to what has none left: let the caller copy it.
            return refused(Errno::XDEV);
        }
        self.link_to(&fd, spot)?;
        node.body.write().change(|rare| rare.nlink_shift -= 1);
        let name = spot.site.name.clone();
        *spot = self.spot(parent, name.as_name())?;
        Ok(())
    }

    fn check_rename(&self, first: &Node, second: Option<&Arc<Node>>, flags: RenameFlags) -> Result<()> {
        match (second, flags.exchange) {
            (None, true) => return refused(Errno::NOENT),
            (Some(_), false) if flags.no_replace => return refused(Errno::EXIST),
            (Some(s), false) if s.kind == Kind::Dir && first.kind != Kind::Dir => return refused(Errno::ISDIR),
            (Some(s), false) if s.kind != Kind::Dir && first.kind == Kind::Dir => return refused(Errno::NOTDIR),
            _ => {}
        }
        let replaced = second.filter(|_| flags.exchange).map(|s| &**s);
        for dir in [Some(first), replaced].into_iter().flatten().filter(|n| n.kind == Kind::Dir) {
            let merged = dir.dirs().is_some_and(|d| !d.lowers.is_empty());
            if merged && !(self.options().redirect_dir && self.can_redirect()) {
                return refused(Errno::XDEV);
            }
        }
        Ok(())
    }

    /// A redirect needs an xattr, and a whiteout that comes into being with the rename: an AUFS mark beside the old name, set
    /// before, would cut off the directory's lower part at once.
    fn can_redirect(&self) -> bool {
        self.stack()
            .upper
            .as_ref()
            .is_some_and(|u| u.abilities.marks.is_some() && u.abilities.rename_whiteout && u.abilities.exchange)
    }

    /// What was found before the locks must still be there.
    fn still_same(&self, spot: &Spot, parent: &Arc<Node>, name: Name<'_>, node: Option<&Arc<Node>>) -> Result<()> {
        let now = match spot.target {
            None => None,
            Some(_) => self.lookup_locked(parent, name)?,
        };
        let now = now.map(|entry| Held::new(self, entry));
        match (now.as_ref().map(Held::node).transpose()?, node) {
            (None, None) => Ok(()),
            (Some(a), Some(b)) if Arc::ptr_eq(a, b) => Ok(()),
            // Somebody was faster; the kernel's own locks make this rare. The caller sees the state of before.
            _ => refused(Errno::AGAIN),
        }
    }

    fn move_to(
        &self,
        (old, node, from): (&Arc<Node>, &Arc<Node>, &Spot),
        (new, replaced, to): (&Arc<Node>, Option<&Arc<Node>>, &Spot),
    ) -> Result<()> {
        let upper = self.upper()?;
        let inside = replaced.filter(|r| r.kind == Kind::Dir).map(|r| r.names()).transpose()?;
        let inside = inside.map(|names| names.write());
        if let Some(replaced) = replaced {
            if replaced.kind == Kind::Dir && !self.shows_nothing(&self.dirs_of(replaced)?)? {
                return refused(Errno::NOTEMPTY);
            }
            self.detach(replaced)?;
        }
        let (moved, redirect) = self.moved(node, old, from, Arc::ptr_eq(old, new))?;
        if moved.redirect || (node.kind != Kind::Dir && dir::is_impure(&from.site.dir)?) {
            copy_up::set_impure(&to.site.dir, upper)?;
        }
        // Between the rename itself and the note of the new place, the node is found by a descriptor, not by its name.
        self.detach(node)?;
        let mut exec = Exec::new(upper, Some(from.site.clone()), Some(to.site.clone()));
        exec.redirects = [redirect, None];
        let done = exec.run(&plan::rename(from.seen, to.seen, moved, upper.abilities));
        if let (Err(_), Some(replaced)) = (&done, replaced) {
            self.reattach(replaced);
            if to.seen.upper == (UpperSeen::Dir { empty: false }) {
                self.now_opaque(replaced);
            }
        }
        if done.is_err() {
            self.reattach(node);
        }
        done?;
        if let Some(replaced) = replaced {
            self.lost_name(replaced, new, to.site.name.as_name(), to.seen.upper);
        }
        drop(inside);
        self.placed(node, new, to, moved, to.seen.below);
        Ok(())
    }

    /// A directory was made opaque, and perhaps emptied, to be replaced, and then was not: nothing lies below it any more.
    fn now_opaque(&self, node: &Node) {
        let mut body = node.body.write();
        if let Real::Dir(Dirs { upper: Some(handle), lowers }) = &mut body.real {
            self.table().note_copy(handle.id(), node.ino);
            *lowers = Lowers::default();
        }
    }

    fn exchange_at(
        &self,
        (old, a, from): (&Arc<Node>, &Arc<Node>, &Spot),
        (new, b, to): (&Arc<Node>, &Arc<Node>, &Spot),
    ) -> Result<()> {
        let upper = self.upper()?;
        if !upper.abilities.exchange {
            return refused(Errno::INVAL);
        }
        let same = Arc::ptr_eq(old, new);
        let (first, second) = (self.moved(a, old, from, same)?, self.moved(b, new, to, same)?);
        let redirect = first.0.redirect || second.0.redirect;
        if redirect || dir::is_impure(&from.site.dir)? || dir::is_impure(&to.site.dir)? {
            copy_up::set_impure(&from.site.dir, upper)?;
            copy_up::set_impure(&to.site.dir, upper)?;
        }
        let mut exec = Exec::new(upper, Some(from.site.clone()), Some(to.site.clone()));
        exec.redirects = [first.1, second.1];
        self.detach(a)?;
        self.detach(b)?;
        let done = exec.run(&plan::exchange((from.seen, first.0), (to.seen, second.0)));
        if done.is_err() {
            self.reattach(a);
            self.reattach(b);
        }
        done?;
        self.placed(a, new, to, first.0, to.seen.below);
        self.placed(b, old, from, second.0, from.seen.below);
        Ok(())
    }

    /// What a move of `node` needs, and the value of its redirect.
    fn moved(&self, node: &Node, parent: &Arc<Node>, at: &Spot, same_parent: bool) -> Result<(Move, Option<Vec<u8>>)> {
        let dir = node.kind == Kind::Dir;
        let Some(Dirs { upper: Some(handle), lowers }) = node.dirs().filter(|d| !d.lowers.is_empty()) else {
            return Ok((Move { dir, redirect: false }, None));
        };
        debug_assert!(!lowers.is_empty());
        let name = match dir::dir_marks(&handle, false)?.redirect {
            // It lies there already, from the root of the layers: moving the directory changes nothing of it.
            Some(Redirect::Path(path)) => {
                return Ok((Move { dir, redirect: true }, Some(Redirect::Path(path).print())));
            }
            Some(Redirect::Sibling(name)) => name,
            None => at.site.name.clone(),
        };
        let redirect =
            if same_parent { Redirect::Sibling(name) } else { Redirect::Path(self.lower_path(parent, name)?) };
        let value = redirect.print();
        if value.len() > Redirect::MAX {
            return refused(Errno::XDEV);
        }
        Ok((Move { dir, redirect: true }, Some(value)))
    }

    /// The path of `name` in `parent` from the root of the lower layers, through the redirects of the directories above.
    fn lower_path(&self, parent: &Arc<Node>, name: NameBuf) -> Result<RelPath> {
        let mut parts = vec![name];
        let mut at = parent.clone();
        let mut base = RelPath::root();
        loop {
            let place = at.body.read().place.clone();
            let Some((above, mut own)) = place else { break };
            if let Some(handle) = at.dirs().and_then(|d| d.upper) {
                match dir::dir_marks(&handle, false)?.redirect {
                    Some(Redirect::Path(path)) => {
                        base = path;
                        break;
                    }
                    Some(Redirect::Sibling(name)) => own = name,
                    None => {}
                }
            }
            parts.push(own);
            at = above;
        }
        Ok(parts.iter().rev().fold(base, |path, part| path.child(part.as_name())))
    }

    /// Notes a node's new place.
    fn placed(&self, node: &Arc<Node>, parent: &Arc<Node>, at: &Spot, moved: Move, over_lower: bool) {
        let mut body = node.body.write();
        body.place = Some((parent.clone(), at.site.name.clone()));
        node.mark_fresh();
        match &mut body.real {
            Real::Dir(dirs) => {
                if let Some(handle) = &dirs.upper {
                    handle.moved(&at.site.dir, at.site.name.as_name());
                }
                if !moved.redirect && over_lower {
                    dirs.lowers = Lowers::default();
                }
            }
            Real::Upper { held, .. } => *held = None,
            Real::Lower(_) => {}
        }
    }
}

/// Whether `dir` is `node` or an ancestor of it.
fn is_at_or_above(dir: &Arc<Node>, node: &Arc<Node>) -> bool {
    let mut at = Some(node.clone());
    while let Some(node) = at {
        if Arc::ptr_eq(&node, dir) {
            return true;
        }
        at = node.body.read().place.as_ref().map(|(parent, _)| parent.clone());
    }
    false
}

type NamesGuard<'a> = parking_lot::RwLockWriteGuard<'a, ()>;

/// Locks the names of two directories for writing: an ancestor first, else the one with the smaller number.
fn lock_two<'a>(a: &'a Arc<Node>, b: &'a Arc<Node>) -> Result<(NamesGuard<'a>, Option<NamesGuard<'a>>)> {
    if Arc::ptr_eq(a, b) {
        return Ok((a.names()?.write(), None));
    }
    let a_first = is_at_or_above(a, b) || (!is_at_or_above(b, a) && a.ino < b.ino);
    let (first, second) = if a_first { (a, b) } else { (b, a) };
    let guard = first.names()?.write();
    Ok((guard, Some(second.names()?.write())))
}
