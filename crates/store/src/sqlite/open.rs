//! Opening: lock, schema, and the check that the store is what it says it is.

use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bailiwick_audit::tree::Frontier;
use rusqlite::{Connection, OpenFlags};

use super::trouble::{file_error, store_error};
use super::{read, room};
use crate::error::{Fault, StoreError};
use crate::ledger::{Found, check_opening};

/// "bwst", so that tools and we ourselves tell the file from others.
const APPLICATION_ID: i64 = 0x6277_7374;
const SCHEMA_VERSION: i64 = 1;
/// How long a connection waits for a lock held by someone outside.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);
const STATEMENTS_KEPT: usize = 48;

/// A store ready to be written.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) connection: Connection,
    pub(super) frontier: Frontier,
    pub(super) lock: Lock,
}

/// The right to write: held as long as it lives, gone with the process whatever ends it.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

/// Locks, opens or creates, migrates and checks the file.
pub(super) fn open(path: &Path) -> Result<Opened, StoreError> {
    let lock = lock(path)?;
    let new = !path.exists();
    prepare(&connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?)?;
    // The file is ours, and with that connection its log has gone.
    room::lay_out(path);
    let (connection, frontier) = reopen(path)?;
    if new {
        sync_folder(path)?;
    }
    Ok(Opened { connection, frontier, lock })
}

/// Opens the writer's connection, also anew after a failure, and checks the store.
pub(super) fn reopen(path: &Path) -> Result<(Connection, Frontier), StoreError> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    prepare(&connection)?;
    let frontier = check(&connection)?;
    Ok((connection, frontier))
}

/// A connection that cannot write.
pub(super) fn reader(path: &Path) -> Result<Connection, StoreError> {
    connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
}

/// A connection for folding the log back into the file; it checkpoints only when told to.
pub(super) fn checkpointer(path: &Path) -> Result<Connection, StoreError> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection
        .execute_batch("PRAGMA wal_autocheckpoint = 0; PRAGMA synchronous = FULL;")
        .map_err(store_error)?;
    Ok(connection)
}

fn lock(path: &Path) -> Result<Lock, StoreError> {
    let beside = beside(path, ".lock");
    let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&beside);
    let file = opened.map_err(|error| file_error("the lock file cannot be opened", &error))?;
    match file.try_lock() {
        Ok(()) => Ok(Lock { _file: file }),
        Err(TryLockError::WouldBlock) => {
            Err(StoreError::new(Fault::Locked, "another process, or this one, has it open"))
        }
        Err(TryLockError::Error(error)) => Err(file_error("the lock file cannot be locked", &error)),
    }
}

/// The path with something added to its file name.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

fn connect(path: &Path, flags: OpenFlags) -> Result<Connection, StoreError> {
    let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX; // each connection stays with one thread at a time
    let connection = Connection::open_with_flags(path, flags).map_err(store_error)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(store_error)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
    Ok(connection)
}

/// Creates the schema in an empty file, refuses any that is not ours, and sets how commits reach the medium.
fn prepare(connection: &Connection) -> Result<(), StoreError> {
    let application: i64 = pragma(connection, "application_id")?;
    let version: i64 = pragma(connection, "user_version")?;
    match (application, version) {
        (APPLICATION_ID, SCHEMA_VERSION) => {}
        (0, 0) if is_empty(connection)? => create(connection)?,
        (APPLICATION_ID, newer) => {
            let detail = format!("it has schema {newer}, this program knows {SCHEMA_VERSION}");
            return Err(StoreError::new(Fault::Schema, detail));
        }
        _ => return Err(StoreError::new(Fault::Schema, "the file belongs to another program")),
    }
    let mode: String = pragma(connection, "journal_mode = WAL")?;
    if mode != "wal" {
        return Err(StoreError::new(
            Fault::Io,
            format!("no write-ahead log here, only `{mode}`; use a local disk"),
        ));
    }
    let durable = "PRAGMA synchronous = FULL; PRAGMA fullfsync = ON; PRAGMA wal_autocheckpoint = 0;
                   PRAGMA journal_size_limit = 67108864; PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;";
    connection.execute_batch(durable).map_err(store_error)
}

fn pragma<T: rusqlite::types::FromSql>(connection: &Connection, pragma: &str) -> Result<T, StoreError> {
    connection.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get(0)).map_err(store_error)
}

fn is_empty(connection: &Connection) -> Result<bool, StoreError> {
    let objects = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0));
    Ok(objects.map_err(store_error)? == 0)
}

fn create(connection: &Connection) -> Result<(), StoreError> {
    let empty = hex(&Frontier::new().to_bytes());
    let script = format!(
        "BEGIN IMMEDIATE;
         {schema}
         INSERT INTO frontier (one, bytes) VALUES (1, x'{empty}');
         PRAGMA application_id = {APPLICATION_ID};
         PRAGMA user_version = {SCHEMA_VERSION};
         COMMIT;",
        schema = include_str!("schema.sql"),
    );
    connection.execute_batch(&script).map_err(store_error)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Makes the new file's name durable, not only its content.
fn sync_folder(path: &Path) -> Result<(), StoreError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|error| file_error("the folder cannot be flushed", &error))
}

fn check(connection: &Connection) -> Result<Frontier, StoreError> {
    let frontier = read::frontier(connection)?;
    let leaves = read::leaves(connection)?;
    let found = Found {
        checkpoint: read::latest_checkpoint(connection)?.map(|checkpoint| checkpoint.size),
        recomputed: read::frontier_from_events(connection, leaves)?,
        frontier,
        leaves,
    };
    check_opening(&found)?;
    Ok(found.frontier)
}
