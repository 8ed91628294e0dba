//! Every operation, cut at every system call that changes something.
//!
//! *Death*: from call N on nothing works any more; a new union over the same directories must show the tree of before or of
//! after. *Fault*: only call N fails; the operation says so and the tree is the one of before, or it succeeds; the next
//! operations are right.

use std::cell::RefCell;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;

use micafs::layer::mem::Shape;
use micafs::sys;
use micafs::sys::Errno;
use micafs::sys::attr::Kind;
use micafs::sys::gate;
use micafs::union::MakeKind;
use micafs::union::attr::SetAttr;

use crate::client::Client;
use crate::client::Outcome;
use crate::layers::dir;
use crate::layers::entry;
use crate::layers::file;
use crate::ops::Flag;
use crate::snap;
use crate::snap::Pins;
use crate::snap::Shown;
use crate::snap::Tree;
use crate::support::report_count;
use crate::world::Limits;
use crate::world::Scratch;
use crate::world::Setup;

type Act = fn(&mut Client) -> Outcome;

/// Name, what happens before, the operation.
const SCENARIOS: &[(&str, Act, Act)] = &[
    ("copy up a file", |_| Ok(()), |c| c.chmod("file")),
    ("write a lower file", |_| Ok(()), |c| c.write("d/f", "NEW")),
    ("cut a lower file", |_| Ok(()), |c| c.set("sparse", &SetAttr { size: Some(5000), ..SetAttr::default() })),
    ("copy up a symlink", |_| Ok(()), |c| c.chown("symlink")),
    ("copy up a fifo", |_| Ok(()), |c| c.chmod("fifo")),
    ("copy up a chain", |_| Ok(()), |c| c.chmod("x/y/z/deep")),
    ("create", |_| Ok(()), |c| c.make("d/new", MakeKind::File)),
    ("create over a whiteout", |c| c.unlink("file"), |c| c.make("file", MakeKind::File)),
    ("mkdir over a whiteout", |c| c.unlink("file"), |c| c.mkdir("file")),
    ("mkdir over a whiteout of a directory", |c| c.unlink("m/1").and_then(|()| c.rmdir("m")), |c| c.mkdir("m")),
    ("symlink over a whiteout", |c| c.unlink("file"), |c| c.make("file", MakeKind::Symlink(b"to"))),
    ("mknod", |_| Ok(()), |c| c.make("d/n", MakeKind::Node(Kind::Fifo, 0))),
    ("unlink lower", |_| Ok(()), |c| c.unlink("d/f")),
    ("unlink upper over lower", |c| c.chmod("d/f"), |c| c.unlink("d/f")),
    ("unlink upper", |c| c.write("d/u", "u"), |c| c.unlink("d/u")),
    ("rmdir lower", |_| Ok(()), |c| c.rmdir("empty")),
    ("rmdir merged with whiteouts", |c| c.unlink("m/1"), |c| c.rmdir("m")),
    ("rmdir upper", |c| c.mkdir("d/u"), |c| c.rmdir("d/u")),
    ("rename lower to new", |_| Ok(()), |c| c.rename("d/f", "e/new", Flag::None)),
    ("rename lower over lower", |_| Ok(()), |c| c.rename("d/f", "file", Flag::None)),
    ("rename upper over lower", |c| c.write("d/u", "u"), |c| c.rename("d/u", "file", Flag::None)),
    ("rename lower onto a whiteout", |c| c.unlink("file"), |c| c.rename("d/f", "file", Flag::None)),
    (
        "rename upper onto a whiteout",
        |c| c.unlink("file").and_then(|()| c.write("u", "u")),
        |c| c.rename("u", "file", Flag::None),
    ),
    ("rename directory", |c| c.mkdir("u").and_then(|()| c.write("u/1", "1")), |c| c.rename("u", "d/u", Flag::None)),
    (
        "rename directory over empty merged",
        |c| {
            c.unlink("m/1")?;
            c.mkdir("u")?;
            c.write("u/in", "in")
        },
        |c| c.rename("u", "m", Flag::None),
    ),
    (
        "rename directory onto a whiteout",
        |c| {
            c.unlink("file")?;
            c.mkdir("u")?;
            c.write("u/in", "in")
        },
        |c| c.rename("u", "file", Flag::None),
    ),
    (
        "rename directory that hides a lower one",
        |c| {
            c.unlink("m/1")?;
            c.rmdir("m")?;
            c.mkdir("m")?;
            c.write("m/in", "in")
        },
        |c| c.rename("m", "new", Flag::None),
    ),
    (
        "rename directory that hides a lower one onto a whiteout",
        |c| {
            c.unlink("file")?;
            c.unlink("m/1")?;
            c.rmdir("m")?;
            c.mkdir("m")?;
            c.write("m/in", "in")
        },
        |c| c.rename("m", "file", Flag::None),
    ),
    ("redirect a directory", |_| Ok(()), |c| c.rename("d", "e/moved", Flag::None)),
    ("redirect a directory twice", |c| c.rename("d", "moved", Flag::None), |c| c.rename("moved", "e/2", Flag::None)),
    ("exchange files", |_| Ok(()), |c| c.rename("d/f", "file", Flag::Exchange)),
    ("exchange directories", |_| Ok(()), |c| c.rename("d", "e", Flag::Exchange)),
    ("exchange file and new directory", |c| c.mkdir("u"), |c| c.rename("u", "file", Flag::Exchange)),
    ("link lower", |_| Ok(()), |c| c.link("d/f", "e/l")),
    ("link over a whiteout", |c| c.unlink("file"), |c| c.link("d/f", "file")),
];

/// What is done with a file that is copied up block by block.
const IN_BLOCKS: &[(&str, Act, Act)] = &[
    ("write into a large file", |_| Ok(()), |c| c.write_at("large", 5000, "NEW")),
    (
        "write over the end of a block",
        |c| c.write_at("large", 1, "OLD"),
        |c| c.write_at("large", (256 << 10) - 2, "NEW"),
    ),
    ("append to a large file", |_| Ok(()), |c| c.write_at("large", LARGE, "NEW")),
    ("append behind a dressed file", |c| c.chmod("large"), |c| c.write_at("large", LARGE + 1_000_000, "NEW")),
    (
        "cut a file that has blocks",
        |c| c.write_at("large", 5000, "OLD"),
        |c| c.set("large", &SetAttr { size: Some(300_000), ..SetAttr::default() }),
    ),
    (
        "cut a dressed file to a few bytes",
        |c| c.chmod("large"),
        |c| c.set("large", &SetAttr { size: Some(100), ..SetAttr::default() }),
    ),
    (
        "settle",
        |c| {
            c.write_at("large", 5000, "OLD")
                .and_then(|()| c.chmod("other"))
                .and_then(|()| c.rename("d", "e", Flag::None))
        },
        Client::settle,
    ),
    ("rename a file that has blocks", |c| c.write_at("large", 9, "OLD"), |c| c.rename("large", "d/new", Flag::None)),
    ("link a file that has blocks", |c| c.write_at("large", 9, "OLD"), |c| c.link("large", "d/new")),
    ("unlink a file that has blocks", |c| c.write_at("large", 9, "OLD"), |c| c.unlink("large")),
];

/// Its size in bytes; not a whole number of blocks.
const LARGE: u64 = (4 << 20) + 1000;

fn setup_of_blocks() -> Setup {
    let large = Shape::File(LARGE, vec![(0, vec![1; 10_000]), (250_000, vec![2; 50_000]), (LARGE - 500, vec![3; 500])]);
    let layer = vec![dir("d"), file("d/f", "lower f"), entry("large", large), file("other", &"other".repeat(5000))];
    let mut setup = Setup::of_dirs(vec![layer]);
    setup.redirect = true;
    setup
}

fn setup(limits: Limits) -> Setup {
    let sparse = Shape::File(100_000, vec![(0, vec![1; 10]), (50_000, vec![2; 5000])]);
    let mut setup = Setup::of_dirs(vec![vec![
        dir("d"),
        file("d/f", "lower f"),
        dir("d/sub"),
        file("d/sub/1", "one"),
        dir("e"),
        dir("empty"),
        dir("m"),
        file("m/1", "one"),
        dir("x"),
        dir("x/y"),
        dir("x/y/z"),
        file("x/y/z/deep", "deep"),
        file("file", "lower file"),
        entry("symlink", Shape::Symlink(b"target".to_vec())),
        entry("fifo", Shape::Node(Kind::Fifo, 0)),
        entry("sparse", sparse),
    ]]);
    setup.redirect = true;
    setup.limits = limits;
    setup
}

/// What must be the same: all but times and numbers.
fn essence(tree: Tree) -> Tree {
    let still = |s: Shown| Shown { mtime: None, nlink: 0, ino: 0, ..s };
    tree.into_iter().map(|(path, s)| (path, still(s))).collect()
}

fn tree_of(setup: &Setup, scratch: &Scratch) -> Tree {
    let union = setup.mount(scratch);
    let left = snap::of_dir(&scratch.0.join("work/work")).unwrap();
    assert_eq!(left.len(), 1, "work is not empty after it was opened: {left:?}");
    let mut pins = Pins::default();
    let tree = snap::of_union(&union, &mut pins).expect("a readable union");
    pins.forget_all(&union);
    assert_eq!(union.table().len(), 1, "nodes left");
    essence(tree)
}

/// The calls that a hook saw, and which of them it made fail.
type Log = Rc<RefCell<Vec<String>>>;

/// Runs `act` with the calls from number `from` up to (not including) `to` failing.
fn with_faults<T>(from: usize, to: usize, errno: Errno, act: impl FnOnce() -> T) -> (T, Vec<String>) {
    let log = Log::default();
    let out = gate::with_hook(one_of(from..to, errno, log.clone()), act);
    let calls = log.borrow().clone();
    (out, calls)
}

/// The same among all calls, those that only open and read included.
fn with_fault_in_all<T>(at: usize, errno: Errno, act: impl FnOnce() -> T) -> (T, Vec<String>) {
    let log = Log::default();
    let out = gate::with_hook_on_all(one_of(at..at.saturating_add(1), errno, log.clone()), act);
    let calls = log.borrow().clone();
    (out, calls)
}

fn one_of(range: std::ops::Range<usize>, errno: Errno, log: Log) -> impl FnMut(&gate::Call<'_>) -> Option<Errno> {
    move |call: &gate::Call<'_>| {
        let n = log.borrow().len();
        log.borrow_mut().push(format!("{}({})", call.name, call.args));
        range.contains(&n).then_some(errno)
    }
}

/// A fresh upper over the layers in `scratch`, with the scenario prepared.
fn prepared(setup: &Setup, scratch: &Scratch, before: Act) -> Outcome<Client> {
    for name in ["upper", "work"] {
        sys::name::clear(sys::open::dir_path(&scratch.0.join(name)).unwrap()).unwrap();
    }
    let mut client = Client::new(setup.mount(scratch));
    before(&mut client)?;
    Ok(client)
}

/// The trees of before and after, and the calls in between; `None` when this upper refuses the operation.
fn reference(setup: &Setup, scratch: &Scratch, before: Act, act: Act) -> Option<(Tree, Tree, usize)> {
    match prepared(setup, scratch, before) {
        Err(Errno::XDEV) if setup.limits != Limits::default() => return None,
        other => drop(other.expect("prepared")),
    }
    let tree_before = tree_of(setup, scratch);
    let mut client = Client::new(setup.mount(scratch));
    let (done, calls) = with_faults(usize::MAX, usize::MAX, Errno::IO, || act(&mut client));
    drop(client);
    let tree_after = tree_of(setup, scratch);
    match done {
        Err(Errno::XDEV | Errno::INVAL) if setup.limits != Limits::default() => {
            assert_eq!(tree_before, tree_after, "a refused operation changed the tree");
            None
        }
        other => {
            other.expect("the operation works without faults");
            Some((tree_before, tree_after, calls.len()))
        }
    }
}

fn for_each_scenario(mut body: impl FnMut(&str, (&Setup, &Scratch), Act, Act)) {
    if crate::model::skip() {
        return;
    }
    let no = |no_devices, no_exchange, no_marks| Limits { no_devices, no_exchange, no_marks };
    let limits = [
        Limits::default(),
        no(false, true, false),
        no(true, false, false),
        no(true, true, false),
        no(true, true, true),
    ];
    for limits in limits {
        let setup = setup(limits);
        let scratch = Scratch::new();
        setup.write_layers(&scratch);
        for (name, before, act) in SCENARIOS {
            body(&format!("{name} {limits:?}"), (&setup, &scratch), *before, *act);
        }
    }
    let (setup, scratch) = (setup_of_blocks(), Scratch::new());
    setup.write_layers(&scratch);
    for (name, before, act) in IN_BLOCKS {
        body(name, (&setup, &scratch), *before, *act);
    }
}

fn difference(a: &Tree, b: &Tree) -> String {
    let paths: std::collections::BTreeSet<_> = a.keys().chain(b.keys()).collect();
    let differs = paths.into_iter().filter(|p| a.get(p) != b.get(p));
    differs.map(|p| format!("{p}: {} / {}", a.contains_key(p), b.contains_key(p))).collect::<Vec<_>>().join(", ")
}

#[test]
fn death_at_every_call_leaves_before_or_after() {
    let (mut states, mut bad) = (0, Vec::new());
    for_each_scenario(|name, (setup, scratch), before, act| {
        let Some((tree_before, tree_after, calls)) = reference(setup, scratch, before, act) else { return };
        for n in 0..calls {
            let mut client = prepared(setup, scratch, before).expect("prepared");
            let (_, log) = with_faults(n, usize::MAX, Errno::IO, || {
                let _ = act(&mut client);
                drop(client);
            });
            let tree = tree_of(setup, scratch);
            states += 1;
            if tree != tree_before && tree != tree_after {
                let (b, a) = (difference(&tree, &tree_before), difference(&tree, &tree_after));
                bad.push(format!("{name}: dead at call {n}, {}:\n  to before: {b}\n  to after: {a}", log[n]));
            }
        }
    });
    assert!(bad.is_empty(), "{} of {states} states are neither before nor after:\n{}", bad.len(), bad.join("\n"));
    report_count(states, "states after a death");
}

/// What a call fails with: one cause in turn, or with `MICA_CASES_ALL` each of them.
fn causes(turn: usize) -> &'static [Errno] {
    const ALL: [Errno; 5] = [Errno::NOSPC, Errno::IO, Errno::ROFS, Errno::DQUOT, Errno::MFILE];
    if std::env::var_os("MICA_CASES_ALL").is_some() { &ALL } else { std::slice::from_ref(&ALL[turn % ALL.len()]) }
}

#[test]
fn a_fault_at_every_call_is_told_and_harmless() {
    let (mut faults, mut bad) = (0, Vec::new());
    for_each_scenario(|name, (setup, scratch), before, act| {
        let Some((tree_before, tree_after, calls)) = reference(setup, scratch, before, act) else { return };
        for n in 0..calls {
            for errno in causes(faults) {
                faults += 1;
                let fault = |act: &mut dyn FnMut() -> Outcome| with_faults(n, n + 1, *errno, act);
                if let Err(e) =
                    one_fault((setup, scratch), (before, act), (name, n, *errno), fault, (&tree_before, &tree_after))
                {
                    bad.push(format!("{name}: {e}"));
                }
            }
        }
    });
    assert!(bad.is_empty(), "{} of {faults} faults:\n{}", bad.len(), bad.join("\n"));
    report_count(faults, "faults");
}

/// One in so many of the calls that open and read fails, unless `MICA_CASES_ALL` asks for each.
const READ_STEP: usize = 4;

#[test]
fn a_fault_at_an_opening_or_a_reading_call_is_told_and_harmless() {
    let all = std::env::var_os("MICA_CASES_ALL").is_some();
    let (mut calls, mut faults, mut bad) = (0, 0, Vec::new());
    for_each_scenario(|name, (setup, scratch), before, act| {
        if setup.limits != Limits::default() && !all {
            return;
        }
        let Some((tree_before, tree_after, _)) = reference(setup, scratch, before, act) else { return };
        let log = {
            let mut client = prepared(setup, scratch, before).expect("prepared");
            snap::of_union(&client.union, &mut client.pins).unwrap();
            let (done, log) = with_fault_in_all(usize::MAX, Errno::IO, || act(&mut client));
            done.expect("the operation works without faults");
            log
        };
        for (n, call) in log.iter().enumerate() {
            // The others are the matter of the test above.
            if !call.ends_with("()") {
                continue;
            }
            calls += 1;
            if !all && calls % READ_STEP != 0 {
                continue;
            }
            let errno = if call.starts_with("open") {
                [Errno::MFILE, Errno::ROFS, Errno::NFILE, Errno::IO][faults % 4]
            } else {
                Errno::IO
            };
            faults += 1;
            let fault = |act: &mut dyn FnMut() -> Outcome| with_fault_in_all(n, errno, act);
            let trees = (&tree_before, &tree_after);
            let tried = AssertUnwindSafe(|| one_fault((setup, scratch), (before, act), (name, n, errno), fault, trees));
            match std::panic::catch_unwind(tried) {
                Ok(Ok(())) => {}
                Ok(Err(e)) => bad.push(format!("{name}: {e}")),
                Err(panic) => {
                    let text = panic.downcast_ref::<String>().map_or("a panic", String::as_str);
                    bad.push(format!("{name}: {errno:?} at call {n}, {call}: {text}"));
                }
            }
        }
    });
    assert!(bad.is_empty(), "{} of {faults} faults:\n{}", bad.len(), bad.join("\n"));
    report_count(faults, "faults of calls that open and read");
}

fn one_fault(
    (setup, scratch): (&Setup, &Scratch),
    (before, act): (Act, Act),
    (what, n, errno): (&str, usize, Errno),
    fault: impl FnOnce(&mut dyn FnMut() -> Outcome) -> (Outcome, Vec<String>),
    trees: (&Tree, &Tree),
) -> Result<(), String> {
    let mut client = prepared(setup, scratch, before).expect("prepared");
    // What a caller has seen before stays known to it.
    snap::of_union(&client.union, &mut client.pins).unwrap();
    let (done, log) = fault(&mut || act(&mut client));
    let at = format!("{errno:?} at call {n}, {}: result {done:?}", log.get(n).map_or("(none)", |c| c));
    let live = snap::of_union(&client.union, &mut client.pins).map_err(|e| format!("{at}: not readable: {e}"))?;
    let live = essence(live);
    // Listed: a file is cut by the copy-up already; where the cut itself fails after that, it is told as failed. And where asking for
    // the attributes to answer with fails, what was done stays done.
    let late = ["ftruncate", "pwrite", "fstat"];
    let cut = what.starts_with("cut") || log.get(n).is_some_and(|c| late.iter().any(|name| c.starts_with(name)));
    let told_as_failed = done.is_err() && live == *trees.1 && live != *trees.0;
    match done {
        Ok(()) if live == *trees.1 => {}
        Err(e) if e == errno && (live == *trees.0 || (cut && live == *trees.1)) => {}
        Err(e) if e != errno => return Err(format!("{at}: another error")),
        _ => {
            let (b, a) = (difference(&live, trees.0), difference(&live, trees.1));
            return Err(format!("{at}\n  to before: {b}\n  to after: {a}"));
        }
    }
    let left = snap::of_dir(&scratch.0.join("work/work")).unwrap().len() - 1;
    let cleaning = log.get(n).is_some_and(|c| c.starts_with("unlinkat"));
    if left > 0 && !cleaning && done.is_err() {
        return Err(format!("{at}: {left} objects left in work"));
    }
    if done.is_err() && !told_as_failed {
        act(&mut client).map_err(|e| format!("{at}: the second try: {e:?}"))?;
    }
    let live =
        snap::of_union(&client.union, &mut client.pins).map_err(|e| format!("{at}, again: not readable: {e}"))?;
    if essence(live) != *trees.1 {
        return Err(format!("{at}: the second try gives another tree"));
    }
    client.pins.forget_all(&client.union);
    if client.union.table().len() != 1 {
        return Err(format!("{at}: nodes left"));
    }
    drop(client);
    let again = tree_of(setup, scratch);
    if again != *trees.1 {
        return Err(format!("{at}: another tree after a remount: {}", difference(&again, trees.1)));
    }
    Ok(())
}
