//! The templates of checklists: a default that every service has, and what a file adds or puts in its place.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::domain::incident::{ChecklistError, StepTemplate, check_checklist};
use crate::log::schema::KINDS;

/// The template of incidents that name none.
pub const DEFAULT: &str = "default";

/// A file of templates is written by hand; a larger one is some other file.
const FILE_BYTES_MAX: u64 = 256 * 1024;

/// The default, in the form of a file: whoever writes another begins with it.
const BUILT_IN: &str = include_str!("checklists/default.json");

/// What is told to whoever writes something else.
const EXAMPLE: &str =
    r#"{"templates": {"leak": [{"id": "call", "title": "Call the owner", "filled_by": [["worker.isolated"]]}]}}"#;

/// Checklists by their names.
#[derive(Clone, Debug)]
pub struct Checklists(BTreeMap<String, Vec<StepTemplate>>);

#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    #[error("`--incident-templates`: cannot read {}: {source}; name a file that the service can read", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("`--incident-templates`: {} is larger than {FILE_BYTES_MAX} bytes; name a file of templates alone", .0.display())]
    TooLarge(PathBuf),
    #[error("`--incident-templates`: {} is not as expected: {source}; write it as `{EXAMPLE}`", path.display())]
    Malformed { path: PathBuf, source: serde_json::Error },
    #[error("`--incident-templates`: template `{template}`: {source}")]
    Checklist { template: String, source: ChecklistError },
    #[error(
        "`--incident-templates`: template `{template}`: there is no kind of event `{kind}`; kinds are called as `portcullis \
         events list` shows them, such as `worker.isolated`"
    )]
    Kind { template: String, kind: String },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    templates: BTreeMap<String, Vec<StepOfFile>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StepOfFile {
    id: String,
    title: String,
    /// Groups of kinds of event. The step is done when there is one of each group.
    #[serde(default)]
    filled_by: Vec<Vec<String>>,
}

impl Default for Checklists {
    fn default() -> Self {
        let file: File = serde_json::from_str(BUILT_IN).expect("the default is a file of templates, as a test shows");
        Self(file.templates.into_iter().map(|(name, steps)| (name, read(steps))).collect())
    }
}

impl Checklists {
    /// The built-in ones, and those of the file. One of the same name takes the other's place.
    pub fn load(path: Option<&Path>) -> Result<Self, TemplateError> {
        let mut all = Self::default();
        let Some(path) = path else { return Ok(all) };
        let unreadable = |source| TemplateError::Unreadable { path: path.to_owned(), source };
        if fs::metadata(path).map_err(unreadable)?.len() > FILE_BYTES_MAX {
            return Err(TemplateError::TooLarge(path.to_owned()));
        }
        let text = fs::read(path).map_err(unreadable)?;
        let malformed = |source| TemplateError::Malformed { path: path.to_owned(), source };
        let file: File = serde_json::from_slice(&text).map_err(malformed)?;
        for (template, steps) in file.templates {
            let steps = read(steps);
            check(&template, &steps)?;
            all.0.insert(template, steps);
        }
        Ok(all)
    }

    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[StepTemplate]> {
        self.0.get(name).map(Vec::as_slice)
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

fn read(steps: Vec<StepOfFile>) -> Vec<StepTemplate> {
    let step = |step: StepOfFile| StepTemplate {
        id: step.id.into(),
        title: step.title.into(),
        needs: step.filled_by.into_iter().map(|group| group.into_iter().map(Into::into).collect()).collect(),
    };
    steps.into_iter().map(step).collect()
}

/// A kind that does not exist is a slip of the pen, and a step that nothing ever fills.
fn check(template: &str, steps: &[StepTemplate]) -> Result<(), TemplateError> {
    let template = || template.to_owned();
    check_checklist(steps).map_err(|source| TemplateError::Checklist { template: template(), source })?;
    let kinds = steps.iter().flat_map(|step| &step.needs).flatten();
    match kinds.into_iter().find(|kind| !KINDS.iter().any(|(known, _)| known == &&***kind)) {
        None => Ok(()),
        Some(kind) => Err(TemplateError::Kind { template: template(), kind: kind.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn load(text: &str) -> Result<Checklists, TemplateError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        Checklists::load(Some(file.path()))
    }

    #[test]
    fn the_default_is_sound_and_has_the_four_steps() {
        let all = Checklists::default();
        let steps = all.get(DEFAULT).unwrap();
        check(DEFAULT, steps).unwrap();
        let ids: Vec<&str> = steps.iter().map(|step| &*step.id).collect();
        assert_eq!(ids, ["isolate", "rotate", "restore", "review"]);
    }

    #[test]
    fn a_file_adds_templates_and_replaces_the_default() {
        let step = r#"{"id": "call", "title": "Call the owner"}"#;
        let all = load(&format!(r#"{{"templates": {{"default": [{step}], "minor": []}}}}"#)).unwrap();
        assert_eq!(all.names().collect::<Vec<_>>(), ["default", "minor"]);
        assert_eq!(all.get(DEFAULT).unwrap().len(), 1);
        assert!(load(r#"{"templates": {}}"#).unwrap().get(DEFAULT).is_some());
    }

    #[test]
    fn a_file_with_a_slip_is_refused_and_the_slip_named() {
        load(EXAMPLE).unwrap();
        let table = [
            ("[]", "not as expected"),
            (r#"{"templates": {"a": [{"id": "b", "title": "c", "filled": []}]}}"#, "unknown field"),
            (r#"{"templates": {"a": [{"id": "B", "title": "c"}]}}"#, "lower case"),
            (r#"{"templates": {"a": [{"id": "b", "title": "c"}, {"id": "b", "title": "d"}]}}"#, "two steps"),
            (r#"{"templates": {"a": [{"id": "b", "title": "c", "filled_by": [["key.stolen"]]}]}}"#, "`key.stolen`"),
        ];
        for (text, expected) in table {
            let error = load(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
