//! Opening a task: what the root grant may hold.
//!
//! Root grant = what the initiator may grant ∩ the agent's ceiling ∩ the task's chain.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::agent::Agent;
use crate::capability::{Capability, Delegate};
use crate::chain::{Act, Chain, Reads};
use crate::event::Opening;
use crate::ids::AgentId;
use crate::registry::Registry;
use crate::time::Time;
use crate::tool::Effect;

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
    if let Some(chain) = &opening.chain {
        chain.validate().map_err(|e| BadOpening { code: "task.chain", reason: e.to_string() })?;
        known_agents(registry, chain)?;
    }
    opening.capabilities.iter().try_for_each(|c| under_ceiling(agent, c))
}

fn known_agents(registry: &Registry, chain: &Chain) -> Result<(), BadOpening> {
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
    let use_ok = !asked.may_use || agent.ceiling.iter().any(|c| c.may_use && c.encloses_args(asked));
    let pass_ok = asked.delegate.as_ref().is_none_or(|want| {
        agent.ceiling.iter().any(|c| {
            c.encloses_args(asked)
                && c.delegate.as_ref().is_some_and(|d| d.depth >= want.depth && want.to.is_subset(&d.to))
        })
    });
    if use_ok && pass_ok {
        return Ok(());
    }
    let what = if use_ok { "hand on" } else { "use" };
    bad("task.ceiling", format!("{} may never {what} `{}`: it is above its ceiling", agent.id, asked.tool))
}

/// The capabilities a root agent needs for a chain, inside its ceiling: what it does itself to use, what
/// comes after its handoffs to hand on. Nothing else.
pub fn capabilities_for(registry: &Registry, chain: &Chain, agent: &Agent) -> Vec<Capability> {
    let mut out = Vec::new();
    for ceiling in &agent.ceiling {
        let mine = chain.steps.iter().filter(|s| s.agent == agent.id).filter_map(|s| call_of(&s.act));
        let to_use = ceiling.may_use
            && mine.into_iter().any(|tool| ceiling.tool.contains(tool) || tool.contains(&ceiling.tool));
        let reads = ceiling.may_use && chain.reads == Reads::Open && only_reads(registry, ceiling);
        let delegate = ceiling.delegate.as_ref().and_then(|d| below(chain, agent, ceiling, d));
        if to_use || reads || delegate.is_some() {
            out.push(Capability { may_use: to_use || reads, delegate, ..ceiling.clone() });
        }
    }
    out
}

fn call_of(act: &Act) -> Option<&crate::tool::ToolPattern> {
    if let Act::Call { tool, .. } = act { Some(tool) } else { None }
}

/// Whether everything classified that the pattern means is a read, and there is something.
fn only_reads(registry: &Registry, capability: &Capability) -> bool {
    let mut effects = registry
        .tools()
        .filter(|(id, _)| capability.tool.admits(id))
        .filter_map(|(_, t)| t.manifest.as_ref())
        .map(|m| m.effect)
        .peekable();
    effects.peek().is_some() && effects.all(|e| e == Effect::Read)
}

/// The right to hand a capability on that the chain's later agents need, if any of them needs it.
fn below(chain: &Chain, agent: &Agent, ceiling: &Capability, right: &Delegate) -> Option<Delegate> {
    let reachable = reachable(chain, &agent.id);
    let needed = chain.steps.iter().any(|s| {
        reachable.contains(&s.agent)
            && call_of(&s.act).is_some_and(|t| ceiling.tool.contains(t) || t.contains(&ceiling.tool))
    });
    let to: BTreeSet<AgentId> = right.to.intersection(&reachable).cloned().collect();
    (needed && !to.is_empty()).then_some(Delegate { to, depth: right.depth })
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
