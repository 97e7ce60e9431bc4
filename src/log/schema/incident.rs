//! Events of incidents on disk.
//!
//! 2026-11-22: `incident.opened`, `.updated`, `.noted`, `.reviewed`, `.step_done`, `.step_waived`, `.step_reopened` and
//! `.closed`, schema 1.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Frozen;
use crate::domain::event::{Event, IncidentOpened};
use crate::domain::ids::IncidentId;
use crate::domain::incident::{Description, StepTemplate};
use crate::domain::plan::{Criterion, Selector};
use crate::log::entry::EntryError;
use crate::log::text::{Text, optional};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OpenedV1<'a> {
    #[serde(borrow)]
    checklist: Vec<StepTemplateV1<'a>>,
    #[serde(borrow)]
    description: DescriptionV1<'a>,
    drill: bool,
    #[serde(borrow)]
    incident: Text<'a>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DescriptionV1<'a> {
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    first_sign: Option<Text<'a>>,
    #[serde(borrow)]
    people: Vec<Text<'a>>,
    /// In the order of the domain, each once.
    #[serde(borrow)]
    scope: Vec<Text<'a>>,
    #[serde(borrow)]
    severity: Text<'a>,
    #[serde(borrow)]
    title: Text<'a>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StepTemplateV1<'a> {
    #[serde(borrow)]
    id: Text<'a>,
    #[serde(borrow)]
    needs: Vec<Vec<Text<'a>>>,
    #[serde(borrow)]
    title: Text<'a>,
}

/// The whole of what can be updated: what is absent is none from now on.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UpdatedV1<'a> {
    #[serde(borrow)]
    description: DescriptionV1<'a>,
    #[serde(borrow)]
    incident: Text<'a>,
}

/// What somebody has written: a note, a finding, or the summary at the end.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ToldV1<'a> {
    #[serde(borrow)]
    incident: Text<'a>,
    #[serde(borrow)]
    text: Text<'a>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StepV1<'a> {
    #[serde(borrow)]
    incident: Text<'a>,
    #[serde(borrow)]
    step: Text<'a>,
}

impl<'a> DescriptionV1<'a> {
    fn new(description: &'a Description) -> Result<Self, EntryError> {
        Ok(Self {
            first_sign: Text::time_if(description.first_sign, "first_sign")?,
            people: description.people.iter().map(|person| Text::borrowed(person)).collect(),
            scope: description.scope.iter().map(Text::of).collect(),
            severity: Text::borrowed(description.severity.as_str()),
            title: Text::borrowed(&description.title),
        })
    }

    fn read(&self) -> Result<Description, EntryError> {
        let scope: Vec<Criterion> = self.scope.iter().map(|text| text.parse("scope")).collect::<Result<_, _>>()?;
        // What would be written in another order is not what was written.
        let in_order = |scope: &Vec<Criterion>| {
            scope.is_empty() || Selector::new(scope.clone(), None, None).is_ok_and(|it| it.criteria() == scope)
        };
        Ok(Description {
            title: self.title.to_shared(),
            severity: self.severity.parse("severity")?,
            scope: Some(scope).filter(in_order).ok_or(EntryError::Malformed { field: "scope" })?,
            people: self.people.iter().map(Text::to_shared).collect(),
            first_sign: optional(self.first_sign.as_ref(), |at| at.parse_time("first_sign"))?,
        })
    }
}

impl<'a> StepTemplateV1<'a> {
    fn new(step: &'a StepTemplate) -> Self {
        let group = |group: &'a Vec<Arc<str>>| group.iter().map(|kind| Text::borrowed(kind)).collect();
        Self {
            id: Text::borrowed(&step.id),
            needs: step.needs.iter().map(group).collect(),
            title: Text::borrowed(&step.title),
        }
    }

    fn read(&self) -> StepTemplate {
        StepTemplate {
            id: self.id.to_shared(),
            title: self.title.to_shared(),
            needs: self.needs.iter().map(|group| group.iter().map(Text::to_shared).collect()).collect(),
        }
    }
}

impl<'a> OpenedV1<'a> {
    pub(super) fn new(opened: &'a IncidentOpened) -> Result<Self, EntryError> {
        Ok(Self {
            checklist: opened.checklist.iter().map(StepTemplateV1::new).collect(),
            description: DescriptionV1::new(&opened.description)?,
            drill: opened.drill,
            incident: Text::borrowed(opened.incident.as_str()),
        })
    }

    pub(super) fn opened(&self) -> Result<Event, EntryError> {
        Ok(Event::IncidentOpened(IncidentOpened {
            incident: self.incident.parse("incident")?,
            description: self.description.read()?,
            drill: self.drill,
            checklist: self.checklist.iter().map(StepTemplateV1::read).collect(),
        }))
    }
}

impl<'a> UpdatedV1<'a> {
    pub(super) fn new(incident: &'a IncidentId, description: &'a Description) -> Result<Self, EntryError> {
        Ok(Self { description: DescriptionV1::new(description)?, incident: Text::borrowed(incident.as_str()) })
    }

    pub(super) fn updated(&self) -> Result<Event, EntryError> {
        Ok(Event::IncidentUpdated { incident: self.incident.parse("incident")?, description: self.description.read()? })
    }
}

impl<'a> ToldV1<'a> {
    pub(super) fn new(incident: &'a IncidentId, text: &'a str) -> Self {
        Self { incident: Text::borrowed(incident.as_str()), text: Text::borrowed(text) }
    }

    pub(super) fn noted(&self) -> Result<Event, EntryError> {
        Ok(Event::IncidentNoted { incident: self.incident.parse("incident")?, note: self.text.to_shared() })
    }

    pub(super) fn reviewed(&self) -> Result<Event, EntryError> {
        Ok(Event::IncidentReviewed { incident: self.incident.parse("incident")?, finding: self.text.to_shared() })
    }

    pub(super) fn closed(&self) -> Result<Event, EntryError> {
        Ok(Event::IncidentClosed { incident: self.incident.parse("incident")?, summary: self.text.to_shared() })
    }
}

impl<'a> StepV1<'a> {
    pub(super) fn new(incident: &'a IncidentId, step: &'a str) -> Self {
        Self { incident: Text::borrowed(incident.as_str()), step: Text::borrowed(step) }
    }

    pub(super) fn done(&self) -> Result<Event, EntryError> {
        Ok(Event::IncidentStepDone { incident: self.incident.parse("incident")?, step: self.step.to_shared() })
    }

    pub(super) fn waived(&self) -> Result<Event, EntryError> {
        Ok(Event::IncidentStepWaived { incident: self.incident.parse("incident")?, step: self.step.to_shared() })
    }

    pub(super) fn reopened(&self) -> Result<Event, EntryError> {
        Ok(Event::IncidentStepReopened { incident: self.incident.parse("incident")?, step: self.step.to_shared() })
    }
}

impl<'a> Frozen<'a> for OpenedV1<'a> {
    fn subject(&self) -> (&'static str, &str) {
        ("incident", self.incident.as_str())
    }
}

impl<'a> Frozen<'a> for UpdatedV1<'a> {
    fn subject(&self) -> (&'static str, &str) {
        ("incident", self.incident.as_str())
    }
}

impl<'a> Frozen<'a> for ToldV1<'a> {
    fn subject(&self) -> (&'static str, &str) {
        ("incident", self.incident.as_str())
    }
}

impl<'a> Frozen<'a> for StepV1<'a> {
    fn subject(&self) -> (&'static str, &str) {
        ("incident", self.incident.as_str())
    }
}
