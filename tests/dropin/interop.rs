//! The same directories mounted by mica, the kernel's overlay and Debian's fuse-overlayfs, in turn: one tree for all.

use std::path::Path;
use std::time::SystemTime;

use crate::argv::call;
use crate::clients::WORKLOAD;
use crate::lab;
use crate::lab::Lab;
use crate::lab::Try;
use crate::lab::Verdict;
use crate::lab::check;
use crate::lab::same;
use crate::lab::sh;
use crate::lab::without;
use crate::support::Snapshot;
use crate::support::tree::Field;

/// The bottom layer that the workload changes, made in the shell's directory.
pub const LOWER: &str = "
mkdir data && cd data
mkdir -p full/sub gone/x mvdir/s modedir owndir dir2file deep/a/b/c deep/empty opq/old setg cycle/old between
for f in del.txt move.txt mode.txt own.txt hard1 trunc file2dir ro.txt exe dir2file/a full/a full/sub/b gone/x/y \
  mvdir/s/f deep/a/b/old deep/a/keep opq/old/x cycle/old/f; do echo $f >$f; done
ln hard1 hard2; ln -s del.txt sym; ln -s x sym2; ln -s y sym3; mkfifo pipe
dd if=/dev/zero of=big bs=64k count=20 2>/dev/null
chmod 0444 ro.txt; chmod 2755 setg; rm -r opq
find . -exec touch -h -d '2001-02-03 04:05:06.789' {} +
";

/// Who mounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Mica,
    Kernel,
    Peer,
}

const PEER: &str = "/usr/bin/fuse-overlayfs";

/// The workload in another directory than a container's.
pub fn workload_in(dir: &str) -> String {
    WORKLOAD.replace("cd /data", &format!("cd {dir}"))
}

fn lab(name: &str) -> Try<Lab> {
    let lab = Lab::new(name, &["fusermount3", "tar"])?;
    sh(lab.dir.path(), "mkdir l1 l2 u w m")?;
    sh(&lab.path("l2"), LOWER)?;
    sh(&lab.path("l1"), "mkdir data; echo top >data/top; touch -d 2001-01-01 data/top data")?;
    Ok(lab)
}

/// Mounts the layers, the upper and work directories on `m`, does something there, and unmounts.
fn with<T>(lab: &Lab, who: Who, act: impl FnOnce(&Path) -> Try<T>) -> Try<T> {
    let data = "lowerdir=l1:l2,upperdir=u,workdir=w";
    match who {
        Who::Mica => lab::ok(&mut call(lab, &["-o", data, "m"]))?,
        Who::Kernel => sh(lab.dir.path(), &format!("mount -t overlay -o {data},index=off,metacopy=off overlay m"))?,
        Who::Peer => sh(lab.dir.path(), &format!("{PEER} -o {data} m"))?,
    };
    let done = act(&lab.path("m"));
    sh(lab.dir.path(), "umount m")?;
    lab.no_servers()?;
    done
}

fn snapshot(point: &Path) -> Try<Snapshot> {
    Ok(Snapshot::of(point)?)
}

fn change(point: &Path) -> Try<Snapshot> {
    sh(point, &workload_in("data"))?;
    snapshot(point)
}

fn peers(who: Who) -> bool {
    who != Who::Peer || Path::new(PEER).exists()
}

pub fn mica_then_others() -> Verdict {
    let lab = lab("mica-first")?;
    let written = with(&lab, Who::Mica, change)?;
    for who in [Who::Mica, Who::Kernel, Who::Peer].into_iter().filter(|who| peers(*who)) {
        let read = with(&lab, who, snapshot)?;
        same(&format!("what {who:?} shows, to what mica wrote"), &read, &written, SystemTime::now(), &[])?;
    }
    Ok(())
}

pub fn others_then_mica() -> Verdict {
    for who in [Who::Kernel, Who::Peer].into_iter().filter(|who| peers(*who)) {
        let lab = lab("others-first")?;
        with(&lab, who, change)?;
        // As they show it after a remount: the peer itself shows more while mounted than it has written.
        let written = with(&lab, who, snapshot)?;
        let read = with(&lab, Who::Mica, snapshot)?;
        // The peer counts the names of a lower file that it never saw.
        let but: &[Field] = if who == Who::Peer { &[Field::Nlink, Field::Links] } else { &[] };
        same(&format!("what mica shows, to what {who:?} wrote"), &read, &written, SystemTime::now(), but)?;
    }
    Ok(())
}

/// One after the other each changes the same upper; a plain directory is told the same.
pub fn back_and_forth() -> Verdict {
    let lab = lab("turns")?;
    sh(lab.dir.path(), "mkdir plain && cp -a l2/. plain/ && cp -a l1/. plain/")?;
    let steps = [
        (
            Who::Mica,
            "rm data/del.txt; rm -rf data/full; mkdir data/full; echo 1 >data/full/1; mv data/move.txt data/moved",
        ),
        (
            Who::Kernel,
            "echo back >data/del.txt; rm -rf data/full; echo 2 >data/full; rm data/ro.txt; mkdir data/ro.txt",
        ),
        (
            Who::Mica,
            "rm data/full; mkdir data/full; rm -rf data/ro.txt data/deep/a; ln data/exe data/exe2; chmod 700 data",
        ),
        (
            Who::Peer,
            "echo 3 >data/ro.txt; mkdir -p data/deep/a/b; echo n >data/deep/a/b/new; rm data/moved; rm -rf data/gone",
        ),
        (Who::Mica, "rm -rf data/deep; mkdir data/gone; mv data/full data/empty; echo 4 >>data/exe2; rm data/sym"),
        (Who::Kernel, "mkdir data/full data/sym; echo 5 >data/gone/five; rm -rf data/setg; mv data/exe2 data/setg"),
        (Who::Mica, "rm -rf data/sym; ln -s a data/sym; rm data/setg; mkdir -p data/setg/x; chown 5:6 data/top"),
    ];
    let but = [Field::Mtime];
    // What the peer leaves in a directory that it made opaque (`.wh..opq`), the kernel lists and cannot look up.
    let mut readers = vec![Who::Mica, Who::Kernel];
    for (i, (who, script)) in steps.into_iter().enumerate().filter(|(_, (who, _))| peers(*who)) {
        sh(&lab.path("plain"), script)?;
        with(&lab, who, |point| sh(point, script))?;
        if who == Who::Peer {
            readers.retain(|reader| *reader != Who::Kernel);
        }
        let plain = snapshot(&lab.path("plain"))?;
        for reader in &readers {
            let read = with(&lab, *reader, snapshot)?;
            same(&format!("step {i} of {who:?}, read by {reader:?}"), &read, &plain, SystemTime::now(), &but)?;
        }
    }
    Ok(())
}

/// Whiteouts and opaque marks of the kernel, of containers/storage and docker, and of fuse-overlayfs, old and new, in one stack.
pub fn forms() -> Verdict {
    let lab = Lab::new("forms", &["setfattr", "fusermount3"])?;
    sh(lab.dir.path(), "mkdir l1 l2 l3 u w m plain")?;
    sh(
        &lab.path("l3"),
        "for f in char aufs xattr back pair kept; do echo below >$f; done
         for d in o-aufs o-old o-trusted o-user o-fuse o-beside o-not merged wdir; do mkdir -p $d/sub; echo below >$d/x; done",
    )?;
    sh(
        &lab.path("l2"),
        "mknod char c 0 0; : >.wh.aufs; mknod back c 0 0; : >.wh.wdir; : >.wh..wh.plnk; mknod new-whiteout c 0 0; : >.wh.nothing
         mkdir o-aufs o-old o-trusted o-user o-fuse o-beside o-not merged xattrs
         for d in o-*; do echo above >$d/y; done; echo above >merged/y
         : >o-aufs/.wh..wh..opq; : >o-old/.wh..opq; : >.wh.o-beside; : >merged/.wh.x
         setfattr -n trusted.overlay.opaque -v y o-trusted; setfattr -n user.overlay.opaque -v y o-user
         setfattr -n user.fuseoverlayfs.opaque -v y o-fuse; setfattr -n trusted.overlay.opaque -v n o-not
         : >xattr; setfattr -n trusted.overlay.whiteout -v '' xattr; setfattr -n trusted.overlay.opaque -v x .",
    )?;
    sh(&lab.path("l1"), "echo again >back; echo shows >pair; : >.wh.pair; mkdir wdir; echo w >wdir/w")?;
    sh(
        &lab.path("plain"),
        "echo again >back; echo shows >pair; mkdir wdir; echo w >wdir/w; echo below >kept
         mkdir o-aufs o-old o-trusted o-user o-fuse o-beside o-not merged xattrs
         for d in o-*; do echo above >$d/y; done; echo above >merged/y; mkdir o-not/sub merged/sub; echo below >o-not/x",
    )?;
    let plain = snapshot(&lab.path("plain"))?;
    let layers = "lowerdir=l1:l2:l3";
    for data in [layers.to_owned(), format!("{layers},upperdir=u,workdir=w")] {
        lab::ok(&mut call(&lab, &["-o", &data, "m"]))?;
        let read = snapshot(&lab.path("m"))?;
        sh(lab.dir.path(), "umount m")?;
        same(&data, &read, &plain, SystemTime::now(), &[Field::Mtime])?;
    }
    // And each of them on top, as the upper directory.
    for top in ["l2", "l1:l2"] {
        let (upper, rest) = top.split_once(':').unwrap_or((top, ""));
        let lowers = if rest.is_empty() { "l3".to_owned() } else { format!("{rest}:l3") };
        let data = format!("lowerdir={lowers},upperdir={upper},workdir=w");
        lab::ok(&mut call(&lab, &["-o", &data, "m"]))?;
        let read = snapshot(&lab.path("m"));
        if top == "l1:l2" {
            // What is deleted can be made again, and deleted again.
            for name in ["char", "aufs", "xattr", "wdir", "o-aufs", "o-beside", "merged", "pair"] {
                let script = format!(
                    "rm -rf {name}; ! test -e {name}; mkdir {name}; test -z \"$(ls {name})\"; rmdir {name}; echo f >{name}; rm {name}"
                );
                sh(&lab.path("m"), &script)?;
                sh(&lab.path("plain"), &script)?;
            }
        }
        sh(lab.dir.path(), "umount m")?;
        if top == "l1:l2" {
            same(&data, &read?, &plain, SystemTime::now(), &[Field::Mtime])?;
            lab::ok(&mut call(&lab, &["-o", &data, "m"]))?;
            let read = snapshot(&lab.path("m"))?;
            sh(lab.dir.path(), "umount m")?;
            same("after changes", &read, &snapshot(&lab.path("plain"))?, SystemTime::now(), &[Field::Mtime])?;
        } else {
            let read = without(read?, &["back", "pair", "wdir"]);
            let plain = without(plain.clone(), &["back", "pair", "wdir"]);
            let pair = snapshot(&lab.path("l3"))?;
            check("a pair was below", pair.get("pair").is_some())?;
            same(&data, &read, &plain, SystemTime::now(), &[Field::Mtime])?;
        }
    }
    lab.no_servers()
}
