//! Who is knocking: the one way from an HTTP request to a [`Caller`].
//!
//! The gateway never reads a token itself. It hands the request's head to a [`Door`], which verifies the
//! token and the proof of possession and answers with a proven caller or a refusal that says how to do
//! better (RFC 6750 section 3, RFC 9449 section 7.1).

mod token;

pub use token::TokenDoor;

use bailiwick_api::Caller;
use http::{HeaderMap, Method};
use std::future::Future;

/// The head of one request. The body is not read before the door has opened.
#[derive(Debug, Clone, Copy)]
pub struct Knock<'a> {
    /// The method.
    pub method: &'a Method,
    /// The path, without query.
    pub path: &'a str,
    /// All headers.
    pub headers: &'a HeaderMap,
}

/// Why the door stays shut.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refused {
    /// Stable code, such as `token.expired`.
    pub code: &'static str,
    /// What the client is told is wrong.
    pub challenge: Challenge,
    /// Why, for the caller; never says whether a task or agent exists.
    pub reason: String,
    /// A fresh nonce to be used in the next proof (RFC 9449 section 9).
    pub nonce: Option<String>,
}

impl Refused {
    /// Stable code for API and audit.
    pub fn code(&self) -> &'static str {
        self.code
    }
}

/// The `error` of a `WWW-Authenticate` challenge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Challenge {
    /// No token was shown; nothing is wrong yet.
    Missing,
    /// The token is not good.
    InvalidToken,
    /// The proof of possession is not good.
    InvalidProof,
    /// The proof lacks the nonce that is sent along.
    UseNonce,
    /// The token is good but not enough.
    InsufficientScope,
}

impl Challenge {
    /// The registered error name; `None` when no token was shown.
    pub fn error(self) -> Option<&'static str> {
        match self {
            Challenge::Missing => None,
            Challenge::InvalidToken => Some("invalid_token"),
            Challenge::InvalidProof => Some("invalid_dpop_proof"),
            Challenge::UseNonce => Some("use_dpop_nonce"),
            Challenge::InsufficientScope => Some("insufficient_scope"),
        }
    }
    /// The HTTP status that goes with it.
    pub fn status(self) -> u16 {
        if self == Challenge::InsufficientScope { 403 } else { 401 }
    }
}

/// Proves callers.
pub trait Door: Send + Sync + 'static {
    /// Verifies the request's token and proof of possession; gives the caller they prove.
    fn admit(&self, knock: Knock<'_>) -> impl Future<Output = Result<Caller, Refused>> + Send;
}
