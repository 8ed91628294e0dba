//! What the kernel keeps must be right: names, misses, attributes and data, over every change.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use crate::place::On;
use crate::place::Place;
use crate::place::put;
use crate::place::server_of;
use crate::place::sh;
use crate::support::guard::wait_for;

#[test]
fn a_tree_is_the_same_seen_warm_and_cold() {
    let fill = |high: &Path, low: &Path| {
        for i in 0..30 {
            put(low, &format!("d{}/f{i}", i % 4), format!("low {i}"));
            put(high, &format!("d{}/g{i}", i % 3), format!("high {i}"));
        }
    };
    let Some(p) = Place::mounted("warm", fill) else { return };
    drop(p.tree());
    sh(
        &p.top,
        "rm d0/f0 d1/f1; echo x >>d2/f2; mv d3/f3 d0/new; ln d0/g0 d1/link; mkdir e; mv d0/g3 e; chmod 600 d1/g1;
         truncate -s 1 d2/g2; touch -d @5 d2/f6; rm -r d3; mkdir d3; echo y >d3/y; ln -s x e/l; rm d0/f4; echo again >d0/f4",
    );
    let warm = p.tree();
    sh(&p.top, "sync; echo 2 >/proc/sys/vm/drop_caches");
    crate::support::tree::assert_same(&warm, &p.tree());
    p.same_after_remount_and_by_the_kernel();
}

/// Memory that belongs to the server alone, in KiB.
fn memory_of(server: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{server}/status")).unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn memory_goes_back_when_the_kernel_forgets() {
    let fill = |_: &Path, low: &Path| {
        for dir in 0..40 {
            put(low, &format!("d{dir}/first"), "");
            sh(&low.join(format!("d{dir}")), "seq -f f%03g 0 499 | xargs touch");
        }
    };
    let Some(p) = Place::mounted("memory", fill) else { return };
    let Some(server) = server_of(&p.top) else { return };
    sh(&p.top, "find d0 -ls >/dev/null");
    let before = memory_of(&server);
    sh(&p.top, "test $(find . -mindepth 1 -ls | wc -l) = 20080");
    let full = memory_of(&server);
    assert!(full > before + 2000, "{before} KiB, and {full} with 20000 inodes");
    // A remount makes the kernel drop the names that nobody uses, and forget what they meant.
    sh(&p.top, "mount -i -o remount $PWD");
    // Threads that were started meanwhile keep their buffers; and without the server's doing, nothing goes back at all.
    let back = full - (full - before) / 3;
    assert!(
        wait_for(Duration::from_secs(20), || memory_of(&server) < back),
        "{before} KiB, {full} with 20000 inodes, {} without",
        memory_of(&server)
    );
}

#[test]
fn attributes_are_fresh_after_each_change() {
    let Some(p) = Place::mounted("fresh", |_, low| drop(put(low, "d/f", "text"))) else { return };
    for (change, check) in [
        ("echo more >>d/f", "test $(stat -c %s d/f) = 9"),
        ("chmod 640 d/f", "test $(stat -c %a d/f) = 640"),
        ("ln d/f d/g", "test $(stat -c %h d/f)$(stat -c %h d/g) = 22"),
        ("rm d/g", "test $(stat -c %h d/f) = 1"),
        ("chown 3:4 d/f", "test $(stat -c %u:%g d/f) = 3:4"),
        ("truncate -s 2 d/f", "test $(stat -c %s d/f) = 2; test \"$(cat d/f)\" = te"),
        ("mv d/f d/h", "test $(stat -c %s d/h) = 2; ! test -e d/f"),
        ("echo n >d/n; mv d/n d/h", "test \"$(cat d/h)\" = n"),
        ("touch -d @99 d/h", "test $(stat -c %Y d/h) = 99"),
        ("touch -d @98 d", "test $(stat -c %Y d) = 98"),
        ("rm d/h", "! test -e d/h; test $(stat -c %Y d) -gt 98"),
    ] {
        sh(&p.top, &format!("ls -lR >/dev/null; {change}; {check}"));
    }
}

#[test]
fn parents_times_and_counts_change_with_their_names() {
    let Some(p) = Place::mounted("ptime", |_, low| drop(put(low, "d/f", ""))) else { return };
    for change in [
        "touch d/a",
        "mkdir d/b",
        "ln -s x d/c",
        "mkfifo d/e",
        "mv d/a d/z",
        "ln d/z d/y",
        "rm d/y",
        "rmdir d/b",
        "rm d/f",
    ] {
        sh(&p.top, "touch -d @98 d");
        assert_eq!(p.stat("d").mtime(), 98);
        sh(&p.top, change);
        assert!(p.stat("d").mtime() > 98, "after {change}");
    }
    sh(&p.top, "mkdir n n/1 n/2");
    assert_eq!(p.stat("n").nlink(), fs::metadata(p.in_upper("n")).unwrap().nlink());
}

#[test]
fn the_layers_are_never_touched() {
    let fill = |high: &Path, low: &Path| {
        for name in ["f", "g", "d/x", "d/y", "e/z"] {
            put(low, name, name);
            put(high, &format!("h{}", name.replace('/', "-")), name);
        }
    };
    let Some(p) = Place::mounted("layers", fill) else { return };
    let state = || [0, 1].map(|n| crate::support::Snapshot::of(p.in_layer(n, "")).unwrap());
    let before = state();
    sh(
        &p.top,
        "chmod 600 f; echo x >>g; rm -r d; mkdir d; mv e/z d/z; ln f f2; touch e; setfattr -n user.x -v 1 hf; chown 3 *; : >hg",
    );
    assert_eq!(before, state());
}

/// As with the kernel's overlayfs: what is read leaves no trace in the layers, and costs them no write.
#[test]
fn reading_leaves_the_access_times_of_layers() {
    if !crate::support::is_root() || On::chosen() == On::Peer {
        return crate::support::report_skip(
            "only root may read without a trace what belongs to others, and the peer leaves one",
        );
    }
    let fill = |high: &Path, low: &Path| {
        put(low, "d/f", "text");
        put(high, "d/g", "text");
        put(low, "one/h", "text");
        sh(low, "chown -R 7 . && touch -a -d 2001-01-01 d d/f one one/h");
        sh(high, "touch -a -d 2001-01-01 d d/g");
    };
    let Some(p) = Place::mounted("atime", fill) else { return };
    if std::env::var("MICA_MOUNTED_WITH").is_ok_and(|options| options.contains("io=passthrough")) {
        return crate::support::report_skip("of what is lent to the kernel it keeps the access times");
    }
    sh(&p.top, "ls d one >/dev/null; cat d/f d/g one/h >/dev/null; find . >/dev/null");
    for (layer, name) in [(1, "d"), (1, "d/f"), (0, "d"), (0, "d/g"), (1, "one"), (1, "one/h")] {
        let stat = fs::metadata(p.in_layer(layer, name)).unwrap();
        assert_eq!(stat.atime(), 978_307_200, "{name} of layer {layer}");
    }
}
