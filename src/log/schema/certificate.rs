//! Certificates of nodes on disk. A fingerprint is 64 hexadecimal digits.
//!
//! 2026-11-22: `tls_certificate.served`, schema 1.

use serde::{Deserialize, Serialize};

use super::Frozen;
use crate::domain::certificate::{CertificateOrigin, CertificateServed};
use crate::domain::event::Event;
use crate::log::entry::EntryError;
use crate::log::text::Text;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ServedV1<'a> {
    #[serde(borrow)]
    fingerprint: Text<'a>,
    #[serde(borrow)]
    node: Text<'a>,
    #[serde(borrow)]
    not_after: Text<'a>,
    #[serde(borrow)]
    origin: Text<'a>,
}

impl<'a> ServedV1<'a> {
    pub(super) fn new(served: &'a CertificateServed) -> Result<Self, EntryError> {
        Ok(Self {
            fingerprint: Text::of(&served.fingerprint),
            node: Text::borrowed(&served.node),
            not_after: Text::time(served.not_after, "not_after")?,
            origin: Text::borrowed(served.origin.as_str()),
        })
    }

    pub(super) fn served(&self) -> Result<Event, EntryError> {
        let known = CertificateOrigin::ALL.into_iter().find(|origin| origin.as_str() == self.origin.as_str());
        Ok(Event::TlsCertificateServed(CertificateServed {
            node: self.node.to_shared(),
            fingerprint: self.fingerprint.parse("fingerprint")?,
            not_after: self.not_after.parse_time("not_after")?,
            origin: known.ok_or(EntryError::Malformed { field: "origin" })?,
        }))
    }
}

impl<'a> Frozen<'a> for ServedV1<'a> {
    fn subject(&self) -> (&'static str, &str) {
        ("node", self.node.as_str())
    }
}
