//! The ledger's tree as a writer grows it and as opening checks it.
//!
//! Stored are: every leaf hash (beside its event), every node at heights 8, 16, … (tile levels 1, 2, …),
//! and the frontier. The nodes make any earlier root, and every proof, cost O(log n) reads; the frontier
//! is a second, independent statement of the same tree, so that opening can compare.

use bailiwick_audit::tree::{Frontier, Hash, leaf_hash};

use crate::error::{Fault, StoreError};

/// Hashes in a complete tile.
pub(crate) const TILE: u64 = 256;

/// A complete tile's hash to be stored: level (1 or more), index at that level, hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TileNode {
    pub(crate) level: u8,
    pub(crate) index: u64,
    pub(crate) hash: Hash,
}

/// Appends an event's leaf, collecting the tile nodes it completes; gives its index and leaf hash.
pub(crate) fn grow(frontier: &mut Frontier, event: &[u8], completed: &mut Vec<TileNode>) -> (u64, Hash) {
    let (index, leaf) = (frontier.size(), leaf_hash(event));
    frontier.push_each(leaf, |node, hash| {
        if let Some((level @ 1.., index)) = node.tile_slot() {
            completed.push(TileNode { level, index, hash });
        }
    });
    (index, leaf)
}

/// A run of stored hashes: level 0 are leaves, level 1 and up are tile nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) level: u8,
    pub(crate) start: u64,
    pub(crate) count: u64,
}

/// The runs that make up the frontier of the tree over the first `size` leaves, from the left.
pub(crate) fn runs_of(size: u64) -> Vec<Run> {
    let heights = (0..u64::BITS).rev().filter(|height| size >> height & 1 == 1);
    let mut leaves = 0;
    let runs = heights.map(|height| {
        let within_tile = height % 8;
        let run = Run {
            level: u8::try_from(height / 8).unwrap_or(u8::MAX),
            start: (leaves >> height) << within_tile,
            count: 1 << within_tile,
        };
        leaves += 1 << height;
        run
    });
    runs.collect()
}

/// The frontier over the first `size` leaves, from the hashes of [`runs_of`] in the same order.
pub(crate) fn frontier_of(size: u64, runs: &[Vec<Hash>]) -> Result<Frontier, StoreError> {
    let mut bytes = size.to_be_bytes().to_vec();
    for (run, hashes) in runs_of(size).iter().zip(runs) {
        if hashes.len() as u64 != run.count {
            let missing = format!("tree hashes are missing at level {} from {}", run.level, run.start);
            return Err(StoreError::new(Fault::Corrupt, missing));
        }
        bytes.extend_from_slice(bailiwick_audit::tree::root_of(hashes).as_bytes());
    }
    decode(&bytes)
}

/// The frontier as it was stored.
pub(crate) fn decode(bytes: &[u8]) -> Result<Frontier, StoreError> {
    Frontier::from_bytes(bytes).map_err(|error| StoreError::new(Fault::Corrupt, error.to_string()))
}

pub(crate) fn hash(bytes: &[u8]) -> Result<Hash, StoreError> {
    Hash::from_slice(bytes).map_err(|error| StoreError::new(Fault::Corrupt, error.to_string()))
}

/// What a backend found at opening, for [`check_opening`].
#[derive(Debug)]
pub(crate) struct Found {
    /// The frontier as stored.
    pub(crate) frontier: Frontier,
    /// Events there are, taken from the highest index.
    pub(crate) leaves: u64,
    /// Size of the largest checkpoint kept.
    pub(crate) checkpoint: Option<u64>,
    /// The frontier made anew, from stored nodes and from the last tile's events themselves.
    pub(crate) recomputed: Frontier,
}

/// Refuses a store that contradicts itself or its own past.
pub(crate) fn check_opening(found: &Found) -> Result<(), StoreError> {
    if let Some(signed) = found.checkpoint.filter(|signed| *signed > found.leaves) {
        let detail = format!("a checkpoint covers {signed} events, the ledger holds {}", found.leaves);
        return Err(StoreError::new(Fault::RolledBack, detail));
    }
    if found.frontier.size() != found.leaves {
        let detail =
            format!("the tree covers {} events, the ledger holds {}", found.frontier.size(), found.leaves);
        return Err(StoreError::new(Fault::Corrupt, detail));
    }
    if found.frontier != found.recomputed {
        return Err(StoreError::new(Fault::Corrupt, "the tree is not the tree of the stored events"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    // proves: INV8
    #[test]
    fn the_frontier_of_any_earlier_size_comes_back_from_stored_nodes() {
        let (mut frontier, mut nodes, mut leaves) = (Frontier::new(), vec![], vec![]);
        let mut at = vec![frontier.clone()];
        for n in 0_u32..70_000 {
            leaves.push(grow(&mut frontier, &n.to_be_bytes(), &mut nodes).1);
            at.push(frontier.clone());
        }
        let nodes: BTreeMap<_, _> = nodes.iter().map(|n| ((n.level, n.index), n.hash)).collect();
        assert_eq!(nodes.len(), 273 + 1, "273 tiles of leaves, one tile of tiles");
        for size in [0, 1, 255, 256, 257, 511, 65_535, 65_536, 65_537, 69_999, 70_000_usize] {
            let fetch = |run: &Run| {
                let slots = run.start..run.start + run.count;
                slots
                    .map(|i| if run.level == 0 { leaves[i as usize] } else { nodes[&(run.level, i)] })
                    .collect()
            };
            let runs: Vec<Vec<Hash>> = runs_of(size as u64).iter().map(fetch).collect();
            assert_eq!(frontier_of(size as u64, &runs).unwrap(), at[size], "size {size}");
        }
    }

    #[test]
    fn a_store_behind_its_checkpoint_is_rolled_back_and_one_at_it_is_not() {
        let found = |checkpoint| Found {
            frontier: Frontier::new(),
            leaves: 0,
            checkpoint,
            recomputed: Frontier::new(),
        };
        assert_eq!(check_opening(&found(Some(0))), Ok(()));
        assert_eq!(check_opening(&found(Some(1))).unwrap_err().code(), "store.rolled_back");
    }
}
