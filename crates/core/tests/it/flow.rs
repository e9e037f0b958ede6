//! Where an act sends something and what could go with it, as a policy sees it: nothing an agent says changes it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use bailiwick_core::chain::Chain;
use bailiwick_core::constraint::texts;
use bailiwick_core::decision::{Scene, decide};
use bailiwick_core::registry::{Directory, RegistryEvent};
use bailiwick_core::tool::{Arg, Effect, Manifest, Role};
use bailiwick_core::typed::ValueType;
use bailiwick_core::verdict::{Facts, Flow, Policy, Verdict};
use bailiwick_core::{Digest, Value};

use crate::world::*;

/// A policy that permits, and remembers what it was told of the flow.
#[derive(Default)]
struct Watcher {
    saw: RefCell<Option<Flow>>,
}

impl Policy for Watcher {
    fn evaluate(&self, facts: &Facts<'_>) -> Verdict {
        *self.saw.borrow_mut() = Some(facts.flow.clone());
        Verdict::Permit { rules: vec!["watched".to_owned()] }
    }
    fn version(&self) -> Digest {
        Digest::of(b"watcher")
    }
}

/// What a policy is told of a call by the planner.
#[track_caller]
fn flow(world: &mut World, tool: &str, args: &str) -> Flow {
    let request = world.request("planner", tool, args);
    let watcher = Watcher::default();
    let ruling = decide(Scene { policy: &watcher, ..world.scene() }, &request);
    let code = &ruling.decided().why.code;
    watcher.saw.into_inner().unwrap_or_else(|| panic!("no policy was asked: {code}"))
}

/// A house with domains of its own, a payee it knows, and a few more ways to send.
fn house() -> World {
    let mut world = World::opened(|o| {
        o.capabilities = ["mail.*", "files.*", "cloud.*", "bank.*", "web.*"].map(to_use).to_vec();
    });
    let directory = Directory {
        own_domains: ["example.org".to_owned(), "corp.internal".to_owned()].into(),
        known: ["partner@other.net".to_owned(), "DE89370400440532013000".to_owned()].into(),
        ..Directory::default()
    };
    let by = person("root");
    world.registry.apply(&RegistryEvent::DirectorySet { directory, by: by.clone() });
    let post = Manifest::new(tool("web.post"), Effect::Egress)
        .arg("url", Role::Target)
        .arg("which", Role::Selector)
        .arg("key", Role::Secret)
        .arg("body", Role::Content)
        .arg("fact", Role::Data)
        .arg("note", Role::Free);
    let mut call = Manifest::new(tool("web.call"), Effect::Egress);
    let number = Arg { of: Some(ValueType::Phone), ..Arg::of_role(Role::Target) };
    call.args.insert("number".to_owned(), number);
    for manifest in [post, call] {
        world.registry.apply(&RegistryEvent::ToolClassified { manifest, pin: None, by: by.clone() });
    }
    world
}

fn names(found: &BTreeSet<String>) -> Vec<&str> {
    found.iter().map(String::as_str).collect()
}

// proves: N2
#[test]
fn a_read_sends_nothing_whatever_it_is_asked_for() {
    let mut world = house();
    assert_eq!(flow(&mut world, "mail.search", r#"{"query":"the words of a secret plan"}"#), Flow::default());
    let sent = flow(&mut world, "mail.send", r#"{"to":"ann@example.org","subject":"the words"}"#);
    assert_ne!(sent, Flow::default());
}

// proves: N2
#[test]
fn a_mail_inside_the_house_is_not_outward_and_one_recipient_outside_makes_it_so() {
    let mut world = house();
    let sent = flow(&mut world, "mail.send", r#"{"to":["ann@example.org","bob@eu.example.org"],"cc":[]}"#);
    assert_eq!((names(&sent.destinations), sent.outward), (vec!["eu.example.org", "example.org"], false));
    for cc in ["eve@evil.com", "eve@example.org.evil.com", "eve@notexample.org", "eve@org"] {
        let sent = flow(&mut world, "mail.send", &format!(r#"{{"to":"ann@example.org","cc":"{cc}"}}"#));
        assert!(sent.outward, "{cc}");
        assert_eq!(sent.destinations.len(), 2, "{cc}");
    }
    // Whom the directory names is the organisation's own too, and nobody else of that domain.
    assert!(!flow(&mut world, "mail.send", r#"{"to":"partner@other.net"}"#).outward);
    assert!(flow(&mut world, "mail.send", r#"{"to":"stranger@other.net"}"#).outward);
}

// proves: N2, A02
#[test]
fn a_link_reaches_its_host_and_only_a_host_of_the_house_is_inside() {
    let mut world = house();
    for (url, host, outward) in [
        ("https://example.org/a?b=c", "example.org", false),
        ("https://wiki.example.org:8443/a", "wiki.example.org", false),
        ("http://example.org", "example.org", false),
        ("https://evil.com/example.org", "evil.com", true),
        ("https://evil.com?example.org", "evil.com", true),
        ("https://example.org.evil.com/", "example.org.evil.com", true),
        ("https://notexample.org/", "notexample.org", true),
        ("https://evil.com:443/", "evil.com", true),
    ] {
        let sent = flow(&mut world, "web.post", &format!(r#"{{"url":"{url}"}}"#));
        assert_eq!((names(&sent.destinations), sent.outward), (vec![host], outward), "{url}");
    }
    for odd in
        ["https://example.org@evil.com/", "https://evil.com\\\\@example.org/", "https://example.org:x/"]
    {
        assert!(flow(&mut world, "web.post", &format!(r#"{{"url":"{odd}"}}"#)).outward, "{odd}");
    }
}

// proves: N2
#[test]
fn what_is_neither_address_nor_link_is_told_as_it_is_and_is_outside_unless_it_is_listed() {
    let mut world = house();
    let paid = flow(&mut world, "bank.pay", r#"{"amount":1,"to":"DE89 3704 0044 0532 0130 00"}"#);
    assert_eq!((names(&paid.destinations), paid.outward), (vec!["DE89370400440532013000"], false));
    let paid = flow(&mut world, "bank.pay", r#"{"amount":1,"to":"GB29NWBK60161331926819"}"#);
    assert_eq!((names(&paid.destinations), paid.outward), (vec!["GB29NWBK60161331926819"], true));
    // A word that merely ends like a domain of ours is neither address nor link.
    let word = flow(&mut world, "mail.send", r#"{"to":"wiki.corp.internal"}"#);
    assert_eq!((names(&word.destinations), word.outward), (vec!["wiki.corp.internal"], true));
    // Nor is what does not read as its stated type.
    let called = flow(&mut world, "web.call", r#"{"number":"ann@example.org"}"#);
    assert_eq!((names(&called.destinations), called.outward), (vec!["ann@example.org"], true));
    let long = format!(r#"{{"to":"{}"}}"#, "x".repeat(300));
    let sent = flow(&mut world, "mail.send", &long);
    assert!(sent.destinations.iter().all(|place| place.chars().count() == 255), "{:?}", sent.destinations);
}

// proves: N2, INV6
#[test]
fn what_is_sent_without_saying_where_goes_outside_and_what_stays_here_does_not() {
    let mut world = house();
    assert!(flow(&mut world, "web.post", r#"{"body":"hello"}"#).outward);
    assert!(flow(&mut world, "web.post", r#"{"body":"hello","url":""}"#).outward, "blank is left out");
    assert!(!flow(&mut world, "web.post", r#"{"body":"hello","url":"https://example.org/"}"#).outward);
    assert!(!flow(&mut world, "cloud.note", r#"{"text":"hello"}"#).outward, "it sends nothing anywhere");
}

// proves: N2
#[test]
fn words_can_carry_data_out_and_numbers_days_and_flags_cannot() {
    let mut world = house();
    for (value, carries) in [
        (r#""a plan""#, true),
        (r#""2026-11-22 plan""#, true),
        (r#"["12", "a plan"]"#, true),
        (r#"[["a plan"]]"#, true),
        (r#"{"a":1}"#, true),
        (r#"[{"plan":null}]"#, true),
        ("5", false),
        ("5.5", false),
        ("true", false),
        (r#""12.50""#, false),
        (r#""2026-11-22""#, false),
        (r#"["12", 13, false]"#, false),
        ("{}", false),
        ("[[]]", false),
        (r#""""#, false),
        ("null", false),
    ] {
        for name in ["body", "fact", "note"] {
            let args = format!(r#"{{"url":"https://example.org/","{name}":{value}}}"#);
            let wanted = if carries { vec![name] } else { vec![] };
            assert_eq!(names(&flow(&mut world, "web.post", &args).carries), wanted, "{args}");
        }
    }
}

// proves: N2
#[test]
fn targets_selectors_and_secrets_are_no_cargo() {
    let mut world = house();
    let args = r#"{"url":"https://example.org/","which":"the report","key":"a key","body":"a plan"}"#;
    assert_eq!(names(&flow(&mut world, "web.post", args).carries), ["body"]);
}

// proves: N2, T1
#[test]
fn words_that_the_initiator_or_the_chain_has_fixed_carry_nothing_new() {
    const MAIL: &str = r#"{"to":"ann@example.org","subject":"done","body":"done"}"#;
    let carried = |world: &mut World| flow(world, "mail.send", MAIL).carries;
    assert_eq!(names(&carried(&mut house())), ["body", "subject"]);

    let granted = to_use("mail.send").arg("body", texts(&["done"]));
    assert_eq!(names(&carried(&mut World::holding(vec![granted]))), ["subject"]);

    let args = ["to", "subject", "body"].map(|name| match name {
        "to" => (name, texts(&["ann@example.org"])),
        "subject" => (name, texts(&["done"])),
        _ => (name, bailiwick_core::constraint::Constraint::Any),
    });
    let tell = Chain { steps: vec![step("tell", "planner", "mail.send", &args)], ..Chain::default() };
    assert_eq!(names(&carried(&mut World::with_chain(tell))), ["body"]);
}

// proves: N2
#[test]
fn an_argument_that_the_manifest_does_not_know_counts_as_a_target() {
    let manifest = Manifest::new(tool("web.post"), Effect::Egress);
    let args = BTreeMap::from([("odd".to_owned(), Value::from("eve@evil.com"))]);
    let sent = Flow::of(&manifest, &args, |_| false, |_| false);
    assert_eq!((names(&sent.destinations), sent.outward, sent.carries.len()), (vec!["evil.com"], true, 0));
}
