//! `portcullis plan`: what a batch command would touch is shown first; then exactly that is done, or nothing.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use super::caution::{Caution, Part, Touched};
use super::client::{Answer, Call, given};
use super::dry_run::DryRun;
use super::failure::Failure;
use super::output::Column;
use super::selection::Selection;
use super::session::{Paging, Session};
use super::time::moment;

pub(super) mod collect;
pub(super) mod preview;
mod replan;

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
    /// Give all API keys that are selected successors: collected into a file, or fetched by each worker with its old key.
    #[command(after_help = "Examples:\n  portcullis plan rotate-all pool:builders --overlap 2h\n  \
                            portcullis plan rotate-all enrollment_secret:2fTzGkcV0JPYqkHfYgkWcz --secrets-file new.jsonl\n\n\
                            Without a file each worker is told, by /v1/worker and with each token, and rotates its own key.")]
    RotateAll {
        #[command(flatten)]
        selection: Selection,
        /// How long the old keys stay good: at least 5 minutes where workers fetch theirs.
        #[arg(long, value_name = "DURATION", default_value = "24h")]
        overlap: String,
        #[command(flatten)]
        collected: collect::Into,
        #[command(flatten)]
        course: Course,
    },
    /// Give all enrollment secrets that are selected successors, which are collected into a file.
    #[command(
        after_help = "Example:\n  portcullis plan rotate-enrollment pool:builders --overlap 0s --secrets-file new.jsonl"
    )]
    RotateEnrollment {
        #[command(flatten)]
        selection: Selection,
        /// How long the old ones stay good.
        #[arg(long, value_name = "DURATION", default_value = "24h")]
        overlap: String,
        #[command(flatten)]
        collected: collect::Into,
        #[command(flatten)]
        course: Course,
    },
    /// Let the next signing key sign, and make another next one.
    #[command(
        after_help = "Example:\n  portcullis plan rotate-signing-keys --overlap 0s --reason 'the host was broken into'"
    )]
    RotateSigningKeys {
        /// How long tokens that the active key signed stay good. Default: as long as tokens live.
        #[arg(long, value_name = "DURATION")]
        overlap: Option<String>,
        #[command(flatten)]
        course: Course,
    },
    /// Let each node make another TLS certificate from its own authority, so that clients need nothing new. A node whose files
    /// are from elsewhere takes up new ones by itself, and is listed as due until then: `portcullis node certificates`.
    #[command(after_help = "Example:\n  portcullis plan rotate-tls-certificates --reason 'the host was broken into'")]
    RotateTlsCertificates {
        #[command(flatten)]
        course: Course,
    },
    /// Refuse all that was issued so far to the scopes that are selected, without a record of each key.
    #[command(after_help = "Example:\n  portcullis plan fence pool:builders pool:testers --wait --reason 'incident 7'")]
    Fence {
        #[command(flatten)]
        selection: Selection,
        #[command(flatten)]
        course: Course,
    },
    /// Apply a plan that was made before: exactly what it has shown, or nothing.
    #[command(after_help = "Examples:\n  portcullis plan apply 2fTzGkcV0JPYqkHfYgkWcz --digest 9f86d081… --wait\n  \
                            portcullis plan apply 2fTzGkcV0JPYqkHfYgkWcz --digest 9f86d081… --replan")]
    Apply {
        /// The plan's id.
        plan: String,
        /// The digest that the plan was shown with.
        #[arg(long, value_name = "DIGEST")]
        digest: String,
        /// If what it selects has changed, make the plan anew, show what differs, and ask before applying that.
        #[arg(long, conflicts_with = "dry_run")]
        replan: bool,
        /// Do not ask.
        #[arg(long, short)]
        yes: bool,
        #[command(flatten)]
        dry: DryRun,
        #[command(flatten)]
        collected: collect::Into,
        #[command(flatten)]
        follow: Follow,
    },
    /// Approve exactly what a plan of somebody else has shown.
    #[command(
        after_help = "Example:\n  portcullis plan approve 2fTzGkcV0JPYqkHfYgkWcz --digest 9f86d081… --reason 'as agreed on the call'"
    )]
    Approve {
        /// The plan's id.
        plan: String,
        /// The digest that the plan was shown with.
        #[arg(long, value_name = "DIGEST")]
        digest: String,
        #[command(flatten)]
        dry: DryRun,
    },
    /// Collect the new secrets of a plan that you have applied, or go on where that was interrupted.
    #[command(
        after_help = "Example:\n  portcullis plan collect 2fTzGkcV0JPYqkHfYgkWcz --secrets-file new.jsonl --resume"
    )]
    Collect(collect::Args),
    /// Show which plans need a second operator, or set it.
    #[command(after_help = "Examples:\n  portcullis plan policy\n  \
                            portcullis plan policy --kinds revoke_all,rotate_all --pools builders\n  \
                            portcullis plan policy --kinds '' --reason 'only pools from now on'")]
    Policy {
        /// The kinds of plans that need one, with commas between them; empty for none.
        #[arg(long, value_name = "KINDS")]
        kinds: Option<String>,
        /// The pools of which no plan touches anything without one; empty for none.
        #[arg(long, value_name = "POOLS")]
        pools: Option<String>,
        #[command(flatten)]
        dry: DryRun,
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
    ("overlap", "overlap"),
    ("delivery", "delivery"),
    ("to be collected until", "collected_until"),
    ("in place of", "replaces"),
    ("workers", "counts.workers"),
    ("keys", "counts.keys"),
    ("enrollment secrets", "counts.enrollment_secrets"),
    ("left without a key", "left_without_key"),
    ("signing keys", "counts.signing_keys"),
    ("TLS certificates", "counts.tls_certificates"),
    ("needs approval", "approval_required"),
    ("approved by", "approvals"),
    ("state", "state"),
    ("digest", "digest"),
    ("recorded", "progress.done"),
    ("made at position", "made"),
    ("expires", "expires_at"),
];

const POLICY_COLUMNS: &[Column] = &[("kinds", "kinds"), ("pools", "pools")];

const ITEM_COLUMNS: &[Column] =
    &[("kind", "kind"), ("id", "id"), ("worker", "worker"), ("name", "name"), ("pool", "pool")];

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
            plan(session, body, "refuse everything to", course).await.map(drop)
        }
        Verb::Release { selection, course } => {
            plan(session, body("release", &selection, session)?, "end the isolation of", course).await.map(drop)
        }
        Verb::RevokeAll { selection, course } => {
            plan(session, body("revoke_all", &selection, session)?, "revoke for ever", course).await.map(drop)
        }
        Verb::DisableEnrollment { selection, course } => {
            plan(session, body("disable_enrollment", &selection, session)?, "disable for ever", course).await.map(drop)
        }
        Verb::RotateAll { selection, overlap, collected, course } => {
            let mut body = body("rotate_all", &selection, session)?;
            body["overlap"] = json!(overlap);
            body["delivery"] = json!(if collected.is_wanted() { "file" } else { "fetch" });
            rotate(session, body, "give successors to", course, &collected).await
        }
        Verb::RotateEnrollment { selection, overlap, collected, course } => {
            if !collected.is_wanted() && !course.plan_only && !course.caution.dry.is_asked() {
                return Err(Failure::Usage("the new secrets need a place to go: `--secrets-file FILE`".to_owned()));
            }
            let mut body = body("rotate_enrollment", &selection, session)?;
            body["overlap"] = json!(overlap);
            rotate(session, body, "give successors to", course, &collected).await
        }
        Verb::RotateSigningKeys { overlap, course } => {
            let fields = [
                ("kind", json!("rotate_signing_keys")),
                ("select", json!(["everything"])),
                ("overlap", json!(overlap)),
            ];
            plan(session, given(fields), "rotate the signing keys, beside", course).await.map(drop)
        }
        Verb::RotateTlsCertificates { course } => {
            let fields = [("kind", json!("rotate_tls_certificates")), ("select", json!(["everything"]))];
            plan(session, given(fields), "replace the TLS certificates of all nodes, beside", course).await?;
            session.screen.note("each node replaces its own: `portcullis node certificates` shows how far they are");
            Ok(())
        }
        Verb::Fence { selection, course } => {
            let body = body("fence", &selection, session)?;
            plan(session, body, "refuse by fences", course).await.map(drop)
        }
        Verb::Apply { plan, digest, collected, dry, .. } if dry.is_asked() => {
            collected.check()?;
            preview::foresee(session, &plan, &digest).await
        }
        Verb::Apply { plan, digest, replan, yes, collected, follow, .. } => {
            let anew = replan.then_some(yes);
            apply(session, plan, &digest, anew, &collected, follow).await
        }
        Verb::Approve { plan, digest, dry } => approve(session, &plan, &digest, dry).await,
        Verb::Collect(args) => collect::run(args, session).await,
        Verb::Policy { kinds, pools, dry } => policy(session, kinds, pools, dry).await,
    }
}

/// Applies a plan that was made before. `anew`: where what it selects has changed, make it again, and whether to do so
/// without asking.
async fn apply(
    session: &Session,
    mut plan: String,
    digest: &str,
    anew: Option<bool>,
    collected: &collect::Into,
    follow: Follow,
) -> Result<(), Failure> {
    let place = collected.reserve()?;
    let follow = if collected.is_wanted() { Follow { no_follow: true } } else { follow };
    let answer = match (session.carry_out(apply_call(&plan, digest)).await, anew) {
        (Err(Failure::Problem(problem)), Some(yes)) if problem.code == "plan_changed" => {
            let Some((new, answer)) = replan::apply_anew(session, &plan, yes).await? else { return Ok(()) };
            plan = new;
            answer
        }
        (other, _) => other?,
    };
    applied(session, &plan, answer, follow).await?;
    collect::into(session, &plan, place).await
}

async fn approve(session: &Session, plan: &str, digest: &str, dry: DryRun) -> Result<(), Failure> {
    let call = Call::post(&["v1", "plans", plan, "approve"]).json(json!({ "digest": digest }));
    let Some(answer) = session.change(call, dry).await? else { return Ok(()) };
    session.done(&format!("Approved plan {plan}"), &answer);
    session.screen.object(COLUMNS, &answer.body)
}

/// Shows the policy, or sets what is given of it.
async fn policy(session: &Session, kinds: Option<String>, pools: Option<String>, dry: DryRun) -> Result<(), Failure> {
    let listed = |text: String| text.split(',').filter(|part| !part.is_empty()).map(str::to_owned).collect::<Vec<_>>();
    if kinds.is_none() && pools.is_none() {
        let found = session.read(Call::get(&["v1", "plan-policy"])).await?;
        return session.screen.object(POLICY_COLUMNS, &found);
    }
    let body = given([("kinds", json!(kinds.map(listed))), ("pools", json!(pools.map(listed)))]);
    let Some(answer) = session.change(Call::patch(&["v1", "plan-policy"]).json(body), dry).await? else {
        return Ok(());
    };
    session.done("Set which plans need a second operator", &answer);
    session.screen.object(POLICY_COLUMNS, &answer.body)
}

/// A request for a plan.
fn body(kind: &str, selection: &Selection, session: &Session) -> Result<Value, Failure> {
    let mut body = given(selection.fields(session.screen)?);
    body["kind"] = json!(kind);
    Ok(body)
}

/// Makes a plan that rotates, applies it if that is wished for, and collects what it makes.
async fn rotate(
    session: &Session,
    body: Value,
    deed: &str,
    course: Course,
    collected: &collect::Into,
) -> Result<(), Failure> {
    let dry = course.caution.dry.is_asked();
    if dry {
        collected.check()?;
    }
    // Before anything is changed: what is made first may find no place to go.
    let place = if course.plan_only || dry { None } else { collected.reserve()? };
    let course = if collected.is_wanted() { Course { follow: Follow { no_follow: true }, ..course } } else { course };
    match plan(session, body, deed, course).await? {
        Some(id) => collect::into(session, &id, place).await,
        None => Ok(()),
    }
}

/// Makes a plan, shows it, and applies it if that is wished for; then its id is given back.
async fn plan(session: &Session, body: Value, deed: &str, course: Course) -> Result<Option<String>, Failure> {
    if course.caution.dry.is_asked() {
        let found = preview::preview(session, body).await?;
        return preview::show(session, &found).map(|()| None);
    }
    let made = session.carry_out(Call::post(&["v1", "plans"]).json(body)).await?;
    let (position, made) = (made.position.unwrap_or_default(), made.body);
    let (id, digest) = (text(&made, "id")?, text(&made, "digest")?);
    let waits = made["approval_required"] == json!(true);
    if course.plan_only || waits {
        if waits {
            session.screen.warn(format_args!(
                "another operator has to approve it first: `portcullis plan approve {id} --digest {digest}`"
            ));
        }
        session.screen.note(format_args!(
            "Nothing was changed. Next, before it expires: `portcullis plan apply {id} --digest {digest}`."
        ));
        session.screen.object(COLUMNS, &made)?;
        return Ok(None);
    }
    if course.caution.looks_first() {
        let touched = touched(session, &made, position, deed).await?;
        if !course.caution.approve(session.screen, &touched)? {
            return Ok(None);
        }
    }
    let call = apply_call(&id, &digest);
    let answer = session.change_next(call, "apply").await?;
    applied(session, &id, answer, course.follow).await?;
    Ok(Some(id))
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
    // What is collected is recorded as it is collected, by whoever does.
    let collects = answer.body["collected_until"].is_string();
    if collects && !follow.no_follow {
        session.screen.note(format_args!("Next: `portcullis plan collect {id} --secrets-file FILE`."));
    }
    let plan = if follow.no_follow || collects { answer.body } else { recorded(session, id, position).await? };
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
            let (recorded, total) = (&plan["progress"]["recorded"], &plan["progress"]["total"]);
            if recorded == total {
                session.screen.note(format_args!("Each of {total} items is recorded."));
            } else if plan["records_items"] == json!(true) {
                session.screen.note(format_args!(
                    "{recorded} of {total} items are recorded; the others were changed by somebody before."
                ));
            }
            return Ok(plan);
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn text(body: &Value, field: &str) -> Result<String, Failure> {
    let text = body[field].as_str().map(str::to_owned);
    text.ok_or_else(|| Failure::Fault(anyhow::anyhow!("the service answered without `{field}`")))
}
