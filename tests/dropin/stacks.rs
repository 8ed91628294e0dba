//! Stacks of layers, generated and real, as mica mounts them from packs: entry by entry what umoci unpacks, and what podman mounts by the
//! kernel's overlay.
//!
//! `MICA_STACKS` says how many are generated, and has the large images compared, too; `MICA_SEED` is the first one's seed.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::SystemTime;

use sha2::Digest;
use sha2::Sha256;

use crate::archives::Mica;
use crate::lab;
use crate::lab::Lab;
use crate::lab::Try;
use crate::lab::Verdict;
use crate::lab::skip;
use crate::store::Driver;
use crate::store::Store;
use crate::support;
use crate::support::Snapshot;
use crate::support::tree::Field;

const IMAGE: &str = "localhost/stack:1";
const TOOLS: &[&str] = &["umoci", "podman", "runc", "timeout", "tar"];

/// Numbers that look random, always the same from the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or(0) % end.max(1)
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// What stands at a path after the layers so far.
#[derive(Clone, Debug)]
struct Thing {
    is_dir: bool,
    mode: u32,
    owner: u64,
    mtime: String,
}

type Path1 = Vec<u8>;

struct Generator {
    random: Random,
    tree: BTreeMap<Path1, Thing>,
}

/// A layer under way.
struct Layer {
    tar: tar::Builder<Vec<u8>>,
    /// What has an entry in this layer; the attributes of files that can be linked to.
    written: BTreeMap<Path1, Option<Thing>>,
}

/// Names that meet each other often, and some that are odd.
const NAMES: [&[u8]; 14] = [
    b"a",
    b"b",
    b"c",
    b"d",
    b"e",
    b"f",
    b"sp ace",
    b"caf\xe9",
    b"new\nline",
    b"-dash",
    b"\xe9\x9b\xb2\xe6\xaf\x8d",
    b"q\"uote\\",
    b"...",
    &[b'n'; 180],
];

fn parent(path: &[u8]) -> Option<&[u8]> {
    path.iter().rposition(|b| *b == b'/').and_then(|slash| path.get(..slash))
}

fn below(path: &[u8], top: &[u8]) -> bool {
    path.strip_prefix(top).is_some_and(|rest| rest.starts_with(b"/"))
}

impl Layer {
    fn put(
        &mut self,
        path: &[u8],
        kind: tar::EntryType,
        thing: &Thing,
        more: &[(&str, Vec<u8>)],
        data: &[u8],
        link: Option<&[u8]>,
    ) -> Try<()> {
        let mut records = vec![("mtime", thing.mtime.clone().into_bytes())];
        records.extend(more.iter().map(|(key, value)| (*key, value.clone())));
        self.tar.append_pax_extensions(records.iter().map(|(key, value)| (*key, value.as_slice())))?;
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(thing.mode);
        header.set_uid(thing.owner);
        header.set_gid(thing.owner / 2);
        header.set_mtime(thing.mtime.split('.').next().unwrap_or("0").parse()?);
        header.set_size(data.len() as u64);
        if kind == tar::EntryType::Char {
            header.set_device_major(1)?;
            header.set_device_minor(3)?;
        }
        match link {
            Some(target) => self.tar.append_link(&mut header, OsStr::from_bytes(path), OsStr::from_bytes(target))?,
            None => self.tar.append_data(&mut header, OsStr::from_bytes(path), data)?,
        }
        Ok(())
    }
}

impl Generator {
    fn thing(&mut self, is_dir: bool) -> Thing {
        let modes: &[u32] = if is_dir { &[0o755, 0o700, 0o1777, 0o2755] } else { &[0o644, 0o600, 0o4755, 0o0444] };
        Thing {
            is_dir,
            mode: modes[self.random.below(modes.len())],
            owner: [0, 0, 1000, 65534][self.random.below(4)],
            mtime: format!(
                "{}.{:09}",
                1_000_000_000 + self.random.below(500_000_000),
                1 + self.random.below(999_999_998)
            ),
        }
    }

    fn directories(&self) -> Vec<Path1> {
        self.tree.iter().filter(|(_, thing)| thing.is_dir).map(|(path, _)| path.clone()).collect()
    }

    /// A path in a directory that is there.
    fn somewhere(&mut self) -> Path1 {
        let mut dirs = self.directories();
        dirs.push(Vec::new());
        let mut path = dirs.swap_remove(self.random.below(dirs.len()));
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(NAMES[self.random.below(NAMES.len())]);
        path
    }

    /// Writes the directories above a path, as real layers do.
    fn above(&mut self, layer: &mut Layer, path: &[u8]) -> Try<()> {
        let Some(above) = parent(path).map(<[u8]>::to_vec) else { return Ok(()) };
        self.above(layer, &above)?;
        if !layer.written.contains_key(&above) {
            let thing = self.tree.get(&above).cloned().ok_or("no directory above")?;
            layer.put(&above, tar::EntryType::Directory, &thing, &[], &[], None)?;
            layer.written.insert(above, None);
        }
        Ok(())
    }

    fn add(&mut self, layer: &mut Layer, path: &[u8]) -> Try<()> {
        let new_dir = self.random.one_in(3);
        let thing = self.thing(new_dir);
        let was_dir = self.tree.get(path).is_some_and(|old| old.is_dir);
        if new_dir {
            layer.put(path, tar::EntryType::Directory, &thing, &[], &[], None)?;
            layer.written.insert(path.to_vec(), None);
            if was_dir && self.random.one_in(3) {
                let mark = [path, b"/.wh..wh..opq"].concat();
                let plain = Thing { is_dir: false, mode: 0o644, owner: 0, mtime: thing.mtime.clone() };
                layer.put(&mark, tar::EntryType::Regular, &plain, &[], &[], None)?;
                self.tree.retain(|other, _| !below(other, path));
            }
        } else {
            self.tree.retain(|other, _| !below(other, path));
            self.leaf(layer, path, &thing)?;
        }
        self.tree.insert(path.to_vec(), thing);
        Ok(())
    }

    fn leaf(&mut self, layer: &mut Layer, path: &[u8], thing: &Thing) -> Try<()> {
        let files = layer.written.iter().filter_map(|(path, file)| Some((path.clone(), file.clone()?)));
        let linkable: Vec<(Path1, Thing)> = files.collect();
        let kind = self.random.below(10);
        layer.written.insert(path.to_vec(), (kind < 6).then(|| thing.clone()));
        match kind {
            0 => {
                // The format 1.0 of GNU tar: the map is the first block of the data.
                let mut data = b"2\n4096\n512\n2097152\n0\n".to_vec();
                data.resize(512, 0);
                data.extend_from_slice(&[b's'; 512]);
                let more = [
                    ("GNU.sparse.major", b"1".to_vec()),
                    ("GNU.sparse.minor", b"0".to_vec()),
                    ("GNU.sparse.name", path.to_vec()),
                    ("GNU.sparse.realsize", b"2097152".to_vec()),
                ];
                layer.put(b"GNUSparseFile.0/x", tar::EntryType::Regular, thing, &more, &data, None)
            }
            1..=5 => {
                let size = [0, 7, 600, 40_000, 150_000][self.random.below(5)];
                let data = vec![u8::try_from(self.random.below(256))?; size];
                let mut more = Vec::new();
                if self.random.one_in(3) {
                    more.push(("SCHILY.xattr.user.mica", format!("value {size}").into_bytes()));
                }
                if self.random.one_in(6) {
                    more.push((
                        "SCHILY.xattr.security.capability",
                        b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec(),
                    ));
                }
                layer.put(path, tar::EntryType::Regular, thing, &more, &data, None)
            }
            6 => layer.put(path, tar::EntryType::Symlink, thing, &[], &[], Some(b"../a/nowhere")),
            7 => layer.put(path, tar::EntryType::Fifo, thing, &[], &[], None),
            8 => layer.put(path, tar::EntryType::Char, thing, &[], &[], None),
            _ => match linkable.get(self.random.below(linkable.len().max(1))) {
                // As every tar program writes it, with the attributes of the file; podman takes them from the last name.
                Some((target, thing)) => layer.put(path, tar::EntryType::Link, thing, &[], &[], Some(target)),
                None => layer.put(path, tar::EntryType::Regular, thing, &[], b"alone", None),
            },
        }
    }

    /// The next layer's tar.
    fn layer(&mut self) -> Try<Vec<u8>> {
        let mut layer = Layer { tar: tar::Builder::new(Vec::new()), written: BTreeMap::new() };
        for _ in 0..10 + self.random.below(40) {
            let there: Vec<Path1> = self.tree.keys().cloned().collect();
            if !there.is_empty() && self.random.one_in(4) {
                let path = &there[self.random.below(there.len())];
                // What this layer itself writes, it does not delete.
                if layer.written.keys().any(|other| other == path || below(other, path)) {
                    continue;
                }
                self.above(&mut layer, path)?;
                let name_at = parent(path).map_or(0, |above| above.len() + 1);
                let (front, name) = path.split_at(name_at);
                let mark = [front, b".wh.", name].concat();
                let plain = Thing { is_dir: false, mode: 0o644, owner: 0, mtime: "1000000000.000000001".to_owned() };
                layer.put(&mark, tar::EntryType::Regular, &plain, &[], &[], None)?;
                layer.written.insert(path.clone(), None);
                self.tree.retain(|other, _| other != path && !below(other, path));
                continue;
            }
            let path = match there.get(self.random.below(there.len().max(1))) {
                Some(known) if self.random.one_in(3) => known.clone(),
                _ => self.somewhere(),
            };
            if layer.written.contains_key(&path) || layer.written.keys().any(|other| below(other, &path)) {
                continue;
            }
            self.above(&mut layer, &path)?;
            self.add(&mut layer, &path)?;
        }
        Ok(layer.tar.into_inner()?)
    }
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// Writes an OCI layout of these layers, by nothing of mica's.
fn layout(dir: &Path, layers: &[Vec<u8>]) -> Verdict {
    fs::create_dir_all(dir.join("blobs/sha256"))?;
    let blob = |bytes: &[u8], media_type: &str| -> Try<String> {
        let hex = sha256(bytes);
        fs::write(dir.join("blobs/sha256").join(&hex), bytes)?;
        Ok(format!(
            r#"{{"mediaType":"application/vnd.oci.image.{media_type}","digest":"sha256:{hex}","size":{}"#,
            bytes.len()
        ))
    };
    let ids: Vec<String> = layers.iter().map(|layer| format!("\"sha256:{}\"", sha256(layer))).collect();
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
        ids.join(",")
    );
    let config = blob(config.as_bytes(), "config.v1+json")?;
    let entries = layers.iter().map(|l| Ok(blob(l, "layer.v1.tar")? + "}")).collect::<Try<Vec<_>>>()?;
    let manifest = format!(r#"{{"schemaVersion":2,"config":{config}}},"layers":[{}]}}"#, entries.join(","));
    let manifest = blob(manifest.as_bytes(), "manifest.v1+json")?;
    let name = format!(r#""annotations":{{"org.opencontainers.image.ref.name":"{IMAGE}"}}"#);
    fs::write(dir.join("index.json"), format!(r#"{{"schemaVersion":2,"manifests":[{manifest},{name}}}]}}"#))?;
    Ok(fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?)
}

/// The tree below a directory, without its top: not every tar speaks of that.
fn tree(dir: &Path) -> Try<Snapshot> {
    let mut tree = Snapshot::of(dir)?;
    tree.entries.remove(&b""[..]);
    Ok(tree)
}

/// Compares the image in a layout as mica, umoci and the kernel show it.
fn compare(lab: &Lab, store: &Store<'_>, layout: &Path, image: &str) -> Try<usize> {
    let mica = Mica::new(lab, "store");
    mica.load(layout)?;
    let point = lab.dir.dir("m");
    mica.run(["mount".as_ref(), image.as_ref(), point.as_os_str()])?;
    let ours = tree(&point);
    mica.run(["umount".as_ref(), point.as_os_str()])?;
    let ours = ours?;
    let bundle = lab.path("bundle");
    lab::ok(
        lab::limited("umoci").arg("unpack").arg("--image").arg(format!("{}:{image}", layout.display())).arg(&bundle),
    )?;
    let flat = tree(&bundle.join("rootfs"))?;
    // mica and the kernel count the names in the layer, also those that do not show; which names are one file is compared.
    lab::same("mica, to umoci", &ours, &flat, SystemTime::now(), &[Field::Nlink])?;
    store.load(layout)?;
    // Podman names what it loads from a directory by the directory.
    let id = mica.id(image)?;
    let loaded = id.trim_start_matches("sha256:");
    let point = PathBuf::from(store.podman(&["image", "mount", loaded])?);
    let merged = tree(&point);
    store.podman(&["image", "umount", loaded])?;
    // Podman knows no time before 1970.
    let known = |tree| lab::without(tree, &["opt/mica/times/before-1970"]);
    let count = ours.len();
    lab::same("mica, to the kernel's overlay", &known(ours), &known(merged?), SystemTime::now(), &[])?;
    store.podman(&["rmi", "-f", loaded])?;
    mica.run(["rmi", image])?;
    lab::sh(lab.dir.path(), "rm -rf bundle")?;
    Ok(count)
}

pub fn generated() -> Verdict {
    let lab = Lab::new("stacks", TOOLS)?;
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    let (count, first) = (number("MICA_STACKS").unwrap_or(10), number("MICA_SEED").unwrap_or(clock));
    let store = Store::named(&lab, "podman", Driver::Kernel, false)?;
    let (mut layers_in_all, mut entries) = (0, 0);
    for seed in (first..).take(usize::try_from(count)?) {
        let mut generator = Generator { random: Random(seed), tree: BTreeMap::new() };
        let count = 1 + generator.random.below(8);
        let layers = (0..count).map(|_| generator.layer()).collect::<Try<Vec<_>>>()?;
        let dir = lab.path("layout");
        layout(&dir, &layers)?;
        let seen = compare(&lab, &store, &dir, IMAGE).map_err(|e| format!("MICA_SEED={seed} MICA_STACKS=1: {e}"))?;
        if seen != generator.tree.len() {
            return Err(format!("MICA_SEED={seed}: {seen} entries, made were {}", generator.tree.len()).into());
        }
        (layers_in_all, entries) = (layers_in_all + layers.len(), entries + seen);
        fs::remove_dir_all(dir)?;
    }
    println!("        {count} stacks, {layers_in_all} layers, {entries} entries compared, from seed {first}");
    Ok(())
}

pub fn real() -> Verdict {
    let lab = Lab::new("real", &[TOOLS, &["skopeo"]].concat())?;
    let names: &[&str] = match std::env::var_os("MICA_STACKS") {
        Some(_) => &["busybox", "debian", "deb-app", "deep"],
        None => &["busybox"],
    };
    let store = Store::named(&lab, "podman", Driver::Kernel, false)?;
    for name in names {
        let fixture = match support::fixture(name) {
            Ok(fixture) => fixture,
            Err(reason) => return skip(format!("no fixture {name}: {reason}")),
        };
        let layout = lab.path("layout");
        fs::create_dir(&layout)?;
        lab::ok(lab::limited("tar").arg("-C").arg(&layout).arg("-xf").arg(fixture.file("oci.tar")))?;
        let seen = compare(&lab, &store, &layout, &fixture.image()).map_err(|e| format!("{name}: {e}"))?;
        println!("        {name}: {seen} entries compared");
        fs::remove_dir_all(layout)?;
    }
    Ok(())
}
