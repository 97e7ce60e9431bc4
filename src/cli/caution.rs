//! What destroys is shown before it is done: `--dry-run` shows and stops, a terminal is asked, a script goes on.

use std::io::{IsTerminal as _, Write as _};

use serde_json::{Value, json};

use super::failure::Failure;
use super::output::{self, Column, Format, Screen};

/// Options of every verb that takes something away.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Caution {
    /// Show what would be touched, and change nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
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
        self.dry_run || (!self.yes && std::io::stdin().is_terminal())
    }

    /// Shows what would be touched; whether to go on.
    pub(crate) fn approve(self, screen: Screen, touched: &Touched) -> Result<bool, Failure> {
        if self.dry_run {
            touched.show(screen)?;
            screen.note("Nothing was changed: this was a dry run.");
            return Ok(false);
        }
        touched.show_aside(screen);
        if ask(&format!("{}?", capitalised(&touched.deed)))? {
            return Ok(true);
        }
        screen.note("Nothing was changed.");
        Ok(false)
    }
}

impl Touched {
    fn show(&self, screen: Screen) -> Result<(), Failure> {
        if screen.format == Format::Json {
            let mut plan = json!({ "dry_run": true, "would": self.deed });
            for part in &self.parts {
                plan[part.what] = Value::from(part.items.clone());
            }
            return output::json(&plan);
        }
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
