//! One spelling of everything is read, and no other.

use std::collections::BTreeMap;

use super::*;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

fn any_text() -> impl Strategy<Value = String> {
    vec(any::<char>(), 0..12).prop_map(String::from_iter)
}

#[test]
fn one_spelling_is_read() {
    let table = [
        (r#""a""#, Ok("a")),
        (r#""\"\\\b\t\n\f\r\u001f""#, Ok("\"\\\u{8}\t\n\u{c}\r\u{1f}")),
        ("\"\u{7f}/\u{1f600}\"", Ok("\u{7f}/\u{1f600}")),
        (r#""long enough for a word, then \\ and more""#, Ok("long enough for a word, then \\ and more")),
        (r#""\/""#, Err(ReadError::NotCanonical)),
        (r#""\u000a""#, Err(ReadError::NotCanonical)),
        (r#""\u001F""#, Err(ReadError::NotCanonical)),
        (r#""\u0041""#, Err(ReadError::NotCanonical)),
        (r#""\ud83d\ude00""#, Err(ReadError::NotCanonical)),
        ("\"\n\"", Err(ReadError::NotCanonical)),
        (r#""a"#, Err(ReadError::NotCanonical)),
        (r#""a\"#, Err(ReadError::NotCanonical)),
        (r#" "a""#, Err(ReadError::NotCanonical)),
        (r#""a" "#, Err(ReadError::NotCanonical)),
        ("null", Err(ReadError::NotCanonical)),
        ("1", Err(ReadError::Shape)),
    ];
    for (text, expected) in table {
        assert_eq!(read::<String>(text).as_deref(), expected.as_ref().copied(), "{text}");
    }
}

#[test]
fn numbers_are_whole_and_have_no_sign() {
    let table = [("0", true), ("18446744073709551615", true), ("18446744073709551616", false)];
    let refused = ["", "00", "01", "-0", "-1", "+1", "1.0", "1e3", "1 "].map(|text| (text, false));
    for (text, is_read) in table.into_iter().chain(refused) {
        assert_eq!(read::<u64>(text).is_ok(), is_read, "{text}");
    }
}

#[test]
fn names_are_in_order_and_come_once() {
    let table = [
        ("{}", true),
        (r#"{"a":1,"b":2}"#, true),
        ("{\"a\":1,\"\u{1f600}\":2,\"\u{ffff}\":3}", true),
        ("{\"\u{ffff}\":1,\"\u{1f600}\":2}", false),
        (r#"{"b":1,"a":2}"#, false),
        (r#"{"a":1,"a":2}"#, false),
        (r#"{"a":1,}"#, false),
        (r#"{,"a":1}"#, false),
        (r#"{"a":1 ,"b":2}"#, false),
        (r#"{"a" :1}"#, false),
        (r#"{"a":1"#, false),
        (r#"{"a":1]"#, false),
    ];
    for (text, is_read) in table {
        assert_eq!(read::<BTreeMap<String, u64>>(text).is_ok(), is_read, "{text}");
    }
}

/// Names of which one begins another, and not all of which have to be there.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    a: Option<u64>,
    ab: u64,
    b: Option<u64>,
}

#[test]
fn a_struct_is_read_from_what_a_map_is_read_from() {
    let known = |a, ab, b| Ok(Known { a, ab, b });
    let table = [
        (r#"{"ab":2}"#, known(None, 2, None)),
        (r#"{"a":1,"ab":2,"b":3}"#, known(Some(1), 2, Some(3))),
        (r#"{"ab":2,"b":3}"#, known(None, 2, Some(3))),
        (r#"{"a":1}"#, Err(ReadError::Shape)),
        (r#"{"a":1,"aa":1,"ab":2}"#, Err(ReadError::Shape)),
        (r#"{"ab":2,"c":3}"#, Err(ReadError::Shape)),
        (r#"{"":0,"ab":2}"#, Err(ReadError::Shape)),
        (r#"{"ab":2,"a":1}"#, Err(ReadError::NotCanonical)),
        (r#"{"ab":2,"ab":2}"#, Err(ReadError::NotCanonical)),
        (r#"{"ab":2,"aa":2}"#, Err(ReadError::NotCanonical)),
        (r#"{"a":1"ab":2}"#, Err(ReadError::NotCanonical)),
        (r#"{,"ab":2}"#, Err(ReadError::NotCanonical)),
        (r#"{"ab":2,}"#, Err(ReadError::NotCanonical)),
        (r#"{"ab" :2}"#, Err(ReadError::NotCanonical)),
        (r#"{"ab":2"#, Err(ReadError::NotCanonical)),
        (r#"{"\u0061b":2}"#, Err(ReadError::NotCanonical)),
        (r#"{"ab"#, Err(ReadError::NotCanonical)),
        (r#"["ab",2]"#, Err(ReadError::Shape)),
        ("[1,2,3]", Err(ReadError::Shape)),
        ("2", Err(ReadError::Shape)),
    ];
    for (text, expected) in table {
        assert_eq!(read::<Known>(text), expected, "{text}");
    }
}

/// What takes no notice of names that it does not know has to come to the same order as the others.
#[derive(Debug, PartialEq, Deserialize)]
struct Lenient {
    b: Option<u64>,
    d: Option<u64>,
}

#[test]
fn names_that_are_not_known_are_in_order_too() {
    let table = [
        (r#"{"a":1,"b":2,"c":3,"d":4,"e":5}"#, Ok(Lenient { b: Some(2), d: Some(4) })),
        (r#"{"c":3,"b":2}"#, Err(ReadError::NotCanonical)),
        (r#"{"b":2,"e":3,"d":4}"#, Err(ReadError::NotCanonical)),
        (r#"{"b":2,"c":3,"c":3,"d":4}"#, Err(ReadError::NotCanonical)),
    ];
    for (text, expected) in table {
        assert_eq!(read::<Lenient>(text), expected, "{text}");
    }
}

/// A release does not look: it would for every entry.
#[cfg(debug_assertions)]
#[test]
fn a_struct_whose_fields_are_not_in_order_is_not_read() {
    #[derive(Deserialize)]
    #[expect(dead_code, reason = "never read")]
    struct Disordered {
        b: u64,
        a: u64,
    }
    let read_it = || read::<Disordered>(r#"{"b":1,"a":2}"#).is_ok();
    assert!(std::panic::catch_unwind(read_it).is_err());
}

#[test]
fn a_raw_value_ends_where_its_brackets_close() {
    let table = [
        (r#"{"a":{"b":["}","\"}"]},"c":1}"#, Some(r#"{"b":["}","\"}"]}"#)),
        (r#"{"a":"}\\","c":1}"#, Some(r#""}\\""#)),
        (r#"{"a":{"b":1,"c":1}"#, None),
        (r#"{"a":"b\"#, None),
        (r#"{"a":]"#, None),
    ];
    for (text, expected) in table {
        let members = read::<BTreeMap<&str, Raw<'_>>>(text).ok();
        let found = members.and_then(|members| members.get("a").map(|raw| raw.0));
        assert_eq!(found, expected, "{text}");
    }
}

/// Members as text, of names that a struct has and names like them, in any order.
fn any_members() -> impl Strategy<Value = String> {
    let name =
        prop_oneof![4 => Just("a"), 4 => Just("ab"), 4 => Just("b"), 1 => Just("aa"), 1 => Just(""), 1 => Just("c")];
    let member = name.prop_map(|name| format!("\"{name}\":1"));
    vec(member, 0..5).prop_map(|members| format!("{{{}}}", members.join(",")))
}

proptest! {
    #[test]
    fn a_struct_is_read_where_a_map_of_its_names_is(text in any_members()) {
        let map = read::<BTreeMap<&str, u64>>(&text);
        let as_struct = |map: BTreeMap<&str, u64>| {
            let value = |name| map.get(name).copied();
            let is_known = map.keys().all(|name| matches!(*name, "a" | "ab" | "b"));
            let known = value("ab").map(|ab| Known { a: value("a"), ab, b: value("b") });
            known.filter(|_| is_known).ok_or(ReadError::Shape)
        };
        let found = read::<Known>(&text);
        match map {
            Ok(map) => prop_assert_eq!(found, as_struct(map)),
            // What is unknown and comes before what is out of order is the first fault there is.
            Err(_) => prop_assert!(found.is_err()),
        }
    }

    #[test]
    fn what_the_writer_writes_is_read(members in btree_map(any_text(), vec(any_text(), 0..3), 0..5)) {
        let text = serde_json_canonicalizer::to_string(&members).unwrap();
        prop_assert_eq!(read(&text), Ok(members));
    }

    #[test]
    fn a_run_ends_at_the_first_byte_that_does_not_stand_for_itself(bytes: Vec<u8>, from in 0..9_usize) {
        let from = from.min(bytes.len());
        let special = |byte: &u8| *byte < 0x20 || matches!(byte, b'"' | b'\\');
        let expected = bytes[from..].iter().position(special).map_or(bytes.len(), |at| from + at);
        prop_assert_eq!(plain_end(&bytes, from), expected);
    }
}
