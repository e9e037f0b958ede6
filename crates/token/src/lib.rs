//! Task tokens: mint, verify, proof of possession, and who stands behind a request.
//!
//! Everything here is pure: bytes and times go in, values come out. There is no I/O and no clock; chance
//! is used only where a key or an identifier is made.
//!
//! Four kinds of signed token pass through this crate, and none of them is ever taken for another:
//!
//! | token | signed by | `typ` | checked by |
//! |---|---|---|---|
//! | task token | the control plane | `at+jwt` | [`Verifier`] |
//! | proof of possession | the agent's key | `dpop+jwt` | [`dpop::check`] |
//! | agent assertion | the agent's key | `client-authentication+jwt` or `JWT` | [`subject::check_assertion`] |
//! | JWT-SVID, ID token | a trust domain, an identity provider | `JWT`, `JOSE` or none | [`subject::verify_jwt_svid`], [`subject::verify_oidc`] |
//!
//! The signature algorithm always follows from the key that was found, never from the header's wish. Headers
//! that point at keys (`jku`, `jwk`, `x5u`, `x5c`) or change the rules (`crit`, `b64`, `zip`) are refused.
//!
//! A task token is worth nothing alone: [`Verified`] says "we minted this and it is in force", and only
//! [`Verified::proven_by_dpop`] or [`Verified::proven_by_mtls`] turns it into a [`Caller`].

pub mod claims;
mod digest;
pub mod dpop;
mod error;
mod htu;
mod json;
mod jws;
mod key;
mod mint;
mod replay;
pub mod subject;
mod trust;
mod verify;

pub use claims::{Actor, Claims, Confirmation, TaskAuthorization, TaskContext};
pub use digest::Digest;
pub use dpop::ProofId;
pub use error::TokenRefusal;
pub use htu::canonical_url;
pub use key::{Jwks, KeyAlgorithm, PublicKey, SigningKey, random_id};
pub use mint::{Mint, TTL_SECS_MAX};
pub use replay::ReplayWindow;
pub use subject::SpiffeId;
pub use trust::IssuerKeys;
pub use verify::{Caller, Holder, Request, SignatureCache, Verified, Verifier};

#[cfg(test)]
mod wycheproof;
