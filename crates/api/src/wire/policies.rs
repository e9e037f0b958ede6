//! Policies.

use bailiwick_core::{AgentId, DecisionId, Digest, PrincipalId, TaskId, Time, ToolId, Value};
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
    /// Rules that are only observed and enforce nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub observed: Vec<String>,
    /// The files.
    pub policies: Vec<PolicySource>,
}

/// A set of policies that was ever made active. Its text never changes: the version is its hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PolicyVersionView {
    /// Its hash, named in every decision that was judged under it.
    #[schema(value_type = String)]
    pub version: Digest,
    /// Whether it is active now.
    pub active: bool,
    /// Who made it active.
    #[schema(value_type = String)]
    pub by: PrincipalId,
    /// The version of the registry from which on it was.
    pub epoch: u64,
    /// Its files.
    pub files: Vec<String>,
}

/// Makes a set active again that was active before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyUse {
    /// Its hash.
    #[schema(value_type = String)]
    pub version: Digest,
}

/// Recorded decisions to be judged again under other policies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplayAsk {
    /// The policies.
    pub policies: Vec<PolicySource>,
    /// Since when; absent: from the beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub since: Option<Time>,
    /// How many of the newest tasks are looked at; absent: 1000, which is also the most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tasks: Option<u64>,
}

/// What recorded decisions would have been.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ReplayView {
    /// Decisions about calls that were looked at.
    pub decisions: u64,
    /// Of them, refused before policies were asked: no policy changes that.
    pub before_policy: u64,
    /// Of them, the same.
    pub same: u64,
    /// Newly allowed.
    pub newly_allowed: u64,
    /// Newly asked.
    pub newly_asked: u64,
    /// Newly denied.
    pub newly_denied: u64,
    /// What changes, the newly allowed first; at most 1000.
    pub changed: Vec<ReplayedView>,
    /// What cannot be told, with the reason; at most 1000.
    pub untold: Vec<UntoldView>,
    /// Decisions that cannot be told, in all.
    pub untold_all: u64,
    /// Handoffs, which are not replayed.
    pub handoffs: u64,
}

/// A decision that would have come out differently.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ReplayedView {
    /// Which.
    #[schema(value_type = String)]
    pub decision: DecisionId,
    /// In which task.
    #[schema(value_type = String)]
    pub task: TaskId,
    /// When.
    #[schema(value_type = u64)]
    pub at: Time,
    /// Whose.
    #[schema(value_type = String)]
    pub agent: AgentId,
    /// About what.
    #[schema(value_type = String)]
    pub tool: ToolId,
    /// With which arguments.
    #[schema(value_type = Object)]
    pub args: Value,
    /// How it came out: `allow`, `ask` or `deny`.
    pub was: String,
    /// How it would have.
    pub would: String,
    /// By which rule.
    pub rule: String,
    /// Why.
    pub reason: String,
}

/// A decision that cannot be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UntoldView {
    /// Which.
    #[schema(value_type = String)]
    pub decision: DecisionId,
    /// Why not.
    pub why: String,
}

/// A set of policies that is active now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PolicyActive {
    /// Its hash.
    #[schema(value_type = String)]
    pub version: Digest,
    /// Rules of it that are only observed and enforce nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub observed: Vec<String>,
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
