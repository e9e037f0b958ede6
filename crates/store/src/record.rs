//! What goes into the store and what comes out: appends, recorded events, heads.

use std::fmt;
use std::path::PathBuf;

use bailiwick_audit::MAX_EVENT_BYTES;
use bailiwick_audit::tree::Hash;

use crate::error::{AppendError, Refusal};

/// Most events one append may carry.
pub const MAX_EVENTS_PER_APPEND: usize = 256;
/// Most guards one append may carry.
pub const MAX_GUARDS_PER_APPEND: usize = 64;
/// Most view changes one append may carry.
pub const MAX_VIEWS_PER_APPEND: usize = 256;
/// Longest name of a stream, kind, view, view key or scope, bytes.
pub const MAX_NAME_BYTES: usize = 512;
/// Largest value of a view or of a remembered answer, bytes.
pub const MAX_VALUE_BYTES: usize = 4 << 20;

/// Where a store lives.
#[derive(Clone, PartialEq, Eq)]
pub enum Location {
    /// One SQLite file on a local disk; its folder must exist. Files beside it carry its name and
    /// `-wal`, `-shm` and `.lock`.
    Sqlite(PathBuf),
    /// A PostgreSQL connection string, URL or key-value form.
    Postgres(String),
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::Sqlite(path) => f.debug_tuple("Sqlite").field(path).finish(),
            Location::Postgres(_) => f.write_str("Postgres(<connection string>)"), // may hold a password
        }
    }
}

/// Events for one stream, accepted or refused as a whole, together with their projections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    /// The stream to append to.
    pub stream: String,
    /// Events the stream must hold already.
    pub expect: u64,
    /// Other streams, each with the version it must still be at.
    pub guards: Vec<(String, u64)>,
    /// At least one event.
    pub events: Vec<NewEvent>,
    /// Projections written in the same transaction; for one key the last one counts.
    pub views: Vec<ViewPut>,
}

/// An event to be recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEvent {
    /// Wall clock of the node that decided, milliseconds since 1970.
    pub time_ms: u64,
    /// The event's kind, for people and filters.
    pub kind: String,
    /// The canonical event; its hash becomes the leaf. At most [`MAX_EVENT_BYTES`].
    pub bytes: Vec<u8>,
}

/// One change of a projection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewPut {
    /// Which projection.
    pub view: String,
    /// The row's key; scans are in byte order.
    pub key: String,
    /// The new value, or `None` to delete the row.
    pub value: Option<Vec<u8>>,
}

/// The answer to an accepted append: durable when it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Events the stream holds now.
    pub version: u64,
    /// Ledger index of the first event of the append; the others follow without a gap.
    pub first_index: u64,
}

/// An event as it was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Its place in the ledger, from 0, in commit order without gaps.
    pub index: u64,
    /// Its stream.
    pub stream: String,
    /// Its place in the stream, from 0 without gaps.
    pub version: u64,
    /// Wall clock given at the append, milliseconds since 1970.
    pub time_ms: u64,
    /// Its kind.
    pub kind: String,
    /// Its canonical bytes.
    pub bytes: Vec<u8>,
}

/// The ledger's tree (RFC 6962 section 2.1) over all events committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeHead {
    /// Number of leaves, which is the number of events.
    pub size: u64,
    /// The Merkle tree hash over them.
    pub root: Hash,
}

/// A checkpoint as it was put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredCheckpoint {
    /// Leaves it covers.
    pub size: u64,
    /// The signed note, opaque to the store.
    pub note: Vec<u8>,
}

/// Whether a key was seen before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remembered {
    /// It was not; the value given is now kept under it.
    New,
    /// It was, and this is the value kept then.
    Seen(Vec<u8>),
}

/// How a store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// `sqlite` or `postgres`.
    pub backend: &'static str,
    /// Whether the last write, or the last attempt to reach the server, went well.
    pub state: HealthState,
    /// The last trouble, also after recovery from it.
    pub last_error: Option<crate::StoreError>,
}

/// The three states of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthState {
    /// Writes are taken.
    Up,
    /// The last write failed; the next one is tried.
    Failing,
    /// No write is taken until the store is opened again.
    Stopped,
}

/// Bounds that hold on every backend; what passes can be stored.
pub(crate) fn check_append(append: &Append) -> Result<(), AppendError> {
    if append.events.is_empty() {
        return Err(AppendError::Refused(Refusal::Empty));
    }
    at_most("the number of events", append.events.len(), MAX_EVENTS_PER_APPEND)?;
    at_most("the number of guards", append.guards.len(), MAX_GUARDS_PER_APPEND)?;
    at_most("the number of view changes", append.views.len(), MAX_VIEWS_PER_APPEND)?;
    name("the stream", &append.stream)?;
    number("the expected version", append.expect)?;
    append.guards.iter().try_for_each(|(stream, version)| {
        name("a guard's stream", stream)?;
        number("a guard's version", *version)
    })?;
    append.events.iter().try_for_each(check_event)?;
    append.views.iter().try_for_each(check_view)
}

fn check_event(event: &NewEvent) -> Result<(), AppendError> {
    name("an event's kind", &event.kind)?;
    number("an event's time", event.time_ms)?;
    if event.bytes.is_empty() {
        return Err(AppendError::Refused(Refusal::Unstorable("an event without bytes")));
    }
    if event.bytes.len() > MAX_EVENT_BYTES {
        let too_large = Refusal::EventTooLarge { bytes: event.bytes.len(), max: MAX_EVENT_BYTES };
        return Err(AppendError::Refused(too_large));
    }
    Ok(())
}

fn check_view(put: &ViewPut) -> Result<(), AppendError> {
    name("a view", &put.view)?;
    name("a view's key", &put.key)?;
    at_most("a view's value", put.value.as_ref().map_or(0, Vec::len), MAX_VALUE_BYTES)
}

pub(crate) fn name(what: &'static str, text: &str) -> Result<(), AppendError> {
    if text.is_empty() || text.len() > MAX_NAME_BYTES || text.contains('\0') {
        return Err(AppendError::Refused(Refusal::Unstorable(what)));
    }
    Ok(())
}

fn number(what: &'static str, value: u64) -> Result<(), AppendError> {
    i64::try_from(value).map(|_| ()).map_err(|_| AppendError::Refused(Refusal::Unstorable(what)))
}

pub(crate) fn at_most(what: &'static str, count: usize, max: usize) -> Result<(), AppendError> {
    if count > max {
        return Err(AppendError::Refused(Refusal::TooMany { what, max }));
    }
    Ok(())
}

/// The least string above every string that starts with `prefix`, in byte order; `None` when there is none.
/// Scans use it as their upper bound. It steps by characters, so that it stays text.
pub(crate) fn above_prefix(prefix: &str) -> Option<String> {
    let mut chars: Vec<char> = prefix.chars().collect();
    while let Some(last) = chars.pop() {
        if let Some(next) = next_char(last) {
            chars.push(next);
            return Some(chars.into_iter().collect());
        }
    }
    None
}

fn next_char(c: char) -> Option<char> {
    match c {
        '\u{D7FF}' => Some('\u{E000}'), // over the surrogates; UTF-8 keeps the order of code points
        char::MAX => None,
        _ => char::from_u32(c as u32 + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn append(bytes: usize) -> Append {
        let event = NewEvent { time_ms: 1, kind: "k".into(), bytes: vec![7; bytes] };
        Append { stream: "task/1".into(), expect: 0, guards: vec![], events: vec![event], views: vec![] }
    }

    // proves: A72
    #[test]
    fn an_event_at_the_limit_passes_and_one_byte_more_is_refused() {
        assert_eq!(check_append(&append(MAX_EVENT_BYTES)), Ok(()));
        let refused = check_append(&append(MAX_EVENT_BYTES + 1)).unwrap_err();
        assert_eq!(refused.code(), "store.refused");
        assert!(refused.to_string().contains("truncated view"), "{refused}");
    }

    #[test]
    fn names_that_one_backend_could_not_store_are_refused_on_all() {
        for (good, bad) in [("task/1", ""), ("task/1", "task\0"), ("ü", &*"x".repeat(MAX_NAME_BYTES + 1))] {
            let with = |stream: &str| check_append(&Append { stream: stream.into(), ..append(1) });
            assert_eq!(with(good), Ok(()));
            assert_eq!(with(bad).unwrap_err().code(), "store.refused");
        }
    }

    #[test]
    fn a_connection_string_does_not_show_in_debug() {
        let shown = format!("{:?}", Location::Postgres("postgres://u:hunter2@h/d".into()));
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    proptest! {
        #[test]
        fn the_upper_bound_of_a_prefix_separates(prefix in "\\PC{0,4}", text in "\\PC{0,6}", tail in "\\PC{0,3}") {
            let inside = format!("{prefix}{tail}");
            match above_prefix(&prefix) {
                Some(above) => {
                    prop_assert!(inside < above);
                    if text >= prefix && text < above {
                        prop_assert!(text.starts_with(&prefix));
                    }
                }
                None => prop_assert!(prefix.chars().all(|c| c == char::MAX)),
            }
        }
    }
}
