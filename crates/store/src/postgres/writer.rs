//! The node's writer: one transaction for everything waiting, two round trips, then the answers.
//!
//! INVARIANT (INV7): success is answered after the server has acknowledged `COMMIT` without a warning, or after
//! the batch was seen in the ledger. When the answer to `COMMIT` is lost, the writer connects anew, takes the
//! head's lock (so the lost transaction has ended, one way or the other) and looks.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bailiwick_audit::tree::{Frontier, Hash};
use tokio::time::Instant;
use tokio_postgres::{Row, Statement};

use super::listen::CHANNEL;
use super::read::{column, int, natural};
use super::session::{Address, Session};
use super::trouble::store_error;
use crate::error::{AppendError, Fault, Refusal, StoreError};
use crate::heads::{self, Heads};
use crate::ledger::{self, TileNode};
use crate::queue::{Done, Job, Once, Outcome, Request, Status, Waiting};
use crate::record::{Append, Appended, HealthState, Remembered, StoredCheckpoint};

/// Longest a batch may take before its connection is given up.
const BATCH_TIMEOUT: Duration = Duration::from_secs(8);
/// How long the fate of a batch is asked for after its connection was lost.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(8);
const SETTLE_RETRY: Duration = Duration::from_millis(200);
/// Expired keys removed with each commit that remembers one: more than it adds, so that they go away.
const PURGED_PER_COMMIT: i64 = 64;

/// Starts the writer's task; it ends, and lets go of its connection, when the queue is closed.
pub(super) fn start(address: Address, session: Session, status: Arc<Status>, waiting: Waiting) {
    let writer = Writer { address, line: Line::Fresh(session), status };
    tokio::spawn(writer.run(waiting));
}

struct Writer {
    address: Address,
    line: Line,
    status: Arc<Status>,
}

/// The connection to the server.
enum Line {
    Down,
    Fresh(Session),
    Ready(Box<Prepared>),
}

/// Why a batch failed.
enum Failure {
    /// Nothing of it was written.
    Clean(StoreError),
    /// `COMMIT` was on its way.
    Unsettled(StoreError, Box<Draft>),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Failure::Clean(error)
    }
}

impl Writer {
    async fn run(mut self, mut waiting: Waiting) {
        while let Some(batch) = waiting.batch().await {
            match self.commit(&batch).await {
                Ok(outcomes) => {
                    self.status.up();
                    batch.into_iter().zip(outcomes).for_each(|(request, outcome)| request.answer(outcome));
                }
                Err(error) => {
                    self.status.failed(HealthState::Failing, &error);
                    batch.into_iter().for_each(|request| request.answer(Err(error.clone().into())));
                }
            }
        }
        drop(self);
        waiting.left();
    }

    async fn commit(&mut self, batch: &[Request]) -> Result<Vec<Outcome>, StoreError> {
        match self.try_commit(batch).await {
            Ok(draft) => {
                self.status.committed(draft.frontier.size());
                Ok(draft.outcomes)
            }
            Err(Failure::Clean(error)) => Err(error),
            Err(Failure::Unsettled(error, draft)) => self.settle(error, *draft).await,
        }
    }

    /// One transaction. The connection is kept only when all of it went well.
    async fn try_commit(&mut self, batch: &[Request]) -> Result<Draft, Failure> {
        let prepared = match std::mem::replace(&mut self.line, Line::Down) {
            Line::Ready(prepared) if !prepared.session.client.is_closed() => prepared,
            Line::Fresh(session) => Box::new(Prepared::new(session).await?),
            Line::Ready(_) | Line::Down => {
                let session = Session::connect(&self.address, None).await?;
                Box::new(Prepared::new(session).await?)
            }
        };
        let deadline = Instant::now() + BATCH_TIMEOUT;
        let late = |_| StoreError::new(Fault::Gone, "the server did not answer in time");
        let drafted = tokio::time::timeout_at(deadline, prepared.begin(batch)).await;
        let draft = drafted.map_err(late)??;
        if draft.is_empty() {
            let ended =
                tokio::time::timeout_at(deadline, prepared.session.client.batch_execute("ROLLBACK")).await;
            ended.map_err(late)?.map_err(store_error)?;
        } else {
            match tokio::time::timeout_at(deadline, prepared.finish(&draft)).await {
                Ok(Ok(())) => {}
                Ok(Err(Finish::Refused(error))) => return Err(Failure::Clean(error)),
                Ok(Err(Finish::Unsettled(error))) => return Err(Failure::Unsettled(error, Box::new(draft))),
                Err(elapsed) => return Err(Failure::Unsettled(late(elapsed), Box::new(draft))),
            }
        }
        self.line = Line::Ready(prepared);
        Ok(draft)
    }

    /// Finds out whether the batch was committed after all.
    async fn settle(&mut self, error: StoreError, draft: Draft) -> Result<Vec<Outcome>, StoreError> {
        tracing::warn!(code = error.code(), %error, "the answer to a commit was lost, looking for the batch");
        let deadline = Instant::now() + SETTLE_TIMEOUT;
        while error.fault() != Fault::Unknown && Instant::now() < deadline {
            match tokio::time::timeout_at(deadline, self.look_for(&draft)).await {
                Ok(Ok(Some(true))) => {
                    self.status.committed(draft.frontier.size());
                    return Ok(draft.outcomes);
                }
                Ok(Ok(Some(false))) => return Err(error),
                Ok(Ok(None)) => break,
                Ok(Err(_)) | Err(_) => tokio::time::sleep(SETTLE_RETRY).await,
            }
        }
        Err(StoreError::new(Fault::Unknown, error.to_string()))
    }

    /// Whether the ledger holds the batch; `None` if nothing in the batch would tell.
    async fn look_for(&mut self, draft: &Draft) -> Result<Option<bool>, StoreError> {
        let Some(first) = draft.events.first() else { return Ok(None) };
        let session = Session::connect(&self.address, None).await?;
        let client = &session.client;
        client.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED").await.map_err(store_error)?;
        client.query_one(LOCK_HEAD, &[]).await.map_err(store_error)?;
        let sql = "SELECT count(*) FROM bailiwick.events WHERE idx = $1 AND stream = $2 AND version = $3 AND leaf = $4";
        let stream = &first.stream;
        let leaf = first.leaf.as_bytes().as_slice();
        let found = client.query_one(sql, &[&first.index, stream, &first.version, &leaf]).await;
        let found = natural(&found.map_err(store_error)?, 0)? == 1;
        client.batch_execute("ROLLBACK").await.map_err(store_error)?;
        self.line = Line::Fresh(session);
        Ok(Some(found))
    }
}

const LOCK_HEAD: &str = "SELECT bytes FROM bailiwick.frontier WHERE one = 1 FOR UPDATE";
const VERSIONS: &str =
    "SELECT name, coalesce((SELECT max(version) + 1 FROM bailiwick.events WHERE stream = name), 0)
    FROM unnest($1::text[]) AS names (name)";
const REMEMBERED: &str = "SELECT r.scope, r.key, r.value, r.expires_ms FROM bailiwick.remembered AS r
    JOIN unnest($1::text[], $2::bytea[]) AS asked (scope, key) ON r.scope = asked.scope AND r.key = asked.key";
const EVENTS: &str = "INSERT INTO bailiwick.events (idx, stream, version, time_ms, kind, bytes, leaf)
    SELECT * FROM unnest($1::int8[], $2::text[], $3::int8[], $4::int8[], $5::text[], $6::bytea[], $7::bytea[])";
const NODES: &str = "INSERT INTO bailiwick.tile_nodes (level, idx, hash)
    SELECT * FROM unnest($1::int4[], $2::int8[], $3::bytea[])";
const VIEWS: &str = "INSERT INTO bailiwick.views (view, key, value)
    SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[])
    ON CONFLICT (view, key) DO UPDATE SET value = excluded.value";
const UNVIEWS: &str = "DELETE FROM bailiwick.views AS v
    USING unnest($1::text[], $2::text[]) AS gone (view, key) WHERE v.view = gone.view AND v.key = gone.key";
const REMEMBER: &str = "INSERT INTO bailiwick.remembered (scope, key, value, expires_ms)
    SELECT * FROM unnest($1::text[], $2::bytea[], $3::bytea[], $4::int8[])
    ON CONFLICT (scope, key) DO UPDATE SET value = excluded.value, expires_ms = excluded.expires_ms";
const PURGE: &str = "DELETE FROM bailiwick.remembered WHERE (scope, key) IN
    (SELECT scope, key FROM bailiwick.remembered WHERE expires_ms <= $1 ORDER BY expires_ms LIMIT $2)";
const CHECKPOINTS: &str =
    "INSERT INTO bailiwick.checkpoints (size, note) SELECT * FROM unnest($1::int8[], $2::bytea[])
    ON CONFLICT (size) DO UPDATE SET note = excluded.note";
const HEAD: &str = "UPDATE bailiwick.frontier SET bytes = $1 WHERE one = 1";
const NOTIFY: &str = "SELECT pg_notify($1, $2)";

/// A connection with the writer's statements.
struct Prepared {
    session: Session,
    lock_head: Statement,
    versions: Statement,
    remembered: Statement,
    events: Statement,
    nodes: Statement,
    views: Statement,
    unviews: Statement,
    remember: Statement,
    purge: Statement,
    checkpoints: Statement,
    head: Statement,
    notify: Statement,
}

/// How the second half of a transaction failed.
enum Finish {
    /// The server refused a statement, so it has rolled back.
    Refused(StoreError),
    /// The connection was lost, or the commit answered with a warning.
    Unsettled(StoreError),
}

impl Prepared {
    async fn new(session: Session) -> Result<Self, StoreError> {
        let prepare = async |sql: &str| session.client.prepare(sql).await.map_err(store_error);
        Ok(Prepared {
            lock_head: prepare(LOCK_HEAD).await?,
            versions: prepare(VERSIONS).await?,
            remembered: prepare(REMEMBERED).await?,
            events: prepare(EVENTS).await?,
            nodes: prepare(NODES).await?,
            views: prepare(VIEWS).await?,
            unviews: prepare(UNVIEWS).await?,
            remember: prepare(REMEMBER).await?,
            purge: prepare(PURGE).await?,
            checkpoints: prepare(CHECKPOINTS).await?,
            head: prepare(HEAD).await?,
            notify: prepare(NOTIFY).await?,
            session,
        })
    }

    /// First round trip: takes the head's lock, reads what the batch is judged on, and judges.
    async fn begin(&self, batch: &[Request]) -> Result<Draft, StoreError> {
        let client = &self.session.client;
        let names = named(batch);
        let (scopes, keys) = asked(batch);
        // Sent in this order without waiting; the server answers in the same order.
        let (begun, head, versions, remembered) = tokio::join!(
            biased;
            client.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED"),
            client.query_one(&self.lock_head, &[]),
            async { client.query(&self.versions, &[&names]).await },
            async {
                if keys.is_empty() {
                    return Ok(Vec::new());
                }
                client.query(&self.remembered, &[&scopes, &keys]).await
            },
        );
        begun.map_err(store_error)?;
        let head = head.map_err(store_error)?;
        let mut draft = Draft::new(ledger::decode(column(&head, 0)?)?);
        draft.learn_versions(&versions.map_err(store_error)?)?;
        draft.learn_remembered(&remembered.map_err(store_error)?)?;
        batch.iter().for_each(|request| draft.judge(&request.job));
        Ok(draft)
    }

    /// Second round trip: writes what was accepted, and commits.
    async fn finish(&self, draft: &Draft) -> Result<(), Finish> {
        let client = &self.session.client;
        let warnings = self.session.warnings();
        let (events, nodes, views, unviews, remember, purge, checkpoints, head, notify, committed) = tokio::join!(
            biased;
            self.write_events(draft),
            self.write_nodes(draft),
            self.write_views(draft),
            self.delete_views(draft),
            self.write_remembered(draft),
            self.purge(draft),
            self.write_checkpoints(draft),
            async { client.execute(&self.head, &[&draft.frontier.to_bytes()]).await },
            self.notify(draft),
            client.batch_execute("COMMIT"),
        );
        for written in [events, nodes, views, unviews, remember, purge, checkpoints, head, notify] {
            written.map_err(|error| match error.as_db_error() {
                Some(_) => Finish::Refused(store_error(error)),
                None => Finish::Unsettled(store_error(error)),
            })?;
        }
        committed.map_err(|error| Finish::Unsettled(store_error(error)))?;
        if self.session.warnings() != warnings {
            let detail = "the server committed with a warning, for example without its standby";
            return Err(Finish::Unsettled(StoreError::new(Fault::Unknown, detail)));
        }
        Ok(())
    }

    async fn write_events(&self, draft: &Draft) -> Result<u64, tokio_postgres::Error> {
        if draft.events.is_empty() {
            return Ok(0);
        }
        let column = |of: fn(&EventRow) -> i64| draft.events.iter().map(of).collect::<Vec<_>>();
        let text = |of: fn(&EventRow) -> &str| draft.events.iter().map(of).collect::<Vec<_>>();
        let blob = |of: fn(&EventRow) -> &[u8]| draft.events.iter().map(of).collect::<Vec<_>>();
        let (indices, versions, times) = (column(|e| e.index), column(|e| e.version), column(|e| e.time_ms));
        let (streams, kinds) = (text(|e| &e.stream), text(|e| &e.kind));
        let (bytes, leaves) = (blob(|e| &e.bytes), blob(|e| e.leaf.as_bytes()));
        let rows: [&(dyn tokio_postgres::types::ToSql + Sync); 7] =
            [&indices, &streams, &versions, &times, &kinds, &bytes, &leaves];
        self.session.client.execute(&self.events, &rows).await
    }

    async fn write_nodes(&self, draft: &Draft) -> Result<u64, tokio_postgres::Error> {
        if draft.nodes.is_empty() {
            return Ok(0);
        }
        let levels: Vec<i32> = draft.nodes.iter().map(|node| node.level.into()).collect();
        let indices: Vec<i64> = draft.nodes.iter().map(|node| int(node.index)).collect();
        let hashes: Vec<&[u8]> = draft.nodes.iter().map(|node| node.hash.as_bytes().as_slice()).collect();
        self.session.client.execute(&self.nodes, &[&levels, &indices, &hashes]).await
    }

    async fn write_views(&self, draft: &Draft) -> Result<u64, tokio_postgres::Error> {
        let put = || draft.views.iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
        let (views, keys): (Vec<&str>, Vec<&str>) = put().map(|((v, k), _)| (v.as_str(), k.as_str())).unzip();
        if keys.is_empty() {
            return Ok(0);
        }
        let values: Vec<&[u8]> = put().map(|(_, value)| value.as_slice()).collect();
        self.session.client.execute(&self.views, &[&views, &keys, &values]).await
    }

    async fn delete_views(&self, draft: &Draft) -> Result<u64, tokio_postgres::Error> {
        let gone = draft.views.iter().filter(|(_, value)| value.is_none());
        let (views, keys): (Vec<&str>, Vec<&str>) = gone.map(|((v, k), _)| (v.as_str(), k.as_str())).unzip();
        if keys.is_empty() {
            return Ok(0);
        }
        self.session.client.execute(&self.unviews, &[&views, &keys]).await
    }

    async fn write_remembered(&self, draft: &Draft) -> Result<u64, tokio_postgres::Error> {
        let new = || draft.remembered.iter().filter(|(_, kept)| kept.new);
        let (scopes, keys): (Vec<&str>, Vec<&[u8]>) =
            new().map(|((s, k), _)| (s.as_str(), k.as_slice())).unzip();
        if keys.is_empty() {
            return Ok(0);
        }
        let (values, expiries): (Vec<&[u8]>, Vec<i64>) =
            new().map(|(_, kept)| (kept.value.as_slice(), int(kept.expires_ms))).unzip();
        self.session.client.execute(&self.remember, &[&scopes, &keys, &values, &expiries]).await
    }

    async fn purge(&self, draft: &Draft) -> Result<u64, tokio_postgres::Error> {
        match draft.purge_before {
            Some(before) => {
                self.session.client.execute(&self.purge, &[&int(before), &PURGED_PER_COMMIT]).await
            }
            None => Ok(0),
        }
    }

    async fn write_checkpoints(&self, draft: &Draft) -> Result<u64, tokio_postgres::Error> {
        if draft.checkpoints.is_empty() {
            return Ok(0);
        }
        let sizes: Vec<i64> = draft.checkpoints.keys().map(|size| int(*size)).collect();
        let notes: Vec<&[u8]> = draft.checkpoints.values().map(Vec::as_slice).collect();
        self.session.client.execute(&self.checkpoints, &[&sizes, &notes]).await
    }

    async fn notify(&self, draft: &Draft) -> Result<u64, tokio_postgres::Error> {
        if draft.events.is_empty() {
            return Ok(0);
        }
        let size = draft.frontier.size().to_string();
        self.session.client.execute(&self.notify, &[&CHANNEL, &size]).await
    }
}

/// The streams a batch names, each once.
fn named(batch: &[Request]) -> Vec<&str> {
    let appends = batch.iter().filter_map(|request| match &request.job {
        Job::Append(append) | Job::Ending(append) => Some(append),
        Job::Remember(_) | Job::Checkpoint(_) | Job::Settle => None,
    });
    let mut names: Vec<&str> = appends.flat_map(heads::named).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// The keys a batch asks for.
fn asked(batch: &[Request]) -> (Vec<&str>, Vec<&[u8]>) {
    let once = batch.iter().filter_map(|request| match &request.job {
        Job::Remember(once) => Some((once.scope.as_str(), once.key.as_slice())),
        Job::Append(_) | Job::Ending(_) | Job::Checkpoint(_) | Job::Settle => None,
    });
    once.unzip()
}

/// What a batch comes to: its outcomes, and the rows to write if it is committed.
struct Draft {
    outcomes: Vec<Outcome>,
    frontier: Frontier,
    heads: Heads,
    events: Vec<EventRow>,
    nodes: Vec<TileNode>,
    views: BTreeMap<(String, String), Option<Vec<u8>>>,
    remembered: HashMap<(String, Vec<u8>), Kept>,
    /// Earliest clock given by those who remembered: keys expired for all of them may go.
    purge_before: Option<u64>,
    checkpoints: BTreeMap<u64, Vec<u8>>,
}

struct EventRow {
    index: i64,
    stream: String,
    version: i64,
    time_ms: i64,
    kind: String,
    bytes: Vec<u8>,
    leaf: Hash,
}

struct Kept {
    value: Vec<u8>,
    expires_ms: u64,
    new: bool,
}

impl Draft {
    fn new(frontier: Frontier) -> Self {
        Draft {
            outcomes: Vec::new(),
            frontier,
            heads: Heads::default(),
            events: Vec::new(),
            nodes: Vec::new(),
            views: BTreeMap::new(),
            remembered: HashMap::new(),
            purge_before: None,
            checkpoints: BTreeMap::new(),
        }
    }

    fn is_empty(&self) -> bool {
        self.events.is_empty() && self.purge_before.is_none() && self.checkpoints.is_empty()
    }

    fn learn_versions(&mut self, rows: &[Row]) -> Result<(), StoreError> {
        rows.iter().try_for_each(|row| {
            self.heads.learn(column(row, 0)?, natural(row, 1)?);
            Ok(())
        })
    }

    fn learn_remembered(&mut self, rows: &[Row]) -> Result<(), StoreError> {
        rows.iter().try_for_each(|row| {
            let kept = Kept { value: column(row, 2)?, expires_ms: natural(row, 3)?, new: false };
            self.remembered.insert((column(row, 0)?, column(row, 1)?), kept);
            Ok(())
        })
    }

    fn judge(&mut self, job: &Job) {
        let outcome = match job {
            Job::Append(append) | Job::Ending(append) => self.append(append),
            Job::Remember(once) => Ok(Done::Remembered(self.remember(once))),
            Job::Checkpoint(checkpoint) => self.checkpoint(checkpoint),
            Job::Settle => Ok(Done::Kept),
        };
        self.outcomes.push(outcome);
    }

    fn append(&mut self, append: &Append) -> Outcome {
        let first_version = self.heads.accept(append)?;
        let first_index = self.frontier.size();
        for (version, event) in (first_version..).zip(&append.events) {
            let (index, leaf) = ledger::grow(&mut self.frontier, &event.bytes, &mut self.nodes);
            self.events.push(EventRow {
                index: int(index),
                stream: append.stream.clone(),
                version: int(version),
                time_ms: int(event.time_ms),
                kind: event.kind.clone(),
                bytes: event.bytes.clone(),
                leaf,
            });
        }
        for put in &append.views {
            self.views.insert((put.view.clone(), put.key.clone()), put.value.clone());
        }
        let version = first_version + append.events.len() as u64;
        Ok(Done::Appended(Appended { version, first_index }))
    }

    fn remember(&mut self, once: &Once) -> Remembered {
        let name = (once.scope.clone(), once.key.to_vec());
        if let Some(kept) = self.remembered.get(&name).filter(|kept| kept.expires_ms > once.now_ms) {
            return Remembered::Seen(kept.value.clone());
        }
        let kept = Kept { value: once.value.clone(), expires_ms: once.expires_ms, new: true };
        self.remembered.insert(name, kept);
        self.purge_before = Some(self.purge_before.unwrap_or(u64::MAX).min(once.now_ms));
        Remembered::New
    }

    fn checkpoint(&mut self, checkpoint: &StoredCheckpoint) -> Outcome {
        if checkpoint.size > self.frontier.size() {
            return Err(AppendError::Refused(Refusal::Unstorable("a checkpoint beyond the ledger")));
        }
        self.checkpoints.insert(checkpoint.size, checkpoint.note.clone());
        Ok(Done::Kept)
    }
}
