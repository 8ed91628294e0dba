use std::sync::Arc;

use super::*;
use crate::layer::Layer;
use crate::layer::dir::DirLayer;
use crate::layer::handle::FdCache;
use crate::layer::pack::testing::Scratch;

fn record(pid: u32, start_time: u64) -> Record {
    Record {
        io: Some(RecordIo::NoOpen),
        pid,
        start_time,
        target: HostPath("/mnt".into()),
        source: RecordSource::Image("localhost/x:1".to_owned()),
        layers: vec![
            LayerPlace::Dir(HostPath(OsString::from_vec(b"/l/caf\xe9".to_vec()).into())),
            LayerPlace::Pack(Digest::of(b"x")),
        ],
        root: None,
        upper: Some(HostPath("/u".into())),
        work: None,
    }
}

fn own() -> Record {
    let pid = std::process::id();
    record(pid, sys::process::start_time(pid).unwrap().unwrap())
}

#[test]
fn a_record_survives_its_file() {
    let text = serde_json::to_string(&own()).unwrap();
    assert!(text.contains(r#""source":{"kind":"image","name":"localhost/x:1"}"#), "{text}");
    assert!(text.contains(r#""upper":"/u""#), "{text}");
    assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), own());
}

#[test]
fn stale_and_foreign_files_are_no_records() {
    let scratch = Scratch::new();
    let dir = scratch.fd();
    let path = scratch.0.clone();
    write(&dir, file_name((0, 7)).unwrap().as_name(), &own()).unwrap();
    // The same number, but another process: a recycled one.
    write(&dir, file_name((0, 8)).unwrap().as_name(), &record(own().pid, own().start_time + 1)).unwrap();
    write(&dir, file_name((0, 9)).unwrap().as_name(), &record(u32::MAX, 1)).unwrap();
    std::fs::write(path.join("0:10.json"), "{").unwrap();
    std::fs::write(path.join("notes.txt"), "").unwrap();
    std::os::unix::fs::symlink("0:7.json", path.join("0:11.json")).unwrap();
    assert_eq!(all_in(&path), [((0, 7), own())]);
    let mut left: Vec<_> = std::fs::read_dir(&path).unwrap().map(|e| e.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["0:10.json", "0:11.json", "0:7.json", "notes.txt"], "the stale ones are gone");
}

#[test]
fn a_dropped_record_is_removed_unless_it_is_anothers() {
    let scratch = Scratch::new();
    let name = file_name((0, 7)).unwrap();
    let kept = || Kept { dir: scratch.fd(), name: name.clone(), record: own() };
    write(&scratch.fd(), name.as_name(), &own()).unwrap();
    drop(kept());
    assert!(!scratch.0.join("0:7.json").exists());
    write(&scratch.fd(), name.as_name(), &record(1, 1)).unwrap();
    drop(kept());
    assert!(scratch.0.join("0:7.json").exists());
}

#[test]
fn what_a_stack_is_made_of() {
    let scratch = Scratch::new();
    let fds = FdCache::new(8);
    let layer: Arc<dyn Layer> = Arc::new(DirLayer::open(&scratch.0, fds).unwrap());
    let stack = Stack::new(None, vec![layer]).unwrap();
    let recorder = Recorder {
        dev: None,
        dirs: vec![scratch.fd()],
        name: Some(file_name((0, 7)).unwrap()),
        target: "/mnt".into(),
        source: RecordSource::Dirs,
        lower: vec!["/given".into()],
        root: None,
        work: None,
    };
    let kept = recorder.keep(&stack, RecordIo::NoOpen).unwrap();
    let expected = Record {
        source: RecordSource::Dirs,
        layers: vec![LayerPlace::Dir(HostPath("/given".into()))],
        upper: None,
        ..own()
    };
    assert_eq!(all_in(&scratch.0), [((0, 7), expected)]);
    drop(kept);
    assert_eq!(all_in(&scratch.0), []);
    let nowhere = Recorder { dirs: Vec::new(), ..recorder };
    assert!(nowhere.keep(&stack, RecordIo::NoOpen).is_none());
}
