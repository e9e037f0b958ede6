//! What an agent reads: results, refusals and questions, in one shape.
//!
//! A refused tool call is a *result* with `isError`, because that is what reaches the model word for word;
//! its text is the control plane's, its machine form stands in `_meta` under `bailiwick/decision` with
//! `effect`, `reason_code` and `retry`. Every other refusal is a JSON-RPC error −32001.

use crate::envelope::{Body, codes};
use crate::upstream::CallError;
use crate::version;
use bailiwick_api::{Denial, Pending, PointError};
use bailiwick_core::{DecisionId, ToolId, Value};
use std::collections::BTreeMap;

/// `_meta` key of the machine form of a decision, in results.
pub const META_DECISION: &str = "bailiwick/decision";
/// `_meta` key of an approval handle: in results of a question, and in calls that come back with it.
pub const META_APPROVAL: &str = "bailiwick/approval";
/// `_meta` key of what the agent says it is doing, in calls. Untrusted.
pub const META_SAYS: &str = "bailiwick/says";

/// The answer to one request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Answer {
    Result(Value),
    Error { code: i64, message: String, data: Option<Value> },
}

impl Answer {
    pub(crate) fn error(code: i64, message: impl Into<String>) -> Self {
        Answer::Error { code, message: message.into(), data: None }
    }

    /// The control plane could not answer: nothing was done.
    pub(crate) fn point(error: &PointError) -> Self {
        let data = Value::from([
            ("reason_code", Value::from(error.code.as_str())),
            ("retry", Value::from(error.retry)),
        ]);
        Answer::Error { code: codes::INTERNAL, message: error.reason.clone(), data: Some(data) }
    }
}

/// The machine form of a decision.
struct Machine<'a> {
    decision: Option<&'a DecisionId>,
    effect: &'static str,
    code: &'a str,
    retry: bool,
}

impl Machine<'_> {
    fn members(&self) -> BTreeMap<String, Value> {
        let mut members = BTreeMap::from([
            ("effect".to_owned(), Value::from(self.effect)),
            ("reason_code".to_owned(), Value::from(self.code)),
            ("retry".to_owned(), Value::from(self.retry)),
        ]);
        if let Some(decision) = self.decision {
            members.insert("decision".to_owned(), Value::from(decision.as_str()));
        }
        members
    }
}

/// A tool result with one text.
fn tool_result(text: &str, is_error: bool, meta: Value) -> Value {
    let content = Value::from([("type", Value::from("text")), ("text", Value::from(text))]);
    Value::from([
        ("content", Value::List(vec![content])),
        ("isError", Value::from(is_error)),
        ("_meta", meta),
    ])
}

/// A tool result of bailiwick's own, structured and as text.
pub(crate) fn own(structured: Value, is_error: bool) -> Value {
    let text = structured.canonical();
    let mut result = tool_result(&text, is_error, Value::empty());
    if let Value::Map(members) = &mut result {
        members.insert("structuredContent".to_owned(), structured);
    }
    result
}

/// A refusal as a tool result.
pub(crate) fn denied(denial: &Denial) -> Value {
    let machine =
        Machine { decision: Some(&denial.decision), effect: "deny", code: &denial.code, retry: denial.retry };
    let mut members = machine.members();
    members.insert("rule".to_owned(), Value::from(denial.rule.as_str()));
    members.insert("step".to_owned(), Value::Int(i64::from(denial.step)));
    members.insert("remedy".to_owned(), Value::from(denial.remedy.as_str()));
    tool_result(&denial.text, true, Value::from([(META_DECISION, Value::Map(members))]))
}

/// A question to a person, as a tool result: an error for the moment, with the handle and the way back.
pub(crate) fn asked(pending: &Pending) -> Value {
    let machine =
        Machine { decision: Some(&pending.decision), effect: "ask", code: "approval.pending", retry: true };
    let mut members = machine.members();
    members.insert("approval".to_owned(), Value::from(pending.approval.as_str()));
    members.insert("until_ms".to_owned(), int(pending.until.0));
    let text = format!("{} {}", pending.text, how_to_resume(pending.approval.as_str()));
    let meta = Value::from([
        (META_DECISION, Value::Map(members)),
        (META_APPROVAL, Value::from(pending.approval.as_str())),
    ]);
    tool_result(&text, true, meta)
}

/// The act is still waiting under a handle that was given before.
pub(crate) fn still_waiting(approval: &str, until_ms: u64) -> Value {
    let machine = Machine { decision: None, effect: "ask", code: "approval.pending", retry: true };
    let mut members = machine.members();
    members.insert("approval".to_owned(), Value::from(approval));
    members.insert("until_ms".to_owned(), int(until_ms));
    let text = format!("Nothing was done. A person has not decided yet. {}", how_to_resume(approval));
    let meta = Value::from([(META_DECISION, Value::Map(members)), (META_APPROVAL, Value::from(approval))]);
    tool_result(&text, true, meta)
}

fn how_to_resume(approval: &str) -> String {
    format!(
        "The handle is `{approval}`. Do not retry at once: ask `bailiwick__resume` with this handle for the state, \
         and once it is approved call this tool again with exactly the same arguments."
    )
}

/// The control plane could not decide: not done.
pub(crate) fn undecided(tool: &ToolId, error: &PointError) -> Value {
    let machine = Machine { decision: None, effect: "deny", code: &error.code, retry: error.retry };
    let help = if error.retry { "Trying again later may help." } else { "Trying again will not help." };
    let text =
        format!("`{tool}` was not called, because no decision could be made: {}. {help}", error.reason);
    tool_result(&text, true, Value::from([(META_DECISION, Value::Map(machine.members()))]))
}

/// The caller could not prove itself, mostly because its task is over: not done, in words for a model.
pub(crate) fn unproven(words: &str) -> Value {
    let machine = Machine { decision: None, effect: "deny", code: "caller.unproven", retry: false };
    let text =
        format!("Nothing was done: {}. Trying again will not help.", words.trim().trim_end_matches('.'));
    tool_result(&text, true, Value::from([(META_DECISION, Value::Map(machine.members()))]))
}

/// An allowed call that brought no result.
pub(crate) fn failed(tool: &ToolId, decision: &DecisionId, error: &CallError) -> Value {
    let retry = matches!(error, CallError::Unavailable(_) | CallError::Timeout | CallError::Gone);
    let machine = Machine { decision: Some(decision), effect: "allow", code: error.code(), retry };
    let unsure = if error.may_have_happened() {
        " It may have taken effect all the same: look before you call again."
    } else {
        ""
    };
    let text = format!("`{tool}` was allowed, but {error}.{unsure} (decision {decision})");
    tool_result(&text, true, Value::from([(META_DECISION, Value::Map(machine.members()))]))
}

/// An allowed call that was cut off, or whose outcome could not be recorded.
pub(crate) fn withheld(tool: &ToolId, decision: &DecisionId, code: &str, why: &str) -> Value {
    let machine = Machine { decision: Some(decision), effect: "allow", code, retry: false };
    let text = format!(
        "`{tool}` was allowed, but {why}. It may have taken effect all the same. (decision {decision})"
    );
    tool_result(&text, true, Value::from([(META_DECISION, Value::Map(machine.members()))]))
}

/// A tool server's result, with what it may not say taken out and the decision put in.
pub(crate) fn passed_on(decision: &DecisionId, body: Body) -> Value {
    let Value::Map(mut members) = body.value else { return Value::empty() };
    members.remove("resultType");
    let meta = members.remove("_meta");
    let mut meta = match meta {
        Some(Value::Map(meta)) => meta,
        _ => BTreeMap::new(),
    };
    meta.retain(|key, _| !key.starts_with("bailiwick/") && key != version::META_SERVER);
    let decided =
        Value::from([("decision", Value::from(decision.as_str())), ("effect", Value::from("allow"))]);
    meta.insert(META_DECISION.to_owned(), decided);
    members.insert("_meta".to_owned(), Value::Map(meta));
    members.entry("content".to_owned()).or_insert_with(|| Value::List(Vec::new()));
    Value::Map(members)
}

/// Adds what every result of the stateless generation carries.
pub(crate) fn modern(result: Value) -> Value {
    let Value::Map(mut members) = result else { return result };
    members.insert("resultType".to_owned(), Value::from("complete"));
    let mut meta = match members.remove("_meta") {
        Some(Value::Map(meta)) => meta,
        _ => BTreeMap::new(),
    };
    meta.insert(version::META_SERVER.to_owned(), version::implementation());
    members.insert("_meta".to_owned(), Value::Map(meta));
    Value::Map(members)
}

/// A number for JSON; one beyond 2^63 stands for "never".
pub(crate) fn int(n: u64) -> Value {
    Value::Int(i64::try_from(n).unwrap_or(i64::MAX))
}
