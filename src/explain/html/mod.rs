//! What debugging shows, as a page for a browser: `mica explain --html`, `mica du --html`.
//!
//! ```text
//! Explanation, Versions ─▶ path::page ──┬─ stack     a column of layers for each name, drawn
//!                                       └─ walk, versions, layers: tables, of the words that `super::text` has
//! Report (usage)        ─▶ space::page ─── treemap   rectangles as large as what they stand for
//! ```
//! A page is one file and loads nothing: no script, no font, no picture from elsewhere. Its policy allows one style sheet, by its hash, and
//! nothing else, so that even a mistake here could not make a browser run or fetch what an image says. Pictures are SVG with a
//! title on each part; whatever they show is in a table as well. Building is pure: the same input makes the same bytes.

mod markup;
pub mod path;
pub mod space;
mod stack;
mod treemap;

#[cfg(test)]
mod tests;

use std::fmt::Display;

use markup::Markup;
use markup::base64;

use super::subject::LayerInfo;
use super::text;
use crate::digest::Digest;
use crate::path::Escaped;

/// The style sheet, as it stands in each page.
const STYLE: &str = include_str!("page.css");

/// A whole page around `body`; the title is text.
fn page(title: impl Display, body: Markup) -> String {
    let hash = base64(Digest::of(STYLE.as_bytes()).as_bytes());
    let mut page = Markup::default();
    page.raw("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta http-equiv=\"Content-Security-Policy\" content=\"");
    page.raw("default-src 'none'; img-src data:; style-src 'sha256-")
        .text(hash)
        .raw("'; base-uri 'none'; form-action 'none'\">\n");
    page.raw("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
    page.raw("<meta name=\"referrer\" content=\"no-referrer\">\n<meta name=\"color-scheme\" content=\"light dark\">\n");
    // An empty icon of its own: a browser asks the server for one otherwise.
    page.raw("<link rel=\"icon\" href=\"data:,\">\n");
    page.element("title", "", title).raw("\n<style>").raw(STYLE).raw("</style>\n</head>\n<body>\n<main>\n");
    page.add(body).raw("</main>\n</body>\n</html>\n");
    page.into_string()
}

/// A box that scrolls by itself when its content is wider than the screen; reached by keyboard, too.
fn scrolling(label: &'static str, content: Markup) -> Markup {
    let mut out = Markup::default();
    out.raw("<div class=\"scroll\" tabindex=\"0\" role=\"region\"").attribute("aria-label", label).raw(">\n");
    out.add(content).raw("</div>\n");
    out
}

/// The head of a table; a column whose name begins with `#` holds numbers.
fn table_head(columns: &[&'static str]) -> Markup {
    let mut out = Markup::default();
    out.raw("<table>\n<thead><tr>");
    for column in columns {
        let (class, name) = column.strip_prefix('#').map_or(("", *column), |name| ("n", name));
        out.raw("<th scope=\"col\" class=\"").raw(class).raw("\">").raw(name).raw("</th>");
    }
    out.raw("</tr></thead>\n<tbody>\n");
    out
}

/// The command that made a layer, or the directory that it is; on one line, escaped, in full.
fn made_by(info: &LayerInfo) -> String {
    match (&info.made.created_by, info.digest) {
        (Some(command), _) => text::one_line(command),
        (None, None) => Escaped(info.label.as_bytes()).to_string(),
        (None, Some(_)) => String::new(),
    }
}

/// The first digits of a layer's digest; a dash for a directory.
fn short_digest(info: &LayerInfo) -> String {
    info.digest.map_or_else(|| "-".to_owned(), |digest| digest.short())
}

/// The cells that name a layer: its number, and its digest with the whole of it as title.
fn layer_cells(out: &mut Markup, info: &LayerInfo) {
    out.raw("<th scope=\"row\">").text(text::tag(info)).raw("</th><td class=\"m\"");
    if let Some(digest) = info.digest {
        out.attribute("title", digest);
    }
    out.raw(">").text(short_digest(info)).raw("</td>");
}

/// The first `max` characters of a text, the last of them an ellipsis if it is longer.
fn cut(text: &str, max: usize) -> String {
    if text.chars().count() <= max {
        return text.to_owned();
    }
    let short: String = text.chars().take(max.saturating_sub(1)).collect();
    format!("{short}…")
}

/// The end of a path, with an ellipsis before it if it is longer than `max` characters.
fn cut_front(text: &str, max: usize) -> String {
    let count = text.chars().count();
    if count <= max {
        return text.to_owned();
    }
    let short: String = text.chars().skip(count - max.saturating_sub(1)).collect();
    format!("…{short}")
}
