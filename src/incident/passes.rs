//! Passes through the log that may take longer than a request does: one at a time, beside the requests that ask for it.
//!
//! Whoever asks begins the pass, or joins the one that answers the same, and waits for as long as a request can. After that it
//! is told how far the pass has come. The pass goes on. All who wait when it ends get its outcome; where nobody does, it is there
//! for the first who asks again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::futures::OwnedNotified;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// After so long without anybody who asks, what runs is ended and what is kept is dropped: it holds a connection, or a second
/// Roll.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);
/// How often that is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// For so long the outcome waits for whoever was told to come back, and other questions wait until it is fetched: two who ask in
/// turns would else throw away each other's.
const OUTCOME_HELD: Duration = Duration::from_secs(20);
/// A pass that broke off is begun once more by the same request, and then that is told.
const BEGUN_MAX: usize = 2;

/// The one pass of this node: it answers a `Q` with a `T`, and may leave a `K` for the next to go on from.
pub struct Passes<Q, T, K>(Arc<Mutex<State<Q, T, K>>>);

struct State<Q, T, K> {
    /// Of the place being free: who waits with another question begins then.
    freed: Arc<Notify>,
    current: Option<Pass<Q, T>>,
    kept: Option<(K, Instant)>,
    /// Whether somebody looks after what is forgotten.
    is_watched: bool,
}

struct Pass<Q, T> {
    question: Q,
    /// Which pass it is, too.
    progress: Arc<Progress>,
    /// When somebody last asked for it.
    asked: Instant,
    /// What came of it, once it has ended. Closed without one where it broke off.
    outcome: watch::Receiver<Option<T>>,
    task: AbortHandle,
}

/// How far a pass has come.
#[derive(Debug, Default)]
pub struct Progress {
    at: AtomicU64,
    end: u64,
}

/// What comes of asking.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked<T> {
    Answered(T),
    /// It is under way: so many events of so many.
    Underway {
        at: u64,
        end: u64,
    },
    /// Another question is being answered.
    Busy,
    /// The pass broke off, more than once.
    BrokeOff,
}

/// What is waited for.
enum Wait<T> {
    /// The end of the pass that was asked for, which has come so far.
    Outcome(Arc<Progress>, watch::Receiver<Option<T>>),
    /// That another pass, or its outcome which somebody has to fetch, makes room; at the latest then.
    Room(Option<Instant>, OwnedNotified),
}

impl Progress {
    /// All before this position was seen.
    pub fn reached(&self, position: u64) {
        self.at.store(position, Ordering::Relaxed);
    }
}

impl<Q, T, K> Default for State<Q, T, K> {
    fn default() -> Self {
        Self { freed: Arc::default(), current: None, kept: None, is_watched: false }
    }
}

impl<Q, T, K> Default for Passes<Q, T, K> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(State::default())))
    }
}

impl<Q: Clone + Send + 'static, T: Clone + Send + Sync + 'static, K: Send + 'static> Passes<Q, T, K> {
    /// The answer to the question, which takes a pass up to `end`. A pass that answers one which `fits` does as well: who asks
    /// again asks later, and has begun it themselves.
    ///
    /// `begin` is given what the pass before has left.
    pub async fn ask<F>(
        &self,
        question: &Q,
        end: u64,
        fits: impl Fn(&Q) -> bool,
        patience: Duration,
        begin: impl Fn(Option<K>, Arc<Progress>) -> F,
    ) -> Asked<T>
    where
        F: Future<Output = (T, Option<K>)> + Send + 'static,
    {
        let (until, mut begun) = (Instant::now() + patience, 0);
        loop {
            let wait = {
                let mut state = lock(&self.0);
                match state.find(&fits, Instant::now()) {
                    Some(wait) => wait,
                    None if begun == BEGUN_MAX => return Asked::BrokeOff,
                    None => {
                        begun += 1;
                        self.begin(&mut state, question.clone(), end, &begin)
                    }
                }
            };
            match wait {
                Wait::Outcome(progress, mut outcome) => {
                    let ended = tokio::time::timeout_at(until, outcome.wait_for(Option::is_some)).await;
                    match ended.map(|outcome| outcome.ok().and_then(|outcome| outcome.clone())) {
                        Ok(Some(outcome)) => {
                            lock(&self.0).fetched(&progress);
                            return Asked::Answered(outcome);
                        }
                        // It broke off.
                        Ok(None) => {}
                        Err(_) => {
                            self.told(&progress);
                            return Asked::Underway { at: progress.at.load(Ordering::Relaxed), end: progress.end };
                        }
                    }
                }
                Wait::Room(held, freed) => {
                    let at_latest = held.map_or(until, |held| held.min(until));
                    let waited = tokio::time::timeout_at(at_latest, freed).await;
                    if waited.is_err() && at_latest == until {
                        return Asked::Busy;
                    }
                }
            }
        }
    }

    /// Who was told how far it is comes back from now on.
    fn told(&self, progress: &Arc<Progress>) {
        if let Some(pass) = lock(&self.0).current_is(progress) {
            pass.asked = Instant::now();
        }
    }

    fn begin<F>(
        &self,
        state: &mut State<Q, T, K>,
        question: Q,
        end: u64,
        begin: impl Fn(Option<K>, Arc<Progress>) -> F,
    ) -> Wait<T>
    where
        F: Future<Output = (T, Option<K>)> + Send + 'static,
    {
        let progress = Arc::new(Progress { at: AtomicU64::default(), end });
        let work = begin(state.kept.take().map(|(kept, _)| kept), progress.clone());
        let (sender, outcome) = watch::channel(None);
        let (inside, itself) = (self.0.clone(), progress.clone());
        let ending = Ending { sender: Some(sender), freed: state.freed.clone() };
        let task = tokio::spawn(async move {
            let (made, kept) = work.await;
            let mut state = lock(&inside);
            if state.current_is(&itself).is_some() {
                state.kept = kept.map(|kept| (kept, Instant::now()));
            }
            // Before anybody can find that the sender is gone.
            ending.send(made);
            drop(state);
        });
        let (asked, task) = (Instant::now(), task.abort_handle());
        let wait = Wait::Outcome(progress.clone(), outcome.clone());
        state.current = Some(Pass { question, progress, asked, outcome, task });
        if !std::mem::replace(&mut state.is_watched, true) {
            tokio::spawn(forget(self.0.clone()));
        }
        wait
    }
}

/// Whatever way the pass ends: those who wait for its outcome see it, or that there is none, and those who wait for room look
/// again.
struct Ending<T> {
    sender: Option<watch::Sender<Option<T>>>,
    freed: Arc<Notify>,
}

impl<T> Ending<T> {
    fn send(&self, outcome: T) {
        if let Some(sender) = &self.sender {
            sender.send_replace(Some(outcome));
        }
    }
}

impl<T> Drop for Ending<T> {
    fn drop(&mut self) {
        drop(self.sender.take());
        self.freed.notify_waiters();
    }
}

impl<Q, T, K> State<Q, T, K> {
    /// What to wait for; nothing, where one may be begun.
    fn find(&mut self, fits: impl Fn(&Q) -> bool, now: Instant) -> Option<Wait<T>> {
        let pass = self.current.as_mut()?;
        let has_ended = pass.outcome.borrow().is_some();
        if !has_ended && pass.outcome.has_changed().is_err() {
            self.free();
            return None;
        }
        if fits(&pass.question) {
            pass.asked = now;
            return Some(Wait::Outcome(pass.progress.clone(), pass.outcome.clone()));
        }
        let held = has_ended.then(|| pass.asked + OUTCOME_HELD);
        if held.is_some_and(|held| held <= now) {
            self.free();
            return None;
        }
        Some(Wait::Room(held, self.freed.clone().notified_owned()))
    }

    /// The outcome of this pass has reached somebody, and all who wait for it.
    fn fetched(&mut self, progress: &Arc<Progress>) {
        if self.current_is(progress).is_some() {
            self.free();
        }
    }

    /// The pass with this progress, unless another has taken its place.
    fn current_is(&mut self, progress: &Arc<Progress>) -> Option<&mut Pass<Q, T>> {
        self.current.as_mut().filter(|pass| Arc::ptr_eq(&pass.progress, progress))
    }

    fn free(&mut self) {
        self.current = None;
        self.freed.notify_waiters();
    }
}

impl<Q, T, K> State<Q, T, K> {
    /// Ends and drops what nobody has asked for in a while; whether nothing is left.
    fn forget(&mut self, now: Instant) -> bool {
        let is_old = |since: Instant| now.duration_since(since) >= FORGOTTEN_AFTER;
        if let Some(pass) = self.current.as_ref().filter(|pass| is_old(pass.asked)) {
            pass.task.abort();
            self.free();
        }
        drop(self.kept.take_if(|(_, since)| is_old(*since)));
        self.is_watched = self.current.is_some() || self.kept.is_some();
        !self.is_watched
    }
}

fn lock<Q, T, K>(inside: &Mutex<State<Q, T, K>>) -> MutexGuard<'_, State<Q, T, K>> {
    inside.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Looks after what nobody asks for any more, until there is nothing.
async fn forget<Q, T, K>(inside: Arc<Mutex<State<Q, T, K>>>) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        if lock(&inside).forget(Instant::now()) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Notify;

    use super::*;

    type Numbers = Passes<u8, u8, u8>;

    const SHORT: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_secs(30);
    const UNDERWAY: Asked<u8> = Asked::Underway { at: 3, end: 7 };

    /// Asks for a pass that ends when it is let, answers the question itself plus what was left, and leaves the question.
    async fn ask(passes: &Numbers, question: u8, patience: Duration, ends: &Arc<Notify>) -> Asked<u8> {
        let begin = |kept: Option<u8>, progress: Arc<Progress>| {
            let ends = ends.clone();
            async move {
                progress.reached(3);
                ends.notified().await;
                (question + kept.unwrap_or_default(), Some(question))
            }
        };
        passes.ask(&question, 7, |known| *known == question, patience, begin).await
    }

    #[tokio::test]
    async fn a_pass_outlives_the_request_and_who_asks_again_gets_its_answer() {
        let (passes, ends) = (Numbers::default(), Arc::new(Notify::new()));
        for _ in 0..3 {
            assert_eq!(ask(&passes, 1, SHORT, &ends).await, UNDERWAY);
        }
        ends.notify_one();
        assert_eq!(ask(&passes, 1, LONG, &ends).await, Asked::Answered(1));
        // It was handed over; this is another, and goes on from what the first has left.
        ends.notify_one();
        assert_eq!(ask(&passes, 1, LONG, &ends).await, Asked::Answered(2));
    }

    #[tokio::test]
    async fn there_is_one_at_a_time_and_its_outcome_waits_a_while_for_who_asked() {
        let (passes, ends) = (Numbers::default(), Arc::new(Notify::new()));
        assert_eq!(ask(&passes, 1, SHORT, &ends).await, UNDERWAY);
        assert_eq!(ask(&passes, 2, SHORT, &ends).await, Asked::Busy);
        ends.notify_one();
        while lock(&passes.0).current.as_ref().is_some_and(|pass| pass.outcome.borrow().is_none()) {
            tokio::task::yield_now().await;
        }
        assert_eq!(ask(&passes, 2, SHORT, &ends).await, Asked::Busy);
        let later = Instant::now() + OUTCOME_HELD;
        assert!(lock(&passes.0).find(|known| *known == 2, later).is_none());
        ends.notify_one();
        assert_eq!(ask(&passes, 2, LONG, &ends).await, Asked::Answered(3));
    }

    #[tokio::test]
    async fn all_who_wait_for_an_outcome_get_it_and_whoever_waits_for_room_begins_then() {
        let (passes, ends) = (Numbers::default(), Arc::new(Notify::new()));
        assert_eq!(ask(&passes, 1, SHORT, &ends).await, UNDERWAY);
        ends.notify_one();
        let began = Instant::now();
        let (one, other, next) = tokio::join!(ask(&passes, 1, LONG, &ends), ask(&passes, 1, LONG, &ends), async {
            ends.notify_one();
            ask(&passes, 2, LONG, &ends).await
        });
        // The second pass goes on from what the first has left: there was one for both.
        assert_eq!((one, other, next), (Asked::Answered(1), Asked::Answered(1), Asked::Answered(3)));
        assert!(began.elapsed() < OUTCOME_HELD, "nobody sat out the time for which an outcome is held");
    }

    #[tokio::test]
    async fn whoever_waits_for_room_looks_again_however_the_pass_before_ends() {
        let (passes, ends) = (Numbers::default(), Arc::new(Notify::new()));
        let breaks = |_: Option<u8>, _: Arc<Progress>| {
            let ends = ends.clone();
            async move {
                ends.notified().await;
                panic!("as a test does")
            }
        };
        let told = passes.ask(&1, 7, |known| *known == 1, SHORT, breaks).await;
        assert!(matches!(told, Asked::Underway { .. }));
        let (next, ()) = tokio::join!(ask(&passes, 2, LONG, &ends), async {
            ends.notify_one();
            tokio::task::yield_now().await;
            ends.notify_one();
        });
        assert_eq!(next, Asked::Answered(2), "it began as soon as the other had broken off");
        // One that ends, and that nobody fetches, is waited for until then.
        assert_eq!(ask(&passes, 3, SHORT, &ends).await, UNDERWAY);
        let Some(Wait::Room(None, looks_again)) = lock(&passes.0).find(|known| *known == 4, Instant::now()) else {
            panic!("there is no room, and nobody knows when");
        };
        ends.notify_one();
        looks_again.await;
        let found = lock(&passes.0).find(|known| *known == 4, Instant::now());
        assert!(matches!(found, Some(Wait::Room(Some(_), _))));
    }

    #[tokio::test]
    async fn what_nobody_asks_for_is_dropped() {
        let (passes, ends) = (Numbers::default(), Arc::new(Notify::new()));
        assert_eq!(ask(&passes, 1, SHORT, &ends).await, UNDERWAY);
        let (now, later) = (Instant::now(), Instant::now() + FORGOTTEN_AFTER);
        assert!(!lock(&passes.0).forget(now) && lock(&passes.0).current.is_some());
        assert!(lock(&passes.0).forget(later) && lock(&passes.0).current.is_none());
        ends.notify_one();
        assert_eq!(ask(&passes, 1, LONG, &ends).await, Asked::Answered(1));
        assert!(!lock(&passes.0).forget(now) && lock(&passes.0).kept.is_some());
        assert!(lock(&passes.0).forget(Instant::now() + FORGOTTEN_AFTER) && lock(&passes.0).kept.is_none());
    }

    #[tokio::test]
    async fn a_pass_that_breaks_off_is_told_and_keeps_nobody_out() {
        let (passes, ends) = (Numbers::default(), Arc::new(Notify::new()));
        let broken = |_: Option<u8>, _: Arc<Progress>| async { panic!("as a test does") };
        let asked = passes.ask(&1, 7, |known| *known == 1, LONG, broken).await;
        assert_eq!(asked, Asked::BrokeOff);
        ends.notify_one();
        assert_eq!(ask(&passes, 2, LONG, &ends).await, Asked::Answered(2));
    }
}
