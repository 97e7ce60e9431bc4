//! A runner that is busy for longer than the database waits for a word keeps its session, and so its lock.

use std::time::Duration;

use portcullis::projection::silence::{awake, yield_when_silent};
use tokio::time::sleep;

use crate::support::cluster::Scratch;

/// Longer than the database waits.
const BUSY: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn whoever_says_a_word_keeps_the_session_and_whoever_is_silent_loses_it() {
    let scratch = Scratch::new().await;
    let database = scratch.database().await;
    let (busy, silent) = (database.session().await.unwrap(), database.session().await.unwrap());
    for session in [&busy, &silent] {
        yield_when_silent(&session.client).await.unwrap();
    }
    let work = async {
        sleep(BUSY).await;
        Ok(7)
    };
    let (done, ()) = tokio::join!(awake(&busy.client, work), sleep(BUSY));
    assert_eq!(done.unwrap(), 7);
    busy.client.batch_execute("select 1").await.unwrap();
    silent.client.batch_execute("select 1").await.unwrap_err();
}
