//! The command line: what can be typed, and which file does it.
//!
//! All but `serve` talk HTTP like any other client and use nothing of the service's own but what it says of the form of ids
//! and secrets, so that whatever the command line can do, a program can; only what has to work where no service runs (the
//! mirror, backups, restores) works on files and on the database. Data goes to standard output and prose to standard error:
//! `--output json | jq` sees nothing but the answer.

mod backup;
mod caution;
mod client;
mod compromised;
mod connection;
mod dry_run;
mod enrollment;
mod events;
mod failure;
mod fence;
mod handover;
mod incident;
mod key;
mod manual;
mod mirror;
mod netguard;
mod node;
mod offline;
mod operator;
mod output;
mod plan;
mod pool;
mod projection;
mod remedy;
mod restore;
mod secret_source;
mod selection;
pub mod serve;
mod session;
mod signing_key;
mod time;
mod token;
mod tripwire;
mod validate;
mod waiting;
mod webhook;
mod worker;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use self::connection::ClientArgs;
use self::failure::Failure;
use self::session::Session;
use crate::config::ServeArgs;

/// The gatehouse of a fleet of workers: lets them in, checks, rotates, revokes, and can prove what happened.
#[derive(Debug, clap::Parser)]
#[command(name = "portcullis", version, after_help = AFTER_HELP, max_term_width = 110, subcommand_required = true)]
pub struct Cli {
    #[command(flatten)]
    client: ClientArgs,
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Examples:
  portcullis worker create --id builder-7 --label zone=a
  portcullis key create builder-7 --key-file builder-7.key
  portcullis validate --credential-file builder-7.key
  portcullis worker list --state isolated --output json | jq -r '.items[].id'

Every verb that changes something takes `--dry-run`: it shows what would be recorded, and changes nothing.
Secrets are read from variables, files or standard input, never from arguments, which every user of the machine sees.

Exit codes:
  0  done
  1  a fault: ours, the service's, or a file's
  2  the command line is wrong
  3  refused by the service (a 4xx answer), or some lines of an import were
  4  not authorized (401, 403)
  5  the service cannot be reached, or is not available now (503)
  6  `validate`: the credential is not accepted
  7  `projection verify`: a row is not what the log says; `mirror verify`, `backup verify`: it was changed";

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Run the service.
    #[command(after_help = "Examples:\n  portcullis serve\n  \
                            portcullis serve --bind 0.0.0.0:443 --public-url https://portcullis.example.org\n  \
                            PORTCULLIS_DATABASE_URL=postgres://portcullis@db.example.org/portcullis portcullis serve")]
    Serve(Box<ServeArgs>),
    #[command(flatten)]
    Ask(Ask),
    /// The mirror: the copy of the log outside of the database.
    #[command(subcommand, after_help = "Example:\n  portcullis mirror verify")]
    Mirror(mirror::Verb),
    /// Take a backup: a dump of one moment, with a signed statement of what is in it. The service may run meanwhile.
    #[command(
        after_help = "Examples:\n  portcullis backup --out gate.backup --dry-run\n  portcullis backup --out gate.backup\n  \
                            PORTCULLIS_DATABASE_URL=postgres://… portcullis backup --out gate.backup --output json"
    )]
    Backup(Box<backup::Args>),
    /// Put a backup in place, and bring back from the mirror what came after it: what was revoked since stays revoked.
    #[command(after_help = "Examples:\n  portcullis restore gate.backup --dry-run\n  \
                            portcullis restore gate.backup --reason 'disk lost'\n  \
                            portcullis restore gate.backup --mirror /mnt/node-2/mirror --reason 'disk lost'\n\n\
                            Stop every service first. A private cluster is moved aside and never removed; a database of your own \
                            has to be empty. After an interruption, run it again: no service starts on one that is half done.")]
    Restore(Box<restore::Args>),
    /// Print the completions of a shell.
    Completions(manual::CompletionsArgs),
    /// Print the man page, or write all of them into a folder.
    Man(manual::ManArgs),
}

/// What is asked of a running service.
#[derive(Debug, clap::Subcommand)]
enum Ask {
    /// Pools: workers under one configuration.
    #[command(subcommand, after_help = "Example:\n  portcullis pool create builders --token-ttl 30m")]
    Pool(pool::Verb),
    /// Workers: the members of the fleet, and what a worker does for itself.
    #[command(subcommand, after_help = "Example:\n  portcullis worker list --pool builders --state active")]
    Worker(worker::Verb),
    /// API keys and static secrets: the long-lived credentials.
    #[command(subcommand, after_help = "Example:\n  portcullis key create builder-7 --key-file builder-7.key")]
    Key(key::Verb),
    /// Enrollment secrets: by which workers that nobody announced get in.
    #[command(subcommand, after_help = "Example:\n  portcullis enrollment create builders --key-file enrollment.key")]
    Enrollment(enrollment::Verb),
    /// Fences: one refuses all that was issued to a scope so far.
    #[command(subcommand, after_help = "Example:\n  portcullis fence raise pool:builders --dry-run")]
    Fence(fence::Verb),
    /// Plans: what a batch command would touch is shown first, then exactly that is done, or nothing.
    #[command(subcommand, after_help = "Example:\n  portcullis plan isolate pool:builders --dry-run")]
    Plan(plan::Verb),
    /// Incidents: what a leak reaches, and a case with a checklist that fills itself from what is done for it.
    #[command(
        subcommand,
        after_help = "Examples:\n  portcullis incident scope --credential-file found.txt\n  portcullis incident open 'Key of builder-7 leaked' --severity high --scope worker:builder-7\n  \
                      portcullis worker isolate builder-7 --incident INC-7"
    )]
    Incident(incident::Verb),
    /// Tripwires: what is done when somebody shows a key that nobody has any business to show.
    #[command(subcommand, after_help = "Example:\n  portcullis tripwire set --honey isolate,open_incident")]
    Tripwire(tripwire::Verb),
    /// Signing keys: they sign access tokens.
    #[command(subcommand, after_help = "Example:\n  portcullis signing-key rotate")]
    SigningKey(signing_key::Verb),
    /// Netguard: drops the packets of isolated workers.
    #[command(subcommand, after_help = "Example:\n  portcullis netguard run --token-file gateway.token")]
    Netguard(netguard::Verb),
    /// Nodes: the services that share one log, and how far each has followed it.
    #[command(subcommand, after_help = "Example:\n  portcullis node list")]
    Node(node::Verb),
    /// Operators: people and services that administer.
    #[command(
        subcommand,
        after_help = "Example:\n  portcullis operator create alice --role auditor --key-file alice.token"
    )]
    Operator(operator::Verb),
    /// Access tokens: a worker gets, renews and revokes its own; an operator looks at one.
    #[command(subcommand, after_help = "Example:\n  portcullis token register --api-key-file builder-7.key")]
    Token(token::Verb),
    /// Say whether a credential is good, and why not.
    Validate(validate::Args),
    /// What happened, event by event.
    #[command(subcommand, after_help = "Example:\n  portcullis events list --subject worker:builder-7")]
    Events(events::Verb),
    /// Webhooks: services of others that are told of events.
    #[command(
        subcommand,
        after_help = "Example:\n  portcullis webhook create https://hooks.example.org/in --key-file hook.secret"
    )]
    Webhook(webhook::Verb),
    /// Projections: the tables that lists are read from.
    #[command(subcommand, after_help = "Example:\n  portcullis projection verify")]
    Projection(projection::Verb),
    /// Kill the credential that you hold: whoever has it can.
    Compromised(compromised::Args),
}

/// Parses the arguments of this process and does what they say.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let screen = cli.client.screen();
    match cli.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            screen.failure(&failure);
            failure.exit_code()
        }
    }
}

/// The whole tree of arguments, for completions and man pages.
pub fn command() -> clap::Command {
    Cli::command()
}

impl Cli {
    fn run(self) -> Result<(), Failure> {
        match self.command {
            Command::Completions(args) => manual::completions(&args),
            Command::Man(args) => manual::man(&args),
            Command::Serve(args) => {
                serve::run(*args).map_err(|error| Failure::Fault(error.context("the service stopped")))
            }
            Command::Backup(args) => backup::run(*args, self.client.screen()),
            Command::Restore(args) => {
                restore::run(*args, self.client.screen(), self.client.reason(), self.client.incident())
            }
            Command::Mirror(verb) => mirror::run(&verb, self.client.screen()),
            Command::Ask(ask) => {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let runtime = runtime.map_err(|error| Failure::fault("cannot start the runtime", error))?;
                runtime.block_on(ask.ask(Session::open(&self.client)?))
            }
        }
    }
}

impl Ask {
    /// Does what is asked of the service.
    async fn ask(self, session: Session) -> Result<(), Failure> {
        self.answer(&session).await?;
        session.wait_for_changes().await
    }

    async fn answer(self, session: &Session) -> Result<(), Failure> {
        match self {
            Ask::Pool(verb) => pool::run(verb, session).await,
            Ask::Worker(verb) => worker::run(verb, session).await,
            Ask::Key(verb) => key::run(verb, session).await,
            Ask::Enrollment(verb) => enrollment::run(verb, session).await,
            Ask::Fence(verb) => fence::run(verb, session).await,
            Ask::Plan(verb) => plan::run(verb, session).await,
            Ask::Incident(verb) => incident::run(verb, session).await,
            Ask::Tripwire(verb) => tripwire::run(verb, session).await,
            Ask::SigningKey(verb) => signing_key::run(verb, session).await,
            Ask::Netguard(verb) => netguard::run(verb, session).await,
            Ask::Node(verb) => node::run(verb, session).await,
            Ask::Operator(verb) => operator::run(verb, session).await,
            Ask::Token(verb) => token::run(verb, session).await,
            Ask::Validate(args) => validate::run(args, session).await,
            Ask::Events(verb) => events::run(verb, session).await,
            Ask::Webhook(verb) => webhook::run(verb, session).await,
            Ask::Projection(verb) => projection::run(verb, session).await,
            Ask::Compromised(args) => compromised::run(args, session).await,
        }
    }
}

#[cfg(test)]
mod tests;
