//! The lines in which two files differ, as `diff -u` shows them.

use std::time::Duration;

use similar::TextDiff;

/// The largest file that is compared line by line, in bytes.
pub const UNIFIED_MAX: usize = 8 << 20;
/// How much of a file tells whether it is text, as git has it.
const SNIFF: usize = 8000;
/// How long the smallest difference is looked for; then a larger one is taken.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whether bytes are no text: a NUL stands near their beginning.
pub fn is_binary(bytes: &[u8]) -> bool {
    bytes.iter().take(SNIFF).any(|&b| b == 0)
}

/// The difference of two texts with `context` lines around each, without a header; empty when they are the same.
pub fn unified(before: &[u8], after: &[u8], context: usize) -> Vec<u8> {
    let diff = TextDiff::configure().timeout(PATIENCE).diff_lines(before, after);
    let mut out = Vec::new();
    // The library's own writer makes UTF-8 of what it writes; a patch must have the bytes of the files.
    for hunk in diff.unified_diff().context_radius(context).iter_hunks() {
        out.extend_from_slice(format!("{}\n", hunk.header()).as_bytes());
        for change in hunk.iter_changes() {
            out.extend_from_slice(change.tag().to_string().as_bytes());
            out.extend_from_slice(change.value());
            if !change.value().ends_with(b"\n") {
                out.extend_from_slice(b"\n\\ No newline at end of file\n");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_compared_as_bytes() {
        let found = unified(b"a\nb\xff\nc\n", b"a\nB\xff\nc\n", 1);
        assert_eq!(found, b"@@ -1,3 +1,3 @@\n a\n-b\xff\n+B\xff\n c\n");
        assert_eq!(unified(b"x", b"x", 3), b"");
        assert!(unified(b"x\n", b"x", 3).ends_with(b"\\ No newline at end of file\n"));
        assert!(is_binary(b"a\0b") && !is_binary(b"caf\xe9"));
    }
}
