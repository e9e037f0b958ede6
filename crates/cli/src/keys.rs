//! The keys in the data folder: made once, readable by their owner alone, never printed.
//!
//! | file | what |
//! |---|---|
//! | `keys/token.p8` | signs task tokens |
//! | `keys/ledger.seed` | signs the ledger's heads |
//! | `keys/maker.seed` | names and marks what we create in target systems |
//! | `keys/people/NAME.key` | signs a person in |
//! | `keys/agents/NAME.p8` | proves an agent |
//!
//! A file that others can read is refused: whoever could read it may have its key.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use bailiwick_api::wire::KEY_PREFIX;
use bailiwick_core::{AgentId, PrincipalId};
use bailiwick_token::{KeyAlgorithm, SigningKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::fail::{Exit, Failure};

/// Largest key file, in bytes.
const KEY_BYTES_MAX: u64 = 4096;

/// The keys of one data folder.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    folder: PathBuf,
}

impl Keys {
    /// The keys in a data folder, which need not exist yet.
    pub(crate) fn of(data: &Path) -> Self {
        Keys { folder: data.join("keys") }
    }

    /// The key that signs task tokens; made if there is none.
    pub(crate) fn token(&self) -> Result<SigningKey, Failure> {
        self.signing(&self.folder.join("token.p8"))
    }

    /// The seed of the key that signs the ledger's heads; made if there is none.
    pub(crate) fn ledger_seed(&self) -> Result<[u8; 32], Failure> {
        self.seed("ledger.seed")
    }

    /// The seed of our names and marks in target systems; made if there is none. Whoever loses it no longer knows
    /// what in those systems is ours.
    pub(crate) fn maker_seed(&self) -> Result<[u8; 32], Failure> {
        self.seed("maker.seed")
    }

    fn seed(&self, file: &str) -> Result<[u8; 32], Failure> {
        let path = self.folder.join(file);
        let bytes = match read(&path)? {
            Some(bytes) => bytes,
            None => {
                let seed = random()?;
                write_new(&path, &seed)?;
                seed.to_vec()
            }
        };
        bytes.try_into().map_err(|_| damaged(&path))
    }

    /// Where an agent's key is.
    pub(crate) fn agent_path(&self, agent: &AgentId) -> PathBuf {
        self.folder.join("agents").join(format!("{agent}.p8"))
    }

    /// An agent's key; made if there is none.
    pub(crate) fn agent(&self, agent: &AgentId) -> Result<SigningKey, Failure> {
        self.signing(&self.agent_path(agent))
    }

    /// Where a person's key is.
    pub(crate) fn person_path(&self, person: &PrincipalId) -> PathBuf {
        self.folder.join("people").join(format!("{}.key", file_name(person)))
    }

    /// A person's key, if it is here.
    pub(crate) fn person(&self, person: &PrincipalId) -> Result<Option<String>, Failure> {
        person_key(&self.person_path(person))
    }

    /// Makes a person's key, unless it is here already.
    pub(crate) fn found_person(&self, person: &PrincipalId) -> Result<String, Failure> {
        if let Some(key) = self.person(person)? {
            return Ok(key);
        }
        let key = format!("{KEY_PREFIX}{}", URL_SAFE_NO_PAD.encode(random()?));
        write_new(&self.person_path(person), key.as_bytes())?;
        Ok(key)
    }

    /// The person whose key signs in when nobody is named: the first operator.
    pub(crate) fn operator(&self) -> Result<Option<PrincipalId>, Failure> {
        let path = self.folder.join("operator");
        match fs::read_to_string(&path) {
            Ok(text) => PrincipalId::parse(text.trim()).map(Some).map_err(|_| damaged(&path)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Failure::file(&path, &e)),
        }
    }

    /// Notes who that is.
    pub(crate) fn set_operator(&self, person: &PrincipalId) -> Result<(), Failure> {
        let path = self.folder.join("operator");
        fs::write(&path, format!("{person}\n")).map_err(|e| Failure::file(&path, &e))
    }

    fn signing(&self, path: &Path) -> Result<SigningKey, Failure> {
        signing_key(path)?.map_or_else(
            || {
                let key = SigningKey::generate(KeyAlgorithm::Ed25519)?;
                write_new(path, &key.to_pkcs8())?;
                Ok(key)
            },
            Ok,
        )
    }
}

/// A signing key from a file, if it exists.
pub(crate) fn signing_key(path: &Path) -> Result<Option<SigningKey>, Failure> {
    match read(path)? {
        None => Ok(None),
        Some(der) => SigningKey::from_pkcs8(&der).map(Some).map_err(|_| damaged(path)),
    }
}

fn person_key(path: &Path) -> Result<Option<String>, Failure> {
    let Some(bytes) = read(path)? else { return Ok(None) };
    let text = String::from_utf8(bytes).map_err(|_| damaged(path))?;
    let key = text.trim().to_owned();
    if bailiwick_api::wire::key_digest(&key).is_none() {
        return Err(damaged(path));
    }
    Ok(Some(key))
}

/// `/` and `:` have no place in a file name; `%` marks how they are written.
fn file_name(person: &PrincipalId) -> String {
    person.as_str().replace('%', "%25").replace('/', "%2f").replace(':', "%3a")
}

fn random() -> Result<[u8; 32], Failure> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|_| Failure::failed("random.unavailable", "the machine gives no random bytes", ""))?;
    Ok(bytes)
}

fn damaged(path: &Path) -> Failure {
    let what = format!("{} is not a key that bailiwick wrote", path.display());
    Failure::failed("key.damaged", what, "Restore it from a backup; a new key is a new identity.")
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, Failure> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Failure::file(path, &e)),
    };
    owner_alone(path, &file)?;
    let mut bytes = Vec::new();
    file.take(KEY_BYTES_MAX).read_to_end(&mut bytes).map_err(|e| Failure::file(path, &e))?;
    Ok(Some(bytes))
}

#[cfg(unix)]
fn owner_alone(path: &Path, file: &File) -> Result<(), Failure> {
    use std::os::unix::fs::PermissionsExt;
    let mode = file.metadata().map_err(|e| Failure::file(path, &e))?.permissions().mode();
    if mode & 0o077 == 0 {
        return Ok(());
    }
    let what = format!("{} can be read by others (mode {:o})", path.display(), mode & 0o777);
    let next = format!("If nobody has, `chmod 600 {}`; else make a new one.", path.display());
    Err(Failure::new(Exit::Failed, "key.exposed", what, next))
}

#[cfg(not(unix))]
fn owner_alone(_: &Path, _: &File) -> Result<(), Failure> {
    Ok(())
}

/// Writes a file that was not there, for its owner alone, and makes sure that it is on the disk.
fn write_new(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let trouble = |e: std::io::Error| Failure::file(path, &e);
    if let Some(folder) = path.parent() {
        private_folder(folder)?;
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path).map_err(trouble)?;
    file.write_all(bytes).map_err(trouble)?;
    file.sync_all().map_err(trouble)
}

/// Makes a folder, and those above it, that only its owner can enter.
pub(crate) fn private_folder(path: &Path) -> Result<(), Failure> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(|e| Failure::file(path, &e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_made_once_and_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let keys = Keys::of(dir.path());
        let dana = PrincipalId::parse("workflow:it/dana@example.org").unwrap();
        let agent = AgentId::parse("support").unwrap();
        assert_eq!(keys.person(&dana).unwrap(), None);
        assert_eq!(keys.operator().unwrap(), None);
        let key = keys.found_person(&dana).unwrap();
        assert!(bailiwick_api::wire::key_digest(&key).is_some());
        assert_eq!(keys.person(&dana).unwrap(), Some(key));
        assert_eq!(keys.ledger_seed().unwrap(), keys.ledger_seed().unwrap());
        assert_eq!(keys.token().unwrap().public().jkt(), keys.token().unwrap().public().jkt());
        assert_ne!(keys.agent(&agent).unwrap().public().jkt(), keys.token().unwrap().public().jkt());
        keys.set_operator(&dana).unwrap();
        assert_eq!(keys.operator().unwrap(), Some(dana));
    }

    #[cfg(unix)]
    #[test]
    fn a_key_that_others_can_read_is_refused_and_made_ones_cannot_be_read() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let keys = Keys::of(dir.path());
        keys.token().unwrap();
        let path = dir.path().join("keys/token.p8");
        let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(keys.token().unwrap_err().code, "key.exposed");
    }

    #[test]
    fn a_damaged_key_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let keys = Keys::of(dir.path());
        private_folder(&dir.path().join("keys")).unwrap();
        write_new(&dir.path().join("keys/token.p8"), b"nonsense").unwrap();
        assert_eq!(keys.token().unwrap_err().code, "key.damaged");
    }
}
