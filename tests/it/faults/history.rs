//! What the clients did and were told, and what the log says of it: all that the checker goes by.

use std::sync::Arc;
use std::time::Duration;

use portcullis::domain::ids::{CommandId, KeyId};

/// Since the run began, by a clock that nobody sets.
pub(super) type Moment = Duration;

/// Everything that was done in a run.
#[derive(Debug, Default)]
pub(super) struct History {
    pub(super) operations: Vec<Operation>,
    pub(super) validations: Vec<Validation>,
}

/// One command of a client, from when it was first sent until the client knew, or gave up.
#[derive(Clone, Debug)]
pub(super) struct Operation {
    pub(super) wish: Wish,
    pub(super) scope: Scope,
    /// The `Idempotency-Key`, and the command that it stands for in the log.
    pub(super) name: String,
    pub(super) command: CommandId,
    pub(super) invoked: Moment,
    pub(super) completed: Moment,
    /// The node that was asked last: the one that answered, if any did.
    pub(super) node: usize,
    pub(super) outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    CreateWorker(Arc<str>),
    CreateKey(Arc<str>),
    /// With an overlap of nothing the old key ends as the new one comes; otherwise it outlasts the run.
    RotateKey {
        key: KeyId,
        ends_now: bool,
    },
    RevokeKey(KeyId),
    Isolate(Arc<str>),
    Release(Arc<str>),
    /// Over a worker, or over everything: whatever was issued so far.
    Fence(Option<Arc<str>>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    Local,
    Everywhere,
}

/// What the client knows in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is done; or, unchanged, it was so already. Acknowledged at this position.
    Done {
        position: u64,
        changed: bool,
    },
    /// "Nothing was changed."
    Refused,
    Unknown,
}

/// A verdict of a node. Those that were stale, or never came, are only counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Validation {
    pub(super) node: usize,
    pub(super) key: KeyId,
    pub(super) invoked: Moment,
    pub(super) completed: Moment,
    /// Of the state that it is based on.
    pub(super) position: u64,
    pub(super) accepted: bool,
}

/// An event of the log, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fact {
    pub(super) position: u64,
    pub(super) command: CommandId,
    pub(super) what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    WorkerCreated(Arc<str>),
    KeyCreated {
        key: KeyId,
        worker: Arc<str>,
    },
    KeyRotated {
        key: KeyId,
        successor: KeyId,
        ends_now: bool,
    },
    KeyRevoked(KeyId),
    Isolated(Arc<str>),
    Released(Arc<str>),
    Fenced {
        worker: Option<Arc<str>>,
        up_to: u64,
    },
    /// What no client asks for: how the service began, and what it notes by itself.
    Other(&'static str),
}

impl Operation {
    /// Whether what the log holds under its command is what was wished, whole and once.
    pub(super) fn is_done_by(&self, facts: &[&Fact]) -> bool {
        match (&self.wish, facts) {
            (Wish::CreateWorker(worker), [fact]) => fact.what == What::WorkerCreated(worker.clone()),
            (Wish::CreateKey(worker), [fact]) => {
                matches!(&fact.what, What::KeyCreated { worker: whose, .. } if whose == worker)
            }
            (Wish::RotateKey { key, ends_now }, [fact]) => {
                matches!(&fact.what, What::KeyRotated { key: old, ends_now: now, .. } if (old, now) == (key, ends_now))
            }
            (Wish::Isolate(worker), [fact]) => fact.what == What::Isolated(worker.clone()),
            (Wish::Release(worker), [fact]) => fact.what == What::Released(worker.clone()),
            (Wish::Fence(scope), [fact]) => matches!(&fact.what, What::Fenced { worker, .. } if worker == scope),
            // With what was made with the key itself: here nothing, as operators rotate and not the workers.
            (Wish::RevokeKey(key), [fact]) => fact.what == What::KeyRevoked(*key),
            _ => false,
        }
    }
}
