//! What lies where in the data folder, who may enter it, and the lock that keeps a second service out.

use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::EmbeddedError;
use super::account::Account;

/// `sun_path` has 108 bytes on Linux, and the last is a NUL.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// The name that Postgres gives its socket for the port that we tell it. No port is opened.
pub(super) const PORT: u16 = 5432;
const SOCKET_NAME: &str = ".s.PGSQL.5432";

/// Past this, the log of Postgres is put aside at the next start, once: two files are enough to see why it stopped.
const LOG_BYTES_MAX: u64 = 8 << 20;

/// The places in a data folder.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    pub(super) root: PathBuf,
    pub(super) cluster: PathBuf,
    pub(super) log: PathBuf,
}

/// What keeps a second service out of a data folder. The file says who is there; the folder itself is locked as well, since
/// a file that somebody tidied away would be made anew, and locked by a second service beside the first: it would take
/// the live Postgres for a leftover and stop it.
#[derive(Debug)]
pub struct Lock {
    _file: File,
    _folder: Option<File>,
}

impl Folder {
    /// Makes the data folder if it is missing; nobody else may look into a new one.
    pub(super) fn open(root: &Path) -> Result<Self, EmbeddedError> {
        let io = |source| EmbeddedError::Folder { folder: root.into(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(root).map_err(io)?;
        let root = root.canonicalize().map_err(io)?;
        Ok(Self { cluster: root.join("postgres"), log: root.join("postgres.log"), root })
    }

    /// Held for as long as the files are open, and given back by the kernel however we end.
    pub(super) fn lock(&self) -> Result<Lock, EmbeddedError> {
        let io = |source| EmbeddedError::Folder { folder: self.root.clone(), source };
        let folder = File::open(&self.root).map_err(io)?;
        let folder = match folder.try_lock() {
            Ok(()) => Some(folder),
            Err(TryLockError::WouldBlock) => return Err(self.in_use()),
            // Network file systems may lock files only.
            Err(TryLockError::Error(_)) => None,
        };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(self.lock_file()).map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(self.in_use()),
            Err(TryLockError::Error(source)) => return Err(io(source)),
        }
        file.set_len(0).and_then(|()| file.rewind()).map_err(io)?;
        writeln!(file, "{}", std::process::id()).map_err(io)?;
        Ok(Lock { _file: file, _folder: folder })
    }

    fn lock_file(&self) -> PathBuf {
        self.root.join("lock")
    }

    fn in_use(&self) -> EmbeddedError {
        // Missing, unreadable or half written: the error says what it can.
        let pid = std::fs::read_to_string(self.lock_file()).ok().and_then(|text| text.trim().parse().ok());
        EmbeddedError::InUse { data_dir: self.root.clone(), pid }
    }

    /// The major version of the cluster here, if there is one.
    pub(super) fn cluster_major(&self) -> Result<Option<u32>, EmbeddedError> {
        match std::fs::read_to_string(self.cluster.join("PG_VERSION")) {
            Ok(text) => text.trim().parse().map(Some).map_err(|_| EmbeddedError::NotACluster(self.cluster.clone())),
            // initdb writes into another folder, which is renamed when it is whole: a folder without this file is
            // something else, and not ours to write into.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.cluster.exists() => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(EmbeddedError::NotACluster(self.cluster.clone()))
            }
            Err(source) => Err(EmbeddedError::Folder { folder: self.cluster.clone(), source }),
        }
    }

    /// A folder for the socket that only `account` and root may enter: here, or in a short place when the path to here
    /// is too long for a socket.
    pub(super) fn socket_folder(&self, account: &Account) -> Result<PathBuf, EmbeddedError> {
        let near = self.root.join("run");
        let folder = if near.as_os_str().len() + 1 + SOCKET_NAME.len() <= SOCKET_PATH_BYTES_MAX {
            near
        } else {
            let digest = blake3::hash(self.root.as_os_str().as_encoded_bytes()).to_hex();
            let name = format!("portcullis-{}", &digest[..16]);
            let run = Path::new("/run");
            let place =
                if rustix::process::geteuid().is_root() && run.is_dir() { run.into() } else { std::env::temp_dir() };
            place.join(name)
        };
        private_folder(&folder, account).map_err(|source| EmbeddedError::Folder { folder: folder.clone(), source })?;
        Ok(folder)
    }

    /// The file that Postgres writes to. It is opened by us, so that it lies among our files and not in the cluster.
    pub(super) fn open_log(&self) -> io::Result<File> {
        if std::fs::metadata(&self.log).is_ok_and(|metadata| metadata.len() > LOG_BYTES_MAX) {
            std::fs::rename(&self.log, self.log.with_extension("log.1"))?;
        }
        OpenOptions::new().append(true).create(true).mode(0o600).open(&self.log)
    }

    /// The last lines of that file, for an error.
    pub(super) fn log_tail(&self) -> String {
        const LINES: usize = 5;
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }
}

/// Makes `folder` with mode 0700 for `account`, or sees that it is so. In a temporary folder anyone could have made it
/// before us, to serve us a socket of theirs: then it is refused.
pub(super) fn private_folder(folder: &Path, account: &Account) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Ok(()) => return account.own(folder),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    let metadata = std::fs::symlink_metadata(folder)?;
    let ours = metadata.uid() == account.uid() || metadata.uid() == rustix::process::geteuid().as_raw();
    if !metadata.is_dir() || !ours {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "it exists, and belongs to somebody else"));
    }
    set_mode(folder, 0o700)?;
    account.own(folder)
}

pub(super) fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    std::fs::set_permissions(path, Permissions::from_mode(mode))
}
