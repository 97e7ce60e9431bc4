//! Rules about all verbs at once, from the tree of arguments.

use std::collections::BTreeSet;

use super::*;

#[test]
fn the_tree_of_arguments_is_sound() {
    command().debug_assert();
}

#[test]
fn every_help_has_an_example() {
    let mut command = command();
    command.build();
    let mut without = Vec::new();
    look_for_examples(&mut command, "", &mut without);
    assert!(without.is_empty(), "no example in the help of:{}", without.concat());
}

fn look_for_examples(command: &mut clap::Command, above: &str, without: &mut Vec<String>) {
    let name = format!("{above} {}", command.get_name());
    if !command.render_long_help().to_string().contains("Example") {
        without.push(format!("\n {name}"));
    }
    for below in command.get_subcommands_mut().filter(|below| below.get_name() != "help") {
        look_for_examples(below, &name, without);
    }
}

#[test]
fn no_secret_is_taken_as_an_argument() {
    for arguments in [
        &["portcullis", "validate", "ptc_wk_x"][..],
        &["portcullis", "compromised", "ptc_wk_x"],
        &["portcullis", "token", "register", "--api-key", "x"],
        &["portcullis", "worker", "enroll", "--enrollment-secret", "x"],
        &["portcullis", "pool", "list", "--token", "x"],
    ] {
        assert!(Cli::try_parse_from(arguments).is_err(), "{arguments:?}");
    }
}

/// An option of one verb that has the name of one of all verbs takes its place, and the program breaks off where either is read.
#[test]
fn no_verb_takes_the_name_of_an_option_of_all_verbs() {
    let command = command();
    let global: BTreeSet<&str> =
        command.get_arguments().filter(|it| it.is_global_set()).map(|it| it.get_id().as_str()).collect();
    let mut below: Vec<&clap::Command> = command.get_subcommands().collect();
    while let Some(verb) = below.pop() {
        let taken: Vec<&str> =
            verb.get_arguments().map(|it| it.get_id().as_str()).filter(|id| global.contains(id)).collect();
        assert!(taken.is_empty(), "{}: {taken:?}", verb.get_name());
        below.extend(verb.get_subcommands());
    }
}

/// What changes nothing that a dry run could tell of, with why.
const WITHOUT_DRY_RUN: [(&str, &str); 43] = [
    ("serve", "is the service"),
    ("completions", "prints"),
    ("man", "prints, or writes pages"),
    ("incident shell", "starts a shell"),
    ("mirror verify", "reads"),
    ("backup verify", "reads"),
    ("pool list", "reads"),
    ("pool show", "reads"),
    ("worker list", "reads"),
    ("worker show", "reads"),
    ("worker whoami", "reads"),
    ("key list", "reads"),
    ("key show", "reads"),
    ("key honey list", "reads"),
    ("enrollment list", "reads"),
    ("enrollment show", "reads"),
    ("fence list", "reads"),
    ("plan list", "reads"),
    ("plan show", "reads"),
    ("plan items", "reads"),
    ("incident scope", "reads"),
    ("incident show", "reads"),
    ("incident list", "reads"),
    ("incident readmit show", "reads"),
    ("incident readmit list", "reads"),
    ("incident replay", "reads"),
    ("incident report", "reads"),
    ("tripwire list", "reads"),
    ("signing-key list", "reads"),
    ("netguard list", "reads"),
    ("node list", "reads"),
    ("node certificates", "reads"),
    ("node in-force", "reads"),
    ("operator list", "reads"),
    ("operator show", "reads"),
    ("operator whoami", "reads"),
    ("operator keys", "reads"),
    ("token introspect", "reads"),
    ("validate", "reads"),
    ("events list", "reads"),
    ("webhook list", "reads"),
    ("projection list", "reads"),
    ("projection verify", "reads"),
];

/// Every verb: what can be typed without another word after it, and whether it takes `--dry-run`.
fn verbs(command: &clap::Command, above: &str, found: &mut Vec<(String, bool)>) {
    if !command.is_subcommand_required_set() {
        let takes = command.get_arguments().any(|argument| argument.get_long() == Some("dry-run"));
        found.push((above.to_owned(), takes));
    }
    for below in command.get_subcommands() {
        verbs(below, format!("{above} {}", below.get_name()).trim_start(), found);
    }
}

/// A verb that is added takes `--dry-run`, or is named above.
#[test]
fn every_verb_that_changes_something_takes_dry_run() {
    let mut found = Vec::new();
    verbs(&command(), "", &mut found);
    let without: BTreeSet<&str> = found.iter().filter(|(_, takes)| !takes).map(|(verb, _)| verb.as_str()).collect();
    let named: BTreeSet<&str> = WITHOUT_DRY_RUN.iter().map(|(verb, _)| *verb).collect();
    assert_eq!(without, named, "a verb without `--dry-run` that is not named, or the other way round");
}

/// `--dry-run` where nobody would heed it would be the real thing.
#[test]
fn a_dry_run_is_refused_where_there_is_none() {
    for line in ["token introspect --dry-run", "validate --dry-run", "serve --dry-run", "pool list --dry-run"] {
        let words = std::iter::once("portcullis").chain(line.split(' '));
        assert!(Cli::try_parse_from(words).is_err(), "{line}");
    }
}
