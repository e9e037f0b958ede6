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
use crate::origin::{Kind, Wanted, steering};
use crate::time::Time;
use crate::tool::{Effect, Manifest, Role};
use crate::typed::ValueType;
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

/// Where an act sends something, and what could go with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flow {
    /// The domains and hosts that are reached; of what is neither address nor link, the value itself.
    pub destinations: BTreeSet<String>,
    /// Whether any of them is not the organisation's own, as far as anybody has said. Unknown is outside.
    pub outward: bool,
    /// Arguments in which data could leave: text and stored facts that no declared step and no initiator's grant
    /// has fixed beforehand. Numbers, days and flags do not count.
    pub carries: BTreeSet<String>,
}

impl Flow {
    /// What a call does with data: `fixed` says which arguments were fixed beforehand, `inside` which targets are the
    /// organisation's own.
    pub fn of(
        manifest: &Manifest,
        args: &BTreeMap<String, Value>,
        fixed: impl Fn(&str) -> bool,
        inside: impl Fn(&Wanted) -> bool,
    ) -> Flow {
        let mut flow = Flow::default();
        if manifest.effect == Effect::Read {
            return flow;
        }
        for (name, value) in args.iter().filter(|(_, value)| !value.is_blank()) {
            let arg = manifest.args.get(name);
            let role = arg.map_or(Role::Target, |arg| arg.role);
            if role == Role::Target {
                for wanted in steering(value, arg) {
                    flow.outward |= !inside(&wanted);
                    flow.destinations.insert(destination(&wanted));
                }
            } else if matches!(role, Role::Content | Role::Data | Role::Free)
                && !fixed(name)
                && holds_text(value)
            {
                flow.carries.insert(name.clone());
            }
        }
        // What is sent without saying where goes to a place that nobody knows.
        flow.outward |= manifest.effect == Effect::Egress && flow.destinations.is_empty();
        flow
    }
}

/// The domain of an address, the host of a link, anything else as it is; at most 255 characters.
fn destination(wanted: &Wanted) -> String {
    let text = wanted.text();
    let place = match wanted.value().map(|id| id.kind) {
        Some(Kind::Address) => text.split_once('@').map_or(text, |(_, domain)| domain),
        Some(Kind::Url) => text.split(['/', '?', '#', ':']).next().unwrap_or(text),
        _ => text,
    };
    place.chars().take(255).collect()
}

/// Whether a value has words in it: something other than numbers, days and flags.
fn holds_text(value: &Value) -> bool {
    let plain =
        |text: &String| [ValueType::Amount, ValueType::Date].iter().any(|of| of.identify(text).is_some());
    match value {
        Value::Map(map) => !map.is_empty(),
        Value::List(items) => items.iter().any(holds_text),
        Value::Text(text) => !plain(text),
        _ => false,
    }
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
    /// Where it sends something, and what could go with it.
    pub flow: &'a Flow,
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
