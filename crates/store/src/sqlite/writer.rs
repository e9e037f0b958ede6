//! The one writer: takes everything waiting, judges it on stream heads in memory, commits once, answers.
//!
//! It has a thread of its own. While commits are quick and hardly anybody comes, a caller who finds nobody writing
//! takes the [`Pen`] and commits on the thread it is on, which spares waking two threads; whoever comes meanwhile
//! stands in the line for the writer's thread.
//!
//! INVARIANT (INV7): no request is answered with success before `COMMIT` has returned, which with
//! `synchronous=FULL` means that the log was flushed. A failed commit fails its whole batch, and nothing
//! kept in memory outlives it. After a medium failure the writer stops: a flush that failed is never tried
//! again as if the pages were still there to be flushed.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LockResult, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bailiwick_audit::tree::Frontier;
use rusqlite::{Connection, OptionalExtension, params};

use super::checkpoint::{Checkpointer, Gate};
use super::open::{self, Lock, Opened};
use super::read::{self, int};
use super::reserve::Reserve;
use super::trouble::file_error;
use super::{Readers, store_error};
use crate::error::{AppendError, Fault, Refusal, StoreError};
use crate::heads::{self, Heads};
use crate::ledger::{self, TileNode};
use crate::queue::{Done, Job, Once, Outcome, Queue, Request, Status, Waiting, closed};
use crate::record::{Append, Appended, HealthState, Remembered, StoredCheckpoint, ViewPut};

/// Stream heads kept in memory between commits; past this they are read again.
const HEADS_MAX: usize = 1 << 17;
/// Expired keys removed with each commit that remembers one: more than it adds, so that they go away.
const PURGED_PER_COMMIT: i64 = 64;
/// What an event costs in the log beside its bytes, roughly: parts of a row, an index entry and its pages.
const EVENT_OVERHEAD_BYTES: usize = 512;

/// A commit that took longer is not one to be made on a caller's thread.
const QUICK: Duration = Duration::from_millis(1);
/// Requests in one commit that are few.
const FEW: usize = 4;

/// Starts the writer's thread; it ends, and lets go of the file, when the queue is closed.
pub(super) fn start(
    path: &Path,
    opened: Opened,
    shared: (Arc<Status>, Arc<Readers>, Arc<Mutex<Reserve>>),
    waiting: Waiting,
) -> Result<Pen, StoreError> {
    let (status, readers, reserve) = shared;
    let gate = Arc::new(Gate::default());
    let writer = Writer {
        home: Home::of(path)?,
        ledger: Some(Ledger::new(opened.connection, opened.frontier)),
        stopped: None,
        calm: false,
        checkpointer: Checkpointer::start(path, Arc::clone(&gate))?,
        status,
        reserve,
        _lock: opened.lock,
    };
    let pen = Pen { gate, writer: Arc::new(Mutex::new(Some(writer))), wanted: Arc::default() };
    let own = pen.clone();
    let body = move || own.run(waiting, &readers);
    let spawned = std::thread::Builder::new().name("bw-writer".into()).spawn(body);
    spawned.map(|_| pen).map_err(|error| StoreError::new(Fault::Busy, format!("no thread: {error}")))
}

/// The writer, in one hand at a time; none once it has left.
#[derive(Clone, Debug)]
pub(super) struct Pen {
    writer: Arc<Mutex<Option<Writer>>>,
    /// Whether the writer's thread waits for it: then no caller is let in before.
    wanted: Arc<AtomicBool>,
    gate: Arc<Gate>,
}

impl Pen {
    /// The writer's own thread.
    fn run(&self, mut waiting: Waiting, readers: &Readers) {
        while let Some((writer, batch)) = waiting.batch_blocking(|| self.take()) {
            // Whoever panicked with it in hand left it unfit: then nothing is written any more.
            let Ok(mut writer) = writer else { break };
            let Some(writer) = writer.as_mut() else { break };
            let _passage = self.gate.pass();
            writer.serve(batch);
        }
        readers.close();
        drop(self.writer.lock().unwrap_or_else(PoisonError::into_inner).take());
        waiting.left();
    }

    fn take(&self) -> LockResult<MutexGuard<'_, Option<Writer>>> {
        self.wanted.store(true, Ordering::Release);
        let writer = self.writer.lock();
        self.wanted.store(false, Ordering::Release);
        writer
    }

    /// Does a job on the caller's thread if that is likely to take no longer than waking another; gives it back if not.
    pub(super) fn try_ask(&self, job: Job, queue: &Queue) -> Result<Outcome, Job> {
        if self.wanted.load(Ordering::Acquire) || !queue.is_empty() {
            return Err(job);
        }
        let Ok(mut writer) = self.writer.try_lock() else { return Err(job) };
        let Some(writer) = writer.as_mut().filter(|writer| writer.calm) else { return Err(job) };
        let Some(_passage) = self.gate.try_pass() else { return Err(job) };
        let (request, mut outcome) = Request::new(job);
        writer.serve(queue.with_lingering(request));
        Ok(outcome.try_recv().unwrap_or_else(|_| Err(closed().into())))
    }
}

#[derive(Debug)]
struct Writer {
    home: Home,
    /// Absent after a failed commit, until it could be read anew.
    ledger: Option<Ledger>,
    /// Why nothing is written any more.
    stopped: Option<StoreError>,
    /// Whether the last commit was quick and for few.
    calm: bool,
    status: Arc<Status>,
    reserve: Arc<Mutex<Reserve>>,
    // Dropped in this order: the checkpointer's connection first, the lock last.
    checkpointer: Checkpointer,
    _lock: Lock,
}

impl Writer {
    /// Commits a batch and answers it.
    fn serve(&mut self, batch: Vec<Request>) {
        let begun = Instant::now();
        let outcomes = self.commit(&batch);
        self.calm = outcomes.is_ok() && batch.len() <= FEW && begun.elapsed() <= QUICK;
        match outcomes {
            Ok(outcomes) => {
                batch.into_iter().zip(outcomes).for_each(|(request, outcome)| request.answer(outcome));
            }
            Err(error) => batch.into_iter().for_each(|request| request.answer(Err(error.clone().into()))),
        }
    }

    /// One commit for the whole batch: an outcome for each request, or one failure for all. On a full disk the
    /// reserve is spent for what takes authority away, and the rest is refused.
    fn commit(&mut self, batch: &[Request]) -> Result<Vec<Outcome>, StoreError> {
        if let Some(stopped) = &self.stopped {
            return Err(stopped.clone());
        }
        let ends_something = batch.iter().any(Request::is_ending);
        if self.reserve().is_whole() {
            let result = self.attempt(batch, |_| true);
            let full = matches!(&result, Err(error) if error.fault() == Fault::Full);
            if !(full && ends_something && self.reserve().spend()) {
                return result;
            }
        }
        self.attempt(batch, Request::is_ending)
    }

    fn reserve(&self) -> MutexGuard<'_, Reserve> {
        self.reserve.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn attempt(
        &mut self,
        batch: &[Request],
        admits: fn(&Request) -> bool,
    ) -> Result<Vec<Outcome>, StoreError> {
        let result = self.try_commit(batch, admits);
        match &result {
            Ok(_) if self.reserve().is_spent() => {} // still full for most
            Ok(_) => self.status.up(),
            Err(error) => self.fail(error),
        }
        result
    }

    fn try_commit(
        &mut self,
        batch: &[Request],
        admits: fn(&Request) -> bool,
    ) -> Result<Vec<Outcome>, StoreError> {
        self.home.check()?;
        let ledger = match &mut self.ledger {
            Some(ledger) => ledger,
            absent => absent.insert(Ledger::reopen(&self.home.path)?),
        };
        let before = ledger.frontier.size();
        let (outcomes, bytes) = ledger.commit(batch, admits)?;
        let after = ledger.frontier.size();
        let events = usize::try_from(after - before).unwrap_or(usize::MAX);
        self.checkpointer.wrote(bytes.saturating_add(events.saturating_mul(EVENT_OVERHEAD_BYTES)));
        self.status.committed(after);
        Ok(outcomes)
    }

    /// Drops everything held in memory. What may have reached the medium only in part stops the writer.
    fn fail(&mut self, error: &StoreError) {
        self.ledger = None;
        let transient = matches!(error.fault(), Fault::Full | Fault::Locked | Fault::ReadOnly | Fault::Busy);
        if transient {
            self.status.failed(HealthState::Failing, error);
        } else {
            self.stopped = Some(error.clone());
            self.status.failed(HealthState::Stopped, error);
        }
    }
}

/// The file as it was when opened. SQLite would go on writing to a file that has been unlinked.
#[derive(Debug)]
struct Home {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Home {
    fn of(path: &Path) -> Result<Self, StoreError> {
        let found = std::fs::metadata(path).map_err(|error| file_error("the file cannot be seen", &error))?;
        Ok(Home { path: path.to_owned(), device: found.dev(), inode: found.ino() })
    }

    fn check(&self) -> Result<(), StoreError> {
        let found =
            std::fs::metadata(&self.path).map_err(|error| file_error("the file cannot be seen", &error))?;
        if (found.dev(), found.ino()) != (self.device, self.inode) {
            return Err(StoreError::new(Fault::Gone, "another file is in its place"));
        }
        Ok(())
    }
}

/// The writing connection with what it knows of the file's content.
#[derive(Debug)]
struct Ledger {
    db: Connection,
    frontier: Frontier,
    heads: Heads,
}

impl Ledger {
    fn new(db: Connection, frontier: Frontier) -> Self {
        Ledger { db, frontier, heads: Heads::default() }
    }

    fn reopen(path: &Path) -> Result<Self, StoreError> {
        let (connection, frontier) = open::reopen(path)?;
        Ok(Self::new(connection, frontier))
    }

    /// Writes what is admitted and accepted; gives the outcomes and the bytes written. On an error the caller
    /// drops `self`.
    fn commit(
        &mut self,
        batch: &[Request],
        admits: fn(&Request) -> bool,
    ) -> Result<(Vec<Outcome>, usize), StoreError> {
        if self.heads.len() > HEADS_MAX {
            self.heads.forget();
        }
        self.run("BEGIN IMMEDIATE")?;
        let mut transaction = Transaction { bytes: 0, wrote: false, nodes: Vec::new(), purge_before: None };
        let outcomes: Result<Vec<_>, _> =
            batch
                .iter()
                .map(|request| {
                    if admits(request) {
                        self.apply(&request.job, &mut transaction)
                    } else {
                        Ok(Err(spent()))
                    }
                })
                .collect();
        let outcomes = outcomes?;
        if !transaction.wrote {
            self.run("ROLLBACK")?;
            return Ok((outcomes, 0));
        }
        self.seal(&transaction)?;
        self.run("COMMIT")?;
        Ok((outcomes, transaction.bytes))
    }

    fn run(&self, sql: &str) -> Result<(), StoreError> {
        let mut statement = self.db.prepare_cached(sql).map_err(store_error)?;
        statement.execute([]).map(|_| ()).map_err(store_error)
    }

    /// An outer error fails the batch, an inner one refuses this job alone.
    fn apply(&mut self, job: &Job, transaction: &mut Transaction) -> Result<Outcome, StoreError> {
        match job {
            Job::Append(append) | Job::Ending(append) => self.append(append, transaction),
            Job::Remember(once) => self.remember(once, transaction),
            Job::Checkpoint(checkpoint) => self.checkpoint(checkpoint, transaction),
            Job::Settle => Ok(Ok(Done::Kept)),
        }
    }

    fn append(&mut self, append: &Append, transaction: &mut Transaction) -> Result<Outcome, StoreError> {
        for stream in heads::named(append) {
            if !self.heads.knows(stream) {
                self.heads.learn(stream.to_owned(), read::version(&self.db, stream)?);
            }
        }
        let first_version = match self.heads.accept(append) {
            Ok(version) => version,
            Err(conflict) => return Ok(Err(conflict)),
        };
        transaction.wrote = true;
        let first_index = self.frontier.size();
        self.insert_events(append, first_version, transaction)?;
        append.views.iter().try_for_each(|put| self.put_view(put, transaction))?;
        let version = first_version + append.events.len() as u64;
        Ok(Ok(Done::Appended(Appended { version, first_index })))
    }

    fn insert_events(
        &mut self,
        append: &Append,
        first_version: u64,
        transaction: &mut Transaction,
    ) -> Result<(), StoreError> {
        let sql = "INSERT INTO events (idx, stream, version, time_ms, kind, bytes, leaf)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        let mut insert = self.db.prepare_cached(sql).map_err(store_error)?;
        for (version, event) in (first_version..).zip(&append.events) {
            let (index, leaf) = ledger::grow(&mut self.frontier, &event.bytes, &mut transaction.nodes);
            let (version, time) = (int(version), int(event.time_ms));
            let row =
                params![int(index), append.stream, version, time, event.kind, event.bytes, leaf.as_bytes()];
            insert.execute(row).map_err(store_error)?;
            transaction.bytes += event.bytes.len();
        }
        Ok(())
    }

    fn put_view(&self, put: &ViewPut, transaction: &mut Transaction) -> Result<(), StoreError> {
        let ViewPut { view, key, value } = put;
        match value {
            Some(value) => {
                let sql = "INSERT INTO views (view, key, value) VALUES (?1, ?2, ?3)
                           ON CONFLICT (view, key) DO UPDATE SET value = excluded.value";
                let mut upsert = self.db.prepare_cached(sql).map_err(store_error)?;
                upsert.execute(params![view, key, value]).map_err(store_error)?;
                transaction.bytes += value.len();
            }
            None => {
                let sql = "DELETE FROM views WHERE view = ?1 AND key = ?2";
                let mut delete = self.db.prepare_cached(sql).map_err(store_error)?;
                delete.execute(params![view, key]).map_err(store_error)?;
            }
        }
        Ok(())
    }

    fn remember(&self, once: &Once, transaction: &mut Transaction) -> Result<Outcome, StoreError> {
        let sql = "SELECT value FROM remembered WHERE scope = ?1 AND key = ?2 AND expires_ms > ?3";
        let mut find = self.db.prepare_cached(sql).map_err(store_error)?;
        let found = find.query_row(params![once.scope, once.key, int(once.now_ms)], |row| row.get(0));
        if let Some(value) = found.optional().map_err(store_error)? {
            return Ok(Ok(Done::Remembered(Remembered::Seen(value))));
        }
        let sql = "INSERT INTO remembered (scope, key, value, expires_ms) VALUES (?1, ?2, ?3, ?4)
                   ON CONFLICT (scope, key) DO UPDATE SET value = excluded.value, expires_ms = excluded.expires_ms";
        let mut insert = self.db.prepare_cached(sql).map_err(store_error)?;
        let row = params![once.scope, once.key, once.value, int(once.expires_ms)];
        insert.execute(row).map_err(store_error)?;
        transaction.wrote = true;
        transaction.bytes += once.value.len();
        let earliest = transaction.purge_before.unwrap_or(u64::MAX).min(once.now_ms);
        transaction.purge_before = Some(earliest);
        Ok(Ok(Done::Remembered(Remembered::New)))
    }

    fn checkpoint(
        &self,
        checkpoint: &StoredCheckpoint,
        transaction: &mut Transaction,
    ) -> Result<Outcome, StoreError> {
        if checkpoint.size > self.frontier.size() {
            let beyond = Refusal::Unstorable("a checkpoint beyond the ledger");
            return Ok(Err(AppendError::Refused(beyond)));
        }
        let sql = "INSERT INTO checkpoints (size, note) VALUES (?1, ?2)
                   ON CONFLICT (size) DO UPDATE SET note = excluded.note";
        let mut insert = self.db.prepare_cached(sql).map_err(store_error)?;
        insert.execute(params![int(checkpoint.size), checkpoint.note]).map_err(store_error)?;
        transaction.wrote = true;
        Ok(Ok(Done::Kept))
    }

    /// What every commit that wrote something ends with: the tree, and expired keys removed.
    fn seal(&self, transaction: &Transaction) -> Result<(), StoreError> {
        let sql = "INSERT INTO tile_nodes (level, idx, hash) VALUES (?1, ?2, ?3)";
        for node in &transaction.nodes {
            let mut insert = self.db.prepare_cached(sql).map_err(store_error)?;
            let row = params![node.level, int(node.index), node.hash.as_bytes()];
            insert.execute(row).map_err(store_error)?;
        }
        let mut update =
            self.db.prepare_cached("UPDATE frontier SET bytes = ?1 WHERE one = 1").map_err(store_error)?;
        update.execute([self.frontier.to_bytes()]).map_err(store_error)?;
        transaction.purge_before.map_or(Ok(()), |before| self.purge(before))
    }

    fn purge(&self, before_ms: u64) -> Result<(), StoreError> {
        let sql = "DELETE FROM remembered WHERE (scope, key) IN
                   (SELECT scope, key FROM remembered WHERE expires_ms <= ?1 ORDER BY expires_ms LIMIT ?2)";
        let mut purge = self.db.prepare_cached(sql).map_err(store_error)?;
        purge.execute(params![int(before_ms), PURGED_PER_COMMIT]).map(|_| ()).map_err(store_error)
    }
}

fn spent() -> AppendError {
    StoreError::new(Fault::Full, "what is left of the disk is kept for ending things").into()
}

/// What one commit has come to so far.
struct Transaction {
    /// Payload written, bytes.
    bytes: usize,
    /// Whether there is anything to commit.
    wrote: bool,
    /// Tile hashes completed.
    nodes: Vec<TileNode>,
    /// Earliest clock given by those who remembered: keys expired for all of them may go.
    purge_before: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::super::Sqlite;
    use super::*;
    use crate::record::NewEvent;

    fn append(version: u64) -> Job {
        let event = NewEvent { time_ms: 1, kind: "noted".to_owned(), bytes: version.to_be_bytes().to_vec() };
        let stream = "s".to_owned();
        Job::Append(Append { stream, expect: version, guards: vec![], events: vec![event], views: vec![] })
    }

    /// Appends an event after a quick commit, whatever the disk, on the caller's thread if it may.
    fn append_here(store: &Sqlite, version: u64) -> Option<Outcome> {
        if let Some(writer) = store.pen.writer.lock().unwrap().as_mut() {
            writer.calm = true;
        }
        store.try_ask(append(version)).ok()
    }

    async fn opened(folder: &tempfile::TempDir) -> Sqlite {
        Sqlite::open(folder.path().join("ledger.db")).await.unwrap()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn who_finds_nobody_writing_writes_on_a_thread_of_several() {
        let folder = tempfile::tempdir().unwrap();
        let store = opened(&folder).await;
        assert!(store.try_ask(append(0)).is_err(), "nobody knows yet how quick this disk is");
        for version in 0..100 {
            let outcome = append_here(&store, version).unwrap();
            assert!(matches!(outcome, Ok(Done::Appended(appended)) if appended.version == version + 1));
        }
        store.close().await;
        assert!(append_here(&store, 100).is_none());
        assert!(store.ask(append(100)).await.is_err());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nobody_goes_before_who_waits_for_the_pen_or_for_the_gate() {
        let folder = tempfile::tempdir().unwrap();
        let store = opened(&folder).await;
        store.pen.wanted.store(true, Ordering::Release);
        assert!(append_here(&store, 0).is_none(), "the writer's thread waits for it");
        store.pen.wanted.store(false, Ordering::Release);
        let gate = Arc::clone(&store.pen.gate);
        let folding = gate.pass();
        assert!(append_here(&store, 0).is_none(), "the log is being folded back");
        drop(folding);
        assert!(append_here(&store, 0).unwrap().is_ok());
    }

    #[tokio::test]
    async fn on_the_only_thread_nobody_waits_for_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let store = opened(&folder).await;
        assert!(append_here(&store, 0).is_none());
        assert!(store.ask(append(0)).await.is_ok());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_lingers_is_written_before_what_was_asked_for_after_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = opened(&folder).await;
        for pair in 0..100 {
            let soon = store.ask_soon(append(2 * pair)).await;
            let outcome = match append_here(&store, 2 * pair + 1) {
                Some(outcome) => outcome,
                None => store.ask(append(2 * pair + 1)).await, // what lingered is being written already
            };
            assert!(outcome.is_ok() && soon.await.is_ok_and(|outcome| outcome.is_ok()));
        }
    }
}
