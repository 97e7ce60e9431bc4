//! The workers and credentials that the clients know of: what there is to act upon, and to present.

use std::collections::VecDeque;
use std::sync::Arc;

use portcullis::domain::ids::KeyId;
use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

/// So many credentials that somebody acted upon lately are presented more often than others: what is about to change is
/// where an error would show.
const TOUCHED_MAX: usize = 48;

/// Of workers and keys alike.
const RECENT: usize = 96;

#[derive(Clone, Debug)]
pub(super) struct Credential {
    pub(super) key: KeyId,
    pub(super) worker: Arc<str>,
    /// What is presented.
    pub(super) text: Arc<str>,
}

#[derive(Debug, Default)]
pub(super) struct Population {
    workers: Vec<Arc<str>>,
    credentials: Vec<Credential>,
    touched: VecDeque<Credential>,
}

impl Population {
    pub(super) fn add_worker(&mut self, worker: Arc<str>) {
        self.workers.push(worker);
    }

    pub(super) fn add_credential(&mut self, credential: Credential) {
        self.credentials.push(credential.clone());
        self.touch(credential);
    }

    pub(super) fn credentials(&self) -> &[Credential] {
        &self.credentials
    }

    pub(super) fn worker(&self, rng: &mut StdRng) -> Option<Arc<str>> {
        a_recent(&self.workers, rng).cloned()
    }

    pub(super) fn key(&self, rng: &mut StdRng) -> Option<KeyId> {
        a_recent(&self.credentials, rng).map(|credential| credential.key)
    }

    /// One that was acted upon lately, or any.
    pub(super) fn credential(&self, rng: &mut StdRng) -> Option<Credential> {
        if rng.random_bool(0.5) && !self.touched.is_empty() {
            return self.touched.get(rng.random_range(0..self.touched.len())).cloned();
        }
        a_recent(&self.credentials, rng).cloned()
    }

    /// The credentials of whatever this is about, which will be looked at more closely for a while.
    pub(super) fn touch_all(&mut self, concerns: impl Fn(&Credential) -> bool) -> Vec<Credential> {
        let touched: Vec<Credential> = self.credentials.iter().filter(|one| concerns(one)).cloned().collect();
        for credential in &touched {
            self.touch(credential.clone());
        }
        touched
    }

    fn touch(&mut self, credential: Credential) {
        self.touched.push_back(credential);
        if self.touched.len() > TOUCHED_MAX {
            self.touched.pop_front();
        }
    }
}

/// Mostly one of the newest: of those that were made long ago few still work, and little can be done to them.
fn a_recent<'a, T>(all: &'a [T], rng: &mut StdRng) -> Option<&'a T> {
    let newest = &all[all.len().saturating_sub(RECENT)..];
    if rng.random_bool(0.8) { newest.choose(rng) } else { all.choose(rng) }
}
