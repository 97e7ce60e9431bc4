//! The uses of credentials, before and after the incident ended them.
//!
//! What is a use: a command that was given with the credential, or with a token made from it; and a failed attempt that was
//! observed with its id. Validations are no events, so they are not here.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::domain::actor::CredentialUsed;
use crate::domain::event::{Event, FailureCount, Recorded};
use crate::domain::ids::{CommandId, EnrollmentSecretId, KeyId, WorkerId};
use crate::domain::roll::Roll;
use crate::domain::time::Timestamp;
use crate::incident::effect::Ended;

/// Uses of all credentials so far, and of those that were ended.
#[derive(Debug, Default)]
pub(super) struct Uses {
    all: HashMap<u128, Count>,
    /// Tokens of workers whose pools count them.
    counted: HashMap<WorkerId, u64>,
    ended: BTreeMap<u128, End>,
    ended_workers: BTreeMap<WorkerId, u64>,
    pub(super) keys: u64,
    pub(super) secrets: u64,
    /// Failed attempts in the window in which a credential was ended: before or after, it is not known.
    pub(super) failed_around: u64,
    pub(super) failed_before: u64,
    pub(super) failed_after: u64,
    pub(super) reasons_after: BTreeMap<Arc<str>, u64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    commands: u64,
    last: Option<CommandId>,
    failed: u64,
}

#[derive(Clone, Copy, Debug)]
struct End {
    at: Timestamp,
    commands_before: u64,
}

/// How often the ended credentials were used successfully.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Successes {
    pub(super) before: u64,
    pub(super) after: u64,
    pub(super) tokens_before: u64,
    pub(super) tokens_after: u64,
}

impl Uses {
    /// Before the event is folded in: who ends its own key has used it once more.
    pub(super) fn see(&mut self, recorded: &Recorded) {
        if let Some(id) = recorded.author.credential.map(id_of) {
            let count = self.all.entry(id).or_default();
            // A command may have several events.
            if count.last.replace(recorded.command) != Some(recorded.command) {
                count.commands += 1;
            }
        }
        match &recorded.event {
            Event::TokensIssued { worker, count, .. } => *self.counted.entry(worker.clone()).or_default() += count,
            Event::AuthFailuresObserved { from, to, failures } => {
                for failure in failures {
                    self.failed(*from, *to, failure);
                }
            }
            _ => {}
        }
    }

    /// Of a window that was over before the credential was ended, though it was recorded later, all was before.
    fn failed(&mut self, from: Timestamp, to: Timestamp, failure: &FailureCount) {
        let id = failure.credential.as_deref().and_then(|text| text.strip_prefix("key:")?.parse::<KeyId>().ok());
        let Some(KeyId(id)) = id else { return };
        match self.ended.get(&id) {
            None => self.all.entry(id).or_default().failed += failure.count,
            Some(end) if to <= end.at => self.failed_before += failure.count,
            Some(end) if from < end.at => self.failed_around += failure.count,
            Some(_) => {
                self.failed_after += failure.count;
                *self.reasons_after.entry(failure.reason.clone()).or_default() += failure.count;
            }
        }
    }

    /// These are good no more.
    pub(super) fn end(&mut self, roll: &Roll, ended: &Ended, recorded: &Recorded) {
        for key in &ended.keys {
            self.keys += u64::from(self.end_one(key.0, recorded));
            let holders = roll.key(*key).map(|key| key.workers().to_vec()).unwrap_or_default();
            for worker in holders.into_iter().filter_map(|index| roll.worker_at(index)) {
                let tokens = self.counted.get(&worker.id).copied().unwrap_or_default();
                self.ended_workers.entry(worker.id.clone()).or_insert(tokens);
            }
        }
        for secret in &ended.secrets {
            self.secrets += u64::from(self.end_one(secret.0, recorded));
        }
    }

    /// Whether it had not been ended before: an isolated worker's key may be revoked after a release.
    fn end_one(&mut self, id: u128, recorded: &Recorded) -> bool {
        if self.ended.contains_key(&id) {
            return false;
        }
        let count = self.all.get(&id).copied().unwrap_or_default();
        self.failed_before += count.failed;
        self.ended.insert(id, End { at: recorded.recorded_at, commands_before: count.commands });
        true
    }

    pub(super) fn workers(&self) -> u64 {
        self.ended_workers.len() as u64
    }

    pub(super) fn successes(&self) -> Successes {
        let mut sum = Successes::default();
        for (id, end) in &self.ended {
            let commands = self.all.get(id).map_or(0, |count| count.commands);
            sum.before += end.commands_before;
            sum.after += commands - end.commands_before;
        }
        for (worker, before) in &self.ended_workers {
            let tokens = self.counted.get(worker).copied().unwrap_or_default();
            sum.tokens_before += before;
            sum.tokens_after += tokens - before;
        }
        sum
    }
}

/// A token is a use of the key that it was made from.
fn id_of(credential: CredentialUsed) -> u128 {
    match credential {
        CredentialUsed::Key(KeyId(id)) | CredentialUsed::Token { key: KeyId(id), .. } => id,
        CredentialUsed::EnrollmentSecret(EnrollmentSecretId(id)) => id,
    }
}
