//! Just enough of Rust's lexical structure to see which names a source file uses: comments, strings and test code are
//! taken out, the rest becomes words and signs with their lines.

/// A word or a sign of a source file, with its line, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token<'a> {
    pub text: &'a str,
    pub line: usize,
}

/// The tokens outside comments, string and character literals. `::` is one token; numbers are words.
pub fn tokens(source: &str) -> Vec<Token<'_>> {
    let mut found = Vec::new();
    let (mut rest, mut line) = (source, 1);
    while let Some(first) = rest.chars().next() {
        let length = skipped(rest).unwrap_or_else(|| {
            let length = word(rest).unwrap_or(if rest.starts_with("::") { 2 } else { first.len_utf8() });
            if !first.is_whitespace() {
                found.push(Token { text: &rest[..length], line });
            }
            length
        });
        line += rest[..length].matches('\n').count();
        rest = &rest[length..];
    }
    found
}

/// The tokens without the items that carry `#[cfg(test)]`.
pub fn without_tests<'a>(tokens: &[Token<'a>]) -> Vec<Token<'a>> {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at..].iter().map(|t| t.text).take(MARK.len()).eq(MARK) {
            at = end_of_item(tokens, at + MARK.len());
        } else {
            kept.push(tokens[at]);
            at += 1;
        }
    }
    kept
}

/// Where the item that starts at `at` ends: behind its `;`, or behind the brace that closes its body.
fn end_of_item(tokens: &[Token<'_>], mut at: usize) -> usize {
    let mut depth = 0usize;
    while at < tokens.len() {
        match tokens[at].text {
            "{" | "(" | "[" => depth += 1,
            ")" | "]" => depth = depth.saturating_sub(1),
            "}" => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    // `use a::{b};` goes on to its semicolon.
                    return if tokens.get(at + 1).is_some_and(|t| t.text == ";") { at + 2 } else { at + 1 };
                }
            }
            ";" if depth == 0 => return at + 1,
            _ => {}
        }
        at += 1;
    }
    at
}

/// The length of the word at the start, if there is one.
fn word(rest: &str) -> Option<usize> {
    let length = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    (length > 0).then_some(length)
}

/// The length of the comment or literal at the start, if there is one.
fn skipped(rest: &str) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Some(block_comment(rest));
    }
    let prefix = rest
        .find(|c: char| !c.is_ascii_lowercase())
        .filter(|at| matches!(&rest[..*at], "" | "b" | "c" | "r" | "br" | "cr"))?;
    let literal = &rest[prefix..];
    if rest[..prefix].ends_with('r') {
        let hashes = literal.find(|c| c != '#')?;
        let body = literal[hashes..].strip_prefix('"')?;
        let close = format!("\"{}", "#".repeat(hashes));
        return Some(prefix + hashes + 1 + body.find(&close).map_or(body.len(), |at| at + close.len()));
    }
    match literal.chars().next()? {
        '"' => Some(prefix + quoted(literal, '"')),
        // A character, or a lifetime: a character closes after one, or after an escape.
        '\'' if literal[1..].starts_with('\\') || literal.chars().nth(2) == Some('\'') => {
            Some(prefix + quoted(literal, '\''))
        }
        _ => None,
    }
}

/// The length of a quoted literal with backslash escapes.
fn quoted(literal: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in literal.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    literal.len()
}

/// The length of a block comment, which may hold others.
fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0usize, 0);
    while at < rest.len() {
        let tail = &rest.as_bytes()[at..];
        if tail.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if tail.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(source: &str) -> Vec<&str> {
        tokens(source).into_iter().map(|t| t.text).collect()
    }

    #[test]
    fn comments_and_literals_are_no_tokens() {
        let source = "a /* b /* c */ d */ e // f\n\"g \\\" h\" r#\"i \" j\"# b\"k\" c\"l\" 'm' '\\'' b'n' 'o o::p";
        assert_eq!(words(source), ["a", "e", "'", "o", "o", "::", "p"]);
    }

    #[test]
    fn lines_are_counted_over_skipped_text() {
        let found = tokens("a\n/*\n*/ b \"\n\" c");
        assert_eq!(found.iter().map(|t| t.line).collect::<Vec<_>>(), [1, 3, 4]);
    }

    #[test]
    fn test_items_are_taken_out() {
        let source = "a #[cfg(test)] mod tests { b { c } } d #[cfg(test)] mod e; f #[cfg(test)] use g::{h}; i #[cfg(test)] fn j(k: [u8; 2]) {} l";
        let kept: Vec<_> = without_tests(&tokens(source)).into_iter().map(|t| t.text).collect();
        assert_eq!(kept, ["a", "d", "f", "i", "l"]);
    }
}
