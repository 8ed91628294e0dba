//! What a copy-up changes beside what was asked for: the change time of the copy, and of the directory that it came into.
//!
//! The kernel keeps attributes as long as it was allowed to, and does not know of these. A program that looks twice would see a change
//! time move under its eyes (`tar: file changed as we read it`).

use std::sync::OnceLock;

use super::Union;

type Hook = Box<dyn Fn(u64) + Send + Sync>;

/// Who wants to know of nodes whose attributes changed aside.
#[derive(Default)]
pub(super) struct Aside(OnceLock<Hook>);

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

    pub(super) fn tell_aside(&self, ino: u64) {
        if let Some(hook) = self.aside.0.get() {
            hook(ino);
        }
    }
}
