//! The ledger's proof: leaves, tree, checkpoints, tiles, offline verification.
//!
//! Every event is one opaque byte string and one leaf of an RFC 6962 Merkle tree (SHA-256). A signed
//! *checkpoint* (C2SP tlog-checkpoint) fixes the whole history up to its size; an *evidence bundle*
//! (C2SP tlog-tiles layout in a folder) carries everything an auditor needs to check it offline.
//!
//! Everything here is pure, values in and values out, except [`bundle`], which reads and writes files.
//! Only [`graph`] and [`movement`] know what an event means; a verifier needs none of it.
//!
//! - [`tree`]: leaf and node hashes, the frontier a writer keeps, inclusion and consistency proofs
//! - [`checkpoint`]: signed notes, their keys, and the checkpoint inside
//! - [`tile`]: where hashes and entries live in a tlog-tiles layout
//! - [`proof`]: a receipt for one event that verifies without the log
//! - [`bundle`]: writing and verifying an evidence bundle
//! - [`movement`]: what data moved where in one task, under which label
//! - [`graph`]: who wanted what and where values came from, as a graph of one task's events
//! - [`error`]: what can be wrong, with stable codes

pub mod bundle;
pub mod checkpoint;
pub mod error;
pub mod graph;
pub mod movement;
pub mod proof;
pub mod tile;
pub mod tree;

pub use bundle::{BundleReport, BundleWriter, verify_bundle, verify_consistent, write_bundle};
pub use checkpoint::{Checkpoint, MAX_NOTE_BYTES, Note, NoteSigner, NoteVerifier};
pub use error::AuditError;
pub use proof::InclusionReceipt;
pub use tile::{MAX_EVENT_BYTES, TilePath};
pub use tree::{
    Frontier, Hash, Node, ProofPlan, TileRange, consistency_proof, inclusion_proof, leaf_hash, node_hash,
    root_of, verify_consistency, verify_inclusion,
};
