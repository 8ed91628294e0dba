//! POSIX ACLs: default ACLs are handed on, in place and over whiteouts, and the kernel checks them.

use std::path::Path;

use crate::place::Place;
use crate::place::USER;
use crate::place::have;
use crate::place::put;
use crate::place::put_dir;
use crate::place::sh;
use crate::place::sh_as;
use crate::support::skip;

/// What getfacl prints of a path, without names that differ between runs.
fn acl(dir: &Path, name: &str) -> String {
    sh(dir, &format!("getfacl -nc --absolute-names {name} | tr '\\n' ' '")).trim_end().to_owned()
}

/// A directory `d` with a default ACL, in the mount and beside it on the plain filesystem, to compare with.
fn with_default_acl() -> Option<(Place, std::path::PathBuf)> {
    if !have("setfacl") {
        crate::support::report_skip("setfacl is not installed");
        return None;
    }
    let p = Place::mounted("acl", |_, low| {
        put(low, "d/f", "old");
        put(low, "d/s/old", "old");
        put(low, "d/q", "old");
        sh(low, &format!("setfacl -d -m u:{USER}:rwx,g:77:r-x,o::--- d; setfacl -m u:{USER}:rwx d"));
    })?;
    let plain = put_dir(&p.beside(""), "plain");
    sh(&plain, &format!("mkdir d; setfacl -d -m u:{USER}:rwx,g:77:r-x,o::--- d; setfacl -m u:{USER}:rwx d"));
    Some((p, plain))
}

#[test]
fn a_default_acl_is_handed_on_instead_of_the_umask() {
    let Some((p, plain)) = with_default_acl() else { return };
    let make = "umask 077; cd d; echo x >nf; mkdir ns; mkfifo nq; mknod nc c 1 3";
    for dir in [&p.top, &plain] {
        sh(dir, make);
    }
    for name in ["d/nf", "d/ns", "d/nq", "d/nc"] {
        assert_eq!(acl(&p.top, name), acl(&plain, name), "{name}");
    }
    p.same_after_remount_and_by_the_kernel();
}

#[test]
fn a_default_acl_is_handed_on_over_a_whiteout_too() {
    let Some((p, plain)) = with_default_acl() else { return };
    sh(&p.top, "rm -r d/f d/s d/q");
    for dir in [&p.top, &plain] {
        sh(dir, "umask 077; cd d; echo x >f; mkdir s; mkfifo q");
    }
    for name in ["d/f", "d/s", "d/q"] {
        assert_eq!(acl(&p.top, name), acl(&plain, name), "{name}");
    }
    p.same_after_remount_and_by_the_kernel();
}

#[test]
fn a_default_acl_set_later_counts() {
    let Some((p, plain)) = with_default_acl() else { return };
    for dir in [&p.top, &plain] {
        sh(
            dir,
            "setfacl -k d; umask 027; echo x >d/none; setfacl -d -m u:1:r d; umask 077; echo x >d/some; mkdir d/dir",
        );
    }
    for name in ["d", "d/none", "d/some", "d/dir"] {
        assert_eq!(acl(&p.top, name), acl(&plain, name), "{name}");
    }
}

#[test]
fn acls_are_checked_and_kept_over_copy_up() {
    if !have("setfacl") {
        skip!("setfacl is not installed");
    }
    let fill = |_: &Path, low: &Path| {
        put(low, "f", "text");
        sh(low, &format!("chmod 600 f; setfacl -m u:{USER}:rw f"));
        put(low, "g", "text");
        sh(low, "chmod 600 g");
    };
    let Some(p) = Place::mounted("aclkeep", fill) else { return };
    let before = acl(&p.top, "f");
    assert!(before.contains(&format!("user:{USER}:rw-")), "{before}");
    let out = sh_as(&p.top, 77, "cat f; echo more >>f; ! cat g 2>/dev/null");
    assert!(out.status.success(), "{out:?}");
    assert_eq!(acl(&p.top, "f"), before);
    // chmod changes the mask of the ACL, not its entries.
    sh(&p.top, "chmod 640 f");
    assert!(acl(&p.top, "f").contains("mask::r--"), "{}", acl(&p.top, "f"));
    p.same_after_remount_and_by_the_kernel();
}
