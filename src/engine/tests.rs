//! Use cases on a real store, with every mutating system call failing in turn.

use std::path::PathBuf;

use super::input::Input;
use super::load::Options;
use super::load::load;
use super::load::load_with;
use super::remove::Removed;
use super::remove::remove;
use super::*;
use crate::explain::Outcome;
use crate::explain::explain;
use crate::explain::trace::How;
use crate::mount::record::HostPath;
use crate::mount::record::LayerPlace;
use crate::mount::record::Record;
use crate::mount::record::RecordSource;
use crate::store::Store;
use crate::store::containers::ContainerRecord;
use crate::store::containers::State;
use crate::sys::Errno;
use crate::sys::gate;

/// A directory with an archive of one two-layer image and a store, removed at the end.
pub(super) struct Scratch {
    pub(super) path: PathBuf,
}

impl Scratch {
    pub(super) fn new() -> Self {
        let unique = crate::digest::hex_of(&crate::env::random::<8>().unwrap());
        let path = std::env::temp_dir().join(format!("mica-engine-test-{unique}"));
        std::fs::create_dir(&path).unwrap();
        let scratch = Self { path };
        scratch.write_archive();
        scratch
    }

    pub(super) fn store(&self) -> Store {
        Store::open(&self.path.join("store")).unwrap()
    }

    pub(super) fn input(&self) -> Input {
        Input::open(&self.path.join("image.tar")).unwrap()
    }

    fn write_archive(&self) {
        // The first layer has one body large enough to be an object, and one that stays in the pack.
        let lower = tar_of(&[("etc/passwd", b"root"), ("big", &[7; 200_000])]);
        let upper = tar_of(&[("etc/.wh.passwd", b""), ("etc/motd", b"hello")]);
        let config = format!(
            r#"{{"created":"2026-01-01T00:00:00Z","architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["{}","{}"]}},"history":[{{"created_by":"one"}},{{"empty_layer":true}},{{"created_by":"two"}}]}}"#,
            Digest::of(&lower),
            Digest::of(&upper)
        );
        let manifest = br#"[{"Config":"c.json","RepoTags":["x:1","x:2"],"Layers":["1/layer.tar","2/layer.tar"]}]"#;
        let archive = tar_of(&[
            ("1/layer.tar", &lower),
            ("2/layer.tar", &upper),
            ("c.json", config.as_bytes()),
            ("manifest.json", manifest),
        ]);
        std::fs::write(self.path.join("image.tar"), archive).unwrap();
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.path).unwrap();
    }
}

pub(super) fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, data) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, *data).unwrap();
    }
    tar.into_inner().unwrap()
}

/// A hook that lets `steps` calls through; then one fails, or all do, as if the process had been killed.
fn failing(steps: usize, killed: bool) -> impl FnMut(&gate::Call<'_>) -> Option<Errno> {
    let mut calls = 0;
    move |_| {
        calls += 1;
        (calls == steps + 1 || killed && calls > steps).then_some(Errno::IO)
    }
}

/// Runs `body` with a fault at its first step, then its second and so on until it succeeds; how many steps it has.
pub(super) fn at_every_step(
    killed: bool,
    mut body: impl FnMut(&dyn Fn(&mut dyn FnMut() -> Result<()>) -> Result<()>) -> bool,
) -> usize {
    for steps in 0..10_000 {
        let run = |call: &mut dyn FnMut() -> Result<()>| gate::with_hook(failing(steps, killed), call);
        if body(&run) {
            return steps;
        }
    }
    panic!("it never succeeds");
}

/// Collects once more: a removal leaves it to the next one when somebody else is at work, and a child that another test of this
/// process just forked holds our locks until it becomes another program.
fn collect_when_idle(store: &Store) {
    let guard = std::iter::repeat_with(|| store.try_collecting().unwrap()).take(10_000).find_map(|guard| {
        std::thread::yield_now();
        guard
    });
    store.collect(&guard.expect("nobody else is at work")).unwrap();
}

#[test]
fn a_load_that_fails_at_any_step_leaves_nothing_to_see() {
    for killed in [false, true] {
        let steps = at_every_step(killed, |with_fault| {
            let scratch = Scratch::new();
            let store = scratch.store();
            let result =
                with_fault(&mut || load_with(&store, scratch.input(), &Options::default(), &Quiet, 1).map(drop));
            let report = scratch.store().check(&()).unwrap();
            assert_eq!(report.problems, [], "after {result:?}");
            let names = store.images().unwrap().names.len();
            assert!(names == 0 || names == 2, "all names or none: {names}");
            load(&store, scratch.input(), &Quiet).unwrap();
            assert_eq!(store.images().unwrap().names.len(), 2);
            // A removal collects all that the failed try left behind.
            remove(&store, "x:1", false).unwrap();
            remove(&store, "x:2", false).unwrap();
            collect_when_idle(&store);
            let report = store.check(&()).unwrap();
            assert_eq!((report.loose_blobs, report.loose_layers, report.problems.len()), (0, 0, 0));
            for dir in ["packs", "objects", "tmp", "blobs/sha256"] {
                let left: Vec<PathBuf> = files_below(&scratch.path.join("store").join(dir));
                assert_eq!(left, [] as [PathBuf; 0]);
            }
            result.is_ok()
        });
        assert!(steps > 20, "{steps} steps");
    }
}

#[test]
fn a_removal_that_fails_at_any_step_leaves_the_store_whole() {
    at_every_step(true, |with_fault| {
        let scratch = Scratch::new();
        let store = scratch.store();
        load(&store, scratch.input(), &Quiet).unwrap();
        remove(&store, "x:1", false).unwrap();
        let result = with_fault(&mut || remove(&store, "x:2", false).map(drop));
        assert_eq!(scratch.store().check(&()).unwrap().problems, []);
        load(&store, scratch.input(), &Quiet).unwrap();
        assert_eq!(store.check(&()).unwrap().problems, []);
        assert_eq!(images::list(&store, &images::Filter::default()).unwrap().len(), 2);
        result.is_ok()
    });
}

pub(super) fn files_below(dir: &std::path::Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files
}

#[test]
fn an_image_is_loaded_listed_tagged_and_removed() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let loaded = load(&store, scratch.input(), &Quiet).unwrap();
    let [image] = loaded.as_slice() else { panic!("one image") };
    let rows =
        images::list(&store, &images::Filter { names: vec!["x:1".to_owned()], ..images::Filter::default() }).unwrap();
    assert_eq!((rows.len(), rows[0].size, rows[0].created), (1, 200_009, Some(1_767_225_600)));
    let steps = history::history(&store, "x:1").unwrap();
    assert_eq!(steps.iter().map(|step| step.size).collect::<Vec<_>>(), [5, 0, 200_004]);
    assert_eq!(steps[0].image, Some(image.id));
    assert_eq!(inspect::inspect_image(&store, "x:1").unwrap()["RepoTags"][1], "x:2");
    tag::tag(&store, "x:1", "y").unwrap();
    assert!(tag::tag(&store, "nope", "y").is_err());
    assert!(tag::tag(&store, "x:1", "Bad Name").is_err());
    assert!(matches!(remove(&store, &image.id.hex(), false), Err(Error::Conflict(_))), "two repositories");
    assert_eq!(remove(&store, "x:2", false).unwrap().len(), 1);
    let removed = remove(&store, &image.id.short(), true).unwrap();
    let deleted = removed.iter().filter(|r| matches!(r, Removed::Deleted(_))).count();
    assert_eq!((removed.len(), deleted), (5, 3), "two names, the image, two layers");
    assert!(matches!(remove(&store, "x:1", true), Err(Error::Store(_))));
}

#[test]
fn a_saved_image_is_the_loaded_one() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let id = load(&store, scratch.input(), &Quiet).unwrap()[0].id;
    let words = ["x:1".to_owned(), "x:2".to_owned()];
    let mut archive = Vec::new();
    save::save(&store, &words, &mut archive).unwrap();
    remove(&store, &id.hex(), false).unwrap();
    std::fs::write(scratch.path.join("image.tar"), &archive).unwrap();
    let loaded = load(&store, scratch.input(), &Quiet).unwrap();
    assert_eq!((loaded[0].id, loaded[0].names.len()), (id, 2));
    let mut again = Vec::new();
    save::save(&store, &words, &mut again).unwrap();
    assert_eq!(archive, again);
    assert!(save::save(&store, &["nope".to_owned()], &mut std::io::sink()).is_err());
}

pub(super) fn container_of(store: &Store, id: Digest) -> ContainerRecord {
    ContainerRecord {
        id: "c".repeat(64),
        name: "n".to_owned(),
        image_id: id,
        image_name: "x:1".to_owned(),
        layers: store.config(&id).unwrap().diff_ids().to_vec(),
        created: 1,
        command: Vec::new(),
        state: State::Running { pid: 1, start_time: 1 },
        extra: serde_json::Map::new(),
    }
}

#[test]
fn an_image_in_use_is_not_removed() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let id = load(&store, scratch.input(), &Quiet).unwrap()[0].id;
    let mut record = container_of(&store, id);
    store.create_container(&store.index().unwrap(), &record).unwrap();
    assert_eq!(remove(&store, "x:1", false).unwrap().len(), 1, "not its last name");
    for (force, word) in [(false, "x:2"), (false, &*id.hex()), (true, &id.hex())] {
        assert!(matches!(remove(&store, word, force), Err(Error::Conflict(_))), "{force} {word}");
    }
    // As docker does: by its name and by force, a running container's image only loses the name.
    let removed = remove(&store, "x:2", true).unwrap();
    assert!(matches!(removed.as_slice(), [Removed::Untagged(_)]), "{removed:?}");
    assert!(store.images().unwrap().images.contains_key(&id));
    tag::tag(&store, &id.hex(), "x:2").unwrap();
    record.state = State::Exited { code: 0, finished: 2 };
    store.update_container(&store.index().unwrap(), &record.id, |r| r.state = record.state.clone()).unwrap();
    assert!(matches!(remove(&store, &id.hex(), false), Err(Error::Conflict(_))));
    remove(&store, "x:2", true).unwrap();
    let report = store.check(&()).unwrap();
    assert_eq!((report.problems.len(), report.loose_layers), (0, 0), "the container still has its layers");
    // With the last container go the layers of an image that is gone.
    assert!(containers::remove(&store, &record.id, false).unwrap() > 0);
    assert!(store.layers().packs().list().unwrap().is_empty());
}

#[test]
fn two_loads_and_removals_side_by_side_keep_the_store_whole() {
    let scratch = Scratch::new();
    let store = scratch.store();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..8 {
                    let store = scratch.store();
                    load(&store, scratch.input(), &Quiet).unwrap();
                    // Another thread may have been faster.
                    remove(&store, "x:1", false).map(drop).unwrap_or_default();
                    remove(&store, "x:2", false).map(drop).unwrap_or_default();
                }
            });
        }
        for _ in 0..50 {
            // Every name that can be seen means an image that can be read, unless it was removed in between.
            let images = store.images().unwrap();
            for id in images.names.values() {
                assert!(images.images.contains_key(id));
            }
        }
    });
    assert_eq!(store.check(&()).unwrap().problems, []);
}

#[test]
fn a_container_and_a_mount_of_it_are_explained_alike() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let id = load(&store, scratch.input(), &Quiet).unwrap()[0].id;
    let container = container_of(&store, id);
    store.create_container(&store.index().unwrap(), &container).unwrap();
    let upper = scratch.path.join("store/containers").join(&container.id).join("upper");
    std::fs::create_dir(upper.join("etc")).unwrap();
    std::fs::write(upper.join("etc/.wh.motd"), "").unwrap();

    let record = Record {
        io: None,
        pid: 1,
        start_time: 1,
        target: HostPath("/mnt".into()),
        source: RecordSource::Container("n".to_owned()),
        layers: container.layers.iter().rev().map(|id| LayerPlace::Pack(*id)).collect(),
        root: Some(HostPath(scratch.path.join("store"))),
        upper: Some(HostPath(upper)),
        work: None,
    };
    let subjects = [
        target::stored(&store, "n").unwrap(),
        target::of_record(std::path::Path::new("/mnt"), &record, (None, target::Damage::Refused)).unwrap(),
    ];
    for subject in &subjects {
        let commands: Vec<_> = subject.layers().iter().map(|layer| layer.made.created_by.as_deref()).collect();
        assert_eq!(commands, [None, Some("two"), Some("one")], "{}", subject.title());
        let motd = explain(subject, b"/etc/motd", false).unwrap();
        let Outcome::Hidden { layer: 1, by: Some(by) } = &motd.outcome else { panic!("{motd:#?}") };
        assert_eq!((by.layer, by.how), (0, How::Whiteout));
        let passwd = explain(subject, b"/etc/passwd", false).unwrap();
        assert!(matches!(&passwd.outcome, Outcome::Hidden { layer: 2, by: Some(by) } if by.layer == 1), "{passwd:#?}");
        assert!(explain(subject, b"/big", false).unwrap().served().unwrap().location.contains("object sha256:"));
    }
}

/// `system df` and `ps -s` look at what running containers write.
#[test]
fn an_upper_directory_is_measured_while_it_changes() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let record = ContainerRecord {
        id: "ab".repeat(32),
        name: "busy".to_owned(),
        image_id: Digest::of(b"image"),
        image_name: "x:1".to_owned(),
        layers: Vec::new(),
        created: 0,
        command: Vec::new(),
        state: State::Created,
        extra: serde_json::Map::new(),
    };
    assert_eq!(usage::upper_size(&store, &record).unwrap(), 0, "it was removed since it was listed");
    store.create_container(&store.index().unwrap(), &record).unwrap();
    let upper = containers::dir(&store, &record.id).join("upper");
    std::fs::write(upper.join("stays"), [1; 1000]).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let busy = |n: usize| {
            let (dir, stop) = (upper.join(format!("dir-{n}")), &stop);
            move || {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    std::fs::create_dir_all(dir.join("a/b")).unwrap();
                    std::fs::write(dir.join("a/b/file"), b"").unwrap();
                    std::fs::remove_dir_all(&dir).unwrap();
                }
            }
        };
        scope.spawn(busy(1));
        scope.spawn(busy(2));
        let found: Vec<_> = (0..300).map(|_| usage::upper_size(&store, &record)).collect();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(found.iter().all(|size| matches!(size, Ok(1000))), "{:?}", found.iter().find(|size| size.is_err()));
    });
}
