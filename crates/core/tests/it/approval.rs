//! Asking people: one yes serves one agent, for one act, once, while it may.

use bailiwick_core::agent::Person;
use bailiwick_core::approval::{AskTerms, FrozenAct, Vote};
use bailiwick_core::decision::{RECORDED_MAX, act, decide, may_vote};
use bailiwick_core::event::{Ruled, TaskEvent};
use bailiwick_core::registry::RegistryEvent;
use bailiwick_core::task::TaskState;
use bailiwick_core::tool::Manifest;
use bailiwick_core::{ApprovalId, Digest, GroupId, Value};

use crate::world::*;

const RESTART: &str = r#"{"vm":"db-1"}"#;
const FORCED: &str = r#"{"force":true,"vm":"db-1"}"#;

fn asking() -> World {
    asking_on(terms())
}

fn asking_on(terms: AskTerms) -> World {
    let mut world = World::holding(vec![
        to_use("cloud.*").and_pass(&["executor", "reader"], 3),
        to_use("mail.*"),
        to_use("files.*"),
    ]);
    world.answer("cloud.restart", Answer::Ask(terms));
    world
}

#[track_caller]
fn no_use(world: &mut World, who: &str, args: &str, approval: &ApprovalId, code: &str) {
    let decided = world.call_with(who, "cloud.restart", args, approval);
    check(&decided, Ruled::Deny, 9, code);
}

// proves: A2, INV3, A13, A15
#[test]
fn a_yes_is_good_for_this_act_once() {
    let mut world = asking();
    let approval = world.asks("planner", "cloud.restart", RESTART);
    check(
        &world.call_with("planner", "cloud.restart", RESTART, &approval),
        Ruled::Ask,
        9,
        "approval.pending",
    );
    world.vote("erin", &approval, Vote::Approve);
    for other in [FORCED, r#"{"vm":"db-2"}"#, r#"{"vm":["db-1"]}"#, r#"{"force":null,"vm":"db-1"}"#] {
        no_use(&mut world, "planner", other, &approval, "approval.other_act");
    }
    let used = world.call_with("planner", "cloud.restart", RESTART, &approval);
    check(&used, Ruled::Allow, 10, "allowed");
    assert_eq!(used.approval, Some(approval.clone()));
    no_use(&mut world, "planner", RESTART, &approval, "approval.used");
    world.asks("planner", "cloud.restart", RESTART);
}

// proves: A2
#[test]
fn who_cannot_carry_a_handle_calls_again_and_uses_the_same_yes() {
    let mut world = asking();
    let approval = world.asks("planner", "cloud.restart", RESTART);
    world.vote("erin", &approval, Vote::Approve);
    let used = world.must("planner", "cloud.restart", RESTART);
    assert_eq!(used.approval, Some(approval));
    world.asks("planner", "cloud.restart", RESTART);
}

// proves: H7, INV3, A14
#[test]
fn a_yes_does_not_pass_to_parent_child_or_sibling() {
    let give = |world: &mut World| {
        world.gives("planner", "executor", vec![to_use("cloud.restart")]);
        world.gives("planner", "reader", vec![to_use("cloud.restart")]);
    };
    for (asker, others) in [
        ("planner", ["executor", "reader"]),
        ("executor", ["planner", "reader"]),
        ("reader", ["executor", "planner"]),
    ] {
        let mut world = asking();
        give(&mut world);
        let approval = world.asks(asker, "cloud.restart", RESTART);
        world.vote("erin", &approval, Vote::Approve);
        for other in others {
            no_use(&mut world, other, RESTART, &approval, "approval.not_yours");
            world.asks(other, "cloud.restart", RESTART);
        }
        check(&world.call_with(asker, "cloud.restart", RESTART, &approval), Ruled::Allow, 10, "allowed");
    }
    // Nor to a child that is made after the yes.
    let mut world = asking();
    let approval = world.asks("planner", "cloud.restart", RESTART);
    world.vote("erin", &approval, Vote::Approve);
    give(&mut world);
    no_use(&mut world, "executor", RESTART, &approval, "approval.not_yours");
}

// proves: INV3, A14
#[test]
fn nor_to_another_grant_or_key_of_the_same_agent() {
    let mut world = asking();
    world.gives("planner", "executor", vec![to_use("cloud.restart")]);
    let approval = world.asks("executor", "cloud.restart", RESTART);
    world.vote("erin", &approval, Vote::Approve);
    world.gives("planner", "executor", vec![to_use("cloud.restart")]);
    no_use(&mut world, "executor", RESTART, &approval, "approval.not_yours");

    let mut world = asking();
    let mut two_keys = world.registry.agent(&agent("planner")).unwrap().clone();
    two_keys.keys.insert("second".to_owned());
    world.registry.apply(&RegistryEvent::AgentSet { agent: two_keys, by: person("root") });
    let approval = world.asks("planner", "cloud.restart", RESTART);
    world.vote("erin", &approval, Vote::Approve);
    let mut second = world.request("planner", "cloud.restart", RESTART);
    (second.instance, second.approval) = ("second".to_owned(), Some(approval));
    check(&world.decide(&second), Ruled::Deny, 9, "approval.other_act");
}

// proves: A16, R4, INV3
#[test]
fn a_yes_dies_with_its_time_its_policy_and_its_definition() {
    let approved = || {
        let mut world = asking();
        let approval = world.asks("planner", "cloud.restart", RESTART);
        world.vote("erin", &approval, Vote::Approve);
        (world, approval)
    };
    let (mut world, approval) = approved();
    world.wait_ms(59_999);
    check(&world.call_with("planner", "cloud.restart", RESTART, &approval), Ruled::Allow, 10, "allowed");

    let (mut world, approval) = approved();
    world.wait_ms(60_000);
    no_use(&mut world, "planner", RESTART, &approval, "approval.expired");
    world.asks("planner", "cloud.restart", RESTART);

    let (mut world, approval) = approved();
    world.policy.version = Digest::of(b"policy two");
    no_use(&mut world, "planner", RESTART, &approval, "approval.policy_changed");

    let (mut world, approval) = approved();
    let manifest: Manifest = manifests().into_iter().find(|m| m.tool == tool("cloud.restart")).unwrap();
    let pin = Some(Digest::of(b"v2"));
    world.registry.apply(&RegistryEvent::ToolClassified { manifest, pin, by: person("root") });
    no_use(&mut world, "planner", RESTART, &approval, "approval.other_act");

    let (mut world, approval) = approved();
    world.append(vec![TaskEvent::Ended {
        cause: bailiwick_core::event::Cause::Completed,
        by: "erin".to_owned(),
        reason: "done".to_owned(),
    }]);
    let late = world.call_with("planner", "cloud.restart", RESTART, &approval);
    check(&late, Ruled::Deny, 3, "task.ended");
}

// proves: A2, INV6
#[test]
fn silence_means_no_and_so_does_no() {
    let mut world = asking();
    let approval = world.asks("planner", "cloud.restart", RESTART);
    world.wait_ms(60_000);
    no_use(&mut world, "planner", RESTART, &approval, "approval.expired");
    // A vote that comes too late helps nobody.
    world.vote("erin", &approval, Vote::Approve);
    no_use(&mut world, "planner", RESTART, &approval, "approval.expired");

    let mut world = asking();
    let approval = world.asks("planner", "cloud.restart", RESTART);
    world.vote("erin", &approval, Vote::Deny { reason: "not on a Friday".to_owned() });
    world.vote("frank", &approval, Vote::Approve);
    no_use(&mut world, "planner", RESTART, &approval, "approval.denied");
    let unknown = ApprovalId::parse("ap-none").unwrap();
    no_use(&mut world, "planner", RESTART, &unknown, "approval.unknown");
}

// proves: A4, A17
#[test]
fn whoever_may_not_answer_has_not_answered() {
    // Votes are forged straight into the log: the right is checked at use, whatever the door did.
    for (by, may) in [("erin", true), ("dana", false), ("gina", false), ("robot", false), ("nobody", false)] {
        let mut world = asking();
        let approval = world.asks("planner", "cloud.restart", RESTART);
        let asked = world.task.approval(&approval).unwrap();
        assert_eq!(may_vote(&world.registry, &person("dana"), asked, &person(by)), may, "{by}");
        world.vote(by, &approval, Vote::Approve);
        let decided = world.call_with("planner", "cloud.restart", RESTART, &approval);
        assert_eq!(decided.outcome == Ruled::Allow, may, "{by}: {:?}", decided.why);
        if !may {
            assert_eq!((decided.why.step, decided.why.code.as_str()), (9, "approval.approver"));
        }
    }
    let mut world = asking_on(AskTerms { initiator_may: true, ..terms() });
    let approval = world.asks("planner", "cloud.restart", RESTART);
    world.vote("dana", &approval, Vote::Approve);
    world.must("planner", "cloud.restart", RESTART);
}

// proves: A17, A4
#[test]
fn an_approver_who_was_removed_between_the_vote_and_the_use_no_longer_counts() {
    let mut world = asking();
    let approval = world.asks("planner", "cloud.restart", RESTART);
    world.vote("erin", &approval, Vote::Approve);
    let out =
        Person { groups: Default::default(), ..world.registry.person(&person("erin")).unwrap().clone() };
    world.registry.apply(&RegistryEvent::PersonSet { person: out, by: person("root") });
    no_use(&mut world, "planner", RESTART, &approval, "approval.approver");
    let without_handle = world.call("planner", "cloud.restart", RESTART);
    assert_ne!(without_handle.outcome, Ruled::Allow, "nor without the handle: {:?}", without_handle.why);
}

// proves: A4
#[test]
fn a_quorum_counts_different_people() {
    let mut world = asking_on(AskTerms { quorum: 2, ..terms() });
    let approval = world.asks("planner", "cloud.restart", RESTART);
    for _ in 0..2 {
        world.vote("erin", &approval, Vote::Approve);
        let decided = world.call_with("planner", "cloud.restart", RESTART, &approval);
        check(&decided, Ruled::Ask, 9, "approval.pending");
    }
    world.vote("frank", &approval, Vote::Approve);
    check(&world.call_with("planner", "cloud.restart", RESTART, &approval), Ruled::Allow, 10, "allowed");
}

// proves: A4, A13
#[test]
fn a_narrower_yes_is_for_the_narrower_act_alone() {
    let mut world = asking_on(AskTerms { quorum: 2, ..terms() });
    let approval = world.asks("planner", "cloud.restart", FORCED);
    world.vote("frank", &approval, Vote::Approve);
    let narrow = |world: &World| {
        let held = world.task.approval(&approval).unwrap();
        let args = json(RESTART);
        let act = FrozenAct {
            task: &world.task.opening().task,
            grant: &held.grant,
            agent: &held.agent,
            instance: &held.instance,
            tool: &held.tool,
            pin: world.pin("cloud.restart"),
            args: &args,
            policy: world.policy.version,
            until: held.until,
        };
        Vote::Narrow { act: act.digest(), args: args.clone() }
    };
    let vote = narrow(&world);
    world.vote("erin", &approval, vote);
    // The vote for the wider act is not one for the narrower.
    let waiting = world.call_with("planner", "cloud.restart", RESTART, &approval);
    check(&waiting, Ruled::Ask, 9, "approval.pending");
    world.vote("frank", &approval, Vote::Approve);
    no_use(&mut world, "planner", FORCED, &approval, "approval.other_act");
    check(&world.call_with("planner", "cloud.restart", RESTART, &approval), Ruled::Allow, 10, "allowed");
}

// proves: A4
#[test]
fn what_no_person_can_be_shown_whole_no_person_can_approve() {
    let mut world = World::opened(|_| {});
    world.answer("cloud.note", Answer::Ask(terms()));
    let note = |bytes: usize| Value::from([("text", Value::from("x".repeat(bytes)))]).canonical();
    world.asks("planner", "cloud.note", &note(RECORDED_MAX - 100));
    world.refused("planner", "cloud.note", &note(RECORDED_MAX), 9, "approval.too_long");
    assert_eq!(world.task.asks(), 1);
    world.answer("cloud.note", Answer::Permit);
    world.must("planner", "cloud.note", &note(RECORDED_MAX));
}

// proves: A5
#[test]
fn the_same_question_is_asked_once_while_it_waits() {
    let mut world = asking();
    let approval = world.asks("planner", "cloud.restart", RESTART);
    let again = world.call("planner", "cloud.restart", RESTART);
    check(&again, Ruled::Ask, 9, "approval.pending");
    assert_eq!((again.asked.is_none(), again.approval.as_ref()), (true, Some(&approval)));
    assert_eq!(world.task.asks(), 1);
    world.asks("planner", "cloud.restart", FORCED);
    assert_eq!(world.task.asks(), 2);
}

// proves: A5
#[test]
fn past_its_budget_of_questions_a_task_freezes() {
    let mut world = World::opened(|o| o.limits.asks = 1);
    world.answer("cloud.restart", Answer::Ask(terms()));
    world.asks("planner", "cloud.restart", RESTART);
    // Coming back for the same answer is no second question.
    check(&world.call("planner", "cloud.restart", RESTART), Ruled::Ask, 9, "approval.pending");
    assert_eq!(*world.task.state(), TaskState::Open);
    world.refused("planner", "cloud.restart", FORCED, 9, "approval.budget");
    assert!(matches!(world.task.state(), TaskState::Frozen { .. }));
    world.refused("planner", "mail.search", "{}", 3, "task.frozen");
}

// proves: A16, R4
#[test]
fn a_yes_under_easier_terms_does_not_answer_a_harder_question() {
    let sre = |quorum| AskTerms { group: GroupId::parse("sre").unwrap(), quorum, ..terms() };
    let mut world = asking();
    let approval = world.asks("planner", "cloud.restart", RESTART);
    world.vote("erin", &approval, Vote::Approve);
    // The context has moved, and another rule of the same policy now asks: other people, or more of them.
    for harder in [sre(1), AskTerms { quorum: 2, ..terms() }] {
        let mut moved = world.clone();
        moved.answer("cloud.restart", Answer::Ask(harder));
        let decided = moved.call_with("planner", "cloud.restart", RESTART, &approval);
        assert_ne!(decided.outcome, Ruled::Allow, "{:?}", decided.why);
        let decided = moved.call("planner", "cloud.restart", RESTART);
        assert_ne!(decided.outcome, Ruled::Allow, "nor without the handle: {:?}", decided.why);
    }
    check(&world.call_with("planner", "cloud.restart", RESTART, &approval), Ruled::Allow, 10, "allowed");
}

// proves: A5
#[test]
fn the_only_person_there_is_can_be_asked_where_the_initiator_may_answer() {
    let mut world = asking_on(AskTerms { initiator_may: true, ..terms() });
    for name in ["erin", "frank"] {
        let out = Person {
            groups: Default::default(),
            workload: true,
            ..world.registry.person(&person(name)).unwrap().clone()
        };
        world.registry.apply(&RegistryEvent::PersonSet { person: out, by: person("root") });
    }
    let gina = Person { workload: true, ..world.registry.person(&person("gina")).unwrap().clone() };
    world.registry.apply(&RegistryEvent::PersonSet { person: gina, by: person("root") });
    let approval = world.asks("planner", "cloud.restart", RESTART);
    world.vote("dana", &approval, Vote::Approve);
    world.must("planner", "cloud.restart", RESTART);
}

// proves: N1, A30
#[test]
fn the_core_asks_for_a_value_nobody_vouches_for_whatever_the_policy_permits() {
    let mut world = asking();
    let args = r#"{"to":"eve@evil.com"}"#;
    let approval = world.asks("planner", "mail.send", args);
    assert_eq!(world.task.approval(&approval).unwrap().rule, "unexplained-value");
    world.vote("erin", &approval, Vote::Approve);
    world.must("planner", "mail.send", args);
    // Destruction is never vouched for by the one who opened the task.
    let approval = world.asks("planner", "files.delete", r#"{"path":"/etc"}"#);
    assert!(!world.task.approval(&approval).unwrap().terms.initiator_may);
}

// proves: INV3, INV6
#[test]
fn a_forged_second_question_does_not_bring_a_used_yes_back() {
    let mut world = asking();
    let asked = world.call("planner", "cloud.restart", RESTART);
    let approval = asked.asked.clone().unwrap().approval;
    world.vote("erin", &approval, Vote::Approve);
    world.must("planner", "cloud.restart", RESTART);
    world.append(vec![TaskEvent::Decided(asked)]);
    world.vote("erin", &approval, Vote::Approve);
    no_use(&mut world, "planner", RESTART, &approval, "approval.used");
}

// proves: A13
#[test]
fn the_card_and_the_act_are_about_the_same_arguments() {
    let mut world = asking();
    let request = world.request("planner", "cloud.restart", RESTART);
    let ruling = decide(world.scene(), &request);
    let asked = ruling.decided().asked.clone().unwrap();
    let pin = world.pin("cloud.restart");
    assert_eq!(asked.act, act(world.scene(), &request, asked.until, pin).digest());
    let (decided, _) = world.commit(ruling);
    assert_eq!(world.task.approval(&asked.approval).unwrap().shown, request.args);
    assert_eq!(decided.args, request.args);
}
