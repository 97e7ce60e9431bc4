//! The certificates of the nodes, and up to which event a plan asks for others.

use std::sync::Arc;

use super::Roll;
use super::evolve::Origin;
use crate::domain::certificate::{CERTIFICATES_MAX, Certificate, CertificateServed};
use crate::domain::ids::{IncidentId, PlanId};
use crate::domain::plan::PlanKind;

impl Roll {
    /// What the node of this name serves with.
    #[must_use]
    pub fn certificate(&self, node: &str) -> Option<&Certificate> {
        self.certificates.get(node).map(AsRef::as_ref)
    }

    /// In the order of the nodes' names.
    pub fn certificates(&self) -> impl Iterator<Item = &Certificate> {
        self.certificates.values().map(AsRef::as_ref)
    }

    /// The position of the newest plan that was applied to replace them; 0 before there was one. What was served before it is
    /// to be replaced.
    #[must_use]
    pub fn certificates_due(&self) -> u64 {
        self.certificates_due
    }

    /// The incident for which the node's certificate is to be replaced, if it is.
    #[must_use]
    pub fn incident_of_certificate(&self, node: &str) -> Option<&IncidentId> {
        let is_due = self.certificate(node).is_some_and(|known| known.position < self.certificates_due);
        self.certificates_for.as_ref().filter(|_| is_due)
    }

    /// What was served before this plan was applied is to be replaced.
    pub(super) fn want_certificates(&mut self, plan: PlanId, position: u64, incident: Option<&IncidentId>) {
        if self.plan(plan).is_some_and(|plan| plan.kind == PlanKind::RotateTlsCertificates) {
            (self.certificates_due, self.certificates_for) = (position, incident.cloned());
        }
    }

    /// By the time of the record, and not of the clock, as everything that is forgotten.
    pub(super) fn serve_certificate(&mut self, origin: Origin, served: &CertificateServed) {
        let ended = self.certificates.values().filter(|known| known.served.not_after <= origin.at);
        for node in ended.map(|known| known.served.node.clone()).collect::<Vec<_>>() {
            self.certificates.remove(&node);
        }
        let new = Certificate { served: served.clone(), position: origin.position, at: origin.at };
        self.certificates.insert(served.node.clone(), Arc::new(new));
        if self.certificates.len() > CERTIFICATES_MAX
            && let Some(oldest) = self.certificates.values().min_by_key(|known| known.position).cloned()
        {
            self.certificates.remove(&oldest.served.node);
        }
    }
}
