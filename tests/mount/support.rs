//! What the tests stand on: a fresh directory each, notes between processes, and waiting for things to happen.

use std::error::Error;
use std::fmt::Debug;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::ExitCode;
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;
use std::time::Instant;

use micafs::mount::table;
use micafs::mount::table::Entry;
use micafs::sys::mount::Detach;

use crate::serial::Tally;
pub use crate::serial::Verdict;
pub use crate::serial::skip;

/// Where tests and their servers leave notes for each other.
#[derive(Debug, Clone)]
pub struct Notes(PathBuf);

const NOTES: &str = "MICA_TEST_NOTES";

impl Notes {
    /// In a child.
    pub fn of_child() -> Self {
        Notes(std::env::var_os(NOTES).unwrap_or_default().into())
    }

    /// Leaves a note.
    pub fn write(&self, name: &str, text: &str) {
        let unfinished = self.0.join(format!(".{name}"));
        fs::write(&unfinished, text).and_then(|()| fs::rename(&unfinished, self.0.join(name))).expect("a note");
    }

    /// Reads a note.
    pub fn read(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.0.join(name)).ok()
    }

    fn clear(&self) -> std::io::Result<()> {
        fs::read_dir(&self.0)?.try_for_each(|entry| fs::remove_file(entry?.path()))
    }
}

/// A directory of one test: `point` to mount on, `notes`.
pub struct Area {
    root: PathBuf,
    /// The mount point.
    pub point: PathBuf,
    notes: Notes,
}

/// A serving process.
pub struct Daemon {
    /// Its number.
    pub pid: u32,
}

impl Area {
    fn new(name: &str) -> std::io::Result<Self> {
        let root = fs::canonicalize(std::env::temp_dir())?.join(format!("mica-mount-{}-{name}", std::process::id()));
        let (point, notes) = (root.join("point"), root.join("notes"));
        fs::create_dir_all(&point)?;
        fs::create_dir_all(&notes)?;
        Ok(Area { root, point, notes: Notes(notes) })
    }

    /// A command that launches, with the mount point as its last argument.
    pub fn command(&self, name: &str, arguments: &[&str]) -> Command {
        self.command_at(name, arguments, &self.point)
    }

    /// A command that launches on another mount point.
    pub fn command_at(&self, name: &str, arguments: &[&str], point: &Path) -> Command {
        let mut command = Command::new(std::env::current_exe().expect("own path"));
        // The mount point stands behind a source, before or after the options; mount(8) puts it second.
        command.arg("--launch").arg(name);
        match arguments {
            [source, rest @ ..] if !source.starts_with('-') => command.arg(source).arg(point).args(rest),
            _ => command.args(arguments).arg(point),
        };
        command.env(NOTES, &self.notes.0).stdin(Stdio::null());
        command
    }

    /// Launches, with fresh notes; the caller's pipes must all see their end.
    pub fn launch(&self, name: &str, arguments: &[&str]) -> Result<Daemon, Box<dyn Error>> {
        self.notes.clear()?;
        self.launch_another(name, arguments)
    }

    /// Launches, keeping the notes of an earlier launch.
    pub fn launch_another(&self, name: &str, arguments: &[&str]) -> Result<Daemon, Box<dyn Error>> {
        let output = self.command(name, arguments).output()?;
        if !output.status.success() {
            return Err(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr)).into());
        }
        self.daemon()
    }

    /// The serving process, by its note.
    pub fn daemon(&self) -> Result<Daemon, Box<dyn Error>> {
        Ok(Daemon { pid: self.notes.read("pid").ok_or("no process number noted")?.parse()? })
    }

    /// Launches what must fail; returns its exit code and what it said.
    pub fn fails(&self, name: &str, arguments: &[&str]) -> Result<(Option<i32>, String), Box<dyn Error>> {
        self.launch_at(name, arguments, &self.point)
    }

    /// Launches on another mount point; returns the exit code and what was said.
    pub fn launch_at(
        &self,
        name: &str,
        arguments: &[&str],
        point: &Path,
    ) -> Result<(Option<i32>, String), Box<dyn Error>> {
        let output = self.command_at(name, arguments, point).output()?;
        Ok((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
    }

    /// The union on the mount point.
    pub fn entry(&self) -> Result<Entry, Box<dyn Error>> {
        entry(&self.point)
    }

    /// What a server noted.
    pub fn recorded(&self, name: &str) -> Option<String> {
        self.notes.read(name)
    }

    /// Leaves a note for a server.
    pub fn record(&self, name: &str, text: &str) -> Verdict {
        self.notes.write(name, text);
        Ok(())
    }

    /// Gives the directories to the user nobody.
    pub fn open_to_all(&self) -> Verdict {
        for dir in [&self.root, &self.point, &self.notes.0] {
            fs::set_permissions(dir, fs::Permissions::from_mode(0o777))?;
            std::os::unix::fs::chown(dir, Some(NOBODY), Some(NOBODY))?;
        }
        Ok(())
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        for _ in 0..4 {
            let left = table::read().unwrap_or_default().into_iter().filter(|e| e.target.starts_with(&self.root));
            left.for_each(|e| drop(micafs::mount::umount::by_any_means(&e.target, Detach::Lazy)));
        }
        if let Err(e) = fs::remove_dir_all(&self.root) {
            println!("    left behind: {}: {e}", self.root.display());
        }
    }
}

impl Daemon {
    /// Sends a signal.
    pub fn signal(&self, name: &str) -> Verdict {
        kill(self.pid, name)
    }

    /// Waits until the process is gone (or a zombie, where process 1 collects none).
    pub fn ends(&self) -> Verdict {
        until(&format!("process {} is gone", self.pid), || state(self.pid).is_none_or(|state| state == 'Z'))
    }
}

fn stat_fields(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(text.rsplit_once(") ")?.1.split(' ').map(str::to_owned).collect())
}

fn state(pid: u32) -> Option<char> {
    stat_fields(pid)?.first()?.chars().next()
}

/// The session of a process.
pub fn session(pid: u32) -> Result<u32, Box<dyn Error>> {
    Ok(stat_fields(pid).ok_or("gone")?.get(3).ok_or("short")?.parse()?)
}

/// Sends a signal to a process.
pub fn kill(pid: u32, name: &str) -> Verdict {
    check("kill", Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status()?.success())
}

/// The union mounted at `place`.
pub fn entry(place: &Path) -> Result<Entry, Box<dyn Error>> {
    let entries = table::read()?;
    table::topmost(&entries, place).filter(|e| e.is_union()).cloned().ok_or_else(|| "no union is mounted".into())
}

/// Waits for something that must come; a minute is for broken machines, not a measure.
pub fn until(what: &str, mut done: impl FnMut() -> bool) -> Verdict {
    let start = Instant::now();
    while !done() {
        if start.elapsed() > Duration::from_secs(60) {
            return Err(format!("waited in vain: {what}").into());
        }
        sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Fails unless `holds`.
pub fn check(what: &str, holds: bool) -> Verdict {
    if holds { Ok(()) } else { Err(format!("not so: {what}").into()) }
}

/// Fails unless both are equal.
pub fn check_eq<A: Debug + PartialEq<B>, B: Debug>(what: &str, is: A, should: B) -> Verdict {
    if is == should { Ok(()) } else { Err(format!("{what}: is {is:?}, should be {should:?}").into()) }
}

const NOBODY: u32 = 65534;

/// Lets a command run as nobody.
pub fn as_nobody(command: &mut Command) {
    command.uid(NOBODY).gid(NOBODY).current_dir("/");
}

/// Whether this process is the superuser.
pub fn is_root() -> bool {
    micafs::sys::process::effective_uid() == 0
}

/// Skips where a user cannot mount.
pub fn user_can_fuse() -> Verdict {
    let mode = fs::metadata("/dev/fuse")?.permissions().mode();
    if mode & 0o006 != 0o006 {
        return skip(format!("/dev/fuse has mode {:o}: no user may open it", mode & 0o777));
    }
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let setuid = |path: PathBuf| fs::metadata(path).is_ok_and(|m| m.mode() & 0o4000 != 0 && m.uid() == 0);
    let found =
        std::env::split_paths(&paths).any(|dir| setuid(dir.join("fusermount3")) || setuid(dir.join("fusermount")));
    if found { Ok(()) } else { skip("no setuid fusermount3 here".to_owned()) }
}

/// Runs the tests one after the other, and prints a summary.
pub fn run<'a>(tests: impl Iterator<Item = &'a (&'static str, fn(&Area) -> Verdict)>) -> ExitCode {
    if let Err(e) = micafs::sys::mount::open_fuse() {
        println!("no FUSE here: {e}");
        return Tally { skipped: tests.count(), ..Tally::default() }.end();
    }
    let mut tally = Tally::default();
    tests.for_each(|(name, test)| tally.run(name, || test(&Area::new(name)?)));
    tally.end()
}
