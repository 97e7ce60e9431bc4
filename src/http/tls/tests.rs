//! The authority of our own, and certificates that change under a running service.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Command;

use chrono::TimeDelta;
use tempfile::TempDir;

use super::*;

fn names(more: &[&str]) -> Vec<String> {
    ["localhost", "127.0.0.1", "::1"].iter().chain(more).map(|name| (*name).to_owned()).collect()
}

fn authority(folder: &TempDir, more: &[&str], now: DateTime<Utc>) -> Tls {
    Tls::own_authority(folder.path().join("tls"), names(more), now).expect("an authority")
}

fn content(folder: &TempDir, name: &str) -> String {
    fs::read_to_string(folder.path().join("tls").join(name)).expect("a file")
}

/// Lays a certificate and key, for `localhost`, as `cert.pem` and `key.pem`.
fn lay(folder: &std::path::Path) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    fs::write(folder.join("cert.pem"), made.cert.pem()).expect("a file");
    fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).expect("a file");
}

fn files(folder: &std::path::Path) -> Result<Tls, TlsError> {
    Tls::from_files(folder.join("cert.pem"), folder.join("key.pem"), Utc::now())
}

#[test]
fn the_certificate_is_kept_until_its_names_or_its_end_ask_for_another() {
    let (folder, now) = (tempfile::tempdir().expect("a folder"), Utc::now());
    let first = authority(&folder, &[], now).fingerprint();
    let ca = content(&folder, "ca.pem");

    assert_eq!(authority(&folder, &[], now).fingerprint(), first, "a restart keeps it");
    assert_eq!(authority(&folder, &[], now + TimeDelta::days(360)).fingerprint(), first);
    let renamed = authority(&folder, &["gate.example.org"], now).fingerprint();
    assert_ne!(renamed, first, "another name asks for another");
    let renewed = authority(&folder, &["gate.example.org"], now + TimeDelta::days(370)).fingerprint();
    assert_ne!(renewed, renamed, "27 days before the end it is remade");
    assert_eq!(content(&folder, "ca.pem"), ca, "and clients keep their file");

    authority(&folder, &[], now + TimeDelta::days(3300));
    assert_ne!(content(&folder, "ca.pem"), ca, "an authority that would end before what it signs is remade");
}

#[test]
fn keys_are_for_us_alone_and_the_ca_file_is_for_all() {
    let folder = tempfile::tempdir().expect("a folder");
    let tls = authority(&folder, &[], Utc::now());
    let mode = |name: &str| {
        let metadata = fs::metadata(folder.path().join("tls").join(name)).expect("a file");
        metadata.permissions().mode() & 0o777
    };
    assert_eq!(["authority.pem", "server.pem", "ca.pem"].map(mode), [0o600, 0o600, 0o644]);
    assert!(!content(&folder, "ca.pem").contains("PRIVATE"));
    assert_eq!(tls.ca_file(), Some(folder.path().join("tls/ca.pem")));
}

#[test]
fn a_damaged_server_certificate_is_remade_and_a_damaged_authority_is_reported() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = authority(&folder, &[], Utc::now()).fingerprint();
    fs::write(folder.path().join("tls/server.pem"), "damaged").expect("a file");
    fs::remove_file(folder.path().join("tls/ca.pem")).expect("a file to remove");
    assert_ne!(authority(&folder, &[], Utc::now()).fingerprint(), first);
    assert!(content(&folder, "ca.pem").starts_with("-----BEGIN CERTIFICATE-----\n"));

    fs::write(folder.path().join("tls/authority.pem"), "damaged").expect("a file");
    let error = Tls::own_authority(folder.path().join("tls"), names(&[]), Utc::now()).expect_err("damaged");
    assert!(error.to_string().contains("authority.pem"), "{error}");
}

#[test]
fn openssl_accepts_it_strictly() {
    let folder = tempfile::tempdir().expect("a folder");
    let fingerprint = authority(&folder, &["gate.example.org"], Utc::now()).fingerprint();
    let openssl = |args: &[&str]| {
        let output = Command::new("openssl").args(args).current_dir(folder.path().join("tls")).output();
        let output = output.expect("openssl, which `ops/test` installs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{args:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
        text
    };
    for name in [["-verify_hostname", "gate.example.org"], ["-verify_ip", "::1"], ["-verify_ip", "127.0.0.1"]] {
        openssl(&[
            "verify",
            "-x509_strict",
            "-purpose",
            "sslserver",
            "-CAfile",
            "ca.pem",
            name[0],
            name[1],
            "server.pem",
        ]);
    }
    openssl(&["verify", "-x509_strict", "-CAfile", "ca.pem", "ca.pem"]);
    assert!(openssl(&["x509", "-in", "server.pem", "-noout", "-fingerprint", "-sha256"]).contains(&fingerprint));
}

#[test]
fn new_files_are_taken_up_and_bad_ones_keep_the_old() {
    let folder = tempfile::tempdir().expect("a folder");
    lay(folder.path());
    let tls = files(folder.path()).expect("a certificate");
    let first = tls.fingerprint();
    assert!(!tls.reload(Utc::now()).expect("the same files"), "nothing changed");

    lay(folder.path());
    assert!(tls.reload(Utc::now()).expect("new files"));
    let second = tls.fingerprint();
    assert_ne!(second, first);

    let key = fs::read(folder.path().join("key.pem")).expect("a key");
    lay(folder.path());
    fs::write(folder.path().join("key.pem"), key).expect("a file");
    let error = tls.reload(Utc::now()).expect_err("the key belongs to another certificate");
    assert!(error.to_string().contains("key.pem"), "{error}");
    fs::write(folder.path().join("cert.pem"), "damaged").expect("a file");
    assert!(matches!(tls.reload(Utc::now()), Err(TlsError::NoCertificate { .. })));
    fs::remove_file(folder.path().join("cert.pem")).expect("a file to remove");
    assert!(matches!(tls.reload(Utc::now()), Err(TlsError::Read { .. })));
    assert_eq!(tls.fingerprint(), second, "the last good one stays");
}

/// As Kubernetes does with a mounted secret: the files are links through a folder that is swapped.
#[test]
fn a_swapped_link_is_a_change() {
    let folder = tempfile::tempdir().expect("a folder");
    for version in ["v1", "v2"] {
        fs::create_dir(folder.path().join(version)).expect("a folder");
        lay(&folder.path().join(version));
    }
    let data = folder.path().join("data");
    symlink("v1", &data).expect("a link");
    let tls = files(&data).expect("a certificate");
    fs::remove_file(&data).expect("a link to remove");
    symlink("v2", &data).expect("a link");
    assert!(tls.reload(Utc::now()).expect("new files"));
}

#[test]
fn files_that_do_not_fit_are_refused_at_the_start() {
    let folder = tempfile::tempdir().expect("a folder");
    assert!(matches!(files(folder.path()), Err(TlsError::Read { .. })));
    lay(folder.path());
    fs::write(folder.path().join("key.pem"), "no key").expect("a file");
    assert!(matches!(files(folder.path()), Err(TlsError::NoKey { .. })));
    let other = rcgen::KeyPair::generate().expect("a key").serialize_pem();
    fs::write(folder.path().join("key.pem"), other).expect("a file");
    assert!(matches!(files(folder.path()), Err(TlsError::Unfit { .. })));
}

#[test]
fn each_trouble_is_told_once_and_a_passing_one_not_at_all() {
    let bad = |name: &str| Err(TlsError::NoKey { path: name.into() });
    let mut trouble = Trouble::default();
    for (outcome, asked, news) in [
        (Ok(false), false, false),
        (bad("a"), false, false),
        (Ok(true), false, true),
        (bad("a"), false, false),
        (bad("a"), false, true),
        (bad("a"), false, false),
        (bad("b"), false, false),
        (bad("b"), true, true),
        (bad("b"), false, false),
        (Ok(false), true, true),
    ] {
        assert_eq!(trouble.is_news(&outcome, asked), news, "{outcome:?} {asked}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_watch_takes_up_new_files_and_survives_a_hangup() {
    let folder = tempfile::tempdir().expect("a folder");
    lay(folder.path());
    let tls = files(folder.path()).expect("a certificate");
    let first = tls.fingerprint();
    // Held here, so that a hangup sent before the watch listens does not end the process.
    let _hangups = signal(SignalKind::hangup()).expect("a signal handler");
    let watch = tokio::spawn(tls.clone().watch());
    lay(folder.path());
    let changed = async {
        while tls.fingerprint() == first {
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::HUP).expect("a signal");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), changed).await.expect("taken up");
    assert!(!watch.is_finished());
    watch.abort();
}
