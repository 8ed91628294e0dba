//! Lists as docker prints them: rows of named fields, as a table, JSON, or through a template. One shape for images, containers,
//! history, mounts and disk use.

use std::collections::BTreeMap;
use std::io::Write;

use serde_json::Map;
use serde_json::Value;

use super::error::CliError;
use super::table::Table;
use super::template::Style;
use super::template::Template;

/// The options that every list has.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Options {
    /// 'table', 'table TEMPLATE', 'json', or a Go template such as '{{.ID}}'
    #[arg(long, value_name = "FORMAT", default_value = "", hide_default_value = true)]
    pub format: String,
    /// Print ids and texts in full
    #[arg(long)]
    pub no_trunc: bool,
}

/// A list of one kind.
#[derive(Debug)]
pub struct Listing<'a> {
    /// Docker's name of each field, with its heading.
    pub headings: &'a [(&'static str, &'static str)],
    /// The fields in the table.
    pub columns: &'a [&'static str],
    /// The value of `--format`.
    pub format: &'a str,
    /// Only the ids.
    pub quiet: bool,
}

/// A row: docker's field names with their values.
#[derive(Debug, Clone, Default)]
pub struct Row(BTreeMap<&'static str, Value>);

impl Row {
    /// A row with these fields.
    pub fn new<const N: usize>(fields: [(&'static str, String); N]) -> Self {
        Self(fields.into_iter().map(|(name, text)| (name, Value::from(text))).collect())
    }

    /// The row as a JSON object.
    pub fn value(self) -> Value {
        let fields = self.0.into_iter().map(|(name, value)| (name.to_owned(), value));
        Value::Object(fields.collect::<Map<_, _>>())
    }
}

impl Listing<'_> {
    /// Prints the rows.
    ///
    /// # Errors
    /// A template that is wrong or does not fit; those of `out`.
    pub fn print(&self, out: &mut impl Write, rows: impl IntoIterator<Item = Row>) -> Result<(), CliError> {
        let format = self.format.trim();
        let (template, is_table) = match (format, format.strip_prefix("table")) {
            ("" | "table", _) if self.quiet => ("{{.ID}}".to_owned(), false),
            ("" | "table", _) => {
                let columns: Vec<String> = self.columns.iter().map(|column| format!("{{{{.{column}}}}}")).collect();
                (columns.join("\t"), true)
            }
            ("json", _) => ("{{json .}}".to_owned(), false),
            (_, Some(template)) => (unescaped(template.trim_start()), true),
            (template, None) => (unescaped(template), false),
        };
        let template = Template::parse(&template).map_err(CliError::new)?;
        let mut table = Table::default();
        if is_table {
            let headings = self.headings.iter().map(|(name, heading)| ((*name).to_owned(), Value::from(*heading)));
            let heading = template.render(&Value::Object(headings.collect()), Style::Heading);
            table.lines(&heading.map_err(CliError::new)?);
        }
        for row in rows {
            let line = template.render(&row.value(), Style::Row).map_err(CliError::new)?;
            if is_table { table.lines(&line) } else { writeln!(out, "{line}")? }
        }
        Ok(table.print(out)?)
    }
}

/// Shells make it hard to type a tab: `\t` and `\n` stand for themselves.
pub fn unescaped(template: &str) -> String {
    template.replace("\\t", "\t").replace("\\n", "\n")
}

/// Texts of an image or container, for a table: on one line, without control characters.
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A text in at most `width` characters, the last a `…` when something is left out.
pub fn shortened(text: &str, width: usize, full: bool) -> String {
    if full || text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTING: Listing<'_> = Listing {
        headings: &[("ID", "IMAGE ID"), ("Repository", "REPOSITORY"), ("Tag", "TAG")],
        columns: &["Repository", "ID"],
        format: "",
        quiet: false,
    };

    fn printed(listing: &Listing<'_>) -> String {
        let rows = [("debian", "12"), ("<none>", "<none>")];
        let rows =
            rows.map(|(name, tag)| Row::new([("Repository", name.into()), ("Tag", tag.into()), ("ID", "ab".into())]));
        let mut out = Vec::new();
        match listing.print(&mut out, rows) {
            Ok(()) => String::from_utf8(out).unwrap(),
            Err(e) => format!("{e:?}"),
        }
    }

    #[test]
    fn lists_are_printed_as_docker_prints_them() {
        for (format, quiet, expected) in [
            ("", false, "REPOSITORY   IMAGE ID\ndebian       ab\n<none>       ab\n"),
            ("table", false, "REPOSITORY   IMAGE ID\ndebian       ab\n<none>       ab\n"),
            ("", true, "ab\nab\n"),
            ("table", true, "ab\nab\n"),
            ("{{.Tag}}", true, "12\n<none>\n"),
            ("{{.Repository}}:{{.Tag}}\\t!", false, "debian:12\t!\n<none>:<none>\t!\n"),
            (
                "table {{.Repository}}:{{.Tag}}\\t{{lower .ID}}",
                false,
                "REPOSITORY:TAG   IMAGE ID\ndebian:12        ab\n<none>:<none>    ab\n",
            ),
            (
                "json",
                false,
                "{\"ID\":\"ab\",\"Repository\":\"debian\",\"Tag\":\"12\"}\n{\"ID\":\"ab\",\"Repository\":\"\\u003cnone\\u003e\",\"Tag\":\"\\u003cnone\\u003e\"}\n",
            ),
        ] {
            assert_eq!(printed(&Listing { format, quiet, ..LISTING }), expected, "{format:?} {quiet}");
        }
        let wrong = printed(&Listing { format: "{{.Nope}}", ..LISTING });
        assert!(wrong.contains("can't evaluate field Nope; known are .ID .Repository .Tag"), "{wrong}");
    }

    #[test]
    fn texts_are_cleaned_and_cut() {
        assert_eq!(clean("a\x1b[31m\nb"), "a [31m b");
        assert_eq!((shortened("abcd", 3, false), shortened("abc", 3, false)), ("ab…".into(), "abc".into()));
        assert_eq!(shortened("abcd", 3, true), "abcd");
    }
}
