//! Questions to humans: one frozen act, one answer, used once by the one who asked.
//!
//! INV3: an approval serves one agent, one act, once. The act is a hash over everything that could make it
//! another act; an approval is found by that hash and by the grant that asked, and is used up by the very
//! decision that relies on it.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use serde::{Deserialize, Serialize};

use crate::amendment::Proposal;
use crate::ids::{AgentId, ApprovalId, DecisionId, GrantId, GroupId, PrincipalId, TaskId, ToolId};
use crate::time::Time;
use crate::value::{Digest, Value};

/// Everything that makes an act this act and no other.
#[derive(Debug, Clone)]
pub struct FrozenAct<'a> {
    /// The task.
    pub task: &'a TaskId,
    /// The grant.
    pub grant: &'a GrantId,
    /// The agent.
    pub agent: &'a AgentId,
    /// Thumbprint of the key of the agent instance.
    pub instance: &'a str,
    /// The tool.
    pub tool: &'a ToolId,
    /// The hash its definition was pinned with.
    pub pin: Option<Digest>,
    /// The arguments.
    pub args: &'a Value,
    /// The policy version.
    pub policy: Digest,
    /// When the approval ends.
    pub until: Time,
}

impl FrozenAct<'_> {
    /// The hash that an approval is bound to.
    pub fn digest(&self) -> Digest {
        let pin = self.pin.map(|d| *d.as_bytes()).unwrap_or_default();
        Digest::of_parts(&[
            b"bailiwick act v1",
            self.task.as_str().as_bytes(),
            self.grant.as_str().as_bytes(),
            self.agent.as_str().as_bytes(),
            self.instance.as_bytes(),
            self.tool.as_str().as_bytes(),
            &pin,
            self.args.canonical().as_bytes(),
            self.policy.as_bytes(),
            &self.until.0.to_be_bytes(),
        ])
    }
}

/// How a question is to be answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AskTerms {
    /// The group whose members may answer.
    pub group: GroupId,
    /// How many different members must say yes.
    pub quorum: u8,
    /// Whether the initiator of the task may be one of them.
    pub initiator_may: bool,
    /// How long the question lives, in milliseconds.
    pub ttl_ms: u64,
}

/// One question and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    /// The question's id: the handle the caller comes back with.
    pub id: ApprovalId,
    /// The decision that asked.
    pub decision: DecisionId,
    /// The grant that asked.
    pub grant: GrantId,
    /// The agent that asked.
    pub agent: AgentId,
    /// The instance of it that asked: thumbprint of its key.
    pub instance: String,
    /// The tool.
    pub tool: ToolId,
    /// The arguments, secrets blanked, for the card.
    pub shown: Value,
    /// The frozen act.
    pub act: Digest,
    /// The policies under which it was asked. Under others it is void.
    pub policy: Digest,
    /// The rule that asked and its reason.
    pub rule: String,
    /// Why a human is needed.
    pub reason: String,
    /// How it is to be answered.
    pub terms: AskTerms,
    /// When it was asked.
    pub asked: Time,
    /// After this, no answer means no, and a yes can no longer be used.
    pub until: Time,
    /// Who said yes so far.
    pub yes: BTreeSet<PrincipalId>,
    /// The arguments as an approver narrowed them.
    pub narrowed: Option<Value>,
    /// The amendment it is about, if it is not about a call.
    pub amends: Option<Proposal>,
    /// Where it stands.
    pub state: State,
}

/// Where a question stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum State {
    /// Waiting for people.
    Waiting,
    /// Enough people said yes.
    Approved,
    /// Somebody said no.
    Denied {
        /// Who.
        by: PrincipalId,
        /// Why.
        reason: String,
    },
    /// A decision relied on it. It is gone.
    Used {
        /// Which.
        decision: DecisionId,
    },
}

/// One person's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "vote", deny_unknown_fields)]
pub enum Vote {
    /// Yes to exactly this act.
    Approve,
    /// Yes to a smaller act: these arguments, and the act hash they make.
    Narrow {
        /// The smaller arguments.
        args: Value,
        /// Their frozen act.
        act: Digest,
    },
    /// No.
    Deny {
        /// Why.
        reason: String,
    },
}

/// Whether `smaller` asks for no more than `whole`: members and list items may go, numbers may shrink toward
/// zero, text may not change.
pub fn is_narrower(smaller: &Value, whole: &Value) -> bool {
    match (smaller, whole) {
        (Value::Map(a), Value::Map(b)) => a.iter().all(|(k, v)| b.get(k).is_some_and(|w| is_narrower(v, w))),
        (Value::List(a), Value::List(b)) => {
            let mut rest = b.iter();
            a.len() <= b.len() && a.iter().all(|item| rest.any(|other| other == item))
        }
        (Value::Int(a), Value::Int(b)) => 0 <= *a && a <= b || 0 >= *a && a >= b,
        (a, b) => a == b,
    }
}

/// Arguments with the named members blanked, as they may be recorded and shown.
pub fn redact(args: &BTreeMap<String, Value>, secrets: &BTreeSet<&str>) -> Value {
    let shown = |name: &String, value: &Value| {
        if secrets.contains(name.as_str()) { Value::from("[secret]") } else { value.clone() }
    };
    Value::Map(args.iter().map(|(name, value)| (name.clone(), shown(name, value))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(json: &str) -> Value {
        Value::parse(json.as_bytes()).unwrap()
    }

    #[test]
    fn narrowing_only_ever_makes_smaller() {
        let whole = value(r#"{"to":["a@x.org","b@x.org"],"amount":50,"subject":"Rent"}"#);
        for ok in [
            r#"{"to":["b@x.org"],"amount":50,"subject":"Rent"}"#,
            r#"{"to":[],"amount":0,"subject":"Rent"}"#,
            "{}",
        ] {
            assert!(is_narrower(&value(ok), &whole), "{ok}");
        }
        for bad in [
            r#"{"to":["c@x.org"]}"#,
            r#"{"to":["b@x.org","a@x.org"]}"#,
            r#"{"amount":51}"#,
            r#"{"amount":-1}"#,
            r#"{"subject":"rent"}"#,
            r#"{"bcc":"x"}"#,
        ] {
            assert!(!is_narrower(&value(bad), &whole), "{bad}");
        }
    }

    // proves: A13
    #[test]
    fn every_leaf_is_part_of_the_act() {
        let task = TaskId::parse("t-1").unwrap();
        let grant = GrantId::parse("g-1").unwrap();
        let agent = AgentId::parse("a").unwrap();
        let tool = ToolId::parse("x.y").unwrap();
        let args = value(r#"{"a":{"b":[1,2]}}"#);
        let act = FrozenAct {
            task: &task,
            grant: &grant,
            agent: &agent,
            instance: "k",
            tool: &tool,
            pin: None,
            args: &args,
            policy: Digest::of(b"p"),
            until: Time(9),
        };
        let whole = act.digest();
        let other = value(r#"{"a":{"b":[1,3]}}"#);
        assert_ne!(FrozenAct { args: &other, ..act.clone() }.digest(), whole);
        assert_ne!(FrozenAct { instance: "k2", ..act.clone() }.digest(), whole);
        assert_ne!(FrozenAct { pin: Some(Digest::of(b"d")), ..act.clone() }.digest(), whole);
        assert_ne!(FrozenAct { policy: Digest::of(b"q"), ..act.clone() }.digest(), whole);
        assert_ne!(FrozenAct { until: Time(10), ..act.clone() }.digest(), whole);
        assert_eq!(act.digest(), whole);
    }
}
