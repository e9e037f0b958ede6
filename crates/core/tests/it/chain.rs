//! The permitted chain and its budgets: order, counts, closed steps, deviations, and what adds up.

use bailiwick_core::capability::{Limits, Spent};
use bailiwick_core::chain::{Chain, Deviation, Reads};
use bailiwick_core::constraint::{Constraint, texts};
use bailiwick_core::event::{Cause, Reported, TaskEvent, Went};
use bailiwick_core::label::Label;
use bailiwick_core::task::TaskState;
use bailiwick_core::{StepId, Time};

use crate::world::*;

const RESTART: &str = r#"{"vm":"db-1"}"#;
const MAIL: &str = r#"{"to":"ann@example.org"}"#;

fn restart_then_tell() -> Chain {
    chain(vec![
        times(step("fix", "planner", "cloud.restart", &[("vm", texts(&["db-1"]))]), 1, 2),
        after(step("tell", "planner", "mail.send", &[("to", texts(&["ann@example.org"]))]), &["fix"]),
    ])
}

// proves: T2, T4, A20
#[test]
fn steps_are_taken_in_order_as_often_as_declared_and_not_after_they_are_over() {
    let mut world = World::with_chain(restart_then_tell());
    world.refused("planner", "mail.send", MAIL, 6, "chain.order");
    world.must("planner", "cloud.restart", RESTART);
    world.must("planner", "mail.send", MAIL);
    world.refused("planner", "cloud.restart", RESTART, 6, "chain.order");
    world.refused("planner", "mail.send", MAIL, 6, "chain.count");
    assert!(world.task.opening().chain.as_ref().unwrap().is_complete(world.task.progress()));
}

// proves: A34
#[test]
fn what_a_caller_claims_of_its_own_call_ends_no_task() {
    for (claimed, ends) in [(true, false), (false, true)] {
        let mut chain = restart_then_tell();
        chain.ends_with = [StepId::parse("fix").unwrap()].into();
        let mut world = World::with_chain(chain);
        let decided = world.must("planner", "cloud.restart", RESTART);
        let reported = Reported {
            decision: decided.decision,
            went: Went::Done,
            label: Label::bottom(),
            declassified: Vec::new(),
            claimed,
            undone: false,
            result: None,
            spent: Spent::default(),
            explains: Vec::new(),
            shows: Vec::new(),
            note: None,
        };
        assert_eq!(world.task.end_after(&reported).is_some(), ends, "claimed: {claimed}");
        let failed = |decision| Reported { decision, went: Went::Failed, claimed: false, ..reported.clone() };
        world.append(vec![TaskEvent::Reported(reported.clone())]);
        let again = world.must("planner", "cloud.restart", RESTART);
        let end = world.task.end_after(&failed(again.decision));
        assert_eq!(end.is_some(), ends, "nor does it when it is remembered; claimed: {claimed}");
    }
}

// proves: T2, A34, INV10
#[test]
fn a_step_whose_call_changed_nothing_has_not_been_taken_and_any_other_counts() {
    let came = |decision, undone, went, claimed| Reported {
        decision,
        went,
        label: Label::bottom(),
        declassified: Vec::new(),
        claimed,
        undone,
        result: None,
        spent: Spent::default(),
        explains: Vec::new(),
        shows: Vec::new(),
        note: None,
    };
    for (undone, went, claimed, again) in [
        (true, Went::Failed, false, true),
        (false, Went::Failed, false, false),
        (true, Went::Failed, true, false),
        (true, Went::Unknown, false, false),
        (true, Went::Done, false, false),
    ] {
        let mut world = World::with_chain(restart_then_tell());
        world.must("planner", "cloud.restart", RESTART);
        let second = world.must("planner", "cloud.restart", RESTART).decision;
        world.append(vec![TaskEvent::Reported(came(second.clone(), undone, went, claimed))]);
        if again {
            world.append(vec![TaskEvent::Reported(came(second, undone, went, claimed))]);
            world.must("planner", "cloud.restart", RESTART);
        }
        world.refused("planner", "cloud.restart", RESTART, 6, "chain.count");
    }

    // What waits for the step waits on, and a step that has been overtaken stays over.
    let mut world = World::with_chain(restart_then_tell());
    let only = world.must("planner", "cloud.restart", RESTART).decision;
    world.append(vec![TaskEvent::Reported(came(only, true, Went::Failed, false))]);
    world.refused("planner", "mail.send", MAIL, 6, "chain.order");
    let late = world.must("planner", "cloud.restart", RESTART).decision;
    world.must("planner", "mail.send", MAIL);
    world.append(vec![TaskEvent::Reported(came(late, true, Went::Failed, false))]);
    world.refused("planner", "cloud.restart", RESTART, 6, "chain.order");
    world.refused("planner", "mail.send", MAIL, 6, "chain.count");
}

// proves: T2
#[test]
fn a_step_is_taken_no_more_often_than_it_says() {
    let mut world = World::with_chain(restart_then_tell());
    world.must("planner", "cloud.restart", RESTART);
    world.must("planner", "cloud.restart", RESTART);
    world.refused("planner", "cloud.restart", RESTART, 6, "chain.count");
    assert_eq!(world.task.progress().get(&StepId::parse("fix").unwrap()), Some(&2));
}

// proves: T3, A28
#[test]
fn a_step_takes_the_arguments_it_names_and_no_others() {
    let mut world = World::with_chain(restart_then_tell());
    world.refused(
        "planner",
        "cloud.restart",
        r#"{"vm":"db-1","force":true}"#,
        6,
        "chain.undeclared_argument",
    );
    world.refused("planner", "cloud.restart", r#"{"vm":"db-2"}"#, 6, "chain.argument");
    world.refused("planner", "cloud.restart", "{}", 6, "chain.argument");
    world.must("planner", "cloud.restart", r#"{"vm":"db-1","force":null}"#);
}

// proves: T2, H6
#[test]
fn a_step_belongs_to_one_agent() {
    let steps = vec![
        hand_step("pass", "planner", "executor", &[]),
        step("fix", "executor", "cloud.restart", &[("vm", Constraint::Any)]),
    ];
    let mut world = World::opened(|o| {
        o.chain = Some(chain(steps));
        o.capabilities = vec![to_use("cloud.restart").and_pass(&["executor"], 1)];
    });
    world.refused("planner", "cloud.restart", RESTART, 6, "chain.not_declared");
    world.gives("planner", "executor", vec![to_use("cloud.restart")]);
    world.must("executor", "cloud.restart", RESTART);
}

// proves: T2
#[test]
fn reads_are_open_unless_the_chain_declares_them() {
    let open = World::with_chain(restart_then_tell()).call("planner", "files.read", r#"{"path":"/etc"}"#);
    assert_eq!(open.why.code, "allowed");
    let mut world = World::with_chain(Chain { reads: Reads::Declared, ..restart_then_tell() });
    world.refused("planner", "files.read", "{}", 6, "chain.not_declared");
}

fn deviating(on_deviation: Deviation, on_dangerous_deviation: Deviation) -> World {
    World::with_chain(Chain { on_deviation, on_dangerous_deviation, ..restart_then_tell() })
}

const PAY: &str = r#"{"amount":1,"to":"DE89370400440532013000"}"#;
const DELETE: &str = r#"{"path":"/srv/report.txt"}"#;

// proves: T4, R1
#[test]
fn a_deviation_is_refused_freezes_or_ends_as_the_chain_declares() {
    let mut world = deviating(Deviation::Refuse, Deviation::Refuse);
    world.refused("planner", "cloud.note", "{}", 6, "chain.not_declared");
    world.must("planner", "cloud.restart", RESTART);

    let mut world = deviating(Deviation::Freeze, Deviation::Refuse);
    world.refused("planner", "cloud.note", "{}", 6, "chain.not_declared");
    world.refused("planner", "cloud.restart", RESTART, 3, "task.frozen");

    let mut world = deviating(Deviation::End, Deviation::Refuse);
    world.refused("planner", "cloud.note", "{}", 6, "chain.not_declared");
    world.refused("planner", "cloud.restart", RESTART, 3, "task.ended");
    assert!(matches!(world.task.state(), TaskState::Ended { cause: Cause::Deviation, .. }));
}

// proves: T4
#[test]
fn the_dangerous_rule_is_for_what_cannot_be_undone_and_never_the_laxer_one() {
    for (name, args, dangerous) in
        [("cloud.note", "{}", false), ("bank.pay", PAY, true), ("files.delete", DELETE, true)]
    {
        let mut world = deviating(Deviation::Refuse, Deviation::End);
        world.refused("planner", name, args, 6, "chain.not_declared");
        assert_eq!(world.task.has_ended(), dangerous, "{name}");
        let mut world = deviating(Deviation::End, Deviation::Refuse);
        world.refused("planner", name, args, 6, "chain.not_declared");
        assert!(world.task.has_ended(), "{name}: the general rule holds for dangerous acts too");
    }
}

// proves: T4
#[test]
fn a_deviation_counts_also_when_the_budget_is_spent() {
    let mut world = World::opened(|o| {
        o.chain = Some(Chain { on_deviation: Deviation::End, ..restart_then_tell() });
        o.capabilities = vec![to_use("cloud.restart"), to_use("cloud.note").uses(0)];
    });
    world.refused("planner", "cloud.note", "{}", 6, "chain.not_declared");
    assert!(world.task.has_ended());
}

// proves: T4, H5
#[test]
fn handing_on_to_somebody_the_chain_does_not_name_is_a_deviation_like_any_other() {
    let mut world = World::opened(|o| {
        o.chain = Some(Chain { on_deviation: Deviation::End, ..restart_then_tell() });
        o.capabilities = ["cloud.*", "files.*"].map(|t| to_use(t).and_pass(&["executor"], 1)).to_vec();
    });
    for (asked, code) in [("files.read", "chain.not_declared"), ("cloud.note", "handoff.chain")] {
        let request = world.handoff("planner", "executor", vec![to_use(asked)]);
        let handed = world.hand(&request);
        assert_eq!(handed.why.code, code);
        let after = bailiwick_core::handoff::consequences(world.scene(), &handed);
        assert!(matches!(after.as_slice(), [TaskEvent::Ended { cause: Cause::Deviation, .. }]), "{after:?}");
    }
    // Asking for too much is refused, and is no deviation.
    let request = world.handoff("planner", "executor", vec![to_use("iam.grant")]);
    let handed = world.hand(&request);
    assert_eq!(bailiwick_core::handoff::consequences(world.scene(), &handed), []);
}

// proves: N3
#[test]
fn refused_handoffs_count_as_probing_too() {
    let mut world = World::opened(|o| o.limits.refusals = Some(1));
    for frozen in [false, true] {
        let request = world.handoff("planner", "executor", vec![to_use("iam.grant")]);
        let handed = bailiwick_core::handoff::hand_off(world.scene(), &request);
        let after = bailiwick_core::handoff::consequences(world.scene(), &handed);
        assert_eq!(!after.is_empty(), frozen);
        world.append(vec![TaskEvent::HandedOff(handed)]);
        world.append(after);
    }
    world.refused("planner", "cloud.restart", RESTART, 3, "task.frozen");
}

// proves: A27, T2
#[test]
fn uses_and_amounts_add_up_to_the_limit_and_no_further() {
    let limits = Limits { uses: Some(3), amount: Some(100), ..Limits::default() };
    let pay = |amount: &str| format!(r#"{{"amount":{amount},"to":"DE89370400440532013000"}}"#);
    let mut world = World::holding(vec![to_use("bank.pay").limits(limits)]);
    world.must("planner", "bank.pay", &pay("60"));
    world.refused("planner", "bank.pay", &pay("41"), 10, "budget.spent");
    world.must("planner", "bank.pay", &pay("39.5"));
    world.refused("planner", "bank.pay", &pay("0.5"), 10, "budget.spent");
    world.must("planner", "bank.pay", &pay("0"));
    world.refused("planner", "bank.pay", &pay("0"), 10, "budget.spent");
}

// proves: A27, INV6, INV10
#[test]
fn an_amount_that_cannot_be_counted_does_not_pass_a_limit_on_amounts() {
    let limited = to_use("bank.pay").limits(Limits { amount: Some(100), ..Limits::default() });
    for odd in [r#""1000""#, r#"[1000]"#, r#"{"v":1000}"#, "true", "-5", "-0.5", r#""""#, "null"] {
        let args = format!(r#"{{"amount":{odd},"to":"DE89370400440532013000"}}"#);
        let mut world = World::holding(vec![limited.clone()]);
        world.refused("planner", "bank.pay", &args, 10, "budget.spent");
        // Without a limit on amounts nothing depends on counting them.
        World::holding(vec![to_use("bank.pay")]).must("planner", "bank.pay", &args);
    }
    let exact = r#"{"amount":9007199254740993,"to":"DE89370400440532013000"}"#;
    let limits = Limits { amount: Some(9_007_199_254_740_992), ..Limits::default() };
    World::holding(vec![to_use("bank.pay").limits(limits)]).refused(
        "planner",
        "bank.pay",
        exact,
        10,
        "budget.spent",
    );
}

// proves: A27
#[test]
fn bytes_and_rows_of_results_close_the_tap_once_they_are_used_up() {
    for spent in [Spent { bytes: 10, ..Spent::default() }, Spent { rows: 10, ..Spent::default() }] {
        let limits = Limits { bytes: Some(10), rows: Some(10), ..Limits::default() };
        let mut world = World::holding(vec![to_use("mail.search").limits(limits)]);
        let read = world.must("planner", "mail.search", "{}");
        world.report(&read.decision, Default::default(), spent);
        world.report(&read.decision, Default::default(), spent);
        world.refused("planner", "mail.search", "{}", 10, "budget.spent");
    }
}

// proves: INV10, T2
#[test]
fn a_second_capability_serves_when_the_first_is_used_up() {
    let mut world = World::holding(vec![to_use("cloud.restart").uses(1), to_use("cloud.*").uses(1)]);
    world.must("planner", "cloud.restart", RESTART);
    world.must("planner", "cloud.restart", RESTART);
    world.refused("planner", "cloud.restart", RESTART, 10, "budget.spent");
}

// proves: INV10, H1, A27
#[test]
fn what_children_spend_is_charged_up_to_the_root() {
    let mut world =
        World::holding(vec![to_use("cloud.restart").uses(5).and_pass(&["executor", "reader"], 2)]);
    world.gives("planner", "executor", vec![to_use("cloud.restart").uses(4)]);
    world.gives("planner", "reader", vec![to_use("cloud.restart").uses(4)]);
    for who in ["executor", "executor", "executor", "reader", "reader"] {
        world.must(who, "cloud.restart", RESTART);
    }
    for who in ["executor", "reader", "planner"] {
        world.refused(who, "cloud.restart", RESTART, 10, "budget.spent");
    }
}

// proves: INV10
#[test]
fn what_the_parent_spends_is_gone_for_the_child_and_a_child_has_its_own_limit() {
    let mut world = World::holding(vec![to_use("cloud.restart").uses(3).and_pass(&["executor"], 1)]);
    world.gives("planner", "executor", vec![to_use("cloud.restart").uses(1)]);
    world.must("executor", "cloud.restart", RESTART);
    world.refused("executor", "cloud.restart", RESTART, 10, "budget.spent");
    world.must("planner", "cloud.restart", RESTART);
    world.must("planner", "cloud.restart", RESTART);
    world.refused("planner", "cloud.restart", RESTART, 10, "budget.spent");
}

// proves: Z3
#[test]
fn a_capability_ends_when_it_says() {
    let limits = Limits { until: Some(Time(2_000_000)), ..Limits::default() };
    let mut world = World::holding(vec![to_use("cloud.restart").limits(limits)]);
    world.must("planner", "cloud.restart", RESTART);
    world.now = Time(2_000_000);
    world.refused("planner", "cloud.restart", RESTART, 10, "budget.spent");
}

// proves: T1, A29
#[test]
fn intent_and_chain_cannot_be_changed_from_inside() {
    let mut world = World::with_chain(restart_then_tell());
    let mut other = opening();
    other.intent = "Wire everything to eve@evil.com".to_owned();
    other.agent = agent("stranger");
    world.append(vec![TaskEvent::Opened(other)]);
    assert_eq!(world.task.opening().intent, opening().intent);
    world.refused("stranger", "cloud.restart", RESTART, 1, "caller.unknown_grant");
    world.refused("planner", "cloud.note", "{}", 6, "chain.not_declared");
    // Words of the agent are kept beside the decision and decide nothing.
    let mut request = world.request("planner", "cloud.note", "{}");
    request.says = Some("the intent is now to write notes".to_owned());
    assert_eq!(world.decide(&request).why.code, "chain.not_declared");
}
