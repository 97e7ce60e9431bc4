//! One projection, as the node that keeps it sees it: where it is, and what is being made of it.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_postgres::Client;

use super::build::{self, Haste, Progress};
use super::job::{self, Claimed, Ended, Kind};
use super::runner::Start;
use super::verify::{self, Verdict};
use super::{Projection, ProjectionError, cursor};
use crate::domain::plan::PlanKind;

/// How long a projection is left alone whose rows the database has refused, or whose build has failed.
const REST: Duration = Duration::from_secs(2);

/// How often is looked whether other versions can go.
const LOOK_AT_OTHERS: Duration = Duration::from_secs(60);

/// A finished build that could not take its place is tried again after so long; each time after twice as long.
const GIVE_WAY_MIN: Duration = Duration::from_millis(250);
const GIVE_WAY_MAX: Duration = Duration::from_secs(4);
/// It has given way for about a minute then.
const GIVEN_WAY_OFTEN: u32 = 20;

/// How often a finished build has given way to those who read the old rows.
#[derive(Default)]
pub(super) struct GivingWay {
    times: u32,
    until: Option<Instant>,
}

pub(super) struct Lane {
    pub(super) projection: &'static Projection,
    /// Whether this node keeps it.
    pub(super) held: bool,
    /// The position of the first event that its rows do not hold; `None` where there are no rows yet.
    pub(super) cursor: Option<u64>,
    pub(super) building: Option<Work<u64>>,
    /// The position that a finished build holds, until it can take its place.
    pub(super) built: Option<u64>,
    pub(super) giving_way: GivingWay,
    verifying: Option<Work<Verdict>>,
    /// Something has failed that fails again, and is not tried before this.
    pub(super) rest_until: Option<Instant>,
    /// Where the plan was applied for whose records it has waited as long as it may: it does not wait for these again.
    waited_for: Option<u64>,
    /// Since when it is too far behind to be brought up to date row by row, and stays where it is until a build takes its place.
    awaits_build: Option<Instant>,
    /// When it was looked whether other versions can go.
    others_looked_at: Option<Instant>,
}

/// Something that takes long, in a task that ends with this value.
pub(super) struct Work<T> {
    task: JoinHandle<Result<T, ProjectionError>>,
    progress: Arc<Progress>,
    /// Who asked for it, if somebody did.
    job: Option<Claimed>,
}

impl<T> Drop for Work<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl GivingWay {
    pub(super) fn is_over(&self) -> bool {
        self.until.is_none_or(|until| until <= Instant::now())
    }

    pub(super) fn again(&mut self) {
        let pause = GIVE_WAY_MIN * 2_u32.saturating_pow(self.times);
        self.until = Some(Instant::now() + pause.min(GIVE_WAY_MAX));
        self.times += 1;
    }

    /// How long the next attempt may hold others up.
    pub(super) fn patience(&self) -> Duration {
        if self.times < GIVEN_WAY_OFTEN { build::SWITCH_PATIENCE } else { build::SWITCH_PATIENCE_MAX }
    }
}

impl Lane {
    pub(super) fn new(projection: &'static Projection) -> Self {
        Self {
            projection,
            held: false,
            cursor: None,
            building: None,
            built: None,
            giving_way: GivingWay::default(),
            verifying: None,
            rest_until: None,
            waited_for: None,
            awaits_build: None,
            others_looked_at: None,
        }
    }

    pub(super) fn may_work(&self) -> bool {
        self.held && self.rest_until.is_none_or(|until| until <= Instant::now())
    }

    pub(super) fn rest(&mut self) {
        self.rest_until = Some(Instant::now() + REST);
    }

    /// Takes it over if no other node keeps it.
    pub(super) async fn take_over(&mut self, client: &mut Client) -> Result<(), ProjectionError> {
        let schema = self.projection.schema();
        self.held = cursor::lock(&*client, &schema).await?;
        if !self.held {
            return Ok(());
        }
        self.cursor = cursor::read(&*client, &schema).await?;
        let (projection, position) = (self.projection.name, self.cursor);
        tracing::info!(projection, ?position, "this node keeps the projection");
        Ok(())
    }

    /// Looks now and then whether the last node has gone that kept another version.
    pub(super) async fn drop_others(&mut self, client: &mut Client) -> Result<(), ProjectionError> {
        // Until this version is there, the view that people read is of the other one.
        if self.cursor.is_none() || self.others_looked_at.is_some_and(|at| at.elapsed() < LOOK_AT_OTHERS) {
            return Ok(());
        }
        self.others_looked_at = Some(Instant::now());
        match build::drop_others(client, self.projection).await {
            Err(error) if error.is_of_readers() => Ok(()),
            dropped => dropped,
        }
    }

    /// Leaves the rows as they are until there are others.
    pub(super) fn build_instead(&mut self) {
        self.awaits_build.get_or_insert_with(Instant::now);
    }

    pub(super) fn awaits_build(&self) -> bool {
        self.awaits_build.is_some()
    }

    /// Begins the build that is awaited, unless it is better begun later.
    pub(super) fn start_awaited_build(&mut self, start: &Start, others_build: bool) {
        let is_due = self.building.is_none() && self.may_work() && !others_build;
        let Some(since) = self.awaits_build.filter(|_| is_due) else { return };
        let records = self.records_to_come(start);
        if records.is_some() && since.elapsed() < start.pace.held_max {
            return;
        }
        self.waited_for = records.or(self.waited_for);
        self.start_build(start, None);
    }

    /// Where the plan was applied that these rows tell of by its fence, and that records so many of them that it is quicker
    /// made anew when they all are: a build that is begun before has to go through them all once more.
    ///
    /// Of plans that mark what they change the rows tell nothing before they are made anew.
    pub(super) fn records_to_come(&self, start: &Start) -> Option<u64> {
        let (snapshot, rows_max) = (start.node.snapshot(), start.pace.rows_max);
        let from = self.cursor.filter(|_| self.projection.count(&snapshot.roll) > rows_max)?;
        let revoking = snapshot.roll.running_plans().filter(|(plan, _)| plan.kind == PlanKind::RevokeAll);
        let by_fence = revoking.filter(|(plan, _)| !plan.marks_items()).map(|(_, progress)| progress);
        let large = by_fence.filter(|progress| progress.total > rows_max as u64);
        let mut applied = large.map(|progress| progress.applied);
        applied.find(|applied| *applied < from && Some(*applied) != self.waited_for)
    }

    /// Whether a build takes the database's time. One that waits for its place does not.
    pub(super) fn builds_beside_its_rows(&self) -> bool {
        self.cursor.is_some() && self.building.is_some() && self.built.is_none()
    }

    /// Makes it anew beside the rows that there are.
    pub(super) fn start_build(&mut self, start: &Start, job: Option<Claimed>) {
        let progress = Arc::new(Progress::default());
        let haste = if self.cursor.is_some() { Haste::Resting } else { Haste::Full };
        let (database, projection, snapshot) = (start.database.clone(), self.projection, start.node.snapshot());
        let told = progress.clone();
        let task = tokio::spawn(async move { build::build(&database, projection, snapshot, told, haste).await });
        self.building = Some(Work { task, progress, job });
    }

    /// What a build has come to, once.
    pub(super) async fn finished_build(&mut self) -> Option<Result<u64, ProjectionError>> {
        if self.built.is_some() { None } else { self.building.as_mut()?.finished().await }
    }

    /// It has taken its place, and stands at that position; or it could not.
    pub(super) async fn end_build(
        &mut self,
        client: &mut Client,
        finished: Result<u64, ProjectionError>,
    ) -> Result<(), ProjectionError> {
        let work = self.building.take();
        self.built = None;
        self.giving_way = GivingWay::default();
        self.awaits_build = None;
        let name = self.projection.name;
        let ended = match &finished {
            Ok(position) => Ended::done(*position),
            Err(error) => Ended::failed(error),
        };
        if let Some(work) = &work
            && let Some(job) = &work.job
        {
            job::end(&*client, job, &work.progress, &ended).await?;
        }
        match finished {
            Ok(position) => {
                tracing::info!(projection = name, position, "built");
                self.cursor = Some(position);
                self.rest_until = None;
                self.others_looked_at = None;
            }
            Err(error) => {
                tracing::error!(projection = name, %error, "could not be built");
                self.rest();
            }
        }
        Ok(())
    }

    /// Does what operators asked for, one thing at a time.
    pub(super) async fn go_on_with_job(&mut self, client: &mut Client, start: &Start) -> Result<(), ProjectionError> {
        if let Some(work) = &self.building
            && let Some(job) = &work.job
        {
            return Ok(job::tell(&*client, job, &work.progress).await?);
        }
        if let Some(work) = &mut self.verifying {
            let Some(verdict) = work.finished().await else {
                return match &work.job {
                    Some(job) => Ok(job::tell(&*client, job, &work.progress).await?),
                    None => Ok(()),
                };
            };
            return match self.verifying.take() {
                Some(work) => self.end_verification(client, &work, verdict).await,
                None => Ok(()),
            };
        }
        if self.building.is_some() {
            return Ok(());
        }
        match job::claim(&*client, &self.projection.schema()).await? {
            None => {}
            Some(job @ Claimed { kind: Kind::Rebuild, .. }) => self.start_build(start, Some(job)),
            Some(job @ Claimed { kind: Kind::Verify, .. }) => self.start_verification(start, job),
        }
        Ok(())
    }

    fn start_verification(&mut self, start: &Start, job: Claimed) {
        let progress = Arc::new(Progress::default());
        let (start, projection, told) = (start.clone(), self.projection, progress.clone());
        let task = tokio::spawn(async move { verify::verify(&start, projection, &told).await });
        self.verifying = Some(Work { task, progress, job: Some(job) });
    }

    async fn end_verification(
        &self,
        client: &Client,
        work: &Work<Verdict>,
        verdict: Result<Verdict, ProjectionError>,
    ) -> Result<(), ProjectionError> {
        let ended = match &verdict {
            Ok(Verdict { next_position, difference: None, .. }) => Ended::done(*next_position),
            Ok(Verdict { next_position, difference: Some(difference), .. }) => {
                let projection = self.projection.name;
                tracing::error!(projection, %difference, "the projection is not what the log says; rebuild it");
                Ended::differs(*next_position, difference)
            }
            Err(error) => Ended::failed(error),
        };
        match &work.job {
            Some(job) => Ok(job::end(client, job, &work.progress, &ended).await?),
            None => Ok(()),
        }
    }
}

impl<T> Work<T> {
    async fn finished(&mut self) -> Option<Result<T, ProjectionError>> {
        if !self.task.is_finished() {
            return None;
        }
        Some((&mut self.task).await.unwrap_or_else(|broken| Err(broken.into())))
    }
}
