//! What keeps a batch from being appended, and what whoever reads of it can do.

use super::StartError;
use crate::log::LogFault;
use crate::postgres::{SERVICE_ROLE, is_refused_for_good};

/// Why a batch was not appended this time.
pub(super) enum Setback {
    /// Another node was faster, or an outcome was found that was not there before: decide again.
    Again,
    /// The connection is gone: reconnect, find out, decide again.
    Lost(String),
    /// The log refused. Nothing was written.
    Refused(String),
    /// The log cannot be believed.
    Fault(LogFault),
    /// It was found earlier that the log cannot be believed.
    Stopped(String),
}

impl Setback {
    pub(super) fn into_start_error(self) -> StartError {
        match self {
            Setback::Fault(fault) => StartError::Log(fault),
            Setback::Lost(why) | Setback::Refused(why) | Setback::Stopped(why) => StartError::Unreachable(why),
            Setback::Again => StartError::Unreachable("another node kept moving the head".to_owned()),
        }
    }
}

impl From<LogFault> for Setback {
    fn from(fault: LogFault) -> Self {
        match fault {
            LogFault::Database(error) if is_refused_for_good(&error) => Setback::Refused(with_remedy(&error)),
            LogFault::Database(_) | LogFault::Silent => Setback::Lost(chain(&fault)),
            other => Setback::Fault(other),
        }
    }
}

/// What the database refuses for good is mended in the database.
pub(super) fn with_remedy(error: &tokio_postgres::Error) -> String {
    format!(
        "{}; trying again does not mend that: compare the tables of the schema `log`, and the rights of {SERVICE_ROLE}, with \
         what the migrations make",
        chain(error)
    )
}

/// An error with its causes in one line: the driver's own text stops at "db error".
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
