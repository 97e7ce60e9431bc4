//! Access tokens: short-lived JWTs, made from a key. Only what was revoked of them is state; the rest is in the token.
//!
//! Renewals form a chain that starts at the key: every token of a chain carries the first one's id as its *session*.
//! Revoking a token refuses it and all of its session that was issued after it: whoever stole a token may have renewed
//! it (H7). What was issued before it, and the key, stay good.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::ids::{KeyId, TokenId, WorkerId};
use super::pool::TOKEN_TTL_MAX;
use super::time::{Seconds, Timestamp};

/// Everything that [`super::decide()`] and validation look at in a token whose signature was found good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenFacts {
    pub token: TokenId,
    pub session: TokenId,
    pub worker: WorkerId,
    pub key: KeyId,
    /// The position at which it was issued.
    pub issued: u64,
    pub expires_at: Timestamp,
}

/// A token about to be issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewToken {
    pub token: TokenId,
    /// Its own id, unless it renews another.
    pub session: TokenId,
    pub worker: WorkerId,
    pub key: KeyId,
    pub expires_at: Timestamp,
    pub scopes: Arc<[Arc<str>]>,
}

/// From where on a session is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionCut {
    /// Everything of the session that was issued at or after this position is refused.
    pub from: u64,
    /// Until then anything that it refuses could still be unexpired.
    pub keep_until: Timestamp,
}

/// A revoked token's descendants were renewed before the revocation and expire a longest lifetime after it at most. A
/// day more costs nothing, and covers clocks that disagree.
pub const SESSION_CUT_KEPT: Seconds = Seconds(TOKEN_TTL_MAX.0 + Seconds::DAY);
