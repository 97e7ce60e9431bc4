//! API keys and static secrets: the long-lived credentials, as verifiers.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::ids::{KeyId, OperatorId};
use super::operator::OperatorIndex;
use super::time::{Seconds, Timestamp};
use super::worker::WorkerIndex;

/// 90 days: a rotation that is not finished by then was forgotten.
pub const OVERLAP_MAX: Seconds = Seconds(90 * Seconds::DAY);
/// A day: time enough to deploy the new key everywhere and to notice where it was not.
pub const OVERLAP_DEFAULT: Seconds = Seconds(Seconds::DAY);
/// How many workers one shared key may serve. Each is a copy of the worker's index in the key's record.
pub const SHARERS_MAX: usize = 10_000;
/// How many workers one static secret may serve, through however many keys. All keys of one value are gone through whenever
/// it is shown or given to one more worker: without a bound, a fleet that shares one secret would pay for each check with
/// its own size.
pub const SECRET_SHARERS_MAX: usize = 1_000;

/// What is kept of a secret: a keyed digest, of which nobody without the root key can make another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum KeyKind {
    /// `ptc_…`, made by us.
    Api,
    /// A value that the caller chose; presented together with the worker's id.
    Static,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Holder {
    Worker(WorkerIndex),
    /// More than one worker; the first is the one that the key was made for.
    Workers(Arc<[WorkerIndex]>),
    Operator(OperatorId),
}

/// How a key's life was cut short. What time makes of it is [`KeyStanding`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyState {
    Live,
    /// Rotated: good until the overlap ends.
    Superseded {
        until: Timestamp,
    },
    /// For ever.
    Revoked,
    /// For ever: a fence refuses the credential that this key came of. Keys that were themselves issued at or before a
    /// fence are known by their position, and not by this.
    Fenced,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyStanding {
    Live,
    /// Rotated, and still good for the overlap.
    Overlapping,
    /// Its time, or its overlap, is over.
    Expired,
    Revoked,
    /// A fence refuses it.
    Fenced,
}

/// What a verdict reads comes first and lies together, so that it costs two lines of the cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[repr(C, align(64))]
pub struct Key {
    pub id: KeyId,
    pub verifier: Digest,
    pub expires_at: Option<Timestamp>,
    /// The second line begins here.
    pub holder: Holder,
    pub state: KeyState,
    /// The position at which it was issued: what fences compare.
    pub issued: u64,
    pub kind: KeyKind,
    pub created_at: Timestamp,
    /// The key that it succeeded.
    pub parent: Option<KeyId>,
    /// Whether the parent itself, or a token made from it, was what asked for this key. Then whoever stole the parent
    /// may hold this one too, and revoking the parent revokes it (H7).
    pub derived: bool,
    /// The operator who made it, where it was one.
    pub created_by: Option<OperatorIndex>,
}

impl Key {
    /// As far as the key itself goes.
    #[must_use]
    pub fn standing(&self, now: Timestamp) -> KeyStanding {
        self.state.standing(self.expires_at, now)
    }

    /// Whether it works at `now`, as far as the key itself goes: of its workers' fences, ask the Roll.
    #[must_use]
    pub fn is_good(&self, now: Timestamp) -> bool {
        match self.standing(now) {
            KeyStanding::Live | KeyStanding::Overlapping => true,
            KeyStanding::Expired | KeyStanding::Revoked | KeyStanding::Fenced => false,
        }
    }

    /// When it ends by itself: the earlier of its expiry and the end of its overlap.
    #[must_use]
    pub fn ends_at(&self) -> Option<Timestamp> {
        match (self.expires_at, self.state) {
            (at, KeyState::Live | KeyState::Revoked | KeyState::Fenced) => at,
            (Some(at), KeyState::Superseded { until }) => Some(at.min(until)),
            (None, KeyState::Superseded { until }) => Some(until),
        }
    }

    /// The workers that may present it, the first being the one that it was made for; none for an operator's key.
    #[must_use]
    pub fn workers(&self) -> &[WorkerIndex] {
        match &self.holder {
            Holder::Worker(index) => std::slice::from_ref(index),
            Holder::Workers(all) => all,
            Holder::Operator(_) => &[],
        }
    }
}

impl KeyState {
    /// What time makes of it, for a key that was given this expiry. Of fences over its workers, ask the Roll.
    #[must_use]
    pub fn standing(self, expires_at: Option<Timestamp>, now: Timestamp) -> KeyStanding {
        let expired = expires_at.is_some_and(|at| at <= now);
        match self {
            KeyState::Revoked => KeyStanding::Revoked,
            KeyState::Live | KeyState::Superseded { .. } | KeyState::Fenced if expired => KeyStanding::Expired,
            KeyState::Fenced => KeyStanding::Fenced,
            KeyState::Superseded { until } if until <= now => KeyStanding::Expired,
            KeyState::Superseded { .. } => KeyStanding::Overlapping,
            KeyState::Live => KeyStanding::Live,
        }
    }
}

impl KeyKind {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            KeyKind::Api => "api_key",
            KeyKind::Static => "static_secret",
        }
    }
}

impl KeyStanding {
    pub const ALL: [KeyStanding; 5] =
        [KeyStanding::Live, KeyStanding::Overlapping, KeyStanding::Expired, KeyStanding::Revoked, KeyStanding::Fenced];

    /// With the fences over its workers: what has ended has ended by what came first.
    #[must_use]
    pub fn fenced_if(self, fenced: bool) -> Self {
        match self {
            KeyStanding::Live | KeyStanding::Overlapping if fenced => KeyStanding::Fenced,
            own => own,
        }
    }

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            KeyStanding::Live => "live",
            KeyStanding::Overlapping => "overlapping",
            KeyStanding::Expired => "expired",
            KeyStanding::Revoked => "revoked",
            KeyStanding::Fenced => "fenced",
        }
    }
}

/// Lower-case hexadecimal, as the log writes it.
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// As bytes, which are read in one piece: there are millions.
impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = <&[u8]>::deserialize(deserializer)?;
        bytes.try_into().map(Self).map_err(|_| D::Error::invalid_length(bytes.len(), &"32 bytes"))
    }
}

/// A verifier is no secret, but nobody needs to read it in a log line.
impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest(…)")
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a digest is 64 hexadecimal digits")]
pub struct NotADigest;

/// Marks in [`HEX_VALUES`] what is no digit. Digits are below it.
const NO_HEX_DIGIT: u8 = 16;

/// What each byte is worth as a digit of ours: of the letters only the small ones are.
#[expect(clippy::cast_possible_truncation, reason = "values are below 16")]
const HEX_VALUES: [u8; 256] = {
    let (mut values, digits) = ([NO_HEX_DIGIT; 256], b"0123456789abcdef");
    let mut value = 0;
    while value < digits.len() {
        values[digits[value] as usize] = value as u8;
        value += 1;
    }
    values
};

impl FromStr for Digest {
    type Err = NotADigest;

    fn from_str(text: &str) -> Result<Self, NotADigest> {
        let bytes = text.as_bytes();
        if bytes.len() != 64 {
            return Err(NotADigest);
        }
        // Whether all are digits is asked once, at the end: which of them are letters cannot be foreseen.
        let (mut digest, mut marks) = ([0; 32], 0);
        for (byte, pair) in digest.iter_mut().zip(bytes.chunks_exact(2)) {
            let [high, low] = [pair[0], pair[1]].map(|digit| HEX_VALUES[usize::from(digit)]);
            marks |= high | low;
            *byte = high << 4 | (low & 0xf);
        }
        if marks & NO_HEX_DIGIT == 0 { Ok(Digest(digest)) } else { Err(NotADigest) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_has_one_spelling() {
        let digits = "0123456789abcdef";
        let digest = Digest(std::array::from_fn(|at| u8::try_from(at * 37 % 256).unwrap()));
        for text in [digest.to_string(), digits.repeat(4), digits.chars().rev().cycle().take(64).collect()] {
            assert_eq!(text.parse::<Digest>().unwrap().to_string(), text);
        }
        let good = digits.repeat(4);
        for (at, wrong) in [0, 1, 31, 62, 63].into_iter().flat_map(|at| "AFGg/:@`\0 é".chars().map(move |c| (at, c))) {
            let text: String = good.chars().enumerate().map(|(place, c)| if place == at { wrong } else { c }).collect();
            assert!(text.parse::<Digest>().is_err(), "{text}");
            // Of 64 bytes, though it has fewer characters.
            assert!(text.get(..64).is_none_or(|text| text.parse::<Digest>().is_err()), "{text}");
        }
        for text in ["", &good[1..], &format!("{good}0")] {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
    }
}
