//! One rule: what its annotations say beyond Cedar.
//!
//! | annotation | on | means |
//! |---|---|---|
//! | `@id("name")` | all, required | the name in decisions, explanations and tests |
//! | `@reason("…")` | all | why, for people and agents |
//! | `@class("ops")` | all | speaks to agents of this class only |
//! | `@ask` | forbid | a human can lift it: anybody in the group that another rule asks, else `approvers` |
//! | `@ask("group")` | forbid | a human of exactly this group can lift it |
//! | `@ask_ttl("10m")` | with `@ask` | how long the question lives: 10 s to 24 h, 10 min by default |
//! | `@quorum("2")` | with `@ask` | how many different people must say yes: 1 to 20, 1 by default |
//! | `@initiator_may("true")` | with `@ask` | whether the initiator counts; `false` by default |
//! | `@observe` | all | tried out: what it would change is recorded with each decision, and it enforces nothing |
//!
//! A rule with `@ask` is lifted by the evaluation itself once enough people have said yes; its author writes
//! no `unless` for that and so cannot forget it. A plain `forbid` is never lifted.

use bailiwick_core::ids::{AgentClass, GroupId, PrincipalId};
use bailiwick_core::verdict::Approved;
use cedar_policy::{ActionConstraint, Effect, Policy};

use crate::errors::{PolicyError, did_you_mean};
use crate::schema::HANDOFF;
use crate::source::Source;

/// How long a question lives if its rule does not say, in milliseconds.
pub const ASK_TTL_MS_DEFAULT: u64 = 600_000;
/// The shortest life of a question, in milliseconds.
pub const ASK_TTL_MS_MIN: u64 = 10_000;
/// The longest life of a question, in milliseconds.
pub const ASK_TTL_MS_MAX: u64 = 86_400_000;
/// The most people a rule may want.
pub const QUORUM_MAX: u8 = 20;
/// The longest reason, in bytes.
pub const REASON_BYTES_MAX: usize = 300;

/// Rule names that decisions use for other things.
const RESERVED_IDS: &[&str] = &["no-permit", "unexplained-value", "ask-budget", "policy"];

const ANNOTATIONS: &[&str] =
    &["id", "reason", "class", "ask", "ask_ttl", "quorum", "initiator_may", "observe"];

/// What a rule does where it applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleEffect {
    /// Permits.
    Permit,
    /// Forbids.
    Forbid,
}

impl RuleEffect {
    /// The word of the policy language.
    pub fn as_str(self) -> &'static str {
        match self {
            RuleEffect::Permit => "permit",
            RuleEffect::Forbid => "forbid",
        }
    }
}

/// How a rule can be lifted by people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// The group that is asked; `None`: the group another rule asks, else `approvers`.
    pub group: Option<GroupId>,
    /// How many different people must say yes.
    pub quorum: u8,
    /// Whether the initiator counts.
    pub initiator_may: bool,
    /// How long the question lives, in milliseconds.
    pub ttl_ms: u64,
}

impl Ask {
    /// Whether the people who said yes are enough for this rule, and of the group it asks. An approval that
    /// another rule asked another group for lifts nothing here.
    pub(crate) fn is_lifted(&self, approval: &Approved, initiator: &PrincipalId) -> bool {
        let counted = approval.by.iter().filter(|who| self.initiator_may || *who != initiator).count();
        counted >= usize::from(self.quorum)
            && self.group.as_ref().is_none_or(|group| *group == approval.group)
    }
}

/// One rule of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Its name, unique in the set.
    pub id: String,
    /// What it does where it applies.
    pub effect: RuleEffect,
    /// Why, for people.
    pub reason: Option<String>,
    /// How people can lift it.
    pub ask: Option<Ask>,
    /// The agents it speaks to; `None`: all.
    pub class: Option<AgentClass>,
    /// Whether it is only observed: it is evaluated and recorded, and enforces nothing.
    pub observe: bool,
    /// The source it stands in.
    pub file: String,
    /// The line it begins on, counted from 1.
    pub line: usize,
}

impl Rule {
    /// Its reason, or a sentence that stands in for one.
    pub fn why(&self) -> String {
        match &self.reason {
            Some(reason) => reason.clone(),
            None => format!("rule `{}` applies", self.id),
        }
    }

    /// Reads the annotations of one policy.
    pub(crate) fn read(policy: &Policy, source: &Source, line: usize) -> Result<Rule, PolicyError> {
        Reader { policy, source, line }.rule()
    }
}

struct Reader<'a> {
    policy: &'a Policy,
    source: &'a Source,
    line: usize,
}

impl Reader<'_> {
    fn rule(&self) -> Result<Rule, PolicyError> {
        let id = self.id()?;
        self.known_annotations()?;
        let effect = match self.policy.effect() {
            Effect::Permit => RuleEffect::Permit,
            Effect::Forbid => RuleEffect::Forbid,
        };
        let (file, line) = (self.source.name.clone(), self.line);
        Ok(Rule {
            id,
            effect,
            reason: self.reason()?,
            ask: self.ask(effect)?,
            class: self.class()?,
            observe: self.observe()?,
            file,
            line,
        })
    }

    fn id(&self) -> Result<String, PolicyError> {
        let Some(id) = self.policy.annotation("id") else {
            return Err(self.error(
                "policy.id_missing",
                "a policy without a name",
                "Put @id(\"short-name\") before it",
            ));
        };
        let well_formed = (1..=128).contains(&id.len())
            && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
        if !well_formed || RESERVED_IDS.contains(&id) {
            let what = format!("`{}` cannot be the name of a policy", id.escape_default());
            let help = format!(
                "Use 1 to 128 letters, digits, '-', '_' and '.', and none of: {}",
                RESERVED_IDS.join(", ")
            );
            return Err(self.error("policy.id_malformed", &what, &help));
        }
        Ok(id.to_owned())
    }

    fn known_annotations(&self) -> Result<(), PolicyError> {
        match self.policy.annotations().find(|(name, _)| !ANNOTATIONS.contains(name)) {
            None => Ok(()),
            Some((name, _)) => {
                let what = format!("unknown annotation @{name}");
                Err(self.error("policy.annotation", &what, &did_you_mean(name, ANNOTATIONS.iter().copied())))
            }
        }
    }

    fn reason(&self) -> Result<Option<String>, PolicyError> {
        let Some(reason) = self.policy.annotation("reason") else { return Ok(None) };
        if reason.trim().is_empty() || reason.len() > REASON_BYTES_MAX || reason.chars().any(char::is_control)
        {
            let what = format!("a reason must be one line of 1 to {REASON_BYTES_MAX} bytes");
            return Err(self.error("policy.annotation", &what, "Say it in one sentence"));
        }
        Ok(Some(reason.trim().to_owned()))
    }

    fn class(&self) -> Result<Option<AgentClass>, PolicyError> {
        let said = self.policy.annotation("class");
        let class = match (said, self.source.class()) {
            (Some(said), Some(filed)) if said != filed => {
                let what = format!("@class(\"{}\") in a file for class `{filed}`", said.escape_default());
                return Err(self.error(
                    "policy.annotation",
                    &what,
                    "Move the policy, or drop the annotation",
                ));
            }
            (said, filed) => said.or(filed),
        };
        let parse = |text: &str| {
            let help = "Name the class as agents are registered with it";
            AgentClass::parse(text).map_err(|e| self.error("policy.annotation", &e.to_string(), help))
        };
        class.map(parse).transpose()
    }

    fn observe(&self) -> Result<bool, PolicyError> {
        match self.policy.annotation("observe") {
            None => Ok(false),
            Some("") => Ok(true),
            Some(_) => Err(self.error(
                "policy.annotation",
                "@observe takes no value",
                "Write @observe to try a policy out, and nothing to enforce it",
            )),
        }
    }

    fn ask(&self, effect: RuleEffect) -> Result<Option<Ask>, PolicyError> {
        let Some(group) = self.policy.annotation("ask") else {
            return match ["ask_ttl", "quorum", "initiator_may"]
                .iter()
                .find(|a| self.policy.annotation(a).is_some())
            {
                Some(lone) => Err(self.error(
                    "policy.annotation",
                    &format!("@{lone} without @ask"),
                    "Add @ask, or drop it",
                )),
                None => Ok(None),
            };
        };
        if effect == RuleEffect::Permit {
            let help = "Write a permit for the act and a forbid with @ask for the cases a person must see";
            return Err(self.error("policy.ask_on_permit", "@ask on a permit", help));
        }
        if is_handoff_only(self.policy) {
            let what = "@ask on a rule for handoffs: a handoff cannot wait for a person";
            return Err(self.error(
                "policy.ask_on_handoff",
                what,
                "Forbid the handoff plainly, and let the act ask",
            ));
        }
        Ok(Some(Ask {
            group: self.group(group)?,
            quorum: self.quorum()?,
            initiator_may: self.initiator_may()?,
            ttl_ms: self.ttl_ms()?,
        }))
    }

    fn group(&self, text: &str) -> Result<Option<GroupId>, PolicyError> {
        if text.is_empty() {
            return Ok(None);
        }
        let help = "Name a group of people, or write a bare @ask";
        GroupId::parse(text).map(Some).map_err(|e| self.error("policy.annotation", &e.to_string(), help))
    }

    fn quorum(&self) -> Result<u8, PolicyError> {
        let Some(text) = self.policy.annotation("quorum") else { return Ok(1) };
        match text.parse::<u8>() {
            Ok(n) if (1..=QUORUM_MAX).contains(&n) => Ok(n),
            _ => {
                let what = format!("@quorum must be a number from 1 to {QUORUM_MAX}");
                Err(self.error("policy.annotation", &what, "For example @quorum(\"2\")"))
            }
        }
    }

    fn initiator_may(&self) -> Result<bool, PolicyError> {
        match self.policy.annotation("initiator_may") {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => {
                let what = "@initiator_may must be \"true\" or \"false\"";
                Err(self.error("policy.annotation", what, "Leave it out for \"false\""))
            }
        }
    }

    fn ttl_ms(&self) -> Result<u64, PolicyError> {
        let Some(text) = self.policy.annotation("ask_ttl") else { return Ok(ASK_TTL_MS_DEFAULT) };
        match millis(text) {
            Some(ms) if (ASK_TTL_MS_MIN..=ASK_TTL_MS_MAX).contains(&ms) => Ok(ms),
            _ => {
                let what = "@ask_ttl must be a duration from 10 s to 24 h";
                Err(self.error("policy.annotation", what, "For example @ask_ttl(\"10m\")"))
            }
        }
    }

    fn error(&self, code: &'static str, what: &str, help: &str) -> PolicyError {
        let error = PolicyError::new(code, &self.source.name, what, help).at(self.line);
        match self.policy.annotation("id") {
            Some(id) => error.of(&id.chars().take(128).flat_map(char::escape_default).collect::<String>()),
            None => error,
        }
    }
}

fn is_handoff_only(policy: &Policy) -> bool {
    match policy.action_constraint() {
        ActionConstraint::Eq(uid) => uid.id().unescaped() == HANDOFF,
        ActionConstraint::In(uids) => uids.iter().all(|uid| uid.id().unescaped() == HANDOFF),
        ActionConstraint::Any => false,
    }
}

/// `90s`, `10m`, `2h`, `1d` in milliseconds.
fn millis(text: &str) -> Option<u64> {
    let unit = text.chars().last()?;
    let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
    let each = match unit {
        's' => 1_000,
        'm' => 60_000,
        'h' => 3_600_000,
        'd' => 86_400_000,
        _ => return None,
    };
    number.checked_mul(each)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_exactly_or_not_at_all() {
        assert_eq!(millis("10m"), Some(600_000));
        assert_eq!(millis("90s"), Some(90_000));
        for bad in ["", "m", "10", "1.5h", "-1m", "10 m", "99999999999999999999d", "99999999999999999d"] {
            assert_eq!(millis(bad), None, "{bad}");
        }
    }

    // proves: A4
    #[test]
    fn the_initiator_counts_only_where_the_rule_says_so() {
        let who = |name: &str| PrincipalId::parse(name).unwrap();
        let (dana, omar, eve) = (who("dana"), who("omar"), who("eve"));
        let ask = |quorum, initiator_may| Ask { group: None, quorum, initiator_may, ttl_ms: 1 };
        let group = GroupId::parse("approvers").unwrap();
        let by = |names: &[&PrincipalId]| Approved {
            by: names.iter().map(|n| (*n).clone()).collect(),
            group: group.clone(),
        };
        assert!(!ask(1, false).is_lifted(&by(&[&dana]), &dana));
        assert!(ask(1, true).is_lifted(&by(&[&dana]), &dana));
        assert!(ask(1, false).is_lifted(&by(&[&omar]), &dana));
        assert!(!ask(2, false).is_lifted(&by(&[&dana, &omar]), &dana));
        assert!(ask(2, false).is_lifted(&by(&[&eve, &omar]), &dana));
        assert!(!ask(1, true).is_lifted(&by(&[]), &dana));
        let of_another = Ask { group: GroupId::parse("sre").ok(), ..ask(1, false) };
        assert!(!of_another.is_lifted(&by(&[&omar]), &dana), "that group was not asked");
    }
}
