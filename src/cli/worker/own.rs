//! What a worker does for itself, with the credential that it holds. No operator is needed.

use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

use super::COLUMNS;
use super::{label, labels};
use crate::cli::client::{Answer, Auth, Call, exposed, given};
use crate::cli::dry_run::DryRun;
use crate::cli::failure::Failure;
use crate::cli::handover::KeyFile;
use crate::cli::output::{Column, Screen};
use crate::cli::secret_source::SecretSource;
use crate::cli::session::Session;
use crate::cli::time::span;
use crate::secret::write_secret_file;

/// The worker that this machine is, and what it proves that by.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "The worker")]
pub(crate) struct Me {
    /// The worker's id: needed with a static secret, and with a key that several workers share.
    #[arg(long, env = "PORTCULLIS_WORKER_ID", value_name = "ID")]
    worker: Option<String>,
    /// The file with its API key or static secret; `-` is standard input, PORTCULLIS_WORKER_API_KEY may hold it.
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    PORTCULLIS_AUTO_ENROLLMENT_KEY=\"$SECRET\" portcullis worker enroll --name \"$(hostname)\" --key-file worker.key\n  \
    portcullis worker enroll --enrollment-secret-file en.key --idempotency-key \"$(cat /etc/machine-id)-$RANDOM\"")]
pub(crate) struct Enroll {
    /// The file with the enrollment secret; `-` is standard input, PORTCULLIS_AUTO_ENROLLMENT_KEY may hold it.
    #[arg(long, value_name = "FILE")]
    enrollment_secret_file: Option<PathBuf>,
    /// A name for people; the id is the service's to give.
    #[arg(long, env = "PORTCULLIS_WORKER_NAME")]
    name: Option<String>,
    /// A label; may be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    label: Vec<(String, String)>,
    #[command(flatten)]
    key_file: KeyFile,
    #[command(flatten)]
    dry: DryRun,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  portcullis worker whoami --api-key-file worker.key")]
pub(crate) struct Whoami {
    #[command(flatten)]
    me: Me,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  portcullis worker rotate-key --api-key-file worker.key --in-place\n  \
                        portcullis worker rotate-key --api-key-file worker.key --key-file new.key --overlap 1h")]
pub(crate) struct RotateKey {
    #[command(flatten)]
    me: Me,
    /// How long the old key stays good. 0s is now.
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = span)]
    overlap: String,
    /// The file with the new static secret, where the old one is a static secret.
    #[arg(long, value_name = "FILE")]
    static_secret_file: Option<PathBuf>,
    /// Put the new key into the file of the old one, whole or not at all.
    #[arg(long, requires = "api_key_file", conflicts_with_all = ["key_file", "static_secret_file"])]
    in_place: bool,
    #[command(flatten)]
    key_file: KeyFile,
    #[command(flatten)]
    dry: DryRun,
}

const ENROLLED_COLUMNS: &[Column] =
    &[("worker", "id"), ("pool", "pool"), ("state", "state"), ("key", "key_id"), ("key file", "key_file")];

const ROTATED_COLUMNS: &[Column] = &[("key", "id"), ("old key good until", "overlap_until"), ("key file", "key_file")];

impl Me {
    pub(crate) fn worker(&self) -> Option<&str> {
        self.worker.as_deref()
    }

    pub(crate) fn credential(&self, session: &Session) -> Result<SecretString, Failure> {
        self.source().need(session.screen)
    }

    pub(crate) fn found(&self, session: &Session) -> Result<Option<SecretString>, Failure> {
        self.source().find(session.screen)
    }

    fn source(&self) -> SecretSource<'_> {
        SecretSource {
            what: "the worker's API key",
            option: "--api-key-file",
            file: self.api_key_file.as_deref(),
            variable: "PORTCULLIS_WORKER_API_KEY",
        }
    }

    /// Authentication of an OAuth client, which is always by id and secret.
    pub(crate) fn basic(&self, secret: SecretString) -> Result<Auth, Failure> {
        match &self.worker {
            Some(id) => Ok(Auth::Basic { id: id.clone(), secret }),
            None => Err(Failure::Usage("name the worker with `--worker` (PORTCULLIS_WORKER_ID)".to_owned())),
        }
    }

    /// A key of ours says whose it is; with a static secret the id has to be said.
    fn auth(&self, secret: SecretString) -> Auth {
        match &self.worker {
            Some(id) if !secret.expose_secret().starts_with("ptc_") => Auth::Basic { id: id.clone(), secret },
            Some(_) | None => Auth::Bearer(secret),
        }
    }
}

impl Enroll {
    pub(crate) async fn run(self, session: &Session) -> Result<(), Failure> {
        let source = SecretSource {
            what: "the enrollment secret",
            option: "--enrollment-secret-file",
            file: self.enrollment_secret_file.as_deref(),
            variable: "PORTCULLIS_AUTO_ENROLLMENT_KEY",
        };
        let secret = source.need(session.screen)?;
        let body = given([("name", json!(self.name)), ("labels", labels(self.label)?)]);
        let destination = self.key_file.reserve(self.dry)?;
        let call = Call::post(&["v1", "enroll"]).auth(Auth::Bearer(secret)).json(body);
        if self.dry.is_asked() {
            return session.foresee_as(call).await;
        }
        let answer = session.change_as(call).await?;
        let id = answer.body["id"].as_str().unwrap_or_default();
        session.done(&format!("Enrolled as worker {id}"), &answer);
        if answer.body["state"] == "pending" {
            session.screen.warn("the key is good once an operator has approved this worker");
        } else {
            session.screen.note("Next: `portcullis token register`, with the key in PORTCULLIS_WORKER_API_KEY.");
        }
        destination.deliver(session.screen, ENROLLED_COLUMNS, answer, "key")
    }
}

impl Whoami {
    pub(crate) async fn run(self, session: &Session) -> Result<(), Failure> {
        let auth = self.me.auth(self.me.credential(session)?);
        let answer = session.client().send(&Call::get(&["v1", "worker"]).auth(auth)).await?;
        session.screen.object(COLUMNS, &answer.body)
    }
}

impl RotateKey {
    pub(crate) async fn run(self, session: &Session) -> Result<(), Failure> {
        if self.in_place && self.me.api_key_file.as_deref() == Some(Path::new("-")) {
            return Err(Failure::Usage("`--in-place` needs a file, and standard input is none".to_owned()));
        }
        let secret = self.me.credential(session)?;
        let chosen = SecretSource {
            what: "the new static secret",
            option: "--static-secret-file",
            file: self.static_secret_file.as_deref(),
            variable: "PORTCULLIS_STATIC_SECRET",
        };
        let body = given([
            ("overlap", json!(self.overlap)),
            ("static_secret", exposed(chosen.find(session.screen)?.as_ref())),
        ]);
        let destination = self.key_file.reserve(self.dry)?;
        let call = Call::post(&["v1", "worker", "key", "rotate"]).auth(self.me.auth(secret)).json(body);
        if self.dry.is_asked() {
            return session.foresee_as(call).await;
        }
        let answer = session.change_as(call).await?;
        session.done("Rotated the key", &answer);
        match self.me.api_key_file.as_deref().filter(|_| self.in_place) {
            Some(path) => replace(session.screen, path, answer),
            None => destination.deliver(session.screen, ROTATED_COLUMNS, answer, "key"),
        }
    }
}

fn replace(screen: Screen, path: &Path, mut answer: Answer) -> Result<(), Failure> {
    let Some(Value::String(key)) = answer.body["key"].as_str().map(Value::from) else {
        return Err(Failure::Fault(anyhow::anyhow!("the service answered without a `key`")));
    };
    let again = answer.idempotency_key.as_deref().unwrap_or_default();
    let doing = format!(
        "the key was rotated, and {} could not be replaced; to get it again, within a day, repeat the command with \
         `--idempotency-key {again}` and `--key-file`",
        path.display()
    );
    write_secret_file(path, &SecretString::from(key)).map_err(|error| Failure::fault(doing, error))?;
    if let Value::Object(fields) = &mut answer.body {
        fields.remove("key");
        fields.insert("key_file".to_owned(), Value::from(path.display().to_string()));
    }
    screen.object(ROTATED_COLUMNS, &answer.body)
}
