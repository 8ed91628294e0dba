//! The keys: those that matter now in the last line, all of them over everything.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::text::Span;
use ratatui::widgets::Clear;

use super::Theme;
use super::Tone;
use super::fit;
use crate::cli::debug::model::Model;
use crate::cli::debug::model::Pane;

const KEYS: &[(&str, &str)] = &[
    ("Tab 1..5", "the next pane, or this one"),
    ("z  Esc", "this pane alone; all of them, the whole tree"),
    ("arrows", "move; -> <- Enter unfold and fold"),
    ("[  ]", "one layer less, one more: back and forth in time"),
    ("Enter", "on a layer: look at it and those below it"),
    ("o", "only what the chosen layer has; all again"),
    ("g", "go to the layer that serves the path"),
    ("/", "search names in all layers; Enter goes there"),
    ("c", "only what the topmost layer changed; all again"),
    ("w", "only whiteouts and opaque directories; all again"),
    (".", "what does not show: not at all, or again"),
    ("s", "the largest first; by name again"),
    ("p", "play the walk; in its pane up and down step"),
    ("h  d", "hexdump; differences from the version below"),
    ("x", "extract the path to a new place"),
    ("m", "mount the layers that are looked at"),
    ("t", "trace the live mount: operations, each with its walk"),
    ("  in it", "arrows hold and choose, space goes on, / filters"),
    ("r", "read the layers again: a live mount changes"),
    ("q  Ctrl-C", "quit"),
];

/// What can be typed anywhere, the most useful first.
const LINE: [&str; 11] = [
    "[ ] time",
    "/ find",
    "s size",
    "c changes",
    "w whiteouts",
    "g serves",
    "d diff",
    "h hex",
    "x extract",
    "m mount",
    "t trace",
];

/// The keys that matter now, for the last line: as many as fit.
pub fn line(model: &Model, width: usize) -> String {
    let here: &[&str] = match model.focus {
        Pane::Layers => &["Enter look", "o only"],
        Pane::Tree if model.trace.is_some() => &["arrows choose", "space hold", "Enter go", "/ filter", "t end"],
        Pane::Tree if model.list.is_some() => &["Enter go", "Esc tree"],
        Pane::Tree => &["Enter open"],
        Pane::Versions => &["Enter show"],
        Pane::Walk => &["p play"],
        Pane::Preview => &["arrows scroll"],
    };
    let mut line = " ? help  q quit  Tab pane".to_owned();
    for word in here.iter().chain(&LINE) {
        if line.len() + 2 + word.len() <= width {
            line.push_str("  ");
            line.push_str(word);
        }
    }
    line
}

/// All keys, over everything.
pub fn draw(frame: &mut Frame<'_>, area: Rect, theme: Theme) {
    let width = area.width.min(64);
    let height = area.height.min(u16::try_from(KEYS.len()).unwrap_or(20) + 3);
    let (x, y) = (area.x + (area.width - width) / 2, area.y + (area.height - height) / 2);
    let popup = Rect { x, y, width, height };
    frame.render_widget(Clear, popup);
    let columns = usize::from(width);
    let head = Line::from(Span::styled(fit(" keys (any key goes on)", columns), theme.style(Tone::Strong)));
    let keys = KEYS.iter().map(|(key, what)| Line::from(fit(&format!(" {key:<10} {what}"), columns)));
    let (serves, merged, hidden) = (theme.sign("▶", ">"), theme.sign("●", "o"), theme.sign("○", "h"));
    let (deletes, nothing) = (theme.sign("✗", "x"), theme.sign("·", "."));
    let signs =
        format!(" {serves} serves  {merged} merged  {hidden} hidden  {deletes} deletes  {nothing} nothing  ! fails");
    let signs = Line::from(Span::styled(fit(&signs, columns), theme.style(Tone::Odd)));
    for (line, y) in std::iter::once(head).chain(keys).chain(std::iter::once(signs)).zip(popup.y..popup.bottom()) {
        frame.render_widget(line, Rect { y, height: 1, ..popup });
    }
}
