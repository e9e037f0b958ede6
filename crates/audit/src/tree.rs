//! The Merkle tree of RFC 6962 section 2.1 over the events of the ledger.
//!
//! A writer keeps a [`Frontier`] and pushes leaf hashes in commit order; it stores what
//! [`Frontier::push_each`] hands out at heights 0, 8, 16, … and can then prove anything in O(log n).
//! A reader asks for [`inclusion_proof`] or [`consistency_proof`] with a closure that fetches stored
//! hashes, or makes a [`ProofPlan`] first and fetches as it likes (for example asynchronously).
//! [`verify_inclusion`] and [`verify_consistency`] need nothing but the proof.
//!
//! Hashes are public, so nothing here compares in constant time.

use std::{collections::VecDeque, fmt};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::error::AuditError;

/// Largest tree this crate works with. Far beyond any ledger, and small enough that no index overflows.
pub const MAX_TREE_SIZE: u64 = 1 << 60;

/// A SHA-256 hash of a leaf or a node. Shows itself in base64 (as checkpoints do); `{:x}` gives hex.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// Root of the tree without leaves: SHA-256 of nothing (RFC 6962 section 2.1).
    pub const EMPTY_ROOT: Self = Self([
        0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27,
        0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
    ]);

    /// The 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reads 32 bytes; anything else is no hash.
    ///
    /// # Errors
    /// [`AuditError::Malformed`] for any other length.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, AuditError> {
        let bytes = bytes.try_into().map_err(|_| malformed_hash("a hash has exactly 32 bytes"))?;
        Ok(Self(bytes))
    }

    /// Reads canonical standard base64, as in a checkpoint.
    ///
    /// # Errors
    /// [`AuditError::Malformed`] if it is not canonical base64 of 32 bytes.
    pub fn from_base64(text: &str) -> Result<Self, AuditError> {
        let bytes = BASE64_STANDARD.decode(text).map_err(|_| malformed_hash("not canonical base64"))?;
        Self::from_slice(&bytes)
    }

    /// Reads 64 hexadecimal digits of either case.
    ///
    /// # Errors
    /// [`AuditError::Malformed`] otherwise.
    pub fn from_hex(text: &str) -> Result<Self, AuditError> {
        let mut bytes = Vec::with_capacity(32);
        for pair in text.as_bytes().chunks(2) {
            let [high, low] = pair else { return Err(malformed_hash("an odd number of hex digits")) };
            match (hex_digit(*high), hex_digit(*low)) {
                (Some(high), Some(low)) => bytes.push(high << 4 | low),
                _ => return Err(malformed_hash("not a hex digit")),
            }
        }
        Self::from_slice(&bytes)
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&BASE64_STANDARD.encode(self.0))
    }
}

impl fmt::LowerHex for Hash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{self}")
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::from_base64(&text).map_err(serde::de::Error::custom)
    }
}

/// Hash of one event: `SHA-256(0x00 || bytes)` (RFC 6962 section 2.1).
#[must_use]
pub fn leaf_hash(event: &[u8]) -> Hash {
    Hash(Sha256::new().chain_update([0]).chain_update(event).finalize().into())
}

/// Hash of an inner node: `SHA-256(0x01 || left || right)` (RFC 6962 section 2.1).
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Hash(Sha256::new().chain_update([1]).chain_update(left.0).chain_update(right.0).finalize().into())
}

/// Root of the tree over these leaf hashes.
#[must_use]
pub fn root_of(leaf_hashes: &[Hash]) -> Hash {
    let mut frontier = Frontier::new();
    for leaf in leaf_hashes {
        frontier.push(*leaf);
    }
    frontier.root()
}

/// A complete subtree: the `index`-th node at `height` covers leaves `index << height` onwards, `1 << height` of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node {
    /// 0 for a leaf.
    pub height: u8,
    /// Position among the nodes of this height, from the left.
    pub index: u64,
}

impl Node {
    /// `(level, index)` if tiles store this node: heights 0, 8, 16, … are tile levels 0, 1, 2, … (C2SP tlog-tiles).
    #[must_use]
    pub fn tile_slot(&self) -> Option<(u8, u64)> {
        self.height.is_multiple_of(8).then_some((self.height / 8, self.index))
    }
}

/// The right edge of a growing tree: all a writer must keep in memory to append and to know the root.
///
/// Holds at most 60 hashes. Push leaf hashes in commit order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frontier {
    size: u64,
    /// Roots of the complete subtrees, largest (leftmost) first: one per set bit of `size`.
    peaks: Vec<Hash>,
}

impl Frontier {
    /// The empty tree.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends one leaf.
    pub fn push(&mut self, leaf: Hash) {
        self.push_each(leaf, |_, _| {});
    }

    /// Appends one leaf and hands out every node that it completes, the leaf itself first.
    ///
    /// A store keeps those with a [`Node::tile_slot`]; then every proof costs O(log n).
    pub fn push_each(&mut self, leaf: Hash, mut on_node: impl FnMut(Node, Hash)) {
        let (mut hash, mut height, mut index) = (leaf, 0, self.size);
        on_node(Node { height, index }, hash);
        while index & 1 == 1
            && let Some(left) = self.peaks.pop()
        {
            hash = node_hash(&left, &hash);
            (height, index) = (height + 1, index >> 1);
            on_node(Node { height, index }, hash);
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    /// Number of leaves.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Root of the tree as it is now.
    #[must_use]
    pub fn root(&self) -> Hash {
        join(self.peaks.iter().copied())
    }

    /// The size (8 bytes, big-endian), then the hashes from the left.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.size.to_be_bytes().to_vec();
        for peak in &self.peaks {
            bytes.extend_from_slice(&peak.0);
        }
        bytes
    }

    /// Reads what [`Frontier::to_bytes`] wrote.
    ///
    /// The bytes carry no proof of their own: compare [`Frontier::root`] with a checkpoint before trusting them.
    ///
    /// # Errors
    /// [`AuditError::Malformed`] if the length does not fit the size, or the size is beyond [`MAX_TREE_SIZE`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, AuditError> {
        let malformed = |why| AuditError::Malformed { what: "frontier".to_owned(), why };
        let (size, hashes) = bytes.split_first_chunk::<8>().ok_or_else(|| malformed("too short"))?;
        let size = u64::from_be_bytes(*size);
        if size > MAX_TREE_SIZE {
            return Err(malformed("the size is beyond any ledger"));
        }
        let (hashes, rest) = hashes.as_chunks::<32>();
        if !rest.is_empty() || hashes.len() != size.count_ones() as usize {
            return Err(malformed("the number of hashes does not fit the size"));
        }
        Ok(Self { size, peaks: hashes.iter().map(|hash| Hash(*hash)).collect() })
    }
}

/// Consecutive hashes of one tile level: hash `i` at `level` covers `256^level` leaves from `i * 256^level`.
///
/// Never crosses a tile border, and names only hashes of complete subtrees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TileRange {
    /// Tile level; 0 holds leaf hashes.
    pub level: u8,
    /// Index of the first hash at this level.
    pub start: u64,
    /// How many hashes: a power of two, 1 to 128.
    pub count: u16,
}

impl TileRange {
    /// The leaves below this range, first and one past last: what to read if only leaf hashes are stored.
    #[must_use]
    pub fn leaves(&self) -> (u64, u64) {
        let shift = 8 * u32::from(self.level);
        (self.start << shift, (self.start + u64::from(self.count)) << shift)
    }

    /// Makes the hashes of this range from the leaf hashes of [`TileRange::leaves`]. Costs O(leaves).
    ///
    /// # Errors
    /// [`AuditError::Source`] if the number of leaf hashes is not the one expected.
    pub fn hashes_from_leaves(&self, leaf_hashes: &[Hash]) -> Result<Vec<Hash>, AuditError> {
        let (from, to) = self.leaves();
        if leaf_hashes.len() as u64 != to - from {
            let expected = usize::try_from(to - from).unwrap_or(usize::MAX);
            return Err(AuditError::Source { level: 0, start: from, expected, found: leaf_hashes.len() });
        }
        Ok(leaf_hashes.chunks(leaf_hashes.len() / usize::from(self.count)).map(root_of).collect())
    }
}

/// Which stored hashes a proof is made of, before any was fetched.
///
/// Fetch each of [`ProofPlan::ranges`] in order, in whatever way suits the store, and give the answers
/// to [`ProofPlan::assemble`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProofPlan {
    /// One entry per hash of the proof: the complete subtrees it joins, from the left.
    elements: Vec<Vec<Node>>,
}

impl ProofPlan {
    /// Plans the audit path of leaf `index` in the tree of `size` leaves (RFC 9162 section 2.1.3.1).
    ///
    /// # Errors
    /// [`AuditError::OutOfRange`] unless `index < size`.
    pub fn inclusion(index: u64, size: u64) -> Result<Self, AuditError> {
        if index >= size || size > MAX_TREE_SIZE {
            return Err(AuditError::OutOfRange(format!("entry {index} in a ledger of {size}")));
        }
        let (mut start, mut end, mut siblings) = (0, size, Vec::new());
        while end - start > 1 {
            let split = start + largest_power_below(end - start);
            if index < split {
                siblings.push(complete_subtrees(split, end));
                end = split;
            } else {
                siblings.push(complete_subtrees(start, split));
                start = split;
            }
        }
        siblings.reverse();
        Ok(Self { elements: siblings })
    }

    /// Plans the proof that the tree of `new` leaves extends the one of `old` leaves (RFC 9162 section 2.1.4.1).
    ///
    /// Everything extends the empty tree and itself; those proofs are empty.
    ///
    /// # Errors
    /// [`AuditError::OutOfRange`] unless `old <= new`.
    pub fn consistency(old: u64, new: u64) -> Result<Self, AuditError> {
        if old > new || new > MAX_TREE_SIZE {
            return Err(AuditError::OutOfRange(format!("from {old} entries to {new}")));
        }
        let (mut start, mut end, mut elements) = (0, new, Vec::new());
        if old == 0 {
            return Ok(Self { elements });
        }
        while end != old {
            let split = start + largest_power_below(end - start);
            if old <= split {
                elements.push(complete_subtrees(split, end));
                end = split;
            } else {
                elements.push(complete_subtrees(start, split));
                start = split;
            }
        }
        if start != 0 {
            elements.push(complete_subtrees(start, end));
        }
        elements.reverse();
        Ok(Self { elements })
    }

    /// The hashes to fetch, in the order that [`ProofPlan::assemble`] expects.
    pub fn ranges(&self) -> impl Iterator<Item = TileRange> + '_ {
        self.elements.iter().flatten().map(|node| {
            let within_tile = node.height % 8;
            TileRange { level: node.height / 8, start: node.index << within_tile, count: 1 << within_tile }
        })
    }

    /// Makes the proof from the fetched hashes, one list per range.
    ///
    /// # Errors
    /// [`AuditError::Source`] if a list is missing or has not the length that was asked for.
    pub fn assemble(&self, fetched: impl IntoIterator<Item = Vec<Hash>>) -> Result<Vec<Hash>, AuditError> {
        let mut fetched = fetched.into_iter();
        let mut subtrees = VecDeque::new();
        for range in self.ranges() {
            let hashes = fetched.next().unwrap_or_default();
            if hashes.len() != usize::from(range.count) {
                let TileRange { level, start, count } = range;
                return Err(AuditError::Source { level, start, expected: count.into(), found: hashes.len() });
            }
            subtrees.push_back(root_of(&hashes));
        }
        Ok(self.elements.iter().map(|nodes| join(subtrees.drain(..nodes.len()))).collect())
    }
}

/// The audit path of leaf `index` in the tree of `size` leaves, with a closure that fetches stored hashes.
///
/// # Errors
/// What `fetch` returns, or [`AuditError::OutOfRange`], or [`AuditError::Source`] if `fetch` gave too few or too many.
pub fn inclusion_proof<E: From<AuditError>>(
    index: u64,
    size: u64,
    fetch: impl FnMut(TileRange) -> Result<Vec<Hash>, E>,
) -> Result<Vec<Hash>, E> {
    fetch_plan(&ProofPlan::inclusion(index, size)?, fetch)
}

/// The proof that the tree of `new` leaves extends the one of `old`, with a closure that fetches stored hashes.
///
/// # Errors
/// As [`inclusion_proof`].
pub fn consistency_proof<E: From<AuditError>>(
    old: u64,
    new: u64,
    fetch: impl FnMut(TileRange) -> Result<Vec<Hash>, E>,
) -> Result<Vec<Hash>, E> {
    fetch_plan(&ProofPlan::consistency(old, new)?, fetch)
}

/// Checks that `leaf` is entry `index` of the tree with `size` leaves and this root (RFC 9162 section 2.1.3.2).
///
/// # Errors
/// [`AuditError::Proof`] if it is not proven.
pub fn verify_inclusion(
    leaf: &Hash,
    index: u64,
    size: u64,
    proof: &[Hash],
    root: &Hash,
) -> Result<(), AuditError> {
    if index >= size {
        return Err(AuditError::Proof("the entry lies outside the tree"));
    }
    let mut walk = Walk { old: index, new: size - 1 };
    let mut hash = *leaf;
    for sibling in proof {
        hash = match walk.step()? {
            Side::Left => node_hash(sibling, &hash),
            Side::Right => node_hash(&hash, sibling),
        };
    }
    walk.finish()?;
    if hash != *root {
        return Err(AuditError::Proof("the path does not lead to the root"));
    }
    Ok(())
}

/// Checks that the tree of `new_size` leaves extends the one of `old_size` (RFC 9162 section 2.1.4.2).
///
/// # Errors
/// [`AuditError::Proof`] if it is not proven.
pub fn verify_consistency(
    old_size: u64,
    old_root: &Hash,
    new_size: u64,
    new_root: &Hash,
    proof: &[Hash],
) -> Result<(), AuditError> {
    if old_size > new_size {
        return Err(AuditError::Proof("the newer tree is smaller"));
    }
    if old_size == 0 || old_size == new_size {
        let expected_old = if old_size == 0 { &Hash::EMPTY_ROOT } else { new_root };
        let same = proof.is_empty() && old_root == expected_old;
        return same.then_some(()).ok_or(AuditError::Proof("equal trees have equal roots and no path"));
    }
    let (first, rest) = if old_size.is_power_of_two() {
        (old_root, proof)
    } else {
        proof.split_first().ok_or(AuditError::Proof("the path is empty"))?
    };
    let mut walk = Walk { old: old_size - 1, new: new_size - 1 };
    walk.climb_while_right();
    let (mut old_hash, mut new_hash) = (*first, *first);
    for sibling in rest {
        match walk.step()? {
            Side::Left => {
                old_hash = node_hash(sibling, &old_hash);
                new_hash = node_hash(sibling, &new_hash);
            }
            Side::Right => new_hash = node_hash(&new_hash, sibling),
        }
    }
    walk.finish()?;
    if old_hash != *old_root || new_hash != *new_root {
        return Err(AuditError::Proof("the path does not lead to both roots"));
    }
    Ok(())
}

/// Climbs from a leaf to the root; RFC 9162 calls the two positions `fn` and `sn`.
struct Walk {
    old: u64,
    new: u64,
}

enum Side {
    Left,
    Right,
}

impl Walk {
    /// On which side the next sibling of the proof belongs.
    fn step(&mut self) -> Result<Side, AuditError> {
        if self.new == 0 {
            return Err(AuditError::Proof("the path is too long"));
        }
        let side = if self.old & 1 == 1 || self.old == self.new {
            while self.old & 1 == 0 && self.old != 0 {
                self.climb();
            }
            Side::Left
        } else {
            Side::Right
        };
        self.climb();
        Ok(side)
    }

    fn climb_while_right(&mut self) {
        while self.old & 1 == 1 {
            self.climb();
        }
    }

    fn climb(&mut self) {
        self.old >>= 1;
        self.new >>= 1;
    }

    fn finish(&self) -> Result<(), AuditError> {
        if self.new != 0 {
            return Err(AuditError::Proof("the path is too short"));
        }
        Ok(())
    }
}

fn fetch_plan<E: From<AuditError>>(
    plan: &ProofPlan,
    fetch: impl FnMut(TileRange) -> Result<Vec<Hash>, E>,
) -> Result<Vec<Hash>, E> {
    let fetched = plan.ranges().map(fetch).collect::<Result<Vec<_>, E>>()?;
    Ok(plan.assemble(fetched)?)
}

/// Joins complete subtrees, largest first, into one root.
fn join(subtrees: impl DoubleEndedIterator<Item = Hash>) -> Hash {
    subtrees.rev().reduce(|right, left| node_hash(&left, &right)).unwrap_or(Hash::EMPTY_ROOT)
}

/// The complete subtrees that make up leaves `start..end`, from the left. `start` must be aligned as RFC splits are.
fn complete_subtrees(mut start: u64, end: u64) -> Vec<Node> {
    let mut nodes = Vec::new();
    while start < end {
        let height = (end - start).ilog2().min(start.trailing_zeros());
        nodes.push(Node { height: height as u8, index: start >> height });
        start += 1 << height;
    }
    nodes
}

/// Largest power of two smaller than `n`, for `n > 1`.
fn largest_power_below(n: u64) -> u64 {
    1 << (n - 1).ilog2()
}

fn hex_digit(digit: u8) -> Option<u8> {
    (digit as char).to_digit(16).map(|value| value as u8)
}

fn malformed_hash(why: &'static str) -> AuditError {
    AuditError::Malformed { what: "hash".to_owned(), why }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::{collection::vec, prelude::*};

    use super::*;

    const MOST: u64 = 256;

    fn leaves(count: u64) -> Vec<Hash> {
        (0..count).map(|i| leaf_hash(&i.to_be_bytes())).collect()
    }

    /// MTH of RFC 6962 section 2.1, word for word, to check the frontier against.
    fn reference_root(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => Hash::EMPTY_ROOT,
            [leaf] => *leaf,
            _ => {
                let (left, right) = leaves.split_at(largest_power_below(leaves.len() as u64) as usize);
                node_hash(&reference_root(left), &reference_root(right))
            }
        }
    }

    /// PATH of RFC 6962 section 2.1.1.
    fn reference_path(index: usize, leaves: &[Hash]) -> Vec<Hash> {
        if leaves.len() == 1 {
            return Vec::new();
        }
        let split = largest_power_below(leaves.len() as u64) as usize;
        let (left, right) = leaves.split_at(split);
        let (mut path, sibling) = if index < split {
            (reference_path(index, left), right)
        } else {
            (reference_path(index - split, right), left)
        };
        path.push(reference_root(sibling));
        path
    }

    /// SUBPROOF of RFC 6962 section 2.1.2.
    fn reference_subproof(old: usize, leaves: &[Hash], whole: bool) -> Vec<Hash> {
        if old == leaves.len() {
            return if whole { Vec::new() } else { vec![reference_root(leaves)] };
        }
        let split = largest_power_below(leaves.len() as u64) as usize;
        let (left, right) = leaves.split_at(split);
        let (mut proof, sibling) = if old <= split {
            (reference_subproof(old, left, whole), right)
        } else {
            (reference_subproof(old - split, right, false), left)
        };
        proof.push(reference_root(sibling));
        proof
    }

    /// A store that keeps what the frontier hands out for tiles, and counts what is read.
    struct Stored {
        hashes: BTreeMap<(u8, u64), Hash>,
        nodes: BTreeMap<Node, Hash>,
        frontier: Frontier,
        read: usize,
    }

    impl Stored {
        fn new(leaves: &[Hash]) -> Self {
            let (mut hashes, mut nodes, mut frontier) = (BTreeMap::new(), BTreeMap::new(), Frontier::new());
            for leaf in leaves {
                frontier.push_each(*leaf, |node, hash| {
                    nodes.insert(node, hash);
                    hashes.extend(node.tile_slot().map(|slot| (slot, hash)));
                });
            }
            Self { hashes, nodes, frontier, read: 0 }
        }

        /// The planned proof from the nodes of all heights: quick enough for exhaustive tests.
        fn quick(&self, plan: &ProofPlan) -> Vec<Hash> {
            let subtree = |nodes: &Vec<Node>| join(nodes.iter().map(|node| self.nodes[node]));
            plan.elements.iter().map(subtree).collect()
        }

        fn fetch(&mut self, range: TileRange) -> Result<Vec<Hash>, AuditError> {
            self.read += usize::from(range.count);
            let slots = range.start..range.start + u64::from(range.count);
            Ok(slots.filter_map(|index| self.hashes.get(&(range.level, index)).copied()).collect())
        }
    }

    fn refused(outcome: Result<(), AuditError>) -> bool {
        matches!(outcome, Err(AuditError::Proof(_)))
    }

    /// The ledger of the RFC's own reference implementation: eight entries, roots at every size.
    #[test]
    fn the_known_vectors_of_rfc_6962_hold() {
        let entries = [
            "",
            "00",
            "10",
            "2021",
            "3031",
            "40414243",
            "5051525354555657",
            "606162636465666768696a6b6c6d6e6f",
        ];
        let roots = [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        let bytes = |hex: &str| {
            let digit = |i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap();
            (0..hex.len()).step_by(2).map(digit).collect::<Vec<_>>()
        };
        let mut frontier = Frontier::new();
        assert_eq!(frontier.root(), Hash(Sha256::digest([]).into()));
        for (entry, root) in entries.iter().zip(roots) {
            frontier.push(leaf_hash(&bytes(entry)));
            assert_eq!(format!("{:x}", frontier.root()), root);
        }
    }

    // proves: INV8
    #[test]
    fn every_root_is_that_of_the_definition() {
        let leaves = leaves(MOST + 50);
        let mut frontier = Frontier::new();
        for size in 0..leaves.len() {
            assert_eq!(frontier.root(), reference_root(&leaves[..size]), "{size}");
            assert_eq!(Frontier::from_bytes(&frontier.to_bytes()).unwrap(), frontier);
            frontier.push(leaves[size]);
        }
    }

    /// Every entry of every tree up to 256 has the path that the RFC defines, and it verifies.
    // proves: INV8, P4
    #[test]
    fn every_inclusion_proof_holds() {
        let leaves = leaves(MOST);
        let mut stored = Stored::new(&leaves);
        for size in 1..=MOST {
            let tree = &leaves[..size as usize];
            let root = root_of(tree);
            for index in 0..size {
                let proof = stored.quick(&ProofPlan::inclusion(index, size).unwrap());
                let leaf = &leaves[index as usize];
                verify_inclusion(leaf, index, size, &proof, &root).unwrap();
                if size < 40 || size % 32 == 1 {
                    assert_eq!(proof, inclusion_proof(index, size, |range| stored.fetch(range)).unwrap());
                    assert_eq!(proof, reference_path(index as usize, tree));
                }
                assert!(refused(verify_inclusion(leaf, index ^ 1, size, &proof, &root)) || size == 1);
                assert!(refused(verify_inclusion(leaf, index, size, &proof, leaf)) || size == 1);
            }
            assert!(ProofPlan::inclusion(size, size).is_err());
        }
    }

    /// Any two trees up to 256 are proven consistent, and no other pair of roots is.
    // proves: INV8
    #[test]
    fn every_consistency_proof_holds() {
        let leaves = leaves(MOST);
        let mut stored = Stored::new(&leaves);
        let roots: Vec<_> = (0..=leaves.len()).map(|size| root_of(&leaves[..size])).collect();
        for new in 0..=MOST {
            for old in 0..=new {
                let proof = stored.quick(&ProofPlan::consistency(old, new).unwrap());
                let (old_root, new_root) = (&roots[old as usize], &roots[new as usize]);
                verify_consistency(old, old_root, new, new_root, &proof).unwrap();
                if old > 0 && (new < 40 || new % 32 == 1) {
                    assert_eq!(proof, consistency_proof(old, new, |range| stored.fetch(range)).unwrap());
                    assert_eq!(proof, reference_subproof(old as usize, &leaves[..new as usize], true));
                }
                let forked = Hash([9; 32]);
                assert!(refused(verify_consistency(old, &forked, new, new_root, &proof)));
                if old > 0 {
                    assert!(refused(verify_consistency(old, old_root, new, &forked, &proof)));
                }
                if old < new {
                    assert!(refused(verify_consistency(new, new_root, old, old_root, &proof)));
                }
            }
            assert!(ProofPlan::consistency(new + 1, new).is_err());
        }
    }

    /// With tile hashes stored, a proof in a ledger of 70 000 reads a few hundred hashes, not 70 000.
    #[test]
    fn proofs_stay_small_when_tiles_are_there() {
        let leaves = leaves(70_000);
        let mut stored = Stored::new(&leaves);
        let root = stored.frontier.root();
        for index in [0, 255, 256, 65_535, 65_536, 69_888, 69_999] {
            stored.read = 0;
            let proof = inclusion_proof(index, 70_000, |range| stored.fetch(range)).unwrap();
            verify_inclusion(&leaves[index as usize], index, 70_000, &proof, &root).unwrap();
            assert!(stored.read <= 3 * 256 + 128, "{} hashes read for {index}", stored.read);
        }
        let at_65_537 = Stored::new(&leaves[..65_537]).frontier.root();
        let proof = consistency_proof(65_537, 70_000, |range| stored.fetch(range)).unwrap();
        verify_consistency(65_537, &at_65_537, 70_000, &root, &proof).unwrap();
    }

    #[test]
    fn level_zero_alone_is_enough() {
        let leaves = leaves(700);
        let proof = inclusion_proof::<AuditError>(3, 700, |range| {
            let (from, to) = range.leaves();
            range.hashes_from_leaves(&leaves[from as usize..to as usize])
        });
        verify_inclusion(&leaves[3], 3, 700, &proof.unwrap(), &root_of(&leaves)).unwrap();
    }

    #[test]
    fn a_source_that_gives_too_little_is_found_out() {
        let outcome = inclusion_proof::<AuditError>(3, 700, |_| Ok(Vec::new()));
        assert_eq!(outcome.unwrap_err().code(), "audit.hash_source");
    }

    #[test]
    fn a_hash_reads_what_it_writes() {
        let hash = leaf_hash(b"x");
        assert_eq!(Hash::from_base64(&hash.to_string()).unwrap(), hash);
        assert_eq!(Hash::from_hex(&format!("{hash:x}")).unwrap(), hash);
        assert_eq!(serde_json::from_str::<Hash>(&serde_json::to_string(&hash).unwrap()).unwrap(), hash);
        for bad in ["", "AA==", "é", "0", &"zz".repeat(32), &"00".repeat(31)] {
            assert!(Hash::from_base64(bad).is_err() && Hash::from_hex(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        /// Whatever single thing an attacker changes about a proof, it no longer holds.
        // proves: INV8, A67
        #[test]
        fn a_forged_inclusion_proof_is_refused(size in 2..400_u64, at: prop::sample::Index, spot: prop::sample::Index, bit in 0..256_usize, other: [u8; 32]) {
            let leaves = leaves(size);
            let index = at.index(size as usize) as u64;
            let (leaf, root) = (leaves[index as usize], root_of(&leaves));
            let mut stored = Stored::new(&leaves);
            let proof = inclusion_proof(index, size, |range| stored.fetch(range)).unwrap();

            let mut flipped = proof.clone();
            let spot = spot.index(proof.len());
            flipped[spot].0[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(refused(verify_inclusion(&leaf, index, size, &flipped, &root)));
            prop_assert!(refused(verify_inclusion(&Hash(other), index, size, &proof, &root)));
            prop_assert!(refused(verify_inclusion(&leaf, index, size, &proof[1..], &root)));
            prop_assert!(refused(verify_inclusion(&leaf, index, size, &proof[..proof.len() - 1], &root)));
            let longer = [&proof[..], &[Hash(other)]].concat();
            prop_assert!(refused(verify_inclusion(&leaf, index, size, &longer, &root)));
            prop_assert!(refused(verify_inclusion(&leaf, index + size, size, &proof, &root)));
            for wrong in (0..size).filter(|wrong| *wrong != index) {
                prop_assert!(refused(verify_inclusion(&leaf, wrong, size, &proof, &root)));
            }
        }

        /// A ledger in which one past entry was replaced, dropped or swapped is not consistent with its old head.
        // proves: INV8, A67, A68
        #[test]
        fn a_rewritten_past_has_no_proof(new in 3..300_u64, cut: prop::sample::Index, at: prop::sample::Index, how in 0..3) {
            let honest = leaves(new);
            let old = 2 + cut.index(new as usize - 2) as u64;
            let old_root = root_of(&honest[..old as usize]);
            let mut rewritten = honest.clone();
            let at = at.index(old as usize - 1);
            match how {
                0 => rewritten[at] = leaf_hash(b"forged"),
                1 => rewritten.swap(at, at + 1),
                _ => { rewritten.remove(at); rewritten.push(leaf_hash(b"padding")); }
            }
            let mut stored = Stored::new(&rewritten);
            let proof = consistency_proof(old, new, |range| stored.fetch(range)).unwrap();
            prop_assert!(refused(verify_consistency(old, &old_root, new, &root_of(&rewritten), &proof)));
        }

        #[test]
        fn a_forged_consistency_proof_is_refused(new in 3..300_u64, cut: prop::sample::Index, spot: prop::sample::Index, bit in 0..256_usize, other: [u8; 32]) {
            let leaves = leaves(new);
            let old = 1 + cut.index(new as usize - 1) as u64;
            let (old_root, new_root) = (root_of(&leaves[..old as usize]), root_of(&leaves));
            let mut stored = Stored::new(&leaves);
            let proof = consistency_proof(old, new, |range| stored.fetch(range)).unwrap();
            let check = |proof: &[Hash]| verify_consistency(old, &old_root, new, &new_root, proof);
            prop_assert!(check(&proof).is_ok());
            prop_assert!(refused(check(&[&proof[..], &[Hash(other)]].concat())));
            if let Some(spot) = (!proof.is_empty()).then(|| spot.index(proof.len())) {
                let mut flipped = proof.clone();
                flipped[spot].0[bit / 8] ^= 1 << (bit % 8);
                prop_assert!(refused(check(&flipped)));
                prop_assert!(refused(check(&proof[1..])));
                prop_assert!(refused(check(&proof[..proof.len() - 1])));
            }
        }

        #[test]
        fn nothing_from_outside_panics(old: u64, new: u64, proof in vec(any::<[u8; 32]>(), 0..70), bytes: Vec<u8>) {
            let proof: Vec<_> = proof.into_iter().map(Hash).collect();
            let root = Hash([1; 32]);
            let _ = verify_inclusion(&root, old, new, &proof, &root);
            let _ = verify_consistency(old, &root, new, &root, &proof);
            let _ = ProofPlan::inclusion(old, new);
            let _ = ProofPlan::consistency(old, new);
            let _ = Frontier::from_bytes(&bytes);
        }
    }
}
