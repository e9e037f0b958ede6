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
//!
//! ```
//! use bailiwick_token::*;
//!
//! # fn main() -> Result<(), TokenRefusal> {
//! let (here, now) = ("https://tools.example/mcp", 1_800_000_000);
//! let agent = SigningKey::generate(KeyAlgorithm::Ed25519)?;
//! let mint = Mint::new("https://bailiwick.example", SigningKey::generate(KeyAlgorithm::Ed25519)?);
//! let planner = SpiffeId::parse("spiffe://example.org/agent/planner")?;
//! let claims = Claims {
//!     iss: mint.issuer().to_owned(),
//!     aud: here.to_owned(),
//!     exp: now + 120,
//!     iat: now,
//!     nbf: now,
//!     jti: random_id()?,
//!     client_id: planner.to_string(),
//!     sub: "user:ana".to_owned(),
//!     act: Actor::first(mint.issuer(), planner),
//!     cnf: Confirmation::Jkt(agent.public().jkt()),
//!     authorization_details: vec![TaskAuthorization::new(vec![])],
//!     txn: "task-1".to_owned(),
//!     tctx: TaskContext { intent: Digest::of(b"i"), chain: Digest::of(b"c"), policy: Digest::of(b"p") },
//!     del_depth: 0,
//!     del_max_depth: 0,
//!     par_hash: None,
//!     grant: "grant-1".to_owned(),
//!     tenant: "acme".to_owned(),
//!     taint: vec![],
//! };
//! let token = mint.mint(&claims, now + 3600)?;
//!
//! let verifier = Verifier::new(mint.issuer(), here, &Jwks::new([mint.public().clone()]));
//! let proof = dpop::prove(&agent, "POST", here, Some(&token), None, now, &random_id()?)?;
//! let request = Request { htm: "POST", htu: here, nonce: None, now_secs: now };
//! let caller: Caller = verifier.verify(&token, now)?.proven_by_dpop(&proof, &request)?;
//! assert_eq!(caller.claims().grant, "grant-1");
//! # Ok(())
//! # }
//! ```

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
