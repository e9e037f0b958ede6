//! The ten steps: each refuses with its number and code, and the first that fails is the one that answers.

use bailiwick_core::agent::{Agent, Person};
use bailiwick_core::capability::Limits;
use bailiwick_core::constraint::{Constraint, texts};
use bailiwick_core::decision::{Outcome, START_WITHIN_MS, decide, refused_at_the_door};
use bailiwick_core::event::{Ruled, TaskEvent};
use bailiwick_core::label::{Label, Level};
use bailiwick_core::registry::{RegistryEvent, Scope};
use bailiwick_core::tool::{Effect, Manifest, Role};
use bailiwick_core::{Digest, Time, Value};

use crate::world::*;

const RESTART: &str = r#"{"vm":"db-1"}"#;

// proves: D1, T1
#[test]
fn a_call_inside_everything_is_allowed_once_it_is_in_the_log() {
    let mut world = World::opened(|_| {});
    let request = world.request("planner", "cloud.restart", RESTART);
    let ruling = decide(world.scene(), &request);
    let (decided, outcome) = world.commit(ruling);
    check(&decided, Ruled::Allow, 10, "allowed");
    let Outcome::Allow(permit) = outcome else { panic!("no permit") };
    assert_eq!(permit.args().canonical(), RESTART);
    assert_eq!(permit.until(), NOON.plus_ms(START_WITHIN_MS));
    assert!(world.task.open_calls().contains_key(permit.decision()));
}

// proves: INV7
#[test]
fn an_append_that_failed_gives_nothing() {
    let mut world = World::opened(|_| {});
    let request = world.request("planner", "cloud.restart", RESTART);
    let ruling = decide(world.scene(), &request);
    let outcome = at_once(ruling.commit(async |_, _| Err::<(), _>("disk full")));
    assert_eq!(outcome.err(), Some("disk full"));
}

// proves: INV10
#[test]
fn a_ruling_says_itself_where_it_may_be_appended() {
    let mut world = World::opened(|_| {});
    let request = world.request("planner", "cloud.restart", RESTART);
    let late = decide(world.scene(), &request);
    let read = world.scene().judged_at();
    world.must("planner", "cloud.restart", RESTART);
    world.registry.apply(&RegistryEvent::AgentRetired { agent: agent("reader"), by: person("root") });
    let there = world.scene().judged_at();
    assert!(there.task > read.task && there.registry > read.registry);

    // Whoever holds it cannot pass it off as one that was judged now.
    assert_eq!(late.judged_at(), read);
    let outcome = at_once(late.commit(async |at, _| (at == there).then_some(()).ok_or(at)));
    assert_eq!(outcome.err(), Some(read));
}

// proves: I3, D6
#[test]
fn step_1_the_caller_is_who_the_token_says() {
    let mut world = World::opened(|_| {});
    let good = world.request("planner", "cloud.restart", RESTART);
    let mut refuse = |change: &dyn Fn(&mut bailiwick_core::decision::Request), code: &str| {
        let mut request = good.clone();
        change(&mut request);
        check(&world.decide(&request), Ruled::Deny, 1, code);
    };
    refuse(&|r| r.grant = grant("g-other"), "caller.unknown_grant");
    refuse(&|r| (r.agent, r.instance) = (agent("executor"), key("executor")), "caller.not_holder");
    refuse(&|r| r.instance = key("executor"), "caller.key");
    refuse(&|r| r.instance = String::new(), "caller.key");
    refuse(&|r| r.token_until = NOON, "caller.expired");
    world.must("planner", "cloud.restart", RESTART);
    world.registry.apply(&RegistryEvent::AgentRetired { agent: agent("planner"), by: person("root") });
    world.refused("planner", "cloud.restart", RESTART, 1, "caller.unknown_agent");
}

// proves: I3
#[test]
fn step_1_a_proof_of_possession_works_once_whatever_came_of_it() {
    let mut world = World::opened(|_| {});
    let proof = Some((Digest::of(b"one"), NOON.plus_ms(60_000)));
    let mut first = world.request("planner", "iam.grant", "{}");
    first.proof = proof;
    check(&world.decide(&first), Ruled::Deny, 5, "capability.none");
    let mut second = world.request("planner", "cloud.restart", RESTART);
    second.proof = proof;
    check(&world.decide(&second), Ruled::Deny, 1, "caller.replayed");
    second.proof = Some((Digest::of(b"two"), NOON.plus_ms(60_000)));
    check(&world.decide(&second), Ruled::Allow, 10, "allowed");
}

// proves: R4, INV6
#[test]
fn step_2_a_node_that_lost_touch_allows_nothing() {
    let mut world = World::opened(|_| {});
    world.fresh = false;
    world.refused("planner", "cloud.restart", RESTART, 2, "control.stale");
    world.refused("planner", "mail.search", "{}", 2, "control.stale");
    world.fresh = true;
    world.must("planner", "cloud.restart", RESTART);
}

// proves: Z3, INV11
#[test]
fn step_3_the_window_closes_and_stays_closed() {
    let mut world = World::opened(|_| {});
    world.now = Time(EVENING.0 - 1);
    world.must("planner", "cloud.restart", RESTART);
    world.now = EVENING;
    world.refused("planner", "cloud.restart", RESTART, 3, "task.window");
}

// proves: D3, A39
#[test]
fn step_4_a_tool_nobody_classified_or_that_has_changed_is_shut() {
    let mut world = World::opened(|_| {});
    let by = person("root");
    world.refused("planner", "cloud.unheard", "{}", 4, "tool.unclassified");
    let definition = Value::from([("description", Value::from("wipes"))]);
    let seen = |text: &str| RegistryEvent::ToolSeen {
        tool: tool("cloud.wipe"),
        digest: Digest::of(text.as_bytes()),
        definition: definition.clone(),
    };
    world.registry.apply(&seen("v1"));
    world.refused("planner", "cloud.wipe", "{}", 4, "tool.unclassified");
    let mut manifest = Manifest::new(tool("cloud.wipe"), Effect::Update);
    manifest.reversible = true;
    let pin = Some(Digest::of(b"v1"));
    world.registry.apply(&RegistryEvent::ToolClassified { manifest, pin, by });
    world.must("planner", "cloud.wipe", "{}");
    let mut request = world.request("planner", "cloud.wipe", "{}");
    request.definition = Some(Digest::of(b"v2"));
    check(&world.decide(&request), Ruled::Deny, 4, "tool.quarantined");
    request.definition = pin;
    check(&world.decide(&request), Ruled::Allow, 10, "allowed");
    world.registry.apply(&seen("v2"));
    world.refused("planner", "cloud.wipe", "{}", 4, "tool.quarantined");
}

// proves: D3, A39
#[test]
fn step_4_a_classification_of_an_older_definition_opens_nothing() {
    let mut world = World::opened(|_| {});
    let seen = |text: &str| RegistryEvent::ToolSeen {
        tool: tool("cloud.wipe"),
        digest: Digest::of(text.as_bytes()),
        definition: Value::empty(),
    };
    world.registry.apply(&seen("v1"));
    world.registry.apply(&seen("v2"));
    let manifest = Manifest::new(tool("cloud.wipe"), Effect::Read);
    let pin = Some(Digest::of(b"v1"));
    world.registry.apply(&RegistryEvent::ToolClassified { manifest, pin, by: person("root") });
    world.refused("planner", "cloud.wipe", "{}", 4, "tool.quarantined");
    world.registry.apply(&seen("v1"));
    world.must("planner", "cloud.wipe", "{}");
}

// proves: A76
#[test]
fn a_tool_that_is_absent_and_one_that_is_unclassified_are_refused_in_the_same_words() {
    let mut world = World::opened(|_| {});
    let absent = world.call("planner", "cloud.wipe", "{}").why;
    world.registry.apply(&RegistryEvent::ToolSeen {
        tool: tool("cloud.wipe"),
        digest: Digest::of(b"v1"),
        definition: Value::empty(),
    });
    assert_eq!(world.call("planner", "cloud.wipe", "{}").why, absent);
}

// proves: Z4, T3, A28
#[test]
fn step_5_only_what_was_granted_with_the_arguments_that_were_granted() {
    let restart = to_use("cloud.restart").arg("vm", texts(&["db-1", "db-2"]));
    let mut world = World::holding(vec![restart, to_pass("mail.*", &["executor"], 1)]);
    world.must("planner", "cloud.restart", RESTART);
    world.refused("planner", "cloud.restart", r#"{"vm":"db-3"}"#, 5, "capability.argument");
    world.refused("planner", "cloud.restart", "{}", 5, "capability.argument");
    world.refused("planner", "cloud.restart", r#"{"vm":["db-1"]}"#, 5, "capability.argument");
    world.refused(
        "planner",
        "cloud.restart",
        r#"{"vm":"db-1","why":"x"}"#,
        5,
        "capability.undeclared_argument",
    );
    world.refused("planner", "cloud.restart", r#"["db-1"]"#, 5, "capability.arguments");
    world.refused("planner", "cloud.restart", "null", 5, "capability.arguments");
    world.refused("planner", "files.delete", "{}", 5, "capability.missing_argument");
    world.refused("planner", "files.read", r#"{"path":"/etc"}"#, 5, "capability.none");
    // A right to hand on is no right to use.
    world.refused("planner", "mail.search", "{}", 5, "capability.none");
}

// proves: T3, D6
#[test]
fn step_5_an_odd_argument_name_is_not_echoed_raw() {
    let mut world = World::opened(|_| {});
    let decided = world.refused(
        "planner",
        "cloud.restart",
        "{\"\\u001b[31m\\u202e\":1}",
        5,
        "capability.undeclared_argument",
    );
    assert!(decided.why.reason.is_ascii(), "{}", decided.why.reason);
}

// proves: T3, T4
#[test]
fn step_6_the_intent_counts_and_not_only_the_permission() {
    let mut world =
        World::with_chain(chain(vec![step("fix", "planner", "cloud.restart", &[("vm", texts(&["db-1"]))])]));
    world.refused("planner", "files.delete", r#"{"path":"/srv/report.txt"}"#, 6, "chain.not_declared");
    world.refused("planner", "cloud.restart", r#"{"vm":"db-2"}"#, 6, "chain.argument");
    world.must("planner", "cloud.restart", RESTART);
    // Reads inside the grant stay open.
    world.must("planner", "files.read", r#"{"path":"/srv"}"#);
}

// proves: N2, D1
#[test]
fn step_7_data_does_not_leave_through_a_sink_that_is_not_cleared_for_it() {
    let mut world = World::opened(|_| {});
    let sink = Some(Label { level: Level::Internal, ..Label::bottom() });
    let manifest = Manifest { sink, reversible: true, ..Manifest::new(tool("cloud.post"), Effect::Create) };
    world.registry.apply(&RegistryEvent::ToolClassified { manifest, pin: None, by: person("root") });
    world.must("planner", "cloud.post", "{}");
    let read = world.must("planner", "files.read", "{}");
    world.report(&read.decision, Label { level: Level::Confidential, ..Label::bottom() }, Default::default());
    world.refused("planner", "cloud.post", "{}", 7, "data.flow");
}

// proves: A75, D6, INV6
#[test]
fn step_8_a_forbid_forbids_and_an_error_forbids_too() {
    let mut world = World::opened(|_| {});
    world.answer("cloud.restart", Answer::Forbid);
    let decided = world.refused("planner", "cloud.restart", RESTART, 8, "policy.forbid");
    assert_eq!(decided.why.rule, "forbid-cloud.restart");
    world.answer("cloud.restart", Answer::Error);
    world.refused("planner", "cloud.restart", RESTART, 8, "policy.error");
    world.answer("cloud.restart", Answer::Permit);
    world.must("planner", "cloud.restart", RESTART);
}

// proves: A5
#[test]
fn step_8_nobody_is_asked_for_what_a_yes_cannot_change() {
    let mut world = World::opened(|_| {});
    world.answer("cloud.restart", Answer::AskInVain(terms()));
    let decided = world.refused("planner", "cloud.restart", RESTART, 8, "policy.forbid");
    assert_eq!(decided.why.rule, "hard");
    assert_eq!(world.task.asks(), 0);
    world.answer("cloud.restart", Answer::Ask(terms()));
    world.asks("planner", "cloud.restart", RESTART);
}

// proves: A5
#[test]
fn nobody_is_asked_for_a_call_whose_budget_is_spent() {
    let mut world = World::holding(vec![to_use("cloud.restart").uses(1)]);
    world.must("planner", "cloud.restart", RESTART);
    world.answer("cloud.restart", Answer::Ask(terms()));
    world.refused("planner", "cloud.restart", RESTART, 10, "budget.spent");
    assert_eq!(world.task.asks(), 0);
}

/// What is wrong with a call, in the order of the steps.
type Fault = (u8, &'static str, fn(&mut World, &mut bailiwick_core::decision::Request));

const FAULTS: [Fault; 12] = [
    (1, "caller.key", |_, r| r.instance = "stolen".to_owned()),
    (2, "control.stale", |w, _| w.fresh = false),
    (2, "control.suspended", |w, _| w.suspend(Scope::Agent(agent("planner")))),
    (3, "task.frozen", |w, _| {
        w.append(vec![TaskEvent::Frozen { by: "erin".to_owned(), reason: "wait".to_owned() }]);
    }),
    (4, "tool.quarantined", |_, r| r.definition = Some(Digest::of(b"other"))),
    (5, "capability.argument", |_, r| r.args = json(r#"{"vm":"db-9"}"#)),
    (6, "chain.count", |w, _| {
        w.registry = registry();
        let fresh = w.fresh;
        w.fresh = true;
        w.must("planner", "cloud.restart", RESTART);
        w.fresh = fresh;
    }),
    (7, "data.flow", |_, r| r.claims.level = Level::Secret),
    (8, "policy.forbid", |w, _| {
        w.answer("cloud.restart", Answer::Forbid);
    }),
    (9, "approval.unknown", |_, r| r.approval = Some(bailiwick_core::ApprovalId::parse("ap-none").unwrap())),
    (10, "budget.spent", |w, _| {
        w.now = Time(4_000_000);
    }),
    (0, "allowed", |_, _| {}),
];

fn faulty(faults: &[&Fault]) -> (u8, String) {
    let step = times(step("fix", "planner", "cloud.restart", &[("vm", Constraint::Any)]), 0, 1);
    let mut world = World::opened(|o| {
        o.chain = Some(chain(vec![step]));
        // A capability that ends before its grant does: its budget of time.
        o.capabilities = vec![
            to_use("cloud.restart")
                .arg("vm", texts(&["db-1"]))
                .limits(Limits { until: Some(Time(3_000_000)), ..Limits::default() }),
        ];
    });
    let sink = Some(Label { level: Level::Internal, ..Label::bottom() });
    let mut manifest = manifests().into_iter().find(|m| m.tool == tool("cloud.restart")).unwrap();
    manifest.sink = sink;
    world.registry.apply(&RegistryEvent::ToolClassified { manifest, pin: None, by: person("root") });
    let mut request = world.request("planner", "cloud.restart", RESTART);
    // What needs an allowed call before comes first, or the other faults would refuse that one too.
    let mut order: Vec<_> = faults.to_vec();
    order.sort_by_key(|(step, ..)| (*step != 6, *step));
    for (_, _, break_it) in order {
        let registry = world.registry.clone();
        break_it(&mut world, &mut request);
        if world.registry.version() < registry.version() {
            world.registry = registry;
        }
    }
    let decided = world.decide(&request);
    (decided.why.step, decided.why.code)
}

// proves: D1, D6
#[test]
fn of_several_faults_the_first_step_answers() {
    for (i, a) in FAULTS.iter().enumerate() {
        for b in FAULTS.iter().skip(i) {
            let both = if core::ptr::eq(a, b) { vec![a] } else { vec![a, b] };
            let (step, code) = faulty(&both);
            let expected = if a.0 == 0 { (10, "allowed") } else { (a.0, a.1) };
            assert_eq!((step, code.as_str()), expected, "{} with {}", a.1, b.1);
        }
    }
}

#[test]
fn with_everything_wrong_the_steps_answer_one_after_the_other() {
    for (from, first) in FAULTS.iter().enumerate() {
        let all: Vec<&Fault> = FAULTS.iter().skip(from).collect();
        let (_, code) = faulty(&all);
        assert_eq!(code, first.1);
    }
}

// proves: N3
#[test]
fn whoever_probes_is_stopped() {
    let mut world = World::opened(|o| o.limits.refusals = Some(3));
    for _ in 0..3 {
        world.refused("planner", "iam.grant", r#"{"who":"me"}"#, 5, "capability.none");
        assert!(!matches!(world.task.state(), bailiwick_core::task::TaskState::Frozen { .. }));
    }
    world.refused("planner", "iam.grant", r#"{"who":"me"}"#, 5, "capability.none");
    world.refused("planner", "cloud.restart", RESTART, 3, "task.frozen");
    let (by, reason) = (person("erin"), "a typo".to_owned());
    world.append(vec![TaskEvent::Resumed { by, reason }]);
    world.must("planner", "cloud.restart", RESTART);
}

// proves: I3, R1
#[test]
fn the_door_is_steps_one_to_three() {
    let mut world = World::opened(|_| {});
    let at_door = |world: &World, instance: &str| {
        let (grant, planner) = (grant("g-root"), agent("planner"));
        refused_at_the_door(world.scene(), &grant, &planner, instance, Time(u64::MAX), None).map(|w| w.code)
    };
    assert_eq!(at_door(&world, &key("planner")), None);
    assert_eq!(at_door(&world, "stolen").as_deref(), Some("caller.key"));
    world.revoke("planner");
    assert_eq!(at_door(&world, &key("planner")).as_deref(), Some("grant.revoked"));
    world.suspend(Scope::All);
    assert_eq!(at_door(&world, &key("planner")).as_deref(), Some("control.suspended"));
}

// proves: I1, V2
#[test]
fn an_agent_whose_key_was_changed_calls_with_the_new_one_only() {
    let mut world = World::opened(|_| {});
    let old = world.registry.agent(&agent("planner")).unwrap().clone();
    let changed = Agent { keys: ["new".to_owned()].into(), ..old };
    world.registry.apply(&RegistryEvent::AgentSet { agent: changed, by: person("root") });
    world.refused("planner", "cloud.restart", RESTART, 1, "caller.key");
    let mut request = world.request("planner", "cloud.restart", RESTART);
    request.instance = "new".to_owned();
    check(&world.decide(&request), Ruled::Allow, 10, "allowed");
}

// proves: INV14
#[test]
fn secrets_are_used_and_never_recorded() {
    let mut world = World::opened(|_| {});
    let args = r#"{"amount":5,"key":"DE89370400440532013000","to":"DE89370400440532013000"}"#;
    let request = world.request("planner", "bank.pay", args);
    let ruling = decide(world.scene(), &request);
    let (decided, outcome) = world.commit(ruling);
    assert_eq!(decided.args.get("key"), Some(&Value::from("[secret]")));
    let Outcome::Allow(permit) = outcome else { panic!("{:?}", decided.why) };
    assert_eq!(permit.args(), &request.args, "what policy saw is what the upstream gets");
    // Refused, asked and unknown calls keep it out of the record too.
    for (tool, args) in [
        ("bank.pay", r#"{"amount":5,"key":"hunter2"}"#),
        ("bank.pay", r#"{"amount":5,"key":{"deep":["hunter2"]}}"#),
        ("bank.unheard", r#"{"key":"hunter2"}"#),
        ("iam.grant", r#"{"who":"x","password":"hunter2"}"#),
    ] {
        world.call("planner", tool, args);
        let written = format!("{:?}", world.log.last());
        assert!(!written.contains("hunter2"), "{tool}: {written}");
    }
}

// proves: I2
#[test]
fn a_person_s_name_is_not_an_agent_s() {
    let mut world = World::opened(|_| {});
    let ann = Person {
        id: person("planner"),
        groups: Default::default(),
        workload: false,
        keys: Default::default(),
    };
    world.registry.apply(&RegistryEvent::PersonSet { person: ann, by: person("root") });
    let decided = world.must("planner", "cloud.restart", RESTART);
    assert_eq!(
        (decided.agent.as_str(), world.task.opening().initiator.as_str()),
        ("planner", "dana@example.org")
    );
}

#[test]
fn a_role_that_nobody_declared_steers() {
    assert!(Role::Target.steers() && Role::Selector.steers() && Role::Secret.steers());
    assert!(!Role::Content.steers() && !Role::Data.steers() && !Role::Free.steers());
}
