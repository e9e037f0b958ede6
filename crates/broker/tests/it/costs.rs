//! What making and ending logins costs in PostgreSQL, beside the least it could cost.
//!
//! The bounds asserted here leave room for a busy machine; `--nocapture` shows the figures.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bailiwick_broker::Broker;
use bailiwick_broker::postgres::{Columns, Config, Postgres, Scope, Verbs};
use bailiwick_broker::{Secret, mark::Maker};
use bailiwick_core::lease::Step;
use bailiwick_core::tool::Effect;
use bailiwick_stand::Cluster;
use tokio_postgres::Client;

use crate::mandates::{Ready, ready};

const MANY: usize = 1000;
const MINTS: usize = 60;

fn broker(cluster: &Cluster) -> Postgres {
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

// proves: R3, R5
#[tokio::test(flavor = "multi_thread")]
async fn ending_a_thousand_logins_costs_little_more_than_one_transaction_that_drops_them() {
    let cluster = Cluster::start_with_passwords();
    let admin = cluster.connect("postgres").await;
    admin.batch_execute("CREATE TABLE things (x int)").await.unwrap();
    let broker = broker(&cluster);
    broker.set_up().await.unwrap();

    let mut ours = Vec::new();
    let mut minted = Vec::new();
    for i in 0..MANY {
        let ready = next(&broker).await;
        let begun = Instant::now();
        let (_, handle) = ready.create(&broker).await.unwrap();
        if i >= MANY - MINTS {
            minted.push(begun.elapsed());
        }
        ours.push(handle);
    }
    let verifier = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
    let (mut bare, mut clear) = (Vec::new(), Vec::new());
    for i in 0..MANY {
        let took =
            timed(&admin, &format!("CREATE ROLE bare_{i} LOGIN PASSWORD '{verifier}' IN ROLE cap_costs"))
                .await;
        if i >= MANY - MINTS {
            bare.push(took);
        }
    }
    for i in 0..MINTS {
        let sql = format!("CREATE ROLE clear_{i} LOGIN PASSWORD 'in-clear-text-{i}' IN ROLE cap_costs");
        clear.push(timed(&admin, &sql).await);
    }

    let names: Vec<String> = (0..MANY).map(|i| format!("bare_{i}")).collect();
    let dropped = timed(&admin, &format!("BEGIN; DROP ROLE {}; COMMIT", names.join(", "))).await;
    let begun = Instant::now();
    let ended = broker.revoke_many(&ours).await.unwrap();
    let revoked = begun.elapsed();
    let trouble: Vec<_> = ended.iter().filter_map(|e| e.as_ref().err()).collect();
    assert!(trouble.is_empty(), "{} of {MANY}, first {:?}", trouble.len(), trouble[0]);
    let left =
        admin.query_one("SELECT count(*) FROM pg_roles WHERE rolname LIKE 'bw\\_%'", &[]).await.unwrap();
    assert_eq!(left.get::<_, i64>(0), 0);

    let (minted, bare, clear) = (median(minted), median(bare), median(clear));
    println!(
        "{MANY} logins: one bare transaction {dropped:?}, ours {revoked:?} ({:.2}x)",
        ratio(revoked, dropped)
    );
    println!(
        "one login: bare verifier {bare:?}, clear text {clear:?}, ours with everything {minted:?} ({:.2}x the verifier, {:.2}x the clear text)",
        ratio(minted, bare),
        ratio(minted, clear)
    );
    assert!(ratio(revoked, dropped) < 6.0, "{revoked:?} {dropped:?}");
}

fn ratio(a: Duration, b: Duration) -> f64 {
    a.as_secs_f64() / b.as_secs_f64()
}

// proves: R2, R5
#[tokio::test(flavor = "multi_thread")]
async fn cutting_a_live_session_costs_little_more_than_a_bare_terminate() {
    let cluster = Cluster::start_with_passwords();
    let admin = cluster.connect("postgres").await;
    admin.batch_execute("CREATE TABLE things (x int)").await.unwrap();
    let broker = broker(&cluster);
    broker.set_up().await.unwrap();
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for i in 0..20 {
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
        crate::kit::end(&broker, &handle).await;
    }
    let (ours, bare) = (median(ours), median(bare));
    println!("one live session: bare terminate {bare:?}, ours {ours:?} ({:.2}x)", ratio(ours, bare));
    assert!(ratio(ours, bare) < 10.0, "{ours:?} {bare:?}");
}
