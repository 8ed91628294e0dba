//! mica: a union filesystem in user space, and the container image tool that stands on it.
//!
//! One sentence is the oracle for everything: **the mounted view equals `cp -a` of the layers, bottom to top, onto a plain
//! directory; only later and only where touched.**
//!
//! The map of the house, the import rule and the decisions are in `src/ARCHITECTURE.md`.

// No panic on a request path, nor on hostile input: what can fail says so.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod cli;
pub mod digest;
pub mod engine;
pub mod env;
pub mod explain;
pub mod fuse;
pub mod image;
pub mod layer;
pub mod live;
pub mod logging;
pub mod mount;
pub mod path;
pub mod registry;
#[cfg(test)]
#[allow(dead_code, reason = "the test binaries use the rest")]
#[path = "../tests/support/report.rs"]
mod report;
pub mod run;
pub mod store;
pub mod sys;
pub mod union;
