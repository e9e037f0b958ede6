//! Any two constraints and a value: authority shrinks exactly and is compared soundly (INV1).
//!
//! The bytes are read as constraints of every kind, put together from pieces that are near each other, so that
//! they hold, overlap and exclude one another.
#![no_main]

use arbitrary::{Result, Unstructured};
use bailiwick_core::Value;
use bailiwick_core::constraint::{Cidr, Constraint, Each, Range, UrlUnder};
use libfuzzer_sys::{Corpus, fuzz_target};

fuzz_target!(|bytes: &[u8]| -> Corpus {
    match constraints_and_probes(&mut Unstructured::new(bytes)) {
        Ok((a, b, probes)) => {
            check(&a, &b, &probes);
            check(&b, &a, &probes);
            Corpus::Keep
        }
        Err(_) => Corpus::Reject,
    }
});

fn check(a: &Constraint, b: &Constraint, probes: &[Value]) {
    let met = a.meet(b);
    assert_eq!(a.meet(a), *a, "meeting itself changes it");
    assert!(a.contains(a));
    for probe in probes {
        let (by_a, by_b) = (a.admits(probe), b.admits(probe));
        assert_eq!(met.admits(probe), by_a && by_b, "{a:?} and {b:?} meet in {met:?}: {probe:?}");
        assert!(!a.contains(b) || !by_b || by_a, "{a:?} contains {b:?}, but not {probe:?}");
    }
    // A bound that is no number cannot be read; nothing is ever read as something else.
    let written = serde_json::to_string(a).expect("a constraint is written");
    match serde_json::from_str::<Constraint>(&written) {
        Ok(read) => assert_eq!(read, *a, "{written}"),
        Err(error) => assert!(error.to_string().contains("a bound is a number"), "{written}: {error}"),
    }
}

/// Two constraints, a few values of any kind, and the values they name themselves.
fn constraints_and_probes(u: &mut Unstructured<'_>) -> Result<(Constraint, Constraint, Vec<Value>)> {
    let (a, b) = (constraint(u, 3)?, constraint(u, 3)?);
    let mut probes = vec![value(u, 2)?, value(u, 1)?, Value::from(text(u)?)];
    named(&a, &mut probes);
    named(&b, &mut probes);
    Ok((a, b, probes))
}

fn constraint(u: &mut Unstructured<'_>, depth: u8) -> Result<Constraint> {
    let kinds = if depth == 0 { 13 } else { 15 };
    Ok(match u.int_in_range(1..=kinds)? {
        1 => Constraint::Any,
        2 => Constraint::Never,
        3 => Constraint::Exact(value(u, 2)?),
        4 => Constraint::OneOf(some(u, 4, |u| value(u, 1))?.into_iter().collect()),
        5 => Constraint::Spelled(some(u, 4, text)?.into_iter().collect()),
        6 => Constraint::Template(some(u, 4, text)?),
        7 => Constraint::Range(Range { min: maybe(u, bound)?, max: maybe(u, bound)? }),
        8 => Constraint::Prefix(text(u)?),
        9 => Constraint::PathUnder(text(u)?),
        10 => Constraint::Host(text(u)?),
        11 => Constraint::Url(UrlUnder { scheme: text(u)?, host: text(u)?, path: text(u)? }),
        12 => Cidr::parse(&network(u)?).map_or(Constraint::Never, Constraint::Cidr),
        13 => Constraint::Length(u.int_in_range(0..=4)?),
        14 => {
            Constraint::Each(Each { item: Box::new(constraint(u, depth - 1)?), max: u.int_in_range(0..=4)? })
        }
        _ => Constraint::AllOf(some(u, 3, |u| constraint(u, depth - 1))?),
    })
}

fn value(u: &mut Unstructured<'_>, depth: u8) -> Result<Value> {
    let kinds = if depth == 0 { 5 } else { 7 };
    Ok(match u.int_in_range(1..=kinds)? {
        1 => Value::Null,
        2 => Value::Bool(u.arbitrary()?),
        3 | 4 => bound(u)?,
        5 => Value::from(text(u)?),
        6 => Value::List(some(u, 5, |u| value(u, depth - 1))?),
        _ => Value::Map(some(u, 3, |u| Ok((text(u)?, value(u, depth - 1)?)))?.into_iter().collect()),
    })
}

/// A number, whole or not, often near another one; sometimes no number at all.
fn bound(u: &mut Unstructured<'_>) -> Result<Value> {
    Ok(match u.int_in_range(0..=9)? {
        0..=4 => Value::Int(i64::from(u.int_in_range(-3_i8..=3)?)),
        5 => Value::Int(u.arbitrary()?),
        6..=8 => parsed(&format!("{}.{}", u.int_in_range(-3_i8..=3)?, u.int_in_range(0_u8..=9)?)),
        _ => parsed(&format!("{:e}", u.arbitrary::<f64>()?)),
    })
}

fn parsed(json: &str) -> Value {
    Value::parse(json.as_bytes()).unwrap_or(Value::Null)
}

/// Pieces that paths, hosts, links, addresses and numbers are made of.
const PIECES: [&str; 40] = [
    "/",
    "//",
    "srv",
    "srvx",
    "a",
    "b",
    "A",
    "..",
    ".",
    "%2e",
    "\\",
    "*.",
    "*",
    "example.org",
    "www.",
    "EXAMPLE",
    "https",
    "http",
    "https://",
    "://",
    ":",
    "8080",
    "443",
    "@",
    "?",
    "#",
    "10.0.0.1",
    "10.0.0.0",
    "/8",
    "::1",
    "::",
    "50",
    "50.0",
    "0",
    "-",
    " ",
    "\n",
    "\0",
    "é",
    "null",
];

fn text(u: &mut Unstructured<'_>) -> Result<String> {
    let piece = |u: &mut Unstructured<'_>| {
        Ok(match u.ratio(9, 10)? {
            true => (*u.choose(&PIECES)?).to_owned(),
            false => u.arbitrary::<char>()?.to_string(),
        })
    };
    Ok(some(u, 5, piece)?.concat())
}

fn network(u: &mut Unstructured<'_>) -> Result<String> {
    let whole = ["10.0.0.0/8", "10.0.0.0/16", "0.0.0.0/0", "10.0.0.1/32", "::/0", "::1/128", "fe80::/10"];
    Ok(match u.ratio(4, 5)? {
        true => (*u.choose(&whole)?).to_owned(),
        false => format!("{}/{}", std::net::Ipv4Addr::from(u.arbitrary::<u32>()?), u.int_in_range(0..=33)?),
    })
}

/// At most `most` things.
fn some<'a, T>(
    u: &mut Unstructured<'a>,
    most: usize,
    one: impl Fn(&mut Unstructured<'a>) -> Result<T>,
) -> Result<Vec<T>> {
    (0..u.int_in_range(0..=most)?).map(|_| one(u)).collect()
}

fn maybe<'a, T>(
    u: &mut Unstructured<'a>,
    one: impl Fn(&mut Unstructured<'a>) -> Result<T>,
) -> Result<Option<T>> {
    Ok(if u.arbitrary()? { Some(one(u)?) } else { None })
}

/// Values at the edges of a constraint.
fn named(constraint: &Constraint, probes: &mut Vec<Value>) {
    let lists = |probes: &mut Vec<Value>, from: usize| {
        let items: Vec<Value> = probes.split_off(from);
        probes.push(Value::List(vec![]));
        probes.extend(items.iter().map(|item| Value::List(vec![item.clone(), item.clone()])));
        probes.push(Value::List(items));
    };
    match constraint {
        Constraint::Any | Constraint::Never | Constraint::Cidr(_) | Constraint::Length(_) => {}
        Constraint::Exact(value) => probes.push(value.clone()),
        Constraint::OneOf(values) => probes.extend(values.iter().cloned()),
        Constraint::Spelled(texts) => probes.extend(texts.iter().map(|text| Value::from(text.as_str()))),
        Constraint::Template(pieces) => probes.push(Value::from(pieces.join("x"))),
        Constraint::Range(range) => probes.extend(range.min.iter().chain(&range.max).cloned()),
        Constraint::Prefix(text) | Constraint::PathUnder(text) | Constraint::Host(text) => {
            let end = ["", "a", "/a", "/../a", ".example.org"];
            probes.extend(end.map(|end| Value::from(format!("{text}{end}"))));
            probes.push(Value::from(text.replacen("*.", "a.", 1)));
        }
        Constraint::Url(url) => {
            let host = url.host.replacen("*.", "a.", 1);
            let end = ["", "/", "/a", "/../a", "?a", "#a"];
            probes.extend(end.map(|end| Value::from(format!("{}://{host}{}{end}", url.scheme, url.path))));
        }
        Constraint::Each(each) => {
            let from = probes.len();
            named(&each.item, probes);
            lists(probes, from);
        }
        Constraint::AllOf(all) => all.iter().for_each(|one| named(one, probes)),
    }
}
