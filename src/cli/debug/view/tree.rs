//! The tree, or what a search found in its place: what each entry is, which layer it is from, how large it is.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::text::Span;

use super::Theme;
use super::Tone;
use super::fit;
use crate::cli::debug::facts::Row;
use crate::cli::debug::facts::Shine;
use crate::cli::debug::model::List;
use crate::cli::debug::model::Model;
use crate::cli::debug::tree;
use crate::cli::format;
use crate::sys::attr::Kind;

/// Draws it.
pub fn draw(frame: &mut Frame<'_>, area: Rect, model: &Model, theme: Theme) {
    let width = usize::from(area.width);
    if let Some(trace) = &model.trace {
        return super::trace::draw(frame, area, trace, theme);
    }
    if let Some(list) = &model.list {
        return found(frame, area, model, list, theme);
    }
    let lines = model.tree.lines();
    if let (true, Some(marks)) = (lines.is_empty(), &model.marks) {
        let text = if marks.done { "no whiteouts, no opaque directories" } else { "looking ..." };
        frame.render_widget(Line::from(fit(text, width)), area);
        return;
    }
    super::list(frame, area, lines.len(), Some(model.cursor), |at| {
        let shown = lines.get(at).and_then(|line| Some((line, model.tree.row(line)?)));
        let Some((line, row)) = shown else { return Line::default() };
        let open = row.is_dir && model.tree.is_open(&line.dir.child(row.name.as_name()));
        let fold = match (row.is_dir, open) {
            (true, true) => theme.sign("▾", "-"),
            (true, false) => theme.sign("▸", "+"),
            (false, _) => " ",
        };
        let size = tree::size_of_row(&line.dir, row, model.sizes.as_ref().map(|sizes| &sizes.dirs));
        let size = size.map(format::size).unwrap_or_default();
        let (sign, tone) = sign(row, theme);
        let tag = row.layer.checked_sub(1).and_then(|at| model.layers.get(at)).map_or("", |layer| layer.tag.as_str());
        let end = format!(" {sign}{}{tag:>5}{size:>8}", row.change.unwrap_or(' '));
        let mut name = format!("{:indent$}{fold} {}", "", row.name, indent = (line.depth * 2).min(width / 2));
        match row.stat.map(|stat| stat.kind()) {
            Some(Kind::Dir) => name.push('/'),
            Some(Kind::Symlink) => name.push('@'),
            _ => {}
        }
        if row.opaque {
            name.push_str(" (opaque)");
        }
        if row.deleted && row.shine == Shine::Shown {
            name.push_str(" (re-created)");
        }
        let text = fit(&name, width.saturating_sub(super::columns(&end)));
        let style = theme.style(tone);
        Line::from(vec![Span::styled(text, style), Span::styled(end, style)])
    });
}

fn sign(row: &Row, theme: Theme) -> (&'static str, Tone) {
    match (row.shine, row.change) {
        (Shine::Whiteout, _) => (theme.sign("✗", "x"), Tone::Bad),
        (Shine::Broken, _) => ("!", Tone::Bad),
        (Shine::Hidden, _) => (theme.sign("○", "h"), Tone::Odd),
        (Shine::Shown, Some('A')) => (" ", Tone::Good),
        (Shine::Shown, Some(_)) => (" ", Tone::Odd),
        (Shine::Shown, None) => (" ", Tone::Plain),
    }
}

fn found(frame: &mut Frame<'_>, area: Rect, model: &Model, list: &List, theme: Theme) {
    let width = usize::from(area.width);
    if list.hits.is_empty() {
        let text = if list.done { "nothing was found" } else { "looking ..." };
        frame.render_widget(Line::from(fit(text, width)), area);
        return;
    }
    super::list(frame, area, list.hits.len(), Some(list.cursor), |at| {
        let Some(hit) = list.hits.get(at) else { return Line::default() };
        let tag = model.layers.get(hit.layer.saturating_sub(1)).map_or("", |layer| layer.tag.as_str());
        let tone = if hit.note.is_empty() { Tone::Plain } else { Tone::Odd };
        let text = format!("{tag:<5} {:<8} {}", hit.note, hit.path);
        Line::from(Span::styled(fit(&text, width), theme.style(tone)))
    });
}
