//! Names of things: each id has a type of its own, so that a key's id cannot be passed where a worker's is meant.
//!
//! Made ids are UUIDv7 (RFC 9562) written as 22 base62 digits: fixed width, so that text order is creation order, and
//! free of punctuation, so that a double click selects one whole. Ids that people choose are checked text.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::Arc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Digits of base62 in ASCII order, so that text sorts as the number does.
pub(crate) const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

const TEN_DIGITS: u64 = 62_u64.pow(10);

/// Marks in [`BASE62_VALUES`] what is no digit. Digits are below it.
const NO_DIGIT: u8 = 64;

/// What each byte is worth as a digit of base62.
#[expect(clippy::cast_possible_truncation, reason = "values are below 62")]
const BASE62_VALUES: [u8; 256] = {
    let mut values = [NO_DIGIT; 256];
    let mut value = 0;
    while value < BASE62.len() {
        values[BASE62[value] as usize] = value as u8;
        value += 1;
    }
    values
};

/// 62^22 is the first power of 62 past 2^128.
pub const ID_DIGITS: usize = 22;

/// The longest id that people may choose, for workers and pools. DNS labels and most inventories stop at 63 or 64.
pub const CHOSEN_ID_CHARS_MAX: usize = 64;

/// Why a text is no id of the kind asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    #[error("an id of this kind is {ID_DIGITS} base62 digits (0-9, A-Z, a-z)")]
    NotBase62,
    #[error("an id must not be empty")]
    Empty,
    #[error("an id has at most {CHOSEN_ID_CHARS_MAX} characters")]
    TooLong,
    #[error("an id holds only ASCII letters, digits, `.`, `-` and `_`")]
    Character,
    #[error("`.` and `..` are steps in a path, and no id")]
    PathStep,
}

/// Writes `value` as [`ID_DIGITS`] base62 digits.
#[expect(clippy::cast_possible_truncation, reason = "the head is two digits")]
pub(crate) fn encode_base62(value: u128) -> [u8; ID_DIGITS] {
    let mut digits = [b'0'; ID_DIGITS];
    // Two steps in u128 and the rest in u64, which take a tenth of the time.
    let (above, tail) = split(value);
    let (head, middle) = split(above);
    for (part, value) in [(0..2, head as u64), (2..12, middle), (12..ID_DIGITS, tail)] {
        let mut rest = value;
        for digit in digits[part].iter_mut().rev() {
            *digit = BASE62[(rest % 62) as usize];
            rest /= 62;
        }
    }
    digits
}

/// The last ten digits of base62, and what stands before them.
#[expect(clippy::cast_possible_truncation, reason = "a remainder of a u64 is one")]
fn split(value: u128) -> (u128, u64) {
    (value / u128::from(TEN_DIGITS), (value % u128::from(TEN_DIGITS)) as u64)
}

/// Reads exactly [`ID_DIGITS`] base62 digits; `None` for any other text, or a number past 2^128.
pub(crate) fn decode_base62(text: &[u8]) -> Option<u128> {
    const HEAD_STEP: u128 = 62_u128.pow(20);
    /// What stands before the last twenty digits of the greatest number.
    const HEAD_MAX: u64 = (u128::MAX / HEAD_STEP) as u64;
    if text.len() != ID_DIGITS {
        return None;
    }
    // Parts in u64 cost a third of 22 steps in u128.
    // Whether all are digits is asked once, at the end: a branch for each would cost more than the arithmetic.
    let mut marks = 0;
    let mut part = |digits: &[u8]| {
        digits.iter().fold(0_u64, |sum, digit| {
            let value = BASE62_VALUES[usize::from(*digit)];
            marks |= value;
            sum.wrapping_mul(62).wrapping_add(u64::from(value))
        })
    };
    let (head, middle, tail) = (part(&text[..2]), part(&text[2..12]), part(&text[12..]));
    if marks & NO_DIGIT != 0 || head > HEAD_MAX {
        return None;
    }
    // Ten digits are below 2^60, so all three are exact, and so is this sum: 60 bits twice are fewer than 128.
    let low = u128::from(middle) * u128::from(TEN_DIGITS) + u128::from(tail);
    (u128::from(head) * HEAD_STEP).checked_add(low)
}

/// The numbers that are written with these digits first; `None` where none is.
pub(crate) fn base62_beginning_with(prefix: &str) -> Option<RangeInclusive<u128>> {
    let padded = |digit: u8| {
        let mut text = [digit; ID_DIGITS];
        text.get_mut(..prefix.len())?.copy_from_slice(prefix.as_bytes());
        Some(text)
    };
    let first = decode_base62(&padded(b'0')?)?;
    // Past the greatest number there are texts of digits alone, and no numbers.
    let last = decode_base62(&padded(b'z')?).unwrap_or(u128::MAX);
    Some(first..=last)
}

macro_rules! made_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        // A u128 is aligned to 16 bytes, which pads each option of one to 32, and the rows that hold it. There are millions.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(Rust, packed(8))]
        pub struct $name(pub u128);

        impl $name {
            /// The id that a fresh UUIDv7 stands for.
            #[must_use]
            pub fn from_uuid(uuid: uuid::Uuid) -> Self {
                Self(uuid.as_u128())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let digits = encode_base62(self.0);
                f.pad(std::str::from_utf8(&digits).expect("base62 is ASCII"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                decode_base62(text.as_bytes()).map(Self).ok_or(IdError::NotBase62)
            }
        }

        /// As bytes, which are read in one piece: there are millions.
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_bytes(&{ self.0 }.to_le_bytes())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let bytes = <&[u8]>::deserialize(deserializer)?;
                let bytes = bytes.try_into().map_err(|_| D::Error::invalid_length(bytes.len(), &"16 bytes"))?;
                Ok(Self(u128::from_le_bytes(bytes)))
            }
        }
    };
}

macro_rules! chosen_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                check_chosen(text)?;
                Ok(Self(text.into()))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                <&str>::deserialize(deserializer)?.parse().map_err(D::Error::custom)
            }
        }

        /// So that maps keyed by the id can be asked with plain text.
        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

fn check_chosen(text: &str) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty);
    }
    if text.len() > CHOSEN_ID_CHARS_MAX {
        return Err(IdError::TooLong);
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    if !text.bytes().all(allowed) {
        return Err(IdError::Character);
    }
    if matches!(text, "." | "..") {
        return Err(IdError::PathStep);
    }
    Ok(())
}

made_id! {
    /// The public part of an API key, and the name of a static secret's record.
    KeyId
}
made_id! {
    /// One shared secret of auto-enrollment.
    EnrollmentSecretId
}
made_id! {
    /// A JWT's `jti`.
    TokenId
}
made_id! {
    /// A signing key's `kid`.
    SigningKeyId
}
made_id! {
    /// A person or a service that administers.
    OperatorId
}
made_id! {
    /// One plan of a batch command.
    PlanId
}
made_id! {
    /// A service that is told of events.
    WebhookId
}
made_id! {
    /// One log among those of the world: nothing assumes that there is only one.
    LogId
}
made_id! {
    /// A command's identity: the digest of the caller's `Idempotency-Key`, or made.
    CommandId
}
chosen_id! {
    /// A worker's id: chosen by the operator, or made; unique for ever.
    WorkerId
}
chosen_id! {
    /// A pool's id, which is its name; unique for ever.
    PoolId
}
chosen_id! {
    /// An incident's id: the number of a ticket that people speak of already, or `INC-` and a count, short enough for a call.
    IncidentId
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_number_is_among_those_that_begin_as_it_does(value: u128, other: u128, digits in 1..=ID_DIGITS) {
            let text = encode_base62(value);
            let prefix = std::str::from_utf8(&text[..digits]).unwrap();
            let found = base62_beginning_with(prefix).unwrap();
            prop_assert!(found.contains(&value));
            prop_assert_eq!(found.contains(&other), encode_base62(other).starts_with(prefix.as_bytes()));
            prop_assert_eq!(base62_beginning_with(&format!("{prefix}-")), None);
        }

        #[test]
        fn base62_round_trips_and_sorts_as_numbers(a: u128, b: u128) {
            let (x, y) = (encode_base62(a), encode_base62(b));
            prop_assert_eq!(decode_base62(&x), Some(a));
            prop_assert_eq!(x.cmp(&y), a.cmp(&b));
        }
    }

    #[test]
    fn made_ids_refuse_what_is_not_22_digits_below_two_to_the_128() {
        for text in ["", "0", "zzzzzzzzzzzzzzzzzzzzzz", "000000000000000000000-", "00000000000000000000000"] {
            assert_eq!(text.parse::<KeyId>(), Err(IdError::NotBase62), "{text}");
        }
        let most = KeyId(u128::MAX).to_string();
        assert_eq!(most.parse::<KeyId>(), Ok(KeyId(u128::MAX)));
    }

    #[test]
    fn chosen_ids_are_checked() {
        let table: &[(&str, Result<(), IdError>)] = &[
            ("a", Ok(())),
            ("runner-1.eu_west", Ok(())),
            ("", Err(IdError::Empty)),
            ("..", Err(IdError::PathStep)),
            ("a b", Err(IdError::Character)),
            ("ä", Err(IdError::Character)),
            (&"x".repeat(64), Ok(())),
            (&"x".repeat(65), Err(IdError::TooLong)),
        ];
        for (text, expected) in table {
            assert_eq!(&text.parse::<WorkerId>().map(|_| ()), expected, "{text}");
        }
    }
}
