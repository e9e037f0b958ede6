//! The conformance suite: what every connector must do to its target, seen from the target's side.
//!
//! A connector brings a [`Stage`]: its real server, an agent's way in, and an oracle that asks the server directly.
//! `conformance!(name, Stage::new().await)` makes the tests.

use std::collections::BTreeMap;
use std::time::Duration;

use bailiwick_broker::{Broker, Credential, FoundKind, Handle};
use bailiwick_core::ToolId;
use bailiwick_core::lease::Step;
use bailiwick_core::value::Value;
use futures_util::future::join_all;

use crate::mandates::{Ready, ready};

/// A target with everything a test needs around it.
pub(crate) trait Stage {
    /// One live session of an agent.
    type Session: Session;

    fn broker(&self) -> &dyn Broker;
    /// The scope that the suite asks for, and its arguments.
    fn scope(&self) -> (ToolId, BTreeMap<String, Value>);
    /// What its holder must be able to do, and must not.
    fn allowed(&self) -> Vec<&'static str>;
    fn denied(&self) -> Vec<&'static str>;
    async fn log_in(&self, credential: &Credential) -> Result<Self::Session, String>;
    /// Asks the server itself whether the principal exists.
    async fn exists(&self, name: &str) -> bool;
    /// Makes a principal with this name, without our mark.
    async fn plant_lookalike(&self, name: &str);
    async fn remove_lookalike(&self, name: &str);
    /// Everything that the server wrote down.
    async fn logs(&self) -> String;
    /// Whether the target keeps principals, which can be listed there and imitated.
    fn keeps_principals(&self) -> bool {
        true
    }
    /// How often each of eight at a time comes and goes.
    fn rounds(&self) -> usize {
        25
    }
    /// Whether ending live sessions is in this connector's power.
    fn ends_sessions(&self) -> bool {
        true
    }
}

pub(crate) trait Session {
    async fn run(&mut self, what: &str) -> Result<String, String>;
}

const HOUR: u64 = 3_600_000;

async fn wanted<S: Stage>(stage: &S) -> Ready {
    let (tool, args) = stage.scope();
    ready(stage.broker(), &tool, &args, HOUR).await.unwrap()
}

/// Every step, in order, and two looks.
pub(crate) async fn end(broker: &dyn Broker, handle: &Handle) {
    for step in Step::ALL {
        broker.revoke(handle, step).await.unwrap_or_else(|e| panic!("{step:?}: {} {e}", e.code()));
    }
    seen_gone(broker, handle).await;
}

pub(crate) async fn seen_gone(broker: &dyn Broker, handle: &Handle) {
    for _ in 0..2 {
        let sight = broker.look(handle).await.unwrap();
        assert!(sight.gone, "{sight:?}");
        assert!(sight.query.contains(&handle.name), "the query could be asked again: {}", sight.query);
        assert!(!sight.answer.is_empty());
    }
}

/// Waits for something that the target does a moment later.
pub(crate) async fn soon<T: Future<Output = bool>>(what: &str, mut ask: impl FnMut() -> T) {
    for _ in 0..1500 {
        if ask().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{what} did not come about");
}

pub(crate) async fn exactly_the_scope<S: Stage>(stage: S) {
    let (created, handle) = wanted(&stage).await.create(stage.broker()).await.unwrap();
    let effective = stage.broker().describe(&handle).await.unwrap();
    assert!(!effective.privileges.is_empty());
    let mut session = stage.log_in(&created.credential).await.unwrap();
    for what in stage.allowed() {
        session.run(what).await.unwrap_or_else(|e| panic!("{what}: {e}"));
    }
    for what in stage.denied() {
        let answer = session.run(what).await;
        assert!(answer.is_err(), "{what} was answered: {answer:?}");
    }
    end(stage.broker(), &handle).await;
}

pub(crate) async fn a_live_session_ends<S: Stage>(stage: S) {
    let (created, handle) = wanted(&stage).await.create(stage.broker()).await.unwrap();
    let mut session = stage.log_in(&created.credential).await.unwrap();
    let first = stage.allowed()[0];
    session.run(first).await.unwrap();
    end(stage.broker(), &handle).await;
    assert!(!stage.exists(&handle.name).await);
    assert!(stage.log_in(&created.credential).await.is_err(), "no new login");
    if stage.ends_sessions() {
        assert!(session.run(first).await.is_err(), "the old session is cut");
    }
}

pub(crate) async fn revoking_twice_and_the_absent_is_success<S: Stage>(stage: S) {
    let never = wanted(&stage).await;
    end(stage.broker(), &never.handle(None)).await;
    let (_, handle) = wanted(&stage).await.create(stage.broker()).await.unwrap();
    end(stage.broker(), &handle).await;
    end(stage.broker(), &handle).await;
    end(stage.broker(), &Handle { external: None, ..handle }).await;
}

/// Crash points: after the intent, after the creation whose answer was lost, after it was recorded, in the middle of
/// revoking, after the drop. Whatever was done before, a new process that knows only the log ends it.
pub(crate) async fn a_crash_at_any_point_leaves_nothing<S: Stage>(stage: S) {
    for point in 0..5 {
        let ready = wanted(&stage).await;
        let mut known = None;
        if point >= 1 {
            let created = ready.create(stage.broker()).await.unwrap().0;
            known = (point >= 2).then_some(created.external);
        }
        let handle = ready.handle(known);
        let done = match point {
            3 => &Step::ALL[..2],
            4 => &Step::ALL[..5],
            _ => &[],
        };
        for step in done {
            stage.broker().revoke(&handle, *step).await.unwrap();
        }
        end(stage.broker(), &handle).await;
        assert!(!stage.exists(&handle.name).await, "crash point {point}");
    }
}

pub(crate) async fn eight_at_a_time_and_nothing_is_lost<S: Stage>(stage: S) {
    let stage = &stage;
    let eight = (0..8).map(|_| async move {
        for _ in 0..stage.rounds() {
            let (created, handle) = wanted(stage).await.create(stage.broker()).await.unwrap();
            stage.log_in(&created.credential).await.unwrap();
            end(stage.broker(), &handle).await;
        }
    });
    join_all(eight).await;
    let left = stage.broker().sweep().await.unwrap();
    let ours: Vec<_> = left.iter().filter(|f| f.kind != FoundKind::Lookalike).collect();
    assert!(ours.is_empty(), "{ours:?}");
}

pub(crate) async fn a_stray_is_found_and_a_lookalike_is_left_alone<S: Stage>(stage: S) {
    let stray = wanted(&stage).await;
    let (created, handle) = stray.create(stage.broker()).await.unwrap();
    // Where nothing is kept, what can stray is a session.
    let _session = stage.log_in(&created.credential).await.unwrap();
    let other = wanted(&stage).await.handle(None);
    if stage.keeps_principals() {
        stage.plant_lookalike(&other.name).await;
    }

    let found = stage.broker().sweep().await.unwrap();
    let named = |name: &str| found.iter().find(|f| f.name == name).map(|f| f.kind.clone());
    assert_eq!(named(&handle.name), Some(FoundKind::Ours { lease: handle.lease.clone() }));
    if !stage.keeps_principals() {
        return end(stage.broker(), &Handle { external: None, ..handle }).await;
    }
    assert_eq!(named(&other.name), Some(FoundKind::Lookalike));

    for step in [Step::Block, Step::CutData, Step::RemoveOwned, Step::Drop] {
        if let Err(error) = stage.broker().revoke(&other, step).await {
            assert_eq!(error.code(), "target.lookalike", "{step:?}");
        }
    }
    assert!(stage.exists(&other.name).await, "what is not ours is never touched");
    assert!(!stage.broker().look(&other).await.unwrap().gone, "and never called gone");
    stage.remove_lookalike(&other.name).await;
    end(stage.broker(), &Handle { external: None, ..handle }).await;
}

pub(crate) async fn a_secret_is_told_once_and_written_nowhere<S: Stage>(stage: S) {
    let (created, handle) = wanted(&stage).await.create(stage.broker()).await.unwrap();
    let mut session = stage.log_in(&created.credential).await.unwrap();
    session.run(stage.allowed()[0]).await.unwrap();
    let printed = format!("{:?} {:?}", created, handle);
    let logs = stage.logs().await;
    for (name, secret) in &created.credential.secret {
        assert!(!printed.contains(secret.expose()), "{name} is printed");
        assert!(!logs.contains(secret.expose()), "{name} is in the server's log");
    }
    end(stage.broker(), &handle).await;
}

pub(crate) async fn a_scope_asked_for_wrongly_is_refused<S: Stage>(stage: S) {
    let (tool, mut args) = stage.scope();
    args.insert("no_such_argument".to_owned(), Value::from("x"));
    let spec = bailiwick_broker::Spec { args, ..wanted(&stage).await.plan.spec };
    assert_eq!(stage.broker().prepare(spec.clone()).await.unwrap_err().code(), "scope.argument");
    let unknown = ToolId::parse(&format!("{}.no_such_scope", tool.system())).unwrap();
    let spec = bailiwick_broker::Spec { tool: unknown, ..spec };
    assert_eq!(stage.broker().prepare(spec).await.unwrap_err().code(), "scope.unknown");
}

/// Many at once, as when a task is killed: whatever the bulk way does not end goes step by step.
pub(crate) async fn many_end_at_once<S: Stage>(stage: S) {
    let mut handles = Vec::new();
    let mut sessions = Vec::new();
    for i in 0..20 {
        let (created, handle) = wanted(&stage).await.create(stage.broker()).await.unwrap();
        if i % 5 == 0 {
            sessions.push(stage.log_in(&created.credential).await.unwrap());
        }
        handles.push(handle);
    }
    let ended = stage.broker().revoke_many(&handles).await.unwrap();
    assert_eq!(ended.len(), handles.len());
    for (handle, ended) in handles.iter().zip(ended) {
        match ended {
            Ok(_) => seen_gone(stage.broker(), handle).await,
            Err(error) => {
                assert_eq!(error.code(), "target.one_by_one");
                end(stage.broker(), handle).await;
            }
        }
    }
}

/// Makes the suite for one connector.
#[macro_export]
macro_rules! conformance {
    ($stage:expr) => {
        // proves: X2, Z4, Z2
        #[tokio::test(flavor = "multi_thread")]
        async fn exactly_the_scope() {
            $crate::kit::exactly_the_scope($stage).await;
        }
        // proves: R2, R6, A55
        #[tokio::test(flavor = "multi_thread")]
        async fn a_live_session_ends() {
            $crate::kit::a_live_session_ends($stage).await;
        }
        // proves: R3
        #[tokio::test(flavor = "multi_thread")]
        async fn revoking_twice_and_the_absent_is_success() {
            $crate::kit::revoking_twice_and_the_absent_is_success($stage).await;
        }
        // proves: R3, Z1, A53
        #[tokio::test(flavor = "multi_thread")]
        async fn a_crash_at_any_point_leaves_nothing() {
            $crate::kit::a_crash_at_any_point_leaves_nothing($stage).await;
        }
        // proves: X2, R2
        #[tokio::test(flavor = "multi_thread")]
        async fn eight_at_a_time_and_nothing_is_lost() {
            $crate::kit::eight_at_a_time_and_nothing_is_lost($stage).await;
        }
        // proves: R6
        #[tokio::test(flavor = "multi_thread")]
        async fn a_stray_is_found_and_a_lookalike_is_left_alone() {
            $crate::kit::a_stray_is_found_and_a_lookalike_is_left_alone($stage).await;
        }
        // proves: INV14, A50
        #[tokio::test(flavor = "multi_thread")]
        async fn a_secret_is_told_once_and_written_nowhere() {
            $crate::kit::a_secret_is_told_once_and_written_nowhere($stage).await;
        }
        // proves: D6, Z4
        #[tokio::test(flavor = "multi_thread")]
        async fn a_scope_asked_for_wrongly_is_refused() {
            $crate::kit::a_scope_asked_for_wrongly_is_refused($stage).await;
        }
        // proves: R2, R5
        #[tokio::test(flavor = "multi_thread")]
        async fn many_end_at_once() {
            $crate::kit::many_end_at_once($stage).await;
        }
    };
}
