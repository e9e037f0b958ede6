//! What PostgreSQL and the way to it say, in the store's own codes.

use std::error::Error as _;

use deadpool_postgres::PoolError;
use tokio_postgres::error::SqlState;

use crate::error::{Fault, StoreError};

pub(super) fn store_error(error: tokio_postgres::Error) -> StoreError {
    match error.as_db_error() {
        // The message only: the detail of a server error may quote rows.
        Some(db) => StoreError::new(fault_of(db.code()), format!("{} ({})", db.message(), db.code().code())),
        None if is_lost(&error) => StoreError::new(Fault::Gone, said(&error)),
        None => StoreError::new(Fault::Corrupt, said(&error)),
    }
}

/// The same for an attempt to connect, where anything that is not the network is the configuration.
pub(super) fn connect_error(error: tokio_postgres::Error) -> StoreError {
    match (error.as_db_error(), is_lost(&error) && !is_distrusted(&error)) {
        (None, false) => StoreError::new(Fault::Config, said(&error)),
        _ => store_error(error),
    }
}

pub(super) fn pool_error(error: PoolError) -> StoreError {
    match error {
        PoolError::Backend(error) => connect_error(error),
        PoolError::Closed => StoreError::new(Fault::Closed, "its owner closed it"),
        PoolError::Timeout(_) => StoreError::new(Fault::Busy, "no connection came free in time"),
        other => StoreError::new(Fault::Gone, other.to_string()),
    }
}

/// Whether the connection, not the server, failed.
pub(super) fn is_lost(error: &tokio_postgres::Error) -> bool {
    let io = error.source().is_some_and(|source| source.is::<std::io::Error>());
    let timeout = said(error).contains("timed out") || said(error).contains("timeout");
    error.is_closed() || io || timeout
}

/// Whether the server's certificate was refused.
fn is_distrusted(error: &tokio_postgres::Error) -> bool {
    let source = error.source().and_then(|source| source.downcast_ref::<std::io::Error>());
    source.is_some_and(|source| source.kind() == std::io::ErrorKind::InvalidData)
}

fn said(error: &tokio_postgres::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

fn fault_of(state: &SqlState) -> Fault {
    match state.code() {
        "53100" => Fault::Full,
        "25006" | "42501" => Fault::ReadOnly,
        "55P03" | "57014" | "40P01" | "40001" | "25P03" => Fault::Locked,
        "53200" | "53300" | "53400" => Fault::Busy,
        "58030" => Fault::Io,
        "3D000" => Fault::Config,
        code => match code.get(..2) {
            Some("08" | "57") => Fault::Gone,
            Some("28") => Fault::Config,
            Some("23" | "42" | "XX" | "22" | "P0") => Fault::Corrupt,
            Some("53") => Fault::Full,
            _ => Fault::Io,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // proves: A71
    #[test]
    fn every_refusal_of_the_server_has_its_code() {
        for (state, expected) in [
            ("53100", "store.full"),
            ("25006", "store.read_only"),
            ("42501", "store.read_only"),
            ("55P03", "store.locked"),
            ("57014", "store.locked"),
            ("53300", "store.busy"),
            ("57P01", "store.gone"),
            ("08006", "store.gone"),
            ("58030", "store.io"),
            ("XX001", "store.corrupt"),
            ("23505", "store.corrupt"),
            ("42P01", "store.corrupt"),
            ("28P01", "store.config"),
            ("3D000", "store.config"),
        ] {
            assert_eq!(fault_of(&SqlState::from_code(state)).code(), expected, "{state}");
        }
    }
}
