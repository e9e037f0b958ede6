//! The forms of values at their edges: inputs, names, days, numbers, labels, and what the ledger keeps of them.

use std::collections::BTreeMap;

use bailiwick_core::capability::Capability;
use bailiwick_core::chain::{Chain, Reads};
use bailiwick_core::constraint::{Constraint, texts};
use bailiwick_core::event::{Decided, Ruled, Why};
use bailiwick_core::input::{ITEMS_MAX, InputKind, InputType};
use bailiwick_core::label::{Label, Level, MANY, ORIGINS_MAX};
use bailiwick_core::registry::RegistryEvent;
use bailiwick_core::seeking::{Seeking, TOOLS_MAX};
use bailiwick_core::tool::{Arg, Effect, Manifest, Role};
use bailiwick_core::typed::ValueType;
use bailiwick_core::value::{BYTES_MAX, DEPTH_MAX};
use bailiwick_core::{Digest, GrantId, PrincipalId, Time, Value};

use crate::world::*;

fn of(kind: InputKind) -> InputType {
    InputType::of(kind)
}

fn admits(kind: InputKind, text: &str) -> bool {
    of(kind).check("x", &Value::from(text)).is_ok()
}

// proves: N1, T1
#[test]
fn an_input_explains_what_its_type_can_name_and_words_name_nothing() {
    let restarts = |kind: InputKind| {
        let mut world = World::opened(|o| {
            o.inputs = [("which".to_owned(), Value::from("db-7"))].into();
            o.types = [("which".to_owned(), of(kind))].into();
        });
        world.call("planner", "cloud.restart", r#"{"vm":"db-7"}"#).outcome
    };
    assert_eq!(restarts(InputKind::Host), Ruled::Allow);
    assert_eq!(restarts(InputKind::Text), Ruled::Ask, "words on a subject choose no machine");

    // An argument of a stated type wants a value of that type, which only a typed input gives.
    let reads = |types: BTreeMap<String, InputType>| {
        let mut world =
            World::opened(|o| (o.inputs, o.types) = ([("file".to_owned(), "/srv/a".into())].into(), types));
        let mut manifest = Manifest::new(tool("files.drop"), Effect::Delete);
        manifest
            .args
            .insert("path".to_owned(), Arg { of: Some(ValueType::Path), ..Arg::of_role(Role::Selector) });
        world.registry.apply(&RegistryEvent::ToolClassified { manifest, pin: None, by: person("root") });
        world.call("planner", "files.drop", r#"{"path":"/srv/a"}"#).outcome
    };
    assert_eq!(reads([("file".to_owned(), of(InputKind::Path))].into()), Ruled::Allow);
    assert_eq!(reads(BTreeMap::new()), Ruled::Ask);
}

// proves: N1
#[test]
fn the_name_of_a_record_vouches_for_no_address_that_it_looks_like() {
    let mails = |declared: &str, name: &str| {
        let mut world = World::opened(|o| {
            o.inputs = [("whom".to_owned(), Value::from(name))].into();
            o.types = [("whom".to_owned(), serde_json::from_str(declared).unwrap())].into();
        });
        world.call("planner", "mail.send", &format!(r#"{{"to":"{name}"}}"#)).outcome
    };
    for name in ["carla@customer.example", "https://customer.example/a", "DE89370400440532013000"] {
        assert_eq!(mails(r#"{"type":"record","of":"customer"}"#, name), Ruled::Ask, "{name}");
    }
    assert_eq!(mails(r#"{"type":"mail"}"#, "carla@customer.example"), Ruled::Allow, "declared as what it is");
    assert_eq!(mails(r#"{"type":"url"}"#, "https://customer.example/a"), Ruled::Allow);
    assert_eq!(mails(r#"{"type":"account"}"#, "DE89370400440532013000"), Ruled::Allow);
}

// proves: D6
#[test]
fn days_are_days_of_the_calendar() {
    for (day, real) in [
        ("2026-11-22", true),
        ("2024-02-29", true),
        ("2000-02-29", true),
        ("2023-02-29", false),
        ("1900-02-29", false),
        ("2026-04-30", true),
        ("2026-04-31", false),
        ("2026-01-31", true),
        ("2026-01-32", false),
        ("2026-11-00", false),
        ("2026-13-01", false),
        ("2026/11/22", false),
        ("2026-11-221", false),
        ("+026-11-22", false),
    ] {
        assert_eq!(admits(InputKind::Date, day), real, "{day}");
    }
    for (text, is_one) in [
        ("2026-11-22", true),
        ("2026-11-22T10:00:00Z", true),
        ("2026/11-22", false),
        ("2026-11/22", false),
        ("2026-11-22x", false),
        ("2026-11-22T1a", false),
        ("2026-00-22", false),
    ] {
        assert_eq!(ValueType::Date.identify(text).is_some(), is_one, "{text}");
    }
}

// proves: D6
#[test]
fn numbers_accounts_and_types_are_read_whole_or_not_at_all() {
    let digits = "1".repeat(40);
    for (text, is_one) in [("5", true), (digits.as_str(), true), (".5", false), ("5a", false), ("5.", false)]
    {
        assert_eq!(ValueType::Amount.identify(text).is_some(), is_one, "{text}");
    }
    assert!(ValueType::Amount.identify(&"1".repeat(41)).is_none());
    let long = "1".repeat(35);
    for (account, good) in [
        ("12345", true),
        ("12-34-56", true),
        ("ABCDEF", false),
        ("12!45", false),
        (long.as_str(), false),
        ("123", false),
    ] {
        assert_eq!(admits(InputKind::Account, account), good, "{account}");
    }
    let record = |n: usize| ValueType::parse(&format!("record:{}", "a".repeat(n)));
    assert!(record(1).is_ok() && record(48).is_ok() && record(0).is_err() && record(49).is_err());
    assert_eq!(String::from(ValueType::parse("record:file").unwrap()), "record:file");
}

// proves: D6
#[test]
fn a_pattern_admits_its_shape_and_nothing_beside_it() {
    let fits = |pattern: &str, text: &str| {
        InputType { pattern: Some(pattern.to_owned()), ..of(InputKind::Text) }
            .check("x", &Value::from(text))
            .is_ok()
    };
    for (pattern, good, bad) in [
        ("INV-####", vec!["INV-1234"], vec!["INX-1234", "INV-12a4", "INV-123", "INV-12345", "inv-1234"]),
        ("@@?", vec!["ab1", "abc"], vec!["a11", "ab-", "ab"]),
        ("A*-#", vec!["A-1", "Ab-c-9", "A1-1-1"], vec!["A b-1", "A;-1", "A-", "B-1", "A-1x"]),
        ("*a*b", vec!["ab", "xaxb", "aabab"], vec!["ba", "a/b", "xaxc"]),
    ] {
        good.iter().for_each(|text| assert!(fits(pattern, text), "{pattern} {text}"));
        bad.iter().for_each(|text| assert!(!fits(pattern, text), "{pattern} {text}"));
    }
}

// proves: D2, D6
#[test]
fn a_declaration_that_makes_no_sense_is_refused() {
    let some = |text: &str| Some(Value::from(text));
    let number = || of(InputKind::Number);
    let many = InputType { many: true, ..number() };
    let list = |n: usize| Value::List(vec![Value::Int(1); n]);
    for (declared, good) in [
        (InputType { optional: true, ..number() }, true),
        (InputType { default: Some(Value::Int(1)), ..number() }, true),
        (InputType { optional: true, default: Some(Value::Int(1)), ..number() }, false),
        (of(InputKind::Flag), true),
        (InputType { min: Some(Value::Int(1)), ..of(InputKind::Flag) }, false),
        (InputType { max: Some(Value::Int(1)), ..of(InputKind::Flag) }, false),
        (InputType { pattern: Some("t*".to_owned()), ..of(InputKind::Flag) }, false),
        (InputType { pattern: Some("t*".to_owned()), ..of(InputKind::Text) }, true),
        (InputType { min: Some(Value::Int(2)), max: Some(Value::Int(2)), ..number() }, true),
        (InputType { min: Some(Value::Int(3)), max: Some(Value::Int(2)), ..number() }, false),
        (InputType { min: some("2026-02-28"), ..of(InputKind::Date) }, true),
        (InputType { min: some("2026-02-30"), ..of(InputKind::Date) }, false),
        (InputType { default: Some(list(2)), ..many.clone() }, true),
        (InputType { default: Some(Value::Int(1)), ..many.clone() }, false),
    ] {
        assert_eq!(declared.validate("x").is_ok(), good, "{declared:?}");
    }
    assert!(many.check("x", &list(ITEMS_MAX)).is_ok() && many.check("x", &list(ITEMS_MAX + 1)).is_err());
}

// proves: I3, D6
#[test]
fn ids_have_one_form() {
    for (id, good) in [
        ("abc", true),
        ("a-1", true),
        ("ab", false),
        ("-ab", false),
        ("AbC", false),
        ("a_b", false),
        (&"a".repeat(64), true),
        (&"a".repeat(65), false),
    ] {
        assert_eq!(GrantId::parse(id).is_ok(), good, "{id}");
    }
    for (id, good) in [
        ("ann@example.org", true),
        ("", false),
        ("Ann@example.org", false),
        ("ann example", false),
        (&"a".repeat(254), true),
        (&"a".repeat(255), false),
    ] {
        assert_eq!(PrincipalId::parse(id).is_ok(), good, "{id}");
    }
    assert_eq!(GrantId::parse("").unwrap_err().code(), "id.malformed");
}

// proves: INV5, INV9
#[test]
fn digests_and_values_are_read_strictly_and_printed_one_way() {
    let digest = Digest::of(b"x");
    let text = digest.to_string();
    assert_eq!(Digest::parse(&text), Some(digest));
    for bad in [&text[1..], &text.to_uppercase(), &"g".repeat(64), &format!("{text}0"), ""] {
        assert_eq!(Digest::parse(bad), None, "{bad}");
    }
    assert_eq!((digest.short(), format!("{digest:?}")), (text[..12].to_owned(), text));

    let nested = |n: usize| format!("{}1{}", r#"{"a":"#.repeat(n), "}".repeat(n));
    assert!(Value::parse(nested(DEPTH_MAX).as_bytes()).is_ok());
    assert_eq!(Value::parse(nested(DEPTH_MAX + 1).as_bytes()).unwrap_err().code(), "json.too_deep");
    let long = |n: usize| format!("\"{}\"", "a".repeat(n - 2));
    assert!(Value::parse(long(BYTES_MAX).as_bytes()).is_ok());
    assert_eq!(Value::parse(long(BYTES_MAX + 1).as_bytes()).unwrap_err().code(), "json.too_large");

    let odd = json("{\"\u{ff61}\":\"a b\",\"\u{1f600}\":\"\\u001f\"}");
    let canonical = "{\"\u{1f600}\":\"\\u001f\",\"\u{ff61}\":\"a b\"}";
    assert_eq!(
        (odd.canonical().as_str(), format!("{odd}"), format!("{odd:?}")),
        (canonical, canonical.into(), canonical.into())
    );
    assert_eq!((Time::from_secs(7), Time(7_999).secs()), (Time(7_000), 7));
}

// proves: N1, INV13
#[test]
fn a_label_forgets_origins_only_when_there_are_too_many_and_stays_untrusted() {
    let from =
        |n: usize| Label { untrusted: (0..n).map(|n| format!("o{n:02}")).collect(), ..Label::bottom() };
    assert!(Label::bottom().is_trusted() && !Label::untrusted("web").is_trusted());
    assert_eq!(from(ORIGINS_MAX).join(&Label::bottom()), from(ORIGINS_MAX), "as many as are kept");
    let many = from(ORIGINS_MAX + 1).join(&Label::bottom());
    assert_eq!(
        (many.untrusted.len(), many.untrusted.contains(MANY), many.is_trusted()),
        (ORIGINS_MAX, true, false)
    );
}

// proves: N1, INV8
#[test]
fn labels_survive_the_ledger_and_manifests() {
    let seen = Label { level: Level::Confidential, ..Label::untrusted("mail.search") };
    let mut world = World::opened(|_| {});
    for label in [Label::bottom(), seen.clone()] {
        let decided = Decided { label, ..world.call("planner", "cloud.note", "{}") };
        let text = serde_json::to_string(&decided).unwrap();
        assert_eq!(serde_json::from_str::<Decided>(&text).unwrap(), decided);
        assert_eq!(text.contains("\"label\""), decided.label != Label::bottom());
    }
    let manifest = Manifest { labels: seen, ..Manifest::new(tool("mail.search"), Effect::Read) };
    let text = serde_json::to_string(&manifest).unwrap();
    assert_eq!(serde_json::from_str::<Manifest>(&text).unwrap(), manifest);
}

// proves: H5
#[test]
fn a_capability_as_it_is_written_is_to_use_and_goes_one_hop() {
    let read = |text: &str| serde_json::from_str::<Capability>(text).unwrap();
    assert_eq!(read(r#"{"tool":"cloud.*"}"#), to_use("cloud.*"));
    let passed = read(r#"{"tool":"cloud.*","use":false,"delegate":{"to":["executor"]}}"#);
    assert_eq!(passed, to_pass("cloud.*", &["executor"], 1));
    let limited = to_use("cloud.*").uses(3);
    let text = serde_json::to_string(&limited).unwrap();
    assert_eq!(read(&text), limited);
}

// proves: N3
#[test]
fn a_tool_that_is_named_already_is_no_new_try_however_many_there_are() {
    let mut agent = Seeking::default();
    let why = Why {
        step: 5,
        code: "capability.none".into(),
        rule: "r".into(),
        reason: String::new(),
        remedy: String::new(),
    };
    (0..TOOLS_MAX).for_each(|n| agent.note(&why, &format!("x.t{n}"), false));
    let before = agent.score();
    agent.note(&why, "x.t0", false);
    assert_eq!(agent.score(), before);
    agent.note(&why, "x.other", false);
    assert_eq!(agent.score(), before + 1);
}

// proves: T2, D6
#[test]
fn reads_do_not_run_out_of_order_and_a_refusal_says_what_is_open() {
    let steps = vec![
        times(step("look", "planner", "mail.search", &[]), 1, 3),
        after(step("fix", "planner", "cloud.restart", &[("vm", texts(&["db-1"]))]), &["look"]),
        step("hers", "executor", "cloud.note", &[("text", Constraint::Any)]),
    ];
    let mut world = World::with_chain(Chain { reads: Reads::Declared, ..chain(steps) });
    let refused = world.refused("planner", "cloud.note", "{}", 6, "chain.not_declared");
    assert_eq!(refused.why.remedy, "Open to this agent now: mail.search.");
    world.must("planner", "mail.search", r#"{"query":"what a step of a read does not name"}"#);
    world.must("planner", "cloud.restart", r#"{"vm":"db-1"}"#);
    world.must("planner", "mail.search", "{}");
}

// proves: T2
#[test]
fn a_chain_has_at_most_so_many_steps() {
    let long =
        |n: usize| chain((0..n).map(|n| step(&format!("s{n}"), "planner", "cloud.note", &[])).collect());
    let most = bailiwick_core::chain::STEPS_MAX;
    assert!(long(most).validate().is_ok() && long(most + 1).validate().is_err());
}
