//! The engine is killed, at every step and at random, while it makes and ends credentials in a real PostgreSQL and a
//! real Redis; then it recovers once, and an oracle reads the two servers and the store's own file.
//!
//! 50 rounds by default. `BAILIWICK_KILL_ROUNDS=1000 BAILIWICK_KILL_SEED=7` makes a longer run; the table of such a
//! run is kept in `docs/measurements/kills.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bailiwick_broker::mark::Maker;
use bailiwick_broker::postgres::{self, Columns, Postgres, Verbs};
use bailiwick_broker::redis::{self, Redis};
use bailiwick_broker::{
    Broker, BrokerError, Capabilities, Created, Did, Doing, Effective, Found, Handle, Plan, Secret, Sight,
    Spec,
};
use bailiwick_core::event::{Cause, Recorded, TaskEvent};
use bailiwick_core::lease::{LeaseFact, LeaseState, Mandate, Quota, Step};
use bailiwick_core::task::Task;
use bailiwick_core::tool::{Effect, Manifest};
use bailiwick_core::{SystemId, ToolId};
use bailiwick_engine::{Connectors, Engine, Leased, Patience, SystemClock};
use bailiwick_stand::{Cluster, RedisServer};

use crate::leases::{call, open, register};
use crate::world::*;

const CHILD: &str = "BAILIWICK_KILLS_CHILD";
const DIE: &str = "BAILIWICK_KILLS_DIE";
const ROUNDS: usize = 50;

/// Where a child may die by itself: before or after each thing that is asked of a target.
const POINTS: &[&str] = &[
    "before:create",
    "after:create",
    "before:describe",
    "after:describe",
    "before:block",
    "after:block",
    "before:cut_data",
    "after:cut_data",
    "before:end_sessions",
    "after:end_sessions",
    "before:remove_owned",
    "after:remove_owned",
    "before:drop",
    "after:drop",
    "before:look",
    "after:look",
    "before:many",
    "after:many",
];

/// What [`shop_at`] needs.
pub const SETUP: &str =
    "CREATE TABLE orders (id int); CREATE ROLE cap_orders NOLOGIN; GRANT SELECT ON orders TO cap_orders";

/// A connector that ends the process at a given point, without a last word.
struct Mortal {
    inner: Arc<dyn Broker>,
    die: Option<String>,
    countdown: std::sync::atomic::AtomicI64,
}

impl Mortal {
    fn pass(&self, when: &str, what: &str) {
        if self.die.as_deref() == Some(&format!("{when}:{what}"))
            && self.countdown.fetch_sub(1, std::sync::atomic::Ordering::SeqCst) == 1
        {
            std::process::abort();
        }
    }
    async fn around<T>(&self, what: &str, doing: Doing<'_, T>) -> Result<T, BrokerError> {
        self.pass("before", what);
        let done = doing.await;
        self.pass("after", what);
        done
    }
}

impl Broker for Mortal {
    fn system(&self) -> &SystemId {
        self.inner.system()
    }
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
    fn scopes(&self) -> Vec<Manifest> {
        self.inner.scopes()
    }
    fn longest_secs(&self, scope: &ToolId) -> u64 {
        self.inner.longest_secs(scope)
    }
    fn prepare(&self, spec: Spec) -> Doing<'_, Plan> {
        self.inner.prepare(spec)
    }
    fn create<'a>(&'a self, mandate: &'a Mandate, plan: &'a Plan) -> Doing<'a, Created> {
        Box::pin(self.around("create", self.inner.create(mandate, plan)))
    }
    fn describe<'a>(&'a self, handle: &'a Handle) -> Doing<'a, Effective> {
        Box::pin(self.around("describe", self.inner.describe(handle)))
    }
    fn revoke<'a>(&'a self, handle: &'a Handle, step: Step) -> Doing<'a, Did> {
        Box::pin(self.around(step.as_str(), self.inner.revoke(handle, step)))
    }
    fn revoke_many<'a>(&'a self, handles: &'a [Handle]) -> Doing<'a, Vec<Result<Did, BrokerError>>> {
        Box::pin(self.around("many", self.inner.revoke_many(handles)))
    }
    fn look<'a>(&'a self, handle: &'a Handle) -> Doing<'a, Sight> {
        Box::pin(self.around("look", self.inner.look(handle)))
    }
    fn look_many<'a>(&'a self, handles: &'a [Handle]) -> Doing<'a, Vec<Result<Sight, BrokerError>>> {
        Box::pin(self.around("look", self.inner.look_many(handles)))
    }
    fn sweep(&self) -> Doing<'_, Vec<Found>> {
        self.inner.sweep()
    }
}

/// A PostgreSQL target `shop` with the scope `read`.
pub fn shop_at(postgres_url: &str) -> postgres::Config {
    let select = Verbs { select: Columns::All(true), ..Verbs::default() };
    let scope = postgres::Scope {
        role: "cap_orders".to_owned(),
        database: "postgres".to_owned(),
        effect: Effect::Read,
        tables: [("public.orders".to_owned(), select)].into(),
        rows: Default::default(),
        functions: Default::default(),
        labels: Default::default(),
        ttl_s: 3600,
    };
    postgres::Config {
        system: "shop".parse().unwrap(),
        admin: Secret::new(postgres_url.to_owned()),
        replicas: vec![],
        agents_reach: None,
        scram_rounds: postgres::ROUNDS,
        tls: None,
        scopes: [("read".to_owned(), scope)].into(),
    }
}

fn brokers(postgres_url: &str, redis_url: &str, die: Option<String>) -> Vec<Arc<dyn Broker>> {
    let maker = Maker::new(&[5; 32]);
    let scope = redis::Scope {
        effect: Effect::Read,
        keys: vec![redis::Keys { prefix: "cart:".to_owned(), arg: None, write: false }],
        commands: ["get".to_owned()].into(),
        labels: Default::default(),
        ttl_s: 3600,
    };
    let other = redis::Config {
        system: "other".parse().unwrap(),
        nodes: vec![Secret::new(redis_url.to_owned())],
        agents_reach: None,
        tls: None,
        scopes: [("read".to_owned(), scope)].into(),
    };
    let all: Vec<Arc<dyn Broker>> = vec![
        Arc::new(Postgres::new(shop_at(postgres_url), maker.clone()).unwrap()),
        Arc::new(Redis::new(other, maker).unwrap()),
    ];
    let mortal = |inner| {
        let countdown = std::sync::atomic::AtomicI64::new(2);
        Arc::new(Mortal { inner, die: die.clone(), countdown }) as Arc<dyn Broker>
    };
    all.into_iter().map(mortal).collect()
}

async fn engine_on(folder: &Path, postgres_url: &str, redis_url: &str, die: Option<String>) -> Engine {
    let clock = Arc::new(SystemClock::default());
    let engine = Engine::open(store_in(folder).await, config_with("acme", clock)).await.unwrap();
    let brokers = brokers(postgres_url, redis_url, die);
    if engine.registry().agent(&agent("reporter")).is_none() {
        furnish(&engine).await;
        register(&engine).await;
        for manifest in brokers.iter().flat_map(|b| b.scopes()) {
            engine.classify(&person("root"), manifest, None).await.unwrap();
        }
    }
    let patience = Patience {
        look_gap: Duration::from_millis(10),
        retry_first: Duration::from_millis(5),
        ..Patience::default()
    };
    engine.connect(Connectors { brokers, quota: Quota::default(), patience }).await.unwrap();
    engine
}

fn say(line: &str) {
    std::io::stdout().lock().write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// As a child of the test below: opens tasks, takes credentials and ends tasks until it is killed.
async fn live(folder: &Path, postgres_url: &str, redis_url: &str) {
    let engine = engine_on(folder, postgres_url, redis_url, std::env::var(DIE).ok()).await;
    let working = engine.clone();
    tokio::spawn(async move { working.work().await });
    say("up");
    let mut workers = tokio::task::JoinSet::new();
    for n in 0..3u64 {
        let engine = engine.clone();
        workers.spawn(async move {
            for i in 0.. {
                let task = open(&engine).await;
                let mut caller = caller_of(&engine, &task);
                caller.proof = None;
                for _ in 0..(1 + (n + i) % 5) {
                    for scope in ["shop.read", "other.read"] {
                        if let Ok(Leased::Given(given)) = engine.lease(&caller, call(scope)).await {
                            say(&format!("given {}", given.lease.id()));
                        }
                    }
                }
                if i % 3 != 2 {
                    engine.end_task("dana", &task.task, Cause::Killed, "over").await.unwrap();
                    say(&format!("ended {}", task.task));
                }
            }
        });
    }
    while workers.join_next().await.is_some() {}
}

/// As a child: recovers once, and ends by itself.
async fn recover(folder: &Path, postgres_url: &str, redis_url: &str) {
    let engine = engine_on(folder, postgres_url, redis_url, None).await;
    engine.settle().await.unwrap();
    engine.store().close().await;
    say("recovered");
}

pub fn caller_of(engine: &Engine, task: &bailiwick_engine::OpenedTask) -> bailiwick_api::Caller {
    bailiwick_api::Caller {
        tenant: engine.tenant().clone(),
        task: task.task.clone(),
        grant: task.grant.clone(),
        agent: agent("reporter"),
        initiator: person("dana"),
        instance: instance("reporter"),
        until: engine.now().plus_ms(300_000),
        proof: None,
    }
}

/// What the oracle reads in the store's own file: every task, folded from its events.
pub fn tasks_in(folder: &Path) -> BTreeMap<String, (Task, Vec<TaskEvent>)> {
    let db = rusqlite::Connection::open(folder.join("ledger.db")).unwrap();
    let mut rows =
        db.prepare("SELECT stream, bytes FROM events WHERE stream LIKE 'acme/task/%' ORDER BY idx").unwrap();
    let mut tasks: BTreeMap<String, (Task, Vec<TaskEvent>)> = BTreeMap::new();
    let events = rows.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?))).unwrap();
    for (stream, bytes) in events.map(Result::unwrap) {
        let recorded = Recorded::<TaskEvent>::decode(&bytes).unwrap();
        match tasks.get_mut(&stream) {
            Some((task, events)) => {
                task.apply(&recorded.event, recorded.time);
                events.push(recorded.event);
            }
            None => {
                let task = Task::begin(&recorded.event, recorded.time).unwrap();
                tasks.insert(stream, (task, vec![recorded.event]));
            }
        }
    }
    tasks
}

#[derive(Default, Debug)]
struct Tally {
    kills: usize,
    given: usize,
    strays_before: usize,
    lost: usize,
    orphans: usize,
    doubles: usize,
    recovery_ms: Vec<u128>,
}

struct Stand {
    cluster: Cluster,
    redis: RedisServer,
}

impl Stand {
    async fn new() -> Stand {
        let (cluster, redis) = (Cluster::start_with_passwords(), RedisServer::start());
        let admin = cluster.connect("postgres").await;
        admin.batch_execute(SETUP).await.unwrap();
        Stand { cluster, redis }
    }

    fn child(&self, folder: &Path, mode: &str, die: Option<&str>) -> Command {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child
            .args([
                "--exact",
                "kills::killed_at_every_step_and_at_random_nothing_is_lost_and_nothing_stands",
                "--nocapture",
            ])
            .env(
                CHILD,
                format!(
                    "{mode}\n{}\n{}\n{}",
                    folder.display(),
                    self.cluster.url("postgres"),
                    self.redis.url()
                ),
            )
            .env_remove(DIE)
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        if let Some(die) = die {
            child.env(DIE, die);
        }
        child
    }

    /// What is there, asked of the servers themselves.
    async fn there(&self) -> BTreeSet<String> {
        let admin = self.cluster.connect("postgres").await;
        let roles =
            admin.query("SELECT rolname::text FROM pg_roles WHERE rolname LIKE 'bw\\_%'", &[]).await.unwrap();
        let mut all: BTreeSet<String> = roles.iter().map(|row| row.get(0)).collect();
        let users = Command::new("redis-cli")
            .args([
                "-p",
                &self.redis.port().to_string(),
                "-a",
                bailiwick_stand::redis::PASSWORD,
                "--no-auth-warning",
                "ACL",
                "USERS",
            ])
            .output()
            .unwrap();
        let users = String::from_utf8(users.stdout).unwrap();
        all.extend(users.lines().filter(|l| l.starts_with("bw_")).map(str::to_owned));
        all
    }

    /// One life, one kill, one recovery, one look.
    async fn round(&self, folder: &Path, die: Option<&str>, after: Duration, tally: &mut Tally) {
        let mut child = self.child(folder, "live", die).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let acknowledged = std::thread::spawn(move || {
            let mut acks = Vec::new();
            for line in lines.by_ref().map_while(Result::ok) {
                acks.push((Instant::now(), line));
            }
            acks
        });
        let born = Instant::now();
        // A point that is not reached in time dies by the clock.
        let limit =
            if die.is_some() { Duration::from_millis(1500) } else { Duration::from_millis(250) + after };
        while child.try_wait().unwrap().is_none() && born.elapsed() < limit {
            std::thread::sleep(Duration::from_millis(2));
        }
        let _killed = child.kill();
        child.wait().unwrap();
        let acks = acknowledged.join().unwrap();
        tally.kills += 1;
        let before = self.there().await;
        let expected = standing(&tasks_in(folder));
        tally.strays_before += before.difference(&expected).count();

        let begun = Instant::now();
        let recovered = self.child(folder, "recover", None).output().unwrap();
        let said = String::from_utf8_lossy(&recovered.stdout);
        assert!(said.contains("recovered"), "{said} {}", String::from_utf8_lossy(&recovered.stderr));
        tally.recovery_ms.push(begun.elapsed().as_millis());

        let tasks = tasks_in(folder);
        let (there, expected) = (self.there().await, standing(&tasks));
        let orphans: Vec<_> = there.difference(&expected).collect();
        let missing: Vec<_> = expected.difference(&there).collect();
        assert!(
            orphans.is_empty() && missing.is_empty(),
            "die {die:?}: orphans {orphans:?}, missing {missing:?}"
        );
        tally.orphans += orphans.len();
        for (_, ack) in &acks {
            tally.given += usize::from(ack.starts_with("given "));
            if !is_kept(&tasks, ack) {
                tally.lost += 1;
                panic!("lost: {ack}");
            }
        }
        tally.doubles += doubles(&tasks);
        assert_eq!(tally.doubles, 0);
    }
}

/// The names that may be there: those of active leases of tasks that are open.
fn standing(tasks: &BTreeMap<String, (Task, Vec<TaskEvent>)>) -> BTreeSet<String> {
    let live = |task: &Task| {
        let active = |l: &&bailiwick_core::lease::Lease| l.state == LeaseState::Active && !task.has_ended();
        task.leases().filter(active).map(|l| l.intent.name.clone()).collect::<Vec<_>>()
    };
    tasks.values().flat_map(|(task, _)| live(task)).collect()
}

fn is_kept(tasks: &BTreeMap<String, (Task, Vec<TaskEvent>)>, ack: &str) -> bool {
    match ack.split_once(' ') {
        Some(("given", lease)) => {
            let released = |event: &TaskEvent| matches!(event, TaskEvent::Lease { lease: id, fact: LeaseFact::Active } if id.as_str() == lease);
            tasks.values().any(|(_, events)| events.iter().any(released))
        }
        Some(("ended", task)) => {
            tasks.get(&format!("acme/task/{task}")).is_some_and(|(task, _)| task.has_ended())
        }
        _ => true,
    }
}

/// A decision with two leases, a lease with two intents or two creations.
fn doubles(tasks: &BTreeMap<String, (Task, Vec<TaskEvent>)>) -> usize {
    let mut seen = BTreeSet::new();
    let mut twice = 0;
    for event in tasks.values().flat_map(|(_, events)| events) {
        let what = match event {
            TaskEvent::LeaseRequested(intent) => format!("intent of {}", intent.decision),
            TaskEvent::Lease { lease, fact: LeaseFact::Created { .. } } => format!("creation of {lease}"),
            _ => continue,
        };
        twice += usize::from(!seen.insert(what));
    }
    twice
}

struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

pub fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

// proves: R3, P4, Z1, INV7, INV2, A53, A54
#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_step_and_at_random_nothing_is_lost_and_nothing_stands() {
    if let Ok(told) = std::env::var(CHILD) {
        let words: Vec<&str> = told.split('\n').collect();
        let folder = PathBuf::from(words[1]);
        match words[0] {
            "live" => live(&folder, words[2], words[3]).await,
            _ => recover(&folder, words[2], words[3]).await,
        }
        return;
    }
    let rounds = number("BAILIWICK_KILL_ROUNDS").map_or(ROUNDS, |n| n as usize);
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64;
    let seed = number("BAILIWICK_KILL_SEED").unwrap_or(clock | 1);
    println!("seed {seed}, {rounds} rounds");
    let mut dice = Dice(seed | 1);
    let stand = Stand::new().await;
    let mut tally = Tally::default();
    let mut folder = tempfile::tempdir().unwrap();
    for round in 0..rounds {
        // A log that grew for ever would only make the rounds slower; what stands in the old one is ended first.
        if round % 50 == 49 {
            end_all(&stand, folder.path()).await;
            folder = tempfile::tempdir().unwrap();
        }
        let die = POINTS.get(round % (2 * POINTS.len())).copied();
        let after = Duration::from_millis(dice.roll(500));
        stand.round(folder.path(), die, after, &mut tally).await;
    }
    end_all(&stand, folder.path()).await;
    assert_eq!(stand.there().await, BTreeSet::new());
    let log = stand.cluster.log();
    let mut created = BTreeMap::<&str, usize>::new();
    for line in log.lines().filter(|l| l.contains("CREATE ROLE \"bw_")) {
        if let Some(name) = line.split('"').nth(1) {
            *created.entry(name).or_default() += 1;
        }
    }
    assert!(created.values().all(|n| *n == 1), "no login was created twice");
    tally.recovery_ms.sort_unstable();
    let at =
        |q: usize| tally.recovery_ms[(tally.recovery_ms.len() * q / 100).min(tally.recovery_ms.len() - 1)];
    println!(
        "kills {} | credentials given {} | strays before recovery {} | lost acknowledged {} | orphans after one recovery {} | double executions {} | recovery p50 {} ms, p99 {} ms",
        tally.kills,
        tally.given,
        tally.strays_before,
        tally.lost,
        tally.orphans,
        tally.doubles,
        at(50),
        at(99)
    );
    assert!(tally.given > 0 && tally.strays_before > 0, "the rounds hit nothing: {tally:?}");
}

async fn end_all(stand: &Stand, folder: &Path) {
    let engine = engine_on(folder, &stand.cluster.url("postgres"), &stand.redis.url(), None).await;
    let root = person("root");
    let all = bailiwick_core::registry::Scope::All;
    engine.suspend(&root, all, bailiwick_core::registry::Halt::Killed, "the end").await.unwrap();
    engine.settle().await.unwrap();
    engine.store().close().await;
}
