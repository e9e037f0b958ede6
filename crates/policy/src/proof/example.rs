//! A solver's counterexample, put back into the facts of an act and judged by both sets.
//!
//! A solver's word is not taken for it: what counts is what the sets themselves say about the act. Names that a solver
//! made up and that nobody could have are replaced, which changes no verdict unless a rule looks at them; then the act is
//! not confirmed.

use std::collections::{BTreeMap, BTreeSet};

use bailiwick_core::agent::Agent;
use bailiwick_core::decision;
use bailiwick_core::ids::{AgentClass, AgentId, BadId, DataClass, PrincipalId, StepId, TaskId};
use bailiwick_core::label::{Label, Level};
use bailiwick_core::time::Time;
use bailiwick_core::tool::Manifest;
use bailiwick_core::value::Value;
use bailiwick_core::verdict::{Approved, Deed, Facts, Flow, Policy as _, Resource, Verdict};
use cedar_policy::{Entities, EntityUid, EvalResult, Request};

use super::{Class, Question, Questions, Way};
use crate::diff::Change;
use crate::explain::in_words;
use crate::needs::Needs;

/// Monday 2026-11-23, 00:00 UTC.
const MONDAY: u64 = 1_795_392_000_000;
const HOUR_MS: u64 = 3_600_000;

/// An act that comes out differently, as both sets themselves say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// What changes for it.
    pub change: Change,
    /// Who does what.
    pub act: String,
    /// The arguments that rules can see.
    pub args: Value,
    /// Under which conditions, as far as rules look at them.
    pub when: String,
    /// What the old set says.
    pub old: String,
    /// What the new set says.
    pub new: String,
}

impl Questions<'_> {
    /// The counterexample to a question, if the sets agree that it is one. The error says why they do not.
    pub fn confirm(
        &self,
        question: &Question,
        request: &Request,
        entities: &Entities,
    ) -> Result<Example, String> {
        let manifest = question.tool.and_then(|n| self.tools.get(n));
        let found = Found { question, manifest, agents: self.agents, request, entities, made_up: Vec::new() };
        let act = found.act()?;
        let facts = act.facts(manifest);
        let unasked = Facts { approval: None, ..facts.clone() };
        let (from, to) = if question.way == Way::Wider { (self.new, self.old) } else { (self.old, self.new) };
        let passes = |verdict: &Verdict| matches!(verdict, Verdict::Permit { .. });
        let given = [from, to].map(|set| set.evaluate(&facts));
        if !passes(&given[0]) || passes(&given[1]) {
            return Err(format!("{}, but the rules themselves say otherwise", act.who(manifest)));
        }
        let could_be_asked = match (from.evaluate(&unasked), &question.yes) {
            (Verdict::Permit { .. }, _) | (_, None) => true,
            (Verdict::Ask { terms, .. }, Some(yes)) => terms.group == yes.group,
            _ => false,
        };
        if !could_be_asked {
            return Err(format!("{}, but nobody would be asked for that yes", act.who(manifest)));
        }
        let words = |set: &crate::CompiledSet| {
            let (plain, with) = (set.evaluate(&unasked), set.evaluate(&facts));
            match &question.yes {
                Some(yes) if plain != with => {
                    format!("{}; {}: {}", in_words(&plain), yes.in_words(), in_words(&with))
                }
                _ => in_words(&plain),
            }
        };
        let otherwise = if question.way == Way::Wider { Change::Allowed } else { Change::Denied };
        let change = Change::between(&self.old.evaluate(&unasked), &self.new.evaluate(&unasked));
        Ok(Example {
            change: change.unwrap_or(otherwise),
            act: act.who(manifest),
            when: act.when(question.needs),
            old: words(self.old),
            new: words(self.new),
            args: act.args,
        })
    }
}

/// What a solver found.
struct Found<'f> {
    question: &'f Question,
    manifest: Option<&'f Manifest>,
    agents: &'f [Agent],
    request: &'f Request,
    entities: &'f Entities,
    /// Names that cannot be; the place of each is its number.
    made_up: Vec<String>,
}

/// The same as an act.
struct Act {
    agent: Agent,
    registered: bool,
    child: Option<Agent>,
    initiator: PrincipalId,
    task: TaskId,
    has_chain: bool,
    step: Option<StepId>,
    depth: u8,
    resource: Option<Resource>,
    args: Value,
    label: Label,
    unexplained: BTreeSet<String>,
    flow: Flow,
    approval: Option<Approved>,
    now: Time,
    remaining_ms: u64,
}

impl Found<'_> {
    fn act(mut self) -> Result<Act, String> {
        let principal = self.request.principal().ok_or("the solver named no agent")?.clone();
        let agent = self.agent(&principal, Some(&self.question.class.clone()))?;
        let registered = self.agents.iter().any(|a| a.id == agent.id && a.class == agent.class);
        let touched = self.request.resource().ok_or("the solver named no resource")?.clone();
        let child = if self.manifest.is_none() { Some(self.agent(&touched, None)?) } else { None };
        let args = self.args(&touched);
        let resource = self.manifest.map(|manifest| self.resource(manifest, &touched, &args));
        let initiator =
            self.entity("initiator").map(|uid| uid.id().unescaped().to_owned()).unwrap_or_default();
        let initiator = self.person(&initiator)?;
        let step = match self.member("step") {
            Some(EvalResult::String(step)) => Some(self.name(&step, "step", StepId::parse)?),
            _ => None,
        };
        Ok(Act {
            agent,
            registered,
            child,
            task: TaskId::parse("t-example").map_err(|e| e.to_string())?,
            has_chain: self.flag("has_chain"),
            step,
            depth: u8::try_from(self.number("depth")).unwrap_or(u8::MAX),
            resource,
            args,
            label: self.label()?,
            unexplained: self.texts("unexplained"),
            flow: Flow {
                destinations: self.texts("destinations"),
                outward: self.flag("outward"),
                carries: self.texts("carries"),
            },
            approval: self.approval(&initiator)?,
            initiator,
            now: self.now(),
            remaining_ms: u64::try_from(self.number("remaining_ms")).unwrap_or(0),
        })
    }

    fn agent(&mut self, uid: &EntityUid, class: Option<&Class>) -> Result<Agent, String> {
        let id = self.name(uid.id().unescaped(), "agent", AgentId::parse)?;
        let known = self.agents.iter().find(|agent| agent.id == id);
        let owner = self.entities.get(uid).and_then(|entity| entity.attr("owner"));
        let owner = match owner {
            Some(Ok(EvalResult::EntityUid(owner))) => owner.id().unescaped().to_owned(),
            _ => String::new(),
        };
        let above = self.entities.ancestors(uid).and_then(|mut above| above.next());
        let class = match (class, above, known) {
            (Some(Class::Of(class)), _, _) => class.clone(),
            (Some(Class::Other), _, _) => "some-other-class".to_owned(),
            (_, Some(above), _) => above.id().unescaped().to_owned(),
            (_, None, Some(known)) => known.class.as_str().to_owned(),
            (_, None, None) => "some-class".to_owned(),
        };
        Ok(Agent {
            id,
            owner: self.person(&owner)?,
            class: self.name(&class, "class", AgentClass::parse)?,
            ceiling: Vec::new(),
            keys: BTreeSet::new(),
        })
    }

    /// The arguments that policies see; what names the resource is its name.
    fn args(&self, touched: &EntityUid) -> Value {
        let mut args: BTreeMap<String, Value> = BTreeMap::new();
        let Some(manifest) = self.manifest else {
            return Value::Map(
                self.texts("fields").into_iter().map(|f| (f, Value::from("something"))).collect(),
            );
        };
        if let Some(EvalResult::Record(record)) = self.member("args") {
            for (name, values) in record.iter() {
                let mut values: Vec<Value> =
                    texts_of(values).into_iter().map(|text| Value::from(text.as_str())).collect();
                match values.len() {
                    0 => continue,
                    1 => args.extend(values.pop().map(|value| (name.clone(), value))),
                    _ => args.extend([(name.clone(), Value::List(values))]),
                }
            }
        }
        if let Some(from) = manifest.resource.as_ref().and_then(|spec| spec.from.as_ref()) {
            let name = touched.id().unescaped();
            if decision::resource(manifest, &args).name != name {
                args.insert(from.clone(), Value::from(name));
            }
        }
        if let Some(amount) = manifest.amount_arg() {
            args.remove(amount);
            if let Some(EvalResult::Long(n)) = self.member("amount") {
                args.insert(amount.to_owned(), Value::Int(n));
            }
        }
        Value::Map(args)
    }

    fn resource(&self, manifest: &Manifest, touched: &EntityUid, args: &Value) -> Resource {
        let none = BTreeMap::new();
        let named = decision::resource(manifest, args.as_map().unwrap_or(&none));
        let attr = |name: &String| match self.entities.get(touched).and_then(|entity| entity.attr(name)) {
            Some(Ok(EvalResult::String(value))) => Some((name.clone(), value)),
            _ => None,
        };
        let attrs = manifest.resource.iter().flat_map(|spec| spec.known.values()).flat_map(BTreeMap::keys);
        Resource { attrs: attrs.filter_map(attr).collect(), ..named }
    }

    fn label(&mut self) -> Result<Label, String> {
        let level = match self.member("level") {
            Some(EvalResult::String(level)) => match level.as_str() {
                "public" => Level::Public,
                "internal" => Level::Internal,
                "confidential" => Level::Confidential,
                _ => Level::Secret,
            },
            _ => return Err("the solver named no level".to_owned()),
        };
        let mut classes = BTreeSet::new();
        for class in self.texts("classes") {
            classes.insert(self.name(&class, "class", DataClass::parse)?);
        }
        Ok(Label { level, classes, untrusted: self.texts("origins") })
    }

    fn approval(&mut self, initiator: &PrincipalId) -> Result<Option<Approved>, String> {
        let Some(yes) = &self.question.yes else { return Ok(None) };
        let mut by: BTreeSet<PrincipalId> = BTreeSet::new();
        if let Some(EvalResult::Record(approval)) = self.member("approval")
            && let Some(EvalResult::Set(people)) = approval.get("by")
        {
            for uid in people.iter() {
                if let EvalResult::EntityUid(uid) = uid {
                    by.insert(self.person(uid.id().unescaped())?);
                }
            }
        }
        by.remove(initiator);
        let others = usize::from(yes.people - u8::from(yes.initiator));
        by = by.into_iter().take(others).collect();
        for n in 0_u8.. {
            if by.len() >= others {
                break;
            }
            by.insert(self.person(&format!("approver-{n}@example.org"))?);
        }
        if yes.initiator {
            by.insert(initiator.clone());
        }
        Ok(Some(Approved { by, group: yes.group.clone() }))
    }

    /// The time, if a rule looks at it; else one with this hour and weekday.
    fn now(&self) -> Time {
        let of = |name| u64::try_from(self.number(name)).unwrap_or(0);
        if self.question.needs.has("now") {
            return Time(of("now"));
        }
        Time(MONDAY + of("weekday_utc").saturating_sub(1) * 24 * HOUR_MS + of("hour_utc") * HOUR_MS)
    }

    fn person(&mut self, text: &str) -> Result<PrincipalId, String> {
        self.name(text, "person", PrincipalId::parse)
    }

    /// A name, or one that stands for it where it cannot be one.
    fn name<T>(
        &mut self,
        text: &str,
        what: &str,
        parse: impl Fn(&str) -> Result<T, BadId>,
    ) -> Result<T, String> {
        parse(text).or_else(|_| {
            let known = self.made_up.iter().position(|made_up| made_up == text);
            let place = known.unwrap_or_else(|| {
                self.made_up.push(text.to_owned());
                self.made_up.len() - 1
            });
            parse(&format!("{what}-{}", place + 1)).map_err(|e| e.to_string())
        })
    }

    fn member(&self, name: &str) -> Option<EvalResult> {
        self.request.context()?.get(name)
    }
    fn flag(&self, name: &str) -> bool {
        matches!(self.member(name), Some(EvalResult::Bool(true)))
    }
    fn number(&self, name: &str) -> i64 {
        if let Some(EvalResult::Long(n)) = self.member(name) { n } else { 0 }
    }
    fn entity(&self, name: &str) -> Option<EntityUid> {
        if let Some(EvalResult::EntityUid(uid)) = self.member(name) { Some(uid) } else { None }
    }
    fn texts(&self, name: &str) -> BTreeSet<String> {
        self.member(name).as_ref().map(texts_of).unwrap_or_default()
    }
}

fn texts_of(set: &EvalResult) -> BTreeSet<String> {
    let EvalResult::Set(set) = set else { return BTreeSet::new() };
    set.iter()
        .filter_map(|v| if let EvalResult::String(text) = v { Some(text.clone()) } else { None })
        .collect()
}

impl Act {
    fn facts<'f>(&'f self, manifest: Option<&'f Manifest>) -> Facts<'f> {
        let handed = self.child.as_ref().unwrap_or(&self.agent);
        Facts {
            deed: manifest.map_or(Deed::HandOff(handed), Deed::Call),
            agent: &self.agent,
            initiator: &self.initiator,
            task: &self.task,
            has_chain: self.has_chain,
            step: self.step.as_ref(),
            depth: self.depth,
            resource: self.resource.clone(),
            args: &self.args,
            label: &self.label,
            unexplained: &self.unexplained,
            flow: &self.flow,
            approval: self.approval.clone(),
            now: self.now,
            remaining_ms: self.remaining_ms,
        }
    }

    fn who(&self, manifest: Option<&Manifest>) -> String {
        let agent = match self.registered {
            true => self.agent.id.to_string(),
            false => format!("an agent {} of class {}", self.agent.id, self.agent.class),
        };
        match (manifest, &self.child) {
            (Some(manifest), _) => format!("{agent} calls {}", manifest.tool),
            (None, Some(child)) => format!("{agent} hands to {}", child.id),
            (None, None) => agent,
        }
    }

    /// What the rules can have looked at.
    fn when(&self, needs: Needs) -> String {
        let any = |members: &[&str]| members.iter().any(|member| needs.has(member));
        let list = |texts: &BTreeSet<String>| {
            texts.iter().map(|t| format!("`{}`", t.escape_debug())).collect::<Vec<_>>().join(", ")
        };
        let mut all = vec![self.args.canonical()];
        let attrs = self.resource.iter().flat_map(|r| &r.attrs);
        all.extend(attrs.map(|(name, value)| format!("{} {}", name.escape_debug(), value.escape_debug())));
        if any(&["has_chain", "step"]) {
            all.push(match (&self.step, self.has_chain) {
                (Some(step), _) => format!("as the declared step {step}"),
                (None, true) => "as no declared step".to_owned(),
                (None, false) => "no chain".to_owned(),
            });
        }
        if any(&["untrusted", "origins"]) {
            all.push(
                if self.label.is_trusted() { "nothing untrusted read" } else { "after untrusted data" }
                    .to_owned(),
            );
        }
        if any(&["level", "confidential"]) {
            all.push(format!("{} data", self.label.level.as_str()));
        }
        if any(&["classes"]) && !self.label.classes.is_empty() {
            let classes: Vec<&str> = self.label.classes.iter().map(DataClass::as_str).collect();
            all.push(format!("data of class {}", classes.join(", ")));
        }
        if any(&["unexplained"]) && !self.unexplained.is_empty() {
            all.push(format!("nobody vouches for {}", list(&self.unexplained)));
        }
        if any(&["outward"]) && self.flow.outward {
            all.push("to the outside".to_owned());
        }
        if any(&["destinations"]) && !self.flow.destinations.is_empty() {
            all.push(format!("to {}", list(&self.flow.destinations)));
        }
        if any(&["carries"]) && !self.flow.carries.is_empty() {
            all.push(format!("carrying {}", list(&self.flow.carries)));
        }
        if any(&["hour_utc", "weekday_utc", "now"]) {
            let (days, hours) = (self.now.0 / (24 * HOUR_MS), self.now.0 / HOUR_MS);
            all.push(format!("at {}:00 UTC on weekday {}", hours % 24, (days + 3) % 7 + 1));
        }
        if any(&["depth"]) {
            all.push(format!("{} handoffs deep", self.depth));
        }
        if any(&["initiator"]) {
            all.push(format!("for {}", self.initiator));
        }
        all.join(", ")
    }
}
