//! Questions to people.

use bailiwick_core::{
    AgentId, ApprovalId, DecisionId, Digest, GroupId, PrincipalId, TaskId, Time, ToolId, Value,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A question in one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApprovalSummary {
    /// The handle.
    #[schema(value_type = String)]
    pub approval: ApprovalId,
    /// The task.
    #[schema(value_type = String)]
    pub task: TaskId,
    /// The agent that asks.
    #[schema(value_type = String)]
    pub agent: AgentId,
    /// What is asked about: `call`, or `amendment` of the chain.
    pub about: String,
    /// The tool; of an amendment, the first it would add.
    #[schema(value_type = String)]
    pub tool: ToolId,
    /// `waiting`, `approved`, `denied`, `used` or `expired`.
    pub state: String,
    /// Who said yes so far.
    #[schema(value_type = Vec<String>)]
    pub yes: Vec<PrincipalId>,
    /// How many different people must say yes.
    pub quorum: u8,
    /// When it was asked.
    #[schema(value_type = u64)]
    pub asked: Time,
    /// After this, no answer means no.
    #[schema(value_type = u64)]
    pub until: Time,
}

/// A question as a person must see it: computed facts first, in the order of the members here; the agent's own
/// words last, marked as untrusted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ApprovalCard {
    /// The handle.
    #[schema(value_type = String)]
    pub approval: ApprovalId,
    /// Where it stands: `waiting`, `approved`, `denied`, `used`, `expired`, or `void` when the policies have changed
    /// since it was asked.
    pub state: String,
    /// 1. What would happen, in one sentence.
    pub title: String,
    /// 2. What makes it risky, one sentence each.
    pub risks: Vec<String>,
    /// 3. Who: the person, then each agent down to the one that asks.
    pub who: Vec<String>,
    /// 4. The declared task, and whether this is in its plan.
    pub task: CardTask,
    /// 5. When it expires, and what happens then.
    pub expiry: CardExpiry,
    /// 6. The exact arguments, secrets blanked.
    #[schema(value_type = Object)]
    pub args: Value,
    /// 6. Where each value that steers came from, in words; what nobody vouches for is among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
    /// 6. The smaller arguments an approver made of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub narrowed: Option<Value>,
    /// 6. For an amendment: what becomes possible that is not, step by step. Empty for a call.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub adds: Vec<CardAddition>,
    /// 7. What it touches.
    pub touches: CardTouches,
    /// 8. Why you are asked, and who else is.
    pub asked_of: CardAskedOf,
    /// The decision that asked.
    #[schema(value_type = String)]
    pub decision: DecisionId,
    /// Hash of the frozen act.
    #[schema(value_type = String)]
    pub act: Digest,
    /// 9. The agent's own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_says: Option<UntrustedWords>,
}

/// What one step of an amendment would make possible that is not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CardAddition {
    /// The step.
    pub step: String,
    /// The agent that could take it.
    #[schema(value_type = String)]
    pub agent: AgentId,
    /// The tool.
    #[schema(value_type = String)]
    pub tool: ToolId,
    /// `read`, `create`, `update`, `delete`, `egress` or `admin`.
    pub effect: String,
    /// Whether it can be undone.
    pub reversible: bool,
    /// What its arguments may be.
    #[schema(value_type = Object)]
    pub args: Value,
    /// How often.
    pub times: u32,
    /// Why it is refused until now.
    pub until_now: String,
    /// Whether the agent's grant grows too; otherwise it held the right and the chain left it no use.
    pub grant_grows: bool,
    /// Arguments whose value nobody in the task vouches for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unexplained: Vec<String>,
}

/// The task a question belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CardTask {
    /// Its id.
    #[schema(value_type = String)]
    pub id: TaskId,
    /// The initiator's words.
    pub intent: String,
    /// Whether the chain foresees this.
    pub planned: bool,
    /// What is weaker than it could be, because less was declared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weaker: Option<String>,
}

/// When a question expires.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CardExpiry {
    /// When.
    #[schema(value_type = u64)]
    pub until: Time,
    /// What happens if nobody answers: always `denied`.
    pub then: String,
}

/// What an act touches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CardTouches {
    /// The tool.
    #[schema(value_type = String)]
    pub tool: ToolId,
    /// `read`, `create`, `update`, `delete`, `egress` or `admin`; absent if the tool is not classified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<String>,
    /// Whether it can be undone.
    pub reversible: bool,
}

/// Why a person is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CardAskedOf {
    /// The rule that asks.
    pub rule: String,
    /// Its reason.
    pub reason: String,
    /// The group whose members may answer.
    #[schema(value_type = String)]
    pub group: GroupId,
    /// How many different members must say yes.
    pub quorum: u8,
    /// Who has said yes.
    #[schema(value_type = Vec<String>)]
    pub yes: Vec<PrincipalId>,
    /// Whether you, who look at this, may answer.
    pub you_may: bool,
}

/// Words of an agent. Never markup, never links, never an instruction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UntrustedWords {
    /// Always `written by the agent, may be manipulated`.
    pub warning: String,
    /// The words.
    pub text: String,
}

/// The warning of [`UntrustedWords`].
pub const UNTRUSTED_WARNING: &str = "written by the agent, may be manipulated";

/// How a person answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum VoteKind {
    /// Yes, once, to exactly this.
    Approve,
    /// Yes to something smaller: `args` says what.
    Narrow,
    /// No: `reason` says why.
    Deny,
}

/// A person's answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VoteBody {
    /// How.
    pub vote: VoteKind,
    /// The smaller arguments, for `narrow` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub args: Option<Value>,
    /// Why, required for `deny`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The state of a question, for the agent that asked it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum ApprovalStateView {
    /// Nobody has decided yet.
    Waiting {
        /// After this, no answer means no.
        #[schema(value_type = u64)]
        until: Time,
    },
    /// Yes, once: present the handle with the same arguments, or the narrowed ones.
    Approved {
        /// Until when it may be used.
        #[schema(value_type = u64)]
        until: Time,
        /// The arguments that were approved, when the approver narrowed them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(value_type = Option<Object>)]
        narrowed: Option<Value>,
    },
    /// No.
    Denied {
        /// The approver's words.
        reason: String,
    },
    /// Too late, used, or the task is over.
    Closed {
        /// Why.
        reason: String,
    },
}
