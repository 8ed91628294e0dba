//! Archives of all shapes, honest and hostile, read by an importer that keeps nothing.

use std::io::Cursor;
use std::io::Read;
use std::io::Write;
use std::os::fd::OwnedFd;

use parking_lot::Mutex;

use super::source::TarFile;
use super::*;
use crate::image::limits::Limits;
use crate::path::Name;

/// Takes plain layers; the layer's bytes are its diff id and its blob.
#[derive(Default)]
struct Fake {
    present: Vec<Digest>,
    skipped: Mutex<Vec<String>>,
}

impl Importer for Fake {
    type Layer = u64;

    fn present(&self, diff_id: &Digest) -> bool {
        self.present.contains(diff_id)
    }

    fn known_blob(&self, _: &Digest) -> Option<Digest> {
        None
    }

    fn skipped(&self, wanted: &Wanted<'_>) {
        self.skipped.lock().push(wanted.name.to_owned());
    }

    fn import(&self, input: &mut (dyn Read + Send), _: &Wanted<'_>) -> Result<Taken<u64>, ImportError> {
        let mut bytes = Vec::new();
        input.read_to_end(&mut bytes).map_err(|e| ImportError::Layer(Box::new(e)))?;
        let digest = Digest::of(&bytes);
        let size = bytes.len() as u64;
        Ok(Taken { diff_id: digest, blob: Some(digest), blob_size: size, layer: size })
    }
}

/// One entry of an archive under test.
enum Put<'a> {
    File(&'a str, &'a [u8]),
    Symlink(&'a str, &'a str),
}
use Put::File;
use Put::Symlink;

fn archive(entries: &[Put<'_>]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for entry in entries {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        let (name, data) = match entry {
            File(name, data) => (*name, *data),
            Symlink(name, target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_link_name_literal(target).unwrap();
                (*name, &[][..])
            }
        };
        header.set_size(data.len() as u64);
        // Names that no honest tar has are written as they are.
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        tar.append(&header, data).unwrap();
    }
    tar.into_inner().unwrap()
}

fn file_of(bytes: &[u8]) -> OwnedFd {
    let dir = crate::sys::open::dir_path(&std::env::temp_dir()).unwrap();
    let name = format!("mica-archive-test-{}", crate::digest::hex_of(&crate::env::random::<8>().unwrap()));
    let name = Name::new(name.as_bytes()).unwrap();
    let fd = crate::sys::open::create_at(&dir, name, 0o600).unwrap();
    crate::sys::name::unlink(&dir, name).unwrap();
    crate::sys::data::write_all_at(&fd, bytes, 0).unwrap();
    fd
}

/// Reads an archive as a file, by one and by two workers, as a pipe, and as a file that is compressed; all must agree.
fn read(bytes: &[u8]) -> Result<Contents<u64>, Error> {
    let as_file = |threads| load(&TarFile::open(file_of(bytes), 0)?, &Fake::default(), &Machine::Host, threads);
    let (one, two) = (as_file(1), as_file(2));
    let pipe = stream::load(Cursor::new(bytes), &Fake::default(), &Machine::Host, &Limits::default());
    let ids = |result: &Result<Contents<u64>, Error>| {
        result.as_ref().ok().map(|contents| {
            let mut layers: Vec<Digest> = contents.layers.iter().map(|layer| layer.diff_id).collect();
            layers.sort();
            (contents.images.iter().map(|image| (image.id, image.names.clone())).collect::<Vec<_>>(), layers)
        })
    };
    assert_eq!(ids(&one), ids(&two), "one and two workers: {one:?} {two:?}");
    assert_eq!(ids(&one), ids(&pipe), "file and pipe: {one:?} {pipe:?}");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(bytes).unwrap();
    let packed = gzip.finish().unwrap();
    let packed = stream::load_file(&packed[..], &Fake::default(), &Machine::Host, &Limits::default());
    assert_eq!(ids(&packed), ids(&pipe), "compressed: {packed:?} {pipe:?}");
    let why = |result: &Result<Contents<u64>, Error>| result.as_ref().err().map(ToString::to_string);
    // An empty one is told of before anything is taken off.
    assert!(bytes.is_empty() || why(&packed) == why(&pipe), "{packed:?} {pipe:?}");
    one
}

const LAYER: &[u8] = b"layer one, not looked into here";
const UPPER: &[u8] = b"layer two";

fn config(layers: &[&[u8]]) -> Vec<u8> {
    let ids: Vec<String> = layers.iter().map(|layer| format!("\"{}\"", Digest::of(layer))).collect();
    format!(r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#, ids.join(","))
        .into_bytes()
}

fn docker_manifest(config: &str, tags: &str, layers: &str) -> Vec<u8> {
    format!(r#"[{{"Config":"{config}","RepoTags":{tags},"Layers":[{layers}]}}]"#).into_bytes()
}

fn error(bytes: &[u8]) -> String {
    let text = read(bytes).expect_err("must be refused").to_string();
    assert!(!text.contains('\n'), "one line: {text:?}");
    text
}

#[test]
fn docker_archives_are_read_in_any_order() {
    let config = config(&[LAYER, UPPER, LAYER]);
    let manifest = docker_manifest("c.json", r#"["a:1","b/c:2"]"#, r#""1/layer.tar","2/layer.tar","3/layer.tar""#);
    let mut entries = vec![
        File("manifest.json", &manifest),
        File("c.json", &config),
        File("1/layer.tar", LAYER),
        File("./2/layer.tar", UPPER),
        Symlink("3/layer.tar", "../1/layer.tar"),
        File("repositories", b"{}"),
        File("1/VERSION", b"1.0"),
    ];
    for _ in 0..entries.len() {
        entries.rotate_left(1);
        let contents = read(&archive(&entries)).unwrap();
        assert_eq!(contents.layers.len(), 2, "the layer that is there twice is taken once");
        let [image] = contents.images.as_slice() else { panic!("one image") };
        assert_eq!(image.id, Digest::of(&config));
        assert_eq!(image.names.iter().map(ToString::to_string).collect::<Vec<_>>(), ["a:1", "b/c:2"]);
    }
}

#[test]
fn compressed_archives_are_read() {
    let config = config(&[LAYER]);
    let manifest = docker_manifest("c.json", "null", r#""l.tar""#);
    let plain = archive(&[File("l.tar", LAYER), File("c.json", &config), File("manifest.json", &manifest)]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bzip2.write_all(&plain).unwrap();
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
    xz.write_all(&plain).unwrap();
    let zstd = zstd::encode_all(&plain[..], 1).unwrap();
    for packed in [gzip.finish().unwrap(), zstd, bzip2.finish().unwrap(), xz.finish().unwrap()] {
        assert!(stream::is_compressed(&packed));
        let contents =
            stream::load(Cursor::new(&packed), &Fake::default(), &Machine::Host, &Limits::default()).unwrap();
        assert!(contents.images[0].names.is_empty());
        for cut in [packed.len() / 4, packed.len() / 2, packed.len() - 1] {
            assert!(
                stream::load(Cursor::new(&packed[..cut]), &Fake::default(), &Machine::Host, &Limits::default())
                    .is_err(),
                "cut at {cut}"
            );
        }
    }
    assert!(!stream::is_compressed(&plain));
}

#[test]
fn a_cut_archive_is_an_error_at_every_border() {
    let config = config(&[LAYER]);
    let manifest = docker_manifest("c.json", "[]", r#""l.tar""#);
    let bytes = archive(&[File("l.tar", LAYER), File("c.json", &config), File("manifest.json", &manifest)]);
    // The last content ends two blocks of end mark before the end.
    for cut in (0..bytes.len() - 1024 - 511).step_by(256) {
        error(&bytes[..cut]);
    }
    assert!(read(&bytes).is_ok());
}

#[test]
fn a_layer_that_is_there_is_not_read() {
    let config = config(&[LAYER]);
    let name = format!("{}.tar", Digest::of(LAYER).hex());
    let manifest = docker_manifest("c.json", "[]", &format!("\"{name}\""));
    // The bytes are wrong on purpose: nobody may look at them.
    let bytes = archive(&[File(&name, b"wrong"), File("c.json", &config), File("manifest.json", &manifest)]);
    let fake = || Fake { present: vec![Digest::of(LAYER)], ..Fake::default() };
    let file = fake();
    assert!(load(&TarFile::open(file_of(&bytes), 0).unwrap(), &file, &Machine::Host, 1).unwrap().layers.is_empty());
    assert_eq!(*file.skipped.lock(), std::slice::from_ref(&name));
    let pipe = fake();
    assert!(stream::load(Cursor::new(&bytes), &pipe, &Machine::Host, &Limits::default()).unwrap().layers.is_empty());
    assert_eq!(pipe.skipped.into_inner(), [name]);
}

#[test]
fn wrong_digests_name_both() {
    let config = config(&[UPPER]);
    let manifest = docker_manifest("c.json", "[]", r#""l.tar""#);
    let text = error(&archive(&[File("l.tar", LAYER), File("c.json", &config), File("manifest.json", &manifest)]));
    for part in ["layer 1 of 1".to_owned(), Digest::of(LAYER).to_string(), Digest::of(UPPER).to_string()] {
        assert!(text.contains(&part), "{text}");
    }
    let named = format!("{}.json", Digest::of(b"other").hex());
    let manifest = docker_manifest(&named, "[]", r#""l.tar""#);
    let text = error(&archive(&[File("l.tar", UPPER), File(&named, &config), File("manifest.json", &manifest)]));
    assert!(text.contains("does not match its digest"), "{text}");
}

#[test]
fn hostile_docker_archives_are_refused() {
    let config = config(&[LAYER]);
    let with = |manifest: &[u8]| {
        archive(&[File("l.tar", LAYER), File("c.json", &config), File("../x", LAYER), File("manifest.json", manifest)])
    };
    for manifest in [
        docker_manifest("../c.json", "[]", r#""l.tar""#),
        docker_manifest("/etc/passwd", "[]", r#""l.tar""#),
        docker_manifest("c.json", "[]", r#""../x""#),
        docker_manifest("c.json", "[]", r#""/dev/zero""#),
        docker_manifest("c.json", "[]", r#""missing""#),
        docker_manifest("c.json", "[]", ""),
        docker_manifest("c.json", "[]", r#""l.tar","l.tar""#),
        docker_manifest("c.json", r#"["../../x"]"#, r#""l.tar""#),
        docker_manifest("c.json", r#"["Upper"]"#, r#""l.tar""#),
        docker_manifest("l.tar", "[]", r#""l.tar""#),
        docker_manifest("c.json", "[]", r#""c.json""#),
        b"[]".to_vec(),
        b"{}".to_vec(),
        b"[".repeat(100_000),
        b"[{\"Config\":1}]".to_vec(),
        [b"[", " ".repeat(5 << 20).as_bytes(), b"]"].concat(),
    ] {
        error(&with(&manifest));
    }
    let loops = docker_manifest("c.json", "[]", r#""a""#);
    error(&archive(&[Symlink("a", "b"), Symlink("b", "a"), File("c.json", &config), File("manifest.json", &loops)]));
    error(&archive(&[Symlink("a", "/etc/passwd"), File("c.json", &config), File("manifest.json", &loops)]));
    error(&archive(&[Symlink("a", "../../l.tar"), File("c.json", &config), File("manifest.json", &loops)]));
}

/// All of them are held: this one, compressed, would be a thousandth of what it takes.
#[test]
fn an_archive_of_long_names_is_refused() {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    for n in 0..2500 {
        tar.append_link(&mut header, format!("{n}/{}", "n/".repeat(1900)), "t/".repeat(1900)).unwrap();
    }
    let text = error(&tar.into_inner().unwrap());
    assert!(text.contains("the names in it take more than 16 MiB"), "{text}");
}

/// The files of an OCI layout with one image.
struct Layout {
    files: Vec<(String, Vec<u8>)>,
    manifest: Digest,
}

impl Layout {
    fn new(layer_size: usize, media_type: &str) -> Self {
        let config = config(&[LAYER]);
        let (config_id, layer_id) = (Digest::of(&config), Digest::of(LAYER));
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{media_type}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config_id}","size":{}}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{layer_id}","size":{layer_size}}}]}}"#,
            config.len()
        );
        let manifest = manifest.into_bytes();
        let mut layout = Self { files: Vec::new(), manifest: Digest::of(&manifest) };
        layout.blob(LAYER);
        layout.blob(&config);
        layout.blob(&manifest);
        layout
    }

    fn blob(&mut self, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        self.files.push((blob_name(&digest), bytes.to_vec()));
        digest
    }

    fn entry(&self, digest: &Digest, media_type: &str, rest: &str) -> String {
        let size = self.files.iter().find(|(name, _)| *name == blob_name(digest)).map_or(1, |(_, bytes)| bytes.len());
        format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":{size}{rest}}}"#)
    }

    fn archive(&self, entries: &[String]) -> Vec<u8> {
        let index = index(entries);
        let mut puts: Vec<Put<'_>> = self.files.iter().map(|(name, bytes)| File(name, bytes)).collect();
        puts.push(File("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#));
        puts.push(File("index.json", &index));
        archive(&puts)
    }
}

fn index(entries: &[String]) -> Vec<u8> {
    format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entries.join(",")).into_bytes()
}

const MANIFEST: &str = crate::image::manifest::media_type::OCI_MANIFEST;
const INDEX: &str = crate::image::manifest::media_type::OCI_INDEX;

#[test]
fn oci_layouts_are_read() {
    let layout = Layout::new(LAYER.len(), MANIFEST);
    let named = r#","annotations":{"org.opencontainers.image.ref.name":"docker.io/library/x:1"}"#;
    let other = r#","annotations":{"org.opencontainers.image.ref.name":"y"}"#;
    let entries = [layout.entry(&layout.manifest, MANIFEST, named), layout.entry(&layout.manifest, MANIFEST, other)];
    let contents = read(&layout.archive(&entries)).unwrap();
    let [image] = contents.images.as_slice() else { panic!("two names of one image") };
    assert_eq!(image.names.iter().map(ToString::to_string).collect::<Vec<_>>(), ["x:1", "y:latest"]);
    assert_eq!(Digest::of(image.manifest.as_ref().unwrap()), layout.manifest);
}

#[test]
fn a_layout_beside_a_docker_archive_keeps_its_manifest() {
    let layout = Layout::new(LAYER.len(), MANIFEST);
    let (config_id, layer) = (Digest::of(&config(&[LAYER])), blob_name(&Digest::of(LAYER)));
    let docker = |layer: &str| docker_manifest(&blob_name(&config_id), r#"["x:1"]"#, &format!("\"{layer}\""));
    let read = |index: &[u8], docker: &[u8]| {
        let mut puts: Vec<Put<'_>> = layout.files.iter().map(|(name, bytes)| File(name, bytes)).collect();
        puts.extend([File("other.tar", LAYER), File("index.json", index), File("manifest.json", docker)]);
        let mut found = Vec::new();
        for _ in 0..puts.len() {
            puts.rotate_left(1);
            let contents = read(&archive(&puts)).unwrap();
            assert_eq!(contents.images[0].names[0].to_string(), "x:1", "manifest.json decides");
            found.push(contents.images[0].manifest.as_deref().map(Digest::of));
        }
        found.dedup();
        assert_eq!(found.len(), 1, "in whatever order they come");
        found[0]
    };
    let only_tag = r#","annotations":{"org.opencontainers.image.ref.name":"1"}"#;
    let entry = |rest: &str| layout.entry(&layout.manifest, MANIFEST, rest);
    let good = index(&[entry(only_tag)]);
    assert_eq!(read(&good, &docker(&layer)), Some(layout.manifest));
    // Another file of the layer than the manifest's; a layout about something else, damaged, or hostile: all as without one.
    assert_eq!(read(&good, &docker("other.tar")), None);
    let missing = layout.entry(&Digest::of(b"missing"), MANIFEST, "");
    assert_eq!(read(&index(&[missing.clone(), entry("")]), &docker(&layer)), Some(layout.manifest), "one of two");
    for odd in
        [&b"{"[..], b"[]", &index(&[]), &index(&[missing]), &index(&[entry("").replace("\"size\":", "\"size\":1")])]
    {
        assert_eq!(read(odd, &docker(&layer)), None, "{}", String::from_utf8_lossy(odd));
    }
}

#[test]
fn the_platform_of_this_machine_is_chosen() {
    let mut layout = Layout::new(LAYER.len(), MANIFEST);
    let host = Platform::host();
    let platform = |arch: &str| format!(r#","platform":{{"os":"linux","architecture":"{arch}"}}"#);
    let missing = Digest::of(b"an image that is not in the layout");
    let ours = layout.entry(&layout.manifest, MANIFEST, &platform(&host.architecture));
    let foreign = layout.entry(&missing, MANIFEST, &platform("mips"));
    let nested = layout.blob(&index(&[foreign.clone(), ours.clone()]));
    assert!(read(&layout.archive(&[foreign.clone(), ours])).is_ok());
    assert!(read(&layout.archive(&[layout.entry(&nested, INDEX, "")])).is_ok());
    let text = error(&layout.archive(&[foreign.clone(), foreign]));
    assert!(text.contains("linux/mips"), "{text}");
}

#[test]
fn hostile_layouts_are_refused() {
    let layout = Layout::new(LAYER.len(), MANIFEST);
    let entry = |media_type: &str| layout.entry(&layout.manifest, media_type, "");
    assert!(read(&layout.archive(&[entry(MANIFEST)])).is_ok());
    error(&layout.archive(&[entry(INDEX)]));
    error(&layout.archive(&[entry("text/plain")]));
    error(&layout.archive(&[]));
    error(&layout.archive(&[layout.entry(&Digest::of(b"missing"), MANIFEST, "")]));
    let ref_name = r#","annotations":{"org.opencontainers.image.ref.name":"../x"}"#;
    error(&layout.archive(&[layout.entry(&layout.manifest, MANIFEST, ref_name)]));
    error(&layout.archive(&[entry(MANIFEST).replace("sha256:", "sha256:../")]));
    error(&layout.archive(&[entry(MANIFEST).replace("\"size\":", "\"size\":1")]));
    for wrong in [Layout::new(LAYER.len() + 1, MANIFEST), Layout::new(0, MANIFEST), Layout::new(1 << 40, MANIFEST)] {
        error(&wrong.archive(&[wrong.entry(&wrong.manifest, MANIFEST, "")]));
    }
    for at in 0..3 {
        let mut changed = Layout::new(LAYER.len(), MANIFEST);
        changed.files[at].1[3] ^= 1;
        error(&changed.archive(&[changed.entry(&changed.manifest, MANIFEST, "")]));
    }
    // A digest cannot point to itself, but an index can be deeper than anyone needs.
    let mut deep = Layout::new(LAYER.len(), MANIFEST);
    let mut top = deep.manifest;
    let mut media_type = MANIFEST;
    for _ in 0..8 {
        let entry = deep.entry(&top, media_type, "");
        top = deep.blob(&index(&[entry]));
        media_type = INDEX;
    }
    error(&deep.archive(&[deep.entry(&top, INDEX, "")]));
}

#[test]
fn what_is_no_archive_is_refused() {
    for bytes in [&b""[..], b"hello", &[0; 512], &[0; 4096], &[0xff; 4096], b"{}", &archive(&[File("a", b"b")])] {
        error(bytes);
    }
    for magic in [&b"PK\x03\x04.."[..], b"LZIP\x01."] {
        let e = stream::load(
            Cursor::new([magic, &[0; 600]].concat()),
            &Fake::default(),
            &Machine::Host,
            &Limits::default(),
        )
        .unwrap_err();
        assert!(e.to_string().contains("not supported"), "{e}");
    }
}

#[test]
fn a_failed_store_ends_the_load() {
    struct Full;
    impl Importer for Full {
        type Layer = ();
        fn present(&self, _: &Digest) -> bool {
            false
        }
        fn known_blob(&self, _: &Digest) -> Option<Digest> {
            None
        }
        fn skipped(&self, _: &Wanted<'_>) {}
        fn import(&self, _: &mut (dyn Read + Send), _: &Wanted<'_>) -> Result<Taken<()>, ImportError> {
            Err(ImportError::Store("no space".into()))
        }
    }
    // Nothing behind the layer is needed to know that the load has failed.
    let bytes = archive(&[File("l.tar", LAYER)]);
    assert!(matches!(
        stream::load(Cursor::new(&bytes), &Full, &Machine::Host, &Limits::default()),
        Err(Error::Store(_))
    ));
}
