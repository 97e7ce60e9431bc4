//! Validation in the process, on one core: verdicts a second, and how long one takes.
//!
//! Its ceiling is what no validator can leave out: taking the key apart, the digest of its secret, and one look-up in
//! the standard library's map of the same keys.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use portcullis::command::mint;
use portcullis::credential::key::{self, KEY_CHARS};
use portcullis::credential::root_key::{DerivedKeys, RootKey};
use portcullis::credential::verifier::Verifier;
use portcullis::domain::ids::KeyId;
use portcullis::domain::roll::Roll;
use portcullis::node::{MAX_STALE_DEFAULT, Node};
use portcullis::validate::{Presented, Snapshot, check};
use rand::seq::SliceRandom;
use rustix::time::{ClockId, clock_gettime};
use secrecy::ExposeSecret;

mod support {
    pub(crate) mod fleet;
    pub(crate) mod latency;
    pub(crate) mod report;
}

use support::fleet::Fleet;
use support::latency::percentile;
use support::report::{Rounds, is_measuring, number, row, say, to_float};

/// That of the service: where it puts things decides what the cache holds.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 7;

/// All keys in one text, in random order. So they come from memory in a stream, as a request's bytes do: what is measured
/// is not the fetching of the question.
struct Questions(String);

impl Questions {
    fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.0.len() / KEY_CHARS).map(|at| &self.0[at * KEY_CHARS..(at + 1) * KEY_CHARS])
    }
}

fn main() -> anyhow::Result<()> {
    let count = if is_measuring() { 1_000_000 } else { 1_000 };
    let mut fleet = Fleet::new(RootKey::from_bytes([7; 32]).derive());
    let mut roll = Roll::default();
    for recorded in fleet.bootstrap()? {
        roll.apply(&recorded);
    }
    let mut texts = Vec::with_capacity(count * KEY_CHARS);
    for number in 0..count {
        roll.apply(&fleet.worker(number)?);
        let (recorded, text) = fleet.key(number)?;
        roll.apply(&recorded);
        texts.extend_from_slice(text.expose_secret().as_bytes());
    }
    let questions = shuffled(&texts)?;
    let node = Node::new(fleet.keys.clone(), roll, MAX_STALE_DEFAULT)?;
    let snapshot = node.snapshot();
    throughput(&snapshot, &fleet.keys, &questions);
    latency(&snapshot, &fleet.keys, &questions);
    Ok(())
}

fn shuffled(texts: &[u8]) -> anyhow::Result<Questions> {
    let mut all: Vec<&[u8]> = texts.chunks_exact(KEY_CHARS).collect();
    all.shuffle(&mut rand::rng());
    Ok(Questions(String::from_utf8(all.concat())?))
}

/// Verdicts in a second of one core's time, in turn with the ceiling.
fn throughput(snapshot: &Arc<Snapshot>, keys: &DerivedKeys, questions: &Questions) {
    let known: HashMap<KeyId, Verifier> = questions
        .iter()
        .filter_map(|text| key::parse(text).ok())
        .map(|parsed| (parsed.id, keys.api_key_verifier(&parsed)))
        .collect();
    let (mut verdicts, mut ceiling, mut ratio) = (Rounds::default(), Rounds::default(), Rounds::default());
    for round in 0..ROUNDS {
        let floor = rate(questions, |text| {
            key::parse(text).is_ok_and(|parsed| {
                known.get(&parsed.id).is_some_and(|known| known.matches(&keys.api_key_verifier(&parsed)))
            })
        });
        let checked = rate(questions, |text| is_accepted(snapshot, keys, text));
        say(format_args!("round {round}: {} verdicts/s, ceiling {}/s", number(checked), number(floor)));
        verdicts.push(checked);
        ceiling.push(floor);
        ratio.push(checked / floor);
    }
    row("validation in the process, one core", &verdicts, " verdicts/s", 1_000_000.0..);
    row("— parse, digest and one std `HashMap`", &ceiling, "/s", ..);
    row("— ratio", &ratio, "", ..);
}

fn is_accepted(snapshot: &Snapshot, keys: &DerivedKeys, text: &str) -> bool {
    check(snapshot, keys, Presented { credential: text, worker: None }, mint::now()).is_ok()
}

/// How many of the questions `answer` answers in a second of this thread's own time.
fn rate(questions: &Questions, answer: impl Fn(&str) -> bool) -> f64 {
    let began = thread_time();
    let good = questions.iter().filter(|text| answer(text)).count();
    let elapsed = thread_time().saturating_sub(began);
    assert_eq!(good, questions.iter().count(), "every key is good");
    to_float(good as u64) / elapsed.as_secs_f64()
}

/// What this thread has had of a core: others who use the machine do not count.
fn thread_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

fn latency(snapshot: &Arc<Snapshot>, keys: &DerivedKeys, questions: &Questions) {
    let timed = |call: &dyn Fn(&str) -> bool| -> Vec<u64> {
        let one = |text| {
            let began = Instant::now();
            black_box(call(text));
            u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX)
        };
        questions.iter().map(one).collect()
    };
    // What reading the clock twice takes is no part of a verdict.
    let clock = percentile(&mut timed(&|_| true), 0.5);
    let (mut p50, mut p99, mut p999) = (Rounds::default(), Rounds::default(), Rounds::default());
    for _ in 0..ROUNDS {
        let mut samples = timed(&|text| is_accepted(snapshot, keys, text));
        for (rounds, part) in [(&mut p50, 0.5), (&mut p99, 0.99), (&mut p999, 0.999)] {
            rounds.push((percentile(&mut samples, part) - clock) / 1_000.0);
        }
    }
    say(format_args!("reading the clock twice takes {clock} ns, which is taken off"));
    row("— one verdict, p50", &p50, " µs", ..);
    row("— one verdict, p99", &p99, " µs", ..=5.0);
    row("— one verdict, p99.9", &p999, " µs", ..);
}
