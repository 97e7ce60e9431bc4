//! The lines of a fleet's file, one at a time, each checked as far as it can be without asking the service.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{BufRead, Read as _};
use std::path::Path;
use std::str::FromStr;

use chrono::{DateTime, SecondsFormat, Utc};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::credential::strength::check_static_secret_form;
use crate::domain::ids::{IdError, PoolId, WorkerId};
use crate::domain::worker::{LABEL_CHARS_MAX, LABELS_MAX, NAME_CHARS_MAX};

/// The longest line: an id, a name, 32 labels and a secret take less than a tenth of it. Without a limit, one quote
/// that is never closed would take the rest of the file for one line.
const LINE_BYTES_MAX: usize = 256 * 1024;
const BYTE_ORDER_MARK: char = '\u{feff}';

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Form {
    Csv,
    Jsonl,
}

/// One worker to be.
#[derive(Debug, Default)]
pub(super) struct Row {
    pub(super) line: u64,
    pub(super) pool: String,
    pub(super) id: Option<String>,
    pub(super) name: Option<String>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) static_secret: Option<SecretString>,
    pub(super) expires_at: Option<String>,
}

/// What is wrong with a line, all of it. It never repeats a secret.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RowError {
    pub(super) line: u64,
    pub(super) what: Vec<String>,
    /// The pool that the line names, where that much could be read: whether it exists is another thing to know.
    pub(super) pool: Option<String>,
}

pub(super) struct Rows<R> {
    lines: Lines<R>,
    now: DateTime<Utc>,
    ended: bool,
}

enum Lines<R> {
    Csv { reader: Box<csv::Reader<R>>, columns: Vec<ColumnOf> },
    Json { reader: R, line: u64 },
}

/// What a column of the CSV is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum ColumnOf {
    Pool,
    Id,
    Name,
    Labels,
    Label(String),
    StaticSecret,
    ExpiresAt,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonRow {
    pool: String,
    id: Option<String>,
    name: Option<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    static_secret: Option<SecretText>,
    expires_at: Option<String>,
}

/// A secret on its way out of JSON.
#[derive(Deserialize)]
#[serde(transparent)]
struct SecretText(String);

impl Form {
    pub(super) fn by_ending(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "csv" => Some(Form::Csv),
            "jsonl" | "ndjson" => Some(Form::Jsonl),
            _ => None,
        }
    }
}

impl<R: BufRead> Rows<R> {
    pub(super) fn new(reader: R, form: Form, now: DateTime<Utc>) -> Result<Self, RowError> {
        let lines = match form {
            Form::Jsonl => Lines::Json { reader, line: 0 },
            Form::Csv => {
                let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(reader);
                let heading = reader.headers().map_err(|error| csv_error(&error, 1))?;
                let columns = columns(heading).map_err(|what| RowError::unreadable(1, what))?;
                Lines::Csv { reader: Box::new(reader), columns }
            }
        };
        Ok(Self { lines, now, ended: false })
    }
}

impl<R: BufRead> Iterator for Rows<R> {
    type Item = Result<Row, RowError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let found = match &mut self.lines {
            Lines::Csv { reader, columns } => next_record(reader, columns, &mut self.ended),
            Lines::Json { reader, line } => next_object(reader, line, &mut self.ended),
        };
        found.map(|row| row.and_then(|row| checked(row, self.now)))
    }
}

fn next_record<R: BufRead>(
    reader: &mut csv::Reader<R>,
    columns: &[ColumnOf],
    ended: &mut bool,
) -> Option<Result<Row, RowError>> {
    let mut record = csv::StringRecord::new();
    match reader.read_record(&mut record) {
        Ok(false) => None,
        Ok(true) => {
            let line = record.position().map_or(0, csv::Position::line);
            Some(from_record(&record, columns, line).map_err(|what| RowError::unreadable(line, what)))
        }
        Err(error) => {
            // What follows an unreadable part of the disk would be the same error again.
            *ended = error.is_io_error();
            Some(Err(csv_error(&error, reader.position().line())))
        }
    }
}

fn next_object(reader: &mut impl BufRead, line: &mut u64, ended: &mut bool) -> Option<Result<Row, RowError>> {
    loop {
        *line += 1;
        let mut bytes = Vec::new();
        let limit = LINE_BYTES_MAX as u64 + 1;
        let error = |what: String| Some(Err(RowError::unreadable(*line, what)));
        match reader.by_ref().take(limit).read_until(b'\n', &mut bytes) {
            Ok(0) => return None,
            Ok(length) if length > LINE_BYTES_MAX => {
                *ended = true;
                return error(format!("is longer than {LINE_BYTES_MAX} bytes"));
            }
            Ok(_) => {}
            Err(fault) => {
                *ended = true;
                return error(format!("cannot be read: {fault}"));
            }
        }
        let Ok(text) = std::str::from_utf8(&bytes) else { return error("is not UTF-8".to_owned()) };
        let text = text.trim_start_matches(BYTE_ORDER_MARK).trim();
        if !text.is_empty() {
            return Some(from_json(text, *line).map_err(|what| RowError::unreadable(*line, what)));
        }
    }
}

fn from_json(text: &str, line: u64) -> Result<Row, String> {
    // The error's own text may repeat a value, and the value may be a secret: say where, not what.
    let row: JsonRow = serde_json::from_str(text).map_err(|error| {
        let place = error.column();
        match error.classify() {
            serde_json::error::Category::Data => format!(
                "has a field that is missing, unknown or of the wrong type (column {place}); the fields are pool, id, \
                 name, labels, static_secret, expires_at"
            ),
            _ => format!("is no JSON object (column {place})"),
        }
    })?;
    Ok(Row {
        line,
        pool: row.pool,
        id: row.id,
        name: row.name,
        labels: row.labels,
        static_secret: row.static_secret.map(|secret| SecretString::from(secret.0)),
        expires_at: row.expires_at,
    })
}

fn columns(heading: &csv::StringRecord) -> Result<Vec<ColumnOf>, String> {
    let mut columns = Vec::with_capacity(heading.len());
    for name in heading {
        let column = match name.trim_start_matches(BYTE_ORDER_MARK).trim() {
            "pool" => ColumnOf::Pool,
            "id" | "worker" => ColumnOf::Id,
            "name" => ColumnOf::Name,
            "labels" => ColumnOf::Labels,
            "static_secret" => ColumnOf::StaticSecret,
            "expires_at" => ColumnOf::ExpiresAt,
            other => match other.strip_prefix("label.") {
                Some(key) if !key.is_empty() => ColumnOf::Label(key.to_owned()),
                _ => {
                    return Err(format!(
                        "`{other}` is no column; the columns are pool, id, name, labels, label.<key>, static_secret, \
                         expires_at"
                    ));
                }
            },
        };
        if columns.contains(&column) {
            return Err(format!("the column `{name}` is there twice"));
        }
        columns.push(column);
    }
    if columns.contains(&ColumnOf::Pool) { Ok(columns) } else { Err("there is no column `pool`".to_owned()) }
}

fn from_record(record: &csv::StringRecord, columns: &[ColumnOf], line: u64) -> Result<Row, String> {
    if record.as_slice().len() > LINE_BYTES_MAX {
        return Err(format!("is longer than {LINE_BYTES_MAX} bytes; is a quote not closed?"));
    }
    let mut row = Row { line, ..Row::default() };
    // An empty cell says nothing; the reader has made sure that there is a cell for each column.
    for (column, text) in columns.iter().zip(record).filter(|(_, text)| !text.is_empty()) {
        match column {
            ColumnOf::Pool => text.clone_into(&mut row.pool),
            ColumnOf::Id => row.id = Some(text.to_owned()),
            ColumnOf::Name => row.name = Some(text.to_owned()),
            ColumnOf::StaticSecret => row.static_secret = Some(SecretString::from(text)),
            ColumnOf::ExpiresAt => row.expires_at = Some(text.to_owned()),
            ColumnOf::Label(key) => put(&mut row.labels, key, text)?,
            ColumnOf::Labels => {
                for pair in text.split(';').map(str::trim).filter(|pair| !pair.is_empty()) {
                    let (key, value) = pair.split_once('=').ok_or("labels: are written `key=value;key=value`")?;
                    put(&mut row.labels, key.trim(), value.trim())?;
                }
            }
        }
    }
    Ok(row)
}

fn put(labels: &mut BTreeMap<String, String>, key: &str, value: &str) -> Result<(), String> {
    match labels.insert(key.to_owned(), value.to_owned()) {
        None => Ok(()),
        Some(_) => Err(format!("labels: `{key}` is there twice")),
    }
}

fn checked(mut row: Row, now: DateTime<Utc>) -> Result<Row, RowError> {
    let mut wrong: Vec<String> = [
        is_id::<PoolId>("pool", Some(&row.pool)),
        is_id::<WorkerId>("id", row.id.as_ref()),
        name(row.name.as_deref()),
        labels(&row.labels),
        static_secret(row.static_secret.as_ref()),
    ]
    .into_iter()
    .filter_map(Result::err)
    .collect();
    match expires_at(row.expires_at.take(), now) {
        Ok(time) => row.expires_at = time,
        Err(what) => wrong.push(what),
    }
    if wrong.is_empty() {
        return Ok(row);
    }
    // A pool that is no id is not asked for.
    let pool = Some(row.pool).filter(|pool| pool.parse::<PoolId>().is_ok());
    Err(RowError { line: row.line, what: wrong, pool })
}

fn is_id<Id: FromStr<Err = IdError>>(field: &str, text: Option<&String>) -> Result<(), String> {
    text.map_or(Ok(()), |text| text.parse::<Id>().map(drop).map_err(|error| format!("{field}: {error}")))
}

fn name(name: Option<&str>) -> Result<(), String> {
    let fits = |name: &str| (1..=NAME_CHARS_MAX).contains(&name.chars().count()) && !name.contains(char::is_control);
    if name.is_none_or(fits) {
        return Ok(());
    }
    Err(format!("name: takes 1 to {NAME_CHARS_MAX} characters, none of them control characters"))
}

fn labels(labels: &BTreeMap<String, String>) -> Result<(), String> {
    let fits = |text: &str| text.chars().count() <= LABEL_CHARS_MAX && !text.contains(char::is_control);
    if labels.len() > LABELS_MAX {
        return Err(format!("labels: at most {LABELS_MAX}"));
    }
    if labels.iter().all(|(key, value)| !key.is_empty() && fits(key) && fits(value)) {
        return Ok(());
    }
    Err(format!(
        "labels: a key is not empty, and neither key nor value has over {LABEL_CHARS_MAX} characters or control characters"
    ))
}

/// As the service will judge it, but for how hard it is to guess: that takes a millisecond, and is asked once, for the plan.
fn static_secret(secret: Option<&SecretString>) -> Result<(), String> {
    secret
        .map_or(Ok(()), |secret| check_static_secret_form(secret.expose_secret()))
        .map_err(|weakness| format!("static_secret: {weakness}"))
}

fn expires_at(text: Option<String>, now: DateTime<Utc>) -> Result<Option<String>, String> {
    let Some(text) = text else { return Ok(None) };
    let time = DateTime::parse_from_rfc3339(&text);
    let time = time.map_err(|_| "expires_at: write it as `2030-01-31T00:00:00Z`")?.to_utc();
    if time <= now {
        return Err("expires_at: is over already".to_owned());
    }
    Ok(Some(time.to_rfc3339_opts(SecondsFormat::AutoSi, true)))
}

fn csv_error(error: &csv::Error, line: u64) -> RowError {
    // Of a csv error only its kind is told: its text may repeat the record, and the record may hold a secret.
    let line = error.position().map_or(line, csv::Position::line);
    let what = match error.kind() {
        csv::ErrorKind::Io(fault) => format!("cannot be read: {fault}"),
        csv::ErrorKind::Utf8 { .. } => "is not UTF-8".to_owned(),
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("has {len} fields, and the heading has {expected_len}")
        }
        _ => "is no CSV".to_owned(),
    };
    RowError::unreadable(line, what)
}

impl Row {
    /// What tells this row from another, for noticing that a file was changed between two readings.
    pub(super) fn fingerprint(&self) -> u64 {
        let mut hasher = blake3::Hasher::new();
        let mut part = |text: &str| {
            // Each with its length, so that no two rows are written alike.
            hasher.update(&text.len().to_le_bytes());
            hasher.update(text.as_bytes());
        };
        part(&self.pool);
        for field in [&self.id, &self.name, &self.expires_at] {
            part(field.as_deref().unwrap_or_default());
        }
        part(self.static_secret.as_ref().map(ExposeSecret::expose_secret).unwrap_or_default());
        for (key, value) in &self.labels {
            part(key);
            part(value);
        }
        let mut first = [0; 8];
        first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        u64::from_le_bytes(first)
    }
}

impl RowError {
    /// Of a line that is none.
    fn unreadable(line: u64, what: String) -> Self {
        Self { line, what: vec![what], pool: None }
    }
}

impl fmt::Display for RowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what.join("; "))
    }
}

#[cfg(test)]
mod tests;
