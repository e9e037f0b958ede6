//! Task templates that are registered: what all tasks of a kind have in common, under a name, in versions that never
//! change.
//!
//! A version is named once and for all: its number comes after the one before, is never given twice, and means the
//! same when it has been removed. Removing one only says that no further task may be opened from it.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use serde::{Deserialize, Serialize};

use crate::ids::{AgentId, BadId, PrincipalId, TemplateName};
use crate::input::InputTypes;
use crate::value::Value;

/// What a task is opened with, apart from its intent and the values of its inputs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskTemplate {
    /// What it is for, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
    /// The first agent.
    pub agent: AgentId,
    /// The inputs with their types. None but these can be given.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs: InputTypes,
    /// The permitted action chain; `{"input": "name"}` stands for a constraint. Absent: weaker guarantees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain: Option<Value>,
    /// How long the window stays open at most, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_s: Option<u64>,
    /// Questions to humans; one more freezes the task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asks: Option<u32>,
    /// Handoffs in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handoffs: Option<u32>,
    /// Handoffs in a row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub depth: Option<u8>,
    /// Refusals before the task freezes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusals: Option<u32>,
    /// Tries for more authority than there is before the task freezes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seeking: Option<u32>,
}

/// One version of a template, written `NAME@VERSION`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TemplateId {
    /// The name that all its versions share.
    pub name: TemplateName,
    /// Which of them; the first is 1.
    pub version: u32,
}

impl TemplateId {
    /// Reads `NAME@VERSION`.
    ///
    /// # Errors
    /// [`BadId`] for anything else; a version has one spelling.
    pub fn parse(text: &str) -> Result<Self, BadId> {
        let (name, version) = text.rsplit_once('@').unwrap_or((text, ""));
        let read = version.parse().ok().filter(|v: &u32| *v > 0 && v.to_string() == version);
        let version = read.ok_or_else(|| BadId::template(text))?;
        Ok(TemplateId { name: TemplateName::parse(name)?, version })
    }
}

impl fmt::Display for TemplateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.version)
    }
}

/// A version that was registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// What it says.
    pub template: TaskTemplate,
    /// Who registered it.
    pub by: PrincipalId,
    /// Who removed it, if somebody has.
    pub removed: Option<PrincipalId>,
}

/// All templates that were ever registered, by name and version.
#[derive(Debug, Clone, Default)]
pub struct Templates(BTreeMap<TemplateName, Vec<Registered>>);

impl Templates {
    /// A version, removed or not.
    pub fn get(&self, id: &TemplateId) -> Option<&Registered> {
        let place = usize::try_from(id.version).ok()?.checked_sub(1)?;
        self.0.get(&id.name)?.get(place)
    }

    /// The newest version that was not removed.
    pub fn newest(&self, name: &TemplateName) -> Option<TemplateId> {
        self.versions(name).filter(|(_, held)| held.removed.is_none()).last().map(|(id, _)| id)
    }

    /// The number that the next version of a name has.
    pub fn next(&self, name: &TemplateName) -> u32 {
        u32::try_from(self.0.get(name).map_or(0, Vec::len)).unwrap_or(u32::MAX).saturating_add(1)
    }

    /// All of them, by name and version.
    pub fn all(&self) -> impl Iterator<Item = (TemplateId, &Registered)> {
        self.0.keys().flat_map(|name| self.versions(name))
    }

    /// The versions of a name, in order.
    pub fn versions(&self, name: &TemplateName) -> impl Iterator<Item = (TemplateId, &Registered)> {
        let held = self.0.get_key_value(name);
        held.into_iter().flat_map(|(name, held)| {
            (1..).zip(held).map(|(version, held)| (TemplateId { name: name.clone(), version }, held))
        })
    }

    /// Takes a version in. One that does not come next changes nothing: what is there stays as it is.
    pub(crate) fn add(
        &mut self,
        name: &TemplateName,
        version: u32,
        template: &TaskTemplate,
        by: &PrincipalId,
    ) {
        if version == self.next(name) {
            let new = Registered { template: template.clone(), by: by.clone(), removed: None };
            self.0.entry(name.clone()).or_default().push(new);
        }
    }

    /// Notes that no task may be opened from a version any more.
    pub(crate) fn remove(&mut self, id: &TemplateId, by: &PrincipalId) {
        let place = usize::try_from(id.version).ok().and_then(|v| v.checked_sub(1));
        let held = self.0.get_mut(&id.name).zip(place).and_then(|(all, place)| all.get_mut(place));
        if let Some(held) = held {
            held.removed.get_or_insert_with(|| by.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    fn template(ttl_s: u64) -> TaskTemplate {
        let (agent, inputs) = (AgentId::parse("clerk").unwrap(), InputTypes::new());
        TaskTemplate {
            about: None,
            agent,
            inputs,
            chain: None,
            ttl_s: Some(ttl_s),
            asks: None,
            handoffs: None,
            depth: None,
            refusals: None,
            seeking: None,
        }
    }

    #[test]
    fn a_version_has_one_spelling() {
        let id = TemplateId::parse("ticket-fix@12").unwrap();
        assert_eq!((id.name.as_str(), id.version), ("ticket-fix", 12));
        assert_eq!(format!("{id}"), "ticket-fix@12");
        for bad in
            ["", "@", "a", "a@", "a@0", "a@01", "a@+1", "a@-1", "a@1 ", "@1", "A@1", "a@1@2", "a@4294967296"]
        {
            assert!(TemplateId::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_version_never_changes_and_its_number_is_never_given_twice() {
        let (name, by) =
            (TemplateName::parse("fix").unwrap(), PrincipalId::parse("dana@example.org").unwrap());
        let id = |version| TemplateId { name: name.clone(), version };
        let mut all = Templates::default();
        assert_eq!((all.next(&name), all.newest(&name)), (1, None));
        all.add(&name, 1, &template(60), &by);
        all.add(&name, 1, &template(61), &by);
        all.add(&name, 3, &template(63), &by);
        assert_eq!(all.get(&id(1)).unwrap().template, template(60), "the second one to come is not it");
        assert!(all.get(&id(3)).is_none() && all.get(&id(0)).is_none());
        all.add(&name, 2, &template(62), &by);
        assert_eq!(all.newest(&name), Some(id(2)));
        all.remove(&id(2), &by);
        all.remove(&id(7), &by);
        assert_eq!(
            (all.newest(&name), all.next(&name)),
            (Some(id(1)), 3),
            "a removed number is taken all the same"
        );
        assert_eq!(all.get(&id(2)).unwrap().template, template(62), "and means what it meant");
    }
}
