//! A message as Standard Webhooks has it (standardwebhooks.com, specification 1.0.0): what is told, and the three headers by
//! which its receiver knows it.

use aws_lc_rs::hmac::{self, HMAC_SHA256};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use secrecy::SecretString;
use serde::Serialize;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use crate::domain::ids::WebhookId;

/// What a secret begins with when people see it.
const SECRET_PREFIX: &str = "whsec_";

/// What is told, before it is signed for one attempt.
pub struct Message {
    /// The same for every attempt: by it a receiver knows what it has been told before.
    pub id: String,
    pub body: Vec<u8>,
}

/// The body. `data` is the event's entry, to the byte.
#[derive(Serialize)]
struct Body<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    timestamp: &'a str,
    data: &'a RawValue,
}

impl Message {
    /// Of the event at this position.
    #[must_use]
    pub fn of_event(webhook: WebhookId, position: u64, kind: &str, recorded_at: &str, entry: &RawValue) -> Self {
        let body = Body { kind, timestamp: recorded_at, data: entry };
        let body = serde_json::to_vec(&body).expect("texts and JSON are JSON");
        Self { id: format!("msg_{webhook}_{position}"), body }
    }

    /// The value of `webhook-signature`, of an attempt at this time.
    #[must_use]
    pub fn signature(&self, secret: &[u8], unix_seconds: i64) -> String {
        let key = hmac::Key::new(HMAC_SHA256, secret);
        let mut context = hmac::Context::with_key(&key);
        context.update(format!("{}.{unix_seconds}.", self.id).as_bytes());
        context.update(&self.body);
        format!("v1,{}", BASE64_STANDARD.encode(context.sign()))
    }
}

/// The secret as its receiver is shown it, once.
#[must_use]
pub fn shown(secret: &[u8]) -> SecretString {
    let encoded = Zeroizing::new(BASE64_STANDARD.encode(secret));
    SecretString::from(format!("{SECRET_PREFIX}{}", *encoded))
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    /// The example of the specification's reference implementations.
    #[test]
    fn a_signature_is_the_one_that_others_make() {
        let secret = BASE64_STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let message = Message { id: "msg_p5jXN8AQM9LWM0D4loKWxJek".into(), body: br#"{"test": 2432232314}"#.to_vec() };
        assert_eq!(message.signature(&secret, 1_614_265_330), "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert_eq!(shown(&secret).expose_secret(), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    }
}
