//! A database that has gone back (H19, promise 9): an older copy of its files is put in its place, as a restore does it, or
//! as somebody does it who wants a revoked key to work again. Every node that runs stops, says why, and refuses everything;
//! one that starts does not start. Also where the copy has been written to since, and is as long as the log was, or longer.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::cluster::standby::Copy;
use crate::support::cluster::{PrivateCluster, connect};
use crate::support::service::{Launch, Service};
use crate::support::wire::{Mode, Wire};

/// Two nodes behind wires, and a third that is only there to write elsewhere.
struct World {
    cluster: PrivateCluster,
    wires: Vec<Wire>,
    services: Vec<Service>,
    older: Copy,
    /// What was good when the copy was made, and was revoked since.
    credential: Value,
}

/// A node; all but the first are given the root key of the first.
fn launch(url: &str, owner_url: &str, number: usize, first: Option<&Service>) -> Launch {
    let name = format!("node-{number}");
    let launch = Launch::on_urls(url, owner_url).flag("--disable-tls").argument("--node-name", &name);
    let launch = launch.argument("--max-stale", "2s");
    match first {
        Some(first) => launch.argument("--root-key-file", first.file("root.key").to_str().unwrap()),
        None => launch,
    }
}

impl World {
    async fn start() -> Self {
        let mut cluster = PrivateCluster::start().await;
        let (mut wires, mut services) = (Vec::new(), Vec::<Service>::new());
        for number in 0..2 {
            let wire = Wire::start(cluster.socket()).await;
            let url = PrivateCluster::url_on(wire.port);
            let mut service = launch(&url, &cluster.owner_url(), number, services.first()).start().await;
            if let Some(first) = services.first() {
                service.token.clone_from(&first.token);
            }
            wires.push(wire);
            services.push(service);
        }
        let first = &services[0];
        first.post("/v1/workers", json!({ "id": "w" })).await.expect(201);
        let key = first.post("/v1/workers/w/keys", json!({})).await.expect(201);
        let credential = json!({ "credential": key["key"] });
        cluster.kill();
        let older = cluster.copy();
        cluster.restart().await;
        let path = format!("/v1/keys/{}/revoke?wait=everywhere", key["id"].as_str().unwrap());
        first.until("the key is revoked", async || first.post(&path, json!({})).await.status == 200).await;
        let passed = async || first.get("/v1/events?limit=100").await.text.contains("barrier.passed");
        first.until("that it is in force is recorded", passed).await;
        let world = Self { cluster, wires, services, older, credential };
        for service in &world.services {
            let knows = async || {
                let answer = service.post("/v1/validate", world.credential.clone()).await;
                answer.status == 200 && answer.json()["reason"] == "key_revoked"
            };
            service.until("every node knows", knows).await;
        }
        // The last that a node adds by itself, for a minute: that the key was shown. From here on the log is at rest.
        let first = &world.services[0];
        let trips = async || {
            let found = first.get("/v1/events?kind=tripwire.tripped").await.expect(200);
            found["items"].as_array().unwrap().len()
        };
        first.until("each node has recorded it", async || trips().await == world.services.len()).await;
        let last = world.position().await - 1;
        for service in &world.services {
            service.get(&format!("/v1/workers/w?at_least={last}")).await.expect(200);
        }
        world
    }

    async fn put_older_in_place(&mut self) {
        self.cluster.kill();
        self.cluster.put_back(&self.older);
        self.cluster.restart().await;
    }

    fn set(&self, mode: Mode) {
        self.wires.iter().for_each(|wire| wire.set(mode));
    }

    /// Adds so many events by a node that has seen nothing of what was.
    async fn write_elsewhere(&self, events: usize) {
        let first = &self.services[0];
        let third = launch(&self.cluster.url(), &self.cluster.owner_url(), 2, Some(first));
        let mut third = third.start().await;
        third.token.clone_from(&first.token);
        assert_eq!(third.post("/v1/validate", self.credential.clone()).await.expect(200)["active"], true);
        for number in 0..events {
            third.post("/v1/workers", json!({ "id": format!("elsewhere-{number}") })).await.expect(201);
        }
        assert!(third.stop());
    }

    async fn position(&self) -> i64 {
        let client = connect(&self.cluster.owner_url()).await.unwrap();
        client.query_one("select next_position from log.head", &[]).await.unwrap().get(0)
    }

    /// Every node has stopped, for this reason, and neither accepts nor changes anything; nor does it start again.
    async fn check_refused(mut self, running: &str, starting: &str) {
        let before = self.position().await;
        for service in &self.services {
            let stopped = async || {
                let answer = service.get("/readyz").await;
                answer.status == 503 && answer.json()["code"] == "stopped"
            };
            service.until("it has stopped", stopped).await;
            let said = service.get("/readyz").await.text;
            assert!(said.contains(running), "{said}");
            assert!(service.log().contains(running), "{}", service.log());
            for _ in 0..5 {
                let refused = service.post("/v1/validate", self.credential.clone()).await;
                assert_eq!(refused.problem(503), "stopped");
                let refused = service.post("/v1/workers", json!({ "id": "more" })).await;
                assert_eq!(refused.status, 503, "{refused:?}");
                let one = json!({ "reason": "a drill" });
                let request = service.request(Method::POST, "/v1/workers/w/isolate").bearer_auth(&service.token);
                assert_eq!(service.send(request.json(&one)).await.status, 503);
            }
        }
        assert_eq!(self.position().await, before, "nothing was written");
        for service in &mut self.services {
            service.stop();
        }
        for (number, service) in self.services.iter().enumerate() {
            let again = launch(&self.cluster.url(), &self.cluster.owner_url(), number, Some(&self.services[0]));
            let said = again.data_dir_of(service).try_start().await.err().expect("it has seen more");
            assert!(said.contains(starting) && said.contains("Nothing was changed"), "{said}");
        }
        assert_eq!(self.position().await, before, "nothing was written");
    }
}

const OLDER: &str = "an older database was put in its place";
const OTHER: &str = "another was put in its place";

#[tokio::test(flavor = "multi_thread")]
async fn an_older_copy_is_noticed_by_every_node_that_runs_and_by_one_that_starts() {
    let mut world = World::start().await;
    world.put_older_in_place().await;
    world.check_refused(OLDER, OLDER).await;
}

/// The positions are those that were there, and the events are not.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_copy_that_was_written_to_is_noticed_when_it_is_just_as_long() {
    let mut world = World::start().await;
    let known = world.position().await;
    world.set(Mode::Cut);
    world.put_older_in_place().await;
    let missing = usize::try_from(known - world.position().await).unwrap();
    world.write_elsewhere(missing).await;
    assert_eq!(world.position().await, known);
    world.set(Mode::Open);
    world.check_refused(OTHER, OTHER).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_copy_that_was_written_to_is_noticed_when_it_is_longer() {
    let mut world = World::start().await;
    let known = world.position().await;
    world.set(Mode::Cut);
    world.put_older_in_place().await;
    world.write_elsewhere(usize::try_from(known - world.position().await).unwrap() + 5).await;
    world.set(Mode::Open);
    world.check_refused("its mac is wrong", OTHER).await;
}
