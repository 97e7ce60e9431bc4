//! From a wish to an answer that is in the log.
//!
//! [`CommandQueue`] takes wishes from any number of callers. The [`writer`] is the one task of this node that decides and
//! appends, a batch at a time. [`mint`] is where time, ids and entropy come from.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tracing::Span;

use crate::domain::command::{Command, Context};
use crate::domain::event::Recorded;
use crate::domain::ids::CommandId;
use crate::domain::refusal::Refusal;
use crate::domain::roll::Roll;
use crate::domain::time::Timestamp;
use crate::log::Tampered;

mod batch;
pub mod in_force;
pub mod issued;
pub mod mint;
pub mod plans;
pub mod tripped;
pub mod writer;

/// A command, and what its caller wants to hear.
pub struct Wish {
    pub id: CommandId,
    /// The digest of the request, where the caller gave an `Idempotency-Key` and may ask again.
    pub fingerprint: Option<[u8; 32]>,
    pub command: Command,
    pub context: Context,
    /// Renders the answer, without its secrets, from the state right after the command. Kept as the command's outcome.
    pub answer: Answer,
    /// The answer's secrets, sealed under a key that only the caller can derive.
    pub sealed: Option<SealedAnswer>,
    /// Only to see what would come of it: it is decided and answered like any other, and nothing of it is kept. The answer is
    /// rendered from the state before it.
    pub dry_run: bool,
}

pub type Answer = Arc<dyn Fn(&Roll, &Done<'_>) -> Value + Send + Sync>;

pub struct SealedAnswer {
    pub sealed: Vec<u8>,
    pub expires_at: Timestamp,
}

/// What a decided command has come to.
pub struct Done<'a> {
    /// The newest position of the state that the command saw or made.
    pub position: u64,
    pub events: &'a [Recorded],
}

/// A command that succeeded.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Whoever has read up to here has seen what the command did.
    pub position: u64,
    /// False: the wish held already.
    pub changed: bool,
    /// What [`Wish::answer`] rendered: the first time.
    pub body: Value,
    /// Whether this is the answer to an earlier request with the same id.
    pub repeated: bool,
    /// The first answer's sealed secrets, if it is a repeat.
    pub sealed: Option<Vec<u8>>,
    /// Whether the first answer held secrets that are kept no more.
    pub secrets_gone: bool,
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CommandError {
    #[error(transparent)]
    Refused(Refusal),
    /// The same id was refused before: the first answer.
    #[error("{detail}")]
    RefusedBefore { code: String, detail: String },
    /// The id is that of another request.
    #[error("this Idempotency-Key was used for another request; choose a new one")]
    OtherContent,
    /// Too many commands wait already.
    #[error("too many commands are waiting; try again")]
    QueueFull,
    #[error("the service is stopping")]
    Stopping,
    /// What was kept of the first request with this id is not what we kept. It is no answer, and neither is another try.
    #[error(transparent)]
    Tampered(Tampered),
    /// The same id was carried out before, and what it was answered is gone. To carry it out again would be to do it twice.
    #[error(
        "this command was carried out before, with an event at position {position}, but its answer is gone; \
         look at what it did, and choose a new Idempotency-Key for anything further"
    )]
    OutcomeLost { position: u64 },
    /// Our failure. Nothing was appended.
    #[error("the command could not be written: {0}")]
    Fault(Arc<str>),
    /// Our failure, and it is not known whether the command was appended, or still will be.
    #[error("whether the command was carried out is not known: {0}")]
    Unknown(Arc<str>),
}

pub(crate) type Reply = Result<Outcome, CommandError>;

/// A wish in the queue.
pub(crate) struct Submission {
    pub(crate) wish: Wish,
    pub(crate) reply: oneshot::Sender<Reply>,
    /// The request's span, so that a trace reaches from the request to the append.
    pub(crate) span: Span,
}

/// Where wishes wait for the writer. Bounded: a queue without an end is an outage that nobody has noticed yet.
#[derive(Clone)]
pub struct CommandQueue {
    sender: mpsc::Sender<Submission>,
}

impl CommandQueue {
    /// A queue of `length` commands, and the end that the writer takes from.
    pub(crate) fn new(length: usize) -> (Self, mpsc::Receiver<Submission>) {
        let (sender, receiver) = mpsc::channel(length);
        (Self { sender }, receiver)
    }

    /// Waits until the command is in the log, or refused. Dropping the future does not take the command back.
    pub async fn submit(&self, wish: Wish) -> Reply {
        let (reply, answer) = oneshot::channel();
        let submission = Submission { wish, reply, span: Span::current() };
        self.sender.try_send(submission).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => CommandError::QueueFull,
            mpsc::error::TrySendError::Closed(_) => CommandError::Stopping,
        })?;
        // The writer ended with it under way.
        answer.await.unwrap_or_else(|_| Err(CommandError::Unknown("the service stopped before it knew".into())))
    }

    /// How many commands wait.
    pub fn depth(&self) -> usize {
        self.sender.max_capacity() - self.sender.capacity()
    }
}

/// An outcome as it is kept in the log.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case", deny_unknown_fields)]
enum KeptAnswer {
    Done {
        changed: bool,
        body: Value,
        /// Whether secrets went with it.
        secrets: bool,
    },
    Refused {
        code: String,
        detail: String,
    },
}
