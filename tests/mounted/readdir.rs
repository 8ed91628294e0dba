//! Listing directories.

use std::collections::BTreeSet;
use std::fs;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirEntryExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::RawDir;
use rustix::fs::SeekFrom;

use crate::place::Place;
use crate::place::names;
use crate::place::put;
use crate::place::put_dir;
use crate::place::sh;
use crate::place::whiteout;

/// Entries of an open directory from where it stands: name and the offset behind each.
fn entries(dir: &OwnedFd, at_most: usize) -> Vec<(String, u64)> {
    let mut buffer = Vec::with_capacity(4096);
    let mut found = Vec::new();
    let mut raw = RawDir::new(dir, buffer.spare_capacity_mut());
    while let Some(entry) = raw.next() {
        let entry = entry.expect("getdents");
        found.push((entry.file_name().to_string_lossy().into_owned(), entry.next_entry_cookie()));
        if found.len() == at_most {
            break;
        }
    }
    found
}

fn open(path: &Path) -> OwnedFd {
    File::open(path).expect("open").into()
}

fn sorted(found: &[(String, u64)]) -> Vec<String> {
    let mut names: Vec<_> = found.iter().map(|(name, _)| name.clone()).collect();
    names.sort();
    names
}

#[test]
fn merged_each_name_once_with_the_number_of_stat() {
    let fill = |high: &Path, low: &Path| {
        for name in ["both", "low", "gone", "changed"] {
            put(low, &format!("d/{name}"), name);
        }
        put(high, "d/both", "high");
        put(high, "d/high", "high");
        whiteout(&high.join("d/gone"));
        put_dir(low, "d/dir");
        put_dir(high, "d/dir");
        put(low, "d/dir/x", "");
    };
    let Some(p) = Place::mounted("merged", fill) else { return };
    sh(&p.top, "touch d/changed d/new; mkdir d/newdir; chmod 700 d/dir");
    let check = || {
        assert_eq!(names(&p.at("d")), ["both", "changed", "dir", "high", "low", "new", "newdir"]);
        for entry in fs::read_dir(p.at("d")).unwrap().map(Result::unwrap) {
            let name = entry.file_name();
            let stat = p.stat(Path::new("d").join(&name));
            assert_eq!((entry.ino(), entry.file_type().unwrap()), (stat.ino(), stat.file_type()), "{name:?}");
        }
    };
    check();
    p.remount();
    check();
    let all = entries(&open(&p.at("d")), usize::MAX);
    assert_eq!((all[0].0.as_str(), all[1].0.as_str(), all.len()), (".", "..", 9));
}

#[test]
fn seeking_back_and_forth() {
    let fill = |high: &Path, low: &Path| {
        for i in 0..200 {
            put(if i % 2 == 0 { high } else { low }, &format!("d/f{i:03}"), "");
        }
    };
    let Some(p) = Place::mounted("seek", fill) else { return };
    let dir = open(&p.at("d"));
    let all = entries(&dir, usize::MAX);
    assert_eq!(all.len(), 202);
    for i in [0, 1, 2, 57, 130, 200, 201] {
        rustix::fs::seek(&dir, SeekFrom::Start(all[i].1)).unwrap();
        assert_eq!(entries(&dir, usize::MAX)[..], all[i + 1..], "behind entry {i}");
    }
    rustix::fs::seek(&dir, SeekFrom::Start(0)).unwrap();
    assert_eq!(entries(&dir, usize::MAX), all);
}

#[test]
fn from_the_start_again_shows_what_is_new() {
    let Some(p) = Place::mounted("rewind", |_, low| drop(put(low, "d/a", ""))) else { return };
    let dir = open(&p.at("d"));
    assert_eq!(sorted(&entries(&dir, usize::MAX)), [".", "..", "a"]);
    sh(&p.top, "touch d/b; rm d/a");
    rustix::fs::seek(&dir, SeekFrom::Start(0)).unwrap();
    assert_eq!(sorted(&entries(&dir, usize::MAX)), [".", "..", "b"]);
    sh(&p.top, "mv d/b d/c; mkdir d/e");
    rustix::fs::seek(&dir, SeekFrom::Start(0)).unwrap();
    assert_eq!(sorted(&entries(&dir, usize::MAX)), [".", "..", "c", "e"]);
}

#[test]
fn what_stays_is_listed_exactly_once_while_others_come_and_go() {
    let fill = |high: &Path, low: &Path| {
        for i in 0..1000 {
            put(low, &format!("d/stays{i:04}"), "");
            put(if i % 2 == 0 { high } else { low }, &format!("d/goes{i:04}"), "");
        }
    };
    let Some(p) = Place::mounted("churn", fill) else { return };
    let dir = open(&p.at("d"));
    let mut seen: Vec<String> = Vec::new();
    let mut round = 0;
    loop {
        let some = entries(&dir, 50);
        let Some((_, cookie)) = some.last() else { break };
        // Less than what the call read ahead was taken: go back to behind the last one taken.
        rustix::fs::seek(&dir, SeekFrom::Start(*cookie)).unwrap();
        seen.extend(some.iter().map(|(name, _)| name.clone()));
        for i in 0..20 {
            let _ = fs::remove_file(p.at(format!("d/goes{:04}", (round * 20 + i) % 1000)));
            put(&p.top, &format!("d/new{round:04}-{i}"), "");
        }
        // Another reader makes the listing anew.
        assert!(fs::read_dir(p.at("d")).unwrap().count() > 1000);
        round += 1;
        assert!(round < 1000, "the listing must end");
    }
    let stays: Vec<_> = seen.iter().filter(|name| name.starts_with("stays")).collect();
    assert_eq!(stays.len(), 1000);
    assert_eq!(stays.into_iter().collect::<BTreeSet<_>>().len(), 1000);
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), seen.len(), "nothing twice");
}

#[test]
fn ten_thousand_entries() {
    let fill = |high: &Path, low: &Path| {
        for dir in [high, low] {
            put_dir(dir, "d");
        }
        for i in 0..10_000 {
            let layer = if i % 3 == 0 { high } else { low };
            fs::hard_link(put(layer, ".seed", ""), layer.join(format!("d/name-{i}"))).unwrap_or_else(|_| {
                // The filesystem's limit of links: a file of its own.
                fs::write(layer.join(format!("d/name-{i}")), "").unwrap();
            });
        }
    };
    let Some(p) = Place::mounted("many", fill) else { return };
    assert_eq!(names(&p.at("d")).len(), 10_000);
    assert_eq!(sh(&p.top, "ls -l d | wc -l").trim(), "10001");
    sh(&p.top, "cd d; ls | head -5000 | xargs rm");
    assert_eq!(names(&p.at("d")).len(), 5000);
    sh(&p.top, "rm -rf d");
    assert!(!p.at("d").exists());
}
