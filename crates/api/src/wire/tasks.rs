//! Tasks.

use std::collections::BTreeMap;

use bailiwick_core::capability::{Capability, Spent};
use bailiwick_core::input::InputTypes;
use bailiwick_core::label::Label;
use bailiwick_core::lease::Evidence;
use bailiwick_core::{
    AgentId, ApprovalId, DecisionId, Digest, GrantId, PrincipalId, TaskId, Time, ToolId, Value,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ApprovalSummary;

/// A task to be opened, by whoever is signed in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TaskOpen {
    /// What is to be done, in the person's own words.
    pub intent: String,
    /// The first agent.
    #[schema(value_type = String)]
    pub agent: AgentId,
    /// Typed inputs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = Object)]
    pub inputs: BTreeMap<String, Value>,
    /// The types of the inputs, as a template declares them: `{"to": {"type": "mail"}}`. Every input is checked
    /// against its type, and none may be there that is not declared. Absent: weaker guarantees.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = Object)]
    pub types: InputTypes,
    /// The permitted action chain; wherever a constraint stands, `{"input": "name"}` binds an input. Absent:
    /// weaker guarantees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub chain: Option<Value>,
    /// What the first agent shall hold. Absent: what the chain needs; without a chain, its ceiling for use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<Object>>)]
    pub capabilities: Option<Vec<Capability>>,
    /// How long the window stays open, in seconds. Absent: one hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_s: Option<u64>,
    /// Questions to humans; one more freezes the task. Absent: 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asks: Option<u32>,
    /// Handoffs in all. Absent: 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handoffs: Option<u32>,
    /// Handoffs in a row. Absent: 4 if the chain has handoffs, otherwise 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub depth: Option<u8>,
    /// Refusals before the task freezes. Absent: they are counted only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusals: Option<u32>,
    /// Tries for more authority than there is before the task freezes. Absent: 25.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seeking: Option<u32>,
    /// The template it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
}

impl TaskOpen {
    /// A task with an intent and an agent, and defaults for everything else.
    pub fn new(intent: impl Into<String>, agent: AgentId) -> Self {
        TaskOpen {
            intent: intent.into(),
            agent,
            inputs: BTreeMap::new(),
            types: InputTypes::new(),
            chain: None,
            capabilities: None,
            ttl_s: None,
            asks: None,
            handoffs: None,
            depth: None,
            refusals: None,
            seeking: None,
            template: None,
        }
    }
}

/// A task that was opened. Nothing runs yet: its agent fetches a token for the grant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TaskOpened {
    /// Its id.
    #[schema(value_type = String)]
    pub task: TaskId,
    /// The root grant.
    #[schema(value_type = String)]
    pub grant: GrantId,
    /// What it may do.
    #[schema(value_type = Vec<Object>)]
    pub capabilities: Vec<Capability>,
    /// When the window closes.
    #[schema(value_type = u64)]
    pub until: Time,
    /// How much was declared: `declared`, `ad_hoc` or `no_chain`.
    pub guarantees: String,
    /// What is weaker than it could be, if something is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weaker: Option<String>,
}

/// A task in one line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TaskSummary {
    /// Its id.
    #[schema(value_type = String)]
    pub task: TaskId,
    /// Who opened it.
    #[schema(value_type = String)]
    pub initiator: PrincipalId,
    /// The intent.
    pub intent: String,
    /// The first agent.
    #[schema(value_type = String)]
    pub agent: AgentId,
    /// `open`, `frozen` or `ended`.
    pub state: String,
    /// Why it ended: `completed`, `failed`, `expired`, `deviation`, `budget`, `changed` or `killed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// Why it froze or ended, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it was opened.
    #[schema(value_type = u64)]
    pub opened: Time,
    /// When its window closes.
    #[schema(value_type = u64)]
    pub until: Time,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub ended: Option<Time>,
    /// Whether a chain was declared.
    pub has_chain: bool,
    /// How much was declared: `declared` (a template with typed inputs), `ad_hoc` (a chain for this one task) or
    /// `no_chain`.
    pub guarantees: String,
    /// What is weaker than it could be, if something is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weaker: Option<String>,
    /// The template it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// Grants that live now.
    pub live_grants: u64,
    /// Questions waiting for people.
    pub waiting: u64,
    /// Refusals so far.
    pub refusals: u64,
    /// How much its agents have tried for beyond what they have.
    #[serde(default)]
    pub seeking: u64,
    /// Events so far.
    pub events: u64,
}

/// A task with everything in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TaskDetail {
    /// The task in one line.
    pub summary: TaskSummary,
    /// The inputs.
    #[schema(value_type = Object)]
    pub inputs: BTreeMap<String, Value>,
    /// Their types, as far as they were declared.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = Object)]
    pub types: InputTypes,
    /// The permitted action chain, inputs bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub chain: Option<Value>,
    /// Steps that people added to it since, each with the amendment it came with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub amended: Vec<AmendedStep>,
    /// How often each step has been taken.
    pub progress: BTreeMap<String, u32>,
    /// Limits.
    #[schema(value_type = Object)]
    pub limits: Value,
    /// The tree of grants, parents before children.
    pub grants: Vec<GrantView>,
    /// What agents have tried for beyond what they have, since the task was opened or last resumed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub seeking: Vec<SeekingView>,
    /// Questions, newest last.
    pub approvals: Vec<ApprovalSummary>,
    /// Allowed calls whose outcome has not come: unknown until it does.
    pub open_calls: Vec<OpenCallView>,
    /// Credentials in target systems.
    pub leases: Vec<LeaseView>,
}

/// A step that an amendment brought.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AmendedStep {
    /// The question that people said yes to.
    #[schema(value_type = String)]
    pub approval: ApprovalId,
    /// The step.
    #[schema(value_type = Object)]
    pub step: Value,
}

/// An agent that tries for more than it has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SeekingView {
    /// Which.
    #[schema(value_type = String)]
    pub agent: AgentId,
    /// How much: each tool once, each handoff and each borrowing every time. Past the task's limit it freezes.
    pub score: u32,
    /// All refusals, mistakes among them.
    pub refusals: u32,
    /// Tools that were neither granted nor declared.
    pub tools: Vec<String>,
    /// Handoffs of what it may not give.
    pub handoffs: u32,
    /// What it presented that is not its own.
    pub borrowed: u32,
    /// The whole in words.
    pub words: String,
}

/// One agent's authority inside a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GrantView {
    /// Its id.
    #[schema(value_type = String)]
    pub grant: GrantId,
    /// Who holds it.
    #[schema(value_type = String)]
    pub agent: AgentId,
    /// The grant it was cut from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub parent: Option<GrantId>,
    /// Handoffs between the root and this one.
    pub depth: u8,
    /// When it ends.
    #[schema(value_type = u64)]
    pub until: Time,
    /// Whether it can act now, suspensions aside.
    pub live: bool,
    /// Whether it was revoked by itself.
    pub revoked: bool,
    /// The label of everything its branch has seen.
    #[schema(value_type = Object)]
    pub label: Label,
    /// What it may do, and what has been spent of it.
    pub held: Vec<HeldView>,
}

/// A capability in a grant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HeldView {
    /// The capability.
    #[schema(value_type = Object)]
    pub capability: Capability,
    /// Spent by this grant and everything below it.
    #[schema(value_type = Object)]
    pub spent: Spent,
}

/// An allowed call without an outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OpenCallView {
    /// The decision that allowed it.
    #[schema(value_type = String)]
    pub decision: DecisionId,
    /// Whose.
    #[schema(value_type = String)]
    pub grant: GrantId,
    /// Which tool.
    #[schema(value_type = String)]
    pub tool: ToolId,
    /// Since when.
    #[schema(value_type = u64)]
    pub since: Time,
}

/// A credential in a target system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LeaseView {
    /// Its id.
    pub lease: String,
    /// For which task.
    #[schema(value_type = String)]
    pub task: TaskId,
    /// For which grant.
    #[schema(value_type = String)]
    pub grant: GrantId,
    /// For which agent.
    #[schema(value_type = String)]
    pub agent: AgentId,
    /// The decision that allowed it.
    #[schema(value_type = String)]
    pub decision: DecisionId,
    /// In which system.
    pub system: String,
    /// Which of its scopes.
    #[schema(value_type = String)]
    pub tool: ToolId,
    /// Its name there.
    pub name: String,
    /// What takes it away: `P`, `A`, `B`, `C` or `D`.
    pub class: String,
    /// Whether it may exist there.
    pub standing: bool,
    /// `requested`, `created`, `active`, `revoking` or `gone`.
    pub state: String,
    /// Whether it stands although it should not.
    pub debt: bool,
    /// When its intent was recorded.
    #[schema(value_type = u64)]
    pub requested: Time,
    /// When it ends at the latest.
    #[schema(value_type = u64)]
    pub until: Time,
    /// When it was created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub created: Option<Time>,
    /// When it was last seen in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub used: Option<Time>,
    /// The most sessions seen at once.
    #[serde(default)]
    pub sessions: u64,
    /// When its revocation began, or when it was seen gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub ended: Option<Time>,
    /// Why it is being revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The last trouble of its revocation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// Attempts that have failed.
    #[serde(default)]
    pub attempts: u32,
    /// Who has acknowledged the debt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged: Option<String>,
    /// What was asked and answered when it was seen gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub evidence: Option<Evidence>,
}

/// One event of a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EventView {
    /// Its place in the task's stream.
    pub at: u64,
    /// When.
    #[schema(value_type = u64)]
    pub time: Time,
    /// Its index in the ledger.
    pub index: u64,
    /// SHA-256 of the recorded bytes.
    #[schema(value_type = String)]
    pub hash: Digest,
    /// Its kind, such as `decided`.
    pub kind: String,
    /// The event as recorded.
    #[schema(value_type = Object)]
    pub event: Value,
}

/// How a person ends a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EndCause {
    /// The work is done.
    Completed,
    /// It failed.
    Failed,
}

/// Ends a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TaskEnd {
    /// How.
    pub cause: EndCause,
    /// Why, in words.
    #[serde(default)]
    pub reason: String,
}

/// A reason in a person's words.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Reason {
    /// Why.
    #[serde(default)]
    pub reason: String,
}
