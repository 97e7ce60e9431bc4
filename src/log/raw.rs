//! Events as they lie in the database, not yet believed: rows one after the other in one buffer.
//!
//! A log may hold millions, and a start reads all of them. Rows that are kept as the driver hands them out are allocations that
//! are made on one thread and given back on another, and pages that the kernel clears again and again. So their bytes are
//! gathered in a buffer that can be filled again, in the very form that Postgres sends them in: the tuples of its binary COPY
//! (PostgreSQL's manual, "COPY", "Binary Format").

use std::error::Error;

use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, Type};

use super::columns::{Cells, Copied};

/// What stands before the first tuple: this, and two numbers of four bytes, of which the second says how much more.
const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
/// What stands after the last one, where its number of fields would.
const TRAILER: &[u8] = &[0xff, 0xff];

/// The columns of `read.sql` and of `next.sql`, in their order, as the migrations make them.
static COLUMNS: [(&str, Type); 13] = [
    ("position", Type::INT8),
    ("entry", Type::BYTEA),
    ("mac", Type::BYTEA),
    ("leaf_hash", Type::BYTEA),
    ("recorded_at", Type::TIMESTAMPTZ),
    ("kind", Type::TEXT),
    ("schema", Type::INT4),
    ("subject_kind", Type::TEXT),
    ("subject_id", Type::TEXT),
    ("pool", Type::TEXT),
    ("actor", Type::TEXT),
    ("incident", Type::TEXT),
    ("command_id", Type::UUID),
];
/// So many of them stand before those that are copied out of the entry.
const SEALED: usize = 4;

/// Entries of so many bytes are lists of a hundred ids and more.
const LONG_BYTES: usize = 4_096;

/// The first of the columns whose type is not the one that it has in our migrations, where a tuple is read by these.
pub(super) fn differing_column<'t>(types: impl ExactSizeIterator<Item = &'t Type>) -> Option<&'static str> {
    debug_assert_eq!(types.len(), COLUMNS.len(), "the statement and the table are one");
    COLUMNS.iter().zip(types).find(|((_, expected), found)| expected != *found).map(|((name, _), _)| *name)
}

/// Tuples in the order in which they were read.
#[derive(Default)]
pub struct RawEvents {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

/// One of them, taken apart as far as the seals need it.
pub struct RawEvent<'a> {
    sealed: Fields<'a, SEALED>,
    /// The fields after those.
    rest: &'a [u8],
}

/// Fields of a tuple. One is `None` where the row has null; all are in a tuple that is no such one.
type Fields<'a, const N: usize> = [Option<&'a [u8]>; N];

/// Those that are copied out of the entry.
struct CopiedFields<'a>(Fields<'a, { COLUMNS.len() - SEALED }>);

/// A value as it came.
struct Wire<'a>(Option<&'a [u8]>);

impl RawEvents {
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// How much memory they fill.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = RawEvent<'_>> {
        (0..self.ends.len()).map(|place| {
            let begin = place.checked_sub(1).map_or(0, |before| self.ends[before]);
            RawEvent::of_tuple(&self.bytes[begin..self.ends[place]])
        })
    }

    /// The entries, in order; nothing where one of them cannot be read.
    #[must_use]
    pub fn entries(&self) -> Option<Vec<Vec<u8>>> {
        self.iter().map(|raw| raw.entry().ok().map(<[u8]>::to_vec)).collect()
    }

    /// Keeps the first so many.
    pub fn truncate(&mut self, count: usize) {
        self.ends.truncate(count);
        self.bytes.truncate(self.ends.last().copied().unwrap_or_default());
    }

    /// Forgets all, and keeps the room.
    #[must_use]
    pub fn emptied(mut self) -> Self {
        self.truncate(0);
        self
    }

    /// A message of a COPY, which holds one tuple, as those that a server sends do (PostgreSQL's manual, "Message Formats",
    /// `CopyData`); what stands before the first, and after the last, is passed over.
    pub(super) fn push_message(&mut self, message: &[u8]) {
        let tuple = message.strip_prefix(SIGNATURE).map_or(message, past_header);
        if !tuple.is_empty() && tuple != TRAILER {
            self.bytes.extend_from_slice(tuple);
            self.ends.push(self.bytes.len());
        }
    }

    /// A row of a statement with these columns.
    pub(super) fn push_row(&mut self, row: &Row) -> Result<(), tokio_postgres::Error> {
        self.bytes.extend(i16::try_from(COLUMNS.len()).unwrap_or(i16::MAX).to_be_bytes());
        for place in 0..COLUMNS.len() {
            let Wire(value) = row.try_get(place)?;
            let length = value.map_or(-1, |value| i32::try_from(value.len()).unwrap_or(i32::MAX));
            self.bytes.extend(length.to_be_bytes());
            self.bytes.extend(value.unwrap_or_default());
        }
        self.ends.push(self.bytes.len());
        Ok(())
    }
}

/// What follows the header, of which the signature was taken off already.
fn past_header(rest: &[u8]) -> &[u8] {
    let Some((numbers, rest)) = rest.split_first_chunk::<8>() else { return &[] };
    let [.., a, b, c, d] = *numbers;
    usize::try_from(u32::from_be_bytes([a, b, c, d])).ok().and_then(|more| rest.get(more..)).unwrap_or_default()
}

impl<'a> RawEvent<'a> {
    fn of_tuple(tuple: &'a [u8]) -> Self {
        let apart = tuple.split_first_chunk::<2>().and_then(|(count, rest)| {
            let is_whole = usize::try_from(i16::from_be_bytes(*count)) == Ok(COLUMNS.len());
            is_whole.then(|| take_fields(rest)).flatten()
        });
        let (sealed, rest) = apart.unwrap_or_default();
        Self { sealed, rest }
    }

    pub(super) fn position(&self) -> Result<i64, &'static str> {
        self.cell(0)
    }

    pub(super) fn entry(&self) -> Result<&'a [u8], &'static str> {
        self.cell(1)
    }

    /// How long the entry is. Of what cannot be read nothing: that is said where it is checked.
    pub fn entry_bytes(&self) -> usize {
        self.sealed[1].map_or(0, <[u8]>::len)
    }

    /// Whether to check it takes as long as many others: a list, mostly.
    pub fn is_long(&self) -> bool {
        self.entry_bytes() >= LONG_BYTES
    }

    pub(super) fn mac(&self) -> Result<&'a [u8], &'static str> {
        self.cell(2)
    }

    pub(super) fn leaf_hash(&self) -> Result<&'a [u8], &'static str> {
        self.cell(3)
    }

    pub(super) fn copied(&self) -> Result<Copied<'a>, &'static str> {
        let whole = take_fields(self.rest).filter(|(_, rest)| rest.is_empty());
        Copied::of(&CopiedFields(whole.map(|(fields, _)| fields).unwrap_or_default()), 0)
    }

    fn cell<T: FromSql<'a>>(&self, place: usize) -> Result<T, &'static str> {
        let (name, column) = &COLUMNS[place];
        T::from_sql_nullable(column, self.sealed[place]).map_err(|_| *name)
    }
}

/// The next so many, and what comes after them.
fn take_fields<const N: usize>(mut rest: &[u8]) -> Option<(Fields<'_, N>, &[u8])> {
    let mut fields = [None; N];
    for field in &mut fields {
        let (length, value) = rest.split_first_chunk::<4>()?;
        rest = value;
        let length = i32::from_be_bytes(*length);
        if length != -1 {
            let (value, after) = rest.split_at_checked(usize::try_from(length).ok()?)?;
            *field = Some(value);
            rest = after;
        }
    }
    Some((fields, rest))
}

impl<'a> Cells<'a> for CopiedFields<'a> {
    fn cell<T: FromSql<'a>>(&self, place: usize, name: &'static str) -> Result<T, &'static str> {
        T::from_sql_nullable(&COLUMNS[SEALED + place].1, self.0[place]).map_err(|_| name)
    }
}

impl<'a> FromSql<'a> for Wire<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Wire(Some(raw)))
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Wire(None))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tuple of `count` fields, of which the first is the position. The others are what can be read as any type that is there.
    fn tuple(count: i16, position: i64) -> Vec<u8> {
        let mut tuple = count.to_be_bytes().to_vec();
        for field in 0..usize::try_from(count).unwrap() {
            let value = match COLUMNS.get(field) {
                Some((_, Type::INT8 | Type::TIMESTAMPTZ)) => position.to_be_bytes().to_vec(),
                Some((_, Type::INT4)) => vec![0; 4],
                Some((_, Type::UUID)) => vec![0; 16],
                _ => b"text".to_vec(),
            };
            tuple.extend(i32::try_from(value.len()).unwrap().to_be_bytes());
            tuple.extend(value);
        }
        tuple
    }

    fn positions(events: &RawEvents) -> Vec<Result<i64, &'static str>> {
        events.iter().map(|event| event.position()).collect()
    }

    #[test]
    fn what_stands_around_the_tuples_is_no_event() {
        let header = [SIGNATURE, &[0; 4], &[0, 0, 0, 2], b"xx"].concat();
        let mut events = RawEvents::default();
        for message in [[header.clone(), tuple(13, 7)].concat(), tuple(13, 8), TRAILER.to_vec()] {
            events.push_message(&message);
        }
        assert_eq!(positions(&events), [Ok(7), Ok(8)]);
        // A server that sends the header by itself.
        let mut events = events.emptied();
        for message in [header, tuple(13, 9), TRAILER.to_vec()] {
            events.push_message(&message);
        }
        assert_eq!(positions(&events), [Ok(9)]);
        // And one that has no tuples, and sends both at once.
        let mut events = events.emptied();
        events.push_message(&[SIGNATURE, &[0; 8], TRAILER].concat());
        assert!(events.is_empty());
    }

    #[test]
    fn a_tuple_that_is_not_one_says_nothing() {
        let whole = tuple(13, 7);
        let mut events = RawEvents::default();
        events.push_message(&whole);
        assert!(events.iter().all(|event| event.position() == Ok(7) && event.copied().is_ok()));
        let longer = [whole.as_slice(), b"x"].concat();
        let mut wrong = vec![tuple(12, 7), tuple(14, 7), longer, b"\0\x0d\xff\xff\xff\xfe".to_vec()];
        wrong.extend((1..whole.len()).map(|end| whole[..end].to_vec()));
        for tuple in wrong {
            let mut events = RawEvents::default();
            events.push_message(&tuple);
            assert!(events.iter().all(|event| event.position().is_err() || event.copied().is_err()), "{tuple:?}");
        }
    }

    #[test]
    fn the_first_of_them_are_kept() {
        let mut events = RawEvents::default();
        for position in 0..4 {
            events.push_message(&tuple(13, position));
        }
        events.truncate(2);
        assert_eq!(positions(&events), [Ok(0), Ok(1)]);
        events.push_message(&tuple(13, 5));
        assert_eq!(positions(&events), [Ok(0), Ok(1), Ok(5)]);
    }
}
