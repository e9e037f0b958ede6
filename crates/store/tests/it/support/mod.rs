//! Places to put a store, small events, and an independent view of the tree.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use bailiwick_stand::Cluster;
use bailiwick_store::{Append, AppendError, Appended, Location, NewEvent, Recorded, Store};
use sha2::{Digest, Sha256};

/// A fresh, empty place for one store; gone with the value.
pub(crate) struct Place {
    location: Location,
    raw: Raw,
}

enum Raw {
    Sqlite { folder: tempfile::TempDir },
    Postgres { cluster: Arc<Cluster>, database: String },
}

impl Place {
    pub(crate) fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Place { location: Location::Sqlite(folder.path().join("ledger.db")), raw: Raw::Sqlite { folder } }
    }

    pub(crate) async fn postgres() -> Self {
        Self::on_cluster(Cluster::shared()).await
    }

    pub(crate) async fn on_cluster(cluster: Arc<Cluster>) -> Self {
        let database = cluster.new_database().await;
        Place {
            location: Location::Postgres(cluster.url(&database)),
            raw: Raw::Postgres { cluster, database },
        }
    }

    pub(crate) fn location(&self) -> Location {
        self.location.clone()
    }

    pub(crate) async fn open(&self) -> Store {
        Store::open(self.location()).await.unwrap()
    }

    /// The folder of an SQLite store.
    pub(crate) fn folder(&self) -> &Path {
        match &self.raw {
            Raw::Sqlite { folder } => folder.path(),
            Raw::Postgres { .. } => panic!("this place has no folder"),
        }
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.folder().join("ledger.db")
    }

    /// A connection of somebody else to the server.
    pub(crate) async fn connect(&self) -> tokio_postgres::Client {
        match &self.raw {
            Raw::Postgres { cluster, database } => cluster.connect(database).await,
            Raw::Sqlite { .. } => panic!("this place has no server"),
        }
    }

    /// Runs statements past the store, as an administrator of the database would.
    pub(crate) async fn sql(&self, script: &str) -> Result<(), String> {
        match &self.raw {
            Raw::Sqlite { .. } => {
                let connection = rusqlite::Connection::open(self.file()).map_err(|e| e.to_string())?;
                connection.execute_batch(script).map_err(|e| e.to_string())
            }
            Raw::Postgres { .. } => {
                let client = self.connect().await;
                let result = client.batch_execute(&format!("SET search_path = bailiwick; {script}")).await;
                result.map_err(|error| match error.as_db_error() {
                    Some(error) => error.message().to_owned(),
                    None => error.to_string(),
                })
            }
        }
    }
}

pub(crate) fn event(text: &str) -> NewEvent {
    NewEvent { time_ms: 1_700_000_000_000, kind: "test.happened".into(), bytes: text.as_bytes().to_vec() }
}

pub(crate) fn append(stream: &str, expect: u64, texts: &[&str]) -> Append {
    let events = texts.iter().map(|text| event(text)).collect();
    Append { stream: stream.into(), expect, guards: vec![], events, views: vec![] }
}

/// Appends one event wherever the stream is, deciding again after each conflict.
pub(crate) async fn append_somewhere(store: &Store, stream: &str, text: &str) -> Appended {
    let mut expect = 0;
    loop {
        match store.append_at(append(stream, expect, &[text])).await {
            Ok(appended) => return appended,
            Err(AppendError::Conflict { actual, .. }) => expect = actual,
            Err(other) => panic!("{other}"),
        }
    }
}

pub(crate) async fn everything(store: &Store) -> Vec<Recorded> {
    let mut all: Vec<Recorded> = vec![];
    loop {
        let page = store.scan(all.len() as u64, 500).await.unwrap();
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

/// Nothing missing in the ledger or in any stream, and the head is the tree of exactly these events.
pub(crate) async fn assert_whole(store: &Store) -> Vec<Recorded> {
    let all = everything(store).await;
    let mut versions = std::collections::BTreeMap::<&str, u64>::new();
    for (index, recorded) in (0..).zip(&all) {
        assert_eq!(recorded.index, index, "a gap in the ledger");
        let version = versions.entry(&recorded.stream).or_default();
        assert_eq!(recorded.version, *version, "a gap in stream {}", recorded.stream);
        *version += 1;
    }
    let head = store.head().await.unwrap();
    assert_eq!(head.size, all.len() as u64);
    let leaves: Vec<[u8; 32]> = all.iter().map(|recorded| leaf(&recorded.bytes)).collect();
    assert_eq!(head.root.0, tree_hash(&leaves), "the head is not the tree of the events");
    all
}

/// RFC 6962 section 2.1, written down once more from its text.
pub(crate) fn tree_hash(leaves: &[[u8; 32]]) -> [u8; 32] {
    match leaves {
        [] => Sha256::digest([]).into(),
        [leaf] => *leaf,
        _ => {
            let split = leaves.len().next_power_of_two() / 2;
            let (left, right) = leaves.split_at(split);
            let node =
                Sha256::new().chain_update([1]).chain_update(tree_hash(left)).chain_update(tree_hash(right));
            node.finalize().into()
        }
    }
}

pub(crate) fn leaf(bytes: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update([0]).chain_update(bytes).finalize().into()
}

/// Set in the child that runs a scenario under special conditions: what the parent has made for it.
const INSIDE: &str = "BAILIWICK_STORE_TEST_INSIDE";

/// What the parent has made, in the child that [`run_inside`] started.
pub(crate) fn inside() -> Option<OsString> {
    std::env::var_os(INSIDE)
}

/// Runs one test again, alone, in a child started by way of `program`.
pub(crate) fn run_inside(test: &str, given: &OsStr, mut program: Command) {
    let run = program
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, given)
        .output()
        .unwrap();
    let said = [run.stdout, run.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(run.status.success() && said.contains("1 passed"), "{said}");
}

/// Repeatable chance (xorshift64*).
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Dice(seed.max(1))
    }

    pub(crate) fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % below
    }
}
