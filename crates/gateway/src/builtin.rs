//! The tools that bailiwick itself offers to every agent: hand off, ask for more than the task foresees, see how a
//! question stands, see the task.
//!
//! They widen nothing: a handoff is decided like everything else, an amendment is people's to make, and the others only
//! tell a caller about itself.

use crate::answer::{self, Answer, int};
use crate::door::Door;
use crate::envelope::codes;
use crate::gateway::Gateway;
use crate::names;
use bailiwick_api::{AmendAsk, ApprovalState, Caller, DecisionPoint, HandoffAsk, HandoffMade, PointError};
use bailiwick_core::{AgentId, ApprovalId, ToolId, Value};

const HAND_OFF: &str = r#"{
 "name": "bailiwick__hand_off", "title": "Hand part of the task to another agent",
 "description": "Gives another agent a grant for part of this task, never more than you may hand on. Only the payload fields that the task foresees are delivered. The answer names the new grant; the other agent fetches its own token for it.",
 "inputSchema": {"type": "object", "additionalProperties": false, "required": ["to", "payload"], "properties": {
  "to": {"type": "string", "description": "Name of the agent that shall act"},
  "capabilities": {"type": "array", "items": {"type": "object"}, "description": "What it shall be able to do. Leave out for what the task foresees for it"},
  "ttl_s": {"type": "integer", "minimum": 1, "description": "How long, in seconds"},
  "depth": {"type": "integer", "minimum": 0, "maximum": 8, "description": "How often it may hand on itself; 0 if left out"},
  "payload": {"type": "object", "description": "Data for the other agent"}}},
 "annotations": {"readOnlyHint": false, "destructiveHint": false, "openWorldHint": false}}"#;

const AMEND: &str = r#"{
 "name": "bailiwick__amend", "title": "Ask for more than the task foresees",
 "description": "Asks a person to let you make calls that this task does not foresee. Nothing is allowed by asking. A person sees exactly what would become possible; once they agree, make the calls as proposed, once each. Asking is counted, and the intent of the task never changes.",
 "inputSchema": {"type": "object", "additionalProperties": false, "required": ["steps"], "properties": {
  "steps": {"type": "array", "minItems": 1, "maxItems": 8, "items": {"type": "object", "required": ["id", "tool"], "properties": {
   "id": {"type": "string", "description": "A new name for the step"},
   "tool": {"type": "string", "description": "The tool as system.action"},
   "args": {"type": "object", "description": "For each argument {\"exact\": VALUE}, or \"any\" for text. Whatever says where the effect lands must be exact"},
   "max": {"type": "integer", "minimum": 1, "maximum": 16, "description": "How often; once if left out"},
   "after": {"type": "array", "items": {"type": "string"}}}}},
  "reason": {"type": "string", "description": "Why you need it, for the person"}}},
 "annotations": {"readOnlyHint": false, "destructiveHint": false, "openWorldHint": false}}"#;

const RESUME: &str = r#"{
 "name": "bailiwick__resume", "title": "How does a question to a person stand",
 "description": "Tells whether a call that waits for a person is still waiting, approved or refused. Once it is approved, call the tool itself again with exactly the same arguments (or with the narrowed ones that are shown).",
 "inputSchema": {"type": "object", "additionalProperties": false, "required": ["approval"], "properties": {
  "approval": {"type": "string", "description": "The handle that came with the waiting call"}}},
 "annotations": {"readOnlyHint": true, "openWorldHint": false}}"#;

const TASK: &str = r#"{
 "name": "bailiwick__task", "title": "What this task allows now",
 "description": "Tells for which task, agent and initiator you act, until when, and which tools could be allowed now.",
 "inputSchema": {"type": "object", "additionalProperties": false},
 "annotations": {"readOnlyHint": true, "openWorldHint": false}}"#;

/// Longest handoff that can be asked for, in seconds; the parent's own end is below it anyway.
const TTL_SECS_MAX: i64 = 30 * 24 * 3600;

/// The definitions, by name on the wire.
pub(crate) fn definitions() -> impl Iterator<Item = (String, Value)> {
    [HAND_OFF, AMEND, RESUME, TASK].into_iter().filter_map(|text| {
        let definition = Value::parse(text.as_bytes()).ok()?;
        let name = definition.get("name")?.as_text()?.to_owned();
        Some((name, definition))
    })
}

/// Calls a built-in tool.
pub(crate) async fn call<P: DecisionPoint, D: Door>(
    gateway: &Gateway<P, D>,
    caller: &Caller,
    tool: &ToolId,
    args: Value,
) -> Answer {
    let result = match tool.action() {
        "hand_off" => hand_off(gateway, caller, &args).await,
        "amend" => amend(gateway, caller, &args).await,
        "resume" => resume(gateway, caller, &args).await,
        "task" => task(gateway, caller, &args).await,
        _ => return Answer::error(codes::INVALID_PARAMS, "no tool has this name"),
    };
    match result {
        Ok(result) => Answer::Result(result),
        Err(Trouble::Args(why)) => Answer::error(codes::INVALID_PARAMS, why),
        Err(Trouble::Point(error)) => Answer::Result(answer::undecided(tool, &error)),
    }
}

enum Trouble {
    Args(&'static str),
    Point(PointError),
}

impl From<PointError> for Trouble {
    fn from(error: PointError) -> Self {
        Trouble::Point(error)
    }
}

/// Refuses arguments that the tool does not declare.
fn only(args: &Value, known: &[&str]) -> Result<(), Trouble> {
    let clean = args.as_map().is_some_and(|members| members.keys().all(|key| known.contains(&key.as_str())));
    if clean { Ok(()) } else { Err(Trouble::Args("an argument is not known to this tool")) }
}

async fn hand_off<P: DecisionPoint, D: Door>(
    gateway: &Gateway<P, D>,
    caller: &Caller,
    args: &Value,
) -> Result<Value, Trouble> {
    let ask = read_handoff(args)?;
    Ok(match gateway.point.hand_off(caller, ask).await? {
        Ok(made) => answer::own(handed_off(made), false),
        Err(denial) => answer::denied(&denial),
    })
}

fn read_handoff(args: &Value) -> Result<HandoffAsk, Trouble> {
    only(args, &["to", "capabilities", "ttl_s", "depth", "payload"])?;
    let to = args.get("to").and_then(Value::as_text).and_then(|to| AgentId::parse(to).ok());
    let capabilities = match args.get("capabilities") {
        None => Vec::new(),
        Some(list) => list.as_list().ok_or(Trouble::Args("`capabilities` must be a list"))?.to_vec(),
    };
    let ttl_ms = match args.get("ttl_s") {
        None => None,
        Some(Value::Int(secs @ 1..=TTL_SECS_MAX)) => u64::try_from(*secs).ok().map(|secs| secs * 1000),
        Some(_) => return Err(Trouble::Args("`ttl_s` must be a positive number of seconds")),
    };
    let depth = match args.get("depth") {
        None => 0,
        Some(Value::Int(depth @ 0..=8)) => u8::try_from(*depth).unwrap_or(0),
        Some(_) => return Err(Trouble::Args("`depth` must be between 0 and 8")),
    };
    let payload = match args.get("payload") {
        None => Value::empty(),
        Some(payload @ Value::Map(_)) => payload.clone(),
        Some(_) => return Err(Trouble::Args("`payload` must be an object")),
    };
    let to = to.ok_or(Trouble::Args("`to` must be the name of an agent"))?;
    Ok(HandoffAsk { to, capabilities, ttl_ms, depth, payload })
}

fn handed_off(made: HandoffMade) -> Value {
    Value::from([
        ("decision", Value::from(made.decision.as_str())),
        ("grant", Value::from(made.grant.as_str())),
        ("to", Value::from(made.to.as_str())),
        ("capabilities", Value::List(made.capabilities)),
        ("until_ms", int(made.until.0)),
        ("delivered", made.delivered),
        ("stripped", Value::List(made.stripped.into_iter().map(Value::from).collect())),
    ])
}

async fn amend<P: DecisionPoint, D: Door>(
    gateway: &Gateway<P, D>,
    caller: &Caller,
    args: &Value,
) -> Result<Value, Trouble> {
    let ask = read_amendment(args)?;
    Ok(match gateway.point.amend(caller, ask).await? {
        Ok(pending) => answer::own(
            Value::from([
                ("approval", Value::from(pending.approval.as_str())),
                ("decision", Value::from(pending.decision.as_str())),
                ("state", Value::from("waiting")),
                ("until_ms", int(pending.until.0)),
                ("next", Value::from(pending.text)),
            ]),
            false,
        ),
        Err(denial) => answer::denied(&denial),
    })
}

fn read_amendment(args: &Value) -> Result<AmendAsk, Trouble> {
    only(args, &["steps", "reason"])?;
    let steps = args.get("steps").and_then(Value::as_list).ok_or(Trouble::Args("`steps` must be a list"))?;
    let says = match args.get("reason") {
        None => None,
        Some(reason) => Some(reason.as_text().ok_or(Trouble::Args("`reason` must be text"))?.to_owned()),
    };
    Ok(AmendAsk { steps: steps.to_vec(), says })
}

async fn resume<P: DecisionPoint, D: Door>(
    gateway: &Gateway<P, D>,
    caller: &Caller,
    args: &Value,
) -> Result<Value, Trouble> {
    only(args, &["approval"])?;
    let handle = args.get("approval").and_then(Value::as_text).and_then(|text| ApprovalId::parse(text).ok());
    let handle = handle.ok_or(Trouble::Args("`approval` must be a handle"))?;
    let state = gateway.point.approval(caller, &handle).await?;
    if let ApprovalState::Approved { narrowed: Some(narrowed), .. } = &state
        && let Some(tool) = gateway.pending.tool(&handle)
    {
        gateway.pending.remember(caller, &tool, narrowed, &handle);
    }
    Ok(answer::own(state_of(&handle, state), false))
}

fn state_of(handle: &ApprovalId, state: ApprovalState) -> Value {
    let approval = ("approval", Value::from(handle.as_str()));
    match state {
        ApprovalState::Waiting { until } => Value::from([
            approval,
            ("state", Value::from("waiting")),
            ("until_ms", int(until.0)),
            (
                "next",
                Value::from(
                    "A person has not decided yet. Ask again later; without an answer in time it is refused.",
                ),
            ),
        ]),
        ApprovalState::Approved { until, narrowed } => approved(approval, until.0, narrowed),
        ApprovalState::Denied { reason } => Value::from([
            approval,
            ("state", Value::from("denied")),
            ("reason", Value::from(reason)),
            ("next", Value::from("Do not try this again; go on without it, or end the task.")),
        ]),
        ApprovalState::Closed { reason } => Value::from([
            approval,
            ("state", Value::from("closed")),
            ("reason", Value::from(reason)),
            ("next", Value::from("This handle is of no more use.")),
        ]),
    }
}

fn approved(approval: (&str, Value), until_ms: u64, narrowed: Option<Value>) -> Value {
    let next = match narrowed {
        Some(_) => {
            "Approved in a narrower form: call the tool again, once, with exactly the arguments shown."
        }
        None => "Approved: call the tool again, once, with exactly the same arguments.",
    };
    let mut state = Value::from([
        approval,
        ("state", Value::from("approved")),
        ("until_ms", int(until_ms)),
        ("next", Value::from(next)),
    ]);
    if let (Value::Map(members), Some(narrowed)) = (&mut state, narrowed) {
        members.insert("arguments".to_owned(), narrowed);
    }
    state
}

async fn task<P: DecisionPoint, D: Door>(
    gateway: &Gateway<P, D>,
    caller: &Caller,
    args: &Value,
) -> Result<Value, Trouble> {
    only(args, &[])?;
    let mut tools: Vec<Value> = gateway
        .point
        .list(caller)
        .await?
        .into_iter()
        .filter(|view| gateway.upstreams.serves(view.tool.system()))
        .filter_map(|view| names::wire_name(&view.tool, None))
        .map(Value::from)
        .collect();
    tools.sort();
    let state = Value::from([
        ("task", Value::from(caller.task.as_str())),
        ("grant", Value::from(caller.grant.as_str())),
        ("agent", Value::from(caller.agent.as_str())),
        ("initiator", Value::from(caller.initiator.as_str())),
        ("token_until_ms", int(caller.until.0)),
        ("tools", Value::List(tools)),
    ]);
    Ok(answer::own(state, false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_definition_can_be_read_and_named() {
        let names: Vec<String> = definitions().map(|(name, _)| name).collect();
        assert_eq!(
            names,
            ["bailiwick__hand_off", "bailiwick__amend", "bailiwick__resume", "bailiwick__task"]
        );
        for name in names {
            assert_eq!(
                names::tool_of(&name, None).map(|t| t.system().to_owned()).as_deref(),
                Some("bailiwick")
            );
        }
    }

    #[test]
    fn an_amendment_is_read_strictly() {
        let read = |json: &str| read_amendment(&Value::parse(json.as_bytes()).unwrap()).ok();
        let good = read(r#"{"steps":[{"id":"a","tool":"x.y"}],"reason":"because"}"#).unwrap();
        assert_eq!((good.steps.len(), good.says.as_deref()), (1, Some("because")));
        for bad in ["{}", r#"{"steps":{}}"#, r#"{"steps":[],"reason":7}"#, r#"{"steps":[],"approve":true}"#] {
            assert!(read(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_handoff_is_read_strictly() {
        let read = |json: &str| read_handoff(&Value::parse(json.as_bytes()).unwrap()).ok();
        let good = read(r#"{"to":"executor","payload":{"vm":"vm-1"},"ttl_s":60,"depth":1}"#).unwrap();
        assert_eq!((good.to.as_str(), good.ttl_ms, good.depth), ("executor", Some(60_000), 1));
        for bad in [
            r#"{"payload":{}}"#,
            r#"{"to":"Executor","payload":{}}"#,
            r#"{"to":"executor","payload":[]}"#,
            r#"{"to":"executor","payload":{},"ttl_s":0}"#,
            r#"{"to":"executor","payload":{},"ttl_s":1.5}"#,
            r#"{"to":"executor","payload":{},"depth":9}"#,
            r#"{"to":"executor","payload":{},"capabilities":"all"}"#,
            r#"{"to":"executor","payload":{},"sudo":true}"#,
        ] {
            assert!(read(bad).is_none(), "{bad}");
        }
    }
}
