//! What the tests of packs and of unpacking share.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use super::PackStore;
use crate::digest::hex_of;
use crate::layer::Layer;
use crate::layer::Obj;
use crate::layer::Seen;
use crate::path::RelPath;

/// A directory that goes with the value.
#[derive(Debug)]
pub(crate) struct Scratch(pub PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        let dir = std::env::temp_dir().join(format!("mica-test-{}", hex_of(&crate::env::random::<8>().unwrap())));
        std::fs::create_dir(&dir).unwrap();
        Self(dir)
    }

    pub(crate) fn fd(&self) -> OwnedFd {
        crate::sys::open::dir_path(&self.0).unwrap()
    }

    pub(crate) fn store(&self) -> PackStore {
        PackStore::open_at(&self.fd()).unwrap()
    }

    /// How many regular files there are, without what is in `objects/`.
    pub(crate) fn leftovers(&self) -> usize {
        ["tmp", "packs"].iter().map(|dir| std::fs::read_dir(self.0.join(dir)).unwrap().count()).sum()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What a layer says about a path, component by component; a whiteout or a miss on the way ends it.
pub(crate) fn seen(layer: &dyn Layer, path: &str) -> Seen {
    let mut object = layer.root().unwrap();
    let mut last = Seen::Found(object.clone(), object.stat().unwrap());
    for name in RelPath::parse(path.as_bytes()).unwrap().components() {
        last = object.lookup(name).unwrap();
        match &last {
            Seen::Found(found, _) => object = found.clone(),
            _ => return last,
        }
    }
    last
}

/// The object at a path.
pub(crate) fn find(layer: &dyn Layer, path: &str) -> Obj {
    match seen(layer, path) {
        Seen::Found(object, _) => object,
        other => panic!("{path}: {other:?}"),
    }
}

/// The content of the regular file at a path.
pub(crate) fn content(layer: &dyn Layer, path: &str) -> Vec<u8> {
    let content = find(layer, path).open().unwrap();
    let mut bytes = vec![0; usize::try_from(content.len()).unwrap()];
    assert_eq!(content.read_at(&mut bytes, 0).unwrap(), bytes.len());
    bytes
}

/// All names of the layer, each with `/` behind a directory, `!` behind an opaque one, and in front of a whiteout; sorted.
pub(crate) fn names(layer: &dyn Layer) -> Vec<String> {
    fn walk(object: &Obj, prefix: &str, out: &mut Vec<String>) {
        let mut below = Vec::new();
        object
            .list(&mut |item| {
                let path = format!("{prefix}{}", item.name);
                match item.what {
                    crate::layer::ItemKind::Whiteout => out.push(format!("!{path}")),
                    crate::layer::ItemKind::Object(..) => match object.lookup(item.name)? {
                        Seen::Found(child, stat) if stat.kind() == crate::sys::attr::Kind::Dir => {
                            let mark = if child.marks()?.opaque { "!" } else { "" };
                            out.push(format!("{path}/{mark}"));
                            below.push((child, format!("{path}/")));
                        }
                        Seen::Found(..) => out.push(path),
                        other => panic!("{path}: {other:?}"),
                    },
                }
                Ok(())
            })
            .unwrap();
        below.iter().for_each(|(child, prefix)| walk(child, prefix, out));
    }
    let mut out = Vec::new();
    walk(&layer.root().unwrap(), "", &mut out);
    out.sort();
    out
}
