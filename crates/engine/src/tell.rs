//! What people ask of the record: lists, `why`, `trace`, the inventory. All of it is read from the log.

use bailiwick_core::amendment::Proposed;
use bailiwick_core::approval::State;
use bailiwick_core::event::{Cause, Decided, Guarantees, HandedOff, Recorded, Ruled, TaskEvent};
use bailiwick_core::task::{Task, TaskState};
use bailiwick_core::value::Digest;
use bailiwick_core::{AgentId, DecisionId, GrantId, PrincipalId, TaskId, Time};

use crate::error::EngineError;
use crate::log::{Engine, decode};
use crate::names;

/// A task in one line.
#[derive(Debug, Clone)]
pub struct TaskSummary {
    /// Its id.
    pub task: TaskId,
    /// Who opened it.
    pub initiator: PrincipalId,
    /// The intent.
    pub intent: String,
    /// The first agent.
    pub agent: AgentId,
    /// Where it stands.
    pub state: TaskState,
    /// When it was opened.
    pub opened: Time,
    /// When its window closes.
    pub until: Time,
    /// Whether a chain was declared.
    pub has_chain: bool,
    /// How much was declared.
    pub guarantees: Guarantees,
    /// The template it came from.
    pub template: Option<String>,
    /// Grants that live now.
    pub live_grants: u64,
    /// Questions waiting for people.
    pub waiting: u64,
    /// Refusals so far.
    pub refusals: u64,
    /// How much its agents have tried for beyond what they have.
    pub seeking: u64,
    /// Events so far.
    pub events: u64,
}

/// A decision explained.
#[derive(Debug, Clone)]
pub struct Explained {
    /// The task.
    pub task: TaskId,
    /// Its initiator.
    pub initiator: PrincipalId,
    /// Its intent.
    pub intent: String,
    /// How much was declared when it was opened.
    pub guarantees: Guarantees,
    /// Handoffs between the initiator's agent and the one that acted.
    pub hop: u8,
    /// When.
    pub at: Time,
    /// The decision about a call.
    pub decided: Option<Decided>,
    /// Or about a handoff.
    pub handed: Option<HandedOff>,
    /// Or about an amendment that an agent asked for.
    pub proposed: Option<Proposed>,
}

/// The five questions about one act, and the way from it to the human intent.
#[derive(Debug, Clone)]
pub struct Trace {
    /// The decision asked about.
    pub decision: DecisionId,
    /// The task.
    pub task: TaskId,
    /// Who initiated it.
    pub initiator: PrincipalId,
    /// The intent in that person's words.
    pub intent: String,
    /// The template it came from.
    pub template: Option<String>,
    /// When the task was opened.
    pub opened: Time,
    /// How it ended, if it did.
    pub ended: Option<(Cause, Time, String)>,
    /// Every agent on the way, the first one first.
    pub agents: Vec<AgentId>,
    /// The events that led to the act, in order.
    pub steps: Vec<TraceStep>,
    /// What the acting grant was permitted.
    pub permitted: Vec<bailiwick_core::capability::Capability>,
    /// Until when.
    pub permitted_until: Time,
    /// Who approved, when an approval was used.
    pub approved_by: Vec<PrincipalId>,
    /// The decision itself.
    pub decided: Explained,
}

/// One event on the way.
#[derive(Debug, Clone)]
pub struct TraceStep {
    /// Its place in the task's stream.
    pub at: u64,
    /// When.
    pub time: Time,
    /// Its index in the ledger.
    pub index: u64,
    /// Its leaf hash's preimage hash: SHA-256 of the recorded bytes.
    pub hash: Digest,
    /// The event.
    pub event: TaskEvent,
}

/// What is alive.
#[derive(Debug, Clone, Default)]
pub struct Inventory {
    /// Open tasks.
    pub tasks: Vec<TaskSummary>,
}

impl Engine {
    /// Tasks, newest first.
    pub async fn tasks(&self, limit: usize) -> Result<Vec<TaskSummary>, EngineError> {
        let mut out = Vec::new();
        for (_, id) in self.store().view_scan(&self.view("tasks"), "", None, limit.min(1000)).await? {
            if let Some(id) = String::from_utf8(id).ok().and_then(|t| TaskId::parse(&t).ok()) {
                out.push(self.summary(&id).await?);
            }
        }
        Ok(out)
    }

    /// One task in one line.
    pub async fn summary(&self, id: &TaskId) -> Result<TaskSummary, EngineError> {
        let now = self.now();
        self.with_task(id, |task, authority| summary(task, now, authority.policy.version())).await
    }

    /// The folded task.
    pub async fn task(&self, id: &TaskId) -> Result<Task, EngineError> {
        self.with_task(id, |task, _| task.clone()).await
    }

    /// What is alive.
    pub async fn inventory(&self) -> Result<Inventory, EngineError> {
        let mut tasks = Vec::new();
        for id in self.open_tasks().await? {
            tasks.push(self.summary(&id).await?);
        }
        Ok(Inventory { tasks })
    }

    /// The events of a task from a version on, with their places in the ledger.
    pub async fn events(&self, id: &TaskId, from: u64) -> Result<Vec<TraceStep>, EngineError> {
        let recorded = self.store().read(&self.task_stream(id), from).await?;
        if recorded.is_empty() && from == 0 {
            return Err(EngineError::missing("task", id));
        }
        recorded.iter().map(step).collect()
    }

    /// A decision explained.
    pub async fn why(&self, decision: &DecisionId) -> Result<Explained, EngineError> {
        let (task, version) =
            names::home(decision.as_str()).ok_or_else(|| EngineError::missing("decision", decision))?;
        let step = self
            .events(&task, version)
            .await?
            .into_iter()
            .next()
            .ok_or_else(|| EngineError::missing("decision", decision))?;
        let (decided, handed, proposed) = match step.event {
            TaskEvent::Decided(d) if d.decision == *decision => (Some(d), None, None),
            TaskEvent::HandedOff(h) if h.decision == *decision => (None, Some(h), None),
            TaskEvent::AmendmentProposed(p) if p.decision == *decision => (None, None, Some(p)),
            _ => return Err(EngineError::missing("decision", decision)),
        };
        let grant = decided.as_ref().map(|d| &d.grant).or(handed.as_ref().map(|h| &h.parent));
        let grant = grant.or(proposed.as_ref().map(|p| &p.grant)).cloned();
        self.with_task(&task, |held, _| Explained {
            task: task.clone(),
            initiator: held.opening().initiator.clone(),
            intent: held.opening().intent.clone(),
            guarantees: held.opening().guarantees(),
            hop: grant.and_then(|g| held.grant(&g)).map_or(0, |g| g.depth),
            at: step.time,
            decided,
            handed,
            proposed,
        })
        .await
    }

    /// From one decision back to the human intent: who initiated, which agents, what was permitted, which
    /// approvals, and every event on the way.
    pub async fn trace(&self, decision: &DecisionId) -> Result<Trace, EngineError> {
        let explained = self.why(decision).await?;
        let grant = explained
            .decided
            .as_ref()
            .map(|d| d.grant.clone())
            .or_else(|| explained.handed.as_ref().map(|h| h.parent.clone()))
            .or_else(|| explained.proposed.as_ref().map(|p| p.grant.clone()));
        let grant = grant.ok_or_else(|| EngineError::missing("decision", decision))?;
        let steps = self.events(&explained.task, 0).await?;
        self.with_task(&explained.task.clone(), |task, _| traced(task, &grant, decision, explained, steps))
            .await?
    }
}

fn summary(task: &Task, now: Time, policy: Digest) -> TaskSummary {
    let opening = task.opening();
    TaskSummary {
        task: opening.task.clone(),
        initiator: opening.initiator.clone(),
        intent: opening.intent.clone(),
        agent: opening.agent.clone(),
        state: task.state().clone(),
        opened: task.opened(),
        until: opening.limits.until,
        has_chain: opening.chain.is_some(),
        guarantees: opening.guarantees(),
        template: opening.template.clone(),
        live_grants: task.grants().filter(|g| task.is_live(&g.id, now)).count() as u64,
        waiting: task
            .approvals()
            .filter(|a| a.state == State::Waiting && a.policy == policy && now < a.until)
            .count() as u64,
        refusals: u64::from(task.refusals()),
        seeking: u64::from(task.seeking_score()),
        events: task.version(),
    }
}

fn step(recorded: &bailiwick_store::Recorded) -> Result<TraceStep, EngineError> {
    let Recorded { at, time, event, .. } = decode::<TaskEvent>(&recorded.bytes)?;
    Ok(TraceStep { at, time, index: recorded.index, hash: Digest::of(&recorded.bytes), event })
}

fn traced(
    task: &Task,
    grant: &GrantId,
    decision: &DecisionId,
    explained: Explained,
    steps: Vec<TraceStep>,
) -> Result<Trace, EngineError> {
    let held = task.grant(grant).ok_or_else(|| EngineError::missing("grant", grant))?;
    let mut agents: Vec<AgentId> = task.lineage(held).map(|g| g.agent.clone()).collect();
    agents.reverse();
    let lineage: Vec<&GrantId> = task.lineage(held).map(|g| &g.id).collect();
    let approval = explained
        .decided
        .as_ref()
        .and_then(|d| d.approval.clone().or(d.asked.as_ref().map(|a| a.approval.clone())))
        .or_else(|| Some(explained.proposed.as_ref()?.asked.as_ref()?.approval.clone()))
        .or_else(|| task.amended_by(explained.decided.as_ref()?.chain_step.as_ref()?).cloned());
    let approved_by = approval
        .as_ref()
        .and_then(|a| task.approval(a))
        .map(|a| a.yes.iter().cloned().collect())
        .unwrap_or_default();
    let on_the_way =
        steps.into_iter().filter(|s| concerns(&s.event, &lineage, decision, approval.as_ref())).collect();
    Ok(Trace {
        decision: decision.clone(),
        task: explained.task.clone(),
        initiator: explained.initiator.clone(),
        intent: explained.intent.clone(),
        template: task.opening().template.clone(),
        opened: task.opened(),
        ended: match task.state() {
            TaskState::Ended { cause, at, reason } => Some((*cause, *at, reason.clone())),
            _ => None,
        },
        agents,
        steps: on_the_way,
        permitted: held.held.iter().map(|h| h.capability.clone()).collect(),
        permitted_until: held.until,
        approved_by,
        decided: explained,
    })
}

/// Whether an event lies on the way from the intent to the act: the opening, the handoffs and tokens of the
/// acting lineage, what it read before, the question and its answers, the act, its outcome, the end.
fn concerns(
    event: &TaskEvent,
    lineage: &[&GrantId],
    decision: &DecisionId,
    approval: Option<&bailiwick_core::ApprovalId>,
) -> bool {
    match event {
        TaskEvent::Opened(_)
        | TaskEvent::Ended { .. }
        | TaskEvent::Frozen { .. }
        | TaskEvent::Resumed { .. } => true,
        TaskEvent::HandedOff(h) => {
            h.decision == *decision || h.grant.as_ref().is_some_and(|g| lineage.contains(&&g.grant))
        }
        TaskEvent::TokenMinted { grant, .. } | TaskEvent::GrantRevoked { grant, .. } => {
            lineage.contains(&grant)
        }
        TaskEvent::Decided(d) => {
            d.decision == *decision
                || d.asked.as_ref().is_some_and(|a| Some(&a.approval) == approval)
                || (lineage.contains(&&d.grant) && d.outcome == Ruled::Allow)
        }
        TaskEvent::AmendmentProposed(p) => {
            p.decision == *decision || p.asked.as_ref().is_some_and(|a| Some(&a.approval) == approval)
        }
        TaskEvent::Amended(a) => lineage.contains(&&a.grant),
        TaskEvent::Reported(_) => true,
        TaskEvent::Voted { approval: id, .. } => Some(id) == approval,
        TaskEvent::LeaseRequested(intent) => lineage.contains(&&intent.grant),
        TaskEvent::Lease { .. } | TaskEvent::Receipted(_) => true,
    }
}
