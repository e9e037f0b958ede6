//! What a person would tell of credentials: they appear for a task, and go with it, whatever happens.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bailiwick_api::{Call, Caller};
use bailiwick_core::LeaseId;
use bailiwick_core::agent::Agent;
use bailiwick_core::capability::Capability;
use bailiwick_core::event::{Cause, TaskEvent};
use bailiwick_core::lease::{Lease, LeaseFact, LeaseState, Quota};
use bailiwick_core::registry::{Halt, Scope};
use bailiwick_core::tool::ToolPattern;
use bailiwick_engine::{
    Connectors, Engine, EngineError, Given, Leased, NewTask, OpenedTask, Patience, VoteAsk,
};

use crate::fake::{Fake, Mood, State, impatient};
use crate::world::*;

struct Shop {
    world: World,
    fake: Arc<Fake>,
    state: Arc<Mutex<State>>,
    task: OpenedTask,
}

async fn connect(engine: &Engine, brokers: Vec<Arc<Fake>>, quota: Quota) {
    connect_with(engine, brokers, quota, impatient()).await;
}

async fn connect_with(engine: &Engine, brokers: Vec<Arc<Fake>>, quota: Quota, patience: Patience) {
    let root = person("root");
    for broker in &brokers {
        for manifest in bailiwick_broker::Broker::scopes(broker.as_ref()) {
            engine.classify(&root, manifest, None).await.unwrap();
        }
    }
    let brokers = brokers.into_iter().map(|b| b as Arc<dyn bailiwick_broker::Broker>).collect();
    engine.connect(Connectors { brokers, quota, patience }).await.unwrap();
}

pub async fn open(engine: &Engine) -> OpenedTask {
    engine.open_task(asked_for()).await.unwrap()
}

pub fn asked_for() -> NewTask {
    NewTask {
        initiator: person("dana"),
        intent: "Report on orders".to_owned(),
        inputs: Default::default(),
        types: Default::default(),
        agent: agent("reporter"),
        chain: None,
        capabilities: None,
        ttl_ms: 3_600_000,
        asks: 3,
        handoffs: 0,
        depth: 0,
        refusals: None,
        seeking: None,
        template: None,
    }
}

pub async fn register(engine: &Engine) {
    let can = |p: &str| Capability::to_use(ToolPattern::parse(p).unwrap());
    let record = Agent {
        id: agent("reporter"),
        owner: person("root"),
        class: "worker".parse().unwrap(),
        ceiling: vec![can("shop.*"), can("other.*")],
        keys: [instance("reporter")].into(),
    };
    engine.set_agent(&person("root"), record).await.unwrap();
}

impl Shop {
    async fn new() -> Shop {
        Shop::with(Quota::default()).await
    }

    async fn with(quota: Quota) -> Shop {
        Shop::of(quota, impatient()).await
    }

    async fn patient(patience: Patience) -> Shop {
        Shop::of(Quota::default(), patience).await
    }

    async fn of(quota: Quota, patience: Patience) -> Shop {
        let world = World::new().await;
        let (fake, state) = Fake::new("shop");
        register(&world.engine).await;
        connect_with(&world.engine, vec![fake.clone()], quota, patience).await;
        let task = open(&world.engine).await;
        Shop { world, fake, state, task }
    }

    fn caller(&self) -> Caller {
        self.world.caller(&self.task.task, &self.task.grant, "reporter")
    }

    async fn ask(&self) -> Result<Leased, EngineError> {
        self.world.engine.lease(&self.caller(), call("shop.read")).await
    }

    async fn given(&self) -> Given {
        match self.ask().await.unwrap() {
            Leased::Given(given) => *given,
            other => panic!("{other:?}"),
        }
    }

    fn there(&self) -> usize {
        self.state.lock().unwrap().there.len()
    }

    fn mood(&self, mood: Mood) {
        self.state.lock().unwrap().mood = mood;
    }

    async fn lease(&self, id: &LeaseId) -> Lease {
        self.world.engine.look_up(id).await.unwrap().1
    }

    async fn facts(&self) -> Vec<TaskEvent> {
        self.world.engine.events(&self.task.task, 0).await.unwrap().into_iter().map(|s| s.event).collect()
    }

    /// Runs the saga until nothing stands, as the workers would.
    async fn settled(&self) {
        for _ in 0..200 {
            self.world.engine.settle().await.unwrap();
            if self.world.engine.credentials().await.unwrap().is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{:?}", self.world.engine.credentials().await.unwrap());
    }
}

pub fn call(name: &str) -> Call {
    Call { tool: tool(name), args: json("{}"), definition: None, approval: None, says: None }
}

// proves: Z3
#[tokio::test]
async fn no_credential_outlives_what_its_scope_allows() {
    let shop = Shop::new().await;
    for (asked, most) in [("{}", 600), (r#"{"ttl_s":100000}"#, 600), (r#"{"ttl_s":60}"#, 60)] {
        let call = Call { args: json(asked), ..call("shop.read") };
        let Leased::Given(given) = shop.world.engine.lease(&shop.caller(), call).await.unwrap() else {
            panic!("{asked}");
        };
        let lives = given.lease.intent.until.0 - shop.world.engine.now().0;
        assert!(lives <= most * 1000 && lives > (most - 30) * 1000, "{asked}: {lives} ms");
    }
}

// proves: Z1, Z3, X2, R1, R6, INV7
#[tokio::test]
async fn a_credential_appears_for_a_task_and_goes_with_it_and_a_receipt_says_so() {
    let shop = Shop::new().await;
    assert_eq!(shop.there(), 0, "an open task alone holds nothing");
    let given = shop.given().await;
    assert_eq!(shop.there(), 1);
    assert_eq!(given.lease.state, LeaseState::Active);
    let engine = &shop.world.engine;
    let standing = engine.standing().await.unwrap();
    assert_eq!((standing.leases, standing.debts), (1, 0));

    shop.state.lock().unwrap().sessions.insert(given.lease.intent.name.clone());
    engine.end_task("dana", &shop.task.task, Cause::Completed, "done").await.unwrap();
    shop.settled().await;
    assert_eq!(shop.there(), 0);
    let steps: Vec<_> = shop.state.lock().unwrap().done.iter().map(|(step, _)| *step).collect();
    assert_eq!(steps, ["create", "block", "cut_data", "end_sessions", "remove_owned", "drop"]);

    let task = engine.task(&shop.task.task).await.unwrap();
    let (receipt, _) = task.receipt().expect("a receipt");
    assert_eq!((receipt.systems.len(), receipt.systems[0].credentials, receipt.systems[0].used), (1, 1, 1));
    assert_eq!(engine.standing().await.unwrap().leases, 0);

    // The order in the log: intent, then the target's own id, then the secret may go out.
    let words: Vec<String> = shop.facts().await.iter().map(word).collect();
    let at =
        |what: &str| words.iter().position(|w| w == what).unwrap_or_else(|| panic!("{what} in {words:?}"));
    let order = ["decided", "lease_requested", "created", "active", "ended", "revoking", "gone", "receipted"];
    assert!(order.windows(2).all(|pair| at(pair[0]) < at(pair[1])), "{words:?}");
}

fn word(event: &TaskEvent) -> String {
    match event {
        TaskEvent::Lease { fact, .. } => {
            serde_json::to_value(fact).unwrap()["now"].as_str().unwrap().to_owned()
        }
        other => other.name().to_owned(),
    }
}

// proves: INV14, X2
#[tokio::test]
async fn the_secret_is_in_the_answer_and_nowhere_in_the_log() {
    let shop = Shop::new().await;
    let given = shop.given().await;
    let secret = given.credential.secret["password"].expose().to_owned();
    assert!(secret.starts_with("secret-of-"));
    let events = shop.world.engine.store().scan(0, 1000).await.unwrap();
    assert!(events.iter().all(|e| !String::from_utf8_lossy(&e.bytes).contains(&secret)));
    assert!(!format!("{given:?}").contains(&secret));
}

// proves: R1, R2, R4, R5, Z3
#[tokio::test]
async fn every_end_revokes_and_a_freeze_does_too() {
    for how in
        ["completed", "window", "killed agent", "frozen", "retired", "given back", "its own time", "kill all"]
    {
        let shop = Shop::new().await;
        let given = shop.given().await;
        let (engine, root) = (&shop.world.engine, person("root"));
        match how {
            "completed" => {
                drop(engine.end_task("dana", &shop.task.task, Cause::Completed, "").await.unwrap())
            }
            "window" => shop.world.clock.advance_ms(3_600_001),
            "its own time" => shop.world.clock.advance_ms(15 * 60_000 + 1),
            "killed agent" => {
                drop(engine.suspend(&root, Scope::Agent(agent("reporter")), Halt::Killed, "").await.unwrap())
            }
            "kill all" => drop(engine.suspend(&root, Scope::All, Halt::Killed, "").await.unwrap()),
            "frozen" => engine.freeze_task("root", &shop.task.task, "look").await.unwrap(),
            "retired" => drop(engine.retire_agent(&root, &agent("reporter"), "gone").await.unwrap()),
            _ => drop(engine.give_back(&shop.caller(), given.lease.id()).await.unwrap()),
        }
        engine.reconcile().await.unwrap();
        shop.settled().await;
        assert_eq!(shop.there(), 0, "{how}");
        assert!(!shop.lease(given.lease.id()).await.is_standing(), "{how}");
    }
}

// proves: R3, Z1, INV7
#[tokio::test]
async fn a_target_that_is_down_hangs_or_lies_is_tried_until_it_is_seen_gone_and_shows_as_debt() {
    for mood in [Mood::Down, Mood::Hangs, Mood::Lies] {
        let shop = Shop::new().await;
        let given = shop.given().await;
        let engine = &shop.world.engine;
        shop.mood(mood);
        engine.end_task("dana", &shop.task.task, Cause::Completed, "done").await.unwrap();
        engine.settle().await.unwrap();
        engine.settle().await.unwrap();
        let lease = shop.lease(given.lease.id()).await;
        assert!(lease.is_standing() && lease.is_debt(engine.now()), "{mood:?}: {lease:?}");
        let standing = engine.standing().await.unwrap();
        assert_eq!((standing.leases, standing.debts), (1, 1), "{mood:?}");
        assert_eq!(engine.task(&shop.task.task).await.unwrap().receipt(), None, "no receipt for what stands");
        // A person knows; that closes nothing.
        engine.acknowledge(&person("olga"), given.lease.id(), "the machine is off").await.unwrap();
        assert_eq!(engine.standing().await.unwrap().debts, 1);
        shop.mood(Mood::Sound);
        shop.settled().await;
        assert_eq!(shop.there(), 0, "{mood:?}");
        assert!(engine.task(&shop.task.task).await.unwrap().receipt().is_some());
        assert!(engine.acknowledge(&person("olga"), given.lease.id(), "").await.is_err(), "no debt any more");
    }
}

// proves: R3, D6
#[tokio::test]
async fn a_target_that_owes_too_much_gives_out_nothing_until_it_has_paid() {
    let shop = Shop::new().await;
    let engine = &shop.world.engine;
    for _ in 0..16 {
        shop.given().await;
    }
    shop.mood(Mood::Lies);
    engine.end_task("dana", &shop.task.task, Cause::Completed, "done").await.unwrap();
    engine.settle().await.unwrap();
    let next = open(engine).await;
    let caller = shop.world.caller(&next.task, &next.grant, "reporter");
    // Debts are counted at most once a second.
    let mut said = None;
    for _ in 0..200 {
        said = engine.lease(&caller, call("shop.read")).await.err().map(|e| e.code);
        if said.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(said.as_deref(), Some("lease.target_in_debt"));
    shop.mood(Mood::Sound);
    for _ in 0..200 {
        engine.settle().await.unwrap();
        if matches!(engine.lease(&caller, call("shop.read")).await, Ok(Leased::Given(_))) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it has paid, and gives out nothing");
}

// proves: R3, Z4
#[tokio::test]
async fn what_was_created_without_an_answer_or_too_wide_is_never_given_and_goes() {
    for (mood, code) in [
        (Mood::LosesAnswers, "target.unreachable"),
        (Mood::Generous, "scope.wider"),
        (Mood::Down, "target.unreachable"),
        (Mood::Hangs, "target.unreachable"),
    ] {
        let shop = Shop::new().await;
        shop.mood(mood);
        let refused = shop.ask().await.unwrap_err();
        assert_eq!(refused.code, code, "{mood:?}");
        shop.mood(Mood::Sound);
        shop.settled().await;
        assert_eq!(shop.there(), 0, "{mood:?}");
    }
}

// proves: R2, R3, A58
#[tokio::test]
async fn a_task_that_ends_while_its_credential_is_created_gets_none() {
    let shop = Shop::new().await;
    let gate = Arc::new(tokio::sync::Notify::new());
    shop.state.lock().unwrap().gate = Some(gate.clone());
    let (engine, caller) = (shop.world.engine.clone(), shop.caller());
    let asking = tokio::spawn(async move { engine.lease(&caller, call("shop.read")).await });
    loop {
        let requested = shop.facts().await.iter().any(|e| matches!(e, TaskEvent::LeaseRequested(_)));
        if requested {
            break;
        }
        tokio::task::yield_now().await;
    }
    let engine = &shop.world.engine;
    engine.end_task("dana", &shop.task.task, Cause::Killed, "stop").await.unwrap();
    shop.settled().await;
    gate.notify_one();
    let refused = asking.await.unwrap().unwrap_err();
    assert_eq!(refused.code, "lease.not_live");
    // It came after everything had been seen gone: it stands again at once, and goes.
    assert_eq!((shop.there(), engine.standing().await.unwrap().leases), (1, 1));
    shop.settled().await;
    assert_eq!(shop.there(), 0);
    let leaked =
        shop.facts().await.iter().any(|e| matches!(e, TaskEvent::Lease { fact: LeaseFact::Active, .. }));
    assert!(!leaked, "it was never released");
}

// proves: R3, Z1, A53
#[tokio::test]
async fn a_crash_between_intent_and_answer_leaves_nothing_after_one_recovery() {
    let shop = Shop::new().await;
    let gate = Arc::new(tokio::sync::Notify::new());
    shop.state.lock().unwrap().gate = Some(gate.clone());
    let (engine, caller) = (shop.world.engine.clone(), shop.caller());
    let asking = tokio::spawn(async move { engine.lease(&caller, call("shop.read")).await });
    while !shop.facts().await.iter().any(|e| matches!(e, TaskEvent::LeaseRequested(_))) {
        tokio::task::yield_now().await;
    }
    asking.abort();
    let Shop { world, state, task, .. } = shop;
    // The process is gone; what it asked for arrives all the same.
    let world = world.reopened().await;
    gate.notify_one();
    let (fake, fresh) = Fake::new("shop");
    let lease = world.engine.credentials().await.unwrap()[0].1.clone();
    fresh.lock().unwrap().there.insert(lease.intent.name.clone(), (lease.id().clone(), String::new()));
    drop(state);
    connect(&world.engine, vec![fake.clone()], Quota::default()).await;
    let shop = Shop { world, fake, state: fresh, task };
    shop.settled().await;
    assert_eq!(shop.there(), 0);
}

// proves: R6, R3, A54
#[tokio::test]
async fn the_sweep_ends_what_comes_back_and_leaves_lookalikes_alone() {
    let shop = Shop::new().await;
    let given = shop.given().await;
    let engine = &shop.world.engine;
    engine.end_task("dana", &shop.task.task, Cause::Completed, "done").await.unwrap();
    shop.settled().await;
    let lookalike: LeaseId = "l-lookalike".parse().unwrap();
    let unknown: LeaseId = "l-abcdefghjkmn-7".parse().unwrap();
    {
        // The target is restored from an old copy, and somebody has made something that looks like ours.
        let mut state = shop.state.lock().unwrap();
        let name = given.lease.intent.name.clone();
        state.there.insert(name, (given.lease.id().clone(), String::new()));
        state.there.insert("bw_fake_theirs".to_owned(), (lookalike, String::new()));
        state.there.insert("bw_fake_unknown".to_owned(), (unknown, String::new()));
    }
    engine.sweep_all().await;
    let seen = &engine.targets()[0].seen;
    assert_eq!(seen.lookalikes, ["bw_fake_theirs"]);
    assert_eq!(seen.strays.len(), 2);
    assert_eq!(engine.standing().await.unwrap().leases, 1, "what is there again stands again");
    assert_eq!(
        engine.task(&shop.task.task).await.unwrap().receipt(),
        None,
        "and its receipt is worth nothing"
    );
    shop.settled().await;
    let left: Vec<String> = shop.state.lock().unwrap().there.keys().cloned().collect();
    assert_eq!(left, ["bw_fake_theirs"]);
    assert!(engine.task(&shop.task.task).await.unwrap().receipt().is_some());
}

// proves: INV10, H5, A59
#[tokio::test]
async fn quotas_hold_however_many_ask_at_once() {
    for (quota, code) in [
        (Quota { per_task: 3, ..Quota::default() }, "lease.quota_task"),
        (Quota { per_agent: 3, ..Quota::default() }, "lease.quota_agent"),
        (Quota { per_target: 3, ..Quota::default() }, "lease.quota_target"),
    ] {
        let shop = Shop::with(quota).await;
        let all = (0..12).map(|_| shop.ask());
        let answers = futures_util::future::join_all(all).await;
        let given = answers.iter().filter(|a| a.is_ok()).count();
        assert_eq!((given, shop.there()), (3, 3), "{code}");
        assert!(answers.iter().filter_map(|a| a.as_ref().err()).all(|e| e.code == code), "{answers:?}");
        // What has gone makes room.
        let engine = &shop.world.engine;
        engine.end_task("dana", &shop.task.task, Cause::Completed, "").await.unwrap();
        shop.settled().await;
        let again = open(engine).await;
        let caller = shop.world.caller(&again.task, &again.grant, "reporter");
        assert!(matches!(engine.lease(&caller, call("shop.read")).await.unwrap(), Leased::Given(_)));
    }
}

// proves: D6, T3
#[tokio::test]
async fn what_is_not_granted_is_refused_before_any_target_hears_of_it() {
    let shop = Shop::new().await;
    let engine = &shop.world.engine;
    let stranger = shop.world.caller(&shop.task.task, &shop.task.grant, "support");
    assert!(matches!(engine.lease(&stranger, call("shop.read")).await.unwrap(), Leased::Deny(_)));
    assert_eq!(engine.lease(&shop.caller(), call("nowhere.read")).await.unwrap_err().code, "lease.no_target");
    engine.end_task("dana", &shop.task.task, Cause::Completed, "").await.unwrap();
    assert!(matches!(shop.ask().await.unwrap(), Leased::Deny(_)), "over is over");
    assert!(shop.state.lock().unwrap().done.is_empty());
}

// proves: R3, R5
#[tokio::test]
async fn a_target_that_hangs_does_not_slow_another() {
    let world = World::new().await;
    let ((shop, slow), (other, quick)) = (Fake::new("shop"), Fake::new("other"));
    register(&world.engine).await;
    connect(&world.engine, vec![shop, other], Quota::default()).await;
    let task = open(&world.engine).await;
    let caller = world.caller(&task.task, &task.grant, "reporter");
    for name in ["shop.read", "other.read"] {
        assert!(matches!(world.engine.lease(&caller, call(name)).await.unwrap(), Leased::Given(_)));
    }
    slow.lock().unwrap().mood = Mood::Hangs;
    let working = tokio::spawn({
        let engine = world.engine.clone();
        async move { engine.work().await }
    });
    let begun = Instant::now();
    world.engine.end_task("dana", &task.task, Cause::Killed, "stop").await.unwrap();
    while !quick.lock().unwrap().there.is_empty() {
        tokio::time::sleep(Duration::from_millis(2)).await;
        assert!(begun.elapsed().as_secs() < 10, "the other target waits for the one that hangs");
    }
    assert_eq!(slow.lock().unwrap().there.len(), 1);
    slow.lock().unwrap().mood = Mood::Sound;
    while !slow.lock().unwrap().there.is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert!(begun.elapsed().as_secs() < 20, "it is tried again");
    }
    working.abort();
}

/// How long it takes until a task's credentials in these targets are gone.
async fn time_to_end(world: &World, targets: &[(&str, &Arc<Mutex<State>>)]) -> Duration {
    let task = open(&world.engine).await;
    let caller = world.caller(&task.task, &task.grant, "reporter");
    for (name, _) in targets {
        let given = world.engine.lease(&caller, call(&format!("{name}.read"))).await.unwrap();
        assert!(matches!(given, Leased::Given(_)));
    }
    let begun = Instant::now();
    world.engine.end_task("dana", &task.task, Cause::Killed, "stop").await.unwrap();
    while targets.iter().any(|(_, state)| !state.lock().unwrap().there.is_empty()) {
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(begun.elapsed().as_secs() < 20, "they go");
    }
    begun.elapsed()
}

// proves: R5
#[tokio::test(flavor = "multi_thread")]
async fn targets_together_take_no_longer_than_the_slowest_of_them() {
    let world = World::new().await;
    let fakes = [Fake::new("shop"), Fake::new("other")];
    register(&world.engine).await;
    connect(&world.engine, fakes.iter().map(|(fake, _)| fake.clone()).collect(), Quota::default()).await;
    let working = tokio::spawn({
        let engine = world.engine.clone();
        async move { engine.work().await }
    });
    let (slow, quick) = (("shop", &fakes[0].1), ("other", &fakes[1].1));
    slow.1.lock().unwrap().pace = Duration::from_millis(60);
    quick.1.lock().unwrap().pace = Duration::from_millis(40);
    let (mut alone, mut together) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        alone.push(time_to_end(&world, &[slow]).await);
        together.push(time_to_end(&world, &[slow, quick]).await);
    }
    alone.sort();
    together.sort();
    println!("the slowest alone {:?}, together {:?}", alone[2], together[2]);
    assert!(together[2] < alone[2].mul_f64(1.5), "{alone:?} {together:?}");

    let mut sound: Vec<_> = Vec::new();
    for _ in 0..20 {
        sound.push(time_to_end(&world, &[quick]).await);
    }
    let task = open(&world.engine).await;
    let caller = world.caller(&task.task, &task.grant, "reporter");
    assert!(matches!(world.engine.lease(&caller, call("shop.read")).await.unwrap(), Leased::Given(_)));
    slow.1.lock().unwrap().mood = Mood::Hangs;
    world.engine.end_task("dana", &task.task, Cause::Killed, "stop").await.unwrap();
    let mut beside = Vec::new();
    for _ in 0..20 {
        beside.push(time_to_end(&world, &[quick]).await);
    }
    sound.sort();
    beside.sort();
    println!("worst of 20 beside a sound target {:?}, beside one that hangs {:?}", sound[19], beside[19]);
    assert_eq!(slow.1.lock().unwrap().there.len(), 1, "it hung all the time");
    assert!(beside[19] < sound[19].mul_f64(2.0), "{sound:?} {beside:?}");
    working.abort();
}

// proves: R3, D6
#[tokio::test]
async fn what_takes_too_long_to_end_is_owed_while_it_is_being_ended() {
    let shop = Shop::patient(Patience { answer: Duration::from_secs(600), ..impatient() }).await;
    let Shop { world, fake, task, .. } = &shop;
    let engine = &world.engine;
    for _ in 0..16 {
        shop.given().await;
    }
    let working = tokio::spawn({
        let engine = engine.clone();
        async move { engine.work().await }
    });
    let pause = fake.pause_at("look", 0);
    engine.end_task("dana", &task.task, Cause::Completed, "done").await.unwrap();
    pause.reached.notified().await;
    world.clock.advance_ms(bailiwick_core::lease::DEBT_AFTER_MS + 1);
    // Debts are counted at most once a second; until then it is the rules that refuse.
    let begun = Instant::now();
    let said = loop {
        match shop.ask().await {
            Err(error) => break error.code,
            Ok(other) => assert!(matches!(other, Leased::Deny(_)), "{other:?}"),
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "nothing is owed");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(said, "lease.target_in_debt");
    working.abort();
}

// proves: R2, R5
#[tokio::test]
async fn what_is_killed_while_others_wait_for_their_second_look_goes_at_once() {
    let patience = Patience { look_gap: Duration::from_secs(3600), ..impatient() };
    let Shop { world, state, .. } = Shop::patient(patience).await;
    let engine = &world.engine;
    let working = tokio::spawn({
        let engine = engine.clone();
        async move { engine.work().await }
    });
    for _ in 0..3 {
        let task = open(engine).await;
        let caller = world.caller(&task.task, &task.grant, "reporter");
        assert!(matches!(engine.lease(&caller, call("shop.read")).await.unwrap(), Leased::Given(_)));
        engine.end_task("dana", &task.task, Cause::Killed, "stop").await.unwrap();
        let gone = async {
            while !state.lock().unwrap().there.is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), gone)
            .await
            .expect("it waits for another's second look");
    }
    assert_eq!(
        engine.standing().await.unwrap().leases,
        3,
        "gone from the target, and not yet seen gone twice"
    );
    working.abort();
}

// proves: R2, Z3, INV2, D6
#[tokio::test]
async fn a_credential_is_in_force_from_its_giving_to_whatever_ends_it() {
    let shop = Shop::new().await;
    let engine = &shop.world.engine;
    let given = shop.given().await;
    let (lease, by) = engine.in_force(given.lease.id()).await.unwrap().unwrap();
    assert_eq!((lease.id(), by.agent.as_str()), (given.lease.id(), "reporter"));
    for unknown in ["l-nobody-1", "l-x", "l-1"] {
        assert!(engine.in_force(&unknown.parse().unwrap()).await.unwrap().is_none(), "{unknown}");
    }

    let (frozen, killed) = (given, shop.given().await);
    let root = person("root");
    engine.suspend(&root, Scope::Agent(agent("reporter")), Halt::Frozen, "look").await.unwrap();
    for lease in [&frozen, &killed] {
        assert!(
            engine.in_force(lease.lease.id()).await.unwrap().is_none(),
            "at once, whatever the target does"
        );
    }
}

// proves: N1, Z2, D6
#[tokio::test]
async fn what_narrows_a_credential_is_vouched_for_even_where_it_only_reads() {
    let shop = Shop::new().await;
    let engine = &shop.world.engine;
    let of = |customer: u32, approval| Call {
        args: json(&format!(r#"{{"customer": {customer}}}"#)),
        approval,
        ..call("shop.read")
    };
    let asked = engine.lease(&shop.caller(), of(4711, None)).await.unwrap();
    let Leased::Ask(question) = asked else { panic!("{asked:?}") };
    assert_eq!(shop.there(), 0, "nothing is made before a person has said yes");
    engine.vote(&person("omar"), &question.approval, VoteAsk::Approve).await.unwrap();
    let other = engine.lease(&shop.caller(), of(4712, Some(question.approval.clone()))).await.unwrap();
    assert!(!matches!(other, Leased::Given(_)), "the yes was for one customer: {other:?}");
    let given = engine.lease(&shop.caller(), of(4711, Some(question.approval))).await.unwrap();
    assert!(matches!(given, Leased::Given(_)), "{given:?}");

    let new = NewTask { inputs: json(r#"{"customer": 7}"#).as_map().unwrap().clone(), ..asked_for() };
    let task = engine.open_task(new).await.unwrap();
    let caller = shop.world.caller(&task.task, &task.grant, "reporter");
    assert!(
        matches!(engine.lease(&caller, of(7, None)).await.unwrap(), Leased::Given(_)),
        "the person named it"
    );
    assert!(matches!(engine.lease(&caller, of(8, None)).await.unwrap(), Leased::Ask(_)));
}

// proves: R3, INV2
#[tokio::test(flavor = "multi_thread")]
async fn what_was_created_after_it_was_looked_for_is_not_called_gone() {
    let patience = Patience { answer: Duration::from_secs(60), ..impatient() };
    let Shop { world, fake, state, task } = Shop::patient(patience).await;
    let gate = Arc::new(tokio::sync::Notify::new());
    state.lock().unwrap().gate = Some(gate.clone());
    let asking = tokio::spawn({
        let (engine, caller) = (world.engine.clone(), world.caller(&task.task, &task.grant, "reporter"));
        async move { engine.lease(&caller, call("shop.read")).await.map(|_| ()) }
    });
    let lease = loop {
        match world.engine.credentials().await.unwrap().pop() {
            Some((_, lease)) => break lease,
            None => tokio::task::yield_now().await,
        }
    };
    let pause = fake.pause_at("look", 1);
    world.engine.end_task("dana@example.org", &task.task, Cause::Completed, "done").await.unwrap();
    let working = tokio::spawn({
        let engine = world.engine.clone();
        async move { engine.settle().await }
    });
    pause.reached.notified().await;
    gate.notify_one();
    assert_eq!(asking.await.unwrap().unwrap_err().code, "lease.not_live");
    pause.go_on.notify_one();
    working.await.unwrap().unwrap();
    let held = world.engine.look_up(lease.id()).await.unwrap().1;
    assert!(held.is_standing(), "it was seen gone before it came: {:?}", held.state);
    state.lock().unwrap().gate = None;
    world.engine.settle().await.unwrap();
    assert!(!world.engine.look_up(lease.id()).await.unwrap().1.is_standing());
    assert!(state.lock().unwrap().there.is_empty());
}
