//! What keeps the number of the format from being forgotten: histories that never change, and what this program makes of
//! them.
//!
//! A program that folds these to another state, or writes that state otherwise, must not read the snapshots of the one before
//! it. `UPDATE_GOLDEN=1` writes the new digest once the format has another number, and never otherwise.

use std::fs;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;

use super::super::encoding::FORMAT;
use super::{folded, written};
use crate::domain::decide::tests::interleavings::histories;
use crate::domain::decide::tests::{incidents, plans};
use crate::domain::event::Recorded;
use crate::log::entry;

/// Entries of several logs, one a line; each log begins at position 0.
const HISTORIES: &str = "tests/golden/snapshot/histories.jsonl";
const DIGEST: &str = "tests/golden/snapshot/digest";
const COUNT: usize = 6;
/// The longest of so many runs.
const RUNS: usize = 256;

fn is_updating() -> bool {
    std::env::var_os("UPDATE_GOLDEN").is_some()
}

/// Made once. They are kept and not made anew: what the rules decide, and what a run asks for, may change.
fn make_histories() -> String {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut runs: Vec<_> = (0..RUNS).map(|_| histories().new_tree(&mut runner).unwrap().current()).collect();
    runs.sort_by_key(|run| std::cmp::Reverse(run.len()));
    let mut text = String::new();
    for recorded in runs.iter().take(COUNT).flatten().chain(&plans::history()).chain(&incidents::history()) {
        text.push_str(std::str::from_utf8(&entry::encode(recorded).unwrap()).unwrap());
        text.push('\n');
    }
    text
}

fn kept_histories() -> Vec<Vec<Recorded>> {
    if is_updating() && !fs::exists(HISTORIES).unwrap() {
        fs::create_dir_all("tests/golden/snapshot").unwrap();
        fs::write(HISTORIES, make_histories()).unwrap();
    }
    let mut histories: Vec<Vec<Recorded>> = Vec::new();
    for line in fs::read_to_string(HISTORIES).unwrap().lines() {
        let recorded = entry::decode(line.as_bytes()).unwrap();
        if recorded.position == 0 {
            histories.push(Vec::new());
        }
        histories.last_mut().unwrap().push(recorded);
    }
    histories
}

#[test]
fn another_fold_or_another_shape_is_another_format() {
    let mut hasher = blake3::Hasher::new();
    for history in kept_histories() {
        // Not the last state alone: what happens later may cover what a change has done earlier.
        for end in (0..=history.len()).step_by(16).chain([history.len()]) {
            hasher.update(&written(&folded(&history[..end])));
        }
    }
    let found = format!("format {FORMAT}: {}\n", hasher.finalize());
    let kept = fs::read_to_string(DIGEST).unwrap_or_default();
    if is_updating() && !kept.starts_with(&format!("format {FORMAT}: ")) {
        fs::write(DIGEST, &found).unwrap();
        return;
    }
    assert_eq!(
        found, kept,
        "the Roll has another shape, or an event another meaning: raise FORMAT in src/node/snapshot/encoding.rs, so that no \
         snapshot of the program before is read, and run this test with UPDATE_GOLDEN=1"
    );
}
