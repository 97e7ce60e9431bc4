//! The log as a run has left it: every seal checked, as facts for the checker, and folded as a node that starts folds it.

use std::sync::Arc;

use portcullis::credential::root_key::DerivedKeys;
use portcullis::domain::event::{Event, KeyCreated, KeyHolder, Recorded};
use portcullis::domain::fence::FenceScope;
use portcullis::domain::roll::Roll;
use portcullis::log::head::{self, Head};
use portcullis::log::raw::RawEvents;
use portcullis::log::read::{self, ChunkMax};
use portcullis::log::schema;
use portcullis::node::replay;

use super::history::{Fact, What};
use crate::support::cluster::connect;

const CHUNK: u64 = 1_024;

/// Everything up to the end that the log has when it is asked.
pub(super) async fn read(url: &str, keys: &Arc<DerivedKeys>) -> (Vec<Fact>, Roll) {
    let client = connect(url).await.unwrap();
    let log = head::open(&client, keys, None).await.unwrap();
    let folded = replay::fold(&client, keys, log, None).await.unwrap();
    let mut raw = Vec::new();
    let keep = |chunk| {
        raw.push(chunk);
        std::future::ready(Some(RawEvents::default()))
    };
    read::stream(&client, 0, folded.head.next_position, ChunkMax::events(CHUNK), keep).await.unwrap();
    let mut end = Head::genesis(keys, log);
    let facts =
        raw.iter().flat_map(RawEvents::iter).map(|raw| fact(&read::unseal(&raw, &mut end, keys).unwrap())).collect();
    read::check_end(&end, &folded.head).unwrap();
    (facts, folded.roll)
}

fn fact(recorded: &Recorded) -> Fact {
    let what = match &recorded.event {
        Event::WorkerCreated(created) => What::WorkerCreated(created.worker.as_str().into()),
        Event::KeyCreated(KeyCreated { key, holder: KeyHolder::Worker(worker), .. }) => {
            What::KeyCreated { key: *key, worker: worker.as_str().into() }
        }
        Event::KeyRotated { key, successor, overlap_until, .. } => {
            What::KeyRotated { key: *key, successor: *successor, ends_now: *overlap_until <= recorded.occurred_at }
        }
        Event::KeyRevoked { key } => What::KeyRevoked(*key),
        Event::WorkerIsolated { worker, .. } => What::Isolated(worker.as_str().into()),
        Event::WorkerReleased { worker } => What::Released(worker.as_str().into()),
        Event::FenceRaised { scope: FenceScope::Everything, up_to } => What::Fenced { worker: None, up_to: *up_to },
        Event::FenceRaised { scope: FenceScope::Worker(worker), up_to } => {
            What::Fenced { worker: Some(worker.as_str().into()), up_to: *up_to }
        }
        other => What::Other(schema::kind(other).0),
    };
    Fact { position: recorded.position, command: recorded.command, what }
}
