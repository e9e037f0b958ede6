//! The committed vectors are what the code makes, and an independent verifier agrees with ours.
//!
//! With `BAILIWICK_WRITE_VECTORS` set the vectors are written anew instead of compared.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use bailiwick_audit::{
    AuditError, Checkpoint, Hash, InclusionReceipt, NoteSigner, ProofPlan, TileRange, consistency_proof,
    inclusion_proof, leaf_hash, root_of, verify_bundle, verify_consistency, verify_inclusion, write_bundle,
};
use serde_json::{Value, json};
use tempfile::TempDir;

const ORIGIN: &str = "sample.bailiwick.example/ledger";
const SIZE: u64 = 300;
const RECEIPT_INDEX: u64 = 270;

/// A test key. Anyone can sign with it.
fn signer() -> NoteSigner {
    NoteSigner::from_seed(ORIGIN, b"bailiwick sample key, not secret").unwrap()
}

fn sample_events() -> Vec<String> {
    (0..SIZE).map(|n| format!(r#"{{"n":{n},"note":"sample event","task":"task-{}"}}"#, n % 7)).collect()
}

fn leaves<B: AsRef<[u8]>>(events: &[B]) -> Vec<Hash> {
    events.iter().map(|event| leaf_hash(event.as_ref())).collect()
}

fn fetch(leaves: &[Hash]) -> impl FnMut(TileRange) -> Result<Vec<Hash>, AuditError> + '_ {
    |range| {
        let (from, to) = range.leaves();
        range.hashes_from_leaves(&leaves[from as usize..to as usize])
    }
}

fn write_sample(dir: &Path) {
    let events = sample_events();
    let head = Checkpoint::new(ORIGIN, SIZE, root_of(&leaves(&events)));
    let note = head.sign(&signer()).unwrap();
    let entries = events.iter().map(Ok::<_, AuditError>);
    write_bundle(&dir.join("sample"), entries, &note, signer().verifier()).unwrap();

    let proof = inclusion_proof(RECEIPT_INDEX, SIZE, fetch(&leaves(&events))).unwrap();
    let receipt = InclusionReceipt { index: RECEIPT_INDEX, proof, checkpoint: note };
    fs::write(dir.join("receipt.tlog-proof"), receipt.to_string()).unwrap();
    let proofs = serde_json::to_string_pretty(&proof_cases(&events)).unwrap();
    fs::write(dir.join("proofs.json"), proofs + "\n").unwrap();
}

/// Roots and proofs of small trees. Each proof comes with forgeries of it that must be refused.
fn proof_cases(events: &[String]) -> Value {
    let sizes = [1, 2, 3, 5, 7, 8, 12, 13, 20_u64];
    let entries: Vec<Vec<u8>> = (0..20_u8).map(|n| (0..n).collect()).collect();
    let leaves = leaves(&entries);
    let roots: Vec<Hash> = (0..=leaves.len()).map(|size| root_of(&leaves[..size])).collect();
    let root = |size: u64| roots[size as usize];
    let (mut inclusion, mut consistency) = (Vec::new(), Vec::new());

    for size in sizes {
        for index in 0..size {
            let proof = inclusion_proof(index, size, fetch(&leaves)).unwrap();
            let mut add = |name: &str, index: u64, size: u64, proof: &[Hash], root: Hash, valid: bool| {
                let name = format!("entry {index} of {size}, {name}");
                let leaf = leaves[(index % 20) as usize];
                inclusion.push(json!({ "name": name, "index": index, "size": size, "leaf": leaf,
                    "proof": proof, "root": root, "valid": valid }));
            };
            add("honest", index, size, &proof, root(size), true);
            if index % 4 == 1 {
                add("of another tree", index, size, &proof, root(size - 1), false);
                add("cut", index, size, &proof[1..], root(size), false);
                add("prolonged", index, size, &[&proof[..], &[root(1)]].concat(), root(size), false);
                add("outside the tree", index + size, size, &proof, root(size), false);
            }
        }
    }
    for new in sizes {
        for old in (0..=new).filter(|old| *old == 0 || sizes.contains(old)) {
            let proof = consistency_proof(old, new, fetch(&leaves)).unwrap();
            let mut add = |name: &str, old: u64, new: u64, roots: [Hash; 2], proof: &[Hash], valid: bool| {
                let name = format!("from {old} to {new}, {name}");
                consistency.push(json!({ "name": name, "old": old, "new": new, "old_root": roots[0],
                    "new_root": roots[1], "proof": proof, "valid": valid }));
            };
            add("honest", old, new, [root(old), root(new)], &proof, true);
            add("forked", old, new, [leaf_hash(b"forked"), root(new)], &proof, false);
            add("prolonged", old, new, [root(old), root(new)], &[&proof[..], &[root(1)]].concat(), false);
            if old < new {
                add("backwards", new, old, [root(new), root(old)], &proof, false);
            }
            if !proof.is_empty() {
                add("cut", old, new, [root(old), root(new)], &proof[1..], false);
            }
        }
    }
    let hex = |bytes: &Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    json!({
        "entries_hex": entries.iter().map(hex).collect::<Vec<_>>(),
        "roots": roots,
        "inclusion": inclusion,
        "consistency": consistency,
        "receipt": { "entry": events[RECEIPT_INDEX as usize], "not_entry": events[RECEIPT_INDEX as usize - 1] },
    })
}

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vectors/audit")
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

fn verify_py(arguments: &[&Path]) -> Output {
    let mut command = Command::new("python3");
    command.arg(vectors().join("verify.py")).args(arguments);
    command.output().expect("python3 is needed to compare with the independent verifier")
}

/// The same bytes; a JSON page may name its members in another order, which a build may choose.
fn same(made: &[u8], committed: &[u8]) -> bool {
    let json = |bytes| serde_json::from_slice::<serde_json::Value>(bytes).ok();
    made == committed || json(made).is_some_and(|page| Some(page) == json(committed))
}

#[test]
fn the_committed_vectors_are_fresh() {
    if std::env::var_os("BAILIWICK_WRITE_VECTORS").is_some() {
        let _ = fs::remove_dir_all(vectors().join("sample"));
        write_sample(&vectors());
    }
    let fresh = TempDir::new().unwrap();
    write_sample(fresh.path());
    for made in files(fresh.path()) {
        let name = made.strip_prefix(fresh.path()).unwrap();
        let committed = fs::read(vectors().join(name)).unwrap_or_default();
        assert!(
            same(&fs::read(&made).unwrap(), &committed),
            "{} is stale: see vectors/audit/README.md",
            name.display()
        );
    }
    assert_eq!(files(&fresh.path().join("sample")).len(), files(&vectors().join("sample")).len());
}

/// What is committed verifies, and every forgery in it is refused.
// proves: INV8, P4
#[test]
fn the_committed_vectors_hold() {
    let report = verify_bundle(&vectors().join("sample"), Some(signer().verifier())).unwrap();
    assert_eq!((report.size, report.origin.as_str()), (SIZE, ORIGIN));

    let cases: Value = serde_json::from_slice(&fs::read(vectors().join("proofs.json")).unwrap()).unwrap();
    let hash = |value: &Value| serde_json::from_value::<Hash>(value.clone()).unwrap();
    let proof = |value: &Value| serde_json::from_value::<Vec<Hash>>(value.clone()).unwrap();
    let number = |value: &Value| value.as_u64().unwrap();
    let check = |case: &Value, outcome: Result<(), AuditError>| {
        assert_eq!(outcome.is_ok(), case["valid"].as_bool().unwrap(), "{}", case["name"]);
    };
    for case in cases["inclusion"].as_array().unwrap() {
        let (index, size, path) = (number(&case["index"]), number(&case["size"]), proof(&case["proof"]));
        check(case, verify_inclusion(&hash(&case["leaf"]), index, size, &path, &hash(&case["root"])));
    }
    for case in cases["consistency"].as_array().unwrap() {
        let (old, new, path) = (number(&case["old"]), number(&case["new"]), proof(&case["proof"]));
        check(case, verify_consistency(old, &hash(&case["old_root"]), new, &hash(&case["new_root"]), &path));
        assert_eq!(ProofPlan::consistency(old, new).is_ok(), old <= new);
    }

    let receipt = fs::read_to_string(vectors().join("receipt.tlog-proof")).unwrap();
    let receipt = InclusionReceipt::parse(&receipt).unwrap();
    let entry = |name: &str| cases["receipt"][name].as_str().unwrap().to_owned();
    receipt.verify(entry("entry").as_bytes(), signer().verifier()).unwrap();
    let other = receipt.verify(entry("not_entry").as_bytes(), signer().verifier());
    assert_eq!(other.unwrap_err().code(), "audit.proof");
}

/// A verifier that shares no code with ours accepts the same bundle and refuses the same alterations.
// proves: INV8, P4, A67
#[test]
fn an_independent_verifier_agrees() {
    let whole = verify_py(&["--vectors".as_ref(), &vectors()]);
    assert!(whole.status.success(), "{}", String::from_utf8_lossy(&whole.stderr));

    let dir = TempDir::new().unwrap();
    write_sample(dir.path());
    let sample = dir.path().join("sample");
    let vkey = signer().verifier().to_string();
    let pinned = [&sample, Path::new("--vkey"), Path::new(&vkey)];
    assert!(verify_py(&pinned).status.success());

    for file in files(&sample) {
        let good = fs::read(&file).unwrap();
        for position in [0, good.len() / 3, good.len() / 2, good.len() - 1] {
            let mut bad = good.clone();
            bad[position] ^= 0x01;
            fs::write(&file, bad).unwrap();
            let outcome = verify_py(&pinned);
            assert_eq!(outcome.status.code(), Some(1), "{} byte {position}", file.display());
            assert!(verify_bundle(&sample, Some(signer().verifier())).is_err());
        }
        fs::write(&file, good).unwrap();
    }
    assert!(verify_py(&pinned).status.success());
}
