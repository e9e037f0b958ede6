//! The answer of a tool that only reads may go ahead of its record; what it brought counts whatever happens to that.

use bailiwick_api::{Caller, Outcome, OutcomeStatus};
use bailiwick_core::capability::{Capability, Limits};
use bailiwick_core::event::{Recorded, TaskEvent, Went};
use bailiwick_core::label::Level;
use bailiwick_core::task::Task;
use bailiwick_core::tool::{Effect, Manifest, Role, ToolPattern};
use bailiwick_core::{DecisionId, TaskId};
use bailiwick_engine::{NewTask, OpenedTask};

use crate::world::{World, a_task, allowed, json, person, store_in, tool};

/// A vault behind the gateway that can be read and rotated, and one that agents read themselves.
async fn world() -> World {
    let world = World::new().await;
    let offered = |name: &str| json(&format!(r#"{{"name":"{name}","inputSchema":{{"type":"object"}}}}"#));
    let offered = ["vault", "rotate"].map(offered).to_vec();
    world.engine.observe("tickets", offered).await.unwrap();
    let confidential = |name: &str, effect| {
        let mut manifest = Manifest::new(tool(name), effect);
        manifest.labels.level = Level::Confidential;
        manifest.reversible = true;
        manifest
    };
    let mut note = Manifest::new(tool("tickets.note"), Effect::Create).arg("text", Role::Content);
    note.reversible = true;
    let all = [
        confidential("tickets.vault", Effect::Read),
        confidential("tickets.rotate", Effect::Update),
        confidential("tickets.own", Effect::Read),
        note,
    ];
    for manifest in all {
        world.engine.classify(&person("root"), manifest, None).await.unwrap();
    }
    world
}

fn done() -> Outcome {
    let result = Some(json(r#"{"plan":"we buy them in May"}"#));
    Outcome { status: OutcomeStatus::Done, result, words: vec![], bytes: 10, note: None }
}

/// A call that is answered, perhaps ahead of its record.
async fn answered(world: &World, caller: &Caller, name: &str) -> DecisionId {
    let decision = allowed(world.call(caller, name, "{}").await);
    world.engine.report_soon(caller, &decision, done()).await.unwrap();
    decision
}

fn level(task: &Task, opened: &OpenedTask) -> Level {
    task.grant(&opened.grant).unwrap().label.level
}

/// What the log says became of a call.
async fn recorded(world: &World, task: &TaskId, decision: &DecisionId) -> Option<Went> {
    let events = world.engine.store().read(&format!("acme/task/{task}"), 0).await.unwrap();
    events.iter().find_map(|event| match Recorded::<TaskEvent>::decode(&event.bytes).unwrap().event {
        TaskEvent::Reported(reported) if reported.decision == *decision => Some(reported.went),
        _ => None,
    })
}

/// What a crash at this moment leaves, started again. Nothing in this process runs while the files are copied, so
/// nothing that lingers gets to them.
async fn crashed(world: &World) -> World {
    let folder = tempfile::tempdir().unwrap();
    for name in ["ledger.db", "ledger.db-wal"] {
        std::fs::copy(world.folder.path().join(name), folder.path().join(name)).unwrap();
    }
    let clock = world.clock.clone();
    let store = store_in(folder.path()).await;
    let engine = bailiwick_engine::Engine::open(store, crate::world::config("acme", clock.clone())).await;
    World { engine: engine.unwrap(), clock, folder }
}

// proves: INV7, N2
#[tokio::test]
async fn what_was_read_counts_in_the_next_decision_and_stands_before_it_in_the_log() {
    let world = world().await;
    let opened = world.open_with(None).await;
    let support = world.caller(&opened.task, &opened.grant, "support");
    let before = world.engine.task(&opened.task).await.unwrap();
    assert_eq!(level(&before, &opened), Level::Public);
    let read = answered(&world, &support, "tickets.vault").await;
    let after = world.engine.task(&opened.task).await.unwrap();
    assert_eq!(level(&after, &opened), Level::Confidential, "before anything is flushed");

    allowed(world.call(&support, "tickets.note", r#"{"text":"hello"}"#).await);
    let events = world.engine.store().read(&format!("acme/task/{}", opened.task), 0).await.unwrap();
    let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds, ["opened", "decided", "reported", "decided"]);
    assert_eq!(recorded(&world, &opened.task, &read).await, Some(Went::Done));
}

// proves: INV7, A31, N2
#[tokio::test]
async fn a_crash_before_the_record_forgets_no_reading() {
    let world = world().await;
    let opened = world.open_with(None).await;
    let support = world.caller(&opened.task, &opened.grant, "support");
    let read = answered(&world, &support, "tickets.vault").await;
    let other = crashed(&world).await;

    let task = other.engine.task(&opened.task).await.unwrap();
    assert_eq!(recorded(&other, &opened.task, &read).await, Some(Went::Unknown), "the record was lost");
    assert_eq!(level(&task, &opened), Level::Confidential, "but not what it could have brought");
    assert!(task.grant(&opened.grant).unwrap().label.untrusted.contains("tickets.vault"));
    assert!(task.open_calls().is_empty());

    // Where nothing crashed, the record says what came of it, and a restart changes nothing.
    let world = world.reopened().await;
    assert_eq!(recorded(&world, &opened.task, &read).await, Some(Went::Done));
}

// proves: INV7
#[tokio::test]
async fn what_more_hangs_on_than_a_label_is_durable_before_it_is_answered() {
    let world = world().await;
    let rows = Limits { rows: Some(100), ..Limits::default() };
    let metered = Capability { limits: rows, ..Capability::to_use(ToolPattern::parse("tickets.*").unwrap()) };
    let step = r#"{"steps":[{"id":"look","agent":"support","act":"call","tool":"tickets.vault","args":{}}]}"#;
    let (plain, chained) = (world.new_task(None), world.new_task(Some(step)));
    let metered = NewTask { capabilities: Some(vec![metered]), ..a_task() };
    for (name, task) in [
        ("tickets.rotate", plain.clone()), // an effect
        ("tickets.own", plain),            // not behind the gateway
        ("tickets.vault", chained),        // a declared step
        ("tickets.vault", metered),        // a bound on results
    ] {
        let opened = world.engine.open_task(task).await.unwrap();
        let support = world.caller(&opened.task, &opened.grant, "support");
        let decision = answered(&world, &support, name).await;
        let other = crashed(&world).await;
        assert_eq!(recorded(&other, &opened.task, &decision).await, Some(Went::Done), "{name}");
    }
}

// proves: INV7
#[tokio::test]
async fn what_agents_run_themselves_is_still_reported_after_a_restart() {
    let world = world().await;
    let opened = world.open_with(None).await;
    let support = world.caller(&opened.task, &opened.grant, "support");
    let own = allowed(world.call(&support, "tickets.own", "{}").await);
    let behind = allowed(world.call(&support, "tickets.vault", "{}").await);
    let world = world.reopened().await;
    world.engine.report_by_caller(&support, &own, done()).await.unwrap();
    let late = world.engine.report(&support, &behind, done()).await.unwrap_err();
    assert_eq!(late.code, "report.not_open", "nobody is left who saw what came of it");
}

// proves: INV6, INV7
#[tokio::test]
async fn while_a_record_cannot_be_written_nothing_is_decided_and_then_it_comes_first() {
    let world = world().await;
    let opened = world.open_with(None).await;
    let support = world.caller(&opened.task, &opened.grant, "support");
    let other = world.open_with(None).await;
    let read = allowed(world.call(&support, "tickets.vault", "{}").await);

    let blocker = rusqlite::Connection::open(world.folder.path().join("ledger.db")).unwrap();
    blocker.execute_batch("BEGIN IMMEDIATE").unwrap();
    world.engine.report_soon(&support, &read, done()).await.unwrap();
    let call = || bailiwick_api::Call {
        tool: tool("tickets.note"),
        args: json(r#"{"text":"hello"}"#),
        definition: None,
        approval: None,
        says: None,
    };
    let refused = world.engine.decide(&support, call()).await.unwrap_err();
    assert_eq!(refused.code, "store.locked");
    let refused = world.engine.decide(&support, call()).await.unwrap_err();
    assert_eq!(refused.code, "store.locked", "it is owed, and comes first");

    blocker.execute_batch("ROLLBACK").unwrap();
    allowed(world.engine.decide(&support, call()).await.unwrap());
    let events = world.engine.store().read(&format!("acme/task/{}", opened.task), 0).await.unwrap();
    let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds, ["opened", "decided", "reported", "decided"]);
    let task = world.engine.task(&opened.task).await.unwrap();
    assert_eq!(level(&task, &opened), Level::Confidential);
    let untouched = world.engine.task(&other.task).await.unwrap();
    assert_eq!(level(&untouched, &other), Level::Public, "another task owes nothing");
}
