//! Credentials of a task: when one may be asked for, when it must go, and what the receipt says of it.

use bailiwick_core::constraint::Constraint;
use bailiwick_core::decision::{Outcome, Permit, decide};
use bailiwick_core::event::{Cause, TaskEvent, Why};
use bailiwick_core::lease::{
    DEBT_AFTER_MS, Evidence, Lease, LeaseFact, LeaseState, Look, Quota, Revocability, Step, Terms, Wanted,
    must_end, receipt,
};
use bailiwick_core::registry::{Halt, RegistryEvent, Scope, Suspension};
use bailiwick_core::task::Task;
use bailiwick_core::{AgentClass, Digest, LeaseId, TaskId, Time};

use crate::world::*;

const RESTART: &str = r#"{"vm":"db-1"}"#;
/// A handoff that ends before its task.
const SHORT_MS: u64 = 60_000;

/// A planner that may hand a restart on, and an executor that holds it for a minute.
fn world() -> World {
    let passed = |t: &str| to_use(t).arg("vm", Constraint::Any).and_pass(&["executor"], 1);
    let mut world = World::holding(vec![passed("cloud.restart"), to_use("files.read")]);
    let mut request = world.handoff("planner", "executor", vec![to_use("cloud.restart")]);
    request.ttl_ms = Some(SHORT_MS);
    world.hand(&request);
    world
}

fn permit(world: &mut World, who: &str, name: &str, args: &str) -> Permit {
    let request = world.request(who, name, args);
    let ruling = decide(world.scene(), &request);
    match world.commit(ruling).1 {
        Outcome::Allow(permit) => permit,
        other => panic!("no permit: {other:?}"),
    }
}

fn lease_terms(world: &mut World, until: Time) -> Terms {
    let serial = world.serial();
    Terms {
        lease: LeaseId::parse(&format!("l-{serial}")).unwrap(),
        name: format!("bw_test_{serial}"),
        args: Default::default(),
        until,
        class: Revocability::B,
        plan: Digest::of(b"plan"),
    }
}

fn wants(world: &mut World, permit: &Permit, quota: Quota) -> Result<LeaseId, Why> {
    let terms = lease_terms(world, Time(u64::MAX));
    let id = terms.lease.clone();
    let wanted = Wanted::judge(world.scene(), permit, terms, quota)?;
    let event = wanted.event();
    world.append(vec![event]);
    Ok(id)
}

/// A credential for one call, as the log knows it.
fn leased(world: &mut World, who: &str, name: &str, args: &str) -> LeaseId {
    let permit = permit(world, who, name, args);
    wants(world, &permit, Quota::default()).unwrap()
}

fn happens(world: &mut World, lease: &LeaseId, fact: LeaseFact) {
    world.append(vec![TaskEvent::Lease { lease: lease.clone(), fact }]);
}

fn created() -> LeaseFact {
    LeaseFact::Created { external: "17".to_owned(), effective: Digest::of(b"read back") }
}

fn gone(answer: &str, sessions_ended: u64) -> LeaseFact {
    let look = Look { at: NOON, query: "who is there?".to_owned(), answer: answer.to_owned() };
    LeaseFact::Gone { evidence: Evidence { looks: vec![look.clone(), look], sessions_ended, notes: vec![] } }
}

fn ends(world: &mut World) {
    let (by, reason) = ("erin@example.org".to_owned(), "done".to_owned());
    world.append(vec![TaskEvent::Ended { cause: Cause::Completed, by, reason }]);
}

fn why_it_must_end(world: &World, lease: &LeaseId) -> Option<String> {
    must_end(&world.registry, &world.task, world.task.lease(lease).unwrap(), world.now)
}

// proves: R1, R2, Z1, INV2
#[test]
fn whatever_ends_the_authority_ends_the_credential_and_says_why() {
    let mut world = world();
    let lease = leased(&mut world, "executor", "cloud.restart", RESTART);
    assert_eq!(why_it_must_end(&world, &lease), None);
    type Change = fn(&mut World);
    let ends: [(&str, Change); 9] = [
        ("the task has ended: completed", ends),
        ("the task is frozen", |w| {
            w.append(vec![TaskEvent::Frozen { by: "erin".to_owned(), reason: "odd".to_owned() }]);
        }),
        ("its time is over", |w| {
            w.wait_ms(SHORT_MS);
        }),
        ("its grant has ended", |w| w.revoke("executor")),
        ("its grant has ended", |w| w.revoke("planner")),
        ("agent planner is retired or unknown", |w| {
            w.registry.apply(&RegistryEvent::AgentRetired { agent: agent("planner"), by: person("root") });
        }),
        ("agent executor is frozen", |w| w.suspend(Scope::Agent(agent("executor")))),
        ("class workers is frozen", |w| w.suspend(Scope::Class(AgentClass::parse("workers").unwrap()))),
        ("tool cloud.* is frozen", |w| w.suspend(Scope::Tool(pattern("cloud.*")))),
    ];
    for (why, change) in ends {
        let mut world = world.clone();
        change(&mut world);
        assert_eq!(why_it_must_end(&world, &lease).as_deref(), Some(why));
    }
    for (scope, named) in [
        (Scope::All, "everything"),
        (Scope::Task(TaskId::parse("t-1").unwrap()), "task t-1"),
        (Scope::Initiator(person("dana")), "initiator dana@example.org"),
        (Scope::Agent(agent("planner")), "agent planner"),
    ] {
        let mut world = world.clone();
        let (by, reason, at) = (person("erin"), "odd".to_owned(), world.now);
        let suspension = Suspension { halt: Halt::Killed, by, reason, at };
        world.registry.apply(&RegistryEvent::Suspended { target: scope, suspension });
        assert_eq!(why_it_must_end(&world, &lease), Some(format!("{named} is killed")));
    }
}

// proves: Z1, R1
#[test]
fn what_is_none_of_its_business_ends_nothing() {
    let mut world = world();
    let lease = leased(&mut world, "planner", "files.read", "{}");
    world.suspend(Scope::Tool(pattern("cloud.*")));
    world.suspend(Scope::Agent(agent("executor")));
    world.suspend(Scope::Class(AgentClass::parse("readers").unwrap()));
    world.suspend(Scope::Initiator(person("gina")));
    world.revoke("executor");
    world.now = Time(EVENING.0 - 1);
    assert_eq!(why_it_must_end(&world, &lease), None);
    world.now = EVENING;
    assert_eq!(why_it_must_end(&world, &lease).as_deref(), Some("its time is over"));
}

// proves: Z3, INV2
#[test]
fn a_grant_lives_until_its_end_and_not_at_it() {
    let mut world = world();
    let executor = world.grant_of("executor");
    let end = NOON.plus_ms(SHORT_MS);
    assert!(world.task.is_live(&executor, Time(end.0 - 1)) && !world.task.is_live(&executor, end));
    let root = grant("g-root");
    assert!(world.task.is_live(&root, Time(EVENING.0 - 1)) && !world.task.is_live(&root, EVENING));
    assert!(!world.task.is_live(&grant("g-none"), NOON));
    let mut frozen = world.clone();
    frozen.append(vec![TaskEvent::Frozen { by: "erin".to_owned(), reason: "odd".to_owned() }]);
    assert!(!frozen.task.is_live(&root, NOON), "nor does an open window");
    world.revoke("planner");
    assert!(!world.task.is_live(&executor, NOON), "an open task alone keeps nothing alive");
}

// proves: Z1, Z3
#[test]
fn a_credential_never_outlives_the_grant_it_is_for() {
    let mut world = world();
    for (who, until) in [("executor", NOON.plus_ms(SHORT_MS)), ("planner", EVENING)] {
        let lease = leased(&mut world, who, "cloud.restart", RESTART);
        assert_eq!(world.task.lease(&lease).unwrap().intent.until, until, "{who}");
    }
    let permit = permit(&mut world, "planner", "files.read", "{}");
    let terms = lease_terms(&mut world, NOON.plus_ms(5));
    let TaskEvent::LeaseRequested(intent) =
        Wanted::judge(world.scene(), &permit, terms, Quota::default()).unwrap().event()
    else {
        panic!("another event")
    };
    assert_eq!(intent.until, NOON.plus_ms(5));
}

// proves: INV3, INV7
#[test]
fn one_decision_has_one_credential() {
    let mut world = world();
    let first = permit(&mut world, "planner", "files.read", "{}");
    let second = permit(&mut world, "planner", "files.read", "{}");
    wants(&mut world, &first, Quota::default()).unwrap();
    assert_eq!(wants(&mut world, &first, Quota::default()).unwrap_err().code, "lease.used");
    wants(&mut world, &second, Quota::default()).unwrap();
    assert_eq!(world.task.leases().count(), 2);
}

// proves: Z1
#[test]
fn a_task_holds_no_more_credentials_at_once_than_its_quota() {
    let mut world = world();
    let quota = Quota { per_task: 2, ..Quota::default() };
    let permits: Vec<Permit> = (0..4).map(|_| permit(&mut world, "planner", "files.read", "{}")).collect();
    let first = wants(&mut world, &permits[0], quota).unwrap();
    wants(&mut world, &permits[1], quota).unwrap();
    assert_eq!(wants(&mut world, &permits[2], quota).unwrap_err().code, "lease.quota_task");
    happens(&mut world, &first, LeaseFact::Revoking { why: "over".to_owned() });
    assert_eq!(wants(&mut world, &permits[2], quota).unwrap_err().code, "lease.quota_task", "it stands");
    happens(&mut world, &first, gone("nobody", 0));
    wants(&mut world, &permits[2], quota).unwrap();
    assert_eq!(wants(&mut world, &permits[3], quota).unwrap_err().code, "lease.quota_task");
}

// proves: INV2, Z1
#[test]
fn a_decision_that_is_too_old_or_whose_authority_has_gone_brings_no_credential() {
    let mut world = world();
    let old = permit(&mut world, "planner", "files.read", "{}");
    let mut in_time = world.clone();
    in_time.now = Time(old.until().0 - 1);
    wants(&mut in_time, &old, Quota::default()).unwrap();
    world.now = old.until();
    assert_eq!(wants(&mut world, &old, Quota::default()).unwrap_err().code, "lease.late");

    let revoked = permit(&mut world, "planner", "files.read", "{}");
    world.revoke("planner");
    let why = wants(&mut world, &revoked, Quota::default()).unwrap_err();
    assert_eq!((why.code.as_str(), why.reason.as_str()), ("lease.not_live", "its grant has ended"));
}

// proves: INV11, A62
#[test]
fn a_node_whose_clock_runs_behind_gives_and_keeps_no_credential_that_the_log_says_is_over() {
    let mut world = world();
    let late = permit(&mut world, "planner", "files.read", "{}");
    let short = permit(&mut world, "executor", "cloud.restart", RESTART);
    let lease = leased(&mut world, "executor", "cloud.restart", RESTART);
    // Another node writes when the executor's minute is over; then a node an hour behind folds the same log.
    world.wait_ms(SHORT_MS);
    world.append(vec![TaskEvent::Resumed { by: person("erin"), reason: "go on".to_owned() }]);
    world.now = Time(1);
    assert_eq!(wants(&mut world, &late, Quota::default()).unwrap_err().code, "lease.late");
    assert_eq!(wants(&mut world, &short, Quota::default()).unwrap_err().code, "lease.late");
    assert_eq!(why_it_must_end(&world, &lease).as_deref(), Some("its time is over"));
    let fresh = permit(&mut world, "planner", "files.read", "{}");
    let given = wants(&mut world, &fresh, Quota::default()).unwrap();
    assert_eq!(why_it_must_end(&world, &given), None);
}

// proves: R6, Z1
#[test]
fn a_task_has_its_receipt_when_it_is_over_and_all_it_held_was_seen_gone() {
    let mut world = world();
    let cloud = leased(&mut world, "planner", "cloud.restart", RESTART);
    let more = leased(&mut world, "executor", "cloud.restart", RESTART);
    let files = leased(&mut world, "planner", "files.read", "{}");
    happens(&mut world, &cloud, created());
    happens(&mut world, &cloud, LeaseFact::Used { sessions: 3 });
    ends(&mut world);
    happens(&mut world, &cloud, gone("nobody", 3));
    happens(&mut world, &files, gone("nobody", 0));
    assert_eq!(receipt(&world.task), None, "one has not been seen gone");
    happens(&mut world, &more, gone("nobody", 2));
    let told = receipt(&world.task).unwrap();
    let counted: Vec<_> =
        told.systems.iter().map(|s| (s.system.as_str(), s.credentials, s.used, s.sessions_ended)).collect();
    assert_eq!(counted, [("cloud", 2, 1, 5), ("files", 1, 0, 0)]);
    assert_ne!(told.systems[0].evidence, told.systems[1].evidence);

    let mut seen_otherwise = world.clone();
    happens(&mut seen_otherwise, &files, LeaseFact::Found { what: "there again".to_owned() });
    assert_eq!(receipt(&seen_otherwise.task), None, "what is found again takes the receipt away");
    happens(&mut seen_otherwise, &files, gone("nobody any more", 0));
    let again = receipt(&seen_otherwise.task).unwrap();
    assert_eq!(again.systems[0], told.systems[0]);
    assert_ne!(again.systems[1].evidence, told.systems[1].evidence, "the answers are part of it");
}

// proves: R6
#[test]
fn there_is_no_receipt_for_a_task_that_goes_on_or_that_held_nothing() {
    let mut open = world();
    let lease = leased(&mut open, "planner", "files.read", "{}");
    happens(&mut open, &lease, gone("nobody", 0));
    assert_eq!(receipt(&open.task), None);
    let mut idle = world();
    ends(&mut idle);
    assert_eq!(receipt(&idle.task), None);
}

// proves: R6
#[test]
fn the_log_keeps_the_receipt_until_a_credential_comes_back() {
    let mut world = world();
    let lease = leased(&mut world, "planner", "files.read", "{}");
    ends(&mut world);
    happens(&mut world, &lease, gone("nobody", 0));
    let told = receipt(&world.task).unwrap();
    world.append(vec![TaskEvent::Receipted(told.clone())]);
    assert_eq!(world.task.receipt(), Some(&(told, world.now)));
    happens(&mut world, &lease, created());
    assert!(world.task.receipt().is_some(), "a late fact about what is gone changes nothing");
    happens(&mut world, &lease, LeaseFact::Found { what: "there again".to_owned() });
    assert_eq!(world.task.receipt(), None);
}

fn failed() -> LeaseFact {
    let (code, reason) = ("target.unreachable".to_owned(), "no route".to_owned());
    LeaseFact::Failed { step: Step::Drop, code, reason, attempts: 2 }
}

/// A credential of the task, to which facts happen one by one.
fn lone_lease() -> Lease {
    let mut world = world();
    let id = leased(&mut world, "planner", "files.read", "{}");
    world.task.lease(&id).unwrap().clone()
}

// proves: R3, Z1
#[test]
fn a_credential_is_created_given_out_and_revoked_in_this_order() {
    let mut lease = lone_lease();
    lease.apply(&LeaseFact::Active, Time(1));
    assert_eq!(lease.state, LeaseState::Requested, "what was not created cannot be given out");
    lease.apply(&created(), Time(2));
    assert_eq!((lease.state.clone(), lease.created), (LeaseState::Created, Some(Time(2))));
    lease.apply(&LeaseFact::Active, Time(3));
    assert_eq!(lease.state, LeaseState::Active);
    lease.apply(&LeaseFact::Revoking { why: "over".to_owned() }, Time(4));
    lease.apply(&LeaseFact::Active, Time(5));
    lease.apply(&LeaseFact::Revoking { why: "again".to_owned() }, Time(6));
    let since_four = LeaseState::Revoking { why: "over".to_owned(), since: Time(4) };
    assert_eq!(lease.state, since_four, "the first order stands, and the clock of its debt runs on");
}

// proves: R3
#[test]
fn finding_a_credential_that_stands_anyway_forgives_no_debt() {
    let mut lease = lone_lease();
    lease.apply(&LeaseFact::Revoking { why: "over".to_owned() }, Time(1));
    lease.apply(&failed(), Time(2));
    let before = lease.clone();
    lease.apply(&LeaseFact::Found { what: "it is there".to_owned() }, Time(900_000));
    assert_eq!(lease, before);
    assert!(lease.is_debt(Time(3)));
}

// proves: R3
#[test]
fn a_revocation_becomes_debt_when_it_fails_or_takes_too_long() {
    let mut lease = lone_lease();
    assert!(!lease.is_debt(Time(u64::MAX)), "what need not go is no debt");
    lease.apply(&LeaseFact::Revoking { why: "over".to_owned() }, Time(10));
    assert!(!lease.is_debt(Time(10 + DEBT_AFTER_MS)));
    assert!(lease.is_debt(Time(11 + DEBT_AFTER_MS)));
    lease.apply(&failed(), Time(11));
    assert!(lease.is_debt(Time(11)));
    lease.apply(&gone("nobody", 0), Time(12));
    assert!(!lease.is_debt(Time(u64::MAX)));
}

// proves: R3
#[test]
fn only_what_takes_away_may_use_what_is_kept_back_for_endings() {
    for (fact, takes_away) in [
        (created(), false),
        (LeaseFact::Active, false),
        (LeaseFact::Used { sessions: 1 }, false),
        (LeaseFact::Revoking { why: "over".to_owned() }, true),
        (failed(), true),
        (LeaseFact::Acknowledged { by: "olga".to_owned(), reason: "known".to_owned() }, true),
        (gone("nobody", 0), true),
        (LeaseFact::Found { what: "it".to_owned() }, true),
    ] {
        assert_eq!(fact.only_takes_away(), takes_away, "{fact:?}");
    }
}

// proves: INV8, R6
#[test]
fn the_sessions_that_were_ended_survive_the_ledger() {
    for sessions in [0, 1, 7] {
        let LeaseFact::Gone { evidence } = gone("nobody", sessions) else { panic!("another fact") };
        let text = serde_json::to_string(&evidence).unwrap();
        assert_eq!(serde_json::from_str::<Evidence>(&text).unwrap(), evidence);
        assert_eq!(text.contains("sessions_ended"), sessions > 0, "{text}");
    }
}

// proves: INV7
#[test]
fn a_second_intent_under_the_same_name_changes_nothing() {
    let mut world = world();
    let id = leased(&mut world, "planner", "files.read", "{}");
    happens(&mut world, &id, created());
    let known: Task = world.task.clone();
    let mut again = known.lease(&id).unwrap().intent.clone();
    again.until = Time(u64::MAX);
    world.append(vec![TaskEvent::LeaseRequested(again)]);
    assert_eq!(world.task.lease(&id), known.lease(&id));
}
