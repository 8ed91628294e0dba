//! The page of `mica explain`: why a path looks as it does.

use super::Markup;
use super::cut;
use super::layer_cells;
use super::made_by;
use super::page;
use super::scrolling;
use super::stack;
use super::table_head;
use crate::explain::rows::words;
use crate::explain::subject::LayerInfo;
use crate::explain::text;
use crate::explain::text::Colour;
use crate::explain::text::Style;
use crate::explain::trace::Component;
use crate::explain::trace::Explanation;
use crate::explain::trace::Outcome;
use crate::explain::versions::Versions;
use crate::path::Escaped;

/// How many names of the walk a page shows, the last ones; a path can lead through many thousands.
const STEPS_MAX: usize = 400;
/// How much of the path stands above the page, in characters.
const PATH_MAX: usize = 4096;

/// The page. With `verbose` each layer has a row of its own, and commands are shown in full.
pub fn document(versions: &Versions, verbose: bool) -> String {
    let explanation = &versions.explanation;
    let style = Style { unicode: true, colour: false, verbose };
    let asked = Escaped(&explanation.path).to_string();
    let asked = if asked.starts_with('/') { asked } else { format!("/{asked}") };
    let asked = cut(&asked, PATH_MAX);
    let target = Escaped(explanation.target.as_bytes()).to_string();
    let mut body = head(explanation, &asked, &target);
    body.raw("<section id=\"stack\">\n<h2>The stack</h2>\n").add(stack::picture(explanation)).raw("</section>\n");
    body.add(versions_table(versions));
    body.add(walk(explanation, style));
    body.add(layers_table(&explanation.layers));
    page(format_args!("{asked} in {target} - mica explain"), body)
}

fn head(explanation: &Explanation, asked: &str, target: &str) -> Markup {
    let mut out = Markup::default();
    out.raw("<header>\n<p class=\"kicker\">mica explain · ").text(target).raw("</p>\n");
    out.element("h1", "path", asked).raw("\n");
    let class = match &explanation.outcome {
        Outcome::Found => "yes",
        Outcome::Hidden { .. } | Outcome::Unresolvable(_) => "no",
        Outcome::Never => "never",
    };
    out.raw("<p class=\"verdict ").raw(class).raw("\">");
    out.element("b", "", text::headline_rest(explanation)).raw("</p>\n");
    out.add(served(explanation)).raw("</header>\n");
    out
}

/// What serves the path.
fn served(explanation: &Explanation) -> Markup {
    let facts = text::served_facts(explanation);
    let mut out = Markup::default();
    if facts.is_empty() {
        return out;
    }
    out.raw("<dl class=\"facts\">\n");
    for (name, value) in facts {
        out.element("dt", "", name).element("dd", "", value).raw("\n");
    }
    out.raw("</dl>\n");
    out
}

fn versions_table(versions: &Versions) -> Markup {
    let layers = versions.explanation.layers.as_slice();
    let mut out = Markup::default();
    out.raw("<section id=\"versions\">\n<h2>Its versions, layer by layer</h2>\n");
    if versions.rows.is_empty() {
        out.raw("<p class=\"note\">No layer has anything under this name.</p>\n</section>\n");
        return out;
    }
    let mut table = table_head(&["Layer", "Digest", "State", "Mode", "Owner", "#Size", "Content", "Made by", "Note"]);
    for row in &versions.rows {
        let Some(info) = layers.get(row.layer()) else { continue };
        let words = words(row, layers);
        table.raw(match words.state {
            "served" => "<tr class=\"served\">",
            "merged" => "<tr class=\"found\">",
            "deletes" | "whiteout" | "opaque" | "covered" => "<tr class=\"cuts\">",
            _ => "<tr class=\"hidden\">",
        });
        layer_cells(&mut table, info);
        table.raw("<td>").element("span", "tag", words.state).raw("</td>").element("td", "m", words.mode);
        table.element("td", "m", words.owner).element("td", "n", words.size).raw("<td class=\"m\"");
        if let Some(content) = words.content {
            table.attribute("title", content).raw(">").text(content.short());
        } else {
            table.raw(">");
        }
        table.raw("</td>").element("td", "m wide", made_by(info)).element("td", "wide", words.note).raw("</tr>\n");
    }
    table.raw("</tbody>\n</table>\n");
    out.add(scrolling("Versions", table)).raw("</section>\n");
    out
}

fn walk(explanation: &Explanation, style: Style) -> Markup {
    let skipped = explanation.components.len().saturating_sub(STEPS_MAX);
    let mut out = Markup::default();
    out.raw("<section id=\"walk\">\n<h2>The walk, name by name</h2>\n");
    out.raw("<p class=\"note\">As the mount does it: each name is looked up in the layers, top first, until one decides.</p>\n");
    if skipped > 0 {
        out.raw("<p class=\"note\">The first ")
            .text(skipped)
            .raw(" names are left out; mica explain --json has all.</p>\n");
    }
    out.raw("<ol class=\"walk\"").attribute("start", skipped + 1).raw(">\n");
    for component in explanation.components.get(skipped..).unwrap_or_default() {
        out.add(walked(component, &explanation.layers, style));
    }
    out.raw("</ol>\n</section>\n");
    out
}

fn walked(component: &Component, layers: &[LayerInfo], style: Style) -> Markup {
    let mut out = Markup::default();
    out.raw("<li>").element("h3", "path", &component.path);
    if let Some(link) = &component.link {
        out.raw("<p class=\"link\">a symlink to ").element("code", "", Escaped(&link.text));
        out.raw(if link.followed { ", followed" } else { ", not followed" }).raw("</p>");
    }
    let mut table = table_head(&["Layer", "Digest", "Verdict", "Object", "Note"]);
    for row in text::rows(component, layers, style) {
        table.raw(match row.colour {
            Colour::Green => "<tr class=\"served\">",
            Colour::Red => "<tr class=\"cuts\">",
            Colour::Yellow => "<tr class=\"hidden\">",
            Colour::Dim => "<tr class=\"miss\">",
            Colour::Plain | Colour::Bold => "<tr class=\"found\">",
        });
        table.raw("<th scope=\"row\">").text(row.layer).raw("</th>").element("td", "m", row.digest);
        table.raw("<td>").element("span", "tag", row.verdict).raw("</td>");
        table.element("td", "m", row.object).element("td", "wide", row.note).raw("</tr>\n");
    }
    table.raw("</tbody>\n</table>\n");
    out.add(scrolling("What the layers say", table)).raw("</li>\n");
    out
}

fn layers_table(layers: &[LayerInfo]) -> Markup {
    let mut out = Markup::default();
    out.raw("<section id=\"layers\">\n<h2>The layers</h2>\n");
    let mut table = table_head(&["Layer", "Digest", "Made by", "Author", "Message"]);
    for info in layers {
        table.raw("<tr>");
        layer_cells(&mut table, info);
        let word = |word: &Option<String>| word.as_deref().map(text::one_line).unwrap_or_default();
        table.element("td", "m wide", made_by(info)).element("td", "", word(&info.made.author));
        table.element("td", "wide", word(&info.made.comment)).raw("</tr>\n");
    }
    table.raw("</tbody>\n</table>\n");
    out.add(scrolling("Layers", table)).raw("</section>\n");
    out
}
