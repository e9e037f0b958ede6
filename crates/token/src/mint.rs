//! Minting task tokens: short, bound to a key, never beyond what they come from.

use crate::jws::{self, KeyHint};
use crate::verify::TYP;
use crate::{Claims, SigningKey, TokenRefusal, Verified};

/// The longest life of a task token, in seconds.
pub const TTL_SECS_MAX: u64 = 300;

/// Mints the task tokens of one issuer with one key.
#[derive(Debug)]
pub struct Mint {
    issuer: String,
    key: SigningKey,
}

impl Mint {
    /// A mint for `issuer`.
    #[must_use]
    pub fn new(issuer: impl Into<String>, key: SigningKey) -> Self {
        Self { issuer: issuer.into(), key }
    }

    /// The issuer that every token of this mint names.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The key that verifiers need; its thumbprint is the `kid`.
    #[must_use]
    pub fn public(&self) -> &crate::PublicKey {
        self.key.public()
    }

    /// Mints a token (compact JWS, `typ` `at+jwt`). `ends_at_secs` is the second at which the grant behind it
    /// ends, whatever ends it first: task window, parent, capability.
    ///
    /// # Errors
    /// `token.issuer` for another issuer, `token.lifetime` for a life that is empty or longer than
    /// [`TTL_SECS_MAX`], `token.widened` (`exp`) if it would outlive its grant, `token.claim` for claims out of
    /// bounds, `token.too_large`, `key.failure`.
    pub fn mint(&self, claims: &Claims, ends_at_secs: u64) -> Result<String, TokenRefusal> {
        if claims.iss != self.issuer {
            return Err(TokenRefusal::WrongIssuer);
        }
        check_lifetime(claims)?;
        if claims.exp > ends_at_secs {
            return Err(TokenRefusal::Widened("exp"));
        }
        claims.check_shape()?;
        jws::sign(&self.key, TYP, KeyHint::Kid, claims)
    }

    /// Mints the token of a handoff, below a parent token that was just verified.
    ///
    /// # Errors
    /// As [`Mint::mint`], and `token.widened` with the claim's name where the child is not strictly below its
    /// parent: another task, initiator, tenant or context, a later end, a wrong depth or chain, lost taint, or
    /// the parent's own key.
    pub fn mint_child(
        &self,
        claims: &Claims,
        ends_at_secs: u64,
        parent: &Verified,
    ) -> Result<String, TokenRefusal> {
        claims.check_below(parent.claims(), parent.hash())?;
        self.mint(claims, ends_at_secs)
    }
}

pub(crate) fn check_lifetime(claims: &Claims) -> Result<(), TokenRefusal> {
    match claims.exp.checked_sub(claims.iat) {
        Some(1..=TTL_SECS_MAX) => Ok(()),
        _ => Err(TokenRefusal::Lifetime),
    }
}
