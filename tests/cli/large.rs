//! Large files of an image that a container changes in a few places: copied up block by block, and right wherever they are looked at.

use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use crate::area::Area;
use crate::container::start;
use crate::support::require_fixture;
use crate::support::require_root;

const SIZE: usize = (8 << 20) + 99;

fn content() -> Vec<u8> {
    (0..SIZE).map(content_at).collect()
}

/// An image `big:1` with `/data`, made by a container.
fn with_big_image(label: &str, fixture: &crate::support::Fixture) -> Area {
    let area = Area::with(label, fixture);
    fs::write(area.join("data"), content()).unwrap();
    let volume = format!("{}:/in", area.join("").display());
    area.ok(["run", "--name", "make", "-v", &volume, &fixture.image(), "cp", "/in/data", "/data"]);
    area.ok(["commit", "make", "big:1"]);
    area.ok(["rm", "make"]);
    area
}

fn upper_of(area: &Area, name: &str) -> PathBuf {
    let all = area.ok(["ps", "-a", "--no-trunc", "--format", "{{.Names}} {{.ID}}"]);
    let id = all.lines().find_map(|l| l.strip_prefix(&format!("{name} "))).expect("a container").to_owned();
    area.store().join("containers").join(id).join("upper")
}

fn exported(area: &Area, name: &str) -> Vec<u8> {
    area.ok(["export", "-o", "all.tar", name]);
    let mut archive = tar::Archive::new(fs::File::open(area.join("all.tar")).unwrap());
    let mut entries = archive.entries().unwrap().map(Result::unwrap);
    let mut entry = entries.find(|e| e.path().unwrap().to_string_lossy() == "data").expect("/data");
    let mut text = Vec::new();
    entry.read_to_end(&mut text).unwrap();
    text
}

#[test]
fn one_that_is_appended_to_takes_one_block_and_shows_whole_everywhere() {
    require_root!();
    let area = with_big_image("large", &require_fixture!("busybox"));
    let mut model = content();
    let script = "printf tail >>/data; printf mid | dd of=/data bs=1 seek=3000000 conv=notrunc 2>/dev/null; chmod 600 /etc/passwd";
    area.ok(["run", "--name", "grown", "big:1", "sh", "-c", script]);
    model.extend_from_slice(b"tail");
    model[3_000_000..3_000_003].copy_from_slice(b"mid");
    let own = upper_of(&area, "grown").join("data");
    let taken = fs::metadata(&own).unwrap().blocks() * 512;
    assert!(taken <= 3 * (128 << 10), "{taken} bytes in upper");
    assert!(exported(&area, "grown") == model, "exported");
    assert!(area.ok(["show", "grown:/data"]).as_bytes() == model, "shown");
    let text = area.ok(["explain", "grown", "/data"]);
    assert!(text.contains("2 blocks of 128 KiB"), "{text}");
    let json: serde_json::Value = serde_json::from_str(&area.ok(["explain", "--json", "grown", "/data"])).unwrap();
    assert!(json.to_string().contains("\"blocks\":2"), "{json}");
    let diff = area.ok(["diff", "grown"]);
    assert!(diff.lines().any(|l| l == "C /data") && diff.contains("C /etc/passwd"), "{diff}");
    assert_eq!(
        area.ok(["check", upper_of(&area, "grown").to_str().unwrap()]).lines().count(),
        1,
        "nothing is wrong with it"
    );
    area.ok(["commit", "grown", "big:2"]);
    assert!(area.ok(["run", "--rm", "big:2", "cat", "/data"]).as_bytes() == model, "committed");
    assert_eq!(area.ok(["run", "--rm", "big:2", "stat", "-c", "%a", "/etc/passwd"]), "600\n");
    assert!(fs::read(&own).unwrap() == model, "a commit makes it whole");
    area.ok(["rm", "grown"]);
}

/// A commit of a container that runs finds what is moved below meanwhile: never a file of zeros.
#[test]
fn a_commit_beside_changes_of_attributes_and_blocks_has_their_content() {
    require_root!();
    let area = with_big_image("racing", &require_fixture!("busybox"));
    let script =
        "mkdir /t /m; printf moved >/m/f; i=0; while [ $i -lt 300 ]; do printf '%0200d' 7 >/t/f$i; i=$((i+1)); done";
    area.ok(["run", "--name", "many", "big:1", "sh", "-c", script]);
    area.ok(["commit", "many", "many:1"]);
    area.ok(["rm", "many"]);
    // Changes of attributes, of names and of a block, all the time, each to what is still in the layers.
    let busy = "(i=0; while [ $i -lt 300 ]; do chmod 600 /t/f$i; sleep 0.003; i=$((i+1)); done) & \
                (sleep 0.3; printf x | dd of=/data bs=1 seek=5000000 conv=notrunc 2>/dev/null; mv /m /n) &";
    let running = start(&area, "busy", "many:1", busy);
    for round in 0..8 {
        let name = format!("snap:{round}");
        area.ok(["commit", "busy", &name]);
        // A name that is moved while it is committed is copied and removed by mv: it may be there twice.
        let check = "for f in /t/f*; do [ \"$(cat $f)\" = \"$(printf '%0200d' 7)\" ] || echo content $f; done; \
                     cat /m/f /n/f 2>/dev/null | grep -q moved || echo none";
        assert_eq!(area.ok(["run", "--rm", &name, "sh", "-c", check]), "", "round {round}");
        let data = area.ok(["run", "--rm", &name, "cat", "/data"]);
        let other: Vec<usize> = (0..SIZE).filter(|i| data.as_bytes()[*i] != content_at(*i)).collect();
        assert!(other.is_empty() || other == [5_000_000], "round {round}: {} bytes differ", other.len());
    }
    area.ok(["rm", "-f", "busy"]);
    drop(running);
}

/// Text, as the commands' output is read as such.
fn content_at(i: usize) -> u8 {
    (i / 1000 % 64) as u8 + b'0'
}
