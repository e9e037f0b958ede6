//! Facts as Cedar sees them: principal, action, resource, context and the few entities they need.
//!
//! Everything is built to fit the generated schema, so nothing is validated again per call. What would not fit,
//! such as a tool that was reclassified since the set was compiled, is an error, and an error denies.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use bailiwick_core::PrincipalId;
use bailiwick_core::agent::Agent;
use bailiwick_core::label::Level;
use bailiwick_core::tool::Manifest;
use bailiwick_core::value::Value;
use bailiwick_core::verdict::{Deed, Facts, Resource};
use cedar_policy::{
    Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, Request, RestrictedExpression as Expr,
};

use crate::entities::Kept;
use crate::index::{Name, Names};
use crate::needs::Needs;
use crate::schema::{HANDOFF, SchemaInputs, ToolShape, groups};

/// A judged act in Cedar's terms.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) request: Request,
    pub(crate) entities: Arc<Entities>,
}

/// An act as far as it takes to find the rules that can apply.
#[derive(Debug)]
pub(crate) struct Seen<'a> {
    pub(crate) names: Names,
    form: &'a ActionForm,
    /// Of a call.
    shape: Option<&'a ToolShape>,
    resource: Entity,
    amount: Option<i64>,
}

/// What can be prepared once per set.
#[derive(Debug)]
pub(crate) struct Vocabulary {
    agent: EntityTypeName,
    class: EntityTypeName,
    person: EntityTypeName,
    task: EntityTypeName,
    system: EntityTypeName,
    kinds: HashMap<String, (EntityTypeName, BTreeSet<String>)>,
    tools: HashMap<String, (ToolShape, ActionForm)>,
    handoff: ActionForm,
    kept: Kept,
}

#[derive(Debug)]
struct ActionForm {
    uid: EntityUid,
    entity: Entity,
    names: Vec<Name>,
}

/// The members of a context, as far as somebody speaks of them.
struct Members {
    needs: Needs,
    pairs: Vec<(String, Expr)>,
}

impl Members {
    fn put(&mut self, name: &str, value: impl FnOnce() -> Expr) {
        if self.needs.has(name) {
            self.pairs.push((name.to_owned(), value()));
        }
    }
}

impl Vocabulary {
    /// Prepares the words of a schema. Fails on names that are no Cedar names, which the schema has excluded.
    pub(crate) fn new(inputs: &SchemaInputs) -> Result<Self, String> {
        let action = type_name("Action")?;
        let form = |name: &str, groups: &[&str]| ActionForm::new(&action, name, groups);
        let kinds =
            inputs.kinds.iter().map(|(kind, attrs)| Ok((kind.clone(), (type_name(kind)?, attrs.clone()))));
        let tools = inputs
            .tools
            .iter()
            .map(|(tool, shape)| (tool.clone(), (shape.clone(), form(tool, groups(shape.effect)))));
        Ok(Vocabulary {
            agent: type_name("Agent")?,
            class: type_name("Class")?,
            person: type_name("Person")?,
            task: type_name("Task")?,
            system: type_name("System")?,
            kinds: kinds.collect::<Result<_, String>>()?,
            tools: tools.collect(),
            handoff: form(HANDOFF, &[]),
            kept: Kept::default(),
        })
    }

    /// What an act touches, and the names under which rules about it are filed. The error says what does not
    /// fit the schema.
    pub(crate) fn see(&self, facts: &Facts<'_>) -> Result<Seen<'_>, String> {
        let (form, shape, resource) = match facts.deed {
            Deed::Call(manifest) => {
                let (shape, form) = self.call(manifest)?;
                let resource = self.resource_entity(manifest, facts.resource.as_ref(), &shape.kind)?;
                (form, Some(shape), resource)
            }
            Deed::HandOff(child) => (&self.handoff, None, self.agent_entity(child)?),
        };
        let amount = shape.map(|shape| amount(shape, facts.args)).transpose()?.flatten();
        Ok(Seen { names: self.names(facts, form, &resource), form, shape, resource, amount })
    }

    /// The act in Cedar's terms, with as much of the context as is needed.
    pub(crate) fn prepare(
        &self,
        facts: &Facts<'_>,
        seen: Seen<'_>,
        needs: Needs,
    ) -> Result<Prepared, String> {
        let mut members = Members { needs, pairs: Vec::new() };
        self.of_the_deed(facts, &seen, &mut members)?;
        self.of_the_task(facts, &mut members);
        let context = Context::from_pairs(members.pairs).map_err(|e| e.to_string())?;
        let (who, what) = (uid(&self.agent, facts.agent.id.as_str()), seen.resource.uid());
        let request =
            Request::new(who, seen.form.uid.clone(), what, context, None).map_err(|e| e.to_string())?;
        let entities = self.kept.of(facts, || {
            let all = [self.agent_entity(facts.agent)?, seen.resource, seen.form.entity.clone()];
            Entities::from_entities(all, None).map_err(|e| e.to_string())
        })?;
        Ok(Prepared { request, entities })
    }

    fn call(&self, manifest: &Manifest) -> Result<&(ToolShape, ActionForm), String> {
        let tool = manifest.tool.as_str();
        match self.tools.get(tool) {
            None => Err(format!("tool {tool} was not known when the policies were compiled")),
            Some((shape, _)) if !shape.fits(manifest) => {
                Err(format!("tool {tool} was reclassified since the policies were compiled"))
            }
            Some(known) => Ok(known),
        }
    }

    /// What is particular to a call, or to a handoff.
    fn of_the_deed(&self, facts: &Facts<'_>, seen: &Seen<'_>, members: &mut Members) -> Result<(), String> {
        let (effect, reversible) = match facts.deed {
            Deed::Call(manifest) => (manifest.effect.as_str(), manifest.reversible),
            Deed::HandOff(_) => (HANDOFF, true),
        };
        members.put("effect", || text(effect));
        members.put("reversible", || Expr::new_bool(reversible));
        if let Some(amount) = seen.amount {
            members.put("amount", || Expr::new_long(amount));
        }
        match seen.shape {
            Some(shape) if members.needs.has("args") => {
                let args = args(shape, facts.args)?;
                members.put("args", || args);
            }
            Some(_) => {}
            None => members.put("fields", || {
                texts(facts.args.as_map().into_iter().flatten().map(|(name, _)| name.as_str()))
            }),
        }
        Ok(())
    }

    /// What every act shows.
    fn of_the_task(&self, facts: &Facts<'_>, members: &mut Members) {
        let label = facts.label;
        let person = |who: &PrincipalId| Expr::new_entity_uid(uid(&self.person, who.as_str()));
        members.put("initiator", || person(facts.initiator));
        members.put("task", || Expr::new_entity_uid(uid(&self.task, facts.task.as_str())));
        members.put("has_chain", || Expr::new_bool(facts.has_chain));
        members.put("depth", || Expr::new_long(i64::from(facts.depth)));
        members.put("level", || text(level(label.level)));
        members.put("confidential", || Expr::new_bool(label.level >= Level::Confidential));
        members.put("classes", || texts(label.classes.iter().map(|c| c.as_str())));
        members.put("untrusted", || Expr::new_bool(!label.is_trusted()));
        members.put("origins", || texts(label.untrusted.iter().map(String::as_str)));
        members.put("unexplained", || texts(facts.unexplained.iter().map(String::as_str)));
        let flow = facts.flow;
        members.put("destinations", || texts(flow.destinations.iter().map(String::as_str)));
        members.put("outward", || Expr::new_bool(flow.outward));
        members.put("carries", || texts(flow.carries.iter().map(String::as_str)));
        members.put("now", || Expr::new_long(long(facts.now.0)));
        members.put("hour_utc", || Expr::new_long(long(facts.now.0 / 3_600_000 % 24)));
        members.put("weekday_utc", || Expr::new_long(long((facts.now.0 / 86_400_000 + 3) % 7 + 1)));
        members.put("remaining_ms", || Expr::new_long(long(facts.remaining_ms)));
        if let Some(step) = facts.step {
            members.put("step", || text(step.as_str()));
        }
        // A record of one field cannot repeat a field.
        let approval = facts.approval.as_ref().and_then(|approval| {
            let by = Expr::new_set(approval.by.iter().map(person));
            Expr::new_record([("by".to_owned(), by)]).ok()
        });
        if let Some(approval) = approval {
            members.put("approval", || approval);
        }
    }

    fn agent_entity(&self, agent: &Agent) -> Result<Entity, String> {
        let owner = Expr::new_entity_uid(uid(&self.person, agent.owner.as_str()));
        let attrs = HashMap::from([("owner".to_owned(), owner)]);
        let parents = HashSet::from([uid(&self.class, agent.class.as_str())]);
        Entity::new(uid(&self.agent, agent.id.as_str()), attrs, parents).map_err(|e| e.to_string())
    }

    fn resource_entity(
        &self,
        manifest: &Manifest,
        resource: Option<&Resource>,
        kind: &str,
    ) -> Result<Entity, String> {
        let system = uid(&self.system, manifest.tool.system());
        let Some(resource) = resource else { return Ok(Entity::new_no_attrs(system, HashSet::new())) };
        let Some((type_name, known)) = self.kinds.get(kind).filter(|_| resource.kind == kind) else {
            return Err(format!(
                "{} touches a {}, not a {kind}",
                manifest.tool,
                resource.kind.escape_default()
            ));
        };
        if let Some(attr) = resource.attrs.keys().find(|attr| !known.contains(*attr)) {
            return Err(format!(
                "attribute `{}` was not known when the policies were compiled",
                attr.escape_default()
            ));
        }
        let attrs = resource.attrs.iter().map(|(name, value)| (name.clone(), text(value))).collect();
        let parents = if kind == "System" { HashSet::new() } else { HashSet::from([system]) };
        Entity::new(uid(type_name, &resource.name), attrs, parents).map_err(|e| e.to_string())
    }

    fn names(&self, facts: &Facts<'_>, form: &ActionForm, resource: &Entity) -> Names {
        let class = |agent: &Agent| Name::Entity(uid(&self.class, agent.class.as_str()));
        let above = match facts.deed {
            Deed::Call(manifest) => Name::Entity(uid(&self.system, manifest.tool.system())),
            Deed::HandOff(child) => class(child),
        };
        let (itself, kind) = (resource.uid(), resource.uid().type_name().clone());
        Names {
            class: [Name::Class(facts.agent.class.as_str().to_owned())],
            principal: [Name::Entity(uid(&self.agent, facts.agent.id.as_str())), class(facts.agent)],
            action: form.names.clone(),
            resource: [Name::Entity(itself), above, Name::Type(kind)],
        }
    }
}

impl ActionForm {
    fn new(action: &EntityTypeName, name: &str, groups: &[&str]) -> Self {
        let of = |name: &str| uid(action, name);
        let parents = groups.iter().map(|g| of(g)).collect();
        let names =
            std::iter::once(name).chain(groups.iter().copied()).map(|n| Name::Entity(of(n))).collect();
        ActionForm { uid: of(name), entity: Entity::new_no_attrs(of(name), parents), names }
    }
}

/// Each visible argument as the set of the plain values inside it; empty when it is absent.
fn args(shape: &ToolShape, args: &Value) -> Result<Expr, String> {
    let field = |name: &String| {
        let mut leaves = BTreeSet::new();
        if let Some(value) = args.get(name) {
            collect(value, &mut leaves);
        }
        (name.clone(), texts(leaves.iter().map(String::as_str)))
    };
    Expr::new_record(shape.args.iter().map(field)).map_err(|e| e.to_string())
}

fn collect(value: &Value, leaves: &mut BTreeSet<String>) {
    match value {
        Value::Null => {}
        Value::List(items) => items.iter().for_each(|item| collect(item, leaves)),
        Value::Map(members) => members.values().for_each(|member| collect(member, leaves)),
        scalar => leaves.extend(scalar.spelled()),
    }
}

/// The amount in whole units, rounded away from zero, so that no bound is passed by a fraction.
fn amount(shape: &ToolShape, args: &Value) -> Result<Option<i64>, String> {
    let Some(name) = &shape.amount else { return Ok(None) };
    match args.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Int(n)) => Ok(Some(*n)),
        // Fractions are read only below 2^53, so this cannot saturate.
        Some(Value::Float(f)) => Ok(Some((f.get().signum() * f.get().abs().ceil()) as i64)),
        Some(_) => Err(format!("the amount `{}` is not a number", name.escape_default())),
    }
}

fn type_name(text: &str) -> Result<EntityTypeName, String> {
    text.parse().map_err(|_| format!("`{}` is no name for a type", text.escape_default()))
}
fn uid(kind: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}
fn text(value: &str) -> Expr {
    Expr::new_string(value.to_owned())
}
fn texts<'a>(values: impl IntoIterator<Item = &'a str>) -> Expr {
    Expr::new_set(values.into_iter().map(text))
}
fn long(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
fn level(level: Level) -> &'static str {
    match level {
        Level::Public => "public",
        Level::Internal => "internal",
        Level::Confidential => "confidential",
        Level::Secret => "secret",
    }
}
