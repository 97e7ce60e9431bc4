//! The options as a decision table: what is typed and what is around, and the settings or the refusal that follow.

use clap::Parser;

use super::*;

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    serve: ServeArgs,
}

fn settings(line: &str, variables: &[(&str, &str)]) -> Result<Settings, SettingsError> {
    let words = std::iter::once("serve").chain(line.split_whitespace());
    let args = Command::try_parse_from(words).expect("options that parse").serve;
    let variable = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
    let around = Surroundings {
        variable: &variable,
        host_name: Some("gate-1".to_owned()),
        data_dir: Some(PathBuf::from("/home/ann/.local/share/portcullis")),
    };
    Settings::new(args, &around)
}

/// What is typed, the variables around, and a part of the refusal.
type Row = (&'static str, &'static [(&'static str, &'static str)], &'static str);

#[test]
fn nothing_said_is_https_on_loopback_with_a_cluster_of_our_own() {
    let settings = settings("", &[]).expect("defaults that agree");
    assert_eq!(settings.bind.to_string(), "127.0.0.1:3000");
    assert_eq!(settings.public_url, "https://127.0.0.1:3000");
    assert_eq!(settings.tls, TlsSource::OwnAuthority);
    assert_eq!(settings.root_key_file, Path::new("/home/ann/.local/share/portcullis/root.key"));
    assert!(matches!(settings.database, DatabaseSource::Embedded { pool_size: 8, .. }));
    assert!(settings.auto_enrollment_key.is_none());
    assert!(settings.limits.trusted_proxies.is_empty());
    assert_eq!(settings.certificate_names(), ["127.0.0.1", "::1", "gate-1", "localhost"]);
}

#[test]
fn what_does_not_agree_is_refused_with_the_remedy() {
    let table: [Row; 17] = [
        ("--disable-tls --bind 0.0.0.0:80", &[], "--allow-plaintext"),
        ("--disable-tls --bind [::]:80", &[], "--allow-plaintext"),
        ("--disable-tls --bind 192.0.2.1:80", &[], "bind to 127.0.0.1"),
        ("--tls-cert a.pem", &[], "without `--tls-key`"),
        ("--tls-key a.pem", &[], "without `--tls-cert`"),
        ("--tls-cert a.pem --tls-key b.pem --disable-tls", &[], "keep one"),
        ("--public-url portcullis", &[], "is no URL"),
        ("--public-url ftp://gate", &[], "no https URL"),
        ("--public-url https://ann:pw@gate", &[], "no password"),
        ("--public-url https://gate/?a=b", &[], "no query"),
        ("--database-url postgres://ann:hunter2@db/gate", &[], "PORTCULLIS_DATABASE_URL or `--database-url-file`"),
        ("--database-url db.example.org", &[], "is no database URL"),
        (
            "--database-url postgres://ann@db/gate --owner-database-url postgres://own:hunter2@db/gate",
            &[],
            "PORTCULLIS_OWNER_DATABASE_URL",
        ),
        ("--owner-database-url postgres://own@db/gate", &[], "without `--database-url`"),
        ("--database-ca ca.pem", &[], "without `--database-url`"),
        ("", &[("PORTCULLIS_DATABASE_URL", "postgres://ann:hunter2@db:port/gate")], "percent-encoded"),
        ("--otlp-endpoint collector:4317", &[], "neither http nor https"),
    ];
    for (line, variables, expected) in table {
        let error = settings(line, variables).expect_err(line).to_string();
        assert!(error.contains(expected), "{line} {variables:?}: {error}");
        assert!(!error.contains("hunter2"), "the password is in the error of {line}");
    }
}

#[test]
fn what_agrees_is_taken() {
    let plain = |line| settings(line, &[]).expect(line);
    assert_eq!(plain("--disable-tls").public_url, "http://127.0.0.1:3000");
    assert_eq!(plain("--disable-tls --bind [::1]:80").tls, TlsSource::Plaintext);
    assert_eq!(plain("--disable-tls --allow-plaintext --bind 0.0.0.0:80").public_url, "http://gate-1:80");
    assert_eq!(plain("--bind [::]:443").public_url, "https://gate-1:443");
    assert_eq!(plain("--public-url https://gate.example.org/").public_url, "https://gate.example.org");
    assert_eq!(plain("--public-url https://gate.example.org/p/").public_url, "https://gate.example.org/p");
    assert_eq!(
        plain("--tls-cert a.pem --tls-key b.pem").tls,
        TlsSource::Files { cert: "a.pem".into(), key: "b.pem".into() }
    );
    assert_eq!(plain("--trusted-proxy 10.0.0.0/8,192.0.2.1").limits.trusted_proxies.len(), 2);
    let names = plain("--bind 192.0.2.1:443 --public-url https://[2001:db8::1]/").certificate_names();
    assert_eq!(names, ["127.0.0.1", "192.0.2.1", "2001:db8::1", "::1", "gate-1", "localhost"]);
}

#[test]
fn secrets_come_from_variables_and_files_and_do_not_show() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("secret");
    fs::write(&path, "postgres://ann:hunter2@db/gate\n").expect("a file");

    let from_file = settings(&format!("--database-url-file {}", path.display()), &[]).expect("a URL");
    let from_variable = settings("", &[("PORTCULLIS_DATABASE_URL", "postgres://ann:hunter2@db/gate")]).expect("a URL");
    for settings in [from_file, from_variable] {
        assert!(!format!("{settings:?}").contains("hunter2"), "Debug shows the password");
        let DatabaseSource::Own { url, owner_url: None, .. } = settings.database else { panic!("not our database") };
        assert_eq!(url.expose_secret(), "postgres://ann:hunter2@db/gate");
    }

    let line = format!("--auto-enrollment-key-file {}", path.display());
    assert!(settings(&line, &[]).expect("a key").auto_enrollment_key.is_some());
    let twice = settings(&line, &[("PORTCULLIS_AUTO_ENROLLMENT_KEY", "x")]).expect_err("given twice");
    assert!(matches!(twice, SettingsError::GivenTwice { .. }), "{twice}");

    for (content, expected) in [("", "is empty"), ("\n", "is empty"), ("a\nb\n", "more than one line")] {
        fs::write(&path, content).expect("a file");
        let error = settings(&line, &[]).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn no_home_and_no_data_dir_is_refused() {
    let args = Command::try_parse_from(["serve"]).expect("options that parse").serve;
    let around = Surroundings { variable: &|_| None, host_name: None, data_dir: None };
    assert!(matches!(Settings::new(args, &around), Err(SettingsError::NoDataDir)));
}

#[test]
fn odd_host_names_stay_out_of_certificates() {
    for (name, fits) in
        [("gate-1", true), ("gate.example.org", true), ("", false), ("a_b", false), ("-a", false), ("10.0.0.1", false)]
    {
        assert_eq!(is_dns_name(name), fits, "{name}");
    }
}

#[test]
fn every_option_has_a_help_text_with_an_example() {
    use clap::CommandFactory as _;
    for arg in Command::command().get_arguments() {
        let help = arg.get_long_help().map(ToString::to_string).unwrap_or_default();
        assert!(help.contains("Example: "), "`{}` has no example", arg.get_id());
    }
}
