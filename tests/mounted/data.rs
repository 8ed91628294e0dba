//! Reading and writing: offsets, holes, appending, copying, locks, and handles that are older than a copy-up.

use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::FallocateFlags;
use rustix::fs::FlockOperation;
use rustix::fs::SeekFrom as Seek3;

use crate::place::On;
use crate::place::Place;
use crate::place::assert_errno;
use crate::place::put;
use crate::place::sh;

fn rw(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).open(path).unwrap_or_else(|e| panic!("open {}: {e}", path.display()))
}

#[test]
fn a_read_handle_from_before_the_copy_up_sees_what_is_written_after() {
    let Some(p) = Place::mounted("handle", |_, low| drop(put(low, "f", "old text"))) else { return };
    let mut old = File::open(p.at("f")).unwrap();
    let mut text = String::new();
    old.read_to_string(&mut text).unwrap();
    assert_eq!(text, "old text");
    let new = rw(&p.at("f"));
    new.write_all_at(b"new", 0).unwrap();
    text.clear();
    old.rewind().unwrap();
    old.read_to_string(&mut text).unwrap();
    if On::chosen() == On::Mica {
        // The kernel's overlayfs keeps showing the old file, which POSIX does not allow.
        assert_eq!(text, "new text");
    }
    assert_eq!(old.metadata().unwrap().ino(), new.metadata().unwrap().ino());
    new.set_len(3).unwrap();
    assert_eq!(old.metadata().unwrap().len(), if On::chosen() == On::Mica { 3 } else { old.metadata().unwrap().len() });
}

#[test]
fn a_writer_beside_an_older_reader_never_reaches_the_layer() {
    let Some(p) = Place::mounted("beside", |_, low| drop(put(low, "f", "below"))) else { return };
    let reader = File::open(p.at("f")).unwrap();
    let writer = rw(&p.at("f"));
    writer.write_all_at(b"ABOVE", 0).unwrap();
    writer.sync_all().unwrap();
    assert_eq!(fs::read(p.in_layer(1, "f")).unwrap(), b"below");
    assert_eq!(fs::read(p.in_upper("f")).unwrap(), b"ABOVE");
    assert_eq!(std::io::read_to_string(reader).unwrap(), "ABOVE");
}

#[test]
fn appending_from_two_handles_loses_nothing() {
    let Some(p) = Place::mounted("append", |_, low| drop(put(low, "f", "start\n"))) else { return };
    let open = || OpenOptions::new().append(true).open(p.at("f")).unwrap();
    let (mut a, mut b) = (open(), open());
    for i in 0..500 {
        writeln!(a, "a{i}").unwrap();
        writeln!(b, "b{i}").unwrap();
    }
    let text = fs::read_to_string(p.at("f")).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 1001);
    assert_eq!((lines[0], lines[1], lines[2], lines[1000]), ("start", "a0", "b0", "b499"));
    // And from two processes at once.
    sh(&p.top, "for w in x y z; do (for i in $(seq 100); do echo $w$i >>f; done) & done; wait");
    assert_eq!(fs::read_to_string(p.at("f")).unwrap().lines().count(), 1301);
}

#[test]
fn opening_with_truncation_copies_no_data_up() {
    let Some(p) = Place::mounted("otrunc", |_, low| drop(put(low, "f", "old text"))) else { return };
    let mut reader = File::open(p.at("f")).unwrap();
    let writer = OpenOptions::new().write(true).truncate(true).open(p.at("f")).unwrap();
    assert_eq!(p.stat("f").len(), 0);
    writer.write_all_at(b"xy", 3).unwrap();
    assert_eq!(fs::read(p.at("f")).unwrap(), b"\0\0\0xy");
    let mut text = Vec::new();
    reader.read_to_end(&mut text).unwrap();
    if On::chosen() == On::Mica {
        assert_eq!(text, b"\0\0\0xy");
    }
    drop((reader, writer));
    p.same_after_remount_and_by_the_kernel();
}

#[test]
fn holes_stay_holes_over_a_copy_up() {
    let fill = |_: &Path, low: &Path| {
        let file = File::create(low.join("f")).unwrap();
        file.write_all_at(&[7; 4096], 8 << 20).unwrap();
        file.set_len(64 << 20).unwrap();
    };
    let Some(p) = Place::mounted("holes", fill) else { return };
    let blocks = p.stat("f").blocks();
    let file = rw(&p.at("f"));
    assert_eq!((p.stat("f").len(), p.stat("f").blocks()), (64 << 20, blocks), "sparse stays sparse");
    assert_eq!(rustix::fs::seek(&file, Seek3::Data(0)).unwrap(), 8 << 20);
    assert_eq!(rustix::fs::seek(&file, Seek3::Hole(8 << 20)).unwrap(), (8 << 20) + 4096);
    assert_errno!(rustix::fs::seek(&file, Seek3::Data(9 << 20)), NXIO);
    assert_errno!(rustix::fs::seek(&file, Seek3::Hole(64 << 20)), NXIO);
    let mut at_data = [0; 4096];
    file.read_exact_at(&mut at_data, 8 << 20).unwrap();
    assert!(at_data.iter().all(|b| *b == 7));
}

#[test]
fn lseek_on_a_lower_file() {
    let fill = |_: &Path, low: &Path| {
        let file = File::create(low.join("f")).unwrap();
        file.write_all_at(&[7; 4096], 1 << 20).unwrap();
        file.set_len(2 << 20).unwrap();
    };
    let Some(p) = Place::mounted("lseek", fill) else { return };
    let file = File::open(p.at("f")).unwrap();
    assert_eq!(rustix::fs::seek(&file, Seek3::Hole(0)).unwrap(), 0);
    assert_eq!(rustix::fs::seek(&file, Seek3::Data(0)).unwrap(), 1 << 20);
    assert_eq!(rustix::fs::seek(&file, Seek3::Hole(1 << 20)).unwrap(), (1 << 20) + 4096);
    assert_eq!((&file).seek(SeekFrom::End(-1)).unwrap(), (2 << 20) - 1);
    assert!(p.upper_names().is_empty());
}

#[test]
fn fallocate_in_its_modes() {
    let Some(p) = Place::mounted("falloc", |_, low| drop(put(low, "f", [9; 65_536]))) else { return };
    let file = rw(&p.at("f"));
    rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, 100_000).unwrap();
    assert_eq!(p.stat("f").len(), 100_000);
    rustix::fs::fallocate(&file, FallocateFlags::KEEP_SIZE, 0, 1 << 20).unwrap();
    assert_eq!(p.stat("f").len(), 100_000);
    assert!(p.stat("f").blocks() * 512 >= 1 << 20);
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(&file, punch, 4096, 8192).unwrap();
    rustix::fs::fallocate(&file, FallocateFlags::ZERO_RANGE, 20_480, 4096).unwrap();
    let bytes = fs::read(p.at("f")).unwrap();
    for (range, byte) in
        [(0..4096, 9), (4096..12_288, 0), (12_288..20_480, 9), (20_480..24_576, 0), (24_576..65_536, 9)]
    {
        assert!(bytes[range.clone()].iter().all(|b| *b == byte), "{range:?}");
    }
    assert_errno!(rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, 0), INVAL);
}

#[test]
fn copying_a_range_between_layers() {
    let text: Vec<u8> = (0..300_000u32).map(|i| (i % 253) as u8).collect();
    let Some(p) = Place::mounted("cfr", |_, low| drop(put(low, "from", &text))) else { return };
    let (from, to) = (File::open(p.at("from")).unwrap(), rw(&put(&p.top, "to", "")));
    let (mut a, mut b) = (1000, 10);
    let mut left = 200_000;
    while left > 0 {
        let n = rustix::fs::copy_file_range(&from, Some(&mut a), &to, Some(&mut b), left).unwrap();
        assert!(n > 0);
        left -= n;
    }
    let copied = fs::read(p.at("to")).unwrap();
    assert_eq!(copied.len(), 200_010);
    assert_eq!(copied[10..], text[1000..201_000]);
    assert_eq!(rustix::fs::copy_file_range(&from, Some(&mut 400_000), &to, None, 5).unwrap(), 0, "behind the end");
    assert_eq!(p.upper_names(), ["to"], "the source stays where it is");
    // Within one file.
    let one = rw(&p.at("to"));
    assert_eq!(rustix::fs::copy_file_range(&one, Some(&mut 10), &one, Some(&mut 300_000), 4096).unwrap(), 4096);
    assert_eq!(fs::read(p.at("to")).unwrap()[300_000..], text[1000..5096]);
}

#[test]
fn locks_hold_between_processes_and_over_a_copy_up() {
    let Some(p) = Place::mounted("locks", |_, low| drop(put(low, "f", "x"))) else { return };
    let reader = File::open(p.at("f")).unwrap();
    rustix::fs::flock(&reader, FlockOperation::NonBlockingLockShared).unwrap();
    let writer = rw(&p.at("f"));
    writer.write_all_at(b"y", 0).unwrap();
    // The copy-up made no second file beside the locked one.
    assert_errno!(rustix::fs::flock(&writer, FlockOperation::NonBlockingLockExclusive), WOULDBLOCK);
    drop(reader);
    rustix::fs::flock(&writer, FlockOperation::NonBlockingLockExclusive).unwrap();
    assert_eq!(sh(&p.top, "flock -n f true && echo free || echo locked"), "locked\n");
    drop(writer);
    assert_eq!(sh(&p.top, "flock -n f true && echo free || echo locked"), "free\n");
    let record = rw(&p.at("f"));
    rustix::fs::fcntl_lock(&record, FlockOperation::NonBlockingLockExclusive).unwrap();
    let probe = "import fcntl,sys\nf=open('f','r+')\ntry:\n fcntl.lockf(f,fcntl.LOCK_EX|fcntl.LOCK_NB);print('free')\nexcept OSError:print('locked')";
    if crate::place::have("python3") {
        assert_eq!(sh(&p.top, &format!("python3 -c \"{probe}\"")), "locked\n");
        drop(record);
        assert_eq!(sh(&p.top, &format!("python3 -c \"{probe}\"")), "free\n");
    }
}

#[test]
fn large_and_scattered_writes() {
    let Some(p) = Place::mounted("large", |_, low| drop(put(low, "f", vec![1; 5_000_000]))) else { return };
    let file = rw(&p.at("f"));
    let mut model = vec![1; 5_000_000];
    let mut at = 12_345usize;
    for i in 0..200u32 {
        at = (at * 7 + 104_729) % 6_000_000;
        let piece = vec![(i % 250) as u8; 1 + (at * 31) % 300_000];
        if model.len() < at + piece.len() {
            model.resize(at + piece.len(), 0);
        }
        model[at..at + piece.len()].copy_from_slice(&piece);
        file.write_all_at(&piece, at as u64).unwrap();
    }
    assert!(fs::read(p.at("f")).unwrap() == model, "the mount shows what was written");
    file.sync_all().unwrap();
    drop(file);
    assert!(fs::read(p.in_upper("f")).unwrap() == model, "and so does upper");
}

#[test]
fn syncing_files_and_directories() {
    let Some(p) = Place::mounted("fsync", |_, low| drop(put(low, "d/f", "x"))) else { return };
    let file = rw(&p.at("d/f"));
    file.sync_data().unwrap();
    file.sync_all().unwrap();
    File::open(p.at("d/f")).unwrap().sync_all().unwrap();
    File::open(p.at("d")).unwrap().sync_all().unwrap();
    File::open(&p.top).unwrap().sync_all().unwrap();
    rustix::fs::syncfs(File::open(&p.top).unwrap()).unwrap();
}
