//! Task templates: registered in versions that never change, and held to when a task is opened from one.

use bailiwick_core::input::{BadInput, INPUTS_MAX};
use bailiwick_core::opening::{WINDOW_MAX_MS, known_agents};
use bailiwick_core::registry::{Registry, RegistryEvent};
use bailiwick_core::template::{Registered, TaskTemplate, TemplateId, Templates};
use bailiwick_core::value::Value;
use bailiwick_core::{PrincipalId, TemplateName};

use crate::error::{EngineError, Kind};
use crate::log::Engine;
use crate::open::{NewTask, chain_of, few_enough};

/// How large a template may be, in bytes of its canonical form.
const TEMPLATE_MAX: usize = 48_000;

impl Engine {
    /// Registers a version of a template. Without a number it must be the first of its name; the same again changes
    /// nothing.
    ///
    /// # Errors
    /// `template.exists` if the number is taken by something else, `template.version` if it does not come next, and
    /// what is wrong with the template itself.
    pub async fn add_template(
        &self,
        by: &PrincipalId,
        name: &TemplateName,
        version: Option<u32>,
        template: TaskTemplate,
    ) -> Result<TemplateId, EngineError> {
        let place = |templates: &Templates| place(templates, name, version, &template);
        let authority = self
            .amend(|registry| {
                let (id, is_new) = place(registry.templates())?;
                if !is_new {
                    return Ok(vec![]);
                }
                check(registry, &template)?;
                let (name, version, by) = (id.name, id.version, by.clone());
                Ok(vec![RegistryEvent::TemplateAdded { name, version, template: template.clone(), by }])
            })
            .await?;
        // Whatever has been added since, this one is there now, under the number it was given.
        let held = authority.registry.templates().versions(name);
        let same =
            held.filter(|(id, held)| version.is_none_or(|v| v == id.version) && held.template == template);
        same.last().map(|(id, _)| id).ok_or_else(|| EngineError::missing("template", name))
    }

    /// No further task may be opened from this version. Tasks that were go on, and what it said stays readable.
    ///
    /// # Errors
    /// `not_found` if there is no such version.
    pub async fn remove_template(&self, by: &PrincipalId, id: &TemplateId) -> Result<(), EngineError> {
        self.amend(|registry| {
            let held = registry.templates().get(id).ok_or_else(|| EngineError::missing("template", id))?;
            if held.removed.is_some() {
                return Ok(vec![]);
            }
            let (name, version, by) = (id.name.clone(), id.version, by.clone());
            Ok(vec![RegistryEvent::TemplateRemoved { name, version, by }])
        })
        .await
        .map(|_| ())
    }

    /// A version, written `NAME@VERSION`, or the newest of a name that was not removed.
    ///
    /// # Errors
    /// `not_found` if there is none, `template.removed` if all of the name were removed, `id.malformed`.
    pub fn template(&self, wanted: &str) -> Result<(TemplateId, Registered), EngineError> {
        self.look(|registry| {
            let templates = registry.templates();
            let id = if wanted.contains('@') { parsed(wanted)? } else { newest(templates, wanted)? };
            let held = templates.get(&id).ok_or_else(|| EngineError::missing("template", &id))?;
            Ok((id, held.clone()))
        })
    }

    /// All versions of all templates, by name and version, the removed ones too.
    pub fn templates(&self) -> Vec<(TemplateId, Registered)> {
        self.look(|registry| registry.templates().all().map(|(id, held)| (id, held.clone())).collect())
    }
}

fn parsed(text: &str) -> Result<TemplateId, EngineError> {
    TemplateId::parse(text).map_err(|e| EngineError::invalid(e.code(), e.to_string()))
}

fn newest(templates: &Templates, name: &str) -> Result<TemplateId, EngineError> {
    let name = TemplateName::parse(name).map_err(|e| EngineError::invalid(e.code(), e.to_string()))?;
    templates.newest(&name).ok_or_else(|| match templates.next(&name) {
        1 => EngineError::missing("template", &name),
        _ => removed(&name),
    })
}

fn removed(what: &dyn std::fmt::Display) -> EngineError {
    let what = format!("{what} was removed; see `bailiwick task template list` for what there is");
    EngineError::new(Kind::Conflict, "template.removed", what)
}

/// The number that a template gets, and whether it is new there.
fn place(
    templates: &Templates,
    name: &TemplateName,
    version: Option<u32>,
    template: &TaskTemplate,
) -> Result<(TemplateId, bool), EngineError> {
    let next = templates.next(name);
    let id = |version| TemplateId { name: name.clone(), version };
    let version = match version {
        Some(version) => version,
        None => match templates
            .newest(name)
            .filter(|id| templates.get(id).is_some_and(|h| h.template == *template))
        {
            Some(same) => same.version,
            None => 1,
        },
    };
    if version == next {
        return Ok((id(version), true));
    }
    match templates.get(&id(version)) {
        Some(held) if held.removed.is_some() => Err(removed(&id(version))),
        Some(held) if held.template == *template => Ok((id(version), false)),
        Some(_) => {
            let what = format!(
                "{} is something else, and a version never changes; the next version of {name} is {next}",
                id(version)
            );
            Err(EngineError::new(Kind::Conflict, "template.exists", what))
        }
        None => {
            let what = format!("versions come one after the other: the next one of {name} is {next}");
            Err(EngineError::new(Kind::Conflict, "template.version", what))
        }
    }
}

/// Whether tasks could be opened from a template, whatever their inputs.
fn check(registry: &Registry, template: &TaskTemplate) -> Result<(), EngineError> {
    let invalid = |bad: BadInput| EngineError::invalid(bad.code, format!("{bad}. {}", bad.next));
    let size = serde_json::to_string(template).map_or(usize::MAX, |text| text.len());
    if size > TEMPLATE_MAX || template.inputs.len() > INPUTS_MAX {
        let what = format!("a template has at most {TEMPLATE_MAX} bytes and {INPUTS_MAX} inputs");
        return Err(EngineError::invalid("template.too_large", what));
    }
    if registry.agent(&template.agent).is_none() {
        let what = format!("no agent {} is registered; see `bailiwick agent ls`", template.agent);
        return Err(EngineError::invalid("task.agent", what));
    }
    if template.ttl_s.is_some_and(|s| s == 0 || s > WINDOW_MAX_MS / 1000) {
        return Err(EngineError::invalid(
            "template.ttl",
            "a window lasts at least a second and at most seven days",
        ));
    }
    template.asks.map_or(Ok(()), few_enough)?;
    template.inputs.iter().try_for_each(|(name, declared)| declared.validate(name)).map_err(invalid)?;
    let Some(written) = &template.chain else { return Ok(()) };
    // An input stands for one value, so whatever holds with anything in its place holds with that.
    let chain = chain_of(written, &|name| template.inputs.contains_key(name).then(|| Value::from("any")))?;
    chain.validate().map_err(|e| EngineError::invalid("task.chain", e.to_string()))?;
    known_agents(registry, &chain).map_err(|e| EngineError::invalid(e.code, e.reason))
}

/// The version that a new task says it comes from, if it names one. What it says must be what that version says, so
/// the name in the record is true whoever wrote the task down.
pub(crate) fn origin<'r>(
    registry: &'r Registry,
    new: &NewTask,
) -> Result<Option<&'r TaskTemplate>, EngineError> {
    let Some(named) = new.template.as_deref().filter(|named| named.contains('@')) else { return Ok(None) };
    let id = parsed(named)?;
    let held = registry.templates().get(&id).ok_or_else(|| EngineError::missing("template", &id))?;
    if held.removed.is_some() {
        return Err(removed(&id));
    }
    let says = &held.template;
    let same = says.agent == new.agent
        && says.inputs == new.types
        && says.chain == new.chain
        && new.capabilities.is_none()
        && says.ttl_s.is_none_or(|s| new.ttl_ms <= s.saturating_mul(1000))
        && says.asks.is_none_or(|n| n == new.asks)
        && says.handoffs.is_none_or(|n| n == new.handoffs)
        && says.depth.is_none_or(|n| n == new.depth)
        && says.refusals.is_none_or(|n| Some(n) == new.refusals)
        && says.seeking.is_none_or(|n| Some(n) == new.seeking);
    if same {
        return Ok(Some(says));
    }
    let what =
        format!("the task is not what {id} says; open it from the template, with intent and inputs alone");
    Err(EngineError::invalid("template.differs", what))
}
