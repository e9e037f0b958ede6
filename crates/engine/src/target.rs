//! Targets: the connectors that the engine conducts, and what is due in each.
//!
//! The log says what must go; the lists here only order the work and can be thrown away at any time. Each target has
//! its own list and its own worker, so that one that hangs slows nobody else. Kills come first, and among equals
//! every task gets its turn.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bailiwick_broker::{Broker, BrokerError, Capabilities, Handle};
use bailiwick_core::lease::{Intent, Lease, Quota};
use bailiwick_core::{AgentId, LeaseId, SystemId, TaskId, Time};

use crate::census::Census;
use crate::claim::Claim;
use crate::error::{EngineError, Kind};

/// How patient the engine is with targets.
#[derive(Debug, Clone)]
pub struct Patience {
    /// Between the two looks that must find nothing.
    pub look_gap: Duration,
    /// For one thing asked of a target.
    pub answer: Duration,
    /// Before the first retry; doubled each time.
    pub retry_first: Duration,
    /// At most, between retries.
    pub retry_most: Duration,
    /// How old a request without a credential must be before another node takes it for abandoned, in milliseconds.
    pub abandoned_ms: u64,
    /// Between two sweeps of a target.
    pub sweep: Duration,
    /// How long a node may work on a target that it has claimed, where several share a store; then another may take
    /// over. Longer than `answer`.
    pub claim: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Patience {
            look_gap: Duration::from_secs(1),
            answer: Duration::from_secs(15),
            retry_first: Duration::from_millis(250),
            retry_most: Duration::from_secs(30),
            abandoned_ms: 60_000,
            sweep: Duration::from_secs(15 * 60),
            claim: Duration::from_secs(30),
        }
    }
}

/// The connectors, and how many credentials may stand.
pub struct Connectors {
    /// One for each target.
    pub brokers: Vec<Arc<dyn Broker>>,
    /// The most that may stand.
    pub quota: Quota,
    /// How patient to be.
    pub patience: Patience,
}

/// As many debts in one target, and it gives out nothing new.
pub(crate) const DEBTS_MAX: usize = 16;
/// How long their number is believed.
const DEBTS_BELIEVED: Duration = Duration::from_secs(1);
/// How many leases are ended in one go.
const ROUND: usize = 500;
/// How many records of what is gone are appended at the same time: the store flushes once for all that wait, and they
/// hold up everybody else's.
const RECORDS: usize = 8;
/// How many of one task before the next task has its turn: what is seen gone is recorded task by task.
const TURN: usize = 16;

pub(crate) struct Targets {
    pub(crate) by_name: BTreeMap<SystemId, Arc<Target>>,
    pub(crate) quota: Quota,
    pub(crate) patience: Patience,
    /// What stands, for quotas. Refreshed from the log with every scan.
    census: Mutex<Census>,
    /// Whoever records what is gone waits for a turn.
    pub(crate) records: tokio::sync::Semaphore,
    /// Leases that this process is creating at this moment.
    creating: Mutex<HashSet<LeaseId>>,
    /// Leases that this process has created and that stand, as far as it knows.
    made_here: Mutex<HashSet<LeaseId>>,
}

pub(crate) struct Target {
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) wake: tokio::sync::Notify,
    pub(crate) claim: tokio::sync::Mutex<Claim>,
    work: Mutex<Work>,
    seen: Mutex<Seen>,
}

/// What a target looked like when it was last looked at.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// When it last answered a look or a sweep.
    pub at: Option<Time>,
    /// When it was last swept.
    pub swept: Option<Time>,
    /// What carries our mark and has no lease that stands.
    pub strays: Vec<String>,
    /// What has our kind of name and not our mark.
    pub lookalikes: Vec<String>,
    /// The last trouble with it, if it has not answered since.
    pub trouble: Option<String>,
}

/// A target as people see it.
#[derive(Debug, Clone)]
pub struct TargetView {
    /// Its name.
    pub system: SystemId,
    /// What can be promised of its credentials.
    pub capabilities: Capabilities,
    /// What it looked like.
    pub seen: Seen,
}

/// Something that must go.
#[derive(Debug, Clone)]
pub(crate) struct Due {
    pub(crate) task: TaskId,
    pub(crate) handle: Handle,
    pub(crate) urgent: bool,
    /// From when on it is a debt.
    pub(crate) debt_from: Time,
    /// Attempts recorded so far, and the code of the last trouble that was recorded.
    pub(crate) recorded: (u32, Option<String>),
}

#[derive(Default)]
struct Work {
    due: BTreeMap<LeaseId, Due>,
    /// What is being ended at this moment, and from when on it is a debt.
    flying: HashMap<LeaseId, Time>,
    /// How many debts there are, and when they were counted.
    debts: Option<(Instant, usize)>,
    retries: HashMap<LeaseId, (u32, Instant)>,
    paused: Option<(u32, Instant)>,
    /// Until when another node is left to work on it.
    left_alone: Option<Instant>,
}

impl Target {
    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts something on the list; what is being worked on already stays where it is.
    pub(crate) fn add(&self, due: Due) {
        let mut work = self.work();
        if !work.flying.contains_key(&due.handle.lease) {
            work.due.insert(due.handle.lease.clone(), due);
        }
    }

    /// Another node works on it: it is not looked at for a moment.
    pub(crate) fn leave_alone(&self, until: Instant) {
        self.work().left_alone = Some(until);
    }

    /// Whether something could be tried now.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.wait(now).is_some_and(|wait| wait.is_zero())
    }

    /// The next round: kills first; then some of each task after the other. Empty while nothing may be tried.
    pub(crate) fn next(&self, now: Instant) -> Vec<Due> {
        let mut work = self.work();
        if work.paused.is_some_and(|(_, until)| now < until) {
            return Vec::new();
        }
        // A round of kills is not held up by anything else.
        let may = |due: &&Due| work.retries.get(&due.handle.lease).is_none_or(|(_, until)| *until <= now);
        let urgent = work.due.values().filter(may).any(|due| due.urgent);
        let mut turn: HashMap<&TaskId, usize> = HashMap::new();
        let mut order = Vec::new();
        for due in work.due.values().filter(|due| due.urgent == urgent).filter(may) {
            let turn = turn.entry(&due.task).or_default();
            order.push((*turn / TURN, &due.task, &due.handle.lease));
            *turn += 1;
        }
        if order.len() > ROUND {
            order.select_nth_unstable(ROUND);
            order.truncate(ROUND);
        }
        order.sort_unstable();
        let chosen: Vec<LeaseId> = order.into_iter().map(|(.., lease)| lease.clone()).collect();
        let mut round = Vec::with_capacity(chosen.len());
        for lease in chosen {
            if let Some(due) = work.due.remove(&lease) {
                work.flying.insert(lease, due.debt_from);
                round.push(due);
            }
        }
        round
    }

    /// It is gone.
    pub(crate) fn finished(&self, lease: &LeaseId) {
        let mut work = self.work();
        work.flying.remove(lease);
        work.retries.remove(lease);
        work.due.remove(lease);
    }

    /// It is not, and is tried again after a while: a debt from now on. Gives the number of attempts.
    pub(crate) fn failed(&self, mut due: Due, patience: &Patience) -> u32 {
        due.debt_from = Time(0);
        let mut work = self.work();
        let lease = due.handle.lease.clone();
        let before = work.retries.get(&lease).map_or(due.recorded.0, |(n, _)| *n);
        let attempts = before.saturating_add(1);
        work.retries.insert(lease.clone(), (attempts, Instant::now() + pause(attempts, patience)));
        work.flying.remove(&lease);
        work.due.insert(lease, due);
        attempts
    }

    /// Back on the list, to be tried after the first pause.
    pub(crate) fn later_after(&self, due: Due, patience: &Patience) {
        let until = Instant::now() + patience.retry_first;
        self.work().retries.entry(due.handle.lease.clone()).or_insert((0, until)).1 = until;
        self.later(due);
    }

    /// Forgets debts that are gone. What has only just become due stays: it may be younger than what is known of it.
    fn forget(&self, is_gone: impl Fn(&LeaseId) -> bool, now: Time) {
        let mut work = self.work();
        let Work { due, flying, retries, .. } = &mut *work;
        due.retain(|lease, due| due.debt_from > now || !is_gone(lease));
        retries.retain(|lease, _| due.contains_key(lease) || flying.contains_key(lease));
    }

    /// How many debts it has. Counted at most once a second.
    pub(crate) fn debts(&self, now: Time) -> usize {
        let mut work = self.work();
        if let Some((_, debts)) = work.debts.filter(|(at, _)| at.elapsed() < DEBTS_BELIEVED) {
            return debts;
        }
        let all = work.due.values().map(|due| due.debt_from).chain(work.flying.values().copied());
        let debts = all.filter(|from| *from <= now).count();
        work.debts = Some((Instant::now(), debts));
        debts
    }

    /// Whether nobody asks it for a while.
    pub(crate) fn is_paused(&self, now: Instant) -> bool {
        self.work().paused.is_some_and(|(_, until)| now < until)
    }

    /// Back on the list as if nothing had been tried.
    pub(crate) fn later(&self, due: Due) {
        let mut work = self.work();
        let lease = due.handle.lease.clone();
        work.flying.remove(&lease);
        work.due.insert(lease, due);
    }

    /// The target does not answer: nobody asks it for a while.
    pub(crate) fn unreachable(&self, error: &BrokerError, patience: &Patience) {
        let mut work = self.work();
        let attempts = work.paused.map_or(0, |(n, _)| n).saturating_add(1);
        work.paused = Some((attempts, Instant::now() + pause(attempts, patience)));
        drop(work);
        self.seen().trouble = Some(format!("{} ({})", error, error.code()));
    }

    /// The target answered.
    pub(crate) fn answered(&self, at: Time) {
        self.work().paused = None;
        let mut seen = self.seen();
        seen.at = Some(at);
        seen.trouble = None;
    }

    /// How long until something could be tried again; `None` if nothing is due.
    pub(crate) fn wait(&self, now: Instant) -> Option<Duration> {
        let work = self.work();
        let paused = work.paused.map_or(now, |(_, until)| until).max(work.left_alone.unwrap_or(now));
        let when = |lease| work.retries.get(lease).map_or(now, |(_, until)| *until).max(paused);
        if work.due.keys().any(|lease| when(lease) <= now) {
            return Some(Duration::ZERO);
        }
        work.due.keys().map(when).min().map(|until| until.saturating_duration_since(now))
    }
}

fn pause(attempts: u32, patience: &Patience) -> Duration {
    let doubled =
        patience.retry_first.saturating_mul(1u32.checked_shl(attempts.saturating_sub(1)).unwrap_or(u32::MAX));
    doubled.min(patience.retry_most)
}

impl Targets {
    pub(crate) fn new(connectors: Connectors) -> Targets {
        let target = |broker: Arc<dyn Broker>| {
            let target = Target {
                wake: tokio::sync::Notify::new(),
                claim: tokio::sync::Mutex::default(),
                work: Mutex::default(),
                seen: Mutex::default(),
                broker,
            };
            (target.broker.system().clone(), Arc::new(target))
        };
        Targets {
            by_name: connectors.brokers.into_iter().map(target).collect(),
            quota: connectors.quota,
            patience: connectors.patience,
            census: Mutex::default(),
            records: tokio::sync::Semaphore::new(RECORDS),
            creating: Mutex::default(),
            made_here: Mutex::default(),
        }
    }

    pub(crate) fn of(&self, system: &SystemId) -> Option<&Arc<Target>> {
        self.by_name.get(system)
    }

    /// Takes a place for one more credential, if the agent and the target have one left.
    pub(crate) fn take_place(
        &self,
        lease: &LeaseId,
        agent: &AgentId,
        system: &SystemId,
    ) -> Result<(), EngineError> {
        let mut census = self.census.lock().unwrap_or_else(PoisonError::into_inner);
        let (agents, targets) = (census.of_agent(agent), census.of_system(system));
        let full = |code: &str, what: String| Err(EngineError::new(Kind::Conflict, code, what));
        if agents >= self.quota.per_agent as usize {
            return full(
                "lease.quota_agent",
                format!("{agent} holds {agents} credentials already, its limit"),
            );
        }
        if targets >= self.quota.per_target as usize {
            return full(
                "lease.quota_target",
                format!("{system} has given out {targets} credentials, its limit"),
            );
        }
        census.insert(lease.clone(), agent.clone(), system.clone());
        Ok(())
    }

    pub(crate) fn give_place_back(&self, lease: &LeaseId) {
        self.census.lock().unwrap_or_else(PoisonError::into_inner).remove(lease);
    }

    /// Counts anew; what is being created at this moment keeps its place, and what other nodes have ended is no debt.
    pub(crate) fn count(&self, mut standing: Census, now: Time) {
        for target in self.by_name.values() {
            target.forget(|lease| !standing.contains(lease), now);
        }
        let creating = self.creating.lock().unwrap_or_else(PoisonError::into_inner);
        let mut census = self.census.lock().unwrap_or_else(PoisonError::into_inner);
        for lease in creating.iter() {
            if let Some((agent, system)) = census.get(lease) {
                standing.insert(lease.clone(), agent.clone(), system.clone());
            }
        }
        *census = standing;
        let mut made = self.made_here.lock().unwrap_or_else(PoisonError::into_inner);
        made.retain(|lease| census.contains(lease));
    }

    /// Marks a lease as being created here until the guard is dropped.
    pub(crate) fn creating(&self, lease: &LeaseId) -> Creating<'_> {
        self.creating.lock().unwrap_or_else(PoisonError::into_inner).insert(lease.clone());
        self.made_here.lock().unwrap_or_else(PoisonError::into_inner).insert(lease.clone());
        Creating { targets: self, lease: lease.clone() }
    }

    pub(crate) fn was_made_here(&self, lease: &LeaseId) -> bool {
        self.made_here.lock().unwrap_or_else(PoisonError::into_inner).contains(lease)
    }

    pub(crate) fn is_creating(&self, lease: &LeaseId) -> bool {
        self.creating.lock().unwrap_or_else(PoisonError::into_inner).contains(lease)
    }
}

/// A lease that is being created by this process.
pub(crate) struct Creating<'a> {
    targets: &'a Targets,
    lease: LeaseId,
}

impl Drop for Creating<'_> {
    fn drop(&mut self) {
        self.targets.creating.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.lease);
    }
}

/// How a lease is found in its target.
pub(crate) fn handle(lease: &Lease) -> Handle {
    Handle {
        lease: lease.id().clone(),
        name: lease.intent.name.clone(),
        external: lease.external.clone(),
        tool: lease.intent.tool.clone(),
        until: lease.intent.until,
    }
}

/// A row of the list of what stands: task, agent, system.
pub(crate) fn row(task: &TaskId, intent: &Intent) -> String {
    format!("{task} {} {}", intent.agent, intent.system)
}

/// Reads a row back.
pub(crate) fn read_row(row: &[u8]) -> Option<(TaskId, AgentId, SystemId)> {
    let mut words = std::str::from_utf8(row).ok()?.split(' ');
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}
