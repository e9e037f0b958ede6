//! How the control plane is, and what stands.

use bailiwick_core::{TenantId, Time};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{LeaseView, SuspensionView, TargetView, TaskSummary};

/// The control plane at a glance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// The version of the program.
    pub version: String,
    /// Whose authority this is.
    #[schema(value_type = String)]
    pub tenant: TenantId,
    /// Issuer of task tokens.
    pub issuer: String,
    /// Audience of task tokens.
    pub audience: String,
    /// `sqlite` or `postgres`.
    pub backend: String,
    /// `up`, `failing` or `stopped`.
    pub store: String,
    /// The last trouble of the store, also after recovery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// The ledger's head that this node keeps outside, if it is to keep one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_head: Option<KeptHeadView>,
    /// The authority's time.
    #[schema(value_type = u64)]
    pub now: Time,
    /// Events in the ledger.
    pub ledger_size: u64,
    /// The version of the registry.
    pub epoch: u64,
    /// Registered agents.
    pub agents: u64,
    /// Classified tools.
    pub tools_classified: u64,
    /// Tools that wait for a human: proposed or quarantined.
    pub tools_waiting: u64,
    /// Registered people and workflows.
    pub people: u64,
    /// What is frozen or killed.
    pub suspensions: Vec<SuspensionView>,
    /// Open tasks in which an agent has tried for more than it has.
    #[serde(default)]
    pub seeking: u64,
    /// Whether this is a server for tests, whose clock can be moved. Never where anything real depends on it.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub test_clock: bool,
}

/// How keeping the ledger's head outside goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeptHeadView {
    /// So many events are under the head that is kept.
    pub covers: u64,
    /// Why it is not brought up to date, if it is not: `ledger.head_unusable`, or `ledger.rolled_back` and
    /// `ledger.forked` if the ledger in use is not the one whose head was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The same in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub since: Option<Time>,
}

/// Moves the clock of a server that was started for tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ClockAdvance {
    /// How far.
    pub seconds: u64,
}

/// What stands anywhere, right now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StandingView {
    /// Open tasks.
    pub tasks: u64,
    /// Live grants in them.
    pub grants: u64,
    /// Credentials that may exist in a target system.
    pub leases: u64,
    /// Those of them that should be gone.
    #[serde(default)]
    pub debts: u64,
    /// Each credential that the asker may see.
    #[serde(default)]
    pub credentials: Vec<LeaseView>,
    /// The targets, as they were last seen.
    #[serde(default)]
    pub targets: Vec<TargetView>,
    /// When this was looked at.
    #[schema(value_type = u64)]
    pub at: Time,
}

/// What is alive.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct InventoryView {
    /// Open tasks that the asker may see.
    pub tasks: Vec<TaskSummary>,
    /// What is frozen or killed.
    pub suspensions: Vec<SuspensionView>,
}

/// Whether the server lives, or is ready to decide.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HealthView {
    /// `ok`; `degraded` if it decides and the ledger's head cannot be kept outside; or `unavailable`.
    pub status: String,
}
