//! Refusals: engine errors and bad requests as problems (RFC 9457).

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use bailiwick_api::wire::{PROBLEM_JSON, Problem};
use bailiwick_core::ids::BadId;
use bailiwick_engine::{EngineError, Kind};

use crate::body::bytes_response;
use crate::door::Shut;

/// A refusal on its way out.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    pub(crate) problem: Box<Problem>,
    challenge: Option<String>,
    nonce: Option<String>,
}

impl Refusal {
    pub(crate) fn new(status: u16, code: &str, detail: impl Into<String>, next: &str) -> Self {
        let problem = Problem::new(status, code, detail).next(next);
        Refusal { problem: Box::new(problem), challenge: None, nonce: None }
    }

    /// The same for what is absent and for what is forbidden (threat A76).
    pub(crate) fn nothing_here() -> Self {
        Refusal::new(404, "not_found", "there is nothing here for you under this name", "")
    }

    pub(crate) fn missing(what: &str, id: &str) -> Self {
        let id: String = id.chars().take(64).flat_map(char::escape_default).collect();
        Refusal::new(404, "not_found", format!("there is no {what} {id}"), "")
    }

    pub(crate) fn sign_in() -> Self {
        let mut refusal = Refusal::new(
            401,
            "person.unknown",
            "this needs a person who is signed in",
            "send `Authorization: Bearer bwk_…` with the key an operator gave you",
        );
        refusal.challenge = Some("Bearer realm=\"bailiwick\"".to_owned());
        refusal
    }

    pub(crate) fn door(shut: Shut) -> Self {
        let mut refusal = Refusal::new(
            401,
            shut.code,
            shut.reason,
            "fetch a token at /oauth/token and send it with a fresh proof: `Authorization: DPoP …`, `DPoP: …`",
        );
        let error = shut.error.map(|e| format!(" error=\"{e}\",")).unwrap_or_default();
        refusal.challenge = Some(format!("DPoP realm=\"bailiwick\",{error} algs=\"EdDSA ES256\""));
        refusal.nonce = shut.nonce;
        refusal
    }

    /// As an agent may hear it: what is not there, what is not its own and what is over look alike.
    pub(crate) fn for_agent(self) -> Self {
        match self.problem.status {
            403 | 404 if self.problem.code != "caller.not_live" => Refusal::nothing_here(),
            _ => self,
        }
    }

    pub(crate) fn into_response(self, request: &str) -> Response {
        let mut problem = *self.problem;
        problem.request = Some(request.to_owned());
        let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = bytes_response(status, PROBLEM_JSON, body);
        let headers = response.headers_mut();
        let mut set = |name: header::HeaderName, text: Option<String>| {
            if let Some(value) = text.and_then(|t| HeaderValue::from_str(&t).ok()) {
                headers.insert(name, value);
            }
        };
        set(header::WWW_AUTHENTICATE, self.challenge);
        set(header::HeaderName::from_static("dpop-nonce"), self.nonce);
        set(header::RETRY_AFTER, (problem.status == 503).then(|| "1".to_owned()));
        response
    }
}

impl From<EngineError> for Refusal {
    fn from(error: EngineError) -> Self {
        let (status, next) = match error.kind {
            Kind::Invalid => (422, "change the request as the detail says"),
            Kind::Forbidden => (403, ""),
            Kind::NotFound => (404, ""),
            Kind::Conflict => (409, "look at it again, then decide anew"),
            Kind::Unavailable => (503, "try again in a moment; `GET /v1/status` says how the store is"),
        };
        Refusal::new(status, &error.code, error.reason, next)
    }
}

impl From<BadId> for Refusal {
    fn from(error: BadId) -> Self {
        Refusal::new(400, error.code(), error.to_string(), "check the name")
    }
}
