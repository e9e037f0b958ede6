//! Reading YAML so that every mistake names its line, what is wrong and what was probably meant.
//!
//! A message never repeats a value from the file: what somebody typed into the wrong place may be a secret.
//! Names of keys are repeated, because they are what has to be found and corrected.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_saphyr::{Error, Location};

/// Largest file that is read, in bytes.
pub(crate) const FILE_BYTES_MAX: usize = 4 << 20;
/// Least similarity of a name that is suggested.
const ALIKE_MIN: f64 = 0.75;

/// What is wrong with a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConfigError {
    /// Stable code.
    pub(crate) code: &'static str,
    /// The file, if it is about one.
    pub(crate) file: Option<PathBuf>,
    /// The line, counted from 1.
    pub(crate) line: Option<u64>,
    /// The column, counted from 1.
    pub(crate) column: Option<u64>,
    /// What is wrong.
    pub(crate) what: String,
    /// What to do about it.
    pub(crate) next: String,
}

impl ConfigError {
    pub(crate) fn new(code: &'static str, what: impl Into<String>, next: impl Into<String>) -> Self {
        ConfigError { code, file: None, line: None, column: None, what: what.into(), next: next.into() }
    }

    /// Stable code for tests and scripts.
    pub(crate) fn code(&self) -> &'static str {
        self.code
    }

    pub(crate) fn in_file(mut self, file: &Path) -> Self {
        self.file.get_or_insert_with(|| file.to_owned());
        self
    }

    pub(crate) fn at(mut self, location: Location) -> Self {
        self.line = Some(location.line()).filter(|line| *line > 0);
        self.column = self.line.and(Some(location.column())).filter(|column| *column > 0);
        self
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.file, self.line, self.column) {
            (Some(file), Some(line), Some(column)) => write!(f, "{}:{line}:{column}: ", file.display())?,
            (Some(file), Some(line), None) => write!(f, "{}:{line}: ", file.display())?,
            (Some(file), None, _) => write!(f, "{}: ", file.display())?,
            _ => {}
        }
        f.write_str(&self.what)?;
        if self.next.is_empty() { Ok(()) } else { write!(f, "\n  {}", self.next) }
    }
}

impl std::error::Error for ConfigError {}

/// Reads one document of type `T` from the text of a file.
///
/// # Errors
/// `config.unknown_key`, `config.missing_key`, `config.duplicate_key`, `config.malformed`, `config.too_large`.
pub(crate) fn parse<T: DeserializeOwned>(file: &Path, text: &str) -> Result<T, ConfigError> {
    if text.len() > FILE_BYTES_MAX {
        let what = format!("the file has {} bytes; the most is {FILE_BYTES_MAX}", text.len());
        return Err(ConfigError::new(
            "config.too_large",
            what,
            "Split it: `tools` and `policies` may be folders.",
        )
        .in_file(file));
    }
    let options = serde_saphyr::options! { with_snippet: false, strict_booleans: true };
    serde_saphyr::from_str_with_options(text, options).map_err(|e| explain(&e).in_file(file))
}

/// Reads a file as text.
///
/// # Errors
/// `config.unreadable`.
pub(crate) fn slurp(file: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(file).map_err(|e| {
        let next = "Check the path, or name another file with --config.";
        ConfigError::new("config.unreadable", format!("cannot be read: {e}"), next).in_file(file)
    })
}

fn explain(error: &Error) -> ConfigError {
    let error = error.without_snippet();
    let found = match error {
        Error::SerdeUnknownField { field, expected, .. } => unknown_key(field, expected),
        Error::SerdeMissingField { field, .. } => {
            ConfigError::new("config.missing_key", format!("`{field}` is missing"), "Add it.")
        }
        Error::DuplicateMappingKey { key, .. } => {
            let what = match key {
                Some(key) => format!("`{}` is here twice", name(key)),
                None => "a key is here twice".to_owned(),
            };
            ConfigError::new("config.duplicate_key", what, "Remove one of them.")
        }
        Error::SerdeUnknownVariant { variant, expected, .. } => unknown_choice(variant, expected),
        Error::SerdeInvalidType { expected, .. } | Error::SerdeInvalidValue { expected, .. } => {
            ConfigError::new("config.malformed", format!("the value is not {expected}"), "")
        }
        Error::SerdeInvalidLength { expected, .. } => {
            ConfigError::new("config.malformed", format!("the list is not {expected}"), "")
        }
        // Our own words, which repeat nothing but ids.
        Error::Message { msg, .. } => ConfigError::new("config.malformed", msg.clone(), ""),
        Error::InvalidScalar { ty, .. } => {
            ConfigError::new("config.malformed", format!("the value is not {ty}"), "")
        }
        Error::Unexpected { expected, .. } => {
            ConfigError::new("config.malformed", format!("expected {expected} here"), "")
        }
        _ => ConfigError::new(
            "config.malformed",
            "this is not the YAML that is expected here",
            "Check indentation, quotes and brackets around this line.",
        ),
    };
    match error.location() {
        Some(location) => found.at(location),
        None => found,
    }
}

fn unknown_key(field: &str, expected: &[&str]) -> ConfigError {
    let what = format!("unknown key `{}`", name(field));
    let next = match closest(field, expected) {
        Some(likely) => format!("Did you mean `{likely}`?"),
        None => format!("Known here: {}.", list(expected)),
    };
    ConfigError::new("config.unknown_key", what, next)
}

/// The value itself is not repeated: a connection string in place of a choice holds a password.
fn unknown_choice(given: &str, expected: &[&str]) -> ConfigError {
    let next = match closest(given, expected) {
        Some(likely) => format!("Did you mean `{likely}`?"),
        None => format!("One of: {}.", list(expected)),
    };
    ConfigError::new("config.malformed", "this is none of the choices there are", next)
}

fn list(names: &[&str]) -> String {
    names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ")
}

/// The name that was probably meant.
pub(crate) fn closest<'a>(given: &str, known: &[&'a str]) -> Option<&'a str> {
    let given = given.to_ascii_lowercase();
    known
        .iter()
        .map(|k| (strsim::jaro_winkler(&given, k), *k))
        .filter(|(alike, _)| *alike >= ALIKE_MIN)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, k)| k)
}

/// A key as it may be printed: short, and without control characters.
fn name(key: &str) -> String {
    key.chars().take(64).flat_map(char::escape_default).collect()
}
