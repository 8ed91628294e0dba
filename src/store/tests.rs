//! The store's promises: what is half done cannot be seen, what is in use is not collected, damage is found.

use std::path::PathBuf;

use super::containers::ContainerRecord;
use super::containers::State;
use super::*;
use crate::image::Digest;
use crate::image::reference::Reference;
use crate::sys::gate;

/// A store in a directory of its own, removed at the end.
struct Scratch {
    path: PathBuf,
    store: Store,
}

impl Scratch {
    fn new() -> Self {
        let unique = crate::digest::hex_of(&crate::env::random::<8>().unwrap());
        let path = std::env::temp_dir().join(format!("mica-store-test-{unique}"));
        let store = Store::open(&path.join("a/b")).unwrap();
        Self { path, store }
    }

    fn again(&self) -> Result<Store> {
        Store::open(self.store.path())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.store.path().join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.path).unwrap();
    }
}

const CONFIG: &[u8] = br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#;

fn add_image(store: &Store, names: &[&str]) -> Digest {
    let _adding = store.adding().unwrap();
    let id = store.put_blob(CONFIG).unwrap();
    let names: Vec<Reference> = names.iter().map(|name| Reference::parse(name).unwrap()).collect();
    let index = store.index().unwrap();
    store
        .change_images(&index, |images| {
            images.add(id, None, &names, 1);
            Ok::<_, Error>(())
        })
        .unwrap();
    id
}

fn record(digit: char, name: &str) -> ContainerRecord {
    ContainerRecord {
        id: digit.to_string().repeat(64),
        name: name.to_owned(),
        image_id: Digest::of(CONFIG),
        image_name: "x".to_owned(),
        layers: Vec::new(),
        created: 1,
        command: vec!["sh".to_owned()],
        state: State::Created,
        extra: serde_json::Map::new(),
    }
}

#[test]
fn a_store_is_made_once_and_found_again() {
    let scratch = Scratch::new();
    let id = add_image(&scratch.store, &["x"]);
    assert_eq!(scratch.again().unwrap().images().unwrap().find("x").unwrap().id, id);
    let report = scratch.store.check(&()).unwrap();
    assert_eq!((report.problems.len(), report.loose_blobs, report.leftovers, report.busy), (0, 0, 0, false));
}

#[test]
fn a_store_of_another_user_is_refused() {
    let scratch = Scratch::new();
    if sys::process::effective_uid() != 0 {
        crate::report::report_skip("only root can give a directory away");
        return;
    }
    let other = Some(4321);
    std::os::unix::fs::chown(scratch.store.path(), other, None).unwrap();
    assert!(matches!(scratch.again(), Err(Error::Owner { owner: 4321, user: 0 })));
    // Also one that is not there yet: nothing is laid out in another user's directory.
    let empty = scratch.path.join("empty");
    std::fs::create_dir(&empty).unwrap();
    std::os::unix::fs::chown(&empty, other, None).unwrap();
    assert!(matches!(Store::open(&empty), Err(Error::Owner { .. })));
    assert_eq!(std::fs::read_dir(&empty).unwrap().count(), 0);
    std::os::unix::fs::chown(scratch.store.path(), Some(0), None).unwrap();
    scratch.again().unwrap();
}

#[test]
fn a_newer_store_is_left_alone() {
    let scratch = Scratch::new();
    let write = |text: &str| std::fs::write(scratch.file("format.json"), text).unwrap();
    write(r#"{"version":2}"#);
    assert!(matches!(scratch.again(), Err(Error::Format(_))));
    write(r#"{"version":1,"incompatible":["dedup"]}"#);
    assert!(matches!(scratch.again(), Err(Error::Format(_))));
    write(r#"{"version":1,"ro_compatible":["x"],"compatible":["y"]}"#);
    let store = scratch.again().unwrap();
    assert!(store.images().is_ok());
    assert!(matches!(store.adding(), Err(Error::ReadOnly { .. })));
    write("");
    assert!(matches!(scratch.again(), Err(Error::Damaged { .. })));
}

#[test]
fn images_are_found_by_name_and_id() {
    let scratch = Scratch::new();
    let id = add_image(&scratch.store, &["debian:12", "localhost/x:1"]);
    let images = scratch.store.images().unwrap();
    for word in ["debian:12", "docker.io/library/debian:12", "localhost/x:1", &id.to_string(), &id.hex(), &id.short()] {
        assert_eq!(images.find(word).unwrap().id, id, "{word}");
    }
    for word in ["debian", "localhost/x", "", "z", "/", "sha256:", &"f".repeat(65)] {
        assert!(matches!(images.find(word), Err(Error::NotFound { .. })), "{word:?}");
    }
    assert_eq!(images.find(&id.hex()[..1]).unwrap().id, id, "as in docker");
}

#[test]
fn a_change_that_fails_changes_nothing() {
    let scratch = Scratch::new();
    add_image(&scratch.store, &["x"]);
    let before = scratch.store.images().unwrap();
    let mut steps = 0;
    loop {
        let mut left = steps;
        let hook = move |_: &gate::Call<'_>| {
            left -= 1;
            (left < 0).then_some(Errno::IO)
        };
        let failed = gate::with_hook(hook, || {
            let index = scratch.store.index()?;
            scratch.store.change_images(&index, |images| {
                images.names.clear();
                Ok::<_, Error>(())
            })
        });
        if failed.is_ok() {
            break;
        }
        let now = scratch.again().unwrap().images().unwrap();
        // The last step makes the change durable; it has happened when that fails.
        assert!(now == before || now.names.is_empty());
        steps += 1;
    }
    assert!(steps >= 4, "create, write, sync, rename, sync: {steps}");
    assert!(scratch.store.images().unwrap().names.is_empty());
}

#[test]
fn damage_is_found_and_repaired() {
    let scratch = Scratch::new();
    let id = add_image(&scratch.store, &["x"]);
    let blob = scratch.file(&format!("blobs/sha256/{}", id.hex()));
    let spoil: [&dyn Fn(); 4] = [
        &|| std::fs::write(&blob, b"{}").unwrap(),
        &|| std::fs::write(&blob, b"").unwrap(),
        &|| std::fs::remove_file(&blob).unwrap(),
        &|| {
            std::fs::remove_file(&blob).unwrap();
            std::os::unix::fs::symlink("/etc/hostname", &blob).unwrap();
        },
    ];
    for spoil in spoil {
        spoil();
        assert!(scratch.store.config(&id).is_err());
        assert_ne!(scratch.store.check(&()).unwrap().problems, []);
        let guard = scratch.store.try_collecting().unwrap().unwrap();
        assert!(scratch.store.collect(&guard).is_err(), "nothing is collected in doubt");
        drop(guard);
        scratch.store.put_blob(CONFIG).unwrap();
        assert_eq!(scratch.store.check(&()).unwrap().problems, []);
    }
}

#[test]
fn what_nobody_needs_is_collected() {
    let scratch = Scratch::new();
    let id = add_image(&scratch.store, &["x"]);
    scratch.store.put_blob(b"nobody's").unwrap();
    std::fs::write(scratch.file("blobs/sha256/.tmp-1"), b"half").unwrap();
    std::fs::create_dir_all(scratch.file("containers/.tmp-2/upper")).unwrap();
    std::fs::write(scratch.file(".tmp-3"), b"half").unwrap();
    let adding = scratch.store.adding().unwrap();
    assert!(scratch.store.try_collecting().unwrap().is_none(), "not while someone adds");
    drop(adding);
    let guard = scratch.store.try_collecting().unwrap().unwrap();
    let collected = scratch.store.collect(&guard).unwrap();
    assert_eq!((collected.blobs, collected.leftovers), (1, 3));
    assert!(scratch.store.blob(&id).unwrap().is_some());
}

#[test]
fn containers_have_unique_names_and_pin_their_image() {
    let scratch = Scratch::new();
    let id = add_image(&scratch.store, &["x"]);
    let store = &scratch.store;
    let index = store.index().unwrap();
    let dir = store.create_container(&index, &record('a', "one")).unwrap();
    dir.upper().and_then(|_| dir.work()).and_then(|_| dir.rootfs()).unwrap();
    assert!(matches!(store.create_container(&index, &record('b', "one")), Err(Error::NameTaken { .. })));
    store.create_container(&index, &record('b', "two")).unwrap();
    assert!(store.create_container(&index, &record('b', "three")).is_err(), "an id that is taken");
    assert_eq!(store.find_container("one").unwrap().id, "a".repeat(64));
    assert_eq!(store.find_container("bb").unwrap().name, "two");
    for word in ["", "c", "../a"] {
        assert!(matches!(store.find_container(word), Err(Error::NotFound { .. })), "{word:?}");
    }
    assert!(matches!(store.container_dir("../../x"), Err(Error::NotFound { .. })));
    let ended = State::Exited { code: 3, finished: 9 };
    store.update_container(&index, &"a".repeat(64), |r| r.state = ended.clone()).unwrap();
    assert_eq!(store.find_container("one").unwrap().state, ended);
    store
        .change_images(&index, |images| {
            *images = images::Images::default();
            Ok::<_, Error>(())
        })
        .unwrap();
    drop(index);
    let guard = store.try_collecting().unwrap().unwrap();
    store.collect(&guard).unwrap();
    assert!(store.blob(&id).unwrap().is_some(), "a container needs it");
    store.remove_container(&"a".repeat(64)).unwrap();
    store.remove_container(&"b".repeat(64)).unwrap();
    store.collect(&guard).unwrap();
    assert!(store.blob(&id).unwrap().is_none());
    assert!(matches!(store.remove_container(&"a".repeat(64)), Err(Error::NotFound { .. })));
}

fn mount_of(digit: char, layer: &[u8]) -> mounts::MountRecord {
    mounts::MountRecord {
        id: digit.to_string().repeat(32),
        target: "/mnt".to_owned(),
        image_name: "x:latest".to_owned(),
        image_id: Digest::of(CONFIG),
        layers: vec![Digest::of(layer)],
        pid: 1,
        start_time: 1,
        created: 1,
        extra: serde_json::Map::new(),
    }
}

/// The calls of `body` that wait for a disk.
fn syncs(body: impl FnOnce()) -> usize {
    let count = std::rc::Rc::new(std::cell::Cell::new(0));
    let counted = count.clone();
    let hook = move |call: &gate::Call<'_>| {
        counted.set(counted.get() + usize::from(call.name.contains("sync")));
        None
    };
    gate::with_hook(hook, body);
    count.get()
}

#[test]
fn a_mount_is_noted_without_waiting_for_a_disk() {
    let scratch = Scratch::new();
    let store = &scratch.store;
    let record = mount_of('a', b"one");
    assert_eq!(syncs(|| store.put_mount(&record).unwrap()), 0, "it ends with the system");
    assert_eq!(store.mounts().unwrap(), std::slice::from_ref(&record));
    store.remove_mount(&record.id).unwrap();
    assert_eq!(std::fs::read_dir(scratch.file("mounts")).unwrap().count(), 0);
}

#[test]
fn what_a_power_cut_left_of_a_mount_is_never_read() {
    let scratch = Scratch::new();
    let id = add_image(&scratch.store, &["x"]);
    let store = &scratch.store;
    let (now, old) = (mount_of('a', b"one"), mount_of('b', b"two"));
    store.put_mount(&now).unwrap();
    // One of before names had a boot, and what one of another boot may be then: nothing, or a part.
    std::fs::write(scratch.file(&format!("mounts/{}.json", old.id)), serde_json::to_vec(&old).unwrap()).unwrap();
    let boot = "11111111-2222-3333-4444-555555555555";
    for (id, bytes) in [("c".repeat(32), &b""[..]), ("d".repeat(32), b"{\"id\": \"d"), ("e".repeat(32), b"\0\0\0\0")] {
        std::fs::write(scratch.file(&format!("mounts/{id}.{boot}.json")), bytes).unwrap();
    }
    let mut ids: Vec<_> = store.mounts().unwrap().into_iter().map(|mount| mount.id).collect();
    ids.sort();
    assert_eq!(ids, [now.id, old.id]);
    let report = store.check(&()).unwrap();
    assert_eq!(report.leftovers, 3, "{report:?}");
    let guard = store.try_collecting().unwrap().unwrap();
    assert_eq!(store.collect(&guard).unwrap().leftovers, 3);
    assert_eq!(std::fs::read_dir(scratch.file("mounts")).unwrap().count(), 2);
    assert!(store.blob(&id).unwrap().is_some());
}

#[test]
fn that_a_container_runs_waits_for_its_bytes_alone() {
    let scratch = Scratch::new();
    let store = &scratch.store;
    let index = store.index().unwrap();
    store.create_container(&index, &record('a', "one")).unwrap();
    let id = "a".repeat(64);
    let running = State::Running { pid: 7, start_time: 8 };
    // The bytes are on the disk before the name: cut at any time, the record is whole.
    assert_eq!(syncs(|| drop(store.note_container(&index, &id, |r| r.state = running.clone()).unwrap())), 1);
    assert_eq!(store.find_container("one").unwrap().state, running);
    let ended = State::Exited { code: 0, finished: 9 };
    assert_eq!(syncs(|| drop(store.update_container(&index, &id, |r| r.state = ended.clone()).unwrap())), 2);
}
