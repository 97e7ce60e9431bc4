//! Finds the programs of an installed Postgres.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::EmbeddedError;

/// The oldest Postgres that is tested.
const MAJOR_MIN: u32 = 15;

/// Where Debian and those after it keep one folder a version.
const DEBIAN_FOLDER: &str = "/usr/lib/postgresql";

/// One installed Postgres.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binaries {
    folder: PathBuf,
    major: u32,
}

impl Binaries {
    /// The newest there is, or the one in the folder `named`. A cluster that exists can be opened only by the version
    /// that made it: `existing` asks for that one.
    pub fn find(named: Option<&Path>, existing: Option<u32>) -> Result<Self, EmbeddedError> {
        let found: Vec<Self> = match named {
            Some(folder) => vec![Self::inspect(folder).ok_or_else(|| EmbeddedError::NoBinariesIn(folder.into()))?],
            None => candidates().iter().filter_map(|folder| Self::inspect(folder)).collect(),
        };
        let newest = found
            .iter()
            .filter(|binaries| binaries.major >= MAJOR_MIN)
            .max_by_key(|binaries| binaries.major)
            .ok_or_else(|| match found.first() {
                Some(old) => EmbeddedError::TooOld { major: old.major, folder: old.folder.clone() },
                None => EmbeddedError::NoBinaries,
            })?;
        match existing {
            None => Ok(newest.clone()),
            Some(cluster) => found
                .iter()
                .find(|binaries| binaries.major == cluster)
                .cloned()
                .ok_or(EmbeddedError::OtherVersion { cluster, binaries: newest.major }),
        }
    }

    #[must_use]
    pub fn major(&self) -> u32 {
        self.major
    }

    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// `None` when `folder` holds no server: a `postgres` without its `initdb` is of no use either.
    fn inspect(folder: &Path) -> Option<Self> {
        // Links are followed: initdb looks for its files beside the place where it really is.
        let folder = folder.join("postgres").canonicalize().ok()?.parent()?.to_owned();
        if !folder.join("initdb").is_file() {
            return None;
        }
        let output = Command::new(folder.join("postgres")).arg("--version").output().ok()?;
        let major = parse_major(&String::from_utf8_lossy(&output.stdout))?;
        Some(Self { folder, major })
    }
}

fn candidates() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> =
        std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default();
    if let Ok(versions) = std::fs::read_dir(DEBIAN_FOLDER) {
        folders.extend(versions.flatten().map(|version| version.path().join("bin")));
    }
    folders
}

/// The major version in what `postgres --version` prints.
fn parse_major(text: &str) -> Option<u32> {
    let version = text.strip_prefix("postgres (PostgreSQL) ")?;
    let digits = version.split(|character: char| !character.is_ascii_digit()).next()?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        assert_eq!(parse_major("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(parse_major("postgres (PostgreSQL) 18beta2\n"), Some(18));
        assert_eq!(parse_major("postgres (PostgreSQL) 9.6.24\n"), Some(9));
        assert_eq!(parse_major("something else 15\n"), None);
    }

    #[test]
    fn a_named_folder_is_the_only_one_looked_at() {
        let empty = tempfile::tempdir().unwrap();
        assert!(matches!(Binaries::find(Some(empty.path()), None), Err(EmbeddedError::NoBinariesIn(_))));
    }

    #[test]
    fn a_cluster_of_another_version_is_named_with_ours() {
        let found = Binaries::find(None, None).unwrap();
        let error = Binaries::find(None, Some(9)).unwrap_err();
        assert!(
            matches!(error, EmbeddedError::OtherVersion { cluster: 9, binaries } if binaries == found.major()),
            "{error}"
        );
    }
}
