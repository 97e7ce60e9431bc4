//! Events of netguard's list on disk.
//!
//! 2026-11-22: `netguard.address_added` and `netguard.address_removed`, schema 1.

use serde::{Deserialize, Serialize};

use super::Frozen;
use crate::domain::event::Event;
use crate::domain::netguard::{Listing, NetguardEvent};
use crate::log::entry::EntryError;
use crate::log::text::Text;
use ipnet::IpNet;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AddedV1<'a> {
    #[serde(borrow)]
    list: Text<'a>,
    #[serde(borrow)]
    network: Text<'a>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RemovedV1<'a> {
    #[serde(borrow)]
    network: Text<'a>,
}

impl AddedV1<'_> {
    pub(super) fn new(network: IpNet, listing: Listing) -> Self {
        Self { list: Text::borrowed(listing.as_str()), network: Text::of(&network) }
    }

    pub(super) fn added(&self) -> Result<Event, EntryError> {
        let (network, listing) = (self.network.parse_exact("network")?, self.list.parse("list")?);
        Ok(Event::Netguard(NetguardEvent::AddressAdded { network, listing }))
    }
}

impl RemovedV1<'_> {
    pub(super) fn new(network: IpNet) -> Self {
        Self { network: Text::of(&network) }
    }

    pub(super) fn removed(&self) -> Result<Event, EntryError> {
        Ok(Event::Netguard(NetguardEvent::AddressRemoved { network: self.network.parse_exact("network")? }))
    }
}

impl<'a> Frozen<'a> for AddedV1<'a> {
    fn subject(&self) -> (&'static str, &str) {
        ("network", self.network.as_str())
    }
}

impl<'a> Frozen<'a> for RemovedV1<'a> {
    fn subject(&self) -> (&'static str, &str) {
        ("network", self.network.as_str())
    }
}
