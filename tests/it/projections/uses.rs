//! Uses of keys on their way to the table.

use std::time::Duration;

use portcullis::command::mint;
use portcullis::domain::ids::KeyId;
use portcullis::projection::used::{self, KeysUsed};

use crate::support::cluster::Scratch;

/// Whoever asks for them may go away while they are written: that is a request's time, or its client's patience.
#[tokio::test(flavor = "multi_thread")]
async fn uses_that_nobody_waits_for_any_more_are_written_down_later() {
    let scratch = Scratch::new().await;
    let database = scratch.database().await;
    let (uses, key) = (KeysUsed::default(), KeyId(7));
    uses.accepted(key, mint::now(), Some([192, 0, 2, 1].into()));
    let blocker = scratch.superuser().await;
    blocker.batch_execute("begin; lock table projection.key_used").await.unwrap();
    let waited = tokio::time::timeout(Duration::from_millis(300), uses.flush(&database)).await;
    assert!(waited.is_err(), "the table is not to be written to");
    blocker.batch_execute("rollback").await.unwrap();
    uses.flush(&database).await.unwrap();
    let found = used::of_key(&database, key).await.unwrap();
    assert_eq!((found.last.is_some(), found.sources.len()), (true, 1));
}
