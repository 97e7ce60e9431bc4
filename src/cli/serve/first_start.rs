//! What a new log starts with: signing keys, the pool `default`, and an admin whose token lies in a file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use crate::command::mint::FreshKey;
use crate::command::writer::Running;
use crate::command::{Wish, mint};
use crate::credential::key::{self, KeyKind};
use crate::credential::root_key::DerivedKeys;
use crate::domain::actor::Author;
use crate::domain::command::{Bootstrap, Command, Context};
use crate::domain::decide;
use crate::domain::event::Event;
use crate::domain::ids::{CommandId, EnrollmentSecretId, KeyId, OperatorId, PoolId};
use crate::domain::key::Digest;
use crate::domain::operator::Role;
use crate::domain::pool::DEFAULT_POOL;
use crate::domain::signing_key::SigningAlgorithm;
use crate::secret::write_secret_file;

/// The file with the first admin's token, in the data directory.
const TOKEN_FILE: &str = "admin.token";
const NAME: &str = "bootstrap";
/// What an admin is called that `--new-admin` has made, until somebody renames it.
const NEW_ADMIN: &str = "new-admin";

/// The file with the token of the newest admin that a start has made, for as long as it is left there.
pub(super) fn token_file(data_dir: &Path) -> PathBuf {
    data_dir.join(TOKEN_FILE)
}

/// Makes what is missing. Returns whether an admin was made, whose token is in the [`token_file`].
///
/// The file is written before the command: killed in between, the next start finds no admin and makes another. The other
/// way round, it would find an admin whose token nobody has.
pub(super) async fn bootstrap(running: &Running, keys: &Arc<DerivedKeys>, data_dir: &Path) -> anyhow::Result<bool> {
    let id = KeyId::from_uuid(mint::id());
    let token = key::mint(KeyKind::Operator, id, &mint::entropy());
    let parsed = key::parse(token.expose_secret()).context("a key that was just made is one")?;
    let command = Command::Bootstrap(Bootstrap {
        pool: DEFAULT_POOL.parse().context("the name of the default pool is one")?,
        active: mint::signing_key(keys, SigningAlgorithm::default())?,
        next: mint::signing_key(keys, SigningAlgorithm::default())?,
        operator: OperatorId::from_uuid(mint::id()),
        name: NAME.into(),
        key: id,
        verifier: Digest(*keys.api_key_verifier(&parsed).as_bytes()),
    });
    let context = Context { now: mint::now(), author: Author::system(), reason: Some("start".into()), incident: None };
    let events = decide(&running.node.snapshot().roll, &command, &context)?;
    let makes_admin = events.iter().any(|event| matches!(event, Event::OperatorCreated { .. }));
    if events.is_empty() {
        return Ok(false);
    }
    let file = token_file(data_dir);
    if makes_admin {
        write_secret_file(&file, &token)?;
    }
    let made = submit(running, command, context).await?;
    if makes_admin && !made {
        // Another service on this log was faster: the admin is its, and so is the token.
        std::fs::remove_file(&file).context("cannot remove the token that came too late")?;
    }
    Ok(makes_admin && made)
}

/// `--new-admin`: an admin beside those that there are, whose tokens are lost. Whoever can restart the service and read its
/// data directory needs no other proof. As at the first start, the file is written before the command.
pub(super) async fn new_admin(running: &Running, keys: &DerivedKeys, data_dir: &Path) -> anyhow::Result<()> {
    let FreshKey { id, text, verifier } = mint::api_key(keys, KeyKind::Operator);
    write_secret_file(&token_file(data_dir), &text)?;
    let operator = OperatorId::from_uuid(mint::id());
    let command = Command::CreateOperator {
        operator,
        name: NEW_ADMIN.into(),
        role: Role::Admin,
        key: id,
        verifier,
        expires_at: None,
    };
    let context =
        Context { now: mint::now(), author: Author::system(), reason: Some("--new-admin".into()), incident: None };
    submit(running, command, context).await?;
    tracing::warn!(%operator, "--new-admin has made an admin; leave the option out of the next start");
    Ok(())
}

/// `PORTCULLIS_AUTO_ENROLLMENT_KEY`: an enrollment secret for the pool `default`. A value that is known already, even a
/// disabled one, is left as it is.
pub(super) async fn ensure_enrollment_secret(
    running: &Running,
    keys: &DerivedKeys,
    secret: &SecretString,
) -> anyhow::Result<()> {
    let pool: PoolId = DEFAULT_POOL.parse().context("the name of the default pool is one")?;
    let verifier = Digest(*keys.enrollment_verifier(secret.expose_secret()).as_bytes());
    let secret = EnrollmentSecretId::from_uuid(mint::id());
    let context = Context {
        now: mint::now(),
        author: Author::system(),
        reason: Some("PORTCULLIS_AUTO_ENROLLMENT_KEY".into()),
        incident: None,
    };
    if submit(running, Command::EnsureEnrollmentSecret { secret, pool, verifier }, context).await? {
        tracing::info!(%secret, pool = DEFAULT_POOL, "auto-enrollment is on");
    }
    Ok(())
}

/// Whether it changed anything.
async fn submit(running: &Running, command: Command, context: Context) -> anyhow::Result<bool> {
    let wish = Wish {
        id: CommandId::from_uuid(mint::id()),
        fingerprint: None,
        command,
        context,
        answer: Arc::new(|_, _| Value::Null),
        sealed: None,
        dry_run: false,
    };
    // Whether *this* command made the admin shows in whether it changed anything: commands are decided one by one.
    Ok(running.queue.submit(wish).await?.changed)
}
