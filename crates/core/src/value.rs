//! Argument values: parsed once, strictly; printed one way only.
//!
//! INV9: what policy saw is what the upstream gets. A [`Value`] is the only form in which arguments travel
//! through bailiwick; the upstream receives [`Value::canonical`], never the caller's bytes. The canonical
//! form is RFC 8785 (sorted keys, no space, ECMAScript numbers) with two deviations that make it stricter:
//! whole numbers are kept exactly within 64 bits, and what would lose precision is refused.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap, SerializeSeq, Serializer};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// How deep a value may be nested.
pub const DEPTH_MAX: usize = 64;
/// How many bytes of JSON are read before parsing is refused.
pub const BYTES_MAX: usize = 1 << 20;

/// A JSON value without the traps of JSON: no duplicate keys, no lossy numbers, no `-0`, bounded depth.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A whole number, exact within 64 bits. `50.0` is read as `50`.
    Int(i64),
    /// A number with a fraction.
    Float(Float),
    /// Text.
    Text(String),
    /// An array.
    List(Vec<Value>),
    /// An object.
    Map(BTreeMap<String, Value>),
}

/// A finite number that is not whole; ordered and comparable because the odd cases cannot occur.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Float(f64);

impl Eq for Float {}
impl PartialOrd for Float {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Float {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}
impl Float {
    /// The number.
    pub fn get(self) -> f64 {
        self.0
    }
}

/// Why bytes are not a value. Nothing of the bytes is repeated beyond the parser's position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not acceptable JSON: {why}")]
pub struct BadValue {
    code: &'static str,
    why: String,
}

impl BadValue {
    /// Stable code for API and audit.
    pub fn code(&self) -> &'static str {
        self.code
    }
}

/// 32 bytes of SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// SHA-256 of bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Digest(Sha256::digest(bytes).into())
    }
    /// SHA-256 over parts, each preceded by its length, so that no two lists of parts collide.
    pub fn of_parts(parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        Digest(hash.finalize().into())
    }
    /// Takes 32 bytes that are a digest already.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Digest(bytes)
    }
    /// The bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
    /// The first twelve hexadecimal digits, for people.
    pub fn short(&self) -> String {
        self.to_string().chars().take(12).collect()
    }
    /// Reads 64 hexadecimal digits, lower case.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            return None;
        }
        let mut out = [0; 32];
        for (slot, pair) in out.iter_mut().zip(text.as_bytes().chunks(2)) {
            *slot = u8::from_str_radix(core::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Digest(out))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}
impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}
impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        Digest::parse(&text).ok_or_else(|| de::Error::custom("a digest is 64 lower-case hexadecimal digits"))
    }
}

impl Value {
    /// Reads JSON strictly: UTF-8, one value, no duplicate keys, no number that would lose precision,
    /// at most [`DEPTH_MAX`] deep and [`BYTES_MAX`] long.
    pub fn parse(bytes: &[u8]) -> Result<Value, BadValue> {
        if bytes.len() > BYTES_MAX {
            return Err(BadValue { code: "json.too_large", why: format!("more than {BYTES_MAX} bytes") });
        }
        let value: Value = serde_json::from_slice(bytes)
            .map_err(|e| BadValue { code: "json.malformed", why: e.to_string() })?;
        if value.depth() > DEPTH_MAX {
            return Err(BadValue {
                code: "json.too_deep",
                why: format!("nested more than {DEPTH_MAX} deep"),
            });
        }
        Ok(value)
    }

    /// The one way this value is printed.
    pub fn canonical(&self) -> String {
        let mut out = String::new();
        self.print(&mut out);
        out
    }

    /// SHA-256 of the canonical form.
    pub fn digest(&self) -> Digest {
        Digest::of(self.canonical().as_bytes())
    }

    /// Turns anything serializable into a value. Fails as [`Value::parse`] would.
    pub fn from_serialize<T: Serialize>(thing: &T) -> Result<Value, BadValue> {
        let bytes =
            serde_json::to_vec(thing).map_err(|e| BadValue { code: "json.malformed", why: e.to_string() })?;
        serde_json::from_slice(&bytes).map_err(|e| BadValue { code: "json.malformed", why: e.to_string() })
    }

    /// An empty object.
    pub fn empty() -> Value {
        Value::Map(BTreeMap::new())
    }
    /// Text, if it is text.
    pub fn as_text(&self) -> Option<&str> {
        if let Value::Text(text) = self { Some(text) } else { None }
    }
    /// Items, if it is a list.
    pub fn as_list(&self) -> Option<&[Value]> {
        if let Value::List(items) = self { Some(items) } else { None }
    }
    /// Members, if it is an object.
    pub fn as_map(&self) -> Option<&BTreeMap<String, Value>> {
        if let Value::Map(map) = self { Some(map) } else { None }
    }
    /// A member of an object.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.as_map()?.get(key)
    }
    /// A number, whole or not.
    pub fn as_number(&self) -> Option<f64> {
        match self {
            Value::Int(n) => Some(*n as f64),
            Value::Float(f) => Some(f.0),
            _ => None,
        }
    }
    /// True for `null`, empty text and empty lists: an argument that says nothing.
    pub fn is_blank(&self) -> bool {
        match self {
            Value::Null => true,
            Value::Text(text) => text.is_empty(),
            Value::List(items) => items.is_empty(),
            _ => false,
        }
    }
    /// The text a person would write for a scalar, trimmed; `None` for lists and objects.
    pub fn spelled(&self) -> Option<String> {
        match self {
            Value::Null => Some("null".to_owned()),
            Value::Bool(b) => Some(b.to_string()),
            Value::Int(n) => Some(n.to_string()),
            Value::Float(f) => Some(print_float(f.0)),
            Value::Text(text) => Some(text.trim().to_owned()),
            Value::List(_) | Value::Map(_) => None,
        }
    }

    fn depth(&self) -> usize {
        match self {
            Value::List(items) => 1 + items.iter().map(Value::depth).max().unwrap_or(0),
            Value::Map(map) => 1 + map.values().map(Value::depth).max().unwrap_or(0),
            _ => 0,
        }
    }

    fn print(&self, out: &mut String) {
        match self {
            Value::Null => out.push_str("null"),
            Value::Bool(true) => out.push_str("true"),
            Value::Bool(false) => out.push_str("false"),
            Value::Int(n) => out.push_str(&n.to_string()),
            Value::Float(f) => out.push_str(&print_float(f.0)),
            Value::Text(text) => print_text(text, out),
            Value::List(items) => print_list(items, out),
            Value::Map(map) => print_map(map, out),
        }
    }
}

/// A number from a parser: whole ones become [`Value::Int`]; what cannot be kept exactly is refused.
fn number(f: f64) -> Result<Value, &'static str> {
    const EXACT: f64 = 9_007_199_254_740_992.0; // 2^53
    if !f.is_finite() {
        return Err("a number must be finite");
    }
    if f == 0.0 && f.is_sign_negative() {
        return Err("negative zero has no canonical form");
    }
    if f.abs() >= EXACT {
        return Err("a number beyond 2^53 that is not a 64-bit integer would lose precision");
    }
    let whole = f as i64;
    Ok(if whole as f64 == f { Value::Int(whole) } else { Value::Float(Float(f)) })
}

fn print_float(f: f64) -> String {
    ryu_js::Buffer::new().format_finite(f).to_owned()
}

/// RFC 8785 section 3.2.2.2: the shortest escapes, everything else as it is.
fn print_text(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            c if (c as u32) < 0x20 => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
}

fn print_list(items: &[Value], out: &mut String) {
    out.push('[');
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        item.print(out);
    }
    out.push(']');
}

/// RFC 8785 section 3.2.3: keys sorted by UTF-16 code units (the same as bytes while all is ASCII).
fn print_map(map: &BTreeMap<String, Value>, out: &mut String) {
    let mut members: Vec<(&String, &Value)> = map.iter().collect();
    if members.iter().any(|(key, _)| !key.is_ascii()) {
        members.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
    }
    out.push('{');
    for (i, (key, value)) in members.into_iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        print_text(key, out);
        out.push(':');
        value.print(out);
    }
    out.push('}');
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.canonical())
    }
}
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.canonical())
    }
}
impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::Text(text.to_owned())
    }
}
impl From<String> for Value {
    fn from(text: String) -> Self {
        Value::Text(text)
    }
}
impl From<i64> for Value {
    fn from(n: i64) -> Self {
        Value::Int(n)
    }
}
impl From<bool> for Value {
    fn from(b: bool) -> Self {
        Value::Bool(b)
    }
}
impl<const N: usize> From<[(&str, Value); N]> for Value {
    fn from(members: [(&str, Value); N]) -> Self {
        Value::Map(members.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::Null => s.serialize_unit(),
            Value::Bool(b) => s.serialize_bool(*b),
            Value::Int(n) => s.serialize_i64(*n),
            Value::Float(f) => s.serialize_f64(f.0),
            Value::Text(text) => s.serialize_str(text),
            Value::List(items) => {
                let mut seq = s.serialize_seq(Some(items.len()))?;
                items.iter().try_for_each(|item| seq.serialize_element(item))?;
                seq.end()
            }
            Value::Map(map) => {
                let mut out = s.serialize_map(Some(map.len()))?;
                map.iter().try_for_each(|(k, v)| out.serialize_entry(k, v))?;
                out.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(Strict)
    }
}

struct Strict;

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_none<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_bool<E: de::Error>(self, b: bool) -> Result<Value, E> {
        Ok(Value::Bool(b))
    }
    fn visit_i64<E: de::Error>(self, n: i64) -> Result<Value, E> {
        Ok(Value::Int(n))
    }
    fn visit_u64<E: de::Error>(self, n: u64) -> Result<Value, E> {
        i64::try_from(n).map(Value::Int).map_err(|_| E::custom("a whole number must fit 64 bits with sign"))
    }
    fn visit_f64<E: de::Error>(self, f: f64) -> Result<Value, E> {
        number(f).map_err(E::custom)
    }
    fn visit_str<E: de::Error>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }
    fn visit_string<E: de::Error>(self, text: String) -> Result<Value, E> {
        Ok(Value::Text(text))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = BTreeMap::new();
        while let Some(key) = access.next_key::<String>()? {
            let value = access.next_value()?;
            if map.insert(key, value).is_some() {
                return Err(de::Error::custom("the same key appears twice in one object"));
            }
        }
        Ok(Value::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(json: &str, canonical: Option<&str>) {
        let got = Value::parse(json.as_bytes()).map(|v| v.canonical()).ok();
        assert_eq!(got.as_deref(), canonical, "{json}");
    }

    // proves: A22, INV9
    #[test]
    fn what_two_readers_could_read_differently_is_refused() {
        check(r#"{"b":1,"a":[1.0,2.5,"x"]}"#, Some(r#"{"a":[1,2.5,"x"],"b":1}"#));
        check("50.0", Some("50"));
        check("9223372036854775807", Some("9223372036854775807"));
        for bad in [
            r#"{"a":1,"a":2}"#,
            r#"{"a":{"b":1,"b":1}}"#,
            "-0.0",
            "-0",
            "1e400",
            "9223372036854775808",
            "9007199254740993.0",
            "NaN",
            "1 2",
            "\u{feff}1",
            r#""\ud800""#,
            "[1,]",
            "",
            "'a'",
            "01",
        ] {
            check(bad, None);
        }
        assert!(Value::parse(b"\"\xff\"").is_err());
    }

    #[test]
    fn depth_and_size_are_bounded() {
        let nested = |n: usize| "[".repeat(n) + &"]".repeat(n);
        assert!(Value::parse(nested(DEPTH_MAX).as_bytes()).is_ok());
        assert_eq!(Value::parse(nested(DEPTH_MAX + 1).as_bytes()).unwrap_err().code(), "json.too_deep");
        assert!(Value::parse(nested(100_000).as_bytes()).is_err());
        let huge = alloc::vec![b' '; BYTES_MAX + 1];
        assert_eq!(Value::parse(&huge).unwrap_err().code(), "json.too_large");
    }

    // RFC 8785 section 3.2.3
    #[test]
    fn keys_are_sorted_by_utf16() {
        check(
            "{\"\\u20ac\":1,\"\\r\":2,\"\\ufb33\":3,\"1\":4,\"\\ud83d\\ude00\":5,\"\\u0080\":6,\"\\u00f6\":7}",
            Some("{\"\\r\":2,\"1\":4,\"\u{80}\":6,\"ö\":7,\"€\":1,\"😀\":5,\"\u{fb33}\":3}"),
        );
    }

    pub(crate) fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Int),
            (-1.0e6..1.0e6f64).prop_filter_map("whole", |f| number(f).ok()),
            ".{0,12}".prop_map(Value::Text),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::List),
                prop::collection::btree_map(".{0,6}", inner, 0..5).prop_map(Value::Map),
            ]
        })
    }

    proptest! {
        // proves: INV9
        #[test]
        fn printing_and_parsing_are_inverse(value in any_value()) {
            let text = value.canonical();
            let back = Value::parse(text.as_bytes()).unwrap();
            prop_assert_eq!(&back, &value);
            prop_assert_eq!(back.canonical(), text);
        }

        #[test]
        fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(value) = Value::parse(&bytes) {
                prop_assert_eq!(Value::parse(value.canonical().as_bytes()).unwrap(), value);
            }
        }
    }
}
