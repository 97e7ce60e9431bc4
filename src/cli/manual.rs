//! `portcullis completions` and `portcullis man`: made from the arguments themselves, so that they cannot disagree.

use std::io::Write as _;
use std::path::PathBuf;

use super::failure::Failure;
use super::output::closed;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  portcullis completions bash > /etc/bash_completion.d/portcullis\n  \
                        portcullis completions zsh > ~/.zfunc/_portcullis")]
pub(crate) struct CompletionsArgs {
    /// Which shell.
    shell: clap_complete::Shell,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  portcullis man | man -l -\n  portcullis man /usr/local/share/man/man1")]
pub(crate) struct ManArgs {
    /// Where to write a page for every command. Default: the first page, to standard output.
    folder: Option<PathBuf>,
}

pub(crate) fn completions(args: &CompletionsArgs) -> Result<(), Failure> {
    // Into memory first: the generator panics where it cannot write, and a closed pipe is no reason to.
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut super::command(), "portcullis", &mut text);
    std::io::stdout().write_all(&text).map_err(closed)
}

pub(crate) fn man(args: &ManArgs) -> Result<(), Failure> {
    let command = super::command();
    let Some(folder) = &args.folder else {
        return clap_mangen::Man::new(command).render(&mut std::io::stdout()).map_err(closed);
    };
    let fault = |error| Failure::fault(format_args!("cannot write man pages to {}", folder.display()), error);
    std::fs::create_dir_all(folder).map_err(fault)?;
    clap_mangen::generate_to(command, folder).map_err(fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page() {
        let folder = tempfile::tempdir().expect("a folder");
        man(&ManArgs { folder: Some(folder.path().to_owned()) }).expect("pages");
        for page in ["portcullis.1", "portcullis-worker-import.1", "portcullis-key-rotate.1"] {
            assert!(folder.path().join(page).is_file(), "{page}");
        }
    }
}
