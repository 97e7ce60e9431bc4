//! A node whose wall clock jumps. Leases go by a clock that nobody sets, so a jump makes none longer, and ends none.
//!
//! The clock of one real service is moved by libfaketime, while it runs; that of Postgres and of the other node stays.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::cluster::{Scratch, shared_socket};
use crate::support::service::{Launch, Service};
use crate::support::wire::{Mode, Wire};

const MAX_STALE: Duration = Duration::from_secs(2);
/// For which an answer may be on its way that was decided before.
const ON_ITS_WAY: Duration = Duration::from_millis(500);

/// A wall clock that is set while a service runs.
pub(crate) struct WallClock(tempfile::TempDir);

impl WallClock {
    pub(crate) fn new() -> Self {
        let clock = Self(tempfile::tempdir().unwrap());
        clock.set("+0");
        clock
    }

    /// So far from the true time. Renamed into place: whoever reads the time never finds half a file.
    pub(crate) fn set(&self, offset: &str) {
        let new = self.0.path().join("new");
        std::fs::write(&new, offset).unwrap();
        std::fs::rename(new, self.file()).unwrap();
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("offset")
    }

    /// A service that goes by it. The monotonic clock is left alone, as it is where somebody sets the time.
    pub(crate) fn of(&self, launch: Launch) -> Launch {
        launch
            .variable("LD_PRELOAD", library().to_str().unwrap())
            .variable("FAKETIME_TIMESTAMP_FILE", self.file().to_str().unwrap())
            .variable("FAKETIME_NO_CACHE", "1")
            .variable("FAKETIME_DONT_FAKE_MONOTONIC", "1")
    }
}

/// Where Debian puts it, for whichever processor.
fn library() -> PathBuf {
    let folders = std::fs::read_dir("/usr/lib").unwrap().map(|folder| folder.unwrap().path());
    let found = folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1")).find(|file| file.exists());
    found.expect("libfaketime is needed: apt-get install libfaketime")
}

struct World {
    near: Service,
    far: Service,
    wire: Wire,
    clock: WallClock,
    _scratch: Scratch,
}

impl World {
    async fn start() -> Self {
        let (scratch, clock) = (Scratch::new().await, WallClock::new());
        let wire = Wire::start(shared_socket()).await;
        let max_stale = format!("{}s", MAX_STALE.as_secs());
        let near = Launch::on(&scratch).argument("--max-stale", &max_stale).start().await;
        let far = Launch::on_urls(&scratch.url_on(wire.port), &scratch.owner_url());
        let far = far.argument("--root-key-file", near.file("root.key").to_str().unwrap());
        let mut far = clock.of(far.flag("--disable-tls").argument("--max-stale", &max_stale)).start().await;
        far.token.clone_from(&near.token);
        Self { near, far, wire, clock, _scratch: scratch }
    }

    /// A worker's key: its id, and what is presented; once the far node has it.
    async fn key(&self, body: Value) -> (String, Value) {
        let worker = self.near.post("/v1/workers", json!({})).await.expect(201);
        let made = self.near.post(&format!("/v1/workers/{}/keys", worker["id"].as_str().unwrap()), body).await;
        self.far
            .until("the far node follows", async || self.far.get(&at_least(made.position())).await.status == 200)
            .await;
        let key = made.expect(201);
        (key["id"].as_str().unwrap().to_owned(), json!({ "credential": key["key"] }))
    }

    /// What the far node says: the reason, or that it may not say.
    async fn verdict(&self, credential: &Value) -> String {
        let answer = self.far.post("/v1/validate", credential.clone()).await;
        match answer.status.as_u16() {
            200 => answer.json()["reason"].as_str().unwrap().to_owned(),
            _ => answer.problem(503),
        }
    }

    async fn never_accepts(&self, credential: &Value, refused: &str) {
        let verdict = self.verdict(credential).await;
        assert!(verdict == "stale" || verdict == refused, "{verdict}");
    }
}

fn at_least(position: u64) -> String {
    format!("/v1/pools?limit=1&at_least={position}")
}

/// Longer than a lease, again and again: none is held for less time, or more, than its own clock gives it.
#[tokio::test(flavor = "multi_thread")]
async fn a_jump_of_the_wall_clock_ends_no_lease_and_makes_none_longer() {
    let world = World::start().await;
    let (_, good) = world.key(json!({})).await;
    for jump in ["+7h", "-7h"] {
        let (doomed_id, doomed) = world.key(json!({})).await;
        world.clock.set(jump);
        // The node can be sure of its state, whatever the time of the day.
        let jumped = Instant::now();
        while jumped.elapsed() < MAX_STALE + ON_ITS_WAY {
            assert_eq!(world.verdict(&good).await, "ok", "{jump}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        world.clock.set("+0");
        assert_eq!(world.verdict(&doomed).await, "ok", "{jump}");

        world.wire.set(Mode::Frozen);
        let frozen = Instant::now();
        world.clock.set(jump);
        let path = format!("/v1/keys/{doomed_id}/revoke?wait=everywhere");
        let revoked = async {
            let answer = world.near.post(&path, json!({})).await.expect(200);
            assert_eq!(answer["in_force"]["waited_out"].as_array().unwrap().len(), 1, "{answer}");
        };
        let accepting = async {
            let mut last = Duration::ZERO;
            while frozen.elapsed() < 2 * MAX_STALE {
                let asked = frozen.elapsed();
                if world.verdict(&good).await == "ok" {
                    last = asked;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            last
        };
        let ((), last) = tokio::join!(revoked, accepting);
        assert!(last < MAX_STALE, "{jump}: it still accepted {last:?} after it was cut off");

        // Whatever its clock says from now on, nothing makes it answer but the log.
        for again in ["+0", jump, "+400d", "-400d", "+0"] {
            world.clock.set(again);
            for _ in 0..10 {
                assert_eq!(world.verdict(&doomed).await, "stale", "{jump}, {again}");
            }
        }
        world.wire.set(Mode::Open);
        world.far.until("it comes back", async || world.verdict(&good).await == "ok").await;
        world.never_accepts(&doomed, "key_revoked").await;
    }
}

/// What has ended by the time of the log is not alive again where a clock was put back.
#[tokio::test(flavor = "multi_thread")]
async fn what_has_ended_by_the_time_of_the_log_stays_ended_on_a_clock_that_is_put_back() {
    let world = World::start().await;
    let ends = chrono::Utc::now() + Duration::from_secs(3);
    let (_, short) = world.key(json!({ "expires_at": ends })).await;
    assert_eq!(world.verdict(&short).await, "ok");
    world.near.until("it ends", async || chrono::Utc::now() > ends).await;
    // Something is recorded after it.
    world.key(json!({})).await;
    for jump in ["+0", "-7h", "-400d"] {
        world.clock.set(jump);
        assert_eq!(world.verdict(&short).await, "key_expired", "{jump}");
    }
}

/// A clock that is far ahead lets nobody in, and may not write; the others go on.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_was_put_far_ahead_refuses_what_ends_later_and_records_nothing() {
    let world = World::start().await;
    let ends = chrono::Utc::now() + Duration::from_secs(3_600);
    let (_, hour) = world.key(json!({ "expires_at": ends })).await;
    world.clock.set("+7h");
    // At once, without having compared it with anything.
    assert_eq!(world.far.post("/v1/workers", json!({})).await.problem(503), "log_unavailable");
    assert_eq!(world.verdict(&hour).await, "key_expired");
    world.near.post("/v1/workers", json!({})).await.expect(201);
    world.clock.set("+0");
    world.far.post("/v1/workers", json!({})).await.expect(201);
    assert_eq!(world.verdict(&hour).await, "ok", "it never had ended");
}
