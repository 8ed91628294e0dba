//! `mica debug` on a real terminal: what it shows at two sizes, its keys, the mouse, the trace of a real mount, and what goes wrong.
//!
//! The pictures lie in `tests/golden/screen/`; with `MICA_UPDATE_GOLDEN` set they are drawn anew, to be looked at and committed.

use std::fs;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use crate::area::Area;
use crate::area::Started;
use crate::area::assert_one_line;
use crate::area::finish;
use crate::area::signal_pid;
use crate::area::until;
use crate::screen::Screen;
use crate::support::archive::Entry;
use crate::support::archive::tar_of;
use crate::support::archive::write_archive;
use crate::support::require_root;

pub const IMAGE: &str = "localhost/crafted:1";
pub const SMALL: (u16, u16) = (24, 80);
pub const LARGE: (u16, u16) = (60, 200);

/// Names that would steer a terminal, or deceive who reads it.
const HOSTILE: &[&[u8]] = &[
    b"evil\x1b[2J\x1b]0;title\x07",
    b"latin\xff\xfe",
    "rtl\u{202e}gnp.exe".as_bytes(),
    b"line\nbreak\r\ttab",
    "c1\u{9b}31mred".as_bytes(),
];

fn layers() -> Vec<Vec<u8>> {
    let long = "n".repeat(250);
    let mut first = vec![
        Entry::Dir("etc"),
        Entry::File(b"etc/conf", "a\nb\nc\n"),
        Entry::File(b"etc/motd", "hello\n"),
        Entry::Dir("hostile"),
        Entry::File(b"hostile/content", "\x1b[31mred\x1b]0;title\x07\n"),
        Entry::Dir("opq"),
        Entry::File(b"opq/low", "low\n"),
        Entry::Link("lib", "etc"),
    ];
    let paths: Vec<Vec<u8>> =
        HOSTILE.iter().copied().chain([long.as_bytes()]).map(|name| [b"hostile/", name].concat()).collect();
    first.extend(paths.iter().map(|path| Entry::File(path, "x\n")));
    let big = "x".repeat(3000);
    vec![
        tar_of(&first),
        tar_of(&[Entry::Dir("etc"), Entry::File(b"etc/.wh.motd", ""), Entry::File(b"etc/conf", "a\nB\nc\n")]),
        tar_of(&[Entry::Dir("opq"), Entry::File(b"opq/.wh..wh..opq", ""), Entry::File(b"opq/new", &big)]),
    ]
}

pub fn crafted(label: &str) -> Area {
    let area = Area::new(label);
    let by = |command: &str| serde_json::json!({ "created_by": command, "created": "2026-01-01T00:00:00Z" });
    let history = serde_json::json!([by("ADD rootfs.tar /"), by("RUN rm /etc/motd \u{1b}[31m"), by("COPY opq /opq")]);
    let archive = write_archive(&area.new_dir("image"), IMAGE, &layers(), &history);
    area.ok(["load", "-i", archive.to_str().unwrap()]);
    area
}

pub fn debug(area: &Area, arguments: &[&str]) -> Command {
    let mut command = area.mica(["debug"].iter().chain(arguments));
    command.env("TERM", "xterm-256color").env("LC_ALL", "C.UTF-8").env_remove("NO_COLOR");
    command
}

pub fn open(area: &Area, target: &str, size: (u16, u16)) -> Screen {
    let screen = Screen::new(&debug(area, &[target]), size);
    screen.until("the tree and its first entry are there", |text| text.contains("Tree") && !text.contains("Tree ..."));
    screen
}

pub fn quit(screen: Screen) {
    screen.keys(b"q");
    assert_eq!(screen.end(), Some(0));
}

fn golden(name: &str, text: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/screen").join(name);
    if std::env::var_os("MICA_UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, text).unwrap();
    }
    assert_eq!(text, fs::read_to_string(&file).unwrap_or_default(), "{}", file.display());
}

#[test]
fn the_screen_on_a_real_terminal_at_two_sizes() {
    let area = crafted("pictures");
    for (size, name) in [(SMALL, "80x24"), (LARGE, "200x60")] {
        let screen = open(&area, IMAGE, size);
        screen.keys_show(b"l", "conf");
        // Sizes of directories come last: a picture is whole when they are there.
        let whole = |text: &str| text.contains("31B");
        screen.keys(b"j");
        let text = screen.until("the file", |text| text.contains("a   ") && text.contains("5 steps") && whole(text));
        golden(&format!("file-{name}.txt"), &text);
        screen.keys(b"d");
        let text = screen.until("its changes", |text| text.contains("+B") && whole(text));
        golden(&format!("diff-{name}.txt"), &text);
        screen.keys_show(b"h", "Hexdump");
        screen.keys(b"h[[");
        let text = screen.until("layer 1 alone", |text| {
            text.contains("lowest 1 of 3") && text.contains("\u{2502}b") && whole(text) && text.contains("2 steps")
        });
        golden(&format!("back-{name}.txt"), &text);
        quit(screen);
    }
}

#[test]
fn every_key_does_what_the_help_says() {
    let area = crafted("keys");
    let screen = open(&area, IMAGE, LARGE);
    screen.keys_show(b"?", "any key goes on");
    screen.keys(b" ");
    screen.until("the help is gone", |text| !text.contains("any key goes on"));
    // The search finds what is deleted, too; Enter goes to its place in the tree. A part of a path has a slash.
    screen.keys_show(b"/c/Con\r", "2 /c/Con: 1");
    screen.keys_show(b"\x1b", "2 Tree");
    screen.keys_show(b"/MOT\r", "2 /MOT: 1");
    screen.keys(b"\r");
    screen.until("its place", |text| text.lines().next().is_some_and(|line| line.trim_end().ends_with("/etc/motd")));
    screen.shows("deletes");
    // Back in time it is there, and forth it is gone.
    screen.keys_show(b"[[", "served");
    screen.keys_show(b"]]", "deletes");
    screen.keys(b"w");
    let alone = |text: &str| text.contains("only whiteouts") && !text.contains("...") && text.contains("motd");
    let text = screen.until("whiteouts alone", alone);
    assert!(text.contains("opq/ (opaque)") && !text.contains("conf") && !text.contains("hostile"), "{text}");
    screen.keys(b"w");
    screen.until("everything again", |text| text.contains("hostile") && !text.contains("only whiteouts"));
    let text = screen.keys_show(b"c", "only changes");
    assert!(text.contains("opq/ (opaque)") && !text.contains("hostile"), "{text}");
    screen.keys(b"c");
    let text = screen.until("by size", |text| text.contains("hostile/"));
    let place = |text: &str, name: &str| text.lines().position(|line| line.contains(name)).unwrap();
    assert!(place(&text, " etc/ ") < place(&text, "opq/"), "by name: {text}");
    screen.keys(b"s");
    screen.until("the largest first", |text| place(text, "opq/") < place(text, " etc/ "));
    // The layer that serves a path.
    screen.keys_show(b"s/conf\r\r", "a   ");
    screen.keys_show(b"g", "*1 Layers");
    screen.keys(b"oj");
    screen.until("that layer alone", |text| text.contains("only L2"));
    screen.keys(b"o2xout\r");
    screen.keys_show(b"", "1 file");
    assert!(!area.join("out").exists(), "what is typed is added to the name that stands there");
    assert_eq!(fs::read(area.join("confout")).unwrap(), b"a\nB\nc\n");
    screen.keys_show(b"xx\r", "1 file");
    quit(screen);
}

#[test]
fn layers_are_mounted_from_the_screen_and_where_not_it_says_so() {
    require_root!();
    let area = crafted("mount");
    let point = area.new_dir("mnt");
    let screen = open(&area, IMAGE, SMALL);
    screen.keys_show(b"[[", "lowest 1 of 3");
    screen.keys_show(b"mmnt\r", "mounted on mnt");
    assert!(point.join("etc/motd").is_file(), "the first layer alone");
    quit(screen);
    area.ok(["umount", "mnt"]);
    area.ok(["mount", "--rw", "--name", "live", IMAGE, "mnt"]);
    for target in ["docker-archive:image/image.tar", "live"] {
        let screen = open(&area, target, LARGE);
        screen.keys_show(b"mmnt\r", "only an image in the store can be mounted");
        quit(screen);
    }
    area.ok(["umount", "mnt"]);
}

#[test]
fn a_terminal_that_changes_its_size_is_filled_again() {
    let area = crafted("sizes");
    let screen = open(&area, IMAGE, SMALL);
    for (rows, columns) in [LARGE, (30, 100), (10, 40), (3, 20), (1, 1), SMALL] {
        screen.resize(rows, columns);
        let last = |text: &str| text.lines().nth(usize::from(rows) - 1).unwrap_or_default().to_owned();
        screen.until("the last line has the keys", |text| last(text).contains("? help") || rows < 3);
    }
    screen.keys_show(b"l", "conf");
    quit(screen);
}

#[test]
fn without_colour_and_on_old_terminals() {
    let area = crafted("plain");
    let has_colour = |raw: &[u8]| {
        let text = String::from_utf8_lossy(raw).into_owned();
        text.split("\x1b[").skip(1).any(|part| {
            let parameters = part.split('m').next().unwrap_or_default();
            parameters.split(';').any(|n| matches!(n.parse(), Ok(30..=37 | 38 | 40..=47 | 48 | 90..=107)))
        })
    };
    for (name, value, coloured) in [("LC_ALL", "C.UTF-8", true), ("NO_COLOR", "1", false), ("TERM", "vt100", false)] {
        let mut command = debug(&area, &[IMAGE]);
        command.env(name, value);
        let screen = Screen::new(&command, SMALL);
        screen.keys_show(b"lj", "conf");
        assert_eq!(has_colour(&screen.raw()), coloured, "{name}={value}");
        quit(screen);
    }
    let mut command = debug(&area, &[IMAGE]);
    command.env("LC_ALL", "C");
    let screen = Screen::new(&command, SMALL);
    let text = screen.keys_show(b"lj", "conf");
    assert!(text.is_ascii(), "{text}");
    quit(screen);
    let mut command = debug(&area, &[IMAGE]);
    command.env("TERM", "dumb");
    let screen = Screen::new(&command, SMALL);
    screen.shows("--plain");
    assert_eq!(screen.end(), Some(125));
}

#[test]
fn the_mouse_chooses_and_scrolls() {
    let area = crafted("mouse");
    let screen = Screen::new(&debug(&area, &["--mouse", IMAGE]), SMALL);
    screen.shows("hostile/");
    let text = screen.text();
    let row = text.lines().position(|line| line.contains("lib@")).unwrap() + 1;
    screen.keys(format!("\x1b[<0;50;{row}M\x1b[<0;50;{row}m").as_bytes());
    screen.until("the clicked line", |text| text.lines().next().is_some_and(|line| line.trim_end().ends_with("/lib")));
    screen.keys(b"\x1b[<64;50;5M");
    screen.until("three up", |text| text.lines().next().is_some_and(|line| line.trim_end().ends_with("/etc")));
    screen.keys_show(b"\x1b[<0;5;3M", "*1 Layers");
    quit(screen);
}

#[test]
fn hostile_names_and_contents_never_reach_the_terminal() {
    let area = crafted("hostile");
    let screen = open(&area, IMAGE, LARGE);
    screen.keys(b"/hostile\r\r");
    let chosen = |text: &str| text.lines().next().is_some_and(|line| line.trim_end().ends_with("/hostile"));
    screen.until("its place", |text| text.contains("*2 Tree") && chosen(text));
    screen.keys_show(b"l", "evil\\x1b[2J");
    for _ in 0..HOSTILE.len() + 2 {
        screen.keys(b"j");
    }
    screen.keys_show(b"w", "only whiteouts");
    screen.keys_show(b"/evil\r", "2 /evil: 1");
    screen.keys_show(b"/content\r\r", "\\x1b[31mred");
    // What is typed is anybody's, too.
    screen.keys_show("/\u{202e}".as_bytes(), "search: \\xe2\\x80\\xae");
    screen.keys(b"\x1b");
    screen.shows("? help");
    let raw = screen.raw();
    quit(screen);
    assert_tame(&raw);
    // One that a program asks for by its escaped name is found: what is shown can be typed.
    let mut command = debug(&area, &["--plain", IMAGE]);
    fs::write(area.join("lines"), "cd /hostile\nls\ncat evil\\x1b[2J\\x1b]0;title\\x07\nfind\nwhiteouts\n").unwrap();
    let said = finish(command.stdin(fs::File::open(area.join("lines")).unwrap()));
    assert_eq!((said.code(), said.err.as_str()), (0, ""), "{said:?}");
    assert!(said.out.contains("evil\\x1b[2J") && said.out.contains("\nx\n"), "{said:?}");
    assert_tame(said.out.as_bytes());
}

/// Nothing of the names and contents above.
#[track_caller]
fn assert_tame(raw: &[u8]) {
    for bad in
        [&b"\x1b[2J\x1b]0"[..], b"\x1b]", b"\x07", b"\xff", "\u{202e}".as_bytes(), "\u{9b}".as_bytes(), b"\x1b[31mred"]
    {
        let at = raw.windows(bad.len()).position(|part| part == bad);
        assert_eq!(at, None, "{bad:x?} in {}", String::from_utf8_lossy(raw));
    }
}

#[test]
fn a_difference_in_what_neither_has_is_no_empty_difference() {
    let area = crafted("neither");
    let said = area.said(["diff", "localhost/crafted:1@0..@1", "/no/such"]);
    assert_eq!((said.code(), said.out.as_str()), (2, ""), "{}", said.err);
    assert!(said.err.contains("/no/such"), "{}", said.err);
}

#[test]
fn one_shot_commands_escape_what_is_hostile() {
    let area = crafted("oneshot");
    for arguments in [
        &["which", IMAGE, "/hostile"][..],
        &["explain", "-v", IMAGE, "/hostile"],
        &["log", IMAGE, "/hostile"],
        &["blame", "-R", IMAGE, "/"],
        &["diff", "localhost/crafted:1@0..@1"],
        &["diff", "-U", "localhost/crafted:1@0..@1", "/etc"],
        &["du", IMAGE],
        &["find", IMAGE],
        &["lint", IMAGE],
        &["history", IMAGE],
    ] {
        let said = area.said(arguments);
        assert_eq!((said.code(), said.err.as_str()), (0, ""), "{arguments:?}");
        assert_tame(said.out.as_bytes());
        assert!(said.out.chars().all(|c| c == '\n' || !c.is_control()), "{arguments:?}: {:?}", said.out);
    }
    // A wrong word is said back, escaped.
    for command in ["which", "explain", "log", "blame", "show", "du", "find", "lint", "debug"] {
        let mut words = area.mica([command, "ev\u{1b}[31mil:\u{202e}", "/x"]);
        let said = finish(words.env("TERM", "xterm"));
        assert_eq!(said.code(), 125, "{command}: {said:?}");
        assert!(
            said.err.chars().all(|c| c == '\n' || (!c.is_control() && c != '\u{202e}')),
            "{command}: {:?}",
            said.err
        );
    }
}

/// A union of the image, mounted for writing.
pub fn mounted(label: &str) -> Area {
    let area = crafted(label);
    area.new_dir("mnt");
    area.ok(["mount", "--rw", "--name", "live", IMAGE, "mnt"]);
    area
}

#[test]
fn a_live_mount_is_traced_with_the_walk_of_each_operation() {
    require_root!();
    let area = mounted("traced");
    let screen = open(&area, "live", LARGE);
    screen.keys_show(b"t", "2 Trace: 0 told");
    assert!(fs::metadata(area.join("mnt/etc/motd")).is_err());
    screen.until("the lookup", |text| {
        text.lines().any(|line| line.contains("/etc/motd") && line.contains("lookup") && line.contains("ENOENT"))
    });
    screen.shows("Walk of this lookup");
    screen.shows("layer 2 whiteout");
    fs::write(area.join("mnt/etc/conf"), "changed\n").unwrap();
    screen.shows("copyup");
    screen.shows("write");
    // What happens changes what is looked at: the copy is the version that is served now.
    screen.keys_show(b"/conf\r", "/conf");
    screen.keys_show(b"k", "(held)");
    screen.keys_show(b"\r", "2 Tree");
    screen.until("the copy serves it", |text| text.contains("upper served") && text.contains("changed"));
    // It can be begun again, and the mount can end under it.
    screen.keys_show(b"t", "2 Trace: 0 told");
    area.ok(["umount", "mnt"]);
    screen.shows("--- the mount has ended");
    screen.keys_show(b"\x1b", "2 Tree");
    screen.keys_show(b"[[", "lowest 2 of 4");
    screen.keys_show(b"t", "is not mounted");
    quit(screen);
}

#[test]
fn the_screen_lives_on_when_the_server_of_the_mount_is_killed() {
    require_root!();
    let area = mounted("killed");
    let screen = open(&area, "mnt", SMALL);
    screen.keys_show(b"t", "2 Trace: 0 told");
    signal_pid(area.servers()[0], Signal::KILL);
    screen.shows("--- the server of the mount is gone");
    screen.keys_show(b"\x1b", "2 Tree");
    screen.keys_show(b"/conf\r\r", "B   ");
    quit(screen);
    // Whatever is asked of a dead mount is answered with what is wrong.
    for command in ["which", "explain", "log", "blame", "show", "du", "find", "lint", "stats", "trace", "debug"] {
        let mut words = area.mica([command, "mnt/etc/conf"]);
        let said = finish(words.env("TERM", "xterm"));
        let code = if matches!(command, "stats" | "trace") { 1 } else { 125 };
        assert_eq!(said.code(), code, "{command}: {said:?}");
        assert_one_line(&said.err);
    }
    for words in [&["diff", "mnt"][..], &["diff", "mnt", "live"], &["diff", IMAGE, "mnt"], &["diff", "-U", "mnt@1..@3"]]
    {
        let said = area.said(words);
        assert_eq!((said.code(), said.out.as_str()), (125, ""), "{words:?}: {said:?}");
        assert_one_line(&said.err);
        assert!(said.err.contains("mnt") && said.err.contains("mica umount"), "what, and what to do: {said:?}");
    }
    // By its name the container is there as ever: its upper directory is read, not the mount.
    assert_eq!(area.ok(["diff", "live"]), "");
    area.ok(["umount", "mnt"]);
}

/// What was changed through a mount, by its place; and of bare directories.
#[test]
fn a_mountpoint_and_bare_directories_are_compared() {
    require_root!();
    let area = mounted("compared");
    fs::write(area.join("mnt/etc/conf"), "changed\n").unwrap();
    fs::remove_file(area.join("mnt/opq/new")).unwrap();
    assert_eq!(area.ok(["diff", "mnt"]), "C /etc\nC /etc/conf\nC /opq\nD /opq/new\n");
    assert_eq!(area.ok(["diff", "mnt"]), area.ok(["diff", IMAGE, "mnt"]), "the image is what it stands on");
    assert!(area.ok(["diff", "-U", "mnt"]).contains("-a\n-B\n-c\n+changed\n"));
    area.ok(["umount", "mnt"]);
    area.ok(["mount", IMAGE, "mnt"]);
    assert_eq!(area.ok(["diff", "mnt"]), "", "nothing can be changed through it");
    area.ok(["umount", "mnt"]);
    for (name, text) in [("low", "one\n"), ("mid", "two\n"), ("top", "three\n")] {
        fs::write(area.new_dir(name).join("file"), text).unwrap();
        fs::write(area.join(name).join(name), text).unwrap();
    }
    let stack = "lowerdir=mid:low,upperdir=top";
    assert_eq!(area.ok(["diff", "-o", stack]), "C /file\nA /top\n");
    assert_eq!(area.ok(["diff", "-o", stack, "0..1"]), "A /file\nA /low\n");
    assert_eq!(area.ok(["diff", "-o", stack, "@1..@2", "/mid"]), "A /mid\n");
    let said = area.ok(["diff", "-U", "-o", stack, "/file"]);
    assert!(said.contains("--- @2:/file\n+++ @3:/file\n") && said.contains("-two\n+three\n"), "{said}");
    area.fails(["diff", "-o", stack, "1..7"], 125);
    area.fails(["diff", "-o", stack, "file", "file"], 125);
    area.fails(["diff", "-o", "ro"], 125);
}

/// A directory that was renamed is an entry of upper alone; what is in it lies in the layers, and counts once.
#[test]
fn a_renamed_directory_is_what_it_holds() {
    require_root!();
    let area = mounted("renamed");
    fs::rename(area.join("mnt/opq"), area.join("mnt/moved")).unwrap();
    let expected = "A /moved\nA /moved/new\nD /opq\n";
    assert_eq!((area.ok(["diff", "live"]).as_str(), area.ok(["diff", "mnt"]).as_str()), (expected, expected));
    let du = |target: &str| -> serde_json::Value { serde_json::from_str(&area.ok(["du", "--json", target])).unwrap() };
    assert_eq!(du("live")["total"], du(IMAGE)["total"], "nothing was written, and nothing is hidden that was not");
    let log = area.ok(["log", "live", "/moved/new"]);
    assert!(log.contains("A /moved/new") && log.contains("from     layer 3: "), "{log}");
    area.ok(["umount", "mnt"]);
}

/// On a terminal, Ctrl-C is a signal for whoever listens: here the trace, and the shell goes on.
#[test]
fn control_c_ends_the_trace_and_not_the_shell() {
    require_root!();
    let area = mounted("ctrl-c");
    let screen = Screen::new(&debug(&area, &["--plain", "live"]), SMALL);
    let raw = |what: &str, times: usize| {
        let seen = || String::from_utf8_lossy(&screen.raw()).matches(what).count() >= times;
        until(what, seen);
    };
    let listeners = || {
        let stats: serde_json::Value = serde_json::from_str(&area.ok(["stats", "--json", "live"])).unwrap();
        stats["listeners"].as_u64().unwrap()
    };
    let prompts = || String::from_utf8_lossy(&screen.raw()).matches("/> ").count();
    // What is typed ahead of a prompt is lost with a Ctrl-C, as in other shells.
    let interrupted = |keys: &[u8]| {
        let before = prompts();
        screen.keys(keys);
        until("a new prompt", || prompts() > before);
    };
    raw("> ", 1);
    for turn in 1..=2 {
        screen.keys(b"trace --op lookup\r");
        until("it listens", || listeners() == 1);
        let name = format!("missing-{turn}");
        assert!(fs::metadata(area.join("mnt/etc").join(&name)).is_err());
        raw(&name, 1);
        interrupted(b"\x03");
        until("it listens no more", || listeners() == 0);
    }
    // Typed once too often, a line that is given up, a command, and the end.
    interrupted(b"\x03\x03");
    interrupted(b"no-such-command\x03");
    screen.keys(b"cat /etc/conf\r");
    raw("\nB\r\n", 1);
    assert!(!String::from_utf8_lossy(&screen.raw()).contains("unrecognized"));
    screen.keys(b"\x04");
    assert_eq!(screen.end(), Some(0));
    area.ok(["umount", "mnt"]);
}

#[test]
fn a_live_trace_is_redrawn_when_the_terminal_changes_its_size() {
    require_root!();
    let area = mounted("resized");
    let screen = open(&area, "live", SMALL);
    screen.keys_show(b"t", "2 Trace: 0 told");
    for (turn, (rows, columns)) in [LARGE, (30, 100), (10, 40), (3, 20), (1, 1), SMALL].into_iter().enumerate() {
        screen.resize(rows, columns);
        let name = format!("t{turn}");
        assert!(fs::metadata(area.join("mnt/etc").join(&name)).is_err());
        let last = |text: &str| text.lines().nth(usize::from(rows) - 1).unwrap_or_default().to_owned();
        screen.until("it is whole again, and goes on", |text| {
            rows < 10 || last(text).contains("? help") && text.contains(&format!("/etc/{name}"))
        });
    }
    screen.keys_show(b"t", "2 Tree");
    quit(screen);
    area.ok(["umount", "mnt"]);
}

#[test]
fn a_screen_that_stands_still_loses_operations_with_a_count_and_delays_nobody() {
    require_root!();
    let area = mounted("lost");
    let screen = open(&area, "mnt", SMALL);
    screen.keys_show(b"t", "2 Trace: 0 told");
    let pid = screen.child.id();
    signal_pid(pid, Signal::STOP);
    // More than wait in all buffers together; each name is asked for once.
    for n in 0..40_000 {
        assert!(fs::metadata(area.join(&format!("mnt/missing-{n}"))).is_err());
    }
    signal_pid(pid, Signal::CONT);
    screen.until("what was lost is counted", |text| text.contains(" lost"));
    quit(screen);
    area.ok(["umount", "mnt"]);
}

#[test]
fn the_shell_traces_too_and_lives_on() {
    require_root!();
    let area = mounted("shelled");
    fs::write(area.join("lines"), "trace -n 2 --op lookup --path motd\ntrace\npwd\ntrace\n").unwrap();
    let mut command = debug(&area, &["--plain", "live"]);
    let shell = Started::new(command.stdin(fs::File::open(area.join("lines")).unwrap()));
    let listeners = || {
        let stats: serde_json::Value = serde_json::from_str(&area.ok(["stats", "--json", "live"])).unwrap();
        stats["listeners"].as_u64().unwrap()
    };
    until("it listens", || listeners() == 1);
    for name in ["etc/motd", "etc/nothing", "opq/motd"] {
        assert!(fs::metadata(area.join("mnt").join(name)).is_err());
    }
    until("it listens to all", || fs::metadata(area.join("mnt/else")).is_err() && listeners() == 1);
    area.ok(["umount", "mnt"]);
    let said = shell.finish();
    let lines: Vec<&str> = said.out.lines().collect();
    assert!(
        lines[0].contains("lookup") && lines[0].contains("/etc/motd") && lines[0].contains("layer 2 whiteout"),
        "{said:?}"
    );
    assert!(lines[1].contains("/opq/motd"), "{said:?}");
    assert!(lines.contains(&"--- the mount has ended"), "{said:?}");
    assert!(lines.contains(&"/"), "the shell goes on: {said:?}");
    assert!(said.err.contains("not mounted") && said.code() == 125, "{said:?}");
}

/// Every command into a pipe that nobody reads, and on a terminal that goes away.
#[test]
fn nobody_reads_and_the_terminal_vanishes() {
    let area = crafted("vanish");
    for arguments in [
        &["which", IMAGE, "/etc/conf"][..],
        &["explain", IMAGE, "/etc/conf"],
        &["log", IMAGE, "/etc/conf"],
        &["blame", "-R", IMAGE],
        &["show", IMAGE, "/opq/new"],
        &["diff", "localhost/crafted:1@0..@3"],
        &["du", IMAGE],
        &["find", IMAGE],
        &["lint", IMAGE],
        &["debug", "--plain", IMAGE],
    ] {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        drop(reader);
        fs::write(area.join("lines"), "ls\nlayers\ncat /opq/new\n").unwrap();
        let mut command = area.mica(arguments);
        let input = fs::File::open(area.join("lines")).unwrap();
        let mut child =
            command.stdin(input).stdout(fs::File::from(writer)).stderr(std::process::Stdio::piped()).spawn().unwrap();
        drop(command);
        let mut status = None;
        until("it ends", || {
            status = child.try_wait().unwrap();
            status.is_some()
        });
        let said = child.wait_with_output().unwrap();
        let err = String::from_utf8_lossy(&said.stderr).into_owned();
        assert!(
            !err.contains("panicked") && said.status.code().is_some_and(|code| code != 101),
            "{arguments:?}: {said:?}"
        );
    }
}

#[test]
fn an_image_of_160_layers() {
    let area = Area::new("many");
    let texts: Vec<String> = (0..160).map(|n| format!("{n}\n")).collect();
    let names: Vec<String> = (0..160).map(|n| format!("d/only-{n:03}")).collect();
    let layers: Vec<Vec<u8>> = texts
        .iter()
        .zip(&names)
        .map(|(text, name)| {
            tar_of(&[Entry::Dir("d"), Entry::File(b"d/each", text), Entry::File(name.as_bytes(), text)])
        })
        .collect();
    let by: Vec<_> = (0..160).map(|n| serde_json::json!({ "created_by": format!("RUN step {}", n + 1) })).collect();
    let archive = write_archive(&area.new_dir("image"), "localhost/many:1", &layers, &serde_json::json!(by));
    area.ok(["load", "-i", archive.to_str().unwrap()]);
    let screen = open(&area, "localhost/many:1", SMALL);
    screen.keys_show(b"l", "each");
    let text = screen.keys_show(b"j", "159");
    assert!(text.contains("L160") && text.contains("160 layers"), "{text}");
    // A hundred layers back: the file of then.
    screen.keys(&[b'['; 100]);
    screen.until("layer 60", |text| text.contains("lowest 60 of 160") && text.contains("\u{2502}59 "));
    quit(screen);
    let which: serde_json::Value =
        serde_json::from_str(&area.ok(["which", "--json", "localhost/many:1", "/d/each"])).unwrap();
    assert_eq!(which.to_string().matches("\"hidden\"").count(), 159, "{which:#}");
}
