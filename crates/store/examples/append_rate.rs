//! How fast durable appends are here: the embedded store beside a bare file, in the same folder.
//!
//! `cargo run -p bailiwick-store --release --example append_rate [folder]`

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bailiwick_store::{Append, Location, NewEvent, Store, StoreError};

const EVENT_BYTES: usize = 520;
const MEASURE: Duration = Duration::from_secs(3);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = folder.join(format!("append-rate-{}", std::process::id()));
    std::fs::create_dir(&folder)?;
    let result = measure(&folder).await;
    std::fs::remove_dir_all(&folder)?;
    result
}

async fn measure(folder: &Path) -> Result<(), Box<dyn std::error::Error>> {
    report("bare file", 1, bare(folder)?);
    for callers in [1, 8, 64, 256] {
        let store = Store::open(Location::Sqlite(folder.join(format!("{callers}.db")))).await?;
        report("sqlite", callers, through(&store, callers).await?);
        store.close().await;
    }
    Ok(())
}

/// Writes and flushes one event after another.
fn bare(folder: &Path) -> std::io::Result<Vec<Duration>> {
    let (mut file, event) = (File::create(folder.join("bare"))?, vec![b'x'; EVENT_BYTES]);
    let (start, mut took) = (Instant::now(), Vec::new());
    while start.elapsed() < MEASURE {
        let before = Instant::now();
        file.write_all(&event)?;
        file.sync_data()?;
        took.push(before.elapsed());
    }
    Ok(took)
}

/// So many callers, each waiting for its answer, each on a stream of its own.
async fn through(store: &Store, callers: usize) -> Result<Vec<Duration>, StoreError> {
    let mut appending = tokio::task::JoinSet::new();
    for caller in 0..callers {
        appending.spawn(append_for_a_while(store.clone(), format!("task/{caller}")));
    }
    Ok(appending.join_all().await.concat())
}

async fn append_for_a_while(store: Store, stream: String) -> Vec<Duration> {
    let (start, mut took) = (Instant::now(), Vec::new());
    while start.elapsed() < MEASURE {
        let event = NewEvent { time_ms: 0, kind: "measure".into(), bytes: vec![b'x'; EVENT_BYTES] };
        let expect = took.len() as u64;
        let append =
            Append { stream: stream.clone(), expect, guards: vec![], events: vec![event], views: vec![] };
        let before = Instant::now();
        if let Err(error) = store.append_at(append).await {
            eprintln!("{stream}: {error}");
            break;
        }
        took.push(before.elapsed());
    }
    took
}

fn report(what: &str, callers: usize, mut took: Vec<Duration>) {
    took.sort_unstable();
    let at = |share: f64| took.get((took.len() as f64 * share) as usize).map_or(0, Duration::as_micros);
    let rate = took.len() as f64 / MEASURE.as_secs_f64();
    println!("{what:>10} {callers:>4} callers  {rate:>8.0}/s  p50 {:>6} us  p99 {:>6} us", at(0.5), at(0.99));
}
