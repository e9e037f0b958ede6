//! Keeping an API's key out of everything an agent reads (INV14, threat A35).
//!
//! A target may send back what it was sent: a debug endpoint, an error page, a redirect. Every spelling of the
//! key that a program would use by itself is looked for: as it is in any case, in Base64 at any offset, in
//! hexadecimal, backwards, and any part of it that is half as long. Those are cut out. A key that shows only after undoing escapes, blanks or
//! zero bytes cannot be cut out safely: then the whole answer is withheld. A target that sets out to smuggle
//! its own key past this (in a cipher, letter by letter) can; it has the key anyway.

use crate::secret::Secret;
use aho_corasick::{AhoCorasick, MatchKind};
use bailiwick_core::Value;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use std::collections::{BTreeMap, BTreeSet};

/// What stands where a key was.
pub(crate) const CUT: &str = "[secret]";
/// A key this long is also found by any part that is half as long.
const HALVES_FROM: usize = 16;
/// A spelling shorter than this would be found in ordinary text.
const SPELLING_MIN: usize = 8;

/// All spellings of an API's keys.
pub(crate) struct Echo {
    finder: Option<AhoCorasick>,
}

impl Echo {
    /// The spellings of these keys, each with and without a scheme word in front.
    pub(crate) fn of<'a>(keys: impl Iterator<Item = &'a Secret>) -> Echo {
        let spellings: BTreeSet<Vec<u8>> =
            keys.flat_map(|key| bare(key.expose())).flat_map(|key| spellings(&key)).collect();
        if spellings.is_empty() {
            return Echo { finder: None };
        }
        let finder = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .match_kind(MatchKind::LeftmostLongest)
            .build(spellings);
        // Patterns of a few hundred bytes always build; if ever not, nothing may pass.
        Echo { finder: Some(finder.unwrap_or_else(|_| everything())) }
    }

    /// The bytes without the key; `None` if it is in them in a way that cannot be cut out.
    pub(crate) fn cut(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let Some(finder) = &self.finder else { return Some(bytes.to_vec()) };
        let cut = match finder.is_match(bytes) {
            true => finder.replace_all_bytes(bytes, &vec![CUT; finder.patterns_len()]),
            false => bytes.to_vec(),
        };
        if views(&cut).iter().any(|view| finder.is_match(view.as_slice())) { None } else { Some(cut) }
    }

    /// The same for text.
    pub(crate) fn cut_text(&self, text: &str) -> Option<String> {
        String::from_utf8(self.cut(text.as_bytes())?).ok()
    }

    /// The same for a JSON value, names of members included.
    pub(crate) fn cut_value(&self, value: Value) -> Option<Value> {
        let cut = self.walk(value)?;
        // A number could be the key, and so could two neighbours: what is printed is looked at as a whole.
        self.cut(cut.canonical().as_bytes()).filter(|printed| *printed == cut.canonical().as_bytes())?;
        Some(cut)
    }

    fn walk(&self, value: Value) -> Option<Value> {
        Some(match value {
            Value::Text(text) => Value::Text(self.cut_text(&text)?),
            Value::List(items) => {
                Value::List(items.into_iter().map(|v| self.walk(v)).collect::<Option<_>>()?)
            }
            Value::Map(members) => {
                let mut out = BTreeMap::new();
                for (name, value) in members {
                    out.insert(self.cut_text(&name)?, self.walk(value)?);
                }
                Value::Map(out)
            }
            other => other,
        })
    }
}

/// Finds something in everything but nothing.
fn everything() -> AhoCorasick {
    let any = (0..=255u8).map(|b| vec![b]);
    AhoCorasick::new(any).unwrap_or_else(|_| unreachable!("256 patterns of one byte"))
}

/// Whether a key, without its scheme word, is long enough to be told from ordinary text.
pub(crate) fn is_distinct(key: &Secret) -> bool {
    let key = key.expose();
    key.split_once(' ').map_or(key, |(_, rest)| rest).len() >= SPELLING_MIN
}

/// The key, the key without its scheme word, its words, and what `Basic` hides (RFC 7617).
fn bare(key: &str) -> Vec<Vec<u8>> {
    let mut all = vec![key.as_bytes().to_vec()];
    let Some((word, rest)) = key.split_once(' ') else { return all };
    all.push(rest.as_bytes().to_vec());
    all.extend(key.split(' ').map(|word| word.as_bytes().to_vec()));
    if word.eq_ignore_ascii_case("basic")
        && let Ok(pair) = STANDARD.decode(rest.trim()).or_else(|_| STANDARD_NO_PAD.decode(rest.trim()))
    {
        let password = pair.iter().position(|b| *b == b':').and_then(|at| pair.get(at + 1..));
        all.extend(password.map(<[u8]>::to_vec));
        all.push(pair);
    }
    all.retain(|key| key.len() >= SPELLING_MIN);
    all
}

fn spellings(key: &[u8]) -> Vec<Vec<u8>> {
    let mut all = vec![key.to_vec(), key.iter().rev().copied().collect()];
    all.push(key.iter().flat_map(|b| format!("{b:02x}").into_bytes()).collect());
    for offset in 0..3 {
        all.extend(base64_inside(key, offset));
    }
    if key.len() >= HALVES_FROM && !key.contains(&b' ') {
        all.extend(key.windows(key.len() / 2).map(<[u8]>::to_vec));
    }
    all.retain(|spelling| spelling.len() >= SPELLING_MIN);
    all
}

/// The letters of Base64 that depend on the key alone when it stands `offset` bytes after a multiple of three.
fn base64_inside(key: &[u8], offset: usize) -> Vec<Vec<u8>> {
    let mut padded = vec![0; offset];
    padded.extend_from_slice(key);
    let from = [0, 2, 3][offset];
    let whole = padded.len() * 8 / 6;
    [STANDARD_NO_PAD.encode(&padded), URL_SAFE_NO_PAD.encode(&padded)]
        .into_iter()
        .filter_map(|text| text.get(from..whole).map(|inside| inside.as_bytes().to_vec()))
        .collect()
}

/// The bytes with one kind of disguise undone; only those that change anything.
fn views(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut views = Vec::new();
    if bytes.contains(&b'%') {
        let once = unpercent(bytes);
        views.push(unpercent(&once));
        views.push(once);
    }
    if bytes.contains(&b'\\') {
        views.push(unbackslash(bytes));
    }
    if bytes.contains(&b'&') {
        views.push(unentity(bytes));
    }
    let airy = |b: &u8| b.is_ascii_whitespace() || *b == 0;
    if bytes.iter().any(airy) {
        views.push(bytes.iter().copied().filter(|b| !airy(b)).collect());
    }
    views
}

fn unpercent(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((first, tail)) = rest.split_first() {
        let escape = (*first == b'%').then(|| tail.get(..2).and_then(hex)).flatten();
        match escape {
            Some(byte) => {
                out.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    out
}

fn hex(digits: &[u8]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// Escapes of JSON and of most languages: `\u0041`, `\x41`, `\/`.
fn unbackslash(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((first, tail)) = rest.split_first() {
        if *first != b'\\' {
            out.push(*first);
            rest = tail;
            continue;
        }
        let (byte, used) = match tail {
            [b'u', b'0', b'0', high, low, ..] => (hex(&[*high, *low]), 5),
            [b'x', high, low, ..] => (hex(&[*high, *low]), 3),
            [other, ..] => (Some(*other), 1),
            [] => (None, 0),
        };
        out.extend(byte);
        rest = tail.get(used..).unwrap_or_default();
    }
    out
}

/// `&#65;`, `&#x41;` and the five names of XML.
fn unentity(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((first, tail)) = rest.split_first() {
        let end = tail.iter().take(9).position(|b| *b == b';');
        let found =
            (*first == b'&').then_some(end).flatten().and_then(|end| Some((entity(tail.get(..end)?)?, end)));
        match found {
            Some((byte, end)) => {
                out.push(byte);
                rest = tail.get(end + 1..).unwrap_or_default();
            }
            None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    out
}

fn entity(name: &[u8]) -> Option<u8> {
    let text = std::str::from_utf8(name).ok()?;
    let number =
        |digits: &str, base| u32::from_str_radix(digits, base).ok().and_then(|n| u8::try_from(n).ok());
    match text {
        "amp" => Some(b'&'),
        "lt" => Some(b'<'),
        "gt" => Some(b'>'),
        "quot" => Some(b'"'),
        "apos" => Some(b'\''),
        _ => match text.strip_prefix('#')? {
            digits if digits.starts_with(['x', 'X']) => number(digits.get(1..)?, 16),
            digits => number(digits, 10),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: &str = "sk_live_4eC39HqLyjWDarjtT1zdp7dc";

    fn echo() -> Echo {
        Echo::of([Secret::new(format!("Bearer {KEY}"))].iter())
    }

    fn hidden(text: &str) -> bool {
        match echo().cut(text.as_bytes()) {
            None => true,
            Some(cut) => !String::from_utf8_lossy(&cut).contains(KEY) && cut != text.as_bytes(),
        }
    }

    // proves: A35, INV14
    #[test]
    fn no_spelling_of_the_key_passes() {
        let hex: String = KEY.bytes().map(|b| format!("{b:02X}")).collect();
        let percent: String = KEY.bytes().map(|b| format!("%{b:02x}")).collect();
        let twice = percent.replace('%', "%25");
        let json: String = KEY.bytes().map(|b| format!("\\u00{b:02x}")).collect();
        let html: String = KEY.bytes().map(|b| format!("&#{b};")).collect();
        let html_hex: String = KEY.bytes().map(|b| format!("&#x{b:x};")).collect();
        let utf16: String = KEY.chars().map(|c| format!("{c}\0")).collect();
        let broken = format!("{}\r\n {}", &KEY[..10], &KEY[10..]);
        let back: String = KEY.chars().rev().collect();
        for text in [
            format!("you sent Bearer {KEY}!"),
            KEY.to_ascii_uppercase(),
            hex,
            percent,
            twice,
            json,
            html,
            html_hex,
            utf16,
            broken,
            back,
            format!("{}…", &KEY[..16]),
            format!("…{}", &KEY[16..]),
            STANDARD.encode(KEY),
            STANDARD.encode(format!("a{KEY}")),
            STANDARD.encode(format!("ab{KEY}z")),
            URL_SAFE_NO_PAD.encode(format!("user:{KEY}")),
        ] {
            assert!(hidden(&text), "{text}");
        }
        let plain = "nothing to see; sk_live_ is how keys of this kind begin";
        assert_eq!(echo().cut_text(plain).as_deref(), Some(plain));
    }

    // proves: A35, INV14
    #[test]
    fn half_of_a_key_in_any_place_does_not_pass() {
        let echo = Echo::of(
            [Secret::new("Bearer crm-7f3a9c2e51d84b06"), Secret::new("AKIAFIRSTPART0001 other-part")].iter(),
        );
        let key = "crm-7f3a9c2e51d84b06";
        for text in
            [&key[..10], &key[10..], &key[..19], &key[3..15], r#"{"a":"crm-7f3a9c","b":"2e51d84b06"}"#]
        {
            let cut = echo.cut_text(text);
            assert!(
                cut.as_deref().is_none_or(|cut| !cut.contains(&key[..10]) && !cut.contains(&key[10..])),
                "{text}"
            );
            assert_ne!(cut.as_deref(), Some(text));
        }
        assert_eq!(echo.cut_text("AKIAFIRSTPART0001").as_deref(), Some("[secret]"));
        let rest = r#"{"k":"crm-7f3a9c2e51d\u0038\u0034b06"}"#;
        assert!(echo.cut_text(rest).is_none_or(|cut| !cut.contains("7f3a9c2e51")));
        assert_eq!(echo.cut_text("bearer crm of a kind").as_deref(), Some("bearer crm of a kind"));
    }

    // proves: INV14
    #[test]
    fn a_basic_credential_hides_its_password_too() {
        let echo = Echo::of([Secret::new(format!("Basic {}", STANDARD.encode("svc:correct-horse")))].iter());
        assert_eq!(echo.cut_text("password correct-horse").as_deref(), Some("password [secret]"));
        assert_eq!(echo.cut_text("user svc").as_deref(), Some("user svc"));
    }

    // proves: INV14
    #[test]
    fn json_is_searched_inside_its_strings_names_and_numbers() {
        let text = format!(r#"{{"a":["x {KEY}",1],"{KEY}":true}}"#);
        let cut = echo().cut_value(Value::parse(text.as_bytes()).unwrap()).unwrap();
        assert_eq!(cut.canonical(), r#"{"[secret]":true,"a":["x [secret]",1]}"#);
        let number = Echo::of([Secret::new("1234567890123")].iter());
        assert_eq!(number.cut_value(Value::parse(b"[1234567890123]").unwrap()), None);
        assert!(number.cut_value(Value::parse(b"[1234567890124]").unwrap()).is_some());
    }

    proptest! {
        // proves: A35
        #[test]
        fn base64_around_the_key_is_found_at_any_offset(before in prop::collection::vec(any::<u8>(), 0..7), after in prop::collection::vec(any::<u8>(), 0..7)) {
            let around = [before.as_slice(), KEY.as_bytes(), after.as_slice()].concat();
            prop_assert!(hidden(&STANDARD.encode(&around)));
            prop_assert!(hidden(&URL_SAFE_NO_PAD.encode(&around)));
        }

        #[test]
        fn what_holds_no_key_passes_unchanged(text in "[ -~]{0,200}") {
            prop_assert_eq!(echo().cut_text(&text), Some(text));
        }
    }
}
