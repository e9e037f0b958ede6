//! An agent that tries for more than it has is stopped: after how many tries, which count, and whose.

use bailiwick_core::event::TaskEvent;
use bailiwick_core::handoff::consequences;
use bailiwick_core::task::TaskState;

use crate::world::*;

/// A task that freezes after more than so many tries.
fn watched(seeking: u32) -> World {
    World::opened(|o| {
        o.limits.seeking = Some(seeking);
        o.capabilities = vec![
            to_use("mail.search").and_pass(&["executor"], 1),
            to_use("cloud.restart").arg("vm", bailiwick_core::constraint::texts(&["db-1"])),
        ];
    })
}

fn is_frozen(world: &World) -> bool {
    matches!(world.task.state(), TaskState::Frozen { .. })
}

/// A try for a tool that was not granted.
fn probe(world: &mut World, who: &str, name: &str) {
    let args = if name == "mail.send" { r#"{"to":"ann@example.org"}"# } else { "{}" };
    world.refused(who, name, args, 5, "capability.none");
}

// proves: N3
#[test]
fn one_try_more_than_the_limit_freezes_the_task_and_says_who_tried_what() {
    let mut world = watched(2);
    probe(&mut world, "planner", "cloud.note");
    probe(&mut world, "planner", "mail.send");
    assert!(!is_frozen(&world), "the limit itself is allowed");
    for _ in 0..5 {
        probe(&mut world, "planner", "mail.send");
    }
    assert!(!is_frozen(&world), "the same tool again is no new try");
    probe(&mut world, "planner", "iam.grant");
    let TaskState::Frozen { by, reason } = world.task.state() else { panic!("still open") };
    assert_eq!(by, "bailiwick");
    for named in ["planner", "cloud.note", "iam.grant", "mail.send"] {
        assert!(reason.contains(named), "{reason}");
    }
}

// proves: N3
#[test]
fn spreading_the_tries_over_agents_does_not_help() {
    let mut world = watched(2);
    world.gives("planner", "executor", vec![to_use("mail.search")]);
    probe(&mut world, "planner", "cloud.note");
    probe(&mut world, "executor", "cloud.note");
    assert!(!is_frozen(&world));
    probe(&mut world, "executor", "iam.grant");
    assert!(is_frozen(&world));
}

// proves: N3
#[test]
fn mistakes_freeze_nothing_even_when_the_tries_are_used_up() {
    let mut world = watched(1);
    // Two handoffs that it may not make, whose consequences a node that crashed has not written.
    for _ in 0..2 {
        world.keeps("planner", "executor", vec![to_use("iam.grant")], "handoff.widens", "iam.grant");
    }
    assert_eq!((world.task.seeking_score(), is_frozen(&world)), (2, false));
    world.refused("planner", "cloud.restart", r#"{"vm":"db-2"}"#, 5, "capability.argument");
    assert!(!is_frozen(&world), "a wrong argument seeks no authority");
    probe(&mut world, "planner", "cloud.note");
    assert!(is_frozen(&world), "the next try does");
}

// proves: N3
#[test]
fn a_refused_handoff_counts_and_what_follows_is_told_once() {
    let mut world = watched(0);
    let request = world.handoff("planner", "executor", vec![to_use("iam.grant")]);
    let handed = bailiwick_core::handoff::hand_off(world.scene(), &request);
    let after = consequences(world.scene(), &handed);
    assert!(matches!(after.as_slice(), [TaskEvent::Frozen { .. }]), "{after:?}");
    world.append(vec![TaskEvent::HandedOff(handed.clone())]);
    world.append(after);
    assert!(is_frozen(&world));
    assert_eq!(consequences(world.scene(), &handed), [], "what is frozen is not frozen again");
}

// proves: N3
#[test]
fn a_person_who_resumes_a_task_gives_it_a_new_count() {
    let mut world = watched(0);
    probe(&mut world, "planner", "cloud.note");
    assert!(is_frozen(&world));
    world.append(vec![TaskEvent::Resumed { by: person("erin"), reason: "looked at it".to_owned() }]);
    assert_eq!((world.task.seeking_score(), is_frozen(&world)), (0, false));
    probe(&mut world, "planner", "cloud.note");
    assert!(is_frozen(&world), "and no more than before");
}

// proves: N3
#[test]
fn without_a_limit_tries_are_counted_only() {
    let mut world = World::holding(vec![to_use("mail.search")]);
    for name in ["cloud.note", "iam.grant", "mail.send"] {
        probe(&mut world, "planner", name);
    }
    assert_eq!((world.task.seeking_score(), is_frozen(&world)), (3, false));
}
