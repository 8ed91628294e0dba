//! The outer syntax of `-o` texts: commas, quotes, backslashes, colons.

/// One `name` or `name=value` of an option text, as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// What stands before the first `=`.
    pub name: &'a [u8],
    /// What stands behind it, without the quotes around it; escapes are still there.
    pub value: Option<&'a [u8]>,
}

/// Splits an option text at its commas.
///
/// A comma does not split behind a backslash, nor inside a value that is wholly in double quotes, as in
/// `context="system_u:object_r:container_file_t:s0:c1,c2"`. A quote that is not closed before a comma or the end is an ordinary
/// character. Empty fields are skipped.
pub fn fields(text: &[u8]) -> impl Iterator<Item = Field<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        loop {
            if rest.is_empty() {
                return None;
            }
            let end = field_end(rest);
            let field = rest.get(..end).unwrap_or_default();
            rest = rest.get(end + 1..).unwrap_or_default();
            if !field.is_empty() {
                return Some(as_field(field));
            }
        }
    })
}

fn field_end(text: &[u8]) -> usize {
    let mut at = 0;
    let mut in_name = true;
    while let Some(&byte) = text.get(at) {
        match byte {
            b',' => return at,
            b'\\' => at += 1,
            b'=' if in_name => {
                in_name = false;
                if let Some(close) = closing_quote(text, at + 1) {
                    at = close;
                }
            }
            _ => {}
        }
        at += 1;
    }
    text.len()
}

/// The index of the quote that closes the value starting at `start`, if a quote opens it and a comma or the end follows the close.
fn closing_quote(text: &[u8], start: usize) -> Option<usize> {
    if text.get(start) != Some(&b'"') {
        return None;
    }
    let inner = text.get(start + 1..)?;
    let close =
        (0..inner.len()).find(|&i| inner.get(i) == Some(&b'"') && matches!(inner.get(i + 1), None | Some(b',')))?;
    Some(start + 1 + close)
}

fn as_field(field: &[u8]) -> Field<'_> {
    let Some(equals) = field.iter().position(|&b| b == b'=') else {
        return Field { name: field, value: None };
    };
    let value = field.get(equals + 1..).unwrap_or_default();
    let unquoted = value.strip_prefix(b"\"").and_then(|inner| inner.strip_suffix(b"\""));
    Field { name: field.get(..equals).unwrap_or_default(), value: Some(unquoted.unwrap_or(value)) }
}

/// Takes the backslash from `\:`, `\\` and `\,`; every other backslash stays, for it is part of a name.
pub fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match bytes.peek() {
            Some(&next) if byte == b'\\' && matches!(next, b':' | b'\\' | b',') => {
                out.push(next);
                bytes.next();
            }
            _ => out.push(byte),
        }
    }
    out
}

/// Writes `text` so that [`unescape`] inside an option text gives it back: for those who compose options.
pub fn escape(text: &[u8]) -> Vec<u8> {
    let escaped = text.iter().flat_map(|&b| {
        let backslash = matches!(b, b':' | b'\\' | b',').then_some(b'\\');
        backslash.into_iter().chain([b])
    });
    escaped.collect()
}

/// Splits a colon list and takes the escapes away. The flag of a part says that it stands behind a double colon (`a:b::data`): a
/// data-only layer, and so are all parts that follow it. Empty parts at either end are skipped.
pub fn colon_list(text: &[u8]) -> Vec<(Vec<u8>, bool)> {
    let mut parts = Vec::new();
    let mut data_only = false;
    let mut start = 0;
    let mut at = 0;
    loop {
        match text.get(at) {
            Some(b'\\') => at += 1,
            None | Some(b':') => {
                let part = text.get(start..at.min(text.len())).unwrap_or_default();
                data_only |= part.is_empty() && !parts.is_empty() && at < text.len();
                if !part.is_empty() {
                    parts.push((unescape(part), data_only));
                }
                start = at + 1;
            }
            Some(_) => {}
        }
        if at >= text.len() {
            return parts;
        }
        at += 1;
    }
}

/// Puts a backslash before commas and backslashes, as fusermount reads them in `fsname=`.
pub fn escape_comma(text: &[u8]) -> Vec<u8> {
    let escaped = text.iter().flat_map(|&b| matches!(b, b'\\' | b',').then_some(b'\\').into_iter().chain([b]));
    escaped.collect()
}
