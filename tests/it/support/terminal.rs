//! A pseudo-terminal: what a program shows to a person is seen as it comes, and keys are typed when there is what they answer.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

/// Long enough for a debug build on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a program writes to clear the screen: what was before it is not to be seen any more.
const CLEAR: &str = "\u{1b}[2J";

/// A program at a terminal of its own.
pub(crate) struct Terminal {
    /// The side on which a person sits.
    ours: File,
    child: Child,
    written: Receiver<Vec<u8>>,
    bytes: Vec<u8>,
}

impl Terminal {
    /// The program leads a session: the kernel tells it of its terminal's keys and sizes. What it writes last may be lost with
    /// the terminal when it ends.
    pub(crate) fn led(command: &Command, columns: u16, rows: u16) -> Self {
        Self::run(leader(command), columns, rows)
    }

    pub(crate) fn run(mut command: Command, columns: u16, rows: u16) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let ours = openpt(flags).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        tcsetwinsize(&ours, size(columns, rows)).unwrap();
        let name = ptsname(&ours, Vec::new()).unwrap().into_string().unwrap();
        let theirs = OpenOptions::new().read(true).write(true).open(name).unwrap();
        // Without it, programs take a terminal for one that can show nothing but lines.
        command.env("TERM", "xterm-256color");
        command.stdin(theirs.try_clone().unwrap()).stdout(theirs.try_clone().unwrap()).stderr(theirs);
        let child = command.spawn().unwrap();
        let ours = File::from(ours);
        let mut reads = ours.try_clone().unwrap();
        let (sender, written) = channel();
        // It ends with an error once nobody has the other side any more.
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = reads.read(&mut buffer) {
                if sender.send(buffer[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { ours, child, written, bytes: Vec::new() }
    }

    /// Waits until the screen has this text.
    #[track_caller]
    pub(crate) fn shows(&mut self, text: &str) {
        let give_up = Instant::now() + PATIENCE;
        while !self.screen().contains(text) {
            match self.written.recv_timeout(give_up.saturating_duration_since(Instant::now())) {
                Ok(bytes) => self.bytes.extend(bytes),
                Err(why) => panic!("never `{text}` ({why}):\n{}", self.all().escape_debug()),
            }
        }
    }

    /// Another size, of which the kernel tells the program.
    pub(crate) fn resize(&mut self, columns: u16, rows: u16) {
        // Nothing that was written for the old size is taken for an answer.
        while let Ok(bytes) = self.written.try_recv() {
            self.bytes.extend(bytes);
        }
        self.bytes.clear();
        tcsetwinsize(&self.ours, size(columns, rows)).unwrap();
    }

    pub(crate) fn types(&mut self, keys: &str) {
        self.ours.write_all(keys.as_bytes()).unwrap();
    }

    /// What was written since the screen was cleared.
    pub(crate) fn screen(&self) -> String {
        let all = self.all();
        all.rsplit_once(CLEAR).map_or(all.clone(), |(_, screen)| screen.to_owned())
    }

    /// All that was written, with what moves the cursor.
    pub(crate) fn all(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// Whether a line is shown as it is typed, and given when it is whole: as a shell wants it.
    pub(crate) fn is_by_lines(&self) -> bool {
        tcgetattr(&self.ours).unwrap().local_modes.contains(LocalModes::ICANON | LocalModes::ECHO)
    }

    /// Waits until the program has ended; its code.
    #[track_caller]
    pub(crate) fn code(&mut self) -> Option<i32> {
        let give_up = Instant::now() + PATIENCE;
        loop {
            match self.written.recv_timeout(give_up.saturating_duration_since(Instant::now())) {
                Ok(bytes) => self.bytes.extend(bytes),
                Err(RecvTimeoutError::Disconnected) => return self.child.wait().unwrap().code(),
                Err(RecvTimeoutError::Timeout) => panic!("it did not end:\n{}", self.all().escape_debug()),
            }
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The same program as the leader of a session: only that has a terminal, and hears of its keys and sizes.
fn leader(command: &Command) -> Command {
    let mut leader = Command::new("/usr/bin/setsid");
    // As the command that it stands for, which is told its surroundings one by one.
    leader.env_clear().arg("--ctty").arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => leader.env(name, value),
            None => leader.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        leader.current_dir(folder);
    }
    leader
}

fn size(columns: u16, rows: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}
