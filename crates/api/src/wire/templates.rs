//! Task templates that are registered.

use std::collections::BTreeMap;

use bailiwick_core::template::TaskTemplate;
use bailiwick_core::{AgentId, PrincipalId, TemplateName, Value};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Registers a version of a task template. A version never changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TemplateAdd {
    /// Its name.
    #[schema(value_type = String)]
    pub name: TemplateName,
    /// Its number: the one after the last. Absent: it must be the first of its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    /// What it says: `agent`, and as they are wanted `about`, `inputs`, `chain`, `ttl_s`, `asks`, `handoffs`, `depth`,
    /// `refusals`, `seeking`; each means what it means when a task is opened.
    #[schema(value_type = Object)]
    pub template: TaskTemplate,
}

/// A version of a task template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TemplateView {
    /// `NAME@VERSION`, as tasks name where they came from.
    pub template: String,
    /// Its name.
    #[schema(value_type = String)]
    pub name: TemplateName,
    /// Its number.
    pub version: u32,
    /// Who registered it.
    #[schema(value_type = String)]
    pub by: PrincipalId,
    /// Who removed it: no further task can be opened from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub removed: Option<PrincipalId>,
    /// What it says.
    #[schema(value_type = Object)]
    pub says: TaskTemplate,
}

/// A task to be opened from a registered template, by whoever is signed in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TemplateOpen {
    /// What is to be done, in the person's own words.
    pub intent: String,
    /// The inputs that the template declares.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = Object)]
    pub inputs: BTreeMap<String, Value>,
    /// The agent that is expected; refused if the template begins with another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub agent: Option<AgentId>,
    /// A window shorter than the template's, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_s: Option<u64>,
}
