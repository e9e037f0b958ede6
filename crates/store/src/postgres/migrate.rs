//! The schema, made once under a lock that all nodes share, and the check at opening.

use bailiwick_audit::tree::Frontier;

use super::read;
use super::session::Session;
use super::trouble::store_error;
use crate::error::{Fault, StoreError};
use crate::ledger::{Found, check_opening};

const SCHEMA_VERSION: i32 = 1;
/// "bwst": the advisory lock under which one node at a time looks at the schema.
const MIGRATION_LOCK: i64 = 0x6277_7374;

/// Creates the schema where there is none; refuses one it does not know.
pub(super) async fn migrate(session: &Session) -> Result<(), StoreError> {
    let client = &session.client;
    client.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED").await.map_err(store_error)?;
    client.execute("SELECT pg_advisory_xact_lock($1)", &[&MIGRATION_LOCK]).await.map_err(store_error)?;
    match version(session).await? {
        Some(SCHEMA_VERSION) => {}
        Some(other) => {
            let detail = format!("it has schema {other}, this program knows {SCHEMA_VERSION}");
            return Err(StoreError::new(Fault::Schema, detail));
        }
        None => create(session).await?,
    }
    client.batch_execute("COMMIT").await.map_err(store_error)
}

async fn version(session: &Session) -> Result<Option<i32>, StoreError> {
    let sql = "SELECT to_regclass('bailiwick.schema_version') IS NOT NULL";
    let there = session.client.query_one(sql, &[]).await.map_err(store_error)?;
    if !there.get::<_, bool>(0) {
        return Ok(None);
    }
    let sql = "SELECT version FROM bailiwick.schema_version";
    let row = session.client.query_opt(sql, &[]).await.map_err(store_error)?;
    Ok(Some(row.map_or(0, |row| row.get(0))))
}

async fn create(session: &Session) -> Result<(), StoreError> {
    let client = &session.client;
    client.batch_execute(include_str!("schema.sql")).await.map_err(store_error)?;
    let sql = "INSERT INTO bailiwick.schema_version (one, version) VALUES (1, $1)";
    client.execute(sql, &[&SCHEMA_VERSION]).await.map_err(store_error)?;
    let sql = "INSERT INTO bailiwick.frontier (one, bytes) VALUES (1, $1)";
    client.execute(sql, &[&Frontier::new().to_bytes()]).await.map_err(store_error)?;
    Ok(())
}

/// Compares the tree with its events, all seen at one moment; gives the size of the ledger.
pub(super) async fn check(session: &Session) -> Result<u64, StoreError> {
    let client = &session.client;
    client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY").await.map_err(store_error)?;
    let leaves = read::leaves(client).await?;
    let found = Found {
        frontier: read::frontier(client).await?,
        checkpoint: read::latest_checkpoint(client).await?.map(|checkpoint| checkpoint.size),
        recomputed: read::frontier_from_events(client, leaves).await?,
        leaves,
    };
    client.batch_execute("COMMIT").await.map_err(store_error)?;
    check_opening(&found)?;
    Ok(found.leaves)
}
