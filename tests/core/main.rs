//! What holds for the core without mounting anything, and the rules of the house: the union core against a plain directory,
//! under faults, and from many threads.
//!
//! `MICA_CASES` raises the number of random cases, `MICA_CASES_ALL` makes the sampled ones all, `MICA_SEED` repeats a run; a failure prints both, shrunk.

mod arch;
mod arch_lexer;
mod client;
mod crash;
mod exhaustive;
mod explain;
mod fixtures;
mod layers;
mod looking;
mod model;
mod model_memory;
mod ops;
mod pages;
mod regress;
mod semantics;
mod snap;
mod stacks;

#[path = "../support/mod.rs"]
mod support;
mod threads;
mod world;
