//! What people are asked, who they are, and how long a question stands: at the bounds of each.

use bailiwick_core::approval::{AskTerms, Vote};
use bailiwick_core::chain::{Chain, Deviation, Risk};
use bailiwick_core::constraint::texts;
use bailiwick_core::decision::RECORDED_MAX;
use bailiwick_core::event::{Decided, Ruled};
use bailiwick_core::task::TaskState;
use bailiwick_core::{GroupId, Value};

use crate::world::*;

const RESTART: &str = r#"{"vm":"db-1"}"#;

fn asking(terms: AskTerms) -> World {
    let mut world = World::opened(|_| {});
    world.answer("cloud.restart", Answer::Ask(terms));
    world
}

/// A call with a value that nobody vouches for, which is therefore asked.
fn unexplained(name: &str, args: &str) -> Decided {
    let mut world = World::opened(|o| {
        o.capabilities = ["mail.*", "files.*", "cloud.*", "iam.*"].map(to_use).to_vec();
    });
    let decided = world.call("planner", name, args);
    assert_eq!((decided.outcome, decided.why.rule.as_str()), (Ruled::Ask, "unexplained-value"), "{name}");
    decided
}

// proves: A4, N1
#[test]
fn who_opened_the_task_vouches_for_what_is_sent_or_can_be_undone_and_for_no_deletion_and_no_right() {
    for (name, args, initiator_may) in [
        ("cloud.restart", r#"{"vm":"db-9"}"#, true),
        ("mail.send", r#"{"to":"eve@evil.com"}"#, true),
        ("files.delete", r#"{"path":"/srv/other.txt"}"#, false),
        ("iam.grant", r#"{"who":"eve"}"#, false),
    ] {
        let terms = unexplained(name, args).asked.unwrap().terms;
        assert_eq!((terms.group.as_str(), terms.quorum), ("approvers", 1), "{name}");
        assert_eq!(terms.initiator_may, initiator_may, "{name}");
    }
}

// proves: A4, A17
#[test]
fn nobody_is_asked_where_too_few_people_could_answer() {
    // Dana opened the task; erin and frank are approvers beside her. Gina is none, and the robot is no person.
    for (quorum, initiator_may, enough) in
        [(2, false, true), (3, false, false), (3, true, true), (4, true, false), (0, false, true)]
    {
        let mut world = asking(AskTerms { quorum, initiator_may, ..terms() });
        if enough {
            world.asks("planner", "cloud.restart", RESTART);
        } else {
            let refused = world.refused("planner", "cloud.restart", RESTART, 8, "policy.forbid");
            assert_eq!(refused.why.rule, "too-few-approvers", "{quorum} {initiator_may}");
        }
    }
    // No quorum at all still wants somebody.
    let nobody = GroupId::parse("nobody").unwrap();
    let mut world = asking(AskTerms { quorum: 0, group: nobody, ..terms() });
    world.refused("planner", "cloud.restart", RESTART, 8, "policy.forbid");
}

// proves: A72
#[test]
fn what_can_be_shown_whole_is_asked_and_one_byte_more_is_not() {
    let note = |bytes: usize| {
        let frame = Value::from([("text", Value::from(""))]).canonical().len();
        Value::from([("text", Value::from("a".repeat(bytes - frame)))]).canonical()
    };
    let mut world = World::opened(|_| {});
    world.answer("cloud.note", Answer::Ask(terms()));
    assert_eq!(note(RECORDED_MAX).len(), RECORDED_MAX);
    world.asks("planner", "cloud.note", &note(RECORDED_MAX));
    world.refused("planner", "cloud.note", &note(RECORDED_MAX + 1), 9, "approval.too_long");
}

// proves: INV3
#[test]
fn a_question_stands_until_its_deadline_and_then_it_is_another_one() {
    let mut world = asking(terms());
    let first = world.asks("planner", "cloud.restart", RESTART);
    world.wait_ms(terms().ttl_ms - 1);
    let again = world.call("planner", "cloud.restart", RESTART);
    check(&again, Ruled::Ask, 9, "approval.pending");
    assert_eq!(again.approval, Some(first.clone()));
    world.wait_ms(1);
    let second = world.asks("planner", "cloud.restart", RESTART);
    assert_ne!(second, first);
    // A late yes to the first question is worth nothing.
    world.vote("erin", &first, Vote::Approve);
    let decided = world.call_with("planner", "cloud.restart", RESTART, &first);
    check(&decided, Ruled::Deny, 9, "approval.expired");
}

// proves: A4, N1
#[test]
fn the_values_nobody_vouches_for_are_told_first_however_many_there_are() {
    let known: Vec<String> = (0..40).map(|n| format!("a{n}@example.org")).collect();
    let mut world = World::opened(|o| {
        o.inputs
            .insert("all".to_owned(), Value::List(known.iter().map(|k| Value::from(k.as_str())).collect()));
    });
    let send = |to: Vec<String>| {
        let to = Value::List(to.into_iter().map(Value::from).collect());
        Value::from([("to", to)]).canonical()
    };
    let allowed = world.must("planner", "mail.send", &send(known.clone()));
    assert_eq!(allowed.sources.len(), 24);
    assert!(allowed.sources.iter().all(|s| s.arg == "to" && s.from.is_some()));

    let mut with_eve = known;
    with_eve.push("eve@evil.com".to_owned());
    let asked = world.call("planner", "mail.send", &send(with_eve));
    assert_eq!(asked.sources.len(), 24);
    let alone: Vec<&str> =
        asked.sources.iter().filter(|s| s.from.is_none()).map(|s| s.value.as_str()).collect();
    assert_eq!(alone, ["eve@evil.com"]);
    assert!(asked.why.reason.contains("eve@evil.com"), "{}", asked.why.reason);
}

// proves: N1
#[test]
fn names_of_members_inside_a_list_could_be_followed_too() {
    for args in [r#"{"text":[{"evil.com/x":"see"}]}"#, r#"{"text":{"a":[{"b":[{"eve@evil.com":1}]}]}}"#] {
        let decided = unexplained("cloud.note", args);
        assert!(decided.unexplained.contains("text"), "{args}");
    }
    let mut world = World::opened(|_| {});
    world.must("planner", "cloud.note", r#"{"text":[{"note":"all is well"}]}"#);
}

// proves: D6
#[test]
fn a_refusal_names_what_was_granted() {
    let mut world = World::holding(vec![to_use("mail.search"), to_pass("cloud.*", &["executor"], 1)]);
    let refused = world.refused("planner", "files.read", "{}", 5, "capability.none");
    assert_eq!(refused.why.remedy, "Granted: mail.search.");
    let mut world = World::holding(vec![to_pass("cloud.*", &["executor"], 1)]);
    let refused = world.refused("planner", "files.read", "{}", 5, "capability.none");
    assert_eq!(refused.why.remedy, "Nothing may be called with this grant.");
}

// proves: T4
#[test]
fn a_rule_for_what_cannot_be_undone_is_for_that_alone() {
    for (name, args, frozen) in [
        ("mail.send", r#"{"to":"ann@example.org"}"#, true),
        ("bank.pay", r#"{"amount":1,"to":"DE89370400440532013000"}"#, true),
        ("cloud.note", "{}", false),
    ] {
        let fix = step("fix", "planner", "cloud.restart", &[("vm", texts(&["db-1"]))]);
        let deviations = [(Risk::Irreversible, Deviation::Freeze)].into();
        let mut world = World::with_chain(Chain { deviations, ..chain(vec![fix]) });
        world.refused("planner", name, args, 6, "chain.not_declared");
        assert_eq!(matches!(world.task.state(), TaskState::Frozen { .. }), frozen, "{name}");
    }
}
