//! Failed attempts: limited by source and by credential, and counted into the log by window.
//!
//! Only failures are limited. A credential that is good gets in however many bad ones come from the same address: one
//! broken instance behind a NAT must not lock out a fleet (H10), and nobody can lock a worker out by trying its key's id.
//! Secrets have 256 bits, or the strength that the estimator asks for, so it is the noise that needs a limit, not the guess.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use super::meta::Meta;
use super::problem::Problem;
use crate::command::{CommandQueue, Wish, mint};
use crate::domain::actor::Author;
use crate::domain::admit::Denial;
use crate::domain::command::{Command, Context};
use crate::domain::event::FailureCount;
use crate::domain::ids::{CommandId, KeyId};
use crate::domain::time::Timestamp;
use crate::node::background;
use crate::telemetry::Metrics;
use crate::validate::{CredentialId, Denied};

/// One count for each window and (reason, source, credential).
pub const WINDOW: Duration = Duration::from_mins(1);
/// A fleet of a hundred that restarts with a revoked key fails a hundred times at once.
const SOURCE_BURST: NonZeroU32 = NonZeroU32::new(100).expect("not zero");
const SOURCE_PER_SECOND: NonZeroU32 = NonZeroU32::new(5).expect("not zero");
/// One worker that tries again and again.
const CREDENTIAL_BURST: NonZeroU32 = NonZeroU32::new(30).expect("not zero");
const CREDENTIAL_PER_SECOND: NonZeroU32 = NonZeroU32::new(1).expect("not zero");
/// Different counts that one window keeps apart; what comes after is counted by reason alone. It bounds the memory that
/// anonymous traffic can take.
const COUNTS_MAX: usize = 10_000;
/// Counts in one event: an entry has at most 65,535 bytes, and one count takes less than 200.
const COUNTS_PER_EVENT: usize = 250;

/// One failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Attempt {
    pub denial: Denial,
    pub source: Option<IpAddr>,
    pub credential: Option<CredentialId>,
}

pub struct Attempts {
    /// By what [`limited_as`] makes of an address.
    sources: DefaultKeyedRateLimiter<IpAddr>,
    credentials: DefaultKeyedRateLimiter<CredentialId>,
    clock: DefaultClock,
    window: Mutex<Window>,
    metrics: Arc<Metrics>,
}

struct Window {
    from: Timestamp,
    counts: HashMap<Attempt, u64>,
}

impl Attempt {
    pub fn denied(meta: &Meta, denied: &Denied<'_>) -> Self {
        Self { denial: denied.denial, source: meta.source, credential: denied.credential }
    }

    pub fn of_key(meta: &Meta, denial: Denial, key: KeyId) -> Self {
        Self { denial, source: meta.source, credential: Some(CredentialId::Key(key)) }
    }
}

impl Attempts {
    pub fn new(metrics: Arc<Metrics>) -> Self {
        let quota = |per_second, burst| Quota::per_second(per_second).allow_burst(burst);
        Self {
            sources: RateLimiter::keyed(quota(SOURCE_PER_SECOND, SOURCE_BURST)),
            credentials: RateLimiter::keyed(quota(CREDENTIAL_PER_SECOND, CREDENTIAL_BURST)),
            clock: DefaultClock::default(),
            window: Mutex::new(Window { from: mint::now(), counts: HashMap::new() }),
            metrics,
        }
    }

    /// Counts the failure. What the caller gets is the same whatever the reason (H31), until there are too many.
    pub fn refuse(&self, attempt: &Attempt) -> Problem {
        self.count(attempt);
        let by_source = attempt.source.map(|source| self.sources.check_key(&limited_as(source)));
        let by_credential = attempt.credential.map(|credential| self.credentials.check_key(&credential));
        let until = [by_source, by_credential].into_iter().flatten().filter_map(Result::err);
        let waits = until.map(|not_until| not_until.wait_time_from(self.clock.now()).as_secs() + 1);
        waits.max().map_or_else(Problem::unauthorized, Problem::too_many_attempts)
    }

    /// Counts a failure without limiting it: what a gateway asks about is not the gateway's failure.
    pub fn count(&self, attempt: &Attempt) {
        let reason = Denial::ALL.iter().position(|denial| *denial == attempt.denial);
        self.metrics.auth_failed(reason.unwrap_or(Denial::ALL.len()));
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        window.add(*attempt, 1);
    }

    /// Writes the window that has passed into the log, and starts another. What cannot be written is counted on.
    pub async fn flush(&self, queue: &CommandQueue) {
        self.sources.retain_recent();
        self.credentials.retain_recent();
        let to = mint::now();
        let (from, counts) = {
            let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
            let from = std::mem::replace(&mut window.from, to);
            (from, std::mem::take(&mut window.counts))
        };
        // A fleet whose keys were all revoked is as many: not on a thread that others are answered by.
        let counts = background::blocking(true, move || in_order(counts)).await;
        let Ok(counts) = counts.inspect_err(|error| tracing::error!(%error, "counts of failed attempts are lost"))
        else {
            return;
        };
        let mut chunks = counts.chunks(COUNTS_PER_EVENT);
        while let Some(chunk) = chunks.next() {
            let failures = chunk.iter().map(|(failure, _)| failure.clone()).collect();
            if let Err(error) = queue.submit(observed(from, to, failures)).await {
                // The next chunk would fare no better, and each may take the writer's whole patience to fail.
                self.count_on(std::iter::once(chunk).chain(chunks).flatten(), from);
                tracing::warn!(%error, "counts of failed attempts could not be written yet");
                return;
            }
        }
    }

    /// Flushes every window until `stopped` ends, and then the last one. Dropping it would drop counts with it.
    pub async fn run(&self, queue: &CommandQueue, stopped: impl Future<Output = ()>) {
        let mut windows = tokio::time::interval(WINDOW);
        let mut stopped = std::pin::pin!(stopped);
        loop {
            tokio::select! {
                _ = windows.tick() => self.flush(queue).await,
                () = &mut stopped => return self.flush(queue).await,
            }
        }
    }

    /// Also where nobody knows whether they were written: an attempt that is counted twice misleads less than one that is not.
    fn count_on<'a>(&self, counts: impl Iterator<Item = &'a (FailureCount, Attempt)>, from: Timestamp) {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        window.from = window.from.min(from);
        for (failure, attempt) in counts {
            window.add(*attempt, failure.count);
        }
    }
}

impl Window {
    fn add(&mut self, attempt: Attempt, count: u64) {
        let room = self.counts.len() < COUNTS_MAX || self.counts.contains_key(&attempt);
        // Noise must not take the room of what somebody had the secret of: of these there are no more than keys.
        let credential = attempt.credential.filter(|_| room || attempt.denial.is_of_genuine_key());
        let row = if room { attempt } else { Attempt { source: None, credential, ..attempt } };
        *self.counts.entry(row).or_default() += count;
    }
}

/// Whoever has one IPv6 address has its whole /64, and could come from another one each time.
fn limited_as(source: IpAddr) -> IpAddr {
    match source {
        IpAddr::V4(_) => source,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

/// As the log keeps them.
fn in_order(counts: HashMap<Attempt, u64>) -> Vec<(FailureCount, Attempt)> {
    let mut counts: Vec<(FailureCount, Attempt)> =
        counts.into_iter().map(|(attempt, count)| (failure(&attempt, count), attempt)).collect();
    counts.sort_by(|(a, _), (b, _)| (&a.reason, a.source, &a.credential).cmp(&(&b.reason, b.source, &b.credential)));
    counts
}

fn failure(attempt: &Attempt, count: u64) -> FailureCount {
    let credential = attempt.credential.map(|credential| match credential {
        CredentialId::Key(id) => format!("key:{id}").into(),
        CredentialId::Token(id) => format!("token:{id}").into(),
    });
    FailureCount { reason: attempt.denial.code().into(), source: attempt.source, credential, count }
}

fn observed(from: Timestamp, to: Timestamp, failures: Vec<FailureCount>) -> Wish {
    Wish {
        id: CommandId::from_uuid(mint::id()),
        fingerprint: None,
        command: Command::RecordAuthFailures { from, to, failures },
        context: Context { now: to, author: Author::system(), reason: None, incident: None },
        answer: Arc::new(|_, _| serde_json::Value::Null),
        sealed: None,
        dry_run: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Outcome, Submission};
    use crate::telemetry::metrics::Vocabulary;

    fn attempts() -> Attempts {
        let telemetry = crate::telemetry::Telemetry::without_exporters().unwrap();
        let (codes, none) = (Denial::ALL.map(Denial::code), &[][..]);
        let vocabulary = Vocabulary {
            routes: &[],
            validation_outcomes: none,
            commands: none,
            command_outcomes: none,
            auth_failure_reasons: &codes,
        };
        Attempts::new(Arc::new(telemetry.metrics(&vocabulary).unwrap()))
    }

    fn attempt(source: &str) -> Attempt {
        Attempt { denial: Denial::KeyUnknown, source: Some(source.parse().unwrap()), credential: None }
    }

    fn answer(submission: Submission) -> Vec<(String, u64)> {
        let Command::RecordAuthFailures { from, to, failures } = &submission.wish.command else {
            unreachable!("nothing else is written")
        };
        assert!(from <= to);
        let outcome = Outcome {
            position: 1,
            changed: true,
            body: serde_json::Value::Null,
            repeated: false,
            sealed: None,
            secrets_gone: false,
        };
        let written = failures.iter().map(|row| (row.source.unwrap().to_string(), row.count)).collect();
        drop(submission.reply.send(Ok(outcome)));
        written
    }

    #[test]
    fn noise_takes_no_room_from_what_somebody_had_the_secret_of() {
        let mut window = Window { from: Timestamp(0), counts: HashMap::new() };
        let of = |denial, id: u128| {
            let credential = Some(CredentialId::Key(KeyId(id)));
            Attempt { denial, source: Some([192, 0, 2, 1].into()), credential }
        };
        for id in 0..COUNTS_MAX as u128 {
            window.add(of(Denial::KeyUnknown, id), 1);
        }
        window.add(of(Denial::KeyUnknown, u128::MAX), 1);
        window.add(of(Denial::KeyRevoked, 7), 1);
        let named = |denial, id| Attempt { source: None, ..of(denial, id) };
        assert_eq!(window.counts.get(&named(Denial::KeyUnknown, u128::MAX)), None);
        assert_eq!(window.counts.get(&named(Denial::KeyRevoked, 7)), Some(&1));
    }

    #[tokio::test]
    async fn what_cannot_be_written_is_counted_on_and_written_at_the_end() {
        let attempts = attempts();
        let (broken, receiver) = CommandQueue::new(1);
        drop(receiver);
        attempts.count(&attempt("192.0.2.1"));
        let from = attempts.window.lock().unwrap().from;
        attempts.flush(&broken).await;
        attempts.count(&attempt("192.0.2.1"));
        attempts.count(&attempt("2001:db8::1"));
        assert_eq!(attempts.window.lock().unwrap().from, from, "the window is as long as what it counts");

        let (queue, mut receiver) = CommandQueue::new(1);
        let writer = async { answer(receiver.recv().await.unwrap()) };
        let ((), written) = tokio::join!(attempts.run(&queue, std::future::ready(())), writer);
        assert_eq!(written, [("192.0.2.1".to_owned(), 2), ("2001:db8::1".to_owned(), 1)]);
        assert!(attempts.window.lock().unwrap().counts.is_empty());
    }

    #[tokio::test]
    async fn a_window_of_many_events_that_breaks_off_keeps_the_rest() {
        let attempts = attempts();
        let sources = 3 * COUNTS_PER_EVENT;
        for number in 0..sources {
            attempts.count(&attempt(&format!("2001:db8::{number:x}")));
        }
        let (queue, mut receiver) = CommandQueue::new(1);
        let writer = async move {
            let written = answer(receiver.recv().await.unwrap()).len();
            drop(receiver);
            written
        };
        let ((), written) = tokio::join!(attempts.flush(&queue), writer);
        assert_eq!(written, COUNTS_PER_EVENT);
        assert_eq!(attempts.window.lock().unwrap().counts.len(), sources - COUNTS_PER_EVENT);
    }

    #[test]
    fn addresses_that_one_host_can_choose_from_wait_together() {
        let attempts = attempts();
        let waits = |source: &str| attempts.refuse(&attempt(source)).retry_after_seconds().is_some();
        for number in 0..SOURCE_BURST.get() {
            assert!(!waits(&format!("2001:db8:0:1::{number:x}")), "{number}");
        }
        assert!(waits("2001:db8:0:1:ffff::1"), "one more of the same /64");
        assert!(!waits("2001:db8:0:2::1"));
        for number in 0..SOURCE_BURST.get() {
            assert!(!waits(&format!("192.0.2.{number}")), "each IPv4 address is somebody else's");
        }
    }
}
