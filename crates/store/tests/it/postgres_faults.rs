//! The shared store when nodes race, answers get lost, and the server refuses.

use std::ffi::OsStr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use bailiwick_store::{HealthState, Location, Store};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use crate::support::{Place, append, append_somewhere, assert_whole, inside, run_inside};
use bailiwick_stand::postgres::{Cluster, socket_in, url_at};

fn url(place: &Place) -> String {
    match place.location() {
        Location::Postgres(url) => url,
        Location::Sqlite(_) => panic!("this place is a file"),
    }
}

// proves: INV10
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_racing_on_one_stream_get_in_once_each_and_in_one_ledger() {
    let place = Place::postgres().await;
    let nodes = [place.open().await, place.open().await, place.open().await];
    let racers = (0..60).map(|n| {
        let store = nodes[n % 3].clone();
        tokio::spawn(async move {
            append_somewhere(&store, "shared", &format!("{n}")).await;
            append_somewhere(&store, &format!("own/{n}"), "x").await;
        })
    });
    for racer in racers.collect::<Vec<_>>() {
        racer.await.unwrap();
    }
    assert_eq!(nodes[0].version("shared").await, Ok(60));
    assert_eq!(assert_whole(&nodes[1]).await.len(), 120);
    let tries = nodes.iter().map(|store| store.append_at(append("shared", 60, &["one of us"])));
    let mut won = 0;
    for attempt in tries.collect::<Vec<_>>() {
        won += usize::from(attempt.await.is_ok());
    }
    assert_eq!(won, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_opening_an_empty_database_together_make_one_schema() {
    let place = Place::postgres().await;
    let opening = (0..6).map(|_| tokio::spawn(Store::open(place.location())));
    for opened in opening.collect::<Vec<_>>() {
        append_somewhere(&opened.await.unwrap().unwrap(), "s", "x").await;
    }
    assert_eq!(assert_whole(&place.open().await).await.len(), 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_hears_of_another_ones_commit_and_of_one_without_a_notification() {
    let place = Place::postgres().await;
    let (one, other) = (place.open().await, place.open().await);
    let mut heard = one.subscribe();
    other.append_at(append("s", 0, &["a", "b"])).await.unwrap();
    heard.wait_for(|size| *size == 2).await.unwrap();

    let three_leaves = "UPDATE frontier SET bytes = decode('0000000000000003' || repeat('00', 64), 'hex')";
    place.sql(three_leaves).await.unwrap();
    heard.wait_for(|size| *size == 3).await.unwrap();
}

/// What the wire between store and server does to the next commit.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Wire {
    Sound,
    /// The commit arrives, its answer does not.
    LosesAnswer,
    /// The commit does not arrive.
    CutsCommit,
}

/// A server reached over a wire that can fail once.
struct Unreliable {
    folder: tempfile::TempDir,
    wire: Arc<AtomicU8>,
}

impl Unreliable {
    fn before(cluster: &Cluster) -> Self {
        let folder = tempfile::Builder::new().prefix("bw-wire-").tempdir_in("/tmp").unwrap();
        let listener = UnixListener::bind(socket_in(folder.path())).unwrap();
        let (wire, server) = (Arc::new(AtomicU8::new(Wire::Sound as u8)), cluster.socket());
        let shared = Arc::clone(&wire);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = UnixStream::connect(&server).await.unwrap();
                tokio::spawn(carry(client, server, Arc::clone(&shared)));
            }
        });
        Unreliable { folder, wire }
    }

    fn fail_once(&self, how: Wire) {
        self.wire.store(how as u8, Ordering::SeqCst);
    }
}

async fn carry(client: UnixStream, server: UnixStream, wire: Arc<AtomicU8>) {
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let (mut asked, mut answered, mut losing) = (vec![0; 1 << 16], vec![0; 1 << 16], false);
    loop {
        tokio::select! {
            read = from_client.read(&mut asked) => {
                let Some(asked) = read.ok().and_then(|n| asked.get(..n)).filter(|asked| !asked.is_empty()) else { return };
                if holds(asked, b"COMMIT\0") {
                    let how = wire.swap(Wire::Sound as u8, Ordering::SeqCst);
                    if how == Wire::CutsCommit as u8 {
                        return;
                    }
                    losing = how == Wire::LosesAnswer as u8;
                }
                if to_server.write_all(asked).await.is_err() { return }
            }
            read = from_server.read(&mut answered) => {
                let Some(answered) = read.ok().and_then(|n| answered.get(..n)).filter(|a| !a.is_empty()) else { return };
                if losing && holds(answered, b"COMMIT\0") {
                    return;
                }
                if !losing && to_client.write_all(answered).await.is_err() { return }
            }
        }
    }
}

fn holds(bytes: &[u8], word: &[u8]) -> bool {
    bytes.windows(word.len()).any(|window| window == word)
}

// proves: INV7
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_was_lost_is_looked_for_and_acknowledged_once() {
    let cluster = Cluster::shared();
    let wire = Unreliable::before(&cluster);
    let store = Store::open(Location::Postgres(url_at(wire.folder.path(), &cluster.new_database().await)))
        .await
        .unwrap();
    store.append_at(append("s", 0, &["a"])).await.unwrap();
    wire.fail_once(Wire::LosesAnswer);
    let appended = store.append_at(append("s", 1, &["b"])).await.unwrap();
    assert_eq!((appended.version, appended.first_index), (2, 1));
    store.append_at(append("s", 2, &["c"])).await.unwrap();
    assert_eq!(assert_whole(&store).await.len(), 3);
}

// proves: INV7
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_never_arrived_is_not_acknowledged() {
    let cluster = Cluster::shared();
    let wire = Unreliable::before(&cluster);
    let store = Store::open(Location::Postgres(url_at(wire.folder.path(), &cluster.new_database().await)))
        .await
        .unwrap();
    store.append_at(append("s", 0, &["a"])).await.unwrap();
    wire.fail_once(Wire::CutsCommit);
    let error = store.append_at(append("s", 1, &["b"])).await.unwrap_err();
    assert_eq!(error.code(), "store.gone", "{error}");
    assert_eq!(assert_whole(&store).await.len(), 1);
    store.append_at(append("s", 1, &["b"])).await.unwrap();
    assert_eq!(store.health().state, HealthState::Up);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_remembered_key_whose_commit_was_lost_is_unknown() {
    let cluster = Cluster::shared();
    let wire = Unreliable::before(&cluster);
    let store = Store::open(Location::Postgres(url_at(wire.folder.path(), &cluster.new_database().await)))
        .await
        .unwrap();
    wire.fail_once(Wire::LosesAnswer);
    let error = store.remember_once("proof", &[1; 32], vec![], 10, 1).await.unwrap_err();
    assert_eq!(error.code(), "store.unknown", "{error}");
}

// proves: INV6
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_locked_by_someone_is_waited_for_then_refused_then_written_again() {
    let place = Place::postgres().await;
    let impatient = Location::Postgres(format!("{} options='-c lock_timeout=200ms'", url(&place)));
    let store = Store::open(impatient).await.unwrap();
    let outsider = place.connect().await;
    outsider.batch_execute("BEGIN; SELECT * FROM bailiwick.frontier FOR UPDATE").await.unwrap();
    assert_eq!(store.append_at(append("s", 0, &["a"])).await.unwrap_err().code(), "store.locked");
    assert_eq!(store.health().state, HealthState::Failing);
    outsider.batch_execute("ROLLBACK").await.unwrap();
    store.append_at(append("s", 0, &["a"])).await.unwrap();
    assert_whole(&store).await;
}

// proves: INV6
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_only_reads_is_named_as_such() {
    let place = Place::postgres().await;
    place.open().await.close().await;
    let only_reading = format!("{} options='-c default_transaction_read_only=on'", url(&place));
    let store = Store::open(Location::Postgres(only_reading)).await.unwrap();
    assert_eq!(store.append_at(append("s", 0, &["a"])).await.unwrap_err().code(), "store.read_only");
    assert_eq!(store.version("s").await, Ok(0));
}

// proves: INV7
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_did_not_reach_its_standby_is_unknown() {
    let cluster = Arc::new(Cluster::start("synchronous_standby_names='nobody'\nsynchronous_commit=local"));
    let place = Place::on_cluster(Arc::clone(&cluster)).await;
    place.open().await.close().await;
    let waits_for_standby = format!("{} options='-c synchronous_commit=on'", url(&place));
    let store = Store::open(Location::Postgres(waits_for_standby)).await.unwrap();
    let appending = tokio::spawn(async move { store.append_at(append("s", 0, &["a"])).await });

    let admin = cluster.connect("postgres").await;
    let give_up = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    while admin.query(give_up, &[]).await.unwrap().is_empty() {
        assert!(!appending.is_finished(), "the commit waits for a standby that never comes");
    }
    let unknown = appending.await.unwrap().unwrap_err();
    assert_eq!(unknown.code(), "store.unknown", "{unknown}");
    assert_eq!(place.open().await.version("s").await, Ok(1), "the server itself has kept it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_would_lose_commits_is_refused() {
    let cluster = Arc::new(Cluster::start("fsync=off"));
    let place = Place::on_cluster(cluster).await;
    let refused = Store::open(place.location()).await.unwrap_err();
    assert_eq!(refused.code(), "store.config");
    assert!(refused.to_string().contains("fsync=off"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_is_a_durable_one_even_where_the_database_says_otherwise() {
    let place = Place::postgres().await;
    let careless = format!("{} options='-c synchronous_commit=off'", url(&place));
    let store = Store::open(Location::Postgres(careless)).await.unwrap();
    let watch = "CREATE TABLE seen AS SELECT 'none'::text AS setting;
        CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            UPDATE bailiwick.seen SET setting = current_setting('synchronous_commit'); RETURN NULL; END $$;
        CREATE TRIGGER look AFTER INSERT ON events FOR EACH STATEMENT EXECUTE FUNCTION look()";
    place.sql(watch).await.unwrap();
    store.append_at(append("s", 0, &["a"])).await.unwrap();
    place.sql("DO $$ BEGIN ASSERT (SELECT setting FROM seen) = 'on'; END $$").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_believed_only_with_a_trusted_certificate_that_names_it() {
    let at = |host: &str, port: &str| {
        Location::Postgres(format!("host={host} port={port} user=bailiwick dbname=postgres sslmode=require"))
    };
    let Some(port) = inside() else {
        let cluster = Cluster::start_with_tls();
        let port = cluster.port().to_string();
        let distrusted = Store::open(at("localhost", &port)).await.unwrap_err();
        assert_eq!(distrusted.code(), "store.config", "{distrusted}");
        let mut trusting = Command::new("env");
        trusting.arg(format!("SSL_CERT_FILE={}", cluster.certificate().display()));
        let test = "postgres_faults::a_server_is_believed_only_with_a_trusted_certificate_that_names_it";
        return run_inside(test, OsStr::new(&port), trusting);
    };
    let port = port.to_str().unwrap();
    let misnamed = Store::open(at("127.0.0.1", port)).await.unwrap_err();
    assert_eq!(misnamed.code(), "store.config", "{misnamed}");
    let store = Store::open(at("localhost", port)).await.unwrap();
    store.append_at(append("s", 0, &["a"])).await.unwrap();
    assert_whole(&store).await;
}

#[tokio::test]
async fn a_server_elsewhere_is_spoken_to_in_private_unless_told_otherwise() {
    // By its name it could be anywhere; nobody here trusts its certificate.
    let cluster = Cluster::start_with_tls();
    let port = cluster.port();
    let elsewhere = format!("host=db.example hostaddr=127.0.0.1 port={port} user=bailiwick dbname=postgres");
    let distrusted = Store::open(Location::Postgres(elsewhere.clone())).await.unwrap_err();
    assert_eq!(distrusted.code(), "store.config", "{distrusted}");
    let told = format!("{elsewhere} sslmode=disable");
    append_somewhere(&Store::open(Location::Postgres(told)).await.unwrap(), "s", "a").await;
}

// proves: INV14
#[tokio::test]
async fn a_server_that_cannot_be_reached_is_named_without_the_password() {
    let nowhere = tempfile::tempdir().unwrap();
    let missing = format!("{} password=hunter2 connect_timeout=2", url_at(nowhere.path(), "d"));
    let gone = Store::open(Location::Postgres(missing)).await.unwrap_err();
    assert_eq!(gone.code(), "store.gone", "{gone}");
    let unreadable = Store::open(Location::Postgres("postgres://u:hunter2@[/d".into())).await.unwrap_err();
    assert_eq!(unreadable.code(), "store.config", "{unreadable}");
    let cluster = Cluster::shared();
    let unknown = format!("{} password=hunter2", cluster.url("no_such_database"));
    let unknown = Store::open(Location::Postgres(unknown)).await.unwrap_err();
    assert_eq!(unknown.code(), "store.config", "{unknown}");
    for error in [gone, unreadable, unknown] {
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_away_is_told_by_health_and_found_again() {
    let cluster = Arc::new(Cluster::start(""));
    let place = Place::on_cluster(Arc::clone(&cluster)).await;
    let store = place.open().await;
    append_somewhere(&store, "s", "before").await;
    let crashing = Arc::clone(&cluster);
    tokio::task::spawn_blocking(move || crashing.crash()).await.unwrap();
    until(&store, HealthState::Failing).await;
    assert_eq!(store.read("s", 0).await.unwrap_err().code(), "store.gone");

    tokio::task::spawn_blocking(move || cluster.run()).await.unwrap();
    until(&store, HealthState::Up).await;
    append_somewhere(&store, "s", "after").await;
    assert_eq!(assert_whole(&store).await.len(), 2);
}

async fn until(store: &Store, state: HealthState) {
    let patience = tokio::time::Instant::now() + Duration::from_secs(30);
    while store.health().state != state {
        assert!(tokio::time::Instant::now() < patience, "still {:?}", store.health());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
