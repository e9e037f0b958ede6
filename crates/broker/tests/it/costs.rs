//! What making and ending logins costs in PostgreSQL, beside the least it could cost.
//!
//! The bounds asserted here leave room for a busy machine; `--nocapture` shows the figures.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use bailiwick_broker::postgres::{Columns, Config, Postgres, ROUNDS, Scope, Verbs};
use bailiwick_broker::{Broker, Handle};
use bailiwick_broker::{Secret, mark::Maker};
use bailiwick_core::lease::Step;
use bailiwick_core::tool::Effect;
use bailiwick_stand::Cluster;
use tokio_postgres::Client;

use crate::mandates::{Ready, ready};

const MANY: usize = 1000;
const ROUNDS_OF_MANY: usize = 5;
const MINTS: usize = 60;
const CUTS: usize = 60;

fn broker(cluster: &Cluster, scram_rounds: NonZeroU32) -> Postgres {
    let scope = Scope {
        role: "cap_costs".to_owned(),
        database: "postgres".to_owned(),
        effect: Effect::Read,
        tables: [("public.things".to_owned(), Verbs { select: Columns::All(true), ..Verbs::default() })]
            .into(),
        rows: BTreeMap::new(),
        functions: Default::default(),
        labels: Default::default(),
        ttl_s: 3600,
    };
    let config = Config {
        system: "shop".parse().unwrap(),
        admin: Secret::new(cluster.url("postgres")),
        replicas: vec![],
        agents_reach: None,
        scram_rounds,
        tls: None,
        scopes: [("read".to_owned(), scope)].into(),
    };
    Postgres::new(config, Maker::new(&[3; 32])).unwrap()
}

async fn next(broker: &Postgres) -> Ready {
    ready(broker, &"shop.read".parse().unwrap(), &BTreeMap::new(), 3_600_000).await.unwrap()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

async fn timed(admin: &Client, sql: &str) -> Duration {
    let begun = Instant::now();
    admin.batch_execute(sql).await.unwrap();
    begun.elapsed()
}

/// A verifier of as many rounds as ours has.
fn bare_verifier(rounds: NonZeroU32) -> String {
    format!(
        "SCRAM-SHA-256${rounds}:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
    )
}

// proves: R3, R5
#[tokio::test(flavor = "multi_thread")]
async fn ending_a_thousand_logins_costs_little_more_than_one_transaction_that_drops_them() {
    let cluster = Cluster::start("fsync=on");
    let admin = cluster.connect("postgres").await;
    admin.batch_execute("CREATE TABLE things (x int)").await.unwrap();
    let broker = broker(&cluster, NonZeroU32::MIN);
    broker.set_up().await.unwrap();
    let (mut ours, mut looks, mut bare) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS_OF_MANY {
        // Logins of ours, marks and all, on both sides; who is first changes.
        let (dropped, handles) = (made(&broker, MANY).await, made(&broker, MANY).await);
        let names: Vec<&str> = dropped.iter().map(|h| h.name.as_str()).collect();
        let drop = format!("BEGIN; DROP ROLE {}; COMMIT", names.join(", "));
        if round % 2 == 0 {
            bare.push(timed(&admin, &drop).await);
        }
        let begun = Instant::now();
        let ended = broker.revoke_many(&handles).await.unwrap();
        ours.push(begun.elapsed());
        if round % 2 == 1 {
            bare.push(timed(&admin, &drop).await);
        }
        let trouble: Vec<_> = ended.iter().filter_map(|e| e.as_ref().err()).collect();
        assert!(trouble.is_empty(), "{} of {MANY}, first {:?}", trouble.len(), trouble[0]);
        let begun = Instant::now();
        let seen = broker.look_many(&handles).await.unwrap();
        looks.push(begun.elapsed());
        assert!(seen.len() == MANY && seen.iter().all(|s| s.as_ref().unwrap().gone));
    }
    let (bare, ours, looks) = (median(bare), median(ours), median(looks));
    println!(
        "\n{MANY} logins: one bare transaction {bare:?}, ours {ours:?} ({:.2}x); one look for all {looks:?}",
        ratio(ours, bare)
    );
    assert!(ratio(ours, bare) < 4.0, "{ours:?} {bare:?}");
}

async fn made(broker: &Postgres, how_many: usize) -> Vec<Handle> {
    let make = || async { next(broker).await.create(broker).await.unwrap().1 };
    let mut handles = Vec::with_capacity(how_many);
    while handles.len() < how_many {
        handles.extend(futures_util::future::join_all((0..8).map(|_| make())).await);
    }
    handles
}

// proves: R5
#[tokio::test(flavor = "multi_thread")]
async fn making_a_login_costs_little_more_than_the_bare_statement() {
    let cluster = Cluster::start("fsync=on");
    let admin = cluster.connect("postgres").await;
    admin.batch_execute("CREATE TABLE things (x int)").await.unwrap();
    for rounds in [NonZeroU32::MIN, ROUNDS] {
        let broker = broker(&cluster, rounds);
        broker.set_up().await.unwrap();
        let verifier = bare_verifier(rounds);
        let hurried = cluster.connect("postgres").await;
        hurried.batch_execute("SET synchronous_commit = off").await.unwrap();
        let (mut ours, mut bare, mut clear, mut handles) = (vec![], vec![], vec![], vec![]);
        let (mut bare_unflushed, mut clear_unflushed) = (vec![], vec![]);
        for i in 0..MINTS {
            let name = format!("{rounds}_{i}");
            let sql = format!("CREATE ROLE bare_{name} LOGIN PASSWORD '{verifier}' IN ROLE cap_costs");
            bare.push(timed(&admin, &sql).await);
            let sql = format!("CREATE ROLE clear_{name} LOGIN PASSWORD 'in-clear-{i}' IN ROLE cap_costs");
            clear.push(timed(&admin, &sql).await);
            let sql = format!("CREATE ROLE hurried_{name} LOGIN PASSWORD '{verifier}' IN ROLE cap_costs");
            bare_unflushed.push(timed(&hurried, &sql).await);
            let sql =
                format!("CREATE ROLE clear_hurried_{name} LOGIN PASSWORD 'in-clear-{i}' IN ROLE cap_costs");
            clear_unflushed.push(timed(&hurried, &sql).await);
            let ready = next(&broker).await;
            let begun = Instant::now();
            handles.push(ready.create(&broker).await.unwrap().1);
            ours.push(begun.elapsed());
        }
        let (ours, bare, clear) = (median(ours), median(bare), median(clear));
        let (bare_unflushed, clear_unflushed) = (median(bare_unflushed), median(clear_unflushed));
        println!(
            "\none login, {rounds} rounds: bare verifier {bare:?}, clear text {clear:?}, ours with everything {ours:?} ({:.2}x the verifier, {:.2}x quicker than clear text); \
             both without a flush: {bare_unflushed:?}, {clear_unflushed:?} ({:.2}x, {:.2}x quicker)",
            ratio(ours, bare),
            ratio(clear, ours),
            ratio(ours, bare_unflushed),
            ratio(clear_unflushed, ours)
        );
        assert!(ratio(ours, bare) < 8.0, "{ours:?} {bare:?}");
        assert_eq!(broker.revoke_many(&handles).await.unwrap().len(), MINTS);
    }
}

fn ratio(a: Duration, b: Duration) -> f64 {
    a.as_secs_f64() / b.as_secs_f64()
}

// proves: R2, R5
#[tokio::test(flavor = "multi_thread")]
async fn cutting_a_live_session_costs_little_more_than_a_bare_terminate() {
    let cluster = Cluster::start("fsync=on");
    let admin = cluster.connect("postgres").await;
    admin.batch_execute("CREATE TABLE things (x int)").await.unwrap();
    let broker = broker(&cluster, NonZeroU32::MIN);
    broker.set_up().await.unwrap();
    let (mut ours, mut bare, mut whole) = (Vec::new(), Vec::new(), Vec::new());
    for i in 0..CUTS {
        let (created, handle) = next(&broker).await.create(&broker).await.unwrap();
        let mut config: tokio_postgres::Config = cluster.url("postgres").parse().unwrap();
        config.user(&handle.name).password(created.credential.secret["password"].expose());
        let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
        let ended = tokio::spawn(connection);
        let begun = Instant::now();
        if i % 2 == 0 {
            broker.revoke(&handle, Step::EndSessions).await.unwrap();
            let _cut = ended.await.unwrap();
            ours.push(begun.elapsed());
        } else {
            let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1";
            admin.query(sql, &[&handle.name]).await.unwrap();
            let _cut = ended.await.unwrap();
            bare.push(begun.elapsed());
        }
        drop(client);
        let begun = Instant::now();
        for step in Step::ALL {
            broker.revoke(&handle, step).await.unwrap();
        }
        whole.push(begun.elapsed());
    }
    let (ours, bare, whole) = (median(ours), median(bare), median(whole));
    println!(
        "\none live session: bare terminate {bare:?}, ours {ours:?} ({:.2}x); all steps again, with its login {whole:?}",
        ratio(ours, bare)
    );
    assert!(ratio(ours, bare) < 10.0, "{ours:?} {bare:?}");
}
