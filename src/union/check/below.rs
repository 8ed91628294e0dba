//! What only the layers below can tell of an upper directory.
//!
//! Nothing is repaired here: given other layers than those the upper was made over, a whiteout would seem to hide nothing.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use super::Finding;
use super::Problem;
use super::names;
use crate::layer::Layer;
use crate::layer::dir;
use crate::layer::dir::DirLayer;
use crate::layer::handle::DirHandle;
use crate::layer::handle::FdCache;
use crate::layer::marks::AufsName;
use crate::layer::marks::Family;
use crate::path::NameBuf;
use crate::path::RelPath;
use crate::sys;
use crate::sys::Errno;
use crate::sys::attr::Kind;
use crate::union::copy_up;
use crate::union::error::Error;
use crate::union::error::Result;
use crate::union::lookup;
use crate::union::lookup::Dirs;
use crate::union::lookup::InUpper;
use crate::union::stack::Stack;

/// Directories that are kept open.
const OPEN_DIRS: usize = 64;

/// Compares an upper directory, held by `upper`, with the layers it lies on, the topmost first; adds what is wrong and was not
/// found yet.
///
/// # Errors
/// Those of opening and reading the layers.
pub(super) fn compare(upper: &OwnedFd, lowers: &[PathBuf], found: &mut Vec<Finding>) -> Result<()> {
    let fds = FdCache::new(OPEN_DIRS);
    let root = &DirHandle::root(sys::open::duplicate(upper)?, fds.clone())?;
    let layers = lowers.iter().map(|path| Ok(Arc::new(DirLayer::open(path, fds.clone())?) as Arc<dyn Layer>));
    let stack = Stack::new(None, layers.collect::<Result<_>>()?)?;
    let merged = lookup::merge(Some(root), &stack.roots)?;
    let mut below = Below { stack, found, todo: Vec::new() };
    below.todo.push((RelPath::root(), Dirs { upper: Some(root.clone()), lowers: merged }));
    while let Some((path, dirs)) = below.todo.pop() {
        let Some(upper) = dirs.upper.clone() else { continue };
        for raw in names(&*upper.fd()?)? {
            below.judge(&path, &upper, &dirs, &raw)?;
        }
    }
    Ok(())
}

struct Below<'a> {
    stack: Stack,
    found: &'a mut Vec<Finding>,
    todo: Vec<(RelPath, Dirs)>,
}

impl Below<'_> {
    fn judge(&mut self, path: &RelPath, upper: &Arc<DirHandle>, dirs: &Dirs, raw: &NameBuf) -> Result<()> {
        let name = match AufsName::parse(raw.as_name()) {
            AufsName::Plain(name) | AufsName::Whiteout(name) => name,
            AufsName::Opaque | AufsName::Reserved => return Ok(()),
        };
        let is_mark = name != raw.as_name();
        let at = path.child(raw.as_name());
        let walk = |dirs: &Dirs| lookup::walk(dirs, &self.stack.roots, name, &mut ());
        match dir::look(upper, name)? {
            dir::Found::Whiteout(_) if walk(&Dirs { upper: None, lowers: dirs.lowers.clone() })?.is_none() => {
                self.add(at, Problem::StrayWhiteout);
            }
            dir::Found::Dir(handle, _, beside) if !is_mark => match walk(dirs) {
                Ok(Some(target)) => {
                    let Some(InUpper::Dir(inner)) = target.upper else { return Ok(()) };
                    if target.lowers.is_empty() && dir::dir_marks(&handle, beside)?.redirect.is_some() {
                        self.add(at.clone(), Problem::LostRedirect);
                    }
                    self.todo.push((at, Dirs { upper: Some(inner), lowers: target.lowers.into() }));
                }
                Ok(None) => {}
                Err(e) if e.errno() == Errno::LOOP => self.add(at, Problem::LostRedirect),
                Err(e) => return Err(e),
            },
            dir::Found::Other(stat) if !is_mark => {
                let lost = match walk(dirs) {
                    Err(Error::Layer(crate::layer::Error::Damaged { .. })) => true,
                    Err(e) if e.errno() == Errno::LOOP => true,
                    result => result.map(|_| false)?,
                };
                if lost && stat.kind() == Kind::File {
                    self.add(at.clone(), Problem::NoContent);
                }
                self.origin(at, upper, raw)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// The record of where a copy was made from, which keeps its number.
    fn origin(&mut self, at: RelPath, upper: &Arc<DirHandle>, name: &NameBuf) -> Result<()> {
        let fd = sys::open::path_at(&*upper.fd()?, name.as_name())?;
        for family in [Family::Trusted, Family::User] {
            let record = sys::xattr::get(&fd, &family.name(copy_up::ORIGIN))?;
            if record.is_some_and(|record| self.stack.origin_ino(&record).is_none()) {
                self.add(at.clone(), Problem::LostOrigin);
            }
        }
        Ok(())
    }

    fn add(&mut self, path: RelPath, problem: Problem) {
        let known = |f: &Finding| {
            let same = f.problem == problem || (f.problem, problem) == (Problem::IdleWhiteout, Problem::StrayWhiteout);
            same && f.path == path
        };
        if !self.found.iter().any(known) {
            self.found.push(Finding { path, problem, repaired: Ok(false) });
        }
    }
}
