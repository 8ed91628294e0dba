//! What the chosen path is, and its content.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::text::Span;

use super::Theme;
use super::Tone;
use super::fit;
use crate::cli::debug::facts::How;
use crate::cli::debug::model::Model;

/// Draws it.
pub fn draw(frame: &mut Frame<'_>, area: Rect, model: &Model, theme: Theme) {
    let Some(details) = &model.details else { return };
    let width = usize::from(area.width);
    let about = details.about.iter().map(|line| (line, Tone::Dim));
    let content = details.preview.iter().skip(model.scroll).map(|line| {
        let tone = match (details.how, line.as_bytes().first()) {
            (How::Diff, Some(b'+')) => Tone::Good,
            (How::Diff, Some(b'-')) => Tone::Bad,
            (How::Diff, Some(b'@')) => Tone::Strong,
            _ => Tone::Plain,
        };
        (line, tone)
    });
    for ((line, tone), y) in about.chain(content).zip(area.y..area.bottom()) {
        frame.render_widget(
            Line::from(Span::styled(fit(line, width), theme.style(tone))),
            Rect { y, height: 1, ..area },
        );
    }
}
