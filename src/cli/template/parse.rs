//! Tokens in a tree.

use std::collections::BTreeMap;

use serde_json::Value;

use super::TemplateError;
use super::lex::Kind;
use super::lex::Token;

/// How deep blocks and parentheses may be nested: evaluation recurses as deep.
const DEPTH_MAX: usize = 64;

/// A part of a template.
#[derive(Debug, Clone)]
pub(super) enum Node {
    Text(String),
    Action(Pipe),
    /// The cases in order, and what else.
    If(Vec<(Pipe, Vec<Node>)>, Vec<Node>),
    /// As `If`, and what was true is the dot.
    With(Vec<(Pipe, Vec<Node>)>, Vec<Node>),
    Range(Pipe, Vec<Node>, Vec<Node>),
    /// Another template, with what is its dot.
    Call(Call),
    Break,
    Continue,
}

/// `{{template "name" PIPE}}`.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) at: usize,
    pub(super) name: String,
    pub(super) dot: Option<Pipe>,
}

/// What a text defines: the template itself, and those that it names.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    pub(super) nodes: Vec<Node>,
    pub(super) named: BTreeMap<String, Vec<Node>>,
}

/// `$x := command | command`.
#[derive(Debug, Clone)]
pub(super) struct Pipe {
    pub(super) variables: Vec<String>,
    /// `:=` makes variables, `=` changes them.
    pub(super) declares: bool,
    pub(super) commands: Vec<Command>,
}

/// A function or value with its arguments; never empty.
pub(super) type Command = Vec<Operand>;

/// One value.
#[derive(Debug, Clone)]
pub(super) struct Operand {
    pub(super) at: usize,
    pub(super) base: Base,
    /// Fields of it, with their places.
    pub(super) fields: Vec<(String, usize)>,
}

#[derive(Debug, Clone)]
pub(super) enum Base {
    Dot,
    Variable(String),
    Function(String),
    Constant(Value),
    Nil,
    Paren(Box<Pipe>),
}

impl Operand {
    /// As it was written, near enough for a message.
    pub(super) fn text(&self) -> String {
        let mut text = match &self.base {
            Base::Dot if self.fields.is_empty() => ".".to_owned(),
            Base::Dot => String::new(),
            Base::Variable(name) | Base::Function(name) => name.clone(),
            Base::Constant(value) => value.to_string(),
            Base::Nil => "nil".to_owned(),
            Base::Paren(_) => "(...)".to_owned(),
        };
        for (field, _) in &self.fields {
            text.push('.');
            text.push_str(field);
        }
        text
    }
}

/// The cases of an `if` or a `with` in order, and what else.
type Cases = (Vec<(Pipe, Vec<Node>)>, Vec<Node>);

struct Parser {
    tokens: std::iter::Peekable<std::vec::IntoIter<Token>>,
    line: usize,
    depth: usize,
    /// How many `range` the parser is in, of the template that it reads.
    ranges: usize,
    named: BTreeMap<String, Vec<Node>>,
}

/// How a list of nodes ended.
#[derive(PartialEq)]
enum Ended {
    End,
    Else,
    /// `{{else if`, `{{else with`.
    ElseWord(&'static str),
    Text,
}

/// Makes a tree of a template's tokens.
pub(super) fn parse(tokens: Vec<Token>) -> Result<Tree, TemplateError> {
    let tokens = tokens.into_iter().peekable();
    let mut parser = Parser { tokens, line: 1, depth: 0, ranges: 0, named: BTreeMap::new() };
    match parser.list()? {
        (nodes, Ended::Text) => Ok(Tree { nodes, named: parser.named }),
        (_, Ended::End) => parser.fail("unexpected {{end}}"),
        (_, Ended::Else | Ended::ElseWord(_)) => parser.fail("unexpected {{else}}"),
    }
}

impl Parser {
    fn fail<T>(&self, why: impl Into<String>) -> Result<T, TemplateError> {
        Err(TemplateError::Parse { line: self.line, why: why.into() })
    }

    fn next(&mut self) -> Option<Token> {
        let token = self.tokens.next();
        if let Some(token) = &token {
            self.line = token.line;
        }
        token
    }

    fn next_is(&mut self, wanted: &Kind) -> bool {
        self.tokens.peek().is_some_and(|token| token.kind == *wanted)
    }

    fn next_is_word(&mut self, wanted: &str) -> bool {
        self.tokens.peek().is_some_and(|token| matches!(&token.kind, Kind::Word(word) if word == wanted))
    }

    fn close(&mut self) -> Result<(), TemplateError> {
        match self.next() {
            Some(Token { kind: Kind::Close, .. }) => Ok(()),
            Some(_) => self.fail("unexpected token in action"),
            None => self.fail("unclosed action"),
        }
    }

    fn deeper(&mut self) -> Result<(), TemplateError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX { self.fail(format!("nested deeper than {DEPTH_MAX}")) } else { Ok(()) }
    }

    fn list(&mut self) -> Result<(Vec<Node>, Ended), TemplateError> {
        let mut nodes = Vec::new();
        while let Some(token) = self.next() {
            match token.kind {
                Kind::Text(text) => nodes.push(Node::Text(text)),
                Kind::Open => {
                    let word = match self.tokens.peek().map(|token| &token.kind) {
                        Some(Kind::Word(word)) => word.clone(),
                        _ => String::new(),
                    };
                    match word.as_str() {
                        "end" => {
                            self.next();
                            self.close()?;
                            return Ok((nodes, Ended::End));
                        }
                        "else" => {
                            self.next();
                            if let Some(word) = ["if", "with"].into_iter().find(|word| self.next_is_word(word)) {
                                return Ok((nodes, Ended::ElseWord(word)));
                            }
                            self.close()?;
                            return Ok((nodes, Ended::Else));
                        }
                        "if" => {
                            let (cases, otherwise) = self.cases("if")?;
                            nodes.push(Node::If(cases, otherwise));
                        }
                        "with" => {
                            let (cases, otherwise) = self.cases("with")?;
                            nodes.push(Node::With(cases, otherwise));
                        }
                        "range" => nodes.push(self.range()?),
                        "define" => self.define()?,
                        "block" => nodes.push(self.block()?),
                        "template" => nodes.push(self.call()?),
                        "break" | "continue" => {
                            self.next();
                            self.close()?;
                            if self.ranges == 0 {
                                return self.fail(format!("{{{{{word}}}}} outside {{{{range}}}}"));
                            }
                            nodes.push(if word == "break" { Node::Break } else { Node::Continue });
                        }
                        _ => {
                            let pipe = self.pipe()?;
                            self.close()?;
                            nodes.push(Node::Action(pipe));
                        }
                    }
                }
                _ => return self.fail("unexpected token"),
            }
        }
        Ok((nodes, Ended::Text))
    }

    /// Behind `{{`, for `if` as for `with`: `if PIPE}} .. {{else if PIPE}} .. {{else}} .. {{end}}`.
    fn cases(&mut self, word: &str) -> Result<Cases, TemplateError> {
        self.deeper()?;
        let mut cases = Vec::new();
        let otherwise = loop {
            self.next();
            let pipe = self.pipe()?;
            self.close()?;
            let (nodes, ended) = self.list()?;
            cases.push((pipe, nodes));
            match ended {
                Ended::ElseWord(other) if other == word => {}
                Ended::ElseWord(other) => return self.fail(format!("unexpected {{{{else {other}}}}}")),
                Ended::Else => break self.last_list()?,
                Ended::End => break Vec::new(),
                Ended::Text => return self.fail("unexpected EOF"),
            }
        };
        self.depth -= 1;
        Ok((cases, otherwise))
    }

    fn range(&mut self) -> Result<Node, TemplateError> {
        self.deeper()?;
        self.next();
        let pipe = self.pipe()?;
        self.close()?;
        self.ranges += 1;
        let (body, ended) = self.list()?;
        self.ranges -= 1;
        let otherwise = match ended {
            Ended::Else => self.last_list()?,
            Ended::End => Vec::new(),
            Ended::ElseWord(word) => return self.fail(format!("unexpected {{{{else {word}}}}}")),
            Ended::Text => return self.fail("unexpected EOF"),
        };
        self.depth -= 1;
        Ok(Node::Range(pipe, body, otherwise))
    }

    /// Behind `{{`: the word and the name of a template.
    fn template_name(&mut self, clause: &str) -> Result<(usize, String), TemplateError> {
        self.next();
        match self.next() {
            Some(Token { kind: Kind::Text2(name), at, .. }) => Ok((at, name)),
            Some(Token { kind: Kind::Word(word), .. }) => self.fail(format!("unexpected {word:?} in {clause} clause")),
            _ => self.fail(format!("the name of a template must be a quoted string in {clause} clause")),
        }
    }

    /// The nodes of a template that is named, up to its `{{end}}`.
    fn named_body(&mut self) -> Result<Vec<Node>, TemplateError> {
        self.deeper()?;
        let around = std::mem::take(&mut self.ranges);
        let nodes = self.last_list()?;
        self.ranges = around;
        self.depth -= 1;
        Ok(nodes)
    }

    fn define(&mut self) -> Result<(), TemplateError> {
        if self.depth > 0 {
            return self.fail("unexpected <define> in command");
        }
        let (_, name) = self.template_name("define")?;
        self.close()?;
        let nodes = self.named_body()?;
        self.add(name, nodes)
    }

    /// A definition; a second one may take the place of an empty one, or be empty itself, as Go has it.
    fn add(&mut self, name: String, nodes: Vec<Node>) -> Result<(), TemplateError> {
        let is_empty =
            |nodes: &[Node]| nodes.iter().all(|node| matches!(node, Node::Text(text) if text.trim().is_empty()));
        match self.named.get(&name) {
            Some(known) if !is_empty(known) && !is_empty(&nodes) => {
                self.fail(format!("multiple definition of template {name:?}"))
            }
            Some(known) if !is_empty(known) => Ok(()),
            _ => {
                self.named.insert(name, nodes);
                Ok(())
            }
        }
    }

    /// `{{block "name" PIPE}} .. {{end}}`: defined and called at once.
    fn block(&mut self) -> Result<Node, TemplateError> {
        let (at, name) = self.template_name("block")?;
        let dot = Some(self.pipe()?);
        self.close()?;
        let nodes = self.named_body()?;
        self.add(name.clone(), nodes)?;
        Ok(Node::Call(Call { at, name, dot }))
    }

    fn call(&mut self) -> Result<Node, TemplateError> {
        let (at, name) = self.template_name("template")?;
        let dot = if self.next_is(&Kind::Close) { None } else { Some(self.pipe()?) };
        self.close()?;
        Ok(Node::Call(Call { at, name, dot }))
    }

    fn last_list(&mut self) -> Result<Vec<Node>, TemplateError> {
        match self.list()? {
            (nodes, Ended::End) => Ok(nodes),
            (_, Ended::Text) => self.fail("unexpected EOF"),
            _ => self.fail("expected end; found {{else}}"),
        }
    }

    fn pipe(&mut self) -> Result<Pipe, TemplateError> {
        let (variables, declares) = self.variables()?;
        let mut commands = vec![self.command()?];
        while self.next_is(&Kind::Sign("|")) {
            self.next();
            commands.push(self.command()?);
        }
        Ok(Pipe { variables, declares, commands })
    }

    /// `$x :=`, `$x =` or `$i, $x :=`, if they are there.
    fn variables(&mut self) -> Result<(Vec<String>, bool), TemplateError> {
        let mut ahead = self.tokens.clone();
        let mut names = Vec::new();
        while let Some(Kind::Variable(name)) = ahead.next().map(|token| token.kind) {
            names.push(name);
            match ahead.next().map(|token| token.kind) {
                Some(Kind::Sign(",")) if names.len() < 2 => {}
                Some(Kind::Sign(sign @ (":=" | "="))) => {
                    self.tokens = ahead;
                    return Ok((names, sign == ":="));
                }
                Some(Kind::Sign(",")) => return self.fail("too many declarations"),
                _ => break,
            }
        }
        Ok((Vec::new(), false))
    }

    fn command(&mut self) -> Result<Command, TemplateError> {
        let mut operands: Command = Vec::new();
        while let Some(token) = self.tokens.peek() {
            if matches!(token.kind, Kind::Close | Kind::Sign("|" | ")")) {
                break;
            }
            let (spaced, first) = (token.spaced, operands.is_empty());
            let token = self.next();
            match (token.map(|token| (token.at, token.kind)), operands.last_mut()) {
                (Some((at, Kind::Field(name))), Some(last)) if !spaced => last.fields.push((name, at)),
                (Some((at, kind)), _) => {
                    let operand = self.operand(at, kind, first)?;
                    operands.push(operand);
                }
                (None, _) => break,
            }
        }
        if operands.is_empty() { self.fail("missing value for command") } else { Ok(operands) }
    }

    fn operand(&mut self, at: usize, kind: Kind, first: bool) -> Result<Operand, TemplateError> {
        let mut fields = Vec::new();
        let base = match kind {
            Kind::Dot => Base::Dot,
            Kind::Field(name) => {
                fields.push((name, at));
                Base::Dot
            }
            Kind::Variable(name) => Base::Variable(name),
            Kind::Text2(text) => Base::Constant(Value::from(text)),
            Kind::Number(text) => Base::Constant(self.number(&text)?),
            Kind::Word(word) => match word.as_str() {
                "true" => Base::Constant(Value::Bool(true)),
                "false" => Base::Constant(Value::Bool(false)),
                "nil" if first => return self.fail("nil is not a command"),
                "nil" => Base::Nil,
                name if super::funcs::is_known(name) => Base::Function(word),
                name => return self.fail(format!("function \"{name}\" not defined")),
            },
            Kind::Sign("(") => {
                self.deeper()?;
                let pipe = self.pipe()?;
                match self.next() {
                    Some(Token { kind: Kind::Sign(")"), .. }) => {}
                    _ => return self.fail("unclosed left paren"),
                }
                self.depth -= 1;
                Base::Paren(Box::new(pipe))
            }
            _ => return self.fail("unexpected token in operand"),
        };
        Ok(Operand { at, base, fields })
    }

    fn number(&self, text: &str) -> Result<Value, TemplateError> {
        let plain = text.replace('_', "");
        let hex = plain.strip_prefix("0x").map(|digits| i64::from_str_radix(digits, 16));
        if let Ok(number) = hex.unwrap_or_else(|| plain.parse::<i64>()) {
            return Ok(Value::from(number));
        }
        match plain.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Value::from(number)),
            _ => self.fail(format!("bad number syntax: {text:?}")),
        }
    }
}
