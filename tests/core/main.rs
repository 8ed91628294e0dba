//! The union core without FUSE: against a plain directory, under faults, and from many threads.
//!
//! `MICA_CASES` raises the number of random cases, `MICA_SEED` repeats a run; a failure prints both, shrunk.

mod client;
mod crash;
mod layers;
mod model;
mod ops;
mod regress;
mod snap;
mod threads;
mod world;
