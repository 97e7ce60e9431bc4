//! How an API key looks: `ptc_<kind>_<id>_<secret>_<check>`.
//!
//! The prefix and the check let a scanner find a leaked key and a parser refuse a mistyped one before anything is
//! looked up. The id is public, so that logs and people can speak of a key without its secret. Every part has a
//! fixed width, so that parsing is slicing.

use std::ops::Range;

use secrecy::SecretString;
use zeroize::Zeroizing;

use crate::domain::ids::{BASE62, ID_DIGITS, KeyId, decode_base62, encode_base62};

/// What a key starts with, of whatever kind.
pub const KEY_PREFIX: &str = "ptc_";

/// Two numbers of 128 bits, each of 22 digits.
pub const SECRET_DIGITS: usize = 2 * ID_DIGITS;

/// 62^6 is the first power of 62 past 2^32.
const CHECK_DIGITS: usize = 6;

const KIND: Range<usize> = KEY_PREFIX.len()..KEY_PREFIX.len() + 2;
const ID: Range<usize> = KIND.end + 1..KIND.end + 1 + ID_DIGITS;
const SECRET: Range<usize> = ID.end + 1..ID.end + 1 + SECRET_DIGITS;
const CHECK: Range<usize> = SECRET.end + 1..SECRET.end + 1 + CHECK_DIGITS;

/// The length of every key.
pub const KEY_CHARS: usize = CHECK.end;

/// A regular expression for secret scanners. What it matches is a key if its last part is also the CRC-32 (IEEE) of
/// all before the last `_`, as six digits of base62 in ASCII order.
pub const KEY_PATTERN: &str = r"\bptc_(?:wk|en|op)_[0-9A-Za-z]{22}_[0-9A-Za-z]{44}_[0-9A-Za-z]{6}\b";

/// Whom a key lets in, and to what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KeyKind {
    /// A worker, as itself.
    Worker,
    /// Whoever wants to become a worker.
    Enrollment,
    /// A person or a service that administers.
    Operator,
}

impl KeyKind {
    pub const ALL: [Self; 3] = [Self::Worker, Self::Enrollment, Self::Operator];

    /// The two letters that stand for the kind in a key.
    #[must_use]
    pub const fn letters(self) -> &'static str {
        match self {
            Self::Worker => "wk",
            Self::Enrollment => "en",
            Self::Operator => "op",
        }
    }
}

/// A key whose form is right; whether it is good is another question.
///
/// There is no `Debug`: it would print the secret.
#[derive(Clone, Copy)]
pub struct ParsedKey<'a> {
    pub kind: KeyKind,
    pub id: KeyId,
    /// Always [`SECRET_DIGITS`] base62 digits.
    pub(super) secret: &'a [u8; SECRET_DIGITS],
}

/// Why a text is no key. Says where it goes wrong and never repeats any of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFormatError {
    #[error("an API key starts with `{KEY_PREFIX}`")]
    NotAKey,
    #[error("the kind of an API key is `wk`, `en` or `op`")]
    UnknownKind,
    #[error("the id of an API key is {ID_DIGITS} base62 digits")]
    Id,
    #[error("the secret of an API key is {SECRET_DIGITS} base62 digits; was the key cut short when it was copied?")]
    Secret,
    #[error("the check of the API key is wrong; was the key mistyped?")]
    Check,
}

/// Whether `text` is meant to be an API key, however broken. Decides which error a caller deserves.
#[must_use]
pub fn looks_like_key(text: &str) -> bool {
    text.starts_with(KEY_PREFIX)
}

/// Takes a key apart, without allocating.
pub fn parse(text: &str) -> Result<ParsedKey<'_>, KeyFormatError> {
    parse_telling(text, |_| {})
}

/// Takes a key apart, and tells its id as soon as that is read: the check comes after it, and what is wanted of the id may
/// be on its way meanwhile. Of a text that is no key in the end, an id may have been told.
pub fn parse_telling(text: &str, tell: impl FnOnce(KeyId)) -> Result<ParsedKey<'_>, KeyFormatError> {
    let bytes = text.as_bytes();
    // One part and the `_` that ends it.
    let part = |range: Range<usize>| (bytes.get(range.end) == Some(&b'_')).then(|| &bytes[range]);

    if !looks_like_key(text) {
        return Err(KeyFormatError::NotAKey);
    }
    let kind = match part(KIND) {
        Some(b"wk") => KeyKind::Worker,
        Some(b"en") => KeyKind::Enrollment,
        Some(b"op") => KeyKind::Operator,
        _ => return Err(KeyFormatError::UnknownKind),
    };
    let id = part(ID).and_then(decode_base62).map(KeyId).ok_or(KeyFormatError::Id)?;
    tell(id);
    let secret: &[u8; SECRET_DIGITS] =
        part(SECRET).and_then(|digits| digits.try_into().ok()).ok_or(KeyFormatError::Secret)?;
    // Not decoded: the verifier is made of the text, and decoding would be half the cost of parsing.
    if !secret.iter().fold(true, |all, digit| all & digit.is_ascii_alphanumeric()) {
        return Err(KeyFormatError::Secret);
    }
    if bytes[SECRET.end + 1..] != check(&bytes[..SECRET.end]) {
        return Err(KeyFormatError::Check);
    }
    Ok(ParsedKey { kind, id, secret })
}

/// Writes the key of this id whose secret is `entropy`, which must be random.
#[must_use]
pub fn mint(kind: KeyKind, id: KeyId, entropy: &[u8; 32]) -> SecretString {
    let (head, tail) = entropy.split_at(16);
    let half = |bytes: &[u8]| {
        Zeroizing::new(encode_base62(u128::from_be_bytes(bytes.try_into().expect("half of 32 bytes is 16"))))
    };
    let mut text = Zeroizing::new([b'_'; KEY_CHARS]);
    text[..KEY_PREFIX.len()].copy_from_slice(KEY_PREFIX.as_bytes());
    text[KIND].copy_from_slice(kind.letters().as_bytes());
    text[ID].copy_from_slice(&encode_base62(id.0));
    text[SECRET.start..SECRET.start + ID_DIGITS].copy_from_slice(half(head).as_slice());
    text[SECRET.start + ID_DIGITS..SECRET.end].copy_from_slice(half(tail).as_slice());
    let sum = check(&text[..SECRET.end]);
    text[CHECK].copy_from_slice(&sum);
    SecretString::from(std::str::from_utf8(text.as_slice()).expect("a key is ASCII"))
}

/// The check digits of what stands before them.
fn check(text: &[u8]) -> [u8; CHECK_DIGITS] {
    let mut rest = crc32fast::hash(text);
    let mut digits = [b'0'; CHECK_DIGITS];
    for digit in digits.iter_mut().rev() {
        *digit = BASE62[(rest % 62) as usize];
        rest /= 62;
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use secrecy::ExposeSecret;

    fn minted(kind: KeyKind, id: u128, entropy: [u8; 32]) -> String {
        mint(kind, KeyId(id), &entropy).expose_secret().to_owned()
    }

    #[test]
    fn each_way_to_be_wrong_has_its_error() {
        let good = minted(KeyKind::Worker, 1, [1; 32]);
        let with = |range: Range<usize>, text: &str| {
            let mut bad = good.clone();
            bad.replace_range(range, text);
            bad
        };
        let table = [
            ("", KeyFormatError::NotAKey),
            ("PTC_wk_", KeyFormatError::NotAKey),
            ("ptc_", KeyFormatError::UnknownKind),
            ("ptc_wk", KeyFormatError::UnknownKind),
            (&with(KIND, "zz"), KeyFormatError::UnknownKind),
            (&with(KIND, "wkk"), KeyFormatError::UnknownKind),
            ("ptc_wk_", KeyFormatError::Id),
            (&with(ID, "zzzzzzzzzzzzzzzzzzzzzz"), KeyFormatError::Id),
            (&with(ID.end - 1..ID.end, "-"), KeyFormatError::Id),
            (&with(ID.end..ID.end + 1, "-"), KeyFormatError::Id),
            (&good[..SECRET.end - 1], KeyFormatError::Secret),
            (&good[..SECRET.end], KeyFormatError::Secret),
            (&with(SECRET.end - 1..SECRET.end, "-"), KeyFormatError::Secret),
            (&with(SECRET, &"z".repeat(44)), KeyFormatError::Check),
            (&with(SECRET.end - 2..SECRET.end, "ä"), KeyFormatError::Secret),
            (&good[..CHECK.end - 1], KeyFormatError::Check),
            (&format!("{good}0"), KeyFormatError::Check),
            (&format!("{good}\n"), KeyFormatError::Check),
            (&with(KIND, "op"), KeyFormatError::Check),
        ];
        for (text, expected) in table {
            assert_eq!(parse(text).err(), Some(expected), "{text}");
        }
        assert!(parse(&good).is_ok());
    }

    #[test]
    fn errors_never_repeat_the_input() {
        let canary = "ptc_wk_canary";
        assert!(!parse(canary).err().unwrap().to_string().contains("canary"));
    }

    proptest! {
        #[test]
        fn what_is_minted_parses_to_what_went_in(id: u128, entropy: [u8; 32], kind in 0..3_usize) {
            let kind = KeyKind::ALL[kind];
            let text = minted(kind, id, entropy);
            let key = parse(&text).unwrap();
            prop_assert_eq!((key.kind, key.id, text.len()), (kind, KeyId(id), KEY_CHARS));
            let half = |digits| decode_base62(digits).unwrap().to_be_bytes();
            prop_assert_eq!([half(&key.secret[..22]), half(&key.secret[22..])].concat(), entropy);
        }

        #[test]
        fn the_pattern_for_scanners_finds_each_key(id: u128, entropy: [u8; 32], kind in 0..3_usize) {
            let pattern = regex::Regex::new(KEY_PATTERN).unwrap();
            let text = minted(KeyKind::ALL[kind], id, entropy);
            let leak = format!("export KEY=\"{text}\";");
            prop_assert_eq!(pattern.find(&leak).unwrap().as_str(), text);
        }

        /// CRC-32 notices every change within 32 neighbouring bits, so every single wrong character.
        #[test]
        fn any_one_wrong_character_is_noticed(id: u128, entropy: [u8; 32], at in 0..KEY_CHARS, other in " -~") {
            let good = minted(KeyKind::Worker, id, entropy);
            let mut bad = good.clone();
            bad.replace_range(at..=at, &other);
            prop_assert_eq!(parse(&bad).is_ok(), bad == good);
        }

        #[test]
        fn no_text_makes_it_panic(text: String, tail in "[ptc_wkenop0-9A-Za-zä]{0,90}") {
            prop_assert!(parse(&text).is_err());
            let near = format!("ptc_wk_{tail}");
            prop_assert!(parse(&near).is_err(), "{}", near);
        }
    }
}
