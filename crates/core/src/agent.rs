//! Agents and people: who can hold authority, who can give it, who answers for it.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use crate::capability::Capability;
use crate::ids::{AgentClass, AgentId, GroupId, PrincipalId};
use crate::value::Digest;

/// A workload with an identity of its own. Registering one grants nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// Its name; its SPIFFE ID is `spiffe://DOMAIN/agent/NAME`.
    pub id: AgentId,
    /// The person who answers for it.
    pub owner: PrincipalId,
    /// Its class.
    pub class: AgentClass,
    /// What it could ever be given. Grants nothing.
    #[serde(default)]
    pub ceiling: Vec<Capability>,
    /// Thumbprints (RFC 7638) of the keys that prove it.
    #[serde(default)]
    pub keys: BTreeSet<String>,
}

/// A person or workflow that opens tasks, answers questions, or both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Person {
    /// Who.
    pub id: PrincipalId,
    /// Groups, which policies ask.
    #[serde(default)]
    pub groups: BTreeSet<GroupId>,
    /// Whether this is a workflow or service: such a principal never approves.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub workload: bool,
    /// SHA-256 of the keys this person signs in with. A key is 256 random bits, shown once and never kept.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub keys: BTreeSet<Digest>,
}

/// The group that may administer: agents, tools, people, policies, kill.
pub const OPERATORS: &str = "operators";
/// The group asked when a rule names none.
pub const APPROVERS: &str = "approvers";

impl Person {
    /// Whether the person belongs to a group.
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g.as_str() == group)
    }
}
