//! A gateway, two workers and a server, each in a network namespace of its own, with real packets between them. No right
//! is needed for it: all of it is in a user namespace.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use crate::support::program::python;
use crate::support::service::program;

pub(super) const PATIENCE: Duration = Duration::from_secs(30);
pub(super) const SERVER: &str = "10.77.3.2";

/// A namespace, for as long as its keeper lives.
pub(super) struct Space {
    keeper: Child,
}

/// A gateway that forwards, and who is connected to it.
pub(super) struct World {
    pub(super) gateway: Space,
    pub(super) workers: [Space; 2],
    /// Kept for its namespace.
    _server: Space,
    _echo: Running,
}

/// A program that writes lines, and is ended with this.
pub(super) struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Space {
    fn new(mut command: Command) -> Self {
        command.args(["sh", "-c", "echo ready; exec cat"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut keeper = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(keeper.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(
            line, "ready\n",
            "this machine makes no namespaces of users and networks, in which netguard is tested: see `unshare --user --net`"
        );
        Self { keeper }
    }

    fn gateway() -> Self {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--net"]);
        Self::new(command)
    }

    /// Another one, of the same owner.
    fn beside(&self) -> Self {
        let mut command = self.command("unshare");
        command.arg("--net");
        Self::new(command)
    }

    /// A program inside of it.
    pub(super) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.keeper.id().to_string(), "--user", "--net", "--preserve-credentials"]);
        command.arg(program);
        command
    }

    pub(super) fn run(&self, line: &str) -> String {
        let mut words = line.split(' ');
        let output = self.command(words.next().unwrap()).args(words).output().unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// What `nft` says of it, having read this.
    pub(super) fn nft(&self, script: &str) {
        let output = self.command("nft").arg(script).output().unwrap();
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn python(&self, script: &str, arguments: &[&str]) -> Running {
        let mut command = self.command(python());
        command.args(["-c", script]).args(arguments);
        Running::start(command)
    }

    /// Sends packets to the server, and says whether they are answered.
    pub(super) fn probe(&self) -> Running {
        self.python(include_str!("../clients/netguard_probe.py"), &[SERVER])
    }

    /// Lets whoever asks this port on the loopback reach what listens at that path.
    pub(super) fn relay(&self, port: u16, path: &Path) -> Running {
        let script = include_str!("../clients/netguard_relay.py");
        let relay = self.python(script, &[&port.to_string(), path.to_str().unwrap()]);
        assert_eq!(relay.line(PATIENCE).as_deref(), Some("ready"));
        relay
    }

    /// `portcullis` inside of it.
    pub(super) fn portcullis(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(program());
        command.args(arguments);
        command
    }
}

impl World {
    pub(super) fn new() -> Self {
        let gateway = Space::gateway();
        gateway.run("ip link set lo up");
        let connected = |number: u8| {
            let space = gateway.beside();
            let pid = space.keeper.id();
            gateway.run(&format!("ip link add wire{number} type veth peer name wire netns {pid}"));
            gateway.run(&format!("ip addr add 10.77.{number}.1/24 dev wire{number}"));
            gateway.run(&format!("ip link set wire{number} up"));
            space.run(&format!("ip addr add 10.77.{number}.2/24 dev wire"));
            space.run("ip link set wire up");
            space.run(&format!("ip route add default via 10.77.{number}.1"));
            space
        };
        let workers = [connected(1), connected(2)];
        let server = connected(3);
        let forward = gateway.command("sh").args(["-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]).status().unwrap();
        assert!(forward.success(), "the gateway does not forward");
        let echo = server.python(include_str!("../clients/netguard_echo.py"), &[]);
        assert_eq!(echo.line(PATIENCE).as_deref(), Some("ready"));
        Self { gateway, workers, _server: server, _echo: echo }
    }
}

impl Running {
    pub(super) fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = channel();
        let stdout: ChildStdout = child.stdout.take().unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    pub(super) fn line(&self, patience: Duration) -> Option<String> {
        self.lines.recv_timeout(patience).ok()
    }

    /// Waits for a state of a probe, and gives the moment of its last answer.
    #[track_caller]
    pub(super) fn must_be(&self, state: &str) -> f64 {
        let line = self.line(PATIENCE).unwrap_or_else(|| panic!("never {state}"));
        let (found, at) = line.split_once(' ').unwrap();
        assert_eq!(found, state);
        at.parse().unwrap()
    }

    pub(super) fn end(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        self.keeper.kill().ok();
        self.keeper.wait().ok();
    }
}
