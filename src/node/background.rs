//! Threads for what can wait: on the cores that nobody else wants.

use rustix::process::setpriority_process;
use rustix::thread::gettid;

/// Weighs a ninth of what a thread of the service does, where both want the same core.
const NICENESS: i32 = 10;

/// Puts this thread behind all others. It is never put before them again, so it must be one of its own.
pub(crate) fn give_way() {
    // Where that is forbidden it competes, and nothing is wrong but the speed of others.
    if let Err(error) = setpriority_process(Some(gettid()), NICENESS) {
        tracing::debug!(%error, "a background thread runs at the priority of all others");
    }
}
