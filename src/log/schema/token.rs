//! Events of access tokens on disk.
//!
//! 2026-11-22: `token.issued`, `tokens.issued` and `token.revoked`, schema 1.

use serde::{Deserialize, Serialize};

use super::Frozen;
use crate::domain::event::Event;
use crate::domain::ids::{TokenId, WorkerId};
use crate::domain::time::Timestamp;
use crate::domain::token::NewToken;
use crate::log::entry::EntryError;
use crate::log::text::{Text, read_count, written_count};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct IssuedV1<'a> {
    #[serde(borrow)]
    expires_at: Text<'a>,
    #[serde(borrow)]
    key: Text<'a>,
    #[serde(borrow)]
    scopes: Vec<Text<'a>>,
    #[serde(borrow)]
    session: Text<'a>,
    #[serde(borrow)]
    token: Text<'a>,
    #[serde(borrow)]
    worker: Text<'a>,
}

/// How many tokens one worker was given from one moment to another.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CountedV1<'a> {
    count: u64,
    #[serde(borrow)]
    from: Text<'a>,
    #[serde(borrow)]
    to: Text<'a>,
    #[serde(borrow)]
    worker: Text<'a>,
}

/// `issued` is the position at which the token was.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RevokedV1<'a> {
    issued: u64,
    #[serde(borrow)]
    session: Text<'a>,
    #[serde(borrow)]
    token: Text<'a>,
    #[serde(borrow)]
    worker: Text<'a>,
}

impl<'a> IssuedV1<'a> {
    pub(super) fn new(issued: &'a NewToken) -> Result<Self, EntryError> {
        Ok(Self {
            expires_at: Text::time(issued.expires_at, "expires_at")?,
            key: Text::of(&issued.key),
            scopes: issued.scopes.iter().map(|scope| Text::borrowed(scope)).collect(),
            session: Text::of(&issued.session),
            token: Text::of(&issued.token),
            worker: Text::borrowed(issued.worker.as_str()),
        })
    }

    pub(super) fn issued(&self) -> Result<Event, EntryError> {
        Ok(Event::TokenIssued(NewToken {
            token: self.token.parse("token")?,
            session: self.session.parse("session")?,
            worker: self.worker.parse("worker")?,
            key: self.key.parse("key")?,
            expires_at: self.expires_at.parse_time("expires_at")?,
            scopes: self.scopes.iter().map(Text::to_shared).collect(),
        }))
    }
}

impl<'a> CountedV1<'a> {
    pub(super) fn new(worker: &'a WorkerId, count: u64, from: Timestamp, to: Timestamp) -> Result<Self, EntryError> {
        Ok(Self {
            count: written_count(count, "count")?,
            from: Text::time(from, "from")?,
            to: Text::time(to, "to")?,
            worker: Text::borrowed(worker.as_str()),
        })
    }

    pub(super) fn counted(&self) -> Result<Event, EntryError> {
        Ok(Event::TokensIssued {
            worker: self.worker.parse("worker")?,
            count: read_count(self.count, "count")?,
            from: self.from.parse_time("from")?,
            to: self.to.parse_time("to")?,
        })
    }
}

impl<'a> RevokedV1<'a> {
    pub(super) fn new(token: TokenId, session: TokenId, worker: &'a WorkerId, issued: u64) -> Result<Self, EntryError> {
        Ok(Self {
            issued: written_count(issued, "issued")?,
            session: Text::of(&session),
            token: Text::of(&token),
            worker: Text::borrowed(worker.as_str()),
        })
    }

    pub(super) fn revoked(&self) -> Result<Event, EntryError> {
        Ok(Event::TokenRevoked {
            token: self.token.parse("token")?,
            session: self.session.parse("session")?,
            worker: self.worker.parse("worker")?,
            issued: read_count(self.issued, "issued")?,
        })
    }
}

impl<'a> Frozen<'a> for IssuedV1<'a> {
    fn subject(&self) -> (&'static str, &str) {
        ("worker", self.worker.as_str())
    }
}

impl<'a> Frozen<'a> for CountedV1<'a> {
    fn subject(&self) -> (&'static str, &str) {
        ("worker", self.worker.as_str())
    }
}

impl<'a> Frozen<'a> for RevokedV1<'a> {
    fn subject(&self) -> (&'static str, &str) {
        ("token", self.token.as_str())
    }
}
