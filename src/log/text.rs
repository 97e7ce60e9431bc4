//! Single values as they are written in an entry: texts, times, counters.
//!
//! Each value has exactly one spelling, and each reader here refuses every other one. [`super::entry`] builds on that:
//! an entry that can be read is the very one that would be written again.

use std::borrow::Cow;
use std::fmt::Display;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use chrono::{DateTime, Datelike, NaiveDate, SecondsFormat};
use serde::{Deserialize, Serialize};

use super::entry::EntryError;
use crate::domain::time::Timestamp;

/// 2^53-1: past it a reader that keeps numbers as doubles, which RFC 8785 allows, would see another one.
pub const NUMBER_MAX: u64 = (1 << 53) - 1;

/// A JSON string: borrowed from the entry unless it holds escapes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> Text<'a> {
    pub(super) fn borrowed(text: &'a str) -> Self {
        Text(Cow::Borrowed(text))
    }

    pub(super) fn of(value: &impl Display) -> Text<'static> {
        Text(Cow::Owned(value.to_string()))
    }

    pub(super) fn time(at: Timestamp, field: &'static str) -> Result<Text<'static>, EntryError> {
        let moment = DateTime::from_timestamp_micros(at.0).filter(|moment| (0..=9999).contains(&moment.year()));
        let moment = moment.ok_or(EntryError::Unwritable { field })?;
        Ok(Text(Cow::Owned(moment.to_rfc3339_opts(SecondsFormat::Micros, true))))
    }

    pub(super) fn time_if(at: Option<Timestamp>, field: &'static str) -> Result<Option<Text<'static>>, EntryError> {
        at.map(|at| Text::time(at, field)).transpose()
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn to_shared(&self) -> Arc<str> {
        self.as_str().into()
    }

    /// Reads a value of a type that accepts one spelling only: the ids, digests, roles.
    pub(super) fn parse<T: FromStr>(&self, field: &'static str) -> Result<T, EntryError> {
        self.as_str().parse().map_err(|_| EntryError::Malformed { field })
    }

    /// Reads an address, in the one spelling that we write. One of IPv4 has no other that can be read.
    pub(super) fn parse_address(&self, field: &'static str) -> Result<IpAddr, EntryError> {
        let plain = self.as_str().parse().map(IpAddr::V4);
        plain.or_else(|_| self.parse_exact(field).map(IpAddr::V6))
    }

    /// Reads a value of a type that accepts several spellings, networks above all: only the one that we write is good.
    pub(super) fn parse_exact<T: FromStr + Display>(&self, field: &'static str) -> Result<T, EntryError> {
        let value: T = self.parse(field)?;
        if value.to_string() == self.as_str() { Ok(value) } else { Err(EntryError::Malformed { field }) }
    }

    /// Reads `2026-11-22T03:10:41.123456Z`, in exactly this form.
    pub(super) fn parse_time(&self, field: &'static str) -> Result<Timestamp, EntryError> {
        timestamp(self.as_str().as_bytes()).ok_or(EntryError::Malformed { field })
    }
}

/// Reads an optional value with the reader of a single one.
pub(super) fn optional<'a, T>(
    text: Option<&Text<'a>>,
    read: impl FnOnce(&Text<'a>) -> Result<T, EntryError>,
) -> Result<Option<T>, EntryError> {
    text.map(read).transpose()
}

/// Passes a counter that every JSON reader sees alike.
pub(super) fn written_count(count: u64, field: &'static str) -> Result<u64, EntryError> {
    if count <= NUMBER_MAX { Ok(count) } else { Err(EntryError::Unwritable { field }) }
}

pub(super) fn read_count(count: u64, field: &'static str) -> Result<u64, EntryError> {
    if count <= NUMBER_MAX { Ok(count) } else { Err(EntryError::Malformed { field }) }
}

/// By hand, since an entry holds several of them, and a general parser takes longer for one than all the rest does.
fn timestamp(text: &[u8]) -> Option<Timestamp> {
    let text: &[u8; 27] = text.try_into().ok()?;
    let punctuation = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':'), (19, b'.'), (26, b'Z')];
    if punctuation.iter().any(|(at, byte)| text[*at] != *byte) {
        return None;
    }
    let number = |digits: &[u8]| {
        digits.iter().try_fold(0_u32, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + u32::from(digit - b'0')))
    };
    let year = i32::try_from(number(&text[0..4])?).ok()?;
    let date = NaiveDate::from_ymd_opt(year, number(&text[5..7])?, number(&text[8..10])?)?;
    let (hour, minute, second) = (number(&text[11..13])?, number(&text[14..16])?, number(&text[17..19])?);
    let moment = date.and_hms_micro_opt(hour, minute, second, number(&text[20..26])?)?;
    Some(Timestamp(moment.and_utc().timestamp_micros()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_time_has_one_spelling() {
        let table = [
            ("1970-01-01T00:00:00.000000Z", Some(0)),
            ("2026-11-22T03:10:41.123456Z", Some(1_795_317_041_123_456)),
            ("1969-12-31T23:59:59.999999Z", Some(-1)),
            ("2024-02-29T00:00:00.000000Z", Some(1_709_164_800_000_000)),
            ("2026-02-29T00:00:00.000000Z", None),
            ("2026-11-22T03:10:60.000000Z", None),
            ("2026-11-22T24:00:00.000000Z", None),
            ("2026-11-22T03:10:41.123Z", None),
            ("2026-11-22T03:10:41.123456z", None),
            ("2026-11-22 03:10:41.123456Z", None),
            ("2026-11-22T03:10:41.123456+00:00", None),
            ("2026-11-22T03:10:41.12345/Z", None),
            ("", None),
        ];
        for (text, expected) in table {
            assert_eq!(timestamp(text.as_bytes()), expected.map(Timestamp), "{text}");
        }
    }

    #[test]
    fn a_moment_past_the_year_9999_is_not_written() {
        assert_eq!(Text::time(Timestamp::MAX, "until"), Err(EntryError::Unwritable { field: "until" }));
    }

    #[test]
    fn an_address_has_one_spelling() {
        let table = [
            ("10.20.30.40", true),
            ("2001:db8::1", true),
            ("::ffff:10.20.30.40", true),
            ("2001:DB8::1", false),
            ("2001:db8:0::1", false),
            ("::ffff:a14:1e28", false),
            ("fe80::1%eth0", false),
            ("10.20.30", false),
            ("10.20.30.40/32", false),
            (" 10.20.30.40", false),
            ("", false),
        ];
        for (text, is_read) in table {
            assert_eq!(Text::borrowed(text).parse_address("source").is_ok(), is_read, "{text}");
        }
    }

    proptest! {
        /// What the reader of IPv4 addresses is trusted with.
        #[test]
        fn an_address_that_is_read_is_written_so(parts in "(0{0,2}[0-9]{1,3}\\.){2,4}0{0,2}[0-9]{1,3}|[0-9a-f:.]{2,12}") {
            let read = Text::borrowed(&parts).parse_address("source");
            prop_assert!(read.is_err() || read.is_ok_and(|address| address.to_string() == parts));
        }

        #[test]
        fn times_round_trip(micros in -62_167_219_200_000_000_i64..253_402_300_800_000_000) {
            let text = Text::time(Timestamp(micros), "at").unwrap();
            prop_assert_eq!(text.parse_time("at"), Ok(Timestamp(micros)));
        }
    }
}
