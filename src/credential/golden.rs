//! Golden files: what others have in their hands (keys, JWKs, tokens) and parse must not change by accident.
//!
//! A difference here is a difference that every scanner, gateway and client sees. `UPDATE_EXPECT=1` rewrites the files.

use aws_lc_rs::signature::Ed25519KeyPair;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use expect_test::expect_file;
use secrecy::ExposeSecret;
use serde_json::Value;

use super::key::{KeyKind, mint, parse};
use super::root_key::RootKey;
use super::signing_key::{Signer, VerifyingKey, generate};
use super::token::{Claims, sign, verify};
use crate::domain::ids::{KeyId, SigningKeyId, TokenId};
use crate::domain::signing_key::SigningAlgorithm;

const ENTROPY: [u8; 32] = *b"thirty-two bytes that are known.";
const ID: u128 = 0x0193_5000_0000_7000_8000_0000_0000_0001;

#[test]
fn keys_of_each_kind() {
    let keys = KeyKind::ALL.map(|kind| mint(kind, KeyId(ID), &ENTROPY).expose_secret().to_owned() + "\n");
    expect_file!["../../tests/golden/credentials/keys.txt"].assert_eq(&keys.concat());
}

/// What lies in databases: a change would lock every worker out.
#[test]
fn verifiers_under_a_known_root_key() {
    let keys = RootKey::from_bytes(ENTROPY).derive();
    let api_key = |kind| {
        let text = mint(kind, KeyId(ID), &ENTROPY);
        keys.api_key_verifier(&parse(text.expose_secret()).unwrap())
    };
    let listed = [
        ("worker", api_key(KeyKind::Worker).to_string()),
        ("enrollment", api_key(KeyKind::Enrollment).to_string()),
        ("operator", api_key(KeyKind::Operator).to_string()),
        ("static secret", keys.static_secret_verifier("secret").to_string()),
        ("enrollment secret", keys.enrollment_verifier("secret").to_string()),
        ("command id", keys.command_id("actor", "key").to_string()),
        ("fingerprint", blake3::Hash::from(keys.fingerprint(&[b"one", b"two"])).to_string()),
        ("root key check", blake3::Hash::from(keys.root_key_check()).to_string()),
        ("log chain, digest", blake3::hash(keys.log_chain()).to_string()),
    ];
    let text: String = listed.map(|(name, value)| format!("{name}: {value}\n")).concat();
    expect_file!["../../tests/golden/credentials/verifiers.txt"].assert_eq(&text);
}

/// The numbers differ with each key that is made, so their lengths stand for them.
#[test]
fn a_jwk_of_each_algorithm() {
    let shapes = SigningAlgorithm::ALL.map(|algorithm| {
        let signer = Signer::new(SigningKeyId(ID), algorithm, &generate(algorithm).unwrap()).unwrap();
        let mut jwk = serde_json::to_value(signer.jwk()).unwrap();
        for name in ["n", "e", "x", "y"] {
            if let Some(number) = jwk.get_mut(name) {
                let length = URL_SAFE_NO_PAD.decode(number.as_str().unwrap()).unwrap().len();
                *number = format!("<{length} bytes>").into();
            }
        }
        jwk
    });
    let text = serde_json::to_string_pretty(&shapes).unwrap() + "\n";
    expect_file!["../../tests/golden/credentials/jwks.json"].assert_eq(&text);
}

/// Ed25519 signs without randomness, so the whole token is known.
#[test]
fn a_token() {
    let pkcs8 = Ed25519KeyPair::from_seed_unchecked(&ENTROPY).unwrap().to_pkcs8().unwrap();
    let signer = Signer::new(SigningKeyId(ID), SigningAlgorithm::EdDsa, pkcs8.as_ref()).unwrap();
    let claims = Claims {
        iss: "https://gate.example".to_owned(),
        aud: "fleet".to_owned(),
        sub: "runner-1".parse().unwrap(),
        exp: 1_800_000_900,
        iat: 1_800_000_000,
        nbf: None,
        jti: TokenId(ID + 1),
        scope: "jobs:read jobs:write".to_owned(),
        pool: "default".parse().unwrap(),
        pos: 42,
        sid: TokenId(ID),
        key: KeyId(ID),
    };
    let token = sign(&signer, &claims).unwrap();
    let token = token.expose_secret();
    let part = |index| {
        let bytes = URL_SAFE_NO_PAD.decode(token.split('.').nth(index).unwrap()).unwrap();
        serde_json::to_string_pretty(&serde_json::from_slice::<Value>(&bytes).unwrap()).unwrap()
    };
    expect_file!["../../tests/golden/credentials/token.txt"].assert_eq(&format!("{}\n{}\n{token}\n", part(0), part(1)));
    let verifying = VerifyingKey::from_jwk(&signer.jwk()).unwrap();
    assert_eq!(verify(token, |_| Some(&verifying), 1_800_000_000), Ok(claims));
}
