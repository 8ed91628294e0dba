//! One test's store, its mounts and its commands. No command may hang the test: each has a limit, and is killed at it.

use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::ExitStatus;
use std::process::Stdio;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::support::Fixture;
use crate::support::TempDir;
use crate::support::bin;
use crate::support::guard;

/// For broken machines and hanging mounts; no measure.
pub const LIMIT: Duration = Duration::from_secs(120);

/// A directory with a store in it. Dropping it unmounts what is mounted below, which ends the servers.
#[derive(Debug)]
pub struct Area {
    dir: TempDir,
}

/// What a command printed, and how it ended.
#[derive(Debug)]
pub struct Said {
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output, as text.
    pub out: String,
    /// Standard error, as text.
    pub err: String,
}

impl Said {
    /// The exit code.
    ///
    /// # Panics
    /// When a signal ended it.
    #[track_caller]
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| panic!("ended by a signal: {self:?}"))
    }
}

impl Area {
    /// A new directory whose store does not exist yet.
    pub fn new(label: &str) -> Self {
        Self { dir: TempDir::new(label) }
    }

    /// A new directory with an image in its store.
    pub fn with(label: &str, fixture: &Fixture) -> Self {
        let area = Self::new(label);
        area.load(fixture);
        area
    }

    /// Loads a fixture.
    pub fn load(&self, fixture: &Fixture) -> String {
        self.ok([OsStr::new("load"), OsStr::new("-i"), fixture.file("docker.tar").as_os_str()])
    }

    /// The path of `name` in the directory.
    pub fn join(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A new empty directory.
    pub fn new_dir(&self, name: &str) -> PathBuf {
        self.dir.dir(name)
    }

    /// The store.
    pub fn store(&self) -> PathBuf {
        self.join("store")
    }

    /// `mica ARGS...` on this store, with no input, in the directory.
    pub fn mica<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        let mut command = bin::mica_command(&self.store(), args);
        command.current_dir(self.dir.path());
        command
    }

    /// Runs `mica ARGS...` to its end.
    pub fn said<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Said {
        finish(&mut self.mica(args))
    }

    /// Runs `mica ARGS...`, which must succeed; what it printed on standard output.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn ok<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> String {
        let mut command = self.mica(args);
        let said = finish(&mut command);
        assert!(said.status.success(), "{command:?}: {}\n{}{}", said.status, said.out, said.err);
        said.out
    }

    /// Runs `mica ARGS...`, which must fail with `code`; what it printed on standard error.
    ///
    /// # Panics
    /// When it ends in another way, or does not say why in one line (and perhaps one more with a hint).
    #[track_caller]
    pub fn fails<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>, code: i32) -> String {
        let mut command = self.mica(args);
        let said = finish(&mut command);
        assert_eq!(said.status.code(), Some(code), "{command:?}: {}\n{}{}", said.status, said.out, said.err);
        assert_one_line(&said.err);
        said.err
    }

    /// Every regular file in the store but its locks: what is left there, and what takes room.
    pub fn store_files(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut todo = vec![self.store()];
        while let Some(dir) = todo.pop() {
            for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => todo.push(entry.path()),
                    Ok(_) => found.push(entry.path()),
                    Err(_) => {}
                }
            }
        }
        found.retain(|path| path.metadata().is_ok_and(|m| m.size() > 0));
        found.sort();
        found
    }

    /// The number of the server that serves what is mounted at `point`, by the directory in its record.
    pub fn servers(&self) -> Vec<u32> {
        processes_with(self.dir.path(), "mount-mica")
    }
}

/// Fails unless `text` is one line of ours, and perhaps one with a hint.
#[track_caller]
pub fn assert_one_line(text: &str) {
    let lines: Vec<_> = text.lines().collect();
    let good = match lines.as_slice() {
        [what] => what.starts_with("mica: "),
        [what, hint] => what.starts_with("mica: ") && hint.starts_with("hint: "),
        _ => false,
    };
    assert!(good, "not one line and a hint:\n{text}");
}

/// Running processes whose command line names `program` and `dir`.
pub fn processes_with(dir: &Path, program: &str) -> Vec<u32> {
    let wanted = dir.as_os_str().as_encoded_bytes();
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let has = |part: &[u8]| line.windows(part.len().max(1)).any(|w| w == part);
        has(program.as_bytes()) && has(wanted)
    })
    .collect()
}

/// A started command whose output is being collected.
pub struct Started {
    command: String,
    /// The process.
    pub child: Child,
    out: Option<JoinHandle<Vec<u8>>>,
    err: Option<JoinHandle<Vec<u8>>>,
}

impl Started {
    /// Starts a command.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn new(command: &mut Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|e| panic!("cannot start {command:?}: {e}"));
        let (out, err) = (child.stdout.take().map(collect), child.stderr.take().map(collect));
        Self { command: format!("{command:?}"), child, out, err }
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        signal_pid(self.pid(), signal);
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not come, or what it started keeps its output open.
    #[track_caller]
    pub fn finish(mut self) -> Said {
        let mut status = None;
        let ended = guard::wait_for(LIMIT, || {
            status = self.child.try_wait().expect("wait");
            status.is_some()
        });
        assert!(ended, "it hangs: {}", self.command);
        let text = |reader: Option<JoinHandle<Vec<u8>>>| {
            let reader = reader.expect("a reader");
            assert!(guard::wait_for(LIMIT, || reader.is_finished()), "its output stays open: {}", self.command);
            String::from_utf8_lossy(&reader.join().expect("a reader")).into_owned()
        };
        let (out, err) = (text(self.out.take()), text(self.err.take()));
        Said { status: status.expect("ended"), out, err }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn collect(mut from: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        bytes
    })
}

/// Runs a command to its end.
#[track_caller]
pub fn finish(command: &mut Command) -> Said {
    Started::new(command).finish()
}

/// Sends a signal to a process.
pub fn signal_pid(pid: u32, signal: rustix::process::Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, signal); // it may have ended already
    }
}

/// Whether a process runs; a zombie does not.
pub fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// Whether something is mounted at `point`.
pub fn is_mounted(point: &Path) -> bool {
    guard::mounts_below(point).iter().any(|found| found == point)
}

/// Waits until something is so.
///
/// # Panics
/// When it does not become so.
#[track_caller]
pub fn until(what: &str, holds: impl FnMut() -> bool) {
    assert!(guard::wait_for(LIMIT, holds), "waited in vain: {what}");
}
