//! Amendments: an agent that needs more than the chain foresees asks for an addition to it.
//!
//! The agent only proposes. What it proposes is judged like an act of its own: inside the ceilings, inside what
//! the agents above may hand on, by policy, and by the budget of questions. A person sees what would become
//! possible that was not, and says yes or no to exactly that. Only then is the addition recorded, as an event of
//! its own, and only once. The intent never changes: to restate it is to open a new task.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use crate::agent::{APPROVERS, Agent};
use crate::approval::{Approval, AskTerms, State};
use crate::capability::{Capability, Limits};
use crate::chain::{Act, Chain, Step};
use crate::constraint::Constraint;
use crate::decision::{
    PENDING, RECORDED_MAX, Scene, Tried, aftermath, has_unexplained, is_dangerous, is_inside, may_vote,
    refused_at_the_door, resource, why,
};
use crate::event::{Asked, Ruled, TaskEvent, Why};
use crate::grant::Grant;
use crate::ids::{AgentId, ApprovalId, DecisionId, GrantId, GroupId, PrincipalId, StepId, ToolId};
use crate::time::Time;
use crate::tool::{Effect, Manifest, Standing, ToolPattern};
use crate::value::{Digest, Value};
use crate::verdict::{Approved, Deed, Facts, Flow, Verdict};

/// Steps in one amendment.
pub const AMENDED_STEPS_MAX: usize = 8;
/// How often an amended step may be taken.
pub const AMENDED_COUNT_MAX: u32 = 16;
/// How long a proposal waits for people, in milliseconds.
const WAITS_MS: u64 = 600_000;

/// An amendment to be judged. The caller has been proven; ids were made by the engine.
#[derive(Debug, Clone)]
pub struct AmendRequest {
    /// The id of the decision to come.
    pub decision: DecisionId,
    /// The id of the question, should there be one.
    pub fresh_approval: ApprovalId,
    /// The grant of the agent that asks.
    pub grant: GrantId,
    /// The agent.
    pub agent: AgentId,
    /// Thumbprint of its key.
    pub instance: String,
    /// When its token expires.
    pub token_until: Time,
    /// Its proof of possession.
    pub proof: Option<(Digest, Time)>,
    /// The steps it proposes.
    pub steps: Vec<Step>,
    /// Its own words. Recorded, never an input.
    pub says: Option<String>,
}

/// What one proposed step would make possible that is not: a line of the authority diff.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Addition {
    /// The step.
    pub step: StepId,
    /// The tool.
    pub tool: ToolId,
    /// What the tool does.
    pub effect: Effect,
    /// Whether that can be undone.
    pub reversible: bool,
    /// What its arguments may be.
    pub args: BTreeMap<String, Constraint>,
    /// How often.
    pub times: u32,
    /// Why it is refused until now.
    pub until_now: String,
    /// What the grant would gain besides the step, with the parent's capability it is cut from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gains: Option<(Capability, Option<u16>)>,
    /// Arguments whose value nobody in the task vouches for.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub unexplained: BTreeSet<String>,
}

/// An amendment as it was proposed, and what became of the proposal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proposed {
    /// The decision.
    pub decision: DecisionId,
    /// The grant of the agent that asks.
    pub grant: GrantId,
    /// The agent.
    pub agent: AgentId,
    /// Which instance of it.
    pub instance: String,
    /// The steps it proposes.
    pub steps: Vec<Step>,
    /// What they would make possible; empty when they were refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub adds: Vec<Addition>,
    /// Asked or refused; never allowed by itself.
    pub outcome: Ruled,
    /// Why.
    pub why: Why,
    /// The question it opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Asked>,
    /// The question that waits already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<ApprovalId>,
    /// The policy version.
    pub policy: Digest,
    /// The registry version.
    pub epoch: u64,
    /// The proof of possession it came with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<(Digest, Time)>,
    /// What the agent said. Untrusted words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub says: Option<String>,
}

/// The chain as it was amended: by people, not by the agent that asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Amended {
    /// The question that was answered.
    pub approval: ApprovalId,
    /// The grant that may take the steps.
    pub grant: GrantId,
    /// The steps, exactly as they were proposed.
    pub steps: Vec<Step>,
    /// Who said yes.
    pub by: BTreeSet<PrincipalId>,
}

/// What a waiting amendment is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// The steps.
    pub steps: Vec<Step>,
    /// What they would make possible.
    pub adds: Vec<Addition>,
}

type Refusal = Box<Why>;

fn refuse<T>(step: u8, code: &str, rule: &str, reason: String, remedy: &str) -> Result<T, Refusal> {
    Err(Box::new(why(step, code, rule, reason, remedy)))
}

/// Judges a proposal. Total: what cannot be judged is refused. The events are to be appended at the version that
/// was read; none of them amends anything.
pub fn propose(scene: Scene<'_>, request: &AmendRequest) -> (Proposed, Vec<TaskEvent>) {
    let scene = scene.in_log_time();
    let mut proposed = Proposed {
        decision: request.decision.clone(),
        grant: request.grant.clone(),
        agent: request.agent.clone(),
        instance: request.instance.clone(),
        steps: request.steps.clone(),
        adds: Vec::new(),
        outcome: Ruled::Deny,
        why: why(0, "undecided", "none", String::new(), ""),
        asked: None,
        approval: None,
        policy: scene.policy.version(),
        epoch: scene.registry.version(),
        proof: request.proof,
        says: request.says.as_ref().map(|words| words.chars().take(500).collect()),
    };
    // What is too long to be shown is too long to be recorded.
    if request.steps.len() > AMENDED_STEPS_MAX || shown(&request.steps).canonical().len() > RECORDED_MAX {
        proposed.steps.clear();
    }
    match judge(scene, request) {
        Ok(adds) => ask(scene, request, Proposed { adds, ..proposed }),
        Err(why) => told(scene, request, Proposed { why: *why, ..proposed }),
    }
}

/// The amendment that a question brings once enough people have said yes. Everything is judged again at this
/// moment: who may vote, whether the task and the grant live, whether the ceilings still hold it.
///
/// # Errors
/// Why it can no longer be taken up.
pub fn take_up(scene: Scene<'_>, approval: &ApprovalId) -> Result<TaskEvent, Refusal> {
    let scene = scene.in_log_time();
    let gone =
        |code: &str, reason: &str| refuse(9, code, "amendment", reason.to_string(), "Ask for a new one.");
    let Some((approval, proposal)) =
        scene.task.approval(approval).and_then(|a| Some((a, a.amends.as_ref()?)))
    else {
        return gone("approval.unknown", "there is no such amendment in this task");
    };
    if approval.state != State::Approved || scene.now >= approval.until {
        return gone("approval.expired", "nobody said yes to it in time");
    }
    let request = AmendRequest {
        decision: approval.decision.clone(),
        fresh_approval: approval.id.clone(),
        grant: approval.grant.clone(),
        agent: approval.agent.clone(),
        instance: approval.instance.clone(),
        token_until: Time(u64::MAX),
        proof: None,
        steps: proposal.steps.clone(),
        says: None,
    };
    let adds = judge(scene, &request)?;
    let gains = |adds: &[Addition]| adds.iter().map(|a| a.gains.clone()).collect::<Vec<_>>();
    if act(scene, &request, approval.until) != approval.act || gains(&adds) != gains(&proposal.adds) {
        return gone("approval.other_act", "policy, ceilings or grants have changed since it was proposed");
    }
    let initiator = &scene.task.opening().initiator;
    if approval.yes.iter().any(|by| !may_vote(scene.registry, initiator, approval, by)) {
        return gone("approval.approver", "somebody who approved may no longer approve this");
    }
    Ok(TaskEvent::Amended(Amended {
        approval: approval.id.clone(),
        grant: approval.grant.clone(),
        steps: proposal.steps.clone(),
        by: approval.yes.clone(),
    }))
}

/// The steps as people and hashes see them.
pub fn shown(steps: &[Step]) -> Value {
    Value::from_serialize(&steps).unwrap_or(Value::Null)
}

fn act(scene: Scene<'_>, request: &AmendRequest, until: Time) -> Digest {
    Digest::of_parts(&[
        b"bailiwick amendment v1",
        scene.task.opening().task.as_str().as_bytes(),
        request.grant.as_str().as_bytes(),
        request.agent.as_str().as_bytes(),
        request.instance.as_bytes(),
        shown(&request.steps).canonical().as_bytes(),
        scene.policy.version().as_bytes(),
        &until.0.to_be_bytes(),
    ])
}

fn judge(scene: Scene<'_>, request: &AmendRequest) -> Result<Vec<Addition>, Refusal> {
    let at_the_door = refused_at_the_door(
        scene,
        &request.grant,
        &request.agent,
        &request.instance,
        request.token_until,
        request.proof,
    );
    if let Some(why) = at_the_door {
        return Err(Box::new(why));
    }
    let (Some(grant), Some(agent)) = (scene.task.grant(&request.grant), scene.registry.agent(&request.agent))
    else {
        return refuse(1, "caller.unknown_grant", "caller", "the grant does not exist".to_string(), "");
    };
    let Some(chain) = scene.task.chain() else {
        let reason = "this task declares no chain, so there is nothing to amend".to_string();
        return refuse(
            6,
            "amendment.no_chain",
            "chain",
            reason,
            "What is refused is refused for another reason.",
        );
    };
    form(chain, agent, &request.steps)?;
    request.steps.iter().map(|step| addition(scene, chain, grant, agent, step)).collect()
}

/// The proposal is a few calls of the asker's own, of one tool each, beside the steps that there are.
fn form(chain: &Chain, agent: &Agent, steps: &[Step]) -> Result<(), Refusal> {
    let odd = |reason: String, remedy: &str| refuse(5, "amendment.form", "amendment", reason, remedy);
    if steps.is_empty() || steps.len() > AMENDED_STEPS_MAX {
        return odd(format!("an amendment has 1 to {AMENDED_STEPS_MAX} steps"), "Ask for less.");
    }
    if shown(steps).canonical().len() > RECORDED_MAX {
        return odd("it is too long to be shown to a person whole".to_string(), "Ask for less.");
    }
    if let Some(step) = steps.iter().find(|step| step.agent != agent.id) {
        let reason = format!("step `{}` is for {}, and an agent asks for itself only", step.id, step.agent);
        return refuse(5, "amendment.not_yours", "amendment", reason, "Let that agent ask.");
    }
    if let Some(step) = steps.iter().find(|step| step.max > AMENDED_COUNT_MAX) {
        let reason =
            format!("step `{}` is to be taken {} times, at most {AMENDED_COUNT_MAX} are", step.id, step.max);
        return odd(reason, "Ask for less.");
    }
    let whole = Chain { steps: chain.steps.iter().chain(steps).cloned().collect(), ..chain.clone() };
    match whole.validate() {
        Ok(()) => Ok(()),
        Err(bad) => {
            odd(bad.to_string(), "New steps have names of their own and come after steps that exist.")
        }
    }
}

fn addition(
    scene: Scene<'_>,
    chain: &Chain,
    grant: &Grant,
    agent: &Agent,
    step: &Step,
) -> Result<Addition, Refusal> {
    let (manifest, args) = called(scene, step)?;
    let gains = gained(scene, grant, agent, step, &manifest.tool, args)?;
    let until_now = obstacle(scene, chain, agent, manifest, args, gains.is_some())?;
    let unexplained = unexplained(scene, manifest, args);
    foreseeable(scene, grant, agent, step, manifest, args, &unexplained)?;
    Ok(Addition {
        step: step.id.clone(),
        tool: manifest.tool.clone(),
        effect: manifest.effect,
        reversible: manifest.reversible,
        args: args.clone(),
        times: step.max,
        until_now,
        gains,
        unexplained,
    })
}

/// One classified tool, with arguments it has, and every value that steers told.
fn called<'a>(
    scene: Scene<'a>,
    step: &'a Step,
) -> Result<(&'a Manifest, &'a BTreeMap<String, Constraint>), Refusal> {
    let Act::Call { tool, args } = &step.act else {
        let reason = format!("step `{}` hands off, and an amendment only adds calls", step.id);
        return refuse(5, "amendment.form", "amendment", reason, "Who works on a task is not amended.");
    };
    let Some(tool) = tool.as_tool() else {
        let reason = format!("step `{}` names `{tool}`, which is not one tool", step.id);
        return refuse(5, "amendment.form", "amendment", reason, "Name each tool.");
    };
    let known = scene.registry.tool(&tool).filter(|t| matches!(t.standing, Standing::Classified { .. }));
    let Some(manifest) = known.and_then(|t| t.manifest.as_ref()) else {
        let reason = format!("{tool} is not a classified tool");
        return refuse(4, "tool.unclassified", "tool", reason, "An operator must classify it first.");
    };
    let odd = |reason: String| {
        refuse(5, "amendment.argument", "manifest", reason, "Name the tool's arguments, each with its value.")
    };
    if let Some(name) = args.keys().find(|name| !manifest.takes(name)) {
        let name: String = name.chars().take(64).flat_map(char::escape_default).collect();
        return odd(format!("{tool} has no declared argument `{name}`"));
    }
    for (name, arg) in &manifest.args {
        match args.get(name) {
            None if arg.required => return odd(format!("{tool} needs argument `{name}`")),
            Some(constraint) if arg.role.steers() && !constraint.is_pinned() => {
                return odd(format!(
                    "argument `{name}` says where the effect lands, so an amendment must name its value"
                ));
            }
            _ => {}
        }
    }
    Ok((manifest, args))
}

/// What the grant lacks for the step, if it lacks something: inside the agent's ceiling, and inside what the agents
/// above may hand on (INV1).
fn gained(
    scene: Scene<'_>,
    grant: &Grant,
    agent: &Agent,
    step: &Step,
    tool: &ToolId,
    args: &BTreeMap<String, Constraint>,
) -> Result<Option<(Capability, Option<u16>)>, Refusal> {
    let wanted = Capability { args: args.clone(), ..Capability::to_use(ToolPattern::exact(tool)) };
    if grant.held.iter().any(|held| held.capability.may_use && held.capability.encloses_args(&wanted)) {
        return Ok(None);
    }
    let Some(ceiling) = agent.ceiling.iter().find(|c| c.may_use && c.encloses_args(&wanted)) else {
        let reason = format!("{} may never use {tool} so: it is above its ceiling", agent.id);
        return refuse(
            5,
            "amendment.ceiling",
            "ceiling",
            reason,
            "Its owner would have to raise the ceiling first.",
        );
    };
    let limits = ceiling.limits.meet(&Limits { uses: Some(u64::from(step.max)), ..Limits::default() });
    let Some(parent) = &grant.parent else {
        return Ok(Some((Capability { limits, ..wanted }, None)));
    };
    let above = scene.task.grant(parent).and_then(|parent| handed(parent, agent, &wanted));
    match above {
        Some((place, bounds)) => {
            Ok(Some((Capability { limits: limits.meet(bounds), ..wanted }, Some(place))))
        }
        None => {
            let reason = format!("the agents above {} hold no right to hand {tool} on", agent.id);
            refuse(
                5,
                "amendment.above_grant",
                "delegation",
                reason,
                "Let the agent that may use it ask, or a person open a task.",
            )
        }
    }
}

/// The parent's capability that may be handed to this agent and encloses what is wanted.
fn handed<'a>(parent: &'a Grant, agent: &Agent, wanted: &Capability) -> Option<(u16, &'a Limits)> {
    (0u16..).zip(&parent.held).find_map(|(place, held)| {
        let right = held.capability.delegate.as_ref().filter(|d| d.depth > 0 && d.to.contains(&agent.id));
        (right.is_some() && held.capability.encloses_args(wanted)).then_some((place, &held.capability.limits))
    })
}

/// Why the act is refused until now. What the chain allows already needs no amendment.
fn obstacle(
    scene: Scene<'_>,
    chain: &Chain,
    agent: &Agent,
    manifest: &Manifest,
    args: &BTreeMap<String, Constraint>,
    lacks_grant: bool,
) -> Result<String, Refusal> {
    if lacks_grant {
        return Ok(format!("{} was not granted {}", agent.id, manifest.tool));
    }
    let Some(exact) = exact(args) else {
        return Ok("the chain has no such step".to_string());
    };
    match chain.step_for_call(scene.task.progress(), &agent.id, &manifest.tool, manifest.effect, &exact) {
        Err(not) => Ok(not.reason),
        Ok(_) => {
            let reason = format!("the chain allows this call of {} already", manifest.tool);
            refuse(6, "amendment.needless", "amendment", reason, "Call it.")
        }
    }
}

/// The one call that the constraints mean, if they mean one.
fn exact(args: &BTreeMap<String, Constraint>) -> Option<BTreeMap<String, Value>> {
    args.iter()
        .map(|(name, constraint)| match constraint {
            Constraint::Exact(value) => Some((name.clone(), value.clone())),
            _ => None,
        })
        .collect()
}

/// Arguments in which some value is named that nobody in the task vouches for.
fn unexplained(
    scene: Scene<'_>,
    manifest: &Manifest,
    args: &BTreeMap<String, Constraint>,
) -> BTreeSet<String> {
    let unknown = |name: &String, value: &Value| {
        let role = manifest.args.get(name).map_or(crate::tool::Role::Target, |arg| arg.role);
        !value.is_blank() && has_unexplained(scene, manifest.args.get(name), role, value)
    };
    args.iter()
        .filter(|(name, _)| manifest.wants_explained(name))
        .filter(|(name, constraint)| match constraint {
            Constraint::Exact(value) => unknown(name, value),
            Constraint::OneOf(values) => values.iter().any(|value| unknown(name, value)),
            Constraint::Any | Constraint::Never => false,
            _ => manifest.args.get(*name).is_some_and(|arg| arg.role.steers()),
        })
        .map(|(name, _)| name.clone())
        .collect()
}

/// Never ask for what approval cannot fix: a call that policy would forbid in any case. What the values are not
/// known of is judged when the call is made.
fn foreseeable(
    scene: Scene<'_>,
    grant: &Grant,
    agent: &Agent,
    step: &Step,
    manifest: &Manifest,
    args: &BTreeMap<String, Constraint>,
    unexplained: &BTreeSet<String>,
) -> Result<(), Refusal> {
    let Some(exact) = exact(args) else { return Ok(()) };
    let opening = scene.task.opening();
    let by = scene.registry.people().filter(|p| !p.workload).map(|p| p.id.clone()).collect();
    let supposed = |group: GroupId| Approved { by, group };
    let values = Value::Map(exact.clone());
    // What the amendment names, it fixes.
    let flow = Flow::of(manifest, &exact, |_| true, |wanted| is_inside(scene.registry, wanted));
    let mut facts = Facts {
        deed: Deed::Call(manifest),
        agent,
        initiator: &opening.initiator,
        task: &opening.task,
        has_chain: true,
        step: Some(&step.id),
        depth: grant.depth,
        resource: Some(resource(manifest, &exact)),
        args: &values,
        label: &grant.label,
        unexplained,
        flow: &flow,
        approval: None,
        now: scene.now,
        remaining_ms: grant.until.since(scene.now),
    };
    let first = scene.policy.evaluate(&facts);
    let last = match first {
        Verdict::Ask { terms, .. } => {
            facts.approval = Some(supposed(terms.group));
            scene.policy.evaluate(&facts)
        }
        other => other,
    };
    match last {
        Verdict::Permit { .. } => Ok(()),
        Verdict::Forbid { rule, reason } | Verdict::Ask { rule, reason, .. } => {
            refuse(8, "policy.forbid", &rule, reason, "Approval cannot change this.")
        }
        Verdict::Error { reason } => {
            let reason = format!("the policy could not be evaluated ({reason})");
            refuse(8, "policy.error", "policy", reason, "An operator must look at the policy.")
        }
    }
}

/// Opens the question, or finds the one that waits; past the budget of questions the task freezes.
fn ask(scene: Scene<'_>, request: &AmendRequest, mut proposed: Proposed) -> (Proposed, Vec<TaskEvent>) {
    let same = |a: &&Approval| {
        a.grant == request.grant && a.amends.as_ref().is_some_and(|p| p.steps == request.steps)
    };
    let mine: Vec<&Approval> = scene.task.approvals().filter(same).collect();
    if let Some((reason, rule)) = mine.iter().find_map(|a| match &a.state {
        State::Denied { reason, .. } => Some((reason, &a.rule)),
        _ => None,
    }) {
        let reason = format!("a person said no to this amendment: {reason}");
        proposed.why = why(9, "approval.denied", rule, reason, "Do not ask again for the same.");
        return told(scene, request, proposed);
    }
    if let Some(waiting) = mine.iter().find(|a| a.state == State::Waiting && scene.now < a.until) {
        proposed.outcome = Ruled::Ask;
        proposed.approval = Some(waiting.id.clone());
        proposed.why = why(9, PENDING, &waiting.rule, "a person has not answered yet".to_string(), WAIT);
        return told(scene, request, proposed);
    }
    let terms = terms(scene, &proposed.adds);
    let Some(terms) = terms.filter(|terms| can_be_answered(scene, terms)) else {
        let reason = "nobody who may approve it is registered".to_string();
        proposed.why = why(9, "policy.forbid", "too-few-approvers", reason, "Approval cannot change this.");
        return told(scene, request, proposed);
    };
    let limit = scene.task.opening().limits.asks;
    if scene.task.asks() >= limit {
        let reason = format!("this task has asked people {limit} times, which is its limit");
        let frozen = TaskEvent::Frozen { by: "bailiwick".to_string(), reason: reason.clone() };
        let remedy = "The task is frozen; a person must look at it.";
        proposed.why = why(9, "approval.budget", "ask-budget", reason, remedy);
        return (proposed.clone(), vec![TaskEvent::AmendmentProposed(proposed), frozen]);
    }
    let grant_until = scene.task.grant(&request.grant).map_or(scene.now, |g| g.until);
    let until = scene.now.plus_ms(terms.ttl_ms).min(grant_until);
    let act = act(scene, request, until);
    let reason = format!("{} asks for more than the chain of this task foresees", request.agent);
    proposed.outcome = Ruled::Ask;
    proposed.why = why(9, "amendment.needed", "amendment", reason, WAIT);
    proposed.asked = Some(Asked { approval: request.fresh_approval.clone(), act, terms, until });
    told(scene, request, proposed)
}

const WAIT: &str = "Wait for the answer, then make the call.";

fn told(scene: Scene<'_>, request: &AmendRequest, proposed: Proposed) -> (Proposed, Vec<TaskEvent>) {
    let after = match proposed.outcome {
        Ruled::Deny => {
            let tried =
                Tried { agent: &request.agent, why: &proposed.why, what: "a proposal", handoff: false };
            aftermath(scene, &tried, "a proposal", None)
        }
        Ruled::Allow | Ruled::Ask => Vec::new(),
    };
    let events = core::iter::once(TaskEvent::AmendmentProposed(proposed.clone())).chain(after).collect();
    (proposed, events)
}

/// Who opened the task may say yes to what can be undone; for everything else somebody else must.
fn terms(scene: Scene<'_>, adds: &[Addition]) -> Option<AskTerms> {
    let manifest = |tool| scene.registry.tool(tool).and_then(|t| t.manifest.as_ref());
    let dangerous = adds.iter().any(|add| manifest(&add.tool).is_none_or(is_dangerous));
    let group = GroupId::parse(APPROVERS).ok()?;
    Some(AskTerms { group, quorum: 1, initiator_may: !dangerous, ttl_ms: WAITS_MS })
}

fn can_be_answered(scene: Scene<'_>, terms: &AskTerms) -> bool {
    let initiator = &scene.task.opening().initiator;
    scene
        .registry
        .people()
        .any(|p| !p.workload && p.is_in(terms.group.as_str()) && (terms.initiator_may || p.id != *initiator))
}
