//! What a program will ask for next is looked up before it asks: seen in the requests that are left for the program itself.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rustix::fs::FileType;
use serde_json::Value;

use crate::place::On;
use crate::place::Place;
use crate::place::mknod;
use crate::place::put;
use crate::place::server_of;
use crate::support::Daemon;
use crate::support::bin;
use crate::support::guard::TempDir;
use crate::support::guard::wait_for;
use crate::support::report_skip;

/// Directories `d00` and so on, with so many small files each.
fn fill(layer: &Path, dirs: usize, files: usize) {
    for d in 0..dirs {
        fs::create_dir(layer.join(format!("d{d:02}"))).unwrap();
        (0..files).for_each(|f| drop(put(layer, &format!("d{d:02}/f{f:03}"), format!("{d} {f}"))));
    }
}

/// `None`, and the reason printed, where nothing is looked up ahead.
fn mounted(label: &str, options: &str, fill: impl FnOnce(&Path)) -> Option<Place> {
    if On::chosen() != On::Mica || std::thread::available_parallelism().unwrap().get() < 2 {
        report_skip("nothing is looked up ahead with one processor, or by the kernel's own filesystems");
        return None;
    }
    let mut place = Place::prepared(label)?;
    fill(&place.in_layer(1, ""));
    place.set_options(options);
    place.mount(On::Mica);
    Some(place)
}

fn stats(place: &Place) -> Value {
    let out = bin::run_ok(Command::new(bin::mica()).args(["stats", "--json"]).arg(&place.top));
    serde_json::from_str(&out).expect("JSON")
}

fn ahead(place: &Place, what: &str) -> u64 {
    stats(place)["ahead"][what].as_u64().expect("a number")
}

fn count(place: &Place, op: &str) -> u64 {
    let stats = stats(place);
    let requests = stats["requests"].as_array().expect("requests");
    requests.iter().find(|r| r["op"] == op).map_or(0, |r| r["count"].as_u64().expect("a number"))
}

/// Requests of these kinds that a program waits for while it does this. What looks ahead may still be at work, a read under way: no more
/// than its own requests are taken off.
fn waited_for(place: &Place, ops: &[&str], work: impl FnOnce()) -> u64 {
    let all = || ops.iter().map(|op| count(place, op)).sum::<u64>();
    // Its own are counted around the others: what comes in between is one of its own in vain.
    let own = ahead(place, "requests");
    let before = all();
    work();
    let after = all();
    (after - before).saturating_sub(ahead(place, "requests") - own)
}

/// Whether so much was done ahead after a while, when nothing more comes.
fn settles(place: &Place, what: &str, at_least: u64) -> bool {
    let mut last = u64::MAX;
    let calm = || {
        std::thread::sleep(Duration::from_millis(60));
        let now = ahead(place, "requests");
        std::mem::replace(&mut last, now) == now
    };
    assert!(wait_for(Duration::from_secs(20), calm), "it never ends");
    ahead(place, what) >= at_least
}

/// A mount on which `begin` was followed by so much that was done ahead. What is looked up ahead is cut short whenever anything is mounted or
/// unmounted on the machine, as other tests do all the time, and after half a second: so as often as it takes, each time on a new mount.
fn followed(
    (label, fill): (&str, impl Fn(&Path)),
    begin: impl Fn(&Place),
    (what, at_least): (&str, u64),
) -> Option<Place> {
    let mut seen = Vec::new();
    for _ in 0..40 {
        let place = mounted(label, "ahead=1", &fill)?;
        if what == "files" && stats(&place)["kernel"]["passthrough"] == true {
            report_skip("what is lent to the kernel is not read ahead");
            return None;
        }
        begin(&place);
        if settles(&place, what, at_least) {
            return Some(place);
        }
        seen.push(ahead(&place, what));
    }
    panic!("{what}: never {at_least}, but {seen:?}");
}

/// A process that another one started.
fn child_of(parent: &str) -> Option<String> {
    let is_child = |pid: &String| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.split(' ').nth(1) == Some(parent))
    };
    let pids = fs::read_dir("/proc").ok()?.filter_map(|e| e.ok()?.file_name().into_string().ok());
    pids.filter(|name| name.bytes().all(|b| b.is_ascii_digit())).find(is_child)
}

/// Whether a process ended, reaped or not.
fn is_gone(pid: &str) -> bool {
    let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    state.rsplit_once(") ").is_none_or(|(_, state)| state.starts_with('Z') || state.starts_with('X'))
}

fn file(place: &Place, d: usize, f: usize) -> PathBuf {
    place.at(format!("d{d:02}/f{f:03}"))
}

fn look(place: &Place, d: usize, f: usize) {
    assert!(fs::symlink_metadata(file(place, d, f)).unwrap().is_file());
}

fn read(place: &Place, d: usize, f: usize) {
    assert_eq!(fs::read_to_string(file(place, d, f)).unwrap(), format!("{d} {f}"));
}

#[test]
fn names_that_follow_are_known_before_they_are_looked_up() {
    let begin = |place: &Place| (0..10).for_each(|f| look(place, 0, f));
    let Some(place) = followed(("ahead-names", |layer| fill(layer, 1, 200)), begin, ("names", 200)) else { return };
    let asked = waited_for(&place, &["lookup"], || (10..200).for_each(|f| look(&place, 0, f)));
    assert_eq!(asked, 0, "each was known");
}

#[test]
fn files_that_follow_are_read_before_they_are_opened() {
    let begin = |place: &Place| (0..4).for_each(|f| read(place, 0, f));
    let Some(place) = followed(("ahead-files", |layer| fill(layer, 1, 100)), begin, ("files", 96)) else { return };
    let asked = waited_for(&place, &["lookup", "read"], || (4..100).for_each(|f| read(&place, 0, f)));
    assert_eq!(asked, 0, "each was there");
}

#[test]
fn a_program_that_goes_through_a_tree_finds_the_next_directories_known() {
    let look_at = |place: &Place, d| (0..5).for_each(|f| look(place, d, f));
    let begin = |place: &Place| (0..3).for_each(|d| look_at(place, d));
    let Some(place) = followed(("ahead-tree", |layer| fill(layer, 12, 5)), begin, ("names", 20)) else { return };
    let asked = waited_for(&place, &["lookup"], || (3..6).for_each(|d| look_at(&place, d)));
    assert_eq!(asked, 0, "of the names in them, and of the directories");
}

#[test]
fn attributes_after_reading_are_known_for_who_asks_for_them() {
    use std::io::Read;
    let read_and_ask = |place: &Place, f| {
        let mut open = fs::File::open(file(place, 0, f)).unwrap();
        open.read_to_string(&mut String::new()).unwrap();
        assert!(open.metadata().unwrap().is_file());
    };
    let begin = |place: &Place| (0..4).for_each(|f| read_and_ask(place, f));
    let Some(place) = followed(("ahead-tar", |layer| fill(layer, 1, 60)), begin, ("files", 56)) else { return };
    let asked = waited_for(&place, &["getattr"], || (4..60).for_each(|f| read_and_ask(&place, f)));
    assert_eq!(asked, 0);
}

/// Nothing is read for who takes files here and there; and nothing at all where it is switched off.
#[test]
fn who_jumps_about_is_not_followed_and_an_option_says_no() {
    let jump = |place: &Place| {
        [70, 3, 41, 96, 15, 60, 2, 88, 30, 77, 9, 50, 22, 66, 35, 81, 5, 93]
            .into_iter()
            .for_each(|f| read(place, 0, f));
    };
    let Some(place) = followed(("ahead-jumps", |layer| fill(layer, 1, 100)), jump, ("names", 100)) else { return };
    assert_eq!(ahead(&place, "files"), 0);
    place.unmount();
    for options in ["ahead=0", "timeout=0"] {
        let Some(place) = mounted("ahead-not", options, |layer| fill(layer, 1, 100)) else { return };
        (0..100).for_each(|f| read(&place, 0, f));
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(ahead(&place, "requests"), 0, "{options}");
    }
}

/// Only regular files are opened: whoever opens a fifo lets its writer go on.
#[test]
fn what_is_no_file_is_left_alone() {
    let fill = |layer: &Path| {
        fill(layer, 1, 40);
        mknod(&layer.join("d00/fifo"), FileType::Fifo, 0o644, 0).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", layer.join("d00/f050")).unwrap();
    };
    let writers = std::cell::RefCell::new(Vec::new());
    let begin = |place: &Place| {
        let mut echo = Command::new("sh");
        let writer = Daemon::spawn(echo.arg("-c").arg("exec echo x >fifo").current_dir(place.at("d00")));
        writers.borrow_mut().push(writer);
        (0..8).for_each(|f| read(place, 0, f));
    };
    let Some(place) = followed(("ahead-kinds", fill), begin, ("names", 42)) else { return };
    let mut writer = writers.borrow_mut().pop().unwrap();
    let waits = writer.child().try_wait().unwrap().is_none();
    assert_eq!(fs::read(place.at("d00/fifo")).unwrap(), b"x\n");
    assert!(writer.child().wait().unwrap().success());
    assert!(waits, "somebody opened the fifo");
}

/// The copy of the mount through which is looked is no use of it.
#[test]
fn a_mount_can_be_taken_away_and_made_again_while_it_is_looked_ahead() {
    let Some(place) = mounted("ahead-umount", "ahead=1", |layer| fill(layer, 20, 40)) else { return };
    for round in 0..10 {
        (0..2 + round % 5).for_each(|d| (0..9).for_each(|f| read(&place, d, f)));
        let server = server_of(&place.top).expect("a server");
        if round == 9 {
            assert_ne!(ahead(&place, "requests"), 0, "nothing was looked at ahead");
        }
        rustix::mount::unmount(&place.top, rustix::mount::UnmountFlags::empty()).expect("not busy");
        assert!(wait_for(Duration::from_secs(10), || is_gone(&server)), "the server stays");
        place.mount(On::Mica);
    }
}

/// The copy through which is looked goes at once with the mount, and so does the server, and its hold on what lies below.
#[test]
fn the_filesystem_below_can_be_taken_away_behind_the_mount() {
    if !crate::support::is_root() || On::chosen() != On::Mica {
        return report_skip("mounts a filesystem of its own");
    }
    let dir = TempDir::new("ahead-below");
    let (below, top) = (dir.dir("below"), dir.dir("m"));
    let helper = dir.join("fuse-overlayfs");
    match bin::mount_helper() {
        Ok(built) => std::os::unix::fs::symlink(built, &helper).unwrap(),
        Err(why) => return report_skip(&why),
    }
    for round in 0..8 {
        bin::run_ok(Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(&below));
        for name in ["low", "up", "work"] {
            fs::create_dir(below.join(name)).unwrap();
        }
        fill(&below.join("low"), 6, 40);
        let at = |name: &str| below.join(name).display().to_string();
        let dirs = format!("lowerdir={},upperdir={},workdir={}", at("low"), at("up"), at("work"));
        bin::run_ok(Command::new(&helper).args(["-o", &dirs]).arg(&top));
        for d in 0..2 + round % 3 {
            (0..12).for_each(|f| drop(fs::read(top.join(format!("d{d:02}/f{f:03}"))).unwrap()));
        }
        bin::run_ok(Command::new("umount").arg(&top));
        // The server sees the end of its mount a moment later, as any server does.
        let gone = || rustix::mount::unmount(&below, rustix::mount::UnmountFlags::empty()).is_ok();
        assert!(wait_for(Duration::from_secs(10), gone), "busy");
    }
}

/// A server that gets a signal while it looks ahead is gone, and so is its scout; `then` is asked of the mount.
fn ends_by(signal: &str, then: impl Fn(&Place)) {
    for round in 0..8_u64 {
        let Some(place) = mounted("ahead-ends", "ahead=1", |layer| fill(layer, 20, 60)) else { return };
        let server = server_of(&place.top).expect("a server");
        let scout = child_of(&server).expect("a scout");
        (0..5).for_each(|f| read(&place, 0, f));
        (1..4).for_each(|d| (0..5).for_each(|f| look(&place, d, f)));
        std::thread::sleep(Duration::from_micros(round * 150));
        bin::run_ok(Command::new("kill").args([signal, &server]));
        assert!(wait_for(Duration::from_secs(20), || is_gone(&server)), "the server stays: does it wait for itself?");
        assert!(wait_for(Duration::from_secs(20), || is_gone(&scout)), "the scout stays");
        then(&place);
    }
}

/// The server would have to answer its own thread: it is gone all the same, and so is everybody else's wait.
#[test]
fn a_server_that_is_killed_while_it_looks_ahead_is_gone() {
    ends_by("-9", |place| {
        let told = || fs::read_dir(&place.top).is_err_and(|e| e.raw_os_error() == Some(107));
        assert!(wait_for(Duration::from_secs(20), told), "not connected");
    });
}

/// `kill`, or the end of the session: the mount goes, and nothing stays behind.
#[test]
fn a_server_that_is_told_to_end_while_it_looks_ahead_ends() {
    ends_by("-TERM", |place| {
        assert_eq!(fs::read_dir(&place.top).expect("a directory").count(), 0, "the mount stays");
    });
}

/// As when memory is short: who goes through the tree goes on alone.
#[test]
fn a_scout_that_is_killed_is_buried_and_missed_by_nobody() {
    let Some(place) = mounted("ahead-scout", "ahead=1", |layer| fill(layer, 12, 40)) else { return };
    let server = server_of(&place.top).expect("a server");
    let scout = child_of(&server).expect("a scout");
    (0..5).for_each(|f| read(&place, 0, f));
    bin::run_ok(Command::new("kill").args(["-9", &scout]));
    let goes_on = || {
        (0..12).for_each(|d| (0..40).for_each(|f| read(&place, d, f)));
        !Path::new("/proc").join(&scout).exists()
    };
    assert!(wait_for(Duration::from_secs(20), goes_on), "it is still there, or a zombie");
    rustix::mount::unmount(&place.top, rustix::mount::UnmountFlags::empty()).expect("not busy");
    assert!(wait_for(Duration::from_secs(10), || is_gone(&server)), "the server stays");
}

/// Whose layers stand still: the mount can be taken away while what is looked up ahead waits for them, and ends when they go on.
#[test]
fn a_mount_is_taken_away_while_its_layers_stand_still() {
    let Some(layers) = mounted("ahead-below", "ahead=0", |layer| fill(layer, 30, 40)) else { return };
    let Some(place) = mounted("ahead-above", "ahead=1,io_uring=0", |layer| {
        // Without the slash at its end.
        let layer: PathBuf = layer.components().collect();
        fs::remove_dir(&layer).unwrap();
        std::os::unix::fs::symlink(&layers.top, layer).unwrap();
    }) else {
        return;
    };
    let (below, server) = (server_of(&layers.top).expect("a server"), server_of(&place.top).expect("a server"));
    let scout = child_of(&server).expect("a scout");
    (0..3).for_each(|d| (0..6).for_each(|f| read(&place, d, f)));
    bin::run_ok(Command::new("kill").args(["-STOP", &below]));
    let taken = rustix::mount::unmount(&place.top, rustix::mount::UnmountFlags::empty());
    bin::run_ok(Command::new("kill").args(["-CONT", &below]));
    taken.expect("not busy");
    for (what, pid) in [("server", &server), ("scout", &scout)] {
        assert!(wait_for(Duration::from_secs(20), || is_gone(pid)), "the {what} stays");
    }
}

/// Whoever changes a directory while it is looked ahead sees his own changes, and others see them.
#[test]
fn changes_beside_it_show_as_they_are() {
    let Some(place) = mounted("ahead-changes", "ahead=1", |layer| fill(layer, 30, 30)) else { return };
    for d in 0..30 {
        for f in 0..30 {
            match f % 3 {
                0 => read(&place, d, f),
                1 => fs::remove_file(file(&place, d, f)).unwrap(),
                _ => fs::write(file(&place, d, f), format!("new {d} {f}")).unwrap(),
            }
        }
        // What the next directories hold is known by now, or is being found out.
        if let Some(next) = (d + 1 < 30).then_some(d + 1) {
            fs::rename(file(&place, next, 0), place.at(format!("d{next:02}/moved"))).unwrap();
            fs::rename(place.at(format!("d{next:02}/moved")), file(&place, next, 0)).unwrap();
        }
    }
    assert_ne!(ahead(&place, "requests"), 0, "nothing was looked at ahead");
    let shown = place.tree();
    place.remount();
    crate::support::tree::assert_same(&shown, &place.tree());
    for d in 0..30 {
        for f in 0..30 {
            let text = fs::read_to_string(file(&place, d, f));
            match f % 3 {
                0 => assert_eq!(text.unwrap(), format!("{d} {f}")),
                1 => assert_eq!(text.unwrap_err().kind(), std::io::ErrorKind::NotFound),
                _ => assert_eq!(text.unwrap(), format!("new {d} {f}")),
            }
        }
    }
}
