//! The layers, top first: those that are looked at, and which of them have the chosen path.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::text::Span;

use super::Theme;
use super::Tone;
use super::fit;
use crate::cli::debug::model::Model;
use crate::cli::format;

/// Draws them.
pub fn draw(frame: &mut Frame<'_>, area: Rect, model: &Model, theme: Theme) {
    let total = model.layers.len();
    let width = usize::from(area.width);
    super::list(frame, area, total, Some(total.saturating_sub(model.layer)), |at| {
        let number = total - at;
        let Some(layer) = model.layers.get(number.saturating_sub(1)) else { return Line::default() };
        let has = model.details.as_ref().and_then(|details| details.versions.iter().find(|line| line.layer == number));
        let (sign, tone) = match has.map(|line| line.word) {
            _ if number > model.count => (" ", Tone::Dim),
            _ if layer.broken.is_some() => ("!", Tone::Bad),
            Some("served") => (theme.sign("▶", ">"), Tone::Good),
            Some("merged") => (theme.sign("●", "o"), Tone::Plain),
            Some("hidden") => (theme.sign("○", "h"), Tone::Odd),
            Some(_) => (theme.sign("✗", "x"), Tone::Bad),
            None => (" ", Tone::Plain),
        };
        let size = layer.size.map(format::size).unwrap_or_default();
        let size = if layer.broken.is_some() { "damaged".to_owned() } else { size };
        let message = if layer.message.is_empty() { String::new() } else { format!("  # {}", layer.message) };
        let text = format!("{:<5}{size:>7} {}{message}", layer.tag, layer.command);
        let style = theme.style(tone);
        Line::from(vec![Span::styled(sign, style), Span::styled(fit(&text, width.saturating_sub(1)), style)])
    });
}
