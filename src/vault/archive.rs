//! The one file of a backup: a tar with the dump, the statement and its signature, so that any tool can look into it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek as _, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};
use tar::{Archive, EntryType, Header};

use super::statement::{SIGNATURE_BYTES, Statement};
use super::{VaultError, at};
use crate::credential::root_key::DerivedKeys;

const DUMP: &str = "portcullis.dump";
const STATEMENT: &str = "statement.json";
const SIGNATURE: &str = "statement.sig";

/// A statement is some 600 bytes.
const STATEMENT_BYTES_MAX: u64 = 16 << 10;
/// tar knows no smaller piece.
const BLOCK_BYTES: usize = 512;
/// Between two looks at how far it is.
const CHUNK_BYTES: usize = 1 << 20;
const ENTRIES_MAX: usize = 3;

/// An archive that is being written: the dump is on its way into it.
pub(super) struct Draft {
    out: PathBuf,
    part: PathBuf,
    file: File,
    digest: Context,
    bytes: u64,
}

/// An archive whose statement was signed with this root key. Its dump is believed once it was compared with that.
pub struct Backup {
    path: PathBuf,
    /// Held open: what is verified is what is read afterwards, whatever has taken its name.
    file: File,
    pub statement: Statement,
    dump_begins: u64,
}

// === impl Draft ===

impl Draft {
    /// Whether it could begin, as far as that shows without writing.
    pub(super) fn check(out: &Path) -> Result<(), VaultError> {
        if out.symlink_metadata().is_ok() {
            return Err(VaultError::Exists(out.to_owned()));
        }
        let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::read_dir(folder).map(drop).map_err(at(folder))
    }

    /// Begins beside `out`, which must not be there.
    pub(super) fn begin(out: &Path) -> Result<Self, VaultError> {
        Self::check(out)?;
        let mut name = out.file_name().unwrap_or_default().to_owned();
        name.push(".part");
        let part = out.with_file_name(name);
        // What a backup that was killed has left. Nothing that is there already is written to, nor followed: in a folder that
        // others may write to it could be theirs.
        match fs::remove_file(&part) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&part)(error)),
            Ok(()) | Err(_) => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part).map_err(at(&part))?;
        // Where the header of the dump will stand, once its length is known.
        file.write_all(&[0; BLOCK_BYTES]).map_err(at(&part))?;
        Ok(Self { out: out.to_owned(), part, file, digest: Context::new(&SHA256), bytes: 0 })
    }

    /// Adds to the dump.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), VaultError> {
        self.digest.update(bytes);
        self.bytes += bytes.len() as u64;
        self.file.write_all(bytes).map_err(at(&self.part))
    }

    pub(super) fn dump_bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn dump_sha256(&self) -> String {
        hex(self.digest.clone().finish().as_ref())
    }

    /// Adds the rest, and gives it its name.
    pub(super) fn finish(mut self, statement: &Statement, keys: &DerivedKeys) -> Result<(), VaultError> {
        let (text, signature) = statement.sign(keys);
        self.write_rest(&text, &signature).map_err(at(&self.part))?;
        // A link, and no renaming, which would replace what has come to be there since.
        fs::hard_link(&self.part, &self.out).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => VaultError::Exists(self.out.clone()),
            _ => at(&self.out)(error),
        })?;
        crate::secret::sync_folder(&self.out).map_err(at(&self.out))
    }

    fn write_rest(&mut self, text: &[u8], signature: &[u8]) -> io::Result<()> {
        self.pad(self.bytes)?;
        for (name, content) in [(STATEMENT, text), (SIGNATURE, signature)] {
            let length = content.len() as u64;
            self.file.write_all(header(name, length)?.as_bytes())?;
            self.file.write_all(content)?;
            self.pad(length)?;
        }
        // Two empty blocks are the end of a tar.
        self.file.write_all(&[0; 2 * BLOCK_BYTES])?;
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(header(DUMP, self.bytes)?.as_bytes())?;
        self.file.sync_all()
    }

    fn pad(&mut self, length: u64) -> io::Result<()> {
        let missing = length.next_multiple_of(BLOCK_BYTES as u64) - length;
        io::copy(&mut io::repeat(0).take(missing), &mut self.file).map(drop)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Its other name goes; where it has none, a disk that is full gets its room back, and the caller hears of what led here.
        drop(fs::remove_file(&self.part));
    }
}

fn header(name: &str, length: u64) -> io::Result<Header> {
    let mut header = Header::new_gnu();
    header.set_path(name)?;
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o600);
    header.set_size(length);
    header.set_cksum();
    Ok(header)
}

// === impl Backup ===

impl Backup {
    /// Looks for its three parts, and checks the signature.
    pub fn open(path: &Path, keys: &DerivedKeys) -> Result<Self, VaultError> {
        let damaged = |what| VaultError::Damaged { path: path.to_owned(), what };
        let file = File::open(path).map_err(at(path))?;
        let mut archive = Archive::new(&file);
        let (mut dump, mut statement, mut signature) = (None, Vec::new(), Vec::new());
        let unreadable = |_| damaged("it is no backup, or it is cut off");
        for entry in archive.entries_with_seek().map_err(unreadable)?.take(ENTRIES_MAX) {
            let mut entry = entry.map_err(unreadable)?;
            let (name, size) = (entry.path().map_err(unreadable)?.display().to_string(), entry.size());
            match name.as_str() {
                DUMP => dump = Some((entry.raw_file_position(), size)),
                STATEMENT if size <= STATEMENT_BYTES_MAX => {
                    entry.read_to_end(&mut statement).map_err(unreadable)?;
                }
                SIGNATURE if size == SIGNATURE_BYTES as u64 => {
                    entry.read_to_end(&mut signature).map_err(unreadable)?;
                }
                _ => return Err(damaged("there is something in it that belongs into no backup")),
            }
        }
        let statement = Statement::verify(&statement, &signature, keys).map_err(damaged)?;
        let (dump_begins, size) = dump.ok_or_else(|| damaged("there is no dump in it"))?;
        if size != statement.dump_bytes {
            return Err(damaged("its dump is longer or shorter than its statement says"));
        }
        Ok(Self { path: path.to_owned(), file, statement, dump_begins })
    }

    /// Hands on the dump, piece by piece, and then says whether it was the one of the statement.
    pub fn read_dump(&self, mut hand_on: impl FnMut(&[u8]) -> io::Result<()>) -> Result<(), VaultError> {
        let mut file = &self.file;
        file.seek(SeekFrom::Start(self.dump_begins)).map_err(at(&self.path))?;
        let (mut digest, mut chunk) = (Context::new(&SHA256), vec![0; CHUNK_BYTES]);
        let mut dump = file.take(self.statement.dump_bytes);
        loop {
            let count = dump.read(&mut chunk).map_err(at(&self.path))?;
            if count == 0 {
                break;
            }
            digest.update(&chunk[..count]);
            hand_on(&chunk[..count]).map_err(at(&self.path))?;
        }
        if hex(digest.finish().as_ref()) == self.statement.dump_sha256 {
            return Ok(());
        }
        Err(VaultError::Damaged { path: self.path.clone(), what: "the digest of its dump is wrong" })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
