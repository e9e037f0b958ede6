//! What holds of every act whatever the rules say, in Cedar's terms, so that a solver names no act that cannot be.
//!
//! [`World::facts`] holds for whatever could ever be registered; [`World::today`] for the agents and resources there
//! are. Leaving a fact out makes a question harder to prove and never proves anything false.

use std::collections::{BTreeMap, BTreeSet};

use bailiwick_core::agent::Agent;
use bailiwick_core::tool::{Effect, Manifest, ResourceSpec};
use cedar_policy::{EntityId, EntityUid};
use serde_json::Value as Json;

use super::{Class, Yes, uid_type};
use crate::schema::{HANDOFF, ToolShape};

/// The most agents and resources that are spelled out. Past this, a question about today is one about what could be.
const SPELLED_MAX: usize = 200;

/// Entities that rules name, by type.
#[derive(Debug, Default)]
pub(super) struct Literals(BTreeMap<String, BTreeSet<String>>);

impl Literals {
    /// Those in rules' trees, given as text in Cedar's JSON policy format.
    pub(super) fn of<'t>(trees: impl Iterator<Item = &'t str>) -> Result<Literals, String> {
        let mut literals = Literals::default();
        for tree in trees {
            literals.collect(&serde_json::from_str(tree).map_err(|e| e.to_string())?);
        }
        Ok(literals)
    }

    pub(super) fn of_type(&self, kind: &str) -> impl Iterator<Item = &str> {
        self.0.get(kind).into_iter().flatten().map(String::as_str)
    }

    fn collect(&mut self, tree: &Json) {
        match tree {
            Json::Array(items) => items.iter().for_each(|item| self.collect(item)),
            Json::Object(members) => {
                if let (Some(Json::String(kind)), Some(Json::String(id))) =
                    (members.get("type"), members.get("id"))
                {
                    self.0.entry(kind.clone()).or_default().insert(id.clone());
                }
                members.values().for_each(|member| self.collect(member));
            }
            _ => {}
        }
    }
}

/// What is registered, and what rules name.
pub(super) struct World<'a> {
    pub(super) agents: &'a [Agent],
    pub(super) literals: &'a Literals,
}

impl World<'_> {
    /// What holds of every act of this kind, whatever is registered later.
    pub(super) fn facts(&self, manifest: Option<&Manifest>, class: &Class, yes: Option<&Yes>) -> String {
        let mut all = vec![ALWAYS.to_owned()];
        all.extend(self.of_agents("principal"));
        all.extend(self.of_class(class));
        match manifest {
            Some(manifest) => all.extend(self.of_call(manifest)),
            None => {
                all.push(format!("context.effect == {} && {NOTHING_FLOWS}", quoted(HANDOFF)));
                all.push("context.unexplained.isEmpty()".to_owned());
                all.extend(self.of_agents("resource"));
            }
        }
        all.push(match yes {
            None => "!(context has approval)".to_owned(),
            Some(yes) => {
                let not = if yes.initiator { "" } else { "!" };
                format!("(context has approval && {not}context.approval.by.contains(context.initiator))")
            }
        });
        all.join(" && ")
    }

    /// What holds of the agents and resources that are registered, beside [`facts`](Self::facts).
    pub(super) fn today(&self, manifest: Option<&Manifest>, class: &Class) -> String {
        let of_class = |agent: &&Agent| match class {
            Class::Any => true,
            Class::Of(class) => agent.class.as_str() == class,
            Class::Other => false,
        };
        let mut all = vec![one_of("principal", self.agents.iter().filter(of_class))];
        match manifest {
            Some(manifest) => {
                all.push(
                    if manifest.reversible { "context.reversible" } else { "!context.reversible" }.to_owned(),
                );
                all.extend(args_of(manifest));
                all.extend(manifest.resource.as_ref().and_then(resources));
            }
            None => {
                all.push("context.reversible".to_owned());
                all.push(one_of("resource", self.agents.iter()));
            }
        }
        all.join(" && ")
    }

    /// Agents that rules name are who they are registered as, and nobody is of two classes.
    fn of_agents(&self, who: &str) -> Vec<String> {
        let named = |agent: &&Agent| self.literals.of_type("Agent").any(|id| id == agent.id.as_str());
        let known = self.agents.iter().filter(named).map(|agent| {
            let is = format!("{who} == Agent::{}", quoted(agent.id.as_str()));
            format!("(!({is}) || ({}))", registered(who, agent))
        });
        // Of two classes nothing need be said where no rule names one.
        let named: BTreeSet<&str> = self.literals.of_type("Class").collect();
        let registered = self.agents.iter().map(|a| a.class.as_str()).filter(|_| !named.is_empty());
        let classes: BTreeSet<&str> = registered.chain(named.iter().copied()).collect();
        let apart = classes.iter().map(|class| {
            let others = classes.iter().filter(|other| *other != class).map(|other| within(who, other));
            let others: Vec<String> = others.collect();
            if others.is_empty() {
                "true".to_owned()
            } else {
                format!("(!({}) || !({}))", within(who, class), others.join(" || "))
            }
        });
        known.chain(apart).collect()
    }

    fn of_class(&self, class: &Class) -> Vec<String> {
        match class {
            Class::Any => Vec::new(),
            Class::Of(class) => vec![within("principal", class)],
            Class::Other => {
                let registered = self.agents.iter().map(|agent| agent.class.as_str());
                let all: BTreeSet<&str> = registered.chain(self.literals.of_type("Class")).collect();
                all.into_iter().map(|class| format!("!({})", within("principal", class))).collect()
            }
        }
    }

    fn of_call(&self, manifest: &Manifest) -> Vec<String> {
        let shape = ToolShape::of(manifest);
        let mut all = vec![format!("context.effect == {}", quoted(shape.effect.as_str()))];
        all.push(match shape.effect {
            Effect::Read => NOTHING_FLOWS.to_owned(),
            Effect::Egress => "(context.outward || !context.destinations.isEmpty())".to_owned(),
            _ => "(!context.outward || !context.destinations.isEmpty())".to_owned(),
        });
        if shape.amount.is_none() {
            all.push("!(context has amount)".to_owned());
        }
        let system = format!("System::{}", quoted(manifest.tool.system()));
        let Some(spec) = &manifest.resource else {
            all.push(format!("resource == {system}"));
            return all;
        };
        if spec.kind != "System" {
            all.push(format!("resource in {system}"));
            let others = self.literals.of_type("System").filter(|name| *name != manifest.tool.system());
            all.extend(others.map(|name| format!("!(resource in System::{})", quoted(name))));
        }
        match &spec.from {
            None => all.push(format!("resource == {}::{}", spec.kind, quoted(manifest.tool.system()))),
            Some(from) if shape.args.contains(from) => {
                all.extend(self.literals.of_type(&spec.kind).filter_map(|name| named_by(spec, from, name)));
            }
            Some(_) => {}
        }
        all
    }
}

/// What every act shows together.
const ALWAYS: &str = r#"["public", "internal", "confidential", "secret"].contains(context.level)
    && context.confidential == ["confidential", "secret"].contains(context.level)
    && context.untrusted == !context.origins.isEmpty()
    && (!(context has step) || context.has_chain)
    && 0 <= context.depth && context.depth <= 255 && 0 <= context.now && 0 <= context.remaining_ms
    && 0 <= context.hour_utc && context.hour_utc <= 23 && 1 <= context.weekday_utc && context.weekday_utc <= 7"#;

/// Of what sends nothing.
const NOTHING_FLOWS: &str = "!context.outward && context.destinations.isEmpty() && context.carries.isEmpty()";

/// A resource of this name stands in the argument that names it.
fn named_by(spec: &ResourceSpec, from: &str, name: &str) -> Option<String> {
    // An absent or empty argument, and a list, name the resource "" or "null".
    (!name.is_empty() && name != "null" && name.trim() == name).then(|| {
        format!(
            "(!(resource == {}::{}) || context.args[{}] == [{}])",
            spec.kind,
            quoted(name),
            quoted(from),
            quoted(name)
        )
    })
}

/// Which arguments can be without origin, and which can carry something.
fn args_of(manifest: &Manifest) -> Vec<String> {
    let all = manifest.args.keys().map(|name| quoted(name)).collect::<Vec<_>>().join(", ");
    ["unexplained", "carries"]
        .iter()
        .map(|member| match all.is_empty() {
            true => format!("context.{member}.isEmpty()"),
            false => format!("[{all}].containsAll(context.{member})"),
        })
        .collect()
}

/// Each argument with one word in it, but for the one that names the resource.
pub(super) fn plain_args(manifest: &Manifest) -> Vec<String> {
    let from = manifest.resource.as_ref().and_then(|spec| spec.from.as_ref());
    let shape = ToolShape::of(manifest);
    let free = shape.args.iter().filter(|name| Some(*name) != from && Some(*name) != shape.amount.as_ref());
    free.map(|name| format!("context.args[{}] == [\"something\"]", quoted(name))).collect()
}

/// What is known of resources, as the manifest states it: of those that are known, and that nothing is of others.
fn resources(spec: &ResourceSpec) -> Option<String> {
    let attrs: BTreeSet<&String> = spec.known.values().flat_map(BTreeMap::keys).collect();
    if spec.known.len() > SPELLED_MAX || spec.from.is_none() {
        return None;
    }
    let of = |known: Option<&BTreeMap<String, String>>| {
        let each = attrs.iter().map(|attr| match known.and_then(|known| known.get(*attr)) {
            Some(value) => format!("resource has {0} && resource[{0}] == {1}", quoted(attr), quoted(value)),
            None => format!("!(resource has {})", quoted(attr)),
        });
        each.collect::<Vec<_>>()
    };
    let is = |name: &str| format!("resource == {}::{}", spec.kind, quoted(name));
    let known = spec.known.iter().map(|(name, known)| {
        let mut all = vec![is(name)];
        all.extend(of(Some(known)));
        all.extend(spec.from.as_deref().and_then(|from| named_by(spec, from, name)));
        format!("({})", all.join(" && "))
    });
    let mut unknown: Vec<String> = spec.known.keys().map(|name| format!("!({})", is(name))).collect();
    unknown.extend(of(None));
    let unknown = if unknown.is_empty() { "true".to_owned() } else { unknown.join(" && ") };
    Some(format!("({})", known.chain([format!("({unknown})")]).collect::<Vec<_>>().join(" || ")))
}

/// One of these agents, as it is registered.
fn one_of<'g>(who: &str, agents: impl Iterator<Item = &'g Agent>) -> String {
    let each: Vec<String> = agents
        .take(SPELLED_MAX)
        .map(|agent| format!("({who} == Agent::{} && {})", quoted(agent.id.as_str()), registered(who, agent)))
        .collect();
    if each.is_empty() { "false".to_owned() } else { format!("({})", each.join(" || ")) }
}

fn registered(who: &str, agent: &Agent) -> String {
    format!(
        "{who}.owner == Person::{} && {}",
        quoted(agent.owner.as_str()),
        within(who, agent.class.as_str())
    )
}

fn within(who: &str, class: &str) -> String {
    format!("{who} in Class::{}", quoted(class))
}

/// A text as a Cedar string.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.escape_debug())
}

pub(super) fn uid(kind: &str, id: &str) -> Result<EntityUid, String> {
    Ok(EntityUid::from_type_name_and_id(uid_type(kind)?, EntityId::new(id)))
}
