//! The stack as a picture: a row for each layer, a column for each name of the path, and the way that the walk took.
//!
//! A sheet of a layer lies over the one below, so what shadows stands above what is shadowed, and a line leads down from what hides
//! to the last thing it hides. Layers that decide nothing are one thin row: they have no more than a part of the directories on the way.

use std::fmt::Write;
use std::ops::Range;

use super::Markup;
use super::cut;
use super::cut_front;
use super::made_by;
use super::scrolling;
use super::short_digest;
use crate::explain::json::word;
use crate::explain::subject::LayerInfo;
use crate::explain::text;
use crate::explain::trace::Component;
use crate::explain::trace::Explanation;
use crate::explain::trace::Step;
use crate::union::observe::Verdict;

/// How many names are drawn, the last ones; the table below the picture has all.
const COLUMNS_MAX: usize = 24;
/// From how many layers on that decide nothing they are one row.
const QUIET_MIN: usize = 3;

// In pixels.
const LABEL: usize = 250;
const COLUMN: usize = 116;
const HEAD: usize = 36;
const ROW: usize = 46;
const QUIET_ROW: usize = 26;
const GAP: usize = 6;
const CHIP: usize = 100;

/// Some layers, by position, and where they are drawn.
struct Band {
    layers: Range<usize>,
    y: usize,
    quiet: bool,
}

impl Band {
    fn height(&self) -> usize {
        if self.quiet { QUIET_ROW } else { ROW }
    }

    fn middle(&self) -> usize {
        self.y + self.height() / 2
    }
}

/// The picture.
pub(super) fn picture(explanation: &Explanation) -> Markup {
    let skipped = explanation.components.len().saturating_sub(COLUMNS_MAX);
    let columns = explanation.components.get(skipped..).unwrap_or_default();
    let bands = bands(columns, explanation.layers.len());
    let width = LABEL + columns.len() * COLUMN + GAP;
    let height = bands.last().map_or(HEAD, |band| band.y + band.height()) + GAP;
    let mut svg = Markup::default();
    svg.raw("<svg class=\"stack\" role=\"img\"").attribute("width", width).attribute("height", height);
    svg.attribute("viewBox", format_args!("0 0 {width} {height}"));
    svg.attribute("aria-label", "The layers, top first, and what each says of each name of the path").raw(">\n");
    for band in &bands {
        draw_band(&mut svg, band, &explanation.layers, width);
    }
    draw_way(&mut svg, columns, &bands);
    let last = columns.len().saturating_sub(1);
    for (at, component) in columns.iter().enumerate() {
        draw_column(&mut svg, at, component, &bands, explanation, at == last);
    }
    svg.raw("</svg>\n");
    let mut out = scrolling("The stack", svg);
    if skipped > 0 {
        out.raw("<p class=\"note\">The picture leaves out the first ").text(skipped).raw(" names of the walk.</p>\n");
    }
    out.add(legend());
    out
}

fn legend() -> Markup {
    let mut out = Markup::default();
    out.raw("<ul class=\"legend\">");
    out.raw(
        "<li><i class=\"k served\"></i>served</li><li><i class=\"k found\"></i>found, merged: part of what shows</li>",
    );
    out.raw("<li><i class=\"k cuts\"></i>whiteout: deletes</li><li><i class=\"k hidden\"></i>shadowed: there, but hidden</li>");
    out.raw("<li><i class=\"k miss\"></i>miss: has the directory, not the name</li></ul>\n");
    out
}

/// The rows: layers that decide something, and runs of those that do not.
fn bands(columns: &[Component], layers: usize) -> Vec<Band> {
    let last = columns.len().saturating_sub(1);
    let decides = |at: usize, step: &Step| match &step.verdict {
        Verdict::Merged { marks, .. } => at == last || marks.opaque || marks.redirect.is_some(),
        verdict => !text::is_nothing(verdict),
    };
    let speaks =
        |layer: usize| columns.iter().enumerate().any(|(at, c)| step(c, layer).is_some_and(|s| decides(at, s)));
    let mut bands = Vec::new();
    let (mut at, mut y) = (0, HEAD);
    while at < layers {
        let run = (at..layers).take_while(|layer| !speaks(*layer)).count();
        let quiet = run >= QUIET_MIN;
        let band = Band { layers: at..at + if quiet { run } else { 1 }, y, quiet };
        at = band.layers.end;
        y += band.height() + GAP;
        bands.push(band);
    }
    bands
}

fn step(component: &Component, layer: usize) -> Option<&Step> {
    component.steps.iter().find(|step| step.layer == layer)
}

fn draw_band(svg: &mut Markup, band: &Band, layers: &[LayerInfo], width: usize) {
    let (first, last) = (layers.get(band.layers.start), layers.get(band.layers.end.saturating_sub(1)));
    let (Some(first), Some(last)) = (first, last) else { return };
    svg.raw("<g>");
    if band.quiet {
        svg.raw("<rect class=\"sheet quiet\" x=\"1\" rx=\"5\"");
    } else {
        svg.element("title", "", format_args!("{} {}\n{}", text::tag(first), short_digest(first), made_by(first)));
        svg.raw("<rect class=\"sheet\" x=\"1\" rx=\"7\"");
    }
    svg.attribute("y", band.y).attribute("width", width - 2).attribute("height", band.height()).raw("/>");
    if band.quiet {
        label(svg, "small", 14, band.middle() + 4);
        let count = band.layers.len();
        svg.text(format_args!("{}…{}: {count} layers", text::tag(first), text::tag(last))).raw("</text>");
    } else {
        label(svg, "strong", 14, band.y + 19);
        svg.text(text::tag(first)).raw("</text>");
        label(svg, "small m", 62, band.y + 19);
        svg.text(short_digest(first)).raw("</text>");
        label(svg, "small", 14, band.y + 36);
        svg.text(cut(&made_by(first), 36)).raw("</text>");
    }
    svg.raw("</g>\n");
}

fn label(svg: &mut Markup, class: &'static str, x: usize, y: usize) {
    svg.raw("<text class=\"").raw(class).raw("\"").attribute("x", x).attribute("y", y).raw(">");
}

fn center(column: usize) -> usize {
    LABEL + column * COLUMN + COLUMN / 2
}

/// The line through all that was served on the way.
fn draw_way(svg: &mut Markup, columns: &[Component], bands: &[Band]) {
    let mut points = Vec::new();
    for (at, component) in columns.iter().enumerate() {
        let served =
            component.served.as_ref().and_then(|served| bands.iter().find(|b| b.layers.contains(&served.layer)));
        let Some(band) = served else { break };
        points.push((center(at), band.middle()));
    }
    if points.len() < 2 {
        return;
    }
    let mut way = String::new();
    let mut before: Option<(usize, usize)> = None;
    for (x, y) in points {
        let written = match before {
            None => write!(way, "M{x} {y}"),
            Some((px, py)) => write!(way, " C{0} {py} {0} {y} {x} {y}", usize::midpoint(px, x)),
        };
        // Writing to a `String` cannot fail.
        written.unwrap_or_default();
        before = Some((x, y));
    }
    svg.raw("<path class=\"way\"").attribute("d", way).raw("/>\n");
}

fn draw_column(
    svg: &mut Markup,
    at: usize,
    component: &Component,
    bands: &[Band],
    explanation: &Explanation,
    is_last: bool,
) {
    let name = component.path.split_last().map_or_else(|| "/".to_owned(), |(_, name)| format!("/{name}"));
    let link = if component.link.is_some() { " ↪" } else { "" };
    svg.raw("<g>").element("title", "", &component.path);
    label(svg, if is_last { "head strong" } else { "head" }, center(at), 22);
    svg.text(cut_front(&name, 14)).text(link).raw("</text></g>\n");
    draw_cut(svg, at, component, bands);
    for band in bands.iter().filter(|band| band.quiet) {
        let merged =
            |layer: &usize| step(component, *layer).is_some_and(|s| matches!(s.verdict, Verdict::Merged { .. }));
        let count = band.layers.clone().filter(merged).count();
        if count > 0 {
            label(svg, "count", center(at), band.middle() + 4);
            svg.text(format_args!("{count} × merged")).raw("</text>\n");
        }
    }
    for band in bands.iter().filter(|band| !band.quiet) {
        let Some(step) = step(component, band.layers.start) else { continue };
        draw_chip(svg, at, component, step, band, explanation, is_last);
    }
}

/// A line from what hides to the lowest that it hides, where both are of this name.
fn draw_cut(svg: &mut Markup, at: usize, component: &Component, bands: &[Band]) {
    let middle = |layer: usize| bands.iter().find(|band| band.layers.contains(&layer)).map(Band::middle);
    let hidden = component.steps.iter().rev().find(|step| step.cut.is_some());
    let Some((by, layer)) = hidden.and_then(|step| Some((step.cut.as_ref()?, step.layer))) else { return };
    if by.path != component.path {
        return;
    }
    if let (Some(from), Some(to)) = (middle(by.layer), middle(layer)) {
        let x = center(at) + CHIP / 2 - 10;
        svg.raw("<path class=\"cut\"").attribute("d", format_args!("M{x} {from} V{to}")).raw("/>\n");
    }
}

fn draw_chip(
    svg: &mut Markup,
    at: usize,
    component: &Component,
    step: &Step,
    band: &Band,
    explanation: &Explanation,
    is_last: bool,
) {
    let is_served = component.served.as_ref().is_some_and(|served| served.layer == step.layer);
    let (class, sign) = match &step.verdict {
        Verdict::NoParent => return,
        Verdict::Miss => {
            svg.raw("<circle class=\"miss\" r=\"3\"")
                .attribute("cx", center(at))
                .attribute("cy", band.middle())
                .raw("/>\n");
            return;
        }
        Verdict::Found { .. } if is_served && is_last => ("chip served last", "▶ "),
        Verdict::Found { .. } if is_served => ("chip served", ""),
        Verdict::Found { .. } | Verdict::Merged { .. } => ("chip found", ""),
        Verdict::Whiteout | Verdict::Failed(_) => ("chip cuts", "✗ "),
        Verdict::Shadowed { .. } => ("chip hidden", ""),
    };
    let (detail, opaque) = match &step.verdict {
        Verdict::Found { stat, marks, .. } | Verdict::Merged { stat, marks, .. } => (text::mode(stat), marks.opaque),
        Verdict::Shadowed { stat: Some(stat) } => (text::mode(stat), false),
        Verdict::Shadowed { stat: None } => ("whiteout".to_owned(), false),
        _ => (String::new(), false),
    };
    svg.raw("<g class=\"").raw(class).raw("\">");
    let title = format!("{}: {} {detail}", component.path, word(&step.verdict));
    svg.element("title", "", title.trim_end());
    let (x, y, height) = (center(at) - CHIP / 2, band.y + 5, band.height() - 10);
    svg.raw("<rect rx=\"6\"").attribute("x", x).attribute("y", y).attribute("width", CHIP).attribute("height", height);
    svg.raw("/>");
    let lines = usize::from(!detail.is_empty());
    label(svg, "word", center(at), band.middle() + 4 - 7 * lines);
    svg.raw(sign).raw(word(&step.verdict)).raw(if opaque { ", opaque" } else { "" }).raw("</text>");
    if lines > 0 {
        label(svg, "detail", center(at), band.middle() + 12);
        svg.text(detail).raw("</text>");
    }
    svg.raw("</g>\n");
    let hides_all = explanation.layers.len() > step.layer + 1 && matches!(step.verdict, Verdict::Whiteout);
    if hides_all || opaque {
        svg.raw("<path class=\"edge\"")
            .attribute("d", format_args!("M{x} {0} H{1}", y + height + 2, x + CHIP))
            .raw("/>\n");
    }
}
