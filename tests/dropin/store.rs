//! A store of containers for podman and buildah, with its own settings; nothing of the machine's is read or written.

use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use crate::lab;
use crate::lab::Lab;
use crate::lab::Try;
use crate::lab::USER;
use crate::lab::Verdict;
use crate::lab::ok;
use crate::support::Snapshot;

/// What makes the merged trees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// mica as `mount_program`.
    Mica,
    /// The kernel's overlay.
    Kernel,
    /// Plain copies of all layers: the truth.
    Copies,
}

/// A store.
pub struct Store<'a> {
    lab: &'a Lab,
    dir: PathBuf,
    driver: Driver,
    as_user: bool,
}

impl<'a> Store<'a> {
    /// The one of this driver in the laboratory, root's or the user's; made when it is not there yet.
    pub fn new(lab: &'a Lab, driver: Driver, as_user: bool) -> Try<Self> {
        Self::named(lab, &format!("{driver:?}").to_lowercase(), driver, as_user)
    }

    /// One in a directory of this name.
    pub fn named(lab: &'a Lab, name: &str, driver: Driver, as_user: bool) -> Try<Self> {
        let dir = lab.dir.dir(name);
        let shown = dir.display();
        let (name, more) = match driver {
            Driver::Mica => ("overlay", format!("mount_program = \"{}\"\n", lab.mica.display())),
            Driver::Kernel => ("overlay", String::new()),
            Driver::Copies => ("vfs", String::new()),
        };
        let storage = format!(
            "[storage]\ndriver = \"{name}\"\ngraphroot = \"{shown}/graph\"\nrunroot = \"{shown}/run\"\n\
             rootless_storage_path = \"{shown}/graph\"\n[storage.options.overlay]\n{more}"
        );
        // The limits are those that a container may raise here; crun does not take the machine's hybrid control groups.
        let containers = format!(
            "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n[engine]\nruntime = \"runc\"\n\
             cgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\ntmp_dir = \"{shown}/tmp\"\n"
        );
        for (name, text) in [
            ("storage.conf", storage.as_str()),
            ("containers.conf", containers.as_str()),
            ("registries.conf", ""),
            ("policy.json", r#"{"default":[{"type":"insecureAcceptAnything"}]}"#),
        ] {
            fs::write(dir.join(name), text)?;
        }
        for name in ["tmp", "home/.config/containers", "runtime"] {
            fs::create_dir_all(dir.join(name))?;
        }
        fs::copy(dir.join("policy.json"), dir.join("home/.config/containers/policy.json"))?;
        let store = Self { lab, dir, driver, as_user };
        if as_user {
            lab::sh(&store.dir, &format!("chown -R {USER}:{USER} . && chmod 700 runtime"))?;
        }
        Ok(store)
    }

    /// The laboratory it lies in.
    pub fn lab(&self) -> &Lab {
        self.lab
    }

    /// A path in the store's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A file in the store's directory that its user may read.
    pub fn write(&self, name: &str, text: &str) -> Try<PathBuf> {
        let path = self.path(name);
        fs::write(&path, text)?;
        chown(&path, Some(if self.as_user { USER } else { 0 }), None)?;
        Ok(path)
    }

    /// A command in this store, run by its user.
    pub fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = if self.as_user {
            let mut command = lab::limited("setpriv");
            let id = USER.to_string();
            command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--"]).arg(program);
            command
        } else {
            lab::limited(program)
        };
        command.args(args).current_dir(&self.dir);
        for (name, file) in [
            ("CONTAINERS_CONF", "containers.conf"),
            ("CONTAINERS_STORAGE_CONF", "storage.conf"),
            ("CONTAINERS_REGISTRIES_CONF", "registries.conf"),
            ("TMPDIR", "tmp"),
            ("HOME", "home"),
            ("XDG_RUNTIME_DIR", "runtime"),
        ] {
            command.env(name, self.dir.join(file));
        }
        command
            .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin")
            .env("BUILDAH_ISOLATION", "chroot");
        for name in ["XDG_CONFIG_HOME", "XDG_DATA_HOME", "DBUS_SESSION_BUS_ADDRESS", "CONTAINER_HOST"] {
            command.env_remove(name);
        }
        command
    }

    /// Runs podman.
    pub fn podman(&self, args: &[&str]) -> Try<String> {
        let text = ok(&mut self.command("podman", args)).map_err(|e| format!("{:?}: {e}", self.driver))?;
        Ok(text.trim_end().to_owned())
    }

    /// Runs buildah.
    pub fn buildah(&self, args: &[&str]) -> Try<String> {
        let text = ok(&mut self.command("buildah", args)).map_err(|e| format!("{:?}: {e}", self.driver))?;
        Ok(text.trim_end().to_owned())
    }

    /// Loads an archive of images.
    pub fn load(&self, archive: &Path) -> Verdict {
        self.podman(&["load", "-q", "-i", &archive.display().to_string()]).map(drop)
    }

    /// The tree of a container, as its export.
    pub fn export(&self, container: &str) -> Try<Snapshot> {
        let archive = self.path("export.tar");
        self.podman(&["export", "-o", &archive.display().to_string(), container])?;
        let tree = unpack(&self.path("exported"), &archive)?;
        fs::remove_file(archive)?;
        Ok(tree)
    }

    /// The tree of an image, through a container that never runs.
    pub fn export_image(&self, image: &str) -> Try<Snapshot> {
        let container = self.podman(&["create", image, "/bin/sh"])?;
        let tree = self.export(&container)?;
        self.podman(&["rm", &container])?;
        Ok(tree)
    }

    /// The files of an image's top layer as they lie in its archive, whiteouts included.
    pub fn top_layer(&self, image: &str) -> Try<Snapshot> {
        let dir = self.path("saved");
        self.podman(&["save", "-q", "--format", "oci-dir", "-o", &dir.display().to_string(), image])?;
        let blob = |digest: &str| dir.join("blobs/sha256").join(digest.trim_start_matches("sha256:"));
        let json = |path: &Path| -> Try<serde_json::Value> { Ok(serde_json::from_slice(&fs::read(path)?)?) };
        let digest = |v: &serde_json::Value| v["digest"].as_str().map(str::to_owned).ok_or("no digest");
        let index = json(&dir.join("index.json"))?;
        let manifest = json(&blob(&digest(&index["manifests"][0])?))?;
        let layer = manifest["layers"].as_array().and_then(|l| l.last()).ok_or("no layer")?;
        let tree = unpack(&self.path("layer"), &blob(&digest(layer)?))?;
        fs::remove_dir_all(dir)?;
        Ok(tree)
    }

    /// What podman says has changed, sorted.
    pub fn diff(&self, args: &[&str]) -> Try<Vec<String>> {
        let mut lines: Vec<_> = self.podman(args)?.lines().map(str::to_owned).collect();
        lines.sort();
        Ok(lines)
    }
}

/// Unpacks an archive as root into a fresh directory, reads the tree, and removes it.
pub fn unpack(dir: &Path, archive: &Path) -> Try<Snapshot> {
    fs::create_dir(dir)?;
    let mut tar = lab::limited("tar");
    tar.args(["--numeric-owner", "--same-owner", "-p", "--xattrs", "--xattrs-include=*", "--delay-directory-restore"]);
    ok(tar.args(["--warning=no-timestamp", "-C"]).arg(dir).arg("-xf").arg(archive))?;
    let mut tree = Snapshot::of(dir)?;
    // An archive need not say anything about its top.
    tree.entries.remove(&b""[..]);
    fs::remove_dir_all(dir)?;
    Ok(tree)
}
