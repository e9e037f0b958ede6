//! Killed in the middle of commits: what was acknowledged is there, and nothing is half there.
//!
//! The test program runs itself once more as a writer that prints each acknowledgement, and kills it by its
//! pid after a random number of them (the seed is printed).

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bailiwick_store::{Append, AppendError, Location, Store, ViewPut};

use crate::support::{Dice, Place, append_somewhere, assert_whole, event};
use bailiwick_stand::Cluster;

const CHILD: &str = "BAILIWICK_STORE_TEST_WRITER";
const ROUNDS: usize = 20;
const WRITERS: usize = 4;

/// An acknowledged event.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ack {
    index: u64,
    stream: String,
    version: u64,
    text: String,
}

/// Appends an event that also replaces the row of its stream in a view.
fn step(stream: &str, expect: u64, text: &str) -> Append {
    let put = ViewPut { view: "last".into(), key: stream.into(), value: Some(text.as_bytes().to_vec()) };
    Append { stream: stream.into(), expect, guards: vec![], events: vec![event(text)], views: vec![put] }
}

/// Four tasks that append without end, or `each` times, telling of each acknowledgement; ends at the first
/// error, which it returns.
async fn write(
    store: &Store,
    run: &str,
    each: u64,
    tell: impl Fn(Ack) + Clone + Send + 'static,
) -> Option<AppendError> {
    let mut writers = tokio::task::JoinSet::new();
    for n in 0..WRITERS {
        let (store, tell, stream, run) = (store.clone(), tell.clone(), format!("task/{n}"), run.to_owned());
        writers.spawn(async move {
            let mut version = store.version(&stream).await?;
            for step_number in 0..each {
                let text = format!("{run}.{n}.{step_number}");
                let appended = store.append_at(step(&stream, version, &text)).await?;
                tell(Ack { index: appended.first_index, stream: stream.clone(), version, text });
                version = appended.version;
            }
            Ok::<(), AppendError>(())
        });
    }
    while let Some(ended) = writers.join_next().await {
        if let Err(error) = ended.unwrap() {
            return Some(error);
        }
    }
    None
}

/// Every acknowledged event is in the ledger as acknowledged, and each view row is that of the last event.
async fn assert_kept(store: &Store, acknowledged: &[Ack]) {
    let all = assert_whole(store).await;
    for ack in acknowledged {
        let found = all.get(ack.index as usize).unwrap_or_else(|| panic!("lost: {ack:?}"));
        assert_eq!((&found.stream, found.version), (&ack.stream, ack.version));
        assert_eq!(String::from_utf8_lossy(&found.bytes), ack.text);
    }
    let last: BTreeMap<_, _> =
        all.iter().map(|recorded| (recorded.stream.clone(), recorded.bytes.clone())).collect();
    for (stream, bytes) in last.into_iter().filter(|(stream, _)| stream.starts_with("task/")) {
        assert_eq!(store.view_get("last", &stream).await, Ok(Some(bytes)), "the view of {stream}");
    }
}

/// As a child of the tests below it writes until it is killed; as a test of its own it writes a little.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_hears_of_each_commit_in_the_order_of_its_stream() {
    if let Ok(place) = std::env::var(CHILD) {
        let (location, run) =
            place.split_once('#').map(|(run, place)| (parse(place), run.to_owned())).unwrap();
        let store = Store::open(location).await.unwrap();
        let ended = write(&store, &run, u64::MAX, |ack| {
            let line = format!("ack {} {} {} {}\n", ack.index, ack.stream, ack.version, ack.text);
            std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
        });
        panic!("the writer stopped by itself: {:?}", ended.await);
    }
    let place = Place::sqlite();
    let store = place.open().await;
    let acks = Arc::new(Mutex::new(vec![]));
    let told = Arc::clone(&acks);
    assert_eq!(write(&store, "alone", 25, move |ack| told.lock().unwrap().push(ack)).await, None);
    let acks = acks.lock().unwrap().clone();
    assert_eq!(acks.len(), 25 * WRITERS);
    assert_kept(&store, &acks).await;
}

fn parse(place: &str) -> Location {
    match place.strip_prefix("sqlite:") {
        Some(path) => Location::Sqlite(path.into()),
        None => Location::Postgres(place.to_owned()),
    }
}

fn spawn_writer(location: &Location, round: usize) -> Child {
    let place = match location {
        Location::Sqlite(path) => format!("sqlite:{}", path.display()),
        Location::Postgres(url) => url.clone(),
    };
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::a_writer_hears_of_each_commit_in_the_order_of_its_stream", "--nocapture"])
        .env(CHILD, format!("run{round}#{place}"))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn ack(line: &str) -> Option<Ack> {
    let (_, said) = line.split_once("ack ")?;
    let mut words = said.split(' ');
    let (index, stream) = (words.next()?.parse().ok()?, words.next()?.to_owned());
    let (version, text) = (words.next()?.parse().ok()?, words.next()?.to_owned());
    Some(Ack { index, stream, version, text })
}

fn dice(name: &str) -> Dice {
    let fresh = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let seed = std::env::var("BAILIWICK_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(fresh);
    println!("{name}: BAILIWICK_SEED={seed}");
    Dice::new(seed)
}

async fn kill_writers_at(place: &Place, dice: &mut Dice, while_it_writes: impl AsyncFn()) {
    let mut acknowledged = vec![];
    for round in 0..ROUNDS {
        let mut child = spawn_writer(&place.location(), round);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let until = 1 + dice.roll(120) as usize;
        acknowledged.extend(lines.by_ref().filter_map(|line| ack(&line)).take(until));
        if round == 0 {
            while_it_writes().await;
        }
        child.kill().unwrap();
        acknowledged.extend(lines.filter_map(|line| ack(&line))); // said before it died
        child.wait().unwrap();

        let store = place.open().await;
        append_somewhere(&store, "rounds", &format!("after {round}")).await;
        assert_kept(&store, &acknowledged).await;
        store.close().await;
    }
    assert!(acknowledged.len() >= ROUNDS);
}

// proves: INV7, INV8, P4
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_keeps_what_it_acknowledged_when_the_writer_is_killed() {
    let place = Place::sqlite();
    let refused_a_second_writer = async || {
        let second = Store::open(place.location()).await.unwrap_err();
        assert_eq!(second.code(), "store.locked", "{second}");
    };
    kill_writers_at(&place, &mut dice("sqlite"), refused_a_second_writer).await;
}

// proves: INV7, INV8, P4
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_keeps_what_it_acknowledged_when_the_writer_is_killed() {
    let place = Place::postgres().await;
    let writes_beside_it = async || {
        let store = place.open().await;
        append_somewhere(&store, "beside", "a second node writes at the same time").await;
    };
    kill_writers_at(&place, &mut dice("postgres"), writes_beside_it).await;
}

// proves: INV7, INV8, P4
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_keeps_what_it_acknowledged_when_the_server_crashes() {
    let cluster = Arc::new(Cluster::start(""));
    let place = Place::on_cluster(Arc::clone(&cluster)).await;
    let store = place.open().await;
    let (acks, mut dice) = (Arc::new(Mutex::new(Vec::<Ack>::new())), dice("server"));
    for round in 0..4 {
        let (told, heard) = tokio::sync::watch::channel(0_u64);
        let (noted, told) = (Arc::clone(&acks), Arc::new(told));
        let (writing, run) = (store.clone(), format!("crash{round}"));
        let writers = tokio::spawn(async move {
            let tell = move |ack| {
                noted.lock().unwrap().push(ack);
                told.send_modify(|count| *count += 1);
            };
            write(&writing, &run, u64::MAX, tell).await
        });
        let until = 1 + dice.roll(150);
        heard.clone().wait_for(|count| *count >= until).await.unwrap();
        let crashing = Arc::clone(&cluster);
        tokio::task::spawn_blocking(move || {
            crashing.crash();
            crashing.run();
        })
        .await
        .unwrap();
        writers.abort(); // if the store found out that all was well they would go on for ever
        if let Ok(Some(error)) = writers.await {
            assert!(matches!(error.code(), "store.gone" | "store.unknown"), "{error}");
        }
        append_again(&store, &format!("after {round}")).await;
        let acknowledged = acks.lock().unwrap().clone();
        assert_kept(&store, &acknowledged).await;
    }
}

/// Appends as soon as the store is back.
async fn append_again(store: &Store, text: &str) {
    let patience = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        let expect = store.version("rounds").await.unwrap_or(0);
        match store.append_at(step("rounds", expect, text)).await {
            Ok(_) => return,
            Err(error) => assert!(tokio::time::Instant::now() < patience, "not back after a minute: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
