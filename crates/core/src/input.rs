//! Task inputs: what may be put into a task, by type, and what is refused at its opening.
//!
//! An input is what the person who opens a task says about this one task: which ticket, whose address, how much.
//! Its value can later explain where an effect goes, so its type is declared by the template and checked as a
//! whole when the task is opened. Nothing is ever looked for inside it.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use crate::constraint::{Constraint, is_host};
use crate::origin::{Kind, identify};
use crate::typed::ValueType;
use crate::value::Value;

/// The type of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputKind {
    /// A mail address.
    Mail,
    /// A link with `http` or `https`, without a user in it.
    Url,
    /// A host name in lower case.
    Host,
    /// A clean absolute path.
    Path,
    /// An account: IBAN with check digits, or 4 to 34 letters, digits and dashes that do not look like one.
    Account,
    /// A phone number, with country code or without.
    Phone,
    /// The id of a record of one type: a number, or text without blanks.
    Record,
    /// An amount of money or of anything else; never below zero.
    Amount,
    /// A day, `2026-11-22`.
    Date,
    /// A whole number.
    Number,
    /// Yes or no.
    Flag,
    /// Words for people. They explain nothing and steer nothing.
    Text,
}

impl InputKind {
    /// All of them.
    pub const ALL: [InputKind; 12] = [
        InputKind::Mail,
        InputKind::Url,
        InputKind::Host,
        InputKind::Path,
        InputKind::Account,
        InputKind::Phone,
        InputKind::Record,
        InputKind::Amount,
        InputKind::Date,
        InputKind::Number,
        InputKind::Flag,
        InputKind::Text,
    ];

    /// The word in templates.
    pub fn as_str(self) -> &'static str {
        match self {
            InputKind::Mail => "mail",
            InputKind::Url => "url",
            InputKind::Host => "host",
            InputKind::Path => "path",
            InputKind::Account => "account",
            InputKind::Phone => "phone",
            InputKind::Record => "record",
            InputKind::Amount => "amount",
            InputKind::Date => "date",
            InputKind::Number => "number",
            InputKind::Flag => "flag",
            InputKind::Text => "text",
        }
    }

    /// Whether such a value can say where an effect lands or which object is meant. Words, amounts, days and
    /// flags cannot: "June 13" names no file 13.
    pub fn names_something(self) -> bool {
        !matches!(
            self,
            InputKind::Amount | InputKind::Date | InputKind::Number | InputKind::Flag | InputKind::Text
        )
    }

    /// Whether it is written as text, so that a command line must not read it as a number.
    pub fn is_text(self) -> bool {
        !matches!(self, InputKind::Record | InputKind::Amount | InputKind::Number | InputKind::Flag)
    }

    /// What such a value looks like.
    pub fn example(self) -> &'static str {
        match self {
            InputKind::Mail => "`ann@example.org`",
            InputKind::Url => "`https://example.org/report`",
            InputKind::Host => "`db-1.example.org`",
            InputKind::Path => "`/srv/reports/q3.csv`",
            InputKind::Account => "`DE89370400440532013000`",
            InputKind::Phone => "`+49 30 901820`",
            InputKind::Record => "`4711` or `INV-2026-17`",
            InputKind::Amount => "`49.90`",
            InputKind::Date => "`2026-11-22`",
            InputKind::Number => "`3`",
            InputKind::Flag => "`true` or `false`",
            InputKind::Text => "`please be quick`",
        }
    }
}

/// What a template says about one input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputType {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: InputKind,
    /// For a record: of which type, such as `ticket`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
    /// What it is for, in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub about: String,
    /// Whether a task can be opened without it. Then what it binds must be left out.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub optional: bool,
    /// Its value when none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
    /// Whether it is a list of such values.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub many: bool,
    /// Its shape: `#` a digit, `@` a letter, `?` one of both, `*` any run of letters, digits, `-`, `_` and `.`;
    /// everything else stands for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// The least amount, number or day; for text, the least length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<Value>,
    /// The greatest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<Value>,
    /// The only values there are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub one_of: Vec<Value>,
    /// A further bound, written as in chains: `{ host: "*.example.org" }` for a host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<Constraint>,
}

impl InputType {
    /// The type of value that it explains, where manifests have one for it.
    pub fn as_value_type(&self) -> Option<ValueType> {
        Some(match self.kind {
            InputKind::Mail => ValueType::Address,
            InputKind::Url | InputKind::Host => ValueType::Url,
            InputKind::Path => ValueType::Path,
            InputKind::Account => ValueType::Account,
            InputKind::Phone => ValueType::Phone,
            InputKind::Record => ValueType::parse(&format!("record:{}", self.of.as_deref()?)).ok()?,
            InputKind::Amount | InputKind::Date | InputKind::Number | InputKind::Flag | InputKind::Text => {
                return None;
            }
        })
    }
    /// A required input of a type; for builders.
    pub fn of(kind: InputKind) -> Self {
        InputType {
            kind,
            of: None,
            about: String::new(),
            optional: false,
            default: None,
            many: false,
            pattern: None,
            min: None,
            max: None,
            one_of: Vec::new(),
            within: None,
        }
    }

    /// The type in words: "mail address list", "record of type ticket".
    pub fn in_words(&self) -> String {
        let kind = match (&self.of, self.kind) {
            (Some(of), InputKind::Record) => format!("id of a {of}"),
            (_, kind) => kind.as_str().to_string(),
        };
        if self.many { format!("list of {kind}") } else { kind }
    }
}

impl InputType {
    /// The type with its bounds in words: "text, at most 500 long", "number, 1 to 5".
    pub fn expected(&self) -> String {
        let mut said = self.in_words();
        let length = self.kind.is_text() && self.kind != InputKind::Date;
        let unit = if length { " long" } else { "" };
        match (&self.min, &self.max) {
            (Some(min), Some(max)) => {
                said.push_str(&format!(", {} to {}{unit}", min.canonical(), max.canonical()));
            }
            (Some(min), None) => said.push_str(&format!(", at least {}{unit}", min.canonical())),
            (None, Some(max)) => said.push_str(&format!(", at most {}{unit}", max.canonical())),
            (None, None) => {}
        }
        if let Some(pattern) = &self.pattern {
            said.push_str(&format!(", of the shape `{pattern}`"));
        }
        said
    }
}

/// The types of a task's inputs, by name.
pub type InputTypes = BTreeMap<String, InputType>;

/// Inputs a task may have.
pub const INPUTS_MAX: usize = 64;
/// Items of an input that is a list.
pub const ITEMS_MAX: usize = 256;
/// Longest text of an input, in characters.
pub const TEXT_MAX: usize = 8_192;

/// Why an input or its declaration is refused. The value itself is not repeated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("input `{input}` {what}")]
pub struct BadInput {
    /// Stable code.
    pub code: &'static str,
    /// Which input.
    pub input: String,
    /// What is wrong with it.
    pub what: String,
    /// What to write instead.
    pub next: String,
}

/// Checks the inputs of a task against their declared types, and completes them with the defaults.
///
/// # Errors
/// `input.undeclared`, `input.missing`, and what [`InputType::check`] says.
pub fn complete(
    types: &InputTypes,
    given: &BTreeMap<String, Value>,
) -> Result<BTreeMap<String, Value>, BadInput> {
    if let Some(name) = given.keys().find(|name| !types.contains_key(*name)) {
        let known: Vec<String> = types.keys().map(|n| format!("`{n}`")).collect();
        let next = if known.is_empty() { "Leave it out.".to_string() } else { known.join(", ") };
        return refuse(name, "input.undeclared", "is not declared", &format!("Declared are: {next}"));
    }
    let mut all = BTreeMap::new();
    for (name, declared) in types {
        match given.get(name).or(declared.default.as_ref()) {
            Some(value) => {
                declared.check(name, value)?;
                all.insert(name.clone(), value.clone());
            }
            None if declared.optional => {}
            None => {
                let next = format!("Give a {}, such as {}.", declared.in_words(), declared.kind.example());
                return refuse(name, "input.missing", "is missing", &next);
            }
        }
    }
    Ok(all)
}

fn refuse<T>(input: &str, code: &'static str, what: &str, next: &str) -> Result<T, BadInput> {
    let input = input.chars().take(64).flat_map(char::escape_default).collect();
    Err(BadInput { code, input, what: what.to_string(), next: next.to_string() })
}

impl InputType {
    /// Whether the declaration makes sense by itself: bounds of the right kind and in order, a default that it
    /// admits.
    ///
    /// # Errors
    /// `input.declaration`, or what is wrong with the default.
    pub fn validate(&self, name: &str) -> Result<(), BadInput> {
        let odd = |what: &str, next: &str| refuse(name, "input.declaration", what, next);
        if self.of.is_some() != (self.kind == InputKind::Record) {
            return if self.of.is_some() {
                odd("says `of`, which is for records", "Remove `of`, or write `type: record`.")
            } else {
                odd("does not say of which type the record is", "Add `of`, such as `of: ticket`.")
            };
        }
        if self.optional && self.default.is_some() {
            return odd("is optional and has a default", "Keep one of the two.");
        }
        if self.kind == InputKind::Flag
            && (self.pattern.is_some() || self.min.is_some() || self.max.is_some())
        {
            return odd("is a flag, which has no bounds", "Remove them.");
        }
        for (word, bound) in [("min", &self.min), ("max", &self.max)] {
            if bound.as_ref().is_some_and(|b| self.rank(b).is_none()) {
                return odd(&format!("has a `{word}` that is no bound for this type"), self.bound_example());
            }
        }
        if let (Some(min), Some(max)) = (&self.min, &self.max)
            && self.rank(min) > self.rank(max)
        {
            return odd("has a `min` above its `max`", "Exchange them.");
        }
        if self.pattern.is_some() && !self.kind.is_text() && self.kind != InputKind::Record {
            return odd("has a `pattern`, which is for text", "Use `min` and `max`.");
        }
        self.one_of.iter().chain(self.default.as_ref().filter(|_| !self.many)).try_for_each(|value| {
            let alone = InputType { many: false, one_of: Vec::new(), ..self.clone() };
            alone.check(name, value)
        })?;
        self.default.as_ref().map_or(Ok(()), |value| self.check(name, value))
    }

    /// Whether a value is of this type and inside its bounds.
    ///
    /// # Errors
    /// `input.type`, `input.pattern`, `input.range`.
    pub fn check(&self, name: &str, value: &Value) -> Result<(), BadInput> {
        if !self.many {
            return self.check_one(name, value);
        }
        match value.as_list() {
            Some(items) if items.len() <= ITEMS_MAX => {
                items.iter().try_for_each(|item| self.check_one(name, item))
            }
            Some(_) => {
                refuse(name, "input.range", &format!("has more than {ITEMS_MAX} items"), "Give fewer.")
            }
            None => refuse(name, "input.type", "is not a list", "Write a list, such as [1, 2]."),
        }
    }

    fn check_one(&self, name: &str, value: &Value) -> Result<(), BadInput> {
        if !is_of(self.kind, value) {
            let kind = InputType { many: false, ..self.clone() }.in_words();
            let next = format!("Write it like {}.", self.kind.example());
            return refuse(name, "input.type", &format!("is not of type `{kind}`"), &next);
        }
        if let Some(pattern) = &self.pattern
            && !value.spelled().is_some_and(|text| fits_pattern(pattern, &text))
        {
            let what = format!("does not have the shape `{pattern}`");
            return refuse(
                name,
                "input.pattern",
                &what,
                "`#` is a digit, `@` a letter, `?` either, `*` any run.",
            );
        }
        if !self.one_of.is_empty() && !self.one_of.contains(value) {
            let known: Vec<String> = self.one_of.iter().map(Value::canonical).take(16).collect();
            return refuse(
                name,
                "input.range",
                "is none of its values",
                &format!("One of: {}.", known.join(", ")),
            );
        }
        let size = self.measure(value);
        let low = self.min.as_ref().filter(|min| size < self.rank(min));
        let high = self.max.as_ref().filter(|max| size > self.rank(max));
        if let Some((bound, word)) = low.map(|b| (b, "below")).or(high.map(|b| (b, "above"))) {
            let what = format!("is {word} {}", bound.canonical());
            return refuse(name, "input.range", &what, "Stay inside its bounds.");
        }
        match &self.within {
            Some(within) if !within.admits(value) => {
                refuse(name, "input.range", "lies outside what its template admits", "See its `within`.")
            }
            _ => Ok(()),
        }
    }

    /// A bound as something that can be compared. `None`: it is none for this type.
    fn rank(&self, bound: &Value) -> Option<Rank> {
        match (self.kind, bound) {
            (InputKind::Date, Value::Text(day)) if is_day(day) => Some(Rank::Day(day.clone())),
            (InputKind::Amount | InputKind::Number | InputKind::Record, number) => {
                number.as_number().map(Rank::Number)
            }
            (kind, Value::Int(length)) if kind.is_text() && kind != InputKind::Date && *length >= 0 => {
                Some(Rank::Number(*length as f64))
            }
            _ => None,
        }
    }

    fn measure(&self, value: &Value) -> Option<Rank> {
        match (self.kind, value) {
            (InputKind::Date, Value::Text(day)) => Some(Rank::Day(day.clone())),
            (_, Value::Text(text)) => Some(Rank::Number(text.chars().count() as f64)),
            (_, number) => number.as_number().map(Rank::Number),
        }
    }

    fn bound_example(&self) -> &'static str {
        match self.kind {
            InputKind::Date => "Write a day, such as 2026-11-22.",
            InputKind::Amount | InputKind::Number | InputKind::Record => "Write a number.",
            _ => "Write a length.",
        }
    }
}

#[derive(Debug, Clone, PartialEq, PartialOrd)]
enum Rank {
    Number(f64),
    Day(String),
}

fn is_of(kind: InputKind, value: &Value) -> bool {
    let text = value.as_text().filter(|t| !t.is_empty() && t.chars().count() <= TEXT_MAX);
    let whole = |is: &dyn Fn(&str) -> bool| text.is_some_and(|t| t.trim() == t && is(t));
    match kind {
        InputKind::Mail => whole(&|t| identify(t).kind == Kind::Address),
        InputKind::Url => whole(&is_link),
        InputKind::Host => whole(&is_host),
        InputKind::Path => whole(&|t| Constraint::PathUnder("/".to_string()).admits(&Value::from(t))),
        InputKind::Account => whole(&is_account),
        InputKind::Phone => whole(&is_phone),
        InputKind::Record => matches!(value, Value::Int(_)) || whole(&is_record),
        InputKind::Amount => value.as_number().is_some_and(|n| n >= 0.0),
        InputKind::Date => whole(&is_day),
        InputKind::Number => matches!(value, Value::Int(_)),
        InputKind::Flag => matches!(value, Value::Bool(_)),
        InputKind::Text => text.is_some(),
    }
}

/// `http` or `https`, a host, no user, ASCII only, so that nothing in it merely looks like something else.
fn is_link(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let Some(rest) = rest else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or("");
    let host = authority.split(':').next().unwrap_or("").to_ascii_lowercase();
    let port = authority.split_once(':').is_none_or(|(_, port)| port.parse::<u16>().is_ok());
    text.bytes().all(|b| b.is_ascii_graphic() && b != b'\\') && is_host(&host) && port
}

/// What looks like an IBAN must have check digits that hold.
fn is_account(text: &str) -> bool {
    let compact: String = text.chars().filter(|c| *c != ' ').collect();
    let bytes = compact.as_bytes();
    let shape = (4..=34).contains(&bytes.len())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-')
        && bytes.iter().any(u8::is_ascii_digit);
    let iban = bytes.len() >= 15
        && bytes.iter().take(2).all(u8::is_ascii_alphabetic)
        && bytes.iter().skip(2).take(2).all(u8::is_ascii_digit);
    shape && (!iban || crate::origin::is_checked_account(&compact))
}

/// 5 to 15 digits (E.164), with a leading `+` or without, and the usual separators.
fn is_phone(text: &str) -> bool {
    let rest = text.strip_prefix('+').unwrap_or(text);
    let digits = rest.bytes().filter(u8::is_ascii_digit).count();
    (5..=15).contains(&digits)
        && rest.bytes().all(|b| b.is_ascii_digit() || b" -()./".contains(&b))
        && rest.starts_with(|c: char| c.is_ascii_digit() || c == '(')
}

fn is_record(text: &str) -> bool {
    text.len() <= 256 && text.bytes().all(|b| b.is_ascii_graphic())
}

/// `YYYY-MM-DD` in the Gregorian calendar.
fn is_day(text: &str) -> bool {
    let bytes = text.as_bytes();
    let number = |from: usize, to: usize| text.get(from..to).and_then(|t| t.parse::<u32>().ok());
    let digits =
        bytes.iter().enumerate().all(|(i, b)| if i == 4 || i == 7 { *b == b'-' } else { b.is_ascii_digit() });
    let (Some(year), Some(month), Some(day)) = (number(0, 4), number(5, 7), number(8, 10)) else {
        return false;
    };
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return false,
    };
    bytes.len() == 10 && digits && (1..=last).contains(&day)
}

/// Whether a text has a shape. Each `*` takes as little as it can; the rest decides, in one pass per `*`.
pub(crate) fn fits_pattern(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    loop {
        match (pattern.get(p), text.get(t)) {
            (None, None) => return true,
            (Some('*'), _) => {
                back = Some((p, t));
                p += 1;
                continue;
            }
            (Some(shape), Some(c)) if fits_one(*shape, *c) => {
                p += 1;
                t += 1;
                continue;
            }
            _ => {}
        }
        // The last `*` takes one more character, if it may.
        match back {
            Some((star, from)) if text.get(from).is_some_and(|c| in_run(*c)) => {
                back = Some((star, from + 1));
                p = star + 1;
                t = from + 1;
            }
            _ => return false,
        }
    }
}

fn in_run(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}

fn fits_one(shape: char, c: char) -> bool {
    match shape {
        '#' => c.is_ascii_digit(),
        '@' => c.is_ascii_alphabetic(),
        '?' => c.is_ascii_alphanumeric(),
        other => other == c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn declared(json: &str) -> InputType {
        serde_json::from_str(json).unwrap()
    }

    fn check(kind: &str, value: &str) -> Result<(), &'static str> {
        let of = if kind == "record" { r#","of":"ticket""# } else { "" };
        let declared = declared(&format!(r#"{{"type":"{kind}"{of}}}"#));
        declared.validate("x").unwrap();
        declared.check("x", &Value::parse(value.as_bytes()).unwrap()).map_err(|e| e.code)
    }

    // proves: T2
    #[test]
    fn each_type_admits_what_it_is_and_nothing_that_only_looks_like_it() {
        for (kind, good, bad) in [
            (
                "mail",
                &[r#""ann@example.org""#][..],
                &[r#""ann""#, r#""ann@exаmple.org""#, r#""a@x.org, b@x.org""#, r#"" ann@example.org""#, "7"]
                    [..],
            ),
            (
                "url",
                &[r#""https://example.org/a?b=c""#, r#""http://db-1:8080/""#],
                &[
                    r#""ftp://x.org""#,
                    r#""https://user@x.org""#,
                    r#""https://x.org\\@evil.org""#,
                    r#""x.org/a""#,
                    r#""https://x.org/ a""#,
                ],
            ),
            (
                "host",
                &[r#""db-1.example.org""#, r#""web-3""#],
                &[r#""Db""#, r#""a b""#, r#""a/b""#, r#""-a""#],
            ),
            ("path", &[r#""/srv/out/a.txt""#], &[r#""srv""#, r#""/srv/../etc""#, r#""/srv//x""#]),
            (
                "account",
                &[r#""DE89370400440532013000""#, r#""DE89 3704 0044 0532 0130 00""#, r#""0532013000""#],
                &[r#""DE89370400440532013001""#, r#""savings""#, r#""12 34; drop""#],
            ),
            (
                "phone",
                &[r#""+49 30 901820""#, r#""(030) 901820""#],
                &[r#""911 call""#, r#""12""#, r#""+49 30 901820 901820 901820""#],
            ),
            ("record", &["4711", r#""INV-17""#], &["4711.5", r#""a b""#, r#""""#, "true"]),
            ("amount", &["49.9", "0"], &["-1", r#""49""#]),
            (
                "date",
                &[r#""2024-02-29""#],
                &[r#""2026-02-29""#, r#""2026-13-01""#, r#""22.11.2026""#, r#""2026-11-2x""#],
            ),
            ("number", &["3", "-3"], &["3.5", r#""3""#]),
            ("flag", &["true"], &["1", r#""true""#]),
            ("text", &[r#""see you at ann@example.org""#], &["7", r#""""#]),
        ] {
            good.iter().for_each(|v| assert_eq!(check(kind, v), Ok(()), "{kind} {v}"));
            bad.iter().for_each(|v| assert_eq!(check(kind, v), Err("input.type"), "{kind} {v}"));
        }
    }

    #[test]
    fn bounds_patterns_choices_and_lists_hold() {
        let check = |json: &str, value: &str| {
            let declared = declared(json);
            declared.validate("x").unwrap();
            declared.check("x", &Value::parse(value.as_bytes()).unwrap()).map_err(|e| e.code)
        };
        let amount = r#"{"type":"amount","min":1,"max":100}"#;
        assert_eq!((check(amount, "100"), check(amount, "100.01")), (Ok(()), Err("input.range")));
        assert_eq!(check(amount, "0.5"), Err("input.range"));
        let day = r#"{"type":"date","min":"2026-01-01"}"#;
        assert_eq!(
            (check(day, r#""2026-01-01""#), check(day, r#""2025-12-31""#)),
            (Ok(()), Err("input.range"))
        );
        let text = r#"{"type":"text","max":3}"#;
        assert_eq!((check(text, r#""äöü""#), check(text, r#""four""#)), (Ok(()), Err("input.range")));
        let record = r#"{"type":"record","of":"invoice","pattern":"INV-####"}"#;
        assert_eq!(
            (check(record, r#""INV-2026""#), check(record, r#""INV-202""#)),
            (Ok(()), Err("input.pattern"))
        );
        let choice = r#"{"type":"text","one_of":["small","large"]}"#;
        assert_eq!((check(choice, r#""small""#), check(choice, r#""huge""#)), (Ok(()), Err("input.range")));
        let within = r#"{"type":"host","within":{"host":"*.example.org"}}"#;
        assert_eq!(
            (check(within, r#""a.example.org""#), check(within, r#""evil.org""#)),
            (Ok(()), Err("input.range"))
        );
        let many = r#"{"type":"mail","many":true}"#;
        assert_eq!((check(many, r#"["a@x.org"]"#), check(many, r#""a@x.org""#)), (Ok(()), Err("input.type")));
        assert_eq!(check(many, r#"["a@x.org","b"]"#), Err("input.type"));
    }

    #[test]
    fn declarations_that_make_no_sense_are_refused() {
        for bad in [
            r#"{"type":"record"}"#,
            r#"{"type":"mail","of":"x"}"#,
            r#"{"type":"amount","min":2,"max":1}"#,
            r#"{"type":"amount","min":"a"}"#,
            r#"{"type":"date","max":7}"#,
            r#"{"type":"number","pattern":"@"}"#,
            r#"{"type":"flag","min":0}"#,
            r#"{"type":"mail","default":"ann"}"#,
            r#"{"type":"mail","optional":true,"default":"a@x.org"}"#,
            r#"{"type":"mail","one_of":["a@x.org","b"]}"#,
        ] {
            assert!(declared(bad).validate("x").is_err(), "{bad}");
        }
        assert!(serde_json::from_str::<InputType>(r#"{"type":"mail","requred":true}"#).is_err());
    }

    // proves: T2
    #[test]
    fn what_is_missing_or_too_much_is_named_and_defaults_are_filled_in() {
        let types: InputTypes = serde_json::from_str(
            r#"{"to":{"type":"mail"},"copy":{"type":"mail","optional":true},"days":{"type":"number","default":3}}"#,
        )
        .unwrap();
        let given = |json: &str| {
            let value = Value::parse(json.as_bytes()).unwrap();
            complete(&types, value.as_map().unwrap())
                .map(|all| Value::Map(all).canonical())
                .map_err(|e| (e.code, e.input))
        };
        assert_eq!(given(r#"{"to":"a@x.org"}"#).unwrap(), r#"{"days":3,"to":"a@x.org"}"#);
        assert_eq!(given("{}"), Err(("input.missing", "to".to_string())));
        assert_eq!(
            given(r#"{"to":"a@x.org","bcc":"b@x.org"}"#),
            Err(("input.undeclared", "bcc".to_string()))
        );
        assert_eq!(given(r#"{"to":"a@x.org","days":"three"}"#), Err(("input.type", "days".to_string())));
    }

    proptest! {
        #[test]
        fn a_text_fits_itself_and_stars_only_take_what_stands_in_one_word(text in "[a-z0-9.-]{0,20}", other in "[ -~]{0,20}") {
            prop_assert!(fits_pattern(&text, &text));
            prop_assert!(fits_pattern("*", &text));
            let (shape, twice) = (alloc::format!("x*{}", text), alloc::format!("x{}{}", text, text));
            prop_assert!(fits_pattern(&shape, &twice));
            if other.chars().any(|c| !in_run(c)) {
                prop_assert!(!fits_pattern("*", &other));
            }
        }
    }
}
