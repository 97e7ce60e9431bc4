//! The keeper beside a writer that publishes, and beside whoever stops the node: it takes what belongs together, or nothing.

use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::watch;

use super::{LOG, ends, folded, keys, positions, store};
use crate::domain::actor::Author;
use crate::domain::event::{Event, Recorded};
use crate::domain::ids::CommandId;
use crate::domain::pool::PoolSettings;
use crate::domain::time::Timestamp;
use crate::log::LogFault;
use crate::log::head::Head;
use crate::node::snapshot::keeper::Keeper;
use crate::node::{MAX_STALE_DEFAULT, Node};

/// Pools, one after the other: of signing keys that nobody has made, no node would be.
fn log() -> Vec<Recorded> {
    let pool = |position: u64| Event::PoolCreated {
        pool: format!("pool-{position}").parse().unwrap(),
        settings: PoolSettings::default(),
    };
    let recorded = |position: u64| Recorded {
        position,
        recorded_at: Timestamp(position.cast_signed()),
        occurred_at: Timestamp(position.cast_signed()),
        author: Author::system(),
        command: CommandId(position.into()),
        cause: None,
        incident: None,
        reason: None,
        event: pool(position),
    };
    (0..9).map(recorded).collect()
}

/// A node that has published these events; its keeper, which was told of as many as `told`; and who tells it of more.
fn keeper(folder: &TempDir, published: &[Recorded], told: &[Recorded]) -> (Keeper, Arc<Node>, watch::Sender<Head>) {
    let node = Arc::new(Node::new(keys(), folded(published).roll, MAX_STALE_DEFAULT).unwrap());
    let (sender, heads) = watch::channel(folded(told).head);
    let keeper = Keeper { snapshots: store(folder), node: node.clone(), log: LOG, heads, kept: 0 };
    (keeper, node, sender)
}

/// The state and the head are published one after the other; in whichever order, only both of one position are taken.
#[test]
fn a_snapshot_is_of_a_state_and_of_the_head_where_that_ends() {
    let (folder, log) = (tempfile::tempdir().unwrap(), log());
    for (published, told) in [(5, 9), (9, 5)] {
        let (mut keeper, node, heads) = keeper(&folder, &log[..published], &log[..told]);
        let end = folded(&log);
        let writer = thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            match published {
                9 => drop(heads.send(end.head)),
                _ => node.publish(end.roll).unwrap(),
            }
            heads
        });
        keeper.take();
        drop(writer.join());
        assert_eq!(keeper.kept, 9);
        let found = store(&folder).newest(LOG);
        assert_eq!(ends(&found), (Some(9), Some(9)));
        assert!(found.state.unwrap().roll == folded(&log).roll);
        store(&folder).discard().unwrap();
    }
}

/// A writer that was ended between the two has left what belongs to nothing.
#[test]
fn where_head_and_state_never_meet_nothing_is_taken() {
    let (folder, log) = (tempfile::tempdir().unwrap(), log());
    let (mut keeper, ..) = keeper(&folder, &log[..5], &log);
    assert!(keeper.pair().is_none());
    keeper.take();
    assert_eq!((keeper.kept, ends(&store(&folder).newest(LOG))), (0, (None, None)));
}

/// Whoever finds the log to be another stops the node and removes the snapshots: a start from one would serve again. One that
/// was being written in that moment goes too.
#[test]
fn of_a_node_that_has_stopped_no_snapshot_is_left_whenever_that_was() {
    let (folder, log) = (tempfile::tempdir().unwrap(), log());
    for round in 0..200_u64 {
        // Two of before, so that there is something to remove on both sides.
        for end in [3, 5] {
            super::write(&store(&folder), &log[..end]);
        }
        let (mut keeper, node, _heads) = keeper(&folder, &log, &log);
        let (start, snapshots) = (Arc::new(Barrier::new(2)), store(&folder));
        let began = start.clone();
        let stopping = thread::spawn(move || {
            began.wait();
            // From before the first look of the keeper to after its last.
            thread::sleep(Duration::from_micros(round * 10));
            node.stop(&LogFault::WrongRootKey);
            drop(snapshots.discard());
        });
        start.wait();
        keeper.take();
        stopping.join().unwrap();
        assert_eq!(positions(&store(&folder)), Vec::<String>::new(), "in round {round}");
    }
}
