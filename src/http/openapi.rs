//! The OpenAPI document, and the pages that show it. Nothing of them comes from another server.

use axum::Router;
use utoipa::OpenApi;
use utoipa::openapi::OpenApi as Spec;
use utoipa_swagger_ui::SwaggerUi;

use super::foreseen::Foreseen;
use super::problem::ProblemBody;
use super::{App, schema};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Portcullis",
        description = "The gatehouse of a fleet of workers: lets them in, hands them short-lived tokens, rotates, revokes \
                       and isolates, and records every change as an event.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    modifiers(&Schemes),
    components(schemas(Foreseen)),
    security(("bearer" = [])),
)]
pub(super) struct Document;

/// The ways to show a credential.
struct Schemes;

impl utoipa::Modify for Schemes {
    fn modify(&self, document: &mut Spec) {
        use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, HttpBuilder, SecurityScheme};
        let enrollment = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("An enrollment secret"));
        let schemes = [
            ("bearer", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer))),
            ("basic", SecurityScheme::Http(Http::new(HttpAuthScheme::Basic))),
            ("api_key", SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new("X-Api-Key")))),
            ("enrollment_secret", SecurityScheme::Http(enrollment.build())),
        ];
        let components = document.components.get_or_insert_default();
        for (name, scheme) in schemes {
            components.add_security_scheme(name, scheme);
        }
    }
}

/// The headers of a command: what makes it safe to repeat, and what it is for.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "read by `body::Asked`; here it is documented")]
pub(super) struct IdempotencyKey {
    /// 1 to 255 visible ASCII characters, such as a UUID. The same key again gets the first answer, for the same request.
    #[param(rename = "Idempotency-Key", required = false, schema_with = schema::idempotency_key)]
    idempotency_key: Option<String>,
    /// The incident that this is done for: what comes of it carries that, and fills its checklist. An operator's alone.
    #[param(rename = "Portcullis-Incident", required = false, schema_with = schema::chosen_id)]
    portcullis_incident: Option<String>,
}

/// The same for those who are no operators.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "read by `body::Asked`; here it is documented")]
pub(super) struct OwnIdempotencyKey {
    /// 1 to 255 visible ASCII characters, such as a UUID. The same key again gets the first answer, for the same request.
    #[param(rename = "Idempotency-Key", required = false, schema_with = schema::idempotency_key)]
    idempotency_key: Option<String>,
}

/// Why something is removed: a DELETE has no body to say it in.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "read by `query::Pairs`; here it is documented")]
pub(super) struct Reason {
    /// Why, for the log.
    #[param(schema_with = schema::reason, required = false)]
    reason: Option<String>,
}

/// Until when to wait with the answer.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "read by `waiting::Wait`; here it is documented")]
pub(super) struct WaitQuery {
    /// `everywhere`: answer when the change is in force on every node, and name them in `in_force`. A node that cannot
    /// confirm is waited out: then it refuses by itself.
    #[param(schema_with = schema::wait, required = false)]
    wait: Option<String>,
    /// With `wait=everywhere`: for how long, 10s unless given. After it the answer is 504, and the change stands.
    #[param(schema_with = schema::wait_timeout, required = false)]
    timeout: Option<String>,
}

/// Every read of our own API can be asked for a state that is new enough.
pub(super) fn with_at_least(document: &mut Spec) {
    use utoipa::openapi::Required;
    use utoipa::openapi::path::{ParameterBuilder, ParameterIn};
    let paths = document.paths.paths.iter_mut().filter(|(path, _)| path.starts_with("/v1/"));
    // A verdict is of the newest state or none: it waits for nothing.
    let paths = paths.filter(|(path, _)| *path != "/v1/check");
    for operation in paths.filter_map(|(_, item)| item.get.as_mut()) {
        let at_least = ParameterBuilder::new()
            .name("at_least")
            .parameter_in(ParameterIn::Query)
            .required(Required::False)
            .description(Some("Wait until the node holds this position; 504 where it does not in time."))
            .schema(Some(schema::position()))
            .build();
        operation.parameters.get_or_insert_default().push(at_least.into());
    }
}

/// What any operation may answer beside its own.
#[derive(utoipa::IntoResponses)]
#[expect(dead_code, reason = "documentation")]
pub(super) enum Refusals {
    /// The request is not as it should be; `field` says where
    #[response(status = 400, content_type = "application/problem+json")]
    Invalid(#[to_schema] ProblemBody<'static>),
    /// The credential is missing or not accepted
    #[response(status = 401, content_type = "application/problem+json")]
    Unauthorized(#[to_schema] ProblemBody<'static>),
    /// The caller's role does not allow it
    #[response(status = 403, content_type = "application/problem+json")]
    Forbidden(#[to_schema] ProblemBody<'static>),
    /// There is no such thing
    #[response(status = 404, content_type = "application/problem+json")]
    NotFound(#[to_schema] ProblemBody<'static>),
    /// The body did not arrive in time
    #[response(status = 408, content_type = "application/problem+json")]
    BodyTimeout(#[to_schema] ProblemBody<'static>),
    /// The state does not allow it; `code` says why
    #[response(status = 409, content_type = "application/problem+json")]
    Conflict(#[to_schema] ProblemBody<'static>),
    /// The command was carried out before, and its secret is kept no more
    #[response(status = 410, content_type = "application/problem+json")]
    Gone(#[to_schema] ProblemBody<'static>),
    /// The body is too large
    #[response(status = 413, content_type = "application/problem+json")]
    TooLarge(#[to_schema] ProblemBody<'static>),
    /// The body is of another type
    #[response(status = 415, content_type = "application/problem+json")]
    MediaType(#[to_schema] ProblemBody<'static>),
    /// The Idempotency-Key was used for another request
    #[response(status = 422, content_type = "application/problem+json")]
    KeyReused(#[to_schema] ProblemBody<'static>),
    /// Too many failed attempts
    #[response(status = 429, content_type = "application/problem+json")]
    TooMany(#[to_schema] ProblemBody<'static>),
    /// The service failed
    #[response(status = 500, content_type = "application/problem+json")]
    Internal(#[to_schema] ProblemBody<'static>),
    /// The node is not current (`stale`, `stopped`), the log cannot be written (`log_unavailable`), too many commands wait
    /// (`queue_full`) or too many reads (`database_busy`); try again after as long as `Retry-After` says
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(#[to_schema] ProblemBody<'static>),
    /// The answer took too long
    #[response(status = 504, content_type = "application/problem+json")]
    Timeout(#[to_schema] ProblemBody<'static>),
}

/// Names each operation by its method and path. Left alone they would be named by their functions, of which many are called
/// `list`; and a name that stands twice makes a generated client of half of the operations.
pub(super) fn name_operations(document: &mut Spec) {
    for (path, item) in &mut document.paths.paths {
        let words: Vec<&str> =
            path.split(|char: char| !char.is_ascii_alphanumeric()).filter(|it| !it.is_empty()).collect();
        let operations = [
            ("get", &mut item.get),
            ("post", &mut item.post),
            ("put", &mut item.put),
            ("patch", &mut item.patch),
            ("delete", &mut item.delete),
        ];
        for (method, operation) in operations {
            if let Some(operation) = operation {
                operation.operation_id = Some(format!("{method}_{}", words.join("_")));
            }
        }
    }
}

/// `/openapi.json`, and `/docs` for people.
pub(super) fn pages(document: &Spec) -> Router<App> {
    SwaggerUi::new("/docs").url("/openapi.json", document.clone()).into()
}

#[cfg(test)]
mod tests {
    use crate::http::document;

    #[test]
    fn every_operation_has_a_name_of_its_own() {
        let document = serde_json::to_value(document()).unwrap();
        let items = document["paths"].as_object().unwrap().values().flat_map(|item| item.as_object().unwrap().values());
        let mut names: Vec<&str> = items.map(|operation| operation["operationId"].as_str().unwrap()).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all, "{names:?}");
    }
}
