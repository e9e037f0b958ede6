//! Declassifiers: the only way a label becomes less, and only as an operator declared it beforehand.
//!
//! A manifest may say that a tool takes something out of what passes through it: a mail server that blackens names,
//! a read that returns nothing but totals, a desk whose answers people have checked. Then the label is lowered by
//! exactly that, for this one passing, and the record says by which declaration. The branch keeps the label of what it
//! has seen; agents declare nothing, and what they once wrote keeps its label; a condition that cannot be checked is not
//! met.

use alloc::borrow::Cow;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use crate::ids::DataClass;
use crate::label::{Label, Level};
use crate::origin::holds;
use crate::tool::{Manifest, When};
use crate::value::Value;

/// What passes through a tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Passing {
    /// The arguments, on their way into the tool.
    Call,
    /// The result, on its way to the agent.
    Result,
}

/// A declaration that a tool lowers the label of what passes through it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Declassifier {
    /// Of what.
    pub of: Passing,
    /// Why that is so, in words, for the record.
    pub because: String,
    /// The data classes that are not in it afterwards.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub classes: BTreeSet<DataClass>,
    /// The most confidential that it is afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<Level>,
    /// Of a result: whether the tool vouches for it, so that reading it taints nothing.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub trusted: bool,
    /// Under which condition: on an argument, or on every record of the result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<When>,
}

/// How a label was lowered once, for the record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lowered {
    /// The declaration's own words.
    pub because: String,
    /// The data classes that were taken out.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub classes: BTreeSet<DataClass>,
    /// The level it had before, if that was lowered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<Level>,
    /// The untrusted origin that the tool vouched for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trusted: Option<String>,
}

/// Declassifiers that one tool may have.
pub const DECLASSIFIERS_MAX: usize = 16;
/// Longest reason, in characters.
const BECAUSE_MAX: usize = 200;

impl Declassifier {
    /// What is odd about the declaration by itself.
    pub fn validate(&self) -> Result<(), &'static str> {
        if self.because.trim().is_empty() || self.because.chars().count() > BECAUSE_MAX {
            return Err("says nothing under `because`, or more than 200 characters");
        }
        if self.classes.is_empty() && self.level.is_none() && !self.trusted {
            return Err("lowers nothing: name `classes`, a `level`, or `trusted: true`");
        }
        if self.trusted && self.of == Passing::Call {
            return Err("vouches for a call; only a result can be `trusted`");
        }
        Ok(())
    }

    /// The label after this, if it says anything about it.
    fn lower(&self, label: &mut Label, origin: Option<&str>) -> Option<Lowered> {
        let classes: BTreeSet<DataClass> = label.classes.intersection(&self.classes).cloned().collect();
        let level = self.level.filter(|most| label.level > *most).map(|_| label.level);
        let trusted =
            origin.filter(|o| self.trusted && label.untrusted.contains(*o)).map(ToString::to_string);
        label.classes.retain(|class| !classes.contains(class));
        label.level = self.level.map_or(label.level, |most| label.level.min(most));
        trusted.iter().for_each(|origin| {
            label.untrusted.remove(origin);
        });
        let changed = !classes.is_empty() || level.is_some() || trusted.is_some();
        changed.then(|| Lowered { because: self.because.clone(), classes, level, trusted })
    }
}

impl Lowered {
    /// In words: "pii taken out, confidential before: the server blackens names".
    pub fn in_words(&self) -> String {
        let mut what: Vec<String> = self.classes.iter().map(|class| format!("{class} taken out")).collect();
        what.extend(self.level.map(|before| format!("{} before", before.as_str())));
        what.extend(self.trusted.iter().map(|origin| format!("{origin} vouched for")));
        format!("{}: {}", what.join(", "), self.because)
    }
}

/// The label under which the arguments of a call go into its tool, and how it was lowered.
pub fn of_call<'l>(
    manifest: &Manifest,
    args: &BTreeMap<String, Value>,
    label: &'l Label,
    own_domains: &BTreeSet<String>,
) -> (Cow<'l, Label>, Vec<Lowered>) {
    let met =
        |rule: &&Declassifier| rule.of == Passing::Call && holds(rule.when.as_ref(), Some(args), own_domains);
    let mut label = Cow::Borrowed(label);
    let rules = manifest.declassifies.iter().filter(met);
    let lowered = rules.filter_map(|rule| rule.lower(label.to_mut(), None)).collect();
    (label, lowered)
}

/// The label that a result brings: of the tool's own making, joined with that of what agents once wrote into it. Only
/// the former is ever lowered: an agent could have written whatever meets the condition (A31).
pub fn of_result(
    manifest: &Manifest,
    result: &Value,
    own: &Label,
    written: &Label,
    own_domains: &BTreeSet<String>,
) -> (Label, Vec<Lowered>) {
    let met = |rule: &&Declassifier| {
        rule.of == Passing::Result
            && rule.when.as_ref().is_none_or(|when| every_record(result, when, own_domains))
    };
    let mut own = own.clone();
    let rules = manifest.declassifies.iter().filter(met);
    let lowered = rules.filter_map(|rule| rule.lower(&mut own, Some(manifest.tool.as_str()))).collect();
    (own.join(written), lowered)
}

/// Whether a result is made of records and nothing else, at least one, and the condition holds for each. A record is
/// an object that has the field; around them only lists and objects may stand.
fn every_record(value: &Value, when: &When, own: &BTreeSet<String>) -> bool {
    match value {
        Value::List(items) => !items.is_empty() && items.iter().all(|item| every_record(item, when, own)),
        Value::Map(map) if map.contains_key(&when.field) => holds(Some(when), Some(map), own),
        Value::Map(map) => !map.is_empty() && map.values().all(|inner| every_record(inner, when, own)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ToolId;
    use crate::tool::Effect;
    use proptest::prelude::*;

    fn rule(json: &str) -> Declassifier {
        let rule: Declassifier = serde_json::from_str(json).unwrap();
        rule.validate().unwrap();
        rule
    }

    fn manifest(rules: &[&str]) -> Manifest {
        let declassifies = rules.iter().map(|r| rule(r)).collect();
        Manifest { declassifies, ..Manifest::new(ToolId::parse("desk.ask").unwrap(), Effect::Read) }
    }

    fn label(level: Level, classes: &[&str], untrusted: &[&str]) -> Label {
        Label {
            level,
            classes: classes.iter().map(|c| DataClass::parse(c).unwrap()).collect(),
            untrusted: untrusted.iter().map(ToString::to_string).collect(),
        }
    }

    fn json(text: &str) -> Value {
        Value::parse(text.as_bytes()).unwrap()
    }

    // proves: N1, INV13
    #[test]
    fn what_is_declared_is_taken_out_under_its_condition_and_nothing_else() {
        let blackens = r#"{"of":"call","because":"the server blackens names","classes":["pii"],"level":"internal",
            "when":{"field":"mode","in":["strict"]}}"#;
        let (mail, seen) = (manifest(&[blackens]), label(Level::Secret, &["card", "pii"], &["crm.get"]));
        let call = |manifest: &Manifest, args: &str| {
            let (label, lowered) = of_call(manifest, json(args).as_map().unwrap(), &seen, &BTreeSet::new());
            (label.into_owned(), lowered)
        };
        let (passing, lowered) = call(&mail, r#"{"mode":"strict"}"#);
        assert_eq!(passing, label(Level::Internal, &["card"], &["crm.get"]), "the rest stays");
        assert_eq!(lowered[0].in_words(), "pii taken out, secret before: the server blackens names");
        for args in [r#"{"mode":"lax"}"#, r#"{"mode":["strict"]}"#, "{}"] {
            assert_eq!(call(&mail, args), (seen.clone(), Vec::new()), "{args}");
        }
        assert_eq!(
            call(&manifest(&[]), r#"{"mode":"strict"}"#),
            (seen.clone(), Vec::new()),
            "undeclared is none"
        );
    }

    // proves: N1, A31
    #[test]
    fn a_result_is_vouched_for_when_every_record_in_it_meets_the_condition() {
        let checked = r#"{"of":"result","because":"people answer","trusted":true,"when":{"field":"from","own_domain":true}}"#;
        let desk = manifest(&[checked]);
        let domains = BTreeSet::from(["example.org".to_string()]);
        let own = Label::untrusted("desk.ask");
        let read = |result: &str, written: &Label| of_result(&desk, &json(result), &own, written, &domains).0;
        let nobody = Label::bottom();
        for good in [
            r#"{"from":"ann@example.org","text":"yes"}"#,
            r#"{"items":[{"from":"ann@example.org"},{"from":"bob@example.org","more":{"from":"eve@evil.com"}}]}"#,
        ] {
            assert!(read(good, &nobody).is_trusted(), "{good}");
        }
        for bad in [
            r#"{"from":"eve@evil.com"}"#,
            r#"[{"from":"ann@example.org"},{"from":"eve@evil.com"}]"#,
            r#"[{"from":"ann@example.org"},{"text":"no sender"}]"#,
            r#"[{"from":"ann@example.org"},"loose words"]"#,
            r#"{"from":["ann@example.org"]}"#,
            r#"{"text":"from: ann@example.org"}"#,
            "[]",
            "{}",
            "null",
            r#""from ann@example.org""#,
        ] {
            assert_eq!(read(bad, &nobody), own, "{bad}");
        }
        let laundered = Label::untrusted("notes.add");
        let still = read(r#"{"from":"ann@example.org"}"#, &laundered);
        assert_eq!(still, laundered, "what agents wrote stays untrusted");
        let secret = label(Level::Secret, &["pii"], &["notes.add"]);
        let taking = r#"{"of":"result","because":"only totals","classes":["pii"],"level":"public"}"#;
        let (own, (took, _)) =
            (Label::bottom(), of_result(&manifest(&[taking]), &json("{}"), &secret, &secret, &domains));
        assert_eq!(took, secret, "and as confidential as it was");
        assert_eq!(
            of_result(&manifest(&[taking]), &json("{}"), &secret, &own, &domains).0.level,
            Level::Public
        );
        let own_words = Label::untrusted("desk.ask");
        assert_eq!(read(r#"{"from":"ann@example.org"}"#, &own_words), own_words, "under whatever name");
    }

    #[test]
    fn declarations_that_say_nothing_are_refused() {
        for bad in [
            r#"{"of":"call","because":" ","classes":["pii"]}"#,
            r#"{"of":"call","because":"x"}"#,
            r#"{"of":"call","because":"x","trusted":true}"#,
        ] {
            assert!(serde_json::from_str::<Declassifier>(bad).unwrap().validate().is_err(), "{bad}");
        }
        for bad in [r#"{"because":"x","classes":["pii"]}"#, r#"{"of":"call","because":"x","clases":["pii"]}"#]
        {
            assert!(serde_json::from_str::<Declassifier>(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        // proves: N1, INV13
        #[test]
        fn a_declassifier_takes_out_what_it_names_at_most(
            level in 0usize..4, most in 0usize..4, classes in prop::collection::btree_set("[a-c]", 0..4),
            takes in prop::collection::btree_set("[a-c]", 1..3), untrusted in prop::collection::btree_set("[a-c]", 0..3),
        ) {
            let levels = [Level::Public, Level::Internal, Level::Confidential, Level::Secret];
            let named = |set: &BTreeSet<String>| set.iter().map(|c| DataClass::parse(c).unwrap()).collect::<BTreeSet<_>>();
            let before = Label { level: levels[level], classes: named(&classes), untrusted };
            let rule = Declassifier {
                of: Passing::Call, because: "x".to_string(), classes: named(&takes),
                level: Some(levels[most]), trusted: false, when: None,
            };
            let tool = Manifest { declassifies: alloc::vec![rule], ..manifest(&[]) };
            let (after, lowered) = of_call(&tool, &BTreeMap::new(), &before, &BTreeSet::new());
            let after = after.into_owned();
            prop_assert!(after.flows_to(&before) && after.untrusted == before.untrusted);
            prop_assert_eq!(&after.classes, &before.classes.difference(&named(&takes)).cloned().collect());
            prop_assert_eq!(after.level, before.level.min(levels[most]));
            prop_assert_eq!(lowered.is_empty(), after == before, "whatever is lowered is told");
        }
    }
}
