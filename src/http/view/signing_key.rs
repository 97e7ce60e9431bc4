//! A signing key, as answers show it: its public half.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::time;
use crate::domain::signing_key::{SigningKey, SigningKeyState};
use crate::http::schema;

/// A signing key.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct SigningKeyView {
    /// The `kid` of what it signs.
    #[schema(schema_with = schema::made_id)]
    id: String,
    #[schema(schema_with = schema::algorithm)]
    algorithm: &'static str,
    #[schema(schema_with = schema::signing_key_state)]
    state: &'static str,
    /// For a retired key: until when what it signed is good.
    #[schema(schema_with = schema::time_or_null)]
    verifies_until: Option<String>,
    #[schema(schema_with = schema::time)]
    created_at: String,
    /// The public key (RFC 7517).
    #[schema(schema_with = schema::any_object)]
    jwk: Value,
}

impl From<&SigningKey> for SigningKeyView {
    fn from(key: &SigningKey) -> Self {
        let until = match key.state {
            SigningKeyState::Retired { verify_until } => Some(verify_until),
            SigningKeyState::Next | SigningKeyState::Active => None,
        };
        Self {
            id: key.id.to_string(),
            algorithm: key.algorithm.as_str(),
            state: key.state.as_str(),
            verifies_until: until.map(time),
            created_at: time(key.created_at),
            // The node has read it before it published this state: it is JSON.
            jwk: serde_json::from_str(&key.public_jwk).unwrap_or_default(),
        }
    }
}
