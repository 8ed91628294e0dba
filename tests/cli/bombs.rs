//! Archives that would fill memory or disk, or take for ever: each is refused in time, with a bounded amount of memory, and the
//! error names the limit, the layer and the entry. The figures are printed.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use crate::area::Area;
use crate::area::Said;
use crate::area::Started;
use crate::support::require_fixture;

/// No load of these takes more memory than this, in KiB: buffers, two layers at a time, and documents of a few MiB.
const MEMORY_MAX: u64 = 256 << 10;
/// Nor longer than this on the slowest machine.
const TIME_MAX: Duration = Duration::from_secs(60);

/// Runs `mica ARGS` and watches the most memory it has had, in KiB.
fn watched(area: &Area, args: &[&str]) -> (Said, u64) {
    let started = Started::new(&mut area.mica(args));
    let status = PathBuf::from(format!("/proc/{}/status", started.pid()));
    let mut peak = 0;
    // The kernel keeps the highest value; it is gone with the process, so the last look counts.
    while let Some(now) = high_water(&status) {
        peak = now;
        std::thread::sleep(Duration::from_millis(2));
    }
    (started.finish(), peak)
}

fn high_water(status: &Path) -> Option<u64> {
    let text = fs::read_to_string(status).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Loads what must be refused.
#[track_caller]
fn refused(area: &Area, what: &str, file: &Path, more: &[&str], words: &[&str]) {
    area.ok(["images"]);
    let before = area.store_files();
    let start = Instant::now();
    let (said, peak) = watched(area, &[&["load", "-q", "-i", file.to_str().expect("a path")], more].concat());
    let took = start.elapsed();
    assert_eq!(said.code(), 125, "{what}: {said:?}");
    for word in words {
        assert!(said.err.contains(word), "{what}: no word of '{word}': {}", said.err);
    }
    assert!(peak < MEMORY_MAX, "{what}: {peak} KiB");
    assert!(took < TIME_MAX, "{what}: {took:?}");
    assert_eq!(area.store_files(), before, "{what}: left in the store");
    println!("{what}: refused with {peak} KiB of memory in {:.1} s", took.as_secs_f32());
}

fn header(name: &str, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_path(name).expect("a name");
    header.set_size(size);
    header.set_mode(0o644);
    header.set_cksum();
    header
}

/// A docker archive of these files.
fn archive(path: &Path, files: &[(&str, &[u8])]) {
    let mut tar = tar::Builder::new(fs::File::create(path).expect("a file"));
    for (name, bytes) in files {
        tar.append(&header(name, bytes.len() as u64), *bytes).expect("written");
    }
    tar.finish().expect("written");
}

fn image_of(path: &Path, layer: &[u8]) {
    let id = "0".repeat(64);
    let config =
        format!(r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["sha256:{id}"]}}}}"#);
    let manifest = br#"[{"Config":"c.json","RepoTags":["bomb:1"],"Layers":["l.tar"]}]"#;
    archive(path, &[("manifest.json", manifest), ("c.json", config.as_bytes()), ("l.tar", layer)]);
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("in memory");
    encoder.finish().expect("in memory")
}

/// A layer of one file with 10 GiB of zeros, in some megabytes: members of the compressed stream, one behind the other.
fn bomb(squeeze: fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let member = squeeze(&vec![0; 16 << 20]);
    let mut layer = squeeze(header("zeros/of/all/kinds", 640 * (16 << 20)).as_bytes());
    (0..640).for_each(|_| layer.extend_from_slice(&member));
    layer
}

#[test]
fn compression_bombs() {
    let area = Area::new("bombs");
    let file = area.join("bomb.tar");
    let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 1).expect("in memory");
    for (what, layer) in [("10 GiB in gzip", bomb(gzip)), ("10 GiB in zstd", bomb(zstd))] {
        image_of(&file, &layer);
        let words = ["layer 1 of 1", "zeros/of/all/kinds", "--limit ratio="];
        refused(&area, what, &file, &["--limit", "ratio-from=64m", "--limit", "ratio=50"], &words);
        refused(&area, what, &file, &["--limit", "tar-size=64m"], &["layer 1 of 1", "--limit tar-size="]);
    }
    let nested = gzip(&gzip(&gzip(&vec![0; 1 << 20])));
    image_of(&file, &nested);
    refused(&area, "gzip in gzip in gzip", &file, &[], &["layer 1 of 1"]);
}

#[test]
fn entries_without_end() {
    let area = Area::new("entries");
    let file = area.join("many.tar");
    let block: Vec<u8> = (0..2048).flat_map(|n| header(&format!("d/{n}"), 0).as_bytes().to_vec()).collect();
    let member = gzip(&block);
    let layer: Vec<u8> = (0..5000).flat_map(|_| member.clone()).collect();
    image_of(&file, &layer);
    let words = ["layer 1 of 1", "entry 'd/", "--limit entries="];
    refused(&area, "10^7 entries", &file, &["--limit", "entries=300k", "--limit", "ratio=100k"], &words);
}

#[test]
fn documents_without_end() {
    let area = Area::new("documents");
    let file = area.join("documents.tar");
    let config = br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#;
    let many = |count: usize| {
        let layers = vec![r#""l.tar""#; count].join(",");
        format!(r#"[{{"Config":"c.json","RepoTags":null,"Layers":[{layers}]}}]"#).into_bytes()
    };
    let cases: [(&str, Vec<u8>); 6] = [
        ("a manifest of 100 MiB", [b"[".to_vec(), vec![b' '; 100 << 20], b"]".to_vec()].concat()),
        ("a text of 100 MiB", [b"[\"".to_vec(), vec![b'x'; 100 << 20], b"\"]".to_vec()].concat()),
        ("10^6 layers", many(1_000_000)),
        ("1001 layers", many(1001)),
        ("a depth of 10^5", b"[".repeat(100_000)),
        ("objects to a depth of 10^5", br#"{"a":"#.repeat(100_000)),
    ];
    for (what, manifest) in cases {
        archive(&file, &[("manifest.json", &manifest), ("c.json", config), ("l.tar", b"")]);
        refused(&area, what, &file, &[], &["documents.tar"]);
        let index = manifest;
        archive(&file, &[("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#), ("index.json", &index)]);
        refused(&area, &format!("{what}, as an index"), &file, &[], &["documents.tar"]);
    }
    for (what, config) in [
        (
            "more diff ids than layers",
            format!(
                r#"{{"architecture":"a","os":"linux","rootfs":{{"type":"layers","diff_ids":["sha256:{0}","sha256:{0}"]}}}}"#,
                "0".repeat(64)
            ),
        ),
        (
            "duplicate keys",
            format!(
                r#"{{"rootfs":{{"type":"layers","diff_ids":[]}},"rootfs":{{"type":"layers","diff_ids":["sha256:{}"]}}}}"#,
                "0".repeat(64)
            ),
        ),
        ("a config of 100 MiB", " ".repeat(100 << 20)),
    ] {
        archive(&file, &[("manifest.json", &many(1)), ("c.json", config.as_bytes()), ("l.tar", b"")]);
        refused(&area, what, &file, &[], &["documents.tar"]);
    }
    // A document that is a manifest and an index at once (CVE-2021-41190).
    let both =
        br#"{"schemaVersion":2,"config":{"mediaType":"x","digest":"sha256:0","size":1},"layers":[],"manifests":[]}"#;
    archive(&file, &[("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#), ("index.json", both)]);
    refused(&area, "manifest and index in one", &file, &[], &["documents.tar"]);
}

#[test]
fn a_real_image_takes_a_bounded_amount_of_memory() {
    let fixture = require_fixture!("debian");
    for ending in ["docker.tar", "oci.tar.gz"] {
        let area = Area::new("memory");
        let file = fixture.file(ending);
        let size = file.metadata().expect("the fixture").len() >> 20;
        let (said, peak) = watched(&area, &["load", "-q", "-i", file.to_str().expect("a path")]);
        assert_eq!(said.code(), 0, "{said:?}");
        assert!(peak < MEMORY_MAX, "{peak} KiB");
        println!("{ending} of {size} MiB: loaded with {peak} KiB of memory");
    }
}

#[test]
fn names_with_control_characters_are_shown_escaped() {
    let area = Area::new("escapes");
    let file = area.join("escapes.tar");
    let mut layer = tar::Builder::new(Vec::new());
    let mut bad = header("x", 0);
    bad.as_mut_bytes()[..12].copy_from_slice(b"a/../\x1b[31mev");
    bad.set_cksum();
    layer.append(&bad, &[][..]).expect("in memory");
    image_of(&file, &layer.into_inner().expect("in memory"));
    let said = area.fails(["load".as_ref(), "-i".as_ref(), file.as_os_str()], 125);
    assert!(!said.contains('\x1b') && said.contains("\\x1b[31m"), "{said:?}");
}

#[test]
fn limits_have_names() {
    let area = Area::new("limit-names");
    let said = area.said(["load", "--limit", "nosuch=1"]);
    assert!(said.code() == 125 && said.err.contains("no limit of that name"), "{said:?}");
    let said = area.said(["load", "--limit", "ratio=x"]);
    assert!(said.code() == 125 && said.err.contains("no number"), "{said:?}");
    let help = area.ok(["load", "--help"]);
    for name in micafs::image::limits::Limits::names() {
        assert!(help.contains(name), "{name} is not in the help");
    }
}
