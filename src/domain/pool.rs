//! A pool: workers under one configuration.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::fence::Floor;
use super::ids::PoolId;
use super::time::{Seconds, Timestamp};

/// The pool that exists from the first start, for those who need no second one.
pub const DEFAULT_POOL: &str = "default";

/// 15 minutes: long enough that renewals are cheap, short enough that an offline verifier's mistake is.
pub const TOKEN_TTL_DEFAULT: Seconds = Seconds(15 * Seconds::MINUTE);
/// 30 days, the longest that any rival allows; past it a token is a key without a key's care.
pub const TOKEN_TTL_MAX: Seconds = Seconds(30 * Seconds::DAY);
/// Below it a token would often be dead on arrival.
pub const TOKEN_TTL_MIN: Seconds = Seconds(5);
/// A scope list has to fit into every token.
pub const SCOPES_MAX: usize = 32;
/// One scope: `resource:action` and some room.
pub const SCOPE_CHARS_MAX: usize = 64;
pub const AUDIENCE_CHARS_MAX: usize = 256;
pub const DESCRIPTION_CHARS_MAX: usize = 1024;

/// How the issue of access tokens is written down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TokenRecord {
    /// An event for each token.
    #[default]
    Each,
    /// One `tokens.issued` count a worker and window: a million workers that renew every 15 minutes must not be a
    /// million events. The counts of the last window are lost with a node that is killed.
    Counted,
}

/// What an operator can set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolSettings {
    pub description: Arc<str>,
    pub token_ttl: Seconds,
    pub token_record: TokenRecord,
    /// The `aud` of the pool's tokens.
    pub audience: Arc<str>,
    /// The scopes that the pool's tokens carry; a request may ask for fewer.
    pub scopes: Arc<[Arc<str>]>,
    /// Whether one key or static secret may serve several workers. It is a risk, and listed as one.
    pub sharing: bool,
}

/// What of it is to be set anew. A change, and not the settings that would come of it: two operators who change two
/// settings at once would otherwise undo each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SettingsChange {
    pub description: Option<Arc<str>>,
    pub token_ttl: Option<Seconds>,
    pub token_record: Option<TokenRecord>,
    pub audience: Option<Arc<str>>,
    pub scopes: Option<Arc<[Arc<str>]>>,
    pub sharing: Option<bool>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    pub id: PoolId,
    pub settings: PoolSettings,
    pub created_at: Timestamp,
    pub removed: bool,
    /// Workers that are not removed or rejected.
    pub workers: u64,
    /// Of the fences over the pool alone.
    pub fence: Floor,
}

impl Default for PoolSettings {
    fn default() -> Self {
        Self {
            description: "".into(),
            token_ttl: TOKEN_TTL_DEFAULT,
            token_record: TokenRecord::Each,
            audience: "portcullis".into(),
            scopes: Arc::new([]),
            sharing: false,
        }
    }
}

impl SettingsChange {
    /// The settings once these were changed.
    #[must_use]
    pub fn onto(&self, settings: &PoolSettings) -> PoolSettings {
        PoolSettings {
            description: self.description.as_ref().unwrap_or(&settings.description).clone(),
            token_ttl: self.token_ttl.unwrap_or(settings.token_ttl),
            token_record: self.token_record.unwrap_or(settings.token_record),
            audience: self.audience.as_ref().unwrap_or(&settings.audience).clone(),
            scopes: self.scopes.as_ref().unwrap_or(&settings.scopes).clone(),
            sharing: self.sharing.unwrap_or(settings.sharing),
        }
    }
}

impl TokenRecord {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            TokenRecord::Each => "each",
            TokenRecord::Counted => "counted",
        }
    }
}
