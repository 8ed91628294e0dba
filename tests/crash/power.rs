//! The power fails: an ext4 on a loop device is shut down under the daemon, so that what was not written is lost.

use std::fs;
use std::io;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;
use std::time::Instant;

use rustix::mount::UnmountFlags;

use crate::Outcome;
use crate::cuts::Reference;
use crate::cuts::chosen;
use crate::lab::LIMIT;
use crate::lab::Lab;
use crate::lab::Server;
use crate::lab::differences;
use crate::lab::five_copy_ups;
use crate::lab::missing;
use crate::scenes::Act;
use crate::scenes::SCENES;
use crate::scenes::Scene;
use crate::scenes::fill;
use crate::strace::Call;
use crate::strace::Strace;
use crate::support::Snapshot;
use crate::support::bin;
use crate::support::guard::wait_for;

/// `EXT4_IOC_SHUTDOWN`: `_IOR('X', 125, __u32)`, of `fs/ext4/ext4.h`.
const SHUTDOWN: u32 = 0x8004_587d;

/// What ext4 still does before it stops.
#[derive(Debug, Clone, Copy)]
enum Cut {
    /// The journal reaches the disk, data that waits in memory does not.
    FlushJournal = 1,
    /// Nothing more reaches the disk.
    Now = 2,
}

/// An ext4 of its own as the disk of a lab.
struct Disk<'a>(&'a Lab);

impl<'a> Disk<'a> {
    /// The reason when there is none to be had.
    fn new(lab: &'a Lab) -> Result<Self, String> {
        let image = lab.beside("image");
        fs::File::create(&image).and_then(|file| file.set_len(48 << 20)).map_err(|e| format!("the image: {e}"))?;
        let mut mkfs = Command::new("mkfs.ext4");
        // No lazy initialisation: its thread would write beside the test.
        let made = bin::output(mkfs.args(["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"]).arg(&image));
        if !made.status.success() {
            return Err(format!("mkfs.ext4: {}", String::from_utf8_lossy(&made.stderr).trim()));
        }
        let disk = Self(lab);
        disk.mount()?;
        let probe = lab.disk.join("probe");
        fs::write(&probe, "").map_err(|e| e.to_string())?;
        disk.cut(Cut::Now).map_err(|e| format!("no shutdown call: {e}"))?;
        disk.again();
        Ok(disk)
    }

    fn mount(&self) -> Result<(), String> {
        let mut mount = Command::new("timeout");
        mount.args(["20", "mount", "-o", "loop"]).arg(self.0.beside("image")).arg(&self.0.disk);
        let out = bin::output(&mut mount);
        let said = String::from_utf8_lossy(&out.stderr).trim().to_owned();
        if out.status.success() { Ok(()) } else { Err(format!("no loop device: {said}")) }
    }

    fn cut(&self, how: Cut) -> io::Result<()> {
        let dir = fs::File::open(&self.0.disk)?;
        let flags = how as u32;
        // SAFETY: the call reads one u32, which lives until it returns; the descriptor is open.
        #[allow(unsafe_code)]
        let result = unsafe { libc::ioctl(dir.as_raw_fd(), SHUTDOWN.into(), &raw const flags) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// What the next boot does.
    fn again(&self) {
        let free = wait_for(LIMIT, || rustix::mount::unmount(&self.0.disk, UnmountFlags::NOFOLLOW).is_ok());
        assert!(free, "the disk is busy");
        self.mount().expect("the disk again");
    }

    /// Everything that was done so far is on the disk.
    fn sync(&self) {
        let dir = fs::File::open(&self.0.disk).expect("the disk");
        rustix::fs::syncfs(&dir).expect("syncfs");
    }
}

/// The test: cut after each changing call of each scene.
pub fn borders() -> Outcome {
    if let Some(reason) = missing(&["strace", "mkfs.ext4"]) {
        return Outcome::Skipped(reason);
    }
    let lab = Lab::new("power", fill);
    let disk = match Disk::new(&lab) {
        Ok(disk) => disk,
        Err(reason) => return Outcome::Skipped(reason),
    };
    let all = std::env::var_os("MICA_CRASH_ALL").is_some();
    let (mut cuts, mut before) = (0, 0);
    for scene in SCENES {
        let reference = Reference::of(&lab, scene);
        let calls = chosen(&reference.calls);
        for (i, call) in calls.iter().enumerate().filter(|(i, _)| all || i % 2 == 0) {
            let hows = [Cut::FlushJournal, Cut::Now];
            for how in hows.into_iter().filter(|how| all || (i % 4 == 2) == matches!(how, Cut::FlushJournal)) {
                before += usize::from(cut_after(&disk, scene, &reference, call, how));
                cuts += 1;
            }
        }
    }
    Outcome::Done(format!("{cuts} cuts, {before} show before, {} after, 0 neither", cuts - before))
}

fn cut_after(disk: &Disk<'_>, scene: &Scene, reference: &Reference, call: &Call, how: Cut) -> bool {
    let lab = disk.0;
    let what = format!("{}, cut ({how:?}) after {} number {}: {}", scene.name, call.name, call.nth, call.line);
    lab.clear();
    let server = lab.mount();
    server.act(scene.before).expect("before");
    disk.sync();
    let inject = format!("{}:signal=STOP:when={}", call.name, call.nth);
    let strace = Strace::attach(server.pid(), &lab.beside("strace"), Some(&inject));
    let running = server.begin(scene.act);
    // The call is carried out, then the daemon stands still; or another thread took the request, and it is done.
    let start = Instant::now();
    while !stands_still(server.pid()) && start.elapsed() < LIMIT {
        match running.recv_timeout(Duration::from_millis(5)) {
            Err(RecvTimeoutError::Timeout) => {}
            _ => break,
        }
    }
    disk.cut(how).expect("shutdown");
    server.kill();
    drop(strace);
    disk.again();
    let server = lab.mount();
    let is_before = reference.check(&server.tree(), &what);
    five_copy_ups(&server, lab, &what);
    server.unmount();
    crate::faults::upper_is_clean(lab, &what);
    is_before
}

fn stands_still(pid: u32) -> bool {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return true };
    tasks.filter_map(Result::ok).all(|task| {
        let status = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        status.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['T', 't']))
    })
}

const DURABLE: &[(&str, Act)] = &[
    ("a new file below three new directories", |top| {
        fs::create_dir_all(top.join("a/b/c"))?;
        write_synced(&top.join("a/b/c/file"), "new")
    }),
    ("a new file below three directories of the lower layer", |top| write_synced(&top.join("x/y/z/new"), "new")),
    ("a lower file written again", |top| write_synced(&top.join("x/y/z/deep"), "other")),
    ("a lower file's mode", |top| {
        fs::set_permissions(top.join("x/y/z/deep"), fs::Permissions::from_mode(0o701))?;
        fs::File::open(top.join("x/y/z/deep"))?.sync_all()
    }),
    ("an appended line", |top| {
        let mut file = fs::OpenOptions::new().append(true).open(top.join("file"))?;
        file.write_all(b"more")?;
        file.sync_data()
    }),
    ("a file replaced by a rename", |top| {
        write_synced(&top.join("d/tmp"), "other")?;
        fs::rename(top.join("d/tmp"), top.join("d/f"))?;
        fs::File::open(top.join("d"))?.sync_all()
    }),
    ("a removed name", |top| {
        fs::remove_file(top.join("x/y/z/deep"))?;
        fs::File::open(top.join("x/y/z"))?.sync_all()
    }),
    ("a new name of a lower file", |top| {
        fs::hard_link(top.join("d/f"), top.join("x/y/z/link"))?;
        fs::File::open(top.join("x/y/z/link"))?.sync_all()
    }),
];

fn write_synced(path: &Path, text: &str) -> io::Result<()> {
    let mut file = fs::File::create(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// The test: what was synced is there after the cut, with its names.
pub fn after_fsync() -> Outcome {
    if let Some(reason) = missing(&["mkfs.ext4"]) {
        return Outcome::Skipped(reason);
    }
    let lab = Lab::new("fsync", fill);
    let disk = match Disk::new(&lab) {
        Ok(disk) => disk,
        Err(reason) => return Outcome::Skipped(reason),
    };
    let lower = Snapshot::of(&lab.lower).expect("lower");
    for (name, act) in DURABLE {
        lab.clear();
        let server: Server = lab.mount();
        disk.sync();
        server.act(*act).unwrap_or_else(|e| panic!("{name}: {e}"));
        let promised = server.tree();
        disk.cut(Cut::Now).expect("shutdown");
        server.kill();
        disk.again();
        let lost = differences(&promised, &lab.tree(), &lower);
        assert!(lost.is_empty(), "{name}: lost after fsync: {lost:#?}");
    }
    Outcome::Done(format!("{} cases, nothing lost", DURABLE.len()))
}
