//! What has to be added to a set of nftables, and what removed, so that it holds what it should: nothing that others put
//! there is touched. Pure.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};

/// What stands in a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) network: IpNet,
    /// Whether netguard put it there: it carries its mark.
    pub(super) ours: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) add: Vec<IpNet>,
    pub(super) remove: Vec<IpNet>,
}

impl Change {
    /// What makes `have` hold all of `want`, and of ours nothing else.
    pub(super) fn between(have: &[Element], want: &[IpNet]) -> Self {
        // Elements of an interval set do not overlap, whoever put them there.
        let foreign: Vec<IpNet> = have.iter().filter(|element| !element.ours).map(|element| element.network).collect();
        let mut target = Vec::new();
        for network in IpNet::aggregate(&want.iter().map(IpNet::trunc).collect()) {
            without(network, &foreign, &mut target);
        }
        let ours: Vec<IpNet> = have.iter().filter(|element| element.ours).map(|element| element.network).collect();
        let missing = |from: &[IpNet], all: &[IpNet]| {
            let from: std::collections::BTreeSet<IpNet> = from.iter().copied().collect();
            all.iter().copied().filter(|network| !from.contains(network)).collect()
        };
        Self { add: missing(&ours, &target), remove: missing(&target, &ours) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.add.is_empty() && self.remove.is_empty()
    }
}

/// The parts of a network that none of these covers.
fn without(network: IpNet, others: &[IpNet], rest: &mut Vec<IpNet>) {
    if others.iter().any(|other| other.contains(&network)) {
        return;
    }
    let within: Vec<IpNet> = others.iter().copied().filter(|other| network.contains(other)).collect();
    if within.is_empty() {
        return rest.push(network);
    }
    if let Ok(halves) = network.subnets(network.prefix_len() + 1) {
        halves.for_each(|half| without(half, &within, rest));
    }
}

/// The networks that make up a range.
pub(super) fn range(first: IpAddr, last: IpAddr) -> Vec<IpNet> {
    match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => Ipv4Subnets::new(first, last, 0).map(IpNet::V4).collect(),
        (IpAddr::V6(first), IpAddr::V6(last)) => Ipv6Subnets::new(first, last, 0).map(IpNet::V6).collect(),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => Vec::new(),
    }
}

/// An address, or a network.
pub(super) fn network(text: &str) -> Option<IpNet> {
    let alone = || text.parse().ok().map(|address: IpAddr| address.into());
    text.parse().ok().or_else(alone).map(|network: IpNet| network.trunc())
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| network(text).unwrap()).collect()
    }

    fn elements(ours: bool, texts: &[&str]) -> Vec<Element> {
        nets(texts).into_iter().map(|network| Element { network, ours }).collect()
    }

    #[test]
    fn what_others_put_there_is_neither_removed_nor_overlapped() {
        let mut have = elements(true, &["10.0.0.1", "10.0.0.2"]);
        have.extend(elements(false, &["10.0.0.9", "10.1.0.0/25"]));
        let change = Change::between(&have, &nets(&["10.0.0.2", "10.0.0.9", "10.1.0.0/24"]));
        assert_eq!(change, Change { add: nets(&["10.1.0.128/25"]), remove: nets(&["10.0.0.1"]) });
        assert!(Change::between(&elements(true, &["10.0.0.0/31"]), &nets(&["10.0.0.0", "10.0.0.1"])).is_empty());
        assert_eq!(Change::between(&[], &nets(&["10.0.0.0/8", "10.2.0.0/16"])).add, nets(&["10.0.0.0/8"]));
    }

    proptest! {
        /// Whatever stands there: afterwards each address is blocked if it should be or somebody else blocks it, and nothing
        /// overlaps. The addresses of 10.0.0.0/28 stand for all.
        #[test]
        fn the_set_holds_what_it_should(
            ours in vec((0_u8..16, 28_u8..=32), 0..4),
            foreign in vec((0_u8..16, 28_u8..=32), 0..3),
            want in vec((0_u8..16, 28_u8..=32), 0..5),
        ) {
            let net = |&(last, prefix): &(u8, u8)| IpNet::new(IpAddr::from([10, 0, 0, last]), prefix).unwrap().trunc();
            let foreign = IpNet::aggregate(&foreign.iter().map(net).collect());
            let mut before = Vec::new();
            for network in IpNet::aggregate(&ours.iter().map(net).collect()) {
                without(network, &foreign, &mut before);
            }
            let want: Vec<IpNet> = want.iter().map(net).collect();
            let mark = |ours| move |network: &IpNet| Element { network: *network, ours };
            let have: Vec<Element> = before.iter().map(mark(true)).chain(foreign.iter().map(mark(false))).collect();
            let change = Change::between(&have, &want);
            let mut after: Vec<IpNet> = before.into_iter().filter(|network| !change.remove.contains(network)).collect();
            after.extend(&change.add);
            after.extend(&foreign);
            for last in 0..16 {
                let address = IpAddr::from([10, 0, 0, last]);
                let holds = |nets: &[IpNet]| nets.iter().filter(|network| network.contains(&address)).count();
                prop_assert_eq!(holds(&after), usize::from(holds(&want) + holds(&foreign) > 0), "{}: {:?}", address, after);
            }
        }
    }
}
