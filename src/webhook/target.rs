//! Where a message may be sent, and sending it.
//!
//! Whoever may make a webhook chooses an address that the service then calls: it must not reach what trusts a machine for
//! being where it is. The metadata services of clouds are such, at link-local addresses; these are refused, by whatever name.
//! Private addresses are not: receivers mostly run beside the service.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;

use super::message::Message;

/// As Standard Webhooks recommends: a receiver takes a message, and works on it afterwards.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// The metadata services that are not at link-local addresses.
const METADATA: [IpAddr; 5] = [
    // Of AWS, and of Google Cloud, by IPv6.
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x0254)),
    // Of Alibaba Cloud, of Azure (its WireServer), and of Oracle Cloud.
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
];

/// Why a URL is no webhook's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotATarget {
    #[error("it is no URL")]
    Url,
    #[error("https:// only; http:// is for this machine's own loopback")]
    Scheme,
    #[error("without a user, a password or a fragment: it stands in the log, which is no place for secrets")]
    Parts,
    #[error("addresses that are link-local, or of a cloud's metadata service, are not called")]
    Address,
}

/// How an attempt failed, in words of ours: never what the receiver said.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    #[error("status {0}")]
    Status(u16),
    #[error("no answer in time")]
    Timeout,
    #[error("no connection")]
    Connect,
    #[error("the request failed")]
    Other,
}

impl SendError {
    /// Whether the receiver refused this message for what it is, so that another may be taken: RFC 9110, sections 15.5.1,
    /// 15.5.14, 15.5.16 and 15.5.21. What is unauthorized, not found or gone is a matter of the receiver, and mended there.
    #[must_use]
    pub fn is_of_the_message(&self) -> bool {
        matches!(self, SendError::Status(400 | 413 | 415 | 422))
    }
}

/// Sends messages. Cheap to clone.
#[derive(Clone)]
pub struct Sender {
    http: reqwest::Client,
}

#[derive(Debug, thiserror::Error)]
pub enum SenderError {
    #[error("cannot read {0}: {1}")]
    File(std::path::PathBuf, std::io::Error),
    #[error("no client for webhooks could be made: {0}")]
    Client(#[from] reqwest::Error),
}

/// The URL, if messages may be sent there.
pub fn target(text: &str) -> Result<Url, NotATarget> {
    let url: Url = text.parse().map_err(|_| NotATarget::Url)?;
    let literal = url.host_str().and_then(|host| host.trim_matches(['[', ']']).parse::<IpAddr>().ok());
    let is_loopback = literal.is_some_and(|address| address.to_canonical().is_loopback());
    match url.scheme() {
        "https" => {}
        "http" if is_loopback => {}
        _ => return Err(NotATarget::Scheme),
    }
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err(NotATarget::Parts);
    }
    if literal.is_some_and(is_refused) {
        return Err(NotATarget::Address);
    }
    Ok(url)
}

fn is_refused(address: IpAddr) -> bool {
    let address = address.to_canonical();
    if let IpAddr::V6(v6) = address
        && let Some(v4) = behind(v6)
    {
        return is_refused(IpAddr::V4(v4));
    }
    let of_its_family = match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    of_its_family || address.is_unspecified() || address.is_multicast() || METADATA.contains(&address)
}

/// The IPv4 address that a translator sends on to what comes to this one: at its end (RFC 6052, and RFC 8215 for local ones),
/// or behind its prefix (6to4, RFC 3056).
fn behind(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let (high, low) = match address.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x64, 0xff9b, 1, _, _, _, high, low] => (high, low),
        [0x2002, high, low, ..] => (high, low),
        _ => return None,
    };
    let [[a, b], [c, d]] = [high.to_be_bytes(), low.to_be_bytes()];
    Some(Ipv4Addr::new(a, b, c, d))
}

/// Names are looked up here, so that none leads to an address that would have been refused.
struct Guarded;

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            if found.iter().any(|address| is_refused(address.ip())) {
                return Err(NotATarget::Address.into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

impl Sender {
    /// Trusts the authorities of the system, and those of the file.
    pub fn new(ca_file: Option<&Path>) -> Result<Self, SenderError> {
        // Where the system has none, the service starts all the same: not everybody has webhooks.
        let system = rustls_native_certs::load_native_certs().certs;
        // Nor does one odd certificate among a hundred keep it from starting: what rustls would refuse is left out.
        let fits = |der: &&CertificateDer<'static>| RootCertStore::empty().add((*der).clone()).is_ok();
        let system = system.iter().filter(fits);
        let mut trusted: Vec<_> = system.filter_map(|der| reqwest::Certificate::from_der(der).ok()).collect();
        if let Some(path) = ca_file {
            let pem = std::fs::read(path).map_err(|error| SenderError::File(path.to_owned(), error))?;
            trusted.extend(reqwest::Certificate::from_pem_bundle(&pem)?);
        }
        let builder = reqwest::Client::builder()
            .user_agent(concat!("portcullis/", env!("CARGO_PKG_VERSION")))
            .timeout(TIMEOUT)
            .dns_resolver(std::sync::Arc::new(Guarded))
            // A proxy would look names up by itself, and a redirect leads to where nobody has looked.
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .tls_certs_only(trusted);
        Ok(Self { http: builder.build()? })
    }

    /// One attempt; the status of a success. What the receiver says beside its status is not read.
    pub async fn send(&self, url: &str, secret: &[u8], message: &Message, unix_seconds: i64) -> Result<u16, SendError> {
        let url = target(url).map_err(|_| SendError::Other)?;
        let request = self
            .http
            .post(url)
            .header("content-type", "application/json")
            .header("webhook-id", &message.id)
            .header("webhook-timestamp", unix_seconds)
            .header("webhook-signature", message.signature(secret, unix_seconds))
            .body(message.body.clone());
        let response = request.send().await.map_err(|error| match error {
            error if error.is_timeout() => SendError::Timeout,
            error if error.is_connect() => SendError::Connect,
            _ => SendError::Other,
        })?;
        let status = response.status();
        if status.is_success() { Ok(status.as_u16()) } else { Err(SendError::Status(status.as_u16())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_called_is_told_by_the_url() {
        for (url, expected) in [
            ("https://hooks.example.org/in?x=1", Ok(())),
            ("https://10.1.2.3:8443/", Ok(())),
            ("http://127.0.0.1:9000/", Ok(())),
            ("http://[::1]:9000/", Ok(())),
            ("https://[fd12::1]/", Ok(())),
            ("http://hooks.example.org/", Err(NotATarget::Scheme)),
            ("http://localhost/", Err(NotATarget::Scheme)),
            ("ftp://127.0.0.1/", Err(NotATarget::Scheme)),
            ("https://user:pass@hooks.example.org/", Err(NotATarget::Parts)),
            ("https://hooks.example.org/#x", Err(NotATarget::Parts)),
            ("https://169.254.169.254/latest", Err(NotATarget::Address)),
            ("https://0xa9fea9fe/", Err(NotATarget::Address)),
            ("https://[::ffff:169.254.169.254]/", Err(NotATarget::Address)),
            ("https://[64:ff9b::a9fe:a9fe]/", Err(NotATarget::Address)),
            ("https://[64:ff9b::c000:207]/", Ok(())),
            ("https://[fe80::1]/", Err(NotATarget::Address)),
            ("https://[fd00:ec2::254]/", Err(NotATarget::Address)),
            ("https://[64:ff9b:1::a9fe:a9fe]/", Err(NotATarget::Address)),
            ("https://[2002:a9fe:a9fe::1]/", Err(NotATarget::Address)),
            ("https://[fd20:ce::254]/", Err(NotATarget::Address)),
            ("https://100.100.100.200/", Err(NotATarget::Address)),
            ("https://168.63.129.16/", Err(NotATarget::Address)),
            ("https://192.0.0.192/", Err(NotATarget::Address)),
            ("https://0.0.0.0/", Err(NotATarget::Address)),
            ("nowhere", Err(NotATarget::Url)),
        ] {
            assert_eq!(target(url).map(drop), expected, "{url}");
        }
    }
}
