//! One machine that stands for two: the asked node and whoever asks it on some cores, everything else on the others.
//!
//! In use a node shares its machine with neither Postgres nor other nodes, and its clients are elsewhere. Where all of them
//! share two cores, what a client waits for is mostly the kernel, which gives the next core to somebody else (so
//! `perf sched`); that says how crowded the benchmark is, not what the node does to those who ask it. What the node does
//! behind its answers stays on the node's cores, since it would be there in use.
//!
//! Whoever asks is an instrument besides: it may not be late because what it measures is busy, so it goes before all threads
//! of the usual class on its cores (`SCHED_FIFO`, see sched(7)). That also takes from its timers the 50 µs by which the
//! kernel may put off others, so what is measured alone is shorter too, by the instrument and not by the node.
//!
//! Each node and whoever asks is in a session of its own, as any supervisor has them: Linux gives sessions equal weights
//! (`SCHED_AUTOGROUP`, see sched(7)), and in that of the benchmark all nodes together would have that of one of Postgres' backends.
//!
//! By `setsid`, `setpriv`, `taskset` and `chrt` of util-linux, as far as they are there and permitted. The cores are divided by
//! number: which of them are two halves of one, or serve the interrupts, is not looked at. A node has a thread for requests
//! for each core that it may use, so here it has fewer.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

/// What a program is started through.
#[derive(Clone, Debug, Default)]
pub(crate) struct Place(Vec<String>);

/// Who has which place. What is started without one has the cores that are left, as this process has.
#[derive(Debug)]
pub(crate) struct Stand {
    /// Of nodes that are not asked.
    pub(crate) beside: Place,
    pub(crate) asked: Place,
    pub(crate) asking: Place,
    /// For whoever reads the figures.
    pub(crate) layout: String,
}

impl Place {
    /// In a session of its own, whose end is nevertheless that of this process.
    fn in_a_session(self) -> Self {
        self.through(&["setsid", "setpriv", "--pdeathsig", "KILL"])
    }

    fn on(self, cores: &[usize]) -> Self {
        let list = cores.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
        self.through(&["taskset", "--cpu-list", &list])
    }

    fn before_all_others(self) -> Self {
        self.through(&["chrt", "--fifo", "1"])
    }

    fn through(mut self, words: &[&str]) -> Self {
        self.0.extend(words.iter().copied().map(str::to_owned));
        self
    }

    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let Some((first, rest)) = self.0.split_first() else { return Command::new(program) };
        let mut command = Command::new(first);
        command.args(rest).arg(program);
        command
    }

    fn is_permitted(&self) -> bool {
        let status = self.command("true").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    }

    /// This one, where it is permitted.
    fn or(self, other: &Self) -> Self {
        if self.is_permitted() { self } else { other.clone() }
    }
}

impl Stand {
    /// Divides the cores. Called before there is another thread: those that follow inherit what this one has.
    pub(crate) fn take() -> Self {
        let beside = Place::default().in_a_session().or(&Place::default());
        let divided = divide(&beside);
        let (asked, cores) = match divided {
            Ok(asked) => (asked, "the asked node and its clients on half of the cores".to_owned()),
            Err(why) => (beside.clone(), format!("all on all cores ({why})")),
        };
        let asking = asked.clone().before_all_others().or(&asked);
        let clients = if asking.0 == asked.0 { "clients not first" } else { "clients first" };
        let sessions = if beside.0.is_empty() { "one session" } else { "own sessions" };
        Self { layout: format!("{cores}, {clients}, {sessions}"), beside, asked, asking }
    }
}

/// Keeps this process to half of the cores, and says how the others are had; or why that is not done.
fn divide(beside: &Place) -> Result<Place, &'static str> {
    if std::env::var_os("PORTCULLIS_BENCH_SHARED_CORES").is_some() {
        return Err("as PORTCULLIS_BENCH_SHARED_CORES asks");
    }
    let cores = cores::allowed().ok_or("which there are is not known")?;
    let (apart, others) = cores.split_at(cores.len() / 2);
    if apart.is_empty() {
        return Err("there is one");
    }
    let asked = beside.clone().on(apart);
    if !asked.is_permitted() {
        return Err("taskset is not there, or not permitted");
    }
    if !cores::keep_to(others) {
        return Err("to divide them is not permitted");
    }
    Ok(asked)
}

#[cfg(target_os = "linux")]
mod cores {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    /// Those that this process may use.
    pub(super) fn allowed() -> Option<Vec<usize>> {
        let allowed = sched_getaffinity(None).ok()?;
        Some((0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).collect())
    }

    /// Whether it was permitted.
    pub(super) fn keep_to(cores: &[usize]) -> bool {
        let mut left = CpuSet::new();
        for core in cores {
            left.set(*core);
        }
        sched_setaffinity(None, &left).is_ok()
    }
}

#[cfg(not(target_os = "linux"))]
mod cores {
    pub(super) fn allowed() -> Option<Vec<usize>> {
        None
    }

    pub(super) fn keep_to(_: &[usize]) -> bool {
        false
    }
}
