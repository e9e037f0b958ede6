//! The decision: ten steps, the first failure wins, the answer names the step.
//!
//! [`decide`] is a pure function of the folded registry and task, the request, the policy and the time. What
//! it returns is not yet permission: a [`Ruling`] becomes a [`Permit`] only by [`Ruling::commit`], after the
//! events that say so are durable (INV7).

use alloc::borrow::Cow;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use crate::agent::{APPROVERS, Agent};
use crate::approval::{Approval, AskTerms, FrozenAct, State, redact};
use crate::capability::{Spent, Uncovered};
use crate::chain::{Deviation, Risk, Step};
use crate::declassify::{self, Lowered};
use crate::event::{Asked, Cause, Charge, Decided, Ruled, TaskEvent, Why};
use crate::grant::{Grant, Held};
use crate::ids::{AgentId, ApprovalId, DecisionId, GrantId, GroupId, PrincipalId, StepId, ToolId};
use crate::label::Label;
use crate::origin::{
    Identifier, Kind, Origin, Sourced, Wanted, host_in_domains, in_domains, leaves, mentions, steering,
};
use crate::registry::Registry;
use crate::task::{Task, TaskState};
use crate::time::Time;
use crate::tool::{Arg, Effect, Manifest, Role, Standing};
use crate::value::{Digest, Value};
use crate::verdict::{Approved, Deed, Facts, Flow, Observed, Policy, Resource, Verdict};

/// One tool call to be decided. The caller has been proven; ids were made by the engine.
#[derive(Debug, Clone)]
pub struct Request {
    /// The id of the decision to come.
    pub decision: DecisionId,
    /// The id of the question, should there be one.
    pub fresh_approval: ApprovalId,
    /// The grant the token carries.
    pub grant: GrantId,
    /// The agent the token names.
    pub agent: AgentId,
    /// Thumbprint of the key that proved possession.
    pub instance: String,
    /// When the token expires.
    pub token_until: Time,
    /// The proof of possession: its hash, and when it is too old anyway.
    pub proof: Option<(Digest, Time)>,
    /// The tool.
    pub tool: ToolId,
    /// The arguments.
    pub args: Value,
    /// The definition's hash as the enforcement point sees it now, if it sees one.
    pub definition: Option<Digest>,
    /// An approval presented.
    pub approval: Option<ApprovalId>,
    /// What the agent claims its data is. Can only make things stricter.
    pub claims: Label,
    /// The agent's own words. Recorded, never an input.
    pub says: Option<String>,
}

/// Everything a decision looks at besides the request.
#[derive(Clone, Copy)]
pub struct Scene<'a> {
    /// The registry.
    pub registry: &'a Registry,
    /// The task.
    pub task: &'a Task,
    /// The policies.
    pub policy: &'a dyn Policy,
    /// Now.
    pub now: Time,
    /// Whether this node's freshness lease holds.
    pub fresh: bool,
}

impl Scene<'_> {
    /// Which versions of the task and the registry these are.
    pub fn judged_at(self) -> JudgedAt {
        JudgedAt { task: self.task.version(), registry: self.registry.version() }
    }

    /// The same scene, never earlier than the newest event of the task: a node whose clock runs behind revives
    /// nothing that has run out (INV11).
    pub(crate) fn in_log_time(self) -> Self {
        Scene { now: self.now.max(self.task.newest()), ..self }
    }
}

/// The versions that something was judged on. What follows from it may be appended only where both still stand
/// (INV10).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JudgedAt {
    /// Events the task had.
    pub task: u64,
    /// Events the registry had.
    pub registry: u64,
}

/// A decision that nobody knows of yet.
#[derive(Debug)]
pub struct Ruling {
    at: JudgedAt,
    decided: Decided,
    consequences: Vec<TaskEvent>,
    args: Value,
    until: Time,
}

/// Permission for one act of one agent, proven by a decision that is in the log.
///
/// It cannot be built, copied or cloned outside this module:
///
/// ```compile_fail
/// fn forge(decision: bailiwick_core::DecisionId) -> bailiwick_core::decision::Permit {
///     bailiwick_core::decision::Permit { decision }
/// }
/// ```
/// ```compile_fail
/// fn twice(permit: bailiwick_core::decision::Permit) -> (bailiwick_core::decision::Permit, bailiwick_core::decision::Permit) {
///     (permit.clone(), permit)
/// }
/// ```
#[derive(Debug)]
pub struct Permit {
    decision: DecisionId,
    grant: GrantId,
    tool: ToolId,
    args: Value,
    until: Time,
}

impl Permit {
    /// The decision behind it.
    pub fn decision(&self) -> &DecisionId {
        &self.decision
    }
    /// The grant it is for.
    pub fn grant(&self) -> &GrantId {
        &self.grant
    }
    /// The tool.
    pub fn tool(&self) -> &ToolId {
        &self.tool
    }
    /// The arguments, exactly.
    pub fn args(&self) -> &Value {
        &self.args
    }
    /// The latest start.
    pub fn until(&self) -> Time {
        self.until
    }
}

/// What a committed decision is.
#[derive(Debug)]
pub enum Outcome {
    /// Go, once.
    Allow(Permit),
    /// A human first.
    Ask(Decided),
    /// No.
    Deny(Decided),
}

impl Ruling {
    /// The decision as it will be recorded.
    pub fn decided(&self) -> &Decided {
        &self.decided
    }

    /// The versions it was judged on, and so the ones to append at.
    pub fn judged_at(&self) -> JudgedAt {
        self.at
    }

    /// The events to append, in order, at [`Ruling::judged_at`].
    pub fn events(&self) -> Vec<TaskEvent> {
        let mut events = vec![TaskEvent::Decided(self.decided.clone())];
        events.extend(self.consequences.iter().cloned());
        events
    }

    /// Makes it so: runs the append and, only if it succeeded, turns the ruling into its outcome. The closure
    /// gets the versions it was judged on and the events, and must return success only when task and registry
    /// still stood there and the events are durable.
    pub async fn commit<E>(
        self,
        append: impl AsyncFnOnce(JudgedAt, Vec<TaskEvent>) -> Result<(), E>,
    ) -> Result<Outcome, E> {
        append(self.at, self.events()).await?;
        Ok(match self.decided.outcome {
            Ruled::Allow => Outcome::Allow(Permit {
                decision: self.decided.decision,
                grant: self.decided.grant,
                tool: self.decided.tool,
                args: self.args,
                until: self.until,
            }),
            Ruled::Ask => Outcome::Ask(self.decided),
            Ruled::Deny => Outcome::Deny(self.decided),
        })
    }
}

/// Arguments longer than this (in canonical bytes) are recorded as a hash and a beginning, and cannot be
/// approved by a person: nobody can be shown them whole.
pub const RECORDED_MAX: usize = 16_384;
/// The member of recorded arguments that stands for those too long to be recorded: their hash.
pub const SHORTENED: &str = "[sha256]";
/// The code of a call whose question was asked under other policies: it must be asked anew.
pub const RENEW: &str = "approval.policy_changed";
/// The code of a call that waits for people who have been asked already.
pub const PENDING: &str = "approval.pending";
/// How long after its decision an allowed call may still be started.
pub const START_WITHIN_MS: u64 = 30_000;

/// Decides one call. Total: whatever cannot be judged is a refusal.
pub fn decide(scene: Scene<'_>, request: &Request) -> Ruling {
    let scene = scene.in_log_time();
    let mut blank = Draft::new(scene, request);
    let judged = judge(scene, request, &blank.decided.label, &mut blank.decided.observed);
    match judged {
        Ok(yes) => blank.allow(yes),
        Err(Halt::Deny(why)) => blank.deny(*why, None),
        Err(Halt::Deviates(why, rule)) => blank.deny(*why, Some(rule)),
        Err(Halt::Ask(question)) => blank.ask(*question),
    }
}

/// What a call may do if everything holds.
struct Yes<'a> {
    charge: Charge,
    declassified: Vec<Lowered>,
    step: Option<&'a Step>,
    origins: BTreeMap<String, Origin>,
    unexplained: BTreeSet<String>,
    sources: Vec<Sourced>,
    approval: Option<ApprovalId>,
    why: Why,
}

struct Question {
    why: Why,
    terms: AskTerms,
    declassified: Vec<Lowered>,
    origins: BTreeMap<String, Origin>,
    unexplained: BTreeSet<String>,
    sources: Vec<Sourced>,
    pin: Option<Digest>,
}

enum Halt {
    Deny(alloc::boxed::Box<Why>),
    Deviates(alloc::boxed::Box<Why>, Deviation),
    Ask(alloc::boxed::Box<Question>),
}

fn deny(step: u8, code: &str, rule: &str, reason: String, remedy: &str) -> Halt {
    Halt::Deny(alloc::boxed::Box::new(why(step, code, rule, reason, remedy)))
}

pub(crate) fn why(step: u8, code: &str, rule: &str, reason: String, remedy: &str) -> Why {
    Why { step, code: code.to_string(), rule: rule.to_string(), reason, remedy: remedy.to_string() }
}

/// Grants from a caller to the root for which there is room without asking for more.
const USUAL_LINE: usize = 24;

/// The ten steps. `seen` is the label of everything that the branch has seen and the agent claims.
fn judge<'a>(
    scene: Scene<'a>,
    request: &Request,
    seen: &Label,
    observed: &mut Option<Observed>,
) -> Result<Yes<'a>, Halt> {
    let (grant, agent) =
        caller(scene, &request.grant, &request.agent, &request.instance, request.token_until)?;
    replay(scene, request.proof)?;
    let mut line = Vec::with_capacity(USUAL_LINE);
    line.extend(scene.task.lineage(grant));
    let line = line.as_slice();
    suspension(scene, line)?;
    if let Some((scope, s)) = scene.registry.halts_tool(&request.tool) {
        return Err(halted(&scope.to_string(), &s.reason));
    }
    liveness(scene, line)?;
    let manifest = tool(scene, request)?;
    let args = arguments(manifest, &request.args)?;
    let (place, spent_up) = capability(scene, line, manifest, args)?;
    let step = chain_step(scene, agent, manifest, args)?;
    let (label, declassified) =
        declassify::of_call(manifest, args, seen, &scene.registry.directory().own_domains);
    let Explanation { origins, unexplained, sources } = explain(scene, line, manifest, args, step, place);
    let fixed = |name: &str| pinned_by_step(step, name) || pinned_by_root(line, place, name);
    let flow = Flow::of(manifest, args, fixed, |wanted| is_inside(scene.registry, wanted));
    sink(manifest, &label)?;
    consent(
        scene,
        request,
        Case {
            grant,
            agent,
            manifest,
            args,
            step,
            place,
            spent_up,
            label,
            declassified,
            origins,
            unexplained,
            sources,
            flow,
        },
        observed,
    )
}

/// What steps 8 to 10 still need of steps 1 to 7.
struct Case<'a, 'r> {
    grant: &'a Grant,
    agent: &'a Agent,
    manifest: &'a Manifest,
    args: &'r BTreeMap<String, Value>,
    step: Option<&'a Step>,
    place: u16,
    spent_up: Option<&'static str>,
    label: Cow<'r, Label>,
    declassified: Vec<Lowered>,
    origins: BTreeMap<String, Origin>,
    unexplained: BTreeSet<String>,
    sources: Vec<Sourced>,
    flow: Flow,
}

/// Step 1: the caller holds this grant, with one of its agent's keys, and the token is in time.
fn caller<'a>(
    scene: Scene<'a>,
    grant: &GrantId,
    agent: &AgentId,
    instance: &str,
    token_until: Time,
) -> Result<(&'a Grant, &'a Agent), Halt> {
    let refuse = |code: &str, reason: String, remedy: &str| Err(deny(1, code, "caller", reason, remedy));
    let Some(grant) = scene.task.grant(grant) else {
        return refuse(
            "caller.unknown_grant",
            "this token's grant does not exist in this task".to_string(),
            "Get a token for a grant that was given to you.",
        );
    };
    if &grant.agent != agent {
        return refuse(
            "caller.not_holder",
            format!("the grant belongs to another agent than {agent}"),
            "Use your own token.",
        );
    }
    let Some(agent) = scene.registry.agent(agent) else {
        return refuse(
            "caller.unknown_agent",
            format!("no agent {agent} is registered"),
            "Ask an operator to register it.",
        );
    };
    if !agent.keys.contains(instance) {
        return refuse(
            "caller.key",
            format!("the key used is not one of {}'s keys", agent.id),
            "Use the key the agent is registered with.",
        );
    }
    if scene.now >= token_until {
        return refuse(
            "caller.expired",
            "the token has expired".to_string(),
            "Get a fresh token for the same grant.",
        );
    }
    Ok((grant, agent))
}

fn replay(scene: Scene<'_>, proof: Option<(Digest, Time)>) -> Result<(), Halt> {
    let Some((proof, _)) = proof else { return Ok(()) };
    if scene.task.has_seen(&proof) {
        let reason = "this proof of possession has been used before".to_string();
        return Err(deny(1, "caller.replayed", "caller", reason, "Make a new proof for every request."));
    }
    if scene.task.proofs_full() {
        let reason = "too many requests in one minute to tell a replay from a new one".to_string();
        return Err(deny(1, "caller.proofs_full", "caller", reason, "Slow down."));
    }
    Ok(())
}

fn halted(scope: &str, reason: &str) -> Halt {
    let text = format!("{scope} is suspended: {reason}");
    deny(2, "control.suspended", "suspension", text, "Only a person can lift it.")
}

/// Step 2: nothing above it is frozen or killed, and this node knows so.
fn suspension(scene: Scene<'_>, line: &[&Grant]) -> Result<(), Halt> {
    if !scene.fresh {
        let reason = "this node has lost touch with the authority".to_string();
        return Err(deny(2, "control.stale", "freshness", reason, "Try again in a moment."));
    }
    let opening = scene.task.opening();
    if let Some((scope, s)) = scene.registry.halts_task(&opening.task, &opening.initiator) {
        return Err(halted(&scope.to_string(), &s.reason));
    }
    let nobody = scene.registry.halts_nobody();
    for node in line {
        let kept = node.since > 0 && scene.registry.has_kept(node.since);
        if nobody && (kept || scene.registry.is_registered(&node.agent)) {
            continue;
        }
        let Some(agent) = scene.registry.agent(&node.agent) else {
            let reason = format!("agent {} in this chain is no longer registered", node.agent);
            return Err(deny(2, "control.retired", "suspension", reason, "The task must be opened anew."));
        };
        if let Some((scope, s)) = scene.registry.halts_agent(agent) {
            return Err(halted(&scope.to_string(), &s.reason));
        }
    }
    Ok(())
}

/// Step 3: the task is open and in its window; the grant and every ancestor live.
fn liveness(scene: Scene<'_>, line: &[&Grant]) -> Result<(), Halt> {
    let refuse = |code, reason: String, remedy| Err(deny(3, code, "liveness", reason, remedy));
    match scene.task.state() {
        TaskState::Open => {}
        TaskState::Frozen { reason, .. } => {
            return refuse(
                "task.frozen",
                format!("the task is frozen: {reason}"),
                "A person must resume it.",
            );
        }
        TaskState::Ended { reason, .. } => {
            return refuse(
                "task.ended",
                format!("the task is over: {reason}"),
                "Nothing more can be done in it.",
            );
        }
    }
    if scene.now >= scene.task.opening().limits.until {
        return refuse(
            "task.window",
            "the task's window has closed".to_string(),
            "A person must open a new task.",
        );
    }
    for node in line {
        if node.revoked {
            return refuse(
                "grant.revoked",
                format!("the grant of {} was revoked", node.agent),
                "Nothing more can be done with it.",
            );
        }
        if scene.now >= node.until {
            return refuse(
                "grant.expired",
                format!("the grant of {} has expired", node.agent),
                "Ask for a new handoff.",
            );
        }
    }
    Ok(())
}

/// Step 4: the tool is known, classified, and still what was classified.
fn tool<'a>(scene: Scene<'a>, request: &Request) -> Result<&'a Manifest, Halt> {
    let refuse = |code, reason: String, remedy| Err(deny(4, code, "tool", reason, remedy));
    let name = &request.tool;
    // Absent and unclassified read alike, so that a refusal tells nothing about what exists (A76).
    let unknown = || {
        refuse(
            "tool.unclassified",
            format!("{name} is not a classified tool"),
            "An operator must classify it first.",
        )
    };
    let Some(tool) = scene.registry.tool(name) else { return unknown() };
    let Some(manifest) = &tool.manifest else { return unknown() };
    let changed = || {
        refuse(
            "tool.quarantined",
            format!("{name} has changed since it was classified"),
            "An operator must look at the change and classify it again.",
        )
    };
    match &tool.standing {
        Standing::Proposed => unknown(),
        Standing::Quarantined { .. } => changed(),
        Standing::Classified { pin } => match (pin, request.definition) {
            (Some(pin), Some(live)) if *pin != live => changed(),
            (None, Some(_)) => changed(),
            _ => Ok(manifest),
        },
    }
}

/// Step 5, first half: every argument is one the manifest knows.
fn arguments<'r>(manifest: &Manifest, args: &'r Value) -> Result<&'r BTreeMap<String, Value>, Halt> {
    let refuse = |code, reason: String| {
        Err(deny(5, code, "manifest", reason, "Call it with the arguments its definition declares."))
    };
    let Some(args) = args.as_map() else {
        return refuse("capability.arguments", "the arguments must be an object".to_string());
    };
    if let Some(name) = args.keys().find(|name| !manifest.takes(name)) {
        let name: String = name.chars().take(64).flat_map(char::escape_default).collect();
        return refuse(
            "capability.undeclared_argument",
            format!("{} has no declared argument `{name}`", manifest.tool),
        );
    }
    match manifest.args.iter().find(|(name, arg)| arg.required && !args.contains_key(*name)) {
        Some((name, _)) => {
            refuse("capability.missing_argument", format!("{} needs argument `{name}`", manifest.tool))
        }
        None => Ok(args),
    }
}

/// Step 5: a capability with right `use` covers action and arguments, and so does everything it was cut from.
/// One with something left is preferred; otherwise the dimension that is used up is told, for step 10.
fn capability(
    scene: Scene<'_>,
    line: &[&Grant],
    manifest: &Manifest,
    args: &BTreeMap<String, Value>,
) -> Result<(u16, Option<&'static str>), Halt> {
    let (next, tool) = (price(manifest, args), &manifest.tool);
    let (mut nearest, mut used_up) = (None, None);
    let own = line.first().into_iter().flat_map(|grant| &grant.held);
    for (place, held) in (0u16..).zip(own).filter(|(_, held)| held.capability.may_use) {
        match held.capability.covers(tool, args) {
            Err(Uncovered::Tool) => continue,
            Err(Uncovered::Arg(name)) => {
                nearest = nearest.or(Some(name));
                continue;
            }
            Ok(()) if !held.upheld && !upheld(line, held, tool, args) => continue,
            Ok(()) => {}
        }
        match overspent(line, place, next, scene.now) {
            None => return Ok((place, None)),
            over => used_up = used_up.or(Some((place, over))),
        }
    }
    match (used_up, nearest) {
        (Some(found), _) => Ok(found),
        (None, Some(name)) => {
            let reason = format!("argument `{name}` of {tool} is outside what was granted");
            Err(deny(5, "capability.argument", "grant", reason, "Use a value inside the grant."))
        }
        (None, None) => {
            let holder = line.first().map(|grant| grant.agent.as_str()).unwrap_or_default();
            let reason = format!("{tool} is not among what was granted to {holder}");
            Err(deny(5, "capability.none", "grant", reason, &granted(line)))
        }
    }
}

/// Whether every hop above could have handed this very call on (H9). A handoff makes sure of it, and the fold looks
/// whether it did; where it cannot tell, every hop is asked here, so that no event in the log, however it came
/// there, carries more than the root gave.
fn upheld(line: &[&Grant], held: &Held, tool: &ToolId, args: &BTreeMap<String, Value>) -> bool {
    let mut held = held;
    for (child, parent) in line.iter().zip(line.iter().skip(1)) {
        let Some(above) = held.from.and_then(|from| parent.held.get(usize::from(from))) else { return false };
        let right = above.capability.delegate.as_ref();
        if !right.is_some_and(|d| d.depth > 0 && d.to.contains(&child.agent))
            || above.capability.covers(tool, args).is_err()
        {
            return false;
        }
        held = above;
    }
    // A line that does not reach a root hangs on nothing.
    line.last().is_some_and(|root| root.parent.is_none())
}

/// An amount that cannot be counted: left out, text, a list, less than nothing. More than any limit.
const UNCOUNTABLE: u64 = u64::MAX;

/// What a call costs before it is made. Fractions of an amount count as a whole.
fn price(manifest: &Manifest, args: &BTreeMap<String, Value>) -> Spent {
    let amount = match manifest.amount_arg().map(|name| args.get(name).unwrap_or(&Value::Null)) {
        None => 0,
        Some(Value::Int(whole)) => u64::try_from(*whole).unwrap_or(UNCOUNTABLE),
        // A float of ours is never whole, and below 2^53.
        Some(Value::Float(part)) if part.get() > 0.0 => part.get() as u64 + 1,
        Some(_) => UNCOUNTABLE,
    };
    Spent { uses: 1, amount, ..Spent::default() }
}

/// The dimension that would be overspent on the way to the root, if any.
fn overspent(line: &[&Grant], place: u16, next: Spent, now: Time) -> Option<&'static str> {
    let mut place = place;
    for node in line {
        // What is charged to nothing cannot be counted, and so is spent.
        let Some(held) = node.held.get(usize::from(place)) else { return Some("uses") };
        if let Some(dimension) = held.capability.limits.overspent(held.spent, next, now) {
            return Some(dimension);
        }
        place = held.from?;
    }
    None
}

fn granted(line: &[&Grant]) -> String {
    let tools: Vec<String> = line
        .first()
        .into_iter()
        .flat_map(|grant| &grant.held)
        .filter(|h| h.capability.may_use)
        .map(|h| h.capability.tool.to_string())
        .take(8)
        .collect();
    if tools.is_empty() {
        "Nothing may be called with this grant.".to_string()
    } else {
        format!("Granted: {}.", tools.join(", "))
    }
}

/// Step 6: a step of the chain takes this call now.
fn chain_step<'a>(
    scene: Scene<'a>,
    agent: &Agent,
    manifest: &Manifest,
    args: &BTreeMap<String, Value>,
) -> Result<Option<&'a Step>, Halt> {
    let Some(chain) = scene.task.chain() else { return Ok(None) };
    chain.step_for_call(scene.task.progress(), &agent.id, &manifest.tool, manifest.effect, args).map_err(
        |not| {
            let for_good = manifest.effect != Effect::Read && !manifest.reversible;
            let risks = [Some(Risk::from(manifest.effect)), for_good.then_some(Risk::Irreversible)];
            let risks: Vec<Risk> = risks.into_iter().flatten().collect();
            let rule = chain.deviation(&risks, is_dangerous(manifest));
            Halt::Deviates(alloc::boxed::Box::new(why(6, not.code, "chain", not.reason, &not.remedy)), rule)
        },
    )
}

/// Deletion, administration, and every effect that cannot be undone.
pub(crate) fn is_dangerous(manifest: &Manifest) -> bool {
    matches!(manifest.effect, Effect::Delete | Effect::Admin)
        || (manifest.effect != Effect::Read && !manifest.reversible)
}

/// Step 7: where each steering value came from, and which ones nobody vouches for.
fn explain(
    scene: Scene<'_>,
    line: &[&Grant],
    manifest: &Manifest,
    args: &BTreeMap<String, Value>,
    step: Option<&Step>,
    place: u16,
) -> Explanation {
    let mut found = Explanation::default();
    for (name, value) in args.iter().filter(|(name, _)| manifest.wants_explained(name)) {
        let declared = manifest.args.get(name);
        let role = declared.map_or(Role::Target, |arg| arg.role);
        // An optional argument left blank is one left out; a required one that says nothing still steers.
        if value.is_blank() && !declared.is_some_and(|arg| arg.required) {
            continue;
        }
        let amended = step.and_then(|step| scene.task.amended_by(&step.id));
        if let Some(approval) = amended.filter(|_| pinned_by_step(step, name)) {
            let origin = Origin::Amendment { approval: approval.clone() };
            found.origins.insert(name.clone(), origin.clone());
            found.tell(name, role, "", Some(origin), None);
            continue;
        }
        if pinned_by_step(step, name) || pinned_by_root(line, place, name) {
            found.origins.insert(name.clone(), Origin::Chain);
            found.tell(name, role, "", Some(Origin::Chain), None);
            continue;
        }
        let wanted = wanted(declared, role, value);
        if role.steers() && wanted.is_empty() {
            found.unexplained.insert(name.clone());
            found.tell(name, role, "", None, None);
        }
        for wanted in &wanted {
            let origin = origin_of(scene, wanted);
            match origin {
                Some(origin) if !found.origins.contains_key(name) => {
                    found.origins.insert(name.clone(), origin.clone());
                }
                Some(_) => {}
                None => {
                    found.unexplained.insert(name.clone());
                }
            }
            let seen = if origin.is_none() { scene.task.seen(wanted) } else { None };
            found.tell(name, role, wanted.text(), origin.cloned(), seen);
        }
        if found.unexplained.contains(name) {
            found.origins.remove(name);
        }
    }
    found
}

/// Where the values of an act came from.
#[derive(Default)]
struct Explanation {
    origins: BTreeMap<String, Origin>,
    unexplained: BTreeSet<String>,
    sources: Vec<Sourced>,
}

/// How many values of one act are told with their sources; those that nobody vouches for come first.
const SOURCES_MAX: usize = 24;

impl Explanation {
    fn tell(
        &mut self,
        arg: &str,
        role: Role,
        value: &str,
        from: Option<Origin>,
        seen: Option<(String, String)>,
    ) {
        if self.sources.len() >= SOURCES_MAX {
            let settled = self.sources.iter().rposition(|s| s.from.is_some()).filter(|_| from.is_none());
            match settled {
                Some(place) => self.sources.remove(place),
                None => return,
            };
        }
        let value = if role == Role::Secret { "" } else { value };
        self.sources.push(Sourced::new(arg, value, from, seen));
    }
}

/// What has to be explained in an argument. What steers is looked at as a whole; anything else for the addresses,
/// links, accounts and numbers in it, which whoever reads it could follow.
pub(crate) fn wanted(arg: Option<&Arg>, role: Role, value: &Value) -> Vec<Wanted> {
    let mut wanted: Vec<_> = if role.steers() {
        steering(value, arg)
    } else {
        leaves(value).iter().flat_map(|leaf| sought(arg, leaf)).map(Wanted::One).collect()
    };
    if role.steers() && wanted.is_empty() {
        return wanted;
    }
    wanted.extend(member_names(value).into_iter().flat_map(|name| sought(arg, name)).map(Wanted::One));
    wanted
}

/// The identifiers in a text that the manifest wants looked for: what it lists, or what anybody could follow.
fn sought(arg: Option<&Arg>, text: &str) -> BTreeSet<Identifier> {
    match arg.filter(|arg| !arg.role.steers()).and_then(|arg| arg.scan.as_ref()) {
        Some(listed) => listed.iter().flat_map(|sought| sought.find(text)).collect(),
        None => mentions(text),
    }
}

/// Whether something in an argument has to be explained and is not.
pub(crate) fn has_unexplained(scene: Scene<'_>, arg: Option<&Arg>, role: Role, value: &Value) -> bool {
    let wanted = wanted(arg, role, value);
    (role.steers() && wanted.is_empty()) || wanted.iter().any(|wanted| origin_of(scene, wanted).is_none())
}

/// Who vouches for a value: the task, or the organisation's directory.
pub(crate) fn origin_of<'a>(scene: Scene<'a>, wanted: &Wanted) -> Option<&'a Origin> {
    let known = scene.task.explained().vouches(wanted);
    known.or_else(|| scene.registry.vouches(wanted).then_some(&Origin::Directory))
}

/// Whether a target is the organisation's own: an address or a host of its own domains, or a value that its
/// directory lists.
pub fn is_inside(registry: &Registry, wanted: &Wanted) -> bool {
    let own = &registry.directory().own_domains;
    match wanted.value() {
        Some(id) if id.kind == Kind::Address && in_domains(&id.text, own) => true,
        Some(id) if id.kind == Kind::Url && host_in_domains(&id.text, own) => true,
        _ => registry.vouches(wanted),
    }
}

/// The names of all members inside a value: whoever reads it could follow them as well.
fn member_names(value: &Value) -> Vec<&str> {
    match value {
        Value::List(items) => items.iter().flat_map(member_names).collect(),
        Value::Map(map) => map
            .iter()
            .flat_map(|(name, inner)| core::iter::once(name.as_str()).chain(member_names(inner)))
            .collect(),
        _ => Vec::new(),
    }
}

fn pinned_by_step(step: Option<&Step>, name: &str) -> bool {
    step.is_some_and(|step| match &step.act {
        crate::chain::Act::Call { args, .. } => args.get(name).is_some_and(|c| c.is_pinned()),
        crate::chain::Act::HandOff { .. } => false,
    })
}

/// Only the initiator's own words pin a value: the root grant's constraint, not one an agent wrote on the way.
fn pinned_by_root(line: &[&Grant], place: u16, name: &str) -> bool {
    let mut place = place;
    for node in line {
        let Some(held) = node.held.get(usize::from(place)) else { return false };
        match (&node.parent, held.from) {
            (None, _) => {
                let pinned = held.capability.args.get(name).is_some_and(|c| c.is_pinned());
                return pinned && !held.amended;
            }
            (Some(_), Some(from)) => place = from,
            (Some(_), None) => return false,
        }
    }
    false
}

/// Step 7: labels may flow to this sink.
fn sink(manifest: &Manifest, label: &Label) -> Result<(), Halt> {
    let Some(most) = &manifest.sink else { return Ok(()) };
    // Where data came from does not keep it in.
    if label.level <= most.level && label.classes.is_subset(&most.classes) {
        return Ok(());
    }
    let reason = format!("what this task has seen may not leave through {}", manifest.tool);
    Err(deny(7, "data.flow", "labels", reason, "Use a sink that is cleared for this data."))
}

/// Steps 8 to 10: policy, approval, budgets.
fn consent<'a>(
    scene: Scene<'a>,
    request: &Request,
    case: Case<'a, '_>,
    observed: &mut Option<Observed>,
) -> Result<Yes<'a>, Halt> {
    let shown = shown(case.manifest, case.args);
    let pin = pin_of(scene, &request.tool);
    let presented = presented(scene, request, &case, pin);
    let usable = presented.as_ref().ok().copied().flatten();
    let approved = usable.map(|a| Approved { by: a.yes.clone(), group: a.terms.group.clone() });
    let facts = facts(scene, &case, &shown, approved);
    *observed = scene.policy.observe(&facts);
    let verdict = not_forbidden(scene.policy.evaluate(&facts))?;
    let presented = presented?;
    if let Some(dimension) = case.spent_up {
        let reason = format!("the budget `{dimension}` for {} is used up", case.manifest.tool);
        return Err(deny(10, "budget.spent", "budget", reason, "Nothing is left of it in this task."));
    }
    let (rule, reason, terms) = match (verdict, floor(&case)) {
        (Consent::Permit(rules), None) => return Ok(yes(case, presented, &rules.join(", "))),
        (Consent::Permit(rules), Some(_)) if presented.is_some() => {
            return Ok(yes(case, presented, &rules.join(", ")));
        }
        (Consent::Permit(_), Some(question)) => question,
        (Consent::Ask(rule, reason, terms), _) => (rule, reason, terms),
    };
    if let Some(rule) = pointless(scene, &facts, &terms) {
        return Err(deny(8, "policy.forbid", &rule, reason, "Approval cannot change this."));
    }
    if shown.canonical().len() > RECORDED_MAX {
        let reason =
            format!("{reason} (and arguments of more than {RECORDED_MAX} bytes cannot be shown whole)");
        return Err(deny(9, "approval.too_long", &rule, reason, "Do it in smaller pieces."));
    }
    let why = why(
        9,
        "approval.needed",
        &rule,
        reason,
        "Wait for the answer, then call again with the same arguments and the handle.",
    );
    Err(Halt::Ask(alloc::boxed::Box::new(Question {
        why,
        terms,
        declassified: case.declassified,
        origins: case.origins,
        unexplained: case.unexplained,
        sources: case.sources,
        pin,
    })))
}

/// What a policy may say that is not a refusal.
enum Consent {
    Permit(Vec<String>),
    Ask(String, String, AskTerms),
}

/// Step 8. What cannot be evaluated is forbidden (INV6).
fn not_forbidden(verdict: Verdict) -> Result<Consent, Halt> {
    match verdict {
        Verdict::Permit { rules } => Ok(Consent::Permit(rules)),
        Verdict::Ask { rule, reason, terms } => Ok(Consent::Ask(rule, reason, terms)),
        Verdict::Forbid { rule, reason } => {
            Err(deny(8, "policy.forbid", &rule, reason, "Approval cannot change this."))
        }
        Verdict::Error { reason } => {
            let reason = format!("the policy could not be evaluated ({reason})");
            Err(deny(8, "policy.error", "policy", reason, "An operator must look at the policy."))
        }
    }
}

/// Never ask for what approval cannot fix: the rule that would still forbid if everybody who may answer said
/// yes, if there is one.
fn pointless(scene: Scene<'_>, facts: &Facts<'_>, terms: &AskTerms) -> Option<String> {
    let may = |p: &&crate::agent::Person| {
        !p.workload && p.is_in(terms.group.as_str()) && (terms.initiator_may || p.id != *facts.initiator)
    };
    let by: BTreeSet<PrincipalId> = scene.registry.people().filter(may).map(|p| p.id.clone()).collect();
    if by.len() < usize::from(terms.quorum.max(1)) {
        return Some("too-few-approvers".to_string());
    }
    let supposed = Approved { by, group: terms.group.clone() };
    match scene.policy.evaluate(&Facts { approval: Some(supposed), ..facts.clone() }) {
        Verdict::Permit { .. } => None,
        Verdict::Forbid { rule, .. } | Verdict::Ask { rule, .. } => Some(rule),
        Verdict::Error { .. } => Some("policy".to_string()),
    }
}

/// What the core asks whatever the policy says: a steering value nobody vouches for needs a human.
fn floor(case: &Case<'_, '_>) -> Option<(String, String, AskTerms)> {
    let names: Vec<&str> = case.unexplained.iter().map(String::as_str).collect();
    if names.is_empty() {
        return None;
    }
    let told: Vec<String> =
        case.sources.iter().filter(|s| s.from.is_none()).take(3).map(Sourced::in_words).collect();
    let reason = format!(
        "nobody in this task has vouched for the value of {} in {} ({})",
        names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", "),
        case.manifest.tool,
        told.join("; ")
    );
    let terms = AskTerms {
        group: GroupId::parse(APPROVERS).ok()?,
        quorum: 1,
        initiator_may: !is_dangerous(case.manifest) || case.manifest.effect == Effect::Egress,
        ttl_ms: 600_000,
    };
    Some(("unexplained-value".to_string(), reason, terms))
}

fn yes<'a>(case: Case<'a, '_>, presented: Option<&Approval>, rules: &str) -> Yes<'a> {
    let reason = match presented {
        Some(_) => "approved by a person for exactly this act".to_string(),
        None => "inside the grant, the chain and the policy".to_string(),
    };
    let mut spent = price(case.manifest, case.args);
    if spent.amount == UNCOUNTABLE {
        // Only without a limit on amounts does such a call come this far, and then nothing depends on it.
        spent.amount = 0;
    }
    Yes {
        charge: Charge { capability: case.place, spent },
        declassified: case.declassified,
        step: case.step,
        origins: case.origins,
        unexplained: case.unexplained,
        sources: case.sources,
        approval: presented.map(|a| a.id.clone()),
        why: why(10, "allowed", rules, reason, ""),
    }
}

/// Step 9: the approval that was presented, or the one this very act is waiting for, if it can be used.
fn presented<'a>(
    scene: Scene<'a>,
    request: &Request,
    case: &Case<'_, '_>,
    pin: Option<Digest>,
) -> Result<Option<&'a Approval>, Halt> {
    let refuse = |code, reason: &str| {
        Err(deny(9, code, "approval", reason.to_string(), "Ask again without a handle."))
    };
    let Some(handle) = &request.approval else { return Ok(ready(scene, request, case, pin)) };
    let Some(approval) = scene.task.approval(handle) else {
        return refuse("approval.unknown", "there is no such approval in this task");
    };
    if approval.policy != scene.policy.version() && matches!(approval.state, State::Waiting | State::Approved)
    {
        return refuse(RENEW, "the policies have changed since this was asked, so the question is void");
    }
    let act = act(scene, request, approval.until, pin).digest();
    if approval.grant != case.grant.id || approval.agent != case.agent.id {
        return refuse(
            "approval.not_yours",
            "this approval was given to another agent; approvals cannot be passed on",
        );
    }
    if approval.act != act {
        return refuse(
            "approval.other_act",
            "this approval is for another act: arguments, tool, policy or agent instance differ",
        );
    }
    match &approval.state {
        State::Used { .. } => {
            return refuse("approval.used", "this approval has been used; each is good for one act");
        }
        State::Denied { reason, .. } => {
            return Err(deny(
                9,
                "approval.denied",
                &approval.rule,
                format!("a person said no: {reason}"),
                "Do not ask again for the same.",
            ));
        }
        State::Waiting if scene.now >= approval.until => {
            return refuse("approval.expired", "nobody answered in time, which means no");
        }
        State::Waiting => {
            let why = why(
                9,
                PENDING,
                &approval.rule,
                "a person has not answered yet".to_string(),
                "Wait, then call again with the handle.",
            );
            return Err(Halt::Deny(alloc::boxed::Box::new(why)));
        }
        State::Approved if scene.now >= approval.until => {
            return refuse("approval.expired", "the approval was not used in time");
        }
        State::Approved => {}
    }
    let opening = scene.task.opening();
    match approval.yes.iter().find(|by| !may_vote(scene.registry, &opening.initiator, approval, by)) {
        Some(_) => refuse("approval.approver", "somebody who approved may no longer approve this"),
        None => Ok(Some(approval)),
    }
}

/// Without a handle: an approval of exactly this act that this grant may use now. Callers that cannot carry a
/// handle just call again.
fn ready<'a>(
    scene: Scene<'a>,
    request: &Request,
    case: &Case<'_, '_>,
    pin: Option<Digest>,
) -> Option<&'a Approval> {
    let opening = scene.task.opening();
    scene.task.approvals().find(|a| {
        a.state == State::Approved
            && a.grant == case.grant.id
            && a.agent == case.agent.id
            && scene.now < a.until
            && a.act == act(scene, request, a.until, pin).digest()
            && a.yes.iter().all(|by| may_vote(scene.registry, &opening.initiator, a, by))
    })
}

/// Whether a person may answer this question: a human, in the group that is asked, and not the initiator
/// where that is barred. Asked when the vote is cast and again when the approval is used.
pub fn may_vote(registry: &Registry, initiator: &PrincipalId, approval: &Approval, by: &PrincipalId) -> bool {
    registry.person(by).is_some_and(|person| {
        !person.workload
            && person.is_in(approval.terms.group.as_str())
            && (by != initiator || approval.terms.initiator_may)
    })
}

/// The act a request is, as it would be frozen until a given time.
pub fn act<'r>(scene: Scene<'r>, request: &'r Request, until: Time, pin: Option<Digest>) -> FrozenAct<'r> {
    FrozenAct {
        task: &scene.task.opening().task,
        grant: &request.grant,
        agent: &request.agent,
        instance: &request.instance,
        tool: &request.tool,
        pin,
        args: &request.args,
        policy: scene.policy.version(),
        until,
    }
}

/// The hash a tool is pinned with, if it is.
pub fn pin_of(scene: Scene<'_>, tool: &ToolId) -> Option<Digest> {
    match scene.registry.tool(tool).map(|t| &t.standing) {
        Some(Standing::Classified { pin }) => *pin,
        _ => None,
    }
}

/// The arguments as people and policies see them: secrets blanked, and what the manifest does not know too,
/// because nobody can tell whether it is one.
fn shown(manifest: &Manifest, args: &BTreeMap<String, Value>) -> Value {
    let hidden = |name: &&String| match manifest.args.get(*name) {
        Some(arg) => arg.role == Role::Secret,
        None => !manifest.takes(name),
    };
    redact(args, &args.keys().filter(hidden).map(String::as_str).collect())
}

fn facts<'f>(
    scene: Scene<'f>,
    case: &'f Case<'_, '_>,
    shown: &'f Value,
    approval: Option<Approved>,
) -> Facts<'f> {
    let opening = scene.task.opening();
    Facts {
        deed: Deed::Call(case.manifest),
        agent: case.agent,
        initiator: &opening.initiator,
        task: &opening.task,
        has_chain: opening.chain.is_some(),
        step: case.step.map(|s| &s.id),
        depth: case.grant.depth,
        resource: Some(resource(case.manifest, case.args)),
        args: shown,
        label: &case.label,
        unexplained: &case.unexplained,
        flow: &case.flow,
        approval,
        now: scene.now,
        remaining_ms: case.grant.until.since(scene.now),
    }
}

/// What is recorded of arguments: all of them, or their hash and a beginning when they are long (A72).
pub(crate) fn recorded(shown: Value) -> Value {
    let text = shown.canonical();
    if text.len() <= RECORDED_MAX {
        return shown;
    }
    let beginning: String = text.chars().take(2048).collect();
    Value::from([
        (SHORTENED, Value::from(shown.digest().to_string())),
        ("[beginning]", Value::from(beginning)),
    ])
}

/// The resource a call touches: the named one with what is known of it, or the system itself.
pub fn resource(manifest: &Manifest, args: &BTreeMap<String, Value>) -> Resource {
    let system = || Resource {
        kind: "System".to_string(),
        name: manifest.tool.system().to_string(),
        attrs: BTreeMap::new(),
    };
    let Some(spec) = &manifest.resource else { return system() };
    let name = match &spec.from {
        Some(arg) => args.get(arg).and_then(Value::spelled).unwrap_or_default(),
        None => manifest.tool.system().to_string(),
    };
    Resource { kind: spec.kind.clone(), attrs: spec.known.get(&name).cloned().unwrap_or_default(), name }
}

/// The record of a decision before its outcome is known.
struct Draft<'a> {
    scene: Scene<'a>,
    request: &'a Request,
    decided: Decided,
}

impl<'a> Draft<'a> {
    fn new(scene: Scene<'a>, request: &'a Request) -> Self {
        let manifest = scene.registry.tool(&request.tool).and_then(|t| t.manifest.as_ref());
        let args = match (manifest, request.args.as_map()) {
            (Some(manifest), Some(args)) => recorded(shown(manifest, args)),
            // Of a tool nobody classified we cannot tell the secrets, so nothing is kept.
            _ => Value::from("[not recorded]"),
        };
        let label =
            scene.task.grant(&request.grant).map(|g| g.label.join(&request.claims)).unwrap_or_default();
        let says = request.says.as_ref().map(|words| words.chars().take(500).collect());
        let decided = Decided {
            decision: request.decision.clone(),
            grant: request.grant.clone(),
            agent: request.agent.clone(),
            instance: request.instance.clone(),
            tool: request.tool.clone(),
            args,
            effect: manifest.map(|m| m.effect),
            outcome: Ruled::Deny,
            why: why(0, "undecided", "none", String::new(), ""),
            chain_step: None,
            label,
            declassified: Vec::new(),
            origins: BTreeMap::new(),
            unexplained: BTreeSet::new(),
            observed: None,
            sources: Vec::new(),
            policy: scene.policy.version(),
            epoch: scene.registry.version(),
            asked: None,
            approval: None,
            charge: None,
            proof: request.proof,
            says,
        };
        Draft { scene, request, decided }
    }

    fn allow(mut self, yes: Yes<'_>) -> Ruling {
        self.decided.outcome = Ruled::Allow;
        self.decided.why = yes.why;
        self.decided.chain_step = yes.step.map(|s: &Step| -> StepId { s.id.clone() });
        self.decided.declassified = yes.declassified;
        self.decided.origins = yes.origins;
        self.decided.unexplained = yes.unexplained;
        self.decided.sources = yes.sources;
        self.decided.approval = yes.approval;
        self.decided.charge = Some(yes.charge);
        let grant_until = self.scene.task.grant(&self.request.grant).map_or(self.scene.now, |g| g.until);
        let until = self.scene.now.plus_ms(START_WITHIN_MS).min(grant_until).min(self.request.token_until);
        let (at, args) = (self.scene.judged_at(), self.request.args.clone());
        Ruling { at, decided: self.decided, consequences: vec![], args, until }
    }

    fn deny(mut self, why: Why, deviation: Option<Deviation>) -> Ruling {
        self.decided.why = why;
        if self.decided.why.code == PENDING {
            self.decided.outcome = Ruled::Ask;
            self.decided.approval = self.request.approval.clone();
            return self.without_permit(vec![]);
        }
        let what = self.request.tool.to_string();
        let tried = Tried { agent: &self.request.agent, why: &self.decided.why, what: &what, handoff: false };
        let consequences = aftermath(self.scene, &tried, &what, deviation);
        self.without_permit(consequences)
    }

    fn ask(mut self, question: Question) -> Ruling {
        let limits = &self.scene.task.opening().limits;
        self.decided.declassified = question.declassified;
        self.decided.origins = question.origins;
        self.decided.unexplained = question.unexplained;
        self.decided.sources = question.sources;
        // The same act asked again while the first question waits is the same question.
        let waiting = self.scene.task.approvals().find(|a| {
            a.grant == self.request.grant
                && a.state == State::Waiting
                && self.scene.now < a.until
                && a.act == act(self.scene, self.request, a.until, question.pin).digest()
        });
        if waiting.is_none() && self.scene.task.asks() >= limits.asks {
            let reason = format!("this task has asked people {} times, which is its limit", limits.asks);
            let frozen = TaskEvent::Frozen { by: "bailiwick".to_string(), reason: reason.clone() };
            self.decided.why = why(
                9,
                "approval.budget",
                "ask-budget",
                reason,
                "The task is frozen; a person must look at it.",
            );
            return self.without_permit(vec![frozen]);
        }
        let grant_until = self.scene.task.grant(&self.request.grant).map_or(self.scene.now, |g| g.until);
        let fresh_until = self.scene.now.plus_ms(question.terms.ttl_ms).min(grant_until);
        self.decided.outcome = Ruled::Ask;
        self.decided.why = question.why;
        match waiting {
            Some(waiting) => {
                self.decided.why.code = PENDING.to_string();
                self.decided.approval = Some(waiting.id.clone());
            }
            None => {
                let act = act(self.scene, self.request, fresh_until, question.pin).digest();
                let approval = self.request.fresh_approval.clone();
                self.decided.asked = Some(Asked { approval, act, terms: question.terms, until: fresh_until });
            }
        }
        self.without_permit(vec![])
    }

    /// A ruling that allows nothing, and so carries nothing that could be done.
    fn without_permit(self, consequences: Vec<TaskEvent>) -> Ruling {
        let (at, until) = (self.scene.judged_at(), self.scene.now);
        Ruling { at, decided: self.decided, consequences, args: Value::empty(), until }
    }
}

/// What a refusal brings besides itself: what the chain declares for a deviation, and otherwise a freeze once
/// there were too many, so that whoever probes is stopped and seen (N3).
pub(crate) fn aftermath(
    scene: Scene<'_>,
    tried: &Tried<'_>,
    what: &str,
    deviation: Option<Deviation>,
) -> Vec<TaskEvent> {
    let by = || "bailiwick".to_string();
    let agent = tried.agent;
    let left = || format!("{agent} left the declared chain with {what}");
    match deviation.unwrap_or_default() {
        Deviation::Refuse => too_many_refusals(scene)
            .or_else(|| too_much_sought(scene, tried))
            .map(|reason| TaskEvent::Frozen { by: by(), reason })
            .into_iter()
            .collect(),
        Deviation::Freeze => vec![TaskEvent::Frozen { by: by(), reason: left() }],
        Deviation::End => {
            vec![TaskEvent::Ended { cause: Cause::Deviation, by: by(), reason: left() }]
        }
    }
}

/// A refusal as it will count.
pub(crate) struct Tried<'a> {
    pub(crate) agent: &'a AgentId,
    pub(crate) why: &'a Why,
    pub(crate) what: &'a str,
    pub(crate) handoff: bool,
}

fn too_much_sought(scene: Scene<'_>, tried: &Tried<'_>) -> Option<String> {
    let limit = scene.task.opening().limits.seeking?;
    let before = scene.task.seeking().get(tried.agent).cloned().unwrap_or_default();
    let mut after = before.clone();
    after.note(tried.why, tried.what, tried.handoff);
    let score = scene.task.seeking_score().saturating_add(after.score() - before.score());
    (score > limit && after.score() > before.score() && *scene.task.state() == TaskState::Open)
        .then(|| format!("{} seeks more authority than it has: it {}", tried.agent, after.in_words()))
}

fn too_many_refusals(scene: Scene<'_>) -> Option<String> {
    let limit = scene.task.opening().limits.refusals?;
    let count = scene.task.refusals().saturating_add(1);
    (count > limit && *scene.task.state() == TaskState::Open)
        .then(|| format!("{count} refusals, the limit is {limit}"))
}

/// Whether a tool could be allowed to this grant for some arguments: what `list` shows.
pub fn could_be_allowed(scene: Scene<'_>, grant: &Grant, tool: &ToolId) -> bool {
    let scene = scene.in_log_time();
    let Some(manifest) = scene
        .registry
        .tool(tool)
        .filter(|t| matches!(t.standing, Standing::Classified { .. }))
        .and_then(|t| t.manifest.as_ref())
    else {
        return false;
    };
    let line = scene.task.lineage(grant).collect::<Vec<_>>();
    let granted = (0u16..).zip(&grant.held).any(|(place, held)| {
        held.capability.may_use
            && held.capability.tool.admits(tool)
            && overspent(&line, place, Spent { uses: 1, ..Spent::default() }, scene.now).is_none()
    });
    let foreseen = scene.task.chain().is_none_or(|chain| {
        (manifest.effect == Effect::Read && chain.reads.open_in(tool.system()))
            || chain.foresees(&grant.agent, tool)
    });
    granted
        && foreseen
        && scene.fresh
        && scene.task.is_live(&grant.id, scene.now)
        && scene.registry.halts_tool(tool).is_none()
        && suspension(scene, &line).is_ok()
}

/// Steps 1 to 3 for anything else a grant's holder may ask: `None` if it may go on.
pub fn refused_at_the_door(
    scene: Scene<'_>,
    grant: &GrantId,
    agent: &AgentId,
    instance: &str,
    token_until: Time,
    proof: Option<(Digest, Time)>,
) -> Option<Why> {
    let scene = scene.in_log_time();
    let at_the_door = || {
        let (grant, _) = caller(scene, grant, agent, instance, token_until)?;
        replay(scene, proof)?;
        let line = scene.task.lineage(grant).collect::<Vec<_>>();
        suspension(scene, &line)?;
        liveness(scene, &line)
    };
    match at_the_door() {
        Ok(()) => None,
        Err(Halt::Deny(why) | Halt::Deviates(why, _)) => Some(*why),
        Err(Halt::Ask(question)) => Some(question.why),
    }
}
