//! A primary with a synchronous standby that takes its place: nothing acknowledged is lost, no history forks, the services
//! come back by themselves, and nobody goes back to the old primary, whatever it does.
//!
//! The services know both by one URL, in which the old primary stands first.

use std::sync::Arc;
use std::time::Duration;

use portcullis::credential::root_key::{DerivedKeys, RootKey};
use portcullis::log::head::{self, Head};
use portcullis::log::seen::Seen;
use portcullis::node::replay;
use serde_json::json;

use crate::crash::load::{Load, Log};
use crate::support::cluster::standby::PRIMARY;
use crate::support::cluster::{PrivateCluster, connect};
use crate::support::service::{Launch, Service};

const CLIENTS: usize = 6;
/// Commands that get through between two faults.
const PROGRESS: usize = 24;

struct World {
    primary: PrivateCluster,
    standby: PrivateCluster,
    services: Vec<Service>,
}

impl World {
    async fn start(services: usize) -> Self {
        let primary = PrivateCluster::start_with(|_, _| PRIMARY.iter().map(ToString::to_string).collect()).await;
        let standby = primary.synchronous_standby().await;
        let mut world = Self { primary, standby, services: Vec::new() };
        for number in 0..services {
            let service = world.launch(number).start().await;
            world.services.push(service);
        }
        let token = world.services[0].token.clone();
        world.services.iter_mut().for_each(|service| service.token.clone_from(&token));
        world
    }

    /// The first makes the root key, and the others are given it.
    fn launch(&self, number: usize) -> Launch {
        let both = (self.primary.url_of_both(&self.standby), self.primary.owner_url_of_both(&self.standby));
        self.launch_on(number, &both.0, &both.1)
    }

    fn launch_on(&self, number: usize, url: &str, owner_url: &str) -> Launch {
        let name = format!("node-{number}");
        let launch = Launch::on_urls(url, owner_url).flag("--disable-tls").argument("--node-name", &name);
        let launch = launch.argument("--max-stale", "2s").argument("--database-connect-timeout", "1s");
        match self.services.first() {
            Some(first) if number > 0 => launch.argument("--root-key-file", first.file("root.key").to_str().unwrap()),
            _ => launch,
        }
    }

    fn load(&self) -> Load {
        Load::start_on(&self.services.iter().collect::<Vec<_>>(), CLIENTS)
    }

    fn keys(&self) -> Arc<DerivedKeys> {
        RootKey::load_or_create(&self.services[0].file("root.key")).unwrap().0.derive()
    }

    /// Stops the load and compares all that the clients and the nodes know with the log of the standby.
    async fn check(mut self, load: Load) {
        let url = self.standby.owner_url();
        let mut told = load.stop().await;
        told.check(&Log::read(&url).await);
        told.settle(&self.services[0], &url).await;
        let keys = self.keys();
        let end = end_of_log(&url, &keys).await;
        for service in &mut self.services {
            let end = end.next_position - 1;
            service.get(&format!("/v1/workers?at_least={end}&limit=1")).await.expect(200);
            assert!(service.stop());
        }
        // The chain of each node, where it ended, is that of the log.
        let client = connect(&url).await.unwrap();
        for service in &self.services {
            let seen = Seen::load(&service.file("log.seen"), &keys).unwrap().expect("each has seen the log");
            let last = i64::try_from(seen.next_position).unwrap() - 1;
            let there = client.query_one("select mac from log.event where position = $1", &[&last]).await.unwrap();
            assert_eq!(there.get::<_, &[u8]>(0), seen.mac);
            assert!(seen.next_position >= end.next_position);
        }
    }
}

/// Where the log ends, every seal of it checked.
async fn end_of_log(url: &str, keys: &Arc<DerivedKeys>) -> Head {
    let client = connect(url).await.unwrap();
    let log = head::open(&client, keys, None).await.unwrap();
    replay::fold(&client, keys, log, None).await.unwrap().head
}

/// All that a service writes: the end of the log, and how often each node has renewed its lease.
async fn written(cluster: &PrivateCluster) -> String {
    let question = "select (select version from log.head) || ' ' || (select sum(renewals) from log.node)";
    connect(&cluster.owner_url()).await.unwrap().query_one(question, &[]).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_takes_over_with_all_that_was_acknowledged_and_the_old_primary_is_left_alone() {
    let mut world = World::start(2).await;
    let load = world.load();
    load.progress(PROGRESS, "before").await;
    if rand::random() {
        world.primary.freeze_and_kill();
    } else {
        world.primary.kill();
    }
    world.standby.promote();
    load.progress(PROGRESS, "after the standby took over").await;

    // Nobody has fenced the old one off: it comes back as a primary of its own, which waits for nobody.
    world.primary.restart().await;
    world.primary.wait_for(None).await;
    let before = written(&world.primary).await;
    for round in 0..3 {
        cut_all(&world.standby).await;
        load.progress(PROGRESS, &format!("cut off {round} times, with the old primary up")).await;
    }
    // A node that starts knows of no timeline: it looks at both.
    let launch = world.launch(1).data_dir_of(&world.services[1]);
    assert!(world.services[1].stop());
    world.services[1] = launch.port(port_of(&world.services[1])).start().await;
    world.services[1].token = world.services[0].token.clone();
    load.progress(PROGRESS, "started anew, with the old primary up").await;
    assert_eq!(written(&world.primary).await, before, "nobody has written to the old primary");

    // Where only the old one is left, there is none.
    world.standby.kill();
    let first = &world.services[0];
    first.until("it is stale", async || first.get("/readyz").await.status == 503).await;
    for _ in 0..10 {
        assert_eq!(first.get("/readyz").await.problem(503), "stale");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    first.until("it says why", async || first.log().contains("is an old primary")).await;
    world.standby.restart().await;
    load.progress(PROGRESS, "after the new primary came back").await;
    assert_eq!(written(&world.primary).await, before, "nor then");
    world.check(load).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_hangs_is_left_for_its_standby_and_renews_nobodys_lease() {
    let mut world = World::start(2).await;
    let load = world.load();
    load.progress(PROGRESS, "before").await;
    world.primary.freeze();
    world.standby.promote();
    load.progress(PROGRESS, "after the standby took over from a primary that hangs").await;
    world.primary.thaw();
    load.progress(PROGRESS, "with the old primary awake").await;
    let before = written(&world.primary).await;
    load.progress(PROGRESS, "and later").await;
    assert_eq!(written(&world.primary).await, before, "it waits for a standby that it does not have");
    world.primary.kill();
    load.progress(PROGRESS, "with the old primary gone").await;
    world.check(load).await;
}

/// What a node has seen, its next start still knows: alone with the old primary it does not start at all.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_has_seen_more_does_not_start_on_an_old_primary() {
    let mut world = World::start(1).await;
    world.primary.kill();
    world.standby.promote();
    let first = &mut world.services[0];
    let give_up = std::time::Instant::now() + Duration::from_secs(30);
    while first.post("/v1/workers", json!({ "id": "only-on-the-new-one" })).await.status != 201 {
        assert!(std::time::Instant::now() < give_up, "it does not come back: {}", first.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(first.stop());
    world.primary.restart().await;
    world.primary.wait_for(None).await;
    let before = written(&world.primary).await;

    let alone = world.launch_on(0, &world.primary.url(), &world.primary.owner_url());
    let refused = alone.data_dir_of(&world.services[0]).try_start().await.err().expect("it has seen more");
    assert!(refused.contains("an older database was put in its place"), "{refused}");
    assert_eq!(written(&world.primary).await, before, "and nothing was changed there");
    let both = world.launch(0).data_dir_of(&world.services[0]);
    both.start().await.get("/v1/workers/only-on-the-new-one").await.expect(200);
}

fn port_of(service: &Service) -> u16 {
    service.url.rsplit_once(':').unwrap().1.parse().unwrap()
}

/// Ends every connection of the services.
async fn cut_all(cluster: &PrivateCluster) {
    let question =
        "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name = 'portcullis'";
    let client = connect(&cluster.owner_url()).await.unwrap();
    let ended: i64 = client.query_one(question, &[]).await.unwrap().get(0);
    assert!(ended > 0);
}
