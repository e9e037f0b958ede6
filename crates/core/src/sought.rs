//! What is looked for inside an argument that does not steer: identifiers that whoever reads it could follow.
//!
//! A manifest that says nothing gets the addresses, links, accounts and international telephone numbers of
//! [`mentions`]. It may list other types, and shapes of its own house, such as `INV-####` for the id of an invoice.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use serde::de::{self, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::input::fits_pattern;
use crate::origin::{Identifier, Kind, ends_word, mentions};
use crate::typed::ValueType;

/// One kind of identifier to look for. Written as the name of a type, or with the shape it has here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sought {
    /// Its type.
    pub of: ValueType,
    /// Its shape: `#` a digit, `@` a letter, `?` either, `*` any run of letters, digits, `-`, `_` and `.`.
    pub pattern: Option<String>,
}

/// Kinds of identifiers that one argument can be scanned for.
pub const SOUGHT_MAX: usize = 16;
/// Punctuation around a word that does not belong to it.
const AROUND: [char; 11] = ['.', ',', ';', ':', '!', '?', '"', '\'', '(', ')', '#'];
/// Longest word that can have a shape.
const WORD_MAX: usize = 128;

impl Sought {
    /// What is odd about it by itself.
    pub(crate) fn validate(&self) -> Result<(), &'static str> {
        match (&self.of, &self.pattern) {
            (ValueType::Record(_), None) => Err("is scanned for records without saying of which `pattern`"),
            (_, Some(pattern)) if pattern.is_empty() || pattern.len() > WORD_MAX => {
                Err("is scanned for a `pattern` that is empty or longer than 128 characters")
            }
            (_, Some(pattern)) if !pattern.contains(|c: char| c != '*') => {
                Err("is scanned for a `pattern` that every word has")
            }
            _ => Ok(()),
        }
    }

    /// Everything of this kind in a text.
    pub(crate) fn find(&self, text: &str) -> BTreeSet<Identifier> {
        if let (None, Some(kind)) = (&self.pattern, self.followed()) {
            return mentions(text).into_iter().filter(|id| id.kind == kind).collect();
        }
        let fits = |word: &&str| self.pattern.as_ref().is_none_or(|shape| fits_pattern(shape, word));
        text.split(ends_word)
            .map(|word| word.trim_matches(AROUND))
            .filter(|word| (1..=WORD_MAX).contains(&word.len()))
            .filter(fits)
            .filter_map(|word| self.of.identify(word))
            .filter(|id| id.kind != Kind::Path || id.text.starts_with('/'))
            .collect()
    }

    /// The kind that is found wherever it stands, glued to other words too.
    fn followed(&self) -> Option<Kind> {
        Some(match self.of {
            ValueType::Address => Kind::Address,
            ValueType::Url => Kind::Url,
            ValueType::Account | ValueType::Iban => Kind::Account,
            ValueType::Phone => Kind::Phone,
            _ => return None,
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Shaped {
    #[serde(rename = "type")]
    of: ValueType,
    pattern: String,
}

impl Serialize for Sought {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.pattern {
            None => self.of.serialize(serializer),
            Some(pattern) => Shaped { of: self.of.clone(), pattern: pattern.clone() }.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Sought {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SoughtVisitor)
    }
}

struct SoughtVisitor;

impl<'de> Visitor<'de> for SoughtVisitor {
    type Value = Sought;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a type, or { type: \"record:invoice\", pattern: \"INV-####\" }")
    }
    fn visit_str<E: de::Error>(self, name: &str) -> Result<Sought, E> {
        ValueType::parse(name).map(|of| Sought { of, pattern: None }).map_err(E::custom)
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Sought, A::Error> {
        let Shaped { of, pattern } = Shaped::deserialize(MapAccessDeserializer::new(map))?;
        Ok(Sought { of, pattern: Some(pattern) })
    }
}

/// The kinds in the order given; for builders.
pub fn named(types: &[ValueType]) -> Vec<Sought> {
    types.iter().map(|of| Sought { of: of.clone(), pattern: None }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tool::{Arg, Role};
    use alloc::format;

    fn found(sought: &str, text: &str) -> Vec<String> {
        let sought: Sought = serde_json::from_str(sought).unwrap();
        sought.validate().unwrap();
        let again: Sought = serde_json::from_str(&serde_json::to_string(&sought).unwrap()).unwrap();
        assert_eq!(again, sought, "what is written is read back");
        sought.find(text).into_iter().map(|id| id.text).collect()
    }

    // proves: N1
    #[test]
    fn each_kind_is_found_as_a_word_and_nothing_else_is() {
        let invoice = r#"{"type":"record:invoice","pattern":"INV-####"}"#;
        for (sought, text, wanted) in [
            (
                invoice,
                "Pay INV-2026, (INV-2027)! not INV-20, XINV-2028 or INV-20299",
                &["INV-2026", "INV-2027"][..],
            ),
            (invoice, "inv-2026", &[]),
            (r#""address""#, "mail:eve@evil.com www.evil.com", &["eve@evil.com"]),
            (r#""url""#, "eve@evil.com at Link:www.evil.com", &["www.evil.com"]),
            (r#""path""#, "see /etc/passwd and either/or", &["/etc/passwd"]),
            (r#""date""#, "on 2026-11-22.", &["2026-11-22"]),
            (r#""phone""#, "call +49 30 901820 now", &["+4930901820"]),
            (r#""account""#, "to DE89 3704 0044 0532 0130 00", &["DE89370400440532013000"]),
        ] {
            assert_eq!(found(sought, text), wanted, "{sought}: {text}");
        }
    }

    #[test]
    fn what_cannot_be_looked_for_is_refused() {
        let odd = |json: &str| serde_json::from_str::<Sought>(json).unwrap().validate().is_err();
        assert!(odd(r#""record:invoice""#) && odd(r#"{"type":"record:x","pattern":"**"}"#));
        assert!(odd(&format!(r#"{{"type":"url","pattern":"{}"}}"#, "#".repeat(200))));
        for bad in [r#""mail""#, r#"{"type":"url"}"#, r#"{"type":"url","pattern":"a","x":1}"#, "7"] {
            assert!(serde_json::from_str::<Sought>(bad).is_err(), "{bad}");
        }
        let steering = Arg { scan: Some(named(&[ValueType::Url])), ..Arg::of_role(Role::Target) };
        let tool = crate::tool::Manifest::new(
            crate::ids::ToolId::parse("a.b").unwrap(),
            crate::tool::Effect::Egress,
        );
        let mut tool = tool;
        tool.args.insert("to".into(), steering);
        assert!(tool.validate().unwrap_err().contains("argument `to` of a.b steers"));
    }
}
