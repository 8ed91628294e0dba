//! An old kernel: a seccomp filter that answers `ENOSYS` for every system call that Linux 3.10 does not have, and `ENOTTY` for the
//! one FUSE request of a device that it lacks.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::process::ExitCode;

use crate::Outcome;
use crate::lab::Lab;
use crate::lab::differences;
use crate::lab::five_copy_ups;
use crate::lab::missing;
use crate::scenes::SCENES;
use crate::scenes::fill;
use crate::support::Snapshot;
use crate::support::bin;

/// `PROGRAM --floor PLAIN|EL7 COMMAND ARGUMENTS...` runs the command on the old kernel.
pub const FLAG: &str = "--floor";
/// Plain Linux 3.10, and that of CentOS 7, which has `renameat2`, too.
const KERNELS: [&str; 2] = ["plain", "el7"];

/// The first system call that came after 3.10 (`sched_setattr`) in the machine's table, and `renameat2`.
#[cfg(target_arch = "x86_64")]
const NEWER: (u32, u32, u32) = (0xc000_003e, 314, 316);
#[cfg(not(target_arch = "x86_64"))]
const NEWER: (u32, u32, u32) = (0xc000_00b7, 274, 276);
/// `FUSE_DEV_IOC_CLONE` (Linux 4.2): `_IOR(229, 0, uint32_t)`.
const CLONE: u32 = 0x8004_e500;

fn statement(code: u32, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

fn jump(test: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code: (libc::BPF_JMP | test | libc::BPF_K) as u16, jt, jf, k }
}

fn filter(with_renameat2: bool) -> Vec<libc::sock_filter> {
    let (arch, first, renameat2) = NEWER;
    let load = |offset| statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset);
    let answer = |what| statement(libc::BPF_RET | libc::BPF_K, what);
    let errno = |number: i32| libc::SECCOMP_RET_ERRNO | number.unsigned_abs();
    // struct seccomp_data: nr at 0, arch at 4, the second argument at 24.
    vec![
        load(4),
        jump(libc::BPF_JEQ, arch, 1, 0),
        answer(libc::SECCOMP_RET_ALLOW),
        load(0),
        jump(libc::BPF_JEQ, if with_renameat2 { renameat2 } else { u32::MAX }, 0, 1),
        answer(libc::SECCOMP_RET_ALLOW),
        jump(libc::BPF_JGE, first, 0, 1),
        answer(errno(libc::ENOSYS)),
        jump(libc::BPF_JEQ, u32::try_from(libc::SYS_ioctl).expect("a call number"), 0, 3),
        load(24),
        jump(libc::BPF_JEQ, CLONE, 0, 1),
        answer(errno(libc::ENOTTY)),
        answer(libc::SECCOMP_RET_ALLOW),
    ]
}

fn install(with_renameat2: bool) -> io::Result<()> {
    let mut filter = filter(with_renameat2);
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the program and its instructions live until the call returns; the kernel copies them.
    #[allow(unsafe_code)]
    let result = unsafe {
        libc::prctl(libc::PR_SET_SECCOMP, libc::c_ulong::from(libc::SECCOMP_MODE_FILTER), &raw const program)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// What this program does behind [`FLAG`].
pub fn exec_filtered(arguments: &[OsString]) -> ExitCode {
    let [kernel, program, rest @ ..] = arguments else {
        eprintln!("usage: {FLAG} plain|el7 COMMAND ARGUMENTS...");
        return ExitCode::from(125);
    };
    if let Err(e) = install(kernel == "el7") {
        eprintln!("no filter: {e}");
        return ExitCode::from(125);
    }
    let e = Command::new(program).args(rest).exec();
    eprintln!("{}: {e}", program.display());
    ExitCode::from(127)
}

/// `program` on an old kernel.
fn on(kernel: &str, program: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.arg(FLAG).arg(kernel).arg(program);
    command
}

fn missing_here() -> Option<String> {
    if cfg!(not(any(target_arch = "x86_64", target_arch = "aarch64"))) {
        return Some("the filter knows x86_64 and aarch64".to_owned());
    }
    missing(&[]).or_else(|| {
        let works = on("plain", Path::new("/bin/true")).status().is_ok_and(|status| status.success());
        (!works).then(|| "no seccomp filter, or this machine's C library needs newer calls".to_owned())
    })
}

/// The test: every scene, and reading and writing, give the same trees as without the filter.
pub fn mounted() -> Outcome {
    if let Some(reason) = missing_here() {
        return Outcome::Skipped(reason);
    }
    let mut compared = 0;
    for kernel in KERNELS {
        let lab = Lab::new("floor", fill);
        let lower = Snapshot::of(&lab.lower).expect("lower");
        for scene in SCENES {
            let what = format!("{} on {kernel}", scene.name);
            lab.clear();
            let server = lab.mount();
            server.act(scene.before).and_then(|()| server.act(scene.act)).expect("on this kernel");
            let expected = server.tree();
            server.unmount();
            lab.clear();
            let server = lab.mount_by(on(kernel, &lab.beside("fuse-overlayfs")));
            server.act(scene.before).unwrap_or_else(|e| panic!("{what}: before: {e}"));
            server.act(scene.act).unwrap_or_else(|e| panic!("{what}: {e}"));
            read_and_write(&lab, &what);
            for name in ["r", "n/1"] {
                fs::remove_file(lab.top.join(name)).unwrap_or_else(|e| panic!("{what}: {name}: {e}"));
            }
            fs::copy(lab.lower.join("n/1"), lab.top.join("n/1")).expect("copy");
            let ignored = |line: &String| line.starts_with("n");
            let found = differences(&expected, &server.tree(), &lower);
            let found: Vec<_> = found.into_iter().filter(|line| !ignored(line)).collect();
            assert!(found.is_empty(), "{what}: {found:#?}");
            let shown = server.tree();
            server.unmount();
            let found = differences(&shown, &lab.tree(), &lower);
            assert!(found.is_empty(), "{what}, on a newer kernel then: {found:#?}");
            compared += 2;
        }
        lab.clear();
        let server = lab.mount_by(on(kernel, &lab.beside("fuse-overlayfs")));
        five_copy_ups(&server, &lab, kernel);
        server.unmount();
    }
    Outcome::Done(format!("{compared} trees on {} kernels", KERNELS.len()))
}

/// Large reads and writes, over several requests.
fn read_and_write(lab: &Lab, what: &str) {
    let text: Vec<u8> = (0..300_000_u32).map(|n| n as u8).collect();
    fs::write(lab.top.join("r"), &text).unwrap_or_else(|e| panic!("{what}: write: {e}"));
    assert_eq!(fs::read(lab.top.join("r")).expect("read"), text, "{what}");
    assert_eq!(fs::read(lab.top.join("sparse")).expect("read").len(), 3 << 20, "{what}");
}

/// The test: an image is loaded, run, changed and committed.
pub fn container() -> Outcome {
    if let Some(reason) = missing_here() {
        return Outcome::Skipped(reason);
    }
    let fixture = match crate::support::fixture("busybox") {
        Ok(fixture) => fixture,
        Err(reason) => return Outcome::Skipped(format!("no image: {reason}")),
    };
    for kernel in KERNELS {
        let dir = crate::support::TempDir::new("floor-store");
        let mica = |arguments: &[&str]| {
            let mut command = on(kernel, &bin::mica());
            command.arg("--root").arg(dir.join("store")).args(arguments).env_remove("MICA_ROOT");
            command.stdin(std::process::Stdio::null());
            bin::run_ok(&mut command)
        };
        let archive = fixture.file("docker.tar");
        mica(&["load", "-i", archive.to_str().expect("an ASCII path")]);
        let image = fixture.image();
        let said = mica(&[
            "run",
            "--name",
            "changed",
            &image,
            "sh",
            "-c",
            "echo new >/etc/motd; rm -r /usr/share/doc; mkdir /a",
        ]);
        assert_eq!(said, "", "{kernel}");
        mica(&["commit", "changed", "changed:1"]);
        let said = mica(&["run", "--rm", "changed:1", "sh", "-c", "cat /etc/motd; ls -d /a /usr/share/doc 2>&1 || :"]);
        assert!(said.starts_with("new\n/a\n") || said.contains("new") && said.contains("/a"), "{kernel}: {said}");
        assert!(!said.lines().any(|line| line == "/usr/share/doc"), "{kernel}: {said}");
        mica(&["rm", "changed"]);
        mica(&["check"]);
    }
    Outcome::Done(format!("load, run, commit, run, check on {} kernels", KERNELS.len()))
}
