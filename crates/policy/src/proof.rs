//! What a solver has to be asked to prove what one set of policies does differently from another.
//!
//! Nothing here runs a solver. [`Questions::between`] says what to ask: for every tool and for handoffs, for every
//! class of agents, and for every yes that people could have given, whether one set lets an act through that the other
//! does not. The two ways are asked apart: *wider* (what the new set lets through is let through by the old) and
//! *narrower*. Rules that are the same on both sides answer a question without a solver. What a solver names as a
//! counterexample is put back into the facts of an act and judged by both sets themselves ([`Questions::confirm`]);
//! what they do not confirm is no counterexample.
//!
//! Where Cedar and a [`CompiledSet`] differ, the questions follow the set:
//! - A rule of another class does not speak; a rule that is only observed enforces nothing.
//! - A yes lifts the rules marked `@ask` that it reaches. So one question is asked for each different yes (nobody's,
//!   and of each group that is asked, as many people as some rule wants, with the initiator among them or not).
//! - A rule that fails denies, where Cedar would pass it over. So the rules in [`Question::must_not_fail`] have to be
//!   proved never to fail before an answer counts.

mod example;
mod world;

use std::collections::BTreeSet;
use std::str::FromStr as _;

use bailiwick_core::agent::{APPROVERS, Agent};
use bailiwick_core::ids::GroupId;
use bailiwick_core::tool::Manifest;
use cedar_policy::{
    ActionConstraint, EntityUid, Policy, PolicyId, PolicySet, RequestEnv, ResourceConstraint, Schema,
};

pub use example::Example;

use crate::needs::Needs;
use crate::rule::Rule;
use crate::schema::{HANDOFF, SchemaInputs, ToolShape, groups};
use crate::set::CompiledSet;
use world::{Literals, World};

/// The most questions that are made; what would be more is left unasked, and said to be.
pub const QUESTIONS_MAX: usize = 20_000;

/// Which way a change goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// The new set lets through what the old one did not.
    Wider,
    /// The old set let through what the new one does not.
    Narrower,
}

impl Way {
    /// The word in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Way::Wider => "wider",
            Way::Narrower => "narrower",
        }
    }
}

/// A yes that stands when the act is judged.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Yes {
    /// The group that was asked.
    pub group: GroupId,
    /// How many people said it.
    pub people: u8,
    /// Whether the initiator is one of them.
    pub initiator: bool,
}

impl Yes {
    fn lifts(&self, rule: &Rule) -> bool {
        rule.ask.as_ref().is_some_and(|ask| {
            let counted = self.people - u8::from(self.initiator && !ask.initiator_may);
            counted >= ask.quorum && ask.group.as_ref().is_none_or(|group| *group == self.group)
        })
    }

    /// In words, for people.
    pub fn in_words(&self) -> String {
        let people =
            if self.people == 1 { "one person".to_owned() } else { format!("{} people", self.people) };
        let initiator = if self.initiator { ", the initiator among them" } else { "" };
        format!("with the yes of {people} of {}{initiator}", self.group)
    }
}

/// The agents a question is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Class {
    /// All: no rule looks at classes.
    Any,
    /// Those of one class.
    Of(String),
    /// Those of no class that is registered or named by a rule.
    Other,
}

/// One question. It is answered *no* by a proof that no act is let through by `lets` and not by `covers`.
#[derive(Debug)]
pub struct Question {
    /// Which way.
    pub way: Way,
    /// Whose acts, in words.
    pub about: String,
    /// The yes that stands.
    pub yes: Option<Yes>,
    /// What principals, actions and resources are in it.
    pub env: RequestEnv,
    /// The rules that must not let more through, for whatever could ever be registered.
    pub lets: PolicySet,
    /// The same for what is registered today.
    pub lets_today: PolicySet,
    /// The rules they are held against.
    pub covers: PolicySet,
    /// Rules that must be proved never to fail, or nothing is proved: the other side does not have them.
    pub must_not_fail: Vec<Policy>,
    /// The tool's place; `None`: a handoff.
    pub(crate) tool: Option<usize>,
    pub(crate) class: Class,
    /// Arguments as one would write them, for an example.
    args: Vec<String>,
    /// What the rules look at.
    pub(crate) needs: Needs,
}

impl Question {
    /// What an example is easier to read without, in the order in which it is to be tried; as far as rules look at it.
    pub fn plainer(&self) -> Vec<String> {
        let of_members = PLAINER.iter().filter(|(member, _)| self.needs.has(member));
        let of_args = self.args.iter().filter(|_| self.needs.has("args"));
        of_members.map(|(_, fact)| (*fact).to_owned()).chain(of_args.cloned()).collect()
    }

    /// The rules that must not let more through today, where these facts hold as well.
    pub fn assuming(&self, facts: &[String]) -> Result<PolicySet, String> {
        let mut set = self.lets_today.clone();
        let facts: Vec<&str> = facts.iter().map(String::as_str).collect();
        assume(&mut set, "plainer", &facts)?;
        Ok(set)
    }

    /// Questions about the same acts, whatever the yes: once one of them is answered *yes, this act*, the others need
    /// not be asked.
    pub fn subject(&self) -> (Way, &str) {
        (self.way, &self.about)
    }
}

/// What there is to ask about two sets.
#[derive(Debug)]
pub struct Questions<'a> {
    old: &'a CompiledSet,
    new: &'a CompiledSet,
    agents: &'a [Agent],
    tools: &'a [Manifest],
    /// The schema that both sets and all questions speak.
    pub schema: Schema,
    /// The questions, those about what becomes wider first.
    pub asked: Vec<Question>,
    /// How many more answer themselves, because the rules are the same on both sides.
    pub same: usize,
    /// Whether there were more than can be asked.
    pub cut: bool,
}

/// One rule with its text.
struct Spoken<'a> {
    rule: &'a Rule,
    policy: Policy,
    /// Effect, head and conditions, without annotations.
    text: String,
}

/// The rules of one side that can speak about some acts.
type Slice<'s, 'a> = Vec<&'s Spoken<'a>>;

impl<'a> Questions<'a> {
    /// The questions about a change from one set to another. Both must be compiled for these agents and tools. The
    /// error says what cannot be put into a question.
    pub fn between(
        old: &'a CompiledSet,
        new: &'a CompiledSet,
        agents: &'a [Agent],
        tools: &'a [Manifest],
    ) -> Result<Questions<'a>, String> {
        let inputs = SchemaInputs::new(tools, agents).map_err(|e| e.to_string())?;
        let schema = Schema::from_str(&inputs.to_cedar()).map_err(|e| e.to_string())?;
        let (asked, same, cut) = (Vec::new(), 0, false);
        let mut questions = Questions { old, new, agents, tools, schema, asked, same, cut };
        let sides = [spoken(old)?, spoken(new)?];
        let literals = Literals::of(sides.iter().flatten().map(|s| s.text.as_str()))?;
        let classes = questions.classes(&sides, &literals);
        let world = World { agents, literals: &literals };
        for way in [Way::Wider, Way::Narrower] {
            for tool in (0..tools.len()).map(Some).chain([None]) {
                for class in &classes {
                    questions.ask(&sides, &world, way, tool, class)?;
                }
            }
        }
        Ok(questions)
    }

    /// The classes that have to be told apart: none, if no rule looks at them.
    fn classes(&self, sides: &[Vec<Spoken<'_>>; 2], literals: &Literals) -> Vec<Class> {
        let own = sides.iter().flatten().filter_map(|s| s.rule.class.as_ref()).map(|c| c.as_str().to_owned());
        let named: BTreeSet<String> = own.chain(literals.of_type("Class").map(str::to_owned)).collect();
        if named.is_empty() {
            return vec![Class::Any];
        }
        let registered = self.agents.iter().map(|agent| agent.class.as_str().to_owned());
        let all: BTreeSet<String> = registered.chain(named).collect();
        all.into_iter().map(Class::Of).chain([Class::Other]).collect()
    }

    fn ask(
        &mut self,
        sides: &[Vec<Spoken<'_>>; 2],
        world: &World<'_>,
        way: Way,
        tool: Option<usize>,
        class: &Class,
    ) -> Result<(), String> {
        let manifest = tool.and_then(|n| self.tools.get(n));
        let place = Place::of(manifest)?;
        let [old, new] = sides.each_ref().map(|side| place.slice(side, class));
        let (from, to) = if way == Way::Wider { (new, old) } else { (old, new) };
        let mut seen = BTreeSet::new();
        for yes in yeses(&from, &to, manifest.is_some()) {
            let (lets, covers) = (standing(&from, yes.as_ref()), standing(&to, yes.as_ref()));
            let names = |slice: &Slice<'_, '_>| -> BTreeSet<String> {
                slice.iter().map(|s| s.text.clone()).collect()
            };
            let (lets_names, covers_names) = (names(&lets), names(&covers));
            let fails_alike = names(&to).is_subset(&names(&from));
            if lets_names == covers_names && fails_alike {
                self.same += 1;
                continue;
            }
            let assumed = yes.as_ref().map(|yes| yes.initiator);
            if !seen.insert((lets_names, covers_names, assumed)) {
                continue;
            }
            if self.asked.len() >= QUESTIONS_MAX {
                self.cut = true;
                return Ok(());
            }
            let facts = world.facts(manifest, class, yes.as_ref());
            let today = world.today(manifest, class);
            let may_fail = |s: &&&Spoken<'_>| !from.iter().any(|f| f.text == s.text);
            self.asked.push(Question {
                way,
                about: about(manifest, class),
                env: RequestEnv::new(uid_type("Agent")?, place.action.clone(), uid_type(&place.kind)?),
                lets: set(&lets, &[&facts])?,
                lets_today: set(&lets, &[&facts, &today])?,
                covers: set(&covers, &[])?,
                must_not_fail: to.iter().filter(may_fail).map(|s| s.policy.clone()).collect(),
                needs: from
                    .iter()
                    .chain(&to)
                    .map(|s| Needs::of(&s.policy))
                    .fold(Needs::default(), Needs::and),
                args: manifest.map(world::plain_args).unwrap_or_default(),
                yes,
                tool,
                class: class.clone(),
            });
        }
        Ok(())
    }
}

/// Every enforced rule of a set, with its text.
fn spoken(set: &CompiledSet) -> Result<Vec<Spoken<'_>>, String> {
    let mut all = Vec::new();
    for policy in set.policies().values() {
        let rule = set.rule(policy.id().as_ref()).ok_or("a rule without a name")?;
        if rule.observe {
            continue;
        }
        let mut tree = policy.to_json().map_err(|e| e.to_string())?;
        if let Some(members) = tree.as_object_mut() {
            members.remove("annotations");
        }
        all.push(Spoken { rule, policy: policy.clone(), text: tree.to_string() });
    }
    Ok(all)
}

/// Which rules' heads can speak about an action.
struct Place {
    action: EntityUid,
    actions: BTreeSet<String>,
    kind: String,
}

impl Place {
    fn of(manifest: Option<&Manifest>) -> Result<Place, String> {
        let name = manifest.map_or(HANDOFF, |m| m.tool.as_str());
        let above = manifest.map_or(&[][..], |m| groups(m.effect));
        Ok(Place {
            action: world::uid("Action", name)?,
            actions: above.iter().copied().chain([name]).map(str::to_owned).collect(),
            kind: manifest.map_or_else(|| "Agent".to_owned(), |m| ToolShape::of(m).kind),
        })
    }

    fn slice<'s, 'a>(&self, side: &'s [Spoken<'a>], class: &Class) -> Slice<'s, 'a> {
        side.iter().filter(|s| self.speaks(&s.policy) && speaks_to(s.rule, class)).collect()
    }

    fn speaks(&self, policy: &Policy) -> bool {
        let of_action = match policy.action_constraint() {
            ActionConstraint::Any => true,
            ActionConstraint::Eq(uid) => self.actions.contains(uid.id().unescaped()),
            ActionConstraint::In(uids) => uids.iter().any(|uid| self.actions.contains(uid.id().unescaped())),
        };
        of_action
            && match policy.resource_constraint() {
                ResourceConstraint::Is(kind) | ResourceConstraint::IsIn(kind, _) => {
                    kind.to_string() == self.kind
                }
                _ => true,
            }
    }
}

fn speaks_to(rule: &Rule, class: &Class) -> bool {
    match (&rule.class, class) {
        (None, _) => true,
        (Some(own), Class::Of(class)) => own.as_str() == class,
        (Some(_), Class::Any | Class::Other) => false,
    }
}

/// The rules that stand when this yes was given.
fn standing<'s, 'a>(slice: &Slice<'s, 'a>, yes: Option<&Yes>) -> Slice<'s, 'a> {
    slice.iter().copied().filter(|s| !yes.is_some_and(|yes| yes.lifts(s.rule))).collect()
}

/// Nobody's yes, and every one that some rule tells from the others.
fn yeses(from: &Slice<'_, '_>, to: &Slice<'_, '_>, can_wait: bool) -> Vec<Option<Yes>> {
    let asks: Vec<_> = from.iter().chain(to).filter_map(|s| s.rule.ask.as_ref()).collect();
    let mut all = vec![None];
    if asks.is_empty() || !can_wait {
        return all;
    }
    let groups: BTreeSet<GroupId> =
        asks.iter().filter_map(|ask| ask.group.clone()).chain(GroupId::parse(APPROVERS)).collect();
    let quorums: BTreeSet<u8> = asks.iter().map(|ask| ask.quorum).collect();
    let with_initiator: BTreeSet<u8> = quorums.iter().flat_map(|q| [*q, q.saturating_add(1)]).collect();
    for group in groups {
        let of = |people: u8, initiator: bool| Some(Yes { group: group.clone(), people, initiator });
        all.extend(quorums.iter().map(|people| of(*people, false)));
        all.extend(with_initiator.iter().map(|people| of(*people, true)));
    }
    all
}

/// Rules as a set, and the facts that hold of every act: what does not fit them is no act, and nothing lets it through.
fn set(rules: &Slice<'_, '_>, facts: &[&str]) -> Result<PolicySet, String> {
    let mut set =
        PolicySet::from_policies(rules.iter().map(|s| s.policy.clone())).map_err(|e| e.to_string())?;
    assume(&mut set, "facts", facts)?;
    Ok(set)
}

fn assume(set: &mut PolicySet, name: &str, facts: &[&str]) -> Result<(), String> {
    for (n, facts) in facts.iter().enumerate() {
        // Names of rules have no space.
        let text = format!("forbid (principal, action, resource) unless {{ {facts} }};");
        let id = PolicyId::new(format!("{name} {n}"));
        let policy = Policy::parse(Some(id), text).map_err(|e| e.to_string())?;
        set.add(policy).map_err(|e| e.to_string())?;
    }
    Ok(())
}

/// What an act looks like if nothing is special about it, by member of the context.
const PLAINER: [(&str, &str); 16] = [
    ("depth", "context.depth == 1"),
    ("level", "context.level == \"public\""),
    ("confidential", "!context.confidential"),
    ("untrusted", "!context.untrusted"),
    ("origins", "[\"a stranger\"].containsAll(context.origins)"),
    ("classes", "context.classes.isEmpty()"),
    ("unexplained", "context.unexplained.isEmpty()"),
    ("carries", "context.carries.isEmpty()"),
    ("outward", "!context.outward"),
    ("destinations", "[\"elsewhere.example\"].containsAll(context.destinations)"),
    ("step", "!(context has step)"),
    ("has_chain", "!context.has_chain"),
    ("hour_utc", "context.hour_utc == 12"),
    ("weekday_utc", "context.weekday_utc == 1"),
    ("remaining_ms", "context.remaining_ms == 600000"),
    ("initiator", "context.initiator == Person::\"somebody@example.org\""),
];

fn about(manifest: Option<&Manifest>, class: &Class) -> String {
    let who = match class {
        Class::Any => "agents".to_owned(),
        Class::Of(class) => format!("agents of class {class}"),
        Class::Other => "agents of any other class".to_owned(),
    };
    match manifest {
        Some(manifest) => format!("{who} calling {}", manifest.tool),
        None => format!("{who} handing on"),
    }
}

fn uid_type(name: &str) -> Result<cedar_policy::EntityTypeName, String> {
    name.parse().map_err(|_| format!("`{}` is no name for a type", name.escape_default()))
}

#[cfg(test)]
mod tests;
