//! Netguard's list: networks put on it and taken off it.

use ipnet::IpNet;

use super::Decision;
use crate::domain::event::Event;
use crate::domain::netguard::{Listing, NETWORKS_MAX, NetguardCommand, NetguardEvent, V4_PREFIX_MIN, V6_PREFIX_MIN};
use crate::domain::refusal::Refusal;
use crate::domain::roll::Roll;

const LOOPBACK: [&str; 2] = ["127.0.0.0/8", "::1/128"];

pub(super) fn change(roll: &Roll, command: &NetguardCommand) -> Decision {
    let event = match command {
        NetguardCommand::Add { network, listing } => {
            let (network, listing) = (network.trunc(), *listing);
            check(roll, network, listing)?;
            let standing = roll.listed_network(&network);
            let is_new = standing.is_none_or(|standing| standing.listing != listing);
            is_new.then_some(NetguardEvent::AddressAdded { network, listing })
        }
        NetguardCommand::Remove { network } => {
            let network = network.trunc();
            roll.listed_network(&network).map(|_| NetguardEvent::AddressRemoved { network })
        }
    };
    Ok(event.map(Event::Netguard).into_iter().collect())
}

fn check(roll: &Roll, network: IpNet, listing: Listing) -> Result<(), Refusal> {
    let invalid = |message: String| Err(Refusal::Invalid { field: "address", message });
    let shortest = match network {
        IpNet::V4(_) => V4_PREFIX_MIN,
        IpNet::V6(_) => V6_PREFIX_MIN,
    };
    if network.prefix_len() < shortest {
        return invalid(format!("a network of /{shortest} or smaller"));
    }
    if listing == Listing::Blocked
        && LOOPBACK.iter().filter_map(|text| text.parse::<IpNet>().ok()).any(|own| overlap(own, network))
    {
        return invalid("a host that blocks its own loopback breaks; nothing of it comes over the network".to_owned());
    }
    if roll.listed_network(&network).is_none() && roll.listed_networks().count() >= NETWORKS_MAX {
        return invalid(format!("at most {NETWORKS_MAX} networks; remove some, or add larger ones"));
    }
    Ok(())
}

fn overlap(one: IpNet, other: IpNet) -> bool {
    one.contains(&other) || other.contains(&one)
}
