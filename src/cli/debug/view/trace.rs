//! Operations on the live mount: what, how long, from which layer or with which error, where, and by whom.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::text::Span;

use super::Theme;
use super::Tone;
use super::fit;
use super::tail;
use crate::cli::debug::trace;
use crate::cli::debug::trace::Trace;
use crate::cli::trace_text;
use crate::live::Event;
use crate::live::Op;
use crate::path::Escaped;

/// Draws them.
pub fn draw(frame: &mut Frame<'_>, area: Rect, trace: &Trace, theme: Theme) {
    let width = usize::from(area.width);
    if trace.lines.is_empty() {
        let text = if trace.ended { "nothing was done on the mount" } else { "nothing is done on the mount yet" };
        frame.render_widget(Line::from(fit(text, width)), area);
        return;
    }
    super::list(frame, area, trace.lines.len(), Some(trace.cursor), |at| {
        let (text, tone) = match trace.lines.get(at) {
            Some(trace::Line::Event(event)) => line(event, width),
            Some(trace::Line::Lost(count)) => (format!("... {count} operations lost: they came too fast"), Tone::Bad),
            Some(trace::Line::Ended(why)) => (format!("--- {why}"), Tone::Bad),
            None => return Line::default(),
        };
        Line::from(Span::styled(fit(&text, width), theme.style(tone)))
    });
}

fn line(event: &Event, width: usize) -> (String, Tone) {
    let served =
        event.served().map(|step| if step.layer == 0 { "upper".to_owned() } else { format!("L{}", step.layer) });
    let (what, tone) = match (event.errno, event.op) {
        (0, Op::CopyUp) => (format!("{} up", served.unwrap_or_default()), Tone::Odd),
        (0, _) => (served.unwrap_or_default(), Tone::Plain),
        (errno, _) => (trace_text::error_name(errno), if event.is_negative_lookup() { Tone::Dim } else { Tone::Bad }),
    };
    let front = format!("{:<9.9} {:>6} {what:<6} ", event.op.name(), trace_text::took(event.took));
    let who = match (event.pid, event.comm.as_slice()) {
        (0, _) => " kernel".to_owned(),
        (pid, comm) => format!(" {}[{pid}]", Escaped(comm)),
    };
    // The end of a path says more than its beginning; who asked is shown where there is room for both.
    let path = if event.path.is_empty() { "-".to_owned() } else { Escaped(&event.path).to_string() };
    let room = width.saturating_sub(front.len());
    let who = if super::columns(&path) + who.len() <= room { who } else { String::new() };
    (format!("{front}{}{who}", tail(&path, room)), tone)
}
