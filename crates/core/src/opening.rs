//! Opening a task: what the root grant may hold.
//!
//! Root grant = what the initiator may grant ∩ the agent's ceiling ∩ the task's chain.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::agent::Agent;
use crate::capability::{Capability, Delegate};
use crate::chain::{Act, Chain};
use crate::event::Opening;
use crate::ids::{AgentId, ToolId};
use crate::input::{INPUTS_MAX, complete};
use crate::registry::Registry;
use crate::time::Time;
use crate::tool::{Effect, Manifest, ToolPattern};

/// Why a task cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct BadOpening {
    /// Stable code.
    pub code: &'static str,
    /// What, why and the next step.
    pub reason: String,
}

fn bad<T>(code: &'static str, reason: String) -> Result<T, BadOpening> {
    Err(BadOpening { code, reason })
}

/// The longest a task may live, in milliseconds: seven days.
pub const WINDOW_MAX_MS: u64 = 7 * 24 * 3_600_000;

/// Checks an opening against the registry. What it grants must lie under the agent's ceiling.
pub fn check(registry: &Registry, opening: &Opening, now: Time) -> Result<(), BadOpening> {
    if opening.intent.trim().is_empty() || opening.intent.len() > 4000 {
        return bad(
            "task.intent",
            "a task needs an intent of 1 to 4000 characters; say what you want done".to_string(),
        );
    }
    let Some(initiator) = registry.person(&opening.initiator) else {
        return bad(
            "task.initiator",
            format!("{} is not known here; an operator must add them first", opening.initiator),
        );
    };
    if let Some((scope, s)) = registry.halts_task(&opening.task, &initiator.id) {
        return bad("control.suspended", format!("{scope} is suspended: {}", s.reason));
    }
    let Some(agent) = registry.agent(&opening.agent) else {
        return bad(
            "task.agent",
            format!("no agent {} is registered; see `bailiwick agent ls`", opening.agent),
        );
    };
    if let Some((scope, s)) = registry.halts_agent(agent) {
        return bad("control.suspended", format!("{scope} is suspended: {}", s.reason));
    }
    if opening.limits.until <= now || opening.limits.until.since(now) > WINDOW_MAX_MS {
        return bad(
            "task.window",
            "a task's window must close in the future and within seven days".to_string(),
        );
    }
    typed(opening)?;
    if let Some(chain) = &opening.chain {
        chain.validate().map_err(|e| BadOpening { code: "task.chain", reason: e.to_string() })?;
        known_agents(registry, chain)?;
    }
    opening.capabilities.iter().try_for_each(|c| under_ceiling(agent, c))
}

/// The inputs are what their types say. A task without types takes what it is given, and is told apart by that.
fn typed(opening: &Opening) -> Result<(), BadOpening> {
    if opening.inputs.len().max(opening.types.len()) > INPUTS_MAX {
        return bad("task.input", format!("a task has at most {INPUTS_MAX} inputs"));
    }
    if opening.types.is_empty() {
        return Ok(());
    }
    let declared = opening.types.iter().try_for_each(|(name, declared)| declared.validate(name));
    let complete = declared.and_then(|()| complete(&opening.types, &opening.inputs));
    match complete {
        Ok(all) if all == opening.inputs => Ok(()),
        Ok(_) => bad("task.input", "a default was not filled in".to_string()),
        Err(why) => bad(why.code, format!("{why}. {}", why.next)),
    }
}

/// Every agent that a chain names is registered.
///
/// # Errors
/// `task.agent`, with the one that is not.
pub fn known_agents(registry: &Registry, chain: &Chain) -> Result<(), BadOpening> {
    let named = chain.steps.iter().flat_map(|s| {
        let to = if let Act::HandOff { to, .. } = &s.act { Some(to) } else { None };
        [Some(&s.agent), to].into_iter().flatten()
    });
    match named.into_iter().find(|id| registry.agent(id).is_none()) {
        Some(id) => bad("task.agent", format!("the chain names agent {id}, which is not registered")),
        None => Ok(()),
    }
}

fn under_ceiling(agent: &Agent, asked: &Capability) -> Result<(), BadOpening> {
    let use_ok = !asked.may_use || agent.ceiling.iter().any(|c| c.may_use && c.encloses(asked).is_ok());
    let pass_ok = asked.delegate.as_ref().is_none_or(|want| {
        agent.ceiling.iter().any(|c| {
            c.encloses(asked).is_ok()
                && c.delegate.as_ref().is_some_and(|d| d.depth >= want.depth && want.to.is_subset(&d.to))
        })
    });
    if use_ok && pass_ok {
        return Ok(());
    }
    let what = if use_ok { "hand on" } else { "use" };
    bad("task.ceiling", format!("{} may never {what} `{}`: it is above its ceiling", agent.id, asked.tool))
}

/// The capabilities a root agent needs for a chain, inside its ceiling and tool by tool: what it does itself
/// to use, what comes after its handoffs to hand on. Nothing else.
pub fn capabilities_for(registry: &Registry, chain: &Chain, agent: &Agent) -> Vec<Capability> {
    let mut out = Vec::new();
    for ceiling in &agent.ceiling {
        let below = ceiling.delegate.as_ref().and_then(|right| below(chain, agent, right));
        for (tool, manifest) in classified(registry, ceiling) {
            let open_read = manifest.effect == Effect::Read && chain.reads.open_in(tool.system());
            let may_use = ceiling.may_use && (open_read || chain.foresees(&agent.id, tool));
            let delegate =
                below.clone().filter(|right| open_read || right.to.iter().any(|to| needs(chain, to, tool)));
            if may_use || delegate.is_some() {
                out.push(Capability { tool: ToolPattern::exact(tool), may_use, delegate, ..ceiling.clone() });
            }
        }
    }
    out
}

/// The classified tools that a capability means.
pub(crate) fn classified<'a>(
    registry: &'a Registry,
    capability: &'a Capability,
) -> impl Iterator<Item = (&'a ToolId, &'a Manifest)> {
    registry
        .tools()
        .filter(|(id, _)| capability.tool.admits(id))
        .filter_map(|(id, tool)| tool.manifest.as_ref().map(|manifest| (id, manifest)))
}

/// Whether an agent, or one that it may reach by handoffs, has a step for a tool.
fn needs(chain: &Chain, agent: &AgentId, tool: &ToolId) -> bool {
    chain.foresees(agent, tool) || reachable(chain, agent).iter().any(|further| chain.foresees(further, tool))
}

/// The right to hand on, cut down to those that the chain's handoffs lead to.
fn below(chain: &Chain, agent: &Agent, right: &Delegate) -> Option<Delegate> {
    let to: BTreeSet<AgentId> = right.to.intersection(&reachable(chain, &agent.id)).cloned().collect();
    (!to.is_empty()).then_some(Delegate { to, depth: right.depth })
}

/// Agents that handoff steps lead to from this one.
fn reachable(chain: &Chain, from: &AgentId) -> BTreeSet<AgentId> {
    let mut seen = BTreeSet::from([from.clone()]);
    loop {
        let next: Vec<AgentId> = chain
            .steps
            .iter()
            .filter(|s| seen.contains(&s.agent))
            .filter_map(|s| if let Act::HandOff { to, .. } = &s.act { Some(to.clone()) } else { None })
            .filter(|to| !seen.contains(to))
            .collect();
        if next.is_empty() {
            seen.remove(from);
            return seen;
        }
        seen.extend(next);
    }
}
