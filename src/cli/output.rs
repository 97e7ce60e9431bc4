//! What is written where: data to standard output, as tables for people or JSON for programs, and prose to standard
//! error. Colours appear on terminals only.

use std::fmt::{Display, Write as _};
use std::io::{self, IsTerminal as _, Write as _};

use chrono::{DateTime, Utc};
use clap::builder::styling::{AnsiColor, Style};
use comfy_table::{ColumnConstraint, ContentArrangement, Table, Width, presets};
use serde_json::Value;

use super::failure::Failure;
use super::time::from_now;

const ERROR: Style = AnsiColor::Red.on_default().bold();
const NOTE: Style = Style::new().dimmed();
const WARNING: Style = AnsiColor::Yellow.on_default().bold();

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// For programs: the service's answer as it is; a list as one object with `items`, events as JSON lines.
    Json,
}

/// A column's title, and the field that it shows; `a.b` is a field of a field.
pub(crate) type Column = (&'static str, &'static str);

/// A table that is written piece by piece, as pages come or events happen.
pub(crate) struct Pieces {
    columns: &'static [Column],
    /// Of what was written, once something was.
    widths: Option<Vec<u16>>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Screen {
    pub(crate) format: Format,
    quiet: bool,
}

impl Screen {
    pub(crate) fn new(format: Format, quiet: bool) -> Self {
        Self { format, quiet }
    }

    /// Prose: what was done, and what to do next.
    pub(crate) fn note(self, text: impl Display) {
        if !self.quiet {
            to_stderr(format_args!("{NOTE}{}{NOTE:#}", printable(&text.to_string())));
        }
    }

    /// Prose that somebody should not miss, and that is no failure.
    pub(crate) fn warn(self, text: impl Display) {
        if self.quiet {
            return;
        }
        to_stderr(format_args!("{WARNING}warning:{WARNING:#} {}", printable(&text.to_string())));
    }

    pub(crate) fn failure(self, failure: &Failure) {
        match (failure, self.format) {
            (Failure::OutputClosed | Failure::Shell(_), _) => {}
            (_, Format::Json) => to_stderr(failure.to_json()),
            (_, Format::Table) => to_stderr(format_args!("{ERROR}error:{ERROR:#} {}", printable(&failure.to_string()))),
        }
    }

    /// One object, a field a line.
    pub(crate) fn object(self, columns: &[Column], value: &Value) -> Result<(), Failure> {
        match self.format {
            Format::Json => json(value),
            Format::Table => line(object_table(columns, value)),
        }
    }

    /// The same to standard error, where standard output is taken by a secret.
    pub(crate) fn object_aside(self, columns: &[Column], value: &Value) {
        if !self.quiet {
            to_stderr(object_table(columns, value));
        }
    }

    /// Several objects, one a row.
    pub(crate) fn rows(self, columns: &[Column], items: &[Value]) -> Result<(), Failure> {
        match self.format {
            Format::Json => json(&serde_json::json!({ "items": items })),
            Format::Table => line(rows_table(columns, items)),
        }
    }

    pub(crate) fn rows_aside(self, columns: &[Column], items: &[Value]) {
        if !self.quiet {
            to_stderr(rows_table(columns, items));
        }
    }
}

impl Pieces {
    pub(crate) fn new(columns: &'static [Column]) -> Self {
        Self { columns, widths: None }
    }

    /// The heading stands over the first piece, and the others keep to its columns.
    pub(crate) fn write(&mut self, items: &[Value]) -> Result<(), Failure> {
        if items.is_empty() { Ok(()) } else { line(self.table(items)) }
    }

    fn table(&mut self, items: &[Value]) -> Table {
        let Some(widths) = &mut self.widths else {
            let table = rows_table(self.columns, items);
            self.widths = Some(table.column_max_content_widths());
            return table;
        };
        let mut table = bare_rows_table(self.columns, items);
        for (width, now) in widths.iter_mut().zip(table.column_max_content_widths()) {
            *width = now.max(*width);
        }
        // The width of a column has its padding in it: a blank on either side.
        table.set_constraints(widths.iter().map(|width| ColumnConstraint::LowerBoundary(Width::Fixed(width + 2))));
        table
    }
}

/// An object as a table is, for those who place it themselves.
pub(crate) fn object_text(columns: &[Column], value: &Value) -> String {
    object_table(columns, value).to_string()
}

/// Text as it is, to standard output.
pub(crate) fn line(text: impl Display) -> Result<(), Failure> {
    let mut out = anstream::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).map_err(closed)
}

pub(crate) fn json(value: &Value) -> Result<(), Failure> {
    line(format_args!("{value:#}"))
}

fn to_stderr(text: impl Display) {
    // Without a standard error there is nobody left to tell.
    let _ = writeln!(anstream::stderr().lock(), "{text}");
}

/// An error of standard output.
pub(crate) fn closed(error: io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::OutputClosed,
        _ => Failure::fault("cannot write to standard output", error),
    }
}

fn object_table(columns: &[Column], value: &Value) -> Table {
    let mut table = table();
    for (title, field) in columns {
        // What an object does not have is not worth a line.
        if let Some(found) = find(value, field).filter(|found| !found.is_null()) {
            table.add_row([(*title).to_owned(), shown(field, found)]);
        }
    }
    table
}

fn rows_table(columns: &[Column], items: &[Value]) -> Table {
    let mut table = bare_rows_table(columns, items);
    table.set_header(columns.iter().map(|(title, _)| title.to_uppercase()));
    table
}

fn bare_rows_table(columns: &[Column], items: &[Value]) -> Table {
    let mut table = table();
    for item in items {
        table
            .add_row(columns.iter().map(|(_, field)| find(item, field).map_or_else(dash, |found| shown(field, found))));
    }
    table
}

fn table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    // In a pipe, a line broken to some width would only be harder to search.
    if io::stdout().is_terminal() {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    table
}

fn find<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(value, |value, part| value.get(part))
}

/// A field for people.
fn shown(field: &str, value: &Value) -> String {
    let text = match value {
        Value::Null => dash(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => time_shown(field, text).unwrap_or_else(|| text.clone()),
        Value::Array(items) if items.is_empty() => dash(),
        Value::Array(items) => items.iter().map(|item| shown("", item)).collect::<Vec<_>>().join(", "),
        Value::Object(fields) if fields.is_empty() => dash(),
        Value::Object(fields) => {
            let pairs = fields.iter().map(|(name, value)| format!("{name}={}", shown("", value)));
            pairs.collect::<Vec<_>>().join(", ")
        }
    };
    printable(&text)
}

fn time_shown(field: &str, text: &str) -> Option<String> {
    let name = field.rsplit('.').next().unwrap_or(field);
    if !(name.ends_with("_at") || name.ends_with("until") || matches!(name, "at" | "first_sign")) {
        return None;
    }
    let time = DateTime::parse_from_rfc3339(text).ok()?.to_utc();
    Some(format!("{} ({})", time.format("%Y-%m-%d %H:%M:%SZ"), from_now(time, Utc::now())))
}

fn dash() -> String {
    "-".to_owned()
}

/// Text that a terminal only shows: names come from workers, and a control character could move the cursor and so
/// rewrite what an operator reads.
fn printable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for char in text.chars() {
        if char != '\n' && (char.is_control() || is_direction(char)) {
            // Writing to a String cannot fail.
            let _ = write!(safe, "{}", char.escape_unicode());
        } else {
            safe.push(char);
        }
    }
    safe
}

/// Marks that turn the direction of writing, and so can show `live` where `evil` stands.
fn is_direction(char: char) -> bool {
    matches!(char, '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_are_shown_for_people() {
        for (field, value, text) in [
            ("name", json!(null), "-"),
            ("sharing", json!(true), "yes"),
            ("uses", json!(3), "3"),
            ("scopes", json!(["a", "b"]), "a, b"),
            ("labels", json!({"zone": "a", "rack": "7"}), "rack=7, zone=a"),
            ("labels", json!({}), "-"),
            ("name", json!("a\u{1b}[2Jb"), "a\\u{1b}[2Jb"),
            ("name", json!("2030-01-01T00:00:00Z"), "2030-01-01T00:00:00Z"),
        ] {
            assert_eq!(shown(field, &value), text, "{field}");
        }
        for field in ["created_at", "until", "next.at", "first_sign"] {
            let text = shown(field, &json!("2020-01-01T00:00:00Z"));
            assert!(text.starts_with("2020-01-01 00:00:00Z ("), "{field}: {text}");
        }
    }

    #[test]
    fn tables_have_a_row_for_each_and_no_line_for_what_is_absent() {
        let items = [json!({"id": "w1", "subject": {"id": "s"}}), json!({"id": "w2"})];
        let table = rows_table(&[("id", "id"), ("subject", "subject.id")], &items).to_string();
        assert_eq!(table.lines().count(), 3, "{table}");
        assert!(table.lines().nth(1).is_some_and(|line| line.contains("w1") && line.contains('s')));
        let object = object_table(&[("id", "id"), ("name", "name")], &items[0]).to_string();
        assert_eq!(object.lines().count(), 1, "{object}");
    }

    #[test]
    fn the_pieces_of_a_list_are_one_table() {
        let mut list = Pieces::new(&[("position", "position"), ("kind", "kind"), ("reason", "reason")]);
        let piece = |kind: &str| json!({"position": 1, "kind": kind, "reason": "here"});
        let first = list.table(&[piece("worker.created"), piece("worker.isolated")]).to_string();
        let second = list.table(&[piece("key.revoked")]).to_string();
        assert_eq!((first.lines().count(), second.lines().count()), (3, 1), "{first}\n{second}");
        let place = |line: &str| line.find("here").expect("a reason");
        let places: Vec<usize> = first.lines().skip(1).chain(second.lines()).map(place).collect();
        assert!(places.iter().all(|found| *found == places[0]), "{first}\n{second}");
    }
}
