//! `plan apply --replan`: where what a plan selects has changed, the plan is made anew, what differs is shown, and that is
//! applied if it is wished for.

use serde_json::{Value, json};

use super::{COLUMNS, ITEM_COLUMNS, apply_call, text};
use crate::cli::caution::{Caution, Part, Touched};
use crate::cli::client::{Answer, Call, given};
use crate::cli::failure::Failure;
use crate::cli::session::Session;

/// The new plan's id, and the answer to applying it; `None` where it was not wished for.
pub(super) async fn apply_anew(session: &Session, plan: &str, yes: bool) -> Result<Option<(String, Answer)>, Failure> {
    let old = session.read(Call::get(&["v1", "plans", plan])).await?;
    let body = again(plan, &old);
    let made = session.change_next(Call::post(&["v1", "plans"]).json(body), "replan").await?.body;
    let (id, digest) = (text(&made, "id")?, text(&made, "digest")?);
    let touched = touched(plan, &id, &made);
    let caution = Caution { yes, ..Caution::default() };
    if caution.looks_first() {
        if !caution.approve(session.screen, &touched)? {
            session.screen.note(format_args!("The new plan waits: `portcullis plan apply {id} --digest {digest}`."));
            return Ok(None);
        }
    } else {
        session.screen.note(format_args!("Going to {}:", touched.deed));
        touched.show_aside(session.screen);
    }
    session.screen.object_aside(COLUMNS, &made);
    let answer = session.change_next(apply_call(&id, &digest), "apply").await?;
    Ok(Some((id, answer)))
}

/// What this plan was made of, asked for once more.
pub(super) fn again(plan: &str, old: &Value) -> Value {
    let field = |name: &'static str| (name, old[name].clone());
    let mut body = given([
        field("kind"),
        field("select"),
        field("since"),
        field("before"),
        field("until"),
        field("overlap"),
        ("replaces", json!(plan)),
    ]);
    // An enrollment secret is delivered in one way only, which is not asked for.
    if old["kind"] == "rotate_all" || old["kind"] == "readmit" {
        body["delivery"] = old["delivery"].clone();
    }
    if old["kind"] == "readmit" {
        let wave = |name: &'static str| (name, old["waves"][name].clone());
        let names = ["canary_pool", "size", "every", "stop_after_refusals", "stop_after_trips"];
        body["waves"] = given(names.map(wave));
    }
    body
}

pub(super) fn touched(old: &str, id: &str, made: &Value) -> Touched {
    let difference = &made["difference"];
    let items = |side: &str| difference[side]["items"].as_array().cloned().unwrap_or_default();
    let deed = if difference["known"] == json!(true) {
        let count = |side: &str| {
            let counts = difference[side]["counts"].as_object();
            counts.map_or(0, |counts| counts.values().filter_map(Value::as_u64).sum::<u64>())
        };
        format!(
            "apply plan {id} in place of {old}: {} items came to the list and {} left it",
            count("added"),
            count("gone")
        )
    } else {
        format!("apply plan {id} in place of {old}, of whose list it is not known any more what it was")
    };
    let part = |what, side: &str| Part { what, columns: ITEM_COLUMNS, items: items(side) };
    Touched { deed, parts: vec![part("added", "added"), part("gone", "gone")] }
}
