//! Operator events on disk.
//!
//! 2026-11-22: `operator.created`, `operator.updated` and `operator.removed`, schema 1.

use serde::{Deserialize, Serialize};

use super::Frozen;
use crate::domain::event::Event;
use crate::domain::ids::OperatorId;
use crate::domain::operator::Role;
use crate::log::entry::EntryError;
use crate::log::text::Text;

/// All that is said of an operator, as it is from now on.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SettledV1<'a> {
    #[serde(borrow)]
    name: Text<'a>,
    #[serde(borrow)]
    operator: Text<'a>,
    #[serde(borrow)]
    role: Text<'a>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RemovedV1<'a> {
    #[serde(borrow)]
    operator: Text<'a>,
}

impl<'a> SettledV1<'a> {
    pub(super) fn new(operator: OperatorId, name: &'a str, role: Role) -> Self {
        Self {
            name: Text::borrowed(name),
            operator: Text::of(&operator),
            role: Text::borrowed(match role {
                Role::Admin => "admin",
                Role::Operator => "operator",
                Role::Auditor => "auditor",
                Role::Gateway => "gateway",
            }),
        }
    }

    pub(super) fn created(&self) -> Result<Event, EntryError> {
        let operator = self.operator.parse("operator")?;
        Ok(Event::OperatorCreated { operator, name: self.name.to_shared(), role: self.role()? })
    }

    pub(super) fn updated(&self) -> Result<Event, EntryError> {
        let operator = self.operator.parse("operator")?;
        Ok(Event::OperatorUpdated { operator, name: self.name.to_shared(), role: self.role()? })
    }

    fn role(&self) -> Result<Role, EntryError> {
        match self.role.as_str() {
            "admin" => Ok(Role::Admin),
            "operator" => Ok(Role::Operator),
            "auditor" => Ok(Role::Auditor),
            "gateway" => Ok(Role::Gateway),
            _ => Err(EntryError::Malformed { field: "role" }),
        }
    }
}

impl RemovedV1<'_> {
    pub(super) fn new(operator: OperatorId) -> Self {
        Self { operator: Text::of(&operator) }
    }

    pub(super) fn removed(&self) -> Result<Event, EntryError> {
        Ok(Event::OperatorRemoved { operator: self.operator.parse("operator")? })
    }
}

impl<'a> Frozen<'a> for SettledV1<'a> {
    fn subject(&self) -> (&'static str, &str) {
        ("operator", self.operator.as_str())
    }
}

impl<'a> Frozen<'a> for RemovedV1<'a> {
    fn subject(&self) -> (&'static str, &str) {
        ("operator", self.operator.as_str())
    }
}
