//! Terminals that vanish under commands that print once, and under those that go on: they end soon and quietly, with an exit code that
//! says so, and leave nothing behind. (A reader of a pipe that goes away is in `debug`.)

use std::fs;
use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::process::Child;
use std::process::Command;
use std::process::ExitStatus;
use std::process::Stdio;

use rustix::process::Signal;

use crate::area::Area;
use crate::area::signal_pid;
use crate::area::until;
use crate::debug::IMAGE;
use crate::debug::crafted;
use crate::debug::debug;
use crate::debug::mounted;
use crate::support::require_root;
use crate::terminal::terminal_of;

/// As a program ends that SIGHUP kills.
const HUNG_UP: Option<i32> = Some(129);

/// Starts a command on a terminal that does not control it, so nothing but reading and writing tells of its end; with the other side.
fn on_terminal(mut command: Command) -> (Child, File) {
    let (master, slave) = terminal_of(24, 80);
    let side = || Stdio::from(slave.try_clone().unwrap());
    let child = command.stdin(side()).stdout(side()).stderr(Stdio::piped()).spawn().unwrap();
    (child, master)
}

/// How it ended, and what it said on standard error.
fn end(mut child: Child) -> (ExitStatus, String) {
    let mut status = None;
    until("it ends", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    let said = child.wait_with_output().unwrap();
    (status.unwrap(), String::from_utf8_lossy(&said.stderr).into_owned())
}

fn listeners(area: &Area) -> u64 {
    let stats: serde_json::Value = serde_json::from_str(&area.ok(["stats", "--json", "live"])).unwrap();
    stats["listeners"].as_u64().unwrap()
}

#[test]
fn one_shot_commands_end_quietly_when_the_terminal_is_gone() {
    let area = crafted("gone");
    let archive = "docker-archive:image/image.tar";
    for arguments in [
        &["which", IMAGE, "/etc/conf"][..],
        &["which", "--json", archive, "/etc/conf"],
        &["explain", IMAGE, "/etc/conf"],
        &["log", IMAGE, "/etc/conf"],
        &["blame", "-R", archive],
        &["show", IMAGE, "/opq/new"],
        &["diff", "-U", "localhost/crafted:1@0..@3"],
        &["du", archive],
        &["find", IMAGE],
        &["lint", IMAGE],
        &["history", IMAGE],
        &["images"],
    ] {
        let mut command = area.mica(arguments);
        command.env("TMPDIR", area.join(""));
        // The terminal goes before the first byte: nothing is in a buffer that would hide it.
        let (master, slave) = terminal_of(24, 80);
        drop(master);
        let side = || Stdio::from(slave.try_clone().unwrap());
        let child = command.stdin(side()).stdout(side()).stderr(Stdio::piped()).spawn().unwrap();
        let (status, err) = end(child);
        assert_eq!((status.code(), err.as_str()), (HUNG_UP, ""), "{arguments:?}");
    }
    nothing_is_left(&area);
}

fn nothing_is_left(area: &Area) {
    let names = fs::read_dir(area.join("")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let left: Vec<_> = names.filter(|name| name.starts_with("mica-")).collect();
    assert_eq!(left, Vec::<String>::new());
}

/// In the middle of what is longer than a terminal keeps.
#[test]
fn a_long_list_ends_when_the_terminal_goes() {
    use crate::support::archive::Entry;
    use crate::support::archive::tar_of;
    use crate::support::archive::write_archive;
    let area = Area::new("midway");
    let names: Vec<String> = (0..5000).map(|n| format!("{n:05}{}", "x".repeat(90))).collect();
    let entries: Vec<_> = names.iter().map(|name| Entry::File(name.as_bytes(), "")).collect();
    let by = serde_json::json!([{ "created_by": "RUN many" }]);
    let archive = write_archive(&area.new_dir("image"), "localhost/wide:1", &[tar_of(&entries)], &by);
    area.ok(["load", "-i", archive.to_str().unwrap()]);
    for command in ["find", "blame", "lint"] {
        let (mut child, master) = on_terminal(area.mica([command, "localhost/wide:1"]));
        if command != "lint" {
            // It waits for the terminal now.
            let state = || fs::read_to_string(format!("/proc/{}/wchan", child.id())).unwrap_or_default();
            crate::support::guard::wait_for(std::time::Duration::from_secs(5), || state().contains("tty"));
            assert_eq!(child.try_wait().unwrap(), None, "{command}: nobody reads");
        } else {
            child.wait().unwrap();
        }
        drop(master);
        let (status, err) = end(child);
        let code = if command == "lint" { Some(0) } else { HUNG_UP };
        assert_eq!((status.code(), err.as_str()), (code, ""), "{command}");
    }
}

#[test]
fn a_trace_ends_when_the_terminal_goes_although_nothing_is_done_on_the_mount() {
    require_root!();
    let area = mounted("untraced");
    for more in [&[][..], &["--json"], &["--summary"]] {
        let (child, master) = on_terminal(area.mica(["trace", "live"].iter().chain(more)));
        until("it listens", || listeners(&area) == 1);
        drop(master);
        let (status, err) = end(child);
        assert_eq!((status.code(), err.as_str()), (HUNG_UP, ""), "{more:?}");
        until("the server knows", || listeners(&area) == 0);
    }
    // What is recorded needs no terminal; a signal completes the file.
    let (child, master) = on_terminal(area.mica(["trace", "--record", "events", "live"]));
    until("it listens", || listeners(&area) == 1);
    drop(master);
    assert!(fs::metadata(area.join("mnt/etc/nothing-like-it")).is_err());
    signal_pid(child.id(), Signal::HUP);
    let (status, err) = end(child);
    assert_eq!((status.code(), err.as_str()), (Some(0), ""));
    let events = fs::read_to_string(area.join("events")).unwrap();
    assert!(events.contains("/etc/nothing-like-it") && events.ends_with("}\n"), "{events}");
    // The shell and its trace.
    for lines in ["", "trace\n"] {
        let mut command = debug(&area, &["--plain", "live"]);
        command.env("TERM", "xterm");
        let (child, mut master) = on_terminal(command);
        std::io::Write::write_all(&mut master, lines.as_bytes()).unwrap();
        let wanted = u64::from(!lines.is_empty());
        until("it reads", || listeners(&area) == wanted && reads(child.id()));
        drop(master);
        let (status, err) = end(child);
        let code = if lines.is_empty() { Some(0) } else { HUNG_UP };
        assert_eq!((status.code(), err.as_str()), (code, ""), "{lines:?}");
        until("the server knows", || listeners(&area) == 0);
    }
    area.ok(["umount", "mnt"]);
}

/// Whether it has come to what it waits for.
fn reads(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") S "))
}

/// What a terminal that controls a program does when it goes: a signal, which nothing survives, and nothing is left for long.
#[test]
fn a_hangup_ends_every_command() {
    require_root!();
    let area = mounted("hangup");
    for arguments in [
        &["trace", "live"][..],
        &["trace", "--summary", "live"],
        &["debug", "--plain", IMAGE],
        &["debug", "--plain", "docker-archive:image/image.tar"],
    ] {
        let mut command = area.mica(arguments);
        command.env("TERM", "xterm").env("TMPDIR", area.join(""));
        let (child, master) = on_terminal(command);
        let traces = arguments[0] == "trace";
        until("it waits", || reads(child.id()) && (!traces || listeners(&area) == 1));
        signal_pid(child.id(), Signal::HUP);
        let (status, err) = end(child);
        drop(master);
        assert!(status.signal() == Some(1) || matches!(status.code(), Some(0 | 129)), "{arguments:?}: {status:?}");
        assert_eq!(err, "", "{arguments:?}");
        until("the server knows", || listeners(&area) == 0);
    }
    // What a killed look left goes with the next one.
    let mut next = area.mica(["which", "docker-archive:image/image.tar", "/etc"]);
    assert!(next.env("TMPDIR", area.join("")).output().unwrap().status.success());
    nothing_is_left(&area);
    area.ok(["umount", "mnt"]);
}
