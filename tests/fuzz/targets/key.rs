//! Any text as an API key: no panic, and what parses has the one form that keys have.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::credential::key::{KEY_CHARS, looks_like_key, parse};

fuzz_target!(|text: &str| {
    if let Ok(key) = parse(text) {
        assert!(looks_like_key(text) && text.len() == KEY_CHARS && text.is_ascii());
        assert_eq!(text[4..6], *key.kind.letters());
        assert_eq!(text[7..29], key.id.to_string());
    }
});
