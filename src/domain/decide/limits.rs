//! Limits on what people write, each with its reason beside the constant. A refusal names the field and the remedy.

use std::sync::Arc;

use crate::domain::enrollment::{CIDRS_MAX, Limits};
use crate::domain::incident::{
    Description, NOTE_CHARS_MAX, PEOPLE_MAX, PERSON_CHARS_MAX, SCOPE_BYTES_MAX, StepTemplate, TITLE_CHARS_MAX,
    check_checklist, is_prose,
};
use crate::domain::key::{KeyKind, OVERLAP_MAX};
use crate::domain::plan::{ApprovalPolicy, FETCH_MIN, PLAN_KINDS, POLICY_POOLS_MAX, SELECTOR_BYTES_MAX, Selector};
use crate::domain::pool::{
    AUDIENCE_CHARS_MAX, DESCRIPTION_CHARS_MAX, PoolSettings, SCOPE_CHARS_MAX, SCOPES_MAX, TOKEN_TTL_MAX, TOKEN_TTL_MIN,
};
use crate::domain::readmission::{BOUND_MAX, Terms, WAVE_EVERY_MAX, WAVE_EVERY_MIN, WAVE_SIZE_MAX, WAVES_MAX};
use crate::domain::refusal::Refusal;
use crate::domain::time::{Seconds, Timestamp};
use crate::domain::tripwire::HONEY_NOTE_CHARS_MAX;
use crate::domain::worker::{LABEL_CHARS_MAX, LABELS_MAX, Labels, NAME_CHARS_MAX};

fn invalid(field: &'static str, message: impl Into<String>) -> Refusal {
    Refusal::Invalid { field, message: message.into() }
}

fn check(holds: bool, field: &'static str, message: impl FnOnce() -> String) -> Result<(), Refusal> {
    if holds { Ok(()) } else { Err(invalid(field, message())) }
}

pub(super) fn name(name: &str) -> Result<(), Refusal> {
    check(!name.is_empty(), "name", || "must not be empty; leave it out instead".to_owned())?;
    check(name.chars().count() <= NAME_CHARS_MAX, "name", || format!("has at most {NAME_CHARS_MAX} characters"))?;
    // Names end up in terminals and logs, where a control character is an attack.
    check(!name.chars().any(char::is_control), "name", || "must not hold control characters".to_owned())
}

pub(super) fn labels(labels: &Labels) -> Result<(), Refusal> {
    check(labels.len() <= LABELS_MAX, "labels", || format!("at most {LABELS_MAX} labels"))?;
    labels.iter().try_for_each(|(name, value)| label("labels", name, value))
}

pub(super) fn label(field: &'static str, name: &str, value: &str) -> Result<(), Refusal> {
    let text = |text: &str| text.chars().count() <= LABEL_CHARS_MAX && !text.chars().any(char::is_control);
    check(!name.is_empty(), field, || "a label's name must not be empty".to_owned())?;
    check(text(name) && text(value), field, || {
        format!("names and values of labels have at most {LABEL_CHARS_MAX} characters, none of them control characters")
    })
}

/// It has to fit in an entry of the log, with room for all else that stands there.
pub(super) fn selector(selector: &Selector) -> Result<(), Refusal> {
    let bytes: usize = selector.criteria().iter().map(|criterion| criterion.to_string().len()).sum();
    check(bytes <= SELECTOR_BYTES_MAX, "select", || {
        format!("at most {SELECTOR_BYTES_MAX} bytes in all; make several plans, or select by a label")
    })
}

/// A new thing that has already ended is a mistake in the caller's clock or unit.
pub(super) fn future(field: &'static str, at: Option<Timestamp>, now: Timestamp) -> Result<(), Refusal> {
    check(at.is_none_or(|at| at > now), field, || "must be in the future".to_owned())
}

/// A fence over what is still to be issued would refuse what the responder issues next, and nobody would know why.
pub(super) fn past_position(field: &'static str, position: u64, newest: u64) -> Result<(), Refusal> {
    check(position <= newest, field, || format!("must not be past the newest position, {newest}"))
}

/// Ids are minted, so one that is taken is a mistake of the minting: it must not put another thing in the old one's place.
pub(super) fn unused(field: &'static str, unused: bool) -> Result<(), Refusal> {
    check(unused, field, || "this id is taken".to_owned())
}

pub(super) fn api_key_of_operator(kind: KeyKind) -> Result<(), Refusal> {
    check(kind == KeyKind::Api, "kind", || {
        "an operator has API keys only; a value that people choose is guessed".to_owned()
    })
}

pub(super) fn overlap(overlap: Seconds) -> Result<(), Refusal> {
    check(overlap <= OVERLAP_MAX, "overlap", || format!("at most {} days", OVERLAP_MAX.0 / Seconds::DAY))
}

/// Workers have to notice, and to come with their old keys.
pub(super) fn time_to_fetch(overlap: Seconds) -> Result<(), Refusal> {
    check(overlap >= FETCH_MIN, "overlap", || {
        format!("at least {} minutes, in which workers fetch their new keys", FETCH_MIN.0 / Seconds::MINUTE)
    })
}

pub(super) fn is_everybodys(everything: bool) -> Result<(), Refusal> {
    check(everything, "select", || {
        "`everything`: all workers have the same signing keys, and the same nodes, before them".to_owned()
    })
}

/// What else is selected no fence covers exactly.
pub(super) fn fences_cover(covered: bool) -> Result<(), Refusal> {
    check(covered, "select", || {
        "`everything`, pools, enrollment secrets or workers: a fence is over one of these, whole".to_owned()
    })
}

pub(super) fn waves(terms: &Terms, total: u64) -> Result<(), Refusal> {
    check((1..=WAVE_SIZE_MAX).contains(&terms.wave_size), "wave_size", || {
        format!("from 1 to {WAVE_SIZE_MAX} workers")
    })?;
    check((WAVE_EVERY_MIN..=WAVE_EVERY_MAX).contains(&terms.wave_every), "wave_every", || {
        format!("from {WAVE_EVERY_MIN} to {} days", WAVE_EVERY_MAX.0 / Seconds::DAY)
    })?;
    check(terms.refusals_max <= BOUND_MAX, "stop_after_refusals", || format!("at most {BOUND_MAX}"))?;
    check(terms.trips_max <= BOUND_MAX, "stop_after_trips", || format!("at most {BOUND_MAX}"))?;
    let waves = terms.waves(total);
    check(waves <= WAVES_MAX, "wave_size", || {
        format!("{total} workers would come back in {waves} waves, and {WAVES_MAX} are the most; let more in at once")
    })?;
    check(terms.canary.is_none() || terms.canaries > 0 || total == 0, "canary_pool", || {
        "none of the isolated workers that are selected is in it".to_owned()
    })
}

pub(super) fn approval_policy(policy: &ApprovalPolicy) -> Result<(), Refusal> {
    let is_kind = |kind: &Arc<str>| PLAN_KINDS.contains(&&**kind);
    check(policy.kinds.iter().all(is_kind), "kinds", || format!("each one of {}", PLAN_KINDS.join(", ")))?;
    check(policy.kinds.is_sorted_by(|a, b| a < b), "kinds", || "each once, in order".to_owned())?;
    check(policy.pools.is_sorted_by(|a, b| a < b), "pools", || "each once, in order".to_owned())?;
    check(policy.pools.len() <= POLICY_POOLS_MAX, "pools", || format!("at most {POLICY_POOLS_MAX} pools"))
}

pub(super) fn token_ttl(field: &'static str, ttl: Seconds) -> Result<(), Refusal> {
    check((TOKEN_TTL_MIN..=TOKEN_TTL_MAX).contains(&ttl), field, || {
        format!("from {TOKEN_TTL_MIN} to {} days", TOKEN_TTL_MAX.0 / Seconds::DAY)
    })
}

pub(super) fn pool_settings(settings: &PoolSettings) -> Result<(), Refusal> {
    token_ttl("token_ttl", settings.token_ttl)?;
    let audience = &settings.audience;
    check(!audience.is_empty() && audience.len() <= AUDIENCE_CHARS_MAX, "audience", || {
        format!("1 to {AUDIENCE_CHARS_MAX} characters")
    })?;
    check(!audience.chars().any(char::is_control), "audience", || "must not hold control characters".to_owned())?;
    check(settings.description.chars().count() <= DESCRIPTION_CHARS_MAX, "description", || {
        format!("at most {DESCRIPTION_CHARS_MAX} characters")
    })?;
    check(settings.scopes.len() <= SCOPES_MAX, "scopes", || format!("at most {SCOPES_MAX} scopes"))?;
    // RFC 6749, section 3.3: printable ASCII without space, quote and backslash.
    let is_scope = |scope: &str| {
        (1..=SCOPE_CHARS_MAX).contains(&scope.len())
            && scope.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\'))
    };
    check(settings.scopes.iter().all(|scope| is_scope(scope)), "scopes", || {
        format!("a scope is 1 to {SCOPE_CHARS_MAX} printable ASCII characters without space, quote and backslash")
    })
}

pub(super) fn enrollment(limits: &Limits, now: Timestamp) -> Result<(), Refusal> {
    check(limits.cidrs.len() <= CIDRS_MAX, "cidrs", || format!("at most {CIDRS_MAX} CIDRs"))?;
    check(limits.uses_max != Some(0), "uses_max", || {
        "must be at least 1; to let every worker wait, set `approval`".to_owned()
    })?;
    future("expires_at", limits.expires_at, now)
}

/// Prose for people: it has something to say, and no control characters.
fn prose(field: &'static str, text: &str, chars_max: usize) -> Result<(), Refusal> {
    check(is_prose(text, chars_max), field, || {
        format!("1 to {chars_max} characters, none of them control characters, not only spaces")
    })
}

pub(super) fn note(field: &'static str, text: &str) -> Result<(), Refusal> {
    prose(field, text, NOTE_CHARS_MAX)
}

pub(super) fn honey_note(text: &str) -> Result<(), Refusal> {
    prose("note", text, HONEY_NOTE_CHARS_MAX)
}

pub(super) fn incident(description: &Description, now: Timestamp) -> Result<(), Refusal> {
    prose("title", &description.title, TITLE_CHARS_MAX)?;
    check(description.people.len() <= PEOPLE_MAX, "people", || format!("at most {PEOPLE_MAX} people"))?;
    description.people.iter().try_for_each(|person| prose("people", person, PERSON_CHARS_MAX))?;
    let bytes: usize = description.scope.iter().map(|criterion| criterion.to_string().len()).sum();
    check(bytes <= SCOPE_BYTES_MAX, "scope", || {
        format!("at most {SCOPE_BYTES_MAX} bytes in all; name a pool or a label instead of single workers")
    })?;
    check(description.first_sign.is_none_or(|at| at <= now), "first_sign", || "must not be in the future".to_owned())
}

pub(super) fn checklist(steps: &[StepTemplate]) -> Result<(), Refusal> {
    check_checklist(steps).map_err(|error| invalid("checklist", error.to_string()))
}
