//! Says in the log which certificate this node serves with, and makes another when a plan wants it.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use tokio::sync::watch;

use super::{Served, Tls};
use crate::command::{CommandQueue, Wish, mint};
use crate::domain::actor::Author;
use crate::domain::certificate::{CertificateOrigin, CertificateServed};
use crate::domain::command::{Command, Context};
use crate::domain::ids::CommandId;
use crate::domain::key::Digest;
use crate::log::head::Head;
use crate::log::time::timestamp;
use crate::node::Node;

/// After something that failed.
const PAUSE: Duration = Duration::from_secs(2);

/// What it works with.
pub struct Recording {
    tls: Tls,
    /// The name of this node.
    name: Arc<str>,
    node: Arc<Node>,
    queue: CommandQueue,
    /// Where the published Roll ends.
    heads: watch::Receiver<Head>,
    known: Option<Known>,
}

/// What the log says of this node.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Known {
    fingerprint: [u8; 32],
    /// Where it says so. Of two nodes that share a name each goes by its own.
    position: u64,
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Nothing,
    Record,
    Renew,
    /// Only somebody else can.
    AskForFiles,
}

fn next(known: Option<Known>, served: &Served, due: u64) -> Next {
    match known.filter(|known| known.fingerprint == served.fingerprint) {
        None => Next::Record,
        Some(known) if known.position >= due => Next::Nothing,
        Some(_) => match served.origin {
            CertificateOrigin::OwnAuthority => Next::Renew,
            CertificateOrigin::Files => Next::AskForFiles,
        },
    }
}

impl Recording {
    /// Says what is served first, before anybody is served. Where that fails, it is said later.
    pub async fn begin(
        tls: Tls,
        name: Arc<str>,
        node: Arc<Node>,
        queue: CommandQueue,
        heads: watch::Receiver<Head>,
    ) -> Self {
        let mut recording = Self { tls, name, node, queue, heads, known: None };
        recording.known = recording.record(&recording.tls.served()).await;
        recording
    }

    /// Runs until it is dropped.
    pub async fn run(mut self) {
        let mut changes = self.tls.changes();
        let mut asked = 0;
        loop {
            changes.mark_unchanged();
            self.heads.mark_unchanged();
            let served = self.tls.served();
            let due = self.node.snapshot().roll.certificates_due();
            let done = match next(self.known, &served, due) {
                Next::Nothing => None,
                Next::Record => {
                    self.known = self.record(&served).await;
                    Some(self.known.is_some())
                }
                Next::Renew => Some(self.renew().await),
                Next::AskForFiles => {
                    if asked < due {
                        tracing::warn!(
                            position = due,
                            "a plan wants another TLS certificate: put a new one into the files that this node was given"
                        );
                    }
                    asked = due;
                    None
                }
            };
            match done {
                Some(true) => {}
                Some(false) => tokio::time::sleep(PAUSE).await,
                None => tokio::select! {
                    moved = self.heads.changed() => if moved.is_err() { return },
                    moved = changes.changed() => if moved.is_err() { return },
                },
            }
        }
    }

    /// Where the log says so, once it does.
    async fn record(&self, served: &Served) -> Option<Known> {
        let event = CertificateServed {
            node: self.name.clone(),
            fingerprint: Digest(served.fingerprint),
            not_after: timestamp(served.not_after),
            origin: served.origin,
        };
        let wish = Wish {
            id: CommandId::from_uuid(mint::id()),
            fingerprint: None,
            command: Command::ServeCertificate(event.clone()),
            context: Context { now: mint::now(), author: Author::system(), reason: None, incident: None },
            answer: Arc::new(|_, _| serde_json::Value::Null),
            sealed: None,
            dry_run: false,
        };
        match self.queue.submit(wish).await {
            Ok(done) => {
                let roll = &self.node.snapshot().roll;
                let found = roll.certificate(&self.name).filter(|found| found.served == event);
                // Where another of the same name has said something since, ours was no later than what was answered.
                let position = found.map_or(done.position, |found| found.position);
                Some(Known { fingerprint: served.fingerprint, position })
            }
            Err(error) => {
                tracing::warn!(%error, "the TLS certificate of this node could not be recorded yet");
                None
            }
        }
    }

    async fn renew(&self) -> bool {
        let tls = self.tls.clone();
        let renewed = tokio::task::spawn_blocking(move || tls.renew(Utc::now())).await;
        match renewed {
            Ok(Ok(())) => {
                tracing::info!(fingerprint = %self.tls.fingerprint(), "made a new TLS certificate, as a plan wants it");
                true
            }
            Ok(Err(error)) => {
                tracing::error!(%error, "no new TLS certificate could be made; the old one stays");
                false
            }
            Err(error) => {
                tracing::error!(%error, "the making of a TLS certificate broke off");
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_plan_wants_is_made_once_and_by_those_who_can() {
        use CertificateOrigin::{Files, OwnAuthority};
        let known = |fingerprint, position| Some(Known { fingerprint: [fingerprint; 32], position });
        // (what the log has of this node, what it serves with, the newest plan's position, what is next)
        let table = [
            (None, (1, OwnAuthority), 0, Next::Record),
            (known(1, 5), (1, OwnAuthority), 0, Next::Nothing),
            (known(1, 5), (2, Files), 0, Next::Record),
            (known(1, 5), (1, OwnAuthority), 4, Next::Nothing),
            (known(1, 5), (1, OwnAuthority), 6, Next::Renew),
            (known(1, 5), (1, Files), 6, Next::AskForFiles),
            (known(1, 5), (2, OwnAuthority), 6, Next::Record), // it was replaced already
            (known(2, 7), (2, OwnAuthority), 6, Next::Nothing),
        ];
        for (known, (fingerprint, origin), due, expected) in table {
            let served = Served { fingerprint: [fingerprint; 32], not_after: Utc::now(), origin };
            assert_eq!(next(known, &served, due), expected, "{served:?} {due}");
        }
    }
}
