//! Arguments, pipes and exit codes, as the callers of fuse-overlayfs use and know them.

use std::fs;
use std::io::Read;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

use crate::lab;
use crate::lab::Lab;
use crate::lab::Try;
use crate::lab::Verdict;
use crate::lab::check;
use crate::lab::check_eq;
use crate::lab::is_fuse_overlayfs;
use crate::lab::mount_type;
use crate::lab::output;
use crate::lab::sh;
use crate::support::guard::wait_for;

/// A laboratory with directories `l1`, `l2`, `u`, `w`, `m`.
pub fn stack(name: &str, programs: &[&str]) -> Try<Lab> {
    let lab = Lab::new(name, programs)?;
    sh(lab.dir.path(), "mkdir l1 l2 u w m; echo one >l1/f; echo two >l2/f; echo below >l2/g; chmod 755 .")?;
    Ok(lab)
}

/// mica under the other name, in the laboratory's directory.
pub fn call(lab: &Lab, args: &[&str]) -> Command {
    let mut command = lab::limited(&lab.mica);
    command.args(args).current_dir(lab.dir.path());
    command
}

/// Unmounts as containers/storage does, and waits until the server has ended.
pub fn unmount(lab: &Lab) -> Verdict {
    sh(lab.dir.path(), "fusermount3 -u m || umount -l m")?;
    lab.no_servers()
}

pub fn version_and_help() -> Verdict {
    let lab = Lab::new("version", &[])?;
    for option in ["--version", "-V"] {
        let text = lab::ok(&mut call(&lab, &[option]))?;
        check(&format!("{option}: {text:?}"), text.starts_with("fuse-overlayfs: version "))?;
    }
    check("help", lab::ok(&mut call(&lab, &["--help"]))?.contains("lowerdir"))
}

/// As containers/storage calls: stderr is a pipe that is read to its end; as `mount.fuse3` does: stdout, too.
pub fn pipes_end() -> Verdict {
    let lab = stack("pipes", &[])?;
    let mut command = call(&lab, &["-o", "lowerdir=l1:l2,upperdir=u,workdir=w", "m"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let (mut out, mut err) = (child.stdout.take().ok_or("stdout")?, child.stderr.take().ok_or("stderr")?);
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        err.read_to_string(&mut text).and_then(|_| out.read_to_string(&mut text)).map(|_| text)
    });
    check("both pipes end", wait_for(Duration::from_secs(30), || reader.is_finished()))?;
    check_eq("what was said", reader.join().map_err(|_| "panic")??.as_str(), "")?;
    check("exit code 0", child.wait()?.success())?;
    is_fuse_overlayfs(&lab.path("m"))?;
    check_eq("the file", fs::read_to_string(lab.path("m/f"))?.as_str(), "one\n")?;
    unmount(&lab)
}

pub fn odd_options() -> Verdict {
    let lab = stack("odd", &["fusermount3"])?;
    let odd = [
        r#"context="system_u:object_r:container_file_t:s0:c1,c2""#,
        r#"context="a,b:c""#,
        "private",
        "volatile",
        "noacl",
        "nodev,nosuid,noexec",
        "dev,suid",
        "timeout=0",
        "squash_to_root",
        "static_nlink,fsync=0,threaded=1,writeback=0,noxattrs=0",
        "metacopy=on,redirect_dir=off,index=off,xino=off",
        "x-systemd.automount,_netdev,nofail,user",
        "max_idle_threads=10,clone_fd=1,auto_unmount",
    ];
    for option in odd {
        let data = format!("lowerdir=l1:l2,upperdir=u,workdir=w,{option}");
        let out = output(&mut call(&lab, &["-o", &data, "m"]))?;
        check_eq(option, (out.status.code(), String::from_utf8_lossy(&out.stderr).as_ref()), (Some(0), ""))
            .or_else(|e| if option.contains("idle") { Ok(()) } else { Err(e) })?;
        fs::write(lab.path("m/new"), option)?;
        check_eq(option, fs::read_to_string(lab.path("m/g"))?.as_str(), "below\n")?;
        unmount(&lab)?;
        check_eq(option, fs::read_to_string(lab.path("u/new"))?.as_str(), option)?;
    }
    // Unknown ones are named, and the mount is made.
    let out = output(&mut call(&lab, &["--frob", "-o", "lowerdir=l1,upperdir=u,workdir=w,nosuch=1", "m"]))?;
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    check_eq("exit code", out.status.code(), Some(0))?;
    check(&format!("both named: {said}"), said.contains("nosuch=1") && said.contains("--frob"))?;
    unmount(&lab)?;
    // Colons, commas and backslashes in names.
    sh(lab.dir.path(), r"mkdir 'a:b' 'c,d' 'e\f'; echo 1 >'a:b/1'; echo 2 >'c,d/2'; echo 3 >'e\f/3'")?;
    lab::ok(&mut call(&lab, &["-o", r"lowerdir=a\:b:c\,d:e\\f,upperdir=u,workdir=w", "m"]))?;
    check("all three layers", ["1", "2", "3"].iter().all(|name| lab.path("m").join(name).exists()))?;
    unmount(&lab)
}

pub fn failures() -> Verdict {
    let lab = stack("failures", &[])?;
    sh(lab.dir.path(), "touch file")?;
    let cases: &[(&[&str], &str)] = &[
        (&[], "mount point"),
        (&["m"], "lowerdir"),
        (&["-o", "upperdir=u,workdir=w", "m"], "lowerdir"),
        (&["-o", "lowerdir=l1,upperdir=u", "m"], "workdir"),
        (&["-o", "lowerdir=none", "m"], "none"),
        (&["-o", "lowerdir=file", "m"], "file"),
        (&["-o", "lowerdir=l1,upperdir=none,workdir=w", "m"], "none"),
        (&["-o", "lowerdir=l1,upperdir=u,workdir=none", "m"], "none"),
        (&["-o", "lowerdir=l1", "none"], "none"),
        (&["-o", "lowerdir=l1", "file"], "directory"),
        (&["-o", "lowerdir=l1,uidmapping=1:2", "m"], "uidmapping"),
        (&["-o", "lowerdir=l1,redirect_dir=maybe", "m"], "redirect_dir"),
        (&["-o", "lowerdir=l1,timeout=x", "m"], "timeout"),
        (&["-o", "lowerdir=l1::l2,metacopy=on", "m"], "data-only"),
    ];
    for (args, word) in cases {
        let out = output(&mut call(&lab, args))?;
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        check_eq(&format!("{args:?}: {said}"), out.status.code(), Some(1))?;
        check(&format!("{args:?} names {word}: {said}"), said.contains(word))?;
        check("nothing is mounted", mount_type(&lab.path("m"))?.is_none())?;
    }
    lab.no_servers()
}

pub fn read_only() -> Verdict {
    let lab = stack("read-only", &["fusermount3"])?;
    lab::ok(&mut call(&lab, &["-o", "lowerdir=l1:l2", "m"]))?;
    let point = lab.path("m");
    is_fuse_overlayfs(&point)?;
    let errnos = [
        fs::write(point.join("new"), "").err(),
        fs::write(point.join("f"), "").err(),
        fs::remove_file(point.join("g")).err(),
        fs::create_dir(point.join("d")).err(),
        fs::rename(point.join("f"), point.join("h")).err(),
        fs::set_permissions(point.join("f"), fs::metadata(point.join("f"))?.permissions()).err(),
    ];
    for (i, errno) in errnos.iter().enumerate() {
        check_eq(&format!("operation {i}"), errno.as_ref().and_then(|e| e.raw_os_error()), Some(30))?;
    }
    check_eq("the file", fs::read_to_string(point.join("f"))?.as_str(), "one\n")?;
    unmount(&lab)
}

/// As containers/storage does for deep images: short links in `l`, relative to the directory it runs in.
pub fn many_layers() -> Verdict {
    for count in [128, 500] {
        let lab = Lab::new("many", &["fusermount3"])?;
        let home = lab.dir.path();
        sh(
            home,
            &format!(
                "mkdir l u w m; for i in $(seq {count}); do mkdir -p $i/diff/common; echo $i >$i/diff/f$i; echo $i >$i/diff/common/c$i; \
                 echo $i >$i/diff/same; ln -s ../$i/diff l/LINK$i; done"
            ),
        )?;
        let list: Vec<String> = (1..=count).map(|i| format!("l/LINK{i}")).collect();
        let data = format!("lowerdir={},upperdir=u,workdir=w", list.join(":"));
        lab::ok(&mut call(&lab, &["-o", &data, "m"]))?;
        let point = lab.path("m");
        check_eq("the top layer's", fs::read_to_string(point.join("same"))?.as_str(), "1\n")?;
        check_eq("names in the root", fs::read_dir(&point)?.count(), count + 2)?;
        check_eq("names merged", fs::read_dir(point.join("common"))?.count(), count)?;
        fs::remove_file(point.join(format!("common/c{count}")))?;
        fs::write(point.join(format!("f{count}")), "changed")?;
        fs::remove_dir_all(point.join("common"))?;
        fs::create_dir(point.join("common"))?;
        unmount(&lab)?;
        lab::ok(&mut call(&lab, &["-o", &data, "m"]))?;
        check_eq("names in the new directory", fs::read_dir(point.join("common"))?.count(), 0)?;
        check_eq("the changed file", fs::read_to_string(point.join(format!("f{count}")))?.as_str(), "changed")?;
        unmount(&lab)?;
    }
    Ok(())
}

fn with_mica_first(lab: &Lab, command: &mut Command) {
    let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", lab.path("bin").display());
    command.env("PATH", path).current_dir(lab.dir.path());
}

/// The shim of containerd's snapshotter has the kernel's mount type `fuse3.fuse-overlayfs`: `mount.fuse3` runs the program.
pub fn mount_fuse3() -> Verdict {
    let lab = stack("mount-fuse3", &["mount.fuse3", "fusermount3"])?;
    let at = |name: &str| lab.path(name).display().to_string();
    let helper = lab::find("mount.fuse3").unwrap_or_default();
    let options = [
        format!("workdir={}", at("w")),
        format!("upperdir={}", at("u")),
        format!("lowerdir={}:{}", at("l1"), at("l2")),
    ];
    let mut command = lab::limited(&helper);
    command.args(["overlay", &at("m")]);
    for option in &options {
        command.args(["-o", option]);
    }
    with_mica_first(&lab, command.args(["-t", "fuse-overlayfs"]));
    let out = output(&mut command)?;
    check_eq(
        "exit code and output",
        (out.status.code(), &out.stdout[..], &out.stderr[..]),
        (Some(0), &b""[..], &b""[..]),
    )?;
    is_fuse_overlayfs(&lab.path("m"))?;
    fs::write(lab.path("m/new"), "x")?;
    sh(lab.dir.path(), "umount m")?;
    lab.no_servers()?;
    check("written", lab.path("u/new").exists())?;
    // A view: only lower layers.
    let mut command = lab::limited(&helper);
    command.args(["overlay", &at("m"), "-o", &format!("lowerdir={}:{}", at("u"), at("l2"))]);
    with_mica_first(&lab, command.args(["-t", "fuse-overlayfs"]));
    lab::ok(&mut command)?;
    check_eq("the lower one", fs::read_to_string(lab.path("m/g"))?.as_str(), "below\n")?;
    check("read-only", fs::write(lab.path("m/new"), "").is_err())?;
    sh(lab.dir.path(), "umount m")?;
    lab.no_servers()
}

/// `mount -t fuse.fuse-overlayfs`, as a line of fstab has it.
pub fn fstab() -> Verdict {
    let lab = stack("fstab", &["mount.fuse", "mount"])?;
    let at = |name: &str| lab.path(name).display().to_string();
    let data = format!("lowerdir={}:{},upperdir={},workdir={},noauto,nofail", at("l1"), at("l2"), at("u"), at("w"));
    let mut command = lab::limited("mount");
    with_mica_first(&lab, command.args(["-t", "fuse.fuse-overlayfs", "source", &at("m"), "-o", &data]));
    lab::ok(&mut command)?;
    is_fuse_overlayfs(&lab.path("m"))?;
    fs::write(lab.path("m/new"), "x")?;
    sh(lab.dir.path(), "umount m")?;
    check("written", lab.path("u/new").exists())?;
    lab.no_servers()
}
