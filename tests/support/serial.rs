//! Test programs with a `main` of their own, whose tests run one after the other: what a test says, and the summary.
//!
//! Uses nothing of its neighbours, so that a program can take it in alone.

use std::error::Error;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::process::ExitCode;
use std::time::Instant;

/// What a step gives, or what is wrong.
pub type Try<T> = Result<T, Box<dyn Error>>;
/// What a test says: nothing, or what is wrong. A [`Skip`] says why it did not run.
pub type Verdict = Try<()>;

/// The reason why a test cannot run here.
#[derive(Debug)]
pub struct Skip(pub String);

impl std::fmt::Display for Skip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Skip {}

/// Leaves the test with a reason.
pub fn skip<T>(reason: impl Into<String>) -> Try<T> {
    Err(Box::new(Skip(reason.into())))
}

/// How many tests ended in which way.
#[derive(Debug, Default)]
pub struct Tally {
    pub passed: usize,
    pub failed: usize,
    pub skipped: usize,
}

impl Tally {
    /// Runs one test, and prints a line. A panic is the failure of this test alone.
    pub fn run(&mut self, name: &str, test: impl FnOnce() -> Verdict) {
        let start = Instant::now();
        let verdict = catch_unwind(AssertUnwindSafe(test)).unwrap_or_else(|_| Err("it panicked".into()));
        match verdict {
            Ok(()) => {
                self.passed += 1;
                println!("ok      {name} ({:.1} s)", start.elapsed().as_secs_f32());
            }
            Err(e) if e.is::<Skip>() => {
                self.skipped += 1;
                println!("skipped {name}: {e}");
            }
            Err(e) => {
                self.failed += 1;
                println!("FAILED  {name}: {e}");
            }
        }
    }

    /// Prints the line that the usual harness prints, which `scripts/test` adds up.
    pub fn end(self) -> ExitCode {
        let Self { passed, failed, skipped } = self;
        let verdict = if failed == 0 { "ok" } else { "FAILED" };
        println!("test result: {verdict}. {passed} passed; {failed} failed; {skipped} ignored");
        if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
