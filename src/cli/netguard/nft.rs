//! The program `nft`: asked and told in JSON, without a shell, and never for longer than it may take.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::rules::{self, MARK, SETS, Set, TABLE};
use super::sets::{Change, Element, network, range};
use crate::cli::failure::Failure;

/// A transaction with a hundred thousand addresses takes seconds.
const PATIENCE: Duration = Duration::from_secs(30);
/// Where it lies if the `PATH` of a service does not say so.
const USUAL_FOLDERS: [&str; 2] = ["/usr/sbin", "/sbin"];

pub(super) struct Nft {
    program: PathBuf,
}

/// What there is of our table.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// Of each of [`SETS`], in their order.
    pub(super) sets: [Vec<Element>; 4],
    /// `chain: comment` of each rule.
    pub(super) rules: Vec<String>,
}

impl Nft {
    pub(super) fn find(given: Option<PathBuf>) -> Result<Self, Failure> {
        if let Some(program) = given {
            return Ok(Self { program });
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::env::split_paths(&path).chain(USUAL_FOLDERS.map(PathBuf::from));
        let mut places = folders.map(|folder| folder.join("nft"));
        let program = places.find(|place| place.is_absolute() && place.is_file());
        let missing =
            || Failure::Usage("there is no program `nft`; install nftables, or name it with `--nft`".to_owned());
        Ok(Self { program: program.ok_or_else(missing)? })
    }

    /// Our table as the kernel has it; an empty one where there is none.
    pub(super) async fn table(&self) -> Result<Table, Failure> {
        let tables = self.list(&["list", "tables", "inet"]).await?;
        let is_ours = |object: &Value| object["table"]["name"] == TABLE;
        if !objects(&tables).iter().any(is_ours) {
            return Ok(Table::default());
        }
        let listed = self.list(&["list", "table", "inet", TABLE]).await?;
        let mut table = Table::default();
        for object in objects(&listed) {
            if let Some(comment) = object["rule"]["comment"].as_str() {
                table.rules.push(format!("{}: {comment}", object["rule"]["chain"].as_str().unwrap_or_default()));
            }
            for (number, set) in SETS.iter().enumerate() {
                if object["set"]["name"] == set.name {
                    table.sets[number] =
                        object["set"]["elem"].as_array().into_iter().flatten().flat_map(element).collect();
                }
            }
        }
        Ok(table)
    }

    /// Makes what is missing, and changes the sets: all of it at one moment, or nothing.
    pub(super) async fn apply(&self, commands: &[Value]) -> Result<(), Failure> {
        self.run(&["-f", "-"], &json!({ "nftables": commands }).to_string()).await.map(drop)
    }

    async fn list(&self, what: &[&str]) -> Result<Value, Failure> {
        let out = self.run(what, "").await?;
        serde_json::from_slice(&out)
            .map_err(|error| Failure::fault("`nft -j` answered something else than JSON", error))
    }

    async fn run(&self, arguments: &[&str], input: &str) -> Result<Vec<u8>, Failure> {
        let doing = || format!("cannot run {}", self.program.display());
        let mut command = Command::new(&self.program);
        command.arg("-j").args(arguments).env("LC_ALL", "C").kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| Failure::fault(doing(), error))?;
        let stdin = child.stdin.take();
        let writing = async {
            if let Some(mut stdin) = stdin {
                // Where it does not read to the end, it says why.
                drop(stdin.write_all(input.as_bytes()).await);
            }
        };
        let both = async { tokio::join!(writing, child.wait_with_output()).1 };
        let done = tokio::time::timeout(PATIENCE, both).await;
        let done =
            done.map_err(|late| Failure::fault(doing(), late))?.map_err(|error| Failure::fault(doing(), error))?;
        if done.status.success() {
            return Ok(done.stdout);
        }
        let said = String::from_utf8_lossy(&done.stderr);
        if said.contains("Operation not permitted") {
            let advice = "nftables refuses: netguard needs CAP_NET_ADMIN. Run it as root, or by systemd with \
                          `AmbientCapabilities=CAP_NET_ADMIN`";
            return Err(Failure::Usage(advice.to_owned()));
        }
        Err(Failure::Fault(anyhow::anyhow!("{} failed: {}", self.program.display(), said.trim())))
    }
}

impl Table {
    /// The commands that bring it to where it should be, and what they change of each set.
    pub(super) fn commands(&self, want: [&[ipnet::IpNet]; 4], sets_only: bool) -> (Vec<Value>, Vec<(Set, Change)>) {
        let mut commands = rules::sets();
        if !sets_only {
            commands.extend(rules::rules(&self.rules));
        }
        let mut changes = Vec::new();
        for ((set, have), want) in SETS.iter().zip(&self.sets).zip(want) {
            let change = Change::between(have, want);
            // Removed first: a larger network may take the place of a part of it.
            for (verb, networks) in [("delete", &change.remove), ("add", &change.add)] {
                if !networks.is_empty() {
                    let elements: Vec<Value> = networks.iter().map(|network| written(network, verb == "add")).collect();
                    let element = json!({ "family": "inet", "table": TABLE, "name": set.name, "elem": elements });
                    commands.push(json!({ verb: { "element": element } }));
                }
            }
            changes.push((*set, change));
        }
        (commands, changes)
    }

    /// What others have put into our sets.
    pub(super) fn foreign(&self) -> Vec<String> {
        let all = self.sets.iter().flatten().filter(|element| !element.ours);
        all.map(|element| element.network.to_string()).collect()
    }
}

fn objects(listed: &Value) -> &[Value] {
    listed["nftables"].as_array().map_or(&[], Vec::as_slice)
}

fn written(network: &ipnet::IpNet, marked: bool) -> Value {
    let value = if network.prefix_len() == network.max_prefix_len() {
        json!(network.addr().to_string())
    } else {
        json!({ "prefix": { "addr": network.addr().to_string(), "len": network.prefix_len() } })
    };
    if marked { json!({ "elem": { "val": value, "comment": MARK } }) } else { value }
}

/// The networks of one element, which somebody else may have written as a range.
fn element(element: &Value) -> Vec<Element> {
    let (value, comment) = match element.get("elem") {
        Some(inner) => (&inner["val"], inner["comment"].as_str()),
        None => (element, None),
    };
    let address = |value: &Value| value.as_str().and_then(|text| text.parse::<IpAddr>().ok());
    let networks = if let Some(prefix) = value.get("prefix") {
        let text = format!("{}/{}", prefix["addr"].as_str().unwrap_or_default(), prefix["len"]);
        network(&text).into_iter().collect()
    } else if let Some(bounds) = value.get("range") {
        match (address(&bounds[0]), address(&bounds[1])) {
            (Some(first), Some(last)) => range(first, last),
            _ => Vec::new(),
        }
    } else {
        value.as_str().and_then(network).into_iter().collect()
    };
    networks.into_iter().map(|network| Element { network, ours: comment == Some(MARK) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_read_as_nftables_lists_them() {
        let listed = json!([
            "10.8.0.1",
            { "elem": { "val": "10.0.0.1", "comment": MARK } },
            { "elem": { "val": { "prefix": { "addr": "2001:db8::", "len": 32 } }, "comment": MARK } },
            { "elem": { "val": { "range": ["10.9.0.0", "10.9.0.2"] }, "comment": "mine" } },
        ]);
        let found: Vec<(String, bool)> = listed
            .as_array()
            .unwrap()
            .iter()
            .flat_map(element)
            .map(|element| (element.network.to_string(), element.ours))
            .collect();
        let expected = [
            ("10.8.0.1/32", false),
            ("10.0.0.1/32", true),
            ("2001:db8::/32", true),
            ("10.9.0.0/31", false),
            ("10.9.0.2/32", false),
        ];
        assert_eq!(found, expected.map(|(network, ours)| (network.to_owned(), ours)));
    }
}
