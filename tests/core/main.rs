//! What holds for the core without mounting anything, and the rules of the house.

mod arch;
mod arch_lexer;
mod explain;
mod fixtures;

#[path = "../support/mod.rs"]
mod support;
