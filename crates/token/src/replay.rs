//! The front door's memory of single-use statements.
//!
//! This is the first line only: it lives in one process and forgets when that ends. The second line is the
//! event log, where the decision's event carries the statement's id. When full it refuses; it never forgets
//! early. Time never runs backwards in it, so a clock that is set back revives nothing.

use std::collections::{BTreeSet, HashMap};

use crate::dpop::ProofId;
use crate::{Digest, TokenRefusal};

/// Remembers ids until they expire by themselves; bounded in all and per holder.
#[derive(Debug)]
pub struct ReplayWindow {
    seen: HashMap<[u8; 32], Digest>,
    by_expiry: BTreeSet<(u64, [u8; 32])>,
    per_holder: HashMap<Digest, usize>,
    capacity: usize,
    capacity_per_holder: usize,
    latest_secs: u64,
}

impl ReplayWindow {
    /// A memory for `capacity` ids, of which one holder may fill `capacity_per_holder`.
    #[must_use]
    pub fn new(capacity: usize, capacity_per_holder: usize) -> Self {
        Self {
            seen: HashMap::new(),
            by_expiry: BTreeSet::new(),
            per_holder: HashMap::new(),
            capacity,
            capacity_per_holder,
            latest_secs: 0,
        }
    }

    /// Lets an id pass once.
    ///
    /// # Errors
    /// `dpop.replay` if it passed before, `dpop.stale` if it may already have been forgotten,
    /// `dpop.replay_full` if there is no room to remember it.
    pub fn admit(&mut self, id: &ProofId, now_secs: u64) -> Result<(), TokenRefusal> {
        self.latest_secs = self.latest_secs.max(now_secs);
        self.forget_expired();
        if id.expires_at_secs() <= self.latest_secs {
            return Err(TokenRefusal::ProofStale);
        }
        if self.seen.contains_key(&id.jti_hash()) {
            return Err(TokenRefusal::ProofReplayed);
        }
        let of_holder = self.per_holder.get(&id.holder()).copied().unwrap_or(0);
        if self.seen.len() >= self.capacity || of_holder >= self.capacity_per_holder {
            return Err(TokenRefusal::ReplayMemoryFull);
        }
        self.seen.insert(id.jti_hash(), id.holder());
        self.by_expiry.insert((id.expires_at_secs(), id.jti_hash()));
        self.per_holder.insert(id.holder(), of_holder.saturating_add(1));
        Ok(())
    }

    /// How many ids are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.seen.len()
    }

    /// Whether nothing is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    fn forget_expired(&mut self) {
        while let Some(&(expires_at, hash)) = self.by_expiry.first()
            && expires_at <= self.latest_secs
        {
            self.by_expiry.pop_first();
            let Some(holder) = self.seen.remove(&hash) else { continue };
            if let Some(count) = self.per_holder.get_mut(&holder) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    self.per_holder.remove(&holder);
                }
            }
        }
    }
}
