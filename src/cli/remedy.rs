//! What to do about a problem, by its code. The service says what is wrong; only here is it known what was typed.

/// One sentence for whoever reads the problem.
pub(crate) fn of(code: &str, status: u16) -> &'static str {
    by_code(code).unwrap_or_else(|| by_status(status))
}

fn by_code(code: &str) -> Option<&'static str> {
    Some(match code {
        "pool_unknown" => "see the pools with `portcullis pool list`, or create it with `portcullis pool create`",
        "pool_exists" => "change it with `portcullis pool update`, or choose another name",
        "pool_not_empty" => "see who is in it with `portcullis worker list --pool`, and remove them first",
        "worker_unknown" => "find its id with `portcullis worker list --name`",
        "worker_exists" => "choose another id: an id is never used again, not even after its worker was removed",
        "worker_pending" => "approve it with `portcullis worker approve`",
        "worker_isolated" => "release it with `portcullis worker release` once it is safe",
        "worker_removed" | "worker_rejected" => "this is final; create a new worker",
        "worker_expired" => "give it more time with `portcullis worker update --expires-at`",
        "key_unknown" => "see a worker's keys with `portcullis key list --worker`",
        "key_revoked" | "key_expired" | "key_fenced" => "make a new key with `portcullis key create`",
        "key_already_rotated" => "hand out the successor, or revoke it with `portcullis key revoke` and rotate again",
        "too_many_keys" => "revoke one that is no longer used: `portcullis key list`, `portcullis key revoke`",
        "sharing_off" => "allow it with `portcullis pool update --sharing true`, or give each worker a key of its own",
        "static_secret_in_use" | "static_secret_revoked" => "choose another value, at random, or use an API key",
        "enrollment_secret_unknown" => "see them with `portcullis enrollment list`",
        "enrollment_secret_ended" | "enrollment_secret_fenced" => {
            "create a new one with `portcullis enrollment create`"
        }
        "plan_unknown" => "see them with `portcullis plan list`",
        "plan_changed" | "plan_expired" => "make it again, and look at what it selects now: `portcullis plan`",
        "approval_required" => "ask another operator for `portcullis plan approve`, with the plan's digest",
        "approval_own" => "ask another operator to approve it",
        "plan_not_applied" => "apply it first: `portcullis plan apply`",
        "plan_progressed" => {
            "go on with the file that was begun: `portcullis plan collect PLAN --secrets-file FILE --resume`"
        }
        "plan_digest" => "see the plan with `portcullis plan show`, and apply it with the digest that is shown there",
        "readmission_none" => "see them with `portcullis incident readmit list`",
        "readmission_over" => "isolate whom it let back in with `portcullis plan isolate`",
        "readmission_stands" => "go on with `portcullis incident readmit resume`",
        "readmission_keys_wait" => {
            "collect them: `portcullis incident readmit collect PLAN --secrets-file FILE --follow`, with `--resume` for a file \
             that was begun"
        }
        "incident_unknown" => "see them with `portcullis incident list`",
        "incident_closed" => "leave `--incident` (PORTCULLIS_INCIDENT) out, or open another incident",
        "step_unknown" => "see the steps with `portcullis incident show`",
        "steps_open" => "settle each with `portcullis incident step`, and say why with `--reason`",
        "outside_drill" => "choose something in the drill's own pool, which `portcullis incident show` names",
        "plan_recorded" => "see its events with `portcullis events list`",
        "operator_unknown" => "see them with `portcullis operator list`",
        "last_admin" => "make another admin first: `portcullis operator create --role admin`",
        "idempotency_key_reused" => "this idempotency key belongs to another command: leave `--idempotency-key` out",
        "secret_gone" => "the answer was kept for a day and is gone; revoke that key and create a new one",
        "too_many_attempts" => "wait a little, and check the credential before the next attempt",
        "stale" => "the node has lost sight of the log and refuses until it sees it; look at its /readyz and its log",
        "stopped" => "ask another node; what its /readyz and its log name has to be mended before it is started again",
        "log_tampered" => {
            "keep what the log says, look at who could write to the database, and restore what was changed"
        }
        "outcome_lost" => "look at what it did: `portcullis events`; then go on with another `--idempotency-key`",
        "queue_full" => "the service is at its limit; try again in a moment",
        "projection_behind" => "look at `portcullis projection list`, and at the log of the services",
        "log_unavailable" => "the service cannot reach Postgres; look at its log",
        "outcome_unknown" => "see whether it was done before you try again; with an `--idempotency-key` ask again",
        "invalid_client" => "check the worker's id and its key",
        _ => return None,
    })
}

fn by_status(status: u16) -> &'static str {
    match status {
        300..=399 => {
            "give the service's own URL with `--url`; a redirect is not followed, it could take the token away"
        }
        400 => "mend what the detail names; `--help` shows the form",
        401 => "check which credential is used: `--token-file`, PORTCULLIS_TOKEN, or the worker's own variables",
        403 => "this credential is good, but not for this: use one with another role, or ask an admin",
        404 => "check the id (a name is no id: `list` shows both), and that `--url` names a Portcullis of this version",
        409 => "look at it with `show`, then decide anew",
        413 => "send less at once",
        408 => "the way to the service is slow or broken; try again",
        429 => "wait a little, then try again",
        502..=504 => "try again in a moment; look at the service's log if it lasts",
        500..=599 => "look for the request id in the service's log",
        _ => "see the detail",
    }
}
