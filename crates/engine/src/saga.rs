//! The saga that ends leases: what must go is marked in the log, then revoked step by step, looked for twice, and
//! only then called gone.
//!
//! Everything here may be run again at any time and from any state. It runs at start, every two seconds, and at once
//! when something has ended. A failure is recorded, alarms, and is tried again for ever.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bailiwick_broker::{BrokerError, Did, FoundKind, Handle, Sight};
use bailiwick_core::decision::Scene;
use bailiwick_core::event::{Cause, TaskEvent};
use bailiwick_core::lease::{Evidence, Lease, LeaseFact, LeaseState, Look, Step, must_end, receipt};
use bailiwick_core::task::TaskState;
use bailiwick_core::{LeaseId, TaskId};
use futures_util::stream::{FuturesUnordered, StreamExt};

use crate::census::Census;
use crate::error::EngineError;
use crate::lease::asked;
use crate::log::Engine;
use crate::names;
use crate::target::{Connectors, Due, Target, TargetView, Targets, read_row};

/// How many leases of one task are marked with one append.
const MARKS: usize = 200;
/// How many are called gone with one append: each brings its evidence, and perhaps that it was used.
const GONE: usize = 120;
/// How many leases of one target are ended at the same time, where they go one by one.
const ABREAST: usize = 4;
/// From so many on, the target's way of ending many is tried first.
const MANY: usize = 4;

/// A lease whose steps are done, and what the first look saw.
struct Ended {
    due: Due,
    did: Did,
    first: Look,
}

impl Engine {
    /// Connects targets. Once, before work begins.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub async fn connect(&self, connectors: Connectors) -> Result<(), EngineError> {
        if self.inner.targets.set(Targets::new(connectors)).is_err() {
            return Err(EngineError::invalid("lease.connected", "targets are connected already"));
        }
        self.find_due().await
    }

    /// The targets, as they were last seen.
    pub fn targets(&self) -> Vec<TargetView> {
        let view = |target: &Arc<Target>| TargetView {
            system: target.broker.system().clone(),
            capabilities: target.broker.capabilities(),
            seen: target.seen().clone(),
        };
        self.inner.targets.get().map(|t| t.by_name.values().map(view).collect()).unwrap_or_default()
    }

    /// Every credential that may exist in a target, with the task it belongs to.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub async fn credentials(&self) -> Result<Vec<(TaskId, Lease)>, EngineError> {
        let mut out = Vec::new();
        for task in self.tasks_with_leases().await? {
            let leases = self
                .with_task(&task, |held, _| {
                    held.leases().filter(|l| l.is_standing()).cloned().collect::<Vec<_>>()
                })
                .await?;
            out.extend(leases.into_iter().map(|lease| (task.clone(), lease)));
        }
        Ok(out)
    }

    /// Reads the list of what stands, counts it, and gives the tasks.
    async fn tasks_with_leases(&self) -> Result<BTreeSet<TaskId>, EngineError> {
        let view = self.view("leases");
        let (mut tasks, mut census) = (BTreeSet::new(), Census::default());
        let mut after: Option<String> = None;
        loop {
            let page = self.store().view_scan(&view, "", after.as_deref(), 1000).await?;
            after = page.last().map(|(key, _)| key.clone());
            let full = page.len() == 1000;
            for (key, row) in page {
                if let (Ok(lease), Some((task, agent, system))) = (LeaseId::parse(&key), read_row(&row)) {
                    census.insert(lease, agent, system);
                    tasks.insert(task);
                }
            }
            if !full {
                break;
            }
        }
        if let Some(targets) = self.inner.targets.get() {
            targets.count(census, self.now());
        }
        Ok(tasks)
    }

    /// Marks everything that must go and puts it to work.
    pub(crate) async fn find_due(&self) -> Result<(), EngineError> {
        if self.inner.targets.get().is_none() {
            return Ok(());
        }
        for task in self.tasks_with_leases().await? {
            self.find_due_in(&task).await?;
        }
        Ok(())
    }

    /// The same for a task that has just lost something. What has ended has ended: trouble here only means that the
    /// next scan does it.
    pub(crate) async fn hasten(&self, task: &TaskId) {
        if let Err(error) = self.find_due_in(task).await {
            tracing::error!(%task, code = %error.code, %error, "cannot mark credentials that must go; trying again");
        }
    }

    /// The same for one task.
    pub(crate) async fn find_due_in(&self, task: &TaskId) -> Result<(), EngineError> {
        let Some(targets) = self.inner.targets.get() else { return Ok(()) };
        loop {
            let due = self.conduct(task, |scene| Ok(self.due(targets, scene)), |due| marks(due)).await?;
            let marked = due.iter().filter(|(_, why, _)| why.is_some()).count();
            for (lease, _, urgent) in &due {
                self.put_to_work(task, lease, *urgent);
            }
            if marked < MARKS {
                return Ok(());
            }
        }
    }

    /// What of a task must go: under way already, or (with the reason) from now on.
    fn due(&self, targets: &Targets, scene: Scene<'_>) -> Vec<(Lease, Option<String>, bool)> {
        let mut new = 0;
        let urgent = matches!(scene.task.state(), TaskState::Ended { cause: Cause::Killed, .. });
        let judge = |lease: &Lease| {
            if matches!(lease.state, LeaseState::Revoking { .. }) {
                return Some((lease.clone(), None, urgent));
            }
            let why = must_end(scene.registry, scene.task, lease, scene.now)
                .or_else(|| self.abandoned(targets, scene, lease))?;
            new += 1;
            (new <= MARKS).then(|| (lease.clone(), Some(why), urgent))
        };
        scene.task.leases().filter(|l| l.is_standing()).filter_map(judge).collect()
    }

    /// A request whose maker is dead: nobody has the secret. With a store that only one process can have open, it is
    /// dead if it is not us; otherwise, if it is old.
    fn abandoned(&self, targets: &Targets, scene: Scene<'_>, lease: &Lease) -> Option<String> {
        if !matches!(lease.state, LeaseState::Requested | LeaseState::Created)
            || targets.is_creating(lease.id())
        {
            return None;
        }
        let old = scene.now.since(lease.requested) > targets.patience.abandoned_ms;
        (self.is_alone() || old).then(|| "whoever asked for it never got it".to_owned())
    }

    /// Works on every target until nothing is due that can be tried now. For start-up and tests; a node that runs
    /// has a worker for each target.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub async fn settle(&self) -> Result<(), EngineError> {
        self.find_due().await?;
        if let Some(targets) = self.inner.targets.get() {
            let all = targets.by_name.values().map(|target| self.drain(targets, target));
            futures_util::future::join_all(all).await;
        }
        Ok(())
    }

    /// The workers of all targets; ends only when it is dropped.
    pub(crate) async fn work_on_targets(&self) {
        let Some(targets) = self.inner.targets.get() else { return std::future::pending().await };
        let all = targets.by_name.values().map(|target| async move {
            let mut swept: Option<Instant> = None;
            loop {
                let stale = swept.is_none_or(|at| at.elapsed() >= targets.patience.sweep);
                if stale && self.may_work(targets, target).await {
                    swept = Some(Instant::now());
                    self.sweep(targets, target).await;
                }
                self.drain(targets, target).await;
                let nap = target.wait(Instant::now()).unwrap_or(Duration::from_secs(2));
                let nap = nap.clamp(Duration::from_millis(20), Duration::from_secs(2));
                tokio::select! {
                    () = target.wake.notified() => {}
                    () = tokio::time::sleep(nap) => {}
                }
            }
        });
        futures_util::future::join_all(all).await;
    }

    /// Ends what is due in one target. While rounds wait for their second look and are recorded, the next ones begin,
    /// and what becomes due meanwhile waits for none of them.
    async fn drain(&self, targets: &Targets, target: &Target) {
        let mut looking = FuturesUnordered::new();
        loop {
            let round = self.next_round(targets, target).await;
            if round.is_empty() {
                tokio::select! {
                    seen = looking.next() => match seen {
                        Some(()) => continue,
                        None => return self.release_claim(target).await,
                    },
                    () = target.wake.notified() => continue,
                }
            }
            let mut ending = std::pin::pin!(self.end_round(targets, target, round));
            let ended = loop {
                tokio::select! {
                    ended = &mut ending => break ended,
                    Some(()) = looking.next() => {}
                }
            };
            if !ended.is_empty() {
                looking.push(self.see_gone(targets, target, ended));
            }
        }
    }

    /// What is due now and still stands; nothing while another node works on the target.
    async fn next_round(&self, targets: &Targets, target: &Target) -> Vec<Due> {
        loop {
            if !target.is_due(Instant::now()) || !self.may_work(targets, target).await {
                return Vec::new();
            }
            let round = target.next(Instant::now());
            if round.is_empty() {
                return round;
            }
            let round = self.still_due(targets, target, round).await;
            if !round.is_empty() {
                return round;
            }
        }
    }

    /// The steps, and the first look.
    async fn end_round(&self, targets: &Targets, target: &Target, round: Vec<Due>) -> Vec<Ended> {
        let mut one_by_one = Vec::new();
        let mut done = Vec::new();
        if round.len() >= MANY {
            let handles: Vec<Handle> = round.iter().map(|d| d.handle.clone()).collect();
            match asked(&targets.patience, target.broker.revoke_many(&handles)).await {
                Ok(answers) if answers.len() == round.len() => {
                    for (due, answer) in round.into_iter().zip(answers) {
                        match answer {
                            Ok(did) => done.push((due, did)),
                            Err(_) => one_by_one.push(due),
                        }
                    }
                }
                Ok(_) => one_by_one = round,
                Err(error) => {
                    tracing::warn!(system = %target.broker.system(), code = error.code(), %error, "cannot end many at once");
                    one_by_one = round;
                }
            }
        } else {
            one_by_one = round;
        }
        let steps = futures_util::stream::iter(one_by_one)
            .map(|due| self.steps(targets, target, due))
            .buffer_unordered(ABREAST);
        done.extend(steps.filter_map(std::future::ready).collect::<Vec<_>>().await);
        let looked = self.look_at_all(targets, target, done).await;
        looked.into_iter().map(|(due, did, first)| Ended { due, did, first }).collect()
    }

    async fn steps(&self, targets: &Targets, target: &Target, due: Due) -> Option<(Due, Did)> {
        let mut did = Did::default();
        for step in &Step::ALL[..Step::ALL.len() - 1] {
            if target.is_paused(Instant::now()) || !self.may_work(targets, target).await {
                target.later(due);
                return None;
            }
            match asked(&targets.patience, target.broker.revoke(&due.handle, *step)).await {
                Ok(more) => {
                    did.sessions_ended += more.sessions_ended;
                    did.notes.extend(more.notes);
                }
                Err(error) => {
                    self.failed(targets, target, due, *step, &error).await;
                    return None;
                }
            }
        }
        Some((due, did))
    }

    /// One look at each, at all of them at once where the target has a way; what is still there, or cannot be looked
    /// at, is tried again from the beginning.
    async fn look_at_all<T>(
        &self,
        targets: &Targets,
        target: &Target,
        all: Vec<(Due, T)>,
    ) -> Vec<(Due, T, Look)> {
        if all.is_empty() || !self.may_work(targets, target).await {
            all.into_iter().for_each(|(due, _)| target.later(due));
            return Vec::new();
        }
        let saw = self.ask_for_looks(targets, target, &all).await;
        let mut looked = Vec::with_capacity(all.len());
        for ((due, with), saw) in all.into_iter().zip(saw) {
            match saw.and_then(|sight| if sight.gone { Ok(sight) } else { Err(still_there(&sight)) }) {
                Ok(sight) => {
                    let at = self.now();
                    target.answered(at);
                    looked.push((due, with, Look { at, query: sight.query, answer: sight.answer }));
                }
                Err(error) => self.failed(targets, target, due, Step::Look, &error).await,
            }
        }
        looked
    }

    /// An answer for each, in order.
    async fn ask_for_looks<T>(
        &self,
        targets: &Targets,
        target: &Target,
        all: &[(Due, T)],
    ) -> Vec<Result<Sight, BrokerError>> {
        if all.len() >= MANY {
            let handles: Vec<Handle> = all.iter().map(|(due, _)| due.handle.clone()).collect();
            match asked(&targets.patience, target.broker.look_many(&handles)).await {
                Ok(answers) if answers.len() == all.len() && !answers.iter().any(is_one_by_one) => {
                    return answers;
                }
                // One that does not answer is not asked so many times again.
                Err(error) if error.code() == "target.unreachable" => {
                    return all.iter().map(|_| Err(error.clone())).collect();
                }
                Ok(_) | Err(_) => {}
            }
        }
        let alone =
            |handle: Handle| async move { asked(&targets.patience, target.broker.look(&handle)).await };
        let handles: Vec<Handle> = all.iter().map(|(due, _)| due.handle.clone()).collect();
        futures_util::stream::iter(handles).map(alone).buffered(ABREAST).collect().await
    }

    /// The second look, a while later, and the record.
    async fn see_gone(&self, targets: &Targets, target: &Target, ended: Vec<Ended>) {
        tokio::time::sleep(targets.patience.look_gap).await;
        let again = ended.into_iter().map(|Ended { due, did, first }| (due, (did, first))).collect();
        let mut by_task: BTreeMap<TaskId, Vec<(Due, Evidence)>> = BTreeMap::new();
        for (due, (did, first), second) in self.look_at_all(targets, target, again).await {
            let evidence =
                Evidence { looks: vec![first, second], sessions_ended: did.sessions_ended, notes: did.notes };
            by_task.entry(due.task.clone()).or_default().push((due, evidence));
        }
        let mut parts = Vec::new();
        for (task, mut all) in by_task {
            while !all.is_empty() {
                let part: Vec<_> = all.drain(..all.len().min(GONE)).collect();
                parts.push((task.clone(), part));
            }
        }
        let record = |(task, part): (TaskId, Vec<(Due, Evidence)>)| async move {
            let _turn = targets.records.acquire().await;
            self.record_gone(targets, target, &task, part).await;
        };
        futures_util::future::join_all(parts.into_iter().map(record)).await;
    }

    async fn record_gone(
        &self,
        targets: &Targets,
        target: &Target,
        task: &TaskId,
        part: Vec<(Due, Evidence)>,
    ) {
        let recorded =
            self.conduct_at(Some(target), task, |scene| Ok(gone(scene, &part)), Clone::clone).await;
        match recorded {
            Ok(_) => {
                for (due, _) in &part {
                    target.finished(&due.handle.lease);
                    targets.give_place_back(&due.handle.lease);
                }
            }
            Err(error) if error.code == "lease.claim_lost" => {
                tracing::warn!(%task, code = %error.code, %error, "what was seen here is not recorded");
                part.into_iter().for_each(|(due, _)| target.later_after(due, &targets.patience));
            }
            Err(error) => {
                tracing::error!(%task, code = %error.code, %error, "credentials are gone, and it cannot be recorded; trying again");
                part.into_iter().for_each(|(due, _)| target.later_after(due, &targets.patience));
            }
        }
    }

    /// Records a failure when it says something new, alarms, and sees to the retry.
    async fn failed(&self, targets: &Targets, target: &Target, due: Due, step: Step, error: &BrokerError) {
        let system = target.broker.system().clone();
        if error.code() == "target.unreachable" {
            target.unreachable(error, &targets.patience);
        }
        let (task, lease, recorded) = (due.task.clone(), due.handle.lease.clone(), due.recorded.clone());
        let mut due = due;
        due.recorded.1 = Some(error.code().to_owned());
        let attempts = target.failed(due, &targets.patience);
        tracing::error!(%lease, %task, %system, step = step.as_str(), attempts, code = error.code(), %error,
            "a credential should be gone and is not");
        if recorded.1.as_deref() == Some(error.code()) && !attempts.is_power_of_two() {
            return;
        }
        let fact =
            LeaseFact::Failed { step, code: error.code().to_owned(), reason: error.to_string(), attempts };
        let event = TaskEvent::Lease { lease: lease.clone(), fact };
        let standing = |scene: Scene<'_>| Ok(scene.task.lease(&lease).is_some_and(Lease::is_standing));
        let noted =
            self.conduct_at(Some(target), &task, standing, |stands| {
                if *stands { vec![event.clone()] } else { vec![] }
            })
            .await;
        if let Err(error) = noted {
            tracing::error!(%lease, code = %error.code, %error, "a debt cannot be recorded");
        }
    }

    /// Looks from the target's side: what carries our mark and no lease that stands is ended; what only looks like it
    /// is shown.
    pub(crate) async fn sweep(&self, targets: &Targets, target: &Target) {
        let found = match asked(&targets.patience, target.broker.sweep()).await {
            Ok(found) => found,
            Err(error) => {
                let system = target.broker.system();
                tracing::error!(%system, code = error.code(), %error, "a target cannot be swept");
                target.seen().trouble = Some(format!("{} ({})", error, error.code()));
                return;
            }
        };
        let at = self.now();
        target.answered(at);
        let (mut strays, mut lookalikes) = (Vec::new(), Vec::new());
        for thing in found {
            match &thing.kind {
                FoundKind::Lookalike => lookalikes.push(thing.name.clone()),
                FoundKind::Ours { lease } => match self.look_up(lease).await {
                    Ok((_, known)) if known.is_standing() => {}
                    Ok((task, known)) => {
                        strays.push(thing.name.clone());
                        self.found_again(&task, &known).await;
                    }
                    Err(_) => {
                        strays.push(thing.name.clone());
                        self.end_unknown(targets, target, lease, &thing).await;
                    }
                },
            }
        }
        let mut seen = target.seen();
        (seen.swept, seen.strays, seen.lookalikes) = (Some(at), strays, lookalikes);
    }

    /// Seen gone, and there again: a statement that was under way, or a target restored from an old copy.
    async fn found_again(&self, task: &TaskId, lease: &Lease) {
        let id = lease.id().clone();
        tracing::error!(lease = %id, %task, "a credential that was seen gone is there again; it is revoked again");
        let fact = LeaseFact::Found { what: "the sweep found it in the target again".to_owned() };
        let event = TaskEvent::Lease { lease: id.clone(), fact };
        let gone = |scene: Scene<'_>| Ok(scene.task.lease(&id).is_some_and(|l| !l.is_standing()));
        match self.conduct(task, gone, |gone| if *gone { vec![event.clone()] } else { vec![] }).await {
            Ok(_) => self.put_to_work(task, lease, true),
            Err(error) => {
                tracing::error!(lease = %id, code = %error.code, %error, "a stray cannot be recorded")
            }
        }
    }

    /// Ours by its mark, and the log knows nothing of it: the log was restored from an older copy. It is ended, and
    /// stays on the list of strays until the next sweep.
    async fn end_unknown(
        &self,
        targets: &Targets,
        target: &Target,
        lease: &LeaseId,
        thing: &bailiwick_broker::Found,
    ) {
        let system = target.broker.system();
        if names::home(lease.as_str()).is_none() || targets.is_creating(lease) {
            return;
        }
        tracing::error!(%lease, %system, name = %thing.name, "a credential of ours is in no log; it is revoked");
        let Ok(tool) = bailiwick_core::ToolId::of(system, "unknown") else { return };
        let until = self.now();
        let handle = Handle {
            lease: lease.clone(),
            name: thing.name.clone(),
            external: thing.external.clone(),
            tool,
            until,
        };
        for step in Step::ALL {
            if let Err(error) = asked(&targets.patience, target.broker.revoke(&handle, step)).await {
                tracing::error!(%lease, %system, step = step.as_str(), code = error.code(), %error, "a stray cannot be revoked");
                return;
            }
        }
    }

    /// Sweeps every target now.
    pub async fn sweep_all(&self) {
        if let Some(targets) = self.inner.targets.get() {
            let all = targets.by_name.values().map(|target| async move {
                if self.may_work(targets, target).await {
                    self.sweep(targets, target).await;
                    self.release_claim(target).await;
                }
            });
            futures_util::future::join_all(all).await;
        }
    }
}

fn marks(due: &[(Lease, Option<String>, bool)]) -> Vec<TaskEvent> {
    let mark = |(lease, why, _): &(Lease, Option<String>, bool)| {
        let fact = LeaseFact::Revoking { why: why.clone()? };
        Some(TaskEvent::Lease { lease: lease.id().clone(), fact })
    };
    due.iter().filter_map(mark).collect()
}

/// The facts that close leases, and the task's receipt if they were the last.
fn gone(scene: Scene<'_>, part: &[(Due, Evidence)]) -> Vec<TaskEvent> {
    let (mut facts, mut closed) = (Vec::new(), 0);
    for (due, evidence) in part {
        let lease = &due.handle.lease;
        // What was created after it had been looked for is not what was seen gone: it is due anew.
        let seen = |l: &Lease| l.is_standing() && l.external == due.handle.external;
        if !scene.task.lease(lease).is_some_and(seen) {
            continue;
        }
        if evidence.sessions_ended > 0 {
            let fact = LeaseFact::Used { sessions: evidence.sessions_ended };
            facts.push(TaskEvent::Lease { lease: lease.clone(), fact });
        }
        closed += 1;
        let fact = LeaseFact::Gone { evidence: evidence.clone() };
        facts.push(TaskEvent::Lease { lease: lease.clone(), fact });
    }
    let left = scene.task.leases().filter(|l| l.is_standing()).count();
    if closed > 0 && closed == left && scene.task.has_ended() {
        let mut after = scene.task.clone();
        facts.iter().for_each(|fact| after.apply(fact, scene.now));
        facts.extend(receipt(&after).map(TaskEvent::Receipted));
    }
    facts
}

fn is_one_by_one(answer: &Result<Sight, BrokerError>) -> bool {
    answer.as_ref().is_err_and(|error| error.code() == "target.one_by_one")
}

fn still_there(sight: &Sight) -> BrokerError {
    BrokerError::new("target.still_there", &sight.answer)
}
