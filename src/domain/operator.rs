//! Operators, and what each role may do.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::ids::{KeyId, OperatorId};
use super::time::Timestamp;

/// How many live API keys one operator may hold: a rotation's two, and a few for its tools.
pub const OPERATOR_KEYS_MAX: usize = 8;

/// An operator's place in the Roll, from one up in order of creation: what was made by nobody takes no room of its own to
/// say so, in rows of which there are millions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OperatorIndex(pub NonZeroU32);

/// What an operator is for. Finer rules are policies, not roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Role {
    /// Everything.
    Admin,
    /// The fleet: pools, workers, keys, enrollment secrets.
    Operator,
    /// Sees everything, changes nothing.
    Auditor,
    /// Asks whether a credential is good, and why not.
    Gateway,
}

/// One thing that may be allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Permission {
    ReadFleet,
    ReadEvents,
    ManageFleet,
    ManageSigningKeys,
    ManageOperators,
    Validate,
    ReadNetguard,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operator {
    pub id: OperatorId,
    pub index: OperatorIndex,
    pub name: Arc<str>,
    pub role: Role,
    /// A removed operator stays known by name, so that old events can be read.
    pub removed: bool,
    pub created_at: Timestamp,
    /// The position of its `operator.created`.
    pub created: u64,
    pub created_by: Option<OperatorIndex>,
    pub keys: Vec<KeyId>,
}

impl Role {
    pub const ALL: [Role; 4] = [Role::Admin, Role::Operator, Role::Auditor, Role::Gateway];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Admin => "admin",
            Role::Operator => "operator",
            Role::Auditor => "auditor",
            Role::Gateway => "gateway",
        }
    }

    #[must_use]
    pub fn permits(self, permission: Permission) -> bool {
        use Permission::{
            ManageFleet, ManageOperators, ManageSigningKeys, ReadEvents, ReadFleet, ReadNetguard, Validate,
        };
        match (self, permission) {
            // A gateway blocks by it, and everybody else has it from the fleet and the events.
            (Role::Admin, _) | (_, ReadNetguard) => true,
            (Role::Operator, ReadFleet | ReadEvents | ManageFleet | Validate) => true,
            (Role::Operator, ManageSigningKeys | ManageOperators) => false,
            (Role::Auditor, ReadFleet | ReadEvents) => true,
            (Role::Auditor, ManageFleet | ManageSigningKeys | ManageOperators | Validate) => false,
            (Role::Gateway, Validate) => true,
            (Role::Gateway, ReadFleet | ReadEvents | ManageFleet | ManageSigningKeys | ManageOperators) => false,
        }
    }
}

impl Permission {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Permission::ReadFleet => "read the fleet",
            Permission::ReadEvents => "read events",
            Permission::ManageFleet => "manage the fleet",
            Permission::ManageSigningKeys => "manage signing keys",
            Permission::ManageOperators => "manage operators",
            Permission::Validate => "validate credentials",
            Permission::ReadNetguard => "read whom netguard blocks",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a role is one of admin, operator, auditor, gateway")]
pub struct UnknownRole;

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        Role::ALL.into_iter().find(|role| role.as_str() == text).ok_or(UnknownRole)
    }
}
