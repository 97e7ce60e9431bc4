//! H5: fences of different scopes are combined by their maximum. Every sequence of issues and fences up to some length,
//! over few credentials and every scope, against the slow account of `fence_account`.

use super::fence_account::Account;
use super::invariants::known_keys;
use super::wish::{
    create_key, create_pool, create_secret, create_worker, create_worker_in, enroll, fence, issue, lineage, renew,
    rotate, rotate_secret, sharing,
};
use super::{World, admin, by_key, by_token, enrollee, outcome};
use crate::domain::actor::Author;
use crate::domain::admit::{admit_token, admit_worker_key};
use crate::domain::command::Command;
use crate::domain::enrollment::{EnrollmentStanding, Limits};
use crate::domain::event::Event;
use crate::domain::fence::FenceScope;
use crate::domain::ids::KeyId;
use crate::domain::token::TokenFacts;

/// So many fences are raised over one worker's scopes, in every order, at every position.
const FENCES: usize = 4;
/// So many steps, each of everything that can happen.
const STEPS: usize = 4;

fn is_good(world: &World, key: u128) -> bool {
    let key = world.roll.key(KeyId(key)).unwrap();
    admit_worker_key(&world.roll, key, None, world.now).is_ok()
}

/// Every order of fences on everything, pool, secret and worker, against every issue position.
#[test]
fn a_credential_is_good_if_no_fence_of_its_scopes_is_at_or_above_its_position() {
    let mut world = World::new().given([create_secret(1, Limits::default())]);
    let of_secret = world.roll.next_position() - 1;
    world.must(&enrollee(1), &enroll(1, "a", 20));
    let world = world.given([create_key("a", 21), create_key("a", 22)]);
    // Key 20 came of the secret: a fence that refuses the secret refuses it too.
    let keys = [20, 21, 22].map(|key| (key, world.roll.key(KeyId(key)).unwrap().issued));
    let positions = [of_secret, keys[0].1, keys[1].1, keys[2].1];
    let mut wishes = Vec::new();
    for at in positions {
        let at = Some(at);
        wishes.extend([fence("everything", at), fence("pool:default", at), lineage(1, at), fence("worker:a", at)]);
    }
    let (mut worlds, mut seen) = (vec![(world, Vec::<&Command>::new())], 0);
    while let Some((world, raised)) = worlds.pop() {
        for (key, issued) in keys {
            let refuses = |wish: &&Command| match wish {
                Command::RaiseFence { scope: FenceScope::Worker(_), up_to } => *up_to >= Some(issued),
                Command::RaiseFence { up_to, .. } => *up_to >= Some(if key == 20 { of_secret } else { issued }),
                _ => false,
            };
            let expected = !raised.iter().any(refuses);
            assert_eq!(is_good(&world, key), expected, "key {key}, issued at {issued}: {raised:?}");
        }
        seen += 1;
        for wish in wishes.iter().filter(|_| raised.len() < FENCES) {
            let mut next = world.clone();
            // What refuses nothing more is no other state.
            if !next.must(&admin(), wish).is_empty() {
                worlds.push((next, [raised.as_slice(), &[wish]].concat()));
            }
        }
    }
    assert!(seen > 10_000, "{seen} states");
}

/// Where a run is: the world, what was issued in it, and the next id.
#[derive(Clone)]
struct Run {
    world: World,
    tokens: Vec<TokenFacts>,
    /// The newest of the keys that come each of the one before, by its own power.
    chain: u128,
    secret: u128,
    minted: u128,
    /// The newest position when it began.
    begun: u64,
}

impl Run {
    fn begin() -> Self {
        let mut world = World::new().given([create_pool("blue", sharing()), create_secret(1, Limits::default())]);
        world.must(&enrollee(1), &enroll(1, "a", 20));
        let world =
            world.given([create_worker("b"), create_worker_in("blue", "c"), create_key("b", 21), create_key("c", 22)]);
        let begun = world.roll.next_position() - 1;
        Self { world, tokens: vec![], chain: 20, secret: 1, minted: 100, begun }
    }

    /// Everything that can happen next, and by whom.
    fn steps(&self) -> Vec<(Author, Command)> {
        let Self { chain, secret, minted, begun, .. } = self;
        let fences = [None, Some(*begun)]
            .into_iter()
            .flat_map(|at| [fence("everything", at), fence("pool:default", at), lineage(1, at), fence("worker:a", at)]);
        let renewed = self.tokens.last().map(|facts| (by_token(facts), renew(*minted, facts)));
        let issued = [
            (admin(), create_key("a", *minted)),
            (admin(), create_key("c", *minted)),
            (by_key("a", *chain), rotate(*chain, *minted, 3_600)),
            (by_key("a", *chain), issue(*minted, "a", *chain)),
            (admin(), rotate_secret(*secret, *minted, *minted, 3_600)),
            (enrollee(*secret), enroll(*secret, &format!("e-{minted}"), *minted)),
        ];
        issued.into_iter().chain(renewed).chain(fences.map(|wish| (admin(), wish))).collect()
    }

    /// The run after this step; `None` if it was refused, which is right only where a fence refuses what it comes with.
    fn after(&self, who: &Author, wish: &Command) -> Option<Self> {
        let mut next = Self { minted: self.minted + 1, ..self.clone() };
        let account = Account(&self.world.log);
        let a = "a".parse().unwrap();
        let shown_is_refused = match wish {
            Command::RotateKey { .. } => account.refuses_key(KeyId(self.chain), &a),
            Command::IssueToken(issue) => match &issue.renews {
                Some(facts) => account.refuses_token(facts),
                None => account.refuses_key(issue.key, &a),
            },
            Command::RotateEnrollmentSecret { secret, .. } => account.refuses_secret(*secret),
            Command::Enroll(enroll) => account.refuses_secret(enroll.secret),
            _ => false,
        };
        let decided = next.world.obey(who, wish);
        assert_eq!(decided.is_err(), shown_is_refused, "{wish:?}: {}", outcome(&decided));
        match (wish, decided.ok()?.as_slice()) {
            (Command::RotateKey { .. }, _) => next.chain = self.minted,
            (Command::RotateEnrollmentSecret { .. }, _) => next.secret = self.minted,
            (_, [Event::TokenIssued(new)]) => {
                next.tokens.push(super::worker_token(new, next.world.roll.next_position() - 1));
            }
            _ => {}
        }
        Some(next)
    }

    fn check(&self) {
        let World { roll, log, now, .. } = &self.world;
        let account = Account(log);
        for key in known_keys(&self.world).into_iter().filter_map(|id| roll.key(id)) {
            for worker in key.workers().iter().filter_map(|index| roll.worker_at(*index)) {
                let admitted = admit_worker_key(roll, key, Some(worker.id.as_str()), *now).is_ok();
                assert_eq!(admitted, !account.refuses_key(key.id, &worker.id), "{key:?} of {}\n{log:#?}", worker.id);
            }
        }
        for facts in &self.tokens {
            assert_eq!(admit_token(roll, facts, *now).is_ok(), !account.refuses_token(facts), "{facts:?}\n{log:#?}");
        }
        for secret in roll.enrollment_secrets() {
            let open = matches!(secret.standing(*now), EnrollmentStanding::Live | EnrollmentStanding::Overlapping);
            assert_eq!(open, !account.refuses_secret(secret.id), "{secret:?}\n{log:#?}");
        }
    }
}

#[test]
fn every_short_history_of_issues_and_fences_is_as_the_account_says() {
    let mut runs = vec![(Run::begin(), 0)];
    let mut seen = 0;
    while let Some((run, depth)) = runs.pop() {
        run.check();
        seen += 1;
        if depth < STEPS {
            runs.extend(
                run.steps().iter().filter_map(|(who, wish)| run.after(who, wish)).map(|next| (next, depth + 1)),
            );
        }
    }
    assert!(seen > 20_000, "{seen} histories");
}
