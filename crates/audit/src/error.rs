//! What can be wrong with a ledger, a proof or a bundle, and what to do about it.
//!
//! Each error has a stable code for machines and a sentence for people. None carries event bytes or
//! key material.

use crate::tree::Hash;

/// Why something could not be proven. Verification fails closed: every doubt is an error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// One event is not the one that was recorded.
    #[error(
        "entry {index} was altered: the tree has leaf {expected}, the stored entry gives {}; \
         every other part of the tree matches the checkpoint, so restore this entry from another copy",
        found_text(found)
    )]
    EntryAltered {
        /// Zero-based position of the event in the ledger.
        index: u64,
        /// The leaf hash that the checkpoint commits to.
        expected: Hash,
        /// The leaf hash of what is stored, or `None` if it cannot even be read as an entry.
        found: Option<Hash>,
    },

    /// A stored tree hash is wrong although the events are right.
    #[error(
        "{path} was altered at hash {position}: expected {expected}, found {found}; the events themselves match the checkpoint"
    )]
    TileAltered {
        /// Path of the tile inside the bundle.
        path: String,
        /// Position of the first wrong hash in the tile.
        position: usize,
        /// The hash computed from the events.
        expected: Hash,
        /// The hash in the tile.
        found: Hash,
    },

    /// The events do not hash to the signed root, and the tiles do not either.
    #[error(
        "the ledger does not match its checkpoint: signed root {expected}, computed root {found}{}",
        near_text(near)
    )]
    RootMismatch {
        /// The root that was signed.
        expected: Hash,
        /// The root computed from what is stored.
        found: Hash,
        /// First and one-past-last index of the entries between which the first contradiction lies.
        near: Option<(u64, u64)>,
    },

    /// A newer head does not contain the older one: history was rewritten or split.
    #[error(
        "history was rewritten: the older checkpoint signed root {expected} at size {size}, this ledger has {found} there; \
         keep both checkpoints, they prove it"
    )]
    Inconsistent {
        /// Size of the older head.
        size: u64,
        /// Its root.
        expected: Hash,
        /// The root of the same number of entries here.
        found: Hash,
    },

    /// The ledger is shorter than a head already seen.
    #[error(
        "the ledger went back: a checkpoint of size {seen} was already seen, this one has size {size}; \
         it was truncated or restored from an older copy"
    )]
    RolledBack {
        /// Size already seen.
        seen: u64,
        /// Size now.
        size: u64,
    },

    /// An inclusion or consistency proof does not hold.
    #[error("the proof does not hold: {0}")]
    Proof(&'static str),

    /// A proof was asked for that cannot exist.
    #[error("no such proof: {0}")]
    OutOfRange(String),

    /// A hash source gave other hashes than were asked for.
    #[error(
        "the hash source returned {found} hashes where {expected} were asked for (level {level}, from {start})"
    )]
    Source {
        /// Tile level.
        level: u8,
        /// Index of the first hash at that level.
        start: u64,
        /// How many were asked for.
        expected: usize,
        /// How many came.
        found: usize,
    },

    /// A signature is missing or wrong.
    #[error("signature: {0}")]
    Signature(&'static str),

    /// A key is not the expected one, or not a key.
    #[error("key: {0}")]
    Key(&'static str),

    /// A signed note or checkpoint is not well formed.
    #[error("malformed checkpoint: {0}")]
    Note(&'static str),

    /// A checkpoint of another log.
    #[error("this checkpoint belongs to `{found}`, not to `{expected}`")]
    Origin {
        /// The expected origin.
        expected: String,
        /// The one found.
        found: String,
    },

    /// An event too large for an entry bundle; refuse it before it is recorded.
    #[error(
        "the event has {bytes} bytes, at most {max} fit into the ledger; record a digest of the large part instead"
    )]
    EventTooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        max: usize,
    },

    /// Stored bytes that do not parse.
    #[error("malformed {what}: {why}")]
    Malformed {
        /// What was read.
        what: String,
        /// What is wrong with it.
        why: &'static str,
    },

    /// A file that should be there is not.
    #[error("{path} is missing from the bundle")]
    MissingFile {
        /// Its path inside the bundle.
        path: String,
    },

    /// A file that nothing vouches for.
    #[error("{path} does not belong into this bundle and nothing proves it; remove it")]
    UnexpectedFile {
        /// Its path inside the bundle.
        path: String,
    },

    /// The folder for a new bundle is in use.
    #[error("{path} is not empty; write the bundle into a new folder")]
    NotEmpty {
        /// The folder.
        path: String,
    },

    /// The disk said no.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
}

impl AuditError {
    /// A stable, machine-readable name for the kind of failure.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::EntryAltered { .. } => "audit.entry_altered",
            Self::TileAltered { .. } => "audit.tile_altered",
            Self::RootMismatch { .. } => "audit.root_mismatch",
            Self::Inconsistent { .. } => "audit.inconsistent",
            Self::RolledBack { .. } => "audit.rolled_back",
            Self::Proof(_) => "audit.proof",
            Self::OutOfRange(_) => "audit.out_of_range",
            Self::Source { .. } => "audit.hash_source",
            Self::Signature(_) => "audit.signature",
            Self::Key(_) => "audit.key",
            Self::Note(_) => "audit.note",
            Self::Origin { .. } => "audit.origin",
            Self::EventTooLarge { .. } => "audit.event_too_large",
            Self::Malformed { .. } => "audit.malformed",
            Self::MissingFile { .. } => "audit.missing_file",
            Self::UnexpectedFile { .. } => "audit.unexpected_file",
            Self::NotEmpty { .. } => "audit.not_empty",
            Self::Io { .. } => "audit.io",
        }
    }
}

fn found_text(found: &Option<Hash>) -> String {
    found.map_or_else(|| "bytes that are no entry".to_owned(), |hash| format!("leaf {hash}"))
}

fn near_text(near: &Option<(u64, u64)>) -> String {
    match near {
        Some((from, to)) if to - from == 1 => format!("; the first contradiction is at entry {from}"),
        Some((from, to)) => format!("; the first contradiction lies in entries {from} to {}", to - 1),
        None => String::new(),
    }
}
