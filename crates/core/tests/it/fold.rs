//! The fold under nonsense: any sequence of events, honest or not, folds without a panic, the same way each
//! time, and never makes anything live again. And the leaf bytes: what is written is read back, or refused.

use bailiwick_core::amendment::{Addition, Amended, Proposed};
use bailiwick_core::approval::{State, Vote};
use bailiwick_core::capability::Spent;
use bailiwick_core::decision::{could_be_allowed, decide};
use bailiwick_core::event::{
    Asked, Cause, Charge, Decided, FORMAT, HandedOff, NewGrant, Recorded, Reported, Ruled, TaskEvent, Went,
    Why,
};
use bailiwick_core::label::Label;
use bailiwick_core::lease::{Evidence, Intent, LeaseFact, Look, Revocability};
use bailiwick_core::origin::{Origin, identify};
use bailiwick_core::registry::{Registry, RegistryEvent, Scope};
use bailiwick_core::task::Task;
use bailiwick_core::tool::Effect;
use bailiwick_core::{
    AgentClass, ApprovalId, DecisionId, Digest, GrantId, LeaseId, StepId, SystemId, TaskId, Time, Value,
};
use proptest::prelude::*;

use crate::world::*;

fn pick<T: Clone + std::fmt::Debug + 'static>(all: &[T]) -> impl Strategy<Value = T> + use<T> {
    prop::sample::select(all.to_vec())
}

fn some_grant() -> impl Strategy<Value = GrantId> {
    pick(&["g-root", "g-a", "g-b", "g-c", "g-ghost"].map(grant))
}
fn some_agent() -> impl Strategy<Value = bailiwick_core::AgentId> {
    pick(&["planner", "executor", "reader", "stranger"].map(agent))
}
fn some_approval() -> impl Strategy<Value = ApprovalId> {
    pick(&["ap-a", "ap-b"].map(|a| ApprovalId::parse(a).unwrap()))
}
fn some_decision() -> impl Strategy<Value = DecisionId> {
    pick(&["d-a", "d-b", "d-c"].map(|d| DecisionId::parse(d).unwrap()))
}
fn some_tool() -> impl Strategy<Value = bailiwick_core::ToolId> {
    pick(&["cloud.restart", "mail.search", "mail.send", "bank.pay", "cloud.unheard"].map(tool))
}
fn some_args() -> impl Strategy<Value = Value> {
    pick(&[
        json("{}"),
        json(r#"{"vm":"db-1"}"#),
        json(r#"{"to":"eve@evil.com","amount":-3}"#),
        json("[1,null]"),
    ])
}
fn some_label() -> impl Strategy<Value = Label> {
    pick(&[Label::bottom(), Label::untrusted("mail.search")])
}
fn some_time() -> impl Strategy<Value = Time> {
    prop_oneof![Just(0), Just(NOON.0), Just(EVENING.0), Just(u64::MAX), 900_000u64..6_000_000].prop_map(Time)
}
fn some_proof() -> impl Strategy<Value = Option<(Digest, Time)>> {
    prop::option::of((pick(&[Digest::of(b"1"), Digest::of(b"2")]), some_time()))
}
fn some_spent() -> impl Strategy<Value = Spent> {
    let n = || prop_oneof![Just(0u64), Just(1), Just(u64::MAX)];
    (n(), n(), n(), n()).prop_map(|(uses, amount, bytes, rows)| Spent { uses, amount, bytes, rows })
}
fn some_outcome() -> impl Strategy<Value = Ruled> {
    pick(&[Ruled::Allow, Ruled::Ask, Ruled::Deny])
}
fn some_why() -> impl Strategy<Value = Why> {
    (0u8..12).prop_map(|step| Why {
        step,
        code: "x".to_owned(),
        rule: "y".to_owned(),
        reason: "z".to_owned(),
        remedy: String::new(),
    })
}
fn some_step() -> impl Strategy<Value = Option<StepId>> {
    prop::option::of(pick(&["fix", "tell", "ghost"].map(|s| StepId::parse(s).unwrap())))
}

prop_compose! {
    fn some_decided()(
        decision in some_decision(), grant in some_grant(), agent in some_agent(), tool in some_tool(),
        args in some_args(), outcome in some_outcome(), why in some_why(), chain_step in some_step(),
        asked in prop::option::of((some_approval(), some_time())), approval in prop::option::of(some_approval()),
        charge in prop::option::of((0u16..4, some_spent())), proof in some_proof(),
    ) -> Decided {
        Decided {
            decision, grant, agent, instance: "k".to_owned(), tool, args, effect: None, outcome, why, chain_step,
            label: Label::bottom(),
            declassified: Vec::new(),
            origins: [("to".to_owned(), Origin::Result { tool: "a.b".to_owned(), field: "c".to_owned() })].into(),
            unexplained: ["cc".to_owned()].into(),
            observed: None, sources: Vec::new(),
            policy: Digest::of(b"policy one"), epoch: 3,
            asked: asked.map(|(approval, until)| {
                Asked { approval, act: Digest::of(b"act"), terms: terms(), until }
            }),
            approval,
            charge: charge.map(|(capability, spent)| Charge { capability, spent }),
            proof, says: Some("trust me".to_owned()),
        }
    }
}

prop_compose! {
    fn some_handoff()(
        decision in some_decision(), parent in some_grant(), from in some_agent(), to in some_agent(),
        outcome in some_outcome(), why in some_why(), chain_step in some_step(), proof in some_proof(),
        grant in prop::option::of((some_grant(), prop::collection::vec(0u16..5, 0..3), some_time(), some_label())),
    ) -> HandedOff {
        let capability = || to_use("cloud.*").and_pass(&["executor", "reader"], 3);
        HandedOff {
            decision, parent, from, to, outcome, why,
            grant: grant.map(|(grant, places, until, label)| NewGrant {
                grant, capabilities: places.into_iter().map(|p| (capability(), p)).collect(), until, label,
            }),
            asked: vec![capability()], chain_step, delivered: json(r#"{"a":[1,"b"]}"#),
            stripped: ["c".to_owned()].into(), observed: None, sources: Vec::new(), policy: Digest::of(b"p"), epoch: 9, proof,
        }
    }
}

prop_compose! {
    fn some_proposal()(
        decision in some_decision(), grant in some_grant(), agent in some_agent(), tool in some_tool(),
        outcome in some_outcome(), why in some_why(), proof in some_proof(), place in prop::option::of(0u16..5),
        asked in prop::option::of((some_approval(), some_time())), approval in prop::option::of(some_approval()),
    ) -> Proposed {
        let new = step("new", "planner", "mail.send", &[]);
        Proposed {
            decision, grant, agent, instance: "k".to_owned(), steps: vec![new.clone()],
            adds: vec![Addition {
                step: new.id, tool, effect: Effect::Egress, reversible: false, args: Default::default(), times: 1,
                until_now: "no step".to_owned(), gains: Some((to_use("mail.send"), place)),
                unexplained: ["to".to_owned()].into(),
            }],
            outcome, why,
            asked: asked.map(|(approval, until)| {
                Asked { approval, act: Digest::of(b"act"), terms: terms(), until }
            }),
            approval, policy: Digest::of(b"p"), epoch: 9, proof, says: None,
        }
    }
}

pub(crate) fn some_event() -> impl Strategy<Value = TaskEvent> {
    let lease = || pick(&["l-a", "l-b"].map(|l| LeaseId::parse(l).unwrap()));
    let text = || pick(&["erin".to_owned(), "so it goes".to_owned()]);
    let someone = || pick(&["erin", "dana", "robot", "nobody"].map(person));
    let vote = prop_oneof![
        Just(Vote::Approve),
        some_args().prop_map(|args| Vote::Narrow { act: args.digest(), args }),
        text().prop_map(|reason| Vote::Deny { reason }),
    ];
    let cause = pick(&[
        Cause::Completed,
        Cause::Failed,
        Cause::Expired,
        Cause::Deviation,
        Cause::Budget,
        Cause::Changed,
        Cause::Killed,
    ]);
    let fact = prop_oneof![
        text().prop_map(|external| LeaseFact::Created { external, effective: Digest::of(b"e") }),
        Just(LeaseFact::Active),
        text().prop_map(|why| LeaseFact::Revoking { why }),
        (text(), 0usize..3).prop_map(|(answer, looks)| LeaseFact::Gone { evidence: looked(answer, looks) }),
    ];
    prop_oneof![
        1 => Just(TaskEvent::Opened(opening())),
        6 => some_decided().prop_map(TaskEvent::Decided),
        4 => (some_decision(), some_label(), some_spent(), pick(&[Went::Done, Went::Failed, Went::Unknown]))
            .prop_map(|(decision, label, spent, went)| TaskEvent::Reported(Reported {
                decision, went, label, declassified: Vec::new(), claimed: false, undone: went == Went::Failed, result: Some(Digest::of(b"r")), spent,
                explains: vec![(identify("eve@evil.com"), "from".to_owned())], shows: Vec::new(), note: Some("n".to_owned()),
            })),
        6 => some_handoff().prop_map(TaskEvent::HandedOff),
        1 => (some_grant(), some_time(), some_proof()).prop_map(|(grant, until, proof)| TaskEvent::TokenMinted {
            grant, jti: "j".to_owned(), instance: "k".to_owned(), until, hash: Digest::of(b"t"), proof,
        }),
        4 => (some_approval(), someone(), vote)
            .prop_map(|(approval, by, vote)| TaskEvent::Voted { approval, by, vote }),
        2 => (some_grant(), text(), text())
            .prop_map(|(grant, by, reason)| TaskEvent::GrantRevoked { grant, by, reason }),
        1 => (text(), text()).prop_map(|(by, reason)| TaskEvent::Frozen { by, reason }),
        2 => (someone(), text()).prop_map(|(by, reason)| TaskEvent::Resumed { by, reason }),
        1 => (cause, text(), text()).prop_map(|(cause, by, reason)| TaskEvent::Ended { cause, by, reason }),
        1 => (lease(), some_grant()).prop_map(|(lease, grant)| TaskEvent::LeaseRequested(intent(lease, grant))),
        2 => some_proposal().prop_map(TaskEvent::AmendmentProposed),
        2 => (some_approval(), some_grant()).prop_map(|(approval, grant)| {
            let steps = vec![step("new", "planner", "mail.send", &[])];
            TaskEvent::Amended(Amended { approval, grant, steps, by: [person("erin")].into() })
        }),
        2 => (lease(), fact).prop_map(|(lease, fact)| TaskEvent::Lease { lease, fact }),
    ]
}

fn looked(answer: String, times: usize) -> Evidence {
    let look = Look { at: NOON, query: "who".to_owned(), answer };
    Evidence { looks: vec![look; times], ..Evidence::default() }
}

fn intent(lease: LeaseId, grant: GrantId) -> Intent {
    Intent {
        name: format!("bw_test_{lease}"),
        lease,
        grant,
        agent: agent("support"),
        decision: DecisionId::parse("d-1").unwrap(),
        system: SystemId::parse("db").unwrap(),
        tool: tool("db.read"),
        args: Default::default(),
        until: NOON,
        class: Revocability::B,
        plan: Digest::of(b"plan"),
    }
}

fn some_log() -> impl Strategy<Value = Vec<(TaskEvent, Time)>> {
    prop::collection::vec((some_event(), some_time()), 0..40)
}

fn folded(log: &[(TaskEvent, Time)]) -> Task {
    let first = (TaskEvent::Opened(opening()), NOON);
    Task::fold(std::iter::once(&first).chain(log).map(|(event, at)| (event, *at))).unwrap()
}

/// What can never be undone, as a fold shows it.
fn settled(task: &Task) -> (bool, Vec<String>) {
    let mut facts: Vec<String> =
        task.grants().filter(|g| g.revoked).map(|g| format!("revoked {}", g.id)).collect();
    facts.extend(task.grants().map(|g| format!("{} hangs under {:?}", g.id, g.parent)));
    let answered = |state: &State| matches!(state, State::Used { .. } | State::Denied { .. });
    facts.extend(task.approvals().filter(|a| answered(&a.state)).map(|a| format!("{} {:?}", a.id, a.state)));
    facts.extend(task.leases().filter(|l| !l.is_standing()).map(|l| format!("{} gone", l.id())));
    (task.has_ended(), facts)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    // proves: INV5
    #[test]
    fn any_sequence_folds_the_same_way_in_one_go_or_in_two(log in some_log(), cut in 0usize..40) {
        let whole = folded(&log);
        let (head, tail) = log.split_at(cut.min(log.len()));
        let mut twice = folded(head);
        tail.iter().for_each(|(event, at)| twice.apply(event, *at));
        prop_assert_eq!(format!("{whole:?}"), format!("{twice:?}"));
        prop_assert_eq!(whole.version(), log.len() as u64 + 1);
    }

    // proves: INV2, INV3, INV4
    #[test]
    fn nothing_that_is_over_comes_back(log in some_log()) {
        let mut task = folded(&[]);
        for (event, at) in &log {
            let (ended, before) = settled(&task);
            task.apply(event, *at);
            let (still, after) = settled(&task);
            prop_assert!(!ended || still, "{event:?} revived an ended task");
            for fact in before {
                prop_assert!(after.contains(&fact), "{event:?} undid: {fact}");
            }
        }
    }

    // proves: A06, INV6
    #[test]
    fn the_tree_is_a_tree_and_every_question_about_it_has_an_end(log in some_log(), now in some_time()) {
        let task = folded(&log);
        let all = task.grants().count();
        for grant in task.grants() {
            let line: Vec<_> = task.lineage(grant).collect();
            prop_assert!(line.len() <= all);
            prop_assert_eq!(line.len(), usize::from(grant.depth) + 1);
            prop_assert_eq!(line.last().map(|g| g.id.as_str()), Some("g-root"));
            task.is_live(&grant.id, now);
        }
    }

    // proves: INV2, INV6, D6
    #[test]
    fn whatever_was_folded_a_decision_comes_out_and_what_it_allows_is_listed(
        log in some_log(), now in some_time(), who in some_agent(), name in some_tool(), args in some_args(),
        holder in some_grant(), handle in prop::option::of(some_approval()),
    ) {
        let mut world = World::opened(|_| {});
        log.iter().for_each(|(event, at)| world.task.apply(event, *at));
        world.now = now;
        let mut request = world.request(who.as_str(), name.as_str(), &args.canonical());
        (request.grant, request.approval) = (holder.clone(), handle);
        let ruling = decide(world.scene(), &request);
        if ruling.decided().outcome == Ruled::Allow {
            prop_assert!(!world.task.has_ended());
            prop_assert!(world.task.is_live(&holder, now.max(world.task.newest())));
            let held = world.task.grant(&holder).unwrap();
            prop_assert!(could_be_allowed(world.scene(), held, &name), "allowed but not listed: {name}");
        }
    }

    // proves: INV8
    #[test]
    fn every_event_is_read_back_as_it_was_written(event in some_event(), at in any::<u64>(), time in some_time()) {
        let recorded = Recorded { v: FORMAT, stream: "acme/task/t-1".to_owned(), at, time, event };
        let bytes = recorded.encode().unwrap();
        let back = Recorded::<TaskEvent>::decode(&bytes).unwrap();
        prop_assert_eq!(&back, &recorded);
        prop_assert_eq!(back.encode().unwrap(), bytes, "same event, same bytes");
    }

    // proves: INV6
    #[test]
    fn an_event_with_anything_unknown_in_it_is_refused(event in some_event()) {
        let recorded = Recorded { v: FORMAT, stream: "acme/task/t-1".to_owned(), at: 1, time: NOON, event };
        refuses_additions::<TaskEvent>(&recorded.encode().unwrap());
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(Recorded::<TaskEvent>::decode(&bytes).is_err());
    }
}

/// Members that hold data of others: there a new member is data too, and not for us to refuse.
const DATA: [&str; 9] =
    ["args", "delivered", "inputs", "definition", "exact", "one_of", "known", "origins", "min"];

/// Puts an unknown member into every object of the leaf, one at a time: each must be refused.
fn refuses_additions<E: serde::Serialize + serde::de::DeserializeOwned>(bytes: &[u8]) {
    let leaf: serde_json::Value = serde_json::from_slice(bytes).unwrap();
    let mut places = Vec::new();
    objects(&leaf, &mut String::new(), &mut places);
    for place in places {
        let mut changed = leaf.clone();
        let object = changed.pointer_mut(&place).and_then(serde_json::Value::as_object_mut).unwrap();
        object.insert("unheard_of".to_owned(), serde_json::Value::from(1));
        let text = serde_json::to_vec(&changed).unwrap();
        assert!(
            Recorded::<E>::decode(&text).is_err(),
            "an unknown member at `{place}` was skipped: {}",
            String::from_utf8_lossy(&text)
        );
    }
}

fn objects(value: &serde_json::Value, path: &mut String, out: &mut Vec<String>) {
    let mut go_on = |name: &str, inner: &serde_json::Value, path: &mut String| {
        let length = path.len();
        path.push('/');
        path.push_str(name);
        objects(inner, path, out);
        path.truncate(length);
    };
    match value {
        serde_json::Value::Object(members) => {
            for (name, inner) in members.iter().filter(|(name, _)| !DATA.contains(&name.as_str())) {
                go_on(name, inner, path);
            }
            // A variant with nothing but its tag has nothing that an unknown member could change.
            if members.len() > 1 {
                out.push(path.clone());
            }
        }
        serde_json::Value::Array(items) => {
            items.iter().enumerate().for_each(|(i, inner)| go_on(&i.to_string(), inner, path));
        }
        _ => {}
    }
}

fn registry_events() -> Vec<RegistryEvent> {
    let by = person("root");
    let planner = registry().agent(&agent("planner")).unwrap().clone();
    let dana = registry().person(&person("dana")).unwrap().clone();
    let suspension = bailiwick_core::registry::Suspension {
        halt: bailiwick_core::registry::Halt::Killed,
        by: by.clone(),
        reason: "r".to_owned(),
        at: NOON,
    };
    let scopes = [
        Scope::Agent(agent("planner")),
        Scope::Class(AgentClass::parse("workers").unwrap()),
        Scope::Task(TaskId::parse("t-1").unwrap()),
        Scope::Initiator(by.clone()),
        Scope::Tool(pattern("cloud.*")),
        Scope::All,
    ];
    let mut events = vec![
        RegistryEvent::Founded,
        RegistryEvent::AgentSet { agent: planner, by: by.clone() },
        RegistryEvent::AgentRetired { agent: agent("planner"), by: by.clone() },
        RegistryEvent::PersonSet { person: dana, by: by.clone() },
        RegistryEvent::ToolSeen {
            tool: tool("a.b"),
            digest: Digest::of(b"d"),
            definition: json(r#"{"x":1}"#),
        },
        RegistryEvent::DirectorySet { directory: Default::default(), by: by.clone() },
        RegistryEvent::PolicySet { version: Digest::of(b"v"), text: "permit".to_owned(), by: by.clone() },
    ];
    for manifest in manifests() {
        events.push(RegistryEvent::ToolClassified { manifest, pin: Some(Digest::of(b"d")), by: by.clone() });
    }
    for target in scopes {
        events.push(RegistryEvent::Suspended { target: target.clone(), suspension: suspension.clone() });
        events.push(RegistryEvent::Lifted { target, by: by.clone(), reason: "r".to_owned() });
    }
    events
}

// proves: INV6, INV8
#[test]
fn registry_events_are_read_back_or_refused_too() {
    for event in registry_events() {
        let recorded = Recorded { v: FORMAT, stream: "acme/registry".to_owned(), at: 1, time: NOON, event };
        let bytes = recorded.encode().unwrap();
        let back = Recorded::<RegistryEvent>::decode(&bytes).unwrap();
        assert_eq!((&back, back.encode().unwrap()), (&recorded, bytes.clone()));
        if recorded.event != RegistryEvent::Founded {
            refuses_additions::<RegistryEvent>(&bytes);
        }
        assert!(Recorded::<TaskEvent>::decode(&bytes).is_err(), "a registry event is no task event");
    }
}

// proves: INV6
#[test]
fn another_format_or_a_torn_leaf_is_refused() {
    let frozen = TaskEvent::Frozen { by: "erin".to_owned(), reason: "r".to_owned() };
    let good = Recorded { v: FORMAT, stream: "s".to_owned(), at: 1, time: NOON, event: frozen };
    let bytes = good.encode().unwrap();
    assert!(Recorded::<TaskEvent>::decode(&bytes).is_ok());
    let other = Recorded { v: FORMAT + 1, ..good };
    assert!(Recorded::<TaskEvent>::decode(&other.encode().unwrap()).is_err());
    for cut in 0..bytes.len() {
        assert!(Recorded::<TaskEvent>::decode(&bytes[..cut]).is_err(), "cut at {cut}");
    }
    let text = String::from_utf8(bytes).unwrap();
    for (from, to) in [
        (r#""event":"frozen""#, r#""event":"thawed""#),
        (r#""at":1"#, r#""at":1,"at":2"#),
        (r#""by":"erin""#, r#""by":"erin","by":"eve""#),
        (r#""by":"erin","#, ""),
        (r#""at":1"#, r#""at":-1"#),
        ("}", "} "),
    ] {
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text);
        let read = Recorded::<TaskEvent>::decode(changed.as_bytes());
        assert!(read.is_err() || changed.trim() == text, "{changed}");
    }
}

// proves: INV6
#[test]
fn a_stream_that_does_not_begin_with_an_opening_is_no_task() {
    let frozen = TaskEvent::Frozen { by: "erin".to_owned(), reason: "r".to_owned() };
    assert!(Task::fold([(&frozen, NOON)]).is_none());
    assert!(Task::fold([]).is_none());
}

// proves: INV5
#[test]
fn a_registry_of_the_same_facts_in_another_order_decides_in_the_same_bytes() {
    let build = |reverse: bool| {
        let mut events: Vec<RegistryEvent> = manifests()
            .into_iter()
            .map(|manifest| RegistryEvent::ToolClassified { manifest, pin: None, by: person("root") })
            .collect();
        let made = registry();
        events
            .extend(made.agents().map(|a| RegistryEvent::AgentSet { agent: a.clone(), by: person("root") }));
        events.extend(
            made.people().map(|p| RegistryEvent::PersonSet { person: p.clone(), by: person("root") }),
        );
        if reverse {
            events.reverse();
        }
        let mut registry = Registry::default();
        events.iter().for_each(|e| registry.apply(e));
        registry
    };
    let bytes = |reverse: bool| {
        let mut world = World::opened(|_| {});
        world.registry = build(reverse);
        for (name, args) in [
            ("cloud.restart", r#"{"vm":"db-1"}"#),
            ("mail.send", r#"{"cc":["x@y.org"],"to":["ann@example.org","eve@evil.com"]}"#),
            ("iam.grant", "{}"),
            ("bank.pay", r#"{"amount":1.5,"key":"k","to":"DE89370400440532013000"}"#),
        ] {
            world.call("planner", name, args);
        }
        world
            .log
            .iter()
            .map(|(event, time)| {
                let recorded =
                    Recorded { v: FORMAT, stream: "s".to_owned(), at: 0, time: *time, event: event.clone() };
                recorded.encode().unwrap()
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(bytes(false), bytes(true));
}
