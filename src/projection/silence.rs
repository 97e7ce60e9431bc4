//! A runner that says nothing has ended, as far as the database can tell: its session ends, and the lock with it. One that is
//! busy with its own says a word now and then.

use std::pin::pin;
use std::time::Duration;

use tokio_postgres::Client;

use super::ProjectionError;
use super::runner::patient;

/// Less than a list waits. A runner asks something at each tick.
const SILENCE_MAX: &str = "3s";
/// So often the runner says something while it is busy with its own.
const WORD: Duration = Duration::from_secs(1);

/// A node that stands still keeps its session, and its session the lock: the server ends it, and another node goes on.
pub async fn yield_when_silent(client: &Client) -> Result<(), ProjectionError> {
    let settings = format!(
        "set idle_session_timeout to '{SILENCE_MAX}'; set idle_in_transaction_session_timeout to '{SILENCE_MAX}'"
    );
    Ok(client.batch_execute(&settings).await?)
}

/// Speaks to the database while something else takes its time: whoever is silent loses the lock, and would begin again.
pub async fn awake<T>(
    client: &Client,
    work: impl Future<Output = Result<T, ProjectionError>>,
) -> Result<T, ProjectionError> {
    let mut work = pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            () = tokio::time::sleep(WORD) => patient(async { Ok(client.batch_execute("select 1").await?) }).await?,
        }
    }
}
