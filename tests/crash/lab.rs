//! A lower layer, an upper, and a daemon in the foreground that serves them.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

use rustix::mount::UnmountFlags;

use crate::scenes::Act;
use crate::support::Snapshot;
use crate::support::TempDir;
use crate::support::bin;
use crate::support::guard;
use crate::support::guard::wait_for;
use crate::support::tree::Field;
use crate::support::tree::diff_ignoring;

/// After this long a step is taken for hung.
pub const LIMIT: Duration = Duration::from_secs(30);

/// Why nothing can be tried here, if so.
pub fn missing(programs: &[&str]) -> Option<String> {
    if !crate::support::is_root() {
        return Some("needs root".to_owned());
    }
    if !Path::new("/dev/fuse").exists() {
        return Some("no /dev/fuse".to_owned());
    }
    let have = |program: &str| {
        std::env::split_paths("/usr/sbin:/sbin:/usr/bin:/bin:/usr/local/bin").any(|dir| dir.join(program).exists())
    };
    match programs.iter().find(|program| !have(program)) {
        Some(program) => Some(format!("{program} is not installed")),
        None => bin::mount_helper().err(),
    }
}

/// Directories for one scenario.
pub struct Lab {
    dir: TempDir,
    /// The lower layer.
    pub lower: PathBuf,
    /// Where `u` and `w` lie.
    pub disk: PathBuf,
    /// The mount point.
    pub top: PathBuf,
}

impl Lab {
    /// Fresh directories; `fill` makes the lower layer.
    pub fn new(label: &str, fill: fn(&Path)) -> Self {
        let dir = TempDir::new(label);
        let (lower, disk, top) = (dir.dir("l"), dir.dir("disk"), dir.dir("m"));
        fill(&lower);
        let lab = Self { dir, lower, disk, top };
        std::os::unix::fs::symlink(bin::mount_helper().expect("asked before"), lab.beside("fuse-overlayfs"))
            .expect("a symlink");
        lab.clear();
        lab
    }

    /// A path in the test's own directory.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The upper directory.
    pub fn upper(&self) -> PathBuf {
        self.disk.join("u")
    }

    /// Empties upper and work.
    pub fn clear(&self) {
        for name in ["u", "w"] {
            let path = self.disk.join(name);
            match fs::remove_dir_all(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => panic!("rm {}: {e}", path.display()),
                _ => fs::create_dir(&path).expect("mkdir"),
            }
        }
    }

    /// Mounts, with the daemon as a child.
    pub fn mount(&self) -> Server {
        self.mount_by(Command::new(self.beside("fuse-overlayfs")))
    }

    /// Mounts by a program that was given its first arguments.
    pub fn mount_by(&self, mut command: Command) -> Server {
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            self.lower.display(),
            self.upper().display(),
            self.disk.join("w").display()
        );
        command.args(["-f", "-o", &options]).arg(&self.top).stdin(Stdio::null()).stdout(Stdio::null());
        let errors = fs::File::create(self.beside("stderr")).expect("a log");
        let child = command.stderr(errors).spawn().expect("the daemon");
        let mut server = Server { child, top: self.top.clone() };
        let said = || fs::read_to_string(self.beside("stderr")).unwrap_or_default();
        let up = wait_for(LIMIT, || {
            assert!(!server.is_dead(), "the daemon ended: {}", said());
            guard::mounts_below(&server.top).contains(&server.top)
        });
        assert!(up, "no mount: {}", said());
        // The first answer comes when it serves.
        fs::read_dir(&server.top).unwrap_or_else(|e| panic!("the mount does not answer: {e}: {}", said()));
        server
    }

    /// The tree of a mount of its own.
    pub fn tree(&self) -> Snapshot {
        let server = self.mount();
        let tree = server.tree();
        server.unmount();
        tree
    }

    /// What lies in work; only the mount that opened it may have put something there.
    pub fn in_work(&self) -> Vec<String> {
        let entries = fs::read_dir(self.disk.join("w/work")).expect("work");
        entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
    }
}

/// A running daemon and its mount. Dropping it kills the one and takes the other away.
pub struct Server {
    child: Child,
    top: PathBuf,
}

impl Server {
    /// The daemon's process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether the daemon has ended.
    pub fn is_dead(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// Its exit code, when it has ended by itself.
    pub fn exit_code(&mut self) -> Option<i32> {
        self.child.try_wait().ok().flatten().and_then(|status| status.code())
    }

    /// The mounted tree.
    pub fn tree(&self) -> Snapshot {
        Snapshot::of(&self.top).expect("the tree")
    }

    /// Does something on the mount; a call that hangs ends when the daemon is killed.
    pub fn act(&self, act: Act) -> io::Result<()> {
        self.begin(act).recv_timeout(LIMIT).unwrap_or_else(|_| panic!("the operation hangs"))
    }

    /// Begins to do something on the mount, and does not wait for it.
    pub fn begin(&self, act: Act) -> mpsc::Receiver<io::Result<()>> {
        let (sender, receiver) = mpsc::channel();
        let top = self.top.clone();
        std::thread::spawn(move || sender.send(act(&top)));
        receiver
    }

    /// Kills the daemon and takes the dead mount away.
    pub fn kill(mut self) {
        self.end();
    }

    /// Unmounts, and waits for the daemon to end by itself.
    pub fn unmount(self) {
        self.unmount_after("");
    }

    /// [`Server::unmount`]; a failure says after `what` it came.
    pub fn unmount_after(mut self, what: &str) {
        let free = wait_for(LIMIT, || rustix::mount::unmount(&self.top, UnmountFlags::NOFOLLOW).is_ok());
        assert!(free, "{what}: the mount is busy");
        let ended = wait_for(LIMIT, || self.is_dead());
        assert!(ended, "{what}: the daemon goes on without its mount: {:#?}", threads(self.pid()));
        assert_eq!(self.exit_code(), Some(0), "{what}: the daemon's exit code");
    }

    fn end(&mut self) {
        let _ = self.child.kill(); // it may have ended already
        let _ = self.child.wait();
        // Nothing to unmount is fine.
        let _ = rustix::mount::unmount(&self.top, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// What each thread of a process waits for: its state and the system call that it is in.
fn threads(pid: u32) -> Vec<String> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let read = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
    let paths = tasks.filter_map(Result::ok).map(|task| task.path());
    paths.map(|task| format!("{} in {}", read(task.join("stat")), read(task.join("syscall")))).collect()
}

/// What differs between two trees, but for the times that a restart of the operation changes: those of directories, and of what
/// the lower layer does not have with that very time.
pub fn differences(a: &Snapshot, b: &Snapshot, lower: &Snapshot) -> Vec<String> {
    let mut found = diff_ignoring(a, b, &[Field::Mtime]);
    for (path, entry) in &a.entries {
        let is_dir = entry.get(Field::Size).is_none() && entry.get(Field::Target).is_none();
        let time = |tree: &Snapshot| tree.get(path).and_then(|e| e.get(Field::Mtime).map(str::to_owned));
        let (own, other) = (time(a), time(b));
        if !is_dir && own == time(lower) && other.is_some() && own != other {
            found.push(format!("{}: time {own:?} and {other:?}", String::from_utf8_lossy(path)));
        }
    }
    found
}

/// Fails unless five more lower files are copied up as they should be.
pub fn five_copy_ups(_: &Server, lab: &Lab, what: &str) {
    for name in ["n/1", "n/2", "n/3", "n/4", "n/5"] {
        let (shown, below) = (lab.top.join(name), lab.lower.join(name));
        fs::set_permissions(&shown, fs::Permissions::from_mode(0o751))
            .unwrap_or_else(|e| panic!("{what}: {name}: {e}"));
        assert_eq!(fs::read(&shown).expect("content"), fs::read(&below).expect("content"), "{what}: {name}");
        let (a, b) = (fs::metadata(&shown).expect("stat"), fs::metadata(&below).expect("stat"));
        assert_eq!(a.permissions().mode() & 0o7777, 0o751, "{what}: {name}");
        assert_eq!(a.modified().expect("time"), b.modified().expect("time"), "{what}: {name}");
    }
}
