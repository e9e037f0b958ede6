//! The seam to policy: the facts a policy sees, and what it may answer.
//!
//! The envelope (ceiling, grant, chain, explained values) is computed here and cannot be widened by any
//! policy; a policy can only forbid or ask for a human. What cannot be evaluated is denied (INV6).

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::agent::Agent;
use crate::approval::AskTerms;
use crate::event::Ruled;
use crate::ids::{GroupId, PrincipalId, StepId, TaskId};
use crate::label::Label;
use crate::time::Time;
use crate::tool::Manifest;
use crate::value::{Digest, Value};

/// What is to be judged.
#[derive(Debug, Clone, Copy)]
pub enum Deed<'a> {
    /// A tool call.
    Call(&'a Manifest),
    /// A handoff to this agent.
    HandOff(&'a Agent),
}

/// The resource a call touches, as far as the manifest can tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// Its type.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// What is known of it.
    pub attrs: BTreeMap<String, String>,
}

/// Who approved, as a policy sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approved {
    /// The people who said yes.
    pub by: BTreeSet<PrincipalId>,
    /// The group that was asked, of which they are members.
    pub group: GroupId,
}

/// Everything a policy may look at. All of it is computed; nothing is an agent's word.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    /// What is to be judged.
    pub deed: Deed<'a>,
    /// The agent that acts.
    pub agent: &'a Agent,
    /// Who opened the task.
    pub initiator: &'a PrincipalId,
    /// The task.
    pub task: &'a TaskId,
    /// Whether the task declared a chain.
    pub has_chain: bool,
    /// The chain step this is, if one takes it.
    pub step: Option<&'a StepId>,
    /// Handoffs between the initiator's first agent and this one.
    pub depth: u8,
    /// What is touched.
    pub resource: Option<Resource>,
    /// The arguments, secrets blanked.
    pub args: &'a Value,
    /// The label of everything this branch of the task has seen, joined with what the agent claims.
    pub label: &'a Label,
    /// Names of steering arguments and content whose values nobody vouches for.
    pub unexplained: &'a BTreeSet<String>,
    /// The human yes, if there is one.
    pub approval: Option<Approved>,
    /// Now.
    pub now: Time,
    /// Milliseconds until the grant ends.
    pub remaining_ms: u64,
}

/// A policy's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Permitted by these rules.
    Permit {
        /// Their ids.
        rules: Vec<String>,
    },
    /// Forbidden unless a human says yes.
    Ask {
        /// The rule that asks.
        rule: String,
        /// Why, for people.
        reason: String,
        /// How it is to be answered.
        terms: AskTerms,
    },
    /// Forbidden.
    Forbid {
        /// The deciding rule, or `no-permit`.
        rule: String,
        /// Why, for people.
        reason: String,
    },
    /// Could not be evaluated; counts as forbidden.
    Error {
        /// What went wrong, for the log.
        reason: String,
    },
}

/// What rules that are only observed would have said. It is recorded and enforces nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Observed {
    /// The observed rules that apply.
    pub rules: BTreeSet<String>,
    /// How the act would have come out if they were enforced.
    pub would: Ruled,
    /// Why, for people.
    pub reason: String,
}

/// A set of policies in one version. Same facts, same verdict: no clock, no chance, no I/O inside.
pub trait Policy {
    /// Judges. Must never panic; what it cannot evaluate is a [`Verdict::Error`].
    fn evaluate(&self, facts: &Facts<'_>) -> Verdict;
    /// What the rules of the set that are only observed would change, if they would change something.
    fn observe(&self, _facts: &Facts<'_>) -> Option<Observed> {
        None
    }
    /// Hash of the set, named in every decision.
    fn version(&self) -> Digest;
}
