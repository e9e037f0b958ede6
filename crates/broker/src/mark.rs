//! Names and marks of what we create in other systems.
//!
//! A name is `bw_` + four characters of the installation + the lease's own id: derived, so that it is found again
//! after any crash; at most 40 characters, lower case, so that nothing cuts or folds it (PostgreSQL cuts silently
//! at 63); never used again, because lease ids never are. A mark is a short JSON with a MAC under a key that only
//! this installation has. What has the name without the mark is somebody else's, and is left alone.

use std::fmt;

use aws_lc_rs::hmac;
use bailiwick_core::{LeaseId, Time};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::error::BrokerError;
use crate::secret::Secret;

/// How every name of ours begins.
pub const PREFIX: &str = "bw_";
/// Longest name, in characters.
pub const NAME_MAX: usize = 40;

const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// Who we are in other systems: the part of names that tells installations apart, and the key of marks.
#[derive(Clone)]
pub struct Maker {
    instance: String,
    key: hmac::Key,
}

impl fmt::Debug for Maker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Maker").field("instance", &self.instance).finish_non_exhaustive()
    }
}

/// A mark as it is written to a target.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mark {
    bailiwick: u8,
    lease: LeaseId,
    until: u64,
    mac: String,
}

impl Maker {
    /// Who we are, from a seed that only this installation knows and that never changes.
    pub fn new(seed: &[u8; 32]) -> Maker {
        let of = |what: &str| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, seed);
            Zeroizing::new(hmac::sign(&key, what.as_bytes()).as_ref().to_vec())
        };
        let named = of("bailiwick instance name v1");
        let instance = named
            .iter()
            .take(4)
            .filter_map(|b| ALPHABET.get(usize::from(b & 31)))
            .map(|b| char::from(*b))
            .collect();
        Maker { instance, key: hmac::Key::new(hmac::HMAC_SHA256, &of("bailiwick mark v1")) }
    }

    /// The beginning of all our names.
    pub fn prefix(&self) -> String {
        format!("{PREFIX}{}_", self.instance)
    }

    /// The name of a lease's credential. Injective: `-`, the only character replaced, becomes one that no id has.
    ///
    /// # Errors
    /// `connector.name` if the id is too long to be told apart from others.
    pub fn name(&self, lease: &LeaseId) -> Result<String, BrokerError> {
        let id = lease.as_str();
        let name =
            format!("{}{}", self.prefix(), id.strip_prefix("l-").unwrap_or_default().replace('-', "_"));
        if name.len() > NAME_MAX || !id.starts_with("l-") {
            return Err(BrokerError::new(
                "connector.name",
                format!("the lease id {lease} does not make a name"),
            ));
        }
        Ok(name)
    }

    /// The lease that a name of ours belongs to.
    pub fn lease(&self, name: &str) -> Option<LeaseId> {
        let id = name.strip_prefix(&self.prefix())?;
        LeaseId::parse(&format!("l-{}", id.replace('_', "-"))).ok()
    }

    /// The mark for a lease's credential under its name.
    pub fn mark(&self, lease: &LeaseId, name: &str, until: Time) -> String {
        let mac = URL_SAFE_NO_PAD.encode(hmac::sign(&self.key, &signed(lease, name, until)));
        let mark = Mark { bailiwick: 1, lease: lease.clone(), until: until.0, mac };
        serde_json::to_string(&mark).unwrap_or_default()
    }

    /// The lease behind a mark found at a name, if the mark is ours and belongs to that very name.
    pub fn read(&self, name: &str, mark: &str) -> Option<LeaseId> {
        let mark: Mark = serde_json::from_str(mark).ok()?;
        let mac = URL_SAFE_NO_PAD.decode(mark.mac.as_bytes()).ok()?;
        hmac::verify(&self.key, &signed(&mark.lease, name, Time(mark.until)), &mac).ok()?;
        Some(mark.lease)
    }

    /// A mark of 32 bytes, for targets that keep no text: bound to the name alone.
    pub fn short_mark(&self, name: &str) -> [u8; 32] {
        let mut mark = [0; 32];
        let tag = hmac::sign(&self.key, format!("short mark v1 {name}").as_bytes());
        mark.iter_mut().zip(tag.as_ref()).for_each(|(to, from)| *to = *from);
        mark
    }

    /// A pass for our own doors: whoever shows it was given the credential of this name.
    pub fn pass(&self, name: &str) -> Secret {
        let tag = hmac::sign(&self.key, format!("pass v1 {name}").as_bytes());
        Secret::new(URL_SAFE_NO_PAD.encode(tag))
    }
}

fn signed(lease: &LeaseId, name: &str, until: Time) -> Vec<u8> {
    format!("mark v1\n{lease}\n{name}\n{}", until.0).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lease(id: &str) -> LeaseId {
        LeaseId::parse(id).unwrap()
    }

    #[test]
    fn a_name_leads_back_to_its_lease_and_an_overlong_one_is_refused() {
        let maker = Maker::new(&[1; 32]);
        let name = maker.name(&lease("l-abcdefghjkmn-123")).unwrap();
        assert_eq!(maker.lease(&name), Some(lease("l-abcdefghjkmn-123")));
        assert!(name.starts_with("bw_") && name.len() <= NAME_MAX, "{name}");
        assert_eq!(
            maker.name(&lease(&format!("l-{}", "a".repeat(60)))).unwrap_err().code(),
            "connector.name"
        );
        assert_eq!(Maker::new(&[2; 32]).lease(&name), None, "another installation's name is not ours");
    }

    // proves: R6, INV14
    #[test]
    fn a_mark_is_believed_only_at_its_own_name_and_from_its_own_maker() {
        let (maker, other) = (Maker::new(&[1; 32]), Maker::new(&[2; 32]));
        let id = lease("l-abc-1");
        let name = maker.name(&id).unwrap();
        let mark = maker.mark(&id, &name, Time(7));
        assert_eq!(maker.read(&name, &mark), Some(id.clone()));
        assert_eq!(maker.read("bw_xxxx_abc_2", &mark), None, "copied to another name");
        assert_eq!(other.read(&name, &mark), None, "another installation's key");
        assert_eq!(maker.read(&name, &other.mark(&id, &name, Time(7))), None, "forged");
        assert_eq!(maker.read(&name, &mark.replace("\"until\":7", "\"until\":8")), None, "stretched");
        for odd in ["", "null", "{}", "just a comment"] {
            assert_eq!(maker.read(&name, odd), None, "{odd}");
        }
        assert_ne!(maker.short_mark(&name), other.short_mark(&name));
        assert_ne!(maker.pass(&name), other.pass(&name));
        assert_ne!(maker.pass(&name), maker.pass("bw_xxxx_abc_2"));
        assert!(!format!("{maker:?}").contains("key"));
    }

    proptest! {
        #[test]
        fn two_leases_never_share_a_name(a in "l-[a-z0-9]{1,12}(-[0-9]{1,6})?", b in "l-[a-z0-9]{1,12}(-[0-9]{1,6})?") {
            let maker = Maker::new(&[3; 32]);
            let (a, b) = (lease(&a), lease(&b));
            prop_assert_eq!(a == b, maker.name(&a).unwrap() == maker.name(&b).unwrap());
        }
    }
}
