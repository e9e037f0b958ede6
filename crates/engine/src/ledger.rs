//! The ledger's signed heads and the bundles that leave the house.

use std::path::{Path, PathBuf};

use bailiwick_audit::{BundleReport, BundleWriter, Checkpoint, Frontier, NoteSigner, leaf_hash};

use crate::error::{EngineError, Kind};
use crate::kept::KeptHead;
use crate::log::Engine;

/// The key that signs the ledger's heads, and where the newest is kept.
pub struct Ledger {
    pub(crate) signer: NoteSigner,
    pub(crate) kept: Option<KeptHead>,
}

impl Ledger {
    /// A ledger signed by this key.
    pub fn new(signer: NoteSigner) -> Self {
        Ledger { signer, kept: None }
    }
    /// Keeps the newest head in this file, too: one for each node, outside the folder of the store and its copies.
    #[must_use]
    pub fn kept_at(self, path: PathBuf) -> Self {
        Ledger { kept: Some(KeptHead::at(path)), ..self }
    }
    /// The public key in the form auditors keep.
    pub fn vkey(&self) -> String {
        self.signer.verifier().to_string()
    }
}

pub(crate) fn audit(error: bailiwick_audit::AuditError) -> EngineError {
    EngineError::new(Kind::Unavailable, error.code(), error.to_string())
}

impl Engine {
    /// The public key of the ledger.
    pub fn vkey(&self) -> String {
        self.inner.config.ledger.vkey()
    }

    /// Signs the ledger's head if it has grown, and gives the newest signed head.
    pub async fn checkpoint(&self) -> Result<String, EngineError> {
        let head = self.store().head().await?;
        if let Some(kept) = self.store().latest_checkpoint().await?
            && kept.size == head.size
            && let Ok(note) = String::from_utf8(kept.note)
        {
            return Ok(note);
        }
        let signer = &self.inner.config.ledger.signer;
        let note = Checkpoint::new(signer.name(), head.size, head.root).sign(signer).map_err(audit)?;
        self.store().put_checkpoint(head.size, note.as_bytes()).await?;
        Ok(note)
    }

    /// Reads the whole ledger and compares it with its tree: every event is there, unchanged and in its place.
    /// A node that starts on anything else would decide on a past that nobody signed for.
    pub async fn verify(&self) -> Result<u64, EngineError> {
        verify(self.store()).await
    }

    /// Writes an evidence bundle that anybody can verify without this program's server.
    pub async fn export(&self, dir: &Path) -> Result<BundleReport, EngineError> {
        let note = self.checkpoint().await?;
        let verifier = self.inner.config.ledger.signer.verifier().clone();
        let size = Checkpoint::open(&note, &verifier).map_err(audit)?.size;
        let mut writer = BundleWriter::create(dir).map_err(audit)?;
        let mut index = 0;
        while index < size {
            let page =
                self.store().scan(index, usize::try_from((size - index).min(1000)).unwrap_or(1000)).await?;
            if page.is_empty() {
                return Err(EngineError::new(
                    Kind::Unavailable,
                    "store.corrupt",
                    "the ledger is shorter than its signed head",
                ));
            }
            for event in page {
                writer.push(&event.bytes).map_err(audit)?;
                index += 1;
            }
        }
        writer.finish(&note, &verifier).map_err(audit)?;
        bailiwick_audit::verify_bundle(dir, Some(&verifier)).map_err(audit)
    }
}

/// How many events are read at once.
const PAGE: usize = 4096;

pub(crate) async fn verify(store: &bailiwick_store::Store) -> Result<u64, EngineError> {
    let altered = |index: u64| {
        let reason = format!(
            "the ledger was altered at event {index}; restore the store from a copy, and look who had access"
        );
        EngineError::new(Kind::Unavailable, "store.corrupt", reason)
    };
    let head = store.head().await?;
    let mut frontier = Frontier::new();
    while frontier.size() < head.size {
        let from = frontier.size();
        let events = store.scan(from, PAGE).await?;
        let leaves = store.leaf_hashes(from, (from + events.len() as u64).min(head.size)).await?;
        if events.is_empty() {
            return Err(altered(from));
        }
        for (event, leaf) in events.iter().zip(leaves) {
            if event.index != frontier.size() || leaf_hash(&event.bytes) != leaf {
                return Err(altered(frontier.size()));
            }
            frontier.push(leaf);
        }
    }
    if frontier.root() != head.root {
        return Err(altered(head.size));
    }
    Ok(head.size)
}
