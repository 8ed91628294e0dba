//! Readers of hostile bytes, given changed copies of good ones for a while: none may panic, hang, or take memory without end.
//!
//! Each target has a few good inputs; a mutator flips, cuts, repeats, swaps and splices them, and puts in numbers and words that
//! have meaning to somebody. There is no coverage to guide it, so the inputs are made to pass the checks that would end most tries
//! at once: checksums of tar headers and of the index are made right again. What was found so far is kept as named tests beside the
//! readers.
//!
//! `MICA_FUZZ_SECONDS` (2 without it; `scripts/test` says 60) is the time for each target, all of them side by side;
//! `MICA_FUZZ_SEED` repeats a run. A failing input is left in a file that the message names.

#[path = "../support/mod.rs"]
mod support;

mod mutate;
mod targets;

use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Duration;
use std::time::Instant;

use mutate::Rng;
use support::serial::Tally;
use targets::TARGETS;
use targets::Target;

/// One input must not take longer than this.
const SLOW: Duration = Duration::from_secs(20);

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Gives changed inputs to a target until the time is over; how many.
fn run(target: &Target, seed: u64, time: Duration) -> Result<u64, String> {
    let end = Instant::now() + time;
    let mut rng = Rng::new(seed ^ target.name.bytes().fold(0u64, |n, b| n.wrapping_mul(31).wrapping_add(u64::from(b))));
    let corpus = (target.corpus)();
    let scratch = support::TempDir::new(&format!("fuzz-{}", target.name));
    let mut count = 0;
    // Each good input as it is, first.
    let mut next = corpus.clone();
    while Instant::now() < end || !next.is_empty() {
        let input = next.pop().unwrap_or_else(|| rng.mutate(&corpus, target.words));
        let start = Instant::now();
        let caught = std::panic::catch_unwind(|| (target.body)(&input, scratch.path()));
        let slow = start.elapsed() > SLOW;
        if caught.is_err() || slow {
            let file = std::env::temp_dir().join(format!("mica-fuzz-{}-{seed}-{count}", target.name));
            std::fs::write(&file, &input).map_err(|e| e.to_string())?;
            return Err(format!(
                "{} at input {count} of seed {seed}: {}",
                if slow { "slow" } else { "panic" },
                file.display()
            ));
        }
        count += 1;
    }
    Ok(count)
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.iter().any(|word| word == "--list") {
        return ExitCode::SUCCESS;
    }
    let wanted: Vec<&String> = words.iter().filter(|word| !word.starts_with('-') && *word != "pretty").collect();
    let time = Duration::from_secs(number("MICA_FUZZ_SECONDS").unwrap_or(2));
    let now = std::time::UNIX_EPOCH.elapsed().map_or(1, |d| d.as_nanos() as u64);
    let seed = number("MICA_FUZZ_SEED").or_else(|| number("MICA_SEED")).unwrap_or(now);
    let results = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for target in TARGETS.iter().filter(|target| wanted.iter().all(|word| target.name.contains(word.as_str()))) {
            let results = &results;
            scope.spawn(move || {
                let result = run(target, seed, time);
                results.lock().unwrap_or_else(|e| e.into_inner()).push((target.name, result));
            });
        }
    });
    let mut tally = Tally::default();
    for (name, result) in results.into_inner().unwrap_or_else(|e| e.into_inner()) {
        match result {
            Ok(count) => {
                tally.passed += 1;
                println!("test fuzz_{name} ... ok ({count} inputs, seed {seed})");
            }
            Err(why) => {
                tally.failed += 1;
                println!("test fuzz_{name} ... FAILED: {why}");
            }
        }
    }
    tally.end()
}
