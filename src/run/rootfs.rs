//! The container's view of files, built in its own mount namespace while the host's `/proc` is still there.
//!
//! Every mount target is reached by a walk inside the root ([`super::inroot`]) and mounted by descriptor. `/proc`,
//! `/sys` and `/dev` themselves must be plain directories or missing: a symlink there is refused, not followed and not
//! replaced.
//!
//! Two decisions follow from having no device cgroup (they need a daemon's or a service manager's consent, and differ
//! from kernel to kernel) while the container's root keeps `CAP_MKNOD` as in docker:
//! - the root, `/dev` and the host's directories are mounted `nodev`: device nodes can be made and packed, not opened;
//! - the six devices of `/dev` are the host's nodes, mounted one by one and read-only. That still allows reading and writing
//!   the *device*, but no `chmod` or `chown` that the host would see. It also is the way that works without privileges.

use std::os::fd::OwnedFd;
use std::path::Path;

use super::error::Error;
use super::error::Result;
use super::error::Step;
use super::inroot::Missing;
use super::inroot::Root;
use super::spec::Spec;
use crate::path::Escaped;
use crate::path::Name;
use crate::sys::Errno;
use crate::sys::attach;
use crate::sys::attach::Limits;
use crate::sys::attr;
use crate::sys::attr::Kind;
use crate::sys::data;
use crate::sys::name;
use crate::sys::open;
use crate::sys::trampoline;
use crate::sys::tty;

/// Devices of `/dev`: name, major and minor number.
const DEVICES: [(&[u8], u32, u32); 6] =
    [(b"null", 1, 3), (b"zero", 1, 5), (b"full", 1, 7), (b"random", 1, 8), (b"urandom", 1, 9), (b"tty", 5, 0)];

/// Symlinks of `/dev`: name and text.
const LINKS: [(&[u8], &[u8]); 6] = [
    (b"fd", b"/proc/self/fd"),
    (b"stdin", b"/proc/self/fd/0"),
    (b"stdout", b"/proc/self/fd/1"),
    (b"stderr", b"/proc/self/fd/2"),
    (b"ptmx", b"pts/ptmx"),
    (b"core", b"/proc/kcore"),
];

/// What tells about the host or lets it be harmed, hidden as in docker.
const MASKED: [&[u8]; 11] = [
    b"proc/acpi",
    b"proc/asound",
    b"proc/interrupts",
    b"proc/kcore",
    b"proc/keys",
    b"proc/latency_stats",
    b"proc/sched_debug",
    b"proc/scsi",
    b"proc/timer_list",
    b"proc/timer_stats",
    b"sys/firmware",
];

/// What may be read but never written, as in docker.
const READ_ONLY: [&[u8]; 5] = [b"proc/bus", b"proc/fs", b"proc/irq", b"proc/sys", b"proc/sysrq-trigger"];

/// What the child needs of the finished root.
#[derive(Debug)]
pub(super) struct Prepared {
    /// The root, with everything mounted.
    pub root: OwnedFd,
    /// The working directory, `O_PATH`.
    pub cwd: OwnedFd,
    /// The program that executes the command; see [`trampoline`].
    pub trampoline: OwnedFd,
    /// The container's terminal, if it has one.
    pub terminal: Option<tty::Pair>,
    /// The host's `/dev/null`.
    pub null: OwnedFd,
}

/// Builds the root of `spec`. The caller is alone in a new mount namespace that is private.
///
/// # Errors
/// [`Error::Refused`] for what the rootfs must not hold; [`Error::Setup`] names the step.
pub(super) fn prepare(spec: &Spec) -> Result<Prepared> {
    let sources = open_sources(spec)?;
    let null = null_device()?;
    let root = Root::new(mount_root(&spec.rootfs)?);
    let trampoline = stage_files(spec, &root)?;

    mount_proc(&root)?;
    mount_sys(&root)?;
    let terminal = mount_dev(&root, spec.tty)?;
    for (bind, source) in spec.binds.iter().zip(&sources) {
        mount_bind(&root, source, &bind.target, bind.read_only)?;
    }
    mask(&root, &null)?;
    let cwd = root.resolve(&spec.cwd, if spec.read_only { Missing::Fail } else { Missing::MakeDir })?;
    if attr::fstat(&cwd).step(|| "look at the working directory".to_owned())?.kind() != Kind::Dir {
        return Err(Error::Refused {
            path: Escaped(&spec.cwd).to_string(),
            why: "it is no directory to work in".into(),
        });
    }
    if spec.read_only {
        attach::restrict(&root, Limits { read_only: true, ..Limits::default() })
            .step(|| "make the container's root read-only".to_owned())?;
    }
    let null = open::reopen(&null, open::Access::ReadWrite).step(|| "open /dev/null".to_owned())?;
    let root = open::duplicate(&root).step(|| "hold the container's root".to_owned())?;
    Ok(Prepared { root, cwd, trampoline, terminal, null })
}

fn fixed(name: &'static [u8]) -> Result<Name<'static>> {
    Name::new(name).map_err(|e| Error::Spec(e.to_string()))
}

fn open_sources(spec: &Spec) -> Result<Vec<OwnedFd>> {
    let open =
        |b: &super::spec::Bind| open::any_path(&b.source).step(|| format!("mount the host's {}", b.source.display()));
    spec.binds.iter().map(open).collect()
}

/// A mount of our own on the rootfs, without devices; `pivot_root` needs one, and the flags stay ours.
fn mount_root(rootfs: &Path) -> Result<OwnedFd> {
    let step = || format!("take {} as the container's root", rootfs.display());
    let below = open::dir_path(rootfs).step(step)?;
    attach::bind(&below, &below, false).step(step)?;
    let top = open::dir_path(rootfs).step(step)?;
    attach::restrict(&top, Limits { no_dev: true, ..Limits::default() }).step(step)?;
    Ok(top)
}

/// Makes `/etc/{resolv.conf,hosts,hostname}` and the trampoline on a tmpfs of their own, mounts the three, and takes
/// the tmpfs out of the namespace: it lives as long as they do and leaves nothing on the host.
fn stage_files(spec: &Spec, root: &Root) -> Result<OwnedFd> {
    let step = || "make the container's own files".to_owned();
    // It covers the root for the time being; the walks from the descriptor of the root below do not see it.
    mount_stage(root)?;
    let stage = open::dir_path(&spec.rootfs).step(step)?;
    for (target, content) in super::etc::files(&spec.hostname)? {
        let file = Name::new(target.rsplit(|&b| b == b'/').next().unwrap_or(target))
            .map_err(|e| Error::Spec(e.to_string()))?;
        let source = write_file(&stage, file, &content, 0o644).step(step)?;
        bind_etc_file(root, &source, target)?;
    }
    let program = write_trampoline(&stage)?;
    attach::detach(&stage).step(step)?;
    Ok(program)
}

/// Mounts a small tmpfs for files that a container needs and nobody else sees.
///
/// # Errors
/// [`Error::Setup`].
pub(super) fn mount_stage(target: impl std::os::fd::AsFd) -> Result<()> {
    let limits = Limits { no_suid: true, no_dev: true, ..Limits::default() };
    attach::filesystem(target, c"tmpfs", limits, c"mode=0755,size=1m")
        .step(|| "make the container's own files".to_owned())
}

/// Writes the program of [`trampoline`]; as `O_PATH`, ready to be executed.
///
/// # Errors
/// [`Error::Setup`].
pub(super) fn write_trampoline(stage: &OwnedFd) -> Result<OwnedFd> {
    write_file(stage, fixed(b"exec")?, &trampoline::file(), 0o555).step(|| "make the first program".to_owned())
}

/// The host's `/dev/null` as `O_PATH`.
///
/// # Errors
/// [`Error::Spec`] when it is something else; [`Error::Setup`].
pub(super) fn null_device() -> Result<OwnedFd> {
    device(b"null", 1, 3)
}

/// Writes a new file and returns it as `O_PATH`; nobody has it open for writing then, so it can be executed.
fn write_file(dir: &OwnedFd, file: Name<'_>, content: &[u8], mode: u32) -> crate::sys::Result<OwnedFd> {
    let fd = open::create_at(dir, file, mode)?;
    data::write_all_at(&fd, content, 0)?;
    attr::chmod(&fd, mode)?;
    open::path_at(dir, file)
}

/// Mounts `source` on the file `target`, whatever is there, but for a directory. On a rootfs that cannot be written a
/// missing target stays missing.
fn bind_etc_file(root: &Root, source: &OwnedFd, target: &[u8]) -> Result<()> {
    let found = match root.resolve(target, Missing::MakeFile) {
        Err(Error::Setup { source, .. }) if source.errno() == Errno::ROFS => return Ok(()),
        other => other?,
    };
    let step = || format!("mount {}", Escaped(target));
    if attr::fstat(&found).step(step)?.kind() == Kind::Dir {
        return Err(Error::Refused {
            path: Escaped(target).to_string(),
            why: "a file is needed, found a directory".into(),
        });
    }
    attach::bind(source, &found, false).step(step)
}

fn mount_proc(root: &Root) -> Result<()> {
    let step = || "mount /proc".to_owned();
    let below = root.plain_dir(fixed(b"proc")?)?;
    attach::filesystem(&below, c"proc", Limits::DATA, c"").step(step)?;
    let top = open::dir_at(root, fixed(b"proc")?).step(step)?;
    if attach::is_on_proc(&top).step(step)? {
        return Ok(());
    }
    Err(Error::Refused { path: "/proc".into(), why: "it was exchanged while the container started".into() })
}

fn mount_sys(root: &Root) -> Result<()> {
    let step = || "mount /sys".to_owned();
    let below = root.plain_dir(fixed(b"sys")?)?;
    match attach::filesystem(&below, c"sysfs", Limits::DATA.read_only(), c"") {
        // In a user namespace that does not own the network namespace: the host's, as it is.
        Err(e) if e.errno() == Errno::PERM => {
            let host = open::dir_path(Path::new("/sys")).step(step)?;
            attach::bind(&host, &below, true).step(step)?;
            let top = open::dir_at(root, fixed(b"sys")?).step(step)?;
            attach::restrict(&top, Limits::DATA.read_only()).step(step)
        }
        other => other.step(step),
    }
}

fn mount_dev(root: &Root, with_terminal: bool) -> Result<Option<tty::Pair>> {
    let step = || "fill /dev".to_owned();
    let below = root.plain_dir(fixed(b"dev")?)?;
    let limits = Limits { no_suid: true, no_dev: true, no_exec: true, read_only: false };
    attach::filesystem(&below, c"tmpfs", limits, c"mode=0755,size=65536k").step(step)?;
    let dev = open::dir_at(root, fixed(b"dev")?).step(step)?;
    for (device_name, major, minor) in DEVICES {
        add_device(&dev, device_name, major, minor)?;
    }
    for (link, text) in LINKS {
        name::symlink(text, &dev, fixed(link)?).step(step)?;
    }
    sub_mount(&dev, b"shm", c"tmpfs", Limits::DATA, c"mode=1777,size=65536k")?;
    match sub_mount(&dev, b"mqueue", c"mqueue", Limits::DATA, c"") {
        // A kernel without POSIX message queues, or one that does not give them to us: programs that need them are
        // rare.
        Err(Error::Setup { source, .. }) if matches!(source.errno(), Errno::NODEV | Errno::PERM) => {}
        other => drop(other?),
    }
    let pts = mount_pts(&dev)?;
    with_terminal.then(|| open_console(&dev, &pts)).transpose()
}

fn sub_mount(
    dev: &OwnedFd,
    dir: &'static [u8],
    kind: &std::ffi::CStr,
    limits: Limits,
    data: &std::ffi::CStr,
) -> Result<OwnedFd> {
    let dir = fixed(dir)?;
    let step = || format!("mount /dev/{dir}");
    name::mkdir(dev, dir, 0o755).step(step)?;
    let below = open::dir_at(dev, dir).step(step)?;
    attach::filesystem(&below, kind, limits, data).step(step)?;
    open::dir_at(dev, dir).step(step)
}

/// The container's own pseudo terminals. The slaves belong to group 5 (tty) unless the user namespace does not know it.
fn mount_pts(dev: &OwnedFd) -> Result<OwnedFd> {
    let dir = fixed(b"pts")?;
    let step = || "mount /dev/pts".to_owned();
    name::mkdir(dev, dir, 0o755).step(step)?;
    let below = open::dir_at(dev, dir).step(step)?;
    let limits = Limits { no_suid: true, no_exec: true, ..Limits::default() };
    match attach::filesystem(&below, c"devpts", limits, c"newinstance,ptmxmode=0666,mode=0620,gid=5") {
        Err(e) if e.errno() == Errno::INVAL => {
            attach::filesystem(&below, c"devpts", limits, c"newinstance,ptmxmode=0666,mode=0620").step(step)?;
        }
        other => other.step(step)?,
    }
    open::dir_at(dev, dir).step(step)
}

fn open_console(dev: &OwnedFd, pts: &OwnedFd) -> Result<tty::Pair> {
    let step = || "open the container's terminal".to_owned();
    let pair = tty::open_pair(pts).step(step)?;
    let console = fixed(b"console")?;
    open::create_at(dev, console, 0o600).step(step)?;
    attach::bind(&pair.slave_path, open::path_at(dev, console).step(step)?, false).step(step)?;
    Ok(pair)
}

/// The host's device node, checked to be the device that its name promises.
fn device(device_name: &'static [u8], major: u32, minor: u32) -> Result<OwnedFd> {
    let device_name = fixed(device_name)?;
    let step = || format!("use the host's /dev/{device_name}");
    let dev = open::dir_path(Path::new("/dev")).step(step)?;
    let found = open::path_at(&dev, device_name).step(step)?;
    let stat = attr::fstat(&found).step(step)?;
    if stat.kind() == Kind::Char && stat.rdev == attr::makedev(major, minor) {
        return Ok(found);
    }
    Err(Error::Spec(format!("the host's /dev/{device_name} is not the character device {major}:{minor}")))
}

fn add_device(dev: &OwnedFd, device_name: &'static [u8], major: u32, minor: u32) -> Result<()> {
    let source = device(device_name, major, minor)?;
    let device_name = fixed(device_name)?;
    let step = || format!("add /dev/{device_name}");
    open::create_at(dev, device_name, 0o666).step(step)?;
    attach::bind(&source, open::path_at(dev, device_name).step(step)?, false).step(step)?;
    let top = open::path_at(dev, device_name).step(step)?;
    attach::restrict(&top, Limits { read_only: true, no_suid: true, no_exec: true, no_dev: false }).step(step)
}

fn mount_bind(root: &Root, source: &OwnedFd, target: &[u8], read_only: bool) -> Result<()> {
    let step = || format!("mount a host directory on {}", Escaped(target));
    let refuse = |why: &str| Err(Error::Refused { path: Escaped(target).to_string(), why: why.to_owned() });
    let is_dir = attr::fstat(source).step(step)?.kind() == Kind::Dir;
    let below = root.resolve(target, if is_dir { Missing::MakeDir } else { Missing::MakeFile })?;
    let (found, top) = (attr::fstat(&below).step(step)?, attr::fstat(root).step(step)?);
    if (found.dev, found.ino) == (top.dev, top.ino) {
        return refuse("nothing can be mounted on the root itself");
    }
    if attach::is_on_proc(&below).step(step)? {
        return refuse("nothing can be mounted inside /proc");
    }
    if (found.kind() == Kind::Dir) != is_dir {
        return refuse("one of source and target is a directory and the other is not");
    }
    let limits = Limits { read_only, no_dev: true, ..Limits::default() };
    attach::bind(source, &below, true).step(step)?;
    let top = root.resolve(target, Missing::Fail)?;
    // What is mounted below the source comes along: its devices could be opened, or made, and what is read-only written to.
    if attach::restrict_all(&top, limits).step(step)? {
        return Ok(());
    }
    attach::detach(&top).step(step)?;
    attach::bind(source, &below, false).step(step)?;
    attach::restrict(&root.resolve(target, Missing::Fail)?, limits).step(step)
}

fn mask(root: &Root, null: &OwnedFd) -> Result<()> {
    for path in MASKED {
        let Some(found) = present(root, path)? else { continue };
        let step = || format!("hide /{}", Escaped(path));
        if attr::fstat(&found).step(step)?.kind() == Kind::Dir {
            attach::filesystem(&found, c"tmpfs", Limits::DATA.read_only(), c"").step(step)?;
        } else {
            attach::bind(null, &found, false).step(step)?;
            let top = root.resolve(path, Missing::Fail)?;
            attach::restrict(&top, Limits { read_only: true, no_suid: true, no_exec: true, no_dev: false })
                .step(step)?;
        }
    }
    for path in READ_ONLY {
        let Some(found) = present(root, path)? else { continue };
        let step = || format!("make /{} read-only", Escaped(path));
        attach::bind(&found, &found, true).step(step)?;
        let top = root.resolve(path, Missing::Fail)?;
        attach::restrict(top, Limits::DATA.read_only()).step(step)?;
    }
    Ok(())
}

/// The object, or `None` on a kernel that does not have it.
fn present(root: &Root, path: &[u8]) -> Result<Option<OwnedFd>> {
    match root.resolve(path, Missing::Fail) {
        Err(Error::Setup { source, .. }) if matches!(source.errno(), Errno::NOENT | Errno::NOTDIR) => Ok(None),
        other => other.map(Some),
    }
}
