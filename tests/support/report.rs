//! Lines that `scripts/test` counts. The library's own tests take this file in, too.

/// Says on stderr, past the test harness's capture, that the running test is skipped; `scripts/test` counts these lines.
pub fn report_skip(reason: &str) {
    report("SKIP", reason);
}

/// Says in the same way how many cases the running test went through; `scripts/test` adds up the first number of each line.
pub fn report_count(count: usize, of_what: &str) {
    report("COUNT", &format!("{count} {of_what}"));
}

fn report(what: &str, text: &str) {
    use std::io::Write;
    let thread = std::thread::current();
    let line = format!("{what} {}: {text}\n", thread.name().unwrap_or("?"));
    // One write, so that lines of concurrent tests do not mix; a closed stderr is no reason to fail a test.
    let _ = std::io::stderr().write_all(line.as_bytes());
}
