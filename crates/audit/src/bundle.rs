//! Evidence bundles: a whole ledger in a folder that anyone can verify offline.
//!
//! The layout is that of C2SP tlog-tiles, so other tools read it too:
//!
//! | file | content |
//! |---|---|
//! | `checkpoint` | the signed head |
//! | `vkey` | the log's public key and a newline; a hint for people, proof only when compared with a key from elsewhere |
//! | `tile/entries/…` | the events, each after its length |
//! | `tile/<L>/…` | the hashes of the tree |
//!
//! [`verify_bundle`] reads every byte of every file: it recomputes each leaf and the root, compares each
//! tile, and refuses files that nothing vouches for. One flipped byte anywhere is found, and named as
//! exactly as the rest of the bundle allows. Both directions stream; at most one tile of events is in memory.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufReader, Read, Write},
    path::{Path, PathBuf},
};

use serde::Serialize;

use crate::{
    checkpoint::{Checkpoint, MAX_NAME_BYTES, MAX_NOTE_BYTES, Note, NoteVerifier},
    error::AuditError,
    tile::{TILE_WIDTH, TileBuilder, TileKind, TilePath, decode_tile, encode_entry, encode_tile},
    tree::{Frontier, Hash, leaf_hash},
};

const CHECKPOINT_FILE: &str = "checkpoint";
const VKEY_FILE: &str = "vkey";
/// `tile/entries` and seven groups of an index; nothing of ours lies deeper.
const MAX_DEPTH: usize = 12;

/// What a bundle proves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BundleReport {
    /// The log's name.
    pub origin: String,
    /// Number of events.
    pub size: u64,
    /// Root over them.
    pub root: Hash,
    /// The key that signed, as a vkey.
    pub vkey: String,
    /// Whether that key was given from outside. If not, the bundle only agrees with itself.
    pub key_pinned: bool,
    /// Signature lines of other keys in the checkpoint, which were not checked.
    pub other_signatures: usize,
    /// The signed checkpoint, verbatim. Keep it: the next bundle must extend it.
    pub checkpoint: String,
}

/// Writes a bundle of `entries` into `dir`, which must be empty or not exist, and gives what it proves.
///
/// # Errors
/// What the iterator returns, and as [`BundleWriter`].
pub fn write_bundle<B: AsRef<[u8]>, E: From<AuditError>>(
    dir: &Path,
    entries: impl IntoIterator<Item = Result<B, E>>,
    checkpoint_note: &str,
    log_key: &NoteVerifier,
) -> Result<BundleReport, E> {
    let mut writer = BundleWriter::create(dir)?;
    for entry in entries {
        writer.push(entry?.as_ref())?;
    }
    Ok(writer.finish(checkpoint_note, log_key)?)
}

/// Verifies the bundle in `dir`, with the log's key from elsewhere if there is one.
///
/// Without `log_key` the bundle's own `vkey` is used and [`BundleReport::key_pinned`] is false.
///
/// # Errors
/// [`AuditError::EntryAltered`] or [`AuditError::TileAltered`] where the rest proves which byte is wrong,
/// [`AuditError::RootMismatch`] where it does not; [`AuditError::Signature`], [`AuditError::Key`],
/// [`AuditError::Note`] and [`AuditError::Origin`] for the head; [`AuditError::MissingFile`],
/// [`AuditError::UnexpectedFile`], [`AuditError::Malformed`] and [`AuditError::Io`] for the files.
pub fn verify_bundle(dir: &Path, log_key: Option<&NoteVerifier>) -> Result<BundleReport, AuditError> {
    verify(dir, log_key, None)
}

/// Verifies the bundle in `dir` and that it extends `older`, a checkpoint that was opened before.
///
/// # Errors
/// As [`verify_bundle`], and [`AuditError::RolledBack`] or [`AuditError::Inconsistent`].
pub fn verify_consistent(
    older: &Checkpoint,
    dir: &Path,
    log_key: Option<&NoteVerifier>,
) -> Result<BundleReport, AuditError> {
    verify(dir, log_key, Some(older))
}

/// Writes a bundle event by event. The checkpoint comes last: a half-written bundle never verifies.
///
/// ```no_run
/// # fn main() -> Result<(), bailiwick_audit::AuditError> {
/// # let (note, vkey) = (String::new(), bailiwick_audit::NoteVerifier::parse("")?);
/// let mut writer = bailiwick_audit::BundleWriter::create("evidence".as_ref())?;
/// writer.push(br#"{"event":"task.opened"}"#)?;
/// let report = writer.finish(&note, &vkey)?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct BundleWriter {
    dir: PathBuf,
    frontier: Frontier,
    tiles: TileBuilder,
    /// The entries since the last full tile, encoded.
    entries: Vec<u8>,
}

impl BundleWriter {
    /// Starts a bundle in `dir`.
    ///
    /// # Errors
    /// [`AuditError::NotEmpty`] if something is there already, [`AuditError::Io`].
    pub fn create(dir: &Path) -> Result<Self, AuditError> {
        fs::create_dir_all(dir).map_err(|source| io_error(dir, source))?;
        if fs::read_dir(dir).map_err(|source| io_error(dir, source))?.next().is_some() {
            return Err(AuditError::NotEmpty { path: dir.display().to_string() });
        }
        let (frontier, tiles) = (Frontier::new(), TileBuilder::new());
        Ok(Self { dir: dir.to_owned(), frontier, tiles, entries: Vec::new() })
    }

    /// Appends the next event.
    ///
    /// # Errors
    /// [`AuditError::EventTooLarge`], [`AuditError::Io`].
    pub fn push(&mut self, event: &[u8]) -> Result<(), AuditError> {
        encode_entry(&mut self.entries, event)?;
        let leaf = leaf_hash(event);
        let dir = &self.dir;
        self.frontier.push(leaf);
        self.tiles.push(leaf, |path, hashes| write_tile(dir, path, hashes))?;
        if self.frontier.size().is_multiple_of(TILE_WIDTH.into()) {
            self.write_entries(TILE_WIDTH)?;
        }
        Ok(())
    }

    /// Writes what is left, the key and the checkpoint, which must be the head of exactly these events.
    ///
    /// # Errors
    /// What [`Checkpoint::open`] returns; [`AuditError::OutOfRange`] if the checkpoint covers another number of
    /// events, [`AuditError::RootMismatch`] if it covers others; [`AuditError::Io`].
    pub fn finish(
        mut self,
        checkpoint_note: &str,
        log_key: &NoteVerifier,
    ) -> Result<BundleReport, AuditError> {
        let head = Head::open(checkpoint_note, log_key.clone(), true)?;
        head.check_covers(&self.frontier)?;
        let partial = self.frontier.size() % u64::from(TILE_WIDTH);
        if partial > 0 {
            self.write_entries(partial as u16)?;
        }
        let dir = &self.dir;
        self.tiles.finish(|path, hashes| write_tile(dir, path, hashes))?;
        write_file(dir, VKEY_FILE, format!("{log_key}\n").as_bytes())?;
        write_file(dir, CHECKPOINT_FILE, checkpoint_note.as_bytes())?;
        Ok(head.report())
    }

    fn write_entries(&mut self, width: u16) -> Result<(), AuditError> {
        let index = (self.frontier.size() - 1) / u64::from(TILE_WIDTH);
        let path = TilePath { kind: TileKind::Entries, index, width };
        write_file(&self.dir, &path.to_string(), &self.entries)?;
        self.entries.clear();
        Ok(())
    }
}

/// A signed head that was opened with `key`.
struct Head {
    note: String,
    other_signatures: usize,
    checkpoint: Checkpoint,
    key: NoteVerifier,
    key_pinned: bool,
}

impl Head {
    fn read(dir: &Path, log_key: Option<&NoteVerifier>) -> Result<Self, AuditError> {
        let vkey = read_text(dir, VKEY_FILE, 2 * MAX_NAME_BYTES)?;
        let key =
            vkey.strip_suffix('\n').ok_or(AuditError::Key("the file `vkey` does not end in a newline"))?;
        let key = NoteVerifier::parse(key)?;
        if log_key.is_some_and(|expected| *expected != key) {
            return Err(AuditError::Key("the bundle names another key than the one expected"));
        }
        Self::open(&read_text(dir, CHECKPOINT_FILE, MAX_NOTE_BYTES)?, key, log_key.is_some())
    }

    fn open(note: &str, key: NoteVerifier, key_pinned: bool) -> Result<Self, AuditError> {
        let checkpoint = Checkpoint::open(note, &key)?;
        let parsed = Note::parse(note)?;
        let other_signatures = parsed.signatures.len() - parsed.verify(&[&key])?;
        Ok(Self { note: note.to_owned(), other_signatures, checkpoint, key, key_pinned })
    }

    fn check_covers(&self, tree: &Frontier) -> Result<(), AuditError> {
        let Checkpoint { size, root, .. } = self.checkpoint;
        if size != tree.size() {
            let given = tree.size();
            return Err(AuditError::OutOfRange(format!(
                "a checkpoint of {size} entries for a bundle of {given}"
            )));
        }
        if root != tree.root() {
            return Err(AuditError::RootMismatch { expected: root, found: tree.root(), near: None });
        }
        Ok(())
    }

    fn report(self) -> BundleReport {
        BundleReport {
            origin: self.checkpoint.origin,
            size: self.checkpoint.size,
            root: self.checkpoint.root,
            vkey: self.key.to_string(),
            key_pinned: self.key_pinned,
            other_signatures: self.other_signatures,
            checkpoint: self.note,
        }
    }
}

fn verify(
    dir: &Path,
    log_key: Option<&NoteVerifier>,
    older: Option<&Checkpoint>,
) -> Result<BundleReport, AuditError> {
    let head = Head::read(dir, log_key)?;
    let size = head.checkpoint.size;
    if let Some(older) = older {
        head.checkpoint.check_not_behind(older)?;
    }
    refuse_unexpected(dir, "", size, 0)?;
    let mut audit = Audit::new(dir, older.map(|older| older.size));
    for index in 0..size.div_ceil(TILE_WIDTH.into()) {
        let left = size - index * u64::from(TILE_WIDTH);
        audit.read_tile(index, left.min(TILE_WIDTH.into()) as u16)?;
    }
    let root_then = audit.finish(&head.checkpoint.root)?;
    match (older, root_then) {
        (Some(older), Some(root)) if root != older.root => {
            Err(AuditError::Inconsistent { size: older.size, expected: older.root, found: root })
        }
        _ => Ok(head.report()),
    }
}

/// One pass over a bundle. The tree is built twice, from the events and from the level-0 tiles: where
/// they differ, the one that leads to the signed root shows which of them is wrong.
struct Audit<'a> {
    dir: &'a Path,
    from_tiles: Frontier,
    /// `None` once a length is wrong, because the entries after it cannot be told apart.
    from_entries: Option<Frontier>,
    upper_tiles: TileBuilder,
    first_entry: Option<EntryDiffers>,
    first_upper: Option<UpperDiffers>,
    /// The size of an older head, and the root here at that size once it is reached.
    older: Option<(u64, Option<Hash>)>,
}

struct EntryDiffers {
    index: u64,
    tile: Hash,
    entry: Option<Hash>,
}

struct UpperDiffers {
    error: AuditError,
    covers: (u64, u64),
}

impl<'a> Audit<'a> {
    fn new(dir: &'a Path, older_size: Option<u64>) -> Self {
        Self {
            dir,
            from_tiles: Frontier::new(),
            from_entries: Some(Frontier::new()),
            upper_tiles: TileBuilder::new(),
            first_entry: None,
            first_upper: None,
            older: older_size.map(|size| (size, (size == 0).then_some(Hash::EMPTY_ROOT))),
        }
    }

    /// Reads level-0 tile `index` and the events under it.
    fn read_tile(&mut self, index: u64, width: u16) -> Result<(), AuditError> {
        let tile = read_tile(self.dir, TilePath { kind: TileKind::Hashes(0), index, width })?;
        let mut entries = EntryReader::open(self.dir, TilePath { kind: TileKind::Entries, index, width })?;
        for leaf in tile {
            self.check_entry(&mut entries, leaf)?;
            self.push_tile_hash(leaf)?;
        }
        // A wrong length earlier in the file explains what is left over at its end; do not report it twice.
        if self.first_entry.is_none() { entries.expect_end() } else { Ok(()) }
    }

    fn check_entry(&mut self, entries: &mut EntryReader, tile: Hash) -> Result<(), AuditError> {
        let Some(tree) = &mut self.from_entries else { return Ok(()) };
        let entry = entries.next()?.map(leaf_hash);
        if entry != Some(tile) && self.first_entry.is_none() {
            self.first_entry = Some(EntryDiffers { index: tree.size(), tile, entry });
        }
        match entry {
            Some(leaf) => tree.push(leaf),
            None => self.from_entries = None,
        }
        Ok(())
    }

    fn push_tile_hash(&mut self, leaf: Hash) -> Result<(), AuditError> {
        self.from_tiles.push(leaf);
        if let Some((size, root @ None)) = &mut self.older
            && *size == self.from_tiles.size()
        {
            *root = Some(self.from_tiles.root());
        }
        let (dir, first) = (self.dir, &mut self.first_upper);
        self.upper_tiles.push(leaf, |path, hashes| compare_upper(dir, path, hashes, first))
    }

    /// Judges the whole; gives the root at the size of the older head, if one was asked for.
    fn finish(mut self, signed: &Hash) -> Result<Option<Hash>, AuditError> {
        let (dir, first) = (self.dir, &mut self.first_upper);
        self.upper_tiles.finish(|path, hashes| compare_upper(dir, path, hashes, first))?;
        let tiles_root = self.from_tiles.root();
        let entries_root = self.from_entries.map(|tree| tree.root());
        if tiles_root == *signed {
            return match (self.first_entry, self.first_upper) {
                (Some(EntryDiffers { index, tile, entry }), _) => {
                    Err(AuditError::EntryAltered { index, expected: tile, found: entry })
                }
                (None, Some(upper)) => Err(upper.error),
                (None, None) => Ok(self.older.and_then(|(_, root)| root)),
            };
        }
        match self.first_entry {
            Some(EntryDiffers { index, tile, entry: Some(entry) }) if entries_root == Some(*signed) => {
                Err(level_zero_altered(index, self.from_tiles.size(), entry, tile))
            }
            first_entry => {
                let entry = first_entry.map(|differs| (differs.index, differs.index + 1));
                let upper = self.first_upper.map(|differs| differs.covers);
                let near = entry.into_iter().chain(upper).min();
                let found = entries_root.unwrap_or(tiles_root);
                Err(AuditError::RootMismatch { expected: *signed, found, near })
            }
        }
    }
}

/// Compares a tile above level 0 with what the level-0 tiles give; notes the first difference.
fn compare_upper(
    dir: &Path,
    path: TilePath,
    expected: &[Hash],
    first: &mut Option<UpperDiffers>,
) -> Result<(), AuditError> {
    let TileKind::Hashes(level @ 1..) = path.kind else { return Ok(()) };
    let stored = read_tile(dir, path)?;
    let differs = expected.iter().zip(&stored).position(|(expected, stored)| expected != stored);
    if let (Some(position), None) = (differs, &first) {
        let shift = 8 * u32::from(level);
        let hash = path.index * u64::from(TILE_WIDTH) + position as u64;
        let error = AuditError::TileAltered {
            path: path.to_string(),
            position,
            expected: expected[position],
            found: stored[position],
        };
        *first = Some(UpperDiffers { error, covers: (hash << shift, (hash + 1) << shift) });
    }
    Ok(())
}

fn level_zero_altered(index: u64, size: u64, expected: Hash, found: Hash) -> AuditError {
    let (tile, position) = (index / u64::from(TILE_WIDTH), (index % u64::from(TILE_WIDTH)) as usize);
    let width = (size - tile * u64::from(TILE_WIDTH)).min(TILE_WIDTH.into()) as u16;
    let path = TilePath { kind: TileKind::Hashes(0), index: tile, width }.to_string();
    AuditError::TileAltered { path, position, expected, found }
}

/// Reads the entries of one entry bundle, one at a time.
struct EntryReader {
    path: String,
    reader: BufReader<File>,
    entry: Vec<u8>,
}

impl EntryReader {
    fn open(dir: &Path, path: TilePath) -> Result<Self, AuditError> {
        let path = path.to_string();
        Ok(Self { reader: BufReader::new(open_file(dir, &path)?), path, entry: Vec::new() })
    }

    /// The next entry, or `None` if the file ends inside it.
    fn next(&mut self) -> Result<Option<&[u8]>, AuditError> {
        let mut length = [0; 2];
        if !self.fill(&mut length)? {
            return Ok(None);
        }
        let mut entry = std::mem::take(&mut self.entry);
        entry.resize(u16::from_be_bytes(length).into(), 0);
        let whole = self.fill(&mut entry)?;
        self.entry = entry;
        Ok(whole.then_some(&self.entry))
    }

    fn expect_end(&mut self) -> Result<(), AuditError> {
        if self.fill(&mut [0])? {
            let what = std::mem::take(&mut self.path);
            return Err(AuditError::Malformed { what, why: "bytes follow its last entry" });
        }
        Ok(())
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<bool, AuditError> {
        match self.reader.read_exact(buffer) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(source) => Err(AuditError::Io { path: self.path.clone(), source }),
        }
    }
}

/// Refuses every file that the checkpoint does not vouch for, and everything that is no plain file or folder.
fn refuse_unexpected(dir: &Path, inside: &str, size: u64, depth: usize) -> Result<(), AuditError> {
    let here = dir.join(inside);
    for item in fs::read_dir(&here).map_err(|source| io_error(&here, source))? {
        let item = item.map_err(|source| io_error(&here, source))?;
        let kind = item.file_type().map_err(|source| io_error(&item.path(), source))?;
        let name = item.file_name().to_string_lossy().into_owned();
        let path = if inside.is_empty() { name } else { format!("{inside}/{name}") };
        if kind.is_dir() && depth < MAX_DEPTH {
            refuse_unexpected(dir, &path, size, depth + 1)?;
        } else if !kind.is_file() || !is_expected(&path, size) {
            return Err(AuditError::UnexpectedFile { path });
        }
    }
    Ok(())
}

fn is_expected(path: &str, size: u64) -> bool {
    matches!(path, CHECKPOINT_FILE | VKEY_FILE)
        || TilePath::parse(path).is_ok_and(|tile| tile.belongs_to(size))
}

fn read_tile(dir: &Path, path: TilePath) -> Result<Vec<Hash>, AuditError> {
    let bytes = read_capped(dir, &path.to_string(), 32 * usize::from(TILE_WIDTH))?;
    decode_tile(&bytes, path.width).map_err(|_| AuditError::Malformed {
        what: path.to_string(),
        why: "its length does not fit its width",
    })
}

fn read_text(dir: &Path, path: &str, most: usize) -> Result<String, AuditError> {
    let malformed = |_| AuditError::Malformed { what: path.to_owned(), why: "not UTF-8" };
    String::from_utf8(read_capped(dir, path, most)?).map_err(malformed)
}

fn read_capped(dir: &Path, path: &str, most: usize) -> Result<Vec<u8>, AuditError> {
    let mut bytes = Vec::new();
    let mut file = open_file(dir, path)?.take(most as u64 + 1);
    file.read_to_end(&mut bytes).map_err(|source| io_error(path.as_ref(), source))?;
    if bytes.len() > most {
        return Err(AuditError::Malformed { what: path.to_owned(), why: "it is too large" });
    }
    Ok(bytes)
}

/// Opens a plain file; a link or a pipe in its place is refused rather than followed.
fn open_file(dir: &Path, path: &str) -> Result<File, AuditError> {
    let full = dir.join(path);
    let explain = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => AuditError::MissingFile { path: path.to_owned() },
        _ => io_error(path.as_ref(), source),
    };
    if !fs::symlink_metadata(&full).map_err(explain)?.is_file() {
        return Err(AuditError::UnexpectedFile { path: path.to_owned() });
    }
    File::open(&full).map_err(explain)
}

fn write_tile(dir: &Path, path: TilePath, hashes: &[Hash]) -> Result<(), AuditError> {
    write_file(dir, &path.to_string(), &encode_tile(hashes))
}

fn write_file(dir: &Path, path: &str, bytes: &[u8]) -> Result<(), AuditError> {
    let full = dir.join(path);
    let write = || {
        full.parent().map_or(Ok(()), fs::create_dir_all)?;
        OpenOptions::new().write(true).create_new(true).open(&full)?.write_all(bytes)
    };
    write().map_err(|source| io_error(path.as_ref(), source))
}

fn io_error(path: &Path, source: io::Error) -> AuditError {
    AuditError::Io { path: path.display().to_string(), source }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;
    use crate::{checkpoint::NoteSigner, tree::root_of};

    const ORIGIN: &str = "bailiwick.example/ledger";

    fn signer() -> NoteSigner {
        NoteSigner::from_seed(ORIGIN, &[7; 32]).unwrap()
    }

    fn events(count: u64) -> Vec<Vec<u8>> {
        (0..count).map(|i| format!("event {i}").into_bytes()).collect()
    }

    fn head(events: &[Vec<u8>]) -> Checkpoint {
        let leaves: Vec<_> = events.iter().map(|event| leaf_hash(event)).collect();
        Checkpoint::new(ORIGIN, leaves.len() as u64, root_of(&leaves))
    }

    fn write(events: &[Vec<u8>]) -> TempDir {
        let dir = TempDir::new().unwrap();
        let note = head(events).sign(&signer()).unwrap();
        let entries = events.iter().map(Ok::<_, AuditError>);
        write_bundle(dir.path(), entries, &note, signer().verifier()).unwrap();
        dir
    }

    fn files(dir: &Path) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for item in fs::read_dir(dir).unwrap() {
            let path = item.unwrap().path();
            if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
        }
        found.sort();
        found
    }

    /// Changes one file, verifies with the pinned key and without, and puts the file back.
    fn with_change(
        dir: &Path,
        file: &Path,
        change: impl FnOnce(&mut Vec<u8>),
    ) -> [Result<BundleReport, AuditError>; 2] {
        let good = fs::read(file).unwrap();
        let mut bad = good.clone();
        change(&mut bad);
        fs::write(file, bad).unwrap();
        let outcomes = [verify_bundle(dir, Some(signer().verifier())), verify_bundle(dir, None)];
        fs::write(file, good).unwrap();
        outcomes
    }

    fn code(outcome: Result<BundleReport, AuditError>) -> &'static str {
        outcome.map_or_else(|error| error.code(), |_| "verified")
    }

    /// An auditor receives a folder and the log's key, and learns that all of it is as it was signed.
    // proves: INV8, P4
    #[test]
    fn a_bundle_verifies_whatever_its_size() {
        for count in [0, 1, 2, 3, 255, 256, 257, 511, 512, 700] {
            let events = events(count);
            let dir = write(&events);
            let report = verify_bundle(dir.path(), Some(signer().verifier())).unwrap();
            assert_eq!((report.size, report.root, report.key_pinned), (count, head(&events).root, true));
            assert_eq!(Checkpoint::open(&report.checkpoint, signer().verifier()).unwrap(), head(&events));
            assert!(!verify_bundle(dir.path(), None).unwrap().key_pinned);
        }
    }

    /// Three levels of tiles, and events of every awkward shape: empty, largest, full of newlines and zeroes.
    #[test]
    fn large_bundles_and_awkward_events_verify() {
        let mut events = events(66_000);
        events[7] = Vec::new();
        events[8] = vec![b'x'; crate::MAX_EVENT_BYTES];
        events[9] = b"\n\0\r\n\x1b[2J\",\"forged\":\"".to_vec();
        let dir = write(&events);
        assert_eq!(verify_bundle(dir.path(), None).unwrap().size, 66_000);
        assert!(dir.path().join("tile/2/000.p/1").is_file());
    }

    /// One bit flipped in any byte of any file is found, with the key pinned or not.
    // proves: INV8, P4, A67
    #[test]
    fn no_flipped_byte_goes_unseen() {
        let dir = write(&events(3));
        for file in files(dir.path()) {
            for position in 0..fs::read(&file).unwrap().len() {
                for flip in [0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xff] {
                    for outcome in with_change(dir.path(), &file, |bytes| bytes[position] ^= flip) {
                        assert!(outcome.is_err(), "{} byte {position} ^ {flip:#x}", file.display());
                    }
                }
            }
        }
        assert_eq!(code(verify_bundle(dir.path(), None)), "verified");
    }

    /// A database administrator edits one event: the verifier names exactly that event.
    // proves: P4, A67
    #[test]
    fn the_altered_entry_is_named() {
        let dir = write(&events(300));
        let file = dir.path().join("tile/entries/001.p/44");
        let at =
            |bytes: &[u8], text: &str| bytes.windows(text.len()).position(|w| w == text.as_bytes()).unwrap();
        let [edited, _] = with_change(dir.path(), &file, |bytes| {
            let at = at(bytes, "event 270");
            bytes[at] = b'E';
        });
        let (expected, forged) = (leaf_hash(b"event 270"), leaf_hash(b"Event 270"));
        match edited.unwrap_err() {
            AuditError::EntryAltered { index: 270, expected: e, found: Some(f) }
                if e == expected && f == forged => {}
            other => panic!("{other}"),
        }
        // A wrong length, a cut file and a swap of two entries are named just as exactly.
        let [length, _] = with_change(dir.path(), &file, |bytes| {
            let at = at(bytes, "event 271");
            bytes[at - 2] = 0xff;
        });
        assert!(matches!(length.unwrap_err(), AuditError::EntryAltered { index: 271, found: None, .. }));
        let [cut, _] = with_change(dir.path(), &file, |bytes| bytes.truncate(bytes.len() - 1));
        assert!(matches!(cut.unwrap_err(), AuditError::EntryAltered { index: 299, found: None, .. }));
        let [swapped, _] = with_change(dir.path(), &file, |bytes| {
            let (a, b) = (at(bytes, "event 280"), at(bytes, "event 281"));
            (bytes[a + 8], bytes[b + 8]) = (b'1', b'0');
        });
        assert!(matches!(swapped.unwrap_err(), AuditError::EntryAltered { index: 280, found: Some(_), .. }));
        let [longer, _] = with_change(dir.path(), &file, |bytes| bytes.push(0));
        assert_eq!(code(longer), "audit.malformed");
    }

    #[test]
    fn the_altered_tile_is_named() {
        let dir = write(&events(300));
        let [level_0, _] =
            with_change(dir.path(), &dir.path().join("tile/0/001.p/44"), |bytes| bytes[32 * 9] ^= 1);
        match level_0.unwrap_err() {
            AuditError::TileAltered { path, position: 9, expected, .. } => {
                assert_eq!((path.as_str(), expected), ("tile/0/001.p/44", leaf_hash(b"event 265")));
            }
            other => panic!("{other}"),
        }
        let [level_1, _] = with_change(dir.path(), &dir.path().join("tile/1/000.p/1"), |bytes| bytes[0] ^= 1);
        assert!(
            matches!(level_1.unwrap_err(), AuditError::TileAltered { path, position: 0, .. } if path == "tile/1/000.p/1")
        );
    }

    /// An administrator who edits an event and its hash still contradicts the tile above.
    #[test]
    fn a_careful_forger_is_pinned_down_by_the_tile_above() {
        let honest = events(600);
        let mut forged = honest.clone();
        forged[300] = b"nothing happened".to_vec();
        let (dir, other) = (write(&honest), write(&forged));
        for path in ["tile/entries/001", "tile/0/001"] {
            fs::copy(other.path().join(path), dir.path().join(path)).unwrap();
        }
        match verify_bundle(dir.path(), None).unwrap_err() {
            AuditError::RootMismatch { near: Some((256, 512)), expected, .. } => {
                assert_eq!(expected, head(&honest).root)
            }
            error => panic!("{error}"),
        }
    }

    #[test]
    fn files_that_are_missing_or_too_many_are_refused() {
        let dir = write(&events(300));
        for file in files(dir.path()) {
            let bytes = fs::read(&file).unwrap();
            fs::remove_file(&file).unwrap();
            assert_eq!(code(verify_bundle(dir.path(), None)), "audit.missing_file", "{}", file.display());
            fs::write(&file, bytes).unwrap();
        }
        for extra in [
            "README",
            "tile/0/002",
            "tile/0/001.p/43",
            "tile/entries/001.p/45",
            "tile/0/x000/000",
            "tile/2/000.p/1",
        ] {
            let path = dir.path().join(extra);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "").unwrap();
            assert_eq!(code(verify_bundle(dir.path(), None)), "audit.unexpected_file", "{extra}");
            fs::remove_file(path).unwrap();
        }
        assert_eq!(code(verify_bundle(dir.path(), None)), "verified");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_not_followed() {
        let (dir, other) = (write(&events(3)), write(&events(3)));
        for path in ["checkpoint", "tile/entries/000.p/3"] {
            let file = dir.path().join(path);
            let bytes = fs::read(&file).unwrap();
            fs::remove_file(&file).unwrap();
            std::os::unix::fs::symlink(other.path().join(path), &file).unwrap();
            assert_eq!(code(verify_bundle(dir.path(), None)), "audit.unexpected_file");
            fs::remove_file(&file).unwrap();
            fs::write(&file, bytes).unwrap();
        }
    }

    /// Whoever rewrites everything and signs with a key of their own is caught by a pinned key, and only by it.
    // proves: P4, A68
    #[test]
    fn a_bundle_under_another_key_fails_the_pinned_one() {
        let events = events(5);
        let stranger = NoteSigner::from_seed(ORIGIN, &[8; 32]).unwrap();
        let dir = TempDir::new().unwrap();
        let note = head(&events).sign(&stranger).unwrap();
        write_bundle(dir.path(), events.iter().map(Ok::<_, AuditError>), &note, stranger.verifier()).unwrap();
        assert_eq!(code(verify_bundle(dir.path(), Some(signer().verifier()))), "audit.key");
        assert!(!verify_bundle(dir.path(), None).unwrap().key_pinned);
    }

    /// A verifier that kept an older checkpoint sees truncation, restored backups and a rewritten past, whoever signed.
    // proves: INV8, A68, A69
    #[test]
    fn a_bundle_extends_the_checkpoint_seen_before() {
        let dir = write(&events(600));
        let key = signer();
        for seen in [0, 1, 255, 256, 257, 599, 600] {
            verify_consistent(&head(&events(seen)), dir.path(), Some(key.verifier())).unwrap();
        }
        let refused = |older: &Checkpoint| code(verify_consistent(older, dir.path(), Some(key.verifier())));
        assert_eq!(refused(&head(&events(601))), "audit.rolled_back");
        for seen in [1, 256, 300, 600] {
            let mut past = events(seen);
            past[0] = b"what really happened".to_vec();
            assert_eq!(refused(&head(&past)), "audit.inconsistent");
        }
        assert_eq!(refused(&Checkpoint::new("other", 0, Hash::EMPTY_ROOT)), "audit.origin");
    }

    #[test]
    fn a_bundle_is_only_finished_under_its_own_head() {
        let finish = |events: &[Vec<u8>], head: Checkpoint| {
            let dir = TempDir::new().unwrap();
            let note = head.sign(&signer()).unwrap();
            let outcome =
                write_bundle(dir.path(), events.iter().map(Ok::<_, AuditError>), &note, signer().verifier());
            assert_eq!(outcome.is_ok(), verify_bundle(dir.path(), None).is_ok());
            code(outcome)
        };
        let mut other = events(3);
        other[1].push(b'!');
        assert_eq!(finish(&events(3), head(&events(3))), "verified");
        assert_eq!(finish(&events(3), head(&events(4))), "audit.out_of_range");
        assert_eq!(finish(&events(3), head(&other)), "audit.root_mismatch");
        assert_eq!(finish(&[vec![0; crate::MAX_EVENT_BYTES + 1]], head(&events(1))), "audit.event_too_large");

        let used = write(&events(1));
        assert_eq!(BundleWriter::create(used.path()).unwrap_err().code(), "audit.not_empty");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Any edit of any file of a bundle with two levels is found.
        // proves: INV8, P4, A67
        #[test]
        fn no_edit_goes_unseen(count in 250..300_u64, file: prop::sample::Index, at: prop::sample::Index, flip in 1..=255_u8, how in 0..3) {
            let dir = write(&events(count));
            let files = files(dir.path());
            let outcomes = with_change(dir.path(), &files[file.index(files.len())], |bytes| {
                let at = at.index(bytes.len());
                match how {
                    0 => bytes[at] ^= flip,
                    1 => bytes.insert(at, flip),
                    _ => { bytes.remove(at); }
                }
            });
            prop_assert!(outcomes.iter().all(Result::is_err));
        }

        /// Whatever lies in the folder, verification ends in an answer.
        #[test]
        fn no_content_makes_the_verifier_panic(tile: Vec<u8>, entries: Vec<u8>, note: String, vkey: String) {
            let dir = write(&events(2));
            let _ = with_change(dir.path(), &dir.path().join("tile/0/000.p/2"), |bytes| *bytes = tile);
            let _ = with_change(dir.path(), &dir.path().join("tile/entries/000.p/2"), |bytes| *bytes = entries);
            let _ = with_change(dir.path(), &dir.path().join("checkpoint"), |bytes| *bytes = note.into_bytes());
            let _ = with_change(dir.path(), &dir.path().join("vkey"), |bytes| *bytes = vkey.into_bytes());
        }
    }
}
