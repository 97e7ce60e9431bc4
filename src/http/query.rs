//! Query strings, strict: a parameter that is unknown, repeated or wrong is refused, and the refusal names it.

use std::collections::{HashMap, HashSet};
use std::str::FromStr;

use axum::extract::{FromRequestParts, Query};
use axum::http::{Method, Uri, request::Parts};
use utoipa::openapi::path::{Operation, Parameter, ParameterIn};
use utoipa::openapi::{OpenApi, RefOr};

use super::App;
use super::foreseen::{self, DryRun};
use super::page::Paging;
use super::problem::Problem;

/// The pairs of a query string that nobody has taken yet. A handler takes those that it knows, and then calls
/// [`Pairs::end`].
#[derive(Debug)]
pub(super) struct Pairs(Vec<(String, String)>);

impl FromRequestParts<App> for Pairs {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _app: &App) -> Result<Self, Problem> {
        let mut pairs = Self::of(&parts.uri)?;
        // These are taken for every handler alike, where its operation declares them: see `waiting` and `foreseen`.
        pairs.0.retain(|(name, _)| !matches!(name.as_str(), "wait" | "timeout" | "at_least" | "dry_run"));
        Ok(pairs)
    }
}

fn pairs(uri: &Uri) -> Result<Vec<(String, String)>, Problem> {
    let Query(pairs) = Query::try_from_uri(uri).map_err(|_| Problem::malformed("the query string cannot be read"))?;
    Ok(pairs)
}

impl Pairs {
    pub(super) fn of(uri: &Uri) -> Result<Self, Problem> {
        pairs(uri).map(Self)
    }

    /// All values of a parameter that may be repeated.
    pub(super) fn all(&mut self, name: &str) -> Vec<String> {
        self.0.extract_if(.., |(key, _)| key == name).map(|(_, value)| value).collect()
    }

    /// The value of a parameter that may be given once.
    pub(super) fn one(&mut self, name: &'static str) -> Result<Option<String>, Problem> {
        let mut values = self.all(name);
        match values.len() {
            0 | 1 => Ok(values.pop()),
            _ => Err(Problem::invalid(name, "may be given once")),
        }
    }

    pub(super) fn parsed<T: FromStr>(&mut self, name: &'static str, expected: &str) -> Result<Option<T>, Problem> {
        let read = |text: String| text.parse().map_err(|_| Problem::invalid(name, expected.to_owned()));
        self.one(name)?.map(read).transpose()
    }

    pub(super) fn paging(&mut self) -> Result<Paging, Problem> {
        Ok(Paging { limit: self.parsed("limit", "a number")?, cursor: self.one("cursor")? })
    }

    /// Nothing may be left: a filter with a slip in its name would be a filter that does not filter.
    pub(super) fn end(self) -> Result<(), Problem> {
        match self.0.into_iter().next() {
            None => Ok(()),
            Some((name, _)) => Err(unknown(name)),
        }
    }
}

fn unknown(name: String) -> Problem {
    Problem::invalid(name, "there is no such query parameter here; see /docs")
}

/// The query parameters that the document declares, by operation. What it does not declare is refused, so that a handler
/// that reads no query needs not say so.
pub(super) struct Declared(HashMap<(String, Method), HashSet<String>>);

impl Declared {
    /// Only of our own API: RFC 6749 asks that its endpoints ignore what they do not know.
    pub(super) fn of(document: &OpenApi) -> Self {
        let mut declared = HashMap::new();
        for (path, item) in document.paths.paths.iter().filter(|(path, _)| path.starts_with("/v1/")) {
            let operations = [
                (Method::GET, &item.get),
                (Method::HEAD, &item.get),
                (Method::POST, &item.post),
                (Method::PUT, &item.put),
                (Method::PATCH, &item.patch),
                (Method::DELETE, &item.delete),
            ];
            for (method, operation) in operations {
                let names = operation.as_ref().map(query_names);
                declared.extend(names.map(|names| ((path.clone(), method), names)));
            }
        }
        Self(declared)
    }

    pub(super) fn check(&self, route: &str, method: &Method, uri: &Uri) -> Result<(), Problem> {
        if uri.query().is_none_or(str::is_empty) {
            return Ok(());
        }
        let Some(names) = self.0.get(&(route.to_owned(), method.clone())) else {
            // OAuth's endpoints ignore what they do not know. But who asks for a dry run must not get the real thing; where there
            // is one, the endpoint looks at that itself, and refuses in the standard's words.
            let is_deaf = route.starts_with("/oauth2/") && !foreseen::has_one(route);
            return if is_deaf && DryRun::of(uri)?.is_asked() { Err(unknown("dry_run".to_owned())) } else { Ok(()) };
        };
        match pairs(uri)?.into_iter().find(|(name, _)| !names.contains(name)) {
            None => Ok(()),
            Some((name, _)) => Err(unknown(name)),
        }
    }
}

fn query_names(operation: &Operation) -> HashSet<String> {
    let parameters = operation.parameters.iter().flatten();
    let in_query = |parameter: &RefOr<Parameter>| match parameter {
        RefOr::T(parameter) if parameter.parameter_in == ParameterIn::Query => Some(parameter.name.clone()),
        RefOr::T(_) | RefOr::Ref(_) => None,
    };
    parameters.filter_map(in_query).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Pairs {
        let uri: Uri = format!("/v1/workers?{query}").parse().unwrap();
        Pairs(pairs(&uri).unwrap())
    }

    #[test]
    fn a_parameter_is_taken_once_and_what_is_left_is_refused() {
        let mut query = read("label=a%3D1&limit=7&label=b=2&surprise");
        assert_eq!(query.all("label"), ["a=1", "b=2"]);
        assert_eq!(query.paging().unwrap().limit, Some(7));
        assert_eq!(query.end().unwrap_err().code(), "invalid");

        let table = ["limit=1&limit=2", "limit=", "limit=-1", "limit=1.0", "limit=x"];
        for text in table {
            assert!(read(text).paging().is_err(), "{text}");
        }
        assert!(read("").end().is_ok());
    }

    #[test]
    fn what_the_document_does_not_declare_is_refused() {
        let document = crate::http::document();
        let declared = Declared::of(&document);
        let table = [
            (Method::GET, "/v1/pools", "limit=1", true),
            (Method::HEAD, "/v1/pools", "limit=1", true),
            (Method::GET, "/v1/pools", "limits=1", false),
            (Method::POST, "/v1/pools", "limit=1", false),
            (Method::POST, "/v1/pools", "", true),
            (Method::DELETE, "/v1/pools/{pool}", "reason=done", true),
            (Method::GET, "/healthz", "x=1", true),
        ];
        for (method, route, query, expected) in table {
            let uri: Uri = format!("/?{query}").parse().unwrap();
            assert_eq!(declared.check(route, &method, &uri).is_ok(), expected, "{method} {route}?{query}");
        }
    }
}
