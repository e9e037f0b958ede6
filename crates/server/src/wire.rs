//! Core and engine types written down as wire types.

use std::collections::BTreeMap;

use bailiwick_api::wire::*;
use bailiwick_api::{Answer, ApprovalState, Denial, Pending};
use bailiwick_core::agent::{Agent, Person};
use bailiwick_core::amendment::{Addition, Proposal, Proposed, shown as shown_steps};
use bailiwick_core::approval::{Approval, State};
use bailiwick_core::decision::may_vote;
use bailiwick_core::declassify::Lowered;
use bailiwick_core::event::{Cause, Decided, HandedOff, Ruled, Why};
use bailiwick_core::grant::Grant;
use bailiwick_core::label::Label;
use bailiwick_core::lease::{Lease, LeaseState};
use bailiwick_core::origin::{Sourced, visible};
use bailiwick_core::registry::{Halt, Registry, Scope, Suspension};
use bailiwick_core::seeking::Seeking;
use bailiwick_core::task::{Task, TaskState};
use bailiwick_core::tool::{Effect, Standing, Tool};
use bailiwick_core::{TaskId, Time, ToolId, Value};
use bailiwick_engine::{
    AmendCall, Engine, Explained, Given, Halted, HandoffCall, Replay, Trace, TraceStep, Waiting,
};
use serde::Serialize;

use crate::refusal::Refusal;

/// Whatever can be written as JSON, as a value.
fn value<T: Serialize>(thing: &T) -> Result<Value, Refusal> {
    Value::from_serialize(thing).map_err(|e| {
        Refusal::new(500, e.code(), format!("the record cannot be written: {e}"), "report this as a bug")
    })
}

pub(crate) fn agent(engine: &Engine, registry: &Registry, agent: &Agent) -> Result<AgentView, Refusal> {
    Ok(AgentView {
        id: agent.id.clone(),
        spiffe: engine.spiffe(&agent.id)?.to_string(),
        owner: agent.owner.clone(),
        class: agent.class.clone(),
        ceiling: agent.ceiling.clone(),
        keys: agent.keys.iter().cloned().collect(),
        suspended: registry.halts_agent(agent).map(|(scope, s)| format!("{scope}: {}", s.reason)),
    })
}

pub(crate) fn tool(registry: &Registry, id: &ToolId, tool: &Tool) -> ToolDetail {
    let (standing, pin) = match &tool.standing {
        Standing::Classified { pin } => ("classified", *pin),
        Standing::Proposed => ("proposed", None),
        Standing::Quarantined { was } => ("quarantined", *was),
    };
    ToolDetail {
        tool: id.clone(),
        standing: standing.to_owned(),
        pin,
        seen: tool.seen,
        manifest: tool.manifest.clone(),
        definition: registry.pending_definition(id).or_else(|| registry.definition(id)).cloned(),
    }
}

pub(crate) fn person(person: &Person) -> PersonView {
    PersonView {
        id: person.id.clone(),
        groups: person.groups.clone(),
        workload: person.workload,
        keys: person.keys.iter().map(|k| k.short()).collect(),
    }
}

pub(crate) fn suspensions(registry: &Registry) -> Vec<SuspensionView> {
    registry.suspensions().map(|(scope, s)| suspension(scope, s)).collect()
}

fn suspension(scope: &Scope, suspension: &Suspension) -> SuspensionView {
    let (kind, name) = match scope {
        Scope::Agent(id) => (ScopeKind::Agent, id.to_string()),
        Scope::Class(id) => (ScopeKind::Class, id.to_string()),
        Scope::Task(id) => (ScopeKind::Task, id.to_string()),
        Scope::Initiator(id) => (ScopeKind::Initiator, id.to_string()),
        Scope::Tool(pattern) => (ScopeKind::Tool, pattern.to_string()),
        Scope::All => (ScopeKind::All, String::new()),
    };
    SuspensionView {
        scope: kind,
        name,
        halt: match suspension.halt {
            Halt::Frozen => HaltKind::Frozen,
            Halt::Killed => HaltKind::Killed,
        },
        by: suspension.by.clone(),
        reason: suspension.reason.clone(),
        at: suspension.at,
    }
}

pub(crate) fn halted(halted: Halted) -> HaltedView {
    HaltedView {
        tasks: halted.tasks,
        grants: halted.grants,
        in_flight: halted.in_flight,
        standing: halted.standing,
    }
}

fn cause(cause: Cause) -> String {
    cause.as_str().to_owned()
}

pub(crate) fn summary(task: &bailiwick_engine::TaskSummary) -> TaskSummary {
    let (state, why, reason, ended) = match &task.state {
        TaskState::Open => ("open", None, None, None),
        TaskState::Frozen { reason, .. } => ("frozen", None, Some(reason.clone()), None),
        TaskState::Ended { cause: why, at, reason } => {
            ("ended", Some(cause(*why)), Some(reason.clone()), Some(*at))
        }
    };
    TaskSummary {
        task: task.task.clone(),
        initiator: task.initiator.clone(),
        intent: task.intent.clone(),
        agent: task.agent.clone(),
        state: state.to_owned(),
        cause: why,
        reason,
        opened: task.opened,
        until: task.until,
        ended,
        has_chain: task.has_chain,
        guarantees: task.guarantees.as_str().to_owned(),
        weaker: task.guarantees.warning().map(str::to_owned),
        template: task.template.clone(),
        live_grants: task.live_grants,
        waiting: task.waiting,
        refusals: task.refusals,
        seeking: task.seeking,
        events: task.events,
    }
}

pub(crate) fn detail(
    task: &Task,
    line: &bailiwick_engine::TaskSummary,
    now: Time,
) -> Result<TaskDetail, Refusal> {
    let opening = task.opening();
    let mut grants: Vec<_> = task.grants().map(|g| grant(task, g, now)).collect();
    grants.sort_by_key(|g| g.depth);
    let mut approvals: Vec<_> = task.approvals().map(|a| approval(&opening.task, a, now)).collect();
    approvals.sort_by_key(|a| a.asked);
    Ok(TaskDetail {
        summary: summary(line),
        inputs: opening.inputs.clone(),
        types: opening.types.clone(),
        chain: opening.chain.as_ref().map(value).transpose()?,
        amended: amended(task)?,
        progress: task.progress().iter().map(|(step, n)| (step.to_string(), *n)).collect(),
        limits: value(&opening.limits)?,
        grants,
        seeking: task.seeking().iter().map(|(agent, seeking)| sought(agent, seeking)).collect(),
        approvals,
        open_calls: task
            .open_calls()
            .iter()
            .map(|(decision, call)| OpenCallView {
                decision: decision.clone(),
                grant: call.grant.clone(),
                tool: call.tool.clone(),
                since: call.since,
            })
            .collect(),
        leases: task.leases().map(|l| lease(&opening.task, l, now)).collect(),
    })
}

fn amended(task: &Task) -> Result<Vec<AmendedStep>, Refusal> {
    let steps = task.chain().into_iter().flat_map(|chain| &chain.steps);
    let brought = steps.filter_map(|step| Some((step, task.amended_by(&step.id)?)));
    brought
        .map(|(step, approval)| Ok(AmendedStep { approval: approval.clone(), step: value(step)? }))
        .collect()
}

fn grant(task: &Task, grant: &Grant, now: Time) -> GrantView {
    GrantView {
        grant: grant.id.clone(),
        agent: grant.agent.clone(),
        parent: grant.parent.clone(),
        depth: grant.depth,
        until: grant.until,
        live: task.is_live(&grant.id, now),
        revoked: grant.revoked,
        label: grant.label.clone(),
        held: grant
            .held
            .iter()
            .map(|h| HeldView { capability: h.capability.clone(), spent: h.spent })
            .collect(),
    }
}

fn sought(agent: &bailiwick_core::AgentId, seeking: &Seeking) -> SeekingView {
    SeekingView {
        agent: agent.clone(),
        score: seeking.score(),
        refusals: seeking.refusals,
        tools: seeking.tools.iter().cloned().collect(),
        handoffs: seeking.handoffs,
        borrowed: seeking.borrowed,
        words: seeking.in_words(),
    }
}

pub(crate) fn lease(task: &TaskId, lease: &Lease, now: Time) -> LeaseView {
    let intent = &lease.intent;
    let (why, ended, evidence) = match &lease.state {
        LeaseState::Revoking { why, since } => (Some(why.clone()), Some(*since), None),
        LeaseState::Gone { at, evidence } => (None, Some(*at), Some(evidence.clone())),
        LeaseState::Requested | LeaseState::Created | LeaseState::Active => (None, None, None),
    };
    let trouble = lease.trouble.as_ref();
    LeaseView {
        lease: intent.lease.to_string(),
        task: task.clone(),
        grant: intent.grant.clone(),
        agent: intent.agent.clone(),
        decision: intent.decision.clone(),
        system: intent.system.to_string(),
        tool: intent.tool.clone(),
        name: intent.name.clone(),
        class: intent.class.as_str().to_owned(),
        standing: lease.is_standing(),
        state: lease.state.as_str().to_owned(),
        debt: lease.is_debt(now),
        requested: lease.requested,
        until: intent.until,
        created: lease.created,
        used: lease.used.map(|(at, _)| at),
        sessions: lease.used.map_or(0, |(_, n)| n),
        ended,
        why,
        trouble: trouble.map(|t| format!("{}: {} ({})", t.step.as_str(), t.reason, t.code)),
        attempts: trouble.map_or(0, |t| t.attempts),
        acknowledged: lease.acknowledged.clone(),
        evidence,
    }
}

pub(crate) fn credential(task: &TaskId, given: Given, now: Time) -> LeaseBody {
    let Given { lease: held, effect, credential } = given;
    LeaseBody {
        lease: lease(task, &held, now),
        can: effect,
        plain: credential.plain,
        secret: credential.secret.iter().map(|(name, s)| (name.clone(), s.expose().to_owned())).collect(),
        env: credential.env,
    }
}

pub(crate) fn target(target: &bailiwick_engine::TargetView) -> TargetView {
    let (capabilities, seen) = (&target.capabilities, &target.seen);
    TargetView {
        system: target.system.clone(),
        kind: capabilities.kind.to_owned(),
        class: capabilities.class.as_str().to_owned(),
        remains: capabilities.remains.to_owned(),
        looked: seen.at,
        swept: seen.swept,
        strays: seen.strays.clone(),
        lookalikes: seen.lookalikes.clone(),
        trouble: seen.trouble.clone(),
    }
}

pub(crate) fn event(step: &TraceStep) -> Result<EventView, Refusal> {
    Ok(EventView {
        at: step.at,
        time: step.time,
        index: step.index,
        hash: step.hash,
        kind: step.event.name().to_owned(),
        event: value(&step.event)?,
    })
}

/// Where a question stands, in a word. A yes or a question past its time is worth nothing.
fn approval_word(approval: &Approval, now: Time) -> &'static str {
    match approval.state {
        State::Denied { .. } => "denied",
        State::Used { .. } => "used",
        State::Waiting | State::Approved if now >= approval.until => "expired",
        State::Approved => "approved",
        State::Waiting => "waiting",
    }
}

pub(crate) fn approval(task: &TaskId, approval: &Approval, now: Time) -> ApprovalSummary {
    ApprovalSummary {
        approval: approval.id.clone(),
        task: task.clone(),
        agent: approval.agent.clone(),
        about: if approval.amends.is_some() { "amendment" } else { "call" }.to_owned(),
        tool: approval.tool.clone(),
        state: approval_word(approval, now).to_owned(),
        yes: approval.yes.iter().cloned().collect(),
        quorum: approval.terms.quorum,
        asked: approval.asked,
        until: approval.until,
    }
}

pub(crate) fn card(registry: &Registry, waiting: &Waiting, looker: &Person, now: Time) -> ApprovalCard {
    let approval = &waiting.approval;
    let settled = if waiting.void { "void" } else { approval_word(approval, now) };
    ApprovalCard {
        approval: approval.id.clone(),
        state: settled.to_owned(),
        title: title(waiting),
        risks: risks(waiting),
        who: who(registry, waiting),
        task: CardTask {
            id: waiting.task.clone(),
            intent: waiting.intent.clone(),
            planned: waiting.planned,
            weaker: waiting.guarantees.warning().map(str::to_owned),
        },
        expiry: CardExpiry { until: approval.until, then: "denied".to_owned() },
        args: approval.shown.clone(),
        values: waiting.sources.iter().map(Sourced::in_words).collect(),
        narrowed: approval.narrowed.clone(),
        adds: approval.amends.iter().flat_map(|p| &p.adds).map(|add| added(&approval.agent, add)).collect(),
        touches: CardTouches {
            tool: approval.tool.clone(),
            effect: waiting.effect.map(|(effect, _)| effect.as_str().to_owned()),
            reversible: waiting.effect.is_some_and(|(_, reversible)| reversible),
        },
        asked_of: CardAskedOf {
            rule: approval.rule.clone(),
            reason: approval.reason.clone(),
            group: approval.terms.group.clone(),
            quorum: approval.terms.quorum,
            yes: approval.yes.iter().cloned().collect(),
            you_may: settled == "waiting" && may_vote(registry, &waiting.initiator, approval, &looker.id),
        },
        decision: approval.decision.clone(),
        act: approval.act,
        agent_says: says(waiting.says.as_ref()),
    }
}

fn added(agent: &bailiwick_core::AgentId, add: &Addition) -> CardAddition {
    CardAddition {
        step: add.step.to_string(),
        agent: agent.clone(),
        tool: add.tool.clone(),
        effect: add.effect.as_str().to_owned(),
        reversible: add.reversible,
        args: Value::from_serialize(&add.args).unwrap_or(Value::Null),
        times: add.times,
        until_now: add.until_now.clone(),
        grant_grows: add.gains.is_some(),
        unexplained: add.unexplained.iter().cloned().collect(),
    }
}

fn says(words: Option<&String>) -> Option<UntrustedWords> {
    let text = words.filter(|w| !w.is_empty())?;
    Some(UntrustedWords { warning: UNTRUSTED_WARNING.to_owned(), text: text.clone() })
}

/// "Delete by vm.remove: name db-1, force true".
fn title(waiting: &Waiting) -> String {
    if let Some(proposal) = &waiting.approval.amends {
        let tools: Vec<String> = proposal.adds.iter().map(|add| add.tool.to_string()).collect();
        return format!("Amend the task: {} may also call {}", waiting.approval.agent, tools.join(", "));
    }
    let verb = match waiting.effect {
        Some((Effect::Read, _)) => "Read",
        Some((Effect::Create, _)) => "Create",
        Some((Effect::Update, _)) => "Change",
        Some((Effect::Delete, _)) => "Delete",
        Some((Effect::Egress, _)) => "Send out",
        Some((Effect::Admin, _)) => "Administer",
        None => "Call",
    };
    let args = waiting.approval.shown.as_map().map(|args| args.iter().take(4).map(shown).collect::<Vec<_>>());
    let args = args.filter(|a| !a.is_empty()).map(|a| format!(": {}", a.join(", "))).unwrap_or_default();
    format!("{verb} by {}{args}", waiting.approval.tool)
}

/// One argument in a few characters, without anything that could pass for layout.
fn shown((name, value): (&String, &Value)) -> String {
    let text = value.spelled().unwrap_or_else(|| value.canonical());
    let plain: String = text.chars().map(visible).take(60).collect();
    let more = if text.chars().count() > 60 { "…" } else { "" };
    format!("{name} {plain}{more}")
}

fn risks(waiting: &Waiting) -> Vec<String> {
    let mut risks = Vec::new();
    if let Some(proposal) = &waiting.approval.amends {
        return amending(waiting, proposal);
    }
    match waiting.effect {
        Some((_, false)) => risks.push("it cannot be undone".to_owned()),
        None => risks.push("nobody has classified this tool".to_owned()),
        _ => {}
    }
    match waiting.effect.map(|(effect, _)| effect) {
        Some(Effect::Delete) => risks.push("it destroys something".to_owned()),
        Some(Effect::Egress) => risks.push("it sends something out".to_owned()),
        Some(Effect::Admin) => risks.push("it changes who may do what".to_owned()),
        _ => {}
    }
    if !waiting.planned {
        risks.push("the task's plan does not foresee it".to_owned());
    }
    risks.extend(waiting.guarantees.warning().map(str::to_owned));
    risks.extend(
        waiting
            .unexplained
            .iter()
            .map(|arg| format!("nobody vouches for `{arg}`: it may come from what was read")),
    );
    risks
}

/// What makes an amendment risky: each thing that becomes possible and is not mild.
fn amending(waiting: &Waiting, proposal: &Proposal) -> Vec<String> {
    let mut risks = vec!["the agent asks for more than the person who opened the task declared".to_owned()];
    for add in &proposal.adds {
        let what = match add.effect {
            Effect::Read => None,
            Effect::Create | Effect::Update if add.reversible => None,
            Effect::Delete => Some("destroys something"),
            Effect::Egress => Some("sends something out"),
            Effect::Admin => Some("changes who may do what"),
            Effect::Create | Effect::Update => Some("cannot be undone"),
        };
        risks.extend(what.map(|what| format!("{} {what}", add.tool)));
        if add.gains.is_some() {
            risks.push(format!("{} was not granted {} and would be", waiting.approval.agent, add.tool));
        }
        let unknown = add.unexplained.iter();
        risks.extend(unknown.map(|arg| {
            format!("nobody vouches for `{arg}` of {}: it may come from what was read", add.tool)
        }));
    }
    risks.extend(waiting.guarantees.warning().map(str::to_owned));
    risks
}

fn who(registry: &Registry, waiting: &Waiting) -> Vec<String> {
    let agents = waiting.chain.iter().map(|name| {
        let owner = name.parse().ok().and_then(|id| registry.agent(&id)).map(|a| a.owner.to_string());
        format!("agent {name}, owned by {}", owner.as_deref().unwrap_or("nobody any more"))
    });
    std::iter::once(waiting.initiator.to_string()).chain(agents).collect()
}

pub(crate) fn approval_state(state: ApprovalState) -> ApprovalStateView {
    match state {
        ApprovalState::Waiting { until } => ApprovalStateView::Waiting { until },
        ApprovalState::Approved { until, narrowed } => ApprovalStateView::Approved { until, narrowed },
        ApprovalState::Denied { reason } => ApprovalStateView::Denied { reason },
        ApprovalState::Closed { reason } => ApprovalStateView::Closed { reason },
    }
}

pub(crate) fn answer(answer: Answer) -> CallAnswer {
    match answer {
        Answer::Allow(allow) => CallAnswer::Allow(AllowBody {
            decision: allow.decision,
            tool: allow.tool,
            args: allow.args,
            until: allow.until,
        }),
        Answer::Ask(pending) => CallAnswer::Ask(waits(pending)),
        Answer::Deny(refused) => CallAnswer::Deny(denial(refused)),
    }
}

fn waits(pending: Pending) -> AskBody {
    AskBody {
        decision: pending.decision,
        approval: pending.approval,
        until: pending.until,
        text: pending.text,
    }
}

pub(crate) fn amendment(asked: AmendCall) -> AmendAnswer {
    match asked {
        Ok(pending) => AmendAnswer::Ask(waits(pending)),
        Err(refused) => AmendAnswer::Deny(denial(refused)),
    }
}

pub(crate) fn denial(denial: Denial) -> DenialBody {
    DenialBody {
        decision: denial.decision,
        step: denial.step,
        code: denial.code,
        rule: denial.rule,
        reason: denial.reason,
        remedy: denial.remedy,
        text: denial.text,
        retry: denial.retry,
    }
}

pub(crate) fn handoff(handed: HandoffCall) -> HandoffAnswer {
    match handed {
        Ok(made) => HandoffAnswer::Allow(HandoffMadeBody {
            decision: made.decision,
            grant: made.grant,
            to: made.to,
            capabilities: made.capabilities,
            until: made.until,
            delivered: made.delivered,
            stripped: made.stripped,
            sources: made.sources,
        }),
        Err(refused) => HandoffAnswer::Deny(denial(refused)),
    }
}

pub(crate) fn decision(explained: &Explained) -> Result<DecisionView, Refusal> {
    match (&explained.decided, &explained.handed, &explained.proposed) {
        (Some(decided), ..) => call(explained, decided),
        (None, Some(handed), _) => Ok(handing(explained, handed)),
        (None, None, Some(proposed)) => Ok(proposing(explained, proposed)),
        (None, None, None) => Err(Refusal::new(404, "not_found", "there is no such decision", "")),
    }
}

fn call(explained: &Explained, decided: &Decided) -> Result<DecisionView, Refusal> {
    let origins = decided.origins.iter().map(|(arg, origin)| Ok((arg.clone(), value(origin)?)));
    Ok(DecisionView {
        about: "call".to_owned(),
        agent: decided.agent.clone(),
        grant: decided.grant.clone(),
        instance: Some(decided.instance.clone()),
        tool: Some(decided.tool.clone()),
        args: decided.args.clone(),
        chain_step: decided.chain_step.as_ref().map(ToString::to_string),
        label: decided.label.clone(),
        declassified: decided.declassified.iter().map(Lowered::in_words).collect(),
        origins: origins.collect::<Result<_, Refusal>>()?,
        unexplained: decided.unexplained.clone(),
        observed: decided.observed.clone(),
        sources: decided.sources.iter().map(Sourced::in_words).collect(),
        approval: decided.approval.clone().or(decided.asked.as_ref().map(|a| a.approval.clone())),
        policy: decided.policy,
        epoch: decided.epoch,
        agent_says: says(decided.says.as_ref()),
        ..ruled(explained, &decided.decision, decided.outcome, &decided.why, &decided.agent, &decided.grant)
    })
}

fn handing(explained: &Explained, handed: &HandedOff) -> DecisionView {
    DecisionView {
        args: handed.delivered.clone(),
        to: Some(handed.to.clone()),
        child: handed.grant.as_ref().map(|g| g.grant.clone()),
        stripped: handed.stripped.clone(),
        observed: handed.observed.clone(),
        sources: handed.sources.iter().map(Sourced::in_words).collect(),
        chain_step: handed.chain_step.as_ref().map(ToString::to_string),
        policy: handed.policy,
        epoch: handed.epoch,
        ..ruled(explained, &handed.decision, handed.outcome, &handed.why, &handed.from, &handed.parent)
    }
}

fn proposing(explained: &Explained, proposed: &Proposed) -> DecisionView {
    DecisionView {
        about: "amendment".to_owned(),
        instance: Some(proposed.instance.clone()),
        tool: proposed.adds.first().map(|add| add.tool.clone()),
        args: Value::from([("steps", shown_steps(&proposed.steps))]),
        unexplained: proposed.adds.iter().flat_map(|add| add.unexplained.iter().cloned()).collect(),
        approval: proposed.approval.clone().or(proposed.asked.as_ref().map(|a| a.approval.clone())),
        policy: proposed.policy,
        epoch: proposed.epoch,
        agent_says: says(proposed.says.as_ref()),
        ..ruled(
            explained,
            &proposed.decision,
            proposed.outcome,
            &proposed.why,
            &proposed.agent,
            &proposed.grant,
        )
    }
}

/// What calls and handoffs have in common.
fn ruled(
    explained: &Explained,
    decision: &bailiwick_core::DecisionId,
    outcome: Ruled,
    why: &Why,
    agent: &bailiwick_core::AgentId,
    grant: &bailiwick_core::GrantId,
) -> DecisionView {
    DecisionView {
        decision: decision.clone(),
        about: "handoff".to_owned(),
        effect: outcome.as_str().to_owned(),
        step: why.step,
        code: why.code.clone(),
        rule: why.rule.clone(),
        reason: why.reason.clone(),
        remedy: why.remedy.clone(),
        at: explained.at,
        task: explained.task.clone(),
        initiator: explained.initiator.clone(),
        intent: explained.intent.clone(),
        weaker: explained.guarantees.warning().map(str::to_owned),
        hop: explained.hop,
        agent: agent.clone(),
        grant: grant.clone(),
        instance: None,
        tool: None,
        args: Value::Null,
        to: None,
        child: None,
        stripped: Default::default(),
        chain_step: None,
        label: Label::bottom(),
        declassified: Vec::new(),
        origins: BTreeMap::new(),
        unexplained: Default::default(),
        observed: None,
        sources: Vec::new(),
        approval: None,
        policy: bailiwick_core::Digest::from_bytes([0; 32]),
        epoch: 0,
        agent_says: None,
    }
}

pub(crate) fn replay(replay: Replay, most: usize) -> ReplayView {
    let count = |would: Ruled| replay.changed.iter().filter(|c| c.would == would).count() as u64;
    let changed = replay.changed.iter().take(most).map(|c| ReplayedView {
        decision: c.decision.clone(),
        task: c.task.clone(),
        at: c.at,
        agent: c.agent.clone(),
        tool: c.tool.clone(),
        args: c.args.clone(),
        was: c.was.as_str().to_owned(),
        would: c.would.as_str().to_owned(),
        rule: c.rule.clone(),
        reason: c.reason.clone(),
    });
    let untold = replay.untold.iter().take(most);
    ReplayView {
        decisions: replay.decisions,
        before_policy: replay.before_policy,
        same: replay.same,
        newly_allowed: count(Ruled::Allow),
        newly_asked: count(Ruled::Ask),
        newly_denied: count(Ruled::Deny),
        changed: changed.collect(),
        untold: untold.map(|(d, why)| UntoldView { decision: d.clone(), why: why.clone() }).collect(),
        untold_all: replay.untold.len() as u64,
        handoffs: replay.handoffs,
    }
}

pub(crate) fn trace(trace: &Trace) -> Result<TraceView, Refusal> {
    Ok(TraceView {
        initiator: trace.initiator.clone(),
        intent: trace.intent.clone(),
        template: trace.template.clone(),
        task: trace.task.clone(),
        opened: trace.opened,
        ended: trace.ended.as_ref().map(|(why, at, reason)| TraceEnd {
            cause: cause(*why),
            at: *at,
            reason: reason.clone(),
        }),
        agents: trace.agents.clone(),
        permitted: trace.permitted.clone(),
        permitted_until: trace.permitted_until,
        approved_by: trace.approved_by.clone(),
        decision: decision(&trace.decided)?,
        steps: trace.steps.iter().map(event).collect::<Result<_, _>>()?,
    })
}
