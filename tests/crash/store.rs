//! `kill -9` at the calls by which load, rmi, save, a prune and a repair change the store: the check finds nothing but unreferenced data
//! and leftovers, and the next try succeeds.
//!
//! Every step of these is cut within one process in `src/engine`; here it is the program, and the kernel that ends it.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;

use crate::Outcome;
use crate::lab::missing;
use crate::support::TempDir;
use crate::support::bin;
use crate::support::fixture;

/// What changes the names and bytes of a store.
const CHANGING: [&str; 13] = [
    "?renameat",
    "?renameat2",
    "?linkat",
    "?unlinkat",
    "?mkdirat",
    "fsync",
    "fdatasync",
    "?syncfs",
    "pwrite64",
    "?pwritev",
    "write",
    "ftruncate",
    "fchmod",
];
/// No command has so many calls of one name.
const CALLS_MAX: usize = 400;

struct Bench {
    dir: TempDir,
    image: String,
    archive: OsString,
}

impl Bench {
    fn mica(&self, words: &[&str]) -> Command {
        bin::mica_command(&self.dir.join("store"), words)
    }

    fn load(&self) {
        bin::run_ok(self.mica(&["load", "-q", "-i"]).arg(&self.archive));
    }

    fn has_image(&self) -> bool {
        !bin::run_ok(&mut self.mica(&["images", "-q"])).is_empty()
    }

    fn whole(&self, what: &str) {
        let out = bin::output(&mut self.mica(&["system", "check"]));
        let text = String::from_utf8_lossy(&out.stdout);
        assert!(out.status.success() && text.contains("the store is whole"), "{what}: {text}");
    }

    /// Runs `mica WORDS` and kills it at the `n`th of its calls of one name, counted for each thread; whether it came so far.
    fn killed(&self, words: &[OsString], call: &str, n: usize) -> bool {
        let mut command = Command::new("strace");
        command.args(["-f", "-q", "-o", "/dev/null", "-e", &format!("trace={call}")]);
        command.args(["-e", &format!("inject={call}:signal=KILL:when={n}")]);
        command.arg(bin::mica()).arg("--root").arg(self.dir.join("store")).args(words);
        let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().expect("strace");
        // strace ends as the program did; a repair that ends by itself may say 1.
        status.code().is_none()
    }
}

/// Kills each command at its calls: the first of each name and every fifth, or all with `MICA_CRASH_ALL`.
pub fn killed() -> Outcome {
    if let Some(why) = missing(&["strace"]) {
        return Outcome::Skipped(why);
    }
    let fixture = match fixture("busybox") {
        Ok(fixture) => fixture,
        Err(why) => return Outcome::Skipped(format!("no fixture: {why}")),
    };
    let archive = fixture.file("docker.tar").into_os_string();
    let bench = Bench { dir: TempDir::new("kill-store"), image: fixture.image(), archive };
    let step = if std::env::var_os("MICA_CRASH_ALL").is_some() { 1 } else { 5 };
    let word = OsString::from;
    let commands: [(&str, Vec<OsString>); 5] = [
        ("load", vec![word("load"), word("-q"), word("-i"), bench.archive.clone()]),
        ("rmi", vec![word("rmi"), word(&bench.image)]),
        ("save", vec![word("save"), word("-o"), bench.dir.join("out.tar").into_os_string(), word(&bench.image)]),
        ("prune", vec![word("system"), word("prune"), word("-a"), word("-f")]),
        ("repair", vec![word("system"), word("check"), word("--repair")]),
    ];
    let mut figures = Vec::new();
    for (name, words) in &commands {
        // A repair makes few calls of each name.
        let step = if *name == "repair" { step.min(2) } else { step };
        let (mut deaths, mut kinds) = (0, 0);
        for call in CHANGING {
            let before = deaths;
            for n in (1..CALLS_MAX).step_by(step) {
                prepare(&bench, name);
                if !bench.killed(words, call, n) {
                    break;
                }
                deaths += 1;
                let what = format!("{name} killed at {call} {n}");
                if *name != "repair" {
                    bench.whole(&what);
                }
                again(&bench, name, &what);
            }
            kinds += usize::from(deaths > before);
        }
        // A save changes only what it writes; the others make or take away names, and wait for the disk.
        assert!(kinds >= 3, "{name} was killed at calls of {kinds} names only");
        figures.push(format!("{name} {deaths} ({kinds} calls)"));
    }
    bench.load();
    bin::run_ok(&mut bench.mica(&["system", "check", "--repair"]));
    bench.whole("at the end");
    let left = std::fs::read_dir(bench.dir.join("store/tmp")).expect("the store").count();
    assert_eq!(left, 0, "unfinished files are left");
    Outcome::Done(format!("deaths: {}", figures.join(", ")))
}

/// The store as the command needs it.
fn prepare(bench: &Bench, name: &str) {
    match name {
        "load" if bench.has_image() => drop(bin::run_ok(&mut bench.mica(&["rmi", "-f", &bench.image]))),
        "load" => {}
        "repair" => {
            bench.load();
            let objects = bench.dir.join("store/objects");
            let object = first_file(&objects).expect("an object");
            let mut bytes = std::fs::read(&object).expect("an object");
            bytes[0] ^= 1;
            std::fs::remove_file(&object).expect("removed");
            std::fs::write(&object, bytes).expect("written");
            // And a record that has to be made anew, what a killed process left, and a document that is none.
            for (path, bytes) in
                [("images.json", &b"{"[..]), ("tmp/left", b"half"), (".tmp-left", b"half"), (BLOB, b"x")]
            {
                std::fs::write(bench.dir.join("store").join(path), bytes).expect("written");
            }
        }
        "prune" => {
            bench.load();
            std::fs::write(bench.dir.join("store/tmp/left"), b"half").expect("written");
        }
        _ => bench.load(),
    }
}

/// A document whose bytes do not have this digest.
const BLOB: &str = "blobs/sha256/0000000000000000000000000000000000000000000000000000000000000000";

fn first_file(dir: &Path) -> Option<std::path::PathBuf> {
    std::fs::read_dir(dir)
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .find_map(|path| if path.is_dir() { first_file(&path) } else { Some(path) })
}

/// The same once more, which must succeed.
fn again(bench: &Bench, name: &str, what: &str) {
    match name {
        "load" => bench.load(),
        "rmi" if bench.has_image() => drop(bin::run_ok(&mut bench.mica(&["rmi", &bench.image]))),
        "rmi" => {}
        "prune" => {
            bin::run_ok(&mut bench.mica(&["system", "prune", "-a", "-f"]));
            assert!(!bench.has_image(), "{what}: the image is still there");
            let left = std::fs::read_dir(bench.dir.join("store/packs")).expect("the store").count();
            assert_eq!(left, 0, "{what}: packs are left");
        }
        "save" => {
            let out = bench.dir.join("out.tar");
            bin::run_ok(bench.mica(&["save", "-o"]).arg(&out).arg(&bench.image));
        }
        _ => {
            // What was damaged has to be loaded again, which is what the exit code says.
            bin::output(&mut bench.mica(&["system", "check", "--repair"]));
            bench.load();
            assert!(!bench.dir.join("store").join(BLOB).exists(), "{what}: a bad document is left");
        }
    }
    bench.whole(what);
}
