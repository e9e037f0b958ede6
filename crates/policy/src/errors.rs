//! What can be wrong with policies, said so that the author can mend it: where, what, what next.

use std::fmt;

/// One thing that is wrong with a policy text, a manifest or a test file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyError {
    /// Stable code: `policy.syntax`, `policy.invalid`, `policy.id_missing` …
    pub code: &'static str,
    /// The source it is in.
    pub file: String,
    /// The line, counted from 1, where one is known.
    pub line: Option<u32>,
    /// The policy's id, where it has one.
    pub policy: Option<String>,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub help: String,
}

impl PolicyError {
    /// An error about a source as a whole.
    pub(crate) fn new(
        code: &'static str,
        file: &str,
        what: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        PolicyError {
            code,
            file: file.to_owned(),
            line: None,
            policy: None,
            what: what.into(),
            help: help.into(),
        }
    }
    /// The same at a line.
    pub(crate) fn at(mut self, line: usize) -> Self {
        self.line = u32::try_from(line).ok();
        self
    }
    /// The same about one policy.
    pub(crate) fn of(mut self, policy: &str) -> Self {
        self.policy = Some(policy.to_owned());
        self
    }
    /// Stable code for API and audit.
    pub fn code(&self) -> &'static str {
        self.code
    }
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if let Some(policy) = &self.policy {
            write!(f, ": policy `{policy}`")?;
        }
        write!(f, ": {}", self.what)?;
        if !self.help.is_empty() {
            write!(f, ". {}", self.help)?;
        }
        Ok(())
    }
}

impl std::error::Error for PolicyError {}

/// Everything that is wrong, in the order of the sources. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyErrors(pub Vec<PolicyError>);

impl PolicyErrors {
    /// Stable code of the first one.
    pub fn code(&self) -> &'static str {
        self.0.first().map_or("policy.invalid", PolicyError::code)
    }
}

impl From<PolicyError> for PolicyErrors {
    fn from(error: PolicyError) -> Self {
        PolicyErrors(vec![error])
    }
}

impl fmt::Display for PolicyErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, error) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for PolicyErrors {}

/// A hint at the nearest known word, or the list of all of them.
pub(crate) fn did_you_mean<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    let near = known.iter().map(|word| (strsim::damerau_levenshtein(given, word), *word)).min();
    match near {
        Some((distance, word)) if distance <= 2.max(given.len() / 3) => format!("Did you mean `{word}`?"),
        _ => format!("Known: {}", known.join(", ")),
    }
}
