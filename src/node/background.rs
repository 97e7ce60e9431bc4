//! Where what takes long is done, so that it holds up nobody: what can wait on a thread that gives way, and what cannot beside
//! the requests.

use std::io;
use std::sync::{LazyLock, mpsc};
use std::thread;

use tokio::runtime::{Builder, Handle, Runtime, RuntimeFlavor};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::turns::{self, give_way};

/// Runs it on a thread that gives way, with a runtime of its own: what it spawns, and what its connections do, gives way too.
/// What is still running on other threads when it ends is left behind.
pub(crate) fn spawn(name: &str, work: impl Future<Output = ()> + Send + 'static) -> io::Result<thread::JoinHandle<()>> {
    // Made there: to drop a runtime takes a thread that serves nobody.
    let (sender, made) = mpsc::sync_channel(1);
    let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
        give_way();
        let runtime = match Builder::new_current_thread().enable_all().on_thread_start(give_way).build() {
            Ok(runtime) => runtime,
            Err(error) => return drop(sender.send(Err(error))),
        };
        drop(sender.send(Ok(())));
        runtime.block_on(work);
        runtime.shutdown_background();
    })?;
    made.recv().unwrap_or(Ok(())).map(|()| thread)
}

/// The same, and what has come of it. It is broken off when nobody waits for it any more.
///
/// What reads much over one connection is faster by itself: what the connection receives and who takes it share one thread,
/// where a runtime of several would wake another one for every few rows. And a database that is not held up by its reader
/// fills the whole buffer between them before that has its turn.
pub async fn apart<T: Send + 'static>(name: &str, work: impl Future<Output = T> + Send + 'static) -> io::Result<T> {
    let (mut sender, made) = oneshot::channel();
    spawn(name, async move {
        let made = tokio::select! {
            made = work => made,
            () = sender.closed() => return,
        };
        // Whoever stopped waiting just now does not want it.
        drop(sender.send(made));
    })?;
    Ok(made.await.expect("a background thread does not panic"))
}

/// Runs it on a thread of a pool; of one whose threads give way, where it `gives_way`.
pub(crate) fn blocking<T: Send + 'static>(gives_way: bool, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    static GIVING_WAY: LazyLock<io::Result<Runtime>> =
        LazyLock::new(|| Builder::new_current_thread().on_thread_start(give_way).build());
    if gives_way && let Ok(pool) = &*GIVING_WAY {
        return pool.spawn_blocking(work);
    }
    // Without such a pool it competes.
    tokio::task::spawn_blocking(work)
}

/// Does it on this thread, for the caller waits; but where it `is_long`, lets another thread go on with the requests that this
/// one has in hand.
pub(crate) fn aside<T>(is_long: bool, work: impl FnOnce() -> T) -> T {
    // Where there is one thread, there is no other.
    let has_others = || Handle::try_current().is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread);
    if is_long && has_others() { tokio::task::block_in_place(|| turns::long(work)) } else { work() }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn work_apart_gives_back_what_it_made_and_ends_when_nobody_waits() {
        assert_eq!(apart("adding", async { 1 + 1 }).await.unwrap(), 2);

        let (held, dropped) = oneshot::channel::<()>();
        let endless = apart("waiting", async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        assert!(tokio::time::timeout(Duration::from_millis(50), endless).await.is_err());
        let ended = tokio::time::timeout(Duration::from_secs(10), dropped).await;
        assert!(ended.is_ok_and(|ended| ended.is_err()), "what it held was given up");
    }
}
