//! Progress of layers: bars on a terminal, lines on request, nothing otherwise. All on standard error.

use std::io::IsTerminal;
use std::io::Write;

use indicatif::MultiProgress;
use indicatif::ProgressBar;
use indicatif::ProgressStyle;

use super::format;
use crate::engine::LayerNote;
use crate::engine::LayerProgress;
use crate::engine::Progress;
use crate::engine::Quiet;

/// Chooses how progress is shown.
pub fn choose(quiet: bool, verbose: bool) -> Box<dyn Progress> {
    match (quiet, verbose) {
        (true, _) => Box::new(Quiet),
        (false, true) => Box::new(Lines),
        (false, false) if std::io::stderr().is_terminal() => Box::new(Bars(MultiProgress::new())),
        (false, false) => Box::new(Quiet),
    }
}

/// One bar for each layer.
#[derive(Debug)]
struct Bars(MultiProgress);

impl Progress for Bars {
    fn layer(&self, note: &LayerNote) -> Box<dyn LayerProgress> {
        let style = ProgressStyle::with_template("{prefix} [{bar:40}] {decimal_bytes}/{decimal_total_bytes}")
            .map(|style| style.progress_chars("=> "))
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = self.0.add(ProgressBar::new(note.size).with_style(style).with_prefix(label(note)));
        Box::new(Bar(bar))
    }

    fn already_here(&self, note: &LayerNote) {
        // A line that cannot be shown loses nothing.
        self.0.println(format!("{}: Already exists", label(note))).unwrap_or_default();
    }
}

struct Bar(ProgressBar);

impl LayerProgress for Bar {
    fn advance(&self, bytes: u64) {
        self.0.inc(bytes);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

/// One line for each layer.
#[derive(Debug)]
struct Lines;

impl Progress for Lines {
    fn layer(&self, note: &LayerNote) -> Box<dyn LayerProgress> {
        say(&format!("{} {}", label(note), format::size(note.size)));
        Box::new(Quiet)
    }

    fn already_here(&self, note: &LayerNote) {
        say(&format!("{}: Already exists", label(note)));
    }
}

fn say(line: &str) {
    // With standard error gone there is nobody left to tell.
    writeln!(std::io::stderr(), "{line}").unwrap_or_default();
}

fn label(note: &LayerNote) -> String {
    let number = note.number.map_or_else(|| "layer".to_owned(), |(n, of)| format!("layer {n}/{of}"));
    match note.diff_id {
        Some(diff_id) => format!("{number} {}", diff_id.short()),
        None => number,
    }
}
