//! What is done while the harm is done. Each operation changes something in one request.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::CWD;
use rustix::fs::FileType;
use rustix::fs::Gid;
use rustix::fs::Mode;
use rustix::fs::Uid;

/// Something done below a mount point.
pub type Act = fn(&Path) -> io::Result<()>;

/// One operation.
pub struct Scene {
    /// For people.
    pub name: &'static str,
    /// What is done before.
    pub before: Act,
    /// The operation.
    pub act: Act,
}

fn nothing(_: &Path) -> io::Result<()> {
    Ok(())
}

fn chmod(path: &Path) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o741))
}

fn chown(path: &Path) -> io::Result<()> {
    std::os::unix::fs::lchown(path, Some(11), Some(12))
}

/// All of them.
pub const SCENES: &[Scene] = &[
    Scene { name: "copy up a file", before: nothing, act: |top| chmod(&top.join("file")) },
    Scene { name: "copy up a sparse file", before: nothing, act: |top| chmod(&top.join("sparse")) },
    Scene { name: "copy up a symlink", before: nothing, act: |top| chown(&top.join("symlink")) },
    Scene { name: "copy up a fifo", before: nothing, act: |top| chmod(&top.join("fifo")) },
    Scene { name: "copy up below three directories", before: nothing, act: |top| chmod(&top.join("x/y/z/deep")) },
    Scene { name: "create", before: nothing, act: |top| create(&top.join("d/new")) },
    Scene {
        name: "create over a whiteout",
        before: |top| fs::remove_file(top.join("file")),
        act: |top| create(&top.join("file")),
    },
    Scene {
        name: "mkdir over a whiteout",
        before: |top| fs::remove_file(top.join("file")),
        act: |top| fs::create_dir(top.join("file")),
    },
    Scene { name: "unlink lower", before: nothing, act: |top| fs::remove_file(top.join("d/f")) },
    Scene { name: "unlink a copy", before: |top| chmod(&top.join("d/f")), act: |top| fs::remove_file(top.join("d/f")) },
    Scene {
        name: "rmdir merged",
        before: |top| fs::remove_file(top.join("m/1")),
        act: |top| fs::remove_dir(top.join("m")),
    },
    Scene { name: "rename over lower", before: nothing, act: |top| fs::rename(top.join("d/f"), top.join("file")) },
    Scene {
        name: "rename a new directory onto a whiteout",
        before: new_beside_whiteout,
        act: |top| fs::rename(top.join("u"), top.join("file")),
    },
    Scene { name: "link lower", before: nothing, act: |top| fs::hard_link(top.join("d/f"), top.join("e/l")) },
    Scene {
        name: "link over a whiteout",
        before: |top| fs::remove_file(top.join("file")),
        act: |top| fs::hard_link(top.join("d/f"), top.join("file")),
    },
];

fn create(path: &Path) -> io::Result<()> {
    // By a user, so that it is not made in place in one call.
    rustix::fs::mknodat(CWD, path, FileType::RegularFile, Mode::from_raw_mode(0o640), 0).map_err(io::Error::from)
}

fn new_beside_whiteout(top: &Path) -> io::Result<()> {
    fs::remove_file(top.join("file"))?;
    fs::create_dir(top.join("u"))?;
    fs::write(top.join("u/in"), "in")
}

/// The lower layer of all of them.
pub fn fill(lower: &Path) {
    for dir in ["d", "e", "m", "n", "x/y/z"] {
        fs::create_dir_all(lower.join(dir)).expect("mkdir");
    }
    let put = |name: &str, text: &[u8]| fs::write(lower.join(name), text).expect("write");
    put("file", &vec![b'f'; 70_000]);
    put("d/f", b"lower f");
    put("m/1", b"one");
    put("x/y/z/deep", b"deep");
    for n in 1..=5 {
        put(&format!("n/{n}"), format!("number {n}").as_bytes());
    }
    let sparse = fs::File::create(lower.join("sparse")).expect("sparse");
    sparse.set_len(3 << 20).expect("truncate");
    std::os::unix::fs::FileExt::write_at(&sparse, b"middle", 1 << 20).expect("pwrite");
    std::os::unix::fs::symlink("d/f", lower.join("symlink")).expect("symlink");
    rustix::fs::mknodat(CWD, lower.join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).expect("mkfifo");
    rustix::fs::chownat(
        CWD,
        lower.join("file"),
        Some(Uid::from_raw(1234)),
        Some(Gid::from_raw(1235)),
        rustix::fs::AtFlags::empty(),
    )
    .expect("chown");
    rustix::fs::lsetxattr(lower.join("file"), "user.mica", b"kept", rustix::fs::XattrFlags::empty()).expect("setxattr");
}
