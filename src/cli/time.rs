//! Times and durations, as people type and read them.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};

/// Reads a moment: RFC 3339, or a duration from now such as `90d`. It is sent as RFC 3339.
pub(crate) fn moment(text: &str) -> Result<String, String> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(time.to_utc().to_rfc3339_opts(SecondsFormat::AutoSi, true));
    }
    let ahead = humantime::parse_duration(text).ok().and_then(|ahead| TimeDelta::from_std(ahead).ok());
    // To the second: a fraction would only be noise in the event.
    let time = ahead.and_then(|ahead| Utc::now().checked_add_signed(ahead));
    time.map(|time| time.to_rfc3339_opts(SecondsFormat::Secs, true))
        .ok_or_else(|| "write a time such as `2030-01-31T12:00:00Z`, or a duration from now such as `90d`".to_owned())
}

/// Reads a moment that was: RFC 3339, or how long ago, such as `40m`. It is sent as RFC 3339.
pub(crate) fn past(text: &str) -> Result<String, String> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(time.to_utc().to_rfc3339_opts(SecondsFormat::AutoSi, true));
    }
    let ago = humantime::parse_duration(text).ok().and_then(|ago| TimeDelta::from_std(ago).ok());
    let time = ago.and_then(|ago| Utc::now().checked_sub_signed(ago));
    time.map(|time| time.to_rfc3339_opts(SecondsFormat::Secs, true))
        .ok_or_else(|| "write a time such as `2030-01-31T12:00:00Z`, or how long ago it was, such as `40m`".to_owned())
}

/// Reads a duration, zero included, and passes it on as it was written: the service reads the same form.
pub(crate) fn span(text: &str) -> Result<String, String> {
    match humantime::parse_duration(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!("{error}; write a duration such as `0s`, `15m` or `24h`")),
    }
}

/// How far a time lies from now, in the one or two units that matter.
pub(crate) fn from_now(time: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let ahead = time.signed_duration_since(now);
    let text = rounded(ahead.abs().to_std().unwrap_or(Duration::MAX));
    match (text.as_str(), ahead > TimeDelta::zero()) {
        ("0s", _) => "now".to_owned(),
        (text, true) => format!("in {text}"),
        (text, false) => format!("{text} ago"),
    }
}

fn rounded(duration: Duration) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    let seconds = duration.as_secs();
    let Some(first) = UNITS.iter().position(|(unit, _)| seconds >= *unit) else { return "0s".to_owned() };
    let (unit, name) = UNITS[first];
    let whole = seconds / unit;
    // `3d 4h` tells more than `3d`; of `37d 4h` nobody needs the hours.
    match UNITS.get(first + 1) {
        Some((next, next_name)) if whole < 10 && seconds % unit / next > 0 => {
            format!("{whole}{name} {}{next_name}", seconds % unit / next)
        }
        _ => format!("{whole}{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_from_now() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).expect("a time");
        for (seconds, text) in [
            (0, "now"),
            (1, "in 1s"),
            (-59, "59s ago"),
            (90, "in 1m 30s"),
            (-3_600, "1h ago"),
            (100_000, "in 1d 3h"),
            (-3_200_000, "37d ago"),
        ] {
            assert_eq!(from_now(now + TimeDelta::seconds(seconds), now), text);
        }
    }

    #[test]
    fn moments_are_times_or_durations() {
        assert_eq!(moment("2030-01-31T13:00:00+01:00").as_deref(), Ok("2030-01-31T12:00:00Z"));
        let day = moment("1d").map(|text| DateTime::parse_from_rfc3339(&text)).expect("a moment").expect("a time");
        assert!((day.to_utc() - Utc::now() - TimeDelta::days(1)).abs() < TimeDelta::minutes(1));
        for text in ["", "tomorrow", "2030-01-31", "99999999999999y"] {
            assert!(moment(text).is_err(), "{text}");
        }
    }

    #[test]
    fn spans_may_be_zero() {
        assert_eq!(span("0s").as_deref(), Ok("0s"));
        assert!(span("soon").is_err());
    }
}
