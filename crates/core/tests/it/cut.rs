//! What is cut for a child, at the bounds: depth, recipients, the chain's reads, budgets, payloads and their sources.

use bailiwick_core::capability::{Capability, Limits};
use bailiwick_core::chain::{Chain, Reads};
use bailiwick_core::constraint::{Constraint, texts};
use bailiwick_core::event::{HandedOff, NewGrant, TaskEvent};
use bailiwick_core::handoff::PAYLOAD_MAX;
use bailiwick_core::origin::Origin;
use bailiwick_core::registry::RegistryEvent;
use bailiwick_core::{GrantId, Value};

use crate::world::*;

fn executor_under(world: &mut World, ceiling: Vec<Capability>) {
    let mut executor = world.registry.agent(&agent("executor")).unwrap().clone();
    executor.ceiling = ceiling;
    world.registry.apply(&RegistryEvent::AgentSet { agent: executor, by: person("root") });
}

/// What the executor is given when it is handed whatever there is.
fn given(world: &mut World) -> Vec<Capability> {
    let request = world.handoff("planner", "executor", vec![]);
    let handed = world.hand(&request);
    handed.grant.map(|g| g.capabilities.into_iter().map(|(c, _)| c).collect()).unwrap_or_default()
}

// proves: H5, INV1
#[test]
fn the_right_to_hand_on_falls_by_one_and_ends_at_nobody() {
    let right = |depth: u8| to_use("cloud.restart").and_pass(&["executor", "reader"], depth);
    let ceiling = |to: &[&str], depth: u8| vec![to_use("cloud.*").and_pass(to, depth)];
    for (mine, ceiling, further) in [
        (0, ceiling(&["reader"], 3), None),
        (1, ceiling(&["reader"], 3), Some(None)),
        (2, ceiling(&["reader"], 3), Some(Some(1))),
        (9, ceiling(&["reader"], 3), Some(Some(3))),
        (9, ceiling(&["reader"], 0), Some(None)),
        (9, ceiling(&["stranger"], 3), Some(None)),
        (9, ceiling(&[], 3), Some(None)),
        (9, vec![to_use("cloud.*")], Some(None)),
    ] {
        let mut world = World::holding(vec![right(mine)]);
        executor_under(&mut world, ceiling.clone());
        let found = given(&mut world);
        let depths: Vec<Option<u8>> = found.iter().map(|c| c.delegate.as_ref().map(|d| d.depth)).collect();
        assert_eq!(depths, Vec::from_iter(further), "{mine} {ceiling:?}");
        let onto: Vec<_> = found.iter().filter_map(|c| c.delegate.as_ref()).flat_map(|d| &d.to).collect();
        assert!(onto.iter().all(|to| **to == agent("reader")), "{onto:?}");
    }
}

// proves: H1, H6, T2
#[test]
fn with_a_chain_a_child_gets_its_steps_and_the_open_reads_and_no_more() {
    let opened = |reads: Reads| {
        let steps = vec![
            hand_step("pass", "planner", "executor", &[]),
            step("fix", "executor", "cloud.restart", &[("vm", Constraint::Any)]),
        ];
        let mut world = World::opened(|o| {
            o.chain = Some(Chain { reads, ..chain(steps) });
            o.capabilities = ["cloud.*", "mail.*"].map(|t| to_pass(t, &["executor"], 1)).to_vec();
        });
        executor_under(&mut world, vec![to_use("cloud.*"), to_use("mail.*")]);
        given(&mut world).iter().map(|c| c.tool.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(opened(Reads::Open), ["cloud.restart", "mail.search"]);
    assert_eq!(opened(Reads::Declared), ["cloud.restart"]);
}

// proves: H1, INV1, A27
#[test]
fn a_limit_that_was_asked_for_is_given_once_and_not_for_every_place_it_could_come_from() {
    let held = |vm: &str| to_use("cloud.restart").arg("vm", texts(&[vm])).and_pass(&["executor"], 1);
    let mut world = World::holding(vec![held("db-1"), held("db-1")]);
    let handed = world.gives("planner", "executor", vec![to_use("cloud.restart")]);
    assert_eq!(handed.grant.unwrap().capabilities.len(), 2, "no limit: held once for each");
    let handed = world.gives("planner", "executor", vec![to_use("cloud.restart").uses(1)]);
    assert_eq!(handed.grant.unwrap().capabilities.len(), 1);
    world.must("executor", "cloud.restart", r#"{"vm":"db-1"}"#);
    world.refused("executor", "cloud.restart", r#"{"vm":"db-1"}"#, 10, "budget.spent");
    assert!(Limits::default().is_open());
    assert!(!Limits { uses: Some(1), ..Limits::default() }.is_open());
}

// proves: INV1, A01
#[test]
fn a_grant_that_was_cut_from_nothing_does_not_hang_in_the_tree() {
    let mut world = World::holding(vec![to_use("cloud.restart").and_pass(&["executor"], 1)]);
    let good = world.gives("planner", "executor", vec![to_use("cloud.restart")]);
    let before = world.task.grants().count();
    let forged = |name: &str, place: u16| {
        let new = NewGrant {
            grant: GrantId::parse(name).unwrap(),
            capabilities: vec![(to_use("cloud.*"), place)],
            ..good.grant.clone().unwrap()
        };
        TaskEvent::HandedOff(HandedOff { grant: Some(new), ..good.clone() })
    };
    for place in [1, 2, u16::MAX] {
        world.append(vec![forged("g-forged", place)]);
        assert_eq!(world.task.grants().count(), before, "{place}");
    }
    world.append(vec![forged("g-forged", 0)]);
    assert_eq!(world.task.grants().count(), before + 1, "it hangs where its parent is, and allows no more");
    world.holders.insert("executor".to_owned(), grant("g-forged"));
    world.refused("executor", "cloud.note", "{}", 5, "capability.none");
}

fn offer(world: &mut World, payload: Value) -> HandedOff {
    let mut request = world.handoff("planner", "executor", vec![to_use("cloud.restart")]);
    request.payload = payload;
    world.hand(&request)
}

fn parent() -> World {
    World::holding(vec![to_use("cloud.restart").and_pass(&["executor"], 1)])
}

// proves: H4, A72
#[test]
fn a_payload_of_the_greatest_length_is_delivered_and_one_byte_more_is_not() {
    let payload = |bytes: usize| {
        let frame = Value::from([("x", Value::from(""))]).canonical().len();
        Value::from([("x", Value::from("a".repeat(bytes - frame)))])
    };
    assert_eq!(offer(&mut parent(), payload(PAYLOAD_MAX)).why.code, "allowed");
    assert_eq!(offer(&mut parent(), payload(PAYLOAD_MAX + 1)).why.code, "handoff.payload");
}

// proves: N1, H4, A31
#[test]
fn the_values_of_a_payload_keep_where_they_came_from() {
    let told =
        offer(&mut parent(), json(r#"{"vm":"db-1","tell":"ask eve@evil.com","n":"plain words"}"#)).sources;
    let told: Vec<_> = told.iter().map(|s| (s.arg.as_str(), s.value.as_str(), s.from.clone())).collect();
    let input = Origin::Input { name: "vm".to_owned() };
    assert_eq!(told, [("tell", "eve@evil.com", None), ("vm", "db-1", Some(input))]);
    let many: Vec<Value> = (0..70).map(|n| Value::from(format!("a{n}@evil.com"))).collect();
    assert_eq!(offer(&mut parent(), Value::from([("all", Value::List(many))])).sources.len(), 64);
}
