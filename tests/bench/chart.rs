//! The results as a chart: for each workload the ratios to the kernel's overlayfs on a logarithmic scale.

use crate::report::KERNEL;
use crate::report::PLAIN;
use crate::report::Report;
use crate::report::Row;

const LINE: f64 = 20.0;
const LEFT: f64 = 210.0;
const WIDTH: f64 = 560.0;
const TOP: f64 = 64.0;
/// The ends of the scale; what is beyond is drawn at its end.
const LOW: f64 = 1.0 / 32.0;
const HIGH: f64 = 64.0;

const COLOURS: [&str; 5] = ["#e07b39", "#8e6bbf", "#4b8f5b", "#b9a13c", "#7a7a7a"];
const OURS: &str = "#1769c2";

fn x(ratio: f64) -> f64 {
    let part = (ratio.clamp(LOW, HIGH) / LOW).ln() / (HIGH / LOW).ln();
    LEFT + part * WIDTH
}

fn text(x: f64, y: f64, anchor: &str, words: &str) -> String {
    format!("<text x=\"{x:.0}\" y=\"{y:.0}\" text-anchor=\"{anchor}\">{words}</text>\n")
}

fn dot(x: f64, y: f64, colour: &str, ours: bool) -> String {
    let radius = if ours { 5.0 } else { 4.0 };
    let hollow = if ours { "" } else { " fill-opacity=\"0.75\"" };
    format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\" fill=\"{colour}\"{hollow}/>\n")
}

/// The chart as SVG.
pub fn draw(report: &Report) -> String {
    let others = report.subjects.iter().filter(|s| *s != PLAIN && *s != KERNEL && *s != report.ours());
    let mut subjects: Vec<(&str, &str)> = others.zip(COLOURS).map(|(name, colour)| (name.as_str(), colour)).collect();
    subjects.push((report.ours(), OURS)); // last, so it lies on top
    let rows: Vec<&Row> =
        report.rows.iter().filter(|row| row.is_work() && report.by_kernel(row, report.ours()).is_some()).collect();
    let bottom = TOP + rows.len() as f64 * LINE;
    let (width, height) = (LEFT + WIDTH + 30.0, bottom + 30.0);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {width:.0} {height:.0}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    let floor = report.round_trip().map_or_else(String::new, |floor| format!("; a round trip to a server: {floor}"));
    out +=
        &text(LEFT, 18.0, "start", &format!("time, as a multiple of the kernel's overlayfs (left is faster){floor}"));
    let mut at = LEFT;
    for (name, colour) in subjects.iter().rev() {
        out += &dot(at + 5.0, 32.0, colour, *name == report.ours());
        out += &text(at + 14.0, 36.0, "start", name);
        at += 34.0 + 7.0 * name.len() as f64;
    }
    let mut mark = LOW;
    while mark <= HIGH {
        let (strong, label) =
            (mark == 1.0, if mark < 1.0 { format!("1/{:.0}", 1.0 / mark) } else { format!("{mark:.0}") });
        let colour = if strong { "#333" } else { "#ddd" };
        out +=
            &format!("<line x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"{TOP}\" y2=\"{bottom}\" stroke=\"{colour}\"/>\n", x(mark));
        out += &text(x(mark), TOP - 6.0, "middle", &label);
        mark *= 2.0;
    }
    for (i, row) in rows.iter().enumerate() {
        let y = TOP + (i as f64 + 0.5) * LINE;
        out += &text(LEFT - 12.0, y + 4.0, "end", &row.name);
        for (name, colour) in &subjects {
            if let Some(ratio) = report.by_kernel(row, name) {
                out += &dot(x(ratio), y, colour, *name == report.ours());
            }
        }
    }
    out + "</svg>\n"
}
