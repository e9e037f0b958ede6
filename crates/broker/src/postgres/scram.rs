//! SCRAM-SHA-256 verifiers (RFC 5802, RFC 7677), made on our side.
//!
//! PostgreSQL takes a ready verifier in place of a password, so the password never reaches the server, its log or
//! its catalogue; not even under `log_statement = all`.

use std::num::NonZeroU32;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::error::BrokerError;
use crate::secret::Secret;

/// Rounds of key stretching: the least that RFC 7677 section 4 asks for. Clients do the same number at login, and the
/// server when it makes a login: it tries whether the verifier is one of an empty password.
pub const ROUNDS: NonZeroU32 = NonZeroU32::new(4096).unwrap();

/// The verifier of a password under a fresh salt, in PostgreSQL's form.
pub(super) fn verifier(password: &Secret, rounds: NonZeroU32) -> Result<String, BrokerError> {
    let mut salt = [0u8; 16];
    SystemRandom::new()
        .fill(&mut salt)
        .map_err(|_| BrokerError::new("connector.random", "the machine gives no random bytes"))?;
    Ok(verifier_with(password, &salt, rounds))
}

fn verifier_with(password: &Secret, salt: &[u8], rounds: NonZeroU32) -> String {
    let mut salted = Zeroizing::new([0u8; 32]);
    let password = password.expose().as_bytes();
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, salt, password, salted.as_mut());
    let keyed = |what: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, salted.as_ref()), what);
    let stored = digest::digest(&digest::SHA256, keyed(b"Client Key").as_ref());
    let server = keyed(b"Server Key");
    format!(
        "SCRAM-SHA-256${rounds}:{}${}:{}",
        STANDARD.encode(salt),
        STANDARD.encode(stored),
        STANDARD.encode(server)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_rfc_comes_out() {
        // RFC 7677 section 3: user `user`, password `pencil`; the server key follows from its server signature.
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let verifier = verifier_with(&Secret::new("pencil".to_owned()), &salt, ROUNDS);
        assert_eq!(
            verifier,
            "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$\
             WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
        );
    }

    #[test]
    fn two_verifiers_of_one_password_differ() {
        let secret = Secret::generate().unwrap();
        assert_ne!(verifier(&secret, ROUNDS).unwrap(), verifier(&secret, ROUNDS).unwrap());
    }
}
