//! Root directories made to harm the host.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::symlink;
use std::process::Command;

use super::Case;
use super::fixture::Rootfs;
use super::fixture::check;
use super::fixture::ends_with;
use super::fixture::same;

pub const ALL: &[Case] = &[
    ("/etc/passwd as a FIFO does not hang", passwd_fifo),
    ("/etc/passwd as a symlink to the host stays inside", passwd_link),
    ("/proc, /sys or /dev as a symlink is refused", special_links),
    ("/etc/resolv.conf as a symlink leaves the host alone", resolv_link),
    ("/etc/hosts as FIFO, /etc/hostname as directory", odd_etc),
    ("/etc as a symlink out of the root", etc_link),
    ("a working directory cannot leave the root", workdir_escapes),
    ("a bind target cannot leave the root", bind_escapes),
    ("the host's binary cannot be reached", own_binary),
    ("a device in the root cannot be opened", device_in_root),
    ("what is mounted below a bind has its limits", below_a_bind),
];

type Outcome = Result<(), String>;

fn fifo(path: &std::path::Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

fn passwd_fifo() -> Outcome {
    let root = Rootfs::new();
    let path = root.dir.join("etc/passwd");
    fs::remove_file(&path).unwrap();
    fifo(&path);
    same(root.sh(&[], "echo $HOME")?.as_str(), "/\n")?;
    ends_with(&root.run(&["-u", "ann"], &["true"]), 125, "unable to find user ann")
}

fn passwd_link() -> Outcome {
    let (root, host) = (Rootfs::new(), Rootfs::new());
    fs::write(host.dir.join("etc/passwd"), "evil:x:5:5::/evil:/bin/sh\n").unwrap();
    let path = root.dir.join("etc/passwd");
    for target in [host.dir.join("etc/passwd"), format!("../../../../..{}/etc/passwd", host.dir.display()).into()] {
        fs::remove_file(&path).unwrap();
        symlink(&target, &path).unwrap();
        ends_with(&root.run(&["-u", "evil"], &["true"]), 125, "unable to find user evil")?;
    }
    Ok(())
}

fn special_links() -> Outcome {
    for name in ["proc", "sys", "dev"] {
        let (root, host) = (Rootfs::new(), Rootfs::new());
        symlink(&host.dir, root.dir.join(name)).unwrap();
        ends_with(&root.run(&[], &["true"]), 125, &format!("refused: /{name}"))?;
        fs::remove_file(root.dir.join(name)).unwrap();
        fs::write(root.dir.join(name), "").unwrap();
        ends_with(&root.run(&[], &["true"]), 125, &format!("refused: /{name}"))?;
    }
    Ok(())
}

fn resolv_link() -> Outcome {
    let (root, host) = (Rootfs::new(), Rootfs::new());
    let victim = host.dir.join("victim");
    fs::write(&victim, "mine").unwrap();
    symlink(&victim, root.dir.join("etc/resolv.conf")).unwrap();
    root.sh(&[], "echo stolen > /etc/resolv.conf")?;
    same(fs::read_to_string(&victim).unwrap().as_str(), "mine")?;
    check(root.dir.join(victim.strip_prefix("/").unwrap()).exists(), "the target was not made inside the root")
}

fn odd_etc() -> Outcome {
    let root = Rootfs::new();
    fifo(&root.dir.join("etc/hosts"));
    check(root.sh(&[], "cat /etc/hosts")?.contains("localhost"), "the FIFO was not covered")?;
    fs::remove_file(root.dir.join("etc/hostname")).unwrap();
    fs::create_dir(root.dir.join("etc/hostname")).unwrap();
    ends_with(&root.run(&[], &["true"]), 125, "a file is needed, found a directory")
}

fn etc_link() -> Outcome {
    let (root, host) = (Rootfs::new(), Rootfs::new());
    fs::remove_dir_all(root.dir.join("etc")).unwrap();
    symlink(host.dir.join("etc"), root.dir.join("etc")).unwrap();
    let before = fs::read_dir(host.dir.join("etc")).unwrap().count();
    root.sh(&[], "cat /etc/hostname")?;
    same(fs::read_dir(host.dir.join("etc")).unwrap().count(), before)
}

fn workdir_escapes() -> Outcome {
    let root = Rootfs::new();
    let host = fs::metadata("/").unwrap();
    symlink("../../../../../../..", root.dir.join("up")).unwrap();
    symlink("/proc/self/cwd", root.dir.join("cwd")).unwrap();
    for dir in ["/up", "/up/..", "/..", "/proc/self/cwd", "/proc/self/fd/3", "/proc/self/fd/7", "/proc/1/root", "/cwd"]
    {
        let out = root.run(&["-w", dir], &["/bin/stat", "-c", "%d:%i", "."]);
        let seen = String::from_utf8_lossy(&out.stdout).trim().to_owned();
        check(seen != format!("{}:{}", host.dev(), host.ino()), format!("{dir} is the host's root"))?;
        let out = root.run(&["-w", dir], &["/bin/sh", "-c", "pwd"]);
        let path = String::from_utf8_lossy(&out.stdout).into_owned();
        check(!path.contains("unreachable"), format!("{dir} is {path}"))?;
    }
    same(root.sh(&["-w", "/up"], "pwd; test -e bin/busybox && echo here")?.as_str(), "/\nhere\n")
}

fn bind_escapes() -> Outcome {
    let (root, host) = (Rootfs::new(), Rootfs::new());
    symlink(host.dir.join("home"), root.dir.join("out")).unwrap();
    let source = format!("{}:/out/made", host.dir.join("etc").display());
    same(root.sh(&["-v", &source], "cat /out/made/group | wc -l")?.as_str(), "3\n")?;
    check(!host.dir.join("home/made").exists(), "the host's directory was changed")
}

/// CVE-2019-5736: the kernel executes `/proc/self/exe` as a script's interpreter.
fn own_binary() -> Outcome {
    use std::os::unix::fs::PermissionsExt;
    let root = Rootfs::new();
    let script = root.dir.join("bin/script");
    fs::write(&script, "#!/proc/self/exe\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    symlink("/proc/self/exe", root.dir.join("bin/link")).unwrap();
    copy_own_libraries(&root);
    for command in ["script", "link", "/proc/self/exe"] {
        let out = root.run(&[], &[command, "runner"]);
        check(out.stdout.is_empty(), format!("{command}: the host's binary has run: {out:?}"))?;
        check(!out.status.success(), format!("{command}: {out:?}"))?;
    }
    let exe = root.sh(&[], "readlink /proc/1/exe")?;
    same(exe.as_str(), "/bin/busybox\n")
}

/// Gives the root what this test's own binary needs to run: if the kernel executes it inside, it will speak.
fn copy_own_libraries(root: &Rootfs) {
    let out = Command::new("ldd").arg(std::env::current_exe().unwrap()).output().unwrap();
    for library in String::from_utf8_lossy(&out.stdout).split_whitespace().filter(|word| word.starts_with('/')) {
        let inside = root.dir.join(library.trim_start_matches('/'));
        fs::create_dir_all(inside.parent().unwrap()).unwrap();
        fs::copy(library, inside).unwrap();
    }
}

fn device_in_root() -> Outcome {
    let root = Rootfs::new();
    assert!(Command::new("mknod").arg(root.dir.join("zero")).args(["c", "1", "5"]).status().unwrap().success());
    same(root.sh(&[], "head -c 1 /zero 2>/dev/null | wc -c")?.as_str(), "0\n")
}

/// A tmpfs that goes with the test.
struct Mounted(std::path::PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        // The test may have failed for another reason already.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn below_a_bind() -> Outcome {
    let (root, other) = (Rootfs::new(), Rootfs::new());
    let below = other.dir.join("home/below");
    fs::create_dir(&below).unwrap();
    assert!(Command::new("mount").args(["-t", "tmpfs", "-o", "dev", "tmpfs"]).arg(&below).status().unwrap().success());
    let _below = Mounted(below);
    let bind = format!("{}:/mnt/new", other.dir.join("home").display());
    let options = root.sh(&["-v", &bind], "grep ' /mnt/new' /proc/self/mountinfo | cut -d' ' -f6")?;
    check(options.lines().count() == 2 && options.lines().all(|line| line.contains("nodev")), &options)?;
    // Not the host's disks by way of another mount's device nodes.
    same(
        root.sh(&["-v", &bind], "cd /mnt/new/below; mknod null c 1 3; cat null 2>/dev/null || echo no")?.as_str(),
        "no\n",
    )
}
