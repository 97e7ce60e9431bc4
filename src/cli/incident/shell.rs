//! `portcullis incident shell`: a shell in which every command carries the incident, so that nobody has to think of it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;

use tokio::process::Command;

use super::{Call, Failure, Session};
use crate::cli::connection::INCIDENT_VARIABLE;

/// What every POSIX system has.
const FALLBACK: &str = "/bin/sh";

pub(super) async fn run(session: &Session, incident: &str, arguments: &[OsString]) -> Result<(), Failure> {
    let found = session.read(Call::get(&["v1", "incidents", incident])).await?;
    if found["state"] != "open" {
        return Err(Failure::Usage(format!("incident {incident} is closed; nothing is done for it any more")));
    }
    let shell = std::env::var_os("SHELL").filter(|shell| !shell.is_empty()).unwrap_or_else(|| FALLBACK.into());
    session.screen.note(format_args!("Every command in this shell is for incident {incident}; `exit` ends it."));
    let mut command = Command::new(&shell);
    command
        .args(arguments)
        .envs(session.variables())
        .env(INCIDENT_VARIABLE, incident)
        .env("PS1", format!("({incident}) $ "))
        // bash reads its own prompt from a file after that; this is done before each prompt.
        .env("PROMPT_COMMAND", format!("PS1=\"({incident}) ${{PS1#\"({incident}) \"}}\""))
        .stdin(Stdio::inherit());
    if let Some(path) = path_with_us() {
        command.env("PATH", path);
    }
    let status = command
        .status()
        .await
        .map_err(|error| Failure::fault(format_args!("cannot start the shell {} (SHELL)", shell.display()), error))?;
    match status.code() {
        Some(0) => Ok(()),
        // A shell that a signal has ended has no code; shells themselves would say 128 and more.
        code => Err(Failure::Shell(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX))),
    }
}

/// So that `portcullis` is this very program there, wherever it was started from.
fn path_with_us() -> Option<OsString> {
    let folder: PathBuf = std::env::current_exe().ok()?.parent()?.to_owned();
    let path = std::env::var_os("PATH").unwrap_or_default();
    // An empty part would mean wherever one happens to stand.
    let parts: Vec<PathBuf> = std::env::split_paths(&path).filter(|part| !part.as_os_str().is_empty()).collect();
    if parts.contains(&folder) {
        return None;
    }
    std::env::join_paths(parts.into_iter().chain([folder])).ok()
}
