//! The setting: who is registered, what the task is, and what needs a person.

use std::collections::{BTreeMap, BTreeSet};

use bailiwick_core::agent::{Agent, Person};
use bailiwick_core::approval::AskTerms;
use bailiwick_core::capability::Capability;
use bailiwick_core::chain::{Act, Chain, Step};
use bailiwick_core::constraint::{Constraint, texts};
use bailiwick_core::event::{Opening, TaskLimits};
use bailiwick_core::registry::{Registry, RegistryEvent};
use bailiwick_core::tool::{Effect, Manifest, Role, ToolPattern};
use bailiwick_core::verdict::{Facts, Policy, Verdict};
use bailiwick_core::{
    AgentId, ApprovalId, BadId, Digest, GrantId, GroupId, PrincipalId, Time, ToolId, Value,
};

use super::{What, Who};

/// A policy of these models: a forced restart waits for a person.
pub(super) struct Gate;

impl Policy for Gate {
    fn evaluate(&self, facts: &Facts<'_>) -> Verdict {
        let forced = facts.args.get("force") == Some(&Value::Bool(true));
        if forced && facts.approval.is_none() {
            let terms =
                AskTerms { group: id("approvers"), quorum: 1, initiator_may: false, ttl_ms: 1_000_000 };
            return Verdict::Ask { rule: "forced".to_owned(), reason: "forced".to_owned(), terms };
        }
        Verdict::Permit { rules: vec!["permit".to_owned()] }
    }
    fn version(&self) -> Digest {
        Digest::of(b"gate")
    }
}

pub(super) const NOW: Time = Time(1_000);
/// When the task's window closes.
pub(super) const UNTIL: Time = Time(1_000_000);
pub(super) const RESTART: &str = "cloud.restart";
pub(super) const TELL: &str = "mail.tell";
/// How often a restart may be made in all.
pub(super) const RESTARTS: u8 = 2;

pub(super) fn id<T: core::str::FromStr<Err = BadId>>(text: &str) -> T {
    text.parse().unwrap_or_else(|error| panic!("a name of this model: {error}"))
}

pub(super) fn pattern(text: &str) -> ToolPattern {
    ToolPattern::exact(&id(text))
}

impl Who {
    fn name(self) -> &'static str {
        match self {
            Who::Planner => "planner",
            Who::Executor => "executor",
        }
    }
    pub(super) fn agent(self) -> AgentId {
        id(self.name())
    }
    pub(super) fn key(self) -> String {
        format!("key-of-{}", self.name())
    }
    pub(super) fn grant(self) -> GrantId {
        id(match self {
            Who::Planner => "g-root",
            Who::Executor => "g-child",
        })
    }
    /// Each agent asks one question in its life here.
    pub(super) fn question(self) -> ApprovalId {
        id(&format!("ap-{}", self.name()))
    }
    /// Whether what happens to `above` happens to this one too.
    pub(super) fn is_under(self, above: Who) -> bool {
        above == Who::Planner || self == above
    }
}

impl What {
    pub(super) fn tool(self) -> ToolId {
        id(if self == What::Tell { TELL } else { RESTART })
    }
    pub(super) fn args(self) -> Value {
        let forced = |vm: &str| Value::from([("force", Value::Bool(true)), ("vm", Value::from(vm))]);
        match self {
            What::Plain => Value::from([("vm", Value::from("db-1"))]),
            What::ForcedOne => forced("db-1"),
            What::ForcedTwo => forced("db-2"),
            What::Tell => Value::empty(),
        }
    }
}

pub(super) fn registry() -> Registry {
    let by: PrincipalId = id("root");
    let mut registry = Registry::default();
    for who in [Who::Planner, Who::Executor] {
        let agent = Agent {
            id: who.agent(),
            owner: by.clone(),
            class: id("workers"),
            ceiling: vec![Capability::to_use(pattern(RESTART)), Capability::to_use(pattern(TELL))],
            keys: [who.key()].into(),
        };
        registry.apply(&RegistryEvent::AgentSet { agent, by: by.clone() });
    }
    for (name, groups) in [("dana", vec![]), ("erin", vec![id::<GroupId>("approvers")])] {
        let groups = groups.into_iter().collect();
        let person = Person { id: id(name), groups, workload: false, keys: BTreeSet::new() };
        registry.apply(&RegistryEvent::PersonSet { person, by: by.clone() });
    }
    let restart = Manifest { reversible: true, ..Manifest::new(id(RESTART), Effect::Update) };
    let tell = Manifest { reversible: true, ..Manifest::new(id(TELL), Effect::Create) };
    for manifest in [restart.arg("vm", Role::Selector).arg("force", Role::Free), tell] {
        registry.apply(&RegistryEvent::ToolClassified { manifest, pin: None, by: by.clone() });
    }
    registry
}

fn step(name: &str, who: Who, act: Act, after: &[&str], min: u32, max: u32) -> Step {
    Step { id: id(name), agent: who.agent(), act, after: after.iter().map(|s| id(s)).collect(), min, max }
}

pub(super) fn opening() -> Opening {
    let restart = || Act::Call {
        tool: pattern(RESTART),
        args: [("vm", Constraint::Any), ("force", Constraint::Any)].map(|(n, c)| (n.to_owned(), c)).into(),
    };
    let tell = Act::Call { tool: pattern(TELL), args: BTreeMap::new() };
    let hand = Act::HandOff { to: Who::Executor.agent(), pass: Default::default(), drop: BTreeSet::new() };
    let steps = vec![
        step("hand", Who::Planner, hand, &[], 0, 1),
        step("fix-first", Who::Planner, restart(), &[], 0, 5),
        step("fix", Who::Executor, restart(), &[], 1, 5),
        step("tell", Who::Planner, tell, &["fix"], 1, 1),
    ];
    let mut root = Capability::to_delegate(pattern(RESTART), [Who::Executor.agent()], 1);
    root.may_use = true;
    root.limits.uses = Some(u64::from(RESTARTS));
    root.args.insert("vm".to_owned(), texts(&["db-1", "db-2"]));
    Opening {
        task: id("t-1"),
        initiator: id("dana"),
        intent: "Restart what hangs".to_owned(),
        inputs: [("vm", "db-1"), ("other", "db-2")].map(|(n, v)| (n.to_owned(), Value::from(v))).into(),
        types: BTreeMap::new(),
        chain: Some(Chain { steps, ..Chain::default() }),
        limits: TaskLimits {
            until: UNTIL,
            asks: 1_000,
            handoffs: 100,
            depth: 2,
            refusals: None,
            seeking: None,
        },
        grant: Who::Planner.grant(),
        agent: Who::Planner.agent(),
        capabilities: vec![root, Capability::to_use(pattern(TELL))],
        template: None,
    }
}
