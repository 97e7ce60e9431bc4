//! Any bytes as an entry of the log: no panic, and what decodes is written again to the byte.
//!
//! Every schema that there is today is the newest of its kind. Once one has an upcast, its entries are written again in
//! the newer schema, and only those of the newest come back to the byte.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::log::entry::{columns, decode, encode};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(recorded) = decode(bytes) {
        assert_eq!(encode(&recorded).as_deref(), Ok(bytes));
        assert_eq!(columns(&recorded).position, recorded.position);
    }
});
