//! A union of directories on a real mount, and what tests do to it.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::Duration;

use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::mount::UnmountFlags;

use crate::support::Snapshot;
use crate::support::TempDir;
use crate::support::bin;
use crate::support::guard::wait_for;
use crate::support::report_skip;

/// A user without any right of its own, for what root may do anyway.
pub const USER: u32 = 4242;
/// Seconds after which a program that a test starts is taken for dead.
const LIMIT: &str = "60";

/// What serves the mount. Tests run on mica; `MICA_MOUNTED_ON=overlay` (the kernel's) or `fuse-overlayfs` runs the same tests on
/// another implementation, to tell a wrong test from a wrong mica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    /// The built mount helper, in the dialect of fuse-overlayfs.
    Mica,
    /// The kernel's overlayfs.
    Kernel,
    /// The installed fuse-overlayfs.
    Peer,
}

impl On {
    /// What this run is about.
    pub fn chosen() -> Self {
        match std::env::var("MICA_MOUNTED_ON").as_deref() {
            Ok("overlay") => On::Kernel,
            Ok("fuse-overlayfs") => On::Peer,
            _ => On::Mica,
        }
    }
}

/// Two lower layers (or more), an upper, and a mount point. The mount ends when it is dropped.
pub struct Place {
    dir: TempDir,
    layers: Vec<PathBuf>,
    options: String,
    /// The mount point.
    pub top: PathBuf,
    /// The directory that takes the changes.
    pub upper: PathBuf,
    work: PathBuf,
}

impl Place {
    /// Two empty layers, filled by `fill` (which gets the upper and the lower one), mounted. `None`, and the reason printed, where
    /// that cannot be done.
    pub fn mounted(label: &str, fill: impl FnOnce(&Path, &Path)) -> Option<Self> {
        let place = Self::prepared(label)?;
        fill(&place.layers[0], &place.layers[1]);
        place.mount(On::chosen());
        Some(place)
    }

    /// Two empty layers, not mounted yet.
    pub fn prepared(label: &str) -> Option<Self> {
        if !crate::support::is_root() {
            report_skip("needs root: layers hold devices and foreign owners");
            return None;
        }
        if let Err(reason) = bin::mount_helper() {
            report_skip(&reason);
            return None;
        }
        let dir = TempDir::new(label);
        let layers = vec![dir.dir("l1"), dir.dir("l2")];
        let (top, upper) = (dir.dir("m"), dir.dir("u"));
        let work = dir.dir("w");
        Some(Self { layers, top, upper, work, dir, options: String::new() })
    }

    /// Replaces the layers; the first is the topmost.
    pub fn set_layers(&mut self, layers: Vec<PathBuf>) {
        self.layers = layers;
    }

    /// Puts the work directory elsewhere: beside an upper one that was put elsewhere.
    pub fn set_work(&mut self, work: PathBuf) {
        self.work = work;
    }

    /// More mount options.
    pub fn set_options(&mut self, options: &str) {
        self.options = format!(",{options}");
    }

    /// A path in the test's own directory, beside the mount.
    pub fn beside(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.join(name)
    }

    /// A path in the mount.
    pub fn at(&self, name: impl AsRef<Path>) -> PathBuf {
        self.top.join(name)
    }

    /// A path in the upper directory.
    pub fn in_upper(&self, name: impl AsRef<Path>) -> PathBuf {
        self.upper.join(name)
    }

    /// A path in layer `n`, 0 being the topmost.
    pub fn in_layer(&self, n: usize, name: impl AsRef<Path>) -> PathBuf {
        self.layers[n].join(name)
    }

    /// Mounts.
    ///
    /// # Panics
    /// When that fails.
    pub fn mount(&self, on: On) {
        let names: Vec<_> = self.layers.iter().map(|l| l.to_str().expect("an ASCII path")).collect();
        let (upper, work) = (self.upper.display(), &self.work);
        let options =
            format!("lowerdir={},upperdir={upper},workdir={}{}", names.join(":"), work.display(), self.options);
        let mut options = options;
        if let (On::Mica, Ok(more)) = (on, std::env::var("MICA_MOUNTED_WITH")) {
            // `MICA_MOUNTED_WITH=io=cache` runs the tests in that mode.
            options = format!("{options},{more}");
        }
        let mut command = Command::new("timeout");
        command.arg(LIMIT);
        if on == On::Mica {
            // `MICA_MOUNTED_THROUGH="PROGRAM ARGUMENTS"` starts the server, e.g. under the filter of tests/crash/floor.rs.
            let through = std::env::var("MICA_MOUNTED_THROUGH").unwrap_or_default();
            command.args(through.split_whitespace());
        }
        match on {
            On::Mica => command.arg(self.helper()).args(["-o", &options]),
            On::Kernel => command.args(["mount", "-t", "overlay", "overlay", "-o", &options]),
            On::Peer => command.args(["fuse-overlayfs", "-o", &options]),
        };
        bin::run_ok(command.arg(&self.top).stdin(Stdio::null()));
    }

    /// The mount helper under the name that makes it speak fuse-overlayfs's dialect.
    pub fn helper(&self) -> PathBuf {
        let link = self.beside("fuse-overlayfs");
        if !link.is_symlink() {
            let helper = bin::mount_helper().expect("asked before");
            std::os::unix::fs::symlink(helper, &link).expect("a symlink");
        }
        link
    }

    /// Ends the mount and waits until the upper directory is free again.
    ///
    /// # Panics
    /// When the mount is busy.
    pub fn unmount(&self) {
        let upper = fs::File::open(&self.upper).expect("upper");
        // Other tests of this process fork meanwhile, and their children hold copies of every descriptor until they exec.
        let unmount = || rustix::mount::unmount(&self.top, UnmountFlags::NOFOLLOW).is_ok();
        assert!(wait_for(Duration::from_secs(10), unmount), "umount: busy");
        // The server ends a moment after its mount, and holds a lock on upper until then.
        let free = || rustix::fs::flock(&upper, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_ok();
        if !wait_for(Duration::from_secs(5), &free) {
            // A container that somebody started meanwhile has a copy of the mount in its namespace, and keeps the server at work.
            let server = server_of(&self.top).expect("a server that holds upper");
            bin::run_ok(Command::new("kill").arg(server));
            assert!(wait_for(Duration::from_secs(20), &free), "the server goes on");
        }
    }

    /// Ends the mount and mounts again.
    pub fn remount(&self) {
        self.unmount();
        self.mount(On::chosen());
    }

    /// The mounted tree.
    pub fn tree(&self) -> Snapshot {
        Snapshot::of(&self.top).expect("the tree")
    }

    /// The names in the upper directory, all levels, sorted.
    pub fn upper_names(&self) -> Vec<String> {
        let tree = Snapshot::of(&self.upper).expect("upper");
        let names = tree.entries.keys().filter(|k| !k.is_empty());
        names.map(|k| String::from_utf8_lossy(k).into_owned()).collect()
    }

    /// Checks that the mount shows the same after a remount, and that the kernel's overlayfs shows it for the same directories;
    /// leaves it mounted by what this run is about.
    ///
    /// # Panics
    /// When they differ.
    pub fn same_after_remount_and_by_the_kernel(&self) {
        let before = self.tree();
        self.remount();
        crate::support::tree::assert_same(&before, &self.tree());
        if let Err(reason) = kernel_overlay() {
            // The test itself has run: this is not one of the lines that count as skipped.
            eprintln!("not compared with the kernel's overlayfs: {reason}");
            return;
        }
        self.unmount();
        self.mount(On::Kernel);
        crate::support::tree::assert_same(&before, &self.tree());
        self.unmount();
        self.mount(On::chosen());
    }

    /// Attributes of a name, which must be there; a symlink's own.
    pub fn stat(&self, name: impl AsRef<Path>) -> fs::Metadata {
        let path = self.at(name);
        fs::symlink_metadata(&path).unwrap_or_else(|e| panic!("stat {}: {e}", path.display()))
    }

    /// Permission bits with set-id and sticky.
    pub fn mode(&self, name: impl AsRef<Path>) -> u32 {
        self.stat(name).mode() & 0o7777
    }
}

/// The process that serves a mount: the one whose arguments end with the mount point.
pub fn server_of(top: &Path) -> Option<String> {
    let serves = |pid: &str| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        let own = line.split('\0').rfind(|a| !a.is_empty()).is_some_and(|last| Path::new(last) == top);
        own && line.contains("fuse-overlayfs") && !line.starts_with("timeout")
    };
    let pids = fs::read_dir("/proc").ok()?.filter_map(|e| e.ok()?.file_name().into_string().ok());
    pids.filter(|name| name.bytes().all(|b| b.is_ascii_digit())).find(|pid| serves(pid))
}

/// Whether the kernel's overlayfs can be mounted on the filesystem of temporary files.
///
/// # Errors
/// What mount(8) says; the same all the time.
pub fn kernel_overlay() -> Result<(), &'static str> {
    static ANSWER: OnceLock<Result<(), String>> = OnceLock::new();
    let probe = || {
        let dir = TempDir::new("probe");
        let [lower, upper, work, top] = ["l", "u", "w", "m"].map(|name| dir.dir(name).display().to_string());
        let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
        let out =
            bin::output(Command::new("timeout").args([LIMIT, "mount", "-t", "overlay", "o", "-o", &options, &top]));
        if out.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&out.stderr).trim().to_owned()) }
    };
    ANSWER.get_or_init(probe).as_ref().copied().map_err(String::as_str)
}

/// Writes a file in a layer, with the directories above it.
pub fn put(layer: &Path, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
    let path = layer.join(name);
    fs::create_dir_all(path.parent().expect("a parent")).expect("mkdir");
    fs::write(&path, text).unwrap_or_else(|e| panic!("write {}: {e}", path.display()));
    path
}

/// Makes a directory in a layer, with those above it.
pub fn put_dir(layer: &Path, name: &str) -> PathBuf {
    let path = layer.join(name);
    fs::create_dir_all(&path).expect("mkdir");
    path
}

/// Makes a FIFO, socket or device.
pub fn mknod(path: &Path, kind: FileType, mode: u32, device: u64) -> io::Result<()> {
    Ok(rustix::fs::mknodat(rustix::fs::CWD, path, kind, Mode::from_raw_mode(mode), device)?)
}

/// Makes a whiteout in the kernel's form.
pub fn whiteout(path: &Path) {
    mknod(path, FileType::CharacterDevice, 0, 0).expect("a whiteout");
}

/// Whether a path is a whiteout in the kernel's form.
pub fn is_whiteout(path: &Path) -> bool {
    let stat = fs::symlink_metadata(path);
    stat.is_ok_and(|s| FileType::from_raw_mode(s.mode()) == FileType::CharacterDevice && s.rdev() == 0)
}

/// Marks a directory of a layer opaque.
pub fn opaque(path: &Path) {
    set_xattr(path, "trusted.overlay.opaque", b"y").expect("an opaque mark");
}

/// Sets an extended attribute, not following a symlink.
pub fn set_xattr(path: &Path, name: &str, value: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::lsetxattr(path, name, value, rustix::fs::XattrFlags::empty())?)
}

/// Reads one, not following a symlink.
pub fn xattr(path: &Path, name: &str) -> io::Result<Vec<u8>> {
    let mut value = vec![0; 1 << 16];
    let length = rustix::fs::lgetxattr(path, name, &mut value[..])?;
    value.truncate(length);
    Ok(value)
}

/// The names of all of them, sorted.
pub fn xattr_names(path: &Path) -> Vec<String> {
    let mut list = vec![0; 1 << 16];
    let length = rustix::fs::llistxattr(path, &mut list[..]).expect("listxattr");
    let parts = list[..length].split(|b| *b == 0).filter(|p| !p.is_empty());
    let mut names: Vec<_> = parts.map(|p| String::from_utf8_lossy(p).into_owned()).collect();
    names.sort();
    names
}

/// The names in a directory, sorted.
pub fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap_or_else(|e| panic!("readdir {}: {e}", dir.display()));
    let mut names: Vec<_> = entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Sets permission bits.
pub fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
}

/// Sets both times: seconds and nanoseconds, not following a symlink.
pub fn set_times(path: &Path, (secs, nanos): (i64, i64)) {
    let time = rustix::fs::Timespec { tv_sec: secs, tv_nsec: nanos };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).expect("utimensat");
}

/// Modification time in seconds and nanoseconds.
pub fn mtime(path: &Path) -> (i64, i64) {
    let stat = fs::symlink_metadata(path).expect("stat");
    (stat.mtime(), stat.mtime_nsec())
}

/// The number of an error.
#[track_caller]
pub fn errno<T: std::fmt::Debug>(result: io::Result<T>) -> rustix::io::Errno {
    let error = result.expect_err("this must fail");
    rustix::io::Errno::from_io_error(&error).unwrap_or_else(|| panic!("no error number: {error}"))
}

/// Fails unless a call ended with this error, named as in `rustix::io::Errno`.
macro_rules! assert_errno {
    ($result:expr, $name:ident) => {
        assert_eq!($crate::place::errno($result.map_err(std::io::Error::from)), rustix::io::Errno::$name)
    };
}
pub(crate) use assert_errno;

/// A shell command in `dir`.
pub fn shell(dir: &Path, script: &str) -> Command {
    let mut command = Command::new("timeout");
    command.args([LIMIT, "sh", "-ec", script]).current_dir(dir).stdin(Stdio::null());
    command
}

/// Runs a shell command in `dir` as root; what it printed.
///
/// # Panics
/// When it fails.
pub fn sh(dir: &Path, script: &str) -> String {
    bin::run_ok(&mut shell(dir, script))
}

/// Runs a shell command in `dir` as the user [`USER`], group `gid`, without other groups.
pub fn sh_as(dir: &Path, gid: u32, script: &str) -> Output {
    bin::output(shell(dir, script).uid(USER).gid(gid))
}

/// Whether a program is installed.
pub fn have(program: &str) -> bool {
    static PATH: OnceLock<Vec<PathBuf>> = OnceLock::new();
    let path = PATH.get_or_init(|| std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect());
    path.iter().chain([&PathBuf::from("/usr/sbin"), &PathBuf::from("/sbin")]).any(|dir| dir.join(program).exists())
}
