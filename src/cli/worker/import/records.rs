//! The keys file: what an import has done, and the only copy of the keys that it made.
//!
//! A line is on disk before it counts. What a crash leaves half written is cut off when the import goes on, and the
//! command behind it is repeated under the same idempotency key, which gives the same key again.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt as _;
use zeroize::Zeroizing;

use crate::cli::failure::Failure;

/// What an import is known by, and what the idempotency keys of its commands are made from.
///
/// The content of the file alone would not do. The service keeps an answer that holds a secret sealed under a key that
/// comes from the idempotency key: whoever can guess a fleet's file and read the database could open it. So the
/// operator's token goes in too, and what comes out is kept beside the keys, for a resumption under another token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ImportId {
    /// Of the file's content; tells this import from one of another file.
    file: String,
    seed: String,
}

/// One line that is done.
#[derive(Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) worker: String,
    pub(super) pool: String,
    pub(super) name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) key_id: Option<String>,
    /// Absent where the line has a static secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<String>,
    pub(super) line: u64,
    #[serde(default)]
    pub(super) import: String,
}

/// A line whose worker existed before the import began. It has no key here.
#[derive(Serialize)]
struct LeftAlone<'a> {
    known: bool,
    line: u64,
    import: &'a str,
}

/// What is read back of either.
#[derive(Deserialize)]
struct Read {
    #[serde(default)]
    known: bool,
    line: u64,
    import: String,
}

/// The lines that need nothing more, each list in ascending order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Done {
    pub(super) lines: Vec<u64>,
    pub(super) known: Vec<u64>,
}

pub(super) struct Records {
    id: ImportId,
    path: PathBuf,
    file: tokio::fs::File,
    /// How much of the file, as it was found, is whole lines.
    whole: u64,
    done: Done,
}

impl ImportId {
    pub(super) fn new(digest: &[u8; 32], token: &SecretString) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("portcullis worker import: seed of idempotency keys");
        hasher.update(token.expose_secret().as_bytes());
        hasher.update(digest);
        let seed = hasher.finalize().to_hex()[..32].to_owned();
        let file = blake3::Hash::from_bytes(*digest).to_hex()[..32].to_owned();
        Self { file, seed }
    }

    fn parse(text: &str) -> Option<Self> {
        let (file, seed) = text.split_once('-')?;
        Some(Self { file: file.to_owned(), seed: seed.to_owned() })
    }

    fn text(&self) -> String {
        format!("{}-{}", self.file, self.seed)
    }

    /// What one command of one line is done under, in this run and in every later one.
    pub(super) fn idempotency_key(&self, line: u64, command: &str) -> String {
        let mut hasher = blake3::Hasher::new_derive_key("portcullis worker import: idempotency key");
        hasher.update(self.text().as_bytes());
        hasher.update(&line.to_le_bytes());
        hasher.update(command.as_bytes());
        hasher.finalize().to_hex().to_string()
    }
}

impl Records {
    /// Goes on with the file at `path`, if there is one.
    pub(super) fn resume(path: &Path, id: ImportId) -> Result<Option<Self>, Failure> {
        let fault = |error| Failure::fault(format_args!("the keys file {}", path.display()), error);
        let mut file = match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(fault(error)),
        };
        if file.metadata().map_err(fault)?.permissions().mode() & 0o077 != 0 {
            let path = path.display();
            return Err(Failure::Usage(format!("others can read the keys file {path}; run: chmod 600 '{path}'")));
        }
        lock(&file, path)?;
        let (done, found, whole) = read(&file, &id, path)?;
        file.seek(SeekFrom::Start(whole)).map_err(fault)?;
        let id = found.unwrap_or(id);
        Ok(Some(Self { id, path: path.to_owned(), file: tokio::fs::File::from_std(file), whole, done }))
    }

    /// Cuts off what a crash left half written; not before it is decided that the import goes on.
    pub(super) async fn go_on(self) -> Result<Self, Failure> {
        let cut = self.file.set_len(self.whole).await;
        cut.map_err(|error| Failure::fault(format_args!("the keys file {}", self.path.display()), error))?;
        Ok(self)
    }

    /// Begins a new file, with the lines that are left alone: a later run could not tell them from its own work.
    pub(super) fn start(path: &Path, id: ImportId, known: &[u64]) -> Result<Self, Failure> {
        let fault = |error| Failure::fault(format_args!("cannot create the keys file {}", path.display()), error);
        // Under another name until it is whole: that the file exists says that what was known is in it.
        let draft = super::beside(path, "new");
        let file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft).map_err(fault)?;
        lock(&file, path)?;
        let mut out = std::io::BufWriter::new(&file);
        let import = id.text();
        for &line in known {
            serde_json::to_writer(&mut out, &LeftAlone { known: true, line, import: &import })
                .map_err(|error| fault(error.into()))?;
            out.write_all(b"\n").map_err(fault)?;
        }
        out.flush().map_err(fault)?;
        drop(out);
        file.sync_all().map_err(fault)?;
        // A link, unlike a rename, fails where another import has made the file in the meantime.
        std::fs::hard_link(&draft, path).and_then(|()| std::fs::remove_file(&draft)).map_err(fault)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(fault)?;
        Ok(Self { id, path: path.to_owned(), file: tokio::fs::File::from_std(file), whole: 0, done: Done::default() })
    }

    pub(super) fn id(&self) -> &ImportId {
        &self.id
    }

    pub(super) fn done(&self) -> &Done {
        &self.done
    }

    /// Writes these lines, and returns when they are on disk.
    pub(super) async fn write(&mut self, records: &mut [Record]) -> Result<(), Failure> {
        if records.is_empty() {
            return Ok(());
        }
        let import = self.id.text();
        let mut text = Zeroizing::new(Vec::new());
        for record in records {
            record.import.clone_from(&import);
            serde_json::to_writer(&mut *text, record).map_err(|error| self.lost(error.into()))?;
            text.push(b'\n');
        }
        let written = self.file.write_all(&text).await;
        let written = if written.is_ok() { self.file.sync_data().await } else { written };
        written.map_err(|error| self.lost(error))
    }

    fn lost(&self, error: std::io::Error) -> Failure {
        let doing = format!(
            "cannot write to the keys file {}; run the same import again within a day, and the keys that were made are \
             given again",
            self.path.display()
        );
        Failure::fault(doing, error)
    }
}

/// Two imports that write one file would tear each other's lines.
fn lock(file: &File, path: &Path) -> Result<(), Failure> {
    file.try_lock().map_err(|error| match error {
        std::fs::TryLockError::WouldBlock => {
            Failure::Usage(format!("another import is writing the keys file {} now", path.display()))
        }
        std::fs::TryLockError::Error(error) => Failure::fault("cannot lock the keys file", error),
    })
}

/// What the file says is done, the import it says that of, and how much of it is whole lines.
fn read(file: &File, id: &ImportId, path: &Path) -> Result<(Done, Option<ImportId>, u64), Failure> {
    let mut reader = BufReader::new(file);
    let (mut done, mut found, mut whole) = (Done::default(), None, 0);
    let mut text = Zeroizing::new(Vec::new());
    loop {
        text.clear();
        let length = reader.read_until(b'\n', &mut text);
        let length = length.map_err(|error| Failure::fault(format_args!("cannot read {}", path.display()), error))?;
        if length == 0 || !text.ends_with(b"\n") {
            break;
        }
        let record: Option<Read> = serde_json::from_slice(&text).ok();
        let import = record.as_ref().and_then(|record| ImportId::parse(&record.import));
        let (Some(record), Some(import)) = (record, import.filter(|import| import.file == id.file)) else {
            return Err(Failure::Usage(format!(
                "{} belongs to something else than this version of the file; name another with `--keys-out`. Workers \
                 that an earlier import made are left alone where the lines have ids",
                path.display()
            )));
        };
        found.get_or_insert(import);
        if record.known { &mut done.known } else { &mut done.lines }.push(record.line);
        whole += length as u64;
    }
    for lines in [&mut done.lines, &mut done.known] {
        lines.sort_unstable();
        lines.dedup();
    }
    Ok((done, found, whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(file: u8, token: &str) -> ImportId {
        ImportId::new(&[file; 32], &SecretString::from(token))
    }

    fn record(line: u64) -> Record {
        let text = |text: &str| text.to_owned();
        Record {
            worker: text("w"),
            pool: text("b"),
            name: None,
            key_id: Some(text("k")),
            key: Some(text("secret")),
            line,
            import: String::new(),
        }
    }

    #[tokio::test]
    async fn an_import_goes_on_where_it_was() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("keys.jsonl");
        assert!(Records::resume(&path, id(1, "a")).expect("no fault").is_none());
        let mut records = Records::start(&path, id(1, "a"), &[7]).expect("a file");
        records.write(&mut [record(3), record(2)]).await.expect("written");
        drop(records);
        assert_eq!(std::fs::metadata(&path).expect("the file").permissions().mode() & 0o777, 0o600);

        // A crash in the middle of a line, and another token: the seed of the first run stands.
        OpenOptions::new().append(true).open(&path).expect("the file").write_all(b"{\"worker\":\"w").expect("written");
        let records = Records::resume(&path, id(1, "b")).expect("no fault").expect("the records");
        let mut records = records.go_on().await.expect("cut");
        assert_eq!(records.done(), &Done { lines: vec![2, 3], known: vec![7] });
        assert_eq!(records.id(), &id(1, "a"));
        records.write(&mut [record(4)]).await.expect("written");
        drop(records);
        let text = std::fs::read_to_string(&path).expect("the file");
        assert_eq!(text.lines().count(), 4, "{text}");
        assert!(text.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()), "{text}");
    }

    #[tokio::test]
    async fn a_keys_file_belongs_to_one_content_and_one_process() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("keys.jsonl");
        let mut records = Records::start(&path, id(1, "a"), &[]).expect("a file");
        records.write(&mut [record(2)]).await.expect("written");
        assert!(matches!(Records::resume(&path, id(1, "a")), Err(Failure::Usage(_))), "it is locked");
        drop(records);
        assert!(matches!(Records::resume(&path, id(2, "a")), Err(Failure::Usage(_))), "another content");
    }

    #[test]
    fn every_command_of_every_line_has_a_key_of_its_own_that_no_reader_of_the_file_can_guess() {
        let first = id(1, "a").idempotency_key(1, "worker");
        assert_eq!(first, id(1, "a").idempotency_key(1, "worker"));
        for other in [
            id(1, "a").idempotency_key(2, "worker"),
            id(1, "a").idempotency_key(1, "key 1"),
            id(2, "a").idempotency_key(1, "worker"),
            id(1, "b").idempotency_key(1, "worker"),
        ] {
            assert_ne!(first, other);
        }
    }
}
