//! Deciding a batch: what the commands that queued while the last commit was in flight come to, over one draft of the Roll.
//!
//! Nothing here waits. A draft that is not committed is dropped, and the submissions are decided again on the newer state.

use std::collections::HashMap;
use std::sync::Arc;

use super::{CommandError, Done, KeptAnswer, Outcome, Reply, Submission};
use crate::credential::root_key::DerivedKeys;
use crate::domain::command::Command;
use crate::domain::decide;
use crate::domain::decide::carried;
use crate::domain::event::{Event, Recorded};
use crate::domain::ids::{CommandId, IncidentId};
use crate::domain::plan::Progress;
use crate::domain::refusal::Refusal;
use crate::domain::roll::Roll;
use crate::domain::time::Timestamp;
use crate::domain::tripwire::TripwireEvent;
use crate::log::append::{Batch, CommandOutcome, SealedOutcome};
use crate::log::head::Head;
use crate::log::outcome::{self, Found, KeptOutcome};
use crate::log::{LogFault, Tampered};
use crate::node::recent::Taken;

/// A batch that was decided and not yet appended.
pub(super) struct Decided {
    pub(super) draft: Roll,
    pub(super) batch: Batch,
    /// The events of the batch.
    pub(super) taken: Vec<Taken>,
    /// One for each submission, in order.
    pub(super) replies: Vec<Reply>,
}

/// Decides all submissions in turn, each on what the ones before it left.
///
/// `found` holds what there is of those commands that were asked for before.
pub(super) fn decide_all(
    submissions: &[Submission],
    roll: &Roll,
    head: &Head,
    found: &HashMap<CommandId, Found>,
    keys: &DerivedKeys,
    now: Timestamp,
) -> Decided {
    let mut decided =
        Decided { draft: roll.clone(), batch: Batch::after(head), taken: Vec::new(), replies: Vec::new() };
    // The same id twice in one batch: the second is a repeat of the first, as it would be a moment later.
    let mut in_batch = HashMap::new();
    for submission in submissions {
        let wish = &submission.wish;
        let reply = match (found.get(&wish.id), in_batch.get(&wish.id)) {
            (Some(found), _) => again(submission, found, keys),
            (None, Some(kept)) => repeat(submission, kept, keys),
            (None, None) => {
                let (reply, kept) = decided.decide_one(submission, keys, now);
                in_batch.extend(kept.map(|kept| (wish.id, kept)));
                reply
            }
        };
        decided.replies.push(reply);
    }
    decided
}

impl Decided {
    fn decide_one(
        &mut self,
        submission: &Submission,
        keys: &DerivedKeys,
        now: Timestamp,
    ) -> (Reply, Option<KeptOutcome>) {
        let wish = &submission.wish;
        let cause = cause(&self.draft, &wish.command);
        let events = match decide(&self.draft, &wish.command, &wish.context) {
            Ok(events) => events,
            Err(refusal) => {
                let keeps = wish.fingerprint.is_some() && !wish.dry_run && is_kept(&wish.command, &refusal);
                let kept = keeps.then(|| self.keep(submission, &refused(&refusal), keys));
                return (Err(CommandError::Refused(refusal)), kept);
            }
        };
        let changed = !events.is_empty();
        let incident = carried(&self.draft, &wish.command, &wish.context, &events);
        let mut origin = Origin { cause, incident };
        // Nothing of a command is kept unless all of it can be: an entry that is too long refuses the whole command. So all
        // is sealed first, and the draft is changed in place: a copy of it, to be dropped on failure, would have each
        // command copy the nodes that the one before has made.
        let (mut batch, mut recorded, mut bytes) = (self.batch.fork(), Vec::new(), Vec::new());
        for event in events {
            let event = record(submission, event, &origin, &batch, now);
            origin.follow(&event);
            match batch.push(&event, keys) {
                Ok(length) => bytes.push(length),
                Err(fault) => return (Err(unwritable(&fault)), None),
            }
            recorded.push(event);
        }
        // It was sealed all the same: what the log could not hold would be refused, and so is its dry run.
        if !wish.dry_run {
            for event in &recorded {
                self.draft.apply(event);
            }
            self.batch.join(batch);
        }
        let position = self.draft.next_position().saturating_sub(1);
        let body = (wish.answer)(&self.draft, &Done { position, events: &recorded });
        if !wish.dry_run {
            let taken = recorded.into_iter().zip(bytes);
            self.taken.extend(taken.map(|(recorded, bytes)| Taken { recorded: Arc::new(recorded), bytes }));
        }
        let outcome =
            Outcome { position, changed, body: body.clone(), repeated: false, sealed: None, secrets_gone: false };
        let kept = (!wish.dry_run && (changed || wish.fingerprint.is_some())).then(|| {
            let secrets = changed && wish.sealed.is_some();
            self.keep(submission, &KeptAnswer::Done { changed, body, secrets }, keys)
        });
        (Ok(outcome), kept)
    }

    /// Puts the outcome into the batch, and gives back what a repeat would find.
    fn keep(&mut self, submission: &Submission, answer: &KeptAnswer, keys: &DerivedKeys) -> KeptOutcome {
        let wish = &submission.wish;
        let fingerprint = wish.fingerprint.map(Vec::from).unwrap_or_default();
        let outcome = serde_json::to_vec(answer).expect("an answer is JSON");
        let has_secrets = matches!(answer, KeptAnswer::Done { secrets: true, .. });
        let sealed = wish.sealed.as_ref().filter(|_| has_secrets);
        let position = self.draft.next_position().saturating_sub(1);
        let protected = outcome::protect(keys, wish.id, &fingerprint, position, &outcome);
        let secret = sealed.map(|answer| SealedOutcome {
            command: wish.id,
            sealed: answer.sealed.clone(),
            expires_at: answer.expires_at,
        });
        let kept = KeptOutcome {
            fingerprint: fingerprint.clone(),
            position,
            protected: protected.clone(),
            sealed: sealed.map(|answer| answer.sealed.clone()),
        };
        self.batch.push_outcome(CommandOutcome { command: wish.id, fingerprint, position, protected }, secret);
        kept
    }
}

/// The position of the event that led to the command: what a plan's items are recorded for is that it was applied.
fn cause(roll: &Roll, command: &Command) -> Option<u64> {
    match command {
        Command::ContinuePlan { plan, .. } => roll.plan(*plan)?.progress.as_ref().map(Progress::cause),
        Command::ServeCertificate(served) => {
            let due = roll.certificates_due();
            roll.certificate(&served.node).filter(|known| known.position < due).map(|_| due)
        }
        _ => None,
    }
}

/// What the events of a command come of.
struct Origin {
    cause: Option<u64>,
    incident: Option<IncidentId>,
}

impl Origin {
    /// What a rule has done about a trip comes of that trip.
    fn follow(&mut self, recorded: &Recorded) {
        if matches!(recorded.event, Event::Tripwire(TripwireEvent::Tripped(_))) {
            self.cause = Some(recorded.position);
        }
    }
}

/// The event in its place: position and time of the record are the batch's matter.
fn record(submission: &Submission, event: Event, origin: &Origin, batch: &Batch, now: Timestamp) -> Recorded {
    let context = &submission.wish.context;
    let head = batch.head();
    Recorded {
        position: head.next_position,
        // Strictly increasing, whatever the clock does.
        recorded_at: now.max(Timestamp(head.recorded_at.0 + 1)),
        occurred_at: context.now,
        author: context.author.clone(),
        command: submission.wish.id,
        cause: origin.cause,
        incident: origin.incident.clone().filter(|_| !event.precedes_its_incident()),
        reason: context.reason.clone(),
        event,
    }
}

fn again(submission: &Submission, found: &Found, keys: &DerivedKeys) -> Reply {
    let command = submission.wish.id;
    match *found {
        Found::Kept(ref kept) => repeat(submission, kept, keys),
        Found::Damaged { column } => Err(CommandError::Tampered(Tampered::OutcomeColumn { command, column })),
        Found::Lost { written_at: position } => {
            let id = uuid::Uuid::from_u128(command.0);
            tracing::error!(command = %id, position, "the outcome of a command that was carried out is gone from log.command");
            Err(CommandError::OutcomeLost { position })
        }
    }
}

fn repeat(submission: &Submission, kept: &KeptOutcome, keys: &DerivedKeys) -> Reply {
    let outcome = kept.verified(keys, submission.wish.id).map_err(CommandError::Tampered)?;
    // Without an Idempotency-Key the id was made for this one request: what is kept under it is our own append, whose
    // answer was lost on the way.
    let given = submission.wish.fingerprint;
    let same = given.map_or(kept.fingerprint.is_empty(), |fingerprint| fingerprint[..] == kept.fingerprint[..]);
    if !same {
        return Err(CommandError::OtherContent);
    }
    let answer: KeptAnswer = serde_json::from_slice(outcome)
        .map_err(|_| CommandError::Fault("the outcome that was kept cannot be read".into()))?;
    match answer {
        KeptAnswer::Refused { code, detail } => Err(CommandError::RefusedBefore { code, detail }),
        KeptAnswer::Done { changed, body, secrets } => Ok(Outcome {
            position: kept.position,
            changed,
            body,
            repeated: given.is_some(),
            sealed: kept.sealed.clone(),
            secrets_gone: secrets && kept.sealed.is_none(),
        }),
    }
}

fn refused(refusal: &Refusal) -> KeptAnswer {
    KeptAnswer::Refused { code: refusal.code().to_owned(), detail: refusal.to_string() }
}

/// Whether a repeat is to get this refusal whatever has changed since. Not where the author's own credential is no good:
/// the holder of a key that was rotated away, or of an enrollment secret that has ended, is let up to here, to ask again for
/// a lost answer, and would fill the log with a row that nobody can remove for each request. An enrollment that is refused
/// is tried again besides, and under its nonce the worker may get in later.
fn is_kept(command: &Command, refusal: &Refusal) -> bool {
    !matches!(refusal, Refusal::Denied(_)) && !matches!(command, Command::Enroll(_))
}

fn unwritable(fault: &LogFault) -> CommandError {
    tracing::error!(%fault, "a command's event could not be written");
    CommandError::Fault(Arc::from(fault.to_string()))
}
