use std::collections::BTreeSet;
use std::io::Read;
use std::io::Write;

use super::format::Bytes;
use super::format::Table;
use super::testing::Scratch;
use super::testing::content;
use super::testing::names;
use super::testing::seen;
use super::*;
use crate::layer::Seen;
use crate::path::RelPath;
use crate::sys;

const TREE: TreeLimits = TreeLimits { steps: 1000, nodes: 1000, depth: 100, path: 4096 };

fn path(text: &str) -> RelPath {
    RelPath::parse(text.as_bytes()).unwrap()
}

/// Writes a pack of made-up "tar" bytes around two small files, a sparse one and a large one.
fn prepare(store: &PackStore, seed: u8) -> (Prepared, Vec<u8>) {
    let mut writer = store.writer().unwrap();
    let mut tree = Tree::new(TREE);
    let mut bytes = Vec::new();
    for (name, len) in
        [("a", 0), ("d/b", 10), ("d/big", OBJECT_MIN as usize), ("d/huge", 2 << 20), ("d/again", OBJECT_MIN as usize)]
    {
        let header = [seed; 64];
        writer.tar(&header).unwrap();
        bytes.extend_from_slice(&header);
        let body = vec![seed ^ 0x55; len];
        writer.begin_body(len as u64).unwrap();
        body.chunks(100_000).for_each(|part| writer.body(part).unwrap());
        bytes.extend_from_slice(&body);
        let body = writer.end_body().unwrap();
        let sparse = (name == "d/b").then(|| vec![SparseRun { at: 5, len: 10 }].into());
        let size = if sparse.is_some() { 100 } else { len as u64 };
        let xattrs = vec![(b"user.x"[..].into(), b"y"[..].into())];
        tree.add(&path(name), Attrs { xattrs, ..Attrs::default() }, TreeItem::File { body, size, sparse }).unwrap();
    }
    tree.add(&path("s"), Attrs { perm: 0o4644, ..Attrs::default() }, TreeItem::Symlink(b"text"[..].into())).unwrap();
    tree.whiteout(&path("w")).unwrap();
    writer.tar(b"end").unwrap();
    bytes.extend_from_slice(b"end");
    (writer.finish(Digest::of(&bytes), &tree).unwrap(), bytes)
}

fn publish(store: &PackStore, seed: u8) -> Digest {
    let (prepared, _) = prepare(store, seed);
    let id = prepared.diff_id();
    store.publish(vec![prepared]).unwrap();
    id
}

#[test]
fn what_was_written_is_read() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let (prepared, bytes) = prepare(&store, 1);
    let id = prepared.diff_id();
    assert!(!store.has(&id).unwrap());
    assert!(store.collect_garbage(&BTreeSet::new()).unwrap().busy);
    store.publish(vec![prepared]).unwrap();
    let layer = store.open(&id).unwrap();
    assert_eq!(names(&layer), ["!w", "a", "d/", "d/again", "d/b", "d/big", "d/huge", "s"]);
    assert_eq!(content(&layer, "d/big"), vec![0x54; OBJECT_MIN as usize]);
    assert_eq!(content(&layer, "d/b")[..20], [[0; 5].as_slice(), &[0x54; 10], &[0; 5]].concat());
    let Seen::Found(_, stat) = layer.root().unwrap().lookup(Name::new(b"s").unwrap()).unwrap() else { panic!("no s") };
    assert_eq!(stat.mode, 0o120_777, "a symlink has no mode of its own");
    let mut back = Vec::new();
    layer.tar_stream().read_to_end(&mut back).unwrap();
    assert!(back == bytes);
    store.verify(&id, &mut |damage| panic!("{damage}")).unwrap();
    assert_eq!(store.list().unwrap(), [id]);
}

#[test]
fn what_is_dropped_leaves_nothing() {
    let scratch = Scratch::new();
    drop(prepare(&scratch.store(), 1));
    let mut writer = scratch.store().writer().unwrap();
    writer.begin_body(5 << 20).unwrap();
    writer.body(&[1; 100]).unwrap();
    assert!(writer.end_body().is_err(), "the body is not complete");
    drop(writer);
    assert_eq!(scratch.leftovers(), 0);
}

#[test]
fn garbage_is_what_nobody_keeps() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let (a, b) = (publish(&store, 1), publish(&store, 2));
    std::fs::write(scratch.0.join("tmp/left"), b"12345").unwrap();
    let done = store.collect_garbage(&BTreeSet::from([a])).unwrap();
    assert_eq!((done.busy, done.packs, done.objects, done.unfinished), (false, 1, 2, 1));
    assert_eq!((store.has(&a).unwrap(), store.has(&b).unwrap()), (true, false));
    store.verify(&a, &mut |damage| panic!("{damage}")).unwrap();
    store.remove(&a).unwrap();
    assert_eq!(store.collect_garbage(&BTreeSet::new()).unwrap().objects, 2);
    assert_eq!(scratch.leftovers(), 0);
}

#[test]
fn a_crash_while_publishing_leaves_the_layer_or_only_garbage() {
    for stop in 1.. {
        let scratch = Scratch::new();
        let store = scratch.store();
        let (prepared, _) = prepare(&store, 1);
        let id = prepared.diff_id();
        let mut calls = 0;
        let result = sys::gate::with_hook(
            move |_| {
                calls += 1;
                (calls >= stop).then_some(Errno::NOSPC)
            },
            || store.publish(vec![prepared]),
        );
        if store.has(&id).unwrap() {
            store.verify(&id, &mut |damage| panic!("{stop}: {damage}")).unwrap();
        }
        let keep = store.list().unwrap().into_iter().collect();
        store.collect_garbage(&keep).unwrap();
        assert_eq!(scratch.leftovers(), 2 * keep.len(), "{stop}");
        if result.is_ok() {
            break;
        }
        assert_eq!(publish(&store, 1), id, "the next try works");
        store.verify(&id, &mut |damage| panic!("{stop}: {damage}")).unwrap();
    }
}

#[test]
fn damage_of_stored_files_is_found() {
    let files = |dir: &std::path::Path| {
        let mut todo = vec![dir.to_owned()];
        let mut found = Vec::new();
        while let Some(dir) = todo.pop() {
            for entry in std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap()) {
                if entry.file_type().unwrap().is_dir() { todo.push(entry.path()) } else { found.push(entry.path()) }
            }
        }
        found
    };
    let scratch = Scratch::new();
    let store = scratch.store();
    let id = publish(&store, 1);
    let damages = || {
        let mut found = 0;
        store.verify(&id, &mut |_| found += 1).unwrap();
        found
    };
    assert_eq!(damages(), 0);
    for file in files(&scratch.0) {
        let good = std::fs::read(&file).unwrap();
        let mut flipped = good.clone();
        flipped[good.len() / 2] ^= 1;
        let longer = [&good[..], b"x"].concat();
        for bad in [&flipped[..], &good[..good.len() / 2], b"", &longer] {
            replace(&file, bad);
            assert!(damages() > 0, "{}", file.display());
        }
        if file.extension().is_none_or(|e| e != "idx") {
            std::fs::remove_file(&file).unwrap();
            assert!(damages() > 0, "{}", file.display());
        }
        replace(&file, &good);
        assert_eq!(damages(), 0, "{}", file.display());
    }
}

fn replace(file: &std::path::Path, bytes: &[u8]) {
    let _ = std::fs::remove_file(file);
    std::fs::File::create(file).unwrap().write_all(bytes).unwrap();
}

/// Makes checksum and sums right again, as far as they can be told.
fn mend(index: &mut [u8]) {
    let end = index.len() - format::CHECKSUM_LEN;
    let sums_at = u64::from_le_bytes(index[format::SUMS_AT..][..8].try_into().unwrap()) as usize;
    if let Some(covered) = index.get(..sums_at) {
        let sums: Vec<u8> = format::block_sums(covered).flat_map(u32::to_le_bytes).collect();
        if let Some(room) = index.get_mut(sums_at..).and_then(|room| room.get_mut(..sums.len())) {
            room.copy_from_slice(&sums);
        }
    }
    let checksum = Digest::of(&index[..end]);
    index[end..].copy_from_slice(checksum.as_bytes());
}

/// Does everything with a layer that can be done, for as far as it can.
fn use_it(layer: &PackLayer) {
    fn walk(object: &Obj, depth: u32) {
        let _ = (object.stat(), object.marks(), object.readlink(), object.location());
        for name in object.xattrs().unwrap_or_default() {
            let _ = object.xattr(&name);
        }
        if let Ok(content) = object.open() {
            let _ = content.read_at(&mut [0; 100], 0);
            let _ = content.read_at(&mut [0; 100], content.len().saturating_sub(50));
            let _ = (content.seek_data(0), content.seek_hole(0));
        }
        let mut below = Vec::new();
        let _ = object.list(&mut |item| {
            if let Ok(Seen::Found(child, _)) = object.lookup(item.name) {
                below.push(child);
            }
            Ok(())
        });
        // A damaged directory may contain itself.
        if depth > 0 {
            below.iter().take(20).for_each(|child| walk(child, depth - 1));
        }
    }
    if let Ok(root) = layer.root() {
        walk(&root, 3);
    }
    let _ = std::io::copy(&mut layer.tar_stream().take(10 << 20), &mut std::io::sink());
}

#[test]
fn no_damage_of_the_index_is_a_panic() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let id = publish(&store, 1);
    let good = std::fs::read(scratch.0.join(format!("packs/{}.idx", id.hex()))).unwrap();
    let open = |bytes: Vec<u8>| {
        let index = Index::open(Bytes::Owned(bytes), "test")?;
        index.must_be_whole().map(|()| index)
    };
    assert!(open(good.clone()).is_ok());
    for len in 0..good.len() {
        assert!(open(good[..len].to_vec()).is_err(), "{len}");
    }
    let pack = std::fs::File::open(scratch.0.join(format!("packs/{}.pack", id.hex()))).unwrap();
    for at in 0..good.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut bytes = good.clone();
            bytes[at] ^= flip;
            assert!(open(bytes.clone()).is_err(), "{at}");
            // Once more, by someone who has mended the checksum.
            mend(&mut bytes);
            if let Ok(index) = open(bytes) {
                let fd = OwnedFd::from(pack.try_clone().unwrap());
                use_it(&PackLayer::new(index, fd, store.dirs_shared()));
            }
        }
    }
}

/// Sets a word of the header of a stored index.
fn set_word(scratch: &Scratch, id: &Digest, at: usize, set: u64) {
    let file = scratch.0.join(format!("packs/{}.idx", id.hex()));
    let mut bytes = std::fs::read(&file).unwrap();
    let old = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    bytes[at..at + 8].copy_from_slice(&(old | set).to_le_bytes());
    mend(&mut bytes);
    replace(&file, &bytes);
}

const COMPAT_AT: usize = 16;
const RO_COMPAT_AT: usize = 24;
const INCOMPAT_AT: usize = 32;

#[test]
fn an_unknown_compatible_feature_changes_nothing() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let id = publish(&store, 1);
    set_word(&scratch, &id, COMPAT_AT, 1 << 40);
    assert!(store.has(&id).unwrap());
    store.verify(&id, &mut |damage| panic!("{damage}")).unwrap();
    assert_eq!(store.collect_garbage(&BTreeSet::new()).unwrap().packs, 1);
}

#[test]
fn a_pack_with_a_read_only_feature_is_read_and_not_judged_or_removed() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let (id, other) = (publish(&store, 1), publish(&store, 2));
    set_word(&scratch, &id, RO_COMPAT_AT, 1 << 40);
    assert!(store.has(&id).unwrap());
    let layer = store.open(&id).unwrap();
    assert!(!names(&layer).is_empty());
    assert_eq!(content(&layer, "d/huge").len(), 2 << 20);
    let mut tar = Vec::new();
    layer.tar_stream().read_to_end(&mut tar).unwrap();
    assert_eq!(Digest::of(&tar), id);
    assert!(matches!(store.verify(&id, &mut |_| {}), Err(Error::Newer { .. })));
    assert!(matches!(store.objects_of(&id), Err(Error::Newer { .. })));
    // Whether or not it is needed: it and what it may use stay. What is known to be unneeded goes.
    let objects = store.objects().unwrap();
    for keep in [BTreeSet::from([id]), BTreeSet::new()] {
        assert!(matches!(store.collect_garbage(&keep), Err(Error::Newer { .. })));
        assert!(store.has(&id).unwrap());
        assert_eq!(store.objects().unwrap(), objects);
    }
    assert!(!store.has(&other).unwrap());
}

#[test]
fn a_pack_with_an_incompatible_feature_is_refused_and_not_removed() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let id = publish(&store, 1);
    set_word(&scratch, &id, INCOMPAT_AT, 1);
    let error = store.open(&id).unwrap_err();
    assert!(matches!(error, Error::Newer { .. }) && error.to_string().contains("0x1"), "{error}");
    assert!(matches!(store.has(&id), Err(Error::Newer { .. })));
    assert!(matches!(store.verify(&id, &mut |_| {}), Err(Error::Newer { .. })));
    assert!(matches!(store.collect_garbage(&BTreeSet::new()), Err(Error::Newer { .. })));
    // With a wrong checksum it is damage, whatever it says.
    let file = scratch.0.join(format!("packs/{}.idx", id.hex()));
    let mut bytes = std::fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    replace(&file, &bytes);
    assert!(matches!(store.open(&id), Err(Error::Damaged { .. })));
}

/// A layer with as many entries as wanted: how long its index takes to open, and damage anywhere in it.
fn wide(scratch: &Scratch, count: u32) -> Digest {
    let writer = scratch.store().writer().unwrap();
    let mut tree = Tree::new(TreeLimits { steps: u64::MAX, nodes: u64::MAX, depth: 100, path: 4096 });
    for n in 0..count {
        let body = Body { place: Place::Empty, stored: 0, sum: 0 };
        let item = TreeItem::File { body, size: 0, sparse: None };
        tree.add(&path(&format!("d{}/file{n}", n / 1000)), Attrs::default(), item).unwrap();
    }
    let id = Digest::of(&count.to_le_bytes());
    scratch.store().publish(vec![writer.finish(id, &tree).unwrap()]).unwrap();
    id
}

#[test]
fn a_damaged_block_is_found_when_it_is_read() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let id = wide(&scratch, 5000);
    let file = scratch.0.join(format!("packs/{}.idx", id.hex()));
    let good = std::fs::read(&file).unwrap();
    assert!(good.len() > 9 * format::BLOCK);
    for at in (format::BLOCK..good.len() - format::CHECKSUM_LEN).step_by(format::BLOCK / 3) {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        replace(&file, &bytes);
        let layer = store.open(&id).unwrap();
        let index = &layer.open.index;
        let nodes = index.positions(Table::Nodes).try_for_each(|n| index.node(n).map(drop));
        let entries = index.positions(Table::Entries).try_for_each(|n| index.entry(n).map(drop));
        assert!(matches!(nodes.and(entries), Err(Error::Damaged { .. })), "{at}");
        assert!(!store.has(&id).unwrap(), "{at}");
    }
    replace(&file, &good);
    assert!(store.has(&id).unwrap());
}

/// A layer of one object, each time another one.
fn one_object(store: &PackStore, seed: u8) -> Result<()> {
    let mut writer = store.writer()?;
    let bytes = vec![seed; OBJECT_MIN as usize];
    writer.begin_body(OBJECT_MIN)?;
    writer.body(&bytes)?;
    let body = writer.end_body()?;
    let mut tree = Tree::new(TREE);
    tree.add(&path("f"), Attrs::default(), TreeItem::File { body, size: OBJECT_MIN, sparse: None }).unwrap();
    store.publish(vec![writer.finish(Digest::of(&[seed]), &tree)?])
}

/// Someone who may write to the store exchanges its folder of objects, and a folder in it, with symlinks to another place while layers
/// are written (D12): whatever becomes of the layers, nothing is ever made or changed there.
#[test]
fn folders_exchanged_with_symlinks_lead_nowhere() {
    use std::sync::atomic::AtomicBool;
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering::Relaxed;

    // By default few, for they cost a disk more than they cost us: MICA_SWAPS=20000 is the long form.
    let swaps = std::env::var("MICA_SWAPS").ok().and_then(|n| n.parse().ok()).unwrap_or(1000);
    let (scratch, outside) = (Scratch::new(), Scratch::new());
    std::fs::create_dir_all(outside.0.join("objects/aa")).unwrap();
    std::fs::write(outside.0.join("objects/canary"), b"sings").unwrap();
    let store = scratch.store();
    let (done, rounds, refused) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let place = scratch.fd();
            let at = |text: &str| crate::path::NameBuf::new(text.as_bytes()).unwrap();
            while rounds.load(Relaxed) < swaps {
                // The folder of one object, whichever there are.
                let dir = scratch.0.join("objects");
                for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
                    let (from, aside) = (entry.path(), scratch.0.join("aside"));
                    if std::fs::rename(&from, &aside).is_ok() {
                        rounds.fetch_add(1, Relaxed);
                        let _ = std::os::unix::fs::symlink(outside.0.join("objects/aa"), &from);
                        std::thread::yield_now();
                        let _ = std::fs::remove_file(&from);
                        let _ = std::fs::rename(&aside, &from);
                        let _ = std::fs::remove_dir_all(&aside);
                    }
                }
                // And the folder of all of them.
                if std::fs::rename(&dir, scratch.0.join("objects.aside")).is_ok() {
                    let _ = std::os::unix::fs::symlink(outside.0.join("objects"), &dir);
                    std::thread::yield_now();
                    let _ = sys::name::unlink(&place, at("objects").as_name());
                    let _ = std::fs::rename(scratch.0.join("objects.aside"), &dir);
                }
                rounds.fetch_add(1, Relaxed);
            }
            done.store(true, Relaxed);
        });
        while !done.load(Relaxed) {
            for seed in 0..8 {
                refused.fetch_add(usize::from(one_object(&store, seed).is_err()), Relaxed);
            }
            let _ = store.collect_garbage(&BTreeSet::new());
        }
    });
    let mut found: Vec<String> = Vec::new();
    for dir in ["objects", "objects/aa"] {
        found.extend(
            std::fs::read_dir(outside.0.join(dir)).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()),
        );
    }
    found.sort();
    assert_eq!(found, ["aa", "canary"], "something was made or removed outside");
    assert_eq!(std::fs::read(outside.0.join("objects/canary")).unwrap(), b"sings");
    println!("{} exchanges, {} layers refused, 0 escapes", rounds.into_inner(), refused.into_inner());
}

/// By hand: cargo test --lib a_million -- --ignored --nocapture
#[test]
#[ignore = "a measurement"]
fn a_million_entries_open_fast() {
    let scratch = Scratch::new();
    let id = wide(&scratch, 1_000_000);
    let store = scratch.store();
    for round in 0..3 {
        let start = std::time::Instant::now();
        let layer = store.open(&id).unwrap();
        let opened = start.elapsed();
        let _ = seen(&layer, "d500/file500500");
        let looked = start.elapsed();
        layer.open.index.must_be_whole().unwrap();
        let (whole, len) = (start.elapsed() - looked, layer.open.index.file_len() >> 20);
        println!(
            "round {round}: {len} MiB opened in {opened:?}, with a look-up {looked:?}, the whole checksum {whole:?}"
        );
    }
}
