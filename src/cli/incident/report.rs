//! `portcullis incident report`: the report as a file.

use std::path::Path;

use serde_json::json;

use super::{Call, Failure, Session};
use crate::cli::output::{self, Format};

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum FileFormat {
    Md,
    Html,
}

pub(super) async fn run(
    session: &Session,
    incident: &str,
    format: FileFormat,
    out: Option<&Path>,
    through: Option<u64>,
) -> Result<(), Failure> {
    let name = match format {
        FileFormat::Md => "md",
        FileFormat::Html => "html",
    };
    let call = Call::get(&["v1", "incidents", incident, "report"]).query("format", name.to_owned());
    let call = call.query("through", through.map(|position| position.to_string())).for_text();
    let answer = session.operator()?.send(&call).await?;
    let text = answer.body.as_str().unwrap_or_default();
    let through = answer.position.unwrap_or_default();
    let Some(path) = out else {
        return match session.screen.format {
            Format::Json => output::json(&json!({ "through": through, "format": name, "report": text })),
            Format::Table => output::line(text.trim_end()),
        };
    };
    let written = std::fs::write(path, text);
    written.map_err(|error| Failure::fault(format_args!("cannot write the report to {}", path.display()), error))?;
    session.screen.note(format_args!("Wrote the report up to position {through} to {}.", path.display()));
    match session.screen.format {
        Format::Json => output::json(&json!({ "through": through, "format": name, "file": path })),
        Format::Table => Ok(()),
    }
}
