//! A worker's labels on disk: an object of texts, in the order that RFC 8785 wants.
//!
//! 2026-11-22: first.

use std::fmt;
use std::sync::Arc;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::domain::worker::Labels;
use crate::log::canonical::order;
use crate::log::text::Text;

/// Pairs, in the order that they are written in. The reader has seen to it that no name comes twice.
pub(super) struct LabelsV1<'a>(Vec<(Text<'a>, Text<'a>)>);

impl<'a> LabelsV1<'a> {
    pub(super) fn new(labels: &'a Labels) -> Self {
        let pair = |(name, value): (&'a Arc<str>, &'a Arc<str>)| (Text::borrowed(name), Text::borrowed(value));
        let mut pairs: Vec<_> = labels.iter().map(pair).collect();
        pairs.sort_by(|(a, _), (b, _)| order(a.as_str(), b.as_str()));
        Self(pairs)
    }

    pub(super) fn read(&self) -> Labels {
        self.0.iter().map(|(name, value)| (name.to_shared(), value.to_shared())).collect()
    }
}

impl Serialize for LabelsV1<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for LabelsV1<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;

        impl<'de> Visitor<'de> for Pairs {
            type Value = LabelsV1<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of texts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<LabelsV1<'de>, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(LabelsV1(pairs))
            }
        }

        deserializer.deserialize_map(Pairs)
    }
}
