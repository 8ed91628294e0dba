//! Tables as docker prints them: cells end in tabs; columns are as wide as their widest cell and three spaces, ten at least; the last
//! cell of a line is not filled up.

use std::io::Write;

/// The least width of a column with its space, as docker sets its tab writer.
const WIDTH_MIN: usize = 10;
/// Spaces between columns.
const GAP: usize = 3;

/// A table.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings.
    pub fn new(headings: &[&str]) -> Self {
        Self { rows: vec![headings.iter().map(|&heading| heading.to_owned()).collect()] }
    }

    /// Adds a line; texts in cells must be without control characters.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// Adds lines of text, their cells divided by tabs.
    pub fn lines(&mut self, text: &str) {
        self.rows.extend(text.lines().map(|line| line.split('\t').map(str::to_owned).collect()));
    }

    /// Prints the table.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn print(&self, out: &mut (impl Write + ?Sized)) -> std::io::Result<()> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| self.rows.iter().filter_map(|row| row.get(column)).map(|c| c.chars().count()).max();
        let widths: Vec<usize> = (0..columns).map(|column| (width(column).unwrap_or(0) + GAP).max(WIDTH_MIN)).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (at, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let last = at + 1 == row.len();
                line.push_str(&if last { cell.clone() } else { format!("{cell:<width$}") });
            }
            writeln!(out, "{line}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_dockers() {
        let mut table = Table::default();
        table.lines("A\tLONG HEADING\tLAST\nwide enough\tx\t\n");
        table.lines("a\tb\tc\n");
        let mut out = Vec::new();
        table.print(&mut out).unwrap();
        let expected =
            "A             LONG HEADING   LAST\nwide enough   x              \na             b              c\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        let mut narrow = Vec::new();
        let mut table = Table::default();
        table.lines("TAG\tID");
        table.print(&mut narrow).unwrap();
        assert_eq!(String::from_utf8(narrow).unwrap(), "TAG       ID\n");
    }
}
