use std::io::Read;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::symlink;

use super::*;
use crate::image::unpack::ImportOptions;
use crate::image::unpack::import_layer;
use crate::layer::Layer;
use crate::layer::pack::PackLayer;
use crate::layer::pack::testing::Scratch;
use crate::layer::pack::testing::content;
use crate::layer::pack::testing::find;
use crate::layer::pack::testing::names;
use crate::sys::attr::SetTime;
use crate::sys::attr::Time;
use crate::sys::xattr::SetMode;

fn diff(upper: &Scratch, options: DiffOptions) -> (Vec<u8>, DiffStats) {
    let mut out = Vec::new();
    let stats = write_diff(&upper.fd(), &mut out, options).unwrap();
    assert_eq!(stats.bytes, out.len() as u64);
    (out, stats)
}

fn imported(scratch: &Scratch, tar: &[u8]) -> PackLayer {
    let store = scratch.store();
    store.open(&import_layer(tar, &store, &ImportOptions::default()).unwrap().diff_id).unwrap()
}

fn set_mtime(upper: &Scratch, name: &str, secs: i64, nanos: u32) {
    let fd = sys::open::path_at(upper.fd(), Name::new(name.as_bytes()).unwrap()).unwrap();
    sys::attr::set_times(fd, SetTime::Keep, SetTime::At(Time { secs, nanos })).unwrap();
}

#[test]
fn an_upper_directory_becomes_a_layer() {
    let upper = Scratch::new();
    let at = |name: &str| upper.0.join(name);
    std::fs::create_dir(at("dir")).unwrap();
    std::fs::write(at("dir/file"), vec![3; 70_000]).unwrap();
    std::fs::hard_link(at("dir/file"), at("hard")).unwrap();
    std::fs::set_permissions(at("hard"), std::fs::Permissions::from_mode(0o4755)).unwrap();
    symlink("x".repeat(200), at("link")).unwrap();
    std::fs::write(at(&"n".repeat(200)), b"long").unwrap();
    std::fs::write(at("empty"), b"").unwrap();
    std::fs::write(at(".wh.gone"), b"").unwrap();
    let sparse = std::fs::File::create(at("sparse")).unwrap();
    sparse.write_at(b"middle", 5 << 20).unwrap();
    sparse.set_len(9 << 20).unwrap();
    let socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    drop(socket);
    set_mtime(&upper, "empty", -2, 750_000_000);
    set_mtime(&upper, "hard", 1_600_000_000, 123);
    let (tar, stats) = diff(&upper, DiffOptions::default());
    assert_eq!(diff(&upper, DiffOptions::default()).0, tar, "the same directory, the same bytes");
    assert_eq!((stats.sockets, stats.whiteouts), (1, 0));
    assert!(stats.bytes < 1 << 20, "holes are not written");

    let scratch = Scratch::new();
    let layer = imported(&scratch, &tar);
    let mut expected = vec!["!gone".to_owned(), "dir/".into(), "dir/file".into(), "empty".into(), "hard".into()];
    expected.extend(["link".into(), "n".repeat(200), "sparse".into()]);
    assert_eq!(names(&layer), expected);
    let (file, hard) = (find(&layer, "dir/file"), find(&layer, "hard").stat().unwrap());
    assert_eq!(file.id().ino, hard.ino);
    assert_eq!((hard.mode, hard.nlink, hard.mtime), (0o104_755, 2, Time { secs: 1_600_000_000, nanos: 123 }));
    assert!(content(&layer, "dir/file") == vec![3; 70_000]);
    assert_eq!(find(&layer, "empty").stat().unwrap().mtime, Time { secs: -2, nanos: 750_000_000 });
    assert_eq!(find(&layer, "link").readlink().unwrap(), "x".repeat(200).as_bytes());
    let bytes = content(&layer, "sparse");
    assert_eq!((bytes.len(), &bytes[5 << 20..][..6]), (9 << 20, &b"middle"[..]));
    let mut back = Vec::new();
    layer.tar_stream().read_to_end(&mut back).unwrap();
    assert!(back == tar);
    assert_eq!(diff(&upper, DiffOptions { root: false, ..DiffOptions::default() }).1.entries, stats.entries - 1);
}

#[test]
fn marks_of_the_kernels_format_become_those_of_layers() {
    let upper = Scratch::new();
    std::fs::create_dir(upper.0.join("opaque")).unwrap();
    std::fs::write(upper.0.join("file"), b"x").unwrap();
    let name = |name: &'static [u8]| Name::new(name).unwrap();
    if let Err(e) = sys::name::mknod(upper.fd(), name(b"gone"), Kind::Char, 0, 0) {
        crate::report::report_skip(&format!("no whiteout can be made here: {e}"));
        return;
    }
    let dir = sys::open::path_at(upper.fd(), name(b"opaque")).unwrap();
    let file = sys::open::path_at(upper.fd(), name(b"file")).unwrap();
    let set = |fd: &OwnedFd, name: &[u8], value: &[u8]| sys::xattr::set(fd, name, value, SetMode::Any);
    if let Err(e) = set(&dir, b"trusted.overlay.opaque", b"y") {
        crate::report::report_skip(&format!("no trusted xattr can be set here: {e}"));
        return;
    }
    set(&file, b"trusted.overlay.origin", b"o").unwrap();
    set(&file, b"trusted.a=b%3D", b"1\n2=\0").unwrap();
    sys::name::mknod(upper.fd(), name(b"null"), Kind::Char, 0o666, sys::attr::makedev(1, 3)).unwrap();
    let (tar, stats) = diff(&upper, DiffOptions::default());
    assert_eq!((stats.whiteouts, stats.opaque), (1, 1));
    let scratch = Scratch::new();
    let layer = imported(&scratch, &tar);
    assert_eq!(names(&layer), ["!gone", "file", "null", "opaque/!"]);
    let file = find(&layer, "file");
    assert_eq!(file.xattrs().unwrap(), [b"trusted.a=b%3D".to_vec()]);
    assert_eq!(file.xattr(b"trusted.a=b%3D").unwrap().unwrap(), b"1\n2=\0");
    assert_eq!(find(&layer, "null").stat().unwrap().rdev, sys::attr::makedev(1, 3));
    assert!(layer.root().unwrap().stat().unwrap().mtime.secs > 0);
}

#[test]
fn a_deep_tree_is_written_though_few_directories_stay_open() {
    let upper = Scratch::new();
    let mut dir = upper.fd();
    let name = |name: &'static [u8]| Name::new(name).unwrap();
    for _ in 0..300 {
        sys::name::mkdir(&dir, name(b"d"), 0o755).unwrap();
        let next = sys::open::dir_at(&dir, name(b"d")).unwrap();
        sys::open::create_at(&dir, name(b"f"), 0o644).unwrap();
        dir = next;
    }
    let (tar, stats) = diff(&upper, DiffOptions::default());
    assert_eq!(stats.entries, 601);
    assert_eq!(names(&imported(&Scratch::new(), &tar)).len(), 600);
}

#[test]
fn gnu_tar_reads_what_is_written() {
    let upper = Scratch::new();
    std::fs::write(upper.0.join("n".repeat(200)), b"long").unwrap();
    symlink("x".repeat(200), upper.0.join("link")).unwrap();
    let sparse = std::fs::File::create(upper.0.join("sparse")).unwrap();
    sparse.write_at(b"middle", 5 << 20).unwrap();
    sparse.set_len(9 << 20).unwrap();
    set_mtime(&upper, "sparse", 1_600_000_000, 500_000_000);
    let (tar, _) = diff(&upper, DiffOptions::default());
    let to = Scratch::new();
    std::fs::write(to.0.join("layer.tar"), tar).unwrap();
    let out = to.0.join("out");
    std::fs::create_dir(&out).unwrap();
    let run = std::process::Command::new("tar").arg("-xf").arg(to.0.join("layer.tar")).arg("-C").arg(&out).output();
    let Ok(run) = run else {
        crate::report::report_skip("there is no tar program");
        return;
    };
    assert!(run.status.success() && run.stderr.is_empty(), "{}", String::from_utf8_lossy(&run.stderr));
    assert_eq!(std::fs::read(out.join("n".repeat(200))).unwrap(), b"long");
    assert_eq!(std::fs::read_link(out.join("link")).unwrap().as_os_str().len(), 200);
    let bytes = std::fs::read(out.join("sparse")).unwrap();
    assert!(bytes == std::fs::read(upper.0.join("sparse")).unwrap());
    let time = std::os::unix::fs::MetadataExt::mtime_nsec(&std::fs::metadata(out.join("sparse")).unwrap());
    assert_eq!(time, 500_000_000);
}

/// What a user may set himself, and what a nested union sets, is stored under other names.
#[test]
fn what_leads_below_is_refused_and_a_users_own_attribute_of_such_a_name_is_not() {
    let upper = Scratch::new();
    std::fs::write(upper.0.join("file"), b"text").unwrap();
    let fd = std::fs::File::open(upper.0.join("file")).unwrap();
    for name in ["user.overlay.overlay.metacopy", "user.overlay.overlay.redirect", "user.overlay.metacopying"] {
        sys::xattr::set(&fd, name.as_bytes(), b"x", SetMode::Any).unwrap();
    }
    assert!(diff(&upper, DiffOptions::default()).1.entries > 0);
    for name in [&b"user.overlay.metacopy"[..], b"user.overlay.redirect"] {
        sys::xattr::set(&fd, name, b"", SetMode::Any).unwrap();
        let said = write_diff(&upper.fd(), &mut Vec::new(), DiffOptions::default());
        assert!(matches!(said, Err(Error::Unsettled(path)) if path.to_string().ends_with("file")));
        sys::xattr::remove(&fd, name).unwrap();
    }
}
