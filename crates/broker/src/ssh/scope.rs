//! Scopes of an SSH host: a login, the exact command lines it may run, and how long. Nothing else is ever granted.
//!
//! A command line is the operator's own statement and goes to the host's shell as it stands. Arguments fill places in
//! it, `{unit}`, with letters, digits, `.`, `_`, `@` and `-`, and never begin like an option.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use bailiwick_core::label::Label;
use bailiwick_core::tool::Effect;
use bailiwick_core::value::Value;
use serde::Deserialize;

use crate::error::BrokerError;

/// The agent's own public key; with it, no private key is made here.
pub const PUBLIC_KEY: &str = "public_key";
/// Longest value that fills a place, in bytes.
const VALUE_MAX: usize = 128;
/// Longest command line, in bytes.
const COMMAND_MAX: usize = 1000;
/// Most command lines of one scope.
const COMMANDS_MAX: usize = 64;

/// What certificates of one scope let their holder do.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scope {
    /// The login on the host.
    pub user: String,
    /// What its commands do at most.
    pub effect: Effect,
    /// Whether what they do can be undone.
    #[serde(default)]
    pub reversible: bool,
    /// The command lines, each with places for arguments. Nothing else runs: no shell, no file transfer.
    pub commands: Vec<String>,
    /// Networks from which it may be used, such as `10.0.0.0/8`. Only where there is no relay.
    #[serde(default)]
    pub sources: Vec<String>,
    /// What the commands show.
    #[serde(default)]
    pub labels: Label,
    /// Longest life of a certificate, in seconds.
    #[serde(default = "a_quarter")]
    pub ttl_s: u64,
}

fn a_quarter() -> u64 {
    900
}

/// A part of a command line.
enum Part<'a> {
    Text(&'a str),
    Place(&'a str),
}

impl Scope {
    pub(super) fn check(&self, relayed: bool) -> Result<(), BrokerError> {
        let bad = |code, what: String| Err(BrokerError::new(code, what));
        if !is_login(&self.user) {
            return bad("scope.user", format!("`{}` is not a login", self.user));
        }
        if self.commands.is_empty() || self.commands.len() > COMMANDS_MAX {
            return bad("scope.command", format!("a scope states 1 to {COMMANDS_MAX} command lines"));
        }
        for command in &self.commands {
            check_line(command)?;
        }
        if let Some(name) = self.args().into_iter().find(|a| matches!(*a, PUBLIC_KEY | "ttl_s")) {
            return bad("scope.command", format!("`{name}` has a meaning of its own and cannot be a place"));
        }
        match (relayed, self.sources.is_empty()) {
            (true, false) => {
                bad("scope.source", "with a relay, the relay is the only source; leave `sources` out".into())
            }
            (false, true) => bad("scope.source", "without a relay, a scope needs `sources`".into()),
            _ => match self.sources.iter().find(|s| !is_network(s)) {
                Some(odd) => bad("scope.source", format!("`{odd}` is not a network such as 10.0.0.0/8")),
                None => Ok(()),
            },
        }
    }

    /// The names of all places.
    pub(super) fn args(&self) -> BTreeSet<&str> {
        let places = self.commands.iter().flat_map(|c| parts(c).unwrap_or_default());
        places.filter_map(|p| if let Part::Place(name) = p { Some(name) } else { None }).collect()
    }

    /// Whether this is the forced command of this scope, with something in its places.
    pub(super) fn could_force(&self, command: &str) -> bool {
        let template = force_command(&self.commands);
        parts(&template).is_some_and(|parts| fits(&parts, command, &BTreeMap::new()))
    }

    /// The command lines with every place filled.
    ///
    /// # Errors
    /// `scope.argument` if a value is missing or cannot stand in a command line.
    pub(super) fn filled(&self, args: &BTreeMap<String, Value>) -> Result<Vec<String>, BrokerError> {
        self.commands.iter().map(|command| fill(command, args)).collect()
    }
}

/// Beside a command, for as long as it runs: when the connection is gone, so is whatever the command started. Without
/// this, sshd lets a command without a terminal run on. (`$PPID` is the connection's sshd, which made the shell the
/// leader of a process group, `$$`.)
const WATCH: &str = "(trap '' TERM; while kill -0 $PPID && kill -0 $$; do sleep 1; done; \
                     kill -TERM -- -$$; sleep 2; kill -KILL -- -$$) </dev/null >/dev/null 2>&1 &";

/// What sshd runs instead of whatever is asked for: exactly one of the lines, or a refusal that names them.
pub(super) fn force_command(lines: &[String]) -> String {
    let patterns: Vec<String> = lines.iter().map(|l| quoted(l)).collect();
    let told = quoted(&format!("bailiwick: this credential runs only: {}", lines.join(" | ")));
    format!(
        "case \"$SSH_ORIGINAL_COMMAND\" in {}) {WATCH} exec /bin/sh -c \"$SSH_ORIGINAL_COMMAND\";; esac; \
         echo {told} >&2; exit 126",
        patterns.join("|")
    )
}

/// Whether this is an address or a network in the form `address/bits`.
pub(super) fn is_network(text: &str) -> bool {
    let (address, bits) = text.split_once('/').map_or((text, None), |(a, b)| (a, Some(b)));
    let Ok(address) = address.parse::<IpAddr>() else { return false };
    let most = if address.is_ipv4() { 32 } else { 128 };
    bits.is_none_or(|b| b.len() <= 3 && b.parse::<u8>().is_ok_and(|b| b <= most))
}

fn is_login(text: &str) -> bool {
    let mut bytes = text.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_lowercase() || b == b'_');
    first
        && text.len() <= 32
        && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.'))
}

fn check_line(line: &str) -> Result<(), BrokerError> {
    let printable = line.bytes().all(|b| (b' '..=b'~').contains(&b));
    if line.trim() != line || !(1..=COMMAND_MAX).contains(&line.len()) || !printable || parts(line).is_none()
    {
        let what = format!(
            "`{line}` is no command line: 1 to {COMMAND_MAX} printable characters, with places such as {{unit}}"
        );
        return Err(BrokerError::new("scope.command", what));
    }
    Ok(())
}

/// A line in parts; `None` if a brace does not belong to a place. `${x}` of a shell would be one, so it is refused.
fn parts(line: &str) -> Option<Vec<Part<'_>>> {
    let mut out = Vec::new();
    let mut rest = line;
    while let Some((text, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}')?;
        let plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        if !plain || text.ends_with('$') || text.contains('}') {
            return None;
        }
        out.extend([Part::Text(text), Part::Place(name)]);
        rest = after;
    }
    if rest.contains('}') {
        return None;
    }
    out.push(Part::Text(rest));
    Some(out)
}

fn fill(line: &str, args: &BTreeMap<String, Value>) -> Result<String, BrokerError> {
    let mut out = String::new();
    for part in parts(line).unwrap_or_default() {
        match part {
            Part::Text(text) => out.push_str(text),
            Part::Place(name) => out.push_str(&value(name, args)?),
        }
    }
    Ok(out)
}

/// Whether a text is a line with these parts, the same value in every place of a name.
fn fits<'a>(parts: &[Part<'a>], text: &'a str, filled: &BTreeMap<&'a str, &'a str>) -> bool {
    let Some((first, rest)) = parts.split_first() else { return text.is_empty() };
    match first {
        Part::Text(part) => text.strip_prefix(part).is_some_and(|text| fits(rest, text, filled)),
        Part::Place(name) => match filled.get(name) {
            Some(value) => text.strip_prefix(value).is_some_and(|text| fits(rest, text, filled)),
            None => (1..=VALUE_MAX.min(text.len())).any(|n| {
                let Some((value, after)) = text.split_at_checked(n).filter(|(v, _)| is_value(v)) else {
                    return false;
                };
                let mut filled = filled.clone();
                filled.insert(name, value);
                fits(rest, after, &filled)
            }),
        },
    }
}

fn is_value(text: &str) -> bool {
    (1..=VALUE_MAX).contains(&text.len())
        && !text.starts_with(['-', '.'])
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'@'))
}

fn value(name: &str, args: &BTreeMap<String, Value>) -> Result<String, BrokerError> {
    args.get(name).and_then(crate::plain).filter(|v| is_value(v)).ok_or_else(|| {
        let what = format!(
            "the scope needs `{name}`: 1 to {VALUE_MAX} of letters, digits, '-', '_', '.' and '@', not beginning with '-' or '.'"
        );
        BrokerError::new("scope.argument", what)
    })
}

/// A text that a POSIX shell takes as it is.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scope(commands: &[&str]) -> Scope {
        Scope {
            user: "deploy".to_owned(),
            effect: Effect::Update,
            reversible: false,
            commands: commands.iter().map(|c| (*c).to_owned()).collect(),
            sources: Vec::new(),
            labels: Label::default(),
            ttl_s: 60,
        }
    }

    #[test]
    fn a_line_with_its_places_filled_is_what_runs() {
        let restart = scope(&["systemctl restart {unit}", "systemctl status {unit}"]);
        restart.check(true).unwrap();
        assert_eq!(restart.args(), ["unit"].into());
        let filled = restart.filled(&[("unit".to_owned(), Value::from("web@1.service"))].into()).unwrap();
        assert_eq!(filled[0], "systemctl restart web@1.service");
        assert_eq!(restart.filled(&BTreeMap::new()).unwrap_err().code(), "scope.argument");
        assert!(restart.could_force(&force_command(&filled)));
        for more in [
            force_command(&filled[..1]),
            force_command(&["systemctl restart a".to_owned(), "systemctl status b".to_owned()]),
            force_command(&filled).replace("restart", "stop"),
            String::new(),
        ] {
            assert!(!restart.could_force(&more), "{more}");
        }
    }

    // proves: D6
    #[test]
    fn what_is_no_command_line_or_no_network_cannot_be_stated() {
        for odd in [
            "",
            " ls",
            "ls\nid",
            "ls {",
            "ls }",
            "ls {}",
            "echo ${HOME}",
            "ls {A}",
            "ls {a} }",
            "ls {ttl_s}",
            "é",
        ] {
            assert_eq!(scope(&[odd]).check(true).unwrap_err().code(), "scope.command", "{odd:?}");
        }
        assert_eq!(scope(&[]).check(true).unwrap_err().code(), "scope.command");
        for user in ["", "Root", "a b", "-x", "a/b"] {
            let odd = Scope { user: user.to_owned(), ..scope(&["ls"]) };
            assert_eq!(odd.check(true).unwrap_err().code(), "scope.user", "{user}");
        }
        assert_eq!(scope(&["ls"]).check(false).unwrap_err().code(), "scope.source");
        for (source, fine) in [
            ("10.0.0.0/8", true),
            ("::1", true),
            ("10.0.0.0/33", false),
            ("0.0.0.0/0,10.0.0.0/8", false),
            ("!10.0.0.1", false),
            ("*", false),
        ] {
            let stated = Scope { sources: vec![source.to_owned()], ..scope(&["ls"]) };
            assert_eq!(stated.check(false).is_ok(), fine, "{source}");
            assert!(stated.check(true).is_err(), "with a relay there is one source");
        }
    }

    /// Runs what sshd would run, in a real shell.
    fn runs(lines: &[String], asked: &str) -> (Option<i32>, String) {
        let ran = std::process::Command::new("/bin/sh")
            .args(["-c", &force_command(lines)])
            .env("SSH_ORIGINAL_COMMAND", asked)
            .output()
            .unwrap();
        (ran.status.code(), String::from_utf8_lossy(&ran.stdout).into_owned())
    }

    // proves: A47
    #[test]
    fn a_shell_runs_exactly_the_lines_and_nothing_that_looks_like_them() {
        let lines = ["echo 'it'\"'\"'s' *".to_owned(), "echo b".to_owned()];
        assert_eq!(runs(&lines, "echo b"), (Some(0), "b\n".to_owned()));
        assert!(runs(&lines, &lines[0]).1.starts_with("it's "));
        for odd in
            ["", "echo", "echo b ", "echo b; id", "echo b\nid", "echo ?", "echo 'b'", "*", "$(id)", "ECHO B"]
        {
            assert_eq!(runs(&lines, odd), (Some(126), String::new()), "{odd:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        // proves: A47
        #[test]
        fn no_value_leaves_its_place(value in "\\PC{0,12}") {
            let scope = scope(&["systemctl restart {unit}"]);
            let args = [("unit".to_owned(), Value::from(value.as_str()))].into();
            if let Ok(filled) = scope.filled(&args) {
                let words: Vec<&str> = filled[0].split(' ').collect();
                prop_assert_eq!(words.len(), 3);
                prop_assert!(!words[2].contains(['$', '`', ';', '&', '|', '\'', '"', '\\', '/', '*', '?', '\n']));
                prop_assert!(!words[2].starts_with('-'));
            }
        }

        #[test]
        fn a_quoted_text_is_one_word(text in "[ -~]{0,20}") {
            let line = [format!("printf %s {}", quoted(&text))];
            prop_assert_eq!(runs(&line, &line[0]).1, text);
        }
    }
}
