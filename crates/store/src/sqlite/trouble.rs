//! What SQLite says, in the store's own codes.

use rusqlite::{ErrorCode, ffi};

use crate::error::{Fault, StoreError};

pub(super) fn store_error(error: rusqlite::Error) -> StoreError {
    StoreError::new(fault_of(&error), error.to_string())
}

fn fault_of(error: &rusqlite::Error) -> Fault {
    match error {
        rusqlite::Error::SqliteFailure(failure, _) => fault_of_code(failure),
        rusqlite::Error::QueryReturnedNoRows
        | rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::InvalidColumnType(..) => Fault::Corrupt,
        _ => Fault::Io,
    }
}

fn fault_of_code(failure: &ffi::Error) -> Fault {
    match (failure.code, failure.extended_code) {
        (_, ffi::SQLITE_READONLY_DBMOVED) => Fault::Gone,
        (_, ffi::SQLITE_IOERR_SHMSIZE) => Fault::Full, // the index of the log could not grow
        (ErrorCode::DiskFull, _) => Fault::Full,
        (ErrorCode::ReadOnly | ErrorCode::PermissionDenied, _) => Fault::ReadOnly,
        (ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked, _) => Fault::Locked,
        (ErrorCode::CannotOpen, _) => Fault::Gone,
        (ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::ConstraintViolation, _) => {
            Fault::Corrupt
        }
        (ErrorCode::Unknown, _) => Fault::Corrupt, // "SQL logic error": a table or column is missing
        (ErrorCode::OutOfMemory, _) => Fault::Busy,
        _ => Fault::Io,
    }
}

/// What the file system says about the folder or the lock file.
pub(super) fn file_error(what: &str, error: &std::io::Error) -> StoreError {
    use std::io::ErrorKind;
    let fault = match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => Fault::Gone,
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Fault::ReadOnly,
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Fault::Full,
        _ => Fault::Io,
    };
    StoreError::new(fault, format!("{what}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(extended: i32) -> &'static str {
        store_error(rusqlite::Error::SqliteFailure(ffi::Error::new(extended), None)).code()
    }

    // proves: A71
    #[test]
    fn every_refusal_of_the_medium_has_its_code() {
        for (extended, expected) in [
            (ffi::SQLITE_FULL, "store.full"),
            (ffi::SQLITE_READONLY, "store.read_only"),
            (ffi::SQLITE_READONLY_DBMOVED, "store.gone"),
            (ffi::SQLITE_BUSY, "store.locked"),
            (ffi::SQLITE_BUSY_SNAPSHOT, "store.locked"),
            (ffi::SQLITE_CANTOPEN, "store.gone"),
            (ffi::SQLITE_IOERR_FSYNC, "store.io"),
            (ffi::SQLITE_IOERR_WRITE, "store.io"),
            (ffi::SQLITE_CORRUPT, "store.corrupt"),
            (ffi::SQLITE_NOTADB, "store.corrupt"),
            (ffi::SQLITE_CONSTRAINT_UNIQUE, "store.corrupt"),
        ] {
            assert_eq!(code(extended), expected, "extended code {extended}");
        }
    }
}
