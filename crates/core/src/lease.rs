//! Leases: one credential in one target system for one grant, from intent to seen gone.
//!
//! The order is fixed (design section 7): the intent is in the log before the target hears of it, the target's own
//! id before anybody is told the secret; revoking repeats until the target has been looked at and nothing was
//! found. A lease that was ever requested stays *standing* until then, whatever else fails: nothing but a look
//! closes it.
//!
//! A connector wants a [`Mandate`], and only an intent that is already in the log makes one ([`Wanted::commit`]).

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::decision::{JudgedAt, Permit, Scene};
use crate::event::{TaskEvent, Why};
use crate::ids::{AgentId, DecisionId, GrantId, LeaseId, SystemId, ToolId};
use crate::registry::{Halt, Registry};
use crate::task::{Task, TaskState};
use crate::time::Time;
use crate::value::{Digest, Value};

/// What takes a credential away in its target system, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Revocability {
    /// The agent never holds it; our own proxy cuts.
    P,
    /// Removing the principal ends its live sessions itself.
    A,
    /// Ending live sessions is a second step, and we take it.
    B,
    /// The next request is refused.
    C,
    /// Only its expiry ends it.
    D,
}

impl Revocability {
    /// The letter.
    pub fn as_str(self) -> &'static str {
        match self {
            Revocability::P => "P",
            Revocability::A => "A",
            Revocability::B => "B",
            Revocability::C => "C",
            Revocability::D => "D",
        }
    }
}

/// A step of revoking, in the order every connector keeps. Each can be repeated, and a target that does not have
/// one skips it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// No new login succeeds.
    Block,
    /// Live sessions read and write nothing more.
    CutData,
    /// Live sessions end, on every node.
    EndSessions,
    /// What the credential owns is removed.
    RemoveOwned,
    /// The principal is removed.
    Drop,
    /// Two looks at the target find nothing.
    Look,
}

impl Step {
    /// All of them, in order.
    pub const ALL: [Step; 6] =
        [Step::Block, Step::CutData, Step::EndSessions, Step::RemoveOwned, Step::Drop, Step::Look];

    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Step::Block => "block",
            Step::CutData => "cut_data",
            Step::EndSessions => "end_sessions",
            Step::RemoveOwned => "remove_owned",
            Step::Drop => "drop",
            Step::Look => "look",
        }
    }
}

/// What is recorded before a credential is created: enough to find it in the target after any crash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Intent {
    /// Its id; the external name derives from it and is never reused.
    pub lease: LeaseId,
    /// For which grant.
    pub grant: GrantId,
    /// For which agent.
    pub agent: AgentId,
    /// The decision that allowed it. One decision, one lease.
    pub decision: DecisionId,
    /// In which system.
    pub system: SystemId,
    /// Which of the system's scopes.
    pub tool: ToolId,
    /// What the scope was narrowed with.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub args: BTreeMap<String, Value>,
    /// Its name in the target.
    pub name: String,
    /// When it ends at the latest.
    pub until: Time,
    /// What takes it away.
    pub class: Revocability,
    /// Hash of the plan: what exactly will be created.
    pub plan: Digest,
}

/// One look at a target: what was asked, what it answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Look {
    /// When.
    pub at: Time,
    /// The query, as it could be asked again by hand.
    pub query: String,
    /// The answer.
    pub answer: String,
}

/// How a lease was seen gone: two looks, and what had to be ended before.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// The looks, in order; at least two.
    pub looks: Vec<Look>,
    /// Live sessions that were ended.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub sessions_ended: u64,
    /// What else there is to say, for people.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl Evidence {
    /// Hash of queries and answers, to compare with.
    pub fn digest(&self) -> Digest {
        let text = serde_json::to_vec(&self.looks).unwrap_or_default();
        Digest::of(&text)
    }
}

/// What happens to a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "now", deny_unknown_fields)]
pub enum LeaseFact {
    /// The target has created it under this id of its own.
    Created {
        /// The target's id.
        external: String,
        /// Hash of the privileges that were read back.
        effective: Digest,
    },
    /// The secret goes to whoever asked for it.
    Active,
    /// It was seen in use.
    Used {
        /// Live sessions, or logins.
        sessions: u64,
    },
    /// It is to go, and its revocation begins.
    Revoking {
        /// Why.
        why: String,
    },
    /// A step of its revocation failed. It is tried again, for ever.
    Failed {
        /// The step.
        step: Step,
        /// Stable code of the trouble.
        code: String,
        /// The trouble, without secrets.
        reason: String,
        /// Attempts so far.
        attempts: u32,
    },
    /// A person knows of the debt. It stands all the same.
    Acknowledged {
        /// Who.
        by: String,
        /// What they said.
        reason: String,
    },
    /// Two looks found nothing.
    Gone {
        /// What was asked and answered.
        evidence: Evidence,
    },
    /// It was found in the target after it had been seen gone: it stands again.
    Found {
        /// What was found.
        what: String,
    },
}

/// What happens to a target in a store that several nodes share: which of them ends credentials there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event", deny_unknown_fields)]
pub enum TargetEvent {
    /// A node works on it. What another node had claimed is over.
    Claimed {
        /// The node, as it calls itself while it runs.
        node: String,
        /// For how long, in milliseconds from when the claim was appended.
        ttl_ms: u64,
    },
    /// It does no longer.
    Released {
        /// The node.
        node: String,
    },
}

impl TargetEvent {
    /// The word.
    pub fn name(&self) -> &'static str {
        match self {
            TargetEvent::Claimed { .. } => "claimed",
            TargetEvent::Released { .. } => "released",
        }
    }
}

impl LeaseFact {
    /// Whether this only takes authority away, and so may use what is kept back for endings.
    pub fn only_takes_away(&self) -> bool {
        !matches!(self, LeaseFact::Created { .. } | LeaseFact::Active | LeaseFact::Used { .. })
    }
}

/// Where a lease stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum LeaseState {
    /// The intent is durable; the credential may or may not exist.
    Requested,
    /// It exists; nobody has its secret.
    Created,
    /// It exists, and its secret was given out.
    Active,
    /// It is being revoked.
    Revoking {
        /// Why.
        why: String,
        /// Since when.
        since: Time,
    },
    /// It was looked for twice and not found.
    Gone {
        /// When.
        at: Time,
        /// What was asked and answered.
        evidence: Evidence,
    },
}

impl LeaseState {
    /// The word.
    pub fn as_str(&self) -> &'static str {
        match self {
            LeaseState::Requested => "requested",
            LeaseState::Created => "created",
            LeaseState::Active => "active",
            LeaseState::Revoking { .. } => "revoking",
            LeaseState::Gone { .. } => "gone",
        }
    }
}

/// A revocation that has not succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// The step that failed last.
    pub step: Step,
    /// Stable code.
    pub code: String,
    /// Why.
    pub reason: String,
    /// Attempts so far.
    pub attempts: u32,
    /// When it last failed.
    pub at: Time,
}

/// A lease as the log knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// What was intended.
    pub intent: Intent,
    /// When that was recorded.
    pub requested: Time,
    /// The target's own id, once it is known.
    pub external: Option<String>,
    /// When it was created.
    pub created: Option<Time>,
    /// When it was last seen in use, and the most sessions seen at once.
    pub used: Option<(Time, u64)>,
    /// Where it stands.
    pub state: LeaseState,
    /// The last trouble of its revocation.
    pub trouble: Option<Trouble>,
    /// Who knows of it.
    pub acknowledged: Option<String>,
}

/// A revocation that takes longer than this is debt even if no step has failed, in milliseconds.
pub const DEBT_AFTER_MS: u64 = 60_000;

impl Lease {
    /// A lease from its intent.
    pub fn new(intent: Intent, at: Time) -> Lease {
        Lease {
            intent,
            requested: at,
            external: None,
            created: None,
            used: None,
            state: LeaseState::Requested,
            trouble: None,
            acknowledged: None,
        }
    }

    /// Its id.
    pub fn id(&self) -> &LeaseId {
        &self.intent.lease
    }

    /// Whether it may exist in the target: everything but seen gone.
    pub fn is_standing(&self) -> bool {
        !matches!(self.state, LeaseState::Gone { .. })
    }

    /// Whether it stands although it should not: its revocation failed, or takes too long.
    pub fn is_debt(&self, now: Time) -> bool {
        self.debt_from().is_some_and(|from| from <= now)
    }

    /// From when on it is a debt if it has not gone by then: always, once ending it has failed; `None` while nobody
    /// ends it.
    pub fn debt_from(&self) -> Option<Time> {
        match self.state {
            LeaseState::Revoking { .. } if self.trouble.is_some() => Some(Time(0)),
            LeaseState::Revoking { since, .. } => Some(since.plus_ms(DEBT_AFTER_MS + 1)),
            _ => None,
        }
    }

    /// The state after a fact. Only `Found` brings back what was seen gone; a late `Created` during a revocation
    /// adds the target's id and changes nothing else.
    pub fn apply(&mut self, fact: &LeaseFact, at: Time) {
        let gone = !self.is_standing();
        match fact {
            LeaseFact::Found { what } if gone => {
                self.state = LeaseState::Revoking { why: what.clone(), since: at };
                self.trouble = None;
            }
            _ if gone => {}
            LeaseFact::Created { external, .. } => {
                self.external = Some(external.clone());
                self.created.get_or_insert(at);
                if self.state == LeaseState::Requested {
                    self.state = LeaseState::Created;
                }
            }
            LeaseFact::Active if self.state == LeaseState::Created => self.state = LeaseState::Active,
            LeaseFact::Used { sessions } => {
                let most = self.used.map_or(0, |(_, n)| n).max(*sessions);
                self.used = Some((at, most));
            }
            LeaseFact::Revoking { why } if !matches!(self.state, LeaseState::Revoking { .. }) => {
                self.state = LeaseState::Revoking { why: why.clone(), since: at };
            }
            LeaseFact::Failed { step, code, reason, attempts } => {
                if !matches!(self.state, LeaseState::Revoking { .. }) {
                    self.state = LeaseState::Revoking { why: reason.clone(), since: at };
                }
                let (step, code, reason) = (*step, code.clone(), reason.clone());
                self.trouble = Some(Trouble { step, code, reason, attempts: *attempts, at });
            }
            LeaseFact::Acknowledged { by, .. } => self.acknowledged = Some(by.clone()),
            // One look is not enough: what says so is not believed.
            LeaseFact::Gone { evidence } if evidence.looks.len() >= 2 => {
                self.state = LeaseState::Gone { at, evidence: evidence.clone() };
                self.trouble = None;
            }
            LeaseFact::Active
            | LeaseFact::Revoking { .. }
            | LeaseFact::Gone { .. }
            | LeaseFact::Found { .. } => {}
        }
    }
}

/// Why a lease must go now, if it must: its task, its grant or anything above has ended, is frozen or killed, or
/// its time is over. A frozen task keeps no credential in the world: it asks again when it goes on. It is never
/// earlier than the newest event of the task: a clock that runs behind keeps nothing (INV11).
pub fn must_end(registry: &Registry, task: &Task, lease: &Lease, now: Time) -> Option<String> {
    let (intent, now) = (&lease.intent, now.max(task.newest()));
    match task.state() {
        TaskState::Ended { cause, .. } => return Some(format!("the task has ended: {}", cause.as_str())),
        TaskState::Frozen { .. } => return Some("the task is frozen".to_string()),
        TaskState::Open => {}
    }
    if now >= intent.until {
        return Some("its time is over".to_string());
    }
    if !task.is_live(&intent.grant, now) {
        return Some("its grant has ended".to_string());
    }
    halted(registry, task, intent)
}

/// What above the lease is frozen or killed: the agents of its lineage, the initiator, the tool, everything.
fn halted(registry: &Registry, task: &Task, intent: &Intent) -> Option<String> {
    let opening = task.opening();
    let word = |halt: Halt| if halt == Halt::Killed { "killed" } else { "frozen" };
    let lineage = task.grant(&intent.grant).into_iter().flat_map(|grant| task.lineage(grant));
    for grant in lineage {
        let Some(agent) = registry.agent(&grant.agent) else {
            return Some(format!("agent {} is retired or unknown", grant.agent));
        };
        if let Some((scope, suspension)) = registry.halts_agent(agent) {
            return Some(format!("{scope} is {}", word(suspension.halt)));
        }
    }
    let (scope, suspension) = registry
        .halts_task(&opening.task, &opening.initiator)
        .or_else(|| registry.halts_tool(&intent.tool))?;
    Some(format!("{scope} is {}", word(suspension.halt)))
}

/// What a task leaves behind when it is over and everything it was given has been seen gone; signed with the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// One entry for each system in which it held credentials.
    pub systems: Vec<SystemReceipt>,
}

/// What became of a task's credentials in one system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SystemReceipt {
    /// The system.
    pub system: SystemId,
    /// Credentials that were asked for; each was seen gone.
    pub credentials: u64,
    /// Those that were seen in use.
    pub used: u64,
    /// Live sessions that had to be ended.
    pub sessions_ended: u64,
    /// Hash over the evidence of all of them, in order of their ids.
    pub evidence: Digest,
}

/// The receipt of a task: there is one when the task is over, held credentials, and has seen all of them gone.
pub fn receipt(task: &Task) -> Option<Receipt> {
    let mut systems: BTreeMap<SystemId, (SystemReceipt, Vec<u8>)> = BTreeMap::new();
    for lease in task.leases() {
        let LeaseState::Gone { evidence, .. } = &lease.state else { return None };
        let system = lease.intent.system.clone();
        let (entry, hashes) = systems.entry(system.clone()).or_insert_with(|| {
            let none = Digest::of(b"");
            (SystemReceipt { system, credentials: 0, used: 0, sessions_ended: 0, evidence: none }, Vec::new())
        });
        entry.credentials += 1;
        entry.used += u64::from(lease.used.is_some());
        entry.sessions_ended = entry.sessions_ended.saturating_add(evidence.sessions_ended);
        hashes.extend_from_slice(evidence.digest().as_bytes());
    }
    if systems.is_empty() || !task.has_ended() {
        return None;
    }
    let close =
        |(entry, hashes): (SystemReceipt, Vec<u8>)| SystemReceipt { evidence: Digest::of(&hashes), ..entry };
    Some(Receipt { systems: systems.into_values().map(close).collect() })
}

/// An intent that nobody knows of yet.
#[derive(Debug)]
pub struct Wanted {
    at: JudgedAt,
    intent: Intent,
}

/// The right to create exactly one credential, proven by an intent that is in the log.
///
/// It cannot be built, copied or cloned outside this module:
///
/// ```compile_fail
/// fn forge(intent: bailiwick_core::lease::Intent) -> bailiwick_core::lease::Mandate {
///     bailiwick_core::lease::Mandate { intent }
/// }
/// ```
#[derive(Debug)]
pub struct Mandate {
    intent: Intent,
}

impl Mandate {
    /// What was recorded.
    pub fn intent(&self) -> &Intent {
        &self.intent
    }
}

/// The most leases that may stand at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// In one task.
    pub per_task: u32,
    /// For one agent, in all its tasks.
    pub per_agent: u32,
    /// In one target.
    pub per_target: u32,
}

impl Default for Quota {
    fn default() -> Self {
        Quota { per_task: 64, per_agent: 256, per_target: 2000 }
    }
}

/// What the engine adds to a permit: names and the plan that a connector made.
#[derive(Debug, Clone)]
pub struct Terms {
    /// The id of the lease to come.
    pub lease: LeaseId,
    /// Its name in the target.
    pub name: String,
    /// What the scope is narrowed with.
    pub args: BTreeMap<String, Value>,
    /// When it ends at the latest; never beyond its grant.
    pub until: Time,
    /// What takes it away.
    pub class: Revocability,
    /// Hash of the plan.
    pub plan: Digest,
}

impl Wanted {
    /// Judges whether a permitted call may become a lease now. One permit makes one lease; its grant still lives;
    /// the task holds no more than its quota.
    ///
    /// # Errors
    /// Why not.
    pub fn judge(scene: Scene<'_>, permit: &Permit, terms: Terms, quota: Quota) -> Result<Wanted, Why> {
        let scene = scene.in_log_time();
        let task = scene.task;
        let grant =
            task.grant(permit.grant()).ok_or_else(|| refuse("lease.grant", "its grant is not known"))?;
        let system = SystemId::parse(permit.tool().system())
            .map_err(|_| refuse("lease.system", "the tool names no system"))?;
        if task.leases().any(|l| l.intent.decision == *permit.decision()) {
            return Err(refuse("lease.used", "this decision has had its lease; ask again for another"));
        }
        if task.leases().filter(|l| l.is_standing()).count() >= quota.per_task as usize {
            let reason = format!("this task holds {} credentials already, its limit", quota.per_task);
            return Err(refuse("lease.quota_task", &reason));
        }
        let above = task.lineage(grant).map(|g| g.until).min().unwrap_or(scene.now);
        let until = terms.until.min(above).min(task.opening().limits.until);
        let intent = Intent {
            lease: terms.lease,
            grant: grant.id.clone(),
            agent: grant.agent.clone(),
            decision: permit.decision().clone(),
            system,
            tool: permit.tool().clone(),
            args: terms.args,
            name: terms.name,
            until,
            class: terms.class,
            plan: terms.plan,
        };
        let lease = Lease::new(intent, scene.now);
        if scene.now >= permit.until() {
            return Err(refuse("lease.late", "the decision is too old to act on; ask again"));
        }
        match must_end(scene.registry, task, &lease, scene.now) {
            Some(why) => Err(refuse("lease.not_live", &why)),
            None => Ok(Wanted { at: scene.judged_at(), intent: lease.intent }),
        }
    }

    /// The event to append at the version that was read.
    pub fn event(&self) -> TaskEvent {
        TaskEvent::LeaseRequested(self.intent.clone())
    }

    /// Makes it so: runs the append and, only if it succeeded, gives the mandate. The closure gets
    /// the versions it was judged on, and must return success only when both still stood there and the event is
    /// durable.
    ///
    /// # Errors
    /// Whatever the append says; then there is no mandate.
    pub async fn commit<E>(
        self,
        append: impl AsyncFnOnce(JudgedAt, TaskEvent) -> Result<(), E>,
    ) -> Result<Mandate, E> {
        append(self.at, self.event()).await?;
        Ok(Mandate { intent: self.intent })
    }
}

fn refuse(code: &str, reason: &str) -> Why {
    Why {
        step: 10,
        code: code.to_string(),
        rule: "lease".to_string(),
        reason: reason.to_string(),
        remedy: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    fn lease() -> Lease {
        let intent = Intent {
            lease: LeaseId::parse("l-abc-1").unwrap(),
            grant: GrantId::parse("g-abc-0").unwrap(),
            agent: AgentId::parse("reporter").unwrap(),
            decision: DecisionId::parse("d-abc-1").unwrap(),
            system: SystemId::parse("shop").unwrap(),
            tool: ToolId::parse("shop.read_orders").unwrap(),
            args: BTreeMap::new(),
            name: "bw_test_abc_1".to_string(),
            until: Time(1_000),
            class: Revocability::B,
            plan: Digest::of(b"plan"),
        };
        Lease::new(intent, Time(0))
    }

    fn looked(times: usize) -> LeaseFact {
        let look = Look { at: Time(9), query: "who".to_string(), answer: "nobody".to_string() };
        LeaseFact::Gone { evidence: Evidence { looks: vec![look; times], ..Evidence::default() } }
    }

    fn any_fact() -> impl Strategy<Value = LeaseFact> {
        let failed = LeaseFact::Failed {
            step: Step::Drop,
            code: "target.unreachable".to_string(),
            reason: "no route".to_string(),
            attempts: 3,
        };
        prop::sample::select(vec![
            LeaseFact::Created { external: "17".to_string(), effective: Digest::of(b"x") },
            LeaseFact::Active,
            LeaseFact::Used { sessions: 2 },
            LeaseFact::Revoking { why: "over".to_string() },
            failed,
            LeaseFact::Acknowledged { by: "olga".to_string(), reason: "known".to_string() },
            LeaseFact::Found { what: "again".to_string() },
            looked(1),
        ])
    }

    proptest! {
        // proves: R3, R6, Z1
        #[test]
        fn nothing_but_two_looks_makes_a_lease_gone(facts in prop::collection::vec(any_fact(), 0..24)) {
            let mut lease = lease();
            for fact in &facts {
                lease.apply(fact, Time(5));
                prop_assert!(lease.is_standing(), "{fact:?}");
            }
            lease.apply(&looked(2), Time(6));
            prop_assert!(!lease.is_standing());
        }

        // proves: R3, A54
        #[test]
        fn what_was_seen_gone_stands_again_only_when_it_is_found(facts in prop::collection::vec(any_fact(), 0..24)) {
            let mut lease = lease();
            lease.apply(&looked(2), Time(1));
            for fact in &facts {
                let found = matches!(fact, LeaseFact::Found { .. });
                let stands = lease.is_standing() || found;
                lease.apply(fact, Time(2));
                prop_assert_eq!(lease.is_standing(), stands);
            }
        }

        // proves: R3
        #[test]
        fn no_fact_but_a_creation_makes_a_credential_usable_and_none_ends_its_revocation(
            facts in prop::collection::vec(any_fact(), 0..24)
        ) {
            let mut lease = lease();
            let mut revoking = false;
            for fact in &facts {
                lease.apply(fact, Time(3));
                revoking |= matches!(fact, LeaseFact::Revoking { .. } | LeaseFact::Failed { .. });
                let is_revoking = matches!(lease.state, LeaseState::Revoking { .. });
                prop_assert!(is_revoking || !revoking);
                if lease.state == LeaseState::Active {
                    prop_assert!(lease.external.is_some());
                }
            }
        }
    }

    #[test]
    fn acknowledging_a_debt_does_not_close_it() {
        let mut lease = lease();
        lease.apply(&LeaseFact::Revoking { why: "over".to_string() }, Time(0));
        assert!(!lease.is_debt(Time(1)));
        assert!(lease.is_debt(Time(DEBT_AFTER_MS + 1)), "a revocation that hangs is debt");
        let failed = LeaseFact::Failed {
            step: Step::Block,
            code: "target.unreachable".to_string(),
            reason: "no route".to_string(),
            attempts: 1,
        };
        lease.apply(&failed, Time(1));
        lease.apply(
            &LeaseFact::Acknowledged { by: "olga".to_string(), reason: "the machine is off".to_string() },
            Time(2),
        );
        assert!(lease.is_debt(Time(3)) && lease.is_standing());
    }
}
