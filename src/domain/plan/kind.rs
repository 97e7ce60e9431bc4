//! What a plan does: its kinds, and what follows from each.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::domain::readmission::Terms;
use crate::domain::time::{Seconds, Timestamp};

/// What is done with all that is selected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PlanKind {
    /// Workers, perhaps until a time, at which they come back by themselves.
    Isolate { until: Option<Timestamp> },
    /// The inverse of `Isolate`.
    Release,
    /// Keys and static secrets, with the tokens that were made from them, and the enrollment secrets of the scope.
    RevokeAll,
    /// Enrollment secrets alone.
    DisableEnrollment,
    /// API keys: each is good until the overlap ends, and is to have a successor by then.
    RotateAll { overlap: Seconds, delivery: Delivery },
    /// Enrollment secrets: the same; their successors are collected.
    RotateEnrollment { overlap: Seconds },
    /// The next signing key signs; what the active one has signed is good until the overlap ends.
    RotateSigningKeys { overlap: Seconds },
    /// What each node serves TLS with: where it has an authority of its own, it makes another certificate; where the files are
    /// from elsewhere, it is done once they are others.
    RotateTlsCertificates,
    /// What `RevokeAll` would revoke, by fences alone, and without a record of each.
    Fence,
    /// Isolated workers, let back in wave by wave.
    Readmit(Arc<Terms>),
}

/// How new keys get to those who need them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Delivery {
    /// To the operator who applies the plan, and who hands them out.
    File,
    /// Each worker rotates its own key, with that key, while it overlaps.
    Fetch,
}

/// Every name that [`PlanKind::name`] gives.
pub const PLAN_KINDS: [&str; 10] = [
    "isolate",
    "release",
    "revoke_all",
    "disable_enrollment",
    "rotate_all",
    "rotate_enrollment",
    "rotate_signing_keys",
    "rotate_tls_certificates",
    "fence",
    "readmit",
];

impl PlanKind {
    /// The stable name, in the API and on disk.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            PlanKind::Isolate { .. } => "isolate",
            PlanKind::Release => "release",
            PlanKind::RevokeAll => "revoke_all",
            PlanKind::DisableEnrollment => "disable_enrollment",
            PlanKind::RotateAll { .. } => "rotate_all",
            PlanKind::RotateEnrollment { .. } => "rotate_enrollment",
            PlanKind::RotateSigningKeys { .. } => "rotate_signing_keys",
            PlanKind::RotateTlsCertificates => "rotate_tls_certificates",
            PlanKind::Fence => "fence",
            PlanKind::Readmit(_) => "readmit",
        }
    }

    /// How long what is rotated stays good.
    #[must_use]
    pub fn overlap(&self) -> Option<Seconds> {
        match self {
            PlanKind::RotateAll { overlap, .. }
            | PlanKind::RotateEnrollment { overlap }
            | PlanKind::RotateSigningKeys { overlap } => Some(*overlap),
            PlanKind::Readmit(terms) => (terms.delivery == Delivery::Fetch).then_some(terms.overlap),
            PlanKind::Isolate { .. }
            | PlanKind::Release
            | PlanKind::RevokeAll
            | PlanKind::DisableEnrollment
            | PlanKind::RotateTlsCertificates
            | PlanKind::Fence => None,
        }
    }

    #[must_use]
    pub fn delivery(&self) -> Option<Delivery> {
        match self {
            PlanKind::RotateAll { delivery, .. } => Some(*delivery),
            PlanKind::RotateEnrollment { .. } => Some(Delivery::File),
            PlanKind::Readmit(terms) => Some(terms.delivery),
            PlanKind::Isolate { .. }
            | PlanKind::Release
            | PlanKind::RevokeAll
            | PlanKind::DisableEnrollment
            | PlanKind::RotateSigningKeys { .. }
            | PlanKind::RotateTlsCertificates
            | PlanKind::Fence => None,
        }
    }

    #[must_use]
    pub fn until(&self) -> Option<Timestamp> {
        match self {
            PlanKind::Isolate { until } => *until,
            PlanKind::Release
            | PlanKind::RevokeAll
            | PlanKind::DisableEnrollment
            | PlanKind::RotateAll { .. }
            | PlanKind::RotateEnrollment { .. }
            | PlanKind::RotateSigningKeys { .. }
            | PlanKind::RotateTlsCertificates
            | PlanKind::Fence
            | PlanKind::Readmit(_) => None,
        }
    }

    /// On what terms workers come back.
    #[must_use]
    pub fn terms(&self) -> Option<&Terms> {
        match self {
            PlanKind::Readmit(terms) => Some(terms),
            _ => None,
        }
    }

    /// Whether its items are recorded, one by one or by lists, once the plan was applied.
    #[must_use]
    pub fn records_items(&self) -> bool {
        !matches!(self, PlanKind::RotateSigningKeys { .. } | PlanKind::RotateTlsCertificates | PlanKind::Fence)
    }

    /// Whether somebody may be refused who was accepted before.
    #[must_use]
    pub fn reduces_access(&self) -> bool {
        match self {
            PlanKind::Isolate { .. }
            | PlanKind::RevokeAll
            | PlanKind::DisableEnrollment
            | PlanKind::RotateAll { .. }
            | PlanKind::RotateEnrollment { .. }
            | PlanKind::RotateSigningKeys { .. }
            | PlanKind::Fence => true,
            // What a released worker held before is ended with its own record; and clients know the authority, and not the
            // certificate.
            PlanKind::Release | PlanKind::RotateTlsCertificates | PlanKind::Readmit(_) => false,
        }
    }
}

impl Delivery {
    pub const ALL: [Delivery; 2] = [Delivery::File, Delivery::Fetch];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Delivery::File => "file",
            Delivery::Fetch => "fetch",
        }
    }
}
