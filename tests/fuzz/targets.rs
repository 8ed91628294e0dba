//! The readers.

use std::io::Read;
use std::path::Path;

use micafs::digest::Digest;
use micafs::image::config::ImageConfig;
use micafs::image::limits::Limits;
use micafs::image::manifest::Document;
use micafs::image::reference::Reference;
use micafs::image::unpack::ImportOptions;
use micafs::image::unpack::import_layer;
use micafs::layer::Layer;
use micafs::layer::Obj;
use micafs::layer::Seen;
use micafs::layer::pack::PackStore;
use micafs::path::RelPath;

/// One reader.
pub struct Target {
    /// What it is called.
    pub name: &'static str,
    /// Good inputs.
    pub corpus: fn() -> Vec<Vec<u8>>,
    /// Words that mean something to it.
    pub words: &'static [&'static [u8]],
    /// Reads one input, whatever comes of it; the directory is its own.
    pub body: fn(&[u8], &Path),
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "tar", corpus: tars, words: TAR_WORDS, body: tar },
    Target { name: "index", corpus: indexes, words: &[], body: index },
    Target { name: "documents", corpus: documents, words: JSON_WORDS, body: document },
    Target { name: "archive", corpus: archives, words: JSON_WORDS, body: archive },
    Target { name: "words", corpus: words, words: WORDS, body: word },
];

const TAR_WORDS: &[&[u8]] = &[
    b"../",
    b"/",
    b".wh.",
    b".wh..wh..opq",
    b"path=",
    b"12 path=../x\n",
    b"20 size=99999999999\n",
    b"GNU.sparse.map=0,1",
    b"SCHILY.xattr.trusted.overlay.opaque=y",
    b"ustar\0",
    b"ustar  \0",
    b"77777777777",
    b"\x80\xff\xff\xff\xff\xff\xff\xff",
    b"\x1f\x8b",
    b"\x28\xb5\x2f\xfd",
];
const JSON_WORDS: &[&[u8]] = &[
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b":",
    b",",
    b"null",
    b"-1",
    b"1e999",
    b"18446744073709551616",
    b"\\u0000",
    b"\\ud800",
    b"sha256:",
    b"sha512:",
    b"../",
    b"\"layers\":",
    b"\"manifests\":",
    b"\"size\":",
    b"\"digest\":",
    b"application/vnd.oci.image.index.v1+json",
    b"[[[[[[[[[[[[[[[[",
];
const WORDS: &[&[u8]] = &[
    b":",
    b"/",
    b"@",
    b"@sha256:",
    b"..",
    b"%",
    b"\0",
    b"[::1]",
    b",",
    b"=",
    b"lowerdir=",
    b"\\",
    b"localhost",
    b"\xff",
];

fn header(name: &str, kind: tar::EntryType, link: Option<&str>, size: usize) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    if let Some(link) = link {
        header.set_link_name_literal(link).expect("a link");
    }
    header.set_size(size as u64);
    header.set_mode(0o644);
    header.set_cksum();
    header
}

fn tar_of(entries: &[(&str, tar::EntryType, Option<&str>, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, kind, link, data) in entries {
        tar.append(&header(name, *kind, *link, data.len()), *data).expect("in memory");
    }
    tar.into_inner().expect("in memory")
}

fn tars() -> Vec<Vec<u8>> {
    use tar::EntryType as T;
    let pax = b"26 SCHILY.xattr.user.a=b\n";
    let sparse =
        b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n24 GNU.sparse.name=holes\n27 GNU.sparse.realsize=9999\n";
    vec![
        tar_of(&[
            ("d", T::Directory, None, b""),
            ("d/f", T::Regular, None, &[7; 700]),
            ("d/l", T::Link, Some("d/f"), b""),
            ("d/s", T::Symlink, Some("../d"), b""),
            ("d/s/x", T::Regular, None, b"through"),
            ("d/.wh.gone", T::Regular, None, b""),
            ("d/.wh..wh..opq", T::Regular, None, b""),
            ("p", T::Fifo, None, b""),
            ("c", T::Char, None, b""),
        ]),
        tar_of(&[("pax", T::XHeader, None, &pax[..]), ("f", T::Regular, None, b"1"), ("f", T::Directory, None, b"")]),
        tar_of(&[("pax", T::XHeader, None, &sparse[..]), ("h", T::Regular, None, b"1\n0\n3\n")]),
        tar_of(&[("././@LongLink", T::GNULongName, None, &[b'n'; 300]), ("short", T::Regular, None, b"long")]),
        tar_of(&[]),
    ]
}

/// Makes the checksum of every block right that has a header's shape, so that what is behind it is read.
fn mended(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for block in bytes.chunks_exact_mut(512) {
        if block.iter().any(|&b| b != 0) && block[257..262] == *b"ustar" {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
    bytes
}

fn packs(dir: &Path) -> PackStore {
    let root = micafs::sys::open::dir_path(dir).expect("the scratch directory");
    PackStore::open_at(&root).expect("a store")
}

fn limits() -> Limits {
    Limits { tar_size: 8 << 20, entries: 10_000, steps: 1 << 18, ..Limits::default() }
}

fn tar(input: &[u8], dir: &Path) {
    let store = packs(dir);
    for bytes in [input, &mended(input)] {
        let options = ImportOptions { limits: limits(), ..ImportOptions::default() };
        let Ok(imported) = import_layer(bytes, &store, &options) else { continue };
        // What is taken must come back, byte for byte, unless it was compressed, and be whole.
        store.verify(&imported.diff_id, &mut |damage| panic!("{damage}")).expect("a layer");
        let layer = store.open(&imported.diff_id).expect("a layer");
        walk(&layer.root().expect("a root"), 6);
        store.collect_garbage(&std::collections::BTreeSet::new()).expect("collected");
    }
}

/// Does everything with a tree that can be done, for as far as it goes.
fn walk(object: &Obj, depth: u32) {
    let _ = (object.stat(), object.marks(), object.readlink(), object.names(), object.location());
    for name in object.xattrs().unwrap_or_default() {
        let _ = object.xattr(&name);
    }
    if let Ok(content) = object.open() {
        let _ = content.read_at(&mut [0; 64], 0);
        let _ = content.read_at(&mut [0; 64], content.len().saturating_sub(9));
        let _ = (content.seek_data(0), content.seek_hole(0));
    }
    let mut below = Vec::new();
    let _ = object.list(&mut |item| {
        if let Ok(Seen::Found(child, _)) = object.lookup(item.name) {
            below.push(child);
        }
        Ok(())
    });
    if depth > 0 {
        below.iter().take(20).for_each(|child| walk(child, depth - 1));
    }
}

/// The index and the pack file of each good layer, as one input: length of the index, index, pack file.
fn indexes() -> Vec<Vec<u8>> {
    let scratch = crate::support::TempDir::new("fuzz-seeds");
    let store = packs(scratch.path());
    let mut found = Vec::new();
    for bytes in tars() {
        let Ok(imported) = import_layer(&bytes[..], &store, &ImportOptions::default()) else { continue };
        let file = |ending| {
            std::fs::read(scratch.path().join(format!("packs/{}.{ending}", imported.diff_id.hex()))).expect("a file")
        };
        found.push(file("idx"));
    }
    found
}

fn index(input: &[u8], dir: &Path) {
    if input.len() < 96 {
        return;
    }
    let store = packs(dir);
    let mut bytes = input.to_vec();
    // The length, the diff id of the name, and the checksum are made right: what is in between is the matter.
    let (len, end) = (bytes.len() as u64, bytes.len() - 32);
    bytes[40..48].copy_from_slice(&len.to_le_bytes());
    let id = Digest::from_bytes(bytes[64..96].try_into().expect("32 bytes"));
    let sum = Digest::of(&bytes[..end]);
    bytes[end..].copy_from_slice(sum.as_bytes());
    let pack_len = u64::from_le_bytes(bytes[48..56].try_into().expect("8 bytes")).min(1 << 16);
    let file = |ending: &str| dir.join(format!("packs/{}.{ending}", id.hex()));
    std::fs::write(file("idx"), &bytes).expect("written");
    std::fs::write(file("pack"), vec![7; usize::try_from(pack_len).expect("small")]).expect("written");
    let _ = (store.has(&id), store.info(&id), store.objects_of(&id));
    let _ = store.verify(&id, &mut |_| {});
    if let Ok(layer) = store.open(&id) {
        if let Ok(root) = layer.root() {
            walk(&root, 4);
        }
        let _ = std::io::copy(&mut layer.tar_stream().take(4 << 20), &mut std::io::sink());
    }
    store.remove(&id).expect("removed");
}

const D: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn documents() -> Vec<Vec<u8>> {
    let descriptor =
        |kind: &str| format!(r#"{{"mediaType":"application/vnd.oci.image.{kind}","digest":"{D}","size":7}}"#);
    vec![
        format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{},"layers":[{}]}}"#,
            descriptor("config.v1+json"),
            descriptor("layer.v1.tar+gzip")
        )
        .into_bytes(),
        format!(
            r#"{{"schemaVersion":2,"manifests":[{}],"annotations":{{"a":"b"}}}}"#,
            descriptor("manifest.v1+json")
        )
        .into_bytes(),
        format!(
            r#"{{"created":"2026-01-01T00:00:00Z","architecture":"amd64","os":"linux","config":{{"Env":["A=b"],"Cmd":["sh"],"User":"1:2","WorkingDir":"/x","Volumes":{{"/v":{{}}}}}},"rootfs":{{"type":"layers","diff_ids":["{D}"]}},"history":[{{"created_by":"x","empty_layer":true}},{{}}]}}"#
        )
        .into_bytes(),
    ]
}

fn document(input: &[u8], _: &Path) {
    let _ = Document::parse(input, None);
    let _ = Document::parse(input, Some("application/vnd.oci.image.index.v1+json"));
    if let Ok(config) = ImageConfig::parse(input) {
        let _ = (config.diff_ids().len(), config.history_with_layers().count());
    }
}

fn archives() -> Vec<Vec<u8>> {
    use tar::EntryType as T;
    let layer = tar_of(&[("f", T::Regular, None, b"1")]);
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
        Digest::of(&layer)
    );
    let manifest = br#"[{"Config":"c.json","RepoTags":["x:1"],"Layers":["l.tar"]}]"#;
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{D}","size":2}}]}}"#
    );
    vec![
        tar_of(&[
            ("l.tar", T::Regular, None, &layer),
            ("c.json", T::Regular, None, config.as_bytes()),
            ("manifest.json", T::Regular, None, manifest),
        ]),
        tar_of(&[
            ("oci-layout", T::Regular, None, br#"{"imageLayoutVersion":"1.0.0"}"#),
            ("index.json", T::Regular, None, index.as_bytes()),
        ]),
    ]
}

/// A whole load: the archive from a file, into a store, which must be whole afterwards.
fn archive(input: &[u8], dir: &Path) {
    use micafs::engine::Quiet;
    use micafs::engine::input::Input;
    use micafs::engine::load::load;
    let store = micafs::store::Store::open(&dir.join("store")).expect("a store");
    let file = dir.join("archive.tar");
    for bytes in [input, &mended(input)] {
        std::fs::write(&file, bytes).expect("written");
        if load(&store, Input::open(&file).expect("opened"), &Quiet).is_ok() {
            assert_eq!(store.check(&()).expect("checked").problems, []);
        }
    }
}

fn words() -> Vec<Vec<u8>> {
    let reference = format!("registry.example:5000/a/b-c_d.e:v1.2@{D}");
    let texts = [
        &*reference,
        "debian",
        "localhost/x:latest",
        D,
        "/usr/lib/../x//y/.",
        "lowerdir=/a:/b,upperdir=/u,workdir=/w,uidmapping=0:1:2",
    ];
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

fn word(input: &[u8], _: &Path) {
    let _ = RelPath::parse(input).map(|path| (path.to_string(), path.to_bytes()));
    let _ = micafs::path::Escaped(input).to_string();
    let text = String::from_utf8_lossy(input);
    let _ = text.parse::<Digest>();
    let argv: Vec<_> =
        ["mount.mica", "-o", &*text.replace('\0', ""), "/x", "/y"].iter().map(std::ffi::OsString::from).collect();
    let _ = micafs::mount::dialect::parse(&argv);
    for reference in [Reference::parse(&text), Reference::parse_untagged(&text)].into_iter().flatten() {
        // What is a name stays the same name when it is written and read again.
        let again = Reference::parse_untagged(&reference.to_string()).expect("its own text");
        assert_eq!(again.domain(), reference.domain());
        assert_eq!(again.path(), reference.path());
        let _ = (reference.canonical(), reference.familiar_repository(), reference.tag(), reference.digest());
    }
}
