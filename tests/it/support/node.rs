//! A node without its HTTP: the writer and the published Roll in this process, on a database of the test's own.

use std::sync::Arc;
use std::time::Duration;

use portcullis::command::writer::{self, Running, StartError};
use portcullis::command::{CommandError, Outcome, Wish, mint};
use portcullis::credential::key::{self, KeyKind};
use portcullis::credential::root_key::{DerivedKeys, RootKey};
use portcullis::credential::signing_key::{self, Signer};
use portcullis::domain::actor::Author;
use portcullis::domain::admit::Denial;
use portcullis::domain::command::{Bootstrap, Command, Context, CreateKey, CreateWorker};
use portcullis::domain::event::KeyHolder;
use portcullis::domain::ids::{CommandId, KeyId, OperatorId, SigningKeyId, WorkerId};
use portcullis::domain::key::Digest;
use portcullis::domain::signing_key::{NewSigningKey, SigningAlgorithm};
use portcullis::domain::worker::Labels;
use portcullis::log::seen::Seen;
use portcullis::node::presence::Identity;
use portcullis::node::snapshot::Snapshots;
use portcullis::postgres::Database;
use portcullis::telemetry::metrics::Vocabulary;
use secrecy::{ExposeSecret, SecretString};

/// The root key of all tests that do not say otherwise.
pub(crate) fn keys() -> Arc<DerivedKeys> {
    RootKey::from_bytes([7; 32]).derive()
}

pub(crate) struct TestNode {
    pub(crate) running: Running,
    pub(crate) keys: Arc<DerivedKeys>,
}

impl TestNode {
    pub(crate) async fn start(database: Database) -> Self {
        Self::try_start(database, keys()).await.unwrap()
    }

    pub(crate) async fn try_start(database: Database, keys: Arc<DerivedKeys>) -> Result<Self, StartError> {
        Self::start_with(database, keys, Duration::from_secs(5), None).await
    }

    pub(crate) async fn start_with(
        database: Database,
        keys: Arc<DerivedKeys>,
        max_stale: Duration,
        seen: Option<Seen>,
    ) -> Result<Self, StartError> {
        Self::start_from(database, keys, max_stale, seen, None).await
    }

    pub(crate) async fn start_from(
        database: Database,
        keys: Arc<DerivedKeys>,
        max_stale: Duration,
        seen: Option<Seen>,
        snapshots: Option<Snapshots>,
    ) -> Result<Self, StartError> {
        let telemetry = portcullis::telemetry::Telemetry::without_exporters().unwrap();
        let metrics = telemetry
            .metrics(&Vocabulary {
                routes: &[],
                validation_outcomes: &["ok"],
                commands: &Command::NAMES,
                command_outcomes: &writer::OUTCOMES,
                auth_failure_reasons: &Denial::ALL.map(Denial::code),
            })
            .unwrap();
        let identity = Identity::new("test".to_owned(), "http://127.0.0.1".to_owned());
        let metrics = Arc::new(metrics);
        let start = writer::Start {
            database,
            metrics,
            identity,
            max_stale,
            queue_length: 1_024,
            seen,
            snapshots,
            mirror: None,
        };
        // On the heap: a start holds several states at once.
        Ok(Self { running: Box::pin(writer::start(start, keys.clone())).await?, keys })
    }

    /// As the service itself, which may wish anything.
    pub(crate) async fn submit(&self, command: Command) -> Result<Outcome, CommandError> {
        self.running.queue.submit(wish(CommandId::from_uuid(mint::id()), None, command)).await
    }

    pub(crate) async fn bootstrap(&self) {
        self.submit(bootstrap(&self.keys)).await.unwrap();
    }

    /// A worker of the pool `default`, with a key.
    pub(crate) async fn worker(&self, id: &str) -> (WorkerId, KeyId, SecretString) {
        let worker: WorkerId = id.parse().unwrap();
        self.submit(create_worker(&worker)).await.unwrap();
        let (key, text, create) = create_key(&self.keys, &worker);
        self.submit(create).await.unwrap();
        (worker, key, text)
    }

    pub(crate) async fn stop(self) {
        self.running.stop();
        self.running.task.await.unwrap();
    }
}

pub(crate) fn wish(id: CommandId, fingerprint: Option<[u8; 32]>, command: Command) -> Wish {
    Wish {
        id,
        fingerprint,
        command,
        context: Context { now: mint::now(), author: Author::system(), reason: None, incident: None },
        answer: Arc::new(|_, done| serde_json::json!({ "events": done.events.len() })),
        sealed: None,
        dry_run: false,
    }
}

pub(crate) fn create_worker(worker: &WorkerId) -> Command {
    Command::CreateWorker(CreateWorker {
        worker: worker.clone(),
        pool: "default".parse().unwrap(),
        name: None,
        labels: Labels::new(),
        expires_at: None,
        pending: false,
        static_secret: None,
    })
}

pub(crate) fn create_key(keys: &DerivedKeys, worker: &WorkerId) -> (KeyId, SecretString, Command) {
    let id = KeyId::from_uuid(mint::id());
    let text = key::mint(KeyKind::Worker, id, &mint::entropy());
    let verifier = Digest(*keys.api_key_verifier(&key::parse(text.expose_secret()).unwrap()).as_bytes());
    let create = Command::CreateKey(CreateKey {
        key: id,
        holder: KeyHolder::Worker(worker.clone()),
        kind: portcullis::domain::key::KeyKind::Api,
        verifier,
        expires_at: None,
    });
    (id, text, create)
}

pub(crate) fn bootstrap(keys: &DerivedKeys) -> Command {
    let id = KeyId::from_uuid(mint::id());
    Command::Bootstrap(Bootstrap {
        pool: "default".parse().unwrap(),
        active: signing_key(keys),
        next: signing_key(keys),
        operator: OperatorId::from_uuid(mint::id()),
        name: "bootstrap".into(),
        key: id,
        verifier: Digest([1; 32]),
    })
}

fn signing_key(keys: &DerivedKeys) -> NewSigningKey {
    let id = SigningKeyId::from_uuid(mint::id());
    let private = signing_key::generate(SigningAlgorithm::EdDsa).unwrap();
    let signer = Signer::new(id, SigningAlgorithm::EdDsa, &private).unwrap();
    NewSigningKey {
        id,
        algorithm: SigningAlgorithm::EdDsa,
        public_jwk: serde_json::to_string(&signer.jwk()).unwrap().into(),
        sealed: keys.seal_signing_key(id, &private).into(),
    }
}
