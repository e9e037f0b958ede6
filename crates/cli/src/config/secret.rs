//! References to secrets, and the refusal of secrets themselves.
//!
//! A configuration file is copied, mailed and committed. A credential in it would be a standing one, so there is
//! no way to write one down: only `secret://env/NAME` and `secret://file/PATH`, with an optional scheme word in
//! front (`Bearer secret://env/TOKEN`). What looks like a credential anywhere else is refused, and never printed.

use std::path::Path;

use bailiwick_gateway::Secret;

use super::yaml::ConfigError;

const MARK: &str = "secret://";
/// What to write instead of a secret.
const NEXT: &str = "Write `secret://env/NAME` or `secret://file/PATH` and keep the value there.";

/// Where a secret is, and what stands before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SecretRef {
    before: String,
    place: Place,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Env(String),
    File(String),
}

impl SecretRef {
    /// Reads a reference. `None` if the text holds none, or none that can be followed.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let at = text.find(MARK)?;
        let (before, rest) = text.split_at(at);
        let rest = rest.strip_prefix(MARK)?;
        let scheme_word = before.is_empty()
            || before
                .strip_suffix(' ')
                .is_some_and(|w| (1..=16).contains(&w.len()) && w.bytes().all(|b| b.is_ascii_alphabetic()));
        let place = match rest.split_once('/')? {
            ("env", name) if is_variable(name) => Place::Env(name.to_owned()),
            ("file", path) if !path.is_empty() && !path.chars().any(char::is_control) => {
                Place::File(path.to_owned())
            }
            _ => return None,
        };
        scheme_word.then(|| SecretRef { before: before.to_owned(), place })
    }

    /// Fetches the secret. Relative files are looked for beside the configuration.
    ///
    /// # Errors
    /// `config.secret_missing`, naming the place and never what is there.
    pub(crate) fn resolve(&self, beside: &Path) -> Result<Secret, ConfigError> {
        let found = match &self.place {
            Place::Env(name) => std::env::var(name).map_err(|_| format!("the variable {name} is not set")),
            Place::File(path) => std::fs::read_to_string(beside.join(path))
                .map_err(|e| format!("the secret's file {path} cannot be read: {}", e.kind())),
        };
        let next = "Set it before starting bailiwick.";
        let value = found.map_err(|what| ConfigError::new("config.secret_missing", what, next))?;
        let value = value.trim_end_matches(['\n', '\r']);
        if value.is_empty() {
            return Err(ConfigError::new("config.secret_missing", "a referenced secret is empty", next));
        }
        Ok(Secret::new(format!("{}{value}", self.before)))
    }
}

fn is_variable(name: &str) -> bool {
    (1..=128).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Refuses a value that must be a reference and is not.
pub(crate) fn must_refer(what: &str, value: &str) -> Result<SecretRef, ConfigError> {
    SecretRef::parse(value).ok_or_else(|| {
        ConfigError::new("config.literal_secret", format!("{what} must not hold a secret itself"), NEXT)
    })
}

/// A variable for a tool server: a reference, or a plain value that is no secret by its name or its look.
pub(crate) fn variable(name: &str, value: &str) -> Result<Option<SecretRef>, ConfigError> {
    if let Some(found) = SecretRef::parse(value) {
        return Ok(Some(found));
    }
    if value.contains(MARK) || named_like_one(name) || looks_like_one(value) {
        return Err(ConfigError::new(
            "config.literal_secret",
            format!("`{name}` must not hold a secret itself"),
            NEXT,
        ));
    }
    Ok(None)
}

/// Refuses anything that looks like a credential where none belongs: arguments, addresses.
pub(crate) fn no_secret(what: &str, value: &str) -> Result<(), ConfigError> {
    if looks_like_one(value) || has_user_info(value) {
        let next = "Give it to the tool server as a variable or a header that says `secret://env/NAME`.";
        return Err(ConfigError::new("config.literal_secret", format!("{what} holds a secret"), next));
    }
    Ok(())
}

fn named_like_one(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    [
        "TOKEN",
        "SECRET",
        "PASSWORD",
        "PASSWD",
        "CREDENTIAL",
        "APIKEY",
        "API_KEY",
        "ACCESS_KEY",
        "PRIVATE_KEY",
        "DATABASE_URL",
    ]
    .iter()
    .any(|word| name.contains(word))
        || name.ends_with("_KEY")
}

/// Beginnings that well-known issuers give to their credentials.
const BEGINNINGS: [&str; 16] = [
    "ghp_",
    "gho_",
    "ghs_",
    "github_pat_",
    "glpat-",
    "sk-",
    "sk_live_",
    "rk_live_",
    "xoxb-",
    "xoxp-",
    "AKIA",
    "ASIA",
    "AIza",
    "eyJhbGci",
    "-----BEGIN",
    "npm_",
];

fn looks_like_one(value: &str) -> bool {
    let words = value.split(|c: char| c.is_whitespace() || matches!(c, '=' | ',' | ';' | '"' | '\''));
    words
        .into_iter()
        .any(|word| word.len() >= 10 && BEGINNINGS.iter().any(|beginning| word.starts_with(beginning)))
        || has_user_info(value)
}

/// `scheme://user:password@host`.
fn has_user_info(value: &str) -> bool {
    value.split_once("://").is_some_and(|(_, rest)| {
        rest.split(['/', '?', '#'])
            .next()
            .is_some_and(|authority| authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':')))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read_and_nothing_else_is() {
        for good in [
            "secret://env/GITHUB",
            "Bearer secret://env/T",
            "secret://file/keys/cloud",
            "secret://file//etc/k",
        ] {
            assert!(SecretRef::parse(good).is_some(), "{good}");
        }
        for bad in [
            "hunter2",
            "secret://",
            "secret://env/",
            "secret://env/A B",
            "secret://vault/x",
            "ghp_x secret://env/A",
            "a b secret://env/A",
        ] {
            assert!(SecretRef::parse(bad).is_none(), "{bad}");
        }
    }

    // proves: INV14
    #[test]
    fn what_looks_like_a_credential_is_refused_and_not_repeated() {
        let refused = |name: &str, value: &str| {
            let error = variable(name, value).unwrap_err();
            assert_eq!(error.code(), "config.literal_secret");
            assert!(!error.to_string().contains(value), "{error}");
        };
        refused("GITHUB_TOKEN", "abc");
        refused("SIGNING_KEY", "abc");
        refused("HOME_PAGE", "https://ana:hunter2@example.org/");
        refused("X", "sk-live-1234567890");
        refused("DB", "postgres://u:p4ssw0rd@db/x");
        assert_eq!(variable("LOG_LEVEL", "debug"), Ok(None));
        assert_eq!(variable("ROOT", "/srv/files"), Ok(None));
        assert!(variable("GITHUB_TOKEN", "secret://env/GITHUB_TOKEN").unwrap().is_some());
        assert!(no_secret("an argument", "--token=ghp_0123456789abcdef").is_err());
        assert!(no_secret("an argument", "--verbose").is_ok());
    }

    #[test]
    fn a_file_is_looked_for_beside_the_configuration() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("k"), "s3\n").unwrap();
        let found = SecretRef::parse("Bearer secret://file/k").unwrap();
        assert_eq!(found.resolve(dir.path()).unwrap().expose(), "Bearer s3");
        let gone = SecretRef::parse("secret://file/none").unwrap().resolve(dir.path()).unwrap_err();
        assert_eq!(gone.code(), "config.secret_missing");
    }
}
