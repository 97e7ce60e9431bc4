//! How commands have ended, for the metrics.

use crate::command::{CommandError, Reply, Wish};
use crate::domain::command::Command;
use crate::telemetry::Metrics;

/// What metrics may say of a command's end.
pub const OUTCOMES: [&str; 6] = ["changed", "unchanged", "repeated", "foreseen", "refused", "failed"];

pub(super) fn count(metrics: &Metrics, wish: &Wish, reply: &Reply) {
    metrics.commanded(index_of(&Command::NAMES, wish.command.name()), index_of(&OUTCOMES, outcome_name(wish, reply)));
}

fn outcome_name(wish: &Wish, reply: &Reply) -> &'static str {
    match reply {
        Ok(_) if wish.dry_run => "foreseen",
        Ok(outcome) if outcome.repeated => "repeated",
        Ok(outcome) if outcome.changed => "changed",
        Ok(_) => "unchanged",
        Err(CommandError::Refused(_) | CommandError::RefusedBefore { .. } | CommandError::OtherContent) => "refused",
        Err(
            CommandError::Tampered(_)
            | CommandError::OutcomeLost { .. }
            | CommandError::QueueFull
            | CommandError::Stopping
            | CommandError::Fault(_)
            | CommandError::Unknown(_),
        ) => "failed",
    }
}

fn index_of(names: &[&str], name: &str) -> usize {
    names.iter().position(|known| *known == name).unwrap_or(names.len())
}
