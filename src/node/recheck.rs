//! The part of the log that a start from a snapshot does not read, checked afterwards.
//!
//! What came before the snapshot makes no state any more, so a row that was changed there lets nobody in. It is somebody's
//! doing all the same, and a history that an auditor would be shown: so the seals, the columns and the order of every event
//! before the snapshot are checked while the service runs, and the node stops as it would have refused to start.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio_postgres::Client;

use super::snapshot::Snapshots;
use super::{Node, background};
use crate::credential::root_key::DerivedKeys;
use crate::domain::ids::LogId;
use crate::domain::plan::PlanKind;
use crate::log::head::Head;
use crate::log::raw::RawEvents;
use crate::log::read::{self, ChunkMax};
use crate::log::{LogFault, Tampered};
use crate::postgres::Database;

/// Events in one statement: so few that the database has its core for a millisecond or so.
const PAGE: u64 = 512;
/// After so many events, a tenth of a millisecond's work, or a list, whoever waits for its core has a turn.
const TURN: usize = 32;
/// How often as long as it has worked it rests: nobody waits for it.
const REST: u32 = 9;
/// And no longer than this, where it was the database or other threads that took so long.
const REST_MAX: Duration = Duration::from_millis(500);
/// How often it is looked whether a plan is still being recorded.
const LOOK: Duration = Duration::from_millis(500);
/// For how long it waits for plans, in all: twice as long as the largest fleet takes, and not as long as somebody likes who
/// can apply them and would not have it checked.
const HELD_MAX: Duration = Duration::from_mins(2);
/// After a statement that failed.
const PAUSE: Duration = Duration::from_secs(5);

/// What is to be checked.
pub struct Recheck {
    pub database: Database,
    pub keys: Arc<DerivedKeys>,
    pub node: Arc<Node>,
    pub log: LogId,
    /// Removed where the log before them is not what it was.
    pub snapshots: Snapshots,
    /// Where the snapshot ends.
    pub end: Head,
}

/// The running thread; ends when it is dropped.
pub struct Rechecking {
    _stop: oneshot::Sender<()>,
}

impl Recheck {
    pub fn start(self) -> std::io::Result<Rechecking> {
        let (stop, stopped) = oneshot::channel();
        background::spawn("recheck", async {
            tokio::select! {
                () = self.run() => {}
                _ = stopped => {}
            }
        })?;
        Ok(Rechecking { _stop: stop })
    }

    async fn run(self) {
        let began = Instant::now();
        let (mut head, mut held) = (Head::genesis(&self.keys, self.log), Duration::ZERO);
        loop {
            match self.check_on(&mut head, &mut held).await {
                Ok(()) => break,
                Err(fault @ (LogFault::Database(_) | LogFault::Silent)) => {
                    tracing::debug!(%fault, position = head.next_position, "the checking of the older log pauses");
                    tokio::time::sleep(PAUSE).await;
                }
                Err(fault) => {
                    self.node.stop(&fault);
                    // A start from a snapshot would serve again until this is found again: the next one reads all, and refuses.
                    if let Err(error) = self.snapshots.discard() {
                        let folder = self.snapshots.folder().display();
                        tracing::error!(%error, %folder, "remove the snapshots by hand before the next start");
                    }
                    return;
                }
            }
        }
        let events = head.next_position;
        tracing::info!(events, elapsed = ?began.elapsed(), "checked the log before the snapshot: it is whole");
    }

    /// From where it was left, having waited for so long.
    async fn check_on(&self, head: &mut Head, held: &mut Duration) -> Result<(), LogFault> {
        wait_for_plans(&self.node, held, LOOK, HELD_MAX).await;
        let session = self.database.session().await.map_err(|_| LogFault::Silent)?;
        while head.next_position < self.end.next_position {
            wait_for_plans(&self.node, held, LOOK, HELD_MAX).await;
            let began = Instant::now();
            self.check_page(&session.client, head).await?;
            tokio::time::sleep((began.elapsed() * REST).min(REST_MAX)).await;
        }
        if head.seals == self.end.seals {
            return Ok(());
        }
        Err(Tampered::OtherHistory { position: self.end.next_position }.into())
    }

    async fn check_page(&self, client: &Client, head: &mut Head) -> Result<(), LogFault> {
        let from = head.next_position;
        let to = self.end.next_position.min(from + PAGE);
        let mut rows = RawEvents::default();
        read::stream(client, from, to, ChunkMax::events(to - from), |page| {
            rows = page;
            std::future::ready(Some(RawEvents::default()))
        })
        .await?;
        for (raw, number) in rows.iter().zip(1..) {
            read::unseal(&raw, head, &self.keys)?;
            if number % TURN == 0 || raw.is_long() {
                thread::yield_now();
            }
        }
        if head.next_position < to {
            return Err(Tampered::Missing { position: head.next_position }.into());
        }
        Ok(())
    }
}

/// While a plan is recorded, the database and the processors have enough to do beside those who are served. No longer than the
/// `most`, with what it was `held` before.
async fn wait_for_plans(node: &Node, held: &mut Duration, look: Duration, most: Duration) {
    let records = || node.snapshot().roll.running_plans().any(|(plan, _)| plan.kind == PlanKind::RevokeAll);
    while *held < most && records() {
        tokio::time::sleep(look).await;
        *held += look;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::root_key::RootKey;
    use crate::domain::enrollment::Limits;
    use crate::domain::event::{Event, PlanMade};
    use crate::domain::ids::{EnrollmentSecretId, PlanId, PoolId};
    use crate::domain::key::Digest;
    use crate::domain::plan::{Counts, Selector};
    use crate::domain::pool::PoolSettings;
    use crate::domain::roll::Roll;
    use crate::domain::time::Timestamp;
    use crate::node::MAX_STALE_DEFAULT;

    fn apply(roll: &mut Roll, event: Event) {
        roll.apply(&event.recorded_at(roll.next_position()));
    }

    /// One enrollment secret, which a plan of this kind is about that was applied.
    fn roll(kind: PlanKind) -> Roll {
        let (mut roll, pool) = (Roll::default(), "default".parse::<PoolId>().unwrap());
        let selector = Selector::new(vec!["everything".parse().unwrap()], None, None).unwrap();
        let made = PlanMade {
            plan: PlanId(1),
            kind,
            selector,
            digest: Digest([0; 32]),
            counts: Counts::default(),
            left_without_key: 0,
            replaces: None,
            approval: false,
            expires_at: Timestamp(1),
        };
        let secret = EnrollmentSecretId(1);
        apply(&mut roll, Event::PoolCreated { pool: pool.clone(), settings: PoolSettings::default() });
        let limits = Limits::default();
        apply(&mut roll, Event::EnrollmentSecretCreated { secret, pool, verifier: Digest([1; 32]), limits });
        apply(&mut roll, Event::PlanMade(made));
        apply(&mut roll, Event::PlanApplied { plan: PlanId(1), items: 1 });
        roll
    }

    #[tokio::test]
    async fn it_waits_for_a_plan_that_revokes_and_not_for_ever() {
        let node = |roll| Node::new(RootKey::from_bytes([7; 32]).derive(), roll, MAX_STALE_DEFAULT).unwrap();
        let (other, plan) = (node(roll(PlanKind::DisableEnrollment)), node(roll(PlanKind::RevokeAll)));
        let (mut held, look, long) = (Duration::ZERO, Duration::from_millis(2), Duration::from_mins(10));
        wait_for_plans(&other, &mut held, look, long).await;
        assert_eq!(held, Duration::ZERO, "what another kind of plan records is little");

        let mut done = plan.snapshot().roll.clone();
        apply(&mut done, Event::PlanProgressed { plan: PlanId(1), done: 1, changed: 1 });
        let recorded = async {
            tokio::time::sleep(look * 5).await;
            plan.publish(done).unwrap();
        };
        tokio::join!(wait_for_plans(&plan, &mut held, look, long), recorded);
        assert!(held >= look, "until it is recorded: {held:?}");

        let endless = node(roll(PlanKind::RevokeAll));
        let most = held + look * 3;
        for _ in 0..2 {
            wait_for_plans(&endless, &mut held, look, most).await;
            assert_eq!(held, most, "for all plans together");
        }
    }
}
