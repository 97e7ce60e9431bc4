//! `portcullis netguard run`: asks the service again and again what to block, and keeps the sets of this machine so.
//!
//! Whatever fails, a block stays: it is taken away only when the service has answered that it is to be. So it is when the
//! service is away, when its answer cannot be applied, and when netguard itself ends.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use serde_json::{Map, Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use super::nft::{Nft, Table};
use super::rules::{self, SETS};
use super::sets::{Change, network};
use crate::cli::client::{Call, Client};
use crate::cli::dry_run::{self, DryRun};
use crate::cli::failure::Failure;
use crate::cli::output::{self, Column, Format};
use crate::cli::session::Session;

/// How long the service may take to say that nothing is new; less than a client waits for an answer.
const POLL: &str = "15s";
/// After a failure, before the next attempt.
const AGAIN: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own on the command line")]
pub(crate) struct Args {
    #[command(flatten)]
    dry: DryRun,
    /// Bring the sets up to date once, and end.
    #[arg(long)]
    once: bool,
    /// Print the sets and rules that are needed, for whoever wants to load them otherwise, and end. Asks nobody.
    #[arg(long)]
    print_rules: bool,
    /// Keep the sets alone: the rules that drop what is in them were loaded otherwise.
    #[arg(long)]
    sets_only: bool,
    /// Also block addresses where workers or operators that are accepted were seen.
    #[arg(long)]
    include_shared: bool,
    /// The program `nft`. Default: the one in the PATH, or in /usr/sbin.
    #[arg(long, value_name = "FILE")]
    nft: Option<PathBuf>,
    /// Where to write down, after each answer and each failure, how it goes: one JSON object.
    #[arg(long, value_name = "FILE")]
    health_file: Option<PathBuf>,
}

const SET_COLUMNS: &[Column] = &[("set", "set"), ("would add", "add"), ("would remove", "remove")];

/// What the service has said last.
#[derive(Default)]
struct Wanted {
    version: Option<String>,
    blocked: Vec<IpNet>,
    excepted: Vec<IpNet>,
    shared: usize,
}

struct Guard<'a> {
    args: &'a Args,
    session: &'a Session,
    nft: Nft,
    client: Client,
    wanted: Wanted,
    /// Since when the service has not answered.
    lost: Option<Instant>,
    /// What others have put into our sets, as it was told last.
    foreign: Vec<String>,
}

pub(crate) async fn run(args: Args, session: &Session) -> Result<(), Failure> {
    if args.print_rules {
        let text = rules::text();
        return match session.screen.format {
            Format::Json => output::json(&json!({ "rules": text })),
            Format::Table => output::line(text.trim_end()),
        };
    }
    let nft = Nft::find(args.nft.clone())?;
    // Whether it may be asked at all is known before anything else.
    let table = nft.table().await?;
    let foreign = table.foreign();
    let client = session.operator()?;
    let mut guard = Guard { args: &args, session, nft, client, wanted: Wanted::default(), lost: None, foreign };
    guard.tell_foreign();
    if args.once || args.dry.is_asked() {
        guard.ask(None).await?;
        return guard.apply().await;
    }
    let failed = |error| Failure::fault("cannot wait for signals", error);
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    tokio::select! {
        ended = guard.follow() => return ended,
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    session.screen.note("Ended. All blocks stay; `nft delete table inet portcullis` takes them down.");
    Ok(())
}

impl Guard<'_> {
    async fn follow(&mut self) -> Result<(), Failure> {
        loop {
            let version = self.wanted.version.clone();
            let done = match self.ask(version.as_deref()).await {
                Ok(()) => self.apply().await,
                Err(failure) => Err(failure),
            };
            match done {
                Ok(()) => self.found(),
                // A key that is not accepted, or a wrong command line, is told at once and not for ever.
                Err(failure @ (Failure::Problem(_) | Failure::Usage(_))) if self.is_new() && is_final(&failure) => {
                    return Err(failure);
                }
                Err(failure) => {
                    self.lose(&failure);
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }

    /// Whether the service has never answered.
    fn is_new(&self) -> bool {
        self.wanted.version.is_none()
    }

    /// Asks what is wanted, and waits until it is something else than it was.
    async fn ask(&mut self, unless: Option<&str>) -> Result<(), Failure> {
        let call = Call::get(&["v1", "netguard"]);
        let call = match unless {
            Some(version) => call.query("unless", version.to_owned()).query("timeout", POLL.to_owned()),
            None => call,
        };
        let answer = self.client.send(&call).await?.body;
        self.wanted = Wanted::read(&answer, self.args.include_shared)?;
        // Its own way to the service is the last that a guard should cut.
        self.wanted.excepted.extend(self.session.service_addresses().await.into_iter().map(IpNet::from));
        Ok(())
    }

    /// Brings the sets to what is wanted. Looked at anew each time: somebody else may have changed them.
    async fn apply(&mut self) -> Result<(), Failure> {
        let table = self.nft.table().await?;
        let foreign = table.foreign();
        if foreign != self.foreign {
            self.foreign = foreign;
            self.tell_foreign();
        }
        let want = SETS.map(|set| {
            let all = if set.excepts { &self.wanted.excepted } else { &self.wanted.blocked };
            all.iter().copied().filter(|network| matches!(network, IpNet::V4(_)) == set.v4).collect::<Vec<IpNet>>()
        });
        let (commands, changes) = table.commands(want.each_ref().map(Vec::as_slice), self.args.sets_only);
        let is_same = changes.iter().all(|(_, change)| change.is_empty());
        if self.args.dry.is_asked() {
            return self.foretell(&changes, &table, !is_same);
        }
        self.nft.apply(&commands).await?;
        // A line for each change, for as long as it follows.
        if self.session.screen.format == Format::Json && (self.args.once || !is_same) {
            output::line(json!({ "changed": !is_same, "sets": sets(&changes), "foreign": self.foreign }))?;
        }
        for (set, change) in changes.iter().filter(|(_, change)| !change.is_empty()) {
            self.session.screen.note(format_args!("{}: {}", set.name, words(change)));
        }
        Ok(())
    }

    fn foretell(&self, changes: &[(rules::Set, Change)], table: &Table, changed: bool) -> Result<(), Failure> {
        let (screen, sets) = (self.session.screen, sets(changes));
        if screen.format == Format::Json {
            let foreign = table.foreign();
            output::json(&json!({ "dry_run": true, "changed": changed, "would": sets, "foreign": foreign }))?;
        } else {
            let row = |(name, change): (&String, &Value)| json!({ "set": name, "add": change["add"], "remove": change["remove"] });
            screen.rows(SET_COLUMNS, &sets.iter().map(row).collect::<Vec<_>>())?;
        }
        dry_run::nothing_was_changed(screen);
        Ok(())
    }

    /// The service has answered, and all is as it says.
    fn found(&mut self) {
        if let Some(since) = self.lost.take() {
            self.session.screen.note(format_args!("The service answers again, after {} s.", since.elapsed().as_secs()));
        }
        self.write_health("following");
    }

    fn lose(&mut self, failure: &Failure) {
        if self.lost.is_none() {
            self.session.screen.warn(format_args!("{failure}. All blocks stay as they are until it works again"));
        }
        self.lost.get_or_insert_with(Instant::now);
        self.write_health("lost");
    }

    fn tell_foreign(&self) {
        if !self.foreign.is_empty() {
            let names = self.foreign.join(", ");
            self.session
                .screen
                .warn(format_args!("others have put these into netguard's sets; they are left alone: {names}"));
        }
    }

    fn write_health(&self, state: &str) {
        let Some(path) = &self.args.health_file else { return };
        let health = json!({
            "state": state,
            "at": chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
            "lost_for_seconds": self.lost.map(|since| since.elapsed().as_secs()),
            "version": self.wanted.version,
            "blocked": self.wanted.blocked.len(),
            "shared": self.wanted.shared,
            "foreign": self.foreign,
        });
        if let Err(error) = replace(path, &format!("{health}\n")) {
            self.session.screen.warn(format_args!("cannot write {}: {error}", path.display()));
        }
    }
}

impl Wanted {
    fn read(answer: &Value, include_shared: bool) -> Result<Self, Failure> {
        let strange = || Failure::Fault(anyhow::anyhow!("the service answered what netguard does not understand"));
        let list = |name: &str| answer[name].as_array().ok_or_else(strange);
        let read = |value: &Value| value.as_str().and_then(network).ok_or_else(strange);
        let mut blocked: Vec<IpNet> =
            list("blocked")?.iter().map(|item| read(&item["network"])).collect::<Result<_, _>>()?;
        let shared = list("shared")?;
        // What nobody can want to block is never included.
        let with_others = |item: &&Value| matches!(item["with"].as_str(), Some("worker" | "operator"));
        for item in shared.iter().filter(with_others).filter(|_| include_shared) {
            blocked.push(read(&item["network"])?);
        }
        let excepted = list("excepted")?.iter().map(read).collect::<Result<_, _>>()?;
        let version = answer["version"].as_str().ok_or_else(strange)?.to_owned();
        Ok(Self { version: Some(version), blocked, excepted, shared: shared.len() })
    }
}

/// Whether trying again cannot help.
fn is_final(failure: &Failure) -> bool {
    match failure {
        Failure::Problem(problem) => matches!(problem.status, 400..=404),
        _ => true,
    }
}

fn words(change: &Change) -> String {
    let names = |networks: &[IpNet]| networks.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match (change.add.as_slice(), change.remove.as_slice()) {
        (add, []) => format!("added {}", names(add)),
        ([], remove) => format!("removed {}", names(remove)),
        (add, remove) => format!("added {}, removed {}", names(add), names(remove)),
    }
}

/// What changes in each set.
fn sets(changes: &[(rules::Set, Change)]) -> Map<String, Value> {
    let names = |networks: &[IpNet]| networks.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
    let told = |change: &Change| json!({ "add": names(&change.add), "remove": names(&change.remove) });
    changes.iter().map(|(set, change)| (set.name.to_owned(), told(change))).collect()
}

/// Whoever reads it finds the old text or the new one, and never half of one.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let beside = path.with_extension("new");
    std::fs::write(&beside, text)?;
    std::fs::rename(beside, path)
}
