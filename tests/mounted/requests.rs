//! How many requests an operation costs: round trips between the kernel and the server, counted by strace at `/dev/fuse`.

use std::fs;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

use crate::place::On;
use crate::place::Place;
use crate::place::have;
use crate::place::put;
use crate::place::put_dir;
use crate::support::Daemon;
use crate::support::guard::wait_for;
use crate::support::skip;

/// Watches the server's reads of `/dev/fuse`.
struct Counter {
    log: PathBuf,
    _strace: Daemon,
}

impl Counter {
    /// # Errors
    /// Why requests cannot be counted here.
    fn of(p: &Place) -> Result<Self, String> {
        let server = server_of(&p.top).ok_or("the server's process was not found")?;
        let log = p.beside("requests");
        let mut command = Command::new("strace");
        command.args(["-f", "-q", "-e", "trace=read,readv", "-P", "/dev/fuse", "-o"]).arg(&log);
        let strace = Daemon::spawn(command.args(["-p", &server]).stdin(Stdio::null()).stderr(Stdio::null()));
        let attached = || all_traced(&server);
        if wait_for(Duration::from_secs(5), attached) {
            Ok(Self { log, _strace: strace })
        } else {
            Err("strace may not attach".to_owned())
        }
    }

    /// Requests so far; those that need no answer come a moment later, so it waits until none follows.
    fn now(&self) -> usize {
        let count = || {
            let text = fs::read_to_string(&self.log).unwrap_or_default();
            text.lines()
                .filter(|line| line.rsplit_once("= ").is_some_and(|(_, n)| n.trim().parse().is_ok_and(|n: i64| n > 0)))
                .count()
        };
        let mut last = count();
        let mut calm = 0;
        while calm < 6 {
            std::thread::sleep(Duration::from_millis(25));
            let next = count();
            calm = if next == last { calm + 1 } else { 0 };
            last = next;
        }
        last
    }

    fn during(&self, body: impl FnOnce()) -> usize {
        let before = self.now();
        body();
        self.now() - before
    }
}

/// The process that serves a mount: the one whose arguments end with the mount point.
fn server_of(top: &Path) -> Option<String> {
    let serves = |pid: &str| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        let own = line.split('\0').rfind(|a| !a.is_empty()).is_some_and(|last| Path::new(last) == top);
        own && line.contains("fuse-overlayfs") && !line.starts_with("timeout")
    };
    let pids = fs::read_dir("/proc").ok()?.filter_map(|e| e.ok()?.file_name().into_string().ok());
    pids.filter(|name| name.bytes().all(|b| b.is_ascii_digit())).find(|pid| serves(pid))
}

fn all_traced(pid: &str) -> bool {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().filter_map(Result::ok);
    let mut states = tasks.map(|t| fs::read_to_string(t.path().join("status")).unwrap_or_default());
    states.all(|s| s.lines().any(|l| l.strip_prefix("TracerPid:").is_some_and(|n| n.trim() != "0")))
}

#[test]
fn warm_operations_cost_no_request_and_others_few() {
    if On::chosen() == On::Kernel || !have("strace") {
        skip!("needs strace and a server");
    }
    let fill = |_: &Path, low: &Path| {
        put(low, "d/f", "small");
        put(low, "d/cold", "small");
        put_dir(low, "d/e");
    };
    let Some(p) = Place::mounted("requests", fill) else { return };
    let counter = match Counter::of(&p) {
        Ok(counter) => counter,
        Err(reason) => skip!("{reason}"),
    };
    let read = |name: &str| {
        let mut text = String::new();
        File::open(p.at(name)).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "small");
    };
    let stat = |name: &str| drop(fs::symlink_metadata(p.at(name)));
    let list = || assert!(fs::read_dir(p.at("d")).unwrap().count() >= 3);
    // What is warmed up is the directory, the name and the miss.
    stat("d/f");
    stat("d/none");
    read("d/f");
    list();
    list();
    put(&p.top, "d/first", "x");
    type Case<'a> = (&'a str, usize, &'a dyn Fn());
    let cases: &[Case<'_>] = &[
        ("warm stat", 0, &|| stat("d/f")),
        ("warm stat of a miss", 0, &|| stat("d/none")),
        ("cold stat", 1, &|| stat("d/cold")),
        ("open, read, close of a cached small file", 2, &|| read("d/f")),
        ("open, read, close of a small file with a known name", 3, &|| read("d/cold")),
        ("create, write, close", 4, &|| drop(put(&p.top, "d/new", "x"))),
        ("chmod in upper", 1, &|| crate::place::chmod(&p.at("d/new"), 0o600)),
        ("unlink in upper", 2, &|| fs::remove_file(p.at("d/new")).unwrap()),
        ("mkdir of a name not looked up", 2, &|| fs::create_dir(p.at("d/dir")).unwrap()),
        ("listing of a small directory that just changed", 5, &|| list()),
    ];
    let mut lines = String::new();
    let mut wrong = Vec::new();
    for (what, at_most, body) in cases {
        let n = counter.during(body);
        lines += &format!("{n:3} requests (at most {at_most}): {what}\n");
        if n > *at_most {
            wrong.push(format!("{what}: {n} > {at_most}"));
        }
    }
    eprint!("{lines}");
    assert!(wrong.is_empty() || On::chosen() != On::Mica, "{wrong:#?}");
}
