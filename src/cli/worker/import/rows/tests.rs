//! What lines are read as, and what is said of those that cannot be.

use super::*;

const SECRET: &str = "aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1eF3hJ5kL7nP9rS";

fn read(form: Form, text: &str) -> Vec<Result<Row, RowError>> {
    let now = DateTime::parse_from_rfc3339("2026-01-01T00:00:00Z").expect("a time").to_utc();
    match Rows::new(text.as_bytes(), form, now) {
        Ok(rows) => rows.collect(),
        Err(error) => vec![Err(error)],
    }
}

/// A row in one line: pool, id, name, labels, whether it has a secret, expiry.
fn told(row: &Row) -> String {
    let labels: Vec<_> = row.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    format!(
        "{} {} {} {} [{}] {} {}",
        row.line,
        row.pool,
        row.id.as_deref().unwrap_or("-"),
        row.name.as_deref().unwrap_or("-"),
        labels.join(" "),
        row.static_secret.is_some(),
        row.expires_at.as_deref().unwrap_or("-")
    )
}

#[test]
fn csv_is_read() {
    for (text, rows) in [
        ("pool\nbuilders\n", &["2 builders - - [] false -"][..]),
        ("pool,id,name\nb,w1,one\nb,,\n", &["2 b w1 one [] false -", "3 b - - [] false -"]),
        ("\u{feff}pool,labels\nb,zone=a; os = linux\n", &["2 b - - [os=linux zone=a] false -"]),
        ("pool,label.zone,label.rack\nb,a,\n", &["2 b - - [zone=a] false -"]),
        ("pool,labels,label.zone\nb,os=l,a\n", &["2 b - - [os=l zone=a] false -"]),
        ("pool,expires_at\nb,2030-01-31T01:00:00+01:00\n", &["2 b - - [] false 2030-01-31T00:00:00Z"]),
        (&format!("pool,static_secret\nb,{SECRET}\n"), &["2 b - - [] true -"]),
        ("pool\n", &[]),
    ] {
        let found: Vec<_> = read(Form::Csv, text).iter().map(|row| told(row.as_ref().expect(text))).collect();
        assert_eq!(found, rows, "{text}");
    }
}

#[test]
fn json_lines_are_read() {
    let text = format!(
        "{{\"pool\":\"b\"}}\n\n{{\"pool\":\"b\",\"id\":\"w\",\"labels\":{{\"k\":\"v\"}},\"static_secret\":\"{SECRET}\"}}"
    );
    let found: Vec<_> = read(Form::Jsonl, &text).iter().map(|row| told(row.as_ref().expect("a row"))).collect();
    assert_eq!(found, ["1 b - - [] false -", "3 b w - [k=v] true -"]);
}

#[test]
fn what_is_wrong_is_said_with_its_line() {
    for (form, text, line, part) in [
        (Form::Csv, "id\nw\n", 1, "no column `pool`"),
        (Form::Csv, "pool,colour\nb,red\n", 1, "`colour` is no column"),
        (Form::Csv, "pool,name,name\nb,a,a\n", 1, "twice"),
        (Form::Csv, "pool,name\nb\n", 2, "1 fields"),
        (Form::Csv, "pool,name\n,a\n", 2, "pool: an id must not be empty"),
        (Form::Csv, "pool,id\nb,a b\n", 2, "id: an id holds only"),
        (Form::Csv, "pool,labels\nb,zone\n", 2, "key=value"),
        (Form::Csv, "pool,labels,label.z\nb,z=a,b\n", 2, "`z` is there twice"),
        (Form::Csv, "pool,name\nb,\"two\nlines\"\n", 2, "name: takes"),
        (Form::Csv, "pool,static_secret\nb,short-one\n", 2, "static_secret: the secret has fewer than 44"),
        (Form::Csv, "pool,expires_at\nb,soon\n", 2, "expires_at: write"),
        (Form::Csv, "pool,expires_at\nb,2020-01-01T00:00:00Z\n", 2, "over already"),
        (Form::Jsonl, "{\"pool\":\"b\"}\nnot json\n", 2, "no JSON object"),
        (Form::Jsonl, "{\"pool\":\"b\",\"colour\":\"red\"}", 1, "unknown"),
        (Form::Jsonl, "{\"name\":\"a\"}", 1, "missing"),
    ] {
        let error = read(form, text).into_iter().find_map(Result::err).expect(text);
        assert_eq!(error.line, line, "{text}");
        assert!(error.to_string().contains(part), "{part} in {error}");
    }
}

#[test]
fn one_bad_line_does_not_hide_the_next() {
    let found = read(Form::Csv, "pool,id\nb,a b\nb,w\nb\nb,v\n");
    let good: Vec<_> = found.iter().map(Result::is_ok).collect();
    assert_eq!(good, [false, true, false, true]);
    let found = read(Form::Csv, "pool,name\nb,\"two\nlines\"\nb,next\n");
    assert_eq!(found[1].as_ref().map(told), Ok("4 b - next [] false -".to_owned()));
}

#[test]
fn no_error_repeats_a_secret() {
    for text in [
        format!("{{\"pool\":\"b\",\"static_secret\":\"{SECRET}\",\"expires_at\":\"x\"}}"),
        format!("{{\"pool\":\"b\",\"static_secret\":{{\"{SECRET}\":1}}}}"),
        format!("{{\"pool\":\"b\",\"{SECRET}\":1}}"),
        format!("{{\"pool\":\"b\",\"static_secret\":\"{SECRET}!\"}}"),
    ] {
        let error = read(Form::Jsonl, &text).into_iter().find_map(Result::err).expect("an error").to_string();
        assert!(!error.contains(SECRET), "{error}");
    }
}

#[test]
fn a_row_that_was_changed_has_another_fingerprint() {
    let rows = read(Form::Csv, "pool,id,name\nb,ab,c\nb,a,bc\nb,ab,c\n");
    let prints: Vec<_> = rows.iter().map(|row| row.as_ref().expect("a row").fingerprint()).collect();
    assert_eq!(prints[0], prints[2]);
    assert_ne!(prints[0], prints[1]);
}
