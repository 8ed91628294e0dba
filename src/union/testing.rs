//! Unions in directories of a test's own.

use std::cell::RefCell;
use std::path::Path;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

use super::Options;
use super::Union;
use super::manners::Manners;
use super::node;
use super::node::Node;
use super::stack::Stack;
use super::work::Upper;
use crate::layer::Layer;
use crate::layer::dir::DirLayer;
use crate::layer::handle::FdCache;
use crate::path::Name;
use crate::sys;
use crate::sys::gate;

/// The directories `low`, `upper` and `work`, removed at the end.
pub(super) struct Area(PathBuf);

impl Area {
    pub(super) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("mica-union-{}-{n}", std::process::id()));
        drop(std::fs::remove_dir_all(&path));
        for name in ["low", "upper", "work"] {
            std::fs::create_dir_all(path.join(name)).unwrap();
        }
        sys::process::clear_umask();
        Area(path)
    }

    pub(super) fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file, with the directories above it.
    pub(super) fn put(&self, name: &str, text: &str) {
        let path = self.at(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub(super) fn upper(&self, volatile: bool) -> super::Result<Upper> {
        Upper::open(&self.at("upper"), &self.at("work"), FdCache::new(64), volatile)
    }

    pub(super) fn union(&self, manners: Manners) -> Union {
        self.union_over(self.upper(true).unwrap(), manners)
    }

    pub(super) fn union_over(&self, upper: Upper, manners: Manners) -> Union {
        let fds = FdCache::new(64);
        if manners.unsteady {
            fds.remember_nothing();
        }
        let low: Arc<dyn Layer> = Arc::new(DirLayer::open(&self.at("low"), fds).unwrap());
        let stack = Stack::new(Some(upper), vec![low]).unwrap();
        Union::new(stack, Options::default()).unwrap().with_manners(manners)
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// The node at `path`, looked up from the root.
pub(super) fn find(union: &Union, path: &str) -> Option<Arc<Node>> {
    let root = union.node(node::ROOT).unwrap();
    Path::new(path).iter().try_fold(root, |at, part| {
        let name = Name::new(part.as_encoded_bytes()).unwrap();
        Some(union.lookup(&at, name).unwrap()?.node)
    })
}

/// The whole text of the file at `path`.
pub(super) fn text(union: &Union, path: &str) -> String {
    let node = find(union, path).unwrap();
    let mut buf = vec![0; 4096];
    let n = union.read(&node, &mut buf, 0).unwrap();
    String::from_utf8(buf[..n].to_vec()).unwrap()
}

/// The changing calls that `body` makes.
pub(super) fn calls(body: impl FnOnce()) -> Vec<&'static str> {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let log = seen.clone();
    gate::with_hook(
        move |call| {
            log.borrow_mut().push(call.name);
            None
        },
        body,
    );
    seen.take()
}
