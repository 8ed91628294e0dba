//! An upper directory on another union: used where deletions stay deletions, refused where they do not.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;

use rustix::mount::UnmountFlags;

use crate::place::On;
use crate::place::Place;
use crate::place::have;
use crate::place::kernel_overlay;
use crate::place::names;
use crate::place::put;
use crate::place::sh;
use crate::support::bin;
use crate::support::skip;

/// A union of the place's own that holds upper and work; unmounted when dropped.
struct Below(PathBuf);

impl Drop for Below {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, UnmountFlags::DETACH);
    }
}

/// Mounts another union beside the place by a command line in which `OPTIONS` and `DIR` are filled in, and puts upper and work there.
fn stacked(p: &mut Place, words: &[&str]) -> Below {
    let [lower, upper, work, top] = ["below-l", "below-u", "below-w", "below"].map(|name| {
        fs::create_dir(p.beside(name)).expect("mkdir");
        p.beside(name)
    });
    let options = format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
    let mut command = Command::new("timeout");
    command.arg("60");
    for word in words {
        match *word {
            "OPTIONS" => command.arg(&options),
            "DIR" => command.arg(&top),
            word => command.arg(word),
        };
    }
    bin::run_ok(command.stdin(Stdio::null()).stdout(Stdio::null()));
    for name in ["u", "w"] {
        fs::create_dir(top.join(name)).expect("mkdir on the union below");
    }
    p.upper = top.join("u");
    p.set_work(top.join("w"));
    Below(top)
}

fn fill(p: &Place) {
    let low = p.in_layer(1, "");
    for name in ["file", "gone", "again", "d/moved", "d/sub/deep", "e/f"] {
        put(&low, name, format!("low {name}"));
    }
    put(&p.in_layer(0, ""), "d/high", "high");
}

/// What a container does: write, append, delete, make anew, rename, link.
const WORK: &str = "echo more >>file; rm gone; rm -r e; mkdir e; echo new >e/new; rm again; echo anew >again; mv d/moved d/here
    ln file linked; ln -s file soft; chmod 600 d/high; mkfifo q; rm d/sub/deep; rmdir d/sub; mkdir n; mv again n/again; touch n/x; rm n/x";

fn use_it(p: &Place) {
    sh(&p.top, WORK);
    // Nothing that was copied up may be half of it, and what is below must stay hidden.
    let check = |when: &str| {
        assert_eq!(names(&p.top), ["d", "e", "file", "linked", "n", "q", "soft"], "{when}");
        assert_eq!(
            (names(&p.at("d")), names(&p.at("e"))),
            (vec!["here".into(), "high".into()], vec!["new".into()]),
            "{when}"
        );
        assert_eq!(fs::read_to_string(p.at("file")).unwrap(), "low filemore\n", "{when}");
        assert_eq!(fs::read_to_string(p.at("d/here")).unwrap(), "low d/moved", "{when}");
        assert_eq!(fs::read_to_string(p.at("n/again")).unwrap(), "anew\n", "{when}");
        assert_eq!(p.mode("d/high"), 0o600, "{when}");
    };
    check("at once");
    p.remount();
    check("after a remount");
    assert_eq!(fs::read_to_string(p.in_layer(1, "file")).unwrap(), "low file", "the layer is untouched");
}

/// Fails to mount, twice, and says why.
fn is_refused(p: &Place, why: &str) {
    for _ in 0..2 {
        let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| p.mount(On::Mica)));
        let said = refused.expect_err("an upper that holds no deletions").downcast::<String>().expect("a text");
        assert!(said.contains("holds no deletions") && said.contains(why) && said.contains("volume"), "{said}");
    }
}

/// It makes whiteouts, takes them for its own, and shows neither them nor, after its next mount, `.wh.` files: what was deleted would be
/// back.
#[test]
fn on_a_mount_of_fuse_overlayfs_is_refused() {
    if On::chosen() != On::Mica || !have("fuse-overlayfs") {
        skip!("needs mica, and fuse-overlayfs below it");
    }
    let Some(mut p) = Place::prepared("on-the-peer") else { return };
    let _below = stacked(&mut p, &["fuse-overlayfs", "-o", "OPTIONS", "DIR"]);
    is_refused(&p, "another union");
}

#[test]
fn on_a_mount_of_mica_is_refused() {
    if On::chosen() != On::Mica {
        skip!("needs mica");
    }
    let Some(mut p) = Place::prepared("on-mica") else { return };
    let program = p.helper().to_str().expect("an ASCII path").to_owned();
    let _below = stacked(&mut p, &[&program, "-o", "OPTIONS", "DIR"]);
    is_refused(&p, "mount of mica");
}

/// It allows no device 0:0, but `.wh.` files.
#[test]
fn on_the_kernels_overlayfs_works() {
    if On::chosen() != On::Mica {
        skip!("needs mica");
    }
    if let Err(reason) = kernel_overlay() {
        skip!("no overlayfs of the kernel here: {reason}");
    }
    let Some(mut p) = Place::prepared("on-the-kernel") else { return };
    let _below = stacked(&mut p, &["mount", "-t", "overlay", "overlay", "-o", "OPTIONS", "DIR"]);
    fill(&p);
    p.mount(On::Mica);
    use_it(&p);
    p.unmount();
}
