//! An image of a million files in a thousand directories, with `MICA_HUGE` set: the screen, the shell and the commands on it. What looks at
//! one path or directory reads no other; what looks at everything keeps nothing of it.

use std::fs;
use std::process::Command;
use std::time::Duration;
use std::time::Instant;

use crate::area::Area;
use crate::area::finish;
use crate::debug::SMALL;
use crate::debug::debug;
use crate::debug::open;
use crate::debug::quit;
use crate::support::archive::Entry;
use crate::support::archive::tar_of;
use crate::support::archive::write_archive;
use crate::support::bin::mica;
use crate::support::report_count;
use crate::support::report_skip;

const IMAGE: &str = "localhost/million:1";
/// Of memory of its own, in KiB; the index is mapped, and is the kernel's to keep or drop.
const MEMORY: &str = "98304";

/// A million files; a second layer deletes 10 000 of them and changes 1000.
fn million(area: &Area) {
    let names = |n: usize| format!("d{:04}/f{:04}", n / 1000, n % 1000);
    let files: Vec<String> = (0..1_000_000).map(names).collect();
    let text = |n: usize| if n.is_multiple_of(100) { "x\n" } else { "" };
    let low: Vec<Entry<'_>> = files.iter().enumerate().map(|(n, file)| Entry::File(file.as_bytes(), text(n))).collect();
    let gone: Vec<String> =
        (0..1_000_000).step_by(100).map(|n| format!("d{:04}/.wh.f{:04}", n / 1000, n % 1000)).collect();
    let mut top: Vec<Entry<'_>> = gone.iter().map(|name| Entry::File(name.as_bytes(), "")).collect();
    top.extend(files.iter().skip(1).step_by(1000).map(|file| Entry::File(file.as_bytes(), "changed\n")));
    let layers = [tar_of(&low), tar_of(&top)];
    let by = serde_json::json!([{ "created_by": "RUN million" }, { "created_by": "RUN rm" }]);
    let archive = write_archive(&area.new_dir("million"), IMAGE, &layers, &by);
    area.ok(["load", "-i", archive.to_str().unwrap()]);
    fs::remove_file(archive).unwrap();
}

/// What a command prints that may have only so much memory; how long it took.
fn bounded(area: &Area, arguments: &[&str]) -> (String, Duration) {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -d \"$0\" && exec \"$@\"", MEMORY]).arg(mica()).arg("--root").arg(area.store());
    let start = Instant::now();
    let said = finish(command.args(arguments));
    assert!(said.status.success() && said.err.is_empty(), "{arguments:?}: {} {}", said.status, said.err);
    (said.out, start.elapsed())
}

/// Runs one command; 0 stands for any number of lines.
fn one(area: &Area, arguments: &[&str], lines: usize) {
    let (out, took) = bounded(area, arguments);
    let count = out.lines().count();
    println!("{took:>10.1?} {count:>7} lines  mica {}", arguments.join(" "));
    assert!(count == lines || lines == 0, "{arguments:?}: {count} lines, not {lines}");
}

#[test]
fn a_million_files() {
    if std::env::var_os("MICA_HUGE").is_none() {
        return report_skip("an image of a million files takes minutes: MICA_HUGE=1");
    }
    let area = Area::new("huge");
    let start = Instant::now();
    million(&area);
    println!("made and loaded in {:?}", start.elapsed());
    let both = format!("{IMAGE}@0..@2");
    let last = format!("{IMAGE}@1..@2");
    for (arguments, lines) in [
        (&["which", IMAGE, "/d0500/f0501"][..], 3),
        (&["explain", IMAGE, "/d0500/f0501"], 15),
        (&["log", "--oneline", IMAGE, "/d0500/f0001"], 2),
        (&["blame", IMAGE, "/d0500"], 990),
        (&["show", IMAGE, "/d0500/f0001"], 1),
        (&["diff", &last, "/d0500"], 0),
        (&["find", "--kind", "w", IMAGE, "/d0500"], 10),
        (&["du", IMAGE, "/d0500"], 0),
    ] {
        one(&area, arguments, lines);
    }
    screen(&area);
    shell(&area);
    // These look at everything.
    for (arguments, lines) in [
        (&["find", "--name", "f0001", IMAGE][..], 1000),
        (&["find", "--dup", "--size", "+1c", IMAGE], 0),
        (&["du", IMAGE], 0),
        (&["lint", IMAGE], 0),
        (&["diff", &last], 0),
        (&["diff", &both], 991_000),
        (&["blame", "-R", IMAGE], 991_000),
    ] {
        one(&area, arguments, lines);
    }
    report_count(1_000_000, "files of one image, looked at by every command, in the shell and on the screen");
}

fn shell(area: &Area) {
    let lines = "cd d0500\nls\nwhich f0001\nstat f0001\nlog f0001\n[\ncat f0500\n]\nfind --name f0001 /\nwhiteouts /d0007\ndiff 1..2 /d0500\n";
    fs::write(area.join("lines"), lines).unwrap();
    let start = Instant::now();
    let said = finish(debug(area, &["--plain", IMAGE]).stdin(fs::File::open(area.join("lines")).unwrap()));
    println!("{:>10.1?}         the shell, all directories once", start.elapsed());
    assert_eq!((said.code(), said.err.as_str()), (0, ""));
    assert!(said.out.lines().count() > 2000, "{}", said.out.lines().count());
}

fn screen(area: &Area) {
    let start = Instant::now();
    let screen = open(area, IMAGE, SMALL);
    println!("{:>10.1?}         the first screen", start.elapsed());
    for (keys, wanted) in [
        (&b"l"[..], "f0000"),
        (b"\x1b[F", "d0999"),
        (b"\x1b[H", "d0000"),
        (b"jj", "f0001"),
        (b"[", "lowest 1 of 2"),
        (b"]", "2 layers"),
        (b"g", "*1 Layers"),
        (b"2h", "Hexdump"),
        (b"hc", "only changes"),
        (b"cw", "only whiteouts"),
        (b"w/f0999\r", "/f0999: "),
        (b"\x1b", "2 Tree"),
        (b"?", "any key goes on"),
        (b" z", "d0000"),
    ] {
        let start = Instant::now();
        screen.keys_show(keys, wanted);
        println!("{:>10.1?}         {}", start.elapsed(), String::from_utf8_lossy(keys).escape_debug());
    }
    let status = fs::read_to_string(format!("/proc/{}/status", screen.child.id())).unwrap();
    let anon = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap_or("0 kB").trim();
    println!("{anon:>10}         memory of the screen");
    let kib: u64 = anon.trim_end_matches(" kB").parse().unwrap();
    assert!(kib < 256 << 10, "{anon}");
    quit(screen);
}
