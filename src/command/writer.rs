//! The one task of a node that decides and appends; it follows the log for the same reason: only it moves the Roll.
//!
//! It takes all commands that queued while the last commit was in flight, decides them over a draft, appends the batch with
//! a compare-and-swap of the head, publishes the draft, and answers. When another node has moved the head it reads on and
//! decides again. When a commit's fate is unknown it reads the log until it knows; it never guesses.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::Instrument;

use self::clock::Clock;
pub use self::ended::OUTCOMES;
use self::following::hear;
use self::leasing::Leasing;
use self::link::{Link, no_link, patient};
use self::opening::{Opened, Opening};
use self::setback::{Setback, chain, with_remedy};
use super::batch::{Decided, decide_all};
use super::{CommandError, CommandQueue, Reply, Submission, mint};
use crate::credential::root_key::DerivedKeys;
use crate::domain::ids::{CommandId, LogId};
use crate::domain::roll::Roll;
use crate::log::append::{AppendError, Appended};
use crate::log::head::Head;
use crate::log::seen::Seen;
use crate::log::{LogFault, outcome, read};
use crate::node::lease::Uptime;
use crate::node::mirroring::Fresh;
use crate::node::presence::Identity;
use crate::node::replay::Folded;
use crate::node::snapshot::Snapshots;
use crate::node::{Node, NotCurrent, background};
use crate::postgres::{Database, is_refused_for_good};
use crate::telemetry::Metrics;

mod clock;
mod ended;
mod following;
mod leasing;
mod link;
mod opening;
mod setback;

/// The most commands in one batch: a bound on how long the first of them waits for the last.
const BATCH_COMMANDS_MAX: usize = 512;
/// How often the head is looked at when nobody says that it moved: the safety net under `NOTIFY`.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// After so long without an answer, a statement's connection is given up: a link that was cut silently never answers.
const STATEMENT_PATIENCE: Duration = Duration::from_secs(10);
/// After so long Postgres ends a statement of the writer's by itself: before it is given up here.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(8);
/// And after so long one that waits for a lock. That is a clear no, where a longer wait would leave a fate unknown.
const LOCK_TIMEOUT: Duration = Duration::from_secs(3);
/// For how long a transaction that holds the head may stand idle. A node that is paused in it would keep all others from
/// appending: they give up a wait after [`LOCK_TIMEOUT`], and should find the head free when they come again.
const HEAD_HELD_MAX: Duration = Duration::from_secs(2);
/// For how long a command is tried again before its caller is told that the log cannot be written.
const WRITE_PATIENCE: Duration = Duration::from_secs(15);
const RECONNECT_PAUSE_MIN: Duration = Duration::from_millis(20);
const RECONNECT_PAUSE_MAX: Duration = Duration::from_secs(1);
/// For how long a writer that was told to stop tries to find out what became of its last commands. Without an end, a
/// database that is gone would keep the service from stopping.
const STOP_PATIENCE: Duration = Duration::from_secs(10);
/// Races lost before the writer takes the head's row lock first. Under a lock it cannot lose.
const RACES_LOST_MAX: u32 = 2;
/// And before it pauses between attempts. Under a lock it is no race that was lost, but something that stays.
const RACES_LOST_QUICKLY: u32 = 4;
const FORGET_INTERVAL: Duration = Duration::from_mins(10);

/// What a node starts its writer with.
pub struct Start {
    pub database: Database,
    pub metrics: Arc<Metrics>,
    pub identity: Identity,
    /// For how long this node may answer without having heard of the log, and the length of its lease.
    pub max_stale: Duration,
    pub queue_length: usize,
    /// What this node has seen of the log before: one that has less is refused.
    pub seen: Option<Seen>,
    /// Where to begin from, if there is one: otherwise the whole log is folded.
    pub snapshots: Option<Snapshots>,
    pub mirror: Option<Mirrored>,
}

/// The mirror of the log, as far as the writer has to do with it.
pub struct Mirrored {
    /// Where it ends, if it was begun: a log that has less is refused.
    pub end: Option<Seen>,
    /// Where what is appended or followed goes, once it is published.
    pub fresh: mpsc::Sender<Fresh>,
}

/// The running writer.
pub struct Running {
    pub node: Arc<Node>,
    pub queue: CommandQueue,
    pub log: LogId,
    /// Where the snapshot ends that it began from. What came before has not been read.
    pub resumed: Option<Head>,
    /// Where the published Roll ends. Closed when the writer ends.
    pub heads: watch::Receiver<Head>,
    /// The newest position at which this node itself has taken access away.
    pub reductions: watch::Receiver<u64>,
    /// Ends when the writer does: after `stop`, once every queued command is answered, or patience is over.
    pub task: tokio::task::JoinHandle<()>,
    stop: watch::Sender<bool>,
}

struct Writer {
    database: Database,
    keys: Arc<DerivedKeys>,
    node: Arc<Node>,
    metrics: Arc<Metrics>,
    queue: mpsc::Receiver<Submission>,
    link: Option<Link>,
    roll: Roll,
    head: Head,
    /// Where the published Roll ends.
    published: watch::Sender<Head>,
    reductions: watch::Sender<u64>,
    clock: Arc<Clock>,
    mirror: Option<mpsc::Sender<Fresh>>,
    /// Partitions cover all positions below.
    partitioned: u64,
}

/// How writing one batch has gone so far.
#[derive(Default)]
struct Effort {
    races_lost: u32,
    /// An append may be in the log, or still get there, without our knowing: to give up now would be to guess.
    fate_unknown: bool,
    /// One was unknown at some time: what we find in the log under the commands' ids may be our own.
    ever_unknown: bool,
    /// No partition was there for the batch, and those that were missing have been made since.
    partitions_made: bool,
}

impl Effort {
    /// The end of a batch that did not get into the log; or of which that cannot be found out any more.
    fn failed(&self, submissions: &[Submission], why: &str) -> Vec<Reply> {
        let error = if self.fate_unknown { CommandError::Unknown } else { CommandError::Fault };
        let why: Arc<str> = why.into();
        submissions.iter().map(|_| Err(error(why.clone()))).collect()
    }
}

/// Comes when a writer that was told to stop has had its time.
async fn overdue(mut stopped: watch::Receiver<bool>) {
    if stopped.wait_for(|stopped| *stopped).await.is_err() {
        // Nobody is left to say it, and the writer goes on.
        return std::future::pending().await;
    }
    tokio::time::sleep(STOP_PATIENCE).await;
}

/// Opens the log, folds it, and starts the writer. Returns once the node is caught up.
pub async fn start(start: Start, keys: Arc<DerivedKeys>) -> Result<Running, StartError> {
    let (mirrored, mirror) = start.mirror.map_or((None, None), |mirror| (mirror.end, Some(mirror.fresh)));
    let opening = Opening {
        database: start.database.clone(),
        keys: keys.clone(),
        seen: start.seen,
        mirrored,
        snapshots: start.snapshots,
    };
    let Opened { log, folded: Folded { roll, head }, resumed } = opening.open().await?;
    let node = Arc::new(Node::new(keys.clone(), roll.clone(), start.max_stale)?);
    let (queue, receiver) = CommandQueue::new(start.queue_length);
    let (published, heads) = watch::channel(head.clone());
    let (sender, reductions) = watch::channel(0);
    let (database, clock) = (start.database.clone(), Arc::new(Clock::default()));
    let mut writer = Writer {
        database: start.database,
        keys,
        node: node.clone(),
        metrics: start.metrics,
        queue: receiver,
        link: None,
        roll,
        head,
        published,
        reductions: sender,
        clock: clock.clone(),
        mirror,
        partitioned: 0,
    };
    writer.connect().await.map_err(Setback::into_start_error)?;
    let renewed = Some(writer.take_lease(&start.identity).await.map_err(Setback::into_start_error)?);
    let (stop, stopped) = watch::channel(false);
    let leasing = Leasing {
        database,
        node: node.clone(),
        clock,
        identity: start.identity,
        published: heads.clone(),
        renewed,
        // The writer has followed to a head that it read after it had put this node on the list.
        admitted_from: Some(0),
        wanted: 0,
        told: 0,
    };
    let task = tokio::spawn(async move {
        // In a task of its own: to decide a plan over a large fleet takes a while, and a lease is renewed all the same.
        let mut beside = JoinSet::new();
        beside.spawn(leasing.keep());
        tokio::select! {
            () = writer.run(stopped.clone()) => {}
            _ = beside.join_next() => {}
            () = overdue(stopped) => {
                tracing::error!("stopped with commands of which it is unknown whether they are in the log");
            }
        }
    });
    Ok(Running { node, queue, log, resumed, heads, reductions, task, stop })
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Database(#[from] crate::postgres::DatabaseError),
    #[error(transparent)]
    Log(#[from] LogFault),
    #[error("the log cannot be read: {0}")]
    Unreachable(String),
    #[error("no thread can be started to read the log: {0}")]
    Thread(io::Error),
}

impl Running {
    /// What this node has seen of the log.
    pub fn seen(&self) -> Seen {
        Seen::of(self.log, &self.heads.borrow())
    }

    /// Lets the writer answer what is queued and end. New commands are refused from now on.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }
}

impl Writer {
    async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        let mut poll = tokio::time::interval(POLL_INTERVAL);
        poll.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut forget = tokio::time::interval(FORGET_INTERVAL);
        loop {
            tokio::select! {
                submission = self.queue.recv() => match submission {
                    Some(first) => self.take_batch(first).await,
                    None => return,
                },
                heard = hear(&mut self.link) => self.look_again(heard).await,
                _ = poll.tick() => self.follow_or_reconnect().await,
                _ = forget.tick() => self.forget().await,
                // Closed, not dropped: what is in the queue is still answered.
                Ok(()) = stopped.changed() => self.queue.close(),
            }
            self.metrics.set_queue_depth(u64::try_from(self.queue.len()).unwrap_or(u64::MAX));
        }
    }

    async fn take_batch(&mut self, first: Submission) {
        let mut submissions = vec![first];
        // Those who were answered a moment ago are about to ask again. Without a turn for them the first of them would have
        // a commit of its own, for which all others wait.
        tokio::task::yield_now().await;
        self.drain(&mut submissions);
        // A child of the first request, linked to all: so the trace of each reaches the statement that wrote it.
        let span = tracing::info_span!(parent: &submissions[0].span, "append", commands = submissions.len());
        for submission in &submissions[1..] {
            span.follows_from(&submission.span);
        }
        let replies = self.write(&submissions).instrument(span).await;
        for (submission, reply) in submissions.into_iter().zip(replies) {
            ended::count(&self.metrics, &submission.wish, &reply);
            // A caller who has gone away misses the answer, not the command.
            drop(submission.reply.send(reply));
        }
    }

    /// Adds what is in the queue, up to the first command that takes long to decide.
    fn drain(&mut self, submissions: &mut Vec<Submission>) {
        while submissions.len() < BATCH_COMMANDS_MAX
            && submissions.last().is_none_or(|last| !last.wish.command.is_slow())
            && let Ok(next) = self.queue.try_recv()
        {
            submissions.push(next);
        }
    }

    /// Tries until the batch is in the log, is refused, or patience is over and it is known not to be there.
    async fn write(&mut self, submissions: &[Submission]) -> Vec<Reply> {
        let give_up = Instant::now() + WRITE_PATIENCE;
        let mut pause = RECONNECT_PAUSE_MIN;
        let mut effort = Effort::default();
        loop {
            let why = match self.try_write(submissions, &mut effort).await {
                Ok(replies) => return replies,
                Err(Setback::Stopped(why)) => return effort.failed(submissions, &why),
                Err(Setback::Fault(cause)) => {
                    self.node.stop(&cause);
                    return effort.failed(submissions, &cause.to_string());
                }
                Err(Setback::Refused(why)) if !effort.fate_unknown => {
                    tracing::error!(why, "a batch was refused, and nothing of it was written");
                    // What was prepared may be what fits the schema no more: the next attempt prepares anew.
                    self.link = None;
                    return effort.failed(submissions, &why);
                }
                Err(Setback::Again) => {
                    effort.races_lost += 1;
                    if effort.races_lost <= RACES_LOST_QUICKLY {
                        continue;
                    }
                    "the head keeps moving, or the id of a command is taken".to_owned()
                }
                Err(Setback::Refused(why) | Setback::Lost(why)) => {
                    self.link = None;
                    why
                }
            };
            tracing::warn!(why, fate_unknown = effort.fate_unknown, "a batch could not be written yet");
            if Instant::now() > give_up && !effort.fate_unknown {
                return effort.failed(submissions, &why);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RECONNECT_PAUSE_MAX);
        }
    }

    async fn try_write(&mut self, submissions: &[Submission], effort: &mut Effort) -> Result<Vec<Reply>, Setback> {
        if let Err(NotCurrent::Stopped(why)) = self.node.check_current() {
            return Err(Setback::Stopped(format!("this node has stopped following the log: {why}")));
        }
        // What is appended at an old primary is lost.
        self.link.take_if(|link| link.session.is_superseded());
        if self.link.is_none() {
            self.connect().await?;
            self.follow().await?;
        }
        self.clock.check()?;
        let asked = Uptime::now();
        let (decided, appended) = if effort.races_lost >= RACES_LOST_MAX {
            self.execute("begin").await?;
            let unknown_before = effort.fate_unknown;
            let attempt = self.decide_and_append(submissions, effort, true).await;
            if attempt.is_ok() {
                // The lock goes with the transaction. Until the commit has answered, nothing is durable.
                (effort.fate_unknown, effort.ever_unknown) = (true, true);
                self.execute("commit").await?;
                effort.fate_unknown = false;
            } else {
                // Whatever became of the connection: what nobody has told to commit is not in the log.
                effort.fate_unknown = unknown_before;
                self.execute("rollback").await?;
            }
            attempt?
        } else {
            self.decide_and_append(submissions, effort, false).await?
        };
        if appended {
            let reduced = decided.draft.reduced();
            let first = self.head.next_position;
            self.node.recent().add(decided.taken);
            self.move_to(decided.draft, decided.batch.head().clone(), asked)?;
            self.reductions.send_if_modified(|known| std::mem::replace(known, reduced) != reduced);
            self.hand_to_mirror(|| Some(Fresh { first, entries: decided.batch.into_entries() }));
        }
        Ok(decided.replies)
    }

    /// Whether anything was appended goes with what was decided.
    async fn decide_and_append(
        &mut self,
        submissions: &[Submission],
        effort: &mut Effort,
        locked: bool,
    ) -> Result<(Decided, bool), Setback> {
        if locked {
            let asked = Uptime::now();
            let head = patient(Head::lock(self.client()?)).await?;
            self.follow_to(&head, asked).await?;
        }
        let repeatable = submissions.iter().map(|submission| &submission.wish);
        let repeatable = repeatable.filter(|wish| wish.fingerprint.is_some() || effort.ever_unknown);
        let ids: Vec<CommandId> = repeatable.map(|wish| wish.id).collect();
        let link = self.link.as_ref().ok_or_else(no_link)?;
        let found = patient(outcome::find(&link.session.client, &link.outcomes, &ids, self.head.next_position)).await?;
        let is_sweeping = submissions.iter().any(|submission| submission.wish.command.is_sweeping());
        let decide = || decide_all(submissions, &self.roll, &self.head, &found, &self.keys, mint::now());
        let decided = background::aside(is_sweeping, decide);
        // An append of ours that may still be on its way is stopped by moving the head, even with an empty batch: it
        // expects the version that the head has now.
        if decided.batch.is_empty() && !effort.fate_unknown {
            // Nothing will be compared and swapped, so see that this was decided on the newest state.
            return if self.follow().await? { Err(Setback::Again) } else { Ok((decided, false)) };
        }
        self.make_partitions(decided.batch.head().next_position).await?;
        let began = Instant::now();
        let unknown_before = effort.fate_unknown;
        (effort.fate_unknown, effort.ever_unknown) = (true, true);
        let link = self.link.as_ref().ok_or_else(no_link)?;
        let append = decided.batch.append(&link.session.client, &link.append);
        let appended = match tokio::time::timeout(STATEMENT_PATIENCE, append).await {
            Ok(appended) => appended,
            Err(_) => Err(AppendError::Unknown("the database did not answer in time".to_owned())),
        };
        // Every answer but one settles this append. What was unknown before it is settled by success alone: where the head
        // has moved, it may have been our own earlier append that moved it.
        effort.fate_unknown = match appended {
            Ok(Appended::Done) => false,
            Err(AppendError::Unknown(_)) => true,
            Ok(Appended::HeadMoved)
            | Err(
                AppendError::Repeated | AppendError::PositionTaken | AppendError::NoPartition | AppendError::Refused(_),
            ) => unknown_before,
        };
        match appended {
            Ok(Appended::Done) => {
                self.metrics.appended(began.elapsed(), decided.batch.event_count() as u64);
                Ok((decided, true))
            }
            Ok(Appended::HeadMoved) => self.follow_unless(locked).await,
            Err(AppendError::Repeated) => self.follow_unless(locked).await,
            Err(AppendError::PositionTaken) => Err(self.find_past_end().await),
            // Only those after the newest are made: a gap is somebody's doing, and not ours to fill.
            Err(error @ AppendError::NoPartition) if effort.partitions_made => Err(Setback::Refused(chain(&error))),
            Err(AppendError::NoPartition) => {
                (self.partitioned, effort.partitions_made) = (0, true);
                Err(Setback::Again)
            }
            Err(AppendError::Unknown(why)) => Err(Setback::Lost(why)),
            Err(AppendError::Refused(error)) if is_refused_for_good(&error) => {
                Err(Setback::Refused(with_remedy(&error)))
            }
            Err(error @ AppendError::Refused(_)) => Err(Setback::Refused(chain(&error))),
        }
    }

    /// What stands where the next event belongs. Over a connection of its own: in a transaction that failed nothing is read.
    async fn find_past_end(&self) -> Setback {
        let session = match self.database.session().await {
            Ok(session) => session,
            Err(error) => return Setback::Lost(error.to_string()),
        };
        match patient(read::check_nothing_past_end(&session.client)).await {
            // It was removed since.
            Ok(()) => Setback::Again,
            Err(fault) => fault.into(),
        }
    }

    /// After a lost race: reads on, to decide again. Inside a transaction that failed there is nothing to read.
    async fn follow_unless(&mut self, locked: bool) -> Result<(Decided, bool), Setback> {
        if !locked {
            self.follow().await?;
        }
        Err(Setback::Again)
    }
}
