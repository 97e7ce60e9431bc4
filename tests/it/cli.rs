//! The command line against a running service: what a person or a script would type, and what they get for it.

mod administration;
mod events;
mod every_verb;
mod incidents;
mod plans;
mod projections;
mod readmit;
mod terminal;
mod tokens;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::cluster::Scratch;
use crate::support::service::{Launch, Service};

const ENROLLMENT_SECRET: &str = "let-me-in-7Qx2vB9nK4mZ1cW8sD5fG3hJ6";

/// A folder to type in, and the service that is meant.
struct Shell {
    folder: TempDir,
    url: String,
    data_dir: PathBuf,
}

/// What one command line did.
struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Shell {
    fn beside(service: &Service) -> Self {
        Self { folder: TempDir::new().unwrap(), url: service.url.clone(), data_dir: service.data_dir().to_owned() }
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        command.args(line.split_whitespace()).current_dir(self.folder.path());
        // Nothing of what surrounds the tests: only what says where the service of this machine has its files.
        command.env_clear().env("PORTCULLIS_URL", &self.url).env("PORTCULLIS_DATA_DIR", &self.data_dir);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Off the runtime: waiting for a program would hold up what it talks to.
    async fn finish(&self, mut command: Command) -> Ran {
        tokio::task::spawn_blocking(move || command.output().unwrap().into()).await.unwrap()
    }

    async fn run(&self, line: &str) -> Ran {
        self.finish(self.command(line)).await
    }

    async fn run_with(&self, line: &str, variables: &[(&str, &str)]) -> Ran {
        let mut command = self.command(line);
        command.envs(variables.iter().copied());
        self.finish(command).await
    }

    /// The data of a command that does what it should.
    async fn json(&self, line: &str) -> Value {
        let ran = self.run(&format!("{line} --output json")).await;
        serde_json::from_str(&ran.ok().stdout).unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Ran {
    #[track_caller]
    fn ok(self) -> Self {
        self.failed(0)
    }

    #[track_caller]
    fn failed(self, code: i32) -> Self {
        assert_eq!(self.code, code, "--- stdout ---\n{}\n--- stderr ---\n{}", self.stdout, self.stderr);
        self
    }
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test(flavor = "multi_thread")]
async fn pools_are_made_shown_and_taken_away() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    let shell = Shell::beside(&service);
    let made = shell.run("pool create builders --token-ttl 30m --scope build:run --reason trying").await.ok();
    assert!(made.stdout.contains("30m") && made.stderr.contains("Next: "), "{}{}", made.stdout, made.stderr);

    assert_eq!(shell.json("pool list").await["items"].as_array().unwrap().len(), 2);
    let first = shell.run("pool list --limit 1").await.ok();
    assert!(first.stderr.contains("there are more"), "{}", first.stderr);
    shell.run("pool update builders --sharing true --no-scopes").await.ok();
    let shown = shell.json("pool show builders").await;
    assert_eq!((shown["sharing"].clone(), shown["scopes"].clone()), (true.into(), serde_json::json!([])));

    let plan = shell.json("pool remove builders --dry-run").await;
    assert_eq!(plan["pools"][0]["id"], "builders");
    assert_eq!(shell.json("pool show builders").await["removed"], false);
    shell.run("pool remove builders --yes").await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_have_their_exit_codes_and_their_remedies() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    let shell = Shell::beside(&service);
    let absent = shell.run("pool show nowhere").await.failed(3).stderr;
    for part in ["code: ", "what to do: ", "request id: "] {
        assert!(absent.contains(part), "{part} in {absent}");
    }
    let problem = shell.run("pool show nowhere --output json").await.failed(3);
    assert_eq!(problem.stdout, "");
    assert_eq!(serde_json::from_str::<Value>(&problem.stderr).unwrap()["status"], 404);

    shell.run("pool create").await.failed(2);
    shell
        .run_with("pool list", &[("PORTCULLIS_DATA_DIR", "/nowhere"), ("PORTCULLIS_URL", "http://[::1]:1")])
        .await
        .failed(2);
    let nobody = format!("ptc_op_{}_{}_AAAAAA", "0".repeat(22), "0".repeat(43));
    shell.run_with("pool list", &[("PORTCULLIS_TOKEN", &nobody), ("PORTCULLIS_TOKEN_FILE", "")]).await;
    shell.write("wrong.token", &nobody);
    restrict(&shell.path("wrong.token"));
    shell.run("pool list --token-file wrong.token").await.failed(4);
    shell.run_with("pool list --retries 0", &[("PORTCULLIS_URL", "https://127.0.0.1:1")]).await.failed(5);
    // Without the service's own authority there is no saying who answers.
    let token = service.file("admin.token");
    let line = format!("pool list --token-file {} --ca-file {}", token.display(), shell.path("ca.pem").display());
    shell.write("ca.pem", &rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap().cert.pem());
    assert!(shell.run(&line).await.failed(5).stderr.contains("--ca-file"));
}

fn restrict(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_gets_in_by_itself_and_kills_its_own_key() {
    let scratch = Scratch::new().await;
    let service = Launch::on(&scratch).variable("PORTCULLIS_AUTO_ENROLLMENT_KEY", ENROLLMENT_SECRET).start().await;
    let shell = Shell::beside(&service);
    let secret = [("PORTCULLIS_AUTO_ENROLLMENT_KEY", ENROLLMENT_SECRET), ("PORTCULLIS_WORKER_NAME", "probe")];
    shell.run_with("worker enroll --label zone=a --key-file worker.key", &secret).await.ok();
    assert_eq!(mode(&shell.path("worker.key")), 0o600);
    // The file holds the only copy of a key, and is not overwritten.
    shell.run_with("worker enroll --key-file worker.key", &secret).await.failed(2);

    let me = shell.json("worker whoami --api-key-file worker.key").await;
    assert_eq!((me["name"].as_str(), me["labels"]["zone"].as_str()), (Some("probe"), Some("a")));
    shell.run("token register --api-key-file worker.key --out token").await.ok();
    assert_eq!(mode(&shell.path("token")), 0o600);
    shell.run("token renew --access-token-file token --out token").await.ok();
    assert_eq!(shell.json("token introspect --access-token-file token").await["active"], true);
    let verdict = shell.json("validate --credential-file token --pool default").await;
    assert_eq!((verdict["active"].clone(), verdict["worker"].clone()), (true.into(), me["id"].clone()));

    let old = shell.read("worker.key");
    shell.run("worker rotate-key --api-key-file worker.key --in-place --overlap 0s").await.ok();
    assert_ne!(shell.read("worker.key"), old);
    shell.write("old.key", &old);
    restrict(&shell.path("old.key"));
    shell.run("validate --credential-file old.key").await.failed(6);
    shell.run("validate --credential-file worker.key").await.ok();
    shell.run("compromised --credential-file worker.key --yes").await.ok();
    let refused = shell.run("validate --credential-file worker.key --output json").await.failed(6);
    assert_eq!(serde_json::from_str::<Value>(&refused.stdout).unwrap()["active"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_is_made_watched_and_removed() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    let shell = Shell::beside(&service);
    shell.run("worker create --id w1 --name one --label zone=a").await.ok();
    // The secret alone is data; what else there is to say is said beside it.
    let key = shell.run("key create w1").await.ok().stdout;
    assert!(key.starts_with("ptc_wk_") && key.lines().count() == 1, "{key}");
    shell.write("w1.key", &key);
    restrict(&shell.path("w1.key"));
    shell.run("validate -f w1.key").await.ok();

    assert_eq!(shell.json("worker list --label zone=a").await["items"][0]["id"], "w1");
    shell.run("worker isolate w1 --for 2h --reason odd").await.ok();
    shell.run("validate -f w1.key").await.failed(6);
    shell.run("worker release w1").await.ok();
    shell.run("validate -f w1.key").await.ok();
    let id = shell.json("key list --worker w1").await["items"][0]["id"].as_str().unwrap().to_owned();
    shell.run(&format!("key rotate {id} --key-file new.key")).await.ok();
    // What an operator made of a key stays, and what its holder made of it goes with it.
    let revoked = shell.json(&format!("key revoke {id} --yes")).await;
    assert_eq!(revoked["revoked"], serde_json::json!([id]));
    let id = shell.json("validate -f new.key").await["key"].as_str().unwrap().to_owned();
    shell.run("worker rotate-key --api-key-file new.key --key-file derived.key").await.ok();
    let plan = shell.json(&format!("key revoke {id} --dry-run")).await;
    assert_eq!(plan["keys"].as_array().unwrap().len(), 2, "{plan}");
    shell.run("validate -f derived.key").await.ok();
    let revoked = shell.json(&format!("key revoke {id} --yes")).await;
    assert_eq!(revoked["revoked"].as_array().unwrap().len(), 2, "{revoked}");
    shell.run("validate -f derived.key").await.failed(6);
    shell.run("worker remove w1 --yes").await.ok();

    let events = shell.run("events list --subject worker:w1 --output json").await.ok().stdout;
    let kinds: Vec<_> =
        events.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["kind"].clone()).collect();
    assert_eq!(kinds, ["worker.created", "worker.isolated", "worker.released", "worker.removed"]);
}

/// A fleet of `count`, some with ids, some with static secrets, in both forms of labels.
fn fleet(count: usize) -> String {
    let mut text = "pool,id,name,labels,label.rack,static_secret\n".to_owned();
    for index in 0..count {
        let id = if index % 2 == 0 { format!("w{index}") } else { String::new() };
        let secret =
            if index % 10 == 0 { format!("Zk{index:04}qW7vXp3LmR9tYb5NcD1fGh8JsKe2Ua6QzVx4Ty") } else { String::new() };
        text.push_str(&format!("default,{id},n{index},zone=a;n={index},7,{secret}\n"));
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_was_killed_goes_on_and_makes_nothing_twice() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    let shell = Shell::beside(&service);
    shell.write("fleet.csv", &fleet(200));
    let plan = shell.json("worker import fleet.csv --dry-run").await;
    assert_eq!(
        (plan["total"][0]["to_apply"].clone(), plan["pools"][0]["static_secrets"].clone()),
        (200.into(), 20.into())
    );
    assert!(!shell.path("fleet.csv.keys.jsonl").exists(), "a dry run leaves nothing behind");

    // Killed again and again, a little later each time, until it gets to its end.
    let mut lines_before = 0;
    for attempt in 1_u64.. {
        let mut child = shell.command("worker import fleet.csv --yes --output json").spawn().unwrap();
        tokio::time::sleep(std::time::Duration::from_millis((150 * attempt).min(1000))).await;
        child.kill().unwrap();
        let ran = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
        let keys = std::fs::read_to_string(shell.path("fleet.csv.keys.jsonl")).unwrap_or_default();
        assert!(keys.lines().count() >= lines_before, "a key that was written is never lost");
        lines_before = keys.lines().count();
        if ran.status.success() {
            break;
        }
    }
    let again = shell.json("worker import fleet.csv --yes").await;
    assert_eq!((again["applied"].clone(), again["applied_before"].clone()), (0.into(), 200.into()));

    assert_eq!(mode(&shell.path("fleet.csv.keys.jsonl")), 0o600);
    let records: Vec<Value> =
        shell.read("fleet.csv.keys.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(records.len(), 200);
    assert_eq!(records.iter().filter(|record| record["key"].is_string()).count(), 180);
    let workers = shell.json("worker list --all").await;
    assert_eq!(workers["items"].as_array().unwrap().len(), 200);
    assert!(workers["items"].as_array().unwrap().iter().all(|worker| worker["keys"] == 1), "one key each");

    let record = records.iter().find(|record| record["key"].is_string()).unwrap();
    shell.write("one.key", record["key"].as_str().unwrap());
    restrict(&shell.path("one.key"));
    assert_eq!(shell.json("validate -f one.key").await["worker"], record["worker"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_leaves_alone_what_exists_and_puts_aside_what_is_refused() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    let shell = Shell::beside(&service);
    shell.run("worker create --id known").await.ok();
    shell.run("pool create other").await.ok();
    shell.run("worker create --id elsewhere --pool other").await.ok();
    shell.write(
        "fleet.jsonl",
        "{\"pool\":\"default\",\"id\":\"known\"}\n{\"pool\":\"default\",\"id\":\"elsewhere\"}\n{\"pool\":\"default\",\"name\":\"new\"}\n",
    );
    let ran = shell.run("worker import fleet.jsonl --yes --output json").await.failed(3);
    let result: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&result["applied"], &result["known"], &result["refused"]), (&1.into(), &1.into(), &1.into()));
    let refused: Value = serde_json::from_str(&shell.read("fleet.jsonl.failed.jsonl")).unwrap();
    assert_eq!((refused["line"].clone(), refused["code"].clone()), (2.into(), "worker_exists".into()));
    assert_eq!(shell.json("key list --worker known").await["items"], serde_json::json!([]));

    shell.write("wrong.csv", "pool,id\ndefault,a b\nnowhere,w\n");
    let wrong = shell.run("worker import wrong.csv").await.failed(2).stderr;
    assert!(wrong.contains("line 2: id:"), "{wrong}");
    shell.write("nowhere.csv", "pool,id\nnowhere,w\n");
    let wrong = shell.run("worker import nowhere.csv").await.failed(2).stderr;
    assert!(wrong.contains("line 2: pool: there is no pool `nowhere`"), "{wrong}");
}

/// Whoever mends a file of a million lines should not be told of the second mistake when the first is mended.
#[tokio::test(flavor = "multi_thread")]
async fn an_import_says_all_that_is_wrong_before_it_does_anything() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    let shell = Shell::beside(&service);
    let good = "Zk0001qW7vXp3LmR9tYb5NcD1fGh8JsKe2Ua6QzVx4Ty";
    let weak = "passwordpasswordpasswordpasswordpasswordpassword";
    shell.write(
        "wrong.csv",
        &format!(
            "pool,id,name,labels,static_secret\ndefault,a b,,,\nnowhere,w1,,,\ndefault,w2,,,{weak}\ndefault,w3,,,{good}\n\
             default,w4,,,{good}\nnowhere,w5,,,\ndefault,w6,,zone,\ndefault,w7,be\u{7}ll,,\nnowhere,c d,,,short\n\
             default,w8,,,\n"
        ),
    );
    let wrong = shell.run("worker import wrong.csv --yes").await.failed(2).stderr;
    for told in [
        "8 of 10 lines",
        "line 2: id: ",
        "line 3: pool: there is no pool `nowhere`",
        "line 4: static_secret: the secret is built of words",
        "line 6: static_secret: line 5 has the same",
        "line 7: pool: there is no pool `nowhere`",
        "line 8: labels: ",
        "line 9: name: ",
        "line 10: id: ",
        "line 10: pool: ",
        "line 10: static_secret: the secret has fewer",
    ] {
        assert!(wrong.contains(told), "{told}\n--- in ---\n{wrong}");
    }
    assert!(!wrong.contains("line 5:") && !wrong.contains("line 11:") && !wrong.contains(weak), "{wrong}");
    assert_eq!(shell.json("worker list").await["items"], serde_json::json!([]));
    assert!(!shell.path("wrong.csv.keys.jsonl").exists());

    let many: String = (0..50).map(|index| format!("nowhere,w{index}\n")).collect();
    shell.write("many.csv", &format!("pool,id\n{many}"));
    let wrong = shell.run("worker import many.csv --yes").await.failed(2).stderr;
    assert_eq!(wrong.matches("line ").count(), 20, "{wrong}");
    assert!(wrong.contains("50 of 50 lines") && wrong.contains("and 30 more"), "{wrong}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_operators_keys_neither_is_guessed() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    let shell = Shell::beside(&service);
    let file = service.file("admin.token");
    let both = [("PORTCULLIS_TOKEN", "other"), ("PORTCULLIS_TOKEN_FILE", file.to_str().unwrap())];
    let refused = shell.run_with("pool list", &both).await.failed(2).stderr;
    assert!(refused.contains("PORTCULLIS_TOKEN and PORTCULLIS_TOKEN_FILE are both set"), "{refused}");
    // What is typed goes before what happens to be set.
    let typed = format!("pool list --token-file {}", shell.path("typed").display());
    std::fs::copy(&file, shell.path("typed")).unwrap();
    restrict(&shell.path("typed"));
    shell.run_with(&typed, &both[..1]).await.ok();
    shell.run_with(&typed, &both).await.ok();
}

/// What stands on the screen at three in the morning: the option or field, and what to do about it.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_named_with_its_remedy() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    let shell = Shell::beside(&service);
    for (line, code, told) in [
        ("worker create --id w1 --label zone=a --label zone=b", 2, "`--label zone=…` is given twice"),
        (
            "worker create --id w1 --expires-at 2020-01-01T00:00:00Z",
            3,
            "Bad Request: `expires_at`: must be in the future",
        ),
        ("pool remove nowhere --yes", 3, "`GET /v1/pools` lists them"),
        ("--url nonsense pool list", 2, "write it whole, such as `https://"),
        ("--token-file nowhere pool list", 1, "`--token-file`"),
        ("serve --bind nonsense", 2, "write an address and a port"),
        ("operator remove admin --yes", 3, "a name is no id"),
    ] {
        let said = shell.run(line).await.failed(code).stderr;
        assert!(said.contains(told), "{line}: {said}");
    }
}
