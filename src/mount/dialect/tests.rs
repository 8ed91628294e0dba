use std::path::PathBuf;

use super::*;

fn argv(words: &str) -> Vec<OsString> {
    words.split(' ').filter(|w| !w.is_empty()).map(OsString::from).collect()
}

fn request(words: &str) -> Request {
    match parse(&argv(words)).unwrap_or_else(|e| panic!("{words}: {e}")).command {
        Command::Mount(request) => request,
        other => panic!("{words}: {other:?}"),
    }
}

fn refusal(words: &str) -> Error {
    parse(&argv(words)).err().unwrap_or_else(|| panic!("{words}: was taken"))
}

fn dirs(lower: &[&str], upper: Option<(&str, &str)>) -> Source {
    Source::Dirs {
        lower: lower.iter().map(PathBuf::from).collect(),
        data_only: Vec::new(),
        upper: upper.map_or(Upper::None, |(u, w)| Upper::At { upper: u.into(), work: w.into() }),
    }
}

/// Who calls fuse-overlayfs, and how.
#[test]
fn fuse_overlayfs_callers() {
    let rw = dirs(&["/l/A", "/l/B"], Some(("/d/diff", "/d/work")));
    let ro = dirs(&["/d/diff", "/l/A"], None);
    let cases = [
        ("/usr/bin/fuse-overlayfs -o lowerdir=/l/A:/l/B,upperdir=/d/diff,workdir=/d/work,volatile /d/merged", &rw),
        ("fuse-overlayfs -o lowerdir=/l/A:/l/B,upperdir=/d/diff,workdir=/d/work,nodev,fsync=0 /d/merged", &rw),
        (
            "fuse-overlayfs -o lowerdir=/l/A:/l/B,upperdir=/d/diff,workdir=/d/work,uidmapping=0:1000:1:1:100000:65536,gidmapping=0:1000:1,xattr_permissions=2 /d/merged",
            &rw,
        ),
        ("fuse-overlayfs -o lowerdir=/d/diff:/l/A /d/merged", &ro),
        ("fuse-overlayfs -o lowerdir=/l/A:/l/B,upperdir=/d/diff,workdir=/d/work,private /d/merged", &rw),
        ("fuse-overlayfs overlay /d/merged -o workdir=/d/work,upperdir=/d/diff,lowerdir=/l/A:/l/B,dev,suid", &rw),
        (
            "fuse-overlayfs overlay /d/merged -o workdir=/d/work -o upperdir=/d/diff -olowerdir=/l/A:/l/B,rw,dev,suid",
            &rw,
        ),
        ("fuse-overlayfs -f -o lowerdir=/l/A:/l/B,upperdir=/d/diff,workdir=/d/work,noacl /d/merged", &rw),
        ("fuse-overlayfs src /d/merged -o rw,dev,suid,lowerdir=/d/diff:/l/A", &ro),
    ];
    for (words, source) in cases {
        let request = request(words);
        assert_eq!((&request.source, request.target.to_str()), (source, Some("/d/merged")), "{words}");
        assert_eq!(request.warnings, Vec::<String>::new(), "{words}");
        assert_eq!(request.foreground, words.contains(" -f "), "{words}");
        assert_eq!((request.dialect.fs_type(), request.fs_name()), ("fuse.fuse-overlayfs", b"fuse-overlayfs".to_vec()));
    }
}

#[test]
fn fuse_overlayfs_defaults_and_warnings() {
    let plain = request("fuse-overlayfs -o lowerdir=/a,upperdir=/u,workdir=/w /m");
    let root = plain.access(0);
    assert_eq!(root.flags.to_string(), "rw,nodev,noatime");
    assert!(root.default_permissions && root.allow.is_some());
    let user = plain.access(1000);
    assert_eq!(user.flags.to_string(), "rw,nosuid,nodev,noatime");
    assert!(user.default_permissions && user.allow.is_none());
    let dev = request("fuse-overlayfs -o lowerdir=/a,dev,suid /m");
    assert_eq!(dev.access(0).flags.to_string(), "ro,noatime");
    let odd = request("fuse-overlayfs -o lowerdir=/a,frob=1,nfs_export=on --weird -x /m");
    let ignored = [
        "unknown argument ignored: --weird",
        "unknown argument ignored: -x",
        "unknown mount option ignored: frob=1",
        "unknown mount option ignored: nfs_export=on",
    ];
    assert_eq!(odd.warnings, ignored);
    assert!(odd.may_hide_files());
    assert!(request("fuse-overlayfs -d -o lowerdir=/a /m").foreground);
    assert!(request("fuse-overlayfs -o debug,lowerdir=/a /m").foreground);
}

#[test]
fn fuse_overlayfs_refusals_and_texts() {
    for words in [
        "fuse-overlayfs",
        "fuse-overlayfs -o lowerdir=/a",
        "fuse-overlayfs -o upperdir=/u,workdir=/w /m",
        "fuse-overlayfs image /m",
        "fuse-overlayfs -o lowerdir=/a,upperdir=/u /m",
        "fuse-overlayfs -o lowerdir=/a,uidmapping=1:2 /m",
        "fuse-overlayfs -o lowerdir=/a,plugins=x.so /m",
        "fuse-overlayfs -o",
    ] {
        assert_eq!(refusal(words).exit_code(), 1, "{words}");
    }
    for words in ["fuse-overlayfs --version", "fuse-overlayfs -V"] {
        assert_eq!(parse(&argv(words)).unwrap().command, Command::Version(Dialect::FuseOverlayfs));
    }
    assert_eq!(parse(&argv("fuse-overlayfs -h")).unwrap().command, Command::Help(Dialect::FuseOverlayfs));
    assert!(crate::mount::help::version(Dialect::FuseOverlayfs).starts_with("fuse-overlayfs: version 1."));
}

#[test]
fn mount8() {
    let image = request("/sbin/mount.mica debian:12 /mnt -o rw");
    let source = Source::Image { reference: "debian:12".into(), root: None, upper: Upper::None };
    assert_eq!((&image.source, image.dialect.fs_type()), (&source, "fuse.mica"));
    assert_eq!(image.fs_name(), b"debian:12");
    assert_eq!(image.access(0).flags.to_string(), "ro,noatime");
    assert!(!image.may_hide_files() && !image.foreground);
    let user = request(
        "mount.mica debian:12 /mnt -o rw,noexec,nosuid,nodev,user=me,x-systemd.automount,_netdev,nofail -t mica",
    );
    assert_eq!(user.access(0).flags.to_string(), "ro,nosuid,nodev,noexec,noatime");
    let dirs_only = request("mount.mica none /mnt -nv -o lowerdir=/a:/b,upperdir=/u,workdir=/w");
    assert_eq!(
        (dirs_only.source.clone(), dirs_only.fs_name()),
        (dirs(&["/a", "/b"], Some(("/u", "/w"))), b"mica".to_vec())
    );
    let container = request("mount.mica none /mnt -o container=abc,root=/store");
    assert_eq!(container.source, Source::Container { id: "abc".into(), root: Some("/store".into()) });
    let fake = parse(&argv("mount.mica debian /mnt -fv -o rw")).unwrap().command;
    assert!(matches!(fake, Command::Fake(_)));
    let remount = parse(&argv("mount.mica debian /mnt -o rw,remount,ro")).unwrap().command;
    assert!(
        matches!(remount, Command::Remount { target, options } if target.to_str() == Some("/mnt") && options.read_only == Some(true))
    );
    let entered = parse(&argv("mount.mica debian /mnt -N 42")).unwrap();
    assert_eq!(entered.namespace, Some("/proc/42/ns/mnt".into()));
    assert_eq!(request("mount.mica debian /mnt -s -o frob").warnings, ["unknown mount option ignored: frob"]);
    let unknown = refusal("mount.mica debian /mnt -o volatil");
    assert_eq!(unknown.hint().as_deref(), Some("did you mean volatile?"));
    for words in [
        "mount.mica /mnt",
        "mount.mica none /mnt",
        "mount.mica a b c",
        "mount.mica a /mnt -x",
        "mount.mica i /m -o image=i,lowerdir=/a",
    ] {
        assert_eq!(refusal(words).exit_code(), 1, "{words}");
    }
}

#[test]
fn own() {
    let image = request("mount.mica --image debian:12 --root=/store --rw /mnt");
    let source = Source::Image { reference: "debian:12".into(), root: Some("/store".into()), upper: Upper::Fresh };
    assert_eq!((&image.source, image.dialect), (&source, Dialect::Own));
    assert_eq!(image.access(0).flags.to_string(), "rw,nosuid,nodev,noatime");
    let named = request("mount.mica --foreground --lower /a:b --lower /c --upper /u --work /w -o dev,suid -- /mnt");
    assert_eq!(named.source, dirs(&["/a:b", "/c"], Some(("/u", "/w"))));
    assert!(named.foreground);
    assert_eq!(named.access(0).flags.to_string(), "rw,noatime");
    assert_eq!(request("mount.mica --options ro debian /mnt").source.label(), "debian");
    for words in [
        "mount.mica --frob /mnt",
        "mount.mica --image",
        "mount.mica",
        "mount.mica --image a --container b /m",
        "mount.mica --image a --upper /u /m",
    ] {
        assert!(parse(&argv(words)).is_err(), "{words}");
    }
    assert_eq!(parse(&argv("mount.mica --help")).unwrap().command, Command::Help(Dialect::Own));
    assert_eq!(parse(&argv("mount.mica -V")).unwrap().command, Command::Version(Dialect::Own));
}
