use std::io::Read;
use std::process::Command;

use tar::EntryType;

use super::*;
use crate::digest::Digest;
use crate::layer::Layer;
use crate::layer::Seen;
use crate::layer::pack::OBJECT_MIN;
use crate::layer::pack::PackLayer;
use crate::layer::pack::testing::Scratch;
use crate::layer::pack::testing::content;
use crate::layer::pack::testing::find;
use crate::layer::pack::testing::names;
use crate::layer::pack::testing::seen;
use crate::sys::attr::Kind;
use crate::sys::attr::Time;

/// Builds tars block by block, right and wrong ones.
#[derive(Clone, Default)]
struct Builder {
    bytes: Vec<u8>,
}

impl Builder {
    /// An entry with exactly these fields.
    fn raw(mut self, name: &[u8], kind: u8, link: &[u8], size_says: u64, data: &[u8]) -> Self {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(EntryType::new(kind));
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_600_000_000);
        header.set_size(size_says);
        let old = header.as_old_mut();
        old.name[..name.len()].copy_from_slice(name);
        old.linkname[..link.len()].copy_from_slice(link);
        header.set_cksum();
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(data);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self
    }

    fn file(self, name: &str, data: &[u8]) -> Self {
        self.raw(name.as_bytes(), b'0', b"", data.len() as u64, data)
    }

    fn dir(self, name: &str) -> Self {
        self.raw(name.as_bytes(), b'5', b"", 0, b"")
    }

    fn symlink(self, name: &str, text: &str) -> Self {
        self.raw(name.as_bytes(), b'2', text.as_bytes(), 0, b"")
    }

    fn link(self, name: &str, target: &str) -> Self {
        self.raw(name.as_bytes(), b'1', target.as_bytes(), 0, b"")
    }

    fn pax(self, records: &[(&[u8], &[u8])]) -> Self {
        let mut data = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut len = rest + 1;
            while len != rest + len.to_string().len() {
                len = rest + len.to_string().len();
            }
            data.extend_from_slice(format!("{len} ").as_bytes());
            data.extend_from_slice(key);
            data.push(b'=');
            data.extend_from_slice(value);
            data.push(b'\n');
        }
        self.raw(b"pax", b'x', b"", data.len() as u64, &data)
    }

    fn end(mut self) -> Vec<u8> {
        self.bytes.extend_from_slice(&[0; 1024]);
        self.bytes
    }
}

fn tar() -> Builder {
    Builder::default()
}

fn import(scratch: &Scratch, bytes: &[u8]) -> Result<PackLayer, Error> {
    let store = scratch.store();
    let imported = import_layer(bytes, &store, &ImportOptions::default())?;
    assert_eq!(imported.diff_id, Digest::of(bytes));
    assert_eq!((imported.blob_digest, imported.blob_size), (Some(imported.diff_id), bytes.len() as u64));
    let layer = store.open(&imported.diff_id).unwrap();
    let mut back = Vec::new();
    layer.tar_stream().read_to_end(&mut back).unwrap();
    assert!(back == bytes, "the tar that comes back is another one");
    store.verify(&imported.diff_id, &mut |damage| panic!("{damage}")).unwrap();
    Ok(layer)
}

/// Imports what must work and gives the names that it makes.
fn names_of(tar: Builder) -> Vec<String> {
    names(&import(&Scratch::new(), &tar.end()).unwrap())
}

#[test]
fn a_tree_with_everything_comes_back() {
    let scratch = Scratch::new();
    let big: Vec<u8> = (0..3 * OBJECT_MIN as u32).flat_map(u32::to_le_bytes).collect();
    let bytes = tar()
        .dir("./")
        .dir("./d/")
        .pax(&[
            (b"mtime", b"-1.5"),
            (b"SCHILY.xattr.security.capability", b"\x01\0\0\x02\n\n=\n\0"),
            (b"uid", b"4000000000"),
        ])
        .file("./d/small", b"small")
        .file("d/big", &big)
        .file("d/again", &big)
        .link("d/hard", "./d/small")
        .symlink("s", "/etc/x")
        .raw(b"fifo", b'6', b"", 0, b"")
        .end();
    let layer = import(&scratch, &bytes).unwrap();
    assert_eq!(names(&layer), ["d/", "d/again", "d/big", "d/hard", "d/small", "fifo", "s"]);
    let small = find(&layer, "d/small");
    let stat = small.stat().unwrap();
    assert_eq!((stat.uid, stat.nlink, stat.size, stat.mode), (4_000_000_000, 2, 5, 0o100_644));
    assert_eq!(stat.mtime, Time { secs: -2, nanos: 500_000_000 });
    assert_eq!(small.xattr(b"security.capability").unwrap().unwrap(), b"\x01\0\0\x02\n\n=\n\0");
    assert_eq!(find(&layer, "d/hard").id(), small.id());
    assert_eq!(content(&layer, "d/small"), b"small");
    assert!(content(&layer, "d/big") == big);
    assert!(find(&layer, "d/big").open().unwrap().whole_file().is_some());
    assert_eq!(find(&layer, "s").readlink().unwrap(), b"/etc/x");
    assert_eq!(find(&layer, "fifo").kind(), Kind::Fifo);
    assert_eq!(find(&layer, "d").stat().unwrap().nlink, 2);
    assert_eq!(find(&layer, "").stat().unwrap().nlink, 3);
    let info = scratch.store().info(&layer.diff_id()).unwrap();
    assert_eq!((info.files, info.dirs, info.entries), (3, 2, 7));
    assert_eq!(scratch.store().objects_of(&layer.diff_id()).unwrap().len(), 1);
    assert_eq!(scratch.leftovers(), 2);
}
