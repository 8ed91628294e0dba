//! Mounts for real: the launch, the daemon, signals and the end of a mount, with a server of one empty directory.
//!
//! Every mount is made by a child process that runs this program again as `--launch NAME ARGUMENTS...`, since a launch forks and
//! needs a process with one thread. The tests run one after the other.

mod launched;
#[path = "../support/serial.rs"]
mod serial;
mod support;

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::Command;
use std::process::ExitCode;
use std::process::Stdio;

use micafs::mount::table;
use micafs::mount::umount::umount;
use micafs::sys::mount::Detach;
use support::Area;
use support::Verdict;
use support::check;
use support::check_eq;
use support::skip;
use support::until;

type Test = (&'static str, fn(&Area) -> Verdict);

const TESTS: &[Test] = &[
    ("returns_when_it_serves_and_shows_its_type", returns_when_it_serves),
    ("under_the_name_of_fuse_overlayfs", under_the_other_name),
    ("the_daemon_keeps_nothing_of_the_caller", keeps_nothing),
    ("signals_unmount_and_exit_0", signals_unmount),
    ("a_signal_with_files_open_takes_the_mount_away", signal_while_busy),
    ("usr1_asks_for_statistics", statistics),
    ("foreground_waits_for_the_end", foreground),
    ("an_external_umount_ends_the_daemon", external_umount),
    ("a_new_mount_at_the_same_place_is_left_alone", new_mount_left_alone),
    ("a_moved_mount_is_found", moved_mount),
    ("kill_9_leaves_a_dead_mount_that_umount_takes_away", killed),
    ("errors_of_the_daemon_reach_the_caller", errors_reach_the_caller),
    ("mount_points_that_cannot_be", bad_points),
    ("umount_says_what_is_wrong", umount_errors),
    ("a_caller_killed_while_it_waits_leaves_no_mount", caller_killed),
    ("a_panic_in_the_server_unmounts", panic_unmounts),
    ("a_panic_in_a_request_answers_that_request", panic_in_requests),
    ("remount_changes_flags", remount),
    ("layers_are_opened_before_the_mount", relative_layers),
    ("a_user_mounts_through_fusermount", as_user),
    ("a_mount_made_by_the_caller_is_served", passed_descriptor),
    ("a_mount_below_another_is_not_guessed_at", covered),
];

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    if arguments.first().is_some_and(|a| a == "--launch") {
        return launched::main(arguments.get(1..).unwrap_or_default());
    }
    if arguments.iter().any(|a| a == "--list") {
        return ExitCode::SUCCESS;
    }
    let wanted =
        |name: &str| arguments.iter().filter_map(|a| a.to_str()).all(|a| a.starts_with('-') || name.contains(a));
    support::run(TESTS.iter().filter(|(name, _)| wanted(name)))
}

fn returns_when_it_serves(area: &Area) -> Verdict {
    let daemon = area.launch("mount.mica", &["--lower", "/", "-o", "nonempty"])?;
    let entry = area.entry()?;
    check_eq("type", entry.kind.as_slice(), b"fuse.mica")?;
    check_eq("source", entry.source.to_str(), Some("mica"))?;
    check("read-only, nosuid, nodev", ["ro", "nosuid", "nodev", "noatime"].iter().all(|f| entry.has_flag(f)))?;
    // A user shares the mount only on request, and where the system allows it.
    check("allow_other", !support::is_root() || entry.options.windows(11).any(|w| w == b"allow_other"))?;
    check_eq("entries", fs::read_dir(&area.point)?.count(), 0)?;
    check("listed", table::mica_mounts()?.iter().any(|e| e.target == area.point))?;
    umount(&area.point, Detach::IfIdle)?;
    daemon.ends()
}

fn under_the_other_name(area: &Area) -> Verdict {
    // Files in the mount point are no hindrance under this name.
    fs::write(area.point.join("hidden"), "")?;
    let daemon = area.launch("/usr/bin/fuse-overlayfs", &["-o", "lowerdir=/,dev,suid,private"])?;
    let entry = area.entry()?;
    check_eq("type", entry.kind.as_slice(), b"fuse.fuse-overlayfs")?;
    check_eq("source", entry.source.to_str(), Some("fuse-overlayfs"))?;
    check("dev and suid, for root", !support::is_root() || !(entry.has_flag("nodev") || entry.has_flag("nosuid")))?;
    umount(&area.point, Detach::IfIdle)?;
    daemon.ends()?;
    check("the file is back", area.point.join("hidden").exists())
}

fn keeps_nothing(area: &Area) -> Verdict {
    // Descriptor 9 is inherited, too: the pipe of stderr sees its end only when both are closed.
    let launch = area.command("mount.mica", &["--lower", "/"]);
    let mut command = Command::new("sh");
    command.args(["-c", "exec 9>&2; exec \"$0\" \"$@\""]).arg(launch.get_program()).args(launch.get_args());
    command.envs(launch.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let (mut stderr, mut stdout) = (child.stderr.take().ok_or("stderr")?, child.stdout.take().ok_or("stdout")?);
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        stderr.read_to_string(&mut text).and_then(|_| stdout.read_to_string(&mut text))
    });
    until("both pipes are at their end", || reader.is_finished())?;
    check("exit code 0", child.wait()?.success())?;
    let daemon = area.daemon()?;
    for number in 0..3 {
        let link = fs::read_link(format!("/proc/{}/fd/{number}", daemon.pid))?;
        check_eq("descriptor", link.as_path(), Path::new("/dev/null"))?;
    }
    check_eq("directory", fs::read_link(format!("/proc/{}/cwd", daemon.pid))?.as_path(), Path::new("/"))?;
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid))?;
    check("umask 0", status.lines().any(|l| l.starts_with("Umask:") && l.trim_end().ends_with("0000")))?;
    let limits = fs::read_to_string(format!("/proc/{}/limits", daemon.pid))?;
    let files: Vec<&str> =
        limits.lines().find(|l| l.starts_with("Max open files")).ok_or("limits")?.split_whitespace().collect();
    check_eq("open files, soft and hard", files.get(3), files.get(4))?;
    check("a session of its own", support::session(daemon.pid)? == daemon.pid)?;
    umount(&area.point, Detach::IfIdle)?;
    daemon.ends()
}

fn signals_unmount(area: &Area) -> Verdict {
    for signal in ["TERM", "INT", "HUP"] {
        let daemon = area.launch("mount.mica", &["--lower", "/"])?;
        daemon.signal(signal)?;
        daemon.ends()?;
        check(&format!("unmounted by {signal}"), area.entry().is_err())?;
        let mut child = area.command("mount.mica", &["--foreground", "--lower", "/"]).spawn()?;
        until("the mount", || area.entry().is_ok())?;
        until("serving", || fs::read_dir(&area.point).is_ok())?;
        support::kill(child.id(), signal)?;
        check_eq(&format!("foreground, {signal}"), child.wait()?.code(), Some(0))?;
        check("unmounted", area.entry().is_err())?;
    }
    Ok(())
}

fn signal_while_busy(area: &Area) -> Verdict {
    let daemon = area.launch("mount.mica", &["--lower", "/"])?;
    let held = fs::File::open(&area.point)?;
    daemon.signal("TERM")?;
    until("out of the tree", || area.entry().is_err())?;
    // A second signal does not wait for those who hold on.
    daemon.signal("TERM")?;
    daemon.ends()?;
    drop(held);
    Ok(())
}

fn statistics(area: &Area) -> Verdict {
    let daemon = area.launch("mount.mica", &["--lower", "/"])?;
    daemon.signal("USR1")?;
    until("the hook was called", || area.recorded("statistics").is_some())?;
    umount(&area.point, Detach::IfIdle)?;
    daemon.ends()
}

fn foreground(area: &Area) -> Verdict {
    let mut child = area.command("fuse-overlayfs", &["-f", "-o", "lowerdir=/"]).spawn()?;
    until("the mount", || area.entry().is_ok())?;
    check_eq("entries, as soon as it serves", fs::read_dir(&area.point)?.count(), 0)?;
    check_eq("the server is the child itself", area.daemon()?.pid, child.id())?;
    umount(&area.point, Detach::IfIdle)?;
    check_eq("exit code", child.wait()?.code(), Some(0))
}

fn external_umount(area: &Area) -> Verdict {
    for how in [&["umount"][..], &["umount", "-l"], &["fusermount3", "-u"]] {
        let daemon = area.launch("fuse-overlayfs", &["-o", "lowerdir=/"])?;
        let (program, arguments) = how.split_first().ok_or("empty")?;
        let status = Command::new(program).args(arguments).arg(&area.point).status()?;
        check(&format!("{how:?}"), status.success())?;
        daemon.ends()?;
    }
    Ok(())
}

fn new_mount_left_alone(area: &Area) -> Verdict {
    // The first server waits after the end of its connection, so that its own unmounting comes after the new mount.
    let first = area.launch("mount.mica", &["--lower", "/", "-o", "fsname=linger"])?;
    let before = area.entry()?;
    umount(&area.point, Detach::IfIdle)?;
    until("the first server has seen its end", || area.recorded("lingers").is_some())?;
    let second = area.launch_another("mount.mica", &["--lower", "/"])?;
    println!(
        "    mount numbers: first {}, second {}; devices {:?}, {:?}",
        before.id,
        area.entry()?.id,
        before.dev,
        area.entry()?.dev
    );
    area.record("go", "")?;
    first.ends()?;
    check("the new mount is there", area.entry().is_ok() && fs::read_dir(&area.point).is_ok())?;
    umount(&area.point, Detach::IfIdle)?;
    second.ends()
}

fn moved_mount(area: &Area) -> Verdict {
    let (before, after) = (area.point.join("before"), area.point.join("after"));
    fs::create_dir_all(before.join("m"))?;
    let (code, text) = area.launch_at("mount.mica", &["--lower", "/"], &before.join("m"))?;
    check_eq(&text, code, Some(0))?;
    fs::rename(&before, &after)?;
    check("renamed with its mount", support::entry(&after.join("m")).is_ok())?;
    fs::create_dir_all(before.join("m"))?;
    let daemon = area.daemon()?;
    daemon.signal("TERM")?;
    daemon.ends()?;
    check("unmounted at its new place", support::entry(&after.join("m")).is_err())
}

fn killed(area: &Area) -> Verdict {
    let daemon = area.launch("mount.mica", &["--lower", "/"])?;
    daemon.signal("KILL")?;
    daemon.ends()?;
    let error = fs::read_dir(&area.point).err().ok_or("the dead mount answers")?;
    use std::io::ErrorKind::{ConnectionAborted, NotConnected};
    check(&format!("dead: {error}"), matches!(error.kind(), NotConnected | ConnectionAborted))?;
    let (code, text) = area.fails("mount.mica", &["--lower", "/"])?;
    check_eq("exit code", code, Some(1))?;
    check(&format!("says what to do: {text}"), text.contains("dead mount") && text.contains("umount -l"))?;
    umount(&area.point, Detach::Lazy)?;
    check("gone", area.entry().is_err())
}

fn errors_reach_the_caller(area: &Area) -> Verdict {
    let cases = [
        ("fail-open", "cannot mount fail-open on", "the store is on holiday"),
        ("fail-serve", "cannot mount fail-serve on", "no handshake today"),
        ("panic-open", "cannot mount panic-open on", "panic"),
        ("end-early", "cannot mount end-early on", "ended before it served"),
        ("die", "cannot mount die on", "signal 9"),
    ];
    for (image, first, second) in cases {
        let (code, text) = area.fails("mount.mica", &["--image", image])?;
        check_eq(image, code, Some(1))?;
        check(&format!("{image}: {text}"), text.contains(first) && text.contains(second))?;
        if image != "die" {
            check(&format!("{image} leaves no mount"), area.entry().is_err())?;
        }
    }
    // A daemon that is killed cannot unmount; its dead mount can be taken away.
    umount(&area.point, Detach::Lazy)?;
    Ok(())
}

fn bad_points(area: &Area) -> Verdict {
    fs::write(area.point.join("file"), "")?;
    let (code, text) = area.fails("mount.mica", &["--lower", "/"])?;
    check(&format!("not empty: {text}"), code == Some(1) && text.contains("not empty") && text.contains("nonempty"))?;
    for (name, say) in [("file", "not a directory"), ("missing", "does not exist")] {
        let (code, text) = area.launch_at("mount.mica", &["--lower", "/"], &area.point.join(name))?;
        check(&format!("{name}: {text}"), code == Some(1) && text.contains(say) && text.contains("hint"))?;
    }
    fs::remove_file(area.point.join("file"))?;
    Ok(())
}

fn umount_errors(area: &Area) -> Verdict {
    let error = umount(&area.point, Detach::IfIdle).err().ok_or("nothing was unmounted")?;
    check(&error.to_string(), error.to_string().contains("nothing is mounted"))?;
    let error = umount(Path::new("/proc"), Detach::IfIdle).err().ok_or("/proc was unmounted")?;
    check(&error.to_string(), error.to_string().contains("type proc"))?;
    let daemon = area.launch("mount.mica", &["--lower", "/"])?;
    let held = fs::File::open(&area.point)?;
    let error = umount(&area.point, Detach::IfIdle).err().ok_or("a busy mount was unmounted")?;
    check(&error.to_string(), error.hint().is_some_and(|hint| hint.contains("--lazy")))?;
    umount(&area.point, Detach::Lazy)?;
    drop(held);
    daemon.ends()
}

fn caller_killed(area: &Area) -> Verdict {
    let mut child = area.command("mount.mica", &["--image", "slow"]).spawn()?;
    until("the daemon has mounted", || area.recorded("waits").is_some())?;
    let daemon = area.daemon()?;
    child.kill()?;
    child.wait()?;
    area.record("go", "")?;
    daemon.ends()?;
    check("no mount", area.entry().is_err())
}

fn panic_unmounts(area: &Area) -> Verdict {
    let daemon = area.launch("mount.mica", &["--image", "panic-later"])?;
    area.record("go", "")?;
    daemon.ends()?;
    check("no mount", area.entry().is_err())
}

/// From many threads at once, again and again: each is answered, and the mount goes on serving the others.
fn panic_in_requests(area: &Area) -> Verdict {
    let daemon = area.launch("mount.mica", &["--image", "panic-in-requests"])?;
    let eio = |e: &std::io::Error| e.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error());
    let ask = || -> Result<(), String> {
        for _ in 0..25 {
            let looked = fs::metadata(area.point.join("panic")).err().ok_or("a lookup that panicked was answered")?;
            let mut value = [0u8; 8];
            let read = rustix::fs::getxattr(&area.point, "user.panic", &mut value[..]).map_err(std::io::Error::from);
            let read = read.err().ok_or("an attribute whose reading panicked was answered")?;
            if !eio(&looked) || !eio(&read) {
                return Err(format!("{looked}, {read}"));
            }
            let fine = fs::read(area.point.join("fine")).map_err(|e| format!("the others: {e}"))?;
            if fine != b"fine" {
                return Err("the others read something else".to_owned());
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..6).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a thread panicked".to_owned())?)
    })?;
    check("listed", fs::read_dir(&area.point)?.count() == 1)?;
    umount(&area.point, Detach::IfIdle)?;
    daemon.ends()
}

fn remount(area: &Area) -> Verdict {
    let daemon = area.launch("mount.mica", &["--image", "x", "--rw", "-o", "noexec"])?;
    check("writable", !area.entry()?.has_flag("ro"))?;
    let run = |options: &str| area.command("mount.mica", &["x", "-o", options]).status();
    let changed = run("rw,remount,ro")?.success();
    if !support::is_root() {
        check("a user may not remount", !changed)?;
        umount(&area.point, Detach::IfIdle)?;
        return daemon.ends();
    }
    check("remount,ro", changed)?;
    let entry = area.entry()?;
    check("read-only, noexec kept", entry.has_flag("ro") && entry.has_flag("noexec") && entry.has_flag("nodev"))?;
    check("remount,rw,exec", run("remount,rw,exec")?.success())?;
    check("writable, exec", !area.entry()?.has_flag("ro") && !area.entry()?.has_flag("noexec"))?;
    umount(&area.point, Detach::IfIdle)?;
    daemon.ends()
}

fn relative_layers(area: &Area) -> Verdict {
    let mut command = area.command("fuse-overlayfs", &["-o", "lowerdir=point"]);
    command.current_dir(area.point.parent().ok_or("no parent")?);
    check("mounted over its own layer", command.status()?.success())?;
    check_eq("opened", area.recorded("opened").as_deref(), Some("point"))?;
    let daemon = area.daemon()?;
    umount(&area.point, Detach::IfIdle)?;
    daemon.ends()
}

fn as_user(area: &Area) -> Verdict {
    if !support::is_root() {
        return skip("this is a user already, so every other test is this one");
    }
    support::user_can_fuse()?;
    area.open_to_all()?;
    let mut command = area.command("fuse-overlayfs", &["-o", "lowerdir=/"]);
    support::as_nobody(&mut command);
    let output = command.output()?;
    check(&format!("mounted: {}", String::from_utf8_lossy(&output.stderr)), output.status.success())?;
    let entry = area.entry()?;
    check_eq("type", entry.kind.as_slice(), b"fuse.fuse-overlayfs")?;
    check_eq("source", entry.source.to_str(), Some("fuse-overlayfs"))?;
    check("nosuid, nodev", entry.has_flag("nosuid") && entry.has_flag("nodev"))?;
    let daemon = area.daemon()?;
    daemon.signal("TERM")?;
    daemon.ends()?;
    check("unmounted", area.entry().is_err())
}

/// The form of `mount.fuse3 -o drop_privileges`: the caller has mounted, and hands over the connection as `/dev/fd/5`.
fn passed_descriptor(area: &Area) -> Verdict {
    if !support::is_root() {
        return skip("mounting in the caller needs root");
    }
    let script = "exec 5<>/dev/fuse && p=$1 && shift &&
        mount -i -t fuse -o fd=5,rootmode=40000,user_id=0,group_id=0 passed \"$p\" && exec \"$0\" \"$@\"";
    let launch = area.command_at("fuse-overlayfs", &["-o", "lowerdir=/"], Path::new("/dev/fd/5"));
    let mut command = Command::new("sh");
    command.args(["-c", script]).arg(launch.get_program()).arg(&area.point).args(launch.get_args());
    command.envs(launch.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = command.output()?;
    check(&format!("served: {}", String::from_utf8_lossy(&output.stderr)), output.status.success())?;
    check_eq("entries", fs::read_dir(&area.point)?.count(), 0)?;
    let daemon = area.daemon()?;
    check("umount", Command::new("umount").arg(&area.point).status()?.success())?;
    daemon.ends()
}

fn covered(area: &Area) -> Verdict {
    let first = area.launch("mount.mica", &["--lower", "/"])?;
    let second = area.launch_another("mount.mica", &["--lower", "/"])?;
    first.signal("TERM")?;
    first.ends()?;
    check("the upper mount still answers", fs::read_dir(&area.point).is_ok())?;
    umount(&area.point, Detach::IfIdle)?;
    second.ends()?;
    // What is left is the first one, dead.
    check("the lower one was left", area.entry().is_ok())?;
    umount(&area.point, Detach::Lazy)?;
    check("gone", area.entry().is_err())
}
