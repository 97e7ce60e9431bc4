//! `GET /v1/netguard`: which addresses a gateway is to block, and which it is not, although somebody isolated was seen there.
//!
//! What is asked is the same for every gateway, and asked often: a node works it out once for all who ask, at most twice a
//! second, and at once when somebody is isolated or released.

use std::sync::Arc;
use std::time::Duration;

use axum::Json as Reply;
use axum::extract::State;
use axum::http::Uri;
use serde::Serialize;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::Instant;
use utoipa::{IntoParams, ToSchema};

use super::caller::{Caller, MayReadNetguard};
use super::openapi::Refusals;
use super::problem::Problem;
use super::query::Pairs;
use super::waiting::patience;
use super::{App, schema};
use crate::command::mint;
use crate::projection::used;
use crate::validate::Snapshot;

pub(super) mod addresses;
mod blocks;

use blocks::{Blocks, Isolated, SHARED_FOR, SHARERS_LOOKED_AT};

/// What was worked out longer ago is worked out anew: keys are used elsewhere, and isolations end by themselves.
const FRESH: Duration = Duration::from_millis(500);
/// What comes in a burst is worked out together.
const SETTLE: Duration = Duration::from_millis(10);
/// Of a digest: enough that no two answers have the same.
const VERSION_CHARS: usize = 32;
/// How many may wait at a time; whoever finds no place is answered at once, and asks again.
static PLACES: Semaphore = Semaphore::const_new(256);

/// What was worked out last.
#[derive(Default)]
pub(super) struct Guarding(Mutex<Option<Known>>);

struct Known {
    at: Instant,
    of: Arc<Snapshot>,
    blocks: Arc<Answer>,
}

/// How a change is waited for.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "read by `query::Pairs`; here it is documented")]
pub(super) struct NetguardQuery {
    /// The `version` of the answer before: wait until there is another.
    #[param(schema_with = schema::netguard_version, required = false)]
    unless: Option<String>,
    /// With `unless`: for how long, 20s unless given. After it the answer is the one before.
    #[param(schema_with = schema::wait_timeout, required = false)]
    timeout: Option<String>,
}

/// What netguard needs to know.
#[derive(Serialize, ToSchema)]
pub(super) struct Answer {
    /// Changes with everything else in this answer.
    #[schema(schema_with = schema::netguard_version)]
    version: String,
    #[serde(flatten)]
    blocks: Blocks,
}

/// Tells which addresses to block: those from which isolated workers were last seen, and those that operators have listed.
#[utoipa::path(
    get, path = "/v1/netguard", tag = "netguard", params(NetguardQuery),
    responses((status = 200, body = Answer), Refusals)
)]
pub(super) async fn read(
    State(app): State<App>,
    _caller: Caller<MayReadNetguard>,
    uri: Uri,
    mut query: Pairs,
) -> Result<Reply<Arc<Answer>>, Problem> {
    let unless = query.one("unless")?;
    if unless.as_deref().is_some_and(|unless| !is_version(unless)) {
        return Err(Problem::invalid("unless", "the `version` of an answer before"));
    }
    query.end()?;
    let patience = Pairs::of(&uri)?.one("timeout")?.map(|text| patience(&text)).transpose()?;
    // The answer must come before the request is given up.
    let patience = patience.unwrap_or(Duration::from_secs(20)).min(app.settings().request_timeout / 2);
    let deadline = Instant::now() + patience;
    let place = PLACES.try_acquire().ok();
    loop {
        // A node that does not know who is isolated must not say that nobody is.
        drop(app.node().current()?);
        let known = app.guarding().known(&app).await?;
        let is_news = unless.as_deref() != Some(&known.version);
        if is_news || place.is_none() || Instant::now() >= deadline {
            return Ok(Reply(known));
        }
        changed(&app, deadline).await;
    }
}

fn is_version(text: &str) -> bool {
    text.len() == VERSION_CHARS && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Waits until there may be something new.
async fn changed(app: &App, deadline: Instant) {
    let before = app.node().snapshot();
    let moved = async {
        let mut now = before.clone();
        while now.roll.guards_as(&before.roll) {
            app.node().reached(now.roll.next_position()).await;
            tokio::time::sleep(SETTLE).await;
            now = app.node().snapshot();
        }
    };
    let again = deadline.min(Instant::now() + FRESH);
    tokio::select! {
        () = moved => {}
        () = tokio::time::sleep_until(again) => {}
    }
}

impl Guarding {
    async fn known(&self, app: &App) -> Result<Arc<Answer>, Problem> {
        let mut known = self.0.lock().await;
        let of = app.node().snapshot();
        if let Some(known) = &*known
            && known.at.elapsed() < FRESH
            && known.of.roll.guards_as(&of.roll)
        {
            return Ok(known.blocks.clone());
        }
        if known.as_ref().is_none_or(|known| !known.of.roll.guards_as(&of.roll)) {
            // Where this node has seen them a moment ago.
            app.used().flush(app.database()).await?;
        }
        let blocks = work_out(app, &of).await?;
        let digest = blake3::hash(&serde_json::to_vec(&blocks).map_err(Problem::internal)?);
        let version = digest.to_hex()[..VERSION_CHARS].to_owned();
        let answer = Arc::new(Answer { version, blocks });
        *known = Some(Known { at: Instant::now(), of, blocks: answer.clone() });
        Ok(answer)
    }
}

async fn work_out(app: &App, snapshot: &Arc<Snapshot>) -> Result<Blocks, Problem> {
    let now = mint::now();
    let mut isolated = Isolated::at(&snapshot.roll, now);
    let keys = isolated.keys();
    if !keys.is_empty() {
        isolated.were_seen(&used::sources(app.database(), &keys, usize::MAX).await?);
    }
    let addresses = isolated.addresses();
    let others = if addresses.is_empty() {
        Vec::new()
    } else {
        let since = crate::domain::time::Timestamp(now.0.saturating_sub(SHARED_FOR));
        used::others(app.database(), &addresses, &keys, since, SHARERS_LOOKED_AT).await?
    };
    Ok(isolated.blocks(&snapshot.roll, now, &others, &app.settings().trusted_proxies))
}
