//! Enrollment secrets: the shared secret by which a worker that nobody has announced may get in.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use regex::Regex;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::fence::Floor;
use super::ids::{EnrollmentSecretId, PoolId};
use super::key::Digest;
use super::operator::OperatorIndex;
use super::time::Timestamp;

/// How many CIDRs one secret may name; more is a firewall's job.
pub const CIDRS_MAX: usize = 64;
/// A pattern that a person can still read.
pub const NAME_PATTERN_CHARS_MAX: usize = 256;
/// Bytes that a compiled name pattern may take: patterns come from operators, and a nested repetition is gigabytes.
const NAME_PATTERN_BYTES_MAX: usize = 1 << 18;
/// How many workers one secret may have waiting for approval. Whoever has a leaked secret must not be able to fill the
/// log with workers that nobody approves.
pub const PENDING_MAX: u64 = 1_000;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrollmentSecret {
    pub id: EnrollmentSecretId,
    pub pool: PoolId,
    pub verifier: Digest,
    pub limits: Limits,
    pub state: EnrollmentState,
    pub created_at: Timestamp,
    /// The position at which it was issued.
    pub issued: u64,
    /// Of all fences over it: everything, its pool, its lineage.
    pub fence: Floor,
    pub parent: Option<EnrollmentSecretId>,
    /// The operator who made it, where it was one.
    pub created_by: Option<OperatorIndex>,
    /// Workers that it let in, approved or not.
    pub uses: u64,
    /// Of these, how many wait for approval.
    pub pending: u64,
}

/// What narrows an enrollment secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Sources outside of all of these are refused; empty means anywhere.
    pub cidrs: Arc<[IpNet]>,
    /// Names that it does not match whole are refused.
    pub name_pattern: Option<NamePattern>,
    /// Past so many workers, every further one waits for approval.
    pub uses_max: Option<u64>,
    pub expires_at: Option<Timestamp>,
    /// Every worker waits for approval.
    pub approval: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EnrollmentState {
    Live,
    Superseded { until: Timestamp },
    Disabled,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EnrollmentStanding {
    Live,
    Overlapping,
    Expired,
    Disabled,
    /// It was issued at or before a fence over it.
    Fenced,
}

/// A regular expression that has to match a name from its start to its end.
#[derive(Clone, Debug)]
pub struct NamePattern {
    source: Arc<str>,
    regex: Regex,
}

/// Why a text is no name pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NamePatternError {
    #[error("a name pattern has at most {NAME_PATTERN_CHARS_MAX} characters")]
    TooLong,
    #[error("not a regular expression, or one too large to keep: {0}")]
    Syntax(String),
}

impl EnrollmentSecret {
    #[must_use]
    pub fn standing(&self, now: Timestamp) -> EnrollmentStanding {
        self.state.standing(self.limits.expires_at, self.is_fenced(), now)
    }

    /// Whether a fence refuses it, whatever else is true of it.
    #[must_use]
    pub fn is_fenced(&self) -> bool {
        self.fence.refuses(self.issued)
    }
}

impl EnrollmentState {
    /// What time and fences make of it, for a secret that was given this expiry.
    #[must_use]
    pub fn standing(self, expires_at: Option<Timestamp>, fenced: bool, now: Timestamp) -> EnrollmentStanding {
        let expired = expires_at.is_some_and(|at| at <= now);
        match self {
            EnrollmentState::Disabled => EnrollmentStanding::Disabled,
            EnrollmentState::Live | EnrollmentState::Superseded { .. } if expired => EnrollmentStanding::Expired,
            EnrollmentState::Superseded { until } if until <= now => EnrollmentStanding::Expired,
            EnrollmentState::Live | EnrollmentState::Superseded { .. } if fenced => EnrollmentStanding::Fenced,
            EnrollmentState::Superseded { .. } => EnrollmentStanding::Overlapping,
            EnrollmentState::Live => EnrollmentStanding::Live,
        }
    }
}

impl EnrollmentStanding {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            EnrollmentStanding::Live => "live",
            EnrollmentStanding::Overlapping => "overlapping",
            EnrollmentStanding::Expired => "expired",
            EnrollmentStanding::Disabled => "disabled",
            EnrollmentStanding::Fenced => "fenced",
        }
    }
}

impl Limits {
    /// Whether a request from `source` is inside the CIDRs. An unknown source is outside of any.
    #[must_use]
    pub fn admit_source(&self, source: Option<IpAddr>) -> bool {
        // An IPv4 peer of a dual-stack socket arrives as ::ffff:a.b.c.d, and is meant by a rule for a.b.c.d.
        let source = source.map(|address| address.to_canonical());
        self.cidrs.is_empty() || source.is_some_and(|address| self.cidrs.iter().any(|cidr| cidr.contains(&address)))
    }

    #[must_use]
    pub fn admit_name(&self, name: &str) -> bool {
        self.name_pattern.as_ref().is_none_or(|pattern| pattern.regex.is_match(name))
    }
}

impl NamePattern {
    pub fn new(source: &str) -> Result<Self, NamePatternError> {
        if source.chars().count() > NAME_PATTERN_CHARS_MAX {
            return Err(NamePatternError::TooLong);
        }
        // Compiled alone first: `a)|(b` would be a pattern inside of our anchors, and is none by itself.
        let compile = |text: &str| {
            regex::RegexBuilder::new(text)
                .size_limit(NAME_PATTERN_BYTES_MAX)
                .build()
                .map_err(|error| NamePatternError::Syntax(error.to_string()))
        };
        compile(source)?;
        let regex = compile(&format!(r"\A(?:{source})\z"))?;
        Ok(Self { source: source.into(), regex })
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.source
    }
}

impl PartialEq for NamePattern {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for NamePattern {}

/// As its source: what is compiled of it is made anew.
impl Serialize for NamePattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.source)
    }
}

impl<'de> Deserialize<'de> for NamePattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(<&str>::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_pattern_matches_whole_names_only() {
        let table = [
            ("web-[0-9]+", "web-17", true),
            ("web-[0-9]+", "web-17x", false),
            ("web-[0-9]+", "xweb-17", false),
            ("web-[0-9]+", "web-17\n", false),
            ("a|b", "b", true),
            ("a|b", "ab", false),
            ("(?i)runner", "RUNNER", true),
        ];
        for (pattern, name, expected) in table {
            let limits = Limits { name_pattern: Some(NamePattern::new(pattern).unwrap()), ..Limits::default() };
            assert_eq!(limits.admit_name(name), expected, "{pattern} on {name:?}");
        }
        assert!(NamePattern::new("a)|(b").is_err());
        assert!(NamePattern::new("((((a{99}){99}){99}){99})").is_err());
        assert_eq!(NamePattern::new(&"a".repeat(257)), Err(NamePatternError::TooLong));
    }

    #[test]
    fn a_source_is_inside_of_one_of_the_cidrs_or_refused() {
        let limits = |cidrs: &[&str]| Limits {
            cidrs: cidrs.iter().map(|cidr| cidr.parse().unwrap()).collect(),
            ..Limits::default()
        };
        let table: [(&[&str], Option<&str>, bool); 7] = [
            (&[], None, true),
            (&["10.0.0.0/8"], Some("10.1.2.3"), true),
            (&["10.0.0.0/8"], Some("::ffff:10.1.2.3"), true),
            (&["10.0.0.0/8"], Some("11.0.0.1"), false),
            (&["10.0.0.0/8", "2001:db8::/32"], Some("2001:db8::1"), true),
            (&["10.0.0.0/8"], Some("::1"), false),
            (&["10.0.0.0/8"], None, false),
        ];
        for (cidrs, source, expected) in table {
            let source = source.map(|text| text.parse().unwrap());
            assert_eq!(limits(cidrs).admit_source(source), expected, "{source:?} in {cidrs:?}");
        }
    }
}
