//! schemathesis asks everything that `/openapi.json` allows, and much that it does not, with all its checks.

use std::fmt::Write as _;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::support::cluster::Scratch;
use crate::support::program::{python_program, run};
use crate::support::service::Launch;

const EXAMPLES: &str = "12";
/// Of the whole run; the phases that could go on for ever end by then.
const PATIENCE: Duration = Duration::from_mins(4);

#[tokio::test(flavor = "multi_thread")]
async fn schemathesis_finds_no_failure() {
    let scratch = Scratch::new().await;
    let service = Launch::on(&scratch).start().await;
    let folder = TempDir::new().unwrap();
    // In a file and not in the arguments: the token is one.
    let mut config = String::new();
    writeln!(config, "headers = {{ Authorization = \"Bearer {}\" }}", service.token).unwrap();
    config.push_str(include_str!("clients/schemathesis.toml"));
    std::fs::write(folder.path().join("schemathesis.toml"), config).unwrap();

    let mut command = Command::new(python_program("schemathesis"));
    command.current_dir(folder.path()).arg("--config-file").arg("schemathesis.toml").arg("run");
    command.arg(format!("{}/openapi.json", service.url));
    command.arg("--tls-verify").arg(service.file("tls/ca.pem"));
    command.args(["--checks", "all", "--phases", "examples,coverage,fuzzing", "--max-examples", EXAMPLES]);
    command.args(["--generation-deterministic"]);
    // One worker: two are two threads, and CPython 3.11 counts the depth of `ast.parse` for all threads together, so that
    // a switch between them in the middle of one fails it (`AST constructor recursion depth mismatch`).
    command.args(["--workers", "1", "--request-timeout", "30", "--request-retries", "2"]);
    command.args(["--continue-on-failure", "--no-color"]);
    // It would win over --tls-verify.
    command.env_remove("REQUESTS_CA_BUNDLE");
    let ran = tokio::task::spawn_blocking(move || run(command, "", PATIENCE)).await.unwrap();
    assert!(ran.success, "{}\n{}", ran.stdout, ran.stderr);
    // It has asked each of them, and did not stop at a document that it cannot read.
    assert!(ran.stdout.contains("Tested:"), "{}", ran.stdout);
}
