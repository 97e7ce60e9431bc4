//! `portcullis incident`: what a responder does.

mod scope;

use super::failure::Failure;
use super::session::Session;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// Show what is reached from what is known to have leaked: workers, keys, enrollment secrets, and who used them.
    #[command(after_help = scope::AFTER_HELP)]
    Scope(scope::Args),
}

pub(crate) async fn run(verb: Verb, session: &Session) -> Result<(), Failure> {
    match verb {
        Verb::Scope(args) => scope::run(args, session).await,
    }
}
