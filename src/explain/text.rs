//! An explanation as a picture in text: for each name a column of layers, top to bottom.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::json::word;
use super::subject::LayerInfo;
use super::subject::Place;
use super::trace::Component;
use super::trace::Cut;
use super::trace::Explanation;
use super::trace::How;
use super::trace::Outcome;
use super::trace::Step;
use crate::layer::Marks;
use crate::path::Escaped;
use crate::sys::attr;
use crate::sys::attr::Kind;
use crate::sys::attr::Stat;
use crate::union::observe::Verdict;

/// The longest command that is shown unless all is asked for, in characters.
const COMMAND_MAX: usize = 50;
/// From how many layers on a run that has nothing to say is one line.
const RUN_MIN: usize = 3;

/// How a picture is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Style {
    /// Characters beyond ASCII may be used for signs. Names are shown as they are if they are printable.
    pub unicode: bool,
    /// Terminal colours.
    pub colour: bool,
    /// Every layer on a line of its own, and commands in full.
    pub verbose: bool,
}

impl Style {
    fn arrow(self) -> &'static str {
        if self.unicode { "→" } else { "->" }
    }

    fn served(self) -> &'static str {
        if self.unicode { "▶" } else { ">" }
    }

    fn stop(self) -> &'static str {
        if self.unicode { "✗" } else { "x" }
    }

    fn ellipsis(self) -> &'static str {
        if self.unicode { "…" } else { "..." }
    }

    fn paint(self, colour: Colour, text: &str) -> String {
        let code = match colour {
            Colour::Plain => return text.to_owned(),
            Colour::Bold => "1",
            Colour::Dim => "2",
            Colour::Red => "31",
            Colour::Green => "32",
            Colour::Yellow => "33",
        };
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Colour {
    Plain,
    Bold,
    Dim,
    Red,
    Green,
    Yellow,
}

/// One line of a column: its cells, left to right.
pub(super) struct Row {
    pub(super) colour: Colour,
    pub(super) sign: &'static str,
    pub(super) layer: String,
    pub(super) digest: String,
    pub(super) verdict: &'static str,
    pub(super) object: String,
    pub(super) note: String,
}

/// The picture, with a line break behind each line.
pub fn picture(explanation: &Explanation, style: Style) -> String {
    let columns: Vec<Vec<Row>> =
        explanation.components.iter().map(|component| rows(component, &explanation.layers, style)).collect();
    let width = |cell: fn(&Row) -> usize| columns.iter().flatten().map(cell).max().unwrap_or(0);
    let widths = [
        width(|row| row.layer.chars().count()),
        width(|row| row.digest.chars().count()),
        width(|row| row.verdict.len()),
        width(|row| row.object.chars().count()),
    ];
    let mut out = headline(explanation, style);
    let mut shown = BTreeSet::new();
    for (at, (component, column)) in explanation.components.iter().zip(&columns).enumerate() {
        // Symlinks can lead through a place again and again; it is the same every time.
        let is_answer =
            at + 1 == explanation.components.len() && !matches!(explanation.outcome, Outcome::Unresolvable(_));
        if !shown.insert(component.path.to_bytes()) && !is_answer {
            continue;
        }
        out.push('\n');
        out.push_str(&style.paint(Colour::Bold, &component.path.to_string()));
        if let Some(link) = &component.link {
            let rest = if link.followed { "" } else { " (not followed)" };
            push(&mut out, format_args!(" {} {}{rest}", style.arrow(), Escaped(&link.text)));
        }
        out.push('\n');
        column.iter().for_each(|row| out.push_str(&line(row, widths, style)));
    }
    out.push_str(&footer(explanation, style));
    out
}

fn line(row: &Row, [layer, digest, verdict, object]: [usize; 4], style: Style) -> String {
    let sign = if row.sign.is_empty() { " " } else { row.sign };
    let text = format!(
        "{sign} {:<layer$}  {:<digest$}  {:<verdict$}  {:<object$}  {}",
        row.layer, row.digest, row.verdict, row.object, row.note
    );
    format!("  {}\n", style.paint(row.colour, text.trim_end()))
}

/// What came of following a path, in one line without colours.
pub fn verdict(explanation: &Explanation) -> String {
    headline(explanation, Style::default()).trim_end().to_owned()
}

fn headline(explanation: &Explanation, style: Style) -> String {
    let asked = Escaped(&explanation.path);
    let slash = if explanation.path.starts_with(b"/") { "" } else { "/" };
    let colour = match &explanation.outcome {
        Outcome::Found => Colour::Green,
        Outcome::Hidden { .. } | Outcome::Unresolvable(_) => Colour::Red,
        Outcome::Never => Colour::Yellow,
    };
    let what = style.paint(colour, &headline_rest(explanation));
    format!("{slash}{asked} in {} {what}\n", Escaped(explanation.target.as_bytes()))
}

/// What came of following a path, as what follows its name in a sentence.
pub(super) fn headline_rest(explanation: &Explanation) -> String {
    let place = |layer: usize| explanation.layers.get(layer).map_or_else(String::new, |info| info.place.to_string());
    match &explanation.outcome {
        Outcome::Found => {
            format!("is served by {}", explanation.served().map_or_else(String::new, |served| place(served.layer)))
        }
        Outcome::Hidden { layer, by } => {
            let why = by.as_ref().map_or_else(|| "it does not show".to_owned(), |by| reason(by, &explanation.layers));
            format!("is hidden: {} has it, but {why}", place(*layer))
        }
        Outcome::Never => "was never there: no layer has it".to_owned(),
        Outcome::Unresolvable(why) => format!("cannot be resolved: {why}"),
    }
}

/// Why what lies below a cut does not show.
pub fn reason(cut: &Cut, layers: &[LayerInfo]) -> String {
    let by = layers.get(cut.layer).map_or_else(String::new, |info| info.place.to_string());
    match cut.how {
        How::Whiteout => format!("{by} deletes {}", cut.path),
        How::Opaque => format!("{by} has {} as an opaque directory", cut.path),
        How::Covered => format!("{by} has another {}", cut.path),
    }
}

/// What each layer said of a name, top first; layers with nothing to say as one row.
pub(super) fn rows(component: &Component, layers: &[LayerInfo], style: Style) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut rest = component.steps.as_slice();
    while let Some((step, behind)) = rest.split_first() {
        let run = rest.iter().take_while(|step| is_nothing(&step.verdict)).count();
        if run >= RUN_MIN && !style.verbose {
            let (quiet, behind) = rest.split_at_checked(run).unwrap_or((rest, &[]));
            rows.push(run_row(quiet, layers));
            rest = behind;
        } else {
            rows.push(row(component, step, layers, style));
            rest = behind;
        }
    }
    rows
}

pub(super) fn is_nothing(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Miss | Verdict::NoParent)
}

/// One line for layers that have nothing to say.
fn run_row(steps: &[Step], layers: &[LayerInfo]) -> Row {
    let place = |step: Option<&Step>| step.and_then(|step| layers.get(step.layer)).map(tag).unwrap_or_default();
    let misses = steps.iter().filter(|step| matches!(step.verdict, Verdict::Miss)).count();
    let without = steps.len() - misses;
    let (verdict, note) = match (misses, without) {
        (0, _) => ("no-parent", format!("({} layers)", steps.len())),
        (_, 0) => ("miss", format!("({} layers)", steps.len())),
        _ => ("miss", format!("({} layers, {without} of them without the directory)", steps.len())),
    };
    Row {
        colour: Colour::Dim,
        sign: "",
        layer: format!("{}..{}", place(steps.first()), place(steps.last())),
        digest: String::new(),
        verdict,
        object: String::new(),
        note,
    }
}

/// `upper` or `L3`.
pub fn tag(info: &LayerInfo) -> String {
    match info.place {
        Place::Upper => "upper".to_owned(),
        Place::Layer(number) => format!("L{number}"),
    }
}

fn row(component: &Component, step: &Step, layers: &[LayerInfo], style: Style) -> Row {
    let info = layers.get(step.layer);
    let is_served = component.served.as_ref().is_some_and(|served| served.layer == step.layer);
    let (colour, sign) = match &step.verdict {
        Verdict::Found { .. } if is_served => (Colour::Green, style.served()),
        Verdict::Found { .. } | Verdict::Merged { .. } => (Colour::Plain, ""),
        Verdict::Whiteout | Verdict::Failed(_) => (Colour::Red, style.stop()),
        Verdict::Shadowed { .. } => (Colour::Yellow, ""),
        Verdict::Miss | Verdict::NoParent => (Colour::Dim, ""),
    };
    let object = match &step.verdict {
        Verdict::Found { stat, .. } | Verdict::Merged { stat, .. } | Verdict::Shadowed { stat: Some(stat) } => {
            object(stat)
        }
        _ => String::new(),
    };
    let mut notes = notes(step, layers);
    if !is_nothing(&step.verdict) {
        notes.extend(info.and_then(origin).map(|origin| format!("[{}]", shorten(&origin, style))));
    }
    Row {
        colour,
        sign,
        layer: info.map(tag).unwrap_or_default(),
        digest: info.and_then(|info| info.digest).map_or_else(|| "-".to_owned(), |digest| digest.short()),
        verdict: word(&step.verdict),
        object,
        note: notes.join("  "),
    }
}

/// Where a layer comes from: the command that made it, or the directory that it is.
fn origin(info: &LayerInfo) -> Option<String> {
    match info.digest {
        Some(_) => info.made.created_by.as_deref().map(one_line),
        None => Some(Escaped(info.label.as_bytes()).to_string()),
    }
}

/// Everything worth saying about a step beside what was found.
fn notes(step: &Step, layers: &[LayerInfo]) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(asked) = &step.asked {
        notes.push(format!("as {asked}"));
    }
    match &step.verdict {
        Verdict::Found { marks, .. } | Verdict::Merged { marks, .. } => mark_notes(marks, &mut notes),
        Verdict::Whiteout => notes.push("hides everything below".to_owned()),
        Verdict::Shadowed { stat } => {
            if stat.is_none() {
                notes.push("a whiteout".to_owned());
            }
            if let Some(cut) = &step.cut {
                notes.push(format!("because {}", reason(cut, layers)));
            }
        }
        Verdict::Failed(why) => notes.push(Escaped(why.as_bytes()).to_string()),
        Verdict::Miss | Verdict::NoParent => {}
    }
    notes
}

/// What marks mean, for people.
pub fn mark_notes(marks: &Marks, notes: &mut Vec<String>) {
    if marks.opaque {
        notes.push("opaque: hides everything below".to_owned());
    }
    if let Some(redirect) = &marks.redirect {
        notes.push(format!("goes on below as {}", Escaped(&redirect.print())));
    }
    match &marks.metacopy {
        Some(parts) if parts.is_empty() => notes.push("attributes only, its content lies below".to_owned()),
        Some(parts) => notes.push(format!("{} blocks of 128 KiB, the rest of its content lies below", parts.len())),
        None => {}
    }
}

/// Type, mode, owner and, where it means something, size or device number.
pub(super) fn object(stat: &Stat) -> String {
    let mut text = format!("{} {}:{}", mode(stat), stat.uid, stat.gid);
    match stat.kind() {
        Kind::File => push(&mut text, format_args!(" {} B", stat.size)),
        Kind::Char | Kind::Block => {
            let (major, minor) = attr::dev_parts(stat.rdev);
            push(&mut text, format_args!(" {major}:{minor}"));
        }
        _ => {}
    }
    text
}

/// A mode as `ls` shows it: `drwxr-xr-x`.
pub fn mode(stat: &Stat) -> String {
    let kind = match stat.kind() {
        Kind::File => '-',
        Kind::Dir => 'd',
        Kind::Symlink => 'l',
        Kind::Char => 'c',
        Kind::Block => 'b',
        Kind::Fifo => 'p',
        Kind::Socket => 's',
    };
    let has = |bit: u32| stat.mode & bit != 0;
    let mut text = String::from(kind);
    for (shift, special, sign) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        text.push(if has(4 << shift) { 'r' } else { '-' });
        text.push(if has(2 << shift) { 'w' } else { '-' });
        text.push(match (has(1 << shift), has(special)) {
            (true, true) => sign,
            (false, true) => sign.to_ascii_uppercase(),
            (true, false) => 'x',
            (false, false) => '-',
        });
    }
    text
}

fn footer(explanation: &Explanation, style: Style) -> String {
    let Some(served) = explanation.served() else { return String::new() };
    let Some(info) = explanation.layers.get(served.layer) else { return String::new() };
    let digest = info.digest.map_or_else(String::new, |digest| format!(" ({})", digest.short()));
    let mut out = format!("\n{} {}{digest}\n", style.paint(Colour::Green, "served by"), info.place);
    for (name, value) in served_facts(explanation) {
        push(&mut out, format_args!("  {name:<8}  {value}\n"));
    }
    out
}

/// What is known of the object that serves the path, each with its name; nothing if none does.
pub(super) fn served_facts(explanation: &Explanation) -> Vec<(&'static str, String)> {
    let Some(served) = explanation.served() else { return Vec::new() };
    let place = |layer: usize| explanation.layers.get(layer).map_or_else(String::new, |info| info.place.to_string());
    let mut facts = vec![
        ("object", object(&served.stat)),
        ("modified", time(served.stat.mtime)),
        ("location", served.location.clone()),
    ];
    if served.stat.nlink > 1 && served.stat.kind() != Kind::Dir {
        facts.push(("links", format!("{} names in its layer", served.stat.nlink)));
    }
    if let Some((layer, location)) = &served.content {
        facts.push(("content", format!("{}: {location}", place(*layer))));
    }
    if let Some(origin) = &served.origin {
        let layer = origin.layer.map_or_else(|| "a layer that is not here".to_owned(), place);
        facts.push(("copied", format!("from object {} of {layer}", origin.number)));
    }
    let made = explanation.layers.get(served.layer).and_then(|info| info.made.created_by.as_deref());
    facts.extend(made.map(|command| ("made by", one_line(command))));
    facts
}

/// A time in full, UTC.
pub fn time(time: attr::Time) -> String {
    match jiff::Timestamp::from_second(time.secs) {
        Ok(stamp) => format!("{}.{:09} UTC", stamp.strftime("%Y-%m-%d %H:%M:%S"), time.nanos),
        Err(_) => format!("{}.{:09} seconds since 1970", time.secs, time.nanos),
    }
}

/// A command of an image's history on one line, nothing in it able to reach the terminal as control.
pub fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    Escaped(words.join(" ").as_bytes()).to_string()
}

/// A text cut to the length that a line has room for, unless all is asked for.
pub fn shorten(text: &str, style: Style) -> String {
    if style.verbose || text.chars().count() <= COMMAND_MAX {
        return text.to_owned();
    }
    let short: String = text.chars().take(COMMAND_MAX - 1).collect();
    format!("{short}{}", style.ellipsis())
}

/// Writing to a `String` cannot fail.
fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).unwrap_or_default();
}
