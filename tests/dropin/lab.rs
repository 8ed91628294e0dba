//! What the tests stand on: namespaces of their own, verdicts, commands with a limit, comparisons of trees.

use std::fmt::Debug;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::ExitCode;
use std::process::Output;
use std::process::Stdio;
use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use crate::support;
use crate::support::Snapshot;
use crate::support::TempDir;
use crate::support::guard::wait_for;
use crate::support::serial::Tally;
pub use crate::support::serial::Try;
pub use crate::support::serial::Verdict;
pub use crate::support::serial::skip;
use crate::support::tree;
use crate::support::tree::Field;

const INSIDE: &str = "MICA_DROPIN_INSIDE";
/// The user of the rootless tests; exists only in here.
pub const USER: u32 = 4242;

/// Starts this program again in namespaces of its own, where this is root; returns in there, or where that is not possible.
pub fn enter() -> std::io::Result<()> {
    if !support::is_root() {
        return Ok(());
    }
    if std::env::var_os(INSIDE).is_none() {
        let mut again = Command::new("unshare");
        again.args(["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]);
        return Err(again.arg(std::env::current_exe()?).args(std::env::args_os().skip(1)).env(INSIDE, "1").exec());
    }
    // Engines keep sockets and network namespaces in there, at paths that no setting moves.
    let status = Command::new("mount").args(["-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run"]).status()?;
    if !status.success() {
        return Err(std::io::Error::other(format!("mount of /run: {status}")));
    }
    Ok(())
}

/// Runs the tests one after the other, and prints a summary in the form of cargo's, which `scripts/test` adds up.
pub fn run<'a>(tests: impl Iterator<Item = &'a (&'static str, fn() -> Verdict)>) -> ExitCode {
    let mut tally = Tally::default();
    tests.for_each(|(name, test)| tally.run(name, test));
    tally.end()
}

/// A directory with mica under the name of fuse-overlayfs.
pub struct Lab {
    /// Everything of the test lies in here.
    pub dir: TempDir,
    /// mica, called `fuse-overlayfs`.
    pub mica: PathBuf,
}

impl Lab {
    /// A new one; skips unless this is root and everything is there that the test needs.
    pub fn new(name: &str, programs: &[&str]) -> Try<Self> {
        if !support::is_root() {
            return skip("needs root");
        }
        if std::env::var_os(INSIDE).is_none() {
            return skip("no namespaces of its own here");
        }
        if let Err(e) = fs::File::open("/dev/fuse") {
            return skip(format!("/dev/fuse: {e}"));
        }
        for program in programs {
            if find(program).is_none() {
                return skip(format!("{program} is not installed"));
            }
        }
        let helper = support::bin::mount_helper().or_else(skip)?;
        let dir = TempDir::new(name);
        let mica = dir.dir("bin").join("fuse-overlayfs");
        // A copy and not a link: users in the rootless tests must be able to reach it.
        fs::copy(helper, &mica)?;
        Ok(Self { dir, mica })
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The servers of this lab that still run.
    pub fn servers(&self) -> Vec<u32> {
        let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = pids.filter_map(|e| e.file_name().to_str()?.parse().ok());
        pids.filter(|pid| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == self.mica)).collect()
    }

    /// Fails unless every server ends soon, because its mount is gone.
    pub fn no_servers(&self) -> Verdict {
        if wait_for(Duration::from_secs(10), || self.servers().is_empty()) {
            return Ok(());
        }
        let lines = self.servers().into_iter().map(|pid| fs::read_to_string(format!("/proc/{pid}/cmdline")));
        let lines: Vec<_> = lines.map(|line| line.unwrap_or_default().replace('\0', " ")).collect();
        Err(format!("servers are left behind: {lines:?}").into())
    }
}

/// A program by its name, where root looks for it.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    dirs.map(|dir| dir.join(program)).find(|path| path.exists())
}

/// A command that is ended when it takes too long.
pub fn limited(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("timeout");
    command.args(["-k", "5", "120"]).arg(program).stdin(Stdio::null());
    command
}

/// Runs a command, reading both pipes to their end.
pub fn output(command: &mut Command) -> Try<Output> {
    Ok(command.output().map_err(|e| format!("{command:?}: {e}"))?)
}

/// Runs a command that must succeed; what it printed.
pub fn ok(command: &mut Command) -> Try<String> {
    let out = output(command)?;
    if out.status.success() {
        return Ok(String::from_utf8_lossy(&out.stdout).into_owned());
    }
    let words = command.get_args().map(|word| word.to_string_lossy()).filter(|word| !word.contains('\n'));
    let words: Vec<_> = words.skip_while(|word| word.starts_with('-') || word.parse::<u32>().is_ok()).collect();
    let said = [&out.stdout[..], &out.stderr[..]].concat();
    let said = String::from_utf8_lossy(&said);
    let last: Vec<_> = said.lines().rev().take(12).collect();
    let last: Vec<_> = last.into_iter().rev().collect();
    Err(format!("{}: {}\n    {}", words.join(" "), out.status, last.join("\n    ")).into())
}

/// Runs a script of the shell in a directory.
pub fn sh(dir: &Path, script: &str) -> Try<String> {
    ok(limited("sh").args(["-exc", script]).current_dir(dir))
}

/// Fails unless `holds`.
pub fn check(what: &str, holds: bool) -> Verdict {
    if holds { Ok(()) } else { Err(format!("not so: {what}").into()) }
}

/// Fails unless both are equal.
pub fn check_eq<A: Debug + PartialEq<B>, B: Debug>(what: &str, is: A, should: B) -> Verdict {
    if is == should { Ok(()) } else { Err(format!("{what}: is {is:?}, should be {should:?}").into()) }
}

/// Fails unless two sorted lists hold the same lines.
pub fn same_lines(what: &str, is: &[String], should: &[String]) -> Verdict {
    let only = |a: &[String], b: &[String]| a.iter().filter(|line| !b.contains(line)).cloned().collect::<Vec<_>>();
    let (more, missing) = (only(is, should), only(should, is));
    check(&format!("{what}: too much {more:?}, missing {missing:?}"), is == should)
}

/// Fails unless two trees are equal. Modification times are compared unless both are from `since` or later: the test made them.
pub fn same(what: &str, is: &Snapshot, should: &Snapshot, since: SystemTime, but: &[Field]) -> Verdict {
    // Archives may hold whole seconds only.
    let since = since.duration_since(UNIX_EPOCH)?.as_secs_f64().floor();
    let mut ignored = but.to_vec();
    ignored.push(Field::Mtime);
    let mut lines = tree::diff_ignoring(is, should, &ignored);
    for (path, entry) in &is.entries {
        let Some(other) = should.get(path).and_then(|e| e.get(Field::Mtime)) else { continue };
        let own = entry.get(Field::Mtime).unwrap_or_default();
        let new = |text: &str| text.parse::<f64>().is_ok_and(|time| time >= since);
        if own != other && !(new(own) && new(other)) && !but.contains(&Field::Mtime) {
            lines.push(format!("{}: Mtime: {own} != {other}", path.escape_ascii()));
        }
    }
    if lines.is_empty() {
        return Ok(());
    }
    let first = lines.iter().take(20).cloned().collect::<Vec<_>>().join("\n    ");
    Err(format!("{what}: {} differences (is != should):\n    {first}", lines.len()).into())
}

/// A tree without the paths that `drop` names, and all below them.
pub fn without(mut tree: Snapshot, drop: &[&str]) -> Snapshot {
    let below = |path: &[u8], top: &str| {
        path == top.as_bytes() || path.strip_prefix(top.as_bytes()).is_some_and(|rest| rest.starts_with(b"/"))
    };
    tree.entries.retain(|path, _| !drop.iter().any(|top| below(path, top)));
    tree
}

/// The type in the mount table of what lies topmost at a path.
pub fn mount_type(point: &Path) -> Try<Option<String>> {
    let point = fs::canonicalize(point)?;
    let table = fs::read_to_string("/proc/self/mounts")?;
    let of = |line: &str| {
        let mut fields = line.split(' ').skip(1);
        (Path::new(fields.next()?) == point).then(|| fields.next().map(str::to_owned))?
    };
    Ok(table.lines().filter_map(of).next_back())
}

/// Fails unless a path shows a mount as tools expect one of fuse-overlayfs: type in the table, and of `statfs`.
pub fn is_fuse_overlayfs(point: &Path) -> Verdict {
    const FUSE_SUPER_MAGIC: i64 = 0x6573_5546;
    check_eq("the mount's type", mount_type(point)?.as_deref(), Some("fuse.fuse-overlayfs"))?;
    check_eq("statfs", rustix::fs::statfs(point)?.f_type as i64, FUSE_SUPER_MAGIC)
}
