//! `mica inspect`, `mica image inspect`, `mica container inspect`

use std::io::IsTerminal;
use std::io::Write;

use serde::Serialize;
use serde_json::Value;

use crate::cli::Context;
use crate::cli::error::CliError;
use crate::cli::template::Style;
use crate::cli::template::Template;
use crate::engine;
use crate::engine::inspect::inspect_container;
use crate::engine::inspect::inspect_image;
use crate::store;
use crate::store::Store;

/// Docker's exit code for a template that cannot be read.
const EXIT_TEMPLATE: u8 = 64;

/// Arguments of `mica inspect`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only objects of this type
    #[arg(long = "type", value_name = "image|container")]
    kind: Option<String>,
    #[command(flatten)]
    how: How,
}

/// What the forms of the command have in common.
#[derive(Debug, clap::Args)]
pub struct How {
    /// 'json', or a Go template such as '{{.Id}}'
    #[arg(short, long, value_name = "FORMAT", default_value = "", hide_default_value = true)]
    format: String,
    /// Show how much a container wrote, and with its image
    #[arg(short, long)]
    size: bool,
    /// Names, ids, or the beginnings of ids
    #[arg(required = true, value_name = "NAME|ID")]
    words: Vec<String>,
}

/// What is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Containers, then images.
    Any,
    /// Images.
    Image,
    /// Containers.
    Container,
}

pub fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let kind = match args.kind.as_deref() {
        None | Some("") => Kind::Any,
        Some("image") => Kind::Image,
        Some("container") => Kind::Container,
        Some(other) => {
            return Err(CliError::new(format!("unknown type: {other:?}: must be one of \"container\", \"image\"")));
        }
    };
    run_kind(&args.how, kind, context)
}

/// Shows all that the words mean; those that mean nothing are told of at the end.
pub fn run_kind(how: &How, kind: Kind, context: &mut Context) -> Result<(), CliError> {
    let template = match how.format.as_str() {
        "" => None,
        "json" => Some("{{json .}}"),
        template => Some(template),
    };
    let template = template.map(Template::parse).transpose();
    let template = template.map_err(|e| CliError::new(e).code(EXIT_TEMPLATE))?;
    let store = context.store()?;
    let mut found = Vec::new();
    let mut failures = Vec::new();
    for word in &how.words {
        match look(&store, word, kind, how.size) {
            Ok(document) => found.push(document),
            Err(e) => failures.push(e),
        }
    }
    match template {
        None => print_all(&found, &mut context.out)?,
        Some(template) => {
            for document in &found {
                let line = template.render(document, Style::Document).map_err(CliError::new)?;
                writeln!(context.out, "{}", for_terminal(line))?;
            }
        }
    }
    context.out.flush()?;
    failures.iter().for_each(CliError::print);
    if failures.is_empty() { Ok(()) } else { Err(CliError::reported()) }
}

fn look(store: &Store, word: &str, kind: Kind, size: bool) -> Result<Value, CliError> {
    let absent = |e: &engine::Error| matches!(e, engine::Error::Store(store::Error::NotFound { .. }));
    match kind {
        Kind::Image => Ok(inspect_image(store, word)?),
        Kind::Container => Ok(inspect_container(store, word, size)?),
        Kind::Any => match inspect_container(store, word, size) {
            Err(e) if absent(&e) => match inspect_image(store, word) {
                Err(e) if absent(&e) => Err(CliError::new(format!("No such object: {word}"))
                    .hint("'mica images' lists the images, 'mica ps -a' the containers")),
                other => Ok(other?),
            },
            other => Ok(other?),
        },
    }
}

/// One JSON list, indented by four as docker does.
fn print_all(documents: &[Value], out: &mut impl Write) -> Result<(), CliError> {
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
    documents.serialize(&mut serializer).map_err(|e| CliError::new(format!("cannot write the output: {e}")))?;
    text.push(b'\n');
    Ok(out.write_all(&text)?)
}

/// Texts out of an image reach a program as they are, but a terminal without control characters.
fn for_terminal(text: String) -> String {
    if !std::io::stdout().is_terminal() {
        return text;
    }
    text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c }).collect()
}
