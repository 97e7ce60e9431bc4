//! A fleet as its events: workers with keys, made as the service makes them and as fast as a log can take them.

use std::net::IpAddr;
use std::sync::Arc;

use portcullis::command::mint;
use portcullis::credential::key::{self, KeyKind};
use portcullis::credential::root_key::DerivedKeys;
use portcullis::credential::signing_key::{self, Signer};
use portcullis::domain::actor::{Actor, Author, CredentialUsed};
use portcullis::domain::command::{Bootstrap, Command, Context};
use portcullis::domain::decide;
use portcullis::domain::event::{Event, KeyCreated, KeyHolder, Recorded, WorkerCreated};
use portcullis::domain::ids::{CommandId, KeyId, OperatorId, SigningKeyId, WorkerId};
use portcullis::domain::key::Digest;
use portcullis::domain::roll::Roll;
use portcullis::domain::signing_key::{NewSigningKey, SigningAlgorithm};
use portcullis::domain::time::Timestamp;
use portcullis::domain::worker::Labels;
use secrecy::{ExposeSecret, SecretString};

/// Makes the events of a log from its first position on.
pub(crate) struct Fleet {
    pub(crate) keys: Arc<DerivedKeys>,
    pub(crate) operator: OperatorId,
    operator_key: KeyId,
    /// The bootstrap operator's token.
    pub(crate) operator_token: SecretString,
    pub(crate) next_position: u64,
    pub(crate) recorded_at: Timestamp,
}

impl Fleet {
    pub(crate) fn new(keys: Arc<DerivedKeys>) -> Self {
        let (operator, operator_key) = (OperatorId::from_uuid(mint::id()), KeyId::from_uuid(mint::id()));
        let operator_token = key::mint(KeyKind::Operator, operator_key, &mint::entropy());
        Self { keys, operator, operator_key, operator_token, next_position: 0, recorded_at: mint::now() }
    }

    /// What the first start writes.
    pub(crate) fn bootstrap(&mut self) -> anyhow::Result<Vec<Recorded>> {
        let command = Command::Bootstrap(Bootstrap {
            pool: "default".parse()?,
            active: self.signing_key()?,
            next: self.signing_key()?,
            operator: self.operator,
            name: "bootstrap".into(),
            key: self.operator_key,
            verifier: self.verifier(&self.operator_token)?,
        });
        let context = Context { now: mint::now(), author: Author::system(), reason: None, incident: None };
        let events = decide(&Roll::default(), &command, &context).map_err(|refusal| anyhow::anyhow!("{refusal}"))?;
        Ok(events.into_iter().map(|event| self.record(Author::system(), event)).collect())
    }

    /// A worker of the pool `default`, as an inventory would name it.
    pub(crate) fn worker(&mut self, number: usize) -> anyhow::Result<Recorded> {
        let created = WorkerCreated {
            worker: worker_id(number)?,
            pool: "default".parse()?,
            name: None,
            labels: Labels::new(),
            expires_at: None,
            pending: false,
            enrolled_by: None,
        };
        Ok(self.record(self.author(), Event::WorkerCreated(created)))
    }

    /// A key of that worker, and what the worker would present.
    pub(crate) fn key(&mut self, number: usize) -> anyhow::Result<(Recorded, SecretString)> {
        let id = KeyId::from_uuid(mint::id());
        let text = key::mint(KeyKind::Worker, id, &mint::entropy());
        let created = KeyCreated {
            key: id,
            holder: KeyHolder::Worker(worker_id(number)?),
            kind: portcullis::domain::key::KeyKind::Api,
            verifier: self.verifier(&text)?,
            expires_at: None,
        };
        Ok((self.record(self.author(), Event::KeyCreated(created)), text))
    }

    /// The operator, as a request over HTTP would bring it.
    pub(crate) fn author(&self) -> Author {
        Author {
            actor: Actor::Operator(self.operator),
            credential: Some(CredentialUsed::Key(self.operator_key)),
            source: Some(IpAddr::from([10, 20, 30, 40])),
            request_id: Some("01JD3W6ZK2Q8V5N9R4T7X1M0BC".into()),
        }
    }

    pub(crate) fn record(&mut self, author: Author, event: Event) -> Recorded {
        let position = self.next_position;
        self.next_position += 1;
        self.recorded_at = mint::now().max(Timestamp(self.recorded_at.0 + 1));
        Recorded {
            position,
            recorded_at: self.recorded_at,
            occurred_at: self.recorded_at,
            author,
            command: CommandId::from_uuid(mint::id()),
            cause: None,
            incident: None,
            reason: None,
            event,
        }
    }

    fn verifier(&self, text: &SecretString) -> anyhow::Result<Digest> {
        Ok(Digest(*self.keys.api_key_verifier(&key::parse(text.expose_secret())?).as_bytes()))
    }

    fn signing_key(&self) -> anyhow::Result<NewSigningKey> {
        let id = SigningKeyId::from_uuid(mint::id());
        let private = signing_key::generate(SigningAlgorithm::EdDsa)?;
        let signer = Signer::new(id, SigningAlgorithm::EdDsa, &private)?;
        Ok(NewSigningKey {
            id,
            algorithm: SigningAlgorithm::EdDsa,
            public_jwk: serde_json::to_string(&signer.jwk())?.into(),
            sealed: self.keys.seal_signing_key(id, &private).into(),
        })
    }
}

pub(crate) fn worker_id(number: usize) -> anyhow::Result<WorkerId> {
    Ok(format!("runner-{number:07}.eu-west").parse()?)
}
