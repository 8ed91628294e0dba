//! A line of the shell as words: quotes and backslashes as in a shell, and `\xNN`, by which names are shown, read back.

use crate::path::Escaped;

/// Why a line is not a list of words.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadLine {
    /// A quote has no end.
    #[error("a quote has no end")]
    Quote,
    /// A backslash at the end.
    #[error("a backslash stands at the end")]
    Backslash,
}

/// Takes a line apart. A `#` at the beginning of a word begins a comment.
///
/// # Errors
/// [`BadLine`].
pub fn split(line: &[u8]) -> Result<Vec<Vec<u8>>, BadLine> {
    let mut words = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut quote = None;
    let mut rest = line;
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        match (byte, quote) {
            (b'\'' | b'"', None) => {
                quote = Some(byte);
                word.get_or_insert_default();
            }
            (b'\'' | b'"', Some(open)) if open == byte => quote = None,
            (b'\\', None | Some(b'"')) => {
                let (meant, behind) = escaped(rest).ok_or(BadLine::Backslash)?;
                word.get_or_insert_default().push(meant);
                rest = behind;
            }
            (b'#', None) if word.is_none() => break,
            (b' ' | b'\t' | b'\r' | b'\n', None) => words.extend(word.take()),
            _ => word.get_or_insert_default().push(byte),
        }
    }
    if quote.is_some() {
        return Err(BadLine::Quote);
    }
    words.extend(word);
    Ok(words)
}

/// The byte that a backslash and what stands behind it mean, and the rest.
fn escaped(rest: &[u8]) -> Option<(u8, &[u8])> {
    if let [b'x', high, low, behind @ ..] = rest
        && let (Some(high), Some(low)) = (char::from(*high).to_digit(16), char::from(*low).to_digit(16))
    {
        return Some((u8::try_from(high * 16 + low).ok()?, behind));
    }
    rest.split_first().map(|(byte, behind)| (*byte, behind))
}

/// A name as a word that [`split`] reads back.
pub fn quoted(name: &[u8]) -> String {
    let shown = Escaped(name).to_string();
    let mut out = String::with_capacity(shown.len());
    for (at, c) in shown.char_indices() {
        if matches!(c, ' ' | '\'' | '"') || (c == '#' && at == 0) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// Where the word begins that the cursor, at byte `at` of the line, stands in.
pub fn word_start(line: &str, at: usize) -> usize {
    let mut start = 0;
    let mut escape = false;
    for (i, c) in line.char_indices().take_while(|(i, _)| *i < at) {
        if c == ' ' && !escape {
            start = i + 1;
        }
        escape = c == '\\' && !escape;
    }
    start
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_the_shells() {
        let words = |line: &str| {
            split(line.as_bytes()).map(|words| words.iter().map(|w| w.escape_ascii().to_string()).collect::<Vec<_>>())
        };
        assert_eq!(words("ls  -a /etc # all").unwrap(), ["ls", "-a", "/etc"]);
        assert_eq!(words(r#"cat 'a b' "c\"d" e\ f '' g#h"#).unwrap(), ["cat", "a b", "c\\\"d", "e f", "", "g#h"]);
        assert_eq!(split(br"cat a\x1b[31m\xff\\").unwrap()[1], b"a\x1b[31m\xff\\");
        assert_eq!(words("").unwrap(), Vec::<String>::new());
        assert_eq!(words("cat 'a"), Err(BadLine::Quote));
        assert_eq!(words("cat a\\"), Err(BadLine::Backslash));
        assert_eq!(words("[").unwrap(), ["["]);
    }

    #[test]
    fn what_is_shown_can_be_typed() {
        for name in [&b"plain"[..], b"a b'\"", b"evil\x1b[31m\n\xff", b"#x", b"back\\slash", "schön".as_bytes()] {
            assert_eq!(split(quoted(name).as_bytes()).unwrap(), [name.to_vec()], "{}", quoted(name));
        }
        assert_eq!(word_start("cat a\\ b", 8), 4);
        assert_eq!(word_start("cat ", 4), 4);
    }
}
