//! Why a verb could not be carried out. Every one of these means that nothing was done.

use bailiwick_core::event::Why;
use bailiwick_store::{AppendError, StoreError};

/// What kind of failure, for front doors to map to their own codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The request makes no sense.
    Invalid,
    /// It is not the caller's to ask.
    Forbidden,
    /// There is no such thing.
    NotFound,
    /// It does not fit the state things are in.
    Conflict,
    /// The control plane cannot answer now.
    Unavailable,
}

/// A failure with a stable code and a reason that says what, why and the next step.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct EngineError {
    /// What kind.
    pub kind: Kind,
    /// Stable code.
    pub code: String,
    /// What, why, next step.
    pub reason: String,
}

impl EngineError {
    pub(crate) fn new(kind: Kind, code: &str, reason: impl Into<String>) -> Self {
        EngineError { kind, code: code.to_owned(), reason: reason.into() }
    }
    pub(crate) fn invalid(code: &str, reason: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, code, reason)
    }
    pub(crate) fn missing(what: &str, id: impl std::fmt::Display) -> Self {
        Self::new(Kind::NotFound, "not_found", format!("there is no {what} {id}"))
    }
    pub(crate) fn forbidden(code: &str, reason: impl Into<String>) -> Self {
        Self::new(Kind::Forbidden, code, reason)
    }
}

impl From<Why> for EngineError {
    fn from(why: Why) -> Self {
        let reason =
            if why.remedy.is_empty() { why.reason } else { format!("{}. {}", why.reason, why.remedy) };
        EngineError { kind: Kind::Forbidden, code: why.code, reason }
    }
}

impl From<StoreError> for EngineError {
    fn from(error: StoreError) -> Self {
        Self::new(Kind::Unavailable, error.code(), error.to_string())
    }
}

impl From<AppendError> for EngineError {
    fn from(error: AppendError) -> Self {
        let kind = match error {
            AppendError::Conflict { .. } => Kind::Conflict,
            AppendError::Refused(_) => Kind::Invalid,
            AppendError::Unavailable(_) => Kind::Unavailable,
        };
        Self::new(kind, error.code(), error.to_string())
    }
}
