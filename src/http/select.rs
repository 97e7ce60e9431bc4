//! What a request selects: the criteria of plans and scopes. A credential of which only a part is known is looked up here,
//! so that what is decided, and what stands in the log, names it whole.

use secrecy::{ExposeSecret as _, SecretString};

use self::credential::FoundCredential;
use super::App;
use super::body::moment_if;
use super::page::scanned;
use super::problem::Problem;
use crate::command::mint;
use crate::domain::ids::ID_DIGITS;
use crate::domain::plan::{CRITERIA_MAX, Criterion, NotACriterion, Selector};
use crate::domain::roll::Roll;

pub(super) mod credential;

/// Ids begin with the time of their making: so many digits tell half a minute.
pub(super) const FRAGMENT_DIGITS_MIN: usize = 6;
/// Of the credentials that a fragment may mean, so many are named.
const MATCHES_SHOWN: usize = 20;
const FRAGMENT: &str = "credential:";

/// What a request says of what it selects.
pub(super) struct Asked<'a> {
    pub(super) select: &'a [String],
    /// A whole credential, beside it.
    pub(super) credential: Option<&'a SecretString>,
    pub(super) since: Option<&'a str>,
    pub(super) before: Option<&'a str>,
}

/// The criteria of a request, and what its credential was found to be.
pub(super) async fn selector(app: &App, asked: Asked<'_>) -> Result<(Selector, Option<FoundCredential>), Problem> {
    let Asked { select, credential, since, before } = asked;
    if select.len() > CRITERIA_MAX {
        return Err(Problem::invalid("select", format!("at most {CRITERIA_MAX} criteria")));
    }
    let (since, before) = (moment_if("since", since)?, moment_if("before", before)?);
    let (mut all, mut found) = (Vec::new(), None);
    if let Some(credential) = credential {
        let (snapshot, keys, text) = (app.node().snapshot(), app.node().keys().clone(), credential.clone());
        let look = move || self::credential::found(&keys, &snapshot, text.expose_secret(), mint::now());
        let (criteria, shown) = scanned(app.node().snapshot().roll.key_count(), look).await?;
        if criteria.len() + select.len() > CRITERIA_MAX {
            let detail =
                format!("{} keys have this value, more than can be named at once: select their pool", criteria.len());
            return Err(Problem::invalid("credential", detail));
        }
        all.extend(criteria);
        found = Some(shown);
    }
    all.extend(if select.iter().any(|text| text.starts_with(FRAGMENT)) {
        let (snapshot, select) = (app.node().snapshot(), select.to_vec());
        scanned(snapshot.roll.key_count(), move || criteria(&snapshot.roll, &select)).await?
    } else {
        criteria(&app.node().snapshot().roll, select)?
    });
    let selector = Selector::new(all, since, before).map_err(|error| Problem::invalid("select", error.to_string()))?;
    Ok((selector, found))
}

fn criteria(roll: &Roll, select: &[String]) -> Result<Vec<Criterion>, Problem> {
    let read = |text: &String| match text.strip_prefix(FRAGMENT) {
        Some(fragment) => by_fragment(roll, fragment),
        None => text.parse().map_err(|error: NotACriterion| Problem::invalid("select", error.to_string())),
    };
    select.iter().map(read).collect()
}

/// The one credential that is meant. What was sent is not repeated: it may be more than the public part.
fn by_fragment(roll: &Roll, fragment: &str) -> Result<Criterion, Problem> {
    let is_fragment = (FRAGMENT_DIGITS_MIN..=ID_DIGITS).contains(&fragment.len())
        && fragment.bytes().all(|digit| digit.is_ascii_alphanumeric());
    if !is_fragment {
        let detail = format!(
            "after `{FRAGMENT}` the first {FRAGMENT_DIGITS_MIN} to {ID_DIGITS} digits of the credential's public id; never its \
             secret part, which has leaked now if it was sent"
        );
        return Err(Problem::invalid("select", detail));
    }
    let mut found = roll.credentials_beginning_with(fragment);
    // Several keys of one operator mean the same.
    found.sort();
    found.dedup();
    match found.len() {
        0 => Err(Problem::not_found("there is no credential whose public id begins so")),
        1 => Ok(found.remove(0)),
        count => {
            let shown: Vec<String> = found.iter().take(MATCHES_SHOWN).map(ToString::to_string).collect();
            let rest = if count > MATCHES_SHOWN { ", and more" } else { "" };
            let detail =
                format!("{count} credentials begin so, give more digits or select one of {}{rest}", shown.join(", "));
            Err(Problem::invalid("select", detail))
        }
    }
}
