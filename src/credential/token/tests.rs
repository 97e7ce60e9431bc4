//! Tokens: round trips, a table of forgeries, and texts of any kind.

use std::sync::LazyLock;

use proptest::prelude::*;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::*;
use crate::credential::signing_key::generate;

const NOW: i64 = 1_800_000_000;
const ID: SigningKeyId = SigningKeyId(5);

struct Pair {
    signer: Signer,
    verifying: VerifyingKey,
}

fn pair(algorithm: SigningAlgorithm) -> Pair {
    let signer = Signer::new(ID, algorithm, &generate(algorithm).unwrap()).unwrap();
    let verifying = VerifyingKey::from_jwk(&signer.jwk()).unwrap();
    Pair { signer, verifying }
}

static EDDSA: LazyLock<Pair> = LazyLock::new(|| pair(SigningAlgorithm::EdDsa));

fn claims() -> Claims {
    Claims {
        iss: "https://gate.example".to_owned(),
        aud: "fleet".to_owned(),
        sub: "runner-1".parse().unwrap(),
        exp: NOW + 900,
        iat: NOW,
        nbf: None,
        jti: TokenId(1),
        scope: String::new(),
        pool: "default".parse().unwrap(),
        pos: 42,
        sid: TokenId(1),
        key: KeyId(3),
    }
}

fn signed(claims: &Claims) -> String {
    sign(&EDDSA.signer, claims).unwrap().expose_secret().to_owned()
}

/// A token with a true signature over any header and payload.
fn forged(header: &Value, payload: &str) -> String {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(payload));
    let signature = URL_SAFE_NO_PAD.encode(EDDSA.signer.sign(message.as_bytes()).unwrap());
    format!("{message}.{signature}")
}

fn verified(token: &str, now: i64) -> Result<Claims, TokenError> {
    verify(token, |id| (id == ID).then_some(&EDDSA.verifying), now)
}

#[test]
fn tokens_of_each_algorithm_verify_here_and_with_the_library_that_others_use() {
    for algorithm in SigningAlgorithm::ALL {
        let Pair { signer, verifying } = pair(algorithm);
        let expected = Claims { scope: "read write".to_owned(), nbf: Some(NOW), ..claims() };
        let token = sign(&signer, &expected).unwrap();
        let token = token.expose_secret();
        assert!(looks_like_token(token) && token.len() < TOKEN_BYTES_MAX);
        assert_eq!(verify(token, |_| Some(&verifying), NOW), Ok(expected.clone()), "{algorithm:?}");

        let jwk = serde_json::from_value(serde_json::to_value(signer.jwk()).unwrap()).unwrap();
        let mut validation = jsonwebtoken::Validation::new(serde_json::from_value(json!(algorithm.as_str())).unwrap());
        validation.set_audience(&["fleet"]);
        validation.set_issuer(&["https://gate.example"]);
        validation.validate_nbf = false;
        let key = jsonwebtoken::DecodingKey::from_jwk(&jwk).unwrap();
        let decoded = jsonwebtoken::decode::<Claims>(token, &key, &validation).unwrap();
        assert_eq!(decoded.claims, expected, "{algorithm:?}");
        assert_eq!(decoded.header.kid, Some(ID.to_string()));
    }
}

#[test]
fn time_is_compared_with_no_leeway() {
    let token = signed(&Claims { nbf: Some(NOW), ..claims() });
    assert_eq!(verified(&token, NOW - 1), Err(TokenError::NotYet));
    assert!(verified(&token, NOW).is_ok());
    assert!(verified(&token, NOW + 899).is_ok());
    assert_eq!(verified(&token, NOW + 900), Err(TokenError::Expired { at: NOW + 900 }));
    assert_eq!(verified(&token, i64::MAX), Err(TokenError::Expired { at: NOW + 900 }));
}

#[test]
fn each_header_that_is_not_ours_is_refused() {
    let payload = serde_json::to_string(&claims()).unwrap();
    let kid = ID.to_string();
    let other = SigningKeyId(6).to_string();
    let table = [
        (json!({"typ": "at+jwt", "alg": "EdDSA", "kid": kid}), Ok(claims())),
        (json!({"typ": "application/AT+JWT", "alg": "EdDSA", "kid": kid, "x": 1}), Ok(claims())),
        (json!({"typ": "JWT", "alg": "EdDSA", "kid": kid}), Err(TokenError::Type)),
        (json!({"typ": "äääääääääää", "alg": "EdDSA", "kid": kid}), Err(TokenError::Type)),
        (json!({"alg": "EdDSA", "kid": kid}), Err(TokenError::Type)),
        (json!({"typ": "at+jwt", "alg": "EdDSA"}), Err(TokenError::UnknownKey)),
        (json!({"typ": "at+jwt", "alg": "EdDSA", "kid": other}), Err(TokenError::UnknownKey)),
        (json!({"typ": "at+jwt", "alg": "EdDSA", "kid": "../../etc/passwd"}), Err(TokenError::UnknownKey)),
        (json!({"typ": "at+jwt", "alg": "none", "kid": kid}), Err(TokenError::Algorithm)),
        (json!({"typ": "at+jwt", "alg": "HS256", "kid": kid}), Err(TokenError::Algorithm)),
        (json!({"typ": "at+jwt", "alg": "RS256", "kid": kid}), Err(TokenError::Algorithm)),
        (json!({"typ": "at+jwt", "alg": "EdDSA", "kid": kid, "crit": ["b64"]}), Err(TokenError::Malformed)),
        (json!({"typ": "at+jwt", "kid": kid}), Err(TokenError::Malformed)),
        (json!({"typ": "at+jwt", "alg": 1, "kid": kid}), Err(TokenError::Malformed)),
        (json!([]), Err(TokenError::Malformed)),
    ];
    for (header, expected) in table {
        assert_eq!(verified(&forged(&header, &payload), NOW), expected, "{header}");
    }
}

#[test]
fn a_signed_payload_of_another_shape_is_refused() {
    let header = json!({"typ": "at+jwt", "alg": "EdDSA", "kid": ID.to_string()});
    let good = serde_json::to_value(claims()).unwrap();
    let with = |name: &str, value: Value| {
        let mut changed = good.clone();
        changed[name] = value;
        changed.to_string()
    };
    let without_exp = {
        let mut changed = good.clone();
        changed.as_object_mut().unwrap().remove("exp");
        changed.to_string()
    };
    let wrong = [
        without_exp,
        with("exp", Value::Null),
        with("exp", json!(1.8e9)),
        with("exp", json!("1800000900")),
        with("exp", json!(u64::MAX)),
        with("iat", json!(0.5)),
        with("pos", json!(-1)),
        with("aud", json!(["fleet"])),
        with("sub", json!("no worker's id")),
        with("jti", json!("short")),
        with("scope", json!(["read"])),
        good.to_string().replacen('{', r#"{"exp":9000000000,"#, 1),
        format!("{good} {good}"),
        "[]".to_owned(),
        String::new(),
    ];
    assert!(verified(&forged(&header, &with("later", json!({}))), NOW).is_ok(), "unknown claims are let be");
    for payload in wrong {
        assert_eq!(verified(&forged(&header, &payload), NOW), Err(TokenError::Malformed), "{payload}");
    }
}

#[test]
fn another_keys_signature_is_refused() {
    let token = sign(&pair(SigningAlgorithm::EdDsa).signer, &claims()).unwrap();
    assert_eq!(verified(token.expose_secret(), NOW), Err(TokenError::Signature));
}

#[test]
fn only_three_parts_of_base64url_look_like_a_token() {
    for text in ["", "a", "a.b", "a..c", "a.b.", ".b.c", "a.b.c.d", "a.b.c=", "a.b.c ", "ä.b.c"] {
        assert!(!looks_like_token(text), "{text}");
        assert_eq!(verified(text, NOW), Err(TokenError::Malformed), "{text}");
    }
    assert!(looks_like_token("a.b-.c_"));
    let long = format!("a.b.{}", "c".repeat(TOKEN_BYTES_MAX));
    assert_eq!(verified(&long, NOW), Err(TokenError::Malformed));
}

#[test]
fn scopes_are_left_out_when_there_are_none() {
    assert!(!serde_json::to_string(&claims()).unwrap().contains("scope"));
}

proptest! {
    #[test]
    fn any_claims_round_trip(exp in NOW + 1.., pos: u64, jti: u128, scope in "([a-z:]{1,9} ){0,5}[a-z]{1,9}") {
        let expected = Claims { exp, pos, jti: TokenId(jti), scope, ..claims() };
        prop_assert_eq!(verified(&signed(&expected), NOW), Ok(expected));
    }

    #[test]
    fn any_one_wrong_character_is_noticed(at: prop::sample::Index, other in "[ -~]") {
        let good = signed(&claims());
        let at = at.index(good.len());
        let mut bad = good.clone();
        bad.replace_range(at..=at, &other);
        prop_assert_eq!(verified(&bad, NOW).is_ok(), bad == good);
    }

    #[test]
    fn no_text_makes_it_panic(text: String, header in "\\PC{0,60}", payload in "\\PC{0,60}") {
        prop_assert!(verified(&text, NOW).is_err());
        let encoded = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let token = format!("{}.{}.AAAA", encoded(&header), encoded(&payload));
        prop_assert!(verified(&token, NOW).is_err());
        let header = json!({"typ": "at+jwt", "alg": "EdDSA", "kid": ID.to_string()});
        prop_assert_eq!(verified(&forged(&header, &payload), NOW), Err(TokenError::Malformed));
    }
}
