//! Names of things: strict ASCII, one grammar each, never merged by case or Unicode.
//!
//! An identifier that two readers could take for two different things is a way in (threat A02), so every
//! id is parsed once at the door and carried as its own type afterwards.

use alloc::borrow::ToOwned;
use alloc::string::String;
use core::fmt;
use serde::{Deserialize, Serialize};

/// An identifier that does not follow its grammar.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not a valid {what}: {rule}")]
pub struct BadId {
    what: &'static str,
    given: String,
    rule: &'static str,
}

impl BadId {
    /// Stable code for API and audit.
    pub fn code(&self) -> &'static str {
        "id.malformed"
    }
    /// What should have been a version of a template and is not.
    pub(crate) fn template(text: &str) -> Self {
        let given = text.chars().take(64).flat_map(char::escape_default).collect();
        BadId { what: "version of a template", given, rule: "NAME@VERSION, such as ticket-fix@3" }
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $accepts:path, $rule:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            #[doc = concat!("Parses a ", $what, ". Fails with [`BadId`] and the grammar it broke.")]
            pub fn parse(text: &str) -> Result<Self, BadId> {
                if $accepts(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    let given = text.chars().take(64).flat_map(char::escape_default).collect();
                    Err(BadId { what: $what, given, rule: $rule })
                }
            }
            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl TryFrom<String> for $name {
            type Error = BadId;
            fn try_from(text: String) -> Result<Self, BadId> {
                Self::parse(&text)
            }
        }
        impl core::str::FromStr for $name {
            type Err = BadId;
            fn from_str(text: &str) -> Result<Self, BadId> {
                Self::parse(text)
            }
        }
        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

const LABEL_RULE: &str = "1 to 63 of a-z, 0-9, '-' and '_', beginning with a letter or digit, without '__'";

fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..=63).contains(&bytes.len())
        && bytes[0].is_ascii_alphanumeric()
        && !text.contains("__")
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'))
}

fn is_serial(text: &str) -> bool {
    (3..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
}

fn is_action(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'/'))
}

fn is_tool(text: &str) -> bool {
    text.split_once('.').is_some_and(|(system, action)| is_label(system) && is_action(action))
}

fn is_principal(text: &str) -> bool {
    (1..=254).contains(&text.len())
        && text.bytes().all(|b| {
            b.is_ascii_lowercase()
                || b.is_ascii_digit()
                || matches!(b, b'.' | b'_' | b'%' | b'+' | b'-' | b'@' | b':' | b'/')
        })
}

id!(
    /// An agent's name inside its trust domain: the last part of `spiffe://domain/agent/NAME`.
    AgentId, "agent name", is_label, "1 to 63 of a-z, 0-9, '-' and '_', without '__'"
);
id!(
    /// A class of agents, which may carry a policy set of its own.
    AgentClass, "agent class", is_label, "1 to 63 of a-z, 0-9, '-' and '_', without '__'"
);
id!(
    /// A system that offers actions: one upstream tool server, for instance.
    SystemId, "system name", is_label, "1 to 63 of a-z, 0-9, '-' and '_', without '__'"
);
id!(
    /// One action in one system, written `system.action`.
    ToolId, "tool name", is_tool, "SYSTEM.ACTION, where ACTION is 1 to 128 of letters, digits, '_', '-', '.' and '/'"
);
id!(
    /// A registered task template, of which there may be several versions.
    TemplateName, "template name", is_label, "1 to 63 of a-z, 0-9, '-' and '_', without '__'"
);
id!(
    /// A task.
    TaskId, "task id", is_serial, "3 to 64 of a-z, 0-9 and '-'"
);
id!(
    /// A grant: one agent's authority inside one task.
    GrantId, "grant id", is_serial, "3 to 64 of a-z, 0-9 and '-'"
);
id!(
    /// A decision.
    DecisionId, "decision id", is_serial, "3 to 64 of a-z, 0-9 and '-'"
);
id!(
    /// A question to a human, and the answer.
    ApprovalId, "approval id", is_serial, "3 to 64 of a-z, 0-9 and '-'"
);
id!(
    /// One credential in one target system for one grant.
    LeaseId, "lease id", is_serial, "3 to 64 of a-z, 0-9 and '-'"
);
id!(
    /// A step of a chain.
    StepId, "step name", is_label, "1 to 63 of a-z, 0-9, '-' and '_', without '__'"
);
id!(
    /// A person, workflow or service that can open tasks or answer questions: usually a mail address.
    PrincipalId, "principal", is_principal, "1 to 254 of a-z, 0-9 and . _ % + - @ : /"
);
id!(
    /// A tenant: a wall that no data crosses.
    TenantId, "tenant", is_label, "1 to 63 of a-z, 0-9, '-' and '_', without '__'"
);
id!(
    /// A class of data, such as `pii`.
    DataClass, "data class", is_label, "1 to 63 of a-z, 0-9, '-' and '_', without '__'"
);
id!(
    /// A group of people, such as `sre-oncall`.
    GroupId, "group", is_label, "1 to 63 of a-z, 0-9, '-' and '_', without '__'"
);

impl ToolId {
    /// The system that offers the action.
    pub fn system(&self) -> &str {
        self.0.split_once('.').map_or("", |(system, _)| system)
    }
    /// The action's name inside its system.
    pub fn action(&self) -> &str {
        self.0.split_once('.').map_or("", |(_, action)| action)
    }
    /// Joins a system and an action name as the system gives it. Fails when either breaks its grammar.
    pub fn of(system: &SystemId, action: &str) -> Result<Self, BadId> {
        let mut text = system.as_str().to_owned();
        text.push('.');
        text.push_str(action);
        Self::parse(&text)
    }
}

/// The grammar of labels, in words, for error messages of other modules.
pub const LABEL_GRAMMAR: &str = LABEL_RULE;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_be_mistaken_are_refused() {
        for good in ["support", "sre-oncall", "a1_b"] {
            assert!(AgentId::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "Support",
            "sup port",
            "suppоrt",
            "sup\u{200b}port",
            "support.",
            "a__b",
            "-a",
            "ﬁx",
            "a/b",
            "a\n",
        ] {
            assert!(AgentId::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_tool_is_a_system_and_an_action() {
        let tool = ToolId::parse("cloud.vm.restart").unwrap();
        assert_eq!((tool.system(), tool.action()), ("cloud", "vm.restart"));
        assert!(ToolId::parse("cloud").is_err());
        assert!(ToolId::parse("cloud.").is_err());
        assert!(ToolId::parse("Cloud.x").is_err());
    }

    #[test]
    fn an_error_never_repeats_raw_control_characters() {
        let error = AgentId::parse("\u{1b}[31mred\u{202e}").unwrap_err();
        let text = alloc::format!("{error}");
        assert!(text.is_ascii(), "{text}");
    }
}
