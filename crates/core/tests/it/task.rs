//! The ends of a task and its memory: when a chain is over, which proofs are kept, what is told of it.

use std::collections::BTreeSet;

use bailiwick_core::chain::Chain;
use bailiwick_core::constraint::Constraint;
use bailiwick_core::event::{Cause, Reported, TaskEvent, Went};
use bailiwick_core::{DecisionId, Digest, StepId, Time};

use crate::world::*;

const RESTART: &str = r#"{"vm":"db-1"}"#;

/// A chain of two restarts and a note, over when the restarts went well twice and the note once.
fn ending() -> World {
    let ends_with: BTreeSet<StepId> = ["fix", "note"].map(|s| StepId::parse(s).unwrap()).into();
    let steps = vec![
        times(step("fix", "planner", "cloud.restart", &[("vm", Constraint::Any)]), 2, 9),
        step("note", "planner", "cloud.note", &[("text", Constraint::Any)]),
        times(step("more", "planner", "files.delete", &[("path", Constraint::Any)]), 0, 9),
    ];
    World::with_chain(Chain { ends_with, ..chain(steps) })
}

fn outcome(decision: &DecisionId, went: Went) -> Reported {
    let mut reported: Reported = serde_json::from_value(serde_json::json!({
        "decision": decision, "went": "done", "label": { "level": "public" },
        "spent": { "uses": 0, "amount": 0, "bytes": 0, "rows": 0 },
    }))
    .unwrap();
    reported.went = went;
    reported
}

/// Whether this outcome is the end of the task, as the chain declares it.
fn is_the_end(world: &World, decision: &DecisionId, went: Went) -> bool {
    match world.task.end_after(&outcome(decision, went)) {
        Some(TaskEvent::Ended { cause, reason, .. }) => {
            assert_eq!((cause, reason.as_str()), (Cause::Completed, "the chain ends with fix, note"));
            true
        }
        Some(other) => panic!("{other:?}"),
        None => false,
    }
}

fn goes(world: &mut World, decision: &DecisionId, went: Went) {
    world.append(vec![TaskEvent::Reported(outcome(decision, went))]);
}

// proves: Z2, T2, R1
#[test]
fn a_task_is_over_when_its_last_steps_went_well_as_often_as_they_must() {
    let mut world = ending();
    let first = world.must("planner", "cloud.restart", RESTART).decision;
    assert!(!is_the_end(&world, &first, Went::Done));
    goes(&mut world, &first, Went::Done);
    let note = world.must("planner", "cloud.note", r#"{"text":"up"}"#).decision;
    assert!(!is_the_end(&world, &note, Went::Done), "one restart is missing");
    goes(&mut world, &note, Went::Done);
    let second = world.must("planner", "cloud.restart", RESTART).decision;
    assert!(!is_the_end(&world, &second, Went::Failed) && !is_the_end(&world, &second, Went::Unknown));
    assert!(is_the_end(&world, &second, Went::Done));

    // Not while another call is in flight, and not while people look at it.
    let mut busy = world.clone();
    let other = busy.must("planner", "files.delete", r#"{"path":"/srv/report.txt"}"#).decision;
    assert!(!is_the_end(&busy, &second, Went::Done));
    goes(&mut busy, &second, Went::Done);
    assert!(is_the_end(&busy, &other, Went::Failed), "the last of them ends it, however it went");
    let mut frozen = world.clone();
    frozen.append(vec![TaskEvent::Frozen { by: "erin".to_owned(), reason: "odd".to_owned() }]);
    assert!(!is_the_end(&frozen, &second, Went::Done));

    // A step that failed was not taken well.
    goes(&mut world, &second, Went::Failed);
    let third = world.must("planner", "cloud.restart", RESTART).decision;
    assert!(is_the_end(&world, &third, Went::Done) && !is_the_end(&world, &third, Went::Failed));
    let nobodys = DecisionId::parse("d-forged").unwrap();
    assert!(!is_the_end(&world, &nobodys, Went::Done));
}

// proves: Z2
#[test]
fn a_chain_that_declares_no_end_ends_otherwise() {
    let fix = step("fix", "planner", "cloud.restart", &[("vm", Constraint::Any)]);
    for mut world in [World::with_chain(chain(vec![fix])), World::opened(|_| {})] {
        let done = world.must("planner", "cloud.restart", RESTART).decision;
        assert!(!is_the_end(&world, &done, Went::Done));
    }
}

fn minted(proof: Digest, until: Time) -> TaskEvent {
    TaskEvent::TokenMinted {
        grant: grant("g-root"),
        jti: "j-1".to_owned(),
        instance: key("planner"),
        until: EVENING,
        hash: Digest::of(b"token"),
        proof: Some((proof, until)),
    }
}

fn proof(n: u32) -> Digest {
    Digest::of(&n.to_be_bytes())
}

// proves: I3, A31
#[test]
fn proofs_are_forgotten_when_there_are_many_and_only_those_that_are_refused_for_their_age() {
    let mut world = World::opened(|_| {});
    let soon = NOON.plus_ms(1_000);
    let live = Digest::of(b"live");
    world.append(vec![minted(live, NOON.plus_ms(60_000))]);
    world.append((0..24_998).map(|n| minted(proof(n), soon)).collect());
    world.now = soon;
    // Up to half of what can be kept, nothing is thrown away.
    world.append(vec![minted(proof(24_998), soon.plus_ms(60_000))]);
    assert!(world.task.has_seen(&proof(0)) && world.task.has_seen(&proof(24_998)));
    world.append(vec![minted(proof(24_999), soon.plus_ms(60_000))]);
    assert!(!world.task.has_seen(&proof(0)) && !world.task.has_seen(&proof(24_997)), "too old anyway");
    for kept in [live, proof(24_998), proof(24_999)] {
        assert!(world.task.has_seen(&kept), "what could still be replayed is remembered");
    }
    assert!(!world.task.proofs_full());
}

// proves: I3, V1
#[test]
fn a_task_tells_when_it_was_opened_and_which_token_was_the_last() {
    let mut world = World::opened(|_| {});
    assert_eq!((world.task.opened(), world.task.token_hash(&grant("g-root"))), (NOON, None));
    world.wait_ms(5);
    world.append(vec![minted(proof(1), EVENING)]);
    assert_eq!((world.task.opened(), world.task.newest()), (NOON, NOON.plus_ms(5)));
    assert_eq!(world.task.token_hash(&grant("g-root")), Some(Digest::of(b"token")));
    assert_eq!(world.task.token_hash(&grant("g-none")), None);
}
