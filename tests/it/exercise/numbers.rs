//! The numbers of a report and of a replay, each against what SQL finds in the entries of the log.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

use crate::support::cluster::Scratch;

/// What an incident's plans did, as the log has it: the position of the event that applied the one of this kind.
const APPLIED: &str = "select min(applied.position) from log.entries applied join log.entries made
    on made.entry -> 'data' ->> 'plan' = applied.entry -> 'data' ->> 'plan' and made.kind = 'plan.made'
    where applied.kind = 'plan.applied' and made.entry -> 'data' ->> 'kind' = $1";

/// Whom the secret of the scope has let in, with what they got by it; and who used what.
const LET_IN: &str = "
    create temp table secrets as
        select entry -> 'data' ->> 'secret' as id from log.entries where kind = 'enrollment_secret.disabled';
    create temp table workers as
        select entry -> 'data' ->> 'worker' as id from log.entries
         where kind = 'worker.created' and entry -> 'data' ->> 'enrolled_by' in (select id from secrets);
    create temp table keys as
        select entry -> 'data' ->> 'key' as id from log.entries
         where kind = 'key.created' and incident is null and entry -> 'data' -> 'holder' ->> 'id' in (select id from workers);
    create temp table used as
        select position, entry ->> 'command_id' as command,
               coalesce(entry -> 'credential' ->> 'key', entry -> 'credential' ->> 'id') as id
          from log.entries where entry ? 'credential'";

/// The changes that are of the configuration.
const CONFIGURATION: &str = "(kind ~ '^(pool|enrollment_secret|operator|signing_keys|plan_policy|tls_certificate)[.]')";

struct Log {
    client: Client,
    /// The last position of the report.
    through: i64,
}

impl Log {
    async fn number(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> i64 {
        let row = self.client.query_one(sql, parameters).await.unwrap_or_else(|error| panic!("{error:?}\n{sql}"));
        row.get::<_, Option<i64>>(0).unwrap_or_default()
    }

    /// Of the incident's own events.
    async fn count(&self, which: &str) -> i64 {
        let sql = format!("select count(*) from log.entries where incident = 'LEAK-1' and position <= $1 and {which}");
        self.number(&sql, &[&self.through]).await
    }

    async fn first(&self, kinds: &[&str]) -> i64 {
        let sql = "select min(position) from log.entries where incident = 'LEAK-1' and kind = any($1)";
        self.number(sql, &[&kinds]).await
    }

    async fn applied(&self, kind: &str) -> i64 {
        self.number(APPLIED, &[&kind]).await
    }

    /// The first record after which this was in force everywhere.
    async fn everywhere(&self, position: i64) -> i64 {
        let sql = "select min(position) from log.entries
                   where kind = 'barrier.passed' and (entry -> 'data' ->> 'through')::bigint >= $1";
        self.number(sql, &[&position]).await
    }

    /// When it was recorded, in microseconds.
    async fn at(&self, position: i64) -> i64 {
        let sql = "select (extract(epoch from recorded_at) * 1000000)::bigint from log.entries where position = $1";
        self.number(sql, &[&position]).await
    }
}

/// Every number that the report has, and the replay's.
pub(super) async fn check(scratch: &Scratch, report: &str, replay: &Value) {
    let report = Report(report);
    let through = report.fact("Report up to").split(' ').nth(1).unwrap().trim_end_matches(',').parse().unwrap();
    let log = Log { client: scratch.superuser().await, through };
    log.client.batch_execute(LET_IN).await.unwrap();
    assert_eq!(through, log.first(&["incident.closed"]).await, "a closed incident's report ends with its closing");
    counts(&log, &report).await;
    milestones(&log, &report).await;
    checklist(&log, &report).await;
    credentials(&log, &report).await;
    attempts(&log, &report).await;
    timeline(&log, &report).await;
    changes(&log, &report).await;
    risks(&report);
    replayed(&log, replay, report.time("First sign")).await;
}

async fn counts(log: &Log, report: &Report<'_>) {
    let sql = "select kind, count(*) from log.entries where incident = 'LEAK-1' and position <= $1 group by kind order by kind";
    let rows = log.client.query(sql, &[&log.through]).await.unwrap();
    let expected: Vec<Vec<String>> =
        rows.iter().map(|row| vec![row.get::<_, String>(0), row.get::<_, i64>(1).to_string()]).collect();
    assert_eq!(report.table("Counts", 0), expected);
    let notes = log.count("kind in ('incident.noted', 'incident.reviewed')").await;
    let line = format!("{} events carry the incident, {notes} notes and reviews among them.", log.count("true").await);
    assert!(report.0.contains(&line), "{line}\n{}", report.0);
    let opened = log.first(&["incident.opened"]).await;
    assert!(report.fact("Opened").ends_with(&format!("position {opened}")));
    for (name, position) in [("Opened", opened), ("Closed", log.through), ("Report up to", log.through)] {
        let text = report.fact(name);
        let time = text.split(", ").find(|part| part.ends_with('Z')).unwrap();
        assert_eq!(micros(time) / 1_000, log.at(position).await / 1_000, "{name}");
    }
}

async fn milestones(log: &Log, report: &Report<'_>) {
    let isolated = log.applied("isolate").await.min(log.first(&["worker.isolated"]).await);
    let revoked = log.applied("revoke_all").await.min(log.first(&["key.revoked", "fence.raised"]).await);
    let reducing =
        "kind in ('worker.isolated', 'key.revoked', 'fence.raised', 'plan.applied', 'enrollment_secret.rotated',
                             'enrollment_secret.disabled', 'signing_keys.rotated')";
    let last =
        format!("select max(position) from log.entries where incident = 'LEAK-1' and position <= $1 and {reducing}");
    let last = log.number(&last, &[&log.through]).await;
    let all = log.everywhere(last).await;
    let (opened, sign) = (log.at(log.first(&["incident.opened"]).await).await, report.time("First sign"));
    for (what, position) in [
        ("First isolation", isolated),
        ("First isolation in force everywhere", log.everywhere(isolated).await),
        ("First revocation", revoked),
        ("First revocation in force everywhere", log.everywhere(revoked).await),
        ("All that was taken away in force everywhere", all),
    ] {
        let row = report.row("How fast", what);
        let at = log.at(position).await;
        assert_eq!(row[4], position.to_string(), "{what}");
        assert_eq!(micros(&row[1]) / 1_000, at / 1_000, "{what}");
        assert_eq!(humantime::parse_duration(&row[2]).unwrap(), millis(at - opened), "{what}");
        assert_eq!(humantime::parse_duration(&row[3]).unwrap().as_secs(), millis(at - sign).as_secs(), "{what}");
    }
}

async fn checklist(log: &Log, report: &Report<'_>) {
    let rotated = [
        log.first(&["key.rotated", "key.revoked", "fence.raised"]).await,
        log.first(&["enrollment_secret.rotated", "enrollment_secret.disabled"]).await,
        log.first(&["tls_certificate.served"]).await,
    ];
    let (isolated, reviewed) = (log.first(&["worker.isolated"]).await, log.first(&["incident.reviewed"]).await);
    let rows = report.table("Checklist", 0);
    let opened = log.at(log.first(&["incident.opened"]).await).await;
    let last_of_rotated = *rotated.iter().max().unwrap();
    let rotated = rotated.map(|position| position.to_string()).join(", ");
    let waived = log.first(&["incident.step_waived"]).await;
    for (row, position) in rows.iter().zip([isolated, last_of_rotated, waived, reviewed]) {
        let at = log.at(position).await;
        assert_eq!(micros(&row[2]) / 1_000, at / 1_000, "{row:?}");
        assert_eq!(humantime::parse_duration(&row[3]).unwrap(), millis(at - opened), "{row:?}");
    }
    let found: Vec<(String, String)> = rows.into_iter().map(|row| (row[1].clone(), row[4].clone())).collect();
    let expected = [
        ("filled", format!("by the events at {isolated}")),
        ("filled", format!("by the events at {rotated}")),
        ("waived", "no data was touched".to_owned()),
        ("filled", format!("by the events at {reviewed}")),
    ];
    assert_eq!(found, expected.map(|(state, how)| (state.to_owned(), how)));
}

/// What was good and is not, and how often it was used successfully before and after.
async fn credentials(log: &Log, report: &Report<'_>) {
    let counted = async |of: &str| log.number(&format!("select count(*) from {of}"), &[]).await;
    let (keys, workers, secrets) = (counted("keys").await, counted("workers").await, counted("secrets").await);
    let line = format!("{keys} keys of {workers} workers and {secrets} enrollment secrets were good before an event");
    assert!(report.0.contains(&line), "{line}\n{}", report.0);

    let isolated = log.applied("isolate").await;
    let disabled = log.first(&["fence.raised", "enrollment_secret.disabled"]).await;
    let used = "select count(distinct command) from used where position <= $1 and
                (id in (select id from keys) and (position > $2) = $4 or id in (select id from secrets) and (position > $3) = $4)";
    let tokens = "select sum((entry -> 'data' ->> 'count')::bigint)::bigint from log.entries
                  where kind = 'tokens.issued' and entry -> 'data' ->> 'worker' in (select id from workers)
                    and position <= $1 and (position > $2) = $3";
    let mut counted = 0;
    for (column, after) in [(1, false), (3, true)] {
        let commands = log.number(used, &[&log.through, &isolated, &disabled, &after]).await;
        let row = report.row("Credentials that were ended", "Successful: commands in the log");
        assert_eq!(row[column], commands.to_string(), "after: {after}");
        assert_eq!(commands == 0, after, "there were some before, and none after");
        let tokens = log.number(tokens, &[&log.through, &isolated, &after]).await;
        counted += tokens;
        let row = report.row("Credentials that were ended", "Successful: tokens, where a pool counts them by worker");
        assert_eq!(row[column], tokens.to_string(), "after: {after}");
    }
    assert!(counted > 0, "they had tokens");
}

/// Failed attempts with those keys and that secret, by the windows in which they were counted.
async fn attempts(log: &Log, report: &Report<'_>) {
    let sql = "with ended as (
             select 'key:' || id as id, recorded_at as at from keys, log.entries where position = $2
             union all select 'key:' || id, recorded_at from secrets, log.entries where position = $3
         ),
         failures as (
             select (entry -> 'data' ->> 'from')::timestamptz as since, (entry -> 'data' ->> 'to')::timestamptz as until,
                    failure ->> 'reason' as reason, (failure ->> 'count')::bigint as count, failure ->> 'credential' as id
               from log.entries, jsonb_array_elements(entry -> 'data' -> 'failures') failure
              where kind = 'auth.failures_observed' and position <= $1
         )
         select case when until <= at then 'before' when since < at then 'around' else 'after' end, reason, sum(count)::bigint
           from failures join ended using (id) group by 1, 2 order by 2";
    let disabled = log.first(&["fence.raised", "enrollment_secret.disabled"]).await;
    let rows = log.client.query(sql, &[&log.through, &log.applied("isolate").await, &disabled]).await.unwrap();
    let mut sums: BTreeMap<String, i64> = BTreeMap::new();
    let mut reasons = Vec::new();
    for row in &rows {
        let (when, reason, count): (String, String, i64) = (row.get(0), row.get(1), row.get(2));
        if when == "after" {
            reasons.push(vec![reason, count.to_string()]);
        }
        *sums.entry(when).or_default() += count;
    }
    let row = report.row("Credentials that were ended", "Failed attempts with the key itself");
    for (column, when) in [(1, "before"), (2, "around"), (3, "after")] {
        assert_eq!(row[column], sums.get(when).copied().unwrap_or_default().to_string(), "{when}");
    }
    assert!(!sums.is_empty(), "somebody has come with a revoked key");
    if !reasons.is_empty() {
        assert_eq!(report.table("Credentials that were ended", 1), reasons);
    }
}

/// Each line is there, of many it says how many, and there is none that is not in it.
async fn timeline(log: &Log, report: &Report<'_>) {
    // A plan's list of revoked keys is a fact for each of them.
    let facts =
        "case when kind = 'key.revoked' then coalesce(jsonb_array_length(entry -> 'data' -> 'keys'), 1) else 1 end";
    let sql = &format!(
        "select sum({facts}), min(position), max(position), count(*) from log.entries
               where incident = 'LEAK-1' and kind = $1 and position between $2 and $3"
    );
    let (mut all, sign) = (0, report.time("First sign"));
    for row in report.table("Timeline", 0) {
        let (from, to) = row[2].split_once(" to ").unwrap_or((&row[2], &row[2]));
        let (from, to): (i64, i64) = (from.parse().unwrap(), to.parse().unwrap());
        let found = log.client.query_one(sql, &[&row[3], &from, &to]).await.unwrap();
        let count: i64 = found.get(0);
        let said = row[4].strip_suffix(" of them").map_or(1, |count| count.parse().unwrap());
        assert_eq!((count, found.get(1), found.get(2)), (said, Some(from), Some(to)), "{row:?}");
        let at = log.at(from).await;
        assert_eq!(micros(&row[0]) / 1_000, at / 1_000, "{row:?}");
        assert_eq!(humantime::parse_duration(&row[1]).unwrap().as_secs(), millis(at - sign).as_secs(), "{row:?}");
        all += found.get::<_, i64>(3);
    }
    assert_eq!(all, log.count("true").await, "and none is left out");
    assert!(!report.0.contains("further events are left out"), "{}", report.0);

    let isolated = log.applied("isolate").await.to_string();
    let row = report.table("Timeline", 0).into_iter().find(|row| row[2] == isolated).unwrap();
    let before = "select count(*) from log.entries where kind = 'worker.created' and position <= $1";
    let before = log.number(before, &[&log.through]).await;
    let after = before - log.number("select count(*) from workers", &[]).await;
    assert_eq!(row[6], format!("{before} → {after} of a fleet of {before}"));
}

async fn changes(log: &Log, report: &Report<'_>) {
    let sql = format!(
        "select position, kind, incident is not null from log.entries where position <= $1 and {CONFIGURATION} order by position"
    );
    let rows = log.client.query(&sql, &[&log.through]).await.unwrap();
    let line = |position: i64, kind: String, own: bool| {
        vec![position.to_string(), kind, if own { "yes" } else { "no" }.to_owned()]
    };
    let expected: Vec<Vec<String>> = rows.iter().map(|row| line(row.get(0), row.get(1), row.get(2))).collect();
    let listed = report.table("Changes of configuration since the first sign", 0);
    for row in &listed {
        assert_eq!(micros(&row[0]) / 1_000, log.at(row[1].parse().unwrap()).await / 1_000, "{row:?}");
    }
    let listed = listed.into_iter();
    let listed: Vec<Vec<String>> = listed.map(|row| vec![row[1].clone(), row[2].clone(), row[5].clone()]).collect();
    assert_eq!(listed, expected);
}

fn risks(report: &Report<'_>) {
    let lines: Vec<&str> = report.section("Open risks").lines().filter(|line| line.starts_with("- ")).collect();
    assert_eq!(lines, ["- a step was waived: restore"]);
}

/// To the millisecond, which is what the report writes of the first sign.
fn is_near(seconds: &Value, micros: i64) -> bool {
    let found = Duration::try_from_secs_f64(seconds.as_f64().unwrap()).unwrap();
    found.abs_diff(Duration::from_micros(micros.unsigned_abs())) <= Duration::from_millis(1)
}

async fn replayed(log: &Log, replay: &Value, sign: i64) {
    let moments = replay["items"].as_array().unwrap();
    let positions: Vec<i64> = moments.iter().map(|moment| moment["position"].as_i64().unwrap()).collect();
    let rows =
        log.client.query("select position from log.entries where incident = 'LEAK-1' order by position", &[]).await;
    assert_eq!(positions, rows.unwrap().iter().map(|row| row.get(0)).collect::<Vec<i64>>());
    let at = |position: i64| moments.iter().find(|moment| moment["position"] == position).unwrap();
    for kind in ["isolate", "revoke_all"] {
        let position = log.applied(kind).await;
        let moment = at(position);
        let everywhere = log.everywhere(position).await;
        assert_eq!(moment["in_force"]["position"], json!(everywhere), "{moment}");
        let took = log.at(everywhere).await - log.at(position).await;
        assert!(is_near(&moment["in_force"]["after_seconds"], took), "{took} µs: {moment}");
        assert!(is_near(&moment["after_seconds"], log.at(position).await - sign), "{moment}");
    }
    let moment = at(log.applied("isolate").await);
    let back = log.count("kind = 'worker.released'").await;
    let (before, after) = (moment["workers"]["before"].as_i64().unwrap(), moment["workers"]["after"].as_i64().unwrap());
    assert_eq!(before - after, back, "all of them are back at the end: {moment}");
    let keys =
        moments.iter().filter(|moment| moment["kind"] == "key.created" && moment["workers"]["after"] == 1).count();
    assert_eq!(i64::try_from(keys).unwrap(), back, "each by a key of its own");
}

/// A report in Markdown.
struct Report<'r>(&'r str);

impl Report<'_> {
    fn section(&self, heading: &str) -> &str {
        let (_, rest) =
            self.0.split_once(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("no {heading}:\n{}", self.0));
        rest.split("\n## ").next().unwrap()
    }

    /// The rows of the section's table of this number, without its head, as texts.
    fn table(&self, heading: &str, number: usize) -> Vec<Vec<String>> {
        let lines: Vec<&str> = self.section(heading).lines().collect();
        let mut tables = lines.split(|line| !line.starts_with('|')).filter(|table| !table.is_empty());
        let rows =
            tables.nth(number).unwrap_or_else(|| panic!("no table {number} in {heading}:\n{}", self.0)).iter().skip(2);
        rows.map(|row| cells(row)).collect()
    }

    fn row(&self, heading: &str, first: &str) -> Vec<String> {
        let found = self.table(heading, 0).into_iter().find(|row| row[0] == first);
        found.unwrap_or_else(|| panic!("no row {first} in {heading}:\n{}", self.0))
    }

    /// Of the table at the top.
    fn fact(&self, name: &str) -> String {
        let line = self.0.lines().find(|line| line.starts_with(&format!("| {name} |")));
        cells(line.unwrap_or_else(|| panic!("no {name}:\n{}", self.0)))[1].clone()
    }

    fn time(&self, name: &str) -> i64 {
        micros(&self.fact(name))
    }
}

fn cells(row: &str) -> Vec<String> {
    let row = row.trim().trim_start_matches('|').trim_end_matches('|');
    row.split(" |").map(|cell| cell.replace('\\', "").trim().trim_start_matches("| ").to_owned()).collect()
}

fn micros(time: &str) -> i64 {
    chrono::DateTime::parse_from_rfc3339(time).unwrap_or_else(|error| panic!("{error}: {time}")).timestamp_micros()
}

fn millis(micros: i64) -> Duration {
    Duration::from_millis((micros / 1_000).unsigned_abs())
}
