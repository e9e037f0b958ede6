//! The types of values: what an operator states of an argument or a result field, and the one spelling in which
//! two values of one type are compared.
//!
//! A value of one type never explains one of another, and an id of one record type never another record: file 13
//! is not mail 13. What does not read as its stated type is no value of it, and so is never explained. Nothing is
//! decoded, folded or normalised beyond what is said at each type: look-alikes and encodings stay apart.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use crate::origin::{Identifier, Kind, account_checked, identify};

/// The type of a value, as a manifest or a task states it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ValueType {
    /// A mail address: `local@domain`, ASCII, case ignored.
    Address,
    /// A URL, or a bare host with or without a path: compared without the scheme and a slash at the end.
    Url,
    /// A bank account in any national form of the shape of ISO 13616; blanks and case ignored.
    Account,
    /// The same with valid check digits (ISO 13616, ISO 7064 MOD 97-10), or it is none.
    Iban,
    /// A telephone number: digits, with a `+` in front if it is international (ITU-T E.164); blanks, hyphens, dots,
    /// slashes and parentheses ignored. National and international spellings are two numbers.
    Phone,
    /// A file path without `.` and `..`, doubled slashes, backslashes, `%` and control characters; a slash at the
    /// end is ignored.
    Path,
    /// A day, `2026-11-22`, with a time or without; compared as written.
    Date,
    /// A decimal number; zeros that say nothing are ignored.
    Amount,
    /// The id of a record of this type in its system: `record:file`.
    Record(String),
}

/// What a type cannot be called.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no type of values; there are address, url, account, iban, phone, path, date, amount, and `record:` with the name of a record type (a-z, 0-9, `_`, `-`, at most 48 characters)"
)]
pub struct BadType(String);

/// Longest name of a record type.
const RECORD_MAX: usize = 48;

impl ValueType {
    /// Reads the name of a type.
    pub fn parse(text: &str) -> Result<Self, BadType> {
        let bad = || BadType(text.chars().take(64).flat_map(char::escape_default).collect());
        Ok(match text {
            "address" => ValueType::Address,
            "url" => ValueType::Url,
            "account" => ValueType::Account,
            "iban" => ValueType::Iban,
            "phone" => ValueType::Phone,
            "path" => ValueType::Path,
            "date" => ValueType::Date,
            "amount" => ValueType::Amount,
            other => {
                let name = other.strip_prefix("record:").ok_or_else(bad)?;
                let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-');
                if name.is_empty() || name.len() > RECORD_MAX || !name.bytes().all(fits) {
                    return Err(bad());
                }
                ValueType::Record(name.to_string())
            }
        })
    }

    /// The value that a text is, if it reads as one of this type.
    pub fn identify(&self, text: &str) -> Option<Identifier> {
        let text = text.trim();
        let plain = |kind, text: Option<String>| text.map(|text| Identifier { kind, text, of: None });
        match self {
            ValueType::Address => Some(identify(text)).filter(|id| id.kind == Kind::Address),
            ValueType::Url => {
                Some(identify(text)).filter(|id| id.kind == Kind::Url).or_else(|| bare_host(text))
            }
            ValueType::Account => Some(identify(text)).filter(|id| id.kind == Kind::Account),
            ValueType::Iban => plain(Kind::Account, account_checked(text)),
            ValueType::Phone => plain(Kind::Phone, phone(text)),
            ValueType::Path => plain(Kind::Path, path(text)),
            ValueType::Date => plain(Kind::Date, date(text)),
            ValueType::Amount => plain(Kind::Amount, amount(text)),
            ValueType::Record(of) => (!text.is_empty()).then(|| Identifier {
                kind: Kind::Record,
                text: text.to_string(),
                of: Some(of.clone()),
            }),
        }
    }
}

impl TryFrom<String> for ValueType {
    type Error = BadType;
    fn try_from(text: String) -> Result<Self, BadType> {
        ValueType::parse(&text)
    }
}

impl From<ValueType> for String {
    fn from(of: ValueType) -> String {
        format!("{of}")
    }
}

impl core::fmt::Display for ValueType {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            ValueType::Address => f.write_str("address"),
            ValueType::Url => f.write_str("url"),
            ValueType::Account => f.write_str("account"),
            ValueType::Iban => f.write_str("iban"),
            ValueType::Phone => f.write_str("phone"),
            ValueType::Path => f.write_str("path"),
            ValueType::Date => f.write_str("date"),
            ValueType::Amount => f.write_str("amount"),
            ValueType::Record(of) => write!(f, "record:{of}"),
        }
    }
}

/// Every value that a text is, under any type but records, and as what it looks like by itself.
pub(crate) fn readings(text: &str) -> Vec<Identifier> {
    let text = text.trim();
    let itself = identify(text);
    let host = if itself.kind == Kind::Url { None } else { bare_host(text) };
    let by_shape = [ValueType::Iban, ValueType::Phone, ValueType::Path, ValueType::Date, ValueType::Amount];
    let mut found = Vec::from([itself]);
    found.extend(host);
    found.extend(by_shape.iter().filter_map(|of| of.identify(text)));
    found
}

/// A host that only its stated type makes a URL: `intranet.example`, with an unusual top-level domain.
fn bare_host(text: &str) -> Option<Identifier> {
    let odd = |c: char| c.is_whitespace() || c == '@' || c == '\\';
    if !text.contains('.') || text.contains(odd) || text.contains("://") {
        return None;
    }
    let url = identify(&format!("http://{text}"));
    (url.kind == Kind::Url && url.text.contains('.')).then_some(url)
}

/// ITU-T E.164 allows 15 digits. With a `+` it is international, without one it is what is dialled at home.
pub(crate) fn phone(text: &str) -> Option<String> {
    let international = text.starts_with('+');
    let mut digits = String::new();
    for c in text.strip_prefix('+').unwrap_or(text).chars() {
        match c {
            '0'..='9' => digits.push(c),
            ' ' | '-' | '.' | '/' | '(' | ')' => {}
            _ => return None,
        }
    }
    let first = digits.bytes().next()?;
    ((7..=15).contains(&digits.len()) && !(international && first == b'0'))
        .then(|| if international { format!("+{digits}") } else { digits })
}

fn path(text: &str) -> Option<String> {
    let rooted = text.strip_prefix('/').unwrap_or(text);
    let inner = rooted.strip_suffix('/').unwrap_or(rooted);
    let clean = |part: &str| !part.is_empty() && part != "." && part != "..";
    let odd = |c: char| c.is_control() || matches!(c, '\\' | '%');
    let whole = text == "/" || (inner.split('/').all(clean) && !text.contains(odd));
    whole.then(|| {
        if text == "/" { text.to_string() } else { text.strip_suffix('/').unwrap_or(text).to_string() }
    })
}

fn date(text: &str) -> Option<String> {
    let day = text.get(..10)?;
    let digits = |from, to| day.get(from..to).filter(|d: &&str| d.bytes().all(|b| b.is_ascii_digit()));
    let number = |from, to| digits(from, to).and_then(|d| d.parse::<u32>().ok());
    let dashes = day.as_bytes().get(4) == Some(&b'-') && day.as_bytes().get(7) == Some(&b'-');
    number(0, 4)?;
    let real = (1..=12).contains(&number(5, 7)?) && (1..=31).contains(&number(8, 10)?);
    let rest = text.get(10..).unwrap_or("");
    let time = rest.is_empty()
        || (rest.starts_with(['T', 't', ' '])
            && rest
                .chars()
                .skip(1)
                .all(|c| c.is_ascii_digit() || matches!(c, ':' | '.' | '+' | '-' | 'Z' | 'z')));
    (dashes && real && time).then(|| text.to_string())
}

fn amount(text: &str) -> Option<String> {
    let (sign, rest) = text.strip_prefix('-').map_or(("", text), |rest| ("-", rest));
    let (whole, part) = rest.split_once('.').unwrap_or((rest, "0"));
    let digits = |t: &str| !t.is_empty() && t.len() <= 40 && t.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(part) {
        return None;
    }
    let whole = whole.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    let part = part.trim_end_matches('0');
    Some(match (part, whole) {
        ("", "0") => "0".to_string(),
        ("", whole) => format!("{sign}{whole}"),
        (part, whole) => format!("{sign}{whole}.{part}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use proptest::prelude::*;

    fn read(of: &str, text: &str) -> Option<String> {
        ValueType::parse(of).unwrap().identify(text).map(|id| id.text)
    }

    #[test]
    fn each_type_has_one_spelling_and_refuses_what_is_none() {
        for (of, text, wanted) in [
            ("phone", "+49 (170) 123-4567", Some("+491701234567")),
            ("phone", "0170 1234567", Some("01701234567")),
            ("phone", "+0170 1234567", None),
            ("phone", "call 0170 1234567", None),
            ("phone", "123456", None),
            ("path", "/srv/reports/", Some("/srv/reports")),
            ("path", "reports/q3.txt", Some("reports/q3.txt")),
            ("path", "/srv/../etc", None),
            ("path", "/srv//reports", None),
            ("path", "/srv/%2e%2e/etc", None),
            ("path", "a\\b", None),
            ("date", "2026-11-22", Some("2026-11-22")),
            ("date", "2026-11-22T10:00:00Z", Some("2026-11-22T10:00:00Z")),
            ("date", "2026-13-22", None),
            ("date", "22.11.2026", None),
            ("amount", "0050.00", Some("50")),
            ("amount", "-0.0", Some("0")),
            ("amount", "1e3", None),
            ("amount", "1,000", None),
            ("iban", "DE89 3704 0044 0532 0130 00", Some("DE89370400440532013000")),
            ("iban", "DE89370400440532013001", None),
            ("account", "US133000000121212121212", Some("US133000000121212121212")),
            ("url", "intranet.example", Some("intranet.example")),
            ("url", "two words.example", None),
            ("address", "Dana@Example.org", Some("dana@example.org")),
            ("address", "dana", None),
            ("record:file", " 13 ", Some("13")),
        ] {
            assert_eq!(read(of, text).as_deref(), wanted, "{of} {text}");
        }
        for bad in ["", "file", "record:", "record:File", "record:a b", "Address"] {
            assert!(ValueType::parse(bad).is_err(), "{bad}");
        }
    }

    fn any_text() -> impl Strategy<Value = String> {
        let words = prop::sample::select(alloc::vec![
            "13",
            "0013",
            "13.0",
            "13.00",
            "file",
            "File",
            "FILE",
            "dana@example.org",
            "DANA@example.org",
            "dana@example.org.evil.com",
            "d\u{430}na@example.org",
            "dana@\u{200b}example.org",
            "dana%40example.org",
            "example.org",
            "https://example.org/",
            "http://example.org",
            "example.org/a",
            "example.org/%61",
            "https://example.org@evil.com",
            "xn--exmple-cua.org",
            "ex\u{e4}mple.org",
            "exa\u{308}mple.org",
            "DE89370400440532013000",
            "de89 3704 0044 0532 0130 00",
            "DE89370400440532013001",
            "+49 170 1234567",
            "+49170/1234567",
            "0170 1234567",
            "2026-11-22",
            "2026-11-22T00:00",
            "/srv/a",
            "/srv/a/",
            "/srv/./a",
            "/srv/A",
            "\u{ff11}\u{ff13}",
            "\u{661}\u{663}",
        ]);
        prop_oneof![words.prop_map(ToString::to_string), "[ -~]{0,12}"]
    }

    const PLAIN: [ValueType; 8] = [
        ValueType::Address,
        ValueType::Url,
        ValueType::Account,
        ValueType::Iban,
        ValueType::Phone,
        ValueType::Path,
        ValueType::Date,
        ValueType::Amount,
    ];

    fn any_type() -> impl Strategy<Value = ValueType> {
        let mut all: Vec<ValueType> = PLAIN.to_vec();
        all.extend(["file", "mail"].map(|of| ValueType::Record(of.to_string())));
        prop::sample::select(all)
    }

    /// What may differ between two spellings of one value of a type, and nothing else.
    fn folded(of: &ValueType, text: &str) -> String {
        let text = text.trim();
        let without = |marks: &str| text.chars().filter(|c| !marks.contains(*c)).collect::<String>();
        match of {
            ValueType::Address => text.to_ascii_lowercase(),
            ValueType::Account | ValueType::Iban => without(" ").to_ascii_uppercase(),
            ValueType::Phone => without(" -./()"),
            ValueType::Path => text.trim_end_matches('/').to_string(),
            ValueType::Amount => {
                let (whole, part) = text
                    .trim_start_matches('-')
                    .split_once('.')
                    .unwrap_or((text.trim_start_matches('-'), ""));
                let (whole, part) = (whole.trim_start_matches('0'), part.trim_end_matches('0'));
                let sign =
                    if text.starts_with('-') && !(whole.is_empty() && part.is_empty()) { "-" } else { "" };
                format!("{sign}{whole}.{part}")
            }
            ValueType::Url => {
                let bare = text.split_once("://").map_or(text, |(_, rest)| rest);
                bare.trim_end_matches('/').to_ascii_lowercase()
            }
            ValueType::Date | ValueType::Record(_) => text.to_string(),
        }
    }

    proptest! {
        #[test]
        fn the_readings_of_a_text_are_those_of_all_types(text in any_text(), more in any_text(), by in "[ :./@]{0,1}") {
            let text = format!("{text}{by}{more}");
            let all = PLAIN.iter().filter_map(|of| of.identify(&text)).chain([identify(&text)]);
            let all: BTreeSet<Identifier> = all.collect();
            prop_assert_eq!(readings(&text).into_iter().collect::<BTreeSet<_>>(), all);
        }

        // proves: A02, N1
        #[test]
        fn two_values_are_one_only_where_their_type_says_so(a in any_text(), b in any_text(), of in any_type()) {
            if let (Some(left), Some(right)) = (of.identify(&a), of.identify(&b)) && left == right {
                prop_assert_eq!(folded(&of, &a), folded(&of, &b));
            }
        }

        // proves: N1
        #[test]
        fn no_value_is_one_of_another_type(text in any_text(), a in any_type(), b in any_type()) {
            let same = |a: &ValueType, b: &ValueType| {
                a == b || matches!((a, b), (ValueType::Account, ValueType::Iban) | (ValueType::Iban, ValueType::Account))
            };
            if let (Some(left), Some(right)) = (a.identify(&text), b.identify(&text)) && !same(&a, &b) {
                prop_assert_ne!(left, right);
            }
        }

        // proves: N1
        #[test]
        fn nothing_inside_a_value_is_the_value(text in any_text(), more in "[a-z0-9]{1,4}", of in any_type()) {
            for longer in [format!("{text}{more}"), format!("{more}{text}"), format!("{more} {text}")] {
                if let (Some(inner), Some(outer)) = (of.identify(&text), of.identify(&longer)) && inner == outer {
                    prop_assert_eq!(folded(&of, &text), folded(&of, &longer));
                }
            }
        }

        #[test]
        fn a_value_is_itself_again_and_names_are_read_back(text in any_text(), of in any_type()) {
            if let Some(id) = of.identify(&text) {
                prop_assert_eq!(of.identify(&id.text).map(|id| id.text), Some(id.text));
            }
            prop_assert_eq!(ValueType::parse(&format!("{of}")), Ok(of));
        }
    }
}
