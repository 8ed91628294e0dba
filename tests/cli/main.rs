//! The promises of `mica`, kept by the built programs on real images: what a user types, and what comes of it.
//!
//! Each test has a store of its own in a temporary directory, and every mount and process of it is gone afterwards.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../support/mod.rs"]
mod support;

mod archives;
mod area;
mod bad_input;
mod bombs;
mod check;
mod container;
mod crash;
mod damaged;
mod debug;
mod fetch;
mod huge;
mod images;
mod install;
mod large;
mod load;
mod looking;
mod mounted;
mod screen;
mod side_by_side;
mod terminal;
mod vanish;
