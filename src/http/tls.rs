//! What the listener proves itself with: certificate and key, from files that others renew or from an authority of
//! our own, and taken up again while the service runs.

mod authority;
pub mod recording;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use axum_server::tls_rustls::RustlsConfig;
use chrono::{DateTime, Utc};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;
use zeroize::Zeroizing;

use self::authority::Authority;
use crate::domain::certificate::CertificateOrigin;

/// How often the files are looked at. By content, not by time stamp or file system event: Kubernetes swaps a symbolic
/// link, and network file systems report nothing.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// The certificate in force. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Tls {
    source: Source,
    config: RustlsConfig,
    in_force: Arc<ArcSwap<InForce>>,
    changes: Arc<watch::Sender<()>>,
    /// Held while files are read and taken up: of two who do so at once, the one who has read the older would come last.
    reloading: Arc<Mutex<()>>,
}

#[derive(Debug)]
struct InForce {
    digest: blake3::Hash,
    leaf: Leaf,
}

/// The node's own certificate.
#[derive(Clone, Copy, Debug)]
struct Leaf {
    /// SHA-256 of its DER.
    fingerprint: [u8; 32],
    not_after: DateTime<Utc>,
}

/// What clients are shown.
#[derive(Clone, Copy, Debug)]
pub struct Served {
    /// SHA-256 of the certificate's DER.
    pub fingerprint: [u8; 32],
    pub not_after: DateTime<Utc>,
    pub origin: CertificateOrigin,
}

/// Where certificate and key are from.
#[derive(Clone, Debug)]
enum Source {
    Files { cert: PathBuf, key: PathBuf },
    Authority(Authority),
}

/// A certificate chain and the key that belongs to it.
struct Identity {
    digest: blake3::Hash,
    leaf: Leaf,
    config: Arc<ServerConfig>,
}

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write {}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{} holds no certificate; it must be PEM, the server's own certificate first", path.display())]
    NoCertificate { path: PathBuf },
    #[error("{} holds no private key; it must be PEM, and not encrypted", path.display())]
    NoKey { path: PathBuf },
    #[error("the certificate of {} and the key of {} cannot serve: {source}", cert.display(), key.display())]
    Unfit { cert: PathBuf, key: PathBuf, source: rustls::Error },
    #[error(
        "{} is no authority of ours any more: {what}; move it away and restart, and give clients the new ca.pem",
        path.display()
    )]
    Authority { path: PathBuf, what: &'static str },
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
}

impl Tls {
    /// Takes certificate and key from files that somebody else renews.
    pub fn from_files(cert: PathBuf, key: PathBuf, now: DateTime<Utc>) -> Result<Self, TlsError> {
        Self::open(Source::Files { cert, key }, now)
    }

    /// Takes them from an authority of our own under `dir`, made if there is none, for these `names`.
    pub fn own_authority(dir: PathBuf, names: Vec<String>, now: DateTime<Utc>) -> Result<Self, TlsError> {
        Self::open(Source::Authority(Authority::new(dir, names)), now)
    }

    /// Whether there is an authority of our own under `dir` already.
    pub fn has_authority(dir: &Path) -> bool {
        authority::file(dir).exists()
    }

    /// The files under `dir` that hold a private key of our own.
    pub fn private_files(dir: &Path) -> [PathBuf; 2] {
        [authority::file(dir), authority::server_file(dir)]
    }

    fn open(source: Source, now: DateTime<Utc>) -> Result<Self, TlsError> {
        let Identity { digest, leaf, config } = source.load(now)?;
        let in_force = Arc::new(ArcSwap::from_pointee(InForce { digest, leaf }));
        let (config, changes) = (RustlsConfig::from_config(config), Arc::new(watch::Sender::new(())));
        Ok(Self { source, config, in_force, changes, reloading: Arc::default() })
    }

    /// The SHA-256 of the certificate in force, as `openssl x509 -fingerprint -sha256` prints it.
    pub fn fingerprint(&self) -> String {
        let pairs: Vec<_> = self.in_force.load().leaf.fingerprint.iter().map(|byte| format!("{byte:02X}")).collect();
        pairs.join(":")
    }

    /// What clients are shown at the moment.
    pub fn served(&self) -> Served {
        let Leaf { fingerprint, not_after } = self.in_force.load().leaf;
        let origin = match self.source {
            Source::Files { .. } => CertificateOrigin::Files,
            Source::Authority(_) => CertificateOrigin::OwnAuthority,
        };
        Served { fingerprint, not_after, origin }
    }

    /// Hears of each certificate that is taken up.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Takes up another certificate of the own authority, though the old one is good still. Files of others stay as they are.
    ///
    /// It writes files and computes signatures: not on the async runtime.
    pub fn renew(&self, now: DateTime<Utc>) -> Result<(), TlsError> {
        if let Source::Authority(authority) = &self.source {
            authority.renew(now)?;
        }
        self.reload(now).map(drop)
    }

    /// The file that clients verify us by, where the authority is our own.
    pub fn ca_file(&self) -> Option<PathBuf> {
        match &self.source {
            Source::Files { .. } => None,
            Source::Authority(authority) => Some(authority.ca_file()),
        }
    }

    pub(super) fn config(&self) -> RustlsConfig {
        self.config.clone()
    }

    /// Takes up what has changed. `false` when nothing has. On an error the certificate in force stays.
    ///
    /// It reads files and computes signatures: not on the async runtime.
    pub fn reload(&self, now: DateTime<Utc>) -> Result<bool, TlsError> {
        let _alone = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        let Identity { digest, leaf, config } = self.source.load(now)?;
        if digest == self.in_force.load().digest {
            return Ok(false);
        }
        // Never `reload_from_pem`: it would build a configuration of its own, without the settings made here.
        self.config.reload_from_config(config);
        self.in_force.store(Arc::new(InForce { digest, leaf }));
        self.changes.send_replace(());
        Ok(true)
    }

    /// Reloads whenever the files change, and at once on SIGHUP, until it is dropped.
    pub async fn watch(self) -> io::Result<()> {
        let mut hangup = signal(SignalKind::hangup())?;
        let mut ticks = tokio::time::interval(CHECK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut trouble = Trouble::default();
        loop {
            let asked = tokio::select! {
                _ = ticks.tick() => false,
                _ = hangup.recv() => true,
            };
            let tls = self.clone();
            let Ok(outcome) = tokio::task::spawn_blocking(move || tls.reload(Utc::now())).await else { continue };
            if trouble.is_news(&outcome, asked) {
                match outcome {
                    Ok(true) => tracing::info!(fingerprint = %self.fingerprint(), "Took up the new certificate"),
                    Ok(false) => tracing::info!(fingerprint = %self.fingerprint(), "The certificate is unchanged"),
                    Err(error) => tracing::error!(%error, "Kept the old certificate, as the new one cannot be used"),
                }
            }
        }
    }
}

/// Decides what of the watching is worth a log line: each trouble once, and not the instant in which a certificate has
/// been replaced already and its key not yet.
#[derive(Debug, Default)]
struct Trouble {
    text: Option<String>,
    told: bool,
}

impl Trouble {
    fn is_news(&mut self, outcome: &Result<bool, TlsError>, asked: bool) -> bool {
        match outcome {
            Ok(changed) => {
                *self = Self::default();
                *changed || asked
            }
            Err(error) => {
                let text = error.to_string();
                let stands = self.text.as_ref() == Some(&text);
                let news = asked || (stands && !self.told);
                *self = Self { told: news || (stands && self.told), text: Some(text) };
                news
            }
        }
    }
}

impl Source {
    fn load(&self, now: DateTime<Utc>) -> Result<Identity, TlsError> {
        match self {
            Source::Files { cert, key } => Identity::read(cert, key),
            Source::Authority(authority) => {
                let server = authority.ensure(now)?;
                Identity::read(&server, &server)
            }
        }
    }
}

impl Identity {
    fn read(cert: &Path, key: &Path) -> Result<Self, TlsError> {
        let (cert_pem, key_pem) = (read(cert)?, read(key)?);
        let chain = certificates(&cert_pem);
        let no_certificate = || TlsError::NoCertificate { path: cert.to_owned() };
        let leaf = chain.first().and_then(Leaf::of).ok_or_else(no_certificate)?;
        let private = PrivateKeyDer::from_pem_slice(&key_pem).map_err(|_| TlsError::NoKey { path: key.to_owned() })?;
        let mut hasher = blake3::Hasher::new();
        hasher.update(&(cert_pem.len() as u64).to_le_bytes()).update(&cert_pem).update(&key_pem);
        let config = server_config(chain, private).map_err(|source| TlsError::Unfit {
            cert: cert.to_owned(),
            key: key.to_owned(),
            source,
        })?;
        Ok(Self { digest: hasher.finalize(), leaf, config: Arc::new(config) })
    }
}

/// Refuses a key that does not belong to the certificate: rustls compares the two.
fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // A fleet that comes back after an outage resumes its sessions, instead of signing a handshake for each worker.
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
    Ok(config)
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    let bytes = std::fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source })?;
    Ok(Zeroizing::new(bytes))
}

/// The certificates of a PEM text, as far as it can be read; other things in it, such as keys, are passed over.
fn certificates(pem: &[u8]) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem).map_while(Result::ok).collect()
}

impl Leaf {
    /// `None` of what is no certificate.
    fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, certificate);
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let not_after = DateTime::from_timestamp(parsed.validity().not_after.timestamp(), 0)?;
        Some(Self { fingerprint: digest.as_ref().try_into().ok()?, not_after })
    }
}

#[cfg(test)]
mod tests;
