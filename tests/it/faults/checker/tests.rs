//! Histories written by hand: an honest one that passes, and for each promise one that breaks it alone.

use super::*;
use crate::faults::history::{Fact, History, Operation, Outcome, Scope, Validation, What, Wish};

const KEY: KeyId = KeyId(1);
const SUCCESSOR: KeyId = KeyId(2);

fn at(milliseconds: u64) -> Moment {
    Moment::from_millis(milliseconds)
}

fn worker() -> Arc<str> {
    "w".into()
}

/// On node 0, for its own sake, from `invoked` to ten milliseconds later.
fn operation(command: u128, wish: Wish, invoked: u64, outcome: Outcome) -> Operation {
    Operation {
        wish,
        scope: Scope::Local,
        name: format!("c-{command}"),
        command: CommandId(command),
        invoked: at(invoked),
        completed: at(invoked + 10),
        node: 0,
        outcome,
    }
}

fn done(position: u64) -> Outcome {
    Outcome::Done { position, changed: true }
}

fn fact(position: u64, command: u128, what: What) -> Fact {
    Fact { position, command: CommandId(command), what }
}

/// Of the first key, on node 1.
fn validation(invoked: u64, position: u64, accepted: bool) -> Validation {
    Validation { node: 1, key: KEY, invoked: at(invoked), completed: at(invoked + 5), position, accepted }
}

/// A worker gets a key by 20, which is revoked everywhere by 40; a node asked in between says the one and then the other.
fn honest() -> (History, Vec<Fact>) {
    let mut revoke = operation(3, Wish::RevokeKey(KEY), 30, done(3));
    revoke.scope = Scope::Everywhere;
    let operations = vec![
        operation(1, Wish::CreateWorker(worker()), 0, done(1)),
        operation(2, Wish::CreateKey(worker()), 10, done(2)),
        revoke,
    ];
    let facts = vec![
        fact(0, 0, What::Other("pool.created")),
        fact(1, 1, What::WorkerCreated(worker())),
        fact(2, 2, What::KeyCreated { key: KEY, worker: worker() }),
        fact(3, 3, What::KeyRevoked(KEY)),
    ];
    // The third was asked for before the revocation was acknowledged, and the fourth at that very moment.
    let validations =
        vec![validation(15, 1, false), validation(25, 2, true), validation(39, 2, true), validation(40, 3, false)];
    (History { operations, validations }, facts)
}

/// As [`honest`], but the worker is isolated everywhere by 40 and not the key revoked, and `release` comes at position 4.
fn isolated(release: Option<u64>) -> (History, Vec<Fact>) {
    let (mut history, mut facts) = honest();
    history.operations[2].wish = Wish::Isolate(worker());
    facts[3].what = What::Isolated(worker());
    if let Some(invoked) = release {
        history.operations.push(operation(4, Wish::Release(worker()), invoked, Outcome::Unknown));
        facts.push(fact(4, 4, What::Released(worker())));
    }
    (history, facts)
}

/// An honest history, with one thing changed.
fn changed(change: impl FnOnce(&mut History, &mut Vec<Fact>)) -> Vec<Violation> {
    let (mut history, mut facts) = honest();
    change(&mut history, &mut facts);
    check(&history, &facts)
}

#[test]
fn an_honest_history_passes() {
    assert_eq!(changed(|_, _| {}), []);
}

#[test]
fn whatever_became_of_what_nobody_knows_is_well() {
    assert_eq!(changed(|history, _| history.operations[2].outcome = Outcome::Unknown), []);
    let never = |history: &mut History, _: &mut Vec<Fact>| {
        history.operations.push(operation(9, Wish::Isolate(worker()), 50, Outcome::Unknown));
        history.operations.push(operation(8, Wish::RevokeKey(KEY), 50, Outcome::Refused));
        history.operations.push(operation(7, Wish::RevokeKey(KEY), 50, Outcome::Done { position: 3, changed: false }));
    };
    assert_eq!(changed(never), []);
}

#[test]
fn a_position_that_is_missing_or_there_twice_is_caught() {
    let missing = changed(|_, facts| facts.iter_mut().for_each(|fact| fact.position += u64::from(fact.position > 1)));
    assert!(missing.contains(&Violation::NotDense { position: 2 }), "{missing:?}");
    let twice = changed(|_, facts| facts.insert(1, fact(0, 0, What::Other("pool.created"))));
    assert!(twice.contains(&Violation::NotDense { position: 1 }), "{twice:?}");
}

#[test]
fn an_acknowledged_change_that_is_not_there_is_caught() {
    let lost = changed(|history, facts| {
        facts.truncate(3);
        history.validations.clear();
    });
    assert_eq!(lost, [Violation::Lost { operation: "c-3".into() }]);
    let moved = changed(|history, _| history.operations[2].outcome = done(2));
    assert_eq!(moved, [Violation::Lost { operation: "c-3".into() }]);
}

#[test]
fn a_change_that_was_made_twice_or_otherwise_is_caught() {
    let garbled = [Violation::Garbled { operation: "c-3".into() }];
    assert_eq!(changed(|_, facts| facts.push(fact(4, 3, What::KeyRevoked(KEY)))), garbled);
    assert_eq!(changed(|history, _| history.operations[2].wish = Wish::Release(worker())), garbled);
}

#[test]
fn a_change_that_was_refused_or_never_asked_for_is_caught() {
    let all_the_same = [Violation::DoneAllTheSame { operation: "c-3".into() }];
    assert_eq!(changed(|history, _| history.operations[2].outcome = Outcome::Refused), all_the_same);
    let unchanged = Outcome::Done { position: 3, changed: false };
    assert_eq!(changed(|history, _| history.operations[2].outcome = unchanged), all_the_same);
    let unasked = changed(|_, facts| facts.push(fact(4, 9, What::Released(worker()))));
    assert_eq!(unasked, [Violation::Unasked { position: 4 }]);
}

#[test]
fn a_verdict_that_the_log_does_not_give_at_its_position_is_caught() {
    // (asked, position, accepted)
    let table = [(15, 1, true), (25, 2, false), (50, 3, true), (50, 4, false)];
    for (invoked, position, accepted) in table {
        let found = changed(|history, _| history.validations.push(validation(invoked, position, accepted)));
        let untrue = Violation::Untrue { node: 1, key: KEY, position, accepted };
        assert!(found.contains(&untrue), "{invoked} {position} {accepted}: {found:?}");
    }
}

#[test]
fn an_accepted_key_after_its_revocation_was_acknowledged_everywhere_is_caught() {
    let found = changed(|history, _| history.validations.push(validation(40, 2, true)));
    let accepted = Violation::Accepted { node: 1, key: KEY, operation: "c-3".into(), late: at(0) };
    assert_eq!(found, [Violation::Behind { node: 1, position: 2, acknowledged: 3 }, accepted]);
}

#[test]
fn acknowledged_here_binds_the_node_that_said_so_and_no_other() {
    let asked = |node| {
        changed(|history, _| {
            history.operations[2].scope = Scope::Local;
            history.validations.push(Validation { node, ..validation(60, 2, true) });
        })
    };
    assert_eq!(asked(1), []);
    let accepted = Violation::Accepted { node: 0, key: KEY, operation: "c-3".into(), late: at(20) };
    assert_eq!(asked(0), [Violation::Behind { node: 0, position: 2, acknowledged: 3 }, accepted]);
}

#[test]
fn a_revocation_that_found_the_key_revoked_is_a_promise_too() {
    let found = changed(|history, _| {
        let again = Outcome::Done { position: 3, changed: false };
        history.operations[2].outcome = Outcome::Unknown;
        history.operations.push(Operation { node: 1, ..operation(5, Wish::RevokeKey(KEY), 50, again) });
        history.validations.push(validation(60, 2, true));
    });
    let accepted = Violation::Accepted { node: 1, key: KEY, operation: "c-5".into(), late: at(0) };
    assert_eq!(found, [Violation::Behind { node: 1, position: 2, acknowledged: 3 }, accepted]);
}

#[test]
fn a_rotation_without_an_overlap_ends_the_old_key_and_one_with_an_overlap_does_not() {
    for ends_now in [true, false] {
        let found = changed(|history, facts| {
            history.operations[2].wish = Wish::RotateKey { key: KEY, ends_now };
            facts[3].what = What::KeyRotated { key: KEY, successor: SUCCESSOR, ends_now };
            history.validations[3].key = SUCCESSOR;
            history.validations[3].accepted = true;
            history.validations.push(validation(50, 3, true));
        });
        let caught = [
            Violation::Untrue { node: 1, key: KEY, position: 3, accepted: true },
            Violation::Accepted { node: 1, key: KEY, operation: "c-3".into(), late: at(10) },
        ];
        assert_eq!(found, if ends_now { caught.into_iter().collect() } else { Vec::new() }, "{ends_now}");
    }
}

#[test]
fn an_isolated_worker_is_accepted_again_only_after_its_release_was_asked_for() {
    // (release asked for, verdict asked for, position, what is caught beside that the node is behind)
    let accepted = |late| Some(Violation::Accepted { node: 1, key: KEY, operation: "c-3".into(), late: at(late) });
    let table = [
        (None, 41, 2, accepted(1)),
        // Asked for before the validation ended, so it may have come between.
        (Some(45), 41, 4, None),
        (Some(47), 41, 4, accepted(1)),
        // On its way since before the isolation, and carried out after it.
        (Some(5), 41, 4, None),
        (Some(45), 41, 2, None),
    ];
    for (release, invoked, position, expected) in table {
        let (mut history, facts) = isolated(release);
        history.validations.push(validation(invoked, position, true));
        let mut found = check(&history, &facts);
        let is_behind = found.iter().any(|violation| matches!(violation, Violation::Behind { .. }));
        assert_eq!(is_behind, position < 3, "{release:?} {invoked} {position}");
        found.retain(|violation| !matches!(violation, Violation::Behind { .. }));
        assert_eq!(found, Vec::from_iter(expected), "{release:?} {invoked} {position}");
    }
}

#[test]
fn a_fence_ends_what_was_issued_before_it_to_its_worker_or_to_anyone_and_nothing_else() {
    // (scope, of the key, whether it is refused)
    let table =
        [(None, KEY, true), (Some(worker()), KEY, true), (Some("other".into()), KEY, false), (None, SUCCESSOR, false)];
    for (scope, key, is_refused) in table {
        let found = changed(|history, facts| {
            history.operations[2].wish = Wish::Fence(scope.clone());
            facts[3].what = What::Fenced { worker: scope.clone(), up_to: 2 };
            history.operations.push(operation(4, Wish::CreateKey(worker()), 50, done(4)));
            facts.push(fact(4, 4, What::KeyCreated { key: SUCCESSOR, worker: worker() }));
            history.validations[3] = Validation { key, ..validation(60, 4, true) };
        });
        let caught = [
            Violation::Untrue { node: 1, key, position: 4, accepted: true },
            Violation::Accepted { node: 1, key, operation: "c-3".into(), late: at(20) },
        ];
        assert_eq!(found, if is_refused { Vec::from(caught) } else { Vec::new() }, "{scope:?} {key}");
    }
}

#[test]
fn a_node_that_answers_from_before_what_was_acknowledged_is_caught_whatever_it_says() {
    let other = KeyId(7);
    let behind = Violation::Behind { node: 1, position: 2, acknowledged: 3 };
    let found = changed(|history, _| {
        history.validations.push(Validation { key: other, ..validation(40, 2, false) });
    });
    assert_eq!(found, [behind]);
}
