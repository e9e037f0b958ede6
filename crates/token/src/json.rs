//! JSON that can be read in one way only.
//!
//! Readers disagree about repeated member names, and a disagreement between two readers of one token is an
//! attack (RFC 8725 section 2.4). So a text with a repeated name, at any depth, is refused before it is read.

use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::TokenRefusal;

/// Nesting beyond this is refused.
const DEPTH_MAX: usize = 32;

/// Reads one JSON object.
///
/// # Errors
/// `token.malformed` for anything else: bad JSON, trailing bytes, repeated names, deep nesting.
pub(crate) fn object(bytes: &[u8]) -> Result<Map<String, Value>, TokenRefusal> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    Unambiguous { depth: 0 }
        .deserialize(&mut reader)
        .map_err(|_| TokenRefusal::Malformed("not JSON, a repeated name, or nested too deep"))?;
    reader.end().map_err(|_| TokenRefusal::Malformed("bytes after the JSON"))?;
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(map)) => Ok(map),
        _ => Err(TokenRefusal::Malformed("not a JSON object")),
    }
}

/// Walks a value, keeps nothing, and fails at the first repeated name.
#[derive(Clone, Copy)]
struct Unambiguous {
    depth: usize,
}

impl Unambiguous {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth >= DEPTH_MAX {
            return Err(E::custom("nested too deep"));
        }
        Ok(Self { depth: self.depth + 1 })
    }
}

impl<'de> DeserializeSeed<'de> for Unambiguous {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Unambiguous {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without repeated names")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        while seq.next_element_seed(inner)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        let mut seen = HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            if !seen.insert(name) {
                return Err(serde::de::Error::custom("repeated name"));
            }
            map.next_value_seed(inner)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_reading_passes_and_two_readings_do_not() {
        let check = |text: &str, good: bool| {
            assert_eq!(object(text.as_bytes()).is_ok(), good, "{text}");
        };
        check(r#"{"a":1,"b":{"a":[null,true,1.5,-2,"x"]}}"#, true);
        check(r#" {"a":1} "#, true);
        check(r#"{"a":1,"a":1}"#, false);
        check(r#"{"a":1,"\u0061":2}"#, false);
        check(r#"{"x":[{"a":1,"a":2}]}"#, false);
        check(r#"{"a":1}{}"#, false);
        check(r#"[]"#, false);
        check("", false);
        check("{\"a\":\"\u{1}\"}", false);
        check(&format!("{{\"a\":{}{}}}", "[".repeat(40), "]".repeat(40)), false);
    }
}
