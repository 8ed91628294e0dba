//! `mica load`: every shape of an archive is the same image.

use std::fs::File;
use std::process::Command;
use std::process::Stdio;

use crate::area::Area;
use crate::area::finish;
use crate::support::Fixture;
use crate::support::require_fixture;

const SHAPES: [&str; 7] =
    ["docker.tar", "docker-old.tar", "docker25.tar", "oci.tar", "oci-zstd.tar", "docker.tar.gz", "oci.tar.gz"];

/// What must be the same however an image came: its id.
fn id_of(area: &Area, fixture: &Fixture) -> String {
    area.ok(["images", "--no-trunc", "--format", "{{.ID}}", &fixture.image()]).trim().to_owned()
}

fn every_shape(fixture: &Fixture) {
    let mut ids = Vec::new();
    for shape in SHAPES {
        let file = fixture.file(shape);
        if !file.exists() {
            crate::support::report_skip(&format!("{}: no such fixture", file.display())); // made without zstd
            continue;
        }
        let area = Area::new("load");
        let load = ["load".as_ref(), "-v".as_ref(), "-i".as_ref(), file.as_os_str()];
        let first = finish(&mut area.mica(load));
        assert_eq!(first.code(), 0, "{shape}: {first:?}");
        assert_eq!(first.out, format!("Loaded image: {}\n", fixture.image()), "{shape}");
        assert!(area.ok(["check"]).lines().count() > 0, "{shape}");
        let before = area.store_files();
        let second = finish(&mut area.mica(load));
        assert_eq!((second.code(), &second.out), (0, &first.out), "{shape}: {second:?}");
        let (layers, here) = (second.err.lines().count(), second.err.matches(": Already exists").count());
        assert!(here > 0 && here == layers, "{shape}: every layer is there already:\n{}", second.err);
        assert_eq!(area.store_files(), before, "{shape}: a second load changes nothing");
        ids.push((shape, id_of(&area, fixture)));
    }
    let (_, first) = ids.first().expect("shapes").clone();
    assert!(ids.iter().all(|(_, id)| *id == first), "one image, whatever the shape: {ids:?}");
}

#[test]
fn busybox_from_every_shape() {
    every_shape(&require_fixture!("busybox"));
}

#[test]
fn debian_from_every_shape() {
    every_shape(&require_fixture!("debian"));
}

#[test]
fn from_a_file_and_from_a_pipe_on_standard_input() {
    let fixture = require_fixture!("busybox");
    for shape in SHAPES.into_iter().filter(|shape| fixture.file(shape).exists()) {
        let said = format!("Loaded image: {}\n", fixture.image());
        let (file, pipe) = (Area::new("stdin"), Area::new("stdin"));
        let input = File::open(fixture.file(shape)).unwrap();
        assert_eq!(finish(file.mica(["load"]).stdin(input)).out, said, "{shape} as a file");
        let mut cat = Command::new("cat").arg(fixture.file(shape)).stdout(Stdio::piped()).spawn().unwrap();
        let loaded = finish(pipe.mica(["load"]).stdin(cat.stdout.take().unwrap()));
        cat.wait().unwrap();
        assert_eq!(loaded.out, said, "{shape} through a pipe: {loaded:?}");
        assert_eq!(id_of(&file, &fixture), id_of(&pipe, &fixture));
    }
}

#[test]
fn what_save_writes_is_the_same_image() {
    let fixture = require_fixture!("busybox");
    let (area, other) = (Area::with("save", &fixture), Area::new("save"));
    let file = area.join("saved.tar");
    area.ok(["save".as_ref(), "-o".as_ref(), file.as_os_str(), fixture.image().as_ref()]);
    other.ok(["load".as_ref(), "-i".as_ref(), file.as_os_str()]);
    assert_eq!(id_of(&area, &fixture), id_of(&other, &fixture));
}

#[test]
fn rmi_gives_the_space_back() {
    let fixture = require_fixture!("busybox");
    let area = Area::new("rmi");
    area.ok(["images"]);
    let empty = area.store_files().len();
    area.load(&fixture);
    assert!(area.store_files().len() > empty);
    let said = area.ok(["rmi", &fixture.image()]);
    assert!(said.starts_with(&format!("Untagged: {}\nDeleted: sha256:", fixture.image())), "{said}");
    assert_eq!(area.ok(["images", "-q"]), "");
    let left: Vec<_> = area.store_files().into_iter().filter(|path| !path.ends_with("images.json")).collect();
    assert!(left.len() <= empty, "left behind: {left:?}");
}
