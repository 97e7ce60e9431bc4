//! TLS to a database: used where it is asked for, and always verified.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use portcullis::postgres::embedded::{Account, LOGIN};
use portcullis::postgres::{Database, DatabaseError, Options};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use secrecy::SecretString;

use crate::support::cluster::{PrivateCluster, connect, write_private};

fn ca() -> CertifiedIssuer<'static, KeyPair> {
    let mut parameters = CertificateParams::default();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap()
}

/// What makes a server take TLS and nothing else on 127.0.0.1, for which alone its certificate is.
fn prepare(folder: &Path, account: &Account, issuer: &CertifiedIssuer<'_, KeyPair>) -> Vec<String> {
    let key = KeyPair::generate().unwrap();
    let mut parameters = CertificateParams::default();
    parameters.subject_alt_names = vec![SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST))];
    let certificate = parameters.signed_by(&key, issuer).unwrap();
    let file = |name: &str, text: &str| {
        write_private(&folder.join(name), text, account);
        folder.join(name).display().to_string()
    };
    let access = "local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n";
    vec![
        "listen_addresses=127.0.0.1".into(),
        "ssl=on".into(),
        format!("ssl_cert_file={}", file("server.pem", &certificate.pem())),
        format!("ssl_key_file={}", file("server.key", &key.serialize_pem())),
        format!("hba_file={}", file("access.conf", access)),
    ]
}

#[tokio::test]
async fn the_server_must_prove_who_it_is() {
    let (right, wrong) = (ca(), ca());
    let cluster = PrivateCluster::start_with(|folder, account| prepare(folder, account, &right)).await;
    let owner = connect(&cluster.owner_url()).await.unwrap();
    owner.batch_execute(&format!("alter role {LOGIN} password 'a password'")).await.unwrap();
    let files = tempfile::tempdir().unwrap();
    let (right_file, wrong_file) = (files.path().join("right.pem"), files.path().join("wrong.pem"));
    std::fs::write(&right_file, right.pem()).unwrap();
    std::fs::write(&wrong_file, wrong.pem()).unwrap();

    let open = async |host: &str, ca_file: Option<&Path>, mode: &str| {
        let port = cluster.port;
        let url = format!("postgres://{LOGIN}:a%20password@{host}:{port}/portcullis?{mode}");
        let options = Options { ca_file: ca_file.map(Into::into), url: SecretString::from(url), ..cluster.options() };
        Database::open(options).await
    };
    for mode in ["sslmode=require&channel_binding=require", "sslmode=verify-full", "sslmode=prefer"] {
        let database = open("127.0.0.1", Some(&right_file), mode).await.unwrap();
        database.migrate().await.unwrap();
        let client = database.client().await.unwrap();
        let pid: i32 = client.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0);
        let encrypted = "select ssl and version = 'TLSv1.3' from pg_stat_ssl where pid = $1";
        assert!(owner.query_one(encrypted, &[&pid]).await.unwrap().get::<_, bool>(0), "{mode}");
    }
    for (host, ca_file, why) in [
        ("127.0.0.1", Some(&*wrong_file), "another CA signed it"),
        ("localhost", Some(&*right_file), "it is for another name"),
    ] {
        let error = open(host, ca_file, "sslmode=require").await.err().expect(why);
        assert!(matches!(error, DatabaseError::Connect(_)), "{why}: {error}");
        assert!(error.to_string().contains("invalid peer certificate"), "{why}: {error}");
    }
    assert!(open("127.0.0.1", None, "sslmode=require").await.is_err(), "no CA that this machine trusts signed it");
    let plain = open("127.0.0.1", None, "sslmode=disable").await.err().unwrap().to_string();
    assert!(plain.contains("pg_hba.conf") || plain.contains("no encryption"), "{plain}");
    assert!(!plain.contains("a password"), "{plain}");
}
