//! That every event survives being written, and that bytes which are not what we would write are refused.

mod arbitrary;

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use self::arbitrary::recorded;
use super::*;
use crate::domain::ids::CommandId;
use crate::log::schema::KINDS;

/// The smallest of events, to change one thing of.
fn plain(event: Event) -> Recorded {
    Recorded {
        position: 0,
        recorded_at: Timestamp(1),
        occurred_at: Timestamp(0),
        author: Author::system(),
        command: CommandId(0),
        cause: None,
        incident: None,
        reason: None,
        event,
    }
}

fn removed() -> Recorded {
    plain(Event::WorkerRemoved { worker: "w".parse().unwrap() })
}

/// An entry that is read must be the very one that would be written.
fn is_refused_or_canonical(entry: &[u8]) -> bool {
    decode(entry).map_or(true, |recorded| encode(&recorded).as_deref() == Ok(entry))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn what_is_written_is_read_again(recorded in recorded()) {
        let entry = encode(&recorded).unwrap();
        prop_assert_eq!(decode(&entry), Ok(recorded));
    }

    /// Our writer relies on the order of the fields of its structs; a library that sorts for itself has to agree.
    #[test]
    fn what_is_written_is_canonical_json(recorded in recorded()) {
        let entry = encode(&recorded).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&entry).unwrap();
        prop_assert_eq!(serde_json_canonicalizer::to_vec(&value).unwrap(), entry);
    }

    #[test]
    fn any_bytes_are_refused_without_a_panic(bytes in vec(any::<u8>(), 0..200)) {
        prop_assert!(decode(&bytes).is_err());
    }

    #[test]
    fn a_changed_entry_is_refused_or_is_another_canonical_one(
        recorded in recorded(),
        at: Index,
        byte in prop_oneof![any::<u8>(), select(b" \"\\,:{}[]0123456789aAeEfFuU-+.".to_vec())],
        how in 0..3,
    ) {
        let mut entry = encode(&recorded).unwrap();
        let at = at.index(entry.len());
        match how {
            0 => entry[at] = byte,
            1 => entry.insert(at, byte),
            _ => drop(entry.remove(at)),
        }
        prop_assert!(is_refused_or_canonical(&entry), "{}", String::from_utf8_lossy(&entry));
    }
}

#[test]
fn other_spellings_of_an_entry_are_refused() {
    let entry = String::from_utf8(encode(&removed()).unwrap()).unwrap();
    assert!(decode(entry.as_bytes()).is_ok());
    let malformed = |field| EntryError::Malformed { field };
    let table = [
        ("", " ", EntryError::NotCanonical),
        (r#""position":0"#, r#""position": 0"#, EntryError::NotCanonical),
        (r#""position":0"#, r#""position":0,"reason":null"#, EntryError::NotCanonical),
        (r#""position":0"#, r#""position":9007199254740992"#, malformed("position")),
        (r#""position":0"#, r#""position":-0"#, EntryError::NotCanonical),
        (r#""position":0"#, r#""position":0,"position":0"#, EntryError::NotCanonical),
        (r#""position":0"#, r#""position":0,"q":"s3cret""#, malformed("not an entry's fields")),
        (r#"{"worker":"w"}"#, r#"{"worker":"\u0077"}"#, EntryError::NotCanonical),
        (r#"{"worker":"w"}"#, r#"{ "worker":"w"}"#, EntryError::NotCanonical),
        (r#"{"worker":"w"}"#, r#"{"secret":"s3cret","worker":"w"}"#, malformed("data")),
        (r#"{"worker":"w"}"#, r#"{"worker":"v"}"#, malformed("subject")),
        (r#"{"worker":"w"}"#, r#"["w"]"#, malformed("data")),
        (r#"{"id":"w","kind":"worker"}"#, r#"["w","worker"]"#, malformed("not an entry's fields")),
        (r#"{"id":"w","kind":"worker"}"#, r#"{"kind":"worker","id":"w"}"#, EntryError::NotCanonical),
        (r#"{"id":"w","kind":"worker"}"#, r#"{"id":"w","kind":"key"}"#, malformed("subject")),
        (r#"{"kind":"system"}"#, r#"{"id":"w","kind":"system"}"#, malformed("actor")),
        (r#""subject""#, r#""source":"::FFFF:1.2.3.4","subject""#, malformed("source")),
        (r#""schema":1"#, r#""schema":2"#, EntryError::Unknown { kind: "worker.removed".to_owned(), schema: 2 }),
        ("worker.removed", "worker.promoted", EntryError::Unknown { kind: "worker.promoted".to_owned(), schema: 1 }),
        ("worker.removed", "s3cret", malformed("kind")),
    ];
    for (from, to, expected) in table {
        let changed = entry.replacen(from, to, 1);
        let error = decode(changed.as_bytes()).expect_err(&changed);
        assert_eq!(error, expected, "{changed}");
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }
}

/// Names of labels are compared as UTF-16 (RFC 8785, section 3.2.3), and none comes twice.
#[test]
fn labels_have_one_order() {
    let labels = ["\u{ffff}", "\u{1f600}", "a"].into_iter().map(|name| (Arc::from(name), Arc::from(""))).collect();
    let worker = "w".parse().unwrap();
    let recorded = plain(Event::WorkerUpdated { worker, name: None, labels, expires_at: None });
    let entry = String::from_utf8(encode(&recorded).unwrap()).unwrap();
    let written = "{\"a\":\"\",\"\u{1f600}\":\"\",\"\u{ffff}\":\"\"}";
    assert!(entry.contains(written), "{entry}");
    for other in [
        "{\"a\":\"\",\"\u{ffff}\":\"\",\"\u{1f600}\":\"\"}",
        "{\"a\":\"\",\"a\":\"\",\"\u{1f600}\":\"\",\"\u{ffff}\":\"\"}",
    ] {
        assert_eq!(decode(entry.replace(written, other).as_bytes()), Err(EntryError::NotCanonical), "{other}");
    }
}

#[test]
fn what_an_entry_cannot_hold_is_not_written() {
    let large = Recorded { reason: Some("x".repeat(ENTRY_BYTES_MAX).into()), ..removed() };
    assert_eq!(encode(&large), Err(EntryError::TooLarge { kind: "worker.removed" }));
    let far = Recorded { position: NUMBER_MAX + 1, ..removed() };
    assert_eq!(encode(&far), Err(EntryError::Unwritable { field: "position" }));
    let late = Recorded { recorded_at: Timestamp::MAX, ..removed() };
    assert_eq!(encode(&late), Err(EntryError::Unwritable { field: "recorded_at" }));
}

/// The longest entry is still read, and one byte more is not even looked at.
#[test]
fn an_entry_may_have_so_many_bytes() {
    let of_length = |length: usize| Recorded { reason: Some("x".repeat(length).into()), ..removed() };
    let frame = encode(&of_length(0)).unwrap().len();
    let longest = of_length(ENTRY_BYTES_MAX - frame);
    let entry = encode(&longest).unwrap();
    assert_eq!(entry.len(), ENTRY_BYTES_MAX);
    assert_eq!(decode(&entry), Ok(longest));
    assert_eq!(encode(&of_length(ENTRY_BYTES_MAX - frame + 1)), Err(EntryError::TooLarge { kind: "worker.removed" }));
    let error = EntryError::Malformed { field: "longer than an entry can be" };
    assert_eq!(decode(&[entry, b" ".to_vec()].concat()), Err(error));
}

/// A kind that the table of kinds lists has a reader, and is listed once.
#[test]
fn every_kind_has_a_reader() {
    let entry = String::from_utf8(encode(&removed()).unwrap()).unwrap();
    for (kind, schema) in KINDS {
        let other = entry.replace("worker.removed", kind).replace("\"schema\":1", &format!("\"schema\":{schema}"));
        assert!(!matches!(decode(other.as_bytes()), Err(EntryError::Unknown { .. })), "{kind}@{schema}");
    }
    assert_eq!(KINDS.iter().collect::<BTreeSet<_>>().len(), KINDS.len());
}

#[test]
fn columns_repeat_what_the_entry_says() {
    let recorded = Recorded {
        author: Author { actor: Actor::Worker("w".parse().unwrap()), ..Author::system() },
        incident: Some("i".parse().unwrap()),
        command: CommandId(7),
        ..plain(Event::PoolRemoved { pool: "p".parse().unwrap() })
    };
    let pool = "p".parse().unwrap();
    let expected = Columns {
        position: 0,
        recorded_at: Timestamp(1),
        kind: "pool.removed",
        schema: 1,
        subject_kind: "pool",
        subject_id: "p".to_owned(),
        pool: Some(&pool),
        actor: "worker:w".to_owned(),
        incident: Some("i"),
        command_id: Uuid::from_u128(7),
    };
    assert_eq!(columns(&recorded), expected);
}
