//! `--filter KEY=VALUE`, as docker reads it.

use super::error::CliError;

/// The filters of a command line.
pub type Filters = [(String, String)];

/// Reads one `--filter`; for clap, which repeats it.
///
/// # Errors
/// In docker's words, when there is no `=`.
pub fn parse(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) => Ok((key.trim().to_lowercase(), value.trim().to_owned())),
        None => Err("bad format of filter (expected name=value)".to_owned()),
    }
}

/// A filter that the command does not know.
pub fn unknown(key: &str) -> CliError {
    CliError::new(format!("Invalid filter '{key}'"))
}

/// A filter whose value means nothing.
pub fn invalid(key: &str, value: &str) -> CliError {
    CliError::new(format!("Invalid filter '{key}={value}'"))
}

/// Docker's yes and no.
///
/// # Errors
/// [`invalid`].
pub fn yes(key: &str, value: &str) -> Result<bool, CliError> {
    match value.to_lowercase().as_str() {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        // The brackets are docker's.
        _ => Err(invalid(key, &format!("[{value}]"))),
    }
}

/// A point in time: how long before `now` (`24h`, `1h30m`), seconds since 1970, or a date with or without a time, in UTC when it does
/// not say where. Both in seconds since 1970.
///
/// # Errors
/// [`invalid`].
pub fn time(key: &str, value: &str, now: i64) -> Result<i64, CliError> {
    let found = value.parse::<i64>().ok();
    let found = found.or_else(|| duration(value).map(|seconds| now.saturating_sub(seconds)));
    let found = found.or_else(|| value.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second));
    let civil = || value.parse::<jiff::civil::DateTime>().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok();
    found.or_else(|| civil().map(|time| time.timestamp().as_second())).ok_or_else(|| {
        CliError::new(format!("failed to parse {key:?}: {value:?} is no time"))
            .hint("write 24h, or 2024-05-01T12:00:00")
    })
}

/// Go's form of durations, in seconds: `1h30m`, `1.5h`, `90s`, `500ms`.
fn duration(text: &str) -> Option<i64> {
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, behind) = rest.split_at_checked(digits)?;
        let unit = behind.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(behind.len());
        let (unit, behind) = behind.split_at_checked(unit)?;
        let unit = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        seconds += number.parse::<f64>().ok()? * unit;
        rest = behind;
    }
    #[allow(clippy::cast_possible_truncation)]
    (!text.is_empty()).then_some(seconds as i64)
}

/// The label that a condition means: its name, and its value if that matters, too.
pub fn label(value: &str) -> (String, Option<String>) {
    match value.split_once('=') {
        Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
        None => (value.to_owned(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_pairs() {
        assert_eq!(parse("label=a=b"), Ok(("label".into(), "a=b".into())));
        assert!(parse("nokey").is_err());
    }

    #[test]
    fn times_are_read_as_docker_reads_them() {
        for (text, then) in [
            ("24h", 100_000 - 86_400),
            ("1h30m", 100_000 - 5400),
            ("1.5h", 100_000 - 5400),
            ("90s", 100_000 - 90),
            ("1700000000", 1_700_000_000),
            ("2024-05-06", 1_714_953_600),
            ("2024-05-06T07:08:09", 1_714_979_289),
            ("2024-05-06T07:08:09Z", 1_714_979_289),
            ("2024-05-06T09:08:09+02:00", 1_714_979_289),
        ] {
            assert_eq!(time("until", text, 100_000).unwrap(), then, "{text}");
        }
        for bad in ["", "h", "1x", "1h-3m", "tomorrow", "9e999h5"] {
            assert!(time("until", bad, 0).is_err(), "{bad}");
        }
    }
}
