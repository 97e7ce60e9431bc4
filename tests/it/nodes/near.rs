//! What a node reads together with the head, when another has appended: all that is new, in one round trip, or nothing.

use portcullis::command::mint;
use portcullis::domain::ids::LogId;
use portcullis::log::head::{self, Head};
use portcullis::log::raw::RawEvents;
use portcullis::log::read::{self, ChunkMax, Look};
use portcullis::log::{LogFault, Tampered};
use portcullis::node::replay::{self, Folded};
use tokio_postgres::Client;

use crate::support::cluster::Scratch;
use crate::support::node::{TestNode, create_worker, keys};

async fn folded(client: &Client) -> (LogId, Folded) {
    let log = head::open(client, &keys(), None).await.unwrap();
    (log, replay::fold(client, &keys(), log, None).await.unwrap())
}

/// So many events, of so many commands.
async fn append(node: &TestNode, count: usize) {
    let create = (0..count).map(|_| {
        let worker = format!("w-{}", mint::id().simple()).parse().unwrap();
        node.submit(create_worker(&worker))
    });
    futures_util::future::try_join_all(create).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn few_events_come_with_the_head_and_make_the_state_that_the_whole_log_makes() {
    let scratch = Scratch::new().await;
    let node = TestNode::start(scratch.database().await).await;
    node.bootstrap().await;
    let session = scratch.database().await.session().await.unwrap();
    let look = Look::prepare(&session.client).await.unwrap();
    for (count, come) in [(0, true), (1, true), (127, true), (128, true), (129, false), (300, false)] {
        let (_, before) = folded(&session.client).await;
        append(&node, count).await;
        let (_, after) = folded(&session.client).await;
        let (end, events) = look.at(&session.client, before.head.next_position).await.unwrap();
        assert_eq!(end, after.head);
        assert_eq!(events.is_some(), come, "{count} events");
        let Some(events) = events else { continue };
        assert_eq!(events.len(), count);
        let from = before.head.next_position;
        let (there, taken) = replay::take_in(&keys(), before, &end, &events).unwrap();
        assert_eq!((there.head, there.roll), (after.head, after.roll), "{count} events");
        let positions = taken.iter().map(|taken| taken.recorded.position);
        assert!(positions.eq(from..end.next_position), "{count} events");
        let lengths: Vec<usize> = events.entries().unwrap().iter().map(Vec::len).collect();
        assert!(taken.iter().map(|taken| taken.bytes).eq(lengths), "{count} events");
    }
    node.stop().await;
}

/// The same promises as a start keeps: what is short of the head, or of another history, is no state.
#[tokio::test(flavor = "multi_thread")]
async fn events_that_do_not_lead_to_the_head_are_refused() {
    let scratch = Scratch::new().await;
    let node = TestNode::start(scratch.database().await).await;
    node.bootstrap().await;
    let session = scratch.database().await.session().await.unwrap();
    let look = Look::prepare(&session.client).await.unwrap();
    let (_, before) = folded(&session.client).await;
    append(&node, 3).await;
    let from = before.head.next_position;
    let (end, events) = look.at(&session.client, from).await.unwrap();
    let mut events = events.unwrap();

    let here = || Folded { roll: before.roll.clone(), head: before.head.clone() };
    let refused = |head: &Head, events: &RawEvents| replay::take_in(&keys(), here(), head, events).err();
    let back = Head { version: before.head.version - 1, ..before.head.clone() };
    assert!(matches!(refused(&back, &RawEvents::default()), Some(LogFault::Tampered(Tampered::WentBack { .. }))));
    let (_, last) = look.at(&session.client, from + 2).await.unwrap();
    let last = last.unwrap();
    assert!(
        matches!(refused(&end, &last), Some(LogFault::Tampered(Tampered::Missing { position })) if position == from)
    );
    events.truncate(2);
    let short = refused(&end, &events);
    assert!(
        matches!(short, Some(LogFault::Tampered(Tampered::Missing { position })) if position == from + 2),
        "{short:?}"
    );
    node.stop().await;
}

/// What a database sends is read as what its columns were made to be. This one sends what it sent before.
#[tokio::test(flavor = "multi_thread")]
async fn a_column_of_another_type_is_found_also_where_few_events_are_read() {
    let scratch = Scratch::new().await;
    let node = TestNode::start(scratch.database().await).await;
    node.bootstrap().await;
    node.stop().await;
    let retype = "alter table log.event alter schema type oid using schema::oid";
    scratch.superuser().await.batch_execute(retype).await.unwrap();

    let session = scratch.database().await.session().await.unwrap();
    let look = Look::prepare(&session.client).await.unwrap();
    let near = look.at(&session.client, 0).await.err();
    let page = read::stream(&session.client, 0, 1, ChunkMax::events(1), |_| std::future::ready(None)).await.err();
    for found in [near, page] {
        assert!(
            matches!(found, Some(LogFault::Tampered(Tampered::ColumnType { position: 0, column: "schema" }))),
            "{found:?}"
        );
    }
}
