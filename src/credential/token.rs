//! Access tokens: short-lived JWTs (RFC 9068), signed here and verified strictly.
//!
//! What is checked here is what the token itself can show: form, type, key, algorithm, signature, time. Whether its
//! worker, its key and its position still stand is decided on the Roll.

use std::borrow::Borrow;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::signing_key::{Signer, SigningKeyError, VerifyingKey};
use crate::domain::ids::{KeyId, PoolId, SigningKeyId, TokenId, WorkerId};
use crate::domain::signing_key::SigningAlgorithm;

/// The longest token that is looked at. Ours have some 700 bytes, with scopes and RS256 some 1,200; proxies refuse
/// headers past 8 KiB.
pub const TOKEN_BYTES_MAX: usize = 4096;

/// What sets an access token apart from every other JWT, an ID token above all (RFC 9068, section 2.1).
const TYPE: &str = "at+jwt";

/// What a token says. Names are those of RFC 7519, RFC 8693 (`scope`) and our own; they are API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    pub iss: String,
    pub aud: String,
    #[serde(with = "as_text")]
    pub sub: WorkerId,
    /// In seconds since the Unix epoch, like the other two.
    pub exp: i64,
    pub iat: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<i64>,
    #[serde(with = "as_text")]
    pub jti: TokenId,
    /// Scopes, with a space between any two.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub scope: String,
    #[serde(with = "as_text")]
    pub pool: PoolId,
    /// The position at which it was issued: fences compare it. Whoever verifies offline and knows a fence can compare it too;
    /// what a fence at an earlier position refuses by lineage, only a node knows.
    pub pos: u64,
    /// The first token of this chain of renewals.
    #[serde(with = "as_text")]
    pub sid: TokenId,
    /// The key that it was derived from.
    #[serde(with = "as_text")]
    pub key: KeyId,
}

/// Why a token is refused. None of it repeats the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("the text is no JWT of ours")]
    Malformed,
    #[error("the token is no access token")]
    Type,
    #[error("the token names a signing key that is not known")]
    UnknownKey,
    #[error("the token names another algorithm than that of its signing key")]
    Algorithm,
    #[error("the signature of the token is wrong")]
    Signature,
    #[error("the token has expired")]
    Expired {
        /// In seconds since the Unix epoch.
        at: i64,
    },
    #[error("the token is not good yet")]
    NotYet,
}

/// Borrowed, so that refusing a token costs as little as can be.
#[derive(Deserialize)]
struct Header<'a> {
    typ: Option<&'a str>,
    alg: &'a str,
    kid: Option<&'a str>,
    /// Extensions that must be understood. We understand none, so whatever is here is too much (RFC 7515, 4.1.11).
    crit: Option<serde::de::IgnoredAny>,
}

/// Whether `text` is meant to be a token: three parts in base64url, none of them empty.
#[must_use]
pub fn looks_like_token(text: &str) -> bool {
    let base64url = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let part = |part: &str| !part.is_empty() && part.bytes().all(base64url);
    let mut parts = text.split('.');
    let three = [parts.next(), parts.next(), parts.next()];
    parts.next().is_none() && three.into_iter().all(|it| it.is_some_and(part))
}

/// The protected header of every token that the key signs.
pub(super) fn header(algorithm: SigningAlgorithm, id: SigningKeyId) -> String {
    // No part of it can hold a character that JSON would escape.
    format!(r#"{{"typ":"{TYPE}","alg":"{}","kid":"{id}"}}"#, algorithm.as_str())
}

/// Signs `claims`.
pub fn sign(signer: &Signer, claims: &Claims) -> Result<SecretString, SigningKeyError> {
    let payload = serde_json::to_vec(claims).map_err(|_| SigningKeyError::NotSigned)?;
    let mut token = String::with_capacity(1024);
    token.push_str(signer.header());
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(&payload, &mut token);
    let signature = signer.sign(token.as_bytes())?;
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(&signature, &mut token);
    Ok(SecretString::from(token))
}

/// Verifies `token` and gives its claims.
///
/// `lookup` finds a signing key by its id; the key's own algorithm counts, never the header's. Time is compared with
/// no leeway, as the clock that issued is ours: at `exp` the token is over.
pub fn verify<K: Borrow<VerifyingKey>>(
    token: &str,
    lookup: impl FnOnce(SigningKeyId) -> Option<K>,
    now_unix_seconds: i64,
) -> Result<Claims, TokenError> {
    if token.len() > TOKEN_BYTES_MAX || !looks_like_token(token) {
        return Err(TokenError::Malformed);
    }
    let (message, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
    let (header, payload) = message.split_once('.').ok_or(TokenError::Malformed)?;

    let header = URL_SAFE_NO_PAD.decode(header).map_err(|_| TokenError::Malformed)?;
    let header: Header<'_> = serde_json::from_slice(&header).map_err(|_| TokenError::Malformed)?;
    check_type(&header)?;
    let id = header.kid.and_then(|kid| kid.parse().ok()).ok_or(TokenError::UnknownKey)?;
    let key = lookup(id).ok_or(TokenError::UnknownKey)?;
    let key = key.borrow();
    if header.alg != key.algorithm().as_str() {
        return Err(TokenError::Algorithm);
    }
    if !key.verifies(message.as_bytes(), signature) {
        return Err(TokenError::Signature);
    }

    // Only now is the content anyone's but the caller's.
    let payload = URL_SAFE_NO_PAD.decode(payload).map_err(|_| TokenError::Malformed)?;
    let claims: Claims = serde_json::from_slice(&payload).map_err(|_| TokenError::Malformed)?;
    check_time(&claims, now_unix_seconds)?;
    Ok(claims)
}

/// What a token says, whoever has written it: for somebody who looks for where it leads, and is told that it proves nothing.
pub fn unproven_claims(token: &str) -> Option<Claims> {
    if token.len() > TOKEN_BYTES_MAX || !looks_like_token(token) {
        return None;
    }
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice(&payload).ok()
}

fn check_type(header: &Header<'_>) -> Result<(), TokenError> {
    if header.crit.is_some() {
        return Err(TokenError::Malformed);
    }
    // RFC 7515 lets the prefix `application/` be written or not, and compares media types without regard to case.
    let typ = header.typ.ok_or(TokenError::Type)?;
    let short = match typ.get(..12) {
        Some(prefix) if prefix.eq_ignore_ascii_case("application/") => &typ[12..],
        _ => typ,
    };
    if short.eq_ignore_ascii_case(TYPE) { Ok(()) } else { Err(TokenError::Type) }
}

fn check_time(claims: &Claims, now_unix_seconds: i64) -> Result<(), TokenError> {
    if claims.exp <= now_unix_seconds {
        return Err(TokenError::Expired { at: claims.exp });
    }
    if claims.nbf.is_some_and(|nbf| now_unix_seconds < nbf) {
        return Err(TokenError::NotYet);
    }
    Ok(())
}

/// Ids as the text that people see.
mod as_text {
    use std::borrow::Cow;
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        Cow::<'_, str>::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests;
