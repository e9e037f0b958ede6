//! People and workflows, and the keys they sign in with.

use std::collections::{BTreeMap, BTreeSet};

use bailiwick_core::{Digest, GroupId, PrincipalId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a person's key begins with.
pub const KEY_PREFIX: &str = "bwk_";

/// The hash of a person's key as the registry keeps it: SHA-256 of the whole text, prefix included. `None` if
/// the text is not a key: `bwk_` and 43 characters of base64url, which are 32 random bytes.
pub fn key_digest(key: &str) -> Option<Digest> {
    let body = key.strip_prefix(KEY_PREFIX)?;
    let fits = body.len() == 43 && body.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    fits.then(|| Digest::of(key.as_bytes()))
}

/// Registers a person or workflow, or changes them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PersonSet {
    /// Who.
    #[schema(value_type = String)]
    pub id: PrincipalId,
    /// Groups, which policies ask.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub groups: BTreeSet<GroupId>,
    /// Whether this is a workflow or service: it may open tasks and nothing else.
    #[serde(default)]
    pub workload: bool,
    /// Hashes ([`key_digest`]) of the keys this person signs in with. Absent: those they have stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>)]
    pub keys: Option<BTreeSet<Digest>>,
}

/// A registered person or workflow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PersonView {
    /// Who.
    #[schema(value_type = String)]
    pub id: PrincipalId,
    /// Groups.
    #[schema(value_type = Vec<String>)]
    pub groups: BTreeSet<GroupId>,
    /// Whether this is a workflow or service.
    pub workload: bool,
    /// The first twelve digits of each key's hash.
    pub keys: Vec<String>,
}

/// The organisation's own domains and known values. Replaced as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DirectoryBody {
    /// The organisation's own mail domains.
    #[serde(default)]
    pub own_domains: BTreeSet<String>,
    /// Known payees, registered endpoints, addresses.
    #[serde(default)]
    pub known: BTreeSet<String>,
    /// Own records by their type, such as `repository`: ids that explain themselves as such.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub records: BTreeMap<String, BTreeSet<String>>,
}
