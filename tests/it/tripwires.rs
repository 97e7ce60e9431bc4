//! Tripwires on a running service: what trips, how often it is told, and what a rule does about it.

use std::net::Ipv4Addr;

use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::support::cluster::Scratch;
use crate::support::service::Service;

struct World {
    service: Service,
    log: Client,
    _scratch: Scratch,
}

impl World {
    async fn new() -> Self {
        let scratch = Scratch::new().await;
        let service = Service::start(&scratch).await;
        let log = scratch.superuser().await;
        let world = Self { service, log, _scratch: scratch };
        world.service.post("/v1/pools", json!({ "name": "blue" })).await.expect(201);
        world
    }

    /// A new worker's key: its id, and what is presented.
    async fn worker(&self, id: &str) -> (String, String) {
        self.service.post("/v1/workers", json!({ "id": id, "pool": "blue" })).await.expect(201);
        self.made(&format!("/v1/workers/{id}/keys"), json!({})).await
    }

    async fn honey(&self) -> (String, String) {
        self.made("/v1/honey-keys", json!({ "pool": "blue", "note": "a backup" })).await
    }

    async fn made(&self, path: &str, body: Value) -> (String, String) {
        let made = self.service.post(path, body).await.expect(201);
        (made["id"].as_str().unwrap().to_owned(), made["key"].as_str().unwrap().to_owned())
    }

    async fn revoked(&self, id: &str) -> (String, String) {
        let key = self.worker(id).await;
        self.service.post(&format!("/v1/keys/{}/revoke", key.0), json!({})).await.expect(200);
        key
    }

    async fn shown_from(&self, credential: &str, source: &str) -> String {
        let body = json!({ "credential": credential, "source": source });
        self.service.post("/v1/validate", body).await.expect(200)["reason"].as_str().unwrap().to_owned()
    }

    async fn trips(&self) -> Vec<Value> {
        let found = self.service.get("/v1/events?kind=tripwire.tripped&limit=1000").await.expect(200);
        found["items"].as_array().unwrap().clone()
    }

    /// So many trips, and the last of them.
    async fn trip(&self, count: usize) -> Value {
        self.service.until(&format!("{count} trips"), async || self.trips().await.len() >= count).await;
        let trips = self.trips().await;
        assert_eq!(trips.len(), count, "{trips:#?}");
        trips.last().unwrap().clone()
    }

    /// All but what says that something is in force.
    async fn entries(&self) -> i64 {
        let count = "select count(*) from log.event where kind <> 'barrier.passed'";
        self.log.query_one(count, &[]).await.unwrap().get(0)
    }

    async fn rule(&self, rule: Value) {
        let request = self.service.request("PUT".parse().unwrap(), "/v1/tripwires").bearer_auth(&self.service.token);
        self.service.send(request.json(&rule)).await.expect(200);
    }

    async fn state(&self, worker: &str) -> Value {
        self.service.get(&format!("/v1/workers/{worker}")).await.expect(200)["state"].clone()
    }
}

/// A key with another secret: genuine in form alone.
fn with_other_secret(key: &str, other: &str) -> String {
    use portcullis::credential::key::{KeyKind, mint, parse};
    use secrecy::ExposeSecret as _;
    let (key, other) = (parse(key).unwrap(), parse(other).unwrap());
    assert_ne!(key.id, other.id);
    mint(KeyKind::Worker, key.id, &[7; 32]).expose_secret().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_that_is_used_is_an_event_at_once_and_noise_is_none() {
    let world = World::new().await;
    let (id, key) = world.revoked("w").await;
    let (_, other) = world.worker("v").await;

    // Whoever knows nothing but ids.
    let before = world.entries().await;
    let guess = with_other_secret(&key, &other);
    for _ in 0..50 {
        assert_eq!(world.shown_from(&guess, "192.0.2.1").await, "secret_wrong");
        assert_eq!(world.service.get_as(&guess, "/v1/worker").await.status.as_u16() / 100, 4);
    }
    // A good key, and one whose worker is shut away for a while.
    assert_eq!(world.shown_from(&other, "192.0.2.1").await, "ok");
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert_eq!(world.entries().await, before);
    assert!(world.trips().await.is_empty());

    assert_eq!(world.shown_from(&key, "192.0.2.1").await, "key_revoked");
    let trip = world.trip(1).await;
    let expected = json!({ "key": id, "why": "revoked", "worker": "w", "pool": "blue", "source": "192.0.2.1",
        "count": 1, "answers": [], "from": trip["data"]["from"], "to": trip["data"]["to"] });
    assert_eq!(trip["data"], expected);
    assert_eq!((&trip["actor"]["kind"], &trip["subject"]["id"]), (&json!("system"), &json!(id)), "{trip}");
    assert_eq!(world.state("w").await, "active", "without a rule it is recorded, and that is all");
}

/// Within its overlap a rotated key is good. After it, using it trips; but for the worker that has lost the answer to its own
/// rotation and asks for it again.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_rotated_away_trips_once_its_overlap_is_over() {
    let world = World::new().await;
    let (id, key) = world.worker("w").await;
    let rotate = async |idempotency: &str, overlap: &str| {
        let request = world.service.request("POST".parse().unwrap(), "/v1/worker/key/rotate").bearer_auth(&key);
        let request = request.header("Idempotency-Key", idempotency).json(&json!({ "overlap": overlap }));
        world.service.send(request).await
    };
    rotate("first", "0s").await.expect(201);
    for _ in 0..3 {
        rotate("first", "0s").await.expect(201);
    }
    let before = world.entries().await;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert_eq!((world.entries().await, world.trips().await.len()), (before, 0), "it has lost an answer");
    assert_eq!(rotate("second", "0s").await.status.as_u16(), 401);
    let trip = world.trip(1).await;
    assert_eq!((&trip["data"]["key"], &trip["data"]["why"]), (&json!(id), &json!("rotated")), "{trip}");

    let (id, key) = world.worker("v").await;
    world.service.post(&format!("/v1/keys/{id}/rotate"), json!({ "overlap": "1h" })).await.expect(201);
    assert_eq!(world.shown_from(&key, "192.0.2.1").await, "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_honey_key_opens_an_incident_and_isolates_whoever_showed_it() {
    let world = World::new().await;
    let (id, honey) = world.honey().await;
    let keys = [world.worker("thief").await.1, world.worker("other").await.1];
    for (key, source) in [(&keys[0], "192.0.2.7"), (&keys[1], "192.0.2.8")] {
        assert_eq!(world.shown_from(key, source).await, "ok");
    }
    world.rule(json!({ "pool": "blue", "honey": ["isolate", "open_incident"] })).await;

    // It is refused like one that nobody has ever heard of, and so is a guess at its secret.
    let (_, unknown) = world.made("/v1/operators", json!({ "name": "x", "role": "gateway" })).await;
    let guess = with_other_secret(&honey, &unknown);
    let refusal = async |key: &str| {
        let answer = world.service.get_as(key, "/v1/worker").await;
        (answer.status, answer.text)
    };
    assert_eq!(refusal(&guess).await, refusal("ptc_wk_nonsense").await);
    assert_eq!(world.shown_from(&guess, "192.0.2.7").await, "key_unknown");
    assert!(world.trips().await.is_empty());

    assert_eq!(world.shown_from(&honey, "192.0.2.7").await, "key_unknown");
    let trip = world.trip(1).await;
    let answers =
        json!([{ "answer": "incident_opened", "incident": "INC-1" }, { "answer": "isolated", "worker": "thief" }]);
    assert_eq!((&trip["data"]["answers"], &trip["data"]["why"]), (&answers, &json!("honey")), "{trip}");
    assert_eq!((world.state("thief").await, world.state("other").await), (json!("isolated"), json!("active")));
    assert_eq!(world.shown_from(&keys[0], "192.0.2.7").await, "worker_isolated");

    // What was done by rule is told of the trip, and in the incident.
    let carried = world.service.get("/v1/events?incident=INC-1").await.expect(200);
    for kind in ["incident.opened", "worker.isolated"] {
        let event = carried["items"].as_array().unwrap().iter().find(|event| event["kind"] == kind).unwrap();
        assert_eq!((&event["cause"], &event["actor"]["kind"]), (&trip["position"], &json!("system")), "{event}");
    }
    let incident = world.service.get("/v1/incidents/INC-1").await.expect(200);
    assert_eq!(incident["first_sign"], trip["data"]["from"], "{incident}");
    let listed = world.service.get("/v1/honey-keys").await.expect(200);
    assert_eq!((&listed["items"][0]["id"], &listed["items"][0]["uses"]), (&json!(id), &json!(1)), "{listed}");
    assert_eq!(world.service.get(&format!("/v1/keys/{id}")).await.status.as_u16(), 404, "it is none of the keys");

    // Two workers behind one address: nobody is shut away for the other.
    let (_, second) = world.honey().await;
    for (name, source) in [("x", "192.0.2.9"), ("y", "192.0.2.9")] {
        assert_eq!(world.shown_from(&world.worker(name).await.1, source).await, "ok");
    }
    assert_eq!(world.shown_from(&second, "192.0.2.9").await, "key_unknown");
    let trip = world.trip(2).await;
    let answers =
        json!([{ "answer": "incident_joined", "incident": "INC-1" }, { "answer": "not_isolated", "why": "ambiguous" }]);
    assert_eq!((&trip["data"]["answers"], &trip["incident"]), (&answers, &json!("INC-1")), "{trip}");

    let removed = world.service.request("DELETE".parse().unwrap(), &format!("/v1/honey-keys/{id}"));
    world.service.send(removed.bearer_auth(&world.service.token)).await.expect(200);
    let before = world.entries().await;
    assert_eq!(world.shown_from(&honey, "192.0.2.8").await, "key_unknown");
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert_eq!(world.entries().await, before, "a honey key that was removed is noise");
}

/// One who holds a revoked key and uses it as fast as it goes, from a thousand addresses.
#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_uses_of_one_key_are_a_few_events() {
    let world = World::new().await;
    let (_, key) = world.revoked("w").await;
    let before = world.entries().await;
    let many: Vec<Value> = (0..10).map(|_| json!({ "credential": key })).collect();
    let shows = (0..1_000_u32).map(|number| {
        let source = Ipv4Addr::from_bits(0x0a00_0000 | number).to_string();
        let body = json!({ "credentials": many, "source": source });
        let service = &world.service;
        async move { service.post("/v1/validate", body).await.expect(200) }
    });
    let answers: Vec<Value> = futures_util::stream::iter(shows).buffer_unordered(16).collect().await;
    let refused = answers.iter().flat_map(|answer| answer["verdicts"].as_array().unwrap());
    assert_eq!(refused.filter(|verdict| verdict["reason"] == "key_revoked").count(), 10_000);
    world.service.until("the first is told", async || !world.trips().await.is_empty()).await;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    // The first at once; of each address that is told apart another when its minute is over, and one for all others.
    let trips = world.trips().await;
    assert!((1..=18).contains(&trips.len()), "{}", trips.len());
    let failures = "select count(*) from log.event where kind in ('auth.failures_observed', 'barrier.passed')";
    let others: i64 = world.log.query_one(failures, &[]).await.unwrap().get(0);
    assert!(world.entries().await - before <= 18 + others, "nothing else was written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_is_shown_as_it_was_set() {
    let world = World::new().await;
    world.rule(json!({ "honey": ["open_incident", "isolate"], "rotated": [] })).await;
    world.rule(json!({ "pool": "blue", "revoked": ["isolate"] })).await;
    let expected = json!({ "items": [
        { "pool": null, "honey": ["isolate", "open_incident"], "revoked": ["record"], "rotated": ["record"] },
        { "pool": "blue", "honey": null, "revoked": ["isolate"], "rotated": null },
    ] });
    assert_eq!(world.service.get("/v1/tripwires").await.expect(200), expected);
}
