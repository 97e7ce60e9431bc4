//! The habits of the house as tests: what a reviewer would otherwise have to see, every time, in every change.
//!
//! Each rule carries a sample that breaks it and one that does not, and is itself tested on both: a rule that catches
//! nothing looks just like a tidy repository.

use std::fs;
use std::path::Path;
use std::process::Command;

use regex::Regex;

/// One habit.
struct Rule {
    name: &'static str,
    /// Which files it is about.
    concerns: fn(&str) -> bool,
    /// What in a file breaks it, and what to do instead.
    check: fn(&str, &str) -> Vec<String>,
    /// A file, as path and text, that breaks it.
    broken: (&'static str, &'static str),
    /// A file that looks alike and does not.
    kept: (&'static str, &'static str),
}

const RULES: &[Rule] = &[
    Rule {
        name: "a file opens with what it is for",
        concerns: is_rust,
        check: opening,
        broken: ("src/a.rs", "use std::fmt;\n//! Late."),
        kept: ("src/a.rs", "//! What it is for.\n"),
    },
    Rule {
        name: "a file can be held in the head",
        concerns: |path| is_rust(path) && path.starts_with("src/"),
        check: length,
        broken: ("src/a.rs", LONG),
        kept: ("src/a.rs", "//! Short.\n"),
    },
    Rule {
        name: "a module is named for what it does",
        concerns: is_rust,
        check: module_name,
        broken: ("src/http/utils.rs", ""),
        kept: ("src/http/problem.rs", ""),
    },
    Rule {
        name: "`worker.rs` and `worker/`, never `mod.rs`",
        concerns: is_rust,
        check: module_name,
        broken: ("src/http/mod.rs", ""),
        kept: ("src/http/modular.rs", ""),
    },
    Rule {
        name: "nothing is left for later",
        concerns: |path| path != "Cargo.lock",
        check: left_for_later,
        broken: ("ops/up", concat!("# TO", "DO: the rest\n")),
        kept: ("src/a.rs", "//! To do so, call `debug!`.\n"),
    },
    Rule {
        name: "every test runs",
        concerns: is_rust,
        check: ignored_test,
        broken: ("tests/a.rs", concat!("//! A.\n#[ig", "nore]\nfn a() {}\n")),
        kept: ("tests/a.rs", "//! A.\n// It must not ignore [x].\n"),
    },
    Rule {
        name: "a field of an entry has one name",
        concerns: |path| is_rust(path) && path.starts_with("src/log"),
        check: field_alias,
        broken: ("src/log/schema/a.rs", concat!("//! A.\n#[serde(borrow, al", "ias = \"b\")]\n")),
        kept: ("src/log/schema/a.rs", "//! An alias = a second name.\n#[serde(borrow)]\n"),
    },
    Rule {
        name: "no path of one machine",
        concerns: |path| path != "Cargo.lock",
        check: machine_path,
        broken: ("ops/up", concat!("cd /wo", "rk/here\n")),
        kept: ("ops/up", concat!("cd ./wo", "rk/here; curl https://example.org/wo", "rk/\n")),
    },
    Rule {
        name: "data flows down the layers",
        concerns: |path| is_rust(path) && path.starts_with("src/"),
        check: layering,
        broken: ("src/domain/roll.rs", "//! The Roll.\nuse crate::{\n    log::Record,\n};\n"),
        kept: ("src/log/read.rs", "//! Reading.\nuse crate::domain::ids::KeyId; // not crate::http\n"),
    },
    Rule {
        name: "SQL keywords are lower case",
        concerns: is_sql,
        check: sql_case,
        broken: ("src/log/head.sql", "SELECT 1 from a"),
        kept: ("src/log/head.sql", "-- SELECT\nselect 'INSERT' from \"TABLE\" /* WHERE */"),
    },
    Rule {
        name: "a file of SQL is one statement",
        concerns: |path| {
            is_sql(path)
                && !path.starts_with("migrations/")
                && !path.ends_with("/tables.sql")
                && !path.ends_with("/indexes.sql")
        },
        check: sql_statements,
        broken: ("src/log/head.sql", "select 1; select 2;"),
        kept: ("src/log/head.sql", "-- a; b\nselect ';';\n"),
    },
];

/// What stands above may use what stands below, never the other way round. Each with what it may use where that is
/// less than everything below it, and why.
///
/// `main.rs` and `lib.rs` stand above all. A new module of the top level has to take its place here.
const LAYERS: &[(&str, Option<&[&str]>)] = &[
    ("cli", None),
    ("http", None),
    ("console", None),
    ("agent", None),
    ("incident", None),
    ("audit", None),
    ("policy", None),
    ("vault", None),
    ("webhook", None),
    ("command", None),
    ("projection", None),
    ("node", None),
    // A verdict needs a state and a moment, and no node around them.
    ("validate", None),
    // Reading and writing records must not depend on what is made of them, or the log could not outlive the service.
    ("log", Some(&["credential", "postgres", "domain", "telemetry", "secret"])),
    // Credentials are checked where there is no database.
    ("credential", Some(&["domain", "secret"])),
    // Postgres knows nothing of what is kept in it.
    ("postgres", Some(&["config", "telemetry", "secret", "turns"])),
    // Pure: what it uses of ours would bring clocks, files or tasks with it.
    ("domain", Some(&[])),
    ("config", Some(&["telemetry", "secret"])),
    ("telemetry", Some(&[])),
    ("turns", Some(&[])),
    ("secret", Some(&[])),
];

/// Past it a file is two things; 500 is where one should begin to look for the seam.
const LINES_MAX: usize = 600;

/// 601 lines.
const LONG: &str = {
    const BYTES: [u8; LINES_MAX + 1] = [b'\n'; LINES_MAX + 1];
    match std::str::from_utf8(&BYTES) {
        Ok(text) => text,
        Err(_) => "",
    }
};

/// Where the digests of the migrations are kept, as `sha256sum` prints them.
const MIGRATION_DIGESTS: &str = "tests/golden/migrations.sha256";

#[test]
fn the_repository_keeps_every_rule() {
    let mut broken = Vec::new();
    for path in tracked() {
        // Not every file is text, and a file that was just removed is still tracked.
        let Ok(text) = fs::read_to_string(&path) else { continue };
        for rule in RULES.iter().filter(|rule| (rule.concerns)(&path)) {
            let complaints = (rule.check)(&path, &text);
            broken.extend(complaints.into_iter().map(|complaint| format!("{path}: {complaint} ({})", rule.name)));
        }
    }
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

#[test]
fn every_rule_catches_what_breaks_it_and_nothing_else() {
    for Rule { name, concerns, check, broken, kept } in RULES {
        assert!(concerns(broken.0) && concerns(kept.0), "`{name}` is not about its own samples");
        assert!(!check(broken.0, broken.1).is_empty(), "`{name}` did not catch {broken:?}");
        assert_eq!(check(kept.0, kept.1), Vec::<String>::new(), "`{name}` caught {kept:?}");
    }
}

#[test]
fn migrations_never_change() {
    let golden = fs::read_to_string(MIGRATION_DIGESTS).expect("the golden file");
    let complaints = migration_complaints(&golden, &migrations());
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn a_changed_a_new_and_a_lost_migration_are_each_caught() {
    let golden = format!("{}  migrations/V1__a.sql\n{}  migrations/V2__b.sql\n", sha256(b"a"), sha256(b"b"));
    let found = |files: &[(&str, &str)]| {
        let files: Vec<_> = files.iter().map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec())).collect();
        migration_complaints(&golden, &files).len()
    };
    let (first, second) = (("migrations/V1__a.sql", "a"), ("migrations/V2__b.sql", "b"));
    assert_eq!(found(&[first, second]), 0);
    assert_eq!(found(&[("migrations/V1__a.sql", "changed"), second]), 1);
    assert_eq!(found(&[first, second, ("migrations/V3__c.sql", "c")]), 1);
    assert_eq!(found(&[first]), 1);
}

#[test]
fn layers_are_read_from_every_way_to_name_a_module() {
    let caught = |path: &str, text: &str| layering(path, text).len();
    assert_eq!(caught("src/domain.rs", "fn a() { crate::telemetry::init() }"), 1);
    assert_eq!(caught("src/domain.rs", "use crate::{config, domain::{ids, log}, secret::Secret};"), 2);
    assert_eq!(caught("src/domain/a.rs", "pub(crate) fn a() {} // crate::http"), 0);
    assert_eq!(caught("src/command/mint.rs", "use crate::http::Problem;"), 1);
    assert_eq!(caught("src/http/a.rs", "use crate::unheard_of::Thing;"), 1);
    assert_eq!(caught("src/unheard_of.rs", ""), 1);
    assert_eq!(caught("src/lib.rs", "use crate::http;"), 0);
}

/// The files of this repository, as far as git knows of them.
fn tracked() -> Vec<String> {
    let output = Command::new("git").args(["ls-files", "--cached", "--others", "--exclude-standard"]).output();
    let output = output.expect("git, which the repository was cloned with");
    assert!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    let files: Vec<_> = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    assert!(files.iter().any(|file| file == "Cargo.toml"), "git lists no Cargo.toml");
    files
}

fn is_rust(path: &str) -> bool {
    Path::new(path).extension().is_some_and(|extension| extension == "rs")
}

fn is_sql(path: &str) -> bool {
    Path::new(path).extension().is_some_and(|extension| extension == "sql")
}

fn opening(_: &str, text: &str) -> Vec<String> {
    if text.starts_with("//! ") { Vec::new() } else { vec!["begin with a line `//! what it is for`".to_owned()] }
}

fn length(_: &str, text: &str) -> Vec<String> {
    let lines = text.lines().count();
    if lines <= LINES_MAX {
        return Vec::new();
    }
    vec![format!("{lines} lines, of at most {LINES_MAX} and better 500; find the seam and split it")]
}

fn module_name(path: &str, _: &str) -> Vec<String> {
    const BANNED: [&str; 8] = ["util", "utils", "helper", "helpers", "common", "misc", "shared", "mod"];
    let parts = path.trim_end_matches(".rs").split('/');
    parts.filter(|part| BANNED.contains(part)).map(|part| format!("`{part}` says nothing; name what it does")).collect()
}

fn left_for_later(_: &str, text: &str) -> Vec<String> {
    let pattern = concat!(r"\b(TO", "DO|FIX", r"ME|XX", r"X)\b|\bdb", r"g!");
    matches(pattern, text, "do it, or file an issue and leave it out")
}

fn ignored_test(_: &str, text: &str) -> Vec<String> {
    let pattern = concat!(r"#\[\s*(ig", "nore|should_", "panic)");
    matches(pattern, text, "a test runs or does not exist, and says what it expects")
}

/// The reader of entries tells names by their place in the list of a struct's, in which serde puts other names too.
fn field_alias(_: &str, text: &str) -> Vec<String> {
    matches(concat!(r"serde\(.*\bal", r"ias\b"), text, "a schema is frozen: a new name is a new schema")
}

fn machine_path(_: &str, text: &str) -> Vec<String> {
    matches(concat!(r"(?m)(^|[^\w./-])/(wo", "rk|ro", "ot)/"), text, "this path exists on one machine only")
}

fn matches(pattern: &str, text: &str, remedy: &str) -> Vec<String> {
    let regex = Regex::new(pattern).expect("a pattern");
    let found = text.lines().enumerate().filter(|(_, line)| regex.is_match(line));
    found.map(|(index, line)| format!("line {}: `{}`: {remedy}", index + 1, line.trim())).collect()
}

fn layering(path: &str, text: &str) -> Vec<String> {
    let module = path.trim_start_matches("src/").split(['/', '.']).next().unwrap_or_default();
    if matches!(module, "main" | "lib") {
        return Vec::new();
    }
    let Some(place) = LAYERS.iter().position(|(name, _)| *name == module) else {
        return vec![format!("`{module}` has no place in LAYERS of tests/tidy.rs; give it one")];
    };
    let allowed = |used: &str| match LAYERS[place].1 {
        Some(only) => only.contains(&used),
        None => LAYERS[place + 1..].iter().any(|(name, _)| *name == used),
    };
    let mut used = used_modules(text);
    used.sort_unstable();
    used.dedup();
    let wrong = used.into_iter().filter(|used| used != module && !allowed(used));
    wrong.map(|used| format!("`{module}` must not use `{used}`, see LAYERS in tests/tidy.rs")).collect()
}

/// The names that follow `crate::`, alone or in braces, outside of comments.
fn used_modules(text: &str) -> Vec<String> {
    let code: Vec<_> = text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect();
    let code = code.join("\n");
    let mut used = Vec::new();
    for (_, rest) in code.match_indices("crate::").map(|(start, found)| code.split_at(start + found.len())) {
        let Some(group) = rest.strip_prefix('{') else {
            used.push(leading_name(rest));
            continue;
        };
        let (mut depth, mut expects_name) = (1, true);
        for (index, char) in group.char_indices() {
            match char {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => expects_name = true,
                char if expects_name && char.is_ascii_lowercase() => {
                    used.push(leading_name(&group[index..]));
                    expects_name = false;
                }
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
    }
    used
}

fn leading_name(text: &str) -> String {
    text.chars().take_while(|char| char.is_ascii_alphanumeric() || *char == '_').collect()
}

fn sql_case(_: &str, text: &str) -> Vec<String> {
    let pattern = r"\b(SELECT|INSERT|UPDATE|DELETE|CREATE|ALTER|DROP|GRANT|REVOKE|FROM|WHERE|VALUES|RETURNING|WITH|TABLE|FUNCTION|TRIGGER|BEGIN|END|NOT|NULL|AND|OR|PRIMARY|KEY|REFERENCES|CONSTRAINT|INDEX|VIEW|ORDER|GROUP|JOIN)\b";
    matches(pattern, &sql_code(text), "write keywords in lower case")
}

fn sql_statements(_: &str, text: &str) -> Vec<String> {
    let count = sql_code(text).split(';').filter(|part| !part.trim().is_empty()).count();
    if count <= 1 { Vec::new() } else { vec![format!("{count} statements; give each a file of its own")] }
}

/// SQL without its comments, texts and quoted names. Bodies of functions stay: they are SQL too.
fn sql_code(text: &str) -> String {
    let regex = Regex::new(r#"(?s)--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|"[^"]*""#).expect("a pattern");
    // As many line ends as before, so that complaints name the right line.
    regex.replace_all(text, |found: &regex::Captures<'_>| "\n".repeat(found[0].matches('\n').count())).into_owned()
}

fn migrations() -> Vec<(String, Vec<u8>)> {
    let paths = tracked().into_iter().filter(|path| path.starts_with("migrations/") && is_sql(path));
    paths.map(|path| (path.clone(), fs::read(&path).unwrap_or_default())).collect()
}

fn migration_complaints(golden: &str, migrations: &[(String, Vec<u8>)]) -> Vec<String> {
    let known: Vec<_> = golden.lines().filter_map(|line| line.split_once("  ")).collect();
    let changed = migrations.iter().filter_map(|(path, content)| match known.iter().find(|(_, name)| name == path) {
        Some((digest, _)) if *digest == sha256(content) => None,
        Some(_) => {
            Some(format!("{path} has changed, but databases that ran it will not run it again: write a new one"))
        }
        None => Some(format!("{path} is new; once it is final, run: sha256sum {path} >> {MIGRATION_DIGESTS}")),
    });
    let lost = known.iter().filter(|(_, name)| migrations.iter().all(|(path, _)| path != name));
    changed.chain(lost.map(|(_, name)| format!("{name} is gone, but databases still name it: bring it back"))).collect()
}

fn sha256(content: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, content);
    let pairs: Vec<_> = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    pairs.concat()
}
