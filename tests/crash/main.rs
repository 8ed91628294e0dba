//! The real daemon, harmed from outside: killed at every call that changes something, its disk cut off, its calls made to fail, and
//! run on a kernel that lacks everything newer than Linux 3.10.
//!
//! The programs are those that users run; strace, a loop device and a seccomp filter do the harm. What the union does under
//! the same harm within one process is in `tests/core/crash.rs`.
//!
//! The daemon is killed at every call. `MICA_CRASH_ALL=1` also makes each of them fail, and cuts the power after each; without it some,
//! evenly spread.

#[path = "../support/mod.rs"]
mod support;

mod cuts;
mod faults;
mod floor;
mod lab;
mod point;
mod power;
mod scenes;
mod store;
mod strace;

use std::process::ExitCode;
use std::time::Instant;

use support::serial::Tally;

/// What a test ends with: a line of figures, or why it was skipped. A failure panics.
#[derive(Debug)]
pub enum Outcome {
    /// What was counted.
    Done(String),
    /// Why nothing was tried.
    Skipped(String),
}

type Test = (&'static str, fn() -> Outcome);

const TESTS: &[Test] = &[
    ("killed_at_every_changing_call", cuts::killed),
    ("store_commands_killed", store::killed),
    ("every_call_fails_once", faults::failing),
    ("power_cut_at_every_border", power::borders),
    ("power_cut_after_fsync", power::after_fsync),
    ("mounted_without_newer_calls", floor::mounted),
    ("container_without_newer_calls", floor::container),
    ("signals_with_a_busy_mount", point::signals),
    ("a_layer_around_and_below_the_mountpoint", point::nested),
];

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    if arguments.first().is_some_and(|a| a == floor::FLAG) {
        return floor::exec_filtered(arguments.get(1..).unwrap_or_default());
    }
    let words: Vec<_> = arguments.iter().filter_map(|a| a.to_str()).collect();
    if words.contains(&"--list") {
        return ExitCode::SUCCESS;
    }
    let wanted: Vec<_> = words.into_iter().filter(|w| !w.starts_with('-') && *w != "pretty").collect();
    let mut tally = Tally::default();
    for (name, test) in TESTS.iter().filter(|(name, _)| wanted.iter().all(|w| name.contains(w))) {
        let start = Instant::now();
        let done = std::panic::catch_unwind(test);
        let seconds = start.elapsed().as_secs_f32();
        match done {
            Ok(Outcome::Done(figures)) => {
                tally.passed += 1;
                println!("test {name} ... ok ({figures}, {seconds:.1} s)");
            }
            Ok(Outcome::Skipped(reason)) => {
                tally.skipped += 1;
                println!("test {name} ... ignored, {reason}");
            }
            Err(_) => {
                tally.failed += 1;
                println!("test {name} ... FAILED ({seconds:.1} s)");
            }
        }
    }
    tally.end()
}
