//! Files that are made without a name, and given one later.

use std::fs;
use std::fs::File;
use std::io;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use rustix::fs::AtFlags;
use rustix::fs::CWD;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::place::On;
use crate::place::Place;
use crate::place::USER;
use crate::place::assert_errno;
use crate::place::chmod;
use crate::place::have;
use crate::place::is_whiteout;
use crate::place::names;
use crate::place::put;
use crate::place::put_dir;
use crate::place::server_of;
use crate::place::sh;
use crate::support::bin;
use crate::support::guard::wait_for;
use crate::support::skip;

fn tmpfile(dir: &Path, more: OFlags, mode: u32) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC | more;
    Ok(File::from(rustix::fs::open(dir, flags, Mode::from_raw_mode(mode))?))
}

/// Gives an open file a name, as open(2) says.
fn link(file: &File, to: &Path) -> io::Result<()> {
    let from = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(rustix::fs::linkat(CWD, from, CWD, to, AtFlags::SYMLINK_FOLLOW)?)
}

/// A merged directory, one only below, one only on top, and a name below that is deleted. `None`, and the reason printed, where it
/// cannot be done: FUSE has the request since Linux 6.2.
fn place(label: &str) -> Option<Place> {
    let p = Place::mounted(label, |high, low| {
        put(high, "merged/high", "high");
        put(low, "merged/low", "low");
        put(low, "lower/deep/old", "old");
        put_dir(high, "top");
    })?;
    match tmpfile(&p.top, OFlags::empty(), 0o600) {
        Err(e) if e.raw_os_error() == Some(Errno::OPNOTSUPP.raw_os_error()) && kernel_is_before_6_2() => {
            crate::support::report_skip("FUSE has O_TMPFILE since Linux 6.2");
            None
        }
        made => {
            made.expect("a file without a name");
            Some(p)
        }
    }
}

fn kernel_is_before_6_2() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("/proc");
    let mut numbers = release.split(['.', '-']).map_while(|n| n.parse::<u32>().ok());
    (numbers.next(), numbers.next()) < (Some(6), Some(2))
}

fn work_is_empty(p: &Place) -> bool {
    let inner = p.beside("w").join("work");
    !inner.exists() || names(&inner).is_empty()
}

#[test]
fn a_file_without_a_name_is_made_used_and_given_one() {
    let Some(p) = place("tmpfile") else { return };
    for dir in ["merged", "lower/deep", "top", "."] {
        let before = names(&p.at(dir));
        let mut file = tmpfile(&p.at(dir), OFlags::empty(), 0o640).unwrap();
        file.write_all(b"content").unwrap();
        let stat = file.metadata().unwrap();
        assert_eq!((stat.nlink(), stat.len(), stat.mode()), (0, 7, 0o100_640), "{dir}");
        assert_eq!(names(&p.at(dir)), before, "nothing shows");
        rustix::fs::fchmod(&file, Mode::from_raw_mode(0o604)).unwrap();
        file.set_len(3).unwrap();
        file.sync_all().unwrap();
        link(&file, &p.at(dir).join("named")).unwrap();
        let named = p.stat(format!("{dir}/named"));
        assert_eq!((named.ino(), named.nlink(), named.len()), (stat.ino(), 1, 3), "{dir}");
        assert_eq!((named.mode() & 0o7777, file.metadata().unwrap().nlink()), (0o604, 1));
        assert_errno!(link(&file, &p.at(dir).join("named")), EXIST);
        // It goes on being the same file.
        file.write_all_at(b"C", 0).unwrap();
        assert_eq!(fs::read(p.at(dir).join("named")).unwrap(), b"Con");
        link(&file, &p.at("again")).unwrap();
        assert_eq!(p.stat("again").nlink(), 2);
        fs::remove_file(p.at("again")).unwrap();
    }
    assert!(work_is_empty(&p));
    p.same_after_remount_and_by_the_kernel();
}

#[test]
fn a_name_over_a_deleted_one_shows_at_once() {
    let Some(p) = place("tmpover") else { return };
    fs::remove_file(p.at("merged/low")).unwrap();
    let file = tmpfile(&p.at("merged"), OFlags::empty(), 0o600).unwrap();
    file.write_all_at(b"new", 0).unwrap();
    link(&file, &p.at("merged/low")).unwrap();
    assert!(!is_whiteout(&p.in_upper("merged/low")));
    drop(file);
    assert_eq!(fs::read(p.at("merged/low")).unwrap(), b"new");
    assert!(work_is_empty(&p));
    p.same_after_remount_and_by_the_kernel();
}

#[test]
fn one_that_is_made_to_stay_without_a_name_gets_none() {
    let Some(p) = place("tmpexcl") else { return };
    let file = tmpfile(&p.at("merged"), OFlags::EXCL, 0o600).unwrap();
    file.write_all_at(b"data", 0).unwrap();
    assert_errno!(link(&file, &p.at("merged/named")), NOENT);
    // Nor one that had a name and lost it.
    let file = tmpfile(&p.at("merged"), OFlags::empty(), 0o600).unwrap();
    link(&file, &p.at("merged/named")).unwrap();
    fs::remove_file(p.at("merged/named")).unwrap();
    assert_errno!(link(&file, &p.at("merged/named")), NOENT);
    assert_eq!(file.metadata().unwrap().nlink(), 0);
}

#[test]
fn owner_group_and_mode_of_one_without_a_name() {
    let Some(p) = place("tmpowner") else { return };
    let plain = put_dir(&p.beside(""), "plain");
    let setup = "mkdir -p open setgid acl; chmod 777 open; chown 0:77 setgid; chmod 2777 setgid; chmod 777 acl";
    for dir in [&p.top, &plain] {
        sh(dir, setup);
        if have("setfacl") {
            sh(dir, &format!("setfacl -d -m u:{USER}:rw,g:77:r,o::- acl"));
        }
    }
    // A shell cannot make such files; python can, and links them, so that names can be looked at.
    if !have("python3") {
        skip!("python3 is not installed");
    }
    let script = "import ctypes,os,sys; os.umask(0o027)\n\
        for d in sys.argv[1:]:\n \
        f=os.open(d,os.O_TMPFILE|os.O_RDWR,0o6775)\n \
        if ctypes.CDLL(None).linkat(-100,b'/proc/self/fd/%d'%f,-100,d.encode()+b'/named',0x400): sys.exit(d)";
    let make = |dir: &Path| {
        let out = crate::place::sh_as(dir, 55, &format!("python3 -c \"{script}\" open setgid acl"));
        assert!(out.status.success(), "{out:?}");
    };
    [&p.top, &plain].into_iter().for_each(|dir| make(dir));
    for name in ["open/named", "setgid/named", "acl/named"] {
        let seen = |dir: &Path| {
            let stat = fs::symlink_metadata(dir.join(name)).unwrap();
            let acl = if have("getfacl") { sh(dir, &format!("getfacl -nc {name}")) } else { String::new() };
            (stat.uid(), stat.gid(), stat.mode(), acl)
        };
        assert_eq!(seen(&p.top), seen(&plain), "{name}");
    }
    p.same_after_remount_and_by_the_kernel();
}

#[test]
fn what_never_got_a_name_is_gone_after_a_kill() {
    if On::chosen() != On::Mica {
        skip!("kills mica's server");
    }
    let Some(p) = place("tmpkill") else { return };
    let file = tmpfile(&p.at("merged"), OFlags::empty(), 0o600).unwrap();
    file.write_all_at(&vec![7; 1 << 20], 0).unwrap();
    let named = tmpfile(&p.at("merged"), OFlags::empty(), 0o600).unwrap();
    link(&named, &p.at("merged/named")).unwrap();
    named.sync_all().unwrap();
    assert!(work_is_empty(&p), "not even while it is open");
    let server = server_of(&p.top).expect("a server");
    bin::run_ok(Command::new("kill").args(["-KILL", &server]));
    let gone = || file.metadata().is_err();
    assert!(wait_for(std::time::Duration::from_secs(10), gone), "the server goes on");
    drop((file, named));
    p.remount();
    assert_eq!(names(&p.at("merged")), ["high", "low", "named"]);
    assert_eq!(names(&p.upper), ["merged"]);
    assert!(work_is_empty(&p));
}

#[test]
fn only_a_directory_takes_a_file_without_a_name() {
    let Some(p) = place("tmpro") else { return };
    chmod(&p.at("lower"), 0o555);
    assert_errno!(tmpfile(&p.at("merged/high"), OFlags::empty(), 0o600), NOTDIR);
    assert_errno!(tmpfile(&p.at("nothing"), OFlags::empty(), 0o600), NOENT);
}

#[test]
fn the_whole_filesystem_is_synced() {
    let Some(p) = place("syncfs") else { return };
    put(&p.top, "merged/new", "new");
    rustix::fs::syncfs(File::open(&p.top).unwrap()).unwrap();
    assert_eq!(fs::read(p.in_upper("merged/new")).unwrap(), b"new");
}
