//! Workers that three secrets have let in.

use futures_util::StreamExt as _;
use serde_json::{Value, json};

use crate::support::service::Service;

const WORKERS: usize = 10_000;
const POOLS: [&str; 3] = ["builders", "probes", "runners"];
/// One of so many has a token from the beginning.
const WITH_TOKEN: usize = 10;
/// How many enroll at a time.
const AT_ONCE: usize = 64;

#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) key: String,
    /// Of some of them.
    pub(super) token: Option<String>,
}

pub(super) struct Fleet {
    pub(super) leaked_secret: String,
    pub(super) other_secrets: Vec<String>,
    /// Whom that secret has let in.
    pub(super) leaked: Vec<Member>,
    pub(super) others: Vec<Member>,
}

impl Member {
    pub(super) fn credentials(&self) -> impl Iterator<Item = &str> {
        [Some(self.key.as_str()), self.token.as_deref()].into_iter().flatten()
    }
}

impl Fleet {
    pub(super) async fn enrolled(nodes: &[Service]) -> Self {
        let mut secrets = Vec::new();
        for pool in POOLS {
            // Of that which leaks the log says only how many tokens each worker got.
            let record = if pool == "builders" { "counted" } else { "each" };
            nodes[0].post("/v1/pools", json!({ "name": pool, "token_record": record })).await.expect(201);
            let made = nodes[0].post("/v1/enrollment-secrets", json!({ "pool": pool })).await.expect(201);
            let position: u64 = made["position"].as_u64().unwrap_or_default();
            for node in nodes {
                node.get(&format!("/v1/pools/{pool}?at_least={position}")).await.expect(200);
            }
            secrets.push(made["secret"].as_str().unwrap().to_owned());
        }
        let one = |number: usize| {
            let (node, secret) = (&nodes[number % nodes.len()], &secrets[number % POOLS.len()]);
            async move {
                let made =
                    node.post_as(secret, "/v1/enroll", json!({ "name": format!("host-{number}") })).await.expect(201);
                let text = |made: &Value, field: &str| made[field].as_str().unwrap().to_owned();
                let key = text(&made, "key");
                let token = match number / POOLS.len() % WITH_TOKEN {
                    0 => Some(text(&node.post_as(&key, "/v1/register", json!({})).await.expect(200), "token")),
                    _ => None,
                };
                (number % POOLS.len(), Member { key, token })
            }
        };
        let all: Vec<(usize, Member)> =
            futures_util::stream::iter(0..WORKERS).map(one).buffered(AT_ONCE).collect().await;
        let (leaked, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|(pool, _)| *pool == 0);
        let members = |of: Vec<(usize, Member)>| of.into_iter().map(|(_, member)| member).collect();
        let leaked_secret = secrets.remove(0);
        Self { leaked_secret, other_secrets: secrets, leaked: members(leaked), others: members(others) }
    }
}
