//! `--dry-run`: the service says what would be recorded, and it is shown. Nothing is changed, here or there.

use serde_json::{Value, json};

use super::caution::Touched;
use super::failure::Failure;
use super::output::{self, Column, Format, Screen};

/// Of every verb that changes something.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub(crate) struct DryRun {
    /// Show what would be recorded, and change nothing. It is refused for whatever the real thing would be refused for.
    #[arg(long)]
    dry_run: bool,
}

const COLUMNS: &[Column] = &[("would be recorded", "kind"), ("about", "about"), ("with", "with")];

impl DryRun {
    pub(crate) fn is_asked(self) -> bool {
        self.dry_run
    }
}

/// Shows the service's answer to a dry run, and what else is known of it.
pub(crate) fn show(screen: Screen, mut foreseen: Value, touched: Option<&Touched>) -> Result<(), Failure> {
    if screen.format == Format::Json {
        if let (Value::Object(fields), Some(touched)) = (&mut foreseen, touched) {
            fields.extend(touched.fields());
        }
        output::json(&foreseen)?;
    } else {
        touched.map_or(Ok(()), |touched| touched.show(screen))?;
        let would = foreseen["would"].as_array().map_or(&[][..], Vec::as_slice);
        if would.is_empty() {
            screen.note("It is so already: nothing would be recorded.");
        } else {
            screen.rows(COLUMNS, &would.iter().map(row).collect::<Vec<_>>())?;
        }
        let count = foreseen["count"].as_u64().unwrap_or_default();
        if count > would.len() as u64 {
            screen.note(format_args!("These are the first {} of {count}.", would.len()));
        }
    }
    nothing_was_changed(screen);
    Ok(())
}

pub(crate) fn nothing_was_changed(screen: Screen) {
    screen.note("Nothing was changed: this was a dry run.");
}

/// Several answers as one.
pub(crate) fn together(answers: &[Value]) -> Value {
    let would: Vec<&Value> = answers.iter().filter_map(|answer| answer["would"].as_array()).flatten().collect();
    let count: u64 = answers.iter().filter_map(|answer| answer["count"].as_u64()).sum();
    let changed = answers.iter().any(|answer| answer["changed"] == true);
    let position = answers.iter().filter_map(|answer| answer["position"].as_u64()).max();
    json!({ "dry_run": true, "changed": changed, "would": would, "count": count, "position": position })
}

/// An event in one line: what it is about once, and of its data what is there.
fn row(event: &Value) -> Value {
    let (kind, id) = (&event["subject"]["kind"], &event["subject"]["id"]);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut with = event["data"].clone();
    if let Value::Object(fields) = &mut with {
        fields.retain(|_, value| !value.is_null() && value != id);
    }
    json!({ "kind": event["kind"], "about": format!("{}:{}", text(kind), text(id)), "with": with })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_what_it_is_about_once_and_leaves_out_what_is_not_there() {
        let event = json!({
            "kind": "worker.isolated", "subject": { "kind": "worker", "id": "w-1" },
            "data": { "worker": "w-1", "until": null, "pool": "default" }
        });
        let expected = json!({ "kind": "worker.isolated", "about": "worker:w-1", "with": { "pool": "default" } });
        assert_eq!(row(&event), expected);
    }

    #[test]
    fn several_answers_are_one() {
        let answer = |name: &str| json!({ "would": [{ "kind": name }], "count": 1, "changed": false, "position": 7 });
        let all = together(&[answer("a"), answer("b")]);
        assert_eq!((&all["would"][1]["kind"], &all["count"], &all["dry_run"]), (&json!("b"), &json!(2), &json!(true)));
    }
}
