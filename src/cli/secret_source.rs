//! Where a secret comes from: a file, standard input, or a variable; never an argument, which `ps` shows to everyone.

use std::io::{IsTerminal as _, Read as _};
use std::path::Path;

use secrecy::SecretString;
use zeroize::Zeroizing;

use super::failure::Failure;
use super::output::Screen;
use crate::secret::{SECRET_FILE_BYTES_MAX, SecretFileError, read_secret_file};

/// One secret that a verb takes.
pub(crate) struct SecretSource<'a> {
    /// What it is, for messages: `the worker's API key`.
    pub(crate) what: &'static str,
    pub(crate) option: &'static str,
    /// The file that was named, `-` being standard input.
    pub(crate) file: Option<&'a Path>,
    pub(crate) variable: &'static str,
}

impl SecretSource<'_> {
    /// The secret, if one was given anywhere. A file that was named goes before a variable that happens to be set.
    pub(crate) fn find(&self, screen: Screen) -> Result<Option<SecretString>, Failure> {
        match self.file {
            Some(file) if file == Path::new("-") => self.read_stdin(screen).map(Some),
            Some(file) => self.read_file(file).map(Some),
            None => Ok(std::env::var(self.variable).ok().filter(|text| !text.is_empty()).map(SecretString::from)),
        }
    }

    pub(crate) fn need(&self, screen: Screen) -> Result<SecretString, Failure> {
        self.find(screen)?.ok_or_else(|| {
            Failure::Usage(format!(
                "{} is needed: name its file with `{}` (`-` reads standard input), or set {}",
                self.what, self.option, self.variable
            ))
        })
    }

    /// The same, where standard input is taken too when nothing else was given and something is piped in.
    pub(crate) fn need_or_stdin(&self, screen: Screen) -> Result<SecretString, Failure> {
        match self.find(screen)? {
            Some(secret) => Ok(secret),
            None if !std::io::stdin().is_terminal() => self.read_stdin(screen),
            None => self.need(screen),
        }
    }

    fn read_file(&self, file: &Path) -> Result<SecretString, Failure> {
        read_secret_file(file).map_err(|error| match error {
            SecretFileError::Io { .. } => Failure::fault(format_args!("{} (`{}`)", self.what, self.option), error),
            error => Failure::Usage(format!("{}: {error}", self.what)),
        })
    }

    fn read_stdin(&self, screen: Screen) -> Result<SecretString, Failure> {
        let stdin = std::io::stdin();
        let mut text = Zeroizing::new(String::with_capacity(SECRET_FILE_BYTES_MAX));
        if stdin.is_terminal() {
            screen.warn(format_args!("type {}; it will be seen on the screen", self.what));
            stdin.read_line(&mut text).map_err(|error| Failure::fault("cannot read standard input", error))?;
        } else {
            let limit = SECRET_FILE_BYTES_MAX as u64;
            let read = stdin.lock().take(limit).read_to_string(&mut text);
            read.map_err(|error| Failure::fault("cannot read standard input", error))?;
        }
        let secret = text.trim_end_matches(['\n', '\r']);
        if secret.is_empty() {
            return Err(Failure::Usage(format!("standard input is empty; it should hold {}", self.what)));
        }
        Ok(SecretString::from(secret))
    }
}
