//! The shared backend: many nodes, one PostgreSQL server (or one that speaks its protocol and honours its
//! transactions).
//!
//! Each node has one writing connection, which commits everything waiting in one transaction. The lock on the
//! frontier's row makes all nodes' transactions take turns, so commit order is index order. LISTEN/NOTIFY
//! tells the others; polling covers a notification that was lost.

mod listen;
mod migrate;
mod read;
mod session;
mod trouble;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use bailiwick_audit::tree::Hash;
use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use tokio::sync::{oneshot, watch};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use crate::error::{Fault, StoreError};
use crate::ledger::Run;
use crate::queue::{Job, Outcome, Queue, Status, line};
use crate::record::{Health, Recorded, StoredCheckpoint, TreeHead};
use read::{bounds, column, count, int, natural, recorded};
use session::{Address, Session};
use trouble::{pool_error, store_error};

/// Reading connections of this node.
const READERS_MAX: usize = 8;
const READER_WAIT: Duration = Duration::from_secs(5);

#[derive(Clone)]
pub(crate) struct Postgres {
    queue: Queue,
    status: Arc<Status>,
    readers: Pool,
    /// Its last drop ends the listener.
    alive: Arc<watch::Sender<bool>>,
}

impl std::fmt::Debug for Postgres {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Postgres").field("status", &self.status).finish_non_exhaustive() // no connection string
    }
}

impl Postgres {
    /// Connects, migrates under the shared lock, checks the ledger, and starts writer and listener.
    pub(crate) async fn open(url: &str) -> Result<Self, StoreError> {
        let address = session::address(url)?;
        let session = Session::connect(&address, None).await?;
        migrate::migrate(&session).await?;
        let size = migrate::check(&session).await?;
        let readers = pool(&address)?;
        let status = Arc::new(Status::new("postgres", size));
        let (queue, waiting) = line();
        writer::start(address.clone(), session, Arc::clone(&status), waiting);
        let alive = Arc::new(watch::Sender::new(true));
        listen::start(address, Arc::clone(&status), alive.subscribe());
        Ok(Postgres { queue, status, readers, alive })
    }

    pub(crate) async fn ask(&self, job: Job) -> Outcome {
        self.queue.ask(job).await
    }

    pub(crate) async fn ask_soon(&self, job: Job) -> oneshot::Receiver<Outcome> {
        self.queue.ask_soon(job).await
    }

    pub(crate) async fn close(&self) {
        self.queue.close().await;
        self.alive.send_replace(false);
        self.readers.close();
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.status.subscribe()
    }

    pub(crate) fn health(&self) -> Health {
        self.status.health()
    }

    pub(crate) async fn read(&self, stream: &str, from_version: u64) -> Result<Vec<Recorded>, StoreError> {
        self.query(read::STREAM, &[&stream, &int(from_version)]).await?.iter().map(recorded).collect()
    }

    pub(crate) async fn scan(&self, from_index: u64, limit: usize) -> Result<Vec<Recorded>, StoreError> {
        self.query(read::LEDGER, &[&int(from_index), &count(limit)]).await?.iter().map(recorded).collect()
    }

    pub(crate) async fn version(&self, stream: &str) -> Result<u64, StoreError> {
        let rows = self.query(read::VERSION, &[&stream]).await?;
        rows.first().map_or(Ok(0), |row| natural(row, 0))
    }

    pub(crate) async fn streams(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, u64)>, StoreError> {
        let (from, after, below) = bounds(prefix, after);
        let rows = self.query(read::STREAMS, &[&from, &after, &below, &count(limit)]).await?;
        rows.iter().map(|row| Ok((column(row, 0)?, natural(row, 1)?))).collect()
    }

    pub(crate) async fn view_get(&self, view: &str, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let rows = self.query(read::VIEW_GET, &[&view, &key]).await?;
        rows.first().map(|row| column(row, 0)).transpose()
    }

    pub(crate) async fn view_scan(
        &self,
        view: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let (from, after, below) = bounds(prefix, after);
        let rows = self.query(read::VIEW_SCAN, &[&view, &from, &after, &below, &count(limit)]).await?;
        rows.iter().map(|row| Ok((column(row, 0)?, column(row, 1)?))).collect()
    }

    pub(crate) async fn head(&self) -> Result<TreeHead, StoreError> {
        let frontier = read::frontier(&*self.reader().await?).await?;
        Ok(TreeHead { size: frontier.size(), root: frontier.root() })
    }

    pub(crate) async fn hashes(&self, run: Run) -> Result<Vec<Hash>, StoreError> {
        read::hashes(&*self.reader().await?, run).await
    }

    pub(crate) async fn latest_checkpoint(&self) -> Result<Option<StoredCheckpoint>, StoreError> {
        read::latest_checkpoint(&*self.reader().await?).await
    }

    async fn reader(&self) -> Result<deadpool_postgres::Client, StoreError> {
        self.readers.get().await.map_err(pool_error)
    }

    async fn query(&self, sql: &str, bounds: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, StoreError> {
        let _failed = self.queue.settle().await;
        let client = self.reader().await?;
        let statement = client.prepare_cached(sql).await.map_err(store_error)?;
        client.query(&statement, bounds).await.map_err(store_error)
    }
}

fn pool(address: &Address) -> Result<Pool, StoreError> {
    let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = Manager::from_config(address.config.clone(), address.tls.clone(), recycling);
    let pool = Pool::builder(manager)
        .max_size(READERS_MAX)
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(READER_WAIT))
        .create_timeout(Some(READER_WAIT))
        .recycle_timeout(Some(READER_WAIT));
    pool.build().map_err(|error| StoreError::new(Fault::Config, error.to_string()))
}
