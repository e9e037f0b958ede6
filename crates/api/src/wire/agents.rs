//! Agents.

use bailiwick_core::capability::Capability;
use bailiwick_core::{AgentClass, AgentId, PrincipalId, Value};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Registers an agent or changes it. Grants nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AgentSet {
    /// Its name.
    #[schema(value_type = String)]
    pub id: AgentId,
    /// The person who answers for it.
    #[schema(value_type = String)]
    pub owner: PrincipalId,
    /// Its class.
    #[schema(value_type = String)]
    pub class: AgentClass,
    /// What it could ever be given.
    #[serde(default)]
    #[schema(value_type = Vec<Object>)]
    pub ceiling: Vec<Capability>,
    /// The keys that prove it. Absent: those it has stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<Vec<AgentKey>>,
}

/// A public key of an agent: its RFC 7638 thumbprint (43 characters of base64url), or the JWK itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum AgentKey {
    /// The thumbprint.
    Thumbprint(String),
    /// The public JWK; only its thumbprint is kept.
    #[schema(value_type = Object)]
    Jwk(Value),
}

/// A registered agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AgentView {
    /// Its name.
    #[schema(value_type = String)]
    pub id: AgentId,
    /// Its SPIFFE ID.
    pub spiffe: String,
    /// The person who answers for it.
    #[schema(value_type = String)]
    pub owner: PrincipalId,
    /// Its class.
    #[schema(value_type = String)]
    pub class: AgentClass,
    /// What it could ever be given.
    #[schema(value_type = Vec<Object>)]
    pub ceiling: Vec<Capability>,
    /// Thumbprints of the keys that prove it.
    pub keys: Vec<String>,
    /// Why it may not act now, if it is frozen or killed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspended: Option<String>,
}
