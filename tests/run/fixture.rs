//! The root directory that the containers run on, and starting a runner on it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

const BUSYBOX: &str = "/bin/busybox";

/// Why the cases cannot run here.
pub fn missing() -> Option<String> {
    if rustix_uid() != 0 {
        return Some("containers need root".to_owned());
    }
    (!Path::new(BUSYBOX).exists()).then(|| format!("{BUSYBOX} is missing (package busybox-static)"))
}

fn rustix_uid() -> u32 {
    micafs::sys::process::effective_uid()
}

/// A root directory with busybox in it; removed on drop.
pub struct Rootfs {
    pub dir: PathBuf,
}

static NUMBER: AtomicU32 = AtomicU32::new(0);

impl Rootfs {
    pub fn new() -> Self {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("mica-run-{}-{number}", std::process::id()));
        for sub in ["bin", "etc", "tmp", "root", "home/ann"] {
            fs::create_dir_all(dir.join(sub)).unwrap();
        }
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        fs::copy(BUSYBOX, dir.join("bin/busybox")).unwrap();
        for applet in
            "sh true false cat echo env id ls pwd stat readlink tty stty sleep kill ps mount mknod chmod hostname touch test head dd wc sort"
                .split(' ')
        {
            symlink("busybox", dir.join("bin").join(applet)).unwrap();
        }
        fs::write(dir.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n")
            .unwrap();
        fs::write(dir.join("etc/group"), "root:x:0:\nann:x:1000:\naudio:x:29:ann\n").unwrap();
        Self { dir }
    }

    /// A runner on this root: its options, then the command.
    pub fn runner(&self, options: &[&str], argv: &[&str]) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("runner").arg(&self.dir).args(options).arg("--").args(argv).stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, options: &[&str], argv: &[&str]) -> Output {
        self.runner(options, argv).output().unwrap()
    }

    /// Runs a shell script; its standard output when it ends with 0.
    pub fn sh(&self, options: &[&str], script: &str) -> Result<String, String> {
        let out = self.run(options, &["/bin/sh", "-c", script]);
        if out.status.success() {
            return Ok(String::from_utf8_lossy(&out.stdout).into_owned());
        }
        Err(format!(
            "{:?}: {}{}",
            out.status,
            String::from_utf8_lossy(&out.stdout),
            String::from_utf8_lossy(&out.stderr)
        ))
    }
}

impl Drop for Rootfs {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.dir).unwrap();
    }
}

/// An error unless both are equal.
pub fn same<T: PartialEq + std::fmt::Debug>(got: T, expected: T) -> Result<(), String> {
    if got == expected { Ok(()) } else { Err(format!("got {got:?}, expected {expected:?}")) }
}

/// An error with `seen` unless `holds`.
pub fn check(holds: bool, seen: impl std::fmt::Display) -> Result<(), String> {
    if holds { Ok(()) } else { Err(seen.to_string()) }
}

/// Checks exit code and a part of the error text.
pub fn ends_with(out: &Output, code: i32, text: &str) -> Result<(), String> {
    let stderr = String::from_utf8_lossy(&out.stderr);
    same(out.status.code(), Some(code)).map_err(|e| format!("{e}; {stderr}"))?;
    check(stderr.contains(text), format!("no {text:?} in {stderr:?}"))
}

/// Waits until `holds`; an error after many tries.
pub fn eventually(mut holds: impl FnMut() -> bool) -> Result<(), String> {
    for _ in 0..1000 {
        if holds() {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    Err("did not happen within ten seconds".to_owned())
}
