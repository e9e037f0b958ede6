//! Many credentials in a real PostgreSQL, all killed at once: from the word to the receipts. And a node that comes back to
//! many.
//!
//! 60 logins in 3 tasks by default, and as many credentials in a target in memory. `BAILIWICK_MANY_LEASES=1000
//! BAILIWICK_MANY_TASKS=1 BAILIWICK_MANY_STANDINS=0` is the first of the runs whose figures are kept in
//! `docs/measurements/kills.md`.

use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bailiwick_api::{Call, Caller};
use bailiwick_broker::Broker;
use bailiwick_broker::mark::Maker;
use bailiwick_broker::postgres::{Config, Postgres};
use bailiwick_core::Time;
use bailiwick_core::event::Cause;
use bailiwick_core::lease::{LeaseState, Quota};
use bailiwick_core::registry::{Halt, Scope};
use bailiwick_engine::{
    Clock, Connectors, Engine, Leased, NewTask, OpenedTask, Patience, SystemClock, TestClock,
};
use bailiwick_stand::Cluster;
use futures_util::stream::StreamExt as _;

use crate::fake::Fake;
use crate::kills::{SETUP, caller_of, number, shop_at, tasks_in};
use crate::leases::{asked_for, call, open, register};
use crate::world::*;

/// How many agents ask at the same time.
const ABREAST: usize = 8;

async fn engine_on(folder: &Path, clock: Arc<dyn Clock>, brokers: Vec<Arc<dyn Broker>>) -> Engine {
    let engine = Engine::open(store_in(folder).await, config_with("acme", clock)).await.unwrap();
    furnish(&engine).await;
    register(&engine).await;
    for manifest in brokers.iter().flat_map(|broker| broker.scopes()) {
        engine.classify(&person("root"), manifest, None).await.unwrap();
    }
    connect(&engine, brokers).await;
    engine
}

async fn connect(engine: &Engine, brokers: Vec<Arc<dyn Broker>>) {
    let quota = Quota { per_task: u32::MAX, per_agent: u32::MAX, per_target: u32::MAX };
    engine.connect(Connectors { brokers, quota, patience: Patience::default() }).await.unwrap();
}

fn shop(cluster: &Cluster) -> Arc<dyn Broker> {
    let config = Config { scram_rounds: NonZeroU32::MIN, ..shop_at(&cluster.url("postgres")) };
    Arc::new(Postgres::new(config, Maker::new(&[5; 32])).unwrap())
}

/// Takes logins and then credentials of the stand-in, for one task after the other; how long asking for one took,
/// sorted.
async fn take(engine: &Engine, tasks: &[OpenedTask], leases: usize, stand_ins: usize) -> Vec<Duration> {
    let callers: Vec<_> = tasks.iter().map(|task| caller_of(engine, task)).collect();
    let ask = |n: usize| {
        let caller = Caller { until: engine.now().plus_ms(300_000), ..callers[n % tasks.len()].clone() };
        let what = if n < leases { "shop.read" } else { "other.read" };
        async move {
            let begun = Instant::now();
            let given = engine.lease(&caller, call(what)).await.unwrap();
            assert!(matches!(given, Leased::Given(_)), "{given:?}");
            begun.elapsed()
        }
    };
    let mut took: Vec<_> = futures_util::stream::iter((0..leases + stand_ins).map(ask))
        .buffer_unordered(ABREAST)
        .collect()
        .await;
    took.sort_unstable();
    took
}

async fn opened(engine: &Engine, many: usize) -> Vec<OpenedTask> {
    futures_util::stream::iter(0..many).then(|_| open(engine)).collect().await
}

/// How often another agent, in a task of its own, gets an effect allowed and recorded.
const PACE: Duration = Duration::from_millis(5);

/// What another agent does meanwhile: so many effects, or until it is told to stop; how long each answer took, sorted.
async fn beside(engine: Engine, caller: Caller, most: usize, stop: Arc<AtomicBool>) -> Vec<Duration> {
    let mut took = Vec::new();
    while took.len() < most && !stop.load(Ordering::Relaxed) {
        let args = json(r#"{"id":4711,"text":"still at work"}"#);
        let call = Call { tool: tool("tickets.comment"), args, definition: None, approval: None, says: None };
        let begun = Instant::now();
        allowed(engine.decide(&caller, call).await.unwrap());
        took.push(begun.elapsed());
        tokio::time::sleep(PACE).await;
    }
    took.sort_unstable();
    took
}

fn p99(took: &[Duration]) -> Duration {
    took[took.len() * 99 / 100]
}

/// Asks until it is so; the pauses are longer than the asking, so that asking does not become the work.
async fn until<T: Future<Output = bool>>(begun: Instant, mut done: impl FnMut() -> T) -> Duration {
    loop {
        let asking = Instant::now();
        if done().await {
            break;
        }
        let pause = (asking.elapsed() * 4).clamp(Duration::from_millis(5), Duration::from_millis(500));
        tokio::time::sleep(pause).await;
        assert!(begun.elapsed() < Duration::from_secs(600), "it does not come about");
    }
    begun.elapsed()
}

// proves: R1, R2, R3, R5, R6, Z1
#[tokio::test(flavor = "multi_thread")]
async fn many_logins_killed_at_once_are_seen_gone_twice_and_receipted() {
    let leases = number("BAILIWICK_MANY_LEASES").map_or(60, |n| n as usize);
    let tasks = number("BAILIWICK_MANY_TASKS").map_or(3, |n| n as usize);
    let stand_ins = number("BAILIWICK_MANY_STANDINS").map_or(60, |n| n as usize);
    let (stand_in, state) = Fake::new("other");
    let standing_in = || state.lock().unwrap().there.len();
    let cluster = Cluster::start("fsync=on");
    let admin = cluster.connect("postgres").await;
    admin.batch_execute(SETUP).await.unwrap();
    let there = "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'bw\\_%'";
    let logins = async || admin.query_one(there, &[]).await.unwrap().get::<_, i64>(0) as usize;
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(SystemClock::default());
    let engine = engine_on(folder.path(), clock, vec![shop(&cluster), stand_in]).await;
    let working = tokio::spawn({
        let engine = engine.clone();
        async move { engine.work().await }
    });
    let begun = Instant::now();
    let opened = opened(&engine, tasks).await;
    let took = take(&engine, &opened, leases, stand_ins).await;
    let taking = begun.elapsed();
    assert_eq!((logins().await, standing_in()), (leases, stand_ins));
    let other = engine.open_task(a_task()).await.unwrap();
    let other =
        Caller { agent: agent("support"), instance: instance("support"), ..caller_of(&engine, &other) };
    let stop = Arc::new(AtomicBool::new(false));
    let calm = beside(engine.clone(), other.clone(), 200, stop.clone()).await;
    let (last, elsewhere) = (caller_of(&engine, &opened[tasks - 1]), open(&engine).await);

    let begun = Instant::now();
    let beside = tokio::spawn(beside(engine.clone(), other, 10_000, stop.clone()));
    let denied_after = tokio::spawn({
        let engine = engine.clone();
        async move { until(begun, || async { !engine.live(&last).await }).await }
    });
    if tasks == 1 {
        engine.end_task("dana", &opened[0].task, Cause::Killed, "stop").await.unwrap();
    } else {
        engine.suspend(&person("root"), Scope::Agent(agent("reporter")), Halt::Killed, "stop").await.unwrap();
    }
    let told = begun.elapsed();
    let gone = until(begun, || async { logins().await == 0 }).await;
    let stand_ins_gone = until(begun, || async { standing_in() == 0 }).await;
    let closed = until(begun, || async { engine.credentials().await.unwrap().is_empty() }).await;
    stop.store(true, Ordering::Relaxed);
    let (denied, meanwhile) = (denied_after.await.unwrap(), beside.await.unwrap());
    let asked_again = engine.lease(&caller_of(&engine, &opened[0]), call("shop.read")).await;
    assert!(!matches!(asked_again, Ok(Leased::Given(_))), "{asked_again:?}");
    assert_eq!(engine.task(&elsewhere.task).await.unwrap().has_ended(), tasks > 1);
    working.abort();
    engine.store().close().await;

    // What the oracle reads in the store's own file.
    let kept = tasks_in(folder.path());
    let ended: Vec<_> = kept.values().map(|(task, _)| task).filter(|t| t.leases().next().is_some()).collect();
    assert_eq!(ended.len(), tasks);
    let twice =
        |state: &LeaseState| matches!(state, LeaseState::Gone { evidence, .. } if evidence.looks.len() == 2);
    assert_eq!(ended.iter().flat_map(|t| t.leases()).filter(|l| twice(&l.state)).count(), leases + stand_ins);
    assert!(ended.iter().all(|t| t.receipt().is_some()), "each task has its receipt");
    println!(
        "{leases} logins and {stand_ins} stand-ins in {tasks} tasks: taken in {taking:?} ({:.0} a second, one p50 {:?}, p99 {:?}); killed: denied after {denied:?}, \
         acknowledged after {told:?}, all gone from the server after {gone:?} ({:.0} a second), stand-ins after {stand_ins_gone:?}, all seen gone twice and receipted after {closed:?}; \
         an effect of another task: p50 {:?}, p99 {:?} before, p50 {:?}, p99 {:?} meanwhile",
        took.len() as f64 / taking.as_secs_f64(),
        took[took.len() / 2],
        p99(&took),
        leases as f64 / gone.as_secs_f64(),
        calm[calm.len() / 2],
        p99(&calm),
        meanwhile[meanwhile.len() / 2],
        p99(&meanwhile),
    );
}

// proves: R3, Z1, Z3, INV2, INV6
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_comes_back_to_many_credentials_serves_at_once_and_ends_those_that_are_over() {
    // Of fewer than ten tasks, none would go on.
    let tasks = number("BAILIWICK_MANY_TASKS").map_or(10, |n| n as usize).max(10);
    let stand_ins = number("BAILIWICK_MANY_STANDINS").map_or(100, |n| n as usize);
    let (stand_in, state) = Fake::new("other");
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(TestClock::at(Time(1_800_000_000_000)));
    let engine = engine_on(folder.path(), clock.clone(), vec![stand_in.clone()]).await;
    // Three of ten are over when the node is back.
    let is_short = |n: usize| n % 10 < 3;
    let mut all = Vec::new();
    for n in 0..tasks {
        let ttl_ms = if is_short(n) { 100_000 } else { 3_600_000 };
        all.push(engine.open_task(NewTask { ttl_ms, ..asked_for() }).await.unwrap());
    }
    take(&engine, &all, 0, stand_ins).await;
    let kept = (0..stand_ins).filter(|n| !is_short(n % tasks)).count();
    let (over, going_on) = (caller_of(&engine, &all[0]), caller_of(&engine, &all[tasks - 1]));
    engine.store().close().await;
    drop(engine);
    clock.advance_ms(200_000);

    let begun = Instant::now();
    let config = config_with("acme", clock);
    let engine = Engine::open(store_in(folder.path()).await, config).await.unwrap();
    connect(&engine, vec![stand_in.of_another_node()]).await;
    assert!(!engine.live(&over).await && engine.live(&going_on).await);
    let serving = begun.elapsed();
    let working = tokio::spawn({
        let engine = engine.clone();
        async move { engine.work().await }
    });
    let there = || state.lock().unwrap().there.len();
    let ended = until(begun, || async { there() == kept }).await;
    let closed = until(begun, || async { engine.credentials().await.unwrap().len() == kept }).await;
    assert_eq!(there(), kept, "what is not over stays");
    assert!(matches!(engine.lease(&over, call("other.read")).await, Ok(Leased::Deny(_)) | Err(_)));
    working.abort();
    println!(
        "back to {stand_ins} stand-ins in {tasks} tasks: serving after {serving:?}, the {} that were over gone after \
         {ended:?}, seen gone twice after {closed:?}",
        stand_ins - kept,
    );
}
