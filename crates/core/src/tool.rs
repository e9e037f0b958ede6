//! Tools and their manifests: what an operator states once about an action.
//!
//! A tool server describes itself, and what it says is not to be trusted (A39, A40). The manifest is ours:
//! effect, the role of each argument, which result fields can be trusted. A tool without one is refused, and
//! so is a tool whose definition no longer equals the hash that was classified.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use crate::declassify::{DECLASSIFIERS_MAX, Declassifier};
use crate::ids::{SystemId, ToolId};
use crate::label::Label;
use crate::sought::{SOUGHT_MAX, Sought};
use crate::typed::ValueType;
use crate::value::Digest;

/// What an action does to the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Looks.
    Read,
    /// Makes something new.
    Create,
    /// Changes something.
    Update,
    /// Destroys something.
    Delete,
    /// Sends something out: mail, money, a web request.
    Egress,
    /// Changes who may do what.
    Admin,
}

impl Effect {
    /// The word used on the wire and in policies.
    pub fn as_str(self) -> &'static str {
        match self {
            Effect::Read => "read",
            Effect::Create => "create",
            Effect::Update => "update",
            Effect::Delete => "delete",
            Effect::Egress => "egress",
            Effect::Admin => "admin",
        }
    }
}

/// What an argument is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Who or what is reached: an address, an account, a host.
    Target,
    /// Which existing object is meant.
    Selector,
    /// Free text for people.
    Content,
    /// A value stored as fact.
    Data,
    /// A credential. Never recorded.
    Secret,
    /// Amounts, times, flags.
    Free,
}

impl Role {
    /// Whether an argument of this role steers where the effect lands, and so must be explained.
    pub fn steers(self) -> bool {
        matches!(self, Role::Target | Role::Selector | Role::Secret)
    }
}

/// One argument of an action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arg {
    /// What it is for.
    pub role: Role,
    /// Whether the action cannot do without it.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub required: bool,
    /// Counts toward the budget `amount`.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub amount: bool,
    /// Must be explained even where the action only reads: it decides how far a credential reaches, for an hour and not
    /// for one call. Elsewhere this changes nothing.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub explained: bool,
    /// The type of its values; absent: what they look like, and for a selector the id of any record.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub of: Option<ValueType>,
    /// The types of members inside it, by their names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub members: BTreeMap<String, ValueType>,
    /// Which identifiers are looked for inside it, each of which must be explained. Absent: addresses, links, accounts
    /// and international telephone numbers. It replaces them; an empty list looks for none. Not for what steers, which
    /// is explained as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scan: Option<Vec<Sought>>,
}

impl Arg {
    /// An optional argument of this role, of no stated type; for builders.
    pub fn of_role(role: Role) -> Self {
        Arg {
            role,
            required: false,
            amount: false,
            explained: false,
            of: None,
            members: BTreeMap::new(),
            scan: None,
        }
    }
    fn validate(&self) -> Result<(), &'static str> {
        let Some(scan) = &self.scan else { return Ok(()) };
        if self.role.steers() {
            return Err("steers, so it is explained as a whole and not scanned: remove `scan`");
        }
        if scan.len() > SOUGHT_MAX {
            return Err("is scanned for more than 16 kinds of identifiers");
        }
        scan.iter().try_for_each(Sought::validate)
    }
}

/// How far a result field may be reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trust {
    /// The whole value may be reused as a steering value.
    Exact,
    /// Each line of it, less a leading label such as `Hotels: `.
    Lines,
    /// The addresses, links and accounts inside it.
    Text,
}

/// A condition on the same record of a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct When {
    /// The field looked at.
    pub field: String,
    /// It must be an address in one of the organisation's own domains.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub own_domain: bool,
    /// It must be one of these.
    #[serde(default, rename = "in", skip_serializing_if = "BTreeSet::is_empty")]
    pub one_of: BTreeSet<String>,
    /// It must be none of these.
    #[serde(default, rename = "not", skip_serializing_if = "BTreeSet::is_empty")]
    pub none_of: BTreeSet<String>,
}

/// A rule about one field of a result; the first that matches wins, and no match means untrusted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResultRule {
    /// The field, or `*` for all.
    pub path: String,
    /// How far it may be reused.
    pub trust: Trust,
    /// The type of what it explains; absent: what it looks like. What does not read as that type explains nothing.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub of: Option<ValueType>,
    /// Whether the system itself makes the value up, as it does with serial numbers: then it cannot be an agent's
    /// own words that come back, even if an agent has written the same.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub assigned: bool,
    /// Under which condition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<When>,
}

/// The resource an action touches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResourceSpec {
    /// Its type in policies, such as `Vm`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The argument that names it; absent: the system itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Known attributes by resource name, for policies: `{ "db-1": { "env": "prod" } }`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub known: BTreeMap<String, BTreeMap<String, String>>,
}

/// What an operator states about one action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The action.
    pub tool: ToolId,
    /// What it does.
    pub effect: Effect,
    /// Whether it can be undone.
    #[serde(default)]
    pub reversible: bool,
    /// Whether a call of it that fails has changed nothing: then its step of the chain may be taken again. Without this
    /// word a failed call may have done its work, and counts.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub atomic: bool,
    /// Its arguments. An argument that is not here is refused.
    #[serde(default)]
    pub args: BTreeMap<String, Arg>,
    /// Whether a read takes arguments that are not listed too: it has no effect they could steer. On any
    /// other action this changes nothing.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub open_args: bool,
    /// What it touches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<ResourceSpec>,
    /// Which result fields can be trusted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub result: Vec<ResultRule>,
    /// The label its results carry besides `untrusted`, which they carry unless a rule says otherwise.
    #[serde(default, skip_serializing_if = "is_bottom")]
    pub labels: Label,
    /// The most that may flow into it, confidentiality only; absent: policy alone decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sink: Option<Label>,
    /// Whether results as a whole come from the organisation itself, so that reading them taints nothing.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub trusted_result: bool,
    /// What this tool takes out of what passes through it. Nothing else ever lowers a label.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub declassifies: Vec<Declassifier>,
    /// Whether the callers themselves run it and report its results, and whoever holds their keys is an enforcement
    /// point. Otherwise what a caller reports of a result is a claim: it explains nothing and is untrusted.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub reported_by_caller: bool,
    /// What of this was guessed from the tool server's own words, with what each guess rests on. A manifest with
    /// guesses classifies nothing: a person takes each one away by confirming it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub guess: BTreeMap<String, String>,
}

fn is_bottom(label: &Label) -> bool {
    *label == Label::bottom()
}

impl Manifest {
    /// A manifest with nothing but an effect; for builders.
    pub fn new(tool: ToolId, effect: Effect) -> Self {
        Manifest {
            tool,
            effect,
            reversible: effect == Effect::Read,
            atomic: false,
            args: BTreeMap::new(),
            open_args: false,
            resource: None,
            result: Vec::new(),
            labels: Label::bottom(),
            sink: None,
            trusted_result: false,
            declassifies: Vec::new(),
            reported_by_caller: false,
            guess: BTreeMap::new(),
        }
    }
    /// The same with one more argument; for builders.
    #[must_use]
    pub fn arg(mut self, name: &str, role: Role) -> Self {
        self.args.insert(String::from(name), Arg::of_role(role));
        self
    }
    /// The same with an argument that narrows a credential; for builders.
    #[must_use]
    pub fn narrowed_by(mut self, name: &str) -> Self {
        self.args.insert(String::from(name), Arg { explained: true, ..Arg::of_role(Role::Selector) });
        self
    }
    /// Whether somebody must vouch for an argument before the action: for all that an effect carries, and for what
    /// narrows a credential.
    pub fn wants_explained(&self, name: &str) -> bool {
        self.effect != Effect::Read || self.args.get(name).is_some_and(|arg| arg.explained)
    }
    /// Whether a call may carry an argument of this name.
    pub fn takes(&self, name: &str) -> bool {
        self.args.contains_key(name) || (self.open_args && self.effect == Effect::Read)
    }
    /// Checks what serde cannot: declassifiers that say something, and few enough to be read.
    pub fn validate(&self) -> Result<(), String> {
        if self.declassifies.len() > DECLASSIFIERS_MAX {
            return Err(alloc::format!("{} has more than {DECLASSIFIERS_MAX} declassifiers", self.tool));
        }
        for (place, rule) in self.declassifies.iter().enumerate() {
            let odd = |what| alloc::format!("declassifier {} of {} {what}", place + 1, self.tool);
            rule.validate().map_err(odd)?;
        }
        self.args.iter().try_for_each(|(name, arg)| {
            let odd = |what| alloc::format!("argument `{name}` of {} {what}", self.tool);
            arg.validate().map_err(odd)
        })
    }
    /// The one argument that is measured as an amount, if any.
    pub fn amount_arg(&self) -> Option<&str> {
        self.args.iter().find(|(_, arg)| arg.amount).map(|(name, _)| name.as_str())
    }
}

/// Where a tool stands on its way to being callable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Standing {
    /// Classified by a human; callable while its definition has the pinned hash.
    Classified {
        /// The hash it was classified with; `None` for tools that enforcement points do not describe.
        pin: Option<Digest>,
    },
    /// Seen, never classified.
    Proposed,
    /// Classified once, changed since. Refused until classified again.
    Quarantined {
        /// The hash it was classified with.
        was: Option<Digest>,
    },
}

/// A tool as the registry knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tool {
    /// What we say of it; `None` while it is only proposed.
    pub manifest: Option<Manifest>,
    /// Where it stands.
    pub standing: Standing,
    /// Hash of the newest definition seen.
    pub seen: Option<Digest>,
}

/// A pattern over tools: one action, all actions of a system that begin with something, or all of a system.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ToolPattern {
    system: SystemId,
    action: String,
    open: bool,
}

impl ToolPattern {
    /// Reads `system.action`, `system.prefix*` or `system.*`.
    pub fn parse(text: &str) -> Result<Self, crate::ids::BadId> {
        let (stem, open) = text.strip_suffix('*').map_or((text, false), |stem| (stem, true));
        let probe = if open { alloc::format!("{stem}x") } else { String::from(stem) };
        let tool = ToolId::parse(&probe)?;
        let action = if open { tool.action().strip_suffix('x').unwrap_or("") } else { tool.action() };
        Ok(ToolPattern { system: SystemId::parse(tool.system())?, action: String::from(action), open })
    }
    /// Exactly one tool.
    pub fn exact(tool: &ToolId) -> Self {
        ToolPattern {
            system: SystemId::parse(tool.system()).unwrap_or_else(|_| unreachable_system()),
            action: String::from(tool.action()),
            open: false,
        }
    }
    /// Whether the tool is meant.
    pub fn admits(&self, tool: &ToolId) -> bool {
        tool.system() == self.system.as_str()
            && if self.open { tool.action().starts_with(&self.action) } else { tool.action() == self.action }
    }
    /// Whether everything the other pattern means is meant by this one.
    pub fn contains(&self, other: &ToolPattern) -> bool {
        self.system == other.system
            && if self.open {
                other.action.starts_with(&self.action)
            } else {
                !other.open && self.action == other.action
            }
    }
    /// The system.
    pub fn system(&self) -> &SystemId {
        &self.system
    }
    /// The single tool this means, if it means one.
    pub fn as_tool(&self) -> Option<ToolId> {
        if self.open { None } else { ToolId::of(&self.system, &self.action).ok() }
    }
}

/// A `ToolId` is always made of a valid system; this name is never reached.
fn unreachable_system() -> SystemId {
    SystemId::parse("unknown").unwrap_or_else(|_| unreachable_system())
}

impl TryFrom<String> for ToolPattern {
    type Error = crate::ids::BadId;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        ToolPattern::parse(&text)
    }
}
impl From<ToolPattern> for String {
    fn from(pattern: ToolPattern) -> String {
        alloc::format!("{pattern}")
    }
}
impl core::fmt::Display for ToolPattern {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}.{}{}", self.system, self.action, if self.open { "*" } else { "" })
    }
}
impl core::fmt::Debug for ToolPattern {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unlisted_arguments_are_refused_except_on_reads_that_are_open_to_them() {
        let manifest = |effect, open_args| Manifest {
            open_args,
            ..Manifest::new(ToolId::parse("files.find").unwrap(), effect).arg("name", Role::Free)
        };
        assert!(manifest(Effect::Read, false).takes("name") && !manifest(Effect::Read, false).takes("depth"));
        assert!(manifest(Effect::Read, true).takes("depth"));
        for effect in [Effect::Create, Effect::Update, Effect::Delete, Effect::Egress, Effect::Admin] {
            assert!(manifest(effect, true).takes("name") && !manifest(effect, true).takes("depth"));
        }
    }

    #[test]
    fn patterns_mean_what_they_say() {
        let pattern = |t: &str| ToolPattern::parse(t).unwrap();
        let tool = |t: &str| ToolId::parse(t).unwrap();
        assert!(pattern("cloud.vm.*").admits(&tool("cloud.vm.restart")));
        assert!(!pattern("cloud.vm.*").admits(&tool("cloud.db.delete")));
        assert!(!pattern("cloud.*").admits(&tool("cloud2.vm")));
        assert!(pattern("cloud.*").contains(&pattern("cloud.vm.*")));
        assert!(!pattern("cloud.vm.*").contains(&pattern("cloud.*")));
        assert!(!pattern("cloud.vm.restart").contains(&pattern("cloud.vm.restart*")));
        assert!(
            ToolPattern::parse("*").is_err()
                && ToolPattern::parse("*.x").is_err()
                && ToolPattern::parse("a*.x").is_err()
        );
        assert_eq!(alloc::format!("{}", pattern("cloud.vm.*")), "cloud.vm.*");
    }
}
