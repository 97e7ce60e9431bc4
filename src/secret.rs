//! Secrets at rest in files: read with care, written whole or not at all.
//!
//! In memory a secret is a [`SecretString`], which prints as nothing and is wiped when dropped. On disk it is one line
//! in a file that only its owner can read. A file that others can read is refused rather than warned about: a warning
//! scrolls by, and the secret has been readable since.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use zeroize::Zeroizing;

pub use secrecy::{ExposeSecret, SecretString};

/// The longest secret file that is read. The longest secret is a token of 4 KiB; the rest is room for a private key
/// in PEM. Without a limit a path that names `/dev/zero` by mistake would fill the memory.
pub const SECRET_FILE_BYTES_MAX: usize = 16 * 1024;

/// Read and write for the owner, nothing for anyone else.
const OWNER_ONLY: u32 = 0o600;

#[derive(Debug, thiserror::Error)]
pub enum SecretFileError {
    #[error("cannot {action} the secret file `{path}`")]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("`{0}` is not a plain file; a secret file must be one")]
    NotAFile(PathBuf),
    #[error("`{path}` can be read or changed by others (mode {mode:04o}); run: chmod 600 '{path}'")]
    Exposed { path: PathBuf, mode: u32 },
    #[error("`{0}` is empty; it should hold one secret")]
    Empty(PathBuf),
    #[error("`{0}` is larger than {SECRET_FILE_BYTES_MAX} bytes; that is no secret of ours")]
    TooLarge(PathBuf),
    #[error("`{0}` is not UTF-8 text")]
    NotText(PathBuf),
    #[error("`{0}` exists already and is not overwritten; remove it first if it is no longer needed")]
    Exists(PathBuf),
}

/// Reads the secret in the file at `path`, without the newline that ends it.
///
/// Symbolic links are followed, as mounted secrets are often links; what is checked is the file that was opened, so
/// that nobody can swap it between the check and the read.
pub fn read_secret_file(path: &Path) -> Result<SecretString, SecretFileError> {
    let fault = |action| move |source| SecretFileError::Io { action, path: path.to_owned(), source };
    // Opening a FIFO would otherwise wait for a writer that may never come.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(fault("open"))?;
    let metadata = file.metadata().map_err(fault("examine"))?;
    if !metadata.is_file() {
        return Err(SecretFileError::NotAFile(path.to_owned()));
    }
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(SecretFileError::Exposed { path: path.to_owned(), mode });
    }

    // Sized at once: a buffer that grows leaves copies of the secret behind in freed memory.
    let mut bytes = Zeroizing::new(vec![0; SECRET_FILE_BYTES_MAX + 1]);
    let length = read_up_to(&file, &mut bytes).map_err(fault("read"))?;
    if length > SECRET_FILE_BYTES_MAX {
        return Err(SecretFileError::TooLarge(path.to_owned()));
    }
    let text = std::str::from_utf8(&bytes[..length]).map_err(|_| SecretFileError::NotText(path.to_owned()))?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return Err(SecretFileError::Empty(path.to_owned()));
    }
    Ok(SecretString::from(text))
}

/// The mode of a file, if others than its owner can read or change what is in it; `None` too where there is no such file.
pub fn exposed_mode(path: &Path) -> Option<u32> {
    let mode = fs::metadata(path).ok()?.permissions().mode() & 0o7777;
    (mode & 0o077 != 0).then_some(mode)
}

/// Refuses a file that others can read, as [`read_secret_file`] does, for what is read elsewhere. One that is missing passes.
pub fn check_secret_file(path: &Path) -> Result<(), SecretFileError> {
    match exposed_mode(path) {
        Some(mode) => Err(SecretFileError::Exposed { path: path.to_owned(), mode }),
        None => Ok(()),
    }
}

/// Takes a file away from everyone but its owner.
pub fn make_private(path: &Path) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(OWNER_ONLY))
}

/// Writes `secret` and a newline to `path`, for the owner alone, replacing what was there.
///
/// A reader sees the old content or the new, never a part; after a crash too. A symbolic link at `path` is replaced
/// and never followed, so that nobody who can write to the folder can steer the secret elsewhere.
pub fn write_secret_file(path: &Path, secret: &SecretString) -> Result<(), SecretFileError> {
    let fault = |source| SecretFileError::Io { action: "write", path: path.to_owned(), source };
    let mut draft = Draft::write(path, secret).map_err(fault)?;
    fs::rename(&draft.path, path).map_err(fault)?;
    draft.moved = true;
    sync_folder(path).map_err(fault)
}

/// Writes `secret` as [`write_secret_file`] does, but refuses when anything exists at `path`.
///
/// Of two processes that create the same file at once, one succeeds and the other gets [`SecretFileError::Exists`].
pub fn create_secret_file(path: &Path, secret: &SecretString) -> Result<(), SecretFileError> {
    let fault = |source| SecretFileError::Io { action: "create", path: path.to_owned(), source };
    let draft = Draft::write(path, secret).map_err(fault)?;
    // A hard link, unlike a rename, fails when the name is taken; a dangling symbolic link takes it too.
    fs::hard_link(&draft.path, path).map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => SecretFileError::Exists(path.to_owned()),
        _ => fault(source),
    })?;
    drop(draft);
    sync_folder(path).map_err(fault)
}

/// A complete file beside the one that is wanted, removed again unless it was moved there.
struct Draft {
    path: PathBuf,
    moved: bool,
}

impl Draft {
    fn write(target: &Path, secret: &SecretString) -> io::Result<Self> {
        let name = target.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let mut unlike_others = [0; 8];
        aws_lc_rs::rand::fill(&mut unlike_others).map_err(io::Error::other)?;
        let mut draft_name = std::ffi::OsString::from(".");
        draft_name.push(name);
        draft_name.push(format!(".{:016x}.new", u64::from_be_bytes(unlike_others)));

        let path = target.with_file_name(draft_name);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(OWNER_ONLY).open(&path)?;
        let draft = Self { path, moved: false };
        file.write_all(secret.expose_secret().as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        Ok(draft)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.moved {
            // Nothing can be done about a failure here, and the caller hears of the one that led here.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn read_up_to(mut file: &File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match file.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

/// Makes the name itself durable; without it a crash can lose a file whose content was flushed.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn names(folder: &Path) -> Vec<String> {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn what_is_written_is_read_back_and_is_the_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.token");
        write_secret_file(&path, &"first".into()).unwrap();
        write_secret_file(&path, &"second".into()).unwrap();

        assert_eq!(read_secret_file(&path).unwrap().expose_secret(), "second");
        assert_eq!(fs::read_to_string(&path).unwrap(), "second\n");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, OWNER_ONLY);
        assert_eq!(names(folder.path()), ["admin.token"], "no draft stays behind");
    }

    #[test]
    fn creating_refuses_to_overwrite() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("root.key");
        create_secret_file(&path, &"first".into()).unwrap();

        let again = create_secret_file(&path, &"second".into());

        assert!(matches!(again, Err(SecretFileError::Exists(_))));
        assert_eq!(read_secret_file(&path).unwrap().expose_secret(), "first");
        assert_eq!(names(folder.path()), ["root.key"], "no draft stays behind");
    }

    #[test]
    fn a_symbolic_link_is_replaced_and_what_it_points_to_is_untouched() {
        let folder = tempfile::tempdir().unwrap();
        let (elsewhere, path) = (folder.path().join("elsewhere"), folder.path().join("admin.token"));
        fs::write(&elsewhere, "theirs").unwrap();
        std::os::unix::fs::symlink(&elsewhere, &path).unwrap();

        assert!(matches!(create_secret_file(&path, &"ours".into()), Err(SecretFileError::Exists(_))));
        write_secret_file(&path, &"ours".into()).unwrap();

        assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "theirs");
        assert!(fs::symlink_metadata(&path).unwrap().is_file());
    }

    #[test]
    fn files_that_others_can_read_are_refused_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("target"), folder.path().join("link"));
        write_secret_file(&target, &"ours".into()).unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o601] {
            set_mode(&target, mode);
            for path in [&target, &link] {
                let error = read_secret_file(path).unwrap_err().to_string();
                assert!(error.contains("chmod 600"), "{mode:o}: {error}");
            }
        }
        set_mode(&target, 0o400);
        assert_eq!(read_secret_file(&link).unwrap().expose_secret(), "ours");
    }

    #[test]
    fn only_one_newline_is_trimmed_and_odd_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let read = |content: &[u8]| {
            fs::write(&path, content).unwrap();
            set_mode(&path, 0o600);
            read_secret_file(&path).map(|secret| secret.expose_secret().to_owned())
        };
        assert_eq!(read(b"a b\n\n").unwrap(), "a b\n");
        assert_eq!(read(b"a\r\n").unwrap(), "a");
        assert!(matches!(read(b""), Err(SecretFileError::Empty(_))));
        assert!(matches!(read(b"\n"), Err(SecretFileError::Empty(_))));
        assert!(matches!(read(b"\xff"), Err(SecretFileError::NotText(_))));
        assert!(read(&vec![b'x'; SECRET_FILE_BYTES_MAX]).is_ok());
        assert!(matches!(read(&vec![b'x'; SECRET_FILE_BYTES_MAX + 1]), Err(SecretFileError::TooLarge(_))));
        assert!(matches!(read_secret_file(folder.path()), Err(SecretFileError::NotAFile(_))));
        let absent = read_secret_file(&folder.path().join("absent"));
        assert!(matches!(absent, Err(SecretFileError::Io { action: "open", .. })));
    }
}
