//! What is measured: ways to show a stack of directories as one, and how each is mounted.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use rustix::mount::UnmountFlags;

use crate::Result;

/// How a subject is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Not at all: a copy of the layers on a plain directory, or the one layer there is.
    Plain,
    /// The kernel's overlayfs.
    Kernel,
    /// unionfs-fuse.
    Unionfs,
    /// A program that takes fuse-overlayfs's options; mica's helper does.
    Overlay,
}

/// One thing that is measured.
#[derive(Debug, Clone)]
pub struct Subject {
    /// Its name in the results.
    pub name: String,
    /// How it is mounted.
    pub kind: Kind,
    program: String,
    options: String,
}

impl Subject {
    /// Reads `NAME=PROGRAM[,OPTION...]`.
    pub fn parse(text: &str) -> Result<Self> {
        let (name, rest) = text.split_once('=').unwrap_or((text, ""));
        let (program, options) = rest.split_once(',').unwrap_or((rest, ""));
        let kind = match name {
            "plain" => Kind::Plain,
            "overlayfs" => Kind::Kernel,
            "unionfs-fuse" => Kind::Unionfs,
            _ => Kind::Overlay,
        };
        let options = if options.is_empty() { String::new() } else { format!(",{options}") };
        Ok(Self { name: name.to_owned(), kind, program: program.to_owned(), options })
    }

    /// Mounts `lowers` (top first, relative to `base`: hundreds of long names do not fit in a mount option) with an upper of its own
    /// in `place`, which must be empty.
    pub fn mount(&self, base: &Path, lowers: &[PathBuf], place: &Path) -> Result<Mounted> {
        let [top, upper, work] = ["m", "u", "w"].map(|name| place.join(name));
        for dir in [&top, &upper, &work] {
            fs::create_dir_all(dir)?;
        }
        let names: Vec<_> = lowers.iter().map(|l| l.display().to_string()).collect();
        let options = format!(
            "lowerdir={},upperdir={},workdir={}{}",
            names.join(":"),
            upper.display(),
            work.display(),
            self.options
        );
        let mut command = match self.kind {
            Kind::Plain => {
                let top = if lowers.len() == 1 { base.join(&lowers[0]) } else { merged_copy(base, lowers, &top)? };
                return Ok(Mounted { top, server: None });
            }
            Kind::Kernel => {
                let mut command = Command::new("mount");
                command.args(["-t", "overlay", "overlay", "-o", &options]).arg(&top);
                command
            }
            Kind::Unionfs => {
                let branches: Vec<_> = lowers.iter().map(|l| format!("{}=RO", base.join(l).display())).collect();
                let mut command = Command::new(&self.program);
                command.args(["-f", "-o", "cow,use_ino"]);
                command.arg(format!("{}=RW:{}", upper.display(), branches.join(":"))).arg(&top);
                command
            }
            Kind::Overlay => {
                let mut command = Command::new(&self.program);
                command.args(["-f", "-o", &options]).arg(&top);
                command
            }
        };
        command.current_dir(base).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let outside = fs::metadata(place)?.dev();
        let mut child = command.spawn().map_err(|e| format!("{}: {e}", self.program))?;
        let start = Instant::now();
        while fs::metadata(&top).map_or(true, |m| m.dev() == outside) {
            if let Some(status) = child.try_wait()?.filter(|s| !s.success()) {
                return Err(format!("{}: {status}", self.name).into());
            }
            if start.elapsed() > Duration::from_secs(20) {
                child.kill()?;
                return Err(format!("{}: no mount after 20 s", self.name).into());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let server = (self.kind != Kind::Kernel).then_some(child);
        Ok(Mounted { top, server })
    }
}

/// The layers as one plain directory.
fn merged_copy(base: &Path, lowers: &[PathBuf], top: &Path) -> Result<PathBuf> {
    for lower in lowers.iter().rev() {
        let from = base.join(lower).join(".");
        let status = Command::new("cp").arg("-a").args([&from, top]).status()?;
        if !status.success() {
            return Err(format!("cp: {status}").into());
        }
    }
    Ok(top.to_owned())
}

/// A mount; it ends when this is dropped.
#[derive(Debug)]
pub struct Mounted {
    /// Where it shows.
    pub top: PathBuf,
    server: Option<Child>,
}

impl Mounted {
    /// Memory of the serving process in bytes that belongs to it alone; `None` where there is none.
    pub fn memory(&self) -> Option<u64> {
        let pid = self.server.as_ref()?.id();
        let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = text.lines().find_map(|l| l.strip_prefix("RssAnon:"))?;
        Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? << 10)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let start = Instant::now();
        while rustix::mount::unmount(&self.top, UnmountFlags::NOFOLLOW) == Err(rustix::io::Errno::BUSY) {
            if start.elapsed() > Duration::from_secs(10) {
                let _ = rustix::mount::unmount(&self.top, UnmountFlags::DETACH);
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        if let Some(server) = &mut self.server {
            let start = Instant::now();
            while matches!(server.try_wait(), Ok(None)) {
                if start.elapsed() > Duration::from_secs(20) {
                    let _ = server.kill();
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}
