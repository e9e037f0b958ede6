//! Which parts of an act the rules speak of, so that only those are put into Cedar's terms.
//!
//! Most of what one decision costs is building the context, and most rules look at two or three members of it.
//! What a rule mentions is read from its own syntax tree when the set is compiled. A rule that uses the context
//! in any other way than by naming a member needs everything; so does one whose tree cannot be read.

use cedar_policy::Policy;
use serde_json::Value as Json;

/// The members of the context; the place of each is its bit.
const MEMBERS: [&str; 24] = [
    "initiator",
    "task",
    "has_chain",
    "step",
    "depth",
    "effect",
    "reversible",
    "level",
    "confidential",
    "classes",
    "untrusted",
    "origins",
    "unexplained",
    "destinations",
    "outward",
    "carries",
    "approval",
    "now",
    "hour_utc",
    "weekday_utc",
    "remaining_ms",
    "args",
    "amount",
    "fields",
];

/// Members of the context that somebody speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Needs(u32);

impl Needs {
    /// Every member, known here or not.
    pub(crate) const ALL: Needs = Needs(u32::MAX);

    /// What one rule speaks of.
    pub(crate) fn of(policy: &Policy) -> Needs {
        policy.to_json().map_or(Needs::ALL, |tree| mentioned(&tree))
    }

    /// What either speaks of.
    pub(crate) fn and(self, other: Needs) -> Needs {
        Needs(self.0 | other.0)
    }

    /// Whether somebody speaks of this member.
    pub(crate) fn has(self, member: &str) -> bool {
        self.0 & Needs::member(member).0 != 0
    }

    fn member(name: &str) -> Needs {
        MEMBERS.iter().position(|known| *known == name).map_or(Needs::ALL, |place| Needs(1 << place))
    }
}

/// Walks the tree of Cedar's JSON policy format: `context.x` is `{".": {"left": {"Var": "context"}, "attr": "x"}}`,
/// and `has` has the same shape.
fn mentioned(tree: &Json) -> Needs {
    match tree {
        Json::Array(items) => items.iter().map(mentioned).fold(Needs::default(), Needs::and),
        Json::Object(members) => members
            .iter()
            .map(|(name, inner)| match (name.as_str(), member_of_context(inner)) {
                ("." | "has", Some(member)) => Needs::member(member),
                ("Var", _) if inner == "context" => Needs::ALL,
                _ => mentioned(inner),
            })
            .fold(Needs::default(), Needs::and),
        _ => Needs::default(),
    }
}

/// The member, if this is an access to one of the context itself.
fn member_of_context(access: &Json) -> Option<&str> {
    let left = access.get("left")?.as_object()?;
    let is_context = left.len() == 1 && left.get("Var")? == "context";
    is_context.then(|| access.get("attr")?.as_str()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needs(condition: &str) -> Needs {
        let text = format!("permit (principal, action, resource) when {{ {condition} }};");
        Needs::of(&text.parse().unwrap())
    }

    #[test]
    fn what_a_rule_names_is_needed_and_nothing_else() {
        let two = needs("context.untrusted && context has step && principal.owner == resource.owner");
        let is_two = |member: &&&str| two.has(member);
        assert_eq!(MEMBERS.iter().filter(is_two).collect::<Vec<_>>(), [&"step", &"untrusted"]);
        assert!(needs("context.args.name.contains(\"x\")").has("args"));
        assert!(
            needs("if context.depth > 2 then [context.level].contains(\"secret\") else true").has("level")
        );
        assert!(needs("context has approval.by").has("approval"));
        assert_eq!(needs("\"context\" == \"context\""), Needs::default());
    }

    #[test]
    fn a_rule_that_looks_at_the_context_itself_or_at_what_is_new_gets_all_of_it() {
        assert_eq!(needs("context == {level: \"public\"}"), Needs::ALL);
        assert_eq!(needs("[context].contains(context)"), Needs::ALL);
        assert_eq!(needs("(if true then context else context).untrusted"), Needs::ALL);
        assert_eq!(needs("context.something_new"), Needs::ALL);
    }
}
