//! How a command fails: an exit code that scripts can rely on, and words that say what, why and what next.

use std::fmt;
use std::process::ExitCode;

use bailiwick_api::client::ClientError;
use bailiwick_audit::AuditError;

use crate::config::ConfigError;

/// What a script sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// A check or test failed, or the thing asked for does not exist or does not fit.
    Failed = 1,
    /// The command or a file was written wrongly.
    Usage = 2,
    /// Refused.
    Denied = 3,
    /// A question waits for people, or nobody answered in time.
    Pending = 4,
    /// Nobody is signed in.
    NotSignedIn = 5,
    /// The server cannot be reached or cannot answer.
    Unreachable = 6,
    /// The ledger does not verify.
    NotVerified = 7,
    /// Stopped by Ctrl-C.
    Interrupted = 130,
}

/// A failed command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// What a script sees.
    pub(crate) exit: Exit,
    /// Stable code.
    pub(crate) code: String,
    /// What happened and why.
    pub(crate) what: String,
    /// The next step.
    pub(crate) next: String,
}

/// What every command gives.
pub(crate) type Done = Result<(), Failure>;

impl Failure {
    pub(crate) fn new(exit: Exit, code: &str, what: impl Into<String>, next: impl Into<String>) -> Self {
        Failure { exit, code: code.to_owned(), what: what.into(), next: next.into() }
    }

    pub(crate) fn usage(what: impl Into<String>, next: impl Into<String>) -> Self {
        Failure::new(Exit::Usage, "usage", what, next)
    }

    pub(crate) fn failed(code: &str, what: impl Into<String>, next: impl Into<String>) -> Self {
        Failure::new(Exit::Failed, code, what, next)
    }

    /// A file or folder that cannot be used.
    pub(crate) fn file(path: &std::path::Path, error: &std::io::Error) -> Self {
        let what = format!("{}: {error}", path.display());
        Failure::failed("file.unusable", what, "Check the path and its permissions.")
    }

    pub(crate) fn interrupted() -> Self {
        Failure::new(Exit::Interrupted, "interrupted", "interrupted", "")
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.exit as u8)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if self.next.is_empty() { Ok(()) } else { write!(f, "\n  next: {}", self.next) }
    }
}

impl std::error::Error for Failure {}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Failure::new(Exit::Usage, error.code(), error.to_string(), "")
    }
}

impl From<bailiwick_core::ids::BadId> for Failure {
    fn from(bad: bailiwick_core::ids::BadId) -> Self {
        Failure::new(Exit::Usage, bad.code(), bad.to_string(), "")
    }
}

impl From<bailiwick_engine::EngineError> for Failure {
    fn from(error: bailiwick_engine::EngineError) -> Self {
        use bailiwick_engine::Kind;
        let exit = match error.kind {
            Kind::Invalid => Exit::Usage,
            Kind::Forbidden => Exit::Denied,
            Kind::NotFound | Kind::Conflict => Exit::Failed,
            Kind::Unavailable if error.code.starts_with("ledger.") => Exit::NotVerified,
            Kind::Unavailable => Exit::Unreachable,
        };
        Failure::new(exit, &error.code, error.reason, "")
    }
}

impl From<bailiwick_token::TokenRefusal> for Failure {
    fn from(refusal: bailiwick_token::TokenRefusal) -> Self {
        Failure::failed(refusal.code(), refusal.to_string(), "")
    }
}

impl From<AuditError> for Failure {
    fn from(error: AuditError) -> Self {
        let exit = if error.code() == "audit.io" { Exit::Failed } else { Exit::NotVerified };
        Failure::new(exit, error.code(), error.to_string(), "")
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match error.problem() {
            Some(problem) => Failure::new(
                of_problem(problem.status, &problem.code),
                &problem.code,
                problem.detail.clone(),
                problem.next.clone(),
            ),
            None if error.is_unreachable() => {
                Failure::new(Exit::Unreachable, "server.unreachable", error.to_string(), "")
            }
            None => Failure::new(unusable(&error), error.code(), error.to_string(), ""),
        }
    }
}

fn of_problem(status: u16, code: &str) -> Exit {
    match status {
        _ if code == "approval.settled" => Exit::Pending,
        400 | 413 | 415 | 422 => Exit::Usage,
        401 => Exit::NotSignedIn,
        403 => Exit::Denied,
        500.. => Exit::Unreachable,
        _ => Exit::Failed,
    }
}

fn unusable(error: &ClientError) -> Exit {
    if matches!(error, ClientError::Unusable(_)) { Exit::Usage } else { Exit::Unreachable }
}
