//! The ledger.

use bailiwick_core::{Time, Value};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The newest signed head of the ledger (C2SP tlog-checkpoint in a signed note).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CheckpointView {
    /// The signed note.
    pub note: String,
}

/// The public key that signs the ledger's heads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditKeyView {
    /// In the form of C2SP signed-note verifier keys.
    pub vkey: String,
}

/// One event of the ledger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LedgerEvent {
    /// Its index.
    pub index: u64,
    /// Its stream.
    pub stream: String,
    /// Its place in the stream.
    pub at: u64,
    /// When.
    #[schema(value_type = u64)]
    pub time: Time,
    /// Its kind.
    pub kind: String,
    /// The leaf's bytes, base64 with padding: what the tree is over.
    pub bytes: String,
    /// The same, read.
    #[schema(value_type = Object)]
    pub event: Value,
}

/// A page of the ledger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LedgerPage {
    /// The events.
    pub events: Vec<LedgerEvent>,
    /// Where the next page begins; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// A receipt: this event is in the ledger at this index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProofView {
    /// The event's index.
    pub index: u64,
    /// The leaf's bytes, base64 with padding.
    pub bytes: String,
    /// The receipt (C2SP tlog-proof): index, hashes, signed head. Verify it with the leaf's bytes and the key.
    pub receipt: String,
}

/// One committed event, as the event stream announces it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventNotice {
    /// Its index in the ledger: the id to resume after.
    pub index: u64,
    /// Its stream.
    pub stream: String,
    /// Its kind.
    pub kind: String,
    /// When.
    #[schema(value_type = u64)]
    pub time: Time,
    /// The task, if it is one's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
}
