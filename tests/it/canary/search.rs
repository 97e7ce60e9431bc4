//! Looking for canaries in anything, in every spelling that something of ours or of Postgres writes bytes in.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use regex::bytes::{Regex, RegexBuilder};

pub(super) struct Needles {
    /// One for each canary; the name is what may be printed.
    spellings: Vec<(String, String)>,
    any: Regex,
}

impl Needles {
    pub(super) fn new(canaries: &[(String, String)]) -> Self {
        let mut spellings = Vec::new();
        for (name, canary) in canaries {
            assert!(canary.len() >= 16, "{name} is too short to be looked for");
            for spelling in spellings_of(canary) {
                spellings.push((name.clone(), spelling));
            }
        }
        let pattern: Vec<String> = spellings.iter().map(|(_, spelling)| regex::escape(spelling)).collect();
        let any = RegexBuilder::new(&pattern.join("|")).size_limit(1 << 28).unicode(false).build().unwrap();
        Self { spellings, any }
    }

    /// The names of the canaries in there.
    pub(super) fn found_in(&self, haystack: &[u8]) -> Vec<String> {
        let found = self.any.find_iter(haystack).map(|found| {
            let named = self.spellings.iter().find(|(_, spelling)| spelling.as_bytes() == found.as_bytes());
            named.map_or_else(|| "?".to_owned(), |(name, _)| name.clone())
        });
        found.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The lines around the first few of them, for the report of a failure.
    pub(super) fn lines_of(&self, haystack: &[u8]) -> String {
        let mut text = String::new();
        for found in self.any.find_iter(haystack).take(3) {
            let around = &haystack[found.start().saturating_sub(200)..(found.end() + 40).min(haystack.len())];
            writeln!(text, "\n  … {} …", String::from_utf8_lossy(around)).unwrap();
        }
        text
    }
}

/// As it is, as `bytea` is dumped, in base64, percent-encoded as in a form, and as a list of numbers, which is how Rust
/// prints bytes for debugging.
fn spellings_of(canary: &str) -> Vec<String> {
    let bytes = canary.as_bytes();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let numbers: Vec<String> = bytes.iter().map(u8::to_string).collect();
    let encoded: String = url_encoded(canary);
    let mut all = vec![canary.to_owned(), hex.to_uppercase(), hex, numbers.join(", ")];
    all.extend([STANDARD_NO_PAD.encode(bytes), URL_SAFE_NO_PAD.encode(bytes), encoded]);
    all.sort();
    all.dedup();
    all
}

fn url_encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
