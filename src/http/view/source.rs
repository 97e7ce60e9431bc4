//! From where a key was used, as answers show it.

use serde::Serialize;
use utoipa::ToSchema;

use super::time;
use crate::http::schema;
use crate::http::validate::Address;
use crate::projection::used::Source;

/// An address that a genuine credential came from, whether or not it was accepted.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct SourceView {
    #[schema(value_type = Address)]
    address: String,
    #[schema(schema_with = schema::time)]
    first_seen_at: String,
    #[schema(schema_with = schema::time)]
    last_seen_at: String,
}

impl From<&Source> for SourceView {
    fn from(source: &Source) -> Self {
        Self {
            address: source.address.to_string(),
            first_seen_at: time(source.seen.first),
            last_seen_at: time(source.seen.last),
        }
    }
}
