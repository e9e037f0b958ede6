//! Secrets: cleared from memory when dropped, compared in constant time, printed never.

use std::fmt;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::error::BrokerError;

/// A secret text.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes a secret in.
    pub fn new(text: String) -> Self {
        Secret(Zeroizing::new(text))
    }

    /// A fresh one of 192 random bits, in letters, digits, `-` and `_`.
    ///
    /// # Errors
    /// `connector.random` if the machine gives no random bytes.
    pub fn generate() -> Result<Self, BrokerError> {
        let mut bytes = Zeroizing::new([0u8; 24]);
        SystemRandom::new()
            .fill(bytes.as_mut())
            .map_err(|_| BrokerError::new("connector.random", "the machine gives no random bytes"))?;
        Ok(Secret::new(URL_SAFE_NO_PAD.encode(bytes.as_ref())))
    }

    /// The text itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // proves: INV14, A50
    #[test]
    fn a_secret_is_never_printed() {
        let secret = Secret::generate().unwrap();
        let printed = format!("{secret:?} {:#?}", Some(&secret));
        assert!(!printed.contains(secret.expose()), "{printed}");
        assert_ne!(secret, Secret::generate().unwrap());
        assert!(secret.expose().len() >= 32);
    }
}
