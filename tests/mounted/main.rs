//! The union on real mounts: one file per topic, over two layers of directories.
//!
//! Every test mounts the built helper as fuse-overlayfs would be called. `MICA_MOUNTED_ON=overlay` or `fuse-overlayfs` runs the
//! same tests on the kernel's overlayfs or the installed peer instead: so a test that fails tells which of the two is wrong.
//! `MICA_MOUNTED_WITH=OPTION,...` adds mount options: every mode that is measured must pass, `io=cache` and
//! `io=passthrough` as well as the default.

#[path = "../support/mod.rs"]
mod support;

mod place;

mod acl;
mod ahead;
mod attr;
mod blocks;
mod cache;
mod copy_up;
mod create;
mod data;
mod interop;
mod lent;
mod limits;
mod link;
mod live;
mod mmap;
mod odd_upper;
mod outside;
mod over_io_uring;
mod owner;
mod readdir;
mod remove;
mod rename;
mod requests;
mod sequence;
mod sequence_ops;
mod stress;
mod tmpfile;
mod unlinked;
mod xattr;
