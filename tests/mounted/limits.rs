//! Long names, odd names, many layers, deep trees, many open files.

use std::ffi::OsStr;
use std::fs;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::place::On;
use crate::place::Place;
use crate::place::assert_errno;
use crate::place::put;
use crate::place::put_dir;
use crate::place::sh;

#[test]
fn names_of_255_bytes_and_of_256() {
    let (fits, long) = ("n".repeat(255), "n".repeat(256));
    let Some(p) = Place::mounted("names", |_, low| drop(put(low, &format!("low{}", "x".repeat(252)), "x"))) else {
        return;
    };
    let lower = format!("low{}", "x".repeat(252));
    put(&p.top, &fits, "text");
    assert_eq!(fs::read(p.at(&fits)).unwrap(), b"text");
    fs::rename(p.at(&lower), p.at("short")).unwrap();
    fs::rename(p.at("short"), p.at(&lower)).unwrap();
    fs::remove_file(p.at(&lower)).unwrap();
    fs::create_dir(p.at(&lower)).unwrap();
    for too_long in [&long, &"n".repeat(1000), &"n".repeat(1025)] {
        assert_errno!(fs::metadata(p.at(too_long)), NAMETOOLONG);
        assert_errno!(File::create(p.at(too_long)), NAMETOOLONG);
        assert_errno!(fs::create_dir(p.at(too_long)), NAMETOOLONG);
        assert_errno!(fs::rename(p.at(&fits), p.at(too_long)), NAMETOOLONG);
        assert_errno!(fs::hard_link(p.at(&fits), p.at(too_long)), NAMETOOLONG);
        assert_errno!(fs::remove_file(p.at(too_long)), NAMETOOLONG);
    }
    p.same_after_remount_and_by_the_kernel();
}

#[test]
fn names_are_bytes() {
    let odd: [&[u8]; 6] = [b"\xff\xfe", b"a\nb", b" ", b"\\012", b"x:y,z", b"-rf"];
    let fill = |_: &Path, low: &Path| {
        for name in odd {
            fs::write(low.join(OsStr::from_bytes(name)), name).unwrap();
        }
    };
    let Some(p) = Place::mounted("bytes", fill) else { return };
    for name in odd {
        let path = p.at(OsStr::from_bytes(name));
        assert_eq!(fs::read(&path).unwrap(), name);
        let mut moved = name.to_vec();
        moved.extend_from_slice(b"\xf0moved");
        let moved = p.at(OsStr::from_bytes(&moved));
        fs::rename(&path, &moved).unwrap();
        fs::write(&path, "again").unwrap();
        assert_eq!(fs::read(&moved).unwrap(), name);
    }
    assert_eq!(fs::read_dir(&p.top).unwrap().count(), 12);
    p.same_after_remount_and_by_the_kernel();
}

#[test]
fn names_that_mean_whiteouts_elsewhere_cannot_be_made() {
    if On::chosen() == On::Kernel {
        crate::support::skip!("the kernel's overlayfs takes them");
    }
    let Some(p) = Place::mounted("wh", |_, low| drop(put(low, "f", ""))) else { return };
    for name in [".wh.f", ".wh..wh..opq", ".wh."] {
        assert_errno!(File::create(p.at(name)), INVAL);
        assert_errno!(fs::create_dir(p.at(name)), INVAL);
        assert_errno!(fs::rename(p.at("f"), p.at(name)), INVAL);
        assert!(!p.at(name).exists());
    }
}

#[test]
fn five_hundred_layers() {
    let Some(mut p) = Place::prepared("layers") else { return };
    // Short relative names: the kernel takes at most a page of options, mica all of them.
    let layers: Vec<_> = (0..500).map(|i| p.beside(format!("L/{i}"))).collect();
    for (i, layer) in layers.iter().enumerate() {
        put(layer, &format!("d/f{i}"), format!("{i}"));
        put(layer, "d/top", format!("{i}"));
    }
    if On::chosen() == On::Kernel {
        crate::support::skip!("one page of mount options does not hold the names");
    }
    p.set_layers(layers);
    p.mount(On::chosen());
    assert_eq!(fs::read_dir(p.at("d")).unwrap().count(), 501);
    assert_eq!(fs::read_to_string(p.at("d/top")).unwrap(), "0");
    assert_eq!(fs::read_to_string(p.at("d/f499")).unwrap(), "499");
    sh(&p.top, "echo x >>d/f499; rm d/f250; mkdir d/n");
    let before = p.tree();
    p.remount();
    crate::support::tree::assert_same(&before, &p.tree());
}

#[test]
fn layers_reached_through_symlinks() {
    let Some(mut p) = Place::prepared("via") else { return };
    put(&p.in_layer(1, ""), "f", "low");
    let link = p.beside("link");
    std::os::unix::fs::symlink("l2", &link).unwrap();
    std::os::unix::fs::symlink("/", p.in_layer(1, "root")).unwrap();
    p.set_layers(vec![p.in_layer(0, ""), link.clone()]);
    p.mount(On::chosen());
    assert_eq!(fs::read_to_string(p.at("f")).unwrap(), "low");
    // The link in the layer is shown as a link, and what the mount's own links point to may change later.
    assert_eq!(fs::read_link(p.at("root")).unwrap(), Path::new("/"));
    fs::remove_file(&link).unwrap();
    assert_eq!(fs::read_to_string(p.at("f")).unwrap(), "low");
    sh(&p.top, "echo x >>f");
}

#[test]
fn a_deep_tree() {
    let Some(p) = Place::mounted("deep", |_, low| drop(put_dir(low, &"d/".repeat(200)))) else { return };
    let dir = "d/".repeat(200);
    put(&p.top, &format!("{dir}f"), "x");
    sh(&p.top, "n=$(printf %0200d 1); for i in $(seq 15); do mkdir $n; cd $n; done; echo end >f; cat f");
    assert_eq!(sh(&p.top, "find . | wc -l").trim(), "218");
    sh(&p.top, "rm -rf 0*");
    p.same_after_remount_and_by_the_kernel();
}

#[test]
fn many_open_files() {
    let fill = |_: &Path, low: &Path| {
        for i in 0..2000 {
            put(low, &format!("f{i}"), format!("{i}"));
        }
    };
    let Some(p) = Place::mounted("files", fill) else { return };
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current = limit.maximum;
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, limit);
    let open: Vec<_> =
        (0..2000).map(|i| File::open(p.at(format!("f{i}"))).unwrap_or_else(|e| panic!("{i}: {e}"))).collect();
    for (i, file) in open.iter().enumerate() {
        assert_eq!(std::io::read_to_string(file).unwrap(), i.to_string());
    }
}

/// The server runs out of descriptors at every one that an operation opens, also of lower files and directories.
#[test]
fn without_descriptors_there_is_an_error_and_nothing_half_done() {
    let fill = |_: &Path, low: &Path| {
        for i in 0..24 {
            put(low, &format!("d{i}/e/f"), "low".repeat(100));
        }
    };
    let Some(p) = Place::mounted("descriptors", fill) else { return };
    if On::chosen() != On::Mica {
        return crate::support::report_skip("looks at mica's server");
    }
    let server = crate::place::server_of(&p.top).expect("a server");
    let numbers = crate::place::names(Path::new(&format!("/proc/{server}/fd")));
    let highest: u32 = numbers.iter().map(|n| n.parse().unwrap()).max().unwrap();
    let limit = |soft: &str| sh(&p.top, &format!("cd /; prlimit --pid {server} --nofile={soft}:"));
    let usual = sh(&p.beside(""), &format!("prlimit --pid {server} --nofile --noheadings --output SOFT"));
    let mut refused = 0;
    for i in 0..24u32 {
        let (name, before) = (format!("d{i}/e/f"), crate::place::names(&p.upper));
        limit(&(highest + 1 + i / 2).to_string());
        let results = [
            fs::read_to_string(p.at(&name)).map(|text| assert_eq!(text, "low".repeat(100))),
            fs::OpenOptions::new()
                .append(true)
                .open(p.at(&name))
                .and_then(|mut f| std::io::Write::write_all(&mut f, b"+")),
            fs::create_dir(p.at(format!("d{i}/new"))),
            fs::rename(p.at(&name), p.at(format!("d{i}/e/moved"))),
        ];
        limit(usual.trim());
        let errors: Vec<_> = results.iter().filter_map(|r| r.as_ref().err()).collect();
        assert!(errors.iter().all(|e| matches!(e.raw_os_error(), Some(24))), "{errors:?}");
        refused += errors.len();
        // What was refused left the names as they were, and is done now.
        let text = if results[1].is_ok() { "low".repeat(100) + "+" } else { "low".repeat(100) };
        let now = if results[3].is_ok() { format!("d{i}/e/moved") } else { name };
        assert_eq!(fs::read_to_string(p.at(&now)).unwrap(), text, "{i}: {results:?}, before: {before:?}");
        assert_eq!(fs::create_dir(p.at(format!("d{i}/new"))).is_ok(), results[2].is_err(), "{i}");
    }
    assert!(refused > 0, "the limit was never met");
    assert_eq!(crate::place::names(&p.beside("w/work")), [""; 0], "nothing left in work");
    p.same_after_remount_and_by_the_kernel();
}
