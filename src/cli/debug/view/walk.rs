//! The walk: a column of layers for each name. Each step is lit when it is made; runs of layers that say nothing are one line.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Modifier;
use ratatui::text::Line;
use ratatui::text::Span;

use super::Theme;
use super::Tone;
use super::fit;
use crate::cli::debug::facts::Cell;
use crate::cli::debug::facts::Step;
use crate::cli::debug::facts::Walk;
use crate::cli::debug::model::Model;
use crate::cli::trace_text;

/// From how many layers on a run that says nothing is one line.
const RUN_MIN: usize = 3;
/// Columns of the screen that a name has at least and at most.
const NAME: (usize, usize) = (3, 14);

/// One line: a layer, or a run of some.
struct Row {
    from: usize,
    to: usize,
}

/// Draws it.
pub fn draw(frame: &mut Frame<'_>, area: Rect, model: &Model, theme: Theme) {
    let Some(details) = &model.details else { return };
    let (width, height) = (usize::from(area.width), usize::from(area.height));
    if height < 3 {
        return;
    }
    let Some(walk) = &model.walk() else { return };
    let lit = model.step.unwrap_or(usize::MAX);
    let rows = rows(walk, model.count);
    // Symlinks have names, too, and no column of answers; the last names are those that count.
    let asked: Vec<usize> = columns_of(walk);
    let room = width.saturating_sub(8);
    let each = (room / asked.len().max(1)).clamp(NAME.0, NAME.1);
    let skip = asked.len().saturating_sub((room / each).max(1));
    let columns = asked.get(skip..).unwrap_or_default();
    let names: String =
        columns.iter().map(|at| fit(walk.names.get(*at).map_or("", String::as_str), each - 1) + " ").collect();
    let head = Line::from(Span::styled(fit(&format!("{:8}{names}", ""), width), theme.style(Tone::Strong)));
    frame.render_widget(head, Rect { height: 1, ..area });
    let body = Rect { y: area.y + 1, height: area.height - 2, ..area };
    let now = walk.steps.get(lit).or(walk.steps.iter().rev().find(|step| step.cell == Cell::Served));
    let cursor = now.and_then(|step| rows.iter().position(|row| (row.to..=row.from).contains(&step.layer)));
    let first = super::first_line(cursor.unwrap_or(0), rows.len(), usize::from(body.height));
    for (row, y) in rows.iter().skip(first).zip(body.y..body.bottom()) {
        let mut spans = vec![Span::raw(fit(&label(row, model), 8))];
        for column in columns {
            spans.push(cell(walk, row, *column, lit, each, theme));
        }
        frame.render_widget(Line::from(spans), Rect { y, height: 1, ..body });
    }
    let told = model.trace.as_ref().and_then(|trace| trace.event());
    let note = match (walk.steps.get(lit), details.about.first()) {
        (Some(step), _) => format!("{}/{} {}", lit + 1, walk.steps.len(), step.note),
        (None, _) if told.is_some() => told.map(trace_text::result).unwrap_or_default(),
        (None, Some(about)) if details.served.is_none() => about.clone(),
        (None, _) => format!("{} steps; p plays them", walk.steps.len()),
    };
    let foot = Rect { y: area.bottom() - 1, height: 1, ..area };
    frame.render_widget(Line::from(Span::styled(fit(&note, width), theme.style(Tone::Odd))), foot);
}

/// The names that layers were asked for.
fn columns_of(walk: &Walk) -> Vec<usize> {
    let mut columns: Vec<usize> = walk.steps.iter().map(|step| step.column).collect();
    columns.dedup();
    columns
}

/// The layers, top first, runs of silent ones together.
fn rows(walk: &Walk, count: usize) -> Vec<Row> {
    let mut says = vec![false; count + 1];
    for step in walk.steps.iter().filter(|step| step.cell != Cell::Miss) {
        if let Some(says) = says.get_mut(step.layer) {
            *says = true;
        }
    }
    let mut rows: Vec<Row> = Vec::new();
    let mut silent = 0;
    for layer in (1..=count).rev() {
        silent = if says.get(layer) == Some(&true) { 0 } else { silent + 1 };
        rows.push(Row { from: layer, to: layer });
        if silent >= RUN_MIN {
            let merged = if silent == RUN_MIN { RUN_MIN } else { 2 };
            let from = layer + silent - 1;
            rows.truncate(rows.len() - merged);
            rows.push(Row { from, to: layer });
        }
    }
    rows
}

fn label(row: &Row, model: &Model) -> String {
    let tag = |layer: usize| model.layers.get(layer.saturating_sub(1)).map_or("", |layer| layer.tag.as_str());
    if row.from == row.to { tag(row.from).to_owned() } else { format!("{}..{}", tag(row.from), row.to) }
}

fn cell(walk: &Walk, row: &Row, column: usize, lit: usize, width: usize, theme: Theme) -> Span<'static> {
    let fits = |step: &Step| step.column == column && (row.to..=row.from).contains(&step.layer);
    let found = walk.steps.iter().enumerate().rfind(|(_, step)| fits(step));
    let Some((at, step)) = found else { return Span::raw(" ".repeat(width)) };
    let (sign, tone) = match step.cell {
        Cell::Served => (theme.sign("▶", ">"), Tone::Good),
        Cell::Merged => (theme.sign("●", "o"), Tone::Plain),
        Cell::Whiteout => (theme.sign("✗", "x"), Tone::Bad),
        Cell::Shadowed => (theme.sign("○", "h"), Tone::Odd),
        Cell::Miss => (theme.sign("·", "."), Tone::Dim),
        Cell::Failed => ("!", Tone::Bad),
    };
    // A run is lit when its first layer is asked.
    let first = walk.steps.iter().position(fits).unwrap_or(at);
    let text = fit(sign, width);
    match () {
        () if lit == usize::MAX || lit > at => Span::styled(text, theme.style(tone)),
        () if lit >= first => Span::styled(text, theme.style(tone).add_modifier(Modifier::REVERSED)),
        () => Span::raw(" ".repeat(width)),
    }
}
