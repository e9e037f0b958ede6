//! What an argument may be: a lattice of typed constraints.
//!
//! Authority shrinks by [`Constraint::meet`] and is compared by [`Constraint::contains`]. Both are total.
//! `meet` is exact: the meet admits a value if and only if both sides do. `contains` is sound: when it says
//! yes, every value that the right side admits is admitted by the left; when in doubt it says no, and a
//! handoff is refused.

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::net::IpAddr;
use serde::{Deserialize, Serialize};

use crate::value::Value;

/// A predicate on one argument value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Constraint {
    /// Everything.
    Any,
    /// Nothing: what is left when two constraints have no value in common.
    Never,
    /// Exactly this value.
    Exact(Value),
    /// One of these values.
    OneOf(BTreeSet<Value>),
    /// A scalar whose trimmed, ASCII-lower-cased spelling is one of these: `50`, `50.0` and `"50"` alike.
    Spelled(BTreeSet<String>),
    /// Text made of these pieces with holes between them; a hole is 1 to 120 characters on one line.
    Template(Vec<String>),
    /// A number between two bounds, both included.
    Range(Range),
    /// Text that begins with this.
    Prefix(String),
    /// A normalised absolute path that is this folder or lies under it. Dot segments, doubled slashes,
    /// backslashes, percent signs and control characters are never admitted.
    PathUnder(String),
    /// A host name: `example.org`, or `*.example.org` for everything below it.
    Host(String),
    /// An `https` (or stated scheme) URL on this host, below this path.
    Url(UrlUnder),
    /// An IP address inside this network, such as `10.0.0.0/8`.
    Cidr(Cidr),
    /// A list of at most `max` items, each admitted by `item`. (A subset of a set is `each` of `one_of`.)
    Each(Each),
    /// Text of at most this many characters, or a list of at most this many items.
    Length(u32),
    /// All of these.
    AllOf(Vec<Constraint>),
}

/// Numeric bounds, both included; an absent bound is open. Read from the wire, a bound that is no number is an
/// error: `null` would otherwise be written as closed and read as open.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Range {
    /// Least value.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "bound")]
    pub min: Option<Value>,
    /// Greatest value.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "bound")]
    pub max: Option<Value>,
}

fn bound<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Value>, D::Error> {
    let bound = Value::deserialize(from)?;
    match bound.as_number() {
        Some(_) => Ok(Some(bound)),
        None => Err(serde::de::Error::custom("a bound is a number; leave it out where there is none")),
    }
}

/// URLs of one scheme on one host below one path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UrlUnder {
    /// Scheme; `https` unless said otherwise.
    #[serde(default = "https")]
    pub scheme: String,
    /// Host, with an explicit port if it is not the scheme's own: `example.org`, `*.example.org`, `localhost:8080`.
    pub host: String,
    /// Path the URL's path must lie under.
    #[serde(default = "root_path")]
    pub path: String,
}

fn https() -> String {
    "https".to_owned()
}
fn root_path() -> String {
    "/".to_owned()
}

/// An IP network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr {
    base: IpAddr,
    bits: u8,
}

/// A bounded list.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Each {
    /// What every item must satisfy.
    pub item: Box<Constraint>,
    /// At most this many items.
    pub max: u32,
}

/// The longest text that fits one hole of a template.
pub const HOLE_MAX: usize = 120;

impl Constraint {
    /// Exactly this value.
    pub fn exact(value: impl Into<Value>) -> Self {
        Constraint::Exact(value.into())
    }

    /// One of these values.
    pub fn one_of<V: Into<Value>>(values: impl IntoIterator<Item = V>) -> Self {
        Constraint::OneOf(values.into_iter().map(Into::into).collect())
    }

    /// Whether the value satisfies this constraint.
    pub fn admits(&self, value: &Value) -> bool {
        match self {
            Constraint::Any => true,
            Constraint::Never => false,
            Constraint::Exact(only) => value == only,
            Constraint::OneOf(set) => set.contains(value),
            Constraint::Spelled(set) => {
                value.spelled().is_some_and(|s| set.contains(&s.to_ascii_lowercase()))
            }
            Constraint::Template(pieces) => value.as_text().is_some_and(|text| fits_template(pieces, text)),
            Constraint::Range(range) => range.admits(value),
            Constraint::Prefix(prefix) => {
                value.as_text().is_some_and(|text| text.starts_with(prefix.as_str()))
            }
            Constraint::PathUnder(folder) => value.as_text().is_some_and(|text| is_under(folder, text)),
            Constraint::Host(pattern) => value.as_text().is_some_and(|text| host_admits(pattern, text)),
            Constraint::Url(under) => value.as_text().is_some_and(|text| under.admits(text)),
            Constraint::Cidr(net) => {
                value.as_text().and_then(|text| text.parse().ok()).is_some_and(|ip| net.holds(ip))
            }
            Constraint::Each(each) => value.as_list().is_some_and(|items| {
                items.len() <= each.max as usize && items.iter().all(|i| each.item.admits(i))
            }),
            Constraint::Length(max) => match value {
                Value::Text(text) => text.chars().count() <= *max as usize,
                Value::List(items) => items.len() <= *max as usize,
                _ => false,
            },
            Constraint::AllOf(all) => all.iter().all(|c| c.admits(value)),
        }
    }

    /// Whether everything that `other` admits is admitted by `self`. Sound; "no" may mean "cannot tell".
    pub fn contains(&self, other: &Constraint) -> bool {
        use Constraint::*;
        if self == other {
            return true;
        }
        match (self, other) {
            (Any, _) | (_, Never) => true,
            (AllOf(all), other) => all.iter().all(|c| c.contains(other)),
            (this, Exact(value)) => this.admits(value),
            (this, OneOf(set)) => set.iter().all(|value| this.admits(value)),
            (Spelled(a), Spelled(b)) => b.is_subset(a),
            (Range(a), Range(b)) => a.contains(b),
            (Prefix(a), Prefix(b)) => b.starts_with(a.as_str()),
            (Prefix(a), Template(b)) => b.first().is_some_and(|piece| piece.starts_with(a.as_str())),
            (PathUnder(a), PathUnder(b)) => is_under(a, folder(b)) || !is_path(folder(b)),
            (Host(a), Host(b)) => host_contains(a, b),
            (Url(a), Url(b)) => a.contains(b),
            (Cidr(a), Cidr(b)) => a.contains(b),
            (Each(a), Each(b)) => b.max == 0 || (a.max >= b.max && a.item.contains(&b.item)),
            (Length(a), Length(b)) => a >= b,
            (Length(a), Each(b)) => *a >= b.max,
            (this, AllOf(all)) => all.iter().any(|c| this.contains(c)),
            _ => false,
        }
    }

    /// The constraint that admits exactly what both admit.
    #[must_use]
    pub fn meet(&self, other: &Constraint) -> Constraint {
        use Constraint::*;
        if self.contains(other) {
            return other.clone();
        }
        if other.contains(self) {
            return self.clone();
        }
        match (self, other) {
            (Exact(_), _) | (_, Exact(_)) => Never,
            (OneOf(set), rest) | (rest, OneOf(set)) => {
                finite(set.iter().filter(|value| rest.admits(value)).cloned().collect())
            }
            (Spelled(a), Spelled(b)) => {
                let both: BTreeSet<String> = a.intersection(b).cloned().collect();
                if both.is_empty() { Never } else { Spelled(both) }
            }
            (Range(a), Range(b)) => a.meet(b),
            (Each(a), Each(b)) => {
                Constraint::Each(self::Each { item: Box::new(a.item.meet(&b.item)), max: a.max.min(b.max) })
            }
            (a, b) => all_of(a, b),
        }
    }

    /// Whether this pins a value so far that whoever wrote the constraint has chosen it.
    pub fn is_pinned(&self) -> bool {
        match self {
            Constraint::Exact(_) | Constraint::OneOf(_) | Constraint::Spelled(_) | Constraint::Never => true,
            Constraint::Each(each) => each.max == 0 || each.item.is_pinned(),
            Constraint::AllOf(all) => all.iter().any(Constraint::is_pinned),
            _ => false,
        }
    }
}

fn finite(values: BTreeSet<Value>) -> Constraint {
    if values.is_empty() { Constraint::Never } else { Constraint::OneOf(values) }
}

/// Flattened, sorted and without repeats, so that meeting twice changes nothing.
fn all_of(a: &Constraint, b: &Constraint) -> Constraint {
    let mut parts: BTreeSet<Constraint> = BTreeSet::new();
    for side in [a, b] {
        match side {
            Constraint::AllOf(all) => parts.extend(all.iter().cloned()),
            one => {
                parts.insert(one.clone());
            }
        }
    }
    let parts: Vec<Constraint> = parts.into_iter().collect();
    let kept: Vec<Constraint> = parts
        .iter()
        .enumerate()
        .filter(|(i, c)| {
            !parts.iter().enumerate().any(|(j, d)| *i != j && c.contains(d) && (!d.contains(c) || j < *i))
        })
        .map(|(_, c)| c.clone())
        .collect();
    match <[Constraint; 1]>::try_from(kept) {
        Ok([one]) => one,
        Err(many) => Constraint::AllOf(many),
    }
}

impl Range {
    fn admits(&self, value: &Value) -> bool {
        let at_least = |bound: &Value| compare(value, bound).is_some_and(|o| o.is_ge());
        let at_most = |bound: &Value| compare(value, bound).is_some_and(|o| o.is_le());
        value.as_number().is_some()
            && self.min.as_ref().is_none_or(at_least)
            && self.max.as_ref().is_none_or(at_most)
    }

    fn contains(&self, other: &Range) -> bool {
        let low = match (&self.min, &other.min) {
            (None, _) => true,
            (Some(a), Some(b)) => compare(b, a).is_some_and(|o| o.is_ge()),
            (Some(_), None) => false,
        };
        let high = match (&self.max, &other.max) {
            (None, _) => true,
            (Some(a), Some(b)) => compare(b, a).is_some_and(|o| o.is_le()),
            (Some(_), None) => false,
        };
        low && high
    }

    fn meet(&self, other: &Range) -> Constraint {
        let pick = |a: &Option<Value>, b: &Option<Value>, larger: bool| match (a, b) {
            (Some(a), Some(b)) => {
                let keep_a = compare(a, b).is_none_or(|o| if larger { o.is_ge() } else { o.is_le() });
                Some(if keep_a { a.clone() } else { b.clone() })
            }
            (a, b) => a.clone().or_else(|| b.clone()),
        };
        let (min, max) = (pick(&self.min, &other.min, true), pick(&self.max, &other.max, false));
        let numeric = [&self.min, &self.max, &other.min, &other.max]
            .iter()
            .all(|bound| bound.as_ref().is_none_or(|v| v.as_number().is_some()));
        let empty = matches!((&min, &max), (Some(a), Some(b)) if compare(a, b).is_none_or(|o| o.is_gt()));
        if empty || !numeric { Constraint::Never } else { Constraint::Range(Range { min, max }) }
    }
}

/// Compares two numbers exactly: whole numbers as such, a fraction against a whole number by its floor.
fn compare(a: &Value, b: &Value) -> Option<core::cmp::Ordering> {
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
        (Value::Float(a), Value::Float(b)) => Some(a.cmp(b)),
        (Value::Float(a), Value::Int(b)) => Some(fraction_against(a.get(), *b)),
        (Value::Int(a), Value::Float(b)) => Some(fraction_against(b.get(), *a).reverse()),
        _ => None,
    }
}

/// A float of ours is not whole and below 2^53, so its truncation is exact and decides.
fn fraction_against(f: f64, n: i64) -> core::cmp::Ordering {
    let whole = f as i64;
    whole.cmp(&n).then(if f > 0.0 { core::cmp::Ordering::Greater } else { core::cmp::Ordering::Less })
}

fn fits_template(pieces: &[String], text: &str) -> bool {
    let Some((first, rest)) = pieces.split_first() else { return false };
    let Some(tail) = text.strip_prefix(first.as_str()) else { return false };
    rest.is_empty() && tail.is_empty() || !rest.is_empty() && fits_holes(rest, tail)
}

/// Piece by piece, the positions (byte offsets) where a hole and the piece after it can end.
///
/// INVARIANT: one pass over the text for each piece, whatever the two are: who may choose both must not be able to
/// buy time with them. A piece at a position needs only the nearest start before it: a hole from any earlier start is
/// longer and holds every line break that the nearest holds.
fn fits_holes(pieces: &[String], text: &str) -> bool {
    let mut starts = alloc::vec![false; text.len() + 1];
    starts[0] = true;
    for piece in pieces {
        let mut next = alloc::vec![false; text.len() + 1];
        let mut hole: Option<usize> = None;
        for (offset, c) in text.char_indices() {
            let began = starts.get(offset) == Some(&true);
            let taken = if began { Some(0) } else { hole };
            let open = !matches!(c, '\n' | '\r');
            hole = taken.map(|taken| taken + 1).filter(|taken| open && *taken <= HOLE_MAX);
            let end = offset + c.len_utf8();
            if hole.is_some() && text.get(end..).is_some_and(|tail| tail.starts_with(piece.as_str())) {
                next.iter_mut().skip(end + piece.len()).take(1).for_each(|place| *place = true);
            }
        }
        starts = next;
    }
    starts.last() == Some(&true)
}

/// A path that means the same to everyone who reads it.
fn is_path(text: &str) -> bool {
    text.starts_with('/')
        && text.len() <= 4096
        && !text.chars().any(|c| c.is_control() || matches!(c, '\\' | '%'))
        && (text == "/" || text.split('/').skip(1).all(|part| !matches!(part, "" | "." | "..")))
}

/// A folder as it is meant: `/srv/` is `/srv`. Whoever compares folders compares this.
fn folder(text: &str) -> &str {
    if text.len() > 1 { text.trim_end_matches('/') } else { text }
}

fn is_under(base: &str, path: &str) -> bool {
    let folder = folder(base);
    is_path(folder)
        && is_path(path)
        && (folder == "/"
            || path == folder
            || path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/')))
}

/// A host name or address, optionally with a port, in its one spelling: lower case, no trailing dot.
pub(crate) fn is_host(text: &str) -> bool {
    let (name, port) = text.split_once(':').unwrap_or((text, "1"));
    is_length_of_host(name)
        && are_labels(name)
        && (1..=5).contains(&port.len())
        && port.bytes().all(|b| b.is_ascii_digit())
        && !port.starts_with('0')
}

/// Whether a host name, without a port, can be so long (RFC 1123 section 2.1, in the form of RFC 1035 section 2.3.4).
pub(crate) fn is_length_of_host(name: &str) -> bool {
    name.len() <= 253
}

/// The parts of a host name with dots between them, in lower case: none empty, none longer than 63, and no hyphen at
/// either end of one (RFC 1123 section 2.1).
pub(crate) fn are_labels(name: &str) -> bool {
    let (mut length, mut last) = (0, b'.');
    for byte in name.bytes() {
        length = match byte {
            b'a'..=b'z' | b'0'..=b'9' => length + 1,
            b'-' if length > 0 => length + 1,
            b'.' if length > 0 && last != b'-' => 0,
            _ => return false,
        };
        if length > 63 {
            return false;
        }
        last = byte;
    }
    length > 0 && last != b'-'
}

fn host_admits(pattern: &str, host: &str) -> bool {
    is_host(host)
        && match pattern.strip_prefix("*.") {
            Some(base) => {
                is_host(base)
                    && host.strip_suffix(base).is_some_and(|head| head.len() > 1 && head.ends_with('.'))
            }
            None => pattern == host,
        }
}

fn host_contains(a: &str, b: &str) -> bool {
    match (a.strip_prefix("*."), b.strip_prefix("*.")) {
        (Some(base), Some(other)) => base == other || host_admits(a, other),
        (_, None) => host_admits(a, b) || !is_host(b),
        (None, Some(_)) => false,
    }
}

impl UrlUnder {
    fn admits(&self, text: &str) -> bool {
        let Some((scheme, host, path)) = split_url(text) else { return false };
        scheme == self.scheme && host_admits(&self.host, host) && is_under(&self.path, path)
    }
    fn contains(&self, other: &UrlUnder) -> bool {
        self.scheme == other.scheme
            && host_contains(&self.host, &other.host)
            && is_under(&self.path, folder(&other.path))
    }
}

/// Scheme, host with port, and path without query or fragment; `None` for anything that two parsers could
/// read differently (user info, backslashes, percent-encoded paths, dot segments, upper-case hosts).
pub(crate) fn split_url(text: &str) -> Option<(&str, &str, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    let (host, tail) = rest.split_at(rest.find(AFTER_HOST).unwrap_or(rest.len()));
    Some((scheme, host, path_of_url(scheme, host, tail)?))
}

/// What ends the host of a URL.
pub(crate) const AFTER_HOST: [char; 3] = ['/', '?', '#'];

/// The path of a URL that has been split before what ends its host, under the same rules.
pub(crate) fn path_of_url<'a>(scheme: &str, host: &str, tail: &'a str) -> Option<&'a str> {
    let plain = |b: u8| {
        b.is_ascii_graphic() && !matches!(b, b'\\' | b'"' | b'<' | b'>' | b'^' | b'`' | b'{' | b'|' | b'}')
    };
    if !matches!(scheme, "http" | "https" | "wss" | "ws") || !is_host(host) || !tail.bytes().all(plain) {
        return None;
    }
    let path = tail.split(['?', '#']).next().filter(|path| !path.is_empty()).unwrap_or("/");
    let trimmed = if path.len() > 1 { path.strip_suffix('/').unwrap_or(path) } else { path };
    is_path(trimmed).then_some(trimmed)
}

impl Cidr {
    /// Reads `address/bits`. Host bits must be zero.
    pub fn parse(text: &str) -> Option<Self> {
        let (base, bits) = text.split_once('/')?;
        let net = Cidr { base: base.parse().ok()?, bits: bits.parse().ok()? };
        let width = if net.base.is_ipv4() { 32 } else { 128 };
        (net.bits <= width && net.network(net.base) == Some(net.base)).then_some(net)
    }
    fn network(&self, ip: IpAddr) -> Option<IpAddr> {
        match (self.base, ip) {
            (IpAddr::V4(_), IpAddr::V4(ip)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0);
                Some(IpAddr::V4((u32::from(ip) & mask).into()))
            }
            (IpAddr::V6(_), IpAddr::V6(ip)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0);
                Some(IpAddr::V6((u128::from(ip) & mask).into()))
            }
            _ => None,
        }
    }
    /// Whether the address is in it.
    pub fn holds(&self, ip: IpAddr) -> bool {
        self.network(ip) == Some(self.base)
    }
    fn contains(&self, other: &Cidr) -> bool {
        self.bits <= other.bits && self.holds(other.base)
    }
}

impl TryFrom<String> for Cidr {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Cidr::parse(&text).ok_or("a network is ADDRESS/BITS with no host bits set, such as 10.0.0.0/8")
    }
}
impl From<Cidr> for String {
    fn from(net: Cidr) -> String {
        alloc::format!("{}/{}", net.base, net.bits)
    }
}

/// The constraint for one of several texts, for builders.
pub fn texts(values: &[&str]) -> Constraint {
    match values {
        [one] => Constraint::exact(*one),
        many => Constraint::one_of(many.iter().copied()),
    }
}

/// A list each of whose items is one of these texts.
pub fn subset(values: &[&str]) -> Constraint {
    Constraint::Each(Each { item: Box::new(texts(values)), max: values.len() as u32 })
}

/// Everything at once; for builders.
pub fn all(parts: Vec<Constraint>) -> Constraint {
    parts.iter().fold(Constraint::Any, |so_far, c| so_far.meet(c))
}

#[doc(hidden)]
pub fn samples() -> Vec<Constraint> {
    vec![
        Constraint::Any,
        Constraint::Never,
        Constraint::exact("a"),
        Constraint::one_of(["a", "b", "/srv/a", "https://example.org/a"]),
        Constraint::Spelled(["50".to_owned(), "a".to_owned()].into()),
        Constraint::Template(vec!["Rent ".to_owned(), "!".to_owned()]),
        Constraint::Range(Range { min: Some(Value::Int(1)), max: Some(Value::Int(50)) }),
        Constraint::Range(Range { min: None, max: Some(Value::Int(7)) }),
        Constraint::Prefix("/srv".to_owned()),
        Constraint::PathUnder("/srv".to_owned()),
        Constraint::PathUnder("/srv/a".to_owned()),
        Constraint::PathUnder("/etc/".to_owned()),
        Constraint::Host("*.example.org".to_owned()),
        Constraint::Host("a.example.org".to_owned()),
        Constraint::Url(UrlUnder { scheme: https(), host: "*.example.org".to_owned(), path: root_path() }),
        Constraint::Url(UrlUnder {
            scheme: https(),
            host: "a.example.org".to_owned(),
            path: "/x".to_owned(),
        }),
        Constraint::Each(Each { item: Box::new(Constraint::one_of(["a", "b"])), max: 2 }),
        Constraint::Each(Each { item: Box::new(Constraint::Any), max: 1 }),
        Constraint::Length(3),
        Constraint::Cidr(Cidr { base: IpAddr::from([10, 0, 0, 0]), bits: 8 }),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use proptest::prelude::*;

    fn check(constraint: Constraint, admitted: &[Value], refused: &[Value]) {
        for value in admitted {
            assert!(constraint.admits(value), "{constraint:?} should admit {value}");
        }
        for value in refused {
            assert!(!constraint.admits(value), "{constraint:?} should refuse {value}");
        }
    }

    #[test]
    fn each_kind_admits_and_refuses() {
        let text = |t: &str| Value::from(t);
        check(Constraint::exact(50), &[Value::Int(50)], &[text("50"), Value::Int(5)]);
        check(
            Constraint::Spelled(["50".to_owned()].into()),
            &[Value::Int(50), text(" 50 ")],
            &[text("050"), text("50.0"), Value::List(vec![Value::Int(50)])],
        );
        check(
            Constraint::Template(vec!["Rent ".to_owned(), " due".to_owned()]),
            &[text("Rent May due"), text("Rent due due")],
            &[text("Rent  due x"), text("Rent due"), text("Rent a\nb due"), text("x Rent a due")],
        );
        check(
            Constraint::Range(Range { min: Some(Value::Int(1)), max: Some(Value::parse(b"2.5").unwrap()) }),
            &[Value::Int(1), Value::parse(b"2.4").unwrap()],
            &[Value::Int(3), Value::parse(b"0.9").unwrap(), text("2")],
        );
    }

    /// A constraint as it is written.
    fn said(text: &str) -> Constraint {
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    // A handoff asks for less than its parent holds: that it is less has to be seen, or honest handoffs fail.
    #[test]
    fn what_is_plainly_smaller_is_seen_to_be_and_what_is_not_is_not() {
        let nested = [
            (r#"{"one_of": ["a", "b", "c"]}"#, r#"{"one_of": ["c", "a"]}"#),
            (r#"{"spelled": ["1", "2"]}"#, r#"{"spelled": ["2"]}"#),
            (r#"{"range": {}}"#, r#"{"range": {"min": 1}}"#),
            (r#"{"range": {"min": 1}}"#, r#"{"range": {"min": 1, "max": 4}}"#),
            (r#"{"range": {"max": 9}}"#, r#"{"range": {"min": 1, "max": 8.5}}"#),
            (r#"{"range": {"min": -1.5, "max": 9}}"#, r#"{"range": {"min": -1, "max": 9}}"#),
            (r#"{"prefix": "web-"}"#, r#"{"prefix": "web-1"}"#),
            (r#"{"prefix": "Rent "}"#, r#"{"template": ["Rent for ", "."]}"#),
            (r#"{"path_under": "/srv"}"#, r#"{"path_under": "/srv/data/"}"#),
            (r#"{"host": "*.example.org"}"#, r#"{"host": "*.eu.example.org"}"#),
            (r#"{"host": "*.example.org"}"#, r#"{"host": "api.example.org"}"#),
            (r#"{"url": {"host": "*.example.org"}}"#, r#"{"url": {"host": "a.example.org", "path": "/v1"}}"#),
            (r#"{"cidr": "10.0.0.0/8"}"#, r#"{"cidr": "10.2.0.0/16"}"#),
            (r#"{"cidr": "2001:db8::/32"}"#, r#"{"cidr": "2001:db8:1::/48"}"#),
            (
                r#"{"each": {"item": {"prefix": "a"}, "max": 4}}"#,
                r#"{"each": {"item": {"prefix": "ab"}, "max": 3}}"#,
            ),
            (r#"{"each": {"item": "never", "max": 1}}"#, r#"{"each": {"item": "any", "max": 0}}"#),
            (r#"{"length": 5}"#, r#"{"length": 4}"#),
            (r#"{"length": 5}"#, r#"{"each": {"item": "any", "max": 4}}"#),
            (r#"{"all_of": [{"prefix": "a"}, {"length": 9}]}"#, r#"{"exact": "abc"}"#),
            (r#"{"prefix": "a"}"#, r#"{"all_of": [{"length": 9}, {"prefix": "ab"}]}"#),
            (r#""any""#, r#"{"length": 1}"#),
            (r#"{"length": 1}"#, r#""never""#),
        ];
        for (larger, smaller) in nested {
            let (larger, smaller) = (said(larger), said(smaller));
            assert!(larger.contains(&smaller), "{larger:?} contains {smaller:?}");
            assert!(!smaller.contains(&larger), "{smaller:?} does not contain {larger:?}");
            assert_eq!((larger.meet(&smaller), smaller.meet(&larger)), (smaller.clone(), smaller));
        }
        let apart = [
            (r#"{"prefix": "a"}"#, r#"{"prefix": "b"}"#),
            (r#"{"range": {"min": 1, "max": 4}}"#, r#"{"range": {"min": 2, "max": 5}}"#),
            (r#"{"host": "*.a.example"}"#, r#"{"host": "*.b.example"}"#),
            (r#"{"url": {"host": "a.example"}}"#, r#"{"url": {"scheme": "http", "host": "a.example"}}"#),
            (
                r#"{"url": {"host": "a.example", "path": "/v1"}}"#,
                r#"{"url": {"host": "a.example", "path": "/v2"}}"#,
            ),
            (r#"{"url": {"host": "a.example"}}"#, r#"{"url": {"host": "b.example"}}"#),
            (r#"{"cidr": "10.0.0.0/8"}"#, r#"{"cidr": "11.0.0.0/8"}"#),
            (r#"{"cidr": "10.0.0.0/8"}"#, r#"{"cidr": "2001:db8::/32"}"#),
            (
                r#"{"each": {"item": {"prefix": "a"}, "max": 4}}"#,
                r#"{"each": {"item": {"prefix": "b"}, "max": 4}}"#,
            ),
            (r#"{"length": 5}"#, r#"{"prefix": "a"}"#),
        ];
        for (one, other) in apart {
            let (one, other) = (said(one), said(other));
            assert!(!one.contains(&other) && !other.contains(&one), "{one:?} and {other:?} lie apart");
        }
    }

    #[test]
    fn bounds_count_at_the_bound_itself() {
        let text = |t: &str| Value::from(t);
        let list = |n: usize| Value::List(vec![text("a"); n]);
        check(
            said(r#"{"length": 2}"#),
            &[text("ab"), text("öö"), list(2)],
            &[text("abc"), list(3), Value::Int(1)],
        );
        check(said(r#"{"each": {"item": "any", "max": 2}}"#), &[list(2)], &[list(3), text("a")]);
        let number = |n: &str| Value::parse(n.as_bytes()).unwrap();
        check(
            said(r#"{"range": {"min": -2, "max": 2}}"#),
            &[number("-2"), number("2"), number("-1.5"), number("1.5"), number("0.5"), number("-0.5")],
            &[number("-2.5"), number("2.5"), number("3"), number("-3")],
        );
        check(
            said(r#"{"range": {"min": -0.5, "max": 0.5}}"#),
            &[Value::Int(0), number("-0.5"), number("0.5")],
            &[Value::Int(1), Value::Int(-1), number("-0.75")],
        );
        check(
            said(r#"{"cidr": "2001:db8::/33"}"#),
            &[text("2001:db8::1")],
            &[text("2001:db8:8000::1"), text("10.0.0.1"), text("x")],
        );
        check(said(r#"{"cidr": "0.0.0.0/0"}"#), &[text("10.0.0.1")], &[text("::1")]);
        assert!(Cidr::parse("10.0.0.0/33").is_none() && Cidr::parse("::/129").is_none());
    }

    #[test]
    fn a_url_without_a_path_means_the_whole_host() {
        let whole = said(r#"{"url": {"host": "a.example"}}"#);
        assert_eq!(whole, said(r#"{"url": {"scheme": "https", "host": "a.example", "path": "/"}}"#));
        check(
            whole,
            &[Value::from("https://a.example"), Value::from("https://a.example/v1?x=1")],
            &[
                Value::from("http://a.example/"),
                Value::from("https://a.example.evil.example/"),
                Value::from("ftp://a.example/"),
            ],
        );
    }

    #[test]
    fn only_what_leaves_nothing_open_counts_as_chosen() {
        for pinned in [
            r#"{"exact": 1}"#,
            r#"{"spelled": ["1"]}"#,
            r#"{"one_of": [1, 2]}"#,
            r#"{"each": {"item": {"exact": 1}, "max": 3}}"#,
            r#"{"each": {"item": "any", "max": 0}}"#,
            r#"{"all_of": [{"length": 9}, {"spelled": ["1"]}]}"#,
        ] {
            assert!(said(pinned).is_pinned(), "{pinned}");
        }
        for open in
            [r#""any""#, r#"{"prefix": "a"}"#, r#"{"each": {"item": "any", "max": 3}}"#, r#"{"length": 0}"#]
        {
            assert!(!said(open).is_pinned(), "{open}");
        }
    }

    // proves: A25, A47
    #[test]
    fn paths_hosts_and_urls_that_two_parsers_read_differently_are_refused() {
        let text = |t: &&str| Value::from(*t);
        check(
            Constraint::PathUnder("/srv/data".to_owned()),
            &["/srv/data", "/srv/data/a b.txt"].each_ref().map(text),
            &[
                "/srv/database",
                "/srv/data/../x",
                "/srv/data/./x",
                "/srv/data//x",
                "/srv/data/%2e%2e/x",
                "srv/data/x",
                "/srv/data\\..\\x",
                "/srv/data/\0",
                "/srv/data/a/",
                "/srv/data/..",
                "/srv/data/…/../x",
            ]
            .each_ref()
            .map(text),
        );
        check(
            Constraint::Host("*.example.org".to_owned()),
            &["a.example.org", "a.b.example.org"].each_ref().map(text),
            &[
                "example.org",
                "aexample.org",
                "A.example.org",
                "a.example.org.",
                ".example.org",
                "a.example.org@evil",
                "evil.com#a.example.org",
                "ａ.example.org",
            ]
            .each_ref()
            .map(text),
        );
        check(
            Constraint::Url(UrlUnder {
                scheme: https(),
                host: "example.org".to_owned(),
                path: "/a".to_owned(),
            }),
            &["https://example.org/a", "https://example.org/a/b?x=1#y", "https://example.org/a/"]
                .each_ref()
                .map(text),
            &[
                "http://example.org/a",
                "https://example.org/ab",
                "https://example.org@evil.com/a",
                "https://example.org/a/../b",
                "https://example.org/a%2f..%2fb",
                "https://example.org\\@evil.com/a",
                "https://example.org/a//b",
                "https://EXAMPLE.org/a",
                "https://example.org:0443/a",
                "https:example.org/a",
                "https://example.org/a b",
            ]
            .each_ref()
            .map(text),
        );
        check(
            Constraint::Cidr(Cidr::parse("10.0.0.0/8").unwrap()),
            &["10.1.2.3"].each_ref().map(text),
            &["11.0.0.1", "10.1", "0x0a000001", "::ffff:10.0.0.1", "167772161"].each_ref().map(text),
        );
        assert!(Cidr::parse("10.0.0.1/8").is_none());
        assert!(Cidr::parse("10.0.0.0/33").is_none());
    }

    // proves: INV1, A01, A02
    #[test]
    fn a_folder_written_with_a_slash_at_its_end_is_the_same_folder() {
        let under = |path: &str| Constraint::PathUnder(path.to_owned());
        assert!(!under("/srv").contains(&under("/etc/")), "`/etc/` was once taken for nothing at all");
        assert!(!under("/srv").meet(&under("/etc/")).admits(&Value::from("/etc/passwd")));
        assert!(under("/srv").contains(&under("/srv/a/")) && under("/srv/").contains(&under("/srv")));
    }

    #[test]
    fn holes_are_one_to_120_characters_on_one_line() {
        let fits = |pieces: &[&str], text: &str| {
            let pieces = pieces.iter().map(|p| (*p).to_owned()).collect();
            Constraint::Template(pieces).admits(&Value::from(text))
        };
        for hole in [1, 2, 119, 120] {
            assert!(fits(&["<", ">"], &format!("<{}>", "ö".repeat(hole))), "{hole}");
            assert!(fits(&["<", ""], &format!("<{}", "ö".repeat(hole))), "{hole}");
        }
        for hole in [0, 121, 500] {
            assert!(!fits(&["<", ">"], &format!("<{}>", "ö".repeat(hole))), "{hole}");
        }
        assert!(fits(&["", "-", ""], "a-b-c") && fits(&["a", "a", "a"], "axaya") && fits(&["", ""], "x"));
        assert!(!fits(&["", "-", ""], "a-") && !fits(&["", "-", ""], "-a") && !fits(&["", ""], ""));
        assert!(!fits(&["<", ">"], "<a\nb>") && !fits(&["<", ">"], "<a\r>") && fits(&["<\n", ">"], "<\nb>"));
        // A hole that would be too long from the start is none, even if a later start would do.
        assert!(fits(&["", "a", "z"], &format!("{}a{}z", "b".repeat(120), "c".repeat(120))));
        assert!(!fits(&["", "a", "z"], &format!("{}a{}z", "b".repeat(121), "c".repeat(120))));
        assert!(fits(&["x", "x", "!"], "xaxbxc!"), "the nearest start is not the only one that counts");
    }

    #[test]
    fn a_template_with_many_holes_is_judged_in_polynomial_time() {
        let pieces: Vec<String> = core::iter::repeat_n("a".to_owned(), 24).collect();
        let text = "a".repeat(110) + "b";
        assert!(!Constraint::Template(pieces).admits(&Value::from(text)));
        // What two agents that are not ours may choose: hundreds of pieces, and a long text.
        let pieces: Vec<String> = core::iter::repeat_n("a".to_owned(), 200).collect();
        assert!(Constraint::Template(pieces.clone()).admits(&Value::from("a".repeat(4_000))));
        assert!(!Constraint::Template(pieces).admits(&Value::from("a".repeat(4_000) + "b")));
    }

    fn any_constraint() -> impl Strategy<Value = Constraint> {
        let atom = prop::sample::select(samples());
        prop::collection::vec(atom, 1..4).prop_map(all)
    }

    fn any_probe() -> impl Strategy<Value = Value> {
        let text = prop::sample::select(vec![
            "a",
            "b",
            "c",
            "50",
            "Rent x!",
            "/srv",
            "/srv/a",
            "/srv/a/b",
            "/srvx",
            "/etc/a",
            "a.example.org",
            "b.example.org",
            "https://example.org/a",
            "https://a.example.org/x/y",
            "https://b.example.org/",
            "10.2.3.4",
            "",
        ]);
        prop_oneof![
            text.clone().prop_map(Value::from),
            (-2i64..60).prop_map(Value::Int),
            prop::collection::vec(text.prop_map(Value::from), 0..4).prop_map(Value::List),
        ]
    }

    // proves: INV1
    #[test]
    fn a_bound_that_is_no_number_is_refused_and_not_read_as_open() {
        for good in [r#"{"range":{"min":1}}"#, r#"{"range":{"min":-1,"max":2.5}}"#, r#"{"range":{}}"#] {
            let read: Constraint = serde_json::from_str(good).unwrap();
            assert_eq!(serde_json::to_string(&read).unwrap(), good);
        }
        for bad in
            [r#"{"range":{"min":1,"max":null}}"#, r#"{"range":{"max":"9"}}"#, r#"{"range":{"min":[1]}}"#]
        {
            let error = alloc::format!("{}", serde_json::from_str::<Constraint>(bad).unwrap_err());
            assert!(error.contains("a bound is a number"), "{error}");
        }
        // Built by hand it admits nothing, and what was written of it is not read back as more.
        let forged = Constraint::Range(Range { min: Some(Value::Int(1)), max: Some(Value::Null) });
        assert!(!forged.admits(&Value::Int(5)));
        assert!(serde_json::from_str::<Constraint>(&serde_json::to_string(&forged).unwrap()).is_err());
    }

    proptest! {
        // proves: INV1, H1, A01
        #[test]
        fn meet_admits_exactly_what_both_admit(a in any_constraint(), b in any_constraint(), probe in any_probe()) {
            let met = a.meet(&b);
            prop_assert_eq!(met.admits(&probe), a.admits(&probe) && b.admits(&probe), "{:?}", met);
            prop_assert_eq!(b.meet(&a).admits(&probe), met.admits(&probe));
        }

        // proves: INV1, A01
        #[test]
        fn contains_is_sound(a in any_constraint(), b in any_constraint(), probe in any_probe()) {
            if a.contains(&b) && b.admits(&probe) { prop_assert!(a.admits(&probe), "{:?} ⊇ {:?}", a, b); }
            prop_assert!(a.contains(&a.meet(&b)) && b.contains(&a.meet(&b)), "{:?} ∧ {:?}", a, b);
        }

        #[test]
        fn meet_is_idempotent_and_associative(
            a in any_constraint(), b in any_constraint(), c in any_constraint(), probe in any_probe()
        ) {
            prop_assert_eq!(a.meet(&a), a.clone());
            let left = a.meet(&b).meet(&c);
            let right = a.meet(&b.meet(&c));
            prop_assert_eq!(left.admits(&probe), right.admits(&probe));
        }

        #[test]
        fn constraints_survive_the_wire(a in any_constraint()) {
            let text = serde_json::to_string(&a).unwrap();
            prop_assert_eq!(serde_json::from_str::<Constraint>(&text).unwrap(), a);
        }
    }
}
