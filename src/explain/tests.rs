//! Explanations against a model that knows nothing of walks: layers applied to a map of paths, bottom to top.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use super::subject::Sheet;
use super::text::Style;
use super::*;
use crate::layer::dir::DirLayer;
use crate::layer::handle::FdCache;
use crate::layer::pack::testing::Scratch;
use crate::sys;

/// What a layer of the model says about a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Say {
    File,
    Dir,
    OpaqueDir,
    Whiteout,
}

/// One layer: paths with their parents before them.
type Sayings = BTreeMap<String, Say>;

/// What is asked for: every path of at most three letters out of two.
fn all_paths() -> Vec<String> {
    let mut paths = vec![String::new()];
    for at in 0..7 {
        let parent: String = paths[at].clone();
        paths.extend(["a", "b"].map(|name| format!("{parent}/{name}")));
    }
    paths.remove(0);
    paths
}

fn random_layer(random: &mut impl FnMut(u32) -> u32) -> Sayings {
    let mut layer = Sayings::new();
    for path in all_paths() {
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        let inside = parent.is_empty() || matches!(layer.get(parent), Some(Say::Dir | Say::OpaqueDir));
        if !inside {
            continue;
        }
        let say = match random(10) {
            0 | 1 => Say::File,
            2..=5 => Say::Dir,
            6 => Say::OpaqueDir,
            7 => Say::Whiteout,
            _ => continue,
        };
        layer.insert(path, say);
    }
    layer
}

/// Makes the layer as a directory; the size of each file is its layer's number.
fn make(layer: &Sayings, top: &Path, number: usize) {
    std::fs::create_dir(top).unwrap();
    for (path, say) in layer {
        let place = top.join(&path[1..]);
        match say {
            Say::File => std::fs::write(place, "x".repeat(number)).unwrap(),
            Say::Dir => std::fs::create_dir(place).unwrap(),
            Say::OpaqueDir => {
                std::fs::create_dir(&place).unwrap();
                std::fs::write(place.join(".wh..wh..opq"), "").unwrap();
            }
            Say::Whiteout => {
                let name = format!(".wh.{}", place.file_name().unwrap().to_str().unwrap());
                std::fs::write(place.with_file_name(name), "").unwrap();
            }
        }
    }
}

/// What shows: each path with the number of the layer that serves it, and whether it is a directory.
fn apply(layers: &[Sayings]) -> BTreeMap<String, (usize, bool)> {
    let mut shown: BTreeMap<String, (usize, bool)> = BTreeMap::new();
    for (number, layer) in (1..).zip(layers) {
        for (path, say) in layer {
            let merges = *say == Say::Dir && shown.get(path).is_some_and(|(_, is_dir)| *is_dir);
            if !merges {
                let below = format!("{path}/");
                shown.retain(|other, _| other != path && !other.starts_with(&below));
            }
            if *say != Say::Whiteout {
                shown.insert(path.clone(), (number, *say != Say::File));
            }
        }
    }
    shown
}

fn subject(top: &Path, layers: usize, with_upper: bool) -> Subject {
    let fds = FdCache::new(64);
    let lower = if with_upper { layers - 1 } else { layers };
    let sheet = |number: usize| {
        let layer = DirLayer::open(&top.join(number.to_string()), fds.clone()).unwrap();
        Sheet::bare(Arc::new(layer))
    };
    let upper = with_upper.then(|| {
        let path = top.join(layers.to_string());
        (sys::open::dir_path(&path).unwrap(), path.display().to_string())
    });
    Subject::new("test", upper, (1..=lower).rev().map(sheet).collect(), fds.clone()).unwrap()
}

#[test]
fn random_stacks_are_explained_as_the_model_has_them() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: u32| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        u32::try_from(state >> 33).unwrap() % below
    };
    let mut seen = BTreeSet::new();
    for round in 0..60 {
        let scratch = Scratch::new();
        let count = 2 + round % 4;
        let layers: Vec<Sayings> = (0..count).map(|_| random_layer(&mut random)).collect();
        (1..).zip(&layers).for_each(|(number, layer)| make(layer, &scratch.0.join(number.to_string()), number));
        let subject = subject(&scratch.0, count, round % 2 == 0);
        let shown = apply(&layers);
        for path in all_paths() {
            let found = explain(&subject, path.as_bytes(), false).unwrap();
            let expected = shown.get(&path).map(|(number, _)| count - number);
            let context =
                || format!("round {round}: {path} in {layers:#?}\n{}", text::picture(&found, Style::default()));
            assert_eq!(found.served().map(|served| served.layer), expected, "{}", context());
            let somewhere = layers.iter().any(|layer| layer.get(&path).is_some_and(|say| *say != Say::Whiteout));
            let hidden = matches!(found.outcome, Outcome::Hidden { .. });
            assert_eq!(hidden, expected.is_none() && somewhere, "{}", context());
            check_hider(&found, &layers, &context);
            json::document(&found);
            check_versions(&subject, &path, &layers, expected);
            seen.insert(found.outcome.exit_code());
        }
        check_tree(&subject, &shown, count);
        check_prefixes(&subject, &layers);
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [0, 1, 2], "all outcomes were met");
}

/// What is said to hide a path must be in a layer above the one that has it, and must do so there.
fn check_hider(found: &Explanation, layers: &[Sayings], context: &dyn Fn() -> String) {
    let Outcome::Hidden { layer, by } = &found.outcome else { return };
    let by = by.as_ref().unwrap_or_else(|| panic!("something hides it\n{}", context()));
    let say = layers[layers.len() - 1 - by.layer].get(&by.path.to_string());
    let fits = match by.how {
        trace::How::Whiteout => say == Some(&Say::Whiteout),
        trace::How::Opaque => say == Some(&Say::OpaqueDir),
        trace::How::Covered => matches!(say, Some(Say::File | Say::Dir | Say::OpaqueDir)),
    };
    assert!(fits && by.layer < *layer, "{by:?}\n{}", context());
}

/// `which` names the layers that have the path, and the one that serves it.
fn check_versions(subject: &Subject, path: &str, layers: &[Sayings], served: Option<usize>) {
    let found = versions::versions(subject, path.as_bytes(), false).unwrap();
    let mut has = Vec::new();
    let mut served_by = None;
    for row in &found.rows {
        if let versions::Row::Version { version, .. } = row {
            has.push(version.layer);
            if version.state == layers::State::Served {
                served_by = Some(version.layer);
            }
        }
    }
    let expected: Vec<usize> =
        (0..layers.len()).filter(|at| layers[layers.len() - 1 - at].contains_key(path)).collect();
    assert_eq!((has, served_by), (expected, served), "{path} in {layers:#?}");
}

/// The tree of all layers shows what the model shows, by the same layers.
fn check_tree(subject: &Subject, shown: &BTreeMap<String, (usize, bool)>, count: usize) {
    let mut found = BTreeMap::new();
    layers::walk(subject, &crate::path::RelPath::root(), &mut |folder, entry| {
        if let (Some(stat), Some(served)) = (&entry.stat, entry.served()) {
            let path = folder.path.child(entry.name.as_name()).to_string();
            found.insert(path, (count - served.layer, stat.kind() == sys::attr::Kind::Dir));
        }
        Ok(true)
    })
    .unwrap();
    assert_eq!(found, *shown);
}

/// The changes from each layer to the next are those of the model, and the history of each path agrees with them.
fn check_prefixes(subject: &Subject, layers: &[Sayings]) {
    let mut told: BTreeMap<String, Vec<compare::Change>> = BTreeMap::new();
    for upto in 0..layers.len() {
        let (before, after) = (subject.first(upto).unwrap(), subject.first(upto + 1).unwrap());
        let (old, new) = (apply(&layers[..upto]), apply(&layers[..=upto]));
        let found =
            changes::changes(&before, &after, &crate::path::RelPath::root(), changes::Rules::default()).unwrap();
        let letters: BTreeMap<String, compare::Change> =
            found.iter().map(|change| (change.path.to_string(), change.change)).collect();
        for path in all_paths() {
            let parent_went = (1..path.len()).filter(|at| path.as_bytes()[*at] == b'/').any(|at| {
                old.get(&path[..at]).is_some_and(|(_, dir)| *dir) && !new.get(&path[..at]).is_some_and(|(_, dir)| *dir)
            });
            let expected = match (old.get(&path), new.get(&path)) {
                (None, Some(_)) => Some(compare::Change::Added),
                // What lay in a directory that went is not listed.
                (Some(_), None) => Some(compare::Change::Deleted).filter(|_| !parent_went),
                (Some(a), Some(b)) if a.1 != b.1 || (!a.1 && a.0 != b.0) => Some(compare::Change::Changed),
                _ => letters.get(&path).copied().filter(|change| *change == compare::Change::Changed),
            };
            assert_eq!(letters.get(&path).copied(), expected, "{path}, {upto} layers and one more of {layers:#?}");
            match (old.get(&path), new.get(&path)) {
                (None, Some(_)) => told.entry(path).or_default().push(compare::Change::Added),
                (Some(_), None) => told.entry(path).or_default().push(compare::Change::Deleted),
                _ => {}
            }
        }
    }
    for (path, mut expected) in told {
        expected.reverse();
        let mut found: Vec<compare::Change> = log::log(subject, path.as_bytes(), false)
            .unwrap()
            .revisions
            .iter()
            .map(|revision| revision.change)
            .collect();
        found.retain(|change| *change != compare::Change::Changed);
        assert_eq!(found, expected, "{path}");
    }
}

#[test]
fn a_redirect_is_told() {
    let scratch = Scratch::new();
    for dir in ["1/old/sub", "2/new"] {
        std::fs::create_dir_all(scratch.0.join(dir)).unwrap();
    }
    std::fs::write(scratch.0.join("1/old/file"), "x").unwrap();
    let renamed = sys::open::dir_path(&scratch.0.join("2/new")).unwrap();
    let mode = sys::xattr::SetMode::Any;
    if let Err(e) = sys::xattr::set(&renamed, b"user.overlay.redirect", b"/old", mode) {
        crate::report::report_skip(&format!("no mark can be set here: {e}"));
        return;
    }
    let subject = subject(&scratch.0, 2, true);
    let found = explain(&subject, b"/new/file", false).unwrap();
    assert_eq!(found.served().map(|served| served.layer), Some(1), "{found:#?}");
    let document = json::document(&found);
    assert_eq!(document["components"][0]["steps"][0]["marks"]["redirect"], "/old");
    assert_eq!(document["components"][0]["steps"][1]["name"], "old");
    let picture = text::picture(&found, Style::default());
    assert!(picture.contains("goes on below as /old") && picture.contains("as old"), "{picture}");
}

#[test]
fn an_opaque_root_hides_the_roots_below() {
    let scratch = Scratch::new();
    make(&Sayings::from([("/a".to_owned(), Say::File)]), &scratch.0.join("1"), 1);
    make(&Sayings::from([("/b".to_owned(), Say::File)]), &scratch.0.join("2"), 2);
    std::fs::write(scratch.0.join("2/.wh..wh..opq"), "").unwrap();
    for with_upper in [false, true] {
        let subject = subject(&scratch.0, 2, with_upper);
        let found = explain(&subject, b"a", false).unwrap();
        let by = trace::Cut { layer: 0, path: crate::path::RelPath::root(), how: trace::How::Opaque };
        assert_eq!(found.outcome, Outcome::Hidden { layer: 1, by: Some(by) });
        let root = explain(&subject, b"/", false).unwrap();
        assert_eq!(json::document(&root)["components"][0]["steps"][1]["verdict"], "shadowed");
    }
}

#[test]
fn signs_and_colours_are_only_drawn_when_asked_for() {
    let scratch = Scratch::new();
    make(&Sayings::from([("/a".to_owned(), Say::File)]), &scratch.0.join("1"), 1);
    let found = explain(&subject(&scratch.0, 1, false), b"a", false).unwrap();
    let plain = text::picture(&found, Style::default());
    assert!(plain.is_ascii() && !plain.contains('\x1b'), "{plain}");
    let drawn = text::picture(&found, Style { unicode: true, colour: true, verbose: false });
    assert!(drawn.contains("\x1b[32m▶ L1"), "{drawn}");
}
