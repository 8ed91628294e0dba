//! The daemon is killed on entry of a call that changes something. What is on disk must be a whole tree: that of before, or of after.

use std::fmt::Write as _;

use crate::Outcome;
use crate::lab::LIMIT;
use crate::lab::Lab;
use crate::lab::differences;
use crate::lab::five_copy_ups;
use crate::lab::missing;
use crate::scenes::SCENES;
use crate::scenes::Scene;
use crate::scenes::fill;
use crate::strace::Call;
use crate::strace::Strace;
use crate::support::Snapshot;
use crate::support::guard::wait_for;

/// How many calls of one scene are tried, unless all are.
const FEW: usize = 7;

/// What a scene does when nothing goes wrong.
pub struct Reference {
    /// The tree of before.
    pub before: Snapshot,
    /// The tree of after.
    pub after: Snapshot,
    /// The calls in between.
    pub calls: Vec<Call>,
    /// The lower layer.
    pub lower: Snapshot,
}

impl Reference {
    /// Plays a scene through.
    pub fn of(lab: &Lab, scene: &Scene) -> Self {
        lab.clear();
        let server = lab.mount();
        server.act(scene.before).unwrap_or_else(|e| panic!("before {}: {e}", scene.name));
        let before = server.tree();
        let strace = Strace::attach(server.pid(), &lab.beside("strace"), None);
        server.act(scene.act).unwrap_or_else(|e| panic!("{}: {e}", scene.name));
        let calls = strace.detach();
        let after = server.tree();
        server.unmount();
        assert!(!calls.is_empty(), "{}: nothing was changed", scene.name);
        Self { before, after, calls, lower: Snapshot::of(&lab.lower).expect("lower") }
    }

    /// Fails unless a tree is that of before or of after; whether it is that of before.
    pub fn check(&self, tree: &Snapshot, what: &str) -> bool {
        let (from_before, from_after) =
            (differences(&self.before, tree, &self.lower), differences(&self.after, tree, &self.lower));
        let whole = from_before.is_empty() || from_after.is_empty();
        assert!(whole, "{what}: neither the tree of before:\n{from_before:#?}\nnor that of after:\n{from_after:#?}");
        from_before.is_empty()
    }
}

/// The calls that are tried: all, or some, evenly spread, with the first and the last.
pub fn chosen(calls: &[Call]) -> Vec<&Call> {
    if std::env::var_os("MICA_CRASH_ALL").is_some() || calls.len() <= FEW {
        return calls.iter().collect();
    }
    (0..FEW).map(|i| &calls[i * (calls.len() - 1) / (FEW - 1)]).collect()
}

/// The test.
pub fn killed() -> Outcome {
    if let Some(reason) = missing(&["strace"]) {
        return Outcome::Skipped(reason);
    }
    let lab = Lab::new("cuts", fill);
    let (mut cuts, mut before) = (0, 0);
    let mut list = String::new();
    for scene in SCENES {
        let reference = Reference::of(&lab, scene);
        cuts += reference.calls.len();
        let _ = writeln!(list, "    {}: {} calls", scene.name, reference.calls.len());
        for call in &reference.calls {
            before += usize::from(kill_at(&lab, scene, &reference, call));
        }
    }
    print!("{list}");
    Outcome::Done(format!("{cuts} cuts, {before} show before, {} after, 0 neither", cuts - before))
}

fn kill_at(lab: &Lab, scene: &Scene, reference: &Reference, call: &Call) -> bool {
    let what = format!("{}, killed at {} number {}: {}", scene.name, call.name, call.nth, call.line);
    // Other threads answer other requests, so the count of opens in one thread may differ from the reference's.
    let died = (0..4).any(|_| {
        lab.clear();
        let mut server = lab.mount();
        server.act(scene.before).expect("before");
        let inject = format!("{}:signal=KILL:when={}", call.name, call.nth);
        let strace = Strace::attach(server.pid(), &lab.beside("strace"), Some(&inject));
        let result = server.act(scene.act);
        let died = result.is_err() && wait_for(LIMIT, || server.is_dead());
        drop(strace);
        server.kill();
        died
    });
    assert!(died, "{what}: the daemon lives");
    let server = lab.mount();
    let left = lab.in_work();
    assert!(left.is_empty(), "{what}: work is not empty after the mount: {left:?}");
    let is_before = reference.check(&server.tree(), &what);
    five_copy_ups(&server, lab, &what);
    server.unmount();
    crate::faults::upper_is_clean(lab, &what);
    is_before
}
