//! Events of a mount as JSON, one object on a line. Written straight into bytes: a listener shares the processor with who is listened
//! to, and there may be very many.

use std::fmt::Display;
use std::io::Write;

use super::trace_text::error_name;
use crate::live::Event;
use crate::live::Step;
use crate::path::Escaped;

/// Appends an event as one line, names escaped as everywhere.
pub fn line(event: &Event, out: &mut Vec<u8>) {
    let mut object = Object { out, begun: false };
    object.name("time");
    let mut time = Object { out: object.out, begun: false };
    time.number("secs", event.at.0).number("nanos", event.at.1);
    time.end();
    object.name("op");
    plain(event.op.name().as_bytes(), object.out);
    object.text("path", &event.path).text("other", &event.other);
    let error = if event.errno == 0 { String::new() } else { error_name(event.errno) };
    object.text("error", error.as_bytes()).number("errno", event.errno).number("took_ns", event.took);
    object.number("pid", event.pid).text("comm", &event.comm).number("uid", event.uid).number("ino", event.ino);
    object.number("bytes", event.bytes).number("offset", event.offset);
    object.name("layer");
    match event.served() {
        Some(step) => place(step, object.out),
        None => object.out.extend_from_slice(b"null"),
    }
    object.name("asked");
    object.out.push(b'[');
    for (at, step) in event.steps.iter().enumerate() {
        object.out.extend_from_slice(if at > 0 { b",{\"layer\":" } else { b"{\"layer\":" });
        place(*step, object.out);
        object.out.extend_from_slice(b",\"verdict\":");
        plain(step.said.word().as_bytes(), object.out);
        object.out.push(b'}');
    }
    object.out.push(b']');
    object.number("asked_more", event.more);
    object.end();
    out.push(b'\n');
}

/// `"upper"`, or a number.
fn place(step: Step, out: &mut Vec<u8>) {
    if step.layer == 0 { plain(b"upper", out) } else { number(step.layer, out) }
}

/// A text in which nothing needs to be escaped.
fn plain(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(text);
    out.push(b'"');
}

fn number(n: impl Display, out: &mut Vec<u8>) {
    // Nothing fails that goes to memory.
    write!(out, "{n}").unwrap_or_default();
}

/// An object that is being written; its names need no escaping.
struct Object<'a> {
    out: &'a mut Vec<u8>,
    begun: bool,
}

impl Object<'_> {
    fn name(&mut self, name: &str) {
        self.out.push(if std::mem::replace(&mut self.begun, true) { b',' } else { b'{' });
        plain(name.as_bytes(), self.out);
        self.out.push(b':');
    }

    fn number(&mut self, name: &str, n: impl Display) -> &mut Self {
        self.name(name);
        number(n, self.out);
        self
    }

    /// Bytes of anybody; `null` where there are none.
    fn text(&mut self, name: &str, bytes: &[u8]) -> &mut Self {
        self.name(name);
        if bytes.is_empty() {
            self.out.extend_from_slice(b"null");
        } else if bytes.iter().all(|b| matches!(b, b' '..=b'~') && !matches!(b, b'"' | b'\\')) {
            plain(bytes, self.out);
        } else {
            let text = serde_json::Value::from(Escaped(bytes).to_string());
            number(text, self.out);
        }
        self
    }

    fn end(self) {
        self.out.push(b'}');
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use serde_json::json;

    use super::*;
    use crate::live::Op;
    use crate::live::Said;

    #[test]
    fn an_event_is_one_line_that_any_reader_of_json_understands() {
        let steps = [(0, Said::Miss), (3, Said::Whiteout), (1, Said::Found)];
        let event = Event {
            at: (1_700_000_000, 5),
            took: 1234,
            op: Op::Lookup,
            errno: 2,
            pid: 7,
            comm: b"a\"b\\".to_vec(),
            uid: 1000,
            ino: u64::MAX,
            bytes: 1,
            offset: 2,
            path: b"/ev\x1b[31m\n\xff il".to_vec(),
            other: Vec::new(),
            steps: steps.map(|(layer, said)| Step { layer, said }).to_vec(),
            more: 4,
        };
        let mut out = Vec::new();
        line(&event, &mut out);
        assert_eq!(out.iter().filter(|b| **b == b'\n').count(), 1);
        let expected = json!({
            "time": { "secs": 1_700_000_000, "nanos": 5 }, "op": "lookup", "path": "/ev\\x1b[31m\\x0a\\xff il", "other": null,
            "error": "ENOENT", "errno": 2, "took_ns": 1234, "pid": 7, "comm": "a\"b\\\\", "uid": 1000, "ino": u64::MAX, "bytes": 1,
            "offset": 2, "layer": 1, "asked_more": 4,
            "asked": [{ "layer": "upper", "verdict": "miss" }, { "layer": 3, "verdict": "whiteout" }, { "layer": 1, "verdict": "found" }],
        });
        assert_eq!(serde_json::from_slice::<Value>(&out).unwrap(), expected);
    }
}
