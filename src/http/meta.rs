//! What every request has: an id, and an address that it came from.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::http::{Extensions, HeaderMap};
use ipnet::IpNet;
use uuid::fmt::Simple;

use crate::command::mint;

/// The longest request id that is taken over from a caller.
const REQUEST_ID_CHARS_MAX: usize = 128;
/// How many hops of `X-Forwarded-For` are looked at: more proxies than anyone chains.
const FORWARDED_HOPS_MAX: usize = 16;

#[derive(Clone, Debug)]
pub struct Meta {
    pub request_id: Arc<str>,
    /// The peer's address, or what a configured proxy says it was (H32).
    pub source: Option<IpAddr>,
    /// Whether a configured proxy said so.
    is_forwarded: bool,
}

impl Meta {
    /// Made once for each request, by the outermost layer.
    pub(super) fn make(headers: &HeaderMap, peer: Option<SocketAddr>, trusted_proxies: &[IpNet]) -> Self {
        let peer = peer.map(|peer| peer.ip().to_canonical());
        let source = peer.map(|peer| source(peer, headers, trusted_proxies));
        Self { request_id: request_id(headers), source, is_forwarded: source != peer }
    }

    /// What the outermost layer made.
    pub(super) fn of(extensions: &Extensions) -> Self {
        extensions.get::<Self>().cloned().unwrap_or_else(|| Self {
            request_id: "".into(),
            source: None,
            is_forwarded: false,
        })
    }

    /// The address that a configured proxy told; `None` where it is the peer's own, who asks about a request that is not its
    /// own.
    pub(super) fn forwarded(&self) -> Option<IpAddr> {
        self.source.filter(|_| self.is_forwarded)
    }
}

/// The caller's `X-Request-Id` if it can be taken over, or else one of ours.
fn request_id(headers: &HeaderMap) -> Arc<str> {
    let given = headers.get("x-request-id").and_then(|value| value.to_str().ok());
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    match given {
        Some(id) if (1..=REQUEST_ID_CHARS_MAX).contains(&id.len()) && id.bytes().all(plain) => id.into(),
        _ => (&*mint::id().as_simple().encode_lower(&mut [0; Simple::LENGTH])).into(),
    }
}

/// From the right of `X-Forwarded-For`, the first address that is no proxy of ours. Whatever stands left of it, anybody
/// may have written.
fn source(peer: IpAddr, headers: &HeaderMap, trusted_proxies: &[IpNet]) -> IpAddr {
    let trusted = |address: &IpAddr| trusted_proxies.iter().any(|proxy| proxy.contains(address));
    if !trusted(&peer) {
        return peer;
    }
    let lines = headers.get_all("x-forwarded-for").iter().rev();
    let hops = lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.rsplit(','));
    let mut nearest = peer;
    for hop in hops.take(FORWARDED_HOPS_MAX) {
        let Ok(address) = hop.trim().parse::<IpAddr>() else { break };
        nearest = address.to_canonical();
        if !trusted(&nearest) {
            break;
        }
    }
    nearest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwarded_headers_count_only_from_configured_proxies() {
        let table = [
            ("192.0.2.1", "203.0.113.9", "192.0.2.1"),
            ("10.0.0.1", "203.0.113.9", "203.0.113.9"),
            ("10.0.0.1", "1.2.3.4, 203.0.113.9", "203.0.113.9"),
            ("10.0.0.1", "1.2.3.4, 203.0.113.9, 10.0.0.2", "203.0.113.9"),
            ("10.0.0.1", "rubbish", "10.0.0.1"),
            ("10.0.0.1", "203.0.113.9, rubbish, 10.0.0.2", "10.0.0.2"),
            ("10.0.0.1", "", "10.0.0.1"),
        ];
        let proxies = ["10.0.0.0/8".parse().unwrap()];
        for (peer, forwarded, expected) in table {
            let mut headers = HeaderMap::new();
            headers.insert("x-forwarded-for", forwarded.parse().unwrap());
            let peer = SocketAddr::new(peer.parse().unwrap(), 1);
            let meta = Meta::make(&headers, Some(peer), &proxies);
            let peer = peer.ip();
            let expected: IpAddr = expected.parse().unwrap();
            assert_eq!(meta.source, Some(expected), "{peer} forwards for {forwarded}");
            assert_eq!(meta.forwarded(), (expected != peer).then_some(expected), "{peer}");
        }
    }

    #[test]
    fn a_request_id_is_taken_over_only_if_it_is_plain() {
        for (given, taken) in [("abc-1", true), ("", false), ("a b", false), ("a\"b", false)] {
            let mut headers = HeaderMap::new();
            headers.insert("x-request-id", given.parse().unwrap());
            assert_eq!(&*request_id(&headers) == given, taken, "{given:?}");
        }
    }
}
