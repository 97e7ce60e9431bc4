//! Waiting for other nodes: `wait=everywhere` of commands, and `at_least=<position>` of reads.

use std::time::Duration;

use axum::http::Uri;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::App;
use super::body::duration;
use super::problem::Problem;
use super::query::Pairs;
use crate::command::CommandError;
use crate::node::barrier::{Named, Passed};

/// How long a command waits for all nodes unless it says so: longer than a lease of the usual length, which is what it
/// takes until a node that is gone can answer for nothing any more.
const WAIT_DEFAULT: Duration = Duration::from_secs(10);
/// A wait that lasts longer is asked for again: connections and proxies give up before.
const WAIT_MAX: Duration = Duration::from_secs(25);
/// How long a read waits for the position that it asks for: a follower is milliseconds behind, or has a problem.
const AT_LEAST_PATIENCE: Duration = Duration::from_secs(5);
/// How many reads may wait at a time: each is woken by every batch, in the writer's own time.
static AT_LEAST_PLACES: Semaphore = Semaphore::const_new(1_024);
/// No node reads so many events within that patience, so who asks for a position further ahead is told at once.
const AT_LEAST_AHEAD_MAX: u64 = 1_000_000;

/// Until when a command is to be waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Wait {
    /// Until it is in force on this node.
    #[default]
    Local,
    /// On every node; for so long at most.
    Everywhere(Duration),
}

impl Wait {
    /// Takes `wait` and `timeout` from the query.
    pub(super) fn of(uri: &Uri) -> Result<Self, Problem> {
        if uri.query().is_none_or(str::is_empty) {
            return Ok(Self::Local);
        }
        let mut query = Pairs::of(uri)?;
        let patience = query.one("timeout")?.map(|text| patience(&text)).transpose()?;
        match query.one("wait")?.as_deref() {
            None | Some("local") => Ok(Self::Local),
            Some("everywhere") => Ok(Self::Everywhere(patience.unwrap_or(WAIT_DEFAULT))),
            Some(_) => Err(Problem::invalid("wait", "`local` or `everywhere`")),
        }
    }

    /// Waits, and says of the event at `position` where it is in force; `None` where nobody asked. The nodes' names, which are
    /// those of machines, are for operators.
    pub(super) async fn wait(self, app: &App, position: u64, names: bool) -> Result<Option<Value>, Problem> {
        let Self::Everywhere(patience) = self else { return Ok(None) };
        // The answer must come before the request is given up.
        let patience = patience.min(app.settings().request_timeout / 2);
        let passed = app.barriers().wait(position, patience).await;
        let passed = passed.map_err(|error| Problem::not_everywhere(position, &error.to_string()))?;
        if passed.is_everywhere() {
            return Ok(Some(if names { in_force(position, &passed) } else { json!({ "position": position }) }));
        }
        if !names {
            return Err(Problem::not_everywhere(position, "some nodes did not confirm in time"));
        }
        let missing: Vec<&str> = passed.missing.values().map(String::as_str).collect();
        Err(Problem::not_everywhere(position, &format!("these nodes did not confirm in time: {}", missing.join(", "))))
    }
}

/// A length of time to wait, as people write it.
pub(super) fn patience(text: &str) -> Result<Duration, Problem> {
    let patience = Duration::from_secs(duration("timeout", text)?.0.into());
    // `0` alone would pass for a duration, and is one of nobody knows what.
    if !text.ends_with(|end: char| end.is_ascii_alphabetic()) {
        return Err(Problem::invalid("timeout", "a duration with its unit, such as `10s`"));
    }
    if patience > WAIT_MAX {
        return Err(Problem::invalid("timeout", format!("at most {} s; ask again to wait longer", WAIT_MAX.as_secs())));
    }
    Ok(patience)
}

fn in_force(position: u64, passed: &Passed) -> Value {
    json!({ "position": position, "confirmed": listed(&passed.confirmed), "waited_out": listed(&passed.waited_out) })
}

/// The names, which is what people know nodes by.
pub(super) fn listed(nodes: &Named) -> Vec<&str> {
    nodes.values().map(String::as_str).collect()
}

/// The position that a read asks for: it is answered from a state that holds it, or not at all.
pub(super) fn at_least(uri: &Uri) -> Result<Option<u64>, Problem> {
    if !uri.query().is_some_and(|query| query.contains("at_least")) {
        return Ok(None);
    }
    Pairs::of(uri)?.parsed("at_least", "a position: the `Portcullis-Position` of an earlier answer")
}

/// Waits until this node's state holds a position; not for long, and for none that is far away.
pub(super) async fn hold(app: &App, position: u64) -> Result<(), Problem> {
    let newest = || app.node().snapshot().roll.next_position().saturating_sub(1);
    if position.saturating_sub(newest()) > AT_LEAST_AHEAD_MAX {
        return Err(Problem::position_not_reached(position, newest()));
    }
    // Nobody may have been asked yet who they are.
    let Ok(_place) = AT_LEAST_PLACES.try_acquire() else { return Err(CommandError::QueueFull.into()) };
    let reached = tokio::time::timeout(AT_LEAST_PATIENCE, app.node().reached(position)).await;
    reached.map_err(|_| Problem::position_not_reached(position, newest()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_waits_here_unless_it_says_where_and_never_for_ever() {
        let everywhere = |seconds| Some(Wait::Everywhere(Duration::from_secs(seconds)));
        let table = [
            ("", Some(Wait::Local)),
            ("reason=x", Some(Wait::Local)),
            ("wait=local", Some(Wait::Local)),
            ("wait=everywhere", everywhere(10)),
            ("wait=everywhere&timeout=2s", everywhere(2)),
            ("wait=everywhere&timeout=0s", everywhere(0)),
            ("wait=everywhere&timeout=25s", everywhere(25)),
            ("wait=everywhere&timeout=26s", None),
            ("wait=everywhere&timeout=soon", None),
            ("wait=everywhere&wait=local", None),
            ("wait=nowhere", None),
            // There is nothing to wait for, so any time is enough.
            ("timeout=2s", Some(Wait::Local)),
            ("wait=local&timeout=2s", Some(Wait::Local)),
            ("timeout=soon", None),
            ("timeout=0", None),
        ];
        for (query, expected) in table {
            let uri: Uri = format!("/v1/keys/1/revoke?{query}").parse().unwrap();
            assert_eq!(Wait::of(&uri).ok(), expected, "{query}");
        }
    }

    /// Whatever changes something takes `wait`, but for what is named here, with why it can take nobody's access away. So a
    /// command that is added is looked at once, by whoever adds it.
    #[test]
    fn every_command_that_can_reduce_access_takes_wait() {
        let reduces_nothing = [
            ("post", "/v1/validate", "a question"),
            ("post", "/v1/scope", "a question"),
            ("post", "/oauth2/introspect", "a question"),
            ("post", "/oauth2/token", "issues"),
            ("post", "/v1/register", "issues"),
            ("post", "/v1/renew", "issues"),
            ("post", "/v1/enroll", "lets in"),
            ("post", "/v1/operators", "makes"),
            ("post", "/v1/operators/{id}/keys", "makes"),
            ("post", "/v1/workers", "makes"),
            ("post", "/v1/workers/{id}/keys", "makes"),
            ("post", "/v1/enrollment-secrets", "makes"),
            ("post", "/v1/pools", "makes"),
            ("patch", "/v1/pools/{pool}", "how tokens are issued from then on"),
            ("post", "/v1/workers/{id}/release", "gives back"),
            ("post", "/v1/workers/{id}/approve", "lets in"),
            ("post", "/v1/incidents", "says something"),
            ("patch", "/v1/incidents/{id}", "says something"),
            ("post", "/v1/incidents/{id}/notes", "says something"),
            ("post", "/v1/incidents/{id}/steps", "says something"),
            ("post", "/v1/plans", "what applying it would do"),
            ("post", "/v1/plans/{id}/approve", "says something"),
            ("post", "/v1/readmissions/{id}/pause", "stands still"),
            ("post", "/v1/readmissions/{id}/resume", "lets in"),
            ("post", "/v1/readmissions/{id}/next", "lets in"),
            ("patch", "/v1/plan-policy", "who has to say so"),
            ("post", "/v1/honey-keys", "makes what gets nobody in"),
            ("delete", "/v1/honey-keys/{id}", "got nobody in"),
            ("put", "/v1/tripwires", "what will be done"),
            ("post", "/v1/netguard/addresses", "packets, and no credential"),
            ("delete", "/v1/netguard/addresses", "packets, and no credential"),
            ("post", "/v1/webhooks", "who is told"),
            ("patch", "/v1/webhooks/{id}", "who is told"),
            ("delete", "/v1/webhooks/{id}", "who is told"),
            ("post", "/v1/webhooks/{id}/test", "who is told"),
            ("post", "/v1/projections/{id}/rebuild", "lists"),
            ("post", "/v1/projections/{id}/verify", "lists"),
            ("post", "/v1/compromised", "takes away, and tells nobody how it went (H31)"),
        ];
        let document = serde_json::to_value(crate::http::document()).unwrap();
        let mut exempt: Vec<(&str, &str)> = reduces_nothing.iter().map(|(method, path, _)| (*method, *path)).collect();
        for (path, operations) in document["paths"].as_object().unwrap() {
            for (method, operation) in operations.as_object().unwrap().iter().filter(|(method, _)| *method != "get") {
                let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
                let takes = |name| parameters.iter().any(|parameter| parameter["name"] == name);
                let named = exempt.iter().position(|exempt| *exempt == (method, path));
                let waits = takes("wait") && takes("timeout");
                assert!(waits != named.is_some(), "{method} {path}: it takes `wait`: {waits}; it is named: {}", !waits);
                named.map(|at| exempt.swap_remove(at));
            }
        }
        assert!(exempt.is_empty(), "no operations any more: {exempt:?}");
    }

    #[test]
    fn a_read_names_one_position_or_none() {
        let table =
            [("", Some(None)), ("at_least=7", Some(Some(7))), ("at_least=", None), ("at_least=1&at_least=2", None)];
        for (query, expected) in table {
            let uri: Uri = format!("/v1/pools?limit=1&{query}").parse().unwrap();
            assert_eq!(at_least(&uri).ok(), expected, "{query}");
        }
    }
}
