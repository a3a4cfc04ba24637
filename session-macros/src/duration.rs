//! Durations as people write them: `90s`, `15m`, `2h 30m`, `7 days`.

use crate::error::did_you_mean;

const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Units by their names, in milliseconds. Months and years are missing because their lengths differ.
const UNITS: &[(&str, u64)] = &[
    ("ms", 1),
    ("millis", 1),
    ("millisecond", 1),
    ("milliseconds", 1),
    ("s", SECOND),
    ("sec", SECOND),
    ("secs", SECOND),
    ("second", SECOND),
    ("seconds", SECOND),
    ("m", MINUTE),
    ("min", MINUTE),
    ("mins", MINUTE),
    ("minute", MINUTE),
    ("minutes", MINUTE),
    ("h", HOUR),
    ("hr", HOUR),
    ("hrs", HOUR),
    ("hour", HOUR),
    ("hours", HOUR),
    ("d", DAY),
    ("day", DAY),
    ("days", DAY),
    ("w", 7 * DAY),
    ("week", 7 * DAY),
    ("weeks", 7 * DAY),
];

/// A hundred years, so that no sum with a time of day can overflow.
const LONGEST: u64 = 36_500 * DAY;

/// The milliseconds that `text` stands for. The error says what is wrong with it.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let mut rest = text.trim();
    let mut total = 0_u64;
    while !rest.is_empty() {
        let (millis, after) = part(rest)?;
        total = total.saturating_add(millis);
        rest = after.trim_start();
    }
    match total {
        0 => Err("a duration must be longer than zero: write for example \"15m\"".to_owned()),
        1..=LONGEST => Ok(total),
        _ => Err("a duration can be a hundred years (\"36500 days\") at most".to_owned()),
    }
}

/// The first number with its unit, and what follows them.
fn part(text: &str) -> Result<(u64, &str), String> {
    let (number, rest) = split(text, |c| c.is_ascii_digit());
    if number.is_empty() {
        return Err(format!(
            "expected a number with a unit, like \"2h 30m\", at `{text}`"
        ));
    }
    if rest.starts_with(['.', ',']) {
        return Err("a duration has no fractions: instead of \"1.5h\" write \"1h 30m\"".to_owned());
    }
    let (unit, rest) = split(rest.trim_start(), char::is_alphabetic);
    let millis = unit_in_millis(number, unit)?;
    let number = number.parse().unwrap_or(u64::MAX); // all digits: it can only be too large
    Ok((millis.saturating_mul(number), rest))
}

fn split(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !belongs(c)).unwrap_or(text.len()))
}

fn unit_in_millis(number: &str, unit: &str) -> Result<u64, String> {
    if unit.is_empty() {
        return Err(format!(
            "`{number}` has no unit: write \"{number}s\", \"{number}m\", \"{number}h\" or \"{number}d\""
        ));
    }
    let known = UNITS.iter().find(|(name, _)| *name == unit);
    known
        .map(|(_, millis)| *millis)
        .ok_or_else(|| unknown_unit(unit))
}

fn unknown_unit(unit: &str) -> String {
    let names: Vec<_> = UNITS.iter().map(|(name, _)| *name).collect();
    let guess = did_you_mean(unit, &names);
    format!(
        "`{unit}` is not a unit of time{guess}\nunits: `ms`, `s`, `m`, `h`, `d`, `w`, or in full: `seconds`, `minutes`, `hours`, …"
    )
}

#[cfg(test)]
mod tests {
    use super::{DAY, HOUR, LONGEST, MINUTE, SECOND, UNITS, parse};

    #[test]
    fn numbers_with_units_add_up() {
        for (text, millis) in [
            ("90s", 90 * SECOND),
            ("15m", 15 * MINUTE),
            ("2h 30m", 2 * HOUR + 30 * MINUTE),
            ("2h30m", 2 * HOUR + 30 * MINUTE),
            ("7 days", 7 * DAY),
            ("500ms", 500),
            ("1 week 1 day", 8 * DAY),
            ("  1 hour  ", HOUR),
            ("0h 1s", SECOND),
            ("36500d", LONGEST),
        ] {
            assert_eq!(parse(text), Ok(millis), "{text}");
        }
    }

    #[test]
    fn every_unit_reads_with_and_without_a_space() {
        for (unit, millis) in UNITS {
            assert_eq!(parse(&format!("3{unit}")), Ok(3 * millis));
            assert_eq!(parse(&format!("3 {unit}")), Ok(3 * millis));
        }
    }

    #[track_caller]
    fn refused(text: &str, because: &str) {
        let error = parse(text).expect_err(text);
        assert!(error.contains(because), "{text}: {error}");
    }

    #[test]
    fn nothing_is_no_duration() {
        for text in ["", "  ", "0s", "0h 0m"] {
            refused(text, "longer than zero");
        }
    }

    #[test]
    fn a_number_needs_a_unit() {
        refused("90", "`90` has no unit");
        refused("1h 30", "`30` has no unit");
    }

    #[test]
    fn a_unit_needs_a_number() {
        refused("h", "at `h`");
        refused("1h and 5m", "at `and 5m`");
        refused("-5m", "at `-5m`");
        refused("٣h", "expected a number");
    }

    #[test]
    fn an_unknown_unit_names_the_nearest() {
        refused("2 huors", "did you mean `hours`?");
        refused("1 year", "`year` is not a unit of time\n");
        refused("2H", "`H` is not a unit of time");
    }

    #[test]
    fn fractions_are_written_in_the_smaller_unit() {
        refused("1.5h", "write \"1h 30m\"");
        refused("1,5h", "write \"1h 30m\"");
    }

    #[test]
    fn what_would_overflow_is_refused() {
        for text in [
            "36501d",
            "18446744073709551615w",
            "99999999999999999999999s",
            "36500d 1ms",
        ] {
            refused(text, "a hundred years");
        }
    }

    /// The corpus of `fuzz/targets/duration.rs`.
    #[test]
    fn each_text_of_the_corpus_is_a_duration_or_refused() {
        let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/duration");
        let mut read = 0;
        for entry in std::fs::read_dir(corpus).expect("a corpus") {
            let bytes = std::fs::read(entry.expect("an entry").path()).expect("bytes");
            let Ok(text) = std::str::from_utf8(&bytes) else {
                continue;
            };
            if let Ok(millis) = parse(text) {
                assert!((1..=LONGEST).contains(&millis), "{text}");
            }
            read += 1;
        }
        assert!(read > 3, "{read}");
    }
}
