//! Templates of `--format`: the part of Go's `text/template` that docker's users write, with docker's functions.
//!
//! Actions: fields (`.A.B`), variables (`$x`, `$`), `if`/`else if`/`else`, `range` (with index, `else`, `break`, `continue`), `with`/
//! `else with`/`else`, `define`, `template`, `block`, `end`, pipelines, parentheses, comments, trim marks (`{{-`, `-}}`). Functions:
//! docker's `json split join title lower upper pad truncate`, and Go's `print printf println len index slice eq ne lt le gt ge and or not
//! html js urlquery`.
//!
//! A template comes from the user, but the data out of images, so everything is bounded: the template's size and nesting, the
//! steps and the depth of an evaluation, and the size of what it prints.
//!
//! Source: Go's `text/template` documentation; docker's `templates` package for its functions. The crate `gtmpl` was tried and not
//! taken: it is only passively maintained, panics on `{{printf "%99999999s" .A}}`, and has no bounds.

mod escape;
mod eval;
mod funcs;
mod lex;
mod parse;
mod print;

#[cfg(test)]
mod tests;

use serde_json::Value;

/// The longest template, in bytes.
const SIZE_MAX: usize = 64 << 10;

/// Why a template cannot be read or filled in, in Go's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// It breaks the grammar.
    #[error("template parsing error: template: :{line}: {why}")]
    Parse {
        /// Counted from 1.
        line: usize,
        /// Which rule it breaks.
        why: String,
    },
    /// It cannot be filled in with this data.
    #[error("template parsing error: template: :{line}:{column}: executing \"\" at <{at}>: {why}")]
    Execute {
        /// Counted from 1.
        line: usize,
        /// Counted from 0, in bytes.
        column: usize,
        /// The part of the template.
        at: String,
        /// What is wrong.
        why: String,
    },
}

/// A template that was read.
#[derive(Debug, Clone)]
pub struct Template {
    text: String,
    tree: parse::Tree,
}

/// How data is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// One document, as in docker's `inspect`: `json` writes it as it is.
    Document,
    /// One row of a list: `{{json .}}` escapes `<`, `>` and `&`, as docker does there.
    Row,
    /// The heading of each field: every function gives back what it was given.
    Heading,
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// [`TemplateError::Parse`].
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        if text.len() > SIZE_MAX {
            return Err(TemplateError::Parse { line: 1, why: format!("longer than {SIZE_MAX} bytes") });
        }
        let tree = parse::parse(lex::lex(text)?)?;
        Ok(Self { text: text.to_owned(), tree })
    }

    /// Fills the template in.
    ///
    /// # Errors
    /// [`TemplateError::Execute`].
    pub fn render(&self, data: &Value, style: Style) -> Result<String, TemplateError> {
        eval::render(&self.tree, data, style).map_err(|stop| {
            let before = self.text.get(..stop.at).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            let column = before.len() - before.rfind('\n').map_or(0, |newline| newline + 1);
            TemplateError::Execute { line, column, at: stop.what, why: stop.why }
        })
    }
}
