//! Capabilities: what an agent may do, may hand on, and how much of it.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use serde::{Deserialize, Serialize};

use crate::constraint::Constraint;
use crate::ids::{AgentId, ToolId};
use crate::time::Time;
use crate::tool::ToolPattern;
use crate::value::Value;

/// One action pattern, constraints on its arguments, limits, and two separate rights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capability {
    /// Which tools.
    pub tool: ToolPattern,
    /// What their arguments may be; an argument without an entry may be anything.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub args: BTreeMap<String, Constraint>,
    /// How much and how long.
    #[serde(default, skip_serializing_if = "Limits::is_open")]
    pub limits: Limits,
    /// Whether the holder may call the tools itself.
    #[serde(default = "yes", rename = "use")]
    pub may_use: bool,
    /// Whether the holder may hand this on, to whom and how deep. Absent: not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delegate: Option<Delegate>,
}

fn yes() -> bool {
    true
}

/// The right to hand a capability on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delegate {
    /// To whom.
    pub to: BTreeSet<AgentId>,
    /// How many handoffs deep, this one included: 1 means the child may not hand it on again.
    #[serde(default = "one")]
    pub depth: u8,
}

fn one() -> u8 {
    1
}

/// Numeric limits; an absent one is open. A child's use counts against every ancestor's limit too.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uses: Option<u64>,
    /// Sum of the argument that the manifest marks as an amount, in its whole units, rounded up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<u64>,
    /// Bytes of results.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Rows or records of results.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// The last instant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
}

/// What has been spent of one capability.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spent {
    /// Calls.
    pub uses: u64,
    /// Amount.
    pub amount: u64,
    /// Bytes of results.
    pub bytes: u64,
    /// Rows of results.
    pub rows: u64,
}

impl Spent {
    /// The sum, saturating.
    #[must_use]
    pub fn plus(self, other: Spent) -> Spent {
        Spent {
            uses: self.uses.saturating_add(other.uses),
            amount: self.amount.saturating_add(other.amount),
            bytes: self.bytes.saturating_add(other.bytes),
            rows: self.rows.saturating_add(other.rows),
        }
    }
}

impl Limits {
    /// No limit at all.
    pub fn is_open(&self) -> bool {
        *self == Limits::default()
    }

    /// The dimension in which this asks for more than `parent` has, if any.
    pub fn exceeds(&self, parent: &Limits) -> Option<&'static str> {
        let more = |mine: Option<u64>, theirs: Option<u64>| match (mine, theirs) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(mine), Some(theirs)) => mine > theirs,
        };
        [
            ("uses", more(self.uses, parent.uses)),
            ("amount", more(self.amount, parent.amount)),
            ("bytes", more(self.bytes, parent.bytes)),
            ("rows", more(self.rows, parent.rows)),
            ("until", more(self.until.map(|t| t.0), parent.until.map(|t| t.0))),
        ]
        .into_iter()
        .find_map(|(name, over)| over.then_some(name))
    }

    /// These bounds, and the other's where this has none.
    #[must_use]
    pub fn or(&self, other: &Limits) -> Limits {
        Limits {
            uses: self.uses.or(other.uses),
            amount: self.amount.or(other.amount),
            bytes: self.bytes.or(other.bytes),
            rows: self.rows.or(other.rows),
            until: self.until.or(other.until),
        }
    }

    /// The smaller of each bound.
    #[must_use]
    pub fn meet(&self, other: &Limits) -> Limits {
        let least = |a: Option<u64>, b: Option<u64>| match (a, b) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        Limits {
            uses: least(self.uses, other.uses),
            amount: least(self.amount, other.amount),
            bytes: least(self.bytes, other.bytes),
            rows: least(self.rows, other.rows),
            until: least(self.until.map(|t| t.0), other.until.map(|t| t.0)).map(Time),
        }
    }

    /// What is left when this much is spent: every bound smaller by it. `until` stays.
    #[must_use]
    pub fn less(&self, spent: Spent) -> Limits {
        let rest = |limit: Option<u64>, gone: u64| limit.map(|l| l.saturating_sub(gone));
        Limits {
            uses: rest(self.uses, spent.uses),
            amount: rest(self.amount, spent.amount),
            bytes: rest(self.bytes, spent.bytes),
            rows: rest(self.rows, spent.rows),
            until: self.until,
        }
    }

    /// The dimension that `spent` plus `next` would overspend, if any. Result bytes and rows are known only
    /// afterwards: a call is refused once their budget is used up.
    pub fn overspent(&self, spent: Spent, next: Spent, now: Time) -> Option<&'static str> {
        let passed = |limit: Option<u64>, sum: u64| limit.is_some_and(|most| sum > most);
        let reached = |limit: Option<u64>, sum: u64| limit.is_some_and(|most| sum >= most);
        if passed(self.uses, spent.uses.saturating_add(next.uses)) {
            Some("uses")
        } else if passed(self.amount, spent.amount.saturating_add(next.amount)) {
            Some("amount")
        } else if reached(self.bytes, spent.bytes) {
            Some("bytes")
        } else if reached(self.rows, spent.rows) {
            Some("rows")
        } else {
            self.until.is_some_and(|until| now >= until).then_some("until")
        }
    }
}

impl Capability {
    /// A plain right to use one pattern; for builders.
    pub fn to_use(tool: ToolPattern) -> Self {
        Capability { tool, args: BTreeMap::new(), limits: Limits::default(), may_use: true, delegate: None }
    }

    /// A right to hand one pattern on without using it; for builders.
    pub fn to_delegate(tool: ToolPattern, to: impl IntoIterator<Item = AgentId>, depth: u8) -> Self {
        let delegate = Some(Delegate { to: to.into_iter().collect(), depth });
        Capability { tool, args: BTreeMap::new(), limits: Limits::default(), may_use: false, delegate }
    }

    /// Whether the tool and its arguments are covered, leaving rights and limits aside. `Err` names the
    /// argument that is not.
    pub fn covers(&self, tool: &ToolId, args: &BTreeMap<String, Value>) -> Result<(), Uncovered> {
        if !self.tool.admits(tool) {
            return Err(Uncovered::Tool);
        }
        for (name, constraint) in &self.args {
            let value = args.get(name).unwrap_or(&Value::Null);
            if !constraint.admits(value) {
                return Err(Uncovered::Arg(name.to_string()));
            }
        }
        Ok(())
    }

    /// Whether tools and arguments of the other lie inside this one's; limits and rights aside.
    pub fn encloses_args(&self, other: &Capability) -> bool {
        self.tool.contains(&other.tool)
            && self
                .args
                .iter()
                .all(|(name, mine)| mine.contains(other.args.get(name).unwrap_or(&Constraint::Any)))
    }

    /// Whether this one could be handed on to an agent as the other: the right is there, and whatever the other
    /// covers, this covers.
    pub(crate) fn upholds(&self, to: &AgentId, other: &Capability) -> bool {
        let right = self.delegate.as_ref();
        right.is_some_and(|right| right.depth > 0 && right.to.contains(to)) && self.encloses_args(other)
    }

    /// Whether everything the other allows to do is allowed by this one: tools, arguments and limits.
    /// `Err` names the dimension in which it is not.
    pub fn encloses(&self, other: &Capability) -> Result<(), String> {
        if !self.tool.contains(&other.tool) {
            return Err("tool".to_string());
        }
        for (name, mine) in &self.args {
            let theirs = other.args.get(name).unwrap_or(&Constraint::Any);
            if !mine.contains(theirs) {
                return Err(alloc::format!("argument `{name}`"));
            }
        }
        match other.limits.exceeds(&self.limits) {
            Some(dimension) => Err(alloc::format!("limit `{dimension}`")),
            None => Ok(()),
        }
    }
}

/// Why a capability does not cover a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Uncovered {
    /// It is about other tools.
    Tool,
    /// It is about this tool, but not with this argument.
    Arg(String),
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_limits() -> impl Strategy<Value = Limits> {
        let bound = || prop::option::of(0u64..50);
        (bound(), bound(), bound(), bound(), bound()).prop_map(|(uses, amount, bytes, rows, until)| Limits {
            uses,
            amount,
            bytes,
            rows,
            until: until.map(Time),
        })
    }

    proptest! {
        // proves: INV1, A03
        #[test]
        fn the_meet_of_limits_exceeds_neither(a in any_limits(), b in any_limits()) {
            let met = a.meet(&b);
            prop_assert_eq!(met.exceeds(&a), None);
            prop_assert_eq!(met.exceeds(&b), None);
            prop_assert_eq!(a.meet(&a), a);
        }

        // proves: A03, A27
        #[test]
        fn what_the_smaller_limit_allows_the_larger_allows(a in any_limits(), b in any_limits(), uses in 0u64..60, amount in 0u64..60, now in 0u64..60) {
            let spent = Spent { uses, amount, ..Spent::default() };
            let next = Spent { uses: 1, amount: 1, ..Spent::default() };
            if a.exceeds(&b).is_none() && a.overspent(spent, next, Time(now)).is_none() {
                prop_assert_eq!(b.overspent(spent, next, Time(now)), None);
            }
        }
    }
}
