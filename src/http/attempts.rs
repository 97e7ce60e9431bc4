//! Failed attempts: limited by source and by credential, and counted into the log by window.
//!
//! Only failures are limited. A credential that is good gets in however many bad ones come from the same address: one
//! broken instance behind a NAT must not lock out a fleet (H10), and nobody can lock a worker out by trying its key's id.
//! Secrets have 256 bits, or the strength that the estimator asks for, so it is the noise that needs a limit, not the guess.

use std::collections::HashMap;
use std::net::IpAddr;
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
        let by_source = attempt.source.map(|source| self.sources.check_key(&source));
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
        let room = window.counts.len() < COUNTS_MAX || window.counts.contains_key(attempt);
        let row = if room { *attempt } else { Attempt { source: None, credential: None, ..*attempt } };
        *window.counts.entry(row).or_default() += 1;
    }

    /// Writes the window that has passed into the log, and starts another.
    pub async fn flush(&self, queue: &CommandQueue) {
        self.sources.retain_recent();
        self.credentials.retain_recent();
        let to = mint::now();
        let (from, counts) = {
            let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
            let from = std::mem::replace(&mut window.from, to);
            (from, std::mem::take(&mut window.counts))
        };
        let mut failures: Vec<FailureCount> = counts.iter().map(|(attempt, count)| failure(attempt, *count)).collect();
        failures.sort_by(|a, b| (&a.reason, a.source, &a.credential).cmp(&(&b.reason, b.source, &b.credential)));
        for chunk in failures.chunks(COUNTS_PER_EVENT) {
            if let Err(error) = queue.submit(observed(from, to, chunk)).await {
                tracing::warn!(%error, failures = chunk.len(), "counts of failed attempts could not be written");
            }
        }
    }

    /// Flushes every window, for as long as the service runs.
    pub async fn run(&self, queue: &CommandQueue) {
        let mut windows = tokio::time::interval(WINDOW);
        loop {
            windows.tick().await;
            self.flush(queue).await;
        }
    }
}

fn failure(attempt: &Attempt, count: u64) -> FailureCount {
    let credential = attempt.credential.map(|credential| match credential {
        CredentialId::Key(id) => format!("key:{id}").into(),
        CredentialId::Token(id) => format!("token:{id}").into(),
    });
    FailureCount { reason: attempt.denial.code().into(), source: attempt.source, credential, count }
}

fn observed(from: Timestamp, to: Timestamp, failures: &[FailureCount]) -> Wish {
    Wish {
        id: CommandId::from_uuid(mint::id()),
        fingerprint: None,
        command: Command::RecordAuthFailures { from, to, failures: failures.to_vec() },
        context: Context { now: to, author: Author::system(), reason: None },
        answer: Arc::new(|_, _| serde_json::Value::Null),
        sealed: None,
    }
}
