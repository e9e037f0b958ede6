//! Decisions: what an agent asks, what it is told, and what people are told afterwards.

use std::collections::{BTreeMap, BTreeSet};

use bailiwick_core::capability::Capability;
use bailiwick_core::label::Label;
use bailiwick_core::verdict::Observed;
use bailiwick_core::{
    AgentId, ApprovalId, DecisionId, Digest, GrantId, PrincipalId, TaskId, Time, ToolId, Value,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::EventView;

/// One tool call to be decided.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CallAsk {
    /// The tool.
    #[schema(value_type = String)]
    pub tool: ToolId,
    /// The arguments: a JSON object.
    #[schema(value_type = Object)]
    pub args: Value,
    /// Hash of the tool's definition as the caller sees it now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub definition: Option<Digest>,
    /// An approval to present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub approval: Option<ApprovalId>,
    /// What the agent says it is doing. Recorded as untrusted words, never an input to the decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub says: Option<String>,
}

/// The answer to a call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", tag = "effect")]
pub enum CallAnswer {
    /// Go ahead, once, with exactly these arguments.
    Allow(AllowBody),
    /// A human must say yes first.
    Ask(AskBody),
    /// No.
    Deny(DenialBody),
}

/// The body of an allow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AllowBody {
    /// The decision.
    #[schema(value_type = String)]
    pub decision: DecisionId,
    /// The tool.
    #[schema(value_type = String)]
    pub tool: ToolId,
    /// What to send upstream.
    #[schema(value_type = Object)]
    pub args: Value,
    /// The call must not start after this.
    #[schema(value_type = u64)]
    pub until: Time,
}

/// The body of an ask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AskBody {
    /// The decision.
    #[schema(value_type = String)]
    pub decision: DecisionId,
    /// The handle to come back with.
    #[schema(value_type = String)]
    pub approval: ApprovalId,
    /// After this, no answer means no.
    #[schema(value_type = u64)]
    pub until: Time,
    /// Words for the caller.
    pub text: String,
}

/// The body of a refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DenialBody {
    /// The decision.
    #[schema(value_type = String)]
    pub decision: DecisionId,
    /// Which step of the procedure refused, 1 to 10.
    pub step: u8,
    /// Stable code.
    pub code: String,
    /// The deciding rule.
    pub rule: String,
    /// Why, for people.
    pub reason: String,
    /// What would help.
    pub remedy: String,
    /// The whole as one short paragraph.
    pub text: String,
    /// Whether the same call may succeed later without anything else changing.
    pub retry: bool,
}

/// How an allowed call went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeKind {
    /// The upstream answered with a result.
    Done,
    /// The upstream answered with an error.
    Failed,
    /// No answer that can be trusted: it may have happened.
    Unknown,
}

/// What came of an allowed call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OutcomeBody {
    /// How it went.
    pub status: OutcomeKind,
    /// The structured result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub result: Option<Value>,
    /// Bytes of the result as received. Absent: those of `result`, printed canonically.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// A short note on a failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A handoff asked for by the parent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HandoffBody {
    /// The agent that shall get the child grant.
    #[schema(value_type = String)]
    pub to: AgentId,
    /// What it shall get. Empty: what the chain foresees for it, within the parent's delegate rights.
    #[serde(default)]
    #[schema(value_type = Vec<Object>)]
    pub capabilities: Vec<Value>,
    /// How long, in seconds; never beyond the parent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_s: Option<u64>,
    /// Further handoffs the child may make.
    #[serde(default)]
    pub depth: u8,
    /// Fields offered to the child; only those that the chain's step names are delivered.
    #[serde(default = "Value::empty")]
    #[schema(value_type = Object)]
    pub payload: Value,
}

/// What came of a handoff.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", tag = "effect")]
pub enum HandoffAnswer {
    /// The child grant stands.
    Allow(HandoffMadeBody),
    /// It was refused.
    Deny(DenialBody),
}

/// A handoff made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HandoffMadeBody {
    /// The decision.
    #[schema(value_type = String)]
    pub decision: DecisionId,
    /// The child's grant; the child fetches its own token for it with its own key.
    #[schema(value_type = String)]
    pub grant: GrantId,
    /// The child.
    #[schema(value_type = String)]
    pub to: AgentId,
    /// The capabilities it got.
    #[schema(value_type = Vec<Object>)]
    pub capabilities: Vec<Value>,
    /// When the grant ends.
    #[schema(value_type = u64)]
    pub until: Time,
    /// The payload as delivered.
    #[schema(value_type = Object)]
    pub delivered: Value,
    /// Names of the fields that were not delivered.
    pub stripped: Vec<String>,
    /// Where the values in it came from, in words. What the sender says of them proves nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<String>,
}

/// An addition to the chain that an agent asks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AmendBody {
    /// The calls it wants to make, each as in a chain: `id`, `tool`, `args` with a constraint each, and if wanted
    /// `after`, `min` and `max`. Who takes them is the caller.
    #[schema(value_type = Vec<Object>)]
    pub steps: Vec<Value>,
    /// What the agent says it needs them for. Untrusted words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub says: Option<String>,
}

/// What came of asking for an amendment. It is never made by asking.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", tag = "effect")]
pub enum AmendAnswer {
    /// People are asked.
    Ask(AskBody),
    /// It was refused.
    Deny(DenialBody),
}

/// A decision explained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DecisionView {
    /// The decision.
    #[schema(value_type = String)]
    pub decision: DecisionId,
    /// `call`, `handoff` or `amendment`.
    pub about: String,
    /// `allow`, `ask` or `deny`.
    pub effect: String,
    /// The step of the procedure that decided.
    pub step: u8,
    /// Stable code.
    pub code: String,
    /// The deciding rule.
    pub rule: String,
    /// Why, for people.
    pub reason: String,
    /// What would help.
    pub remedy: String,
    /// When.
    #[schema(value_type = u64)]
    pub at: Time,
    /// The task.
    #[schema(value_type = String)]
    pub task: TaskId,
    /// Who opened it.
    #[schema(value_type = String)]
    pub initiator: PrincipalId,
    /// Its intent.
    pub intent: String,
    /// What is weaker than it could be, because less was declared when the task was opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weaker: Option<String>,
    /// Handoffs between the initiator's agent and the one that acted.
    pub hop: u8,
    /// The agent that acted.
    #[schema(value_type = String)]
    pub agent: AgentId,
    /// The grant it acted under.
    #[schema(value_type = String)]
    pub grant: GrantId,
    /// Thumbprint of the key of the instance that acted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// The tool, for a call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub tool: Option<ToolId>,
    /// The arguments of the call, secrets blanked, or the payload as delivered.
    #[schema(value_type = Object)]
    pub args: Value,
    /// The recipient, for a handoff.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub to: Option<AgentId>,
    /// The child grant a handoff made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub child: Option<GrantId>,
    /// Payload fields that were not delivered.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub stripped: BTreeSet<String>,
    /// The chain step taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain_step: Option<String>,
    /// The label of the branch when it was decided.
    #[schema(value_type = Object)]
    pub label: Label,
    /// How that label was lowered for what goes into the tool, by declarations of its manifest, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub declassified: Vec<String>,
    /// Where each steering value came from.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = Object)]
    pub origins: BTreeMap<String, Value>,
    /// Steering arguments nobody vouches for.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub unexplained: BTreeSet<String>,
    /// What rules that are only observed would have said; they enforced nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub observed: Option<Observed>,
    /// Where each of the values behind both came from, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<String>,
    /// The question it opened or the approval it used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub approval: Option<ApprovalId>,
    /// The policy version.
    #[schema(value_type = String)]
    pub policy: Digest,
    /// The registry version.
    pub epoch: u64,
    /// The agent's own words, untrusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_says: Option<super::UntrustedWords>,
}

/// From one decision back to the human intent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TraceView {
    /// Who initiated it.
    #[schema(value_type = String)]
    pub initiator: PrincipalId,
    /// The intent in that person's words.
    pub intent: String,
    /// The template the task came from; `NAME@VERSION` is one that is registered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// The task.
    #[schema(value_type = String)]
    pub task: TaskId,
    /// When the task was opened.
    #[schema(value_type = u64)]
    pub opened: Time,
    /// How it ended, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<TraceEnd>,
    /// Every agent on the way, the first one first.
    #[schema(value_type = Vec<String>)]
    pub agents: Vec<AgentId>,
    /// What the acting grant was permitted.
    #[schema(value_type = Vec<Object>)]
    pub permitted: Vec<Capability>,
    /// Until when.
    #[schema(value_type = u64)]
    pub permitted_until: Time,
    /// Who approved, when an approval was used.
    #[schema(value_type = Vec<String>)]
    pub approved_by: Vec<PrincipalId>,
    /// The decision itself.
    pub decision: DecisionView,
    /// The events that led to the act, in order, each with its place in the ledger.
    pub steps: Vec<EventView>,
}

/// How a task ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TraceEnd {
    /// `completed`, `failed`, `expired`, `deviation`, `budget`, `changed` or `killed`.
    pub cause: String,
    /// When.
    #[schema(value_type = u64)]
    pub at: Time,
    /// In words.
    pub reason: String,
}
