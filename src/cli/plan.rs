//! `portcullis plan`: what a batch command would touch is shown first; then exactly that is done, or nothing.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use super::caution::{Caution, Part, Touched};
use super::client::{Answer, Call, given};
use super::failure::Failure;
use super::output::Column;
use super::selection::Selection;
use super::session::{Paging, Session};
use super::time::moment;

/// How many items are shown before it is asked whether to go on: a screen. `plan items` shows them all.
const SHOWN_ITEMS: u64 = 20;
/// How often it is looked how far a plan has come.
const LOOK: Duration = Duration::from_millis(200);

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// List the plans that were made.
    #[command(after_help = "Example:\n  portcullis plan list")]
    List {
        #[command(flatten)]
        paging: Paging,
    },
    /// Show a plan, and how far it has come.
    #[command(after_help = "Example:\n  portcullis plan show 2fTzGkcV0JPYqkHfYgkWcz")]
    Show {
        /// The plan's id.
        plan: String,
    },
    /// Show what is on a plan's list.
    #[command(after_help = "Example:\n  portcullis plan items 2fTzGkcV0JPYqkHfYgkWcz --all --output json")]
    Items {
        /// The plan's id.
        plan: String,
        #[command(flatten)]
        paging: Paging,
    },
    /// Refuse everything to all workers that are selected, until released or until a time.
    #[command(after_help = "Examples:\n  portcullis plan isolate pool:builders --until 2h --reason 'odd traffic'\n  \
                            portcullis plan isolate label:rack=r7 label:os=linux --dry-run\n  \
                            portcullis plan isolate enrollment_secret:2fTzGkcV0JPYqkHfYgkWcz --wait --yes")]
    Isolate {
        #[command(flatten)]
        selection: Selection,
        /// Release them by themselves at this time, or after this long.
        #[arg(long, value_name = "TIME", value_parser = moment)]
        until: Option<String>,
        #[command(flatten)]
        course: Course,
    },
    /// End the isolation of all workers that are selected.
    #[command(after_help = "Example:\n  portcullis plan release pool:builders --reason 'all clear'")]
    Release {
        #[command(flatten)]
        selection: Selection,
        #[command(flatten)]
        course: Course,
    },
    /// Revoke all keys and static secrets that are selected, with their tokens, and the enrollment secrets of the scopes.
    #[command(after_help = "Examples:\n  portcullis plan revoke-all everything --dry-run\n  \
                            portcullis plan revoke-all enrollment_secret:2fTzGkcV0JPYqkHfYgkWcz --wait --reason leaked\n\n\
                            It is in force by one event; the record of each key follows. Operators' keys stay good.")]
    RevokeAll {
        #[command(flatten)]
        selection: Selection,
        #[command(flatten)]
        course: Course,
    },
    /// Disable the enrollment secrets of all scopes that are selected.
    #[command(after_help = "Example:\n  portcullis plan disable-enrollment everything --reason 'incident 7'")]
    DisableEnrollment {
        #[command(flatten)]
        selection: Selection,
        #[command(flatten)]
        course: Course,
    },
    /// Apply a plan that was made before: exactly what it has shown, or nothing.
    #[command(after_help = "Example:\n  portcullis plan apply 2fTzGkcV0JPYqkHfYgkWcz --digest 9f86d081… --wait")]
    Apply {
        /// The plan's id.
        plan: String,
        /// The digest that the plan was shown with.
        #[arg(long, value_name = "DIGEST")]
        digest: String,
        #[command(flatten)]
        follow: Follow,
    },
}

/// How far to go.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Course {
    /// Make the plan, say its id and digest, and leave applying it to `plan apply`.
    #[arg(long, conflicts_with_all = ["dry_run", "yes"])]
    plan_only: bool,
    #[command(flatten)]
    caution: Caution,
    #[command(flatten)]
    follow: Follow,
}

#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Follow {
    /// Do not wait until each item has its record in the log. All of it is in force before.
    #[arg(long)]
    no_follow: bool,
}

const COLUMNS: &[Column] = &[
    ("id", "id"),
    ("kind", "kind"),
    ("selects", "select"),
    ("until", "until"),
    ("workers", "counts.workers"),
    ("keys", "counts.keys"),
    ("enrollment secrets", "counts.enrollment_secrets"),
    ("left without a key", "left_without_key"),
    ("state", "state"),
    ("digest", "digest"),
    ("recorded", "progress.done"),
    ("expires", "expires_at"),
];

const ITEM_COLUMNS: &[Column] =
    &[("kind", "kind"), ("id", "id"), ("worker", "worker"), ("name", "name"), ("pool", "pool")];

const PREVIEW_COLUMNS: &[Column] = &[
    ("workers", "counts.workers"),
    ("keys", "counts.keys"),
    ("enrollment secrets", "counts.enrollment_secrets"),
    ("left without a key", "left_without_key"),
    ("digest", "digest"),
];

pub(crate) async fn run(verb: Verb, session: &Session) -> Result<(), Failure> {
    match verb {
        Verb::List { paging } => session.list(Call::get(&["v1", "plans"]), &paging, COLUMNS).await,
        Verb::Show { plan } => session.screen.object(COLUMNS, &session.read(Call::get(&["v1", "plans", &plan])).await?),
        Verb::Items { plan, paging } => {
            session.list(Call::get(&["v1", "plans", &plan, "items"]), &paging, ITEM_COLUMNS).await
        }
        Verb::Isolate { selection, until, course } => {
            let mut body = body("isolate", &selection, session)?;
            body["until"] = json!(until);
            plan(session, body, "refuse everything to", course).await
        }
        Verb::Release { selection, course } => {
            plan(session, body("release", &selection, session)?, "end the isolation of", course).await
        }
        Verb::RevokeAll { selection, course } => {
            plan(session, body("revoke_all", &selection, session)?, "revoke for ever", course).await
        }
        Verb::DisableEnrollment { selection, course } => {
            plan(session, body("disable_enrollment", &selection, session)?, "disable for ever", course).await
        }
        Verb::Apply { plan, digest, follow } => {
            let answer = session.change(apply_call(&plan, &digest)).await?;
            applied(session, &plan, answer, follow).await
        }
    }
}

/// A request for a plan.
fn body(kind: &str, selection: &Selection, session: &Session) -> Result<Value, Failure> {
    let mut body = given(selection.fields(session.screen)?);
    body["kind"] = json!(kind);
    Ok(body)
}

/// Makes a plan, shows it, and applies it if that is wished for.
async fn plan(session: &Session, mut body: Value, deed: &str, course: Course) -> Result<(), Failure> {
    if course.caution.dry_run {
        body["dry_run"] = json!(true);
        let found = session.read(Call::post(&["v1", "plans"]).json(body)).await?;
        session.screen.object(PREVIEW_COLUMNS, &found)?;
        session.screen.note("Nothing was changed: this was a dry run.");
        return Ok(());
    }
    let made = session.change(Call::post(&["v1", "plans"]).json(body)).await?;
    let (position, made) = (made.position.unwrap_or_default(), made.body);
    let (id, digest) = (text(&made, "id")?, text(&made, "digest")?);
    if course.plan_only {
        session.screen.note(format_args!(
            "Nothing was changed. Next, before it expires: `portcullis plan apply {id} --digest {digest}`."
        ));
        return session.screen.object(COLUMNS, &made);
    }
    if course.caution.looks_first() {
        let touched = touched(session, &made, position, deed).await?;
        if !course.caution.approve(session.screen, &touched)? {
            return Ok(());
        }
    }
    let call = apply_call(&id, &digest);
    let answer = session.change_next(call, "apply").await?;
    applied(session, &id, answer, course.follow).await
}

/// What it comes to, and the first items.
async fn touched(session: &Session, made: &Value, position: u64, deed: &str) -> Result<Touched, Failure> {
    let id = text(made, "id")?;
    let counts = &made["counts"];
    let deed = format!(
        "{deed} {} workers, {} keys and {} enrollment secrets, and leave {} workers without a key",
        counts["workers"], counts["keys"], counts["enrollment_secrets"], made["left_without_key"]
    );
    let call = Call::get(&["v1", "plans", &id, "items"]).query("limit", SHOWN_ITEMS.to_string());
    // Behind a load balancer another node may answer than the one that made it.
    let call = call.query("at_least", position.to_string());
    let items = session.read(call).await?["items"].as_array().cloned().unwrap_or_default();
    Ok(Touched { deed, parts: vec![Part { what: "the first of them", columns: ITEM_COLUMNS, items }] })
}

fn apply_call(id: &str, digest: &str) -> Call {
    Call::post(&["v1", "plans", id, "apply"]).json(json!({ "digest": digest }))
}

/// What is wished for first is known first: that it is in force. The records follow.
async fn applied(session: &Session, id: &str, answer: Answer, follow: Follow) -> Result<(), Failure> {
    session.done(&format!("Applied plan {id}: all of it is in force on the node that answered"), &answer);
    let position = answer.position.unwrap_or_default();
    session.wait_for_changes().await?;
    let plan = if follow.no_follow { answer.body } else { recorded(session, id, position).await? };
    session.screen.object(COLUMNS, &plan)
}

/// Shows how the items get their records, until the last has one. Who stops looking stops nothing.
async fn recorded(session: &Session, id: &str, position: u64) -> Result<Value, Failure> {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {human_pos}/{human_len} recorded, {per_sec}, {eta} left")
    {
        bar.set_style(style);
    }
    loop {
        let call = Call::get(&["v1", "plans", id]).query("at_least", position.to_string());
        let plan = session.read(call).await?;
        bar.set_length(plan["progress"]["total"].as_u64().unwrap_or_default());
        bar.set_position(plan["progress"]["done"].as_u64().unwrap_or_default());
        if plan["state"] == "recorded" {
            bar.finish_and_clear();
            session.screen.note(format_args!(
                "{} of {} items have a record of their own; the others were changed by somebody before.",
                plan["progress"]["recorded"], plan["progress"]["total"]
            ));
            return Ok(plan);
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn text(body: &Value, field: &str) -> Result<String, Failure> {
    let text = body[field].as_str().map(str::to_owned);
    text.ok_or_else(|| Failure::Fault(anyhow::anyhow!("the service answered without `{field}`")))
}
