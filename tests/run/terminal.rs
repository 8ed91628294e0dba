//! Containers with a terminal, the runner on a real one.

use std::fs;
use std::fs::File;
use std::io::Read;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

use micafs::sys::open;
use micafs::sys::tty;

use super::Case;
use super::fixture::Rootfs;
use super::fixture::check;
use super::fixture::eventually;
use super::fixture::same;

pub const ALL: &[Case] = &[
    ("a terminal of its own", own_terminal),
    ("the window size follows", size_follows),
    ("our terminal is raw, then as before", raw_and_back),
    ("a terminal without one of ours", no_terminal_outside),
    ("control-C reaches the container's foreground", control_c),
];

type Outcome = Result<(), String>;

struct Session {
    child: Child,
    master: File,
    slave: OwnedFd,
    seen: String,
}

impl Session {
    fn start(root: &Rootfs, script: &str) -> Self {
        let pts = open::dir_path(std::path::Path::new("/dev/pts")).unwrap();
        let tty::Pair { master, slave, .. } = tty::open_pair(pts).unwrap();
        stty(&slave, &["rows", "33", "cols", "77"]);
        let io = || Stdio::from(slave.try_clone().unwrap());
        let child =
            root.runner(&["-t", "-i"], &["sh", "-c", script]).stdin(io()).stdout(io()).stderr(io()).spawn().unwrap();
        Self { child, master: File::from(master), slave, seen: String::new() }
    }

    /// Reads until `text` has come.
    fn expect(&mut self, text: &str) -> Outcome {
        let mut chunk = [0; 1024];
        while !self.seen.contains(text) {
            let mut watch = [tty::Watch::read(std::os::fd::AsFd::as_fd(&self.master))];
            tty::poll(&mut watch).unwrap();
            let got = self.master.read(&mut chunk).unwrap();
            self.seen.push_str(&String::from_utf8_lossy(&chunk[..got]));
            if self.seen.contains("sh: can't") || got == 0 {
                return Err(self.seen.clone());
            }
        }
        Ok(())
    }

    fn end(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

fn stty(slave: &OwnedFd, args: &[&str]) -> String {
    let out = Command::new("stty").args(args).stdin(Stdio::from(slave.try_clone().unwrap())).output().unwrap();
    String::from_utf8_lossy(&out.stdout).into_owned()
}

fn own_terminal() -> Outcome {
    let root = Rootfs::new();
    let mut session = Session::start(&root, "tty; echo a | cat > /dev/console; echo TERM=$TERM; echo done; exit 5");
    session.expect("done")?;
    check(session.seen.contains("/dev/pts/0") && session.seen.contains("TERM=xterm"), &session.seen)?;
    same(session.end(), Some(5))
}

fn size_follows() -> Outcome {
    let root = Rootfs::new();
    let script = "trap 'stty size; echo changed' WINCH; stty size; echo up; while :; do read line && exit 4; done";
    let mut session = Session::start(&root, script);
    session.expect("up")?;
    check(session.seen.contains("33 77"), &session.seen)?;
    stty(&session.slave, &["rows", "20", "cols", "50"]);
    micafs::sys::signal::send(micafs::sys::child::Pid::new(session.child.id()).unwrap(), 28).unwrap();
    session.expect("20 50")?;
    session.master.write_all(b"end\r").unwrap();
    same(session.end(), Some(4))
}

fn raw_and_back() -> Outcome {
    let root = Rootfs::new();
    let mut session = Session::start(&root, "echo up; read line; echo got $line; exit 0");
    session.expect("up")?;
    check(stty(&session.slave, &["-a"]).contains("-icanon"), "the terminal is not raw")?;
    session.master.write_all(b"word\r").unwrap();
    session.expect("got word")?;
    same(session.end(), Some(0))?;
    let after = stty(&session.slave, &["-a"]);
    check(after.contains(" icanon") && after.contains(" echo "), after)
}

fn no_terminal_outside() -> Outcome {
    let root = Rootfs::new();
    let mut child = root
        .runner(&["-t", "-i"], &["sh", "-c", "tty; cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"line\n").unwrap();
    let mut out = String::new();
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    same(child.wait().unwrap().code(), Some(0))?;
    check(out.contains("/dev/pts/0\r\n") && out.contains("line\r\n"), out)
}

fn control_c() -> Outcome {
    let root = Rootfs::new();
    let mut session = Session::start(&root, "trap 'echo stopped; exit 6' INT; echo up; while :; do sleep 0.02; done");
    session.expect("up")?;
    session.master.write_all(b"\x03").unwrap();
    session.expect("stopped")?;
    same(session.end(), Some(6))?;
    let task = fs::metadata(format!("/proc/{}", session.child.id()));
    eventually(|| task.is_err())
}
