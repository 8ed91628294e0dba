//! Files mapped into memory, and programs started from the mount.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::place::Place;
use crate::place::chmod;
use crate::place::have;
use crate::place::mtime;
use crate::place::put;
use crate::place::set_times;
use crate::place::sh;
use crate::place::shell;
use crate::support::bin;
use crate::support::skip;

/// A shared mapping of `f` that writes "mapped" at 100, checks that reading sees it, and the other way round.
const SHARED: &str = "
import mmap, os
f = os.open('f', os.O_RDWR)
m = mmap.mmap(f, 0)
m[100:106] = b'mapped'
assert os.pread(f, 6, 100) == b'mapped', 'read sees the mapping'
os.pwrite(f, b'written', 200)
assert m[200:207] == b'written', 'the mapping sees a write'
m.flush()
m.close()
";

#[test]
fn a_shared_mapping_and_reads_see_each_other() {
    if !have("python3") {
        skip!("python3 is not installed");
    }
    let Some(p) = Place::mounted("mmap", |_, low| set_times(&put(low, "f", [b'.'; 10_000]), (1000, 0))) else { return };
    sh(&p.top, &format!("python3 -c \"{SHARED}\""));
    let text = fs::read(p.at("f")).unwrap();
    assert_eq!((&text[100..106], &text[200..207], text.len()), (&b"mapped"[..], &b"written"[..], 10_000));
    assert!(mtime(&p.at("f")).0 > 1000, "a write through a mapping changes the time");
    p.remount();
    assert!(fs::read(p.at("f")).unwrap() == text);
}

#[test]
fn a_mapping_alone_changes_the_time() {
    if !have("python3") {
        skip!("python3 is not installed");
    }
    let Some(p) = Place::mounted("mmaptime", |_, low| set_times(&put(low, "f", [b'.'; 10_000]), (1000, 0))) else {
        return;
    };
    let script = "import mmap, os\nf = os.open('f', os.O_RDWR)\nm = mmap.mmap(f, 0)\nm[5] = 65\nm.flush()\nm.close()";
    sh(&p.top, &format!("python3 -c \"{script}\""));
    assert!(mtime(&p.at("f")).0 > 1000);
    assert_eq!(fs::read(p.at("f")).unwrap()[5], 65);
}

#[test]
fn a_mapping_from_before_the_copy_up_sees_later_writes() {
    if !have("python3") {
        skip!("python3 is not installed");
    }
    if crate::place::On::chosen() != crate::place::On::Mica {
        skip!("the kernel's overlayfs does not promise it");
    }
    let Some(p) = Place::mounted("mmapup", |_, low| drop(put(low, "f", [b'.'; 10_000]))) else { return };
    let script = "
import mmap, os
f = os.open('f', os.O_RDONLY)
m = mmap.mmap(f, 0, prot=mmap.PROT_READ)
assert m[5:6] == b'.'
w = os.open('f', os.O_RDWR)
os.pwrite(w, b'new', 5)
assert m[5:8] == b'new', m[5:8]
q = mmap.mmap(f, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
q[0:1] = b'Q'
assert os.pread(f, 1, 0) == b'.', 'a private mapping stays private'
";
    sh(&p.top, &format!("python3 -c \"{script}\""));
}

#[test]
fn programs_start_from_lower_and_upper() {
    let fill = |_: &Path, low: &Path| {
        fs::copy("/bin/true", low.join("true")).unwrap();
        chmod(&low.join("true"), 0o755);
        fs::copy("/bin/sleep", low.join("sleep")).unwrap();
        put(low, "script", "#!/bin/sh\necho $0 runs\n");
        chmod(&low.join("script"), 0o755);
    };
    let Some(p) = Place::mounted("exec", fill) else { return };
    sh(&p.top, "./true; ./script; cp true true2; ./true2; chmod 700 true; ./true");
    // A program that runs cannot be written.
    let mut running = shell(&p.top, "exec ./sleep 30").spawn().unwrap();
    let busy = || fs::OpenOptions::new().write(true).open(p.at("sleep")).is_err_and(|e| e.raw_os_error() == Some(26));
    let seen = crate::support::guard::wait_for(std::time::Duration::from_secs(10), busy);
    sh(&p.top, &format!("kill {} || true", running.id()));
    let _ = running.wait();
    assert!(seen, "ETXTBSY");
    bin::run_ok(&mut shell(&p.top, "./true"));
    let file = fs::OpenOptions::new().write(true).open(p.at("script")).unwrap();
    file.write_all_at(b"#!/bin/cat", 0).unwrap();
    drop(file);
    assert!(sh(&p.top, "./script").contains("$0 runs"));
}
