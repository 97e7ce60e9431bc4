//! Where what takes long is done, so that it holds up nobody: what can wait on a thread that gives way, and what cannot beside
//! the requests.

use std::io;
use std::sync::{LazyLock, mpsc};
use std::thread;

use rustix::process::setpriority_process;
use rustix::thread::gettid;
use tokio::runtime::{Builder, Handle, Runtime, RuntimeFlavor};
use tokio::task::JoinHandle;

/// Weighs a ninth of what a thread of the service does, where both want the same core.
const NICENESS: i32 = 10;

/// Puts this thread behind all others. It is never put before them again, so it must be one of its own.
pub(crate) fn give_way() {
    // Where that is forbidden it competes, and nothing is wrong but the speed of others.
    if let Err(error) = setpriority_process(Some(gettid()), NICENESS) {
        tracing::debug!(%error, "a background thread runs at the priority of all others");
    }
}

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
    if is_long && has_others() { tokio::task::block_in_place(work) } else { work() }
}
