//! Archives that would fill memory or disk, or take for ever: each is refused in time, with a bounded amount of memory, and the
//! error names the limit, the layer and the entry. The figures are printed.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use micafs::digest::Digest;

use crate::area::Area;
use crate::area::Said;
use crate::area::finish;
use crate::support::Fixture;
use crate::support::fixture;
use crate::support::fixture::folder;
use crate::support::require_fixture;

/// No load of these takes more memory than this, in KiB: buffers, two layers at a time, and documents of a few MiB.
const MEMORY_MAX: u64 = 256 << 10;
/// And a real image less than this: it does not grow with the image.
const REAL_MAX: u64 = 96 << 10;
/// Nor longer than this on the slowest machine.
const TIME_MAX: Duration = Duration::from_secs(60);

/// Runs `mica ARGS`; what it said, and the most memory it had, in KiB, as the kernel counted it.
fn watched(area: &Area, args: &[&str]) -> (Said, u64) {
    with_time(area, &area.mica(args), &[])
}

/// Runs a command, behind the words `before`, by time(1), which asks the kernel when it ended: looking while it runs misses it when it
/// is quick.
fn with_time(area: &Area, command: &Command, before: &[&str]) -> (Said, u64) {
    let figure = area.join("peak");
    let mut timed = Command::new("time");
    timed.args(["-f", "%M", "-o"]).arg(&figure).args(before).arg(command.get_program()).args(command.get_args());
    timed.stdin(Stdio::null()).env_remove("MICA_ROOT").current_dir(area.join("."));
    let said = finish(&mut timed);
    let text = fs::read_to_string(&figure).expect("time(1) is installed by scripts/setup test");
    let peak = text.lines().last().and_then(|line| line.parse().ok()).expect("a number");
    assert!(peak > 1000, "no program has so little: {text}");
    (said, peak)
}

/// Loads what must be refused.
#[track_caller]
fn refused(area: &Area, what: &str, file: &Path, more: &[&str], words: &[&str]) {
    area.ok(["images"]);
    let before = area.store_files();
    let start = Instant::now();
    let (said, peak) = watched(area, &[&["load", "-q", "-i", file.to_str().expect("a path")], more].concat());
    let took = start.elapsed();
    assert_eq!(said.code(), 1, "{what}: {said:?}");
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

fn gzip9(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).expect("in memory");
    encoder.finish().expect("in memory")
}

fn bzip2(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
    encoder.write_all(bytes).expect("in memory");
    encoder.finish().expect("in memory")
}

fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 6);
    encoder.write_all(bytes).expect("in memory");
    encoder.finish().expect("in memory")
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).expect("in memory")
}

/// All ways to squeeze zeros, the weakest one first: 229, 1028, 6500 and more to one.
type Squeeze = fn(&[u8]) -> Vec<u8>;

const SQUEEZERS: [(&str, Squeeze); 5] =
    [("gzip -1", gzip), ("gzip -9", gzip9), ("xz", xz), ("zstd", zstd), ("bzip2", bzip2)];

/// One file `name` with 10 GiB of zeros as a tar, in some megabytes: members of the compressed stream, one behind the other.
fn bomb(name: &str, squeeze: fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let member = squeeze(&vec![0; 1 << 20]);
    let mut layer = squeeze(header(name, 10 << 30).as_bytes());
    (0..10 << 10).for_each(|_| layer.extend_from_slice(&member));
    layer
}

#[test]
fn compression_bombs() {
    let area = Area::new("bombs");
    let file = area.join("bomb.tar");
    for (how, squeeze) in SQUEEZERS {
        image_of(&file, &bomb("zeros/of/all/kinds", squeeze));
        let words = ["layer 1 of 1", "zeros/of/all/kinds", "--limit ratio="];
        // With the default ratio; only earlier, to be quick.
        refused(&area, &format!("10 GiB, {how}"), &file, &["--limit", "ratio-from=16m"], &words);
    }
    refused(&area, "10 GiB, by size", &file, &["--limit", "tar-size=64m"], &["layer 1 of 1", "--limit tar-size="]);
    let nested = gzip(&gzip(&gzip(&vec![0; 1 << 20])));
    image_of(&file, &nested);
    refused(&area, "gzip in gzip in gzip", &file, &[], &["layer 1 of 1"]);
}

#[test]
fn an_archive_that_is_a_bomb_as_a_whole() {
    let area = Area::new("outer");
    let file = area.join("bomb.tar");
    for (how, squeeze) in SQUEEZERS {
        // No image asks for the entry, so no limit of a layer sees it.
        fs::write(&file, bomb("in nobody's image", squeeze)).expect("written");
        let words = ["in nobody's image", "--limit ratio="];
        refused(&area, &format!("10 GiB outside, {how}"), &file, &["--limit", "ratio-from=16m"], &words);
    }
    let words = ["in nobody's image", "--limit archive-size="];
    refused(&area, "10 GiB outside, by size", &file, &["--limit", "archive-size=16m"], &words);
    // A layer that is not compressed itself, in an archive that is.
    let area = Area::new("import");
    fs::write(&file, bomb("zeros", gzip)).expect("written");
    let words: Vec<&str> = vec!["import", "--limit", "ratio-from=16m", file.to_str().expect("a path"), "x"];
    let (said, _) = watched(&area, &words);
    assert!(said.code() == 1 && said.err.contains("--limit ratio="), "{said:?}");
}

#[test]
fn layers_that_are_bombs_together() {
    let area = Area::new("together");
    let file = area.join("bomb.tar");
    // Each of 40 layers has 1 MiB, and nothing counts below 16.
    let tars: Vec<Vec<u8>> = (0..40)
        .map(|n| [header(&format!("zeros{n}"), 1 << 20).as_bytes().as_slice(), &vec![0; (1 << 20) + 1024]].concat())
        .collect();
    let layers: Vec<(String, Vec<u8>)> =
        tars.iter().enumerate().map(|(n, tar)| (format!("{n}.tar"), gzip9(tar))).collect();
    image_of_layers(&file, &tars, &layers);
    let words = ["limit ratio=100"];
    refused(&area, "40 layers of zeros", &file, &["--limit", "ratio-from=16m"], &words);
    area.ok(["load", "-q", "-i", file.to_str().expect("a path")]);
}

/// An archive of an image with these layers: their tars, and their files.
fn image_of_layers(path: &Path, tars: &[Vec<u8>], layers: &[(String, Vec<u8>)]) {
    let ids: Vec<String> = tars.iter().map(|tar| format!("\"{}\"", Digest::of(tar))).collect();
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
        ids.join(",")
    );
    let names: Vec<String> = layers.iter().map(|(name, _)| format!("\"{name}\"")).collect();
    let manifest = format!(r#"[{{"Config":"c.json","RepoTags":["many:1"],"Layers":[{}]}}]"#, names.join(","));
    let mut files: Vec<(&str, &[u8])> = vec![("manifest.json", manifest.as_bytes()), ("c.json", config.as_bytes())];
    files.extend(layers.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())));
    archive(path, &files);
}

/// Each layer that waits for its image's others held a descriptor once.
#[test]
fn many_layers_need_few_descriptors() {
    let area = Area::new("descriptors");
    let (file, packed) = (area.join("many.tar"), area.join("many.tar.gz"));
    let tars: Vec<Vec<u8>> =
        (0..200).map(|n| [header(&format!("file{n}"), 0).as_bytes().as_slice(), &[0; 1024]].concat()).collect();
    let layers: Vec<(String, Vec<u8>)> =
        tars.iter().enumerate().map(|(n, tar)| (format!("{n}.tar"), tar.clone())).collect();
    image_of_layers(&file, &tars, &layers);
    fs::write(&packed, gzip(&fs::read(&file).expect("written"))).expect("written");
    for file in [&file, &packed] {
        let load = area.mica(["load".as_ref(), "-q".as_ref(), "-i".as_ref(), file.as_os_str()]);
        let (said, peak) = with_time(&area, &load, &["prlimit", "--nofile=40:40"]);
        assert_eq!(said.code(), 0, "{said:?}");
        println!("200 layers with 40 descriptors: {peak} KiB");
        area.ok(["rmi", "many:1"]);
    }
}

/// A name of some KiB makes two thousand directories that no entry is for, and a symlink in a short one makes many more.
#[test]
fn directories_that_no_entry_is_for() {
    let area = Area::new("implied");
    let file = area.join("implied.tar");
    let long = |n: usize| {
        let name = format!("{n}/{}x", "d/".repeat(2000));
        let mut long = header("././@LongLink", name.len() as u64);
        long.set_entry_type(tar::EntryType::GNULongName);
        long.set_cksum();
        let padding = vec![0; 512 - name.len() % 512];
        [long.as_bytes(), name.as_bytes(), &padding, header("x", 0).as_bytes()].concat()
    };
    let layer: Vec<u8> = (0..1000).flat_map(long).collect();
    image_of(&file, &gzip(&layer));
    let words = ["layer 1 of 1", "--limit entries="];
    let few = ["--limit", "entries=300k"];
    refused(&area, "2 million implied directories", &file, &few, &words);
    let mut layer = Vec::new();
    for n in 0..3000 {
        let mut link = header(&format!("{n}"), 0);
        link.set_entry_type(tar::EntryType::Symlink);
        let target = if n == 0 { "d/".repeat(40) } else { format!("{}/{}", n - 1, "d/".repeat(40)) };
        link.set_link_name(&target).expect("a target");
        link.set_cksum();
        layer.extend_from_slice(link.as_bytes());
        layer.extend_from_slice(header(&format!("{n}/x"), 0).as_bytes());
        // Where it leads becomes a way of its own, so that no chain of symlinks is too long.
        layer.extend_from_slice(header(&format!("{n}/{}x", "e/".repeat(40)), 0).as_bytes());
    }
    image_of(&file, &gzip(&layer));
    refused(&area, "deeper and deeper by symlinks", &file, &[], &["layer 1 of 1"]);
}

/// Names, link targets and maps are held in memory until the layer's end.
#[test]
fn names_without_end() {
    let area = Area::new("names");
    let file = area.join("names.tar");
    let link = |n: usize| {
        let text = format!("{n:09}{}", "t".repeat(4000));
        let mut long = header("././@LongLink", text.len() as u64);
        long.set_entry_type(tar::EntryType::GNULongLink);
        long.set_cksum();
        let padding = vec![0; 512 - text.len() % 512];
        let mut link = header(&format!("link{n}"), 0);
        link.set_entry_type(tar::EntryType::Symlink);
        link.set_cksum();
        [long.as_bytes(), text.as_bytes(), &padding, link.as_bytes()].concat()
    };
    let layer: Vec<u8> = (0..20_000).flat_map(link).collect();
    image_of(&file, &gzip(&layer));
    let words = ["layer 1 of 1", "--limit index-size="];
    refused(&area, "80 MiB of link targets", &file, &["--limit", "index-size=32m"], &words);
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

/// A file with so many names is unusual, not hostile: it is taken, in steps and memory that grow with their number and no faster. 10^6 of
/// them with `MICA_BOMBS` in the environment.
#[test]
fn hard_links_without_end() {
    let area = Area::new("links");
    let file = area.join("links.tar");
    let layer_of = |count: usize| {
        let mut layer = [header("first", 1).as_bytes().as_slice(), b"x", &[0; 511]].concat();
        for n in 0..count {
            let mut link = header(&format!("d{}/l{n}", n / 1000), 0);
            link.set_entry_type(tar::EntryType::Link);
            link.set_link_name("first").expect("a target");
            link.set_cksum();
            layer.extend_from_slice(link.as_bytes());
        }
        layer.extend_from_slice(&[0; 1024]);
        layer
    };
    let mut peaks = Vec::new();
    let most = if std::env::var_os("MICA_BOMBS").is_some() { 1_000_000_usize } else { 100_000 };
    for count in [most / 10, most] {
        let tar = layer_of(count);
        image_of_layers(&file, std::slice::from_ref(&tar), &[("l.tar".to_owned(), gzip(&tar))]);
        // Two names on the way to each, and one to the file.
        let steps = format!("steps={}", 3 * count + 10);
        let start = Instant::now();
        let path = file.to_str().expect("a path");
        let (said, peak) = watched(&area, &["load", "-q", "-i", path, "--limit", &steps, "--limit", "ratio=1k"]);
        assert_eq!(said.code(), 0, "{said:?}");
        let took = start.elapsed();
        let entries = area.ok(["inspect", "-f", "{{range .Layers}}{{.Entries}} {{.Files}}{{end}}", "many:1"]);
        let index = area.ok(["inspect", "-f", "{{range .Layers}}{{.Index}}{{end}}", "many:1"]);
        let size = fs::metadata(index.trim()).expect("the index").len();
        println!("{count} hard links: {peak} KiB of memory, an index of {size} bytes, {:.1} s", took.as_secs_f32());
        assert_eq!(entries.split(' ').next(), Some((1 + count + count / 1000).to_string().as_str()), "{entries}");
        assert!(size < 64 * count as u64, "{size}");
        peaks.push(peak);
        area.ok(["check"]);
        area.ok(["rmi", "many:1"]);
    }
    assert!(peaks[1] < 12 * peaks[0], "{peaks:?}");
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
    // One config of some megabytes for as many images as there is room to name.
    let config = format!(
        r#"{{"architecture":"a","os":"linux","rootfs":{{"type":"layers","diff_ids":[]}},"x":"{}"}}"#,
        "x".repeat(7 << 20)
    );
    for (count, word) in [(200, "its documents take more than 32 MiB"), (50_000, "lists 50000 images")] {
        let items = vec![r#"{"Config":"c.json"}"#; count].join(",");
        archive(&file, &[("manifest.json", format!("[{items}]").as_bytes()), ("c.json", config.as_bytes())]);
        refused(&area, &format!("{count} images with one config of 7 MiB"), &file, &[], &[word]);
    }
    // A document that is a manifest and an index at once (CVE-2021-41190).
    let both =
        br#"{"schemaVersion":2,"config":{"mediaType":"x","digest":"sha256:0","size":1},"layers":[],"manifests":[]}"#;
    archive(&file, &[("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#), ("index.json", both)]);
    refused(&area, "manifest and index in one", &file, &[], &["documents.tar"]);
}

#[test]
fn a_real_image_takes_a_bounded_amount_of_memory() {
    let debian = require_fixture!("debian");
    loads_in_bounds(&debian, "debian", &["docker.tar", "oci.tar.gz"]);
    // Of 646 MB in eight layers: made for measuring, not for every run.
    if folder().join("deb-app.ok").exists() {
        let large = fixture("deb-app").expect("it is there");
        loads_in_bounds(&large, "deb-app", &["docker.tar", "oci.tar.gz"]);
    } else {
        println!("deb-app: not measured, scripts/fixtures deb-app makes it");
    }
}

fn loads_in_bounds(fixture: &Fixture, name: &str, endings: &[&str]) {
    for ending in endings {
        let area = Area::new("memory");
        let file = fixture.file(ending);
        let size = file.metadata().expect("the fixture").len() >> 20;
        let (said, peak) = watched(&area, &["load", "-q", "-i", file.to_str().expect("a path")]);
        assert_eq!(said.code(), 0, "{said:?}");
        assert!(peak < REAL_MAX, "{peak} KiB");
        println!("{name}.{ending} of {size} MiB: loaded with {peak} KiB of memory");
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
    let said = area.fails(["load".as_ref(), "-i".as_ref(), file.as_os_str()], 1);
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
