//! `GET /v1/incidents/{id}/report`: one file, from the log alone, the same each time.

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use utoipa::IntoParams;

use super::replay::{folded, known};
use crate::domain::ids::IncidentId;
use crate::http::caller::{Caller, MayReadEvents};
use crate::http::openapi::Refusals;
use crate::http::path::{Id, IncidentPath, no_such};
use crate::http::problem::Problem;
use crate::http::query::Pairs;
use crate::http::{App, POSITION_HEADER, schema};
use crate::incident::report::{Format, RenderError, Report, render};

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
/// needs no other.
#[utoipa::path(
    get, path = "/v1/incidents/{id}/report", tag = "incidents", params(IncidentPath, ReportQuery),
    responses((status = 200, content((String = "text/markdown"), (String = "text/html"))), Refusals)
)]
pub(in crate::http) async fn report(
    State(app): State<App>,
    _caller: Caller<MayReadEvents>,
    Id(incident): Id<IncidentId>,
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
    let report = folded(&app, through + 1, Report::new(incident), Report::see).await?;
    let made = tokio::task::spawn_blocking(move || render(&report, format)).await.map_err(Problem::internal)?;
    let text = made.map_err(|error| match error {
        RenderError::NoIncident => no_such::<IncidentId>(),
        RenderError::Template(error) => Problem::internal(error),
    })?;
    Ok(answer(&id, format, through, text))
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
