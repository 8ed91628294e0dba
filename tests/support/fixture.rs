//! Finds, or has `scripts/fixtures` make, the images that tests load.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;

use super::bin;

/// One fixture image: its archives and the tree they must show.
#[derive(Debug, Clone)]
pub struct Fixture {
    stem: PathBuf,
}

impl Fixture {
    /// The name in the store after loading, e.g. `localhost/debian:1`.
    pub fn image(&self) -> String {
        format!("localhost/{}:1", self.stem.file_name().unwrap_or_default().display())
    }

    /// One of its files by ending: `docker.tar` (podman's), `docker-old.tar`, `docker25.tar`, `docker.tar.gz`, `oci.tar`,
    /// `oci-zstd.tar`, `oci.tar.gz`, `rootfs.tar`.
    pub fn file(&self, ending: &str) -> PathBuf {
        let mut name = self.stem.clone().into_os_string();
        name.push(".");
        name.push(ending);
        name.into()
    }

    /// Unpacks the truth, made by other tools than mica, into the empty directory `dir`. Needs root.
    ///
    /// # Panics
    /// When tar fails.
    pub fn unpack(&self, dir: &Path) {
        let mut tar = Command::new("tar");
        tar.args(["--numeric-owner", "--same-owner", "-p", "--xattrs", "--xattrs-include=*"]);
        tar.args(["--delay-directory-restore", "--warning=no-timestamp", "-C"]);
        bin::run_ok(tar.arg(dir).arg("-xf").arg(self.file("rootfs.tar")));
    }
}

/// The folder of finished fixtures: `MICA_FIXTURES`, else `tests/fixtures/cache`.
pub fn folder() -> PathBuf {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/cache");
    std::env::var_os("MICA_FIXTURES").map_or_else(default, PathBuf::from)
}

/// A fixture by name, made when it is not there yet (which needs root and may take minutes).
///
/// # Errors
/// Why there is none, as text for a skip. Where Debian's mirror cannot be reached, `debian` is busybox, no error.
pub fn fixture(name: &str) -> Result<Fixture, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/fixtures");
    if !super::is_root() {
        // Only root can make one, but everybody can read a finished one.
        let stem = folder().join(name);
        let finished = stem.with_extension("ok").exists();
        return if finished { Ok(Fixture { stem }) } else { Err("not made yet, and only root can".to_owned()) };
    }
    let out = Command::new(&script).arg(name).stdin(Stdio::null()).output();
    let out = out.map_err(|e| format!("{}: {e}", script.display()))?;
    let stdout = String::from_utf8_lossy(&out.stdout);
    match stdout.lines().last() {
        Some(stem) if out.status.success() => Ok(Fixture { stem: PathBuf::from(stem) }),
        _ => Err(String::from_utf8_lossy(&out.stderr).trim_end().to_owned()),
    }
}
