//! The functions of templates.

use std::cmp::Ordering;

use serde_json::Value;

use super::Style;
use super::escape;
use super::print;

/// The widest field of `printf`, `pad` in characters: more would only waste memory.
const WIDTH_MAX: usize = 4096;

/// All functions but `and` and `or`, which need not evaluate all their arguments.
const NAMES: [&str; 24] = [
    "json", "split", "join", "title", "lower", "upper", "pad", "truncate", "print", "printf", "println", "len",
    "index", "slice", "eq", "ne", "lt", "le", "gt", "ge", "not", "html", "js", "urlquery",
];

/// Whether a template may call this.
pub(super) fn is_known(name: &str) -> bool {
    NAMES.contains(&name) || matches!(name, "and" | "or")
}

/// What Go's templates take for true: neither zero nor empty.
pub(super) fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(b) => *b,
        Value::Number(n) => n.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

type Answer = Result<Value, String>;

/// Calls a function. `row` says that the first argument is a whole row.
pub(super) fn call(name: &str, args: &[Value], style: Style, row: bool) -> Answer {
    let wrong = |wanted: &str| Err(format!("wrong number of args for {name}: want {wanted} got {}", args.len()));
    if style == Style::Heading && HEADING.contains(&name) {
        return Ok(args.first().cloned().unwrap_or_default());
    }
    match (name, args) {
        ("json", [value]) if row => Ok(print::json(value).into()),
        ("json", [value]) => Ok(value.to_string().into()),
        ("lower", [text]) => Ok(string(text)?.to_lowercase().into()),
        ("upper", [text]) => Ok(string(text)?.to_uppercase().into()),
        ("title", [text]) => Ok(title(string(text)?).into()),
        ("split", [text, separator]) => Ok(split(string(text)?, string(separator)?)),
        ("join", [list, separator]) => join(list, string(separator)?),
        ("pad", [text, before, after]) => pad(string(text)?, size(before)?, size(after)?),
        ("truncate", [text, len]) => Ok(string(text)?.chars().take(size(len)?).collect::<String>().into()),
        ("json" | "lower" | "upper" | "title" | "len" | "not", _) if args.len() != 1 => wrong("1"),
        ("split" | "join" | "truncate", _) => wrong("2"),
        ("pad", _) => wrong("3"),
        ("html", _) => Ok(escape::html(&print_all(args)).into()),
        ("js", _) => Ok(escape::js(&print_all(args)).into()),
        ("urlquery", _) => Ok(escape::url_query(&print_all(args)).into()),
        ("print", _) => Ok(print_all(args).into()),
        ("println", _) => Ok((args.iter().map(print::plain).collect::<Vec<_>>().join(" ") + "\n").into()),
        ("printf", [format, args @ ..]) => printf(string(format)?, args).map(Value::from),
        ("len", [value]) => len(value),
        ("index", [value, keys @ ..]) => keys.iter().try_fold(value.clone(), |value, key| index(&value, key)),
        ("slice", [value, bounds @ ..]) => slice(value, bounds),
        ("not", [value]) => Ok(Value::Bool(!is_true(value))),
        ("eq", [first, rest @ ..]) if !rest.is_empty() => {
            let mut equal = false;
            for other in rest {
                equal |= same(first, other)?;
            }
            Ok(Value::Bool(equal))
        }
        ("ne", [a, b]) => Ok(Value::Bool(!same(a, b)?)),
        ("lt", [a, b]) => Ok(Value::Bool(order(a, b)?.is_lt())),
        ("le", [a, b]) => Ok(Value::Bool(order(a, b)?.is_le())),
        ("gt", [a, b]) => Ok(Value::Bool(order(a, b)?.is_gt())),
        ("ge", [a, b]) => Ok(Value::Bool(order(a, b)?.is_ge())),
        ("eq" | "index" | "slice" | "printf", _) => wrong("at least 1"),
        _ => wrong("2"),
    }
}

/// The functions that leave a heading as it is.
const HEADING: [&str; 8] = ["json", "split", "join", "title", "lower", "upper", "pad", "truncate"];

fn string(value: &Value) -> Result<&str, String> {
    value.as_str().ok_or_else(|| format!("wrong type for value; expected string; got {}", kind(value)))
}

fn size(value: &Value) -> Result<usize, String> {
    let size = value.as_u64().and_then(|n| usize::try_from(n).ok());
    size.ok_or_else(|| format!("wrong type for value; expected int; got {}", kind(value)))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nil",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "list",
        Value::Object(_) => "map",
    }
}

fn title(text: &str) -> String {
    let mut start = true;
    let each = |c: char| {
        let upper = start && c.is_alphabetic();
        start = c.is_whitespace();
        if upper { c.to_uppercase().collect() } else { c.to_string() }
    };
    text.chars().map(each).collect()
}

fn split(text: &str, separator: &str) -> Value {
    if separator.is_empty() {
        return text.chars().map(|c| Value::from(c.to_string())).collect();
    }
    text.split(separator).map(Value::from).collect()
}

fn join(list: &Value, separator: &str) -> Answer {
    match list {
        Value::Null => Ok("".into()),
        Value::Array(items) => Ok(items.iter().map(print::plain).collect::<Vec<_>>().join(separator).into()),
        other => Err(format!("wrong type for value; expected []string; got {}", kind(other))),
    }
}

fn pad(text: &str, before: usize, after: usize) -> Answer {
    if text.is_empty() {
        return Ok("".into());
    }
    if before.max(after) > WIDTH_MAX {
        return Err(format!("more than {WIDTH_MAX} spaces"));
    }
    Ok(format!("{:before$}{text}{:after$}", "", "").into())
}

/// Go's `Sprint`: a space between two operands when neither is a string.
fn print_all(args: &[Value]) -> String {
    let mut out = String::new();
    let mut last_is_string = true;
    for arg in args {
        if !last_is_string && !arg.is_string() {
            out.push(' ');
        }
        last_is_string = arg.is_string();
        out.push_str(&print::plain(arg));
    }
    out
}

fn len(value: &Value) -> Answer {
    match value {
        Value::String(text) => Ok(text.len().into()),
        Value::Array(items) => Ok(items.len().into()),
        Value::Object(map) => Ok(map.len().into()),
        Value::Null => Ok(0.into()),
        other => Err(format!("error calling len: len of type {}", kind(other))),
    }
}

fn index(value: &Value, key: &Value) -> Answer {
    let fail = |why: String| Err(format!("error calling index: {why}"));
    match value {
        Value::Array(items) => match size(key) {
            Ok(at) => match items.get(at) {
                Some(item) => Ok(item.clone()),
                None => fail(format!("index out of range: {at}")),
            },
            Err(_) => fail(format!("cannot index slice/array with type {}", kind(key))),
        },
        Value::Object(map) => match key.as_str() {
            Some(key) => Ok(map.get(key).cloned().unwrap_or_else(|| Value::from(""))),
            None => fail(format!("value has type {}; should be string", kind(key))),
        },
        Value::String(text) => match size(key).ok().and_then(|at| text.as_bytes().get(at)) {
            Some(byte) => Ok((*byte).into()),
            None => fail(format!("index out of range: {}", print::plain(key))),
        },
        // Docker's maps are of a type, also where there is none: of labels that are not there, each is empty.
        Value::Null if key.is_string() => Ok("".into()),
        Value::Null => fail("index of untyped nil".to_owned()),
        other => fail(format!("can't index item of type {}", kind(other))),
    }
}

fn slice(value: &Value, bounds: &[Value]) -> Answer {
    let fail = |why: String| format!("error calling slice: {why}");
    let all = match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.len(),
        other => return Err(fail(format!("can't slice item of type {}", kind(other)))),
    };
    let mut ends = [0, all];
    for (end, bound) in ends.iter_mut().zip(bounds) {
        *end = size(bound).map_err(fail)?;
    }
    let [from, to] = ends;
    let outside = || fail(format!("index out of range: {}", if to > all { to } else { from }));
    match value {
        Value::String(text) => text.get(from..to).map(Value::from).ok_or_else(outside),
        Value::Array(items) => items.get(from..to).map(|items| items.to_vec().into()).ok_or_else(outside),
        _ => Err(outside()),
    }
}

fn same(a: &Value, b: &Value) -> Result<bool, String> {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => Ok(x == y || (x.as_f64() == y.as_f64())),
        (Value::String(x), Value::String(y)) => Ok(x == y),
        (Value::Bool(x), Value::Bool(y)) => Ok(x == y),
        (Value::Null, other) | (other, Value::Null) => Ok(other.is_null()),
        _ => Err("incompatible types for comparison".to_owned()),
    }
}

fn order(a: &Value, b: &Value) -> Result<Ordering, String> {
    let found = match (a, b) {
        (Value::Number(x), Value::Number(y)) => match (x.as_i64(), y.as_i64()) {
            (Some(x), Some(y)) => Some(x.cmp(&y)),
            _ => x.as_f64().zip(y.as_f64()).and_then(|(x, y)| x.partial_cmp(&y)),
        },
        (Value::String(x), Value::String(y)) => Some(x.cmp(y)),
        _ => None,
    };
    found.ok_or_else(|| "incompatible types for comparison".to_owned())
}

/// Go's `Sprintf` with the verbs `%s %v %d %q %t %x %X %%`, width, precision and the flags `-` and `0`.
fn printf(format: &str, args: &[Value]) -> Result<String, String> {
    let mut args = args.iter();
    let mut out = String::new();
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let (mut left, mut zero) = (false, false);
        while let Some(flag) = chars.next_if(|c| matches!(c, '-' | '0')) {
            left |= flag == '-';
            zero |= flag == '0';
        }
        let mut number = || {
            let mut digits = String::new();
            while let Some(digit) = chars.next_if(char::is_ascii_digit) {
                digits.push(digit);
            }
            let dot = chars.next_if_eq(&'.').is_some();
            (digits, dot)
        };
        let (width, dot) = number();
        let precision = if dot { Some(number().0.parse().unwrap_or(0)) } else { None };
        let width: usize = if width.is_empty() { 0 } else { width.parse().unwrap_or(usize::MAX) };
        if width > WIDTH_MAX {
            return Err(format!("error calling printf: a field wider than {WIDTH_MAX}"));
        }
        let Some(verb) = chars.next() else {
            out.push_str("%!(NOVERB)");
            break;
        };
        if verb == '%' {
            out.push('%');
            continue;
        }
        let text = match args.next() {
            None => format!("%!{verb}(MISSING)"),
            Some(arg) => verb_text(verb, arg, precision),
        };
        let fill = width.saturating_sub(text.chars().count());
        match (left, zero && verb == 'd') {
            (true, _) => out.push_str(&format!("{text}{:fill$}", "")),
            (false, true) => out.push_str(&format!("{:0>fill$}{text}", "")),
            (false, false) => out.push_str(&format!("{:fill$}{text}", "")),
        }
    }
    let more: Vec<String> = args.map(|arg| format!("{}={}", kind(arg), print::plain(arg))).collect();
    if !more.is_empty() {
        out.push_str(&format!("%!(EXTRA {})", more.join(", ")));
    }
    Ok(out)
}

/// The bytes of a text, or a whole number.
fn hexadecimal(arg: &Value) -> String {
    match (arg.as_str(), arg.as_i64()) {
        (Some(text), _) => crate::digest::hex_of(text.as_bytes()),
        (None, Some(number)) if number < 0 => format!("-{:x}", number.unsigned_abs()),
        _ => format!("{:x}", arg.as_u64().unwrap_or(0)),
    }
}

fn verb_text(verb: char, arg: &Value, precision: Option<usize>) -> String {
    let fits = match verb {
        'd' => arg.is_number() && !arg.is_f64(),
        't' => arg.is_boolean(),
        's' | 'q' => !arg.is_number() && !arg.is_boolean(),
        'f' => arg.is_f64(),
        'x' | 'X' => arg.is_string() || arg.is_number() && !arg.is_f64(),
        'v' => true,
        _ => false,
    };
    if !fits {
        return format!("%!{verb}({}={})", kind(arg), print::plain(arg));
    }
    match (verb, arg.as_f64()) {
        ('f', Some(number)) => return format!("{number:.*}", precision.unwrap_or(6).min(64)),
        ('q', _) => return print::quoted(&print::plain(arg)),
        ('x' | 'X', _) => {
            let text = hexadecimal(arg);
            return if verb == 'X' { text.to_uppercase() } else { text };
        }
        _ => {}
    }
    let text = print::plain(arg);
    match precision {
        Some(precision) if verb == 's' || verb == 'v' && arg.is_string() => text.chars().take(precision).collect(),
        _ => text,
    }
}
