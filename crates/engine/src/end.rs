//! Ending: completed, failed, expired, frozen, killed. One event at the root ends a subtree.
//!
//! A kill is durable with one event in the registry, and from that moment no decision can be appended that
//! did not see it. What follows (ending each task, revoking each grant) is a saga that is run again at every
//! start and every minute until nothing is left to do.

use bailiwick_core::event::{Cause, TaskEvent};
use bailiwick_core::lease::{Lease, receipt};
use bailiwick_core::registry::{Halt, RegistryEvent, Scope, Suspension};
use bailiwick_core::task::{Task, TaskState};
use bailiwick_core::{PrincipalId, TaskId, Time};
use futures_util::stream::StreamExt as _;

use crate::error::EngineError;
use crate::log::{Authority, Engine};
use crate::target::TargetView;

/// How many tasks are ended at the same time: the store flushes once for all that wait.
const ENDS: usize = 16;

/// What a freeze or a kill did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Halted {
    /// Tasks that ended or froze.
    pub tasks: Vec<TaskId>,
    /// Grants that ended, with their task or in one that goes on.
    pub grants: Vec<String>,
    /// Calls that were in flight: whether they had an effect is unknown.
    pub in_flight: u64,
    /// Credentials that may still stand in a target system.
    pub standing: u64,
}

impl Halted {
    fn add(&mut self, more: Halted) {
        self.tasks.extend(more.tasks);
        self.grants.extend(more.grants);
        self.in_flight += more.in_flight;
        self.standing += more.standing;
    }
}

/// What stands anywhere, right now.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    /// Open tasks.
    pub tasks: u64,
    /// Live grants in them.
    pub grants: u64,
    /// Credentials that may exist in a target system.
    pub leases: u64,
    /// Those of them that should be gone.
    pub debts: u64,
    /// Each of them, with its task.
    pub credentials: Vec<(TaskId, Lease)>,
    /// The targets, as they were last seen.
    pub targets: Vec<TargetView>,
    /// When this was looked at.
    pub at: Time,
}

impl Engine {
    /// Ends a task. Ending one that is over already is no error and changes nothing.
    pub async fn end_task(
        &self,
        by: &str,
        task: &TaskId,
        cause: Cause,
        reason: &str,
    ) -> Result<Halted, EngineError> {
        let halted = self.end(by, task, cause, reason).await?;
        self.keep_ending().await;
        Ok(halted)
    }

    /// The same for what follows from something recorded already, which is done again until it is done.
    async fn end(&self, by: &str, task: &TaskId, cause: Cause, reason: &str) -> Result<Halted, EngineError> {
        let ended = |scene: bailiwick_core::decision::Scene<'_>, event: &TaskEvent| {
            Ok((!scene.task.has_ended()).then(|| (toll(scene.task), early_receipt(scene, event))))
        };
        let event =
            TaskEvent::Ended { cause, by: by.to_owned(), reason: reason.chars().take(1000).collect() };
        let closing = |judged: &Option<(Halted, Option<TaskEvent>)>| match judged {
            Some((_, receipt)) => std::iter::once(event.clone()).chain(receipt.clone()).collect(),
            None => vec![],
        };
        let judged = self.conduct(task, |scene| ended(scene, &event), closing).await?;
        self.hasten(task).await;
        Ok(judged.map(|(toll, _)| toll).unwrap_or_default())
    }

    /// Freezes one task until a person resumes or kills it.
    pub async fn freeze_task(&self, by: &str, task: &TaskId, reason: &str) -> Result<(), EngineError> {
        let event = TaskEvent::Frozen { by: by.to_owned(), reason: reason.chars().take(1000).collect() };
        let open = |scene: bailiwick_core::decision::Scene<'_>| Ok(*scene.task.state() == TaskState::Open);
        self.conduct(task, open, |open| if *open { vec![event.clone()] } else { vec![] }).await?;
        self.hasten(task).await;
        self.keep_ending().await;
        Ok(())
    }

    /// Lets a frozen task go on.
    pub async fn resume_task(
        &self,
        by: &PrincipalId,
        task: &TaskId,
        reason: &str,
    ) -> Result<(), EngineError> {
        let event = TaskEvent::Resumed { by: by.clone(), reason: reason.chars().take(1000).collect() };
        let frozen = |scene: bailiwick_core::decision::Scene<'_>| match scene.task.state() {
            TaskState::Frozen { .. } => Ok(()),
            _ => Err(EngineError::new(
                crate::Kind::Conflict,
                "task.not_frozen",
                format!("{task} is not frozen"),
            )),
        };
        self.conduct(task, frozen, |()| vec![event.clone()]).await
    }

    /// Freezes or kills a scope: an agent, a class, a task, an initiator, tools, or everything.
    pub async fn suspend(
        &self,
        by: &PrincipalId,
        target: Scope,
        halt: Halt,
        reason: &str,
    ) -> Result<Halted, EngineError> {
        if let (Scope::Task(task), Halt::Killed) = (&target, halt) {
            return self.end_task(by.as_str(), task, Cause::Killed, reason).await;
        }
        if let (Scope::Task(task), Halt::Frozen) = (&target, halt) {
            self.freeze_task(by.as_str(), task, reason).await?;
            return Ok(Halted { tasks: vec![task.clone()], ..Halted::default() });
        }
        let at = self.now();
        let suspension = Suspension { halt, by: by.clone(), reason: reason.chars().take(1000).collect(), at };
        self.amend(|_| {
            Ok(vec![RegistryEvent::Suspended { target: target.clone(), suspension: suspension.clone() }])
        })
        .await?;
        match halt {
            Halt::Frozen => {
                let tasks = self.touched(&target).await?;
                self.find_due().await?;
                Ok(Halted { tasks, ..Halted::default() })
            }
            Halt::Killed => self.carry_out(&target, by.as_str(), reason).await,
        }
    }

    /// Lifts a freeze, or reinstates what was killed. Tasks and grants that ended stay ended.
    pub async fn lift(&self, by: &PrincipalId, target: Scope, reason: &str) -> Result<(), EngineError> {
        if let Scope::Task(task) = &target {
            return self.resume_task(by, task, reason).await;
        }
        self.amend(|registry| {
            registry.suspension(&target).ok_or_else(|| {
                EngineError::new(
                    crate::Kind::Conflict,
                    "control.not_suspended",
                    format!("{target} is not suspended"),
                )
            })?;
            Ok(vec![RegistryEvent::Lifted {
                target: target.clone(),
                by: by.clone(),
                reason: reason.to_owned(),
            }])
        })
        .await
        .map(|_| ())
    }

    /// Ends what a killed scope covers. Safe to run again at any time.
    pub(crate) async fn carry_out(
        &self,
        target: &Scope,
        by: &str,
        reason: &str,
    ) -> Result<Halted, EngineError> {
        let carry = |task: TaskId| async move { self.carry_out_in(&task, target, by, reason).await };
        let tasks = self.touched(target).await?;
        let mut carried = futures_util::stream::iter(tasks).map(carry).buffered(ENDS);
        let (mut done, mut trouble) = (Halted::default(), None);
        // Trouble with one task hinders the end of no other.
        while let Some(ended) = carried.next().await {
            match ended {
                Ok(ended) => done.add(ended),
                Err(error) => trouble = trouble.or(Some(error)),
            }
        }
        trouble.map_or(Ok(done), Err)
    }

    async fn carry_out_in(
        &self,
        task: &TaskId,
        target: &Scope,
        by: &str,
        reason: &str,
    ) -> Result<Halted, EngineError> {
        if self.with_task(task, |held, authority| covers_root(target, held, authority)).await? {
            return self.end(by, task, Cause::Killed, reason).await;
        }
        let grants = self.revoke_grants(task, target, by, reason).await?;
        Ok(Halted { grants, ..Halted::default() })
    }

    async fn revoke_grants(
        &self,
        task: &TaskId,
        target: &Scope,
        by: &str,
        reason: &str,
    ) -> Result<Vec<String>, EngineError> {
        let covered = |scene: bailiwick_core::decision::Scene<'_>| {
            Ok(scene
                .task
                .grants()
                .filter(|g| !g.revoked && names_agent(target, &g.agent, scene.registry))
                .map(|g| g.id.clone())
                .collect::<Vec<_>>())
        };
        let revoke = |grants: &Vec<bailiwick_core::GrantId>| {
            grants
                .iter()
                .map(|grant| TaskEvent::GrantRevoked {
                    grant: grant.clone(),
                    by: by.to_owned(),
                    reason: reason.to_owned(),
                })
                .collect()
        };
        let grants = self.conduct(task, covered, revoke).await?;
        self.hasten(task).await;
        Ok(grants.into_iter().map(|g| g.to_string()).collect())
    }

    /// Open tasks that a scope touches.
    async fn touched(&self, target: &Scope) -> Result<Vec<TaskId>, EngineError> {
        let mut out = Vec::new();
        for task in self.open_tasks().await? {
            if self.with_task(&task, |held, authority| covers(target, held, authority)).await? {
                out.push(task);
            }
        }
        Ok(out)
    }

    /// Every task that has not ended.
    pub(crate) async fn open_tasks(&self) -> Result<Vec<TaskId>, EngineError> {
        let view = self.view("open");
        let mut after: Option<String> = None;
        let mut out = Vec::new();
        loop {
            let page = self.store().view_scan(&view, "", after.as_deref(), 1000).await?;
            after = page.last().map(|(key, _)| key.clone());
            let full = page.len() == 1000;
            out.extend(page.iter().filter_map(|(key, _)| TaskId::parse(key).ok()));
            if !full {
                return Ok(out);
            }
        }
    }

    /// What stands anywhere at this moment.
    pub async fn standing(&self) -> Result<Standing, EngineError> {
        let at = self.now();
        let mut standing = Standing { at, ..Standing::default() };
        for task in self.open_tasks().await? {
            let grants = self
                .with_task(&task, |held, _| held.grants().filter(|g| held.is_live(&g.id, at)).count() as u64)
                .await?;
            standing.tasks += 1;
            standing.grants += grants;
        }
        for (task, lease) in self.credentials().await? {
            standing.leases += 1;
            standing.debts += u64::from(lease.is_debt(at));
            standing.credentials.push((task, lease));
        }
        standing.targets = self.targets();
        Ok(standing)
    }

    /// Ends what is due: tasks whose window has closed, and what killed scopes cover. Run at start and by the
    /// worker; running it twice changes nothing.
    pub async fn reconcile(&self) -> Result<(), EngineError> {
        self.catch_up().await?;
        let now = self.now();
        for task in self.open_tasks().await? {
            let over = self.with_task(&task, |held, _| now >= held.opening().limits.until).await?;
            if over {
                self.end("bailiwick", &task, Cause::Expired, "its window has closed").await?;
            }
        }
        let killed: Vec<(Scope, Suspension)> = {
            let authority = self.authority();
            authority
                .registry
                .suspensions()
                .filter(|(_, s)| s.halt == Halt::Killed)
                .map(|(t, s)| (t.clone(), s.clone()))
                .collect()
        };
        for (target, suspension) in killed {
            self.carry_out(&target, suspension.by.as_str(), &suspension.reason).await?;
        }
        self.find_due().await
    }
}

/// What an end takes down: every grant that was not revoked before, and what it leaves to be looked after.
fn toll(task: &Task) -> Halted {
    Halted {
        tasks: vec![task.opening().task.clone()],
        grants: task.grants().filter(|g| !g.revoked).map(|g| g.id.to_string()).collect(),
        in_flight: task.open_calls().len() as u64,
        standing: task.leases().filter(|l| l.is_standing()).count() as u64,
    }
}

/// The receipt of a task whose credentials were all seen gone before it ended.
fn early_receipt(scene: bailiwick_core::decision::Scene<'_>, end: &TaskEvent) -> Option<TaskEvent> {
    scene.task.leases().next()?;
    let mut after = scene.task.clone();
    after.apply(end, scene.now);
    receipt(&after).map(TaskEvent::Receipted)
}

fn covers(target: &Scope, task: &Task, authority: &Authority) -> bool {
    covers_root(target, task, authority)
        || task.grants().any(|g| !g.revoked && names_agent(target, &g.agent, &authority.registry))
}

/// Whether the scope ends the task as a whole.
fn covers_root(target: &Scope, task: &Task, authority: &Authority) -> bool {
    let opening = task.opening();
    match target {
        Scope::All => true,
        Scope::Task(id) => *id == opening.task,
        Scope::Initiator(who) => *who == opening.initiator,
        Scope::Tool(_) => false,
        agent_or_class => names_agent(agent_or_class, &opening.agent, &authority.registry),
    }
}

fn names_agent(
    target: &Scope,
    agent: &bailiwick_core::AgentId,
    registry: &bailiwick_core::registry::Registry,
) -> bool {
    match target {
        Scope::Agent(id) => id == agent,
        Scope::Class(class) => registry.agent(agent).is_some_and(|a| a.class == *class),
        _ => false,
    }
}
