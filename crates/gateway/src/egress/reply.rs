//! What an agent reads over HTTP: the API's answer, or a problem (RFC 9457) that a model can make sense of.
//!
//! A refusal is 403; a question to a person is 428, because a yes is what is required first; what the control plane
//! could not answer is 503. All three say that nothing was done. An allowed request that brought no answer is 502 or
//! 504 and says whether it may have taken effect. `bailiwick-decision` names the decision on all of them.

use super::request::Unfit;
use super::send::{Clean, SendError};
use super::{APPROVAL, DECISION};
use crate::answer::int;
use crate::envelope::cut;
use crate::in_flight::Stopped;
use axum::body::Body;
use axum::response::Response;
use bailiwick_api::wire::PROBLEM_JSON;
use bailiwick_api::{Denial, Pending, PointError};
use bailiwick_core::{ApprovalId, DecisionId, ToolId, Value};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use std::collections::BTreeMap;

/// An answer, ready to be sent.
#[derive(Debug)]
pub(crate) struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

/// A problem while it is put together.
struct Problem {
    status: StatusCode,
    title: &'static str,
    code: String,
    detail: String,
    members: BTreeMap<&'static str, Value>,
    decision: Option<DecisionId>,
    approval: Option<ApprovalId>,
}

impl Problem {
    fn new(status: u16, title: &'static str, code: &str, detail: impl Into<String>) -> Self {
        Problem {
            status: StatusCode::from_u16(status).unwrap_or(StatusCode::FORBIDDEN),
            title,
            code: code.to_owned(),
            detail: detail.into(),
            members: BTreeMap::new(),
            decision: None,
            approval: None,
        }
    }

    fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.members.insert(name, value.into());
        self
    }

    fn decided(mut self, effect: &str, decision: Option<&DecisionId>) -> Self {
        self.decision = decision.cloned();
        self.with("effect", effect)
    }

    fn reply(self) -> Reply {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let mut body = self.members;
        body.insert("type", Value::from(format!("urn:bailiwick:problem:{}", self.code)));
        body.insert("title", Value::from(self.title));
        body.insert("status", Value::Int(i64::from(self.status.as_u16())));
        body.insert("detail", Value::from(self.detail));
        body.insert("code", Value::from(self.code));
        if let Some(decision) = self.decision {
            note(&mut headers, DECISION, decision.as_str());
            body.insert("decision", Value::from(decision.as_str()));
        }
        if let Some(approval) = self.approval {
            note(&mut headers, APPROVAL, approval.as_str());
            body.insert("approval", Value::from(approval.as_str()));
        }
        let body = Value::Map(body.into_iter().map(|(k, v)| (k.to_owned(), v)).collect());
        Reply { status: self.status, headers, body: body.canonical().into_bytes() }
    }
}

fn note(headers: &mut HeaderMap, name: &'static str, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        headers.insert(name, value);
    }
}

const REFUSED: &str = "Refused; nothing was done";
const WAITS: &str = "A person must say yes first; nothing was done";
const NO_ANSWER: &str = "Allowed, but without an answer";

impl Reply {
    pub(crate) fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }

    /// A refusal of the control plane.
    pub(crate) fn denied(denial: &Denial) -> Reply {
        Problem::new(403, REFUSED, &denial.code, denial.text.as_str())
            .decided("deny", Some(&denial.decision))
            .with("rule", denial.rule.as_str())
            .with("step", i64::from(denial.step))
            .with("next", denial.remedy.as_str())
            .with("retry", denial.retry)
            .reply()
    }

    /// A request that fits no rule.
    pub(crate) fn unfit(
        unfit: &Unfit,
        method: &Method,
        target: &str,
        decision: Option<&DecisionId>,
    ) -> Reply {
        let path = target.split('?').next().unwrap_or("");
        let what = format!("{method} {}", cut(path, 200)).escape_debug().to_string();
        let by = decision.map_or(String::new(), |d| format!(" Decision {d}."));
        let detail = format!("`{what}` was refused: {}. Nothing was done.{by}", unfit.why);
        Problem::new(403, REFUSED, unfit.code, detail)
            .decided("deny", decision)
            .with("next", "Send a request that an operator's rules take, exactly as they state it.")
            .with("retry", false)
            .reply()
    }

    /// A request whose head cannot be read, before anything was decided.
    pub(crate) fn unread(unfit: &Unfit) -> Reply {
        Problem::new(400, "The request cannot be read", unfit.code, unfit.why.as_str())
            .with("retry", false)
            .reply()
    }

    /// A question to a person, with the handle and the way back.
    pub(crate) fn asked(pending: &Pending) -> Reply {
        let mut problem = Problem::new(428, WAITS, "approval.pending", pending.text.as_str())
            .decided("ask", Some(&pending.decision))
            .with("until_ms", int(pending.until.0))
            .with("next", come_back(&pending.approval))
            .with("retry", true);
        problem.approval = Some(pending.approval.clone());
        problem.reply()
    }

    /// The act still waits under a handle that was given before.
    pub(crate) fn still_waiting(approval: &ApprovalId) -> Reply {
        let detail = "Nothing was done. A person has not decided yet.";
        let mut problem = Problem::new(428, WAITS, "approval.pending", detail)
            .decided("ask", None)
            .with("next", come_back(approval))
            .with("retry", true);
        problem.approval = Some(approval.clone());
        problem.reply()
    }

    /// The control plane could not decide: not done.
    pub(crate) fn undecided(error: &PointError) -> Reply {
        let detail = format!("Nothing was done, because no decision could be made: {}.", error.reason);
        Problem::new(503, "No decision could be made; nothing was done", &error.code, detail)
            .with("retry", error.retry)
            .reply()
    }

    /// An allowed request that brought no answer.
    pub(crate) fn failed(tool: &ToolId, decision: &DecisionId, error: &SendError) -> Reply {
        let unsure = if error.may_have_happened() {
            " It may have taken effect all the same: look before you ask again."
        } else {
            " Nothing was done."
        };
        let status = if *error == SendError::Timeout { 504 } else { 502 };
        Problem::new(status, NO_ANSWER, error.code(), format!("`{tool}` was allowed, but {error}.{unsure}"))
            .decided("allow", Some(decision))
            .with("retry", matches!(error, SendError::Stale | SendError::Unreachable))
            .reply()
    }

    /// An allowed request that was cut off.
    pub(crate) fn stopped(tool: &ToolId, decision: &DecisionId, why: Stopped) -> Reply {
        let detail =
            format!("`{tool}` was allowed, but {}. It may have taken effect all the same.", why.words());
        Problem::new(502, NO_ANSWER, why.code(), detail)
            .decided("allow", Some(decision))
            .with("retry", false)
            .reply()
    }

    /// An answer that may not move on, because what came of it could not be recorded.
    pub(crate) fn unrecorded(tool: &ToolId, decision: &DecisionId) -> Reply {
        let detail = format!(
            "`{tool}` was allowed, but its outcome could not be recorded, so the answer is withheld. It may have taken effect all the same."
        );
        Problem::new(502, NO_ANSWER, "outcome.unrecorded", detail)
            .decided("allow", Some(decision))
            .with("retry", false)
            .reply()
    }

    /// The API's answer, cleaned.
    pub(crate) fn passed_on(decision: &DecisionId, clean: Clean) -> Reply {
        let mut headers = clean.headers;
        note(&mut headers, DECISION, decision.as_str());
        Reply { status: clean.status, headers, body: clean.body }
    }

    /// The whole took too long.
    pub(crate) fn too_long() -> Reply {
        let detail = "The request took too long and was given up. It may have taken effect all the same.";
        Problem::new(504, NO_ANSWER, "egress.timeout", detail).with("retry", false).reply()
    }

    /// A fault of ours.
    pub(crate) fn broken() -> Reply {
        let detail = "The request failed inside the gateway. It may have taken effect all the same.";
        Problem::new(500, "The gateway failed", "egress.broken", detail).with("retry", false).reply()
    }
}

fn come_back(approval: &ApprovalId) -> String {
    format!(
        "Do not retry at once. Once a person has approved {approval}, send exactly the same request again; no answer means no."
    )
}

/// A good answer of our own.
pub(crate) fn json(value: &Value) -> Response {
    let mut response = Response::new(Body::from(value.canonical()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
