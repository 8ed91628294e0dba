//! Layers that are changed from outside while they are mounted, and what else the options of a mount change.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use crate::place::On;
use crate::place::Place;
use crate::place::assert_errno;
use crate::place::have;
use crate::place::names;
use crate::place::put;
use crate::place::set_xattr;
use crate::place::sh;
use crate::support::bin;

fn with(label: &str, options: &str, fill: impl FnOnce(&Path, &Path)) -> Option<Place> {
    if On::chosen() != On::Mica {
        crate::support::report_skip("these are options of mica's");
        return None;
    }
    let mut place = Place::prepared(label)?;
    fill(&place.in_layer(0, ""), &place.in_layer(1, ""));
    place.set_options(options);
    place.mount(On::Mica);
    Some(place)
}

fn fill(_: &Path, low: &Path) {
    for name in ["changed", "gone", "replaced", "dir/inner", "mode"] {
        put(low, &format!("d/{name}"), "before");
    }
}

/// Everything is looked at, so that the kernel knows it; also a name that is not there.
fn warm(p: &Place) {
    drop(p.tree());
    assert!(!p.at("d/new").exists());
    assert_eq!(names(&p.at("d")).len(), 5);
}

fn change(p: &Place) {
    sh(
        &p.in_layer(1, "d"),
        "echo 'after, and longer' >changed; rm gone; echo new >new; rm -r dir; echo file >dir; chmod 600 mode
         echo other >x; mv x replaced",
    );
}

fn is_after(p: &Place) {
    assert_eq!(names(&p.at("d")), ["changed", "dir", "mode", "new", "replaced"]);
    assert_eq!(sh(&p.at("d"), "cat changed new replaced dir"), "after, and longer\nnew\nother\nfile\n");
    assert!(!p.at("d/gone").exists());
    assert_eq!(p.mode("d/mode"), 0o600);
}

#[test]
fn without_a_timeout_every_change_shows_at_once() {
    let Some(p) = with("timeout0", "timeout=0", fill) else { return };
    warm(&p);
    let open = fs::File::open(p.at("d/replaced")).expect("open");
    change(&p);
    is_after(&p);
    // As in a plain directory: who has it open keeps what was there.
    assert_eq!(open.metadata().expect("fstat").len(), 6);
    // Changes through the mount go on to work.
    sh(&p.top, "echo more >>d/changed; mv d/new d/newer; rm d/mode; mkdir d/mode; echo y >d/mode/z");
    assert_eq!(names(&p.at("d")), ["changed", "dir", "mode", "newer", "replaced"]);
}

fn refresh(path: &Path) -> Command {
    let mut command = Command::new("timeout");
    command.arg("60").arg(bin::mica()).arg("refresh").arg(path);
    command
}

#[test]
fn a_refresh_shows_what_changed() {
    let Some(p) = with("refresh", "", fill) else { return };
    warm(&p);
    change(&p);
    // The kernel keeps what it knows until it is told. (Not so for what it asks again for another reason, like an access time.)
    assert!(!p.at("d/new").exists());
    bin::run_ok(&mut refresh(&p.at("d")));
    is_after(&p);
}

#[test]
fn a_refresh_of_a_name_that_does_not_show_yet_is_one_of_its_directory() {
    let Some(p) = with("refresh-up", "", fill) else { return };
    warm(&p);
    put(&p.in_layer(1, ""), "d/new/deep", "x");
    bin::run_ok(&mut refresh(&p.at("d/new/deep")));
    assert_eq!(fs::read(p.at("d/new/deep")).expect("read"), b"x");
}

/// Who looks ahead, and who lists the directory at this moment, has names from the server of which the kernel still has it that there
/// are none.
#[test]
fn a_refresh_shows_what_others_were_told_of_meanwhile() {
    let Some(p) = with("refresh-way", "", fill) else { return };
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                for entry in fs::read_dir(p.at("d")).expect("list") {
                    // What was listed may not show yet.
                    let _ = entry.expect("an entry").metadata();
                }
            }
        });
        let is_missed = |n: &usize| {
            let name = format!("d/new-{n}");
            assert!(!p.at(&name).exists());
            put(&p.in_layer(1, ""), &format!("{name}/deep"), "x");
            refreshed(&p.at("d"));
            !p.at(&name).join("deep").exists()
        };
        let missed: Vec<_> = (0..150).filter(is_missed).collect();
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(missed, [0; 0]);
    });
}

/// What `mica refresh` does, from here: without the time that a program takes to start.
fn refreshed(dir: &Path) {
    let dir = fs::File::open(dir).expect("open");
    assert_eq!(micafs::sys::control::refresh(dir), Ok(()));
}

#[test]
fn a_refresh_leaves_mounts_on_what_stays() {
    let Some(p) = with("refresh-mnt", "", fill) else { return };
    sh(&p.top, "mount -t tmpfs none d/dir; echo >d/dir/on-top");
    put(&p.in_layer(1, ""), "d/new", "x");
    bin::run_ok(&mut refresh(&p.top));
    let seen = (p.at("d/dir/on-top").exists(), p.at("d/new").exists());
    sh(&p.top, "umount -l d/dir");
    assert_eq!(seen, (true, true));
}

#[test]
fn a_refresh_goes_on_while_others_work() {
    let Some(p) = with("refresh-busy", "", fill) else { return };
    let work = "for i in 1 2 3 4 5 6 7 8 9 10; do mkdir d/w$i; echo x >d/w$i/f; mv d/w$i d/v$i; cat d/v$i/f; done";
    std::thread::scope(|scope| {
        let busy = scope.spawn(|| sh(&p.top, work));
        for _ in 0..5 {
            bin::run_ok(&mut refresh(&p.top));
        }
        assert_eq!(busy.join().expect("the work").lines().count(), 10);
    });
}

#[test]
fn only_the_owner_of_a_mount_refreshes_it() {
    let Some(p) = with("refresh-who", "", fill) else { return };
    let open = fs::File::open(&p.top).expect("open");
    let asked = micafs::sys::control::refresh(&open);
    assert_eq!(asked, Ok(()));
    // Whoever holds the directory: the one who asks counts.
    let asked = std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            micafs::sys::identity::as_owner(crate::place::USER, crate::place::USER, || {
                micafs::sys::control::refresh(&open)
            })
        });
        other.join().expect("the other")
    });
    assert_eq!(asked.map_err(|e| e.errno()), Err(rustix::io::Errno::PERM));
    let elsewhere = bin::output(&mut refresh(&p.beside("u")));
    assert!(String::from_utf8_lossy(&elsewhere.stderr).contains("no mount of mica"), "{elsewhere:?}");
}

#[test]
fn inode_flags_are_those_of_upper() {
    if !have("chattr") {
        return crate::support::report_skip("no chattr");
    }
    let Some(p) = Place::mounted("flags", |_, low| drop(put(low, "d/f", "x\n"))) else { return };
    // Reading copies nothing up.
    sh(&p.top, "lsattr -d d d/f");
    assert!(p.upper_names().is_empty());
    sh(&p.top, "chattr +a d/f; echo more >>d/f; chattr +d d");
    let tried = ["echo no >d/f", "echo no 1<>d/f", "rm d/f"];
    let refused = tried.map(|script| bin::output(&mut crate::place::shell(&p.top, script)));
    let (shown, below) = (sh(&p.top, "lsattr d/f; lsattr -d d"), sh(&p.upper, "lsattr d/f; lsattr -d d"));
    let text = sh(&p.top, "cat d/f; chattr -a d/f; chattr +i d/f");
    let immutable = fs::remove_file(p.at("d/f"));
    // A mount that is not told of openings refuses the write itself.
    let written = fs::OpenOptions::new().append(true).open(p.at("d/f")).and_then(|mut f| f.write_all(b"no"));
    sh(&p.top, "chattr -i d/f; rm d/f");
    assert!(refused.iter().all(|out| !out.status.success()), "{refused:?}");
    assert_eq!(shown, below);
    assert_eq!(text, "x\nmore\n");
    assert_errno!(immutable, PERM);
    assert_errno!(written, PERM);
    let tty = rustix::termios::tcgetattr(fs::File::open(p.at("d")).expect("open"));
    assert_eq!(tty.map(drop), Err(rustix::io::Errno::NOTTY));
}

/// The kernel checks the numbers that it knows; a 64-bit program's 32-bit ones come through as they are.
#[test]
fn inode_flags_are_the_owners_to_set() {
    if !have("perl") || !have("lsattr") || !crate::support::is_root() || On::chosen() != On::Mica {
        return crate::support::report_skip("no perl or lsattr, or not root, or the kernel's own");
    }
    let Some(p) = Place::mounted("flags-who", |_, low| drop(put(low, "d/f", "x\n"))) else { return };
    sh(&p.top, "chmod 644 d/f; chmod 755 . d; chown 4343 d/f");
    let program =
        "open(F, '<', 'd/f') or exit(8); my $flags = pack('i!', $ARGV[0]); exit(ioctl(F, 0x40046602, $flags) ? 0 : 7);";
    let tried = |who: &str, flags: u32| {
        let mut command = crate::place::shell(&p.top, &format!("{who} perl -e \"$PROGRAM\" {flags}"));
        bin::output(command.env("PROGRAM", program)).status.code()
    };
    let as_user = |uid: u32| format!("setpriv --reuid {uid} --regid {uid} --clear-groups");
    // FS_NODUMP_FL, FS_IMMUTABLE_FL, FS_APPEND_FL.
    let (dump, locks) = (0x40, [0x10, 0x20]);
    assert_eq!(tried(&as_user(crate::place::USER), dump), Some(7), "not his");
    assert_eq!(tried(&as_user(4343), dump), Some(0), "his own");
    for lock in locks {
        assert_eq!(tried(&as_user(4343), dump | lock), Some(7), "the owner locks his file");
        assert_eq!(tried("setpriv --bounding-set -linux_immutable", dump | lock), Some(7), "without the capability");
    }
    assert!(!sh(&p.top, "lsattr d/f").split(' ').next().unwrap().contains(['i', 'a']));
    assert_eq!(tried("", dump | locks[0]), Some(0), "root may");
    sh(&p.top, "chattr -i d/f");
}

/// Whoever is in a container may write to its root directory; that it is settled is the host's to ask.
#[test]
fn settling_is_the_hosts_to_ask() {
    if !crate::support::is_root() || On::chosen() != On::Mica || !have("setfattr") {
        return crate::support::report_skip("not root, or no setfattr, or the kernel's own");
    }
    let Some(p) = Place::mounted("settle-who", |_, low| drop(put(low, "d/f", "x\n"))) else { return };
    sh(&p.top, "setfattr -n user.mica.settle -v 1 .; setfattr -n user.mica.settle -v 0 .");
    let inside = "unshare --mount --propagation private setfattr -n user.mica.settle -v 0 . 2>&1 || true";
    assert!(sh(&p.top, inside).contains("not permitted"));
}

/// Those that the kernel's overlayfs carries, and no others: not even the dump flag.
#[test]
fn a_copy_keeps_the_flags_that_the_kernel_copies() {
    if !have("chattr") {
        return crate::support::report_skip("no chattr");
    }
    let fill = |_: &Path, low: &Path| {
        put(low, "d/f", "x");
        put(low, "i", "x");
        sh(low, "chattr +ASd d/f; chattr +A d; chattr +i i");
    };
    let Some(p) = Place::mounted("carried", fill) else { return };
    sh(&p.top, "echo y >>d/f");
    let changed = fs::write(p.at("i"), "y");
    sh(&p.in_layer(1, ""), "chattr -i i");
    let flags = sh(&p.upper, "lsattr d/f; lsattr -d d");
    let set = flags.lines().map(|line| line.split(' ').next().unwrap_or_default().replace(['-', 'e'], ""));
    assert_eq!(set.collect::<Vec<_>>(), ["SA", "A"], "{flags}");
    // Immutable protects the layer's own file; the kernel's overlayfs takes it for the union's, too.
    assert_eq!(changed.is_ok(), On::chosen() != On::Kernel);
}

#[test]
fn without_attributes_there_are_none() {
    let Some(p) = with("noxattrs", "noxattrs=1", fill) else { return };
    assert_errno!(set_xattr(&p.at("d/changed"), "user.x", b"v"), OPNOTSUPP);
    assert_errno!(crate::place::xattr(&p.at("d/changed"), "user.x"), OPNOTSUPP);
    sh(&p.top, "echo x >>d/changed; cp -a d e; rm -r d");
}

#[test]
fn static_nlink_counts_no_directories() {
    let Some(p) = with("nlink", "static_nlink", fill) else { return };
    sh(&p.top, "mkdir -p new/a new/b; ln d/changed d/second");
    assert_eq!((p.stat("d").nlink(), p.stat("new").nlink(), p.stat("d/second").nlink()), (1, 1, 2));
}

#[test]
fn a_volatile_mount_leaves_the_kernels_mark() {
    let Some(p) = with("volatile", "volatile", fill) else { return };
    assert!(p.beside("w/work/incompat/volatile").is_dir());
    sh(&p.top, "echo x >>d/changed; sync d/changed");
    p.unmount();
    // Its own mark, of this boot, is no hindrance.
    p.mount(On::Mica);
    p.unmount();
    // The kernel's names no boot.
    sh(&p.beside("w/work"), "rm -r incompat; mkdir -p incompat/volatile");
    let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| p.mount(On::Mica)));
    fs::remove_dir(p.beside("w/work/incompat/volatile")).expect("rmdir");
    p.mount(On::Mica);
    assert!(refused.is_err());
}
