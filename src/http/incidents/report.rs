//! `GET /v1/incidents/{id}/report`: one file, from the log alone, the same each time.

use axum::extract::State;
use axum::http::{HeaderValue, Uri, header};
use axum::response::{IntoResponse, Response};
use utoipa::IntoParams;

use super::passing::{Made, Wanted, known, made};
use crate::domain::ids::IncidentId;
use crate::http::caller::{Caller, MayReadEvents};
use crate::http::openapi::Refusals;
use crate::http::path::{Id, IncidentPath};
use crate::http::problem::Problem;
use crate::http::query::Pairs;
use crate::http::{App, POSITION_HEADER, schema};
use crate::incident::report::Format;

/// Which report.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "read by `query::Pairs`; here it is documented")]
pub(in crate::http) struct ReportQuery {
    /// Markdown, unless `html` is asked for.
    #[param(schema_with = schema::report_format, required = false)]
    format: Option<String>,
    /// The last position of the log that is reported on: of a closed incident its closing, and of an open one the newest,
    /// which the answer names in `Portcullis-Position`.
    #[param(schema_with = schema::position, required = false)]
    through: Option<u64>,
}

/// Reports on an incident: timeline, checklist, counts, uses of the credentials that it ended, open risks. As one file that
/// needs no other. Where that takes longer than a request may, it is a 503 `replay_underway`, as for a replay: ask again.
#[utoipa::path(
    get, path = "/v1/incidents/{id}/report", tag = "incidents", params(IncidentPath, ReportQuery),
    responses((status = 200, content((String = "text/markdown"), (String = "text/html"))), Refusals)
)]
pub(in crate::http) async fn report(
    State(app): State<App>,
    _caller: Caller<MayReadEvents>,
    Id(incident): Id<IncidentId>,
    uri: Uri,
    mut query: Pairs,
) -> Result<Response, Problem> {
    let format = match query.one("format")?.as_deref() {
        None | Some("md") => Format::Markdown,
        Some("html") => Format::Html,
        Some(_) => return Err(Problem::invalid("format", "`md` or `html`")),
    };
    let asked: Option<u64> = query.parsed("through", "a position")?;
    query.end()?;
    let (newest, closed) = known(&app, &incident, |roll, found| {
        (roll.next_position().saturating_sub(1), found.closed.as_ref().map(|closing| closing.position))
    })?;
    let through = asked.or(closed).unwrap_or(newest);
    if through > newest {
        return Err(Problem::invalid("through", format!("must not be past the newest position, {newest}")));
    }
    let id = incident.to_string();
    // That of a closed incident ends with its closing.
    let exactly = asked.or(closed).is_some();
    let answer = made(&app, &uri, incident, Wanted::Report(format), through + 1, exactly).await?;
    let Made::Report(text) = answer.made else { return Err(Problem::internal("a report was asked for")) };
    Ok(self::answer(&id, format, answer.end.saturating_sub(1), text))
}

/// To be kept and not to be opened in place: it holds what people have written, and this is where they log in.
fn answer(id: &str, format: Format, through: u64, text: String) -> Response {
    let (content_type, ending) = match format {
        Format::Markdown => ("text/markdown; charset=utf-8", "md"),
        Format::Html => ("text/html; charset=utf-8", "html"),
    };
    let mut response = text.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(POSITION_HEADER, HeaderValue::from(through));
    let name = HeaderValue::try_from(format!("attachment; filename=\"{id}.{ending}\""));
    headers.extend(name.ok().map(|name| (header::CONTENT_DISPOSITION, name)));
    response
}
