//! Problems (RFC 9457): every refusal of the HTTP API has this body, as `application/problem+json`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The media type of a [`Problem`].
pub const PROBLEM_JSON: &str = "application/problem+json";

/// Why a request was not carried out, and what to do next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// `urn:bailiwick:problem:` and the code.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind of problem in a few words; the same for the same code.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened this time.
    pub detail: String,
    /// Stable code, such as `task.ceiling`.
    pub code: String,
    /// The next step: a command or what to change. Empty when there is none.
    #[serde(default)]
    pub next: String,
    /// The request's id, which the server's log carries too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
}

impl Problem {
    /// A problem with a status, a code and what happened; the title follows from the status.
    pub fn new(status: u16, code: impl Into<String>, detail: impl Into<String>) -> Self {
        let code = code.into();
        Problem {
            kind: format!("urn:bailiwick:problem:{code}"),
            title: title(status).to_owned(),
            status,
            detail: detail.into(),
            code,
            next: String::new(),
            request: None,
        }
    }

    /// The same with the next step.
    #[must_use]
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = next.into();
        self
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.detail, self.code)?;
        if self.next.is_empty() { Ok(()) } else { write!(f, ". Next: {}", self.next) }
    }
}

fn title(status: u16) -> &'static str {
    match status {
        400 => "The request cannot be read",
        401 => "Sign in first",
        403 => "Not yours to ask",
        404 => "There is no such thing",
        405 => "Not a method of this resource",
        408 => "The request took too long to arrive",
        409 => "It does not fit the state things are in",
        411 => "The request says no length",
        413 => "The request is too large",
        415 => "Not a media type this resource reads",
        421 => "Not a name of this server",
        422 => "The request makes no sense",
        429 => "Too much at once",
        503 => "The control plane cannot answer now",
        _ => "The request failed",
    }
}
