//! Without root: in a user namespace, through fusermount3, and the rootless clients.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::OnceLock;
use std::time::Duration;
use std::time::SystemTime;

use crate::clients;
use crate::clients::NOT_OURS;
use crate::interop::LOWER;
use crate::interop::workload_in;
use crate::lab;
use crate::lab::Lab;
use crate::lab::Try;
use crate::lab::USER;
use crate::lab::Verdict;
use crate::lab::check;
use crate::lab::check_eq;
use crate::lab::mount_type;
use crate::lab::same;
use crate::lab::sh;
use crate::lab::skip;
use crate::lab::without;
use crate::store::Driver;
use crate::store::Store;
use crate::store::unpack;
use crate::support::Daemon;
use crate::support::guard::wait_for;

const TOOLS: &[&str] = &["podman", "runc", "conmon", "newuidmap", "newgidmap", "setpriv", "timeout", "tar"];

/// Makes the user with subordinate ids, and a `/dev/fuse` for everybody, in this mount namespace alone.
fn make_user(lab: &Lab) -> Verdict {
    static DONE: OnceLock<Result<(), String>> = OnceLock::new();
    let make = || {
        let script = format!(
            "cp /etc/passwd passwd; cp /etc/group group
             echo 'micatest:x:{USER}:{USER}::/nonexistent:/bin/sh' >>passwd; echo 'micatest:x:{USER}:' >>group
             echo 'micatest:1000000:3100000' >subuid; cp subuid subgid; mknod -m 666 fuse c 10 229
             touch /etc/subuid /etc/subgid
             for f in passwd group subuid subgid; do mount --bind $f /etc/$f; done; mount --bind fuse /dev/fuse
             rm passwd group subuid subgid fuse"
        );
        sh(lab.dir.path(), &script).map(drop).map_err(|e| e.to_string())
    };
    DONE.get_or_init(make).clone().map_err(Into::into)
}

fn lab(name: &str, programs: &[&str]) -> Try<Lab> {
    let lab = Lab::new(name, programs)?;
    make_user(&lab)?;
    fs::set_permissions(lab.dir.path(), fs::Permissions::from_mode(0o755))?;
    Ok(lab)
}

/// Runs a script as the user; `root` of a user namespace, with a mount namespace, if asked for.
fn as_user(lab: &Lab, namespace: bool, script: &str) -> Try<String> {
    let mut command = lab::limited("setpriv");
    let id = USER.to_string();
    command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--"]);
    if namespace {
        command.args(["unshare", "--user", "--map-root-user", "--map-auto", "--mount", "--"]);
    }
    command.args(["sh", "-exc", script]).current_dir(lab.path("user")).env("TMPDIR", lab.path("user"));
    lab::ok(&mut command)
}

/// The user's own directory with layers, and a plain copy of them.
fn layers(name: &str) -> Try<Lab> {
    let lab = lab(name, &["newuidmap", "setpriv", "unshare", "tar"])?;
    if !fs::read_to_string("/proc/sys/user/max_user_namespaces").is_ok_and(|n| n.trim() != "0") {
        return skip("no user namespaces here");
    }
    sh(lab.dir.path(), &format!("mkdir user; chown {USER}:{USER} user; cp bin/fuse-overlayfs user/; chmod 755 bin"))?;
    as_user(
        &lab,
        true,
        &format!(
            "mkdir l1 l2 u w m k plain; (cd l2; {LOWER}); mkdir l1/data; echo t >l1/data/top; cp -a l2/. plain; cp -a l1/. plain"
        ),
    )?;
    Ok(lab)
}

/// tar ends with 1 where a change time moves while it reads: the kernel's overlay lets it, mica must not.
const SAVE: &str = "save() { (cd $1; tar --xattrs --sort=name -cf - .) >$2; }\n";
const DATA: &str = "lowerdir=l1:l2,upperdir=u,workdir=w";

pub fn user_namespace() -> Verdict {
    let lab = layers("userns")?;
    let since = SystemTime::now();
    let mica = lab.mica.display();
    let script = format!(
        "{SAVE}
         (cd plain; {work}); save plain plain.tar
         {mica} -o {DATA} m; grep -q ' fuse.fuse-overlayfs ' /proc/mounts
         (cd m; {work}); save m mounted.tar
         setfattr -n trusted.x -v 1 m/data/exe 2>/dev/null && exit 9
         umount m; {mica} -o {DATA} m; save m again.tar; umount m
         {mica} -o lowerdir=u:l1:l2 m; save m below.tar; umount m
         mount -t overlay -o userxattr,{DATA} overlay m; save m kernel.tar || test $? = 1; umount m
         test ! -x /usr/bin/fuse-overlayfs || {{ /usr/bin/fuse-overlayfs -o {DATA} m; save m peer.tar; umount m; }}",
        work = workload_in("data"),
    );
    as_user(&lab, true, &script)?;
    let tree = |name: &str| unpack(&lab.path("unpacked"), &lab.path("user").join(name));
    let plain = tree("plain.tar")?;
    for name in ["mounted.tar", "again.tar", "below.tar", "kernel.tar", "peer.tar"] {
        if lab.path("user").join(name).exists() {
            same(name, &tree(name)?, &plain, since, &[])?;
        }
    }
    let whiteouts = sh(&lab.path("user"), "find u -name '.wh.*' | wc -l; find u -type c | wc -l")?;
    // Kernels from 5.8 on let everybody make the whiteout device; before, it is files.
    check(&format!("one form only: {whiteouts:?}"), whiteouts.lines().filter(|n| *n == "0").count() == 1)?;
    lab.no_servers()
}

/// What the kernel writes with `userxattr`, mica and a stack on top of it read; and an upper that can hold no devices.
pub fn kernel_userxattr() -> Verdict {
    let lab = layers("userxattr")?;
    let since = SystemTime::now();
    let mica = lab.mica.display();
    let work = workload_in("data");
    let script = format!(
        "{SAVE}
         (cd plain; {work}); save plain plain.tar
         mount -t overlay -o userxattr,{DATA} overlay m; (cd m; {work}) >/dev/null; save m kernel.tar || test $? = 1; umount m
         {mica} -o {DATA} m; save m mica.tar; umount m
         {mica} -o lowerdir=u:l1:l2 m; save m below.tar; umount m
         mkdir kl ku kw; mount -t overlay -o userxattr,lowerdir=kl,upperdir=ku,workdir=kw overlay k; mkdir k/u k/w
         D=lowerdir=l1:l2,upperdir=k/u,workdir=k/w
         {mica} -o $D m; (cd m; {work}); umount m; {mica} -o $D m; save m nodev.tar; umount m
         find k/u -type c | wc -l; find k/u -name '.wh.*' | wc -l
         {mica} -o lowerdir=k/u:l1:l2 m; save m nodev-below.tar; umount m
         test ! -x /usr/bin/fuse-overlayfs || {{ /usr/bin/fuse-overlayfs -o $D m; save m peer.tar; umount m; }}
         umount k",
    );
    let counts = as_user(&lab, true, &script)?;
    check(&format!("no devices, but files: {counts:?}"), counts.starts_with("0\n") && !counts.ends_with("\n0\n"))?;
    let tree = |name: &str| unpack(&lab.path("unpacked"), &lab.path("user").join(name));
    let (plain, kernel) = (tree("plain.tar")?, tree("kernel.tar")?);
    same("mica, to the kernel", &tree("mica.tar")?, &kernel, since, &[])?;
    same("mica below, to the kernel", &tree("below.tar")?, &kernel, since, &[])?;
    same("an upper without devices", &tree("nodev.tar")?, &plain, since, &[])?;
    same("the same as a layer", &tree("nodev-below.tar")?, &plain, since, &[])?;
    if lab.path("user/peer.tar").exists() {
        same("an upper without devices, to the peer", &tree("peer.tar")?, &plain, since, &[])?;
    }
    lab.no_servers()
}

/// As apptainer does: no namespace, in the foreground, through the setuid program.
pub fn fusermount() -> Verdict {
    let lab = layers("fusermount")?;
    if lab::find("fusermount3").is_none_or(|p| fs::metadata(p).is_ok_and(|m| m.permissions().mode() & 0o4000 == 0)) {
        return skip("no setuid fusermount3 here");
    }
    sh(&lab.path("user"), &format!("chown -R {USER}:{USER} ."))?;
    let id = USER.to_string();
    let mut command = std::process::Command::new("setpriv");
    command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--"]).arg(&lab.mica);
    command.args(["-f", "-o", &format!("{DATA},noacl"), "m"]).current_dir(lab.path("user"));
    let mut server = Daemon::spawn(command.stdin(std::process::Stdio::null()));
    let point = lab.path("user/m");
    // Only the user may look into it; the table is open to all.
    let table = || fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let shown = format!(" {} fuse.fuse-overlayfs ", point.display());
    check("it is mounted", wait_for(Duration::from_secs(20), || table().contains(&shown)))?;
    let since = SystemTime::now();
    let work: String =
        workload_in("data").lines().filter(|l| !l.starts_with("chown")).map(|l| format!("{l}\n")).collect();
    as_user(
        &lab,
        false,
        &format!("{SAVE} (cd plain; {work}); save plain plain.tar; (cd m; {work}); save m m.tar; fusermount3 -u m"),
    )?;
    let code = server.child().wait()?.code();
    check_eq("exit code of the server", code, Some(0))?;
    check("unmounted", mount_type(&point)?.is_none())?;
    let tree = |name: &str| unpack(&lab.path("unpacked"), &lab.path("user").join(name));
    same("the tree", &tree("m.tar")?, &tree("plain.tar")?, since, &[])?;
    lab.no_servers()
}

pub fn podman() -> Verdict {
    let lab = lab("rootless", TOOLS)?;
    let base = clients::base_image(&lab)?;
    let since = SystemTime::now();
    let run = |driver| clients::change(&Store::new(&lab, driver, true)?, driver, &base, false);
    let (truth, mica) = (run(Driver::Copies)?, run(Driver::Mica)?);
    clients::judge(mica, truth, None, since)?;
    lab.no_servers()
}

pub fn build() -> Verdict {
    let lab = lab("rootless-build", TOOLS)?;
    let since = SystemTime::now();
    let run = |driver| clients::build(&Store::new(&lab, driver, true)?, "podman");
    let (kernel, mica) = (run(Driver::Kernel)?, run(Driver::Mica)?);
    same(
        "the image, to kernel overlay",
        &without(mica.0, NOT_OURS),
        &without(kernel.0, NOT_OURS),
        since,
        clients::LINKS,
    )?;
    lab.no_servers()
}
