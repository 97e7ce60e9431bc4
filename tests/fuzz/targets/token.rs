//! Any text as an access token, and any header and payload under a wrong signature: no panic, and never accepted.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use portcullis::credential::signing_key::{Algorithm, Signer, VerifyingKey, generate};
use portcullis::credential::token::verify;
use portcullis::domain::ids::SigningKeyId;

static KEYS: LazyLock<Vec<VerifyingKey>> = LazyLock::new(|| {
    let key = |algorithm| {
        let pkcs8 = generate(algorithm).expect("the library makes keys");
        let signer = Signer::new(SigningKeyId(1), algorithm, &pkcs8).expect("it reads what it wrote");
        VerifyingKey::from_jwk(&signer.jwk()).expect("its own public half")
    };
    Algorithm::ALL.map(key).into()
});

fuzz_target!(|text: &str| {
    for key in KEYS.iter() {
        assert!(verify(text, |_| Some(key), 0).is_err());
    }
});
