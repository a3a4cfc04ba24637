//! Moments, as the session page tells them.

use std::fmt;
use std::time::{Duration, SystemTime};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;

/// A moment, seen from now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct When {
    moment: SystemTime,
    now: SystemTime,
}

impl When {
    pub(crate) fn new(moment: SystemTime) -> Self {
        Self {
            moment,
            now: SystemTime::now(),
        }
    }

    /// For `<time datetime="…">`.
    pub(crate) fn machine(&self) -> String {
        let moment = OffsetDateTime::from(self.moment);
        moment.format(&Rfc3339).unwrap_or_default()
    }

    /// As a calendar has it.
    pub(crate) fn exact(&self) -> String {
        let shape = format_description!(
            "[day padding:none] [month repr:long] [year], [hour]:[minute]:[second] UTC"
        );
        let moment = OffsetDateTime::from(self.moment);
        moment.format(shape).unwrap_or_default()
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.moment.duration_since(self.now) {
            Ok(ahead) if ahead < Duration::from_secs(1) => f.write_str("now"),
            Ok(ahead) => write!(f, "in {}", words(ahead)),
            Err(past) if past.duration() < Duration::from_secs(1) => f.write_str("just now"),
            Err(past) => write!(f, "{} ago", words(past.duration())),
        }
    }
}

/// The two largest units, rounded to the smaller.
fn words(duration: Duration) -> String {
    const UNITS: [(&str, u64); 4] = [
        ("day", 86_400),
        ("hour", 3_600),
        ("minute", 60),
        ("second", 1),
    ];

    let seconds = (duration + Duration::from_millis(500)).as_secs();
    let at = UNITS
        .iter()
        .position(|(_, unit)| seconds >= *unit)
        .unwrap_or(UNITS.len() - 1);
    let step = UNITS.get(at + 1).map_or(1, |(_, unit)| *unit);
    let mut left = (seconds + step / 2) / step * step;
    let mut words = Vec::new();
    for (name, unit) in UNITS {
        let count = left / unit;
        left %= unit;
        match count {
            0 => {}
            1 => words.push(format!("1 {name}")),
            _ => words.push(format!("{count} {name}s")),
        }
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_two_units() {
        let told = |seconds| words(Duration::from_secs(seconds));
        assert_eq!(told(59), "59 seconds");
        assert_eq!(told(60), "1 minute");
        assert_eq!(told(899), "14 minutes 59 seconds");
        assert_eq!(told(3_600), "1 hour");
        assert_eq!(told(14 * 86_400 - 1), "14 days");
        assert_eq!(told(86_400 + 3 * 3_600 + 59), "1 day 3 hours");
    }

    #[test]
    fn past_and_future_differ() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let told = |moment| When { moment, now }.to_string();
        assert_eq!(
            told(now + Duration::from_secs(90)),
            "in 1 minute 30 seconds"
        );
        assert_eq!(
            told(now - Duration::from_secs(90)),
            "1 minute 30 seconds ago"
        );
        let moment = When { moment: now, now };
        assert_eq!(moment.exact(), "12 January 1970, 13:46:40 UTC");
        assert_eq!(moment.machine(), "1970-01-12T13:46:40Z");
    }
}
