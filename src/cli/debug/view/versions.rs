//! What each layer has of the chosen path.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::text::Span;

use super::Theme;
use super::Tone;
use super::fit;
use crate::cli::debug::model::Model;
use crate::explain::text;

/// Draws them.
pub fn draw(frame: &mut Frame<'_>, area: Rect, model: &Model, theme: Theme) {
    let Some(details) = &model.details else { return };
    let width = usize::from(area.width);
    if details.versions.is_empty() {
        let text = match (details.failed, details.path.is_root()) {
            (true, _) => "a layer cannot be read",
            (false, true) => "",
            (false, false) => "no layer has it",
        };
        frame.render_widget(Line::from(fit(text, width)), area);
        return;
    }
    super::list(frame, area, details.versions.len(), Some(model.version), |at| {
        let Some(line) = details.versions.get(at) else { return Line::default() };
        let tag = model.layers.get(line.layer.saturating_sub(1)).map_or("", |layer| layer.tag.as_str());
        let tone = match line.word {
            "served" => Tone::Good,
            "merged" => Tone::Plain,
            "hidden" => Tone::Odd,
            _ => Tone::Bad,
        };
        let object = line.stat.map(|stat| format!("{} {}", text::mode(&stat), stat.size)).unwrap_or_default();
        let note = if line.note.is_empty() { String::new() } else { format!("  {}", line.note) };
        let text = format!("{tag:<5} {:<8} {object}{note}", line.word);
        Line::from(Span::styled(fit(text.trim_end(), width), theme.style(tone)))
    });
}
