//! `system check`: damage is named as users know things, and a repair and a load bring it back.

use std::fs;
use std::path::PathBuf;

use crate::area::Area;
use crate::support::Fixture;
use crate::support::require_fixture;
use crate::support::require_root;

/// The largest object of the store: the content of one file.
fn object(area: &Area) -> PathBuf {
    let files = area.store_files().into_iter().filter(|path| path.starts_with(area.store().join("objects")));
    files.max_by_key(|path| path.metadata().expect("a file").len()).expect("an object")
}

fn flip(path: &PathBuf) {
    let mut bytes = fs::read(path).expect("a file");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::remove_file(path).expect("removed");
    fs::write(path, bytes).expect("written");
}

fn whole(area: &Area) {
    let said = area.ok(["system", "check"]);
    assert!(said.contains("the store is whole"), "{said}");
    assert_eq!(said, area.ok(["check"]), "the short name says the same");
}

fn loaded(label: &str, fixture: &Fixture) -> Area {
    let area = Area::with(label, fixture);
    whole(&area);
    area
}

#[test]
fn damage_is_named_and_repaired() {
    let fixture = require_fixture!("busybox");
    let area = loaded("check", &fixture);
    flip(&object(&area));
    let said = area.said(["system", "check"]);
    assert_eq!(said.code(), 1, "{said:?}");
    let line = said.out.lines().next().expect("a line");
    let place = format!("image {}, layer ", fixture.image());
    assert!(line.starts_with(&place), "{line}");
    assert!(line.contains(", /") && line.contains("its content is not what it should be"), "{line}");
    assert!(said.err.contains("hint: ") && said.err.contains("--repair"), "{}", said.err);

    let said = area.said(["system", "check", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&said.out).expect("JSON");
    assert_eq!((said.code(), &json["unsettled"]), (1, &serde_json::json!(1)));
    let problem = &json["problems"][0];
    assert_eq!((&problem["fault"], &problem["outcome"]), (&"content".into(), &"found".into()), "{json:#}");
    assert_eq!(problem["users"][0]["name"], fixture.image(), "{json:#}");
    assert!(problem["path"].as_str().is_some_and(|path| path.starts_with('/')), "{json:#}");

    let said = area.said(["system", "check", "--repair"]);
    assert_eq!(said.code(), 1, "what is damaged has to be loaded again: {said:?}");
    assert!(said.out.contains("removed, load the image again"), "{said:?}");
    // Now the load does not take the damaged layer for one that is there.
    let load = ["load".into(), "-v".into(), "-i".into(), fixture.file("docker.tar").into_os_string()];
    let said = area.said(load.clone());
    assert_eq!(said.code(), 0);
    assert!(said.err.lines().any(|line| !line.contains("Already exists")), "nothing was loaded: {said:?}");
    whole(&area);
    let said = area.said(load);
    assert!(said.err.lines().all(|line| line.contains("Already exists")), "{said:?}");
}

#[test]
fn a_cut_object_is_loaded_again_without_a_repair() {
    let fixture = require_fixture!("busybox");
    let area = loaded("cut-object", &fixture);
    let object = object(&area);
    fs::remove_file(&object).expect("removed");
    fs::write(&object, "short").expect("written");
    assert_eq!(area.said(["check"]).code(), 1);
    area.load(&fixture);
    whole(&area);
}

#[test]
fn a_container_survives_damage_repair_and_load() {
    require_root!();
    let fixture = require_fixture!("busybox");
    let area = loaded("check-container", &fixture);
    area.ok(["run", "--name", "cc", &fixture.image(), "sh", "-c", "echo mine > /precious"]);
    flip(&object(&area));
    let said = area.said(["check", "--repair"]);
    assert!(said.code() == 1 && said.out.contains("image "), "{said:?}");
    area.load(&fixture);
    whole(&area);
    assert!(area.ok(["diff", "cc"]).contains("A /precious"));
}

#[test]
fn a_repair_needs_the_store_for_itself() {
    let fixture = require_fixture!("busybox");
    let area = loaded("check-busy", &fixture);
    let lock = fs::File::open(area.store().join("lock")).expect("the lock");
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockShared).expect("locked");
    let said = area.fails(["system", "check", "--repair"], 1);
    assert!(said.contains("another mica is at work"), "{said}");
    assert!(area.ok(["system", "check"]).contains("another mica is at work"), "a check goes on beside it");
}

#[test]
fn an_upper_is_checked_against_its_layers() {
    require_root!();
    let area = Area::new("check-upper");
    let (upper, low) = (area.new_dir("upper"), area.new_dir("low"));
    fs::write(low.join("there"), "x").expect("written");
    let whiteout = |name: &str| {
        let made = std::process::Command::new("mknod").arg(upper.join(name)).args(["c", "0", "0"]).status();
        assert!(made.expect("mknod").success());
    };
    let options = format!("lowerdir={}", low.display());
    let check = ["check", "upper", "-o", &options];
    whiteout("there");
    assert_eq!(area.ok(check), "upper is whole\n", "a whiteout of something that is there");
    whiteout("stray");
    assert_eq!(area.ok(["check", "upper"]), "upper is whole\n", "without the layers nobody can know");
    let said = area.ok(check);
    let first = "/stray: a whiteout over a name that no layer given shows: ";
    assert!(said.starts_with(first) && said.lines().count() == 2, "harmless, but told: {said}");
    // A copy of attributes alone, whose content is nowhere: that is harm.
    fs::write(upper.join("empty"), "").expect("written");
    let set = std::process::Command::new("setfattr")
        .args(["-n", "trusted.overlay.metacopy"])
        .arg(upper.join("empty"))
        .status();
    assert!(set.expect("setfattr").success());
    let said = area.said(check);
    assert!(said.code() == 1 && said.out.contains("/empty: "), "{said:?}");
}
