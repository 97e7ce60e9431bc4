//! What a webhook looks like.

use serde_json::json;
use utoipa::openapi::schema::{Array, Object, SchemaFormat};

use super::{array_or_null, one_of, or_null, text};
use crate::domain::webhook::{KINDS, URL_CHARS_MAX};

/// Where messages may go is more than a pattern can say: see `webhook::target`.
pub(in crate::http) fn webhook_url() -> Object {
    let url = text().max_length(Some(URL_CHARS_MAX)).format(Some(SchemaFormat::Custom("uri".to_owned())));
    url.examples([json!("https://hooks.example.org/in")]).build()
}

pub(in crate::http) fn webhook_url_or_null() -> Object {
    or_null(webhook_url())
}

pub(in crate::http) fn webhook_kinds_or_null() -> Array {
    let mut kinds = array_or_null(one_of(KINDS), KINDS.len());
    kinds.min_items = Some(1);
    kinds
}

pub(in crate::http) fn webhook_outcome() -> Object {
    one_of(["delivered", "failed"])
}
