//! Two nodes on one store and one target: what one of them does, the other does not, and what one of them leaves behind,
//! the other ends.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bailiwick_api::Caller;
use bailiwick_broker::Broker;
use bailiwick_core::event::{Cause, TaskEvent};
use bailiwick_core::lease::{Lease, LeaseFact, LeaseState, Quota};
use bailiwick_core::{LeaseId, Time};
use bailiwick_engine::{Connectors, Engine, EngineError, Leased, OpenedTask, Patience, TestClock};
use bailiwick_stand::Cluster;
use bailiwick_store::{Location, Store};

use crate::fake::{Fake, State, impatient};
use crate::leases::{call, open, register};
use crate::world::*;

/// A node.
struct Node {
    engine: Engine,
    fake: Arc<Fake>,
}

/// Two of them, and what they share.
struct Pair {
    a: Node,
    b: Node,
    clock: Arc<TestClock>,
    state: Arc<Mutex<State>>,
    task: OpenedTask,
}

/// Waits long for the target, and claims it briefly: what it hangs in, another node takes over.
fn slow() -> Patience {
    Patience { answer: Duration::from_secs(60), claim: Duration::from_millis(300), ..impatient() }
}

impl Node {
    async fn new(url: &str, clock: &Arc<TestClock>, fake: Arc<Fake>, patience: Patience) -> Node {
        let store = Store::open(Location::Postgres(url.to_owned())).await.unwrap();
        let engine = Engine::open(store, config("acme", clock.clone())).await.unwrap();
        if engine.registry().agent(&agent("reporter")).is_none() {
            furnish(&engine).await;
            register(&engine).await;
            for manifest in fake.scopes() {
                engine.classify(&person("root"), manifest, None).await.unwrap();
            }
        }
        let brokers = vec![fake.clone() as Arc<dyn Broker>];
        engine.connect(Connectors { brokers, quota: Quota::default(), patience }).await.unwrap();
        Node { engine, fake }
    }

    fn caller(&self, task: &OpenedTask) -> Caller {
        Caller {
            tenant: self.engine.tenant().clone(),
            task: task.task.clone(),
            grant: task.grant.clone(),
            agent: agent("reporter"),
            initiator: person("dana"),
            instance: instance("reporter"),
            until: self.engine.now().plus_ms(300_000),
            proof: None,
        }
    }

    async fn lease(&self, task: &OpenedTask) -> Result<Lease, EngineError> {
        match self.engine.lease(&self.caller(task), call("shop.read")).await? {
            Leased::Given(given) => Ok(given.lease),
            other => panic!("{other:?}"),
        }
    }

    async fn end(&self, task: &OpenedTask) {
        self.engine.end_task("dana@example.org", &task.task, Cause::Completed, "done").await.unwrap();
    }

    /// Works as its workers would, until nothing stands.
    async fn settled(&self) {
        let begun = Instant::now();
        while !self.engine.credentials().await.unwrap().is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", self.engine.credentials().await);
            self.engine.settle().await.unwrap();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Pair {
    async fn new(patience: Patience) -> Pair {
        let cluster = Cluster::shared();
        let url = cluster.url(&cluster.new_database().await);
        let clock = Arc::new(TestClock::at(Time(1_800_000_000_000)));
        let (fake, state) = Fake::new("shop");
        let other = fake.of_another_node();
        let a = Node::new(&url, &clock, fake, patience.clone()).await;
        let b = Node::new(&url, &clock, other, patience).await;
        let task = open(&a.engine).await;
        Pair { a, b, clock, state, task }
    }

    /// How often each thing was asked of the target.
    fn asked(&self) -> BTreeMap<(LeaseId, &'static str), usize> {
        let mut asked = BTreeMap::new();
        for (step, lease) in &self.state.lock().unwrap().done {
            *asked.entry((lease.clone(), *step)).or_insert(0) += 1;
        }
        asked
    }

    async fn facts(&self) -> Vec<LeaseFact> {
        let fact = |event| match event {
            TaskEvent::Lease { fact, .. } => Some(fact),
            _ => None,
        };
        let steps = self.b.engine.events(&self.task.task, 0).await.unwrap();
        steps.into_iter().filter_map(|step| fact(step.event)).collect()
    }

    async fn times_gone(&self) -> usize {
        self.facts().await.iter().filter(|f| matches!(f, LeaseFact::Gone { .. })).count()
    }

    /// Lets the longest time pass that a creation may take.
    fn long_after(&self) {
        self.clock.advance_ms(impatient().abandoned_ms + 1);
    }
}

// proves: INV2, R3
#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_that_end_one_task_at_once_ask_the_target_once() {
    let pair = Pair::new(Patience { claim: Duration::from_secs(20), ..impatient() }).await;
    for node in [&pair.a, &pair.b, &pair.a, &pair.b, &pair.a, &pair.b] {
        node.lease(&pair.task).await.unwrap();
    }
    tokio::join!(pair.a.end(&pair.task), pair.b.end(&pair.task));
    tokio::join!(pair.a.settled(), pair.b.settled());
    let asked = pair.asked();
    assert!(asked.values().all(|times| *times == 1), "{asked:?}");
    assert_eq!((asked.len(), pair.times_gone().await), (6 * 6, 6), "created, and five steps, of each of six");
    assert!(pair.state.lock().unwrap().there.is_empty());
}

// proves: INV7, R3
#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_created_before_it_died_is_ended_by_the_other_and_not_before_it_may() {
    let Pair { a, b, clock, state, task } = Pair::new(slow()).await;
    let pause = a.fake.pause_at("created", 0);
    let asking = tokio::spawn({
        let (engine, caller) = (a.engine.clone(), a.caller(&task));
        async move { engine.lease(&caller, call("shop.read")).await.map(|_| ()) }
    });
    pause.reached.notified().await;
    asking.abort();
    assert!(asking.await.unwrap_err().is_cancelled());
    drop(a);
    let pair = Pair { a: Node { engine: b.engine.clone(), fake: b.fake.clone() }, b, clock, state, task };
    pair.b.end(&pair.task).await;
    pair.b.engine.settle().await.unwrap();
    assert_eq!(pair.asked().len(), 1, "its maker could still be at it: {:?}", pair.asked());
    pair.long_after();
    pair.b.settled().await;
    assert!(pair.state.lock().unwrap().there.is_empty());
    assert_eq!(pair.times_gone().await, 1);
}

// proves: INV2, INV7, R3
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_creates_late_is_told_no_and_what_it_created_goes() {
    let pair = Pair::new(slow()).await;
    let pause = pair.a.fake.pause_at("create", 0);
    let asking = tokio::spawn({
        let (engine, caller) = (pair.a.engine.clone(), pair.a.caller(&pair.task));
        async move { engine.lease(&caller, call("shop.read")).await.map(|_| ()) }
    });
    pause.reached.notified().await;
    pair.b.end(&pair.task).await;
    pair.long_after();
    pair.b.settled().await;
    assert_eq!(pair.times_gone().await, 1, "two looks found nothing, and there was nothing");
    pause.go_on.notify_one();
    assert_eq!(asking.await.unwrap().unwrap_err().code, "lease.not_live");
    assert_eq!(pair.state.lock().unwrap().there.len(), 1, "it came after all");
    assert!(pair.facts().await.iter().any(|f| matches!(f, LeaseFact::Found { .. })));
    pair.b.settled().await;
    assert!(pair.state.lock().unwrap().there.is_empty());
    assert!(matches!(pair.facts().await.last(), Some(LeaseFact::Gone { .. })));
}

// proves: R3, INV8
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_wakes_up_late_cannot_record_what_it_saw() {
    let pair = Pair::new(slow()).await;
    let lease = pair.a.lease(&pair.task).await.unwrap();
    let (late, other) = (pair.a.fake.pause_at("look", 1), pair.b.fake.pause_at("look", 0));
    pair.a.end(&pair.task).await;
    let sleeping = tokio::spawn({
        let engine = pair.a.engine.clone();
        async move { engine.settle().await }
    });
    late.reached.notified().await;
    let taking_over = tokio::spawn({
        let engine = pair.b.engine.clone();
        async move {
            while !engine.credentials().await.unwrap().is_empty() {
                engine.settle().await.unwrap();
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    });
    other.reached.notified().await;
    late.go_on.notify_one();
    sleeping.await.unwrap().unwrap();
    let (_, held) = pair.b.engine.look_up(lease.id()).await.unwrap();
    assert!(matches!(held.state, LeaseState::Revoking { .. }), "{:?}", held.state);
    assert_eq!(
        pair.times_gone().await,
        0,
        "it had seen it gone twice, under a claim that was no longer its own"
    );
    other.go_on.notify_one();
    taking_over.await.unwrap();
    assert_eq!(pair.times_gone().await, 1);
}

// proves: R3
#[tokio::test(flavor = "multi_thread")]
async fn a_node_leaves_a_claimed_target_alone_until_the_claim_is_over() {
    let patience = Patience { claim: Duration::from_secs(600), ..impatient() };
    let pair = Pair::new(Patience { answer: Duration::from_secs(60), ..patience }).await;
    pair.a.lease(&pair.task).await.unwrap();
    let pause = pair.a.fake.pause_at("look", 0);
    pair.a.end(&pair.task).await;
    let working = tokio::spawn({
        let engine = pair.a.engine.clone();
        async move { engine.settle().await }
    });
    pause.reached.notified().await;
    let before = pair.asked();
    for _ in 0..5 {
        pair.b.engine.settle().await.unwrap();
    }
    assert_eq!(pair.asked(), before, "it is the other node's");
    pause.go_on.notify_one();
    working.await.unwrap().unwrap();
    assert_eq!(pair.times_gone().await, 1);
    // It was let go with the work: the other one does not wait for the rest of the ten minutes.
    let task = open(&pair.b.engine).await;
    pair.b.lease(&task).await.unwrap();
    pair.b.end(&task).await;
    pair.b.settled().await;
}

// proves: R3, D6
#[tokio::test(flavor = "multi_thread")]
async fn what_another_node_has_ended_is_no_debt_of_the_target() {
    let patience = Patience { claim: Duration::from_secs(600), ..impatient() };
    let pair = Pair::new(Patience { answer: Duration::from_secs(60), ..patience }).await;
    let end_and_stand_still = async |task: &OpenedTask| {
        let pause = pair.a.fake.pause_at("look", 0);
        pair.a.end(task).await;
        let engine = pair.a.engine.clone();
        let working = tokio::spawn(async move { engine.settle().await });
        pause.reached.notified().await;
        (pause, working)
    };
    for _ in 0..16 {
        pair.a.lease(&pair.task).await.unwrap();
    }
    let (pause, working) = end_and_stand_still(&pair.task).await;
    pair.b.engine.settle().await.unwrap();
    pause.go_on.notify_one();
    working.await.unwrap().unwrap();
    assert_eq!(pair.times_gone().await, 16);
    // The other one knows of sixteen that were to go, and the target is not its own to look at.
    let task = open(&pair.a.engine).await;
    pair.a.lease(&task).await.unwrap();
    let (pause, working) = end_and_stand_still(&task).await;
    pair.clock.advance_ms(bailiwick_core::lease::DEBT_AFTER_MS + 1);
    pair.b.engine.settle().await.unwrap();
    assert_eq!(pair.b.engine.standing().await.unwrap().debts, 1);
    pair.b.lease(&open(&pair.b.engine).await).await.unwrap();
    pause.go_on.notify_one();
    working.await.unwrap().unwrap();
}
