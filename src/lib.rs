//! mica: a union filesystem in user space, and the container image tool that stands on it.
//!
//! One sentence is the oracle for everything: **the mounted view equals `cp -a` of the layers, bottom to top, onto a plain
//! directory; only later and only where touched.**
//!
//! The map of the house, the import rule and the decisions are in `src/ARCHITECTURE.md`.

pub mod cli;
pub mod digest;
pub mod engine;
pub mod env;
pub mod fuse;
pub mod image;
pub mod layer;
pub mod logging;
pub mod mount;
pub mod path;
pub mod run;
pub mod store;
pub mod sys;
pub mod union;
