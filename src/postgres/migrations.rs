//! Brings the schema of a database up to what this binary knows, and refuses a database that knows more.
//!
//! refinery keeps the history and runs each file in a transaction. It takes no lock and has no opinion on a database
//! that is ahead of it, so both are done here.

use refinery::{Migration, Runner};
use tokio_postgres::Client;

use super::{ConnectError, SERVICE_ROLE, chain};

/// Every migration, oldest first. Named one by one, and not found by a macro: a file added beside these makes the test
/// below fail until it is named too, while cargo would not even notice that there is something new to build.
const FILES: &[(&str, &str)] = &[
    ("V1__log", include_str!("../../migrations/V1__log.sql")),
    ("V2__nodes", include_str!("../../migrations/V2__nodes.sql")),
    ("V3__projections", include_str!("../../migrations/V3__projections.sql")),
    ("V4__incidents", include_str!("../../migrations/V4__incidents.sql")),
    ("V5__key_sources", include_str!("../../migrations/V5__key_sources.sql")),
];

/// The advisory lock under which a database is migrated: "portcull" in ASCII, so that `pg_locks` can be read.
const LOCK: i64 = i64::from_be_bytes(*b"portcull");

/// What a migration did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The schema's version now.
    pub version: i32,
    /// What was applied, oldest first; empty when nothing was missing.
    pub applied: Vec<String>,
}

/// Why a database was not migrated.
#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    #[error(
        "the database has schema version {database}, and this binary knows only up to {binary}: \
         start a newer portcullis, or restore a backup from before the upgrade"
    )]
    DatabaseIsNewer { database: i32, binary: i32 },
    #[error("cannot connect as the owner of the database: {0}")]
    Connect(#[from] ConnectError),
    #[error("cannot read how far the database is migrated: {}", chain(.0))]
    History(#[source] tokio_postgres::Error),
    #[error("a migration failed, and was rolled back: {}", chain(.0))]
    Failed(#[source] Box<refinery::Error>),
    #[error(
        "{login} may not serve: let a superuser say `grant {SERVICE_ROLE} to {login}`. The owner cannot: {}",
        chain(.source)
    )]
    Membership { login: String, source: tokio_postgres::Error },
}

/// Applies what is missing, and lets `login` serve. `client` is a connection of the owner; the lock ends with it, however
/// it ends.
pub(super) async fn run(mut client: Client, login: Option<&str>) -> Result<Report, MigrationError> {
    client.execute("select pg_advisory_lock($1)", &[&LOCK]).await.map_err(MigrationError::History)?;
    let known = known();
    let runner = Runner::new(&known);
    let binary = known.last().map_or(0, Migration::version);
    let applied = applied(&runner, &mut client).await?;
    let database = applied.last().map_or(0, Migration::version);
    if database > binary {
        return Err(MigrationError::DatabaseIsNewer { database, binary });
    }
    let mut report = Report { version: binary, applied: Vec::new() };
    // refinery would create its history table even so, which a login that only serves has no right to.
    if applied != known {
        let done = runner.run_async(&mut client).await.map_err(|error| MigrationError::Failed(Box::new(error)))?;
        report.applied = done.applied_migrations().iter().map(ToString::to_string).collect();
    }
    if let Some(login) = login {
        admit(&client, login).await.map_err(|source| MigrationError::Membership { login: login.into(), source })?;
    }
    Ok(report)
}

/// Makes `login` a member of the service's role. The role is made by a migration, so nobody could have done it before.
async fn admit(client: &Client, login: &str) -> Result<(), tokio_postgres::Error> {
    let statement = client
        .query_one(include_str!("membership.sql"), &[&login, &SERVICE_ROLE])
        .await?
        .get::<_, Option<String>>("grant_statement");
    match statement {
        Some(statement) => client.batch_execute(&statement).await,
        None => Ok(()),
    }
}

fn known() -> Vec<Migration> {
    FILES
        .iter()
        .map(|(name, sql)| Migration::unapplied(name, sql).expect("the names in FILES are in refinery's form"))
        .collect()
}

async fn applied(runner: &Runner, client: &mut Client) -> Result<Vec<Migration>, MigrationError> {
    let history = client
        .query_one("select to_regclass('public.refinery_schema_history') is not null", &[])
        .await
        .map_err(MigrationError::History)?;
    if !history.get::<_, bool>(0) {
        return Ok(Vec::new());
    }
    runner.get_applied_migrations_async(client).await.map_err(|error| MigrationError::Failed(Box::new(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_named_in_order() {
        let mut on_disk: Vec<String> = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations"))
            .expect("the folder of migrations")
            .map(|file| file.expect("a file").file_name().into_string().expect("an ASCII name"))
            .collect();
        on_disk.sort();
        let named: Vec<String> = FILES.iter().map(|(name, _)| format!("{name}.sql")).collect();
        let mut sorted = named.clone();
        sorted.sort();
        assert_eq!(sorted, on_disk);
        let versions: Vec<i32> = known().iter().map(Migration::version).collect();
        assert_eq!(versions, (1..=i32::try_from(FILES.len()).expect("few")).collect::<Vec<_>>());
    }
}
