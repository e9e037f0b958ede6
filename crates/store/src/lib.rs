//! Event streams with a conditional append, on SQLite and PostgreSQL. The only SQL of the product.
//!
//! What it promises, on both backends alike:
//!
//! - [`Store::append_at`] writes events to one stream if that stream, and every guard, is at the version the
//!   caller decided upon; of any number racing for a version exactly one wins (INV10).
//! - An answer is given after the commit is durable, never before (INV7).
//! - Every event gets a ledger index in commit order without gaps, and is a leaf of an RFC 6962 tree that is
//!   stored in the same transaction (INV8); so are the projections ([`ViewPut`]).
//! - Events are append-only: the database itself refuses to change or remove one.
//! - Whatever cannot be done is an error with a stable code, and nothing panics.
//!
//! Events are opaque bytes here; what they mean is known above.

mod error;
mod heads;
mod ledger;
mod postgres;
mod queue;
mod record;
mod sqlite;

use bailiwick_audit::tree::{Frontier, Hash};
use tokio::sync::{oneshot, watch};

pub use error::{AppendError, Fault, Refusal, StoreError};
pub use record::{
    Append, Appended, Health, HealthState, Location, MAX_EVENTS_PER_APPEND, MAX_GUARDS_PER_APPEND,
    MAX_NAME_BYTES, MAX_VALUE_BYTES, MAX_VIEWS_PER_APPEND, NewEvent, Recorded, Remembered, StoredCheckpoint,
    TreeHead, ViewPut,
};

use ledger::Run;
use queue::{Done, Job, Once, Outcome};

/// A handle to an open store; clones share it. When the last one is dropped the writer finishes what is
/// waiting and lets go; [`Store::close`] does the same and waits for it.
#[derive(Clone, Debug)]
pub struct Store {
    backend: Backend,
}

#[derive(Clone, Debug)]
enum Backend {
    Sqlite(sqlite::Sqlite),
    Postgres(postgres::Postgres),
}

/// Asks the backend the same thing whichever it is.
macro_rules! on_backend {
    ($store:expr, $db:ident => $ask:expr) => {
        match &$store.backend {
            Backend::Sqlite($db) => $ask,
            Backend::Postgres($db) => $ask,
        }
    };
}

impl Store {
    /// Opens the store, creating or migrating its schema, and checks that it holds together: schema version,
    /// tree against the last tile's events, ledger not shorter than its latest checkpoint.
    ///
    /// # Errors
    /// `store.locked` if another process writes to the same file; `store.rolled_back`, `store.corrupt`,
    /// `store.schema` if the check fails; `store.gone`, `store.read_only`, `store.full`, `store.io`,
    /// `store.config` if it cannot be reached or written.
    pub async fn open(location: Location) -> Result<Self, StoreError> {
        let backend = match location {
            Location::Sqlite(path) => Backend::Sqlite(sqlite::Sqlite::open(path).await?),
            Location::Postgres(url) => Backend::Postgres(postgres::Postgres::open(&url).await?),
        };
        Ok(Store { backend })
    }

    /// Writes the events, and the views with them, if the stream and all guards are at the versions expected.
    /// The answer comes after the commit is durable.
    ///
    /// # Errors
    /// [`AppendError::Conflict`] if a stream stands elsewhere; nothing was written.
    /// [`AppendError::Refused`] if it breaks a bound; nothing was written.
    /// [`AppendError::Unavailable`] if the store cannot take it. With `store.unknown`, and after `store.io`,
    /// it may have been written all the same: read the stream again. So, too, when this future is dropped.
    pub async fn append_at(&self, append: Append) -> Result<Appended, AppendError> {
        record::check_append(&append)?;
        appended(self.ask(Job::Append(append)).await?)
    }

    /// As [`Store::append_at`], for events that only take authority away: an end, a revocation, a freeze. On a
    /// full disk it may use the space that [`Store::keep_reserve`] keeps back.
    ///
    /// # Errors
    /// As [`Store::append_at`].
    pub async fn append_ending(&self, append: Append) -> Result<Appended, AppendError> {
        record::check_append(&append)?;
        appended(self.ask(Job::Ending(append)).await?)
    }

    /// As [`Store::append_at`], but does not wait for the commit: the events are written in order with everything
    /// asked for after them, together with the next append or a few milliseconds later. Every read sees them. A crash
    /// may lose them: whoever uses this has to be right without them.
    ///
    /// # Errors
    /// [`AppendError::Refused`] if it breaks a bound. Whether it was written is [`Soon`]'s to say.
    pub async fn append_soon(&self, append: Append) -> Result<Soon, AppendError> {
        record::check_append(&append)?;
        Ok(Soon(on_backend!(self, db => db.ask_soon(Job::Append(append)).await)))
    }

    /// Keeps so many bytes of disk back for [`Store::append_ending`]; asked for once after opening, 64 MiB is a
    /// good measure. While they are spent, everything else is refused with `store.full`. On PostgreSQL, whose
    /// disk is not ours, this does nothing.
    ///
    /// # Errors
    /// `store.full` or `store.read_only` if they cannot be set aside; endings then have only what is left.
    pub async fn keep_reserve(&self, bytes: u64) -> Result<(), StoreError> {
        match &self.backend {
            Backend::Sqlite(sqlite) => sqlite.keep_reserve(bytes).await,
            Backend::Postgres(_) => Ok(()),
        }
    }

    /// The events of a stream from a version on (0 for all), in order. An unknown stream is an empty one.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn read(&self, stream: &str, from_version: u64) -> Result<Vec<Recorded>, StoreError> {
        on_backend!(self, db => db.read(stream, from_version).await)
    }

    /// At most `limit` events of the ledger from an index on, in commit order.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn scan(&self, from_index: u64, limit: usize) -> Result<Vec<Recorded>, StoreError> {
        on_backend!(self, db => db.scan(from_index, limit).await)
    }

    /// Events in a stream; 0 for one that is unknown.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn version(&self, stream: &str) -> Result<u64, StoreError> {
        on_backend!(self, db => db.version(stream).await)
    }

    /// At most `limit` streams whose names start with `prefix`, after the name `after`, with their versions,
    /// in byte order of names.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn streams(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, u64)>, StoreError> {
        on_backend!(self, db => db.streams(prefix, after, limit).await)
    }

    /// One row of a view.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn view_get(&self, view: &str, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        on_backend!(self, db => db.view_get(view, key).await)
    }

    /// At most `limit` rows of a view whose keys start with `prefix`, after the key `after`, in byte order.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn view_scan(
        &self,
        view: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        on_backend!(self, db => db.view_scan(view, prefix, after, limit).await)
    }

    /// Size and root of the tree over everything committed.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn head(&self) -> Result<TreeHead, StoreError> {
        on_backend!(self, db => db.head().await)
    }

    /// The tree as it was when it had `size` leaves; `None` if it is not that large. Costs O(log size).
    /// Compare it with a head someone else keeps to see that this store still contains it.
    ///
    /// # Errors
    /// If the store cannot be read, or `store.corrupt` if tree hashes are missing.
    pub async fn head_at(&self, size: u64) -> Result<Option<TreeHead>, StoreError> {
        if size > self.head().await?.size {
            return Ok(None);
        }
        let mut runs = Vec::new();
        for run in ledger::runs_of(size) {
            runs.push(on_backend!(self, db => db.hashes(run).await)?);
        }
        let frontier: Frontier = ledger::frontier_of(size, &runs)?;
        Ok(Some(TreeHead { size, root: frontier.root() }))
    }

    /// Leaf hashes of the events `from` up to, not including, `to`; fewer if the ledger is shorter.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn leaf_hashes(&self, from: u64, to: u64) -> Result<Vec<Hash>, StoreError> {
        self.tile_hashes(0, from, to.saturating_sub(from)).await
    }

    /// Stored tree hashes at a tile level (C2SP tlog-tiles: hash `i` at `level` covers 256^level leaves), from
    /// `start` on; fewer if the ledger is shorter. This is what proofs are made of.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn tile_hashes(&self, level: u8, start: u64, count: u64) -> Result<Vec<Hash>, StoreError> {
        on_backend!(self, db => db.hashes(Run { level, start, count }).await)
    }

    /// Keeps a signed head. One for the same size replaces it.
    ///
    /// # Errors
    /// As [`Store::append_at`]; [`AppendError::Refused`] if it covers more than the ledger holds.
    pub async fn put_checkpoint(&self, size: u64, note: impl Into<Vec<u8>>) -> Result<(), AppendError> {
        let checkpoint = StoredCheckpoint { size, note: note.into() };
        record::at_most("a checkpoint's note", checkpoint.note.len(), MAX_VALUE_BYTES)?;
        self.ask(Job::Checkpoint(checkpoint)).await.map(|_| ())
    }

    /// The checkpoint with the largest size.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn latest_checkpoint(&self) -> Result<Option<StoredCheckpoint>, StoreError> {
        on_backend!(self, db => db.latest_checkpoint().await)
    }

    /// Keeps `value` under the key unless one is kept that has not expired at `now_ms`; durable when answered,
    /// and of any number racing exactly one hears [`Remembered::New`]. Expired keys are removed by and by,
    /// by the clock given here: give one that never goes back.
    ///
    /// # Errors
    /// As [`Store::append_at`], without conflicts.
    pub async fn remember_once(
        &self,
        scope: &str,
        key: &[u8; 32],
        value: Vec<u8>,
        expires_ms: u64,
        now_ms: u64,
    ) -> Result<Remembered, AppendError> {
        record::name("a scope", scope)?;
        record::at_most("a remembered value", value.len(), MAX_VALUE_BYTES)?;
        let once = Once { scope: scope.to_owned(), key: *key, value, expires_ms, now_ms };
        match self.ask(Job::Remember(once)).await? {
            Done::Remembered(remembered) => Ok(remembered),
            other => Err(mismatched(&other).into()),
        }
    }

    /// A receiver of the number of committed events, whoever committed them. It may skip numbers, and on
    /// PostgreSQL lag behind another node's commit by the polling interval when a notification is lost.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        on_backend!(self, db => db.subscribe())
    }

    /// Whether writes are taken, and the last trouble.
    pub fn health(&self) -> Health {
        on_backend!(self, db => db.health())
    }

    /// Refuses new work, finishes what is waiting, and returns when files, locks and connections are let go.
    /// Every clone of the handle is closed with it and answers `store.closed`.
    pub async fn close(&self) {
        on_backend!(self, db => db.close().await);
    }

    async fn ask(&self, job: Job) -> Outcome {
        on_backend!(self, db => db.ask(job).await)
    }
}

/// What becomes of an append that was not waited for.
#[derive(Debug)]
pub struct Soon(oneshot::Receiver<Outcome>);

impl Soon {
    /// How it went, if that is known by now.
    pub fn known(&mut self) -> Option<Result<Appended, AppendError>> {
        match self.0.try_recv() {
            Err(oneshot::error::TryRecvError::Empty) => None,
            outcome => Some(outcome.unwrap_or_else(|_| Err(queue::closed().into())).and_then(appended)),
        }
    }

    /// How it went, as soon as that is known.
    ///
    /// # Errors
    /// As [`Store::append_at`].
    pub async fn outcome(self) -> Result<Appended, AppendError> {
        appended(self.0.await.unwrap_or_else(|_| Err(queue::closed().into()))?)
    }
}

fn appended(done: Done) -> Result<Appended, AppendError> {
    match done {
        Done::Appended(appended) => Ok(appended),
        other => Err(mismatched(&other).into()),
    }
}

fn mismatched(done: &Done) -> StoreError {
    StoreError::new(Fault::Corrupt, format!("the writer answered another question: {done:?}"))
}
