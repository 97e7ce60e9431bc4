//! What netguard asks the Roll: who is isolated, and which networks operators have listed.

use ipnet::IpNet;

use super::Roll;
use crate::domain::netguard::{Listed, NetguardEvent};
use crate::domain::time::Timestamp;
use crate::domain::worker::{Standing, Worker, WorkerIndex, WorkerState};

impl Roll {
    /// Workers that are isolated at `now`, in the order in which they came.
    pub fn isolated_workers(&self, now: Timestamp) -> impl Iterator<Item = &Worker> {
        let of_state = self.isolated.iter().filter_map(|index| self.worker_at(*index));
        of_state.filter(move |worker| worker.standing(now) == Standing::Isolated)
    }

    /// Whether the same workers have the state of isolation, and the same networks are listed: what is quick to ask.
    #[must_use]
    pub fn guards_as(&self, earlier: &Roll) -> bool {
        self.isolated.ptr_eq(&earlier.isolated) && self.netguard.ptr_eq(&earlier.netguard)
    }

    #[must_use]
    pub fn listed_network(&self, network: &IpNet) -> Option<&Listed> {
        self.netguard.get(network)
    }

    /// The networks that operators have listed, in their order.
    pub fn listed_networks(&self) -> impl ExactSizeIterator<Item = (&IpNet, &Listed)> {
        self.netguard.iter()
    }

    /// Changes a worker, and keeps account of who is isolated.
    pub(super) fn with_worker_at(&mut self, index: WorkerIndex, change: impl FnOnce(&mut Worker)) {
        let Some(worker) = self.workers.get_mut(index.0 as usize) else { return };
        change(worker);
        let is_isolated = matches!(worker.state, WorkerState::Isolated { .. });
        if is_isolated && !self.isolated.contains(&index) {
            self.isolated.insert(index);
        } else if !is_isolated && self.isolated.contains(&index) {
            self.isolated.remove(&index);
        }
    }

    pub(super) fn change_netguard(&mut self, position: u64, at: Timestamp, change: &NetguardEvent) {
        match change {
            NetguardEvent::AddressAdded { network, listing } => {
                self.netguard.insert(*network, Listed { listing: *listing, added: position, added_at: at });
            }
            NetguardEvent::AddressRemoved { network } => _ = self.netguard.remove(network),
        }
    }
}
