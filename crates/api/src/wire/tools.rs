//! Tools and their manifests.

use bailiwick_core::tool::Manifest;
use bailiwick_core::{Digest, ToolId, Value};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Classifies a tool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ToolSet {
    /// What is stated about it; its `tool` must be the one in the path.
    #[schema(value_type = Object)]
    pub manifest: Manifest,
    /// The definition that was looked at. Absent: the newest one seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub pin: Option<Digest>,
}

/// A tool, with where it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ToolDetail {
    /// The tool.
    #[schema(value_type = String)]
    pub tool: ToolId,
    /// `classified`, `proposed` or `quarantined`.
    pub standing: String,
    /// The definition's hash it is or was pinned to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub pin: Option<Digest>,
    /// Hash of the newest definition seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub seen: Option<Digest>,
    /// What was stated about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub manifest: Option<Manifest>,
    /// The newest definition seen: the tool server's own words, untrusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub definition: Option<Value>,
}

/// A tool as an agent may see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ToolOffer {
    /// The tool.
    #[schema(value_type = String)]
    pub tool: ToolId,
    /// The pinned definition.
    #[schema(value_type = Object)]
    pub definition: Value,
    /// Its hash.
    #[schema(value_type = String)]
    pub pin: Digest,
}
