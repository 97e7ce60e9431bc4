//! Secrets that the caller chose: judged where they are created, and kept as verifiers.

use secrecy::{ExposeSecret, SecretString};

use super::App;
use super::problem::Problem;
use crate::credential::strength::{Weakness, check_enrollment_secret, check_static_secret};
use crate::domain::key::Digest;

/// The verifier of a static secret that is good enough.
pub(super) async fn static_secret(app: &App, secret: &SecretString) -> Result<Digest, Problem> {
    judge("static_secret", secret, check_static_secret).await?;
    Ok(Digest(*app.node().keys().static_secret_verifier(secret.expose_secret()).as_bytes()))
}

/// The verifier of an enrollment secret that is good enough.
pub(super) async fn enrollment_secret(app: &App, secret: &SecretString) -> Result<Digest, Problem> {
    judge("secret", secret, check_enrollment_secret).await?;
    Ok(enrollment_verifier(app, secret))
}

/// The verifier of an enrollment secret, whoever made it.
pub(super) fn enrollment_verifier(app: &App, secret: &SecretString) -> Digest {
    Digest(*app.node().keys().enrollment_verifier(secret.expose_secret()).as_bytes())
}

/// An estimate takes milliseconds: too long for a thread that serves everyone.
async fn judge(
    field: &'static str,
    secret: &SecretString,
    check: fn(&str) -> Result<(), Weakness>,
) -> Result<(), Problem> {
    let secret = secret.clone();
    let judged = tokio::task::spawn_blocking(move || check(secret.expose_secret())).await;
    judged.map_err(Problem::internal)?.map_err(|weakness| Problem::invalid(field, weakness.to_string()))
}
