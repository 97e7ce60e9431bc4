//! A snapshot is the state, or it is nothing: no history tells a start from one apart from the fold, and no damage gets in.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::strategy::ValueTree as _;
use tempfile::TempDir;

use super::encoding::{self, Unusable};
use super::{Found, Snapshots};
use crate::credential::root_key::{DerivedKeys, RootKey};
use crate::domain::decide::tests::interleavings::histories;
use crate::domain::decide::tests::plans;
use crate::domain::event::Recorded;
use crate::domain::ids::LogId;
use crate::domain::roll::Roll;
use crate::log::entry;
use crate::log::head::Head;
use crate::node::replay::Folded;

mod golden;
mod keeping;

const LOG: LogId = LogId(9);
/// Where the format stands: after the magic.
const FORMAT_AT: usize = 16;

fn keys() -> Arc<DerivedKeys> {
    RootKey::from_bytes([7; 32]).derive()
}

/// What a node holds that has folded these.
fn folded(events: &[Recorded]) -> Folded {
    let (keys, mut head, mut roll) = (keys(), Head::genesis(&keys(), LOG), Roll::default());
    for recorded in events {
        head.seals.advance(keys.log_chain(), &entry::encode(recorded).unwrap());
        (head.next_position, head.recorded_at) = (recorded.position + 1, recorded.recorded_at);
        head.version += 1;
        roll.apply(recorded);
    }
    Folded { roll, head }
}

fn written(state: &Folded) -> Vec<u8> {
    let mut bytes = Vec::new();
    encoding::write(&mut bytes, &keys(), LOG, &state.head, &state.roll).unwrap();
    bytes
}

fn read(bytes: &[u8]) -> Result<Folded, Unusable> {
    encoding::open(bytes, &keys())?.decode()
}

/// The bytes with a digest that fits them, as whoever has the root key could make it.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.len() - 32;
    let digest = blake3::keyed_hash(keys().snapshot(), &bytes[..end]);
    bytes[end..].copy_from_slice(digest.as_bytes());
    bytes
}

/// The same history in each run.
fn a_history() -> Vec<Recorded> {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    histories().new_tree(&mut runner).unwrap().current()
}

fn configuration() -> ProptestConfig {
    ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(configuration())]

    #[test]
    fn from_a_snapshot_and_the_tail_comes_the_roll_that_is_folded_from_nothing(log in histories(), cut: Index) {
        let (before, after) = log.split_at(cut.index(log.len() + 1));
        let state = folded(before);
        let mut resumed = read(&written(&state)).unwrap();
        prop_assert!(resumed.roll == state.roll);
        prop_assert_eq!(&resumed.head, &state.head);
        prop_assert_eq!(written(&resumed), written(&state), "the same state is the same bytes");
        for recorded in after {
            resumed.roll.apply(recorded);
        }
        prop_assert!(resumed.roll == folded(&log).roll);
    }
}

/// With plans in every state, which random histories have none of.
#[test]
fn plans_come_back_as_they_were() {
    let log = plans::history();
    for cut in 0..=log.len() {
        let mut resumed = read(&written(&folded(&log[..cut]))).unwrap();
        for recorded in &log[cut..] {
            resumed.roll.apply(recorded);
        }
        assert!(resumed.roll == folded(&log).roll, "cut at {cut}");
    }
}

#[test]
fn any_byte_that_was_flipped_and_any_end_that_was_cut_off_is_noticed() {
    let bytes = written(&folded(&a_history()));
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        assert!(encoding::open(&flipped, &keys()).is_err(), "byte {at} flipped");
        assert!(encoding::open(&bytes[..at], &keys()).is_err(), "cut off at {at}");
    }
    assert!(encoding::open(&[&bytes[..], &[0]].concat(), &keys()).is_err());
    assert!(encoding::open(&bytes, &RootKey::from_bytes([8; 32]).derive()).is_err());
    assert!(encoding::open(&bytes, &keys()).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..configuration() })]

    /// With the root key one can write what is no Roll. It is an error, and no panic and no memory without end.
    #[test]
    fn bytes_that_are_no_roll_end_nothing(changes in prop::collection::vec((any::<Index>(), any::<u8>()), 1..4)) {
        let mut bytes = written(&folded(&a_history()));
        let frames = FORMAT_AT + 4..bytes.len() - 32;
        for (at, byte) in changes {
            bytes[frames.start + at.index(frames.len())] = byte;
        }
        drop(read(&sealed(bytes)));
    }

    #[test]
    fn strangers_bytes_are_no_snapshot(bytes: Vec<u8>) {
        prop_assert!(encoding::open(&bytes, &keys()).is_err());
        prop_assert!(encoding::open(&sealed([&bytes[..], &[0; 32]].concat()), &keys()).is_err());
    }
}

// === files ===

fn store(folder: &TempDir) -> Snapshots {
    Snapshots::in_folder(folder.path().join("snapshots"), keys())
}

fn positions(snapshots: &Snapshots) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(snapshots.folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Where the state ends that was found, and where the newest snapshot of the log.
fn ends(found: &Found) -> (Option<u64>, Option<u64>) {
    let state = found.state.as_ref().map(|state| state.head.next_position);
    (state, found.seen.as_ref().map(|seen| seen.next_position))
}

fn write(snapshots: &Snapshots, events: &[Recorded]) {
    let state = folded(events);
    snapshots.write(LOG, &state.head, &state.roll).unwrap();
}

#[test]
fn the_newest_two_are_kept_for_the_owner_alone_and_a_draft_is_none() {
    let (folder, log) = (tempfile::tempdir().unwrap(), a_history());
    let snapshots = store(&folder);
    assert_eq!(ends(&snapshots.newest(LOG)), (None, None));
    write(&snapshots, &log[..5]);
    fs::write(snapshots.folder().join("00000000000000000099.roll.new"), "half").unwrap();
    assert_eq!(ends(&snapshots.newest(LOG)), (Some(5), Some(5)));
    for end in [7, 11, 13] {
        write(&snapshots, &log[..end]);
    }
    assert_eq!(positions(&snapshots), ["00000000000000000011.roll", "00000000000000000013.roll"]);
    assert_eq!(ends(&snapshots.newest(LOG)), (Some(13), Some(13)));
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(snapshots.folder()), 0o700);
    assert_eq!(mode(&snapshots.folder().join("00000000000000000013.roll")), 0o600);
}

/// Each is ignored, and the one before it is used.
#[test]
fn one_that_is_damaged_foreign_or_of_another_format_gives_way_to_the_one_before() {
    let log = a_history();
    let state = folded(&log[..9]);
    let (good, mut of_another_log) = (written(&state), Vec::new());
    encoding::write(&mut of_another_log, &keys(), LogId(8), &state.head, &state.roll).unwrap();
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    let mut of_another_format = good.clone();
    of_another_format[FORMAT_AT] ^= 0x80;
    // What of them still says that the log had come that far.
    let table = [
        ("damaged", flipped, None),
        ("cut off", good[..good.len() / 2].to_vec(), None),
        ("empty", Vec::new(), None),
        ("of another log", of_another_log, None),
        ("of another format", sealed(of_another_format), Some(9)),
    ];
    for (what, bytes, seen) in table {
        let folder = tempfile::tempdir().unwrap();
        let snapshots = store(&folder);
        write(&snapshots, &log[..5]);
        fs::write(snapshots.folder().join("00000000000000000009.roll"), bytes).unwrap();
        assert_eq!(ends(&snapshots.newest(LOG)), (Some(5), seen.or(Some(5))), "{what}");
    }
}

#[test]
fn what_cannot_be_written_leaves_what_was_there() {
    let (folder, log) = (tempfile::tempdir().unwrap(), a_history());
    let snapshots = store(&folder);
    write(&snapshots, &log[..5]);
    let failed = super::file::write(snapshots.folder(), 9, |_| Err(std::io::ErrorKind::StorageFull.into()));
    assert_eq!(failed.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
    assert_eq!(positions(&snapshots), ["00000000000000000005.roll"]);
}

#[test]
fn of_two_snapshots_the_one_is_found_that_holds_nothing_of_what_is_to_be_told() {
    let folder = TempDir::new().unwrap();
    let (log, snapshots) = (a_history(), store(&folder));
    let early = log.len() / 3;
    for cut in [early, early * 2] {
        let state = folded(&log[..cut]);
        snapshots.write(LOG, &state.head, &state.roll).unwrap();
    }
    let found = |log, before: usize| {
        let found = snapshots.newest_before(log, before as u64);
        found.map(|state| usize::try_from(state.head.next_position).unwrap())
    };
    assert!(early > 0, "the history has some events");
    for (before, expected) in [
        (log.len(), Some(early * 2)),
        (early * 2, Some(early * 2)),
        (early * 2 - 1, Some(early)),
        (early, Some(early)),
        (early - 1, None),
    ] {
        assert_eq!(found(LOG, before), expected, "before {before}");
    }
    assert_eq!(found(LogId(8), log.len()), None, "of another log");
    // What is damaged is none, and the one before it does as well.
    let newest = snapshots.folder().join(format!("{:020}.roll", early * 2));
    fs::write(newest, b"portcullis roll\n").unwrap();
    assert_eq!(found(LOG, log.len()), Some(early));
}
