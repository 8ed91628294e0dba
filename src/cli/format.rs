//! Sizes, times and templates in docker's words.

use std::collections::BTreeMap;

/// A size as docker prints it: three digits, decimal units (`635MB`, `4.26MB`).
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 1000 {
        return format!("{bytes}B");
    }
    #[allow(clippy::cast_precision_loss)]
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in UNITS {
        if value < 999.5 {
            break;
        }
        value /= 1000.0;
        unit = next;
    }
    let text = match value {
        v if v < 9.995 => format!("{v:.2}"),
        v if v < 99.95 => format!("{v:.1}"),
        v => format!("{v:.0}"),
    };
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{unit}")
}

/// How long ago a time is, as docker prints it; both in seconds since 1970.
pub fn ago(then: i64, now: i64) -> String {
    format!("{} ago", duration(now.saturating_sub(then)))
}

fn duration(seconds: i64) -> String {
    let minutes = seconds / 60;
    // Hours are rounded, as docker does.
    let hours = (seconds + 1800) / 3600;
    match seconds {
        ..1 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => format!("{seconds} seconds"),
        60..120 => "About a minute".to_owned(),
        _ if minutes < 60 && hours <= 1 && minutes < 46 => format!("{minutes} minutes"),
        _ if minutes < 60 => format!("{minutes} minutes"),
        _ if hours == 1 => "About an hour".to_owned(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 14 => format!("{} days", hours / 24),
        _ if hours < 24 * 60 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

/// A time as docker prints it in full: `2024-05-01 12:00:00 +0000 UTC`.
pub fn date(seconds: i64) -> String {
    match jiff::Timestamp::from_second(seconds) {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string(),
        Err(_) => "N/A".to_owned(),
    }
}

/// One row for `--format`: docker's field names with their values.
pub type Fields = BTreeMap<&'static str, String>;

/// How `--format` wants rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Format {
    /// One JSON object for each row.
    Json,
    /// The table.
    Table,
    /// The template, filled in for each row.
    Template(String),
}

impl Format {
    /// Reads the value of `--format`.
    pub fn parse(text: Option<&str>) -> Self {
        match text {
            None | Some("table") => Format::Table,
            Some("json" | "{{json .}}") => Format::Json,
            Some(template) => Format::Template(template.replace("\\t", "\t").replace("\\n", "\n")),
        }
    }
}

/// Fills in a template like `{{.Repository}}:{{.Tag}}`.
///
/// # Errors
/// The placeholder that is not understood.
pub fn fill(template: &str, fields: &Fields) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((inside, behind)) = after.split_once("}}") else { return Err("unclosed action".to_owned()) };
        let inside = inside.trim();
        let value = inside.strip_prefix('.').and_then(|name| fields.get(name));
        out.push_str(before);
        out.push_str(value.ok_or_else(|| {
            let known: Vec<String> = fields.keys().map(|name| format!("{{{{.{name}}}}}")).collect();
            format!("{{{{{inside}}}}} is not known; known are {}", known.join(" "))
        })?);
        rest = behind;
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        for (bytes, text) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (1234, "1.23kB"),
            (4_260_000, "4.26MB"),
            (77_900_000, "77.9MB"),
            (635_100_000, "635MB"),
            (999_999, "1MB"),
            (1_500_000_000, "1.5GB"),
            (100_000, "100kB"),
        ] {
            assert_eq!(size(bytes), text);
        }
        assert!(size(u64::MAX).ends_with("EB"));
    }

    #[test]
    fn durations_are_dockers() {
        for (seconds, text) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (300, "5 minutes"),
            (3599, "59 minutes"),
            (3600, "About an hour"),
            (7200, "2 hours"),
            (47 * 3600, "47 hours"),
            (48 * 3600, "2 days"),
            (14 * 86400, "2 weeks"),
            (60 * 86400, "2 months"),
            (730 * 86400, "2 years"),
        ] {
            assert_eq!(duration(seconds), text);
        }
        assert_eq!(ago(100, 50), "Less than a second ago");
    }

    #[test]
    fn templates_are_filled_in() {
        let fields = Fields::from([("Repository", "debian".to_owned()), ("Tag", "12".to_owned())]);
        assert_eq!(fill("{{.Repository}}:{{ .Tag }}!", &fields).unwrap(), "debian:12!");
        assert!(fill("{{.Nope}}", &fields).is_err());
        assert!(fill("{{.Tag", &fields).is_err());
    }
}
