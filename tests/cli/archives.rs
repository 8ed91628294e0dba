//! `mica save`, `import`, `export`: what a user gets, and what is left when it fails. Other tools read it in `tests/dropin/archives.rs`.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::area::Area;
use crate::area::finish;
use crate::support::Snapshot;
use crate::support::bin;
use crate::support::require_fixture;
use crate::support::require_root;
use crate::support::tree;

/// The names in a directory, hidden ones too.
fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn entries(area: &Area, tar: &str) -> Vec<String> {
    let said = finish(Command::new("tar").arg("-tf").arg(area.join(tar)));
    assert_eq!(said.code(), 0, "{said:?}");
    said.out.lines().map(str::to_owned).collect()
}

#[test]
fn one_archive_of_several_images_and_names() {
    let fixture = require_fixture!("busybox");
    let (area, other) = (Area::with("several", &fixture), Area::new("several"));
    let rootfs = fixture.file("rootfs.tar");
    let id = area.ok(["import".as_ref(), rootfs.as_os_str(), "x:1".as_ref()]);
    for name in ["x:2", "other/y:z"] {
        area.ok(["tag", "x:1", name]);
    }
    // A repository stands for all its tags; an id gives no name.
    area.ok(["save", "-o", "all.tar", "x", &fixture.image(), "other/y:z"]);
    area.ok(["save", "-o", "again.tar", "x", &fixture.image(), "other/y:z"]);
    assert!(fs::read(area.join("all.tar")).unwrap() == fs::read(area.join("again.tar")).unwrap(), "other bytes");
    let said = other.ok(["load".as_ref(), "-i".as_ref(), area.join("all.tar").as_os_str()]);
    let expected = ["x:1", "x:2", "other/y:z", &fixture.image()].map(|name| format!("Loaded image: {name}\n")).concat();
    assert_eq!(said, expected);
    area.ok(["save", "-o", "id.tar", id.trim()]);
    let said = other.ok(["load".as_ref(), "-i".as_ref(), area.join("id.tar").as_os_str()]);
    assert_eq!(said, format!("Loaded image ID: {id}"));
}

/// What docker writes since 25: manifest.json and an OCI layout in one. The manifest's digest is the image's in both, and stays.
#[test]
fn a_hybrid_archive_keeps_its_manifest() {
    let fixture = require_fixture!("busybox");
    let area = Area::new("hybrid");
    let digest_in = |tar: &Path| {
        let said = finish(Command::new("tar").arg("-xOf").arg(tar).arg("index.json"));
        let index: serde_json::Value = serde_json::from_str(&said.out).unwrap();
        index["manifests"][0]["digest"].as_str().unwrap().to_owned()
    };
    let shown = || area.ok(["images", "--format", "{{.Digest}}", &fixture.image()]).trim_end().to_owned();
    let theirs = fixture.file("docker25.tar");
    area.ok(["load".as_ref(), "-i".as_ref(), theirs.as_os_str()]);
    assert_eq!(shown(), digest_in(&theirs));
    for _ in 0..2 {
        area.ok(["save", "-o", "again.tar", &fixture.image()]);
        assert_eq!(digest_in(&area.join("again.tar")), digest_in(&theirs));
        area.ok(["rmi", &fixture.image()]);
        area.ok(["load", "-i", "again.tar"]);
        assert_eq!(shown(), digest_in(&theirs));
    }
}

#[test]
fn a_failed_save_leaves_nothing() {
    let fixture = require_fixture!("busybox");
    let area = Area::with("nothing", &fixture);
    let image = fixture.image();
    let dir = area.new_dir("out");
    fs::write(dir.join("there"), "old").unwrap();
    let damage = |file: &Path| {
        let mut bytes = fs::read(file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(file, bytes).unwrap();
    };
    let largest = area.store_files().into_iter().max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    damage(&largest);
    for args in [&["-o", "out/there"][..], &["-o", "out/new"], &["--format", "oci-dir", "-o", "out/dir"]] {
        let said = area.fails(["save"].iter().chain(args).copied().chain([image.as_str()]), 1);
        assert!(said.contains("layer sha256:"), "{said}");
        assert_eq!(names(&dir), ["there"], "{args:?}");
    }
    assert_eq!(fs::read(dir.join("there")).unwrap(), b"old");
    damage(&largest); // the same bit back
    area.ok(["save", "-o", "out/there", &image]);
    area.ok(["save", "--format", "oci-dir", "out/dir", &image]);
    assert_eq!(names(&dir), ["dir", "there"]);
    let said = area.fails(["save", "--format", "oci-dir", "-o", "out/dir", &image], 1);
    assert!(said.contains("not empty") && said.contains("hint: "), "{said}");
    let said = area.fails(["save", "--compress", &image], 1);
    assert!(said.contains("--format oci-archive"), "{said}");
    let said = area.fails(["save", "-o", "/nosuch/dir/x", &image], 1);
    assert!(said.contains("/nosuch/dir/x"), "{said}");
}

#[test]
fn a_layout_directory_and_its_platforms() {
    let fixture = require_fixture!("busybox");
    let (area, other) = (Area::new("platform"), Area::new("platform"));
    let rootfs = fixture.file("rootfs.tar");
    for (platform, name) in [("linux/arm64", "a:arm"), ("linux/s390x", "a:z")] {
        let platform = format!("--platform={platform}");
        area.ok(["import".as_ref(), platform.as_ref(), rootfs.as_os_str(), name.as_ref()]);
    }
    area.ok(["save", "--format=oci-dir", "--compress=zstd", "-o", "layout", "a"]);
    let layout = area.join("layout");
    let load = |more: &[&str]| {
        other.said(
            ["load".as_ref(), "-i".as_ref(), layout.as_os_str()].into_iter().chain(more.iter().map(AsRef::as_ref)),
        )
    };
    assert_eq!(load(&["--platform", "linux/s390x"]).out, "Loaded image: a:z\n");
    assert_eq!(other.ok(["images", "--format", "{{.Tag}}"]), "z\n");
    let said = load(&["--platform", "linux/riscv64"]);
    assert_eq!(said.code(), 1);
    assert!(said.err.contains("linux/riscv64") && said.err.contains("linux/arm64"), "{}", said.err);
    assert_eq!(load(&[]).out, "Loaded image: a:arm\nLoaded image: a:z\n");
}

#[test]
fn every_compression_outside() {
    let fixture = require_fixture!("busybox");
    let area = Area::new("outside");
    let plain = fixture.file("docker-old.tar");
    for (program, name) in [("gzip", "x.gz"), ("bzip2", "x.bz2"), ("xz", "x.xz"), ("zstd", "x.zst")] {
        let out = fs::File::create(area.join(name)).unwrap();
        let Ok(status) = Command::new(program).args(["-1", "-c"]).arg(&plain).stdout(out).status() else {
            crate::support::report_skip(&format!("{program} is not installed"));
            continue;
        };
        assert!(status.success(), "{program}");
        let other = Area::new("outside");
        let said = other.ok(["load".as_ref(), "-i".as_ref(), area.join(name).as_os_str()]);
        assert_eq!(said, format!("Loaded image: {}\n", fixture.image()), "{program}");
    }
}

#[test]
fn a_root_filesystem_becomes_an_image() {
    let fixture = require_fixture!("busybox");
    let area = Area::new("import");
    let rootfs = fixture.file("rootfs.tar");
    let said = area.fails(["load".as_ref(), "-i".as_ref(), rootfs.as_os_str()], 1);
    assert!(said.contains("mica import"), "{said}");
    let change = ["-c", "CMD [\"sh\"]", "-c", "ENV A=\"b c\"", "-c", "workdir /opt", "-m", "a message"];
    let args = ["import"].iter().chain(&change).map(AsRef::as_ref);
    let id = area.ok(args.chain([rootfs.as_os_str(), "r:1".as_ref()]));
    assert!(id.starts_with("sha256:") && id.len() == 72, "{id}");
    assert_eq!(area.ok(["images", "--no-trunc", "--format", "{{.ID}}", "r:1"]), id);
    let seen: serde_json::Value = serde_json::from_str(&area.ok(["inspect", "r:1"])).unwrap();
    let config = &seen[0]["Config"];
    let expected = (&serde_json::json!(["A=b c"]), &serde_json::json!(["sh"]), &serde_json::json!("/opt"));
    assert_eq!((&config["Env"], &config["Cmd"], &config["WorkingDir"]), expected);
    assert_eq!((&seen[0]["Comment"], &seen[0]["Os"]), (&"a message".into(), &"linux".into()));
    // The same from standard input; without a message docker's words tell where it came from.
    let input = fs::File::open(&rootfs).unwrap();
    let said = finish(area.mica(["import", "-", "r:2"]).stdin(input));
    assert_eq!(said.code(), 0, "{said:?}");
    let seen: serde_json::Value = serde_json::from_str(&area.ok(["inspect", "r:2"])).unwrap();
    assert_eq!(seen[0]["Comment"], "Imported from -");
    let before = area.store_files();
    fs::write(area.join("text"), "no tar").unwrap();
    for (args, word) in [
        (&["import", "-c", "RUN x", "text"][..], "RUN is not a valid change command"),
        (&["import", "text"], "not a tar"),
        (&["import", "nosuch.tar"], "nosuch.tar"),
        (&["import", "https://localhost:0/x.tar", "n"], "https://localhost:0/x.tar: "),
        (&["import", "--platform", "a b", "text"], "OS/ARCH"),
        (&["import", "text", "Upper"], "Upper"),
    ] {
        let said = area.said(args);
        assert_ne!(said.code(), 0, "{args:?}");
        assert!(said.err.contains(word), "{args:?}: {}", said.err);
        assert_eq!(area.store_files(), before, "{args:?}");
    }
}

#[test]
fn an_export_is_what_the_container_shows() {
    require_root!();
    let fixture = require_fixture!("busybox");
    let area = Area::with("export", &fixture);
    let script = "cd /opt/mica; rm -rf names; mv modes moved; chmod 600 special/megabyte; echo more >>special/sparse; \
        ln links/hard-d /linked; mkdir /d; mknod /d/fifo p; truncate -s 3M /holes; touch -d 1960-01-01 /old; touch /etc/own";
    area.ok(["run", "--name", "box", &fixture.image(), "sh", "-c", script]);
    let point = area.new_dir("m");
    // The truth is what a mount of the committed container shows.
    area.ok(["commit", "box", "committed:1"]);
    area.ok(["mount".as_ref(), "committed:1".as_ref(), point.as_os_str()]);
    let truth = Snapshot::of(&point).unwrap();
    area.ok(["umount".as_ref(), point.as_os_str()]);
    area.ok(["export", "-o", "box.tar", "box"]);
    // To standard output the same bytes, each time.
    let script = format!("{} --root {} export box >out.tar", bin::mica().display(), area.store().display());
    let said = finish(Command::new("sh").args(["-c", &script]).current_dir(area.join("")));
    assert_eq!(said.code(), 0, "{said:?}");
    assert!(fs::read(area.join("box.tar")).unwrap() == fs::read(area.join("out.tar")).unwrap(), "other bytes");
    assert!(area.join("box.tar").metadata().unwrap().len() < 14 << 20, "holes stay holes");
    assert_eq!(entries(&area, "box.tar").first().map(String::as_str), Some("./"));
    area.ok(["import", "-q", "box.tar", "exported:1"]);
    area.ok(["mount".as_ref(), "exported:1".as_ref(), point.as_os_str()]);
    let exported = Snapshot::of(&point).unwrap();
    area.ok(["umount".as_ref(), point.as_os_str()]);
    // Docker, too, exports the empty files that stand for what is mounted over them, and a file in /etc makes its time new.
    let runtime: [&[u8]; 4] = [b"etc", b"etc/hosts", b"etc/hostname", b"etc/resolv.conf"];
    let known = |mut tree: Snapshot| {
        tree.entries.retain(|path, _| !runtime.contains(&path.as_slice()));
        tree
    };
    let lines = tree::diff_ignoring(&known(exported), &known(truth), &[tree::Field::Nlink]);
    assert!(lines.is_empty(), "{}", lines.join("\n"));
    area.fails(["export", "nosuch"], 1);
}
