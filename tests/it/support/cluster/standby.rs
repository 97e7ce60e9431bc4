//! A second cluster that follows a private one, and takes its place; and copies of a cluster's files, put back later.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Signal, kill_process};
use tokio_postgres::Client;

use super::{
    LOGIN, OWNER, PrivateCluster, SETTINGS, connect, free_port, launch, lockable, make_account_folders, new_folder,
    postmaster, wait_ready,
};

/// What the primary waits for, by its `synchronous_standby_names`.
const NAME: &str = "standby";

/// A primary that listens on 127.0.0.1, does not acknowledge before its disk has it, and keeps what a standby needs.
pub(crate) const PRIMARY: &[&str] = &["listen_addresses=127.0.0.1", "fsync=on", "wal_keep_size=256MB"];

/// A copy of a cluster's files, as of a moment.
pub(crate) struct Copy(tempfile::TempDir);

impl PrivateCluster {
    /// A standby of this one, by `pg_basebackup`, without which nothing is acknowledged from now on.
    pub(crate) async fn synchronous_standby(&self) -> Self {
        let folder = new_folder();
        let users = lockable(&folder.join("users"));
        users.lock_shared().unwrap();
        make_account_folders(&folder, &self.account);
        let (account, binaries) = (self.account.clone(), self.binaries.clone());
        let from = format!("host=127.0.0.1 port={} user={OWNER} application_name={NAME}", self.port);
        let mut backup = account.command(binaries.program("pg_basebackup"));
        backup.arg("--pgdata").arg(folder.join("data")).args(["--dbname", &from]);
        backup.args(["--wal-method=stream", "--checkpoint=fast", "--write-recovery-conf", "--no-sync"]);
        let made = backup.stdin(Stdio::null()).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));

        let port = free_port();
        let settings: Vec<String> = SETTINGS.iter().chain(PRIMARY).map(ToString::to_string).collect();
        let settings = [settings, vec![format!("port={port}")]].concat();
        let watchdog = launch(&folder, &account, &binaries, &settings, false);
        let standby =
            Self { folder, port, account, binaries, settings, has_small_disk: false, _users: users, watchdog };
        wait_ready(&standby.folder, port).await;
        self.wait_for(Some(NAME)).await;
        standby
    }

    /// Says for whom this one waits before it acknowledges, and waits until they are there.
    pub(crate) async fn wait_for(&self, names: Option<&str>) {
        let client = connect(&self.owner_url()).await.unwrap();
        // Each by itself: neither can be said within a transaction.
        let list = names.unwrap_or_default();
        client.batch_execute(&format!("alter system set synchronous_standby_names = '{list}'")).await.unwrap();
        client.batch_execute("select pg_reload_conf()").await.unwrap();
        if names.is_some() {
            let question = "select coalesce(bool_or(sync_state = 'sync'), false) from pg_stat_replication";
            until(&client, question).await;
        }
    }

    /// Makes a primary of this standby.
    pub(crate) fn promote(&self) {
        let mut command = self.account.command(self.binaries.program("pg_ctl"));
        command.args(["promote", "--wait", "--silent", "--pgdata"]).arg(self.folder.join("data"));
        let done = command.stdin(Stdio::null()).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    /// Lets the whole server stand still: its kernel goes on accepting connections for it, and nobody answers them.
    pub(crate) fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    pub(crate) fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let server = postmaster(&self.folder.join("data")).expect("the server runs");
        kill_process(server, signal).unwrap();
        for child in super::children(server) {
            // One that has ended meanwhile needs no signal.
            kill_process(child, signal).ok();
        }
    }

    /// For the service: this one alone.
    pub(crate) fn tcp_url(&self) -> String {
        Self::url_on(self.port)
    }

    /// For the service: whichever of the two can be written to.
    pub(crate) fn url_of_both(&self, other: &Self) -> String {
        self.of_both(other, LOGIN)
    }

    pub(crate) fn owner_url_of_both(&self, other: &Self) -> String {
        self.of_both(other, OWNER)
    }

    fn of_both(&self, other: &Self, role: &str) -> String {
        let (first, second) = (self.port, other.port);
        format!("postgres://{role}@127.0.0.1:{first},127.0.0.1:{second}/portcullis?target_session_attrs=read-write")
    }

    /// Copies all files of a server that was killed.
    pub(crate) fn copy(&self) -> Copy {
        let copy = tempfile::tempdir_in(self.folder.parent().unwrap()).unwrap();
        duplicate(&self.folder.join("data"), &copy.path().join("data"));
        Copy(copy)
    }

    /// Puts an older copy in the place of a server that was killed.
    pub(crate) fn put_back(&self, copy: &Copy) {
        std::fs::remove_dir_all(self.folder.join("data")).unwrap();
        duplicate(&copy.0.path().join("data"), &self.folder.join("data"));
    }
}

/// With owners, rights and times.
fn duplicate(from: &Path, to: &Path) {
    let done = std::process::Command::new("cp").arg("-a").args([from, to]).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    // What the killed server left is not of this one.
    std::fs::remove_file(to.join("postmaster.pid")).ok();
}

async fn until(client: &Client, question: &str) {
    let waited = async {
        while !client.query_one(question, &[]).await.unwrap().get::<_, bool>(0) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(super::READY_TIMEOUT, waited).await.unwrap_or_else(|_| panic!("never: {question}"));
}
