//! `/v1/signing-keys`: what access tokens are signed with. Always a next and an active one, and retired ones that verify.

use axum::Json as Reply;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::App;
use super::body::{CommandJson, duration};
use super::caller::{Caller, MayManageSigningKeys, MayReadFleet};
use super::openapi::{IdempotencyKey, Refusals, WaitQuery};
use super::problem::Problem;
use super::schema;
use super::view::{Changed, SigningKeyView};
use super::wish::{Answered, Sending};
use crate::command::mint;
use crate::domain::command::Command;
use crate::domain::key::OVERLAP_MAX;
use crate::domain::pool::TOKEN_TTL_DEFAULT;
use crate::domain::roll::Roll;
use crate::domain::signing_key::SigningAlgorithm;
use crate::domain::time::Seconds;

/// How signing keys are rotated.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SigningKeyRotation {
    /// Of the new next key. `EdDSA` if not given.
    #[schema(schema_with = schema::algorithm_or_null)]
    algorithm: Option<String>,
    /// How long what the retiring key signed is still good: as long as any pool's tokens live if not given, 0s for an end
    /// at once.
    #[schema(schema_with = schema::overlap_or_null)]
    overlap: Option<String>,
    #[schema(schema_with = schema::reason_or_null)]
    reason: Option<String>,
}

/// All signing keys, oldest first.
#[derive(Serialize, ToSchema)]
pub(super) struct SigningKeys {
    items: Vec<SigningKeyView>,
    /// The `kid` of the one that signs.
    #[schema(schema_with = schema::made_id_or_null)]
    active: Option<String>,
}

impl SigningKeys {
    fn of(roll: &Roll) -> Self {
        let items = roll.signing_keys().map(|key| SigningKeyView::from(&**key)).collect();
        Self { items, active: roll.active_signing_key().map(|key| key.id.to_string()) }
    }
}

/// Lists signing keys.
#[utoipa::path(
    get, path = "/v1/signing-keys", tag = "signing keys", responses((status = 200, body = SigningKeys), Refusals)
)]
pub(super) async fn list(State(app): State<App>, _caller: Caller<MayReadFleet>) -> Reply<SigningKeys> {
    Reply(SigningKeys::of(&app.node().snapshot().roll))
}

/// Makes the next key the active one, retires the active one, and makes another next one.
#[utoipa::path(
    post, path = "/v1/signing-keys/rotate", tag = "signing keys", request_body = Option<SigningKeyRotation>,
    params(IdempotencyKey, WaitQuery), responses((status = 200, body = Changed<SigningKeys>), Refusals)
)]
pub(super) async fn rotate(
    State(app): State<App>,
    caller: Caller<MayManageSigningKeys>,
    CommandJson { value, asked }: CommandJson<SigningKeyRotation>,
) -> Result<Answered, Problem> {
    let algorithm = value.algorithm.as_deref().map_or(Ok(SigningAlgorithm::default()), algorithm)?;
    let overlap = match value.overlap.as_deref() {
        Some(text) => duration("overlap", text)?,
        None => overlap_of(&app.node().snapshot().roll),
    };
    let sending = Sending::new(&app, caller.author(), asked).reason(value.reason)?;
    // An RSA key takes up to a second of one core.
    let keys = app.node().keys().clone();
    let next = tokio::task::spawn_blocking(move || mint::signing_key(&keys, algorithm)).await;
    let next = next.map_err(Problem::internal)?.map_err(Problem::internal)?;
    let command = Command::RotateSigningKeys { next, overlap };
    sending.send(command, |roll, done| json!(Changed::by(done, SigningKeys::of(roll)))).await
}

fn algorithm(text: &str) -> Result<SigningAlgorithm, Problem> {
    let found = SigningAlgorithm::ALL.into_iter().find(|algorithm| algorithm.as_str() == text);
    found.ok_or_else(|| Problem::invalid("algorithm", "one of `EdDSA`, `RS256`, `ES256`"))
}

/// What a rotation leaves, where nobody says otherwise.
pub(super) fn overlap_of(roll: &Roll) -> Seconds {
    overlap(roll.pools().map(|pool| pool.settings.token_ttl))
}

/// No token may outlive the key that verifies it, and verifiers that cache the JWKS need a while to notice the new one.
fn overlap(token_ttls: impl Iterator<Item = Seconds>) -> Seconds {
    token_ttls.max().unwrap_or_default().clamp(TOKEN_TTL_DEFAULT, OVERLAP_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_overlap_covers_every_token_that_is_out() {
        let table: [(&[u32], u32); 4] = [(&[], 900), (&[60], 900), (&[60, 7200], 7200), (&[u32::MAX], OVERLAP_MAX.0)];
        for (ttls, expected) in table {
            assert_eq!(overlap(ttls.iter().copied().map(Seconds)), Seconds(expected), "{ttls:?}");
        }
    }

    #[test]
    fn an_algorithm_goes_by_its_jose_name() {
        assert_eq!(algorithm("RS256").ok(), Some(SigningAlgorithm::Rs256));
        assert!(algorithm("none").is_err());
        assert!(algorithm("eddsa").is_err());
    }
}
