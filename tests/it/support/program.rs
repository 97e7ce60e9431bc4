//! Programs of others that the tests drive: real clients, real proxies.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// What a program said, once it has ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) success: bool,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The Python that has the clients: a virtual environment that `ops/test` makes.
pub(crate) fn python() -> PathBuf {
    let python = std::env::var_os("PORTCULLIS_TEST_PYTHON").filter(|path| !path.is_empty());
    python.expect("PORTCULLIS_TEST_PYTHON is not set: run ops/test, which makes the Python of the tests").into()
}

/// A program that was installed beside [`python`].
pub(crate) fn python_program(name: &str) -> PathBuf {
    python().with_file_name(name)
}

/// Runs a program, gives it `input`, and ends it once `patience` is over.
pub(crate) fn run(mut command: Command, input: &str, patience: Duration) -> Ran {
    let name = format!("{command:?}");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{name}: {error}; run ops/test, which installs it"));
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    // On a thread: a program that writes before it has read everything would wait for us, and we for it.
    let writing = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let pid = rustix::process::Pid::from_child(&child);
    let (ended, watching) = std::sync::mpsc::channel::<()>();
    let watchdog = std::thread::spawn(move || {
        let give_up = Instant::now() + patience;
        if watching.recv_timeout(give_up - Instant::now()) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
        }
    });
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    drop(ended);
    watchdog.join().unwrap();
    // One that does not read its input has closed it.
    drop(writing.join().unwrap());
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ran { success: status.success(), stdout: text(stdout), stderr: text(stderr) }
}

/// Runs a Python program of `tests/it/clients/`: what it needs as JSON on its standard input, so that no secret is in its
/// arguments, and what it found as JSON on its standard output.
pub(crate) fn python_client(script: &str, input: &Value) -> Value {
    let mut command = Command::new(python());
    command.arg("-c").arg(script);
    let ran = run(command, &input.to_string(), Duration::from_secs(60));
    assert!(ran.success, "{}\n{}", ran.stdout, ran.stderr);
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {}\n{}", ran.stdout, ran.stderr))
}
