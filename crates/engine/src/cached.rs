//! A task in the cache: its fold, and the outcomes in it whose records are still under way.
//!
//! What a tool that only reads has answered goes to the agent without waiting for the flush of its record; the record
//! goes to the disk with the next decision, or a few milliseconds later. What an agent has read is not forgotten for
//! that:
//!
//! - the fold has the outcome at once, so whatever is decided next in the task counts it, and is appended after it;
//! - if the record could not be written, nothing more is decided in the task before it is;
//! - if the node dies first, the call is found without an outcome when the task is next loaded, and recorded as one
//!   that may have brought the worst (INV7).

use std::ops::{Deref, DerefMut};

use bailiwick_core::event::{Reported, TaskEvent};
use bailiwick_core::registry::Registry;
use bailiwick_core::task::{OpenCall, Task};
use bailiwick_core::tool::Effect;
use bailiwick_core::{DecisionId, TaskId};
use bailiwick_store::{AppendError, Soon};

use crate::error::EngineError;
use crate::log::{Engine, contended};
use crate::report;

/// What the cache holds of a task; no fold until it is loaded.
#[derive(Default)]
pub(crate) struct Cached {
    fold: Option<Task>,
    owed: Vec<Owed>,
}

/// An outcome that was answered and is not known to be durable.
struct Owed {
    reported: Reported,
    /// Absent once it is known not to have been written.
    soon: Option<Soon>,
}

impl Deref for Cached {
    type Target = Option<Task>;
    fn deref(&self) -> &Option<Task> {
        &self.fold
    }
}

impl DerefMut for Cached {
    fn deref_mut(&mut self) -> &mut Option<Task> {
        &mut self.fold
    }
}

impl Cached {
    /// Drops the fold; it is read anew before it is used. What is owed stays owed.
    pub(crate) fn forget(&mut self) {
        self.fold = None;
    }

    /// Whether the cache may let go of it.
    pub(crate) fn is_spare(&self) -> bool {
        self.owed.is_empty() && self.fold.as_ref().is_none_or(Task::has_ended)
    }

    /// Keeps in mind that a record is under way.
    pub(crate) fn owe(&mut self, reported: Reported, soon: Soon) {
        self.owed.push(Owed { reported, soon: Some(soon) });
    }

    pub(crate) fn owes(&self) -> bool {
        !self.owed.is_empty()
    }

    /// Whether the fold cannot be relied on: a record in it was not written, or it was dropped while one was under way.
    fn is_in_doubt(&mut self) -> bool {
        self.owed.retain_mut(|owed| match owed.soon.as_mut().and_then(Soon::known) {
            Some(Ok(_)) => false,
            Some(Err(_)) => {
                owed.soon = None;
                true
            }
            None => true,
        });
        self.owed.iter().any(|owed| owed.soon.is_none()) || (self.fold.is_none() && self.owes())
    }
}

impl Engine {
    /// Reads what the cache has not seen of a task. In one process the cache is always current; another node
    /// may have appended.
    pub(crate) async fn refresh(&self, task: &TaskId, held: &mut Cached) -> Result<(), EngineError> {
        if held.is_in_doubt() {
            self.recover(task, held).await?;
        }
        let from = held.as_ref().map_or(0, Task::version);
        if from > 0 && self.is_alone() {
            return Ok(());
        }
        self.reload(task, held, from).await?;
        match from {
            0 => self.close_readings(task, held).await,
            _ => Ok(()),
        }
    }

    /// Reads a task anew after an append at the version that was held has lost.
    pub(crate) async fn moved(&self, task: &TaskId, held: &mut Cached) -> Result<(), EngineError> {
        self.catch_up().await?;
        if held.owes() {
            return self.recover(task, held).await;
        }
        let from = held.as_ref().map_or(0, Task::version);
        self.reload(task, held, from).await
    }

    /// Reads the task from the log, and appends what it owes and what is not there.
    async fn recover(&self, task: &TaskId, held: &mut Cached) -> Result<(), EngineError> {
        held.forget();
        for owed in &mut held.owed {
            if let Some(soon) = owed.soon.take() {
                // Written or not, the log has the last word below.
                let _known_from_the_log = soon.outcome().await;
            }
        }
        self.reload(task, held, 0).await?;
        while let Some(reported) = held.owed.first().map(|owed| owed.reported.clone()) {
            let missing = held.as_ref().is_some_and(|t| t.open_calls().contains_key(&reported.decision));
            if missing {
                self.append_plainly(task, held, vec![TaskEvent::Reported(reported)]).await?;
            }
            held.owed.remove(0);
        }
        Ok(())
    }

    /// Readings that a dead process had allowed, and perhaps answered, count as having brought the worst.
    async fn close_readings(&self, task: &TaskId, held: &mut Cached) -> Result<(), EngineError> {
        let Some(current) = held.as_ref().filter(|t| self.is_alone() && !t.has_ended()) else {
            return Ok(());
        };
        let authority = self.authority();
        let left = |(_, call): &(&DecisionId, &OpenCall)| {
            call.since <= self.inner.started && may_have_been_answered(&authority.registry, call)
        };
        let left: Vec<_> = current.open_calls().iter().filter(left).collect();
        if left.is_empty() {
            return Ok(());
        }
        let closed = self
            .remembering(|memory| {
                let worst = |(decision, call): (&DecisionId, &OpenCall)| {
                    TaskEvent::Reported(report::unknown(&authority.registry, memory, decision, &call.tool))
                };
                left.into_iter().map(worst).collect::<Vec<_>>()
            })
            .await?;
        self.append_plainly(task, held, closed).await
    }

    /// Appends outcomes that were settled before, whatever has changed since, and folds them. They taint, so that they
    /// may use the space that is kept back.
    async fn append_plainly(
        &self,
        task: &TaskId,
        held: &mut Cached,
        facts: Vec<TaskEvent>,
    ) -> Result<(), EngineError> {
        let Some(current) = held.as_mut() else { return Err(EngineError::missing("task", task)) };
        let now = self.now();
        let append = self.prepared(task, current, current.version(), &facts, now)?;
        match self.inner.store.append_ending(append).await {
            Ok(_) => {
                facts.iter().for_each(|fact| current.apply(fact, now));
                Ok(())
            }
            Err(error) => {
                held.forget();
                Err(match error {
                    AppendError::Conflict { .. } => contended(),
                    error => error.into(),
                })
            }
        }
    }
}

/// Whether the outcome of an allowed call may be answered before its record is durable: a tool behind the gateway that
/// only reads, where nothing but labels and known values hangs on the outcome: no declared step, no bound on results.
pub(crate) fn may_be_answered_first(registry: &Registry, task: &Task, call: &OpenCall) -> bool {
    let reads =
        registry.tool(&call.tool).and_then(|t| t.manifest.as_ref()).is_some_and(|m| m.effect == Effect::Read);
    reads && may_have_been_answered(registry, call) && !is_metered(task, call)
}

/// The same, asked afterwards, when less may be known: what is not known to wait for its record did not wait for it.
fn may_have_been_answered(registry: &Registry, call: &OpenCall) -> bool {
    let Some(tool) = registry.tool(&call.tool) else { return call.step.is_none() };
    let reads = tool.manifest.as_ref().is_none_or(|m| m.effect == Effect::Read);
    call.step.is_none() && reads && report::may_be_told_by_caller(registry, &call.tool).is_err()
}

/// Whether the bytes or rows of its result count against a limit, its own or one above it.
fn is_metered(task: &Task, call: &OpenCall) -> bool {
    let (mut at, mut place) = (task.grant(&call.grant), call.capability);
    while let (Some(grant), Some(capability)) = (at, place) {
        let Some(held) = grant.held.get(usize::from(capability)) else { return true };
        if held.capability.limits.bytes.is_some() || held.capability.limits.rows.is_some() {
            return true;
        }
        (at, place) = (grant.parent.as_ref().and_then(|id| task.grant(id)), held.from);
    }
    false
}
