use std::io::Read;
use std::process::Command;

use super::*;
use crate::digest::Digest;
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
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_600_000_000);
        header.set_size(size_says);
        let old = header.as_old_mut();
        old.name[..name.len()].copy_from_slice(name);
        old.linkname[..link.len()].copy_from_slice(link);
        header.as_ustar_mut().unwrap().typeflag = [kind];
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

#[test]
fn whiteouts_are_about_the_layers_below() {
    // In whatever order they come, and also for what the layer itself has.
    for swap in [false, true] {
        let (a, b) = (tar().file(".wh.f", b"").file("d/.wh..wh..opq", b""), tar().file("f", b"1").file("d/x", b"2"));
        let (a, b) = if swap { (b, a) } else { (a, b) };
        let bytes = Builder { bytes: [a.bytes, b.bytes].concat() }.file("gone/.wh.x", b"data").file(".wh.y", b"").end();
        let layer = import(&Scratch::new(), &bytes).unwrap();
        assert_eq!(names(&layer), ["!gone/x", "!y", "d/!", "d/x", "f", "gone/"]);
        assert!(find(&layer, "f").marks().unwrap().opaque);
        assert!(matches!(seen(&layer, "y"), Seen::Whiteout));
        assert!(matches!(seen(&layer, "z"), Seen::Miss));
    }
    assert_eq!(names_of(tar().dir("d").file(".wh.d", b"")), ["d/!"]);
    assert_eq!(names_of(tar().file(".wh..wh..opq", b"")), [""; 0]);
    // A name that begins with a dot has a whiteout too.
    assert_eq!(names_of(tar().file(".wh..opq", b"")), ["!.opq"]);
    // AUFS's bookkeeping is skipped.
    assert_eq!(names_of(tar().dir(".wh..wh.plnk").file(".wh..wh.plnk/1.2", b"x").file(".wh..wh.aufs", b"")), [""; 0]);
    // The kernel's whiteout.
    assert_eq!(names_of(tar().raw(b"w", b'3', b"", 0, b"")), ["!w"]);
}

#[test]
fn entries_are_taken_in_order() {
    let cases: [(&str, Builder, &[&str]); 9] = [
        ("a directory over a directory keeps what is in it", tar().dir("d").file("d/f", b"").dir("d/"), &["d/", "d/f"]),
        ("a file over a directory", tar().file("d/e/f", b"").file("d", b""), &["d"]),
        ("a directory over a file", tar().file("d", b"").dir("d").file("d/f", b""), &["d/", "d/f"]),
        ("a directory over a symlink", tar().symlink("d", "/e").dir("d").file("d/f", b""), &["d/", "d/f"]),
        (
            "through a symlink",
            tar().dir("usr/bin").symlink("bin", "usr/bin").file("bin/x", b""),
            &["bin", "usr/", "usr/bin/", "usr/bin/x"],
        ),
        (
            "through a dangling one",
            tar().symlink("bin", "/usr/bin").file("bin/x", b""),
            &["bin", "usr/", "usr/bin/", "usr/bin/x"],
        ),
        ("out of the root", tar().symlink("d/up", "../../../../x").file("d/up/f", b""), &["d/", "d/up", "x/", "x/f"]),
        ("a whiteout through a symlink", tar().dir("b").symlink("a", "b").file("a/.wh.c", b""), &["!b/c", "a", "b/"]),
        (
            "a symlink that has become another",
            tar().dir("x").dir("y").symlink("l", "x").file("l/1", b"").symlink("l", "y").file("l/2", b""),
            &["l", "x/", "x/1", "y/", "y/2"],
        ),
    ];
    for (what, tar, expected) in cases {
        assert_eq!(names_of(tar), expected, "{what}");
    }
    // A hardlink means what is there at that moment.
    let bytes = tar().file("a", b"one").link("b", "/a").file("a", b"two").link("c", "a").link("c", "c").end();
    let layer = import(&Scratch::new(), &bytes).unwrap();
    assert_eq!([content(&layer, "a"), content(&layer, "b"), content(&layer, "c")], [b"two", b"one", b"two"]);
    assert_eq!(find(&layer, "b").stat().unwrap().nlink, 1);
    assert_eq!(find(&layer, "c").id(), find(&layer, "a").id());
}

#[test]
fn odd_names_stay_inside() {
    assert_eq!(
        names_of(tar().file("/abs", b"").file("//a/./b//c", b"").dir("/").dir(".")),
        ["a/", "a/b/", "a/b/c", "abs"]
    );
    assert_eq!(names_of(tar().raw(b"old/", 0, b"", 0, b"")), ["old/"]);
    assert_eq!(names_of(tar().raw(b"\xff\xfe", b'0', b"", 0, b"")), ["\\xff\\xfe"]);
    // No data after a directory, whatever it says; so Go reads it.
    assert_eq!(names_of(tar().raw(b"d", b'5', b"", 512, b"").file("f", b"")), ["d/", "f"]);
    // Sizes of extended headers go before those of the header (CVE-2025-62518).
    let inner = tar().file("smuggled", b"").bytes;
    assert_eq!(names_of(tar().pax(&[(b"size", b"512")]).raw(b"f", b'0', b"", 0, &inner)), ["f"]);
}

#[test]
fn implied_directories_say_so() {
    let layer = import(&Scratch::new(), &tar().file("a/b", b"").dir("c").end()).unwrap();
    let stat = find(&layer, "a").stat().unwrap();
    assert_eq!((stat.mode, stat.uid, stat.mtime), (0o040_755, 0, Time::default()));
}

#[test]
fn a_unions_own_xattrs_are_not_shown() {
    let marks: &[(&[u8], &[u8])] = &[
        (b"SCHILY.xattr.trusted.overlay.opaque", b"y"),
        (b"SCHILY.xattr.user.overlay.redirect", b"/etc"),
        (b"SCHILY.xattr.user.fuseoverlayfs.opaque", b"y"),
        (b"SCHILY.xattr.user.b", b""),
        (b"SCHILY.xattr.user.a", b"1"),
    ];
    let layer = import(&Scratch::new(), &tar().pax(marks).dir("d").end()).unwrap();
    let dir = find(&layer, "d");
    assert_eq!(dir.xattrs().unwrap(), [b"user.a".to_vec(), b"user.b".to_vec()]);
    assert_eq!(dir.xattr(b"trusted.overlay.opaque").unwrap(), None);
    assert!(!dir.marks().unwrap().opaque);
}

#[test]
fn sparse_files_of_all_formats() {
    let data = [b"A".repeat(512), b"B".repeat(100)].concat();
    let mut old = tar().raw(b"old", b'S', b"", 612, &data);
    // The map of the old format lies in the header itself.
    let header: &mut [u8] = &mut old.bytes[..512];
    header[257..265].copy_from_slice(b"ustar  \0");
    header[386..434].copy_from_slice(b"00000001000\x0000000001000\x0000000010000\x0000000000144\x00");
    header[483..495].copy_from_slice(b"00000020000\0");
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|&b| u32::from(b)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let real: (&[u8], &[u8]) = (b"GNU.sparse.realsize", b"8192");
    let map = [&b"2\n512\n512\n4096\n100\n"[..], &[0; 493], &data].concat();
    let bytes = Builder::default()
        .pax(&[
            (b"GNU.sparse.size", b"8192"),
            (b"GNU.sparse.offset", b"512"),
            (b"GNU.sparse.numbytes", b"512"),
            (b"GNU.sparse.offset", b"4096"),
            (b"GNU.sparse.numbytes", b"100"),
        ])
        .file("v00", &data)
        .pax(&[(b"GNU.sparse.map", b"512,512,4096,100"), real, (b"GNU.sparse.name", b"v01")])
        .file("other", &data)
        .pax(&[(b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.name", b"v10"), real])
        .file("other", &map);
    let layer = import(&Scratch::new(), &Builder { bytes: [old.bytes, bytes.bytes].concat() }.end()).unwrap();
    assert_eq!(names(&layer), ["old", "v00", "v01", "v10"]);
    let mut expected = vec![0; 8192];
    expected[512..1024].fill(b'A');
    expected[4096..4196].fill(b'B');
    for name in ["old", "v00", "v01", "v10"] {
        assert!(content(&layer, name) == expected, "{name}");
        assert_eq!(find(&layer, name).stat().unwrap().blocks, 2, "{name}");
        assert_eq!(find(&layer, name).open().unwrap().seek_data(1024).unwrap(), Some(4096));
    }
}

#[test]
fn evil_tars_are_refused() {
    let long = b"x".repeat(256);
    let deep = b"d/".repeat(2040);
    let huge = b"9".repeat(30);
    let cases: Vec<(&str, Builder)> = vec![
        ("dots in a name", tar().file("a/../../x", b"")),
        ("dots alone", tar().dir("..")),
        ("dots in a hardlink", tar().file("a", b"").link("b", "../a")),
        ("NUL in a name", tar().pax(&[(b"path", b"a\0b")]).file("x", b"")),
        ("NUL in a symlink", tar().pax(&[(b"linkpath", b"a\0b")]).symlink("x", "y")),
        ("an empty name", tar().file("", b"")),
        ("an empty symlink", tar().symlink("s", "")),
        ("a long component", tar().pax(&[(b"path", &long)]).file("x", b"")),
        ("a deep path", tar().pax(&[(b"path", &[&deep[..], &deep].concat())]).file("x", b"")),
        ("the root as a file", tar().file(".", b"")),
        ("the root as a symlink", tar().symlink("/.", "/etc")),
        ("the root as a hardlink", tar().file("a", b"").link("./", "a")),
        ("a file as a parent", tar().file("a", b"").file("a/b", b"")),
        ("a loop of symlinks", tar().symlink("a", "b").symlink("b", "a").file("a/x", b"")),
        ("a symlink to itself", tar().symlink("a", "a").file("a/x", b"")),
        ("a hardlink to a later entry", tar().link("a", "b").file("b", b"")),
        ("a hardlink to a directory", tar().dir("a").link("b", "a")),
        ("a hardlink to itself", tar().link("a", "a")),
        ("a hardlink to nothing", tar().link("b", "")),
        ("a hardlink to a whiteout", tar().file(".wh.a", b"").link("b", "a")),
        ("a whiteout of nothing", tar().file(".wh.", b"")),
        ("a whiteout of dots", tar().file("d/.wh...", b"")),
        ("below a whiteout", tar().file(".wh.d/x", b"")),
        ("an unknown type", tar().raw(b"x", b'?', b"", 0, b"")),
        ("a socket's type", tar().raw(b"x", b's', b"", 0, b"")),
        ("a huge size", tar().pax(&[(b"size", b"9223372036854775807")]).file("x", b"")),
        ("a larger size", tar().pax(&[(b"size", &huge)]).file("x", b"")),
        ("a negative size", tar().pax(&[(b"size", b"-1")]).file("x", b"")),
        ("more data than there is", tar().raw(b"x", b'0', b"", 4096, b"")),
        ("a huge extended header", tar().raw(b"x", b'x', b"", 1 << 30, b"")),
        ("a huge long name", tar().raw(b"x", b'L', b"", 8 << 30, b"")),
        ("a header for nothing", tar().pax(&[(b"path", b"a")])),
        ("an owner of 64 bits", tar().pax(&[(b"uid", b"4294967296")]).file("x", b"")),
        ("a time that is none", tar().pax(&[(b"mtime", b"nan")]).file("x", b"")),
        ("sparse without a size", tar().pax(&[(b"GNU.sparse.map", b"0,1")]).file("x", b"1")),
        (
            "sparse and overlapping",
            tar().pax(&[(b"GNU.sparse.map", b"0,2,1,2"), (b"GNU.sparse.size", b"9")]).file("x", b"1234"),
        ),
        (
            "sparse beyond its size",
            tar().pax(&[(b"GNU.sparse.map", b"8,4"), (b"GNU.sparse.size", b"9")]).file("x", b"1234"),
        ),
        (
            "sparse at the end of all",
            tar().pax(&[(b"GNU.sparse.map", b"18446744073709551615,4"), (b"GNU.sparse.size", b"9")]).file("x", b"1234"),
        ),
        ("sparse and odd", tar().pax(&[(b"GNU.sparse.map", b"8,4,1"), (b"GNU.sparse.size", b"9")]).file("x", b"1234")),
        (
            "sparse and huge",
            tar().pax(&[(b"GNU.sparse.map", b"0,4"), (b"GNU.sparse.size", b"18446744073709551615")]).file("x", b"1234"),
        ),
        ("a lone block of zeros", Builder { bytes: vec![0; 512] }.file("x", b"")),
    ];
    for (what, tar) in cases {
        let scratch = Scratch::new();
        let error = import(&scratch, &tar.end()).expect_err(what);
        assert_eq!(scratch.leftovers(), 0, "{what}: {error}");
    }
}

/// D8 of the list of hostile layers: values of 64 KiB, the most the kernel takes, and more of them than any file has.
#[test]
fn xattrs_of_every_size_and_number() {
    let value = vec![b'v'; 64 << 10];
    let layer = import(&Scratch::new(), &tar().pax(&[(b"SCHILY.xattr.user.a", &value)]).file("x", b"").end()).unwrap();
    assert!(find(&layer, "x").xattr(b"user.a").unwrap().unwrap() == value);
    let refused = |what: &str, records: &[(Vec<u8>, Vec<u8>)]| {
        let records: Vec<(&[u8], &[u8])> = records.iter().map(|(key, value)| (&key[..], &value[..])).collect();
        let scratch = Scratch::new();
        let error = import(&scratch, &tar().pax(&records).file("x", b"").end()).expect_err(what);
        assert_eq!(scratch.leftovers(), 0);
        println!("{what}: {error}");
    };
    let named = |n: usize| format!("SCHILY.xattr.user.{n}").into_bytes();
    refused("64 KiB and one", &[(named(1), vec![b'v'; (64 << 10) + 1])]);
    refused("10^4 of them", &(0..10_000).map(|n| (named(n), b"v".to_vec())).collect::<Vec<_>>());
    refused("NUL in a name", &[(b"SCHILY.xattr.user.a\0b".to_vec(), b"v".to_vec())]);
    refused("a name of 300 bytes", &[(format!("SCHILY.xattr.user.{}", "n".repeat(300)).into_bytes(), b"v".to_vec())]);
    refused("no name", &[(b"SCHILY.xattr.".to_vec(), b"v".to_vec())]);
}

/// D9: what stands behind the end mark is kept for the digest and otherwise not looked at, as Go reads it; behind a compressed stream it is an
/// error.
#[test]
fn what_stands_behind_the_end() {
    let end = tar().file("a", b"1").end();
    let layer = import(&Scratch::new(), &[&end[..], &tar().file("b", b"2").end()].concat()).unwrap();
    assert_eq!(names(&layer), ["a"], "of two tars one behind the other the first");
    assert_eq!(names(&import(&Scratch::new(), &[&end[..], b"garbage"].concat()).unwrap()), ["a"]);
    assert_eq!(names(&import(&Scratch::new(), &end[..end.len() - 1024]).unwrap()), ["a"], "no end mark");
    assert_eq!(names(&import(&Scratch::new(), &end[..end.len() - 512]).unwrap()), ["a"], "half an end mark");
    for packed in [gzip(&end), zstd::encode_all(&end[..], 1).unwrap()] {
        let store = Scratch::new();
        let taken = prepare_layer(&[&packed[..], b"garbage"].concat()[..], &store.store(), &ImportOptions::default());
        assert!(taken.is_err(), "garbage behind the stream");
        drop(taken);
        assert_eq!(store.leftovers(), 0);
    }
}

/// D11.
#[test]
fn times_and_owners_at_their_ends() {
    let with = |records: &[(&[u8], &[u8])]| import(&Scratch::new(), &tar().pax(records).file("x", b"").end());
    for (text, secs, nanos) in [
        (&b"17179869184"[..], 1_i64 << 34, 0),
        (b"-17179869184.25", -(1 << 34) - 1, 750_000_000),
        (b"0.9999999999", 0, 999_999_999),
        (b"9223372036854775807", i64::MAX, 0),
    ] {
        let stat = find(&with(&[(b"mtime", text)]).unwrap(), "x").stat().unwrap();
        assert_eq!((stat.mtime.secs, stat.mtime.nanos), (secs, nanos), "{}", String::from_utf8_lossy(text));
    }
    for text in [&b"9223372036854775808"[..], b"1e9", b"inf", b"0x10", b"1.-5", b"--1", b" 1"] {
        assert!(with(&[(b"mtime", text)]).is_err(), "{}", String::from_utf8_lossy(text));
    }
    assert_eq!(find(&with(&[(b"uid", b"4294967294"), (b"gid", b"0")]).unwrap(), "x").stat().unwrap().uid, u32::MAX - 1);
    for text in [&b"4294967296"[..], b"-1", b"x", b"99999999999999999999"] {
        assert!(with(&[(b"gid", text)]).is_err(), "{}", String::from_utf8_lossy(text));
    }
}

#[test]
fn what_is_no_tar_is_said_to_be_none() {
    for bytes in
        [&b"hello"[..], &[b'x'; 5000], br#"{"schemaVersion":2}"#, &[0, 1, 2], b"\x28\xb5\x2f\xfdxx", b"\x1f\x8bxx"]
    {
        let error = import(&Scratch::new(), bytes).unwrap_err();
        assert!(matches!(*error.what, What::NotATar | What::Read(_) | What::Truncated), "{error}");
    }
    let error = import(&Scratch::new(), b"\x04\x22\x4d\x18........").unwrap_err();
    assert!(error.to_string().contains("lz4"), "{error}");
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::read::GzEncoder::new(bytes, flate2::Compression::fast());
    let mut out = Vec::new();
    encoder.read_to_end(&mut out).unwrap();
    out
}

#[test]
fn a_tar_cut_short_is_refused_or_whole() {
    let bytes = tar().pax(&[(b"path", b"a")]).file("x", b"1").file("y", &[7; 700]).end();
    let scratch = Scratch::new();
    for cut in 0..bytes.len() {
        let whole = cut == 0 || cut >= 1536 && (cut == 2048 || cut >= bytes.len() - 1024);
        let taken = prepare_layer(&bytes[..cut], &scratch.store(), &ImportOptions::default());
        match taken.map(drop) {
            // At the border of an entry a tar may end: nothing says how many there are.
            Ok(_) => assert!(whole && cut % 512 == 0, "{cut}"),
            Err(e) => {
                assert!(!whole || cut % 512 != 0, "{cut}: {e}");
                assert_eq!(scratch.leftovers(), 0, "{cut}");
            }
        }
    }
    let packed = gzip(&bytes);
    let store = Scratch::new();
    for cut in 6..packed.len() {
        assert!(prepare_layer(&packed[..cut], &store.store(), &ImportOptions::default()).is_err(), "{cut}");
    }
}

#[test]
fn compressed_layers_are_the_same_layer() {
    let bytes = tar().file("x", &[1; 100_000]).end();
    let (first, second) = bytes.split_at(777);
    let members = [gzip(first), gzip(second)].concat();
    let zstd = zstd::encode_all(&bytes[..], 1).unwrap();
    for blob in [gzip(&bytes), members, zstd] {
        let scratch = Scratch::new();
        let seen = std::sync::atomic::AtomicU64::new(0);
        let progress = |n| seen.store(n, std::sync::atomic::Ordering::Relaxed);
        let expected = (Digest::of(&blob), blob.len() as u64);
        let options = ImportOptions {
            expected_diff_id: Some(Digest::of(&bytes)),
            expected_blob: Some(expected),
            progress: Some(&progress),
            ..ImportOptions::default()
        };
        let imported = import_layer(&blob[..], &scratch.store(), &options).unwrap();
        assert_eq!((imported.blob_digest, imported.blob_size), (Some(expected.0), expected.1));
        assert_eq!(imported.diff_id, Digest::of(&bytes));
        assert_eq!(seen.load(std::sync::atomic::Ordering::Relaxed), expected.1);
        assert!(import_layer(&b"not read"[..], &scratch.store(), &options).unwrap().already_there);
    }
}

#[test]
fn a_layer_that_is_not_the_announced_one_is_refused() {
    let bytes = tar().file("x", b"1").end();
    let other = Digest::of(b"other");

    for blob in [bytes.clone(), gzip(&bytes)] {
        let (digest, size) = (Digest::of(&blob), blob.len() as u64);
        let cases = [
            (Some(other), None),
            (None, Some((other, size))),
            (None, Some((digest, size + 1))),
            (None, Some((digest, size - 1))),
        ];
        for (expected_diff_id, expected_blob) in cases {
            let scratch = Scratch::new();
            let options = ImportOptions { expected_diff_id, expected_blob, ..ImportOptions::default() };
            let error = import_layer(&blob[..], &scratch.store(), &options).unwrap_err();
            assert!(matches!(*error.what, What::DiffId(_) | What::Blob(_)), "{error}");
            assert_eq!(scratch.leftovers(), 0);
        }
    }
}

#[test]
fn limits_are_kept() {
    let limit = |name: &str, value, tar: Builder| {
        let mut options = ImportOptions::default();
        assert!(options.limits.set(name, value));
        let blob = gzip(&tar.end());
        let error = import_layer(&blob[..], &Scratch::new().store(), &options).expect_err(name).to_string();
        assert!(error.contains(&format!("{name}={value}")), "{error}");
    };
    limit("entries", 1, tar().file("a", b"").file("b", b""));
    limit("tar-size", 4096, tar().file("a", &[0; 8192]));
    limit("path", 3, tar().file("abcd", b""));
    limit("depth", 2, tar().file("a/b/c", b""));
    limit("header", 500, tar().pax(&[(b"path", b"x")]).file("a", b""));
    limit("xattrs", 0, tar().pax(&[(b"SCHILY.xattr.user.a", b"1")]).file("a", b""));
    limit("xattr-size", 1, tar().pax(&[(b"SCHILY.xattr.user.a", b"12")]).file("a", b""));
    limit(
        "xattr-total",
        3,
        tar()
            .pax(&[(b"SCHILY.xattr.user.a", b"12")])
            .file("a", b"")
            .pax(&[(b"SCHILY.xattr.user.a", b"12")])
            .file("b", b""),
    );
    let mut options = ImportOptions::default();
    options.limits.ratio_from = 1 << 20;
    options.limits.ratio = 50;
    let bomb = gzip(&tar().file("zeros", &vec![0; 8 << 20]).end());
    let error = import_layer(&bomb[..], &Scratch::new().store(), &options).unwrap_err();
    assert!(error.to_string().contains("ratio=50"), "{error}");
    // A path that leads through long chains of symlinks again and again.
    let mut slow = tar();
    for n in 0..30 {
        slow = slow.symlink(&format!("l{n}"), &format!("{}l{}", "../x/../".repeat(10), n + 1));
    }
    for n in 0..50 {
        slow = slow.file(&format!("l0/{n}/f"), b"");
    }
    limit("steps", 3000, slow);
}

#[test]
fn a_tar_of_gnu_tar_comes_back() {
    let scratch = Scratch::new();
    let from = Scratch::new();
    std::fs::create_dir(from.0.join("d")).unwrap();
    std::fs::write(from.0.join("d").join("n".repeat(150)), vec![5; 100_000]).unwrap();
    std::os::unix::fs::symlink("t".repeat(150), from.0.join("s")).unwrap();
    std::fs::hard_link(from.0.join("d").join("n".repeat(150)), from.0.join("hard")).unwrap();
    let sparse = std::fs::File::create(from.0.join("sparse")).unwrap();
    std::os::unix::fs::FileExt::write_at(&sparse, b"end", 10 << 20).unwrap();
    for format in [
        &["--format=gnu"][..],
        &["--format=pax"],
        &["--format=pax", "--sparse-version=0.1"],
        &["--format=pax", "--sparse-version=0.0"],
    ] {
        let tar = Command::new("tar").args(format).args(["-cSf", "-", "-C"]).arg(&from.0).arg(".").output();
        let Ok(tar) = tar else {
            crate::report::report_skip("there is no tar program");
            return;
        };
        assert!(tar.status.success(), "{format:?}");
        let layer = import(&scratch, &tar.stdout).unwrap();
        let long = format!("d/{}", "n".repeat(150));
        let mut expected = vec!["d/".to_owned(), long.clone(), "hard".into(), "s".into(), "sparse".into()];
        expected.sort();
        assert_eq!(names(&layer), expected, "{format:?}");
        assert!(content(&layer, &long) == vec![5; 100_000]);
        assert_eq!(find(&layer, "s").readlink().unwrap(), "t".repeat(150).as_bytes());
        assert_eq!(find(&layer, "hard").stat().unwrap().nlink, 2);
        let bytes = content(&layer, "sparse");
        assert_eq!((bytes.len(), &bytes[10 << 20..]), ((10 << 20) + 3, &b"end"[..]), "{format:?}");
        assert!(bytes[..10 << 20].iter().all(|&b| b == 0));
    }
}
