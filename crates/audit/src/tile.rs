//! Where hashes and entries live: the layout of C2SP tlog-tiles.
//!
//! A tile holds up to 256 consecutive hashes of one level; a full tile's root is one hash of the level
//! above. An entry bundle holds the up to 256 entries under one level-0 tile, each after its length.
//! [`TileBuilder`] makes all tiles of a growing tree with a bounded memory.

use std::fmt;

use crate::{
    checkpoint::parse_decimal,
    error::AuditError,
    tree::{Hash, MAX_TREE_SIZE, root_of},
};

/// Hashes in a full tile.
pub const TILE_WIDTH: u16 = 256;

/// Largest event the ledger takes, in bytes. Entry bundles write lengths in 16 bits; the rest is headroom.
pub const MAX_EVENT_BYTES: usize = 60_000;

/// What a file under `tile/` holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TileKind {
    /// Hashes at this tile level; 0 holds leaf hashes.
    Hashes(u8),
    /// The entries under the level-0 tile of the same index.
    Entries,
}

/// The path of a tile or an entry bundle, such as `tile/0/x001/234.p/5`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TilePath {
    /// Hashes of which level, or entries.
    pub kind: TileKind,
    /// Index of the tile within its level.
    pub index: u64,
    /// Hashes or entries in it: 256 if full, 1 to 255 if partial.
    pub width: u16,
}

impl TilePath {
    /// Reads a path relative to the log's root, strictly.
    ///
    /// # Errors
    /// [`AuditError::Malformed`] unless it is exactly what `Display` writes.
    pub fn parse(path: &str) -> Result<Self, AuditError> {
        let malformed =
            || AuditError::Malformed { what: "tile path".to_owned(), why: "not a tlog-tiles path" };
        let parsed = parse_path(path).ok_or_else(malformed)?;
        if parsed.to_string() != path {
            return Err(malformed());
        }
        Ok(parsed)
    }

    /// Whether the tree of `size` leaves has exactly this tile at this width.
    #[must_use]
    pub fn belongs_to(&self, size: u64) -> bool {
        let level = match self.kind {
            TileKind::Hashes(level) if level < 8 => u32::from(level),
            TileKind::Hashes(_) => return false,
            TileKind::Entries => 0,
        };
        let hashes = size >> (8 * level);
        let (full, partial) = (hashes / u64::from(TILE_WIDTH), hashes % u64::from(TILE_WIDTH));
        match self.width {
            TILE_WIDTH => self.index < full,
            width => self.index == full && width > 0 && u64::from(width) == partial,
        }
    }
}

impl fmt::Display for TilePath {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            TileKind::Hashes(level) => write!(out, "tile/{level}/")?,
            TileKind::Entries => out.write_str("tile/entries/")?,
        }
        let mut groups = vec![self.index % 1000];
        let mut rest = self.index / 1000;
        while rest > 0 {
            groups.push(rest % 1000);
            rest /= 1000;
        }
        for group in groups.iter().skip(1).rev() {
            write!(out, "x{group:03}/")?;
        }
        write!(out, "{:03}", self.index % 1000)?;
        if self.width < TILE_WIDTH {
            write!(out, ".p/{}", self.width)?;
        }
        Ok(())
    }
}

/// The bytes of a tile: its hashes one after another.
#[must_use]
pub fn encode_tile(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.0).collect()
}

/// Reads the bytes of a tile that has `width` hashes.
///
/// # Errors
/// [`AuditError::Malformed`] if the length is another.
pub fn decode_tile(bytes: &[u8], width: u16) -> Result<Vec<Hash>, AuditError> {
    let (hashes, rest) = bytes.as_chunks::<32>();
    if hashes.len() != usize::from(width) || !rest.is_empty() {
        return Err(AuditError::Malformed {
            what: "tile".to_owned(),
            why: "its length does not fit its width",
        });
    }
    Ok(hashes.iter().map(|hash| Hash(*hash)).collect())
}

/// Appends one entry to an entry bundle: its length in two bytes, big-endian, then itself.
///
/// # Errors
/// [`AuditError::EventTooLarge`] past [`MAX_EVENT_BYTES`].
pub fn encode_entry(bundle: &mut Vec<u8>, event: &[u8]) -> Result<(), AuditError> {
    check_event_size(event.len())?;
    // The check above keeps the length far below 2^16.
    bundle.extend_from_slice(&(event.len() as u16).to_be_bytes());
    bundle.extend_from_slice(event);
    Ok(())
}

/// Refuses an event that no entry bundle could hold. Ask before recording it.
///
/// # Errors
/// [`AuditError::EventTooLarge`] past [`MAX_EVENT_BYTES`].
pub fn check_event_size(bytes: usize) -> Result<(), AuditError> {
    if bytes > MAX_EVENT_BYTES {
        return Err(AuditError::EventTooLarge { bytes, max: MAX_EVENT_BYTES });
    }
    Ok(())
}

/// Makes every tile of a growing tree, full ones as they fill, partial ones at the end.
///
/// Holds at most 255 hashes per level.
#[derive(Debug, Default)]
pub struct TileBuilder {
    levels: Vec<Level>,
}

#[derive(Debug, Default)]
struct Level {
    full_tiles: u64,
    pending: Vec<Hash>,
}

impl TileBuilder {
    /// A builder for an empty tree.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends one leaf hash and gives each tile that it fills to `sink`.
    ///
    /// # Errors
    /// What `sink` returns.
    pub fn push<E>(
        &mut self,
        leaf: Hash,
        mut sink: impl FnMut(TilePath, &[Hash]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut hash = leaf;
        for number in 0_u8.. {
            if self.levels.len() == usize::from(number) {
                self.levels.push(Level::default());
            }
            let Some(level) = self.levels.get_mut(usize::from(number)) else { break };
            level.pending.push(hash);
            if level.pending.len() < usize::from(TILE_WIDTH) {
                break;
            }
            let kind = TileKind::Hashes(number);
            sink(TilePath { kind, index: level.full_tiles, width: TILE_WIDTH }, &level.pending)?;
            hash = root_of(&level.pending);
            level.full_tiles += 1;
            level.pending.clear();
        }
        Ok(())
    }

    /// Gives the partial tiles at the right edge to `sink`.
    ///
    /// # Errors
    /// What `sink` returns.
    pub fn finish<E>(self, mut sink: impl FnMut(TilePath, &[Hash]) -> Result<(), E>) -> Result<(), E> {
        for (number, level) in (0_u8..).zip(self.levels) {
            if !level.pending.is_empty() {
                let kind = TileKind::Hashes(number);
                let width = level.pending.len() as u16;
                sink(TilePath { kind, index: level.full_tiles, width }, &level.pending)?;
            }
        }
        Ok(())
    }
}

fn parse_path(path: &str) -> Option<TilePath> {
    let (level, rest) = path.strip_prefix("tile/")?.split_once('/')?;
    let kind = match level {
        "entries" => TileKind::Entries,
        number => TileKind::Hashes(u8::try_from(parse_decimal(number)?).ok().filter(|level| *level < 64)?),
    };
    let (index_path, width) = match rest.split_once(".p/") {
        Some((index_path, width)) => (index_path, u16::try_from(parse_decimal(width)?).ok()?),
        None => (rest, TILE_WIDTH),
    };
    let mut index = 0_u64;
    for group in index_path.split('/') {
        let digits = group.strip_prefix('x').unwrap_or(group);
        let value =
            digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse::<u64>().ok())??;
        index = index.checked_mul(1000)?.checked_add(value)?;
    }
    (index <= MAX_TREE_SIZE && (1..=TILE_WIDTH).contains(&width)).then_some(TilePath { kind, index, width })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tree::{Frontier, leaf_hash};

    #[test]
    fn paths_are_those_of_the_specification() {
        let hashes =
            |level, index, width| TilePath { kind: TileKind::Hashes(level), index, width }.to_string();
        assert_eq!(hashes(0, 1_234_067, 256), "tile/0/x001/x234/067");
        assert_eq!(hashes(0, 1_234, 5), "tile/0/x001/234.p/5");
        assert_eq!(hashes(2, 0, 1), "tile/2/000.p/1");
        let entries = TilePath { kind: TileKind::Entries, index: 273, width: 112 };
        assert_eq!(entries.to_string(), "tile/entries/273.p/112");
    }

    #[test]
    fn other_paths_are_refused() {
        for bad in [
            "",
            "tile",
            "tile/0",
            "tile/0/",
            "tile/0/0",
            "tile/0/0000",
            "tile/00/000",
            "tile/64/000",
            "tile/-1/000",
            "tile/0/001/234",
            "tile/0/x000/001",
            "tile/0/x001",
            "tile/0/x001/x234",
            "tile/0/000.p/0",
            "tile/0/000.p/256",
            "tile/0/000.p/05",
            "tile/0/000.p/",
            "tile/0/000.p",
            "tile/0/../000",
            "tile/entries/+01",
            "/tile/0/000",
            "tile/0/x999/x999/x999/x999/x999/x999/x999/999",
        ] {
            assert!(TilePath::parse(bad).is_err(), "{bad}");
        }
    }

    /// The specification's own example: the tiles of a tree of 70 000 entries.
    #[test]
    fn a_tree_has_exactly_its_tiles() {
        let mut paths = Vec::new();
        let mut builder = TileBuilder::new();
        let mut sink = |path: TilePath, hashes: &[Hash]| {
            assert_eq!(hashes.len(), usize::from(path.width));
            paths.push(path);
            Ok::<(), AuditError>(())
        };
        for i in 0..70_000_u64 {
            builder.push(leaf_hash(&i.to_be_bytes()), &mut sink).unwrap();
        }
        builder.finish(&mut sink).unwrap();
        let partial: Vec<_> =
            paths.iter().filter(|p| p.width < TILE_WIDTH).map(ToString::to_string).collect();
        assert_eq!(partial, ["tile/0/273.p/112", "tile/1/001.p/17", "tile/2/000.p/1"]);
        assert_eq!(paths.len(), 273 + 1 + 1 + 1 + 1);
        assert!(paths.iter().all(|path| path.belongs_to(70_000)));
        assert!(!TilePath::parse("tile/0/274").unwrap().belongs_to(70_000));
        assert!(!TilePath::parse("tile/0/273.p/111").unwrap().belongs_to(70_000));
        assert!(!TilePath::parse("tile/3/000.p/1").unwrap().belongs_to(70_000));
        assert!(!TilePath::parse("tile/63/000.p/1").unwrap().belongs_to(70_000));
    }

    /// What the frontier hands out for storing is what the tiles hold.
    #[test]
    fn the_frontier_completes_the_hashes_of_the_tiles() {
        let mut from_frontier = Vec::new();
        let mut from_tiles = Vec::new();
        let (mut frontier, mut builder) = (Frontier::new(), TileBuilder::new());
        let mut sink = |path: TilePath, hashes: &[Hash]| {
            if let TileKind::Hashes(level) = path.kind {
                from_tiles
                    .extend(hashes.iter().zip(path.index * 256..).map(|(hash, index)| (level, index, *hash)));
            }
            Ok::<(), AuditError>(())
        };
        for i in 0..1000_u64 {
            let leaf = leaf_hash(&i.to_be_bytes());
            frontier.push_each(leaf, |node, hash| {
                from_frontier.extend(node.tile_slot().map(|(level, index)| (level, index, hash)));
            });
            builder.push(leaf, &mut sink).unwrap();
        }
        builder.finish(&mut sink).unwrap();
        from_frontier.sort();
        from_tiles.sort();
        assert_eq!(from_frontier, from_tiles);
    }

    #[test]
    fn an_event_past_the_limit_is_refused_up_front() {
        let mut bundle = Vec::new();
        encode_entry(&mut bundle, &vec![b'x'; MAX_EVENT_BYTES]).unwrap();
        assert_eq!(bundle.len(), MAX_EVENT_BYTES + 2);
        let refused = encode_entry(&mut bundle, &vec![b'x'; MAX_EVENT_BYTES + 1]).unwrap_err();
        assert_eq!(refused.code(), "audit.event_too_large");
        assert_eq!(bundle.len(), MAX_EVENT_BYTES + 2);
    }

    proptest! {
        #[test]
        fn paths_round_trip(level in 0..64_u8, index in 0..MAX_TREE_SIZE, width in 1..=TILE_WIDTH, entries: bool) {
            let kind = if entries { TileKind::Entries } else { TileKind::Hashes(level) };
            let path = TilePath { kind, index, width };
            prop_assert_eq!(TilePath::parse(&path.to_string()).unwrap(), path);
        }

        #[test]
        fn no_path_makes_the_parser_panic(path in "(tile/|x|[0-9]|/|\\.p|entries|\\PC)*") {
            let _ = TilePath::parse(&path);
        }
    }
}
