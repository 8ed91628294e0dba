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
mod terminal;

use std::process::ExitCode;

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
        summary(0, 0, all.len());
        return ExitCode::SUCCESS;
    }
    // Arguments that are no options choose cases by a part of their names, as with the usual harness.
    let wanted: Vec<&String> = args.iter().skip(1).filter(|a| !a.starts_with('-')).collect();
    let (mut passed, mut failed) = (0, 0);
    for (name, case) in
        all.iter().filter(|(name, _)| wanted.is_empty() || wanted.iter().any(|w| name.contains(w.as_str())))
    {
        match std::panic::catch_unwind(case).unwrap_or_else(|_| Err("it panicked".to_owned())) {
            Ok(()) => {
                println!("ok      {name}");
                passed += 1;
            }
            Err(seen) => {
                println!("FAILED  {name}: {seen}");
                failed += 1;
            }
        }
    }
    summary(passed, failed, 0);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Prints the line that the usual harness prints, which `scripts/test` adds up.
fn summary(passed: usize, failed: usize, skipped: usize) {
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    println!("test result: {verdict}. {passed} passed; {failed} failed; {skipped} ignored");
}
