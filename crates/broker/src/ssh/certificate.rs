//! User certificates of OpenSSH, Ed25519 only: issued, read back and checked.
//!
//! The form is that of OpenSSH's PROTOCOL.certkeys on RFC 4251 section 5. Signatures are made and checked by the one
//! crypto stack; only the formats of keys come from elsewhere. A certificate that cannot be read back and verified
//! is never given out.

use std::collections::BTreeMap;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ssh_key::private::{Ed25519Keypair, Ed25519PrivateKey, KeypairData};
use ssh_key::public::{Ed25519PublicKey, KeyData};
use ssh_key::{Certificate, LineEnding, PrivateKey, PublicKey};
use zeroize::Zeroizing;

use crate::error::BrokerError;
use crate::secret::Secret;

/// How a certificate's line begins.
const ALGORITHM: &str = "ssh-ed25519-cert-v01@openssh.com";
/// The one kind of key.
const ED25519_NAME: &str = "ssh-ed25519";
/// The bytes that the signature takes at the end of a certificate: its length, the algorithm, the signature.
const SIGNATURE_BYTES: usize = 4 + (4 + ED25519_NAME.len()) + (4 + 64);
/// A user certificate, in contrast to one of a host.
const USER: u32 = 1;

/// The key that certificates are signed with.
pub(super) struct Authority {
    pair: Ed25519KeyPair,
}

/// What a certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Terms {
    /// Whose key.
    pub(super) key: [u8; 32],
    /// A number, for logs.
    pub(super) serial: u64,
    /// Who it is for, for logs.
    pub(super) key_id: String,
    /// The one principal.
    pub(super) principal: String,
    /// From when, in seconds since 1970.
    pub(super) after: u64,
    /// Until when.
    pub(super) before: u64,
    /// The one command that runs, whatever is asked for.
    pub(super) force_command: String,
    /// Where it may be shown from, as a list of networks.
    pub(super) source_address: String,
}

impl Authority {
    /// From an unencrypted Ed25519 key as `ssh-keygen` writes it.
    ///
    /// # Errors
    /// `connector.config`, without a word of the key.
    pub(super) fn parse(secret: &Secret) -> Result<Authority, BrokerError> {
        let odd = |what: &str| BrokerError::new("connector.config", format!("the authority's key {what}"));
        let text = Zeroizing::new(format!("{}\n", secret.expose().trim()));
        let key =
            PrivateKey::from_openssh(text.as_bytes()).map_err(|_| odd("is no private key of OpenSSH"))?;
        if key.is_encrypted() {
            return Err(odd("is encrypted; keep it as a secret, without a passphrase"));
        }
        let KeypairData::Ed25519(pair) = key.key_data() else {
            return Err(odd("is not an Ed25519 key; make one with `ssh-keygen -t ed25519`"));
        };
        let seed = Zeroizing::new(pair.private.to_bytes());
        let pair = Ed25519KeyPair::from_seed_and_public_key(seed.as_ref(), &pair.public.0);
        Ok(Authority { pair: pair.map_err(|_| odd("does not fit its public half"))? })
    }

    /// Its public line, for `TrustedUserCAKeys`.
    pub(super) fn public(&self) -> String {
        public_line(self.pair.public_key().as_ref())
    }

    /// A certificate, as a line; read back and verified.
    pub(super) fn issue(&self, terms: &Terms) -> Result<String, BrokerError> {
        let mut nonce = [0; 32];
        fill(&mut nonce)?;
        let mut bytes = signed_part(terms, &nonce, self.pair.public_key().as_ref());
        let signature = self.pair.sign(&bytes);
        let mut blob = Vec::new();
        string(&mut blob, ED25519_NAME.as_bytes());
        string(&mut blob, signature.as_ref());
        string(&mut bytes, &blob);
        let line = format!("{ALGORITHM} {}", STANDARD.encode(&bytes));
        if self.read(&line)? != *terms {
            return Err(BrokerError::new(
                "connector.certificate",
                "a certificate does not say what it should",
            ));
        }
        Ok(line)
    }

    /// What a certificate of ours says: signed by us, for a user, and nothing in it but what [`Terms`] has.
    ///
    /// # Errors
    /// `connector.certificate` for anything else.
    pub(super) fn read(&self, line: &str) -> Result<Terms, BrokerError> {
        let odd = |what: &str| BrokerError::new("connector.certificate", format!("the certificate {what}"));
        let read = Certificate::from_openssh(line).map_err(|_| odd("cannot be read"))?;
        let bytes = read.to_bytes().map_err(|_| odd("cannot be read"))?;
        // One way to write it, so that what was signed is what was read.
        if line != format!("{ALGORITHM} {}", STANDARD.encode(&bytes)) {
            return Err(odd("is not written as we write them"));
        }
        let signed = bytes.len().checked_sub(SIGNATURE_BYTES).and_then(|n| bytes.get(..n));
        let ours = UnparsedPublicKey::new(&ED25519, self.pair.public_key().as_ref());
        let by_us = signed.is_some_and(|signed| ours.verify(signed, read.signature().as_bytes()).is_ok());
        if !by_us {
            return Err(odd("is not signed by our authority"));
        }
        let KeyData::Ed25519(key) = read.public_key() else { return Err(odd("is for another kind of key")) };
        let [principal] = read.valid_principals() else { return Err(odd("has not exactly one principal")) };
        let mut options: BTreeMap<&str, &str> =
            read.critical_options().iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let mut option = |name| options.remove(name).map(str::to_owned).ok_or_else(|| odd("lacks an option"));
        let terms = Terms {
            key: key.0,
            serial: read.serial(),
            key_id: read.key_id().to_owned(),
            principal: principal.clone(),
            after: read.valid_after(),
            before: read.valid_before(),
            force_command: option("force-command")?,
            source_address: option("source-address")?,
        };
        let more = !options.is_empty() || !read.extensions().is_empty() || !read.cert_type().is_user();
        if more { Err(odd("allows more than its scope")) } else { Ok(terms) }
    }
}

/// A new key: the public part, and the private one as a file of OpenSSH.
pub(super) fn new_key(comment: &str) -> Result<([u8; 32], Secret), BrokerError> {
    let odd = || BrokerError::new("connector.random", "no key can be made");
    let mut seed = Zeroizing::new([0; 32]);
    fill(seed.as_mut())?;
    let pair = Ed25519KeyPair::from_seed_unchecked(seed.as_ref()).map_err(|_| odd())?;
    let public: [u8; 32] = pair.public_key().as_ref().try_into().map_err(|_| odd())?;
    let pair =
        Ed25519Keypair { public: Ed25519PublicKey(public), private: Ed25519PrivateKey::from_bytes(&seed) };
    let file = PrivateKey::new(KeypairData::Ed25519(pair), comment).map_err(|_| odd())?;
    let text = file.to_openssh(LineEnding::LF).map_err(|_| odd())?;
    Ok((public, Secret::new(text.to_string())))
}

/// The bytes of a public key that somebody else made.
pub(super) fn public_key(line: &str) -> Option<[u8; 32]> {
    match PublicKey::from_openssh(line.trim()).ok()?.key_data() {
        KeyData::Ed25519(key) => Some(key.0),
        _ => None,
    }
}

/// Whether this is the public key of a host, of any kind.
pub(super) fn is_public_key(line: &str) -> bool {
    !line.contains(['\n', '\r']) && PublicKey::from_openssh(line).is_ok()
}

fn public_line(key: &[u8]) -> String {
    format!("{ED25519_NAME} {}", STANDARD.encode(key_blob(key)))
}

fn key_blob(key: &[u8]) -> Vec<u8> {
    let mut blob = Vec::new();
    string(&mut blob, ED25519_NAME.as_bytes());
    string(&mut blob, key);
    blob
}

/// Everything of a certificate that its signature covers.
fn signed_part(terms: &Terms, nonce: &[u8], authority: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    string(&mut out, ALGORITHM.as_bytes());
    string(&mut out, nonce);
    string(&mut out, &terms.key);
    out.extend(terms.serial.to_be_bytes());
    out.extend(USER.to_be_bytes());
    string(&mut out, terms.key_id.as_bytes());
    string(&mut out, &packed(&[terms.principal.as_bytes()]));
    out.extend(terms.after.to_be_bytes());
    out.extend(terms.before.to_be_bytes());
    let command = packed(&[terms.force_command.as_bytes()]);
    let source = packed(&[terms.source_address.as_bytes()]);
    // Options stand in the order of their names.
    string(&mut out, &packed(&[b"force-command", &command, b"source-address", &source]));
    // No extensions, so no terminal and no forwarding of anything; and nothing reserved.
    string(&mut out, b"");
    string(&mut out, b"");
    string(&mut out, &key_blob(authority));
    out
}

fn packed(parts: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    parts.iter().for_each(|part| string(&mut out, part));
    out
}

/// A string of RFC 4251 section 5: its length in four bytes, and itself.
fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend(bytes);
}

fn fill(bytes: &mut [u8]) -> Result<(), BrokerError> {
    let no = |_| BrokerError::new("connector.random", "the machine gives no random bytes");
    SystemRandom::new().fill(bytes).map_err(no)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority() -> (Authority, Secret) {
        let (_, file) = new_key("ca").unwrap();
        (Authority::parse(&file).unwrap(), file)
    }

    fn terms() -> Terms {
        Terms {
            key: [7; 32],
            serial: 9,
            key_id: "bailiwick:l-1:a:dana@example.org".to_owned(),
            principal: "bw_test_1".to_owned(),
            after: 100,
            before: 200,
            force_command: "echo 'hi'".to_owned(),
            source_address: "127.0.0.1/32".to_owned(),
        }
    }

    // proves: INV14
    #[test]
    fn what_is_issued_says_what_it_should_and_anything_touched_is_refused() {
        let (ours, file) = authority();
        let line = ours.issue(&terms()).unwrap();
        assert_eq!(ours.read(&line).unwrap(), terms());
        assert_eq!(
            authority().0.read(&line).unwrap_err().code(),
            "connector.certificate",
            "another authority's"
        );
        let body = STANDARD.decode(line.split_once(' ').unwrap().1).unwrap();
        for at in (40..body.len()).step_by(3) {
            let mut forged = body.clone();
            forged[at] ^= 1;
            let forged = format!("{ALGORITHM} {}", STANDARD.encode(&forged));
            assert!(ours.read(&forged).is_err(), "byte {at}");
        }
        assert!(!file.expose().contains(ours.public().split_once(' ').unwrap().1));
    }

    #[test]
    fn only_an_open_ed25519_key_can_sign() {
        for odd in ["", "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n"] {
            let refused = Authority::parse(&Secret::new(odd.to_owned())).err().map(|e| e.code());
            assert_eq!(refused, Some("connector.config"));
        }
        let (key, _) = new_key("agent").unwrap();
        assert_eq!(public_key(&format!("{} agent", public_line(&key))), Some(key));
        for odd in ["", "ssh-ed25519", "ssh-ed25519 AAAA", "ssh-rsa AAAAB3NzaC1yc2E="] {
            assert_eq!(public_key(odd), None, "{odd}");
        }
    }
}
