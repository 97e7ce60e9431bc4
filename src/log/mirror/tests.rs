//! What a mirror gives back, what it notices, and what a crash leaves of it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use tempfile::TempDir;

use super::writer::SEGMENT_BYTES_MAX;
use super::*;
use crate::credential::root_key::RootKey;

const LOG: LogId = LogId(9);

fn mirror(folder: &TempDir) -> Mirror {
    Mirror::in_folder(folder.path().join("mirror"), RootKey::from_bytes([7; 32]).derive())
}

fn entry(position: u64) -> Vec<u8> {
    format!("the entry at {position}").into_bytes()
}

/// Adds the entries at these positions, with segments so small that each has a few.
fn add(mirror: &Mirror, positions: std::ops::Range<u64>) -> Writer {
    let mut writer = Writer::with_segments_of(mirror.clone(), LOG, 400).unwrap();
    for position in positions {
        assert_eq!(writer.seen().next_position, position);
        writer.add([entry(position).as_slice()]).unwrap();
    }
    writer.sync().unwrap();
    writer
}

fn read(mirror: &Mirror, from: u64) -> Result<Vec<u64>, MirrorError> {
    let mut reader = mirror.read_from(from)?.unwrap();
    let mut positions = Vec::new();
    while let Some(copied) = reader.read_next()? {
        assert_eq!(copied.entry, entry(copied.position));
        positions.push(copied.position);
    }
    Ok(positions)
}

#[test]
fn what_was_added_is_read_back_over_all_segments_and_goes_on_where_it_ended() {
    let folder = TempDir::new().unwrap();
    let mirror = mirror(&folder);
    assert_eq!(mirror.end().unwrap(), None);
    let end = add(&mirror, 0..20).seen().clone();
    let end_again = add(&mirror, 20..50).seen().clone();
    assert_ne!(end, end_again);
    assert_eq!(mirror.end().unwrap(), Some(end_again.clone()));
    assert_eq!(read(&mirror, 0).unwrap(), (0..50).collect::<Vec<_>>());
    let later = read(&mirror, 33).unwrap();
    assert!(later[0] <= 33 && later[0] > 0 && later.last() == Some(&49), "{later:?}");
    let segments = mirror.segments().unwrap();
    assert!(segments.len() > 5, "{segments:?}");
    for (_, path) in segments {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn a_second_writer_and_another_log_are_refused() {
    let folder = TempDir::new().unwrap();
    let mirror = mirror(&folder);
    let writer = add(&mirror, 0..3);
    assert!(matches!(Writer::open(mirror.clone(), LOG), Err(MirrorError::InUse(_))));
    drop(writer);
    assert!(matches!(Writer::open(mirror.clone(), LogId(8)), Err(MirrorError::Foreign(_))));
    let other = Mirror::in_folder(mirror.folder().to_owned(), RootKey::from_bytes([8; 32]).derive());
    assert!(matches!(other.end(), Err(MirrorError::Damaged { position: 0, .. })));
}

/// Cut anywhere, as `kill -9` or a full disk leaves it, the newest segment ends with its last whole record.
#[test]
fn a_last_record_that_is_not_whole_is_cut_off() {
    let folder = TempDir::new().unwrap();
    let mirror = mirror(&folder);
    let mut writer = Writer::with_segments_of(mirror.clone(), LOG, SEGMENT_BYTES_MAX).unwrap();
    writer.add([entry(0).as_slice(), entry(1).as_slice()]).unwrap();
    let before = writer.seen().clone();
    let path = mirror.segments().unwrap()[0].1.clone();
    let whole = fs::metadata(&path).unwrap().len();
    writer.add([entry(2).as_slice()]).unwrap();
    drop(writer);
    let bytes = fs::read(&path).unwrap();
    for length in usize::try_from(whole).unwrap()..bytes.len() {
        fs::write(&path, &bytes[..length]).unwrap();
        assert_eq!(mirror.end().unwrap().as_ref(), Some(&before), "{length} bytes");
        let mut again = Writer::open(mirror.clone(), LOG).unwrap();
        assert_eq!((again.seen(), fs::metadata(&path).unwrap().len()), (&before, whole));
        again.add([entry(2).as_slice()]).unwrap();
        assert_eq!(fs::read(&path).unwrap(), bytes, "written again as it was");
    }
}

/// Every byte of it counts, and what is wrong is found where it is, or before.
#[test]
fn a_byte_that_was_changed_is_noticed_with_its_position() {
    let folder = TempDir::new().unwrap();
    let mirror = mirror(&folder);
    drop(add(&mirror, 0..12));
    for (_, path) in mirror.segments().unwrap() {
        let bytes = fs::read(&path).unwrap();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            fs::write(&path, changed).unwrap();
            match read(&mirror, 0) {
                Err(MirrorError::Damaged { position, .. }) => assert!(position < 12),
                // A length that was made longer than the newest segment is looks like a record that was cut off.
                Ok(positions) => assert!(positions.len() < 12, "byte {at} of {}", path.display()),
                Err(error) => panic!("{error}"),
            }
        }
        fs::write(&path, bytes).unwrap();
    }
    assert_eq!(read(&mirror, 0).unwrap().len(), 12);
}

#[test]
fn a_segment_that_is_missing_cut_or_of_elsewhere_is_noticed() {
    let folder = TempDir::new().unwrap();
    let mirror = mirror(&folder);
    drop(add(&mirror, 0..30));
    let segments = mirror.segments().unwrap();
    let (second, third) = (&segments[1].1, &segments[2].1);
    let bytes = fs::read(second).unwrap();
    fs::remove_file(second).unwrap();
    assert!(matches!(read(&mirror, 0), Err(MirrorError::Damaged { position, .. }) if position == segments[1].0));
    fs::write(second, &bytes[..bytes.len() - 1]).unwrap();
    assert!(matches!(read(&mirror, 0), Err(MirrorError::Damaged { .. })));
    fs::copy(third, second).unwrap();
    assert!(matches!(read(&mirror, 0), Err(MirrorError::Damaged { position, .. }) if position == segments[1].0));
    fs::write(second, bytes).unwrap();
    fs::remove_file(&segments[0].1).unwrap();
    assert!(matches!(read(&mirror, 0), Err(MirrorError::BeginsLater { needed: 0, .. })));
    assert_eq!(read(&mirror, segments[1].0).unwrap().len() as u64, 30 - segments[1].0);
}

#[test]
fn what_is_put_aside_is_kept_and_looked_at_no_more() {
    let folder = TempDir::new().unwrap();
    let mirror = mirror(&folder);
    drop(add(&mirror, 0..30));
    let third = mirror.segments().unwrap()[2].0;
    let aside = mirror.set_aside_from(third).unwrap().unwrap();
    assert!(aside.is_dir());
    assert_eq!(mirror.end().unwrap().unwrap().next_position, third);
    assert_eq!(mirror.set_aside_from(third).unwrap(), None);
    drop(add(&mirror, third..40));
    assert_eq!(read(&mirror, 0).unwrap().len(), 40);
    assert_ne!(mirror.set_aside_from(third).unwrap(), Some(aside));
}
