//! What recorded decisions would have been under other policies.
//!
//! A decision records its arguments, its label and what it was judged under; the log holds everything else, so the
//! task and the registry are folded again up to that moment and the same judgement runs on them. First with the
//! policies of that time: a decision whose record does not lead to the outcome that is recorded (because secrets are
//! blanked, or long arguments are kept by hash only) is told as such and never guessed.

use std::collections::BTreeMap;
use std::sync::Arc;

use bailiwick_core::decision::{Request, SHORTENED, Scene, decide};
use bailiwick_core::event::{Decided, Ruled, TaskEvent};
use bailiwick_core::registry::{Registry, RegistryEvent};
use bailiwick_core::task::Task;
use bailiwick_core::verdict::{Facts, Observed, Policy, Verdict};
use bailiwick_core::{AgentId, ApprovalId, DecisionId, Digest, TaskId, Time, ToolId, Value};
use bailiwick_policy::Source;

use crate::admin::{SharedPolicy, compile_set, sources};
use crate::error::EngineError;
use crate::log::{Engine, decode, touches_policy};

/// The step in which policies are asked. What was refused before it does not depend on them.
const POLICY_STEP: u8 = 8;

/// A decision that would have come out differently.
#[derive(Debug, Clone)]
pub struct Replayed {
    /// Which.
    pub decision: DecisionId,
    /// In which task.
    pub task: TaskId,
    /// When.
    pub at: Time,
    /// Whose.
    pub agent: AgentId,
    /// About what.
    pub tool: ToolId,
    /// With which arguments.
    pub args: Value,
    /// How it came out.
    pub was: Ruled,
    /// How it would have.
    pub would: Ruled,
    /// By which rule.
    pub rule: String,
    /// Why.
    pub reason: String,
}

/// What came of replaying.
#[derive(Debug, Clone, Default)]
pub struct Replay {
    /// Decisions about calls that were looked at.
    pub decisions: u64,
    /// Of them, refused before policies were asked: no policy changes that.
    pub before_policy: u64,
    /// Of them, the same as before.
    pub same: u64,
    /// Those that would have come out differently, the newly allowed first.
    pub changed: Vec<Replayed>,
    /// Those that cannot be told, each with the reason.
    pub untold: Vec<(DecisionId, String)>,
    /// Handoffs, which are not replayed.
    pub handoffs: u64,
}

/// Tasks that are looked at, at most.
const TASKS_MAX: usize = 1000;

impl Engine {
    /// Judges the recorded decisions of the newest tasks again, under these policies, since a moment.
    ///
    /// # Errors
    /// If the policies do not compile against the registry as it is now, or the log cannot be read.
    pub async fn replay(
        &self,
        policies: &[(String, String)],
        since: Time,
        tasks: usize,
    ) -> Result<Replay, EngineError> {
        self.check_policy(policies)?;
        let new = policies.iter().map(|(name, text)| Source::new(name, text)).collect();
        let mut past = Past::new(self.registry_events().await?, new);
        let mut replay = Replay::default();
        for summary in self.tasks(tasks.min(TASKS_MAX)).await? {
            let mut task: Option<Task> = None;
            for step in self.events(&summary.task, 0).await? {
                match (&step.event, &task) {
                    (TaskEvent::Decided(decided), Some(task)) if step.time >= since => {
                        replay.take(&mut past, task, decided, step.time);
                    }
                    (TaskEvent::HandedOff(_), _) if step.time >= since => replay.handoffs += 1,
                    _ => {}
                }
                match task.as_mut() {
                    Some(task) => task.apply(&step.event, step.time),
                    None => task = Task::begin(&step.event, step.time),
                }
            }
        }
        replay.changed.sort_by_key(|c| (c.would, core::cmp::Reverse(c.at)));
        Ok(replay)
    }

    async fn registry_events(&self) -> Result<Vec<RegistryEvent>, EngineError> {
        let recorded = self.store().read(&self.registry_stream(), 0).await?;
        recorded.iter().map(|r| Ok(decode::<RegistryEvent>(&r.bytes)?.event)).collect()
    }
}

impl Replay {
    fn take(&mut self, past: &mut Past, task: &Task, decided: &Decided, at: Time) {
        self.decisions += 1;
        if decided.why.step < POLICY_STEP {
            self.before_policy += 1;
            return;
        }
        match judged_again(past, task, decided, at) {
            Err(why) => self.untold.push((decided.decision.clone(), why)),
            Ok(again) if again.outcome == decided.outcome => self.same += 1,
            Ok(again) => self.changed.push(Replayed {
                decision: decided.decision.clone(),
                task: task.opening().task.clone(),
                at,
                agent: decided.agent.clone(),
                tool: decided.tool.clone(),
                args: decided.args.clone(),
                was: decided.outcome,
                would: again.outcome,
                rule: again.why.rule,
                reason: again.why.reason,
            }),
        }
    }
}

/// The decision under the new policies, once it is certain that the record leads to the recorded outcome.
fn judged_again(past: &mut Past, task: &Task, decided: &Decided, at: Time) -> Result<Decided, String> {
    if decided.args.as_map().is_none_or(|args| args.contains_key(SHORTENED)) {
        return Err("its arguments are not recorded whole".to_owned());
    }
    let moment = past.at(decided.epoch)?;
    let request = request(decided)?;
    let judge = |policy: &SharedPolicy| {
        let policy = AsOf { policy, version: decided.policy };
        let scene = Scene { registry: &moment.registry, task, policy: &policy, now: at, fresh: true };
        decide(scene, &request).decided().clone()
    };
    let old = judge(moment.old.as_ref().map_err(Clone::clone)?);
    if (old.outcome, &old.why.code) != (decided.outcome, &decided.why.code) {
        return Err(format!(
            "its record does not lead to its outcome ({}, not {}): something that mattered is blanked",
            old.why.code, decided.why.code
        ));
    }
    Ok(judge(moment.new.as_ref().map_err(Clone::clone)?))
}

fn request(decided: &Decided) -> Result<Request, String> {
    let asked = decided.asked.as_ref().map(|asked| asked.approval.clone()).or(decided.approval.clone());
    let fresh_approval =
        asked.map_or_else(|| ApprovalId::parse("apr-none").map_err(|e| e.to_string()), Ok)?;
    Ok(Request {
        decision: decided.decision.clone(),
        fresh_approval,
        grant: decided.grant.clone(),
        agent: decided.agent.clone(),
        instance: decided.instance.clone(),
        token_until: Time(u64::MAX),
        proof: None,
        tool: decided.tool.clone(),
        args: decided.args.clone(),
        definition: None,
        approval: decided.approval.clone(),
        claims: decided.label.clone(),
        says: None,
    })
}

/// A policy under the version that approvals of the time are bound to.
struct AsOf<'a> {
    policy: &'a SharedPolicy,
    version: Digest,
}

impl Policy for AsOf<'_> {
    fn evaluate(&self, facts: &Facts<'_>) -> Verdict {
        self.policy.evaluate(facts)
    }
    fn observe(&self, facts: &Facts<'_>) -> Option<Observed> {
        self.policy.observe(facts)
    }
    fn version(&self) -> Digest {
        self.version
    }
}

/// The registry as it was, with the policies of the time and the new ones compiled against it.
struct Moment {
    registry: Registry,
    old: Result<SharedPolicy, String>,
    new: Result<SharedPolicy, String>,
}

/// Moments are made once for each version of the registry that a decision was judged under.
struct Past {
    events: Vec<RegistryEvent>,
    new: Vec<Source>,
    moments: BTreeMap<u64, Arc<Moment>>,
}

impl Past {
    fn new(events: Vec<RegistryEvent>, new: Vec<Source>) -> Self {
        Past { events, new, moments: BTreeMap::new() }
    }

    fn at(&mut self, epoch: u64) -> Result<Arc<Moment>, String> {
        if let Some(moment) = self.moments.get(&epoch) {
            return Ok(Arc::clone(moment));
        }
        let until = usize::try_from(epoch).ok().filter(|n| *n <= self.events.len());
        let until = until.ok_or("the registry of its time is not in the log")?;
        let (from, mut registry) = match self.moments.range(..epoch).next_back() {
            Some((from, earlier)) => (usize::try_from(*from).unwrap_or(0), earlier.registry.clone()),
            None => (0, Registry::default()),
        };
        let between = self.events.get(from..until).unwrap_or_default();
        between.iter().for_each(|event| registry.apply(event));
        let unchanged = self.moments.range(..epoch).next_back().map(|(_, earlier)| earlier);
        let (old, new) = match unchanged.filter(|_| !between.iter().any(touches_policy)) {
            Some(earlier) => (earlier.old.clone(), earlier.new.clone()),
            None => (compile_set(&registry, &sources(&registry)), compile_set(&registry, &self.new)),
        };
        let moment = Arc::new(Moment { registry, old, new });
        self.moments.insert(epoch, Arc::clone(&moment));
        Ok(moment)
    }
}
