//! A receipt for one event: C2SP tlog-proof, a text that proves inclusion offline.
//!
//! Whoever holds the event, the receipt and the log's vkey needs nothing else: not the log, not the network.

use std::fmt;

use crate::{
    checkpoint::{Checkpoint, MAX_NOTE_BYTES, NoteVerifier, parse_decimal},
    error::AuditError,
    tree::{Hash, leaf_hash, verify_inclusion},
};

const HEADER: &str = "c2sp.org/tlog-proof@v1";

/// An entry's index, its audit path and the signed checkpoint the path leads to.
///
/// `Display` writes the tlog-proof text (file extension `.tlog-proof`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InclusionReceipt {
    /// Zero-based position of the event in the ledger.
    pub index: u64,
    /// Audit path from the leaf's sibling up to the root's child.
    pub proof: Vec<Hash>,
    /// The signed checkpoint, verbatim.
    pub checkpoint: String,
}

impl InclusionReceipt {
    /// Reads a receipt. Proves nothing: see [`InclusionReceipt::verify`]. An `extra` line is refused, we write none.
    ///
    /// # Errors
    /// [`AuditError::Malformed`] unless it is exactly what `Display` writes.
    pub fn parse(text: &str) -> Result<Self, AuditError> {
        let malformed = |why| AuditError::Malformed { what: "receipt".to_owned(), why };
        if text.len() > 2 * MAX_NOTE_BYTES {
            return Err(malformed("it is too large"));
        }
        let (head, checkpoint) =
            text.split_once("\n\n").ok_or_else(|| malformed("there is no checkpoint"))?;
        let mut lines = head.split('\n');
        if lines.next() != Some(HEADER) {
            return Err(malformed("it does not begin with c2sp.org/tlog-proof@v1"));
        }
        let index = lines.next().and_then(|line| line.strip_prefix("index ")).and_then(parse_decimal);
        let index = index.ok_or_else(|| malformed("the second line is not an index"))?;
        let proof = lines.map(Hash::from_base64).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { index, proof, checkpoint: checkpoint.to_owned() })
    }

    /// Checks that `event` is in the log of `log_key`; gives the checkpoint that commits to it.
    ///
    /// # Errors
    /// What [`Checkpoint::open`] and [`verify_inclusion`] return.
    pub fn verify(&self, event: &[u8], log_key: &NoteVerifier) -> Result<Checkpoint, AuditError> {
        let checkpoint = Checkpoint::open(&self.checkpoint, log_key)?;
        verify_inclusion(&leaf_hash(event), self.index, checkpoint.size, &self.proof, &checkpoint.root)?;
        Ok(checkpoint)
    }
}

impl fmt::Display for InclusionReceipt {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{HEADER}\nindex {}", self.index)?;
        self.proof.iter().try_for_each(|hash| writeln!(out, "{hash}"))?;
        write!(out, "\n{}", self.checkpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        checkpoint::NoteSigner,
        tree::{inclusion_proof, root_of},
    };

    const ORIGIN: &str = "bailiwick.example/ledger";

    fn receipt(index: u64) -> (InclusionReceipt, NoteSigner) {
        let leaves: Vec<_> = (0..9_u64).map(|i| leaf_hash(format!("event {i}").as_bytes())).collect();
        let signer = NoteSigner::from_seed(ORIGIN, &[7; 32]).unwrap();
        let checkpoint = Checkpoint::new(ORIGIN, 9, root_of(&leaves)).sign(&signer).unwrap();
        let proof = inclusion_proof::<AuditError>(index, 9, |range| {
            let (from, to) = range.leaves();
            range.hashes_from_leaves(&leaves[from as usize..to as usize])
        });
        (InclusionReceipt { index, proof: proof.unwrap(), checkpoint }, signer)
    }

    /// An auditor gets one event and its receipt by mail; the event is proven, any other is not.
    // proves: INV8, P4
    #[test]
    fn a_receipt_proves_its_event_and_no_other() {
        for index in 0..9 {
            let (receipt, signer) = receipt(index);
            let read = InclusionReceipt::parse(&receipt.to_string()).unwrap();
            assert_eq!(read, receipt);
            read.verify(format!("event {index}").as_bytes(), signer.verifier()).unwrap();
            for other in (0..9).filter(|other| *other != index) {
                let event = format!("event {other}");
                assert_eq!(
                    read.verify(event.as_bytes(), signer.verifier()).unwrap_err().code(),
                    "audit.proof"
                );
            }
        }
    }

    #[test]
    fn no_flipped_byte_of_a_receipt_goes_unseen() {
        let (receipt, signer) = receipt(3);
        let text = receipt.to_string();
        for position in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[position] ^= 1;
            let Ok(forged) = String::from_utf8(bytes) else { continue };
            let outcome =
                InclusionReceipt::parse(&forged).and_then(|r| r.verify(b"event 3", signer.verifier()));
            assert!(outcome.is_err(), "byte {position}");
        }
    }
}
