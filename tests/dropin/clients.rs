//! podman and buildah with mica as `mount_program`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;
use std::time::SystemTime;

use crate::lab::Lab;
use crate::lab::Try;
use crate::lab::Verdict;
use crate::lab::check;
use crate::lab::check_eq;
use crate::lab::is_fuse_overlayfs;
use crate::lab::mount_type;
use crate::lab::same;
use crate::lab::same_lines;
use crate::lab::sh;
use crate::lab::skip;
use crate::lab::without;
use crate::store::Driver;
use crate::store::Store;
use crate::support;
use crate::support::Snapshot;
use crate::support::guard::wait_for;
use crate::support::tree::Field;

/// What a container changes.
pub const WORKLOAD: &str = include_str!("workload.sh");
/// The image it changes.
pub const CONTAINERFILE: &str = include_str!("Containerfile");

/// What a runtime or an engine writes itself, with contents of the moment.
pub const NOT_OURS: &[&str] = &["etc/hosts", "etc/resolv.conf", "etc/hostname", "run", "work.sh", "dev", "proc", "sys"];
/// Kernel overlay breaks lower hard links when one of the names is changed; mica does as a plain directory does.
pub const HARD_LINKS: &[&str] = &["data/hard1", "data/hard2", "data/hard3"];

/// Where the kernel breaks links, or its list of changes holds the other names of a file that got one more, which a comparison of trees
/// does not see.
pub const LINKS: &[Field] = &[Field::Nlink, Field::Links];

/// A fixture image's archive.
pub fn fixture(name: &str) -> Try<PathBuf> {
    match support::fixture(name) {
        Ok(found) => Ok(found.file("docker.tar")),
        Err(reason) => skip(format!("no fixture {name}: {reason}")),
    }
}

/// The image that the workload changes, as an archive in the laboratory; made once, by buildah on the kernel's overlay.
pub fn base_image(lab: &Lab) -> Try<PathBuf> {
    static MADE: OnceLock<Vec<u8>> = OnceLock::new();
    let archive = lab.path("base.tar");
    if let Some(bytes) = MADE.get() {
        fs::write(&archive, bytes)?;
    } else {
        make_base_image(lab, &archive)?;
        let _ = MADE.set(fs::read(&archive)?); // by this thread alone
    }
    fs::set_permissions(&archive, fs::Permissions::from_mode(0o644))?;
    Ok(archive)
}

fn make_base_image(lab: &Lab, archive: &Path) -> Verdict {
    let context = lab.dir.dir("context");
    fs::write(context.join("Containerfile"), CONTAINERFILE)?;
    let store = Store::named(lab, "maker", Driver::Kernel, false)?;
    store.load(&fixture("busybox")?)?;
    let context = context.display().to_string();
    store.buildah(&["bud", "-q", "--layers", "--network=host", "-t", "localhost/base:1", &context])?;
    store.podman(&["save", "-q", "-o", &archive.display().to_string(), "localhost/base:1"]).map(drop)
}

/// What came of the workload in one store.
pub struct Outcome {
    /// The container's tree.
    pub tree: Snapshot,
    /// What podman says has changed.
    pub diff: Vec<String>,
    /// The layer that the commit made.
    pub layer: Snapshot,
    /// The tree of the committed image.
    pub image: Snapshot,
    /// What the container printed.
    pub said: String,
}

/// Runs the workload in a container of `base:1` and commits it.
pub fn change(store: &Store<'_>, driver: Driver, base: &Path, attributes: bool) -> Try<Outcome> {
    store.load(base)?;
    let script = store.write("work.sh", WORKLOAD)?;
    let volume = format!("{}:/work.sh:ro", script.display());
    let said =
        store.podman(&["run", "--name", "w", "--network=none", "-v", &volume, "localhost/base:1", "sh", "/work.sh"])?;
    if attributes {
        let merged = PathBuf::from(store.podman(&["mount", "w"])?);
        if driver == Driver::Mica {
            is_fuse_overlayfs(&merged)?;
        }
        sh(
            &merged.join("data"),
            "setfattr -n user.mica -v one between ro.txt new.txt\n\
             setfattr -n security.capability -v 0x0100000200200000000000000000000000000000 big exe",
        )?;
        store.podman(&["umount", "w"])?;
        // The last one to let go takes it away: that may be the cleanup of the run, which podman does not wait for.
        let kind = || mount_type(&merged).unwrap_or_default();
        wait_for(Duration::from_secs(30), || kind().is_none());
        check_eq("the type after podman umount", kind(), None)?;
    }
    // Native diff of this podman fails on a file that became a directory.
    let diff = if driver == Driver::Kernel { Vec::new() } else { store.diff(&["diff", "w"])? };
    let tree = store.export("w")?;
    store.podman(&["commit", "-q", "w", "localhost/result:1"])?;
    let layer = store.top_layer("localhost/result:1")?;
    let image = store.export_image("localhost/result:1")?;
    store.podman(&["run", "--rm", "--network=none", "localhost/result:1", "sh", "-c", "test -e /data/new.txt"])?;
    if driver == Driver::Mica {
        let table = store.podman(&["run", "--rm", "--network=none", "localhost/result:1", "cat", "/proc/mounts"])?;
        let root = table.lines().find(|line| line.split(' ').nth(1) == Some("/")).unwrap_or_default();
        check_eq("the root's type in the container", root.split(' ').nth(2), Some("fuse.fuse-overlayfs"))?;
    }
    store.podman(&["rm", "-f", "w"])?;
    Ok(Outcome { tree, diff, layer, image, said })
}

/// Fails unless mica's outcome is the truth's, and the kernel's but for hard links.
pub fn judge(mica: Outcome, truth: Outcome, kernel: Option<Outcome>, since: SystemTime) -> Verdict {
    check_eq("what the workload said", mica.said.as_str(), "")?;
    check_eq("what it said on plain directories", truth.said.as_str(), "")?;
    same_lines("podman diff", &mica.diff, &truth.diff)?;
    same("the tree, to copies", &without(mica.tree.clone(), NOT_OURS), &without(truth.tree, NOT_OURS), since, &[])?;
    same("the layer, to copies", &without(mica.layer, NOT_OURS), &without(truth.layer, NOT_OURS), since, &[])?;
    same("the image, to copies", &without(mica.image.clone(), NOT_OURS), &without(truth.image, NOT_OURS), since, &[])?;
    let Some(kernel) = kernel else { return Ok(()) };
    let drop: Vec<_> = NOT_OURS.iter().chain(HARD_LINKS).copied().collect();
    same("the tree, to kernel overlay", &without(mica.tree, &drop), &without(kernel.tree, &drop), since, &[])?;
    // Without its own list of changes an engine notes no directory of which only the time changed.
    same(
        "the image, to kernel overlay",
        &without(mica.image, &drop),
        &without(kernel.image, &drop),
        since,
        &[Field::Mtime],
    )
}

const TOOLS: &[&str] = &["podman", "buildah", "runc", "conmon", "timeout", "tar", "setfattr"];

pub fn podman_rootful() -> Verdict {
    let lab = Lab::new("podman", TOOLS)?;
    let base = base_image(&lab)?;
    let since = SystemTime::now();
    let run = |driver| change(&Store::new(&lab, driver, false)?, driver, &base, true);
    let (kernel, truth, mica) = (run(Driver::Kernel)?, run(Driver::Copies)?, run(Driver::Mica)?);
    judge(mica, truth, Some(kernel), since)?;
    image_mount(&Store::new(&lab, Driver::Mica, false)?)?;
    lab.no_servers()
}

/// `podman image mount` shows what an export of the image shows.
fn image_mount(store: &Store<'_>) -> Verdict {
    let point = PathBuf::from(store.podman(&["image", "mount", "localhost/result:1"])?);
    is_fuse_overlayfs(&point)?;
    let mut mounted = Snapshot::of(&point)?;
    mounted.entries.remove(&b""[..]);
    let refused = fs::write(point.join("data/no"), "").err().and_then(|e| e.raw_os_error());
    check_eq("errno of a write to an image", refused, Some(30))?;
    store.podman(&["image", "umount", "localhost/result:1"])?;
    check("unmounted", mount_type(&point).unwrap_or_default().is_none())?;
    let exported = store.export_image("localhost/result:1")?;
    let (mounted, exported) = (without(mounted, NOT_OURS), without(exported, NOT_OURS));
    // An export has whole seconds, and counts the names that show, not those of a layer.
    let but = [Field::Mtime, Field::Nlink];
    same("podman image mount, to export", &mounted, &exported, SystemTime::now(), &but)
}

/// Builds one and the same file in a store; the trees of all that it made.
pub fn build(store: &Store<'_>, with: &str) -> Try<(Snapshot, Snapshot)> {
    store.load(&fixture("busybox")?)?;
    let context = store.path("ctx");
    sh(store.lab().dir.path(), &format!("mkdir -p {0} && chmod 755 {0}", context.display()))?;
    let more = "RUN echo one >/data/ro.txt && mv /data/mvdir /data/moved && rm -rf /data/full && mkdir /data/full\n\
                COPY copied /data/full/\nRUN chmod 700 /data/full && ln /data/hard1 /data/hard4 && rm /data/hard2\n\
                RUN chown -R 3:4 /data/deep && rm -rf /data/gone\n";
    fs::write(context.join("Containerfile"), format!("{CONTAINERFILE}{more}"))?;
    sh(&context, "mkdir -p copied && echo a >copied/a && touch -d '2002-03-04' copied/a && chmod -R a+rX .")?;
    let context = context.display().to_string();
    let args = ["-q", "--layers", "--isolation=chroot", "--network=host", "-t", "localhost/built:1", &context];
    match with {
        "podman" => store.podman(&[&["build"], &args[..]].concat())?,
        _ => store.buildah(&[&["bud"], &args[..]].concat())?,
    };
    Ok((store.export_image("localhost/built:1")?, store.top_layer("localhost/built:1")?))
}

fn builds(with: &'static str) -> Verdict {
    let lab = Lab::new(with, TOOLS)?;
    let since = SystemTime::now();
    let run = |driver| build(&Store::new(&lab, driver, false)?, with);
    let (kernel, truth, mica) = (run(Driver::Kernel)?, run(Driver::Copies)?, run(Driver::Mica)?);
    same("the image, to copies", &without(mica.0.clone(), NOT_OURS), &without(truth.0, NOT_OURS), since, &[])?;
    same("the layer, to copies", &without(mica.1, NOT_OURS), &without(truth.1, NOT_OURS), since, &[])?;
    same("the image, to kernel overlay", &without(mica.0, NOT_OURS), &without(kernel.0, NOT_OURS), since, LINKS)?;
    lab.no_servers()
}

pub fn podman_build() -> Verdict {
    builds("podman")
}

pub fn buildah_build() -> Verdict {
    builds("buildah")
}

/// `-v DIR:/in:O` is an overlay of its own, whose changes go when the command ends.
pub fn buildah_volume() -> Verdict {
    let lab = Lab::new("volume", TOOLS)?;
    let store = Store::new(&lab, Driver::Mica, false)?;
    store.load(&fixture("busybox")?)?;
    let source = lab.dir.dir("with:colon,comma");
    let plain = lab.dir.dir("plain");
    fs::write(plain.join("f"), "lower\n")?;
    fs::write(source.join("f"), "lower\n")?;
    let container = store.buildah(&["from", "localhost/busybox:1"])?;
    let volume = format!("{}:/in:O", plain.display());
    let said = store.buildah(&[
        "run",
        "--isolation=chroot",
        "-v",
        &volume,
        &container,
        "--",
        "sh",
        "-c",
        "echo more >>/in/f; cat /in/f; grep ' /in ' /proc/mounts | cut -d' ' -f3",
    ])?;
    check_eq("what the container saw", said.as_str(), "lower\nmore\nfuse.fuse-overlayfs")?;
    check_eq("the source", fs::read_to_string(plain.join("f"))?.as_str(), "lower\n")?;
    store.buildah(&["rm", &container])?;
    lab.no_servers()
}

/// A distribution's own tools: accounts, packages removed, big trees removed.
pub fn podman_debian() -> Verdict {
    let lab = Lab::new("debian", TOOLS)?;
    let image = fixture("debian")?;
    if !image.ends_with("debian.docker.tar") {
        return skip("the debian fixture is the busybox image here");
    }
    let since = SystemTime::now();
    let run = |driver| -> Try<Snapshot> {
        let store = Store::new(&lab, driver, false)?;
        store.load(&image)?;
        let work = "useradd -m someone && dpkg --purge --force-all mawk 2>/dev/null && rm -rf /usr/share/doc /var/cache/* && \
                    mkdir /usr/share/doc && cp -a /usr/share/zoneinfo /usr/share/doc/ 2>/dev/null || true; \
                    sed -i s/root/ROOT/ /etc/group; chmod -R g+w /opt; find /usr/lib -name '*.a' -delete; mv /usr/share/man /usr/share/men";
        store.podman(&["run", "--name", "w", "--network=none", "localhost/debian:1", "bash", "-c", work])?;
        let tree = store.export("w")?;
        store.podman(&["commit", "-q", "w", "localhost/result:1"])?;
        let image = store.export_image("localhost/result:1")?;
        // No engine notes it when only the time of a directory changes.
        let but = [Field::Mtime];
        same("the image, to its container", &without(image, NOT_OURS), &without(tree.clone(), NOT_OURS), since, &but)?;
        store.podman(&["rm", "-f", "w"])?;
        Ok(tree)
    };
    let (kernel, mica) = (run(Driver::Kernel)?, run(Driver::Mica)?);
    let moment: Vec<_> =
        NOT_OURS.iter().copied().chain(["var/log", "var/cache/ldconfig", "etc/shadow", "etc/shadow-"]).collect();
    same("the tree, to kernel overlay", &without(mica, &moment), &without(kernel, &moment), since, LINKS)?;
    lab.no_servers()
}
