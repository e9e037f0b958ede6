//! What can go wrong in a store, under stable codes.
//!
//! Every error says what happened, why as far as the backend told, and what to do next. None carries
//! event bytes, connection strings or passwords.

use std::fmt;

/// The kinds of trouble a store can be in. The code of each is stable and part of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// No space left for the write; nothing of the batch was kept.
    Full,
    /// The medium or the database role does not permit writing.
    ReadOnly,
    /// Another writer holds the store, or a lock was not granted in time.
    Locked,
    /// The file, folder or server is not there (any more).
    Gone,
    /// The medium failed. After a failed flush the store stops acknowledging until it is opened again.
    Io,
    /// What is stored contradicts itself: checksum, tree, order or schema objects.
    Corrupt,
    /// The store is older than a checkpoint it once signed.
    RolledBack,
    /// The schema is of another program or of a newer version.
    Schema,
    /// More is waiting than the store takes; nothing was written.
    Busy,
    /// The commit was sent and its answer lost: it may or may not have happened.
    Unknown,
    /// The store was closed by its owner.
    Closed,
    /// The location cannot be understood, or the server refused the login.
    Config,
}

impl Fault {
    /// The stable code, for callers, logs and documentation.
    pub fn code(self) -> &'static str {
        match self {
            Fault::Full => "store.full",
            Fault::ReadOnly => "store.read_only",
            Fault::Locked => "store.locked",
            Fault::Gone => "store.gone",
            Fault::Io => "store.io",
            Fault::Corrupt => "store.corrupt",
            Fault::RolledBack => "store.rolled_back",
            Fault::Schema => "store.schema",
            Fault::Busy => "store.busy",
            Fault::Unknown => "store.unknown",
            Fault::Closed => "store.closed",
            Fault::Config => "store.config",
        }
    }

    fn what(self) -> &'static str {
        match self {
            Fault::Full => "no space left in the store",
            Fault::ReadOnly => "the store cannot be written",
            Fault::Locked => "the store is held by another writer",
            Fault::Gone => "the store is gone",
            Fault::Io => "the store's medium failed",
            Fault::Corrupt => "the store contradicts itself",
            Fault::RolledBack => "the store is older than its own checkpoint",
            Fault::Schema => "the store's schema is not ours",
            Fault::Busy => "the store has too much waiting",
            Fault::Unknown => "the answer to a commit was lost",
            Fault::Closed => "the store is closed",
            Fault::Config => "the store cannot be reached as configured",
        }
    }

    fn next_step(self) -> &'static str {
        match self {
            Fault::Full => "free space; writing goes on by itself",
            Fault::ReadOnly => "make the folder writable, or give the database role its rights",
            Fault::Locked => "stop the other process, or wait for it",
            Fault::Gone => "bring the folder or server back; then open again",
            Fault::Io => "check the medium, then start again; opening verifies the ledger",
            Fault::Corrupt => "keep a copy, then restore from a backup that verifies",
            Fault::RolledBack => "recover explicitly: restore the newer state, or revoke everything since",
            Fault::Schema => "use the program version that wrote it, or another location",
            Fault::Busy => "try again shortly",
            Fault::Unknown => "read the stream again before deciding",
            Fault::Closed => "open it again",
            Fault::Config => "check the address, the login and the database name",
        }
    }
}

/// A store that cannot do what was asked, with a stable [`code`](StoreError::code).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreError {
    fault: Fault,
    detail: String,
}

impl StoreError {
    pub(crate) fn new(fault: Fault, detail: impl Into<String>) -> Self {
        StoreError { fault, detail: detail.into() }
    }

    /// The kind of trouble.
    pub fn fault(&self) -> Fault {
        self.fault
    }

    /// The stable code, such as `store.full`.
    pub fn code(&self) -> &'static str {
        self.fault.code()
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.fault.what(), self.detail, self.fault.next_step())
    }
}

impl std::error::Error for StoreError {}

/// Why an append was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// A stream is not at the version the caller decided upon. Nothing was written: read again, decide again.
    #[error("stream `{stream}` is at version {actual}; read it again and decide again")]
    Conflict {
        /// The stream appended to, or the guard, that has moved.
        stream: String,
        /// Events that stream holds now.
        actual: u64,
    },
    /// The append breaks a bound of the store and would never be accepted.
    #[error("the append is refused: {0}")]
    Refused(Refusal),
    /// The store cannot take it now, or (code `store.unknown`) cannot say whether it did.
    #[error(transparent)]
    Unavailable(#[from] StoreError),
}

impl AppendError {
    /// The stable code: `store.conflict`, `store.refused`, or the code of the store's trouble.
    pub fn code(&self) -> &'static str {
        match self {
            AppendError::Conflict { .. } => "store.conflict",
            AppendError::Refused(_) => "store.refused",
            AppendError::Unavailable(error) => error.code(),
        }
    }
}

/// The bound that an append breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no event in it.
    #[error("it holds no event")]
    Empty,
    /// One event's canonical bytes are more than the ledger takes.
    #[error(
        "an event of {bytes} bytes is over the limit of {max}; record a hash and a truncated view instead"
    )]
    EventTooLarge {
        /// Size of the event, bytes.
        bytes: usize,
        /// The bound, bytes.
        max: usize,
    },
    /// Too many events, guards or views, or a view value too large.
    #[error("{what} is over the limit of {max}")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// The bound.
        max: usize,
    },
    /// A name is empty, too long, or holds a NUL; or a number does not fit 63 bits.
    #[error("{0} cannot be stored")]
    Unstorable(&'static str),
}
