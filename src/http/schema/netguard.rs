//! What netguard's answers and its list look like.

use serde_json::json;
use utoipa::openapi::schema::Object;

use super::{matching, one_of, or_null};
use crate::domain::netguard::Listing;

/// As `domain::netguard` has it: no loopback, and no network larger than /8, or /16 of IPv6. What is written otherwise, such
/// as `::ffff:1.2.3.4`, is understood too.
const ADDRESS_OR_CIDR: &str = concat!(
    r"^(([1-9]?[0-9]|1[01][0-9]|12[0-68-9]|1[3-9][0-9]|2[0-4][0-9]|25[0-5])",
    r"(\.(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])){3}(/([89]|[12][0-9]|3[0-2]))?",
    "|[1-9a-f][0-9a-f]{0,3}(:[0-9a-f]{1,4}){7}(/(1[6-9]|[2-9][0-9]|1[01][0-9]|12[0-8]))?",
    "|[1-9a-f][0-9a-f]{0,3}(:[0-9a-f]{1,4}){0,5}::(/(1[6-9]|[2-9][0-9]|1[01][0-9]|12[0-8]))?)$"
);

pub(in crate::http) fn address_or_cidr() -> Object {
    let mut address = matching(ADDRESS_OR_CIDR);
    address.examples = vec![json!("192.0.2.7"), json!("2001:db8::/32")];
    address
}

pub(in crate::http) fn netguard_listing_or_null() -> Object {
    or_null(one_of(Listing::ALL.map(Listing::as_str)))
}

pub(in crate::http) fn netguard_with() -> Object {
    one_of(["worker", "operator", "trusted_proxy", "loopback"])
}

pub(in crate::http) fn netguard_version() -> Object {
    matching("^[0-9a-f]{32}$")
}
