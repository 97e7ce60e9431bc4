//! Who asks. A handler that takes a `Caller<MayReadFleet>` cannot be reached without that right: the signature is the policy.
//!
//! The right is looked at again when a command is decided, in its turn; see `domain::decide`.

use std::marker::PhantomData;

use axum::extract::FromRequestParts;
use axum::http::{HeaderMap, HeaderName, header, request::Parts};

use super::App;
use super::attempts::Attempt;
use super::meta::Meta;
use super::problem::Problem;
use crate::command::mint;
use crate::domain::actor::{Actor, Author, CredentialUsed};
use crate::domain::admit::Denial;
use crate::domain::ids::{KeyId, OperatorId};
use crate::domain::operator::{Permission, Role};
use crate::validate::{Bearer, Presented};

/// One right, as a type.
pub(super) trait Right: Send + Sync + 'static {
    /// `None`: any operator.
    const PERMISSION: Option<Permission>;
}

macro_rules! right {
    ($name:ident, $permission:expr) => {
        #[derive(Debug)]
        pub(super) struct $name;
        impl Right for $name {
            const PERMISSION: Option<Permission> = $permission;
        }
    };
}
right!(AnyOperator, None);
right!(MayReadFleet, Some(Permission::ReadFleet));
right!(MayReadEvents, Some(Permission::ReadEvents));
right!(MayManageFleet, Some(Permission::ManageFleet));
right!(MayManageSigningKeys, Some(Permission::ManageSigningKeys));
right!(MayManageOperators, Some(Permission::ManageOperators));
right!(MayValidate, Some(Permission::Validate));
right!(MayReadNetguard, Some(Permission::ReadNetguard));

/// An operator who has the right `R`.
#[derive(Debug)]
pub(super) struct Caller<R> {
    pub operator: OperatorId,
    role: Role,
    pub key: KeyId,
    pub meta: Meta,
    right: PhantomData<R>,
}

impl<R> Caller<R> {
    /// Refuses whoever has not this right too, where a request asks for more than the rest of its kind.
    pub(super) fn also(&self, needed: Permission) -> Result<(), Problem> {
        permitted(self.role, needed)
    }

    /// As the log will name this caller.
    pub(super) fn author(&self) -> Author {
        Author {
            actor: Actor::Operator(self.operator),
            credential: Some(CredentialUsed::Key(self.key)),
            source: self.meta.source,
            request_id: Some(self.meta.request_id.clone()),
        }
    }
}

impl<R: Right> FromRequestParts<App> for Caller<R> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        Self::of(app, &parts.headers, Meta::of(&parts.extensions))
    }
}

impl<R: Right> Caller<R> {
    /// Whom the headers of a request prove, if they have this right.
    pub(super) fn of(app: &App, headers: &HeaderMap, meta: Meta) -> Result<Self, Problem> {
        let credential = bearer(headers).ok_or_else(Problem::unauthorized)?;
        let snapshot = app.node().current()?;
        let presented = Presented { credential, worker: None };
        let accepted = app
            .check(&snapshot, presented, mint::now(), meta.source)
            .map_err(|denied| app.attempts().refuse(&Attempt::denied(&meta, &denied)))?;
        let Bearer::Operator(operator) = accepted.bearer else {
            return Err(app.attempts().refuse(&Attempt::of_key(&meta, Denial::WrongKind, accepted.key.id)));
        };
        if let Some(needed) = R::PERMISSION {
            permitted(operator.role, needed)?;
        }
        let (role, key) = (operator.role, accepted.key.id);
        Ok(Self { operator: operator.id, role, key, meta, right: PhantomData })
    }
}

fn permitted(role: Role, needed: Permission) -> Result<(), Problem> {
    if role.permits(needed) {
        return Ok(());
    }
    let detail = format!("the role {role} may not {}; ask an admin", needed.as_str());
    Err(Problem::forbidden("not_permitted", detail))
}

/// The credential of `Authorization: Bearer …` (RFC 6750); the scheme's case does not matter.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    if is_repeated(headers, &header::AUTHORIZATION) {
        return None;
    }
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, credential) = value.split_once(' ')?;
    let credential = credential.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !credential.is_empty()).then_some(credential)
}

/// Whether the header stands there more than once. Of two credentials neither counts: a proxy in front may have looked
/// at the other one than we would, and then each has let somebody else pass.
pub(super) fn is_repeated(headers: &HeaderMap, name: &HeaderName) -> bool {
    headers.get_all(name).iter().nth(1).is_some()
}
