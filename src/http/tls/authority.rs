//! An authority of our own, for a service that nobody gave a certificate: clients are given one file, `ca.pem`, that
//! stays the same for years, while the server's certificate is remade whenever its names or its end ask for it.
//!
//! In the folder: `authority.pem` (its key and certificate, 0600), `ca.pem` (the certificate alone, for clients) and
//! `server.pem` (the server's key and certificate, 0600). Key and certificate share a file so that one rename
//! replaces both: after a crash they never disagree.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData as _,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;
use zeroize::Zeroizing;

use super::{TlsError, certificates, read};

/// Long enough that nobody hands out the file twice, short enough to end.
const AUTHORITY_DAYS: i64 = 3650;
/// What browsers accept at most, and so what strict clients may come to ask.
const SERVER_DAYS: i64 = 397;
/// The server's certificate is remade this long before its end: a month of a service that is not restarted, or whose
/// clock is off, is covered.
const RENEWAL_DAYS: i64 = 30;
/// Certificates begin in the past, for clients whose clock is behind.
const BACKDATED: TimeDelta = TimeDelta::days(1);

#[derive(Clone, Debug)]
pub(super) struct Authority {
    dir: PathBuf,
    /// DNS names and addresses, as text.
    names: Vec<String>,
}

/// A key and its certificate, as they lie in one file.
struct Pair {
    key: KeyPair,
    certificate: CertificateDer<'static>,
}

impl Authority {
    pub(super) fn new(dir: PathBuf, mut names: Vec<String>) -> Self {
        names.sort_unstable();
        names.dedup();
        Self { dir, names }
    }

    pub(super) fn ca_file(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// Makes what is missing, about to end or no longer fitting. Returns the file with the server's key and
    /// certificate.
    pub(super) fn ensure(&self, now: DateTime<Utc>) -> Result<PathBuf, TlsError> {
        fs::create_dir_all(&self.dir).map_err(|source| TlsError::Write { path: self.dir.clone(), source })?;
        let authority = self.ensure_authority(now)?;
        let server = server_file(&self.dir);
        let fits = match Pair::read(&server) {
            Ok(Some(pair)) => fits(&pair, &authority, &self.names, now),
            // A server certificate of ours that cannot be read is not worth a person's time: it is remade.
            Ok(None) | Err(_) => false,
        };
        if !fits {
            write(&server, 0o600, self.make_server(&authority, now)?.as_bytes())?;
        }
        Ok(server)
    }

    /// Puts another server certificate in place of the one that is there.
    pub(super) fn renew(&self, now: DateTime<Utc>) -> Result<(), TlsError> {
        let authority = self.ensure_authority(now)?;
        write(&server_file(&self.dir), 0o600, self.make_server(&authority, now)?.as_bytes())
    }

    fn ensure_authority(&self, now: DateTime<Utc>) -> Result<Pair, TlsError> {
        let path = file(&self.dir);
        let pair = match Pair::read(&path)? {
            // What it signs must not outlive it.
            Some(pair) if ends_after(&pair.certificate, now + TimeDelta::days(SERVER_DAYS)) => pair,
            found => {
                if found.is_some() {
                    let ca_file = self.ca_file();
                    tracing::warn!(ca_file = %ca_file.display(), "Made a new authority, as the old one ends soon: give clients its file");
                }
                write(&path, 0o600, make_authority(now)?.as_bytes())?;
                Pair::read(&path)?
                    .ok_or_else(|| TlsError::Authority { path: path.clone(), what: "it vanished as it was made" })?
            }
        };
        let public = pem("CERTIFICATE", &pair.certificate);
        let ca_file = self.ca_file();
        if fs::read(&ca_file).ok().as_deref() != Some(public.as_bytes()) {
            write(&ca_file, 0o644, public.as_bytes())?;
        }
        Ok(pair)
    }

    fn make_server(&self, authority: &Pair, now: DateTime<Utc>) -> Result<Zeroizing<String>, TlsError> {
        let mut params = params(self.names.clone(), "portcullis", now, SERVER_DAYS)?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate()?;
        let issuer = Issuer::from_ca_cert_der(&authority.certificate, &authority.key)?;
        let certificate = params.signed_by(&key, &issuer)?;
        Ok(Zeroizing::new(format!("{}{}", *Zeroizing::new(key.serialize_pem()), certificate.pem())))
    }
}

/// The authority's key and certificate.
pub(super) fn file(dir: &Path) -> PathBuf {
    dir.join("authority.pem")
}

/// The server's.
pub(super) fn server_file(dir: &Path) -> PathBuf {
    dir.join("server.pem")
}

impl Pair {
    /// `None` when there is no such file.
    fn read(path: &Path) -> Result<Option<Self>, TlsError> {
        let bad = |what| TlsError::Authority { path: path.to_owned(), what };
        let pem = match read(path) {
            Err(TlsError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
            pem => pem?,
        };
        let der = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| bad("it holds no private key"))?;
        let key = KeyPair::try_from(&der).map_err(|_| bad("its private key cannot be used"))?;
        let certificate = certificates(&pem).into_iter().next().ok_or_else(|| bad("it holds no certificate"))?;
        let (_, parsed) = X509Certificate::from_der(&certificate).map_err(|_| bad("its certificate is damaged"))?;
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err(bad("its certificate belongs to another key"));
        }
        Ok(Some(Self { key, certificate }))
    }
}

fn make_authority(now: DateTime<Utc>) -> Result<Zeroizing<String>, TlsError> {
    let key = KeyPair::generate()?;
    // Two authorities of one name in one list of trusted ones confuse some verifiers: the name says which.
    let digest = blake3::hash(&key.subject_public_key_info()).to_hex();
    let mut params = params(Vec::new(), &format!("Portcullis authority {}", &digest[..8]), now, AUTHORITY_DAYS)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key)?;
    Ok(Zeroizing::new(format!("{}{}", *Zeroizing::new(key.serialize_pem()), certificate.pem())))
}

/// What both kinds share. The key identifiers are what `VERIFY_X509_STRICT` asks for, the default of Python 3.13.
fn params(names: Vec<String>, common_name: &str, now: DateTime<Utc>, days: i64) -> Result<CertificateParams, TlsError> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Portcullis");
    params.distinguished_name.push(DnType::CommonName, common_name);
    let at = |time: DateTime<Utc>| {
        let since = u64::try_from(time.timestamp()).unwrap_or_default();
        rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(since)
    };
    params.not_before = at(now - BACKDATED);
    params.not_after = at(now + TimeDelta::days(days));
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// Whether the server's certificate is still this authority's, for exactly these names, and not about to end.
fn fits(server: &Pair, authority: &Pair, names: &[String], now: DateTime<Utc>) -> bool {
    let Ok((_, parsed)) = X509Certificate::from_der(&server.certificate) else { return false };
    let Ok((_, issuer)) = X509Certificate::from_der(&authority.certificate) else { return false };
    parsed.verify_signature(Some(issuer.public_key())).is_ok()
        && ends_after(&server.certificate, now + TimeDelta::days(RENEWAL_DAYS))
        && names_of(&parsed) == names
}

fn ends_after(certificate: &CertificateDer<'_>, time: DateTime<Utc>) -> bool {
    X509Certificate::from_der(certificate)
        .is_ok_and(|(_, parsed)| parsed.validity().not_after.timestamp() > time.timestamp())
}

/// In the order that [`Authority::names`] has.
fn names_of(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Vec::new() };
    let text = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match **bytes {
            [a, b, c, d] => Some(IpAddr::from([a, b, c, d]).to_string()),
            ref longer => <[u8; 16]>::try_from(longer).ok().map(|bytes| IpAddr::from(bytes).to_string()),
        },
        _ => None,
    };
    let mut names: Vec<_> = extension.value.general_names.iter().filter_map(text).collect();
    names.sort_unstable();
    names
}

fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// Replaces a file whole, so that a reader or a crash never meets half of it.
fn write(path: &Path, mode: u32, content: &[u8]) -> Result<(), TlsError> {
    let replace = || {
        let beside = path.with_extension("new");
        // A leftover of a crash could have any mode; the mode below counts only for a file that is made.
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    };
    replace().map_err(|source| TlsError::Write { path: path.to_owned(), source })
}
