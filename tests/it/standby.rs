//! A primary with a synchronous standby that takes its place: nothing acknowledged is lost, no history forks, the services
//! come back by themselves, and nobody goes back to the old primary, whatever it does.
//!
//! The services know both by one URL, in which the old primary stands first.

use std::sync::Arc;
use std::time::{Duration, Instant};

use portcullis::credential::root_key::{DerivedKeys, RootKey};
use portcullis::log::head::{self, Head};
use portcullis::log::seen::Seen;
use portcullis::node::barrier::Barriers;
use portcullis::node::replay;
use portcullis::postgres::Database;
use serde_json::json;

use crate::crash::load::{Load, Log};
use crate::support::cluster::standby::PRIMARY;
use crate::support::cluster::{PrivateCluster, connect};
use crate::support::node::TestNode;
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
        // Whoever kept them, on whichever server: no row is from a history that nobody follows.
        self.services[0].verify_projections().await;
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
    let give_up = Instant::now() + Duration::from_secs(30);
    while first.post("/v1/workers", json!({ "id": "only-on-the-new-one" })).await.status != 201 {
        assert!(Instant::now() < give_up, "it does not come back: {}", first.log());
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

/// Nobody tells those who are connected: an old primary that nobody has stopped goes on answering them.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_connected_to_an_old_primary_turns_to_the_new_one() {
    const PATIENCE: Duration = Duration::from_secs(30);
    let primary = PrivateCluster::start_with(|_, _| PRIMARY.iter().map(ToString::to_string).collect()).await;
    let standby = primary.synchronous_standby().await;
    let mut options = primary.options();
    options.url = primary.url_of_both(&standby).into();
    options.owner_url = Some(primary.owner_url_of_both(&standby).into());
    let database = Database::open(options).await.unwrap();
    database.migrate().await.unwrap();
    let node = TestNode::start(database.clone()).await;
    node.bootstrap().await;
    let barriers = Barriers::start(database.clone());
    let (_, _, _) = node.worker("before").await;
    let before = node.running.node.snapshot().roll.next_position() - 1;
    assert!(barriers.wait(before, PATIENCE).await.unwrap().is_everywhere());
    let port = async || -> String {
        database.client().await.unwrap().query_one("select current_setting('port')", &[]).await.unwrap().get(0)
    };
    assert_eq!(port().await, primary.port.to_string());

    standby.promote();
    primary.wait_for(None).await;
    // Whoever connects anew looks at both hosts, and with that all others know.
    let give_up = Instant::now() + PATIENCE;
    while port().await != standby.port.to_string() {
        assert!(Instant::now() < give_up, "the pool keeps connections to the old primary");
        drop(database.session().await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // As the owner too: on the old primary there is no log any more, for whoever still asks there.
    connect(&primary.owner_url()).await.unwrap().batch_execute("drop schema log cascade").await.unwrap();
    assert!(database.root_key_check().await.unwrap().is_some());
    let (_, _, _) = node.worker("after").await;
    let after = node.running.node.snapshot().roll.next_position() - 1;
    assert!(barriers.wait(after, PATIENCE).await.unwrap().is_everywhere(), "the barrier asks at the new primary");
    let events = "select count(*) from log.event";
    let there: i64 = connect(&standby.owner_url()).await.unwrap().query_one(events, &[]).await.unwrap().get(0);
    assert!(there > i64::try_from(after).unwrap());
    node.stop().await;
}

/// H3. A replica answers every question, and shows what was true a while ago.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_lags_serves_nobody_and_whoever_has_nothing_else_is_stale() {
    let mut world = World::start(1).await;
    let node = &world.services[0];
    let key = async |worker: &str| {
        node.post("/v1/workers", json!({ "id": worker })).await.expect(201);
        let key = node.post(&format!("/v1/workers/{worker}/keys"), json!({})).await.expect(201);
        (key["id"].as_str().unwrap().to_owned(), json!({ "credential": key["key"] }))
    };
    let ((revoked, doomed), (_, good)) = (key("doomed").await, key("good").await);
    let replica = connect(&world.standby.owner_url()).await.unwrap();
    let replayed =
        async || replica.query_one("select next_position from log.head", &[]).await.unwrap().get::<_, i64>(0);
    let end = i64::try_from(node.get("/v1/pools").await.position()).unwrap();
    node.until("the replica has both keys", async || replayed().await > end).await;
    replica.batch_execute("select pg_wal_replay_pause()").await.unwrap();
    let position = node.post(&format!("/v1/keys/{revoked}/revoke?wait=everywhere"), json!({})).await.position();
    assert!(replayed().await <= i64::try_from(position).unwrap(), "it lags, and shows a key that works");

    // A node that is pointed at it does not start, whatever the URL asks for, and says what to do.
    let (url, owner_url) = (world.standby.tcp_url(), world.standby.owner_url());
    for (attributes, why) in [
        ("", "name the primary"),
        ("?target_session_attrs=any", "name the primary"),
        ("?target_session_attrs=read-only", "leave it out"),
    ] {
        let refused = world.launch_on(1, &format!("{url}{attributes}"), &owner_url).try_start().await.err();
        let refused = refused.expect("it does not start");
        assert!(refused.contains(why), "{attributes}: {refused}");
    }

    // One that runs, and has nothing else left, is stale before long, and takes nothing from it.
    world.primary.kill();
    let node = &world.services[0];
    let verdict = async |credential: &serde_json::Value| {
        let answer = node.post("/v1/validate", credential.clone()).await;
        if answer.status == 200 { answer.json()["reason"].as_str().unwrap().to_owned() } else { answer.problem(503) }
    };
    node.until("it is stale", async || {
        assert_ne!(verdict(&doomed).await, "ok");
        verdict(&good).await == "stale"
    })
    .await;
    for _ in 0..100 {
        assert_eq!((verdict(&doomed).await, verdict(&good).await), ("stale".to_owned(), "stale".to_owned()));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // What the primary acknowledges, the replica has to have; and it asks for nothing while it replays nothing.
    replica.batch_execute("select pg_wal_replay_resume()").await.unwrap();
    world.primary.restart().await;
    let node = &world.services[0];
    node.until("the primary is back", async || node.post("/v1/validate", good.clone()).await.status == 200).await;
    assert_eq!(node.post("/v1/validate", good.clone()).await.expect(200)["reason"], "ok");
    assert_eq!(node.post("/v1/validate", doomed).await.expect(200)["reason"], "key_revoked");
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
