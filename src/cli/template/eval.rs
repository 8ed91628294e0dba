//! Filling a template in.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::Value;

use super::Style;
use super::funcs;
use super::parse::Base;
use super::parse::Call;
use super::parse::Command;
use super::parse::Node;
use super::parse::Operand;
use super::parse::Pipe;
use super::parse::Tree;
use super::print;

/// The most steps of one evaluation.
const STEPS_MAX: usize = 1_000_000;
/// The most bytes that one evaluation prints, or a value of it holds.
const OUT_MAX: usize = 32 << 20;
/// How deep blocks may be in each other, those of templates that call templates added up: evaluation recurses as deep.
const DEPTH_MAX: usize = 256;

/// Fields that docker declares as lists or maps: where the document has `null`, it prints them as empty ones.
const EMPTY_LISTS: [&str; 8] = ["Env", "Cmd", "Entrypoint", "OnBuild", "Shell", "RepoTags", "RepoDigests", "Args"];
const EMPTY_MAPS: [&str; 3] = ["Labels", "Volumes", "ExposedPorts"];

/// Why an evaluation ended early.
#[derive(Debug)]
pub(super) struct Stop {
    /// Bytes from the beginning of the template.
    pub(super) at: usize,
    /// The part of the template.
    pub(super) what: String,
    pub(super) why: String,
}

/// A value, and what is known of where it is from.
#[derive(Debug, Clone)]
struct Val<'a> {
    value: Cow<'a, Value>,
    /// What is printed for it when it is `null`.
    empty: Option<&'static str>,
    /// It is the whole data.
    whole: bool,
}

impl<'a> Val<'a> {
    fn of(value: &'a Value) -> Self {
        Self { value: Cow::Borrowed(value), empty: None, whole: false }
    }

    fn owned(value: Value) -> Self {
        Self { value: Cow::Owned(value), empty: None, whole: false }
    }

    fn text(&self) -> String {
        match (&*self.value, self.empty) {
            (Value::Null, Some(empty)) => empty.to_owned(),
            (value, _) => print::plain(value),
        }
    }
}

/// How a list of nodes ended: its loop goes on, is left, or goes to its next round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    On,
    Break,
    Continue,
}

struct Evaluator<'a> {
    style: Style,
    named: &'a BTreeMap<String, Vec<Node>>,
    depth: usize,
    variables: Vec<(String, Val<'a>)>,
    out: String,
    steps: usize,
}

/// Fills in a template.
pub(super) fn render<'a>(tree: &'a Tree, data: &'a Value, style: Style) -> Result<String, Stop> {
    let whole = Val { whole: true, ..Val::of(data) };
    let variables = vec![("$".to_owned(), whole.clone())];
    let mut evaluator = Evaluator { style, named: &tree.named, depth: 0, variables, out: String::new(), steps: 0 };
    evaluator.list(&tree.nodes, &whole)?;
    Ok(evaluator.out)
}

impl<'a> Evaluator<'a> {
    fn list(&mut self, nodes: &[Node], dot: &Val<'a>) -> Result<Flow, Stop> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            let why = format!("exceeded maximum template depth ({DEPTH_MAX})");
            return Err(Stop { at: 0, what: "the template".to_owned(), why });
        }
        let known = self.variables.len();
        let mut flow = Flow::On;
        for node in nodes {
            flow = self.node(node, dot)?;
            if flow != Flow::On {
                break;
            }
        }
        self.variables.truncate(known);
        self.depth -= 1;
        Ok(flow)
    }

    fn step(&mut self, at: usize) -> Result<(), Stop> {
        self.steps += 1;
        let why = match (self.steps > STEPS_MAX, self.out.len() > OUT_MAX) {
            (true, _) => format!("more than {STEPS_MAX} steps"),
            (_, true) => format!("more than {OUT_MAX} bytes"),
            _ => return Ok(()),
        };
        Err(Stop { at, what: "the template".to_owned(), why })
    }

    fn node(&mut self, node: &Node, dot: &Val<'a>) -> Result<Flow, Stop> {
        self.step(0)?;
        match node {
            Node::Text(text) => self.out.push_str(text),
            Node::Action(pipe) => {
                let value = self.pipe(pipe, dot)?;
                if pipe.variables.is_empty() {
                    self.out.push_str(&value.text());
                }
            }
            Node::If(cases, otherwise) => return self.cases(cases, otherwise, dot, false),
            Node::With(cases, otherwise) => return self.cases(cases, otherwise, dot, true),
            Node::Range(pipe, body, otherwise) => return self.range(pipe, body, otherwise, dot),
            Node::Call(call) => self.call(call, dot)?,
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::On)
    }

    /// The first case that is true, which is the dot in it for `with`; variables of a case are known in those behind it.
    fn cases(
        &mut self,
        cases: &[(Pipe, Vec<Node>)],
        otherwise: &[Node],
        dot: &Val<'a>,
        with: bool,
    ) -> Result<Flow, Stop> {
        let known = self.variables.len();
        let mut chosen = (otherwise, dot.clone());
        for (pipe, nodes) in cases {
            let value = self.pipe(pipe, dot)?;
            if funcs::is_true(&value.value) {
                chosen = (nodes, if with { value } else { dot.clone() });
                break;
            }
        }
        let flow = self.list(chosen.0, &chosen.1)?;
        self.variables.truncate(known);
        Ok(flow)
    }

    /// Another template, which knows no variables but its own `$`.
    fn call(&mut self, call: &Call, dot: &Val<'a>) -> Result<(), Stop> {
        let named = self.named;
        let Some(nodes) = named.get(&call.name) else {
            let what = format!("{{{{template {:?}}}}}", call.name);
            return Err(Stop { at: call.at, what, why: format!("template {:?} not defined", call.name) });
        };
        let dot = match &call.dot {
            Some(pipe) => self.pipe(pipe, dot)?,
            None => Val::owned(Value::Null),
        };
        let outside = std::mem::replace(&mut self.variables, vec![("$".to_owned(), dot.clone())]);
        self.list(nodes, &dot)?;
        self.variables = outside;
        Ok(())
    }

    fn range(&mut self, pipe: &Pipe, body: &[Node], otherwise: &[Node], dot: &Val<'a>) -> Result<Flow, Stop> {
        let known = self.variables.len();
        let unnamed = Pipe { variables: Vec::new(), ..pipe.clone() };
        let over = self.pipe(&unnamed, dot)?;
        let items: Vec<(Value, Val<'a>)> = match over.value {
            Cow::Borrowed(Value::Array(items)) => {
                items.iter().enumerate().map(|(at, item)| (at.into(), Val::of(item))).collect()
            }
            Cow::Owned(Value::Array(items)) => {
                items.into_iter().enumerate().map(|(at, item)| (at.into(), Val::owned(item))).collect()
            }
            // By their keys, as Go does.
            Cow::Borrowed(Value::Object(map)) => {
                let sorted: BTreeMap<_, _> = map.iter().collect();
                sorted.into_iter().map(|(key, item)| (key.clone().into(), Val::of(item))).collect()
            }
            Cow::Owned(Value::Object(map)) => {
                let sorted: BTreeMap<_, _> = map.into_iter().collect();
                sorted.into_iter().map(|(key, item)| (key.into(), Val::owned(item))).collect()
            }
            Cow::Borrowed(Value::Null) | Cow::Owned(Value::Null) => Vec::new(),
            other => {
                let why = format!("range can't iterate over {}", print::plain(&other));
                return Err(Stop { at: place(pipe).0, what: place(pipe).1, why });
            }
        };
        if items.is_empty() {
            return self.list(otherwise, dot);
        }
        for (key, item) in items {
            match pipe.variables.as_slice() {
                [one] => self.variables.push((one.clone(), item.clone())),
                [first, second] => {
                    self.variables.push((first.clone(), Val::owned(key)));
                    self.variables.push((second.clone(), item.clone()));
                }
                _ => {}
            }
            let flow = self.list(body, &item)?;
            self.variables.truncate(known);
            if flow == Flow::Break {
                break;
            }
        }
        Ok(Flow::On)
    }

    fn pipe(&mut self, pipe: &Pipe, dot: &Val<'a>) -> Result<Val<'a>, Stop> {
        let mut value = None;
        for command in &pipe.commands {
            value = Some(self.command(command, dot, value)?);
        }
        let value = value.unwrap_or_else(|| Val::owned(Value::Null));
        if let [name] = pipe.variables.as_slice() {
            match self.variables.iter_mut().rev().find(|(known, _)| known == name).filter(|_| !pipe.declares) {
                Some((_, place)) => *place = value.clone(),
                None if pipe.declares => self.variables.push((name.clone(), value.clone())),
                None => return Err(stop(pipe, format!("undefined variable: {name}"))),
            }
        } else if !pipe.variables.is_empty() {
            return Err(stop(pipe, "too many declarations".to_owned()));
        }
        Ok(value)
    }

    fn command(&mut self, command: &Command, dot: &Val<'a>, piped: Option<Val<'a>>) -> Result<Val<'a>, Stop> {
        let Some((first, rest)) = command.split_first() else { return Ok(Val::owned(Value::Null)) };
        self.step(first.at)?;
        let text = || command.iter().map(Operand::text).collect::<Vec<_>>().join(" ");
        let fail = |why: String| Stop { at: first.at, what: text(), why };
        let Base::Function(name) = &first.base else {
            if rest.is_empty() && piped.is_none() {
                return self.operand(first, dot);
            }
            if let (true, Base::Dot, [(field, _)], [key]) =
                (self.style != Style::Document, &first.base, &*first.fields, rest)
                && field == "Label"
            {
                let key = self.operand(key, dot)?;
                return Ok(label(dot, &key, self.style));
            }
            return Err(fail("can't give argument to non-function".to_owned()));
        };
        if name == "and" || name == "or" {
            return self.and_or(name == "and", rest, dot, piped).map_err(|stop| {
                stop.unwrap_or_else(|| fail(format!("wrong number of args for {name}: want at least 1 got 0")))
            });
        }
        let mut args = rest.iter().map(|operand| self.operand(operand, dot)).collect::<Result<Vec<_>, _>>()?;
        args.extend(piped);
        let whole = self.style == Style::Row && args.first().is_some_and(|arg| arg.whole);
        let args: Vec<Value> = args.into_iter().map(|arg| arg.value.into_owned()).collect();
        let value = funcs::call(name, &args, self.style, whole).map_err(fail)?;
        if matches!(&value, Value::String(text) if text.len() > OUT_MAX) {
            return Err(fail(format!("more than {OUT_MAX} bytes")));
        }
        Ok(Val::owned(value))
    }

    /// The first argument that decides, or the last one; the others are not evaluated.
    fn and_or(
        &mut self,
        and: bool,
        operands: &[Operand],
        dot: &Val<'a>,
        piped: Option<Val<'a>>,
    ) -> Result<Val<'a>, Option<Stop>> {
        let mut last = None;
        for operand in operands {
            let value = self.operand(operand, dot)?;
            if funcs::is_true(&value.value) != and {
                return Ok(value);
            }
            last = Some(value);
        }
        piped.or(last).ok_or(None)
    }

    fn operand(&mut self, operand: &Operand, dot: &Val<'a>) -> Result<Val<'a>, Stop> {
        self.step(operand.at)?;
        let base = match &operand.base {
            Base::Dot => dot.clone(),
            Base::Nil => Val::owned(Value::Null),
            Base::Constant(value) => Val::owned(value.clone()),
            Base::Paren(pipe) => self.pipe(pipe, dot)?,
            Base::Variable(name) => match self.variables.iter().rev().find(|(known, _)| known == name) {
                Some((_, value)) => value.clone(),
                None => {
                    let why = format!("undefined variable: {name}");
                    return Err(Stop { at: operand.at, what: operand.text(), why });
                }
            },
            Base::Function(_) => self.command(&vec![Operand { fields: Vec::new(), ..operand.clone() }], dot, None)?,
        };
        operand.fields.iter().try_fold(base, |value, (name, at)| {
            let fail = |why| Stop { at: *at, what: operand.text(), why };
            value.field(name, self.style).map_err(fail)
        })
    }
}

impl<'a> Val<'a> {
    fn field(self, name: &str, style: Style) -> Result<Self, String> {
        let missing = |map: &serde_json::Map<String, Value>| match style {
            Style::Document => format!("map has no entry for key {name:?}"),
            Style::Row | Style::Heading => {
                let known: Vec<String> = map.keys().map(|key| format!(".{key}")).collect();
                format!("can't evaluate field {name}; known are {}", known.join(" "))
            }
        };
        let value = match self.value {
            Cow::Borrowed(Value::Object(map)) => Cow::Borrowed(map.get(name).ok_or_else(|| missing(map))?),
            Cow::Owned(Value::Object(mut map)) => {
                let value = map.remove(name);
                Cow::Owned(value.ok_or_else(|| missing(&map))?)
            }
            other if other.is_null() => return Err(format!("nil pointer evaluating .{name}")),
            _ => return Err(format!("can't evaluate field {name}: it is not a map")),
        };
        let empty = match name {
            name if EMPTY_LISTS.contains(&name) => Some("[]"),
            name if EMPTY_MAPS.contains(&name) => Some("map[]"),
            _ => None,
        };
        Ok(Val { value, empty, whole: false })
    }
}

/// `{{.Label "key"}}`, the one method of docker's rows: the label's value, nothing when it is not there. The heading is the key.
fn label<'a>(dot: &Val<'a>, key: &Val<'a>, style: Style) -> Val<'a> {
    let key = key.text();
    if style == Style::Heading {
        return Val::owned(key.into());
    }
    let labels = dot.value.get("Labels").and_then(Value::as_str).unwrap_or_default();
    let found = labels.split(',').filter_map(|label| label.split_once('=')).find(|(name, _)| *name == key);
    Val::owned(found.map_or("", |(_, value)| value).into())
}

fn place(pipe: &Pipe) -> (usize, String) {
    let first = pipe.commands.first().and_then(|command| command.first());
    first.map_or((0, String::new()), |operand| (operand.at, operand.text()))
}

fn stop(pipe: &Pipe, why: String) -> Stop {
    let (at, what) = place(pipe);
    Stop { at, what, why }
}
