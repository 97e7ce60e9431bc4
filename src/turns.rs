//! Which of our threads has the processor first: one that answers a request soon, what nobody waits for behind all others.
//!
//! Linux gives a thread that wakes its turn before one that runs only where it asks for a shorter one (EEVDF: the earlier virtual
//! deadline goes first; its length by sched_setattr(2) since Linux 6.12). All ask for the same, more than a millisecond, so an
//! answer of 20 µs waits for the end of whatever burst has the core: of Postgres, of another node, of a batch job. A thread that
//! asks for little does not get more of the processor, only sooner; it is asked to leave sooner as well.

use std::time::Duration;

use rustix::process::setpriority_process;
use rustix::thread::gettid;

/// Weighs a ninth of what a thread of the service does, where both want the same core.
const NICENESS: i32 = 10;
/// The least that the kernel takes, and several times what a validation takes.
const TURN: Duration = Duration::from_micros(100);

/// Has this thread answer soon. For the start of each thread of a runtime that answers; what such a thread starts inherits it,
/// but for what says [`as_usual`].
pub fn answer_soon() {
    ask_for(TURN);
}

/// Gives this thread the turns that all others have.
pub fn as_usual() {
    ask_for(Duration::ZERO);
}

/// Does what takes long on a thread that answers: meanwhile it has the turns that all others have, and those that answer go first.
pub(crate) fn long<T>(work: impl FnOnce() -> T) -> T {
    as_usual();
    let done = work();
    answer_soon();
    done
}

/// Puts this thread behind all others. It is never put before them again, so it must be one of its own.
pub fn give_way() {
    as_usual();
    // Where that is forbidden it competes, and nothing is wrong but the speed of others.
    if let Err(error) = setpriority_process(Some(gettid()), NICENESS) {
        tracing::debug!(%error, "a background thread runs at the priority of all others");
    }
}

/// Has this thread ask for turns of this length; for the kernel's own with none.
#[cfg(target_os = "linux")]
fn ask_for(turn: Duration) {
    use rustix::process::getpriority_process;
    use thread_priority::unix::{DeadlineFlags, RealtimeThreadSchedulePolicy, set_thread_priority_and_policy};
    use thread_priority::{ThreadId, ThreadPriority, ThreadSchedulePolicy};

    /// As sched_setattr(2) has it.
    const THIS_THREAD: ThreadId = 0;
    /// `SCHED_FLAG_KEEP_POLICY` of sched_setattr(2): nothing becomes a real-time thread here. The crate has this call for the
    /// deadline policy alone and does not name the flag, with which the kernel looks at no policy but the thread's own.
    const KEEP_POLICY: u64 = 0x08;

    // The call sets the niceness too, to none. Whoever has given the service another one wants that.
    if getpriority_process(None).ok() != Some(0) {
        return;
    }
    let flags = DeadlineFlags::from_bits_retain(KEEP_POLICY);
    let priority = ThreadPriority::Deadline { runtime: turn, deadline: Duration::ZERO, period: Duration::ZERO, flags };
    let call = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Deadline);
    if let Err(error) = set_thread_priority_and_policy(THIS_THREAD, priority, call) {
        // An older kernel, or a container that forbids it: then it waits as all others do.
        tracing::debug!(%error, "a thread has turns like any other");
    }
}

/// Elsewhere threads have no such wish.
#[cfg(not(target_os = "linux"))]
fn ask_for(_: Duration) {}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::thread;

    use thread_priority::unix::get_thread_scheduling_attributes;

    use super::*;

    /// What the kernel says of this thread: its policy, its niceness and its turn. One of before 6.12 says no turn.
    fn said() -> String {
        let attributes = format!("{:?}", get_thread_scheduling_attributes().unwrap());
        let wanted = |field: &&str| {
            ["sched_policy:", "sched_nice:", "sched_runtime:"].iter().any(|name| field.starts_with(name))
        };
        attributes.split([',', '{', '}']).map(str::trim).filter(wanted).collect::<Vec<_>>().join(" ")
    }

    fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
        thread::spawn(work).join().unwrap()
    }

    #[test]
    fn a_thread_that_answers_has_short_turns_and_what_gives_way_does_not() {
        let (before, after, behind) = on_a_thread(|| {
            let before = said();
            answer_soon();
            let behind = on_a_thread(|| {
                give_way();
                said()
            });
            (before, said(), behind)
        });
        let tells_turns = !before.ends_with("sched_runtime: 0");
        let expected = if tells_turns { "sched_policy: 0 sched_nice: 0 sched_runtime: 100000" } else { &before };
        assert_eq!(after, expected);
        assert_eq!(behind, before.replace("sched_nice: 0", "sched_nice: 10"));
    }

    #[test]
    fn a_thread_of_another_niceness_keeps_it() {
        let said = on_a_thread(|| {
            give_way();
            answer_soon();
            said()
        });
        assert!(said.contains("sched_nice: 10 "), "{said}");
    }
}
