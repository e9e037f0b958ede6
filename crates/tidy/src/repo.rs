//! The repository as the rules see it: its root, its text files, and what cargo says about it.
//!
//! Nothing here writes, and nothing here needs a network: cargo is always asked with `--offline`.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Folders that hold products, caches or the version control's own data.
const NOT_OURS: &[&str] =
    &["target", ".git", "node_modules", ".venv", "__pycache__", ".cache", "bailiwick-data", ".pytest_cache"];

/// Endings of files that are read as text.
const TEXT: &[&str] = &[
    "rs",
    "md",
    "toml",
    "py",
    "ts",
    "js",
    "mjs",
    "json",
    "yaml",
    "yml",
    "sh",
    "sql",
    "cedar",
    "cedarschema",
    "html",
    "css",
    "txt",
    "conf",
    "service",
];

/// Something a rule objects to: where, what, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Path relative to the root, with `:line` where a line is meant.
    pub at: String,
    /// What is wrong.
    pub what: String,
    /// The next step.
    pub help: String,
}

impl Finding {
    /// A finding at `at`, saying `what`, with the next step in `help`.
    pub fn new(at: impl Into<String>, what: impl Into<String>, help: impl Into<String>) -> Self {
        Finding { at: at.into(), what: what.into(), help: help.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}\n    help: {}", self.at, self.what, self.help)
    }
}

/// One text file: its path relative to the root (with `/`), and its content.
#[derive(Debug, Clone)]
pub struct File {
    pub path: String,
    pub text: String,
}

impl File {
    /// A file that exists only in a test.
    pub fn made_up(path: &str, text: &str) -> Self {
        File { path: path.into(), text: text.into() }
    }

    /// The ending without the dot, or the empty string.
    pub fn ending(&self) -> &str {
        Path::new(&self.path).extension().and_then(|e| e.to_str()).unwrap_or("")
    }

    /// `path:line` for a line counted from zero.
    pub fn at(&self, line: usize) -> String {
        format!("{}:{}", self.path, line + 1)
    }
}

/// A checked-out repository.
#[derive(Debug)]
pub struct Repo {
    root: PathBuf,
    files: Vec<File>,
}

impl Repo {
    /// The repository this crate belongs to.
    ///
    /// # Errors
    /// When a folder or file under the root cannot be read.
    pub fn here() -> std::io::Result<Repo> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
        let mut files = Vec::new();
        walk(&root, &root, &mut files)?;
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Repo { root, files })
    }

    /// The folder everything is relative to.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Every text file, ordered by path.
    pub fn files(&self) -> &[File] {
        &self.files
    }

    /// The text of one file, if it is there and is text.
    pub fn text(&self, path: &str) -> Option<&str> {
        self.files.iter().find(|f| f.path == path).map(|f| f.text.as_str())
    }

    /// What a cargo command prints.
    ///
    /// # Errors
    /// A finding that carries cargo's own words when the command fails.
    pub fn cargo(&self, arguments: &[&str]) -> Result<String, Finding> {
        let spelled = format!("cargo {}", arguments.join(" "));
        let failed = |why: String| Finding::new("Cargo.toml", why, format!("run `{spelled}` by hand"));
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let out = Command::new(cargo).args(arguments).current_dir(&self.root).output();
        let out = out.map_err(|e| failed(format!("cargo does not start: {e}")))?;
        if !out.status.success() {
            return Err(failed(String::from_utf8_lossy(&out.stderr).trim().to_owned()));
        }
        String::from_utf8(out.stdout).map_err(|e| failed(format!("cargo printed no text: {e}")))
    }
}

fn walk(root: &Path, folder: &Path, into: &mut Vec<File>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let (path, kind) = (entry.path(), entry.file_type()?);
        if kind.is_dir() && !NOT_OURS.contains(&name.to_string_lossy().as_ref()) {
            walk(root, &path, into)?;
        } else if kind.is_file() && is_text(&path) {
            into.extend(read(root, &path));
        }
    }
    Ok(())
}

/// By ending; and `run`, `test` and the like, which are scripts without one.
fn is_text(path: &Path) -> bool {
    match path.extension().and_then(|e| e.to_str()) {
        Some(ending) => TEXT.contains(&ending),
        None => matches!(path.file_name().and_then(|n| n.to_str()), Some("run" | "test" | "NOTICE")),
    }
}

/// A file that vanished meanwhile or is not UTF-8 is not ours to judge.
fn read(root: &Path, path: &Path) -> Option<File> {
    let text = fs::read_to_string(path).ok()?;
    let path = path.strip_prefix(root).ok()?.to_string_lossy().replace('\\', "/");
    Some(File { path, text })
}
