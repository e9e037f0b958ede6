//! Leases: credentials in target systems, asked for by agents; and what people are shown of them.

use std::collections::BTreeMap;
use std::fmt;

use bailiwick_core::lease::Receipt;
use bailiwick_core::{ApprovalId, SystemId, TaskId, Time, ToolId, Value};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{AskBody, DenialBody, LeaseView};

/// A credential asked for: a call of the tool `system.scope`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LeaseAsk {
    /// The scope, `system.scope`.
    #[schema(value_type = String)]
    pub tool: ToolId,
    /// What the scope is narrowed with, and `ttl_s`, the life in seconds.
    #[serde(default = "Value::empty")]
    #[schema(value_type = Object)]
    pub args: Value,
    /// An approval to present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub approval: Option<ApprovalId>,
    /// What the agent says it is doing. Recorded as untrusted words, never an input to the decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub says: Option<String>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", tag = "effect")]
pub enum LeaseAnswer {
    /// Here it is. Its secrets are told this once.
    Allow(Box<LeaseBody>),
    /// A person must say yes first.
    Ask(AskBody),
    /// No.
    Deny(DenialBody),
}

/// A credential.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LeaseBody {
    /// The lease.
    pub lease: LeaseView,
    /// What it can do, for people.
    pub can: String,
    /// Plain facts: host, port, user.
    pub plain: BTreeMap<String, String>,
    /// Secrets by name. Told this once, and kept nowhere.
    pub secret: BTreeMap<String, String>,
    /// Which environment variable each of them goes into for ordinary programs.
    pub env: BTreeMap<String, String>,
}

impl fmt::Debug for LeaseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeaseBody")
            .field("lease", &self.lease.lease)
            .field("plain", &self.plain)
            .finish_non_exhaustive()
    }
}

/// A target system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TargetView {
    /// Its name.
    #[schema(value_type = String)]
    pub system: SystemId,
    /// Its kind.
    pub kind: String,
    /// What takes its credentials away: `P`, `A`, `B`, `C` or `D`.
    pub class: String,
    /// What stays possible between a kill and its effect.
    pub remains: String,
    /// When it last answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub looked: Option<Time>,
    /// When it was last listed from its own side.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub swept: Option<Time>,
    /// What carried our mark then and had no lease; it is being revoked.
    pub strays: Vec<String>,
    /// What has our kind of name and not our mark; it is left alone.
    pub lookalikes: Vec<String>,
    /// The last trouble with it, while it has not answered since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// Whom a host lets in for one login, in the lines that its sshd reads; empty: nobody.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PrincipalsView {
    /// The lines.
    pub lines: Vec<String>,
}

/// What became of a task's credentials.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ReceiptView {
    /// The task.
    #[schema(value_type = String)]
    pub task: TaskId,
    /// Whether it is over.
    pub ended: bool,
    /// Every credential it ever held.
    pub credentials: Vec<LeaseView>,
    /// The receipt as it is recorded in the ledger: only when the task is over and nothing of it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub receipt: Option<Receipt>,
    /// When that was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub given: Option<Time>,
    /// Whether what is recorded there agrees with the evidence of each credential.
    pub agrees: bool,
    /// When this was looked at.
    #[schema(value_type = u64)]
    pub at: Time,
}
