//! A reader of canonical JSON (RFC 8785), as far as entries need it: objects, arrays, texts, whole numbers, booleans.
//!
//! It takes one spelling of everything and refuses all others: spaces, names that are out of order or come twice,
//! escapes that need not be, null, fractions. So nothing has to be written again to know that it was canonical, which
//! would double the time of reading a log.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

use serde::de::value::BorrowedStrDeserializer;
use serde::de::{DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, forward_to_deserialize_any};

/// The name by which [`Raw`] makes itself known to the reader: no struct of Rust's can be called so.
const RAW: &str = "raw JSON";

/// Why a text was not read. Neither says anything of what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ReadError {
    #[error("not canonical JSON")]
    NotCanonical,
    #[error("not of the shape expected")]
    Shape,
}

/// An object, array or text left as it is, to be read later: only its end was looked for.
#[derive(Clone, Copy)]
pub(super) struct Raw<'a>(pub(super) &'a str);

struct Reader<'de> {
    text: &'de str,
    at: usize,
}

/// The members of an object, in the one order.
struct Members<'r, 'de> {
    reader: &'r mut Reader<'de>,
    /// The names that a struct has, in that order: what comes next is nearly always the next of them, and is told from the
    /// others without being looked at character by character.
    known: &'static [&'static str],
    /// So many of those cannot come any more.
    passed: usize,
    /// The last name, if it was none of those.
    unknown: Option<Cow<'de, str>>,
}

struct Elements<'r, 'de> {
    reader: &'r mut Reader<'de>,
    first: bool,
}

/// Reads all of `text` as one value.
pub(super) fn read<'de, T: Deserialize<'de>>(text: &'de str) -> Result<T, ReadError> {
    let mut reader = Reader { text, at: 0 };
    let value = T::deserialize(&mut reader)?;
    if reader.at == text.len() { Ok(value) } else { Err(ReadError::NotCanonical) }
}

/// The order of names: that of UTF-16.
///
/// It differs from the order of the bytes where U+E000 to U+FFFF meet characters past them. Where one name is ASCII,
/// the first difference is with an ASCII character, which comes first in either.
pub(super) fn order(a: &str, b: &str) -> Ordering {
    // Most names differ in their first character.
    if let (Some(a), Some(b)) = (a.bytes().next(), b.bytes().next())
        && a != b
        && (a.is_ascii() || b.is_ascii())
    {
        return a.cmp(&b);
    }
    if a.is_ascii() || b.is_ascii() { a.cmp(b) } else { a.encode_utf16().cmp(b.encode_utf16()) }
}

impl<'de> Reader<'de> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, expected: &str) -> Result<(), ReadError> {
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        if rest.starts_with(expected.as_bytes()) {
            self.at += expected.len();
            Ok(())
        } else {
            Err(ReadError::NotCanonical)
        }
    }

    fn slice(&self, from: usize, to: usize) -> Result<&'de str, ReadError> {
        self.text.get(from..to).ok_or(ReadError::NotCanonical)
    }

    fn string(&mut self) -> Result<Cow<'de, str>, ReadError> {
        self.take("\"")?;
        let start = self.at;
        self.at = plain_end(self.text.as_bytes(), start);
        let plain = self.slice(start, self.at)?;
        if self.peek() == Some(b'"') {
            self.at += 1;
            return Ok(Cow::Borrowed(plain));
        }
        let mut text = plain.to_owned();
        while self.peek() == Some(b'\\') {
            text.push(self.escape()?);
            let start = self.at;
            self.at = plain_end(self.text.as_bytes(), start);
            text.push_str(self.slice(start, self.at)?);
        }
        self.take("\"")?;
        Ok(Cow::Owned(text))
    }

    /// An escape, where one has to be: quote, backslash, and control characters, each in its shortest form.
    fn escape(&mut self) -> Result<char, ReadError> {
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        let (character, length) = match rest {
            [b'\\', b'"', ..] => ('"', 2),
            [b'\\', b'\\', ..] => ('\\', 2),
            [b'\\', b'b', ..] => ('\u{8}', 2),
            [b'\\', b't', ..] => ('\t', 2),
            [b'\\', b'n', ..] => ('\n', 2),
            [b'\\', b'f', ..] => ('\u{c}', 2),
            [b'\\', b'r', ..] => ('\r', 2),
            [b'\\', b'u', b'0', b'0', high @ (b'0' | b'1'), low @ (b'0'..=b'9' | b'a'..=b'f'), ..] => {
                let low = if low.is_ascii_digit() { low - b'0' } else { low - b'a' + 10 };
                let control = (high - b'0') << 4 | low;
                if matches!(control, 8 | b'\t' | b'\n' | 12 | b'\r') {
                    return Err(ReadError::NotCanonical);
                }
                (char::from(control), 6)
            }
            _ => return Err(ReadError::NotCanonical),
        };
        self.at += length;
        Ok(character)
    }

    fn number(&mut self) -> Result<u64, ReadError> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        let digits = self.slice(start, self.at)?;
        if digits.len() > 1 && digits.starts_with('0') {
            return Err(ReadError::NotCanonical);
        }
        digits.parse().map_err(|_| ReadError::Shape)
    }

    /// Passes over one value, to where its brackets close.
    fn skip(&mut self) -> Result<&'de str, ReadError> {
        let (bytes, start) = (self.text.as_bytes(), self.at);
        let mut depth = 0_usize;
        while let Some(byte) = self.peek() {
            self.at += 1;
            match byte {
                b'"' => {
                    self.at = plain_end(bytes, self.at);
                    while self.peek().is_some_and(|byte| byte != b'"') {
                        // A backslash takes the next byte with it. Whether it may is seen when the value is read.
                        self.at = plain_end(bytes, bytes.len().min(self.at + 2));
                    }
                    self.at += 1;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth = depth.checked_sub(1).ok_or(ReadError::NotCanonical)?,
                _ => {}
            }
            if depth == 0 {
                return self.slice(start, self.at);
            }
        }
        Err(ReadError::NotCanonical)
    }

    #[inline]
    fn text<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, ReadError> {
        match self.string()? {
            Cow::Borrowed(text) => visitor.visit_borrowed_str(text),
            Cow::Owned(text) => visitor.visit_string(text),
        }
    }

    fn object<V: Visitor<'de>>(&mut self, known: &'static [&'static str], visitor: V) -> Result<V::Value, ReadError> {
        // A struct whose fields stand otherwise would be written in their order, and read in it. Tests see to that, which read
        // every one that there is: a release does not look.
        debug_assert!(known.is_sorted_by(|a, b| order(a, b) == Ordering::Less), "not in the one order: {known:?}");
        self.take("{")?;
        let value = visitor.visit_map(Members { reader: self, known, passed: 0, unknown: None })?;
        self.take("}").map(|()| value)
    }
}

/// Where the run of characters that stand for themselves ends: at a quote, a backslash, a control character, or the end.
fn plain_end(bytes: &[u8], from: usize) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let mut at = from;
    // Eight bytes at once. A byte is marked in its highest bit; after the first marked one, marks may be wrong.
    while let Some(chunk) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let word = u64::from_le_bytes(*chunk);
        let zeros = |word: u64| word.wrapping_sub(ONES) & !word;
        let quotes = zeros(word ^ (ONES * u64::from(b'"')));
        let backslashes = zeros(word ^ (ONES * u64::from(b'\\')));
        let controls = word.wrapping_sub(ONES * 0x20) & !word;
        let marks = (quotes | backslashes | controls) & HIGHS;
        if marks != 0 {
            return at + marks.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let rest = bytes.get(at..).unwrap_or_default();
    at + rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | ..0x20)).unwrap_or(rest.len())
}

impl<'de> Deserializer<'de> for &mut Reader<'de> {
    type Error = ReadError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.peek() {
            Some(b'"') => self.text(visitor),
            Some(b'{') => self.object(&[], visitor),
            Some(b'[') => {
                self.at += 1;
                let value = visitor.visit_seq(Elements { reader: self, first: true })?;
                self.take("]").map(|()| value)
            }
            Some(b'0'..=b'9') => visitor.visit_u64(self.number()?),
            Some(b't') => self.take("true").and_then(|()| visitor.visit_bool(true)),
            Some(b'f') => self.take("false").and_then(|()| visitor.visit_bool(false)),
            _ => Err(ReadError::NotCanonical),
        }
    }

    /// What is none is left out, so what is there is some.
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        if name == RAW { visitor.visit_borrowed_str(self.skip()?) } else { visitor.visit_newtype_struct(self) }
    }

    #[inline]
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        match self.peek() {
            // Fields have numbers, by which their readers know them too, as long as none of them has an alias.
            Some(b'{') => self.object(fields, visitor),
            // Serde would read the values without their names, and an entry would have a second spelling.
            Some(b'[') => Err(ReadError::Shape),
            _ => self.deserialize_any(visitor),
        }
    }

    #[inline]
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        if self.peek() == Some(b'"') { self.text(visitor) } else { self.deserialize_any(visitor) }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map enum identifier ignored_any
    }
}

impl Members<'_, '_> {
    /// Which of the known names stands here, if one does; it is passed over then.
    #[inline]
    fn next_known(&mut self) -> Option<usize> {
        // After one that is none of them, those that come are compared with it.
        if self.unknown.is_some() {
            return None;
        }
        let rest = self.reader.text.as_bytes().get(self.reader.at..)?.strip_prefix(b"\"")?;
        let known = self.known.iter().enumerate().skip(self.passed);
        // None holds a quote, so that most others are told apart by where theirs is.
        let (place, name) = known.into_iter().find(|(_, name)| {
            rest.get(name.len()..).is_some_and(|rest| rest.starts_with(b"\":")) && rest.starts_with(name.as_bytes())
        })?;
        self.reader.at += name.len() + r#"":""#.len();
        self.passed = place + 1;
        Some(place)
    }

    /// The last name.
    fn previous(&self) -> Option<&str> {
        self.unknown.as_deref().or_else(|| self.known[..self.passed].last().copied())
    }
}

impl<'de> MapAccess<'de> for Members<'_, 'de> {
    type Error = ReadError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, ReadError> {
        if self.reader.peek() == Some(b'}') {
            return Ok(None);
        }
        if self.previous().is_some() {
            self.reader.take(",")?;
        }
        if let Some(place) = self.next_known() {
            return seed.deserialize((place as u64).into_deserializer()).map(Some);
        }
        let name = self.reader.string()?;
        if self.previous().is_some_and(|previous| order(previous, &name) != Ordering::Less) {
            return Err(ReadError::NotCanonical);
        }
        self.reader.take(":")?;
        let key = match &name {
            Cow::Borrowed(name) => seed.deserialize(BorrowedStrDeserializer::new(name)),
            Cow::Owned(name) => seed.deserialize(name.clone().into_deserializer()),
        }?;
        self.unknown = Some(name);
        Ok(Some(key))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, ReadError> {
        seed.deserialize(&mut *self.reader)
    }
}

impl<'de> SeqAccess<'de> for Elements<'_, 'de> {
    type Error = ReadError;

    fn next_element_seed<E: DeserializeSeed<'de>>(&mut self, seed: E) -> Result<Option<E::Value>, ReadError> {
        if self.reader.peek() == Some(b']') {
            return Ok(None);
        }
        if !self.first {
            self.reader.take(",")?;
        }
        self.first = false;
        seed.deserialize(&mut *self.reader).map(Some)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Raw<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Slice;

        impl<'de> Visitor<'de> for Slice {
            type Value = Raw<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value of canonical JSON")
            }

            fn visit_borrowed_str<E: serde::de::Error>(self, text: &'de str) -> Result<Raw<'de>, E> {
                Ok(Raw(text))
            }
        }

        deserializer.deserialize_newtype_struct(RAW, Slice)
    }
}

/// What serde would say names values and fields; they stay where they are.
impl serde::de::Error for ReadError {
    fn custom<T: fmt::Display>(_: T) -> Self {
        ReadError::Shape
    }
}

#[cfg(test)]
mod tests;
