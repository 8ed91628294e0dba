//! One call of the daemon fails. The client sees that error or success, never a half; then the operation works.

use crate::Outcome;
use crate::cuts::Reference;
use crate::cuts::chosen;
use crate::lab::Lab;
use crate::lab::differences;
use crate::lab::missing;
use crate::scenes::SCENES;
use crate::scenes::Scene;
use crate::scenes::fill;
use crate::strace::Call;
use crate::strace::Strace;

const ERRORS: [(&str, i32); 5] = [
    ("ENOSPC", libc::ENOSPC),
    ("EIO", libc::EIO),
    ("EDQUOT", libc::EDQUOT),
    ("EMFILE", libc::EMFILE),
    ("EROFS", libc::EROFS),
];

/// The test.
pub fn failing() -> Outcome {
    if let Some(reason) = missing(&["strace"]) {
        return Outcome::Skipped(reason);
    }
    let lab = Lab::new("faults", fill);
    let (mut tried, mut errors) = (0, 0);
    for scene in SCENES {
        let reference = Reference::of(&lab, scene);
        for call in chosen(&reference.calls) {
            // In turn, so that each kind of call meets several.
            errors += usize::from(fail_at(&lab, scene, &reference, call, ERRORS[tried % ERRORS.len()]));
            tried += 1;
        }
    }
    Outcome::Done(format!("{tried} faults, {errors} seen by the client, {} made no difference", tried - errors))
}

/// Whether the client saw the error.
fn fail_at(lab: &Lab, scene: &Scene, reference: &Reference, call: &Call, (error, number): (&str, i32)) -> bool {
    let what = format!("{}, {error} from {} number {}: {}", scene.name, call.name, call.nth, call.line);
    lab.clear();
    let server = lab.mount();
    server.act(scene.before).expect("before");
    let inject = format!("{}:error={error}:when={}", call.name, call.nth);
    let strace = Strace::attach(server.pid(), &lab.beside("strace"), Some(&inject));
    let result = server.act(scene.act);
    drop(strace);
    let left = lab.in_work();
    let hit = match &result {
        Err(e) => {
            assert_eq!(e.raw_os_error(), Some(number), "{what}: {e}");
            let changed = differences(&reference.before, &server.tree(), &reference.lower);
            assert!(changed.is_empty(), "{what}: the operation failed and changed the tree: {changed:#?}");
            server.act(scene.act).unwrap_or_else(|e| panic!("{what}: does not work again: {e}"));
            true
        }
        Ok(()) => false,
    };
    assert!(left.is_empty() || call.name == "unlinkat", "{what}: left in work: {left:?}");
    let changed = differences(&reference.after, &server.tree(), &reference.lower);
    assert!(changed.is_empty(), "{what}: the operation succeeded, and shows another tree: {changed:#?}");
    server.unmount_after(&what);
    let changed = differences(&reference.after, &lab.tree(), &reference.lower);
    assert!(changed.is_empty(), "{what}: another tree after a remount: {changed:#?}");
    upper_is_clean(lab, &what);
    hit
}

/// Fails when a check of the upper directory finds something that is not harmless.
pub fn upper_is_clean(lab: &Lab, what: &str) {
    let mut check = std::process::Command::new(crate::support::bin::mica());
    check.arg("check").arg(lab.upper()).arg("--work").arg(lab.disk.join("w"));
    let out = crate::support::bin::output(&mut check);
    let said = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{what}: {said}");
}
