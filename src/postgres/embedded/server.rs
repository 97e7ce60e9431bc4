//! The Postgres process: started, watched and started again by one thread, and stopped.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, test_kill_process, waitid};
use tokio::sync::watch;

use super::EmbeddedError;
use super::account::Account;
use super::folder::{Folder, Lock, PORT, private_folder};
use crate::turns;

/// Between two starts: long enough not to fill the log of a Postgres that cannot start, short enough not to be noticed
/// by one that was killed.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// Postgres that ran for this long was well, and its end is a new story.
const STABLE_AFTER: Duration = Duration::from_mins(1);

/// How long a fast stop may take: it writes a checkpoint. After that it is told to stop at once, and to recover later.
const STOP_FAST: Duration = Duration::from_secs(30);
const STOP_IMMEDIATE: Duration = Duration::from_secs(15);

/// On the command line these win over whatever is in the folder's configuration files. The first ones are promises of
/// the service and not a matter of taste; the others are modest, for a machine that does other work as well.
const SETTINGS: &[(&str, &str)] = &[
    ("listen_addresses", ""),
    ("unix_socket_permissions", "0700"),
    ("fsync", "on"),
    ("full_page_writes", "on"),
    ("synchronous_commit", "on"),
    ("log_destination", "stderr"),
    ("logging_collector", "off"),
    ("max_connections", "64"),
    ("shared_buffers", "128MB"),
    ("max_wal_size", "1GB"),
    ("autovacuum", "on"),
];

/// What Postgres is started with, again and again.
pub(super) struct Launch {
    pub(super) account: Account,
    pub(super) program: PathBuf,
    pub(super) folder: Arc<Folder>,
    pub(super) socket_folder: PathBuf,
    /// Of the data folder. Here, so that it is given back only when Postgres has ended.
    pub(super) lock: Lock,
}

/// A Postgres that is kept running.
pub(super) struct Server {
    shared: Arc<Shared>,
    /// How often Postgres ended; closed when the thread has.
    exits: watch::Receiver<u32>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    stop: Condvar,
}

#[derive(Default)]
struct State {
    /// Set only while the process exists and has not been reaped, so that a signal never reaches another one.
    child: Option<Pid>,
    stopping: bool,
}

// === impl Server ===

impl Server {
    pub(super) fn start(launch: Launch) -> Self {
        let shared = Arc::new(Shared::default());
        let (count, exits) = watch::channel(0);
        let for_thread = Arc::clone(&shared);
        // A thread for its whole life, and not a task: Postgres is told when the thread that started it ends.
        std::thread::Builder::new()
            .name("postgres".into())
            .spawn(move || {
                // Postgres inherits it.
                turns::as_usual();
                supervise(&launch, &for_thread, &count);
                drop(launch.lock);
            })
            .expect("a process that starts can start a thread");
        Self { shared, exits }
    }

    pub(super) fn exits(&self) -> u32 {
        *self.exits.borrow()
    }

    pub(super) async fn stop(mut self) -> Result<(), EmbeddedError> {
        self.shared.signal_stop(Signal::INT);
        if self.ended_within(STOP_FAST).await {
            return Ok(());
        }
        tracing::warn!("Postgres takes long to stop, and is told to stop at once");
        self.shared.signal_stop(Signal::QUIT);
        if self.ended_within(STOP_IMMEDIATE).await {
            return Ok(());
        }
        Err(EmbeddedError::Stop { pid: self.shared.state().child.map_or(0, |pid| pid.as_raw_nonzero().get()) })
    }

    async fn ended_within(&mut self, limit: Duration) -> bool {
        let closed = async { while self.exits.changed().await.is_ok() {} };
        tokio::time::timeout(limit, closed).await.is_ok()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.signal_stop(Signal::INT);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn signal_stop(&self, signal: Signal) {
        let mut state = self.state();
        state.stopping = true;
        if let Some(pid) = state.child {
            send(pid, signal);
        }
        self.stop.notify_all();
    }

    fn is_stopping(&self) -> bool {
        self.state().stopping
    }

    /// Waits before the next start, or less when it is not to be. Answers whether to stop.
    fn pause(&self, duration: Duration) -> bool {
        let waited = self.stop.wait_timeout_while(self.state(), duration, |state| !state.stopping);
        waited.unwrap_or_else(PoisonError::into_inner).0.stopping
    }
}

fn supervise(launch: &Launch, shared: &Shared, exits: &watch::Sender<u32>) {
    let mut backoff = BACKOFF_MIN;
    loop {
        let started = Instant::now();
        let ended = spawn(launch).and_then(|child| watch_over(child, shared));
        if shared.is_stopping() {
            return;
        }
        exits.send_modify(|count| *count += 1);
        match ended {
            Ok(status) => {
                let (log, tail) = (launch.folder.log.display(), launch.folder.log_tail());
                tracing::error!(%status, %log, tail, "Postgres ended; starting it again");
            }
            Err(error) => tracing::error!(%error, "Postgres cannot be started; trying again"),
        }
        if started.elapsed() > STABLE_AFTER {
            backoff = BACKOFF_MIN;
        }
        if shared.pause(backoff) {
            return;
        }
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

fn spawn(launch: &Launch) -> io::Result<Child> {
    // What cleans up temporary folders may have taken it away, and Postgres does not start without it.
    private_folder(&launch.socket_folder, &launch.account)?;
    let log = launch.folder.open_log()?;
    let mut command = launch.account.command(&launch.program);
    command.arg("-D").arg(&launch.folder.cluster).arg("-p").arg(PORT.to_string());
    command.arg("-k").arg(&launch.socket_folder);
    for (name, value) in SETTINGS {
        command.arg("-c").arg(format!("{name}={value}"));
    }
    command.stdout(Stdio::from(log.try_clone()?)).stderr(Stdio::from(log)).spawn()
}

fn watch_over(mut child: Child, shared: &Shared) -> io::Result<std::process::ExitStatus> {
    let pid = Pid::from_child(&child);
    {
        let mut state = shared.state();
        state.child = Some(pid);
        // Whoever asked between the start and this line found nobody to tell.
        if state.stopping {
            send(pid, Signal::INT);
        }
    }
    // Seen, but not reaped: until the lock is held and the number forgotten, it must not be given to another process.
    while let Err(rustix::io::Errno::INTR) = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {}
    shared.state().child = None;
    child.wait()
}

/// A process that has ended in the meantime is what was wanted.
fn send(pid: Pid, signal: Signal) {
    if let Err(error) = kill_process(pid, signal) {
        tracing::debug!(%error, "Postgres cannot be signalled");
    }
}

/// Stops the Postgres that a killed service left behind on this folder, if there is one.
pub(super) fn stop_leftover(cluster: &Path) -> Result<(), EmbeddedError> {
    let Some(pid) = leftover(cluster) else { return Ok(()) };
    tracing::warn!(pid = pid.as_raw_nonzero().get(), "stopping the Postgres that an earlier service left behind");
    for (signal, limit) in [(Signal::INT, STOP_FAST), (Signal::QUIT, STOP_IMMEDIATE)] {
        let deadline = Instant::now() + limit;
        send(pid, signal);
        while Instant::now() < deadline {
            if test_kill_process(pid) == Err(rustix::io::Errno::SRCH) || leftover(cluster) != Some(pid) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    Err(EmbeddedError::Leftover { pid: pid.as_raw_nonzero().get() })
}

/// The process named in `postmaster.pid`, if it is alive and works in this folder. A number alone proves nothing: after
/// a restart of the machine it may be anyone's. Where there is no `/proc`, Postgres itself refuses to start twice.
fn leftover(cluster: &Path) -> Option<Pid> {
    let text = std::fs::read_to_string(cluster.join("postmaster.pid")).ok()?;
    let number: i32 = text.lines().next()?.trim().parse().ok()?;
    let works_in = std::fs::read_link(format!("/proc/{number}/cwd")).ok()?;
    (works_in == cluster).then(|| Pid::from_raw(number)).flatten()
}
