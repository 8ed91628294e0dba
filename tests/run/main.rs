//! Containers for real: a busybox root directory, and every promise of `run` seen from inside and from outside.
//!
//! This binary has its own `main` because a container is forked from a process of one thread. It runs itself again as
//! the *runner* (first argument `runner`), which starts one container, so that its streams, signals and end can be
//! observed.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod cases;
mod fixture;
mod hostile;
mod runner;
#[path = "../support/serial.rs"]
#[allow(dead_code, reason = "every test program uses another part of it")]
mod serial;
mod terminal;

use std::process::ExitCode;

use serial::Tally;

/// One case: its name and what it does; an error says what was seen.
type Case = (&'static str, fn() -> Result<(), String>);

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    if args.get(1).is_some_and(|a| a == "runner") {
        return runner::main(&args);
    }
    let all: Vec<Case> = cases::ALL.iter().chain(hostile::ALL).chain(terminal::ALL).copied().collect();
    if let Some(why) = fixture::missing() {
        println!("skipped: {why}");
        return Tally { skipped: all.len(), ..Tally::default() }.end();
    }
    // Arguments that are no options choose cases by a part of their names, as with the usual harness.
    let wanted: Vec<&String> = args.iter().skip(1).filter(|a| !a.starts_with('-')).collect();
    let mut tally = Tally::default();
    for (name, case) in
        all.iter().filter(|(name, _)| wanted.is_empty() || wanted.iter().any(|w| name.contains(w.as_str())))
    {
        tally.run(name, || Ok(case()?));
    }
    tally.end()
}
