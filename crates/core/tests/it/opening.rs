//! Opening a task: what is refused before anything runs, and what the root is given for a chain.

use std::collections::{BTreeMap, BTreeSet};

use bailiwick_core::agent::{Agent, Person};
use bailiwick_core::capability::Capability;
use bailiwick_core::chain::{Chain, Reads};
use bailiwick_core::constraint::Constraint;
use bailiwick_core::event::{Guarantees, Opening};
use bailiwick_core::input::{INPUTS_MAX, InputKind, InputType};
use bailiwick_core::opening::{WINDOW_MAX_MS, capabilities_for, check};
use bailiwick_core::registry::{Registry, RegistryEvent};
use bailiwick_core::tool::{Effect, Manifest};
use bailiwick_core::{GroupId, Time, Value};

use crate::world::*;

/// What comes of the usual opening with a change.
fn opened(change: impl FnOnce(&mut Opening)) -> Result<(), &'static str> {
    let mut opening = opening();
    change(&mut opening);
    check(&registry(), &opening, NOON).map_err(|bad| bad.code)
}

// proves: T1
#[test]
fn a_task_says_what_it_is_for_in_at_most_four_thousand_characters() {
    assert_eq!(opened(|_| {}), Ok(()));
    for (intent, good) in [
        (String::new(), false),
        ("  \n ".to_owned(), false),
        ("x".to_owned(), true),
        ("x".repeat(4000), true),
        ("x".repeat(4001), false),
    ] {
        let wanted = if good { Ok(()) } else { Err("task.intent") };
        let long = intent.len();
        assert_eq!(opened(|o| o.intent = intent), wanted, "{long}");
    }
}

// proves: T1, Z3
#[test]
fn its_window_closes_in_the_future_and_within_seven_days() {
    for (until, good) in [
        (Time(NOON.0 - 1), false),
        (NOON, false),
        (Time(NOON.0 + 1), true),
        (NOON.plus_ms(WINDOW_MAX_MS), true),
        (NOON.plus_ms(WINDOW_MAX_MS + 1), false),
        (Time(u64::MAX), false),
    ] {
        let wanted = if good { Ok(()) } else { Err("task.window") };
        assert_eq!(opened(|o| o.limits.until = until), wanted, "{until:?}");
    }
}

fn inputs(n: usize) -> BTreeMap<String, Value> {
    (0..n).map(|n| (format!("i{n}"), Value::Int(1))).collect()
}

// proves: T1, D6
#[test]
fn inputs_are_counted_and_are_what_their_types_say() {
    assert_eq!(opened(|o| o.inputs = inputs(INPUTS_MAX)), Ok(()), "no types: taken as they are");
    assert_eq!(opened(|o| o.inputs = inputs(INPUTS_MAX + 1)), Err("task.input"));
    let optional = InputType { optional: true, ..InputType::of(InputKind::Number) };
    let many = (0..=INPUTS_MAX).map(|n| (format!("i{n}"), optional.clone())).collect();
    assert_eq!(opened(|o| (o.inputs, o.types) = (inputs(1), many)), Err("task.input"));

    let typed = |kind: InputKind, value: Value| {
        opened(|o| {
            o.types = [("vm".to_owned(), InputType::of(kind))].into();
            o.inputs = [("vm".to_owned(), value)].into();
        })
    };
    assert_eq!(typed(InputKind::Host, Value::from("db-1")), Ok(()));
    assert_eq!(typed(InputKind::Host, Value::from("db-1; rm -rf /")), Err("input.type"));
    assert_eq!(typed(InputKind::Number, Value::from("db-1")), Err("input.type"));
    assert_eq!(typed(InputKind::Record, Value::from("db-1")), Err("input.declaration"));
    let undeclared = opened(|o| o.types = [("vm".to_owned(), InputType::of(InputKind::Host))].into());
    assert_eq!(undeclared, Err("input.undeclared"));
    let with_default = InputType { default: Some(Value::Int(3)), ..InputType::of(InputKind::Number) };
    let defaulted = |inputs: BTreeMap<String, Value>| {
        opened(|o| (o.types, o.inputs) = ([("i0".to_owned(), with_default.clone())].into(), inputs))
    };
    assert_eq!(defaulted(inputs(1)), Ok(()));
    assert_eq!(
        defaulted(inputs(0)),
        Err("task.input"),
        "what was filled in is recorded, or it is not opened"
    );
}

// proves: T1, D6
#[test]
fn whoever_opens_it_and_whoever_works_on_it_is_known_here() {
    assert_eq!(opened(|o| o.initiator = person("zoe")), Err("task.initiator"));
    assert_eq!(opened(|o| o.agent = agent("nobody")), Err("task.agent"));
    let fix = |who: &str| chain(vec![step("fix", who, "cloud.restart", &[])]);
    assert_eq!(opened(|o| o.chain = Some(fix("planner"))), Ok(()));
    assert_eq!(opened(|o| o.chain = Some(fix("nobody"))), Err("task.agent"));
    let pass = chain(vec![hand_step("pass", "planner", "nobody", &[])]);
    assert_eq!(opened(|o| o.chain = Some(pass)), Err("task.agent"));
    let mut registry = registry();
    let gone =
        Person { id: person("zoe"), groups: BTreeSet::<GroupId>::new(), workload: false, keys: [].into() };
    registry.apply(&RegistryEvent::PersonSet { person: gone, by: person("root") });
    let opening = Opening { initiator: person("zoe"), ..opening() };
    assert_eq!(check(&registry, &opening, NOON), Ok(()));
}

// proves: T2
#[test]
fn a_task_says_how_much_of_it_was_declared() {
    let with = |change: fn(&mut Opening)| {
        let mut opening = opening();
        change(&mut opening);
        opening.guarantees()
    };
    let fixed = |o: &mut Opening| o.chain = Some(chain(vec![]));
    assert_eq!(with(|_| {}), Guarantees::NoChain);
    assert_eq!(with(|o| o.template = Some("restart".to_owned())), Guarantees::NoChain);
    let mut made = opening();
    fixed(&mut made);
    assert_eq!(made.guarantees(), Guarantees::AdHoc, "a chain alone");
    made.template = Some("restart".to_owned());
    assert_eq!(made.guarantees(), Guarantees::AdHoc, "inputs without types could be anything");
    made.types = [("vm".to_owned(), InputType::of(InputKind::Host))].into();
    assert_eq!(made.guarantees(), Guarantees::Declared);
    (made.types, made.inputs) = (BTreeMap::new(), BTreeMap::new());
    assert_eq!(made.guarantees(), Guarantees::Declared, "a chain that takes none has nothing to type");
    made.template = None;
    assert_eq!(made.guarantees(), Guarantees::AdHoc);
    assert_eq!(Guarantees::Declared.warning(), None);
    assert!(Guarantees::AdHoc.warning().is_some_and(|w| w.contains("weaker")));
    assert!(Guarantees::NoChain.warning().is_some_and(|w| w.contains("no chain")));
}

fn planner_under(ceiling: Vec<Capability>) -> (Registry, Agent) {
    let registry = registry();
    let planner = Agent { ceiling, ..registry.agent(&agent("planner")).unwrap().clone() };
    (registry, planner)
}

/// What the planner is given for a chain: each tool, whether it may use it, and whom it may hand it to.
fn given(chain: &Chain, ceiling: Vec<Capability>) -> Vec<String> {
    let (registry, planner) = planner_under(ceiling);
    let told = |c: &Capability| {
        let to =
            c.delegate.as_ref().map(|d| d.to.iter().map(ToString::to_string).collect::<Vec<_>>().join("+"));
        let used = if c.may_use { "" } else { " not to use" };
        format!("{}{used}{}", c.tool, to.map_or(String::new(), |to| format!(" to {to}")))
    };
    capabilities_for(&registry, chain, &planner).iter().map(told).collect()
}

fn closed(steps: Vec<bailiwick_core::chain::Step>) -> Chain {
    Chain { reads: Reads::Declared, ..chain(steps) }
}

fn whole() -> Vec<Capability> {
    ["mail.*", "files.*", "cloud.*"].map(|t| to_use(t).and_pass(&["executor", "reader"], 3)).to_vec()
}

// proves: H1, H5, T2
#[test]
fn the_root_is_given_what_it_does_itself_and_nothing_else() {
    let fix = || step("fix", "planner", "cloud.restart", &[("vm", Constraint::Any)]);
    assert_eq!(given(&closed(vec![fix()]), whole()), ["cloud.restart"]);
    assert_eq!(given(&closed(vec![step("fix", "executor", "cloud.restart", &[])]), whole()), [""; 0]);
    assert_eq!(given(&closed(vec![]), whole()), [""; 0]);
    // Where reads are open they come along, and no effect does.
    assert_eq!(given(&chain(vec![fix()]), whole()), ["mail.search", "files.read", "cloud.restart"]);
    // A ceiling that does not let it use something gives no use.
    assert_eq!(given(&chain(vec![fix()]), vec![to_pass("cloud.*", &["executor"], 3)]), [""; 0]);
    assert_eq!(given(&closed(vec![fix()]), vec![to_pass("cloud.*", &["executor"], 3)]), [""; 0]);
}

// proves: H1, H5, H6
#[test]
fn the_root_may_hand_on_what_comes_after_its_handoffs_to_those_they_lead_to() {
    let steps = || {
        vec![
            hand_step("pass", "planner", "executor", &[]),
            step("fix", "executor", "cloud.restart", &[]),
            hand_step("on", "executor", "reader", &[]),
            step("look", "reader", "files.read", &[]),
            step("away", "stranger", "mail.send", &[]),
        ]
    };
    let all = "executor+reader";
    assert_eq!(
        given(&closed(steps()), whole()),
        [format!("files.read not to use to {all}"), format!("cloud.restart not to use to {all}")],
        "nothing for whoever no handoff leads to"
    );
    // The right goes to nobody beyond the ceiling's own list, and without anybody it is none.
    let only = |who: &str| vec![to_use("cloud.*").and_pass(&[who], 3)];
    assert_eq!(given(&closed(steps()), only("executor")), ["cloud.restart not to use to executor"]);
    assert_eq!(given(&closed(steps()), only("stranger")), [""; 0]);
    assert_eq!(given(&closed(steps()), vec![to_use("cloud.*")]), [""; 0]);
    // The executor may hand on to the reader, so what the reader needs goes through it.
    let files = vec![to_use("files.*").and_pass(&["executor"], 3)];
    assert_eq!(given(&closed(steps()), files), ["files.read not to use to executor"]);
    // Open reads may be handed on as well as used.
    let open = given(&chain(steps()), vec![to_use("files.*").and_pass(&["executor"], 3)]);
    assert_eq!(open, ["files.read to executor"]);
}

// proves: H5
#[test]
fn agents_that_hand_back_and_forth_are_no_riddle() {
    let steps = vec![
        hand_step("there", "planner", "executor", &[]),
        hand_step("back", "executor", "planner", &[]),
        step("fix", "executor", "cloud.restart", &[]),
    ];
    let right = vec![to_use("cloud.*").and_pass(&["executor", "planner"], 3)];
    assert_eq!(given(&closed(steps), right), ["cloud.restart not to use to executor"]);
}

// proves: D3
#[test]
fn a_tool_that_nobody_classified_is_given_to_nobody() {
    let (mut registry, planner) = planner_under(vec![to_use("cloud.*")]);
    let fly = chain(vec![step("fly", "planner", "cloud.fly", &[])]);
    let definition = Value::from([("description", Value::from("flies"))]);
    let digest = definition.digest();
    registry.apply(&RegistryEvent::ToolSeen { tool: tool("cloud.fly"), digest, definition });
    assert_eq!(capabilities_for(&registry, &fly, &planner), []);
    let (manifest, by) = (Manifest::new(tool("cloud.fly"), Effect::Update), person("root"));
    registry.apply(&RegistryEvent::ToolClassified { manifest, pin: Some(digest), by });
    assert_eq!(capabilities_for(&registry, &fly, &planner), [to_use("cloud.fly")]);
}
