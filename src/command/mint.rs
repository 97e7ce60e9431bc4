//! The one place where time, ids and entropy are made. They enter `decide` as values.

use std::time::{SystemTime, UNIX_EPOCH};

use rand::TryRng;
use rand::rngs::SysRng;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::domain::time::Timestamp;

/// The wall clock. The log's order never depends on it, only what people read and what expires.
#[must_use]
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// A fresh UUIDv7, of which every made id is one.
#[must_use]
pub fn id() -> Uuid {
    Uuid::now_v7()
}

/// 256 bits for one secret, from the operating system.
#[must_use]
pub fn entropy() -> Zeroizing<[u8; 32]> {
    let mut bytes = Zeroizing::new([0; 32]);
    // Without entropy there is no secret worth making, and nothing that a caller could do about it.
    SysRng.try_fill_bytes(&mut *bytes).expect("the operating system gives random bytes");
    bytes
}
