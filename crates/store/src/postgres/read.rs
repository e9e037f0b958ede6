//! Every question that is asked of the server.

use bailiwick_audit::tree::{Frontier, Hash};
use tokio_postgres::{Client, Row};

use super::trouble::store_error;
use crate::error::{Fault, StoreError};
use crate::ledger::{self, Run, TILE};
use crate::record::{Recorded, StoredCheckpoint, above_prefix};

/// One stream from a version on.
pub(super) const STREAM: &str = "SELECT idx, stream, version, time_ms, kind, bytes FROM bailiwick.events
    WHERE stream = $1 AND version >= $2 ORDER BY version";
/// The ledger from an index on.
pub(super) const LEDGER: &str = "SELECT idx, stream, version, time_ms, kind, bytes FROM bailiwick.events
    WHERE idx >= $1 ORDER BY idx LIMIT $2";
/// Events in a stream.
pub(super) const VERSION: &str =
    "SELECT coalesce(max(version) + 1, 0) FROM bailiwick.events WHERE stream = $1";
/// Streams by name, each found by one step in the index however long it is.
pub(super) const STREAMS: &str = "WITH RECURSIVE names (name) AS (
        (SELECT stream FROM bailiwick.events
         WHERE stream >= $1 AND stream > $2 AND ($3::text IS NULL OR stream < $3) ORDER BY stream LIMIT 1)
        UNION ALL
        SELECT (SELECT stream FROM bailiwick.events
                WHERE stream > name AND ($3::text IS NULL OR stream < $3) ORDER BY stream LIMIT 1)
        FROM names WHERE name IS NOT NULL)
    SELECT name, (SELECT max(version) + 1 FROM bailiwick.events WHERE stream = name) FROM names
    WHERE name IS NOT NULL LIMIT $4";
/// One row of a projection.
pub(super) const VIEW_GET: &str = "SELECT value FROM bailiwick.views WHERE view = $1 AND key = $2";
/// Rows of a projection in byte order of their keys.
pub(super) const VIEW_SCAN: &str = "SELECT key, value FROM bailiwick.views
    WHERE view = $1 AND key >= $2 AND key > $3 AND ($4::text IS NULL OR key < $4) ORDER BY key LIMIT $5";
pub(super) const FRONTIER: &str = "SELECT bytes FROM bailiwick.frontier WHERE one = 1";
const CHECKPOINT: &str = "SELECT size, note FROM bailiwick.checkpoints ORDER BY size DESC LIMIT 1";
const LEAVES: &str = "SELECT leaf FROM bailiwick.events WHERE idx >= $1 AND idx < $2 ORDER BY idx";
const NODES: &str =
    "SELECT hash FROM bailiwick.tile_nodes WHERE idx >= $1 AND idx < $2 AND level = $3 ORDER BY idx";

pub(super) fn recorded(row: &Row) -> Result<Recorded, StoreError> {
    Ok(Recorded {
        index: natural(row, 0)?,
        stream: column(row, 1)?,
        version: natural(row, 2)?,
        time_ms: natural(row, 3)?,
        kind: column(row, 4)?,
        bytes: column(row, 5)?,
    })
}

/// A column of the type that the schema says.
pub(super) fn column<'a, T: tokio_postgres::types::FromSql<'a>>(
    row: &'a Row,
    n: usize,
) -> Result<T, StoreError> {
    row.try_get(n).map_err(store_error)
}

/// A column that counts something.
pub(super) fn natural(row: &Row, n: usize) -> Result<u64, StoreError> {
    let number: i64 = column(row, n)?;
    u64::try_from(number).map_err(|_| StoreError::new(Fault::Corrupt, "a negative count is stored"))
}

/// The frontier as stored.
pub(super) async fn frontier(client: &Client) -> Result<Frontier, StoreError> {
    let row = client.query_opt(FRONTIER, &[]).await.map_err(store_error)?;
    let row = row.ok_or_else(|| StoreError::new(Fault::Corrupt, "the tree's frontier is missing"))?;
    ledger::decode(column(&row, 0)?)
}

/// One more than the highest index.
pub(super) async fn leaves(client: &Client) -> Result<u64, StoreError> {
    let sql = "SELECT coalesce(max(idx) + 1, 0) FROM bailiwick.events";
    natural(&client.query_one(sql, &[]).await.map_err(store_error)?, 0)
}

/// The frontier made anew: complete tiles from their stored hashes, the last tile from its events.
pub(super) async fn frontier_from_events(client: &Client, size: u64) -> Result<Frontier, StoreError> {
    let border = size - size % TILE;
    let mut runs = Vec::new();
    for run in ledger::runs_of(border) {
        runs.push(hashes(client, run).await?);
    }
    let mut frontier = ledger::frontier_of(border, &runs)?;
    for row in client.query(LEDGER, &[&int(border), &int(TILE)]).await.map_err(store_error)? {
        ledger::grow(&mut frontier, &recorded(&row)?.bytes, &mut Vec::new());
    }
    Ok(frontier)
}

/// Stored tree hashes; fewer than asked for when the ledger is shorter.
pub(super) async fn hashes(client: &Client, run: Run) -> Result<Vec<Hash>, StoreError> {
    let (from, to) = (int(run.start), int(run.start.saturating_add(run.count)));
    let rows = match run.level {
        0 => client.query(LEAVES, &[&from, &to]).await,
        level => client.query(NODES, &[&from, &to, &i32::from(level)]).await,
    };
    rows.map_err(store_error)?.iter().map(|row| ledger::hash(column(row, 0)?)).collect()
}

/// The largest checkpoint.
pub(super) async fn latest_checkpoint(client: &Client) -> Result<Option<StoredCheckpoint>, StoreError> {
    let row = client.query_opt(CHECKPOINT, &[]).await.map_err(store_error)?;
    row.map(|row| Ok(StoredCheckpoint { size: natural(&row, 0)?, note: column(&row, 1)? })).transpose()
}

/// The bounds of a scan by prefix and last name seen.
pub(super) fn bounds(prefix: &str, after: Option<&str>) -> (String, String, Option<String>) {
    (prefix.to_owned(), after.unwrap_or("").to_owned(), above_prefix(prefix))
}

/// A bound for SQL. What does not fit 63 bits is beyond every row.
pub(super) fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(super) fn count(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
