//! Tasks: opened by people and workflows, seen and ended by who answers for them.

use bailiwick_api::wire::{EndCause, Reason, TaskEnd, TaskOpen, TaskOpened};
use bailiwick_core::agent::{OPERATORS, Person};
use bailiwick_core::event::Cause;
use bailiwick_core::task::Task;
use bailiwick_core::{TaskId, Value};
use bailiwick_engine::{Engine, Kind, NewTask, TaskSummary};

use crate::body::{self, Reply};
use crate::guard::Ask;
use crate::refusal::Refusal;
use crate::sign_in::answers_for;
use crate::state::ServerState;
use crate::wire;

/// How long a task's window stays open, when nothing is said: an hour.
const TTL_S: u64 = 3600;
/// Questions to humans.
const ASKS: u32 = 10;
/// Handoffs in all.
const HANDOFFS: u32 = 64;
/// Handoffs in a row, for a chain that has handoffs.
const DEPTH: u8 = 4;
/// Tasks in one list.
const LIST_MAX: usize = 1000;

pub(crate) async fn open(state: ServerState, by: Person, ask: Ask) -> Result<Reply, Refusal> {
    opened(&state, by, body::json(&ask.body)?).await
}

/// Opens a task; what it leaves out is filled in.
pub(super) async fn opened(state: &ServerState, by: Person, new: TaskOpen) -> Result<Reply, Refusal> {
    let hands_off = new.chain.as_ref().is_some_and(has_handoffs);
    let opened = state
        .engine
        .open_task(NewTask {
            initiator: by.id,
            intent: new.intent,
            inputs: new.inputs,
            types: new.types,
            agent: new.agent,
            chain: new.chain,
            capabilities: new.capabilities,
            ttl_ms: new.ttl_s.unwrap_or(TTL_S).saturating_mul(1000),
            asks: new.asks.unwrap_or(ASKS),
            handoffs: new.handoffs.unwrap_or(HANDOFFS),
            depth: new.depth.unwrap_or(if hands_off { DEPTH } else { 0 }),
            refusals: new.refusals,
            seeking: new.seeking.or(Some(bailiwick_core::seeking::SCORE_MAX)),
            template: new.template,
        })
        .await?;
    Reply::json(&TaskOpened {
        task: opened.task,
        grant: opened.grant,
        capabilities: opened.capabilities,
        until: opened.until,
        guarantees: opened.guarantees.as_str().to_owned(),
        weaker: opened.guarantees.warning().map(str::to_owned),
    })
}

fn has_handoffs(chain: &Value) -> bool {
    let steps = chain.get("steps").and_then(Value::as_list).unwrap_or_default();
    steps.iter().any(|step| step.get("act").and_then(Value::as_text) == Some("hand_off"))
}

pub(crate) async fn list(state: ServerState, person: Person, ask: Ask) -> Result<Reply, Refusal> {
    let limit = ask.number("limit")?.map_or(50, |n| usize::try_from(n).unwrap_or(LIST_MAX)).min(LIST_MAX);
    let scanned = if person.is_in(OPERATORS) { limit } else { LIST_MAX };
    let mut out = Vec::new();
    for task in state.engine.tasks(scanned).await? {
        if out.len() < limit && may_see_summary(&state.engine, &person, &task).await? {
            out.push(wire::summary(&task));
        }
    }
    Reply::json(&out)
}

pub(crate) async fn one(state: ServerState, person: Person, ask: Ask) -> Result<Reply, Refusal> {
    let id: TaskId = ask.id()?;
    let task = seen(&state.engine, &person, &id).await?;
    let summary = state.engine.summary(&id).await?;
    Reply::json(&wire::detail(&task, &summary, state.engine.now())?)
}

pub(crate) async fn events(state: ServerState, person: Person, ask: Ask) -> Result<Reply, Refusal> {
    let id: TaskId = ask.id()?;
    seen(&state.engine, &person, &id).await?;
    let steps = state.engine.events(&id, ask.number("from")?.unwrap_or(0)).await?;
    let views: Result<Vec<_>, Refusal> = steps.iter().map(wire::event).collect();
    Reply::json(&views?)
}

pub(crate) async fn end(state: ServerState, by: Person, ask: Ask) -> Result<Reply, Refusal> {
    let id: TaskId = ask.id()?;
    let end: TaskEnd = body::json(&ask.body)?;
    answering(&state.engine, &by, &id).await?;
    let cause = match end.cause {
        EndCause::Completed => Cause::Completed,
        EndCause::Failed => Cause::Failed,
    };
    let halted = state.engine.end_task(by.id.as_str(), &id, cause, &end.reason).await?;
    Reply::json(&wire::halted(halted))
}

pub(crate) async fn freeze(state: ServerState, by: Person, ask: Ask) -> Result<Reply, Refusal> {
    let id: TaskId = ask.id()?;
    let Reason { reason } = body::json(&ask.body)?;
    answering(&state.engine, &by, &id).await?;
    state.engine.freeze_task(by.id.as_str(), &id, &reason).await?;
    Reply::json(&wire::summary(&state.engine.summary(&id).await?))
}

pub(crate) async fn resume(state: ServerState, by: Person, ask: Ask) -> Result<Reply, Refusal> {
    let id: TaskId = ask.id()?;
    let Reason { reason } = body::json(&ask.body)?;
    state.engine.resume_task(&by.id, &id, &reason).await?;
    Reply::json(&wire::summary(&state.engine.summary(&id).await?))
}

/// The task, if the person may see it; what they may not see looks absent.
pub(crate) async fn seen(engine: &Engine, person: &Person, id: &TaskId) -> Result<Task, Refusal> {
    match engine.task(id).await {
        Ok(task) if may_see(person, &task) => Ok(task),
        Err(error) if error.kind != Kind::NotFound => Err(error.into()),
        _ => Err(Refusal::missing("task", id.as_str())),
    }
}

/// Whether a person may see a task: its initiator, operators, and who is asked about one of its acts.
pub(crate) fn may_see(person: &Person, task: &Task) -> bool {
    answers_for(person, &task.opening().initiator)
        || task.approvals().any(|a| person.groups.contains(&a.terms.group))
}

pub(crate) async fn may_see_summary(
    engine: &Engine,
    person: &Person,
    task: &TaskSummary,
) -> Result<bool, Refusal> {
    Ok(answers_for(person, &task.initiator) || may_see(person, &engine.task(&task.task).await?))
}

/// Refuses who does not answer for a task.
async fn answering(engine: &Engine, person: &Person, id: &TaskId) -> Result<(), Refusal> {
    let task = seen(engine, person, id).await?;
    if answers_for(person, &task.opening().initiator) {
        return Ok(());
    }
    let detail = "only who opened the task, or an operator, may do this";
    Err(Refusal::new(403, "task.not_yours", detail, "ask one of them"))
}
