use std::path::PathBuf;

use super::*;

fn read(text: &str) -> MountOptions {
    try_read(text).unwrap_or_else(|e| panic!("{text}: {e}"))
}

fn try_read(text: &str) -> Result<MountOptions, Error> {
    let mut options = MountOptions::default();
    options.read(text.as_bytes())?;
    Ok(options)
}

fn paths(list: &[&str]) -> Vec<PathBuf> {
    list.iter().map(PathBuf::from).collect()
}

#[test]
fn lowerdir_lists_with_escapes() {
    let cases: &[(&str, &[&str], &[&str])] = &[
        ("/a", &["/a"], &[]),
        ("/a:/b:/c", &["/a", "/b", "/c"], &[]),
        (r"/a\:b:/c", &["/a:b", "/c"], &[]),
        (r"/a\\:/c", &[r"/a\", "/c"], &[]),
        (r"/a\,b:/c\d", &["/a,b", r"/c\d"], &[]),
        (":/a:", &["/a"], &[]),
        ("/a:/b::/d:/e", &["/a", "/b"], &["/d", "/e"]),
        ("/a::/d::/e", &["/a"], &["/d", "/e"]),
        ("/a::", &["/a"], &[]),
        ("l/ABC:l/DEF", &["l/ABC", "l/DEF"], &[]),
    ];
    for (text, lower, data) in cases {
        let options = read(&format!("lowerdir={text},ro"));
        assert_eq!((options.lower, options.data_only), (paths(lower), paths(data)), "{text}");
        assert_eq!(options.read_only, Some(true), "{text}");
    }
}

#[test]
fn lowerdir_of_500_and_added_ones() {
    let list: Vec<String> = (0..500).map(|i| format!("/store/overlay/l/{i:026}")).collect();
    let options = read(&format!("lowerdir={},lowerdir+=/more,datadir+=/data", list.join(":")));
    assert_eq!(options.lower.len(), 501);
    assert_eq!(options.lower.last(), Some(&PathBuf::from("/more")));
    assert_eq!(options.data_only, paths(&["/data"]));
}

#[test]
fn quotes_keep_commas() {
    let options = read(r#"lowerdir=/a,context="system_u:object_r:container_file_t:s0:c1,c2",noacl"#);
    assert_eq!(options.context.as_deref(), Some(&b"system_u:object_r:container_file_t:s0:c1,c2"[..]));
    assert!(options.no_acl);
    let last = read(r#"context="a,b:c""#);
    assert_eq!(last.context.as_deref(), Some(&b"a,b:c"[..]));
    // Not closed: a quote like any other byte.
    let open = read(r#"context="a,noacl"#);
    assert_eq!((open.context.as_deref(), open.no_acl), (Some(&b"\"a"[..]), true));
    // Inside a value a quote is a byte of the name.
    assert_eq!(read(r#"lowerdir=/a"b,ro"#).lower, paths(&["/a\"b"]));
}

#[test]
fn values() {
    let o = read(
        "timeout=0.5,threads=3,max_write=1048576,xino=on,io=cache,io_uring=0,redirect_dir=on,metacopy=on,copy_up=blocks,index=off",
    );
    assert_eq!((o.timeout, o.threads, o.max_write), (0.5, Some(3), Some(1_048_576)));
    assert!(!o.io_uring && MountOptions::default().io_uring);
    assert_eq!((o.xino, o.io, o.redirect_dir), (Xino::On, Io::Cache, Some(RedirectDir::On)));
    assert_eq!(o.blocks, Some(true));
    assert_eq!((o.metacopy, o.index), (Some(true), Some(false)));
    let o = read(
        "fsync=0,writeback=0,threaded=1,noxattrs=1,fast_ino,static_nlink,volatile,squash_to_uid=7,xattr_permissions=2",
    );
    assert_eq!((o.fsync, o.writeback, o.threaded, o.no_xattrs), (false, false, Some(true), true));
    assert_eq!((o.squash_to_uid, o.xattr_permissions), (Some(7), XattrPermissions::User));
    let o = read("uidmapping=0:100000:65536:65536:5:1,gidmapping=1:2:3");
    assert_eq!(o.uid_map.len(), 2);
    assert_eq!(o.gid_map, [IdRange { host: 1, to: 2, len: 3 }]);
    let o = read("ro,rw,suid,nosuid,nodev,dev,noexec,noatime");
    assert_eq!(
        (o.read_only, o.suid, o.dev, o.exec, o.atime),
        (Some(false), Some(false), Some(true), Some(false), Some(false))
    );
}

#[test]
fn wrong_values_name_the_option() {
    let cases = [
        "timeout=nan",
        "timeout=-1",
        "timeout=inf",
        "timeout=x",
        "timeout",
        "uidmapping=0:1",
        "uidmapping=0:1:0",
        "uidmapping=4294967295:0:2",
        "uidmapping=a:b:c",
        "uidmapping=+0:1:1",
        "squash_to_uid=-1",
        "squash_to_gid=4294967296",
        "redirect_dir=maybe",
        "copy_up=parts",
        "redirect_dir",
        "xino=2",
        "threads=0",
        "threads=99999",
        "io=fast",
        "fsync=2",
        "ro=1",
        "volatile=0",
        "xattr_permissions=3",
        "lowerdir=",
        "lowerdir=:",
        "lowerdir",
        "upperdir=",
        "image=",
        "plugins=/x.so",
        "max_write=4k",
    ];
    for text in cases {
        let name = text.split('=').next().unwrap();
        let error = try_read(text).err().unwrap_or_else(|| panic!("{text} was taken"));
        assert!(error.to_string().contains(name), "{text}: {error}");
    }
}

#[test]
fn ignored_and_unknown() {
    let o = read(
        "rw,user,_netdev,nofail,x-systemd.automount,X-mount.mkdir=0755,auto,noauto,comment=a,private,kernel_cache",
    );
    assert!(o.unknown.is_empty(), "{:?}", o.unknown);
    let o = read(",,lowerdirr=/a,,frob,weird=1,");
    assert_eq!(o.unknown, [b"lowerdirr=/a".to_vec(), b"frob".to_vec(), b"weird=1".to_vec()]);
    assert_eq!(MountOptions::similar(b"lowerdirr=/a"), Some("lowerdir"));
    assert_eq!(MountOptions::similar(b"volatil"), Some("volatile"));
    assert_eq!(MountOptions::similar(b"something-else"), None);
}

#[test]
fn names_that_are_not_text() {
    let mut options = MountOptions::default();
    options.read(b"lowerdir=/\xff\xfe:/b,\xff=\xff").unwrap();
    assert_eq!(options.lower.len(), 2);
    assert_eq!(options.unknown, [b"\xff=\xff".to_vec()]);
}

#[test]
fn the_table_names_each_option_once() {
    let mut names: Vec<&str> = table::OPTIONS.iter().flat_map(|spec| spec.names.iter().copied()).collect();
    names.sort_unstable();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count);
    let help = crate::mount::help::help(crate::mount::request::Dialect::Own);
    for name in names {
        assert!(help.contains(name), "{name} is not in the help text");
    }
}

proptest::proptest! {
    #[test]
    fn no_text_panics(text in proptest::collection::vec(proptest::sample::select(&b"ab,:\\\"=lowerdir\0\xff"[..]), 0..60)) {
        let _ = MountOptions::default().read(&text);
        let _ = text::colon_list(&text);
    }

    #[test]
    fn escaped_names_come_back(names in proptest::collection::vec(proptest::collection::vec(1u8.., 1..12), 1..5)) {
        let joined = names.iter().map(|n| text::escape(n)).collect::<Vec<_>>().join(&b':');
        let back: Vec<Vec<u8>> = text::colon_list(&joined).into_iter().map(|(name, _)| name).collect();
        proptest::prop_assert_eq!(&back, &names);
        let mut options = MountOptions::default();
        options.read(&[b"lowerdir=", &joined[..], b",ro"].concat()).unwrap();
        // A quoted value loses its quotes, so names that begin and end with quotes are not compared here.
        if !joined.starts_with(b"\"") {
            proptest::prop_assert_eq!(options.lower.len(), names.len());
        }
    }
}
