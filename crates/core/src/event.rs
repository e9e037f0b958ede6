//! Events: the facts of a task, and the bytes that become leaves of the ledger.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::amendment::{Amended, Proposed};
use crate::approval::{AskTerms, Vote};
use crate::capability::{Capability, Spent};
use crate::chain::Chain;
use crate::declassify::Lowered;
use crate::ids::{AgentId, ApprovalId, DecisionId, GrantId, LeaseId, PrincipalId, StepId, TaskId, ToolId};
use crate::input::InputTypes;
use crate::label::Label;
use crate::lease::{Intent, LeaseFact, Receipt};
use crate::origin::{Identifier, Origin, Sourced};
use crate::time::Time;
use crate::tool::Effect;
use crate::value::{Digest, Value};
use crate::verdict::Observed;

/// One event with its place in its stream, as it is written to the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded<E> {
    /// Format version.
    pub v: u8,
    /// The stream.
    pub stream: String,
    /// How many events the stream had before.
    pub at: u64,
    /// When, as the authority's timekeeper saw it.
    pub time: Time,
    /// What.
    #[serde(flatten)]
    pub event: E,
}

/// The format version written today.
pub const FORMAT: u8 = 1;

/// Bytes in the ledger that are not an event this program understands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an event of format {FORMAT}: {0}")]
pub struct BadEvent(String);

impl<E: Serialize + DeserializeOwned> Recorded<E> {
    /// The leaf bytes: JSON with fields in a fixed order. Same event, same bytes.
    pub fn encode(&self) -> Result<Vec<u8>, BadEvent> {
        serde_json::to_vec(self).map_err(|e| BadEvent(alloc::format!("{e}")))
    }
    /// Reads leaf bytes. Anything unknown is an error: a node never skips what it does not understand.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadEvent> {
        let event: Self = serde_json::from_slice(bytes).map_err(|e| BadEvent(alloc::format!("{e}")))?;
        if event.v == FORMAT { Ok(event) } else { Err(BadEvent(alloc::format!("format {}", event.v))) }
    }
}

/// The most a task may do apart from its chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskLimits {
    /// The end of its window.
    pub until: Time,
    /// Questions to humans; one more freezes the task.
    pub asks: u32,
    /// Handoffs in all.
    pub handoffs: u32,
    /// Handoffs in a row.
    pub depth: u8,
    /// Refusals in all; one more freezes the task. Absent: counted only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusals: Option<u32>,
    /// Tries for more authority than there is, over all agents; one more freezes the task. Absent: counted only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seeking: Option<u32>,
}

/// A task as it was opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Opening {
    /// Its id.
    pub task: TaskId,
    /// The human or workflow whose intent it serves.
    pub initiator: PrincipalId,
    /// The intent, in the person's words. Immutable.
    pub intent: String,
    /// Typed inputs.
    pub inputs: BTreeMap<String, Value>,
    /// The types of the inputs, as the template declares them; empty: nobody declared any.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub types: InputTypes,
    /// The permitted action chain; absent: weaker guarantees.
    pub chain: Option<Chain>,
    /// Limits.
    pub limits: TaskLimits,
    /// The root grant.
    pub grant: GrantId,
    /// The agent that holds it.
    pub agent: AgentId,
    /// What it may do.
    pub capabilities: Vec<Capability>,
    /// Where the task came from: a template, a schedule, a ticket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
}

/// How much was declared before a task was opened, and so how much holds whatever its agents do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Guarantees {
    /// A chain made from a template, with typed inputs.
    Declared,
    /// A chain written for this one task: order, counts and arguments hold, but nobody checked the chain
    /// beforehand, and its inputs have no types.
    AdHoc,
    /// No chain: ceiling, labels and policies hold; order, counts and arguments do not.
    NoChain,
}

impl Guarantees {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Guarantees::Declared => "declared",
            Guarantees::AdHoc => "ad_hoc",
            Guarantees::NoChain => "no_chain",
        }
    }
    /// What is weaker than it could be, in a sentence; `None` if nothing is.
    pub fn warning(self) -> Option<&'static str> {
        match self {
            Guarantees::Declared => None,
            Guarantees::AdHoc => Some(
                "weaker guarantees: the chain was written for this one task and its inputs have no declared types",
            ),
            Guarantees::NoChain => Some(
                "weaker guarantees: no chain is declared, so ceiling, labels and policies hold, but order, counts and arguments do not",
            ),
        }
    }
}

impl Opening {
    /// How much was declared.
    pub fn guarantees(&self) -> Guarantees {
        match &self.chain {
            None => Guarantees::NoChain,
            // Inputs without types could be anything; a chain that takes none has nothing to type.
            Some(_) if self.template.is_some() && (self.inputs.is_empty() || !self.types.is_empty()) => {
                Guarantees::Declared
            }
            Some(_) => Guarantees::AdHoc,
        }
    }
}

/// How a decision came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ruled {
    /// Go.
    Allow,
    /// A human first.
    Ask,
    /// No.
    Deny,
}

impl Ruled {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Ruled::Allow => "allow",
            Ruled::Ask => "ask",
            Ruled::Deny => "deny",
        }
    }
}

/// Why a decision came out as it did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Why {
    /// The step of the procedure that decided, 1 to 10.
    pub step: u8,
    /// Stable code.
    pub code: String,
    /// The deciding rule: a policy id or the name of a built-in rule.
    pub rule: String,
    /// Why, for people.
    pub reason: String,
    /// What would help.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub remedy: String,
}

/// A question opened by a decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// The handle.
    pub approval: ApprovalId,
    /// The frozen act.
    pub act: Digest,
    /// How it is to be answered.
    pub terms: AskTerms,
    /// After this, no answer means no.
    pub until: Time,
}

/// What a decision charges to a budget: a capability of a grant, by its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Charge {
    /// Which capability of the grant.
    pub capability: u16,
    /// How much.
    pub spent: Spent,
}

/// One decision about one call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decided {
    /// Its id.
    pub decision: DecisionId,
    /// Whose.
    pub grant: GrantId,
    /// Which agent.
    pub agent: AgentId,
    /// Which instance of it: thumbprint of its key.
    pub instance: String,
    /// Which tool.
    pub tool: ToolId,
    /// The arguments, secrets blanked.
    pub args: Value,
    /// What the tool was classified to do at that time; absent for one that nobody had classified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<Effect>,
    /// How it came out.
    pub outcome: Ruled,
    /// Why.
    pub why: Why,
    /// The chain step taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain_step: Option<StepId>,
    /// The branch's label when it was decided.
    #[serde(default, skip_serializing_if = "is_bottom")]
    pub label: Label,
    /// How that label was lowered for what goes into the tool, by declarations of its manifest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub declassified: Vec<Lowered>,
    /// Where each steering argument's value came from.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub origins: BTreeMap<String, Origin>,
    /// Steering arguments that nobody vouches for.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub unexplained: BTreeSet<String>,
    /// What rules that are only observed would have said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed: Option<Observed>,
    /// The values behind both, one by one, as far as they are told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<Sourced>,
    /// The policy version.
    pub policy: Digest,
    /// The registry version.
    pub epoch: u64,
    /// The question it opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Asked>,
    /// The approval it used up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<ApprovalId>,
    /// What it charges.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub charge: Option<Charge>,
    /// The proof of possession it came with, which can never come again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<(Digest, Time)>,
    /// What the agent said it was doing. Untrusted words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub says: Option<String>,
}

fn is_bottom(label: &Label) -> bool {
    *label == Label::bottom()
}

/// How an allowed call went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Went {
    /// A result came.
    Done,
    /// An error came.
    Failed,
    /// Nothing that can be trusted came: it may have happened.
    Unknown,
}

/// The outcome of an allowed call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reported {
    /// Which decision.
    pub decision: DecisionId,
    /// How it went.
    pub went: Went,
    /// The label the result brought into the branch.
    pub label: Label,
    /// How that label was lowered before, by declarations of the tool's manifest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub declassified: Vec<Lowered>,
    /// Whether the caller itself reported it and nobody vouches for that: then it explains nothing.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub claimed: bool,
    /// Whether it failed and so changed nothing, as the tool's manifest says: its step has not been taken.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub undone: bool,
    /// Hash of the result, if it was kept whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Digest>,
    /// What it cost.
    pub spent: Spent,
    /// Values it explains, with the field each came from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub explains: Vec<(Identifier, String)>,
    /// Values it shows and does not explain, with the field each stood in: for telling people.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shows: Vec<(Identifier, String)>,
    /// A note of the enforcement point on a failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A handoff, made or refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HandedOff {
    /// The decision.
    pub decision: DecisionId,
    /// The parent grant.
    pub parent: GrantId,
    /// The parent's agent.
    pub from: AgentId,
    /// The child agent.
    pub to: AgentId,
    /// Made or refused.
    pub outcome: Ruled,
    /// Why.
    pub why: Why,
    /// The child grant, when it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<NewGrant>,
    /// What was asked, when it was refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub asked: Vec<Capability>,
    /// The chain step taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain_step: Option<StepId>,
    /// The payload as delivered.
    pub delivered: Value,
    /// Names of fields that were not delivered.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub stripped: BTreeSet<String>,
    /// What rules that are only observed would have said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed: Option<Observed>,
    /// Where the values in it came from, as far as they are told: what the sender says of them proves nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<Sourced>,
    /// The policy version.
    pub policy: Digest,
    /// The registry version.
    pub epoch: u64,
    /// The proof of possession it came with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<(Digest, Time)>,
}

/// A grant that a handoff made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewGrant {
    /// Its id.
    pub grant: GrantId,
    /// What it may do, each with the parent's capability it was cut from.
    pub capabilities: Vec<(Capability, u16)>,
    /// When it ends.
    pub until: Time,
    /// The label its branch begins with.
    pub label: Label,
}

/// Why a task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The work is done.
    Completed,
    /// It failed.
    Failed,
    /// Its window closed.
    Expired,
    /// It left its chain.
    Deviation,
    /// A budget ran out.
    Budget,
    /// Its owner or its policy changed.
    Changed,
    /// A person killed it.
    Killed,
}

impl Cause {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::Completed => "completed",
            Cause::Failed => "failed",
            Cause::Expired => "expired",
            Cause::Deviation => "deviation",
            Cause::Budget => "budget",
            Cause::Changed => "changed",
            Cause::Killed => "killed",
        }
    }
}

/// What happens to a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event", deny_unknown_fields)]
pub enum TaskEvent {
    /// It was opened.
    Opened(Opening),
    /// A call was decided.
    Decided(Decided),
    /// The outcome of an allowed call.
    Reported(Reported),
    /// A handoff was decided.
    HandedOff(HandedOff),
    /// A token was minted for a grant.
    TokenMinted {
        /// The grant.
        grant: GrantId,
        /// Its `jti`.
        jti: String,
        /// Thumbprint of the key it is bound to.
        instance: String,
        /// When it expires.
        until: Time,
        /// SHA-256 of the token, so that a child's token can name its parent's.
        hash: Digest,
        /// The proof of possession it was asked with, which can never come again.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        proof: Option<(Digest, Time)>,
    },
    /// An agent asked for an addition to the chain; it amends nothing.
    AmendmentProposed(Proposed),
    /// People added to the chain.
    Amended(Amended),
    /// A human answered a question.
    Voted {
        /// Which.
        approval: ApprovalId,
        /// Who.
        by: PrincipalId,
        /// What.
        vote: Vote,
    },
    /// A grant was revoked, and with it everything below it.
    GrantRevoked {
        /// Which.
        grant: GrantId,
        /// By whom: a person, or `bailiwick` itself.
        by: String,
        /// Why.
        reason: String,
    },
    /// The task froze.
    Frozen {
        /// By whom.
        by: String,
        /// Why.
        reason: String,
    },
    /// A person let it go on.
    Resumed {
        /// Who.
        by: PrincipalId,
        /// Why.
        reason: String,
    },
    /// It ended. Nothing in it is alive from here on.
    Ended {
        /// Why.
        cause: Cause,
        /// By whom.
        by: String,
        /// In words.
        reason: String,
    },
    /// A credential is about to be created.
    LeaseRequested(Intent),
    /// Something became of a credential.
    Lease {
        /// Which.
        lease: LeaseId,
        /// What.
        fact: LeaseFact,
    },
    /// It is over, and every credential it held has been seen gone.
    Receipted(Receipt),
}

impl TaskEvent {
    /// A short name, for lists and filters.
    pub fn name(&self) -> &'static str {
        match self {
            TaskEvent::Opened(_) => "opened",
            TaskEvent::Decided(_) => "decided",
            TaskEvent::Reported(_) => "reported",
            TaskEvent::HandedOff(_) => "handed_off",
            TaskEvent::TokenMinted { .. } => "token_minted",
            TaskEvent::AmendmentProposed(_) => "amendment_proposed",
            TaskEvent::Amended(_) => "amended",
            TaskEvent::Voted { .. } => "voted",
            TaskEvent::GrantRevoked { .. } => "grant_revoked",
            TaskEvent::Frozen { .. } => "frozen",
            TaskEvent::Resumed { .. } => "resumed",
            TaskEvent::Ended { .. } => "ended",
            TaskEvent::LeaseRequested(_) => "lease_requested",
            TaskEvent::Lease { .. } => "lease",
            TaskEvent::Receipted(_) => "receipted",
        }
    }
}
