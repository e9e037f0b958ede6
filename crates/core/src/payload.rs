//! The payload of a handoff: which fields are delivered, and of which type each one is.
//!
//! What one agent writes for another is content, whoever vouches for the writer. So a chain says which fields go
//! through, and can say of each what it is: a field that nobody named is stripped, one of another type is refused.
//! Nothing is looked for inside a field, and no field explains anything by having a type.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use serde::de::{self, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer};
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::input::{BadInput, InputType};
use crate::value::Value;

/// The fields of a payload that a handoff step delivers. Written as a list of names, or as a map from each name to
/// its type or to the word `any`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pass(BTreeMap<String, Option<InputType>>);

/// The most fields a step may deliver.
pub const FIELDS_MAX: usize = 64;
/// The longest name of a field, in bytes.
pub const NAME_MAX: usize = 128;

/// What becomes of a payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// What the child gets.
    pub delivered: Value,
    /// The names of the fields that it does not get. At most [`FIELDS_MAX`] are named, the rest is counted.
    pub stripped: BTreeSet<String>,
}

impl Pass {
    /// The same fields, of any type; for builders.
    pub fn names<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Self {
        Pass(names.into_iter().map(|name| (name.into(), None)).collect())
    }
    /// One more field with its type; for builders.
    #[must_use]
    pub fn field(mut self, name: &str, of: InputType) -> Self {
        self.0.insert(name.to_string(), Some(of));
        self
    }
    /// The fields with their types, in order; `None` is any.
    pub fn iter(&self) -> impl Iterator<Item = (&String, Option<&InputType>)> {
        self.0.iter().map(|(name, of)| (name, of.as_ref()))
    }
    /// Whether a field of this name is delivered.
    pub fn delivers(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Checks names and types by themselves.
    ///
    /// # Errors
    /// What [`InputType::validate`] says, and `input.declaration` for what a payload cannot have.
    pub fn validate(&self) -> Result<(), BadInput> {
        let odd = |field: &str, what: &str, next: &str| {
            let input = field.chars().take(64).flat_map(char::escape_default).collect();
            Err(BadInput { code: "input.declaration", input, what: what.to_string(), next: next.to_string() })
        };
        if self.0.len() > FIELDS_MAX {
            let last = self.0.keys().next_back().map_or("", String::as_str);
            return odd(last, &format!("is one of more than {FIELDS_MAX} fields"), "Pass fewer.");
        }
        for (name, of) in &self.0 {
            if name.is_empty() || name.len() > NAME_MAX {
                return odd(name, &format!("has no name of 1 to {NAME_MAX} bytes"), "Rename it.");
            }
            let Some(of) = of else { continue };
            if of.default.is_some() {
                return odd(name, "has a `default`, which is for inputs", "Write `optional: true`.");
            }
            of.validate(name)?;
        }
        Ok(())
    }

    /// What goes through of a payload. A field without a declaration is stripped; one that is missing or of another
    /// type stops the handoff. An optional field that is `null` was not given.
    ///
    /// # Errors
    /// `input.missing` and what [`InputType::check`] says. The value is not repeated.
    pub fn deliver(&self, payload: &BTreeMap<String, Value>) -> Result<Delivery, BadInput> {
        let mut delivered = BTreeMap::new();
        for (name, of) in &self.0 {
            let given = payload.get(name);
            match (of, given) {
                (None, None) => {}
                (Some(of), None | Some(Value::Null)) if of.optional => {}
                (Some(of), None) => {
                    return Err(BadInput {
                        code: "input.missing",
                        input: name.clone(),
                        what: "is missing".to_string(),
                        next: format!("Expected is {}.", of.expected()),
                    });
                }
                (Some(of), Some(value)) => {
                    of.check(name, value)?;
                    delivered.insert(name.clone(), value.clone());
                }
                (None, Some(value)) => {
                    delivered.insert(name.clone(), value.clone());
                }
            }
        }
        let unnamed = payload.keys().filter(|name| !self.delivers(name)).collect();
        Ok(Delivery { delivered: Value::Map(delivered), stripped: told(unnamed) })
    }

    /// The fields in words: "`summary` (text, at most 500 long), `ticket` (id of a ticket)".
    pub fn in_words(&self) -> String {
        let one = |(name, of): (&String, &Option<InputType>)| match of {
            Some(of) if of.optional => format!("`{name}` ({}; optional)", of.expected()),
            Some(of) => format!("`{name}` ({})", of.expected()),
            None => format!("`{name}`"),
        };
        let all: Vec<String> = self.0.iter().map(one).collect();
        if all.is_empty() { "no field".to_string() } else { all.join(", ") }
    }
}

/// The names of stripped fields as they are recorded: an agent can invent any number, of any length.
fn told(names: Vec<&String>) -> BTreeSet<String> {
    let more = names.len().saturating_sub(FIELDS_MAX);
    let short = |name: &&String| name.chars().take(NAME_MAX).collect::<String>();
    let mut out: BTreeSet<String> = names.iter().take(FIELDS_MAX).map(short).collect();
    if more > 0 {
        out.insert(format!("and {more} more"));
    }
    out
}

impl Serialize for Pass {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.values().all(Option::is_none) {
            let mut list = serializer.serialize_seq(Some(self.0.len()))?;
            self.0.keys().try_for_each(|name| list.serialize_element(name))?;
            return list.end();
        }
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, of) in &self.0 {
            match of {
                Some(of) => map.serialize_entry(name, of)?,
                None => map.serialize_entry(name, ANY)?,
            }
        }
        map.end()
    }
}

/// The word for a field of any type.
const ANY: &str = "any";

impl<'de> Deserialize<'de> for Pass {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Pass;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of field names, or a map from field names to their types")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut names: A) -> Result<Pass, A::Error> {
        let mut fields = BTreeMap::new();
        while let Some(name) = names.next_element::<String>()? {
            fields.insert(name, None);
        }
        Ok(Pass(fields))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut types: A) -> Result<Pass, A::Error> {
        let mut fields = BTreeMap::new();
        while let Some(name) = types.next_key::<String>()? {
            let Field(of) = types.next_value()?;
            if fields.insert(name.clone(), of).is_some() {
                return Err(de::Error::custom(format!("the field `{name}` stands there twice")));
            }
        }
        Ok(Pass(fields))
    }
}

struct Field(Option<InputType>);

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FieldVisitor)
    }
}

struct FieldVisitor;

impl<'de> Visitor<'de> for FieldVisitor {
    type Value = Field;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the word `any`, or a type such as { type: text, max: 200 }")
    }
    fn visit_str<E: de::Error>(self, word: &str) -> Result<Field, E> {
        if word == ANY { Ok(Field(None)) } else { Err(E::invalid_value(de::Unexpected::Str(word), &self)) }
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Field, A::Error> {
        InputType::deserialize(MapAccessDeserializer::new(map)).map(|of| Field(Some(of)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::InputKind;
    use proptest::prelude::*;

    fn pass(json: &str) -> Pass {
        serde_json::from_str(json).unwrap()
    }

    fn deliver(pass: &Pass, json: &str) -> Result<(String, Vec<String>), (&'static str, String)> {
        let payload = Value::parse(json.as_bytes()).unwrap();
        pass.deliver(payload.as_map().unwrap())
            .map(|d| (d.delivered.canonical(), d.stripped.into_iter().collect()))
            .map_err(|e| (e.code, format!("{}: {} {}", e.input, e.what, e.next)))
    }

    const TYPED: &str = r#"{"summary":{"type":"text","max":10},"ids":{"type":"record","of":"ticket","many":true},
        "to":{"type":"mail","optional":true},"history":"any"}"#;

    // proves: H4, D6
    #[test]
    fn what_is_named_and_fits_goes_through_and_nothing_else() {
        let typed = pass(TYPED);
        typed.validate().unwrap();
        let good =
            deliver(&typed, r#"{"summary":"slow","ids":[1,"T-2"],"history":{"a":1},"phone":"1","to":null}"#);
        let good = good.unwrap();
        assert_eq!(good.0, r#"{"history":{"a":1},"ids":[1,"T-2"],"summary":"slow"}"#);
        assert_eq!(good.1, ["phone"]);
        for (bad, code, says) in [
            (r#"{"summary":"much too long","ids":[1]}"#, "input.range", "summary: is above 10"),
            (r#"{"summary":7,"ids":[1]}"#, "input.type", "summary: is not of type `text`"),
            (r#"{"summary":{"say":"x"},"ids":[1]}"#, "input.type", "summary"),
            (r#"{"summary":"x","ids":1}"#, "input.type", "ids: is not a list"),
            (r#"{"summary":"x","ids":["a b"]}"#, "input.type", "id of a ticket"),
            (r#"{"summary":"x","ids":[1],"to":"ann"}"#, "input.type", "to: is not of type `mail`"),
            (r#"{"summary":null,"ids":[1]}"#, "input.type", "summary"),
            (r#"{"ids":[1]}"#, "input.missing", "summary: is missing Expected is text, at most 10 long."),
        ] {
            let refused = deliver(&typed, bad).unwrap_err();
            assert!(refused.0 == code && refused.1.contains(says), "{bad}: {refused:?}");
            assert!(!refused.1.contains("much too long"), "a value is not repeated");
        }
    }

    #[test]
    fn names_alone_are_written_as_a_list_and_types_as_a_map() {
        assert_eq!(serde_json::to_string(&pass(r#"["b","a"]"#)).unwrap(), r#"["a","b"]"#);
        for written in [TYPED, r#"["a"]"#, "[]"] {
            let again = serde_json::to_string(&pass(written)).unwrap();
            assert_eq!(pass(&again), pass(written), "{again}");
        }
        for bad in [
            r#""a""#,
            r#"{"a":"all"}"#,
            r#"{"a":{"type":"txt"}}"#,
            r#"{"a":{"typ":"text"}}"#,
            r#"[1]"#,
            r#"{"a":"any","a":"any"}"#,
        ] {
            assert!(serde_json::from_str::<Pass>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn declarations_that_make_no_sense_are_refused() {
        for (bad, says) in [
            (r#"{"a":{"type":"text","default":"x"}}"#, "default"),
            (r#"{"a":{"type":"record"}}"#, "of which type"),
            (r#"{"":"any"}"#, "no name"),
        ] {
            let refused = pass(bad).validate().unwrap_err();
            assert!(refused.to_string().contains(says), "{bad}: {refused}");
        }
        assert!(Pass::names((0..=FIELDS_MAX).map(|n| format!("f{n}"))).validate().is_err());
        assert!(Pass::names((0..FIELDS_MAX).map(|n| format!("f{n}"))).validate().is_ok());
    }

    // proves: A72
    #[test]
    fn names_that_an_agent_invents_are_told_shortly() {
        let payload = (0..1000).map(|n| (format!("{n:04}{}", "x".repeat(500)), Value::Null)).collect();
        let stripped = Pass::default().deliver(&payload).unwrap().stripped;
        assert_eq!(stripped.len(), FIELDS_MAX + 1);
        assert!(stripped.contains("and 936 more") && stripped.iter().all(|n| n.len() <= NAME_MAX));
    }

    proptest! {
        // proves: H4
        #[test]
        fn nothing_goes_through_that_is_not_named_and_of_its_type(
            payload in prop::collection::btree_map("[a-d]", prop_oneof![
                any::<i64>().prop_map(Value::Int), "[a-z@.]{0,9}".prop_map(Value::from), Just(Value::Null)], 0..5),
        ) {
            let number = InputType { optional: true, ..InputType::of(InputKind::Number) };
            let pass = Pass::names(["a"]).field("b", number.clone());
            if let Ok(Delivery { delivered, stripped }) = pass.deliver(&payload) {
                for (name, value) in delivered.as_map().unwrap() {
                    prop_assert!(payload.get(name) == Some(value) && pass.delivers(name));
                    prop_assert!(name != "b" || number.check("b", value).is_ok());
                }
                prop_assert!(payload.keys().all(|n| pass.delivers(n) != stripped.contains(n)));
            } else {
                prop_assert!(!matches!(payload.get("b"), None | Some(Value::Int(_) | Value::Null)));
            }
        }
    }
}
