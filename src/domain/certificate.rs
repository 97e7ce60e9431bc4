//! The certificates that nodes prove themselves with to clients: for the record, and so that a plan can replace them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::key::Digest;
use super::time::Timestamp;

/// Names of nodes that are kept: where each start brings a new name, old ones go when their certificates end, or when they
/// are too many.
pub const CERTIFICATES_MAX: usize = 1_024;

/// Where a node has its certificate from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CertificateOrigin {
    /// Files that somebody else renews. A plan cannot: it is done once the files are others.
    Files,
    /// The node's own authority, which makes another when it is asked to.
    OwnAuthority,
}

/// What a node serves with from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateServed {
    /// The name of the node. Two of one name are seen as one.
    pub node: Arc<str>,
    /// SHA-256 of the certificate, in DER.
    pub fingerprint: Digest,
    pub not_after: Timestamp,
    pub origin: CertificateOrigin,
}

/// The same, in its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    pub served: CertificateServed,
    pub position: u64,
    pub at: Timestamp,
}

impl CertificateOrigin {
    pub const ALL: [Self; 2] = [Self::Files, Self::OwnAuthority];

    /// The stable name, in the API and on disk.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Files => "files",
            Self::OwnAuthority => "own_authority",
        }
    }
}
