//! TLS to a database: always verified, with the platform's roots or a CA file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Why no TLS connection could be prepared.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot read the CA file {}: {source}", .path.display())]
    CaFile { path: PathBuf, source: rustls::pki_types::pem::Error },
    #[error("the CA file {} holds no certificate", .path.display())]
    NoCertificate { path: PathBuf },
    #[error("the CA file {} holds a certificate that cannot be used: {source}", .path.display())]
    Certificate { path: PathBuf, source: rustls::Error },
    #[error("this machine has no trusted root certificates: name the database's CA with a CA file")]
    NoPlatformRoots,
    #[error("TLS cannot be set up")]
    Rustls(#[from] rustls::Error),
}

/// The connector for connections that use TLS. A CA file replaces the platform's roots, and does not add to them: who
/// names the one CA that signs the database's certificate wants no other to be able to.
pub(super) fn connector(ca_file: Option<&Path>) -> Result<MakeRustlsConnect, TlsError> {
    let roots = match ca_file {
        Some(path) => file_roots(path)?,
        None => platform_roots()?,
    };
    connector_with(roots)
}

/// The connector for connections that never use TLS: it trusts nobody, so that a mistake cannot become a connection.
pub(super) fn no_connector() -> Result<MakeRustlsConnect, TlsError> {
    connector_with(RootCertStore::empty())
}

fn connector_with(roots: RootCertStore) -> Result<MakeRustlsConnect, TlsError> {
    // The provider is named, and not left to the process's default: this works the same before and after `main` sets it.
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    // Postgres 17 and later insist on it for `sslnegotiation=direct`; older ones do not look.
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    Ok(MakeRustlsConnect::new(config))
}

fn file_roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let unreadable = |source| TlsError::CaFile { path: path.into(), source };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(unreadable)? {
        roots
            .add(certificate.map_err(unreadable)?)
            .map_err(|source| TlsError::Certificate { path: path.into(), source })?;
    }
    if roots.is_empty() {
        return Err(TlsError::NoCertificate { path: path.into() });
    }
    Ok(roots)
}

fn platform_roots() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::debug!(%error, "a root certificate of this machine cannot be read");
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() { Err(TlsError::NoPlatformRoots) } else { Ok(roots) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_ca_file_must_hold_a_certificate() {
        let missing = connector(Some(Path::new("/nonexistent/ca.pem"))).map(|_| ());
        assert!(matches!(missing, Err(TlsError::CaFile { .. })));
        let mut file = tempfile::NamedTempFile::new().unwrap();
        writeln!(file, "not a certificate").unwrap();
        let empty = connector(Some(file.path())).map(|_| ());
        assert!(matches!(empty, Err(TlsError::NoCertificate { .. })));
    }
}
