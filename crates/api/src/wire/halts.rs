//! Freezing, killing, and lifting either.

use bailiwick_core::{PrincipalId, TaskId, Time};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a freeze or kill is aimed at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScopeKind {
    /// One agent, by name.
    Agent,
    /// All agents of a class.
    Class,
    /// One task.
    Task,
    /// All tasks of an initiator.
    Initiator,
    /// Tools, by pattern such as `mail.*`.
    Tool,
    /// Everything; `name` stays empty.
    All,
}

/// How hard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HaltKind {
    /// Nothing is allowed until it is lifted.
    Frozen,
    /// What runs under it ends; it stays shut until it is lifted.
    Killed,
}

/// Freezes or kills.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HaltAsk {
    /// What kind of thing.
    pub scope: ScopeKind,
    /// Which one.
    #[serde(default)]
    pub name: String,
    /// How hard.
    pub halt: HaltKind,
    /// Why; it is recorded and shown.
    pub reason: String,
}

/// Lifts a freeze or a kill. What ended stays ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LiftAsk {
    /// What kind of thing.
    pub scope: ScopeKind,
    /// Which one.
    #[serde(default)]
    pub name: String,
    /// Why.
    pub reason: String,
}

/// What a freeze, a kill or an end did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HaltedView {
    /// Tasks that ended or froze.
    #[schema(value_type = Vec<String>)]
    pub tasks: Vec<TaskId>,
    /// Grants that were revoked in tasks that go on.
    pub grants: Vec<String>,
    /// Calls that were in flight: whether they had an effect is unknown.
    pub in_flight: u64,
    /// Credentials that may still stand in a target system.
    pub standing: u64,
}

/// Something that is frozen or killed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SuspensionView {
    /// What kind of thing.
    pub scope: ScopeKind,
    /// Which one.
    pub name: String,
    /// How hard.
    pub halt: HaltKind,
    /// Who did it.
    #[schema(value_type = String)]
    pub by: PrincipalId,
    /// Why.
    pub reason: String,
    /// When.
    #[schema(value_type = u64)]
    pub at: Time,
}
