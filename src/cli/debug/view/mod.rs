//! Drawing the model. One pane a file; nothing here changes anything.

mod help;
mod layers;
mod preview;
mod trace;
mod tree;
mod versions;
mod walk;

use ratatui::Frame;
use ratatui::layout::Constraint;
use ratatui::layout::Layout;
use ratatui::layout::Position;
use ratatui::layout::Rect;
use ratatui::style::Color;
use ratatui::style::Modifier;
use ratatui::style::Style;
use ratatui::symbols::border;
use ratatui::text::Line;
use ratatui::text::Span;
use ratatui::widgets::Block;
use ratatui::widgets::Paragraph;
use unicode_width::UnicodeWidthChar;

use super::model::Model;
use super::model::Pane;
use super::model::Prompt;
use super::trace::Trace;
use crate::path::Escaped;

/// Below this width or height only the focused pane is drawn.
const SMALL: (u16, u16) = (60, 16);
/// From this width on there are three columns.
const WIDE: u16 = 140;

/// How things look.
#[derive(Debug, Clone, Copy)]
pub struct Theme {
    /// Signs beyond ASCII.
    pub unicode: bool,
    /// Colours; without them the signs and letters say it alone.
    pub colour: bool,
}

/// What a text means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// Nothing special.
    Plain,
    /// Beside the point.
    Dim,
    /// It is what shows; it was added.
    Good,
    /// It deletes, or is deleted.
    Bad,
    /// It is hidden; it was changed.
    Odd,
    /// A heading.
    Strong,
}

impl Theme {
    /// The style of a text.
    pub fn style(self, tone: Tone) -> Style {
        let colour = |colour| if self.colour { Style::new().fg(colour) } else { Style::new() };
        match tone {
            Tone::Plain => Style::new(),
            Tone::Dim => Style::new().add_modifier(Modifier::DIM),
            Tone::Good => colour(Color::Green).add_modifier(Modifier::BOLD),
            Tone::Bad => colour(Color::Red),
            Tone::Odd => colour(Color::Yellow),
            Tone::Strong => Style::new().add_modifier(Modifier::BOLD),
        }
    }

    /// One of two signs.
    pub fn sign(self, unicode: &'static str, ascii: &'static str) -> &'static str {
        if self.unicode { unicode } else { ascii }
    }
}

const ASCII_BORDER: border::Set<'_> = border::Set {
    top_left: "+",
    top_right: "+",
    bottom_left: "+",
    bottom_right: "+",
    vertical_left: "|",
    vertical_right: "|",
    horizontal_top: "-",
    horizontal_bottom: "-",
};

/// Where the panes are, those that are drawn.
pub fn panes(area: Rect, model: &Model) -> Vec<(Pane, Rect)> {
    let [_, body, _] = Layout::vertical([Constraint::Length(1), Constraint::Min(0), Constraint::Length(1)]).areas(area);
    if model.zoom || area.width < SMALL.0 || area.height < SMALL.1 {
        return vec![(model.focus, body)];
    }
    let split =
        |area: Rect, first: u16| Layout::vertical([Constraint::Percentage(first), Constraint::Min(0)]).areas(area);
    if area.width >= WIDE {
        let wide = [Constraint::Percentage(32), Constraint::Percentage(33), Constraint::Min(0)];
        let [left, middle, right] = Layout::horizontal(wide).areas(body);
        let [layers, versions] = split(left, 65);
        let [walk, preview] = split(right, 50);
        return vec![
            (Pane::Layers, layers),
            (Pane::Tree, middle),
            (Pane::Versions, versions),
            (Pane::Walk, walk),
            (Pane::Preview, preview),
        ];
    }
    let [left, right] = Layout::horizontal([Constraint::Percentage(42), Constraint::Min(0)]).areas(body);
    let three = [Constraint::Percentage(36), Constraint::Percentage(25), Constraint::Min(0)];
    let [layers, versions, walk] = Layout::vertical(three).areas(left);
    let [tree, preview] = split(right, 58);
    vec![
        (Pane::Layers, layers),
        (Pane::Tree, tree),
        (Pane::Versions, versions),
        (Pane::Walk, walk),
        (Pane::Preview, preview),
    ]
}

/// Lines that fit into the focused pane.
pub fn page(area: Rect, model: &Model) -> usize {
    let found = panes(area, model).into_iter().find(|(pane, _)| *pane == model.focus);
    found.map_or(1, |(_, rect)| usize::from(rect.height.saturating_sub(2)).max(1))
}

/// Draws everything.
pub fn draw(frame: &mut Frame<'_>, model: &Model, theme: Theme) {
    let area = frame.area();
    if area.height < 3 || area.width < 20 {
        frame.render_widget(Paragraph::new("too small"), area);
        return;
    }
    for (pane, rect) in panes(area, model) {
        let inner = framed(frame, rect, pane, model, theme);
        match pane {
            Pane::Layers => layers::draw(frame, inner, model, theme),
            Pane::Tree => tree::draw(frame, inner, model, theme),
            Pane::Versions => versions::draw(frame, inner, model, theme),
            Pane::Walk => walk::draw(frame, inner, model, theme),
            Pane::Preview => preview::draw(frame, inner, model, theme),
        }
    }
    let line = |y| Rect { y, height: 1, ..area };
    frame.render_widget(title(model, theme, usize::from(area.width)), line(area.y));
    last_line(frame, line(area.bottom() - 1), model, theme);
    if model.help {
        help::draw(frame, area, theme);
    }
}

fn title(model: &Model, theme: Theme, width: usize) -> Paragraph<'static> {
    let layers = match (model.only, model.count == model.layers.len()) {
        (Some(only), _) => format!("only {}", model.layers.get(only.saturating_sub(1)).map_or("", |l| l.tag.as_str())),
        (None, true) => format!("{} layers", model.count),
        (None, false) => format!("the lowest {} of {} layers", model.count, model.layers.len()),
    };
    // Of what is too long, the end of the path says most, and of the target's name the end, too.
    let path = format!("  {layers}  {}", model.path);
    let front = " mica debug  ";
    let room = width.saturating_sub(front.len() + columns(&path)).max(12);
    let text = tail(&format!("{}{path}", tail(&model.title, room)), width.saturating_sub(front.len()));
    let text = fit(&format!("{front}{text}"), width);
    Paragraph::new(text).style(theme.style(Tone::Strong).add_modifier(Modifier::REVERSED))
}

fn last_line(frame: &mut Frame<'_>, area: Rect, model: &Model, theme: Theme) {
    let width = usize::from(area.width);
    let Some((kind, typed)) = &model.prompt else {
        let (text, tone) = match &model.message {
            Some(message) => (message.clone(), Tone::Odd),
            None => (help::line(model, width), Tone::Dim),
        };
        frame.render_widget(Paragraph::new(fit(&text, width)).style(theme.style(tone)), area);
        return;
    };
    let front = match kind {
        Prompt::Search => "search: ",
        Prompt::Only => "only paths with: ",
        Prompt::Extract => "extract to: ",
        Prompt::Mount => "mount on: ",
    };
    // What is typed may be longer than the line: its end counts.
    let typed = Escaped(typed.as_bytes()).to_string();
    let tail = tail(&typed, width.saturating_sub(front.len() + 1));
    let text = format!("{front}{tail}");
    let x = area.x + u16::try_from(columns(&text)).unwrap_or(area.width).min(area.width.saturating_sub(1));
    frame.render_widget(Paragraph::new(text), area);
    frame.set_cursor_position(Position::new(x, area.y));
}

fn trace_title(trace: &Trace) -> String {
    let lost = if trace.lost > 0 { format!(", {} lost", trace.lost) } else { String::new() };
    let text = if trace.text.is_empty() { String::new() } else { format!(" /{}", Escaped(trace.text.as_bytes())) };
    if !trace.listens {
        return "2 Trace ...".to_owned();
    }
    let state = match (trace.ended, trace.follows) {
        (true, _) => " (ended)",
        (false, true) => "",
        (false, false) => " (held)",
    };
    format!("2 Trace: {} told{lost}{text}{state}", trace.told)
}

/// What of the tree is left out by a key.
fn only(model: &Model) -> &'static str {
    match &model.marks {
        Some(marks) if marks.done => ": only whiteouts",
        Some(_) => ": only whiteouts ...",
        None if model.rules.changes => ": only changes",
        None => "",
    }
}

/// What is missing in it because it cannot be read.
fn without(model: &Model) -> String {
    let looked_at = model.layers.iter().take(model.count).rev();
    let tags: Vec<&str> = looked_at.filter(|layer| layer.broken.is_some()).map(|layer| layer.tag.as_str()).collect();
    if tags.is_empty() { String::new() } else { format!(" without {}", tags.join(", ")) }
}

fn framed(frame: &mut Frame<'_>, rect: Rect, pane: Pane, model: &Model, theme: Theme) -> Rect {
    let focused = model.focus == pane;
    let name = match pane {
        Pane::Layers => "1 Layers".to_owned(),
        Pane::Tree if model.trace.is_some() => model.trace.as_ref().map(trace_title).unwrap_or_default(),
        Pane::Tree => match (&model.list, model.tree.is_loading()) {
            (Some(list), _) => format!("2 {}: {}{}", list.title, list.hits.len(), if list.done { "" } else { " ..." }),
            (None, true) => format!("2 Tree{} ...", only(model)),
            (None, false) => format!("2 Tree{}{}", only(model), without(model)),
        },
        Pane::Versions => "3 Versions".to_owned(),
        Pane::Walk => match model.trace.as_ref().and_then(|trace| trace.event()) {
            Some(event) => format!("4 Walk of this {}", event.op.name()),
            None => "4 Walk".to_owned(),
        },
        Pane::Preview => match model.how {
            super::facts::How::Text => "5 Preview".to_owned(),
            super::facts::How::Hex => "5 Hexdump".to_owned(),
            super::facts::How::Diff => "5 Diff with the version below".to_owned(),
        },
    };
    let mark = if focused { "*" } else { "" };
    let style = if focused { theme.style(Tone::Strong) } else { theme.style(Tone::Dim) };
    let set = if theme.unicode { border::PLAIN } else { ASCII_BORDER };
    let block =
        Block::bordered().border_set(set).border_style(style).title(Span::styled(format!("{mark}{name}"), style));
    let inner = block.inner(rect);
    frame.render_widget(block, rect);
    inner
}

/// The first of `len` lines that is drawn, so that `cursor` is in sight.
pub fn first_line(cursor: usize, len: usize, height: usize) -> usize {
    cursor.saturating_sub(height / 2).min(len.saturating_sub(height))
}

/// Draws those of `len` lines that fit, the chosen one marked.
pub fn list(
    frame: &mut Frame<'_>,
    area: Rect,
    len: usize,
    cursor: Option<usize>,
    mut line: impl FnMut(usize) -> Line<'static>,
) {
    let height = usize::from(area.height);
    let first = first_line(cursor.unwrap_or(0), len, height);
    for (at, y) in (first..len).zip(area.y..area.bottom()) {
        let style = if cursor == Some(at) { Style::new().add_modifier(Modifier::REVERSED) } else { Style::new() };
        frame.render_widget(Paragraph::new(line(at)).style(style), Rect { y, height: 1, ..area });
    }
}

/// Columns that a text takes.
pub fn columns(text: &str) -> usize {
    text.chars().map(|c| c.width().unwrap_or(0)).sum()
}

/// A text cut to, and filled up to, a number of columns.
pub fn fit(text: &str, width: usize) -> String {
    let (mut out, mut used) = (String::with_capacity(width), 0);
    for c in text.chars() {
        let wide = c.width().unwrap_or(0);
        if used + wide > width {
            break;
        }
        used += wide;
        out.push(c);
    }
    out.extend(std::iter::repeat_n(' ', width - used));
    out
}

/// The end of a text, in at most so many columns.
fn tail(text: &str, width: usize) -> String {
    let mut used = 0;
    let kept = text.chars().rev().take_while(|c| {
        used += c.width().unwrap_or(0);
        used <= width
    });
    let mut kept: Vec<char> = kept.collect();
    kept.reverse();
    kept.into_iter().collect()
}
