//! `portcullis netguard`: drops the packets of isolated workers, on a gateway or on a host, by nftables.

use serde_json::{Value, json};

use super::caution::{Caution, Part, Touched};
use super::client::{Call, given};
use super::dry_run::DryRun;
use super::failure::Failure;
use super::output::{Column, Format};
use super::session::Session;

mod nft;
mod rules;
mod run;
mod sets;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// Show what every netguard blocks, what it leaves alone, and why.
    #[command(after_help = "Example:\n  portcullis netguard list")]
    List,
    /// Block an address or a network, or except it from every block.
    #[command(after_help = "Examples:\n  portcullis netguard add 192.0.2.7 --reason 'port scan'\n  \
                            portcullis netguard add 198.51.100.0/24 --except --reason 'monitoring'")]
    Add {
        /// The address, or a network of /8 (IPv6: /16) or smaller.
        address: String,
        /// Never block it, whoever is isolated there.
        #[arg(long)]
        except: bool,
        #[command(flatten)]
        dry: DryRun,
    },
    /// Take an address or a network off the list.
    #[command(after_help = "Examples:\n  portcullis netguard remove 192.0.2.7 --dry-run\n  \
                            portcullis netguard remove 192.0.2.7 --yes --reason 'was a false alarm'")]
    Remove {
        /// The address or network, as it was listed.
        address: String,
        #[command(flatten)]
        caution: Caution,
    },
    /// Keep the nftables sets of this machine as the service says, for as long as it runs.
    #[command(after_help = "Examples:\n  portcullis netguard run --token-file gateway.token\n  \
                            portcullis netguard run --dry-run\n  portcullis netguard run --print-rules\n\n\
                            It needs CAP_NET_ADMIN, the program `nft` and an operator's key (the role gateway is enough). \
                            Everything is in the table `inet portcullis`. When the service is away, and when netguard ends, \
                            all blocks stay: to take them down, `nft delete table inet portcullis`.")]
    Run(run::Args),
}

const BLOCKED_COLUMNS: &[Column] =
    &[("blocked", "network"), ("workers", "workers"), ("how many", "worker_count"), ("by hand", "listed")];
const SHARED_COLUMNS: &[Column] =
    &[("left alone", "network"), ("workers", "workers"), ("how many", "worker_count"), ("with", "with"), ("who", "id")];
const ADDRESS_COLUMNS: &[Column] =
    &[("network", "network"), ("listed", "listing"), ("at position", "added"), ("since", "added_at")];

pub(crate) async fn run(verb: Verb, session: &Session) -> Result<(), Failure> {
    match verb {
        Verb::List => list(session).await,
        Verb::Add { address, except, dry } => {
            let listing = except.then_some("excepted");
            let body = given([("address", json!(address)), ("listing", json!(listing))]);
            let Some(answer) = session.change(Call::post(&["v1", "netguard", "addresses"]).json(body), dry).await?
            else {
                return Ok(());
            };
            session.done(&format!("Listed {address} as {}", listing.unwrap_or("blocked")), &answer);
            session.screen.object(ADDRESS_COLUMNS, &answer.body)
        }
        Verb::Remove { address, caution } => {
            let touched = caution.look(listed(session, &address)).await?;
            let call = Call::delete(&["v1", "netguard", "addresses"]).query("address", address.clone());
            let Some(answer) = session.change_shown(call, caution, touched).await? else { return Ok(()) };
            session.done(&format!("Took {address} off the list"), &answer);
            session.screen.object(ADDRESS_COLUMNS, &answer.body)
        }
        Verb::Run(args) => run::run(args, session).await,
    }
}

async fn list(session: &Session) -> Result<(), Failure> {
    let found = session.read(Call::get(&["v1", "netguard"])).await?;
    let screen = session.screen;
    if screen.format == Format::Json {
        return super::output::json(&found);
    }
    let items = |name: &str| found[name].as_array().cloned().unwrap_or_default();
    screen.rows(BLOCKED_COLUMNS, &items("blocked"))?;
    let shared = items("shared");
    if !shared.is_empty() {
        screen.rows(SHARED_COLUMNS, &shared)?;
        screen.warn(format_args!(
            "{} addresses of isolated workers are not blocked, since others are there too; see `run --include-shared`",
            shared.len()
        ));
    }
    let excepted = items("excepted");
    if !excepted.is_empty() {
        let names: Vec<&str> = excepted.iter().filter_map(Value::as_str).collect();
        screen.note(format_args!("Never blocked: {}.", names.join(", ")));
    }
    if let Some(count) = found["left_out"].as_u64().filter(|count| *count > 0) {
        screen.warn(format_args!("{count} more workers are isolated than addresses are looked for"));
    }
    Ok(())
}

async fn listed(session: &Session, address: &str) -> Result<Touched, Failure> {
    let found = session.read(Call::get(&["v1", "netguard"])).await?;
    let network = sets::network(address).map(|network| network.to_string());
    let of_it = |item: &&Value| item["listed"] == true && item["network"].as_str() == network.as_deref();
    let items = found["blocked"].as_array().into_iter().flatten().filter(of_it).cloned().collect();
    let parts = vec![Part { what: "blocked", columns: BLOCKED_COLUMNS, items }];
    let deed =
        format!("take {address} off netguard's list, so that its packets flow unless an isolated worker is there");
    Ok(Touched { deed, parts })
}
