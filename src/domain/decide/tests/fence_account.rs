//! A second, slow account of fences, read from the log each time it is asked: what refuses a credential is any fence over
//! any scope of it, or of what it came of by its own power. It knows nothing of floors, maxima and marks.

use crate::domain::event::{Event, KeyCreated, KeyHolder, Recorded, WorkerCreated};
use crate::domain::fence::FenceScope;
use crate::domain::ids::{EnrollmentSecretId, KeyId, PoolId, WorkerId};
use crate::domain::token::TokenFacts;

pub(super) struct Account<'a>(pub(super) &'a [Recorded]);

impl<'a> Account<'a> {
    fn find<T>(&self, of: impl Fn(&'a Recorded) -> Option<T>) -> Option<T> {
        self.0.iter().find_map(of)
    }

    pub(super) fn refuses_key(&self, key: KeyId, worker: &WorkerId) -> bool {
        let issued = self.find(|recorded| match &recorded.event {
            Event::KeyCreated(created) if created.key == key => Some(recorded.position),
            Event::KeyRotated { successor, .. } if *successor == key => Some(recorded.position),
            _ => None,
        });
        self.stands_over(issued.unwrap(), |scope| self.covers(scope, worker)) || self.came_of_refused(key)
    }

    pub(super) fn refuses_token(&self, facts: &TokenFacts) -> bool {
        self.stands_over(facts.issued, |scope| self.covers(scope, &facts.worker))
            || self.refuses_key(facts.key, &facts.worker)
    }

    pub(super) fn refuses_secret(&self, secret: EnrollmentSecretId) -> bool {
        let issued = self.find(|recorded| match &recorded.event {
            Event::EnrollmentSecretCreated { secret: made, .. } if *made == secret => Some(recorded.position),
            Event::EnrollmentSecretRotated { successor, .. } if *successor == secret => Some(recorded.position),
            _ => None,
        });
        self.stands_over(issued.unwrap(), |scope| match scope {
            FenceScope::Everything => true,
            FenceScope::Pool(pool) => self.pool_of(secret) == *pool,
            FenceScope::Lineage(first) => self.line(secret).contains(first),
            FenceScope::Worker(_) => false,
        })
    }

    fn stands_over(&self, issued: u64, covered: impl Fn(&FenceScope) -> bool) -> bool {
        self.0.iter().any(|recorded| match &recorded.event {
            Event::FenceRaised { scope, up_to } => *up_to >= issued && covered(scope),
            _ => false,
        })
    }

    fn covers(&self, scope: &FenceScope, worker: &WorkerId) -> bool {
        let created = self.worker(worker);
        match scope {
            FenceScope::Everything => true,
            FenceScope::Pool(pool) => created.pool == *pool,
            FenceScope::Lineage(first) => created.enrolled_by.is_some_and(|by| self.line(by).contains(first)),
            FenceScope::Worker(id) => id == worker,
        }
    }

    fn worker(&self, id: &WorkerId) -> &'a WorkerCreated {
        let created = self.find(|recorded| match &recorded.event {
            Event::WorkerCreated(created) if created.worker == *id => Some(created),
            _ => None,
        });
        created.unwrap()
    }

    fn came_of_refused(&self, key: KeyId) -> bool {
        let came_of_key = self.find(|recorded| match &recorded.event {
            Event::KeyRotated { key: parent, successor, derived: true, .. } if *successor == key => Some(*parent),
            _ => None,
        });
        let came_of_secret = || {
            let created = self.find(|recorded| match &recorded.event {
                Event::KeyCreated(created) if created.key == key => Some((recorded.position, created)),
                _ => None,
            })?;
            let (position, KeyCreated { holder: KeyHolder::Worker(worker), .. }) = created else { return None };
            let before = &self.0[usize::try_from(position).unwrap() - 1].event;
            let enrolled = matches!(before, Event::WorkerCreated(created) if created.worker == *worker);
            self.worker(worker).enrolled_by.filter(|_| enrolled)
        };
        came_of_key.is_some_and(|parent| self.holders(parent).iter().any(|worker| self.refuses_key(parent, worker)))
            || came_of_secret().is_some_and(|secret| self.refuses_secret(secret))
    }

    /// Every worker that ever had the key.
    fn holders(&self, key: KeyId) -> Vec<&'a WorkerId> {
        let mut holders = Vec::new();
        for recorded in self.0 {
            match &recorded.event {
                Event::KeyCreated(KeyCreated { key: made, holder: KeyHolder::Worker(worker), .. }) if *made == key => {
                    holders.push(worker);
                }
                Event::KeyShared { key: shared, worker } if *shared == key => holders.push(worker),
                Event::KeyRotated { key: parent, successor, .. } if *successor == key => {
                    let until = usize::try_from(recorded.position).unwrap();
                    holders.extend(Account(&self.0[..until]).holders(*parent));
                }
                _ => {}
            }
        }
        holders
    }

    /// The secret and those that it was rotated from.
    fn line(&self, secret: EnrollmentSecretId) -> Vec<EnrollmentSecretId> {
        let parent = self.find(|recorded| match &recorded.event {
            Event::EnrollmentSecretRotated { secret: parent, successor, .. } if *successor == secret => Some(*parent),
            _ => None,
        });
        let above = parent.map(|parent| self.line(parent)).unwrap_or_default();
        [vec![secret], above].concat()
    }

    fn pool_of(&self, secret: EnrollmentSecretId) -> PoolId {
        let first = *self.line(secret).last().unwrap();
        let pool = self.find(|recorded| match &recorded.event {
            Event::EnrollmentSecretCreated { secret, pool, .. } if *secret == first => Some(pool.clone()),
            _ => None,
        });
        pool.unwrap()
    }
}
