//! Every question that is asked of the file.

use bailiwick_audit::tree::{Frontier, Hash};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::store_error;
use crate::error::StoreError;
use crate::ledger::{self, Run, TILE};
use crate::record::{Recorded, StoredCheckpoint, above_prefix};

/// One stream from a version on.
pub(super) fn stream(db: &Connection, stream: &str, from_version: u64) -> Result<Vec<Recorded>, StoreError> {
    let sql = "SELECT idx, stream, version, time_ms, kind, bytes FROM events
               WHERE stream = ?1 AND version >= ?2 ORDER BY version";
    let mut statement = db.prepare_cached(sql).map_err(store_error)?;
    let rows = statement.query_map(params![stream, int(from_version)], recorded).map_err(store_error)?;
    rows.collect::<Result<_, _>>().map_err(store_error)
}

/// The ledger from an index on.
pub(super) fn ledger(db: &Connection, from_index: u64, limit: usize) -> Result<Vec<Recorded>, StoreError> {
    let sql = "SELECT idx, stream, version, time_ms, kind, bytes FROM events
               WHERE idx >= ?1 ORDER BY idx LIMIT ?2";
    let mut statement = db.prepare_cached(sql).map_err(store_error)?;
    let rows = statement.query_map(params![int(from_index), count(limit)], recorded).map_err(store_error)?;
    rows.collect::<Result<_, _>>().map_err(store_error)
}

fn recorded(row: &Row<'_>) -> rusqlite::Result<Recorded> {
    Ok(Recorded {
        index: row.get(0)?,
        stream: row.get(1)?,
        version: row.get(2)?,
        time_ms: row.get(3)?,
        kind: row.get(4)?,
        bytes: row.get(5)?,
    })
}

/// Events in a stream.
pub(super) fn version(db: &Connection, stream: &str) -> Result<u64, StoreError> {
    let sql = "SELECT version FROM events WHERE stream = ?1 ORDER BY version DESC LIMIT 1";
    let mut statement = db.prepare_cached(sql).map_err(store_error)?;
    let last = statement.query_row([stream], |row| row.get::<_, u64>(0)).optional().map_err(store_error)?;
    Ok(last.map_or(0, |last| last + 1))
}

/// Streams by name, each found by one step in the index however long it is.
pub(super) fn streams(
    db: &Connection,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<(String, u64)>, StoreError> {
    let sql = "WITH RECURSIVE names (name) AS (
                   SELECT min(stream) FROM events WHERE stream >= ?1 AND stream > ?2
                   UNION ALL
                   SELECT (SELECT min(stream) FROM events WHERE stream > name) FROM names
                   WHERE name IS NOT NULL AND (?3 IS NULL OR name < ?3))
               SELECT name, (SELECT max(version) FROM events WHERE stream = name) + 1 FROM names
               WHERE name IS NOT NULL AND (?3 IS NULL OR name < ?3) LIMIT ?4";
    let mut statement = db.prepare_cached(sql).map_err(store_error)?;
    let bounds = params![prefix, after.unwrap_or(""), above_prefix(prefix), count(limit)];
    let rows = statement.query_map(bounds, |row| Ok((row.get(0)?, row.get(1)?))).map_err(store_error)?;
    rows.collect::<Result<_, _>>().map_err(store_error)
}

/// One row of a projection.
pub(super) fn view_get(db: &Connection, view: &str, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
    let sql = "SELECT value FROM views WHERE view = ?1 AND key = ?2";
    let mut statement = db.prepare_cached(sql).map_err(store_error)?;
    statement.query_row([view, key], |row| row.get(0)).optional().map_err(store_error)
}

/// Rows of a projection in byte order of their keys.
pub(super) fn view_scan(
    db: &Connection,
    view: &str,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
    let sql = "SELECT key, value FROM views
               WHERE view = ?1 AND key >= ?2 AND key > ?3 AND (?4 IS NULL OR key < ?4) ORDER BY key LIMIT ?5";
    let mut statement = db.prepare_cached(sql).map_err(store_error)?;
    let bounds = params![view, prefix, after.unwrap_or(""), above_prefix(prefix), count(limit)];
    let rows = statement.query_map(bounds, |row| Ok((row.get(0)?, row.get(1)?))).map_err(store_error)?;
    rows.collect::<Result<_, _>>().map_err(store_error)
}

/// The frontier as stored.
pub(super) fn frontier(db: &Connection) -> Result<Frontier, StoreError> {
    let mut statement = db.prepare_cached("SELECT bytes FROM frontier WHERE one = 1").map_err(store_error)?;
    let bytes: Vec<u8> = statement.query_row([], |row| row.get(0)).map_err(store_error)?;
    ledger::decode(&bytes)
}

/// One more than the highest index.
pub(super) fn leaves(db: &Connection) -> Result<u64, StoreError> {
    let last = db.query_row("SELECT max(idx) FROM events", [], |row| row.get::<_, Option<u64>>(0));
    Ok(last.map_err(store_error)?.map_or(0, |last| last + 1))
}

/// The frontier made anew: complete tiles from their stored hashes, the last tile from its events.
pub(super) fn frontier_from_events(db: &Connection, size: u64) -> Result<Frontier, StoreError> {
    let border = size - size % TILE;
    let runs: Result<Vec<_>, _> = ledger::runs_of(border).into_iter().map(|run| hashes(db, run)).collect();
    let mut frontier = ledger::frontier_of(border, &runs?)?;
    for event in ledger(db, border, TILE as usize)? {
        ledger::grow(&mut frontier, &event.bytes, &mut Vec::new());
    }
    Ok(frontier)
}

/// Stored tree hashes; fewer than asked for when the ledger is shorter.
pub(super) fn hashes(db: &Connection, run: Run) -> Result<Vec<Hash>, StoreError> {
    let sql = match run.level {
        0 => "SELECT leaf FROM events WHERE ?1 = 0 AND idx >= ?2 AND idx < ?3 ORDER BY idx",
        _ => "SELECT hash FROM tile_nodes WHERE level = ?1 AND idx >= ?2 AND idx < ?3 ORDER BY idx",
    };
    let mut statement = db.prepare_cached(sql).map_err(store_error)?;
    let bounds = params![run.level, int(run.start), int(run.start.saturating_add(run.count))];
    let rows = statement.query_map(bounds, |row| row.get::<_, Vec<u8>>(0)).map_err(store_error)?;
    rows.map(|bytes| ledger::hash(&bytes.map_err(store_error)?)).collect()
}

/// The largest checkpoint.
pub(super) fn latest_checkpoint(db: &Connection) -> Result<Option<StoredCheckpoint>, StoreError> {
    let sql = "SELECT size, note FROM checkpoints ORDER BY size DESC LIMIT 1";
    let mut statement = db.prepare_cached(sql).map_err(store_error)?;
    let checkpoint = |row: &Row<'_>| Ok(StoredCheckpoint { size: row.get(0)?, note: row.get(1)? });
    statement.query_row([], checkpoint).optional().map_err(store_error)
}

/// A bound for SQL. What does not fit 63 bits is beyond every row.
pub(super) fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn count(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
