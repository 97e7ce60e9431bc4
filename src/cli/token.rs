//! `portcullis token`: short-lived access tokens. A worker gets, renews and revokes its own; an operator looks at one.

use std::path::PathBuf;

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

use super::client::{Answer, Auth, Call, exposed, given};
use super::dry_run::DryRun;
use super::failure::Failure;
use super::output::{self, Column, Format};
use super::secret_source::SecretSource;
use super::session::Session;
use super::time::span;
use super::worker::own::Me;
use crate::secret::write_secret_file;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// As a worker: get an access token for an API key, or for an id with a static secret.
    #[command(after_help = "Examples:\n  TOKEN=$(PORTCULLIS_WORKER_API_KEY=\"$KEY\" portcullis token register)\n  \
                            portcullis token register --api-key-file builder-7.key --out token\n  \
                            portcullis token register --worker sensor-3 --api-key-file static-secret.txt")]
    Register {
        #[command(flatten)]
        me: Me,
        /// A shorter life than the pool's.
        #[arg(long, value_name = "DURATION", value_parser = span)]
        ttl: Option<String>,
        /// Only these of the pool's scopes; may be repeated.
        #[arg(long, value_name = "SCOPE")]
        scope: Vec<String>,
        #[command(flatten)]
        out: Out,
        #[command(flatten)]
        dry: DryRun,
    },
    /// As a worker: get a new access token for one that is still good.
    #[command(after_help = "Example:\n  portcullis token renew --access-token-file token --out token")]
    Renew {
        #[command(flatten)]
        held: Held,
        #[command(flatten)]
        out: Out,
        #[command(flatten)]
        dry: DryRun,
    },
    /// Revoke a token, with what was renewed from it: as the worker whose it is, or as an operator.
    #[command(after_help = "Examples:\n  portcullis token revoke --access-token-file token\n  \
                            portcullis token revoke --access-token-file token --api-key-file builder-7.key")]
    Revoke {
        #[command(flatten)]
        held: Held,
        /// As the worker that holds this key. Default: as the operator.
        #[command(flatten)]
        me: Me,
        #[command(flatten)]
        dry: DryRun,
    },
    /// As an operator or a gateway: say what a token is (RFC 7662).
    #[command(after_help = "Example:\n  portcullis token introspect --access-token-file token")]
    Introspect {
        #[command(flatten)]
        held: Held,
    },
}

/// The token in hand.
#[derive(Debug, clap::Args)]
pub(crate) struct Held {
    /// The file with the access token; `-` is standard input, PORTCULLIS_ACCESS_TOKEN may hold it.
    #[arg(long, value_name = "FILE")]
    access_token_file: Option<PathBuf>,
}

/// Where the new token goes.
#[derive(Debug, clap::Args)]
pub(crate) struct Out {
    /// Put the token into this file, for its owner alone, replacing an older one whole. Default: standard output.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

const COLUMNS: &[Column] =
    &[("worker", "worker"), ("pool", "pool"), ("scope", "scope"), ("expires", "expires_at"), ("file", "token_file")];

const INTROSPECTION_COLUMNS: &[Column] = &[
    ("active", "active"),
    ("worker", "sub"),
    ("pool", "pool"),
    ("scope", "scope"),
    ("audience", "aud"),
    ("issuer", "iss"),
    ("id", "jti"),
];

pub(crate) async fn run(verb: Verb, session: &Session) -> Result<(), Failure> {
    match verb {
        Verb::Register { me, ttl, scope, out, dry } => {
            let scope = if scope.is_empty() { Value::Null } else { json!(scope.join(" ")) };
            let mut body = given([("ttl", json!(ttl)), ("scope", scope)]);
            let call = Call::post(&["v1", "register"]);
            let call = match (me.credential(session)?, me.worker()) {
                (secret, Some(worker)) => {
                    body["worker"] = Value::from(worker);
                    body["secret"] = exposed(Some(&secret));
                    call.auth(Auth::Nobody)
                }
                (secret, None) => call.auth(Auth::Bearer(secret)),
            };
            out.issue(session, call.json(body), dry).await
        }
        Verb::Renew { held, out, dry } => {
            let call = Call::post(&["v1", "renew"]).auth(Auth::Bearer(held.token(session)?)).json(json!({}));
            out.issue(session, call, dry).await
        }
        Verb::Revoke { held, me, dry } => {
            let token = held.token(session)?;
            let call = Call::post(&["oauth2", "revoke"]).form(vec![("token", token)]);
            let call = call.auth(match me.found(session)? {
                Some(secret) => me.basic(secret)?,
                None => Auth::Bearer(session.operator_token()?),
            });
            if dry.is_asked() {
                session.screen.note("Where nothing would be recorded, it is no good token, or is revoked already.");
                return session.foresee_as(call).await;
            }
            session.client().send(&call).await?;
            session.screen.note("Revoked, with what was renewed from it. If it was no good token, nothing changed.");
            match session.screen.format {
                // The service says no more (RFC 7009).
                Format::Json => output::json(&json!({ "accepted": true })),
                Format::Table => Ok(()),
            }
        }
        Verb::Introspect { held } => {
            let token = held.token(session)?;
            let call = Call::post(&["oauth2", "introspect"]).form(vec![("token", token)]);
            let found = session.read(call).await?;
            session.screen.object(INTROSPECTION_COLUMNS, &found)
        }
    }
}

impl Held {
    fn token(&self, session: &Session) -> Result<SecretString, Failure> {
        let source = SecretSource {
            what: "the access token",
            option: "--access-token-file",
            file: self.access_token_file.as_deref(),
            variable: "PORTCULLIS_ACCESS_TOKEN",
        };
        source.need_or_stdin(session.screen)
    }
}

impl Out {
    async fn issue(&self, session: &Session, call: Call, dry: DryRun) -> Result<(), Failure> {
        if dry.is_asked() {
            return session.foresee_as(call).await;
        }
        self.deliver(session, session.client().send(&call).await?)
    }

    fn deliver(&self, session: &Session, mut answer: Answer) -> Result<(), Failure> {
        let screen = session.screen;
        let Some(Value::String(token)) = answer.body.get("token").cloned() else {
            return Err(Failure::Fault(anyhow::anyhow!("the service answered without a `token`")));
        };
        let token = SecretString::from(token);
        match &self.out {
            Some(path) => {
                let doing = format!("the token was issued, and could not be written to {}", path.display());
                write_secret_file(path, &token).map_err(|error| Failure::fault(doing, error))?;
                if let Value::Object(fields) = &mut answer.body {
                    fields.remove("token");
                    fields.insert("token_file".to_owned(), Value::from(path.display().to_string()));
                }
                screen.object(COLUMNS, &answer.body)
            }
            None if screen.format == Format::Json => output::json(&answer.body),
            None => {
                screen.object_aside(COLUMNS, &answer.body);
                output::line(token.expose_secret())
            }
        }
    }
}
