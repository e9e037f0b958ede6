//! Handing on: the core decides, the append makes it real, the child fetches its own token.

use bailiwick_api::{Caller, Denial, HandoffAsk, HandoffMade};
use bailiwick_core::capability::Capability;
use bailiwick_core::event::{HandedOff, TaskEvent};
use bailiwick_core::handoff::{HandoffRequest, consequences, hand_off, recorded};
use bailiwick_core::value::Value;

use crate::decide::denial;
use crate::error::EngineError;
use crate::log::Engine;
use crate::names;

/// What came of a handoff.
pub type HandoffCall = Result<HandoffMade, Denial>;

impl Engine {
    /// Makes a child grant, or refuses and names what was too much. Either way it is recorded.
    pub async fn hand_off(&self, caller: &Caller, ask: HandoffAsk) -> Result<HandoffCall, EngineError> {
        let capabilities = asked(&ask)?;
        let (handed, _) = self
            .conduct(
                &caller.task,
                |scene| {
                    let id = &scene.task.opening().task;
                    let request = HandoffRequest {
                        decision: names::decision(id, scene.task.version())?,
                        fresh_grant: names::grant(id, scene.task.version())?,
                        grant: caller.grant.clone(),
                        agent: caller.agent.clone(),
                        instance: caller.instance.clone(),
                        token_until: caller.until,
                        proof: caller.proof.as_ref().map(|p| (p.id, p.until)),
                        to: ask.to.clone(),
                        capabilities: capabilities.clone(),
                        ttl_ms: ask.ttl_ms,
                        payload: ask.payload.clone(),
                    };
                    let handed = hand_off(scene, &request);
                    let after = consequences(scene, &handed);
                    Ok((handed, after))
                },
                |(handed, after)| {
                    core::iter::once(TaskEvent::HandedOff(recorded(handed)))
                        .chain(after.iter().cloned())
                        .collect()
                },
            )
            .await?;
        made(handed)
    }
}

/// The capabilities asked for. A depth above zero is the right to hand on to the same recipients, which has to
/// be asked for by name; the plain number only ever shortens what a capability says.
fn asked(ask: &HandoffAsk) -> Result<Vec<Capability>, EngineError> {
    let mut capabilities = Vec::new();
    for value in &ask.capabilities {
        let mut capability: Capability = serde_json::from_str(&value.canonical())
            .map_err(|e| EngineError::invalid("handoff.capability", format!("not a capability: {e}")))?;
        if let Some(delegate) = &mut capability.delegate {
            delegate.depth = delegate.depth.min(ask.depth.max(1));
        }
        capabilities.push(capability);
    }
    Ok(capabilities)
}

fn made(handed: HandedOff) -> Result<HandoffCall, EngineError> {
    let Some(grant) = handed.grant else {
        return Ok(Err(denial(
            &handed.decision,
            &handed.why,
            &format!("the handoff to {} was refused", handed.to),
        )));
    };
    let capabilities = grant
        .capabilities
        .iter()
        .map(|(capability, _)| Value::from_serialize(capability))
        .collect::<Result<_, _>>()
        .map_err(|e| EngineError::invalid(e.code(), e.to_string()))?;
    Ok(Ok(HandoffMade {
        decision: handed.decision,
        grant: grant.grant,
        to: handed.to,
        capabilities,
        until: grant.until,
        delivered: handed.delivered,
        stripped: handed.stripped.into_iter().collect(),
        sources: handed.sources.iter().map(bailiwick_core::origin::Sourced::in_words).collect(),
    }))
}
