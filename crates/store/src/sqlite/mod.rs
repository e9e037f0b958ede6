//! The embedded backend: one SQLite file, one writer, readers beside it.
//!
//! Write-ahead log, `synchronous=FULL`: an answer is given after the log is on the medium. Automatic
//! checkpoints are off in the writer; another thread folds the log back ([`checkpoint`]), so no commit
//! waits for it beyond a short, fair pause. A lock file keeps a second process from writing.

mod checkpoint;
mod open;
mod read;
mod reserve;
mod room;
mod trouble;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bailiwick_audit::tree::Hash;
use rusqlite::Connection;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{oneshot, watch};

use crate::error::{Fault, StoreError};
use crate::ledger::Run;
use crate::queue::{Job, Outcome, Queue, Status, line};
use crate::record::{Health, Recorded, StoredCheckpoint, TreeHead};
use reserve::Reserve;
use trouble::store_error;
use writer::Pen;

/// Reading connections kept open; more are opened and closed as needed.
const READERS_KEPT: usize = 4;

#[derive(Clone, Debug)]
pub(crate) struct Sqlite {
    queue: Queue,
    pen: Pen,
    status: Arc<Status>,
    readers: Arc<Readers>,
    reserve: Arc<Mutex<Reserve>>,
}

impl Sqlite {
    /// Opens or creates the file, checks it, and starts writer and checkpointer.
    pub(crate) async fn open(path: PathBuf) -> Result<Self, StoreError> {
        blocking(move || Self::open_blocking(&path)).await
    }

    fn open_blocking(path: &Path) -> Result<Self, StoreError> {
        let opened = open::open(path)?;
        let status = Arc::new(Status::new("sqlite", opened.frontier.size()));
        let readers = Arc::new(Readers { path: path.to_owned(), idle: Mutex::default() });
        let reserve = Arc::new(Mutex::new(Reserve::beside(path)));
        let (queue, waiting) = line();
        let shared = (Arc::clone(&status), Arc::clone(&readers), Arc::clone(&reserve));
        let pen = writer::start(path, opened, shared, waiting)?;
        Ok(Sqlite { queue, pen, status, readers, reserve })
    }

    pub(crate) async fn ask(&self, job: Job) -> Outcome {
        match self.try_ask(job) {
            Ok(outcome) => outcome,
            Err(job) => self.queue.ask(job).await,
        }
    }

    fn try_ask(&self, job: Job) -> Result<Outcome, Job> {
        if may_wait_here() { self.pen.try_ask(job, &self.queue) } else { Err(job) }
    }

    pub(crate) async fn ask_soon(&self, job: Job) -> oneshot::Receiver<Outcome> {
        self.queue.ask_soon(job).await
    }

    pub(crate) async fn keep_reserve(&self, bytes: u64) -> Result<(), StoreError> {
        let reserve = Arc::clone(&self.reserve);
        blocking(move || reserve.lock().unwrap_or_else(PoisonError::into_inner).keep(bytes)).await
    }

    pub(crate) async fn close(&self) {
        self.queue.close().await;
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.status.subscribe()
    }

    pub(crate) fn health(&self) -> Health {
        self.status.health()
    }

    pub(crate) async fn read(&self, stream: &str, from_version: u64) -> Result<Vec<Recorded>, StoreError> {
        let stream = stream.to_owned();
        self.with_reader(move |db| read::stream(db, &stream, from_version)).await
    }

    pub(crate) async fn scan(&self, from_index: u64, limit: usize) -> Result<Vec<Recorded>, StoreError> {
        self.with_reader(move |db| read::ledger(db, from_index, limit)).await
    }

    pub(crate) async fn version(&self, stream: &str) -> Result<u64, StoreError> {
        let stream = stream.to_owned();
        self.with_reader(move |db| read::version(db, &stream)).await
    }

    pub(crate) async fn streams(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, u64)>, StoreError> {
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        self.with_reader(move |db| read::streams(db, &prefix, after.as_deref(), limit)).await
    }

    pub(crate) async fn view_get(&self, view: &str, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let (view, key) = (view.to_owned(), key.to_owned());
        self.with_reader(move |db| read::view_get(db, &view, &key)).await
    }

    pub(crate) async fn view_scan(
        &self,
        view: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let (view, prefix, after) = (view.to_owned(), prefix.to_owned(), after.map(str::to_owned));
        self.with_reader(move |db| read::view_scan(db, &view, &prefix, after.as_deref(), limit)).await
    }

    pub(crate) async fn head(&self) -> Result<TreeHead, StoreError> {
        let frontier = self.with_reader(read::frontier).await?;
        Ok(TreeHead { size: frontier.size(), root: frontier.root() })
    }

    pub(crate) async fn hashes(&self, run: Run) -> Result<Vec<Hash>, StoreError> {
        self.with_reader(move |db| read::hashes(db, run)).await
    }

    pub(crate) async fn latest_checkpoint(&self) -> Result<Option<StoredCheckpoint>, StoreError> {
        self.with_reader(read::latest_checkpoint).await
    }

    async fn with_reader<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        // What could not be written is heard by whoever asked for it; a read shows what is there.
        let _failed = self.queue.settle().await;
        let readers = Arc::clone(&self.readers);
        blocking(move || readers.with(read)).await
    }
}

/// Read-only connections, reused.
#[derive(Debug)]
struct Readers {
    path: PathBuf,
    /// `None` once the store is closed.
    idle: Mutex<Idle>,
}

#[derive(Debug, Default)]
struct Idle {
    closed: bool,
    connections: Vec<Connection>,
}

impl Readers {
    fn with<T>(&self, read: impl FnOnce(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let connection = self.take()?;
        let result = read(&connection);
        let healthy = !matches!(&result, Err(error) if error.fault() != Fault::Locked);
        if healthy && connection.is_autocommit() {
            self.put_back(connection);
        }
        result
    }

    fn take(&self) -> Result<Connection, StoreError> {
        let idle = {
            let mut idle = self.lock();
            if idle.closed {
                return Err(StoreError::new(Fault::Closed, "its owner closed it"));
            }
            idle.connections.pop()
        };
        match idle {
            Some(connection) => Ok(connection),
            None => open::reader(&self.path),
        }
    }

    fn put_back(&self, connection: Connection) {
        let mut idle = self.lock();
        if !idle.closed && idle.connections.len() < READERS_KEPT {
            idle.connections.push(connection);
        }
    }

    /// Closes every idle connection and opens no more.
    fn close(&self) {
        let mut idle = self.lock();
        idle.closed = true;
        idle.connections.clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the thread this runs on may wait for the disk a moment: one of several of a runtime.
fn may_wait_here() -> bool {
    let several = |runtime: Handle| {
        runtime.runtime_flavor() == RuntimeFlavor::MultiThread && runtime.metrics().num_workers() > 1
    };
    Handle::try_current().is_ok_and(several)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let failed = |_| StoreError::new(Fault::Closed, "the runtime is shutting down");
    tokio::task::spawn_blocking(work).await.map_err(failed)?
}
