//! A node that came back on the list, and does not know it: the answer that said so was lost. Its next renewal finds it
//! there, as if it had never been away; but the head of its return is later than the one that it was first admitted with.

use std::time::Duration;

use portcullis::domain::command::Command;

use super::{PATIENCE, accepts, everywhere, start, until};
use crate::support::cluster::{Scratch, shared_socket};
use crate::support::links::{Link, Links};
use crate::support::node::{TestNode, keys};
use portcullis::node::NotCurrent;
use portcullis::node::barrier::Barriers;

/// Of the node that is away: long enough that what it confirmed before it was cut off lasts through all that follows.
const MAX_STALE: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_return_was_not_confirmed_counts_no_lease_before_the_head_of_its_return() {
    let scratch = Scratch::new().await;
    let links = Links::start(shared_socket()).await;
    let near = start(&scratch).await;
    near.bootstrap().await;
    let far = scratch.database_on(links.port).await;
    let far = TestNode::start_with(far, keys(), MAX_STALE, None).await.unwrap();
    let (_, key, secret) = near.worker("w").await;
    until("the key works on the far node", || accepts(&far, &secret) == Ok(true)).await;
    let barriers = Barriers::start(scratch.database().await);

    // It follows, and cannot renew: so it is waited out by whoever asks, and refuses by itself.
    links.freeze(Link::Lease, true);
    until("its lease ends", || accepts(&far, &secret) == Err(NotCurrent::Stale)).await;
    let (_, other, _) = near.worker("other").await;
    let revoked = near.submit(Command::RevokeKey { key: other, descendants: true }).await.unwrap();
    // What was appended, the far node has applied, and nobody has heard so.
    let passed = everywhere(&barriers, revoked.position).await;
    assert_eq!(passed.waited_out.len(), 1, "{passed:?}");
    tokio::time::timeout(PATIENCE, far.running.node.reached(revoked.position)).await.unwrap();

    // Now it hears nothing more of the log; and its key ends, and nobody has to wait for it.
    links.freeze(Link::Writer, true);
    let revoked = near.submit(Command::RevokeKey { key, descendants: true }).await.unwrap();
    let passed = everywhere(&barriers, revoked.position).await;
    assert_eq!((passed.confirmed.len(), passed.waited_out.len()), (1, 0), "{passed:?}");

    links.lose_enlisted();
    links.freeze(Link::Lease, false);
    until("it is on the list, and was not told", || links.has_lost()).await;
    let renewals = "select renewals from log.node where lease_ms = 5000 and leased";
    let superuser = scratch.superuser().await;
    let on_list: i64 = superuser.query_one(renewals, &[]).await.unwrap().get(0);
    let mut renewed = on_list;
    while renewed == on_list {
        assert_eq!(accepts(&far, &secret), Err(NotCurrent::Stale), "it has not heard that the key ended");
        tokio::time::sleep(Duration::from_millis(5)).await;
        renewed = superuser.query_one(renewals, &[]).await.unwrap().get(0);
    }
    for _ in 0..50 {
        assert_eq!(accepts(&far, &secret), Err(NotCurrent::Stale), "it has not heard that the key ended");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    links.freeze(Link::Writer, false);
    until("it comes back", || accepts(&far, &secret) == Ok(false)).await;
    far.stop().await;
    near.stop().await;
}
