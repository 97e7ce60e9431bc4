//! Values of the domain as a column takes them.

use chrono::{DateTime, Datelike, SecondsFormat, Utc};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::domain::time::Timestamp;

/// A time in a row: RFC 3339 in JSON, a `timestamptz` in Postgres, which has no year 0.
///
/// Times of that year and of those past 9999 become the nearest that can be written. All of them are compared with the
/// present, and on the same side of it they are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub Timestamp);

impl Moment {
    /// 0001-01-01T00:00:00Z.
    const FIRST: Timestamp = Timestamp(-62_135_596_800_000_000);
    /// 9999-12-31T23:59:59.999999Z.
    const LAST: Timestamp = Timestamp(253_402_300_799_999_999);

    fn date_time(self) -> DateTime<Utc> {
        let within = self.0.clamp(Self::FIRST, Self::LAST);
        DateTime::from_timestamp_micros(within.0).unwrap_or(DateTime::UNIX_EPOCH)
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.date_time().to_rfc3339_opts(SecondsFormat::Micros, true))
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let at = DateTime::parse_from_rfc3339(&text).map_err(D::Error::custom)?;
        if at.year() < 1 {
            return Err(D::Error::custom("a year that Postgres does not have"));
        }
        Ok(Self(Timestamp(at.timestamp_micros())))
    }
}

/// As a `timestamptz` parameter of a question.
pub(super) fn parameter(at: Timestamp) -> DateTime<Utc> {
    Moment(at).date_time()
}

/// Postgres keeps no NUL in a text, and what people describe things with may hold one.
pub(super) fn text(text: &str) -> String {
    text.replace('\0', "\u{FFFD}")
}

/// A position or a count as Postgres has it.
pub(super) fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_written_as_postgres_can_keep_it() {
        let table = [
            (Timestamp(0), "\"1970-01-01T00:00:00.000000Z\""),
            (Timestamp(1), "\"1970-01-01T00:00:00.000001Z\""),
            (Timestamp(Moment::FIRST.0 - 1), "\"0001-01-01T00:00:00.000000Z\""),
            (Timestamp::MAX, "\"9999-12-31T23:59:59.999999Z\""),
        ];
        for (at, expected) in table {
            let written = serde_json::to_string(&Moment(at)).unwrap();
            assert_eq!(written, expected);
            let again: Moment = serde_json::from_str(&written).unwrap();
            assert_eq!(serde_json::to_string(&again).unwrap(), expected);
        }
        let postgres: Moment = serde_json::from_str("\"1970-01-01T00:00:00+00:00\"").unwrap();
        assert_eq!(postgres, Moment(Timestamp(0)));
    }
}
