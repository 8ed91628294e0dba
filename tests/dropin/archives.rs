//! Images go to other tools and come back: docker, podman, skopeo and umoci read what mica saves, and mica what they save, with the
//! same ids and digests; and every document of mica's is one by the JSON schemas of the OCI image specification.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::docker::Docker;
use crate::lab;
use crate::lab::Lab;
use crate::lab::Try;
use crate::lab::Verdict;
use crate::lab::check;
use crate::lab::check_eq;
use crate::lab::skip;
use crate::store::Driver;
use crate::store::Store;
use crate::support;
use crate::support::Fixture;

/// The image of most tests, and a second name that it gets.
const OTHER: &str = "localhost/other:2";

/// A store of mica.
pub struct Mica<'a> {
    lab: &'a Lab,
    name: String,
}

impl<'a> Mica<'a> {
    pub fn new(lab: &'a Lab, name: &str) -> Self {
        Self { lab, name: name.to_owned() }
    }

    /// `mica ARGS...` on this store; what it printed.
    pub fn run<A: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Try<String> {
        let mut command = lab::limited(support::bin::mica());
        command.arg("--root").arg(self.lab.path(&self.name)).args(args).current_dir(self.lab.dir.path());
        command.env("XDG_CONFIG_HOME", self.lab.path("config")).env_remove("MICA_ROOT");
        Ok(lab::ok(&mut command)?.trim_end().to_owned())
    }

    pub fn load(&self, archive: &Path) -> Try<String> {
        self.run(["load".as_ref(), "-i".as_ref(), archive.as_os_str()])
    }

    pub fn id(&self, image: &str) -> Try<String> {
        self.run(["images", "--no-trunc", "--format", "{{.ID}}", image])
    }

    fn digest(&self, image: &str) -> Try<String> {
        self.run(["images", "--digests", "--format", "{{.Digest}}", image])
    }

    fn save(&self, file: &str, args: &[&str]) -> Try<PathBuf> {
        let file = self.lab.path(file);
        self.run(["save".as_ref(), "-o".as_ref(), file.as_os_str()].into_iter().chain(args.iter().map(AsRef::as_ref)))?;
        Ok(file)
    }
}

fn fixture(name: &str) -> Try<Fixture> {
    support::fixture(name).or_else(|reason| skip(format!("no fixture {name}: {reason}")))
}

/// A laboratory with an image under two names in a store of mica's.
fn with_image<'a>(lab: &'a Lab, fixture: &Fixture) -> Try<Mica<'a>> {
    let mica = Mica::new(lab, "store");
    mica.load(&fixture.file("docker.tar"))?;
    mica.run(["tag", &fixture.image(), OTHER])?;
    Ok(mica)
}

fn skopeo(lab: &Lab, args: &[&str]) -> Try<String> {
    let policy = lab.path("policy.json");
    fs::write(&policy, r#"{"default":[{"type":"insecureAcceptAnything"}]}"#)?;
    let mut command = lab::limited("skopeo");
    command.arg("--policy").arg(policy).args(args).current_dir(lab.dir.path()).env("TMPDIR", lab.dir.path());
    lab::ok(&mut command)
}

fn json(text: &str) -> Try<Value> {
    Ok(serde_json::from_str(text)?)
}

pub fn docker() -> Verdict {
    let lab = Lab::new("to-docker", &["dockerd", "containerd", "docker", "runc", "timeout"])?;
    let fixture = fixture("busybox")?;
    let mica = with_image(&lab, &fixture)?;
    let id = mica.id(&fixture.image())?;
    let archive = mica.save("saved.tar", &[&fixture.image(), OTHER])?;
    let docker = Docker::new(&lab, "overlay2")?;
    let said = docker.docker(&["load", "-i", &archive.display().to_string()])?;
    for name in [&fixture.image(), OTHER] {
        check(&format!("docker says what it loaded: {said}"), said.contains(&format!("Loaded image: {name}")))?;
        check_eq("docker's id", docker.docker(&["inspect", "--format", "{{.Id}}", name])?, id.clone())?;
    }
    // Back again: docker 20.10 writes the old layout, docker 25 the new one.
    let back = lab.path("back.tar").display().to_string();
    docker.docker(&["save", "-o", &back, &fixture.image(), OTHER])?;
    let other = Mica::new(&lab, "back");
    let said = other.load(back.as_ref())?;
    check_eq("what mica says", said.lines().count(), 2)?;
    check_eq("the id that came back", other.id(OTHER)?, id)?;
    let container = docker.docker(&["create", "--network=none", OTHER, "/bin/sh"])?;
    exported(&lab, &mica, &docker, &container)
}

/// What docker exports, mica imports; what mica exports, docker imports, and the tree is the same.
fn exported(lab: &Lab, mica: &Mica<'_>, docker: &Docker, container: &str) -> Verdict {
    let tar = lab.path("export.tar").display().to_string();
    docker.docker(&["export", "-o", &tar, container])?;
    mica.run(["import", "-c", "CMD [\"sh\"]", "-m", "from docker", &tar, "localhost/imported:1"])?;
    mica.run([
        "run",
        "--name",
        "box",
        "localhost/imported:1",
        "sh",
        "-c",
        "echo new >/new; ln /new /link; rm -rf /opt/mica/names",
    ])?;
    let ours = lab.path("ours.tar");
    mica.run(["export".as_ref(), "-o".as_ref(), ours.as_os_str(), "box".as_ref()])?;
    let id = docker.docker(&["import", "-c", "CMD [\"sh\"]", &ours.display().to_string(), "localhost/ours:1"])?;
    check("docker's import prints the id", id.starts_with("sha256:"))?;
    let container = docker.docker(&["create", "--network=none", "localhost/ours:1"])?;
    let theirs = lab.path("theirs.tar");
    docker.docker(&["export", "-o", &theirs.display().to_string(), &container])?;
    let read = |name: &str, tar: &Path| crate::store::unpack(&lab.path(name), tar);
    let made = [".dockerenv", "etc/mtab", "dev", "proc", "sys", "etc/hosts", "etc/hostname", "etc/resolv.conf", "etc"];
    let (ours, theirs) = (lab::without(read("u", &ours)?, &made), lab::without(read("u", &theirs)?, &made));
    // Docker exports whole seconds.
    let but = [support::tree::Field::Mtime];
    lab::same("docker's export, to mica's", &theirs, &ours, std::time::SystemTime::now(), &but)
}

pub fn podman() -> Verdict {
    let lab = Lab::new("to-podman", &["podman", "runc", "timeout", "tar"])?;
    let fixture = fixture("busybox")?;
    let mica = with_image(&lab, &fixture)?;
    let id = mica.id(&fixture.image())?;
    let store = Store::named(&lab, "podman", Driver::Kernel, false)?;
    for (format, compress) in
        [("docker-archive", None), ("oci-archive", None), ("oci-archive", Some("--compress")), ("oci-dir", None)]
    {
        let what = format!("{format} {compress:?}");
        let mut args = vec!["--format", format, OTHER];
        args.extend(compress);
        let saved = mica.save("to-podman", &args)?;
        store.load(&saved).map_err(|e| format!("{what}: {e}"))?;
        // Podman 4 names an image from a directory by the directory, its own ones, too.
        let name = if format == "oci-dir" { &[][..] } else { &[OTHER][..] };
        let ids = store.podman(&[&["images", "-q", "--no-trunc"], name].concat())?;
        check_eq(&what, ids, id.clone())?;
        store.podman(&["rmi", "-f", id.trim_start_matches("sha256:")])?;
        lab::sh(lab.dir.path(), "rm -rf to-podman")?;
    }
    // Several names in one archive, which podman takes from docker's documents; and what podman saves.
    store.load(&mica.save("two.tar", &[&fixture.image(), OTHER])?)?;
    for name in [&fixture.image(), OTHER] {
        check_eq(name, store.podman(&["images", "-q", "--no-trunc", name])?, id.clone())?;
    }
    for format in ["docker-archive", "oci-archive", "oci-dir"] {
        let back = store.path(format);
        store.podman(&["save", "-q", "--format", format, "-o", &back.display().to_string(), OTHER])?;
        let other = Mica::new(&lab, &format!("from-{format}"));
        check_eq("what mica says", other.load(&back)?.as_str(), &*format!("Loaded image: {OTHER}"))?;
        check_eq(&format!("the id from podman's {format}"), other.id(OTHER)?, id.clone())?;
    }
    Ok(())
}

pub fn skopeo_and_umoci() -> Verdict {
    let lab = Lab::new("to-skopeo", &["skopeo", "umoci", "timeout", "tar"])?;
    let fixture = fixture("busybox")?;
    let mica = with_image(&lab, &fixture)?;
    let id = mica.id(&fixture.image())?;
    let diff_ids = json(&mica.run(["inspect", OTHER])?)?[0]["RootFS"]["Layers"].clone();
    let mut trees = Vec::new();
    for (format, flag) in
        [("docker-archive", ""), ("oci-archive", ""), ("oci-archive", "--compress=zstd"), ("oci-dir", "")]
    {
        let mut args = vec!["--format", format, OTHER];
        args.extend(Some(flag).filter(|flag| !flag.is_empty()));
        mica.save("saved", &args)?;
        let again = lab.path("saved-again");
        mica.save("saved-again", &args)?;
        lab::sh(lab.dir.path(), "diff -r saved saved-again")
            .map_err(|e| format!("{format} {flag}: not the same bytes: {e}"))?;
        lab::sh(again.parent().unwrap_or(&again), "rm -rf saved-again")?;
        let transport = if format == "oci-dir" { "oci" } else { format };
        let source = format!("{transport}:saved:{OTHER}");
        let seen = json(&skopeo(&lab, &["inspect", &source])?)?;
        if flag.is_empty() {
            check_eq(&format!("{format}: skopeo's layers"), &seen["Layers"], &diff_ids)?;
        }
        let copy = format!("oci:copy:{OTHER}");
        // Skopeo 1.9 compresses what is plain, so that umoci, too, sees gzip.
        skopeo(&lab, &["copy", "-q", &source, &copy])?;
        let config = skopeo(&lab, &["inspect", "--raw", &copy])?;
        check_eq(
            &format!("{format}: the config's digest"),
            &json(&config)?["config"]["digest"],
            &Value::from(id.clone()),
        )?;
        let other = Mica::new(&lab, "back");
        check_eq("what mica says", other.load(&lab.path("copy"))?.as_str(), &*format!("Loaded image: {OTHER}"))?;
        check_eq(&format!("{format}: the id that came back"), other.id(OTHER)?, id.clone())?;
        if format == "oci-dir" {
            for layout in ["saved", "copy"] {
                lab::ok(
                    lab::limited("umoci")
                        .args(["unpack", "--image", &format!("{layout}:{OTHER}")])
                        .current_dir(lab.dir.path())
                        .arg(lab.path("bundle")),
                )?;
                trees.push(support::Snapshot::of(lab.path("bundle/rootfs"))?);
                lab::sh(lab.dir.path(), "rm -rf bundle")?;
            }
        }
        lab::sh(lab.dir.path(), "rm -rf saved copy back")?;
    }
    check(
        "umoci unpacks the same tree from both",
        matches!(trees.as_slice(), [a, b] if support::tree::diff(a, b).is_empty()),
    )
}

/// A manifest that came with an image goes out again, byte for byte, when the compressed layers were kept.
pub fn kept_blobs() -> Verdict {
    let lab = Lab::new("kept", &["skopeo", "timeout", "tar"])?;
    let fixture = fixture("busybox")?;
    let (name, archive) = (fixture.image(), fixture.file("oci.tar"));
    let kept = || fs::read_dir(lab.path("store/kept")).map_or(0, Iterator::count);
    let mica = Mica::new(&lab, "store");
    mica.load(&archive)?;
    let digest = mica.digest(&name)?;
    let saved_digest = |mica: &Mica<'_>, file: &str, flags: &[&str]| -> Try<String> {
        mica.save(file, &[&["--format", "oci-archive", &name], flags].concat())?;
        let raw = skopeo(&lab, &["inspect", "--raw", &format!("oci-archive:{file}:{name}")])?;
        let sum = lab::sh(lab.dir.path(), &format!("printf %s '{raw}' | sha256sum"))?;
        Ok(format!("sha256:{}", sum.split(' ').next().unwrap_or_default()))
    };
    check_eq("nothing is kept unless asked for", kept(), 0)?;
    check("without the blobs the manifest is another", saved_digest(&mica, "plain.tar", &[])? != digest)?;
    fs::create_dir_all(lab.path("config/mica"))?;
    fs::write(lab.path("config/mica/config.toml"), "keep-blobs = true\n")?;
    // The layers are there already: only their files are taken. From a pipe, too, whose layers come before the manifest.
    let pipe = Mica::new(&lab, "piped");
    lab::sh(
        lab.dir.path(),
        &format!(
            "export XDG_CONFIG_HOME=$PWD/config; cat {} | {} --root piped load -q",
            archive.display(),
            support::bin::mica().display()
        ),
    )?;
    mica.load(&archive)?;
    check("the files are kept now", kept() > 0)?;
    for (store, file) in [(&mica, "kept.tar"), (&pipe, "piped.tar")] {
        check_eq("the manifest's digest", saved_digest(store, file, &[])?, digest.clone())?;
        store.run(["check"])?;
    }
    check("compressing anew makes another manifest", saved_digest(&mica, "new.tar", &["--compress"])? != digest)?;
    let other = Mica::new(&lab, "other");
    other.load(&lab.path("kept.tar"))?;
    check_eq("the digest after a round trip", other.digest(&name)?, digest)?;
    mica.run(["rmi", &name])?;
    check_eq("with the image the files go", kept(), 0)?;
    fs::write(lab.path("config/mica/config.toml"), "keep-blobs = true\nkeep = 1\n")?;
    let why = mica.load(&archive).err().map(|e| e.to_string()).unwrap_or_default();
    check(
        &format!("a line that is not known is named: {why}"),
        why.contains("config.toml: line 2") && why.contains("keep"),
    )
}

/// Where Debian's package of the specification has its JSON schemas.
const SCHEMAS: &str = "/usr/share/gocode/src/github.com/opencontainers/image-spec/schema";

/// Checks documents (arguments 2 and on, as SCHEMA=FILE) by the schemas in the directory of argument 1; one that a program
/// changed must fail, so that a check that checks nothing is found out.
const VALIDATE: &str = r#"
import json, os, sys, jsonschema
folder = sys.argv[1]
def plain(schema):
    # The ids of parts would make references relative to places where nothing is.
    if isinstance(schema, list): return [plain(part) for part in schema]
    if not isinstance(schema, dict): return schema
    return {key: plain(part) for key, part in schema.items() if key != 'id' or not isinstance(part, str)}
store = {name: plain(json.load(open(os.path.join(folder, name)))) for name in os.listdir(folder) if name.endswith('.json')}
def errors(name, document):
    resolver = jsonschema.RefResolver(name, store[name], store=store)
    schema = store[name]
    return list(jsonschema.Draft4Validator(schema, resolver=resolver).iter_errors(document))
for argument in sys.argv[2:]:
    name, path = argument.split('=', 1)
    document = json.load(open(path))
    found = errors(name, document)
    if found: sys.exit(f'{path} by {name}: {found[0].message}')
    for key in {'image-index-schema.json': 'manifests', 'image-manifest-schema.json': 'config',
                'config-schema.json': 'rootfs', 'image-layout-schema.json': 'imageLayoutVersion'}[name],:
        broken = dict(document, **{key: 7})
        if not errors(name, broken): sys.exit(f'{name} takes {key}=7')
"#;

pub fn schemas() -> Verdict {
    let lab = Lab::new("schema", &["python3", "timeout", "tar"])?;
    let has =
        |module: &str| Command::new("python3").args(["-c", module]).output().is_ok_and(|out| out.status.success());
    if !Path::new(SCHEMAS).exists() {
        return skip("golang-github-opencontainers-image-spec-dev is not installed");
    }
    // Debian's python, not another that may be first in PATH.
    if !has("import sys") || !Path::new("/usr/lib/python3/dist-packages/jsonschema").exists() {
        return skip("python3-jsonschema is not installed");
    }
    let fixture = fixture("busybox")?;
    let mica = with_image(&lab, &fixture)?;
    let rootfs = fixture.file("rootfs.tar").display().to_string();
    let change = ["-c", "ENV A=b", "-c", "EXPOSE 80", "-c", "VOLUME /x", "-c", "LABEL a=b", "-c", "STOPSIGNAL SIGTERM"];
    mica.run(["import"].into_iter().chain(change).chain([
        "-m",
        "words",
        "--platform",
        "linux/arm/v7",
        &rootfs,
        "localhost/imported:1",
    ]))?;
    mica.run(["run", "--name", "box", OTHER, "sh", "-c", "echo >/new"])?;
    mica.run(["commit", "-m", "a message", "-a", "somebody", "box", "localhost/committed:1"])?;
    let images = [fixture.image(), OTHER.to_owned(), "localhost/imported:1".into(), "localhost/committed:1".into()];
    let images: Vec<&str> = images.iter().map(String::as_str).collect();
    let mut documents = 0;
    for (dir, format, compress) in [
        ("plain", "oci-dir", None),
        ("gzip", "oci-dir", Some("--compress")),
        ("zstd", "oci-dir", Some("--compress=zstd")),
        ("docker", "docker-archive", None),
    ] {
        let mut args = vec!["--format", format];
        args.extend(&images);
        args.extend(compress);
        let saved = mica.save(dir, &args)?;
        if format == "docker-archive" {
            lab::sh(lab.dir.path(), "mkdir unpacked && tar -C unpacked -xf docker && rm docker && mv unpacked docker")?;
        }
        let blob = |v: &Value| {
            format!("blobs/sha256/{}", v["digest"].as_str().unwrap_or_default().trim_start_matches("sha256:"))
        };
        let index = json(&fs::read_to_string(saved.join("index.json"))?)?;
        let mut arguments = vec![
            ("image-index-schema.json", "index.json".to_owned()),
            ("image-layout-schema.json", "oci-layout".to_owned()),
        ];
        for entry in index["manifests"].as_array().into_iter().flatten() {
            let manifest = json(&fs::read_to_string(saved.join(blob(entry)))?)?;
            arguments.push(("image-manifest-schema.json", blob(entry)));
            arguments.push(("config-schema.json", blob(&manifest["config"])));
        }
        documents += arguments.len();
        let mut python = lab::limited("/usr/bin/python3");
        python.args(["-c", VALIDATE, SCHEMAS]).current_dir(&saved);
        lab::ok(python.args(arguments.iter().map(|(schema, file)| format!("{schema}={file}"))))?;
    }
    check_eq("documents checked", documents, 4 * (2 + 2 * images.len()))
}
