//! Incidents beyond the rules: the templates of their checklists, and what is read back from the log.

pub mod checklists;
pub mod effect;
pub mod passes;
pub mod replay;
pub mod report;
