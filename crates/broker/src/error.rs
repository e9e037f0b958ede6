//! Why a connector could not do something: a stable code and words without secrets.

/// A failure of a connector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct BrokerError {
    code: &'static str,
    reason: String,
}

/// Longest reason that is kept, in bytes: it goes into the log.
const REASON_MAX: usize = 400;

impl BrokerError {
    /// A failure. The words go into the log: no secrets, and what came from outside is cut and escaped.
    pub fn new(code: &'static str, reason: impl AsRef<str>) -> Self {
        let mut kept = String::new();
        for c in reason.as_ref().chars() {
            let printed: String = if c.is_control() { c.escape_default().collect() } else { c.to_string() };
            if kept.len() + printed.len() > REASON_MAX {
                kept.push('…');
                break;
            }
            kept.push_str(&printed);
        }
        BrokerError { code, reason: kept }
    }

    /// Stable code: `scope.*` for what was asked, `target.*` for the target, `connector.*` for our side.
    pub fn code(&self) -> &'static str {
        self.code
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // proves: A49
    #[test]
    fn words_from_a_target_are_cut_and_cannot_break_a_line() {
        let error = BrokerError::new("target.refused", format!("a\nb\u{1b}[31m{}", "x".repeat(1000)));
        let text = error.to_string();
        assert!(text.len() <= REASON_MAX + '…'.len_utf8());
        assert!(!text.chars().any(char::is_control), "{text:?}");
    }
}
