//! What can be known to fail before anything is made: a service that is told wrong says so while its data directory is still
//! empty, and not after the minute that a cluster takes.
//!
//! Files that others could read are looked at here too. A private key is refused, as sshd does: mended in silence it would
//! still have been readable since nobody knows when.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::Context as _;
use secrecy::ExposeSecret as _;

use super::first_start;
use crate::config::{Settings, TlsSource};
use crate::credential::root_key::RootKey;
use crate::credential::strength::check_enrollment_secret;
use crate::http::tls::Tls;
use crate::secret::{check_secret_file, exposed_mode, make_private};

/// Refuses settings that cannot work, and files that others could read. Nothing is made.
pub(super) fn check(settings: &Settings) -> anyhow::Result<()> {
    if let Some(secret) = &settings.auto_enrollment_key {
        check_enrollment_secret(secret.expose_secret()).context("PORTCULLIS_AUTO_ENROLLMENT_KEY")?;
    }
    // Bound for this moment only: who connects while the log is still being read is better told that nobody is there.
    TcpListener::bind(settings.bind).with_context(|| cannot_listen(settings.bind))?;
    // One beside the data that is missing is made later, if there is no log that has one.
    if settings.root_key_file.exists() || settings.root_key_file != settings.data_dir.join("root.key") {
        RootKey::load(&settings.root_key_file)?;
    }
    match &settings.tls {
        TlsSource::Files { cert, key } => {
            Tls::from_files(cert.clone(), key.clone(), chrono::Utc::now())?;
        }
        TlsSource::OwnAuthority => {
            for file in Tls::private_files(&settings.data_dir.join("tls")) {
                check_secret_file(&file)?;
            }
        }
        TlsSource::Plaintext => {}
    }
    mend_token_file(&first_start::token_file(&settings.data_dir))?;
    warn_of_open_folder(&settings.data_dir)
}

pub(super) fn cannot_listen(address: SocketAddr) -> String {
    format!("cannot listen on {address}; is another service there? choose another --bind")
}

/// The service itself has no use for this file, so it is no reason to leave a fleet without its gate.
fn mend_token_file(path: &Path) -> anyhow::Result<()> {
    let Some(mode) = exposed_mode(path) else { return Ok(()) };
    make_private(path)
        .with_context(|| format!("cannot take {} away from others; run: chmod 600 it", path.display()))?;
    tracing::warn!(
        file = %path.display(),
        mode = format!("{mode:04o}"),
        "others could read or change the admin's token; its mode is 0600 now. If this machine has users whom you do not trust, \
         remove that operator: `portcullis operator remove`, with a start with `--new-admin` before"
    );
    Ok(())
}

/// One who can write there can put another root key or another certificate in place. It is left as it is: the folder may
/// have been made by others, for more than this service.
fn warn_of_open_folder(folder: &Path) -> anyhow::Result<()> {
    let metadata = std::fs::metadata(folder).with_context(|| format!("cannot look at {}", folder.display()))?;
    if metadata.permissions().mode() & 0o022 != 0 {
        let folder = folder.display();
        tracing::warn!(%folder, "others can change what is in the data directory; run: chmod go-w '{folder}'");
    }
    Ok(())
}
