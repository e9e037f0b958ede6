//! What one set of policies would do differently from another: acts tried out; for a proof see [`proof`](crate::proof).
//!
//! Every agent, every tool and every handoff is tried under the conditions that policies can see: what is touched,
//! what was read before, whether the act was declared, whether its values are explained, amounts and hours. Where the
//! two sets answer differently, the acts are told apart by what changed and by the rule that speaks; each group keeps
//! its first act as an example. What no act shows may still differ.

use std::collections::{BTreeMap, BTreeSet};

use bailiwick_core::agent::Agent;
use bailiwick_core::decision::resource;
use bailiwick_core::ids::{PrincipalId, StepId, TaskId};
use bailiwick_core::label::{Label, Level};
use bailiwick_core::time::Time;
use bailiwick_core::tool::Manifest;
use bailiwick_core::value::Value;
use bailiwick_core::verdict::{Deed, Facts, Flow, Policy as _, Verdict};

use crate::explain::in_words;
use crate::set::CompiledSet;

/// The most acts that are tried.
pub const ACTS_MAX: usize = 200_000;
/// Monday 2026-11-23, 12:00 UTC.
const WORKDAY: Time = Time(1_795_435_200_000);
/// Saturday 2026-11-28, 23:00 UTC.
const WEEKEND: Time = Time(1_795_906_800_000);

/// What a change does to an act, the gravest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// It was refused or asked about, and is allowed.
    Allowed,
    /// It was refused, and a person is asked.
    AskedInsteadOfDenied,
    /// It was allowed, and a person is asked.
    AskedInsteadOfAllowed,
    /// Other people are asked, or more or fewer of them.
    AskedOtherwise,
    /// It was allowed or asked about, and is refused.
    Denied,
}

impl Change {
    /// The word in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Change::Allowed => "newly_allowed",
            Change::AskedInsteadOfDenied => "asked_not_denied",
            Change::AskedInsteadOfAllowed => "asked_not_allowed",
            Change::AskedOtherwise => "asked_otherwise",
            Change::Denied => "newly_denied",
        }
    }

    /// What changes from one verdict to the other, if anything that matters does. A refusal by another rule is
    /// still a refusal.
    pub fn between(old: &Verdict, new: &Verdict) -> Option<Change> {
        use Verdict::{Ask, Error, Forbid, Permit};
        match (old, new) {
            (Permit { .. }, Permit { .. }) | (Forbid { .. } | Error { .. }, Forbid { .. } | Error { .. }) => {
                None
            }
            (Ask { terms: a, .. }, Ask { terms: b, .. }) => (a != b).then_some(Change::AskedOtherwise),
            (_, Permit { .. }) => Some(Change::Allowed),
            (Permit { .. }, Ask { .. }) => Some(Change::AskedInsteadOfAllowed),
            (_, Ask { .. }) => Some(Change::AskedInsteadOfDenied),
            (_, Forbid { .. } | Error { .. }) => Some(Change::Denied),
        }
    }
}

/// Acts that change alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// How.
    pub change: Change,
    /// Who does what.
    pub act: String,
    /// Under which conditions, for the example.
    pub when: String,
    /// What the old set says.
    pub old: String,
    /// What the new set says.
    pub new: String,
    /// How many of the acts that were tried.
    pub acts: usize,
    /// Whether it is a handoff, which cannot wait for a person.
    pub handoff: bool,
}

/// What trying came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Differences {
    /// How many acts were tried.
    pub tried: usize,
    /// Whether there were more than could be tried.
    pub cut: bool,
    /// What differs, the gravest first.
    pub found: Vec<Difference>,
}

/// Tries out every act that agents and tools make possible. Both sets must be compiled for these agents and tools.
pub fn differences(
    old: &CompiledSet,
    new: &CompiledSet,
    agents: &[Agent],
    tools: &[Manifest],
) -> Differences {
    let mut trial = Trial { old, new, out: Differences::default(), groups: BTreeMap::new() };
    let Some(stage) = Stage::new() else { return trial.out };
    for agent in agents {
        for tool in tools {
            trial.call(&stage, agent, tool);
        }
        for child in agents.iter().filter(|child| child.id != agent.id) {
            trial.handoff(&stage, agent, child);
        }
    }
    trial.out.found = trial.groups.into_values().collect();
    trial.out.found.sort_by(|a, b| (a.change, &a.act).cmp(&(b.change, &b.act)));
    trial.out
}

/// The people and names of every act.
struct Stage {
    initiator: PrincipalId,
    task: TaskId,
    step: StepId,
}

impl Stage {
    fn new() -> Option<Stage> {
        Some(Stage {
            initiator: PrincipalId::parse("somebody@example.org").ok()?,
            task: TaskId::parse("t-example").ok()?,
            step: StepId::parse("step").ok()?,
        })
    }
}

type Group = (Change, String, String, String);

struct Trial<'a> {
    old: &'a CompiledSet,
    new: &'a CompiledSet,
    out: Differences,
    groups: BTreeMap<Group, Difference>,
}

impl Trial<'_> {
    fn call(&mut self, stage: &Stage, agent: &Agent, tool: &Manifest) {
        for args in arguments(tool) {
            let steering: BTreeSet<String> =
                tool.args.iter().filter(|(_, a)| a.role.steers()).map(|(n, _)| n.clone()).take(1).collect();
            let touched = args.as_map().map(|args| resource(tool, args));
            // The strictest case: nothing is the organisation's own, and no step has fixed a word.
            let flow =
                args.as_map().map(|args| Flow::of(tool, args, |_| false, |_| false)).unwrap_or_default();
            for (declared, unexplained) in [(true, false), (true, true), (false, false), (false, true)]
                .into_iter()
                .filter(|(_, u)| !u || !steering.is_empty())
            {
                let none = BTreeSet::new();
                for (seen, label) in labels() {
                    for (hour, now) in [("on a workday", WORKDAY), ("on a weekend night", WEEKEND)] {
                        let facts = Facts {
                            deed: Deed::Call(tool),
                            agent,
                            initiator: &stage.initiator,
                            task: &stage.task,
                            has_chain: declared,
                            step: declared.then_some(&stage.step),
                            depth: 1,
                            resource: touched.clone(),
                            args: &args,
                            label: &label,
                            unexplained: if unexplained { &steering } else { &none },
                            flow: &flow,
                            approval: None,
                            now,
                            remaining_ms: 600_000,
                        };
                        let when = || {
                            let declared = if declared { "a declared step" } else { "no chain" };
                            let known = if unexplained { ", a value nobody vouches for" } else { "" };
                            format!("{} {declared}{known}, {seen}, {hour}", args.canonical())
                        };
                        self.weigh(&format!("{} calls {}", agent.id, tool.tool), when, &facts);
                    }
                }
            }
        }
    }

    fn handoff(&mut self, stage: &Stage, agent: &Agent, child: &Agent) {
        let args = Value::from([("summary", Value::from("text"))]);
        for (seen, label) in labels() {
            let facts = Facts {
                deed: Deed::HandOff(child),
                agent,
                initiator: &stage.initiator,
                task: &stage.task,
                has_chain: true,
                step: Some(&stage.step),
                depth: 0,
                resource: None,
                args: &args,
                label: &label,
                unexplained: &BTreeSet::new(),
                flow: &Flow::default(),
                approval: None,
                now: WORKDAY,
                remaining_ms: 600_000,
            };
            self.weigh(&format!("{} hands to {}", agent.id, child.id), || seen.to_owned(), &facts);
        }
    }

    fn weigh(&mut self, act: &str, when: impl Fn() -> String, facts: &Facts<'_>) {
        if self.out.tried >= ACTS_MAX {
            self.out.cut = true;
            return;
        }
        self.out.tried += 1;
        let (old, new) = (self.old.evaluate(facts), self.new.evaluate(facts));
        let Some(change) = Change::between(&old, &new) else { return };
        let (old, new) = (in_words(&old), in_words(&new));
        let group = (change, act.to_owned(), old.clone(), new.clone());
        let handoff = matches!(facts.deed, Deed::HandOff(_));
        let fresh = || Difference { change, act: act.to_owned(), when: when(), old, new, acts: 0, handoff };
        self.groups.entry(group).or_insert_with(fresh).acts += 1;
    }
}

/// What was read before.
fn labels() -> [(&'static str, Label); 3] {
    let untrusted = Label::untrusted("a stranger");
    let private = Label { level: Level::Confidential, ..untrusted.clone() };
    [
        ("nothing read", Label::bottom()),
        ("after untrusted data", untrusted),
        ("after untrusted and confidential data", private),
    ]
}

/// Arguments worth trying: each known resource and an unknown one, and amounts of different size.
fn arguments(tool: &Manifest) -> Vec<Value> {
    let spec = tool.resource.as_ref();
    let mut names: Vec<&str> =
        spec.into_iter().flat_map(|s| s.known.keys()).map(String::as_str).take(6).collect();
    names.push("something-else");
    let amounts: &[i64] = if tool.amount_arg().is_some() { &[1, 1_000, 1_000_000] } else { &[1] };
    let from = spec.and_then(|s| s.from.as_deref());
    let names = if from.is_some() { names } else { vec!["something-else"] };
    let filled = |name: &str, amount: i64| {
        let value = |arg: &String| match () {
            () if Some(arg.as_str()) == tool.amount_arg() => Value::Int(amount),
            () if Some(arg.as_str()) == from => Value::from(name),
            () => Value::from("something"),
        };
        Value::Map(tool.args.keys().map(|arg| (arg.clone(), value(arg))).collect())
    };
    names.iter().flat_map(|name| amounts.iter().map(|amount| filled(name, *amount))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SchemaInputs, Source, compile};
    use bailiwick_core::ids::{AgentClass, AgentId, ToolId};
    use bailiwick_core::tool::{Effect, ResourceSpec, Role};

    fn world() -> (Vec<Agent>, Vec<Manifest>) {
        let agent = |name: &str| Agent {
            id: AgentId::parse(name).unwrap(),
            owner: PrincipalId::parse("dana").unwrap(),
            class: AgentClass::parse("ops").unwrap(),
            ceiling: Vec::new(),
            keys: BTreeSet::new(),
        };
        let mut restart = Manifest::new(ToolId::parse("cloud.restart").unwrap(), Effect::Update)
            .arg("name", Role::Selector);
        let env = |v: &str| BTreeMap::from([("env".to_owned(), v.to_owned())]);
        restart.resource = Some(ResourceSpec {
            kind: "Vm".to_owned(),
            from: Some("name".to_owned()),
            known: BTreeMap::from([("db-1".to_owned(), env("prod")), ("web-3".to_owned(), env("test"))]),
        });
        let read =
            Manifest::new(ToolId::parse("tickets.get").unwrap(), Effect::Read).arg("id", Role::Selector);
        (vec![agent("support"), agent("ops")], vec![restart, read])
    }

    fn between(old: &str, new: &str) -> Vec<(Change, String)> {
        let (agents, tools) = world();
        let inputs = SchemaInputs::new(&tools, &agents).unwrap();
        let set = |text: &str| compile(&[Source::new("p.cedar", text)], &inputs).unwrap();
        let found = differences(&set(old), &set(new), &agents, &tools);
        assert!(found.tried > 20 && !found.cut);
        found
            .found
            .into_iter()
            .map(|d| (d.change, format!("{} {}: {} → {}", d.act, d.when, d.old, d.new)))
            .collect()
    }

    const ALL: &str = "@id(\"all\") permit (principal, action, resource);\n";

    // proves: D2
    #[test]
    fn what_is_tightened_and_what_is_loosened_is_told_with_an_example() {
        assert_eq!(between(ALL, ALL), []);
        let prod = format!(
            "{ALL}@id(\"prod\") forbid (principal == Agent::\"ops\", action in Action::\"write\", resource is Vm) when {{ resource has env && resource.env == \"prod\" }};"
        );
        let tighter = between(ALL, &prod);
        assert_eq!(tighter.len(), 1, "{tighter:?}");
        assert!(
            tighter[0].0 == Change::Denied
                && tighter[0].1.starts_with("ops calls cloud.restart {\"name\":\"db-1\"}"),
            "{tighter:?}"
        );
        let looser = between(&prod, ALL);
        assert!(looser.len() == 1 && looser[0].0 == Change::Allowed, "{looser:?}");
        let asks = prod.replace("@id(\"prod\")", "@id(\"prod\") @ask");
        assert_eq!(between(&prod, &asks)[0].0, Change::AskedInsteadOfDenied);
        assert_eq!(between(ALL, &asks)[0].0, Change::AskedInsteadOfAllowed);
        assert_eq!(between(&asks, &asks.replace("@ask", "@ask(\"sre\")"))[0].0, Change::AskedOtherwise);
    }

    #[test]
    fn conditions_on_labels_hours_chains_and_handoffs_are_reached() {
        for condition in [
            "forbid (principal, action, resource) when { context.untrusted && context.confidential }",
            "forbid (principal, action in Action::\"write\", resource) when { context.weekday_utc >= 6 }",
            "forbid (principal, action in Action::\"write\", resource) when { !context.has_chain }",
            "forbid (principal, action in Action::\"write\", resource) when { context.unexplained.contains(\"name\") }",
            "forbid (principal, action == Action::\"handoff\", resource) when { context.untrusted }",
        ] {
            let found = between(ALL, &format!("{ALL}@id(\"new\") {condition};"));
            assert!(
                !found.is_empty() && found.iter().all(|(c, _)| *c == Change::Denied),
                "{condition}: {found:?}"
            );
        }
    }
}
