//! Many nodes on one log: leases, barriers, and what a node may still say when it is cut off.

mod enlisting;
mod near;
mod service;

use std::time::Duration;

use portcullis::command::mint;
use portcullis::domain::command::Command;
use portcullis::node::NotCurrent;
use portcullis::node::barrier::{Barriers, Passed};
use portcullis::node::presence::{self, Identity};
use portcullis::validate::{Presented, check};
use secrecy::{ExposeSecret as _, SecretString};
use tokio_postgres::Client;

use crate::support::cluster::{Scratch, shared_socket};
use crate::support::links::Links;
use crate::support::node::{TestNode, create_worker, keys};
use crate::support::wire::{Mode, Wire};

/// Short, so that a test waits it out; long enough for a busy machine to renew it in time.
const MAX_STALE: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(30);

async fn start(scratch: &Scratch) -> TestNode {
    TestNode::start_with(scratch.database().await, keys(), MAX_STALE, None).await.unwrap()
}

async fn start_on(scratch: &Scratch, wire: &Wire) -> TestNode {
    TestNode::start_with(scratch.database_on(wire.port).await, keys(), MAX_STALE, None).await.unwrap()
}

/// What a gateway that asks this node would hear.
fn accepts(node: &TestNode, credential: &SecretString) -> Result<bool, NotCurrent> {
    let snapshot = node.running.node.current()?;
    let presented = Presented { credential: credential.expose_secret(), worker: None };
    Ok(check(&snapshot, &node.keys, presented, mint::now()).is_ok())
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"));
}

async fn everywhere(barriers: &Barriers, position: u64) -> Passed {
    barriers.wait(position, PATIENCE).await.unwrap()
}

/// The rules of the list, as the database keeps them.
#[tokio::test]
async fn a_lease_is_renewed_only_on_the_list_and_ended_only_where_it_stands_still() {
    let scratch = Scratch::new().await;
    let node = start(&scratch).await;
    node.bootstrap().await;
    let head = node.running.node.snapshot().roll.next_position();
    node.stop().await;
    let client: Client = scratch.superuser().await;
    let one = Identity::new("one".to_owned(), String::new());
    let held = async || {
        let (holders, end) = presence::holders(&client).await.unwrap();
        assert!(holders.is_empty() || end == head, "the end of the log comes along");
        holders.into_iter().find(|holder| holder.id == one.id)
    };

    assert!(!presence::renew(&client, one.id, head).await.unwrap(), "there is none to renew");
    presence::enlist(&client, &one, head, MAX_STALE).await.unwrap();
    assert!(presence::renew(&client, one.id, head - 1).await.unwrap());
    let holder = held().await.expect("it is on the list");
    assert_eq!((holder.applied, holder.renewals), (head, 1), "what was applied stays so");

    assert!(!presence::retire(&client, one.id, 0).await.unwrap(), "it has renewed since");
    assert!(presence::retire(&client, one.id, 1).await.unwrap());
    assert_eq!(held().await, None);
    assert!(!presence::renew(&client, one.id, head).await.unwrap(), "waited out: it has to come on the list anew");
    presence::enlist(&client, &one, head, MAX_STALE).await.unwrap();
    assert_eq!(held().await.map(|holder| holder.renewals), Some(2), "and is never taken for the old one");
    presence::leave(&client, one.id).await.unwrap();
    assert_eq!(held().await, None);
}

/// Waited out and back: the lease counts only from when all is applied that was appended before it came back.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_waited_out_answers_only_with_the_head_of_its_return() {
    let scratch = Scratch::new().await;
    let node = start(&scratch).await;
    node.bootstrap().await;
    let superuser = scratch.superuser().await;
    for _ in 0..5 {
        superuser.batch_execute("update log.node set leased = false").await.unwrap();
        let back = async { superuser.query_one("select bool_and(leased) from log.node", &[]).await.unwrap().get(0) };
        let mut is_back: bool = back.await;
        while !is_back {
            tokio::time::sleep(Duration::from_millis(20)).await;
            is_back = superuser.query_one("select bool_and(leased) from log.node", &[]).await.unwrap().get(0);
        }
        until("it answers again", || node.running.node.check_current().is_ok()).await;
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_revoked_on_one_node_is_refused_on_all_when_the_barrier_has_passed() {
    let scratch = Scratch::new().await;
    let (first, second) = (start(&scratch).await, start(&scratch).await);
    first.bootstrap().await;
    let barriers = Barriers::start(scratch.database().await);
    for number in 0..20 {
        let (_, key, secret) = first.worker(&format!("w-{number}")).await;
        until("the key works on the other node", || accepts(&second, &secret) == Ok(true)).await;
        let revoked = first.submit(Command::RevokeKey { key, descendants: true }).await.unwrap();
        let passed = everywhere(&barriers, revoked.position).await;
        assert_eq!((passed.confirmed.len(), passed.waited_out.len(), passed.missing.len()), (2, 0, 0), "{passed:?}");
        assert_eq!(accepts(&second, &secret), Ok(false));
    }
    second.stop().await;
    first.stop().await;
}

/// Promise 4, where it is hard: the node cannot hear, and nothing tells it so.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_cannot_hear_is_waited_out_and_refuses_by_itself_until_it_has_caught_up() {
    let scratch = Scratch::new().await;
    let wire = Wire::start(shared_socket()).await;
    let (near, far) = (start(&scratch).await, start_on(&scratch, &wire).await);
    near.bootstrap().await;
    let (_, key, secret) = near.worker("w").await;
    let (_, _, other) = near.worker("other").await;
    until("the key works on the far node", || accepts(&far, &secret) == Ok(true)).await;
    let barriers = Barriers::start(scratch.database().await);

    wire.set(Mode::Frozen);
    let revoked = near.submit(Command::RevokeKey { key, descendants: true }).await.unwrap();
    assert_eq!(accepts(&near, &secret), Ok(false), "here at once");
    // It does not know, and may say so for as long as nobody was told otherwise.
    let short = barriers.wait(revoked.position, Duration::from_millis(50)).await.unwrap();
    assert_eq!(short.missing.len(), 1, "{short:?}");
    let passed = everywhere(&barriers, revoked.position).await;
    assert_eq!((passed.confirmed.len(), passed.waited_out.len()), (1, 1), "{passed:?}");
    for _ in 0..100 {
        assert_eq!(accepts(&far, &secret), Err(NotCurrent::Stale), "not even once");
        assert_eq!(accepts(&far, &other), Err(NotCurrent::Stale), "stale means closed");
    }

    wire.set(Mode::Open);
    until("the far node comes back", || accepts(&far, &other) == Ok(true)).await;
    assert_eq!(accepts(&far, &secret), Ok(false), "it came back with all that it had missed");
    far.stop().await;
    near.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_node_is_waited_for_and_never_accepts_after_the_barrier() {
    let scratch = Scratch::new().await;
    let wire = Wire::start(shared_socket()).await;
    let (near, far) = (start(&scratch).await, start_on(&scratch, &wire).await);
    near.bootstrap().await;
    let barriers = Barriers::start(scratch.database().await);
    wire.set(Mode::Slow(Duration::from_millis(20)));
    for number in 0..5 {
        let (_, key, secret) = near.worker(&format!("w-{number}")).await;
        until("the key works on the far node", || accepts(&far, &secret) == Ok(true)).await;
        let revoked = near.submit(Command::RevokeKey { key, descendants: true }).await.unwrap();
        let passed = everywhere(&barriers, revoked.position).await;
        assert!(passed.is_everywhere() && !passed.confirmed.is_empty(), "{passed:?}");
        assert_ne!(accepts(&far, &secret), Ok(true), "{passed:?}");
    }
    far.stop().await;
    near.stop().await;
}

/// `NOTIFY` is a promise of nothing: what is lost on the way costs a poll, and no more.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_hears_no_notification_finds_what_was_appended_by_itself() {
    // Eight polls, on a machine that does much else.
    const POLLED: Duration = Duration::from_secs(2);
    let scratch = Scratch::new().await;
    let links = Links::start(shared_socket()).await;
    links.deafen();
    let near = start(&scratch).await;
    near.bootstrap().await;
    let far = scratch.database_on(links.port).await;
    let far = TestNode::start_with(far, keys(), Duration::from_secs(60), None).await.unwrap();
    assert_eq!(links.deaf(), 1, "it listens, where nobody speaks");
    for number in 0..4 {
        let (_, _, secret) = near.worker(&format!("w-{number}")).await;
        let applied = near.running.node.snapshot().roll.next_position() - 1;
        let polled = tokio::time::timeout(POLLED, far.running.node.reached(applied)).await;
        assert!(polled.is_ok(), "event {applied} was not found within {POLLED:?}");
        assert_eq!(accepts(&far, &secret), Ok(true));
    }
    assert_eq!(links.deaf(), 1, "over the same connection all along");
    far.stop().await;
    near.stop().await;
}

/// A barrier asks those who hold a lease; a node that starts meanwhile is given one with the change in its state.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_starts_after_the_barrier_has_what_it_was_for() {
    let scratch = Scratch::new().await;
    let first = start(&scratch).await;
    first.bootstrap().await;
    let (_, key, secret) = first.worker("w").await;
    let revoked = first.submit(Command::RevokeKey { key, descendants: true }).await.unwrap();
    let passed = everywhere(&Barriers::start(scratch.database().await), revoked.position).await;
    assert_eq!(passed.confirmed.len(), 1);
    let second = start(&scratch).await;
    assert_eq!(accepts(&second, &secret), Ok(false));
    first.submit(create_worker(&"x".parse().unwrap())).await.unwrap();
    second.stop().await;
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_position_is_told_when_this_node_has_it() {
    let scratch = Scratch::new().await;
    let (first, second) = (start(&scratch).await, start(&scratch).await);
    first.bootstrap().await;
    let position = first.submit(create_worker(&"w".parse().unwrap())).await.unwrap().position;
    tokio::time::timeout(PATIENCE, second.running.node.reached(position)).await.unwrap();
    assert!(second.running.node.snapshot().roll.worker("w").is_some());
    let beyond = tokio::time::timeout(Duration::from_millis(20), second.running.node.reached(position + 1)).await;
    assert!(beyond.is_err(), "nothing is there yet");
    second.stop().await;
    first.stop().await;
}
