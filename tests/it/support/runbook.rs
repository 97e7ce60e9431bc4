//! Pages whose commands are played as they are written: fenced `sh` blocks between two markers.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::service::program;

const BEGIN: &str = "<!-- play -->";
const END: &str = "<!-- /play -->";

/// The commands of each part that is marked.
pub(crate) fn steps(page: &str) -> Vec<String> {
    page.split(BEGIN).skip(1).map(|part| fenced(part.split(END).next().unwrap())).collect()
}

/// What stands in the fenced `sh` blocks. `ops/up` is left out: it would install packages and build a release.
pub(crate) fn fenced(text: &str) -> String {
    let mut commands = String::new();
    let mut inside = false;
    for line in text.lines() {
        match (inside, line.trim()) {
            (false, "```sh") => inside = true,
            (true, "```") => inside = false,
            (true, line) if line == "ops/up" || line.starts_with("ops/up ") => {}
            (true, line) => {
                commands.push_str(line);
                commands.push('\n');
            }
            (false, _) => {}
        }
    }
    commands
}

/// A folder that looks to the commands like the repository after `ops/up`: they find the program where it was built.
pub(crate) fn as_after_a_build() -> TempDir {
    let folder = TempDir::new().unwrap();
    let release = folder.path().join("target/release");
    std::fs::create_dir_all(&release).unwrap();
    std::os::unix::fs::symlink(program(), release.join("portcullis")).unwrap();
    folder
}

/// A shell in that folder that stops at the first command that fails, for a service with this data directory.
pub(crate) fn shell(folder: &Path, data_dir: &Path) -> Command {
    let mut shell = Command::new("bash");
    let path = format!("{}:{}", folder.join("target/release").display(), std::env::var("PATH").unwrap());
    shell.args(["-euo", "pipefail"]).current_dir(folder).env("PATH", path).env("PORTCULLIS_DATA_DIR", data_dir);
    shell
}
