//! Facts as Cedar sees them: principal, action, resource, context and the few entities they need.
//!
//! Everything is built to fit the generated schema, so nothing is validated again per call. What would not fit,
//! such as a tool that was reclassified since the set was compiled, is an error, and an error denies.

use std::collections::{BTreeSet, HashMap, HashSet};

use bailiwick_core::agent::Agent;
use bailiwick_core::label::Level;
use bailiwick_core::tool::Manifest;
use bailiwick_core::value::Value;
use bailiwick_core::verdict::{Deed, Facts, Resource};
use cedar_policy::{
    Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, Request, RestrictedExpression as Expr,
};

use crate::index::{Name, Names};
use crate::schema::{HANDOFF, SchemaInputs, ToolShape, groups};

/// A judged act in Cedar's terms.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) request: Request,
    pub(crate) entities: Entities,
    pub(crate) names: Names,
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
}

#[derive(Debug)]
struct ActionForm {
    uid: EntityUid,
    entity: Entity,
    names: Vec<Name>,
}

type Pairs = Vec<(String, Expr)>;

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
        })
    }

    /// Facts in Cedar's terms. The error says what does not fit.
    pub(crate) fn prepare(&self, facts: &Facts<'_>) -> Result<Prepared, String> {
        let (form, resource, mut pairs) = match facts.deed {
            Deed::Call(manifest) => self.call(facts, manifest)?,
            Deed::HandOff(child) => (&self.handoff, self.agent_entity(child)?, handoff_pairs(facts)),
        };
        pairs.extend(self.common(facts));
        let principal = self.agent_entity(facts.agent)?;
        let names = self.names(facts, form, &resource);
        let context = Context::from_pairs(pairs).map_err(|e| e.to_string())?;
        let request = Request::new(principal.uid(), form.uid.clone(), resource.uid(), context, None)
            .map_err(|e| e.to_string())?;
        let entities = Entities::from_entities([principal, resource, form.entity.clone()], None)
            .map_err(|e| e.to_string())?;
        Ok(Prepared { request, entities, names })
    }

    fn call(&self, facts: &Facts<'_>, manifest: &Manifest) -> Result<(&ActionForm, Entity, Pairs), String> {
        let tool = manifest.tool.as_str();
        let Some((shape, form)) = self.tools.get(tool) else {
            return Err(format!("tool {tool} was not known when the policies were compiled"));
        };
        if !shape.fits(manifest) {
            return Err(format!("tool {tool} was reclassified since the policies were compiled"));
        }
        let resource = self.resource_entity(manifest, facts.resource.as_ref(), &shape.kind)?;
        let mut pairs = vec![
            pair("args", args(shape, facts.args)?),
            pair("effect", text(manifest.effect.as_str())),
            pair("reversible", Expr::new_bool(manifest.reversible)),
        ];
        if let Some(amount) = amount(shape, facts.args)? {
            pairs.push(pair("amount", Expr::new_long(amount)));
        }
        Ok((form, resource, pairs))
    }

    /// What every act shows.
    fn common(&self, facts: &Facts<'_>) -> Pairs {
        let label = facts.label;
        let mut pairs = vec![
            pair("initiator", Expr::new_entity_uid(uid(&self.person, facts.initiator.as_str()))),
            pair("task", Expr::new_entity_uid(uid(&self.task, facts.task.as_str()))),
            pair("has_chain", Expr::new_bool(facts.has_chain)),
            pair("depth", Expr::new_long(i64::from(facts.depth))),
            pair("level", text(level(label.level))),
            pair("confidential", Expr::new_bool(label.level >= Level::Confidential)),
            pair("classes", texts(label.classes.iter().map(|c| c.as_str()))),
            pair("untrusted", Expr::new_bool(!label.is_trusted())),
            pair("origins", texts(label.untrusted.iter().map(String::as_str))),
            pair("unexplained", texts(facts.unexplained.iter().map(String::as_str))),
            pair("now", Expr::new_long(long(facts.now.0))),
            pair("hour_utc", Expr::new_long(long(facts.now.0 / 3_600_000 % 24))),
            pair("weekday_utc", Expr::new_long(long((facts.now.0 / 86_400_000 + 3) % 7 + 1))),
            pair("remaining_ms", Expr::new_long(long(facts.remaining_ms))),
        ];
        if let Some(step) = facts.step {
            pairs.push(pair("step", text(step.as_str())));
        }
        if let Some(approval) = &facts.approval {
            let by = approval.by.iter().map(|who| Expr::new_entity_uid(uid(&self.person, who.as_str())));
            let record = Expr::new_record([("by".to_owned(), Expr::new_set(by))]);
            // A record of one field cannot repeat a field.
            pairs.extend(record.ok().map(|r| pair("approval", r)));
        }
        pairs
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

fn handoff_pairs(facts: &Facts<'_>) -> Pairs {
    let fields = facts.args.as_map().into_iter().flatten().map(|(name, _)| name.as_str());
    vec![
        pair("fields", texts(fields)),
        pair("effect", text(HANDOFF)),
        pair("reversible", Expr::new_bool(true)),
    ]
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
fn pair(name: &str, value: Expr) -> (String, Expr) {
    (name.to_owned(), value)
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
