//! The links of the OpenAPI document: what can be done next with what an operation has just made.
//!
//! A client that is generated from the document can follow them, and so does schemathesis, which tries out a thing's whole
//! life along them.

use utoipa::openapi::link::Link;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::{OpenApi, RefOr};

/// The name of a link, and the operation that it leads to.
type Next = (&'static str, &'static str, &'static str);

/// The operation that makes something, the parameter by which others name it, and these others.
type Made = (&'static str, &'static str, &'static str, &'static [Next]);

const KEY: &[Next] = &[
    ("key", "get", "/v1/keys/{id}"),
    ("rotate", "post", "/v1/keys/{id}/rotate"),
    ("revoke", "post", "/v1/keys/{id}/revoke"),
];
const ENROLLMENT_SECRET: &[Next] = &[
    ("enrollment_secret", "get", "/v1/enrollment-secrets/{id}"),
    ("rotate", "post", "/v1/enrollment-secrets/{id}/rotate"),
    ("disable", "post", "/v1/enrollment-secrets/{id}/disable"),
];
const MADE: &[Made] = &[
    (
        "post",
        "/v1/pools",
        "pool",
        &[
            ("pool", "get", "/v1/pools/{pool}"),
            ("update", "patch", "/v1/pools/{pool}"),
            ("remove", "delete", "/v1/pools/{pool}"),
        ],
    ),
    (
        "post",
        "/v1/workers",
        "id",
        &[
            ("worker", "get", "/v1/workers/{id}"),
            ("update", "patch", "/v1/workers/{id}"),
            ("remove", "delete", "/v1/workers/{id}"),
            ("create_key", "post", "/v1/workers/{id}/keys"),
            ("keys", "get", "/v1/workers/{id}/keys"),
            ("isolate", "post", "/v1/workers/{id}/isolate"),
            ("release", "post", "/v1/workers/{id}/release"),
        ],
    ),
    ("post", "/v1/workers/{id}/keys", "id", KEY),
    ("post", "/v1/keys/{id}/rotate", "id", KEY),
    ("post", "/v1/enrollment-secrets", "id", ENROLLMENT_SECRET),
    ("post", "/v1/enrollment-secrets/{id}/rotate", "id", ENROLLMENT_SECRET),
    (
        "post",
        "/v1/operators",
        "id",
        &[
            ("operator", "get", "/v1/operators/{id}"),
            ("update", "patch", "/v1/operators/{id}"),
            ("remove", "delete", "/v1/operators/{id}"),
            ("create_key", "post", "/v1/operators/{id}/keys"),
            ("keys", "get", "/v1/operators/{id}/keys"),
        ],
    ),
    ("post", "/v1/operators/{id}/keys", "id", KEY),
    ("post", "/v1/honey-keys", "id", &[("remove", "delete", "/v1/honey-keys/{id}")]),
];

/// Puts the links on the answers that say what was made.
pub(super) fn add(document: &mut OpenApi) {
    for (method, path, parameter, next) in MADE {
        let operation = document.paths.paths.get_mut(*path).and_then(|item| operation(item, method));
        let Some(operation) = operation else { continue };
        let answers = operation.responses.responses.iter_mut().filter(|(status, _)| status.starts_with('2'));
        for answer in answers.filter_map(|(_, answer)| if let RefOr::T(answer) = answer { Some(answer) } else { None })
        {
            for (name, method, path) in *next {
                answer.links.insert((*name).to_owned(), RefOr::T(link(method, path, parameter)));
            }
        }
    }
}

fn link(method: &str, path: &str, parameter: &str) -> Link {
    let pointer = path.replace('~', "~0").replace('/', "~1");
    Link::builder()
        .operation_ref(format!("#/paths/{pointer}/{method}"))
        .parameter(parameter, "$response.body#/id")
        .build()
}

fn operation<'d>(item: &'d mut PathItem, method: &str) -> Option<&'d mut Operation> {
    match method {
        "get" => item.get.as_mut(),
        "post" => item.post.as_mut(),
        "patch" => item.patch.as_mut(),
        "delete" => item.delete.as_mut(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::document;

    /// A link to an operation that was renamed would only be found by those who follow it.
    #[test]
    fn every_link_comes_from_an_operation_and_leads_to_one() {
        let document = serde_json::to_value(document()).unwrap();
        for (method, path, parameter, next) in MADE {
            let links = &document["paths"][path][*method]["responses"]["201"]["links"];
            for (name, method, path) in *next {
                let pointer = links[name]["operationRef"].as_str().unwrap().strip_prefix('#').unwrap();
                let operation = document.pointer(pointer).unwrap_or_else(|| panic!("{pointer}"));
                assert_eq!(operation, &document["paths"][path][*method], "{name}");
                let parameters = operation["parameters"].as_array().unwrap();
                assert!(parameters.iter().any(|it| it["name"] == *parameter && it["in"] == "path"), "{pointer}");
            }
        }
    }
}
