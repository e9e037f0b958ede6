//! The ledger's signed heads and the bundles that leave the house.

use std::path::Path;

use bailiwick_audit::{BundleReport, BundleWriter, Checkpoint, NoteSigner};

use crate::error::{EngineError, Kind};
use crate::log::Engine;

/// The key that signs the ledger's heads.
pub struct Ledger {
    signer: NoteSigner,
}

impl Ledger {
    /// A ledger signed by this key.
    pub fn new(signer: NoteSigner) -> Self {
        Ledger { signer }
    }
    /// The public key in the form auditors keep.
    pub fn vkey(&self) -> String {
        self.signer.verifier().to_string()
    }
}

fn audit(error: bailiwick_audit::AuditError) -> EngineError {
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
