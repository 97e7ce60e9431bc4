//! What destroys is shown before it is done: `--dry-run` shows and stops, a terminal is asked, a script goes on.

use std::io::{IsTerminal as _, Write as _};

use serde_json::{Map, Value, json};

use super::dry_run::{self, DryRun};
use super::failure::Failure;
use super::output::{self, Column, Format, Screen};

/// Options of every verb that takes something away.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub(crate) struct Caution {
    #[command(flatten)]
    pub(crate) dry: DryRun,
    /// Do not ask. Asked is only on a terminal.
    #[arg(long, short)]
    pub(crate) yes: bool,
}

/// What would be touched.
pub(crate) struct Touched {
    /// The deed, such as `remove worker w1 and revoke its keys`.
    pub(crate) deed: String,
    pub(crate) parts: Vec<Part>,
}

pub(crate) struct Part {
    /// What these are, in the plural.
    pub(crate) what: &'static str,
    pub(crate) columns: &'static [Column],
    pub(crate) items: Vec<Value>,
}

impl Caution {
    /// Whether what would be touched has to be known at all.
    pub(crate) fn looks_first(self) -> bool {
        self.dry.is_asked() || (!self.yes && std::io::stdin().is_terminal())
    }

    /// What would be touched, where it has to be known.
    pub(crate) async fn look<T>(self, touched: impl Future<Output = Result<T, Failure>>) -> Result<Option<T>, Failure> {
        if self.looks_first() { touched.await.map(Some) } else { Ok(None) }
    }

    /// Shows what would be touched; whether to go on.
    pub(crate) fn approve(self, screen: Screen, touched: &Touched) -> Result<bool, Failure> {
        if self.dry.is_asked() {
            match screen.format {
                Format::Json => output::json(&Value::Object(touched.fields()))?,
                Format::Table => touched.show(screen)?,
            }
            dry_run::nothing_was_changed(screen);
            return Ok(false);
        }
        touched.show_aside(screen);
        if ask(&format!("{}?", capitalised(&touched.deed)))? {
            return Ok(true);
        }
        // Whoever reads standard output learns it too.
        if screen.format == Format::Json {
            output::json(&json!({ "changed": false, "declined": true }))?;
        }
        screen.note("Nothing was changed.");
        Ok(false)
    }
}

impl Touched {
    /// For a program: the deed, and under its own name what is touched of each kind.
    pub(crate) fn fields(&self) -> Map<String, Value> {
        let parts = self.parts.iter().map(|part| (part.what.to_owned(), Value::from(part.items.clone())));
        let named = [("dry_run".to_owned(), Value::from(true)), ("deed".to_owned(), Value::from(self.deed.as_str()))];
        named.into_iter().chain(parts).collect()
    }

    /// For people.
    pub(crate) fn show(&self, screen: Screen) -> Result<(), Failure> {
        screen.note(format_args!("This would {}:", self.deed));
        for part in self.parts.iter().filter(|part| !part.items.is_empty()) {
            output::line(format_args!("{} ({})", part.what, part.items.len()))?;
            screen.rows(part.columns, &part.items)?;
        }
        Ok(())
    }

    pub(crate) fn show_aside(&self, screen: Screen) {
        for part in self.parts.iter().filter(|part| !part.items.is_empty()) {
            screen.note(format_args!("{} ({})", part.what, part.items.len()));
            screen.rows_aside(part.columns, &part.items);
        }
    }
}

/// Asks on the terminal; anything but a yes is a no.
pub(crate) fn ask(question: &str) -> Result<bool, Failure> {
    let fault = |error| Failure::fault("cannot ask on the terminal; decide with `--yes`", error);
    write!(std::io::stderr(), "{question} [y/N] ").map_err(fault)?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(fault)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}
