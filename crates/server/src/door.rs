//! The agents' door: token and proof of possession in, proven caller out.
//!
//! The verification itself is not here. It is the one that enforcement points use, given from above, so that
//! both front doors judge tokens by the same code and remember proofs in the same window.

use axum::http::{HeaderMap, Method};
use bailiwick_api::Caller;
use futures_util::future::BoxFuture;

/// The head of one request.
#[derive(Debug, Clone, Copy)]
pub struct Knock<'a> {
    /// The method.
    pub method: &'a Method,
    /// The path, without query.
    pub path: &'a str,
    /// All headers.
    pub headers: &'a HeaderMap,
}

/// Why an agent is not let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shut {
    /// Stable code, such as `token.expired`.
    pub code: &'static str,
    /// The `error` of the challenge (RFC 6750 section 3, RFC 9449 section 7.1); `None` when no token was shown.
    pub error: Option<&'static str>,
    /// Why, for the caller; never says whether a task or agent exists.
    pub reason: String,
    /// A nonce for the next proof.
    pub nonce: Option<String>,
}

/// Proves agents. A token without a proof is never enough (threat A09).
pub trait AgentDoor: Send + Sync + 'static {
    /// Verifies the request's token and proof of possession; a proof passes once.
    fn admit<'a>(&'a self, knock: Knock<'a>) -> BoxFuture<'a, Result<Caller, Shut>>;
}
