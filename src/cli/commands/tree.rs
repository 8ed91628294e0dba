//! `mica image tree`

use std::io::IsTerminal;
use std::io::Write;

use crate::cli::Context;
use crate::cli::error::CliError;
use crate::cli::format;
use crate::engine::tree::Branch;
use crate::engine::tree::tree;
use crate::image::Digest;

/// Arguments of `mica image tree`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only chains of layers that this image has a part in
    #[arg(value_name = "IMAGE")]
    image: Option<String>,
    /// Print digests in full
    #[arg(long)]
    no_trunc: bool,
}

/// How lines are drawn: beside what follows, at a branch, at the last branch.
struct Pens {
    beside: &'static str,
    branch: &'static str,
    last: &'static str,
}

const LINES: Pens = Pens { beside: "│  ", branch: "├─ ", last: "└─ " };
const ASCII: Pens = Pens { beside: "|  ", branch: "|- ", last: "`- " };

pub fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let store = context.store()?;
    let mut root = tree(&store)?;
    if let Some(word) = &args.image {
        let id = store.images()?.find(word)?.id;
        root.next.retain(|_, (_, branch)| holds(branch, &id));
    }
    let pens = if std::io::stdout().is_terminal() { LINES } else { ASCII };
    for line in draw(&root, args.no_trunc, &pens) {
        writeln!(context.out, "{line}")?;
    }
    Ok(())
}

fn holds(branch: &Branch, id: &Digest) -> bool {
    let mut open = vec![branch];
    while let Some(branch) = open.pop() {
        if branch.images.iter().any(|(image, _)| image == id) {
            return true;
        }
        open.extend(branch.next.values().map(|(_, next)| next));
    }
    false
}

/// A layer still to be drawn: what stands before it on its line, and before what is below it.
type Open<'a> = (&'a Digest, u64, &'a Branch, String, String);

/// Draws without recursion: an image may have very many layers. A layer with one successor is followed straight down; only where
/// chains part, it goes to the right.
fn draw(root: &Branch, full: bool, pens: &Pens) -> Vec<String> {
    let mut lines = Vec::new();
    let mut open = successors(root, "", pens);
    while let Some((layer, size, branch, before, below)) = open.pop() {
        let id = |id: &Digest| if full { id.to_string() } else { id.short() };
        let image = |(image, names): &(Digest, Vec<String>)| match names.as_slice() {
            [] => format!("<none> ({})", id(image)),
            names => format!("{} ({})", names.join(", "), id(image)),
        };
        let images: Vec<String> = branch.images.iter().map(image).collect();
        let line = format!("{before}{} {:>7}  {}", id(layer), format::size(size), images.join(", "));
        lines.push(line.trim_end().to_owned());
        open.extend(successors(branch, &below, pens));
    }
    lines
}

/// What stands on a layer, the last first.
fn successors<'a>(branch: &'a Branch, indent: &str, pens: &Pens) -> Vec<Open<'a>> {
    let count = branch.next.len();
    let place = |at: usize| match (count, at + 1 == count) {
        (1, _) => (indent.to_owned(), indent.to_owned()),
        (_, true) => (format!("{indent}{}", pens.last), format!("{indent}   ")),
        (_, false) => (format!("{indent}{}", pens.branch), format!("{indent}{}", pens.beside)),
    };
    let one = |(at, (layer, (size, next))): (usize, (&'a Digest, &'a (u64, Branch)))| {
        let (before, below) = place(at);
        (layer, *size, next, before, below)
    };
    let mut open: Vec<Open<'a>> = branch.next.iter().enumerate().map(one).collect();
    open.reverse();
    open
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_part_where_images_differ() {
        let digest = |n: u8| Digest::of(&[n]);
        let leaf =
            |n: u8, name: &str| Branch { images: vec![(digest(n), vec![name.to_owned()])], next: Default::default() };
        let mut base = leaf(10, "base:1");
        base.next.insert(digest(2), (20, leaf(20, "a:1")));
        base.next.insert(digest(3), (3000, leaf(30, "b:1")));
        let middle = Branch { images: Vec::new(), next: [(digest(1), (1_980_000, base))].into() };
        let root = Branch { images: Vec::new(), next: [(digest(0), (5, middle))].into() };
        let mut ends = [(digest(2), "20B", 20, "a:1"), (digest(3), "3kB", 30, "b:1")];
        ends.sort();
        let end = |at: usize, pen: &str| {
            let (layer, size, image, name) = ends[at];
            format!("{pen}{} {size:>7}  {name} ({})", layer.short(), digest(image).short())
        };
        let expected = [
            format!("{}      5B", digest(0).short()),
            format!("{}  1.98MB  base:1 ({})", digest(1).short(), digest(10).short()),
            end(0, "|- "),
            end(1, "`- "),
        ];
        assert_eq!(draw(&root, false, &ASCII), expected);
    }

    #[test]
    fn a_very_long_chain_is_drawn() {
        let mut root = Branch::default();
        for n in 0..3000u32 {
            root = Branch { images: Vec::new(), next: [(Digest::of(&n.to_le_bytes()), (1, root))].into() };
        }
        assert_eq!(draw(&root, false, &ASCII).len(), 3000);
    }
}
