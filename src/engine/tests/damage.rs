//! Every stored file, harmed in every way: the check finds it, a repair takes it away, a load brings it back. And every use case
//! that changes the store, cut at each of its steps.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use super::input::Input;
use super::load::load;
use super::save::Compress;
use super::save::Request;
use super::save::save;
use super::save::save_dir;
use super::tests::Scratch;
use super::tests::at_every_step;
use super::tests::container_of;
use super::tests::files_below;
use super::*;
use crate::image::archive::write::Shape;
use crate::store::Store;
use crate::store::check::Fault;
use crate::store::check::Outcome;
use crate::store::check::Report;

/// A way to harm a file; `other` is another file of the store.
type Harm = fn(file: &Path, other: &Path);

fn write(file: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(file).unwrap();
    change(&mut bytes);
    fs::remove_file(file).unwrap();
    fs::write(file, bytes).unwrap();
}

const HARMS: [(&str, Harm); 9] = [
    ("flipped", |file, _| {
        write(file, |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0x10;
        });
    }),
    ("truncated", |file, _| write(file, |bytes| bytes.truncate(bytes.len() / 2))),
    ("extended", |file, _| write(file, |bytes| bytes.push(b'x'))),
    ("emptied", |file, _| write(file, Vec::clear)),
    ("deleted", |file, _| fs::remove_file(file).unwrap()),
    ("swapped", |file, other| {
        let (a, b) = (fs::read(file).unwrap(), fs::read(other).unwrap());
        write(file, |bytes| *bytes = b);
        write(other, |bytes| *bytes = a);
    }),
    ("a symlink", |file, other| {
        fs::remove_file(file).unwrap();
        symlink(other, file).unwrap();
    }),
    ("a FIFO", |file, _| {
        fs::remove_file(file).unwrap();
        assert!(Command::new("mkfifo").arg(file).status().unwrap().success());
    }),
    ("a directory", |file, _| {
        fs::remove_file(file).unwrap();
        fs::create_dir_all(file.join("x")).unwrap();
    }),
];

fn repair(store: &Store) -> Report {
    let guard = store.try_collecting().unwrap().expect("nobody else is at work");
    store.repair(&guard, &()).unwrap()
}

fn places(report: &Report) -> Vec<String> {
    report.problems.iter().map(|problem| format!("{}: {}", problem.place(), problem.why)).collect()
}

/// The files that matter: what is left out is looked at elsewhere, or is a hint.
fn stored(store: &Store) -> Vec<PathBuf> {
    let mut files = files_below(store.path());
    files.retain(|file| fs::metadata(file).unwrap().len() > 0 && !file.ends_with("format.json"));
    files.sort();
    files
}

#[test]
fn every_stored_file_harmed_in_every_way_is_found_and_brought_back() {
    let count = stored(&loaded().1).len();
    assert_eq!(count, 7, "two packs of two files, an object, a config, the index");
    let mut cases = 0;
    for at in 0..count {
        for (how, harm) in HARMS {
            let (scratch, store) = loaded();
            let files = stored(&store);
            let file = &files[at];
            let label = format!("{how}: {}", file.strip_prefix(store.path()).unwrap().display());
            harm(file, &files[(at + 1) % count]);
            let store = scratch.store();
            let found = store.check(&()).unwrap();
            // Without the index of images nothing is damaged: all of it is unreferenced.
            let index = file.ends_with("images.json");
            let index_gone = how == "deleted" && index;
            assert!(index_gone || found.unsettled() > 0, "{label}: not found");
            cases += 1;
            if !index_gone {
                let before = stored(&store).len();
                let report = repair(&store);
                if index && report.problems.iter().any(|p| matches!(p.outcome, Outcome::Left(_))) {
                    assert!(!report.collected && stored(&store).len() == before, "{label}: nothing goes in doubt");
                    continue;
                }
            }
            load(&store, scratch.input(), &Quiet).unwrap_or_else(|e| panic!("{label}: {e}"));
            let after = store.check(&()).unwrap();
            assert_eq!(places(&after), [] as [String; 0], "{label}: after a repair and a load");
            assert_eq!(store.images().unwrap().names.len(), 2, "{label}");
            save(&store, &["x:1".to_owned()], &mut Vec::new()).unwrap();
        }
    }
    println!("{cases} kinds of damage were found and brought back");
}

fn loaded() -> (Scratch, Store) {
    let scratch = Scratch::new();
    let store = scratch.store();
    load(&store, scratch.input(), &Quiet).unwrap();
    (scratch, store)
}

#[test]
fn a_load_brings_back_what_is_missing_or_cut_without_a_repair() {
    let count = stored(&loaded().1).len();
    for at in 0..count {
        for (how, harm) in HARMS.iter().filter(|(how, _)| !["flipped", "swapped", "extended"].contains(how)) {
            let (scratch, store) = loaded();
            let files = stored(&store);
            if files[at].ends_with("images.json") {
                continue;
            }
            harm(&files[at], &files[(at + 1) % count]);
            let store = scratch.store();
            load(&store, scratch.input(), &Quiet).unwrap();
            assert_eq!(places(&store.check(&()).unwrap()), [] as [String; 0], "{how}: {}", files[at].display());
        }
    }
}

#[test]
fn damage_is_named_by_image_layer_and_path() {
    let (_scratch, store) = loaded();
    let files = stored(&store);
    let object = files.iter().find(|file| file.components().any(|c| c.as_os_str() == "objects")).unwrap();
    (HARMS[0].1)(object, object);
    let report = store.check(&()).unwrap();
    let [problem] = report.problems.as_slice() else { panic!("{report:?}") };
    assert_eq!((problem.fault, problem.place()), (Fault::Content, "image x:1, layer 1 of 2, /big".to_owned()));
    // The body of a small file, in the pack file: it has a sum of its own.
    for pack in files.iter().filter(|file| file.extension().is_some_and(|e| e == "pack")) {
        let bytes = fs::read(pack).unwrap();
        let Some(at) = bytes.windows(5).position(|w| w == b"hello") else { continue };
        write(pack, |bytes| bytes[at] = b'j');
    }
    let places = places(&store.check(&()).unwrap());
    assert!(
        places.iter().any(|place| place.starts_with("image x:1, layer 2 of 2, /etc/motd: its content")),
        "{places:?}"
    );
}

#[test]
fn a_repair_leaves_a_containers_files_and_what_is_whole_of_its_layers() {
    let (scratch, store) = loaded();
    let id = store.images().unwrap().find("x:1").unwrap().id;
    let container = container_of(&store, id);
    store.create_container(&store.index().unwrap(), &container).unwrap();
    let dir = scratch.path.join("store/containers").join(&container.id);
    fs::write(dir.join("upper/precious"), "mine").unwrap();
    fs::remove_dir(dir.join("rootfs")).unwrap();
    for file in stored(&store).iter().filter(|file| file.components().any(|c| c.as_os_str() == "objects")) {
        (HARMS[0].1)(file, file);
    }
    // By force the image goes, and the container goes on needing its layers.
    let report = repair(&store);
    let outcomes: Vec<_> = report.problems.iter().map(|p| (p.fault, p.outcome.clone())).collect();
    assert!(outcomes.contains(&(Fault::Content, Outcome::LoadAgain)), "{outcomes:?}");
    assert!(outcomes.contains(&(Fault::Container, Outcome::Repaired("made again"))), "{outcomes:?}");
    assert_eq!(fs::read(dir.join("upper/precious")).unwrap(), b"mine");
    for layer in &container.layers {
        assert!(store.layers().get(layer).is_ok(), "what is whole of a layer can be read");
    }
    assert_eq!(load(&store, scratch.input(), &Quiet).unwrap().len(), 1);
    assert_eq!(places(&store.check(&()).unwrap()), [] as [String; 0]);
}

#[test]
fn a_container_record_in_doubt_stops_every_removal() {
    let (scratch, store) = loaded();
    let id = store.images().unwrap().find("x:1").unwrap().id;
    let container = container_of(&store, id);
    store.create_container(&store.index().unwrap(), &container).unwrap();
    let dir = scratch.path.join("store/containers").join(&container.id);
    fs::write(dir.join("container.json"), "{").unwrap();
    store.put_blob(b"nobody's").unwrap();
    let report = repair(&store);
    assert!(!report.collected && report.unsettled() == 1, "{report:?}");
    assert!(dir.join("upper").is_dir());
    assert_eq!(report.loose_blobs, 1);
}

#[test]
fn a_damaged_index_is_made_anew_with_the_names_that_containers_know() {
    let (_scratch, store) = loaded();
    let id = store.images().unwrap().find("x:1").unwrap().id;
    store.create_container(&store.index().unwrap(), &container_of(&store, id)).unwrap();
    fs::write(store.path().join("images.json"), "{\"images\": {").unwrap();
    let report = repair(&store);
    assert_eq!((report.problems[0].fault, report.unsettled()), (Fault::Index, 0), "{report:?}");
    let images = store.images().unwrap();
    assert_eq!(images.find("x:1").unwrap().id, id);
    assert_eq!(fs::read(store.path().join("images.json.damaged")).unwrap(), b"{\"images\": {");
}

#[test]
fn a_dangling_name_is_removed() {
    let (_scratch, store) = loaded();
    let nobody = Digest::of(b"nobody");
    store
        .change_images(&store.index().unwrap(), |images| {
            images.names.insert(crate::image::reference::Reference::parse("lost:1").unwrap(), nobody);
            Ok::<_, Error>(())
        })
        .unwrap();
    assert_eq!(store.check(&()).unwrap().problems[0].fault, Fault::Name);
    assert_eq!(repair(&store).unsettled(), 0);
    assert_eq!((store.images().unwrap().names.len(), store.check(&()).unwrap().problems.len()), (2, 0));
}

#[test]
fn leftovers_are_told_of_and_removed() {
    let (_scratch, store) = loaded();
    for name in ["tmp/abc", ".tmp-1", "blobs/sha256/.tmp-2", "mounts/.gone-3"] {
        fs::write(store.path().join(name), "half").unwrap();
    }
    let adding = store.adding().unwrap();
    let report = store.check(&()).unwrap();
    assert!(report.busy && report.leftovers == 0, "they may be the other process's: {report:?}");
    drop(adding);
    let report = store.check(&()).unwrap();
    assert_eq!((report.leftovers, report.unsettled()), (4, 0));
    assert!(repair(&store).collected);
    assert_eq!(store.check(&()).unwrap().leftovers, 0);
}

#[test]
fn a_collection_or_repair_cut_at_any_step_leaves_a_store_that_the_next_one_settles() {
    let collecting = at_every_step(true, |with_fault| {
        let (scratch, store) = loaded();
        let clear = |images: &mut crate::store::images::Images| {
            *images = crate::store::images::Images::default();
            Ok::<_, Error>(())
        };
        store.change_images(&store.index().unwrap(), clear).unwrap();
        let result = with_fault(&mut || {
            let guard = store.try_collecting()?.expect("nobody else");
            Ok(store.collect(&guard).map(drop)?)
        });
        let store = scratch.store();
        assert_eq!(places(&store.check(&()).unwrap()), [] as [String; 0]);
        load(&store, scratch.input(), &Quiet).unwrap();
        assert_eq!(places(&store.check(&()).unwrap()), [] as [String; 0]);
        result.is_ok()
    });
    let repairing = at_every_step(true, |with_fault| {
        let (scratch, store) = loaded();
        for file in stored(&store) {
            if file.extension().is_some_and(|e| e == "pack") || file.components().any(|c| c.as_os_str() == "objects") {
                (HARMS[0].1)(&file, &file);
            }
        }
        let result = with_fault(&mut || {
            let guard = store.try_collecting()?.expect("nobody else");
            let report = store.repair(&guard, &())?;
            let failed = report.problems.iter().any(|p| matches!(p.outcome, Outcome::Failed(_)));
            if failed { Err(Error::Internal("a step failed".to_owned())) } else { Ok(()) }
        });
        let store = scratch.store();
        repair(&store);
        load(&store, scratch.input(), &Quiet).unwrap();
        assert_eq!(places(&store.check(&()).unwrap()), [] as [String; 0], "after {result:?}");
        result.is_ok()
    });
    println!("cut at {collecting} steps of a collection, {repairing} of a repair");
    assert!(collecting > 5 && repairing > 5);
}

#[test]
fn a_save_cut_at_any_step_leaves_the_old_file_or_the_new_one() {
    const OLD: &[u8] = b"what was there before";
    let words = ["x:1".to_owned()];
    for killed in [false, true] {
        let (scratch, store) = loaded();
        let mut expected = Vec::new();
        save(&store, &words, &mut expected).unwrap();
        let out = scratch.path.join("out");
        let steps = at_every_step(killed, |with_fault| {
            fs::create_dir(&out).unwrap();
            fs::write(out.join("x.tar"), OLD).unwrap();
            let result = with_fault(&mut || {
                output::file(&out.join("new.tar"), |to| save(&store, &words, to))?;
                output::file(&out.join("x.tar"), |to| save(&store, &words, to))?;
                let request = Request { words: &words, shape: Shape::Oci, compress: Some(Compress::Gzip) };
                output::directory(&out.join("layout"), |dir| save_dir(&store, &request, dir))
            });
            for name in fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name()) {
                let whole = match name.to_str().unwrap() {
                    "x.tar" => [OLD, &expected].contains(&&*fs::read(out.join("x.tar")).unwrap()),
                    "new.tar" => fs::read(out.join("new.tar")).unwrap() == expected,
                    "layout" => load(&scratch.store(), Input::open(&out.join("layout")).unwrap(), &Quiet).is_ok(),
                    // Who was killed leaves it; who is told of an error takes it away.
                    hidden => killed && hidden.starts_with(".mica-"),
                };
                assert!(whole, "{name:?} after {result:?}");
            }
            assert_eq!(places(&scratch.store().check(&()).unwrap()), [] as [String; 0]);
            fs::remove_dir_all(&out).unwrap();
            result.is_ok()
        });
        println!("cut at {steps} steps of a save, killed: {killed}");
        // Three outputs, each made, written, synced and named; the layout with five files.
        assert!(steps > 30, "{steps}");
    }
}
