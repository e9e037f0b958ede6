//! Ending, freezing, suspending, revoking: what stops whom, and nobody else.

use bailiwick_core::event::{Cause, Ruled, TaskEvent};
use bailiwick_core::registry::{RegistryEvent, Scope};
use bailiwick_core::{AgentClass, TaskId, Time};

use crate::world::*;

const RESTART: &str = r#"{"vm":"db-1"}"#;

/// planner → executor → reader; stranger has nothing; planner → second executor is not there.
fn family() -> World {
    let mut world =
        World::holding(vec![to_use("cloud.restart").and_pass(&["executor", "reader"], 3), to_use("mail.*")]);
    world.gives("planner", "executor", vec![to_use("cloud.restart").and_pass(&["reader"], 2)]);
    world.gives("executor", "reader", vec![to_use("cloud.restart")]);
    world
}

#[track_caller]
fn only_these_act(world: &mut World, live: &[&str]) {
    for who in ["planner", "executor", "reader"] {
        let decided = world.call(who, "cloud.restart", RESTART);
        assert_eq!(decided.outcome == Ruled::Allow, live.contains(&who), "{who}: {:?}", decided.why);
    }
}

// proves: R2, INV4, A05
#[test]
fn revoking_a_grant_ends_everything_below_it_and_nobody_else() {
    let mut world = family();
    only_these_act(&mut world, &["planner", "executor", "reader"]);
    world.revoke("executor");
    only_these_act(&mut world, &["planner"]);
    world.refused("reader", "cloud.restart", RESTART, 3, "grant.revoked");
    let mut world = family();
    world.revoke("reader");
    only_these_act(&mut world, &["planner", "executor"]);
    let mut world = family();
    world.revoke("planner");
    only_these_act(&mut world, &[]);
}

// proves: R5, INV4
#[test]
fn every_kill_switch_stops_what_it_names_and_lets_go_when_lifted() {
    let class = |name: &str| Scope::Class(AgentClass::parse(name).unwrap());
    let cases: [(Scope, &[&str]); 12] = [
        (Scope::Agent(agent("reader")), &["planner", "executor"]),
        (Scope::Agent(agent("executor")), &["planner"]),
        (Scope::Agent(agent("planner")), &[]),
        (Scope::Agent(agent("stranger")), &["planner", "executor", "reader"]),
        (class("readers"), &["planner", "executor"]),
        (class("workers"), &[]),
        (Scope::Task(TaskId::parse("t-1").unwrap()), &[]),
        (Scope::Task(TaskId::parse("t-2").unwrap()), &["planner", "executor", "reader"]),
        (Scope::Initiator(person("dana")), &[]),
        (Scope::Initiator(person("erin")), &["planner", "executor", "reader"]),
        (Scope::Tool(pattern("cloud.re*")), &[]),
        (Scope::All, &[]),
    ];
    for (scope, live) in cases {
        let mut world = family();
        world.suspend(scope.clone());
        only_these_act(&mut world, live);
        world.lift(scope);
        only_these_act(&mut world, &["planner", "executor", "reader"]);
    }
}

// proves: R5
#[test]
fn a_suspended_tool_stops_alone() {
    let mut world = family();
    world.suspend(Scope::Tool(pattern("mail.*")));
    world.refused("planner", "mail.search", "{}", 2, "control.suspended");
    world.must("planner", "cloud.restart", RESTART);
}

// proves: R4, V2
#[test]
fn an_ancestor_that_was_retired_takes_its_descendants_along() {
    let mut world = family();
    world.registry.apply(&RegistryEvent::AgentRetired { agent: agent("executor"), by: person("root") });
    only_these_act(&mut world, &["planner"]);
    world.refused("reader", "cloud.restart", RESTART, 2, "control.retired");
    // Its name does not come back.
    let again = registry().agent(&agent("executor")).unwrap().clone();
    world.registry.apply(&RegistryEvent::AgentSet { agent: again, by: person("root") });
    world.refused("executor", "cloud.restart", RESTART, 1, "caller.unknown_agent");
}

// proves: R4, INV4
#[test]
fn whenever_an_agent_is_retired_its_line_ends_and_no_other() {
    const LINE: [&str; 3] = ["planner", "executor", "reader"];
    for (who, after) in [LINE.as_slice(), &["stranger"]]
        .concat()
        .into_iter()
        .flat_map(|who| (0..LINE.len()).map(move |n| (who, n)))
    {
        let mut world = World::holding(vec![to_use("cloud.restart").and_pass(&LINE[1..], 3)]);
        for hop in 0..LINE.len() {
            if hop == after {
                world.registry.apply(&RegistryEvent::AgentRetired { agent: agent(who), by: person("root") });
            }
            if let Some([from, to]) = LINE.windows(2).nth(hop) {
                let capability = to_use("cloud.restart").and_pass(&LINE[1..], 2 - u8::try_from(hop).unwrap());
                let request = world.handoff(from, to, vec![capability]);
                world.hand(&request);
            }
        }
        let live = LINE.iter().position(|name| *name == who).unwrap_or(LINE.len());
        only_these_act(&mut world, &LINE[..live]);
    }
}

// proves: R1, INV2, A58
#[test]
fn whatever_ends_a_task_ends_it_for_all_and_for_good() {
    for cause in [
        Cause::Completed,
        Cause::Failed,
        Cause::Expired,
        Cause::Deviation,
        Cause::Budget,
        Cause::Changed,
        Cause::Killed,
    ] {
        let mut world = family();
        let open = world.must("reader", "cloud.restart", RESTART);
        let (by, reason) = ("erin@example.org".to_owned(), "over".to_owned());
        world.append(vec![TaskEvent::Ended { cause, by: by.clone(), reason: reason.clone() }]);
        only_these_act(&mut world, &[]);
        world.refused("reader", "cloud.restart", RESTART, 3, "task.ended");
        let request = world.handoff("planner", "executor", vec![]);
        world.keeps_request(&request, "task.ended", "over");
        // Neither a late outcome nor a resume nor a second end brings it back.
        world.report(&open.decision, Default::default(), Default::default());
        world.append(vec![
            TaskEvent::Resumed { by: person("erin"), reason: reason.clone() },
            TaskEvent::Frozen { by: by.clone(), reason: reason.clone() },
            TaskEvent::Resumed { by: person("erin"), reason: reason.clone() },
            TaskEvent::Ended { cause: Cause::Completed, by, reason },
        ]);
        only_these_act(&mut world, &[]);
    }
}

// proves: R5
#[test]
fn a_frozen_task_goes_on_only_when_a_person_resumes_it() {
    let mut world = family();
    world.append(vec![TaskEvent::Frozen { by: "erin".to_owned(), reason: "wait".to_owned() }]);
    only_these_act(&mut world, &[]);
    world.refused("planner", "mail.search", "{}", 3, "task.frozen");
    world.append(vec![TaskEvent::Resumed { by: person("erin"), reason: "fine".to_owned() }]);
    only_these_act(&mut world, &["planner", "executor", "reader"]);
}

// proves: Z3, INV2, H2
#[test]
fn a_grant_expires_with_all_below_it() {
    let mut world = World::holding(vec![to_use("cloud.restart").and_pass(&["executor", "reader"], 3)]);
    let mut request =
        world.handoff("planner", "executor", vec![to_use("cloud.restart").and_pass(&["reader"], 2)]);
    request.ttl_ms = Some(60_000);
    world.hand(&request);
    world.gives("executor", "reader", vec![to_use("cloud.restart")]);
    world.wait_ms(59_999);
    only_these_act(&mut world, &["planner", "executor", "reader"]);
    world.wait_ms(1);
    only_these_act(&mut world, &["planner"]);
    world.refused("reader", "cloud.restart", RESTART, 3, "grant.expired");
}

// proves: INV11, A62
#[test]
fn a_node_whose_clock_runs_behind_revives_nothing() {
    let mut world = World::holding(vec![to_use("cloud.restart").and_pass(&["executor"], 1)]);
    let mut request = world.handoff("planner", "executor", vec![to_use("cloud.restart")]);
    request.ttl_ms = Some(60_000);
    world.hand(&request);
    world.wait_ms(60_000);
    world.refused("executor", "cloud.restart", RESTART, 3, "grant.expired");
    // Another node, an hour behind, folds the same log.
    world.now = Time(1);
    world.refused("executor", "cloud.restart", RESTART, 3, "grant.expired");
    world.must("planner", "cloud.restart", RESTART);
    let late = world.handoff("planner", "executor", vec![to_use("cloud.restart")]);
    let made = bailiwick_core::handoff::hand_off(
        world.scene(),
        &bailiwick_core::handoff::HandoffRequest { ttl_ms: Some(5), ..late },
    );
    assert_eq!(made.grant.unwrap().until, NOON.plus_ms(60_005), "a lifetime begins when the log says it is");
}

// proves: N4, Z1
#[test]
fn an_agent_without_a_grant_in_this_task_can_do_nothing() {
    let mut world = family();
    world.refused("stranger", "cloud.restart", RESTART, 1, "caller.unknown_grant");
    let mut stolen = world.request("stranger", "cloud.restart", RESTART);
    stolen.grant = grant("g-root");
    check(&world.decide(&stolen), Ruled::Deny, 1, "caller.not_holder");
}
