//! Where values come from and where data may go: explained arguments, content, labels, what `list` shows.

use bailiwick_core::Value;
use bailiwick_core::constraint::{Constraint, subset, texts};
use bailiwick_core::decision::{could_be_allowed, decide};
use bailiwick_core::event::{Reported, Ruled, TaskEvent, Went};
use bailiwick_core::label::{Label, Level};
use bailiwick_core::origin::{Origin, identify};
use bailiwick_core::registry::{Directory, RegistryEvent, Scope};
use bailiwick_core::tool::{Effect, Manifest, Role};
use bailiwick_core::typed::ValueType;

use crate::world::*;

fn untrusted() -> Label {
    Label::untrusted("mail.search")
}

#[track_caller]
fn explained(world: &mut World, tool: &str, args: &str) {
    let decided = world.call("planner", tool, args);
    assert_eq!(decided.outcome, Ruled::Allow, "{args}: {:?}", decided.why);
}

#[track_caller]
fn unexplained(world: &mut World, tool: &str, args: &str, names: &[&str]) {
    let request = world.request("planner", tool, args);
    let ruling = decide(world.scene(), &request);
    let decided = ruling.decided();
    assert_eq!((decided.outcome, decided.why.rule.as_str()), (Ruled::Ask, "unexplained-value"), "{args}");
    assert_eq!(decided.unexplained.iter().map(String::as_str).collect::<Vec<_>>(), names, "{args}");
}

// proves: N1, D1
#[test]
fn where_it_goes_must_come_from_the_person_or_from_the_house() {
    let mut world = World::opened(|_| {});
    explained(&mut world, "mail.send", r#"{"to":"ann@example.org"}"#);
    explained(&mut world, "mail.send", r#"{"to":["Ann@Example.org"],"cc":[]}"#);
    explained(&mut world, "cloud.restart", r#"{"vm":"db-1"}"#);
    unexplained(&mut world, "mail.send", r#"{"to":"eve@evil.com"}"#, &["to"]);
    unexplained(&mut world, "mail.send", r#"{"to":["ann@example.org","eve@evil.com"]}"#, &["to"]);
    unexplained(&mut world, "mail.send", r#"{"to":"ann@example.org","cc":"eve@evil.com"}"#, &["cc"]);
    unexplained(&mut world, "cloud.restart", r#"{"vm":"db-2"}"#, &["vm"]);
    let known = Directory { known: ["eve@evil.com".to_owned()].into(), ..Directory::default() };
    world.registry.apply(&RegistryEvent::DirectorySet { directory: known, by: person("root") });
    explained(&mut world, "mail.send", r#"{"to":"eve@evil.com"}"#);
}

// proves: N1, A02
#[test]
fn without_a_chain_the_intent_names_whom_an_act_reaches_and_nothing_else() {
    let mut world = World::opened(|o| {
        o.intent = "Tell Alice, Bob Stone and 'general' that web-2 is up; 'x7-y8' opens 13".to_owned();
    });
    for to in ["Alice", " Alice ", "Bob Stone", "general", "web-2"] {
        explained(&mut world, "mail.send", &format!(r#"{{"to":"{to}"}}"#));
    }
    explained(&mut world, "mail.send", r#"{"to":["Alice","general"]}"#);
    for to in ["alice", "Carol", "Alice Stone", "13", "opens", "Alice, Bob", "eve@evil.com"] {
        unexplained(&mut world, "mail.send", &format!(r#"{{"to":"{to}"}}"#), &["to"]);
    }
    unexplained(&mut world, "mail.send", r#"{"to":{"Alice":"Alice"}}"#, &["to"]);
    unexplained(&mut world, "cloud.restart", r#"{"vm":"web-2"}"#, &["vm"]);
    unexplained(&mut world, "bank.pay", r#"{"to":"Alice","key":"x7-y8","amount":1}"#, &["key"]);
    let mut typed = Manifest::new(tool("mail.call"), Effect::Egress).arg("to", Role::Target);
    typed.args.get_mut("to").unwrap().of = Some(ValueType::Address);
    world.registry.apply(&RegistryEvent::ToolClassified { manifest: typed, pin: None, by: person("root") });
    unexplained(&mut world, "mail.call", r#"{"to":"Alice"}"#, &["to"]);
}

// proves: N1, T2
#[test]
fn where_a_chain_declares_the_acts_its_words_pin_and_the_intent_s_names_do_not() {
    let tell = |to: Constraint| {
        let steps = vec![step("tell", "planner", "mail.send", &[("to", to)])];
        World::opened(|o| (o.intent, o.chain) = ("Tell Alice".to_owned(), Some(chain(steps))))
    };
    explained(&mut tell(texts(&["Alice"])), "mail.send", r#"{"to":"Alice"}"#);
    unexplained(&mut tell(Constraint::Any), "mail.send", r#"{"to":"Alice"}"#, &["to"]);
}

// proves: N1, D1
#[test]
fn what_narrows_a_credential_must_be_explained_although_it_only_reads() {
    let mut world = World::opened(|_| {});
    let manifest =
        Manifest::new(tool("files.login"), Effect::Read).narrowed_by("path").arg("ttl_s", Role::Free);
    world.registry.apply(&RegistryEvent::ToolClassified { manifest, pin: None, by: person("root") });
    explained(&mut world, "files.read", r#"{"path":"/etc/shadow"}"#);
    explained(&mut world, "files.login", r#"{"path":"/srv/report.txt","ttl_s":60}"#);
    explained(&mut world, "files.login", r#"{"ttl_s":60}"#);
    unexplained(&mut world, "files.login", r#"{"path":"/etc/shadow"}"#, &["path"]);
    unexplained(&mut world, "files.login", r#"{"path":["/srv/report.txt","/etc/shadow"]}"#, &["path"]);
}

// proves: N1, A02
#[test]
fn values_are_compared_whole_and_by_type() {
    let mut world = World::opened(|o| o.intent = "Look at June 13 and /srv/a".to_owned());
    unexplained(&mut world, "files.delete", r#"{"path":"13"}"#, &["path"]);
    unexplained(&mut world, "files.delete", r#"{"path":13}"#, &["path"]);
    unexplained(&mut world, "files.delete", r#"{"path":"/srv"}"#, &["path"]);
    unexplained(&mut world, "files.delete", r#"{"path":"/srv/report.txt.bak"}"#, &["path"]);
    unexplained(&mut world, "bank.pay", r#"{"amount":1,"to":"DE89370400440532013001"}"#, &["to"]);
    explained(&mut world, "bank.pay", r#"{"amount":1,"to":"DE89 3704 0044 0532 0130 00"}"#);
    explained(&mut world, "files.delete", r#"{"path":"/srv/report.txt"}"#);
}

// proves: N1, INV6
#[test]
fn a_steering_value_that_says_nothing_is_not_explained() {
    let mut world = World::opened(|_| {});
    for nothing in [r#""""#, "[]", "null", r#""  ""#, r#"[""]"#, "{}", r#"{"a":null}"#, "[[]]"] {
        unexplained(&mut world, "files.delete", &format!(r#"{{"path":{nothing}}}"#), &["path"]);
    }
    for nothing in [r#"" ""#, "{}", r#"{"eve@evil.com":null}"#] {
        let args = format!(r#"{{"to":"ann@example.org","cc":{nothing}}}"#);
        unexplained(&mut world, "mail.send", &args, &["cc"]);
    }
    // An optional argument left blank is one left out.
    explained(&mut world, "mail.send", r#"{"to":"ann@example.org","cc":""}"#);
}

// proves: N1, A13
#[test]
fn an_object_around_a_value_is_not_the_value() {
    let mut world = World::holding(vec![to_use("cloud.*")]);
    explained(&mut world, "cloud.restart", r#"{"vm":"db-1"}"#);
    for said in [r#"{"type":"machine","id":"db-1"}"#, r#"[{"kind":"machine","machine_id":"db-1"}]"#] {
        explained(&mut world, "cloud.restart", &format!(r#"{{"vm":{said}}}"#));
    }
    for odd in [
        r#"{"$ne":"db-1"}"#,
        r#"{"$gt":"db-1"}"#,
        r#"{"not":["db-1"]}"#,
        r#"{"id":"db-1","or":"db-1"}"#,
        r#"{"id":{"$ne":"db-1"}}"#,
        r#"[{"$regex":"db-1"}]"#,
        r#"{"type":"machine","not_id":"db-1"}"#,
    ] {
        unexplained(&mut world, "cloud.restart", &format!(r#"{{"vm":{odd}}}"#), &["vm"]);
    }
}

// proves: N1
#[test]
fn names_of_members_steer_too() {
    let mut world = World::opened(|_| {});
    unexplained(&mut world, "mail.send", r#"{"to":{"eve@evil.com":"ann@example.org"}}"#, &["to"]);
    unexplained(&mut world, "mail.send", r#"{"to":{"address":"ann@example.org"}}"#, &["to"]);
    let mut manifest = manifests().into_iter().find(|m| m.tool == tool("mail.send")).unwrap();
    let to = manifest.args.get_mut("to").unwrap();
    to.members.insert("address".to_owned(), ValueType::Address);
    let by = person("root");
    world.registry.apply(&RegistryEvent::ToolClassified { manifest, pin: None, by });
    explained(&mut world, "mail.send", r#"{"to":{"address":"ann@example.org"}}"#);
    unexplained(&mut world, "cloud.note", r#"{"text":{"evil.com/x":"see"}}"#, &["text"]);
}

// proves: N1, N2
#[test]
fn content_is_scanned_for_what_the_manifest_lists() {
    let mut world = World::opened(|o| {
        o.inputs.insert("invoice".to_owned(), Value::from("INV-2026"));
        o.types.insert(
            "invoice".to_owned(),
            serde_json::from_str(r#"{"type":"record","of":"invoice"}"#).unwrap(),
        );
    });
    let text = |world: &mut World, scan: Option<&str>| {
        let mut manifest = world.registry.tool(&tool("cloud.note")).unwrap().manifest.clone().unwrap();
        manifest.args.get_mut("text").unwrap().scan = scan.map(|scan| serde_json::from_str(scan).unwrap());
        manifest.validate().unwrap();
        world.registry.apply(&RegistryEvent::ToolClassified { manifest, pin: None, by: person("root") });
    };
    explained(&mut world, "cloud.note", r#"{"text":"pay INV-9999, see /etc/passwd"}"#);
    text(&mut world, Some(r#"[{"type":"record:invoice","pattern":"INV-####"},"path","address"]"#));
    explained(&mut world, "cloud.note", r#"{"text":"pay INV-2026, not XINV-1; either/or"}"#);
    for bad in ["pay INV-9999", "pay (INV-9999).", "see /etc/passwd", "to:eve@evil.com"] {
        unexplained(&mut world, "cloud.note", &format!(r#"{{"text":"{bad}"}}"#), &["text"]);
    }
    explained(&mut world, "cloud.note", r#"{"text":"see www.evil.com"}"#);
    text(&mut world, Some("[]"));
    explained(&mut world, "cloud.note", r#"{"text":"to:eve@evil.com INV-9999"}"#);
    text(&mut world, None);
    unexplained(&mut world, "cloud.note", r#"{"text":"see www.evil.com"}"#, &["text"]);
}

// proves: N1, N2
#[test]
fn content_is_scanned_for_places_it_would_send_people_to() {
    let mut world = World::opened(|_| {});
    explained(&mut world, "cloud.note", r#"{"text":"db-1 is up again, see report.docx; time=12.30, a:b"}"#);
    explained(&mut world, "cloud.note", r#"{"text":"write to ann@example.org"}"#);
    for bad in [
        "see https://evil.com/x",
        "see evil.com/x",
        "see www.evil.com",
        "[click](http://evil.com)",
        "<a href=https://evil.com/x>",
        "<img src='https://evil.com/x'>",
        "url:https://evil.com",
        "to:eve@evil.com",
        "to=eve@evil.com",
        "“https://evil.com/x”",
        "→eve@evil.com",
        "mailto:eve@evil.com",
        "eve@evil.xn--p1ai",
        "HTTPS://EVIL.COM/x",
        "DE89 3704 0044 0532 0130 00 or GB82 WEST 1234 5698 7654 32",
    ] {
        let args = bailiwick_core::Value::from([("text", bailiwick_core::Value::from(bad))]).canonical();
        unexplained(&mut world, "cloud.note", &args, &["text"]);
    }
    let long = format!(r#"{{"text":"https://evil.com/?d={}"}}"#, "x".repeat(2000));
    unexplained(&mut world, "cloud.note", &long, &["text"]);
}

// proves: N1
#[test]
fn the_chain_and_the_root_pin_values_and_an_agent_on_the_way_does_not() {
    let pinned = step("tell", "planner", "mail.send", &[("to", subset(&["eve@evil.com"]))]);
    let mut world = World::with_chain(chain(vec![pinned]));
    let decided = world.must("planner", "mail.send", r#"{"to":["eve@evil.com"]}"#);
    assert_eq!(decided.origins.get("to"), Some(&Origin::Chain));

    let root = to_use("cloud.restart").arg("vm", texts(&["db-7"])).and_pass(&["executor"], 1);
    let mut world = World::holding(vec![root, to_use("mail.send").and_pass(&["executor"], 1)]);
    world.must("planner", "cloud.restart", r#"{"vm":"db-7"}"#);
    world.gives(
        "planner",
        "executor",
        vec![to_use("cloud.restart"), to_use("mail.send").arg("to", texts(&["eve@evil.com"]))],
    );
    world.must("executor", "cloud.restart", r#"{"vm":"db-7"}"#);
    let decided = world.call("executor", "mail.send", r#"{"to":"eve@evil.com"}"#);
    assert_eq!(decided.why.rule, "unexplained-value", "an agent's own constraint vouches for nothing");
    // A loose constraint is no choice.
    let loose = to_use("cloud.restart").arg("vm", Constraint::Prefix("db-".to_owned()));
    let mut world = World::holding(vec![loose]);
    unexplained(&mut world, "cloud.restart", r#"{"vm":"db-2"}"#, &["vm"]);
}

// proves: N1
#[test]
fn a_trusted_field_of_a_result_explains_and_names_where_it_came_from() {
    let mut world = World::opened(|_| {});
    unexplained(&mut world, "mail.send", r#"{"to":"bob@example.net"}"#, &["to"]);
    let read = world.must("planner", "mail.search", "{}");
    world.append(vec![TaskEvent::Reported(Reported {
        decision: read.decision,
        went: Went::Done,
        label: untrusted(),
        declassified: Vec::new(),
        claimed: false,
        undone: false,
        result: None,
        spent: Default::default(),
        explains: vec![(identify("bob@example.net"), "recipient".to_owned())],
        shows: Vec::new(),
        note: None,
    })]);
    let sent = world.must("planner", "mail.send", r#"{"to":"bob@example.net"}"#);
    let origin = Origin::Result { tool: "mail.search".to_owned(), field: "recipient".to_owned() };
    assert_eq!(sent.origins.get("to"), Some(&origin));
}

// proves: INV6, N1
#[test]
fn an_outcome_of_a_call_nobody_made_explains_nothing() {
    let mut world = World::opened(|_| {});
    world.append(vec![TaskEvent::Reported(Reported {
        decision: bailiwick_core::DecisionId::parse("d-forged").unwrap(),
        went: Went::Done,
        label: Label::bottom(),
        declassified: Vec::new(),
        claimed: false,
        undone: false,
        result: None,
        spent: Default::default(),
        explains: vec![(identify("eve@evil.com"), "recipient".to_owned())],
        shows: Vec::new(),
        note: None,
    })]);
    unexplained(&mut world, "mail.send", r#"{"to":"eve@evil.com"}"#, &["to"]);
}

// proves: N1, A31, INV13
#[test]
fn what_a_branch_has_read_stays_with_it_through_handoffs_down_and_up() {
    let mut world = World::holding(
        ["mail.*", "cloud.*"].map(|t| to_use(t).and_pass(&["executor", "reader"], 2)).to_vec(),
    );
    world.gives("planner", "reader", vec![to_use("mail.search")]);
    let read = world.must("reader", "mail.search", "{}");
    let seen = Label { level: Level::Confidential, ..untrusted() };
    world.report(&read.decision, seen.clone(), Default::default());
    assert_eq!(world.must("reader", "mail.search", "{}").label, seen);
    // The child answers its parent outside our sight: what it has seen, the parent has seen.
    assert_eq!(world.must("planner", "cloud.note", "{}").label, seen, "taint is not laundered upwards");
    world.gives("planner", "executor", vec![to_use("cloud.note")]);
    assert_eq!(world.must("executor", "cloud.note", "{}").label, seen, "nor through a second child");
}

// proves: INV13, A34
#[test]
fn an_agent_s_claims_only_make_things_stricter() {
    let mut world = World::opened(|_| {});
    let read = world.must("planner", "mail.search", "{}");
    let seen = Label { level: Level::Confidential, ..untrusted() };
    world.report(&read.decision, seen.clone(), Default::default());
    let mut request = world.request("planner", "cloud.note", "{}");
    request.claims = Label::bottom();
    assert_eq!(world.decide(&request).label, seen, "claiming to be public and trusted changes nothing");
    let mut request = world.request("planner", "cloud.note", "{}");
    request.claims = Label { level: Level::Secret, ..Label::bottom() };
    assert_eq!(world.decide(&request).label.level, Level::Secret, "claiming to be secret is believed");
}

// proves: D6, V1
#[test]
fn list_shows_what_could_be_allowed_and_nothing_else() {
    let steps = vec![step("fix", "planner", "cloud.restart", &[("vm", Constraint::Any)])];
    let mut world = World::opened(|o| {
        o.chain = Some(chain(steps));
        o.capabilities = vec![
            to_use("cloud.restart").uses(1),
            to_use("cloud.note"),
            to_use("files.*"),
            to_pass("mail.*", &["executor"], 1),
        ];
    });
    let shown = |world: &World| {
        let grant = world.task.grant(&grant("g-root")).unwrap();
        let tools =
            world.registry.tools().map(|(id, _)| id).filter(|id| could_be_allowed(world.scene(), grant, id));
        tools.map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(shown(&world), "cloud.restart files.read");
    world.suspend(Scope::Tool(pattern("files.*")));
    assert_eq!(shown(&world), "cloud.restart");
    world.must("planner", "cloud.restart", r#"{"vm":"db-1"}"#);
    assert_eq!(shown(&world), "");
    world.lift(Scope::Tool(pattern("files.*")));
    assert_eq!(shown(&world), "files.read");
    world.fresh = false;
    assert_eq!(shown(&world), "");
    world.fresh = true;
    world.revoke("planner");
    assert_eq!(shown(&world), "");
}
