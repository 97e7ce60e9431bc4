//! Netguard's list: networks that operators have blocked, or excepted from every block. What follows from isolations is
//! not listed, but asked for when it is needed.

use std::fmt;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::time::Timestamp;

/// Networks on the list: what a responder adds by hand or by a script. A million would be a firewall's own business.
pub const NETWORKS_MAX: usize = 4_096;
/// A block of more than this is a slip of the keyboard, and would cut off whoever could take it back.
pub const V4_PREFIX_MIN: u8 = 8;
pub const V6_PREFIX_MIN: u8 = 16;

/// Which of the two lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Listing {
    /// Its packets are dropped.
    Blocked,
    /// They are not, whoever is isolated there.
    Excepted,
}

/// A network on the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    pub listing: Listing,
    /// The position of the event that put it there.
    pub added: u64,
    pub added_at: Timestamp,
}

/// What happened to the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetguardEvent {
    AddressAdded { network: IpNet, listing: Listing },
    AddressRemoved { network: IpNet },
}

/// What is wished of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetguardCommand {
    Add { network: IpNet, listing: Listing },
    Remove { network: IpNet },
}

impl NetguardEvent {
    #[must_use]
    pub fn network(&self) -> IpNet {
        match self {
            NetguardEvent::AddressAdded { network, .. } | NetguardEvent::AddressRemoved { network } => *network,
        }
    }
}

impl Listing {
    pub const ALL: [Listing; 2] = [Listing::Blocked, Listing::Excepted];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Listing::Blocked => "blocked",
            Listing::Excepted => "excepted",
        }
    }
}

impl fmt::Display for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`blocked` or `excepted`")]
pub struct NotAListing;

impl FromStr for Listing {
    type Err = NotAListing;

    fn from_str(text: &str) -> Result<Self, NotAListing> {
        Listing::ALL.into_iter().find(|listing| listing.as_str() == text).ok_or(NotAListing)
    }
}
