//! strace on a running daemon: what it calls, and harm at one of the calls.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

use rustix::process::Pid;
use rustix::process::Signal;

use crate::lab::LIMIT;
use crate::support::guard::wait_for;

/// Every call that changes something on a disk. The question mark: where the machine does not have it, it is no error.
const CHANGING: &str = "?renameat,?renameat2,?mknodat,?unlinkat,?linkat,?symlinkat,?mkdirat,fsync,fdatasync,setxattr,lsetxattr,\
    fsetxattr,removexattr,lremovexattr,fremovexattr,fchownat,fchown,lchown,fchmod,fchmodat,chmod,?chown,?utimensat,?copy_file_range,\
    ftruncate,pwrite64,?pwritev,sendfile,fallocate,openat,ioctl";

/// One call of the daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Its name.
    pub name: String,
    /// Which of the calls of this name by its thread it is, from 1.
    pub nth: usize,
    /// The whole line, for people.
    pub line: String,
}

impl Call {
    /// Whether it changes something: an open without `O_CREAT` does not, nor does an ioctl but a clone of a file.
    fn changes(&self) -> bool {
        match self.name.as_str() {
            "openat" => self.line.contains("O_CREAT") || self.line.contains("O_TMPFILE"),
            "ioctl" => self.line.contains("FICLONE") || self.line.contains("0x40049409"),
            _ => true,
        }
    }
}

/// A strace that follows one process.
pub struct Strace {
    child: Child,
    log: PathBuf,
}

impl Strace {
    /// Follows all threads of `pid`; `inject` is what strace does to one call, e.g. `unlinkat:signal=KILL:when=2`.
    pub fn attach(pid: u32, log: &Path, inject: Option<&str>) -> Self {
        let _ = fs::remove_file(log); // of the case before
        let mut command = Command::new("strace");
        command.args(["-f", "-q", "-p", &pid.to_string(), "-o"]).arg(log).args(["-e", &format!("trace={CHANGING}")]);
        if let Some(inject) = inject {
            command.args(["-e", &format!("inject={inject}")]);
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("strace");
        let this = Self { child, log: log.to_owned() };
        assert!(wait_for(LIMIT, || is_traced(pid)), "strace does not follow the daemon");
        this
    }

    /// Lets go of the process; the calls that it made and that change something.
    pub fn detach(mut self) -> Vec<Call> {
        self.end();
        changing_calls(&fs::read_to_string(&self.log).unwrap_or_default())
    }

    fn end(&mut self) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, Signal::TERM); // it may have ended with the process
        }
        if !wait_for(LIMIT, || matches!(self.child.try_wait(), Ok(Some(_)) | Err(_))) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        self.end();
    }
}

fn is_traced(pid: u32) -> bool {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return true };
    tasks.filter_map(Result::ok).all(|task| {
        let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
        !status.lines().any(|line| line.strip_prefix("TracerPid:").is_some_and(|n| n.trim() == "0"))
    })
}

fn changing_calls(log: &str) -> Vec<Call> {
    let mut counts = HashMap::<(String, String), usize>::new();
    let mut calls = Vec::new();
    for line in log.lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let Some((name, _)) = rest.trim_start().split_once('(') else { continue };
        // "<... renameat resumed>", "+++ exited", "--- SIGTERM"
        if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            continue;
        }
        let nth = counts.entry((thread.to_owned(), name.to_owned())).or_default();
        *nth += 1;
        calls.push(Call { name: name.to_owned(), nth: *nth, line: rest.trim().to_owned() });
    }
    calls.retain(Call::changes);
    calls
}
