//! Throwaway Postgres clusters: one that all tests of a run share, with a database for each test, and private ones for
//! tests that break the server itself.
//!
//! No test is skipped where Postgres is missing: it fails, and says what to install.

use std::fs::{DirBuilder, File, OpenOptions};
use std::future::Future;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use portcullis::postgres::embedded::{Account, Binaries, LOGIN, OWNER, initialise, socket_url};
use portcullis::postgres::{Database, Options, SERVICE_ROLE};
use rustix::process::{Pid, Signal, kill_process};
use secrecy::SecretString;
use tokio_postgres::{Client, NoTls};

pub(crate) mod standby;

/// A migrated database that nobody connects to: copying its files takes a third of the time of migrating anew.
const TEMPLATE: &str = "portcullis_template";

const READY_TIMEOUT: Duration = Duration::from_mins(1);

/// Long enough for a caller under load to have sent something that is on its way.
pub(crate) const FROZEN: Duration = Duration::from_millis(40);

/// The port of the shared cluster: the name of its socket, and nothing that is opened.
const PORT: u16 = 5432;

/// Memory, where there is enough of it free: a database is some 300 files, and copying them is most of a test's time.
const MEMORY: &str = "/dev/shm";
const MEMORY_BYTES_MIN: u64 = 4 << 30;

/// A throwaway cluster need not survive a power cut. It does survive `kill -9`: what is written is in the kernel.
const SETTINGS: &[&str] = &[
    "fsync=off",
    "full_page_writes=off",
    "autovacuum=off",
    "jit=off",
    "max_connections=300",
    "shared_buffers=64MB",
    "max_wal_size=1GB",
    "checkpoint_timeout=1h",
    "log_destination=stderr",
    "logging_collector=off",
];

/// What a cluster with a small disk has of it, for a tablespace.
const SMALL_DISK: &str = "small";
const SMALL_DISK_BYTES: usize = 4 << 20;

/// Mounts that disk, and runs what follows. In namespaces of its own: nobody else sees it, and it goes with its processes.
const MOUNT: &str = r#"mount -t tmpfs -o "$1" none "$2" && shift 2 && exec "$@""#;

/// A database of one test, migrated and empty. It is dropped with this value.
pub(crate) struct Scratch {
    name: String,
}

/// A cluster of one test.
pub(crate) struct PrivateCluster {
    folder: PathBuf,
    /// Of 127.0.0.1 too, if the settings say `listen_addresses`.
    pub(crate) port: u16,
    account: Account,
    binaries: Binaries,
    settings: Vec<String>,
    has_small_disk: bool,
    /// Locked, to keep the watchdog from stopping the server.
    _users: File,
    watchdog: Child,
}

/// The cluster of this run of tests.
struct Shared {
    sockets: PathBuf,
    _users: File,
}

// === impl Scratch ===

impl Scratch {
    pub(crate) async fn new() -> Self {
        Self::create(&format!("template {TEMPLATE} strategy file_copy")).await
    }

    /// A database without the schema.
    pub(crate) async fn unmigrated() -> Self {
        Self::create("template template0").await
    }

    async fn create(how: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("scratch_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let client = connect(&socket_url(&shared().sockets, PORT, OWNER, "postgres")).await.unwrap();
        client.batch_execute(&format!("create database {name} {how}")).await.unwrap();
        Self { name }
    }

    /// For the service: a login that is a member of its role, and no more.
    pub(crate) fn url(&self) -> String {
        socket_url(&shared().sockets, PORT, LOGIN, &self.name)
    }

    pub(crate) fn owner_url(&self) -> String {
        socket_url(&shared().sockets, PORT, OWNER, &self.name)
    }

    /// For the service, by way of a proxy in front of [`shared_socket`].
    pub(crate) fn url_on(&self, port: u16) -> String {
        format!("postgres://{LOGIN}@127.0.0.1:{port}/{}", self.name)
    }

    pub(crate) fn options(&self) -> Options {
        options(&self.url(), &self.owner_url())
    }

    pub(crate) async fn database(&self) -> Database {
        Database::open(self.options()).await.unwrap()
    }

    /// The same, by way of a proxy.
    pub(crate) async fn database_on(&self, port: u16) -> Database {
        Database::open(options(&self.url_on(port), &self.owner_url())).await.unwrap()
    }

    /// A connection that nothing is forbidden to, but by the triggers.
    pub(crate) async fn superuser(&self) -> Client {
        connect(&self.owner_url()).await.unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let statement = format!("drop database if exists {} with (force)", self.name);
        let url = socket_url(&shared().sockets, PORT, OWNER, "postgres");
        // Whatever fails here, the cluster is thrown away soon.
        block_on(async move {
            if let Ok(client) = connect(&url).await {
                drop(client.batch_execute(&statement).await);
            }
        });
    }
}

// === impl PrivateCluster ===

impl PrivateCluster {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_, _| Vec::new()).await
    }

    /// With further settings, which `prepare` makes for the cluster's folder and the account that has to read it.
    pub(crate) async fn start_with(prepare: impl FnOnce(&Path, &Account) -> Vec<String>) -> Self {
        Self::start_on(prepare, false).await
    }

    /// With a disk of a few MiB at [`PrivateCluster::small_disk`], which only the server sees.
    pub(crate) async fn start_with_small_disk() -> Self {
        Self::start_on(|_, _| Vec::new(), true).await
    }

    pub(crate) fn small_disk(&self) -> PathBuf {
        self.folder.join(SMALL_DISK)
    }

    async fn start_on(prepare: impl FnOnce(&Path, &Account) -> Vec<String>, has_small_disk: bool) -> Self {
        let folder = new_folder();
        let users = lockable(&folder.join("users"));
        users.lock_shared().unwrap();
        let (account, binaries) = create(&folder);
        let port = free_port();
        let mut settings: Vec<String> = SETTINGS.iter().map(ToString::to_string).collect();
        settings.push(format!("port={port}"));
        settings.extend(prepare(&folder, &account));
        let watchdog = launch(&folder, &account, &binaries, &settings, has_small_disk);
        let cluster = Self { folder, port, account, binaries, settings, has_small_disk, _users: users, watchdog };
        let client = wait_ready(&cluster.folder, port).await;
        create_roles(&client).await;
        client.batch_execute("create database portcullis").await.unwrap();
        cluster
    }

    pub(crate) fn url(&self) -> String {
        socket_url(&self.folder.join("run"), self.port, LOGIN, "portcullis")
    }

    pub(crate) fn owner_url(&self) -> String {
        socket_url(&self.folder.join("run"), self.port, OWNER, "portcullis")
    }

    /// For the service, by way of a proxy in front of [`PrivateCluster::socket`].
    pub(crate) fn url_on(port: u16) -> String {
        format!("postgres://{LOGIN}@127.0.0.1:{port}/portcullis")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.join("run").join(format!(".s.PGSQL.{}", self.port))
    }

    pub(crate) fn options(&self) -> Options {
        options(&self.url(), &self.owner_url())
    }

    /// `kill -9` of the server and of all its processes, as the kernel does when it is out of memory.
    pub(crate) fn kill(&mut self) {
        assert!(kill_server(&self.folder.join("data"), Duration::ZERO), "the server runs");
        self.watchdog.kill().unwrap();
        self.watchdog.wait().unwrap();
    }

    /// The same, of a server that stood still for a while: what it was asked meanwhile is never answered.
    pub(crate) fn freeze_and_kill(&mut self) {
        assert!(kill_server(&self.folder.join("data"), FROZEN), "the server runs");
        self.watchdog.kill().unwrap();
        self.watchdog.wait().unwrap();
    }

    /// Starts the server again on the same data, after [`PrivateCluster::kill`].
    pub(crate) async fn restart(&mut self) {
        let deadline = Instant::now() + READY_TIMEOUT;
        loop {
            self.watchdog = launch(&self.folder, &self.account, &self.binaries, &self.settings, self.has_small_disk);
            // The first attempts may find processes of the old server that have not yet noticed.
            while Instant::now() < deadline && postmaster(&self.folder.join("data")).is_some() {
                if connect(&self.owner_url()).await.is_ok() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            assert!(Instant::now() < deadline, "the server does not start again: {}", log_tail(&self.folder));
            self.watchdog.kill().unwrap();
            self.watchdog.wait().unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for PrivateCluster {
    fn drop(&mut self) {
        if let Some(pid) = postmaster(&self.folder.join("data")) {
            // Whatever fails here, the folder goes. One that stands still hears nothing.
            kill_process(pid, Signal::QUIT).ok();
            kill_process(pid, Signal::CONT).ok();
        }
        drop(self.watchdog.kill());
        drop(self.watchdog.wait());
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

// === the shared cluster ===

/// The socket of the server that all scratch databases are on.
pub(crate) fn shared_socket() -> PathBuf {
    shared().sockets.join(format!(".s.PGSQL.{PORT}"))
}

fn shared() -> &'static Shared {
    static SHARED: OnceLock<Shared> = OnceLock::new();
    SHARED.get_or_init(open_shared)
}

/// Finds the cluster of this run, or makes it, under a lock: nextest runs each test in a process of its own.
fn open_shared() -> Shared {
    let run = std::env::var("NEXTEST_RUN_ID").unwrap_or_else(|_| format!("process-{}", std::process::id()));
    let folder = place().join(format!("portcullis-test-{run}"));
    loop {
        make_folder(&folder);
        let users = lockable(&folder.join("users"));
        users.lock_shared().unwrap();
        // The watchdog may have removed the folder while we waited.
        if !is_same(&users, &folder.join("users")) {
            continue;
        }
        let setup = lockable(&folder.join("setup"));
        setup.lock().unwrap();
        if !folder.join("ready").exists() || postmaster(&folder.join("data")).is_none() {
            drop(std::fs::remove_dir_all(folder.join("data")));
            set_up_shared(&folder);
        }
        return Shared { sockets: folder.join("run"), _users: users };
    }
}

fn set_up_shared(folder: &Path) {
    let (account, binaries) = create(folder);
    let settings: Vec<String> = SETTINGS.iter().map(ToString::to_string).collect();
    // Not waited for: it outlives this process, and whoever inherits it reaps it.
    drop(launch(folder, &account, &binaries, &settings, false));
    let owned = folder.to_owned();
    block_on(async move {
        let client = wait_ready(&owned, PORT).await;
        create_roles(&client).await;
        client.batch_execute(&format!("create database {TEMPLATE}")).await.unwrap();
        let sockets = owned.join("run");
        let url = |role| socket_url(&sockets, PORT, role, TEMPLATE);
        let database = Database::open(options(&url(LOGIN), &url(OWNER))).await.unwrap();
        database.migrate().await.unwrap();
        client.batch_execute(&format!("alter database {TEMPLATE} with allow_connections false")).await.unwrap();
    });
    File::create(folder.join("ready")).unwrap();
}

// === pieces of both ===

fn options(url: &str, owner_url: &str) -> Options {
    Options {
        owner_url: Some(SecretString::from(owner_url)),
        pool_size: 4,
        allow_unsafe_durability: true,
        ..Options::new(SecretString::from(url))
    }
}

fn place() -> PathBuf {
    match rustix::fs::statvfs(MEMORY) {
        Ok(memory) if memory.f_bavail * memory.f_frsize >= MEMORY_BYTES_MIN => MEMORY.into(),
        _ => std::env::temp_dir(),
    }
}

/// Of a private cluster.
fn new_folder() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let folder = place().join(format!("portcullis-private-{}-{count}", std::process::id()));
    drop(std::fs::remove_dir_all(&folder));
    make_folder(&folder);
    folder
}

/// Open to pass through, closed to look into: the server's account has to reach its own folders in it.
fn make_folder(folder: &Path) {
    DirBuilder::new().recursive(true).mode(0o711).create(folder).unwrap();
}

/// Makes the cluster in `folder`, and the folder of its socket.
fn create(folder: &Path) -> (Account, Binaries) {
    let named = std::env::var_os("PORTCULLIS_PG_BIN").map(PathBuf::from);
    let binaries = Binaries::find(named.as_deref(), None).unwrap_or_else(|error| panic!("{error}"));
    let account = Account::choose(&folder.join("data")).unwrap_or_else(|error| panic!("{error}"));
    make_account_folders(folder, &account);
    initialise(&binaries, &account, &folder.join("data"), false).unwrap_or_else(|error| panic!("{error}"));
    (account, binaries)
}

fn make_account_folders(folder: &Path, account: &Account) {
    for name in ["data", "run"] {
        DirBuilder::new().recursive(true).mode(0o700).create(folder.join(name)).unwrap();
        account.own(&folder.join(name)).unwrap();
    }
}

/// Starts the server under its watchdog.
fn launch(folder: &Path, account: &Account, binaries: &Binaries, settings: &[String], has_small_disk: bool) -> Child {
    let mut server = account.command(binaries.program("postgres"));
    server.arg("-D").arg(folder.join("data")).arg("-k").arg(folder.join("run"));
    server.arg("-p").arg(PORT.to_string()).args(["-c", "listen_addresses="]);
    for setting in settings {
        server.arg("-c").arg(setting);
    }
    let log = OpenOptions::new().append(true).create(true).open(folder.join("log")).unwrap();
    let mut watchdog =
        if has_small_disk { on_small_disk(&folder.join(SMALL_DISK), account) } else { Command::new("sh") };
    watchdog.arg("-c").arg(include_str!("cluster.sh")).arg("cluster").arg(folder.join("users")).arg(folder);
    watchdog.arg(server.get_program()).args(server.get_args());
    watchdog.env_clear().envs(server.get_envs().filter_map(|(name, value)| Some((name, value?))));
    // In a group of its own, so that it outlives a test that is killed for taking too long.
    std::os::unix::process::CommandExt::process_group(&mut watchdog, 0);
    watchdog.current_dir("/").stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
}

/// A shell to which a small disk is mounted at `place`.
fn on_small_disk(place: &Path, account: &Account) -> Command {
    DirBuilder::new().recursive(true).mode(0o711).create(place).unwrap();
    let mut command = Command::new("unshare");
    command.arg("--mount");
    if !rustix::process::geteuid().is_root() {
        command.args(["--map-current-user", "--keep-caps"]);
    }
    let options = format!("size={SMALL_DISK_BYTES},mode=0700,uid={}", account.uid());
    command.args(["sh", "-c", MOUNT, "mount"]).arg(options).arg(place).arg("sh");
    command
}

async fn wait_ready(folder: &Path, port: u16) -> Client {
    let url = socket_url(&folder.join("run"), port, OWNER, "postgres");
    let deadline = Instant::now() + READY_TIMEOUT;
    loop {
        match connect(&url).await {
            Ok(client) => return client,
            Err(error) => assert!(Instant::now() < deadline, "{error}: {}", log_tail(folder)),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn create_roles(client: &Client) {
    client
        .batch_execute(&format!("create role {SERVICE_ROLE} nologin; create role {LOGIN} login in role {SERVICE_ROLE}"))
        .await
        .unwrap();
}

/// A plain connection, closed when the client is dropped.
pub(crate) async fn connect(url: &str) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(async move {
        // Its end is seen by whoever uses the client.
        drop(connection.await);
    });
    Ok(client)
}

/// A port of 127.0.0.1 that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

/// Writes a file that only `account` can read, as Postgres demands of private keys.
pub(crate) fn write_private(path: &Path, text: &str, account: &Account) {
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    account.own(path).unwrap();
}

/// The process of the server on these data, if it runs.
pub(crate) fn postmaster(data: &Path) -> Option<Pid> {
    let text = std::fs::read_to_string(data.join("postmaster.pid")).ok()?;
    let pid = Pid::from_raw(text.lines().next()?.trim().parse().ok()?)?;
    is_alive(pid).then_some(pid)
}

/// `kill -9` of the server on these data and of all its processes, after they stood still for `frozen`. False if there is
/// none.
pub(crate) fn kill_server(data: &Path, frozen: Duration) -> bool {
    let Some(server) = postmaster(data) else { return false };
    // A process that has ended meanwhile is as good as one that is killed.
    let signal = |signal| {
        for child in children(server) {
            kill_process(child, signal).ok();
        }
    };
    if !frozen.is_zero() {
        signal(Signal::STOP);
        std::thread::sleep(frozen);
    }
    // One that it starts while the others are killed may wait for ever for a lock that died with them, and hold the
    // server's memory for as long: it starts none once it stands still.
    kill_process(server, Signal::STOP).ok();
    while state(server).is_some_and(|state| !matches!(state, 'T' | 'Z' | 'X')) {
        std::thread::sleep(Duration::from_millis(1));
    }
    signal(Signal::KILL);
    kill_process(server, Signal::KILL).ok();
    true
}

fn children(server: Pid) -> Vec<Pid> {
    let children = format!("/proc/{0}/task/{0}/children", server.as_raw_nonzero());
    let children = std::fs::read_to_string(children).unwrap_or_default();
    children.split_whitespace().filter_map(|child| Pid::from_raw(child.parse().ok()?)).collect()
}

/// Whether a process runs. One that has ended, and whose parent has not looked yet, does not.
pub(crate) fn is_alive(pid: Pid) -> bool {
    state(pid).is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

/// The letter of proc(5), or nothing where the process is gone.
fn state(pid: Pid) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

fn log_tail(folder: &Path) -> String {
    let text = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(10)..].join("\n")
}

fn lockable(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).unwrap()
}

fn is_same(file: &File, path: &Path) -> bool {
    let held = file.metadata().unwrap();
    std::fs::metadata(path).is_ok_and(|there| (there.dev(), there.ino()) == (held.dev(), held.ino()))
}

/// Runs a future from code that is not async, or that is inside another runtime.
fn block_on<T: Send>(future: impl Future<Output = T> + Send) -> T {
    std::thread::scope(|scope| {
        let run = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future);
        scope.spawn(run).join().unwrap()
    })
}
