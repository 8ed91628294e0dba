//! Every sequence of two operations on two directories and two files, against the plain directory: bounded exhaustive, as ACE
//! of "Finding Crash-Consistency Bugs with Bounded Black-Box Crash Testing" (OSDI 2018) makes its workloads.
//!
//! After each operation, after a remount, with the upper as a layer and under the kernel's overlayfs the tree is compared. An
//! operation that changes nothing is not followed by another: that sequence is the other one alone. A plain run takes every
//! n-th sequence, always the same ones; `MICA_CASES_ALL=1` takes all of them.

use std::panic::AssertUnwindSafe;

use crate::layers::LayerSpec;
use crate::layers::Store;
use crate::layers::dir;
use crate::layers::entry;
use crate::layers::file;
use crate::layers::rel;
use crate::ops::At;
use crate::ops::Flag;
use crate::ops::New;
use crate::ops::Op;
use crate::support::report_count;
use crate::world::Limits;
use crate::world::Setup;
use crate::world::World;

/// The two directories: `a` is in both layers, `b` in the lower one.
const DIRS: [&str; 2] = ["a", "b"];
/// The two files in each: one of the lower layer, one that the upper layer has too, one more, and one that is whited out.
const FILES: [&str; 4] = ["a/a", "a/b", "b/a", "b/b"];

type Path = &'static str;

/// One operation of a sequence.
#[derive(Debug, Clone, Copy)]
enum Act {
    Create(Path),
    Mkdir(Path),
    Symlink(Path),
    Link(Path, Path),
    Unlink(Path),
    Rmdir(Path),
    Rename(Path, Path, Flag),
    Write(Path),
    Truncate(Path),
    Chmod(Path),
    SetXattr(Path),
}

/// Everything that a sequence is made of.
fn acts() -> Vec<Act> {
    let one: [fn(Path) -> Act; 8] =
        [Act::Create, Act::Mkdir, Act::Symlink, Act::Unlink, Act::Write, Act::Truncate, Act::Chmod, Act::SetXattr];
    let mut acts: Vec<Act> = one.iter().flat_map(|act| FILES.map(act)).collect();
    acts.extend(
        DIRS.iter().flat_map(|d| [Act::Rmdir(d), Act::Chmod(d), Act::SetXattr(d), Act::Rename(d, "c", Flag::None)]),
    );
    acts.extend(["a/b", "b/b"].map(Act::Rmdir));
    acts.extend([
        Act::Mkdir("c"),
        Act::Rmdir("c"),
        Act::Rename("a", "b/b", Flag::None),
        Act::Rename("c", "a", Flag::None),
    ]);
    acts.extend([
        Act::Rename("a", "b", Flag::None),
        Act::Rename("b", "a", Flag::None),
        Act::Rename("a", "b", Flag::Exchange),
    ]);
    for from in FILES {
        for to in FILES.into_iter().filter(|to| *to != from) {
            acts.extend([Act::Rename(from, to, Flag::None), Act::Link(from, to)]);
        }
    }
    acts.extend([("a/a", "a/b"), ("a/a", "b/a"), ("a/b", "b/a")].map(|(x, y)| Act::Rename(x, y, Flag::Exchange)));
    acts
}

/// The same for [`World`], one step each; none when a directory on the way is not there.
fn steps(act: Act, world: &World) -> Option<Vec<Op>> {
    const MODE_644: u8 = 0;
    const MODE_755: u8 = 1;
    const MODE_600: u8 = 5;
    let at = |path: Path| -> Option<At> { world.at(&rel(path)) };
    let make = |path, new, mode| Some(vec![Op::Make(at(path)?, new, mode, false)]);
    match act {
        Act::Create(path) => make(path, New::File, MODE_644),
        Act::Mkdir(path) => make(path, New::Dir, MODE_755),
        Act::Symlink(path) => make(path, New::Symlink, MODE_644),
        Act::Link(from, to) => Some(vec![Op::Link(at(from)?, at(to)?)]),
        Act::Unlink(path) => Some(vec![Op::Unlink(at(path)?)]),
        Act::Rmdir(path) => Some(vec![Op::Rmdir(at(path)?)]),
        Act::Rename(from, to, flag) => Some(vec![Op::Rename(at(from)?, at(to)?, flag)]),
        Act::Write(path) => Some(vec![Op::Open(0, at(path)?, true, false), Op::Write(0, 3, 100), Op::Close(0)]),
        Act::Truncate(path) => Some(vec![Op::Truncate(at(path)?, 2)]),
        Act::Chmod(path) => Some(vec![Op::Chmod(at(path)?, MODE_600)]),
        Act::SetXattr(path) => Some(vec![Op::SetXattr(at(path)?, 0, 0)]),
    }
}

fn setup(redirect: bool, limits: Limits) -> Setup {
    let lower = vec![
        dir("a"),
        file("a/a", "lower a/a"),
        file("a/b", "lower a/b"),
        dir("b"),
        file("b/a", "lower b/a"),
        file("b/b", "lower b/b"),
    ];
    let upper = vec![dir("a"), file("a/b", "upper a/b"), dir("b"), entry("b/b", micafs::layer::mem::Shape::Whiteout)];
    let layers = [lower, upper].map(|entries| LayerSpec { store: Store::Dir, entries });
    Setup { layers: layers.into(), redirect, limits }
}

/// Runs a sequence; whether it changed anything.
fn run(setup: &Setup, sequence: &[Act]) -> bool {
    let mut world = World::new(setup.clone());
    let before = world.tree().clone();
    for act in sequence {
        steps(*act, &world).into_iter().flatten().for_each(|op| world.step(&op));
    }
    let changed = before != *world.tree();
    world.finish();
    changed
}

/// Runs a sequence; adds to `bad` what is wrong with it.
fn try_run(setup: &Setup, sequence: &[Act], bad: &mut Vec<String>) -> bool {
    std::panic::catch_unwind(AssertUnwindSafe(|| run(setup, sequence))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map_or("a panic without a text", String::as_str);
        bad.push(format!("{sequence:?}: {text}"));
        true
    })
}

/// All sequences of one operation, and every `nth` of two; `nth` has no factor in common with the number of operations, so that
/// each operation is the second one of some.
fn sequences(setup: &Setup, nth: usize) {
    if crate::model::skip() {
        return;
    }
    let nth = if std::env::var_os("MICA_CASES_ALL").is_some() { 1 } else { nth };
    let acts = acts();
    let mut bad = Vec::new();
    let changing: Vec<Act> = acts.iter().copied().filter(|act| try_run(setup, &[*act], &mut bad)).collect();
    let pairs: Vec<[Act; 2]> = changing.iter().flat_map(|first| acts.iter().map(|second| [*first, *second])).collect();
    let chosen: Vec<_> = pairs.iter().step_by(nth).collect();
    for pair in &chosen {
        try_run(setup, *pair, &mut bad);
    }
    let (ones, twos, all) = (acts.len(), chosen.len(), pairs.len());
    assert!(bad.is_empty(), "{} of {}:\n{}", bad.len(), ones + twos, bad.join("\n"));
    report_count(ones + twos, &format!("sequences: all {ones} of one operation, {twos} of the {all} of two"));
}

#[test]
fn all_sequences_of_two_operations() {
    sequences(&setup(false, Limits::default()), 5);
}

#[test]
fn all_sequences_of_two_operations_with_redirects() {
    sequences(&setup(true, Limits::default()), 5);
}

#[test]
fn all_sequences_of_two_operations_on_an_upper_that_can_do_little() {
    let limits = Limits { no_devices: true, no_exchange: true, no_marks: false };
    sequences(&setup(true, limits), 13);
}
