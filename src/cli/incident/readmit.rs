//! `portcullis incident readmit`: isolated workers come back wave by wave, the canary pool's first, with new keys.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use super::named;
use crate::cli::caution::{Caution, Part, Touched};
use crate::cli::client::{Call, given};
use crate::cli::dry_run::{self, DryRun};
use crate::cli::failure::Failure;
use crate::cli::output::{Column, Format};
use crate::cli::plan::collect::{self, Place};
use crate::cli::plan::preview::{foresee, preview};
use crate::cli::selection::Selection;
use crate::cli::session::{Paging, Session};

/// How often it is looked how far one has come.
const LOOK: Duration = Duration::from_secs(1);

pub(super) const AFTER_HELP: &str = "Examples:
  portcullis incident readmit plan --incident INC-7 --canary-pool canaries --wave-size 500 --wave-every 5m
  portcullis incident readmit apply 2fTzGkcV0JPYqkHfYgkWcz --digest 9f86d081… --secrets-file new.jsonl --follow
  portcullis incident readmit show 2fTzGkcV0JPYqkHfYgkWcz";

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// Show which isolated workers would come back, and in which waves. Nothing is touched.
    #[command(after_help = "Examples:\n  portcullis incident readmit plan --incident INC-7 --wave-size 500\n  \
                            portcullis incident readmit plan pool:builders --canary-pool builders --wave-size 50 \\\n    \
                            --wave-every 10m --stop-after-refusals 20 --keys fetch --overlap 2h\n\n\
                            With `--keys file` nothing that a worker held before comes back with it: a fence ends it as the \
                            worker is released.")]
    Plan(Terms),
    /// Begin what a plan has shown: the first wave is released at once.
    #[command(
        after_help = "Example:\n  portcullis incident readmit apply 2fTzGkcV0JPYqkHfYgkWcz --digest 9f86d081… \\\n    \
                      --secrets-file new.jsonl --follow"
    )]
    Apply {
        /// The plan's id.
        plan: String,
        /// The digest that the plan was shown with.
        #[arg(long, value_name = "DIGEST")]
        digest: String,
        #[command(flatten)]
        collected: collect::Into,
        /// Stay until it is over or stands still, and collect the keys of each wave.
        #[arg(long)]
        follow: bool,
        #[command(flatten)]
        dry: DryRun,
    },
    /// Collect the new keys of workers that are back, into a file of your own.
    #[command(
        after_help = "Example:\n  portcullis incident readmit collect 2fTzGkcV0JPYqkHfYgkWcz --secrets-file new.jsonl --resume --follow"
    )]
    Collect {
        /// The plan's id.
        plan: String,
        /// Where the new keys go, one JSON object a line: a new file, for its owner alone.
        #[arg(long, value_name = "FILE")]
        secrets_file: PathBuf,
        /// Go on with a file that was begun.
        #[arg(long)]
        resume: bool,
        /// Stay until it is over or stands still.
        #[arg(long)]
        follow: bool,
        #[command(flatten)]
        dry: DryRun,
    },
    /// Show the waves, how their workers use their new keys, and what comes next.
    #[command(after_help = "Example:\n  portcullis incident readmit show 2fTzGkcV0JPYqkHfYgkWcz")]
    Show {
        /// The plan's id.
        plan: String,
    },
    /// List readmissions.
    #[command(after_help = "Example:\n  portcullis incident readmit list --all")]
    List {
        #[command(flatten)]
        paging: Paging,
    },
    /// Let nobody else back in until it is resumed.
    #[command(
        after_help = "Example:\n  portcullis incident readmit pause 2fTzGkcV0JPYqkHfYgkWcz --reason 'odd traffic'"
    )]
    Pause {
        /// The plan's id.
        plan: String,
        #[command(flatten)]
        dry: DryRun,
    },
    /// Go on with one that was paused, or stopped by a bound. Counting begins anew.
    #[command(
        after_help = "Example:\n  portcullis incident readmit resume 2fTzGkcV0JPYqkHfYgkWcz --reason 'was a typo'"
    )]
    Resume {
        /// The plan's id.
        plan: String,
        #[command(flatten)]
        dry: DryRun,
    },
    /// Release the next wave without waiting any longer.
    #[command(
        after_help = "Example:\n  portcullis incident readmit next 2fTzGkcV0JPYqkHfYgkWcz --reason 'canaries are fine'"
    )]
    Next {
        /// The plan's id.
        plan: String,
        #[command(flatten)]
        dry: DryRun,
    },
    /// Isolate all again that it has let in, and revoke the keys that they were given.
    #[command(after_help = "Examples:\n  portcullis incident readmit rollback 2fTzGkcV0JPYqkHfYgkWcz --dry-run\n  \
                            portcullis incident readmit rollback 2fTzGkcV0JPYqkHfYgkWcz --wait --reason 'it leaks still'")]
    Rollback {
        /// The plan's id.
        plan: String,
        #[command(flatten)]
        dry: DryRun,
    },
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Terms {
    /// What is known of the workers, as plans have it, such as pool:ID. Default: the scope of the incident.
    #[arg(value_name = "CRITERION")]
    select: Vec<String>,
    /// The pool whose workers come first.
    #[arg(long, value_name = "POOL")]
    canary_pool: Option<String>,
    /// How many workers come back at once.
    #[arg(long, value_name = "COUNT")]
    wave_size: u32,
    /// How long a wave stands before the next one.
    #[arg(long, value_name = "DURATION", default_value = "5m")]
    wave_every: String,
    /// Stop once workers that are back were refused more often with their keys; with `--keys file`, with the new ones.
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    stop_after_refusals: u64,
    /// Stop once more tripwires were touched with such keys, or with honey keys.
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    stop_after_trips: u64,
    /// `file`: you collect the new keys. `fetch`: each worker rotates its own key, with that key.
    #[arg(long, value_name = "file|fetch", default_value = "file")]
    keys: String,
    /// How long old keys stay good, with `--keys fetch`.
    #[arg(long, value_name = "DURATION")]
    overlap: Option<String>,
    #[command(flatten)]
    dry: DryRun,
}

const PLAN_COLUMNS: &[Column] = &[
    ("id", "id"),
    ("selects", "select"),
    ("workers", "counts.workers"),
    ("canary pool", "waves.canary_pool"),
    ("workers a wave", "waves.size"),
    ("a wave every", "waves.every"),
    ("waves", "waves.planned"),
    ("stop after refusals", "waves.stop_after_refusals"),
    ("stop after tripwires", "waves.stop_after_trips"),
    ("new keys", "delivery"),
    ("overlap", "overlap"),
    ("needs approval", "approval_required"),
    ("state", "state"),
    ("digest", "digest"),
    ("expires", "expires_at"),
];

const COLUMNS: &[Column] = &[
    ("id", "id"),
    ("incident", "incident"),
    ("state", "state"),
    ("workers", "workers"),
    ("released", "released"),
    ("keys handed out", "keyed"),
    ("new keys used", "adoption.new_key_used"),
    ("old keys used", "adoption.old_key_used"),
    ("silent", "adoption.silent"),
    ("refusals", "refusals"),
    ("stop after", "stop_after_refusals"),
    ("tripwires", "trips"),
    ("stop after", "stop_after_trips"),
    ("waves in all", "waves_planned"),
    ("next wave", "next.wave"),
    ("waits for", "next.waits_for"),
    ("not before", "next.at"),
];

const LIST_COLUMNS: &[Column] = &[
    ("id", "id"),
    ("incident", "incident"),
    ("state", "state"),
    ("workers", "workers"),
    ("released", "released"),
    ("refusals", "refusals"),
    ("tripwires", "trips"),
    ("next", "next.at"),
];

const WAVE_COLUMNS: &[Column] = &[
    ("wave", "wave"),
    ("canary", "canary"),
    ("workers", "workers"),
    ("released", "released_at"),
    ("new key used", "adoption.new_key_used"),
    ("old key used", "adoption.old_key_used"),
    ("silent", "adoption.silent"),
    ("refusals", "refusals"),
    ("tripwires", "trips"),
];

pub(super) async fn run(verb: Verb, session: &Session) -> Result<(), Failure> {
    match verb {
        Verb::Plan(terms) => plan(terms, session).await,
        Verb::Apply { plan, digest, collected, dry, .. } if dry.is_asked() => {
            collected.check()?;
            foresee(session, &plan, &digest).await
        }
        Verb::Apply { plan, digest, collected, follow, .. } => apply(&plan, &digest, &collected, follow, session).await,
        Verb::Collect { plan, secrets_file, resume, dry, .. } if dry.is_asked() => {
            let done = read(session, &plan, 0).await?["keyed"].as_u64().unwrap_or_default();
            collect::foresee(session, &plan, &secrets_file, resume, done).await
        }
        Verb::Collect { plan, secrets_file, resume, follow, .. } => {
            let place = if resume { Place::reopen(secrets_file, &plan)? } else { Place::create(secrets_file)? };
            go_along(session, &plan, Some(place), follow, 0).await
        }
        Verb::Show { plan } => show(session, &read(session, &plan, 0).await?),
        Verb::List { paging } => session.list(Call::get(&["v1", "readmissions"]), &paging, LIST_COLUMNS).await,
        Verb::Pause { plan, dry } => steer(session, &plan, "pause", json!({}), "Paused", dry).await,
        Verb::Resume { plan, dry } => steer(session, &plan, "resume", json!({}), "Resumed", dry).await,
        Verb::Next { plan, dry } => next(session, &plan, dry).await,
        Verb::Rollback { plan, dry } => rollback(session, &plan, dry).await,
    }
}

/// Shows the plan. It is made in any case but a dry run's, and applied by another command.
async fn plan(terms: Terms, session: &Session) -> Result<(), Failure> {
    let select = if terms.select.is_empty() { scope(session).await? } else { terms.select };
    let mut body = given(Selection::of(select).fields(session.screen)?);
    body["kind"] = json!("readmit");
    body["delivery"] = json!(terms.keys);
    if let Some(overlap) = terms.overlap {
        body["overlap"] = json!(overlap);
    }
    body["waves"] = json!({
        "canary_pool": terms.canary_pool,
        "size": terms.wave_size,
        "every": terms.wave_every,
        "stop_after_refusals": terms.stop_after_refusals,
        "stop_after_trips": terms.stop_after_trips,
    });
    if terms.dry.is_asked() {
        session.screen.object(PLAN_COLUMNS, &preview(session, body).await?)?;
        dry_run::nothing_was_changed(session.screen);
        return Ok(());
    }
    let made = session.carry_out(Call::post(&["v1", "plans"]).json(body)).await?.body;
    let (id, digest) = (made["id"].as_str().unwrap_or_default(), made["digest"].as_str().unwrap_or_default());
    if made["approval_required"] == json!(true) {
        session.screen.warn(format_args!(
            "another operator has to approve it first: `portcullis plan approve {id} --digest {digest}`"
        ));
    }
    let file = if made["delivery"] == json!("file") { " --secrets-file FILE" } else { "" };
    session.screen.note(format_args!(
        "Nothing was changed. Next, before it expires: `portcullis incident readmit apply {id} --digest {digest}{file} --follow`."
    ));
    session.screen.object(PLAN_COLUMNS, &made)
}

/// What the incident is about.
async fn scope(session: &Session) -> Result<Vec<String>, Failure> {
    let incident = session.read(Call::get(&["v1", "incidents", &named(session)?])).await?;
    let criteria = incident["scope"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let criteria: Vec<String> = criteria.map(str::to_owned).collect();
    if criteria.is_empty() {
        return Err(Failure::Usage("the incident has no scope: name the workers, such as `pool:ID`".to_owned()));
    }
    Ok(criteria)
}

async fn apply(
    plan: &str,
    digest: &str,
    collected: &collect::Into,
    follow: bool,
    session: &Session,
) -> Result<(), Failure> {
    if follow && !collected.is_wanted() {
        let found = session.read(Call::get(&["v1", "plans", plan])).await?;
        if found["delivery"] == json!("file") {
            let message = "each wave waits for the keys of the one before: name a place for them with `--secrets-file`";
            return Err(Failure::Usage(message.to_owned()));
        }
    }
    let place = collected.reserve()?;
    let call = Call::post(&["v1", "plans", plan, "apply"]).json(json!({ "digest": digest }));
    let answer = session.carry_out(call).await?;
    session.done(&format!("Applied plan {plan}: its workers come back from now on"), &answer);
    let position = answer.position.unwrap_or_default();
    go_along(session, plan, place, follow, position).await
}

/// Collects what there is to collect; with `follow` until it is over, or stands still.
async fn go_along(
    session: &Session,
    plan: &str,
    mut place: Option<Place>,
    follow: bool,
    position: u64,
) -> Result<(), Failure> {
    let (mut shown, mut keys) = (String::new(), 0);
    loop {
        let found = read(session, plan, position).await?;
        let (keyed, released) = (found["keyed"].as_u64(), found["released"].as_u64());
        if let Some(place) = &mut place {
            keys += place.catch_up(session, plan, keyed.unwrap_or_default(), released.unwrap_or_default()).await?;
        }
        let line = progress(&found);
        if line != shown {
            session.screen.note(&line);
            shown = line;
        }
        // With the keys there is at least one wave to wait for.
        let begins = place.is_some() && released == Some(0) && found["workers"] != json!(0);
        let moves = found["state"] == json!("releasing");
        if !moves || !(follow || begins) {
            if let Some(place) = &place {
                place.say(session, keys);
            }
            let last = if moves { found } else { read(session, plan, position).await? };
            show(session, &last)?;
            return ended(&last, plan);
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn progress(found: &Value) -> String {
    let waves = found["waves"].as_array().map_or(0, Vec::len);
    format!(
        "Wave {waves} of {}: {} of {} workers are back, {} refusals, {} tripwires: {}.",
        found["waves_planned"],
        found["released"],
        found["workers"],
        found["refusals"],
        found["trips"],
        found["state"].as_str().unwrap_or_default()
    )
}

/// A script learns that not all are back.
fn ended(found: &Value, plan: &str) -> Result<(), Failure> {
    match found["state"].as_str() {
        Some("stopped") => Err(Failure::Partly(format!(
            "readmission {plan} was stopped by a bound; look at it, then `incident readmit resume` or `rollback`"
        ))),
        Some("paused") => Err(Failure::Partly(format!(
            "readmission {plan} is paused; after `incident readmit resume`, go on with `incident readmit collect --resume --follow`"
        ))),
        Some("rolled_back") => {
            Err(Failure::Partly(format!("readmission {plan} was rolled back: whom it let back in is isolated again")))
        }
        _ => Ok(()),
    }
}

async fn read(session: &Session, plan: &str, position: u64) -> Result<Value, Failure> {
    let at_least = (position > 0).then(|| position.to_string());
    session.read(Call::get(&["v1", "readmissions", plan]).query("at_least", at_least)).await
}

async fn steer(session: &Session, plan: &str, verb: &str, body: Value, done: &str, dry: DryRun) -> Result<(), Failure> {
    let Some(answer) = session.change(Call::post(&["v1", "readmissions", plan, verb]).json(body), dry).await? else {
        return Ok(());
    };
    session.done(&format!("{done} readmission {plan}"), &answer);
    show(session, &answer.body)
}

/// The wave that is shown as the next one, and not whichever is the next by then.
async fn next(session: &Session, plan: &str, dry: DryRun) -> Result<(), Failure> {
    let found = read(session, plan, 0).await?;
    let Some(wave) = found["next"]["wave"].as_u64() else {
        show(session, &found)?;
        session.screen.note("There is no next wave to release.");
        return Ok(());
    };
    steer(session, plan, "next", json!({ "wave": wave }), &format!("Released wave {wave} of"), dry).await
}

async fn rollback(session: &Session, plan: &str, dry: DryRun) -> Result<(), Failure> {
    // It is not asked about: in an incident, it is what undoes.
    let caution = Caution { dry, yes: true };
    let look = caution.look(async {
        let found = read(session, plan, 0).await?;
        let deed =
            format!("isolate {} workers again, and revoke the keys that they were given since", found["released"]);
        Ok(Touched { deed, parts: vec![Part { what: "readmissions", columns: LIST_COLUMNS, items: vec![found] }] })
    });
    let call = Call::post(&["v1", "readmissions", plan, "rollback"]).json(json!({}));
    let Some(answer) = session.change_shown(call, caution, look.await?).await? else { return Ok(()) };
    session.done(&format!("Rolled back readmission {plan}"), &answer);
    show(session, &answer.body)
}

/// The readmission, and below it its waves.
fn show(session: &Session, found: &Value) -> Result<(), Failure> {
    session.screen.object(COLUMNS, found)?;
    match found["waves"].as_array() {
        Some(waves) if session.screen.format == Format::Table && !waves.is_empty() => {
            session.screen.rows(WAVE_COLUMNS, waves)
        }
        Some(_) | None => Ok(()),
    }
}
