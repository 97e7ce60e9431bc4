//! Time as a value: microseconds since the Unix epoch, the resolution of both Postgres and RFC 3339 as we write it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A moment, in microseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Timestamp(pub i64);

/// A length of time in whole seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Seconds(pub u32);

const MICROS: i64 = 1_000_000;

impl Timestamp {
    /// Later than every moment that is written down.
    pub const MAX: Timestamp = Timestamp(i64::MAX);

    #[must_use]
    pub fn after(self, span: Seconds) -> Self {
        Self(self.0.saturating_add(i64::from(span.0) * MICROS))
    }

    /// Whole seconds since the epoch, rounded down: what JWTs and HTTP headers count in.
    #[must_use]
    pub fn unix_seconds(self) -> i64 {
        self.0.div_euclid(MICROS)
    }

    #[must_use]
    pub fn from_unix_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(MICROS))
    }

    /// The same moment without its fraction of a second.
    ///
    /// What ends up in a JWT is cut to seconds; whoever compares must compare the same moment.
    #[must_use]
    pub fn whole_seconds(self) -> Self {
        Self::from_unix_seconds(self.unix_seconds())
    }
}

impl Seconds {
    pub const MINUTE: u32 = 60;
    pub const DAY: u32 = 24 * 60 * 60;
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}s", self.0)
    }
}
