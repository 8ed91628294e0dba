//! The built programs and how to run them.

use std::ffi::OsStr;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;

/// The built `mica`.
pub fn mica() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_mica"))
}

/// The built mount helper: it lies beside `mica` when the whole workspace was built. Cargo takes no dot in a program's
/// name, so it is built as `mount-mica` and installed as `mount.mica`.
///
/// # Errors
/// The reason, as text for a skip, when only `mica` was built.
pub fn mount_helper() -> Result<PathBuf, String> {
    let found =
        ["mount.mica", "mount-mica"].map(|name| mica().with_file_name(name)).into_iter().find(|path| path.exists());
    found.ok_or_else(|| "the mount helper is not built: cargo build --workspace".to_owned())
}

/// `mica --root STORE ARGS...`, ready to run without a terminal.
pub fn mica_command<A: AsRef<OsStr>>(store: &Path, args: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(mica());
    command.arg("--root").arg(store).args(args).stdin(Stdio::null()).env_remove("MICA_ROOT");
    command
}

/// Runs a command to its end.
///
/// # Panics
/// When it cannot be started.
pub fn output(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|e| panic!("cannot start {command:?}: {e}"))
}

/// Runs a command that must succeed; what it printed on stdout.
///
/// # Panics
/// When it cannot be started or fails, with all that it printed.
pub fn run_ok(command: &mut Command) -> String {
    let out = output(command);
    let (stdout, stderr) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{command:?}: {}\n{stdout}{stderr}", out.status);
    stdout.into_owned()
}

/// Runs a command that must fail with `code`; what it printed on stderr.
///
/// # Panics
/// When it cannot be started, or ends in another way.
pub fn run_fails(command: &mut Command, code: i32) -> String {
    let out = output(command);
    let (stdout, stderr) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert_eq!(out.status.code(), Some(code), "{command:?}: {}\n{stdout}{stderr}", out.status);
    stderr.into_owned()
}
