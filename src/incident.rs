//! Incidents beyond the rules: the templates of their checklists, and what is read back from the log.

pub mod checklists;
