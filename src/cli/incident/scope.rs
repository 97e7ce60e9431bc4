//! `portcullis incident scope`: the blast radius, as a table, a tree or a graph.

use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};

use crate::cli::client::{Call, given};
use crate::cli::failure::Failure;
use crate::cli::output::{self, Column, Format};
use crate::cli::selection::Selection;
use crate::cli::session::Session;

pub(crate) const AFTER_HELP: &str = "Examples:
  portcullis incident scope enrollment_secret:2fTzGkcV0JPYqkHfYgkWcz
  portcullis incident scope --credential-file found-on-a-forum.txt
  portcullis incident scope source:203.0.113.0/24 pool:builders --since 2d --as tree
  portcullis incident scope operator:2fTzGkcV0JPYqkHfYgkWcz --as dot | dot -Tsvg > scope.svg
  portcullis incident scope worker:builder-7 --output json";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    selection: Selection,
    /// How to draw it for people; `--output json` has all of it.
    #[arg(long = "as", value_name = "FORM", default_value = "table")]
    form: Form,
    /// How many things to show. Counts, uses, addresses and tokens are always of all.
    #[arg(long, value_name = "COUNT", default_value = "1000", value_parser = clap::value_parser!(u64).range(1..=25_000))]
    limit: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    /// One thing a line.
    Table,
    /// What came of what.
    Tree,
    /// For Graphviz.
    Dot,
}

const COUNTS: &[Column] = &[
    ("selected", "select"),
    ("workers", "counts.workers"),
    ("– by state", "counts.workers_by_state"),
    ("keys", "counts.keys"),
    ("– by state", "counts.keys_by_state"),
    ("enrollment secrets", "counts.enrollment_secrets"),
    ("– by state", "counts.enrollment_secrets_by_state"),
    ("operators", "counts.operators"),
    ("tokens alive", "tokens.alive"),
    ("– exactly", "tokens.exact"),
    ("first used", "first_used_at"),
    ("last used", "last_used_at"),
    ("from", "sources"),
    ("– addresses in all", "sources_in_all"),
    ("position", "position"),
];

const NODES: &[Column] = &[
    ("what", "id"),
    ("name", "name"),
    ("pool", "pool"),
    ("state", "state"),
    ("created", "created_at"),
    ("first used", "first_used_at"),
    ("last used", "last_used_at"),
    ("from", "sources"),
];

pub(super) async fn run(args: Args, session: &Session) -> Result<(), Failure> {
    let mut body = given(args.selection.fields(session.screen)?);
    body["limit"] = json!(args.limit);
    let found = session.read(Call::post(&["v1", "scope"]).json(body)).await?;
    let items = |field: &str| found[field].as_array().map_or(&[][..], Vec::as_slice);
    let (nodes, edges) = (items("nodes"), items("edges"));
    match (session.screen.format, args.form) {
        (Format::Json, _) => return output::json(&found),
        (Format::Table, Form::Dot) => output::line(dot(nodes, edges))?,
        (Format::Table, Form::Table) => {
            session.screen.object(COUNTS, &found)?;
            session.screen.rows(NODES, nodes)?;
        }
        (Format::Table, Form::Tree) => {
            session.screen.object(COUNTS, &found)?;
            tree(nodes, edges).into_iter().try_for_each(output::line)?;
        }
    }
    remarks(session, &found, nodes.len());
    Ok(())
}

/// What somebody should not miss who goes on from here.
fn remarks(session: &Session, found: &Value, shown: usize) {
    if found["complete"] == json!(false) {
        session.screen.note(format_args!("{shown} things are shown, and there are more: `--limit`."));
    }
    if found["credential"]["proven"] == json!(false) {
        session.screen.warn(
            "the credential is not genuine, or cannot be shown to be any more: this is where it says that it leads, and anybody \
             can have written that",
        );
    }
    let noted: Vec<String> = found["only_noted"].as_array().into_iter().flatten().filter_map(worker).collect();
    if !noted.is_empty() {
        session.screen.warn(format_args!(
            "{} of these workers were only noted there when they showed a key, which the log does not know: no plan with \
             `source:` selects them. Select them by a plan of their own: {}",
            found["only_noted_in_all"],
            noted.join(" ")
        ));
    }
}

fn worker(id: &Value) -> Option<String> {
    id.as_str().map(|id| format!("worker:{id}"))
}

fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value[field].as_str().unwrap_or_default()
}

fn dot(nodes: &[Value], edges: &[Value]) -> String {
    let mut lines = vec!["digraph scope {".to_owned(), "  rankdir=LR; node [shape=box];".to_owned()];
    let node = |node: &Value| {
        let label = [text(node, "id"), text(node, "name"), text(node, "state")];
        let label: Vec<String> = label.iter().filter(|part| !part.is_empty()).map(|part| escaped(part)).collect();
        format!("  \"{}\" [label=\"{}\"];", escaped(text(node, "id")), label.join("\\n"))
    };
    lines.extend(nodes.iter().map(node));
    let edge = |edge: &Value| {
        let (from, to) = (escaped(text(edge, "from")), escaped(text(edge, "to")));
        format!("  \"{from}\" -> \"{to}\" [label=\"{}\"];", escaped(text(edge, "kind")))
    };
    lines.extend(edges.iter().map(edge));
    lines.push("}".to_owned());
    lines.join("\n")
}

/// Names come from workers: what a quoted string of DOT reads otherwise, or a terminal, is not for them to say.
fn escaped(text: &str) -> String {
    text.chars().filter(|char| !char.is_control()).fold(String::new(), |mut safe, char| {
        if matches!(char, '"' | '\\') {
            safe.push('\\');
        }
        safe.push(char);
        safe
    })
}

/// Each thing under what it came of first, and once: what came of two is shown below the one that stands further up.
fn tree(nodes: &[Value], edges: &[Value]) -> Vec<String> {
    let mut children: HashMap<&str, Vec<(&str, &str)>> = HashMap::new();
    let mut heirs = HashSet::new();
    for edge in edges {
        children.entry(text(edge, "from")).or_default().push((text(edge, "to"), text(edge, "kind")));
        heirs.insert(text(edge, "to"));
    }
    let states: HashMap<&str, &str> = nodes.iter().map(|node| (text(node, "id"), text(node, "state"))).collect();
    let roots = nodes.iter().map(|node| text(node, "id")).filter(|id| !heirs.contains(id));
    let mut waiting: Vec<(usize, &str, &str)> = roots.map(|id| (0, id, "")).collect();
    waiting.reverse();
    let (mut seen, mut lines) = (HashSet::new(), Vec::new());
    while let Some((depth, id, how)) = waiting.pop() {
        if !seen.insert(id) {
            continue;
        }
        let how = if how.is_empty() { String::new() } else { format!("{} ", how.replace('_', " ")) };
        lines.push(format!("{}{how}{id} ({})", "  ".repeat(depth), states.get(id).copied().unwrap_or_default()));
        let below = children.get(id).into_iter().flatten().rev();
        waiting.extend(below.map(|(child, how)| (depth + 1, *child, *how)));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found() -> (Vec<Value>, Vec<Value>) {
        let node =
            |id: &str| json!({ "id": id, "state": "live", "name": if id == "worker:w" { "a\"b\u{1b}" } else { "" } });
        let edge = |from: &str, to: &str, kind: &str| json!({ "from": from, "to": to, "kind": kind });
        let nodes = ["enrollment_secret:s", "worker:w", "key:1", "key:2"].map(node).to_vec();
        let edges = vec![
            edge("enrollment_secret:s", "worker:w", "let_in"),
            edge("worker:w", "key:1", "holds"),
            edge("worker:w", "key:2", "holds"),
            edge("key:1", "key:2", "rotated_into"),
        ];
        (nodes, edges)
    }

    #[test]
    fn a_tree_shows_each_thing_once_below_what_it_came_of() {
        let (nodes, edges) = found();
        assert_eq!(
            tree(&nodes, &edges),
            [
                "enrollment_secret:s (live)",
                "  let in worker:w (live)",
                "    holds key:1 (live)",
                "      rotated into key:2 (live)"
            ]
        );
    }

    #[test]
    fn a_name_cannot_leave_its_place_in_a_graph() {
        let (nodes, edges) = found();
        let text = dot(&nodes, &edges);
        assert!(text.contains(r#"  "worker:w" [label="worker:w\na\"b\nlive"];"#), "{text}");
        assert!(text.contains(r#"  "key:1" -> "key:2" [label="rotated_into"];"#), "{text}");
        assert!(text.starts_with("digraph scope {") && text.ends_with('}'));
    }
}
