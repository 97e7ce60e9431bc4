//! Credentials of which a part is known: how their public ids begin, as a log line or a screenshot shows it.

use super::Roll;
use crate::domain::ids::base62_beginning_with;
use crate::domain::key::Holder;
use crate::domain::plan::Criterion;

impl Roll {
    /// What each credential reaches whose public id begins so, oldest first: a key, an enrollment secret, or the operator
    /// whose key it is.
    #[must_use]
    pub fn credentials_beginning_with(&self, fragment: &str) -> Vec<Criterion> {
        let Some(ids) = base62_beginning_with(fragment) else { return Vec::new() };
        let keys = self.keys.iter().filter(|key| ids.contains(&{ key.id.0 })).map(|key| match &key.holder {
            Holder::Operator(operator) => Criterion::Operator(*operator),
            Holder::Worker(_) | Holder::Workers(_) => Criterion::Key(key.id),
        });
        let secrets = self.enrollment_secrets().filter(|secret| ids.contains(&{ secret.id.0 }));
        keys.chain(secrets.map(|secret| Criterion::Lineage(secret.id))).collect()
    }
}
