//! `--dry-run` of plans: what one would come to, and whether one would be applied. None is made, and none is applied.

use serde_json::{Value, json};

use super::replan::{again, touched};
use super::{ITEM_COLUMNS, apply_call};
use crate::cli::client::Call;
use crate::cli::dry_run;
use crate::cli::failure::Failure;
use crate::cli::output::{Column, Format};
use crate::cli::session::Session;

const PREVIEW_COLUMNS: &[Column] = &[
    ("workers", "counts.workers"),
    ("keys", "counts.keys"),
    ("enrollment secrets", "counts.enrollment_secrets"),
    ("signing keys", "counts.signing_keys"),
    ("TLS certificates", "counts.tls_certificates"),
    ("left without a key", "left_without_key"),
    ("needs approval", "approval_required"),
    ("digest", "digest"),
    ("as of position", "position"),
    ("made now, it expires", "expires_at"),
];

/// Shows a plan that was not made.
pub(super) fn show(session: &Session, found: &Value) -> Result<(), Failure> {
    session.screen.object(PREVIEW_COLUMNS, found)?;
    if session.screen.format == Format::Table {
        let items = found["items"].as_array().map_or(&[][..], Vec::as_slice);
        session.screen.rows(ITEM_COLUMNS, items)?;
        let all = found["items_in_all"].as_u64().unwrap_or_default();
        if all > items.len() as u64 {
            session.screen.note(format_args!(
                "These are the first {} of {all}. For all of them: `--plan-only`, and `portcullis plan items PLAN --all`.",
                items.len()
            ));
        }
    }
    dry_run::nothing_was_changed(session.screen);
    Ok(())
}

/// What a plan would come to: counted, and refused for whatever making it for this incident would be refused for.
pub(in crate::cli) async fn preview(session: &Session, mut body: Value) -> Result<Value, Failure> {
    let mut found = session.foresee(Call::post(&["v1", "plans"]).json(body.clone())).await?;
    body["dry_run"] = json!(true);
    let counted = session.read(Call::post(&["v1", "plans"]).json(body)).await?;
    if let (Value::Object(found), Value::Object(counted)) = (&mut found, counted) {
        found.extend(counted);
    }
    Ok(found)
}

/// Whether applying it with this digest would do what was shown. Nothing is changed.
pub(in crate::cli) async fn foresee(session: &Session, plan: &str, digest: &str) -> Result<(), Failure> {
    let old = session.read(Call::get(&["v1", "plans", plan])).await?;
    if old["state"] != "made" {
        let state = old["state"].as_str().unwrap_or_default();
        return Err(Failure::Partly(format!("plan {plan} would not be applied: it is {state}")));
    }
    let mut body = again(plan, &old);
    body["dry_run"] = json!(true);
    let mut found = session.read(Call::post(&["v1", "plans"]).json(body)).await?;
    let would = if old["digest"] == json!(digest) && found["digest"] == old["digest"] {
        // Whatever else it would be refused for: that nobody has approved it yet.
        Some(session.foresee(apply_call(plan, digest)).await?)
    } else {
        None
    };
    if let (Value::Object(found), Some(Value::Object(would))) = (&mut found, would) {
        found.extend(would);
    }
    session.screen.object(PREVIEW_COLUMNS, &found)?;
    if old["digest"] != json!(digest) {
        return Err(Failure::Partly(format!(
            "plan {plan} would not be applied: {digest} is not the digest that it was shown with"
        )));
    }
    if found["digest"] != old["digest"] {
        let touched = touched(plan, "made anew", &found);
        touched.show_aside(session.screen);
        return Err(Failure::Partly(format!(
            "plan {plan} would not be applied: what it selects has changed since; `--replan` makes it anew"
        )));
    }
    dry_run::nothing_was_changed(session.screen);
    session.screen.note("It would be applied as it was shown.");
    Ok(())
}
