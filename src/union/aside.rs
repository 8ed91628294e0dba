//! What a copy-up changes beside what was asked for: the change time of the copy, and the times of the directory that it came into.
//!
//! The kernel keeps attributes as long as it was allowed to, and does not know of these. A program that looks twice would see a change
//! time move under its eyes (`tar: file changed as we read it`). Of a file the kernel is told. Of a directory it would have to ask again
//! before the next name in it, and in a plain directory nothing would have changed: so the time that showed before goes on showing, as
//! long as the directory is known and nothing else changes it.

use std::sync::OnceLock;

use super::Result;
use super::Union;
use super::copy_up;
use super::error::Error;
use super::exec::Site;
use super::node::Node;
use crate::sys;
use crate::sys::attr::Stat;

type Hook = Box<dyn Fn(u64) + Send + Sync>;

/// Who wants to know of nodes whose attributes changed aside.
#[derive(Default)]
pub(super) struct Aside(OnceLock<Hook>);

/// A directory before a copy comes into it.
#[derive(Debug)]
pub(super) struct Before {
    stat: Stat,
    /// [`Node::changes`].
    changes: u32,
}

impl std::fmt::Debug for Aside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Aside")
    }
}

impl Union {
    /// From now on `hook` is called with the number of each node whose attributes changed without a request for it. It is called
    /// with locks held, and must not come back into the union. Only the first hook counts.
    pub fn on_aside(&self, hook: impl Fn(u64) + Send + Sync + 'static) {
        if self.aside.0.set(Box::new(hook)).is_err() {
            log::debug!("a second listener for changed attributes is ignored");
        }
    }

    /// What the directory `parent` looks like before a copy comes into it. With its names locked.
    pub(super) fn before_change(parent: &Node, site: &Site) -> Result<Before> {
        let changes = parent.changes();
        Ok(Before { stat: sys::attr::fstat(&*site.dir.fd()?)?, changes })
    }

    /// A copy came into the directory `parent`, which looked like `before`: it goes on looking so. With its names locked.
    pub(super) fn hide_change(&self, parent: &Node, site: &Site, Before { stat: before, changes }: &Before) {
        copy_up::restore_times(site, before);
        let after = site.dir.fd().map_err(Error::from).and_then(|fd| Ok(sys::attr::fstat(&*fd)?));
        match after {
            Ok(after) => parent.keep_ctime((before.ctime, after.ctime), *changes),
            Err(e) => {
                log::debug!("the change time of {} moves with a copy-up: {e}", site.dir.path());
                self.tell_aside(parent.ino);
            }
        }
    }

    pub(super) fn tell_aside(&self, ino: u64) {
        if let Some(hook) = self.aside.0.get() {
            hook(ino);
        }
    }
}
