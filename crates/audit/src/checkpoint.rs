//! Signed heads of the ledger: C2SP signed-note v1.0.0 and tlog-checkpoint v1.0.0, with Ed25519.
//!
//! A [`Checkpoint`] says "this log, this size, this root"; [`Checkpoint::sign`] turns it into a signed
//! note and [`Checkpoint::open`] gives it back only if the log's key signed exactly that text. Signature
//! lines of other keys (witnesses, older keys) are kept and otherwise ignored. Parsing is strict and capped.

use std::fmt;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::{Engine, prelude::BASE64_STANDARD};
use sha2::{Digest, Sha256};

use crate::{
    error::AuditError,
    tree::{Hash, MAX_TREE_SIZE, verify_consistency},
};

/// Largest note that is read, in bytes.
pub const MAX_NOTE_BYTES: usize = 128 * 1024;
/// Most signature lines that are read; signed-note asks for at least 16.
pub const MAX_SIGNATURES: usize = 64;
/// Longest key name or origin, in bytes.
pub const MAX_NAME_BYTES: usize = 255;

/// Signature type byte of plain Ed25519 (signed-note v1.0.0, "Signature types").
const TYPE_ED25519: u8 = 0x01;

/// The head of a ledger: which log, how many entries, which root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name; also the name of its key.
    pub origin: String,
    /// Number of entries.
    pub size: u64,
    /// RFC 6962 root over them.
    pub root: Hash,
    /// Extension lines, usually none: signed with the rest, but opaque to monitors.
    pub extensions: Vec<String>,
}

impl Checkpoint {
    /// A head without extension lines.
    #[must_use]
    pub fn new(origin: impl Into<String>, size: u64, root: Hash) -> Self {
        Self { origin: origin.into(), size, root, extensions: Vec::new() }
    }

    /// The text that is signed: origin, size, root and extensions, one line each.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!("{}\n{}\n{}\n", self.origin, self.size, self.root);
        for line in &self.extensions {
            text.push_str(line);
            text.push('\n');
        }
        text
    }

    /// Reads the text of a checkpoint. Says nothing about who signed it: see [`Checkpoint::open`].
    ///
    /// # Errors
    /// [`AuditError::Note`] if it is not exactly what [`Checkpoint::to_text`] would write.
    pub fn from_text(text: &str) -> Result<Self, AuditError> {
        let body = text.strip_suffix('\n').ok_or(AuditError::Note("the text does not end in a newline"))?;
        let mut lines = body.split('\n');
        let mut line = || lines.next().ok_or(AuditError::Note("fewer than three lines"));
        let (origin, size, root) = (line()?, line()?, line()?);
        let size = parse_decimal(size).ok_or(AuditError::Note("the size is not a plain decimal number"))?;
        if size > MAX_TREE_SIZE {
            return Err(AuditError::Note("the size is beyond any ledger"));
        }
        let root = Hash::from_base64(root).map_err(|_| AuditError::Note("the root is not a base64 hash"))?;
        let extensions = lines.map(str::to_owned).collect();
        let checkpoint = Self { origin: origin.to_owned(), size, root, extensions };
        checkpoint.check()?;
        Ok(checkpoint)
    }

    /// Signs this head. The result is the content of the file `checkpoint`.
    ///
    /// The caller answers for never signing two heads that contradict each other (INV8).
    ///
    /// # Errors
    /// [`AuditError::Origin`] if the key is not named like the log, [`AuditError::Note`] if a line
    /// is empty, too long or holds a control character.
    pub fn sign(&self, signer: &NoteSigner) -> Result<String, AuditError> {
        self.check()?;
        self.check_origin(signer.name())?;
        let note = Note { text: self.to_text(), signatures: Vec::new() };
        Ok(note.signed_by(signer).to_string())
    }

    /// Reads a signed head and checks the log's signature and name.
    ///
    /// # Errors
    /// [`AuditError::Note`] if it is malformed, [`AuditError::Signature`] if `log_key` did not sign it,
    /// [`AuditError::Origin`] if it is signed by that key but speaks of another log.
    pub fn open(note: &str, log_key: &NoteVerifier) -> Result<Self, AuditError> {
        let note = Note::parse(note)?;
        note.verify(&[log_key])?;
        let checkpoint = Self::from_text(&note.text)?;
        checkpoint.check_origin(log_key.name())?;
        Ok(checkpoint)
    }

    /// Checks that this head extends `older`: the same log, not smaller, and everything in it unchanged.
    ///
    /// # Errors
    /// [`AuditError::Origin`], [`AuditError::RolledBack`], [`AuditError::Inconsistent`] for two roots at
    /// one size (a split view), or [`AuditError::Proof`] if the proof does not hold.
    pub fn verify_extends(&self, older: &Self, proof: &[Hash]) -> Result<(), AuditError> {
        self.check_not_behind(older)?;
        if self.size == older.size && self.root != older.root {
            return Err(AuditError::Inconsistent {
                size: older.size,
                expected: older.root,
                found: self.root,
            });
        }
        verify_consistency(older.size, &older.root, self.size, &self.root, proof)
    }

    /// Checks that this head is of the same log as `older` and not smaller.
    ///
    /// # Errors
    /// [`AuditError::Origin`] or [`AuditError::RolledBack`].
    pub fn check_not_behind(&self, older: &Self) -> Result<(), AuditError> {
        self.check_origin(&older.origin)?;
        if self.size < older.size {
            return Err(AuditError::RolledBack { seen: older.size, size: self.size });
        }
        Ok(())
    }

    fn check_origin(&self, expected: &str) -> Result<(), AuditError> {
        if self.origin != expected {
            return Err(AuditError::Origin { expected: expected.to_owned(), found: self.origin.clone() });
        }
        Ok(())
    }

    fn check(&self) -> Result<(), AuditError> {
        let mut lines = std::iter::once(&self.origin).chain(&self.extensions);
        if lines.any(|line| line.is_empty() || line.contains(|c: char| c < ' ')) {
            return Err(AuditError::Note("a line is empty or holds a control character"));
        }
        if self.origin.len() > MAX_NAME_BYTES {
            return Err(AuditError::Note("the origin is too long"));
        }
        Ok(())
    }
}

/// A signed note: a text and signature lines (C2SP signed-note v1.0.0).
///
/// Parsing proves nothing; trust [`Note::text`] only after [`Note::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The signed text, its final newline included.
    pub text: String,
    /// All signature lines, in order, known or not.
    pub signatures: Vec<NoteSignature>,
}

/// One signature line: `— name base64(key id || signature)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteSignature {
    /// Name of the key.
    pub name: String,
    /// First four bytes of the key's hash; a hint, not an authenticator.
    pub key_id: [u8; 4],
    /// The signature itself, in the form its type defines.
    pub signature: Vec<u8>,
}

impl Note {
    /// Reads a note, strictly.
    ///
    /// # Errors
    /// [`AuditError::Note`] for anything that signed-note does not allow, and past the caps of this module.
    pub fn parse(note: &str) -> Result<Self, AuditError> {
        if note.len() > MAX_NOTE_BYTES {
            return Err(AuditError::Note("the note is too large"));
        }
        if note.contains(|c: char| c < ' ' && c != '\n') {
            return Err(AuditError::Note("it holds a control character"));
        }
        let (text, lines) =
            note.rsplit_once("\n\n").ok_or(AuditError::Note("there is no signature block"))?;
        let lines = lines.strip_suffix('\n').ok_or(AuditError::Note("the last line does not end"))?;
        let signatures = lines.split('\n').map(NoteSignature::parse).collect::<Result<Vec<_>, _>>()?;
        if signatures.len() > MAX_SIGNATURES {
            return Err(AuditError::Note("there are too many signatures"));
        }
        Ok(Self { text: format!("{text}\n"), signatures })
    }

    /// Checks every signature made by one of `keys`; gives how many there are, at least one.
    ///
    /// # Errors
    /// [`AuditError::Signature`] if a signature of a known key is wrong, or if no known key signed.
    pub fn verify(&self, keys: &[&NoteVerifier]) -> Result<usize, AuditError> {
        let mut verified = 0;
        for signature in &self.signatures {
            if let Some(key) = keys.iter().find(|key| key.made(signature)) {
                key.verify(self.text.as_bytes(), &signature.signature)?;
                verified += 1;
            }
        }
        if verified == 0 {
            return Err(AuditError::Signature("no trusted key signed this note"));
        }
        Ok(verified)
    }

    /// The same note with one more signature at the end.
    #[must_use]
    pub fn signed_by(mut self, signer: &NoteSigner) -> Self {
        self.signatures.push(signer.sign(&self.text));
        self
    }
}

impl fmt::Display for Note {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{}", self.text)?;
        self.signatures.iter().try_for_each(|signature| writeln!(out, "{signature}"))
    }
}

impl NoteSignature {
    fn parse(line: &str) -> Result<Self, AuditError> {
        let malformed = AuditError::Note("a signature line is not `— name base64`");
        let Some((name, blob)) = line.strip_prefix("\u{2014} ").and_then(|rest| rest.split_once(' ')) else {
            return Err(malformed);
        };
        let Ok(blob) = BASE64_STANDARD.decode(blob) else { return Err(malformed) };
        match blob.split_first_chunk::<4>() {
            Some((key_id, signature)) if is_key_name(name) && !signature.is_empty() => {
                Ok(Self { name: name.to_owned(), key_id: *key_id, signature: signature.to_vec() })
            }
            _ => Err(malformed),
        }
    }
}

impl fmt::Display for NoteSignature {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let blob = [&self.key_id[..], &self.signature].concat();
        write!(out, "\u{2014} {} {}", self.name, BASE64_STANDARD.encode(blob))
    }
}

/// A log's private key. Never shows the key itself.
pub struct NoteSigner {
    key: Ed25519KeyPair,
    verifier: NoteVerifier,
}

impl NoteSigner {
    /// A key from its 32-byte RFC 8032 seed, which the caller drew at random and keeps secret.
    ///
    /// # Errors
    /// [`AuditError::Key`] if the name is empty, too long, or holds spaces, `+` or control characters.
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Result<Self, AuditError> {
        let key =
            Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| AuditError::Key("no Ed25519 seed"))?;
        let public = key.public_key().as_ref().try_into().map_err(|_| AuditError::Key("no Ed25519 key"))?;
        Ok(Self { verifier: NoteVerifier::new(name, public)?, key })
    }

    /// The key's name, which is the log's origin.
    #[must_use]
    pub fn name(&self) -> &str {
        self.verifier.name()
    }

    /// The public half. Its `Display` is the vkey to hand to auditors.
    #[must_use]
    pub fn verifier(&self) -> &NoteVerifier {
        &self.verifier
    }

    fn sign(&self, text: &str) -> NoteSignature {
        NoteSignature {
            name: self.name().to_owned(),
            key_id: self.verifier.key_id,
            signature: self.key.sign(text.as_bytes()).as_ref().to_vec(),
        }
    }
}

impl fmt::Debug for NoteSigner {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("NoteSigner").field("verifier", &self.verifier).finish_non_exhaustive()
    }
}

/// A log's public key. `Display` and [`NoteVerifier::parse`] use the vkey form `name+keyid+base64`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteVerifier {
    name: String,
    key_id: [u8; 4],
    public: [u8; 32],
}

impl NoteVerifier {
    /// A key from its name and its 32 bytes (RFC 8032).
    ///
    /// # Errors
    /// [`AuditError::Key`] if the name is empty, too long, or holds spaces, `+` or control characters.
    pub fn new(name: &str, public: [u8; 32]) -> Result<Self, AuditError> {
        if !is_key_name(name) {
            return Err(AuditError::Key(
                "a name has 1 to 255 bytes and no spaces, `+` or control characters",
            ));
        }
        let digest = Sha256::new()
            .chain_update(name)
            .chain_update([b'\n', TYPE_ED25519])
            .chain_update(public)
            .finalize();
        let key_id = [digest[0], digest[1], digest[2], digest[3]];
        Ok(Self { name: name.to_owned(), key_id, public })
    }

    /// Reads a vkey: `name+hex(key id)+base64(0x01 || key)`.
    ///
    /// # Errors
    /// [`AuditError::Key`] unless it is exactly what `Display` writes; the key id must fit name and key.
    pub fn parse(vkey: &str) -> Result<Self, AuditError> {
        let mut parts = vkey.splitn(3, '+');
        let (Some(name), Some(_), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(AuditError::Key("a vkey is `name+keyid+base64`"));
        };
        let key =
            BASE64_STANDARD.decode(key).map_err(|_| AuditError::Key("the key is not canonical base64"))?;
        let public = match key.split_first() {
            Some((&TYPE_ED25519, public)) => public.try_into().ok(),
            _ => None,
        };
        let verifier =
            Self::new(name, public.ok_or(AuditError::Key("only Ed25519 keys (type 1) are known"))?)?;
        if verifier.to_string() != vkey {
            return Err(AuditError::Key("the key id does not belong to this name and key"));
        }
        Ok(verifier)
    }

    /// The key's name, which is the log's origin.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The public key's 32 bytes.
    #[must_use]
    pub fn public_key(&self) -> &[u8; 32] {
        &self.public
    }

    fn made(&self, signature: &NoteSignature) -> bool {
        self.name == signature.name && self.key_id == signature.key_id
    }

    fn verify(&self, text: &[u8], signature: &[u8]) -> Result<(), AuditError> {
        UnparsedPublicKey::new(&ED25519, &self.public)
            .verify(text, signature)
            .map_err(|_| AuditError::Signature("the signature does not fit the text"))
    }
}

impl fmt::Display for NoteVerifier {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = [&[TYPE_ED25519], &self.public[..]].concat();
        let [a, b, c, d] = self.key_id;
        write!(out, "{}+{a:02x}{b:02x}{c:02x}{d:02x}+{}", self.name, BASE64_STANDARD.encode(key))
    }
}

/// Reads a decimal number without sign and leading zeroes.
pub(crate) fn parse_decimal(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    plain.then(|| text.parse().ok()).flatten()
}

fn is_key_name(name: &str) -> bool {
    let allowed = |c: char| !c.is_whitespace() && !c.is_control() && c != '+';
    (1..=MAX_NAME_BYTES).contains(&name.len()) && name.chars().all(allowed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tree::{Frontier, consistency_proof, leaf_hash, root_of};

    const ORIGIN: &str = "bailiwick.example/ledger";

    fn signer() -> NoteSigner {
        NoteSigner::from_seed(ORIGIN, &[7; 32]).unwrap()
    }

    fn head(size: u64) -> Checkpoint {
        let mut frontier = Frontier::new();
        (0..size).for_each(|i| frontier.push(leaf_hash(&i.to_be_bytes())));
        Checkpoint::new(ORIGIN, size, frontier.root())
    }

    /// An auditor opens a head that the ledger signed; one with any other content, name or key is refused.
    // proves: INV8, P4, A67
    #[test]
    fn a_signed_head_opens_and_a_forged_one_does_not() {
        let (signer, head) = (signer(), head(5));
        let note = head.sign(&signer).unwrap();
        assert_eq!(Checkpoint::open(&note, signer.verifier()).unwrap(), head);

        let refused = |note: &str, key: &NoteVerifier| Checkpoint::open(note, key).unwrap_err().code();
        assert_eq!(refused(&note.replace("\n5\n", "\n6\n"), signer.verifier()), "audit.signature");
        let stranger = NoteSigner::from_seed(ORIGIN, &[8; 32]).unwrap();
        assert_eq!(refused(&note, stranger.verifier()), "audit.signature");
        let renamed = NoteSigner::from_seed("other.example/ledger", &[7; 32]).unwrap();
        assert_eq!(refused(&note, renamed.verifier()), "audit.signature");

        let foreign = Note { text: head.to_text(), signatures: vec![] }.signed_by(&renamed).to_string();
        assert_eq!(refused(&foreign, renamed.verifier()), "audit.origin");
        assert_eq!(head.sign(&renamed).unwrap_err().code(), "audit.origin");
    }

    /// The example key and note that the Go implementation of signed notes publishes in its documentation.
    #[test]
    fn a_published_note_verifies() {
        let vkey = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
        let note = "If you think cryptography is the answer to your problem,\n\
                    then you don't know what your problem is.\n\n\
                    \u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
        let key = NoteVerifier::parse(vkey).unwrap();
        assert_eq!(key.to_string(), vkey);
        assert_eq!(Note::parse(note).unwrap().verify(&[&key]).unwrap(), 1);
        assert_eq!(Note::parse(note).unwrap().to_string(), note);
        let altered = note.replace("answer", "ANSWER");
        assert_eq!(Note::parse(&altered).unwrap().verify(&[&key]).unwrap_err().code(), "audit.signature");
    }

    #[test]
    fn signatures_of_others_are_kept_and_not_counted() {
        let witness = NoteSigner::from_seed("witness.example", &[9; 32]).unwrap();
        let note = Note::parse(&head(3).sign(&signer()).unwrap()).unwrap().signed_by(&witness).to_string();
        assert_eq!(Note::parse(&note).unwrap().to_string(), note);
        assert_eq!(Checkpoint::open(&note, signer().verifier()).unwrap(), head(3));
        assert_eq!(
            Note::parse(&note).unwrap().verify(&[signer().verifier(), witness.verifier()]).unwrap(),
            2
        );

        // One good signature does not excuse a bad one of a key that is trusted as well.
        let mut spoiled = Note::parse(&note).unwrap();
        spoiled.signatures[1].signature[0] ^= 1;
        assert!(spoiled.verify(&[signer().verifier()]).is_ok());
        let both = spoiled.verify(&[signer().verifier(), witness.verifier()]);
        assert_eq!(both.unwrap_err().code(), "audit.signature");
    }

    #[test]
    fn malformed_notes_are_refused() {
        let good = head(5).sign(&signer()).unwrap();
        let line = good.lines().last().unwrap();
        let root = head(5).root;
        for bad in [
            String::new(),
            "text".to_owned(),
            "text\n\n".to_owned(),
            good.trim_end().to_owned(),
            good.replace('\u{2014}', "-"),
            good.replace("\n5\n", "\n5\r\n"),
            format!("{good}junk\n"),
            format!("{good}\n"),
            good.replace(line, "\u{2014} name AAAA"),
            good.replace(line, "\u{2014} na+me AAAAAAAA"),
            good.replace(line, "\u{2014}  AAAAAAAA"),
            format!("{good}{}", format!("{line}\n").repeat(MAX_SIGNATURES)),
            format!("{}{good}", "x\n".repeat(MAX_NOTE_BYTES)),
        ] {
            assert_eq!(Note::parse(&bad).unwrap_err().code(), "audit.note", "{:.80}", bad);
        }
        for bad in [
            format!("{ORIGIN}\n05\n{root}\n"),
            format!("{ORIGIN}\n+5\n{root}\n"),
            format!("{ORIGIN}\n\n{root}\n"),
            format!("{ORIGIN}\n{}\n{root}\n", u64::MAX),
            format!("{ORIGIN}\n5\n{root}"),
            format!("{ORIGIN}\n5\n{root}x\n"),
            format!("{ORIGIN}\n5\n"),
            format!("\n5\n{root}\n"),
            format!("{ORIGIN}\n5\n{root}\n\nextension\n"),
        ] {
            assert_eq!(Checkpoint::from_text(&bad).unwrap_err().code(), "audit.note", "{bad}");
        }
    }

    #[test]
    fn malformed_vkeys_are_refused() {
        let vkey = signer().verifier().to_string();
        assert_eq!(&NoteVerifier::parse(&vkey).unwrap(), signer().verifier());
        let (name, rest) = vkey.split_once('+').unwrap();
        let (id, key) = rest.split_once('+').unwrap();
        for bad in [
            String::new(),
            name.to_owned(),
            format!("{name}+{id}"),
            format!("{name}+00000000+{key}"),
            format!("{name}x+{id}+{key}"),
            format!("{name}+{}+{key}", id.to_uppercase()),
            format!("{name}+{id}+{key}\n"),
            format!("{name}+{id}+Ag{}", &key[2..]),
        ] {
            assert_eq!(NoteVerifier::parse(&bad).unwrap_err().code(), "audit.key", "{bad}");
        }
        for name in ["", "a b", "a+b", "a\nb", "a\u{2003}b"] {
            assert_eq!(NoteSigner::from_seed(name, &[7; 32]).unwrap_err().code(), "audit.key", "{name:?}");
        }
    }

    #[test]
    fn the_private_key_is_never_shown() {
        let seed = [0x5a; 32];
        let shown = format!("{:?}", NoteSigner::from_seed(ORIGIN, &seed).unwrap());
        for form in
            [format!("{seed:?}"), "5a5a5a".to_owned(), BASE64_STANDARD.encode(seed), "90, 90".to_owned()]
        {
            assert!(!shown.contains(&form), "{shown}");
        }
    }

    /// A verifier that remembers an older head refuses a rollback, a split view and a rewritten past.
    // proves: INV8, A68, A69
    #[test]
    fn a_head_extends_only_its_own_past() {
        let leaves: Vec<_> = (0..20_u64).map(|i| leaf_hash(&i.to_be_bytes())).collect();
        let proof = consistency_proof::<AuditError>(5, 20, |range| {
            let (from, to) = range.leaves();
            range.hashes_from_leaves(&leaves[from as usize..to as usize])
        });
        let proof = proof.unwrap();
        head(20).verify_extends(&head(5), &proof).unwrap();
        head(20).verify_extends(&head(20), &[]).unwrap();
        head(20).verify_extends(&head(0), &[]).unwrap();

        let refused =
            |new: &Checkpoint, old: &Checkpoint| new.verify_extends(old, &proof).unwrap_err().code();
        let forked = Checkpoint::new(ORIGIN, 5, root_of(&leaves[1..6]));
        assert_eq!(refused(&head(5), &head(20)), "audit.rolled_back");
        assert_eq!(refused(&forked, &head(5)), "audit.inconsistent");
        assert_eq!(refused(&head(20), &forked), "audit.proof");
        assert_eq!(refused(&head(20), &Checkpoint::new("other", 5, head(5).root)), "audit.origin");
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(note in "(\\PC|\n|\u{2014} )*") {
            let _ = Note::parse(&note);
            let _ = Checkpoint::from_text(&note);
            let _ = NoteVerifier::parse(&note);
        }

        #[test]
        fn what_parses_is_written_back_unchanged(size in 0..MAX_TREE_SIZE, root: [u8; 32], extra in proptest::collection::vec("[!-~]{1,9}", 0..3)) {
            let checkpoint = Checkpoint { extensions: extra, ..Checkpoint::new(ORIGIN, size, Hash(root)) };
            let note = checkpoint.sign(&signer()).unwrap();
            prop_assert_eq!(Note::parse(&note).unwrap().to_string(), note.clone());
            prop_assert_eq!(Checkpoint::open(&note, signer().verifier()).unwrap(), checkpoint);
        }
    }
}
