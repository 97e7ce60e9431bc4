//! What the Roll takes of memory for a key, and what a verdict allocates.

use std::alloc::System;
use std::ops::RangeBounds;
use std::sync::Arc;

use portcullis::command::mint;
use portcullis::credential::root_key::{DerivedKeys, RootKey};
use portcullis::domain::roll::Roll;
use portcullis::node::{MAX_STALE_DEFAULT, Node};
use portcullis::validate::{Presented, Snapshot, check};
use secrecy::{ExposeSecret, SecretString};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

mod support {
    pub(crate) mod fleet;
    pub(crate) mod report;
}

use support::fleet::Fleet;
use support::report::{Rounds, is_measuring, number, row, say, to_float};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Keys whose verdicts are looked at for allocations.
const SAMPLE: usize = 1_000;

fn main() -> anyhow::Result<()> {
    let count = if is_measuring() { 1_000_000 } else { 1_000 };
    let mut fleet = Fleet::new(RootKey::from_bytes([7; 32]).derive());
    let mut roll = Roll::default();
    for recorded in fleet.bootstrap()? {
        roll.apply(&recorded);
    }
    let mut sample = Vec::with_capacity(SAMPLE);
    let before = Memory::now();
    for number in 0..count {
        roll.apply(&fleet.worker(number)?);
        let (recorded, text) = fleet.key(number)?;
        roll.apply(&recorded);
        if sample.len() < SAMPLE {
            sample.push(text);
        }
    }
    let with_worker = Memory::now().since(&before, count);

    let node = Node::new(fleet.keys.clone(), roll.clone(), MAX_STALE_DEFAULT)?;
    allocations(&node.snapshot(), &fleet.keys, &sample);
    drop(node);

    let before = Memory::now();
    for number in 0..count {
        roll.apply(&fleet.key(number)?.0);
    }
    let alone = Memory::now().since(&before, count);
    say(format_args!(
        "resident: {} B for a further key, {} B for a key and its worker",
        number(alone.resident),
        number(with_worker.resident)
    ));
    row_once("Roll: memory for a key of a worker that is there", alone.allocated, " B", ..=400.0);
    row_once("Roll: memory for a key and its own worker", with_worker.allocated, " B", ..);
    Ok(())
}

fn allocations(snapshot: &Arc<Snapshot>, keys: &DerivedKeys, sample: &[SecretString]) {
    let is_accepted = |text: &SecretString| {
        check(snapshot, keys, Presented { credential: text.expose_secret(), worker: None }, mint::now()).is_ok()
    };
    let region = Region::new(ALLOCATOR);
    let good = sample.iter().filter(|text| is_accepted(text)).count();
    let change = region.change();
    assert_eq!(good, sample.len(), "every key is good");
    row_once(
        "bytes allocated for one verdict",
        to_float(change.bytes_allocated as u64) / to_float(good as u64),
        " B",
        ..=0.0,
    );
}

/// Memory in use, or the use for one thing of many.
struct Memory {
    allocated: f64,
    resident: f64,
}

impl Memory {
    fn now() -> Self {
        let stats = ALLOCATOR.stats();
        let in_use = to_float(stats.bytes_allocated as u64) - to_float(stats.bytes_deallocated as u64);
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let pages = statm.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
        Self { allocated: in_use, resident: to_float(pages * rustix::param::page_size() as u64) }
    }

    fn since(&self, before: &Self, count: usize) -> Self {
        let each = |now: f64, before: f64| (now - before) / to_float(count as u64);
        Self { allocated: each(self.allocated, before.allocated), resident: each(self.resident, before.resident) }
    }
}

/// A row for what is the same in every round.
fn row_once(what: &str, value: f64, unit: &str, goal: impl RangeBounds<f64>) {
    let mut once = Rounds::default();
    once.push(value);
    row(what, &once, unit, goal);
}
