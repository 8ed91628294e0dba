//! The page of `mica du`: where the bytes are, and which of them nobody sees.

use std::collections::BTreeMap;

use super::Markup;
use super::layer_cells;
use super::made_by;
use super::page;
use super::scrolling;
use super::table_head;
use super::treemap::Area;
use super::treemap::divide;
use super::treemap::number;
use crate::explain::subject::Subject;
use crate::explain::text;
use crate::explain::usage::Report;
use crate::explain::usage::Usage;
use crate::path::Escaped;
use crate::path::RelPath;

/// The size in which treemaps are laid out. They are as wide as the page: across, all is in per cent.
const WIDTH: f64 = 960.0;
const LAYERS_HEIGHT: f64 = 200.0;
const DIRS_HEIGHT: f64 = 480.0;
/// What is smaller, in square pixels, is drawn together with its like.
const TILE_MIN: f64 = 90.0;
/// Room for a directory's name above what is in it.
const TITLE: f64 = 17.0;
/// How many directories the table has unless it is said.
const ROWS_MAX: usize = 200;

/// How the page is made.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    /// Bytes for people.
    pub size: fn(u64) -> String,
    /// How many directories the table shows.
    pub top: Option<usize>,
}

/// The page of what `report` says about `at` in `subject`; `dirs` are the rows of the table, in order.
pub fn document(subject: &Subject, at: &RelPath, report: &Report, dirs: &[(&RelPath, &Usage)], style: Style) -> String {
    let target = Escaped(subject.title().as_bytes()).to_string();
    let mut body = head(&target, at, &report.total, style);
    body.add(layers(subject, report, style)).add(directories(at, report, dirs, style));
    page(format_args!("{at} in {target} - mica du"), body)
}

fn head(target: &str, at: &RelPath, total: &Usage, style: Style) -> Markup {
    let mut out = Markup::default();
    out.raw("<header>\n<p class=\"kicker\">mica du · ").text(target).raw("</p>\n").element("h1", "path", at);
    out.raw("\n<dl class=\"tiles\">\n");
    let tiles = [
        ("total", total.total, "in all layers"),
        ("shown", total.shown, "what the union shows"),
        ("wasted", total.wasted, "deleted or replaced above, still in the image"),
        ("unique", total.unique(), "held once"),
        ("shared", total.shared, "held more than once with the same content"),
    ];
    for (name, bytes, what) in tiles {
        out.raw(if name == "wasted" && bytes > 0 { "<div class=\"bad\">" } else { "<div>" });
        out.element("dt", "", name).raw("<dd>").element("b", "", (style.size)(bytes)).element("small", "", what);
        out.raw("</dd></div>\n");
    }
    out.raw("</dl>\n<p class=\"note\">").text(total.files).raw(" files in all layers.</p>\n</header>\n");
    out
}

/// One rectangle, with all that is to be seen in it.
struct Tile {
    name: String,
    title: String,
    usage: Usage,
}

fn layers(subject: &Subject, report: &Report, style: Style) -> Markup {
    let mut out = Markup::default();
    out.raw("<section id=\"layers\">\n<h2>Layers</h2>\n");
    let mut tiles: Vec<Tile> = Vec::new();
    let mut table =
        table_head(&["Layer", "Digest", "", "#Total", "#Shown", "#Wasted", "#Unique", "#Shared", "#Files", "Made by"]);
    let largest = report.layers.iter().map(|usage| usage.total).max().unwrap_or(0);
    for (info, usage) in subject.layers().iter().zip(&report.layers) {
        let tag = text::tag(info);
        tiles.push(Tile { title: format!("{tag} {}", made_by(info)), name: tag, usage: *usage });
        table.raw("<tr>");
        layer_cells(&mut table, info);
        table.raw("<td>").add(bar(usage, largest)).raw("</td>").add(sums(usage, style));
        table.element("td", "m wide", made_by(info)).raw("</tr>\n");
    }
    table.raw("</tbody>\n</table>\n");
    tiles.sort_by_key(|tile| std::cmp::Reverse(tile.usage.total));
    let weights: Vec<u64> = tiles.iter().map(|tile| tile.usage.total).collect();
    let area = Area { x: 0.0, y: 0.0, width: WIDTH, height: LAYERS_HEIGHT };
    let mut svg = open_map(LAYERS_HEIGHT, "The layers by size");
    for (tile, area) in tiles.iter().zip(divide(&weights, area)) {
        leaf(&mut svg, tile, area, style);
    }
    svg.raw("</svg>\n");
    if report.total.total > 0 {
        out.add(svg).add(legend());
    }
    out.add(scrolling("Layers", table)).raw("</section>\n");
    out
}

fn legend() -> Markup {
    let mut out = Markup::default();
    out.raw(
        "<ul class=\"legend\"><li><i class=\"k shown\"></i>shown</li><li><i class=\"k wasted\"></i>wasted</li></ul>\n",
    );
    out
}

/// A layer's bytes beside those of the largest.
fn bar(usage: &Usage, largest: u64) -> Markup {
    let part = |bytes: u64| format!("{:.1}", number(bytes) / number(largest.max(1)) * 120.0);
    let mut out = Markup::default();
    out.raw("<svg class=\"bar\" width=\"120\" height=\"12\" aria-hidden=\"true\">");
    out.raw("<rect class=\"shown\" height=\"12\"").attribute("width", part(usage.shown)).raw("/>");
    out.raw("<rect class=\"wasted\" height=\"12\"").attribute("x", part(usage.shown));
    out.attribute("width", part(usage.wasted)).raw("/></svg>");
    out
}

fn sums(usage: &Usage, style: Style) -> Markup {
    let mut out = Markup::default();
    for (at, bytes) in [usage.total, usage.shown, usage.wasted, usage.unique(), usage.shared].into_iter().enumerate() {
        out.element("td", if at == 2 && bytes > 0 { "n bad" } else { "n" }, (style.size)(bytes));
    }
    out.element("td", "n", usage.files);
    out
}

fn directories(at: &RelPath, report: &Report, dirs: &[(&RelPath, &Usage)], style: Style) -> Markup {
    let mut out = Markup::default();
    out.raw("<section id=\"directories\">\n<h2>Directories</h2>\n");
    if report.total.total > 0 {
        let mut svg = open_map(DIRS_HEIGHT, "The directories by size");
        let area = Area { x: 0.0, y: 0.0, width: WIDTH, height: DIRS_HEIGHT };
        let tree = Tree::new(&report.dirs);
        tree.draw(&mut svg, at, area, style);
        svg.raw("</svg>\n");
        out.add(svg).add(legend());
    }
    let mut table = table_head(&["Directory", "#Total", "#Shown", "#Wasted", "#Unique", "#Shared", "#Files"]);
    let max = style.top.unwrap_or(ROWS_MAX);
    for (path, usage) in dirs.iter().take(max) {
        table
            .raw("<tr><th scope=\"row\" class=\"m wide\">")
            .text(path)
            .raw("</th>")
            .add(sums(usage, style))
            .raw("</tr>\n");
    }
    table.raw("</tbody>\n</table>\n");
    out.add(scrolling("Directories", table));
    if let Some(more) = dirs.len().checked_sub(max).filter(|more| *more > 0) {
        out.raw("<p class=\"note\">").text(more).raw(" more directories are left out here; mica du lists all.</p>\n");
    }
    out.raw("</section>\n");
    out
}

/// Directories with those right below them.
struct Tree<'a> {
    all: &'a BTreeMap<RelPath, Usage>,
    below: BTreeMap<RelPath, Vec<(&'a RelPath, &'a Usage)>>,
}

impl<'a> Tree<'a> {
    fn new(all: &'a BTreeMap<RelPath, Usage>) -> Self {
        let mut below: BTreeMap<RelPath, Vec<_>> = BTreeMap::new();
        for (path, usage) in all {
            if let Some((parent, _)) = path.split_last() {
                below.entry(parent).or_default().push((path, usage));
            }
        }
        below.values_mut().for_each(|list| list.sort_by_key(|(_, usage)| std::cmp::Reverse(usage.total)));
        Self { all, below }
    }

    /// Draws a directory into an area, and into it what is in it; with a list of its own: a tree may be deep.
    fn draw(&self, svg: &mut Markup, top: &RelPath, area: Area, style: Style) {
        let mut open = vec![(top.clone(), area)];
        while let Some((path, area)) = open.pop() {
            let Some(usage) = self.all.get(&path) else { continue };
            let below = self.below.get(&path).map(Vec::as_slice).unwrap_or_default();
            let is_top = path == *top;
            let name = match path.split_last() {
                Some((_, name)) if !is_top => format!("{name}/"),
                _ => path.to_string(),
            };
            let tile = Tile { name, title: path.to_string(), usage: *usage };
            let inside = if is_top { area } else { area.inside(2.0, TITLE) };
            if below.is_empty() || inside.size() < 8.0 * TILE_MIN {
                leaf(svg, &tile, area, style);
                continue;
            }
            if !is_top {
                folder(svg, &tile, area, style);
            }
            let scale = inside.size() / number(usage.total.max(1));
            let fits = |usage: &Usage| number(usage.total) * scale >= TILE_MIN;
            let drawn: Vec<_> = below.iter().filter(|(_, usage)| fits(usage)).collect();
            let rest = Tile {
                name: "files".to_owned(),
                title: format!("{path}: files in it, and directories too small to draw"),
                usage: less(usage, drawn.iter().map(|(_, usage)| *usage)),
            };
            let mut weights: Vec<u64> = drawn.iter().map(|(_, usage)| usage.total).collect();
            let place = weights.partition_point(|weight| *weight >= rest.usage.total);
            weights.insert(place, rest.usage.total);
            let mut areas = divide(&weights, inside);
            leaf(svg, &rest, areas.remove(place), style);
            open.extend(drawn.iter().zip(areas).map(|((path, _), area)| ((*path).clone(), area)));
        }
    }
}

/// What is left of a directory without some of those in it.
fn less<'a>(usage: &Usage, parts: impl Iterator<Item = &'a Usage>) -> Usage {
    parts.fold(*usage, |rest, part| Usage {
        files: rest.files.saturating_sub(part.files),
        total: rest.total.saturating_sub(part.total),
        shown: rest.shown.saturating_sub(part.shown),
        wasted: rest.wasted.saturating_sub(part.wasted),
        shared: rest.shared.saturating_sub(part.shared),
    })
}

fn open_map(height: f64, label: &'static str) -> Markup {
    let mut svg = Markup::default();
    svg.raw("<svg class=\"map\" role=\"img\" width=\"100%\"").attribute("height", height);
    svg.attribute("aria-label", label).raw(">\n");
    svg
}

/// Begins a rectangle with its title: an SVG of its own, so that what is in it is cut at its border.
fn begin(svg: &mut Markup, tile: &Tile, area: Area, style: Style) {
    let percent = |value: f64| format!("{:.3}%", value / WIDTH * 100.0);
    svg.raw("<svg").attribute("x", percent(area.x)).attribute("y", format_args!("{:.1}", area.y));
    svg.attribute("width", percent(area.width)).attribute("height", format_args!("{:.1}", area.height)).raw(">");
    let (size, usage) = (style.size, &tile.usage);
    let files = if usage.files == 1 { "file" } else { "files" };
    let numbers = format!("{} in {} {files}, {} wasted", size(usage.total), usage.files, size(usage.wasted));
    svg.element("title", "", format_args!("{}\n{numbers}", tile.title));
}

fn leaf(svg: &mut Markup, tile: &Tile, area: Area, style: Style) {
    if area.width < 1.5 || area.height < 1.5 {
        return;
    }
    begin(svg, tile, area, style);
    svg.raw("<rect class=\"shown\" width=\"100%\" height=\"100%\"/>");
    let wasted = number(tile.usage.wasted) / number(tile.usage.total.max(1)) * 100.0;
    if wasted > 0.0 {
        svg.raw("<rect class=\"wasted\" width=\"100%\"").attribute("y", format_args!("{:.2}%", 100.0 - wasted));
        svg.attribute("height", format_args!("{wasted:.2}%")).raw("/>");
    }
    svg.raw("<rect class=\"frame\" width=\"100%\" height=\"100%\"/>");
    if area.height >= 18.0 && area.width >= 30.0 {
        words(svg, area, &tile.name, 14);
        if area.height >= 34.0 {
            words(svg, area, &(style.size)(tile.usage.total), 29);
        }
    }
    svg.raw("</svg>\n");
}

fn folder(svg: &mut Markup, tile: &Tile, area: Area, style: Style) {
    begin(svg, tile, area, style);
    svg.raw("<rect class=\"folder\" width=\"100%\" height=\"100%\"/>");
    let size = if area.width < 110.0 { String::new() } else { format!(" {}", (style.size)(tile.usage.total)) };
    words(svg, area, &format!("{}{size}", tile.name), 13);
    svg.raw("</svg>\n");
}

/// Text in a rectangle; what is narrow has none on a small screen, where it would be a letter or two.
fn words(svg: &mut Markup, area: Area, text: &str, y: usize) {
    svg.raw(if area.width < WIDTH / 6.0 { "<text class=\"narrow\" x=\"5\"" } else { "<text x=\"5\"" });
    svg.attribute("y", y).raw(">").text(text).raw("</text>");
}
