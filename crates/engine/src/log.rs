//! The engine's hold on the log: loading folds, caching them, and appending at the version that was read.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use bailiwick_core::approval::{Approval, State, Vote};
use bailiwick_core::decision::{JudgedAt, Scene};
use bailiwick_core::event::{Recorded, Ruled, TaskEvent};
use bailiwick_core::lease::LeaseFact;
use bailiwick_core::registry::{Registry, RegistryEvent};
use bailiwick_core::task::Task;
use bailiwick_core::{TaskId, TenantId, Time, Timekeeper};
use bailiwick_store::{Append, AppendError, NewEvent, Store, ViewPut};
use bailiwick_token::Mint;

use crate::cached::Cached;
use crate::clock::Clock;
use crate::error::{EngineError, Kind};
use crate::ledger::Ledger;
use crate::memory::{Deposit, Memory};
use crate::open::ASKS_MAX;
use crate::target::{Target, Targets};

/// What an engine is made of.
pub struct Config {
    /// Whose authority this is.
    pub tenant: TenantId,
    /// SPIFFE trust domain of the agents.
    pub trust_domain: String,
    /// The one audience of task tokens: this control plane's own URL.
    pub audience: String,
    /// Lifetime of task tokens, in seconds; 60 to 300.
    pub token_ttl_secs: u64,
    /// The clocks.
    pub clock: Arc<dyn Clock>,
    /// Signs tokens.
    pub mint: Mint,
    /// Signs the ledger's heads.
    pub ledger: Ledger,
}

/// The control plane of one tenant. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Engine {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) config: Config,
    keeper: Mutex<Timekeeper>,
    authority: RwLock<Arc<Authority>>,
    reloading: tokio::sync::Mutex<()>,
    tasks: Mutex<HashMap<TaskId, Arc<tokio::sync::Mutex<Cached>>>>,
    memory: tokio::sync::RwLock<Memory>,
    pub(crate) targets: OnceLock<Targets>,
    /// When this process began: whatever was allowed by then was allowed by another.
    pub(crate) started: Time,
    /// What this node calls itself while it runs.
    pub(crate) node: String,
}

/// The registry and the policies compiled against it, at one version.
pub(crate) struct Authority {
    pub(crate) registry: Registry,
    pub(crate) policy: crate::admin::SharedPolicy,
}

/// How often an append that lost a race is judged again before the caller is told to try later.
pub(crate) const RACES_MAX: usize = 64;
/// Ended tasks are dropped from the cache when it holds more than this.
const CACHED_TASKS: usize = 200_000;

impl Engine {
    /// Opens the control plane of a tenant on a store; founds it if it is new.
    ///
    /// # Errors
    /// `store.corrupt` if the ledger was altered; `ledger.rolled_back`, `ledger.forked`, `ledger.head_missing` or
    /// `ledger.head_not_ours` if it does not extend the head kept outside; or if the store cannot be used.
    pub async fn open(store: Store, config: Config) -> Result<Engine, EngineError> {
        crate::ledger::verify(&store).await?;
        if let Some(kept) = &config.ledger.kept {
            kept.confirm(&store, &config.ledger.signer).await?;
        }
        let stream = registry_stream(&config.tenant);
        if store.version(&stream).await? == 0 {
            let (wall, _) = config.clock.read();
            let founded = encode(&stream, 0, wall, &RegistryEvent::Founded, "founded")?;
            let append = Append {
                stream: stream.clone(),
                expect: 0,
                guards: vec![],
                events: vec![founded],
                views: vec![],
            };
            match store.append_at(append).await {
                Ok(_) | Err(AppendError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let (registry, newest) = load_registry(&store, &stream).await?;
        let newest = newest.max(newest_in(&store).await?);
        let (wall, mono) = config.clock.read();
        let policy = crate::admin::compile_or_deny(&registry)?;
        let memory = Memory::load(&store, &written_view(&config.tenant)).await?;
        let inner = Inner {
            memory: tokio::sync::RwLock::new(memory),
            store,
            keeper: Mutex::new(Timekeeper::new(newest, mono)),
            authority: RwLock::new(Arc::new(Authority { registry, policy })),
            reloading: tokio::sync::Mutex::new(()),
            tasks: Mutex::new(HashMap::new()),
            targets: OnceLock::new(),
            started: newest.max(wall),
            node: crate::names::node()?,
            config,
        };
        let engine = Engine { inner: Arc::new(inner) };
        engine.reconcile().await?;
        Ok(engine)
    }

    /// Now: never earlier than anything in the log, whatever the wall clock does (INV11).
    pub fn now(&self) -> Time {
        let (wall, mono) = self.inner.config.clock.read();
        self.inner.keeper.lock().unwrap_or_else(PoisonError::into_inner).now(wall, mono)
    }

    /// The store below, for health and export.
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// The tenant.
    pub fn tenant(&self) -> &TenantId {
        &self.inner.config.tenant
    }

    /// A view of the registry as it is now.
    pub fn registry(&self) -> Registry {
        self.authority().registry.clone()
    }

    pub(crate) fn authority(&self) -> Arc<Authority> {
        self.inner.authority.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn registry_stream(&self) -> String {
        registry_stream(&self.inner.config.tenant)
    }

    pub(crate) fn task_stream(&self, task: &TaskId) -> String {
        format!("{}/task/{task}", self.inner.config.tenant)
    }

    pub(crate) fn view(&self, name: &str) -> String {
        format!("{}/{name}", self.inner.config.tenant)
    }

    /// Does something with the memory of what agents have written, as it is now.
    pub(crate) async fn remembering<T>(&self, look: impl FnOnce(&Memory) -> T) -> Result<T, EngineError> {
        if !self.is_alone() {
            let view = written_view(&self.inner.config.tenant);
            self.inner.memory.write().await.catch_up(&self.inner.store, &view).await?;
        }
        Ok(look(&*self.inner.memory.read().await))
    }

    /// What an act leaves that is not known already.
    pub(crate) async fn news(&self, deposit: Option<Deposit>) -> Option<Deposit> {
        let deposit = deposit?;
        let known = self.inner.memory.read().await.covers(&deposit);
        (!known).then_some(deposit)
    }

    /// The rows of what an act leaves, to be appended with its event.
    pub(crate) fn written_rows(&self, deposit: Option<&Deposit>, now: Time, place: &str) -> Vec<ViewPut> {
        let view = written_view(&self.inner.config.tenant);
        deposit.map(|d| d.rows(&view, now, place)).unwrap_or_default()
    }

    /// Keeps in mind what an act left, once it is durable.
    pub(crate) async fn remember_written(&self, deposit: Option<Deposit>, now: Time) {
        if let Some(deposit) = deposit {
            self.inner.memory.write().await.keep(&deposit, now);
        }
    }

    /// Reads what others have appended to the registry, and compiles the policies anew.
    pub(crate) async fn catch_up(&self) -> Result<Arc<Authority>, EngineError> {
        let _one = self.inner.reloading.lock().await;
        let held = self.authority();
        let stream = self.registry_stream();
        let events = self.inner.store.read(&stream, held.registry.version()).await?;
        if events.is_empty() {
            return Ok(held);
        }
        let mut registry = held.registry.clone();
        let mut recompile = false;
        for recorded in &events {
            let event = decode::<RegistryEvent>(&recorded.bytes)?.event;
            recompile |= touches_policy(&event);
            registry.apply(&event);
        }
        let policy = if recompile { crate::admin::compile_or_deny(&registry)? } else { held.policy.clone() };
        let fresh = Arc::new(Authority { registry, policy });
        *self.inner.authority.write().unwrap_or_else(PoisonError::into_inner) = fresh.clone();
        Ok(fresh)
    }

    /// Appends to the registry what `judge` makes of it, again if somebody was faster.
    pub(crate) async fn amend(
        &self,
        judge: impl Fn(&Registry) -> Result<Vec<RegistryEvent>, EngineError>,
    ) -> Result<Arc<Authority>, EngineError> {
        let stream = self.registry_stream();
        for _ in 0..RACES_MAX {
            let authority = self.authority();
            let events = judge(&authority.registry)?;
            if events.is_empty() {
                return Ok(authority);
            }
            let now = self.now();
            let expect = authority.registry.version();
            let encoded = events
                .iter()
                .enumerate()
                .map(|(i, e)| encode(&stream, expect + i as u64, now, e, "registry"))
                .collect::<Result<_, _>>()?;
            // A set of policies that does not compile must never become the active one.
            let mut next = authority.registry.clone();
            events.iter().for_each(|e| next.apply(e));
            if events.iter().any(touches_policy) {
                crate::admin::compile(&next)?;
            }
            let append =
                Append { stream: stream.clone(), expect, guards: vec![], events: encoded, views: vec![] };
            let ending = events.iter().all(only_shuts);
            let appended = match ending {
                true => self.inner.store.append_ending(append).await,
                false => self.inner.store.append_at(append).await,
            };
            match appended {
                Ok(_) => {
                    self.keep_ending().await;
                    return self.catch_up().await;
                }
                Err(AppendError::Conflict { .. }) => {
                    self.catch_up().await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(contended())
    }

    /// The cell of a task in the cache; empty until it is loaded.
    pub(crate) fn cell(&self, task: &TaskId) -> Arc<tokio::sync::Mutex<Cached>> {
        let mut tasks = self.inner.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        if tasks.len() >= CACHED_TASKS && !tasks.contains_key(task) {
            tasks.retain(|_, cell| !cell.try_lock().is_ok_and(|cached| cached.is_spare()));
        }
        tasks.entry(task.clone()).or_default().clone()
    }

    /// Runs something on the folded task as it is now.
    pub(crate) async fn with_task<T>(
        &self,
        task: &TaskId,
        look: impl FnOnce(&Task, &Authority) -> T,
    ) -> Result<T, EngineError> {
        let cell = self.cell(task);
        let mut held = cell.lock().await;
        self.refresh(task, &mut held).await?;
        let authority = self.authority();
        match held.as_ref() {
            Some(held) => Ok(look(held, &authority)),
            None => Err(EngineError::missing("task", task)),
        }
    }

    /// Folds what the log has of a task from a version on.
    pub(crate) async fn reload(
        &self,
        task: &TaskId,
        held: &mut Option<Task>,
        from: u64,
    ) -> Result<(), EngineError> {
        let stream = self.task_stream(task);
        for recorded in self.inner.store.read(&stream, from).await? {
            let event = decode::<TaskEvent>(&recorded.bytes)?;
            match held.as_mut() {
                Some(task) => task.apply(&event.event, event.time),
                None => *held = Task::begin(&event.event, event.time),
            }
        }
        Ok(())
    }

    /// Judges and appends until nothing moved in between. `judge` sees the folds at one moment and gives back
    /// what it makes of them; `events` says what is to be appended for it, and nothing is appended when that
    /// is empty.
    pub(crate) async fn conduct<J>(
        &self,
        task: &TaskId,
        judge: impl Fn(Scene<'_>) -> Result<J, EngineError>,
        events: impl Fn(&J) -> Vec<TaskEvent>,
    ) -> Result<J, EngineError> {
        self.conduct_at(None, task, judge, events).await
    }

    /// The same for what a node records of its work on a target: only while its claim holds.
    ///
    /// # Errors
    /// `lease.claim_lost` if another node works on the target now; or as above.
    pub(crate) async fn conduct_at<J>(
        &self,
        target: Option<&Target>,
        task: &TaskId,
        judge: impl Fn(Scene<'_>) -> Result<J, EngineError>,
        events: impl Fn(&J) -> Vec<TaskEvent>,
    ) -> Result<J, EngineError> {
        let cell = self.cell(task);
        let mut held = cell.lock().await;
        self.refresh(task, &mut held).await?;
        for _ in 0..RACES_MAX {
            let authority = self.authority();
            let Some(current) = held.as_ref() else { return Err(EngineError::missing("task", task)) };
            let now = self.now();
            let scene = Scene {
                registry: &authority.registry,
                task: current,
                policy: &*authority.policy,
                now,
                fresh: true,
            };
            let (at, judged) = (scene.judged_at(), judge(scene)?);
            let facts = events(&judged);
            if facts.is_empty() {
                return Ok(judged);
            }
            let fence = match target {
                Some(target) => self.fence(target).await?,
                None => vec![],
            };
            match self.append_with(task, current, at, &facts, now, vec![], fence.clone()).await {
                Ok(()) => {
                    if let Some(held) = held.as_mut() {
                        facts.iter().for_each(|e| held.apply(e, now));
                    }
                    return Ok(judged);
                }
                Err(AppendError::Conflict { stream, .. }) => {
                    if let Some(target) = target {
                        self.refused_by(target, &stream, &fence).await?;
                    }
                    self.moved(task, &mut held).await?;
                }
                Err(error) => {
                    // What became of the append is not known for certain; the fold is read anew before it is used.
                    held.forget();
                    return Err(error.into());
                }
            }
        }
        Err(contended())
    }

    /// Appends events of a task at the versions they were judged on: neither the task nor the registry may have
    /// moved since.
    pub(crate) async fn append(
        &self,
        id: &TaskId,
        task: &Task,
        at: JudgedAt,
        events: &[TaskEvent],
        now: Time,
    ) -> Result<(), AppendError> {
        self.append_with(id, task, at, events, now, vec![], vec![]).await
    }

    /// The same, with more rows, and under more conditions.
    #[expect(clippy::too_many_arguments, reason = "an append is what it is")]
    pub(crate) async fn append_with(
        &self,
        id: &TaskId,
        task: &Task,
        at: JudgedAt,
        events: &[TaskEvent],
        now: Time,
        rows: Vec<ViewPut>,
        guards: Vec<(String, u64)>,
    ) -> Result<(), AppendError> {
        let mut append = self
            .prepared(id, task, at.task, events, now)
            .map_err(|_| AppendError::Refused(bailiwick_store::Refusal::Unstorable("an event")))?;
        append.guards = std::iter::once((self.registry_stream(), at.registry)).chain(guards).collect();
        append.views.extend(rows);
        // What only takes authority away must go through even when the disk is full.
        if events.iter().all(only_takes_away) {
            return self.inner.store.append_ending(append).await.map(|_| ());
        }
        self.inner.store.append_at(append).await.map(|_| ())
    }

    /// An append of events to a task, with the projections that change with them, under no condition but its version.
    pub(crate) fn prepared(
        &self,
        id: &TaskId,
        task: &Task,
        expect: u64,
        events: &[TaskEvent],
        now: Time,
    ) -> Result<Append, EngineError> {
        let stream = self.task_stream(id);
        let numbered = (expect..).zip(events);
        let events_encoded =
            numbered.map(|(at, e)| encode(&stream, at, now, e, e.name())).collect::<Result<_, _>>()?;
        let views = self.views(id, task, events);
        Ok(Append { expect, guards: vec![], views, events: events_encoded, stream })
    }

    /// Projections that change with these events: the list of open tasks and the list of waiting questions.
    fn views(&self, id: &TaskId, task: &Task, events: &[TaskEvent]) -> Vec<ViewPut> {
        let mut views = Vec::new();
        let mut put = |view: &str, key: &str, value: Option<&str>| {
            views.push(ViewPut {
                view: self.view(view),
                key: key.to_owned(),
                value: value.map(|v| v.as_bytes().to_vec()),
            });
        };
        for event in events {
            match event {
                TaskEvent::Opened(_) => put("open", id.as_str(), Some("")),
                TaskEvent::Ended { .. } => {
                    put("open", id.as_str(), None);
                    let open = |a: &&Approval| matches!(a.state, State::Waiting | State::Approved);
                    let asked = task.approvals().filter(open).take(usize::try_from(ASKS_MAX).unwrap_or(0));
                    asked.for_each(|a| put("waiting", a.id.as_str(), None));
                }
                TaskEvent::Decided(decided) => {
                    if let Some(asked) = &decided.asked {
                        put("waiting", asked.approval.as_str(), Some(id.as_str()));
                    }
                    if let Some(used) = decided.approval.as_ref().filter(|_| decided.outcome == Ruled::Allow)
                    {
                        put("waiting", used.as_str(), None);
                    }
                }
                TaskEvent::AmendmentProposed(proposed) => {
                    if let Some(asked) = &proposed.asked {
                        put("waiting", asked.approval.as_str(), Some(id.as_str()));
                    }
                }
                TaskEvent::Amended(amended) => put("waiting", amended.approval.as_str(), None),
                TaskEvent::Voted { approval, vote: Vote::Deny { .. }, .. } => {
                    put("waiting", approval.as_str(), None)
                }
                TaskEvent::LeaseRequested(intent) => {
                    put("leases", intent.lease.as_str(), Some(&crate::target::row(id, intent)));
                }
                TaskEvent::Lease { lease, fact: LeaseFact::Gone { evidence } }
                    if evidence.looks.len() >= 2 =>
                {
                    put("leases", lease.as_str(), None);
                }
                TaskEvent::Lease { lease, fact: LeaseFact::Found { .. } } => {
                    if let Some(lease) = task.lease(lease) {
                        put("leases", lease.id().as_str(), Some(&crate::target::row(id, &lease.intent)));
                    }
                }
                _ => {}
            }
        }
        views
    }
}

/// Ends, revocations and freezes.
fn only_takes_away(event: &TaskEvent) -> bool {
    match event {
        TaskEvent::Ended { .. }
        | TaskEvent::GrantRevoked { .. }
        | TaskEvent::Frozen { .. }
        | TaskEvent::Receipted(_) => true,
        TaskEvent::Lease { fact, .. } => fact.only_takes_away(),
        _ => false,
    }
}

pub(crate) fn contended() -> EngineError {
    EngineError::new(Kind::Unavailable, "store.contended", "too many writers at once; try again in a moment")
}

fn written_view(tenant: &TenantId) -> String {
    format!("{tenant}/written")
}

fn registry_stream(tenant: &TenantId) -> String {
    format!("{tenant}/registry")
}

/// Whether an event takes authority away and gives none.
fn only_shuts(event: &RegistryEvent) -> bool {
    matches!(
        event,
        RegistryEvent::Suspended { .. }
            | RegistryEvent::AgentRetired { .. }
            | RegistryEvent::TemplateRemoved { .. }
    )
}

/// Whether the policies must be compiled anew: their schema is made of agents and tools.
pub(crate) fn touches_policy(event: &RegistryEvent) -> bool {
    matches!(
        event,
        RegistryEvent::AgentSet { .. }
            | RegistryEvent::AgentRetired { .. }
            | RegistryEvent::ToolClassified { .. }
            | RegistryEvent::PolicySet { .. }
    )
}

async fn load_registry(store: &Store, stream: &str) -> Result<(Registry, Time), EngineError> {
    let mut registry = Registry::default();
    let mut newest = Time::default();
    for recorded in store.read(stream, 0).await? {
        let event = decode::<RegistryEvent>(&recorded.bytes)?;
        newest = newest.max(event.time);
        registry.apply(&event.event);
    }
    Ok((registry, newest))
}

/// The newest time in the ledger: the high-water mark below which no clock may fall.
async fn newest_in(store: &Store) -> Result<Time, EngineError> {
    let size = store.head().await?.size;
    let last = store.scan(size.saturating_sub(64), 64).await?;
    Ok(Time(last.iter().map(|r| r.time_ms).max().unwrap_or(0)))
}

pub(crate) fn encode<E>(
    stream: &str,
    at: u64,
    time: Time,
    event: &E,
    kind: &str,
) -> Result<NewEvent, EngineError>
where
    E: serde::Serialize + serde::de::DeserializeOwned + Clone,
{
    let recorded = Recorded {
        v: bailiwick_core::event::FORMAT,
        stream: stream.to_owned(),
        at,
        time,
        event: event.clone(),
    };
    let bytes = recorded.encode().map_err(|e| EngineError::invalid("event.malformed", e.to_string()))?;
    Ok(NewEvent { time_ms: time.0, kind: kind.to_owned(), bytes })
}

pub(crate) fn decode<E: serde::Serialize + serde::de::DeserializeOwned>(
    bytes: &[u8],
) -> Result<Recorded<E>, EngineError> {
    Recorded::decode(bytes).map_err(|e| {
        EngineError::new(Kind::Unavailable, "store.corrupt", format!("the log cannot be read: {e}"))
    })
}
