//! Who did it: every change has an author (promise 10).

use std::net::IpAddr;
use std::sync::Arc;

use super::ids::{EnrollmentSecretId, KeyId, OperatorId, TokenId, WorkerId};

/// On whose behalf a command is decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Actor {
    Operator(OperatorId),
    Worker(WorkerId),
    /// Whoever holds the enrollment secret; the worker that comes of it has no id yet.
    Enrollee(EnrollmentSecretId),
    /// The service itself: its first start, and what it observes.
    System,
}

/// The credential that the actor came with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialUsed {
    Key(KeyId),
    Token { token: TokenId, session: TokenId, key: KeyId, issued: u64 },
    EnrollmentSecret(EnrollmentSecretId),
}

/// The author of a command, as the log will name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Author {
    pub actor: Actor,
    pub credential: Option<CredentialUsed>,
    /// The peer address, or what a configured proxy said it was.
    pub source: Option<IpAddr>,
    pub request_id: Option<Arc<str>>,
}

impl Author {
    #[must_use]
    pub fn system() -> Self {
        Self { actor: Actor::System, credential: None, source: None, request_id: None }
    }
}
