//! A template's text in tokens.

use super::TemplateError;

/// What a token is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    /// What stands outside of actions.
    Text(String),
    /// `{{`.
    Open,
    /// `}}`.
    Close,
    /// A word: a function, a keyword, `true`.
    Word(String),
    /// `.`.
    Dot,
    /// `.Name`; glued to what stands before when there is no space.
    Field(String),
    /// `$` or `$name`.
    Variable(String),
    /// A string, its escapes undone.
    Text2(String),
    /// A number as it is written.
    Number(String),
    /// One of `| ( ) , := =`.
    Sign(&'static str),
}

/// A token and where it is.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    /// Bytes from the beginning of the template.
    pub(super) at: usize,
    /// Counted from 1.
    pub(super) line: usize,
    /// Whether white space stands before it.
    pub(super) spaced: bool,
}

struct Lexer<'a> {
    rest: &'a str,
    at: usize,
    line: usize,
    tokens: Vec<Token>,
}

/// Takes a template apart.
pub(super) fn lex(text: &str) -> Result<Vec<Token>, TemplateError> {
    let mut lexer = Lexer { rest: text, at: 0, line: 1, tokens: Vec::new() };
    let mut trim = false;
    while !lexer.rest.is_empty() {
        trim = lexer.text_and_action(trim)?;
    }
    Ok(lexer.tokens)
}

impl<'a> Lexer<'a> {
    fn fail<T>(&self, why: impl Into<String>) -> Result<T, TemplateError> {
        Err(TemplateError::Parse { line: self.line, why: why.into() })
    }

    fn take(&mut self, len: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at_checked(len).unwrap_or((self.rest, ""));
        self.at += taken.len();
        self.line += taken.matches('\n').count();
        self.rest = rest;
        taken
    }

    fn push(&mut self, kind: Kind, at: usize, spaced: bool) {
        self.tokens.push(Token { kind, at, line: self.line, spaced });
    }

    /// The text up to the next action, and that action; whether it asks for the text behind it to be trimmed.
    fn text_and_action(&mut self, trim_start: bool) -> Result<bool, TemplateError> {
        let at = self.at;
        let text = self.take(self.rest.find("{{").unwrap_or(self.rest.len()));
        let trim_end = self.rest.strip_prefix("{{-").is_some_and(|rest| rest.starts_with([' ', '\t', '\r', '\n']));
        let text = if trim_start { text.trim_start() } else { text };
        let text = if trim_end { text.trim_end() } else { text };
        if !text.is_empty() {
            self.push(Kind::Text(text.to_owned()), at, false);
        }
        if self.rest.is_empty() {
            return Ok(false);
        }
        let at = self.at;
        self.take(if trim_end { 3 } else { 2 });
        if self.rest.trim_start().starts_with("/*") {
            return self.comment();
        }
        self.push(Kind::Open, at, false);
        self.action()
    }

    fn comment(&mut self) -> Result<bool, TemplateError> {
        let Some(end) = self.rest.find("*/") else { return self.fail("unclosed comment") };
        self.take(end + 2);
        let trim = self.rest.starts_with([' ', '\t', '\r', '\n']) && self.rest.trim_start().starts_with("-}}");
        let spaces = self.rest.len() - self.rest.trim_start().len();
        if !trim && !self.rest.starts_with("}}") {
            return self.fail("comment ends before closing delimiter");
        }
        self.take(if trim { spaces + 3 } else { 2 });
        Ok(trim)
    }

    fn action(&mut self) -> Result<bool, TemplateError> {
        loop {
            let spaces = self.rest.len() - self.rest.trim_start().len();
            self.take(spaces);
            let (spaced, at) = (spaces > 0, self.at);
            if spaced && self.rest.starts_with("-}}") {
                self.take(3);
                self.push(Kind::Close, at, spaced);
                return Ok(true);
            }
            if self.rest.starts_with("}}") {
                self.take(2);
                self.push(Kind::Close, at, spaced);
                return Ok(false);
            }
            let kind = self.token()?;
            self.push(kind, at, spaced);
        }
    }

    fn token(&mut self) -> Result<Kind, TemplateError> {
        for sign in [":=", "=", "|", "(", ")", ","] {
            if self.rest.starts_with(sign) {
                self.take(sign.len());
                return Ok(Kind::Sign(sign));
            }
        }
        let Some(first) = self.rest.chars().next() else { return self.fail("unclosed action") };
        let word = |text: &str| text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
        match first {
            '"' => self.quoted(),
            '`' => {
                let Some(end) = self.rest.get(1..).and_then(|rest| rest.find('`')) else {
                    return self.fail("unterminated raw quoted string");
                };
                let text = self.take(end + 2);
                Ok(Kind::Text2(text.trim_matches('`').to_owned()))
            }
            '$' => {
                let len = 1 + word(self.rest.get(1..).unwrap_or_default());
                Ok(Kind::Variable(self.take(len).to_owned()))
            }
            '.' if self.rest.get(1..).is_some_and(|rest| rest.starts_with(|c: char| c.is_alphabetic() || c == '_')) => {
                self.take(1);
                let len = word(self.rest);
                Ok(Kind::Field(self.take(len).to_owned()))
            }
            '.' => {
                self.take(1);
                Ok(Kind::Dot)
            }
            c if c.is_ascii_digit() || c == '+' || c == '-' => {
                let end = |c: char| !c.is_ascii_alphanumeric() && c != '.' && c != '_';
                let len = 1 + self.rest.get(1..).and_then(|rest| rest.find(end)).unwrap_or(self.rest.len() - 1);
                Ok(Kind::Number(self.take(len).to_owned()))
            }
            c if c.is_alphabetic() || c == '_' => Ok(Kind::Word(self.take(word(self.rest)).to_owned())),
            c => self.fail(format!("unexpected {c:?} in command")),
        }
    }

    fn quoted(&mut self) -> Result<Kind, TemplateError> {
        let mut text = String::new();
        let mut chars = self.rest.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.take(at + 1);
                    return Ok(Kind::Text2(text));
                }
                '\n' => break,
                '\\' => match chars.next() {
                    Some((_, 'n')) => text.push('\n'),
                    Some((_, 't')) => text.push('\t'),
                    Some((_, 'r')) => text.push('\r'),
                    Some((_, c @ ('"' | '\\'))) => text.push(c),
                    _ => return self.fail("invalid escape in a quoted string"),
                },
                c => text.push(c),
            }
        }
        self.fail("unterminated quoted string")
    }
}
