//! Names the engine gives: a task's is drawn at random, everything inside a task is numbered by its log.
//!
//! A decision, question, grant or lease is called after its task and the version at which it is appended, so
//! that a name can be found without an index and can never be given twice.

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use bailiwick_core::{ApprovalId, DecisionId, GrantId, LeaseId, TaskId};

use crate::error::{EngineError, Kind};

const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// A fresh task id: 60 random bits, pasteable, without letters that look alike.
pub(crate) fn task() -> Result<TaskId, EngineError> {
    named("t", &random()?, None)
}

/// What a node calls itself while it runs.
pub(crate) fn node() -> Result<String, EngineError> {
    Ok(format!("n-{}", random()?))
}

fn random() -> Result<String, EngineError> {
    let mut bytes = [0u8; 12];
    SystemRandom::new().fill(&mut bytes).map_err(|_| {
        EngineError::new(Kind::Unavailable, "random.unavailable", "the machine gives no random bytes")
    })?;
    Ok(bytes.iter().map(|b| char::from(ALPHABET[usize::from(b & 31)])).collect())
}

pub(crate) fn decision(task: &TaskId, version: u64) -> Result<DecisionId, EngineError> {
    named("d", serial(task), Some(version))
}
pub(crate) fn approval(task: &TaskId, version: u64) -> Result<ApprovalId, EngineError> {
    named("apr", serial(task), Some(version))
}
pub(crate) fn grant(task: &TaskId, version: u64) -> Result<GrantId, EngineError> {
    named("g", serial(task), Some(version))
}

/// The one lease that a decision can bring: it has the decision's own number.
pub(crate) fn lease(decision: &DecisionId) -> Result<LeaseId, EngineError> {
    let number = decision.as_str().strip_prefix("d-").unwrap_or(decision.as_str());
    named("l", number, None)
}

/// The task a decision, question, grant or lease belongs to, and the version it was named after.
pub(crate) fn home(id: &str) -> Option<(TaskId, u64)> {
    let (_, rest) = id.split_once('-')?;
    let (serial, version) = rest.rsplit_once('-')?;
    Some((TaskId::parse(&format!("t-{serial}")).ok()?, version.parse().ok()?))
}

fn serial(task: &TaskId) -> &str {
    task.as_str().strip_prefix("t-").unwrap_or(task.as_str())
}

fn named<T: std::str::FromStr<Err = bailiwick_core::ids::BadId>>(
    prefix: &str,
    serial: &str,
    version: Option<u64>,
) -> Result<T, EngineError> {
    let text = match version {
        Some(version) => format!("{prefix}-{serial}-{version}"),
        None => format!("{prefix}-{serial}"),
    };
    text.parse().map_err(|e: bailiwick_core::ids::BadId| EngineError::invalid(e.code(), e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_home() {
        let task = task().unwrap();
        assert_eq!(home(decision(&task, 12).unwrap().as_str()), Some((task.clone(), 12)));
        assert_eq!(home(grant(&task, 0).unwrap().as_str()), Some((task, 0)));
        assert_eq!(home("d-x"), None);
        assert_eq!(home("nonsense"), None);
    }
}
