//! Why a command did not do what it was asked: each with its exit code, for scripts, and its words, for people.

use std::fmt;
use std::process::ExitCode;

use serde_json::Value;

use super::remedy;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// What was typed cannot be done, and nothing was asked of the service.
    #[error("{0}")]
    Usage(String),
    /// The service answered no.
    #[error("{0}")]
    Problem(Box<Problem>),
    /// There was no answer.
    #[error("cannot reach {url}: {cause}{advice}")]
    Unreachable { url: String, cause: String, advice: String },
    #[error("the credential is not accepted ({0})")]
    NotAccepted(String),
    /// Some of many were refused; the text says where they are listed.
    #[error("{0}")]
    Partly(String),
    /// A table is not what the log says, or a copy of the log is not what a node wrote.
    #[error("{0}")]
    Differs(String),
    /// A shell that was started from here has ended with this code, and has said why.
    #[error("the shell ended with {0}")]
    Shell(u8),
    /// The reader of our output has gone, as `head` does; what it wanted it has.
    #[error("the output was closed")]
    OutputClosed,
    #[error("{}", told(.0))]
    Fault(anyhow::Error),
}

/// The error and its causes, each said once: some say their cause themselves.
fn told(error: &anyhow::Error) -> String {
    let causes = error.chain().map(ToString::to_string);
    let told = causes.reduce(|said, cause| if said.ends_with(&cause) { said } else { format!("{said}: {cause}") });
    told.unwrap_or_default()
}

/// A problem (RFC 9457), or what an endpoint of OAuth or a proxy in between answers instead of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) status: u16,
    pub(crate) title: String,
    pub(crate) detail: Option<String>,
    pub(crate) code: String,
    pub(crate) field: Option<String>,
    pub(crate) request_id: Option<String>,
}

impl Failure {
    pub(crate) fn fault(doing: impl fmt::Display, error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Failure::Fault(anyhow::Error::new(error).context(doing.to_string()))
    }

    pub(crate) fn code(&self) -> u8 {
        match self {
            Failure::OutputClosed => 0,
            Failure::Fault(_) => 1,
            Failure::Usage(_) => 2,
            Failure::Partly(_) => 3,
            Failure::Problem(problem) => problem.exit_code(),
            Failure::Unreachable { .. } => 5,
            Failure::NotAccepted(_) => 6,
            Failure::Differs(_) => 7,
            Failure::Shell(code) => *code,
        }
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code())
    }

    /// For a program that asked for JSON: the problem as the service put it, or one of the same form.
    pub(crate) fn to_json(&self) -> Value {
        let (code, status) = match self {
            Failure::Problem(problem) => return problem.to_json(),
            Failure::Usage(_) => ("usage", None),
            Failure::Unreachable { .. } => ("unreachable", None),
            Failure::NotAccepted(reason) => (reason.as_str(), None::<u16>),
            Failure::Partly(_) => ("partly_refused", None),
            Failure::Differs(_) => ("differs", None),
            Failure::OutputClosed | Failure::Shell(_) | Failure::Fault(_) => ("fault", None),
        };
        serde_json::json!({ "title": self.to_string(), "code": code, "status": status })
    }
}

impl Problem {
    /// Reads an answer that is no success.
    pub(crate) fn read(status: u16, request_id: Option<String>, body: &[u8]) -> Self {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let text = |name: &str| body.get(name).and_then(Value::as_str).map(str::to_owned);
        // RFC 6749 calls the code `error`, and the detail `error_description`.
        let code = text("code").or_else(|| text("error")).unwrap_or_else(|| format!("http_{status}"));
        Self {
            status,
            title: text("title").unwrap_or_else(|| format!("the service answered {status}")),
            detail: text("detail").or_else(|| text("error_description")),
            code,
            field: text("field"),
            request_id: text("request_id").or(request_id),
        }
    }

    fn exit_code(&self) -> u8 {
        match self.status {
            401 | 403 => 4,
            400..=499 => 3,
            502..=504 => 5,
            _ => 1,
        }
    }

    fn to_json(&self) -> Value {
        serde_json::json!({
            "type": format!("urn:portcullis:problem:{}", self.code),
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            "field": self.field,
            "request_id": self.request_id,
        })
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.title)?;
        // The detail alone may be "must be in the future": whoever reads one line should know what.
        if let Some(field) = &self.field {
            write!(f, ": `{field}`")?;
        }
        if let Some(detail) = self.detail.as_deref().filter(|detail| *detail != self.title) {
            write!(f, ": {detail}")?;
        }
        write!(f, "\n  code: {}", self.code)?;
        write!(f, "\n  what to do: {}", remedy::of(&self.code, self.status))?;
        if let Some(request) = &self.request_id {
            write!(f, "\n  request id: {request}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_said_once() {
        #[derive(Debug, thiserror::Error)]
        enum Outer {
            #[error("it holds {0}")]
            Telling(#[from] std::num::ParseIntError),
            #[error("it is no number")]
            Silent(#[source] std::num::ParseIntError),
        }
        let cause = || "x".parse::<u8>().unwrap_err();
        for (outer, expected) in [
            (Outer::Telling(cause()), "reading: it holds invalid digit found in string"),
            (Outer::Silent(cause()), "reading: it is no number: invalid digit found in string"),
        ] {
            assert_eq!(Failure::fault("reading", outer).to_string(), expected);
        }
    }

    #[test]
    fn exit_codes() {
        let answered = |status| Failure::Problem(Box::new(Problem::read(status, None, b""))).code();
        for (status, code) in [
            (400, 3),
            (401, 4),
            (403, 4),
            (404, 3),
            (409, 3),
            (422, 3),
            (429, 3),
            (301, 1),
            (500, 1),
            (502, 5),
            (503, 5),
            (504, 5),
        ] {
            assert_eq!(answered(status), code, "status {status}");
        }
        let unreachable = Failure::Unreachable { url: String::new(), cause: String::new(), advice: String::new() };
        for (failure, code) in [
            (Failure::OutputClosed, 0),
            (Failure::fault("reading", std::io::Error::other("no")), 1),
            (Failure::Usage(String::new()), 2),
            (Failure::Partly(String::new()), 3),
            (unreachable, 5),
            (Failure::NotAccepted(String::new()), 6),
        ] {
            assert_eq!(failure.code(), code, "{failure:?}");
        }
    }

    #[test]
    fn a_problem_says_what_and_why_and_what_to_do() {
        let body = br#"{"title":"Conflict","detail":"pool `a` exists with other settings","code":"pool_exists",
                        "status":409,"request_id":"r1"}"#;
        let text = Problem::read(409, None, body).to_string();
        for part in ["Conflict: pool `a` exists", "code: pool_exists", "what to do: ", "request id: r1"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn the_first_line_names_the_field() {
        let body = br#"{"title":"Bad Request","detail":"must be in the future","code":"invalid","field":"until"}"#;
        let text = Problem::read(400, None, body).to_string();
        assert_eq!(text.lines().next(), Some("Bad Request: `until`: must be in the future"));
    }

    #[test]
    fn an_answer_that_is_no_problem_still_reads() {
        let oauth = Problem::read(401, Some("r2".to_owned()), br#"{"error":"invalid_client"}"#);
        assert_eq!((oauth.code.as_str(), oauth.request_id.as_deref()), ("invalid_client", Some("r2")));
        assert_eq!(Problem::read(502, None, b"<html>Bad Gateway").code, "http_502");
    }
}
