//! Asking for more than the chain foresees: the core judges, people answer, and only their answer amends.

use std::collections::BTreeMap;

use bailiwick_api::{AmendAsk, Caller, Denial, Pending};
use bailiwick_core::AgentId;
use bailiwick_core::amendment::{AmendRequest, Proposed, propose as judged};
use bailiwick_core::chain::Step;
use bailiwick_core::event::Ruled;
use bailiwick_core::value::Value;

use crate::decide::denial;
use crate::error::EngineError;
use crate::log::Engine;
use crate::names;

/// What came of asking: a question that waits, or a refusal.
pub type AmendCall = Result<Pending, Denial>;

impl Engine {
    /// Asks people for an addition to the chain of the caller's task. Nothing is added by asking.
    pub async fn propose(&self, caller: &Caller, ask: AmendAsk) -> Result<AmendCall, EngineError> {
        let steps = steps(&caller.agent, &ask.steps)?;
        let (proposed, _, until) = self
            .conduct(
                &caller.task,
                |scene| {
                    let id = &scene.task.opening().task;
                    let request = AmendRequest {
                        decision: names::decision(id, scene.task.version())?,
                        fresh_approval: names::approval(id, scene.task.version())?,
                        grant: caller.grant.clone(),
                        agent: caller.agent.clone(),
                        instance: caller.instance.clone(),
                        token_until: caller.until,
                        proof: caller.proof.as_ref().map(|p| (p.id, p.until)),
                        steps: steps.clone(),
                        says: ask.says.clone(),
                    };
                    let (proposed, events) = judged(scene, &request);
                    let waits =
                        proposed.approval.as_ref().and_then(|a| scene.task.approval(a)).map(|a| a.until);
                    Ok((proposed, events, waits))
                },
                |(_, events, _)| events.clone(),
            )
            .await?;
        answer(proposed, until)
    }
}

/// The steps in full: who takes them is the caller, and what they are is a call.
fn steps(agent: &AgentId, asked: &[Value]) -> Result<Vec<Step>, EngineError> {
    let bad = |why: String| EngineError::invalid("amendment.steps", why);
    let whole = |value: &Value| {
        let Some(members) = value.as_map() else { return Err(bad("a step is an object".to_owned())) };
        if members.contains_key("agent") || members.contains_key("act") {
            return Err(bad(
                "leave out `agent` and `act`: an amendment adds calls of the agent that asks".to_owned()
            ));
        }
        let mut members: BTreeMap<String, Value> = members.clone();
        members.insert("agent".to_owned(), Value::from(agent.as_str()));
        members.insert("act".to_owned(), Value::from("call"));
        serde_json::from_str(&Value::Map(members).canonical()).map_err(|e| {
            let why = e.to_string();
            bad(format!("not a step: {}", why.split(" at line").next().unwrap_or_default()))
        })
    };
    asked.iter().map(whole).collect()
}

fn answer(proposed: Proposed, waits: Option<bailiwick_core::Time>) -> Result<AmendCall, EngineError> {
    let fresh = proposed.asked.as_ref().map(|asked| (asked.approval.clone(), asked.until));
    let open = fresh.or_else(|| proposed.approval.clone().zip(waits));
    match (proposed.outcome, open) {
        (Ruled::Ask, Some((approval, until))) => {
            let text = format!(
                "A person is asked whether this task may be amended ({approval}). Nothing is allowed by asking, and no answer means no. Once it is approved, make the calls exactly as they were proposed.",
            );
            Ok(Ok(Pending { decision: proposed.decision, approval, until, text }))
        }
        _ => Ok(Err(denial(&proposed.decision, &proposed.why, "the amendment was refused"))),
    }
}
