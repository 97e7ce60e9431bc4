//! One machine that stands for two: the asked node and whoever asks it on some cores, everything else on the others.
//!
//! In use a node shares its machine neither with Postgres nor with other nodes, and its clients are elsewhere. Where all of
//! them share two cores, what a client waits for is mostly the kernel, which gives the next core to somebody else; that
//! says how crowded the benchmark is, not what the node does to those who ask it. Whoever asks is an instrument besides: it
//! may not be late because what it measures is busy, so it goes before everything else on its cores (`SCHED_FIFO`, see
//! sched(7)). What the node does behind its answers stays on the node's cores, since it would be there in use.
//!
//! By `taskset` and `chrt` of util-linux. Where there is one core, or the machine does not permit it, or
//! `PORTCULLIS_BENCH_SHARED_CORES` is set, all share all cores, and the benchmark says so.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// What a program is started through.
#[derive(Clone, Debug, Default)]
pub(crate) struct Place(Vec<String>);

/// Who has which place; this process and whatever else it starts have the cores that are left.
#[derive(Debug)]
pub(crate) struct Stand {
    pub(crate) asked: Place,
    pub(crate) asking: Place,
    /// For whoever reads the figures.
    pub(crate) layout: &'static str,
}

impl Place {
    fn on(cores: &[usize]) -> Self {
        let list = cores.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
        Self(["taskset", "--cpu-list", &list].map(str::to_owned).into())
    }

    fn before_all_others(mut self) -> Self {
        self.0.extend(["chrt", "--fifo", "1"].map(str::to_owned));
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
}

impl Stand {
    /// Divides the cores. Called before there is another thread: those that follow inherit what this one has.
    pub(crate) fn take() -> anyhow::Result<Self> {
        let shared = Self { asked: Place::default(), asking: Place::default(), layout: "all share all cores" };
        let allowed = sched_getaffinity(None)?;
        let cores = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).collect::<Vec<_>>();
        let (apart, others) = cores.split_at(cores.len() / 2);
        let asked = Place::on(apart);
        let asking = asked.clone().before_all_others();
        let unwanted = std::env::var_os("PORTCULLIS_BENCH_SHARED_CORES").is_some();
        if unwanted || apart.is_empty() || !asking.is_permitted() {
            return Ok(shared);
        }
        let mut left = CpuSet::new();
        for core in others {
            left.set(*core);
        }
        sched_setaffinity(None, &left)?;
        Ok(Self { asked, asking, layout: "the asked node and its clients on half of the cores, clients first" })
    }
}
