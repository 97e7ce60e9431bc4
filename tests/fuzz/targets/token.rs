//! Any text as an access token, as the parts of one under a wrong signature, and as the claims of one of ours: no panic,
//! nothing accepted that was not signed, and what was signed says what it said.
#![no_main]

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use libfuzzer_sys::fuzz_target;
use portcullis::credential::signing_key::{Signer, VerifyingKey, generate};
use portcullis::credential::token::{Claims, TOKEN_BYTES_MAX, TokenError, sign, verify};
use portcullis::domain::ids::SigningKeyId;
use portcullis::domain::signing_key::SigningAlgorithm;
use secrecy::ExposeSecret;

struct Pair {
    signer: Signer,
    verifying: VerifyingKey,
}

static PAIRS: LazyLock<[Pair; 3]> = LazyLock::new(|| {
    SigningAlgorithm::ALL.map(|algorithm| {
        let pkcs8 = generate(algorithm).expect("the library makes keys");
        let signer = Signer::new(SigningKeyId(1), algorithm, &pkcs8).expect("it reads what it wrote");
        let verifying = VerifyingKey::from_jwk(&signer.jwk()).expect("its own public half");
        Pair { signer, verifying }
    })
});

fuzz_target!(|text: &str| {
    // Chance never finds base64url of JSON, and so would try no header and no payload.
    let part = URL_SAFE_NO_PAD.encode(text);
    let parts = format!("{part}.{part}.AAAA");
    for pair in PAIRS.iter() {
        for token in [text, &parts] {
            assert!(verify(token, |_| Some(&pair.verifying), 0).is_err());
        }
    }
    if let Ok(claims) = serde_json::from_str::<Claims>(text) {
        // EdDSA alone: the claims are read alike for each, and RS256 signs a thousand times slower than they are.
        come_back(&PAIRS[0], &claims);
    }
});

fn come_back(pair: &Pair, claims: &Claims) {
    let token = sign(&pair.signer, claims).expect("claims can be signed");
    let now = claims.exp.saturating_sub(1);
    match verify(token.expose_secret(), |_| Some(&pair.verifying), now) {
        Ok(read) => assert_eq!(read, *claims),
        Err(TokenError::Malformed) => assert!(token.expose_secret().len() > TOKEN_BYTES_MAX),
        Err(TokenError::NotYet) => assert!(claims.nbf.is_some_and(|nbf| now < nbf)),
        Err(TokenError::Expired { at }) => assert_eq!((at, now), (claims.exp, claims.exp)),
        Err(error) => panic!("a token of ours was refused: {error}"),
    }
}
