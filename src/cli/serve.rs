//! `portcullis serve`: puts the parts together, in the order in which each needs the one before, and takes them apart.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::command::CommandQueue;
use crate::command::in_force::InForce;
use crate::command::issued::IssuedCounts;
use crate::command::plans::Plans;
use crate::command::tripped::{Recording, Tripwires};
use crate::command::writer::{self, Running};
use crate::config::{DatabaseSource, ServeArgs, Settings, Surroundings, TlsSource};
use crate::credential::root_key::{DerivedKeys, RootKey};
use crate::domain::admit::Denial;
use crate::domain::command::Command;
use crate::http::attempts::Attempts;
use crate::http::listen::{ListenOptions, Listener};
use crate::http::tls::Tls;
use crate::http::tls::recording::Recording as CertificateRecording;
use crate::http::{App, HttpSettings, Parts, route_paths, service, validate};
use crate::incident::checklists::{self, Checklists};
use crate::log::head::{Head, check_root_key};
use crate::log::seen::Seen;
use crate::node::Node;
use crate::node::barrier::Barriers;
use crate::node::presence::{self, Identity};
use crate::postgres::embedded::{self, Cluster, Lock};
use crate::postgres::{Database, Options};
use crate::projection::used::KeysUsed;
use crate::telemetry::metrics::{RollSize, Vocabulary};
use crate::telemetry::{self, Metrics, Telemetry};
use crate::turns;
use crate::webhook::deliver;
use crate::webhook::target::Sender;
use counting::Counting;
use mirroring::Mirroring;
use projecting::Projecting;
use remembering::Remembering;

/// A database that is gone must not keep the service from stopping.
const LEAVE_PATIENCE: Duration = Duration::from_secs(2);

mod counting;
mod first_start;
mod mirroring;
mod preflight;
mod projecting;
mod remembering;
mod seen;

/// Runs the service until it is told to stop.
pub fn run(args: ServeArgs) -> anyhow::Result<()> {
    let settings = Settings::new(args, &Surroundings::of_process())?;
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime =
        runtime.enable_all().on_thread_start(turns::answer_soon).build().context("cannot start the runtime")?;
    // As a task, and not on this thread, which a reader of the log would be switched to for every eight KiB of rows.
    runtime.block_on(runtime.spawn(serve(settings))).context("the service failed")?
}

async fn serve(settings: Settings) -> anyhow::Result<()> {
    let telemetry = Arc::new(telemetry::init(&settings.telemetry)?);
    let result = serve_observed(&settings, &telemetry).await;
    // However it ended: what is held back of a start that failed says why, and is sent too.
    if let Some(telemetry) = Arc::into_inner(telemetry) {
        telemetry.shutdown().await;
    }
    result
}

async fn serve_observed(settings: &Settings, telemetry: &Arc<Telemetry>) -> anyhow::Result<()> {
    // Whoever starts a second service by mistake is told that there is a first, and not that its port is taken.
    let lock = embedded::lock(&settings.data_dir)?;
    preflight::check(settings)?;
    let checklists = Checklists::load(settings.incident_templates.as_deref())?;
    let (options, held) = database_options(settings, lock).await?;
    let result = serve_on(settings, options, checklists, telemetry.clone()).await;
    match held {
        Held::Cluster(cluster) => cluster.stop().await?,
        Held::Lock(lock) => drop(lock),
    }
    result
}

async fn serve_on(
    settings: &Settings,
    options: Options,
    checklists: Checklists,
    telemetry: Arc<Telemetry>,
) -> anyhow::Result<()> {
    let database = Database::open(options).await?;
    let keys = root_key(settings, &database).await?;
    database.migrate().await?;
    let metrics = Arc::new(make_metrics(&telemetry)?);
    let identity = Identity::new(settings.node_name.clone(), settings.public_url.clone());
    let node = identity.id;
    let mut mirroring = settings.mirror.clone().map(|folder| Mirroring::open(folder, &keys)).transpose()?;
    let mut running = start_writer(settings, identity, &database, &keys, &metrics, mirroring.as_mut()).await?;
    let mirroring = mirroring.map(|mirroring| mirroring.start(&running, &database, &keys, &metrics)).transpose()?;
    let is_first_start = begin(settings, &running, &keys).await?;
    let attempts = Arc::new(Attempts::new(metrics.clone()));
    let issued = Arc::new(IssuedCounts::default());
    let barriers = Barriers::start(database.clone());
    let in_force = InForce {
        node: running.node.clone(),
        queue: running.queue.clone(),
        barriers: barriers.clone(),
        reductions: running.reductions.clone(),
    };
    let plans = Plans {
        node: running.node.clone(),
        queue: running.queue.clone(),
        heads: running.heads.clone(),
        reductions: running.reductions.clone(),
    };
    let sender = Sender::new(settings.webhook_ca.as_deref())?;
    let telling = tell_webhooks(settings, &database, &running, &sender);
    let used = Arc::new(KeysUsed::default());
    let trips = trips(&running, &database, &used, &checklists);
    let projecting = Projecting::start(&database, &running, used.clone(), &metrics)?;
    let app = App::new(Parts {
        node: running.node.clone(),
        queue: running.queue.clone(),
        database: database.clone(),
        metrics: metrics.clone(),
        telemetry,
        attempts: attempts.clone(),
        issued: issued.clone(),
        barriers,
        used: used.clone(),
        trips: trips.trips.clone(),
        log: running.log,
        checklists,
        snapshots: remembering::snapshots(&settings.data_dir, &keys),
        mirror: mirroring.as_ref().map(|mirroring| mirroring.state().clone()),
        sender,
        settings: http_settings(settings, node),
    });
    let counting = Counting::start(attempts, issued, in_force, plans, trips, &running.queue);
    let remembering = Remembering::start(settings, &running, &database, &keys)?;
    let following = (running.node.clone(), running.queue.clone(), running.heads.clone());
    let listening = async {
        let tls = tls(settings, is_first_start)?;
        listen_recorded(settings, app, &metrics, tls, following).await
    };
    let listened = while_writing(&mut running.task, listening).await;
    telling.abort();
    counting.end().await;
    projecting.end().await;
    stop(running).await;
    leave(&database, node).await;
    remembering.end().await;
    if let Some(mirroring) = mirroring {
        mirroring.end().await;
    }
    listened
}

/// What records keys that were shown and should not have been.
fn trips(running: &Running, database: &Database, used: &Arc<KeysUsed>, checklists: &Checklists) -> Recording {
    Recording {
        trips: Arc::new(Tripwires::default()),
        node: running.node.clone(),
        queue: running.queue.clone(),
        database: database.clone(),
        used: used.clone(),
        checklist: checklists.get(checklists::DEFAULT).unwrap_or_default().to_vec(),
    }
}

/// Can be ended anywhere: what was on its way is told again by whoever goes on.
fn tell_webhooks(settings: &Settings, database: &Database, running: &Running, sender: &Sender) -> JoinHandle<()> {
    let (node, queue) = (running.node.clone(), running.queue.clone());
    let (database, sender, attempts) = (database.clone(), sender.clone(), settings.webhook_attempts);
    tokio::spawn(deliver::run(deliver::Start { database, node, queue, sender, attempts }))
}

fn http_settings(settings: &Settings, node: Uuid) -> HttpSettings {
    HttpSettings {
        node,
        public_url: settings.public_url.clone(),
        trusted_proxies: settings.limits.trusted_proxies.clone(),
        request_timeout: settings.limits.request_timeout,
        body_bytes_max: settings.limits.body_bytes_max,
    }
}

/// Makes what is asked for before anybody is served. Answers whether it is the first start of all.
async fn begin(settings: &Settings, running: &Running, keys: &Arc<DerivedKeys>) -> anyhow::Result<bool> {
    let is_first_start = first_start::bootstrap(running, keys, &settings.data_dir).await?;
    // The first start has made one that nobody has lost.
    if settings.new_admin && !is_first_start {
        first_start::new_admin(running, keys, &settings.data_dir).await?;
    }
    if let Some(secret) = &settings.auto_enrollment_key {
        first_start::ensure_enrollment_secret(running, keys, secret).await?;
    }
    Ok(is_first_start)
}

/// Takes this node off the list: it answers nobody any more, so nobody has to wait it out.
async fn leave(database: &Database, node: Uuid) {
    let leaving = async {
        let client = database.client().await.map_err(|error| error.to_string())?;
        presence::leave(&client, node).await.map_err(|error| error.to_string())
    };
    match tokio::time::timeout(LEAVE_PATIENCE, leaving).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(error, "this node could not be taken off the list; it is waited out once"),
        Err(_) => tracing::warn!("this node could not be taken off the list in time; it is waited out once"),
    }
}

/// Opens the log, unless it is an older one than this node has seen, and starts its writer.
async fn start_writer(
    settings: &Settings,
    identity: Identity,
    database: &Database,
    keys: &Arc<DerivedKeys>,
    metrics: &Arc<Metrics>,
    mirroring: Option<&mut Mirroring>,
) -> anyhow::Result<Running> {
    let seen_file = seen::path(&settings.data_dir);
    let snapshots = remembering::snapshots(&settings.data_dir, keys);
    let folder = snapshots.folder().to_owned();
    let start = writer::Start {
        database: database.clone(),
        metrics: metrics.clone(),
        identity,
        max_stale: settings.max_stale,
        queue_length: settings.queue_length,
        seen: Seen::load(&seen_file, keys)?,
        snapshots: Some(snapshots),
        mirror: mirroring.map(Mirroring::for_writer),
    };
    let running =
        writer::start(start, keys.clone()).await.map_err(|error| seen::explained(error, &seen_file, &folder))?;
    running.seen().save(&seen_file, keys)?;
    let node = running.node.clone();
    metrics.watch_roll(move || {
        let snapshot = node.snapshot();
        RollSize { keys: snapshot.roll.key_count() as u64, workers: snapshot.roll.worker_count() as u64 }
    });
    Ok(running)
}

/// Listens, and has it in the log what clients are shown meanwhile.
async fn listen_recorded(
    settings: &Settings,
    app: App,
    metrics: &Metrics,
    tls: Option<Tls>,
    (node, queue, heads): (Arc<Node>, CommandQueue, watch::Receiver<Head>),
) -> anyhow::Result<()> {
    let recording = match tls.clone() {
        Some(tls) => {
            let name = settings.node_name.as_str().into();
            Some(tokio::spawn(CertificateRecording::begin(tls, name, node, queue, heads).await.run()))
        }
        None => None,
    };
    let listened = listen(settings, app, metrics, tls).await;
    if let Some(recording) = recording {
        recording.abort();
    }
    listened
}

/// Answers requests until a signal comes, and then those that are running.
async fn listen(settings: &Settings, app: App, metrics: &Metrics, tls: Option<Tls>) -> anyhow::Result<()> {
    let watching = tls.clone().map(|tls| {
        tokio::spawn(async move {
            if let Err(error) = tls.watch().await {
                tracing::error!(%error, "the certificate files are no longer watched");
            }
        })
    });
    let limits = &settings.limits;
    let options = ListenOptions::new(limits.connections_max, limits.shutdown_grace);
    let listener =
        Listener::bind(settings.bind, options).await.with_context(|| preflight::cannot_listen(settings.bind))?;
    // Before anybody is told that we run: who is told may tell us to stop at once, and a signal that nobody waits for
    // would end the process where it stands.
    let told_to_stop = until_told_to_stop()?;
    announce(settings, &listener, tls.as_ref())?;
    listener.serve(service(app), tls.as_ref(), metrics, told_to_stop).await;
    if let Some(watching) = watching {
        watching.abort();
    }
    Ok(())
}

/// Serves for as long as there is a writer. Without one nothing is followed and nothing is written: a service that went
/// on would look alive and refuse everyone.
async fn while_writing(
    writer: &mut JoinHandle<()>,
    serving: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    tokio::select! {
        served = serving => served,
        ended = writer => match ended {
            Ok(()) => bail!("the writer has ended before the service; restart it"),
            Err(error) => bail!("the writer broke off ({error}), and without it nothing can be served; restart the service"),
        },
    }
}

async fn stop(running: Running) {
    running.stop();
    // One that has ended has been asked already, and said so.
    if !running.task.is_finished()
        && let Err(error) = running.task.await
    {
        tracing::error!(%error, "the writer broke off");
    }
    tracing::info!("stopped");
}

/// What is given back at the end. Either way no other service is on the data directory: two that start there at once would
/// overwrite each other's files.
enum Held {
    Cluster(Cluster),
    Lock(Lock),
}

/// Where the database is; a private one is started.
async fn database_options(settings: &Settings, lock: Lock) -> anyhow::Result<(Options, Held)> {
    match &settings.database {
        DatabaseSource::Embedded { pool_size, connect_timeout, statement_timeout } => {
            let binaries = std::env::var_os("PORTCULLIS_PG_BIN").filter(|path| !path.is_empty()).map(PathBuf::from);
            let cluster = embedded::start(&settings.data_dir, &embedded::Settings { binaries }, lock).await?;
            let mut options = cluster.options();
            options.pool_size = *pool_size;
            options.connect_timeout = *connect_timeout;
            options.statement_timeout = *statement_timeout;
            Ok((options, Held::Cluster(cluster)))
        }
        DatabaseSource::Own {
            url,
            owner_url,
            ca_file,
            pool_size,
            connect_timeout,
            statement_timeout,
            allow_unsafe_durability,
        } => {
            let options = Options {
                owner_url: owner_url.clone(),
                ca_file: ca_file.clone(),
                pool_size: *pool_size,
                connect_timeout: *connect_timeout,
                statement_timeout: *statement_timeout,
                allow_unsafe_durability: *allow_unsafe_durability,
                ..Options::new(url.clone())
            };
            Ok((options, Held::Lock(lock)))
        }
    }
}

/// The root key, compared with what the log was begun with, before anything is written. For a log that exists no key is
/// ever made: it could open nothing.
async fn root_key(settings: &Settings, database: &Database) -> anyhow::Result<Arc<DerivedKeys>> {
    let path = &settings.root_key_file;
    let begun_with = database.root_key_check().await?;
    let beside_the_data = *path == settings.data_dir.join("root.key");
    if begun_with.is_some() && !path.exists() {
        bail!(
            "the root key of this log is missing: {}; restore it from its backup. Nothing was changed",
            path.display()
        );
    }
    let key = if beside_the_data { RootKey::load_or_create(path)?.0 } else { RootKey::load(path)? };
    let keys = key.derive();
    if let Some(found) = begun_with {
        check_root_key(&found, &keys)?;
    }
    Ok(keys)
}

fn make_metrics(telemetry: &Telemetry) -> anyhow::Result<Metrics> {
    // Made once a process, of what the routes are: they live for as long as the metrics do.
    let routes: Vec<&'static str> = route_paths().into_iter().map(|path| &*path.leak()).collect();
    let denials = Denial::ALL.map(Denial::code);
    let outcomes = validate::outcomes();
    Ok(telemetry.metrics(&Vocabulary {
        routes: &routes,
        validation_outcomes: &outcomes,
        commands: &Command::NAMES,
        command_outcomes: &writer::OUTCOMES,
        auth_failure_reasons: &denials,
    })?)
}

fn tls(settings: &Settings, is_first_start: bool) -> anyhow::Result<Option<Tls>> {
    let now = chrono::Utc::now();
    Ok(match &settings.tls {
        TlsSource::OwnAuthority => {
            let folder = settings.data_dir.join("tls");
            let is_new = !Tls::has_authority(&folder);
            let tls = Tls::own_authority(folder, settings.certificate_names(), now)?;
            // Of a service that was there before, clients have a file by which they will not know this one.
            if is_new && !is_first_start {
                let ca_file = tls.ca_file().unwrap_or_default();
                tracing::warn!(ca_file = %ca_file.display(), "made a new certificate authority; clients need the new ca.pem");
            }
            Some(tls)
        }
        TlsSource::Files { cert, key } => Some(Tls::from_files(cert.clone(), key.clone(), now)?),
        TlsSource::Plaintext => None,
    })
}

/// Says where the service is and what to do next: to people on stdout, and to systemd.
fn announce(settings: &Settings, listener: &Listener, tls: Option<&Tls>) -> anyhow::Result<()> {
    let address = listener.address()?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    anstream::println!("portcullis {} listens on {scheme}://{address}", env!("CARGO_PKG_VERSION"));
    anstream::println!("  issuer of tokens     {}", settings.public_url);
    if let Some(tls) = tls {
        anstream::println!("  SHA-256 fingerprint  {}", tls.fingerprint());
        if let Some(file) = tls.ca_file() {
            anstream::println!("  CA file for clients  {}", file.display());
        }
    }
    let token = first_start::token_file(&settings.data_dir);
    // At every start: whoever did not see the first is looking for it.
    if token.exists() {
        anstream::println!(
            "  admin token          {} (of the newest admin that a start has made; keep it safe)",
            token.display()
        );
    }
    tracing::info!(%address, scheme, "listening");
    // Without systemd there is nobody to tell, and that is no failure.
    drop(sd_notify::notify(&[sd_notify::NotifyState::Ready]));
    Ok(())
}

fn until_told_to_stop() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("told to stop; running requests are answered first");
        drop(sd_notify::notify(&[sd_notify::NotifyState::Stopping]));
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_service_ends_with_its_writer_and_says_so() {
        let mut writer = tokio::spawn(async { panic!("as a test does") });
        let ended = while_writing(&mut writer, std::future::pending()).await.expect_err("nothing can be served");
        assert!(ended.to_string().contains("the writer broke off"), "{ended}");
        let mut writer = tokio::spawn(std::future::pending());
        while_writing(&mut writer, async { Ok(()) }).await.expect("told to stop while the writer runs");
    }
}
