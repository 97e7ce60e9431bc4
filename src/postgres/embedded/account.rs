//! The account that Postgres runs under: ours, or an unprivileged one when we are root, as Postgres refuses root.

use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::EmbeddedError;

/// In this order: the account that a Postgres package makes is for just this; `nobody` is on every system.
const UNPRIVILEGED: [&str; 2] = ["postgres", "nobody"];

/// Who Postgres runs as, and how its programs are started so.
#[derive(Clone, Debug)]
pub struct Account {
    uid: u32,
    gid: u32,
    /// We are root, and become this account for Postgres.
    lowered: bool,
    setpriv: Option<PathBuf>,
}

impl Account {
    /// The account for the cluster in `cluster`: its owner if it exists, for Postgres opens only what it owns.
    pub fn choose(cluster: &Path) -> Result<Self, EmbeddedError> {
        let owner = std::fs::metadata(cluster).ok().map(|metadata| (metadata.uid(), metadata.gid()));
        let us = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let lowered = us.0 == 0;
        let (uid, gid) = match owner {
            Some(owner) if lowered && owner.0 != 0 => owner,
            Some(owner) if !lowered && owner.0 != us.0 => {
                return Err(EmbeddedError::Foreign { folder: cluster.into(), uid: owner.0 });
            }
            _ if lowered => unprivileged().ok_or(EmbeddedError::NoAccount)?,
            _ => us,
        };
        Ok(Self { uid, gid, lowered, setpriv: find_setpriv() })
    }

    #[must_use]
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// A program of Postgres under this account, in a process group of its own: a Ctrl-C at the terminal is for the
    /// service, which stops Postgres once it no longer needs it.
    ///
    /// Where `setpriv` is there, the program gets SIGINT when *the thread* that started it ends, be it by `kill -9` of
    /// the process. So it has to be started by a thread that outlives it.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command;
        if let Some(setpriv) = &self.setpriv {
            command = Command::new(setpriv);
            command.arg("--pdeathsig=INT");
            if self.lowered {
                command.arg(format!("--reuid={}", self.uid)).arg(format!("--regid={}", self.gid)).arg("--clear-groups");
            }
            command.arg("--").arg(program);
        } else {
            command = Command::new(program);
            if self.lowered {
                // The standard library then drops the supplementary groups too.
                command.uid(self.uid).gid(self.gid);
            }
        }
        // Nothing of our environment: it may hold secrets, and Postgres shows its own to whoever may look at /proc.
        command.env_clear().env("LC_ALL", "C").env("TZ", "UTC");
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        command.current_dir("/").stdin(Stdio::null()).process_group(0);
        command
    }

    /// Gives `path` to this account.
    pub fn own(&self, path: &Path) -> io::Result<()> {
        if self.lowered { chown(path, Some(self.uid), Some(self.gid)) } else { Ok(()) }
    }

    /// Sees to it that this account can reach what lies in `folder`. It can list nothing there, and the files beside the
    /// cluster have modes of their own.
    pub(super) fn let_through(&self, folder: &Path) -> Result<(), EmbeddedError> {
        if !self.lowered {
            return Ok(());
        }
        let io = |source| EmbeddedError::Folder { folder: folder.into(), source };
        let mode = std::fs::metadata(folder).map_err(io)?.mode();
        super::folder::set_mode(folder, mode & 0o7777 | 0o011).map_err(io)?;
        match folder.ancestors().skip(1).find(|ancestor| !self.may_pass(ancestor)) {
            Some(closed) => {
                Err(EmbeddedError::Unreachable { folder: folder.into(), closed: closed.into(), uid: self.uid })
            }
            None => Ok(()),
        }
    }

    fn may_pass(&self, folder: &Path) -> bool {
        let Ok(metadata) = std::fs::metadata(folder) else { return false };
        let bit = match () {
            () if metadata.uid() == self.uid => 0o100,
            () if metadata.gid() == self.gid => 0o010,
            () => 0o001,
        };
        metadata.mode() & bit != 0
    }
}

/// From the file itself: accounts of the system are in it, wherever those of people are kept.
fn unprivileged() -> Option<(u32, u32)> {
    let accounts = std::fs::read_to_string("/etc/passwd").ok()?;
    UNPRIVILEGED.iter().find_map(|name| ids(&accounts, name))
}

fn ids(accounts: &str, name: &str) -> Option<(u32, u32)> {
    accounts.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next()? != name {
            return None;
        }
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        (uid != 0).then_some((uid, gid))
    })
}

/// The one of util-linux: others of the name know no `--pdeathsig`.
fn find_setpriv() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join("setpriv")).find(|program| {
        Command::new(program)
            .arg("--help")
            .output()
            .is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("--pdeathsig"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_read_from_passwd() {
        let accounts = "root:x:0:0::/root:/bin/sh\npostgres:x:101:104:PostgreSQL,,,:/var/lib/postgresql:/bin/bash\n";
        assert_eq!(ids(accounts, "postgres"), Some((101, 104)));
        assert_eq!(ids(accounts, "nobody"), None);
        assert_eq!(ids(accounts, "root"), None, "root under another name would be refused by Postgres all the same");
    }
}
