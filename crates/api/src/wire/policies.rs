//! Policies.

use bailiwick_core::Digest;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One policy file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicySource {
    /// Its name, for messages.
    pub name: String,
    /// Its Cedar text.
    pub text: String,
}

/// The active policies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PolicySetView {
    /// Hash of the active set; absent while the defaults are active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub version: Option<Digest>,
    /// Whether these are the built-in defaults.
    pub defaults: bool,
    /// The files.
    pub policies: Vec<PolicySource>,
}

/// A set of policies that is active now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PolicyActive {
    /// Its hash.
    #[schema(value_type = String)]
    pub version: Digest,
}

/// What a check of policies found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PolicyCheck {
    /// Whether they could be made active.
    pub ok: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}
