//! Handoffs: the making of a child grant, which is a decision of its own.
//!
//! A child grant is contained in its parent's delegate rights in every dimension (INV1). An over-ask is
//! refused and names what was too much; it is never trimmed silently. Approvals never pass. The payload goes
//! through here: only fields that the chain's handoff step names are delivered, each of the type it declares.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use crate::agent::Agent;
use crate::capability::{Capability, Delegate};
use crate::chain::{Act, Risk, Step};
use crate::decision::{Scene, Tried, aftermath, origin_of, refused_at_the_door, why};
use crate::event::{HandedOff, NewGrant, Ruled, TaskEvent, Why};
use crate::grant::Grant;
use crate::ids::{AgentId, DecisionId, GrantId};
use crate::opening::classified;
use crate::origin::{Sourced, Wanted, identify, leaves, mentions};
use crate::payload::Delivery;
use crate::time::Time;
use crate::tool::{Effect, Manifest, ToolPattern};
use crate::value::{Digest, Value};
use crate::verdict::{Deed, Facts, Flow, Observed, Verdict};

/// A handoff to be decided. The parent has been proven; ids were made by the engine.
#[derive(Debug, Clone)]
pub struct HandoffRequest {
    /// The id of the decision to come.
    pub decision: DecisionId,
    /// The id of the child grant, should there be one.
    pub fresh_grant: GrantId,
    /// The parent's grant.
    pub grant: GrantId,
    /// The parent.
    pub agent: AgentId,
    /// Thumbprint of the parent's key.
    pub instance: String,
    /// When the parent's token expires.
    pub token_until: Time,
    /// The parent's proof of possession.
    pub proof: Option<(Digest, Time)>,
    /// The child.
    pub to: AgentId,
    /// What is asked for it. Empty: what the parent may hand to it within the child's ceiling.
    pub capabilities: Vec<Capability>,
    /// How long, in milliseconds. Absent: as long as the parent.
    pub ttl_ms: Option<u64>,
    /// The payload offered.
    pub payload: Value,
}

/// Handoffs in a row that no configuration can exceed.
pub const DEPTH_MAX: u8 = 8;

/// Longest payload, in canonical bytes.
pub const PAYLOAD_MAX: usize = 524_288;

/// Decides one handoff. Total: whatever cannot be judged is a refusal. What comes back is an event that nobody
/// knows of yet: the child grant exists once it has been appended, because the fold makes it, and not before.
pub fn hand_off(scene: Scene<'_>, request: &HandoffRequest) -> HandedOff {
    let scene = scene.in_log_time();
    let blank = HandedOff {
        decision: request.decision.clone(),
        parent: request.grant.clone(),
        from: request.agent.clone(),
        to: request.to.clone(),
        outcome: Ruled::Deny,
        why: why(0, "undecided", "none", String::new(), ""),
        grant: None,
        asked: request.capabilities.clone(),
        chain_step: None,
        delivered: Value::empty(),
        stripped: BTreeSet::new(),
        observed: None,
        sources: Vec::new(),
        policy: scene.policy.version(),
        epoch: scene.registry.version(),
        proof: request.proof,
    };
    let mut observed = None;
    let judged = judge(scene, request, &mut observed);
    let blank = HandedOff { observed, ..blank };
    match judged {
        Err(why) => HandedOff { why: *why, ..blank },
        Ok(made) => {
            let reason =
                "inside the parent's rights, the child's ceiling, the chain and the policy".to_string();
            HandedOff {
                outcome: Ruled::Allow,
                why: why(10, "allowed", &made.rules, reason, ""),
                grant: Some(made.grant),
                asked: Vec::new(),
                chain_step: made.step.map(|s| s.id.clone()),
                sources: sources(scene, &made.delivered),
                delivered: made.delivered,
                stripped: made.stripped,
                ..blank
            }
        }
    }
}

/// How many values of a payload are told with their sources.
const SOURCES_MAX: usize = 64;

/// Where the values of a payload came from: its addresses, links, accounts and numbers, and every value that
/// somebody vouches for. Whatever the sender says of them is content like the rest.
fn sources(scene: Scene<'_>, delivered: &Value) -> Vec<Sourced> {
    let mut out = Vec::new();
    for (field, value) in delivered.as_map().into_iter().flatten() {
        for leaf in leaves(value) {
            let whole = Wanted::OneOrRecord(identify(&leaf));
            let origin = origin_of(scene, &whole);
            let wanted = match origin {
                Some(_) => vec![whole],
                None => mentions(&leaf).into_iter().map(Wanted::One).collect(),
            };
            for wanted in wanted {
                if out.len() >= SOURCES_MAX {
                    return out;
                }
                let from = origin_of(scene, &wanted);
                let seen = if from.is_none() { scene.task.seen(&wanted) } else { None };
                out.push(Sourced::new(field, wanted.text(), from.cloned(), seen));
            }
        }
    }
    out
}

/// What is recorded of a handoff: a long payload as its hash and its beginning (A72).
pub fn recorded(handed: &HandedOff) -> HandedOff {
    HandedOff { delivered: crate::decision::recorded(handed.delivered.clone()), ..handed.clone() }
}

/// What follows from a handoff besides its own record: a refused one may be a deviation from the chain (T4), or
/// one refusal too many (N3). To be appended right after the handoff, at the version that was read.
pub fn consequences(scene: Scene<'_>, handed: &HandedOff) -> Vec<TaskEvent> {
    let rule = scene.task.chain().filter(|_| handed.why.step == 6);
    let rule = rule.map(|chain| chain.deviation(&[Risk::HandOff], false));
    match handed.outcome {
        Ruled::Deny => {
            let tried =
                Tried { agent: &handed.from, why: &handed.why, what: handed.to.as_str(), handoff: true };
            aftermath(scene, &tried, &format!("a handoff to {}", handed.to), rule)
        }
        Ruled::Allow | Ruled::Ask => Vec::new(),
    }
}

struct Made<'a> {
    grant: NewGrant,
    step: Option<&'a Step>,
    delivered: Value,
    stripped: BTreeSet<String>,
    rules: String,
}

type Refusal = alloc::boxed::Box<Why>;

fn refuse<T>(step: u8, code: &str, rule: &str, reason: String, remedy: &str) -> Result<T, Refusal> {
    Err(alloc::boxed::Box::new(why(step, code, rule, reason, remedy)))
}

fn judge<'a>(
    scene: Scene<'a>,
    request: &HandoffRequest,
    observed: &mut Option<Observed>,
) -> Result<Made<'a>, Refusal> {
    if let Some(why) = refused_at_the_door(
        scene,
        &request.grant,
        &request.agent,
        &request.instance,
        request.token_until,
        request.proof,
    ) {
        return Err(alloc::boxed::Box::new(why));
    }
    let Some(parent) = scene.task.grant(&request.grant) else {
        return refuse(1, "caller.unknown_grant", "caller", "the grant does not exist".to_string(), "");
    };
    let child = recipient(scene, &request.to)?;
    room(scene, parent)?;
    let until = window(scene, parent, request.ttl_ms)?;
    let capabilities = if request.capabilities.is_empty() {
        foreseen(scene, parent, child)
    } else {
        request
            .capabilities
            .iter()
            .map(|asked| within(scene, parent, child, asked))
            .collect::<Result<Vec<_>, _>>()?
            .concat()
    };
    if capabilities.is_empty() {
        let reason = format!("{} holds nothing that it may hand to {}", parent.agent, child.id);
        return refuse(
            5,
            "handoff.nothing",
            "delegation",
            reason,
            "Propagation is denied unless the task grants it.",
        );
    }
    let step = chain_step(scene, parent, child)?;
    let Delivery { delivered, stripped } = deliver(step, &request.payload)?;
    let rules = policy(scene, parent, child, step, &delivered, until, observed)?;
    let grant =
        NewGrant { grant: request.fresh_grant.clone(), capabilities, until, label: parent.label.clone() };
    Ok(Made { grant, step, delivered, stripped, rules })
}

/// The child is registered and not suspended.
fn recipient<'a>(scene: Scene<'a>, to: &AgentId) -> Result<&'a Agent, Refusal> {
    let Some(child) = scene.registry.agent(to) else {
        return refuse(
            4,
            "handoff.unknown_agent",
            "delegation",
            format!("no agent {to} is registered"),
            "Hand on to a registered agent.",
        );
    };
    match scene.registry.halts_agent(child) {
        Some((scope, s)) => refuse(
            2,
            "control.suspended",
            "suspension",
            format!("{scope} is suspended: {}", s.reason),
            "Only a person can lift it.",
        ),
        None => Ok(child),
    }
}

/// One more handoff fits the task's limits and the depth.
fn room(scene: Scene<'_>, parent: &Grant) -> Result<(), Refusal> {
    let limits = &scene.task.opening().limits;
    if scene.task.handoffs() >= limits.handoffs {
        let reason = format!("this task has made its {} handoffs", limits.handoffs);
        return refuse(10, "budget.handoffs", "budget", reason, "");
    }
    let deepest = limits.depth.min(DEPTH_MAX);
    if parent.depth >= deepest {
        let reason = format!(
            "this task allows {deepest} handoffs in a row, and {} is already {} deep",
            parent.agent, parent.depth
        );
        return refuse(5, "handoff.depth", "delegation", reason, "Let an agent nearer to the root hand on.");
    }
    Ok(())
}

/// The child's end: never after the parent's.
fn window(scene: Scene<'_>, parent: &Grant, ttl_ms: Option<u64>) -> Result<Time, Refusal> {
    let Some(ttl) = ttl_ms else { return Ok(parent.until) };
    let until = scene.now.plus_ms(ttl);
    if until <= parent.until {
        return Ok(until);
    }
    let reason = format!(
        "handoff widens authority: it would outlive the grant of {} by {} ms",
        parent.agent,
        until.since(parent.until)
    );
    refuse(5, "handoff.widens", "delegation", reason, "Ask for less time.")
}

/// What was asked for is inside a capability of the parent that it may hand to this child, inside the child's
/// ceiling, and inside the chain. What names no limit of its own is cut from every capability that it lies in: a
/// tool that the chain calls in several steps, each with other arguments, is held once for each of them.
fn within(
    scene: Scene<'_>,
    parent: &Grant,
    child: &Agent,
    asked: &Capability,
) -> Result<Vec<(Capability, u16)>, Refusal> {
    let (mut nearest, mut cut): (Option<String>, Vec<(Capability, u16)>) = (None, Vec::new());
    for place in 0..parent.held.len() {
        let place = u16::try_from(place).unwrap_or(u16::MAX);
        match fits(scene, parent, place, child, asked) {
            Ok(left) => {
                let ceiling = under_ceiling(child, asked)?;
                inside_chain(scene, child, asked)?;
                cut.push((bounded(asked, &left, ceiling), place));
                if !asked.limits.is_open() {
                    break;
                }
            }
            Err(Some(what)) => nearest = nearest.or(Some(what)),
            Err(None) => {}
        }
    }
    if !cut.is_empty() {
        return Ok(cut);
    }
    let reason = match nearest {
        Some(what) => format!(
            "handoff widens authority: {what} of `{}` is more than {} may hand to {}",
            asked.tool, parent.agent, child.id
        ),
        None => format!(
            "handoff widens authority: `{}` is not among what {} may hand to {}",
            asked.tool, parent.agent, child.id
        ),
    };
    refuse(5, "handoff.widens", "delegation", reason, "Ask for no more than the parent may hand on.")
}

/// What the parent has left of its capability, if the request lies inside it. `Err(None)`: about something else;
/// `Err(Some)`: the dimension in which too much was asked.
fn fits(
    scene: Scene<'_>,
    parent: &Grant,
    place: u16,
    child: &Agent,
    asked: &Capability,
) -> Result<Capability, Option<String>> {
    let held = parent.held.get(usize::from(place)).ok_or(None)?;
    let mine = &held.capability;
    let right = mine.delegate.as_ref().filter(|d| d.depth > 0 && d.to.contains(&child.id)).ok_or(None)?;
    if !mine.tool.contains(&asked.tool) {
        return Err(None);
    }
    let left = Capability { limits: remaining(scene, parent, place), ..mine.clone() };
    left.encloses(&inherit(asked, &left)).map_err(Some)?;
    match &asked.delegate {
        Some(further) if further.depth >= right.depth => Err(Some("the delegation depth".to_string())),
        Some(further) if !further.to.is_subset(&right.to) => {
            Err(Some("the list of further recipients".to_string()))
        }
        _ => Ok(left),
    }
}

/// What was asked, completed: an argument or limit that the request does not mention stays as the parent has
/// it, which is no over-ask.
fn inherit(asked: &Capability, left: &Capability) -> Capability {
    let mut full = asked.clone();
    for (name, constraint) in &left.args {
        full.args.entry(name.clone()).or_insert_with(|| constraint.clone());
    }
    full.limits = asked.limits.or(&left.limits);
    full
}

/// The child's capability as it is granted: everything that was asked, and beside it the bounds of what the
/// parent has left and of the child's ceiling.
fn bounded(asked: &Capability, left: &Capability, ceiling: &Capability) -> Capability {
    let mut child = asked.clone();
    for (name, constraint) in &left.args {
        let met = child.args.get(name).map_or_else(|| constraint.clone(), |own| own.meet(constraint));
        child.args.insert(name.clone(), met);
    }
    child.limits = asked.limits.meet(&left.limits).meet(&ceiling.limits);
    child
}

/// What the parent and all above it have left of a capability.
fn remaining(scene: Scene<'_>, grant: &Grant, place: u16) -> crate::capability::Limits {
    let mut limits = crate::capability::Limits::default();
    let mut at = Some((grant, place));
    while let Some((node, place)) = at.take() {
        let Some(held) = node.held.get(usize::from(place)) else { break };
        limits = limits.meet(&held.capability.limits.less(held.spent));
        at = node.parent.as_ref().and_then(|id| scene.task.grant(id)).zip(held.from);
    }
    limits
}

/// The ceiling that what was asked lies under: tool, rights, arguments and every limit that was asked for. A
/// limit that was not mentioned becomes the ceiling's.
fn under_ceiling<'a>(child: &'a Agent, asked: &Capability) -> Result<&'a Capability, Refusal> {
    let may_pass = |ceiling: &Capability, want: &Delegate| {
        ceiling.delegate.as_ref().is_some_and(|d| want.depth <= d.depth && want.to.is_subset(&d.to))
    };
    let enough = |ceiling: &&Capability| {
        ceiling.tool.contains(&asked.tool)
            && (ceiling.may_use || !asked.may_use)
            && asked.delegate.as_ref().is_none_or(|want| may_pass(ceiling, want))
            && asked.limits.or(&ceiling.limits).exceeds(&ceiling.limits).is_none()
            && ceiling.args.iter().all(|(name, c)| asked.args.get(name).is_some_and(|a| c.contains(a)))
    };
    if let Some(ceiling) = child.ceiling.iter().find(enough) {
        return Ok(ceiling);
    }
    let reason = format!("`{}` is above the ceiling of {}", asked.tool, child.id);
    refuse(5, "handoff.ceiling", "ceiling", reason, "Its owner would have to raise the ceiling first.")
}

/// An effect that no step of the chain gives to the child cannot be handed to it.
fn inside_chain(scene: Scene<'_>, child: &Agent, asked: &Capability) -> Result<(), Refusal> {
    let (Some(chain), Some(tool)) = (scene.task.chain(), asked.tool.as_tool()) else {
        return Ok(());
    };
    let is_read = scene
        .registry
        .tool(&tool)
        .and_then(|t| t.manifest.as_ref())
        .is_some_and(|m| m.effect == Effect::Read);
    if !asked.may_use || is_read || chain.foresees(&child.id, &tool) {
        return Ok(());
    }
    let reason = format!("the task's chain has no step in which {} calls {tool}", child.id);
    refuse(6, "handoff.chain", "chain", reason, "A person would have to open a task that says so.")
}

/// What the chain and the parent's delegate rights foresee for this child, inside its ceiling.
fn foreseen(scene: Scene<'_>, parent: &Grant, child: &Agent) -> Vec<(Capability, u16)> {
    let mut out = Vec::new();
    for (place, held) in parent.held.iter().enumerate() {
        let place = u16::try_from(place).unwrap_or(u16::MAX);
        let mine = &held.capability;
        let Some(right) = mine.delegate.as_ref().filter(|d| d.depth > 0 && d.to.contains(&child.id)) else {
            continue;
        };
        let left = Capability { limits: remaining(scene, parent, place), ..mine.clone() };
        for ceiling in &child.ceiling {
            let Some(common) = common(&left, right, ceiling) else { continue };
            out.extend(needed(scene, child, common).into_iter().map(|capability| (capability, place)));
        }
    }
    out
}

/// With a chain, a pattern becomes the tools that the chain gives to the child, and the reads that are open.
fn needed(scene: Scene<'_>, child: &Agent, capability: Capability) -> Vec<Capability> {
    let Some(chain) = scene.task.chain() else { return vec![capability] };
    let open =
        |manifest: &Manifest| manifest.effect == Effect::Read && chain.reads.open_in(manifest.tool.system());
    classified(scene.registry, &capability)
        .filter(|(tool, manifest)| {
            capability.delegate.is_some() || open(manifest) || chain.foresees(&child.id, tool)
        })
        .map(|(tool, _)| Capability { tool: ToolPattern::exact(tool), ..capability.clone() })
        .collect()
}

/// The capability that lies in both the parent's right and the child's ceiling.
fn common(mine: &Capability, right: &Delegate, ceiling: &Capability) -> Option<Capability> {
    let tool = if mine.tool.contains(&ceiling.tool) {
        ceiling.tool.clone()
    } else if ceiling.tool.contains(&mine.tool) {
        mine.tool.clone()
    } else {
        return None;
    };
    let mut args: BTreeMap<_, _> = mine.args.clone();
    for (name, constraint) in &ceiling.args {
        let met = args.get(name).map_or_else(|| constraint.clone(), |own| own.meet(constraint));
        args.insert(name.clone(), met);
    }
    let delegate = ceiling.delegate.as_ref().filter(|_| right.depth > 1).map(|d| Delegate {
        to: d.to.intersection(&right.to).cloned().collect(),
        depth: d.depth.min(right.depth - 1),
    });
    let delegate = delegate.filter(|d| !d.to.is_empty() && d.depth > 0);
    let limits = mine.limits.meet(&ceiling.limits);
    (ceiling.may_use || delegate.is_some()).then_some(Capability {
        tool,
        args,
        limits,
        may_use: ceiling.may_use,
        delegate,
    })
}

fn chain_step<'a>(scene: Scene<'a>, parent: &Grant, child: &Agent) -> Result<Option<&'a Step>, Refusal> {
    let Some(chain) = scene.task.chain() else { return Ok(None) };
    match chain.step_for_handoff(scene.task.progress(), &parent.agent, &child.id) {
        Ok(step) => Ok(Some(step)),
        Err(not) => Err(alloc::boxed::Box::new(why(6, not.code, "chain", not.reason, &not.remedy))),
    }
}

/// Only the named fields go through, each of the type that the step declares for it; the names of the others are
/// kept. Without a chain nothing is stripped, and every surface says that such a task gives weaker guarantees.
fn deliver(step: Option<&Step>, payload: &Value) -> Result<Delivery, Refusal> {
    let Some(fields) = payload.as_map() else {
        return refuse(
            5,
            "handoff.payload",
            "payload",
            "the payload must be an object".to_string(),
            "Name each field.",
        );
    };
    if payload.canonical().len() > PAYLOAD_MAX {
        let reason = format!("the payload is longer than {PAYLOAD_MAX} bytes");
        return refuse(5, "handoff.payload", "payload", reason, "Hand over a reference instead.");
    }
    let Some((step, Act::HandOff { pass, .. })) = step.map(|s| (s, &s.act)) else {
        return Ok(Delivery { delivered: payload.clone(), stripped: BTreeSet::new() });
    };
    pass.deliver(fields).or_else(|bad| {
        let reason = format!("field `{}` of the payload {}", bad.input, bad.what);
        let remedy = format!("{} Step `{}` delivers {}.", bad.next, step.id, pass.in_words());
        refuse(5, "handoff.field", "payload", reason, &remedy)
    })
}

fn policy(
    scene: Scene<'_>,
    parent: &Grant,
    child: &Agent,
    step: Option<&Step>,
    delivered: &Value,
    until: Time,
    observed: &mut Option<Observed>,
) -> Result<String, Refusal> {
    let opening = scene.task.opening();
    let Some(agent) = scene.registry.agent(&parent.agent) else {
        return refuse(1, "caller.unknown_agent", "caller", "the parent is not registered".to_string(), "");
    };
    let facts = Facts {
        deed: Deed::HandOff(child),
        agent,
        initiator: &opening.initiator,
        task: &opening.task,
        has_chain: opening.chain.is_some(),
        step: step.map(|s| &s.id),
        depth: parent.depth,
        resource: None,
        args: delivered,
        label: &parent.label,
        unexplained: &BTreeSet::new(),
        flow: &Flow::default(),
        approval: None,
        now: scene.now,
        remaining_ms: until.since(scene.now),
    };
    *observed = scene.policy.observe(&facts);
    match scene.policy.evaluate(&facts) {
        Verdict::Permit { rules } => Ok(rules.join(", ")),
        Verdict::Forbid { rule, reason } => {
            refuse(8, "policy.forbid", &rule, reason, "Approval cannot change this.")
        }
        Verdict::Ask { rule, reason, .. } => {
            let reason = format!("{reason} (a handoff cannot wait for a person; the act itself can)");
            refuse(8, "policy.forbid", &rule, reason, "Hand on less, and let the act ask.")
        }
        Verdict::Error { reason } => {
            let reason = format!("the policy could not be evaluated ({reason})");
            refuse(8, "policy.error", "policy", reason, "An operator must look at the policy.")
        }
    }
}
