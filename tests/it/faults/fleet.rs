//! The nodes of a run: real processes, each with a wire of its own to the one Postgres.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::cluster::{PrivateCluster, free_port};
use crate::support::service::{Launch, Service};
use crate::support::wire::Wire;

/// The shortest there is: what is waited out is waited out often.
pub(super) const MAX_STALE: Duration = Duration::from_secs(1);
/// A node that cannot start while the database is down tries again, as whatever keeps it running would see to.
const START_PATIENCE: Duration = Duration::from_secs(60);
const START_PAUSE: Duration = Duration::from_millis(200);

pub(super) struct FleetNode {
    pub(super) number: usize,
    pub(super) service: Service,
    pub(super) wire: Wire,
    how: How,
}

/// How a node is started; and started again, where clients look for it.
struct How {
    number: usize,
    port: u16,
    url: String,
    owner_url: String,
    root_key: Option<String>,
}

impl How {
    fn launch(&self) -> Launch {
        let launch = Launch::on_urls(&self.url, &self.owner_url)
            .port(self.port)
            .flag("--disable-tls")
            .argument("--node-name", &format!("node-{}", self.number))
            .argument("--max-stale", &format!("{}s", MAX_STALE.as_secs()));
        match &self.root_key {
            Some(file) => launch.argument("--root-key-file", file),
            None => launch,
        }
    }
}

/// The first makes the root key and the first operator; the others are given both.
pub(super) async fn start(cluster: &PrivateCluster, count: usize) -> Vec<FleetNode> {
    let first = FleetNode::start(cluster, 0, None).await;
    let others = (1..count).map(|number| FleetNode::start(cluster, number, Some(&first)));
    let others = futures_util::future::join_all(others).await;
    std::iter::once(first).chain(others).collect()
}

impl FleetNode {
    async fn start(cluster: &PrivateCluster, number: usize, first: Option<&Self>) -> Self {
        let wire = Wire::start(cluster.socket()).await;
        let root_key = first.map(|first| first.service.file("root.key").to_str().unwrap().to_owned());
        let (url, owner_url) = (PrivateCluster::url_on(wire.port), cluster.owner_url());
        let how = How { number, port: free_port(), url, owner_url, root_key };
        let mut service = how.launch().start().await;
        if let Some(first) = first {
            service.token.clone_from(&first.service.token);
        }
        Self { number, service, wire, how }
    }

    pub(super) fn pause(&self) {
        self.signal(Signal::STOP);
    }

    pub(super) fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.service.pid().cast_signed()).unwrap(), signal).unwrap();
    }

    pub(super) fn kill(&mut self) {
        self.service.kill();
    }

    /// On the files of the one that was killed.
    pub(super) async fn start_again(&mut self) {
        let give_up = Instant::now() + START_PATIENCE;
        let token = self.service.token.clone();
        loop {
            match self.how.launch().data_dir_of(&self.service).try_start().await {
                Ok(service) => {
                    self.service = service;
                    self.service.token = token;
                    return;
                }
                Err(log) => assert!(Instant::now() < give_up, "node {} does not start again:\n{log}", self.number),
            }
            tokio::time::sleep(START_PAUSE).await;
        }
    }
}
