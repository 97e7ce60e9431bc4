//! `--wait`: until a change is in force on every node, with the nodes as they confirm.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::client::{Call, Client};
use super::failure::Failure;
use super::output::Screen;

/// How long the service is asked to wait at a time: no longer than proxies let a request wait.
const STEP: Duration = Duration::from_secs(10);
/// How often it is looked who has confirmed meanwhile.
const LOOK: Duration = Duration::from_millis(250);

/// Waits until the position is in force everywhere, or fails when `patience` is over. What was changed stays so.
pub(crate) async fn everywhere(
    screen: Screen,
    client: &Client,
    position: u64,
    patience: Duration,
) -> Result<(), Failure> {
    let deadline = Instant::now() + patience;
    let mut shown = BTreeSet::new();
    screen.note(format_args!("Done at position {position}. Waiting until it is in force on every node …"));
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let step = left.min(STEP).as_secs().max(1);
        let found = ask(screen, client, position, step, &mut shown).await?;
        if found["in_force"] == true {
            show_new(screen, &mut shown, found["confirmed"].as_array().into_iter().flatten());
            for name in texts(&found["waited_out"]) {
                screen.warn(format_args!("{name} did not answer and was waited out: it refuses everything by itself"));
            }
            screen.note("In force on every node.");
            return Ok(());
        }
        if Instant::now() >= deadline {
            let missing = texts(&found["missing"]).collect::<Vec<_>>().join(", ");
            return Err(Failure::Fault(anyhow::anyhow!(
                "it is done, but not known to be in force on every node; missing: {missing}. \
                 Go on waiting with `portcullis node in-force {position} --wait`"
            )));
        }
    }
}

/// Asks once, and shows who confirms until the answer comes.
async fn ask(
    screen: Screen,
    client: &Client,
    position: u64,
    seconds: u64,
    shown: &mut BTreeSet<String>,
) -> Result<Value, Failure> {
    let call = Call::get(&["v1", "in-force", &position.to_string()]).query("timeout", format!("{seconds}s"));
    // Behind a load balancer another node may answer than the one that made the change.
    let call = call.query("at_least", position.to_string());
    let mut answer = std::pin::pin!(client.send(&call));
    loop {
        tokio::select! {
            answer = &mut answer => return Ok(answer?.body),
            () = tokio::time::sleep(LOOK) => {
                // Only to show something meanwhile: whatever is wrong, the answer that counts says it.
                let Ok(nodes) = client.send(&Call::get(&["v1", "nodes"])).await.map(|answer| answer.body) else { continue };
                let confirmed = nodes["items"].as_array().into_iter().flatten();
                let confirmed = confirmed.filter(|node| node["position"].as_u64() >= Some(position));
                show_new(screen, shown, confirmed.map(|node| &node["name"]));
            }
        }
    }
}

fn show_new<'a>(screen: Screen, shown: &mut BTreeSet<String>, names: impl Iterator<Item = &'a Value>) {
    for name in names.filter_map(Value::as_str) {
        if shown.insert(name.to_owned()) {
            screen.note(format_args!("  {name} has it"));
        }
    }
}

fn texts(names: &Value) -> impl Iterator<Item = &str> {
    names.as_array().into_iter().flatten().filter_map(Value::as_str)
}
