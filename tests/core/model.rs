//! Random operations on random layers, against the plain directory.

use std::cell::Cell;
use std::cell::RefCell;
use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::Config;
use proptest::test_runner::RngAlgorithm;
use proptest::test_runner::TestRng;
use proptest::test_runner::TestRunner;

use crate::layers::LayerSpec;
use crate::layers::Store;
use crate::layers::any_layer;
use crate::ops::Op;
use crate::ops::any_op;
use crate::support::report_count;
use crate::support::report_skip;
use crate::world::Limits;
use crate::world::Listed;
use crate::world::Setup;
use crate::world::World;
use crate::world::read_what_the_kernel_wrote;

/// Why these tests cannot run here, if so.
pub fn skip() -> bool {
    let root = sys_is_root();
    if !root {
        report_skip("making whiteouts, devices and trusted attributes needs root");
    }
    !root
}

fn sys_is_root() -> bool {
    micafs::sys::process::effective_uid() == 0
}

pub fn cases(usual: u32) -> u32 {
    std::env::var("MICA_CASES").ok().and_then(|v| v.parse().ok()).unwrap_or(usual)
}

fn seed() -> u64 {
    let fresh = || u64::from_ne_bytes(micafs::env::random().unwrap());
    std::env::var("MICA_SEED").ok().and_then(|v| v.parse().ok()).unwrap_or_else(fresh)
}

/// So many random cases see every deviation but the rare ones, each many times.
const ENOUGH: u32 = 200;

fn run(usual: u32, stores: &'static [Store], links: bool, redirect: bool, limits: Limits) {
    let seen = RefCell::new(BTreeMap::<Listed, usize>::new());
    try_cases(usual, stores, links, |layers, ops| {
        let mut world = World::new(Setup { layers, redirect, limits });
        ops.iter().for_each(|op| world.step(op));
        world.finish();
        world.listed.into_iter().for_each(|(one, n)| *seen.borrow_mut().entry(one).or_default() += n);
    });
    // A deviation that is not seen any more is to be taken off the list. The rare ones have tests of their own in `regress`.
    let wanted = [
        (Listed::LowerDirectory, !redirect || limits != Limits::default()),
        (Listed::NoExchange, limits.no_exchange),
        (Listed::LongMark, limits.no_devices),
    ];
    for (one, _) in wanted.into_iter().filter(|(_, wanted)| *wanted && cases(usual) >= ENOUGH && !skip()) {
        assert!(seen.borrow().contains_key(&one), "{one:?} was never seen: out of date?");
    }
}

fn try_cases(usual: u32, stores: &'static [Store], links: bool, body: impl Fn(Vec<LayerSpec>, &[Op])) {
    if skip() {
        return;
    }
    let seed = seed();
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_ne_bytes());
    let config = Config { cases: cases(usual), failure_persistence: None, max_shrink_iters: 3000, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let layers = prop::collection::vec(any_layer(stores, links), 1..4);
    let ops = prop::collection::vec(any_op(), 1..40);
    let done = Cell::new(0);
    let result = runner.run(&(layers, ops), |(layers, ops)| {
        body(layers, &ops);
        done.set(done.get() + 1);
        Ok(())
    });
    if let Err(e) = result {
        let text = format!("{e}");
        panic!("MICA_SEED={seed}: {}", text.split_whitespace().collect::<Vec<_>>().join(" "));
    }
    report_count(done.get(), "random cases");
}

#[test]
fn an_upper_that_the_kernel_wrote() {
    if skip() {
        return;
    }
    for redirect in [false, true] {
        try_cases(20, &[Store::Dir], false, |layers, ops| {
            read_what_the_kernel_wrote(&Setup { layers, redirect, limits: Limits::default() }, ops);
        });
    }
}

#[test]
fn directories_with_redirects_off() {
    run(40, &[Store::Dir], false, false, Limits::default());
}

#[test]
fn directories_with_redirects_on() {
    run(40, &[Store::Dir], false, true, Limits::default());
}

#[test]
fn every_kind_of_layer() {
    run(40, &[Store::Dir, Store::Aufs, Store::Mem], false, true, Limits::default());
}

#[test]
fn layers_with_hard_links() {
    run(40, &[Store::Dir, Store::Mem], true, true, Limits::default());
}

#[test]
fn an_upper_without_device_whiteouts() {
    let limits = Limits { no_devices: true, ..Limits::default() };
    run(30, &[Store::Dir, Store::Aufs], false, true, limits);
}

#[test]
fn an_upper_without_devices_and_exchange() {
    let limits = Limits { no_devices: true, no_exchange: true, ..Limits::default() };
    run(25, &[Store::Dir], false, true, limits);
}

#[test]
fn an_upper_without_exchange() {
    let limits = Limits { no_exchange: true, ..Limits::default() };
    run(25, &[Store::Dir], false, true, limits);
}

#[test]
fn an_upper_without_anything() {
    let limits = Limits { no_devices: true, no_exchange: true, no_marks: true };
    run(25, &[Store::Dir], false, false, limits);
}
