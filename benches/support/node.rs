//! A node in this process, as `portcullis serve` starts it.

use std::sync::Arc;

use portcullis::command::writer::{self, Running};
use portcullis::credential::root_key::DerivedKeys;
use portcullis::domain::admit::Denial;
use portcullis::domain::command::Command;
use portcullis::node::MAX_STALE_DEFAULT;
use portcullis::node::presence::Identity;
use portcullis::postgres::Database;
use portcullis::telemetry::metrics::Vocabulary;
use portcullis::telemetry::{Metrics, Telemetry};

/// What the service has unless it is told otherwise.
const QUEUE_LENGTH: usize = 4_096;

pub(crate) async fn start(
    database: Database,
    metrics: Arc<Metrics>,
    keys: Arc<DerivedKeys>,
) -> anyhow::Result<Running> {
    let identity = Identity::new("bench".to_owned(), "http://127.0.0.1".to_owned());
    let (max_stale, queue_length) = (MAX_STALE_DEFAULT, QUEUE_LENGTH);
    let start = writer::Start {
        database,
        metrics,
        identity,
        max_stale,
        queue_length,
        seen: None,
        snapshots: None,
        mirror: None,
    };
    Ok(writer::start(start, keys).await?)
}

pub(crate) fn metrics(telemetry: &Telemetry, routes: &[&'static str]) -> anyhow::Result<Arc<Metrics>> {
    let denials = Denial::ALL.map(Denial::code);
    let outcomes: Vec<&'static str> = ["ok"].into_iter().chain(denials).collect();
    Ok(Arc::new(telemetry.metrics(&Vocabulary {
        routes,
        validation_outcomes: &outcomes,
        commands: &Command::NAMES,
        command_outcomes: &writer::OUTCOMES,
        auth_failure_reasons: &denials,
    })?))
}
