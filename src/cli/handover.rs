//! Handing a new secret over, once: to a file of its own, or bare to standard output with everything else beside it.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::client::Answer;
use super::dry_run::DryRun;
use super::failure::Failure;
use super::output::{self, Column, Format, Screen};

/// Where the new secret goes.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct KeyFile {
    /// Write the new secret into this file, which must not exist, for its owner alone. Default: standard output.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
}

pub(crate) enum Destination {
    Output,
    File(Reserved),
}

/// A file that was made before the secret was: a secret that is made first may find no place to go.
pub(crate) struct Reserved {
    path: PathBuf,
    file: File,
    filled: bool,
}

impl KeyFile {
    /// A dry run makes no file, and is told of one that is in the way.
    pub(crate) fn reserve(&self, dry: DryRun) -> Result<Destination, Failure> {
        let Some(path) = &self.key_file else { return Ok(Destination::Output) };
        if dry.is_asked() {
            return check_free(path).map(|()| Destination::Output);
        }
        let file = create_private(path)?;
        Ok(Destination::File(Reserved { path: path.clone(), file, filled: false }))
    }
}

/// Makes a file that only its owner can read, and refuses one that is there.
pub(crate) fn create_private(path: &Path) -> Result<File, Failure> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => taken(path),
        _ => Failure::fault(format_args!("cannot create {}", path.display()), error),
    })
}

/// Whether such a file could be made, as far as that shows without making it.
pub(crate) fn check_free(path: &Path) -> Result<(), Failure> {
    // A link that leads nowhere is in the way too.
    if path.symlink_metadata().is_ok() {
        return Err(taken(path));
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match folder.metadata() {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(Failure::Usage(format!("cannot create {}: {} is no folder", path.display(), folder.display()))),
        Err(error) => Err(Failure::fault(format_args!("cannot create {}", path.display()), error)),
    }
}

fn taken(path: &Path) -> Failure {
    Failure::Usage(format!(
        "`{}` exists and is not overwritten, it may hold the only copy of a key; name another file",
        path.display()
    ))
}

impl Destination {
    /// Hands over `answer[field]`, and shows the rest of the answer.
    pub(crate) fn deliver(
        self,
        screen: Screen,
        columns: &[Column],
        mut answer: Answer,
        field: &str,
    ) -> Result<(), Failure> {
        let secret = match answer.body.get(field) {
            Some(Value::String(secret)) => zeroize::Zeroizing::new(secret.clone()),
            // A chosen secret is known to whoever chose it, and is not answered.
            _ => return screen.object(columns, &answer.body),
        };
        match self {
            Destination::Output if screen.format == Format::Json => {
                output::json(&answer.body)?;
                screen.note(format_args!("The `{field}` is shown this once; store it now."));
            }
            Destination::Output => {
                screen.object_aside(columns, &answer.body);
                screen.note("Standard output has the secret. It is shown this once; store it now:");
                output::line(secret.as_str())?;
            }
            Destination::File(reserved) => {
                let path = reserved.path.clone();
                reserved.fill(&secret).map_err(|error| lost(&path, error, answer.idempotency_key.as_deref()))?;
                if let Value::Object(fields) = &mut answer.body {
                    fields.remove(field);
                    fields.insert(format!("{field}_file"), Value::from(path.display().to_string()));
                }
                screen.object(columns, &answer.body)?;
                screen.note(format_args!("The secret is in {}, and nowhere else.", path.display()));
            }
        }
        Ok(())
    }
}

fn lost(path: &Path, error: std::io::Error, idempotency_key: Option<&str>) -> Failure {
    let again = idempotency_key.map(|key| {
        format!("; to get it again, within a day, repeat the command with `--idempotency-key {key}` and another file")
    });
    let again = again.unwrap_or_default();
    Failure::fault(format_args!("the secret was made, and could not be written to {}{again}", path.display()), error)
}

impl Reserved {
    fn fill(mut self, secret: &str) -> std::io::Result<()> {
        self.file.write_all(secret.as_bytes())?;
        self.file.write_all(b"\n")?;
        self.file.sync_all()?;
        self.filled = true;
        Ok(())
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if !self.filled {
            // An empty file would stand in the way of the next attempt; if it cannot go, that attempt says so.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use serde_json::json;

    use super::*;

    fn answer() -> Answer {
        Answer { body: json!({"id": "k1", "key": "secret"}), position: None, idempotency_key: None }
    }

    #[test]
    fn a_key_file_is_private_new_and_filled() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.key");
        let to = KeyFile { key_file: Some(path.clone()) };
        let destination = to.reserve(DryRun::default()).expect("a place");
        destination.deliver(Screen::new(Format::Json, true), &[], answer(), "key").expect("delivered");
        assert_eq!(std::fs::read_to_string(&path).expect("the file"), "secret\n");
        assert_eq!(std::fs::metadata(&path).expect("the file").permissions().mode() & 0o777, 0o600);
        assert!(matches!(to.reserve(DryRun::default()), Err(Failure::Usage(_))), "it must not be overwritten");
    }

    #[test]
    fn a_place_that_was_not_needed_is_given_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.key");
        drop(KeyFile { key_file: Some(path.clone()) }.reserve(DryRun::default()).expect("a place"));
        assert!(!path.exists());
    }
}
