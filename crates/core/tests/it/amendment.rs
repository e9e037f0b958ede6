//! Asking for more than the chain foresees: judged by the ceilings, answered by people, added once.

use bailiwick_core::agent::{Agent, Person};
use bailiwick_core::amendment::{
    AMENDED_COUNT_MAX, AMENDED_STEPS_MAX, AmendRequest, Amended, Proposed, propose, shown, take_up,
};
use bailiwick_core::approval::{AskTerms, State, Vote};
use bailiwick_core::chain::{Chain, Step};
use bailiwick_core::constraint::{Constraint, texts};
use bailiwick_core::decision::RECORDED_MAX;
use bailiwick_core::event::{Ruled, TaskEvent};
use bailiwick_core::origin::Origin;
use bailiwick_core::registry::{RegistryEvent, Scope};
use bailiwick_core::task::TaskState;
use bailiwick_core::{ApprovalId, DecisionId, Time, Value};

use crate::world::*;

const BOB: &str = r#"{"to":"bob@x.org","body":"done"}"#;

fn small() -> Chain {
    chain(vec![step("fix", "planner", "cloud.restart", &[("vm", texts(&["db-1"]))])])
}

fn tell(to: &str) -> Step {
    step("tell", "planner", "mail.send", &[("to", Constraint::exact(to)), ("body", Constraint::Any)])
}

fn note() -> Step {
    step("note", "planner", "cloud.note", &[("text", Constraint::Any)])
}

/// A task whose root holds the right to mail, and whose chain does not.
fn world() -> World {
    World::with_chain(small())
}

fn request(world: &mut World, who: &str, steps: Vec<Step>) -> AmendRequest {
    let call = world.request(who, "x.y", "{}");
    AmendRequest {
        decision: call.decision,
        fresh_approval: call.fresh_approval,
        grant: call.grant,
        agent: call.agent,
        instance: call.instance,
        token_until: call.token_until,
        proof: None,
        steps,
        says: Some("please".to_owned()),
    }
}

fn proposes(world: &mut World, who: &str, steps: Vec<Step>) -> Proposed {
    let request = request(world, who, steps);
    let (proposed, events) = propose(world.scene(), &request);
    assert!(!events.iter().any(|e| matches!(e, TaskEvent::Amended(_))), "an agent never amends");
    world.append(events);
    proposed
}

fn asks(world: &mut World, who: &str, steps: Vec<Step>) -> ApprovalId {
    let proposed = proposes(world, who, steps);
    assert_eq!(proposed.outcome, Ruled::Ask, "{:?}", proposed.why);
    proposed.asked.expect("a new question").approval
}

#[track_caller]
fn refused(world: &mut World, who: &str, steps: Vec<Step>, code: &str) -> Proposed {
    let proposed = proposes(world, who, steps);
    assert_eq!((proposed.outcome, proposed.why.code.as_str()), (Ruled::Deny, code), "{:?}", proposed.why);
    proposed
}

fn taken_up(world: &mut World, approval: &ApprovalId) -> Result<(), String> {
    let event = take_up(world.scene(), approval).map_err(|why| why.code)?;
    world.append(vec![event]);
    Ok(())
}

// proves: T3, A28
#[test]
fn what_the_grant_allows_and_the_intent_does_not_is_asked_for_and_added_once() {
    let mut world = world();
    world.refused("planner", "mail.send", BOB, 6, "chain.not_declared");
    let approval = asks(&mut world, "planner", vec![tell("bob@x.org")]);
    let adds = &world.task.approval(&approval).unwrap().amends.as_ref().unwrap().adds;
    assert_eq!((adds.len(), adds[0].times, adds[0].gains.is_none()), (1, 1, true));
    assert!(adds[0].unexplained.contains("to"), "nobody named bob");
    assert_eq!(take_up(world.scene(), &approval).unwrap_err().code, "approval.expired", "nobody said yes");
    world.refused("planner", "mail.send", BOB, 6, "chain.not_declared");

    world.vote("erin", &approval, Vote::Approve);
    taken_up(&mut world, &approval).unwrap();
    world.refused("planner", "mail.send", r#"{"to":"eve@evil.org","body":"done"}"#, 6, "chain.argument");
    let sent = world.must("planner", "mail.send", BOB);
    assert_eq!(sent.origins["to"], Origin::Amendment { approval: approval.clone() });
    world.refused("planner", "mail.send", BOB, 6, "chain.count");

    assert_eq!(taken_up(&mut world, &approval).unwrap_err(), "approval.expired", "it is used");
    let again = TaskEvent::Amended(Amended {
        approval,
        grant: grant("g-root"),
        steps: vec![tell("bob@x.org")],
        by: [person("erin")].into(),
    });
    world.append(vec![again]);
    world.refused("planner", "mail.send", BOB, 6, "chain.count");
    assert_eq!(world.task.opening().chain.as_ref().unwrap(), &small(), "the opening never changes");
}

// proves: T3, INV3, A29
#[test]
fn a_forged_amendment_adds_nothing() {
    let mut world = world();
    let approval = asks(&mut world, "planner", vec![tell("bob@x.org")]);
    let forged = |approval: &ApprovalId, steps, holder: &str| {
        let by = [person("erin")].into();
        TaskEvent::Amended(Amended { approval: approval.clone(), grant: grant(holder), steps, by })
    };
    world.append(vec![forged(&approval, vec![tell("bob@x.org")], "g-root")]);
    assert_eq!(world.task.chain(), Some(&small()), "before anybody said yes");
    world.vote("erin", &approval, Vote::Approve);
    let no_such = ApprovalId::parse("ap-99").unwrap();
    for event in [
        forged(&approval, vec![tell("eve@evil.org")], "g-root"),
        forged(&approval, vec![tell("bob@x.org"), note()], "g-root"),
        forged(&approval, vec![tell("bob@x.org")], "g-other"),
        forged(&no_such, vec![tell("bob@x.org")], "g-root"),
    ] {
        world.append(vec![event]);
        assert_eq!(world.task.chain(), Some(&small()));
    }
    // The yes to a call amends nothing, and the yes to an amendment allows no call.
    let mut asked = World::with_chain(chain(vec![note()]));
    asked.answer("cloud.note", Answer::Ask(terms()));
    let question = asked.asks("planner", "cloud.note", r#"{"text":"a"}"#);
    asked.vote("erin", &question, Vote::Approve);
    assert_eq!(take_up(asked.scene(), &question).unwrap_err().code, "approval.unknown");
    let decided = world.call_with("planner", "cloud.restart", r#"{"vm":"db-1"}"#, &approval);
    check(&decided, Ruled::Deny, 9, "approval.other_act");
}

// proves: T3, A03, INV1
#[test]
fn nothing_above_the_ceiling_is_even_asked() {
    let mut world = world();
    let mut poor: Agent = world.registry.agent(&agent("planner")).unwrap().clone();
    poor.ceiling = vec![to_use("cloud.*"), to_use("mail.send").arg("to", Constraint::Host("x.org".into()))];
    world.registry.apply(&RegistryEvent::AgentSet { agent: poor, by: person("root") });
    world.append(vec![]);
    let delete = step("gone", "planner", "iam.grant", &[("who", texts(&["eve"]))]);
    refused(&mut world, "planner", vec![delete], "amendment.ceiling");
    assert!(world.task.approvals().next().is_none());
}

// proves: T3, INV1, H9
#[test]
fn a_child_gains_no_more_than_the_agents_above_may_hand_on() {
    let mut world = World::opened(|o| {
        o.chain = Some(chain(vec![
            hand_step("pass", "planner", "executor", &[]),
            step("fix", "executor", "cloud.restart", &[("vm", texts(&["db-1"]))]),
        ]));
        o.capabilities = vec![
            to_use("cloud.restart").and_pass(&["executor"], 1),
            to_use("mail.send"),
            to_pass("cloud.note", &["executor"], 1).uses(1),
        ];
    });
    world.gives("planner", "executor", vec![to_use("cloud.restart")]);
    let mine = |id: &str, tools: &str, args: &[(&str, Constraint)]| step(id, "executor", tools, args);
    let mail = mine("tell", "mail.send", &[("to", texts(&["bob@x.org"]))]);
    refused(&mut world, "executor", vec![mail], "amendment.above_grant");

    let write = mine("write", "cloud.note", &[("text", Constraint::Any)]);
    let approval = asks(&mut world, "executor", vec![write]);
    world.vote("erin", &approval, Vote::Approve);
    taken_up(&mut world, &approval).unwrap();
    world.must("executor", "cloud.note", r#"{"text":"done"}"#);
    let more = mine("more", "cloud.note", &[("text", Constraint::Any)]);
    let approval = asks(&mut world, "executor", vec![more]);
    world.vote("erin", &approval, Vote::Approve);
    taken_up(&mut world, &approval).unwrap();
    world.refused("executor", "cloud.note", r#"{"text":"again"}"#, 10, "budget.spent");
}

// proves: T3
#[test]
fn an_agent_asks_for_itself_and_only_for_calls_it_can_name() {
    let mut world = world();
    let bad = |step: Step| vec![step];
    let to_any = step("tell", "planner", "mail.send", &[("to", Constraint::Any)]);
    let no_to = step("tell", "planner", "mail.send", &[("body", Constraint::Any)]);
    let odd_arg =
        step("tell", "planner", "mail.send", &[("to", texts(&["b@x.org"])), ("bcc", Constraint::Any)]);
    for (steps, code) in [
        (bad(step("tell", "executor", "mail.send", &[("to", texts(&["b@x.org"]))])), "amendment.not_yours"),
        (bad(hand_step("give", "planner", "stranger", &["all"])), "amendment.form"),
        (bad(step("all", "planner", "mail.*", &[])), "amendment.form"),
        (bad(step("fix", "planner", "cloud.note", &[])), "amendment.form"),
        (bad(after(note(), &["nowhere"])), "amendment.form"),
        (bad(times(note(), 1, 17)), "amendment.form"),
        ((0..9).map(|n| Step { id: format!("s{n}").parse().unwrap(), ..note() }).collect(), "amendment.form"),
        (vec![], "amendment.form"),
        (bad(to_any), "amendment.argument"),
        (bad(no_to), "amendment.argument"),
        (bad(odd_arg), "amendment.argument"),
        (bad(step("new", "planner", "moon.fly", &[])), "tool.unclassified"),
        (
            bad(step("again", "planner", "cloud.restart", &[("vm", Constraint::exact("db-1"))])),
            "amendment.needless",
        ),
    ] {
        refused(&mut world, "planner", steps, code);
    }
    assert_eq!(world.task.refusals(), 13, "over-asking is counted");
    assert!(world.task.approvals().next().is_none(), "and asks nobody");

    // A grant that is not one's own, or none at all.
    let mut stolen = request(&mut world, "planner", vec![note()]);
    stolen.agent = agent("stranger");
    assert_eq!(propose(world.scene(), &stolen).0.why.code, "caller.not_holder");
    let outsider = request(&mut world, "stranger", vec![note()]);
    assert_eq!(propose(world.scene(), &outsider).0.why.code, "caller.unknown_grant");
    let mut no_chain = World::opened(|_| {});
    refused(&mut no_chain, "planner", vec![note()], "amendment.no_chain");
}

// proves: T3, A4, A17
#[test]
fn neither_the_initiator_of_a_dangerous_one_nor_a_workload_nor_a_stranger_answers() {
    let mut world = world();
    let risky = asks(&mut world, "planner", vec![tell("bob@x.org")]);
    let mild = asks(&mut world, "planner", vec![note()]);
    for (who, approval, may) in [
        ("dana", &risky, false),
        ("robot", &risky, false),
        ("gina", &risky, false),
        ("erin", &risky, true),
        ("dana", &mild, true),
    ] {
        let mut world = world.clone();
        world.vote(who, approval, Vote::Approve);
        assert_eq!(taken_up(&mut world, approval).is_ok(), may, "{who}");
    }
}

// proves: T3, A16
#[test]
fn a_no_a_silence_or_a_change_ends_it() {
    let mut world = world();
    let approval = asks(&mut world, "planner", vec![note()]);
    world.vote("erin", &approval, Vote::Deny { reason: "not now".to_owned() });
    assert_eq!(taken_up(&mut world, &approval).unwrap_err(), "approval.expired");
    let no = refused(&mut world, "planner", vec![note()], "approval.denied");
    assert!(no.why.reason.contains("not now"));

    let late = asks(&mut world, "planner", vec![tell("bob@x.org")]);
    let same = proposes(&mut world, "planner", vec![tell("bob@x.org")]);
    assert_eq!((same.outcome, same.asked.is_none(), same.approval), (Ruled::Ask, true, Some(late.clone())));
    world.vote("erin", &late, Vote::Approve);
    type Change = fn(&mut World);
    let moments: [(&str, Change); 5] = [
        ("late", |w| {
            w.wait_ms(600_001);
        }),
        ("revoked", |w| w.revoke("planner")),
        ("suspended", |w| w.suspend(Scope::Agent(agent("planner")))),
        ("other policy", |w| w.policy.version = bailiwick_core::Digest::of(b"policy two")),
        ("ended", |w| {
            let cause = bailiwick_core::event::Cause::Completed;
            w.append(vec![TaskEvent::Ended { cause, by: "erin".into(), reason: "done".into() }]);
        }),
    ];
    for (what, change) in moments {
        let mut world = world.clone();
        change(&mut world);
        assert!(taken_up(&mut world, &late).is_err(), "{what}");
    }
    taken_up(&mut world, &late).unwrap();
    assert!(matches!(world.task.approval(&late).unwrap().state, State::Used { .. }));
}

// proves: T3
#[test]
fn amendments_use_up_the_budget_of_questions() {
    let mut world = World::opened(|o| {
        o.chain = Some(small());
        o.limits.asks = 2;
    });
    asks(&mut world, "planner", vec![tell("a@x.org")]);
    asks(&mut world, "planner", vec![tell("b@x.org")]);
    let third = proposes(&mut world, "planner", vec![tell("c@x.org")]);
    assert_eq!((third.outcome, third.why.code.as_str()), (Ruled::Deny, "approval.budget"));
    assert!(matches!(world.task.state(), TaskState::Frozen { .. }));
}

#[test]
fn policy_is_asked_before_people_are() {
    let mut world = world();
    world.answer("mail.send", Answer::Forbid);
    let exactly = step("tell", "planner", "mail.send", &[("to", Constraint::exact("bob@x.org"))]);
    refused(&mut world, "planner", vec![exactly], "policy.forbid");
    world.answer("mail.send", Answer::Ask(terms()));
    let approval = asks(
        &mut world,
        "planner",
        vec![step("tell", "planner", "mail.send", &[("to", Constraint::exact("bob@x.org"))])],
    );
    world.vote("erin", &approval, Vote::Approve);
    taken_up(&mut world, &approval).unwrap();
    world.asks("planner", "mail.send", r#"{"to":"bob@x.org"}"#);
}

#[test]
fn a_proof_of_possession_proposes_once() {
    let mut world = world();
    let mut first = request(&mut world, "planner", vec![note()]);
    first.proof = Some((bailiwick_core::Digest::of(b"proof"), Time(9_000_000)));
    let (_, events) = propose(world.scene(), &first);
    world.append(events);
    let again = AmendRequest { decision: DecisionId::parse("d-77").unwrap(), ..first };
    assert_eq!(propose(world.scene(), &again).0.why.code, "caller.replayed");
}

fn exactly(to: Constraint, body: Constraint) -> Vec<Step> {
    vec![step("tell", "planner", "mail.send", &[("to", to), ("body", body)])]
}

// proves: N1, T3
#[test]
fn what_nobody_vouches_for_in_an_amendment_is_told_argument_by_argument() {
    let one_of = |text: &str| Constraint::OneOf([Value::from(text), Value::from("done")].into());
    for (to, body, told) in [
        ("ann@example.org", Constraint::exact("done"), vec![]),
        ("bob@x.org", Constraint::exact("done"), vec!["to"]),
        ("ann@example.org", Constraint::exact("see evil.com/x"), vec!["body"]),
        ("bob@x.org", Constraint::exact("see evil.com/x"), vec!["body", "to"]),
        ("ann@example.org", one_of("see evil.com/x"), vec!["body"]),
        ("ann@example.org", one_of("all is well"), vec![]),
        ("ann@example.org", Constraint::exact(""), vec![]),
        ("ann@example.org", Constraint::Any, vec![]),
    ] {
        let mut world = world();
        let proposed = proposes(&mut world, "planner", exactly(Constraint::exact(to), body));
        assert_eq!(proposed.outcome, Ruled::Ask, "{:?}", proposed.why);
        let found: Vec<&str> = proposed.adds[0].unexplained.iter().map(String::as_str).collect();
        assert_eq!(found, told, "{to} {:?}", proposed.steps);
    }
    let either = Constraint::OneOf([Value::from("ann@example.org"), Value::from("bob@x.org")].into());
    let proposed = proposes(&mut world(), "planner", exactly(either, Constraint::Any));
    assert!(proposed.adds[0].unexplained.contains("to"), "one value of two is enough");
}

/// A note of exactly so many bytes, as it would be shown.
fn long_note(bytes: usize) -> Vec<Step> {
    let with = |n: usize| vec![step("note", "planner", "cloud.note", &[("text", texts(&[&"a".repeat(n)]))])];
    let frame = shown(&with(0)).canonical().len();
    with(bytes - frame)
}

// proves: T3, A72
#[test]
fn what_can_be_shown_whole_can_be_asked_for_and_what_cannot_is_not_even_recorded() {
    let fits = proposes(&mut world(), "planner", long_note(RECORDED_MAX));
    assert_eq!((fits.outcome, fits.steps.len()), (Ruled::Ask, 1), "{:?}", fits.why);
    let long = refused(&mut world(), "planner", long_note(RECORDED_MAX + 1), "amendment.form");
    assert_eq!(long.steps, [], "too long to be recorded");

    let notes = |n: usize| -> Vec<Step> {
        (0..n).map(|n| Step { id: format!("s{n}").parse().unwrap(), ..note() }).collect()
    };
    let most = proposes(&mut world(), "planner", notes(AMENDED_STEPS_MAX));
    assert_eq!((most.outcome, most.steps.len()), (Ruled::Ask, AMENDED_STEPS_MAX));
    let more = refused(&mut world(), "planner", notes(AMENDED_STEPS_MAX + 1), "amendment.form");
    assert_eq!(more.steps, []);

    asks(&mut world(), "planner", vec![times(note(), 1, AMENDED_COUNT_MAX)]);
    refused(&mut world(), "planner", vec![times(note(), 1, AMENDED_COUNT_MAX + 1)], "amendment.form");
}

// proves: T3, INV1, H5
#[test]
fn a_right_to_hand_on_that_leads_nowhere_gives_a_child_nothing() {
    for (right, good) in [
        (to_pass("cloud.note", &["executor"], 1), true),
        (to_pass("cloud.note", &["executor"], 0), false),
        (to_pass("cloud.note", &["reader"], 1), false),
        (to_use("cloud.note"), false),
    ] {
        let mut world = World::opened(|o| {
            o.chain = Some(chain(vec![
                hand_step("pass", "planner", "executor", &[]),
                step("fix", "executor", "cloud.restart", &[("vm", texts(&["db-1"]))]),
            ]));
            o.capabilities = vec![to_use("cloud.restart").and_pass(&["executor"], 1), right.clone()];
        });
        world.gives("planner", "executor", vec![to_use("cloud.restart")]);
        let write = step("write", "executor", "cloud.note", &[("text", Constraint::Any)]);
        if good {
            asks(&mut world, "executor", vec![write]);
        } else {
            refused(&mut world, "executor", vec![write], "amendment.above_grant");
        }
    }
}

// proves: T3, A4, A17
#[test]
fn an_amendment_that_nobody_may_answer_is_not_asked() {
    let retired = |world: &mut World, names: &[&str]| {
        for name in names {
            let nobody =
                Person { groups: [].into(), ..world.registry.person(&person(name)).unwrap().clone() };
            world.registry.apply(&RegistryEvent::PersonSet { person: nobody, by: person("root") });
        }
    };
    // Erin and frank have left: there are dana, who opened the task, gina, who may not, and the robot.
    let mut world = world();
    retired(&mut world, &["erin", "frank"]);
    let risky = refused(&mut world, "planner", vec![tell("bob@x.org")], "policy.forbid");
    assert_eq!(risky.why.rule, "too-few-approvers");
    asks(&mut world, "planner", vec![note()]);
    retired(&mut world, &["dana"]);
    let mild = step("other", "planner", "cloud.note", &[("text", Constraint::Any)]);
    assert_eq!(refused(&mut world, "planner", vec![mild], "policy.forbid").why.rule, "too-few-approvers");
}

// proves: T3, A17
#[test]
fn only_people_are_supposed_to_answer_what_policy_would_ask_later() {
    for (quorum, code) in [(4, "amendment.needed"), (5, "policy.forbid")] {
        let mut world = world();
        world.answer("mail.send", Answer::Ask(AskTerms { quorum, ..terms() }));
        let step = exactly(Constraint::exact("bob@x.org"), Constraint::exact("done"));
        assert_eq!(proposes(&mut world, "planner", step).why.code, code, "{quorum} of four people");
    }
}

// proves: T3, A16
#[test]
fn a_proposal_waits_until_its_deadline_and_then_it_is_a_new_question() {
    let mut world = world();
    let first = asks(&mut world, "planner", vec![note()]);
    let until = world.task.approval(&first).unwrap().until;
    world.now = Time(until.0 - 1);
    let same = proposes(&mut world, "planner", vec![note()]);
    assert_eq!((same.asked, same.approval), (None, Some(first.clone())));
    world.now = until;
    assert_ne!(asks(&mut world, "planner", vec![note()]), first);
}
