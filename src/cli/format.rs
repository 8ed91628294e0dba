//! Sizes, times and counts in docker's words.

use std::fmt::Display;

/// A size as docker prints it in lists: three digits, decimal units (`635MB`, `4.26MB`).
pub fn size(bytes: u64) -> String {
    digits(bytes, 3)
}

/// A size as docker prints it where space is counted: four digits (`635.1MB`, `4.262MB`).
pub fn fine_size(bytes: u64) -> String {
    digits(bytes, 4)
}

fn digits(bytes: u64, digits: usize) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 1000 {
        return format!("{bytes}B");
    }
    #[allow(clippy::cast_precision_loss)]
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in UNITS {
        if value < if digits == 3 { 999.5 } else { 999.95 } {
            break;
        }
        value /= 1000.0;
        unit = next;
    }
    // Rounding may add a digit before the point: 9.996 has three digits as 10.0.
    let text = (0..digits).rev().map(|places| format!("{value:.places$}")).find(|text| text.len() <= digits + 1);
    let text = text.unwrap_or_else(|| format!("{value:.0}"));
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{unit}")
}

/// A count with its noun: `1 layer`, `3 layers`.
pub fn count<N: Display + PartialEq + From<u8>>(number: N, one: &str, many: &str) -> String {
    let noun = if number == N::from(1) { one } else { many };
    format!("{number} {noun}")
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
        _ if minutes < 60 => format!("{minutes} minutes"),
        _ if hours == 1 => "About an hour".to_owned(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 14 => format!("{} days", hours / 24),
        _ if hours < 24 * 60 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

/// A time as documents have it: `2024-05-01T12:00:00Z`.
pub fn rfc3339(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| "N/A".to_owned(), |time| time.to_string())
}

/// A time as docker prints it in full: `2024-05-01 12:00:00 +0000 UTC`.
pub fn date(seconds: i64) -> String {
    match jiff::Timestamp::from_second(seconds) {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string(),
        Err(_) => "N/A".to_owned(),
    }
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
        for (bytes, text) in [
            (0, "0B"),
            (11_406_933, "11.41MB"),
            (1_000, "1kB"),
            (999_999, "1MB"),
            (635_123_456, "635.1MB"),
            (9_999_960, "10MB"),
        ] {
            assert_eq!(fine_size(bytes), text);
        }
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
}
