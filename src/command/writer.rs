//! The one task of a node that decides and appends; it follows the log for the same reason: only it moves the Roll.
//!
//! It takes all commands that queued while the last commit was in flight, decides them over a draft, appends the batch with
//! a compare-and-swap of the head, publishes the draft, and answers. When another node has moved the head it reads on and
//! decides again. When a commit's fate is unknown it reads the log until it knows; it never guesses.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio_postgres::{Client, Statement};
use tracing::Instrument;

use super::batch::{Decided, decide_all};
use super::{CommandError, CommandQueue, Reply, Submission, mint};
use crate::credential::root_key::DerivedKeys;
use crate::domain::command::Command;
use crate::domain::ids::CommandId;
use crate::domain::roll::Roll;
use crate::log::append::{self, AppendError, Appended};
use crate::log::head::{self, Head};
use crate::log::{CHANNEL, LogFault, outcome};
use crate::node::replay::{self, Folded};
use crate::node::{Node, NotCurrent};
use crate::postgres::{Database, Session};
use crate::telemetry::Metrics;

/// The most commands in one batch: a bound on how long the first of them waits for the last.
const BATCH_COMMANDS_MAX: usize = 512;
/// How often the head is looked at when nobody says that it moved: the safety net under `NOTIFY`.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// After so long without an answer, a statement's connection is given up: a link that was cut silently never answers.
const STATEMENT_PATIENCE: Duration = Duration::from_secs(10);
/// For how long a command is tried again before its caller is told that the log cannot be written.
const WRITE_PATIENCE: Duration = Duration::from_secs(15);
const RECONNECT_PAUSE_MIN: Duration = Duration::from_millis(20);
const RECONNECT_PAUSE_MAX: Duration = Duration::from_secs(1);
/// Races lost before the writer takes the head's row lock first. Under a lock it cannot lose.
const RACES_LOST_MAX: u32 = 2;
/// Partitions are made when fewer positions than this are left in those that there are: minutes at full speed.
const PARTITION_LEAD: u64 = 1 << 19;
const FORGET_INTERVAL: Duration = Duration::from_mins(10);

/// What a node starts its writer with.
pub struct Start {
    pub database: Database,
    pub metrics: Arc<Metrics>,
    pub max_stale: Duration,
    pub queue_length: usize,
}

/// The running writer.
pub struct Running {
    pub node: Arc<Node>,
    pub queue: CommandQueue,
    /// Ends when the writer does: after `stop`, once every queued command is answered.
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
    /// Partitions cover all positions below.
    partitioned: u64,
}

/// The writer's connection.
struct Link {
    session: Session,
    append: Statement,
}

/// How writing one batch has gone so far.
#[derive(Default)]
struct Effort {
    races_lost: u32,
    /// An append may be in the log, or still get there, without our knowing: to give up now would be to guess.
    fate_unknown: bool,
    /// One was unknown at some time: what we find in the log under the commands' ids may be our own.
    ever_unknown: bool,
}

/// What the channel of appends says.
enum Heard {
    Position(u64),
    Unclear,
    Closed,
}

/// Why a batch was not appended this time.
enum Setback {
    /// Another node was faster, or an outcome was found that was not there before: decide again.
    Again,
    /// The connection is gone: reconnect, find out, decide again.
    Lost(String),
    /// The log refused. Nothing was written.
    Refused(String),
    /// The log cannot be believed.
    Fault(LogFault),
    /// It was found earlier that the log cannot be believed.
    Stopped(String),
}

/// Opens the log, folds it, and starts the writer. Returns once the node is caught up.
pub async fn start(start: Start, keys: Arc<DerivedKeys>) -> Result<Running, StartError> {
    let session = start.database.session().await?;
    unhurried(&session.client).await?;
    let log = head::open(&session.client, &keys).await?;
    let began = Instant::now();
    let Folded { roll, head } = replay::fold(&session.client, &keys, log).await?;
    tracing::info!(events = head.next_position, elapsed = ?began.elapsed(), "folded the log");
    let node = Arc::new(Node::new(keys.clone(), roll.clone(), start.max_stale)?);
    let (queue, receiver) = CommandQueue::new(start.queue_length);
    let mut writer = Writer {
        database: start.database,
        keys,
        node: node.clone(),
        metrics: start.metrics,
        queue: receiver,
        link: None,
        roll,
        head,
        partitioned: 0,
    };
    writer.connect().await.map_err(Setback::into_start_error)?;
    writer.follow().await.map_err(Setback::into_start_error)?;
    let (stop, stopped) = watch::channel(false);
    let task = tokio::spawn(writer.run(stopped));
    Ok(Running { node, queue, task, stop })
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Database(#[from] crate::postgres::DatabaseError),
    #[error(transparent)]
    Log(#[from] LogFault),
    #[error("the log cannot be read: {0}")]
    Unreachable(String),
}

impl Running {
    /// Lets the writer answer what is queued and end. New commands are refused from now on.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }
}

impl Setback {
    fn into_start_error(self) -> StartError {
        match self {
            Setback::Fault(fault) => StartError::Log(fault),
            Setback::Lost(why) | Setback::Refused(why) | Setback::Stopped(why) => StartError::Unreachable(why),
            Setback::Again => StartError::Unreachable("another node kept moving the head".to_owned()),
        }
    }
}

impl From<LogFault> for Setback {
    fn from(fault: LogFault) -> Self {
        match fault {
            LogFault::Database(_) | LogFault::Silent => Setback::Lost(chain(&fault)),
            other => Setback::Fault(other),
        }
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
                _ = forget.tick() => self.forget_outcomes().await,
                // Closed, not dropped: what is in the queue is still answered.
                Ok(()) = stopped.changed() => self.queue.close(),
            }
            self.metrics.set_queue_depth(u64::try_from(self.queue.len()).unwrap_or(u64::MAX));
        }
    }

    async fn take_batch(&mut self, first: Submission) {
        let mut submissions = vec![first];
        while submissions.len() < BATCH_COMMANDS_MAX
            && let Ok(next) = self.queue.try_recv()
        {
            submissions.push(next);
        }
        // A child of the first request, linked to all: so the trace of each reaches the statement that wrote it.
        let span = tracing::info_span!(parent: &submissions[0].span, "append", commands = submissions.len());
        for submission in &submissions[1..] {
            span.follows_from(&submission.span);
        }
        let replies = self.write(&submissions).instrument(span).await;
        for (submission, reply) in submissions.into_iter().zip(replies) {
            let command = index_of(&Command::NAMES, submission.wish.command.name());
            self.metrics.commanded(command, index_of(&OUTCOMES, outcome_name(&reply)));
            // A caller who has gone away misses the answer, not the command.
            drop(submission.reply.send(reply));
        }
    }

    /// Tries until the batch is in the log, is refused, or patience is over and it is known not to be there.
    async fn write(&mut self, submissions: &[Submission]) -> Vec<Reply> {
        let give_up = Instant::now() + WRITE_PATIENCE;
        let mut pause = RECONNECT_PAUSE_MIN;
        let mut effort = Effort::default();
        loop {
            let fault =
                |why: String| submissions.iter().map(|_| Err(CommandError::Fault(why.as_str().into()))).collect();
            match self.try_write(submissions, &mut effort).await {
                Ok(replies) => return replies,
                Err(Setback::Again) => effort.races_lost += 1,
                Err(Setback::Stopped(why)) => return fault(why),
                Err(Setback::Fault(cause)) => {
                    self.node.stop(&cause);
                    return fault(cause.to_string());
                }
                Err(Setback::Refused(why)) if !effort.fate_unknown => return fault(why),
                Err(Setback::Refused(why) | Setback::Lost(why)) => {
                    tracing::warn!(why, fate_unknown = effort.fate_unknown, "a batch could not be written yet");
                    self.link = None;
                    if Instant::now() > give_up && !effort.fate_unknown {
                        return fault(why);
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(RECONNECT_PAUSE_MAX);
                }
            }
        }
    }

    async fn try_write(&mut self, submissions: &[Submission], effort: &mut Effort) -> Result<Vec<Reply>, Setback> {
        if let Err(NotCurrent::Stopped(why)) = self.node.check_current() {
            return Err(Setback::Stopped(format!("this node has stopped following the log: {why}")));
        }
        if self.link.is_none() {
            self.connect().await?;
            self.follow().await?;
        }
        let asked = Instant::now();
        let (decided, appended) = if effort.races_lost >= RACES_LOST_MAX {
            self.execute("begin").await?;
            let attempt = self.decide_and_append(submissions, effort, true).await;
            if attempt.is_ok() {
                // The lock goes with the transaction. Until the commit has answered, nothing is durable.
                (effort.fate_unknown, effort.ever_unknown) = (true, true);
                self.execute("commit").await?;
                effort.fate_unknown = false;
            } else {
                self.execute("rollback").await?;
            }
            attempt?
        } else {
            self.decide_and_append(submissions, effort, false).await?
        };
        if appended {
            self.move_to(decided.draft, decided.batch.head().clone(), asked)?;
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
            let asked = Instant::now();
            let head = Head::lock(self.client()?).await?;
            self.follow_to(&head, asked).await?;
        }
        let repeatable = submissions.iter().map(|submission| &submission.wish);
        let repeatable = repeatable.filter(|wish| wish.fingerprint.is_some() || effort.ever_unknown);
        let ids: Vec<CommandId> = repeatable.map(|wish| wish.id).collect();
        let kept = outcome::find(self.client()?, &ids).await?;
        let decided = decide_all(submissions, &self.roll, &self.head, &kept, &self.keys, mint::now());
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
            | Err(AppendError::Repeated | AppendError::NoPartition | AppendError::Refused(_)) => unknown_before,
        };
        match appended {
            Ok(Appended::Done) => {
                self.metrics.appended(began.elapsed(), decided.batch.event_count() as u64);
                Ok((decided, true))
            }
            Ok(Appended::HeadMoved) => self.follow_unless(locked).await,
            Err(AppendError::Repeated) => self.follow_unless(locked).await,
            Err(AppendError::NoPartition) => {
                self.partitioned = 0;
                Err(Setback::Again)
            }
            Err(AppendError::Unknown(why)) => Err(Setback::Lost(why)),
            Err(error @ AppendError::Refused(_)) => Err(Setback::Refused(chain(&error))),
        }
    }

    /// After a lost race: reads on, to decide again. Inside a transaction that failed there is nothing to read.
    async fn follow_unless(&mut self, locked: bool) -> Result<(Decided, bool), Setback> {
        if !locked {
            self.follow().await?;
        }
        Err(Setback::Again)
    }

    // --- following -------------------------------------------------------------------------------------------------

    /// Another node says that it has appended. Our own appends are heard too, and known already.
    async fn look_again(&mut self, heard: Heard) {
        match heard {
            Heard::Position(position) if position <= self.head.next_position => {}
            Heard::Position(_) | Heard::Unclear => self.follow_or_reconnect().await,
            Heard::Closed => self.link = None,
        }
    }

    async fn follow_or_reconnect(&mut self) {
        if matches!(self.node.check_current(), Err(NotCurrent::Stopped(_))) {
            return;
        }
        let followed = match &self.link {
            Some(_) => self.follow().await,
            None => match self.connect().await {
                Ok(()) => self.follow().await,
                Err(setback) => Err(setback),
            },
        };
        match followed {
            Ok(_) | Err(Setback::Again) => {}
            Err(Setback::Fault(fault)) => self.node.stop(&fault),
            Err(Setback::Lost(why) | Setback::Refused(why) | Setback::Stopped(why)) => {
                tracing::warn!(why, "cannot follow the log");
                self.link = None;
            }
        }
    }

    /// Reads what is new. True if there was something.
    async fn follow(&mut self) -> Result<bool, Setback> {
        let asked = Instant::now();
        let client = self.client()?;
        let head = match tokio::time::timeout(STATEMENT_PATIENCE, Head::read(client)).await {
            Ok(head) => head?,
            Err(_) => return Err(Setback::Lost("the database did not answer in time".to_owned())),
        };
        self.follow_to(&head, asked).await
    }

    async fn follow_to(&mut self, head: &Head, asked: Instant) -> Result<bool, Setback> {
        if *head == self.head {
            self.node.confirm(asked);
            return Ok(false);
        }
        let here = Folded { roll: self.roll.clone(), head: self.head.clone() };
        let there = replay::catch_up(self.client()?, &self.keys, here, head).await?;
        self.move_to(there.roll, there.head, asked)?;
        Ok(true)
    }

    /// The state that the log had at `asked`, or later.
    fn move_to(&mut self, roll: Roll, head: Head, asked: Instant) -> Result<(), Setback> {
        self.node.publish(roll.clone())?;
        self.metrics.set_log_position(head.next_position);
        (self.roll, self.head) = (roll, head);
        self.node.confirm(asked);
        Ok(())
    }

    // --- the connection --------------------------------------------------------------------------------------------

    async fn connect(&mut self) -> Result<(), Setback> {
        let session = self.database.session().await.map_err(|error| Setback::Lost(error.to_string()))?;
        let lost = |error: tokio_postgres::Error| Setback::Lost(error.to_string());
        unhurried(&session.client).await?;
        // Listening first: what is appended between this and the first look is heard.
        session.client.batch_execute(&format!("listen {CHANNEL}")).await.map_err(lost)?;
        let append = append::prepare(&session.client).await.map_err(lost)?;
        self.link = Some(Link { session, append });
        Ok(())
    }

    fn client(&self) -> Result<&Client, Setback> {
        self.link.as_ref().map(|link| &link.session.client).ok_or_else(no_link)
    }

    async fn execute(&self, statement: &str) -> Result<(), Setback> {
        let execute = self.client()?.batch_execute(statement);
        match tokio::time::timeout(STATEMENT_PATIENCE, execute).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Setback::Lost(error.to_string())),
            Err(_) => Err(Setback::Lost("the database did not answer in time".to_owned())),
        }
    }

    async fn make_partitions(&mut self, next_position: u64) -> Result<(), Setback> {
        if next_position + PARTITION_LEAD <= self.partitioned {
            return Ok(());
        }
        let through = next_position + 2 * PARTITION_LEAD;
        append::make_partitions(self.client()?, through).await?;
        self.partitioned = through;
        Ok(())
    }

    async fn forget_outcomes(&self) {
        let Ok(client) = self.client() else { return };
        match outcome::forget_sealed(client).await {
            Ok(0) => {}
            Ok(forgotten) => tracing::debug!(forgotten, "removed sealed outcomes whose day is over"),
            Err(error) => tracing::warn!(%error, "sealed outcomes whose day is over could not be removed"),
        }
    }
}

/// Reading a long log is one statement that takes as long as it takes; this module keeps its own patience.
async fn unhurried(client: &Client) -> Result<(), LogFault> {
    Ok(client.batch_execute("set statement_timeout = 0").await?)
}

async fn hear(link: &mut Option<Link>) -> Heard {
    match link {
        None => std::future::pending().await,
        Some(link) => match link.session.notifications.recv().await {
            Some(notification) => notification.payload().parse().map_or(Heard::Unclear, Heard::Position),
            None => Heard::Closed,
        },
    }
}

fn no_link() -> Setback {
    Setback::Lost("not connected".to_owned())
}

fn outcome_name(reply: &Reply) -> &'static str {
    match reply {
        Ok(outcome) if outcome.repeated => "repeated",
        Ok(outcome) if outcome.changed => "changed",
        Ok(_) => "unchanged",
        Err(CommandError::Refused(_) | CommandError::RefusedBefore { .. } | CommandError::OtherContent) => "refused",
        Err(CommandError::QueueFull | CommandError::Stopping | CommandError::Fault(_)) => "failed",
    }
}

fn index_of(names: &[&str], name: &str) -> usize {
    names.iter().position(|known| *known == name).unwrap_or(names.len())
}

/// What metrics may say of a command's end.
pub const OUTCOMES: [&str; 5] = ["changed", "unchanged", "repeated", "refused", "failed"];

/// An error with its causes in one line: the driver's own text stops at "db error".
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
