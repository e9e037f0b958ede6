//! Evidence as an auditor reads it: heads, receipts, tiles, proofs and whole bundles, written by anybody.
//!
//! The first byte chooses the reader. Nothing panics; what is read prints as it was; a proof holds for the leaf
//! it was made for and no other; a bundle verifies only as it was written (INV8).
#![no_main]

use std::cell::LazyCell;
use std::fs;
use std::path::PathBuf;

use bailiwick_audit::bundle::{verify_bundle, write_bundle};
use bailiwick_audit::checkpoint::{Checkpoint, Note, NoteSigner, NoteVerifier};
use bailiwick_audit::error::AuditError;
use bailiwick_audit::proof::InclusionReceipt;
use bailiwick_audit::tile::{TilePath, decode_tile, encode_tile};
use bailiwick_audit::tree::{
    Frontier, Hash, ProofPlan, consistency_proof, inclusion_proof, leaf_hash, root_of, verify_consistency,
    verify_inclusion,
};
use libfuzzer_sys::fuzz_target;

const ORIGIN: &str = "fuzz.bailiwick.example/ledger";

fuzz_target!(|bytes: &[u8]| {
    let Some((reader, rest)) = bytes.split_first() else { return };
    match reader % 4 {
        0 => std::str::from_utf8(rest).map(texts).unwrap_or_default(),
        1 => stored(rest),
        2 => proofs(rest),
        _ => BUNDLE.with(|bundle| bundle.check(rest)),
    }
});

/// Heads, receipts, keys and paths print as they were read.
fn texts(text: &str) {
    if let Ok(note) = Note::parse(text) {
        assert_eq!(note.to_string(), text);
        assert!(note.verify(&[signer().verifier()]).is_err() || text.contains(ORIGIN));
    }
    if let Ok(head) = Checkpoint::from_text(text) {
        assert_eq!(head.to_text(), text);
        if let Ok(signed) = Checkpoint::new(ORIGIN, head.size, head.root).sign(&signer()) {
            let opened = Checkpoint::open(&signed, signer().verifier()).expect("our own head");
            assert_eq!((opened.size, opened.root), (head.size, head.root));
        }
    }
    if let Ok(receipt) = InclusionReceipt::parse(text) {
        assert_eq!(receipt.to_string(), text);
        assert!(receipt.verify(b"an event of nobody", signer().verifier()).is_err());
    }
    if let Ok(path) = TilePath::parse(text) {
        assert_eq!(path.to_string(), text);
    }
    if let Ok(key) = NoteVerifier::parse(text) {
        assert_eq!(key.to_string(), text);
    }
}

/// Tiles and frontiers are written as they were read, and any proof can be planned without a panic.
fn stored(bytes: &[u8]) {
    let width = u16::try_from(bytes.len() / 32).unwrap_or(u16::MAX);
    if let Ok(hashes) = decode_tile(bytes, width) {
        assert_eq!(encode_tile(&hashes), bytes);
    }
    if let Ok(mut frontier) = Frontier::from_bytes(bytes) {
        assert_eq!(frontier.to_bytes(), bytes);
        let size = frontier.size();
        frontier.push(leaf_hash(b"one more"));
        assert_eq!(frontier.size(), size + 1);
    }
    if let Some((a, b)) =
        bytes.split_first_chunk::<8>().and_then(|(a, rest)| Some((a, rest.first_chunk::<8>()?)))
    {
        let (a, b) = (u64::from_be_bytes(*a), u64::from_be_bytes(*b));
        for plan in [ProofPlan::inclusion(a, b), ProofPlan::consistency(a, b)].into_iter().flatten() {
            assert!(plan.ranges().all(|range| range.count.is_power_of_two() && range.count <= 128));
        }
    }
}

/// A tree of what the bytes say: two sizes, an index, and the leaves.
fn proofs(bytes: &[u8]) {
    let Some(([index, old, altered], events)) = bytes.split_first_chunk::<3>() else { return };
    let leaves: Vec<Hash> = events.chunks(3).take(200).map(leaf_hash).collect();
    let Some(size) = u64::try_from(leaves.len()).ok().filter(|size| *size > 0) else { return };
    let mut frontier = Frontier::new();
    leaves.iter().for_each(|leaf| frontier.push(*leaf));
    let root = root_of(&leaves);
    assert_eq!(frontier.root(), root);

    let fetch = |range: bailiwick_audit::tree::TileRange| {
        let (from, to) = range.leaves();
        range.hashes_from_leaves(&leaves[from as usize..to as usize])
    };
    let (index, old) = (u64::from(*index) % size, u64::from(*old) % (size + 1));
    let leaf = leaves[index as usize];
    let mut proof = inclusion_proof::<AuditError>(index, size, fetch).expect("a proof for what is there");
    verify_inclusion(&leaf, index, size, &proof, &root).expect("it holds");
    assert!(verify_inclusion(&leaf_hash(b"another event"), index, size, &proof, &root).is_err());
    if !proof.is_empty() {
        let place = usize::from(*altered) % proof.len();
        proof[place].0[usize::from(*altered) % 32] ^= 1;
        assert!(verify_inclusion(&leaf, index, size, &proof, &root).is_err(), "an altered proof holds");
    }

    let before = root_of(&leaves[..old as usize]);
    let mut proof = consistency_proof::<AuditError>(old, size, fetch).expect("a proof for what is there");
    verify_consistency(old, &before, size, &root, &proof).expect("it holds");
    if !proof.is_empty() {
        let place = usize::from(*altered) % proof.len();
        proof[place].0[usize::from(*altered) % 32] ^= 1;
        assert!(verify_consistency(old, &before, size, &root, &proof).is_err(), "an altered proof holds");
    }
}

thread_local! {
    static BUNDLE: LazyCell<Bundle> = const { LazyCell::new(Bundle::write) };
}

/// One sound bundle on disk, a file of which is exchanged for each input.
struct Bundle {
    folder: PathBuf,
    files: Vec<(PathBuf, Vec<u8>)>,
}

impl Bundle {
    fn write() -> Bundle {
        let events: Vec<Vec<u8>> = (0..5).map(|n| format!(r#"{{"n":{n}}}"#).into_bytes()).collect();
        let leaves: Vec<Hash> = events.iter().map(|event| leaf_hash(event)).collect();
        let head =
            Checkpoint::new(ORIGIN, leaves.len() as u64, root_of(&leaves)).sign(&signer()).expect("a head");
        let folder = std::env::temp_dir().join(format!("bailiwick-fuzz-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        write_bundle::<_, AuditError>(&folder, events.iter().map(Ok), &head, signer().verifier())
            .expect("a bundle");
        let names = ["checkpoint", "vkey", "tile/entries/000.p/5", "tile/0/000.p/5"];
        let files = names.map(|name| folder.join(name));
        let files = files.map(|path| (path.clone(), fs::read(path).expect("a file of the bundle")));
        Bundle { folder, files: files.into() }
    }

    /// The next byte chooses a file, the rest is what it says now: whole, or laid over what it said.
    fn check(&self, bytes: &[u8]) {
        let Some((choice, new)) = bytes.split_first() else { return };
        let (path, sound) = &self.files[usize::from(*choice) % self.files.len()];
        let altered: Vec<u8> = match choice & 0x80 {
            0 => new.to_vec(),
            _ => sound.iter().zip(new.iter().chain(std::iter::repeat(&0))).map(|(a, b)| a ^ b).collect(),
        };
        fs::write(path, &altered).expect("the file is written");
        let verified = verify_bundle(&self.folder, Some(signer().verifier()));
        fs::write(path, sound).expect("the file is written back");
        assert_eq!(verified.is_ok(), altered == *sound, "{}: {verified:?}", path.display());
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn signer() -> NoteSigner {
    NoteSigner::from_seed(ORIGIN, &[7; 32]).expect("a key")
}
