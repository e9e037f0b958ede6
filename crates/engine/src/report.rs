//! Reporting what came of a call: labels, explained values, budgets.

use bailiwick_api::{Caller, Outcome, OutcomeStatus};
use bailiwick_core::DecisionId;
use bailiwick_core::capability::Spent;
use bailiwick_core::decision::Scene;
use bailiwick_core::declassify;
use bailiwick_core::event::{Reported, TaskEvent, Went};
use bailiwick_core::label::Label;
use bailiwick_core::origin::{Identifier, harvest, shows};
use bailiwick_core::registry::Registry;
use bailiwick_core::task::{OpenCall, Task};
use bailiwick_core::tool::{Effect, Manifest, Trust};
use bailiwick_core::value::Value;
use bailiwick_store::AppendError;

use crate::cached::may_be_answered_first;
use crate::error::EngineError;
use crate::log::{Engine, RACES_MAX};
use crate::memory::{Deposit, Memory};

/// Values that one event shows; beside the explained ones they must fit into it.
const SHOWN_MAX: usize = 64;
/// Bytes of explained values that one event may carry; what does not fit stays unexplained.
const EXPLAINS_BYTES: usize = 40_000;

impl Engine {
    /// Records the outcome of an allowed call as an enforcement point saw it. A decision is reported once; a second
    /// report is refused.
    pub async fn report(
        &self,
        caller: &Caller,
        decision: &DecisionId,
        outcome: Outcome,
    ) -> Result<(), EngineError> {
        self.record(caller, decision, outcome, Reporter::Enforcement, Pace::Durable).await
    }

    /// The same, but does not wait for the record to be durable where the tool only reads and nothing but labels hangs
    /// on its outcome. See [`crate::cached`] for what keeps that safe.
    pub async fn report_soon(
        &self,
        caller: &Caller,
        decision: &DecisionId,
        outcome: Outcome,
    ) -> Result<(), EngineError> {
        self.record(caller, decision, outcome, Reporter::Enforcement, Pace::Soon).await
    }

    /// Records the outcome of an allowed call as the caller itself tells it. Unless the tool's manifest says that
    /// callers run it themselves, that is a claim: whoever holds an agent's key could make it up, and so the result
    /// explains nothing, is vouched for by nobody, lowers no label, and ends no task (A34). Of a tool
    /// that the gateway offers it is refused.
    pub async fn report_by_caller(
        &self,
        caller: &Caller,
        decision: &DecisionId,
        outcome: Outcome,
    ) -> Result<(), EngineError> {
        self.record(caller, decision, outcome, Reporter::Caller, Pace::Durable).await
    }

    async fn record(
        &self,
        caller: &Caller,
        decision: &DecisionId,
        outcome: Outcome,
        by: Reporter,
        pace: Pace,
    ) -> Result<(), EngineError> {
        let cell = self.cell(&caller.task);
        let mut held = cell.lock().await;
        self.refresh(&caller.task, &mut held).await?;
        for _ in 0..RACES_MAX {
            let authority = self.authority();
            let Some(task) = held.as_ref() else { return Err(EngineError::missing("task", &caller.task)) };
            let call = waiting(task, caller, decision)?;
            let registry = &authority.registry;
            if by == Reporter::Caller {
                may_be_told_by_caller(registry, &call.tool)?;
            }
            let (reported, left) = self
                .remembering(|memory| {
                    let manifest = registry.tool(&call.tool).and_then(|t| t.manifest.as_ref());
                    let (reported, made) = reported(registry, memory, decision, &call.tool, &outcome, by);
                    let wrote = manifest.is_some_and(|m| m.effect != Effect::Read);
                    let label = task.grant(&call.grant).map(|g| &g.label).filter(|_| wrote);
                    let left = label.and_then(|l| Deposit::of_result(l, &call.tool, &made));
                    (reported, left)
                })
                .await?;
            let (left, now) = (self.news(left).await, self.now());
            let rows = self.written_rows(left.as_ref(), now, &format!("{decision}-made"));
            let end = task.end_after(&reported);
            let lingers =
                pace == Pace::Soon && self.is_alone() && may_be_answered_first(registry, task, call);
            if lingers && end.is_none() && rows.is_empty() {
                let fact = [TaskEvent::Reported(reported.clone())];
                let append = self.prepared(&caller.task, task, task.version(), &fact, now)?;
                let soon = self.inner.store.append_soon(append).await?;
                if let Some(held) = held.as_mut() {
                    fact.iter().for_each(|e| held.apply(e, now));
                }
                held.owe(reported, soon);
                return Ok(());
            }
            let facts: Vec<TaskEvent> = std::iter::once(TaskEvent::Reported(reported)).chain(end).collect();
            let scene = Scene { registry, task, policy: &*authority.policy, now, fresh: true };
            match self.append_with(&caller.task, task, scene.judged_at(), &facts, now, rows, vec![]).await {
                Ok(()) => {
                    self.remember_written(left, now).await;
                    if let Some(held) = held.as_mut() {
                        facts.iter().for_each(|e| held.apply(e, now));
                    }
                    return Ok(());
                }
                Err(AppendError::Conflict { .. }) => self.moved(&caller.task, &mut held).await?,
                Err(error) => {
                    held.forget();
                    return Err(error.into());
                }
            }
        }
        Err(crate::log::contended())
    }
}

/// Who tells what came of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reporter {
    /// An enforcement point of ours, which made the call.
    Enforcement,
    /// The one who asked, over the API.
    Caller,
}

/// Whether an outcome is durable before it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// Always.
    Durable,
    /// Unless it may be answered first.
    Soon,
}

fn waiting<'t>(task: &'t Task, caller: &Caller, decision: &DecisionId) -> Result<&'t OpenCall, EngineError> {
    let Some(call) = task.open_calls().get(decision) else {
        return Err(EngineError::new(
            crate::Kind::Conflict,
            "report.not_open",
            format!("{decision} is not an allowed call that waits for its outcome"),
        ));
    };
    if call.grant != caller.grant {
        return Err(EngineError::forbidden(
            "report.not_yours",
            "only the agent whose call it was reports its outcome",
        ));
    }
    Ok(call)
}

/// A tool that a server of ours offers is called through the gateway, which tells what came of it; its caller may not
/// get in first.
pub(crate) fn may_be_told_by_caller(
    registry: &Registry,
    tool: &bailiwick_core::ToolId,
) -> Result<(), EngineError> {
    let state = registry.tool(tool);
    let theirs = state.and_then(|t| t.manifest.as_ref()).is_some_and(|m| m.reported_by_caller);
    if theirs || state.is_none_or(|t| t.seen.is_none()) {
        return Ok(());
    }
    Err(EngineError::forbidden(
        "report.by_gateway",
        "this tool is called through the gateway, which reports what came of it",
    ))
}

/// What is recorded of an outcome, and the values that would be explained by it had nobody written them.
fn reported(
    registry: &Registry,
    memory: &Memory,
    decision: &DecisionId,
    tool: &bailiwick_core::ToolId,
    outcome: &Outcome,
    by: Reporter,
) -> (Reported, Vec<(Identifier, String)>) {
    let manifest = registry.tool(tool).and_then(|t| t.manifest.as_ref());
    let claimed = by == Reporter::Caller && !manifest.is_some_and(|m| m.reported_by_caller);
    let done = outcome.status == OutcomeStatus::Done;
    let result = outcome.result.as_ref().filter(|_| done);
    let mut explains = match (manifest, result) {
        (Some(manifest), Some(result)) => explained(manifest, result, registry),
        _ => Vec::new(),
    };
    let words = Value::List(outcome.words.iter().map(|text| Value::from(text.as_str())).collect());
    let known_again = result.map(|result| memory.label(result, &explains)).unwrap_or_default();
    let known_again = known_again.join(&memory.label(&words, &[]));
    let assigned = |field: &str| {
        let rules = manifest.iter().flat_map(|m| &m.result);
        rules.into_iter().any(|rule| rule.assigned && rule.path == field)
    };
    explains.retain(|(id, field)| assigned(field) || !memory.may_be(id));
    let made = explains.clone();
    if claimed {
        explains.clear();
    }
    let shows = unexplained([result, Some(&words)].into_iter().flatten(), &explains);
    let own = label(manifest, tool, claimed);
    let (label, declassified) = match (manifest, result) {
        (Some(manifest), Some(result)) if !claimed => {
            let domains = &registry.directory().own_domains;
            declassify::of_result(manifest, result, &own, &known_again, domains)
        }
        _ => (own.join(&known_again), Vec::new()),
    };
    let reported = Reported {
        decision: decision.clone(),
        went: match outcome.status {
            OutcomeStatus::Done => Went::Done,
            OutcomeStatus::Failed => Went::Failed,
            OutcomeStatus::Unknown => Went::Unknown,
        },
        label,
        declassified,
        claimed,
        undone: outcome.status == OutcomeStatus::Failed && !claimed && manifest.is_some_and(|m| m.atomic),
        result: outcome.result.as_ref().map(Value::digest),
        spent: Spent { bytes: outcome.bytes, rows: rows(outcome.result.as_ref()), ..Spent::default() },
        explains,
        shows,
        note: outcome.note.as_ref().map(|n| n.chars().take(500).collect()),
    };
    (reported, made)
}

/// What is recorded of a reading whose outcome died with the process that saw it: it may have brought anything that the
/// tool can bring, and anything that agents have written.
pub(crate) fn unknown(
    registry: &Registry,
    memory: &Memory,
    decision: &DecisionId,
    tool: &bailiwick_core::ToolId,
) -> Reported {
    let manifest = registry.tool(tool).and_then(|t| t.manifest.as_ref());
    let own = match manifest {
        Some(manifest) => manifest.labels.clone(),
        None => registry
            .tools()
            .filter_map(|(_, t)| t.manifest.as_ref())
            .fold(Label::bottom(), |l, m| l.join(&m.labels)),
    };
    Reported {
        decision: decision.clone(),
        went: Went::Unknown,
        label: own.join(&Label::untrusted(tool.as_str())).join(&memory.worst()),
        declassified: Vec::new(),
        claimed: false,
        undone: false,
        result: None,
        spent: Spent::default(),
        explains: Vec::new(),
        shows: Vec::new(),
        note: Some("the node stopped before the outcome was recorded".to_owned()),
    }
}

/// What a result and the words beside it show and do not explain; the first place of each counts.
fn unexplained<'v>(
    values: impl Iterator<Item = &'v Value>,
    explains: &[(Identifier, String)],
) -> Vec<(Identifier, String)> {
    let mut found: Vec<(Identifier, String)> = Vec::new();
    for (id, field) in values.flat_map(shows) {
        let told = found.iter().chain(explains).any(|(known, _)| *known == id);
        if !told && found.len() < SHOWN_MAX {
            found.push((id, if field.is_empty() { "text".to_owned() } else { field }));
        }
    }
    found
}

/// What reading this result does to the branch: the manifest's label, and untrusted unless it says otherwise.
/// What a caller claims is never trusted.
fn label(manifest: Option<&Manifest>, tool: &bailiwick_core::ToolId, claimed: bool) -> Label {
    match manifest {
        Some(m) if m.trusted_result && !claimed => m.labels.clone(),
        Some(m) => m.labels.join(&Label::untrusted(tool.as_str())),
        None => Label::untrusted(tool.as_str()),
    }
}

fn explained(manifest: &Manifest, result: &Value, registry: &Registry) -> Vec<(Identifier, String)> {
    let rules = if manifest.trusted_result && manifest.result.is_empty() {
        vec![bailiwick_core::tool::ResultRule {
            path: "*".to_owned(),
            trust: Trust::Exact,
            of: None,
            assigned: false,
            when: None,
        }]
    } else {
        manifest.result.clone()
    };
    let mut room = EXPLAINS_BYTES;
    let mut seen = std::collections::BTreeSet::new();
    harvest(result, &rules, &registry.directory().own_domains)
        .into_iter()
        .filter(|(id, _)| seen.insert(id.clone()))
        .take_while(|(id, field)| {
            let size = id.text.len() + field.len() + 48;
            room = room.saturating_sub(size);
            room > 0
        })
        .collect()
}

fn rows(result: Option<&Value>) -> u64 {
    match result {
        Some(Value::List(items)) => items.len() as u64,
        Some(Value::Null) | None => 0,
        Some(_) => 1,
    }
}
